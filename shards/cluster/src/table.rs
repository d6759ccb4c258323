//! The table of nodes, as it is in Redis and as this node reads it.

use std::collections::BTreeMap;

use bandsync_engine::io::NodeId;
use redis::Value;
use serde::{Deserialize, Serialize};

use crate::reply::{Trouble, number, text, words};

/// Time after which an entry is forgotten and its number is free.
pub const KEPT_MS: u64 = 3_600_000;

/// Maximum size of an entry. A longer one is from a stranger.
pub const ENTRY_BYTES_MAX: usize = 65_536;

/// A node's entry, which it writes itself.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Entry {
    /// Unix milliseconds of Redis when it was written. The script adds it.
    #[serde(skip_serializing)]
    pub at: u64,
    /// Cluster time in microseconds when it sent this; 0 if it does not know it.
    pub clock: u64,
    /// Microseconds by which its clock is ahead of the reference's, as it estimates.
    pub ahead: i64,
    /// The maximum error of its clock in microseconds, if it knows any.
    pub bound: Option<u64>,
    /// The process' random number, as text: JSON would round it.
    pub incarnation: String,
    /// The name that an operator gave it.
    pub name: String,
    /// Its own address for members; empty if it has none.
    pub url: String,
    /// The version of the program.
    pub version: String,
    /// The oldest and the newest format of messages that it reads.
    pub formats: [u16; 2],
    /// Its region.
    pub region: String,
    /// Cluster time in microseconds since when its clock has been in time; 0 if it is not. The node
    /// with the smallest is the reference.
    pub since: u64,
    /// The nodes that all its shards have noted: number and incarnation.
    pub seen: Vec<(u16, String)>,
    /// Whether it is about to end.
    pub draining: bool,
}

/// The answer to JOIN.
#[derive(Clone, Debug, PartialEq)]
pub enum Joined {
    /// The entry is written.
    In(Table),
    /// Nobody has founded the cluster, or Redis has forgotten it.
    Unfounded,
    /// The cluster has another number of buckets.
    Buckets(String),
    /// Another process has the number.
    Taken,
    /// All numbers are used.
    Full,
}

/// The table as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// This node's number.
    pub number: u16,
    /// Unix microseconds of the founding.
    pub origin: String,
    /// Unix milliseconds of Redis.
    pub now: u64,
    /// All entries that make sense, by number.
    pub entries: BTreeMap<u16, Entry>,
}

impl Entry {
    /// The entry as it is sent.
    pub fn print(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }

    /// The node, if the entry has a readable incarnation.
    pub fn node(&self, number: u16) -> Option<NodeId> {
        let incarnation = self.incarnation.parse().ok()?;
        Some(NodeId { number, incarnation })
    }

    /// Whether its node has noted this one.
    pub fn has_seen(&self, node: NodeId) -> bool {
        let incarnation = node.incarnation.to_string();
        self.seen.iter().any(|(number, other)| *number == node.number && *other == incarnation)
    }
}

impl Table {
    /// The other nodes of the table, by number.
    pub fn others(&self) -> impl Iterator<Item = (NodeId, &Entry)> {
        let others = self.entries.iter().filter(|(number, _)| **number != self.number);
        others.filter_map(|(number, entry)| Some((entry.node(*number)?, entry)))
    }
}

/// Reads the answer to JOIN. Entries that make no sense are left out.
///
/// # Errors
/// If the answer makes no sense.
pub fn joined(answer: &Value) -> Result<Joined, Trouble> {
    let senseless = || Trouble::Session("the table of nodes makes no sense".into());
    let (word, rest) = words(answer).ok_or_else(senseless)?;
    match (word, rest) {
        ("unfounded", _) => Ok(Joined::Unfounded),
        ("taken", _) => Ok(Joined::Taken),
        ("full", _) => Ok(Joined::Full),
        ("buckets", [buckets, ..]) => {
            Ok(Joined::Buckets(text(buckets).unwrap_or("?").chars().take(20).collect()))
        }
        ("in", [own, origin, now, entries @ ..]) => {
            let own = number(own).and_then(|own| u16::try_from(own).ok()).ok_or_else(senseless)?;
            let origin = text(origin).ok_or_else(senseless)?.to_owned();
            let now = number(now).ok_or_else(senseless)?;
            let entries = entries.chunks_exact(2).filter_map(|pair| {
                let number = u16::try_from(number(&pair[0])?).ok()?;
                let printed = text(&pair[1])?;
                let fits =
                    (1..=NodeId::NUMBER_MAX).contains(&number) && printed.len() <= ENTRY_BYTES_MAX;
                Some((number, fits.then(|| serde_json::from_str(printed).ok()).flatten()?))
            });
            Ok(Joined::In(Table { number: own, origin, now, entries: entries.collect() }))
        }
        _ => Err(senseless()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn entries_that_make_no_sense_are_left_out() {
        let entry = Entry {
            incarnation: "77".into(),
            name: "stage".into(),
            seen: vec![(1, "5".into())],
            ..Entry::default()
        };
        let printed = format!("{{\"at\":12,{}", &entry.print()[1..]);
        let mut answer = ["in", "1", "1700000000000000", "13"].map(bulk).to_vec();
        for (number, text) in
            [("2", printed.as_str()), ("3", "{"), ("4", "7"), ("0", "{}"), ("x", "{}")]
        {
            answer.extend([bulk(number), bulk(text)]);
        }
        let Joined::In(table) = joined(&Value::Array(answer)).unwrap() else { panic!() };
        assert_eq!(table.entries, BTreeMap::from([(2, Entry { at: 12, ..entry })]));
        let (node, entry) = table.others().next().unwrap();
        assert_eq!(node, NodeId { number: 2, incarnation: 77 });
        assert!(entry.has_seen(NodeId { number: 1, incarnation: 5 }));
        assert!(!entry.has_seen(NodeId { number: 1, incarnation: 6 }));
    }

    #[test]
    fn a_newer_entry_may_have_more_fields() {
        let entry: Entry = serde_json::from_str(r#"{"incarnation":"1","tempo":120}"#).unwrap();
        assert_eq!(entry.node(9), Some(NodeId { number: 9, incarnation: 1 }));
    }

    proptest! {
        #[test]
        fn no_table_makes_the_reader_panic(texts: Vec<String>, word in "in|full|buckets|x") {
            let items = std::iter::once(word).chain(texts).map(|text| bulk(&text)).collect();
            let _ = joined(&Value::Array(items));
        }
    }
}
