//! What wakes the engine, and a timer that is moved rather than set twice.

pub mod wheel;

use crate::words::ids::{ConnId, RoomKey};
use crate::words::time::Micros;

use wheel::{TimerId, Wheel};

/// What a timer is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Timer {
    /// A connection has waited long enough for something.
    Connection(ConnId),
    /// The next position tick of a session.
    Tick(RoomKey),
    /// A session's batch window closes.
    Batch(RoomKey),
    /// A session's own deadline, or the end of its memory.
    Room(RoomKey),
    /// Changed sessions are to be offered to the storage.
    Offer,
    /// Somebody has waited long enough for a stored session.
    LoadTimeout,
    /// A session that was left to the storage has outlived its time there.
    Expire,
}

/// At most one timer in the wheel.
#[derive(Debug, Default)]
pub struct TimerHandle(Option<(Micros, TimerId)>);

impl TimerHandle {
    /// When it fires, if it is set.
    pub fn at(&self) -> Option<Micros> {
        self.0.map(|(at, _)| at)
    }

    /// Sets, moves or cancels it: from now on it fires at `wanted` and at no other time.
    pub fn set(&mut self, wheel: &mut Wheel<Timer>, wanted: Option<Micros>, timer: Timer) {
        if self.at() == wanted {
            return;
        }
        self.cancel(wheel);
        self.0 = wanted.map(|at| (at, wheel.set(at, timer)));
    }

    /// Cancels it.
    pub fn cancel(&mut self, wheel: &mut Wheel<Timer>) {
        if let Some((_, id)) = self.0.take() {
            wheel.cancel(id);
        }
    }

    /// Notes that the wheel has fired it.
    pub fn fired(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROS: fn(u64) -> Micros = Micros::from_micros;

    #[test]
    fn a_handle_fires_once_at_the_time_wanted_last() {
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
