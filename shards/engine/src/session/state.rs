//! A session's decided state, and the queries that its parts share.
//!
//! Every other file of the session works on this value and on nothing above it, so calls go one
//! way. A change to the record becomes a decision with [`State::decide`]: the next version, with a
//! new checksum.

use std::sync::Arc;

use serde::Serialize;

use super::draft::Draft;
use super::songs::Songs;
use super::{Audience, Effect, HeldSeat, Rules, unix_at};
use crate::record::{Record, Seat, Tokens};
use crate::speech::{
    Ack, Checksum, Code, LeaderRule, LeaveReason, Member, Notice, Reject, Role, Settings,
    SyncResponse,
};
use crate::words::ids::MemberId;
use crate::words::music::{Change, TimeSignature, Timeline};
use crate::words::time::{Micros, Moment};

/// The record of a session with its rules and what is computed from them.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// The server's settings, shared by all sessions.
    pub rules: Arc<Rules>,
    /// Everything that is stored. [`State::install`] alone changes how its timeline goes on.
    pub record: Record,
    /// The seat of a leader without a connection, while its grace lasts.
    pub held_seat: Option<HeldSeat>,
    /// The checksum of this state at its version.
    checksum: Checksum,
    /// The checksum of the set list alone. A list has up to 1 MiB, which is thus not read with
    /// every version.
    setlist_sum: u32,
}

/// Bounds of the time between a command and a change that is armed for the next bar line or beat, in
/// milliseconds. Specified.
const LEAD_TIME_MS: std::ops::RangeInclusive<u64> = 150..=1_000;

/// The cause of a leader's lead, for the automatic message.
#[derive(Clone, Copy, Debug)]
pub(super) enum LeadOrigin {
    /// By joining.
    Join,
    /// By `set_role`.
    Claim,
    /// By receiving the lead: handed over, approved, or as the successor.
    HandOver,
}

/// A part of the state that changes without a notice of its own.
#[derive(Debug)]
pub(super) enum Part {
    Settings,
    /// The timeline alone.
    Timeline,
    /// A time signature, and the timeline that has it.
    Signature(TimeSignature),
    /// A member with its rights.
    Member(Member),
}

impl State {
    pub fn new(record: Record, rules: &Arc<Rules>) -> Self {
        let mut state = Self {
            rules: Arc::clone(rules),
            record,
            held_seat: None,
            checksum: Checksum(0),
            setlist_sum: 0,
        };
        state.sum_setlist();
        state.sum();
        state
    }

    pub fn epoch(&self) -> u64 {
        self.record.timeline.epoch
    }

    pub fn version(&self) -> u64 {
        self.record.timeline.version
    }

    pub fn checksum(&self) -> Checksum {
        self.checksum
    }

    pub fn timeline(&self) -> &Timeline {
        &self.record.timeline
    }

    /// Whether no member has ever joined.
    pub fn is_new(&self) -> bool {
        self.version() == 0
    }

    pub fn leader(&self) -> Option<MemberId> {
        self.record.timeline.leader
    }

    /// Rejects a member that does not lead.
    pub fn leader_only(&self, member: MemberId) -> Result<(), Reject> {
        match self.leader() {
            Some(leader) if leader == member => Ok(()),
            Some(_) => Err(Reject::new(Code::NotLeader, "only the leader may do this")),
            None => {
                let message = "nobody leads: take the lead with set_role \"leader\" first";
                Err(Reject::new(Code::NotLeader, message))
            }
        }
    }

    /// Whether a member may lead without showing the PIN.
    pub fn may_lead(&self, member: MemberId) -> bool {
        self.record.leader_rule != LeaderRule::Pin
            || self.seat(member).is_some_and(|seat| seat.knows_pin)
    }

    /// Returns the member that leads after `leader`: the first in order of joining that is
    /// connected and may lead.
    pub fn successor(&self, leader: MemberId) -> Option<MemberId> {
        let mut others = self.members().filter(|member| member.id != leader && member.connected);
        // mark: heir_without_pin
        others.find(|member| self.may_lead(member.id)).map(|member| member.id)
    }

    /// Gives the leader's role to `leader` alone, without a notice.
    pub fn seat_leader(&mut self, leader: Option<MemberId>) {
        debug_assert!(
            leader.is_none_or(|leader| self.seat(leader).is_some()),
            "only a member may lead"
        );
        self.record.timeline.leader = leader;
        if leader.is_some() {
            self.record.tokens.void_absent_lead();
        }
        for seat in &mut self.record.seats {
            seat.member.role =
                // mark: two_leaders
                if Some(seat.member.id) == leader { Role::Leader } else { Role::Follower };
        }
    }

    /// Returns the members in order of joining, including one whose seat is held.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.record.seats.iter().map(|seat| &seat.member)
    }

    pub fn member_count(&self) -> u32 {
        self.record.seats.len() as u32
    }

    /// Whether the session has too many members to announce all of them to all.
    pub fn is_large(&self) -> bool {
        self.member_count() > self.rules.members_listed_max
    }

    pub fn seat(&self, member: MemberId) -> Option<&Seat> {
        self.index_of(member).map(|index| &self.record.seats[index])
    }

    pub fn seat_mut(&mut self, member: MemberId) -> Option<&mut Seat> {
        self.index_of(member).map(|index| &mut self.record.seats[index])
    }

    /// Whether a member has a seat and a connection.
    pub fn is_connected(&self, member: MemberId) -> bool {
        self.seat(member).is_some_and(|seat| seat.member.connected)
    }

    /// Finds a member's seat. The last seat is tried first: it is a newcomer's, which is looked up
    /// often at once.
    fn index_of(&self, member: MemberId) -> Option<usize> {
        let seats = &self.record.seats;
        let is_last = seats.last().is_some_and(|seat| seat.member.id == member);
        if is_last {
            return Some(seats.len() - 1);
        }
        seats.iter().position(|seat| seat.member.id == member)
    }

    /// Returns the name of a member, or the default one.
    pub fn display_name(&self, member: MemberId) -> String {
        self.seat(member)
            .map_or_else(|| default_name(member), |seat| seat.member.display_name.to_string())
    }

    /// Whether a newcomer leads: if the lead is free and it did not ask to follow, or if it claims
    /// the lead and the rule does not require the leader's consent.
    pub fn leads_on_entry(&self, member: MemberId, asked: Option<Role>) -> bool {
        let may = self.may_lead(member);
        match (asked, self.leader()) {
            (Some(Role::Follower), _) | (None, Some(_)) => false,
            (_, None) => may,
            (Some(Role::Leader), Some(_)) => may && self.record.leader_rule != LeaderRule::Ask,
        }
    }

    /// Returns the members that a snapshot names: all, or in a large session the leader and those
    /// that joined first.
    pub fn named(&self) -> Vec<&Member> {
        if !self.is_large() {
            return self.members().collect();
        }
        let mut named: Vec<&Member> = self.members().take(self.named_of_many()).collect();
        let leader = self.leader().and_then(|leader| self.seat(leader)).map(|seat| &seat.member);
        named.extend(leader.filter(|leader| named.iter().all(|member| member.id != leader.id)));
        named
    }

    /// Whether all members are notified about this member. A seat without a connection is the
    /// leader's, or was until now.
    pub fn is_named(&self, member: MemberId) -> bool {
        let stands_out = |index: usize| {
            index < self.named_of_many() || !self.record.seats[index].member.connected
        };
        !self.is_large()
            || self.leader() == Some(member)
            || self.index_of(member).is_some_and(stands_out)
    }

    /// Number of members of a large session that are named besides its leader. They are few,
    /// because every newcomer receives them.
    fn named_of_many(&self) -> usize {
        self.rules.members_listed_max.div_ceil(8) as usize
    }

    /// Notifies the members about a newcomer, which already has its seat.
    pub fn notify_join(&self, member: MemberId, out: &mut Vec<Effect>) {
        if self.member_count() == self.rules.members_listed_max + 1 {
            // From now on not all members are announced, so the lists that members hold would
            // become stale.
            out.push(Effect::Snapshot(Audience::All));
        }
        if let Some(seat) = self.seat(member).filter(|_| self.is_named(member)) {
            let (member, member_count) = (seat.member.clone(), self.member_count());
            out.push(Effect::Notify(Audience::All, Notice::UserJoined { member, member_count }));
        }
    }

    /// Removes a seat and notifies the remaining members. If the member has not left on purpose and
    /// has a token, its seat is remembered.
    pub fn remove_seat(
        &mut self,
        now: Moment,
        member: MemberId,
        reason: LeaveReason,
        new_leader: Option<MemberId>,
        out: &mut Vec<Effect>,
    ) {
        let index = self.index_of(member);
        debug_assert!(index.is_some(), "only a member has a seat to remove");
        let Some(index) = index else { return };
        let (was_named, was_large) = (self.is_named(member), self.is_large());
        let seat = self.record.seats.remove(index);
        match reason {
            LeaveReason::Left => self.record.tokens.forget(member), // mark: left_member_comes_back
            _ => self.record.tokens.remember(seat, now.unix),
        }
        if was_named {
            let member_count = self.member_count();
            let left =
                Notice::UserLeft { member, member_count, new_leader, reason, timestamp: now.unix };
            out.push(Effect::Notify(Audience::All, left));
        }
        if was_large && !self.is_large() {
            // No member knows all of the remaining members.
            out.push(Effect::Snapshot(Audience::All));
        }
    }

    /// Sets the automatic message of the present lead, unless a member has set a message. The
    /// automatic message makes no version, so it is not part of the checksum.
    pub fn update_automatic_message(&mut self, origin: LeadOrigin) {
        if self.record.is_message_set() {
            return;
        }
        let leader = self.leader().and_then(|leader| self.seat(leader));
        let text = match leader.map(|seat| &seat.member.display_name) {
            Some(name) => match origin {
                LeadOrigin::Join => format!("{name} is leading"),
                LeadOrigin::Claim => "Leader connected".into(),
                LeadOrigin::HandOver => format!("{name} is now leading"),
            },
            None if self.record.seats.is_empty() => "Waiting for members…".into(),
            None => "Waiting for leader…".into(),
        };
        self.record.message = format!("{}{text}", Record::AUTOMATIC);
    }

    /// Returns the settings as members see them.
    pub fn settings(&self) -> Settings {
        let record = &self.record;
        Settings {
            max_members: record.max_members,
            on_leader_loss: record.on_leader_loss,
            leader_rule: record.leader_rule,
            anyone_may_cue: record.anyone_may_cue,
            anyone_may_edit: record.anyone_may_edit,
            has_passcode: record.passcode.is_some(),
        }
    }

    /// Returns the songs as they are at `at`.
    pub fn songs(&self, at: Micros) -> Songs<'_> {
        Songs::at(&self.record, at)
    }

    /// Returns the answer to `sync_request`.
    pub fn sync_response(&self, now: Moment) -> SyncResponse {
        let timeline = self.timeline();
        SyncResponse {
            position: timeline.position_at(now.at),
            tempo: timeline.tempo_at(now.at),
            playing: timeline.is_playing_at(now.at),
            timestamp: now.unix,
            checksum: self.checksum,
            timeline: timeline.clone(),
        }
    }

    pub fn pause_notice(&self, now: Moment) -> Notice {
        let timeline = self.timeline().clone();
        let (position, timestamp) = (timeline.position_at(now.at), now.unix);
        Notice::Pause { position, reason: None, timestamp, timeline }
    }

    pub fn seek_notice(&self, now: Moment) -> Notice {
        let timeline = self.timeline().clone();
        let (position, beat) = (timeline.position_at(now.at), timeline.beat_at(now.at));
        Notice::Seek { position, beat, timestamp: now.unix, timeline }
    }

    /// Returns the `session_update` of this part of the state.
    pub fn update_notice(&self, part: Part) -> Notice {
        let timeline = matches!(part, Part::Timeline | Part::Signature(_));
        let (settings, time_signature, member) = match part {
            Part::Settings => (Some(self.settings()), None, None),
            Part::Timeline => (None, None, None),
            Part::Signature(signature) => (None, Some(signature), None),
            Part::Member(member) => (None, None, Some(Box::new(member))),
        };
        Notice::SessionUpdate {
            settings,
            time_signature,
            timeline: timeline.then(|| Box::new(self.timeline().clone())),
            member,
            epoch: self.epoch(),
            version: self.version(),
            checksum: self.checksum(),
        }
    }

    /// Returns the event of an armed change that has begun; `None` if the segment was scheduled.
    pub fn begun_notice(&self, now: Moment, index: usize) -> Option<Notice> {
        let timeline = self.timeline().clone();
        let segment = timeline.segments.get(index)?.clone();
        let (position, beat, timestamp) = (segment.p0, segment.b0, unix_at(now, segment.t0));
        Some(match segment.armed?.change {
            Change::Jump => Notice::Seek { position, beat, timestamp, timeline },
            Change::Song { id, .. } => {
                let index = self.record.index_of_song(&id)?;
                Notice::SongChanged { song: id, index, timestamp, timeline }
            }
            Change::Tempo(event) => {
                let old = timeline.segments.get(index.checked_sub(1)?)?.tempo_at(segment.t0);
                let (new, fade) = (segment.bpm1, Micros::from_micros(segment.ramp));
                Notice::TempoChange { event, old, new, fade, timestamp, timeline }
            }
            Change::Meter => {
                self.update_notice(Part::Signature(timeline.place_at(segment.t0).bar.signature))
            }
            Change::End => Notice::Pause { position, reason: Some("end"), timestamp, timeline },
        })
    }

    /// Notifies all members of a change, or the sender alone of the present state.
    pub fn report(
        &self,
        changed: bool,
        sender: MemberId,
        notice: Notice,
        out: &mut Vec<Effect>,
    ) -> Ack {
        let audience = Audience::of(changed, sender);
        // mark: nothing_unanswered
        out.extend([Effect::Notify(audience, notice), Effect::Snapshot(audience)]);
        self.changed()
    }

    /// Returns the acknowledgement that carries the present version.
    pub fn changed(&self) -> Ack {
        Ack::Changed { epoch: self.epoch(), version: self.version() }
    }

    /// Begins an epoch. The caller makes it a decision.
    pub fn begin_epoch(&mut self, epoch: u64) {
        self.record.timeline.epoch = epoch;
        self.record.timeline.version = 0;
    }

    /// Carries the timeline over from the clock of another server, by the wall clock of both.
    pub fn move_to_clock_of(&mut self, now: Moment) {
        let record = &self.record;
        let passed = now.unix.0.saturating_sub(record.last_active_unix.0).max(0) as u64;
        // mark: stored_music_stands
        let then = record.last_active_at + Micros::from_micros(passed.saturating_mul(1_000));
        let mut draft = Draft::new(&record.timeline, then, self.lead_time());
        draft.carry_over(now.at);
        self.install(draft);
        self.touch(now);
    }

    /// Begins a plan of the next timeline.
    pub fn draft(&self, now: Micros) -> Draft {
        Draft::new(self.timeline(), now, self.lead_time())
    }

    /// Returns the minimum time between a command and a change that is armed for the next bar line
    /// or beat, so that the slowest member learns of it in time: twice its p95 round trip, and
    /// 100 ms.
    fn lead_time(&self) -> Micros {
        let seats = self.record.seats.iter().filter(|seat| seat.member.connected);
        let slowest = seats.map(|seat| u64::from(seat.latency_ms)).max().unwrap_or(0);
        Micros::from_millis((2 * slowest + 100).clamp(*LEAD_TIME_MS.start(), *LEAD_TIME_MS.end()))
    }

    /// Makes a draft the present timeline. Returns the old one, or `None` if the music does not
    /// change. The caller makes it a decision.
    pub fn install(&mut self, next: Draft) -> Option<Timeline> {
        let old = std::mem::replace(&mut self.record.timeline, next.timeline);
        if self.record.timeline.song != old.song {
            let song = self.record.timeline.song.as_deref();
            self.record.song = song.and_then(|id| self.record.index_of_song(id));
        }
        (old != self.record.timeline).then_some(old)
    }

    /// Makes the latest changes the next version.
    pub fn decide(&mut self, now: Moment) {
        self.record.timeline.version += 1; // mark: version_stays
        self.record.timeline.made_at = now.at;
        self.sum(); // mark: stale_checksum
    }

    /// Checks that the seats do not contradict each other.
    ///
    /// # Panics
    /// If they do.
    pub fn check_seats(&self) {
        let (seats, max_members) = (&self.record.seats, self.record.max_members);
        assert!(max_members <= self.rules.members_max);
        // Members that return with their tokens are admitted to a full session.
        let most = max_members as usize + Tokens::ABSENT_MAX;
        assert!(seats.len() <= most, "{} members", seats.len());
        for (index, seat) in seats.iter().enumerate() {
            let id = seat.member.id;
            assert!(
                seats[..index].iter().all(|other| other.member.id != id),
                "{id:?} is twice a member"
            );
            let held = self.held_seat.is_some() && self.leader() == Some(id);
            assert_eq!(seat.member.connected, !held, "only the leader's seat is kept: {id:?}");
        }
        let tokens = &self.record.tokens;
        assert!(tokens.absent().len() <= Tokens::ABSENT_MAX);
        for (member, _) in tokens.present() {
            assert!(self.seat(*member).is_some(), "{member:?} has a token and no seat");
        }
    }

    /// Records that a member was active.
    pub fn touch(&mut self, now: Moment) {
        self.record.last_active_at = now.at;
        self.record.last_active_unix = now.unix;
    }

    /// Updates the checksum. It covers everything that was decided, and no secret: only whether
    /// there is one.
    fn sum(&mut self) {
        let record = &self.record;
        let sum = sum_of(&(
            &record.session,
            if record.is_message_set() { &record.message } else { "" },
            (record.max_members, record.on_leader_loss, record.leader_rule, record.anyone_may_cue),
            (record.passcode.is_some(), record.leader_pin.is_some(), self.held_seat.is_some()),
            &record.timeline,
            (self.setlist_sum, record.song),
        ));
        // Without additions the checksum is that of earlier versions.
        let additions = record.additions_without_setlist();
        self.checksum = Checksum(additions.map_or(sum, |additions| sum_of(&(sum, additions))));
    }

    /// Updates the checksum of the set list after it was changed.
    pub fn sum_setlist(&mut self) {
        let sum = sum_of(&self.record.setlist);
        // Without additions the checksum is that of earlier versions.
        let additions = self.record.setlist_additions();
        self.setlist_sum = additions.map_or(sum, |additions| sum_of(&(sum, additions)));
    }
}

/// Creates the state of a copy. The end of a lost leader's grace is the owner's business.
pub(super) fn copy_of(record: Record, rules: &Arc<Rules>) -> State {
    let mut state = State::new(record, rules);
    state.record.max_members = state.record.max_members.min(rules.members_max);
    let leader = state.leader().and_then(|leader| state.seat(leader));
    let reason = LeaveReason::TransportClosed;
    state.held_seat = leader
        .filter(|seat| !seat.member.connected)
        .map(|_| HeldSeat { until: Micros::from_micros(u64::MAX), reason });
    state.sum();
    state
}

/// Returns the name that old clients expect of a member without one.
pub(super) fn default_name(member: MemberId) -> String {
    let id = member.as_str();
    format!("User {}", &id[id.len().saturating_sub(4)..])
}

/// Returns the CRC-32 of a value's serialized bytes.
fn sum_of(value: &impl Serialize) -> u32 {
    // Serializing plain data into a sum cannot fail.
    postcard::serialize_with_flavor(value, Summing::default()).unwrap_or_default()
}

/// Computes the checksum of serialized bytes without storing them: a set list may have 1 MiB.
struct Summing {
    sum: crc32fast::Hasher,
    /// The latest bytes, buffered because many arrive one by one.
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
            Some(target) => {
                target.copy_from_slice(bytes);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_checksum_matches_that_of_the_stored_bytes() {
        let stored = |value: &(u32, String, Vec<String>)| {
            crc32fast::hash(&postcard::to_allocvec(value).unwrap())
        };
        for length in 0..300 {
            let words = vec!["la".repeat(length % 40), "x".repeat(length)];
            let value = (length as u32, "y".repeat(length / 2), words);
            assert_eq!(sum_of(&value), stored(&value), "{length}");
        }
    }
}
