//! Events that transport yields, and how a connection ends.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::io::Cause;
use crate::speech::LeaveReason;
use crate::wire::json::{self, Value};
use crate::wire::socket_packet::Packet;
use crate::words::ids::{ConnId, MemberId, Offset, RecoveryToken, ShardId};

/// One thing that came in, for whoever acts on it. Names and payloads borrow from what was read.
pub enum Event<'a> {
    /// A client asks for the namespace `/`, perhaps for its old seat.
    Connect {
        /// The client.
        client: ConnId,
        /// The token and offset that it shows to get its old seat back.
        recovery: Option<(RecoveryToken, Offset)>,
    },
    /// A client sends an event.
    Call(EventCall<'a>),
    /// A client leaves the namespace `/` and keeps its connection.
    Disconnect {
        /// The client.
        client: ConnId,
    },
    /// A WebSocket took over from long-polling: the client has another id.
    Upgraded {
        /// Its id so far.
        from: ConnId,
        /// Its id from now on.
        to: ConnId,
    },
    /// Something of a client is overdue, and it has sent a request in the same turn.
    Due {
        /// The client.
        client: ConnId,
    },
    /// A connection has to end: its client said goodbye, or broke a rule.
    Close {
        /// The connection.
        conn: ConnId,
        /// Why, and how.
        closing: Closing,
    },
    /// Nothing for others: a ping, a fragment, an answered request.
    Settled,
    /// A client is there. Only above [`Layer::Calls`].
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

/// A client that has come, above a layer that does not greet it.
pub struct Opened {
    /// The client.
    pub client: ConnId,
    /// Its Engine.IO session id.
    pub sid: MemberId,
    /// The packet that greets it, for the layers above frames.
    pub greeting: Vec<u8>,
    /// The query of its first request.
    pub query: String,
    /// Whether it speaks Engine.IO 3.
    pub is_version_3: bool,
}

/// A message of a WebSocket or of Engine.IO.
pub enum Data<'a> {
    /// Text.
    Text(&'a str),
    /// Bytes.
    Binary(Cow<'a, [u8]>),
}

/// The layer whose contents transport yields as events. A server runs at [`Calls`](Layer::Calls);
/// conformance suites examine the others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Layer {
    /// Events of the namespace `/`, which clients call.
    #[default]
    Calls,
    /// Packets of Socket.IO, in any namespace.
    Packets,
    /// Messages of Engine.IO.
    Messages,
    /// Messages of WebSockets at any path.
    Frames,
}

/// An event with the right to be answered.
pub struct EventCall<'a> {
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
    /// One that was read.
    Read {
        /// The value.
        value: Value<'a>,
        /// All arguments as they were written, if `value` does not hold that.
        array: &'a str,
    },
    /// Not read, because the event has so many bytes.
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

impl EventCall<'_> {
    /// The right to answer it.
    pub fn reply_to(&self) -> ReplyTo<'_> {
        ReplyTo { client: self.client, event: &self.event, ack: self.ack }
    }
}

impl<'a> Payload<'a> {
    /// The value, absent if it was not read.
    pub fn value(self) -> Value<'a> {
        match self {
            Self::Read { value, .. } => value,
            Self::TooLong(_) => Value::NONE,
        }
    }

    /// The JSON of the value as it was written, empty if there is none.
    pub fn written(self) -> String {
        let Self::Read { value, array } = self else { return String::new() };
        value.written().or_else(|| json::argument(array)).unwrap_or_default().to_owned()
    }
}

/// The call that takes a connection to another shard.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reason {
    /// A `join_session`.
    Join {
        /// The id under which it is to be acknowledged.
        ack: Option<u64>,
        /// The JSON of its first argument.
        payload: String,
    },
    /// A connect of a member that was in a session there.
    Recover {
        /// The token that it shows.
        token: RecoveryToken,
        /// The last offset that it saw.
        offset: Offset,
    },
}

/// The thing that a client waits for before the rest of its input is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Awaits {
    /// A session from the storage.
    Storage,
    /// The admission of another shard, to the request of this number.
    Admission(u64),
}

/// The way in which reading goes on after an event.
pub enum Next {
    /// With the next event.
    Continue,
    /// Later: the rest of the input is kept until then.
    Defer(Awaits),
    /// On another shard, which first handles the reason.
    HandOver(ShardId, Reason),
}

/// Why a connection ends, for the log, for the session, and for the peer.
pub struct Closing {
    /// The reason in words, for the log.
    pub why: Cow<'static, str>,
    /// The line in the log.
    pub manner: Ending,
    /// The reason that its session is given.
    pub reason: LeaveReason,
    /// Whether the client itself has ended its Engine.IO session.
    pub goodbye: bool,
    /// The last bytes for the peer.
    pub farewell: Farewell,
}

/// The line in the log about the end of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// None, or it was logged before.
    Unlogged,
    /// A client left, if it was connected to a namespace.
    Left,
    /// The peer broke a rule or a limit.
    Expelled,
}

/// The last bytes for the peer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Farewell {
    /// Nothing: the connection is gone.
    None,
    /// Nothing: the connection is aborted.
    Abort,
    /// Nothing more: what was sent goes out, then the connection is closed.
    Flush,
    /// A close frame, if it has a WebSocket.
    Frame(Option<u16>, Cow<'static, str>),
    /// A notice that the server goes away; with a disconnect if the settings want that.
    GoingAway,
}

impl Closing {
    fn new(why: impl Into<Cow<'static, str>>, manner: Ending, reason: LeaveReason) -> Self {
        let farewell = Farewell::Frame(None, "".into());
        Self { why: why.into(), manner, reason, goodbye: false, farewell }
    }

    /// The peer broke a rule. It is sent an empty close frame, as Socket.IO servers do.
    pub fn expelled(why: impl Into<Cow<'static, str>>, reason: LeaveReason) -> Self {
        Self::new(why, Ending::Expelled, reason)
    }

    /// The client ended the connection, or let its time pass.
    pub fn left(reason: LeaveReason) -> Self {
        Self::new(reason.as_str(), Ending::Left, reason)
    }

    /// The connection is gone.
    pub fn lost(cause: Cause) -> Self {
        let reason = match cause {
            Cause::Ended => LeaveReason::TransportClosed,
            Cause::Failed => LeaveReason::TransportError,
        };
        Self { farewell: Farewell::None, ..Self::left(reason) }
    }

    /// The peer is too far behind: its member would rather reconnect than see the past.
    pub fn slow_reader() -> Self {
        let closing = Self::expelled("it reads too slowly", LeaveReason::TransportError);
        Self { farewell: Farewell::Abort, ..closing }
    }

    /// The connection ends without a line in the log and without a farewell.
    pub fn unlogged(reason: LeaveReason) -> Self {
        Self { farewell: Farewell::None, ..Self::new("", Ending::Unlogged, reason) }
    }

    /// A connection that speaks HTTP has answered its last request.
    pub fn answered() -> Self {
        Self { farewell: Farewell::Flush, ..Self::unlogged(LeaveReason::Forced) }
    }

    /// A request was refused, and the answer says why.
    pub fn refused(why: impl Into<Cow<'static, str>>) -> Self {
        let farewell = Farewell::Flush;
        Self { farewell, ..Self::expelled(why, LeaveReason::Forced) }
    }

    /// The server goes away.
    pub fn drained() -> Self {
        Self { farewell: Farewell::GoingAway, ..Self::unlogged(LeaveReason::Draining) }
    }

    /// Replaces the farewell.
    pub fn with(self, farewell: Farewell) -> Self {
        Self { farewell, ..self }
    }
}
