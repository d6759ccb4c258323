//! Connections on their way to another shard, as bytes.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::client::Client;
use super::event::Reason;
use super::incoming::PendingPacket;
use super::polling_clients::Probe;
use crate::delivery::poll_queue::PollQueue;
use crate::wire::deflate::Window;
use crate::wire::http::Shared;
use crate::words::policy::ClientAddress;

/// A connection as the bytes of [`Output::HandOver`](crate::io::Output::HandOver).
#[derive(Serialize, Deserialize)]
#[allow(clippy::large_enum_variant)] // there is one at a time
pub(super) enum Packed {
    /// A WebSocket.
    Socket {
        client: Client,
        /// The messages sent to it, if later ones refer to them.
        window: Option<Window>,
        /// The call that the other shard handles first.
        reason: Reason,
        /// The input after that, as it came from the network.
        rest: Vec<u8>,
    },
    /// A request of a client that is elsewhere.
    Request {
        /// Number of times that it was handed on.
        hops: u8,
        /// From its head on.
        bytes: Vec<u8>,
    },
    /// A WebSocket that takes over from a client of long-polling that is elsewhere.
    Probe {
        probe: Probe,
        /// Number of times that it was handed on.
        hops: u8,
        /// The input after that.
        rest: Vec<u8>,
    },
    /// A client of long-polling, with the request that moves it and is still to be answered.
    Polled {
        client: Client,
        queue: PollQueue,
        reason: Reason,
        /// The packets of the request after that.
        packets: Vec<PendingPacket>,
        keep_alive: bool,
        cors: Shared,
        /// The address that the client is counted under, beside the connection.
        address: ClientAddress,
        /// The input behind the request.
        rest: Vec<u8>,
    },
}

/// A packed connection with the address that it is counted under, which its socket cannot show if a
/// proxy is in between.
pub(super) type Counted = (ClientAddress, Packed);

/// Where in a packed connection its unread input is, for whoever must look into what a member sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unread {
    /// WebSocket frames, from the beginning of one on.
    Frames(Range<usize>),
    /// HTTP requests, from the head of one on.
    Requests(Range<usize>),
}

/// Finds the unread input; `None` if these bytes are no packed connection.
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
