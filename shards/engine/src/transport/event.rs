//! Events that transport yields, and the ways in which a connection ends.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::io::CloseCause;
use crate::io::report::Manner;
use crate::speech::LeaveReason;
use crate::wire::json::{self, Value};
use crate::wire::socket_packet::Packet;
use crate::words::ids::{ConnId, MemberId, Offset, RecoveryToken, ShardId};

/// One event for the engine. Names and payloads borrow from the bytes that were read.
pub enum Event<'a> {
    /// A client connects to the namespace `/`, perhaps to recover its seat.
    Connect {
        /// The client.
        client: ConnId,
        /// The token and offset with which it recovers its seat.
        recovery: Option<(RecoveryToken, Offset)>,
    },
    /// A client sends an event.
    Named(NamedEvent<'a>),
    /// A client leaves the namespace `/` and keeps its connection.
    Disconnect {
        /// The client.
        client: ConnId,
    },
    /// A WebSocket took over from long-polling, so the client has a new id.
    Upgraded {
        /// The old id.
        from: ConnId,
        /// The new id.
        to: ConnId,
    },
    /// A client has missed a deadline, and has sent a request in the same turn. The deadline is
    /// first.
    Due {
        /// The client.
        client: ConnId,
    },
    /// A connection must end, for example because its client said goodbye or broke a rule.
    Close {
        /// The connection.
        conn: ConnId,
        /// The reason, and the way to close it.
        closing: Closing,
    },
    /// Nothing for the engine: a ping, a fragment, an answered request.
    Settled,
    /// A client has opened. Only above [`Layer::Events`].
    Opened(Opened),
    /// A Socket.IO packet with its attachments. Only at [`Layer::Packets`].
    Packet {
        /// The client.
        client: ConnId,
        /// The packet.
        packet: Packet<'a>,
        /// Its attachments.
        attachments: &'a [Vec<u8>],
    },
    /// A message. Only at [`Layer::Messages`] and [`Layer::Frames`].
    Message {
        /// The client.
        client: ConnId,
        /// The message.
        data: Data<'a>,
    },
}

/// A client that has opened, at a layer where transport does not greet it.
pub struct Opened {
    /// The client.
    pub client: ConnId,
    /// The client's Engine.IO session id.
    pub sid: MemberId,
    /// The packet that greets the client, for the layers above frames.
    pub greeting: Vec<u8>,
    /// The query of the client's first request.
    pub query: String,
    /// Whether the client speaks Engine.IO 3.
    pub is_version_3: bool,
}

/// A message of a WebSocket or of Engine.IO.
pub enum Data<'a> {
    /// Text.
    Text(&'a str),
    /// Bytes.
    Binary(Cow<'a, [u8]>),
}

/// The layer whose contents transport yields as events. A server runs at [`Events`](Self::Events);
/// conformance suites examine the others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Layer {
    /// Named events of the namespace `/`.
    #[default]
    Events,
    /// Packets of Socket.IO, in any namespace.
    Packets,
    /// Messages of Engine.IO.
    Messages,
    /// Messages of WebSockets at any path.
    Frames,
}

/// An event of a client as it was received: named, but its fields are not checked yet.
pub struct NamedEvent<'a> {
    /// The client that sent it.
    pub client: ConnId,
    /// The event's name.
    pub event: Cow<'a, str>,
    /// The id under which the client wants an acknowledgement.
    pub ack: Option<u64>,
    /// The first argument.
    pub payload: Payload<'a>,
}

/// The first argument of an event.
#[derive(Clone, Copy)]
pub enum Payload<'a> {
    /// An argument that was read.
    Read {
        /// The value.
        value: Value<'a>,
        /// All arguments as they were written, unless `value` has them so.
        array: &'a str,
    },
    /// An argument that was not read, because the event has this many bytes.
    TooLong(usize),
}

/// The right to answer one event. A plain value, so the answer may come now or later.
#[derive(Clone, Copy)]
pub struct ReplyTo<'a> {
    /// The client that sent the event.
    pub client: ConnId,
    /// The event's name.
    pub event: &'a str,
    /// The id under which the client wants an acknowledgement.
    pub ack: Option<u64>,
}

impl NamedEvent<'_> {
    /// Returns the right to answer the event.
    pub fn reply_to(&self) -> ReplyTo<'_> {
        ReplyTo { client: self.client, event: &self.event, ack: self.ack }
    }
}

impl<'a> Payload<'a> {
    /// Returns the value, absent if it was not read.
    pub fn value(self) -> Value<'a> {
        match self {
            Self::Read { value, .. } => value,
            Self::TooLong(_) => Value::NONE,
        }
    }

    /// Returns the JSON of the value as it was written, empty if there is none.
    pub fn written(self) -> String {
        let Self::Read { value, array } = self else { return String::new() };
        value.written().or_else(|| json::argument(array)).unwrap_or_default().to_owned()
    }
}

/// The call that moves a connection to another shard.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reason {
    /// A `join_session`.
    Join {
        /// The id under which the client wants an acknowledgement.
        ack: Option<u64>,
        /// The JSON of its first argument.
        payload: String,
    },
    /// A connect of a member that was in a session on that shard.
    Recover {
        /// The token that the client sent.
        token: RecoveryToken,
        /// The last offset that the client saw.
        offset: Offset,
    },
}

/// The thing that a client waits for before the rest of its input is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Awaits {
    /// A session that is being loaded.
    Storage,
    /// The admission of another shard, to the request of this number.
    Admission(u64),
    /// The answer of another node to a join.
    Node,
}

/// The continuation of reading after an event.
pub enum Next {
    /// Read the next event.
    Continue,
    /// Defer the rest of the input.
    Defer(Awaits),
    /// Hand the client over to another shard, which first handles the reason.
    HandOver(ShardId, Reason),
}

/// The end of a connection, as the log, its session and its peer learn of it.
pub struct Closing {
    /// The reason in words, for the log.
    pub why: Cow<'static, str>,
    /// The side that ended it, for the log. `None`: not logged, or logged before.
    pub manner: Option<Manner>,
    /// The reason for its session.
    pub reason: LeaveReason,
    /// Whether the client itself has ended its Engine.IO session.
    pub goodbye: bool,
    /// The last bytes for the peer.
    pub farewell: Farewell,
}

/// The last bytes sent to the peer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Farewell {
    /// No bytes: the connection is gone.
    None,
    /// No bytes: the connection is aborted.
    Abort,
    /// No further bytes: queued bytes are sent, then the connection is closed.
    Flush,
    /// A close frame, on a WebSocket.
    Frame(Option<u16>, Cow<'static, str>),
    /// A notice that the server goes away, with a disconnect if the settings ask for one.
    GoingAway,
}

/// Returns the reason, for the log, to close a connection whose peer reads too slowly.
pub fn slow_reader(unsent: usize, limit: usize) -> String {
    format!("slow reader, {unsent} bytes unsent (limit {limit})")
}

impl Closing {
    fn new(why: impl Into<Cow<'static, str>>, manner: Option<Manner>, reason: LeaveReason) -> Self {
        let farewell = Farewell::Frame(None, "".into());
        Self { why: why.into(), manner, reason, goodbye: false, farewell }
    }

    /// Closes a connection whose peer broke a rule. It is sent an empty close frame, as Socket.IO
    /// servers do.
    pub fn expelled(why: impl Into<Cow<'static, str>>, reason: LeaveReason) -> Self {
        Self::new(why, Some(Manner::ByServer), reason)
    }

    /// Closes a connection that its client ended, or whose client stopped answering.
    pub fn left(reason: LeaveReason) -> Self {
        Self::new(reason.as_str(), Some(Manner::ByClient), reason)
    }

    /// Ends a connection that is gone already.
    pub fn lost(cause: CloseCause) -> Self {
        let reason = match cause {
            CloseCause::Ended => LeaveReason::TransportClosed,
            CloseCause::Failed => LeaveReason::TransportError,
        };
        Self { farewell: Farewell::None, ..Self::left(reason) }
    }

    /// Aborts a connection whose peer reads too slowly. A reconnect serves its member better than
    /// old events.
    pub fn slow_reader(why: impl Into<Cow<'static, str>>) -> Self {
        let closing = Self::expelled(why, LeaveReason::TransportError);
        Self { farewell: Farewell::Abort, ..closing }
    }

    /// Ends a connection without a line in the log and without a farewell.
    pub fn unlogged(reason: LeaveReason) -> Self {
        Self { farewell: Farewell::None, ..Self::new("", None, reason) }
    }

    /// Closes a connection that speaks HTTP after its last answer.
    pub fn answered() -> Self {
        Self { farewell: Farewell::Flush, ..Self::unlogged(LeaveReason::Forced) }
    }

    /// Closes a connection after a rejected request. The answer gives the reason.
    pub fn rejected(why: impl Into<Cow<'static, str>>) -> Self {
        let farewell = Farewell::Flush;
        Self { farewell, ..Self::expelled(why, LeaveReason::Forced) }
    }

    /// Closes a connection because the server goes away.
    pub fn drained() -> Self {
        Self { farewell: Farewell::GoingAway, ..Self::unlogged(LeaveReason::Draining) }
    }

    /// Replaces the farewell.
    pub fn with(self, farewell: Farewell) -> Self {
        Self { farewell, ..self }
    }
}
