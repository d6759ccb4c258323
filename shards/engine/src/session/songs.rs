//! Questions about a session's songs.

use std::sync::Arc;

use crate::record::Record;
use crate::speech::{Ack, Code, Reject, Setlist, Song, SongChoice};
use crate::words::time::Micros;

/// Bytes of text after which an answer to `get_songs` ends. Specified.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The songs of a session, and the index of the selected one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Songs<'a> {
    pub list: Option<&'a Setlist>,
    pub selected: Option<u32>,
}

impl<'a> Songs<'a> {
    /// Returns the songs of a record as they are at `at`. An armed song is selected from its
    /// beginning, without a version of its own.
    pub fn at(record: &'a Record, at: Micros) -> Self {
        let selected = record.song.filter(|index| record.song_at(*index).is_some());
        let is_selected =
            |id: &str| selected.and_then(|index| record.song_at(index)).is_some_and(|s| s.id == id);
        let selected = match record.timeline.song_at(at) {
            Some(id) if !is_selected(id) => record.index_of_song(id),
            _ => selected,
        };
        Self { list: record.setlist.as_ref(), selected }
    }

    /// Returns the selected song and its index.
    pub fn selected_song(self) -> Option<(u32, &'a Song)> {
        let index = self.selected?;
        self.list?.songs.get(index as usize).map(|song| (index, &**song))
    }

    /// Returns the answer to `get_setlist`.
    pub fn whole_list(self) -> Ack {
        Ack::Setlist(self.list.cloned().unwrap_or_default())
    }

    /// Returns the answer to `get_song`.
    ///
    /// # Errors
    /// `invalid_payload` if the list has no such song.
    pub fn song(self, id: &str) -> Result<Ack, Reject> {
        let found = self.list.and_then(|list| list.find(id));
        found.map(|(_, song)| Ack::Song(Arc::clone(song))).ok_or_else(no_such_song)
    }

    /// Returns the answer to `get_songs`: whole songs in the order of their ids, without those that
    /// are gone. Without ids it has the selected song first, and then all others.
    pub fn songs(self, ids: Option<&[String]>) -> Ack {
        let wanted: Vec<&Arc<Song>> = match (self.list, ids) {
            (None, _) => Vec::new(),
            (Some(list), Some(ids)) => {
                ids.iter().filter_map(|id| list.find(id)).map(|(_, song)| song).collect()
            }
            (Some(list), None) => {
                let selected = self.selected.map(|index| index as usize);
                let first = selected.and_then(|index| list.songs.get(index));
                let others =
                    list.songs.iter().enumerate().filter(|(index, _)| Some(*index) != selected);
                first.into_iter().chain(others.map(|(_, song)| song)).collect()
            }
        };
        let mut bytes = 0;
        let fits = |song: &&&Arc<Song>| {
            bytes += song.text_bytes();
            bytes <= ANSWER_BYTES_MAX
        };
        let count = wanted.iter().take_while(fits).count().max(1).min(wanted.len());
        let (now, later) = wanted.split_at(count);
        Ack::Songs {
            revision: self.revision(),
            songs: now.iter().map(|song| Arc::clone(song)).collect(),
            more: later.iter().map(|song| song.id.clone()).collect(),
        }
    }

    /// Returns the revision of the list, 0 if there is none.
    pub fn revision(self) -> u64 {
        self.list.map_or(0, |list| list.revision)
    }

    /// Returns the index of the song that a command selects. A step without a selected song selects
    /// the first or the last one.
    ///
    /// # Errors
    /// `invalid_payload` if the list has no such song, `not_allowed` if there is no list or the
    /// step leads beyond its ends.
    pub fn choose(self, choice: &SongChoice) -> Result<u32, Reject> {
        let Some(list) = self.list.filter(|list| !list.songs.is_empty()) else {
            return Err(Reject::new(
                Code::NotAllowed,
                "there is no set list to select from; set one first",
            ));
        };
        let last = list.songs.len() as u32 - 1;
        match (choice, self.selected) {
            (SongChoice::Id(id), _) => {
                list.find(id).map(|(index, _)| index as u32).ok_or_else(no_such_song)
            }
            (SongChoice::Step(true), None) => Ok(0),
            (SongChoice::Step(false), None) => Ok(last),
            (SongChoice::Step(true), Some(index)) if index < last => Ok(index + 1),
            (SongChoice::Step(false), Some(index)) if index > 0 => Ok(index - 1),
            (SongChoice::Step(true), _) => {
                Err(Reject::new(Code::NotAllowed, "this is the last song"))
            }
            (SongChoice::Step(false), _) => {
                Err(Reject::new(Code::NotAllowed, "this is the first song"))
            }
        }
    }
}

/// Creates the rejection of a command that names a song that the list does not have.
pub(super) fn no_such_song() -> Reject {
    Reject::field("songId", "the set list has no song with this id")
}
