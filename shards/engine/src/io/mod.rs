//! The boundary: everything that can happen to a shard, and everything it can want done.
//!
//! Both are closed enums of plain values, so that a run can be written down and run again.

pub mod report;
pub mod settings;
pub mod tap;

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::words::ids::{ConnId, SessionId, ShardId};
use crate::words::policy::Named;

pub use settings::{Goodbye, Settings, Transports, Version3};

/// Something that happened. The time of an input is when the driver learned of it.
#[derive(Debug)]
pub enum Input<'a> {
    /// A connection was accepted.
    Opened {
        /// Its new id.
        conn: ConnId,
        /// Where it comes from.
        peer: IpAddr,
    },
    /// A connection came from another shard, with what that shard's engine packed for us.
    Arrived {
        /// Its new id.
        conn: ConnId,
        /// Where it comes from.
        peer: IpAddr,
        /// The bytes of [`Output::HandOver`].
        parcel: &'a [u8],
    },
    /// Bytes arrived. The engine unmasks them in place.
    Received {
        /// On which connection.
        conn: ConnId,
        /// As read.
        bytes: &'a mut [u8],
    },
    /// The connection is gone; its id will not be named again.
    Closed {
        /// Which.
        conn: ConnId,
        /// Why.
        cause: Cause,
    },
    /// What the kernel did not take of a connection's bytes crossed a mark.
    Backlog {
        /// Which connection.
        conn: ConnId,
        /// Bytes that wait now; 0 = all are written.
        bytes: u32,
    },
    /// Another shard wrote.
    Letter {
        /// The bytes of [`Output::Letter`].
        letter: &'a [u8],
    },
    /// The host's answer to an [`Output::Ask`].
    Answered {
        /// Which connection asked.
        conn: ConnId,
        /// The answer.
        answer: HttpResponse,
    },
    /// The storage has something to say.
    Storage {
        /// What.
        news: &'a StorageEvent,
    },
    /// The wall clock was looked at again.
    WallClock {
        /// What Unix time would have been at the server's start by today's wall clock, in
        /// milliseconds.
        started_unix_ms: i64,
    },
    /// The server is going away: say goodbye to everybody. Connections that open later are answered
    /// over HTTP alone, and the end does not wait for them.
    Drain,
    /// The turn is over: fire due timers, flush what was gathered.
    TurnEnded,
    /// How much memory the process has left has changed, or is still not enough.
    Memory(Memory),
}

/// How much memory the process has left.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum Memory {
    /// Enough.
    #[default]
    Enough,
    /// Little: what nobody misses now is to be forgotten, and who reads too slowly to have little
    /// waiting goes.
    Low,
    /// None: new members are to be turned away as well, so that those who are here can stay. Who
    /// asks for a page, or how the server is, is answered.
    Out,
}

/// Why a connection is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Cause {
    /// The peer ended it in order.
    Ended,
    /// It broke.
    Failed,
}

/// What the storage tells a shard. Every [`Output::Load`] and [`Output::Store`] is answered once,
/// at any time.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum StorageEvent {
    /// The answer to [`Output::Load`].
    Loaded {
        /// Which session was asked for.
        session: SessionId,
        /// What there is of it.
        found: Found,
    },
    /// The answer to [`Output::Store`].
    Stored {
        /// Which session.
        session: SessionId,
        /// The epoch that was to be stored.
        epoch: u64,
        /// The version that was to be stored.
        version: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// The storage was away and is back, and may have lost what it had: everything is to be offered
    /// again.
    Returned,
}

/// What the storage has of a session.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Found {
    /// Its record, in the bytes of [`crate::record`].
    Record(Box<[u8]>),
    /// Nothing.
    Nothing,
    /// It cannot tell now, or what it had was damaged and is set aside.
    Unknown,
}

/// What came of a record that was to be stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// It survives the end of this process.
    Kept,
    /// There was no room in the queue; it may be offered again.
    Refused,
    /// A record that looks newer stands there, and stays.
    Outdated {
        /// The epoch of that one.
        epoch: u64,
    },
}

/// A plain HTTP request that the engine does not answer itself.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct HttpRequest {
    /// Whether a proxy passed it on. Then it does not come from this machine, whatever `peer` is.
    pub forwarded: bool,
    /// The `Host` header.
    pub host: String,
    /// How the request names the server.
    pub named: Named,
    /// True for `HEAD`: the engine leaves out the body by itself.
    pub head: bool,
    /// Percent-encoded, beginning with `/`, without the query.
    pub path: String,
    /// What follows the `?`, empty if nothing does.
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
    /// Such as `Content-Type`, `ETag`, `Cache-Control`, `Allow`.
    pub headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// The body; empty for `304`.
    pub body: Cow<'static, [u8]>,
}

/// What a shard wants done, in this order. The lists are emptied by the driver and used again, so
/// that a turn in the steady state allocates nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outputs {
    /// What to do.
    pub list: Vec<Output>,
    /// The bytes that [`Output`]s name by their place here.
    pub bytes: Vec<u8>,
    /// The receivers that [`Output::Fanout`]s name by their place here.
    pub receivers: Vec<ConnId>,
}

/// A place in one of the lists of [`Outputs`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// The first item.
    pub start: u32,
    /// The one after the last.
    pub end: u32,
}

impl Span {
    /// As a range to index with.
    pub const fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Output {
    /// Send bytes to one connection.
    Send {
        /// To whom.
        to: ConnId,
        /// What.
        bytes: Span,
    },
    /// Send the same bytes to many connections.
    Fanout {
        /// To whom: a place in [`Outputs::receivers`].
        to: Span,
        /// What: a place in [`Outputs::bytes`].
        bytes: Span,
        /// Whether a connection that has unsent bytes, or whose socket refuses these, goes without:
        /// a frame that was begun is finished, one that was not is dropped.
        volatile: bool,
    },
    /// Write what was sent before, then close. The id will not be named again, in either direction.
    Close {
        /// Which connection.
        conn: ConnId,
        /// How.
        how: Close,
    },
    /// Give the connection, with what was sent before and is still unsent, to another shard.
    HandOver {
        /// Which connection.
        conn: ConnId,
        /// To whom.
        to: ShardId,
        /// What its engine needs to know: a place in [`Outputs::bytes`].
        parcel: Span,
    },
    /// Bring another shard what this one writes to it.
    Letter {
        /// To whom.
        to: ShardId,
        /// What its engine is to know: a place in [`Outputs::bytes`].
        letter: Span,
    },
    /// Answer this HTTP request by [`Input::Answered`].
    Ask {
        /// Who asks.
        conn: ConnId,
        /// What.
        question: HttpRequest,
    },
    /// Answer by [`StorageEvent::Loaded`] what is stored of a session.
    Load {
        /// Which.
        session: SessionId,
    },
    /// Store a session in place of what is stored of it, and answer by [`StorageEvent::Stored`].
    Store {
        /// Which.
        session: SessionId,
        /// The record's epoch.
        epoch: u64,
        /// The record's version.
        version: u64,
        /// The record in the bytes of [`crate::record`]: a place in [`Outputs::bytes`].
        record: Span,
    },
    /// Delete what is stored of a session, unless that has a higher epoch.
    Forget {
        /// Which.
        session: SessionId,
        /// Its epoch here.
        epoch: u64,
    },
}

/// How to close.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Close {
    /// Shut down our side, then wait a little for the peer's end, so that it reads what we sent.
    Gently,
    /// At once.
    Abort,
}

impl Outputs {
    /// Bytes that are kept from use to use for their memory: more are only kept while as many are
    /// needed.
    pub const KEPT_BYTES_MAX: usize = 256 * 1024;

    /// Empties the lists and keeps their memory, but for what a long message made them grow by.
    pub fn clear(&mut self) {
        let used = self.bytes.len();
        self.list.clear();
        self.bytes.clear();
        self.receivers.clear();
        if used <= self.bytes.capacity() / 4 {
            self.bytes.shrink_to(Self::KEPT_BYTES_MAX);
        }
    }
}
