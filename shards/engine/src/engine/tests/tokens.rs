//! Members that return to their seats with their tokens: on another connection, from another
//! shard, and instead of a connection that is still there.

use super::*;
use crate::io::{LoadResult, StorageEvent, StoreResult};
use crate::record::Record;
use crate::session::Session;

const TOKEN: &str = "anns-token_with-128-bits";

fn join_with(ack: u32, session: &str, fields: &str) -> String {
    format!(r#"42{ack}["join_session",{{"sessionId":"{session}"{fields}}}]"#)
}

fn ann(fields: &str) -> String {
    join_with(1, "s", &format!(r#","displayName":"Ann","token":"{TOKEN}"{fields}"#))
}

/// The acknowledgement of this number.
fn ack(heard: &[String], number: u32) -> serde_json::Value {
    let prefix = format!("43{number}[");
    let found = heard.iter().find(|message| message.starts_with(&prefix));
    let found = found.unwrap_or_else(|| panic!("no {number} in {heard:?}"));
    serde_json::from_str::<serde_json::Value>(&found[prefix.len() - 1..]).unwrap()[0].clone()
}

fn seat(world: &mut World, id: ConnId) -> (String, String) {
    let ack = ack(&world.received(id), 1);
    assert_eq!(ack["ok"], true, "{ack}");
    let text = |field: &str| ack[field].as_str().unwrap().to_owned();
    (text("seat"), text("role"))
}

fn both(seat: &str, role: &str) -> (String, String) {
    (seat.into(), role.into())
}

fn session(world: &World) -> &Session {
    let s = SessionId::parse("s").unwrap();
    world.shards.iter().find_map(|shard| shard.session(&s)).unwrap()
}

fn recovering(shards: u16) -> Settings {
    let mut settings = Settings { shards, ..settings() };
    settings.transports.recovery = Micros::from_secs(120);
    settings
}

fn lose(world: &mut World, id: ConnId) {
    let (shard, conn) = world.places[&id];
    world.input(shard, Input::Closed { conn, cause: CloseCause::Failed });
    world.places.remove(&id);
    world.pass(MS(10));
}

/// Hard case 6 of the protocol, on connections of any two shards.
#[test]
fn the_newer_connection_of_a_token_has_the_seat() {
    for shards in [1, 3] {
        let mut world = World::new(Settings { shards, ..settings() });
        let last = usize::from(shards) - 1;
        let (old, bob) = (world.client(0), world.client(last));
        world.say(old, &ann(""));
        world.say(bob, &join("s", "Bob"));
        assert_eq!(seat(&mut world, old), both("new", "leader"));
        world.pass(MS(20));
        world.received(bob);
        world.received(old);
        let version = session(&world).version();
        let new = world.client(last);
        world.say(new, &ann(""));
        assert_eq!(seat(&mut world, new), both("back", "leader"));
        world.pass(MS(20));
        assert_eq!(session(&world).version(), version + 1);
        assert_eq!(
            world.events(bob),
            ["user_left", "user_joined", "leader_changed", "snapshot", "room_stats"]
        );
        let heard = world.received(old);
        let [told] = &heard[..] else { panic!("{heard:?}") };
        assert!(told.starts_with(r#"42["error",{"#), "{told}");
        assert!(told.contains(r#""code":"replaced","event":"join_session""#), "{told}");
        // The old connection stays, and is in no session.
        world.say(old, r#"427["play",{"sessionId":"s"}]"#);
        assert_eq!(ack(&world.received(old), 7)["error"]["code"], "not_member");
        world.say(new, r#"427["play",{"sessionId":"s"}]"#);
        assert_eq!(ack(&world.received(new), 7)["ok"], true);
        lose(&mut world, old);
        assert_eq!(session(&world).members().filter(|member| member.connected).count(), 2);
        // It comes back only if somebody asks for that.
        let again = world.client(0);
        world.say(again, &ann(""));
        assert_eq!(seat(&mut world, again), both("back", "leader"));
    }
}

#[test]
fn a_recovery_token_is_void_once_the_seat_was_taken() {
    for replaces in [true, false] {
        let mut world = World::new(recovering(1));
        let (old, bob) = (world.open(0), world.client(0));
        world.bytes(old, UPGRADE);
        world.say(old, "40");
        world.say(bob, &join("s", "Bob"));
        world.say(old, &ann(""));
        world.pass(MS(20));
        let heard = world.received(old);
        let connected = heard.iter().find_map(|message| message.strip_prefix("40")).unwrap();
        let connected: serde_json::Value = serde_json::from_str(connected).unwrap();
        let pid = connected["pid"].as_str().unwrap();
        let event: Vec<serde_json::Value> =
            serde_json::from_str(heard.last().unwrap().strip_prefix("42").unwrap()).unwrap();
        let offset = event.last().unwrap().as_str().map(str::to_owned);
        let snapshot = heard.iter().rfind(|message| message.starts_with(r#"42["snapshot""#));
        let snapshot: Vec<serde_json::Value> =
            serde_json::from_str(snapshot.unwrap().strip_prefix("42").unwrap()).unwrap();
        let offset = offset.unwrap_or_else(|| snapshot[2].as_str().unwrap().to_owned());
        if !replaces {
            lose(&mut world, old);
        }
        let new = world.client(0);
        world.say(new, &ann(""));
        assert_eq!(seat(&mut world, new), both("back", "follower"));
        if replaces {
            lose(&mut world, old);
        }
        let late = world.open(0);
        world.bytes(late, UPGRADE);
        world.say(late, &format!(r#"40{{"pid":"{pid}","offset":"{offset}"}}"#));
        let heard = world.received(late).join("\n");
        assert!(!heard.contains(connected["sid"].as_str().unwrap()), "replaces: {replaces}");
        assert_eq!(session(&world).members().count(), 2);
        world.turn();
    }
}

/// Recovery comes first, and the token still holds after it.
#[test]
fn a_recovered_member_keeps_its_token() {
    let mut world = World::new(recovering(1));
    let bob = world.client(0);
    world.say(bob, &join("s", "Bob"));
    let old = world.open(0);
    world.bytes(old, UPGRADE);
    world.say(old, "40");
    world.say(old, &ann(""));
    world.pass(MS(20));
    let heard = world.received(old);
    let connected = heard.iter().find_map(|message| message.strip_prefix("40")).unwrap();
    let connected: serde_json::Value = serde_json::from_str(connected).unwrap();
    let snapshot = heard.iter().rfind(|message| message.starts_with(r#"42["snapshot""#));
    let snapshot: Vec<serde_json::Value> =
        serde_json::from_str(snapshot.unwrap().strip_prefix("42").unwrap()).unwrap();
    lose(&mut world, old);
    assert_eq!(session(&world).state().tokens.absent().len(), 1);
    let back = world.open(0);
    world.bytes(back, UPGRADE);
    let (pid, offset) = (&connected["pid"], &snapshot[2]);
    world.say(back, &format!(r#"40{{"pid":{pid},"offset":{offset}}}"#));
    assert!(world.received(back).join("\n").contains(connected["sid"].as_str().unwrap()));
    assert_eq!(session(&world).state().tokens.absent().len(), 0);
    let new = world.client(0);
    world.say(new, &ann(""));
    assert_eq!(seat(&mut world, new), both("back", "follower"));
}

#[test]
fn a_client_whose_seat_is_taken_while_it_asks_to_move_still_moves() {
    let mut world = World::new(Settings { shards: 4, ..settings() });
    let home = SessionId::parse("s").unwrap().shard(4);
    let mut names = (0..).map(|n| format!("other-{n}"));
    let other = names.find(|name| SessionId::parse(name).unwrap().shard(4) != home).unwrap();
    let (bob, old, new) = (world.client(0), world.client(0), world.client(0));
    world.say(bob, &join("s", "Bob"));
    world.say(old, &ann(""));
    world.pass(MS(20));
    world.received(old);
    world.slow_mail = true;
    world.say(old, &join_with(5, &other, ""));
    world.say(old, r#"426["sync_request",{"sessionId":"s"}]"#);
    world.say(new, &ann(""));
    world.deliver();
    world.deliver();
    world.pass(MS(20));
    let heard = world.received(old);
    assert_eq!((&ack(&heard, 5)["ok"], &ack(&heard, 5)["seat"]), (&true.into(), &"new".into()));
    assert_eq!(ack(&heard, 6)["error"]["code"], "not_member");
    assert_eq!(seat(&mut world, new), both("back", "follower"));
    let members: u32 = world.shards.iter().map(|shard| shard.counters().members).sum();
    assert_eq!(members, 3);
}

#[test]
fn a_token_is_no_guess_and_needs_no_permission_to_guess() {
    let mut world = World::new(settings());
    let keeper = world.client(0);
    world.say(keeper, &join_with(1, "s", r#","passcode":"right""#));
    let old = world.client(0);
    world.say(old, &ann(r#","passcode":"right""#));
    assert_eq!(seat(&mut world, old), both("new", "follower"));
    let guesser = world.client(0);
    for number in 0..12 {
        world.pass(Micros::from_secs(1));
        world.say(guesser, &join_with(number, "s", r#","passcode":"wrong""#));
    }
    let heard = world.received(guesser);
    assert_eq!(ack(&heard, 11)["error"]["code"], "rate_limited");
    // Tokens that no seat has are no guesses either, but they open no door.
    for number in 0..30 {
        world.pass(Micros::from_secs(1));
        let unknown = format!(r#","token":"unknown-token-of-number-{number}""#);
        world.say(guesser, &join_with(number, "s", &unknown));
        assert_eq!(ack(&world.received(guesser), number)["error"]["code"], "bad_passcode");
    }
    let new = world.client(0);
    world.say(new, &ann(r#","passcode":"wrong""#));
    assert_eq!(seat(&mut world, new), both("back", "follower"));
}

/// A join changes no version, and yet what it adds must survive a crash.
#[test]
fn a_token_is_stored_and_brings_the_seat_back_after_a_crash() {
    let stored = |world: &mut World| {
        let orders = std::mem::take(&mut world.orders);
        let records = orders.into_iter().filter_map(|(order, bytes)| match order {
            Output::Store { session, epoch, version, .. } => {
                let outcome = StoreResult::Stored;
                let event = StorageEvent::Stored { session, epoch, version, outcome };
                world.input(0, Input::Storage { event: &event });
                Some(bytes)
            }
            _ => None,
        });
        records.collect::<Vec<Vec<u8>>>()
    };
    let s = SessionId::parse("s").unwrap();
    let storing = Settings { storage_wait: Some(MS(500)), ..settings() };
    let mut first = World::new(storing.clone());
    let (bob, old) = (first.client(0), first.client(0));
    first.say(bob, &join("s", "Bob"));
    let nothing = StorageEvent::Loaded { session: s.clone(), found: LoadResult::Nothing };
    first.input(0, Input::Storage { event: &nothing });
    first.pass(MS(20));
    assert_eq!(stored(&mut first).len(), 1);
    first.say(old, &ann(""));
    first.pass(MS(20));
    let records = stored(&mut first);
    assert_eq!(records.len(), 1, "the token was not stored");
    first.pass(MS(20));
    assert_eq!(stored(&mut first).len(), 0, "it is stored once");
    assert_eq!(Record::parse(&records[0]).unwrap().timeline.version, session(&first).version());

    let mut second = World::new(Settings { seed: 2.into(), ..storing });
    let new = second.client(0);
    second.say(new, &ann(""));
    let found = LoadResult::Record(records[0].clone().into());
    let loaded = StorageEvent::Loaded { session: s, found };
    second.input(0, Input::Storage { event: &loaded });
    let heard = second.received(new);
    assert_eq!(
        (&ack(&heard, 1)["restored"], &ack(&heard, 1)["seat"]),
        (&true.into(), &"back".into())
    );
    // Nothing that members or operators can see has the token.
    let mut roster = Vec::new();
    second.shards[0].roster(&mut roster);
    let shown = format!("{heard:?}{}", String::from_utf8_lossy(&roster));
    assert!(shown.contains("Ann") && !shown.contains(TOKEN), "{shown}");
}
