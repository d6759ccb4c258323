//! What is fuzzed: one function for each reader of bytes from outside. Any bytes will do; a panic is a find.
//!
//! `tools/fuzz` gives them to cargo-fuzz; the program `fuzz` feeds them mutated seeds on any toolchain.

mod mutate;

use bandsync_driver::recorder::format::SegmentReader;
use bandsync_engine::engine::Engine;
use bandsync_engine::engine::handover;
use bandsync_engine::io::{Input, Outputs, Settings};
use bandsync_engine::trace;
use bandsync_engine::wire::frame::Reader;
use bandsync_engine::wire::http::HeadReader;
use bandsync_engine::wire::parse::{self, Event};
use bandsync_engine::wire::socket_packet::Assembler;
use bandsync_engine::wire::{engine_packet, json};
use bandsync_engine::words::ids::ConnId;
use bandsync_engine::words::limits::Limits;
use bandsync_engine::words::time::Micros;

pub use mutate::mutate;

/// A reader under test.
#[derive(Clone, Copy)]
pub struct Target {
    /// What it is called, as is its directory of seeds in `tools/fuzz/corpus`.
    pub name: &'static str,
    /// Reads any bytes.
    pub run: fn(&[u8]),
    /// Where mutations begin.
    pub seeds: &'static [&'static [u8]],
}

/// All of them.
pub const TARGETS: [Target; 7] = [
    Target { name: "http_head", run: http_head, seeds: &[HEAD, UPGRADE] },
    Target {
        name: "frames",
        run: frames,
        seeds: &[b"\x81\x85\x01\x02\x03\x04hello", b"\x01\x82\0\0\0\0ab\x80\x80\0\0\0\0"],
    },
    Target {
        name: "packets",
        run: packets,
        seeds: &[JOIN, b"40", b"451-3[\"a\",{\"_placeholder\":true,\"num\":0}]"],
    },
    Target { name: "events", run: events, seeds: &[JOIN, SETLIST, PLAY] },
    Target { name: "trace", run: trace_reader, seeds: &[b"BANDSYNC TRACE 1\nH\0\0\0\0"] },
    Target { name: "stored", run: stored, seeds: &[b"\0\x04\x02", b"\x01"] },
    Target { name: "connection", run: connection, seeds: &[HEAD, SPOKEN] },
];

const HEAD: &[u8] = include_bytes!("../../fuzz/corpus/http_head/page");
const UPGRADE: &[u8] = include_bytes!("../../fuzz/corpus/http_head/upgrade");
const JOIN: &[u8] = include_bytes!("../../fuzz/corpus/packets/join");
const SETLIST: &[u8] = include_bytes!("../../fuzz/corpus/events/setlist");
const PLAY: &[u8] = include_bytes!("../../fuzz/corpus/events/play");
const SPOKEN: &[u8] = include_bytes!("../../fuzz/corpus/connection/spoken");

/// The head of a request. However it is cut, it is the same head.
pub fn http_head(data: &[u8]) {
    let whole = HeadReader::default().parse(data).map(|head| head.map(|(_, length)| length));
    let mut reader = HeadReader::default();
    if let Ok(Some(length)) = whole {
        assert!(length <= data.len());
        for end in 0..length {
            assert!(!matches!(reader.parse(&data[..end]), Ok(Some(_))), "a part of a head is no head");
        }
    }
}

/// WebSocket frames. However they are cut, they are the same messages.
pub fn frames(data: &[u8]) {
    let whole = messages(&[data]);
    let (first, second) = data.split_at(data.len() / 2);
    assert_eq!(messages(&[first, second]), whole);
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(messages(&bytes), whole);
}

/// Messages as text, the last one an error if there is one.
fn messages(reads: &[&[u8]]) -> Vec<String> {
    let (mut reader, mut said) = (Reader::default(), Vec::new());
    for read in reads {
        let (mut bytes, mut at) = (read.to_vec(), 0);
        loop {
            match reader.next(&Limits::TINY, &mut bytes, &mut at) {
                Ok(None) => break,
                Ok(Some(message)) => said.push(format!("{message:?}")),
                Err(error) => {
                    said.push(format!("{error:?}"));
                    return said;
                }
            }
        }
    }
    said
}

/// Engine.IO and Socket.IO packets, with the first line as text and every other line as an attachment.
pub fn packets(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Some(text) = lines.next().and_then(|line| std::str::from_utf8(line).ok()) else { return };
    let _ = engine_packet::parse(text);
    let mut assembler = Assembler::default();
    let _ = assembler.text(text);
    for attachment in lines {
        if let Ok(Some(whole)) = assembler.binary(attachment, 1_000) {
            let _ = whole.packet();
        }
    }
}

/// Client events: a name, and behind the first line its argument; or both in a packet.
pub fn events(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(array) = text.find('[').map(|at| &text[at..])
        && let Some(event) = json::event(array)
        && let Some(known) = Event::from_name(&event.name)
    {
        let _ = parse::command(known, event.argument.unwrap_or_default());
    }
    let (name, payload) = text.split_once('\n').unwrap_or(("join_session", text));
    if let Some(known) = Event::from_name(name) {
        let _ = parse::command(known, payload);
    }
}

/// Trace files.
pub fn trace_reader(data: &[u8]) {
    let Ok(mut reader) = SegmentReader::new(data) else { return };
    while let Ok(Some(stretch)) = reader.stretch() {
        for entry in stretch.entries() {
            let _ = entry;
        }
    }
}

/// What is written down in our own format: inputs, outputs, parcels.
pub fn stored(data: &[u8]) {
    let _ = trace::read_input(&mut &data[..]);
    let _ = trace::read_outcome(&mut &data[..]);
    let _ = trace::read_outputs(&mut &data[..]);
    let _ = handover::unread(data);
}

/// A connection to a whole engine: everything that a stranger can send.
pub fn connection(data: &[u8]) {
    let mut engine = Engine::new(Settings { shards: 1, limits: Limits::TINY, ..Settings::default() });
    let (conn, mut outputs) = (ConnId { index: 0, generation: 0 }, Outputs::default());
    let peer = std::net::Ipv4Addr::LOCALHOST.into();
    engine.handle(Micros::ZERO, Input::Opened { conn, peer }, &mut outputs);
    let mut at = Micros::ZERO;
    for read in data.chunks(97) {
        at = at + Micros::from_millis(3);
        engine.handle(at, Input::Received { conn, bytes: &mut read.to_vec() }, &mut outputs);
        engine.handle(at, Input::TurnEnded, &mut outputs);
        engine.check_invariants();
        outputs.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bandsync_engine::words::rng::Rng;

    /// A short run in every test run; the long ones are `./tools/fuzz-all`.
    #[test]
    fn nothing_from_outside_panics() {
        for target in TARGETS {
            let mut rng = Rng::from_seed(11);
            for seed in target.seeds {
                (target.run)(seed);
                for _ in 0..300 {
                    (target.run)(&mutate(&mut rng, target.seeds));
                }
            }
        }
    }
}
