//! Connections that move to another shard, as bytes.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::client::Client;
use super::event::Reason;
use super::incoming::PendingPacket;
use super::polling_clients::Probe;
use crate::delivery::poll_queue::PollQueue;
use crate::wire::deflate::Window;
use crate::wire::http::OwnedCors;
use crate::words::policy::ClientAddress;

/// A connection as the bytes of [`Output::HandOver`](crate::io::Output::HandOver).
#[derive(Serialize, Deserialize)]
#[allow(clippy::large_enum_variant)] // there is one at a time
pub(super) enum Packed {
    /// A WebSocket.
    Socket {
        client: Client,
        /// The end of the messages sent to it, if later ones refer to them.
        window: Option<Window>,
        /// The call that the other shard handles first.
        reason: Reason,
        /// The input after that call, as it was read.
        rest: Vec<u8>,
    },
    /// A request of a client on another shard.
    Request {
        /// Number of its hand-overs.
        hops: u8,
        /// The bytes from the request's head on.
        bytes: Vec<u8>,
    },
    /// A WebSocket that takes over from a client of long-polling on another shard.
    Probe {
        probe: Probe,
        /// Number of its hand-overs.
        hops: u8,
        /// The unread input.
        rest: Vec<u8>,
    },
    /// A client of long-polling, with the connection of the request that moves it and is not
    /// answered yet.
    Polled {
        client: Client,
        queue: PollQueue,
        reason: Reason,
        /// The packets of that request that are not handled yet.
        packets: Vec<PendingPacket>,
        keep_alive: bool,
        cors: OwnedCors,
        /// The address that the client is counted under; the connection has its own.
        address: ClientAddress,
        /// The input behind that request.
        rest: Vec<u8>,
    },
}

/// A packed connection with the address that it is counted under. Its socket cannot show that
/// address if a proxy is in between.
pub(super) type Counted = (ClientAddress, Packed);

/// The unread input in a packed connection, for programs that inspect the messages of members.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unread {
    /// WebSocket frames, from the start of one on.
    Frames(Range<usize>),
    /// HTTP requests, from the start of one on.
    Requests(Range<usize>),
}

/// Finds the unread input. `None` if the bytes are no packed connection.
pub fn unread(packed: &[u8]) -> Option<Unread> {
    let (_, state) = postcard::from_bytes::<Counted>(packed).ok()?;
    let place = |rest: Vec<u8>| packed.len() - rest.len()..packed.len();
    Some(match state {
        Packed::Socket { rest, .. } | Packed::Probe { rest, .. } => Unread::Frames(place(rest)),
        Packed::Polled { rest, .. } | Packed::Request { bytes: rest, .. } => {
            Unread::Requests(place(rest))
        }
    })
}
