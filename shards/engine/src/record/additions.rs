//! The values of a record that the first stored format has no place for.
//!
//! A record without them is stored as it always was. In such a record the set list has its first
//! revision.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::speech::{Setlist, Song};
use crate::words::music::{MeterChange, TimelineAdditions};

/// The values that a record has besides those of format 1.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Additions {
    timeline: Option<TimelineAdditions>,
    setlist: Option<SetlistAdditions>,
    anyone_may_edit: bool,
    /// Indices of the seats whose members may edit the set list.
    editors: Vec<u32>,
}

/// The values that a set list has besides those of format 1.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct SetlistAdditions {
    /// The songs that have a meter or an end.
    songs: Vec<SongAdditions>,
    /// The revisions of the list, unless it has its first one.
    revisions: Option<Revisions>,
}

/// The meter and the end of a song of the set list.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
struct SongAdditions {
    index: u32,
    meter: Vec<MeterChange>,
    end: Option<i64>,
}

/// The revisions of a set list.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
struct Revisions {
    list: u64,
    /// One for each song.
    songs: Vec<u64>,
}

impl Additions {
    /// Returns the additions of a record except those of its set list; `None` if there are none.
    pub(super) fn without_setlist(record: &Record) -> Option<Self> {
        let editors = record.seats.iter().enumerate().filter(|(_, seat)| seat.member.may_edit);
        let additions = Self {
            timeline: record.timeline.additions(),
            setlist: None,
            anyone_may_edit: record.anyone_may_edit,
            editors: editors.map(|(index, _)| index as u32).collect(),
        };
        (additions != Self::default()).then_some(additions)
    }

    /// Returns the additions of a record; `None` if there are none.
    pub(super) fn of(record: &Record) -> Option<Self> {
        let Some(setlist) = record.setlist.as_ref().and_then(SetlistAdditions::of) else {
            return Self::without_setlist(record);
        };
        let others = Self::without_setlist(record).unwrap_or_default();
        Some(Self { setlist: Some(setlist), ..others })
    }

    /// Gives the additions to the record that was read with them. Returns false if they belong to
    /// another one.
    pub(super) fn give_to(self, record: &mut Record) -> bool {
        let Self { timeline, setlist, anyone_may_edit, editors } = self;
        let mut fits = timeline.is_none_or(|more| record.timeline.add(more));
        record.anyone_may_edit = anyone_may_edit;
        for index in editors {
            match record.seats.get_mut(index as usize) {
                Some(seat) => seat.member.may_edit = true,
                None => fits = false,
            }
        }
        match &mut record.setlist {
            Some(list) => fits & setlist.unwrap_or_default().give_to(list),
            None => fits && setlist.is_none(),
        }
    }
}

impl SetlistAdditions {
    /// Returns the additions of a set list; `None` if there are none.
    pub(super) fn of(list: &Setlist) -> Option<Self> {
        let has_more = |song: &Song| !song.meter.is_empty() || song.end.is_some();
        let songs = list.songs.iter().zip(0..).filter(|(song, _)| has_more(song));
        let revisions = || Revisions {
            list: list.revision,
            songs: list.songs.iter().map(|song| song.revision).collect(),
        };
        let additions = Self {
            songs: songs
                .map(|(song, index)| SongAdditions {
                    index,
                    meter: song.meter.clone(),
                    end: song.end,
                })
                .collect(),
            revisions: (list.revision != 1).then(revisions),
        };
        (additions != Self::default()).then_some(additions)
    }

    /// Gives the additions to the set list that was read with them. Returns false if they belong to
    /// another one.
    fn give_to(self, list: &mut Setlist) -> bool {
        let count = list.songs.len();
        let first = || Revisions { list: 1, songs: vec![1; count] };
        let Revisions { list: revision, songs: revisions } = self.revisions.unwrap_or_else(first);
        list.revision = revision;
        let fits = revisions.len() == count;
        let mut more = self.songs.into_iter().peekable();
        for ((song, revision), index) in list.songs_mut().zip(revisions).zip(0..) {
            song.revision = revision;
            if let Some(SongAdditions { meter, end, .. }) = more.next_if(|next| next.index == index)
            {
                (song.meter, song.end) = (meter, end);
            }
        }
        fits && more.next().is_none()
    }
}
