//! The only reader of clocks under `shards/`.
//!
//! A node of a cluster shows the time of the cluster: the machine's clock, bent by a course that
//! the cluster sets. A server that is alone reads the machine's clock and nothing else.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};

use bandsync_engine::clock::Course;
use bandsync_engine::words::time::Micros;

/// The server's clock: monotonic time since a start that all shards share. Copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// `CLOCK_MONOTONIC` at the server's start, in nanoseconds.
    start: i64,
    /// The clock of a node, whose zero is the founding of its cluster.
    steered: Option<&'static Steered>,
}

impl Clock {
    /// Creates a clock whose zero is now.
    pub fn start() -> Self {
        Self { start: read(libc::CLOCK_MONOTONIC), steered: None }
    }

    /// Returns the time since the start. Measured: 25 ns, because the kernel is not entered.
    pub fn now(&self) -> Micros {
        Micros::from_micros(self.nanos() / 1_000)
    }

    /// Returns the nanoseconds since the start, for measurements.
    pub fn nanos(&self) -> u64 {
        if let Some(steered) = self.steered {
            return u64::try_from(steered.nanos()).unwrap_or_default();
        }
        u64::try_from(read(libc::CLOCK_MONOTONIC) - self.start).unwrap_or_default()
    }

    /// Returns the Unix time of the server's start in microseconds, by the wall clock as it is now.
    /// If the wall clock is set, this value changes. In a cluster it is the time of the founding,
    /// the same on all nodes and for ever.
    pub fn started_unix_micros(&self) -> i64 {
        if let Some(steered) = self.steered {
            return steered.founded_unix_us.load(Ordering::Relaxed);
        }
        let monotonic = read(libc::CLOCK_MONOTONIC);
        let wall = read(libc::CLOCK_REALTIME);
        (wall - (monotonic - self.start)) / 1_000
    }

    /// Returns the Unix time of the server's start in milliseconds, for
    /// [`Settings::started_unix_ms`](bandsync_engine::io::Settings).
    pub fn started_unix_ms(&self) -> i64 {
        self.started_unix_micros().div_euclid(1_000)
    }

    /// Whether the times of this clock and of the kernel's differ by a changing amount.
    pub(crate) fn is_steered(&self) -> bool {
        self.steered.is_some()
    }

    /// Converts a time to nanoseconds of `CLOCK_MONOTONIC`, as the kernel's timers expect.
    pub(crate) fn monotonic_nanos(&self, at: Micros) -> i64 {
        let since = i64::try_from(at.as_micros()).unwrap_or(i64::MAX).saturating_mul(1_000);
        match self.steered {
            Some(steered) => steered.course().machine_time(since),
            None => self.start.saturating_add(since),
        }
    }
}

/// The way to set the clock of a node.
#[derive(Clone, Copy, Debug)]
pub struct Steering(&'static Steered);

impl Steering {
    /// Creates the clock of a node. It stays in memory as long as the process.
    pub fn new() -> Self {
        Self(Box::leak(Box::default()))
    }

    /// Returns the clock.
    pub fn clock(&self) -> Clock {
        Clock { start: 0, steered: Some(self.0) }
    }

    /// Returns the machine's clock in nanoseconds: `CLOCK_MONOTONIC`.
    pub fn machine(&self) -> i64 {
        read(libc::CLOCK_MONOTONIC)
    }

    /// Sets the Unix time of the cluster's founding in microseconds: zero of the clock.
    pub fn found(&self, unix_micros: i64) {
        self.0.founded_unix_us.store(unix_micros, Ordering::Relaxed);
    }

    /// Sets the clock's course. Before the first, the clock shows zero. Call it on one thread at a
    /// time.
    pub fn steer(&self, course: Course) {
        self.0.set(course);
    }
}

impl Default for Steering {
    fn default() -> Self {
        Self::new()
    }
}

/// A clock whose course is set while threads read it. Readers never wait: the next course is
/// written beside the present one.
#[derive(Debug, Default)]
struct Steered {
    founded_unix_us: AtomicI64,
    /// Number of courses so far. The last bit chooses the present one.
    count: AtomicU64,
    courses: [[AtomicI64; Course::WORDS]; 2],
}

impl Steered {
    fn nanos(&self) -> i64 {
        self.read(|| read(libc::CLOCK_MONOTONIC)).0
    }

    fn course(&self) -> Course {
        self.read(|| 0).1
    }

    /// Returns the time at a reading of the machine's clock, and the course that it is from. The
    /// machine's clock is read while the course is in force: a thread that was interrupted in
    /// between reads again, or it would go on with a former course.
    fn read(&self, machine: impl Fn() -> i64) -> (i64, Course) {
        loop {
            let count = self.count.load(Ordering::Acquire);
            let words = &self.courses[(count & 1) as usize];
            let course =
                Course::of_words(words.each_ref().map(|word| word.load(Ordering::Relaxed)));
            let time = course.read(machine());
            fence(Ordering::Acquire);
            if self.count.load(Ordering::Relaxed) == count {
                return (time, course);
            }
        }
    }

    fn set(&self, course: Course) {
        let next = self.count.load(Ordering::Relaxed) + 1;
        // A reader that sees a word of this course also sees that its own count has passed.
        fence(Ordering::Release);
        for (word, value) in self.courses[(next & 1) as usize].iter().zip(course.words()) {
            word.store(value, Ordering::Relaxed);
        }
        self.count.store(next, Ordering::Release);
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
    use std::sync::atomic::AtomicBool;
    use std::thread;
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
    fn a_node_shows_the_time_of_its_cluster() {
        let (steering, year) = (Steering::new(), 365 * 24 * 3_600 * 1_000_000_000);
        let clock = steering.clock();
        let before = steering.machine();
        steering.steer(Course::starting(before, year, 0.0));
        steering.found(1_700_000_000_000_000);
        let now = clock.now();
        let most = Micros::from_micros((year + steering.machine() - before) as u64 / 1_000);
        assert!(now >= Micros::from_micros(year as u64 / 1_000) && now <= most);
        assert_eq!(clock.started_unix_ms(), 1_700_000_000_000);
        let later = now + Micros::from_secs(1);
        let machine = clock.monotonic_nanos(later);
        assert_eq!(machine - before, later.as_micros() as i64 * 1_000 - year);
    }

    #[test]
    fn a_clock_that_is_steered_never_goes_back_for_any_thread() {
        let steering = Steering::new();
        let mut course = Course::starting(steering.machine(), 1_000_000_000, 0.0);
        steering.steer(course);
        let (newest, has_ended) = (AtomicU64::new(0), AtomicBool::new(false));
        let reader = || {
            let clock = steering.clock();
            while !has_ended.load(Ordering::Relaxed) {
                let before = newest.load(Ordering::SeqCst);
                let now = clock.nanos();
                assert!(now >= before, "{now} after {before}");
                newest.fetch_max(now, Ordering::SeqCst);
            }
        };
        thread::scope(|scope| {
            (0..2).for_each(|_| drop(scope.spawn(reader)));
            let mut changes = 0;
            while changes < 30 {
                let now = steering.machine();
                let aim = |at| course.read(at) + if changes % 2 == 0 { 900_000 } else { -900_000 };
                if let Some(next) = course.toward(now, aim, 0.0, false) {
                    course = next;
                    steering.steer(course);
                    changes += 1;
                }
                thread::yield_now();
            }
            has_ended.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn a_point_converts_to_the_kernels_clock() {
        let clock = Clock::start();
        assert_eq!(clock.monotonic_nanos(Micros::ZERO), clock.start);
        assert_eq!(clock.monotonic_nanos(Micros::from_micros(3)), clock.start + 3_000);
        assert_eq!(clock.monotonic_nanos(Micros::from_micros(u64::MAX)), i64::MAX);
    }
}
