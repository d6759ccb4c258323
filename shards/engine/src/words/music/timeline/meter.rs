//! Bars: the place of a song beat among them, and the lines between them.

use serde::{Deserialize, Serialize};

use crate::words::music::{BEAT, TimeSignature};

/// A time signature that holds from a song beat on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct MeterChange {
    /// The first beat of its first bar, in microbeats.
    pub beat: i64,
    /// The signature.
    pub signature: TimeSignature,
}

/// The place of a song beat among the bars.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bar {
    /// Number of the bar, from 0 at the first meter entry; negative before it.
    pub bar: i64,
    /// Microbeats since the bar began.
    pub in_bar: i64,
    /// The signature of the bar.
    pub signature: TimeSignature,
}

impl MeterChange {
    /// The default meter.
    pub const COMMON: Self = Self { beat: 0, signature: TimeSignature::COMMON };

    /// Returns the entry of `meter` that holds at `beat`: the last one that has begun, or the
    /// first.
    pub fn at(meter: &[Self], beat: i64) -> Self {
        meter.get(index_at(meter, beat)).copied().unwrap_or(Self::COMMON)
    }

    /// Returns the length of a bar in microbeats.
    pub fn bar_length(&self) -> i64 {
        i64::from(self.signature.numerator) * BEAT
    }
}

impl Bar {
    /// Returns the bar of `beat`. A meter entry always begins a bar.
    pub fn at(meter: &[MeterChange], beat: i64) -> Self {
        let index = index_at(meter, beat);
        let bars_before: i64 = meter[..meter.len().min(index + 1)]
            .windows(2)
            .map(|pair| {
                let length = pair[0].bar_length();
                (pair[1].beat - pair[0].beat + length - 1).div_euclid(length)
            })
            .sum();
        let since = Self::since(MeterChange::at(meter, beat), beat);
        Self { bar: bars_before + since.bar, ..since }
    }

    /// Returns the bar of `beat`, counted from an entry that holds there. Bars before the entry are
    /// negative.
    pub fn since(entry: MeterChange, beat: i64) -> Self {
        let (beats, length) = (beat - entry.beat, entry.bar_length());
        Self {
            bar: beats.div_euclid(length),
            in_bar: beats.rem_euclid(length),
            signature: entry.signature,
        }
    }

    /// Returns the first bar line at or after `beat`.
    pub fn line_after(meter: &[MeterChange], beat: i64) -> i64 {
        let bar = Self::at(meter, beat);
        let length = i64::from(bar.signature.numerator) * BEAT;
        let line = if bar.in_bar == 0 { beat } else { beat - bar.in_bar + length };
        meter.get(index_at(meter, beat) + 1).map_or(line, |following| line.min(following.beat))
    }
}

fn index_at(meter: &[MeterChange], beat: i64) -> usize {
    meter.iter().rposition(|entry| entry.beat <= beat).unwrap_or(0)
}
