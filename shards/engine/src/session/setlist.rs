//! Songs: setting and editing the set list, and selecting a song.

use super::draft::{ChartEdit, SongStart};
use super::songs::no_such_song;
use super::songs_draft::{SongsDraft, succeed};
use super::state::State;
use super::{Audience, Effect, Session};
use crate::speech::{Ack, Code, Notice, Operation, Reject, Setlist, SongSelection};
use crate::words::ids::MemberId;
use crate::words::music::BEAT;
use crate::words::time::Moment;

impl Session {
    /// Handles `set_setlist`. The selected song stays selected if the new list contains it.
    pub(super) fn set_setlist(
        &mut self,
        now: Moment,
        member: MemberId,
        mut setlist: Setlist,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?;
        if !succeed(self.state.record.setlist.as_ref(), &mut setlist) {
            let present = self.state.record.setlist.clone().unwrap_or_default();
            return Ok(self.state.report(false, member, Notice::Setlist(present), out));
        }
        let selected = self.state.songs(now.at).selected_song().map(|(_, song)| song.id.clone());
        let mut next = self.state.draft(now.at);
        next.keep_songs(|id| index_of(&setlist, id).is_some())?;
        self.state.record.song = selected.and_then(|id| index_of(&setlist, &id));
        self.state.record.setlist = Some(setlist.clone());
        self.state.sum_setlist();
        let old = self.state.install(next);
        self.playback.timeline_changed(&self.state, now, old);
        self.state.decide(now);
        Ok(self.state.report(true, member, Notice::Setlist(setlist), out))
    }

    /// Handles `edit_setlist`: all operations apply, or none. The selected song stays selected
    /// unless it is removed. Members receive a snapshot only if it shows more than a new revision.
    pub(super) fn edit_setlist(
        &mut self,
        now: Moment,
        from: MemberId,
        mut operations: Vec<Operation>,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        editor_only(&self.state, from)?;
        let before = self.state.record.setlist.clone();
        let selected = self.state.songs(now.at).selected_song();
        let selected = selected.map(|(index, song)| (index, song.id.clone()));
        let on = selected.as_ref().map(|(_, id)| id.as_str());
        let is_playing = self.state.timeline().is_playing_at(now.at);
        let mut list = SongsDraft::new(before.as_ref(), on.filter(|_| is_playing));
        for (index, operation) in operations.iter_mut().enumerate() {
            list.apply(index, operation)?;
        }
        let list = list.finish()?;
        let mut next = self.state.draft(now.at);
        next.keep_songs(|id| index_of(&list, id).is_some())?;
        next.follow_charts(on, |id| chart_edit(id, before.as_ref(), &list, &operations))?;

        let index = on.and_then(|id| index_of(&list, id));
        let shown_before = before.as_ref().zip(selected.as_ref());
        let shown_before = shown_before.and_then(|(list, (index, _))| shown(list, *index));
        let shows_more = shown_before != index.and_then(|index| shown(&list, index));
        let (base, revision) = (before.as_ref().map_or(0, |list| list.revision), list.revision);
        self.state.record.song = index;
        self.state.record.setlist = Some(list);
        self.state.sum_setlist();
        let old = self.state.install(next);
        let moved = old.is_some();
        self.playback.timeline_changed(&self.state, now, old);
        self.state.decide(now);

        let (epoch, version) = (self.state.epoch(), self.state.version());
        let changed = Notice::SetlistChanged {
            revision,
            base,
            operations: operations.into(),
            from,
            epoch,
            version,
            checksum: self.state.checksum(),
        };
        out.push(Effect::Notify(Audience::All, changed));
        if shows_more || moved {
            out.push(Effect::Snapshot(Audience::All));
        }
        Ok(Ack::Edited { epoch, version, revision })
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
        let index = self.state.songs(now.at).choose(&selection.choice)?;
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

    pub(super) fn check_setlist(&self) {
        assert!(
            self.state.record.song.is_none_or(|index| self.state.record.song_at(index).is_some()),
            "song {:?} is none",
            self.state.record.song
        );
        let list = self.state.record.setlist.iter();
        for (list, song) in list.flat_map(|list| list.songs.iter().map(move |song| (list, song))) {
            let revisions = 1..=list.revision;
            assert!(revisions.contains(&song.revision), "{} in {}", song.revision, list.revision);
        }
    }
}

/// Rejects a member that may not edit the set list.
fn editor_only(state: &State, member: MemberId) -> Result<(), Reject> {
    let is_editor = state.record.anyone_may_edit
        || state.leader() == Some(member)
        || state.seat(member).is_some_and(|seat| seat.member.may_edit);
    let message = "only the leader and the members that it allows may edit the set list: ask the \
                   leader for mayEdit";
    // mark: anyone_edits
    if is_editor { Ok(()) } else { Err(Reject::new(Code::NotAllowed, message)) }
}

/// Returns the edit of a song's chart that operations make between two lists.
fn chart_edit(
    id: &str,
    before: Option<&Setlist>,
    after: &Setlist,
    operations: &[Operation],
) -> ChartEdit {
    let shift = |operation: &Operation| match operation {
        Operation::Replace { song, shift, .. } if song.id == id => *shift,
        _ => 0,
    };
    let old = before.and_then(|before| before.find(id));
    let Some(((_, old), (_, new))) = old.zip(after.find(id)) else { return ChartEdit::default() };
    ChartEdit {
        meter: new.whole_meter().filter(|meter| old.whole_meter().as_ref() != Some(meter)),
        end: (old.end != new.end).then_some(new.end),
        shift: operations.iter().map(shift).sum::<i64>() * BEAT,
    }
}

/// Returns the index of a song and the texts that a snapshot shows if the song is selected.
fn shown(list: &Setlist, index: u32) -> Option<(u32, [Option<&str>; 4])> {
    let song = list.songs.get(index as usize)?;
    let (artist, key) = (song.artist.as_deref(), song.key.as_deref());
    Some((index, [Some(song.id.as_str()), Some(song.title.as_str()), artist, key]))
}

fn index_of(setlist: &Setlist, id: &str) -> Option<u32> {
    setlist.find(id).map(|(index, _)| index as u32)
}
