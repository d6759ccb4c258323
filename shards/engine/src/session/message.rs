//! The message to all: a text that a member has set, or an automatic one that says who leads.
//!
//! The automatic text changes with what causes it and makes no version of its own, so it is not in
//! the checksum.

use super::{Audience, Effect, Session};
use crate::record::Record;
use crate::speech::Ack;
use crate::words::ids::MemberId;
use crate::words::time::Moment;

/// How the one who leads came to lead.
#[derive(Clone, Copy, Debug)]
pub(super) enum Came {
    /// By joining.
    Joined,
    /// By `set_role`.
    Connected,
    /// By being given the lead: handed over, approved, or as the one who came next.
    Given,
}

impl Session {
    /// `update_message`: the empty text brings the automatic ones back.
    pub(super) fn update_message(
        &mut self,
        now: Moment,
        member: MemberId,
        message: String,
        out: &mut Vec<Effect>,
    ) -> Ack {
        let before = self.state.message().to_owned();
        if !message.is_empty() {
            // The present text is kept from now on, also if it was an automatic one.
            self.state.message = message;
        } else if self.state.is_message_set() {
            self.state.message.clear();
            self.caption(Came::Joined);
        }
        let changed = self.state.message() != before;
        if changed {
            self.decide(now);
        }
        out.push(Effect::Snapshot(super::audience(changed, member)));
        self.changed()
    }

    /// Makes the automatic text that of the present lead, unless a member has set another.
    pub(super) fn caption(&mut self, came: Came) {
        if self.state.is_message_set() {
            return;
        }
        let leader = self.leader().and_then(|leader| self.seat(leader));
        let text = match leader.map(|seat| &seat.member.display_name) {
            Some(name) => match came {
                Came::Joined => format!("{name} is leading"),
                Came::Connected => "Leader connected".into(),
                Came::Given => format!("{name} is now leading"),
            },
            None if self.state.seats.is_empty() => "Waiting for members…".into(),
            None => "Waiting for leader…".into(),
        };
        self.state.message = format!("{}{text}", Record::AUTOMATIC);
    }

    /// The leader says that it leads. If the automatic text said something else, that is a
    /// decision.
    pub(super) fn connect_leader(&mut self, now: Moment, out: &mut Vec<Effect>) -> bool {
        let before = self.state.message.clone();
        self.caption(Came::Connected);
        let changed = self.state.message != before;
        if changed {
            self.decide(now);
            out.push(Effect::Snapshot(Audience::All));
        }
        changed
    }
}
