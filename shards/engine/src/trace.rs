//! Inputs and outputs as bytes and back, so that a run can be written down and run again.
//!
//! An input is its time and its value, in [postcard](https://postcard.jamesmunns.com/wire-format)'s format: integers
//! as variable-length little-endian groups of seven bits, enums by the place of their variant, bytes and texts with
//! their length in front. Outputs likewise.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::io::{Answer, Cause, Input, Memory, Outputs};
use crate::words::ids::ConnId;
use crate::words::time::Micros;

/// An [`Input`] that borrows its bytes without changing them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // variants and fields are those of `Input`
pub enum Recorded<'a> {
    Opened { conn: ConnId, peer: IpAddr },
    Arrived { conn: ConnId, peer: IpAddr, parcel: &'a [u8] },
    Received { conn: ConnId, bytes: &'a [u8] },
    Closed { conn: ConnId, cause: Cause },
    Backlog { conn: ConnId, bytes: u32 },
    Answered { conn: ConnId, answer: Answer },
    WallClock { started_unix_ms: i64 },
    Drain,
    TurnEnded,
    Memory(Memory),
}

/// These bytes are no input or no outputs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed;

impl<'a> Recorded<'a> {
    /// What has to be written down of an input, before the engine unmasks its bytes.
    pub fn of(input: &'a Input<'_>) -> Self {
        match input {
            Input::Opened { conn, peer } => Self::Opened { conn: *conn, peer: *peer },
            Input::Arrived { conn, peer, parcel } => Self::Arrived { conn: *conn, peer: *peer, parcel },
            Input::Received { conn, bytes } => Self::Received { conn: *conn, bytes },
            Input::Closed { conn, cause } => Self::Closed { conn: *conn, cause: *cause },
            Input::Backlog { conn, bytes } => Self::Backlog { conn: *conn, bytes: *bytes },
            Input::Answered { conn, answer } => Self::Answered { conn: *conn, answer: answer.clone() },
            Input::WallClock { started_unix_ms } => Self::WallClock { started_unix_ms: *started_unix_ms },
            Input::Drain => Self::Drain,
            Input::TurnEnded => Self::TurnEnded,
            Input::Memory(memory) => Self::Memory(*memory),
        }
    }

    /// The input again. Received bytes are copied to `copy`, for an engine unmasks them where they lie.
    pub fn to_input<'b>(&'b self, copy: &'b mut Vec<u8>) -> Input<'b> {
        match self {
            Self::Opened { conn, peer } => Input::Opened { conn: *conn, peer: *peer },
            Self::Arrived { conn, peer, parcel } => Input::Arrived { conn: *conn, peer: *peer, parcel },
            Self::Received { conn, bytes } => {
                copy.clear();
                copy.extend_from_slice(bytes);
                Input::Received { conn: *conn, bytes: copy }
            }
            Self::Closed { conn, cause } => Input::Closed { conn: *conn, cause: *cause },
            Self::Backlog { conn, bytes } => Input::Backlog { conn: *conn, bytes: *bytes },
            Self::Answered { conn, answer } => Input::Answered { conn: *conn, answer: answer.clone() },
            Self::WallClock { started_unix_ms } => Input::WallClock { started_unix_ms: *started_unix_ms },
            Self::Drain => Input::Drain,
            Self::TurnEnded => Input::TurnEnded,
            Self::Memory(memory) => Input::Memory(*memory),
        }
    }
}

/// Appends an input and its time.
pub fn write_input(bytes: &mut Vec<u8>, at: Micros, input: &Recorded<'_>) {
    write(bytes, &(at, input));
}

/// Reads an input and its time from the front of `bytes`, which moves behind it.
///
/// # Errors
/// If there is none.
pub fn read_input<'a>(bytes: &mut &'a [u8]) -> Result<(Micros, Recorded<'a>), Malformed> {
    read(bytes)
}

/// Appends what an engine wanted done.
pub fn write_outputs(bytes: &mut Vec<u8>, outputs: &Outputs) {
    write(bytes, outputs);
}

/// Reads what an engine wanted done from the front of `bytes`, which moves behind it.
///
/// # Errors
/// If it is not there.
pub fn read_outputs(bytes: &mut &[u8]) -> Result<Outputs, Malformed> {
    read(bytes)
}

fn write(bytes: &mut Vec<u8>, value: &impl Serialize) {
    let written = postcard::to_extend(value, std::mem::take(bytes));
    // Writing plain values to a vector fails only if one of them refuses, which none of ours does.
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
    use std::borrow::Cow;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::io::{Close, Output, Question, Span};
    use crate::words::ids::ShardId;

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
    fn every_input_comes_back_as_it_was() {
        let answer = Answer {
            status: 200,
            headers: vec![("ETag".into(), "\"x\"".into())],
            body: Cow::Borrowed(b"body"),
        };
        check(Input::Opened { conn: CONN, peer: PEER });
        check(Input::Arrived { conn: CONN, peer: PEER, parcel: b"parcel" });
        check(Input::Received { conn: CONN, bytes: &mut [0, 255, 3] });
        check(Input::Closed { conn: CONN, cause: Cause::Failed });
        check(Input::Backlog { conn: CONN, bytes: u32::MAX });
        check(Input::Answered { conn: CONN, answer });
        check(Input::WallClock { started_unix_ms: -5 });
        check(Input::Drain);
        check(Input::TurnEnded);
        check(Input::Memory(Memory::Out));
    }

    #[test]
    fn outputs_come_back_as_they_were() {
        let span = Span { start: 0, end: 4 };
        let question = Question {
            forwarded: true,
            head: true,
            path: "/".into(),
            query: "a=b".into(),
            accept: "*/*".into(),
            if_none_match: String::new(),
            authorization: String::new(),
            peer: PEER,
        };
        let outputs = Outputs {
            list: vec![
                Output::Send { to: CONN, bytes: span },
                Output::Fanout { to: span, bytes: span, volatile: true },
                Output::Close { conn: CONN, how: Close::Gently },
                Output::HandOver { conn: CONN, to: ShardId(2), parcel: span },
                Output::Ask { conn: CONN, question },
            ],
            bytes: b"text".to_vec(),
            receivers: vec![CONN; 4],
        };
        let mut bytes = Vec::new();
        write_outputs(&mut bytes, &outputs);
        assert_eq!(read_outputs(&mut &bytes[..]), Ok(outputs));
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_input(&mut &bytes[..]);
            let _ = read_outputs(&mut &bytes[..]);
        }
    }
}
