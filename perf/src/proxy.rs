//! A TCP proxy with the delays of a network, true to microseconds.
//!
//! One thread forwards all connections. The kernel stamps the arrival of bytes, so the time until
//! the proxy runs is part of the delay instead of an addition to it. The proxy sleeps until shortly
//! before the next chunk is due, and then spins. It notes the delay that each chunk really had, so
//! that a measurement can tell whether the machine was quiet enough.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::cpu;
use crate::latency::Times;
use crate::network::{Path, Profile, Way};
use crate::timer_fd::{MICROSECOND, Nanos, SECOND, TimerFd, now};

/// Maximum bytes that wait in one direction. Beyond it the proxy stops reading, and TCP slows the
/// sender down.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// Maximum bytes of one read.
const READ_BYTES: usize = 64 * 1024;

/// Time before a deadline from which the proxy no longer sleeps. Guessed: more than a wake-up takes
/// on a quiet machine.
const AWAKE: Nanos = 250 * MICROSECOND;

/// Time before a deadline from which it no longer reads either. Guessed: more than the reads of a
/// few connections take.
const HANDS_OFF: Nanos = 50 * MICROSECOND;

/// Maximum chunks in the journal. Later ones are only counted.
const JOURNAL_MAX: usize = 1 << 20;

/// Maximum age of an arrival. A stamp beyond it belongs to a wall clock that was set.
const STAMP_AGE_MAX: Nanos = SECOND;

const TIMER: Token = Token(0);
const STOP: Token = Token(1);
const FIRST_DOOR: usize = 2;

/// An entrance of the proxy. All connections through it have the same kind of network.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// The address to listen on; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// The network behind it.
    pub profile: Profile,
}

/// The way of one chunk through the proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Passage {
    /// Number of the connection, in the order of acceptance.
    pub connection: u32,
    /// Its direction.
    pub way: Way,
    /// Arrival on the monotonic clock, as stamped by the kernel.
    pub arrived: Nanos,
    /// The delay that the chunk should have: its own, or the remaining one of the chunk before it.
    pub wanted: Nanos,
    /// The delay that it really had, until the middle of the call that sent its last byte. Over
    /// loopback, the kernel delivers it within that call.
    pub real: Nanos,
    /// Its length in bytes; 0 for the end of the direction.
    pub bytes: usize,
}

/// All that a proxy has forwarded.
#[derive(Debug, Default)]
pub struct Journal {
    /// The chunks, in the order in which they left.
    pub passages: Vec<Passage>,
    /// The time by which each chunk left too late, of all chunks.
    pub lateness: Times,
    /// Chunks that the journal had no room for.
    pub not_listed: u64,
    /// Chunks whose arrival was not stamped by the kernel. Their delay counts from the read.
    pub not_stamped: u64,
}

impl Journal {
    fn add(&mut self, passage: Passage) {
        self.lateness.record(passage.real.saturating_sub(passage.wanted));
        if self.passages.len() < JOURNAL_MAX {
            self.passages.push(passage);
        } else {
            self.not_listed += 1;
        }
    }
}

/// A running proxy. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    addresses: Vec<SocketAddr>,
    is_stopped: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<io::Result<Journal>>>,
}

impl Proxy {
    /// Starts a proxy in front of `server`. Equal seeds give equal delays to equal traffic.
    ///
    /// # Errors
    /// If an address cannot be listened on.
    pub fn start(server: SocketAddr, doors: &[Door], seed: u64) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), STOP)?;
        let timer = TimerFd::new(poll.registry(), TIMER)?;
        let is_stopped = Arc::new(AtomicBool::new(false));
        let mut entrances = Vec::new();
        let mut addresses = Vec::new();
        for (index, door) in doors.iter().enumerate() {
            let mut listener = TcpListener::bind(door.listen)?;
            // Accepted sockets inherit this, so even their first bytes are stamped.
            stamp_arrivals(&listener)?;
            let token = Token(FIRST_DOOR + index);
            poll.registry().register(&mut listener, token, Interest::READABLE)?;
            addresses.push(listener.local_addr()?);
            entrances.push(Entrance { listener, profile: door.profile, accepted: 0 });
        }
        let forwarder = Forwarder {
            poll,
            timer,
            server,
            entrances,
            seed,
            accepted: 0,
            pairs: Vec::new(),
            journal: Journal::default(),
            buffer: vec![0; READ_BYTES],
        };
        let stop = Arc::clone(&is_stopped);
        let thread =
            std::thread::Builder::new().name("proxy".into()).spawn(move || forwarder.run(&stop))?;
        Ok(Self { addresses, is_stopped, waker, thread: Some(thread) })
    }

    /// Returns the addresses of the doors, in their order.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Ends all connections, and returns the journal.
    ///
    /// # Errors
    /// If the proxy has failed.
    pub fn stop(mut self) -> io::Result<Journal> {
        self.end().unwrap_or_else(|| Err(io::Error::other("the proxy has ended already")))
    }

    fn end(&mut self) -> Option<io::Result<Journal>> {
        let thread = self.thread.take()?;
        self.is_stopped.store(true, Ordering::Release);
        let woken = self.waker.wake();
        let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("the proxy panicked")));
        Some(woken.and(ended))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // After an error there is nothing more to end.
        let _ = self.end();
    }
}

/// Bytes on their way, or the end of a direction if there are none.
struct Chunk {
    arrived: Nanos,
    due: Nanos,
    bytes: Vec<u8>,
    written: usize,
}

/// One direction of a connection.
#[derive(Default)]
struct Lane {
    queue: VecDeque<Chunk>,
    waiting: usize,
    /// The time before which no later chunk may leave.
    last_due: Nanos,
    /// Whether the socket may have unread bytes. It reports new ones only once.
    may_read: bool,
    /// Whether the socket may have an end or an error behind its bytes.
    may_end: bool,
    /// Whether the end of the input was read.
    has_ended: bool,
    /// Whether the receiver takes no more bytes at present.
    is_blocked: bool,
    /// Whether the end was passed on.
    is_done: bool,
}

impl Lane {
    /// Queues a chunk. Returns its due time: never before that of an earlier one.
    fn push(&mut self, arrived: Nanos, delay: Nanos, bytes: Vec<u8>) {
        self.last_due = self.last_due.max(arrived + delay);
        self.waiting += bytes.len();
        self.queue.push_back(Chunk { arrived, due: self.last_due, bytes, written: 0 });
    }

    /// Returns the time at which the next chunk leaves; [`Nanos::MAX`] if there is none, or the
    /// receiver has to read first.
    fn due(&self) -> Nanos {
        let next = self.queue.front().filter(|_| !self.is_blocked);
        next.map_or(Nanos::MAX, |chunk| chunk.due)
    }

    fn wants_bytes(&self) -> bool {
        self.may_read && !self.has_ended && self.waiting < WAITING_BYTES_MAX
    }
}

/// A client's connection and its counterpart to the server.
struct Pair {
    number: u32,
    began: Nanos,
    path: Path,
    /// The client's socket and the server's.
    sockets: [TcpStream; 2],
    /// Up and down. Lane `n` reads from socket `n` and writes to the other.
    lanes: [Lane; 2],
}

const WAYS: [Way; 2] = [Way::Up, Way::Down];

impl Pair {
    fn is_done(&self) -> bool {
        self.lanes.iter().all(|lane| lane.is_done)
    }

    fn due(&self) -> Nanos {
        self.lanes[0].due().min(self.lanes[1].due())
    }

    /// Reads all that a lane has room for.
    fn read(&mut self, index: usize, buffer: &mut [u8], journal: &mut Journal) -> io::Result<()> {
        while self.lanes[index].wants_bytes() {
            let (length, stamp) = match receive(&self.sockets[index], buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.lanes[index].may_read = false;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            journal.not_stamped += u64::from(stamp.is_none() && length > 0);
            let arrived = stamp.unwrap_or_else(now);
            let delay = self.path.delay(WAYS[index], arrived.saturating_sub(self.began));
            let lane = &mut self.lanes[index];
            lane.push(arrived, delay, buffer[..length].to_vec());
            lane.has_ended = length == 0;
            // Nothing is left behind a short read, so a second call would only cost time.
            lane.may_read = length == buffer.len() || lane.may_end;
        }
        Ok(())
    }

    /// Writes the chunks of a lane that are due.
    fn write(&mut self, index: usize, journal: &mut Journal) -> io::Result<()> {
        let socket = &mut self.sockets[1 - index];
        let lane = &mut self.lanes[index];
        while lane.due() <= now() {
            let Some(chunk) = lane.queue.front_mut() else { break };
            let mut begun = now();
            if chunk.bytes.is_empty() {
                socket.shutdown(Shutdown::Write)?;
                lane.is_done = true;
            }
            while chunk.written < chunk.bytes.len() {
                begun = now();
                match socket.write(&chunk.bytes[chunk.written..]) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => chunk.written += written,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        lane.is_blocked = true;
                        return Ok(());
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            let left = begun.midpoint(now());
            lane.waiting -= chunk.bytes.len();
            journal.add(Passage {
                connection: self.number,
                way: WAYS[index],
                arrived: chunk.arrived,
                wanted: chunk.due - chunk.arrived,
                real: left.saturating_sub(chunk.arrived),
                bytes: chunk.bytes.len(),
            });
            lane.queue.pop_front();
        }
        Ok(())
    }
}

/// A door that is open.
struct Entrance {
    listener: TcpListener,
    profile: Profile,
    accepted: u64,
}

/// The thread of the proxy.
struct Forwarder {
    poll: Poll,
    timer: TimerFd,
    server: SocketAddr,
    entrances: Vec<Entrance>,
    seed: u64,
    accepted: u32,
    pairs: Vec<Option<Pair>>,
    journal: Journal,
    buffer: Vec<u8>,
}

impl Forwarder {
    fn run(mut self, is_stopped: &AtomicBool) -> io::Result<Journal> {
        // If either is rejected, chunks leave late, and the journal shows it.
        let _ = cpu::run_first();
        cpu::wake_on_time();
        let mut events = Events::with_capacity(256);
        while !is_stopped.load(Ordering::Acquire) {
            let next = self.pairs.iter().flatten().map(Pair::due).min().unwrap_or(Nanos::MAX);
            let remaining = next.saturating_sub(now());
            if remaining <= HANDS_OFF {
                while now() < next {
                    std::hint::spin_loop();
                }
                self.for_each_pair(|pair, _, journal| {
                    pair.write(0, journal)?;
                    pair.write(1, journal)
                });
                // A lane that was full has room again.
                self.read_all();
                continue;
            }
            let patience = if remaining > AWAKE {
                self.timer.set(if next == Nanos::MAX { next } else { next - AWAKE })?;
                None
            } else {
                Some(Duration::ZERO)
            };
            match self.poll.poll(&mut events, patience) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                let door = event.token().0.wrapping_sub(FIRST_DOOR);
                if door < self.entrances.len() {
                    self.accept(door)?;
                } else if let Some((pair, side)) = self.socket(event.token()) {
                    let ready = event.is_readable() || event.is_read_closed() || event.is_error();
                    pair.lanes[side].may_read |= ready;
                    pair.lanes[side].may_end |= event.is_read_closed() || event.is_error();
                    if event.is_writable() {
                        pair.lanes[1 - side].is_blocked = false;
                    }
                }
            }
            self.read_all();
        }
        Ok(self.journal)
    }

    fn read_all(&mut self) {
        self.for_each_pair(|pair, buffer, journal| {
            pair.read(0, buffer, journal)?;
            pair.read(1, buffer, journal)
        });
    }

    /// Runs a step of each connection. One that is done or has failed is closed.
    fn for_each_pair(
        &mut self,
        mut step: impl FnMut(&mut Pair, &mut [u8], &mut Journal) -> io::Result<()>,
    ) {
        for slot in &mut self.pairs {
            let Some(pair) = slot else { continue };
            match step(pair, &mut self.buffer, &mut self.journal) {
                Ok(()) if !pair.is_done() => {}
                Ok(()) => *slot = None,
                Err(_) => {
                    // A reset on one side becomes a reset on the other. If it is rejected, the other
                    // side sees an ordinary end.
                    for socket in &pair.sockets {
                        let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
                    }
                    *slot = None;
                }
            }
        }
    }

    /// Accepts all connections that wait at a door.
    fn accept(&mut self, door: usize) -> io::Result<()> {
        loop {
            let entrance = &mut self.entrances[door];
            let client = match entrance.listener.accept() {
                Ok((client, _)) => client,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The client has gone already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            // Without a server, the client's connection ends at once.
            let Ok(server) = TcpStream::connect(self.server) else { continue };
            // The numbers of a door, as the order in which others are entered is left to chance.
            let seed = self.seed ^ ((door as u64 + 1) << 32) ^ (entrance.accepted << 48);
            let path = Path::new(entrance.profile, seed);
            entrance.accepted += 1;
            let mut sockets = [client, server];
            let slot = self.pairs.iter().position(Option::is_none).unwrap_or(self.pairs.len());
            for (side, socket) in sockets.iter_mut().enumerate() {
                stamp_arrivals(socket)?;
                let both = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(socket, self.token(slot, side), both)?;
                // A connection that is still being made may reject it. Chunks are written whole, so
                // little depends on it.
                let _ = socket.set_nodelay(true);
            }
            let mut lanes = [Lane::default(), Lane::default()];
            // The server's socket takes bytes when it is connected, and reports that.
            lanes[0].is_blocked = true;
            let pair = Pair { number: self.accepted, began: now(), path, sockets, lanes };
            self.accepted += 1;
            if slot == self.pairs.len() {
                self.pairs.push(Some(pair));
            } else {
                self.pairs[slot] = Some(pair);
            }
        }
    }

    fn token(&self, slot: usize, side: usize) -> Token {
        Token(FIRST_DOOR + self.entrances.len() + 2 * slot + side)
    }

    /// Returns the connection and the side of a socket's token.
    fn socket(&mut self, token: Token) -> Option<(&mut Pair, usize)> {
        let number = token.0.checked_sub(FIRST_DOOR + self.entrances.len())?;
        Some((self.pairs.get_mut(number / 2)?.as_mut()?, number % 2))
    }
}

/// Makes the kernel stamp the arrival of bytes.
fn stamp_arrivals(socket: &impl AsRawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: `on` outlives the call, and the size is its own.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Space for the control messages of a read, aligned as the kernel requires.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Reads bytes, and the arrival of the last of them on the monotonic clock if the kernel has
/// stamped it. A length of 0 is the end.
fn receive(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, Option<Nanos>)> {
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a structure of numbers and pointers, for which all zeros means that nothing is set.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: all that `message` points to is ours, outlives the call, and has the given lengths.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut stamp = None;
    // SAFETY: the kernel has filled `message` and its control messages, which these macros walk.
    unsafe {
        let mut head = libc::CMSG_FIRSTHDR(&raw const message);
        while let Some(found) = head.as_ref() {
            if found.cmsg_level == libc::SOL_SOCKET && found.cmsg_type == libc::SCM_TIMESTAMPNS {
                stamp = Some(libc::CMSG_DATA(head).cast::<libc::timespec>().read_unaligned());
            }
            head = libc::CMSG_NXTHDR(&raw const message, head);
        }
    }
    Ok((length as usize, stamp.and_then(monotonic)))
}

/// Converts a stamp of the wall clock, which is the kernel's for packets.
fn monotonic(stamp: libc::timespec) -> Option<Nanos> {
    let mut wall = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `wall`, which outlives it. It cannot fail: the clock exists.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut wall) };
    let nanos = |time: libc::timespec| time.tv_sec * SECOND as i64 + time.tv_nsec;
    let age = Nanos::try_from(nanos(wall) - nanos(stamp)).ok()?;
    (age < STAMP_AGE_MAX).then(|| now().saturating_sub(age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_chunk_overtakes_another() {
        let mut lane = Lane::default();
        for (arrived, delay, due) in [(100, 50, 150), (110, 10, 150), (120, 40, 160)] {
            lane.push(arrived, delay, vec![1]);
            assert_eq!(lane.queue.back().map(|chunk| chunk.due), Some(due));
        }
        assert_eq!((lane.due(), lane.waiting), (150, 3));
        lane.is_blocked = true;
        assert_eq!(lane.due(), Nanos::MAX);
    }

    #[test]
    fn a_full_lane_reads_no_more() {
        let mut lane = Lane { may_read: true, ..Lane::default() };
        assert!(lane.wants_bytes());
        lane.push(0, 0, vec![0; WAITING_BYTES_MAX]);
        assert!(!lane.wants_bytes());
        let ended = Lane { may_read: true, has_ended: true, ..Lane::default() };
        assert!(!ended.wants_bytes());
    }

    #[test]
    fn a_journal_that_is_full_still_counts() {
        let passage = Passage {
            connection: 0,
            way: Way::Up,
            arrived: 0,
            wanted: 1_000,
            real: 5_000,
            bytes: 1,
        };
        let mut journal = Journal { passages: vec![passage; JOURNAL_MAX], ..Journal::default() };
        journal.add(passage);
        assert_eq!((journal.passages.len(), journal.not_listed), (JOURNAL_MAX, 1));
        assert_eq!(journal.lateness.count(), 1);
    }
}
