//! Nodes over a primary with a replica behind Sentinels, and over a Redis Cluster.

use bandsync_engine::io::node::{ClaimOutcome, CommitOutcome};
use bandsync_redis::{Topology, slot_of};
use redis::Value;

use super::nodes::{Node, SHARDS, plan, session};
use super::server::{Server, until};
use crate::names::{Names, TABLE};
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

#[test]
fn after_a_failover_owners_go_on_with_their_epochs() {
    let mut primary = Server::start(&[]);
    let port = primary.port.to_string();
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port]);
    until("the replica follows", || {
        replica.ask::<String>("INFO replication").contains("master_link_status:up")
    });
    primary.found(16);
    let sentinels = sentinels(&primary);
    let hosts: Vec<String> =
        sentinels.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    let url = format!("redis+sentinel://{}/band", hosts.join(","));
    let redis = Topology::parse(&url).unwrap();
    let one = Node::start(Plan { redis: redis.clone(), ..plan(&primary, "one") });
    let two = Node::start(Plan { redis, ..plan(&primary, "two") });
    one.await_others(1);
    two.await_others(1);
    let stage = session("stage");
    let epoch = one.claim_free(&stage);
    let done = CommitOutcome::Done { deaf: vec![] };
    assert_eq!(one.commit(&stage, epoch, 1, &[2]), done);
    primary.kill();
    let mut version = 1;
    until("it is writable, and the other node hears", || {
        version += 1;
        one.commit(&stage, epoch, version, &[2]) == done
    });
    assert_eq!(replica.ask::<u64>("HGET session:stage epoch"), epoch);
    assert_eq!(replica.ask::<u64>("HGET session:stage version"), version);
    let heard = two.hear_until(stage.shard(SHARDS), &format!("<record {version}>"));
    assert_eq!(heard, one.id);
    assert_eq!((one.count("takeovers"), two.count("takeovers")), (0, 0));
    assert!(one.count("lapses") > 0, "its seniority begins again");
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

#[test]
fn a_redis_cluster_serves_nodes_and_slots_may_move_under_them() {
    let trio = Trio::start();
    let plan = |name: &str| Plan { redis: trio.topology(), ..plan(&trio.servers[0], name) };
    let one = Node::start(plan("one"));
    let two = Node::start(plan("two"));
    one.await_others(1);
    two.await_others(1);
    let names = Names::new(16);
    let done = CommitOutcome::Done { deaf: vec![] };
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
    let id = |n: usize| trio.servers[n].ask::<String>("CLUSTER MYID");
    let set = |n: usize, text: &str| {
        let _: Value = trio.servers[n].ask(&format!("CLUSTER SETSLOT {slot} {text}"));
    };
    set(to, &format!("IMPORTING {}", id(from)));
    set(from, &format!("MIGRATING {}", id(to)));
    assert_eq!(one.commit(stage, epoch, 2, &[2]), done, "its key has not moved");
    assert_eq!(two.hear(stage.shard(SHARDS)).1, "<record 2>");
    let keys: Vec<String> = trio.servers[from].ask(&format!("CLUSTER GETKEYSINSLOT {slot} 100"));
    for key in &keys {
        let mut migrate = redis::cmd("MIGRATE");
        migrate.arg("127.0.0.1").arg(trio.servers[to].port).arg(key).arg(0).arg(5_000);
        migrate.query::<Value>(&mut trio.servers[from].connect()).unwrap();
    }
    assert!(
        matches!(one.commit(stage, epoch, 3, &[2]), CommitOutcome::Done { .. }),
        "it has moved"
    );
    assert_eq!(two.hear(stage.shard(SHARDS)).1, "<record 3>", "by the server that it leaves");
    for n in [to, from, 3 - to - from] {
        set(n, &format!("NODE {}", id(to)));
    }
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
