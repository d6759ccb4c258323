//! Seeded models of the networks between a band and its server: the delay of each chunk of bytes.
//!
//! A delay is that of one direction. The figures are specified by the study of clock
//! synchronisation that the browser's clock was chosen by.

use bandsync_engine::words::rng::Rng;
use clap::ValueEnum;

use crate::timer_fd::Nanos;

/// A kind of network.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Profile {
    /// A cable: 0.1 ms each way, with little jitter.
    Wired,
    /// 1.5 ms and a mean of 1 ms more each way. Bursts of up to 15 ms last half a second and come
    /// every 20 s.
    Good,
    /// Good Wi-Fi to a busy phone: one message in ten waits up to 16 ms for the page.
    Busy,
    /// 10 ms and a heavy tail with a mean of 7.5 ms more each way. One chunk in 200 is lost and
    /// sent again 150 to 250 ms later.
    Bad,
    /// 4G: at least 18 ms up and 12 ms down, with a long tail.
    Mobile,
}

impl Profile {
    /// All profiles, from the best to the worst.
    pub const ALL: [Self; 5] = [Self::Wired, Self::Good, Self::Busy, Self::Bad, Self::Mobile];

    /// Returns the name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Wired => "wired",
            Self::Good => "good Wi-Fi",
            Self::Busy => "good Wi-Fi, busy phone",
            Self::Bad => "bad Wi-Fi",
            Self::Mobile => "4G",
        }
    }

    /// Returns the least delay of a direction.
    pub fn floor(self, way: Way) -> Nanos {
        nanos(match (self, way) {
            (Self::Wired, _) => 0.1,
            (Self::Good | Self::Busy, _) => 1.5,
            (Self::Bad, _) => 10.0,
            (Self::Mobile, Way::Up) => 18.0,
            (Self::Mobile, Way::Down) => 12.0,
        })
    }
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// The network of one connection. Both directions share its bursts.
#[derive(Debug)]
pub struct Path {
    profile: Profile,
    rng: Rng,
    burst_ends: f64,
    next_burst: f64,
}

/// Mean time between two bursts, in milliseconds.
const BETWEEN_BURSTS_MS: f64 = 20_000.0;
/// Mean duration of a burst, in milliseconds.
const BURST_MS: f64 = 500.0;
/// Maximum delay that a burst adds to one direction, in milliseconds.
const BURST_DELAY_MS: f64 = 15.0;

impl Path {
    /// Creates a path. Equal seeds give equal delays to chunks at equal times.
    pub fn new(profile: Profile, seed: u64) -> Self {
        let mut path =
            Self { profile, rng: Rng::from_seed(seed), burst_ends: 0.0, next_burst: 0.0 };
        path.next_burst = path.exponential(BETWEEN_BURSTS_MS);
        path
    }

    /// Draws the delay of a chunk that is sent at `at`, counted from the path's beginning. `at`
    /// does not decrease by more than the time that chunks take.
    pub fn delay(&mut self, way: Way, at: Nanos) -> Nanos {
        let floor = self.profile.floor(way);
        let more = match (self.profile, way) {
            (Profile::Wired, _) => (0.035 * self.normal()).abs(),
            (Profile::Good, _) | (Profile::Busy, Way::Up) => self.wireless(at),
            (Profile::Busy, Way::Down) => self.wireless(at) + self.busy_phone(),
            (Profile::Bad, _) => self.heavy_tail() + self.retransmission(),
            (Profile::Mobile, Way::Up) => 12.0 * self.normal().powi(2),
            (Profile::Mobile, Way::Down) => 8.0 * self.normal().powi(2),
        };
        floor + nanos(more)
    }

    fn wireless(&mut self, at: Nanos) -> f64 {
        let at = at as f64 / 1e6;
        while at > self.next_burst {
            self.burst_ends = self.next_burst + self.exponential(BURST_MS);
            self.next_burst += self.exponential(BETWEEN_BURSTS_MS);
        }
        let burst = if at < self.burst_ends { BURST_DELAY_MS * self.unit() } else { 0.0 };
        self.exponential(1.0) + burst
    }

    /// Draws the delay until the page of a busy phone handles a message.
    fn busy_phone(&mut self) -> f64 {
        let waits = self.unit() < 0.1;
        self.exponential(0.3) + if waits { 16.0 * self.unit() } else { 0.0 }
    }

    /// Draws from a shifted Pareto distribution with shape 2.2 and a mean of 7.5 ms.
    fn heavy_tail(&mut self) -> f64 {
        const SHAPE: f64 = 2.2;
        7.5 * (SHAPE - 1.0) * (self.unit().powf(-1.0 / SHAPE) - 1.0)
    }

    /// Draws the stall of a segment that may be lost and sent again. The proxy keeps the order, so
    /// later chunks wait for it, as TCP makes them.
    fn retransmission(&mut self) -> f64 {
        if self.unit() < 0.005 { 150.0 + 100.0 * self.unit() } else { 0.0 }
    }

    /// Draws from (0, 1).
    fn unit(&mut self) -> f64 {
        ((self.rng.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

fn nanos(millis: f64) -> Nanos {
    (millis * 1e6) as Nanos
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timer_fd::MILLISECOND;

    const COUNT: u64 = 20_000;

    /// Returns delays of chunks that are sent every 50 ms, in milliseconds.
    fn delays(profile: Profile, way: Way, seed: u64) -> Vec<f64> {
        let mut path = Path::new(profile, seed);
        (0..COUNT).map(|n| path.delay(way, n * 50 * MILLISECOND) as f64 / 1e6).collect()
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    #[test]
    fn no_delay_is_below_the_floor_and_the_floor_is_nearly_reached() {
        for profile in Profile::ALL {
            for way in [Way::Up, Way::Down] {
                let floor = profile.floor(way) as f64 / 1e6;
                for seed in 0..5 {
                    let least = delays(profile, way, seed).into_iter().fold(f64::MAX, f64::min);
                    assert!(
                        least >= floor && least < floor + 0.02,
                        "{profile:?} {way:?}: {least} for {floor}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_mean_delay_is_as_specified() {
        // Bursts add 7.5 ms for half a second in 20; a busy phone 0.3 ms and a tenth of 8 ms; one
        // chunk in 200 stalls for 200 ms.
        let burst = 7.5 * 0.5 / 20.0;
        for (profile, way, expected) in [
            (Profile::Wired, Way::Up, 0.1 + 0.035 * (2.0 / std::f64::consts::PI).sqrt()),
            (Profile::Good, Way::Up, 2.5 + burst),
            (Profile::Busy, Way::Up, 2.5 + burst),
            (Profile::Busy, Way::Down, 2.5 + burst + 0.3 + 0.8),
            (Profile::Bad, Way::Down, 17.5 + 1.0),
            (Profile::Mobile, Way::Up, 30.0),
            (Profile::Mobile, Way::Down, 20.0),
        ] {
            let found: Vec<f64> = (0..10).flat_map(|seed| delays(profile, way, seed)).collect();
            let found = mean(&found);
            assert!(
                (found / expected - 1.0).abs() < 0.04,
                "{profile:?} {way:?}: {found} for {expected}"
            );
        }
    }

    #[test]
    fn bursts_come_in_runs_and_stalls_alone() {
        let late = |profile, limit: f64| {
            let delays = delays(profile, Way::Up, 3);
            let late: Vec<bool> = delays.iter().map(|delay| *delay > limit).collect();
            let all = late.iter().filter(|late| **late).count();
            let pairs = late.windows(2).filter(|pair| pair[0] && pair[1]).count();
            (all, pairs as f64 / all as f64)
        };
        // Without bursts, a delay over 11.5 ms has a probability of e^-10. A tail over 150 ms has
        // one of 0.2 %, a stall of 0.5 %.
        let (bursts, in_a_row) = late(Profile::Good, 11.5);
        assert!(bursts > 50 && in_a_row > 0.15, "{bursts}, {in_a_row}");
        let (stalls, in_a_row) = late(Profile::Bad, 150.0);
        let share = stalls as f64 / COUNT as f64;
        assert!((0.004..0.011).contains(&share) && in_a_row < 0.1, "{share}, {in_a_row}");
    }

    #[test]
    fn equal_seeds_give_equal_delays_and_others_do_not() {
        for profile in Profile::ALL {
            assert_eq!(delays(profile, Way::Up, 7), delays(profile, Way::Up, 7));
            assert_ne!(delays(profile, Way::Up, 7), delays(profile, Way::Up, 8));
        }
    }
}
