//! The way of packets to a client: connection and encoding.

use serde::{Deserialize, Serialize};

use crate::words::ids::{ConnId, RecoveryToken};

/// The form in which packets reach a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Encoding {
    /// Uncompressed WebSocket messages.
    Plain,
    /// WebSocket messages of which long ones are compressed, each by itself, for a window of 2^n
    /// bytes.
    Deflated(u8),
    /// WebSocket messages of which long ones are compressed and refer to earlier ones (context
    /// takeover), for a window of 2^n bytes.
    ContextTakeover(u8),
    /// Responses to the HTTP requests of long-polling.
    Polled,
}

/// The connection of a member, as far as its session knows it.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The connection.
    pub conn: ConnId,
    /// The form of packets on this connection.
    pub encoding: Encoding,
    /// The token that recovers the seat after a lost connection. A client without one receives no
    /// offsets.
    pub token: Option<RecoveryToken>,
}
