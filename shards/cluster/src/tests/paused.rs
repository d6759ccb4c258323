//! A node whose process is stopped for longer than its lease lives, and goes on.
//!
//! The node runs in a process of its own, which is this test program again: a test that is no test
//! unless its variables are set.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bandsync_engine::io::NodeNews;
use bandsync_engine::io::node::{ClaimOutcome, CommitOutcome, Standing};
use bandsync_redis::Topology;
use parking_lot::Mutex;

use super::nodes::{Node, SHARDS, plan, plan_at, session};
use super::server::{Server, until};
use crate::order::Order;
use crate::shared::Plan;

const REDIS: &str = "BANDSYNC_TEST_REDIS";
const TTL: Duration = Duration::from_secs(1);

fn patient(plan: Plan) -> Plan {
    Plan { lease_ttl: TTL, timeout: Duration::from_secs(10), ..plan }
}

/// The process that is stopped. It owns a session and goes on deciding, also when it should not.
#[test]
fn a_process_to_be_stopped() {
    let Ok(url) = env::var(REDIS) else { return };
    let node = Node::start(patient(plan_at(Topology::parse(&url).unwrap(), "one")));
    node.await_others(1);
    let stage = session("stage");
    let shard = stage.shard(SHARDS);
    let epoch = node.claim_free(&stage);
    node.await_standing(Standing::Full);
    println!("ready {}", std::process::id());
    // A word that says whether the news of the pause had arrived when it was ordered.
    let (mut word, mut version) = ("old", 0);
    let mut ordered: BTreeMap<u64, Instant> = BTreeMap::new();
    let mut broken: Option<Instant> = None;
    loop {
        for news in node.news[usize::from(shard.0)].try_iter() {
            match news {
                NodeNews::Standing { standing: Standing::New, .. } => {
                    println!("new");
                    (word, broken) = ("new", Some(Instant::now()));
                }
                NodeNews::Standing { standing, .. } => println!("{standing:?}"),
                NodeNews::Committed { version, outcome, .. } => {
                    let Some(since) = ordered.remove(&version) else { continue };
                    // An answer from before the pause must not come before the news of it.
                    if since.elapsed() > TTL * 2 && broken.is_none_or(|at| at < since) {
                        println!("too early: {outcome:?}");
                    }
                    if let CommitOutcome::Lost { .. } = outcome {
                        println!("lost {}", node.count("reconnects"));
                        return;
                    }
                }
                NodeNews::Table { revision, .. } => {
                    (0..SHARDS).for_each(|shard| {
                        let shard = bandsync_engine::words::ids::ShardId(shard);
                        node.courier.order(shard, Order::Noted { revision });
                    });
                }
                _ => {}
            }
        }
        version += 1;
        ordered.insert(version, Instant::now());
        let order = Order::Commit {
            session: &stage,
            epoch,
            version,
            record: b"record",
            branches: b"",
            head: word.as_bytes(),
            tail: b"",
            to: &[2],
        };
        node.courier.order(shard, order);
        let body = format!("{word} said");
        let order = Order::Publish { session: &stage, to: &[2], body: body.as_bytes() };
        node.courier.order(shard, order);
        thread::sleep(Duration::from_millis(1));
    }
}

/// The other process, and the lines that it has printed.
struct Other {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Other {
    fn start(server: &Server) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "tests::paused::a_process_to_be_stopped", "--nocapture"]);
        command.env(REDIS, server.url()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (output, written) = (child.stdout.take().unwrap(), Arc::clone(&lines));
        thread::spawn(move || {
            let read = BufReader::new(output).lines().map_while(Result::ok);
            read.for_each(|line| written.lock().push(line));
        });
        Self { child, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    fn has(&self, start: &str) -> bool {
        self.lines().iter().any(|line| line.starts_with(start))
    }

    fn signal(&self, name: &str) {
        let line = format!("kill {name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_stopped_owner_says_nothing_old_when_it_goes_on() {
    let server = Server::start(&[]);
    server.found(16);
    let other = Other::start(&server);
    until("the other has the number 1", || {
        server.ask::<i64>("HEXISTS bandsync:{nodes}:table 1") == 1
    });
    let two = Node::start(patient(plan(&server, "two")));
    two.await_others(1);
    until("the other node owns a session", || other.has("ready"));
    let stage = session("stage");
    let shard = stage.shard(SHARDS);
    let owner = two.hear_until(shard, "old said");
    two.await_standing(Standing::Full);
    // Commits are under way when it is stopped, and answered while it is.
    server.signal("-STOP");
    other.signal("-STOP");
    server.signal("-CONT");
    until("the session is taken over", || {
        matches!(two.claim(&stage, Some(owner)), ClaimOutcome::Mine { .. })
    });
    let before = two.so_far().len();
    other.signal("-CONT");
    until("its commits are refused", || other.has("lost"));
    let said: Vec<String> = two.so_far()[before..]
        .iter()
        .filter_map(|news| match news {
            NodeNews::Heard { body, .. } => Some(String::from_utf8_lossy(body).into_owned()),
            _ => None,
        })
        .collect();
    assert!(said.iter().all(|body| body.starts_with("new")), "{said:?}");
    let lines = other.lines();
    assert!(!lines.iter().any(|line| line.contains("too early")), "{lines:?}");
    assert!(lines.contains(&"new".to_owned()), "{lines:?}");
    assert!(lines.contains(&"lost 0".to_owned()), "an interrupted read is no loss: {lines:?}");
}
