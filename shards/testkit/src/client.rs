//! A client with its own WebSocket.
#![allow(clippy::unwrap_used)] // a test that cannot go on panics

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::frames;

/// Time limit of every wait. Guessed: anything that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// The mask of frames. Not all zeros, so that a server that does not unmask fails.
const MASK: [u8; 4] = [9, 200, 3, 77];

/// The query of a handshake, as in [`frames::handshake`].
const QUERY: &str = "EIO=4&transport=websocket";

/// One client of a server on this machine.
pub struct TestClient {
    stream: BufReader<TcpStream>,
}

impl TestClient {
    /// Connects, up to the namespace.
    pub fn connect(port: u16) -> Self {
        Self::connect_with(port, "")
    }

    /// Connects with additional lines in the head of the request, each with its line end.
    pub fn connect_with(port: u16, headers: &str) -> Self {
        let mut client = Self::burst(port, headers, &[]);
        client.say("40");
        client.hear("40{");
        client
    }

    /// Opens a WebSocket with this query, and sends nothing more.
    pub fn open(port: u16, query: &str) -> Self {
        Self::begin(port, query, "", &[])
    }

    /// Sends the request and packets in one write, and waits for the upgrade.
    pub fn burst(port: u16, headers: &str, packets: &[&str]) -> Self {
        Self::begin(port, QUERY, headers, packets)
    }

    fn begin(port: u16, query: &str, headers: &str, packets: &[&str]) -> Self {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = String::from_utf8(frames::handshake("localhost", false)).unwrap();
        let mut bytes = head.replace(QUERY, query).into_bytes();
        bytes.truncate(bytes.len() - 2);
        bytes.extend_from_slice(headers.as_bytes());
        bytes.extend_from_slice(b"\r\n");
        for packet in packets {
            frames::masked_with(&mut bytes, packet, MASK);
        }
        stream.write_all(&bytes).unwrap();
        let mut client = Self { stream: BufReader::new(stream) };
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert!(client.stream.read_line(&mut line).unwrap() > 0, "the server ended");
        }
        client
    }

    /// Sends bytes unchanged.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Sends bytes unchanged, and waits until the server ends the connection.
    pub fn break_off(mut self, bytes: &[u8]) {
        self.send(bytes);
        // An error is an end too.
        let _ = self.stream.read_to_end(&mut Vec::new());
    }

    /// Sends a packet in two pieces, so that a read may end between them.
    pub fn say(&mut self, packet: &str) {
        let mut frame = Vec::new();
        frames::masked_with(&mut frame, packet, MASK);
        let (first, second) = frame.split_at(frame.len() / 2);
        for part in [first, second] {
            self.stream.get_mut().write_all(part).unwrap();
            std::thread::yield_now();
        }
    }

    /// Waits for a packet that begins with `beginning`, and returns it. Answers Engine.IO's pings.
    pub fn hear(&mut self, beginning: &str) -> String {
        self.await_packet(|packet| packet.starts_with(beginning))
    }

    /// Waits for a packet that contains `part`, and returns it.
    pub fn hear_of(&mut self, part: &str) -> String {
        self.await_packet(|packet| packet.contains(part))
    }

    /// Waits for a message of at least `least` bytes on the wire, compressed or not.
    pub fn hear_long(&mut self, least: usize) {
        while self.frame().length < least {}
    }

    /// Sends an event, and returns its acknowledgement.
    pub fn ask(&mut self, event: &str, payload: &str) -> String {
        self.say(&format!(r#"427["{event}",{payload}]"#));
        self.hear("437[")
    }

    fn await_packet(&mut self, fits: impl Fn(&str) -> bool) -> String {
        loop {
            let packet = self.packet();
            if packet == "2" {
                self.say("3");
            }
            if fits(&packet) {
                return packet;
            }
        }
    }

    /// Returns the next packet.
    fn packet(&mut self) -> String {
        self.frame().text
    }

    /// Takes single bytes out of the buffer until they make a frame.
    fn frame(&mut self) -> Heard {
        let mut bytes = Vec::new();
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            bytes.push(byte[0]);
            if let Some(frame) = frames::read(&bytes) {
                let text = String::from_utf8_lossy(frame.payload).into_owned();
                return Heard { text, length: frame.length };
            }
        }
    }
}

/// A frame that has arrived.
struct Heard {
    /// Its payload as text.
    text: String,
    /// Its length on the wire, in bytes.
    length: usize,
}
