//! Whole nodes over one server: claims, commits, messages, takeovers, and a Redis in trouble.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bandsync_engine::io::node::{ClaimOutcome, CommitOutcome, Standing, Stored};
use bandsync_engine::io::{NodeId, NodeNews};
use bandsync_engine::words::ids::{SessionId, ShardId};
use bandsync_redis::Topology;
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use redis::Value;

use super::clock::Machine;
use super::server::{PATIENCE, Server, until};
use crate::clock::Timepiece;
use crate::join::{JoinError, Member, join};
use crate::names::Names;
use crate::order::{Courier, Order};
use crate::post::Shards;
use crate::running::Running;
use crate::shared::Plan;

pub const SHARDS: u16 = 2;
const TTL: Duration = Duration::from_millis(800);

struct Mailboxes(Vec<Sender<NodeNews>>);

impl Shards for Mailboxes {
    fn count(&self) -> u16 {
        SHARDS
    }

    fn send(&self, shard: ShardId, news: NodeNews) -> Result<(), NodeNews> {
        self.0[usize::from(shard.0)].try_send(news).map_err(|error| error.into_inner())
    }
}

/// The settings of a node of this name.
pub fn plan(server: &Server, name: &str) -> Plan {
    plan_at(server.topology(), name)
}

/// Returns the plan of a node with this Redis.
pub fn plan_at(redis: Topology, name: &str) -> Plan {
    Plan {
        redis,
        timeout: Duration::from_millis(500),
        name: name.to_owned(),
        url: None,
        version: "0.1.0".to_owned(),
        region: String::new(),
        buckets: 16,
        lease_ttl: TTL,
        secret: None,
        session_ttl: Duration::from_secs(60),
        build_unix_ms: 0,
    }
}

/// A node, with a test in the place of its shards.
pub struct Node {
    pub id: NodeId,
    pub courier: Courier,
    pub news: Vec<Receiver<NodeNews>>,
    running: Option<Running>,
    /// Everything that a test has read.
    log: Mutex<Vec<NodeNews>>,
}

impl Node {
    /// Joins and starts.
    pub fn start(plan: Plan) -> Self {
        Self::start_with(plan, Machine::new(Duration::ZERO, 0.0))
    }

    /// Joins and starts with the clock of a machine.
    pub fn start_with(plan: Plan, timepiece: Arc<dyn Timepiece>) -> Self {
        let member = join(plan, timepiece).unwrap();
        Self::run(member)
    }

    fn run(member: Member) -> Self {
        let (id, courier) = (member.node(), member.handle());
        let (senders, news) = (0..SHARDS).map(|_| bounded(1_024)).unzip();
        let running = Some(member.start(Mailboxes(senders)).unwrap());
        Self { id, courier, news, running, log: Mutex::default() }
    }

    /// Notes tables, as shards do.
    fn note(&self, news: &NodeNews) {
        if let NodeNews::Table { revision, .. } = *news {
            (0..SHARDS).for_each(|shard| {
                assert!(self.courier.order(ShardId(shard), Order::Noted { revision }));
            });
        }
        self.log.lock().push(news.clone());
    }

    /// Returns all news so far, also those that nobody has awaited.
    pub fn so_far(&self) -> Vec<NodeNews> {
        self.news.iter().flat_map(Receiver::try_iter).for_each(|news| self.note(&news));
        self.log.lock().clone()
    }

    /// Returns the nodes that it has called gone.
    pub fn gone(&self) -> Vec<NodeId> {
        let gone = |news| if let NodeNews::Gone { node } = news { Some(node) } else { None };
        self.so_far().into_iter().filter_map(gone).collect()
    }

    /// Returns the first news of a shard that `pick` accepts. Notes tables on the way.
    #[track_caller]
    fn await_on<T>(&self, shard: u16, mut pick: impl FnMut(&NodeNews) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            let news = self.news[usize::from(shard)].recv_deadline(until).unwrap();
            self.note(&news);
            if let Some(found) = pick(&news) {
                return found;
            }
        }
    }

    /// Waits until this is its worst standing.
    #[track_caller]
    pub fn await_standing(&self, wanted: Standing) {
        until("it has that standing", || self.courier.status().view().standing == Some(wanted));
    }

    /// Claims a session.
    pub fn claim(&self, session: &SessionId, expected: Option<NodeId>) -> ClaimOutcome {
        let shard = session.shard(SHARDS);
        assert!(self.courier.order(shard, Order::Claim { session, expected, floor: 0 }));
        self.claimed(session)
    }

    /// Returns the answer to a claim.
    #[track_caller]
    pub fn claimed(&self, session: &SessionId) -> ClaimOutcome {
        self.await_on(session.shard(SHARDS).0, |news| match news {
            NodeNews::Claimed { session: claimed, outcome } if claimed == session => {
                Some(outcome.clone())
            }
            _ => None,
        })
    }

    /// Claims a session that is free, and returns its epoch.
    pub fn claim_free(&self, session: &SessionId) -> u64 {
        match self.claim(session, None) {
            ClaimOutcome::Mine { epoch, .. } => epoch,
            other => panic!("{other:?}"),
        }
    }

    /// Commits a version.
    pub fn commit(
        &self,
        session: &SessionId,
        epoch: u64,
        version: u64,
        to: &[u16],
    ) -> CommitOutcome {
        let shard = session.shard(SHARDS);
        let record = format!("record {version}");
        let (record, branches) = (record.as_bytes(), &b"branches"[..]);
        let (head, tail) = (&b"<"[..], &b">"[..]);
        let order = Order::Commit { session, epoch, version, record, branches, head, tail, to };
        assert!(self.courier.order(shard, order));
        self.await_on(shard.0, |news| match news {
            NodeNews::Committed { session: other, version: stored, outcome, .. }
                if other == session && *stored == version =>
            {
                Some(outcome.clone())
            }
            _ => None,
        })
    }

    /// Returns the next message for a shard.
    pub fn hear(&self, shard: ShardId) -> (NodeId, String) {
        self.await_on(shard.0, |news| match news {
            NodeNews::Heard { from, body } => {
                Some((*from, String::from_utf8(body.to_vec()).unwrap()))
            }
            _ => None,
        })
    }

    /// Waits for this message, and returns its sender. Others may come before.
    pub fn hear_until(&self, shard: ShardId, wanted: &str) -> NodeId {
        loop {
            let (from, body) = self.hear(shard);
            if body == wanted {
                return from;
            }
        }
    }

    /// Returns a counter.
    pub fn count(&self, meter: &str) -> u64 {
        let list = self.courier.status().meters.list();
        list.iter().find(|(name, _)| *name == meter).unwrap().1
    }

    /// Waits until it knows as many others and they all have noted it.
    pub fn await_others(&self, count: usize) {
        self.await_on(0, |news| match news {
            NodeNews::Table { peers, .. } if peers.len() == count => Some(()),
            _ => None,
        });
    }

    /// Ends it without a word, as a crash does.
    pub fn crash(&mut self) {
        let mut running = self.running.take().unwrap();
        running.stop();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.end();
        }
    }
}

/// Returns a session of this name.
pub fn session(id: &str) -> SessionId {
    SessionId::parse(id).unwrap()
}

/// A server with a founded cluster and two nodes that know each other.
pub fn pair() -> (Server, Node, Node) {
    let server = Server::start(&[]);
    server.found(16);
    let one = Node::start(plan(&server, "one"));
    let two = Node::start(plan(&server, "two"));
    one.await_others(1);
    two.await_others(1);
    (server, one, two)
}

#[test]
fn two_nodes_share_a_session() {
    let (server, one, two) = pair();
    assert_eq!((one.id.number, two.id.number), (1, 2));
    let stage = session("stage");
    let shard = stage.shard(SHARDS);
    let epoch = one.claim_free(&stage);
    let theirs = ClaimOutcome::Theirs { owner: one.id, epoch, stored: None };
    assert_eq!(two.claim(&stage, None), theirs);
    // A decision is stored, and the other node receives it with its record.
    let done = CommitOutcome::Done { deaf: vec![] };
    assert_eq!(one.commit(&stage, epoch, 1, &[2]), done);
    assert_eq!(two.hear(shard), (one.id, "<record 1>".into()));
    let deaf = CommitOutcome::Done { deaf: vec![9] };
    assert_eq!(one.commit(&stage, epoch, 2, &[9, 2]), deaf);
    assert_eq!(two.hear(shard).1, "<record 2>");
    let ClaimOutcome::Theirs { stored, .. } = two.claim(&stage, None) else { panic!() };
    let (record, branches) = (b"record 2"[..].into(), b"branches"[..].into());
    assert_eq!(stored, Some(Stored { record, branches }));
    let checksum: String = server.ask("HGET session:stage checksum");
    assert_eq!(checksum.len(), 8, "other programs read the session's fields");
    // Messages arrive in order, also when many of them are published together.
    for n in 0..200 {
        let body = n.to_string();
        let order = Order::Publish { session: &stage, to: &[1], body: body.as_bytes() };
        assert!(two.courier.order(shard, order));
    }
    for n in 0..200 {
        assert_eq!(one.hear(shard), (two.id, n.to_string()));
    }
    assert!(two.count("frames_out") < 200, "{}", two.count("frames_out"));
    // A message for all shards reaches each.
    assert!(two.courier.order(ShardId(0), Order::Announce { to: &[1], body: b"all" }));
    (0..SHARDS).for_each(|shard| assert_eq!(one.hear(ShardId(shard)).1, "all"));
    // A message to a node that is not there is reported.
    let order = Order::Publish { session: &stage, to: &[7], body: b"lost" };
    assert!(two.courier.order(shard, order));
    let unheard = two.await_on(shard.0, |news| match news {
        NodeNews::Unheard { session, to } => Some((session.clone(), to.clone())),
        _ => None,
    });
    assert_eq!(unheard, (Some(stage.clone()), vec![7]));
    // A released session is free.
    assert!(one.courier.order(shard, Order::Release { session: &stage, epoch }));
    until("the session is free", || server.ask::<String>("HGET session:stage owner").is_empty());
    let ClaimOutcome::Mine { epoch: taken, .. } = two.claim(&stage, None) else { panic!() };
    assert!(taken > epoch);
    assert!(two.courier.order(shard, Order::Forget { session: &stage, epoch: taken }));
    until("the session is deleted", || server.ask::<i64>("EXISTS session:stage") == 0);
}

#[test]
fn a_session_of_a_dead_node_is_taken_over() {
    let (_server, mut one, two) = pair();
    let stage = session("stage");
    let epoch = one.claim_free(&stage);
    one.commit(&stage, epoch, 7, &[]);
    two.await_standing(Standing::Full);
    one.crash();
    let died = Instant::now();
    let taken = loop {
        if let ClaimOutcome::Mine { epoch, stored } = two.claim(&stage, Some(one.id)) {
            break (epoch, stored.unwrap());
        }
        assert!(died.elapsed() < PATIENCE);
    };
    assert!(taken.0 > epoch);
    assert_eq!(&taken.1.record[..], b"record 7");
    assert_eq!(two.count("takeovers"), 1);
    two.await_on(1, |news| (*news == NodeNews::Gone { node: one.id }).then_some(()));
}

#[test]
fn a_commit_of_a_former_owner_is_refused() {
    let (server, one, two) = pair();
    let stage = session("stage");
    let epoch = one.claim_free(&stage);
    one.commit(&stage, epoch, 1, &[]);
    // Redis forgets who owns it, and another node takes it.
    let _: i64 = server.ask("DEL session:stage");
    let taken = two.claim_free(&stage);
    assert!(taken > epoch);
    let lost = CommitOutcome::Lost { epoch: taken, owner: Some(two.id) };
    assert_eq!(one.commit(&stage, epoch, 2, &[2]), lost);
    assert_eq!(one.count("commits_lost"), 1);
}

#[test]
fn a_newcomer_claims_nothing_before_all_have_noted_it() {
    let server = Server::start(&[]);
    server.found(16);
    let one = Node::start(plan(&server, "one"));
    let two = Node::start(plan(&server, "two"));
    // The shards of the first node say nothing yet.
    let stage = session("stage");
    assert_eq!(two.claim(&stage, None), ClaimOutcome::Unknown);
    one.await_others(1);
    two.claim_free(&stage);
}

#[test]
fn the_only_node_claims_at_once() {
    let server = Server::start(&[]);
    server.found(16);
    let one = Node::start(plan(&server, "one"));
    one.claim_free(&session("stage"));
    assert!(matches!(one.courier.status().view().standing, Some(Standing::New | Standing::Full)));
    one.await_standing(Standing::Full);
    let nodes = one.courier.status().view().nodes;
    until("the view names the node", || one.courier.status().view().nodes.len() == 1);
    assert!(nodes.len() <= 1);
    // After its end nothing of its own is left, so that the next one need not wait.
    drop(one);
    let keys: Vec<String> = server.ask("KEYS bandsync:*node*");
    assert_eq!(keys, ["bandsync:{nodes}:table"]);
    assert_eq!(server.ask::<i64>("HEXISTS bandsync:{nodes}:table 1"), 0);
}

#[test]
fn a_cluster_is_founded_by_its_first_node() {
    let server = Server::start(&[]);
    let quiet = || Machine::new(Duration::ZERO, 0.0);
    let member = join(plan(&server, "one"), quiet()).unwrap();
    let founded = member.founded_unix_us();
    let now = crate::shared::unix_us() as i64;
    assert!((now - 60_000_000..=now).contains(&founded), "{founded}");
    assert_eq!(join(plan(&server, "two"), quiet()).unwrap().founded_unix_us(), founded);
}

#[test]
fn a_node_that_does_not_fit_is_refused() {
    let server = Server::start(&[]);
    server.found(16);
    let buckets = refusal(Plan { buckets: 8, ..plan(&server, "one") });
    assert!(matches!(&buckets, JoinError::Refused(text) if text.contains("CLUSTER_BUCKETS=16")));
    let clock = refusal(Plan { build_unix_ms: i64::MAX, ..plan(&server, "one") });
    assert!(matches!(clock, JoinError::Refused(text) if text.contains("clock")));
    let _one = Node::start(plan(&server, "one"));
    let name = refusal(plan(&server, "one"));
    assert!(matches!(name, JoinError::Refused(text) if text.contains("NODE_NAME")));
    let _: Value = server.ask("CONFIG SET maxmemory 100mb");
    let _: Value = server.ask("CONFIG SET maxmemory-policy allkeys-lru");
    let evicts = refusal(plan(&server, "two"));
    assert!(matches!(evicts, JoinError::Refused(text) if text.contains("noeviction")));
    let topology = plan(&server, "two");
    drop(server);
    assert!(matches!(refusal(topology), JoinError::Unreachable(_)));
}

/// Returns the reason why a node cannot join.
fn refusal(plan: Plan) -> JoinError {
    match join(plan, Machine::new(Duration::ZERO, 0.0)) {
        Err(error) => error,
        Ok(member) => panic!("{:?} may join", member.node()),
    }
}

#[test]
fn a_redis_that_does_not_serve_is_named_with_the_remedy() {
    let server = Server::start(&[]);
    server.found(16);
    let is_said = |words: &str| {
        let error = refusal(plan(&server, "one"));
        assert!(matches!(error, JoinError::Unreachable(_)), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    };
    let _: Value = server.ask("CONFIG SET maxmemory 1");
    is_said("raise its maxmemory");
    let _: Value = server.ask("CONFIG SET maxmemory 0");
    let _: Value = server.ask("REPLICAOF 127.0.0.1 1");
    is_said("name its primary or its Sentinels");
    let _: Value = server.ask("REPLICAOF NO ONE");
    let _: Value = server.ask("ACL SETUSER default -evalsha -eval");
    is_said("ACL SETUSER");
    let _: Value = server.ask("CONFIG SET requirepass hush");
    is_said("the password into REDIS_URL");
}

/// Answers `INFO` as a server of another version does, until the connection closes.
fn pretender(version: &str, is_cluster: bool) -> Topology {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let info = format!(
        "redis_version:{version}\r\nmaxmemory:0\r\ncluster_enabled:{}\r\n",
        u8::from(is_cluster)
    );
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut bytes = [0; 1_024];
        // Each question is short enough for one read.
        while socket.read(&mut bytes).is_ok_and(|count| count > 0) {
            let answer = format!("${}\r\n{info}\r\n", info.len());
            socket.write_all(answer.as_bytes()).unwrap();
        }
    });
    Topology::parse(&url).unwrap()
}

#[test]
fn a_redis_that_is_too_old_is_refused() {
    let refused =
        |version: &str, is_cluster: bool| refusal(plan_at(pretender(version, is_cluster), "one"));
    let old = refused("6.0.16", false);
    assert!(
        matches!(&old, JoinError::TooOld(text) if text.contains("6.0.16")
        && text.contains("Redis 6.2") && text.contains("CLUSTER=off")),
        "{old}"
    );
    let cluster = refused("6.2.14", true);
    assert!(matches!(&cluster, JoinError::TooOld(text) if text.contains("Redis 7.0")), "{cluster}");
    let strange = refused("unknown", false);
    assert!(matches!(strange, JoinError::TooOld(_)), "{strange}");
}

#[test]
fn a_redis_that_was_killed_is_used_again() {
    let (mut server, one, two) = pair();
    let stage = session("stage");
    let epoch = one.claim_free(&stage);
    one.commit(&stage, epoch, 1, &[]);
    one.await_standing(Standing::Full);
    server.kill();
    one.await_standing(Standing::Alone);
    assert!(matches!(one.commit(&stage, epoch, 2, &[2]), CommitOutcome::Unsent));
    assert_eq!(one.claim(&session("new"), None), ClaimOutcome::Unknown);
    // It comes back empty. The owner stores again what it decided, with its old epoch.
    server.restart();
    let again = |version| one.commit(&stage, epoch, version, &[2]);
    until("the other node hears", || again(3) == CommitOutcome::Done { deaf: vec![] });
    assert_eq!(two.hear(stage.shard(SHARDS)).1, "<record 3>");
    assert_eq!(server.ask::<u64>("HGET session:stage epoch"), epoch);
    // Nobody has taken anything, and the founding is the former.
    one.await_standing(Standing::Full);
    assert_eq!(server.ask::<String>("HGET bandsync:{nodes}:table origin"), "1700000000000000");
    assert!(one.count("reconnects") > 0);
}

#[test]
fn a_redis_that_was_frozen_is_taken_nothing_from() {
    let (server, one, two) = pair();
    let stage = session("stage");
    let epoch = one.claim_free(&stage);
    one.commit(&stage, epoch, 1, &[]);
    two.await_standing(Standing::Full);
    server.signal("-STOP");
    one.await_standing(Standing::Alone);
    let outcome = one.commit(&stage, epoch, 2, &[]);
    assert!(matches!(outcome, CommitOutcome::Unknown | CommitOutcome::Unsent), "{outcome:?}");
    server.signal("-CONT");
    // All leases have ended. A takeover waits for seniority, until the owner's lease is back.
    let claimed = two.claim(&stage, Some(one.id));
    assert!(!matches!(claimed, ClaimOutcome::Mine { .. }), "{claimed:?}");
    until("it is writable", || {
        one.commit(&stage, epoch, 3, &[]) == CommitOutcome::Done { deaf: vec![] }
    });
    assert_eq!((one.count("takeovers"), two.count("takeovers")), (0, 0));
}

#[test]
fn lost_subscriptions_and_scripts_are_made_again() {
    let (server, one, two) = pair();
    let stage = session("stage");
    let epoch = one.claim_free(&stage);
    let _: Value = server.ask("SCRIPT FLUSH");
    let _: Value = server.ask("CLIENT KILL TYPE pubsub");
    let mut version = 0;
    until("the other node listens", || {
        version += 1;
        one.commit(&stage, epoch, version, &[2]) == CommitOutcome::Done { deaf: vec![] }
    });
    assert_eq!(two.hear(stage.shard(SHARDS)).1, format!("<record {version}>"));
}

#[test]
fn a_full_redis_refuses_and_goes_on() {
    let (server, one, _two) = pair();
    let stage = session("stage");
    let epoch = one.claim_free(&stage);
    let _: Value = server.ask("CONFIG SET maxmemory 1");
    assert_eq!(one.commit(&stage, epoch, 1, &[]), CommitOutcome::Unsent);
    let _: Value = server.ask("CONFIG SET maxmemory 0");
    assert_eq!(one.commit(&stage, epoch, 2, &[]), CommitOutcome::Done { deaf: vec![] });
}

#[test]
fn data_of_a_wrong_type_is_set_aside() {
    let (server, one, _two) = pair();
    let stage = session("stage");
    let _: Value = server.ask("SET session:stage text");
    let epoch = one.claim_free(&stage);
    assert_eq!(server.ask::<String>("GET quarantine:session:stage"), "text");
    assert!(server.ask::<i64>("PTTL quarantine:session:stage") > 0);
    let _: Value = server.ask("SET session:stage more");
    assert_eq!(one.commit(&stage, epoch, 1, &[]), CommitOutcome::Done { deaf: vec![] });
    assert_eq!(one.count("set_aside"), 2);
}

#[test]
fn with_a_secret_forged_and_old_messages_change_nothing() {
    let server = Server::start(&[]);
    server.found(16);
    let secret = Some("backstage".to_owned());
    // The subscription must not be lost on a busy machine, and its messages with it.
    let lease_ttl = Duration::from_secs(10);
    let plan = |name| Plan { secret: secret.clone(), lease_ttl, ..plan(&server, name) };
    let (one, two) = (Node::start(plan("one")), Node::start(plan("two")));
    one.await_others(1);
    two.await_others(1);
    let stage = session("stage");
    let names = Names::new(16);
    let channel = names.inbox(names.bucket(&stage), two.id.number);
    let mut listener = server.connect();
    let subscribe = redis::cmd("SSUBSCRIBE").arg(&channel).get_packed_command();
    listener.send_packed_command(&subscribe).unwrap();
    listener.recv_response().unwrap();
    let epoch = one.claim_free(&stage);
    assert_eq!(one.commit(&stage, epoch, 1, &[2]), CommitOutcome::Done { deaf: vec![] });
    assert_eq!(two.hear(stage.shard(SHARDS)).1, "<record 1>");
    let (_, _, frame): (String, String, Vec<u8>) =
        redis::from_redis_value(listener.recv_response().unwrap()).unwrap();
    let publish = |frame: &[u8]| {
        let mut command = redis::cmd("SPUBLISH");
        command.arg(&channel).arg(frame).query::<i64>(&mut server.connect()).unwrap();
    };
    publish(&frame);
    let mut changed = frame.clone();
    *changed.last_mut().unwrap() ^= 1;
    publish(&changed);
    publish(b"BS");
    publish(&[0; 100]);
    until("all are counted", || {
        two.count("dropped_malformed") >= 2
            && two.count("dropped_forged") == 1
            && two.count("dropped_replayed") == 1
    });
    assert_eq!(one.commit(&stage, epoch, 2, &[2]), CommitOutcome::Done { deaf: vec![] });
    assert_eq!(two.hear(stage.shard(SHARDS)).1, "<record 2>", "nothing came between");
}

#[test]
fn messages_of_nodes_that_are_not_in_the_table_are_dropped() {
    let (server, one, _two) = pair();
    let stage = session("stage");
    let names = Names::new(16);
    let bucket = names.bucket(&stage);
    let seal = crate::frame::Seal::new(None);
    let stranger = NodeId { number: 2, incarnation: 5 };
    let target = crate::frame::Target::Session(stage.tag());
    let frame = crate::frame::frame(&seal, (stranger, 1), target, bucket, b"hello");
    let mut publish = redis::cmd("SPUBLISH");
    publish.arg(names.inbox(bucket, 1)).arg(frame);
    let before = one.count("dropped_unknown");
    publish.query::<i64>(&mut server.connect()).unwrap();
    until("it is counted", || one.count("dropped_unknown") > before);
}
