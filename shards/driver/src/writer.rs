//! The write path: collects the bytes that a turn sends to each connection, and writes them with
//! one call at the end of the turn.
//!
//! Bytes are not copied: chunks are places in [`Outputs::bytes`](bandsync_engine::io::Outputs),
//! linked into one chain per connection. Only bytes that the kernel rejects are copied, to the
//! connection's unsent bytes. If the kernel has io_uring, all chains of a single chunk (nearly
//! always ticks) are sent together.
//!
//! A message to a crowd is linked and written in slices, one a turn, behind everything else that
//! the turn sends: ten thousand sends take 60 ms, and no other band may wait for them. It waits in
//! [`Crowds`] meanwhile. Before anything else is linked to a connection, the messages that it lacks
//! are, so the order within a connection never changes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bandsync_engine::io::Span;
use bandsync_engine::words::ids::ConnId;

use crate::chain::{Chain, NONE};
use crate::connections::{Connection, Connections, Phase};
use crate::crowds::{Buffers, Crowds, OUTPUTS, Piece, Source};
use crate::metrics::Stats;
use crate::net::{Net, SendRequest};

/// Maximum number of slices in one vectored call. A connection has more chunks only if a turn
/// handled very many messages for it; then the cost of a second call does not matter.
const SLICES: usize = 64;

/// Minimum number of sends for io_uring. Measured: below it, io_uring costs more than the calls
/// that it saves.
const TOGETHER_MIN: usize = if cfg!(test) { 1 } else { 3 };

/// Number of bytes for one member that cost as much as one more send. Guessed: copying them into
/// the kernel takes 4 µs or more.
const SEND_BYTES: usize = 16 * 1024;

/// Number of members of a slice whose connections are prefetched together.
const PREFETCHED: usize = 16;

/// The chunks of this turn for all connections, and the messages that wait for later turns. The
/// lists keep their memory from turn to turn.
#[derive(Debug)]
pub(crate) struct Writer<K> {
    chains: Chains,
    /// Places of connections that are written before all others.
    first: Vec<u32>,
    crowds: Crowds,
    /// Maximum number of connections that a turn writes to.
    writes: usize,
    /// Connections whose bytes exceeded that. They are among their unsent bytes, and no connection
    /// waits for its socket.
    left_over: VecDeque<ConnId>,
    /// Connections that have unsent bytes or broke in [`Writer::flush`]. The turn takes them.
    pub(crate) troubled: Vec<ConnId>,
    counts: Counts,
    /// Sends that go out together.
    requests: Vec<SendRequest<K>>,
    /// The connection's index and the chunk of each of these sends.
    waiting: Vec<(u32, u32)>,
}

/// The chunks of this turn.
#[derive(Debug, Default)]
struct Chains {
    chunks: Vec<Chunk>,
    /// Places of the connections that have chunks, in the order of their first chunks.
    touched: Vec<u32>,
}

/// A piece of bytes for one connection.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    span: Span,
    /// The next chunk for the same connection.
    next: u32,
    source: Source,
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

impl Chunk {
    fn piece(self) -> Piece {
        Piece { span: self.span, source: self.source }
    }
}

impl Chains {
    /// Appends a piece to the chain of the connection at `index`. Runs once per receiver of a
    /// fanout.
    #[inline]
    fn link(&mut self, index: u32, chain: &mut Chain, piece: Piece, volatile: bool) {
        let Piece { span, source } = piece;
        if span.start == span.end {
            return;
        }
        let chunk = self.chunks.len() as u32;
        if *chain == Chain::EMPTY {
            *chain = Chain { first: chunk, last: chunk };
            self.touched.push(index);
        } else {
            let last = &mut self.chunks[chain.last as usize];
            // Answers to one connection mostly lie side by side: then they make one chunk and one
            // `send`.
            let is_beside = last.span.end == span.start && last.source == source;
            if is_beside && !last.volatile && !volatile {
                last.span.end = span.end;
                return;
            }
            last.next = chunk;
            chain.last = chunk;
        }
        self.chunks.push(Chunk { span, next: NONE, source, volatile });
    }
}

impl<K> Writer<K> {
    /// Creates a writer that writes to at most `writes` connections a turn.
    pub(crate) fn new(writes: usize) -> Self {
        Self {
            writes,
            left_over: VecDeque::new(),
            chains: Chains::default(),
            first: Vec::new(),
            crowds: Crowds::default(),
            troubled: Vec::new(),
            counts: Counts::default(),
            requests: Vec::new(),
            waiting: Vec::new(),
        }
    }
}

impl<K: Copy> Writer<K> {
    /// Appends bytes of this turn's outputs to the chain of the connection at `index`, behind the
    /// messages to crowds that it lacks.
    #[inline]
    pub(crate) fn link<S>(
        &mut self,
        index: u32,
        conn: &mut Connection<S>,
        bytes: Span,
        volatile: bool,
    ) {
        if self.crowds.is_behind() {
            self.catch_up(index, conn); // mark: crowd_overtaken
        }
        self.chains.link(index, &mut conn.chain, Piece { span: bytes, source: OUTPUTS }, volatile);
    }

    /// Has `bytes` linked to many connections, some in each turn. Returns false if too much waits;
    /// then the caller links them now.
    #[must_use]
    pub(crate) fn link_later(
        &mut self,
        bytes: &[u8],
        volatile: bool,
        to: impl Iterator<Item = u32>,
    ) -> bool {
        self.crowds.add(bytes, volatile, to)
    }

    /// Links the messages to crowds that the connection at `index` lacks, because something else
    /// follows them or the connection leaves.
    pub(crate) fn catch_up<S>(&mut self, index: u32, conn: &mut Connection<S>) {
        let chains = &mut self.chains;
        self.crowds.take(index, |piece, volatile| {
            chains.link(index, &mut conn.chain, piece, volatile);
        });
    }

    /// Drops the messages to crowds that the connection at `index` lacks, because it is gone.
    pub(crate) fn forget(&mut self, index: u32) {
        self.crowds.take(index, |_, _| {});
    }

    /// Links what the next members of crowds lack: as much as costs about `sends` sends.
    pub(crate) fn link_slice<S>(&mut self, conns: &mut Connections<S>, mut sends: usize) {
        while sends > 0 && self.crowds.is_behind() {
            let mut next = [0; PREFETCHED];
            let mut count = 0;
            while count < PREFETCHED.min(sends)
                && let Some(index) = self.crowds.next()
            {
                next[count] = index;
                count += 1;
            }
            conns.fetch(next[..count].iter().copied());
            for index in &next[..count] {
                let before = self.chains.chunks.len();
                match conns.at_mut(*index) {
                    Some((_, conn)) if conn.phase == Phase::Open => self.catch_up(*index, conn),
                    _ => self.forget(*index),
                }
                let linked = self.chains.chunks[before..].iter();
                let bytes: usize = linked.map(|chunk| chunk.span.range().len()).sum();
                sends = sends.saturating_sub(1 + bytes / SEND_BYTES);
                if sends == 0 {
                    break;
                }
            }
        }
    }

    /// Has the chain of the connection at `index` written before all others.
    pub(crate) fn send_first(&mut self, index: u32) {
        self.first.push(index);
    }

    /// Returns the number of connections that this turn writes so far.
    pub(crate) fn touched(&self) -> usize {
        self.chains.touched.len()
    }

    /// Whether bytes wait for a later turn.
    pub(crate) fn is_behind(&self) -> bool {
        self.crowds.is_behind() || !self.left_over.is_empty()
    }

    /// Takes the next connection that an earlier turn had no time for.
    pub(crate) fn next_left_over(&mut self) -> Option<ConnId> {
        self.left_over.pop_front()
    }

    /// Writes the chains of this turn, each with one call or together if the net can, and clears
    /// them. Chains beyond the most that a turn writes are copied to the unsent bytes. `outputs` are
    /// the bytes of the turn's outputs.
    pub(crate) fn flush<N: Net<Key = K>>(
        &mut self,
        net: &mut N,
        conns: &mut Connections<N::Socket>,
        outputs: &[u8],
        stats: &Stats,
    ) {
        let Chains { chunks, touched } = &mut self.chains;
        let bytes = self.crowds.buffers(outputs);
        let together = net.sends_together() && touched.len() >= TOGETHER_MIN;
        let mut left = self.writes;
        for index in self.first.drain(..).chain(touched.drain(..)) {
            // If the connection closed since, its place may be empty, or have a new user whose
            // chain is empty or already written.
            let Some((id, conn)) = conns.at_mut(index) else { continue };
            let chain = std::mem::replace(&mut conn.chain, Chain::EMPTY);
            if chain == Chain::EMPTY || conn.broken {
                continue;
            }
            if left == 0 {
                let rest = Rest { chunks, bytes, index: chain.first, skip: 0 };
                let troubled = if conn.unsent.is_empty() {
                    self.left_over.push_back(id);
                    rest.leave_over(conn, &mut self.counts)
                } else {
                    rest.settle(conn, Ok(()), &mut self.counts)
                };
                self.troubled.extend(troubled.then_some(id));
                continue;
            }
            left -= 1;
            if !conn.unsent.is_empty() && !conn.awaits_writable {
                // They are left over: its socket may accept all.
                self.counts.resume(net, conn);
            }
            if together && chain.first == chain.last && conn.unsent.is_empty() {
                let bytes = chunks[chain.first as usize].piece();
                self.requests.push(SendRequest { socket: net.key(&conn.socket), bytes });
                self.waiting.push((index, chain.first));
                continue;
            }
            let rest = Rest { chunks, bytes, index: chain.first, skip: 0 };
            if rest.write_or_keep(net, conn, &mut self.counts) {
                self.troubled.push(id);
            }
        }
        self.flush_together(net, conns, outputs);
        self.chains.chunks.clear();
        self.crowds.retire();
        self.counts.show(stats);
    }

    /// Sends the requests that go out together.
    fn flush_together<N: Net<Key = K>>(
        &mut self,
        net: &mut N,
        conns: &mut Connections<N::Socket>,
        outputs: &[u8],
    ) {
        if self.requests.is_empty() {
            return;
        }
        let (chunks, bytes) = (&self.chains.chunks, self.crowds.buffers(outputs));
        net.send_all(&self.requests, bytes);
        for (request, (index, chunk)) in self.waiting.drain(..).enumerate() {
            let result = net.sent(request);
            // Nearly always the chunk was sent whole. Then the connection is not touched: the sends
            // have pushed it out of the cache.
            if let Some(Ok(count)) = result
                && count == chunks[chunk as usize].span.range().len()
            {
                self.counts.sends += 1;
                self.counts.bytes += count as u64;
                continue;
            }
            let Some((id, conn)) = conns.at_mut(index) else { continue };
            let mut rest = Rest { chunks, bytes, index: chunk, skip: 0 };
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
        self.counts.resume(net, conn);
    }
}

impl Counts {
    fn resume<N: Net>(&mut self, net: &mut N, conn: &mut Connection<N::Socket>) {
        let before = conn.unsent.len();
        while !conn.unsent.is_empty() && !conn.broken {
            match net.send(&conn.socket, &[IoSlice::new(conn.unsent.front())]) {
                Ok(0) => break,
                Ok(count) => {
                    self.sends += 1;
                    self.bytes += count as u64;
                    conn.unsent.wrote(count);
                }
                Err(_) => {
                    conn.broken = true;
                    conn.unsent.clear();
                }
            }
        }
        self.freed += (before - conn.unsent.len()) as u64;
    }

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
    bytes: Buffers<'a>,
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
                let bytes = &self.bytes.of(chunk.piece())[self.skip..];
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

    /// Keeps all bytes for a later turn, because this one has no time. Also volatile ones: the
    /// socket is not known to be full. Returns true if the connection broke.
    fn leave_over<S>(mut self, conn: &mut Connection<S>, counts: &mut Counts) -> bool {
        while self.index != NONE && !conn.broken {
            let chunk = self.chunks[self.index as usize];
            conn.broken = !conn.unsent.push(self.bytes.of(chunk.piece()));
            self.index = chunk.next;
        }
        if conn.broken {
            conn.unsent.clear();
        }
        counts.kept += conn.unsent.len() as u64;
        conn.broken
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
            let bytes = &self.bytes.of(chunk.piece())[skip..];
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
            let left = chunk.span.range().len() - self.skip;
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
            } else if !conn.unsent.push(&self.bytes.of(chunk.piece())[self.skip..]) {
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

    /// Number of members of a crowd that a turn serves in these tests.
    const SLICE: usize = 100;

    /// Number of connections that a turn writes to in these tests.
    const WRITES: usize = 700;

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
            let (writer, stats) = (Writer::new(WRITES), Stats::default());
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

        /// Appends the same bytes of the turn's outputs for these connections.
        fn link(&mut self, to: &[(ConnId, std::net::TcpStream)], bytes: Span) {
            for (id, _) in to {
                let conn = self.conns.get_mut(*id).unwrap();
                self.writer.link(id.index, conn, bytes, false);
            }
        }

        /// Sends a message to a crowd.
        fn tell(&mut self, to: &[(ConnId, std::net::TcpStream)], bytes: &[u8]) {
            let to = to.iter().map(|(id, _)| id.index);
            assert!(self.writer.link_later(bytes, false, to));
        }

        /// Ends a turn in which a slice of the crowds is served.
        fn end_turn(&mut self, outputs: &[u8]) {
            self.writer.link_slice(&mut self.conns, SLICE);
            self.flush(outputs);
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
                self.writer.link(self.id.index, conn, Span { start, end }, volatile);
            }
            self.flush(bytes);
            // As the turn does: the net reports when the socket has room.
            let conn = self.conn();
            conn.awaits_writable = !conn.unsent.is_empty();
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
                pair.writer.link(id.index, conn, Span { start: 4 * n, end: 4 * n + 4 }, true);
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

    /// Reads from a peer as many bytes as are expected, and compares them.
    fn expect(peer: &mut std::net::TcpStream, expected: &[u8]) {
        let mut got = vec![0; expected.len()];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(expected));
    }

    #[test]
    fn a_crowd_is_served_in_slices_behind_everything_else() {
        Pair::each_way(|mut pair| {
            let mut crowd = pair.peers(250);
            let mut band = pair.peers(8);
            pair.tell(&crowd, b"crowd");
            pair.link(&band, Span { start: 0, end: 4 });
            for sends in [108, 208, 258] {
                assert!(pair.writer.is_behind());
                pair.end_turn(b"band");
                assert_eq!(pair.stats.sends.get(), sends);
            }
            assert!(!pair.writer.is_behind() && pair.writer.chains.chunks.is_empty());
            crowd.iter_mut().for_each(|(_, peer)| expect(peer, b"crowd"));
            band.iter_mut().for_each(|(_, peer)| expect(peer, b"band"));
        });
    }

    #[test]
    fn a_crowd_that_is_behind_takes_one_write_per_member() {
        Pair::each_way(|mut pair| {
            let mut crowd = pair.peers(250);
            for text in [&b"one"[..], b"two", b"three"] {
                pair.tell(&crowd, text);
            }
            for sends in [100, 200, 250] {
                pair.end_turn(b"");
                assert_eq!(pair.stats.sends.get(), sends);
            }
            assert!(!pair.writer.is_behind());
            crowd.iter_mut().for_each(|(_, peer)| expect(peer, b"onetwothree"));
        });
    }

    #[test]
    fn what_is_sent_to_one_of_a_crowd_follows_what_it_lacks() {
        Pair::each_way(|mut pair| {
            let mut crowd = pair.peers(250);
            pair.tell(&crowd, b"crowd");
            pair.tell(&crowd[..200], b"more");
            pair.link(&crowd[..1], Span { start: 0, end: 3 });
            let (leaver, _) = crowd[249];
            pair.writer.catch_up(leaver.index, pair.conns.get_mut(leaver).unwrap());
            pair.flush(b"yes");
            assert_eq!(pair.stats.sends.get(), 2);
            expect(&mut crowd[0].1, b"crowdmoreyes");
            expect(&mut crowd[249].1, b"crowd");
            (0..3).for_each(|_| pair.end_turn(b""));
            assert_eq!(pair.stats.sends.get(), 250);
            crowd[1..200].iter_mut().for_each(|(_, peer)| expect(peer, b"crowdmore"));
            crowd[200..249].iter_mut().for_each(|(_, peer)| expect(peer, b"crowd"));
        });
    }

    #[test]
    fn a_connection_that_is_gone_leaves_nothing_to_the_next_in_its_slot() {
        Pair::each_way(|mut pair| {
            let mut crowd = pair.peers(3);
            pair.tell(&crowd, b"crowd");
            let (gone, _) = crowd.remove(1);
            drop(pair.conns.remove(gone));
            pair.writer.forget(gone.index);
            let mut next = pair.peers(1);
            assert_eq!(next[0].0.index, gone.index);
            pair.tell(&next, b"hello");
            pair.end_turn(b"");
            assert!(!pair.writer.is_behind());
            expect(&mut next[0].1, b"hello");
        });
    }

    #[test]
    fn more_connections_than_a_turn_writes_to_wait_for_the_next_turns() {
        Pair::each_way(|mut pair| {
            let mut peers = pair.peers(WRITES + 50);
            pair.link(&peers, Span { start: 0, end: 4 });
            pair.flush(b"one ");
            assert_eq!(pair.stats.sends.get(), WRITES as u64);
            assert_eq!(pair.stats.unsent.get(), 4 * 50);
            assert!(pair.writer.is_behind() && pair.writer.troubled.is_empty());
            // Something else for a connection that waits: it follows.
            pair.link(&peers[WRITES + 49..], Span { start: 0, end: 3 });
            pair.flush(b"two");
            while let Some(id) = pair.writer.next_left_over() {
                let conn = pair.conns.get_mut(id).unwrap();
                pair.writer.resume(&mut pair.net, conn);
            }
            pair.flush(b"");
            assert!(!pair.writer.is_behind());
            assert_eq!(pair.stats.unsent.get(), 0);
            let (_, last) = peers.last_mut().unwrap();
            expect(last, b"one two");
            peers[..WRITES + 49].iter_mut().for_each(|(_, peer)| expect(peer, b"one "));
        });
    }

    #[test]
    fn long_messages_make_short_slices() {
        Pair::each_way(|mut pair| {
            let mut crowd = pair.peers(40);
            let bytes = vec![b'x'; 4 * SEND_BYTES];
            pair.tell(&crowd, &bytes);
            pair.end_turn(b"");
            assert_eq!(pair.stats.sends.get(), 20);
            pair.end_turn(b"");
            assert!(!pair.writer.is_behind());
            crowd.iter_mut().for_each(|(_, peer)| expect(peer, &bytes[..1_000]));
        });
    }
}
