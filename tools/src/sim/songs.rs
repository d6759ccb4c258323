//! The songs of the model: a set list with revisions, edited by one operation at a time. Songs are
//! numbers.

use bandsync_engine::speech::Setlist;

use super::plan::Edit;

/// The tempo and the time signature with which a song starts.
type SongStart = (Option<u32>, Option<(u8, u8)>);

/// Bytes of the words that a song repeats.
const WORDS: &str = "la ";

/// A song.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ModelSong {
    number: u8,
    start: SongStart,
    /// Number of words in its body.
    words: u16,
    revision: u64,
}

/// The set list of a session, if it has one, and the index of the selected song.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    list: Option<ModelSongs>,
    selected: Option<usize>,
}

/// A set list.
#[derive(Clone, Debug, Default, PartialEq)]
struct ModelSongs {
    title: String,
    revision: u64,
    songs: Vec<ModelSong>,
}

/// Returns a song as a member sends it, without what surrounds its fields.
pub fn song_json(number: u8, variant: u8, body: u16) -> String {
    let (tempo, signature) = song_start(variant, number);
    let tempo =
        tempo.map_or(String::new(), |t| format!(",\"tempoBpm\":{}.{:03}", t / 1_000, t % 1_000));
    let signature = signature.map_or(String::new(), |(numerator, denominator)| {
        format!(",\"timeSignature\":{{\"numerator\":{numerator},\"denominator\":{denominator}}}")
    });
    let body = WORDS.repeat(usize::from(body) / WORDS.len());
    let names = format!("\"id\":\"song {number}\",\"title\":\"Song {number}\"");
    format!("{{{names},\"format\":\"text\",\"body\":\"{body}\"{tempo}{signature}}}")
}

/// Returns a set list as a member sends it.
pub fn list_json(count: u8, variant: u8, body: u16) -> String {
    let songs: Vec<String> = (0..count).map(|song| song_json(song, variant, body)).collect();
    let title = title(variant, body);
    format!("{{\"title\":\"{title}\",\"songs\":[{}]}}", songs.join(","))
}

/// Returns the operations of an edit as a member sends them.
pub fn edit_json(edit: &Edit) -> String {
    let Edit { kind, song, other, variant, was, shift, .. } = *edit;
    let before = format!(",\"before\":\"song {other}\"");
    let before = if other == song { "" } else { &before };
    let whole = song_json(song, variant, EDITED_BODY);
    match kind {
        0 => format!("[{{\"op\":\"add\",\"song\":{whole}{before}}}]"),
        1 => format!("[{{\"op\":\"replace\",\"song\":{whole},\"was\":{was},\"shift\":{shift}}}]"),
        2 => format!("[{{\"op\":\"move\",\"songId\":\"song {song}\"{before}}}]"),
        3 => format!("[{{\"op\":\"remove\",\"songId\":\"song {song}\",\"was\":{was}}}]"),
        _ => format!("[{{\"op\":\"retitle\",\"title\":\"{}\"}}]", title(variant, EDITED_BODY)),
    }
}

/// Bytes of the body of a song in an edit.
const EDITED_BODY: u16 = 30;

fn title(variant: u8, body: u16) -> String {
    format!("list {variant} {body}")
}

impl Program {
    /// Applies a set list. Returns whether it is another one, and whether the selected song is
    /// gone.
    pub fn set(&mut self, count: u8, variant: u8, body: u16) -> (bool, bool) {
        match ModelSongs::set(self.list.as_ref(), count, variant, body) {
            Some(list) => (true, self.replace(list)),
            None => (false, false),
        }
    }

    /// Applies an acknowledged edit. Returns whether the selected song is gone.
    ///
    /// # Errors
    /// If the server should have rejected it.
    pub fn edit(&mut self, edit: &Edit) -> Result<bool, String> {
        let mut list = self.list.clone().unwrap_or_default();
        list.edit(edit)?;
        Ok(self.replace(list))
    }

    /// Selects the song at an index. Returns its start, and whether another one was selected.
    ///
    /// # Errors
    /// If there is no such song.
    pub fn select(&mut self, index: usize) -> Result<(SongStart, bool), String> {
        let song = self.list.as_ref().and_then(|list| list.songs.get(index));
        let start = song.ok_or("a song that is not there was selected")?.start;
        Ok((start, self.selected.replace(index) != Some(index)))
    }

    /// Returns the index of a song.
    pub fn index(&self, number: u8) -> Option<usize> {
        self.list.as_ref()?.index(number)
    }

    /// Returns the index of the next or previous song.
    pub fn next(&self, forward: bool) -> Option<usize> {
        let last = self.list.as_ref()?.songs.len().checked_sub(1);
        match (forward, self.selected) {
            (true, None) => Some(0),
            (false, None) => last,
            (true, Some(index)) => Some(index + 1),
            (false, Some(index)) => index.checked_sub(1),
        }
    }

    /// Returns the number of the selected song.
    pub fn on(&self) -> Option<u8> {
        Some(self.list.as_ref()?.songs.get(self.selected?)?.number)
    }

    /// Whether this song is selected.
    pub fn is_on(&self, number: u8) -> bool {
        self.on() == Some(number)
    }

    /// Returns the revision of a song, 0 if it is not there.
    pub fn seen(&self, number: u8) -> u64 {
        let list = self.list.as_ref();
        let index = list.and_then(|list| Some(list.songs[list.index(number)?].revision));
        index.unwrap_or(0)
    }

    /// Whether another member changed the song of an edit meanwhile.
    pub fn conflicts(&self, edit: &Edit) -> bool {
        self.list.as_ref().map_or(matches!(edit.kind, 1 | 3), |list| list.conflicts(edit))
    }

    /// Whether the real list or selected song is another one.
    pub fn differs(&self, list: Option<&Setlist>, selected: Option<u32>) -> bool {
        selected.map(|index| index as usize) != self.selected
            || list.is_some() != self.list.is_some()
            || self.list.iter().zip(list).any(|(model, real)| model.differs(real))
    }

    /// Replaces the set list. The selected song stays selected if it is still there. Returns
    /// whether it is gone.
    fn replace(&mut self, list: ModelSongs) -> bool {
        let before = self.list.as_ref().zip(self.selected);
        let number = before.map(|(list, index)| list.songs[index].number);
        self.selected = number.and_then(|number| list.index(number));
        self.list = Some(list);
        number.is_some() && self.selected.is_none()
    }
}

impl ModelSongs {
    fn index(&self, number: u8) -> Option<usize> {
        self.songs.iter().position(|song| song.number == number)
    }

    /// Returns the list that a member sets over `before`, `None` if it is the same.
    fn set(before: Option<&Self>, count: u8, variant: u8, body: u16) -> Option<Self> {
        let revision = before.map_or(0, |list| list.revision) + 1;
        let words = body / WORDS.len() as u16;
        let song = |number: u8| {
            let start = song_start(variant, number);
            let old = before.and_then(|list| Some(list.songs[list.index(number)?]));
            let kept = old.filter(|old| (old.start, old.words) == (start, words));
            ModelSong { number, start, words, revision: kept.map_or(revision, |old| old.revision) }
        };
        let songs: Vec<ModelSong> = (0..count).map(song).collect();
        let title = title(variant, body);
        let same = before.is_some_and(|list| list.title == title && list.songs == songs);
        (!same).then_some(Self { title, revision, songs })
    }

    /// Whether the edit must be rejected because of its song.
    fn conflicts(&self, edit: &Edit) -> bool {
        let known = self.index(edit.song).map(|index| self.songs[index].revision);
        matches!(edit.kind, 1 | 3) && known != Some(edit.was)
    }

    /// Applies an acknowledged edit.
    ///
    /// # Errors
    /// If the server should have rejected it.
    fn edit(&mut self, edit: &Edit) -> Result<(), String> {
        if self.conflicts(edit) {
            return Err(format!("an edit overwrote another member's: {edit:?}"));
        }
        let revision = self.revision + 1;
        let index = self.index(edit.song);
        let song = ModelSong {
            number: edit.song,
            start: song_start(edit.variant, edit.song),
            words: EDITED_BODY / WORDS.len() as u16,
            revision,
        };
        match (edit.kind, index) {
            (0, None) => self.insert(song, edit.other),
            (0, Some(_)) => return Err(format!("song {} was added twice", edit.song)),
            (1, Some(index)) => self.songs[index] = song,
            (2, Some(index)) => {
                let moved = self.songs.remove(index);
                self.insert(moved, edit.other);
            }
            (3, Some(index)) => {
                self.songs.remove(index);
            }
            (4.., _) => self.title = title(edit.variant, EDITED_BODY),
            // A song that is gone stays away.
            (1..=3, None) => {}
        }
        self.revision = revision;
        Ok(())
    }

    /// Inserts a song before another one; at the end if that is gone or the song itself.
    fn insert(&mut self, song: ModelSong, before: u8) {
        let index = self.index(before).unwrap_or(self.songs.len());
        self.songs.insert(index, song);
    }

    /// Whether the real list is another one.
    fn differs(&self, real: &Setlist) -> bool {
        let ids = self.songs.iter().map(|song| (format!("song {}", song.number), song.revision));
        let real_ids = real.songs.iter().map(|song| (song.id.clone(), song.revision));
        *self.title != *real.title
            || self.revision != real.revision
            || !ids.eq(real_ids)
            || self.songs.iter().zip(&*real.songs).any(|(model, song)| {
                song.body.len() != usize::from(model.words) * WORDS.len()
                    || song.tempo.map(|tempo| tempo.milli_bpm()) != model.start.0
            })
    }
}

/// Returns the tempo and the time signature of a song of a set list.
fn song_start(variant: u8, song: u8) -> SongStart {
    let tempo = (!song.is_multiple_of(3))
        .then(|| 60_000 + 1_000 * u32::from(variant) + 7_500 * u32::from(song));
    let signature = song.is_multiple_of(2).then_some((3 + song % 5, 4));
    (tempo, signature)
}
