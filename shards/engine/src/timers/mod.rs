//! The timers of a shard, and a handle that moves a timer instead of setting it twice.

pub mod wheel;

use crate::words::ids::{ConnId, RoomKey};
use crate::words::time::Micros;

use wheel::{TimerId, Wheel};

/// The purpose of a timer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Timer {
    /// A deadline of a connection: ping, time-out, or a step of its handshake.
    Connection(ConnId),
    /// The next position tick of a session.
    Tick(RoomKey),
    /// A session's batch window closes.
    Batch(RoomKey),
    /// A session's own deadline, or the expiry of its log or of the session itself.
    Room(RoomKey),
    /// The next offer of changed sessions to the storage.
    Offer,
    /// The time-out of joins that wait for a stored session.
    LoadTimeout,
    /// The expiry of a session that was evicted to the storage.
    Expire,
    /// The next look at what other nodes have not answered.
    Nodes,
}

/// The handle of at most one timer in the wheel.
#[derive(Debug, Default)]
pub struct TimerHandle(Option<(Micros, TimerId)>);

impl TimerHandle {
    /// Returns the time at which the timer fires, if it is set.
    pub fn at(&self) -> Option<Micros> {
        self.0.map(|(at, _)| at)
    }

    /// Sets, moves or cancels the timer. From now on it fires at `wanted` and at no other time.
    pub fn set(&mut self, wheel: &mut Wheel<Timer>, wanted: Option<Micros>, timer: Timer) {
        if self.at() == wanted {
            return;
        }
        self.cancel(wheel);
        self.0 = wanted.map(|at| (at, wheel.set(at, timer)));
    }

    /// Cancels the timer, if it is set.
    pub fn cancel(&mut self, wheel: &mut Wheel<Timer>) {
        if let Some((_, id)) = self.0.take() {
            wheel.cancel(id);
        }
    }

    /// Notes that the wheel has fired the timer. The handler of every timer calls this first.
    pub fn fired(&mut self) {
        debug_assert!(self.0.is_some(), "a timer that fires was set");
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROS: fn(u64) -> Micros = Micros::from_micros;

    #[test]
    fn a_handle_fires_once_at_the_time_set_last() {
        let mut wheel = Wheel::new(Micros::ZERO);
        let timer = Timer::Room(RoomKey { index: 0, generation: 0 });
        let mut handle = TimerHandle::default();
        for at in [30, 10, 20] {
            handle.set(&mut wheel, Some(Micros::from_micros(at)), timer);
        }
        assert_eq!(handle.at(), Some(Micros::from_micros(20)));
        assert_eq!(wheel.fire(MICROS(100)), Some((MICROS(20), timer)));
        assert_eq!(wheel.fire(MICROS(100)), None);
        handle.fired();
        handle.set(&mut wheel, Some(Micros::from_micros(40)), timer);
        handle.cancel(&mut wheel);
        assert_eq!(wheel.fire(MICROS(100)), None);
    }
}
