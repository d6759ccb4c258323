//! Alert rules: fixed and learned limits, each alert raised once and cleared once.
//!
//! A pure value: readings with their time go in, changes come out.
//!
//! An alert is raised when its reading was over the limit for a while, and cleared when it was
//! under four fifths of the limit for a while, so that a reading that oscillates around the limit
//! raises one alert.
//!
//! **Learned limits** follow a baseline: the median of the reading and its usual distance from it,
//! both in powers of two. They move by small fixed steps towards each new reading, not by its size,
//! so that a minute of trouble hardly moves them, while a lasting change is accepted within the
//! hour. They learn only while a band plays: the silence between two songs, or a week without a
//! gig, is not taken for the normal state, and what was learned waits for the next one.

use std::time::Duration;

use serde::Serialize;

/// The readings of one second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Readings {
    /// Time since the server's start.
    pub at: Duration,
    /// Whether a band plays: only then is there a normal state to learn.
    pub playing: bool,
    /// Mean round trip to members; `None` if none was measured.
    pub latency_mean_ms: Option<f64>,
    /// 99th percentile of the round trip to members.
    pub latency_p99_ms: Option<f64>,
    /// 99th percentile of the lateness of ticks.
    pub tick_lateness_p99_ms: Option<f64>,
    /// 99th percentile of the duration of turns.
    pub turn_p99_ms: Option<f64>,
    /// CPU use of the busiest thread, in percent of one core.
    pub cpu_percent: f64,
    /// Memory in RAM.
    pub resident_bytes: u64,
    /// Fill of the fullest queue, from 0 to 1.
    pub queue_fill: f64,
    /// Shards that have not ended a turn for some seconds.
    pub shards_stalled: u32,
    /// Whether the storage cannot be reached.
    pub storage_down: bool,
    /// Sessions that cannot be stored, while all others can.
    pub sessions_unstored: u64,
    /// Sessions that another server serves too.
    pub sessions_shared: u64,
    /// Maximum error of the clock of a node; `None` if the server is alone.
    pub clock_error_ms: Option<f64>,
}

/// The limits that the settings give.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Latency to aim at. A mean of twice that raises an alert.
    pub target_latency_ms: f64,
    /// Limit of the latency's 99th percentile.
    pub latency_ms: f64,
    /// CPU use of a thread, in percent of one core.
    pub cpu_percent: f64,
    /// Time that a thread may be above `cpu_percent`.
    pub cpu_time: Duration,
    /// Memory above which memory is shed.
    pub memory_bytes: u64,
    /// Memory above which new members are rejected.
    pub memory_limit_bytes: u64,
    /// Time between two round trips of a member. A latency alert is cleared only after two of them.
    pub heartbeat: Duration,
}

/// The severity of an alert.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The band can play; an operator should look into it.
    Warning,
    /// The band cannot rely on the server.
    Critical,
}

/// The state of the server in one word.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// No alert.
    #[default]
    Healthy,
    /// Members may notice something.
    Degraded,
    /// The server does not do its work.
    Unhealthy,
}

/// A raised alert.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// The name, for programs.
    pub name: &'static str,
    /// The severity.
    pub severity: Severity,
    /// Condition, harm and remedy, for people: `condition: harm. remedy`.
    pub message: String,
    /// The newest reading.
    pub value: f64,
    /// The limit that the reading has passed.
    pub limit: f64,
    /// The unit of reading and limit; empty if the reading is yes or no.
    pub unit: &'static str,
    /// Seconds since the server's start.
    pub raised_at: f64,
}

impl Alert {
    /// Returns the message with the reading and its limit after the condition. A reading that is
    /// yes or no has no figures.
    pub fn sentence(&self) -> String {
        let Self { message, value, limit, unit, .. } = self;
        match message.split_once(": ") {
            Some((condition, advice)) if !unit.is_empty() => {
                format!("{condition} ({value:.1} {unit}, limit {limit:.1}): {advice}")
            }
            _ => message.clone(),
        }
    }
}

/// A change of an alert.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The alert was raised.
    Raised(Alert),
    /// The alert was cleared.
    Cleared(Alert),
}

/// The rules and the state of each.
#[derive(Debug)]
pub struct Thresholds {
    limits: Limits,
    watches: [Watch; RULES.len()],
}

/// A rule: which reading raises which alert.
struct Rule {
    name: &'static str,
    severity: Severity,
    unit: &'static str,
    /// Condition in words, for the table of alerts in `src/README.md`.
    #[cfg_attr(not(test), expect(dead_code))]
    when: &'static str,
    message: &'static str,
    limit: Bound,
    /// Time above the limit that raises the alert.
    hold: fn(&Limits) -> Duration,
    rest: fn(&Limits) -> Duration,
    read: fn(&Readings) -> Option<f64>,
}

impl Rule {
    fn alert(&self, value: f64, limit: f64, at: Duration) -> Alert {
        let Self { name, severity, unit, message, .. } = *self;
        Alert {
            name,
            severity,
            message: message.to_owned(),
            value,
            limit,
            unit,
            raised_at: at.as_secs_f64(),
        }
    }
}

enum Bound {
    Set(fn(&Limits) -> f64),
    /// A learned limit, but at least this: twice next to nothing is harmless.
    Learned(fn(&Limits) -> f64),
}

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
const MEGABYTE: f64 = 1_000_000.0;

const LATENCY_REST: fn(&Limits) -> Duration = |limits| SECONDS(10).max(limits.heartbeat * 5 / 2);

/// The name of the alert of an unavailable storage.
pub const STORAGE: &str = "storage";

const RULES: [Rule; 14] = [
    Rule {
        name: "sync_latency_mean",
        severity: Severity::Warning,
        unit: "ms",
        when: "mean round trip above twice `SYNC_TARGET_LATENCY`",
        message: "the mean round trip to members is above twice SYNC_TARGET_LATENCY: members react \
                  late. Check the Wi-Fi, or raise SYNC_TARGET_LATENCY",
        limit: Bound::Set(|limits| 2.0 * limits.target_latency_ms),
        hold: |_| SECONDS(3),
        rest: LATENCY_REST,
        read: |readings| readings.latency_mean_ms,
    },
    Rule {
        name: "sync_latency_p99",
        severity: Severity::Warning,
        unit: "ms",
        when: "99th percentile of the round trip above `ALERT_LATENCY`",
        message: "the round trip to some members is long (99th percentile): they react late. Check \
                  their Wi-Fi, or raise ALERT_LATENCY",
        limit: Bound::Set(|limits| limits.latency_ms),
        hold: |_| SECONDS(3),
        rest: LATENCY_REST,
        read: |readings| readings.latency_p99_ms,
    },
    Rule {
        name: "sync_latency_unusual",
        severity: Severity::Warning,
        unit: "ms",
        when: "99th percentile of the round trip above the learned limit",
        message: "the round trip to members is far longer than usual: members react late. Check \
                  the Wi-Fi and the load of this machine",
        limit: Bound::Learned(|limits| limits.target_latency_ms),
        hold: |_| SECONDS(10),
        rest: LATENCY_REST,
        read: |readings| readings.latency_p99_ms,
    },
    Rule {
        name: "tick_lateness_unusual",
        severity: Severity::Warning,
        unit: "ms",
        when: "99th percentile of the lateness of ticks above the learned limit",
        message: "ticks are far later than usual: members see the position stutter. Use more \
                  shards or fewer members per core",
        limit: Bound::Learned(|_| 2.0),
        hold: |_| SECONDS(10),
        rest: |_| SECONDS(10),
        read: |readings| readings.tick_lateness_p99_ms,
    },
    Rule {
        name: "turn_time_unusual",
        severity: Severity::Warning,
        unit: "ms",
        when: "99th percentile of the duration of turns above the learned limit",
        message: "turns of a shard take far longer than usual: ticks may become late. Use more \
                  shards, or stop other programs of this machine",
        limit: Bound::Learned(|_| 2.0),
        hold: |_| SECONDS(10),
        rest: |_| SECONDS(10),
        read: |readings| readings.turn_p99_ms,
    },
    Rule {
        name: "cpu",
        severity: Severity::Warning,
        unit: "%",
        when: "a thread above `ALERT_CPU` of a core",
        message: "a thread is busy for most of its core: ticks may become late. Use more shards or \
                  fewer members per core",
        limit: Bound::Set(|limits| limits.cpu_percent),
        hold: |limits| limits.cpu_time,
        rest: |_| SECONDS(10),
        read: |readings| Some(readings.cpu_percent),
    },
    Rule {
        name: "memory",
        severity: Severity::Warning,
        unit: "MB",
        when: "memory above `MEMORY_THRESHOLD`",
        message: "memory is above its threshold: dropping caches and closing slow readers. Raise \
                  MEMORY_THRESHOLD if the machine has more",
        limit: Bound::Set(|limits| limits.memory_bytes as f64 / MEGABYTE),
        hold: |_| Duration::ZERO,
        rest: |_| SECONDS(10),
        read: |readings| Some(readings.resident_bytes as f64 / MEGABYTE),
    },
    Rule {
        name: "memory_limit",
        severity: Severity::Critical,
        unit: "MB",
        when: "memory above `MEMORY_LIMIT`",
        message: "memory is at its limit: new members are rejected. Raise MEMORY_LIMIT if the \
                  machine has more",
        limit: Bound::Set(|limits| limits.memory_limit_bytes as f64 / MEGABYTE),
        hold: |_| Duration::ZERO,
        rest: |_| SECONDS(10),
        read: |readings| Some(readings.resident_bytes as f64 / MEGABYTE),
    },
    Rule {
        name: "queue",
        severity: Severity::Warning,
        unit: "%",
        when: "one of the queues more than half full",
        message: "a queue between threads is more than half full: once it is full, its entries \
                  wait or are lost. Check the disk, the storage, and the reader of the log",
        limit: Bound::Set(|_| 50.0),
        hold: |_| Duration::ZERO,
        rest: |_| SECONDS(10),
        read: |readings| Some(100.0 * readings.queue_fill),
    },
    Rule {
        name: "shard_stalled",
        severity: Severity::Critical,
        unit: "shards",
        when: "a shard has ended no turn for five seconds",
        message: "a shard is not responding: its members receive nothing. Check the log for a \
                  panic; the server aborts after STALL_LIMIT, so that a supervisor restarts it",
        limit: Bound::Set(|_| 0.5),
        hold: |_| Duration::ZERO,
        rest: |_| SECONDS(2),
        read: |readings| Some(f64::from(readings.shards_stalled)),
    },
    Rule {
        name: STORAGE,
        severity: Severity::Warning,
        unit: "",
        when: "the storage is unavailable",
        message: "the storage is unavailable: the band plays on, but a restart loses changes. The \
                  log has the reason",
        limit: Bound::Set(|_| 0.5),
        hold: |_| Duration::ZERO,
        rest: |_| SECONDS(2),
        read: |readings| Some(f64::from(u8::from(readings.storage_down))),
    },
    Rule {
        name: "sessions_unstored",
        severity: Severity::Warning,
        unit: "sessions",
        when: "some sessions cannot be stored, while all others can",
        message: "some sessions cannot be stored: a restart loses their changes. The log has the \
                  reason",
        limit: Bound::Set(|_| 0.5),
        hold: |_| Duration::ZERO,
        rest: |_| SECONDS(2),
        read: |readings| Some(readings.sessions_unstored as f64),
    },
    Rule {
        name: "sessions_shared",
        severity: Severity::Warning,
        unit: "sessions",
        when: "another server serves sessions that have members here",
        message: "another server serves the same sessions: each overwrites the records of the \
                  other. Let all members of a session reach the same server",
        limit: Bound::Set(|_| 0.5),
        hold: |_| Duration::ZERO,
        rest: |_| SECONDS(2),
        read: |readings| Some(readings.sessions_shared as f64),
    },
    Rule {
        name: "cluster_clock",
        severity: Severity::Warning,
        unit: "ms",
        when: "the clock of a node may be off by more than 5 ms",
        message: "the clock of this node may differ from that of the cluster: members here may hear \
                  the beat at another time than members of other nodes. Check the network to Redis \
                  and whether this machine slept",
        limit: Bound::Set(|_| 5.0),
        hold: |_| SECONDS(3),
        rest: |_| SECONDS(2),
        read: |readings| readings.clock_error_ms,
    },
];

/// Returns the names of all alerts.
pub fn names() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|rule| rule.name)
}

/// Returns name, condition, time and message of each alert, for the table in `src/README.md`.
#[cfg(test)]
pub fn rows() -> Vec<[String; 4]> {
    // No rule has this time of its own, so it marks the setting.
    let setting = SECONDS(987);
    let limits = Limits {
        target_latency_ms: 1.0,
        latency_ms: 1.0,
        cpu_percent: 1.0,
        cpu_time: setting,
        memory_bytes: 1,
        memory_limit_bytes: 1,
        heartbeat: SECONDS(1),
    };
    let row = |rule: &Rule| {
        let name = match rule.severity {
            Severity::Warning => format!("`{}`", rule.name),
            Severity::Critical => format!("`{}` (critical)", rule.name),
        };
        let span = match (rule.hold)(&limits) {
            Duration::ZERO => "at once".to_owned(),
            span if span == setting => "`ALERT_CPU_TIME`".to_owned(),
            span => format!("{} s", span.as_secs()),
        };
        [name, rule.when.to_owned(), span, rule.message.to_owned()]
    };
    RULES.iter().map(row).collect()
}

/// Returns the alerts about storage that these readings raise. Used until the monitor's next
/// reading raises them.
pub fn storage_alerts(readings: &Readings) -> Vec<Alert> {
    let rules = RULES
        .iter()
        .filter(|rule| [STORAGE, "sessions_unstored", "sessions_shared"].contains(&rule.name));
    let raised = rules
        .map(|rule| (rule, (rule.read)(readings).unwrap_or_default()))
        .filter(|(_, value)| *value > 0.5);
    raised.map(|(rule, value)| rule.alert(value, 0.5, readings.at)).collect()
}

/// Returns the alert of an unavailable storage.
#[cfg(test)]
pub fn storage_alert(at: Duration) -> Alert {
    let storage_down = Readings { storage_down: true, at, ..Readings::default() };
    storage_alerts(&storage_down).remove(0)
}

/// Returns the message of an alert without its figures.
pub fn meaning(name: &str) -> &'static str {
    RULES.iter().find(|rule| rule.name == name).map_or("", |rule| rule.message)
}

/// An alert is cleared below this part of its limit.
const CLEAR_AT: f64 = 0.8;

/// The state of a rule.
#[derive(Debug, Default)]
struct Watch {
    over_since: Option<Duration>,
    under_since: Option<Duration>,
    raised: Option<Alert>,
    baseline: Baseline,
}

impl Thresholds {
    /// Creates thresholds with nothing raised.
    pub fn new(limits: Limits) -> Self {
        Self { limits, watches: Default::default() }
    }

    /// Takes the newest readings and returns the changes. Times must not run backwards.
    pub fn observe(&mut self, readings: &Readings) -> Vec<Change> {
        let limits = &self.limits;
        let each = RULES.iter().zip(&mut self.watches);
        each.filter_map(|(rule, watch)| watch.observe(rule, limits, readings)).collect()
    }

    /// Returns the raised alerts, the worst first.
    pub fn alerts(&self) -> Vec<Alert> {
        let mut alerts: Vec<Alert> =
            self.watches.iter().filter_map(|watch| watch.raised.clone()).collect();
        alerts.sort_by_key(|alert| std::cmp::Reverse(alert.severity));
        alerts
    }

    /// Returns the state of the server, from its worst alert.
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
                // A learned limit has moved meanwhile. The limit that raised the alert also clears
                // it.
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

/// The usual value of a reading, as a power of two.
#[derive(Debug, Default)]
struct Baseline {
    median: f64,
    /// The usual distance from the median.
    spread: f64,
    seen: u32,
}

impl Baseline {
    /// Readings before there is a limit: two minutes of playing. Guessed.
    const ENOUGH: u32 = 120;

    /// Step of the median per reading, once there are enough. A reading four times as high (2 on
    /// this scale) is normal after a quarter of an hour.
    const STEP: f64 = 0.002;

    /// Distance from the median, in usual distances, that is unusual. At least two powers of two.
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
        /// A server that has played long enough to have learned limits.
        fn learned() -> Self {
            let mut run = Self { thresholds: Thresholds::new(LIMITS), second: 0 };
            assert_eq!(run.seconds(600, calm()), [""; 0]);
            run
        }

        /// Returns the changes in `count` seconds with these readings, as `+name` and `-name`.
        fn seconds(&mut self, count: u64, readings: Readings) -> Vec<String> {
            let mut changes = Vec::new();
            for _ in 0..count {
                self.second += 1;
                changes.extend(
                    self.thresholds.observe(&Readings { at: SECONDS(self.second), ..readings }),
                );
            }
            changes.iter().map(label).collect()
        }
    }

    #[test]
    fn an_alert_shows_its_value_and_limit_with_the_unit() {
        let sentence = |name| {
            let rule = RULES.iter().find(|rule| rule.name == name).unwrap();
            rule.alert(1.0, 0.5, Duration::ZERO).sentence()
        };
        let stalled = "a shard is not responding (1.0 shards, limit 0.5): its members";
        assert!(sentence("shard_stalled").starts_with(stalled), "{}", sentence("shard_stalled"));
        assert_eq!(sentence(STORAGE), meaning(STORAGE));
    }

    #[test]
    fn every_alert_names_condition_harm_and_remedy() {
        for rule in &RULES {
            let advice = rule.message.split_once(": ").map(|(_, advice)| advice);
            assert!(advice.is_some_and(|advice| advice.contains(". ")), "{}", rule.message);
        }
    }

    fn label(change: &Change) -> String {
        match change {
            Change::Raised(alert) => format!("+{}", alert.name),
            Change::Cleared(alert) => format!("-{}", alert.name),
        }
    }

    /// Checks that the trouble raises exactly these alerts after `after` seconds and not before,
    /// and that calm clears each of them once.
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
    fn a_reading_that_oscillates_around_the_limit_raises_one_alert() {
        let mut run = Run::learned();
        let mut changes = Vec::new();
        for second in 0..300 {
            let megabytes = if second % 2 == 0 { 501 } else { 480 };
            changes.extend(
                run.seconds(1, Readings { resident_bytes: megabytes * 1_000_000, ..calm() }),
            );
        }
        assert_eq!(changes, ["+memory"]);
    }

    #[test]
    fn a_short_spike_raises_no_alert() {
        let mut run = Run::learned();
        for _ in 0..20 {
            assert_eq!(run.seconds(29, Readings { cpu_percent: 100.0, ..calm() }), [""; 0]);
            assert_eq!(run.seconds(1, calm()), [""; 0]);
        }
    }

    #[test]
    fn rare_answers_are_enough_to_judge_latency() {
        let mut run = Run::learned();
        let silent = Readings { latency_mean_ms: None, latency_p99_ms: None, ..calm() };
        let mut changes = Vec::new();
        for _ in 0..10 {
            changes.extend(run.seconds(1, Readings { latency_mean_ms: Some(70.0), ..calm() }));
            changes.extend(run.seconds(4, silent));
        }
        assert_eq!(changes, ["+sync_latency_mean"]);
        assert_eq!(run.seconds(60, silent), ["-sync_latency_mean"], "lost members have no latency");
    }

    #[test]
    fn the_baseline_is_learned_only_while_a_band_plays() {
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
    fn a_lasting_change_moves_the_baseline_and_a_minute_does_not() {
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
    fn without_a_baseline_no_reading_is_unusual() {
        let mut run = Run { thresholds: Thresholds::new(LIMITS), second: 0 };
        let odd = |n: u32| Readings { turn_p99_ms: Some(f64::from(n * n)), ..calm() };
        for n in 0..100 {
            assert_eq!(run.seconds(1, odd(n)), [""; 0]);
        }
    }
}
