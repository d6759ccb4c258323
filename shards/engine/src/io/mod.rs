//! The boundary of the engine: everything that can happen to a shard, and everything that it can
//! ask its driver to do.
//!
//! Both are closed enums of plain values, so that a run can be recorded and replayed.

pub mod node;
pub mod report;
pub mod settings;
pub mod tap;

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::words::ids::{ConnId, SessionId, ShardId};
use crate::words::policy::Named;
use crate::words::time::Micros;

pub use node::{Cluster, NodeId, NodeNews};
pub use settings::{Goodbye, Settings, Transports, Version3};

/// An event from outside the shard. Its time is when the driver learned of it.
#[derive(Debug)]
pub enum Input<'a> {
    /// A connection was accepted.
    Opened {
        /// The connection's new id.
        conn: ConnId,
        /// The address that it comes from.
        peer: IpAddr,
    },
    /// Another shard handed a connection over.
    Arrived {
        /// The connection's new id.
        conn: ConnId,
        /// The address that it comes from.
        peer: IpAddr,
        /// The client's state, packed by the other engine for [`Output::HandOver`].
        state: &'a [u8],
    },
    /// Bytes arrived. The engine unmasks them in place.
    Received {
        /// The connection that was read.
        conn: ConnId,
        /// The bytes as they were read.
        bytes: &'a mut [u8],
    },
    /// A connection is gone. The driver does not use its id again.
    Closed {
        /// The connection.
        conn: ConnId,
        /// The reason.
        cause: CloseCause,
    },
    /// The unsent bytes of a connection crossed a mark, or all of them were written.
    Backlog {
        /// The connection.
        conn: ConnId,
        /// Number of bytes that the kernel has not accepted yet.
        bytes: u32,
    },
    /// Another shard sent a message.
    ShardMessage {
        /// The bytes of [`Output::ShardMessage`].
        message: &'a [u8],
    },
    /// The host's answer to an [`Output::Request`].
    Responded {
        /// The connection that the request came on.
        conn: ConnId,
        /// The answer.
        response: HttpResponse,
    },
    /// The storage answered, or came back.
    Storage {
        /// The event.
        event: &'a StorageEvent,
    },
    /// The driver read the wall clock again.
    WallClock {
        /// Unix time at the server's start in milliseconds, computed back from the wall clock as
        /// it is now.
        started_unix_ms: i64,
    },
    /// The server is going away: all clients receive a goodbye and are closed. Connections that
    /// open later are answered over HTTP only, and the end does not wait for them.
    Drain,
    /// The turn is over: due timers fire, and queued packets are sent.
    TurnEnded,
    /// The process has more or less memory left than before, or still too little.
    Memory(FreeMemory),
    /// Another node sent a message, or the cluster's store answered. Only a shard with
    /// [`Settings::cluster`] receives it.
    Node {
        /// The news.
        news: &'a NodeNews,
    },
}

/// The memory that the process has left.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum FreeMemory {
    /// Enough: nothing is restricted.
    #[default]
    Enough,
    /// Low: caches are dropped and slow readers are disconnected.
    Low,
    /// None: new members are rejected as well, so that the present members can stay. Requests
    /// for pages and for the server's state are still answered.
    Out,
}

/// The reason why a connection is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum CloseCause {
    /// The peer ended it in order.
    Ended,
    /// Reading or writing failed.
    Failed,
}

/// An event from the storage. Every [`Output::Load`] and [`Output::Store`] is answered once, in
/// this turn or a later one.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum StorageEvent {
    /// The answer to [`Output::Load`].
    Loaded {
        /// The session that was to be loaded.
        session: SessionId,
        /// The result.
        found: LoadResult,
    },
    /// The answer to [`Output::Store`].
    Stored {
        /// The session that was to be stored.
        session: SessionId,
        /// The epoch of the record.
        epoch: u64,
        /// The version of the record.
        version: u64,
        /// The result.
        outcome: StoreResult,
    },
    /// The storage was unavailable and is back. It may have lost its data, so all sessions are
    /// offered again.
    Returned,
}

/// The result of loading a session.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum LoadResult {
    /// The session's record, in the format of [`crate::record`].
    Record(Box<[u8]>),
    /// No record: the session is not stored.
    Nothing,
    /// No answer: the storage is unavailable, or the record was damaged and is set aside.
    Unknown,
}

/// The result of storing a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum StoreResult {
    /// The record is stored, and survives the end of this process.
    Stored,
    /// The queue was full. The record may be offered again.
    Rejected,
    /// A record that looks newer is stored, and stays.
    Outdated {
        /// The epoch of the stored record.
        epoch: u64,
    },
}

/// A plain HTTP request that the engine does not answer itself.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct HttpRequest {
    /// Whether a proxy forwarded the request. If so, it does not come from this machine, whatever
    /// `peer` is.
    pub forwarded: bool,
    /// The `Host` header.
    pub host: String,
    /// The trust in the name that the request uses for the server.
    pub named: Named,
    /// Whether the method is `HEAD`. The engine itself leaves out the body.
    pub head: bool,
    /// The path, percent-encoded, beginning with `/`, without the query.
    pub path: String,
    /// The query without its `?`, empty if there is none.
    pub query: String,
    /// The `Accept` header.
    pub accept: String,
    /// The `If-None-Match` header.
    pub if_none_match: String,
    /// The `Authorization` header.
    pub authorization: String,
    /// Whether the answer may be compressed with gzip.
    pub takes_gzip: bool,
    /// The client's address, or [`UNKNOWN`](crate::words::policy::UNKNOWN).
    pub peer: IpAddr,
}

/// An HTTP answer. The engine adds length, connection, security and CORS headers.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// Headers such as `Content-Type`, `ETag`, `Cache-Control`, `Allow`.
    pub headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// The body; empty for `304`.
    pub body: Cow<'static, [u8]>,
}

/// The outputs of a shard, in order. The driver empties the lists and reuses them, so that a turn
/// in the steady state allocates nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outputs {
    /// The outputs.
    pub list: Vec<Output>,
    /// The bytes that [`Output`]s refer to by a [`Span`].
    pub bytes: Vec<u8>,
    /// The receivers that [`Output::Fanout`]s refer to by a [`Span`].
    pub receivers: Vec<ConnId>,
    /// Numbers that the driver overwrites with the time of sending. They are not recorded: a replay
    /// sends nothing.
    #[serde(skip)]
    pub stamps: Vec<Stamp>,
}

/// A time of sending within the bytes of an [`Output::Send`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Stamp {
    /// The receiver.
    pub to: ConnId,
    /// The digits, in [`Outputs::bytes`]: milliseconds with three decimals.
    pub digits: Span,
}

impl Stamp {
    /// Overwrites `digits` with a time in milliseconds. Leaves them unchanged if the time takes
    /// another number of digits.
    pub fn write(digits: &mut [u8], at: Micros) {
        let whole = at.as_micros() / 1_000;
        if digits.len() != whole.checked_ilog10().unwrap_or(0) as usize + ".000".len() + 1 {
            return;
        }
        let mut left = at.as_micros();
        for (place, digit) in digits.iter_mut().rev().enumerate() {
            if place == 3 {
                *digit = b'.';
            } else {
                *digit = b'0' + (left % 10) as u8;
                left /= 10;
            }
        }
    }
}

/// A place in one of the lists of [`Outputs`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Index of the first item.
    pub start: u32,
    /// Index after the last item.
    pub end: u32,
}

impl Span {
    /// Returns the span as a range to index with.
    pub const fn range(self) -> Range<usize> {
        debug_assert!(self.start <= self.end, "a span ends behind its start");
        self.start as usize..self.end as usize
    }
}

/// One thing that a shard asks its driver to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Output {
    /// Send bytes to one connection.
    Send {
        /// The receiver.
        to: ConnId,
        /// The bytes, in [`Outputs::bytes`].
        bytes: Span,
    },
    /// Send the same bytes to many connections.
    Fanout {
        /// The receivers, in [`Outputs::receivers`].
        to: Span,
        /// The bytes, in [`Outputs::bytes`].
        bytes: Span,
        /// Whether a busy connection is skipped. If it has unsent bytes, or its socket accepts
        /// none, the frame is dropped; a frame that was begun is finished.
        volatile: bool,
    },
    /// Write what was sent before, then close. Neither side uses the id again.
    Close {
        /// The connection.
        conn: ConnId,
        /// The way to close it.
        how: Close,
    },
    /// Hand the connection over to another shard, with the bytes that are still unsent.
    HandOver {
        /// The connection.
        conn: ConnId,
        /// The shard that receives it.
        to: ShardId,
        /// The client's packed state, in [`Outputs::bytes`].
        state: Span,
    },
    /// Send a message to another shard.
    ShardMessage {
        /// The shard that receives it.
        to: ShardId,
        /// The message, in [`Outputs::bytes`].
        message: Span,
    },
    /// Have the host answer an HTTP request, by [`Input::Responded`].
    Request {
        /// The connection that the request came on.
        conn: ConnId,
        /// The request.
        request: HttpRequest,
    },
    /// Load the record of a session. [`StorageEvent::Loaded`] is the answer.
    Load {
        /// The session.
        session: SessionId,
    },
    /// Store the record of a session in place of an older one. [`StorageEvent::Stored`] is the
    /// answer.
    Store {
        /// The session.
        session: SessionId,
        /// The record's epoch.
        epoch: u64,
        /// The record's version.
        version: u64,
        /// The record in the format of [`crate::record`], in [`Outputs::bytes`].
        record: Span,
    },
    /// Delete the stored record of a session, unless its epoch is higher.
    Forget {
        /// The session.
        session: SessionId,
        /// The session's epoch here.
        epoch: u64,
    },
    /// Claim a session for this node. [`NodeNews::Claimed`] is the answer.
    Claim {
        /// The session.
        session: SessionId,
        /// The owner that seems to be gone. `None`: take the session only if it has no owner.
        expected: Option<NodeId>,
        /// The highest epoch of the session that is known here; 0 if none is.
        floor: u64,
    },
    /// Store a decision and publish it in one step. [`NodeNews::Committed`] is the answer.
    Commit {
        /// The session.
        session: SessionId,
        /// The record's epoch.
        epoch: u64,
        /// The record's version.
        version: u64,
        /// The record in the format of [`crate::record`], in [`Outputs::bytes`].
        record: Span,
        /// The owner's notes about the session's branches, in [`Outputs::bytes`].
        branches: Span,
        /// The part of the message before the record, in [`Outputs::bytes`].
        head: Span,
        /// The part of the message after the record, in [`Outputs::bytes`].
        tail: Span,
        /// The numbers of the nodes that receive the message. None: nothing is published.
        to: Vec<u16>,
    },
    /// Send a message to the shards of other nodes that have a session.
    Publish {
        /// The session.
        session: SessionId,
        /// The numbers of the nodes.
        to: Vec<u16>,
        /// The message, in [`Outputs::bytes`].
        body: Span,
    },
    /// Send a message to all shards of other nodes.
    Announce {
        /// The numbers of the nodes.
        to: Vec<u16>,
        /// The message, in [`Outputs::bytes`].
        body: Span,
    },
    /// The shard acts on this state of the table from now on.
    Noted {
        /// The number of [`NodeNews::Table`].
        revision: u64,
    },
    /// Give up a session that this node owns.
    Release {
        /// The session.
        session: SessionId,
        /// The session's epoch here.
        epoch: u64,
    },
}

/// The way to close a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Close {
    /// Shut down our side, then wait briefly for the peer's end, so that the peer reads everything.
    Gently,
    /// At once.
    Abort,
}

impl Outputs {
    /// Maximum capacity in bytes that is kept when at most a quarter of it was used.
    pub const KEPT_BYTES_MAX: usize = 256 * 1024;

    /// Empties the lists. Keeps their memory, except for what one long message made them grow by.
    pub fn clear(&mut self) {
        let used = self.bytes.len();
        self.list.clear();
        self.receivers.clear();
        self.stamps.clear();
        self.bytes.clear();
        if used <= self.bytes.capacity() / 4 {
            self.bytes.shrink_to(Self::KEPT_BYTES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(digits: &str, micros: u64) -> String {
        let mut digits = digits.as_bytes().to_vec();
        Stamp::write(&mut digits, Micros::from_micros(micros));
        String::from_utf8_lossy(&digits).into_owned()
    }

    #[test]
    fn a_stamp_replaces_all_digits_and_no_other_byte() {
        assert_eq!(stamped("12345.678", 12_346_100), "12346.100");
        assert_eq!(stamped("0.001", 9), "0.009");
        assert_eq!(stamped("9.999", 9_999), "9.999");
    }

    #[test]
    fn a_stamp_of_another_length_changes_nothing() {
        assert_eq!(stamped("999.999", 1_000_000), "999.999");
        assert_eq!(stamped("1000.001", 999_999), "1000.001");
        assert_eq!(stamped("", 5), "");
    }
}
