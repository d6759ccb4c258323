//! The only reader of clocks under `shards/`.

use bandsync_engine::words::time::Micros;

/// The server's clock: monotonic time since a start that all shards share. Copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// `CLOCK_MONOTONIC` at the server's start, in nanoseconds.
    start: i64,
}

impl Clock {
    /// Creates a clock whose zero is now.
    pub fn start() -> Self {
        Self { start: read(libc::CLOCK_MONOTONIC) }
    }

    /// Creates a clock whose zero is a Unix time in microseconds, by the wall clock as it is now.
    /// All nodes of a cluster count from its founding.
    pub fn start_at(unix_micros: i64) -> Self {
        let since = read(libc::CLOCK_REALTIME).saturating_sub(unix_micros.saturating_mul(1_000));
        Self { start: read(libc::CLOCK_MONOTONIC).saturating_sub(since) }
    }

    /// Returns the time since the start. Measured: 25 ns, because the kernel is not entered.
    pub fn now(&self) -> Micros {
        Micros::from_micros(self.nanos() / 1_000)
    }

    /// Returns the nanoseconds since the start, for measurements.
    pub fn nanos(&self) -> u64 {
        u64::try_from(read(libc::CLOCK_MONOTONIC) - self.start).unwrap_or_default()
    }

    /// Returns the Unix time of the server's start in microseconds, by the wall clock as it is now.
    /// If the wall clock is set, this value changes.
    pub fn started_unix_micros(&self) -> i64 {
        let monotonic = read(libc::CLOCK_MONOTONIC);
        let wall = read(libc::CLOCK_REALTIME);
        (wall - (monotonic - self.start)) / 1_000
    }

    /// Returns the Unix time of the server's start in milliseconds, for
    /// [`Settings::started_unix_ms`](bandsync_engine::io::Settings).
    pub fn started_unix_ms(&self) -> i64 {
        self.started_unix_micros().div_euclid(1_000)
    }

    /// Converts a time to nanoseconds of `CLOCK_MONOTONIC`, as the kernel's timers expect.
    pub(crate) fn monotonic_nanos(&self, at: Micros) -> i64 {
        let since = i64::try_from(at.as_micros()).unwrap_or(i64::MAX).saturating_mul(1_000);
        self.start.saturating_add(since)
    }
}

/// Reads a clock of the kernel, in nanoseconds.
fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the kernel to write one timespec to.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert!(result == 0, "clock {clock} cannot be read");
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn copies_share_a_start_and_never_run_backwards() {
        let clock = Clock::start();
        let copy = clock;
        let mut before = Micros::ZERO;
        for _ in 0..1_000 {
            for now in [clock.now(), copy.now()] {
                assert!(now >= before);
                before = now;
            }
        }
        assert!(before < Micros::from_secs(3_600));
    }

    #[test]
    fn the_wall_clock_is_start_plus_elapsed() {
        let clock = Clock::start();
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as i64);
        let ours = clock.started_unix_ms() + clock.now().as_millis() as i64;
        assert!((unix - ours).abs() < 10_000, "{unix} and {ours}");
    }

    #[test]
    fn clocks_of_one_founding_agree() {
        let now = read(libc::CLOCK_REALTIME) / 1_000;
        let year = 365 * 24 * 3_600 * 1_000_000;
        let [one, other] = [(); 2].map(|()| Clock::start_at(now - year));
        assert!(one.now() >= Micros::from_micros(year as u64));
        assert!((one.started_unix_micros() - (now - year)).abs() < 10_000_000);
        assert!((one.start - other.start).abs() < 10_000_000_000);
        assert_eq!(Clock::start_at(now + year).now(), Micros::ZERO);
    }

    #[test]
    fn a_point_converts_to_the_kernels_clock() {
        let clock = Clock::start();
        assert_eq!(clock.monotonic_nanos(Micros::ZERO), clock.start);
        assert_eq!(clock.monotonic_nanos(Micros::from_micros(3)), clock.start + 3_000);
        assert_eq!(clock.monotonic_nanos(Micros::from_micros(u64::MAX)), i64::MAX);
    }
}
