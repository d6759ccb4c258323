//! The tables: errors beside their goals and limits, and the trust that each run deserves.

use std::fmt::Write as _;

/// A goal may be missed if no estimator could meet it. Then this many times the limit is enough.
const LIMIT_FACTOR: f64 = 1.2;

/// A value that a goal bounds.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// The percentile of the values; 100 is the greatest.
    pub percentile: f64,
    /// The maximum that it may have.
    pub at_most: f64,
}

/// Values of one kind on one network, in milliseconds.
#[derive(Debug)]
pub struct Row {
    /// Name of the network.
    pub network: String,
    /// Name of the values.
    pub name: &'static str,
    values: Sorted,
    /// The values of the best estimator; none if there is no such limit.
    limits: Sorted,
    goal: Option<Goal>,
}

impl Row {
    /// Creates a row.
    pub fn new(
        network: &str,
        name: &'static str,
        values: Vec<f64>,
        limits: Vec<f64>,
        goal: Option<Goal>,
    ) -> Self {
        let (values, limits) = (Sorted::new(values), Sorted::new(limits));
        Self { network: network.to_owned(), name, values, limits, goal }
    }

    /// Returns the goal, and whether it is met.
    fn verdict(&self, counts: bool) -> (String, &'static str) {
        let Some(Goal { percentile, at_most }) = self.goal else { return (String::new(), "") };
        let name = if percentile >= 100.0 { "most".into() } else { format!("p{percentile}") };
        let found = self.values.at(percentile);
        let limit = self.limits.at(percentile).unwrap_or(0.0) * LIMIT_FACTOR;
        let verdict = match found {
            _ if !counts => "void",
            Some(found) if found <= at_most => "met",
            Some(found) if found <= limit => "at the limit",
            Some(_) => "missed",
            None => "",
        };
        (format!("{name} ≤ {at_most}"), verdict)
    }
}

/// Values from the least to the greatest.
#[derive(Debug)]
struct Sorted(Vec<f64>);

impl Sorted {
    fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// Returns the least value that this percentage of all values does not exceed.
    fn at(&self, percentile: f64) -> Option<f64> {
        let rank = (self.0.len() as f64 * percentile / 100.0).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied()
    }

    fn text(&self, percentile: f64) -> String {
        match self.at(percentile) {
            None => "–".into(),
            Some(value) if value.is_infinite() => "never".into(),
            Some(value) if value >= 1_000.0 => format!("{value:.0}"),
            Some(value) => format!("{value:.3}"),
        }
    }
}

/// The trust that the run of a network deserves.
#[derive(Debug)]
pub struct Trust {
    /// Name of the network.
    pub network: String,
    /// Chunks that the proxy has forwarded.
    pub chunks: u64,
    /// Percentiles of the time by which chunks left late, in microseconds: p50, p99, greatest.
    pub late: [f64; 3],
    /// Chunks that the kernel has not stamped.
    pub not_stamped: u64,
    /// Maximum error of the truth, in microseconds.
    pub truth: f64,
    /// Checks of the shown bound, and broken ones.
    pub checks: usize,
    /// Excess of each broken bound, in milliseconds.
    pub broken: Vec<f64>,
}

/// Maximum lateness of the proxy's chunks at p99 in a run that counts, in microseconds. Specified.
const LATE_MAX: f64 = 50.0;

impl Trust {
    /// Whether the machine was quiet enough for the proxy's delays to be true.
    pub fn counts(&self) -> bool {
        self.chunks > 0 && self.late[1] <= LATE_MAX
    }
}

/// Prints the errors of all networks.
pub fn errors(rows: &[Row], trusts: &[Trust]) -> String {
    let mut text = String::from(
        "| network | ms | count | p50 | p95 | p99 | most | limit: p95 | p99 | goal | |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let counts = trusts.iter().any(|trust| trust.network == row.network && trust.counts());
        let (goal, verdict) = row.verdict(counts);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {goal} | {verdict} |",
            row.network,
            row.name,
            row.values.0.len(),
            row.values.text(50.0),
            row.values.text(95.0),
            row.values.text(99.0),
            row.values.text(100.0),
            row.limits.text(95.0),
            row.limits.text(99.0),
        );
    }
    text
}

/// Prints whether each run counts, and the checks of the bounds.
pub fn trust(trusts: &[Trust]) -> String {
    let mut text = String::from(
        "| network | chunks | left late, µs: p50 | p99 | most | not stamped | truth known to, µs \
         | bounds checked | broken | by at most, ms | |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for trust in trusts {
        let [middle, late, most] = trust.late;
        let excess = trust.broken.iter().copied().fold(0.0, f64::max);
        let _ = writeln!(
            text,
            "| {} | {} | {middle:.1} | {late:.1} | {most:.0} | {} | {:.1} | {} | {} | {excess:.3} | {} |",
            trust.network,
            trust.chunks,
            trust.not_stamped,
            trust.truth,
            trust.checks,
            trust.broken.len(),
            if trust.counts() { "counts" } else { "void: the machine was too busy" },
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: Vec<f64>, limits: Vec<f64>) -> Row {
        let goal = Goal { percentile: 99.0, at_most: 0.5 };
        Row::new("good Wi-Fi", "steady", values, limits, Some(goal))
    }

    fn trusted(late: f64) -> Trust {
        Trust {
            network: "good Wi-Fi".into(),
            chunks: 100,
            late: [5.0, late, 900.0],
            not_stamped: 0,
            truth: 12.0,
            checks: 10,
            broken: vec![0.25],
        }
    }

    #[test]
    fn a_goal_is_met_by_its_bound_or_by_the_limit() {
        let verdict = |values, limits| row(values, limits).verdict(true).1;
        assert_eq!(verdict(vec![0.5], vec![]), "met");
        assert_eq!(verdict(vec![0.6], vec![]), "missed");
        assert_eq!(verdict(vec![0.6], vec![0.5]), "at the limit");
        assert_eq!(verdict(vec![0.7], vec![0.5]), "missed");
        assert_eq!(verdict(vec![f64::INFINITY], vec![]), "missed");
        assert_eq!(verdict(vec![], vec![]), "");
        assert_eq!(row(vec![0.5], vec![]).verdict(false).1, "void");
    }

    #[test]
    fn a_run_behind_a_late_proxy_does_not_count() {
        let rows = [row(vec![0.1], vec![])];
        assert!(errors(&rows, &[trusted(50.0)]).contains("| p99 ≤ 0.5 | met |"));
        assert!(errors(&rows, &[trusted(50.1)]).contains("| p99 ≤ 0.5 | void |"));
        assert!(trust(&[trusted(50.0)]).contains("| 10 | 1 | 0.250 | counts |"));
        assert!(trust(&[trusted(50.1)]).contains("| void: the machine was too busy |"));
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let sorted = Sorted::new((1..=200).map(f64::from).rev().collect());
        assert_eq!([50.0, 99.0, 100.0].map(|p| sorted.at(p)), [100.0, 198.0, 200.0].map(Some));
        assert_eq!(Sorted::new(vec![]).text(50.0), "–");
        assert_eq!(Sorted::new(vec![f64::INFINITY]).text(50.0), "never");
    }
}
