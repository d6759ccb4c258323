//! Songs: setting the set list, selecting a song, and sending one on request.

use super::draft::SongStart;
use super::{Effect, Session};
use crate::speech::{Ack, Code, Notice, Reject, Setlist, SongChoice, SongSelection};
use crate::words::ids::MemberId;
use crate::words::time::{Micros, Moment};

impl Session {
    /// Handles `set_setlist`. The selected song stays selected if the new list contains it.
    pub(super) fn set_setlist(
        &mut self,
        now: Moment,
        member: MemberId,
        setlist: Setlist,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?;
        if self.state.record.setlist.as_ref() == Some(&setlist) {
            return Ok(self.state.report(false, member, Notice::Setlist(setlist), out));
        }
        let selected = self.state.song(now.at).map(|(_, song)| song.id.clone());
        let mut next = self.state.draft(now.at);
        next.keep_songs(|id| place_of(&setlist, id).is_some())?;
        self.state.record.song = selected.and_then(|id| place_of(&setlist, &id));
        self.state.record.setlist = Some(setlist.clone());
        self.state.sum_setlist();
        let old = self.state.install(next);
        self.playback.timeline_changed(&self.state, now, old);
        self.state.decide(now);
        Ok(self.state.report(true, member, Notice::Setlist(setlist), out))
    }

    /// Handles `select_song`: stops or plays at the song's beginning, in its tempo and meter. A step
    /// without a selected song selects the first or the last one; a step beyond the ends is
    /// rejected. While the music plays, a song may be armed.
    pub(super) fn select_song(
        &mut self,
        now: Moment,
        member: MemberId,
        selection: &SongSelection,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?;
        let index = self.chosen(now.at, &selection.choice)?;
        let Some(song) = self.state.record.song_at(index) else { return Err(no_such_song()) };
        let id = song.id.clone();
        let start = SongStart {
            song: id.clone(),
            tempo: song.tempo,
            meter: song.whole_meter(),
            end: song.end,
            plays: selection.plays,
        };
        let mut next = self.state.draft(now.at);
        if let Some(departure) =
            selection.departure.filter(|_| self.state.timeline().is_playing_at(now.at))
        {
            next.arm_song(start, departure)?;
            let (playback, state) = (&mut self.playback, &mut self.state);
            return Ok(playback.install_for_later(state, now, member, next, out));
        }
        next.begin(start)?;
        let selected = self.state.record.song.replace(index) != Some(index);
        let moved = self.playback.install(&mut self.state, now, next);
        if selected && !moved {
            self.state.decide(now);
        }
        let timeline = self.state.timeline().clone();
        let notice = Notice::SongChanged { song: id, index, timestamp: now.unix, timeline };
        Ok(self.state.report(selected || moved, member, notice, out))
    }

    /// Handles `get_song`.
    pub(super) fn get_song(&self, id: &str) -> Result<Ack, Reject> {
        let songs = self.state.record.setlist.iter().flat_map(|setlist| &*setlist.songs);
        songs
            .into_iter()
            .find(|song| song.id == id)
            .cloned()
            .map(Ack::Song)
            .ok_or_else(no_such_song)
    }

    pub(super) fn check_setlist(&self) {
        assert!(
            self.state.record.song.is_none_or(|index| self.state.record.song_at(index).is_some()),
            "song {:?} is none",
            self.state.record.song
        );
    }

    /// Returns the index of the song that a command selects.
    fn chosen(&self, at: Micros, choice: &SongChoice) -> Result<u32, Reject> {
        let Some(setlist) =
            self.state.record.setlist.as_ref().filter(|setlist| !setlist.songs.is_empty())
        else {
            return Err(Reject::new(
                Code::NotAllowed,
                "there is no set list to select from; set one first",
            ));
        };
        let last = setlist.songs.len() as u32 - 1;
        match (choice, self.state.song(at).map(|(index, _)| index)) {
            (SongChoice::Id(id), _) => place_of(setlist, id).ok_or_else(no_such_song),
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

fn place_of(setlist: &Setlist, id: &str) -> Option<u32> {
    setlist.songs.iter().position(|song| song.id == id).map(|index| index as u32)
}

fn no_such_song() -> Reject {
    Reject::field("songId", "the set list has no song with this id")
}
