//! Results of a run: as text, as JSON, as a page; and several runs side by side.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::latency::{PERCENTILES, Summary};
use crate::plot;

/// Results of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the run.
    pub name: String,
    /// The scenario of the members.
    pub scenario: String,
    /// Sessions.
    pub sessions: usize,
    /// Members of each session.
    pub members: usize,
    /// Members present when measuring began.
    pub joined: usize,
    /// Duration of the measurement, in seconds.
    pub seconds: f64,
    /// Expected messages: ticks, chat messages or joins, by the scenario.
    pub expected: u64,
    /// Delivered messages.
    pub delivered: u64,
    /// Mean size of a message, in bytes.
    pub bytes_per_message: f64,
    /// The server's CPU time per delivered message, in microseconds, if known.
    pub cpu_micros: Option<f64>,
    /// The server's share of one core.
    pub cpu_share: Option<f64>,
    /// The generator's share of one core.
    pub own_cpu_share: f64,
    /// The server's own memory per connection, in bytes, after all joined and before playing.
    pub memory_idle: Option<f64>,
    /// The server's own memory per connection at the end of the run, in bytes.
    pub memory_end: Option<f64>,
    /// Connections that broke.
    pub broken: u64,
    /// Messages by which the server rejected something.
    pub rejected: u64,
    /// Measured times, by name.
    pub times: Vec<(String, Summary)>,
}

impl Report {
    /// Returns the delivered part of the expected messages.
    pub fn fraction(&self) -> f64 {
        if self.expected == 0 { 1.0 } else { self.delivered as f64 / self.expected as f64 }
    }

    /// Returns the generator's CPU time divided by the server's.
    pub fn own_part(&self) -> Option<f64> {
        self.cpu_share.filter(|share| *share > 0.0).map(|share| self.own_cpu_share / share)
    }

    /// Returns a percentile of the times with this name, in microseconds.
    pub fn percentile(&self, times: &str, percentile: &str) -> Option<f64> {
        let (_, summary) = self.times.iter().find(|(name, _)| name == times)?;
        let index = PERCENTILES.iter().position(|(name, _)| *name == percentile)?;
        summary.percentiles.get(index).copied()
    }

    /// Combines reports of the same time: sums, and the worst of each percentile.
    pub fn together(reports: &[Self]) -> Self {
        let sum = |value: &dyn Fn(&Self) -> f64| reports.iter().map(value).sum::<f64>();
        let known =
            |value: &dyn Fn(&Self) -> Option<f64>| reports.iter().map(value).sum::<Option<f64>>();
        let count = |value: &dyn Fn(&Self) -> u64| reports.iter().map(value).sum::<u64>();
        let (delivered, joined) = (count(&|r| r.delivered), sum(&|r| r.joined as f64));
        let mut whole = reports.first().cloned().unwrap_or_default();
        whole.sessions = reports.iter().map(|report| report.sessions).sum();
        whole.joined = joined as usize;
        whole.expected = count(&|r| r.expected);
        whole.broken = count(&|r| r.broken);
        whole.rejected = count(&|r| r.rejected);
        whole.delivered = delivered;
        let weighted =
            |value: &dyn Fn(&Self) -> Option<f64>, weight: &dyn Fn(&Self) -> f64, by: f64| {
                let all = known(&|report| Some(value(report)? * weight(report)));
                all.filter(|_| by > 0.0).map(|all| all / by)
            };
        whole.cpu_micros = weighted(&|r| r.cpu_micros, &|r| r.delivered as f64, delivered as f64);
        whole.memory_idle = weighted(&|r| r.memory_idle, &|r| r.joined as f64, joined);
        whole.memory_end = weighted(&|r| r.memory_end, &|r| r.joined as f64, joined);
        whole.cpu_share = known(&|report| report.cpu_share);
        whole.own_cpu_share = sum(&|report| report.own_cpu_share);
        for (name, summary) in &mut whole.times {
            for other in reports.iter().skip(1).flat_map(|report| &report.times) {
                if other.0 == *name {
                    summary.worsen(&other.1);
                }
            }
        }
        whole
    }

    /// Returns all single numbers with their names and units, without unknown ones.
    pub fn figures(&self) -> Vec<(String, f64, &'static str)> {
        let times = self.times.iter().flat_map(|(name, summary)| {
            let named = PERCENTILES.iter().zip(&summary.percentiles);
            named.map(move |((percentile, _), value)| {
                (format!("{name} {percentile}"), value / 1_000.0, "ms")
            })
        });
        let plain =
            self.plain().into_iter().map(|(name, value, unit)| (name.to_owned(), value, unit));
        plain.chain(times).collect()
    }

    /// Returns the numbers that are not percentiles.
    fn plain(&self) -> Vec<(&'static str, f64, &'static str)> {
        let kilo = |bytes: f64| bytes / 1_024.0;
        let plain = [
            ("delivered", Some(self.fraction() * 100.0), "%"),
            ("messages a second", Some(self.delivered as f64 / self.seconds), "/s"),
            ("bytes per message", Some(self.bytes_per_message), "B"),
            ("server CPU per message", self.cpu_micros, "µs"),
            ("server CPU", self.cpu_share.map(|share| share * 100.0), "%"),
            ("generator CPU", Some(self.own_cpu_share * 100.0), "%"),
            ("generator CPU, of the server's", self.own_part().map(|part| part * 100.0), "%"),
            ("memory per connection, idle", self.memory_idle.map(kilo), "KiB"),
            ("memory per connection, at the end", self.memory_end.map(kilo), "KiB"),
            ("connections broken", Some(self.broken as f64), ""),
            ("refusals", Some(self.rejected as f64), ""),
        ];
        plain.into_iter().filter_map(|(name, value, unit)| Some((name, value?, unit))).collect()
    }

    /// Prints text for people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}: {}, {} sessions × {} members, {:.1} s\n",
            self.name, self.scenario, self.sessions, self.members, self.seconds
        );
        for (name, value, unit) in self.figures() {
            let _ = writeln!(text, "  {name:<34} {value:>12.3} {unit}");
        }
        text
    }

    /// Prints a page with a plot of percentiles.
    pub fn html(&self) -> String {
        let mut figures = String::new();
        for (name, value, unit) in self.plain() {
            let _ = write!(figures, "<tr><th>{name}<td>{}<td class=unit>{unit}", digits(value));
        }
        let mut times = String::from("<tr><th>ms");
        for (percentile, _) in PERCENTILES {
            let _ = write!(times, "<th class=number>{percentile}");
        }
        times.push_str("<th class=number>count");
        for (name, summary) in &self.times {
            let _ = write!(times, "<tr><th>{name}");
            for value in &summary.percentiles {
                let _ = write!(times, "<td>{}", digits(value / 1_000.0));
            }
            let _ = write!(times, "<td>{}", summary.count);
        }
        let curves: Vec<_> = self
            .times
            .iter()
            .map(|(name, summary)| (name.as_str(), summary.curve.as_slice()))
            .collect();
        let plot = plot::percentiles("Times by percentile", &curves);
        let title = format!("{}: {}", plot::escaped(&self.name), self.scenario);
        format!(
            "<!doctype html><meta charset=utf-8><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>\
             <p>{} sessions × {} members, {} of them joined, measured for {:.1} s</p>{plot}\
             <table>{times}</table>\
             <p>Lateness is against the grid of ticks, and a tick that never came counts for as long as its member had to \
             wait. Probes, chat and set-up count from when they should have begun. Spread is between the first and the \
             last member of a session to get the same tick, gap between two ticks of a member. By the times named \
             generator the generator itself was late; they are in all others.</p>\
             <table>{figures}</table>\n",
            self.sessions, self.members, self.joined, self.seconds
        )
    }

    /// Reads a report from JSON.
    ///
    /// # Errors
    /// If the file cannot be read or is not a report.
    pub fn load(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        serde_json::from_str(&text)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
    }

    /// Writes the report as JSON.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        fs::write(path, serde_json::to_vec_pretty(self)?)
    }
}

const STYLE: &str = "body{font:15px/1.4 system-ui,sans-serif;max-width:50em;margin:2em auto;padding:0 1em;color:#222}\
    h1{font-size:1.4em}svg{max-width:100%;height:auto}table{border-collapse:collapse;margin:1em 0}\
    th{font-weight:normal;text-align:left;padding:.15em 1.5em .15em 0}tr{border-bottom:1px solid #ddd}\
    td,.number{text-align:right;padding:.15em .8em;font-variant-numeric:tabular-nums}.unit{text-align:left}";

/// Prints as many digits as are significant.
fn digits(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 1.0 || small == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The median, the least and the greatest of some values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The median; of an even number of values, the mean of the middle two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Returns the spread of these values; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
        Some(Self { median, min, max })
    }
}

/// Compares two sides, each of one or more runs, by the ratio of their medians. A change counts
/// only if the spreads do not overlap; a single run has no spread.
pub fn compared(before: &[Report], after: &[Report]) -> String {
    let values = |reports: &[Report], wanted: &str| -> Vec<f64> {
        let all = reports.iter().flat_map(Report::figures);
        all.filter(|(name, ..)| name == wanted).map(|(_, value, _)| value).collect()
    };
    let mut text = format!("{:<36} {:>28} {:>28} {:>7}\n", "", "before", "after", "ratio");
    for (name, _, unit) in before.first().map(Report::figures).unwrap_or_default() {
        let (old, new) = (Spread::of(&values(before, &name)), Spread::of(&values(after, &name)));
        let (Some(old), Some(new)) = (old, new) else { continue };
        let shown =
            |spread: Spread| format!("{:.3} ({:.3}–{:.3})", spread.median, spread.min, spread.max);
        let ratio = if old.median == 0.0 {
            String::new()
        } else {
            format!("{:.3}", new.median / old.median)
        };
        let apart = before.len() > 1 && after.len() > 1 && (new.min > old.max || new.max < old.min);
        let mark = if apart { " *" } else { "" };
        let label = if unit.is_empty() { name } else { format!("{name}, {unit}") };
        let _ =
            writeln!(text, "{label:<36} {:>28} {:>28} {ratio:>7}{mark}", shown(old), shown(new));
    }
    text.push_str("* = the two sides' runs do not overlap\n");
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn report(cpu_micros: f64) -> Report {
        let summary =
            Summary { count: 1, percentiles: vec![1.0, 2.0, 3.0, 4.0, 5.0], curve: vec![] };
        Report {
            name: "a<b".into(),
            seconds: 1.0,
            expected: 10,
            delivered: 9,
            cpu_micros: Some(cpu_micros),
            times: vec![("lateness".into(), summary)],
            ..Report::default()
        }
    }

    #[test]
    fn figures_have_names_values_and_units() {
        let figures = report(5.0).figures();
        assert!(figures.contains(&("delivered".into(), 90.0, "%")));
        assert!(figures.contains(&("lateness p99".into(), 0.003, "ms")));
        assert_eq!(report(5.0).percentile("lateness", "p99.9"), Some(4.0));
        assert!(report(5.0).html().contains("a&lt;b"));
    }

    #[test]
    fn only_a_difference_beyond_the_spread_is_marked() {
        let line = |before: &[f64], after: &[f64]| {
            let side = |values: &[f64]| values.iter().map(|cpu| report(*cpu)).collect::<Vec<_>>();
            let text = compared(&side(before), &side(after));
            text.lines().find(|line| line.contains("CPU per message")).unwrap().to_owned()
        };
        assert!(line(&[5.0, 6.0], &[5.5, 7.0]).ends_with("1.136"));
        assert!(line(&[5.0, 6.0], &[3.0, 2.0]).ends_with("0.455 *"));
        assert!(line(&[5.0], &[2.5]).ends_with("0.500"));
    }

    #[test]
    fn simultaneous_reports_are_added_up() {
        let one = Report {
            joined: 1,
            sessions: 1,
            memory_end: Some(100.0),
            cpu_share: Some(0.25),
            ..report(5.0)
        };
        let two = Report {
            joined: 3,
            sessions: 2,
            memory_end: Some(200.0),
            cpu_share: Some(0.5),
            ..report(7.0)
        };
        let whole = Report::together(&[one, two.clone()]);
        assert_eq!((whole.joined, whole.sessions, whole.delivered, whole.expected), (4, 3, 18, 20));
        assert_eq!((whole.cpu_micros, whole.cpu_share), (Some(6.0), Some(0.75)));
        assert_eq!((whole.memory_end, whole.memory_idle), (Some(175.0), None));
        assert_eq!(Report::together(std::slice::from_ref(&two)), two);
    }

    #[test]
    fn the_median_is_the_middle_value() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]).unwrap().median, 2.5);
    }
}
