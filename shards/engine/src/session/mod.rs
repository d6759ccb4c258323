//! A session: its members, their leader, and the music. It knows no bytes and no connections:
//! commands and time come in, [`Effect`]s go out.
//!
//! `version` counts decisions: each change of playback, lead, settings, songs or message raises it
//! by one. Presence alone does not, or every newcomer would make all members request what they
//! missed; `user_joined` and `user_left` announce it. A command that changes nothing (`play` while
//! playing) is acknowledged with the present version, and only its sender receives the notice that
//! all would have received. A rejected command changes nothing either.

mod applied;
mod copy;
mod draft;
mod effect;
mod leadership;
mod members;
mod metronome;
mod playback;
mod setlist;
mod settings;
mod songs;
mod songs_draft;
mod state;

#[cfg(test)]
mod tests;

pub use effect::{Audience, Effect};
pub use members::{LostSeat, no_session_to_show};

use std::sync::Arc;

use applied::AppliedCommands;
use draft::Draft;
use leadership::Leadership;
use playback::Playback;
use state::{LeadOrigin, State};

use crate::record::{Record, Seat, Tokens};
use crate::speech::{
    Ack, Checksum, Code, Cue, LeaderRule, LeaveReason, Message, Notice, OnLeaderLoss, Reject,
    RoomStats, Secret, SessionCommand, Snapshot, SyncResponse, TempoChange, Terms, Tick,
};
use crate::words::ids::{MemberId, SessionId};
use crate::words::music::{MeterChange, Segment, Tempo, TempoEvent, Timeline};
use crate::words::time::{Micros, Moment, UnixMillis};

/// The server's settings for every session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rules {
    /// Maximum number of members. A session's own `maxMembers` starts there and cannot exceed it.
    pub members_max: u32,
    /// Time for which the seat of a leader without a connection is held.
    pub leader_grace: Micros,
    /// Time after a granted claim in which another one is rejected: the two count as simultaneous,
    /// and the first wins.
    pub claim_window: Micros,
    /// Largest number of members at which all of them are announced to all; see
    /// [`Session::is_large`].
    pub members_listed_max: u32,
    /// Minimum number of characters of a new passcode or PIN.
    pub secret_chars_min: u32,
}

impl Rules {
    /// Checks a new passcode and PIN.
    ///
    /// # Errors
    /// `invalid_payload` if one is too short.
    pub fn check_secrets(
        &self,
        passcode: Option<&Secret>,
        pin: Option<&Secret>,
    ) -> Result<(), Reject> {
        let least = self.secret_chars_min as usize;
        for (field, secret) in [("passcode", passcode), ("leaderPin", pin)] {
            if secret.is_some_and(|secret| secret.0.chars().count() < least) {
                let message = format!(
                    "must have at least {least} characters here, or strangers could guess it"
                );
                return Err(Reject::field(field, message));
            }
        }
        Ok(())
    }
}

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    state: State,
    /// Time at which this value was created, and the session's age at that time.
    opened: Micros,
    age: Micros,
    leadership: Leadership,
    playback: Playback,
    applied: AppliedCommands,
}

/// Inactivity in milliseconds after which a stored session's leader is not expected back. Guessed.
const ABANDONED_MS: i64 = 15 * 60 * 1_000;

/// The end of the grace of a held seat, and the reason for which its connection was lost.
#[derive(Clone, Copy, Debug)]
struct HeldSeat {
    until: Micros,
    reason: LeaveReason,
}

impl Session {
    /// Creates a session without members: stopped at the beginning, without passcode or PIN.
    pub fn new(id: SessionId, rules: &Arc<Rules>, epoch: u64, now: Moment) -> Self {
        let still = Segment {
            t0: now.at,
            p0: 0,
            b0: 0,
            playing: false,
            bpm0: Tempo::DEFAULT,
            bpm1: Tempo::DEFAULT,
            ramp: 0,
            looped: None,
            start: None,
            armed: None,
        };
        let record = Record {
            session: id,
            created_at: now.unix,
            last_active_at: now.at,
            last_active_unix: now.unix,
            message: String::new(),
            max_members: rules.members_max,
            on_leader_loss: OnLeaderLoss::Continue,
            leader_rule: LeaderRule::Open,
            anyone_may_cue: false,
            anyone_may_edit: false,
            passcode: None,
            leader_pin: None,
            seats: Vec::new(),
            timeline: Timeline {
                epoch,
                version: 0,
                leader: None,
                song: None,
                segments: vec![still],
                meter: vec![MeterChange::COMMON],
                end: None,
                quantum: 0,
                count_in: 0,
                made_at: now.at,
            },
            setlist: None,
            song: None,
            tokens: Tokens::default(),
        };
        let mut state = State::new(record, rules);
        state.update_automatic_message(LeadOrigin::Join);
        Self::with_state(state, now, Micros::ZERO)
    }

    /// Opens a stored session as if every connection had been lost. Followers are removed; if they
    /// have tokens, their seats are remembered. The leader's seat is held for the grace period,
    /// unless the session was inactive for `ABANDONED_MS`. The music continues at the place that
    /// follows from the wall clock.
    ///
    /// `epoch` should exceed the record's. If it does not, the record's next epoch is used.
    pub fn from_record(record: Record, rules: &Arc<Rules>, now: Moment, epoch: u64) -> Self {
        let age = Micros::from_millis(now.unix.0.saturating_sub(record.created_at.0).max(0) as u64);
        let abandoned = now.unix.0.saturating_sub(record.last_active_unix.0) > ABANDONED_MS;
        let lost_at = record.last_active_unix;
        let mut state = State::new(record, rules);
        state.move_to_clock_of(now);
        state.begin_epoch(epoch.max(state.epoch() + 1)); // mark: stored_epoch_kept
        let record = &mut state.record;
        record.max_members = record.max_members.min(rules.members_max);
        let leader = record.timeline.leader.filter(|_| !abandoned);
        let is_held = |seat: &Seat| Some(seat.member.id) == leader;
        let mut lost: Vec<Seat>;
        (record.seats, lost) = std::mem::take(&mut record.seats).into_iter().partition(is_held);
        lost.sort_by_key(|seat| seat.member.last_ping_at);
        lost.into_iter().for_each(|seat| record.tokens.remember(seat, lost_at));
        record.tokens.drop_unstored();
        let leader = record.seats.first_mut().map(|seat| {
            seat.member.connected = false;
            seat.member.id
        });
        state.held_seat = leader.map(|_| HeldSeat {
            until: now.at + rules.leader_grace,
            reason: LeaveReason::TransportClosed,
        });
        state.seat_leader(leader);
        if leader.is_none() || state.record.message.is_empty() {
            state.update_automatic_message(LeadOrigin::Join);
        }
        state.decide(now);
        Self::with_state(state, now, age)
    }

    fn with_state(state: State, now: Moment, age: Micros) -> Self {
        Self {
            state,
            opened: now.at,
            age,
            leadership: Leadership::default(),
            playback: Playback::new(now.at),
            applied: AppliedCommands::default(),
        }
    }

    /// Carries out a member's command. [`Ack::Changed`] carries the version that contains it. A
    /// command whose id was applied before is not applied again, and one whose time is over is
    /// rejected.
    ///
    /// # Errors
    /// A [`Reject`] for the member. Nothing has changed then.
    pub fn handle(
        &mut self,
        now: Moment,
        member: MemberId,
        terms: Terms,
        command: SessionCommand,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        if !self.state.is_connected(member) {
            return Err(Reject::new(Code::NotMember, "join the session first"));
        }
        // mark: repeated_command_applied
        if terms.id.is_some_and(|id| self.applied.has(id)) {
            return Ok(Ack::Repeated { epoch: self.state.epoch(), version: self.state.version() });
        }
        // mark: late_command_applied
        if let Some(late) = terms.lateness(now.at) {
            return self.reject_late(member, &command, late);
        }
        self.playback.announce_begun(&self.state, now, out);
        let ack = match command {
            SessionCommand::SetRole { role, member: other } => {
                self.set_role(now, member, role, other, out)
            }
            SessionCommand::RequestLeader => self.request_leader(now, member, out),
            SessionCommand::ApproveLeader { requester } => {
                self.approve_leader(now, member, requester, out)
            }
            SessionCommand::DenyLeader { requester } => self.deny_leader(member, requester, out),
            SessionCommand::Sync { checksum, version } => {
                Ok(self.sync(now, member, checksum, version, out))
            }
            SessionCommand::UpdateMessage(Message { text, cut }) => {
                Ok(self.update_message(now, member, text, out).cut_if(cut))
            }
            SessionCommand::Chat { message: Message { text, cut }, username } => {
                Ok(self.chat(now, member, text, username, out).cut_if(cut))
            }
            SessionCommand::UpdateSettings(change) => {
                self.update_settings(now, member, change, out)
            }
            SessionCommand::SetMember { member: other, may_edit } => {
                self.set_member(now, member, other, may_edit, out)
            }
            SessionCommand::Cue(cue) => self.cue(now, member, cue, out),
            SessionCommand::Play(start) => {
                self.playback.play(&mut self.state, now, member, start, out)
            }
            SessionCommand::Pause { pressed } => {
                self.playback.pause(&mut self.state, now, member, pressed, out)
            }
            SessionCommand::Stop => self.playback.stop(&mut self.state, now, member, out),
            SessionCommand::Seek { to, when } => {
                self.playback.seek(&mut self.state, now, member, (to, when), out)
            }
            SessionCommand::SetTempo(tempo) => {
                let (fade, event) = (Micros::ZERO, TempoEvent::Changed);
                let change = TempoChange { tempo, fade, at_beat: None, event };
                self.playback.change_tempo(&mut self.state, now, member, change, out)
            }
            SessionCommand::ChangeTempo(change) => {
                self.playback.change_tempo(&mut self.state, now, member, change, out)
            }
            SessionCommand::SetTimeSignature(signature) => {
                self.playback.set_time_signature(&mut self.state, now, member, signature, out)
            }
            SessionCommand::Loop(bounds) => {
                let change = |next: &mut Draft| next.set_loop(bounds);
                self.playback.change_later(&mut self.state, now, member, change, out)
            }
            SessionCommand::Cancel => {
                self.playback.change_later(&mut self.state, now, member, Draft::cancel, out)
            }
            SessionCommand::Nudge(beats) => {
                let change = |next: &mut Draft| next.nudge(beats);
                self.playback.correct(&mut self.state, now, member, change, out)
            }
            SessionCommand::One(pressed) => {
                let change = |next: &mut Draft| next.one(pressed);
                self.playback.correct(&mut self.state, now, member, change, out)
            }
            SessionCommand::BeatSync { beat_position, .. } => {
                self.playback.beat_sync(&self.state, now, member, beat_position, out)
            }
            SessionCommand::PositionSync { position, timestamp } => {
                let report = (position, timestamp);
                self.playback.position_sync(&mut self.state, now, member, report, out)
            }
            SessionCommand::SetSetlist(setlist) => self.set_setlist(now, member, setlist, out),
            SessionCommand::SelectSong(selection) => self.select_song(now, member, &selection, out),
            SessionCommand::EditSetlist(operations) => {
                self.edit_setlist(now, member, operations, out)
            }
            SessionCommand::GetSetlist => Ok(self.state.songs(now.at).whole_list()),
            SessionCommand::GetSongs(ids) => Ok(self.state.songs(now.at).songs(ids.as_deref())),
            SessionCommand::GetSong(id) => self.state.songs(now.at).song(&id),
        }?;
        // A pending request may be repeated.
        if let Some(id) = terms.id.filter(|_| !matches!(ack, Ack::Pending)) {
            self.applied.note(id, member);
        }
        self.state.touch(now);
        Ok(ack)
    }

    /// Answers a question of a screen.
    ///
    /// # Errors
    /// `not_allowed` for any other command.
    pub fn answer_screen(
        &self,
        now: Moment,
        screen: MemberId,
        command: SessionCommand,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        match command {
            SessionCommand::Sync { checksum, version } => {
                Ok(self.sync(now, screen, checksum, version, out))
            }
            SessionCommand::GetSetlist => Ok(self.state.songs(now.at).whole_list()),
            SessionCommand::GetSongs(ids) => Ok(self.state.songs(now.at).songs(ids.as_deref())),
            SessionCommand::GetSong(id) => self.state.songs(now.at).song(&id),
            _ => {
                let message = "a screen only shows the session: join as a member to do this";
                Err(Reject::new(Code::NotAllowed, message))
            }
        }
    }

    /// Returns the time at which [`due`](Self::due) must be called even if nothing happens.
    pub fn next_deadline(&self) -> Option<Micros> {
        let grace = self.state.held_seat.map(|held| held.until); // mark: grace_never_ends
        [grace, self.playback.next_deadline(&self.state)].into_iter().flatten().min()
    }

    /// Does what is due: ends a lost leader's grace, announces that scheduled playback has begun,
    /// and announces the next beats.
    pub fn due(&mut self, now: Moment, out: &mut Vec<Effect>) {
        self.playback.announce_begun(&self.state, now, out);
        // mark: grace_ends_at_once
        if self.state.held_seat.is_some_and(|held| held.until <= now.at) {
            self.end_grace(now, out);
        }
        self.playback.notify_beats(&self.state, now.at, out);
    }

    /// Returns the session's name.
    pub fn id(&self) -> &SessionId {
        &self.state.record.session
    }

    /// Returns the epoch, which rises if the session's shard or server changes or its state was
    /// lost.
    pub fn epoch(&self) -> u64 {
        self.state.epoch()
    }

    /// Returns the number of decisions in this epoch.
    pub fn version(&self) -> u64 {
        self.state.version()
    }

    /// Returns the checksum of everything that was decided: equal (epoch, version) means equal
    /// checksum. Secrets are excluded, or a short PIN could be found by trying.
    pub fn checksum(&self) -> Checksum {
        self.state.checksum()
    }

    /// Returns the time of the last command, join or leave.
    pub fn last_active(&self) -> Micros {
        self.state.record.last_active_at
    }

    /// Whether time moves the position.
    pub fn is_playing(&self, at: Micros) -> bool {
        self.state.timeline().is_playing_at(at)
    }

    /// Returns the position for members that follow ticks.
    pub fn tick(&self, now: Moment) -> Tick {
        Self::tick_of(self.state.timeline(), now)
    }

    /// Returns the position by a timeline for members that follow ticks.
    pub fn tick_of(timeline: &Timeline, now: Moment) -> Tick {
        let (position, tempo) = timeline.motion_at(now.at); // mark: position_of_before
        Tick {
            position,
            tempo,
            timestamp: now.unix,
            epoch: timeline.epoch,
            version: timeline.version,
        }
    }

    /// Returns the whole state as members see it.
    pub fn snapshot(&self, now: Moment) -> Snapshot<'_> {
        let (state, record, timeline) = (&self.state, &self.state.record, self.state.timeline());
        Snapshot {
            session: &record.session,
            message: record.message(),
            tempo: timeline.tempo_at(now.at),
            position: timeline.position_at(now.at),
            beat: timeline.beat_at(now.at),
            playing: timeline.is_playing_at(now.at),
            members: state.named(),
            member_count: state.is_large().then(|| state.member_count()),
            created_at: record.created_at,
            last_active_at: record.last_active_unix,
            settings: state.settings(),
            timestamp: now.unix,
            checksum: state.checksum(),
            time_signature: timeline.place_at(now.at).bar.signature,
            song: state.songs(now.at).selected_song(),
            setlist: record.setlist.as_ref(),
            setlist_revision: record.setlist.as_ref().map(|list| list.revision),
            timeline,
        }
    }

    /// Returns the room's statistics.
    pub fn room_stats(&self, at: Micros) -> RoomStats {
        let timeline = self.state.timeline();
        RoomStats {
            member_count: self.state.member_count(),
            connected_count: self.state.members().filter(|member| member.connected).count() as u32,
            playing: timeline.is_playing_at(at),
            tempo: timeline.tempo_at(at),
            position: timeline.position_at(at),
            leader: timeline.leader,
            uptime: self.age + at.since(self.opened),
            screens: 0,
        }
    }

    /// Returns the answer to `sync_request`.
    pub fn sync_response(&self, now: Moment) -> SyncResponse {
        self.state.sync_response(now)
    }

    /// Returns a copy of the record to store.
    pub fn record(&self) -> Record {
        self.state.record.clone()
    }

    /// Returns the record.
    pub fn state(&self) -> &Record {
        &self.state.record
    }

    /// Begins an epoch above `epoch`, which the storage has and which is not older than this
    /// session's. Another server served the session meanwhile, or the wall clock was set back. The
    /// state is kept, and all members receive a snapshot.
    pub fn rise_above(&mut self, epoch: u64, now: Moment, out: &mut Vec<Effect>) {
        if epoch >= self.state.epoch() {
            self.state.begin_epoch(epoch + 1);
            self.state.decide(now);
            out.push(Effect::Snapshot(Audience::All));
        }
    }

    /// Checks that the state does not contradict itself.
    ///
    /// # Panics
    /// If it does. Such a bug is ours, whatever members sent.
    pub fn check_invariants(&self) {
        self.state.check_seats();
        self.check_lead();
        Playback::check(self.state.timeline());
        self.check_setlist();
    }

    /// Rejects a command whose time is over. A member that may not send it learns that instead: a
    /// later copy would be rejected as well.
    fn reject_late(
        &self,
        member: MemberId,
        command: &SessionCommand,
        late: Micros,
    ) -> Result<Ack, Reject> {
        if command.is_of_leader() {
            self.state.leader_only(member)?; // mark: late_before_role
        }
        let message = format!(
            "notAfterServerMs passed {} ms ago, and nothing has changed: send the command again if \
             it is still wanted",
            late.as_millis() + 1
        );
        let field = Some("notAfterServerMs");
        Err(Reject { field, ..Reject::new(Code::TooLate, message) })
    }

    fn sync(
        &self,
        now: Moment,
        member: MemberId,
        checksum: Option<String>,
        version: Option<u64>,
        out: &mut Vec<Effect>,
    ) -> Ack {
        let response = self.state.sync_response(now);
        out.push(Effect::Notify(Audience::One(member), Notice::SyncResponse(response.clone())));
        let same_checksum =
            |text: String| u32::from_str_radix(&text, 16) == Ok(self.state.checksum().0);
        let current =
            checksum.is_none_or(same_checksum) && version.is_none_or(|v| v == self.state.version());
        if !current {
            out.push(Effect::Snapshot(Audience::One(member)));
        }
        Ack::Sync(response)
    }

    /// Handles `update_message`. An empty text restores the automatic messages.
    fn update_message(
        &mut self,
        now: Moment,
        member: MemberId,
        message: String,
        out: &mut Vec<Effect>,
    ) -> Ack {
        let before = self.state.record.message().to_owned();
        if !message.is_empty() {
            // This text is kept from now on, even if it equals an automatic one.
            self.state.record.message = message;
        } else if self.state.record.is_message_set() {
            self.state.record.message.clear();
            self.state.update_automatic_message(LeadOrigin::Join);
        }
        let changed = self.state.record.message() != before;
        if changed {
            self.state.decide(now);
        }
        out.push(Effect::Snapshot(Audience::of(changed, member)));
        self.state.changed()
    }

    fn chat(
        &self,
        now: Moment,
        from: MemberId,
        message: String,
        username: Option<String>,
        out: &mut Vec<Effect>,
    ) -> Ack {
        let username = username.unwrap_or_else(|| self.state.display_name(from));
        let chat = Notice::Chat { from, username, message, timestamp: now.unix };
        out.push(Effect::Notify(Audience::All, chat));
        Ack::Done
    }

    fn cue(
        &self,
        now: Moment,
        from: MemberId,
        cue: Cue,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        if !self.state.record.anyone_may_cue {
            self.state.leader_only(from)?;
        }
        out.push(Effect::Notify(Audience::All, Notice::Cue { from, cue, moment: now }));
        Ok(Ack::Done)
    }
}

/// Returns the wall clock's time at another instant near `now`.
fn unix_at(now: Moment, at: Micros) -> UnixMillis {
    let (ahead, behind) = (at.since(now.at).as_millis(), now.at.since(at).as_millis());
    UnixMillis(now.unix.0.saturating_add(ahead as i64).saturating_sub(behind as i64))
}
