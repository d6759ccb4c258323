//! A session and all that the oracle knows of it.

use std::collections::VecDeque;

use bandsync_engine::words::ids::SessionId;

use super::super::model::Model;

/// Newest versions of which it is known what was told.
pub const VERSIONS_MAX: usize = 64;

/// A version, and the digests of its checksum and its timeline as they were told.
pub type Fact = ((u64, u64), Option<u64>, Option<u64>);

/// A session and all that is known of it.
pub struct SessionOracle {
    pub name: SessionId,
    /// The shard it lives on.
    pub home: u16,
    pub model: Option<Model>,
    pub epoch: u64,
    /// Epochs that it had before and rose above.
    pub former: Vec<u64>,
    /// Whether the server has not had it since it died.
    pub is_news: bool,
    /// Value of `restored` that a join must be answered with, if that is known.
    pub restored: Option<Option<bool>>,
    pub told: Sent,
    pub owed: Owed,
    pub ticking: Ticking,
    /// Whether the real session is to be compared.
    pub dirty: bool,
    /// When its events for lost members were last dropped because memory was scarce.
    pub forgot_at: Option<u64>,
    /// Members that asked to join, and when.
    pub askers: VecDeque<(u64, String)>,
    /// A member that should have recovered its seat, unless the session turns out to have gone in
    /// the same turn.
    pub denied: Option<String>,
    /// Commands that changed nothing: their members, times, and whether the answer was sent.
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
}

/// What members are yet to be sent.
#[derive(Default)]
pub struct Owed {
    /// The version when something last happened, and when it changed.
    pub version: u64,
    pub changed_at: u64,
    /// Since when members are owed a newer version.
    pub since: Option<u64>,
}

/// The ticks of a session.
#[derive(Default)]
pub struct Ticking {
    /// Since when ticks are due without a break.
    pub since: Option<u64>,
    pub last: u64,
    pub count: u64,
}

impl SessionOracle {
    /// The session of this number, in a server of so many shards.
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
            told: Sent::default(),
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

    /// The model, unless the order of events in this turn is not known yet.
    pub fn settled(&self) -> Option<&Model> {
        self.model.as_ref().filter(|_| self.closings.is_none())
    }

    /// Something happened to the model.
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
