//! The kernel as a net: sockets watched by epoll, a listener, and io_uring if it is available.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use bandsync_engine::words::ids::ConnId;
use bandsync_engine::words::time::Micros;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use crate::accept::Accept;
use crate::connections::{id, token};
use crate::crowds::Buffers;
use crate::metrics::Stats;
use crate::net::{Accepted, Net, Readiness, SendRequest};
use crate::ring::Ring;
use crate::tls::Tls;

// Tokens that no connection has, because a shard never has that many connections.
const LISTENER: Token = Token(usize::MAX);
pub(crate) const WAKER: Token = Token(usize::MAX - 1);
pub(crate) const TIMER: Token = Token(usize::MAX - 2);

/// The sockets of one shard.
#[derive(Debug)]
pub(crate) struct MioNet {
    poll: Poll,
    accept: Accept,
    ring: Option<Ring>,
    /// Whether the ring works. After a failure it is not used again.
    together: bool,
    /// TLS on all connections, if the server has a certificate.
    tls: Option<Tls>,
}

impl MioNet {
    /// Creates a net with one listener. `ring` says whether sends go through io_uring, if the
    /// kernel has it.
    pub(crate) fn new(poll: Poll, listener: net::TcpListener, ring: bool) -> io::Result<Self> {
        let accept = Accept::new(listener, poll.registry(), LISTENER)?;
        let mut net = Self { poll, accept, ring: None, together: false, tls: None };
        if ring {
            match Ring::new() {
                Ok(ring) => (net.ring, net.together) = (Some(ring), true),
                Err(error) => {
                    log::debug!("io_uring is unavailable, using one send() per socket: {error}")
                }
            }
        }
        Ok(net)
    }

    /// Serves all connections over TLS from now on. Each send is a call of its own then, because its
    /// bytes are encrypted first.
    pub(crate) fn secure(&mut self, tls: Tls) {
        self.tls = Some(tls);
        self.together = false;
    }

    /// Waits for reports, at most for `timeout`.
    pub(crate) fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) {
        match self.poll.poll(events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
            Err(error) => panic!("poll fails: {error}"),
        }
    }

    /// Whether connections may be waiting and can be accepted now.
    pub(crate) fn has_work(&self) -> bool {
        self.accept.is_ready()
    }

    /// Returns the time at which accepting resumes, if it is paused.
    pub(crate) fn next_deadline(&self) -> Option<Micros> {
        self.accept.resumes()
    }

    fn freed(&mut self) {
        self.accept.freed();
    }
}

/// Converts a report of epoll to the form that a turn expects. Returns `None` for the timer, which
/// only wakes the shard.
pub(crate) fn readiness(event: &Event) -> Option<Readiness> {
    Some(match event.token() {
        LISTENER => Readiness::Listener,
        WAKER => Readiness::Mailbox,
        TIMER => return None,
        token => Readiness::Connection {
            id: id(token),
            readable: event.is_readable(),
            writable: event.is_writable(),
            hangup: event.is_read_closed() || event.is_write_closed() || event.is_error(),
        },
    })
}

impl Net for MioNet {
    type Socket = TcpStream;
    type Key = RawFd;

    fn read(&mut self, socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => socket.read(buffer),
            Some(tls) => tls.session(socket.as_raw_fd())?.read(socket, buffer),
        }
    }

    #[inline]
    fn send(&mut self, socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Some(tls) = &mut self.tls {
            return tls.session(socket.as_raw_fd())?.send(socket, slices);
        }
        // Both are `send` with `MSG_NOSIGNAL` on a non-blocking socket.
        match slices {
            [bytes] => {
                let mut socket = socket;
                taken(|| socket.write(bytes))
            }
            _ => {
                let socket = SockRef::from(socket);
                taken(|| socket.send_vectored_with_flags(slices, libc::MSG_NOSIGNAL))
            }
        }
    }

    fn key(&self, socket: &TcpStream) -> RawFd {
        socket.as_raw_fd()
    }

    fn sends_together(&self) -> bool {
        self.together
    }

    fn send_all(&mut self, requests: &[SendRequest<RawFd>], buffers: Buffers<'_>) {
        if let Some(ring) = &mut self.ring
            && let Err(error) = ring.send(requests, buffers)
        {
            log::warn!("io_uring failed, using one send() per socket from now on: {error}");
            self.together = false;
        }
    }

    fn sent(&self, index: usize) -> Option<io::Result<usize>> {
        self.ring.as_ref()?.result(index)
    }

    fn watch(&mut self, socket: &mut TcpStream, id: ConnId) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.take_in(socket.as_raw_fd());
        }
        let token = token(id);
        debug_assert!(![LISTENER, WAKER, TIMER].contains(&token), "{id} has a reserved token");
        self.poll.registry().register(socket, token, Interest::READABLE)
    }

    fn await_writable(
        &mut self,
        socket: &mut TcpStream,
        id: ConnId,
        awaits: bool,
    ) -> io::Result<()> {
        let interest =
            if awaits { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        self.poll.registry().reregister(socket, token(id), interest)
    }

    fn unwatch(&mut self, id: ConnId, mut socket: TcpStream) -> TcpStream {
        if self.poll.registry().deregister(&mut socket).is_err() {
            log::debug!(conn:% = id; "the connection was not registered");
        }
        if let Some(tls) = &mut self.tls {
            tls.hand_over(socket.as_raw_fd());
        }
        // mio ties a socket to the poll that it was first registered with, so this makes a new one
        // of the same descriptor.
        TcpStream::from(OwnedFd::from(socket))
    }

    fn shut_down(&mut self, socket: &TcpStream) -> io::Result<()> {
        match &mut self.tls {
            None => socket.shutdown(net::Shutdown::Write),
            Some(tls) => tls.session(socket.as_raw_fd())?.shut_down(socket),
        }
    }

    fn close(&mut self, socket: TcpStream) {
        if let Some(tls) = &mut self.tls {
            tls.close(socket.as_raw_fd());
        }
        drop(socket);
        self.freed();
    }

    fn reset(&mut self, socket: TcpStream) {
        // If the kernel rejects, an ordinary close is the only way left.
        let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        self.close(socket);
    }

    fn report_listener(&mut self) {
        self.accept.report();
    }

    fn accept(&mut self, now: Micros, stats: &Stats) -> Accepted<TcpStream> {
        let accepted = self.accept.accept(now, stats);
        if let (Some(tls), Accepted::Connection(socket, _)) = (&mut self.tls, &accepted)
            && let Err(error) = tls.open(socket.as_raw_fd())
        {
            log::warn!("a connection cannot be served over TLS: {error}");
            return Accepted::Skipped;
        }
        accepted
    }
}

/// Repeats a call while signals interrupt it. A full socket counts as 0 bytes.
fn taken(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            result => return result,
        }
    }
}
