//! A session as a copy of one that another node decides, and the change from copy to original.

use std::sync::Arc;

use super::state::copy_of;
use super::{Audience, Effect, Rules, Session};
use crate::record::{Record, Seat};
use crate::speech::Role;
use crate::words::ids::MemberId;
use crate::words::music::Timeline;
use crate::words::time::{Micros, Moment};

impl Session {
    /// Opens a copy of a session that another node decides. Both count in the same time.
    pub fn copy_of(record: Record, rules: &Arc<Rules>, now: Moment) -> Self {
        let age = Micros::from_millis(now.unix.0.saturating_sub(record.created_at.0).max(0) as u64);
        Self::with_state(copy_of(record, rules), now, age)
    }

    /// Replaces the state by a newer record of the session.
    pub fn copy(&mut self, record: Record, now: Moment) {
        let rules = Arc::clone(&self.state.rules);
        let old = std::mem::replace(&mut self.state, copy_of(record, &rules));
        self.playback.follow_copy(old.timeline(), self.state.timeline(), now.at);
    }

    /// Returns the time at which [`due_in_copy`](Self::due_in_copy) must be called.
    pub fn next_deadline_in_copy(&self) -> Option<Micros> {
        self.playback.next_beat(&self.state)
    }

    /// Announces the next beats. Everything else is announced by the owner.
    pub fn due_in_copy(&mut self, now: Moment, out: &mut Vec<Effect>) {
        self.playback.notify_beats(&self.state, now.at, out);
    }

    /// Begins this epoch in place of the one that the session was opened in.
    pub fn begin_owned(&mut self, epoch: u64, now: Moment) {
        let is_new = self.state.is_new();
        self.state.begin_epoch(epoch);
        if !is_new {
            self.state.decide(now);
        }
    }

    /// Makes a copy the original, as a decision in its own epoch. Members keep their seats, and all
    /// receive a snapshot. A leader without a connection has its grace anew.
    pub fn take_charge(&mut self, epoch: u64, now: Moment, out: &mut Vec<Effect>) {
        self.state.begin_epoch(epoch);
        if let Some(held) = &mut self.state.held_seat {
            held.until = now.at + self.state.rules.leader_grace;
        }
        self.state.decide(now);
        out.extend([Effect::Snapshot(Audience::All), Effect::RoomStats]);
    }

    /// Seats a member that another node has reported, without a notice: its band knows it. Returns
    /// whether the members of the session changed.
    pub fn report_seat(&mut self, seat: Seat, now: Moment) -> bool {
        let id = seat.member.id;
        if let Some(known) = self.state.seat_mut(id) {
            let was_connected = std::mem::replace(&mut known.member.connected, true);
            if self.state.leader() == Some(id) && self.state.held_seat.take().is_some() {
                self.state.decide(now);
            }
            return !was_connected;
        }
        if self.state.member_count() >= self.state.record.max_members {
            return false;
        }
        let seats = &mut self.state.record.seats;
        let later = seats.iter().position(|other| other.member.joined_at > seat.member.joined_at);
        let mut seat = seat;
        seat.member.role = Role::Follower;
        seat.member.connected = true;
        seats.insert(later.unwrap_or(seats.len()), seat);
        true
    }

    /// Returns the seats of these members.
    pub fn seats_of<'s>(
        &'s self,
        members: impl Iterator<Item = MemberId> + 's,
    ) -> impl Iterator<Item = &'s Seat> {
        members.filter_map(|member| self.state.seat(member))
    }

    /// Plays on by an earlier timeline, because later decisions are void.
    pub fn revert_to(&mut self, timeline: Timeline, now: Micros) {
        let undecided = std::mem::replace(&mut self.state.record.timeline, timeline);
        self.playback.follow_copy(&undecided, self.state.timeline(), now);
    }
}
