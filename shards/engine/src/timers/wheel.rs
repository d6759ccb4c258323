//! The hashed timing wheel: every timer of a shard, set, cancelled and fired in constant time.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU64;

use crate::slots::ChunkedVec;
use crate::words::time::Micros;

/// Slots are 1.024 ms wide: a power of two, so that finding one is a shift, and narrow enough that
/// 1 000 sessions ticking every 8 ms put some 125 timers into one.
const SLOT_WIDTH_BITS: u32 = 10;

/// One round is 33.5 s: longer than the 2.5 to 25 s that nearly every timer (heartbeat, time-out)
/// waits, so that a slot rarely holds anything of a later round. The heads of the lists take 128
/// KiB a shard.
const SLOT_COUNT: usize = 1 << 15;

/// Ends a list.
const NONE: u32 = u32::MAX;

/// Number of cancelled timers in the near heap from which it is cleaned up. Guessed.
const STALE_MIN: usize = 64;

/// Timers with a payload. They fire in order of deadline; timers with equal deadlines fire in the
/// order in which they were set.
///
/// The wheel has no clock: its caller passes the time. The present *slot time* (time divided by the
/// slot width) divides the timers:
///
/// - Timers up to and including it are *near*: due within a millisecond, or late. A heap orders
///   them, so firing one costs the logarithm of the number of timers in that millisecond.
/// - Timers after it lie in the slot `slot time mod SLOT_COUNT`, unordered, together with those of
///   later rounds. The lists are linked through the entries themselves (by index, in both
///   directions), so a cancel unlinks in constant time and no slot owns memory. A `Vec` per slot
///   would keep its largest burst for ever, 32 768 times.
///
/// Memory is one entry per timer, at the highest number of timers so far. The wheel sets no bound:
/// each caller holds a bounded number of timers. In steady state nothing is allocated.
#[derive(Debug)]
pub struct Wheel<T> {
    entries: ChunkedVec<Entry<T>>,
    /// The first vacant entry. The others follow by `next`.
    vacant: u32,
    /// The first entry of each slot.
    heads: Box<[u32]>,
    /// One bit per slot that is not empty. Finding the next one reads at most 4 KiB.
    occupied: Box<[u64]>,
    /// The slot time up to which timers are near.
    reached: u64,
    /// `(deadline, set, entry)`, the first to fire on top. The top is never a cancelled one.
    near: BinaryHeap<Reverse<(Micros, NonZeroU64, u32)>>,
    /// Number of cancelled timers still in `near`.
    stale: usize,
    /// Number of timers in slots.
    waiting: usize,
    /// The earliest deadline in the slots, known until its timer leaves.
    earliest: Cell<Earliest>,
    /// Number of timers ever set. It orders equal deadlines, and distinguishes a timer from earlier
    /// ones of its entry.
    sets: NonZeroU64,
}

/// A place for one timer.
#[derive(Clone, Debug)]
struct Entry<T> {
    deadline: Micros,
    set: NonZeroU64,
    /// Neighbours in the slot's list; `next` of a vacant entry is the next vacant one.
    previous: u32,
    next: u32,
    /// `None` in a vacant entry.
    payload: Option<T>,
}

/// The name of one timer. It never names another one, however long it is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimerId {
    set: NonZeroU64,
    entry: u32,
}

/// The cached earliest deadline of the timers in slots.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Earliest {
    Known(Option<Micros>),
    /// The deadline must be searched for.
    Unknown,
}

impl<T: Copy> Wheel<T> {
    /// Creates an empty wheel at the time `start`.
    pub fn new(start: Micros) -> Wheel<T> {
        Wheel {
            entries: ChunkedVec::default(),
            vacant: NONE,
            heads: vec![NONE; SLOT_COUNT].into(),
            occupied: vec![0; SLOT_COUNT / 64].into(),
            reached: slot_time(start),
            near: BinaryHeap::new(),
            stale: 0,
            waiting: 0,
            earliest: Cell::new(Earliest::Known(None)),
            sets: NonZeroU64::MIN,
        }
    }

    /// Sets a timer. A deadline in the past is accepted: it fires at the next
    /// [`fire`](Wheel::fire), before later ones.
    pub fn set(&mut self, deadline: Micros, payload: T) -> TimerId {
        let set = self.sets;
        self.sets = set.saturating_add(1);
        let index = self.occupy(Entry {
            deadline,
            set,
            previous: NONE,
            next: NONE,
            payload: Some(payload),
        });
        if slot_time(deadline) <= self.reached {
            self.near.push(Reverse((deadline, set, index)));
        } else {
            self.link(index);
            if let Earliest::Known(earliest) = self.earliest.get() {
                let earlier = earliest.map_or(deadline, |earliest| earliest.min(deadline));
                self.earliest.set(Earliest::Known(Some(earlier)));
            }
        }
        TimerId { set, entry: index }
    }

    /// Cancels a timer. Returns false if it has fired or was cancelled before.
    pub fn cancel(&mut self, id: TimerId) -> bool {
        if !self.is_set(id.entry, id.set) {
            return false;
        }
        let deadline = self.entries[id.entry as usize].deadline;
        if slot_time(deadline) <= self.reached {
            self.vacate(id.entry);
            self.stale += 1;
            self.drop_stale();
        } else {
            self.unlink(id.entry);
            self.vacate(id.entry);
            if self.earliest.get() == Earliest::Known(Some(deadline)) {
                self.earliest.set(Earliest::Unknown); // mark: wheel_forgets_the_earliest
            }
        }
        true
    }

    /// Removes the first timer that is due at `now` and returns its deadline and payload.
    ///
    /// Call it until it returns `None`. A timer that is set in between and is already due fires in
    /// its order. `now` may advance by any amount: at most one round of slots is read.
    pub fn fire(&mut self, now: Micros) -> Option<(Micros, T)> {
        self.reach(slot_time(now));
        let Reverse((deadline, _, index)) = *self.near.peek()?;
        if deadline > now {
            return None;
        }
        self.near.pop();
        let payload = self.vacate(index);
        self.drop_stale();
        payload.map(|payload| (deadline, payload))
    }

    /// Returns the payloads that will fire at `now`, unordered. Removes none.
    pub fn due(&mut self, now: Micros) -> impl Iterator<Item = &T> {
        self.reach(slot_time(now));
        let due = self.near.iter().filter(move |Reverse((deadline, ..))| *deadline <= now);
        due.filter_map(|Reverse((_, set, index))| {
            let entry = self.entries.get(*index as usize)?;
            entry.payload.as_ref().filter(|_| entry.set == *set)
        })
    }

    /// Returns the earliest deadline of all timers, to the microsecond; `None` if no timer is set.
    ///
    /// The result is cached between changes. After the earliest timer has left its slot, the next
    /// occupied slot is read. Only if the whole next round is empty, all later timers are read,
    /// once.
    pub fn next_deadline(&self) -> Option<Micros> {
        if let Some(Reverse((deadline, ..))) = self.near.peek() {
            return Some(*deadline);
        }
        if let Earliest::Known(earliest) = self.earliest.get() {
            return earliest;
        }
        let earliest = self.find_earliest();
        self.earliest.set(Earliest::Known(earliest));
        earliest
    }

    /// Returns the number of timers that are set.
    pub fn len(&self) -> usize {
        self.waiting + self.near.len() - self.stale
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Moves every timer up to the slot time `target` to the near heap.
    fn reach(&mut self, target: u64) {
        if target <= self.reached {
            return;
        }
        let from = self.reached + 1;
        self.reached = target;
        if let Earliest::Known(earliest) = self.earliest.get()
            && earliest.is_none_or(|earliest| slot_time(earliest) > target)
        {
            return;
        }
        let count = (target - from + 1).min(SLOT_COUNT as u64);
        let mut looked_at = 0;
        while let Some(free) = self.free_slots(from + looked_at, count - looked_at) {
            looked_at += free;
            self.bring_near(slot(from + looked_at));
            looked_at += 1;
        }
        self.earliest.set(if self.waiting == 0 {
            Earliest::Known(None)
        } else {
            Earliest::Unknown
        });
    }

    /// Moves the timers that have been reached from a slot to the heap. Those of later rounds stay.
    fn bring_near(&mut self, slot: usize) {
        let mut index = self.heads[slot];
        while index != NONE {
            let Entry { deadline, set, next, .. } = self.entries[index as usize];
            if slot_time(deadline) <= self.reached {
                self.unlink(index);
                self.near.push(Reverse((deadline, set, index))); // mark: timers_in_another_order
            }
            index = next;
        }
    }

    /// Returns the earliest deadline in the slots, and reads as few of them as possible.
    fn find_earliest(&self) -> Option<Micros> {
        let from = self.reached + 1;
        let count = SLOT_COUNT as u64;
        let mut later_round: Option<Micros> = None;
        let mut looked_at = 0;
        while let Some(free) = self.free_slots(from + looked_at, count - looked_at) {
            looked_at += free;
            let deadline = self.earliest_in(slot(from + looked_at));
            if deadline.is_some_and(|deadline| slot_time(deadline) == from + looked_at) {
                return deadline;
            }
            later_round = later_round.into_iter().chain(deadline).min();
            looked_at += 1;
        }
        later_round
    }

    fn earliest_in(&self, slot: usize) -> Option<Micros> {
        self.list(self.heads[slot]).map(|index| self.entries[index as usize].deadline).min()
    }

    /// Returns the number of empty slots before the first occupied one among the `count` from the
    /// slot time `from` on; `None` if all are empty.
    fn free_slots(&self, from: u64, count: u64) -> Option<u64> {
        let mut free = 0;
        while free < count {
            let slot = slot(from + free);
            let ahead = self.occupied[slot / 64] >> (slot % 64);
            if ahead != 0 {
                free += u64::from(ahead.trailing_zeros());
                return (free < count).then_some(free);
            }
            free += 64 - slot as u64 % 64;
        }
        None
    }

    /// Returns the entries of a list, from `first` on.
    fn list(&self, first: u32) -> impl Iterator<Item = u32> {
        let existing = |index| (index != NONE).then_some(index);
        std::iter::successors(existing(first), move |&index| {
            existing(self.entries[index as usize].next)
        })
    }

    /// Inserts an entry at the front of its slot's list.
    fn link(&mut self, index: u32) {
        let slot_time = slot_time(self.entries[index as usize].deadline);
        debug_assert!(slot_time > self.reached, "a near timer belongs in the heap");
        let slot = slot(slot_time);
        let next = std::mem::replace(&mut self.heads[slot], index);
        self.entries[index as usize].previous = NONE;
        self.entries[index as usize].next = next;
        if next != NONE {
            self.entries[next as usize].previous = index;
        }
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.waiting += 1;
    }

    /// Removes an entry from its slot's list.
    fn unlink(&mut self, index: u32) {
        let Entry { deadline, previous, next, .. } = self.entries[index as usize];
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        if previous != NONE {
            self.entries[previous as usize].next = next;
        } else {
            let slot = slot(slot_time(deadline));
            self.heads[slot] = next;
            if next == NONE {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
            }
        }
        self.waiting -= 1;
    }

    /// Stores an entry in a vacant place. It is in no list yet.
    fn occupy(&mut self, entry: Entry<T>) -> u32 {
        if self.vacant == NONE {
            assert!(self.entries.len() < NONE as usize, "{} timers are set", self.entries.len());
            self.entries.push(entry);
            return (self.entries.len() - 1) as u32;
        }
        let index = self.vacant;
        let place = &mut self.entries[index as usize];
        self.vacant = place.next;
        *place = entry;
        index
    }

    /// Frees the place of an entry, which must be in no list.
    fn vacate(&mut self, index: u32) -> Option<T> {
        let entry = &mut self.entries[index as usize];
        entry.next = self.vacant;
        self.vacant = index;
        entry.payload.take()
    }

    /// Removes cancelled timers from the top of the heap, and from all of it once they outnumber
    /// the others.
    fn drop_stale(&mut self) {
        while let Some(Reverse((_, set, index))) = self.near.peek()
            && !self.is_set(*index, *set)
        {
            self.near.pop();
            self.stale -= 1;
        }
        if self.stale > STALE_MIN.max(self.near.len() / 2) {
            let entries = &self.entries;
            self.near.retain(|Reverse((_, set, index))| is_set(entries, *index, *set));
            self.stale = 0;
        }
    }

    fn is_set(&self, index: u32, set: NonZeroU64) -> bool {
        is_set(&self.entries, index, set)
    }

    /// Checks what must hold between two calls. Reads every timer and slot.
    ///
    /// # Panics
    /// If the lists, the heap or the counters contradict each other.
    pub fn check_invariants(&self) {
        let mut listed = 0;
        for slot_index in 0..SLOT_COUNT {
            let mut previous = NONE;
            for index in self.list(self.heads[slot_index]) {
                let entry = &self.entries[index as usize];
                assert!(
                    entry.payload.is_some(),
                    "entry {index} is vacant and in slot {slot_index}"
                );
                assert_eq!(entry.previous, previous, "entry {index} points back to another timer");
                assert_eq!(
                    slot(slot_time(entry.deadline)),
                    slot_index,
                    "entry {index} is in the wrong slot"
                );
                assert!(slot_time(entry.deadline) > self.reached, "entry {index} should be near");
                previous = index;
                listed += 1;
            }
            let marked = self.occupied[slot_index / 64] >> (slot_index % 64) & 1 == 1;
            assert_eq!(marked, previous != NONE, "slot {slot_index} is marked wrong");
        }
        assert_eq!(listed, self.waiting, "timers in slots");

        let living = |Reverse((_, set, index)): &&Reverse<(Micros, NonZeroU64, u32)>| {
            self.is_set(*index, *set)
        };
        for Reverse((deadline, ..)) in self.near.iter().filter(living) {
            assert!(slot_time(*deadline) <= self.reached, "near timer {deadline:?} is not near");
        }
        assert_eq!(
            self.near.iter().filter(living).count(),
            self.near.len() - self.stale,
            "stale timers"
        );
        assert!(self.near.peek().is_none_or(|top| living(&top)), "a cancelled timer is on top");
        assert!(self.stale <= STALE_MIN.max(self.near.len() / 2), "{} stale timers", self.stale);

        let vacant = self.list(self.vacant).inspect(|&index| {
            assert!(
                self.entries[index as usize].payload.is_none(),
                "entry {index} is set and vacant"
            );
        });
        assert_eq!(vacant.count() + self.len(), self.entries.len(), "an entry is lost");
        assert!(self.entries.iter().all(|entry| entry.set < self.sets), "a timer of the future");

        if let Earliest::Known(earliest) = self.earliest.get() {
            assert_eq!(earliest, self.find_earliest(), "remembered and true earliest deadline");
        }
    }
}

fn is_set<T>(entries: &ChunkedVec<Entry<T>>, index: u32, set: NonZeroU64) -> bool {
    entries.get(index as usize).is_some_and(|entry| entry.set == set && entry.payload.is_some())
}

/// Returns the number of slots between time 0 and a time.
fn slot_time(time: Micros) -> u64 {
    time.as_micros() >> SLOT_WIDTH_BITS
}

/// Returns the slot of a slot time, which it shares with those of other rounds.
fn slot(slot_time: u64) -> usize {
    slot_time as usize % SLOT_COUNT
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const WIDTH: u64 = 1 << SLOT_WIDTH_BITS;
    const ROUND: u64 = WIDTH * SLOT_COUNT as u64;
    const HOUR: u64 = 3_600_000_000;

    /// Tests count in plain microseconds.
    struct InMicros<T>(Wheel<T>);

    impl<T: Copy> InMicros<T> {
        fn new(start: u64) -> InMicros<T> {
            InMicros(Wheel::new(Micros::from_micros(start)))
        }
        fn set(&mut self, deadline: u64, payload: T) -> TimerId {
            self.0.set(Micros::from_micros(deadline), payload)
        }
        fn fire(&mut self, now: u64) -> Option<(u64, T)> {
            self.0
                .fire(Micros::from_micros(now))
                .map(|(deadline, payload)| (deadline.as_micros(), payload))
        }
        fn next_deadline(&self) -> Option<u64> {
            self.0.next_deadline().map(Micros::as_micros)
        }
    }

    fn wheel(deadlines: &[u64]) -> InMicros<usize> {
        let mut wheel = InMicros::new(0);
        for (name, &deadline) in deadlines.iter().enumerate() {
            wheel.set(deadline, name);
        }
        wheel.0.check_invariants();
        wheel
    }

    fn fired(wheel: &mut InMicros<usize>, now: u64) -> Vec<(u64, usize)> {
        let fired = std::iter::from_fn(|| wheel.fire(now)).collect();
        wheel.0.check_invariants();
        fired
    }

    #[test]
    fn a_timer_fires_at_its_deadline_and_not_a_microsecond_before() {
        for deadline in [
            1,
            WIDTH - 1,
            WIDTH,
            WIDTH + 1,
            20_000,
            ROUND - 1,
            ROUND,
            ROUND + 1,
            7 * HOUR,
            u64::MAX,
        ] {
            let mut wheel = wheel(&[deadline]);
            assert_eq!(wheel.next_deadline(), Some(deadline));
            assert_eq!(fired(&mut wheel, deadline - 1), []);
            assert_eq!(wheel.next_deadline(), Some(deadline));
            assert_eq!(fired(&mut wheel, deadline), [(deadline, 0)]);
            assert_eq!(wheel.next_deadline(), None);
            assert!(wheel.0.is_empty());
        }
    }

    #[test]
    fn due_timers_fire_by_deadline_and_then_in_the_order_they_were_set() {
        let mut wheel = wheel(&[500, 300, 500, 9_000, 300, 8_999, 9_000, 10_001]);
        let expected = [(300, 1), (300, 4), (500, 0), (500, 2), (8_999, 5), (9_000, 3), (9_000, 6)];
        assert_eq!(fired(&mut wheel, 10_000), expected);
        assert_eq!(wheel.0.len(), 1);
    }

    #[test]
    fn deadlines_in_the_past_fire_at_once_in_order() {
        let mut wheel = InMicros::new(HOUR);
        for (name, deadline) in [(0, HOUR - 5), (1, 0), (2, HOUR), (3, 0), (4, HOUR - 6)] {
            wheel.set(deadline, name);
        }
        assert_eq!(wheel.next_deadline(), Some(0));
        assert_eq!(
            fired(&mut wheel, HOUR),
            [(0, 1), (0, 3), (HOUR - 6, 4), (HOUR - 5, 0), (HOUR, 2)]
        );
    }

    #[test]
    fn a_timer_set_while_firing_fires_in_the_same_sweep_if_it_is_due() {
        let mut wheel = wheel(&[5_000, 8_000]);
        assert_eq!(wheel.fire(8_000), Some((5_000, 0)));
        wheel.set(6_000, 2);
        wheel.set(8_000, 3);
        wheel.set(8_001, 4);
        wheel.set(1_000, 5);
        assert_eq!(fired(&mut wheel, 8_000), [(1_000, 5), (6_000, 2), (8_000, 1), (8_000, 3)]);
        assert_eq!(wheel.next_deadline(), Some(8_001));
    }

    #[test]
    fn a_cancelled_timer_does_not_fire_wherever_it_waits() {
        let deadlines = [10, 2_000, 2_001, 20_000, 20_000, 20_000, ROUND + 20_000, HOUR];
        for victim in 0..deadlines.len() {
            for asleep in [0, 2_000] {
                let mut wheel = InMicros::new(0);
                let ids: Vec<_> =
                    (0..).zip(deadlines).map(|(name, at)| wheel.set(at, name)).collect();
                let mut names = fired(&mut wheel, asleep);
                let was_waiting = names.iter().all(|&(_, name)| name != victim);
                assert_eq!(wheel.0.cancel(ids[victim]), was_waiting);
                assert!(!wheel.0.cancel(ids[victim]), "cancelled twice");
                wheel.0.check_invariants();
                names.extend(fired(&mut wheel, HOUR));
                let expected: Vec<_> = deadlines
                    .into_iter()
                    .zip(0..)
                    .filter(|&(_, name)| name != victim || !was_waiting)
                    .collect();
                assert_eq!(names, expected);
            }
        }
    }

    #[test]
    fn a_due_timer_can_be_cancelled_by_one_that_fires_before_it() {
        let mut wheel = wheel(&[5_000]);
        let second = wheel.set(5_000, 1);
        wheel.set(5_000, 2);
        assert_eq!(wheel.fire(6_000), Some((5_000, 0)));
        assert!(wheel.0.cancel(second));
        assert_eq!(fired(&mut wheel, 6_000), [(5_000, 2)]);
    }

    #[test]
    fn a_stale_id_never_cancels_the_timer_that_reuses_its_entry() {
        let mut wheel = InMicros::new(0);
        let fired_id = wheel.set(5, 0);
        wheel.fire(5);
        let cancelled_id = wheel.set(50_000, 1);
        wheel.0.cancel(cancelled_id);
        let living_id = wheel.set(50_000, 2);
        assert_eq!((fired_id.entry, cancelled_id.entry), (living_id.entry, living_id.entry));
        assert!(!wheel.0.cancel(fired_id));
        assert!(!wheel.0.cancel(cancelled_id));
        assert_eq!(fired(&mut wheel, 50_000), [(50_000, 2)]);
    }

    #[test]
    fn timers_of_different_rounds_share_a_slot_and_keep_their_time() {
        let at = 7 * WIDTH + 3;
        let mut wheel = wheel(&[at + 2 * ROUND, at, at + ROUND, at + 2 * ROUND - 1]);
        for (now, name) in [(at, 1), (at + ROUND, 2), (at + 2 * ROUND - 1, 3), (at + 2 * ROUND, 0)]
        {
            assert_eq!(wheel.next_deadline(), Some(now));
            assert_eq!(fired(&mut wheel, now - 1), []);
            assert_eq!(fired(&mut wheel, now), [(now, name)]);
        }
    }

    #[test]
    fn the_wheel_turns_past_its_last_slot() {
        let start = ROUND - 2 * WIDTH;
        let mut wheel = InMicros::new(start);
        let deadlines: Vec<u64> = (1..6).map(|step| start + step * WIDTH).collect();
        (0..).zip(&deadlines).for_each(|(name, &deadline)| _ = wheel.set(deadline, name));
        for (name, &deadline) in deadlines.iter().enumerate() {
            assert_eq!(wheel.next_deadline(), Some(deadline));
            assert_eq!(fired(&mut wheel, deadline), [(deadline, name)]);
        }
    }

    #[test]
    fn after_hours_without_a_turn_all_due_timers_fire_in_order() {
        let deadlines: Vec<u64> = (0..1000).map(|k| (k * 7_919_000_003) % (6 * HOUR)).collect();
        let mut wheel = wheel(&deadlines);
        let mut expected: Vec<(u64, usize)> = deadlines.into_iter().zip(0..).collect();
        expected.sort_unstable();
        let late =
            expected.split_off(expected.partition_point(|&(deadline, _)| deadline <= 5 * HOUR));
        assert_eq!(fired(&mut wheel, 5 * HOUR), expected);
        assert_eq!(fired(&mut wheel, u64::MAX), late);
    }

    #[test]
    fn a_clock_that_steps_back_fires_nothing_early() {
        let mut wheel = wheel(&[HOUR, 2 * HOUR]);
        assert_eq!(fired(&mut wheel, HOUR), [(HOUR, 0)]);
        wheel.set(HOUR / 2, 2);
        assert_eq!(fired(&mut wheel, HOUR / 2 - 1), []);
        assert_eq!(wheel.next_deadline(), Some(HOUR / 2));
        assert_eq!(fired(&mut wheel, HOUR / 2), [(HOUR / 2, 2)]);
    }

    #[test]
    fn steady_use_allocates_nothing() {
        let mut wheel = InMicros::new(0);
        let mut ids: Vec<TimerId> = (0..1000).map(|name| wheel.set(name * 8, name)).collect();
        let mut grown = None;
        for round in 1..200 {
            let now = round * 8_000;
            while let Some((deadline, name)) = wheel.fire(now) {
                ids[name as usize] = wheel.set(deadline + 8_000, name);
            }
            for name in (0..1000).step_by(3) {
                assert!(wheel.0.cancel(ids[name as usize]));
                ids[name as usize] = wheel.set(now + name * 8 + 1, name);
            }
            let capacity = (wheel.0.entries.len(), wheel.0.near.capacity());
            if round > 20 {
                assert_eq!(*grown.get_or_insert(capacity), capacity, "round {round}");
            }
        }
        wheel.0.check_invariants();
        assert_eq!(wheel.0.entries.len(), 1000);
    }

    #[test]
    fn repeatedly_set_and_cancelled_timers_use_bounded_memory() {
        let mut wheel = wheel(&[0]);
        for _ in 0..10_000 {
            let id = wheel.set(1, 1);
            wheel.0.cancel(id);
        }
        wheel.0.check_invariants();
        assert!(wheel.0.near.len() <= STALE_MIN + 1, "{} in the heap", wheel.0.near.len());
        assert_eq!(fired(&mut wheel, 1), [(0, 0)]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Deadline relative to now; may lie before it.
        Set(i64),
        Cancel(prop::sample::Index),
        Advance(u64),
        FireOne,
        FireAll,
    }

    fn step() -> impl Strategy<Value = Step> {
        let round = ROUND as i64;
        let ahead = prop_oneof![
            4 => 0..4 * WIDTH as i64,
            2 => prop::sample::select(vec![0, 1, 1_000, 16_000, round, round - 1]),
            2 => 0..25_000_000i64,
            1 => -50_000_000..1i64,
            1 => (1..4i64, -2 * WIDTH as i64..2 * WIDTH as i64).prop_map(move |(k, d)| k * round + d),
            1 => 0..20 * HOUR as i64,
        ];
        let leap = prop_oneof![
            4 => 0..3 * WIDTH,
            2 => 0..3_000_000u64,
            1 => ROUND - WIDTH..ROUND + WIDTH,
            1 => 0..2 * HOUR,
        ];
        prop_oneof![
            6 => ahead.prop_map(Step::Set),
            2 => any::<prop::sample::Index>().prop_map(Step::Cancel),
            2 => leap.prop_map(Step::Advance),
            2 => Just(Step::FireOne),
            1 => Just(Step::FireAll),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// A wheel is an ordered map from (deadline, order of setting), looked at from its front.
        #[test]
        fn a_wheel_agrees_with_an_ordered_map(
            start in prop_oneof![0..2 * ROUND, Just(0), ROUND - 2 * WIDTH..ROUND],
            steps in prop::collection::vec(step(), 0..120),
            // Without looking after every step too, a wheel that only works when its cache is warm
            // would pass.
            looks in any::<bool>(),
        ) {
            let mut now = start;
            let mut wheel = InMicros::new(start);
            let mut model: BTreeMap<(u64, usize), ()> = BTreeMap::new();
            let mut ids: Vec<(TimerId, u64)> = Vec::new();
            for step in steps {
                let due = model.first_key_value().map(|(key, ())| *key).filter(|(deadline, _)| *deadline <= now);
                match step {
                    Step::Set(ahead) => {
                        let deadline = now.saturating_add_signed(ahead);
                        model.insert((deadline, ids.len()), ());
                        ids.push((wheel.set(deadline, ids.len()), deadline));
                    }
                    Step::Cancel(which) if !ids.is_empty() => {
                        let name = which.index(ids.len());
                        let (id, deadline) = ids[name];
                        prop_assert_eq!(wheel.0.cancel(id), model.remove(&(deadline, name)).is_some());
                    }
                    Step::Cancel(_) => {}
                    Step::Advance(by) => now += by,
                    Step::FireOne => {
                        prop_assert_eq!(wheel.fire(now), due);
                        due.map(|key| model.remove(&key));
                    }
                    Step::FireAll => {
                        let later = model.split_off(&(now + 1, 0));
                        let due: Vec<_> = std::mem::replace(&mut model, later).into_keys().collect();
                        let fired: Vec<_> = std::iter::from_fn(|| wheel.fire(now)).collect();
                        prop_assert_eq!(fired, due);
                    }
                }
                prop_assert_eq!(wheel.0.len(), model.len());
                if looks {
                    prop_assert_eq!(wheel.next_deadline(), model.keys().next().map(|(deadline, _)| *deadline));
                }
            }
            wheel.0.check_invariants();
            prop_assert_eq!(wheel.next_deadline(), model.keys().next().map(|(deadline, _)| *deadline));
            let rest: Vec<_> = std::iter::from_fn(|| wheel.fire(u64::MAX)).collect();
            prop_assert_eq!(rest, model.into_keys().collect::<Vec<_>>());
            wheel.0.check_invariants();
        }
    }
}
