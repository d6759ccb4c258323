//! Signs of life of a peer: Engine.IO's ping, which closes silent connections, and the application
//! heartbeat, which old clients expect and which measures the quality of the connection.

use serde::{Deserialize, Serialize};

use crate::io::Settings;
use crate::speech::{Number, Quality};
use crate::words::ids::MemberId;
use crate::words::time::{Micros, Moment, UnixMillis};

/// Number of pongs between two `connection_quality` events.
const PONGS_PER_REPORT: u32 = 5;

/// Maximum lateness of a ping whose answer is due as if it had been sent in time. Guessed.
const LATENESS_FORGIVEN: Micros = Micros::from_millis(20);

/// The inverse weight of a new round trip in the smoothed one, as in TCP.
const SMOOTHING: u64 = 8;

/// Maximum age of a late pong. A larger one counts as this, because the wall clock may have been
/// set meanwhile.
const LATE_MAX_MS: f64 = 60_000.0;

/// Engine.IO's heartbeat: one side pings, and the other must answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum EnginePing {
    /// The time of the next ping.
    DueAt(Micros),
    /// The time by which the last ping must be answered, or the connection is closed.
    AnswerBy(Micros),
}

impl EnginePing {
    /// Starts a heartbeat now.
    pub fn new(now: Micros, settings: &Settings) -> Self {
        Self::DueAt(now + settings.ping_interval)
    }

    /// Starts a heartbeat in which the client pings. It must send something before this time is
    /// over.
    pub fn client_driven(now: Micros, settings: &Settings) -> Self {
        Self::AnswerBy(now + settings.ping_interval + settings.ping_timeout)
    }

    /// Records a ping that is sent now. Its answer is due as if it had been sent in time, unless it
    /// is so late that the client would suffer.
    pub fn sent(due: Micros, now: Micros, settings: &Settings) -> Self {
        let from = if now.since(due) <= LATENESS_FORGIVEN { due } else { now };
        Self::AnswerBy(from + settings.ping_timeout)
    }

    /// Returns the next deadline.
    pub fn deadline(self) -> Micros {
        match self {
            Self::DueAt(at) | Self::AnswerBy(at) => at,
        }
    }

    /// Records a pong. One that answers no ping is ignored.
    pub fn answered(&mut self, now: Micros, settings: &Settings) {
        if matches!(self, Self::AnswerBy(_)) {
            *self = Self::DueAt(now + settings.ping_interval); // mark: engine_pings_too_often
        }
    }
}

/// The application heartbeat of a connection, with its measurements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The time at which the connection was opened.
    opened_at: Micros,
    /// The time of the next `ping` event.
    due_at: Micros,
    /// The unanswered `ping` event: the time at which it was sent, and its timestamp.
    waiting: Option<(Micros, UnixMillis)>,
    /// The smoothed round trip, in microseconds.
    latency: Option<u32>,
    /// The smoothed distance of round trips from `latency`, in microseconds.
    deviation: u32,
    pings: u32,
    pongs: u32,
    timeouts: u32,
}

impl Heartbeat {
    /// Starts a heartbeat now.
    pub fn new(now: Micros, settings: &Settings) -> Self {
        let due_at = now + settings.heartbeat_interval;
        Self {
            opened_at: now,
            due_at,
            waiting: None,
            latency: None,
            deviation: 0,
            pings: 0,
            pongs: 0,
            timeouts: 0,
        }
    }

    /// Returns the time at which the connection was opened, or the heartbeat restarted.
    pub fn opened_at(&self) -> Micros {
        self.opened_at
    }

    /// Returns the time of the next `ping` event.
    pub fn deadline(&self) -> Micros {
        self.due_at
    }

    /// Records a `ping` event that is sent now. If the one before it is unanswered, that one has
    /// timed out.
    pub fn ping_sent(&mut self, now: Micros, timestamp: UnixMillis, settings: &Settings) {
        self.timeouts += u32::from(self.waiting.replace((now, timestamp)).is_some());
        self.pings += 1;
        self.due_at = now + settings.heartbeat_interval; // mark: heartbeat_too_often
    }

    /// Records a `pong`. It answers the ping whose timestamp it carries, or any ping if it carries
    /// none. Returns the measured round trip, and whether a report is due.
    ///
    /// A pong that answers an earlier ping shows a round trip of more than `interval`. The time at
    /// which that ping was sent is not kept, so the round trip is computed from its timestamp, with
    /// `interval` as the minimum. For the quality of the member's connection the ping remains lost.
    pub fn pong_received(
        &mut self,
        now: Moment,
        timestamp: Option<Number>,
        interval: Micros,
    ) -> Option<(Micros, bool)> {
        let (sent_at, sent) = self.waiting?;
        if let Some(Number(timestamp)) = timestamp
            && timestamp != sent.0 as f64
        {
            let opened = now.unix.0.saturating_sub(now.at.since(self.opened_at).as_millis() as i64);
            let ours = timestamp >= opened as f64 && timestamp < sent.0 as f64;
            let age =
                Micros::from_millis((now.unix.0 as f64 - timestamp).clamp(0.0, LATE_MAX_MS) as u64);
            return ours.then(|| (age.max(interval), false));
        }
        self.waiting = None;
        self.pongs += 1;
        let sample = now.at.since(sent_at);
        let micros = u32::try_from(sample.as_micros()).unwrap_or(u32::MAX);
        self.deviation = match self.latency {
            Some(latency) => smoothed(self.deviation, latency.abs_diff(micros)),
            None => micros / 2,
        };
        self.latency = Some(self.latency.map_or(micros, |latency| smoothed(latency, micros)));
        Some((sample, self.pongs.is_multiple_of(PONGS_PER_REPORT))) // mark: report_with_every_pong
    }

    /// Returns the smoothed round trip, once one was measured.
    pub fn latency(&self) -> Option<Micros> {
        self.latency.map(|latency| Micros::from_micros(latency.into()))
    }

    /// Returns the round trip that 95 % of all round trips do not exceed, once one was measured. In
    /// a normal distribution that is the mean and twice the mean distance from it.
    pub fn latency_p95(&self) -> Option<Micros> {
        let latency = u64::from(self.latency?);
        Some(Micros::from_micros(latency + 2 * u64::from(self.deviation)))
    }

    /// Returns the contents of `connection_quality`.
    pub fn quality(&self, member: MemberId, now: Micros) -> Quality {
        Quality {
            member,
            latency: self.latency(),
            ping_count: self.pings,
            pong_count: self.pongs,
            timeouts: self.timeouts,
            connection_duration: now.since(self.opened_at),
        }
    }
}

/// Returns the smoothed value after a new sample.
fn smoothed(before: u32, sample: u32) -> u32 {
    ((u64::from(before) * (SMOOTHING - 1) + u64::from(sample)) / SMOOTHING) as u32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MS: fn(u64) -> Micros = Micros::from_millis;

    fn pulse() -> Heartbeat {
        Heartbeat::new(MS(0), &Settings::default())
    }

    /// Records a pong at this time, on a server whose wall clock was at zero when it started.
    fn pong_received(
        pulse: &mut Heartbeat,
        ms: u64,
        timestamp: Option<f64>,
    ) -> Option<(Micros, bool)> {
        let now = Moment { at: MS(ms), unix: UnixMillis(ms as i64) };
        pulse.pong_received(now, timestamp.map(Number), MS(5_000))
    }

    #[test]
    fn a_pong_measures_the_round_trip() {
        let mut pulse = pulse();
        pulse.ping_sent(MS(5_000), UnixMillis(7), &Settings::default());
        assert_eq!(pong_received(&mut pulse, 5_040, Some(7.0)), Some((MS(40), false)));
        assert_eq!(pulse.latency(), Some(MS(40)));
        assert_eq!(
            pong_received(&mut pulse, 5_050, Some(7.0)),
            None,
            "the second answer to one ping"
        );
    }

    #[test]
    fn the_p95_covers_the_spread_of_round_trips() {
        let mut pulse = pulse();
        assert_eq!(pulse.latency_p95(), None);
        let mut round_trip = |n: u64, ms: u64| {
            pulse.ping_sent(MS(5_000 * n), UnixMillis(n as i64), &Settings::default());
            pong_received(&mut pulse, 5_000 * n + ms, None).unwrap();
            pulse.latency_p95().unwrap().as_millis()
        };
        assert_eq!(round_trip(1, 40), 80, "one round trip says little about the spread");
        let steady = (2..40).map(|n| round_trip(n, 40)).last();
        assert_eq!(steady, Some(40));
        let spread: Vec<u64> = (40..80).map(|n| round_trip(n, 20 + n % 2 * 40)).collect();
        assert!(spread[20..].iter().all(|p95| (75..90).contains(p95)), "{spread:?}");
    }

    #[test]
    fn a_pong_for_another_ping_is_ignored() {
        let mut pulse = pulse();
        pulse.ping_sent(MS(5_000), UnixMillis(7), &Settings::default());
        assert_eq!(pong_received(&mut pulse, 5_040, Some(8.0)), None);
        assert_eq!(pong_received(&mut pulse, 5_040, Some(f64::MIN)), None);
        assert_eq!(pong_received(&mut pulse, 5_060, None), Some((MS(60), false)));
    }

    #[test]
    fn a_pong_after_the_next_ping_measures_its_delay_but_counts_as_lost() {
        let mut pulse = pulse();
        for n in 1..=3 {
            pulse.ping_sent(MS(5_000 * n), UnixMillis(5_000 * n as i64), &Settings::default());
        }
        assert_eq!(pong_received(&mut pulse, 17_000, Some(10_000.0)), Some((MS(7_000), false)));
        assert_eq!(
            pong_received(&mut pulse, 17_000, Some(14_999.0)),
            Some((MS(5_000), false)),
            "an interval at least"
        );
        let long = MS(1_000_000);
        pulse.ping_sent(long, UnixMillis(1_000_000), &Settings::default());
        assert_eq!(pong_received(&mut pulse, 1_000_001, Some(5_000.0)), Some((MS(60_000), false)));
        let quality = pulse.quality(MemberId::from_bytes([0; 15]), long);
        assert_eq!(
            (quality.pong_count, quality.timeouts, quality.latency),
            (0, 3, None),
            "the latency is unknown"
        );
    }

    #[test]
    fn a_ping_unanswered_before_the_next_one_is_lost() {
        let mut pulse = pulse();
        for n in 1..=4 {
            pulse.ping_sent(MS(5_000 * n), UnixMillis(n as i64), &Settings::default());
        }
        pong_received(&mut pulse, 20_010, Some(4.0)).unwrap();
        let quality = pulse.quality(MemberId::from_bytes([0; 15]), MS(20_020));
        assert_eq!((quality.ping_count, quality.pong_count, quality.timeouts), (4, 1, 3));
        assert_eq!(quality.packet_loss(), 75.0);
        assert_eq!(quality.word(), "poor");
    }

    #[test]
    fn every_fifth_pong_is_reported() {
        let mut pulse = pulse();
        let reports: Vec<bool> = (1..=10)
            .map(|n| {
                pulse.ping_sent(MS(5_000 * n), UnixMillis(n as i64), &Settings::default());
                pong_received(&mut pulse, 5_000 * n + 1, None).unwrap().1
            })
            .collect();
        assert_eq!(reports, [false, false, false, false, true, false, false, false, false, true]);
    }

    #[test]
    fn a_pong_out_of_turn_does_not_move_the_next_ping() {
        let mut ping = EnginePing::new(MS(0), &Settings::default());
        let due = ping.deadline();
        ping.answered(MS(1_000), &Settings::default());
        assert_eq!(ping.deadline(), due);
    }
}
