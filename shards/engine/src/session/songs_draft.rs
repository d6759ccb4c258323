//! A set list while operations change it: all of them apply, or none.
//!
//! Operations name songs by their ids, so they still fit if another member has moved the songs
//! meanwhile. A song that another member has changed is found by its revision, as the list had it
//! before the first operation.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::speech::{Code, Operation, Reject, Setlist, Song};

/// The next revision of a set list.
#[derive(Debug)]
pub(super) struct SongsDraft<'a> {
    /// The list before, `None` if there was none.
    base: Option<&'a Setlist>,
    /// The song that plays and thus must stay.
    playing: Option<&'a str>,
    title: String,
    songs: Vec<Arc<Song>>,
}

impl<'a> SongsDraft<'a> {
    /// Begins with the present list. The song with the id `playing` cannot be removed.
    pub fn new(base: Option<&'a Setlist>, playing: Option<&'a str>) -> Self {
        let title = base.map_or_else(String::new, |base| base.title.to_string());
        let songs = base.map_or_else(Vec::new, |base| base.songs.to_vec());
        Self { base, playing, title, songs }
    }

    /// Applies an operation, the one with this index among all. Its song receives the revision of
    /// the list that results.
    ///
    /// # Errors
    /// `conflict`, `not_allowed` or `invalid_payload`. The draft must then be dropped.
    pub fn apply(&mut self, index: usize, operation: &mut Operation) -> Result<(), Reject> {
        match operation {
            Operation::Add { song, before } => {
                if self.index_of(&song.id).is_some() {
                    let message = format!("ops[{index}].song.id is the id of another song");
                    return Err(Reject::field("ops", message));
                }
                Arc::make_mut(song).revision = self.revision();
                let index = self.index_before(before.as_deref());
                self.songs.insert(index, Arc::clone(song));
            }
            Operation::Replace { song, was, .. } => {
                let index = self.seen(&song.id, *was)?;
                Arc::make_mut(song).revision = self.revision();
                self.songs[index] = Arc::clone(song);
            }
            Operation::Move { id, before } => {
                let stays = before.as_deref() == Some(id.as_str());
                if let Some(index) = self.index_of(id).filter(|_| !stays) {
                    let song = self.songs.remove(index);
                    let index = self.index_before(before.as_deref());
                    self.songs.insert(index, song);
                }
            }
            Operation::Remove { id, was } => {
                let index = self.seen(id, *was)?;
                if self.playing == Some(id.as_str()) {
                    let message = "this song plays: stop it, or select another one, first";
                    return Err(Reject::new(Code::NotAllowed, message));
                }
                self.songs.remove(index);
            }
            Operation::Retitle { title } => self.title.clone_from(title),
        }
        Ok(())
    }

    /// Returns the list that results.
    ///
    /// # Errors
    /// `too_large` if it has too many songs or too much text.
    pub fn finish(self) -> Result<Setlist, Reject> {
        let revision = self.revision();
        let count = self.songs.len();
        let list = Setlist { title: self.title.into(), songs: self.songs.into(), revision };
        let reject = |reject: Reject| Reject { field: Some("ops"), ..reject };
        if count > Setlist::SONGS_MAX {
            let most = Setlist::SONGS_MAX;
            let message = format!("the list would have {count} songs: it may have {most}");
            return Err(reject(Reject::new(Code::TooLarge, message)));
        }
        let (bytes, max) = (list.text_bytes(), Setlist::TEXT_BYTES_MAX);
        if bytes > max {
            let message = format!("the list would have {bytes} bytes of text: it may have {max}");
            return Err(reject(Reject::too_large(message, bytes, max)));
        }
        Ok(list)
    }

    /// Returns the revision of the list that results.
    fn revision(&self) -> u64 {
        revision_of(self.base) + 1 // mark: revision_stays
    }

    /// Returns the index of a song, if the editor saw it as it is.
    fn seen(&self, id: &str, was: u64) -> Result<usize, Reject> {
        let revision = revision_of(self.base);
        let before = self.base.and_then(|base| base.find(id)).map(|(_, song)| song);
        let Some(index) = self.index_of(id) else {
            return Err(Reject::conflict(revision, id.to_owned(), None));
        };
        // A song that this edit added has no revision yet.
        let known = before.map_or(0, |song| song.revision);
        // mark: edit_overwrites_another
        if known != was {
            return Err(Reject::conflict(revision, id.to_owned(), before.cloned()));
        }
        Ok(index)
    }

    fn index_of(&self, id: &str) -> Option<usize> {
        self.songs.iter().position(|song| song.id == id)
    }

    /// Returns the index before a song, or the end if it is gone.
    fn index_before(&self, before: Option<&str>) -> usize {
        before.and_then(|id| self.index_of(id)).unwrap_or(self.songs.len())
    }
}

/// Returns the revision of a session's list, 0 if it has none.
pub(super) fn revision_of(list: Option<&Setlist>) -> u64 {
    list.map_or(0, |list| list.revision)
}

/// Gives a list that replaces `base` its revision, and each song the revision in which it last
/// changed. Returns false if nothing differs.
pub(super) fn succeed(base: Option<&Setlist>, list: &mut Setlist) -> bool {
    list.revision = revision_of(base) + 1;
    let old: BTreeMap<&str, &Arc<Song>> =
        base.into_iter().flat_map(|base| &*base.songs).map(|song| (&*song.id, song)).collect();
    let revision = list.revision;
    for song in list.songs_mut() {
        if let Some(old) = old.get(&*song.id) {
            song.revision = old.revision;
            if *song == ***old {
                continue;
            }
        }
        song.revision = revision;
    }
    base.is_none_or(|base| base.title != list.title || base.songs != list.songs)
}
