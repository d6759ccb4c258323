//! The two seams of a turn: a [`Net`] carries bytes, and a [`Shell`] is everything else around it.
//!
//! The server runs [`Turn`](crate::turn::Turn) over the kernel and threads. The simulator runs the
//! same turn over wires and a clock of its own. A turn reaches the world through these traits
//! alone.

use std::io::{self, IoSlice};
use std::net::IpAddr;

use bandsync_engine::io::{
    FreeMemory, HttpRequest, HttpResponse, Input, NodeNews, Outputs, StorageEvent,
};
use bandsync_engine::words::ids::{ConnId, ShardId};
use bandsync_engine::words::time::Micros;

use crate::crowds::{Buffers, Piece};
use crate::host::{Asker, NodeOrder, Order};
use crate::machine::Machine;
use crate::mail::Mail;
use crate::metrics::Stats;
use crate::shutdown::LiveGuard;

/// Sockets: the kernel's, or the simulator's wires. No call blocks.
pub trait Net {
    /// A connection's socket.
    type Socket;

    /// The name of a socket in requests: a descriptor, or the index of a wire.
    type Key: Copy;

    /// Reads bytes that have arrived. `Ok(0)` means that the peer has ended its side. If fewer
    /// bytes are returned than `buffer` holds, the socket is empty, and the next bytes are
    /// reported.
    ///
    /// # Errors
    /// `WouldBlock` if nothing has arrived, `Interrupted` if the call should be repeated. After any
    /// other error the connection is broken.
    fn read(&mut self, socket: &mut Self::Socket, buffer: &mut [u8]) -> io::Result<usize>;

    /// Offers bytes, and returns how many were accepted. A full socket accepts 0.
    ///
    /// # Errors
    /// If the connection is broken.
    fn send(&mut self, socket: &Self::Socket, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Returns the name of the socket in a [`SendRequest`].
    fn key(&self, socket: &Self::Socket) -> Self::Key;

    /// Whether [`Net::send_all`] may be used now.
    fn sends_together(&self) -> bool;

    /// Offers bytes to many sockets at once. [`Net::sent`] returns the results.
    fn send_all(&mut self, requests: &[SendRequest<Self::Key>], buffers: Buffers<'_>);

    /// Returns the result of a request by its index in the last [`Net::send_all`]. `None` if the
    /// request was not begun and must be sent by [`Net::send`].
    fn sent(&self, index: usize) -> Option<io::Result<usize>>;

    /// Starts to report input at a new socket, including input that is there already.
    ///
    /// # Errors
    /// If the socket cannot be watched.
    fn watch(&mut self, socket: &mut Self::Socket, id: ConnId) -> io::Result<()>;

    /// Starts or stops to report when a watched socket accepts bytes again.
    ///
    /// # Errors
    /// If the socket can no longer be watched.
    fn await_writable(
        &mut self,
        socket: &mut Self::Socket,
        id: ConnId,
        awaits: bool,
    ) -> io::Result<()>;

    /// Removes a socket from this net, so that another shard's net can watch it.
    fn unwatch(&mut self, id: ConnId, socket: Self::Socket) -> Self::Socket;

    /// Ends our side of a connection: the peer reads all bytes that were sent, then the end.
    ///
    /// # Errors
    /// If the connection is gone.
    fn shut_down(&mut self, socket: &Self::Socket) -> io::Result<()>;

    /// Closes a socket.
    fn close(&mut self, socket: Self::Socket);

    /// Closes a socket by a reset. Bytes that were not delivered are discarded.
    fn reset(&mut self, socket: Self::Socket);

    /// Notes that connections may be waiting at the listener.
    fn report_listener(&mut self);

    /// Accepts one connection, if one waits. Counts rejected ones.
    fn accept(&mut self, now: Micros, stats: &Stats) -> Accepted<Self::Socket>;
}

/// Bytes for one socket.
#[derive(Clone, Copy, Debug)]
pub struct SendRequest<K> {
    /// The socket.
    pub socket: K,
    /// A piece of the buffers that are passed with the requests.
    pub bytes: Piece,
}

/// The result of accepting once.
#[derive(Debug)]
pub enum Accepted<S> {
    /// A connection, and its peer's address.
    Connection(S, IpAddr),
    /// No connection, because it could not be served or has closed. More may wait.
    Skipped,
    /// No connection, because none waits or accepting is paused.
    Empty,
}

/// A report of a net before a turn. It comes once: the turn keeps its cause listed until nothing of
/// it is left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Readiness {
    /// Connections may be waiting at the listener.
    Listener,
    /// Mail may be waiting in the mailbox.
    Mailbox,
    /// A connection's state has changed.
    Connection {
        /// The connection.
        id: ConnId,
        /// Whether input may be waiting.
        readable: bool,
        /// Whether the socket accepts bytes again.
        writable: bool,
        /// Whether an end or an error follows the waiting input.
        hangup: bool,
    },
}

/// The surroundings of a turn: clock, threads, storage, other nodes and process, or the simulator's
/// models of them. No call blocks.
pub trait Shell<N: Net, M: Machine> {
    /// Returns the nanoseconds since the server's start. They never decrease.
    fn nanos(&mut self) -> u64;

    /// Returns the counters of this shard.
    fn stats(&self) -> &Stats;

    /// Observes an input before the machine handles it. Received bytes are still as they were read.
    fn input(&mut self, at: Micros, input: &Input<'_>, machine: &M);

    /// Observes the outputs of that input: those from index `from` of the list on.
    fn outputs(&mut self, outputs: &Outputs, from: usize, machine: &M);

    /// Records the time that the machine took for one input.
    fn measured(&mut self, nanos: u64);

    /// Counts a new connection as long as the guard lives.
    fn enter(&mut self) -> LiveGuard;

    /// Notes that mail may be waiting: see [`Readiness::Mailbox`].
    fn report_mailbox(&mut self);

    /// Calls `open` until it finds the mailbox empty, at most `most` times.
    fn open_mailbox(&mut self, most: usize, open: impl FnMut(&mut Self) -> bool);

    /// Takes the next connection or message from another shard.
    fn mail(&mut self) -> Option<Mail<N::Socket>>;

    /// Takes the next event of the storage.
    fn storage(&mut self) -> Option<StorageEvent>;

    /// Takes the next news from the other nodes of a cluster.
    fn node(&mut self) -> Option<NodeNews>;

    /// Takes the next answer that took longer than a turn.
    fn late_answer(&mut self) -> Option<(ConnId, HttpResponse)>;

    /// Queues mail for another shard until the next [`Shell::deliver`].
    fn post(&mut self, to: ShardId, mail: Mail<N::Socket>);

    /// Delivers queued mail as far as the mailboxes have capacity. The rest waits.
    fn deliver(&mut self);

    /// Returns the number of mails that wait for capacity. While many wait, a turn reads nothing.
    fn unposted(&self) -> usize;

    /// Returns changes of the process. Called once per turn.
    fn process(&mut self, now: Micros) -> Process;

    /// Returns free memory to the system. Called after the machine has dropped its caches.
    fn trim(&mut self);

    /// Announces that this shard has counted its last connection: later ones have no [`LiveGuard`].
    fn stopped(&mut self);

    /// Answers a request that the machine does not answer itself. `None` if the answer comes later.
    fn answer(&mut self, asker: Asker, request: &HttpRequest) -> Option<HttpResponse>;

    /// Queues an order for the storage. Returns false if there is no room; then there will be no
    /// answer.
    fn store(&mut self, order: Order<'_>) -> bool;

    /// Queues an order for the store and the messages that all nodes share. Returns false if there
    /// is no room; then there will be no answer.
    fn tell_nodes(&mut self, order: NodeOrder<'_>) -> bool;
}

/// Changes of the process that a turn reports to the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// Unix time at the server's start, in milliseconds, if the wall clock was set.
    pub started_unix_ms: Option<i64>,
    /// The memory that is left, if it must be reported.
    pub memory: Option<FreeMemory>,
    /// Whether the server is to drain.
    pub drain: bool,
}
