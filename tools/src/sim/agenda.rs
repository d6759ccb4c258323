//! What happens when: the time, one heap of events, and the rhythm of the shards.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::plan::Plan;
use super::rng::SimRng;

/// The time at which a world begins, in microseconds.
pub const BEGIN: u64 = 1_000_000;

/// Between two looks of a member at its own affairs.
pub const LOOK: u64 = 400_000;

/// More events than this at one instant are a loop.
const BUSY_MAX: u64 = 200_000;

/// Something that happens. The order of the variants decides nothing: of two at one time the one
/// posted first is first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Event {
    /// A connection reaches the server's door.
    Door(usize, u16),
    /// Bytes may have arrived at the server.
    Up(usize),
    /// Bytes may have arrived at the client.
    Down(usize),
    Turn(u16),
    Look(u16),
    LookPolled(u16),
    /// A member may want to know the time.
    Probe(u16),
    Step(usize),
    /// The storage is back.
    Back,
    /// There is memory again.
    Relief,
}

/// When a shard takes its turns.
pub struct Rhythm {
    pub turn_at: Option<u64>,
    pub frozen_until: u64,
    /// When a turn last came so late that what clients did in time was seen too late.
    pub late_at: u64,
    pub luck: SimRng,
}

/// The time, and everything that is to happen.
pub struct Agenda {
    /// Microseconds.
    pub now: u64,
    /// Whether nothing goes wrong by itself any more.
    pub calm: bool,
    /// Rhythms of the shards.
    pub rhythms: Vec<Rhythm>,
    heap: BinaryHeap<Reverse<(u64, u64, Event)>>,
    posted: u64,
    /// Events since time last moved.
    busy: u64,
    /// How late a turn may come.
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

    /// Has something happen.
    pub fn post(&mut self, at: u64, event: Event) {
        self.posted += 1;
        self.heap.push(Reverse((at.max(self.now), self.posted, event)));
    }

    /// The next event, if one comes until then; it is its time now.
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

    /// Whether so much happens at one instant that it must be a loop.
    pub fn is_stuck(&self) -> bool {
        self.busy > BUSY_MAX
    }

    /// Has a shard take a turn at `at` or soon after.
    pub fn wake(&mut self, shard: u16, at: u64) {
        let rhythm = &mut self.rhythms[usize::from(shard)];
        let late = if self.late == 0 || self.calm { 0 } else { rhythm.luck.below(self.late) };
        let at = (at.max(self.now) + late).max(rhythm.frozen_until);
        if rhythm.turn_at.is_none_or(|next| at < next) {
            rhythm.turn_at = Some(at);
            self.post(at, Event::Turn(shard));
        }
    }

    /// Has all shards take a turn now.
    pub fn wake_all(&mut self) {
        for shard in 0..self.rhythms.len() {
            self.wake(shard as u16, self.now);
        }
    }

    /// A shard stands still for a while.
    pub fn freeze(&mut self, shard: u16, time: u64) {
        let until = self.now + time;
        let rhythm = &mut self.rhythms[usize::from(shard)];
        rhythm.frozen_until = rhythm.frozen_until.max(until);
        // What came meanwhile, such as a pong or a connection, is taken in late.
        rhythm.late_at = rhythm.late_at.max(until);
        // The turn that was to come comes when the shard wakes.
        rhythm.turn_at = None;
        self.wake(shard, until);
    }

    /// Shards that stand still go on.
    pub fn thaw(&mut self) {
        for shard in 0..self.rhythms.len() {
            self.rhythms[shard].frozen_until = self.now;
            self.wake(shard as u16, self.now);
        }
    }

    /// A shard has died and begins anew. Its luck goes on.
    pub fn restart(&mut self, shard: u16) {
        let rhythm = &mut self.rhythms[usize::from(shard)];
        (rhythm.turn_at, rhythm.frozen_until, rhythm.late_at) = (None, 0, 0);
        self.wake(shard, self.now);
    }

    /// When a turn last came too late, on whichever shard.
    pub fn late_at(&self) -> u64 {
        self.rhythms.iter().map(|rhythm| rhythm.late_at).max().unwrap_or_default()
    }
}
