//! Small servers that check the driver's contract, and clients for them.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bandsync_driver::{Asker, Clock, End, Fleet, Host, Machine, Plan, SharedMetrics, Stats};
use bandsync_engine::io::tap::{NoTap, Tap};
use bandsync_engine::io::{Close, HttpRequest, HttpResponse, Input, Output, Outputs, Span};
use bandsync_engine::words::ids::{ConnId, ShardId};
use bandsync_engine::words::time::Micros;

/// Time limit of every wait. Guessed: anything that takes longer is stuck.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// The behaviour of a machine of the tests. All methods have defaults.
pub trait Behaviour: Send + 'static {
    fn react(&mut self, at: Micros, input: Input<'_>, out: &mut Outputs);

    fn next_deadline(&self) -> Option<Micros> {
        None
    }
}

impl<F: FnMut(Micros, Input<'_>, &mut Outputs) + Send + 'static> Behaviour for F {
    fn react(&mut self, at: Micros, input: Input<'_>, out: &mut Outputs) {
        self(at, input, out);
    }
}

/// A machine that panics if the driver breaks its contract: if an input names a connection that was
/// closed or never opened, or if time goes back.
pub struct Strict<M> {
    behaviour: M,
    open: BTreeSet<ConnId>,
    /// Connections that were open when the drain began, until they close.
    awaited: Option<BTreeSet<ConnId>>,
    seen: usize,
    last: Micros,
}

impl<M> Strict<M> {
    pub fn new(behaviour: M) -> Self {
        Self { behaviour, open: BTreeSet::new(), awaited: None, seen: 0, last: Micros::ZERO }
    }

    fn note(&mut self, input: &Input<'_>) {
        match *input {
            Input::Opened { conn, .. } | Input::Arrived { conn, .. } => {
                assert!(self.open.insert(conn), "{conn} is already open");
            }
            Input::Closed { conn, .. } => assert!(self.open.remove(&conn), "{conn} was not open"),
            Input::Received { conn, .. }
            | Input::Backlog { conn, .. }
            | Input::Responded { conn, .. } => {
                assert!(self.open.contains(&conn), "{conn} is not open");
            }
            Input::ShardMessage { .. }
            | Input::Storage { .. }
            | Input::Node { .. }
            | Input::WallClock { .. }
            | Input::Memory(_)
            | Input::TurnEnded => {}
            Input::Drain => self.awaited = Some(self.open.clone()),
        }
    }
}

impl<M: Behaviour> Machine for Strict<M> {
    /// Connections that are open.
    type Counters = usize;

    fn handle(&mut self, at: Micros, input: Input<'_>, out: &mut Outputs) {
        assert!(at >= self.last, "time goes back from {:?} to {at:?}", self.last);
        self.last = at;
        self.note(&input);
        if out.list.is_empty() {
            self.seen = 0;
        }
        self.behaviour.react(at, input, out);
        for output in &out.list[self.seen..] {
            if let Output::Close { conn, .. } | Output::HandOver { conn, .. } = output {
                self.open.remove(conn);
            }
        }
        self.seen = out.list.len();
    }

    fn next_deadline(&self) -> Option<Micros> {
        self.behaviour.next_deadline()
    }

    fn is_drained(&self) -> bool {
        self.awaited.as_ref().is_some_and(|awaited| awaited.is_disjoint(&self.open))
    }

    fn counters(&self) -> usize {
        self.open.len()
    }
}

/// Appends bytes, and returns their span.
pub fn span(out: &mut Outputs, bytes: &[u8]) -> Span {
    let start = out.bytes.len() as u32;
    out.bytes.extend_from_slice(bytes);
    Span { start, end: out.bytes.len() as u32 }
}

pub fn send(out: &mut Outputs, to: ConnId, bytes: &[u8]) {
    let bytes = span(out, bytes);
    out.list.push(Output::Send { to, bytes });
}

pub fn fanout(out: &mut Outputs, to: &[ConnId], bytes: &[u8], volatile: bool) {
    let start = out.receivers.len() as u32;
    out.receivers.extend_from_slice(to);
    let to = Span { start, end: out.receivers.len() as u32 };
    let bytes = span(out, bytes);
    out.list.push(Output::Fanout { to, bytes, volatile });
}

pub fn close(out: &mut Outputs, conn: ConnId, how: Close) {
    out.list.push(Output::Close { conn, how });
}

pub fn hand_over(out: &mut Outputs, conn: ConnId, to: ShardId, state: &[u8]) {
    let state = span(out, state);
    out.list.push(Output::HandOver { conn, to, state });
}

/// A machine that sends back the bytes that it receives.
pub fn echo(_: Micros, input: Input<'_>, out: &mut Outputs) {
    if let Input::Received { conn, bytes } = input {
        send(out, conn, bytes);
    }
}

/// A host that is never asked.
pub struct Silent;

impl Host for Silent {
    fn answer(&self, _: Asker, request: &HttpRequest) -> Option<HttpResponse> {
        panic!("asked for {}", request.path);
    }
}

/// Returns a plan with a free port. Shards are not pinned, because the tests' threads need the
/// cores too.
pub fn plan() -> Plan {
    Plan { pin: false, ..Plan::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0) }
}

/// A running server.
pub struct Server {
    pub fleet: Fleet,
    pub metrics: Arc<SharedMetrics<usize>>,
}

impl Server {
    /// Starts one shard for each machine.
    pub fn start<M: Behaviour>(shards: Vec<M>) -> Self {
        Self::start_with(plan(), shards, Arc::new(Silent), |_| Box::new(NoTap))
    }

    pub fn start_with<M: Behaviour>(
        plan: Plan,
        shards: Vec<M>,
        host: Arc<dyn Host>,
        mut tap: impl FnMut(ShardId) -> Box<dyn Tap>,
    ) -> Self {
        let metrics = SharedMetrics::new(shards.len() as u16);
        // The tests are built twice, under two names: see `loopback_calls`.
        let plan = Plan { ring: env!("CARGO_CRATE_NAME") == "loopback", ..plan };
        let mut shards = shards.into_iter();
        let crew = |id| (Strict::new(shards.next().unwrap()), tap(id));
        let fleet = Fleet::start(&plan, Clock::start(), &metrics, &host, crew).unwrap();
        Self { fleet, metrics }
    }

    pub fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(self.fleet.address()).unwrap())
    }

    /// Connects with a receive buffer of this size, which the kernel then does not grow.
    pub fn connect_narrow(&self, bytes: usize) -> TcpStream {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(bytes).unwrap();
        socket.connect(&self.fleet.address().into()).unwrap();
        patient(socket.into())
    }

    pub fn stats(&self, shard: u16) -> &Stats {
        self.metrics.stats(ShardId(shard))
    }

    /// Returns the sum of a number over all shards.
    pub fn sum(&self, number: impl Fn(&Stats) -> u64) -> u64 {
        (0..self.metrics.shards()).map(|shard| number(self.stats(shard))).sum()
    }

    /// Drains the server. Every shard must end in order, with no connection left open.
    pub fn end(self) {
        self.fleet.drain(Duration::MAX);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || sender.send(self.fleet.join()));
        let ends = receiver.recv_timeout(PATIENCE).unwrap();
        assert!(ends.iter().all(|end| *end == End::Drained), "{ends:?}");
        let open: u64 = (0..self.metrics.shards())
            .map(|shard| self.metrics.stats(ShardId(shard)).open.get())
            .sum();
        assert_eq!(open, 0);
    }
}

/// Sets time limits on a socket, so that it cannot hang a test.
fn patient(socket: TcpStream) -> TcpStream {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Reads exactly `count` bytes.
pub fn read(socket: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    socket.read_exact(&mut bytes).unwrap();
    bytes
}

/// Reads to the end.
pub fn read_all(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Polls until another thread has done something that nothing announces.
#[track_caller]
pub fn wait_until(mut condition: impl FnMut() -> bool) {
    let clock = Clock::start();
    while !condition() {
        assert!(
            u128::from(clock.now().as_micros()) < PATIENCE.as_micros(),
            "the condition was not met in time"
        );
        std::thread::yield_now();
    }
}

/// Number of repetitions that shows wake-ups. A shard wakes by itself once a second, so this many
/// repetitions within [`PATIENCE`] need wake-ups.
pub const OFTEN: usize = 20;

/// Calls `what` [`OFTEN`] times, which must not take longer than [`PATIENCE`] in all.
#[track_caller]
pub fn often(mut what: impl FnMut()) {
    let clock = Clock::start();
    for n in 0..OFTEN {
        what();
        assert!(u128::from(clock.now().as_micros()) < PATIENCE.as_micros(), "stuck at number {n}");
    }
}

/// Returns bytes that repeat only after 16 MiB, so that lost and swapped pieces show.
pub fn pattern(count: usize) -> Vec<u8> {
    (0_u32..).flat_map(|n| n.to_le_bytes().into_iter().take(3)).take(count).collect()
}
