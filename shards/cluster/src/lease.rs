//! Leases of this node: their seniority, and the standing that follows from it.
//!
//! A lease is a key for each bucket that lives for `LEASE_TTL` and is renewed four times in that
//! time. It only tells others that this node lives: nothing is decided by it here. A node may take
//! over a session once its own lease has stood unbroken for `LEASE_TTL` (R5), so that after a
//! failover, a freeze or an emptied Redis living owners are back first.
//!
//! A lease also ends by this node's own clock: a process that was stopped for longer than
//! `LEASE_TTL` knows when it goes on that others may have taken its sessions.
//!
//! The time is passed in, and nothing here waits, so tests can play any order of events.

use std::time::{Duration, Instant};

use bandsync_engine::io::node::Standing;

/// The way to renew a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Beat {
    /// Only if it is there. If it is not, the node first notes the break, and makes it then: so no
    /// claim that was sent before may find a lease made after the break.
    Renew,
    /// In any case.
    Make,
}

/// The answer to a beat in a bucket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    /// The key still had this node's incarnation.
    Mine,
    /// The key had ended, and was not made again.
    Gone,
    /// The key was made.
    Made,
    /// Another incarnation has the number.
    Foreign,
    /// Redis rejected the beat, so the lease was not renewed.
    Rejected,
    /// The bucket is at another primary.
    Moved,
}

/// The leases of all buckets.
#[derive(Debug)]
pub struct Leases {
    ttl: Duration,
    buckets: Vec<Lease>,
    lanes: Vec<Lane>,
    /// The standings that were reported.
    reported: Vec<Option<Standing>>,
    /// Whether another process has this node's number.
    usurped: bool,
    /// The time at which this process last went on after a pause in which a lease ended.
    woken: Option<Instant>,
}

#[derive(Clone, Debug, Default)]
struct Lease {
    lane: usize,
    /// Since when it has stood unbroken.
    since: Option<Instant>,
    /// When Redis will end it, at the earliest.
    until: Option<Instant>,
    /// Whether it has broken since the start. Redis may have forgotten owners since.
    was_broken: bool,
    /// Whether a break is not reported yet.
    has_news: bool,
}

impl Lease {
    /// Begins its seniority again (R5).
    fn breaks(&mut self) {
        let had = self.since.take().is_some();
        self.was_broken |= had;
        self.has_news |= had;
    }
}

/// A primary, as its beats show it.
#[derive(Clone, Debug)]
struct Lane {
    answered: Instant,
    replid: String,
}

impl Leases {
    /// Creates the leases of as many buckets, all in one lane.
    pub fn new(buckets: u16, ttl: Duration, now: Instant) -> Self {
        Self {
            ttl,
            buckets: vec![Lease::default(); usize::from(buckets)],
            lanes: vec![Lane { answered: now, replid: String::new() }],
            reported: vec![None; usize::from(buckets)],
            usurped: false,
            woken: None,
        }
    }

    /// Notes the lane of each bucket. Leases of buckets that moved are new (R5).
    pub fn place(&mut self, lanes: &[usize], now: Instant) {
        let count = lanes.iter().max().map_or(0, |lane| lane + 1);
        while self.lanes.len() < count {
            self.lanes.push(Lane { answered: now, replid: String::new() });
        }
        for (lease, lane) in self.buckets.iter_mut().zip(lanes) {
            if lease.lane != *lane {
                lease.breaks();
                (lease.lane, lease.until) = (*lane, None);
            }
        }
    }

    /// Returns the lane of a bucket.
    pub fn lane(&self, bucket: u16) -> usize {
        self.buckets.get(usize::from(bucket)).map_or(0, |lease| lease.lane)
    }

    /// Returns the way to renew the lease of a bucket.
    pub fn next_beat(&self, bucket: u16) -> Beat {
        let held = self.buckets.get(usize::from(bucket)).is_some_and(|lease| lease.until.is_some());
        if held { Beat::Renew } else { Beat::Make }
    }

    /// Notes the answers to beats that were sent at `sent`. Returns the number of leases that had
    /// broken.
    pub fn beat(
        &mut self,
        (lane, replid): (usize, &str),
        answers: &[(u16, Found)],
        sent: Instant,
        now: Instant,
    ) -> u64 {
        let Some(primary) = self.lanes.get_mut(lane) else { return 0 };
        primary.answered = now;
        // Another history: a replica was promoted, or the server started again.
        let is_other = primary.replid != replid;
        if is_other {
            primary.replid = replid.to_owned();
        }
        let mut broken = 0;
        for (bucket, found) in answers {
            let Some(lease) = self.buckets.get_mut(usize::from(*bucket)) else { continue };
            if lease.lane != lane {
                continue;
            }
            if is_other || *found != Found::Mine {
                lease.breaks();
                // It was held before.
                broken += u64::from(lease.until.is_some());
            }
            match found {
                // This process slept over the whole life that the answer promises.
                _ if sent + self.ttl <= now => lease.until = None,
                Found::Gone | Found::Rejected | Found::Moved => lease.until = None,
                // The key is another process' no more, but that process will take it back.
                Found::Foreign => lease.until = None,
                Found::Mine | Found::Made => {
                    lease.since.get_or_insert(now);
                    lease.until = Some(sent + self.ttl);
                }
            }
        }
        broken
    }

    /// Notes that the connection to a primary was lost: it may come back as another (R5).
    pub fn lost(&mut self, lane: usize) {
        self.buckets.iter_mut().filter(|lease| lease.lane == lane).for_each(Lease::breaks);
    }

    /// Ends the leases whose time is over by this node's own clock, and returns their number.
    /// `has_paused`: the process was stopped until now, so the silence was its own. It is not alone
    /// before Redis has had time to answer, and what it ordered before is old if a lease has ended.
    pub fn lapse(&mut self, has_paused: bool, now: Instant) -> u64 {
        if has_paused {
            self.lanes.iter_mut().for_each(|lane| lane.answered = now);
        }
        let mut ended = 0;
        for lease in &mut self.buckets {
            if lease.until.is_some_and(|until| until <= now) {
                lease.breaks();
                lease.until = None;
                ended += 1;
            }
        }
        if has_paused && ended > 0 {
            self.woken = Some(now);
        }
        ended
    }

    /// The time at which this process last went on after a pause in which a lease ended.
    pub fn woken(&self) -> Option<Instant> {
        self.woken
    }

    /// The time at which the next lease ends, unless it is renewed.
    pub fn next_end(&self) -> Option<Instant> {
        self.buckets.iter().filter_map(|lease| lease.until).min()
    }

    /// Notes whether another process has this node's number. It is alone then: whatever it did
    /// would be refused.
    pub fn set_usurped(&mut self, usurped: bool) {
        self.usurped = usurped;
    }

    /// Whether the lease stands, as far as this node can know.
    pub fn stands(&self, bucket: u16, now: Instant) -> bool {
        let lease = self.buckets.get(usize::from(bucket));
        lease.is_some_and(|lease| lease.until.is_some_and(|until| now < until))
    }

    /// Whether the lease has stood long enough to take sessions over.
    pub fn is_senior(&self, bucket: u16, now: Instant) -> bool {
        self.stands(bucket, now)
            && self.buckets[usize::from(bucket)].since.is_some_and(|since| since + self.ttl <= now)
    }

    /// Whether a session that is free may be taken. If the lease has broken, Redis may have
    /// forgotten the session's owner, which lives: it must be back first.
    pub fn may_found(&self, bucket: u16, now: Instant) -> bool {
        let was_broken = self.buckets.get(usize::from(bucket)).is_none_or(|lease| lease.was_broken);
        self.stands(bucket, now) && (!was_broken || self.is_senior(bucket, now))
    }

    /// Returns the standing in a bucket.
    pub fn standing(&self, bucket: u16, now: Instant) -> Standing {
        let answered = self.lanes.get(self.lane(bucket)).map(|lane| lane.answered);
        if self.usurped || answered.is_none_or(|at| at + self.ttl / 2 <= now) {
            Standing::Alone
        } else if self.is_senior(bucket, now) {
            Standing::Full
        } else {
            Standing::New
        }
    }

    /// Returns the changes since the last call: first bucket, last bucket and their standing. A
    /// lease that broke again while it was new is a change too: an owner has to store again.
    pub fn changes(&mut self, now: Instant) -> Vec<(u16, u16, Standing)> {
        let mut changes: Vec<(u16, u16, Standing)> = Vec::new();
        for bucket in 0..self.buckets.len() as u16 {
            let standing = self.standing(bucket, now);
            let lease = &mut self.buckets[usize::from(bucket)];
            // One that broke while it is alone is reported when Redis is back.
            let is_again = standing == Standing::New && std::mem::take(&mut lease.has_news);
            if self.reported[usize::from(bucket)].replace(standing) == Some(standing) && !is_again {
                continue;
            }
            match changes.last_mut() {
                Some((_, last, same)) if *last + 1 == bucket && *same == standing => *last = bucket,
                _ => changes.push((bucket, bucket, standing)),
            }
        }
        changes
    }

    /// Returns the time at which a standing changes if no more answers arrive.
    pub fn next_change(&self, now: Instant) -> Option<Instant> {
        let seniors = self.buckets.iter().filter_map(|lease| Some(lease.since? + self.ttl));
        let ends = self.buckets.iter().filter_map(|lease| lease.until);
        let alone = self.lanes.iter().map(|lane| lane.answered + self.ttl / 2);
        seniors.chain(ends).chain(alone).filter(|at| *at > now).min()
    }

    /// Returns the worst standing of all buckets.
    pub fn overall(&self, now: Instant) -> Standing {
        let all = || (0..self.buckets.len() as u16).map(|bucket| self.standing(bucket, now));
        if all().any(|standing| standing == Standing::Alone) {
            Standing::Alone
        } else if all().any(|standing| standing == Standing::New) {
            Standing::New
        } else {
            Standing::Full
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(2);
    const BEAT: Duration = Duration::from_millis(500);

    /// Beats from `from` until before `until`, twice in two buckets.
    fn beat(leases: &mut Leases, start: Instant, beats: std::ops::Range<u32>) {
        for n in beats {
            let at = start + BEAT * n;
            let found = if n == 0 { Found::Made } else { Found::Mine };
            leases.beat((0, "one"), &[(0, found), (1, found)], at, at);
        }
    }

    #[test]
    fn a_node_is_senior_once_its_lease_has_stood_for_its_time() {
        let start = Instant::now();
        let mut leases = Leases::new(2, TTL, start);
        assert_eq!(leases.changes(start), [(0, 1, Standing::New)]);
        assert!(!leases.stands(0, start));
        beat(&mut leases, start, 0..4);
        assert!(leases.stands(0, start + BEAT * 3) && !leases.is_senior(0, start + BEAT * 3));
        assert_eq!(leases.next_change(start + BEAT * 3), Some(start + TTL));
        beat(&mut leases, start, 4..5);
        assert!(leases.is_senior(1, start + TTL));
        assert_eq!(leases.changes(start + TTL), [(0, 1, Standing::Full)]);
        assert_eq!(leases.changes(start + TTL), []);
    }

    #[test]
    fn each_event_that_breaks_a_lease_ends_seniority() {
        let start = Instant::now();
        let at = start + BEAT * 9;
        let events: [fn(&mut Leases, Instant) -> u64; 5] = [
            |leases, at| leases.beat((0, "one"), &[(0, Found::Gone)], at, at),
            |leases, at| leases.beat((0, "one"), &[(0, Found::Foreign)], at, at),
            |leases, at| leases.beat((0, "two"), &[(0, Found::Mine)], at, at),
            |leases, at| leases.beat((0, "one"), &[(0, Found::Rejected)], at, at),
            |leases, _| {
                leases.lost(0);
                1
            },
        ];
        for event in events {
            let mut leases = Leases::new(2, TTL, start);
            beat(&mut leases, start, 0..9);
            assert!(leases.is_senior(0, at));
            assert_eq!(event(&mut leases, at), 1);
            assert_eq!(leases.standing(0, at), Standing::New);
            // It is senior again after the whole time only.
            let again = |n: u32| at + BEAT * n;
            for n in 1..4 {
                leases.beat((0, "one"), &[(0, Found::Mine), (1, Found::Mine)], again(n), again(n));
                assert!(!leases.is_senior(0, again(n)));
            }
            for n in 4..7 {
                leases.beat((0, "one"), &[(0, Found::Mine), (1, Found::Mine)], again(n), again(n));
            }
            assert!(leases.is_senior(0, again(6)));
        }
        // A bucket that moved to another primary begins again, the other does not.
        let mut leases = Leases::new(2, TTL, start);
        beat(&mut leases, start, 0..9);
        leases.place(&[1, 0], at);
        assert_eq!((leases.is_senior(0, at), leases.is_senior(1, at)), (false, true));
    }

    #[test]
    fn a_lease_ends_by_the_own_clock_and_a_pause_is_not_the_silence_of_redis() {
        let start = Instant::now();
        for has_paused in [false, true] {
            let mut leases = Leases::new(2, TTL, start);
            beat(&mut leases, start, 0..9);
            let last = start + BEAT * 8;
            assert_eq!(leases.changes(last), [(0, 1, Standing::Full)]);
            assert_eq!(leases.next_end(), Some(last + TTL));
            assert_eq!(leases.lapse(has_paused, last + TTL / 2), 0);
            assert_eq!(leases.woken(), None, "nothing has ended");
            let woken = last + TTL * 10;
            assert_eq!((leases.lapse(has_paused, woken), leases.lapse(false, woken)), (2, 0));
            assert_eq!(leases.woken(), has_paused.then_some(woken));
            let standing = if has_paused { Standing::New } else { Standing::Alone };
            assert_eq!(leases.changes(woken), [(0, 1, standing)]);
            assert!(!leases.stands(0, woken) && leases.next_end().is_none());
            // Redis does not answer now either.
            leases.changes(woken + TTL / 2);
            assert_eq!(leases.standing(0, woken + TTL / 2), Standing::Alone);
        }
    }

    #[test]
    fn a_lease_that_is_gone_is_made_only_after_its_break_was_noted() {
        let start = Instant::now();
        let mut leases = Leases::new(1, TTL, start);
        assert_eq!(leases.next_beat(0), Beat::Make);
        leases.beat((0, "one"), &[(0, Found::Made)], start, start);
        assert_eq!((leases.next_beat(0), leases.may_found(0, start)), (Beat::Renew, true));
        leases.beat((0, "one"), &[(0, Found::Gone)], start + BEAT, start + BEAT);
        assert_eq!((leases.next_beat(0), leases.stands(0, start + BEAT)), (Beat::Make, false));
        leases.beat((0, "one"), &[(0, Found::Made)], start + BEAT, start + BEAT);
        assert!(leases.stands(0, start + BEAT) && !leases.may_found(0, start + BEAT));
    }

    #[test]
    fn each_break_is_reported_once() {
        let start = Instant::now();
        let mut leases = Leases::new(1, TTL, start);
        let at = |n: u32| start + BEAT * n;
        leases.changes(start);
        leases.beat((0, "one"), &[(0, Found::Made)], at(0), at(0));
        assert_eq!(leases.changes(at(0)), []);
        leases.lost(0);
        leases.lost(0);
        assert_eq!(leases.changes(at(1)), [(0, 0, Standing::New)], "it broke while it was new");
        assert_eq!(leases.changes(at(1)), []);
        // What broke while Redis was away is reported when it is back.
        leases.beat((0, "one"), &[(0, Found::Mine)], at(1), at(1));
        leases.lost(0);
        assert_eq!(leases.changes(at(9)), [(0, 0, Standing::Alone)]);
        leases.beat((0, "one"), &[(0, Found::Made)], at(10), at(10));
        assert_eq!(leases.changes(at(10)), [(0, 0, Standing::New)]);
        assert_eq!(leases.changes(at(11)), []);
    }

    #[test]
    fn a_free_session_is_taken_at_once_only_before_the_first_break() {
        let start = Instant::now();
        let mut leases = Leases::new(1, TTL, start);
        assert!(!leases.may_found(0, start));
        leases.beat((0, "one"), &[(0, Found::Made)], start, start);
        assert!(leases.may_found(0, start) && !leases.may_found(7, start));
        leases.lost(0);
        let at = |n: u32| start + BEAT * n;
        for n in 1..=4 {
            leases.beat((0, "one"), &[(0, Found::Mine)], at(n), at(n));
            assert!(!leases.may_found(0, at(n)));
        }
        leases.beat((0, "one"), &[(0, Found::Mine)], at(5), at(5));
        assert!(leases.may_found(0, at(5)));
    }

    #[test]
    fn a_node_without_an_answer_is_alone() {
        let start = Instant::now();
        let mut leases = Leases::new(2, TTL, start);
        beat(&mut leases, start, 0..9);
        let last = start + BEAT * 8;
        assert_eq!(leases.standing(0, last + TTL / 2 - BEAT), Standing::Full);
        assert_eq!(leases.next_change(last), Some(last + TTL / 2));
        assert_eq!(leases.standing(0, last + TTL / 2), Standing::Alone);
        assert!(leases.is_senior(0, last + TTL / 2) && !leases.is_senior(0, last + TTL));
        leases.beat((0, "one"), &[(0, Found::Made), (1, Found::Mine)], last + TTL, last + TTL);
        assert_eq!(leases.changes(last + TTL), [(0, 0, Standing::New), (1, 1, Standing::Full)]);
        leases.set_usurped(true);
        assert_eq!(leases.overall(last + TTL), Standing::Alone);
    }
}
