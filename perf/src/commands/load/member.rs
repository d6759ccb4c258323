//! One member's connection: its stage, and the messages that arrive.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use bandsync_perf::timer_fd::Nanos;
use bandsync_testkit::frames;
use mio::net::TcpStream;
use socket2::SockRef;

/// The connection of a member and its state.
#[derive(Debug)]
pub struct Member {
    socket: TcpStream,
    pub stage: Stage,
    /// The index of its session.
    pub session: usize,
    /// The time at which it should have begun to connect.
    pub intended: Nanos,
    /// Number and arrival of its last tick.
    pub tick: Option<(u64, Nanos)>,
    /// Distance of the ticks that it receives; 0 is none.
    pub stride: u64,
    /// The times at which unanswered probes should have been sent.
    pub probes: VecDeque<Nanos>,
    /// An incomplete frame.
    partial: Vec<u8>,
    /// Bytes that the kernel has not taken yet.
    unsent: Vec<u8>,
}

/// The stage of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// TCP is connecting.
    Connecting,
    /// The upgrade is requested.
    Upgrading,
    /// Waits for Engine.IO's open packet, then Socket.IO's connect packet.
    Opening,
    /// The join is requested; waits for the snapshot.
    Joining,
    /// Joined.
    Joined,
}

/// The meaning of a server's message for the generator.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PacketKind<'a> {
    Upgraded,
    Open,
    Connected,
    Snapshot,
    Tick,
    Chat(&'a str),
    ProbeAnswer,
    /// Engine.IO's ping.
    Ping,
    /// The application's ping.
    Heartbeat,
    Rejected(&'a str),
    Other,
}

impl Member {
    /// Starts to connect.
    pub fn connect(
        address: SocketAddr,
        session: usize,
        stride: u64,
        intended: Nanos,
    ) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            stage: Stage::Connecting,
            session,
            intended,
            tick: None,
            stride,
            probes: VecDeque::new(),
            partial: Vec::new(),
            unsent: Vec::new(),
        })
    }

    pub fn socket_mut(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Makes the close a reset, so that the port can be used again at once.
    pub fn cut(&self) {
        // If this is rejected, the port is blocked for a minute, and nothing else changes.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    /// Handles a writable socket: the kernel has connected or failed, or accepts bytes again.
    pub fn writable(&mut self, handshake: &[u8]) -> io::Result<()> {
        if self.stage == Stage::Connecting {
            if let Some(error) = self.socket.take_error()? {
                return Err(error);
            }
            if self.socket.peer_addr().is_err() {
                return Ok(());
            }
            self.stage = Stage::Upgrading;
            return self.write(handshake);
        }
        let waiting = std::mem::take(&mut self.unsent);
        if waiting.is_empty() { Ok(()) } else { self.write(&waiting) }
    }

    /// Sends a text message.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(text.len() + 14);
        frames::masked(&mut bytes, text);
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.unsent.is_empty() {
            match self.socket.write(bytes) {
                Ok(count) if count == bytes.len() => return Ok(()),
                Ok(count) => self.unsent.extend_from_slice(&bytes[count..]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.unsent.extend_from_slice(bytes)
                }
                Err(error) => return Err(error),
            }
        } else {
            self.unsent.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Reads all available bytes. Passes each message to `handle`, with its length on the wire.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        mut handle: impl FnMut(&mut Self, PacketKind<'_>, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            let count = match self.socket.read(buffer) {
                Ok(0) => {
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed it"));
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if self.partial.is_empty() {
                let used = self.messages(&buffer[..count], &mut handle)?;
                self.partial.extend_from_slice(&buffer[used..count]);
            } else {
                let mut bytes = std::mem::take(&mut self.partial);
                bytes.extend_from_slice(&buffer[..count]);
                let used = self.messages(&bytes, &mut handle)?;
                bytes.drain(..used);
                self.partial = bytes;
            }
            // A read that leaves room has emptied the socket.
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Passes on the complete messages at the front of `bytes`, and returns their length.
    fn messages(
        &mut self,
        bytes: &[u8],
        handle: &mut impl FnMut(&mut Self, PacketKind<'_>, usize) -> io::Result<()>,
    ) -> io::Result<usize> {
        let mut at = 0;
        if self.stage == Stage::Upgrading {
            let Some(length) = frames::head_length(bytes) else { return Ok(0) };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                let line = String::from_utf8_lossy(&bytes[..length.min(60)]).into_owned();
                return Err(io::Error::other(format!("the upgrade was rejected: {line}")));
            }
            handle(self, PacketKind::Upgraded, length)?;
            at = length;
        }
        while let Some(frame) = frames::read(&bytes[at..]) {
            at += frame.length;
            let kind = match frame.opcode {
                // The generator reads no compressed messages. The first one is the snapshot: all
                // before it are short.
                1 if frame.compressed && self.stage == Stage::Joining => PacketKind::Snapshot,
                1 if frame.compressed => PacketKind::Other,
                1 => understand(frame.payload),
                8 => {
                    return Err(io::Error::new(
                        ErrorKind::UnexpectedEof,
                        "the server said goodbye",
                    ));
                }
                _ => PacketKind::Other,
            };
            handle(self, kind, frame.length)?;
        }
        Ok(at)
    }
}

/// Classifies a text message. Ticks come first, since nearly all messages are ticks.
fn understand(text: &[u8]) -> PacketKind<'_> {
    if text.starts_with(b"42[\"scroll_tick\"") {
        return PacketKind::Tick;
    }
    let text = std::str::from_utf8(text).unwrap_or_default();
    let Some(event) = text.strip_prefix("42[\"") else {
        return match text.get(..2) {
            Some("40") => PacketKind::Connected,
            Some("44") => PacketKind::Rejected(text),
            _ if text.starts_with('0') => PacketKind::Open,
            _ if text == "2" => PacketKind::Ping,
            _ => PacketKind::Other,
        };
    };
    let (name, rest) = event.split_once('"').unwrap_or((event, ""));
    match name {
        "snapshot" => PacketKind::Snapshot,
        "chat_message" => {
            let after = rest.split_once("\"message\":\"").map_or("", |(_, after)| after);
            PacketKind::Chat(after.split('"').next().unwrap_or_default())
        }
        "latency_response" => PacketKind::ProbeAnswer,
        "ping" => PacketKind::Heartbeat,
        "error" | "rate_limit_exceeded" => PacketKind::Rejected(text),
        _ => PacketKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_distinguished() {
        let cases = [
            (r#"42["scroll_tick",{"sessionId":"s"}]"#, PacketKind::Tick),
            (r#"42["chat_message",{"id":"x","message":"17","y":"z"}]"#, PacketKind::Chat("17")),
            (r#"42["snapshot",{}]"#, PacketKind::Snapshot),
            (r#"42["room_stats",{}]"#, PacketKind::Other),
            (r#"40{"sid":"x"}"#, PacketKind::Connected),
            (r#"0{"sid":"x"}"#, PacketKind::Open),
            ("2", PacketKind::Ping),
            ("", PacketKind::Other),
        ];
        for (text, expected) in cases {
            assert_eq!(understand(text.as_bytes()), expected, "{text}");
        }
    }
}
