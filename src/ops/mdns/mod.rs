//! Announces the server in the local network as `bandsync.local`, by multicast DNS, so that members
//! need no address.
//!
//! A thread of its own answers, with one socket per interface. Each is bound to the group's address,
//! so it receives multicast of its interface only, and takes nothing from another responder of the
//! machine, such as Avahi, with which it shares the port.

mod host;
mod packet;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{debug, info, warn};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use host::{Host, Link, Out, PORT};

/// First label of the name.
const NAME: &str = "bandsync";

/// The group of multicast DNS. Specified.
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// Time between two looks at the machine's interfaces. Guessed: a laptop that joins a network is
/// announced there after a few seconds.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Packets read in one turn, so that a flood delays no announcement.
const READS_MAX: usize = 64;

/// Bytes of the largest packet. Specified.
const PACKET_MAX: usize = 9_000;

/// Token of the waker; smaller ones are links.
const STOP: Token = Token(usize::MAX);

/// The running responder. Its end takes the name back.
pub struct Responder {
    waker: Waker,
    thread: Option<JoinHandle<()>>,
    /// Receives the first name, until it is awaited.
    names: Option<Receiver<String>>,
}

impl Responder {
    /// Starts the responder of a server that listens on `host`.
    ///
    /// # Errors
    /// The system gives no thread or no means to wait for sockets.
    pub fn start(host: IpAddr) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), STOP)?;
        let (announced, names) = bounded(1);
        let mut work = Work {
            listens: host,
            host: Host::new(NAME),
            sockets: Vec::new(),
            places: Vec::new(),
            poll,
            announced: Some(announced),
            known: String::new(),
            was_quiet: false,
        };
        let run = move || work.run();
        let thread = std::thread::Builder::new().name("mdns".into()).spawn(run)?;
        Ok(Self { waker, thread: Some(thread), names: Some(names) })
    }

    /// Waits until the name is announced, at most this long, and returns it. A later name is in the
    /// log.
    pub fn name(&mut self, within: Duration) -> Option<String> {
        self.names.take()?.recv_timeout(within).ok()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // If it panicked, the log has the panic.
            let _ = thread.join();
        }
    }
}

/// An interface, with what decides whether its socket can stay.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Place {
    name: String,
    /// Index of the interface.
    index: u32,
    /// Address from which packets are sent.
    source: Ipv4Addr,
    /// Addresses at which the server can be reached there.
    addresses: Vec<IpAddr>,
}

/// The thread's own state.
struct Work {
    /// The address that the server listens on.
    listens: IpAddr,
    host: Host,
    sockets: Vec<(Place, UdpSocket)>,
    /// The interfaces at the last look, also those whose socket could not be opened.
    places: Vec<Place>,
    poll: Poll,
    /// Receives the first name.
    announced: Option<Sender<String>>,
    /// The name that was announced last.
    known: String,
    /// Whether the log says already that nothing is announced.
    was_quiet: bool,
}

impl Work {
    fn run(&mut self) {
        let mut events = Events::with_capacity(16);
        let mut look = Instant::now();
        loop {
            let now = Instant::now();
            if now >= look {
                look = now + LOOK_INTERVAL;
                self.look(now);
            }
            let out = self.host.tick(now);
            self.send(out);
            self.report();
            let next = self.host.next().map_or(look, |next| next.min(look));
            let wait = next.saturating_duration_since(Instant::now());
            match self.poll.poll(&mut events, Some(wait)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    warn!("mDNS ends, the server is reached by its addresses: {error}");
                    return;
                }
            }
            if events.iter().any(|event| event.token() == STOP) {
                let out = self.host.goodbye(Instant::now());
                self.send(out);
                return;
            }
            // Edges are lost if a turn reads too little, so every socket is tried.
            for link in 0..self.sockets.len() {
                self.read(link);
            }
        }
    }

    /// Looks at the machine's interfaces, and opens sockets for those that changed.
    fn look(&mut self, now: Instant) {
        let interfaces = match if_addrs::get_if_addrs() {
            Ok(interfaces) => interfaces,
            Err(error) => {
                debug!("cannot list the machine's addresses: {error}");
                return;
            }
        };
        let own = interfaces.iter().map(if_addrs::Interface::ip).collect();
        let wanted = places(&interfaces, self.listens);
        // Without any socket each look tries again.
        if self.places == wanted && !self.sockets.is_empty() {
            return;
        }
        self.places.clone_from(&wanted);
        for (_, mut socket) in self.sockets.drain(..) {
            let _ = self.poll.registry().deregister(&mut socket);
        }
        let mut refused = None;
        for place in wanted {
            let token = Token(self.sockets.len());
            let opened = open(&place).and_then(|mut socket| {
                self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
                Ok(socket)
            });
            match opened {
                Ok(socket) => self.sockets.push((place, socket)),
                Err(error) => refused = Some(format!("{}: {error}", place.name)),
            }
        }
        let links =
            self.sockets.iter().map(|(place, _)| Link::new(&place.name, place.addresses.clone()));
        self.host.set_links(links.collect(), own, now);
        if self.sockets.is_empty() && !std::mem::replace(&mut self.was_quiet, true) {
            let why = refused.unwrap_or_else(|| "no network with multicast".to_owned());
            info!("{} is not announced, use an address instead: {why}", self.host.name());
        }
    }

    /// Reads what has arrived at a link.
    fn read(&mut self, link: usize) {
        let mut buffer = [0; PACKET_MAX];
        for _ in 0..READS_MAX {
            let Some((_, socket)) = self.sockets.get(link) else { return };
            let (length, from) = match socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    debug!("mDNS cannot read: {error}");
                    return;
                }
            };
            if let Some(packet) = packet::read(&buffer[..length]) {
                let out = self.host.receive(link, from, &packet, Instant::now());
                self.send(out);
            }
        }
    }

    fn send(&mut self, out: Vec<Out>) {
        for Out { link, to, bytes } in out {
            let Some((place, socket)) = self.sockets.get(link) else { continue };
            let to = to.unwrap_or(SocketAddr::from((GROUP, PORT)));
            if let Err(error) = socket.send_to(&bytes, to) {
                debug!("mDNS cannot send in {}: {error}", place.name);
            }
        }
    }

    /// Reports a name that has become or ceased to be valid.
    fn report(&mut self) {
        let name = self.host.name();
        if !self.host.is_announced() || name == self.known {
            return;
        }
        let links: Vec<&str> = self.host.links().iter().map(|link| link.name.as_str()).collect();
        let links = links.join(", ");
        let was_awaited =
            self.announced.take().is_some_and(|one| one.try_send(name.clone()).is_ok());
        match self.known.as_str() {
            // The text at start has it.
            "" if was_awaited => debug!("announced as {name} in {links}"),
            "" => info!("announced as {name} in {links}"),
            former => warn!("announced as {name} from now on: another machine has {former}"),
        }
        self.was_quiet = false;
        self.known = name;
    }
}

/// Returns the interfaces in which a server that listens on `host` is announced, with an IPv4
/// address each, since the packets go over IPv4.
fn places(interfaces: &[if_addrs::Interface], host: IpAddr) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let outside = |interface: &&if_addrs::Interface| {
        !interface.is_loopback()
            && interface.is_oper_up()
            && !interface.is_p2p()
            && !super::banner::is_internal(&interface.name)
    };
    for interface in interfaces.iter().filter(outside) {
        let (IpAddr::V4(source), Some(index)) = (interface.ip(), interface.index) else { continue };
        if places.iter().any(|place| place.index == index) {
            continue;
        }
        let serves = |address: &IpAddr| match address {
            _ if !host.is_unspecified() => *address == host,
            IpAddr::V4(_) => true,
            IpAddr::V6(address) => host.is_ipv6() && !address.is_unicast_link_local(),
        };
        let all = interfaces.iter().filter(|other| other.index == Some(index));
        let addresses: Vec<IpAddr> = all.map(if_addrs::Interface::ip).filter(serves).collect();
        if !addresses.is_empty() {
            places.push(Place { name: interface.name.clone(), index, source, addresses });
        }
    }
    places
}

/// Opens the socket of an interface.
fn open(place: &Place) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Otherwise each socket would receive the packets of all interfaces.
    #[cfg(target_os = "linux")]
    socket.set_multicast_all_v4(false)?;
    socket.set_nonblocking(true)?;
    socket.set_multicast_if_v4(&place.source)?;
    socket.set_multicast_loop_v4(true)?;
    socket.set_multicast_ttl_v4(255)?;
    socket.bind(&SocketAddrV4::new(GROUP, PORT).into())?;
    socket.join_multicast_v4_n(&GROUP, &InterfaceIndexOrAddress::Index(place.index))?;
    Ok(UdpSocket::from_std(socket.into()))
}
