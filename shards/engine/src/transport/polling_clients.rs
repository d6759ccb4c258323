//! Clients that began with long-polling: those on this shard, those that moved to other shards, and
//! those that said goodbye.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::io::Settings;
use crate::wire::deflate::{Agreed, Window};
use crate::wire::frame::Reader;
use crate::wire::payload::Body;
use crate::words::ids::{ConnId, MemberId, ShardId};
use crate::words::time::Micros;

/// Maximum time until a WebSocket takes over from long-polling.
pub const UPGRADE_TIMEOUT: Micros = Micros::from_secs(10);

/// Maximum number of moved clients that are remembered. Guessed.
const MOVED_MAX: usize = 4_096;

/// Time for which a moved client is remembered after its last request. Guessed.
const MOVED_TTL: Micros = Micros::from_secs(300);

/// Maximum number of closed clients whose last answer is kept. Guessed.
const CLOSED_MAX: usize = 256;

/// Time for which that answer is kept: a last request may be on its way. Guessed.
const CLOSED_TTL: Micros = Micros::from_secs(2);

/// Maximum number of hand-overs of a request.
const HOPS_MAX: u8 = 4;

/// Clients that began with long-polling, by their Engine.IO session ids.
#[derive(Default)]
pub struct PollingClients {
    /// Clients on this shard, which poll or have a WebSocket by now.
    here: BTreeMap<MemberId, ConnId>,
    /// Clients that moved to other shards, and the time at which each is forgotten.
    moved: BTreeMap<MemberId, (ShardId, Micros)>,
    /// Clients that said goodbye while no request waited, with the answer to one more request and
    /// the time of the goodbye.
    closed: VecDeque<(MemberId, Body, Micros)>,
}

/// A WebSocket that may take over from long-polling.
#[derive(Serialize, Deserialize)]
pub struct Probe {
    pub reader: Reader,
    pub agreed: Option<Agreed>,
    /// The end of the client's earlier messages, if compressed ones refer to them.
    pub window: Option<Box<Window>>,
    /// The client's Engine.IO session id. The client itself may move to another shard meanwhile.
    pub sid: MemberId,
    pub probed: bool,
    pub since: Micros,
    /// The time at which its probe is answered, if the answer is delayed.
    pub answer_at: Option<Micros>,
}

/// The place of the client that a request names.
pub enum Location {
    Local(ConnId),
    /// Another shard, as far as this one knows.
    Remote(ShardId),
    Unknown,
}

impl PollingClients {
    /// Records that a client is on this shard now.
    pub fn put(&mut self, sid: MemberId, id: ConnId) {
        self.moved.remove(&sid);
        self.here.insert(sid, id);
    }

    /// Records that a client is gone.
    pub fn remove(&mut self, sid: MemberId) {
        self.here.remove(&sid);
    }

    /// Records that a client moved to another shard.
    pub fn moved(&mut self, sid: MemberId, to: ShardId, now: Micros) {
        self.here.remove(&sid);
        self.moved.retain(|_, (_, until)| *until > now);
        if self.moved.len() >= MOVED_MAX
            && let Some((first, _)) = self.moved.iter().min_by_key(|(_, (_, until))| *until)
        {
            let first = *first;
            self.moved.remove(&first);
        }
        self.moved.insert(sid, (to, now + MOVED_TTL));
    }

    /// Records that a client said goodbye. `body` answers one more request.
    pub fn closed(&mut self, sid: MemberId, body: Body, now: Micros) {
        self.closed.retain(|(_, _, since)| *since + CLOSED_TTL > now);
        self.closed.truncate(CLOSED_MAX - 1);
        self.closed.push_front((sid, body, now));
    }

    /// Returns the body that answers a request of a client that has just said goodbye.
    pub fn final_body(&mut self, sid: &str, now: Micros) -> Option<Body> {
        let is_it = |(closed, _, since): &(MemberId, Body, Micros)| {
            closed.as_str() == sid && *since + CLOSED_TTL > now
        };
        let index = self.closed.iter().position(is_it)?;
        self.closed.remove(index).map(|(_, body, _)| body)
    }

    /// Finds the client that a request names. `hops` is the number of hand-overs of the request.
    pub fn find(&mut self, sid: MemberId, hops: u8, settings: &Settings, now: Micros) -> Location {
        if let Some(id) = self.here.get(&sid) {
            return Location::Local(*id);
        }
        let (there, most) = match self.moved.get_mut(&sid) {
            Some((shard, until)) => {
                *until = now + MOVED_TTL;
                (*shard, HOPS_MAX)
            }
            // Only one hand-over, because that shard knows the client if any shard does.
            None => (home(sid), 1),
        };
        let is_there = there != settings.shard && there.0 < settings.shards && hops < most;
        if is_there { Location::Remote(there) } else { Location::Unknown }
    }

    /// Returns the id of a client on this shard.
    pub fn get(&self, sid: MemberId) -> Option<ConnId> {
        self.here.get(&sid).copied()
    }

    /// Returns the number of clients on this shard.
    pub fn len(&self) -> usize {
        self.here.len()
    }
}

impl Probe {
    pub fn new(sid: MemberId, agreed: Option<Agreed>, now: Micros) -> Self {
        let (reader, window) = (Reader::new(agreed.is_some()), agreed.and_then(Agreed::window));
        Self { reader, agreed, window, sid, probed: false, since: now, answer_at: None }
    }

    pub fn deadline(&self) -> Micros {
        self.answer_at.unwrap_or(self.since + UPGRADE_TIMEOUT)
    }
}

/// Returns the first shard of a client.
fn home(sid: MemberId) -> ShardId {
    let mut bytes = [0; 3];
    let read = data_encoding::BASE64URL.decode_mut(&sid.as_str().as_bytes()[..4], &mut bytes);
    // Every id is written in that alphabet.
    assert!(read.is_ok());
    ShardId(u16::from_be_bytes([bytes[0], bytes[1]]))
}
