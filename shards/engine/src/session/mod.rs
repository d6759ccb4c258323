//! A room: the people in it, who of them leads, and where the music is. It knows no bytes and no
//! connections; commands and time come in, [`Effect`]s go out.
//!
//! `version` counts decisions: whatever changes playback, the lead, settings, songs or the message
//! raises it by one. Who is merely present does not, or every newcomer would send all members
//! asking for what they missed; `user_joined` and `user_left` tell of that. A command that finds
//! its wish fulfilled already (play while playing) is acknowledged with the present version and
//! changes nothing, and its sender alone is told what all would have been; nor does a refusal
//! change anything.

mod applied;
mod draft;
mod effect;
mod leadership;
mod members;
mod metronome;
mod playback;
mod setlist;
mod settings;
mod state;

#[cfg(test)]
mod tests;

pub use effect::{Audience, Effect};
pub use members::LostSeat;

use applied::AppliedCommands;
use leadership::Leadership;
use metronome::Metronome;
use state::{Came, State};

use crate::record::{Record, Seat};
use crate::speech::{
    Ack, Checksum, Code, LeaderRule, LeaveReason, Message, Notice, OnLeaderLoss, Reject, RoomStats,
    Secret, SessionCommand, Snapshot, SyncResponse, TempoChange, TempoEvent, Tick,
};
use crate::words::ids::{CommandId, MemberId, SessionId};
use crate::words::music::{MeterChange, Segment, Tempo, Timeline};
use crate::words::time::{Micros, Moment, UnixMillis};

/// What the server's settings say about every session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rules {
    /// Members that a session may have; its own `maxMembers` begins there and may not exceed it.
    pub members_max: u32,
    /// How long the seat of a leader whose connection dropped is kept.
    pub leader_grace: Micros,
    /// How long after a claim was granted another one loses: they count as made at once, and the
    /// first wins.
    pub claim_window: Micros,
    /// Members up to which everybody is told of everybody; see [`Session::is_large`].
    pub members_listed_max: u32,
    /// Characters that a new passcode or PIN has at least.
    pub secret_chars_min: u32,
}

impl Rules {
    /// Whether a session may take these as its new passcode and PIN.
    ///
    /// # Errors
    /// `invalid_payload` for one that is too short.
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
    /// When this value was made, and how old the session was then.
    opened: Micros,
    age: Micros,
    leadership: Leadership,
    metronome: Metronome,
    applied: AppliedCommands,
    /// Scheduled segments that began up to here were announced.
    announced: Micros,
}

/// After so many milliseconds without anybody doing anything, no leader is expected back.
const ABANDONED_MS: i64 = 15 * 60 * 1_000;

/// Why and for how long a seat without a connection is kept.
#[derive(Clone, Copy, Debug)]
struct HeldSeat {
    until: Micros,
    reason: LeaveReason,
}

impl Session {
    /// Makes a session that nobody is in: stopped at the beginning, open to everybody.
    pub fn new(id: SessionId, rules: &Rules, epoch: u64, now: Moment) -> Self {
        let still = Segment {
            t0: now.at,
            p0: 0,
            b0: 0,
            playing: false,
            bpm0: Tempo::DEFAULT,
            bpm1: Tempo::DEFAULT,
            ramp: 0,
        };
        let record = Record {
            format: Record::FORMAT,
            session: id,
            created_at: now.unix,
            last_active_at: now.at,
            last_active_unix: now.unix,
            message: String::new(),
            max_members: rules.members_max,
            on_leader_loss: OnLeaderLoss::Continue,
            leader_rule: LeaderRule::Open,
            anyone_may_cue: false,
            passcode: None,
            leader_pin: None,
            seats: Vec::new(),
            timeline: Timeline {
                epoch,
                version: 0,
                leader: None,
                segments: vec![still],
                meter: vec![MeterChange::COMMON],
                quantum: 0,
                count_in: 0,
                made_at: now.at,
            },
            setlist: None,
            song: None,
        };
        let mut state = State::new(record, rules);
        state.caption(Came::Joined);
        Self::with_state(state, now, Micros::ZERO)
    }

    /// Opens a stored session again, as after the loss of every connection: followers are gone, the
    /// leader's seat is kept for the grace period unless nobody has done anything for long, and the
    /// music goes on where the wall clock says that it is.
    ///
    /// `epoch` must be higher than the record's; if it is not, the record's next one is taken.
    pub fn from_record(record: Record, rules: &Rules, now: Moment, epoch: u64) -> Self {
        let age = Micros::from_millis(now.unix.0.saturating_sub(record.created_at.0).max(0) as u64);
        let abandoned = now.unix.0.saturating_sub(record.last_active_unix.0) > ABANDONED_MS;
        let mut state = State::new(record, rules);
        state.move_to_clock_of(now);
        state.begin_epoch(epoch.max(state.epoch() + 1)); // mark: stored_epoch_kept
        let record = &mut state.record;
        record.max_members = record.max_members.min(rules.members_max);
        record.seats.retain(|seat| Some(seat.member.id) == record.timeline.leader && !abandoned);
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
            state.caption(Came::Joined);
        }
        state.decide(now);
        Self::with_state(state, now, age)
    }

    fn with_state(state: State, now: Moment, age: Micros) -> Self {
        let metronome = Metronome::new(state.timeline(), now.at);
        Self {
            state,
            opened: now.at,
            age,
            leadership: Leadership::default(),
            metronome,
            applied: AppliedCommands::default(),
            announced: now.at,
        }
    }

    /// Does what a member says. [`Ack::Changed`] carries the version that has it. A command whose
    /// `id` was applied before is not applied again.
    ///
    /// # Errors
    /// A [`Reject`] for the member; nothing has changed then.
    pub fn handle(
        &mut self,
        now: Moment,
        member: MemberId,
        id: Option<CommandId>,
        command: SessionCommand,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        if !self.state.is_connected(member) {
            return Err(Reject::new(Code::NotMember, "join the session first"));
        }
        // mark: repeated_command_applied
        if id.is_some_and(|id| self.applied.has(id)) {
            return Ok(Ack::Repeated { epoch: self.state.epoch(), version: self.state.version() });
        }
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
            SessionCommand::Cue { text, target } => self.cue(now, member, text, target, out),
            SessionCommand::Play(start) => self.play(now, member, start, out),
            SessionCommand::Pause => self.pause(now, member, out),
            SessionCommand::Stop => self.stop(now, member, out),
            SessionCommand::Seek { position, at } => self.seek(now, member, position, at, out),
            SessionCommand::SetTempo(tempo) => {
                let (fade, event) = (Micros::ZERO, TempoEvent::Changed);
                self.change_tempo(now, member, TempoChange { tempo, fade, event }, out)
            }
            SessionCommand::ChangeTempo(change) => self.change_tempo(now, member, change, out),
            SessionCommand::SetTimeSignature(signature) => {
                self.set_time_signature(now, member, signature, out)
            }
            SessionCommand::BeatSync { beat_position, .. } => {
                self.beat_sync(now, member, beat_position, out)
            }
            SessionCommand::PositionSync { position, timestamp } => {
                self.position_sync(now, member, position, timestamp, out)
            }
            SessionCommand::SetSetlist(setlist) => self.set_setlist(now, member, setlist, out),
            SessionCommand::SelectSong(choice) => self.select_song(now, member, &choice, out),
            SessionCommand::GetSong(id) => self.get_song(&id),
        }?;
        // Who waits for the leader's answer may ask again.
        if let Some(id) = id.filter(|_| !matches!(ack, Ack::Pending)) {
            self.applied.note(id, member);
        }
        self.state.touch(now);
        Ok(ack)
    }

    /// When [`due`](Self::due) must be called even if nothing happens.
    pub fn next_deadline(&self) -> Option<Micros> {
        let grace = self.state.held_seat.map(|held| held.until); // mark: grace_never_ends
        let starts = self.state.timeline().segments.iter().map(|segment| segment.t0);
        let scheduled = starts.into_iter().find(|&t0| t0 > self.announced);
        [grace, scheduled, self.metronome.deadline(&self.state)].into_iter().flatten().min()
    }

    /// Does what has become due: gives a lost leader's seat away, tells that scheduled playback has
    /// begun, and tells of the next beats.
    pub fn due(&mut self, now: Moment, out: &mut Vec<Effect>) {
        // mark: grace_ends_at_once
        if self.state.held_seat.is_some_and(|held| held.until <= now.at) {
            self.end_grace(now, out);
        }
        let begun = |s: &Segment| self.announced < s.t0 && s.t0 <= now.at;
        if self.state.timeline().segments.iter().any(begun) {
            out.extend([Effect::Snapshot(Audience::All), Effect::RoomStats]);
        }
        self.announced = self.announced.max(now.at);
        self.metronome.notify_beats(&self.state, now.at, out);
    }

    /// Its name.
    pub fn id(&self) -> &SessionId {
        &self.state.record.session
    }

    /// Rises when the session's owner changes or its state was lost.
    pub fn epoch(&self) -> u64 {
        self.state.epoch()
    }

    /// Counts the decisions of the epoch.
    pub fn version(&self) -> u64 {
        self.state.version()
    }

    /// Of everything that was decided: equal (epoch, version) means equal checksum. Secrets are not
    /// in it, or a short PIN could be found by trying.
    pub fn checksum(&self) -> Checksum {
        self.state.checksum()
    }

    /// When somebody last did something.
    pub fn last_active(&self) -> Micros {
        self.state.record.last_active_at
    }

    /// Whether time moves the position.
    pub fn is_playing(&self, at: Micros) -> bool {
        self.state.timeline().is_playing_at(at)
    }

    /// Where the music is, for members that follow ticks.
    pub fn tick(&self, now: Moment) -> Tick {
        let timeline = self.state.timeline();
        Tick {
            position: timeline.position_at(now.at), // mark: position_of_before
            tempo: timeline.tempo_at(now.at),
            timestamp: now.unix,
            epoch: timeline.epoch,
            version: timeline.version,
        }
    }

    /// The whole state as members see it.
    pub fn snapshot(&self, now: Moment) -> Snapshot<'_> {
        let (state, record, timeline) = (&self.state, &self.state.record, self.state.timeline());
        Snapshot {
            session: &record.session,
            message: record.message(),
            tempo: timeline.tempo_at(now.at),
            position: timeline.position_at(now.at),
            playing: timeline.is_playing_at(now.at),
            members: state.named(),
            member_count: state.is_large().then(|| state.member_count()),
            created_at: record.created_at,
            last_active_at: record.last_active_unix,
            settings: state.settings(),
            timestamp: now.unix,
            checksum: state.checksum(),
            time_signature: timeline.bar_at(timeline.beat_at(now.at)).signature,
            song: state.song(),
            setlist: record.setlist.as_ref(),
            timeline,
        }
    }

    /// The figures of the room.
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
        }
    }

    /// The answer to `sync_request`.
    pub fn sync_response(&self, now: Moment) -> SyncResponse {
        self.state.sync_response(now)
    }

    /// What is to be stored.
    pub fn record(&self) -> Record {
        self.state.record.clone()
    }

    /// The same, to look at.
    pub fn state(&self) -> &Record {
        &self.state.record
    }

    /// Begins an epoch above another one that was found to be as new: somebody else kept this
    /// session meanwhile, or the wall clock was set back. The state is kept, and everybody is told.
    pub fn rise_above(&mut self, epoch: u64, now: Moment, out: &mut Vec<Effect>) {
        if epoch >= self.state.epoch() {
            self.state.begin_epoch(epoch + 1);
            self.state.decide(now);
            out.push(Effect::Snapshot(Audience::All));
        }
    }

    /// Panics if the state contradicts itself: that is a bug of ours, whatever members said.
    pub fn check_invariants(&self) {
        self.check_members();
        self.check_lead();
        self.check_timeline();
        self.check_setlist();
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

    /// `update_message`: the empty text brings the automatic ones back.
    fn update_message(
        &mut self,
        now: Moment,
        member: MemberId,
        message: String,
        out: &mut Vec<Effect>,
    ) -> Ack {
        let before = self.state.record.message().to_owned();
        if !message.is_empty() {
            // The present text is kept from now on, also if it was an automatic one.
            self.state.record.message = message;
        } else if self.state.record.is_message_set() {
            self.state.record.message.clear();
            self.state.caption(Came::Joined);
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
        text: String,
        target: Option<String>,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        if !self.state.record.anyone_may_cue {
            self.state.leader_only(from)?;
        }
        out.push(Effect::Notify(Audience::All, Notice::Cue { from, text, target, moment: now }));
        Ok(Ack::Done)
    }
}

/// The wall clock at another instant near `now`.
fn unix_at(now: Moment, at: Micros) -> UnixMillis {
    let (ahead, behind) = (at.since(now.at).as_millis(), now.at.since(at).as_millis());
    UnixMillis(now.unix.0.saturating_add(ahead as i64).saturating_sub(behind as i64))
}
