//! Fuzz targets: one function for each reader of bytes from outside. Every input is valid; a panic
//! is a finding.
//!
//! `tools/fuzz` passes them to cargo-fuzz; `tools fuzz` runs them with mutated seeds on any
//! toolchain.

mod mutate;

use std::hash::RandomState;

use bandsync_engine::io::tap::{NoTap, Tap};
use bandsync_engine::io::{
    CloseCause, FreeMemory, Input, LoadResult, Output, Outputs, Settings, StorageEvent,
};
use bandsync_engine::record::{Damage, Record};
use bandsync_engine::trace::{self, Outcome, Recorded};
use bandsync_engine::transport;
use bandsync_engine::wire::deflate::{Deflater, Inflater, Window, negotiate};
use bandsync_engine::wire::events::ClientEvent;
use bandsync_engine::wire::frame::Reader;
use bandsync_engine::wire::http::{HeadReader, upgrade};
use bandsync_engine::wire::payload::{self, Version};
use bandsync_engine::wire::socket_packet::Assembler;
use bandsync_engine::wire::{engine_packet, json};
use bandsync_engine::words::compression::Compression;
use bandsync_engine::words::ids::{ConnId, SessionId};
use bandsync_engine::words::limits::Limits;
use bandsync_engine::words::origins::Origins;
use bandsync_engine::words::policy::{AccessPolicy, Hosts, Network, PeerLimits};
use bandsync_engine::words::time::Micros;
use bandsync_testkit::Harness;
use bandsync_trace::format::{Entry, EntryBlock, Header, Packer, SegmentReader};
use bandsync_trace::redactor::Redactor;

pub use mutate::mutate;

/// A reader under test.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, which is also the name of its directory of seeds in `tools/fuzz/corpus`.
    pub name: &'static str,
    /// Reads any bytes.
    pub run: fn(&[u8]),
    /// The inputs that mutations start from.
    pub seeds: &'static [&'static [u8]],
}

/// All targets.
pub const TARGETS: [Target; 11] = [
    Target { name: "http_head", run: http_head, seeds: &[HEAD, UPGRADE] },
    Target { name: "frames", run: frames, seeds: &[FRAME, FRAGMENTS, SPOKEN] },
    Target { name: "deflate", run: deflate, seeds: &[OFFER, DEFLATED] },
    Target { name: "packets", run: packets, seeds: &[JOIN, ATTACHED, POLLED] },
    Target { name: "events", run: events, seeds: &[JOIN, SETLIST, EDIT, PLAY] },
    Target { name: "trace", run: trace_reader, seeds: &[ENTRIES, TRACE] },
    Target { name: "redact", run: redact, seeds: &[SECRETS, SPOKEN, POSTED] },
    Target { name: "stored", run: stored, seeds: &[RECORD, INPUT, OUTPUTS] },
    Target { name: "nodes", run: nodes, seeds: &[CLAIMED, TABLE, SAID] },
    Target { name: "connection", run: connection, seeds: &[HEAD, SPOKEN, POSTED] },
    Target { name: "server", run: server, seeds: &[PROXIED, RETURNED] },
];

const HEAD: &[u8] = include_bytes!("../../fuzz/corpus/http_head/page");
const UPGRADE: &[u8] = include_bytes!("../../fuzz/corpus/http_head/upgrade");
const FRAME: &[u8] = include_bytes!("../../fuzz/corpus/frames/text");
const FRAGMENTS: &[u8] = include_bytes!("../../fuzz/corpus/frames/fragments");
const OFFER: &[u8] = include_bytes!("../../fuzz/corpus/deflate/offer");
const DEFLATED: &[u8] = include_bytes!("../../fuzz/corpus/deflate/message");
const JOIN: &[u8] = include_bytes!("../../fuzz/corpus/packets/join");
const ATTACHED: &[u8] = include_bytes!("../../fuzz/corpus/packets/attached");
const POLLED: &[u8] = include_bytes!("../../fuzz/corpus/packets/polled");
const SETLIST: &[u8] = include_bytes!("../../fuzz/corpus/events/setlist");
const EDIT: &[u8] = include_bytes!("../../fuzz/corpus/events/edit");
const PLAY: &[u8] = include_bytes!("../../fuzz/corpus/events/play");
const ENTRIES: &[u8] = include_bytes!("../../fuzz/corpus/trace/entries");
const TRACE: &[u8] = include_bytes!("../../fuzz/corpus/trace/file");
const SECRETS: &[u8] = include_bytes!("../../fuzz/corpus/redact/secrets");
const RECORD: &[u8] = include_bytes!("../../fuzz/corpus/stored/record");
const INPUT: &[u8] = include_bytes!("../../fuzz/corpus/stored/input");
const OUTPUTS: &[u8] = include_bytes!("../../fuzz/corpus/stored/outputs");
const CLAIMED: &[u8] = include_bytes!("../../fuzz/corpus/nodes/claimed");
const TABLE: &[u8] = include_bytes!("../../fuzz/corpus/nodes/table");
const SAID: &[u8] = include_bytes!("../../fuzz/corpus/nodes/frame");
const SPOKEN: &[u8] = include_bytes!("../../fuzz/corpus/connection/spoken");
const POSTED: &[u8] = include_bytes!("../../fuzz/corpus/connection/posted");
const PROXIED: &[u8] = include_bytes!("../../fuzz/corpus/server/proxied");
const RETURNED: &[u8] = include_bytes!("../../fuzz/corpus/server/returned");

/// Reads the head of a request. However it is cut, the head must be the same.
pub fn http_head(data: &[u8]) {
    let mut reader = HeadReader::default();
    let whole = reader.parse(data).map(|head| {
        head.map(|(request, length)| {
            let _ = (
                request.parameter("sid"),
                request.has_token("connection", "upgrade"),
                upgrade(&request),
            );
            let _ = request.list("x-forwarded-for").filter_map(Network::parse).count();
            length
        })
    });
    let mut reader = HeadReader::default();
    if let Ok(Some(length)) = whole {
        assert!(length <= data.len());
        for end in 0..length {
            assert!(
                !matches!(reader.parse(&data[..end]), Ok(Some(_))),
                "a part of a head is no head"
            );
        }
    }
}

/// Reads WebSocket frames. However they are cut, the messages must be the same.
pub fn frames(data: &[u8]) {
    let whole = messages(&[data]);
    let (first, second) = data.split_at(data.len() / 2);
    assert_eq!(messages(&[first, second]), whole);
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(messages(&bytes), whole);
}

/// Returns the messages as text. If the reader fails, the last one is the error.
fn messages(reads: &[&[u8]]) -> Vec<String> {
    let (mut reader, mut messages) = (Reader::default(), Vec::new());
    for read in reads {
        let (mut bytes, mut at) = (read.to_vec(), 0);
        loop {
            match reader.next(&Limits::TINY, &mut bytes, &mut at) {
                Ok(None) => break,
                Ok(Some(message)) => messages.push(format!("{message:?}")),
                Err(error) => {
                    messages.push(format!("{error:?}"));
                    return messages;
                }
            }
        }
    }
    messages
}

/// Maximum size of an unpacked message.
const UNPACKED_MAX: u32 = 100_000;

/// Reads an offer of compression in the first line, then two messages of one connection. A message
/// that the server compressed itself must be decompressed unchanged.
pub fn deflate(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    if let Ok(offer) = std::str::from_utf8(&data[..end])
        && let Ok(Some(agreed)) = negotiate(offer.split(','), Compression::default())
    {
        assert!(agreed.answer().starts_with("permessage-deflate"));
    }
    let rest = data.get(end + 1..).unwrap_or_default();
    let (first, second) = rest.split_at(rest.len() / 2);
    let (mut inflater, mut window) = (Inflater::default(), Window::default());
    for message in [rest, first, second] {
        if let Ok(message) = inflater.inflate(message, Some(&mut window), UNPACKED_MAX) {
            assert!(message.len() <= UNPACKED_MAX as usize);
        }
    }
    let bits = 9 + (rest.len() % 7) as u8;
    let (mut deflater, mut ours, mut theirs) =
        (Deflater::new(1), Window::default(), Window::default());
    for message in [first, second, rest] {
        if let Some(payload) = deflater.deflate(message, bits, Some(&mut ours)) {
            let unpacked = inflater.inflate(payload, Some(&mut theirs), UNPACKED_MAX);
            assert_eq!(unpacked, Ok(message));
        }
    }
}

/// Reads Engine.IO and Socket.IO packets: alone, in bodies, and with the first line as text and the
/// other lines as attachments.
pub fn packets(data: &[u8]) {
    for (version, binary) in [(Version::V3, false), (Version::V3, true), (Version::V4, false)] {
        let _ = payload::parts(data, version, binary);
    }
    let mut lines = data.split(|byte| *byte == b'\n');
    let Some(text) = lines.next().and_then(|line| std::str::from_utf8(line).ok()) else { return };
    let _ = engine_packet::parse(text);
    let (mut assembler, mut reader) = (Assembler::default(), json::Reader::default());
    let _ = assembler.text(text, &mut reader.begin());
    for attachment in lines {
        if let Ok(Some(whole)) = assembler.binary(attachment, 1_000) {
            let _ = whole.packet(&mut reader.begin());
        }
    }
}

/// Reads client events: a name in the first line and an argument after it, or both in a packet.
/// Both readers of JSON must agree on every event.
pub fn events(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut reader = json::Reader::default();
    if let Some(array) = text.find('[').map(|at| &text[at..]) {
        read_by_both(&mut reader, array);
    }
    let (name, payload) = text.split_once('\n').unwrap_or(("join_session", text));
    if let Some(known) = ClientEvent::from_name(name) {
        let _ = known.read(payload);
    }
    // The reader's buffers hold another event now.
    read_by_both(&mut reader, &format!("[\"{name}\",{payload}]"));
}

/// Checks that serde_json reads the same event as simd-json.
fn read_by_both(reader: &mut json::Reader, array: &str) {
    let written = json::event(array);
    let mut reading = reader.begin();
    let read = reading.event(array);
    let (Some(read), Some(written)) = (&read, &written) else {
        assert!(
            read.is_none() && written.is_none(),
            "only one reader takes it for an event: {array:?}"
        );
        return;
    };
    assert_eq!(read.name, written.name);
    let [read, written] = [read, written].map(|event| event.argument.unwrap_or(json::Value::NONE));
    for event in ClientEvent::ALL {
        assert_eq!(event.read(read), event.read(written), "{event:?} of {array:?}");
    }
}

/// Reads trace files, and blocks with valid checksums.
pub fn trace_reader(data: &[u8]) {
    let whole = read_trace(data);
    assert!(read_trace(&data[..data.len() / 2]) <= whole, "half of the file has no more entries");
    let header =
        Header { program: String::new(), run: 0, segment: 0, settings: Settings::default() };
    let (mut bytes, mut packer) = (Vec::new(), Packer::default());
    packer.header(&mut bytes, &header);
    packer
        .entries(&mut bytes, &EntryBlock { first: 0, at: Micros::ZERO, digest: 0, entries: data });
    read_trace(&bytes);
}

/// Returns the number of readable entries.
fn read_trace(data: &[u8]) -> usize {
    let Ok(mut reader) = SegmentReader::new(data) else { return 0 };
    let mut count = 0;
    while let Ok(Some(block)) = reader.next_block() {
        count += block.entries().filter(Result::is_ok).count();
    }
    count
}

/// Covers the secrets in a connection's bytes for a trace. The covered bytes must be as many, and
/// the same however they are cut.
pub fn redact(data: &[u8]) {
    let key = RandomState::new();
    let (first, second) = data.split_at(data.len() / 2);
    let whole = redacted(&key, &[data]);
    let halves = redacted(&key, &[first, second]);
    assert_eq!(whole.concat(), halves.concat());
    assert_eq!(whole.concat().len(), data.len());
}

/// Returns the recorded form of these reads.
fn redacted(key: &RandomState, reads: &[&[u8]]) -> Vec<Vec<u8>> {
    let conn = ConnId { index: 0, generation: 0 };
    let mut entries = Vec::new();
    for bytes in reads {
        let input = Recorded::Received { conn, bytes };
        trace::write_input(&mut entries, Micros::ZERO, &input);
        trace::write_outcome(&mut entries, Outcome::Nothing);
    }
    Redactor::new(key.clone()).redact(&mut entries);
    let block = EntryBlock { first: 0, at: Micros::ZERO, digest: 0, entries: &entries };
    let bytes = |entry: Entry<'_>| match entry.input {
        Recorded::Received { bytes, .. } => Some(bytes.to_vec()),
        _ => None,
    };
    block.entries().filter_map(|entry| entry.ok().and_then(bytes)).collect()
}

/// Reads data in our own formats: inputs, outputs, packed clients, stored sessions.
pub fn stored(data: &[u8]) {
    let _ = trace::read_input(&mut &data[..]);
    let _ = trace::read_outcome(&mut &data[..]);
    let _ = trace::read_outputs(&mut &data[..]);
    let _ = transport::unread(data);
    let _ = Record::parse(data);
    // The record with a valid checksum.
    let mut record = data.to_vec();
    if let Some((sum, body)) = record.get_mut(2..).and_then(<[u8]>::split_first_chunk_mut) {
        *sum = crc32fast::hash(body).to_le_bytes();
    }
    let before = Record::parse(&record).err();
    restore(&record);
    Record::cover_secrets(&mut record, |_, secret| *secret = "x".repeat(secret.len()));
    let after = Record::parse(&record).err();
    // A record that another program printed at another length is dropped.
    assert!(after == before || (before, after) == (None, Some(Damage::Malformed)));
}

/// A tap that keeps what the engine sends and the session that it loads.
#[derive(Default)]
struct Kept {
    sent: Vec<u8>,
    loading: Option<SessionId>,
}

impl Tap for Kept {
    fn outputs(&mut self, outputs: &Outputs, _from: usize) {
        self.sent.extend_from_slice(&outputs.bytes);
        let mut loads = outputs.list.iter().filter_map(|output| match output {
            Output::Load { session } => Some(session),
            _ => None,
        });
        if self.loading.is_none() {
            self.loading = loads.next().cloned();
        }
    }
}

/// Loads a session from this record, and plays it.
fn restore(record: &[u8]) {
    let storage_wait = Some(Micros::from_secs(1));
    let settings =
        Settings { shards: 1, limits: Limits::TINY, storage_wait, ..Settings::default() };
    let mut harness = Harness::new(&settings, |_| Kept::default());
    let client = harness.open(0);
    harness.received(client, &mut SPOKEN.to_vec());
    harness.turn();
    let Some(session) = harness.tap(0).loading.take() else { return };
    let event = StorageEvent::Loaded { session, found: LoadResult::Record(record.into()) };
    harness.set_now(harness.now() + Micros::from_millis(1));
    harness.input(0, Input::Storage { event: &event });
    for _ in 0..8 {
        harness.turn();
        if !harness.skip_to_deadline() {
            break;
        }
    }
    harness.engine(0).check_invariants();
}

/// Reads everything that a node of a cluster reads from Redis. Whatever it is, readers return, and
/// no forged message is accepted.
pub fn nodes(data: &[u8]) {
    bandsync_cluster::read_all(data);
}

/// Sends bytes on a connection to a whole engine: all that a stranger can send.
pub fn connection(data: &[u8]) {
    let settings = Settings { shards: 1, limits: Limits::TINY, ..Settings::default() };
    let mut harness = Harness::new(&settings, |_| NoTap);
    let client = harness.open(0);
    for read in data.chunks(97) {
        harness.set_now(harness.now() + Micros::from_millis(3));
        harness.received(client, &mut read.to_vec());
        harness.turn();
    }
    // Only at the end: the check reads every slot for timers, which takes longer than all the rest.
    harness.engine(0).check_invariants();
}

/// The end of a piece of [`server`]'s input.
const PIECE_END: u8 = 0x1d;

/// Acts on four connections to a whole engine behind a proxy on the internet, while time passes and
/// the driver reports their state. The first byte of a piece selects a connection and an act.
/// Secrets are filled in: `$` stands for the newest Engine.IO session, `~` for the newest recovery
/// token.
pub fn server(data: &[u8]) {
    talk(data, &mut Vec::new());
}

/// Runs the input, and appends the server's bytes to `all`.
fn talk(data: &[u8], all: &mut Vec<u8>) {
    let mut harness = Harness::new(&on_the_internet(), |_| Kept::default());
    let mut clients = [0; 4].map(|shard| harness.open(shard));
    let (mut session, mut key) = (Vec::new(), Vec::new());
    for piece in data.split(|byte| *byte == PIECE_END) {
        let Some((what, rest)) = piece.split_first() else { continue };
        let client = &mut clients[usize::from(what & 3)];
        let (shard, conn) = harness.place(*client);
        match what >> 2 & 7 {
            0..4 => {
                let filled = rest.iter().flat_map(|byte| match byte {
                    b'$' => &session[..],
                    b'~' => &key[..],
                    byte => std::slice::from_ref(byte),
                });
                let mut bytes: Vec<u8> = filled.copied().collect();
                harness.received(*client, &mut bytes);
            }
            4 => {
                harness.input(shard, Input::Closed { conn, cause: CloseCause::Failed });
                *client = harness.open(shard);
            }
            5 => {
                let bytes = 1_000 * rest.len() as u32;
                harness.input(shard, Input::Backlog { conn, bytes });
            }
            6 => {
                harness.skip_to_deadline();
            }
            _ => {
                let memory = if rest.is_empty() { FreeMemory::Enough } else { FreeMemory::Low };
                harness.input(shard, Input::Memory(memory));
            }
        }
        harness.turn();
        let mut sent = std::mem::take(&mut harness.tap(0).sent);
        for (known, before, after) in
            [(&mut session, "{\"sid\":\"", "\",\"upgrades\""), (&mut key, "\"pid\":\"", "\"")]
        {
            if let Some(found) = last_between(&sent, before.as_bytes(), after.as_bytes()) {
                found.clone_into(known);
            }
        }
        all.append(&mut sent);
    }
    harness.engine(0).check_invariants();
}

/// Returns the last text between `before` and `after`.
fn last_between<'a>(sent: &'a [u8], before: &[u8], after: &[u8]) -> Option<&'a [u8]> {
    let starts = sent.windows(before.len()).enumerate().filter(|(_, bytes)| *bytes == before);
    let mut found = starts.filter_map(|(start, _)| {
        let rest = &sent[start + before.len()..];
        let (found, rest) = rest.split_at(rest.iter().position(|byte| *byte == b'"')?);
        rest.starts_with(after).then_some(found)
    });
    found.next_back()
}

/// Returns settings with small limits, trusted proxies, and lists of origins and host names.
fn on_the_internet() -> Settings {
    let proxies =
        ["127.0.0.0/8", "2001:db8::/32"].iter().filter_map(|text| Network::parse(text)).collect();
    Settings {
        shards: 1,
        limits: Limits::TINY,
        origins: Origins::Listed(vec!["https://band.example".into()]),
        policy: AccessPolicy {
            peers: PeerLimits {
                connections_max: 4,
                connections_per_second: 8,
                spares_loopback: false,
            },
            proxies,
            hosts: Hosts::Local(vec!["band.example".into()]),
            ..AccessPolicy::default()
        },
        ..Settings::default()
    }
}

#[cfg(test)]
mod tests {
    use bandsync_engine::words::rng::Rng;

    use super::*;

    /// Checks the seeds: mutations of input that is rejected at once would find nothing.
    #[test]
    fn the_seeds_of_a_server_reach_a_session() {
        for seed in [PROXIED, RETURNED] {
            let mut all = Vec::new();
            talk(seed, &mut all);
            let all = String::from_utf8_lossy(&all);
            assert!(all.contains("\"ok\":true") && all.contains("scroll_tick"), "{all}");
        }
    }

    /// A short run of all targets; `./tools/fuzz-all` makes long ones.
    #[test]
    fn no_fuzzed_input_causes_a_panic() {
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
