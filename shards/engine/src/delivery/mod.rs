//! Sends packets to clients, each in the encoding of its route.
//!
//! A packet for many clients is compressed at most once per window size. With context takeover,
//! messages refer to earlier ones, so each client needs a compression of its own.

mod outputs;
pub mod poll_queue;
pub mod route;

use std::collections::BTreeMap;

use crate::io::Outputs;
use crate::wire::deflate::{Deflater, Window};
use crate::wire::frame;
use crate::wire::payload::{self, Version};
use crate::words::compression::Compression;
use crate::words::ids::ConnId;

use poll_queue::PollQueue;
use route::{Encoding, Route};

/// The sender of a shard, with everything that it keeps between two messages.
pub struct Sender {
    compression: Option<Compression>,
    deflater: Deflater,
    /// Compression windows of clients with context takeover: the bytes sent to each.
    windows: BTreeMap<ConnId, Window>,
    /// Packets that wait for the polls of each client.
    queues: BTreeMap<ConnId, PollQueue>,
    /// Polling clients whose queues have to be looked at in this turn.
    touched: Vec<ConnId>,
}

impl Sender {
    /// Creates a sender with the shard's compression settings.
    pub fn new(compression: Option<Compression>) -> Self {
        let level = compression.unwrap_or_default().level;
        Self {
            compression,
            deflater: Deflater::new(level),
            windows: BTreeMap::new(),
            queues: BTreeMap::new(),
            touched: Vec::new(),
        }
    }

    /// Sends a packet to one client. `print` appends it.
    pub fn text(
        &mut self,
        out: &mut Outputs,
        to: ConnId,
        encoding: Encoding,
        print: impl FnOnce(&mut Vec<u8>),
    ) {
        if encoding == Encoding::Plain {
            return out.text(to, print);
        }
        let mut packet = Vec::new();
        print(&mut packet);
        self.packet(out, to, encoding, &packet);
    }

    /// Sends a binary attachment to one client. Version 3 of Engine.IO precedes it with its packet
    /// type, or sends it as text.
    pub fn attachment(
        &mut self,
        out: &mut Outputs,
        to: ConnId,
        encoding: Encoding,
        (version, base64): (Version, bool),
        attachment: &[u8],
    ) {
        match (encoding, version) {
            (Encoding::Polled, _) => {
                if let Some(queue) = self.queues.get_mut(&to) {
                    queue.push(payload::Packet::Binary(attachment.to_vec()));
                    self.touched.push(to);
                }
            }
            (_, Version::V4) => self.message(out, to, encoding, false, attachment),
            (_, Version::V3) if base64 => {
                self.text(out, to, encoding, |bytes| {
                    payload::attachment_text(bytes, attachment, version)
                });
            }
            (_, Version::V3) => {
                self.message(out, to, encoding, false, &[&[4], attachment].concat())
            }
        }
    }

    /// Sends a packet along many routes.
    pub fn fan_out(
        &mut self,
        out: &mut Outputs,
        to: impl Iterator<Item = Route> + Clone,
        packet: &[u8],
    ) {
        for Route { conn, .. } in to.clone().filter(|route| route.encoding == Encoding::Polled) {
            self.enqueue(conn, packet);
        }
        let to = to.filter(|route| route.encoding != Encoding::Polled);
        if !self.is_long(packet) {
            return out.fan_out(to.map(|route| route.conn), false, |bytes| {
                bytes.extend_from_slice(packet)
            });
        }
        let on = |encoding: Encoding| {
            to.clone().filter(move |route| route.encoding == encoding).map(|route| route.conn)
        };
        out.fan_out(on(Encoding::Plain), false, |bytes| bytes.extend_from_slice(packet));
        for bits in 8..=15 {
            out.fan_out_with(on(Encoding::Deflated(bits)), false, |bytes| {
                frame_of(bytes, true, packet, self.deflater.deflate(packet, bits, None));
            });
        }
        for Route { conn, encoding, .. } in
            to.filter(|route| matches!(route.encoding, Encoding::ContextTakeover(_)))
        {
            self.packet(out, conn, encoding, packet);
        }
    }

    /// Sends a volatile packet to the clients whose sockets accept it now.
    ///
    /// It is never compressed. It is short, and with context takeover a later message must not
    /// refer to one that a client may have missed.
    pub fn send_volatile(
        &mut self,
        out: &mut Outputs,
        to: impl Iterator<Item = Route>,
        print: impl Fn(&mut Vec<u8>),
    ) {
        let direct = |route: Route| {
            if route.encoding == Encoding::Polled {
                self.enqueue_volatile(route.conn, &print);
                return None;
            }
            Some(route.conn)
        };
        out.fan_out(to.filter_map(direct), true, &print); // mark: ticks_queue
    }

    /// Adds the queue of a polling client.
    pub fn open(&mut self, id: ConnId, queue: PollQueue) {
        self.queues.insert(id, queue);
        self.touched.push(id);
    }

    /// Removes and returns the queue of a polling client.
    pub fn close(&mut self, id: ConnId) -> Option<PollQueue> {
        self.queues.remove(&id)
    }

    /// Returns the queue of a polling client.
    pub fn queue(&mut self, id: ConnId) -> Option<&mut PollQueue> {
        self.queues.get_mut(&id)
    }

    /// Has the queue of a client looked at when the turn ends.
    pub fn touch(&mut self, id: ConnId) {
        self.touched.push(id);
    }

    /// Frees the memory that a long message needed.
    pub fn give_back(&mut self) {
        self.deflater.give_back();
    }

    /// Returns the bytes of the buffers kept for the next message.
    #[cfg(test)]
    pub fn kept_bytes(&self) -> usize {
        self.deflater.kept_bytes()
    }

    /// Whether queues of polling clients wait to be looked at.
    pub fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Takes the polling clients whose queues have to be looked at, sorted and without repetition.
    pub fn take_touched(&mut self) -> Vec<ConnId> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    /// Queues a packet for a polling client. Does nothing if the client is gone.
    fn enqueue(&mut self, id: ConnId, packet: &[u8]) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.push(payload::Packet::Text(packet.to_vec()));
            self.touched.push(id);
        }
    }

    /// Queues a volatile packet only if a poll waits for it: a queue must not fill with stale
    /// positions.
    fn enqueue_volatile(&mut self, id: ConnId, print: impl Fn(&mut Vec<u8>)) {
        if self.queues.get(&id).is_some_and(PollQueue::is_idle) {
            let mut packet = Vec::new();
            print(&mut packet);
            self.enqueue(id, &packet);
        }
    }

    /// Removes the compression window of a client, which moves to another shard or is closed.
    pub fn take_window(&mut self, id: ConnId) -> Option<Window> {
        self.windows.remove(&id)
    }

    /// Sets the compression window of a client that another shard has handed over.
    pub fn put_window(&mut self, id: ConnId, window: Window) {
        self.windows.insert(id, window);
    }

    /// Returns the number of clients with a compression window, plus the number of those with a
    /// queue.
    pub fn len(&self) -> usize {
        self.windows.len() + self.queues.len()
    }

    /// Sends a printed packet to one client, in its encoding.
    fn packet(&mut self, out: &mut Outputs, to: ConnId, encoding: Encoding, packet: &[u8]) {
        if encoding == Encoding::Polled {
            return self.enqueue(to, packet);
        }
        self.message(out, to, encoding, true, packet);
    }

    /// Sends a WebSocket message, compressed if the encoding allows it and it is long enough.
    pub fn message(
        &mut self,
        out: &mut Outputs,
        to: ConnId,
        encoding: Encoding,
        text: bool,
        packet: &[u8],
    ) {
        let deflated = match encoding {
            Encoding::Deflated(bits) if self.is_long(packet) => {
                self.deflater.deflate(packet, bits, None)
            }
            Encoding::ContextTakeover(bits) if self.is_long(packet) => {
                self.deflater.deflate(packet, bits, Some(self.windows.entry(to).or_default()))
            }
            _ => None,
        };
        out.send(to, |bytes| frame_of(bytes, text, packet, deflated));
    }

    /// Whether a packet is long enough to be compressed.
    fn is_long(&self, packet: &[u8]) -> bool {
        self.compression.is_some_and(|compression| packet.len() >= compression.threshold as usize)
    }
}

fn frame_of(bytes: &mut Vec<u8>, text: bool, packet: &[u8], deflated: Option<&[u8]>) {
    match deflated {
        Some(payload) => frame::deflated(bytes, text, payload),
        None if text => frame::text(bytes, |bytes| bytes.extend_from_slice(packet)),
        None => frame::binary(bytes, |bytes| bytes.extend_from_slice(packet)),
    }
}
