//! The join of a node: checks of Redis, a number in the table, and the first leases.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use bandsync_engine::io::NodeId;
use bandsync_redis::{Endpoint, host_of};
use crossbeam_channel::Receiver;
use redis::cmd;

use crate::attune::Newcomer;
use crate::beat;
use crate::census::{self, Question};
use crate::clock::{Keeper, Timepiece};
use crate::epoch::K_MAX;
use crate::frame::Seal;
use crate::layout::Layout;
use crate::lease::Beat;
use crate::line::{Line, Open, field, info_text, version};
use crate::names::{Names, TABLE};
use crate::order::{Courier, Job, Look, Queue, Routes};
use crate::reply::{Trouble, number};
use crate::scripts::Scripts;
use crate::shared::{Plan, unix_us};
use crate::status::Status;
use crate::table::{Entry, Joined, Table};

/// Time that a node waits for the founding by another. Specified.
const FOUND_AFTER: Duration = Duration::from_secs(3);

/// Time between two attempts.
const AGAIN: Duration = Duration::from_millis(100);

/// The oldest Redis.
const VERSION_MIN: (u32, u32) = (6, 2);

/// The oldest Redis Cluster: sharded channels.
const CLUSTER_VERSION_MIN: (u32, u32) = (7, 0);

/// The reason why a node cannot join. The sentence says what to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum JoinError {
    /// Redis does not answer, or not this user.
    Unreachable(String),
    /// Redis is too old.
    TooOld(String),
    /// A setting of this node or of Redis does not fit the cluster.
    Refused(String),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Unreachable(text) | Self::TooOld(text) | Self::Refused(text)) = self;
        f.write_str(text)
    }
}

impl Error for JoinError {}

/// A node that has joined. Its threads are not started.
pub struct Member {
    pub(crate) plan: Plan,
    pub(crate) names: Arc<Names>,
    pub(crate) node: NodeId,
    pub(crate) table: Table,
    pub(crate) living: BTreeSet<NodeId>,
    pub(crate) entry: Entry,
    pub(crate) routes: Arc<Routes>,
    pub(crate) layout: Layout,
    pub(crate) orders: Vec<Receiver<Job>>,
    pub(crate) status: Arc<Status>,
    pub(crate) look: Arc<OnceLock<Look>>,
    pub(crate) clock: Arc<Keeper>,
}

impl Member {
    /// This node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The number of buckets.
    pub fn buckets(&self) -> u16 {
        self.names.count()
    }

    /// Unix time of the cluster's founding in microseconds: zero of cluster time.
    pub fn founded_unix_us(&self) -> i64 {
        self.table.origin.parse().unwrap_or_default()
    }

    /// Returns the way for orders. They wait until the start.
    pub fn handle(&self) -> Courier {
        Courier {
            names: Arc::clone(&self.names),
            routes: Arc::clone(&self.routes),
            status: Arc::clone(&self.status),
            look: Arc::clone(&self.look),
        }
    }
}

/// Takes a number, founds the cluster if nobody else does, and sets the clock. Blocks for up to 6 s
/// and the life of a lease.
///
/// # Errors
/// If this node cannot be part of the cluster.
pub fn join(plan: Plan, timepiece: Arc<dyn Timepiece>) -> Result<Member, JoinError> {
    check_clock(unix_us() / 1_000, plan.build_unix_ms)?;
    let endpoint = Endpoint { topology: plan.redis.clone(), replicas: 0, timeout: plan.timeout };
    let mut first = Line::new(endpoint.clone());
    let open = match first.open() {
        Ok((open, _)) => open,
        Err(_) => {
            return Err(match first.trouble() {
                Some(Trouble::Lost(_)) | None => JoinError::Unreachable(format!(
                    "Redis does not answer at {}: check REDIS_URL, and that Redis runs",
                    address(&plan)
                )),
                Some(trouble) => unable(trouble),
            });
        }
    };
    let is_cluster = check_server(open)?;
    let names = Arc::new(Names::new(plan.buckets));
    let layout = Layout::find(&endpoint, is_cluster, &names)
        .map_err(|error| unable(&Trouble::of(&error)))?;
    let unreachable = || unable(&Trouble::Lost("a primary does not answer".into()));
    let mut line = Line::new(layout.endpoint(layout.table()).clone());
    let mut leases = Line::new(layout.endpoint(layout.lane_of()[0]).clone());
    let (open, _) = line.open().map_err(|_| unreachable())?;
    let (of_leases, _) = leases.open().map_err(|_| unreachable())?;
    let scripts = Scripts::default();
    let incarnation = getrandom::u64().unwrap_or_else(|_| unix_us()).max(1);
    let mut entry = census::entry(&plan, incarnation, 0);
    let table = enter((open, of_leases), &scripts, &plan, &mut entry, incarnation)?;
    let node = NodeId { number: table.number, incarnation };
    // Others look at this lease to see whether the node lives.
    let lease = (plan.lease_ttl, layout.endpoint(layout.lane_of()[0]));
    let made = [(0, Beat::Make)];
    beat::beats(of_leases, &names, node, lease, &made).map_err(|trouble| unable(&trouble))?;
    let living = census::living(of_leases, &names, &table).map_err(|trouble| unable(&trouble))?;
    let clock = Arc::new(Keeper::new(timepiece));
    let newcomer = Newcomer {
        keeper: &clock,
        names: &names,
        seal: &Seal::new(plan.secret.as_deref()),
        node,
        lease_ttl: plan.lease_ttl,
        endpoint: layout.endpoint(layout.lane_of()[0]),
    };
    let attuned =
        newcomer.attune(&table, of_leases, || write(open, &scripts, &entry, &table, names.count()));
    attuned.map_err(|trouble| unable(&trouble))?;
    // Those that join at the same time wait for the first that is in time.
    entry.since = clock.since();
    entry.clock = clock.now_us();
    write(open, &scripts, &entry, &table, names.count()).map_err(|trouble| unable(&trouble))?;
    let (queues, orders) = (0..layout.count()).map(|_| Queue::new()).unzip();
    let status = Arc::new(Status::default());
    status.update(|view| view.node = Some(node));
    status.attend(Arc::clone(&clock));
    Ok(Member {
        names,
        node,
        table,
        living,
        entry,
        routes: Arc::new(Routes::new(queues, layout.lane_of())),
        layout,
        orders,
        status,
        look: Arc::default(),
        clock,
        plan,
    })
}

/// Writes the entry until it is in the table and no other living node has its name.
fn enter(
    (open, leases): (&mut Open, &mut Open),
    scripts: &Scripts,
    plan: &Plan,
    entry: &mut Entry,
    incarnation: u64,
) -> Result<Table, JoinError> {
    let names = Names::new(plan.buckets);
    let began = Instant::now();
    let mut origin = String::new();
    let mut number = 0;
    loop {
        let question = Question {
            number,
            is_fixed: false,
            incarnation,
            entry,
            buckets: names.count(),
            origin: &origin,
        };
        match census::ask(open, scripts, &question).map_err(|trouble| unable(&trouble))? {
            Joined::In(table) => {
                number = table.number;
                let living =
                    census::living(leases, &names, &table).map_err(|trouble| unable(&trouble))?;
                let misfit = misfit(entry, &table, &living);
                let Some(misfit) = misfit else { return Ok(table) };
                // It may be this server before its last start, whose lease ends soon, or an entry
                // that waited on its way to Redis.
                if began.elapsed() > plan.lease_ttl + FOUND_AFTER {
                    let arguments =
                        [incarnation.to_string(), number.to_string()].map(String::into_bytes);
                    let _ = open.run(&scripts.leave, &[TABLE.to_owned()], &arguments);
                    return Err(JoinError::Refused(misfit));
                }
            }
            Joined::Unfounded if began.elapsed() >= FOUND_AFTER => {
                origin = redis_us(open).map_err(|trouble| unable(&trouble))?.to_string();
            }
            Joined::Unfounded => {}
            Joined::Buckets(there) => {
                return Err(JoinError::Refused(format!(
                    "the cluster has {there} buckets and this node {}: set CLUSTER_BUCKETS={there}",
                    names.count()
                )));
            }
            Joined::Full => {
                return Err(JoinError::Refused(
                    "all 2 047 numbers of nodes were used within the last hour: try again later"
                        .into(),
                ));
            }
            Joined::Taken => {}
        }
        thread::sleep(AGAIN);
    }
}

/// Writes the entry again, and returns the table. None: the node lost its number.
fn write(
    open: &mut Open,
    scripts: &Scripts,
    entry: &Entry,
    table: &Table,
    buckets: u16,
) -> Result<Option<Table>, Trouble> {
    let question = Question {
        number: table.number,
        is_fixed: true,
        incarnation: entry.incarnation.parse().unwrap_or_default(),
        entry,
        buckets,
        origin: &table.origin,
    };
    match census::ask(open, scripts, &question)? {
        Joined::In(table) => Ok(Some(table)),
        _ => Ok(None),
    }
}

/// Returns the Unix time of Redis in microseconds. The founding has it, so no node's wall clock
/// matters.
fn redis_us(open: &mut Open) -> Result<u64, Trouble> {
    let answer = open.ask_one(cmd("TIME")).and_then(|answer| answer);
    let answer = answer.map_err(|error| Trouble::of(&error))?;
    let redis::Value::Array(parts) = &answer else { return Err(Trouble::senseless()) };
    let [seconds, micros] = &parts[..] else { return Err(Trouble::senseless()) };
    let (Some(seconds), Some(micros)) = (number(seconds), number(micros)) else {
        return Err(Trouble::senseless());
    };
    Ok(seconds.saturating_mul(1_000_000).saturating_add(micros))
}

/// Returns the reason why a node does not fit to those that live, with the remedy.
fn misfit(entry: &Entry, table: &Table, living: &BTreeSet<NodeId>) -> Option<String> {
    let mut others = table.others().filter(|(node, _)| living.contains(node));
    let name = &others.find(|(_, other)| other.name == entry.name)?.1.name;
    Some(format!(
        "another node of the cluster is called {name:?} too: set NODE_NAME to another name"
    ))
}

fn check_clock(unix_ms: u64, build_unix_ms: i64) -> Result<(), JoinError> {
    let is_early = i64::try_from(unix_ms).is_ok_and(|now| now < build_unix_ms);
    if is_early || unix_ms >= K_MAX {
        return Err(JoinError::Refused(format!(
            "the wall clock is wrong (Unix time {} s): set it, for example with timedatectl",
            unix_ms / 1_000
        )));
    }
    Ok(())
}

/// Checks that Redis is new enough and loses no keys. Returns whether it is part of a Redis Cluster.
fn check_server(open: &mut Open) -> Result<bool, JoinError> {
    let mut about = |section: &str| {
        let mut info = cmd("INFO");
        info.arg(section);
        let answer = open.ask_one(info).and_then(info_text);
        answer.map_err(|error| unable(&Trouble::of(&error)))
    };
    let server = about("server")?;
    if version(&server).is_none_or(|version| version < VERSION_MIN) {
        return Err(JoinError::TooOld(format!(
            "Redis {} is too old for a cluster: use Redis 6.2 or later, or set CLUSTER=off",
            field(&server, "redis_version").unwrap_or("without a version")
        )));
    }
    let memory = about("memory")?;
    let policy = field(&memory, "maxmemory_policy").unwrap_or("noeviction");
    if field(&memory, "maxmemory").is_some_and(|most| most != "0") && policy != "noeviction" {
        return Err(JoinError::Refused(format!(
            "Redis drops keys when it is full (maxmemory-policy {policy}): set maxmemory-policy noeviction"
        )));
    }
    let is_cluster = field(&about("cluster")?, "cluster_enabled") == Some("1");
    if is_cluster && version(&server).is_some_and(|version| version < CLUSTER_VERSION_MIN) {
        return Err(JoinError::TooOld(
            "a Redis Cluster needs Redis 7.0 or later, for sharded channels: upgrade it, or set CLUSTER=off".into(),
        ));
    }
    Ok(is_cluster)
}

fn unable(trouble: &Trouble) -> JoinError {
    match trouble {
        Trouble::Session(text) => JoinError::Refused(format!(
            "{text}: delete the key {TABLE} in Redis if no other program uses it"
        )),
        Trouble::Denied(text) if text.to_uppercase().contains("NOPERM") => {
            JoinError::Unreachable(format!(
                "Redis does not permit this user what a cluster needs ({text}): allow it by ACL SETUSER"
            ))
        }
        Trouble::Denied(text) => JoinError::Unreachable(format!(
            "Redis refuses this login ({text}): put the user and the password into REDIS_URL"
        )),
        Trouble::NotPrimary(text) => JoinError::Unreachable(format!(
            "Redis is a replica, which accepts no writes ({text}): name its primary or its Sentinels in REDIS_URL"
        )),
        Trouble::Later(text) if text.contains("OOM") => JoinError::Unreachable(format!(
            "Redis is full ({text}): raise its maxmemory, or delete what other programs keep there"
        )),
        Trouble::Later(text) | Trouble::Lost(text) => JoinError::Unreachable(format!(
            "Redis does not carry commands out ({text}): start this server again when it does"
        )),
        Trouble::NoScript | Trouble::Elsewhere { .. } => {
            JoinError::Unreachable("the slots of the Redis Cluster are moving: try again".into())
        }
    }
}

fn address(plan: &Plan) -> String {
    match &plan.redis {
        bandsync_redis::Topology::Single(info) => info.addr().to_string(),
        bandsync_redis::Topology::Sentinel { service, .. } => format!("the service {service}"),
        bandsync_redis::Topology::Cluster(nodes) => nodes.first().map(host_of).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_refused() {
        assert!(check_clock(1_790_000_000_000, 1_780_000_000_000).is_ok());
        assert!(check_clock(1_700_000_000_000, 1_780_000_000_000).is_err());
        assert!(check_clock(1 << 42, 0).is_err());
    }
}
