//! The write path: collects the bytes that a turn sends to each connection, and writes them with
//! one call at the end of the turn.
//!
//! Bytes are not copied: chunks are places in [`Outputs::bytes`](bandsync_engine::io::Outputs),
//! linked into one chain per connection. Only bytes that the kernel rejects are copied, to the
//! connection's unsent bytes. If the kernel has io_uring, all chains of a single chunk (nearly
//! always ticks) are sent together.
//!
//! A message to a crowd is written in slices, one a turn, behind everything else that the turn
//! sends: ten thousand sends take 60 ms, and no other band may wait for them. Its chains stay on
//! their connections meanwhile, so what a connection is sent later lies behind it. Until the last
//! slice is written, the turns' bytes and chunks are kept.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bandsync_engine::io::Span;
use bandsync_engine::words::ids::ConnId;

use crate::chain::{Chain, NONE};
use crate::connections::{Connection, Connections};
use crate::metrics::Stats;
use crate::net::{Net, SendRequest};

/// Maximum number of slices in one vectored call. A connection has more chunks only if a turn
/// handled very many messages for it; then the cost of a second call does not matter.
const SLICES: usize = 64;

/// Minimum number of sends for io_uring. Measured: below it, io_uring costs more than the calls
/// that it saves.
const TOGETHER_MIN: usize = if cfg!(test) { 1 } else { 3 };

/// Number of chunks, and of bytes, that are kept for slices. With more, the server cannot keep up
/// with its crowds, and the next turn writes everything.
const KEPT_CHUNKS_MAX: usize = 64 * 1024;
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The chunks of this turn, and of crowds, for all connections. The lists keep their memory from
/// turn to turn.
#[derive(Debug)]
pub(crate) struct Writer<K> {
    chunks: Vec<Chunk>,
    /// Places of the connections that have chunks, in the order of their first chunks.
    touched: Vec<u32>,
    /// Places of connections that are written before all others.
    first: Vec<u32>,
    /// Places of connections that are written in slices. Their chains may have been written since.
    crowd: VecDeque<u32>,
    /// Maximum number of these that a turn writes.
    slice: usize,
    /// Connections that have unsent bytes or broke in [`Writer::flush`]. The turn takes them.
    pub(crate) troubled: Vec<ConnId>,
    counts: Counts,
    /// Sends that go out together.
    requests: Vec<SendRequest<K>>,
    /// The connection's index and the chunk of each of these sends.
    waiting: Vec<(u32, u32)>,
}

/// A piece of bytes for one connection.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    bytes: Span,
    /// The next chunk for the same connection.
    next: u32,
    /// Whether the chunk is dropped if the kernel accepts none of its bytes.
    volatile: bool,
}

/// Numbers that are counted while flushing, and added to the shard's counters afterwards.
#[derive(Debug, Default)]
struct Counts {
    sends: u64,
    short: u64,
    bytes: u64,
    dropped: u64,
    /// Bytes that became unsent.
    kept: u64,
    /// Bytes that are no longer unsent.
    freed: u64,
}

impl<K> Writer<K> {
    /// Creates a writer that writes at most `slice` connections of a crowd a turn.
    pub(crate) fn new(slice: usize) -> Self {
        Self {
            chunks: Vec::new(),
            touched: Vec::new(),
            first: Vec::new(),
            crowd: VecDeque::new(),
            slice,
            troubled: Vec::new(),
            counts: Counts::default(),
            requests: Vec::new(),
            waiting: Vec::new(),
        }
    }
}

impl<K: Copy> Writer<K> {
    /// Appends bytes to the chain of the connection at `index`. If they are for a `crowd`, they may
    /// wait for a later turn. Runs once per receiver of a fanout.
    #[inline]
    pub(crate) fn link<S>(
        &mut self,
        index: u32,
        conn: &mut Connection<S>,
        bytes: Span,
        volatile: bool,
        crowd: bool,
    ) {
        if bytes.start == bytes.end {
            return;
        }
        let chunk = self.chunks.len() as u32;
        if conn.chain == Chain::EMPTY {
            conn.chain = Chain { first: chunk, last: chunk };
            if crowd {
                self.crowd.push_back(index);
            } else {
                self.touched.push(index);
            }
        } else {
            // The chain may wait for its slice, but these bytes are for this turn.
            if !crowd && !self.crowd.is_empty() {
                self.touched.push(index);
            }
            let last = &mut self.chunks[conn.chain.last as usize];
            // Answers to one connection mostly lie side by side: then they make one chunk and one
            // `send`.
            if last.bytes.end == bytes.start && !last.volatile && !volatile {
                last.bytes.end = bytes.end;
                return;
            }
            last.next = chunk;
            conn.chain.last = chunk;
        }
        self.chunks.push(Chunk { bytes, next: NONE, volatile });
    }

    /// Has the chain of the connection at `index` written in this turn, because it leaves.
    pub(crate) fn send_now(&mut self, index: u32) {
        self.touched.push(index);
    }

    /// Has the chain of the connection at `index` written before all others.
    pub(crate) fn send_first(&mut self, index: u32) {
        self.first.push(index);
    }

    /// Returns the number of connections that this turn writes, without the slice of a crowd.
    pub(crate) fn touched(&self) -> usize {
        self.touched.len()
    }

    /// Whether chains wait for a later turn. Until then the bytes of all turns must be kept.
    pub(crate) fn is_behind(&self) -> bool {
        !self.crowd.is_empty()
    }

    /// Writes the chains of this turn and the next slice of the crowds, each with one call or
    /// together if the net can, and clears them. The chunks are places in `bytes`.
    pub(crate) fn flush<N: Net<Key = K>>(
        &mut self,
        net: &mut N,
        conns: &mut Connections<N::Socket>,
        bytes: &[u8],
        stats: &Stats,
    ) {
        let is_too_much = self.chunks.len() > KEPT_CHUNKS_MAX || bytes.len() > KEPT_BYTES_MAX;
        let slice = if is_too_much { self.crowd.len() } else { self.slice.min(self.crowd.len()) };
        self.touched.extend(self.crowd.drain(..slice));
        let together = net.sends_together() && self.touched.len() >= TOGETHER_MIN;
        for index in self.first.drain(..).chain(self.touched.drain(..)) {
            // If the connection closed since, its place may be empty, or have a new user whose
            // chain is empty or already written.
            let Some((id, conn)) = conns.at_mut(index) else { continue };
            let chain = std::mem::replace(&mut conn.chain, Chain::EMPTY);
            if chain == Chain::EMPTY || conn.broken {
                continue;
            }
            if together && chain.first == chain.last && conn.unsent.is_empty() {
                let bytes = self.chunks[chain.first as usize].bytes;
                self.requests.push(SendRequest { socket: net.key(&conn.socket), bytes });
                self.waiting.push((index, chain.first));
                continue;
            }
            let rest = Rest { chunks: &self.chunks, bytes, index: chain.first, skip: 0 };
            if rest.write_or_keep(net, conn, &mut self.counts) {
                self.troubled.push(id);
            }
        }
        self.flush_together(net, conns, bytes);
        if !self.is_behind() {
            self.chunks.clear();
        }
        self.counts.show(stats);
    }

    /// Sends the requests that go out together.
    fn flush_together<N: Net<Key = K>>(
        &mut self,
        net: &mut N,
        conns: &mut Connections<N::Socket>,
        bytes: &[u8],
    ) {
        if self.requests.is_empty() {
            return;
        }
        net.send_all(&self.requests, bytes);
        for (request, (index, chunk)) in self.waiting.drain(..).enumerate() {
            let result = net.sent(request);
            // Nearly always the chunk was sent whole. Then the connection is not touched: the sends
            // have pushed it out of the cache.
            if let Some(Ok(count)) = result
                && count == self.chunks[chunk as usize].bytes.range().len()
            {
                self.counts.sends += 1;
                self.counts.bytes += count as u64;
                continue;
            }
            let Some((id, conn)) = conns.at_mut(index) else { continue };
            let mut rest = Rest { chunks: &self.chunks, bytes, index: chunk, skip: 0 };
            let result = match result {
                Some(result) => result.map(|count| rest.took(count, &mut self.counts)),
                None => rest.write(net, &conn.socket, &mut self.counts),
            };
            if rest.settle(conn, result, &mut self.counts) {
                self.troubled.push(id);
            }
        }
        self.requests.clear();
    }

    /// Writes unsent bytes, when the kernel accepts some again.
    pub(crate) fn resume<N: Net>(&mut self, net: &mut N, conn: &mut Connection<N::Socket>) {
        let before = conn.unsent.len();
        while !conn.unsent.is_empty() && !conn.broken {
            match net.send(&conn.socket, &[IoSlice::new(conn.unsent.front())]) {
                Ok(0) => break,
                Ok(count) => {
                    self.counts.sends += 1;
                    self.counts.bytes += count as u64;
                    conn.unsent.wrote(count);
                }
                Err(_) => {
                    conn.broken = true;
                    conn.unsent.clear();
                }
            }
        }
        self.counts.freed += (before - conn.unsent.len()) as u64;
    }
}

impl Counts {
    fn show(&mut self, stats: &Stats) {
        stats.sends.add(self.sends);
        stats.short_sends.add(self.short);
        stats.bytes_out.add(self.bytes);
        stats.volatile_dropped.add(self.dropped);
        stats.unsent.add(self.kept);
        stats.unsent.sub(self.freed);
        *self = Self::default();
    }
}

/// The part of a chain that is not written: it starts `skip` bytes into the chunk at `index`.
struct Rest<'a> {
    chunks: &'a [Chunk],
    bytes: &'a [u8],
    index: u32,
    skip: usize,
}

impl Rest<'_> {
    /// Writes until the chain is written (then `index` is [`NONE`]) or the kernel rejects bytes.
    #[inline]
    fn write<N: Net>(
        &mut self,
        net: &mut N,
        socket: &N::Socket,
        counts: &mut Counts,
    ) -> io::Result<()> {
        while self.index != NONE {
            let chunk = self.chunks[self.index as usize];
            let (wanted, count) = if chunk.next == NONE {
                let bytes = &self.bytes[chunk.bytes.range()][self.skip..];
                (bytes.len(), net.send(socket, &[IoSlice::new(bytes)])?)
            } else {
                self.send_many(net, socket)?
            };
            debug_assert!(count <= wanted, "the net took {count} of {wanted} bytes");
            self.took(count, counts);
            if count < wanted {
                break;
            }
        }
        Ok(())
    }

    /// Writes what the kernel accepts, and keeps the rest. Returns true if the connection has unsent
    /// bytes or broke.
    #[inline]
    fn write_or_keep<N: Net>(
        mut self,
        net: &mut N,
        conn: &mut Connection<N::Socket>,
        counts: &mut Counts,
    ) -> bool {
        // Bytes of earlier turns go first.
        let result = match conn.unsent.is_empty() {
            true => self.write(net, &conn.socket, counts),
            false => Ok(()),
        };
        self.settle(conn, result, counts)
    }

    /// Counts a send of which the kernel accepted `count` bytes, and steps over them.
    #[inline]
    fn took(&mut self, count: usize, counts: &mut Counts) {
        counts.sends += 1;
        counts.bytes += count as u64;
        self.advance(count);
    }

    /// Keeps the bytes that a write left, or marks the connection as broken. Returns true if it has
    /// unsent bytes or broke.
    #[inline]
    fn settle<S>(
        mut self,
        conn: &mut Connection<S>,
        result: io::Result<()>,
        counts: &mut Counts,
    ) -> bool {
        match result {
            Ok(()) if self.index == NONE => return false,
            Ok(()) => counts.short += u64::from(conn.unsent.is_empty()),
            Err(_) => conn.broken = true,
        }
        let before = conn.unsent.len() as u64;
        if !conn.broken {
            conn.broken = !self.keep(conn, counts);
        }
        if conn.broken {
            conn.unsent.clear();
        }
        counts.kept += conn.unsent.len() as u64;
        counts.freed += before;
        true
    }

    /// Offers the next chunks in one call. Returns how many bytes were offered and accepted.
    fn send_many<N: Net>(&self, net: &mut N, socket: &N::Socket) -> io::Result<(usize, usize)> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let (mut filled, mut wanted) = (0, 0);
        let (mut index, mut skip) = (self.index, self.skip);
        while index != NONE && filled < SLICES {
            let chunk = self.chunks[index as usize];
            let bytes = &self.bytes[chunk.bytes.range()][skip..];
            slices[filled] = IoSlice::new(bytes);
            filled += 1;
            wanted += bytes.len();
            (index, skip) = (chunk.next, 0);
        }
        let count = net.send(socket, &slices[..filled])?;
        Ok((wanted, count))
    }

    /// Steps over written bytes.
    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let chunk = self.chunks[self.index as usize];
            let left = chunk.bytes.range().len() - self.skip;
            if count < left {
                self.skip += count;
                return;
            }
            count -= left;
            (self.index, self.skip) = (chunk.next, 0);
        }
    }

    /// Copies the rest to the connection's unsent bytes, except volatile chunks that were not
    /// begun. Returns false if the unsent bytes would be too many.
    fn keep<S>(&mut self, conn: &mut Connection<S>, counts: &mut Counts) -> bool {
        while self.index != NONE {
            let chunk = self.chunks[self.index as usize];
            // mark: cut_tick_unfinished
            if chunk.volatile && self.skip == 0 {
                counts.dropped += 1;
            } else if !conn.unsent.push(&self.bytes[chunk.bytes.range()][self.skip..]) {
                return false;
            }
            (self.index, self.skip) = (chunk.next, 0);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::mio_net::MioNet;
    use crate::shutdown::Shutdown;
    use mio::Poll;
    use mio::net::TcpStream;
    use socket2::SockRef;
    use std::io::Read;
    use std::net::{Ipv4Addr, TcpListener};
    use std::os::fd::RawFd;

    /// Number of connections of a crowd that a turn writes in these tests.
    const SLICE: usize = 100;

    /// A shard's end of a connection with small buffers, the peer's end, and bytes to send from.
    struct Pair {
        net: MioNet,
        conns: Connections<TcpStream>,
        id: ConnId,
        peer: std::net::TcpStream,
        writer: Writer<RawFd>,
        stats: Stats,
    }

    impl Pair {
        /// Runs a test with each way of sending that this kernel supports.
        fn each_way(test: impl Fn(Self)) {
            test(Self::new(false));
            let together = Self::new(true);
            if together.net.sends_together() {
                test(together);
            }
        }

        fn new(ring: bool) -> Self {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            SockRef::from(&listener).set_recv_buffer_size(4_096).unwrap();
            let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            SockRef::from(&socket).set_send_buffer_size(4_096).unwrap();
            socket.set_nonblocking(true).unwrap();
            let (peer, from) = listener.accept().unwrap();
            let conn = Connection::new(
                TcpStream::from_std(socket),
                from.ip(),
                Some(Shutdown::new(1).enter()),
            );
            let mut conns = Connections::default();
            let id = conns.insert(conn);
            let net = MioNet::new(Poll::new().unwrap(), listener, ring).unwrap();
            let (writer, stats) = (Writer::new(SLICE), Stats::default());
            Self { net, conns, id, peer, writer, stats }
        }

        /// Adds connections, and returns their ids with the peers' ends.
        fn peers(&mut self, count: usize) -> Vec<(ConnId, std::net::TcpStream)> {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let peer = |_| {
                let socket = std::net::TcpStream::connect(address).unwrap();
                socket.set_nonblocking(true).unwrap();
                let (peer, from) = listener.accept().unwrap();
                let live = Some(Shutdown::new(1).enter());
                let conn = Connection::new(TcpStream::from_std(socket), from.ip(), live);
                (self.conns.insert(conn), peer)
            };
            (0..count).map(peer).collect()
        }

        /// Appends the same bytes for these connections.
        fn link(&mut self, to: &[(ConnId, std::net::TcpStream)], bytes: Span, crowd: bool) {
            for (id, _) in to {
                let conn = self.conns.get_mut(*id).unwrap();
                self.writer.link(id.index, conn, bytes, false, crowd);
            }
        }

        fn flush(&mut self, bytes: &[u8]) {
            self.writer.flush(&mut self.net, &mut self.conns, bytes, &self.stats);
        }

        fn conn(&mut self) -> &mut Connection<TcpStream> {
            self.conns.get_mut(self.id).unwrap()
        }

        /// Runs a turn that sends these spans of `bytes`.
        fn turn(&mut self, bytes: &[u8], chunks: &[(u32, u32, bool)]) {
            for &(start, end, volatile) in chunks {
                let conn = self.conns.get_mut(self.id).unwrap();
                self.writer.link(self.id.index, conn, Span { start, end }, volatile, false);
            }
            self.flush(bytes);
        }

        /// Lets the peer read until all bytes are written and read, and returns them.
        fn drain(mut self) -> Vec<u8> {
            let mut got = Vec::new();
            let mut buffer = [0; 65_536];
            while !self.conn().unsent.is_empty() {
                let count = self.peer.read(&mut buffer).unwrap();
                got.extend_from_slice(&buffer[..count]);
                let conn = self.conns.get_mut(self.id).unwrap();
                self.writer.resume(&mut self.net, conn);
                self.writer.counts.show(&self.stats);
            }
            assert_eq!(self.stats.unsent.get(), 0);
            drop(self.conns.remove(self.id));
            self.peer.read_to_end(&mut got).unwrap();
            got
        }
    }

    #[test]
    fn adjacent_chunks_are_merged_into_one_send() {
        Pair::each_way(|mut pair| {
            pair.turn(b"abcdef", &[(0, 2, false), (2, 4, false), (4, 4, false), (4, 6, false)]);
            assert_eq!((pair.stats.sends.get(), pair.stats.bytes_out.get()), (1, 6));
            assert_eq!(pair.drain(), b"abcdef");
        });
    }

    #[test]
    fn scattered_chunks_are_sent_in_order_with_one_call() {
        Pair::each_way(|mut pair| {
            pair.turn(b"cdxabyef", &[(3, 5, false), (0, 2, false), (6, 8, true)]);
            assert_eq!(pair.stats.sends.get(), 1);
            assert_eq!(pair.drain(), b"abcdef");
        });
    }

    #[test]
    fn more_chunks_than_slices_are_sent_in_order() {
        Pair::each_way(|mut pair| {
            let bytes: Vec<u8> = (0..=255).collect();
            let chunks: Vec<(u32, u32, bool)> = (0..200).rev().map(|n| (n, n + 1, false)).collect();
            pair.turn(&bytes, &chunks);
            let expected: Vec<u8> = (0..200).rev().collect();
            assert_eq!(pair.drain(), expected);
        });
    }

    #[test]
    fn bytes_that_the_kernel_rejects_are_queued_and_sent_in_order() {
        Pair::each_way(|mut pair| {
            let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
            let (half, end) = (bytes.len() as u32 / 2, bytes.len() as u32);
            pair.turn(&bytes, &[(0, half, false)]);
            assert!(!pair.conn().unsent.is_empty());
            assert_eq!(pair.writer.troubled, [pair.id]);
            pair.turn(&bytes, &[(half, end, false)]);
            assert_eq!(pair.stats.unsent.get(), pair.conn().unsent.len() as u64);
            assert!(pair.drain() == bytes);
        });
    }

    #[test]
    fn a_volatile_frame_is_written_whole_or_not_at_all() {
        Pair::each_way(|mut pair| {
            // Frames of 1 000 equal bytes, offered one by one and in pairs until many are rejected.
            let bytes: Vec<u8> = (0..=255_u8).flat_map(|n| [n; 1_000]).collect();
            for n in 0..20_000 {
                let start = n % 256 * 1_000;
                let other = (n + 7) % 256 * 1_000;
                let chunks = [(start, start + 1_000, true), (other, other + 1_000, true)];
                pair.turn(&bytes, &chunks[..1 + n as usize % 2]);
            }
            assert!(pair.stats.volatile_dropped.get() > 1_000);
            assert!(pair.conn().unsent.len() < 1_000);
            let got = pair.drain();
            assert_eq!(got.len() % 1_000, 0);
            assert!(got.chunks(1_000).all(|frame| frame.iter().all(|byte| *byte == frame[0])));
        });
    }

    #[test]
    fn reliable_chunks_are_queued_while_volatile_ones_are_dropped() {
        Pair::each_way(|mut pair| {
            let bytes = vec![7; 3_000_000];
            pair.turn(&bytes, &[(0, 3_000_000, false)]);
            let before = pair.conn().unsent.len();
            pair.turn(b"vvkkvv", &[(0, 2, true), (2, 4, false), (4, 6, true)]);
            assert_eq!(pair.conn().unsent.len(), before + 2);
            assert_eq!(pair.stats.volatile_dropped.get(), 2);
            assert!(pair.drain().ends_with(b"\x07kk"));
        });
    }

    #[test]
    fn a_lost_peer_breaks_the_connection_once() {
        Pair::each_way(|mut pair| {
            SockRef::from(&pair.peer).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            pair.peer = std::net::TcpStream::connect(
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap(),
            )
            .unwrap();
            while !pair.conn().broken {
                pair.turn(b"x", &[(0, 1, false)]);
            }
            assert_eq!(pair.writer.troubled, [pair.id]);
            pair.turn(b"x", &[(0, 1, false)]);
            assert_eq!(pair.writer.troubled.len(), 1);
            assert!(pair.conn().unsent.is_empty());
        });
    }

    #[test]
    fn each_of_many_connections_receives_its_own_bytes() {
        Pair::each_way(|mut pair| {
            let mut peers = pair.peers(600);
            let bytes: Vec<u8> = (0..2_400_u32).map(|n| (n / 4) as u8).collect();
            for (n, (id, _)) in (0..).zip(&peers) {
                let conn = pair.conns.get_mut(*id).unwrap();
                pair.writer.link(
                    id.index,
                    conn,
                    Span { start: 4 * n, end: 4 * n + 4 },
                    true,
                    false,
                );
            }
            pair.flush(&bytes);
            assert_eq!((pair.stats.sends.get(), pair.stats.bytes_out.get()), (600, 2_400));
            for (n, (_, peer)) in peers.iter_mut().enumerate() {
                let mut got = [0; 4];
                peer.read_exact(&mut got).unwrap();
                assert_eq!(got, [n as u8; 4]);
            }
        });
    }

    #[test]
    fn a_crowd_is_written_in_slices_behind_everything_else() {
        Pair::each_way(|mut pair| {
            let mut crowd = pair.peers(250);
            let mut band = pair.peers(8);
            let bytes = b"crowdband";
            pair.link(&crowd, Span { start: 0, end: 5 }, true);
            pair.link(&band, Span { start: 5, end: 9 }, false);
            for sends in [108, 208, 258] {
                assert!(pair.writer.is_behind());
                pair.flush(bytes);
                assert_eq!(pair.stats.sends.get(), sends);
            }
            assert!(!pair.writer.is_behind() && pair.writer.chunks.is_empty());
            for (_, peer) in &mut crowd {
                let mut got = [0; 5];
                peer.read_exact(&mut got).unwrap();
                assert_eq!(&got, b"crowd");
            }
            for (_, peer) in &mut band {
                let mut got = [0; 4];
                peer.read_exact(&mut got).unwrap();
                assert_eq!(&got, b"band");
            }
        });
    }

    #[test]
    fn what_is_sent_to_one_of_a_crowd_takes_its_slice_along() {
        Pair::each_way(|mut pair| {
            let mut crowd = pair.peers(250);
            pair.link(&crowd, Span { start: 0, end: 5 }, true);
            pair.flush(b"crowd");
            // The answer is of a later turn, whose bytes follow those that are kept.
            let last = crowd.split_off(249);
            pair.link(&last, Span { start: 6, end: 9 }, false);
            pair.writer.send_now(crowd[248].0.index);
            pair.flush(b"crowd-yes");
            assert_eq!(pair.stats.sends.get(), 202);
            let [(_, mut last)] = <[_; 1]>::try_from(last).unwrap();
            let mut got = [0; 8];
            last.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"crowdyes");
            crowd[248].1.read_exact(&mut got[..5]).unwrap();
            pair.flush(b"crowd-yes");
            assert_eq!(pair.stats.sends.get(), 250);
            assert!(!pair.writer.is_behind());
        });
    }

    #[test]
    fn more_crowds_than_can_be_kept_are_written_at_once() {
        Pair::each_way(|mut pair| {
            let crowd = pair.peers(250);
            let bytes = vec![b'x'; KEPT_BYTES_MAX + 1];
            pair.link(&crowd, Span { start: 0, end: 1 }, true);
            pair.flush(&bytes);
            assert_eq!(pair.stats.sends.get(), 250);
            assert!(!pair.writer.is_behind());
        });
    }
}
