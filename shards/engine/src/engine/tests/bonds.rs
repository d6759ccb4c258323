//! Polling clients of version 3. Their id is public, so a request also needs their address or
//! cookie.

use super::*;
use crate::io::Version3;
use crate::io::report::Manner;
use crate::words::policy::Network;

const ANN: &str = "203.0.113.1";
const EVE: &str = "203.0.113.2";
const GONE: &str = r#"{"code":1,"message":"Session ID unknown"}"#;

/// Shards behind a trusted proxy, so that a request may come from any address.
fn world(shards: u16) -> World {
    let transports =
        Transports { compression: None, recovery: Micros::ZERO, ..Transports::default() };
    let proxies = vec![Network::parse("127.0.0.1").unwrap()];
    let policy = AccessPolicy { proxies, ..AccessPolicy::default() };
    World::new(Settings { shards, transports, policy, ..settings() })
}

/// The origin of a request: its `X-Forwarded-For` and its cookie.
#[derive(Clone, Copy)]
struct From<'a>(&'a str, Option<&'a str>);

impl From<'_> {
    fn lines(self) -> String {
        let cookie = self.1.map_or(String::new(), |cookie| format!("Cookie: a=b; io={cookie}\r\n"));
        format!("Host: x\r\nX-Forwarded-For: {}\r\n{cookie}", self.0)
    }
}

/// Sends a request. Returns the status, head and body of the answer; without an answer 0 and empty
/// texts.
fn ask(
    world: &mut World,
    shard: usize,
    from: From<'_>,
    target: &str,
    body: Option<&str>,
) -> (u16, String, String) {
    let id = world.open(shard);
    let (method, length) = (body.map_or("GET", |_| "POST"), body.map_or(0, str::len));
    let head =
        format!("{method} {target} HTTP/1.1\r\n{}Content-Length: {length}\r\n\r\n", from.lines());
    world.bytes(id, &[head.as_bytes(), body.unwrap_or_default().as_bytes()].concat());
    world.turn();
    let Some(sent) = world.sent.remove(&id) else { return (0, String::new(), String::new()) };
    let sent = String::from_utf8(sent).unwrap();
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_owned(), body.to_owned())
}

struct Old {
    sid: String,
    cookie: Option<String>,
}

impl Old {
    fn open(world: &mut World, shard: usize, from: From<'_>) -> Self {
        let (status, head, body) =
            ask(world, shard, from, "/socket.io/?EIO=3&transport=polling", None);
        assert_eq!(status, 200, "{body}");
        let sid = body.split_once(r#""sid":""#).unwrap().1.split_once('"').unwrap().0.to_owned();
        let cookie = head.lines().find_map(|line| line.strip_prefix("Set-Cookie: io="));
        let cookie = cookie
            .map(|line| line.strip_suffix("; Path=/; HttpOnly; SameSite=Lax").unwrap().to_owned());
        Self { sid, cookie }
    }

    fn path(&self, transport: &str) -> String {
        format!("/socket.io/?EIO=3&transport={transport}&sid={}", self.sid)
    }

    fn ping(&self, world: &mut World, shard: usize, from: From<'_>) -> u16 {
        ask(world, shard, from, &self.path("polling"), Some("1:2")).0
    }

    /// Tries all attacks that are possible with a known id. All must fail.
    fn attack(&self, world: &mut World, shard: usize, from: From<'_>) {
        let play = r#"42["play",{"sessionId":"s"}]"#;
        let play = format!("{}:{play}", play.len());
        for body in [None, Some(&*play), Some("1:1"), Some("nonsense")] {
            let (status, _, body) = ask(world, shard, from, &self.path("polling"), body);
            assert_eq!((status, &*body), (400, GONE));
        }
        let id = world.open(shard);
        let lines = from.lines().replace("Host: x\r\n", "Host: band\r\n");
        let upgrade = String::from_utf8(UPGRADE.to_vec()).unwrap();
        let upgrade =
            upgrade.replace("/socket.io/?EIO=4&transport=websocket", &self.path("websocket"));
        world.bytes(id, upgrade.replace("Host: band\r\n", &lines).as_bytes());
        let sent = String::from_utf8(world.sent.remove(&id).unwrap()).unwrap();
        assert!(
            sent.starts_with("HTTP/1.1 400 ") && sent.ends_with("Session ID unknown"),
            "{sent}"
        );
        // An incomplete body must not block the client's own.
        let id = world.open(shard);
        let head = format!(
            "POST {} HTTP/1.1\r\n{}Content-Length: 9\r\n\r\n1:",
            self.path("polling"),
            from.lines()
        );
        world.bytes(id, head.as_bytes());
        assert!(world.sent[&id].starts_with(b"HTTP/1.1 400 "));
        assert_eq!(world.closed.get(&id), Some(&Close::Gently));
    }
}

#[test]
fn a_public_id_serves_only_the_address_that_opened_it() {
    for shards in [1, 4] {
        let mut world = world(shards);
        let last = usize::from(shards) - 1;
        let ann = Old::open(&mut world, 0, From(ANN, None));
        let join = r#"421["join_session",{"sessionId":"s","displayName":"Ann","role":"leader"}]"#;
        let join = format!("{}:{join}", join.len());
        assert_eq!(
            ask(&mut world, last, From(ANN, None), &ann.path("polling"), Some(&join)).0,
            200
        );
        for shard in 0..=last {
            for from in [EVE, "127.0.0.1", "unknown", "", "::ffff:203.0.113.2"] {
                ann.attack(&mut world, shard, From(from, None));
            }
        }
        let received = ask(&mut world, 0, From(ANN, None), &ann.path("polling"), None).2;
        assert!(received.contains(&ann.sid) && !received.contains(r#""play""#), "{received}");
        assert_eq!(
            ann.ping(&mut world, last, From(ANN, None)),
            200,
            "the attacks do not close the session"
        );
    }
}

#[test]
fn once_a_client_returned_the_cookie_it_is_required() {
    let mut world = world(2);
    let ann = Old::open(&mut world, 0, From(ANN, None));
    let cookie = ann.cookie.clone().unwrap();
    assert_ne!(cookie, ann.sid, "a public id is no secret");
    assert_eq!(ann.ping(&mut world, 1, From(ANN, None)), 200, "clients without cookies are served");
    assert_eq!(
        ann.ping(&mut world, 0, From(ANN, Some("AAAAAAAAAAAAAAAAAAAA"))),
        200,
        "a wrong cookie before the first right one is ignored"
    );
    assert_eq!(ann.ping(&mut world, 1, From(ANN, Some(&cookie))), 200);
    for wrong in [None, Some("AAAAAAAAAAAAAAAAAAAA"), Some(&*ann.sid), Some(""), Some(&cookie[1..])]
    {
        ann.attack(&mut world, 0, From(ANN, wrong));
    }
    ann.attack(&mut world, 1, From(EVE, Some(&cookie)));
    let (status, head, _) =
        ask(&mut world, 0, From(ANN, Some(&cookie)), &ann.path("polling"), None);
    assert!(status == 200 && !head.contains("Set-Cookie"), "the cookie is sent once: {head}");
}

#[test]
fn two_pages_of_a_browser_share_its_cookie() {
    let mut world = world(1);
    let first = Old::open(&mut world, 0, From(ANN, None));
    let cookie = first.cookie.clone().unwrap();
    assert_eq!(first.ping(&mut world, 0, From(ANN, Some(&cookie))), 200);
    let second = Old::open(&mut world, 0, From(ANN, Some(&cookie)));
    assert_eq!(second.cookie.as_ref(), Some(&cookie));
    for page in [&first, &second] {
        assert_eq!(page.ping(&mut world, 0, From(ANN, Some(&cookie))), 200);
        page.attack(&mut world, 0, From(ANN, None));
    }
    // A cookie of another server is ignored.
    let other = Old::open(&mut world, 0, From(ANN, Some("of another server")));
    assert_eq!(other.ping(&mut world, 0, From(ANN, None)), 200);
}

#[test]
fn a_client_with_an_unknown_address_needs_its_cookie() {
    let mut world = world(1);
    let ann = Old::open(&mut world, 0, From("unknown", None));
    ann.attack(&mut world, 0, From("unknown", None));
    let cookie = ann.cookie.clone().unwrap();
    assert_eq!(ann.ping(&mut world, 0, From("unknown", Some(&cookie))), 200);
}

#[test]
fn an_untrusted_proxy_s_forwarded_header_distinguishes_its_clients() {
    let mut world = world(1);
    for engine in &mut world.shards {
        engine.resources.settings.policy.proxies.clear();
    }
    let ann = Old::open(&mut world, 0, From(ANN, None));
    let forged = format!("{ANN}, {EVE}");
    for from in [EVE, &*forged] {
        ann.attack(&mut world, 0, From(from, None));
    }
    assert_eq!(ann.ping(&mut world, 0, From(ANN, None)), 200);
}

#[test]
fn a_secret_id_needs_no_cookie_and_no_fixed_address() {
    let mut world = world(1);
    let (status, head, body) =
        ask(&mut world, 0, From(ANN, None), "/socket.io/?EIO=4&transport=polling", None);
    assert!(status == 200 && !head.contains("Set-Cookie"), "{head}");
    let sid = body.split_once(r#""sid":""#).unwrap().1.split_once('"').unwrap().0.to_owned();
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    assert_eq!(
        ask(&mut world, 0, From(EVE, None), &path, Some("40")).0,
        200,
        "a tablet may change its network"
    );
}

#[test]
fn version_3_can_be_limited_to_websocket() {
    let mut world = world(1);
    world.shards[0].resources.settings.transports.version_3 = Version3::WebSocketOnly;
    let (status, _, body) =
        ask(&mut world, 0, From(ANN, None), "/socket.io/?EIO=3&transport=polling", None);
    assert_eq!((status, &*body), (400, r#"{"code":5,"message":"Unsupported protocol version"}"#));
    let mut reported = Vec::new();
    world.shards[0].disconnects().take(|one| reported.push((one.manner, one.why.into_owned())));
    assert!(
        matches!(&reported[..], [(Manner::Misconfigured, why)] if why.contains("ENGINE_IO_3=on")),
        "{reported:?}"
    );
    let id = world.open(0);
    world.bytes(
        id,
        String::from_utf8(UPGRADE.to_vec()).unwrap().replace("EIO=4", "EIO=3").as_bytes(),
    );
    assert!(world.sent[&id].starts_with(b"HTTP/1.1 101 "));
    assert_eq!(
        ask(&mut world, 0, From(ANN, None), "/socket.io/?EIO=4&transport=polling", None).0,
        200
    );
}
