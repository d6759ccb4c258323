//! The effects of one batch window, queued and put in order.
//!
//! The protocol's priorities: a sync response leaves with the acknowledgement of its request, and
//! ticks before any window that closes in the same turn. Then session updates follow in order of
//! arrival, one snapshot for all of them, and the room's statistics. A snapshot shows the state at
//! the time of sending, so several in one window become one.
//!
//! Nothing starves: when a window closes, all of it is sent. Its least important effect waits for
//! one window, while with a budget it could wait for four. The rates of the members bound a window,
//! so it needs no budget.
//!
//! Only chat may wait for longer, and only in large sessions: each message costs one send per
//! member, and several messages in one send cost little more. If any other update arrives, or the
//! number of messages reaches `CHAT_MESSAGES_MAX`, the window closes after its normal time: sending
//! more at once would delay the ticks of other sessions.
//!
//! A sync response never overtakes an update that it contains. The session's window is flushed
//! first, in the same write, or the client would receive older versions after a newer one.

use crate::session::{Audience, Effect};
use crate::speech::Notice;
use crate::words::ids::MemberId;

/// Chat waits one extra window per this many members. Measured: one send to 32 members takes a core
/// 1/30 of a window.
const CHAT_MEMBERS_PER_WINDOW: usize = 32;

/// Maximum number of windows that chat may wait. Guessed: with the default interval these are 20
/// ms, which no reader of a text notices.
const CHAT_WINDOWS_MAX: usize = 4;

/// Number of messages from which chat waits for one window only. Guessed: a send of more saves
/// little.
const CHAT_MESSAGES_MAX: usize = 16;

/// The effects that wait for one window to close.
#[derive(Debug, Default)]
pub struct Batch {
    /// Session updates in order of arrival.
    pub updates: Vec<(Audience, Notice)>,
    /// Whether all members receive a snapshot.
    pub snapshot: bool,
    /// Members that receive a snapshot because their own command changed nothing.
    pub senders: Vec<MemberId>,
    /// Whether all members receive the room's statistics.
    pub room_stats: bool,
    /// Whether any effect is not chat.
    urgent: bool,
}

impl Batch {
    /// Whether no effect waits.
    pub fn is_empty(&self) -> bool {
        self.updates.is_empty() && !self.snapshot && self.senders.is_empty() && !self.room_stats
    }

    /// Returns the number of windows after which this batch is sent to `members` members.
    pub fn windows(&self, members: usize) -> u64 {
        debug_assert!(!self.is_empty(), "an empty batch opens no window");
        if self.urgent || self.updates.len() >= CHAT_MESSAGES_MAX {
            return 1;
        }
        (1 + members / CHAT_MEMBERS_PER_WINDOW).min(CHAT_WINDOWS_MAX) as u64
    }

    /// Queues an effect.
    ///
    /// The rate limits of the members bound the effects of a window.
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
    fn snapshots_of_one_window_are_merged() {
        let mut batch = Batch::default();
        assert!(batch.is_empty());
        for _ in 0..3 {
            batch.add(Effect::Snapshot(Audience::All));
            batch.add(Effect::RoomStats);
        }
        assert!(batch.snapshot && batch.room_stats && batch.updates.is_empty());
    }

    #[test]
    fn each_sender_receives_one_snapshot() {
        let mut batch = Batch::default();
        for id in [1, 2, 1] {
            batch.add(Effect::Snapshot(Audience::Sender(MemberId::from_bytes([id; 15]))));
        }
        assert!(!batch.is_empty() && !batch.snapshot);
        assert_eq!(batch.senders, [1, 2].map(|id| MemberId::from_bytes([id; 15])));
    }

    #[test]
    fn chat_waits_longer_in_large_sessions_until_another_effect_is_queued() {
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
