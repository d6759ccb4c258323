//! What a session has to say to its members in one batch window, gathered and put in order.
//!
//! The protocol's priorities: sync responses go out with what asked for them, and ticks before any
//! window that closes in the same turn; then session updates in the order they arose, one snapshot
//! for all of them, and the room's statistics. A snapshot is the state at the time of sending, so
//! several of one window are one.
//!
//! Nothing starves: a window is told whole when it closes, so the least important of it waits for
//! one window and not, as it might with a budget, for four. A window needs no budget because the
//! rates of its members bound it.
//!
//! Only chat waits for longer, where it has many to go to: what one message costs is a send to each
//! of them, and several in one send cost little more. Any update closes the window in its own time,
//! and so does a message after which there are many: telling them all at once would hold up the
//! ticks of other sessions.
//!
//! A sync response overtakes nothing that it contains: the session's window is closed first, in the
//! same write, or its asker would hear of older versions after a newer one.

use crate::session::{Audience, Effect};
use crate::speech::Notice;
use crate::words::ids::MemberId;

/// For every so many members chat waits for one window more. Sending to them takes a core a
/// thirtieth of one.
const CHAT_MEMBERS_PER_WINDOW: usize = 32;

/// Windows that chat waits for at most.
const CHAT_WINDOWS_MAX: usize = 4;

/// With so many messages chat waits for one window only: more to a send save little.
const CHAT_MESSAGES_MAX: usize = 16;

/// The effects of one window, waiting.
#[derive(Debug, Default)]
pub struct Batch {
    /// Session updates in order of arrival.
    pub updates: Vec<(Audience, Notice)>,
    /// Whether everybody is owed a snapshot.
    pub snapshot: bool,
    /// The members that are owed one because their command changed nothing.
    pub senders: Vec<MemberId>,
    /// Whether everybody is owed the room's statistics.
    pub room_stats: bool,
    /// Whether any of it is more than chat.
    urgent: bool,
}

impl Batch {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.updates.is_empty() && !self.snapshot && self.senders.is_empty() && !self.room_stats
    }

    /// After how many windows all of it is to be told to so many members.
    pub fn windows(&self, members: usize) -> u64 {
        if self.urgent || self.updates.len() >= CHAT_MESSAGES_MAX {
            return 1;
        }
        (1 + members / CHAT_MEMBERS_PER_WINDOW).min(CHAT_WINDOWS_MAX) as u64
    }

    /// Takes an effect in.
    ///
    /// A window holds no more than its members may send in it, which the rate limits bound.
    pub fn add(&mut self, effect: Effect) {
        // mark: update_waits_like_chat
        self.urgent |= !matches!(effect, Effect::Notify(_, Notice::Chat { .. }));
        match effect {
            Effect::Notify(audience, notice) => self.updates.push((audience, notice)),
            Effect::Snapshot(Audience::Sender(sender)) => {
                if !self.senders.contains(&sender) {
                    self.senders.push(sender);
                }
            }
            Effect::Snapshot(_) => self.snapshot = true,
            Effect::RoomStats => self.room_stats = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::time::UnixMillis;

    #[test]
    fn several_snapshots_of_a_window_are_one() {
        let mut batch = Batch::default();
        assert!(batch.is_empty());
        for _ in 0..3 {
            batch.add(Effect::Snapshot(Audience::All));
            batch.add(Effect::RoomStats);
        }
        assert!(batch.snapshot && batch.room_stats && batch.updates.is_empty());
    }

    #[test]
    fn senders_are_owed_one_snapshot_each() {
        let mut batch = Batch::default();
        for id in [1, 2, 1] {
            batch.add(Effect::Snapshot(Audience::Sender(MemberId::from_bytes([id; 15]))));
        }
        assert!(!batch.is_empty() && !batch.snapshot);
        assert_eq!(batch.senders, [1, 2].map(|id| MemberId::from_bytes([id; 15])));
    }

    #[test]
    fn chat_is_patient_where_many_hear_it_until_something_else_is_said() {
        let chat = || Notice::Chat {
            from: MemberId::from_bytes([1; 15]),
            username: "Ann".into(),
            message: "la".into(),
            timestamp: UnixMillis(0),
        };
        let mut batch = Batch::default();
        batch.add(Effect::Notify(Audience::All, chat()));
        let windows = [0, 8, 31, 32, 64, 96, 10_000].map(|members| batch.windows(members));
        assert_eq!(windows, [1, 1, 1, 2, 3, 4, 4]);
        for _ in 1..CHAT_MESSAGES_MAX {
            assert_eq!(batch.windows(10_000), 4);
            batch.add(Effect::Notify(Audience::All, chat()));
        }
        assert_eq!(batch.windows(10_000), 1);
        for effect in [
            Effect::Notify(Audience::All, Notice::LeaderRequestApproved),
            Effect::Snapshot(Audience::All),
            Effect::RoomStats,
        ] {
            let mut batch = Batch::default();
            batch.add(Effect::Notify(Audience::All, chat()));
            batch.add(effect);
            batch.add(Effect::Notify(Audience::All, chat()));
            assert_eq!(batch.windows(10_000), 1);
        }
    }

    #[test]
    fn updates_keep_their_order() {
        let mut batch = Batch::default();
        let notices = [Notice::LeaderRequestApproved, Notice::LeaderRequestDenied { reason: "no" }];
        for notice in notices.clone() {
            batch.add(Effect::Notify(Audience::All, notice));
        }
        assert_eq!(
            batch.updates.into_iter().map(|(_, notice)| notice).collect::<Vec<_>>(),
            notices
        );
    }
}
