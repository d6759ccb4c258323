//! Leases of this node: their seniority, and the standing that follows from it.
//!
//! A lease is a key for each bucket that lives for `LEASE_TTL` and is renewed four times in that
//! time. It only tells others that this node lives: nothing is decided by it here. A node may take
//! over a session once its own lease has stood unbroken for `LEASE_TTL` (R5), so that after a
//! failover, a freeze or an emptied Redis living owners are back first.
//!
//! The time is passed in, and nothing here waits, so tests can play any order of events.

use std::time::{Duration, Instant};

use bandsync_engine::io::node::Standing;

/// The answer to a beat in a bucket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    /// The key still had this node's incarnation.
    Mine,
    /// The key had ended.
    Gone,
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
}

#[derive(Clone, Debug, Default)]
struct Lease {
    lane: usize,
    /// Since when it has stood unbroken.
    since: Option<Instant>,
    /// When Redis will end it, at the earliest.
    until: Option<Instant>,
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
                *lease = Lease { lane: *lane, since: None, until: None };
            }
        }
    }

    /// Returns the lane of a bucket.
    pub fn lane(&self, bucket: u16) -> usize {
        self.buckets.get(usize::from(bucket)).map_or(0, |lease| lease.lane)
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
                lease.since = None;
                // It was held before.
                broken += u64::from(lease.until.is_some());
            }
            match found {
                Found::Rejected | Found::Moved => lease.until = None,
                // The key is another process' no more, but that process will take it back.
                Found::Foreign => lease.until = None,
                Found::Mine | Found::Gone => {
                    lease.since.get_or_insert(now);
                    lease.until = Some(sent + self.ttl);
                }
            }
        }
        broken
    }

    /// Notes that the connection to a primary was lost: it may come back as another (R5).
    pub fn lost(&mut self, lane: usize) {
        for lease in self.buckets.iter_mut().filter(|lease| lease.lane == lane) {
            lease.since = None;
        }
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

    /// Returns the changes since the last call: first bucket, last bucket and their standing.
    pub fn changes(&mut self, now: Instant) -> Vec<(u16, u16, Standing)> {
        let mut changes: Vec<(u16, u16, Standing)> = Vec::new();
        for bucket in 0..self.buckets.len() as u16 {
            let standing = self.standing(bucket, now);
            if self.reported[usize::from(bucket)].replace(standing) == Some(standing) {
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
            let found = if n == 0 { Found::Gone } else { Found::Mine };
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
    fn a_node_without_an_answer_is_alone() {
        let start = Instant::now();
        let mut leases = Leases::new(2, TTL, start);
        beat(&mut leases, start, 0..9);
        let last = start + BEAT * 8;
        assert_eq!(leases.standing(0, last + TTL / 2 - BEAT), Standing::Full);
        assert_eq!(leases.next_change(last), Some(last + TTL / 2));
        assert_eq!(leases.standing(0, last + TTL / 2), Standing::Alone);
        assert!(leases.is_senior(0, last + TTL / 2) && !leases.is_senior(0, last + TTL));
        leases.beat((0, "one"), &[(0, Found::Gone), (1, Found::Mine)], last + TTL, last + TTL);
        assert_eq!(leases.changes(last + TTL), [(0, 0, Standing::New), (1, 1, Standing::Full)]);
        leases.set_usurped(true);
        assert_eq!(leases.overall(last + TTL), Standing::Alone);
    }
}
