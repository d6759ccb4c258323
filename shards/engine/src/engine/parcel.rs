//! What travels with a connection to another shard.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::event::Reason;
use super::link::Client;
use super::polling_clients::{PendingPacket, Probe};
use crate::delivery::poll_queue::PollQueue;
use crate::wire::deflate::Window;
use crate::wire::http::Shared;
use crate::words::manners::Speaker;

/// What travels with a connection, as the bytes of
/// [`Output::HandOver`](crate::io::Output::HandOver).
#[derive(Serialize, Deserialize)]
#[allow(clippy::large_enum_variant)] // there is one at a time
pub(super) enum Packed {
    /// A WebSocket.
    Socket {
        link: Client,
        /// What was sent to it, if later messages refer to that.
        window: Option<Window>,
        /// What made the connection move; the other shard handles it first.
        moving: Reason,
        /// What was read after it, as it came from the network.
        rest: Vec<u8>,
    },
    /// A request about a session that is elsewhere.
    Request {
        /// How often it was handed on.
        hops: u8,
        /// From its head on.
        bytes: Vec<u8>,
    },
    /// A WebSocket that takes a session over which is elsewhere.
    Probe {
        probe: Probe,
        /// How often it was handed on.
        hops: u8,
        /// What it said after that.
        rest: Vec<u8>,
    },
    /// A session of long-polling, with the request that moves it and is still to be answered.
    Polled {
        link: Client,
        queue: PollQueue,
        moving: Reason,
        /// What the request said after that.
        left: Vec<PendingPacket>,
        keep_alive: bool,
        cors: Shared,
        /// Under whom the session is counted, beside the connection.
        speaker: Speaker,
        /// What came behind the request.
        rest: Vec<u8>,
    },
}

/// What is packed: under whom the connection is counted, which the socket cannot tell if a proxy is
/// in between, and the rest.
pub(super) type ParcelFrom = (Speaker, Packed);

/// Where in a parcel the bytes lie that were read and not used, for whoever must look into what a
/// member sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unread {
    /// WebSocket frames, from the beginning of one on.
    Frames(Range<usize>),
    /// HTTP requests, from the head of one on.
    Requests(Range<usize>),
}

/// Finds them; `None` if these bytes are no parcel.
pub fn unread(parcel: &[u8]) -> Option<Unread> {
    let (_, packed) = postcard::from_bytes::<ParcelFrom>(parcel).ok()?;
    let place = |rest: Vec<u8>| parcel.len() - rest.len()..parcel.len();
    Some(match packed {
        Packed::Socket { rest, .. } | Packed::Probe { rest, .. } => Unread::Frames(place(rest)),
        Packed::Polled { rest, .. } | Packed::Request { bytes: rest, .. } => {
            Unread::Requests(place(rest))
        }
    })
}

impl Packed {
    /// Adds what came behind the request.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        match self {
            Self::Socket { rest, .. }
            | Self::Probe { rest, .. }
            | Self::Polled { rest, .. }
            | Self::Request { bytes: rest, .. } => rest.extend_from_slice(bytes),
        }
    }
}
