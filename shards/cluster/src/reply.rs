//! Answers of Redis, as values. Redis is a stranger: an answer of another form is an error.

use bandsync_engine::io::NodeId;
use bandsync_engine::io::node::Stored;
use bandsync_redis::{is_unreadable, redirection};
use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

/// An error, by what the caller has to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// Redis does not know the script: send its text.
    NoScript,
    /// The key is at another server: send the command there, with `ASKING` first if its slot is
    /// only moving.
    Elsewhere {
        /// Whether the slot is only moving.
        asking: bool,
        /// The server's host; empty if it is the one that was asked.
        host: String,
        /// The server's port.
        port: u16,
    },
    /// Redis cannot carry the command out now: send it again on the same connection.
    Later(String),
    /// This server accepts no writes: find the one that does.
    NotPrimary(String),
    /// An operator has to change something: a password, permissions.
    Denied(String),
    /// The data of this session makes no sense: all other sessions can be served.
    Session(String),
    /// The connection is of no more use. Redis may have carried the command out.
    Lost(String),
}

impl Trouble {
    /// Returns the reaction to an error.
    pub fn of(error: &RedisError) -> Self {
        if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) {
            return Self::NoScript;
        }
        if let Some((asking, host, port)) = redirection(error) {
            return Self::Elsewhere { asking, host, port };
        }
        let text = || shortened(&error.to_string());
        match error.code() {
            Some(
                "OOM" | "LOADING" | "BUSY" | "MISCONF" | "CLUSTERDOWN" | "TRYAGAIN" | "NOREPLICAS"
                | "MASTERDOWN" | "UNKILLABLE",
            ) => Self::Later(text()),
            Some("READONLY" | "MOVED" | "ASK") => Self::NotPrimary(text()),
            Some("NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED") => Self::Denied(text()),
            Some(_) => Self::Session(text()),
            None if error.kind() == ErrorKind::AuthenticationFailed => Self::Denied(text()),
            None if is_unreadable(error) => Self::Lost("Redis sent what is no answer".into()),
            None => Self::Lost(text()),
        }
    }

    /// Returns the error for an answer of a wrong form.
    pub fn senseless() -> Self {
        Self::Session("Redis has data of this session that makes no sense".into())
    }
}

/// Cuts a text that a stranger may have made long.
fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The answer to CLAIM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Claimed {
    /// This node owns the session from now on.
    Mine {
        /// The former owner.
        former: Option<NodeId>,
        /// The new epoch.
        epoch: u64,
        /// The stored session.
        stored: Option<Stored>,
    },
    /// Another node owns it.
    Theirs {
        /// The owner.
        owner: NodeId,
        /// Its epoch.
        epoch: u64,
        /// The stored session.
        stored: Option<Stored>,
    },
    /// This node's lease is gone.
    Lapsed,
    /// The record has a format that this program does not read.
    Newer {
        /// The format.
        format: u64,
    },
    /// No epoch is left above this one.
    Limit {
        /// The stored epoch.
        epoch: u64,
    },
}

/// The answer to COMMIT and to the other scripts of an owner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Owned {
    /// Carried out. The places of channels without a listener.
    Done {
        /// Places in the list of channels.
        deaf: Vec<usize>,
    },
    /// Another node owns the session, or nobody does.
    Lost {
        /// The stored epoch.
        epoch: u64,
        /// The stored owner.
        owner: Option<NodeId>,
    },
}

/// Reads the answer to CLAIM.
///
/// # Errors
/// If it makes no sense.
pub fn claimed(answer: &Value) -> Result<Claimed, Trouble> {
    let (word, rest) = words(answer).ok_or_else(Trouble::senseless)?;
    let read =
        match (word, rest) {
            ("lapsed", _) => Some(Claimed::Lapsed),
            ("newer", [format, ..]) => number(format).map(|format| Claimed::Newer { format }),
            ("limit", [epoch, ..]) => number(epoch).map(|epoch| Claimed::Limit { epoch }),
            ("mine", [former, epoch, record, branches]) => number(epoch).map(|epoch| {
                Claimed::Mine { former: node(former), epoch, stored: stored(record, branches) }
            }),
            ("theirs", [owner, epoch, record, branches]) => {
                node(owner).zip(number(epoch)).map(|(owner, epoch)| Claimed::Theirs {
                    owner,
                    epoch,
                    stored: stored(record, branches),
                })
            }
            _ => None,
        };
    read.ok_or_else(Trouble::senseless)
}

/// The answer to PUBLISH.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Published {
    /// Carried out. The places of channels without a listener.
    Done {
        /// Places in the list of channels.
        deaf: Vec<usize>,
    },
    /// This node's lease had ended, and nothing was published.
    Late,
}

/// Reads the answer to PUBLISH.
///
/// # Errors
/// If it makes no sense.
pub fn published(answer: &Value) -> Result<Published, Trouble> {
    let (word, rest) = words(answer).ok_or_else(Trouble::senseless)?;
    let read = match word {
        "done" => places(rest).map(|deaf| Published::Done { deaf }),
        "late" => Some(Published::Late),
        _ => None,
    };
    read.ok_or_else(Trouble::senseless)
}

/// Returns places in a list.
fn places(values: &[Value]) -> Option<Vec<usize>> {
    let place = |value: &Value| match value {
        Value::Int(place) => usize::try_from(*place).ok(),
        _ => None,
    };
    values.iter().map(place).collect()
}

/// Reads the answer to COMMIT, RELEASE or FORGET.
///
/// # Errors
/// If it makes no sense.
pub fn owned(answer: &Value) -> Result<Owned, Trouble> {
    let (word, rest) = words(answer).ok_or_else(Trouble::senseless)?;
    let read = match (word, rest) {
        ("done", deaf) => places(deaf).map(|deaf| Owned::Done { deaf }),
        ("lost", [epoch, owner]) => {
            number(epoch).map(|epoch| Owned::Lost { epoch, owner: node(owner) })
        }
        _ => None,
    };
    read.ok_or_else(Trouble::senseless)
}

/// Returns the first text of an array, and the rest.
pub fn words(answer: &Value) -> Option<(&str, &[Value])> {
    let Value::Array(items) = answer else { return None };
    let (first, rest) = items.split_first()?;
    Some((text(first)?, rest))
}

/// Returns a text.
pub fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// Returns a whole number that was sent as text.
pub fn number(value: &Value) -> Option<u64> {
    let text = text(value)?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn node(value: &Value) -> Option<NodeId> {
    text(value)?.parse().ok()
}

fn stored(record: &Value, branches: &Value) -> Option<Stored> {
    let Value::BulkString(record) = record else { return None };
    let branches: &[u8] = if let Value::BulkString(bytes) = branches { bytes } else { &[] };
    Some(Stored { record: record.as_slice().into(), branches: branches.into() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let word = prop_oneof![
            Just("mine"),
            Just("theirs"),
            Just("lapsed"),
            Just("done"),
            Just("lost"),
            Just("late"),
            Just("limit"),
            Just("newer"),
            Just("3.77"),
            Just("4096"),
            Just(""),
        ];
        let leaf = prop_oneof![
            Just(Value::Nil),
            Just(Value::Okay),
            any::<i64>().prop_map(Value::Int),
            any::<Vec<u8>>().prop_map(Value::BulkString),
            word.clone().prop_map(|word| Value::BulkString(word.into())),
            word.prop_map(|word| Value::SimpleString(word.into())),
        ];
        leaf.prop_recursive(3, 20, 6, |inner| {
            proptest::collection::vec(inner, 0..7).prop_map(Value::Array)
        })
    }

    proptest! {
        #[test]
        fn no_answer_makes_a_reader_panic(answer in value()) {
            let _ = (claimed(&answer), owned(&answer));
        }

        #[test]
        fn no_bytes_make_a_reader_panic(bytes in any::<Vec<u8>>()) {
            if let Ok(answer) = redis::parse_redis_value(&bytes) {
                match answer.extract_error() {
                    Ok(answer) => drop((claimed(&answer), owned(&answer))),
                    Err(error) => drop(Trouble::of(&error)),
                }
            }
        }
    }

    fn read(text: &str) -> Value {
        redis::parse_redis_value(text.as_bytes()).unwrap()
    }

    #[test]
    fn answers_are_read() {
        let mine = read("*5\r\n$4\r\nmine\r\n$4\r\n2.99\r\n$2\r\n42\r\n$1\r\nR\r\n$-1\r\n");
        let former = Some(NodeId { number: 2, incarnation: 99 });
        let stored = Some(Stored { record: b"R"[..].into(), branches: Box::default() });
        assert_eq!(claimed(&mine), Ok(Claimed::Mine { former, epoch: 42, stored }));
        let done = read("*3\r\n$4\r\ndone\r\n:0\r\n:2\r\n");
        assert_eq!(owned(&done), Ok(Owned::Done { deaf: vec![0, 2] }));
        let lost = read("*3\r\n$4\r\nlost\r\n$1\r\n7\r\n$0\r\n\r\n");
        assert_eq!(owned(&lost), Ok(Owned::Lost { epoch: 7, owner: None }));
        for text in
            ["+OK\r\n", "*1\r\n$9\r\nsenseless\r\n", "*1\r\n$4\r\nmine\r\n", "*0\r\n", ":1\r\n"]
        {
            assert_eq!(claimed(&read(text)), Err(Trouble::senseless()), "{text:?}");
        }
    }

    #[test]
    fn an_error_is_known_by_the_reaction_to_it() {
        let of = |text: &str| Trouble::of(&read(text).extract_error().unwrap_err());
        assert_eq!(of("-NOSCRIPT No matching script.\r\n"), Trouble::NoScript);
        let port = 6_380;
        assert_eq!(
            of("-ASK 12 b:6380\r\n"),
            Trouble::Elsewhere { asking: true, host: "b".into(), port }
        );
        for text in ["-OOM x\r\n", "-LOADING x\r\n", "-TRYAGAIN x\r\n", "-CLUSTERDOWN x\r\n"] {
            assert!(matches!(of(text), Trouble::Later(_)), "{text:?}");
        }
        assert!(matches!(of("-READONLY x\r\n"), Trouble::NotPrimary(_)));
        assert!(matches!(of("-MOVED nowhere\r\n"), Trouble::NotPrimary(_)));
        assert!(matches!(of("-NOPERM x\r\n"), Trouble::Denied(_)));
        assert!(matches!(of("-WRONGTYPE x\r\n"), Trouble::Session(_)));
        assert!(matches!(of("-ERR user_script:3: nil\r\n"), Trouble::Session(_)));
        let garbage = redis::parse_redis_value(b"HTTP/1.1 400\r\n").unwrap_err();
        assert!(matches!(Trouble::of(&garbage), Trouble::Lost(_)));
    }
}
