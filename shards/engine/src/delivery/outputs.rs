//! Appends to a turn's outputs. Frames are printed once into the turn's bytes, then named by their
//! span for one receiver or for many.

use crate::io::{Close, Output, Outputs, Span};
use crate::wire::frame;
use crate::words::ids::{ConnId, ShardId};

impl Outputs {
    /// Sends a text message to one connection. `print` appends the packet.
    pub(crate) fn text(&mut self, to: ConnId, print: impl FnOnce(&mut Vec<u8>)) {
        self.send(to, |bytes| frame::text(bytes, print));
    }

    /// Sends one text message to many connections. A connection whose socket is full misses a
    /// volatile message.
    pub(crate) fn fan_out(
        &mut self,
        to: impl Iterator<Item = ConnId>,
        volatile: bool,
        print: impl FnOnce(&mut Vec<u8>),
    ) {
        self.fan_out_with(to, volatile, |bytes| frame::text(bytes, print));
    }

    /// Sends the bytes that `print` appends to many connections.
    pub(crate) fn fan_out_with(
        &mut self,
        to: impl Iterator<Item = ConnId>,
        volatile: bool,
        print: impl FnOnce(&mut Vec<u8>),
    ) {
        let first = self.receivers.len();
        self.receivers.extend(to);
        let to = Span { start: first as u32, end: self.receivers.len() as u32 };
        if to.start < to.end {
            let bytes = self.span(print);
            self.list.push(Output::Fanout { to, bytes, volatile });
        }
    }

    /// Sends the bytes that `print` appends to one connection.
    pub(crate) fn send(&mut self, to: ConnId, print: impl FnOnce(&mut Vec<u8>)) {
        let bytes = self.span(print);
        self.list.push(Output::Send { to, bytes });
    }

    /// Closes a connection. Does nothing for a polling client, which has no connection of its own.
    pub(crate) fn close(&mut self, conn: ConnId, how: Close) {
        if !conn.is_polled() {
            self.list.push(Output::Close { conn, how });
        }
    }

    /// Hands a connection over to another shard.
    pub(crate) fn hand_over(&mut self, conn: ConnId, to: ShardId, parcel: &[u8]) {
        let parcel = self.span(|bytes| bytes.extend_from_slice(parcel));
        self.list.push(Output::HandOver { conn, to, parcel });
    }

    /// Sends a message to another shard.
    pub(crate) fn letter(&mut self, to: ShardId, letter: &[u8]) {
        let letter = self.span(|bytes| bytes.extend_from_slice(letter));
        self.list.push(Output::Letter { to, letter });
    }

    /// Appends what `print` prints to the turn's bytes and returns its place there.
    pub(crate) fn span(&mut self, print: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = self.bytes.len() as u32;
        print(&mut self.bytes);
        let end = self.bytes.len();
        assert!(end <= u32::MAX as usize, "a turn's bytes are bounded by what it reads");
        Span { start, end: end as u32 }
    }
}
