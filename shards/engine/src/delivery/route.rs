//! Where packets go: to which connection, and in which form.

use serde::{Deserialize, Serialize};

use crate::words::ids::{ConnId, RecoveryToken};

/// How packets reach a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Encoding {
    /// As messages of a WebSocket.
    Plain,
    /// As messages of a WebSocket, the longer ones compressed, each by itself, for a window of so
    /// many bits.
    Deflated(u8),
    /// The same with messages that refer to those before them.
    ContextTakeover(u8),
    /// In the answers to HTTP requests.
    Polled,
}

/// What a session needs to know of a member's connection.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The connection.
    pub conn: ConnId,
    /// How packets get there.
    pub encoding: Encoding,
    /// What brings the member back if the connection is lost; without it, it is told no offsets.
    pub token: Option<RecoveryToken>,
}
