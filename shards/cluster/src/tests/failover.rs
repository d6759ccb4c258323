//! Nodes over a primary with a replica behind Sentinels, and over a Redis Cluster.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bandsync_engine::io::node::{ClaimOutcome, CommitOutcome, Standing};
use bandsync_engine::words::ids::SessionId;
use bandsync_redis::{Topology, slot_of};
use redis::Value;

use super::nodes::{Node, SHARDS, plan_at, session};
use super::server::{Server, until};
use crate::names::{Names, TABLE};
use crate::order::Order;
use crate::shared::Plan;

/// Starts three Sentinels of a primary.
fn sentinels(primary: &Server) -> Vec<Server> {
    let servers: Vec<Server> = (0..3).map(|_| Server::start_sentinel(primary.port)).collect();
    until("the Sentinels know the replica and each other", || {
        servers.iter().all(|server| {
            let about: Vec<String> = server.ask("SENTINEL MASTER band");
            let field = |name: &str| {
                let at = about.iter().position(|text| text == name).unwrap();
                about[at + 1].clone()
            };
            field("num-slaves") == "1" && field("num-other-sentinels") == "2"
        })
    });
    servers
}

/// The life of a lease in tests that lose writes: both nodes are back well within it.
const TTL: Duration = Duration::from_secs(3);

const DONE: CommitOutcome = CommitOutcome::Done { deaf: vec![] };

/// A primary with a replica, three Sentinels, and two nodes.
struct Band {
    primary: Server,
    replica: Server,
    _sentinels: Vec<Server>,
    nodes: [Node; 2],
}

impl Band {
    fn start() -> Self {
        let primary = Server::start(&[]);
        let port = primary.port.to_string();
        let replica = Server::start(&["--replicaof", "127.0.0.1", &port]);
        follows(&replica);
        primary.found(16);
        let sentinels = sentinels(&primary);
        let hosts: Vec<String> =
            sentinels.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        let redis = Topology::parse(&format!("redis+sentinel://{}/band", hosts.join(","))).unwrap();
        let plan = |name| Plan { lease_ttl: TTL, ..plan_at(redis.clone(), name) };
        let nodes = ["one", "two"].map(|name| Node::start(plan(name)));
        nodes.iter().for_each(|node| node.await_others(1));
        Self { primary, replica, _sentinels: sentinels, nodes }
    }
}

/// Waits until a replica has the data of its primary.
fn follows(replica: &Server) {
    until("the replica follows", || {
        replica.ask::<String>("INFO replication").contains("master_link_status:up")
    });
}

/// Ends the replication: from now on, what is written is lost with the primary.
fn cut_replication(primary: &Server) {
    let _: Value = primary.ask("ACL SETUSER default -psync -sync");
    let _: Value = primary.ask("CLIENT KILL TYPE replica");
    until("the replica is cut off", || {
        primary.ask::<String>("INFO replication").contains("connected_slaves:0")
    });
}

/// Commits until a decision is stored and the node `to` listens. Returns its version.
fn store(node: &Node, session: &SessionId, epoch: u64, mut version: u64, to: &[u16]) -> u64 {
    until("it is writable", || {
        version += 1;
        node.commit(session, epoch, version, to) == DONE
    });
    version
}

/// Both nodes have noticed, and everybody has kept what it had.
fn nothing_was_taken(nodes: &[Node; 2]) {
    for node in nodes {
        // The commits may be back before the beats.
        until("its seniority begins again", || node.count("lapses") > 0);
        node.await_standing(Standing::Full);
    }
    for node in nodes {
        assert_eq!((node.gone(), node.count("takeovers")), (vec![], 0));
    }
}

#[test]
fn after_a_failover_owners_go_on_with_their_epochs() {
    let mut band = Band::start();
    let [one, two] = &band.nodes;
    let stage = session("stage");
    let epoch = one.claim_free(&stage);
    assert_eq!(one.commit(&stage, epoch, 1, &[2]), DONE);
    band.primary.kill();
    let version = store(one, &stage, epoch, 1, &[2]);
    assert_eq!(band.replica.ask::<u64>("HGET session:stage epoch"), epoch);
    assert_eq!(band.replica.ask::<u64>("HGET session:stage version"), version);
    let heard = two.hear_until(stage.shard(SHARDS), &format!("<record {version}>"));
    assert_eq!(heard, one.id);
    nothing_was_taken(&band.nodes);
}

#[test]
fn after_a_failover_that_loses_writes_owners_store_them_again() {
    let mut band = Band::start();
    let [one, two] = &band.nodes;
    let (stage, new) = (session("stage"), session("new"));
    let epoch = one.claim_free(&stage);
    assert_eq!(one.commit(&stage, epoch, 1, &[]), DONE);
    until("the replica has it", || {
        band.replica.ask::<Option<u64>>("HGET session:stage version") == Some(1)
    });
    cut_replication(&band.primary);
    assert_eq!(one.commit(&stage, epoch, 2, &[]), DONE);
    let of_new = one.claim_free(&new);
    assert_eq!(one.commit(&new, of_new, 1, &[]), DONE);
    band.primary.kill();
    // The other node wants the session of which the new primary knows nothing.
    let order = Order::Claim { session: &new, expected: None, floor: 0 };
    assert!(two.courier.order(new.shard(SHARDS), order));
    for (session, epoch, version) in [(&stage, epoch, 2), (&new, of_new, 1)] {
        let version = store(one, session, epoch, version, &[2]);
        let field = |name: &str| {
            band.replica.ask::<u64>(&format!("HGET session:{} {name}", session.as_str()))
        };
        assert_eq!((field("epoch"), field("version")), (epoch, version));
        two.hear_until(session.shard(SHARDS), &format!("<record {version}>"));
    }
    let claimed = two.claim(&new, None);
    assert!(!matches!(claimed, ClaimOutcome::Mine { .. }), "{claimed:?}");
    nothing_was_taken(&band.nodes);
}

/// Three primaries of a Redis Cluster.
struct Trio {
    servers: Vec<Server>,
}

impl Trio {
    fn start() -> Self {
        let servers: Vec<Server> = (0..3).map(|_| Server::start_clustered()).collect();
        let bounds = [0, 5_461, 10_923, 16_384];
        for (n, server) in servers.iter().enumerate() {
            let (first, last) = (bounds[n], bounds[n + 1] - 1);
            let _: Value = server.ask(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
            for other in &servers[..n] {
                let (port, bus) = (other.port, other.bus_port);
                let _: Value = server.ask(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}"));
            }
        }
        until("the Cluster works", || {
            servers.iter().all(|server| {
                server.ask::<String>("CLUSTER INFO").contains("cluster_state:ok")
                    && server.ask::<String>("CLUSTER NODES").lines().count() == 3
            })
        });
        let trio = Self { servers };
        let origin = format!("HSET {TABLE} origin 1700000000000000 buckets 16");
        let _: Value = trio.at(slot_of(TABLE.as_bytes())).ask(&origin);
        trio
    }

    fn index(&self, slot: u16) -> usize {
        self.servers
            .iter()
            .position(|server| {
                let slots: Value = server.ask("CLUSTER SLOTS");
                let info = Topology::parse(&server.url()).unwrap();
                let Topology::Single(info) = info else { panic!() };
                bandsync_redis::ranges(&slots, &info).iter().any(|(first, last, at)| {
                    (*first..=*last).contains(&slot)
                        && at.addr().to_string() == format!("127.0.0.1:{}", server.port)
                })
            })
            .unwrap()
    }

    fn at(&self, slot: u16) -> &Server {
        &self.servers[self.index(slot)]
    }

    fn topology(&self) -> Topology {
        Topology::parse(&format!("redis+cluster://127.0.0.1:{}", self.servers[0].port)).unwrap()
    }
}

impl Trio {
    /// Adds a replica of one of them.
    fn add_replica(&self, n: usize) -> Server {
        let replica = Server::start_clustered();
        let (port, bus) = (self.servers[n].port, self.servers[n].bus_port);
        let _: Value = replica.ask(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}"));
        until("the Cluster knows it", || {
            replica.ask::<String>("CLUSTER NODES").lines().count() == 4
                && self
                    .servers
                    .iter()
                    .all(|server| server.ask::<String>("CLUSTER NODES").lines().count() == 4)
        });
        let _: Value = replica.ask(&format!("CLUSTER REPLICATE {}", self.id(n)));
        follows(&replica);
        replica
    }

    fn id(&self, n: usize) -> String {
        self.servers[n].ask("CLUSTER MYID")
    }

    fn set_slot(&self, n: usize, slot: u16, text: &str) {
        let _: Value = self.servers[n].ask(&format!("CLUSTER SETSLOT {slot} {text}"));
    }

    fn begin_move(&self, slot: u16, (from, to): (usize, usize)) {
        self.set_slot(to, slot, &format!("IMPORTING {}", self.id(from)));
        self.set_slot(from, slot, &format!("MIGRATING {}", self.id(to)));
    }

    /// Moves all keys of a slot, also those that are written meanwhile.
    fn move_keys(&self, slot: u16, (from, to): (usize, usize)) {
        loop {
            let ask = format!("CLUSTER GETKEYSINSLOT {slot} 100");
            let keys: Vec<String> = self.servers[from].ask(&ask);
            if keys.is_empty() {
                return;
            }
            for key in &keys {
                let mut migrate = redis::cmd("MIGRATE");
                migrate.arg("127.0.0.1").arg(self.servers[to].port).arg(key).arg(0).arg(5_000);
                migrate.query::<Value>(&mut self.servers[from].connect()).unwrap();
            }
        }
    }

    fn end_move(&self, slot: u16, (from, to): (usize, usize)) {
        for n in [to, from, 3 - to - from] {
            self.set_slot(n, slot, &format!("NODE {}", self.id(to)));
        }
    }

    fn nodes(&self) -> [Node; 2] {
        let plan = |name| Plan { lease_ttl: TTL, ..plan_at(self.topology(), name) };
        let nodes = ["one", "two"].map(|name| Node::start(plan(name)));
        nodes.iter().for_each(|node| node.await_others(1));
        nodes
    }
}

/// Tells the load to end.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn slots_move_while_every_version_is_stored_and_told() {
    let trio = Trio::start();
    let nodes = trio.nodes();
    let [one, two] = &nodes;
    let (names, stage) = (Names::new(16), session("stage"));
    let slot = names.slot(names.bucket(&stage));
    let epoch = one.claim_free(&stage);
    let (has_moved, heard) = (AtomicBool::new(false), AtomicU64::new(0));
    let last = thread::scope(|scope| {
        // It ends also if a move fails.
        let end = Ending(&has_moved);
        let load = scope.spawn(|| {
            let mut version = 0;
            while !has_moved.load(Ordering::Relaxed) {
                version += 1;
                let stored = one.commit(&stage, epoch, version, &[2]);
                assert!(matches!(stored, CommitOutcome::Done { .. }), "{stored:?}");
                heard.fetch_add(u64::from(stored == DONE), Ordering::Relaxed);
            }
            version
        });
        for _ in 0..4 {
            let from = trio.index(slot);
            let places = (from, (from + 1) % 3);
            trio.begin_move(slot, places);
            trio.move_keys(slot, places);
            trio.end_move(slot, places);
            // One may have been under way.
            let before = heard.load(Ordering::Relaxed) + 1;
            until("the other node listens at the new place", || {
                heard.load(Ordering::Relaxed) > before
            });
        }
        drop(end);
        load.join().unwrap()
    });
    let version = store(one, &stage, epoch, last, &[2]);
    two.hear_until(stage.shard(SHARDS), &format!("<record {version}>"));
    let key = names.session(&stage, true);
    let field = |name: &str| -> u64 {
        redis::cmd("HGET").arg(&key).arg(name).query(&mut trio.at(slot).connect()).unwrap()
    };
    assert_eq!((field("epoch"), field("version")), (epoch, version));
    for node in &nodes {
        node.await_standing(Standing::Full);
        assert_eq!((node.gone(), node.count("takeovers")), (vec![], 0));
    }
}

#[test]
fn a_replica_of_a_redis_cluster_that_has_lost_writes_receives_them_again() {
    let mut trio = Trio::start();
    let (names, stage, new) = (Names::new(16), session("stage"), session("new"));
    let lost = trio.index(names.slot(names.bucket(&stage)));
    let replica = trio.add_replica(lost);
    let nodes = trio.nodes();
    let [one, two] = &nodes;
    let epoch = one.claim_free(&stage);
    assert_eq!(one.commit(&stage, epoch, 1, &[]), DONE);
    let key = names.session(&stage, true);
    let field = |name: &str| -> Option<u64> {
        let mut open = replica.connect();
        redis::cmd("READONLY").query::<Value>(&mut open).unwrap();
        redis::cmd("HGET").arg(&key).arg(name).query(&mut open).unwrap()
    };
    until("the replica has it", || field("version") == Some(1));
    cut_replication(&trio.servers[lost]);
    assert_eq!(one.commit(&stage, epoch, 2, &[]), DONE);
    let of_new = one.claim_free(&new);
    assert_eq!(one.commit(&new, of_new, 1, &[]), DONE);
    trio.servers[lost].kill();
    let _: Value = replica.ask("CLUSTER FAILOVER TAKEOVER");
    let version = store(one, &stage, epoch, 2, &[2]);
    assert_eq!((field("epoch"), field("version")), (Some(epoch), Some(version)));
    two.hear_until(stage.shard(SHARDS), &format!("<record {version}>"));
    store(one, &new, of_new, 1, &[2]);
    let claimed = two.claim(&new, None);
    assert!(!matches!(claimed, ClaimOutcome::Mine { .. }), "{claimed:?}");
    nothing_was_taken(&nodes);
}

#[test]
fn a_redis_cluster_serves_nodes_and_slots_may_move_under_them() {
    let trio = Trio::start();
    let [one, two] = trio.nodes();
    let names = Names::new(16);
    let done = DONE;
    let sessions: Vec<_> = (0..8).map(|n| session(&format!("stage {{{n}}}"))).collect();
    let mut epochs = Vec::new();
    for session in &sessions {
        let epoch = one.claim_free(session);
        assert_eq!(one.commit(session, epoch, 1, &[2]), done);
        assert_eq!(two.hear(session.shard(SHARDS)).1, "<record 1>");
        epochs.push(epoch);
    }
    // One slot moves while it is in use.
    let (stage, epoch) = (&sessions[0], epochs[0]);
    let slot = names.slot(names.bucket(stage));
    let from = trio.index(slot);
    let to = (from + 1) % 3;
    trio.begin_move(slot, (from, to));
    assert_eq!(one.commit(stage, epoch, 2, &[2]), done, "its key has not moved");
    assert_eq!(two.hear(stage.shard(SHARDS)).1, "<record 2>");
    trio.move_keys(slot, (from, to));
    assert!(
        matches!(one.commit(stage, epoch, 3, &[2]), CommitOutcome::Done { .. }),
        "it has moved"
    );
    assert_eq!(two.hear(stage.shard(SHARDS)).1, "<record 3>", "by the server that it leaves");
    trio.end_move(slot, (from, to));
    let mut version = 3;
    until("the other node listens at the new place", || {
        version += 1;
        one.commit(stage, epoch, version, &[2]) == done
    });
    two.hear_until(stage.shard(SHARDS), &format!("<record {version}>"));
    let key = names.session(stage, true);
    let stored: String =
        redis::cmd("HGET").arg(&key).arg("record").query(&mut trio.servers[to].connect()).unwrap();
    assert_eq!(stored, format!("record {version}"));
    // Claims of that bucket work too, also takeovers.
    let claimed = two.claim(stage, None);
    let ClaimOutcome::Theirs { owner, .. } = claimed else { panic!("{claimed:?}") };
    assert_eq!(owner, one.id);
    let mut one = one;
    one.crash();
    until("it is taken over", || {
        matches!(two.claim(stage, Some(one.id)), ClaimOutcome::Mine { .. })
    });
}
