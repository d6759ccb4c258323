//! The requests that each address has left: one budget for all shards, without a lock.
//!
//! The kernel spreads the connections of an address over the shards, so only a shared count is
//! exact. It is not part of the engine, which receives a rejection as it receives any answer; so
//! recorded runs replay. Requests that the engine answers itself (wrong methods, rejected
//! handshakes) cost no more than a rejection would.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bandsync_engine::words::policy::subnet_key;

/// Number of places. Two addresses may share a place and thus a budget, but only by chance: the key
/// of the hash is new in each run.
const PLACES: usize = 1 << 16;

/// The requests per second that addresses may make, at once or spread out.
pub struct Budget {
    /// 0 is any number.
    per_second: u64,
    started: Instant,
    keys: RandomState,
    /// The time at which each place has its whole budget again, in microseconds since the start.
    full_at: Vec<AtomicU64>,
}

impl Budget {
    /// Creates a budget of `per_second` requests for each address; 0 is any number.
    pub fn new(per_second: u32) -> Self {
        let places = if per_second == 0 { 0 } else { PLACES };
        let full_at = std::iter::repeat_with(AtomicU64::default).take(places).collect();
        Self {
            per_second: per_second.into(),
            started: Instant::now(),
            keys: RandomState::new(),
            full_at,
        }
    }

    /// Takes a request from an address's budget.
    ///
    /// # Errors
    /// The time until the address may ask again.
    pub fn take(&self, peer: IpAddr) -> Result<(), Duration> {
        let now = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.take_at(now, peer)
    }

    fn take_at(&self, now: u64, peer: IpAddr) -> Result<(), Duration> {
        if self.per_second == 0 {
            return Ok(());
        }
        const SECOND: u64 = 1_000_000;
        let index = self.keys.hash_one(subnet_key(peer)) as usize % PLACES;
        // Rounded down, so that an address never gets less than its budget.
        let each = SECOND / self.per_second;
        let taken =
            self.full_at[index].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                let after = full_at.max(now) + each;
                (after - now <= each * self.per_second).then_some(after)
            });
        let wait = |full_at: u64| {
            Duration::from_micros((full_at + each).saturating_sub(now + each * self.per_second))
        };
        taken.map(drop).map_err(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 2));

    #[test]
    fn an_address_that_exceeds_its_rate_must_wait() {
        let budget = Budget::new(100);
        for n in 0..100 {
            assert_eq!(budget.take_at(5, ME), Ok(()), "{n}");
        }
        assert_eq!(budget.take_at(5, ME), Err(Duration::from_millis(10)));
        assert_eq!(budget.take_at(5, OTHER), Ok(()), "another address has its own");
        assert!(budget.take_at(10_004, ME).is_err());
        assert_eq!(budget.take_at(10_005, ME), Ok(()));
        assert!(budget.take_at(10_005, ME).is_err());
        assert_eq!((0..200).filter(|_| budget.take_at(60_000_000, ME).is_ok()).count(), 100);
    }

    #[test]
    fn all_shards_share_one_budget() {
        let budget = Budget::new(1_000);
        let taken: usize = std::thread::scope(|scope| {
            let shards: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| (0..1_000).filter(|_| budget.take_at(0, ME).is_ok()).count())
                })
                .collect();
            shards.into_iter().map(|shard| shard.join().unwrap_or(0)).sum()
        });
        assert_eq!(taken, 1_000);
    }

    #[test]
    fn a_limit_of_zero_rejects_no_request() {
        let budget = Budget::new(0);
        assert!((0..10_000).all(|_| budget.take_at(0, ME).is_ok()));
    }
}
