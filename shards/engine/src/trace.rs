//! Inputs and outputs as bytes, so that a run can be recorded and replayed.
//!
//! An input is its time and its value, in the format of
//! [postcard](https://postcard.jamesmunns.com/wire-format): integers as variable-length
//! little-endian groups of seven bits, enums by the index of their variant, bytes and texts behind
//! their length. Outputs have the same format. A trace keeps only a [`Digest`] of a run's outputs.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::io::{
    Close, CloseCause, FreeMemory, HttpRequest, HttpResponse, Input, NodeNews, Output, Outputs,
    StorageEvent,
};
use crate::words::ids::ConnId;
use crate::words::time::Micros;

/// An [`Input`] that borrows its bytes without changing them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // variants and fields are those of `Input`
pub enum Recorded<'a> {
    Opened { conn: ConnId, peer: IpAddr },
    Arrived { conn: ConnId, peer: IpAddr, state: &'a [u8] },
    Received { conn: ConnId, bytes: &'a [u8] },
    Closed { conn: ConnId, cause: CloseCause },
    Backlog { conn: ConnId, bytes: u32 },
    Responded { conn: ConnId, response: Cow<'a, HttpResponse> },
    WallClock { started_unix_ms: i64 },
    Drain,
    TurnEnded,
    Memory(FreeMemory),
    Storage { event: Cow<'a, StorageEvent> },
    ShardMessage { message: &'a [u8] },
    Node { news: Cow<'a, NodeNews> },
}

/// The error for bytes that are no input or no outputs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed;

impl<'a> Recorded<'a> {
    /// Copies an input for the trace, before the engine unmasks its bytes. Its secrets are not
    /// covered yet.
    pub fn of(input: &'a Input<'_>) -> Self {
        match input {
            Input::Opened { conn, peer } => Self::Opened { conn: *conn, peer: *peer },
            Input::Arrived { conn, peer, state } => {
                Self::Arrived { conn: *conn, peer: *peer, state }
            }
            Input::Received { conn, bytes } => Self::Received { conn: *conn, bytes },
            Input::Closed { conn, cause } => Self::Closed { conn: *conn, cause: *cause },
            Input::Backlog { conn, bytes } => Self::Backlog { conn: *conn, bytes: *bytes },
            Input::Responded { conn, response } => {
                Self::Responded { conn: *conn, response: Cow::Borrowed(response) }
            }
            Input::WallClock { started_unix_ms } => {
                Self::WallClock { started_unix_ms: *started_unix_ms }
            }
            Input::Storage { event } => Self::Storage { event: Cow::Borrowed(event) },
            Input::ShardMessage { message } => Self::ShardMessage { message },
            Input::Drain => Self::Drain,
            Input::TurnEnded => Self::TurnEnded,
            Input::Memory(memory) => Self::Memory(*memory),
            Input::Node { news } => Self::Node { news: Cow::Borrowed(news) },
        }
    }

    /// Returns the input. Received bytes are copied to `copy`, because an engine unmasks them in
    /// place.
    pub fn to_input<'b>(&'b self, copy: &'b mut Vec<u8>) -> Input<'b> {
        match self {
            Self::Opened { conn, peer } => Input::Opened { conn: *conn, peer: *peer },
            Self::Arrived { conn, peer, state } => {
                Input::Arrived { conn: *conn, peer: *peer, state }
            }
            Self::Received { conn, bytes } => {
                copy.clear();
                copy.extend_from_slice(bytes);
                Input::Received { conn: *conn, bytes: copy }
            }
            Self::Closed { conn, cause } => Input::Closed { conn: *conn, cause: *cause },
            Self::Backlog { conn, bytes } => Input::Backlog { conn: *conn, bytes: *bytes },
            Self::Responded { conn, response } => {
                Input::Responded { conn: *conn, response: response.clone().into_owned() }
            }
            Self::WallClock { started_unix_ms } => {
                Input::WallClock { started_unix_ms: *started_unix_ms }
            }
            Self::Storage { event } => Input::Storage { event: event.as_ref() },
            Self::ShardMessage { message } => Input::ShardMessage { message },
            Self::Drain => Input::Drain,
            Self::TurnEnded => Input::TurnEnded,
            Self::Memory(memory) => Input::Memory(*memory),
            Self::Node { news } => Input::Node { news: news.as_ref() },
        }
    }
}

/// The outcome of an input, as a trace records it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// No outputs.
    Nothing,
    /// Outputs, in this number and with this digest.
    Outputs {
        /// Number of outputs.
        count: u32,
        /// The [`Digest`] of all outputs of the run, including these.
        digest: u32,
    },
    /// The engine panicked, which ended the run.
    Panic,
}

/// A running checksum over all outputs of an engine.
///
/// A CRC-32. Each step maps different sums to different sums, so equal outputs never make two sums
/// equal again. A run that differs is therefore noticed at that input, or (one time in 2³²) at the
/// next one with outputs, and 32 bits suffice.
///
/// Contents that may hold secrets (packed clients, messages between shards, records, credentials in
/// requests) count by their length alone.
#[derive(Clone, Debug, Default)]
pub struct Digest {
    sum: u32,
    /// A buffer, empty between uses and kept for its memory.
    bytes: Vec<u8>,
}

impl Digest {
    /// Creates a digest that continues from this sum.
    pub fn from_sum(sum: u32) -> Self {
        Self { sum, bytes: Vec::new() }
    }

    /// Returns the sum of all outputs so far.
    pub fn sum(&self) -> u32 {
        self.sum
    }

    /// Adds the outputs from index `from` of the list on. The places of their bytes in the lists do
    /// not count, so the lists may be emptied at any time.
    pub fn add(&mut self, outputs: &Outputs, from: usize) {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.sum);
        for output in &outputs.list[from..] {
            let content = self.describe(output, outputs);
            hasher.update(&self.bytes);
            hasher.update(content);
        }
        self.sum = hasher.finalize();
    }

    /// Describes an output in `self.bytes`, except for its own bytes, which are returned.
    fn describe<'a>(&mut self, output: &Output, outputs: &'a Outputs) -> &'a [u8] {
        self.bytes.clear();
        match output {
            Output::Send { to, bytes } => {
                self.put(&[0, to.index, to.generation]);
                return &outputs.bytes[bytes.range()];
            }
            Output::Fanout { to, bytes, volatile } => {
                self.put(&[1, u32::from(*volatile), to.end - to.start]);
                for conn in &outputs.receivers[to.range()] {
                    self.put(&[conn.index, conn.generation]);
                }
                return &outputs.bytes[bytes.range()];
            }
            Output::Close { conn, how } => {
                let gently = u32::from(*how == Close::Gently);
                self.put(&[2, conn.index, conn.generation, gently]);
            }
            Output::HandOver { conn, to, state } => {
                self.put(&[
                    3,
                    conn.index,
                    conn.generation,
                    u32::from(to.0),
                    state.end - state.start,
                ]);
            }
            Output::Request { conn, request } => {
                let HttpRequest {
                    head,
                    path,
                    query,
                    accept,
                    if_none_match,
                    authorization,
                    takes_gzip,
                    peer: _,
                    forwarded,
                    host,
                    named,
                } = request;
                let flags = u32::from(*forwarded) | u32::from(*takes_gzip) << 1;
                self.put(&[4, conn.index, conn.generation, u32::from(*head), flags, *named as u32]);
                for hidden in [query, authorization] {
                    self.put(&[hidden.len() as u32]);
                }
                for text in [path, accept, if_none_match, host] {
                    self.put(&[text.len() as u32]);
                    self.bytes.extend_from_slice(text.as_bytes());
                }
            }
            Output::Load { session } => {
                self.put(&[5]);
                self.bytes.extend_from_slice(session.as_str().as_bytes());
            }
            // The record holds passcodes.
            Output::Store { session, epoch, version, record } => {
                self.put(&[
                    6,
                    *epoch as u32,
                    (*epoch >> 32) as u32,
                    *version as u32,
                    record.end - record.start,
                ]);
                self.bytes.extend_from_slice(session.as_str().as_bytes());
            }
            Output::Forget { session, epoch } => {
                self.put(&[7, *epoch as u32, (*epoch >> 32) as u32]);
                self.bytes.extend_from_slice(session.as_str().as_bytes());
            }
            Output::ShardMessage { to, message } => {
                self.put(&[8, u32::from(to.0), message.end - message.start])
            }
            Output::Claim { session, expected, floor } => {
                let expected = expected.map_or(0, |node| node.number.into());
                self.put(&[9, expected, *floor as u32, (*floor >> 32) as u32]);
                self.bytes.extend_from_slice(session.as_str().as_bytes());
            }
            // Messages between nodes hold passcodes, as records do.
            Output::Commit { session, epoch, version, record, branches, head, tail, to } => {
                self.put(&[10, *epoch as u32, (*epoch >> 32) as u32, *version as u32]);
                for span in [record, branches, head, tail] {
                    self.put(&[span.end - span.start]);
                }
                self.put_nodes(to);
                self.bytes.extend_from_slice(session.as_str().as_bytes());
            }
            Output::Publish { session, to, body } => {
                self.put(&[11, body.end - body.start]);
                self.put_nodes(to);
                self.bytes.extend_from_slice(session.as_str().as_bytes());
            }
            Output::Announce { to, body } => {
                self.put(&[12, body.end - body.start]);
                self.put_nodes(to);
            }
            Output::Noted { revision } => self.put(&[13, *revision as u32]),
            Output::Release { session, epoch } => {
                self.put(&[14, *epoch as u32, (*epoch >> 32) as u32]);
                self.bytes.extend_from_slice(session.as_str().as_bytes());
            }
        }
        &[]
    }

    fn put_nodes(&mut self, nodes: &[u16]) {
        for node in nodes {
            self.put(&[u32::from(*node)]);
        }
    }

    fn put(&mut self, numbers: &[u32]) {
        for number in numbers {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
}

/// Appends an input and its time.
pub fn write_input(bytes: &mut Vec<u8>, at: Micros, input: &Recorded<'_>) {
    write(bytes, &(at, input));
}

/// Reads an input and its time from the front of `bytes`, which then begins behind it.
///
/// # Errors
/// If `bytes` does not begin with one.
pub fn read_input<'a>(bytes: &mut &'a [u8]) -> Result<(Micros, Recorded<'a>), Malformed> {
    read(bytes)
}

/// Appends the outcome of an input.
pub fn write_outcome(bytes: &mut Vec<u8>, outcome: Outcome) {
    write(bytes, &outcome);
}

/// Reads the outcome of an input from the front of `bytes`, which then begins behind it.
///
/// # Errors
/// If `bytes` does not begin with one.
pub fn read_outcome(bytes: &mut &[u8]) -> Result<Outcome, Malformed> {
    read(bytes)
}

/// Appends outputs.
pub fn write_outputs(bytes: &mut Vec<u8>, outputs: &Outputs) {
    write(bytes, outputs);
}

/// Reads outputs from the front of `bytes`, which then begins behind them.
///
/// # Errors
/// If `bytes` does not begin with outputs.
pub fn read_outputs(bytes: &mut &[u8]) -> Result<Outputs, Malformed> {
    read(bytes)
}

fn write(bytes: &mut Vec<u8>, value: &impl Serialize) {
    let written = postcard::to_extend(value, std::mem::take(bytes));
    // Writing plain values to a vector fails only if one of them cannot be serialized, which all of
    // ours can.
    *bytes = written.unwrap_or_default();
    assert!(!bytes.is_empty());
}

fn read<'a, T: Deserialize<'a>>(bytes: &mut &'a [u8]) -> Result<T, Malformed> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|_| Malformed)?;
    *bytes = rest;
    Ok(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::io::{LoadResult, Span, StoreResult};
    use crate::words::ids::{SessionId, ShardId};
    use crate::words::policy::Named;

    const CONN: ConnId = ConnId { index: 3, generation: 70_000 };
    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn check(input: Input<'_>) {
        let mut bytes = b"before".to_vec();
        let recorded = Recorded::of(&input);
        write_input(&mut bytes, Micros::from_secs(7), &recorded);
        let mut rest = &bytes[6..];
        assert_eq!(read_input(&mut rest), Ok((Micros::from_secs(7), recorded)));
        assert!(rest.is_empty());
        for cut in 6..bytes.len() {
            assert_eq!(read_input(&mut &bytes[6..cut]), Err(Malformed), "cut at {cut}");
        }
    }

    #[test]
    fn every_input_is_read_back_unchanged() {
        let response = HttpResponse {
            status: 200,
            headers: vec![("ETag".into(), "\"x\"".into())],
            body: Cow::Borrowed(b"body"),
        };
        check(Input::Opened { conn: CONN, peer: PEER });
        check(Input::Arrived { conn: CONN, peer: PEER, state: b"state" });
        check(Input::Received { conn: CONN, bytes: &mut [0, 255, 3] });
        check(Input::ShardMessage { message: b"message" });
        check(Input::Closed { conn: CONN, cause: CloseCause::Failed });
        check(Input::Backlog { conn: CONN, bytes: u32::MAX });
        check(Input::Responded { conn: CONN, response });
        check(Input::WallClock { started_unix_ms: -5 });
        let session = SessionId::parse("s").unwrap();
        let found = LoadResult::Unknown;
        check(Input::Storage { event: &StorageEvent::Loaded { session: session.clone(), found } });
        let outcome = StoreResult::Outdated { epoch: 9 };
        check(Input::Storage {
            event: &StorageEvent::Stored { session, epoch: 3, version: 4, outcome },
        });
        check(Input::Storage { event: &StorageEvent::Returned });
        check(Input::Drain);
        check(Input::TurnEnded);
        check(Input::Memory(FreeMemory::Out));
    }

    fn outputs() -> Outputs {
        let span = Span { start: 0, end: 4 };
        let request = HttpRequest {
            forwarded: true,
            host: "band".into(),
            named: Named::Known,
            head: true,
            path: "/".into(),
            query: "a=b".into(),
            accept: "*/*".into(),
            if_none_match: String::new(),
            authorization: String::new(),
            takes_gzip: false,
            peer: PEER,
        };
        Outputs {
            list: vec![
                Output::Send { to: CONN, bytes: span },
                Output::Fanout { to: span, bytes: span, volatile: true },
                Output::Close { conn: CONN, how: Close::Gently },
                Output::HandOver { conn: CONN, to: ShardId(2), state: span },
                Output::Request { conn: CONN, request },
                Output::Load { session: SessionId::parse("s").unwrap() },
                Output::Store {
                    session: SessionId::parse("s").unwrap(),
                    epoch: 1,
                    version: 2,
                    record: span,
                },
                Output::Forget { session: SessionId::parse("s").unwrap(), epoch: 1 },
                Output::ShardMessage { to: ShardId(1), message: span },
            ],
            bytes: b"text".to_vec(),
            receivers: vec![CONN; 4],
            stamps: Vec::new(),
        }
    }

    #[test]
    fn outputs_are_read_back_unchanged() {
        let outputs = outputs();
        let mut bytes = Vec::new();
        write_outputs(&mut bytes, &outputs);
        assert_eq!(read_outputs(&mut &bytes[..]), Ok(outputs));
    }

    #[test]
    fn outcomes_are_read_back_unchanged() {
        for outcome in
            [Outcome::Nothing, Outcome::Outputs { count: 3, digest: u32::MAX }, Outcome::Panic]
        {
            let mut bytes = Vec::new();
            write_outcome(&mut bytes, outcome);
            assert_eq!(read_outcome(&mut &bytes[..]), Ok(outcome));
        }
    }

    /// Returns outputs without those for the storage.
    fn spoken() -> Outputs {
        let mut outputs = outputs();
        outputs.list.truncate(5);
        outputs
    }

    fn digest(outputs: &Outputs) -> u32 {
        let mut digest = Digest::default();
        digest.add(outputs, 0);
        digest.sum()
    }

    #[test]
    fn a_digest_covers_every_difference_except_secrets() {
        let same = spoken();
        for place in 0..5 {
            let mut other = spoken();
            match &mut other.list[place] {
                Output::Send { to, .. } => to.generation += 1,
                Output::Fanout { volatile, .. } => *volatile = false,
                Output::Close { how, .. } => *how = Close::Abort,
                Output::HandOver { to, .. } => to.0 = 3,
                Output::Request { request, .. } => request.path = "/x".into(),
                other => unreachable!("{other:?}"),
            }
            assert_ne!(digest(&other), digest(&same), "output {place}");
        }
        let mut other = spoken();
        other.bytes[0] ^= 1;
        assert_ne!(digest(&other), digest(&same));
        let mut other = spoken();
        other.receivers[3].index += 1;
        assert_ne!(digest(&other), digest(&same));
        let mut hidden = spoken();
        hidden.list.retain(|output| !matches!(output, Output::Send { .. } | Output::Fanout { .. }));
        let before = digest(&hidden);
        hidden.bytes = b"TEXT".to_vec();
        assert_eq!(digest(&hidden), before, "a client's state counts by its length");
    }

    #[test]
    fn a_digest_does_not_depend_on_when_the_lists_are_emptied() {
        let outputs = spoken();
        let mut whole = Digest::default();
        whole.add(&outputs, 0);
        whole.add(&outputs, 3);
        let mut pieces = Digest::from_sum(digest(&outputs));
        let moved = Outputs {
            list: vec![
                Output::HandOver { conn: CONN, to: ShardId(2), state: Span { start: 1, end: 5 } },
                outputs.list[4].clone(),
            ],
            bytes: b"another".to_vec(),
            receivers: Vec::new(),
            stamps: Vec::new(),
        };
        pieces.add(&moved, 0);
        assert_eq!(pieces.sum(), whole.sum());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_input(&mut &bytes[..]);
            let _ = read_outputs(&mut &bytes[..]);
            let _ = read_outcome(&mut &bytes[..]);
        }
    }
}
