//! `bandsync trace stats`: draws the traffic of a trace as text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use bandsync_engine::io::report::Sample;
use bandsync_engine::words::time::Micros;
use bandsync_trace::decoder::{Decoder, Direction};
use bandsync_trace::reader::{Fault, Run, remark};
use serde_json::json;

use super::Filter;
use crate::cli::progress::Progress;
use crate::cli::runs::gather;
use crate::cli::stage::Stage;
use crate::ops::process::print_line;

/// Options of `trace stats`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Trace files, or directories of them
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    #[command(flatten)]
    filter: Filter,
    /// One JSON object per shard
    #[arg(long)]
    json: bool,
}

/// Columns of a curve over time.
const COLUMNS: u64 = 60;

/// Maximum number of rows of a table.
const ROWS_MAX: usize = 20;

#[derive(Default)]
struct Stats {
    inputs: u64,
    first: Option<Micros>,
    last: Micros,
    /// Counts and bytes, by direction and event.
    events: BTreeMap<(&'static str, String), (u64, u64)>,
    /// Messages per tenth of a second, in and out.
    over_time: BTreeMap<u64, [u64; 2]>,
    /// Ticks by lateness: the logarithm of its microseconds.
    lateness: BTreeMap<u32, u64>,
    /// Counts and bytes of each member's messages.
    talkers: BTreeMap<String, (u64, u64)>,
}

const TENTH: u64 = 100_000;

/// Counts and draws. Returns true on success.
pub fn run(options: &Options) -> Result<bool, Fault> {
    let runs = gather(&options.traces)?;
    let mut progress = Progress::new(runs.iter().map(|run| run.bytes).sum());
    for run in &runs {
        let (stats, remark) = collect(run, options, &mut progress)?;
        let shown = match options.json {
            true => stats.json(run).to_string(),
            false => stats.draw(run, remark.as_deref()),
        };
        print_line(shown.trim_end());
    }
    Ok(true)
}

fn collect(
    run: &Run,
    options: &Options,
    progress: &mut Progress,
) -> Result<(Stats, Option<String>), Fault> {
    let mut stats = Stats::default();
    let mut decoder = Decoder::new(&run.header.settings.limits);
    let mut stage = run.is_whole().then(|| Stage::new(run.header.settings.clone()));
    let ending = run.each(
        |by| progress.advance(by),
        |entry| {
            if options.filter.is_past(entry.at) {
                return ControlFlow::Break(());
            }
            stats.inputs += 1;
            stats.first.get_or_insert(entry.at);
            stats.last = entry.at;
            let mut lines = decoder.input(entry);
            if let Some(stage) = &mut stage {
                stage.play(entry);
                stage.samples(|what, value| {
                    if what == Sample::TickLateness {
                        *stats.lateness.entry(value.as_micros().max(1).ilog2()).or_default() += 1;
                    }
                });
                lines.extend(decoder.outputs(entry, stage.outputs()));
            }
            for line in lines.iter().filter(|line| options.filter.takes(line, &decoder)) {
                let times =
                    if line.direction == Direction::Out { line.conns.len() as u64 } else { 1 };
                let bytes = line.bytes as u64 * times;
                let direction = match line.direction {
                    Direction::In => "in",
                    Direction::Out => "out",
                    Direction::Here => "here",
                };
                let (count, sum) = stats.events.entry((direction, line.event.clone())).or_default();
                (*count, *sum) = (*count + times, *sum + bytes);
                let column = stats.over_time.entry(line.at.as_micros() / TENTH).or_default();
                match line.direction {
                    Direction::In => {
                        column[0] += 1;
                        let whose =
                            line.member.clone().or(line.conns.first().map(ToString::to_string));
                        let (count, sum) =
                            stats.talkers.entry(whose.unwrap_or_default()).or_default();
                        (*count, *sum) = (*count + 1, *sum + bytes);
                    }
                    Direction::Out => column[1] += times,
                    Direction::Here => {}
                }
            }
            ControlFlow::Continue(())
        },
    )?;
    Ok((stats, remark(&ending)))
}

impl Stats {
    fn seconds(&self) -> f64 {
        self.last.since(self.first.unwrap_or_default()).as_micros() as f64 / 1e6
    }

    fn draw(&self, run: &Run, remark: Option<&str>) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "== {}: {} inputs in {:.1} s", run.name(), self.inputs, self.seconds());
        if let Some(remark) = remark {
            let _ = writeln!(text, "the trace {remark}");
        }
        if !run.is_whole() {
            let _ = writeln!(
                text,
                "the first segment is missing: only messages to the server are known"
            );
        }
        for (direction, title) in
            [("in", "to the server"), ("out", "from the server"), ("here", "inside")]
        {
            let of = |((way, event), numbers): (&(&str, String), &(u64, u64))| {
                (*way == direction).then(|| (event.clone(), *numbers))
            };
            table(&mut text, title, self.events.iter().filter_map(of).collect());
        }
        let columns = self.columns();
        for (way, title) in
            ["messages to the server", "messages from the server"].iter().enumerate()
        {
            let values: Vec<u64> = columns.iter().map(|column| column[way]).collect();
            let width = self.seconds() / values.len().max(1) as f64;
            let most = values.iter().max().copied().unwrap_or_default();
            let rate = most as f64 / width.max(0.1);
            let _ = writeln!(text, "\n{title}, a column is {width:.1} s, the highest {rate:.0}/s");
            let _ = writeln!(text, "  {}", curve(&values));
        }
        self.draw_lateness(&mut text);
        table(&mut text, "busiest members", self.talkers.clone().into_iter().collect());
        text
    }

    fn draw_lateness(&self, text: &mut String) {
        let Some(most) = self.lateness.values().max() else { return };
        let all: u64 = self.lateness.values().sum();
        let _ = writeln!(text, "\nlateness of {all} ticks");
        let mut so_far = 0;
        for (power, count) in &self.lateness {
            so_far += count;
            let (under, share) = (2_u64 << power, 100.0 * so_far as f64 / all as f64);
            let _ = writeln!(
                text,
                "  under {under:>8} µs {count:>9} {share:>6.1} % {}",
                bar(*count, *most)
            );
        }
    }

    /// Returns the counts over time, in `COLUMNS` columns or fewer.
    fn columns(&self) -> Vec<[u64; 2]> {
        let first = self.first.unwrap_or_default().as_micros() / TENTH;
        let tenths = self.last.as_micros() / TENTH - first + 1;
        let mut columns = vec![[0; 2]; tenths.min(COLUMNS) as usize];
        for (tenth, counts) in &self.over_time {
            let place = (tenth - first) * columns.len() as u64 / tenths;
            let column = &mut columns[place as usize];
            *column = [column[0] + counts[0], column[1] + counts[1]];
        }
        columns
    }

    fn json(&self, run: &Run) -> serde_json::Value {
        let events: Vec<_> = self.events.iter().map(|((direction, event), (count, bytes))| {
            json!({"direction": direction, "event": event, "count": count, "bytes": bytes})
        }).collect();
        let tenths: Vec<_> = self
            .over_time
            .iter()
            .map(|(tenth, [to, from])| json!({"micros": tenth * TENTH, "in": to, "out": from}))
            .collect();
        let lateness: Vec<_> = self
            .lateness
            .iter()
            .map(|(power, count)| json!({"underMicros": 2_u64 << power, "count": count}))
            .collect();
        let talkers: Vec<_> = self
            .talkers
            .iter()
            .map(|(who, (count, bytes))| json!({"who": who, "count": count, "bytes": bytes}))
            .collect();
        json!({
            "shard": run.header.settings.shard.0,
            "inputs": self.inputs,
            "seconds": self.seconds(),
            "events": events,
            "tenths": tenths,
            "tickLateness": lateness,
            "talkers": talkers,
        })
    }
}

/// Draws rows with count, bytes and a bar, the largest first.
fn table(text: &mut String, title: &str, mut rows: Vec<(String, (u64, u64))>) {
    if rows.is_empty() {
        return;
    }
    rows.sort_by(|a, b| (b.1.0, &a.0).cmp(&(a.1.0, &b.0)));
    let _ = writeln!(text, "\n{title}");
    let most = rows[0].1.0;
    for (name, (count, bytes)) in rows.iter().take(ROWS_MAX) {
        let name: String = name.chars().take(32).collect();
        let _ = writeln!(text, "  {name:<32} {count:>9} {bytes:>11} B  {}", bar(*count, most));
    }
    if rows.len() > ROWS_MAX {
        let _ = writeln!(text, "  and {} others", rows.len() - ROWS_MAX);
    }
}

fn bar(value: u64, most: u64) -> String {
    const EIGHTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
    let length = (value * 8 * 24).div_ceil(most.max(1));
    let mut bar = "█".repeat((length / 8) as usize);
    if !length.is_multiple_of(8) {
        bar.push(EIGHTHS[(length % 8 - 1) as usize]);
    }
    bar
}

fn curve(values: &[u64]) -> String {
    const STEPS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().max().copied().unwrap_or_default().max(1);
    values.iter().map(|value| STEPS[(value * 8).div_ceil(most) as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_curves_show_the_smallest_and_the_largest() {
        assert_eq!((bar(0, 10), bar(1, 10_000)), (String::new(), "▏".into()));
        assert_eq!(bar(10, 10), "█".repeat(24));
        assert_eq!(curve(&[0, 1, 500, 1_000]), " ▁▄█");
        assert_eq!(curve(&[]), "");
    }

    #[test]
    fn counts_of_a_long_run_fit_the_columns() {
        let mut stats = Stats { last: Micros::from_secs(1_000), ..Stats::default() };
        stats.first = Some(Micros::from_secs(10));
        stats.over_time.insert(100, [1, 2]);
        stats.over_time.insert(10_000, [3, 4]);
        let columns = stats.columns();
        assert_eq!((columns.len(), columns[0], columns[59]), (60, [1, 2], [3, 4]));
    }
}
