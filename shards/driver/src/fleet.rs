//! The shards of a server: starts, drains and joins their threads.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use bandsync_engine::io::tap::Tap;
use bandsync_engine::io::{HttpResponse, NodeNews, StorageEvent};
use bandsync_engine::words::ids::ShardId;
use bandsync_engine::words::time::Micros;
use mio::{Poll, Waker};
use rustls::ServerConfig;

use crate::accept::{bind, share};
use crate::clock::Clock;
use crate::host::{Asker, Host};
use crate::machine::Machine;
use crate::mail::{Address, Outbox, mailbox};
use crate::metrics::SharedMetrics;
use crate::mio_net::WAKER;
use crate::pin::pin_to_core;
use crate::shutdown::Shutdown;
use crate::thread::{End, Parts, Thread};
use crate::tls::{Moving, Tls};

/// Time in which the other shards drain after one panicked. Guessed.
const PANIC_DRAIN: Duration = Duration::from_secs(5);

/// The address and the options of the shards to start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The address to listen on. `::` includes IPv4; if the machine has no IPv6, it means IPv4
    /// alone.
    pub host: IpAddr,
    /// The port. 0 selects a free one.
    pub port: u16,
    /// A listener that another program has opened. All shards accept from it, and `host` and `port`
    /// are not used.
    pub listener: Option<Arc<TcpListener>>,
    /// Whether every shard is pinned to a core of its own, if the host permits it.
    pub pin: bool,
    /// Whether the sends of a turn go through io_uring, if the kernel has it and permits it.
    pub ring: bool,
    /// Maximum number of connections and messages in a shard's mailbox.
    pub mailbox_capacity: usize,
    /// Whether the server belongs to a cluster, so that shards receive news from other nodes.
    pub is_clustered: bool,
    /// Maximum bytes read from one connection per turn. The rest waits for the next turn, so that
    /// no client starves the others.
    pub read_bytes: usize,
    /// The certificate and the rules of TLS, if all connections use it.
    pub tls: Option<Arc<ServerConfig>>,
    /// The time in which a turn should end while something ticks, with all that it sends. Work
    /// beyond it waits for the next turn. At least 200 µs.
    pub turn_budget: Micros,
}

impl Plan {
    /// Creates a plan to listen on this address, with shards pinned to cores of their own.
    pub const fn new(host: IpAddr, port: u16) -> Self {
        Self {
            host,
            port,
            listener: None,
            pin: true,
            ring: true,
            mailbox_capacity: 1_024,
            is_clustered: false,
            read_bytes: 64 * 1024,
            tls: None,
            turn_budget: Micros::from_millis(1),
        }
    }
}

/// The running shards. Dropping the fleet leaves them running; [`Fleet::drain`] and
/// [`Fleet::join`] end them.
#[derive(Debug)]
pub struct Fleet {
    address: SocketAddr,
    stop: Stop,
    threads: Vec<JoinHandle<End>>,
}

/// The handle that asks all shards to end.
#[derive(Clone, Debug)]
struct Stop {
    clock: Clock,
    shutdown: Arc<Shutdown>,
    addresses: Arc<[Address]>,
}

impl Fleet {
    /// Starts as many shards as `metrics` has, each with the machine and the tap that `crew`
    /// returns.
    ///
    /// # Errors
    /// If the address is in use or not available, or the system lacks descriptors or threads.
    pub fn start<M: Machine>(
        plan: &Plan,
        clock: Clock,
        metrics: &Arc<SharedMetrics<M::Counters>>,
        host: &Arc<dyn Host>,
        mut crew: impl FnMut(ShardId) -> (M, Box<dyn Tap>),
    ) -> io::Result<Self> {
        let listeners = match &plan.listener {
            Some(listener) => share(listener, metrics.shards())?,
            None => bind(plan.host, plan.port, metrics.shards())?,
        };
        let Some(first) = listeners.first() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a server has at least one shard",
            ));
        };
        let address = first.local_addr()?;
        let shutdown = Arc::new(Shutdown::new(metrics.shards()));
        let mut polls = Vec::new();
        let mut mailboxes = Vec::new();
        let mut addresses = Vec::new();
        for _ in &listeners {
            let poll = Poll::new()?;
            let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
            let (mailbox, address) = mailbox(plan.mailbox_capacity, plan.is_clustered, waker);
            polls.push(poll);
            mailboxes.push(mailbox);
            addresses.push(address);
        }
        let stop = Stop { clock, shutdown, addresses: addresses.into() };
        let mut fleet = Self { address, stop, threads: Vec::new() };
        let moving = Moving::default();
        let mut shards = Vec::new();
        for (n, ((listener, poll), mailbox)) in
            listeners.into_iter().zip(polls).zip(mailboxes).enumerate()
        {
            let id = ShardId(n as u16);
            let (machine, tap) = crew(id);
            let parts = Parts {
                id,
                clock,
                machine,
                tap,
                host: Arc::clone(host),
                metrics: Arc::clone(metrics),
                shutdown: Arc::clone(&fleet.stop.shutdown),
                mailbox,
                outbox: Outbox::new(Arc::clone(&fleet.stop.addresses)),
                read_bytes: plan.read_bytes,
                turn_budget: plan.turn_budget,
                ring: plan.ring,
                tls: plan.tls.as_ref().map(|tls| Tls::new(Arc::clone(tls), Arc::clone(&moving))),
            };
            shards.push(Thread::new(parts, poll, listener)?);
        }
        for shard in shards {
            if let Err(error) = fleet.launch(shard, plan.pin) {
                fleet.drain(Duration::ZERO);
                return Err(error);
            }
        }
        Ok(fleet)
    }

    /// Starts the thread of a shard.
    fn launch<M: Machine>(&mut self, shard: Thread<M>, pin: bool) -> io::Result<()> {
        let id = shard.id;
        let guard = Guard { id, stop: self.stop.clone() };
        let run = move || {
            let _guard = guard;
            if pin && let Err(error) = pin_to_core(usize::from(id.0)) {
                log::debug!("shard {} is not pinned to a core: {error}", id.0);
            }
            shard.run()
        };
        self.threads.push(Builder::new().name(format!("shard-{}", id.0)).spawn(run)?);
        Ok(())
    }

    /// Returns a handle through which other threads reach the shards.
    pub fn post(&self) -> Mailer {
        Mailer { addresses: Arc::clone(&self.stop.addresses) }
    }

    /// Returns the address on which the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks all shards to say goodbye to their members and to end, at the latest after `within`.
    /// Returns at once. Another call can only shorten the time.
    ///
    /// Connections are accepted until the end, so that probes and clients receive an answer. The
    /// end does not wait for those connections.
    pub fn drain(&self, within: Duration) {
        self.stop.ask(within);
    }

    /// Waits until all shards have ended, and returns how each did.
    pub fn join(self) -> Vec<End> {
        self.threads.into_iter().map(|thread| thread.join().unwrap_or(End::Panicked)).collect()
    }
}

/// The handle through which other threads reach the shards.
#[derive(Clone, Debug)]
pub struct Mailer {
    addresses: Arc<[Address]>,
}

impl Mailer {
    /// Posts an event of the storage to a shard, without waiting. For a shard that has ended, it is
    /// dropped.
    ///
    /// # Errors
    /// If the mailbox is full, returns the event; the caller posts it again later.
    pub fn send_event(&self, shard: ShardId, event: StorageEvent) -> Result<(), StorageEvent> {
        self.addresses.get(usize::from(shard.0)).map_or(Ok(()), |address| address.send_event(event))
    }

    /// Posts news from another node to a shard, without waiting. For a shard that has ended, they
    /// are dropped.
    ///
    /// # Errors
    /// If the mailbox is full, returns the news; the caller posts them again later.
    pub fn send_news(&self, shard: ShardId, news: NodeNews) -> Result<(), NodeNews> {
        self.addresses.get(usize::from(shard.0)).map_or(Ok(()), |address| address.send_news(news))
    }

    /// Posts an answer that took longer than [`Host::answer`] may, without waiting. For a
    /// connection that has closed, it is dropped.
    ///
    /// # Errors
    /// If the mailbox is full, the answer comes back.
    pub fn answer(&self, asker: Asker, answer: HttpResponse) -> Result<(), HttpResponse> {
        let address = self.addresses.get(usize::from(asker.shard.0));
        address.map_or(Ok(()), |address| address.answer(asker.conn, answer))
    }
}

impl Stop {
    fn ask(&self, within: Duration) {
        let within = u64::try_from(within.as_micros()).unwrap_or(u64::MAX).min(u64::MAX / 2);
        self.shutdown.ask(self.clock.now() + Micros::from_micros(within));
        for address in &*self.addresses {
            address.wake();
        }
    }
}

/// A guard that drains the server when its shard panics. The shard's sessions are lost, so their
/// members must look for a new server instead of waiting for this one.
struct Guard {
    id: ShardId,
    stop: Stop,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            log::error!("shard {} panicked, draining the server", self.id.0);
            self.stop.shutdown.stopped(self.id);
            self.stop.ask(PANIC_DRAIN);
        }
    }
}
