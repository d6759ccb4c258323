//! Small applications in place of a band, over the server's own transport and driver: they echo
//! messages of WebSocket or Engine.IO, or answer Socket.IO events by a script. Outside suites
//! examine the layers of the wire through them.

mod guests;
mod script;
mod server;

pub use server::Server;

use bandsync_engine::transport::{Layer, Profile};
use bandsync_engine::words::time::Micros;
use script::Namespace;

/// Delay of the answer to a probe in socket.io-client's tests. One of them counts the packets of
/// the first 100 ms, in which other servers do not answer the pending poll.
const PROBE_PAUSE: Micros = Micros::from_millis(100);

/// The application above the layers of the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Application {
    /// Every WebSocket message comes back.
    WebSocketEcho,
    /// Every Engine.IO message comes back.
    EngineEcho,
    /// Every Socket.IO event `message` comes back, in two namespaces.
    SocketEcho,
    /// The server of socket.io-client's own tests.
    ClientTests,
}

impl Application {
    fn profile(self) -> Profile {
        let (layer, path, probe_pause) = match self {
            Self::WebSocketEcho => (Layer::Frames, None, Micros::ZERO),
            Self::EngineEcho => (Layer::Messages, Some("/engine.io/"), Micros::ZERO),
            Self::SocketEcho => (Layer::Packets, Some("/socket.io/"), Micros::ZERO),
            Self::ClientTests => (Layer::Packets, Some("/socket.io/"), PROBE_PAUSE),
        };
        Profile { layer, path, probe_pause }
    }

    fn namespaces(self) -> &'static [Namespace] {
        match self {
            Self::SocketEcho => script::SOCKET_ECHO,
            Self::ClientTests => script::CLIENT_TESTS,
            Self::WebSocketEcho | Self::EngineEcho => &[],
        }
    }
}
