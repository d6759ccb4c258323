//! The timer that wakes a sleeping shard. It is a timerfd, because the time-out of `poll` is
//! rounded to whole milliseconds.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use bandsync_engine::words::time::Micros;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::clock::Clock;

/// One absolute deadline on the monotonic clock. The descriptor is never read: the kernel signals
/// every expiry as a new edge, and the next deadline clears the last expiry.
#[derive(Debug)]
pub(crate) struct TimerFd {
    descriptor: OwnedFd,
    clock: Clock,
    armed: Option<Micros>,
    /// The kernel's time for it. A clock that is steered may mean another one later.
    nanos: i64,
}

impl TimerFd {
    /// Creates a disarmed timer whose expiry `registry` reports as `token`.
    pub(crate) fn new(clock: Clock, registry: &Registry, token: Token) -> io::Result<Self> {
        let descriptor = create()?;
        registry.register(&mut SourceFd(&descriptor.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { descriptor, clock, armed: None, nanos: 0 })
    }

    /// Sets or clears the deadline. If the clock was slowed since, one that has fired too early is
    /// set again. A deadline that has passed fires at once. Enters the kernel
    /// only if the deadline changes.
    pub(crate) fn set(&mut self, deadline: Option<Micros>) -> io::Result<()> {
        if deadline == self.armed && !self.clock.is_steered() {
            return Ok(());
        }
        // Zero would disarm the timer; one nanosecond after the boot has passed as well.
        let nanos = deadline.map_or(0, |at| self.clock.monotonic_nanos(at).max(1));
        if deadline == self.armed && nanos == self.nanos {
            return Ok(());
        }
        settime(&self.descriptor, nanos)?;
        (self.armed, self.nanos) = (deadline, nanos);
        Ok(())
    }

    /// Clears and returns the deadline if it has passed, so it has fired or is about to.
    pub(crate) fn passed(&mut self, now: Micros) -> Option<Micros> {
        self.armed.take_if(|deadline| *deadline <= now)
    }
}

/// Creates a timer descriptor on the monotonic clock.
fn create() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let descriptor = unsafe {
        libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC)
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just created the descriptor, and no other code knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Arms the timer for an absolute point of the monotonic clock; zero disarms it.
fn settime(descriptor: &OwnedFd, nanos: i64) -> io::Result<()> {
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let value = libc::timespec { tv_sec: nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 };
    let setting = libc::itimerspec { it_interval: zero, it_value: value };
    // SAFETY: `setting` outlives the call, and the old value is not asked for.
    let result = unsafe {
        libc::timerfd_settime(
            descriptor.as_raw_fd(),
            libc::TFD_TIMER_ABSTIME,
            &raw const setting,
            std::ptr::null_mut(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::clock::Steering;
    use bandsync_engine::clock::Course;
    use mio::{Events, Poll};
    use std::time::Duration;

    const TOKEN: Token = Token(7);

    fn wait(poll: &mut Poll, timer: &mut TimerFd, clock: Clock) -> Option<Micros> {
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
        assert!(events.iter().all(|event| event.token() == TOKEN));
        events.iter().next().and_then(|_| timer.passed(clock.now()))
    }

    #[test]
    fn it_fires_at_each_deadline_and_not_before() {
        let clock = Clock::start();
        let mut poll = Poll::new().unwrap();
        let mut timer = TimerFd::new(clock, poll.registry(), TOKEN).unwrap();
        for _ in 0..20 {
            let deadline = clock.now() + Micros::from_micros(700);
            timer.set(Some(deadline)).unwrap();
            assert_eq!(wait(&mut poll, &mut timer, clock), Some(deadline));
        }
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_once() {
        let clock = Clock::start();
        let mut poll = Poll::new().unwrap();
        let mut timer = TimerFd::new(clock, poll.registry(), TOKEN).unwrap();
        timer.set(Some(Micros::ZERO)).unwrap();
        assert_eq!(wait(&mut poll, &mut timer, clock), Some(Micros::ZERO));
    }

    #[test]
    fn a_later_deadline_replaces_an_earlier_one() {
        let clock = Clock::start();
        let mut poll = Poll::new().unwrap();
        let mut timer = TimerFd::new(clock, poll.registry(), TOKEN).unwrap();
        timer.set(Some(clock.now() + Micros::from_secs(3_600))).unwrap();
        let deadline = clock.now() + Micros::from_millis(2);
        timer.set(Some(deadline)).unwrap();
        assert_eq!(wait(&mut poll, &mut timer, clock), Some(deadline));
        assert_eq!(timer.passed(clock.now()), None);
    }

    #[test]
    fn it_fires_at_the_deadline_of_a_clock_that_is_slowed_meanwhile() {
        let (steering, mut events) = (Steering::new(), Events::with_capacity(4));
        let course = Course::starting(steering.machine(), 1_000_000_000, 0.0);
        steering.steer(course);
        let clock = steering.clock();
        let mut poll = Poll::new().unwrap();
        let mut timer = TimerFd::new(clock, poll.registry(), TOKEN).unwrap();
        let deadline = clock.now() + Micros::from_millis(100);
        timer.set(Some(deadline)).unwrap();
        let slow = |at| course.read(at) - 1_000_000_000;
        steering.steer(course.toward(steering.machine(), slow, 0.0, false).unwrap());
        let mut wakes = 0;
        while timer.passed(clock.now()).is_none() {
            timer.set(Some(deadline)).unwrap();
            poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
            assert!(!events.is_empty(), "it fired too early and was not set again");
            wakes += 1;
        }
        assert!(clock.now() >= deadline && wakes < 10, "{wakes}");
    }
}
