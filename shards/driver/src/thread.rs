//! A shard's thread: sleeps until something happens or is due, and runs a turn.
//!
//! [`ThreadShell`] is the shell of the turn in a server: the clock, the mailboxes of the other
//! shards, the host that answers and stores, and the metrics that other threads read.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bandsync_engine::io::report::{Manner, Sample};
use bandsync_engine::io::tap::Tap;
use bandsync_engine::io::{
    FreeMemory, HttpRequest, HttpResponse, Input, NodeNews, Outputs, StorageEvent,
};
use bandsync_engine::words::ids::{ConnId, ShardId};
use bandsync_engine::words::time::Micros;
use log::Level;
use mio::net::TcpStream;
use mio::{Events, Poll};

use crate::clock::Clock;
use crate::host::{Asker, Host, NodeOrder, Order};
use crate::laps::LongestTurn;
use crate::machine::Machine;
use crate::mail::{Mail, Mailbox, Outbox};
use crate::metrics::{SharedMetrics, Stats};
use crate::mio_net::{MioNet, TIMER, readiness};
use crate::net::{Process, Shell};
use crate::shutdown::{LiveGuard, Shutdown};
use crate::telemetry::{COLLECT_INTERVAL, Histograms};
use crate::timer_fd::TimerFd;
use crate::tls::Tls;
use crate::turn::{Turn, TurnSizes};

/// Maximum number of reports that one call to epoll returns. Each may cause a send of 8 µs, if the
/// sockets of many slow readers have room at once. Reports beyond it come first in the next turn.
const EVENTS_MAX: usize = 128;

/// Delay before posting to a full mailbox is retried, if no turn comes earlier.
const POST_RETRY: Micros = Micros::from_millis(1);

/// Interval at which the wall clock is compared with the server's clock.
const WALL_INTERVAL: Micros = Micros::from_secs(10);

/// Interval at which the thread returns free memory to the system while no band plays.
///
/// The allocator does so only when memory is allocated, which may be never: for example after ten
/// thousand members have joined at once and wait for the music. Returning takes some milliseconds,
/// so it must not happen while a band plays.
const TRIM_INTERVAL: Micros = Micros::from_secs(30);

/// Minimum step of the wall clock that is reported to the machine, in microseconds.
const WALL_STEP: u64 = 2_000;

/// The state of a shard's thread.
pub(crate) struct Thread<M: Machine> {
    pub(crate) id: ShardId,
    turn: Turn<MioNet, M>,
    net: MioNet,
    shell: ThreadShell<M::Counters>,
    timer: TimerFd,
    /// Whether the machine's counters must still be published, because they were being read.
    unpublished: bool,
    /// Whether the other shards were woken because all may end.
    told_end: bool,
    /// The last reading of the clock.
    now: Micros,
}

/// The parts that a shard is made of.
pub(crate) struct Parts<M: Machine> {
    pub(crate) id: ShardId,
    pub(crate) clock: Clock,
    pub(crate) machine: M,
    pub(crate) tap: Box<dyn Tap>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) metrics: Arc<SharedMetrics<M::Counters>>,
    pub(crate) shutdown: Arc<Shutdown>,
    pub(crate) mailbox: Mailbox,
    pub(crate) outbox: Outbox,
    pub(crate) read_bytes: usize,
    /// The time in which a turn should end.
    pub(crate) turn_budget: Micros,
    /// Whether sends go through io_uring, if the kernel has it.
    pub(crate) ring: bool,
    /// TLS on all connections, if the server has a certificate.
    pub(crate) tls: Option<Tls>,
}

/// The way in which a shard ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Everything was drained.
    Drained,
    /// The time was over, and the remaining connections were cut off.
    Cut {
        /// Number of connections on this shard, or waiting to leave it.
        connections: usize,
    },
    /// The shard panicked. The other shards were asked to drain.
    Panicked,
}

impl<M: Machine> Thread<M> {
    pub(crate) fn new(parts: Parts<M>, poll: Poll, listener: TcpListener) -> io::Result<Self> {
        let Parts { id, clock, machine, tap, host, metrics, shutdown, mailbox, outbox, .. } = parts;
        let timer = TimerFd::new(clock, poll.registry(), TIMER)?;
        let mut net = MioNet::new(poll, listener, parts.ring)?;
        if let Some(tls) = parts.tls {
            net.secure(tls);
        }
        let now = clock.now();
        let sizes =
            TurnSizes { read_bytes: parts.read_bytes, ..TurnSizes::within(parts.turn_budget) };
        let histograms = metrics.histograms(id).empty().unwrap_or_default();
        let shell = ThreadShell {
            id,
            clock,
            tap,
            host,
            metrics,
            shutdown,
            mailbox,
            outbox,
            woken: false,
            mail_waits: false,
            wall: Wall { reported: clock.started_unix_micros(), next: now + WALL_INTERVAL },
            until: None,
            histograms,
            collect_at: now + COLLECT_INTERVAL,
            trim_at: now + TRIM_INTERVAL,
            memory: FreeMemory::Enough,
        };
        let turn = Turn::new(id, machine, sizes);
        Ok(Self { id, turn, net, shell, timer, unpublished: false, told_end: false, now })
    }

    /// Runs until everything has drained, or the time for that is over.
    pub(crate) fn run(mut self) -> End {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            self.sleep(&mut events);
            let reports = events.iter().filter_map(readiness);
            self.turn.run(&mut self.net, &mut self.shell, reports);
            self.finish_turn();
            if let Some(end) = self.end() {
                return end;
            }
        }
    }

    /// Sleeps until something happens or is due.
    fn sleep(&mut self, events: &mut Events) {
        let deadline = self.next_deadline();
        let busy = self.has_work() || deadline.is_some_and(|deadline| deadline <= self.now);
        if !busy {
            let result = self.timer.set(deadline);
            assert!(result.is_ok(), "the timer cannot be set: {result:?}");
        }
        self.net.poll(events, busy.then_some(Duration::ZERO));
    }

    /// Whether work is left for which nothing will wake the thread.
    fn has_work(&self) -> bool {
        let unposted = self.shell.outbox.len();
        self.turn.has_work(unposted) || self.net.has_work() || self.shell.mail_waits
    }

    /// Returns the time at which to wake if nothing happens.
    fn next_deadline(&self) -> Option<Micros> {
        let retry = !self.shell.outbox.is_empty() || self.unpublished;
        let all = [
            self.turn.next_deadline(),
            Some(self.shell.wall.next),
            Some(self.shell.collect_at),
            self.net.next_deadline(),
            retry.then(|| self.now + POST_RETRY),
            self.shell.until,
        ];
        all.into_iter().flatten().min()
    }

    /// Publishes the counters, the log lines and the measurements of the turn.
    fn finish_turn(&mut self) {
        let began = self.turn.began();
        self.timer.passed(Micros::from_micros(began / 1_000));
        let counters = self.turn.machine().counters();
        self.unpublished = !self.shell.metrics.publish(self.id, counters);
        let nanos = self.shell.clock.nanos();
        self.now = Micros::from_micros(nanos / 1_000);
        let took = self.now.since(Micros::from_micros(began / 1_000)).as_micros();
        let stats = self.shell.metrics.stats(self.id);
        stats.turns.add(1);
        stats.turn_time.add(took);
        stats.turn_time_max.see(took);
        self.log_departures();
        self.measure(nanos, nanos.saturating_sub(began));
    }

    /// Records the measurements of the turn that ended at a reading of the clock. Once a second, offers them to the collecting thread,
    /// with a roster if one is wanted.
    fn measure(&mut self, ended_nanos: u64, took_nanos: u64) {
        let histograms = &mut *self.shell.histograms;
        histograms.turn.saturating_record(took_nanos);
        if took_nanos > histograms.longest_turn.nanos {
            let (phase, phase_nanos) = self.turn.longest_phase(ended_nanos);
            histograms.longest_turn = LongestTurn { nanos: took_nanos, phase, phase_nanos };
        }
        self.turn.machine_mut().samples(|what, value| {
            let histogram = match what {
                Sample::TickLateness => &mut histograms.tick_lateness,
                Sample::RoundTrip => &mut histograms.round_trip,
            };
            histogram.saturating_record(value.as_micros().saturating_mul(1_000));
        });
        let shell = &mut self.shell;
        if self.now < shell.collect_at {
            return;
        }
        shell.collect_at = self.now + COLLECT_INTERVAL;
        if self.now >= shell.trim_at && shell.histograms.tick_lateness.is_empty() {
            shell.trim_at = self.now + TRIM_INTERVAL;
            shell.host.trim();
        }
        shell.metrics.histograms(self.id).swap(&mut shell.histograms);
        shell.metrics.write_roster(self.id, self.now, |out| self.turn.machine().roster(out));
    }

    /// Logs which connections ended and why. Operators look for this when a member reports that a
    /// tablet lost the band.
    fn log_departures(&mut self) {
        self.turn.machine_mut().disconnects(|disconnect| {
            let (conn, peer, why) = (disconnect.conn, disconnect.peer, disconnect.why);
            let (level, side) = match disconnect.manner {
                Manner::ByClient => (Level::Debug, "client"),
                Manner::ByServer => (Level::Info, "server"),
                // Logged without the connection, so that the log can count equal lines.
                Manner::Misconfigured => return log::warn!(peer:%; "{why}"),
            };
            match disconnect.session {
                Some(session) => {
                    log::log!(
                        level, conn:%, session = session.as_str(), peer:%;
                        "connection closed by {side}: {why}"
                    );
                }
                None => log::log!(level, conn:%, peer:%; "connection closed by {side}: {why}"),
            }
        });
    }

    /// Returns the way in which the shard has ended, if it has.
    fn end(&mut self) -> Option<End> {
        let until = self.shell.until?;
        if self.shell.shutdown.is_quiet() {
            if !std::mem::replace(&mut self.told_end, true) {
                self.shell.outbox.wake_all();
            }
            if self.turn.machine().is_drained() {
                return Some(End::Drained);
            }
        }
        let connections = self.turn.connections() + self.shell.outbox.len();
        (self.now >= until).then_some(End::Cut { connections })
    }
}

/// The shell of a turn in a server.
struct ThreadShell<C> {
    id: ShardId,
    clock: Clock,
    tap: Box<dyn Tap>,
    host: Arc<dyn Host>,
    metrics: Arc<SharedMetrics<C>>,
    shutdown: Arc<Shutdown>,
    mailbox: Mailbox,
    outbox: Outbox,
    /// Whether the waker woke the shard in this turn.
    woken: bool,
    /// Whether mail may be waiting for which no wake-up will come.
    mail_waits: bool,
    wall: Wall,
    /// The time by which to end, if the end was asked for.
    until: Option<Micros>,
    /// The histograms that are being filled.
    histograms: Box<Histograms>,
    /// The time at which the histograms are offered next.
    collect_at: Micros,
    /// The time at which free memory is returned next.
    trim_at: Micros,
    /// The memory that is left, as last reported to the machine.
    memory: FreeMemory,
}

/// The machine's knowledge of the wall clock.
#[derive(Debug)]
struct Wall {
    /// Unix time at the server's start in microseconds, as last reported.
    reported: i64,
    /// The time of the next comparison.
    next: Micros,
}

impl<C: Copy + Default> ThreadShell<C> {
    /// Returns the Unix time at the server's start in milliseconds, if the wall clock was set.
    fn wall_clock_change(&mut self, now: Micros) -> Option<i64> {
        if now < self.wall.next {
            return None;
        }
        self.wall.next = now + WALL_INTERVAL;
        let started = self.clock.started_unix_micros();
        (started.abs_diff(self.wall.reported) >= WALL_STEP).then(|| {
            self.wall.reported = started;
            started.div_euclid(1_000)
        })
    }

    /// Returns the memory that is left, if that changed. While memory is scarce, repeats it each
    /// second.
    fn memory_change(&mut self, now: Micros) -> Option<FreeMemory> {
        let memory = self.metrics.memory();
        let again = memory != FreeMemory::Enough && now >= self.collect_at;
        (memory != self.memory || again).then(|| {
            self.memory = memory;
            memory
        })
    }
}

impl<M: Machine> Shell<MioNet, M> for ThreadShell<M::Counters> {
    fn nanos(&mut self) -> u64 {
        self.clock.nanos()
    }

    fn stats(&self) -> &Stats {
        self.metrics.stats(self.id)
    }

    fn input(&mut self, at: Micros, input: &Input<'_>, _: &M) {
        self.tap.input(at, input);
    }

    fn outputs(&mut self, outputs: &Outputs, from: usize, _: &M) {
        self.tap.outputs(outputs, from);
    }

    fn measured(&mut self, nanos: u64) {
        self.histograms.handler.saturating_record(nanos);
    }

    fn enter(&mut self) -> LiveGuard {
        self.shutdown.enter()
    }

    fn report_mailbox(&mut self) {
        self.woken = true;
    }

    fn open_mailbox(&mut self, most: usize, mut open: impl FnMut(&mut Self) -> bool) {
        let woken = std::mem::take(&mut self.woken);
        if !woken && !self.mail_waits {
            return;
        }
        let waiting = self.mailbox.len() as u64;
        if waiting > 0 {
            self.histograms.queue.saturating_record(waiting);
            self.metrics.stats(self.id).mail_max.see(waiting);
        }
        self.mail_waits = self.mailbox.notifier().take_mail(woken, most, || open(self));
    }

    fn mail(&mut self) -> Option<Mail<TcpStream>> {
        self.mailbox.take()
    }

    fn storage(&mut self) -> Option<StorageEvent> {
        self.mailbox.take_event()
    }

    fn node(&mut self) -> Option<NodeNews> {
        self.mailbox.take_news()
    }

    fn late_answer(&mut self) -> Option<(ConnId, HttpResponse)> {
        self.mailbox.take_answer()
    }

    fn post(&mut self, to: ShardId, mail: Mail<TcpStream>) {
        self.outbox.put(to, mail);
    }

    fn deliver(&mut self) {
        let put_off = self.outbox.post();
        self.metrics.stats(self.id).mailbox_full.add(put_off as u64);
    }

    fn unposted(&self) -> usize {
        self.outbox.len()
    }

    fn process(&mut self, now: Micros) -> Process {
        let started_unix_ms = self.wall_clock_change(now);
        let memory = self.memory_change(now);
        self.until = self.shutdown.until();
        Process { started_unix_ms, memory, drain: self.until.is_some() }
    }

    fn trim(&mut self) {
        self.host.trim();
    }

    fn stopped(&mut self) {
        self.shutdown.stopped(self.id);
    }

    fn answer(&mut self, asker: Asker, request: &HttpRequest) -> Option<HttpResponse> {
        self.host.answer(asker, request)
    }

    fn store(&mut self, order: Order<'_>) -> bool {
        self.host.store(self.id, order)
    }

    fn tell_nodes(&mut self, order: NodeOrder<'_>) -> bool {
        self.host.tell_nodes(self.id, order)
    }
}
