//! Appends to a turn's outputs. Frames are printed once into the turn's bytes, then named by their
//! span for one receiver or for many.

use crate::io::{Close, Output, Outputs, Span, Stamp};
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
        debug_assert!(!to.is_polled(), "packets for {to} go through its queue");
        let bytes = self.span(print);
        self.list.push(Output::Send { to, bytes });
    }

    /// Has the driver write the time of sending into the message that was just sent to `to`: as the
    /// number after `name`, which must be in it. Does nothing if the message waits for a
    /// poll or was compressed.
    pub(crate) fn stamp(&mut self, to: ConnId, name: &[u8]) {
        let Some(&Output::Send { to: last, bytes: span }) = self.list.last() else { return };
        let message = &self.bytes[span.range()];
        if frame::is_compressed(message) {
            return;
        }
        let found = message.windows(name.len()).rposition(|window| window == name);
        let Some(found) = found.filter(|_| last == to) else { return };
        let first = found + name.len();
        let is_digit = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
        let digits = message[first..].iter().take_while(is_digit).count();
        let start = span.start + first as u32;
        let digits = Span { start, end: start + digits as u32 };
        self.stamps.push(Stamp { to, digits });
    }

    /// Closes a connection. Does nothing for a polling client, which has no connection of its own.
    pub(crate) fn close(&mut self, conn: ConnId, how: Close) {
        if !conn.is_polled() {
            self.list.push(Output::Close { conn, how });
        }
    }

    /// Hands a connection over to another shard.
    pub(crate) fn hand_over(&mut self, conn: ConnId, to: ShardId, state: &[u8]) {
        debug_assert!(!conn.is_polled(), "{conn} has no connection to hand over");
        let state = self.span(|bytes| bytes.extend_from_slice(state));
        self.list.push(Output::HandOver { conn, to, state });
    }

    /// Sends a message to another shard.
    pub(crate) fn shard_message(&mut self, to: ShardId, message: &[u8]) {
        let message = self.span(|bytes| bytes.extend_from_slice(message));
        self.list.push(Output::ShardMessage { to, message });
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

#[cfg(test)]
mod tests {
    use super::*;

    const TO: ConnId = ConnId { index: 1, generation: 0 };

    fn stamps(frame: &[u8], to: ConnId) -> Vec<(ConnId, String)> {
        let mut out = Outputs::default();
        out.send(TO, |bytes| bytes.extend_from_slice(frame));
        out.stamp(to, b"\"t2\":");
        let text = |span: Span| String::from_utf8_lossy(&out.bytes[span.range()]).into_owned();
        out.stamps.iter().map(|stamp| (stamp.to, text(stamp.digits))).collect()
    }

    #[test]
    fn the_last_number_of_the_name_is_stamped() {
        let frame = b"\x81\x2343[{\"t2\":1,\"t1\":12.5,\"t2\":12.501}]";
        assert_eq!(stamps(frame, TO), [(TO, "12.501".into())]);
    }

    #[test]
    fn other_messages_are_not_stamped() {
        assert_eq!(stamps(b"\xc1\x09{\"t2\":1.5}", TO), [], "a compressed one");
        assert_eq!(stamps(b"\x81\x09{\"t1\":1.5}", TO), [], "one without the name");
        let polled = ConnId { index: 2, generation: 0 };
        assert_eq!(stamps(b"\x81\x09{\"t2\":1.5}", polled), [], "one that waits for a poll");
        let mut empty = Outputs::default();
        empty.stamp(TO, b"\"t2\":");
        assert!(empty.stamps.is_empty());
    }
}
