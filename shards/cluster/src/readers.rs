//! All readers of what comes from Redis, for fuzzers.

use redis::Value;

use crate::clock::Message;
use crate::frame::{self, Seal};
use crate::names::Names;
use crate::reply::{self, Trouble};
use crate::{inbox, table};

/// Reads bytes as everything that a node reads from Redis: an answer to each script, an entry of
/// the table, a message, and a frame. Readers return whatever the bytes are.
///
/// # Panics
/// If a reader has a bug, or accepts a forged frame.
pub fn read_all(bytes: &[u8]) {
    if let Ok(value) = redis::parse_redis_value(bytes) {
        read_value(value);
    }
    let text = Value::BulkString(bytes.to_vec());
    let entry = ["in", "1", "1700000000000000", "1700000000000", "2"];
    let mut table: Vec<Value> =
        entry.map(|text| Value::BulkString(text.as_bytes().to_vec())).to_vec();
    table.push(text);
    let _ = table::joined(&Value::Array(table));
    let _ = Names::new(64).bucket_of(bytes, 7);
    let _ = Message::read(bytes);
    let sealed = Seal::new(Some("a secret that no fuzzer knows"));
    assert!(frame::parse(&sealed, 1, bytes).is_err(), "a forged frame was accepted");
    if let Ok(frame) = frame::parse(&Seal::new(None), 1, bytes) {
        let _ = frame::bodies(frame.body);
    }
}

fn read_value(value: Value) {
    match value.extract_error() {
        Ok(value) => {
            let _ = (reply::claimed(&value), reply::owned(&value), table::joined(&value));
            let _ = reply::published(&value);
            inbox::read_any(&value);
        }
        Err(error) => drop(Trouble::of(&error)),
    }
}
