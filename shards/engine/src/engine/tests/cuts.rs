//! The split of requests into reads does not change the outputs.

use proptest::prelude::*;

use super::*;

/// Open long-polling clients, on another shard than the connection.
struct Open {
    world: World,
    sid: String,
    old: String,
}

fn open() -> Open {
    let transports =
        Transports { compression: None, recovery: Micros::ZERO, ..Transports::default() };
    let mut world = World::new(Settings { shards: 2, transports, ..settings() });
    let mut sid = |version: u8| {
        let id = world.open(1);
        let head = format!(
            "GET /socket.io/?EIO={version}&transport=polling HTTP/1.1\r\nHost: band\r\n\r\n"
        );
        world.bytes(id, head.as_bytes());
        let answer = String::from_utf8(world.sent.remove(&id).unwrap()).unwrap();
        answer.split_once(r#""sid":""#).unwrap().1.split_once('"').unwrap().0.to_owned()
    };
    let (sid, old) = (sid(4), sid(3));
    Open { world, sid, old }
}

const BODIES: [&str; 8] = [
    "",
    "3",
    "40",
    "1:2",
    "40\u{1e}421[\"join_session\",{\"sessionId\":\"s\",\"displayName\":\"É\"}]\u{1e}422[\"play\",{\"sessionId\":\"s\"}]",
    "nonsense",
    "GET /from-a-body HTTP/1.1\r\nHost: band\r\n\r\n",
    "1",
];

/// Requests for one connection: valid and invalid ones, with bodies in expected and unexpected
/// places.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(vec!["GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE"]);
    let target = prop::sample::select(vec![
        "/",
        "/health",
        "http://band/metrics",
        "/nowhere?x=1",
        "/socket.io/?EIO=4&transport=polling",
        "/socket.io/?EIO=3&transport=polling",
        "/socket.io/?EIO=4&transport=polling&sid=SID",
        "/socket.io/?EIO=3&transport=polling&sid=OLD",
        "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA",
        "/socket.io/?EIO=4&transport=websocket",
        "/socket.io/?EIO=4&transport=websocket&sid=SID",
    ]);
    let length = prop::sample::select(vec![
        "Content-Length: LENGTH\r\n",
        "Content-Length: LENGTH\r\n",
        "Content-Length: LENGTH\r\n",
        "",
        "Content-Length: 0\r\n",
        "Content-Length: 2000000\r\n",
        "Transfer-Encoding: chunked\r\n",
    ]);
    let upgrade = prop::sample::select(vec![
        "",
        "",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Connection: close\r\n",
    ]);
    let page = prop::sample::select(vec![
        "",
        "",
        "",
        "Origin: http://evil.example\r\n",
        "X-Forwarded-For: \u{ff}\r\n",
    ]);
    let body = prop::sample::select(BODIES.to_vec());
    let frames = any::<bool>();
    (method, target, length, upgrade, page, body, frames).prop_map(
        |(method, target, length, upgrade, page, body, frames)| {
            let length = length.replace("LENGTH", &body.len().to_string());
            let head =
                format!("{method} {target} HTTP/1.1\r\nHost: band\r\n{page}{upgrade}{length}\r\n");
            let mut bytes = [head.as_bytes(), body.as_bytes()].concat();
            if frames && upgrade.starts_with("Connection: Upgrade") {
                bytes = [head.into_bytes(), masked("2probe"), masked("5"), masked("40")].concat();
            }
            bytes
        },
    )
}

/// Runs a client whose bytes are split at `cuts`. Returns the sent bytes, the way in which the
/// connection was closed, the counters, and the reported disconnects.
fn run(raw: &[u8], cuts: &[usize]) -> impl PartialEq + std::fmt::Debug + use<> {
    let Open { mut world, .. } = open();
    let id = world.open(0);
    let mut from = 0;
    for &to in cuts.iter().chain([&raw.len()]) {
        if world.places.contains_key(&id) {
            world.bytes(id, &raw[from..to]);
        }
        from = to;
    }
    world.turn();
    world.pass(MS(20));
    let mut reported = Vec::new();
    for shard in &mut world.shards {
        shard.disconnects().take(|one| reported.push((one.manner, one.why.into_owned())));
    }
    let counted: Vec<_> = world.shards.iter().map(Engine::counters).collect();
    (
        world.sent.get(&id).map(|sent| sent.escape_ascii().to_string()),
        world.closed.get(&id).copied(),
        counted,
        reported,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn requests_are_parsed_the_same_for_any_split_of_the_input(
        requests in prop::collection::vec(request(), 1..5),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
    ) {
        let Open { sid, old, .. } = open();
        let replace = |bytes: Vec<u8>, name: &[u8], value: &str| {
            let at = bytes.windows(name.len()).position(|window| window == name);
            match at {
                Some(at) => [&bytes[..at], value.as_bytes(), &bytes[at + name.len()..]].concat(),
                None => bytes,
            }
        };
        let all: Vec<Vec<u8>> = requests
            .into_iter()
            .map(|bytes| replace(replace(bytes, b"sid=SID", &format!("sid={sid}")), b"sid=OLD", &format!("sid={old}")))
            .collect();
        let raw = all.concat();
        let shown = raw.escape_ascii().to_string();
        let whole = run(&raw, &[]);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(raw.len())).collect();
        cuts.sort_unstable();
        prop_assert_eq!(&run(&raw, &cuts), &whole, "{} cut at {:?}", shown, cuts);
        // Splits between requests, and between heads and bodies.
        let mut ends: Vec<usize> = all.iter().scan(0, |end, one| { *end += one.len(); Some(*end) }).collect();
        ends.extend(raw.windows(4).enumerate().filter(|(_, bytes)| *bytes == b"\r\n\r\n").map(|(at, _)| at + 4));
        ends.sort_unstable();
        prop_assert_eq!(&run(&raw, &ends), &whole, "{} cut at {:?}", shown, ends);
    }
}

#[test]
fn a_late_body_is_not_parsed_as_a_request() {
    let Open { sid, .. } = open();
    let poll =
        format!("GET /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: band\r\n");
    let page = "GET / HTTP/1.1\r\nHost: band\r\n".to_owned();
    for head in [&poll, &page, &page.replace("GET", "HEAD"), &page.replace("GET", "OPTIONS")] {
        for length in ["Content-Length: 44\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"] {
            let mut world = open().world;
            let id = world.open(1);
            world.bytes(id, format!("{head}{length}").as_bytes());
            world.turn();
            if world.places.contains_key(&id) {
                world.bytes(id, b"GET /from-the-body HTTP/1.1\r\nHost: band\r\n\r\n");
            }
            let sent = String::from_utf8(world.sent.remove(&id).unwrap()).unwrap();
            assert!(
                world.closed.contains_key(&id) && !sent.contains("from-the-body"),
                "{head}: {sent}"
            );
            assert_eq!(sent.matches("HTTP/1.1 ").count(), 1, "{sent}");
            let rejected = if head.starts_with("OPTIONS") { "HTTP/1.1 " } else { "HTTP/1.1 400 " };
            assert!(
                sent.starts_with(rejected) && sent.contains("\r\nConnection: close\r\n"),
                "{sent}"
            );
        }
    }
}
