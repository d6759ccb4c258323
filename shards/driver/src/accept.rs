//! Listens: one socket per shard, all on one port. The kernel spreads connections over them. If
//! another program has opened the only socket, all shards accept from that.
//!
//! If the process runs out of descriptors, waiting connections are rejected at once instead of
//! being left to time out, and accepting pauses.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bandsync_engine::words::time::Micros;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::metrics::Stats;
use crate::net::Accepted;

/// Maximum number of connections that wait in the kernel to be accepted. The kernel has a limit of
/// its own, `somaxconn`.
const BACKLOG: i32 = 4_096;

/// Unsent bytes that the kernel accepts from a connection. Small, so that a slow reader misses
/// ticks: with megabytes of buffer it would receive them seconds late.
const NOTSENT_BYTES: u32 = 16 * 1024;

/// Pause in accepting after descriptors ran out. It ends earlier if a connection closes.
const PAUSE: Micros = Micros::from_millis(100);

/// Maximum number of connections that are rejected before a pause.
const REJECTIONS: u32 = 64;

/// Time without a shortage of descriptors after which the next one is logged again.
const QUIET: Micros = Micros::from_secs(10);

/// Binds one listener per shard to the same address. `::` includes IPv4; if the machine has no
/// IPv6, it means IPv4 alone. Port 0 selects a free port.
pub(crate) fn bind(host: IpAddr, port: u16, shards: u16) -> io::Result<Vec<std::net::TcpListener>> {
    match bind_address(SocketAddr::new(host, port), shards) {
        Err(error) if host == Ipv6Addr::UNSPECIFIED && lacks_ipv6(&error) => {
            bind_address(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), shards)
        }
        result => result,
    }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn bind_address(address: SocketAddr, shards: u16) -> io::Result<Vec<std::net::TcpListener>> {
    // A shared port could be shared with another server as well, and each would receive half of
    // the band. Binding it unshared first fails if any other program has it.
    let mut address = address;
    let alone = bind_socket(address, false)?;
    if let Some(bound) = alone.local_addr()?.as_socket() {
        address.set_port(bound.port());
    }
    drop(alone);
    let listen = |_| {
        let socket = bind_socket(address, true)?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    (0..shards).map(listen).collect()
}

/// Returns one listener per shard over a socket that another program has opened.
///
/// A waiting connection wakes every shard, and the first one takes it. So connections are spread
/// less evenly than over sockets of their own. A join moves them to the shard of their session.
pub(crate) fn share(
    listener: &std::net::TcpListener,
    shards: u16,
) -> io::Result<Vec<std::net::TcpListener>> {
    prepare(&SockRef::from(listener))?;
    (0..shards).map(|_| listener.try_clone()).collect()
}

/// Sets the options that accepted connections inherit.
fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_BYTES)
}

/// Creates a bound socket.
fn bind_socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != Ipv6Addr::UNSPECIFIED)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    prepare(&socket)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A shard's listener.
#[derive(Debug)]
pub(crate) struct Accept {
    listener: TcpListener,
    /// Whether connections may be waiting. epoll reports them only once.
    ready: bool,
    /// The end of the pause, if descriptors ran out.
    paused: Option<Micros>,
    /// The time at which descriptors last ran out.
    shortage: Option<Micros>,
    /// A descriptor that is closed when there is no other, to accept and reject a connection.
    reserve: Option<File>,
}

impl Accept {
    /// Takes over a listener, whose waiting connections `registry` reports as `token`.
    pub(crate) fn new(
        listener: std::net::TcpListener,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let mut listener = TcpListener::from_std(listener);
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Self { listener, ready: false, paused: None, shortage: None, reserve: reserve().ok() })
    }

    /// Notes that epoll reported waiting connections.
    pub(crate) fn report(&mut self) {
        self.ready = true;
    }

    /// Whether a connection may be waiting and accepting is not paused.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready && self.paused.is_none()
    }

    /// Returns the end of the pause, if accepting is paused.
    pub(crate) fn resumes(&self) -> Option<Micros> {
        self.paused
    }

    /// Ends the pause: a connection was closed, so a descriptor is free again.
    pub(crate) fn freed(&mut self) {
        self.paused = None;
    }

    /// Accepts one connection, if one waits.
    pub(crate) fn accept(&mut self, now: Micros, stats: &Stats) -> Accepted<TcpStream> {
        self.paused.take_if(|until| *until <= now);
        if !self.is_ready() {
            return Accepted::Empty;
        }
        match self.listener.accept() {
            Ok((socket, peer)) => Accepted::Connection(socket, peer.ip().to_canonical()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ready = false;
                Accepted::Empty
            }
            Err(error) if is_shortage(&error) => self.reject(now, &error, stats),
            // The connection broke while it waited: the kernel reports its error through `accept`.
            Err(_) => Accepted::Skipped,
        }
    }

    /// Closes the reserve to accept and close waiting connections, so that their clients need not
    /// wait for a time-out. Then pauses: later connections may be served after it.
    fn reject(&mut self, now: Micros, error: &io::Error, stats: &Stats) -> Accepted<TcpStream> {
        for count in 0..REJECTIONS {
            self.reserve = None;
            let rejected = self.listener.accept();
            let nobody =
                rejected.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            let failed = rejected.is_err();
            drop(rejected);
            self.reserve = reserve().ok();
            self.ready &= !nobody;
            if nobody && count == 0 {
                // Linux demands a free descriptor before it looks for a waiting connection. None
                // waited, so there was no shortage to report.
                return Accepted::Empty;
            }
            if failed {
                break;
            }
            stats.rejected.add(1);
        }
        if self.shortage.is_none_or(|last| now.since(last) >= QUIET) {
            log::warn!("out of descriptors, rejecting new connections until others close: {error}");
        }
        self.shortage = Some(now);
        self.paused = Some(now + PAUSE);
        Accepted::Empty
    }
}

/// Opens a descriptor that is only there to be closed.
fn reserve() -> io::Result<File> {
    File::open("/dev/null")
}

/// Whether the process or the system lacks the descriptors or the memory for another socket.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use mio::{Events, Poll};
    use socket2::SockRef;
    use std::time::Duration;

    #[test]
    fn all_shards_accept_from_a_shared_socket() {
        let opened = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = opened.local_addr().unwrap();
        let listeners = share(&opened, 2).unwrap();
        drop(opened);
        let none = listeners[0].accept().unwrap_err();
        assert_eq!(none.kind(), ErrorKind::WouldBlock);
        for listener in &listeners {
            let _client = std::net::TcpStream::connect(address).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let accepted = SockRef::from(&accepted);
            assert!(accepted.tcp_nodelay().unwrap());
            assert_eq!(accepted.tcp_notsent_lowat().unwrap(), NOTSENT_BYTES);
        }
    }

    #[test]
    fn listeners_share_a_port_that_no_other_server_can_bind() {
        let listeners = bind(Ipv4Addr::LOCALHOST.into(), 0, 3).unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        assert_ne!(port, 0);
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap().port() == port));
        let other = bind(Ipv4Addr::LOCALHOST.into(), port, 1).unwrap_err();
        assert_eq!(other.kind(), ErrorKind::AddrInUse);
        drop(listeners);
        assert!(bind(Ipv4Addr::LOCALHOST.into(), port, 1).is_ok());
    }

    #[test]
    fn the_unspecified_ipv6_address_accepts_ipv4_too() {
        let listeners = bind(Ipv6Addr::UNSPECIFIED.into(), 0, 1).unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        assert!(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    }

    #[test]
    fn accepted_connections_inherit_options_and_have_canonical_addresses() {
        let listener = bind(Ipv6Addr::UNSPECIFIED.into(), 0, 1).unwrap().remove(0);
        let port = listener.local_addr().unwrap().port();
        let mut poll = Poll::new().unwrap();
        let mut accept = Accept::new(listener, poll.registry(), Token(0)).unwrap();
        let stats = Stats::default();
        assert!(matches!(accept.accept(Micros::ZERO, &stats), Accepted::Empty));

        let _peer = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let mut events = Events::with_capacity(1);
        poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
        accept.report();
        let Accepted::Connection(socket, peer) = accept.accept(Micros::ZERO, &stats) else {
            panic!("no connection arrived")
        };
        assert_eq!(peer, IpAddr::from(Ipv4Addr::LOCALHOST));
        assert!(socket.nodelay().unwrap());
        assert_eq!(SockRef::from(&socket).tcp_notsent_lowat().unwrap(), NOTSENT_BYTES);
        assert!(matches!(accept.accept(Micros::ZERO, &stats), Accepted::Empty));
        assert!(!accept.is_ready());
    }
}
