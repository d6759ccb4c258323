//! Input that was received and not handled yet.

use std::vec::IntoIter;

use serde::{Deserialize, Serialize};

use crate::wire::deflate::Inflater;
use crate::wire::frame::Reader;
use crate::wire::http::{Delivery, OwnedCors, Rejection};
use crate::wire::payload::Part;
use crate::wire::socket_packet::Binary;
use crate::words::ids::ConnId;

use super::event::Closing;

/// Input of one connection, with everything that its events borrow from, so that the engine can use
/// transport while it holds an event.
pub struct Incoming<'b> {
    /// The connection that was read, or whose client is resumed.
    pub(super) conn: ConnId,
    pub(super) bytes: Bytes<'b>,
    /// Index in `bytes` of the first unused byte.
    pub(super) at: usize,
    /// The client's reader, taken out with the first frame.
    pub(super) reader: Option<Reader>,
    /// The inflater of transport, taken out with the first compressed message.
    pub(super) inflater: Option<Inflater>,
    /// Packets that are read before the rest of `bytes`.
    pub(super) packets: IntoIter<PendingPacket>,
    /// The current packet.
    pub(super) packet: Option<PendingPacket>,
    /// The current packet, if it has attachments.
    pub(super) assembled: Option<Box<Binary>>,
    pub(super) pongs: Pongs,
    /// The request that `packets` came with.
    pub(super) post: Option<Post>,
    /// The rejection of the next request, whose client was closed.
    pub(super) rejection: Option<Rejection>,
    /// Whether the deadlines of the next request's client were handled.
    pub(super) is_looked_after: bool,
    /// For a WebSocket that came from another shard to take over: the number of its hand-overs.
    pub(super) hops: Option<u8>,
    /// The end of the connection, which precedes all reading.
    pub(super) closing: Option<Closing>,
}

/// The bytes of a read, or deferred bytes.
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

/// A request that brings packets.
pub(super) struct Post {
    pub client: ConnId,
    pub keep_alive: bool,
    pub cors: OwnedCors,
    /// Bytes of the request. `None` if another shard has read it.
    pub used: Option<usize>,
    pub end: PostEnd,
}

/// The answer to a request with packets whose client is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PostEnd {
    /// A rejection.
    Bad,
    /// The usual answer: the client said goodbye in this request.
    Goodbye,
    /// A rejection if packets are left unread, else the usual answer.
    BadIfMore,
}

/// A packet that was not handled yet.
#[derive(Debug, Serialize, Deserialize)]
pub enum PendingPacket {
    /// A packet that a WebSocket would carry as a text message.
    Text(String),
    /// A packet that a WebSocket would carry as a binary message.
    Binary(Vec<u8>),
}

impl PendingPacket {
    /// Copies a packet of a request.
    pub fn of(part: Part<'_>) -> Self {
        match part {
            Part::Text(text) => Self::Text(text.to_owned()),
            Part::Binary(bytes) => Self::Binary(bytes.to_vec()),
        }
    }

    /// Returns the length in bytes.
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
            rejection: None,
            is_looked_after: false,
            hops: None,
            closing: None,
        }
    }

    /// Creates input from the bytes of a read.
    pub(super) fn lent(conn: ConnId, bytes: &'b mut [u8]) -> Self {
        Self::new(conn, Bytes::Lent(bytes))
    }

    /// Creates input from deferred bytes.
    pub(super) fn kept(conn: ConnId, bytes: Vec<u8>) -> Self {
        Self::new(conn, Bytes::Kept(bytes))
    }

    /// Creates input that consists of the end of the connection.
    pub(super) fn closing(conn: ConnId, closing: Closing) -> Self {
        Self { closing: Some(closing), ..Self::kept(conn, Vec::new()) }
    }

    /// Returns the client whose input is next.
    pub fn client(&self) -> ConnId {
        self.post.as_ref().map_or(self.conn, |post| post.client)
    }

    /// Returns the inflater, if it was taken out.
    pub(super) fn return_inflater(&mut self, home: &mut Inflater) {
        if let Some(inflater) = self.inflater.take() {
            *home = inflater;
        }
    }

    /// Returns the unused bytes, to be kept.
    pub(super) fn into_rest(self) -> Vec<u8> {
        let mut bytes = match self.bytes {
            Bytes::Kept(bytes) => bytes,
            Bytes::Lent(bytes) => bytes.to_vec(),
        };
        bytes.drain(..self.at);
        bytes
    }

    /// Skips the request at the start of the unused bytes.
    pub(super) fn request_used(&mut self, used: usize) {
        self.at += used;
        debug_assert!(self.at <= self.bytes.get().len(), "a request is within its input");
        self.is_looked_after = false;
    }

    /// Returns the unused bytes.
    pub(super) fn rest(&mut self) -> &[u8] {
        let at = self.at;
        &self.bytes.get()[at..]
    }
}
