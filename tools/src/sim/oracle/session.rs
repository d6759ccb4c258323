//! The oracle's knowledge of a session.

use std::collections::VecDeque;

use bandsync_engine::words::ids::SessionId;

use super::super::model::Model;

/// Number of newest versions whose messages are known.
pub const VERSIONS_MAX: usize = 64;

/// A version, and the digests of its checksum and its timeline as they were sent.
pub type Fact = ((u64, u64), Option<u64>, Option<u64>);

/// A session with its model, and the checks of its messages.
pub struct SessionOracle {
    pub name: SessionId,
    /// The shard of the session.
    pub home: u16,
    pub model: Option<Model>,
    pub epoch: u64,
    /// Earlier epochs of the session.
    pub former: Vec<u64>,
    /// Whether the server has not had the session since it died.
    pub is_news: bool,
    /// Value of `restored` that a join must be answered with, if that is known.
    pub restored: Option<Option<bool>>,
    pub sent: Sent,
    pub owed: Owed,
    pub ticking: Ticking,
    /// Whether the real session is to be compared.
    pub dirty: bool,
    /// The time at which its events for lost members were last dropped because memory was scarce.
    pub forgot_at: Option<u64>,
    /// Members that asked to join, with the times.
    pub askers: VecDeque<(u64, String)>,
    /// A member that should have recovered its seat, unless the session was removed in the same
    /// turn.
    pub denied: Option<String>,
    /// Commands that changed nothing: their members, their times, and whether the answer was sent.
    pub unchanged: Vec<(String, u64, bool)>,
    /// In a turn in which a grace period ends: members whose connections ended too, in an order
    /// that is not known yet.
    pub closings: Option<Vec<String>>,
}

/// The newest messages of a session.
#[derive(Default)]
pub struct Sent {
    /// Offsets of chat messages.
    pub chats: VecDeque<u64>,
    pub facts: VecDeque<Fact>,
    /// Versions and the first event of each.
    pub changes: VecDeque<((u64, u64), u64)>,
    pub begun: Begun,
}

/// The messages that members must still receive.
#[derive(Default)]
pub struct Owed {
    /// The last version.
    pub version: u64,
    /// The time of the last change.
    pub changed_at: u64,
    /// The time since which members wait for a newer version.
    pub since: Option<u64>,
}

/// Longest time from the beginning of an armed change to its event, in microseconds: a batch window
/// and the delays of a slow shard.
const WINDOW_MAX: u64 = 1_000_000;

/// The events with which armed changes begin.
#[derive(Default)]
pub struct Begun {
    /// Number of armed changes that have begun; `None` if it is not known.
    count: Option<u64>,
    /// The times at which changes have begun whose events were not sent yet.
    pub unsent: VecDeque<u64>,
    /// The digest of the last event that was sent. Members of other encodings receive it again.
    last: Option<u64>,
    /// The last time at which a change was armed.
    armed_at: Option<u64>,
}

/// The ticks of a session.
#[derive(Default)]
pub struct Ticking {
    /// The time since which ticks are due without a break.
    pub since: Option<u64>,
    pub last: u64,
    pub count: u64,
}

impl SessionOracle {
    /// Creates the session of this number, in a server with this many shards.
    pub fn new(number: u16, shards: u16) -> Self {
        let name = SessionId::parse(&format!("s{number}"))
            .unwrap_or_else(|| unreachable!("a name of two letters"));
        Self {
            home: name.shard(shards).0,
            name,
            model: None,
            epoch: 0,
            former: Vec::new(),
            is_news: false,
            restored: None,
            sent: Sent::default(),
            owed: Owed::default(),
            ticking: Ticking::default(),
            dirty: false,
            forgot_at: None,
            askers: VecDeque::new(),
            denied: None,
            unchanged: Vec::new(),
            closings: None,
        }
    }

    /// Returns the model, unless the order of events in this turn is not known yet.
    pub fn settled(&self) -> Option<&Model> {
        self.model.as_ref().filter(|_| self.closings.is_none())
    }

    /// Notes the armed changes that have begun by now. Each is announced by an event.
    pub fn begin(&mut self, now: u64) {
        let count = self.model.as_ref().and_then(|model| model.music.begun(now));
        match self.sent.begun.count.zip(count) {
            Some((before, count)) => {
                let new = count.saturating_sub(before) as usize;
                self.sent.begun.unsent.extend(std::iter::repeat_n(now, new));
            }
            None => self.sent.begun.unsent.clear(),
        }
        self.sent.begun.count = count;
        if self.model.as_ref().is_some_and(|model| model.music.is_armed()) {
            self.sent.begun.armed_at = Some(now);
        }
    }

    /// Whether an armed change has begun whose event was not sent yet.
    pub fn begins(&mut self, now: u64) -> bool {
        self.begin(now);
        !self.sent.begun.unsent.is_empty()
    }

    /// Notes an event, with its digest, that announces an armed change. Returns false if none has
    /// begun.
    pub fn announced(&mut self, now: u64, event: u64) -> bool {
        if self.sent.begun.last == Some(event) {
            return true;
        }
        if self.begins(now) {
            self.sent.begun.unsent.pop_front();
            self.sent.begun.last = Some(event);
            return true;
        }
        // A command after the beginning may have taken the change back, as a pause in the past does.
        let was_armed = self.sent.begun.armed_at.is_some_and(|at| now <= at + WINDOW_MAX);
        was_armed || self.sent.begun.count.is_none()
    }

    /// Forgets the changes that began before the session was opened: no event announces them.
    pub fn opened(&mut self) {
        self.sent.begun = Begun::default();
    }

    /// Notes a change of the model.
    pub fn changed(&mut self, now: u64) {
        self.dirty = true;
        let version = self.model.as_ref().map_or(0, |model| model.version);
        if !self
            .model
            .as_ref()
            .is_some_and(|model| model.music.at(now).playing && model.has_tick_listeners())
        {
            self.ticking.since = None;
        }
        if std::mem::replace(&mut self.owed.version, version) != version {
            self.owed.since.get_or_insert(now);
            self.owed.changed_at = now;
        }
    }
}
