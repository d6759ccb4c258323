//! Rules for clients (rates, addresses, names, secrets), under the engine's clock.
use super::*;
use crate::io::HttpRequest;
use crate::io::report::Manner;
use crate::words::limits::RateLimits;
use crate::words::policy::{Hosts, Named, Network, PeerLimits};

const SECOND: Micros = Micros::from_secs(1);

fn world(change: impl FnOnce(&mut Settings)) -> World {
    let mut settings = settings();
    change(&mut settings);
    World::new(settings)
}

/// Sends the lines of a request and an empty line. Returns the answer.
fn ask(world: &mut World, lines: &[&str]) -> String {
    let id = world.open(0);
    world.bytes(id, format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes());
    String::from_utf8_lossy(&world.sent[&id]).into_owned()
}

const UPGRADE_LINES: [&str; 5] = [
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

fn upgrade(world: &mut World, more: &[&str]) -> String {
    ask(world, &[&UPGRADE_LINES, more].concat())
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

#[test]
fn an_address_has_a_limited_number_of_connections() {
    let peers = PeerLimits { connections_max: 2, ..PeerLimits::default() };
    let mut world = world(|settings| settings.policy.peers = peers);
    let first = world.client(0);
    world.client(0);
    let third = world.open(0);
    let answer = String::from_utf8_lossy(&world.sent[&third]).into_owned();
    assert!(
        answer.starts_with("HTTP/1.1 429 ") && answer.contains("\r\nRetry-After: 5\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with(r#"{"error":"Too many connections"}"#), "{answer}");
    assert_eq!(world.closed.get(&third), Some(&Close::Gently));
    world.say(first, "1");
    world.client(0);
    world.turn();
}

#[test]
fn an_address_that_connects_too_fast_receives_a_retry_after() {
    let peers = PeerLimits { connections_per_second: 5, ..PeerLimits::default() };
    let mut world = world(|settings| settings.policy.peers = peers);
    for _ in 0..10 {
        world.open(0);
    }
    let rejected = world.open(0);
    let told = String::from_utf8_lossy(&world.sent[&rejected]).into_owned();
    assert!(told.starts_with("HTTP/1.1 429 ") && told.contains("\r\nRetry-After: 1\r\n"), "{told}");
    assert!(told.ends_with(r#"{"error":"Too many requests"}"#), "{told}");
    world.pass(SECOND);
    world.client(0);
    world.turn();
}

#[test]
fn clients_behind_a_proxy_are_counted_separately() {
    let mut world = world(|settings| {
        settings.policy.peers = PeerLimits { connections_max: 1, ..PeerLimits::default() };
        settings.policy.proxies = vec![Network::parse("127.0.0.1").unwrap()];
    });
    let one = ["Host: band", "X-Forwarded-For: 203.0.113.1"];
    let other = ["Host: band", "X-Forwarded-For: 203.0.113.1, 203.0.113.2"];
    assert_eq!(status(&upgrade(&mut world, &one)), "101");
    assert_eq!(status(&upgrade(&mut world, &one)), "429");
    assert_eq!(status(&upgrade(&mut world, &other)), "101");
    world.turn();
}

/// Sends an upgrade with additional header lines of any bytes. Returns the status.
fn raw_upgrade(world: &mut World, lines: &[&[u8]]) -> String {
    let id = world.open(0);
    let mut head = UPGRADE_LINES.join("\r\n").into_bytes();
    for line in [&[&b"Host: band"[..]], lines].concat() {
        head.extend_from_slice(b"\r\n");
        head.extend_from_slice(line);
    }
    head.extend_from_slice(b"\r\n\r\n");
    world.bytes(id, &head);
    status(&String::from_utf8_lossy(&world.sent[&id])).to_owned()
}

fn behind_a_proxy(connections_max: u32) -> World {
    world(|settings| {
        settings.policy.peers =
            PeerLimits { connections_max, spares_loopback: true, ..PeerLimits::default() };
        settings.policy.proxies = vec![Network::parse("127.0.0.1").unwrap()];
        settings.transports.polling = true;
    })
}

#[test]
fn clients_whose_address_cannot_be_read_share_one_count() {
    let mut world = behind_a_proxy(2);
    let unreadable: [&[&[u8]]; 6] = [
        &[b"X-Forwarded-For: \xff"],
        &[b"X-Forwarded-For: 198.51.100.1", b"X-Forwarded-For: \xff"],
        &[b"x-forwarded-for:"],
        &[b"X-Forwarded-For: unknown"],
        &[b"Via: 1.1 \xff"],
        &[b"Forwarded: for=192.0.2.1"],
    ];
    let statuses: Vec<String> =
        unreadable.iter().map(|lines| raw_upgrade(&mut world, lines)).collect();
    assert_eq!(statuses, ["101", "101", "429", "429", "429", "429"]);
    assert_eq!(
        raw_upgrade(&mut world, &[b"X-Forwarded-For: 198.51.100.1"]),
        "101",
        "a readable address has its own count"
    );
    world.turn();
}

#[test]
fn several_forwarded_for_lines_form_one_ordered_list() {
    let mut world = behind_a_proxy(1);
    let lines: [&[u8]; 2] = [b"X-Forwarded-For: 198.51.100.7", b"X-FORWARDED-FOR: 203.0.113.1"];
    assert_eq!(raw_upgrade(&mut world, &lines), "101");
    assert_eq!(
        raw_upgrade(&mut world, &[b"X-Forwarded-For: 203.0.113.1"]),
        "429",
        "the last one counts"
    );
    assert_eq!(raw_upgrade(&mut world, &[b"X-Forwarded-For: 198.51.100.7"]), "101");
    world.turn();
}

#[test]
fn a_forwarded_request_never_counts_as_loopback() {
    for trusted in [true, false] {
        let mut world = behind_a_proxy(2);
        if !trusted {
            world = self::world(|settings| {
                settings.policy.peers = PeerLimits {
                    connections_max: 2,
                    spares_loopback: true,
                    ..PeerLimits::default()
                };
            });
        }
        for n in 0..4 {
            assert_eq!(raw_upgrade(&mut world, &[]), "101", "a program on this machine: {n}");
        }
        let claims: Vec<String> =
            (0..8).map(|_| raw_upgrade(&mut world, &[b"X-Forwarded-For: 127.0.0.1"])).collect();
        assert!(claims.contains(&"429".to_owned()), "{trusted}: {claims:?}");
        world.turn();
    }
}

#[test]
fn one_proxy_connection_carries_requests_of_many_clients() {
    let mut world = behind_a_proxy(1);
    let id = world.open(0);
    let open = |world: &mut World, client: &str| {
        let head = format!(
            "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {client}\r\n\r\n"
        );
        world.bytes(id, head.as_bytes());
        let sent = world.sent.remove(&id).unwrap();
        status(&String::from_utf8_lossy(&sent)).to_owned()
    };
    assert_eq!(open(&mut world, "203.0.113.1"), "200");
    assert_eq!(open(&mut world, "203.0.113.2"), "200", "it is another client");
    assert_eq!(open(&mut world, "203.0.113.1"), "429");
    world.turn();
}

/// Returns the request that the host receives for a request with these header lines.
fn asked(world: &mut World, target: &str, lines: &[&[u8]]) -> HttpRequest {
    let id = world.open(0);
    let head =
        [format!("GET {target} HTTP/1.1").as_bytes(), &lines.join(&b"\r\n"[..])].join(&b"\r\n"[..]);
    let (shard, conn) = world.places[&id];
    let mut out = Outputs::default();
    let mut bytes = [&head[..], b"\r\n\r\n"].concat();
    world.shards[shard].handle(world.now, Input::Received { conn, bytes: &mut bytes }, &mut out);
    match &out.list[..] {
        [Output::Request { request, .. }] => request.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_host_receives_whether_a_request_was_forwarded_and_its_host_name() {
    let mut world =
        world(|settings| settings.policy.hosts = Hosts::Local(vec!["band.example".into()]));
    let host: &[u8] = b"Host: band.example";
    let request = asked(&mut world, "/metrics", &[host]);
    assert_eq!(
        (request.forwarded, request.named, &*request.host),
        (false, Named::Known, "band.example")
    );
    for lines in [
        &[&b"X-Forwarded-For: 192.0.2.1"[..], b"X-Forwarded-For: 192.0.2.2"][..],
        &[b"X-Forwarded-For: \xff"],
        &[b"Forwarded:"],
        &[b"X-Real-IP: \xff", b"x-real-ip: a"],
        &[b"VIA: 1.0 x"],
    ] {
        assert!(asked(&mut world, "/metrics", &[&[host], lines].concat()).forwarded, "{lines:?}");
    }
    assert_eq!(asked(&mut world, "/metrics", &[b"Host: evil.example"]).named, Named::Foreign);
    assert_eq!(asked(&mut world, "http://evil.example/metrics", &[host]).named, Named::Foreign);
    let accept =
        asked(&mut world, "/", &[host, b"Accept: text/html;q=0.5", b"Accept: application/json"])
            .accept;
    assert_eq!(accept, "text/html;q=0.5,application/json");
}

#[test]
fn a_direct_client_cannot_forge_its_address() {
    let peers = PeerLimits { connections_max: 1, ..PeerLimits::default() };
    let mut world = world(|settings| settings.policy.peers = peers);
    assert_eq!(
        status(&upgrade(&mut world, &["Host: band", "X-Forwarded-For: 203.0.113.1"])),
        "101"
    );
    let id = world.open(0);
    assert!(world.sent[&id].starts_with(b"HTTP/1.1 429 "), "the address of the connection counts");
}

#[test]
fn a_handed_over_connection_is_counted_on_its_new_shard() {
    let mut world = world(|settings| {
        settings.shards = 2;
        settings.policy.peers = PeerLimits { connections_max: 1, ..PeerLimits::default() };
    });
    let id = world.client(0);
    let name = (0..)
        .map(|n| format!("s{n}"))
        .find(|name| SessionId::parse(name).unwrap().shard(2) == ShardId(1));
    world.say(id, &join(&name.unwrap(), "Ann"));
    world.turn();
    assert_eq!(world.handed_over, 1);
    world.client(0);
    let there = world.open(1);
    assert!(world.sent[&there].starts_with(b"HTTP/1.1 429 "));
    world.turn();
}

#[test]
fn a_page_under_a_foreign_host_name_is_rejected() {
    let mut world =
        world(|settings| settings.policy.hosts = Hosts::Local(vec!["band.example".into()]));
    for (host, code) in [
        ("evil.example", "403"),
        ("band.example", "101"),
        ("192.168.1.5", "101"),
        ("pi.local", "101"),
    ] {
        let lines = [format!("Host: {host}:3001"), format!("Origin: http://{host}:3001")];
        assert_eq!(status(&upgrade(&mut world, &[&lines[0], &lines[1]])), code, "{host}");
    }
    // A request without an origin is not from a page, so any name is allowed.
    assert_eq!(status(&upgrade(&mut world, &["Host: evil.example"])), "101");
}

#[test]
fn the_settings_determine_the_rates() {
    let rates = RateLimits { clock_sync: 1, refusals_max: 0, ..RateLimits::default() };
    let mut world = world(|settings| settings.policy.rates = rates);
    let id = world.client(0);
    for _ in 0..5 {
        world.say(id, r#"42["clock_sync",{"t0":1}]"#);
    }
    let received = world.received(id);
    let of = |name: &str| received.iter().filter(|text| text.contains(name)).count();
    assert_eq!((of("\"t1\":"), of("rate_limit_exceeded")), (2, 3), "{received:?}");
}

/// Passes time for a client that answers every ping. Returns the second in which its connection was
/// closed.
fn listen(world: &mut World, id: ConnId, seconds: u64) -> Option<u64> {
    for second in 1..=seconds {
        world.pass(SECOND);
        if world.closed.contains_key(&id) {
            return Some(second);
        }
        if world.received(id).iter().any(|text| text == "2") {
            world.say(id, "3");
        }
    }
    None
}

#[test]
fn an_idle_client_without_a_session_is_closed() {
    let mut world = world(|settings| settings.ping_interval = Micros::from_secs(20));
    let id = world.client(0);
    assert_eq!(listen(&mut world, id, 400), Some(300));
}

#[test]
fn a_member_that_only_listens_stays() {
    let mut world = world(|settings| settings.ping_interval = Micros::from_secs(20));
    let id = world.client(0);
    world.say(id, &join("s", "Ann"));
    assert_eq!(listen(&mut world, id, 1_000), None);
    world.say(id, r#"42["leave_session",{"sessionId":"s"}]"#);
    assert_eq!(listen(&mut world, id, 400), Some(300), "once it has left it is idle");
}

#[test]
fn a_stale_client_is_pinged_and_closed_despite_a_long_ping_interval() {
    let mut world = world(|settings| {
        (settings.ping_interval, settings.ping_timeout) = (HOUR, HOUR);
        settings.limits = Limits::PRODUCTION;
    });
    let (id, lively) = (world.client(0), world.client(0));
    world.pass(Micros::from_secs(29));
    assert!(!world.received(id).contains(&"2".to_owned()));
    world.pass(Micros::from_secs(2));
    assert!(world.received(id).contains(&"2".to_owned()));
    world.say(lively, "3");
    world.pass(Micros::from_secs(28));
    assert!(!world.closed.contains_key(&id));
    world.pass(Micros::from_secs(2));
    assert!(world.closed.contains_key(&id) && !world.closed.contains_key(&lively));
}

#[test]
fn missing_attachments_close_the_connection() {
    let mut world = World::new(settings());
    let (waits, gets) = (world.client(0), world.client(0));
    for id in [waits, gets] {
        world.say(id, r#"451-["cue",{"_placeholder":true,"num":0}]"#);
    }
    world.bytes(gets, &frame(0x82, b"x"));
    world.pass(Micros::from_secs(9));
    assert!(!world.closed.contains_key(&waits));
    world.pass(Micros::from_secs(2));
    assert!(world.closed.contains_key(&waits));
    assert!(!world.closed.contains_key(&gets));
}

#[test]
fn a_flood_of_pings_is_answered_by_seventeen_pongs() {
    let mut world = World::new(settings());
    let id = world.client(0);
    world.received(id);
    world.sent.remove(&id);
    let pings: Vec<u8> = (0..1_000_u16).flat_map(|n| frame(0x89, &n.to_be_bytes())).collect();
    world.bytes(id, &pings);
    let pongs = world.sent[&id].clone();
    assert_eq!(pongs.len(), 17 * 4, "sixteen and the last");
    assert_eq!(pongs[..4], [0x8a, 2, 0, 0]);
    assert_eq!(pongs[64..], [0x8a, 2, 0x03, 0xe7]);
}

/// A masked frame with this first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn a_rejected_page_is_reported_once_with_its_name_and_the_setting() {
    let mut world = world(|settings| {
        settings.policy.hosts = Hosts::Local(Vec::new());
        settings.transports.polling = true;
    });
    let reported = |world: &mut World| {
        let mut all = Vec::new();
        world.shards[0].disconnects().take(|one| all.push((one.manner, one.why.into_owned())));
        all
    };
    let page: [&str; 2] = ["Host: band.example", "Origin: https://band.example"];
    assert_eq!(status(&upgrade(&mut world, &page)), "403");
    let why =
        "rejected a page under the name band.example: add the name to ALLOWED_HOSTS if it is yours";
    assert_eq!(reported(&mut world), [(Manner::Misconfigured, why.to_owned())]);

    let poll = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1";
    assert_eq!(
        status(&ask(&mut world, &[poll, "Host: 127.0.0.1:3001", "Origin: https://band.example"])),
        "403"
    );
    let why = "rejected a page of https://band.example at 127.0.0.1:3001: \
        add its origin to CORS_ORIGIN if it is yours";
    assert_eq!(reported(&mut world), [(Manner::Misconfigured, why.to_owned())]);

    assert_eq!(status(&ask(&mut world, &[poll, "Host: band.example"])), "403");
    assert!(reported(&mut world)[0].1.contains("ALLOWED_HOSTS"));
    let long = format!("Origin: http://{}\u{202e}", "x".repeat(200));
    assert_eq!(status(&ask(&mut world, &[poll, "Host: localhost", &long])), "403");
    assert!(reported(&mut world)[0].1.len() < 250, "it is cut");
}

/// Returns the reported disconnects: session, whether the client was expelled, and the reason.
fn disconnects(world: &mut World) -> Vec<(Option<String>, bool, String)> {
    let mut all = Vec::new();
    world.shards[0].disconnects().take(|disconnect| {
        let session = disconnect.session.map(|session| session.as_str().to_owned());
        all.push((session, disconnect.manner != Manner::ByClient, disconnect.why.into_owned()));
    });
    all
}

#[test]
fn every_disconnect_is_reported_with_its_reason() {
    let mut world = world(|settings| settings.policy.rates.refusals_max = 1);
    let in_session = |name: &str| Some(name.to_owned());
    let ann = world.client(0);
    world.say(ann, &join("s", "Ann"));
    assert_eq!(disconnects(&mut world), []);
    let (shard, conn) = world.places[&ann];
    world.input(shard, Input::Closed { conn, cause: CloseCause::Ended });
    assert_eq!(disconnects(&mut world), [(in_session("s"), false, "transport close".to_owned())]);

    let cy = world.client(0);
    world.say(cy, &join("s", "Cy"));
    world.say(cy, "41");
    let (shard, conn) = world.places[&cy];
    world.input(shard, Input::Closed { conn, cause: CloseCause::Ended });
    let goodbye = (in_session("s"), false, "client namespace disconnect".to_owned());
    assert_eq!(disconnects(&mut world), [goodbye], "reported once");

    let bob = world.client(0);
    world.say(bob, "44");
    assert_eq!(disconnects(&mut world), [(None, true, "malformed Socket.IO packet".to_owned())]);

    let eve = world.client(0);
    world.say(eve, &join("s", "Eve"));
    world.bytes(eve, &[0x83, 0x80, 0, 0, 0, 0]);
    let reported = disconnects(&mut world);
    assert_eq!(
        (reported.len(), &reported[0].0, reported[0].1),
        (1, &in_session("s"), true),
        "{reported:?}"
    );

    let mob = world.client(0);
    for _ in 0..40 {
        if world.places.contains_key(&mob) {
            world.say(mob, r#"42["clock_sync",{"t0":1}]"#);
        }
    }
    for _ in 0..40 {
        if world.places.contains_key(&mob) {
            world.say(mob, r#"42["clock_sync",{"t0":1}]"#);
        }
    }
    assert_eq!(
        disconnects(&mut world),
        [(None, true, "event rates exceeded 1 times within a minute".to_owned())]
    );

    let plain = world.open(0);
    world.bytes(plain, b"GET / HTTP/1.1\r\nHost: band\r\nConnection: close\r\n\r\n");
    assert_eq!(disconnects(&mut world), [], "a fetched page is not reported");
    let scanner = world.open(0);
    world.bytes(scanner, b"\x16\x03\x01\x02\x00\x01\r\n\r\n");
    assert_eq!(disconnects(&mut world), [(None, true, "Bad Request".to_owned())]);
}

/// Tries a passcode and returns the outcome.
fn try_passcode(world: &mut World, id: ConnId, passcode: &str) -> String {
    world.say(id, &format!(r#"427["join_session",{{"sessionId":"s","passcode":"{passcode}"}}]"#));
    let received = world.received(id);
    received.into_iter().find(|message| message.starts_with("437")).unwrap()
}

#[test]
fn a_guessing_address_is_slowed_down_without_locking_others_out() {
    let mut world = unhurried(|_| {});
    let from = client_from;
    let ann = from(&mut world, "203.0.113.1");
    assert!(try_passcode(&mut world, ann, "right").contains(r#""ok":true"#));
    let thief = from(&mut world, "203.0.113.2");
    for _ in 0..10 {
        assert!(try_passcode(&mut world, thief, "wrong").contains("bad_passcode"));
    }
    for passcode in ["wrong", "right"] {
        let outcome = try_passcode(&mut world, thief, passcode);
        assert!(
            outcome.contains("rate_limited") && outcome.contains("try again in 60 s"),
            "{outcome}"
        );
    }
    // Guesses count per address, not per connection.
    let again = from(&mut world, "203.0.113.2");
    assert!(try_passcode(&mut world, again, "wrong").contains("rate_limited"));
    let bob = from(&mut world, "203.0.113.3");
    assert!(
        try_passcode(&mut world, bob, "right").contains(r#""ok":true"#),
        "other addresses can join"
    );

    // Many addresses together: after the session's limit each address has one guess.
    for n in 0..20 {
        let bot = from(&mut world, &format!("198.51.100.{n}"));
        assert!(try_passcode(&mut world, bot, "wrong").contains("bad_passcode"));
    }
    let bot = from(&mut world, "198.51.100.99");
    assert!(try_passcode(&mut world, bot, "wrong").contains("bad_passcode"));
    assert!(try_passcode(&mut world, bot, "wrong").contains("rate_limited"));
    let cid = from(&mut world, "203.0.113.4");
    assert!(
        try_passcode(&mut world, cid, "right").contains(r#""ok":true"#),
        "other addresses can still join"
    );
    world.pass(Micros::from_secs(60));
    assert!(try_passcode(&mut world, thief, "wrong").contains("bad_passcode"));
}

/// Returns a world without rates of events, behind a trusted proxy.
fn unhurried(change: impl FnOnce(&mut Settings)) -> World {
    let no_rates =
        RateLimits { join_session: 0, total: 0, refusals_max: 0, ..RateLimits::default() };
    world(|settings| {
        settings.policy.rates = no_rates;
        settings.policy.proxies = vec![Network::parse("127.0.0.1").unwrap()];
        change(settings);
    })
}

/// Connects a client from an address behind the proxy.
fn client_from(world: &mut World, address: &str) -> ConnId {
    let id = world.open(0);
    let speaks_for = format!("X-Forwarded-For: {address}");
    let lines = [&UPGRADE_LINES[..], &["Host: band", &speaks_for]].concat();
    world.bytes(id, format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes());
    world.say(id, "40");
    world.received(id);
    id
}

/// Joins with these additional fields and returns the outcome.
fn try_join(world: &mut World, id: ConnId, session: &str, fields: &str) -> String {
    world.say(id, &format!(r#"427["join_session",{{"sessionId":"{session}"{fields}}}]"#));
    world.pass(MS(1));
    let received = world.received(id);
    received.into_iter().find(|message| message.starts_with("437")).unwrap()
}

/// Guesses of a member count like those of any client: on the session's shard and from another one,
/// for the address and for the session.
#[test]
fn a_pin_cannot_be_guessed_from_a_seat() {
    for shards in [1, 4] {
        let mut world = unhurried(|settings| settings.shards = shards);
        let mut names = (0..).map(|n| format!("session-{n}"));
        let mut on = |shard: u16| {
            names
                .find(|name| SessionId::parse(name).unwrap().shard(shards) == ShardId(shard))
                .unwrap()
        };
        let (locked, other) = (on(0), on(shards - 1));
        let ann = client_from(&mut world, "203.0.113.1");
        assert!(
            try_join(&mut world, ann, &locked, r#","leaderPin":"4711""#)
                .contains(r#""role":"leader""#)
        );
        for seat in [&locked, &other] {
            let address = if *seat == locked { "203.0.113.2" } else { "203.0.113.3" };
            let eve = client_from(&mut world, address);
            assert!(try_join(&mut world, eve, seat, "").contains(r#""ok":true"#));
            for pin in 0..10 {
                let outcome =
                    try_join(&mut world, eve, &locked, &format!(r#","leaderPin":"{pin:04}""#));
                assert!(
                    outcome.contains("bad_passcode") && outcome.contains(r#""field":"leaderPin""#),
                    "{outcome}"
                );
            }
            for pin in ["0000", "4711"] {
                let outcome =
                    try_join(&mut world, eve, &locked, &format!(r#","leaderPin":"{pin}""#));
                assert!(outcome.contains("rate_limited"), "{outcome}");
            }
            // Guesses count per address, not per connection. The guesser keeps its seat.
            let again = client_from(&mut world, address);
            assert!(
                try_join(&mut world, again, &locked, r#","leaderPin":"4711""#)
                    .contains("rate_limited")
            );
            world.say(
                eve,
                &format!(r#"428["set_role",{{"sessionId":"{locked}","role":"leader"}}]"#),
            );
            assert!(world.received(eve).iter().any(|m| m.starts_with(r#"438[{"ok":false"#)));
            let outcome = try_join(&mut world, eve, seat, "");
            assert!(outcome.contains(r#""ok":true"#), "{outcome}");
        }
        // All guesses together have used up the session's limit for guessing addresses.
        for n in 0..10 {
            let bot = client_from(&mut world, &format!("198.51.100.{n}"));
            assert!(
                try_join(&mut world, bot, &locked, r#","leaderPin":"0""#).contains("bad_passcode")
            );
        }
        let bot = client_from(&mut world, "198.51.100.0");
        assert!(try_join(&mut world, bot, &locked, r#","leaderPin":"0""#).contains("rate_limited"));
        let bob = client_from(&mut world, "203.0.113.4");
        assert!(
            try_join(&mut world, bob, &locked, r#","leaderPin":"4711""#).contains(r#""ok":true"#)
        );
    }
}

/// One customer of a provider may hold 65 536 addresses of /64.
#[test]
fn guesses_of_a_network_are_bounded_without_locking_members_out() {
    let mut world = unhurried(|_| {});
    let fields = |passcode: &str| format!(r#","passcode":"{passcode}""#);
    let ann = client_from(&mut world, "2001:db8:1:1::a");
    assert!(try_join(&mut world, ann, "s", &fields("right")).contains(r#""ok":true"#));
    let mut compared = 0;
    for n in 0..1_200 {
        let bot = client_from(&mut world, &format!("2001:db8:1:{:x}::1", 0x1000 + n));
        compared +=
            u32::from(try_join(&mut world, bot, "s", &fields("wrong")).contains("bad_passcode"));
        let (shard, conn) = world.places[&bot];
        world.input(shard, Input::Closed { conn, cause: CloseCause::Ended });
    }
    assert!((1_024..1_100).contains(&compared), "{compared} guesses of one /48 were compared");
    // Other networks can join, and so can an address of this network that joined earlier.
    for address in ["2001:db8:2::1", "2001:db8:1:1::b", "203.0.113.4"] {
        let member = client_from(&mut world, address);
        let outcome = try_join(&mut world, member, "s", &fields("right"));
        assert!(outcome.contains(r#""ok":true"#), "{address}: {outcome}");
    }
    let stranger = client_from(&mut world, "2001:db8:1:ffff::1");
    assert!(try_join(&mut world, stranger, "s", &fields("right")).contains("rate_limited"));
}

#[test]
fn short_secrets_are_rejected_where_strangers_may_guess() {
    for shards in [1, 4] {
        let mut world = unhurried(|settings| {
            settings.shards = shards;
            settings.policy.secret_chars_min = 8;
        });
        let ann = client_from(&mut world, "203.0.113.1");
        assert!(try_join(&mut world, ann, "first", "").contains(r#""ok":true"#));
        for session in ["a", "b", "c", "d", "first"] {
            for field in ["passcode", "leaderPin"] {
                // To a session that is there it is a passcode like any other, and "first" has none.
                let told = try_join(&mut world, ann, session, &format!(r#","{field}":"1234567""#));
                let rejected = told.contains("invalid_payload")
                    && told.contains(&format!(r#""field":"{field}""#))
                    && told.contains("at least 8 characters");
                assert_eq!(rejected, session != "first", "{told}");
            }
        }
        for (field, secret, is_taken) in [
            ("passcode", "1234567", false),
            ("leaderPin", "1234567", false),
            ("passcode", "12345678", true),
        ] {
            let update =
                format!(r#"428["update_settings",{{"sessionId":"first","{field}":"{secret}"}}]"#);
            world.say(ann, &update);
            let received = world.received(ann);
            let answer = received.iter().find(|message| message.starts_with("438")).unwrap();
            assert_eq!(answer.contains(r#""ok":true"#), is_taken, "{answer}");
            assert!(is_taken || answer.contains("at least 8 characters"), "{answer}");
        }
        assert!(
            try_join(&mut world, ann, "e", r#","passcode":"12345678""#).contains(r#""ok":true"#)
        );
    }
}

#[test]
fn low_memory_closes_slow_readers_earlier() {
    let mut world = world(|_| {});
    let [mute, slow, quick] = [world.client(0), world.client(0), world.client(0)];
    for (conn, bytes) in [(mute, 300_000), (slow, 200_000), (quick, 300_000)] {
        world.input(0, Input::Backlog { conn, bytes });
    }
    world.pass(Micros::from_secs(4));
    world.input(0, Input::Backlog { conn: mute, bytes: 900_000 });
    world.input(0, Input::Backlog { conn: quick, bytes: 0 });
    world.input(0, Input::Memory(FreeMemory::Low));
    assert!(world.closed.is_empty(), "there is time to read a large message");
    world.pass(Micros::from_secs(1));
    world.input(0, Input::Memory(FreeMemory::Enough));
    assert!(world.closed.is_empty(), "enough memory is free");
    world.input(0, Input::Memory(FreeMemory::Low));
    assert_eq!(world.closed, BTreeMap::from([(mute, Close::Abort)]));
}
