//! The census: the thread that keeps this node's entry in the table, reads the others', and looks
//! at their leases.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use bandsync_engine::io::{NodeId, NodeNews};
use bandsync_engine::words::ids::ShardId;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use log::{debug, error, info, warn};
use redis::{Value, cmd};

use crate::clock::{self, Reading};
use crate::lanes::Lanes;
use crate::line::{Fresh, Line, Open};
use crate::meters::add;
use crate::names::{Names, TABLE};
use crate::order::Task;
use crate::reply::Trouble;
use crate::scripts::Scripts;
use crate::shared::{Plan, Shared};
use crate::status::NodeView;
use crate::table::{self, ENTRY_BYTES_MAX, Entry, Joined, KEPT_MS, Table};

/// Time between two readings.
const INTERVAL: Duration = Duration::from_secs(2);

/// Time between two readings while another node has not noted this one, or lacks its lease.
const IMPATIENT: Duration = Duration::from_millis(250);

/// Time in which further questions are answered by one reading.
const BURST: Duration = Duration::from_millis(5);

/// Maximum bytes of a name in an entry.
const NAME_BYTES_MAX: usize = 256;

/// A question to the table.
pub struct Question<'a> {
    /// Own number, or 0 for any.
    pub number: u16,
    /// Whether no other number will do.
    pub is_fixed: bool,
    /// Own process.
    pub incarnation: u64,
    /// Own entry.
    pub entry: &'a Entry,
    /// Number of buckets.
    pub buckets: u16,
    /// The founding, if it is known.
    pub origin: &'a str,
}

/// Writes an entry and reads the table.
///
/// # Errors
/// If there is no answer, or it makes no sense.
pub fn ask(open: &mut Open, scripts: &Scripts, question: &Question<'_>) -> Result<Joined, Trouble> {
    let entry = question.entry.print();
    let arguments: Vec<Vec<u8>> = [
        question.number.to_string(),
        question.incarnation.to_string(),
        entry,
        question.buckets.to_string(),
        question.origin.to_owned(),
        KEPT_MS.to_string(),
        ENTRY_BYTES_MAX.to_string(),
        u8::from(question.is_fixed).to_string(),
    ]
    .map(String::into_bytes)
    .into();
    let answer = open.run(&scripts.join, &[TABLE.to_owned()], &arguments);
    let answer = answer.and_then(|answer| answer).map_err(|error| Trouble::of(&error))?;
    table::joined(&answer)
}

/// Returns the other nodes of a table that have a lease in the first bucket.
///
/// # Errors
/// If there is no answer.
pub fn living(open: &mut Open, names: &Names, table: &Table) -> Result<BTreeSet<NodeId>, Trouble> {
    let nodes: Vec<NodeId> = table.others().map(|(node, _)| node).collect();
    let commands: Vec<_> = nodes
        .iter()
        .map(|node| {
            let mut get = cmd("GET");
            get.arg(names.lease(0, node.number));
            get
        })
        .collect();
    let answers = open.ask(&commands).map_err(|error| Trouble::of(&error))?;
    let mut living = BTreeSet::new();
    for (node, answer) in nodes.into_iter().zip(answers) {
        match answer {
            Ok(Value::BulkString(text)) if text == node.incarnation.to_string().as_bytes() => {
                living.insert(node);
            }
            Ok(_) => {}
            Err(error) => match Trouble::of(&error) {
                Trouble::Session(_) => {}
                trouble => return Err(trouble),
            },
        }
    }
    Ok(living)
}

/// Returns the entry of a node.
pub fn entry(plan: &Plan, incarnation: u64, since: u64) -> Entry {
    let short = |text: &str| text.chars().take(NAME_BYTES_MAX / 4).collect::<String>();
    Entry {
        incarnation: incarnation.to_string(),
        name: short(&plan.name),
        url: plan
            .url
            .as_deref()
            .map(|url| url.chars().take(NAME_BYTES_MAX).collect())
            .unwrap_or_default(),
        version: short(&plan.version),
        formats: [1, 1],
        region: short(&plan.region),
        since,
        ..Entry::default()
    }
}

/// The thread's state.
pub struct Census {
    shared: Arc<Shared>,
    lanes: Arc<Lanes>,
    /// The line to the table.
    line: Line,
    /// The line to the leases of the first bucket.
    leases: Line,
    entry: Entry,
    /// The time at which the slots of a Cluster are asked for.
    learn_at: Instant,
    /// The last reason for which the table was not written.
    logged: String,
}

impl Census {
    /// Creates the thread's state with the entry that was written at the join.
    pub fn new(shared: Arc<Shared>, lanes: Arc<Lanes>, entry: Entry) -> Self {
        let table = shared.layout.lock().table();
        let (line, leases) = (shared.line(table), shared.line(shared.routes.lane(0)));
        Self { shared, lanes, line, leases, entry, learn_at: Instant::now(), logged: String::new() }
    }

    /// Keeps the entry until `end` is closed. A message on `asked` makes it read at once.
    pub fn run(mut self, asked: &Receiver<()>) {
        while !self.shared.has_ended() {
            let wait = match self.read() {
                Ok(()) if !self.shared.roster.lock().is_unsettled() => INTERVAL,
                _ => IMPATIENT,
            };
            match asked.recv_timeout(wait) {
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
                // Questions of a burst are answered together: strangers may cause many.
                Ok(()) => {
                    thread::sleep(BURST);
                    while asked.try_recv().is_ok() {}
                }
            }
        }
    }

    /// Writes the entry and reads the table.
    fn read(&mut self) -> Result<(), ()> {
        let shared = Arc::clone(&self.shared);
        self.entry.draining = shared.draining.load(Ordering::Relaxed);
        let seen: Vec<NodeId> = shared.roster.lock().seen().to_vec();
        let printed = seen.iter().map(|node| (node.number, node.incarnation.to_string())).collect();
        let has_news = self.entry.seen != printed;
        self.entry.seen = printed;
        let is_moved = shared.must_learn.swap(false, Ordering::Relaxed);
        if shared.is_redis_cluster() && (is_moved || self.learn_at <= Instant::now()) {
            self.learn_at = Instant::now() + INTERVAL;
            self.learn();
        }
        self.write_clock();
        let table = shared.layout.lock().table();
        self.line.renew(shared.endpoint(table));
        self.leases.renew(shared.endpoint(shared.routes.lane(0)));
        let Ok((open, fresh)) = self.line.open() else {
            self.learn_at = Instant::now();
            return Err(());
        };
        if fresh == Fresh::Again {
            add(&shared.meters().reconnects, 1);
        }
        let question = Question {
            number: shared.node.number,
            is_fixed: true,
            incarnation: shared.node.incarnation,
            entry: &self.entry,
            buckets: shared.names.count(),
            origin: &shared.origin,
        };
        let joined = ask(open, &shared.scripts, &question);
        let result = match joined {
            Ok(Joined::In(table)) if table.origin == shared.origin => {
                self.living(&table).map(|living| (table, living))
            }
            Ok(_) => {
                self.usurped(true);
                return Err(());
            }
            Err(trouble) => Err(trouble),
        };
        match result {
            Ok((table, living)) => {
                self.line.works();
                self.usurped(false);
                publish(&shared, &table, &living);
                if has_news {
                    // They may be waiting to be seen.
                    let to = seen.iter().map(|node| node.number).collect();
                    shared.routes.put(0, ShardId(0), Task::Hint { to });
                }
                if shared.roster.lock().seen().len() < seen.len() {
                    // The entry must not name a node for longer that counts as gone (R12).
                    shared.read_table();
                }
                Ok(())
            }
            Err(trouble) => {
                self.complain(&trouble);
                Err(())
            }
        }
    }

    /// Writes the clock and its error into the entry.
    fn write_clock(&mut self) {
        // If a lease has ended, this node is no reference any more.
        self.shared.look();
        let clock = &self.shared.clock;
        let reading = clock.reading();
        (self.entry.clock, self.entry.since) = (clock.now_us(), clock.since());
        self.entry.ahead = reading.map_or(0, |reading| reading.ahead_us);
        self.entry.bound = reading.map(|reading| reading.bound_us);
    }

    /// Returns the other nodes that have a lease.
    fn living(&mut self, table: &Table) -> Result<BTreeSet<NodeId>, Trouble> {
        let is_one = self.shared.layout.lock().table() == self.shared.routes.lane(0);
        let line = if is_one { &mut self.line } else { &mut self.leases };
        let lost = || Trouble::Lost("no connection".into());
        let (open, _) = line.open().map_err(|_| lost())?;
        let living = living(open, &self.shared.names, table);
        if living.is_err() && !is_one {
            self.leases.fail();
        }
        living
    }

    /// Looks for the primaries of a Cluster, and starts the threads of new ones.
    fn learn(&mut self) {
        let shared = &self.shared;
        let mut layout = shared.layout.lock().clone();
        match layout.learn(&shared.names) {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => return debug!("the slots of the Redis Cluster are not known: {error}"),
        }
        info!("the slots of the Redis Cluster have moved: {} primaries", layout.count());
        let (count, lane_of) = (layout.count(), layout.lane_of().to_vec());
        *shared.layout.lock() = layout;
        if let Err(error) = self.lanes.grow(count) {
            error!("cannot start the threads of a primary of Redis: {error}");
        }
        shared.leases.lock().place(&lane_of, Instant::now());
        shared.routes.place(&lane_of);
        shared.roster.lock().lapse();
        shared.post.wake();
    }

    /// Notes whether another process has the number, or founded another cluster.
    fn usurped(&mut self, usurped: bool) {
        let text = "another process has this node's number, or the cluster was founded anew: this node serves its \
                    members alone; restart it";
        self.shared.leases.lock().set_usurped(usurped);
        self.shared.post.wake();
        if usurped && self.logged != text {
            error!("{text}");
            self.logged = text.to_owned();
        } else if !usurped {
            self.logged.clear();
        }
        self.shared.status.update(|view| {
            view.trouble = if usurped { text.to_owned() } else { String::new() };
        });
    }

    fn complain(&mut self, trouble: &Trouble) {
        if let Trouble::Lost(_) | Trouble::NotPrimary(_) | Trouble::Elsewhere { .. } = trouble {
            self.line.fail();
            self.shared.must_learn.store(true, Ordering::Relaxed);
        }
        let text = format!("the table of nodes cannot be written: {trouble:?}");
        if self.logged != text {
            warn!("{text}");
            self.logged = text;
        }
    }
}

/// Passes a table on: to the roster, the shards and the readings.
pub fn publish(shared: &Shared, table: &Table, living: &BTreeSet<NodeId>) {
    let is_senior = shared.leases.lock().is_senior(0, Instant::now());
    let change = shared.roster.lock().read(table, |node| living.contains(&node), is_senior);
    for node in change.gone {
        info!("node {node} is gone: its lease has ended");
        shared.tell_all(&NodeNews::Gone { node });
    }
    if let Some((revision, peers)) = change.table {
        info!("{} other nodes live", peers.len());
        shared.tell_all(&NodeNews::Table { revision, peers });
    }
    let peers = shared.roster.lock().peers().to_vec();
    follow(shared, table, &peers);
    let lives =
        |number: u16| number == table.number || peers.iter().any(|node| node.number == number);
    let view = |(number, entry): (&u16, &Entry)| NodeView {
        number: *number,
        name: entry.name.clone(),
        version: entry.version.clone(),
        url: entry.url.clone(),
        region: entry.region.clone(),
        seen_ms: table.now.saturating_sub(entry.at),
        is_draining: entry.draining,
        clock: entry.bound.map(|bound_us| Reading { ahead_us: entry.ahead, bound_us }),
    };
    let nodes = table.entries.iter().filter(|(number, _)| lives(**number)).map(view).collect();
    shared.status.update(|view| view.nodes = nodes);
}

/// Follows the clock of the living node that has been in time for longest.
fn follow(shared: &Shared, table: &Table, peers: &[NodeId]) {
    let since = |node: &NodeId| {
        let entry = table.entries.get(&node.number);
        let entry = entry.filter(|entry| entry.node(node.number) == Some(*node));
        (*node, entry.map_or(0, |entry| entry.since))
    };
    let others = peers.iter().map(since);
    let choice = clock::choose(shared.node.number, shared.clock.since(), others);
    clock::take(&shared.clock, choice);
    // Its next probe may be due sooner now.
    shared.wake_clock();
}

/// Reports standings and tries full mailboxes again, until `wake` is closed. It never waits for
/// Redis.
pub fn report(shared: &Shared, wake: &Receiver<()>) {
    while !shared.has_ended() {
        let now = Instant::now();
        let next = shared.report(now);
        let overall = shared.leases.lock().overall(now);
        shared.status.update(|view| {
            if view.standing != Some(overall) {
                view.standing = Some(overall);
                view.since = shared.clock.unix_ms() as i64;
            }
        });
        let is_left = shared.post.retry();
        let most = if is_left { Duration::from_millis(1) } else { shared.watch.interval() };
        let wait = next.map_or(most, |next| next.saturating_duration_since(now).min(most));
        let woken = wake.recv_timeout(wait.max(Duration::from_millis(1)));
        if woken == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
    shared.post.retry();
}
