//! Token buckets for the events of a client, and the rejections after which it is closed.

use serde::{Deserialize, Serialize};

use crate::words::limits::{RateClass, RateLimits};
use crate::words::time::Micros;

/// Time for which a rejection counts. Specified by the protocol: ten rejections within a minute
/// close the client.
pub const REJECTIONS_WINDOW: Micros = Micros::from_secs(60);

/// Seconds of its rate that a bucket holds, so a burst is twice the rate. Specified by the
/// protocol.
const BURST_SECONDS: u64 = 2;

/// The recent events of one client. `W` is what waits for a bucket to refill; it belongs to the
/// caller. The state moves with the client between shards, which share one clock.
///
/// Each bucket is one time (GCRA): the instant at which it is full again. A full bucket is equal to
/// one that was never used, so only the others take memory, and the place of a full one is reused.
/// A client that sends one kind of event at a time needs 32 bytes, as idle clients do. It needs
/// about 170 bytes more once it has used up to five buckets at a time, and 100 bytes more once it
/// was rejected.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(bound(serialize = "", deserialize = "W: Default"))]
pub struct EventRates<W> {
    /// Time at which the bucket of all events together is full again.
    total_full_at: Micros,
    first: Option<Bucket>,
    more: Option<Box<More<W>>>,
}

/// The part of the state that most clients never need.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(bound(serialize = "", deserialize = "W: Default"))]
struct More<W> {
    /// Buckets besides the first, unordered, because there are a handful.
    buckets: Vec<Bucket>,
    /// Times of rejections within the last window, oldest first.
    refusals: Vec<Micros>,
    /// Values that wait for their bucket. None does while the client moves.
    #[serde(skip)]
    waiting: W,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<EventRates<()>>() == 32 && size_of::<Bucket>() == 16);

/// The bucket of one class of events.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Bucket {
    class: RateClass,
    full_at: Micros,
}

impl<W: Default> EventRates<W> {
    /// Takes an event from its bucket and from the total. A rejected event takes from neither.
    ///
    /// # Errors
    /// The time to wait, if the bucket of the class or the total has run out. The same event is
    /// taken after this time, and not before.
    pub fn take(
        &mut self,
        now: Micros,
        class: RateClass,
        limits: &RateLimits,
    ) -> Result<(), Micros> {
        let mine = self.buckets().position(|bucket| bucket.class == class);
        let full_at =
            mine.and_then(|index| self.buckets().nth(index)).map_or(Micros::ZERO, |b| b.full_at);
        let after_class = draw(now, full_at, limits.of(class));
        let after_total = draw(now, self.total_full_at, limits.total);
        let (Ok(full_at), Ok(total_full_at)) = (after_class, after_total) else {
            let wait = |drawn: Result<Micros, Micros>| drawn.err().unwrap_or_default();
            return Err(wait(after_class).max(wait(after_total)));
        };
        self.total_full_at = total_full_at;
        self.note(now, class, full_at, mine);
        Ok(())
    }

    /// Takes an event that can wait no longer. Its bucket becomes at most empty, but the total goes
    /// into debt for it.
    pub fn take_anyway(&mut self, now: Micros, class: RateClass, limits: &RateLimits) {
        let mine = self.buckets().position(|bucket| bucket.class == class);
        let full_at =
            mine.and_then(|index| self.buckets().nth(index)).map_or(Micros::ZERO, |b| b.full_at);
        if let Ok(full_at) = draw(now, full_at, limits.of(class)) {
            self.note(now, class, full_at, mine);
        }
        if limits.total > 0 {
            let interval = Micros::from_micros(1_000_000 / u64::from(limits.total));
            self.total_full_at = self.total_full_at.max(now) + interval;
        }
    }

    /// Sets the time at which the bucket of a class is full again. `mine` is the index of its
    /// bucket, if it has one.
    fn note(&mut self, now: Micros, class: RateClass, full_at: Micros, mine: Option<usize>) {
        let index = mine.or_else(|| self.buckets().position(|bucket| bucket.full_at <= now));
        let drawn = Bucket { class, full_at };
        if let Some(bucket) = index.and_then(|index| self.buckets_mut().nth(index)) {
            *bucket = drawn;
        } else if full_at > now {
            match &mut self.first {
                None => self.first = Some(drawn),
                Some(_) => self.more.get_or_insert_default().buckets.push(drawn),
            }
        }
    }

    fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.first.iter().chain(self.more.iter().flat_map(|more| &more.buckets))
    }

    fn buckets_mut(&mut self) -> impl Iterator<Item = &mut Bucket> {
        self.first.iter_mut().chain(self.more.iter_mut().flat_map(|more| &mut more.buckets))
    }

    /// Returns the waiting values, if any were ever stored.
    pub fn waiting(&self) -> Option<&W> {
        self.more.as_ref().map(|more| &more.waiting)
    }

    /// Returns the place for waiting values.
    pub fn waiting_mut(&mut self) -> &mut W {
        &mut self.more.get_or_insert_default().waiting
    }

    /// Drops the waiting values.
    pub fn drop_waiting(&mut self) {
        if let Some(more) = &mut self.more {
            more.waiting = W::default();
        }
    }

    /// Counts a rejected event. Returns true if the client has reached the limit and is to be
    /// closed.
    pub fn reject(&mut self, now: Micros, limits: &RateLimits) -> bool {
        let refusals_max = limits.refusals_max;
        if refusals_max == 0 {
            return false;
        }
        let refusals = &mut self.more.get_or_insert_default().refusals;
        refusals.retain(|&at| now.since(at) < REJECTIONS_WINDOW);
        if refusals.len() >= refusals_max as usize {
            // The list stays bounded even if the caller does not close the client at once.
            refusals.remove(0);
        }
        refusals.push(now);
        refusals.len() >= refusals_max as usize // mark: rates_without_end
    }
}

/// Takes one event from a bucket that is full again at `full_at`. Returns the later time at which
/// it is full then.
///
/// # Errors
/// The time to wait until the bucket holds an event.
pub(super) fn draw(now: Micros, full_at: Micros, rate: u32) -> Result<Micros, Micros> {
    if rate == 0 {
        return Ok(full_at);
    }
    // Rounded down: a client may send slightly more than its rate, never less.
    let interval = 1_000_000 / u64::from(rate);
    let capacity = Micros::from_micros(interval * u64::from(rate) * BURST_SECONDS);
    let full_at = full_at.max(now) + Micros::from_micros(interval);
    match full_at.since(now).since(capacity) {
        Micros::ZERO => Ok(full_at),
        wait => Err(wait),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    type EventRates = super::EventRates<()>;
    use proptest::prelude::*;

    const SECOND: Micros = Micros::from_secs(1);
    const START: Micros = Micros::from_secs(7);

    struct Rejected {
        retry_after: Micros,
        close: bool,
    }

    /// Takes an event, and notes a rejection if there is no room for it.
    fn attempt(
        rates: &mut EventRates,
        now: Micros,
        class: RateClass,
        limits: &RateLimits,
    ) -> Result<(), Rejected> {
        let taken = rates.take(now, class, limits);
        taken.map_err(|retry_after| Rejected { retry_after, close: rates.reject(now, limits) })
    }

    fn us(micros: u64) -> Micros {
        Micros::from_micros(micros)
    }

    /// No limits except those that a test sets.
    fn unlimited() -> RateLimits {
        RateLimits {
            position_sync: 0,
            metronome_tick: 0,
            sync_request: 0,
            chat_message: 0,
            latency_probe: 0,
            clock_sync: 0,
            tempo_change: 0,
            join_session: 0,
            other: 0,
            total: 0,
            refusals_max: 0,
        }
    }

    fn taken_at_once(
        rates: &mut EventRates,
        now: Micros,
        class: RateClass,
        limits: &RateLimits,
    ) -> usize {
        (0..1000).take_while(|_| rates.take(now, class, limits).is_ok()).count()
    }

    #[test]
    fn each_class_has_the_rate_of_the_protocol_and_a_burst_of_twice_that() {
        use RateClass::*;
        let limits = RateLimits { total: 0, refusals_max: 0, ..RateLimits::default() };
        for (class, rate) in [
            (PositionSync, 50),
            (MetronomeTick, 20),
            (SyncRequest, 10),
            (ChatMessage, 10),
            (LatencyProbe, 20),
            (ClockSync, 20),
            (TempoChange, 5),
            (JoinSession, 2),
            (Other(0), 5),
            (Other(255), 5),
        ] {
            let mut rates = EventRates::default();
            assert_eq!(
                taken_at_once(&mut rates, START, class, &limits),
                2 * rate,
                "{class:?} burst"
            );
            let second_later = START + SECOND;
            assert_eq!(
                taken_at_once(&mut rates, second_later, class, &limits),
                rate,
                "{class:?} rate"
            );
            let rested = second_later + Micros::from_secs(100);
            assert_eq!(
                taken_at_once(&mut rates, rested, class, &limits),
                2 * rate,
                "{class:?} rested"
            );
        }
    }

    #[test]
    fn the_total_rate_holds_for_any_mix_of_events() {
        let limits = RateLimits { refusals_max: 0, ..RateLimits::default() };
        let mut rates = EventRates::default();
        let events = (0..=255).flat_map(|event| [RateClass::Other(event); 3]);
        assert_eq!(events.filter(|&class| rates.take(START, class, &limits).is_ok()).count(), 200);
        let wait = rates.take(START, RateClass::PositionSync, &limits).unwrap_err();
        assert_eq!(wait, us(10_000));
    }

    #[test]
    fn an_exhausted_event_does_not_limit_the_others() {
        let limits = RateLimits::default();
        let (play, seek) = (RateClass::Other(1), RateClass::Other(2));
        let mut rates = EventRates::default();
        assert_eq!(taken_at_once(&mut rates, START, play, &limits), 10);
        assert_eq!(taken_at_once(&mut rates, START, seek, &limits), 10);
        assert_eq!(taken_at_once(&mut rates, START, RateClass::ClockSync, &limits), 40);
    }

    #[test]
    fn the_tenth_rejection_within_a_minute_closes() {
        let limits = RateLimits { join_session: 1, refusals_max: 10, ..unlimited() };
        // Takes what there is, until one is rejected.
        let reject = |rates: &mut EventRates, now| {
            let mut rejected =
                (0..3).filter_map(|_| attempt(rates, now, RateClass::JoinSession, &limits).err());
            rejected.next().unwrap().close
        };
        let mut rates = EventRates::default();
        let closes: Vec<bool> = (0..10).map(|k| reject(&mut rates, START + us(k))).collect();
        assert_eq!(closes, [[false; 9].as_slice(), &[true]].concat());

        let mut rates = EventRates::default();
        (0..9).for_each(|k| assert!(!reject(&mut rates, START + us(k))));
        let mut forgotten_one = rates.clone();
        assert!(
            !reject(&mut forgotten_one, START + REJECTIONS_WINDOW),
            "the first is a minute old"
        );
        assert!(reject(&mut rates, START + REJECTIONS_WINDOW - us(1)), "the first still counts");
    }

    #[test]
    fn rejections_are_remembered_up_to_their_limit_only() {
        let limits = RateLimits { join_session: 1, refusals_max: 3, ..unlimited() };
        let mut rates = EventRates::default();
        for _ in 0..100 {
            _ = attempt(&mut rates, START, RateClass::JoinSession, &limits);
        }
        assert_eq!(rates.more.as_ref().unwrap().refusals.len(), 3);
        let lifted = RateLimits { refusals_max: 0, ..limits };
        assert!(!attempt(&mut rates, START, RateClass::JoinSession, &lifted).err().unwrap().close);
    }

    #[test]
    fn full_buckets_make_room_for_others() {
        let limits = RateLimits::default();
        let mut rates = EventRates::default();
        for event in 0..=255 {
            let now = START + Micros::from_secs(event.into());
            rates.take(now, RateClass::Other(event), &limits).unwrap();
            rates.take(now, RateClass::LatencyProbe, &limits).unwrap();
        }
        assert_eq!(rates.buckets().count(), 2);
    }

    #[test]
    fn a_forced_event_leaves_its_bucket_empty_and_the_total_in_debt() {
        let limits = RateLimits { refusals_max: 0, ..RateLimits::default() };
        let (tempo, other) = (RateClass::Other(1), RateClass::Other(2));
        let mut rates = EventRates::default();
        assert_eq!(taken_at_once(&mut rates, START, tempo, &limits), 10);
        for _ in 0..1_000 {
            rates.take_anyway(START, tempo, &limits);
        }
        assert_eq!(
            rates.take(START, other, &limits),
            Err(us(8_110_000)),
            "811 more than the burst"
        );
        let paid = START + us(8_110_000);
        assert_eq!(taken_at_once(&mut rates, paid, tempo, &limits), 1);
        let later = paid + SECOND;
        assert_eq!(
            taken_at_once(&mut rates, later, tempo, &limits),
            10,
            "its own bucket had no debt"
        );
    }

    #[test]
    fn the_rates_survive_a_hand_over() {
        let limits = RateLimits::default();
        let mut rates = EventRates::default();
        (0..30).for_each(|k| _ = rates.take(START + us(k), RateClass::ChatMessage, &limits));
        let bytes = postcard::to_allocvec(&rates).unwrap();
        assert_eq!(postcard::from_bytes::<EventRates>(&bytes).unwrap(), rates);
    }

    /// The bucket of the textbooks: it fills while time passes, and each event takes its share. Its
    /// unit is a part of an event. An event has `interval` parts, and one is added per microsecond.
    struct Pail {
        parts: u64,
        capacity: u64,
        interval: u64,
    }

    impl Pail {
        fn new(rate: u32) -> Pail {
            let interval = 1_000_000 / u64::from(rate);
            let capacity = interval * u64::from(rate) * 2;
            Pail { parts: capacity, capacity, interval }
        }
        fn fill(&mut self, elapsed: u64) {
            self.parts = (self.parts + elapsed).min(self.capacity);
        }
        fn missing(&self) -> u64 {
            self.interval.saturating_sub(self.parts)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn rates_agree_with_buckets_that_fill_over_time(
            rate in 1..60u32,
            other in 1..10u32,
            total in 1..80u32,
            refusals_max in 1..12u32,
            events in prop::collection::vec((prop_oneof![4 => 0..30_000u64, 1 => 0..70_000_000u64], 0..4u8), 0..300),
        ) {
            let limits = RateLimits { position_sync: rate, other, total, refusals_max, ..unlimited() };
            let mut rates = EventRates::default();
            let mut now = START;
            let mut all = Pail::new(total);
            let mut pails = [Pail::new(rate), Pail::new(other), Pail::new(other), Pail::new(other)];
            let mut refusals: Vec<Micros> = Vec::new();
            for (elapsed, which) in events {
                now = now + us(elapsed);
                all.fill(elapsed);
                pails.iter_mut().for_each(|pail| pail.fill(elapsed));
                let pail = &mut pails[which as usize];
                let class = if which == 0 { RateClass::PositionSync } else { RateClass::Other(which) };

                let before = rates.clone();
                match attempt(&mut rates, now, class, &limits) {
                    Ok(()) => {
                        prop_assert_eq!(pail.missing().max(all.missing()), 0);
                        pail.parts -= pail.interval;
                        all.parts -= all.interval;
                    }
                    Err(rejected) => {
                        let wait = pail.missing().max(all.missing());
                        prop_assert!(wait > 0);
                        prop_assert_eq!(rejected.retry_after, us(wait));
                        prop_assert!(before.clone().take(now + us(wait - 1), class, &limits).is_err());
                        prop_assert!(before.clone().take(now + us(wait), class, &limits).is_ok());
                        refusals.push(now);
                        let recent = refusals.iter().filter(|&&at| now.since(at) < REJECTIONS_WINDOW).count();
                        prop_assert_eq!(rejected.close, recent >= refusals_max as usize);
                    }
                }
                prop_assert!(rates.buckets().count() <= pails.len());
            }
        }
    }
}
