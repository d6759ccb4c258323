//! The monotonic clock in nanoseconds, sleep, and a timer that wakes a mio poll without rounding to
//! milliseconds.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

/// Nanoseconds on the monotonic clock.
pub type Nanos = u64;

/// A second.
pub const SECOND: Nanos = 1_000_000_000;

/// A millisecond.
pub const MILLISECOND: Nanos = 1_000_000;

/// A microsecond.
pub const MICROSECOND: Nanos = 1_000;

/// Returns the monotonic clock.
#[inline]
pub fn now() -> Nanos {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `time`, which outlives it. It cannot fail: the clock exists and
    // the place is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as Nanos * SECOND + time.tv_nsec as Nanos
}

/// Sleeps until the monotonic clock reads `deadline`, or a signal comes.
pub fn sleep_until(deadline: Nanos) {
    let time = timespec(deadline);
    // SAFETY: `time` outlives the call, and the remaining time is not requested. If the call fails,
    // there is no sleep.
    unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &raw const time,
            std::ptr::null_mut(),
        );
    }
}

fn timespec(nanos: Nanos) -> libc::timespec {
    libc::timespec { tv_sec: (nanos / SECOND) as i64, tv_nsec: (nanos % SECOND) as i64 }
}

/// A timerfd with absolute deadlines. It is never read: each expiry is a new edge.
#[derive(Debug)]
pub struct TimerFd {
    descriptor: OwnedFd,
    armed: Nanos,
}

impl TimerFd {
    /// Creates a timer that `registry` reports as `token`.
    ///
    /// # Errors
    /// If the kernel provides no descriptor.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let number = unsafe {
            libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC)
        };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just returned the descriptor, and nothing else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        registry.register(&mut SourceFd(&number), token, Interest::READABLE)?;
        Ok(Self { descriptor, armed: 0 })
    }

    /// Wakes at `deadline`, or at once if it has passed. [`Nanos::MAX`] is never.
    ///
    /// # Errors
    /// If the kernel rejects the time.
    pub fn set(&mut self, deadline: Nanos) -> io::Result<()> {
        // A deadline that has passed has fired already, and fires again only if it is set again.
        if deadline == self.armed && deadline > now() {
            return Ok(());
        }
        self.armed = deadline;
        let time = match deadline {
            Nanos::MAX => libc::timespec { tv_sec: 0, tv_nsec: 0 },
            // Zero would disarm the timer.
            nanos => timespec(nanos.max(1)),
        };
        let setting = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: time,
        };
        // SAFETY: `setting` outlives the call, and the old value is not requested.
        let result = unsafe {
            libc::timerfd_settime(
                self.descriptor.as_raw_fd(),
                libc::TFD_TIMER_ABSTIME,
                &raw const setting,
                std::ptr::null_mut(),
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use mio::{Events, Poll};

    #[test]
    fn it_sleeps_until_the_deadline() {
        let deadline = now() + 300_000;
        sleep_until(deadline);
        assert!(now() >= deadline);
    }

    #[test]
    fn it_wakes_at_the_deadline_and_not_before() {
        let mut poll = Poll::new().unwrap();
        let mut timer = TimerFd::new(poll.registry(), Token(1)).unwrap();
        let mut events = Events::with_capacity(4);
        for _ in 0..5 {
            let deadline = now() + 300_000;
            timer.set(deadline).unwrap();
            poll.poll(&mut events, Some(std::time::Duration::from_secs(10))).unwrap();
            assert!(!events.is_empty());
            assert!(now() >= deadline);
            timer.set(deadline).unwrap();
            poll.poll(&mut events, Some(std::time::Duration::from_secs(10))).unwrap();
            assert!(!events.is_empty(), "one that has passed rings at once");
        }
    }
}
