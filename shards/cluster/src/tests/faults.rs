//! A Redis in trouble: killed, frozen, slow, emptied, full, read-only, closed to this user.
//!
//! After each, everybody goes on with the epoch it had, nothing is taken from a node that lives,
//! and none that lives is called gone.

use std::time::Duration;

use bandsync_engine::io::NodeNews;
use bandsync_engine::io::node::{ClaimOutcome, CommitOutcome, Standing};
use bandsync_engine::words::ids::SessionId;
use bandsync_redis::Topology;
use redis::Value;

use super::nodes::{Node, SHARDS, pair, plan, session};
use super::proxy::{Mode, Proxy};
use super::server::{Server, until};
use crate::names::TABLE;
use crate::order::Order;
use crate::shared::Plan;

/// The life of a lease. The second node is back well within it, also on a machine that is busy.
const TTL: Duration = Duration::from_secs(3);

const DONE: CommitOutcome = CommitOutcome::Done { deaf: vec![] };

/// Two nodes over one server, each through a network of its own and with a session.
struct Stage {
    server: Server,
    nets: [Proxy; 2],
    nodes: [Node; 2],
    sessions: [SessionId; 2],
    epochs: [u64; 2],
    versions: [u64; 2],
}

impl Stage {
    fn start(options: &[&str]) -> Self {
        let server = Server::start(options);
        server.found(16);
        let nets = [1, 2].map(|seed| Proxy::start(server.port, seed));
        let plan = |n: usize| Plan {
            redis: Topology::parse(&nets[n].url()).unwrap(),
            lease_ttl: TTL,
            ..plan(&server, ["one", "two"][n])
        };
        let nodes = [0, 1].map(|n| Node::start(plan(n)));
        nodes.iter().for_each(|node| node.await_others(1));
        let sessions = [session("stage"), session("cellar")];
        let epochs = [0, 1].map(|n| nodes[n].claim_free(&sessions[n]));
        let mut stage = Self { server, nets, nodes, sessions, epochs, versions: [0; 2] };
        (0..2).for_each(|n| stage.work(n));
        stage.nodes.iter().for_each(|node| node.await_standing(Standing::Full));
        stage
    }

    /// Commits until a decision of this node is stored and received by the other. A dead connection
    /// may count as a listener for a while, so the first one that is stored may not arrive.
    fn work(&mut self, n: usize) {
        let (node, other) = (&self.nodes[n], &self.nodes[1 - n]);
        let (session, epoch) = (&self.sessions[n], self.epochs[n]);
        let first = self.versions[n] + 1;
        until("it is writable, and the other node listens", || {
            self.versions[n] += 1;
            let stored = node.commit(session, epoch, self.versions[n], &[other.id.number]);
            let bodies: Vec<String> =
                (first..=self.versions[n]).map(|version| format!("<record {version}>")).collect();
            let is_one = |news: &NodeNews| match news {
                NodeNews::Heard { from, body } => {
                    *from == node.id && bodies.iter().any(|one| one.as_bytes() == &**body)
                }
                _ => false,
            };
            stored == DONE && other.so_far().iter().any(is_one)
        });
        let stored = self.field(n, "epoch").zip(self.field(n, "version"));
        assert_eq!(stored, Some((epoch, self.versions[n])));
    }

    /// A field of a session in Redis.
    fn field(&self, n: usize, name: &str) -> Option<u64> {
        self.server.ask(&format!("HGET session:{} {name}", self.sessions[n].as_str()))
    }

    /// Waits until both nodes know by their own clocks that their leases have ended.
    fn await_lapses(&self) {
        until("both leases have ended", || self.nodes.iter().all(|node| node.count("lapses") > 0));
    }

    /// Lets the first node return, and the second once the first has looked at the leases.
    fn mend(&mut self) {
        self.nets[0].set(Mode::Open);
        let written = || {
            let entry: Option<String> = self.server.ask(&format!("HGET {TABLE} 1"));
            entry.and_then(|entry| {
                let entry: crate::table::Entry = serde_json::from_str(&entry).ok()?;
                Some(entry.at)
            })
        };
        let mut writings = vec![written()];
        until("the first node has read the table", || {
            let last = written();
            if last.is_some() && writings.last() != Some(&last) {
                writings.push(last);
            }
            writings.len() > 3
        });
        self.nets[1].set(Mode::Open);
    }

    /// A session that Redis has forgotten is not free: its owner stores it again, and the other
    /// node, which wants it at the same time, finds that owner.
    fn finds_the_owner(&mut self) {
        let session = self.sessions[1].clone();
        let node = &self.nodes[0];
        let order = Order::Claim { session: &session, expected: None, floor: 0 };
        assert!(node.courier.order(session.shard(SHARDS), order));
        until("its owner has stored it again", || {
            self.versions[1] += 1;
            self.nodes[1].commit(&session, self.epochs[1], self.versions[1], &[]) == DONE
        });
        let claimed = node.claimed(&session);
        assert!(!matches!(claimed, ClaimOutcome::Mine { .. }), "{claimed:?}");
    }

    /// Everybody goes on: nothing was taken, and nobody was called gone.
    fn goes_on(&mut self) {
        (0..2).for_each(|n| self.work(n));
        for n in 0..2 {
            let (node, other) = (&self.nodes[n], &self.nodes[1 - n]);
            let claimed = node.claim(&self.sessions[1 - n], Some(other.id));
            assert!(!matches!(claimed, ClaimOutcome::Mine { .. }), "{claimed:?}");
        }
        self.nodes.iter().for_each(|node| node.await_standing(Standing::Full));
        // Seniors may call a node gone: once more they look and find all leases.
        for node in &self.nodes {
            let beats = node.count("beats");
            until("it has beaten again", || node.count("beats") > beats + 2);
            assert_eq!((node.gone(), node.count("takeovers")), (vec![], 0));
        }
        (0..2).for_each(|n| self.work(n));
    }
}

/// Breaks the way to Redis for longer than a lease, and mends it.
fn outage(stage: &mut Stage, trouble: Mode) {
    stage.nets.iter().for_each(|net| net.set(trouble));
    stage.nodes.iter().for_each(|node| node.await_standing(Standing::Alone));
    let (node, session) = (&stage.nodes[0], &stage.sessions[0]);
    stage.versions[0] += 1;
    let outcome = node.commit(session, stage.epochs[0], stage.versions[0], &[]);
    assert!(matches!(outcome, CommitOutcome::Unknown | CommitOutcome::Unsent), "{outcome:?}");
    assert_eq!(node.claim(&SessionId::parse("new").unwrap(), None), ClaimOutcome::Unknown);
    stage.await_lapses();
}

#[test]
fn killed_and_back_with_its_data() {
    let mut stage = Stage::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    stage.server.kill();
    outage(&mut stage, Mode::Shut);
    stage.server.restart();
    assert_eq!(stage.field(0, "epoch"), Some(stage.epochs[0]), "it has its data");
    stage.mend();
    stage.goes_on();
}

#[test]
fn killed_and_back_empty() {
    let mut stage = Stage::start(&[]);
    stage.server.kill();
    outage(&mut stage, Mode::Shut);
    stage.server.restart();
    assert_eq!(stage.field(0, "epoch"), None, "it has no data");
    stage.mend();
    stage.finds_the_owner();
    stage.goes_on();
}

#[test]
fn frozen_until_all_leases_have_ended() {
    let mut stage = Stage::start(&[]);
    stage.server.signal("-STOP");
    outage(&mut stage, Mode::Frozen);
    stage.server.signal("-CONT");
    stage.mend();
    stage.goes_on();
}

#[test]
fn slower_than_an_answer_may_take() {
    let mut stage = Stage::start(&[]);
    outage(&mut stage, Mode::Slow(Duration::from_secs(1)));
    stage.mend();
    stage.goes_on();
}

#[test]
fn answers_that_are_garbage() {
    let mut stage = Stage::start(&[]);
    outage(&mut stage, Mode::Garbage);
    stage.mend();
    stage.goes_on();
}

#[test]
fn answers_in_single_bytes() {
    let mut stage = Stage::start(&[]);
    let before = stage.nodes.each_ref().map(|node| node.count("reconnects"));
    stage.nets.iter().for_each(|net| net.set(Mode::Chopped));
    stage.goes_on();
    assert_eq!(stage.nodes.each_ref().map(|node| node.count("reconnects")), before);
}

#[test]
fn emptied_while_it_serves() {
    let mut stage = Stage::start(&[]);
    let _: Value = stage.server.ask("FLUSHALL");
    stage.finds_the_owner();
    until("both have noticed", || stage.nodes.iter().all(|node| node.count("lapses") > 0));
    stage.goes_on();
    // The founding is the former, so that cluster time goes on.
    assert_eq!(stage.server.ask::<String>(&format!("HGET {TABLE} origin")), "1700000000000000");
}

#[test]
fn full() {
    let mut stage = Stage::start(&[]);
    let _: Value = stage.server.ask("CONFIG SET maxmemory 1");
    stage.versions[0] += 1;
    let commit = stage.nodes[0].commit(&stage.sessions[0], stage.epochs[0], stage.versions[0], &[]);
    assert!(matches!(commit, CommitOutcome::Unsent | CommitOutcome::Unknown), "{commit:?}");
    until("leases cannot be renewed", || stage.nodes.iter().all(|node| node.count("lapses") > 0));
    let stored = stage.field(0, "version");
    assert!(stored < Some(stage.versions[0]), "a refused commit changes nothing: {stored:?}");
    let _: Value = stage.server.ask("CONFIG SET maxmemory 0");
    stage.goes_on();
}

#[test]
fn read_only() {
    let mut stage = Stage::start(&[]);
    // It becomes a replica of a primary that is not there.
    let _: Value = stage.server.ask("REPLICAOF 127.0.0.1 1");
    stage.versions[0] += 1;
    let commit = stage.nodes[0].commit(&stage.sessions[0], stage.epochs[0], stage.versions[0], &[]);
    assert!(matches!(commit, CommitOutcome::Unsent | CommitOutcome::Unknown), "{commit:?}");
    stage.nodes.iter().for_each(|node| node.await_standing(Standing::Alone));
    stage.await_lapses();
    let _: Value = stage.server.ask("REPLICAOF NO ONE");
    stage.goes_on();
}

#[test]
fn closed_to_this_user() {
    let mut stage = Stage::start(&[]);
    let mut operator = stage.server.connect();
    let mut ask = |words: &[&str]| {
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(word);
        });
        let _ = command.query::<Value>(&mut operator).unwrap();
    };
    ask(&["CONFIG", "SET", "requirepass", "hush"]);
    ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    stage.nodes.iter().for_each(|node| node.await_standing(Standing::Alone));
    stage.await_lapses();
    ask(&["CONFIG", "SET", "requirepass", ""]);
    stage.goes_on();
}

#[test]
fn subscriptions_and_scripts_are_lost_under_load() {
    let (server, one, two) = pair();
    let stage = session("stage");
    let epoch = one.claim_free(&stage);
    let mut version = 0;
    for round in 0..30 {
        if round % 3 == 0 {
            let _: Value = server.ask("SCRIPT FLUSH");
        }
        if round % 5 == 0 {
            let _: Value = server.ask("CLIENT KILL TYPE pubsub");
        }
        version += 1;
        let stored = one.commit(&stage, epoch, version, &[2]);
        assert!(matches!(stored, CommitOutcome::Done { .. }), "{stored:?}");
    }
    until("the other node listens", || {
        version += 1;
        one.commit(&stage, epoch, version, &[2]) == DONE
    });
    two.hear_until(stage.shard(SHARDS), &format!("<record {version}>"));
    // Each is received at most once, in order.
    let number = |news: &NodeNews| match news {
        NodeNews::Heard { body, .. } => {
            String::from_utf8_lossy(body).trim_matches(['<', '>']).split_once(' ')?.1.parse().ok()
        }
        _ => None,
    };
    let heard: Vec<u64> = two.so_far().iter().filter_map(number).collect();
    assert!(heard.is_sorted_by(|one, other| one < other), "{heard:?}");
    assert_eq!((one.count("takeovers"), two.count("takeovers")), (0, 0));
}
