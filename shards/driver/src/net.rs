//! The two seams of a turn: a [`Net`] carries bytes, and a [`Shell`] is everything else around it.
//!
//! The server runs [`Turn`](crate::turn::Turn) between kernel and threads. The simulator runs the
//! same turn between wires and a clock of its own. A turn does nothing outside these two traits.

use std::io::{self, IoSlice};
use std::net::IpAddr;

use bandsync_engine::io::{
    FreeMemory, HttpRequest, HttpResponse, Input, Outputs, Span, StorageEvent,
};
use bandsync_engine::words::ids::{ConnId, ShardId};
use bandsync_engine::words::time::Micros;

use crate::host::{Asker, Order};
use crate::machine::Machine;
use crate::mail::Mail;
use crate::metrics::Stats;
use crate::shutdown::LiveGuard;

/// Sockets: the kernel's, or the simulator's wires. No call blocks.
pub trait Net {
    /// A connection's socket.
    type Socket;

    /// A socket as requests name it: a descriptor, or the index of a wire.
    type Key: Copy;

    /// Reads what has arrived. `Ok(0)`: the peer has ended its side. Fewer bytes than `buffer`
    /// holds: the socket is empty, and what arrives next is reported.
    ///
    /// # Errors
    /// `WouldBlock` if nothing has arrived, `Interrupted` if the call should be repeated. After any
    /// other error the connection is broken.
    fn read(&mut self, socket: &mut Self::Socket, buffer: &mut [u8]) -> io::Result<usize>;

    /// Offers bytes and returns how many were taken. A full socket takes 0.
    ///
    /// # Errors
    /// The connection is broken.
    fn send(&mut self, socket: &Self::Socket, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// The socket as [`SendRequest`] names it.
    fn key(&self, socket: &Self::Socket) -> Self::Key;

    /// Whether [`Net::send_all`] may be used now.
    fn sends_together(&self) -> bool;

    /// Offers bytes to many sockets at once. The results are those of [`Net::sent`].
    fn send_all(&mut self, requests: &[SendRequest<Self::Key>], bytes: &[u8]);

    /// The result of the request at this place of the last [`Net::send_all`]; `None` if it was not
    /// begun and has to be sent by [`Net::send`].
    fn sent(&self, place: usize) -> Option<io::Result<usize>>;

    /// Reports from now on what arrives at a new socket, beginning with what is there already.
    ///
    /// # Errors
    /// The socket cannot be watched.
    fn watch(&mut self, socket: &mut Self::Socket, id: ConnId) -> io::Result<()>;

    /// Reports, or no longer reports, when a watched socket takes bytes again.
    ///
    /// # Errors
    /// The socket can no longer be watched.
    fn await_room(&mut self, socket: &mut Self::Socket, id: ConnId, awaits: bool)
    -> io::Result<()>;

    /// Takes a socket out of this net, for another shard's net to watch.
    fn unwatch(&mut self, id: ConnId, socket: Self::Socket) -> Self::Socket;

    /// Ends our side of a connection: the peer reads what was sent, then the end.
    ///
    /// # Errors
    /// The connection is gone.
    fn shut_down(&mut self, socket: &Self::Socket) -> io::Result<()>;

    /// Closes a socket.
    fn close(&mut self, socket: Self::Socket);

    /// Closes a socket by a reset: what was not delivered is forgotten.
    fn reset(&mut self, socket: Self::Socket);

    /// Connections may be waiting at the listener.
    fn report_listener(&mut self);

    /// Accepts one connection, if there is one. Counts those that are refused.
    fn accept(&mut self, now: Micros, stats: &Stats) -> Accepted<Self::Socket>;
}

/// Bytes for one socket.
#[derive(Clone, Copy, Debug)]
pub struct SendRequest<K> {
    /// The socket.
    pub socket: K,
    /// A place in the bytes that are given with the requests.
    pub bytes: Span,
}

/// The result of accepting once.
#[derive(Debug)]
pub enum Accepted<S> {
    /// A connection, and its peer's address.
    Connection(S, IpAddr),
    /// A connection that could not be served or is gone again; there may be more.
    Nobody,
    /// No connection waits, or it is better to pause.
    Enough,
}

/// What a net reports before a turn. A report comes once: what it is about is handled until nothing
/// is left of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Readiness {
    /// Connections may be waiting at the listener.
    Listener,
    /// Something may be in the mailbox.
    Mailbox,
    /// A connection has news.
    Connection {
        /// The connection.
        id: ConnId,
        /// Whether something may be read.
        readable: bool,
        /// Whether bytes are taken again.
        writable: bool,
        /// Whether an end or an error waits behind what may be read.
        hangup: bool,
    },
}

/// The surroundings of a turn: clock, threads, storage and process, or the simulator's models of
/// them. No call blocks.
pub trait Shell<N: Net, M: Machine> {
    /// Nanoseconds since the server's start. Never goes back.
    fn nanos(&mut self) -> u64;

    /// The counters of this shard.
    fn stats(&self) -> &Stats;

    /// The machine is about to be given `input`; received bytes are still as they were read.
    fn input(&mut self, at: Micros, input: &Input<'_>, machine: &M);

    /// The machine was given that input, and wants done what the list holds from the place `from`
    /// on.
    fn outputs(&mut self, outputs: &Outputs, from: usize, machine: &M);

    /// The machine took so many nanoseconds for one input.
    fn measured(&mut self, nanos: u64);

    /// Counts a new connection for as long as the guard lives.
    fn enter(&mut self) -> LiveGuard;

    /// The mailbox was reported: see [`Readiness::Mailbox`].
    fn report_mailbox(&mut self);

    /// Calls `open` until it finds the mailbox empty, at most so many times.
    fn open_mailbox(&mut self, most: usize, open: impl FnMut(&mut Self) -> bool);

    /// The next connection or message from another shard.
    fn mail(&mut self) -> Option<Mail<N::Socket>>;

    /// The next news of the storage.
    fn storage(&mut self) -> Option<StorageEvent>;

    /// The next answer that took longer than a turn.
    fn late_answer(&mut self) -> Option<(ConnId, HttpResponse)>;

    /// Takes mail for another shard; it leaves with the next [`Shell::deliver`].
    fn post(&mut self, to: ShardId, mail: Mail<N::Socket>);

    /// Delivers what was posted, as far as mailboxes have room. The rest waits.
    fn deliver(&mut self);

    /// Pieces of mail that wait for room. While many wait, a turn reads nothing.
    fn unposted(&self) -> usize;

    /// News of the process. Asked once in a turn.
    fn process(&mut self, now: Micros) -> Process;

    /// Returns free memory to the system: the machine has just dropped what it could.
    fn trim(&mut self);

    /// This shard has counted its last connection: those that it accepts from now on have no
    /// [`LiveGuard`].
    fn stopped(&mut self);

    /// Answers a request that the machine does not answer itself. `None`: the answer comes later.
    fn answer(&mut self, asker: Asker, request: &HttpRequest) -> Option<HttpResponse>;

    /// Takes an order for the storage. False: it has no room, and there will be no answer.
    fn store(&mut self, order: Order<'_>) -> bool;
}

/// What a turn has to tell the machine about the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// Unix time at the server's start, in milliseconds, if the wall clock was set.
    pub started_unix_ms: Option<i64>,
    /// How much memory is left, if the machine is to be told.
    pub memory: Option<FreeMemory>,
    /// Whether the server ends.
    pub drain: bool,
}
