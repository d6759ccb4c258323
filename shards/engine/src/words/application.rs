//! What a shard does with what its clients say.

use serde::{Deserialize, Serialize};

/// What answers above the layers of the wire. A server runs the band; the others are small, so that
/// suites made for any server can examine those layers in this one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum Application {
    /// Sessions of members who play.
    #[default]
    Band,
    /// Every WebSocket message comes back.
    WebSocketEcho,
    /// Every Engine.IO message comes back.
    EngineEcho,
    /// Every Socket.IO event `message` comes back, in two namespaces.
    SocketEcho,
    /// What socket.io-client's own tests expect of their server.
    ClientTests,
}

impl Application {
    /// Where Engine.IO is spoken; nowhere if WebSockets are at any path.
    pub const fn path(self) -> Option<&'static str> {
        match self {
            Self::Band | Self::SocketEcho | Self::ClientTests => Some("/socket.io/"),
            Self::EngineEcho => Some("/engine.io/"),
            Self::WebSocketEcho => None,
        }
    }
}
