//! permessage-deflate from bytes to bytes.

use super::*;
use crate::wire::deflate::{Deflater, Inflater, Window};
use crate::words::compression::Compression;

fn compressing(context_takeover: bool) -> Settings {
    let compression = Some(Compression { context_takeover, ..Compression::default() });
    Settings {
        transports: Transports {
            polling: false,
            version_3: Version3::Off,
            compression,
            recovery: Micros::ZERO,
        },
        ..settings()
    }
}

/// A client's side of a connection with compression.
struct Peer {
    id: ConnId,
    agreed: bool,
    /// The windows of both directions, if messages refer to earlier ones.
    windows: Option<(Window, Window)>,
    inflater: Inflater,
    deflater: Deflater,
}

impl Peer {
    fn new(world: &mut World, shard: usize, offer: &str, answer: &str) -> Self {
        let id = world.open(shard);
        let upgrade = String::from_utf8(UPGRADE.to_vec()).unwrap();
        let head =
            upgrade.replace("\r\n\r\n", &format!("\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n"));
        world.bytes(id, head.as_bytes());
        let sent = String::from_utf8_lossy(&world.sent[&id]).into_owned();
        let found = sent.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "));
        assert_eq!(found, (!answer.is_empty()).then_some(answer));
        let takeover = !answer.is_empty() && !answer.contains("no_context_takeover");
        let windows = takeover.then(<(Window, Window)>::default);
        Self {
            id,
            agreed: !answer.is_empty(),
            windows,
            inflater: Inflater::default(),
            deflater: Deflater::new(6),
        }
    }

    /// Sends a text, compressed if that makes it shorter.
    fn say(&mut self, world: &mut World, text: &str) {
        if !self.agreed {
            return world.say(self.id, text);
        }
        let window = self.windows.as_mut().map(|(_, ours)| ours);
        match self.deflater.deflate(text.as_bytes(), 15, window).map(<[u8]>::to_vec) {
            None => world.say(self.id, text),
            Some(payload) => {
                let mut frame = masked_bytes(&payload);
                frame[0] = 0xc1;
                world.bytes(self.id, &frame);
            }
        }
    }

    /// Takes the messages sent to the client. Returns them and the number of compressed ones.
    fn received(&mut self, world: &mut World) -> (Vec<String>, usize) {
        let bytes = world.sent.remove(&self.id).unwrap_or_default();
        let head =
            bytes.windows(4).position(|w| w == b"\r\n\r\n").filter(|_| bytes.starts_with(b"HTTP"));
        let mut rest = &bytes[head.map_or(0, |end| end + 4)..];
        let (mut received, mut deflated) = (Vec::new(), 0);
        while let [kind, length, tail @ ..] = rest {
            let (length, tail) = match length {
                126 => (usize::from(u16::from_be_bytes([tail[0], tail[1]])), &tail[2..]),
                length => (usize::from(*length), tail),
            };
            let (body, tail) = tail.split_at(length);
            rest = tail;
            let message = match kind {
                0x81 => body.to_vec(),
                0xc1 => {
                    deflated += 1;
                    let window = self.windows.as_mut().map(|(theirs, _)| theirs);
                    self.inflater.inflate(body, window, 1_000_000).unwrap().to_vec()
                }
                0x88 => format!("close {}", u16::from_be_bytes([body[0], body[1]])).into_bytes(),
                other => panic!("frame {other:#x}"),
            };
            received.push(String::from_utf8(message).unwrap());
        }
        (received, deflated)
    }
}

fn masked_bytes(payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![0x82, 0x80 | 126];
    frame.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

const ALONE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

#[test]
fn long_messages_are_compressed_both_ways_and_short_ones_are_not() {
    for (takeover, answer) in [(false, ALONE), (true, "permessage-deflate")] {
        for shards in [1, 4] {
            let mut world = World::new(Settings { shards, ..compressing(takeover) });
            let shard = usize::from(shards) - 1;
            let mut ann =
                Peer::new(&mut world, shard, "permessage-deflate; client_max_window_bits", answer);
            ann.say(&mut world, "40");
            ann.say(&mut world, &join("s", "Ann"));
            let words = "verse chorus, ".repeat(30) + "end";
            for round in 0..5 {
                let command = format!(
                    r#"42{round}["update_message",{{"sessionId":"s","message":"{round} {words}"}}]"#
                );
                ann.say(&mut world, &command);
                world.pass(Micros::from_secs(1));
            }
            let (received, deflated) = ann.received(&mut world);
            let snapshots: Vec<&String> =
                received.iter().filter(|m| m.starts_with(r#"42["snapshot""#)).collect();
            assert!(snapshots.last().unwrap().contains(&format!("4 {words}")), "{received:?}");
            let long = received.iter().filter(|message| message.len() >= 1_024).count();
            assert!(long >= 5);
            assert_eq!(deflated, long, "exactly the long messages are compressed");
            assert!(
                received
                    .iter()
                    .filter(|message| message.starts_with("43"))
                    .all(|ack| ack.contains(r#""ok":true"#))
            );
        }
    }
}

#[test]
fn a_shared_message_is_compressed_once_for_each_window() {
    let mut world = World::new(compressing(false));
    let mut peers: Vec<Peer> = Vec::new();
    for (offer, answer) in [
        ("permessage-deflate", ALONE.to_owned()),
        ("permessage-deflate", ALONE.to_owned()),
        (
            "permessage-deflate; server_max_window_bits=9",
            format!("{ALONE}; server_max_window_bits=9"),
        ),
        // The deflater cannot use so small a window, so this client receives everything
        // uncompressed.
        (
            "permessage-deflate; server_max_window_bits=8",
            format!("{ALONE}; server_max_window_bits=8"),
        ),
        ("x-unknown", String::new()),
    ] {
        let mut peer = Peer::new(&mut world, 0, offer, &answer);
        peer.say(&mut world, "40");
        peer.say(&mut world, &join("s", "Name"));
        peers.push(peer);
    }
    world.pass(MS(10));
    peers.iter_mut().for_each(|peer| drop(peer.received(&mut world)));
    let text = "verse chorus, ".repeat(30) + "end";
    peers[0].say(
        &mut world,
        &format!(r#"42["update_message",{{"sessionId":"s","message":"{text}"}}]"#),
    );
    world.pass(MS(10));
    let raw: Vec<Vec<u8>> = peers.iter().map(|peer| world.sent[&peer.id].clone()).collect();
    assert_eq!(raw[0], raw[1]);
    assert!(raw[0] != raw[2] && raw[2].len() < raw[3].len() && raw[3] == raw[4]);
    let received: Vec<_> = peers.iter_mut().map(|peer| peer.received(&mut world)).collect();
    assert!(received.iter().all(|(messages, _)| messages == &received[0].0), "equal messages");
    assert_eq!(received.iter().map(|(_, deflated)| *deflated).collect::<Vec<_>>(), [1, 1, 1, 0, 0]);
}

#[test]
fn bad_compression_closes_the_connection() {
    let bomb = Deflater::new(9).deflate(&vec![b'4'; 2_000_000], 15, None).unwrap().to_vec();
    let not_text = Deflater::new(9).deflate(&[0xff; 100], 15, None).unwrap().to_vec();
    for (payload, code) in
        [(&[0xff; 20][..], "close 1007"), (&bomb, "close 1009"), (&not_text, "close 1007")]
    {
        let mut world = World::new(compressing(false));
        let mut peer = Peer::new(&mut world, 0, "permessage-deflate", ALONE);
        peer.say(&mut world, "40");
        peer.received(&mut world);
        let mut frame = masked_bytes(payload);
        frame[0] = 0xc1;
        world.bytes(peer.id, &frame);
        assert_eq!(peer.received(&mut world).0, [code]);
    }
    let mut world = World::new(compressing(false));
    let id = world.client(0);
    world.bytes(id, &[0xc1, 0x80, 0, 0, 0, 0]);
    assert_eq!(world.received(id), ["close 1002"], "compression was not negotiated");
}

#[test]
fn a_malformed_offer_is_rejected() {
    for (compression, status) in [(Some(Compression::default()), "400"), (None, "101")] {
        let transports = Transports {
            polling: false,
            version_3: Version3::Off,
            compression,
            recovery: Micros::ZERO,
        };
        let mut world = World::new(Settings { transports, ..settings() });
        let id = world.open(0);
        let upgrade = String::from_utf8(UPGRADE.to_vec()).unwrap();
        let offer =
            "\r\nSec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=77\r\n\r\n";
        world.bytes(id, upgrade.replace("\r\n\r\n", offer).as_bytes());
        let sent = String::from_utf8_lossy(&world.sent[&id]).into_owned();
        assert!(sent.starts_with(&format!("HTTP/1.1 {status} ")), "{sent}");
    }
}

#[test]
fn a_departed_client_s_compression_window_is_freed_despite_a_queued_batch() {
    let mut world = World::new(compressing(true));
    let peer = Peer::new(&mut world, 0, "permessage-deflate", "permessage-deflate");
    world.say(peer.id, "40");
    world.say(peer.id, &join("s", "Ann"));
    let message = "la ".repeat(300);
    world.say(
        peer.id,
        &format!(r#"42["update_message",{{"sessionId":"s","message":"{message}"}}]"#),
    );
    world.say(peer.id, "1");
    world.turn();
    assert_eq!(world.shards[0].resources.sender.len(), 0);
}
