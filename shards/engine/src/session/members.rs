//! Members: joining, leaving, losing the connection, and returning.

use super::state::{LeadOrigin, default_name};
use super::{Audience, Effect, HeldSeat, Record, Seat, Session};
use crate::speech::{
    Ack, Code, Join, LeaderRule, LeaveReason, Member, Notice, OnLeaderLoss, Reject, Role, Secret,
};
use crate::words::ids::MemberId;
use crate::words::time::{Micros, Moment, UnixMillis};

/// The seat of a member that lost its connection.
#[derive(Clone, Debug)]
pub struct LostSeat {
    /// The seat as it was at the loss.
    pub seat: Seat,
    /// The PIN at that time. A returning member knows no newer one.
    leader_pin: Option<Secret>,
}

impl Session {
    /// Seats a member, or updates the seat that it has. The first join of a session sets its
    /// passcode and leader PIN, and with a PIN the rule that leading requires it. A member that
    /// joins while there is no leader leads, unless it asked to follow.
    ///
    /// A member that joins again keeps its role and receives the snapshot again. It may omit the
    /// secrets, but a wrong one is rejected like a newcomer's, so that a seat gives no free
    /// guesses.
    ///
    /// If another seat has the join's token, the member gets that seat, and its
    /// [holder](Self::holder) is no member any more.
    pub fn join(
        &mut self,
        now: Moment,
        member: MemberId,
        join: &Join,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        let holder = self.holder(now, member, join);
        self.admit(member, join, holder, 0)?;
        let is_seated = self.state.seat(member).is_some();
        match holder {
            _ if is_seated => self.rejoin(now, member, join, out),
            Some(holder) if self.state.seat(holder).is_some() => {
                self.take_over(now, holder, member, join, out);
            }
            Some(holder) => self.come_back(now, holder, member, join, out),
            None => self.enter(now, member, join, out),
        }
        if let Some(token) = join.next_token() {
            self.state.record.tokens.give(member, token);
        }
        self.state.touch(now);
        let role = self.state.seat(member).map_or(Role::Follower, |seat| seat.member.role);
        let (epoch, version) = (self.state.epoch(), self.state.version());
        let is_back = is_seated || holder.is_some();
        Ok(Ack::Joined { member, role, epoch, version, restored: None, is_back })
    }

    /// Returns the other member, present or absent, whose seat has the token of a join. The new
    /// token counts too: the seat has it already if the acknowledgement of the same join was lost.
    pub fn holder(&self, now: Moment, member: MemberId, join: &Join) -> Option<MemberId> {
        let mut tokens = [&join.token, &join.new_token].into_iter().flatten();
        let holder = tokens.find_map(|token| self.state.record.tokens.holder(token, now.unix));
        holder.filter(|holder| *holder != member)
    }

    /// Checks whether a member may [join](Self::join) while `reserved` seats are reserved for
    /// others. `holder` is the [member](Self::holder) that has the seat of its token.
    ///
    /// # Errors
    /// The errors of [`join`](Self::join).
    pub fn admit(
        &self,
        member: MemberId,
        join: &Join,
        holder: Option<MemberId>,
        reserved: u32,
    ) -> Result<(), Reject> {
        if self.state.is_new() {
            let rules = &self.state.rules;
            return rules.check_secrets(join.passcode.as_ref(), join.leader_pin.as_ref());
        }
        let record = &self.state.record;
        let is_seated = self.state.seat(member).is_some();
        if is_seated && holder.is_some() {
            let message =
                "this token belongs to another seat: leave the session, then join with it";
            return Err(Reject { field: Some("token"), ..Reject::new(Code::NotAllowed, message) });
        }
        // With a token the passcode is not even compared. So a client may send one that has changed
        // since, and gains no free guess.
        // mark: token_asks_passcode
        let is_asked = holder.is_none() && (!is_seated || join.passcode.is_some());
        check_shown(record, join, is_asked)?;
        if is_seated || holder.is_some() {
            return Ok(());
        }
        // mark: one_member_too_many
        if self.state.member_count() + reserved >= record.max_members {
            let message = format!("the session has its {} members", record.max_members);
            return Err(Reject::new(Code::SessionFull, message));
        }
        Ok(())
    }

    /// Checks whether a screen may join. The session must have had a member, because its first
    /// member chooses the passcode that a screen must show.
    ///
    /// # Errors
    /// `session_not_found` or `bad_passcode`.
    pub fn admit_screen(&self, join: &Join) -> Result<(), Reject> {
        if self.state.is_new() {
            return Err(no_session_to_show());
        }
        check_shown(&self.state.record, join, true)
    }

    /// Returns whether the session has a passcode, and whether it has a PIN.
    pub fn secrets(&self) -> (bool, bool) {
        (self.state.record.passcode.is_some(), self.state.record.leader_pin.is_some())
    }

    /// Removes a member that leaves on purpose. Its lead passes at once to the connected member
    /// that joined first. If no member remains, the music pauses. Does nothing for a stranger.
    pub fn leave(
        &mut self,
        now: Moment,
        member: MemberId,
        reason: LeaveReason,
        out: &mut Vec<Effect>,
    ) {
        if self.state.seat(member).is_some() {
            self.remove(now, member, reason, true, out);
            self.state.touch(now);
        }
    }

    /// Handles the loss of a member's connection. A follower is removed. A leader's seat is held
    /// for the grace period, and the music goes on even if no member is connected.
    pub fn lost(
        &mut self,
        now: Moment,
        member: MemberId,
        reason: LeaveReason,
        out: &mut Vec<Effect>,
    ) {
        let Some(seat) = self.state.seat_mut(member).filter(|seat| seat.member.connected) else {
            return;
        };
        if seat.member.role == Role::Leader {
            seat.member.connected = false;
            self.state.held_seat =
                Some(HeldSeat { until: now.at + self.state.rules.leader_grace, reason });
            self.state.decide(now);
            out.extend([Effect::Snapshot(Audience::All), Effect::RoomStats]);
        } else {
            self.remove(now, member, reason, false, out);
        }
        self.state.touch(now);
    }

    /// Returns a member's seat, to be kept for its [return](Self::restore).
    pub fn seat_of(&self, member: MemberId) -> Option<LostSeat> {
        let leader_pin = self.state.record.leader_pin.clone();
        self.state.seat(member).cloned().map(|seat| LostSeat { seat, leader_pin })
    }

    /// Gives a [lost](Self::lost) member its seat back, in its old place. It leads again if the
    /// lead is still its own or free. The other members are notified as of a newcomer, because they
    /// were notified that it left; a leader within its grace never left. The member receives a
    /// snapshot after the events that it missed. Returns false if the session is full.
    pub fn restore(&mut self, now: Moment, lost: LostSeat, out: &mut Vec<Effect>) -> bool {
        let LostSeat { mut seat, leader_pin } = lost;
        // The member has shown the PIN of that time, not a newer one.
        // mark: pin_known_without_showing
        seat.knows_pin &= leader_pin == self.state.record.leader_pin;
        let id = seat.member.id;
        if let Some(held) = self.state.seat_mut(id) {
            held.member.connected = true;
            self.state.held_seat = None;
            self.state.decide(now);
            self.repeat_requests(out);
            out.push(Effect::Snapshot(Audience::All));
        } else if self.state.member_count() < self.state.record.max_members {
            // The seat has its token again, unless that is void since.
            self.state.record.tokens.bring_back(id, id);
            self.reseat(now, seat, out);
            out.push(Effect::Snapshot(Audience::One(id)));
        } else {
            return false;
        }
        out.push(Effect::RoomStats);
        self.state.touch(now);
        true
    }

    /// Records a sign of life of a member, and the p95 of its round trips if it is known. `index` is
    /// the seat's index at the last call and is updated, so that ten thousand seats are not searched
    /// for every sign.
    pub fn touch_member(
        &mut self,
        member: MemberId,
        index: &mut u32,
        unix: UnixMillis,
        latency: Option<Micros>,
    ) {
        let seats = &mut self.state.record.seats;
        let sits = |seat: &Seat| seat.member.id == member;
        if !seats.get(*index as usize).is_some_and(sits) {
            // Usually an earlier member has left, so the seat has moved to the front.
            let before = &seats[..(*index as usize).min(seats.len())];
            let found = before.iter().rposition(sits).or_else(|| seats.iter().position(sits));
            let Some(found) = found else { return };
            *index = found as u32;
        }
        let seat = &mut seats[*index as usize];
        seat.member.last_ping_at = unix;
        if let Some(latency) = latency {
            seat.latency_ms = u16::try_from(latency.as_millis()).unwrap_or(u16::MAX);
        }
    }

    /// Whether the session has too many members to announce all of them to all. A newcomer would
    /// cost as much as all members, and filling the room the square of their number. In a large
    /// session only the members that a snapshot names are announced; the others are counted.
    pub fn is_large(&self) -> bool {
        self.state.is_large()
    }

    /// Returns the members in order of joining, including one whose seat is held.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.state.members()
    }

    /// Whether no member has a connection.
    pub fn is_empty(&self) -> bool {
        !self.state.members().any(|member| member.connected)
    }

    /// Returns the ticks per second that a member wants; `None` means all.
    pub fn tick_hz(&self, member: MemberId) -> Option<u8> {
        self.state.seat(member).and_then(|seat| seat.tick_hz)
    }

    /// Whether a member asked for `metronome_tick`.
    pub fn wants_metronome(&self, member: MemberId) -> bool {
        self.state.seat(member).is_some_and(|seat| seat.metronome)
    }

    /// Ends the leader's grace: its held seat is removed and the lead passes on.
    pub(super) fn end_grace(&mut self, now: Moment, out: &mut Vec<Effect>) {
        if let (Some(held), Some(leader)) = (self.state.held_seat, self.state.leader()) {
            self.remove(now, leader, held.reason, false, out);
        }
    }

    /// Seats a newcomer. The first member of a new session sets its secrets.
    fn enter(&mut self, now: Moment, member: MemberId, join: &Join, out: &mut Vec<Effect>) {
        let is_new = self.state.is_new();
        if is_new {
            self.state.record.passcode.clone_from(&join.passcode);
            self.state.record.leader_pin.clone_from(&join.leader_pin);
            if join.leader_pin.is_some() {
                self.state.record.leader_rule = LeaderRule::Pin;
            }
        }
        let was_alone = self.state.record.seats.is_empty();
        self.state.record.seats.push(Seat {
            member: Member {
                id: member,
                display_name: join
                    .display_name
                    .clone()
                    .unwrap_or_else(|| default_name(member))
                    .into(),
                role: Role::Follower,
                joined_at: now.unix,
                last_ping_at: now.unix,
                instrument: join.instrument.as_deref().map(Into::into),
                connected: true,
                may_edit: false,
            },
            tick_hz: join.tick_hz,
            metronome: false,
            knows_pin: self.state.record.leader_pin.is_some()
                && join.leader_pin == self.state.record.leader_pin,
            latency_ms: 0,
        });
        self.playback.listen(&mut self.state, now.at, member, join.metronome);

        let leads = self.state.leads_on_entry(member, join.role);
        if leads && was_alone {
            self.state.seat_leader(Some(member));
        }
        if self.state.leader().is_none() || was_alone {
            self.state.update_automatic_message(LeadOrigin::Join);
        }
        // A newcomer receives a snapshot at once, even if it takes the lead and all members receive
        // another.
        out.push(Effect::Snapshot(Audience::One(member)));
        self.state.notify_join(member, out);
        if leads && !was_alone {
            self.give_lead(now, Some(member), Some("claimed"), None, out);
            self.state.update_automatic_message(LeadOrigin::Join);
            out.push(Effect::Snapshot(Audience::All));
        } else if !leads
            && join.role == Some(Role::Leader)
            && self.state.record.leader_rule == LeaderRule::Ask
        {
            self.ask_leader(member, out);
        }
        if leads || is_new {
            self.state.decide(now);
        }
        out.push(Effect::RoomStats);
    }

    /// Gives the seat of a member that is present, or whose seat is held, to the connection that has
    /// its token, as one decision. For the others one member leaves and another joins, because the
    /// socket id changes.
    fn take_over(
        &mut self,
        now: Moment,
        holder: MemberId,
        member: MemberId,
        join: &Join,
        out: &mut Vec<Effect>,
    ) {
        let led = self.state.leader() == Some(holder);
        let is_named = self.state.is_named(holder);
        let pin = self.state.record.leader_pin.clone();
        let Some(seat) = self.state.seat_mut(holder) else { return };
        seat.member.id = member;
        seat.member.last_ping_at = now.unix;
        seat.metronome = false;
        update_seat(seat, join, pin.as_ref());
        let new_leader = led.then(|| seat.member.clone());
        self.state.record.tokens.pass(holder, member);
        self.applied.left(holder);
        self.leadership.rename(holder, member);
        if led {
            self.state.held_seat = None;
            self.state.seat_leader(Some(member));
        }
        self.playback.listen(&mut self.state, now.at, member, join.metronome);
        out.push(Effect::Snapshot(Audience::One(member)));
        if is_named {
            let left = Notice::UserLeft {
                member: holder,
                member_count: self.state.member_count() - 1,
                new_leader: led.then_some(member),
                reason: LeaveReason::Replaced,
                timestamp: now.unix,
            };
            out.push(Effect::Notify(Audience::All, left));
        }
        self.state.notify_join(member, out);
        if let Some(new_leader) = new_leader {
            let changed = Notice::LeaderChanged { new_leader, previous: Some(holder) };
            out.push(Effect::Notify(Audience::All, changed));
            self.repeat_requests(out);
        }
        self.state.decide(now);
        out.extend([Effect::Snapshot(Audience::All), Effect::RoomStats]);
    }

    /// Gives an absent member its seat back. It leads again if it led last and the lead is free.
    /// Like a newcomer it also takes a free lead unless it asked to follow. It never displaces a
    /// leader.
    fn come_back(
        &mut self,
        now: Moment,
        holder: MemberId,
        member: MemberId,
        join: &Join,
        out: &mut Vec<Effect>,
    ) {
        let pin = self.state.record.leader_pin.clone();
        let Some(mut seat) = self.state.record.tokens.bring_back(holder, member) else { return };
        seat.member.id = member;
        seat.member.last_ping_at = now.unix;
        seat.metronome = join.metronome;
        // mark: free_lead_untaken
        if join.role != Some(Role::Follower) {
            seat.member.role = Role::Leader;
        }
        update_seat(&mut seat, join, pin.as_ref());
        out.push(Effect::Snapshot(Audience::One(member)));
        self.reseat(now, seat, out);
        out.push(Effect::RoomStats);
    }

    /// Inserts a returning member in its order of joining. If it led, it leads again if the lead is
    /// free.
    fn reseat(&mut self, now: Moment, seat: Seat, out: &mut Vec<Effect>) {
        let (id, metronome) = (seat.member.id, seat.metronome);
        let led = seat.member.role == Role::Leader;
        let member = Member { role: Role::Follower, connected: true, ..seat.member };
        let later = self
            .state
            .record
            .seats
            .iter()
            .position(|other| other.member.joined_at > member.joined_at);
        let index = later.unwrap_or(self.state.record.seats.len());
        self.state.record.seats.insert(index, Seat { member, metronome: false, ..seat });
        self.playback.listen(&mut self.state, now.at, id, metronome);
        self.state.notify_join(id, out);
        // mark: two_leaders_after_recovery
        if led && self.state.leader().is_none() && self.state.may_lead(id) {
            self.give_lead(now, Some(id), None, None, out);
            self.state.update_automatic_message(LeadOrigin::Join);
            self.state.decide(now);
            out.push(Effect::Snapshot(Audience::All));
        } else if self.state.leader().is_none() {
            self.state.update_automatic_message(LeadOrigin::Join);
        }
    }

    /// Updates the seat of a member that joins again. Only a change that members can see is sent to
    /// all.
    fn rejoin(&mut self, now: Moment, member: MemberId, join: &Join, out: &mut Vec<Effect>) {
        let pin = self.state.record.leader_pin.clone();
        let Some(seat) = self.state.seat_mut(member) else { return };
        let before = seat.member.clone();
        update_seat(seat, join, pin.as_ref());
        let changed = seat.member != before;
        let shown_anew = changed && self.state.is_named(member);
        self.playback.listen(&mut self.state, now.at, member, join.metronome);

        let audience = if shown_anew { Audience::All } else { Audience::One(member) };
        out.push(Effect::Snapshot(audience));
        if !before.connected {
            self.state.held_seat = None;
            self.state.decide(now);
            self.repeat_requests(out);
            out.push(Effect::RoomStats);
        }
    }

    /// Removes a member, with all consequences as one decision.
    fn remove(
        &mut self,
        now: Moment,
        member: MemberId,
        reason: LeaveReason,
        on_purpose: bool,
        out: &mut Vec<Effect>,
    ) {
        self.playback.announce_begun(&self.state, now, out);
        let led = self.state.leader() == Some(member); // mark: leaver_keeps_the_lead
        let heir = if led { self.state.successor(member) } else { None };
        self.state.remove_seat(now, member, reason, heir, out);
        self.applied.left(member);
        self.leadership.forget(member);
        if led {
            let why = if on_purpose { "leader_left" } else { "leader_disconnected" };
            self.give_lead(now, heir, None, Some(why), out);
        } else if self.state.leader().is_none() {
            self.state.update_automatic_message(LeadOrigin::HandOver);
        }
        let pauses = led && self.state.record.on_leader_loss == OnLeaderLoss::Pause
            || on_purpose && self.state.record.seats.is_empty();
        let paused = pauses && self.playback.stop_playback(&mut self.state, now, now.at);
        if led || paused {
            self.state.decide(now);
        }
        if paused {
            out.push(Effect::Notify(Audience::All, self.state.pause_notice(now)));
        }
        if led || paused {
            out.push(Effect::Snapshot(Audience::All));
        }
        out.push(Effect::RoomStats);
    }
}

/// Updates the seat that a member has already by another join.
fn update_seat(seat: &mut Seat, join: &Join, pin: Option<&Secret>) {
    if let Some(name) = &join.display_name {
        seat.member.display_name = name.as_str().into();
    }
    if let Some(instrument) = &join.instrument {
        seat.member.instrument = Some(instrument.as_str().into());
    }
    seat.tick_hz = join.tick_hz;
    seat.knows_pin |= pin.is_some() && join.leader_pin.as_ref() == pin;
    seat.member.connected = true;
}

/// Checks the secrets that a join shows; the passcode only if it is asked for.
fn check_shown(record: &Record, join: &Join, is_asked: bool) -> Result<(), Reject> {
    let wrong = |field, message: &'static str| {
        let reject = Reject::new(Code::BadPasscode, message);
        Err(Reject { field: Some(field), ..reject })
    };
    // mark: any_passcode_opens
    if is_asked && record.passcode.is_some() && join.passcode != record.passcode {
        return wrong("passcode", "the session takes its passcode to join");
    }
    // Checked under every leader rule: it may become `pin` later, and a member that has shown the
    // PIN may lead then.
    let has_pin = record.leader_pin.is_some();
    // mark: wrong_pin_from_a_seat
    if has_pin && join.leader_pin.is_some() && join.leader_pin != record.leader_pin {
        return wrong("leaderPin", "that is not the session's leader PIN; leave it out to follow");
    }
    Ok(())
}

/// Creates the rejection of a screen whose session does not exist.
pub fn no_session_to_show() -> Reject {
    let message = "there is no such session to show: a member must join it first";
    Reject::new(Code::SessionNotFound, message)
}
