//! Which readings mean trouble: limits that are set, limits that are learned, and alerts that are
//! raised once and cleared once.
//!
//! A pure value: readings with their time go in, changes come out.
//!
//! An alert is raised when its reading was over the limit for a while, and cleared when it was
//! under four fifths of the limit for a while, so that a reading that dances on the limit makes no
//! noise.
//!
//! **Learned limits** follow a baseline: the median of the reading and its usual distance from it,
//! both in powers of two. They move by small fixed steps towards each new reading, not by its size,
//! so that a minute of trouble teaches them next to nothing, while a lasting change is accepted
//! within the hour. They learn only while a band plays: the silence between two songs, or a week
//! without a gig, is not taken for the normal state, and what was learned waits for the next one.

use std::time::Duration;

use serde::Serialize;

/// What is looked at, once a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Readings {
    /// Since the server's start.
    pub at: Duration,
    /// Whether anything is being played: only then is there a normal state to learn.
    pub playing: bool,
    /// The mean and the 99th percentile of the round trip to members; `None` if nobody answered
    /// just now.
    pub latency_mean_ms: Option<f64>,
    /// The 99th percentile of the round trip to members.
    pub latency_p99_ms: Option<f64>,
    /// How late ticks were, 99th percentile.
    pub tick_lateness_p99_ms: Option<f64>,
    /// How long turns took, 99th percentile.
    pub turn_p99_ms: Option<f64>,
    /// Of the busiest thread, in percent of one core.
    pub cpu_percent: f64,
    /// Memory in RAM.
    pub resident_bytes: u64,
    /// How full the fullest queue was, from 0 to 1.
    pub queue_fill: f64,
    /// Shards that have not ended a turn for some seconds.
    pub shards_stalled: u32,
    /// Whether the storage cannot be reached.
    pub storage_down: bool,
    /// Sessions that cannot be stored, while all others can.
    pub sessions_unstored: u64,
    /// Sessions that another server keeps as well.
    pub sessions_shared: u64,
}

/// What the settings allow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The latency aimed at; twice that is too much on average.
    pub target_latency_ms: f64,
    /// The 99th percentile of the latency.
    pub latency_ms: f64,
    /// Of one core.
    pub cpu_percent: f64,
    /// For how long that.
    pub cpu_time: Duration,
    /// From here on memory is given back.
    pub memory_bytes: u64,
    /// From here on nobody is let in.
    pub memory_limit_bytes: u64,
    /// Between two round trips of a member: a latency alert is not cleared sooner than two of them.
    pub heartbeat: Duration,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The band can play; somebody should look.
    Warning,
    /// The band cannot rely on it.
    Critical,
}

/// Whether all is well, in one word.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// No alert.
    #[default]
    Healthy,
    /// Members may notice.
    Degraded,
    /// The server does not do its work.
    Unhealthy,
}

/// Trouble, from when it was raised.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// What programs go by.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What people read.
    pub message: String,
    /// The reading now, and the limit that it was over.
    pub value: f64,
    /// The limit that the value has passed.
    pub limit: f64,
    /// The unit of value and limit.
    pub unit: &'static str,
    /// Since the server's start, in seconds.
    pub raised_at: f64,
}

impl Alert {
    /// The reading and its limit, for the end of a sentence. Empty for a reading that is only yes or no,
    /// which has no unit.
    pub fn figures(&self) -> String {
        let Self { value, limit, unit, .. } = self;
        if unit.is_empty() {
            String::new()
        } else {
            format!(" ({value:.1} {unit}, limit {limit:.1})")
        }
    }
}

/// What became of an alert.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// An alert is new.
    Raised(Alert),
    /// An alert is over.
    Cleared(Alert),
}

/// The limits and what is known about each.
#[derive(Debug)]
pub struct Thresholds {
    limits: Limits,
    watches: [Watch; RULES.len()],
}

/// One limit.
struct Rule {
    name: &'static str,
    severity: Severity,
    unit: &'static str,
    what: &'static str,
    limit: Bound,
    /// How long over the limit raises the alert, and how long under it clears it.
    hold: fn(&Limits) -> Duration,
    rest: fn(&Limits) -> Duration,
    read: fn(&Readings) -> Option<f64>,
}

impl Rule {
    fn alert(&self, value: f64, limit: f64, at: Duration) -> Alert {
        let Self { name, severity, unit, what, .. } = *self;
        Alert {
            name,
            severity,
            message: what.to_owned(),
            value,
            limit,
            unit,
            raised_at: at.as_secs_f64(),
        }
    }
}

enum Bound {
    Set(fn(&Limits) -> f64),
    /// Learned, but never below this: twice next to nothing is no trouble.
    Learned(fn(&Limits) -> f64),
}

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
const MEGABYTE: f64 = 1_000_000.0;

const LATENCY_REST: fn(&Limits) -> Duration = |limits| SECONDS(10).max(limits.heartbeat * 5 / 2);

/// The name of the alert of a storage that cannot be reached.
pub const STORAGE: &str = "storage";

const RULES: [Rule; 13] = [
    Rule {
        name: "sync_latency_mean",
        severity: Severity::Warning,
        unit: "ms",
        what: "members are farther away than twice the target, on average",
        limit: Bound::Set(|limits| 2.0 * limits.target_latency_ms),
        hold: |_| SECONDS(3),
        rest: LATENCY_REST,
        read: |readings| readings.latency_mean_ms,
    },
    Rule {
        name: "sync_latency_p99",
        severity: Severity::Warning,
        unit: "ms",
        what: "some members are far away (99th percentile of the round trip)",
        limit: Bound::Set(|limits| limits.latency_ms),
        hold: |_| SECONDS(3),
        rest: LATENCY_REST,
        read: |readings| readings.latency_p99_ms,
    },
    Rule {
        name: "sync_latency_unusual",
        severity: Severity::Warning,
        unit: "ms",
        what: "the round trip to members is far above what it usually is",
        limit: Bound::Learned(|limits| limits.target_latency_ms),
        hold: |_| SECONDS(10),
        rest: LATENCY_REST,
        read: |readings| readings.latency_p99_ms,
    },
    Rule {
        name: "tick_lateness_unusual",
        severity: Severity::Warning,
        unit: "ms",
        what: "ticks come much later than they usually do",
        limit: Bound::Learned(|_| 2.0),
        hold: |_| SECONDS(10),
        rest: |_| SECONDS(10),
        read: |readings| readings.tick_lateness_p99_ms,
    },
    Rule {
        name: "turn_time_unusual",
        severity: Severity::Warning,
        unit: "ms",
        what: "turns of a shard take much longer than they usually do",
        limit: Bound::Learned(|_| 2.0),
        hold: |_| SECONDS(10),
        rest: |_| SECONDS(10),
        read: |readings| readings.turn_p99_ms,
    },
    Rule {
        name: "cpu",
        severity: Severity::Warning,
        unit: "%",
        what: "a thread is busy most of the time: more shards or fewer members would help",
        limit: Bound::Set(|limits| limits.cpu_percent),
        hold: |limits| limits.cpu_time,
        rest: |_| SECONDS(10),
        read: |readings| Some(readings.cpu_percent),
    },
    Rule {
        name: "memory",
        severity: Severity::Warning,
        unit: "MB",
        what: "memory is above its threshold: what nobody misses is given back",
        limit: Bound::Set(|limits| limits.memory_bytes as f64 / MEGABYTE),
        hold: |_| Duration::ZERO,
        rest: |_| SECONDS(10),
        read: |readings| Some(readings.resident_bytes as f64 / MEGABYTE),
    },
    Rule {
        name: "memory_limit",
        severity: Severity::Critical,
        unit: "MB",
        what: "memory is at its limit: new members are turned away",
        limit: Bound::Set(|limits| limits.memory_limit_bytes as f64 / MEGABYTE),
        hold: |_| Duration::ZERO,
        rest: |_| SECONDS(10),
        read: |readings| Some(readings.resident_bytes as f64 / MEGABYTE),
    },
    Rule {
        name: "queue",
        severity: Severity::Warning,
        unit: "%",
        what: "a queue between threads is more than half full",
        limit: Bound::Set(|_| 50.0),
        hold: |_| Duration::ZERO,
        rest: |_| SECONDS(10),
        read: |readings| Some(100.0 * readings.queue_fill),
    },
    Rule {
        name: "shard_stalled",
        severity: Severity::Critical,
        unit: "shards",
        what: "a shard does not answer: its members hear nothing",
        limit: Bound::Set(|_| 0.5),
        hold: |_| Duration::ZERO,
        rest: |_| SECONDS(2),
        read: |readings| Some(f64::from(readings.shards_stalled)),
    },
    Rule {
        name: STORAGE,
        severity: Severity::Warning,
        unit: "",
        what: "the storage cannot be reached: the band plays on from memory",
        limit: Bound::Set(|_| 0.5),
        hold: |_| Duration::ZERO,
        rest: |_| SECONDS(2),
        read: |readings| Some(f64::from(u8::from(readings.storage_down))),
    },
    Rule {
        name: "sessions_unstored",
        severity: Severity::Warning,
        unit: "sessions",
        what: "single sessions cannot be stored: a restart loses what changed in them. The log says why",
        limit: Bound::Set(|_| 0.5),
        hold: |_| Duration::ZERO,
        rest: |_| SECONDS(2),
        read: |readings| Some(readings.sessions_unstored as f64),
    },
    Rule {
        name: "sessions_shared",
        severity: Severity::Warning,
        unit: "sessions",
        what: "another server keeps the same sessions: each overwrites what the other stored. See that all members of \
               a session reach the same server",
        limit: Bound::Set(|_| 0.5),
        hold: |_| Duration::ZERO,
        rest: |_| SECONDS(2),
        read: |readings| Some(readings.sessions_shared as f64),
    },
];

/// The name of every alert.
pub fn names() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|rule| rule.name)
}

/// The alerts about storage that these readings raise, for the time until the monitor looks and
/// raises them.
pub fn storage_alerts(readings: &Readings) -> Vec<Alert> {
    let rules = RULES
        .iter()
        .filter(|rule| [STORAGE, "sessions_unstored", "sessions_shared"].contains(&rule.name));
    let raised = rules
        .map(|rule| (rule, (rule.read)(readings).unwrap_or_default()))
        .filter(|(_, value)| *value > 0.5);
    raised.map(|(rule, value)| rule.alert(value, 0.5, readings.at)).collect()
}

/// The alert of a storage that cannot be reached.
#[cfg(test)]
pub fn storage_alert(at: Duration) -> Alert {
    let storage_down = Readings { storage_down: true, at, ..Readings::default() };
    storage_alerts(&storage_down).remove(0)
}

/// What an alert means, whatever was measured.
pub fn meaning(name: &str) -> &'static str {
    RULES.iter().find(|rule| rule.name == name).map_or("", |rule| rule.what)
}

/// An alert is cleared under this part of its limit.
const CLEAR_AT: f64 = 0.8;

/// What is known about one rule.
#[derive(Debug, Default)]
struct Watch {
    over_since: Option<Duration>,
    under_since: Option<Duration>,
    raised: Option<Alert>,
    baseline: Baseline,
}

impl Thresholds {
    /// Nothing is wrong yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, watches: Default::default() }
    }

    /// Looks at the newest readings; their times must not run back.
    pub fn observe(&mut self, readings: &Readings) -> Vec<Change> {
        let limits = &self.limits;
        let each = RULES.iter().zip(&mut self.watches);
        each.filter_map(|(rule, watch)| watch.observe(rule, limits, readings)).collect()
    }

    /// What is raised now, the worst first.
    pub fn alerts(&self) -> Vec<Alert> {
        let mut alerts: Vec<Alert> =
            self.watches.iter().filter_map(|watch| watch.raised.clone()).collect();
        alerts.sort_by_key(|alert| std::cmp::Reverse(alert.severity));
        alerts
    }

    /// The worst that is raised, in one word.
    pub fn status(&self) -> Status {
        match self.alerts().first().map(|alert| alert.severity) {
            None => Status::Healthy,
            Some(Severity::Warning) => Status::Degraded,
            Some(Severity::Critical) => Status::Unhealthy,
        }
    }
}

impl Watch {
    fn observe(&mut self, rule: &Rule, limits: &Limits, readings: &Readings) -> Option<Change> {
        let value = (rule.read)(readings);
        let limit = match rule.limit {
            Bound::Set(limit) => limit(limits),
            Bound::Learned(floor) => {
                self.baseline.limit().map_or(f64::INFINITY, |learned| learned.max(floor(limits)))
            }
        };
        if let (Bound::Learned(_), Some(value), true) = (&rule.limit, value, readings.playing) {
            self.baseline.learn(value);
        }
        match &mut self.raised {
            None => self.raise(rule, limits, readings.at, value?, limit),
            Some(alert) => {
                alert.value = value.unwrap_or(alert.value);
                // A learned limit has moved since; what was raised is cleared by the limit that
                // raised it.
                if value.is_some_and(|value| value >= CLEAR_AT * alert.limit) {
                    self.under_since = None;
                    return None;
                }
                let since = *self.under_since.get_or_insert(readings.at);
                let rested = readings.at.saturating_sub(since) >= (rule.rest)(limits);
                rested.then(|| self.raised.take().map(Change::Cleared)).flatten()
            }
        }
    }

    fn raise(
        &mut self,
        rule: &Rule,
        limits: &Limits,
        at: Duration,
        value: f64,
        limit: f64,
    ) -> Option<Change> {
        if value <= limit {
            self.over_since = None;
            return None;
        }
        let since = *self.over_since.get_or_insert(at);
        if at.saturating_sub(since) < (rule.hold)(limits) {
            return None;
        }
        (self.over_since, self.under_since) = (None, None);
        let alert = rule.alert(value, limit, at);
        self.raised = Some(alert.clone());
        Some(Change::Raised(alert))
    }
}

/// What a reading usually is, as powers of two.
#[derive(Debug, Default)]
struct Baseline {
    median: f64,
    /// The usual distance from it.
    spread: f64,
    seen: u32,
}

impl Baseline {
    /// So many readings must be seen before there is a limit: two minutes of playing.
    const ENOUGH: u32 = 120;

    /// How far the median moves with a reading, once it knows enough: four times as much, which is
    /// two of this scale, is accepted after a quarter of an hour.
    const STEP: f64 = 0.002;

    /// Over the median by so many usual distances, and by two powers of two at least, is unusual.
    const DISTANCES: f64 = 6.0;
    const OCTAVES: f64 = 2.0;

    fn learn(&mut self, value: f64) {
        let value = value.max(0.001).log2();
        if self.seen == 0 {
            self.median = value;
        }
        self.seen = self.seen.saturating_add(1);
        let hurry = 1.0 / f64::from(self.seen);
        let off = value - self.median;
        self.median += off.clamp(-1.0, 1.0).signum() * off.abs().min(hurry.max(Self::STEP));
        let clipped = off.abs().min(3.0 * self.spread + 0.1);
        self.spread += (clipped - self.spread) * hurry.max(Self::STEP);
    }

    fn limit(&self) -> Option<f64> {
        let above = (Self::DISTANCES * self.spread).max(Self::OCTAVES);
        (self.seen >= Self::ENOUGH).then(|| (self.median + above).exp2())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LIMITS: Limits = Limits {
        target_latency_ms: 25.0,
        latency_ms: 100.0,
        cpu_percent: 80.0,
        cpu_time: Duration::from_secs(30),
        memory_bytes: 500_000_000,
        memory_limit_bytes: 1_000_000_000,
        heartbeat: Duration::from_secs(5),
    };

    fn calm() -> Readings {
        Readings {
            playing: true,
            latency_mean_ms: Some(5.0),
            latency_p99_ms: Some(10.0),
            tick_lateness_p99_ms: Some(0.2),
            turn_p99_ms: Some(0.1),
            cpu_percent: 10.0,
            resident_bytes: 50_000_000,
            ..Readings::default()
        }
    }

    struct Run {
        thresholds: Thresholds,
        second: u64,
    }

    impl Run {
        /// A server that has played long enough to know what is usual.
        fn learned() -> Self {
            let mut run = Self { thresholds: Thresholds::new(LIMITS), second: 0 };
            assert_eq!(run.seconds(600, calm()), [""; 0]);
            run
        }

        /// The changes of so many seconds with these readings, as `+name` and `-name`.
        fn seconds(&mut self, count: u64, readings: Readings) -> Vec<String> {
            let mut changes = Vec::new();
            for _ in 0..count {
                self.second += 1;
                changes.extend(
                    self.thresholds.observe(&Readings { at: SECONDS(self.second), ..readings }),
                );
            }
            changes.iter().map(told).collect()
        }
    }

    #[test]
    fn an_alert_says_its_figures_with_their_unit_if_it_has_any() {
        let figures = |name| {
            let rule = RULES.iter().find(|rule| rule.name == name).unwrap();
            rule.alert(1.0, 0.5, Duration::ZERO).figures()
        };
        assert_eq!(figures("shard_stalled"), " (1.0 shards, limit 0.5)");
        assert_eq!(figures(STORAGE), "");
    }

    fn told(change: &Change) -> String {
        match change {
            Change::Raised(alert) => format!("+{}", alert.name),
            Change::Cleared(alert) => format!("-{}", alert.name),
        }
    }

    /// The trouble raises exactly these alerts after so many seconds and not before; calm clears
    /// them, each once.
    fn check(trouble: Readings, after: u64, names: &[&str], status: Status) {
        let mut run = Run::learned();
        assert_eq!(run.seconds(after - 1, trouble), [""; 0], "{names:?} too early");
        let mut raised = run.seconds(1, trouble);
        assert!(!raised.is_empty(), "{names:?} not yet");
        raised.extend(run.seconds(60, trouble));
        raised.sort();
        assert_eq!(raised, names.iter().map(|name| format!("+{name}")).collect::<Vec<_>>());
        assert_eq!(run.thresholds.status(), status, "{names:?}");
        let mut cleared = run.seconds(60, calm());
        cleared.sort();
        assert_eq!(cleared, names.iter().map(|name| format!("-{name}")).collect::<Vec<_>>());
        assert_eq!((run.thresholds.status(), run.thresholds.alerts().len()), (Status::Healthy, 0));
    }

    #[test]
    fn every_alert_fires_and_clears_once() {
        let (one, other) = (Status::Degraded, Status::Unhealthy);
        check(Readings { latency_mean_ms: Some(51.0), ..calm() }, 4, &["sync_latency_mean"], one);
        let far = Readings { latency_p99_ms: Some(101.0), ..calm() };
        check(far, 4, &["sync_latency_p99", "sync_latency_unusual"], one);
        check(
            Readings { latency_p99_ms: Some(60.0), ..calm() },
            11,
            &["sync_latency_unusual"],
            one,
        );
        check(
            Readings { tick_lateness_p99_ms: Some(2.5), ..calm() },
            11,
            &["tick_lateness_unusual"],
            one,
        );
        check(Readings { turn_p99_ms: Some(2.5), ..calm() }, 11, &["turn_time_unusual"], one);
        check(Readings { cpu_percent: 81.0, ..calm() }, 31, &["cpu"], one);
        check(Readings { resident_bytes: 500_000_001, ..calm() }, 1, &["memory"], one);
        check(
            Readings { resident_bytes: 1_000_000_001, ..calm() },
            1,
            &["memory", "memory_limit"],
            other,
        );
        check(Readings { queue_fill: 0.51, ..calm() }, 1, &["queue"], one);
        check(Readings { shards_stalled: 1, ..calm() }, 1, &["shard_stalled"], other);
        check(Readings { storage_down: true, ..calm() }, 1, &["storage"], one);
        check(Readings { sessions_unstored: 1, ..calm() }, 1, &["sessions_unstored"], one);
        check(Readings { sessions_shared: 1, ..calm() }, 1, &["sessions_shared"], one);
    }

    #[test]
    fn a_reading_that_dances_on_the_limit_is_told_once() {
        let mut run = Run::learned();
        let mut told = Vec::new();
        for second in 0..300 {
            let megabytes = if second % 2 == 0 { 501 } else { 480 };
            told.extend(
                run.seconds(1, Readings { resident_bytes: megabytes * 1_000_000, ..calm() }),
            );
        }
        assert_eq!(told, ["+memory"]);
    }

    #[test]
    fn a_short_spike_is_no_alert() {
        let mut run = Run::learned();
        for _ in 0..20 {
            assert_eq!(run.seconds(29, Readings { cpu_percent: 100.0, ..calm() }), [""; 0]);
            assert_eq!(run.seconds(1, calm()), [""; 0]);
        }
    }

    #[test]
    fn latency_is_judged_by_answers_however_rare() {
        let mut run = Run::learned();
        let silent = Readings { latency_mean_ms: None, latency_p99_ms: None, ..calm() };
        let mut told = Vec::new();
        for _ in 0..10 {
            told.extend(run.seconds(1, Readings { latency_mean_ms: Some(70.0), ..calm() }));
            told.extend(run.seconds(4, silent));
        }
        assert_eq!(told, ["+sync_latency_mean"]);
        assert_eq!(run.seconds(60, silent), ["-sync_latency_mean"], "who is gone is not far away");
    }

    #[test]
    fn what_is_usual_is_learned_while_a_band_plays_and_kept_while_none_does() {
        let mut run = Run { thresholds: Thresholds::new(LIMITS), second: 0 };
        let gig = Readings { tick_lateness_p99_ms: Some(1.5), ..calm() };
        let pause = Readings {
            playing: false,
            tick_lateness_p99_ms: None,
            turn_p99_ms: Some(0.01),
            ..calm()
        };
        for _ in 0..50 {
            assert_eq!(run.seconds(200, gig), [""; 0]);
            assert_eq!(run.seconds(400, pause), [""; 0]);
        }
        assert_eq!(run.seconds(3_600 * 24 * 2, pause), [""; 0], "two days without a gig");
        assert_eq!(run.seconds(200, gig), [""; 0], "the next gig is as usual");
        let late = Readings { tick_lateness_p99_ms: Some(20.0), ..gig };
        assert_eq!(run.seconds(30, late), ["+tick_lateness_unusual"]);
    }

    #[test]
    fn a_lasting_change_becomes_usual_and_a_minute_of_trouble_does_not() {
        let mut run = Run::learned();
        let late = Readings { tick_lateness_p99_ms: Some(5.0), ..calm() };
        for _ in 0..5 {
            assert_eq!(run.seconds(60, late), ["+tick_lateness_unusual"]);
            assert_eq!(run.seconds(600, calm()), ["-tick_lateness_unusual"]);
        }
        run.seconds(3_600, late);
        run.seconds(60, calm());
        assert_eq!(run.seconds(60, late), [""; 0]);
    }

    #[test]
    fn nothing_is_unusual_before_anything_is_usual() {
        let mut run = Run { thresholds: Thresholds::new(LIMITS), second: 0 };
        let odd = |n: u32| Readings { turn_p99_ms: Some(f64::from(n * n)), ..calm() };
        for n in 0..100 {
            assert_eq!(run.seconds(1, odd(n)), [""; 0]);
        }
    }
}
