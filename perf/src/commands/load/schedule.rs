//! The schedule of the members' actions, which repeat at fixed times.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bandsync_perf::timer_fd::{MILLISECOND, Nanos, SECOND};

use super::options::{Run, Scenario};

/// An action of a member. A number is the slot of a member or, for a leader's actions, the session.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Action {
    /// Connects, after leaving if it was present.
    Join(usize),
    Play(usize),
    Pause(usize),
    Seek(usize),
    Tempo(usize, u32),
    Chat(usize),
    Probe(usize),
}

/// Actions in order of their time.
#[derive(Debug, Default)]
pub struct Schedule {
    queue: BinaryHeap<Reverse<(Nanos, Action, Nanos)>>,
}

impl Schedule {
    /// Adds an action at `at`.
    pub fn once(&mut self, at: Nanos, action: Action) {
        self.every(0, at, action);
    }

    /// Adds an action at `first`, repeated every `period`.
    pub fn every(&mut self, period: Nanos, first: Nanos, action: Action) {
        self.queue.push(Reverse((first, action, period)));
    }

    /// Returns the time of the next action.
    pub fn next(&self) -> Option<Nanos> {
        self.queue.peek().map(|Reverse((at, ..))| *at)
    }

    /// Returns the earliest action that is due by `now`, with its time.
    pub fn due(&mut self, now: Nanos) -> Option<(Action, Nanos)> {
        let Reverse((at, action, period)) =
            *self.queue.peek().filter(|Reverse((at, ..))| *at <= now)?;
        self.queue.pop();
        if period > 0 {
            self.queue.push(Reverse((at + period, action, period)));
        }
        Some((action, at))
    }

    pub fn clear(&mut self) {
        self.queue.clear();
    }

    /// Makes every session's leader play. The sessions are spread over a tick, so that no server
    /// has to tick them all at once.
    pub fn play(&mut self, run: &Run, from: Nanos) {
        if matches!(run.scenario, Scenario::Ticks | Scenario::Churn | Scenario::Gig) {
            let apart = run.tick * MILLISECOND;
            for session in 0..run.sessions {
                self.once(
                    from + apart * session as u64 / run.sessions as u64,
                    Action::Play(session),
                );
            }
        }
    }

    /// Adds the members' actions during the measurement.
    pub fn measured(&mut self, run: &Run, from: Nanos) {
        let all = run.sessions * run.members;
        let spread =
            |n: usize, of: usize, period: Nanos| from + period * n as u64 / of.max(1) as u64;
        // Probers are at slots without a leader, far apart.
        let probers = run.probes.min(all.saturating_sub(run.sessions));
        for n in 0..probers {
            let slot = run.sessions + n * ((all - run.sessions) / probers);
            let period = run.probe_interval.max(1) * MILLISECOND;
            self.every(period, spread(n, probers, period), Action::Probe(slot));
        }
        match run.scenario {
            Scenario::Ticks | Scenario::Idle => {}
            Scenario::Chat => self.chat(run, run.rate.unwrap_or(8), from),
            Scenario::Joins => self.joins(run, from),
            Scenario::Churn => self.churn(run, run.rate.unwrap_or(20), from),
            Scenario::Gig => {
                self.churn(run, run.rate.unwrap_or(all as u64 / 100).max(1), from);
                for session in 0..run.sessions {
                    let at = |period: Nanos| spread(session, run.sessions, period);
                    self.every(5 * SECOND, at(5 * SECOND), Action::Seek(session));
                    self.every(
                        7 * SECOND,
                        at(7 * SECOND),
                        Action::Tempo(session, 90 + session as u32 % 60),
                    );
                    self.every(10 * SECOND, at(10 * SECOND), Action::Pause(session));
                    self.every(10 * SECOND, at(10 * SECOND) + SECOND / 2, Action::Play(session));
                    let talker = session + run.sessions * (run.members - 1);
                    self.every(3 * SECOND, at(3 * SECOND), Action::Chat(talker));
                }
            }
        }
    }

    /// Adds `rate` messages per second in each session, from all of its members in turn.
    fn chat(&mut self, run: &Run, rate: u64, from: Nanos) {
        let all = run.sessions * run.members;
        let period = SECOND * run.members as u64 / rate.max(1);
        for slot in 0..all {
            self.every(period, from + period * slot as u64 / all as u64, Action::Chat(slot));
        }
    }

    /// Adds newcomers at a fixed rate. Without a rate, as many connections as possible are always
    /// being set up.
    fn joins(&mut self, run: &Run, from: Nanos) {
        let all = run.sessions * run.members;
        match run.rate.unwrap_or(0) {
            0 => (0..run.in_flight.min(all)).for_each(|slot| self.once(from, Action::Join(slot))),
            rate => self.in_turn(rate, 0..all, from),
        }
    }

    /// Adds members other than leaders that leave and return.
    fn churn(&mut self, run: &Run, rate: u64, from: Nanos) {
        self.in_turn(rate, run.sessions..run.sessions * run.members, from);
    }

    /// Makes these slots join `rate` times per second in all, one after the other.
    fn in_turn(&mut self, rate: u64, slots: std::ops::Range<usize>, from: Nanos) {
        let period = SECOND * slots.len() as u64 / rate;
        for (n, slot) in slots.enumerate() {
            self.every(period, from + SECOND * n as u64 / rate, Action::Join(slot));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_due_in_order_and_repeat_at_fixed_times() {
        let mut schedule = Schedule::default();
        schedule.every(10, 5, Action::Probe(1));
        schedule.once(7, Action::Play(0));
        assert_eq!(schedule.next(), Some(5));
        let mut done = Vec::new();
        while let Some((action, at)) = schedule.due(26) {
            done.push((at, action));
        }
        assert_eq!(
            done,
            [
                (5, Action::Probe(1)),
                (7, Action::Play(0)),
                (15, Action::Probe(1)),
                (25, Action::Probe(1))
            ]
        );
        assert_eq!(schedule.next(), Some(35));
    }
}
