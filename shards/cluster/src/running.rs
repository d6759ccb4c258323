//! The threads of a node, from their start to their end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use bandsync_engine::words::ids::ShardId;
use crossbeam_channel::bounded;
use parking_lot::Mutex;

use crate::census::{self, Census};
use crate::frame::Seal;
use crate::join::Member;
use crate::lanes::Lanes;
use crate::lease::Leases;
use crate::line::Line;
use crate::names::TABLE;
use crate::order::Task;
use crate::post::{Post, Shards};
use crate::probes;
use crate::roster::Roster;
use crate::scripts::Scripts;
use crate::shared::Shared;
use crate::watch::Watch;

/// The running threads.
pub struct Running {
    shared: Arc<Shared>,
    lanes: Arc<Lanes>,
    threads: Vec<JoinHandle<()>>,
}

impl Member {
    /// Starts the threads. Every shard first receives standings and the table.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn start(self, shards: impl Shards) -> io::Result<Running> {
        let Self { plan, names, node, table, living, entry, routes, layout, .. } = self;
        let (orders, status, look, clock) = (self.orders, self.status, self.look, self.clock);
        let (wake, woken) = bounded(1);
        let (ask, asked) = bounded(1);
        let (probe, probes) = bounded(probes::WAITING_MAX);
        clock.serve();
        let post = Post::new(shards, wake, Arc::clone(&status.meters));
        let now = Instant::now();
        let mut leases = Leases::new(names.count(), plan.lease_ttl, now);
        leases.place(layout.lane_of(), now);
        let shared = Arc::new(Shared {
            leases: Mutex::new(leases),
            watch: Watch::new(plan.lease_ttl, now),
            lease_end: AtomicU64::new(0),
            layout: Mutex::new(layout),
            routes,
            must_learn: AtomicBool::new(false),
            roster: Mutex::new(Roster::new(node, post.count())),
            subscribed: Mutex::default(),
            draining: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            counter: AtomicU64::new(1),
            table: ask,
            clock,
            asked: probe,
            seal: Seal::new(plan.secret.as_deref()),
            scripts: Scripts::default(),
            origin: table.origin.clone(),
            names: (*names).clone(),
            node,
            status,
            post,
            plan,
        });
        shared.report(Instant::now());
        let node = Arc::downgrade(&shared);
        let _ = look.set(Box::new(move || {
            if let Some(shared) = node.upgrade() {
                shared.look();
            }
        }));
        census::publish(&shared, &table, &living);
        // They may learn of this node before they read the table.
        let to: Vec<u16> = living.iter().map(|node| node.number).collect();
        if !to.is_empty() {
            shared.routes.put(0, ShardId(0), Task::Hint { to });
        }
        let lanes = Arc::new(Lanes::new(Arc::clone(&shared)));
        for (lane, orders) in orders.into_iter().enumerate() {
            lanes.start(lane, orders)?;
        }
        let census = Census::new(Arc::clone(&shared), Arc::clone(&lanes), entry);
        let reported = Arc::clone(&shared);
        let timed = Arc::clone(&shared);
        let threads = vec![
            Builder::new().name("clock".into()).spawn(move || probes::run(&timed, &probes))?,
            Builder::new().name("census".into()).spawn(move || census.run(&asked))?,
            Builder::new()
                .name("standing".into())
                .spawn(move || census::report(&reported, &woken))?,
        ];
        Ok(Running { shared, lanes, threads })
    }
}

impl Running {
    /// Writes into the table that this node is about to end.
    pub fn draining(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
        self.shared.status.update(|view| view.is_draining = true);
        self.shared.read_table();
    }

    /// Sends what waits, at most for 2 s, deletes the own leases and the entry, and ends.
    pub fn end(mut self) {
        self.stop();
        let shared = &self.shared;
        let node = shared.node;
        let arguments =
            |number: String| [node.incarnation.to_string(), number].map(String::into_bytes);
        let leave = |lane: usize, key: String, number: String| {
            let mut line = Line::new(shared.endpoint(lane));
            let asked = line.open().map(|(open, _)| {
                open.run(&shared.scripts.leave, &[key], &arguments(number)).is_ok()
            });
            asked == Ok(true)
        };
        let table = shared.layout.lock().table();
        leave(table, TABLE.to_owned(), node.number.to_string());
        for bucket in 0..shared.names.count() {
            let key = shared.names.lease(bucket, node.number);
            if !leave(shared.routes.lane(bucket), key, String::new()) {
                return;
            }
        }
    }

    /// Ends all threads. The leases end by themselves.
    pub(crate) fn stop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.lanes.end();
        self.shared.post.wake();
        self.shared.read_table();
        self.shared.wake_clock();
        for thread in self.threads.drain(..) {
            // The log has the panic of a thread, if there was one.
            let _ = thread.join();
        }
        self.shared.post.retry();
    }
}
