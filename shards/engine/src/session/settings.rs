//! The leader's settings for the session and its members.

use super::state::Part;
use super::{Audience, Effect, Session};
use crate::speech::{Ack, LeaderRule, Reject, SettingsChange};
use crate::words::ids::MemberId;
use crate::words::time::Moment;

impl Session {
    /// Handles `update_settings`: all changes apply or none. `maxMembers` must lie between the
    /// number of members and the server's limit, so that no member is removed by it. A member that
    /// knew the old PIN does not know a new one, and absent members do not return by their tokens
    /// after a secret has changed.
    pub(super) fn update_settings(
        &mut self,
        now: Moment,
        member: MemberId,
        change: SettingsChange,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?;
        let [passcode, pin] =
            [&change.passcode, &change.leader_pin].map(|new| new.as_ref()?.as_ref());
        self.state.rules.check_secrets(passcode, pin)?;
        let state = &self.state.record;
        let max_members = change.max_members.unwrap_or(state.max_members);
        let most = self.state.rules.members_max;
        // Members that returned by their tokens may be more than the server's limit.
        let least = self.state.member_count().min(most);
        if change.max_members.is_some() && !(least..=most).contains(&max_members) {
            let message =
                format!("expected {least} (the members present) to {most} (the server's limit)");
            return Err(Reject::field("maxMembers", message));
        }
        let passcode = change.passcode.unwrap_or_else(|| state.passcode.clone());
        let leader_pin = change.leader_pin.unwrap_or_else(|| state.leader_pin.clone());
        let leader_rule = change.leader_rule.unwrap_or(state.leader_rule);
        if leader_rule == LeaderRule::Pin && leader_pin.is_none() {
            return Err(Reject::field(
                "leaderPin",
                "expected a PIN, since leaderRule \"pin\" asks for it",
            ));
        }
        let on_leader_loss = change.on_leader_loss.unwrap_or(state.on_leader_loss);
        let anyone_may_cue = change.anyone_may_cue.unwrap_or(state.anyone_may_cue);
        let anyone_may_edit = change.anyone_may_edit.unwrap_or(state.anyone_may_edit);

        let shown_before = self.state.settings();
        let new_pin = leader_pin != self.state.record.leader_pin;
        let new_secret = new_pin || passcode != self.state.record.passcode;
        let state = &mut self.state.record;
        (state.passcode, state.leader_pin) = (passcode, leader_pin);
        (state.max_members, state.leader_rule) = (max_members, leader_rule);
        (state.on_leader_loss, state.anyone_may_cue) = (on_leader_loss, anyone_may_cue);
        state.anyone_may_edit = anyone_may_edit;
        if new_secret {
            state.tokens.void_absent();
        }
        if new_pin {
            for seat in &mut state.seats {
                // mark: old_pin_still_good
                seat.knows_pin = state.leader_pin.is_some() && seat.member.id == member;
            }
        }
        let changed = new_secret || self.state.settings() != shown_before;
        if changed {
            self.state.decide(now);
        }
        let update = self.state.update_notice(Part::Settings);
        out.push(Effect::Notify(Audience::of(changed, member), update));
        Ok(self.state.changed())
    }

    /// Handles `set_member`: gives a member the right to edit the set list, or takes it away. The
    /// right belongs to the member's seat.
    pub(super) fn set_member(
        &mut self,
        now: Moment,
        member: MemberId,
        other: MemberId,
        may_edit: bool,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?;
        let Some(seat) = self.state.seat_mut(other) else {
            return Err(Reject::field("memberId", "no member of the session has this id"));
        };
        let changed = std::mem::replace(&mut seat.member.may_edit, may_edit) != may_edit;
        let shown = seat.member.clone();
        if changed {
            self.state.decide(now);
        }
        let update = self.state.update_notice(Part::Member(shown));
        out.push(Effect::Notify(Audience::of(changed, member), update));
        Ok(self.state.changed())
    }
}
