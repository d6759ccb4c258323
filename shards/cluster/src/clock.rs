//! The time of the cluster, as this node keeps it.
//!
//! All nodes follow one of them, the reference: the living node that has been in time for longest.
//! A node estimates the reference's clock from probes ([`BandClock`]) and lets its own approach it
//! ([`Course`]). The reference itself follows nobody. If it dies, the next one is followed: all
//! agree within their bounds, so nothing jumps. No wall clock has a part in it.
//!
//! The machine's clock is passed in, and nothing here waits, so tests can play any clocks.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bandsync_engine::clock::{BandClock, Course, Limits};
use bandsync_engine::io::NodeId;
use log::{info, warn};
use parking_lot::Mutex;

/// Probes at the start of an estimate, and after a connection was lost. Specified.
const PROBES_FIRST: u32 = 20;
const PROBES_AGAIN: u32 = 8;

/// Nanoseconds between two probes of these, and otherwise. Specified.
const BURST_APART: i64 = 50_000_000;
const STEADY_APART: i64 = 2_500_000_000;

/// Answers from which on an estimate is used. Guessed.
const ANSWERS_MIN: usize = 4;

/// Maximum number of probes that wait for their answers.
const ASKED_MAX: usize = 64;

/// Nanoseconds for which a new reference shows the bound that it had. Until then the other nodes
/// may follow the former one. Specified as four times what the table takes to say so.
const INHERITED: i64 = 10_000_000_000;

/// The largest bound of a node that is in time, in nanoseconds. Specified.
pub const BOUND_MAX: u64 = 5_000_000;

/// The clock of this node, as the driver has it.
pub trait Timepiece: Send + Sync + 'static {
    /// Returns the machine's monotonic clock in nanoseconds, which nobody sets.
    fn machine(&self) -> i64;

    /// Sets the course of the clock that members are served by. It is called on one thread at a
    /// time.
    fn steer(&self, course: Course);

    /// Whether no music plays on this node, so that the clock may step forward.
    fn is_quiet(&self) -> bool;
}

/// The error of this node's clock.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reading {
    /// Microseconds by which the clock is ahead of the reference's, as estimated.
    pub ahead_us: i64,
    /// The maximum error in microseconds, `ahead_us` included. It is never broken.
    pub bound_us: u64,
}

/// The node that a node follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reference {
    /// Not known yet. The clock goes on as it did.
    Unknown,
    /// The node itself.
    Own,
    /// Another node.
    Other(NodeId),
}

/// The sample of one exchange, in nanoseconds: sent and received by the own machine's clock,
/// received and sent by the reference's cluster time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Exchange {
    /// When the probe was sent.
    pub c0: i64,
    /// When the reference received it.
    pub s1: i64,
    /// When the reference answered.
    pub s2: i64,
    /// When the answer was received.
    pub c3: i64,
}

/// A probe of another node, with the machine's time at which it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The node that asks.
    pub from: NodeId,
    /// Its stamp.
    pub c0: i64,
    /// The machine's time of the arrival, in nanoseconds.
    pub arrived: i64,
}

/// An estimate of another node's cluster time. Its stamps are counted from its first sample, since
/// nanoseconds of years have no place in a float.
#[derive(Debug)]
struct Estimate {
    band: BandClock,
    machine: i64,
    shown: i64,
}

impl Estimate {
    fn new(machine: i64, shown: i64) -> Self {
        Self { band: BandClock::new(Limits::NODE), machine, shown }
    }

    /// Adds an exchange. Returns whether it shows that a clock stepped.
    fn add(&mut self, exchange: Exchange) -> bool {
        let Exchange { c0, s1, s2, c3 } = exchange;
        let own = |at: i64| millis(at.saturating_sub(self.machine));
        let other = |at: i64| millis(at.saturating_sub(self.shown));
        self.band.add(own(c0), other(s1), other(s2), own(c3))
    }

    /// Returns the reference's time at a machine's time, and its maximum error, in nanoseconds.
    fn at(&self, machine: i64) -> Option<(i64, u64)> {
        let passed = machine.saturating_sub(self.machine);
        let estimate = self.band.estimate(millis(passed))?;
        let right = self.shown.saturating_add(passed);
        let right = right.saturating_add((estimate.offset * 1e6) as i64);
        Some((right, (estimate.bound * 1e6) as u64))
    }
}

fn millis(nanos: i64) -> f64 {
    nanos as f64 / 1e6
}

/// The reason for which this node's clock is believed.
#[derive(Debug)]
enum Trust {
    /// No reason: nothing was measured.
    Nothing,
    /// The node is the reference, or was the last one. Until then it may be off by this.
    Own { bound: u64, until: i64 },
    /// The node follows this estimate.
    Estimate(Estimate),
}

/// This node's clock and its state.
pub struct Keeper {
    timepiece: Arc<dyn Timepiece>,
    state: Mutex<State>,
    /// The counter of frames about clocks.
    counter: AtomicU64,
}

#[derive(Debug)]
struct State {
    course: Course,
    /// Whether members are served, so that the clock must not jump.
    is_read: bool,
    /// Whether the clock shows any time.
    is_set: bool,
    /// Unix time of the founding in microseconds.
    founded_us: i64,
    reference: Reference,
    trust: Trust,
    /// The node that the trusted estimate is of.
    followed: Option<NodeId>,
    /// The estimate of a new reference, until there are enough answers.
    trial: Option<Estimate>,
    /// Stamps of probes without an answer.
    asked: VecDeque<i64>,
    /// Probes left of a burst.
    burst: u32,
    /// The machine's time of the next probe.
    probe_at: i64,
    /// Cluster time in microseconds since when this node has been in time without a break; 0 if it
    /// is not.
    since: u64,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Creates the state of a clock that shows no time yet.
    pub fn new(timepiece: Arc<dyn Timepiece>) -> Self {
        let state = State {
            course: Course::default(),
            is_read: false,
            is_set: false,
            founded_us: 0,
            reference: Reference::Unknown,
            trust: Trust::Nothing,
            followed: None,
            trial: None,
            asked: VecDeque::new(),
            burst: 0,
            probe_at: i64::MIN,
            since: 0,
        };
        Self { timepiece, state: Mutex::new(state), counter: AtomicU64::new(1) }
    }

    /// Returns the machine's clock, in nanoseconds.
    pub fn machine(&self) -> i64 {
        self.timepiece.machine()
    }

    /// Returns the cluster time at a machine's time, in nanoseconds.
    pub fn shown(&self, machine: i64) -> i64 {
        self.state.lock().course.read(machine)
    }

    /// Returns the cluster time now in microseconds; 0 if it is not known.
    pub fn now_us(&self) -> u64 {
        let machine = self.machine();
        let state = self.state.lock();
        if state.is_set { state.micros(machine) } else { 0 }
    }

    /// Returns the Unix time that follows from the founding, in milliseconds: the same on all
    /// nodes, whatever their wall clocks say.
    pub fn unix_ms(&self) -> u64 {
        let founded = self.state.lock().founded_us;
        (founded.max(0) as u64).saturating_add(self.now_us()) / 1_000
    }

    /// Returns the counter of the next frame.
    pub fn next_counter(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// Cluster time in microseconds since when this node has been in time; 0 if it is not.
    pub fn since(&self) -> u64 {
        self.state.lock().since
    }

    /// Returns the error of the clock now; none if nothing is known of it.
    pub fn reading(&self) -> Option<Reading> {
        self.state.lock().reading(self.machine())
    }

    /// Whether the clock is known well enough for members.
    pub fn is_in_time(&self) -> bool {
        self.reading().is_some_and(|reading| reading.bound_us * 1_000 <= BOUND_MAX)
    }

    /// Whether other nodes may follow this one: it is the reference, and its clock glides no more.
    pub fn is_reference(&self) -> bool {
        let machine = self.machine();
        let mut state = self.state.lock();
        if state.reference == Reference::Own && !state.course.is_straight(machine) {
            self.release(&mut state, machine);
        }
        state.reference == Reference::Own && state.course.is_straight(machine)
    }

    /// Sets the clock before anybody reads it: the time of the cluster, whose founding was at
    /// `founded_us`, is about `shown` at the machine's time.
    pub fn set(&self, founded_us: i64, machine: i64, shown: i64) {
        let mut state = self.state.lock();
        (state.founded_us, state.is_set) = (founded_us, true);
        state.course = Course::starting(machine, shown, 0.0);
        self.timepiece.steer(state.course);
    }

    /// Notes that members are served from now on: the clock runs on without a jump.
    pub fn serve(&self) {
        self.state.lock().is_read = true;
    }

    /// Follows this node from now on.
    pub fn follow(&self, reference: Reference) {
        let machine = self.machine();
        let mut state = self.state.lock();
        if reference == state.reference {
            return;
        }
        state.reference = reference;
        (state.trial, state.burst) = (None, 0);
        state.asked.clear();
        match reference {
            Reference::Unknown => {}
            Reference::Own => {
                info!("this node's clock is that of the cluster now");
                let bound = state.reading(machine).map_or(0, |reading| reading.bound_us * 1_000);
                if !matches!(state.trust, Trust::Own { .. }) {
                    let until = machine.saturating_add(INHERITED);
                    state.trust = Trust::Own { bound, until };
                }
                self.release(&mut state, machine);
                if state.since == 0 {
                    state.since = state.micros(machine);
                }
            }
            Reference::Other(node) => {
                info!("this node's clock follows that of node {node}");
                (state.burst, state.probe_at) = (PROBES_FIRST, machine);
                if state.followed != Some(node) || !matches!(state.trust, Trust::Estimate(_)) {
                    let shown = state.course.read(machine);
                    state.trial = Some(Estimate::new(machine, shown));
                }
            }
        }
    }

    /// Ends a glide: the clock goes on from what it shows. If the last bend is too near, it glides
    /// on, and a later call ends that.
    fn release(&self, state: &mut State, machine: i64) {
        if let Some(course) = state.course.released(machine) {
            state.course = course;
            self.timepiece.steer(course);
        }
    }

    /// Notes that this node's lease has ended: others may follow another node meanwhile, and the
    /// machine may have slept. It follows others before it is followed again.
    pub fn lapse(&self) {
        let mut state = self.state.lock();
        state.since = 0;
        if state.reference == Reference::Own {
            state.reference = Reference::Unknown;
        }
    }

    /// Asks for some more probes at once: a connection was lost, so paths may be others.
    pub fn refresh(&self) {
        let machine = self.machine();
        let mut state = self.state.lock();
        state.burst = state.burst.max(PROBES_AGAIN);
        state.probe_at = state.probe_at.min(machine);
    }

    /// Returns the machine's time of the next probe; none while nobody is followed.
    pub fn next_probe(&self) -> Option<i64> {
        let state = self.state.lock();
        matches!(state.reference, Reference::Other(_)).then_some(state.probe_at)
    }

    /// Takes the probe that is due, if any. Returns its receiver and its stamp.
    pub fn take_probe(&self) -> Option<(NodeId, i64)> {
        let mut state = self.state.lock();
        let Reference::Other(node) = state.reference else { return None };
        let machine = self.machine();
        if machine < state.probe_at {
            return None;
        }
        state.burst = state.burst.saturating_sub(1);
        let is_urgent = state.burst > 0 || state.trial.is_some();
        let apart = if is_urgent { BURST_APART } else { STEADY_APART };
        state.probe_at = machine.saturating_add(apart);
        if state.asked.len() >= ASKED_MAX {
            state.asked.pop_front();
        }
        state.asked.push_back(machine);
        Some((node, machine))
    }

    /// Handles the answer to a probe. Others than the one that was asked are not believed.
    pub fn answered(&self, from: NodeId, exchange: Exchange) {
        let mut state = self.state.lock();
        if state.reference != Reference::Other(from) {
            return;
        }
        let Some(place) = state.asked.iter().position(|c0| *c0 == exchange.c0) else { return };
        state.asked.remove(place);
        let State { trial, trust, .. } = &mut *state;
        let has_stepped = match (trial, trust) {
            (Some(estimate), _) | (None, Trust::Estimate(estimate)) => estimate.add(exchange),
            _ => return,
        };
        if has_stepped {
            (state.burst, state.probe_at) = (state.burst.max(PROBES_AGAIN), exchange.c3);
        }
        let is_known =
            state.trial.as_ref().is_some_and(|estimate| estimate.band.samples() >= ANSWERS_MIN);
        if is_known && let Some(estimate) = state.trial.take() {
            (state.trust, state.followed) = (Trust::Estimate(estimate), Some(from));
        }
        self.approach(&mut state);
    }

    /// Lets the clock approach the trusted estimate.
    fn approach(&self, state: &mut State) {
        let Trust::Estimate(estimate) = &state.trust else { return };
        if state.trial.is_some() {
            return;
        }
        let (machine, skew) = (self.machine(), estimate.band.skew());
        let Some((right, _)) = estimate.at(machine) else { return };
        let next = if state.is_read {
            let aim = |at| estimate.at(at).map_or(right, |(right, _)| right);
            let may_step = self.timepiece.is_quiet();
            state.course.toward(machine, aim, skew, may_step)
        } else {
            Some(Course::starting(machine, right, skew))
        };
        // If the last bend is too near, the next answer tries again.
        if let Some(course) = next {
            state.course = course;
            self.timepiece.steer(course);
        }
        state.note_in_time(machine);
    }
}

impl State {
    fn reading(&self, machine: i64) -> Option<Reading> {
        match &self.trust {
            Trust::Nothing => None,
            Trust::Own { bound, until } => {
                let bound = if machine < *until { *bound } else { 0 };
                Some(Reading { ahead_us: 0, bound_us: bound.div_ceil(1_000) })
            }
            Trust::Estimate(estimate) => {
                let (right, bound) = estimate.at(machine)?;
                let ahead = self.course.read(machine).saturating_sub(right);
                let bound = bound.saturating_add(ahead.unsigned_abs());
                Some(Reading { ahead_us: ahead / 1_000, bound_us: bound.div_ceil(1_000) })
            }
        }
    }

    /// Notes since when this node is in time.
    fn note_in_time(&mut self, machine: i64) {
        let is_in_time =
            self.reading(machine).is_some_and(|reading| reading.bound_us * 1_000 <= BOUND_MAX);
        if self.since == 0 && self.trial.is_none() && is_in_time {
            self.since = self.micros(machine);
        }
    }

    fn micros(&self, machine: i64) -> u64 {
        (self.course.read(machine) / 1_000).max(1) as u64
    }
}

/// The node to follow, as a node finds it in the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Choice {
    /// Itself.
    Own,
    /// Another node.
    Other(NodeId),
    /// Nobody is in time: this node is the first to go on by what it knows.
    First,
    /// Nobody is in time, and another node is the first to be.
    Wait,
}

/// Chooses the reference among the living nodes: the smallest of those that are in time, by since
/// when and number. `others` have 0 if they are not.
pub fn choose(number: u16, since: u64, others: impl Iterator<Item = (NodeId, u64)>) -> Choice {
    let (mut best, mut is_first) = (None, true);
    for (node, since) in others {
        if since > 0 {
            let other = (since, node.number, node);
            best = Some(best.map_or(other, |best: (u64, u16, NodeId)| best.min(other)));
        } else {
            is_first &= number < node.number;
        }
    }
    match best {
        Some(best) if since == 0 || (best.0, best.1) < (since, number) => Choice::Other(best.2),
        _ if since > 0 => Choice::Own,
        _ if is_first => Choice::First,
        _ => Choice::Wait,
    }
}

/// Follows the node that was chosen.
pub fn take(keeper: &Keeper, choice: Choice) {
    match choice {
        Choice::Own | Choice::First => keeper.follow(Reference::Own),
        Choice::Other(node) => keeper.follow(Reference::Other(node)),
        Choice::Wait => keeper.follow(Reference::Unknown),
    }
}

/// Logs that the clock is not known.
pub fn complain() {
    warn!(
        "the clock of the cluster is not known: no node answers probes. Members of other nodes may \
         hear the beat at another time. Check the network to Redis"
    );
}

/// A message about clocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message {
    /// Asks for the time. `c0` is the sender's stamp.
    Probe {
        /// The sender's stamp.
        c0: i64,
    },
    /// Answers a probe by the cluster time.
    Echo {
        /// The stamp of the probe.
        c0: i64,
        /// When it was received.
        s1: i64,
        /// When it is answered.
        s2: i64,
    },
}

const PROBE: u8 = 15;
const ECHO: u8 = 16;

impl Message {
    /// The message as it is sent.
    pub fn print(self) -> Vec<u8> {
        let (kind, words) = match self {
            Self::Probe { c0 } => (PROBE, vec![c0]),
            Self::Echo { c0, s1, s2 } => (ECHO, vec![c0, s1, s2]),
        };
        let words = words.into_iter().flat_map(i64::to_le_bytes);
        std::iter::once(kind).chain(words).collect()
    }

    /// Reads a message.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (words, left) = rest.as_chunks::<8>();
        if !left.is_empty() {
            return None;
        }
        let word = |at: usize| words.get(at).copied().map(i64::from_le_bytes);
        match (*kind, words.len()) {
            (PROBE, 1) => Some(Self::Probe { c0: word(0)? }),
            (ECHO, 3) => Some(Self::Echo { c0: word(0)?, s1: word(1)?, s2: word(2)? }),
            _ => None,
        }
    }
}
