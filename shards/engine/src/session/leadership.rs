//! The lead: claims, requests, hand-overs, and succession.

use super::state::LeadOrigin;
use super::{Audience, Effect, Session};
use crate::speech::{Ack, Code, LeaderRule, Notice, Reject, Role};
use crate::words::ids::MemberId;
use crate::words::time::{Micros, Moment};

/// Open claims and requests for the lead.
#[derive(Clone, Debug, Default)]
pub(super) struct Leadership {
    /// Time until which a granted claim rejects others.
    claimed_until: Micros,
    /// Followers that wait for the leader's answer, in order of request.
    requests: Vec<MemberId>,
}

impl Leadership {
    /// Keeps the request of a member that has another socket id now.
    pub fn rename(&mut self, old: MemberId, new: MemberId) {
        for requester in self.requests.iter_mut().filter(|requester| **requester == old) {
            *requester = new;
        }
    }

    /// Drops the request of a member that leaves.
    pub fn forget(&mut self, member: MemberId) {
        self.requests.retain(|&requester| requester != member); // mark: request_outlives_member
    }
}

impl Session {
    /// Handles `set_role`. A leader that steps down hands over to its successor. Without one, the
    /// lead is free.
    pub(super) fn set_role(
        &mut self,
        now: Moment,
        member: MemberId,
        role: Role,
        other: Option<MemberId>,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        let other = other.filter(|&other| other != member);
        if let Some(other) = other {
            self.state.leader_only(member)?;
            if !self.state.is_connected(other) {
                return Err(Reject::field("memberId", "no member of the session has this id"));
            }
        }
        match (role, other) {
            (Role::Leader, None) if self.state.leader() == Some(member) => {
                let changed = self.connect_leader(now, out);
                self.notify_role(now, member, member, changed, out);
            }
            (Role::Leader, None) => return self.claim(now, member, LeadOrigin::Claim, out),
            (Role::Leader, Some(_)) => self.pass_lead(now, other, None, Some("handed_over"), out),
            (Role::Follower, None) if self.state.leader() == Some(member) => {
                self.pass_lead(now, self.state.successor(member), None, Some("handed_over"), out);
            }
            (Role::Follower, None) => {
                self.leadership.forget(member);
                self.notify_role(now, member, member, false, out);
            }
            (Role::Follower, Some(other)) => self.notify_role(now, member, other, false, out),
        }
        Ok(self.state.changed())
    }

    /// Handles `request_leader`. A free lead is given at once. Otherwise the leader is asked, under
    /// every leader rule.
    pub(super) fn request_leader(
        &mut self,
        now: Moment,
        member: MemberId,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        match self.state.leader() {
            None => self.claim(now, member, LeadOrigin::HandOver, out),
            Some(leader) if leader == member => {
                self.notify_role(now, member, member, false, out);
                Ok(self.state.changed())
            }
            Some(_) => Ok(self.ask_leader(member, out)),
        }
    }

    /// Handles `approve_leader`: the lead passes to a member that requested it.
    pub(super) fn approve_leader(
        &mut self,
        now: Moment,
        member: MemberId,
        requester: MemberId,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.answer_request(member, requester)?;
        out.push(Effect::Notify(Audience::One(requester), Notice::LeaderRequestApproved));
        out.push(Effect::Notify(
            Audience::One(member),
            Notice::LeaderHandoffCompleted { new_leader: requester },
        ));
        self.pass_lead(now, Some(requester), None, Some("handed_over"), out);
        Ok(self.state.changed())
    }

    /// Handles `deny_leader`: the requester is notified, and may ask again.
    pub(super) fn deny_leader(
        &mut self,
        member: MemberId,
        requester: MemberId,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.answer_request(member, requester)?;
        let denied = Notice::LeaderRequestDenied { reason: "Request denied by current leader" };
        out.push(Effect::Notify(Audience::One(requester), denied));
        Ok(Ack::Done)
    }

    /// Records a request and sends it to the leader once. A leader without a connection receives it
    /// on its return.
    pub(super) fn ask_leader(&mut self, member: MemberId, out: &mut Vec<Effect>) -> Ack {
        let Some(current_leader) = self.state.leader() else { return Ack::Pending };
        let asked_already = self.leadership.requests.contains(&member);
        if !asked_already {
            self.leadership.requests.push(member);
            self.put_request(member, out);
        }
        out.push(Effect::Notify(
            Audience::One(member),
            Notice::LeaderRequestSent { current_leader },
        ));
        Ack::Pending
    }

    /// Sends all open requests to a leader that has returned.
    pub(super) fn repeat_requests(&self, out: &mut Vec<Effect>) {
        for &requester in &self.leadership.requests {
            self.put_request(requester, out);
        }
    }

    /// Gives the lead to `to`. Notifies the previous leader with `why_before`, and the new one with
    /// `why_now`. A leader without a connection loses its seat with the lead. The caller makes it a
    /// decision.
    pub(super) fn give_lead(
        &mut self,
        now: Moment,
        to: Option<MemberId>,
        why_before: Option<&'static str>,
        why_now: Option<&'static str>,
        out: &mut Vec<Effect>,
    ) {
        let previous = self.state.leader();
        debug_assert!(to.is_none() || to != previous, "{to:?} leads already");
        let held = self.state.held_seat.take();
        self.state.seat_leader(to);
        if let (Some(held), Some(previous)) = (held, previous)
            && self.state.seat(previous).is_some()
        {
            self.state.remove_seat(now, previous, held.reason, to, out);
            self.applied.left(previous);
        }
        for (member, role, was, reason) in [
            (previous, Role::Follower, Role::Leader, why_before),
            (to, Role::Leader, Role::Follower, why_now),
        ] {
            if let Some(member) = member.filter(|&member| self.state.seat(member).is_some()) {
                let changed = Notice::RoleChanged {
                    member,
                    role,
                    previous: was,
                    reason,
                    timestamp: now.unix,
                };
                out.push(Effect::Notify(Audience::All, changed));
            }
        }
        let reason = match to.and_then(|to| self.state.seat(to)) {
            Some(seat) => {
                let new_leader = seat.member.clone();
                out.push(Effect::Notify(
                    Audience::All,
                    Notice::LeaderChanged { new_leader, previous },
                ));
                "Leadership was granted to another member"
            }
            None => "There is no leader to answer any more",
        };
        let requests = std::mem::take(&mut self.leadership.requests);
        for requester in requests.into_iter().filter(|&requester| Some(requester) != to) {
            out.push(Effect::Notify(
                Audience::One(requester),
                Notice::LeaderRequestDenied { reason },
            ));
        }
        self.state.update_automatic_message(LeadOrigin::HandOver);
    }

    /// Notifies the sender of a command of the role that a member already has. If `shown` is set,
    /// all members receive a snapshot anyway.
    fn notify_role(
        &self,
        now: Moment,
        sender: MemberId,
        member: MemberId,
        shown: bool,
        out: &mut Vec<Effect>,
    ) {
        let Some(seat) = self.state.seat(member) else { return };
        let (role, new_leader) = (seat.member.role, seat.member.clone());
        let same =
            Notice::RoleChanged { member, role, previous: role, reason: None, timestamp: now.unix };
        out.push(Effect::Notify(Audience::Sender(sender), same));
        if role == Role::Leader {
            let same = Notice::LeaderChanged { new_leader, previous: Some(member) };
            out.push(Effect::Notify(Audience::Sender(sender), same));
        }
        if !shown {
            out.push(Effect::Snapshot(Audience::Sender(sender)));
        }
    }

    pub(super) fn check_lead(&self) {
        let leads = |role| {
            self.state.members().filter(move |member| member.role == role).map(|member| member.id)
        };
        assert!(leads(Role::Leader).eq(self.state.leader()), "{:?} leads", self.state.leader());
        for (index, requester) in self.leadership.requests.iter().enumerate() {
            assert!(
                !self.leadership.requests[..index].contains(requester),
                "{requester:?} asks twice"
            );
            assert!(
                leads(Role::Follower).any(|id| id == *requester),
                "{requester:?} asks and does not follow"
            );
        }
        assert!(
            self.leadership.requests.is_empty() || self.state.leader().is_some(),
            "nobody can answer"
        );
        assert!(
            self.state.record.leader_rule != LeaderRule::Pin
                || self.state.record.leader_pin.is_some()
        );
    }

    /// Handles a leader that claims its own lead. If this changes the automatic message, it is a
    /// decision.
    fn connect_leader(&mut self, now: Moment, out: &mut Vec<Effect>) -> bool {
        let before = self.state.record.message.clone();
        self.state.update_automatic_message(LeadOrigin::Claim);
        let changed = self.state.record.message != before;
        if changed {
            self.state.decide(now);
            out.push(Effect::Snapshot(Audience::All));
        }
        changed
    }

    /// Gives the lead to a member that claims it, if the leader rule allows that. Under the rule
    /// `ask` the leader decides. A claim within `claim_window` of another one loses.
    fn claim(
        &mut self,
        now: Moment,
        member: MemberId,
        origin: LeadOrigin,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        if !self.state.may_lead(member) {
            let message = "leading requires the PIN: send join_session again with leaderPin";
            return Err(Reject::new(Code::NotAllowed, message));
        }
        if self.state.leader().is_some() && self.state.record.leader_rule == LeaderRule::Ask {
            return Ok(self.ask_leader(member, out));
        }
        if now.at < self.leadership.claimed_until {
            let message = "another member claimed the lead at the same time and was first: ask again if need be";
            return Err(Reject::new(Code::NotAllowed, message));
        }
        self.leadership.claimed_until = now.at + self.state.rules.claim_window;
        self.pass_lead(now, Some(member), Some("claimed"), None, out);
        self.state.update_automatic_message(origin);
        Ok(self.state.changed())
    }

    /// Gives the lead, as a decision of its own.
    fn pass_lead(
        &mut self,
        now: Moment,
        to: Option<MemberId>,
        why_before: Option<&'static str>,
        why_now: Option<&'static str>,
        out: &mut Vec<Effect>,
    ) {
        self.give_lead(now, to, why_before, why_now, out);
        self.state.decide(now);
        out.push(Effect::Snapshot(Audience::All));
    }

    /// Removes a request that the leader answers.
    fn answer_request(&mut self, member: MemberId, requester: MemberId) -> Result<(), Reject> {
        self.state.leader_only(member)?;
        let Some(index) = self.leadership.requests.iter().position(|&id| id == requester) else {
            return Err(Reject::field("requesterId", "this member has not asked for the lead"));
        };
        self.leadership.requests.remove(index);
        Ok(())
    }

    fn put_request(&self, requester: MemberId, out: &mut Vec<Effect>) {
        if let (Some(leader), Some(seat)) = (self.state.leader(), self.state.seat(requester)) {
            let request = Notice::LeaderHandoffRequest { requester: seat.member.clone() };
            out.push(Effect::Notify(Audience::One(leader), request));
        }
    }
}
