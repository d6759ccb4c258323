//! Set lists, the only long messages.

use super::*;
use crate::wire::deflate::Inflater;
use crate::words::compression::Compression;

const SMALL: usize = 160 * 1024;

/// A set list of 900 kB.
fn set_setlist() -> String {
    let body = r"[Am]Gröndal by the river\n".repeat(280);
    let song =
        |n| format!(r#"{{"id":"s{n}","title":"Song {n}","format":"chordpro","body":"{body}"}}"#);
    let songs: Vec<String> = (0..120).map(song).collect();
    let text = format!(
        r#"421["set_setlist",{{"sessionId":"s","setlist":{{"title":"Friday","songs":[{}]}}}}]"#,
        songs.join(",")
    );
    assert!((850_000..950_000).contains(&text.len()), "{}", text.len());
    text
}

#[test]
fn buffers_grown_by_a_long_message_are_freed() {
    let compression = Some(Compression { context_takeover: false, ..Compression::default() });
    let transports = Transports { compression, ..settings().transports };
    let mut world = World::new(Settings { transports, ..settings() });
    let leader = world.client(0);
    world.say(leader, r#"42["join_session",{"sessionId":"s"}]"#);
    let follower = world.open(0);
    let upgrade = String::from_utf8(UPGRADE.to_vec()).unwrap();
    let offer =
        "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n";
    world.bytes(follower, upgrade.replace("\r\n\r\n", offer).as_bytes());
    world.say(follower, "40");
    world.say(follower, r#"42["join_session",{"sessionId":"s"}]"#);
    world.pass(Micros::from_secs(1));
    world.sent.clear();

    // In pieces of the size that a driver reads.
    for piece in masked(&set_setlist()).chunks(64 * 1024) {
        world.bytes(leader, piece);
    }
    world.pass(Micros::from_secs(1));
    let received = world.sent.remove(&leader).unwrap();
    assert!(received.len() > 850_000, "the leader receives it uncompressed: {}", received.len());
    let received = world.sent.remove(&follower).unwrap();
    assert!(
        (1_000..500_000).contains(&received.len()),
        "the follower receives it compressed: {}",
        received.len()
    );

    let engine = &world.shards[0];
    assert!(engine.kept_bytes() < SMALL, "the shard keeps {} bytes", engine.kept_bytes());
    world.say(leader, r#"421["play",{"sessionId":"s"}]"#);
    assert!(
        world.received(leader)[0].starts_with(r#"431[{"ok":true"#),
        "the shard goes on reading"
    );
    assert!(world.shards[0].kept_bytes() < SMALL);
}

#[test]
fn a_long_compressed_message_leaves_no_buffer_behind() {
    let mut inflater = Inflater::default();
    let long = crate::wire::deflate::Deflater::new(3)
        .deflate(&[b'a'; 900_000], 15, None)
        .unwrap()
        .to_vec();
    assert_eq!(inflater.inflate(&long, None, 1_000_000).map(<[u8]>::len), Ok(900_000));
    inflater.give_back();
    assert!(inflater.kept_bytes() < SMALL);
}

#[test]
fn outputs_shrink_after_a_long_message() {
    let mut outputs = Outputs::default();
    outputs.bytes.resize(3_000_000, 0);
    outputs.clear();
    assert!(outputs.bytes.capacity() >= 3_000_000, "the next turn may need as much");
    outputs.bytes.resize(1_000, 0);
    outputs.clear();
    assert!(outputs.bytes.capacity() <= Outputs::KEPT_BYTES_MAX);
}
