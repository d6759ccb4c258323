//! The schedule of a world: the time, one heap of events, and the rhythm of the shards.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::plan::Plan;
use super::rng::SimRng;

/// The time at which a world begins, in microseconds.
pub const BEGIN: u64 = 1_000_000;

/// Time between two checks of a member on its own state, in microseconds.
pub const LOOK: u64 = 400_000;

/// Number of events at one instant above which the world must be in a loop.
const BUSY_MAX: u64 = 200_000;

/// An event of the world. Events at the same time happen in the order in which they were posted;
/// the order of the variants does not matter.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Event {
    /// A connection reaches the server's listener.
    Door(usize, u16),
    /// Bytes may have arrived at the server.
    Up(usize),
    /// Bytes may have arrived at the client.
    Down(usize),
    Turn(u16),
    Look(u16),
    LookPolled(u16),
    /// A member may have to probe the server's clock.
    Probe(u16),
    Step(usize),
    /// The storage is available again.
    Back,
    /// Memory is available again.
    Relief,
}

/// The times of a shard's turns.
pub struct Rhythm {
    pub turn_at: Option<u64>,
    pub frozen_until: u64,
    /// The last time at which a turn came so late that the shard saw punctual input too late.
    pub late_at: u64,
    pub luck: SimRng,
}

/// The time, and all scheduled events.
pub struct Agenda {
    /// The time in microseconds.
    pub now: u64,
    /// Whether the world is calm: no new faults occur.
    pub calm: bool,
    /// Rhythms of the shards.
    pub rhythms: Vec<Rhythm>,
    heap: BinaryHeap<Reverse<(u64, u64, Event)>>,
    posted: u64,
    /// Number of events since the time last moved.
    busy: u64,
    /// Maximum delay of a turn, in microseconds.
    late: u64,
}

impl Agenda {
    pub fn new(plan: &Plan) -> Self {
        let rhythm = |id: u16| Rhythm {
            turn_at: None,
            frozen_until: 0,
            late_at: 0,
            luck: SimRng::new(plan.seed, 100 + u64::from(id)),
        };
        Self {
            now: BEGIN,
            calm: false,
            rhythms: (0..plan.shape.shards).map(rhythm).collect(),
            heap: BinaryHeap::new(),
            posted: 0,
            busy: 0,
            late: plan.shape.driver.late,
        }
    }

    /// Schedules an event.
    pub fn post(&mut self, at: u64, event: Event) {
        self.posted += 1;
        self.heap.push(Reverse((at.max(self.now), self.posted, event)));
    }

    /// Takes the next event, if its time is at most `end`, and moves the time to it.
    pub fn next(&mut self, end: u64) -> Option<Event> {
        let Reverse((at, _, event)) = self.heap.peek().copied()?;
        if at > end {
            return None;
        }
        self.heap.pop();
        self.busy = if at == self.now { self.busy + 1 } else { 0 };
        self.now = at;
        Some(event)
    }

    /// Whether so many events happened at one instant that the world must be in a loop.
    pub fn is_stuck(&self) -> bool {
        self.busy > BUSY_MAX
    }

    /// Schedules a turn of a shard at `at` or soon after.
    pub fn wake(&mut self, shard: u16, at: u64) {
        let rhythm = &mut self.rhythms[usize::from(shard)];
        let late = if self.late == 0 || self.calm { 0 } else { rhythm.luck.below(self.late) };
        let at = (at.max(self.now) + late).max(rhythm.frozen_until);
        if rhythm.turn_at.is_none_or(|next| at < next) {
            rhythm.turn_at = Some(at);
            self.post(at, Event::Turn(shard));
        }
    }

    /// Schedules a turn of every shard now.
    pub fn wake_all(&mut self) {
        for shard in 0..self.rhythms.len() {
            self.wake(shard as u16, self.now);
        }
    }

    /// Stops a shard for a while.
    pub fn freeze(&mut self, shard: u16, time: u64) {
        let until = self.now + time;
        let rhythm = &mut self.rhythms[usize::from(shard)];
        rhythm.frozen_until = rhythm.frozen_until.max(until);
        // The shard sees the input of the meantime, such as pongs and connections, late.
        rhythm.late_at = rhythm.late_at.max(until);
        // The scheduled turn is moved to the end of the stop.
        rhythm.turn_at = None;
        self.wake(shard, until);
    }

    /// Lets stopped shards continue.
    pub fn thaw(&mut self) {
        for shard in 0..self.rhythms.len() {
            self.rhythms[shard].frozen_until = self.now;
            self.wake(shard as u16, self.now);
        }
    }

    /// Restarts the rhythm of a shard that has died. Its random numbers continue.
    pub fn restart(&mut self, shard: u16) {
        let rhythm = &mut self.rhythms[usize::from(shard)];
        (rhythm.turn_at, rhythm.frozen_until, rhythm.late_at) = (None, 0, 0);
        self.wake(shard, self.now);
    }

    /// Returns the last time at which a turn of any shard came too late.
    pub fn late_at(&self) -> u64 {
        self.rhythms.iter().map(|rhythm| rhythm.late_at).max().unwrap_or_default()
    }
}
