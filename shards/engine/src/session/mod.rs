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
mod effect;
mod leadership;
mod members;
mod message;
mod metronome;
mod playback;
mod setlist;
mod settings;

#[cfg(test)]
mod tests;

pub use effect::{Audience, Effect};
pub use members::LostSeat;

use serde::Serialize;

use applied::AppliedCommands;
use message::Came;

use crate::record::{Record, Seat};
use crate::speech::{
    Ack, Checksum, Code, LeaderRule, LeaveReason, Message, Notice, OnLeaderLoss, Reject, RoomStats,
    Secret, SessionCommand, Snapshot, SyncResponse, TempoEvent, Tick,
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
    rules: Rules,
    state: Record,
    /// When this value was made, and how old the session was then.
    opened: Micros,
    age: Micros,
    /// Set while the leader is without a connection.
    held_seat: Option<HeldSeat>,
    /// Until when a claim that was granted holds against others.
    claimed_until: Micros,
    /// Followers that wait for the leader's answer, in order of asking.
    requests: Vec<MemberId>,
    /// Of clients that number their commands.
    applied: AppliedCommands,
    /// Scheduled segments that began up to here were announced.
    announced: Micros,
    /// The next beat to tell the metronome's listeners of, in micro-beats.
    next_beat: Option<i64>,
    /// Of `state`, as of its version.
    checksum: Checksum,
    /// Of the set list alone: up to a mebibyte that need not be read again with every version.
    setlist_sum: u32,
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
        let state = Record {
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
        let mut session = Self::with_state(state, rules, now, Micros::ZERO);
        session.caption(Came::Joined);
        session
    }

    /// Opens a stored session again, as after the loss of every connection: followers are gone, the
    /// leader's seat is kept for the grace period unless nobody has done anything for long, and the
    /// music goes on where the wall clock says that it is.
    ///
    /// `epoch` must be higher than the record's; if it is not, the record's next one is taken.
    pub fn from_record(record: Record, rules: &Rules, now: Moment, epoch: u64) -> Self {
        let age = Micros::from_millis(now.unix.0.saturating_sub(record.created_at.0).max(0) as u64);
        let abandoned = now.unix.0.saturating_sub(record.last_active_unix.0) > ABANDONED_MS;
        let mut session = Self::with_state(record, rules, now, age);
        session.move_to_clock_of(now);
        let state = &mut session.state;
        state.timeline.epoch = epoch.max(state.timeline.epoch + 1); // mark: stored_epoch_kept
        state.timeline.version = 0;
        state.max_members = state.max_members.min(rules.members_max);
        state.seats.retain(|seat| Some(seat.member.id) == state.timeline.leader && !abandoned);
        let leader = state.seats.first_mut().map(|seat| {
            seat.member.connected = false;
            session.held_seat = Some(HeldSeat {
                until: now.at + rules.leader_grace,
                reason: LeaveReason::TransportClosed,
            });
            seat.member.id
        });
        session.seat_leader(leader);
        if leader.is_none() || session.state.message.is_empty() {
            session.caption(Came::Joined);
        }
        session.decide(now);
        session
    }

    fn with_state(state: Record, rules: &Rules, now: Moment, age: Micros) -> Self {
        let mut session = Self {
            rules: rules.clone(),
            state,
            opened: now.at,
            age,
            held_seat: None,
            claimed_until: Micros::ZERO,
            requests: Vec::new(),
            applied: AppliedCommands::default(),
            announced: now.at,
            next_beat: None,
            checksum: Checksum(0),
            setlist_sum: 0,
        };
        session.sum_setlist();
        session.sum();
        session
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
        if !self.seat(member).is_some_and(|seat| seat.member.connected) {
            return Err(Reject::new(Code::NotMember, "join the session first"));
        }
        // mark: repeated_command_applied
        if id.is_some_and(|id| self.applied.has(id)) {
            return Ok(Ack::Repeated { epoch: self.epoch(), version: self.version() });
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
            SessionCommand::Play { at, count_in_bars, quantize } => {
                self.play(now, member, at, count_in_bars, quantize, out)
            }
            SessionCommand::Pause => self.pause(now, member, out),
            SessionCommand::Stop => self.stop(now, member, out),
            SessionCommand::Seek { position, at } => self.seek(now, member, position, at, out),
            SessionCommand::SetTempo(tempo) => {
                self.change_tempo(now, member, tempo, Micros::ZERO, TempoEvent::Changed, out)
            }
            SessionCommand::ChangeTempo { tempo, fade, event } => {
                self.change_tempo(now, member, tempo, fade, event, out)
            }
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
        self.touch(now);
        Ok(ack)
    }

    /// When [`due`](Self::due) must be called even if nothing happens.
    pub fn next_deadline(&self) -> Option<Micros> {
        let grace = self.held_seat.map(|held| held.until); // mark: grace_never_ends
        let scheduled =
            self.state.timeline.segments.iter().map(|s| s.t0).find(|&t0| t0 > self.announced);
        [grace, scheduled, self.metronome_deadline()].into_iter().flatten().min()
    }

    /// Does what has become due: gives a lost leader's seat away, tells that scheduled playback has
    /// begun, and tells of the next beats.
    pub fn due(&mut self, now: Moment, out: &mut Vec<Effect>) {
        // mark: grace_ends_at_once
        if self.held_seat.is_some_and(|held| held.until <= now.at) {
            self.end_grace(now, out);
        }
        let begun = |s: &Segment| self.announced < s.t0 && s.t0 <= now.at;
        if self.state.timeline.segments.iter().any(begun) {
            out.extend([Effect::Snapshot(Audience::All), Effect::RoomStats]);
        }
        self.announced = self.announced.max(now.at);
        self.notify_beats(now, out);
    }

    /// Its name.
    pub fn id(&self) -> &SessionId {
        &self.state.session
    }

    /// Rises when the session's owner changes or its state was lost.
    pub fn epoch(&self) -> u64 {
        self.state.timeline.epoch
    }

    /// Counts the decisions of the epoch.
    pub fn version(&self) -> u64 {
        self.state.timeline.version
    }

    /// Of everything that was decided: equal (epoch, version) means equal checksum. Secrets are not
    /// in it, or a short PIN could be found by trying.
    pub fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// When somebody last did something.
    pub fn last_active(&self) -> Micros {
        self.state.last_active_at
    }

    /// Whether time moves the position.
    pub fn is_playing(&self, at: Micros) -> bool {
        self.state.timeline.is_playing_at(at)
    }

    /// Where the music is, for members that follow ticks.
    pub fn tick(&self, now: Moment) -> Tick {
        let timeline = &self.state.timeline;
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
        let state = &self.state;
        let timeline = &state.timeline;
        Snapshot {
            session: &state.session,
            message: state.message(),
            tempo: timeline.tempo_at(now.at),
            position: timeline.position_at(now.at),
            playing: timeline.is_playing_at(now.at),
            members: self.named(),
            member_count: self.is_large().then(|| self.member_count()),
            created_at: state.created_at,
            last_active_at: state.last_active_unix,
            settings: self.settings(),
            timestamp: now.unix,
            checksum: self.checksum,
            time_signature: timeline.bar_at(timeline.beat_at(now.at)).signature,
            song: self.song(),
            setlist: state.setlist.as_ref(),
            timeline,
        }
    }

    /// The figures of the room.
    pub fn room_stats(&self, at: Micros) -> RoomStats {
        let timeline = &self.state.timeline;
        RoomStats {
            member_count: self.member_count(),
            connected_count: self.members().filter(|member| member.connected).count() as u32,
            playing: timeline.is_playing_at(at),
            tempo: timeline.tempo_at(at),
            position: timeline.position_at(at),
            leader: timeline.leader,
            uptime: self.age + at.since(self.opened),
        }
    }

    /// The answer to `sync_request`.
    pub fn sync_response(&self, now: Moment) -> SyncResponse {
        let timeline = &self.state.timeline;
        SyncResponse {
            position: timeline.position_at(now.at),
            tempo: timeline.tempo_at(now.at),
            playing: timeline.is_playing_at(now.at),
            timestamp: now.unix,
            checksum: self.checksum,
            timeline: timeline.clone(),
        }
    }

    /// What is to be stored.
    pub fn record(&self) -> Record {
        self.state.clone()
    }

    /// The same, to look at.
    pub fn state(&self) -> &Record {
        &self.state
    }

    /// Begins an epoch above another one that was found to be as new: somebody else kept this
    /// session meanwhile, or the wall clock was set back. The state is kept, and everybody is told.
    pub fn rise_above(&mut self, epoch: u64, now: Moment, out: &mut Vec<Effect>) {
        if epoch >= self.epoch() {
            self.state.timeline.epoch = epoch + 1;
            self.state.timeline.version = 0;
            self.decide(now);
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
        let response = self.sync_response(now);
        out.push(Effect::Notify(Audience::One(member), Notice::SyncResponse(response.clone())));
        let same_checksum = |text: String| u32::from_str_radix(&text, 16) == Ok(self.checksum.0);
        let current =
            checksum.is_none_or(same_checksum) && version.is_none_or(|v| v == self.version());
        if !current {
            out.push(Effect::Snapshot(Audience::One(member)));
        }
        Ack::Sync(response)
    }

    fn chat(
        &self,
        now: Moment,
        from: MemberId,
        message: String,
        username: Option<String>,
        out: &mut Vec<Effect>,
    ) -> Ack {
        let username = username.unwrap_or_else(|| self.display_name(from));
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
        if !self.state.anyone_may_cue {
            self.leader_only(from)?;
        }
        out.push(Effect::Notify(Audience::All, Notice::Cue { from, text, target, moment: now }));
        Ok(Ack::Done)
    }

    /// Makes what was just changed the next version.
    fn decide(&mut self, now: Moment) {
        self.state.timeline.version += 1; // mark: version_stays
        self.state.timeline.made_at = now.at;
        self.sum(); // mark: stale_checksum
    }

    /// Tells everybody of a change, or its sender alone how things stand already.
    fn report(
        &self,
        changed: bool,
        sender: MemberId,
        notice: Notice,
        out: &mut Vec<Effect>,
    ) -> Ack {
        let audience = audience(changed, sender);
        // mark: nothing_unanswered
        out.extend([Effect::Notify(audience, notice), Effect::Snapshot(audience)]);
        self.changed()
    }

    fn changed(&self) -> Ack {
        Ack::Changed { epoch: self.epoch(), version: self.version() }
    }

    fn touch(&mut self, now: Moment) {
        self.state.last_active_at = now.at;
        self.state.last_active_unix = now.unix;
    }

    fn sum(&mut self) {
        let state = &self.state;
        self.checksum = Checksum(sum_of(&(
            &state.session,
            if state.is_message_set() { &state.message } else { "" },
            (state.max_members, state.on_leader_loss, state.leader_rule, state.anyone_may_cue),
            (state.passcode.is_some(), state.leader_pin.is_some(), self.held_seat.is_some()),
            &state.timeline,
            (self.setlist_sum, state.song),
        )));
    }

    fn sum_setlist(&mut self) {
        self.setlist_sum = sum_of(&self.state.setlist);
    }
}

/// Who is told what a command has come to.
fn audience(changed: bool, sender: MemberId) -> Audience {
    if changed { Audience::All } else { Audience::Sender(sender) } // mark: nothing_told_to_all
}

/// CRC-32 of the bytes that a value is stored as.
fn sum_of(value: &impl Serialize) -> u32 {
    // Plain data, and nothing that could be full: there is nothing that could fail.
    postcard::serialize_with_flavor(value, Summing::default()).unwrap_or_default()
}

/// Sums the bytes that a value is stored as up, without storing them: the texts of a set list may
/// be a megabyte.
struct Summing {
    sum: crc32fast::Hasher,
    /// The last bytes, for many of them come one by one.
    last: [u8; 64],
    length: usize,
}

impl Default for Summing {
    fn default() -> Self {
        Self { sum: crc32fast::Hasher::new(), last: [0; 64], length: 0 }
    }
}

impl Summing {
    fn flush(&mut self) {
        self.sum.update(&self.last[..self.length]);
        self.length = 0;
    }
}

impl postcard::ser_flavors::Flavor for Summing {
    type Output = u32;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if bytes.len() > self.last.len() - self.length {
            self.flush();
        }
        match self.last.get_mut(self.length..self.length + bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.sum.update(bytes),
        }
        Ok(())
    }

    fn finalize(mut self) -> postcard::Result<u32> {
        self.flush();
        Ok(self.sum.finalize())
    }
}

/// The wall clock at another instant near `now`.
fn unix_at(now: Moment, at: Micros) -> UnixMillis {
    let (ahead, behind) = (at.since(now.at).as_millis(), now.at.since(at).as_millis());
    UnixMillis(now.unix.0.saturating_add(ahead as i64).saturating_sub(behind as i64))
}
