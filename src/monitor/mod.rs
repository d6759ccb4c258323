//! The monitor: reads everything once a second and reports the changes.
//!
//! Counts of the moment (connections, sessions, members) are read on request. Values that need two
//! readings or many samples (rates, percentiles, CPU) are in the monitor's newest [`Report`]. At
//! the end of each interval, percentiles start again and a row of the history is written.

pub mod history;
pub mod latency;
pub mod thresholds;
mod webhook;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bandsync_driver::{Histograms, LongestTurn};
use bandsync_engine::io::FreeMemory;
use bandsync_engine::io::report::NodeCounters;
use bandsync_engine::speech::Code;
use log::{info, warn};
use parking_lot::Mutex;
use serde::Serialize;

use crate::ops::process::{self, Allocator, CpuTime, ThreadUsage, Usage};
use history::{History, HistoryStore, Row};
use latency::{HANDLER, Meter, ROUND_TRIP, Spreads, TICK_LATENESS, TURN};
use thresholds::{Alert, Change, Limits, Readings, Status, Thresholds};
use webhook::Webhook;

/// Time between two readings.
const INTERVAL: Duration = Duration::from_secs(1);

/// Readings in a row without the end of a turn after which a shard counts as stalled. A healthy
/// shard ends at least one turn per second.
const STALLED_AFTER: u32 = 5;

/// Maximum of raised and cleared alerts that are kept.
const EVENTS_MAX: usize = 100;

/// Time between shedding memory and reporting the result. Guessed.
const SHED_TAKES: Duration = Duration::from_secs(3);

/// Counters of one shard: some are of the moment, the others count since its start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ShardTotals {
    /// WebSockets now.
    pub connections: u64,
    /// Connections now that are not, or not yet, WebSockets.
    pub http: u64,
    /// Members now that have a connection.
    pub members: u64,
    /// Sessions in memory now.
    pub sessions: u64,
    /// Sessions now that have a member with a connection.
    pub sessions_active: u64,
    /// Messages from clients.
    pub messages_in: u64,
    /// Messages to clients. One message to eight members counts as eight.
    pub messages_out: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Round trips of the application heartbeat.
    pub round_trips: u64,
    /// Sum of the round trips, in microseconds.
    pub round_trip_micros: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Time spent in turns, in microseconds.
    pub turn_micros: u64,
    /// Rejected commands, by the index of their code in [`Code::ALL`].
    pub refusals: [u64; Code::ALL.len()],
    /// Connections closed because the peer broke a rule or a limit.
    pub expulsions: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Ticks that were not sent to a connection because its socket was full.
    pub volatile_dropped: u64,
    /// Bytes now that the kernel has not taken yet.
    pub unsent_bytes: u64,
    /// Bytes now that are kept for lost members.
    pub recovery_bytes: u64,
    /// Sessions that left memory early because of memory pressure.
    pub sessions_shed: u64,
    /// Bytes kept for lost members that were dropped because of memory pressure.
    pub recovery_bytes_shed: u64,
    /// Numbers about the cluster.
    pub nodes: NodeCounters,
}

/// A bounded queue between threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Queue {
    /// Its name in metrics.
    pub name: &'static str,
    /// Entries that wait. For queues that empty within moments, the maximum since the last reading.
    pub waiting: u64,
    /// Entries that could wait.
    #[serde(rename = "room")]
    pub capacity: u64,
}

impl Queue {
    /// Returns the part of it that is used, from 0 to 1.
    pub fn fill(&self) -> f64 {
        self.waiting as f64 / self.capacity.max(1) as f64
    }
}

/// The source of all counters. Also receives the monitor's decisions.
pub trait Totals: Send + Sync + 'static {
    /// One value per shard.
    fn shards(&self) -> Vec<ShardTotals>;

    /// Passes the measurements of this shard since the last call to `read`.
    fn collect(&self, _shard: usize, _read: &mut dyn FnMut(&Histograms)) {}

    /// Returns the queues between threads.
    fn queues(&self) -> Vec<Queue> {
        Vec::new()
    }

    /// Lines of the log that were lost since the start.
    fn log_lines_lost(&self) -> u64 {
        0
    }

    /// Whether the storage cannot be reached.
    fn storage_down(&self) -> bool {
        false
    }

    /// Sessions that cannot be stored, while all others can.
    fn sessions_unstored(&self) -> u64 {
        0
    }

    /// Sessions that another server serves too.
    fn sessions_shared(&self) -> u64 {
        0
    }

    /// Returns the maximum error of this node's clock in milliseconds; `None` if the server is
    /// alone.
    fn clock_error_ms(&self) -> Option<f64> {
        None
    }

    /// Returns the rosters: one JSON array for each shard that has sent one recently. A call makes
    /// shards send theirs for a while.
    fn rosters(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// Reports the memory pressure to the shards.
    fn set_memory(&self, _memory: FreeMemory) {}
}

/// Settings of the monitor.
pub struct Plan {
    /// Time after which percentiles start again and a row of history is written.
    pub interval: Duration,
    /// Limits that alerts are raised at.
    pub limits: Limits,
    /// Time without the end of a turn after which the process aborts, so that a supervisor restarts
    /// it.
    pub stall_limit: Option<Duration>,
    /// The address that alerts are posted to.
    pub webhook: Option<String>,
    /// The store of the history, if it outlives the process.
    pub store: Option<Box<dyn HistoryStore>>,
}

/// Changes between the two newest readings, unless a field says otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Messages from clients, per second.
    pub messages_in_per_second: f64,
    /// Messages to clients, per second.
    pub messages_out_per_second: f64,
    /// Bytes read, per second.
    pub bytes_in_per_second: f64,
    /// Bytes written, per second.
    pub bytes_out_per_second: f64,
    /// Mean round trip of the application heartbeat, in milliseconds. Taken from the last reading
    /// that saw one, since members answer only every few seconds; zero before.
    pub latency_ms: f64,
    /// Mean duration of a turn, in milliseconds, from learning of events to having sent all that
    /// follows from them. Zero if there was no turn.
    pub turn_ms: f64,
    /// Percent of one core; 200 means that two cores were busy all the time.
    pub cpu_percent: f64,
    /// Memory in RAM.
    pub resident_bytes: u64,
    /// Maximum of connections in any reading.
    pub connections_peak: u64,
    /// Rejected commands, per second.
    pub refusals_per_second: f64,
    /// Rejected commands per second, by the index of their code in [`Code::ALL`].
    pub refusals_per_second_by_code: [f64; Code::ALL.len()],
}

/// Results of the newest reading.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Rates since the reading before.
    pub sample: Sample,
    /// Distributions of all shards, of the last second.
    pub second: Spreads,
    /// Distributions of all shards, of the last full interval.
    pub interval: Spreads,
    /// Single shards.
    pub shards: Vec<ShardReport>,
    /// Single threads, the busiest first.
    pub threads: Vec<ThreadShare>,
    /// Memory of the allocator.
    pub allocator: Allocator,
    /// CPU time of the last full interval. During the first interval, since the start.
    pub cpu: CpuTime,
    /// The memory pressure that the shards know of.
    pub memory: FreeMemory,
    /// Shards that have ended no turn for [`STALLED_AFTER`] samples.
    pub stalled: u32,
    /// Queues between threads.
    pub queues: Vec<Queue>,
    /// Lines of the log that were lost.
    pub log_lines_lost: u64,
    /// The worst of all alerts.
    pub status: Status,
    /// Raised alerts, the worst first.
    pub alerts: Vec<Alert>,
    /// Alerts that were raised or cleared, the newest last.
    pub events: VecDeque<Event>,
}

/// One shard in the last interval.
#[derive(Clone, Debug, Default)]
pub struct ShardReport {
    /// Percent of the last second that the shard spent in turns.
    pub busy_percent: f64,
    /// Distributions of the last full interval.
    pub interval: Spreads,
    /// The longest turn of the last full interval.
    pub longest_turn: LongestTurn,
    /// Counts since the start.
    pub totals: [latency::Totals; latency::HISTOGRAM_COUNT],
}

/// A thread's share of a core in the last second.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ThreadShare {
    /// The name of the thread.
    pub name: String,
    /// CPU time of the program, in percent of a core.
    pub user_percent: f64,
    /// CPU time of the kernel, in percent of a core.
    pub system_percent: f64,
    /// CPU time of the program since the thread's start.
    #[serde(skip)]
    pub user: Duration,
    /// CPU time of the kernel since the thread's start.
    #[serde(skip)]
    pub system: Duration,
}

/// An alert that was raised or cleared.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Unix time in milliseconds.
    pub timestamp: u64,
    /// `raised` or `cleared`.
    pub event: &'static str,
    /// The alert.
    #[serde(flatten)]
    pub alert: Alert,
}

/// The running monitor. Dropping it ends its thread.
pub struct Monitor {
    newest: Arc<Mutex<Arc<Report>>>,
    history: Arc<Mutex<History>>,
    started: Instant,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Monitor {
    /// Reads once, then every second on a thread of its own.
    pub fn start(totals: Arc<dyn Totals>, plan: Plan) -> std::io::Result<Self> {
        let mut watch = Watch::begin(totals, plan)?;
        let (newest, history) = (Arc::clone(&watch.newest), Arc::clone(&watch.history));
        let started = watch.started;
        let (stop, stopped) = channel();
        let look_on = move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                watch.read();
            }
        };
        let thread = std::thread::Builder::new().name("monitor".into()).spawn(look_on)?;
        Ok(Self { newest, history, started, thread: Some((stop, thread)) })
    }

    /// Returns the newest report.
    pub fn newest(&self) -> Arc<Report> {
        Arc::clone(&self.newest.lock())
    }

    /// Returns rows of the history as JSON, as [`History::json`] does.
    pub fn history(&self, since: u64, max: usize) -> Vec<u8> {
        self.history.lock().json(since, max)
    }

    /// Returns the time since the server's start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            // The log has the panic of the monitor, if there was one.
            let _ = thread.join();
        }
    }
}

/// State that the monitor's thread keeps between two readings.
struct Watch {
    totals: Arc<dyn Totals>,
    interval: Duration,
    webhook: Option<Webhook>,
    newest: Arc<Mutex<Arc<Report>>>,
    history: Arc<Mutex<History>>,
    started: Instant,
    earlier: Reading,
    all: Meter,
    shards: Vec<Meter>,
    /// Readings in a row without the end of a turn, per shard.
    silent: Vec<u32>,
    stall_limit: Option<Duration>,
    thresholds: Thresholds,
    /// The end of the current interval.
    interval_ends: Instant,
    first_interval: bool,
    /// CPU time at the start of the current interval, and that of the interval before.
    interval_began: CpuTime,
    interval_cpu: CpuTime,
    /// The time at which memory was shed, and the readings of that time.
    shed: Option<(Instant, Usage, ShardTotals)>,
}

impl Watch {
    fn begin(totals: Arc<dyn Totals>, plan: Plan) -> std::io::Result<Self> {
        let earlier = Reading::now(totals.as_ref());
        let sample = Sample { resident_bytes: earlier.usage.resident_bytes, ..Sample::default() };
        let report = Report { sample, allocator: process::allocator(), ..Report::default() };
        Ok(Self {
            totals,
            interval: plan.interval,
            webhook: plan.webhook.map(Webhook::start).transpose()?,
            newest: Arc::new(Mutex::new(Arc::new(report))),
            history: Arc::new(Mutex::new(History::new(plan.store))),
            started: earlier.at,
            all: Meter::new(),
            shards: earlier.shards.iter().map(|_| Meter::new()).collect(),
            silent: vec![0; earlier.shards.len()],
            stall_limit: plan.stall_limit,
            thresholds: Thresholds::new(plan.limits),
            interval_ends: earlier.at + plan.interval,
            first_interval: true,
            interval_began: earlier.usage.cpu,
            interval_cpu: CpuTime::default(),
            shed: None,
            earlier,
        })
    }

    /// Reads everything once, and acts on it.
    fn read(&mut self) {
        let later = Reading::now(self.totals.as_ref());
        for (shard, meter) in self.shards.iter_mut().enumerate() {
            let all = &mut self.all;
            self.totals.collect(shard, &mut |gauges| {
                meter.add(gauges);
                all.add(gauges);
            });
            meter.end_second();
        }
        let second = self.all.end_second();
        let last = Arc::clone(&self.newest.lock());
        let sample = later.since(&self.earlier, &last.sample);
        let threads = later.shares(&self.earlier);
        let queues = self.totals.queues();
        let readings = self.readings(&later, &second, &threads, &queues);
        let events = self.judge(&readings, last.events.clone());
        let memory = self.update_memory_pressure(&later);
        self.notify_supervisor(&readings);
        if let Some(shard) = self.hung_shard() {
            // A hanging thread cannot be asked to end. The core dump shows where it hangs.
            process::print_error(&format!(
                "shard {shard} hangs: aborting, so that a supervisor restarts the server"
            ));
            std::process::abort();
        }
        if later.at >= self.interval_ends {
            self.end_interval(&later, &sample);
        }
        let seconds = (later.at - self.earlier.at).as_secs_f64().max(f64::MIN_POSITIVE);
        let shards = (self.shards.iter().zip(later.shards.iter().zip(&self.earlier.shards)))
            .map(|(meter, (now, then))| ShardReport {
                busy_percent: now.turn_micros.saturating_sub(then.turn_micros) as f64
                    / 10_000.0
                    / seconds,
                interval: meter.spreads(self.first_interval),
                longest_turn: meter.longest_turn(self.first_interval),
                totals: meter.totals().clone(),
            })
            .collect();
        let report = Report {
            sample,
            second,
            interval: self.all.spreads(self.first_interval),
            shards,
            threads,
            allocator: process::allocator(),
            cpu: match self.first_interval {
                true => later.usage.cpu.since(self.interval_began),
                false => self.interval_cpu,
            },
            memory,
            stalled: readings.shards_stalled,
            queues,
            log_lines_lost: self.totals.log_lines_lost(),
            status: self.thresholds.status(),
            alerts: self.thresholds.alerts(),
            events,
        };
        *self.newest.lock() = Arc::new(report);
        self.earlier = later;
    }

    fn readings(
        &mut self,
        later: &Reading,
        second: &Spreads,
        threads: &[ThreadShare],
        queues: &[Queue],
    ) -> Readings {
        for (silent, (now, then)) in
            self.silent.iter_mut().zip(later.shards.iter().zip(&self.earlier.shards))
        {
            *silent = if now.turns == then.turns { silent.saturating_add(1) } else { 0 };
        }
        let trips = second[ROUND_TRIP];
        let (ticks, turns) = (second[TICK_LATENESS], second[TURN]);
        Readings {
            at: later.at - self.started,
            playing: ticks.count > 0,
            latency_mean_ms: trips.if_any(trips.mean),
            latency_p99_ms: trips.if_any(trips.p99),
            tick_lateness_p99_ms: ticks.if_any(ticks.p99),
            turn_p99_ms: turns.if_any(turns.p99),
            cpu_percent: threads
                .first()
                .map_or(0.0, |share| share.user_percent + share.system_percent),
            resident_bytes: later.usage.resident_bytes,
            queue_fill: queues.iter().map(Queue::fill).fold(0.0, f64::max),
            shards_stalled: self.silent.iter().filter(|silent| **silent >= STALLED_AFTER).count()
                as u32,
            storage_down: self.totals.storage_down(),
            sessions_unstored: self.totals.sessions_unstored(),
            sessions_shared: self.totals.sessions_shared(),
            clock_error_ms: self.totals.clock_error_ms(),
        }
    }

    /// Raises and clears alerts, and reports the changes.
    fn judge(&mut self, readings: &Readings, mut events: VecDeque<Event>) -> VecDeque<Event> {
        for change in self.thresholds.observe(readings) {
            let (event, alert) = match change {
                Change::Raised(alert) => {
                    warn!("alert {} raised: {}", alert.name, alert.sentence());
                    ("raised", alert)
                }
                Change::Cleared(alert) => {
                    let seconds = readings.at.as_secs_f64() - alert.raised_at;
                    warn!("alert {} cleared after {seconds:.0} s", alert.name);
                    ("cleared", alert)
                }
            };
            let event = Event { timestamp: unix_ms(), event, alert };
            if let Some(webhook) = &self.webhook {
                webhook.post(&event);
            }
            if events.len() == EVENTS_MAX {
                events.pop_front();
            }
            events.push_back(event);
        }
        events
    }

    /// Sheds memory and returns memory to the system, as the alerts require. Returns the memory
    /// pressure that the shards receive.
    fn update_memory_pressure(&mut self, later: &Reading) -> FreeMemory {
        let alerts = self.thresholds.alerts();
        let raised = |name| alerts.iter().any(|alert| alert.name == name);
        let memory = match (raised("memory"), raised("memory_limit")) {
            (_, true) => FreeMemory::Out,
            (true, false) => FreeMemory::Low,
            (false, false) => FreeMemory::Enough,
        };
        self.totals.set_memory(memory);
        if memory == FreeMemory::Enough {
            self.shed = None;
            return memory;
        }
        match &self.shed {
            None => {
                process::trim();
                self.shed = Some((later.at, later.usage, later.all));
            }
            Some((at, before, counted)) if later.at - *at >= SHED_TAKES && counted.turns > 0 => {
                let freed = before.resident_bytes.saturating_sub(later.usage.resident_bytes);
                let sessions = later.all.sessions_shed.saturating_sub(counted.sessions_shed);
                let kept =
                    later.all.recovery_bytes_shed.saturating_sub(counted.recovery_bytes_shed);
                info!(
                    "memory pressure: freed {:.1} MB ({:.1} MB kept for lost members, {sessions} empty \
                     sessions), {:.1} MB in use",
                    freed as f64 / 1e6,
                    kept as f64 / 1e6,
                    later.usage.resident_bytes as f64 / 1e6
                );
                // Report only once per period of memory pressure.
                self.shed =
                    Some((later.at + Duration::from_secs(u64::from(u32::MAX)), *before, *counted));
            }
            Some(_) => {}
        }
        memory
    }

    /// Sends the supervisor its sign of life, unless a shard is stalled.
    fn notify_supervisor(&self, readings: &Readings) {
        if readings.shards_stalled == 0 {
            process::notify_watchdog();
        }
    }

    /// Finds a shard that has ended no turn for too long. Counts in the monitor's own readings,
    /// which stop too if the whole process is stopped.
    fn hung_shard(&self) -> Option<usize> {
        let limit = self.stall_limit?.as_secs_f64() / INTERVAL.as_secs_f64();
        self.silent.iter().position(|silent| f64::from(*silent) >= limit)
    }

    fn end_interval(&mut self, later: &Reading, sample: &Sample) {
        self.all.end_interval();
        self.shards.iter_mut().for_each(Meter::end_interval);
        self.first_interval = false;
        self.interval_cpu = later.usage.cpu.since(self.interval_began);
        self.interval_began = later.usage.cpu;
        while self.interval_ends <= later.at {
            self.interval_ends += self.interval;
        }
        let spreads = self.all.spreads(false);
        let row: Row = [
            unix_ms() as f64,
            later.all.connections as f64,
            later.all.sessions_active as f64,
            later.all.members as f64,
            sample.messages_in_per_second,
            sample.messages_out_per_second,
            sample.bytes_in_per_second,
            sample.bytes_out_per_second,
            spreads[ROUND_TRIP].p50,
            spreads[ROUND_TRIP].p99,
            spreads[TICK_LATENESS].p50,
            spreads[TICK_LATENESS].p99,
            spreads[TICK_LATENESS].max,
            spreads[HANDLER].p99,
            spreads[TURN].p99,
            sample.cpu_percent,
            sample.resident_bytes as f64,
            sample.refusals_per_second,
        ];
        self.history.lock().append(&row);
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// All counters at one instant.
struct Reading {
    at: Instant,
    usage: Usage,
    threads: Vec<ThreadUsage>,
    shards: Vec<ShardTotals>,
    all: ShardTotals,
}

impl Reading {
    fn now(totals: &dyn Totals) -> Self {
        let shards = totals.shards();
        let (usage, threads) = (process::usage(), process::threads());
        Self { at: Instant::now(), usage, threads, all: sum(&shards), shards }
    }

    fn since(&self, earlier: &Self, last: &Sample) -> Sample {
        let seconds = (self.at - earlier.at).as_secs_f64().max(f64::MIN_POSITIVE);
        let (now, then) = (&self.all, &earlier.all);
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        let mean_ms = |micros: [u64; 2], counts: [u64; 2]| match counts[0].saturating_sub(counts[1])
        {
            0 => None,
            count => Some(micros[0].saturating_sub(micros[1]) as f64 / 1_000.0 / count as f64),
        };
        let latency_ms = mean_ms(
            [now.round_trip_micros, then.round_trip_micros],
            [now.round_trips, then.round_trips],
        );
        let turn_ms = mean_ms([now.turn_micros, then.turn_micros], [now.turns, then.turns]);
        Sample {
            messages_in_per_second: rate(now.messages_in, then.messages_in),
            messages_out_per_second: rate(now.messages_out, then.messages_out),
            bytes_in_per_second: rate(now.bytes_in, then.bytes_in),
            bytes_out_per_second: rate(now.bytes_out, then.bytes_out),
            latency_ms: latency_ms.unwrap_or(last.latency_ms),
            turn_ms: turn_ms.unwrap_or_default(),
            cpu_percent: 100.0 * self.usage.cpu.since(earlier.usage.cpu).total().as_secs_f64()
                / seconds,
            resident_bytes: self.usage.resident_bytes,
            connections_peak: last.connections_peak.max(now.connections),
            refusals_per_second: rate(now.refusals.iter().sum(), then.refusals.iter().sum()),
            refusals_per_second_by_code: std::array::from_fn(|code| {
                rate(now.refusals[code], then.refusals[code])
            }),
        }
    }

    /// CPU time of each thread since `earlier`, the busiest first. For a new thread, since its
    /// start.
    fn shares(&self, earlier: &Self) -> Vec<ThreadShare> {
        let seconds = (self.at - earlier.at).as_secs_f64().max(f64::MIN_POSITIVE);
        let mut shares: Vec<ThreadShare> = (self.threads.iter())
            .map(|thread| {
                let then = earlier.threads.iter().find(|other| other.id == thread.id);
                let (user, system) =
                    then.map_or_else(Default::default, |then| (then.user, then.system));
                let percent =
                    |now: Duration, then| 100.0 * now.saturating_sub(then).as_secs_f64() / seconds;
                ThreadShare {
                    name: thread.name.clone(),
                    user_percent: percent(thread.user, user),
                    system_percent: percent(thread.system, system),
                    user: thread.user,
                    system: thread.system,
                }
            })
            .collect();
        let used = |share: &ThreadShare| share.user_percent + share.system_percent;
        shares.sort_by(|a, b| used(b).total_cmp(&used(a)));
        shares
    }
}

/// Adds up all shards.
pub fn sum(shards: &[ShardTotals]) -> ShardTotals {
    shards.iter().fold(ShardTotals::default(), |sum, shard| ShardTotals {
        connections: sum.connections + shard.connections,
        http: sum.http + shard.http,
        members: sum.members + shard.members,
        sessions: sum.sessions + shard.sessions,
        sessions_active: sum.sessions_active + shard.sessions_active,
        messages_in: sum.messages_in + shard.messages_in,
        messages_out: sum.messages_out + shard.messages_out,
        bytes_in: sum.bytes_in + shard.bytes_in,
        bytes_out: sum.bytes_out + shard.bytes_out,
        round_trips: sum.round_trips + shard.round_trips,
        round_trip_micros: sum.round_trip_micros + shard.round_trip_micros,
        turns: sum.turns + shard.turns,
        turn_micros: sum.turn_micros + shard.turn_micros,
        refusals: std::array::from_fn(|code| sum.refusals[code] + shard.refusals[code]),
        expulsions: sum.expulsions + shard.expulsions,
        accepted: sum.accepted + shard.accepted,
        volatile_dropped: sum.volatile_dropped + shard.volatile_dropped,
        unsent_bytes: sum.unsent_bytes + shard.unsent_bytes,
        recovery_bytes: sum.recovery_bytes + shard.recovery_bytes,
        sessions_shed: sum.sessions_shed + shard.sessions_shed,
        recovery_bytes_shed: sum.recovery_bytes_shed + shard.recovery_bytes_shed,
        nodes: NodeCounters {
            owned: sum.nodes.owned + shard.nodes.owned,
            branches: sum.nodes.branches + shard.nodes.branches,
            forwards: sum.nodes.forwards + shard.nodes.forwards,
            resends: sum.nodes.resends + shard.nodes.resends,
            unavailable: sum.nodes.unavailable + shard.nodes.unavailable,
            bulletins: sum.nodes.bulletins + shard.nodes.bulletins,
            gaps: sum.nodes.gaps + shard.nodes.gaps,
            repairs: sum.nodes.repairs + shard.nodes.repairs,
            takeovers: sum.nodes.takeovers + shard.nodes.takeovers,
            step_downs: sum.nodes.step_downs + shard.nodes.step_downs,
            unreadable: sum.nodes.unreadable + shard.nodes.unreadable,
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LIMITS: Limits = Limits {
        target_latency_ms: 25.0,
        latency_ms: 100.0,
        cpu_percent: 1_000.0,
        cpu_time: Duration::from_secs(30),
        memory_bytes: u64::MAX,
        memory_limit_bytes: u64::MAX,
        heartbeat: Duration::from_secs(1),
    };

    fn plan(limits: Limits) -> Plan {
        Plan {
            interval: Duration::from_secs(10),
            limits,
            stall_limit: None,
            webhook: None,
            store: None,
        }
    }

    fn reading(at: Instant, cpu_ms: u64, all: ShardTotals) -> Reading {
        let cpu = CpuTime {
            user: Duration::from_millis(cpu_ms / 2),
            system: Duration::from_millis(cpu_ms / 2),
        };
        let usage = Usage { resident_bytes: 7, cpu };
        Reading { at, usage, threads: Vec::new(), shards: vec![all], all }
    }

    #[test]
    fn a_sample_is_the_change_per_second() {
        let start = Instant::now();
        let then = ShardTotals {
            messages_in: 100,
            messages_out: 1_000,
            bytes_in: 50,
            bytes_out: 70,
            round_trips: 7,
            round_trip_micros: 9_000,
            turns: 10,
            turn_micros: 500,
            ..ShardTotals::default()
        };
        let now = ShardTotals {
            messages_in: 110,
            messages_out: 1_080,
            bytes_in: 56,
            bytes_out: 90,
            round_trips: 9,
            round_trip_micros: 15_000,
            turns: 14,
            turn_micros: 2_500,
            connections: 3,
            refusals: [4; Code::ALL.len()],
            ..ShardTotals::default()
        };
        let last = Sample { connections_peak: 2, ..Sample::default() };
        let sample = reading(start + Duration::from_secs(2), 1_500, now)
            .since(&reading(start, 500, then), &last);
        let expected = Sample {
            messages_in_per_second: 5.0,
            messages_out_per_second: 40.0,
            bytes_in_per_second: 3.0,
            bytes_out_per_second: 10.0,
            latency_ms: 3.0,
            turn_ms: 0.5,
            cpu_percent: 50.0,
            resident_bytes: 7,
            connections_peak: 3,
            refusals_per_second: 2.0 * Code::ALL.len() as f64,
            refusals_per_second_by_code: [2.0; Code::ALL.len()],
        };
        assert_eq!(sample, expected);
    }

    #[test]
    fn a_quiet_second_does_not_divide_by_zero_and_keeps_the_last_latency() {
        let start = Instant::now();
        let last =
            Sample { connections_peak: 9, latency_ms: 4.0, turn_ms: 5.0, ..Sample::default() };
        let sample = reading(start, 0, ShardTotals::default())
            .since(&reading(start, 0, ShardTotals::default()), &last);
        let expected =
            Sample { resident_bytes: 7, connections_peak: 9, latency_ms: 4.0, ..Sample::default() };
        assert_eq!(sample, expected);
    }

    #[test]
    fn totals_add_up_over_all_shards() {
        let shard = |n: u64| ShardTotals {
            connections: n,
            http: 2 * n,
            members: 3 * n,
            sessions: 4 * n,
            sessions_active: 5 * n,
            messages_in: 6 * n,
            messages_out: 7 * n,
            bytes_in: 8 * n,
            bytes_out: 9 * n,
            round_trips: 10 * n,
            round_trip_micros: 11 * n,
            turns: 12 * n,
            turn_micros: 13 * n,
            refusals: std::array::from_fn(|code| code as u64 * n),
            expulsions: 14 * n,
            accepted: 15 * n,
            volatile_dropped: 16 * n,
            unsent_bytes: 17 * n,
            recovery_bytes: 18 * n,
            sessions_shed: 19 * n,
            recovery_bytes_shed: 20 * n,
            nodes: NodeCounters {
                owned: 21 * n as u32,
                branches: 22 * n as u32,
                forwards: 23 * n,
                resends: 24 * n,
                unavailable: 25 * n,
                bulletins: 26 * n,
                gaps: 27 * n,
                repairs: 28 * n,
                takeovers: 29 * n,
                step_downs: 30 * n,
                unreadable: 31 * n,
            },
        };
        assert_eq!(sum(&[shard(1), shard(10)]), shard(11));
    }

    #[test]
    fn dropping_ends_the_thread_at_once() {
        struct Nothing;
        impl Totals for Nothing {
            fn shards(&self) -> Vec<ShardTotals> {
                Vec::new()
            }
        }
        let totals = Arc::new(Nothing);
        let monitor = Monitor::start(Arc::clone(&totals) as Arc<dyn Totals>, plan(LIMITS)).unwrap();
        assert!(monitor.newest().sample.resident_bytes > 0);
        drop(monitor);
        assert_eq!(Arc::strong_count(&totals), 1);
    }

    /// A server whose shards report given measurements.
    #[derive(Default)]
    struct Made {
        shards: Mutex<Vec<ShardTotals>>,
        round_trips: Mutex<Vec<u64>>,
        pressures: Mutex<Vec<FreeMemory>>,
        queues: Mutex<Vec<Queue>>,
    }

    impl Totals for Made {
        fn shards(&self) -> Vec<ShardTotals> {
            self.shards.lock().clone()
        }

        fn collect(&self, _: usize, read: &mut dyn FnMut(&Histograms)) {
            let mut gauges = Histograms::new();
            for nanos in self.round_trips.lock().drain(..) {
                gauges.round_trip.saturating_record(nanos);
            }
            read(&gauges);
        }

        fn queues(&self) -> Vec<Queue> {
            self.queues.lock().clone()
        }

        fn set_memory(&self, memory: FreeMemory) {
            self.pressures.lock().push(memory);
        }
    }

    #[test]
    fn a_stalled_shard_raises_an_alert_and_a_turn_resets_its_count() {
        let made = Arc::new(Made::default());
        made.shards.lock().resize(2, ShardTotals::default());
        let mut watch = Watch::begin(Arc::clone(&made) as Arc<dyn Totals>, plan(LIMITS)).unwrap();
        for _ in 0..STALLED_AFTER {
            made.shards.lock()[0].turns += 1;
            watch.read();
        }
        let report = watch.newest.lock().clone();
        assert_eq!((report.status, report.alerts[0].name), (Status::Unhealthy, "shard_stalled"));
        assert_eq!((report.alerts[0].value, report.events.len(), report.stalled), (1.0, 1, 1));
        made.shards.lock().iter_mut().for_each(|shard| shard.turns += 1);
        watch.read();
        assert_eq!(watch.silent, [0, 0]);
    }

    #[test]
    fn the_fullest_queue_decides_the_alert() {
        let made = Arc::new(Made::default());
        let mut watch = Watch::begin(Arc::clone(&made) as Arc<dyn Totals>, plan(LIMITS)).unwrap();
        let queue = |name, waiting| Queue { name, waiting, capacity: 100 };
        for (waiting, status) in [(50, Status::Healthy), (51, Status::Degraded)] {
            *made.queues.lock() = vec![queue("storage", 3), queue("log", waiting), queue("x", 0)];
            watch.read();
            let report = watch.newest.lock().clone();
            assert_eq!((report.status, report.queues.len()), (status, 3));
        }
        assert_eq!(watch.newest.lock().alerts[0].name, "queue");
    }

    #[test]
    fn shards_are_informed_of_scarce_memory() {
        let made = Arc::new(Made::default());
        made.shards.lock().resize(1, ShardTotals { turns: 1, ..ShardTotals::default() });
        let limits = Limits { memory_bytes: 1, ..LIMITS };
        let mut watch = Watch::begin(Arc::clone(&made) as Arc<dyn Totals>, plan(limits)).unwrap();
        watch.read();
        let limits = Limits { memory_bytes: 1, memory_limit_bytes: 1, ..LIMITS };
        let mut full = Watch::begin(Arc::clone(&made) as Arc<dyn Totals>, plan(limits)).unwrap();
        full.read();
        assert_eq!(watch.newest.lock().memory, FreeMemory::Low);
        assert_eq!(full.newest.lock().memory, FreeMemory::Out);
        assert_eq!(*made.pressures.lock(), [FreeMemory::Low, FreeMemory::Out]);
    }

    #[test]
    fn cpu_time_is_that_of_a_whole_interval_if_one_has_ended() {
        let made = Arc::new(Made::default());
        let plan = Plan { interval: Duration::from_secs(3_600), ..plan(LIMITS) };
        let mut watch = Watch::begin(Arc::clone(&made) as Arc<dyn Totals>, plan).unwrap();
        let busy = |watch: &Watch| {
            while process::usage().cpu.total()
                < watch.interval_began.total() + Duration::from_millis(5)
            {
                std::hint::black_box(process::threads());
            }
        };
        busy(&watch);
        watch.read();
        let first = watch.newest.lock().cpu;
        assert!(first.total() >= Duration::from_millis(5), "{first:?}");
        watch.interval_ends = Instant::now();
        watch.read();
        let whole = watch.newest.lock().cpu;
        assert!(whole.total() >= first.total(), "{whole:?}");
        busy(&watch);
        watch.read();
        assert_eq!(watch.newest.lock().cpu, whole, "the running interval is not included");
    }

    #[test]
    fn an_interval_ends_with_a_row() {
        let made = Arc::new(Made::default());
        made.shards.lock().resize(1, ShardTotals { members: 8, ..ShardTotals::default() });
        let plan = Plan { interval: Duration::from_nanos(1), ..plan(LIMITS) };
        let mut watch = Watch::begin(Arc::clone(&made) as Arc<dyn Totals>, plan).unwrap();
        // Otherwise the loop over missed intervals would be long.
        watch.interval = Duration::from_secs(3_600);
        *made.round_trips.lock() = vec![7_000_000; 3];
        watch.read();
        let report = watch.newest.lock().clone();
        assert_eq!(
            (report.interval[ROUND_TRIP].count, report.shards[0].interval[ROUND_TRIP].count),
            (3, 3)
        );
        let history: serde_json::Value =
            serde_json::from_slice(&watch.history.lock().json(0, 10)).unwrap();
        let column = |name| history::FIELDS.iter().position(|field| *field == name).unwrap();
        assert_eq!(history["rows"][0][column("members")], 8);
        let p99 = history["rows"][0][column("roundTripP99")].as_f64().unwrap();
        assert!((p99 - 7.0).abs() < 0.1, "{p99}");
    }
}
