//! The parts of a timeline that the first stored format has no place for.
//!
//! A timeline without them is stored, and summed up, as it always was.

use serde::{Deserialize, Serialize};

use super::{Armed, Loop, Timeline};

/// Songs, ends, loops, count-ins and armed changes of a timeline.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct TimelineAdditions {
    song: Option<String>,
    end: Option<i64>,
    /// One for each segment.
    segments: Vec<SegmentAdditions>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
struct SegmentAdditions {
    looped: Option<Loop>,
    start: Option<i64>,
    armed: Option<Box<Armed>>,
}

impl Timeline {
    /// Returns the parts that serialization skips, `None` if there are none.
    pub fn additions(&self) -> Option<TimelineAdditions> {
        let of_segment = |segment: &super::Segment| SegmentAdditions {
            looped: segment.looped,
            start: segment.start,
            armed: segment.armed.clone(),
        };
        let additions = TimelineAdditions {
            song: self.song.clone(),
            end: self.end,
            segments: self.segments.iter().map(of_segment).collect(),
        };
        let is_empty = additions.song.is_none()
            && additions.end.is_none()
            && additions.segments.iter().all(|segment| *segment == SegmentAdditions::default());
        (!is_empty).then_some(additions)
    }

    /// Gives a timeline that was read its additions. Returns false if they belong to another one.
    pub fn add(&mut self, additions: TimelineAdditions) -> bool {
        let fits = additions.segments.len() == self.segments.len();
        (self.song, self.end) = (additions.song, additions.end);
        for (segment, more) in self.segments.iter_mut().zip(additions.segments) {
            (segment.looped, segment.start, segment.armed) = (more.looped, more.start, more.armed);
        }
        fits
    }
}
