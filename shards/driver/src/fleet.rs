//! The shards of a server: started together, drained together, joined.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use bandsync_engine::io::tap::Tap;
use bandsync_engine::io::{HttpResponse, StorageEvent};
use bandsync_engine::words::ids::ShardId;
use bandsync_engine::words::time::Micros;
use mio::{Poll, Waker};

use crate::accept::bind;
use crate::clock::Clock;
use crate::host::{Asker, Host};
use crate::machine::Machine;
use crate::mail::{Address, Outbox, mailbox};
use crate::metrics::SharedMetrics;
use crate::mio_net::WAKER;
use crate::pin::pin_to_core;
use crate::shutdown::Shutdown;
use crate::thread::{End, Parts, Thread};

/// How long the others get to say goodbye when a shard panics.
const PANIC_DRAIN: Duration = Duration::from_secs(5);

/// What to start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to listen. `::` takes IPv4 as well, and means IPv4 alone where there is no IPv6.
    pub host: IpAddr,
    /// The port; 0 takes one that is free.
    pub port: u16,
    /// Whether every shard is kept on a core of its own, if the host allows that.
    pub pin: bool,
    /// Whether the sends of a turn go out through io_uring, if the kernel has it and permits it.
    pub ring: bool,
    /// Connections that may wait in a shard's mailbox.
    pub mailbox_room: usize,
    /// Bytes read from one connection in a turn; the rest waits for the next, so that nobody
    /// starves the others.
    pub read_bytes: usize,
}

impl Plan {
    /// A plan to listen there, with shards on cores of their own.
    pub const fn new(host: IpAddr, port: u16) -> Self {
        Self { host, port, pin: true, ring: true, mailbox_room: 1_024, read_bytes: 64 * 1024 }
    }
}

/// The running shards. Dropping it leaves them running; [`Fleet::drain`] and [`Fleet::join`] end
/// them.
#[derive(Debug)]
pub struct Fleet {
    address: SocketAddr,
    stop: Stop,
    threads: Vec<JoinHandle<End>>,
}

/// Reaches all shards, to end them.
#[derive(Clone, Debug)]
struct Stop {
    clock: Clock,
    shutdown: Arc<Shutdown>,
    addresses: Arc<[Address]>,
}

impl Fleet {
    /// Starts one shard per place in `metrics`, each with what `crew` makes for it.
    ///
    /// # Errors
    /// If the address is in use or cannot be had, or the system has too few descriptors or threads.
    pub fn start<M: Machine>(
        plan: &Plan,
        clock: Clock,
        metrics: &Arc<SharedMetrics<M::Counters>>,
        host: &Arc<dyn Host>,
        mut crew: impl FnMut(ShardId) -> (M, Box<dyn Tap>),
    ) -> io::Result<Self> {
        let listeners = bind(plan.host, plan.port, metrics.shards())?;
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
            let (mailbox, address) = mailbox(plan.mailbox_room, waker);
            polls.push(poll);
            mailboxes.push(mailbox);
            addresses.push(address);
        }
        let stop = Stop { clock, shutdown, addresses: addresses.into() };
        let mut fleet = Self { address, stop, threads: Vec::new() };
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
                ring: plan.ring,
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

    /// Gives a shard its thread.
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

    /// Where other threads reach the shards.
    pub fn post(&self) -> Mailer {
        Mailer { addresses: Arc::clone(&self.stop.addresses) }
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks all shards to say goodbye to everybody and to end, at the latest when the time is over.
    /// Asking again can only shorten the time. Returns at once. Until the end, connections are
    /// accepted, so that probes and clients get an answer; the end does not wait for them.
    pub fn drain(&self, within: Duration) {
        self.stop.ask(within);
    }

    /// Waits until all shards have ended, and says how each did.
    pub fn join(self) -> Vec<End> {
        self.threads.into_iter().map(|thread| thread.join().unwrap_or(End::Panicked)).collect()
    }
}

/// The way from other threads to the shards.
#[derive(Clone, Debug)]
pub struct Mailer {
    addresses: Arc<[Address]>,
}

impl Mailer {
    /// Tells a shard. It never waits: news that find no room in the shard's mailbox come back, to
    /// be told again later. A shard that has ended takes everything.
    ///
    /// # Errors
    /// The news, if there is no room for them now.
    pub fn tell(&self, shard: ShardId, news: StorageEvent) -> Result<(), StorageEvent> {
        self.addresses.get(usize::from(shard.0)).map_or(Ok(()), |address| address.tell(news))
    }

    /// Answers a question for which [`Host::answer`] had no answer at once. Never waits. An answer
    /// for a connection that has closed is dropped.
    ///
    /// # Errors
    /// The answer, if there is no room for it now.
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

/// Ends the server when a shard panics: its sessions are gone, and their members should look for a
/// new server rather than wait for this one.
struct Guard {
    id: ShardId,
    stop: Stop,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            log::error!("shard {} has panicked: the server drains", self.id.0);
            self.stop.shutdown.stopped(self.id);
            self.stop.ask(PANIC_DRAIN);
        }
    }
}
