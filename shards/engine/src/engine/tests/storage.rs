//! Sessions are loaded and stored, with a storage that the test answers for.

use super::*;
use crate::io::{LoadResult, StorageEvent, StoreResult};
use crate::record::Record;
use crate::rooms::CLOCK_EPOCH_MAX;

const WAIT: Micros = Micros::from_millis(500);

fn world() -> World {
    World::new(Settings { storage_wait: Some(WAIT), ..settings() })
}

fn id(name: &str) -> SessionId {
    SessionId::parse(name).unwrap()
}

impl World {
    fn report(&mut self, event: &StorageEvent) {
        self.input(0, Input::Storage { event });
    }

    fn found(&mut self, name: &str, found: LoadResult) {
        self.report(&StorageEvent::Loaded { session: id(name), found });
    }

    /// Answers all pending stores with `outcome`, and returns the records.
    fn keep(&mut self, outcome: StoreResult) -> Vec<Record> {
        let mut records = Vec::new();
        for (order, bytes) in std::mem::take(&mut self.orders) {
            if let Output::Store { session, epoch, version, .. } = order {
                records.push(Record::parse(&bytes).unwrap());
                self.report(&StorageEvent::Stored { session, epoch, version, outcome });
            }
        }
        records
    }

    /// Takes the messages sent to a connection, and returns the acknowledgement of its join.
    fn acknowledged(&mut self, conn: ConnId) -> Option<serde_json::Value> {
        let received = self.received(conn);
        let ack = received.iter().find_map(|message| message.strip_prefix("431"))?;
        Some(serde_json::from_str::<serde_json::Value>(ack).unwrap()[0].clone())
    }
}

const JOIN: &str = r#"421["join_session",{"sessionId":"s","displayName":"Ann"}]"#;
const PLAY: &str = r#"42["play",{"sessionId":"s"}]"#;

/// A member that created a session, after the session was stored.
fn alone(world: &mut World) -> ConnId {
    let ann = world.client(0);
    world.say(ann, JOIN);
    world.found("s", LoadResult::Nothing);
    world.pass(MS(20));
    assert_eq!(world.keep(StoreResult::Stored).len(), 1);
    world.received(ann);
    ann
}

#[test]
fn a_join_waits_for_its_load_only() {
    let mut world = world();
    let ann = world.client(0);
    world.say(ann, JOIN);
    // Sent before the load is answered, and applied after it.
    world.say(ann, PLAY);
    world.pass(MS(100));
    assert_eq!(world.received(ann), [""; 0]);
    assert_eq!(world.orders, [(Output::Load { session: id("s") }, Vec::new())]);
    world.found("s", LoadResult::Nothing);
    let received = world.received(ann).join("\n");
    assert!(received.contains("431[{\"ok\":true") && !received.contains("restored"), "{received}");
    world.pass(MS(10));
    assert!(world.events(ann).contains(&"play".to_owned()));
}

#[test]
fn members_that_join_during_a_load_are_admitted_in_order() {
    let mut world = world();
    let all = [world.client(0), world.client(0), world.client(0)];
    for conn in all {
        world.say(conn, JOIN);
    }
    assert_eq!(world.orders.len(), 1, "one load for all");
    world.input(0, Input::Closed { conn: all[0], cause: CloseCause::Failed });
    world.found("s", LoadResult::Nothing);
    let roles = all.map(|conn| world.acknowledged(conn).map(|ack| ack["role"].clone()));
    assert_eq!(roles, [None, Some("leader".into()), Some("follower".into())]);
    world.turn();
}

#[test]
fn a_join_waits_for_a_silent_storage_for_a_limited_time() {
    let mut world = world();
    let ann = world.client(0);
    world.say(ann, JOIN);
    world.pass(MS(499));
    assert_eq!(world.acknowledged(ann), None);
    world.pass(MS(1));
    let ack = world.acknowledged(ann).unwrap();
    assert_eq!((&ack["ok"], &ack["restored"]), (&true.into(), &false.into()), "{ack}");
    // The answer is too late: the new session stays.
    world.found("s", LoadResult::Nothing);
    world.turn();
}

#[test]
fn a_restored_session_continues_at_the_wall_clock_position() {
    let mut first = world();
    let ann = alone(&mut first);
    first.say(ann, r#"42["update_message",{"sessionId":"s","message":"hi"}]"#);
    first.say(ann, PLAY);
    let began = first.now;
    first.pass(MS(20));
    let stored = first.keep(StoreResult::Stored).pop().unwrap();
    let mut bytes = Vec::new();
    stored.print(&mut bytes);

    // Another process, a minute later by the wall clock, with an earlier monotonic clock.
    let started_unix_ms = settings().started_unix_ms + 60_000;
    let mut second = World::new(Settings {
        storage_wait: Some(WAIT),
        started_unix_ms,
        seed: 2.into(),
        ..settings()
    });
    let bob = second.client(0);
    second.say(bob, JOIN);
    second.found("s", LoadResult::Record(bytes.into()));
    let received = second.received(bob);
    let snapshot = received.iter().find(|message| message.starts_with("42[\"snapshot\"")).unwrap();
    let snapshot: serde_json::Value = serde_json::from_str(&snapshot[2..]).unwrap();
    let expected = 60_000.0 + (second.now.as_micros() as f64 - began.as_micros() as f64) / 1_000.0;
    assert_eq!(snapshot[1]["position"].as_f64(), Some(expected), "{snapshot}");
    assert_eq!((&snapshot[1]["message"], &snapshot[1]["isPlaying"]), (&"hi".into(), &true.into()));
    assert!(snapshot[1]["epoch"].as_u64().unwrap() > stored.timeline.epoch);
    second.pass(MS(20));
    assert_eq!(second.keep(StoreResult::Stored).len(), 1, "the new epoch is stored");
}

#[test]
fn a_session_has_one_record_in_flight_and_then_stores_the_newest() {
    let mut world = world();
    let ann = alone(&mut world);
    let mut tempos = Vec::new();
    for tempo in [90, 91, 92, 93] {
        world.say(ann, &format!(r#"42["set_tempo",{{"sessionId":"s","tempo":{tempo}}}]"#));
        world.pass(MS(300));
        if tempo == 92 {
            tempos.extend(world.keep(StoreResult::Stored));
        }
    }
    tempos.extend(world.keep(StoreResult::Stored));
    world.pass(MS(300));
    tempos.extend(world.keep(StoreResult::Stored));
    let tempos = tempos.iter().map(|record| record.timeline.segments[0].bpm1.milli_bpm() / 1_000);
    assert_eq!(tempos.collect::<Vec<_>>(), [90, 93]);
    world.pass(MS(60_000));
    assert_eq!(world.keep(StoreResult::Stored).len(), 0, "nothing changed");
}

#[test]
fn ticks_chat_and_heartbeats_are_not_stored() {
    let mut world = world();
    let ann = alone(&mut world);
    world.say(ann, PLAY);
    world.pass(MS(20));
    assert_eq!(world.keep(StoreResult::Stored).len(), 1);
    world.say(ann, r#"42["chat_message",{"sessionId":"s","message":"hi"}]"#);
    world.pass(MS(5_000));
    assert!(world.events(ann).iter().filter(|event| *event == "scroll_tick").count() > 300);
    assert_eq!(world.orders, []);
}

#[test]
fn a_rejected_record_is_retried() {
    let mut world = world();
    let ann = alone(&mut world);
    world.say(ann, PLAY);
    world.pass(MS(10));
    assert_eq!(world.keep(StoreResult::Rejected).len(), 1);
    assert_eq!(world.shards[0].counters().sessions_unstored, 1);
    world.pass(MS(95));
    assert_eq!(world.orders, [], "not at once, as it would be rejected again");
    world.pass(MS(10));
    assert_eq!(world.keep(StoreResult::Stored).len(), 1);
    assert_eq!(world.shards[0].counters().sessions_unstored, 0);
    world.say(ann, r#"42["seek",{"sessionId":"s","position":5}]"#);
    world.pass(MS(10));
    assert_eq!(world.keep(StoreResult::Stored).len(), 1, "there is room again");
}

#[test]
fn a_returning_storage_receives_every_session_once() {
    let mut world = world();
    let ann = alone(&mut world);
    world.report(&StorageEvent::Returned);
    world.pass(MS(20));
    assert_eq!(world.orders.len(), 1, "nothing changed, but it may be lost");
    // A pending record is not offered twice.
    world.report(&StorageEvent::Returned);
    world.pass(MS(20));
    assert_eq!(world.keep(StoreResult::Stored).len(), 1);
    world.pass(MS(20));
    assert_eq!(world.orders, []);
    world.say(ann, PLAY);
    world.pass(MS(20));
    assert_eq!(world.keep(StoreResult::Stored).len(), 1);
}

#[test]
fn a_session_raises_its_epoch_above_a_newer_stored_one() {
    let mut world = world();
    let ann = alone(&mut world);
    let epoch = 2_000_000_000_000;
    world.say(ann, PLAY);
    world.pass(MS(10));
    assert_eq!(world.keep(StoreResult::Outdated { epoch }).len(), 1);
    world.pass(MS(20));
    let stored = world.keep(StoreResult::Stored).pop().unwrap();
    assert_eq!(stored.timeline.epoch, epoch + 1);
    assert!(stored.timeline.is_playing_at(world.now), "the state is kept");
    let received = world.received(ann);
    let newest = received.iter().rfind(|message| message.starts_with("42[\"snapshot\"")).unwrap();
    assert!(newest.contains("\"epoch\":2000000000001"), "{newest}");
}

#[test]
fn an_expired_session_is_deleted_from_the_storage() {
    let mut world = world();
    let ann = alone(&mut world);
    world.say(ann, r#"42["leave_session",{"sessionId":"s"}]"#);
    world.pass(MS(20));
    world.keep(StoreResult::Stored);
    world.pass(settings().limits.empty_session_ttl);
    assert!(
        matches!(&world.orders[..], [(Output::Forget { session, .. }, _)] if *session == id("s"))
    );
    world.turn();
}

#[test]
fn a_drain_waits_until_every_change_was_sent_to_the_storage() {
    let mut world = world();
    let ann = alone(&mut world);
    world.say(ann, PLAY);
    world.pass(MS(10));
    assert_eq!(world.orders.len(), 1, "it is on its way and never answered");
    world.say(ann, r#"42["pause",{"sessionId":"s"}]"#);
    world.input(0, Input::Drain);
    assert!(!world.shards[0].is_drained());
    world.pass(MS(10));
    assert!(world.shards[0].is_drained());
    let (_, newest) = world.orders.last().unwrap();
    assert!(!Record::parse(newest).unwrap().timeline.is_playing_at(world.now));
}

#[test]
fn a_damaged_record_is_not_restored() {
    let mut world = world();
    let ann = world.client(0);
    world.say(ann, JOIN);
    world.found("s", LoadResult::Record(Box::new([1, 2, 3])));
    assert_eq!(world.acknowledged(ann).unwrap()["restored"], false);
}

#[test]
fn a_client_that_floods_during_a_load_is_closed() {
    let mut world = world();
    let ann = world.client(0);
    world.say(ann, JOIN);
    for _ in 0..40 {
        if world.closed.is_empty() {
            world.bytes(ann, &[0; 64 * 1024]);
        }
    }
    assert_eq!(world.closed.len(), 1);
    world.found("s", LoadResult::Nothing);
    world.turn();
}

#[test]
fn many_changed_sessions_are_stored_in_portions() {
    let mut world = world();
    let conn = world.client(0);
    for n in 0..300 {
        world.pass(MS(600));
        world.say(conn, &join(&format!("s{n}"), "Ann"));
        world.found(&format!("s{n}"), LoadResult::Nothing);
    }
    world.pass(MS(20));
    world.keep(StoreResult::Stored);
    world.report(&StorageEvent::Returned);
    let mut most = 0;
    for _ in 0..10 {
        let before = world.orders.len();
        world.pass(MS(5));
        most = most.max(world.orders.len() - before);
    }
    assert_eq!((world.orders.len(), most), (300, 128));
}

#[test]
fn an_empty_session_evicted_to_storage_expires_on_time() {
    let mut world = world();
    let ann = alone(&mut world);
    world.say(ann, r#"42["leave_session",{"sessionId":"s"}]"#);
    world.input(0, Input::Memory(FreeMemory::Out));
    assert_eq!(world.shards[0].counters().sessions, 1, "its newest state is not stored yet");
    world.pass(MS(20));
    assert_eq!(world.keep(StoreResult::Stored).len(), 1);
    world.input(0, Input::Memory(FreeMemory::Low));
    world.turn();
    let counters = world.shards[0].counters();
    assert_eq!((counters.sessions, counters.sessions_shed), (0, 1));
    assert_eq!(world.orders, [], "nothing is deleted");
    let ttl = Limits::PRODUCTION.empty_session_ttl;
    world.pass(Micros::from_micros(ttl.as_micros() - 1_000_000));
    assert_eq!(world.orders, []);
    world.pass(Micros::from_secs(1));
    assert!(
        matches!(&world.orders[..], [(Output::Forget { session, .. }, _)] if *session == id("s"))
    );
}

#[test]
fn a_rejoined_session_evicted_to_storage_is_not_deleted() {
    let mut world = world();
    let ann = alone(&mut world);
    world.say(ann, r#"42["leave_session",{"sessionId":"s"}]"#);
    world.pass(MS(20));
    let record = world.keep(StoreResult::Stored).pop().unwrap();
    world.input(0, Input::Memory(FreeMemory::Low));
    world.say(ann, JOIN);
    let mut bytes = Vec::new();
    record.print(&mut bytes);
    world.found("s", LoadResult::Record(bytes.into()));
    assert_eq!(world.acknowledged(ann).unwrap()["restored"], true);
    world.pass(MS(20));
    world.keep(StoreResult::Stored);
    // Longer than the time to live of the evicted session.
    for _ in 0..20 {
        world.say(ann, r#"42["sync_request",{"sessionId":"s"}]"#);
        world.pass(Micros::from_secs(60));
    }
    assert!(!world.orders.iter().any(|(order, _)| matches!(order, Output::Forget { .. })));
    assert_eq!(world.shards[0].counters().sessions, 1);
}

#[test]
fn a_recreated_session_is_newer_than_one_from_a_fast_clock() {
    let limits = Limits { empty_session_ttl: MS(100), ..Limits::PRODUCTION };
    let mut world = World::new(Settings { storage_wait: Some(WAIT), limits, ..settings() });
    let ann = alone(&mut world);
    let epoch = 2_000_000_000_000;
    world.say(ann, PLAY);
    world.pass(MS(10));
    world.keep(StoreResult::Outdated { epoch });
    world.say(ann, r#"42["leave_session",{"sessionId":"s"}]"#);
    world.pass(MS(1_000));
    world.received(ann);
    world.say(ann, JOIN);
    world.found("s", LoadResult::Nothing);
    let ack = world.acknowledged(ann).unwrap();
    assert!(ack["epoch"].as_u64().unwrap() > epoch + 1, "{ack}");
}

#[test]
fn a_member_that_moves_frees_room_for_its_new_session() {
    let limits = Limits { sessions_max: 1, ..Limits::PRODUCTION };
    let mut world = World::new(Settings { storage_wait: Some(WAIT), limits, ..settings() });
    let ann = alone(&mut world);
    world.pass(MS(1_000));
    world.say(ann, &join("other", "Ann"));
    world.found("other", LoadResult::Nothing);
    world.pass(MS(20));
    assert!(world.received(ann).iter().any(|message| message.starts_with("42[\"snapshot\"")));
    let sessions = |name| world.shards[0].session(&id(name)).is_some();
    assert_eq!((sessions("s"), sessions("other")), (false, true));
}

#[test]
fn only_a_stored_session_is_evicted_to_make_room() {
    let limits = Limits { sessions_max: 2, ..Limits::PRODUCTION };
    let mut world = World::new(Settings { storage_wait: Some(WAIT), limits, ..settings() });
    let ann = world.client(0);
    for name in ["first", "second"] {
        world.pass(MS(1_000));
        world.say(ann, &join(name, "Ann"));
        world.found(name, LoadResult::Nothing);
        world.say(ann, &format!(r#"42["leave_session",{{"sessionId":"{name}"}}]"#));
        // One record after joining, one after leaving. Only those of the second session are
        // stored.
        for _ in 0..2 {
            world.pass(MS(110));
            for (order, _) in std::mem::take(&mut world.orders) {
                if let Output::Store { session, epoch, version, .. } = order {
                    let outcome = if session == id("second") {
                        StoreResult::Stored
                    } else {
                        StoreResult::Rejected
                    };
                    world.report(&StorageEvent::Stored { session, epoch, version, outcome });
                }
            }
        }
    }
    world.pass(MS(1_000));
    world.say(ann, &join("third", "Ann"));
    world.found("third", LoadResult::Nothing);
    let has = |name| world.shards[0].session(&id(name)).is_some();
    assert_eq!([has("first"), has("second"), has("third")], [true, false, true]);
    let forgets = world.orders.iter().filter(|(order, _)| matches!(order, Output::Forget { .. }));
    assert_eq!(forgets.count(), 0, "no stored session is deleted");
}

#[test]
fn an_impossible_epoch_affects_its_own_session_only() {
    for epoch in [Record::EPOCH_MAX - 1, Record::EPOCH_MAX, 1 << 53, (1 << 53) + 1, u64::MAX] {
        let mut world = world();
        let ann = alone(&mut world);
        world.say(ann, PLAY);
        world.pass(MS(10));
        assert_eq!(world.keep(StoreResult::Outdated { epoch }).len(), 1);
        // The epoch rises up to the maximum of a record, and the session is stored at most once
        // more.
        world.pass(MS(20));
        let again = world.keep(StoreResult::Outdated { epoch: u64::MAX });
        assert_eq!(again.len(), usize::from(epoch < Record::EPOCH_MAX), "{epoch}");
        world.pass(MS(1_000));
        assert_eq!(world.keep(StoreResult::Stored).len(), 0, "{epoch}");
        // New sessions still take their epoch from the clock.
        let ben = world.client(0);
        world.say(ben, &join("other", "Ben").replacen("42", "421", 1));
        world.found("other", LoadResult::Nothing);
        let ack = world.acknowledged(ben).unwrap();
        assert!(ack["epoch"].as_u64().unwrap() <= CLOCK_EPOCH_MAX, "{ack}");
    }
}

#[test]
fn an_impossible_epoch_in_a_record_does_not_affect_other_sessions() {
    let mut first = world();
    let ann = first.client(0);
    first.say(ann, JOIN);
    first.found("s", LoadResult::Nothing);
    first.pass(MS(20));
    let mut record = first.keep(StoreResult::Stored).pop().unwrap();
    record.timeline.epoch = Record::EPOCH_MAX;
    let mut bytes = Vec::new();
    record.print(&mut bytes);
    let mut world = world();
    let ann = world.client(0);
    world.say(ann, JOIN);
    world.found("s", LoadResult::Record(bytes.into()));
    assert_eq!(world.acknowledged(ann).unwrap()["epoch"], Record::EPOCH_MAX + 1);
    let ben = world.client(0);
    world.say(ben, &join("other", "Ben").replacen("42", "421", 1));
    world.found("other", LoadResult::Nothing);
    assert!(world.acknowledged(ben).unwrap()["epoch"].as_u64().unwrap() <= CLOCK_EPOCH_MAX);
}

const SHOW: &str = r#"421["join_session",{"sessionId":"s","view":"screen"}]"#;

/// Returns the error code of a join that is answered now.
fn refused(world: &mut World, conn: ConnId) -> Option<String> {
    let answer = world.acknowledged(conn)?;
    Some(answer["error"]["code"].as_str()?.to_owned())
}

#[test]
fn a_screen_opens_no_session() {
    let mut world = world();
    let screen = world.client(0);
    world.say(screen, SHOW);
    assert_eq!(world.acknowledged(screen), None);
    world.found("s", LoadResult::Nothing);
    assert_eq!(refused(&mut world, screen).as_deref(), Some("session_not_found"));
    assert!(world.shards[0].session(&id("s")).is_none());
    world.turn();
}

#[test]
fn a_session_that_cannot_be_loaded_is_unavailable_to_screens() {
    let mut world = world();
    let screen = world.client(0);
    world.say(screen, SHOW);
    world.pass(WAIT + MS(1));
    assert_eq!(refused(&mut world, screen).as_deref(), Some("unavailable"));
    world.found("s", LoadResult::Nothing);
    world.say(screen, SHOW);
    world.found("s", LoadResult::Unknown);
    assert_eq!(refused(&mut world, screen).as_deref(), Some("unavailable"));
    assert!(world.shards[0].session(&id("s")).is_none());
    world.turn();
}

#[test]
fn a_screen_shows_the_session_that_a_waiting_member_opens() {
    let mut world = world();
    let [screen, ann] = [0, 0].map(|shard| world.client(shard));
    world.say(screen, SHOW);
    world.say(ann, JOIN);
    world.found("s", LoadResult::Nothing);
    for conn in [screen, ann] {
        assert_eq!(world.acknowledged(conn).unwrap()["ok"], true);
    }
    world.turn();
}

#[test]
fn a_screen_brings_a_stored_session_back() {
    let mut world = world();
    alone(&mut world);
    let record = world.shards[0].session(&id("s")).unwrap().record();
    let mut bytes = Vec::new();
    record.print(&mut bytes);
    let mut world = World::new(Settings { storage_wait: Some(WAIT), ..settings() });
    let screen = world.client(0);
    world.say(screen, SHOW);
    world.found("s", LoadResult::Record(bytes.into()));
    assert_eq!(world.acknowledged(screen).unwrap()["restored"], true);
    world.turn();
}
