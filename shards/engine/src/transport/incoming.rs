//! Input that came in and was not yet acted on.

use std::vec::IntoIter;

use serde::{Deserialize, Serialize};

use crate::wire::deflate::Inflater;
use crate::wire::frame::Reader;
use crate::wire::http::{Delivery, OwnedCors, Refusal};
use crate::wire::payload::Part;
use crate::wire::socket_packet::Binary;
use crate::words::ids::ConnId;

use super::event::Closing;

/// Input of one connection, and everything that its events borrow from: events borrow from this, so
/// that whoever acts on them may use transport meanwhile.
pub struct Incoming<'b> {
    /// The connection that was read, or whose client goes on.
    pub(super) conn: ConnId,
    pub(super) bytes: Bytes<'b>,
    /// Where in `bytes` the part begins that is not used.
    pub(super) at: usize,
    /// Taken out of the client with the first frame.
    pub(super) reader: Option<Reader>,
    /// Taken out of transport with the first compressed message.
    pub(super) inflater: Option<Inflater>,
    /// Packets that come before the rest of `bytes`.
    pub(super) packets: IntoIter<PendingPacket>,
    /// The packet that is acted on.
    pub(super) packet: Option<PendingPacket>,
    /// The packet with attachments that is acted on.
    pub(super) assembled: Option<Box<Binary>>,
    pub(super) pongs: Pongs,
    /// The request that `packets` came with.
    pub(super) post: Option<Post>,
    /// The refusal of the request that comes first, whose client was closed.
    pub(super) refusal: Option<Refusal>,
    /// Whether the client of the request that comes first was looked after.
    pub(super) is_looked_after: bool,
    /// A WebSocket that came from another shard to take over: how often it was handed on.
    pub(super) hops: Option<u8>,
    /// The end of the connection, which comes before anything is read.
    pub(super) closing: Option<Closing>,
}

/// The bytes of a read, or bytes that were kept.
pub(super) enum Bytes<'b> {
    Lent(&'b mut [u8]),
    Kept(Vec<u8>),
}

/// The pings of one read.
#[derive(Default)]
pub(super) struct Pongs {
    pub count: u32,
    /// The payload of the last ping beyond [`PONGS_MAX`](super::PONGS_MAX).
    pub owed: Vec<u8>,
}

/// A request with packets.
pub(super) struct Post {
    pub client: ConnId,
    pub keep_alive: bool,
    pub cors: OwnedCors,
    /// Bytes of the request; `None` if it was read on another shard.
    pub used: Option<usize>,
    pub end: PostEnd,
}

/// The answer to a request with packets whose client is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PostEnd {
    /// A refusal.
    Bad,
    /// The usual one: the client said goodbye in it.
    Goodbye,
    /// A refusal, if there are packets that were not read.
    BadIfMore,
}

/// A packet that waits to be acted on.
#[derive(Debug, Serialize, Deserialize)]
pub enum PendingPacket {
    /// One that a WebSocket would bring as a text message.
    Text(String),
    /// One that a WebSocket would bring as a binary message.
    Binary(Vec<u8>),
}

impl PendingPacket {
    /// A packet of a request, kept.
    pub fn of(part: Part<'_>) -> Self {
        match part {
            Part::Text(text) => Self::Text(text.to_owned()),
            Part::Binary(bytes) => Self::Binary(bytes.to_vec()),
        }
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

impl Bytes<'_> {
    pub fn get(&mut self) -> &mut [u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Kept(bytes) => bytes,
        }
    }
}

impl Post {
    pub fn delivery(&self) -> Delivery<'_> {
        Delivery { head: false, keep_alive: self.keep_alive, cors: self.cors.as_cors() }
    }
}

impl<'b> Incoming<'b> {
    pub(super) fn new(conn: ConnId, bytes: Bytes<'b>) -> Self {
        Self {
            conn,
            bytes,
            at: 0,
            reader: None,
            inflater: None,
            packets: IntoIter::default(),
            packet: None,
            assembled: None,
            pongs: Pongs::default(),
            post: None,
            refusal: None,
            is_looked_after: false,
            hops: None,
            closing: None,
        }
    }

    /// Bytes read from a connection.
    pub(super) fn lent(conn: ConnId, bytes: &'b mut [u8]) -> Self {
        Self::new(conn, Bytes::Lent(bytes))
    }

    /// Bytes that were kept.
    pub(super) fn kept(conn: ConnId, bytes: Vec<u8>) -> Self {
        Self::new(conn, Bytes::Kept(bytes))
    }

    /// A connection that ends before anything is read.
    pub(super) fn closing(conn: ConnId, closing: Closing) -> Self {
        Self { closing: Some(closing), ..Self::kept(conn, Vec::new()) }
    }

    /// The client whose input comes next.
    pub fn client(&self) -> ConnId {
        self.post.as_ref().map_or(self.conn, |post| post.client)
    }

    /// Gives the inflater back, if it was taken.
    pub(super) fn return_inflater(&mut self, home: &mut Inflater) {
        if let Some(inflater) = self.inflater.take() {
            *home = inflater;
        }
    }

    /// The bytes that were not used, to be kept.
    pub(super) fn into_rest(self) -> Vec<u8> {
        let mut bytes = match self.bytes {
            Bytes::Kept(bytes) => bytes,
            Bytes::Lent(bytes) => bytes.to_vec(),
        };
        bytes.drain(..self.at);
        bytes
    }

    /// A request at the start of the rest was used up.
    pub(super) fn request_used(&mut self, used: usize) {
        self.at += used;
        self.is_looked_after = false;
    }

    /// The bytes that were not used.
    pub(super) fn rest(&mut self) -> &[u8] {
        let at = self.at;
        &self.bytes.get()[at..]
    }
}
