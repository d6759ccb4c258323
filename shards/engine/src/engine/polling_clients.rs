//! The sessions that began with long-polling: those here, those that went to other shards, and those that their clients closed.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::io::Settings;
use crate::wire::deflate::{Agreed, Window};
use crate::wire::frame::Reader;
use crate::wire::payload::{Body, Part};
use crate::words::ids::{ConnId, MemberId, ShardId};
use crate::words::time::Micros;

/// How long a WebSocket may take to become the transport of a session.
pub const UPGRADE_TIMEOUT: Micros = Micros::from_secs(10);

/// How many sessions that went to other shards are remembered, and for how long after they were
/// last asked for.
const GONE_MAX: usize = 4_096;

const GONE_TTL: Micros = Micros::from_secs(300);

/// For how many sessions that their clients closed the answer to a last request is kept, and for
/// how long: that request may have been on its way.
const PARTED_MAX: usize = 256;

const PARTED_TTL: Micros = Micros::from_secs(2);

/// How often a request is handed on before it is refused.
const HOPS_MAX: u8 = 4;

/// The sessions that began with long-polling.
#[derive(Default)]
pub struct PollingClients {
    /// Those here: long-polling still, or a WebSocket by now.
    here: BTreeMap<MemberId, ConnId>,
    /// Those that went to other shards, and when that may be forgotten.
    gone: BTreeMap<MemberId, (ShardId, Micros)>,
    /// Those that their clients closed while no request waited, what such a request is still to be
    /// told, and since when.
    parted: VecDeque<(MemberId, Body, Micros)>,
}

/// A WebSocket that may become a session's transport.
#[derive(Serialize, Deserialize)]
pub struct Probe {
    pub reader: Reader,
    pub agreed: Option<Agreed>,
    /// What the client sent, if its compressed messages refer to that.
    pub window: Option<Box<Window>>,
    /// The session's id: it may go to another shard meanwhile.
    pub sid: MemberId,
    pub probed: bool,
    pub since: Micros,
    /// When it is to be answered, if that is not at once.
    pub answer_at: Option<Micros>,
}

/// Where the session of a request is.
pub enum Location {
    Local(ConnId),
    /// On another shard, as far as is known here.
    Remote(ShardId),
    Unknown,
}

/// A packet of a body that was not acted on when its link moved.
#[derive(Serialize, Deserialize)]
pub enum PendingPacket {
    Text(String),
    Binary(Vec<u8>),
}

impl PendingPacket {
    pub fn of(part: Part<'_>) -> Self {
        match part {
            Part::Text(text) => Self::Text(text.to_owned()),
            Part::Binary(bytes) => Self::Binary(bytes.to_vec()),
        }
    }
}

/// The packets that were kept while their client waited for storage.
pub fn parts_of(mut held: &[u8]) -> impl Iterator<Item = Part<'_>> {
    std::iter::from_fn(move || {
        let [kind, a, b, c, d, rest @ ..] = held else { return None };
        let (bytes, rest) = rest.split_at(u32::from_le_bytes([*a, *b, *c, *d]) as usize);
        held = rest;
        Some(match kind {
            0 => Part::Text(std::str::from_utf8(bytes).unwrap_or_default()),
            _ => Part::Binary(bytes),
        })
    })
}

impl PollingClients {
    /// A session is here now.
    pub fn put(&mut self, sid: MemberId, id: ConnId) {
        self.gone.remove(&sid);
        self.here.insert(sid, id);
    }

    /// A session is over.
    pub fn remove(&mut self, sid: MemberId) {
        self.here.remove(&sid);
    }

    /// A session has gone to another shard.
    pub fn moved(&mut self, sid: MemberId, to: ShardId, now: Micros) {
        self.here.remove(&sid);
        self.gone.retain(|_, (_, until)| *until > now);
        if self.gone.len() >= GONE_MAX
            && let Some((first, _)) = self.gone.iter().min_by_key(|(_, (_, until))| *until)
        {
            let first = *first;
            self.gone.remove(&first);
        }
        self.gone.insert(sid, (to, now + GONE_TTL));
    }

    /// A session was closed by its client; `word` answers one more request.
    pub fn part(&mut self, sid: MemberId, word: Body, now: Micros) {
        self.parted.retain(|(_, _, since)| *since + PARTED_TTL > now);
        self.parted.truncate(PARTED_MAX - 1);
        self.parted.push_front((sid, word, now));
    }

    /// What answers a request for a session that its client closed just now.
    pub fn last_word(&mut self, sid: &str, now: Micros) -> Option<Body> {
        let is_it = |(parted, _, since): &(MemberId, Body, Micros)| {
            parted.as_str() == sid && *since + PARTED_TTL > now
        };
        let place = self.parted.iter().position(is_it)?;
        self.parted.remove(place).map(|(_, word, _)| word)
    }

    /// Looks for the session that a request names; `hops` is how often it was handed on.
    pub fn find(&mut self, sid: MemberId, hops: u8, settings: &Settings, now: Micros) -> Location {
        if let Some(id) = self.here.get(&sid) {
            return Location::Local(*id);
        }
        let (there, most) = match self.gone.get_mut(&sid) {
            Some((shard, until)) => {
                *until = now + GONE_TTL;
                (*shard, HOPS_MAX)
            }
            // Only once, for there it is known if it is anywhere.
            None => (home(sid), 1),
        };
        let is_there = there != settings.shard && there.0 < settings.shards && hops < most;
        if is_there { Location::Remote(there) } else { Location::Unknown }
    }

    /// The connection of a session that is here.
    pub fn get(&self, sid: MemberId) -> Option<ConnId> {
        self.here.get(&sid).copied()
    }

    /// How many sessions are here.
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

/// The shard that a session was opened on.
fn home(sid: MemberId) -> ShardId {
    let mut bytes = [0; 3];
    let read = data_encoding::BASE64URL.decode_mut(&sid.as_str().as_bytes()[..4], &mut bytes);
    // Every id is in that alphabet.
    assert!(read.is_ok());
    ShardId(u16::from_be_bytes([bytes[0], bytes[1]]))
}
