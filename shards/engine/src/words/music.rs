//! Music as integers: tempo, position, meter, and the timeline that computes the position at any
//! time.
//!
//! All values are microseconds, microbeats and milli-BPM, so that every program computes the time
//! of beat k to the same bit.

mod timeline;

#[cfg(test)]
pub(crate) use timeline::vectors;
pub use timeline::{
    Armed, Bar, Change, Click, Loop, MeterChange, Place, Segment, Timeline, TimelineAdditions,
};

use serde::{Deserialize, Serialize};

/// Microbeats in a beat.
pub const BEAT: i64 = 1_000_000;

/// Beats per minute, in thousandths.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Tempo(u32);

impl Tempo {
    /// The slowest tempo, 1 BPM: the lower end of the slider on the original server's page.
    pub const MIN: Self = Self(1_000);
    /// The fastest tempo, 400 BPM.
    pub const MAX: Self = Self(400_000);
    /// The tempo of a new session, 120 BPM.
    pub const DEFAULT: Self = Self(120_000);

    /// Creates a tempo from thousandths of a beat per minute. Returns `None` outside 1 to 400 BPM.
    pub fn from_milli_bpm(milli_bpm: u32) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0).contains(&milli_bpm).then_some(Self(milli_bpm))
    }

    /// Returns thousandths of a beat per minute.
    pub const fn milli_bpm(self) -> u32 {
        self.0
    }
}

/// The two names under which the tempo is changed and announced.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum TempoEvent {
    /// `tempo_change`.
    Change,
    /// `tempo_changed`, which adds `isRealTime: true`.
    Changed,
}

/// A place in a song, in microseconds from its beginning: 0 to 24 hours.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Position(u64);

impl Position {
    /// The beginning of the song.
    pub const START: Self = Self(0);
    /// The last position, at 24 hours.
    pub const MAX: Self = Self(24 * 3_600 * 1_000_000);

    /// Creates a position from microseconds. Returns `None` beyond 24 hours.
    pub fn from_micros(micros: u64) -> Option<Self> {
        (micros <= Self::MAX.0).then_some(Self(micros))
    }

    /// Returns microseconds.
    pub const fn as_micros(self) -> u64 {
        self.0
    }
}

/// A time signature such as 6/8.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct TimeSignature {
    /// Beats in a bar, 1 to 32.
    pub numerator: u8,
    /// The note that gets the beat: 1, 2, 4, 8, 16 or 32.
    pub denominator: u8,
}

impl TimeSignature {
    /// Four quarters to the bar.
    pub const COMMON: Self = Self { numerator: 4, denominator: 4 };

    /// Creates a signature from values that a client sent. Returns `None` if one is invalid.
    pub fn new(numerator: u64, denominator: u64) -> Option<Self> {
        let fits = (1..=32).contains(&numerator) && matches!(denominator, 1 | 2 | 4 | 8 | 16 | 32);
        fits.then_some(Self { numerator: numerator as u8, denominator: denominator as u8 })
    }
}
