//! Each script against a real server: accepted, refused, and with data that makes no sense.

use bandsync_engine::io::NodeId;
use redis::Value;

use super::server::Server;
use crate::census::{self, Question};
use crate::line::Line;
use crate::names::TABLE;
use crate::reply::{self, Claimed, Owned, Published, Trouble};
use crate::scripts::{Script, Scripts};
use crate::table::{Entry, Joined, Table};

const ONE: NodeId = NodeId { number: 1, incarnation: 11 };
const TWO: NodeId = NodeId { number: 2, incarnation: 22 };

/// A server with one line to it, and the scripts.
struct Stage {
    server: Server,
    line: Line,
    scripts: Scripts,
}

impl Stage {
    fn new(options: &[&str]) -> Self {
        let server = Server::start(options);
        let line = server.line();
        Self { server, line, scripts: Scripts::default() }
    }

    fn lease(&self, node: NodeId) {
        let NodeId { number, incarnation } = node;
        let _: Value = self.server.ask(&format!("SET lease:{number} {incarnation}"));
    }

    fn run(
        &mut self,
        script: impl Fn(&Scripts) -> &Script,
        keys: &[&str],
        arguments: &[&str],
    ) -> Result<Value, Trouble> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let arguments: Vec<Vec<u8>> = arguments.iter().map(|text| text.as_bytes().into()).collect();
        let (open, _) = self.line.open().unwrap();
        let answer = open.run(script(&self.scripts), &keys, &arguments);
        answer.and_then(|answer| answer).map_err(|error| Trouble::of(&error))
    }

    fn claim(&mut self, node: NodeId, expected: Option<NodeId>) -> Result<Claimed, Trouble> {
        self.claim_from(node, expected, 1_000)
    }

    fn claim_from(
        &mut self,
        node: NodeId,
        expected: Option<NodeId>,
        k: u64,
    ) -> Result<Claimed, Trouble> {
        let (own, k) = (format!("lease:{}", node.number), k.to_string());
        let other = expected.map(|node| format!("lease:{}", node.number));
        let mut keys = vec!["s", own.as_str(), "tags"];
        keys.extend(other.as_deref());
        let expected = expected.map_or_else(String::new, |node| node.to_string());
        let (number, incarnation) = (node.number.to_string(), node.incarnation.to_string());
        let arguments = [&number, &incarnation, &expected, &k, "60000", "77", "stage", "100", "3"];
        let answer = self.run(|scripts| &scripts.claim, &keys, &arguments)?;
        reply::claimed(&answer)
    }

    fn commit(&mut self, node: NodeId, epoch: u64, version: u64) -> Result<Owned, Trouble> {
        self.commit_to(node, epoch, version, &["here", "there"])
    }

    fn commit_to(
        &mut self,
        node: NodeId,
        epoch: u64,
        version: u64,
        to: &[&str],
    ) -> Result<Owned, Trouble> {
        let (epoch, record) = (epoch.to_string(), format!("r{version}"));
        let (version, owner, n) = (version.to_string(), node.to_string(), to.len().to_string());
        let mut arguments = vec![&epoch[..], &version, &owner, "60000", "SPUBLISH", "<", ">", &n];
        arguments.extend(to);
        arguments.extend(["record", &record, "branches", "b"]);
        let answer = self.run(|scripts| &scripts.commit, &["s"], &arguments)?;
        reply::owned(&answer)
    }

    fn owned(
        &mut self,
        script: impl Fn(&Scripts) -> &Script,
        keys: &[&str],
        arguments: &[&str],
    ) -> Result<Owned, Trouble> {
        reply::owned(&self.run(script, keys, arguments)?)
    }

    fn epoch(&self) -> u64 {
        self.server.ask("HGET s epoch")
    }
}

fn mine(claimed: Result<Claimed, Trouble>) -> u64 {
    match claimed {
        Ok(Claimed::Mine { epoch, .. }) => epoch,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_free_session_is_claimed_and_another_node_finds_its_owner() {
    let mut stage = Stage::new(&[]);
    assert_eq!(stage.claim(ONE, None), Ok(Claimed::Lapsed), "it has no lease");
    stage.lease(ONE);
    stage.lease(TWO);
    let epoch = mine(stage.claim(ONE, None));
    assert_eq!(epoch, 1_001 * 2_048 + 1);
    assert_eq!(stage.server.ask::<String>("HGET s owner"), "1.11");
    assert_eq!(stage.server.ask::<String>("HGET tags 77"), "stage");
    assert!(stage.server.ask::<i64>("PTTL s") > 50_000);
    let theirs = Claimed::Theirs { owner: ONE, epoch, stored: None };
    assert_eq!(stage.claim(TWO, None), Ok(theirs.clone()));
    assert_eq!(stage.claim(TWO, Some(ONE)), Ok(theirs), "the owner's lease stands");
    // The owner itself may claim again, with a higher epoch.
    assert!(mine(stage.claim(ONE, None)) > epoch);
}

#[test]
fn a_session_is_taken_over_only_after_the_end_of_its_owners_lease() {
    let mut stage = Stage::new(&[]);
    stage.lease(ONE);
    stage.lease(TWO);
    let epoch = mine(stage.claim(ONE, None));
    stage.commit(ONE, epoch, 3).unwrap();
    let _: i64 = stage.server.ask("DEL lease:1");
    assert!(matches!(stage.claim(TWO, None), Ok(Claimed::Theirs { owner: ONE, .. })));
    let other = NodeId { number: 1, incarnation: 10 };
    assert!(matches!(stage.claim(TWO, Some(other)), Ok(Claimed::Theirs { owner: ONE, .. })));
    let Ok(Claimed::Mine { former, epoch: taken, stored }) = stage.claim(TWO, Some(ONE)) else {
        panic!()
    };
    let stored = stored.unwrap();
    assert_eq!(
        (former, &stored.record[..], &stored.branches[..]),
        (Some(ONE), &b"r3"[..], &b"b"[..])
    );
    assert!(taken > epoch && taken % 2_048 == 2);
    // The former owner stores nothing any more.
    let lost = Ok(Owned::Lost { epoch: taken, owner: Some(TWO) });
    assert_eq!(stage.commit(ONE, epoch, 4), lost);
    assert_eq!(stage.server.ask::<String>("HGET s record"), "r3");
    // A new process with the number of the owner is another node.
    stage.lease(NodeId { number: 2, incarnation: 23 });
    stage.lease(ONE);
    assert!(mine(stage.claim(ONE, Some(TWO))) > taken);
}

#[test]
fn a_commit_is_published_with_its_record_and_counts_who_listens() {
    let mut stage = Stage::new(&[]);
    let mut listener = stage.server.connect();
    listener
        .send_packed_command(&redis::cmd("SSUBSCRIBE").arg("there").get_packed_command())
        .unwrap();
    listener.recv_response().unwrap();
    stage.lease(ONE);
    let epoch = mine(stage.claim(ONE, None));
    assert_eq!(stage.commit(ONE, epoch, 5), Ok(Owned::Done { deaf: vec![0] }));
    let heard: (String, String, String) =
        redis::from_redis_value(listener.recv_response().unwrap()).unwrap();
    assert_eq!(heard.2, "<r5>");
    // A commit that was given up and arrives late changes nothing and is not published.
    assert_eq!(stage.commit(ONE, epoch, 4), Ok(Owned::Done { deaf: vec![] }));
    assert_eq!(stage.server.ask::<String>("HGET s record"), "r5");
    assert_eq!(stage.commit_to(ONE, epoch, 5, &[]), Ok(Owned::Done { deaf: vec![] }));
}

#[test]
fn an_owner_stores_again_what_redis_has_lost() {
    let mut stage = Stage::new(&[]);
    stage.lease(ONE);
    let epoch = mine(stage.claim(ONE, None));
    let _: Value = stage.server.ask("FLUSHALL");
    assert_eq!(stage.commit_to(ONE, epoch, 9, &[]), Ok(Owned::Done { deaf: vec![] }));
    assert_eq!((stage.epoch(), stage.server.ask::<u64>("HGET s version")), (epoch, 9));
    let _: i64 = stage.server.ask("HSET s epoch 5 version 99 owner 2.22");
    assert_eq!(stage.commit_to(ONE, epoch, 9, &[]), Ok(Owned::Done { deaf: vec![] }));
    assert_eq!(stage.epoch(), epoch);
}

#[test]
fn data_that_makes_no_sense_is_an_error_and_stays() {
    let mut stage = Stage::new(&[]);
    stage.lease(ONE);
    let senseless = Trouble::senseless();
    for spoil in [
        "SET s text",
        "HSET s epoch many",
        "HSET s epoch -5",
        "HSET s epoch 9007199254740992",
        "HSET s epoch 1e3",
        "HSET s epoch 3 format x",
        "RPUSH s 1",
    ] {
        let _: Value = stage.server.ask("DEL s");
        let _: Value = stage.server.ask(spoil);
        assert_eq!(stage.claim(ONE, None), Err(senseless.clone()), "{spoil}");
        let before: Option<Vec<u8>> = stage.server.ask("DUMP s");
        if !spoil.contains("format") {
            assert_eq!(stage.commit(ONE, 9_000, 1), Err(senseless.clone()), "{spoil}");
            let answer = stage.owned(|scripts| &scripts.release, &["s"], &["1", "1.11", "9"]);
            assert_eq!(answer, Err(senseless.clone()), "{spoil}");
            let answer =
                stage.owned(|scripts| &scripts.forget, &["s", "tags"], &["1", "1.11", "7"]);
            assert_eq!(answer, Err(senseless.clone()), "{spoil}");
        }
        assert_eq!(stage.server.ask::<Option<Vec<u8>>>("DUMP s"), before, "{spoil}");
    }
    // More than a record may be.
    let _: Value = stage.server.ask("DEL s");
    let _: Value = stage.server.ask(&format!("HSET s record {}", "x".repeat(101)));
    assert_eq!(stage.claim(ONE, None), Err(senseless));
    // An owner that no node wrote does not keep the session from its members.
    let _: Value = stage.server.ask("DEL s");
    let _: Value = stage.server.ask("HSET s epoch 5 owner somebody record r");
    mine(stage.claim(ONE, None));
    let _: Value = stage.server.ask("RPUSH list 1");
    let _: Value = stage.server.ask("RENAME list lease:1");
    assert!(matches!(stage.claim(ONE, None), Err(Trouble::Session(_))), "a lease of a wrong type");
}

#[test]
fn a_record_of_a_newer_format_is_not_claimed() {
    let mut stage = Stage::new(&[]);
    stage.lease(ONE);
    let _: Value = stage.server.ask("HSET s epoch 5 record r format 4");
    assert_eq!(stage.claim(ONE, None), Ok(Claimed::Newer { format: 4 }));
    assert_eq!(stage.epoch(), 5);
}

#[test]
fn epochs_rise_above_what_is_stored_and_end_at_the_limit() {
    let mut stage = Stage::new(&[]);
    stage.lease(ONE);
    let high = (1_u64 << 53) - 2 * 2_048;
    let _: Value = stage.server.ask(&format!("HSET s epoch {high} record r"));
    let epoch = mine(stage.claim(ONE, None));
    assert_eq!(epoch, (1 << 53) - 2_048 + 1, "Lua must not round");
    assert_eq!(stage.epoch(), epoch);
    assert_eq!(stage.claim(ONE, None), Ok(Claimed::Limit { epoch }));
    assert_eq!(stage.epoch(), epoch);
    let _: Value = stage.server.ask("DEL s");
    assert_eq!(stage.claim_from(ONE, None, (1 << 42) - 1), Ok(Claimed::Limit { epoch: 0 }));
}

#[test]
fn a_full_redis_changes_nothing() {
    let mut stage = Stage::new(&[]);
    stage.lease(ONE);
    let epoch = mine(stage.claim(ONE, None));
    stage.commit(ONE, epoch, 1).unwrap();
    let _: Value = stage.server.ask("CONFIG SET maxmemory 1");
    assert!(matches!(stage.commit(ONE, epoch, 2), Err(Trouble::Later(_))));
    assert!(matches!(stage.claim(ONE, None), Err(Trouble::Later(_))));
    assert_eq!((stage.epoch(), stage.server.ask::<u64>("HGET s version")), (epoch, 1));
    let _: Value = stage.server.ask("CONFIG SET maxmemory 0");
    stage.commit(ONE, epoch, 2).unwrap();
}

#[test]
fn a_message_is_published_until_the_end_of_the_senders_lease() {
    let mut stage = Stage::new(&[]);
    let mut listener = stage.server.connect();
    let subscribe = redis::cmd("SSUBSCRIBE").arg("there").get_packed_command();
    listener.send_packed_command(&subscribe).unwrap();
    listener.recv_response().unwrap();
    let (seconds, _): (u64, u64) = stage.server.ask("TIME");
    let mut publish = |end: u64, message: &str| {
        let end = end.to_string();
        let arguments = [&end, "SPUBLISH", message, "here", "there"];
        reply::published(&stage.run(|scripts| &scripts.publish, &[], &arguments)?)
    };
    let done = Ok(Published::Done { deaf: vec![0] });
    assert_eq!(publish((seconds + 60) * 1_000, "held"), done);
    assert_eq!(publish((seconds - 1) * 1_000, "old"), Ok(Published::Late));
    assert_eq!(publish(0, "unknown"), done);
    for wanted in ["held", "unknown"] {
        let heard: (String, String, String) =
            redis::from_redis_value(listener.recv_response().unwrap()).unwrap();
        assert_eq!(heard.2, wanted);
    }
}

#[test]
fn a_session_is_released_and_forgotten_by_its_owner_alone() {
    let mut stage = Stage::new(&[]);
    stage.lease(ONE);
    stage.lease(TWO);
    let epoch = mine(stage.claim(ONE, None));
    stage.commit(ONE, epoch, 1).unwrap();
    let text = epoch.to_string();
    let release = |stage: &mut Stage, owner: &str| {
        stage.owned(|scripts| &scripts.release, &["s"], &[&text, owner, "60000"])
    };
    assert_eq!(release(&mut stage, "2.22"), Ok(Owned::Lost { epoch, owner: Some(ONE) }));
    assert_eq!(release(&mut stage, "1.11"), Ok(Owned::Done { deaf: vec![] }));
    assert_eq!(release(&mut stage, "1.11"), Ok(Owned::Lost { epoch, owner: None }));
    let taken = mine(stage.claim(TWO, None));
    let forget = |stage: &mut Stage, epoch: u64, owner: &str| {
        let epoch = epoch.to_string();
        stage.owned(|scripts| &scripts.forget, &["s", "tags"], &[&epoch, owner, "77"])
    };
    let lost = Ok(Owned::Lost { epoch: taken, owner: Some(TWO) });
    assert_eq!(forget(&mut stage, epoch, "1.11"), lost);
    assert_eq!(forget(&mut stage, taken, "1.11"), lost);
    assert_eq!(forget(&mut stage, taken, "2.22"), Ok(Owned::Done { deaf: vec![] }));
    assert_eq!(stage.server.ask::<i64>("EXISTS s"), 0);
    assert_eq!(stage.server.ask::<i64>("HEXISTS tags 77"), 0);
    assert_eq!(forget(&mut stage, taken, "2.22"), Ok(Owned::Done { deaf: vec![] }));
}

#[test]
fn a_script_that_redis_has_forgotten_is_sent_again() {
    let mut stage = Stage::new(&[]);
    stage.lease(ONE);
    mine(stage.claim(ONE, None));
    let _: Value = stage.server.ask("SCRIPT FLUSH");
    mine(stage.claim(ONE, None));
}

/// Asks for a place in the table.
fn join(stage: &mut Stage, number: u16, incarnation: u64, origin: &str) -> Joined {
    let entry = Entry { incarnation: incarnation.to_string(), ..Entry::default() };
    let (is_fixed, buckets) = (false, 64);
    let question = Question { number, is_fixed, incarnation, entry: &entry, buckets, origin };
    let (open, _) = stage.line.open().unwrap();
    census::ask(open, &stage.scripts, &question).unwrap()
}

fn table(joined: Joined) -> Table {
    match joined {
        Joined::In(table) => table,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_table_gives_the_smallest_number_that_nobody_used_for_an_hour() {
    let mut stage = Stage::new(&[]);
    assert_eq!(join(&mut stage, 0, 5, ""), Joined::Unfounded);
    let first = table(join(&mut stage, 0, 5, "1700"));
    assert_eq!((first.number, &first.origin[..], first.entries.len()), (1, "1700", 0));
    let second = table(join(&mut stage, 0, 6, ""));
    assert_eq!((second.number, &second.origin[..]), (2, "1700"));
    assert_eq!(second.entries[&1].incarnation, "5");
    assert!(second.entries[&1].at.abs_diff(second.now) < 60_000);
    // A node keeps its number, and the founding that the table has counts.
    assert_eq!(table(join(&mut stage, 2, 6, "9")).origin, "1700");
    assert_eq!(table(join(&mut stage, 2, 7, "")).number, 3);
    // Old entries and those that make no sense are free, and strangers' fields stay.
    let now = second.now;
    for (number, at) in [(1, now - 3_700_000), (2, now + 4_000_000)] {
        let entry = format!(r#"{{"at":{at},"incarnation":"5"}}"#);
        let _: i64 = stage.server.ask(&format!("HSET {TABLE} {number} {entry} note mine 4 ["));
    }
    let fourth = table(join(&mut stage, 0, 8, ""));
    assert_eq!(fourth.number, 1);
    let fields: Vec<String> = stage.server.ask(&format!("HKEYS {TABLE}"));
    assert!(!fields.contains(&"2".to_owned()) && !fields.contains(&"4".to_owned()), "{fields:?}");
    assert!(fields.contains(&"note".to_owned()), "{fields:?}");
}

#[test]
fn a_table_that_does_not_fit_is_refused() {
    let mut stage = Stage::new(&[]);
    table(join(&mut stage, 0, 5, "1700"));
    let _: i64 = stage.server.ask(&format!("HSET {TABLE} buckets 32"));
    assert_eq!(join(&mut stage, 0, 6, ""), Joined::Buckets("32".into()));
    let _: Value = stage.server.ask(&format!("SET {TABLE} text"));
    let entry = Entry::default();
    let (number, is_fixed, incarnation, buckets, origin) = (0, false, 1, 64, "");
    let question = Question { number, is_fixed, incarnation, entry: &entry, buckets, origin };
    let (open, _) = stage.line.open().unwrap();
    assert!(matches!(census::ask(open, &stage.scripts, &question), Err(Trouble::Session(_))));
    // A number that another process has is not given to this one, which wants no other.
    let _: i64 = stage.server.ask(&format!("DEL {TABLE}"));
    table(join(&mut stage, 0, 5, "1700"));
    let entry = Entry { incarnation: "6".into(), ..Entry::default() };
    let (number, is_fixed, incarnation) = (1, true, 6);
    let question = Question { number, is_fixed, incarnation, entry: &entry, buckets, origin };
    let (open, _) = stage.line.open().unwrap();
    assert_eq!(census::ask(open, &stage.scripts, &question), Ok(Joined::Taken));
}

#[test]
fn a_node_removes_what_is_its_own() {
    let mut stage = Stage::new(&[]);
    stage.lease(ONE);
    table(join(&mut stage, 0, 11, "1700"));
    for (incarnation, left) in [("12", 1), ("11", 0)] {
        stage.run(|scripts| &scripts.leave, &["lease:1"], &[incarnation, ""]).unwrap();
        stage.run(|scripts| &scripts.leave, &[TABLE], &[incarnation, "1"]).unwrap();
        assert_eq!(stage.server.ask::<i64>("EXISTS lease:1"), left);
        assert_eq!(stage.server.ask::<i64>(&format!("HEXISTS {TABLE} 1")), left);
    }
}
