//! The inbox: the thread that receives messages of other nodes from one primary.
//!
//! It subscribes to this node's channel of each bucket there, one command a bucket, because in a
//! Cluster one command may name channels of one slot only. The courier publishes an empty frame to
//! this node a few times in the life of a lease, so silence means that the connection is lost. So
//! does an end of a subscription that was not asked for: slots have moved.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bandsync_engine::io::{NodeId, NodeNews};
use bandsync_redis::lost;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use log::debug;
use redis::{RedisResult, Value, cmd};

use crate::clock::Message;
use crate::frame::{self, Fault, Seal, Target};
use crate::line::{Fresh, Line};
use crate::meters::add;
use crate::names::Names;
use crate::probes;
use crate::shared::Shared;

/// The place of the counters of frames about clocks, beside those of the buckets.
const CLOCK_COUNTER: u16 = u16::MAX;

/// Receives until `end` is closed.
pub fn run(shared: &Arc<Shared>, lane: usize, end: &Receiver<()>) {
    let mut line = shared.line(lane);
    loop {
        line.renew(shared.endpoint(lane));
        if shared.buckets_of(lane).next().is_none() {
            // A primary without buckets of ours, for now.
            match end.recv_timeout(shared.plan.lease_ttl / 4) {
                Err(RecvTimeoutError::Timeout) => continue,
                _ => return,
            }
        }
        let wait = match line.open() {
            Err(retry) => retry.saturating_duration_since(Instant::now()),
            Ok((_, fresh)) => {
                if fresh == Fresh::Again {
                    add(&shared.meters().reconnects, 1);
                    shared.clock.refresh();
                }
                if let Err(error) = listen(shared, lane, &mut line) {
                    debug!("cannot receive messages of other nodes: {error}");
                }
                shared.subscribed.lock().remove(&lane);
                line.fail();
                Duration::ZERO
            }
        };
        match end.recv_timeout(wait.max(Duration::from_millis(1))) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return,
        }
    }
}

/// Subscribes, and receives until the connection is lost or the node ends.
fn listen(shared: &Arc<Shared>, lane: usize, line: &mut Line) -> RedisResult<()> {
    let buckets = subscribe(shared, lane, line)?;
    line.works();
    shared.subscribed.lock().insert(lane);
    let Ok((open, Fresh::No)) = line.open() else { return Err(lost()) };
    // A bucket that has come or gone needs other subscriptions.
    while !shared.has_ended() && shared.buckets_of(lane).eq(buckets.iter().copied()) {
        match read(&open.wire.receive()??) {
            Some(Push::Message { channel, payload }) => take(shared, channel, payload),
            Some(Push::Subscribed) => {}
            Some(Push::Ended) => {
                add(&shared.meters().unsubscribed, 1);
                shared.learn();
                return Err(lost());
            }
            None => return Err(lost()),
        }
    }
    Ok(())
}

/// Subscribes to the channels of all buckets, and returns these.
fn subscribe(shared: &Arc<Shared>, lane: usize, line: &mut Line) -> RedisResult<Vec<u16>> {
    let Ok((open, _)) = line.open() else { return Err(lost()) };
    let silence = shared.plan.lease_ttl * 3 / 4;
    open.wire.set_wait(silence.max(shared.plan.timeout));
    let buckets: Vec<u16> = shared.buckets_of(lane).collect();
    let command = if open.is_sharded { "SSUBSCRIBE" } else { "SUBSCRIBE" };
    let mut bytes = Vec::new();
    for bucket in &buckets {
        let channel = shared.names.inbox(*bucket, shared.node.number);
        cmd(command).arg(channel).write_packed_command(&mut bytes);
    }
    open.wire.send(&bytes)?;
    let mut left = buckets.len();
    while left > 0 {
        let pushed = open.wire.receive()?.inspect_err(|_| shared.learn())?;
        match read(&pushed) {
            Some(Push::Message { channel, payload }) => take(shared, channel, payload),
            Some(Push::Subscribed) => left -= 1,
            Some(Push::Ended) | None => return Err(lost()),
        }
    }
    Ok(buckets)
}

/// Checks a frame and passes its messages to the shards.
fn take(shared: &Arc<Shared>, channel: &[u8], payload: &[u8]) {
    let arrived = shared.clock.machine();
    let meters = shared.meters();
    let Some(bucket) = shared.names.bucket_of(channel, shared.node.number) else {
        return add(&meters.dropped_malformed, 1);
    };
    let frame = match frame::parse(&shared.seal, bucket, payload) {
        Ok(frame) => frame,
        Err(Fault::Malformed) => return add(&meters.dropped_malformed, 1),
        Err(Fault::Forged) => return add(&meters.dropped_forged, 1),
    };
    let bodies = match frame.target {
        Target::Session(tag) => Ok(vec![(Some(tag), frame.body)]),
        Target::All => Ok(vec![(None, frame.body)]),
        Target::Several => frame::bodies(frame.body)
            .map(|list| list.into_iter().map(|(tag, body)| (Some(tag), body)).collect()),
        Target::Crate | Target::Clock => Ok(Vec::new()),
    };
    let Ok(bodies) = bodies else { return add(&meters.dropped_malformed, 1) };
    let mut roster = shared.roster.lock();
    if !roster.knows(frame.from) {
        drop(roster);
        add(&meters.dropped_unknown, 1);
        // It may be new.
        return shared.read_table();
    }
    let is_of_clock = frame.target == Target::Clock;
    let counted = if is_of_clock { CLOCK_COUNTER } else { bucket };
    if !roster.is_next(frame.from, counted, frame.counter) {
        return add(&meters.dropped_replayed, 1);
    }
    drop(roster);
    if frame.from == shared.node {
        return;
    }
    if is_of_clock {
        return probes::take(shared, frame.from, frame.body, arrived);
    }
    if frame.target == Target::Crate {
        return shared.read_table();
    }
    add(&meters.frames_in, 1);
    add(&meters.heard, bodies.len() as u64);
    add(&meters.bytes_in, payload.len() as u64);
    for (tag, body) in bodies {
        let news = NodeNews::Heard { from: frame.from, body: body.into() };
        match tag {
            Some(tag) => shared.tell(shared.post.shard_of(tag), news),
            None => shared.tell_all(&news),
        }
    }
}

/// A message on a subscribed connection.
#[derive(Debug, PartialEq)]
enum Push<'a> {
    Message {
        channel: &'a [u8],
        payload: &'a [u8],
    },
    /// A subscription began.
    Subscribed,
    /// A subscription ended.
    Ended,
}

/// Reads what a subscribed connection receives.
fn read(value: &Value) -> Option<Push<'_>> {
    let Value::Array(items) = value else { return None };
    match &items[..] {
        [Value::BulkString(kind), Value::BulkString(channel), third] => match (&kind[..], third) {
            (b"smessage" | b"message", Value::BulkString(payload)) => {
                Some(Push::Message { channel, payload })
            }
            (b"ssubscribe" | b"subscribe", Value::Int(_)) => Some(Push::Subscribed),
            (b"sunsubscribe" | b"unsubscribe", _) => Some(Push::Ended),
            _ => None,
        },
        _ => None,
    }
}

/// Returns a message about clocks that a subscribed connection received, with its sender. The node
/// has not started yet, so it checks no counters: each answer counts once, by its stamp.
pub fn clock_message(
    value: &Value,
    seal: &Seal,
    names: &Names,
    node: NodeId,
) -> Option<(NodeId, Message)> {
    let Some(Push::Message { channel, payload }) = read(value) else { return None };
    let bucket = names.bucket_of(channel, node.number)?;
    let frame = frame::parse(seal, bucket, payload).ok()?;
    let message = Message::read(frame.body).filter(|_| frame.target == Target::Clock)?;
    Some((frame.from, message))
}

/// Reads what a subscribed connection received, for fuzzers.
pub fn read_any(value: &Value) {
    let _ = read(value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn an_end_of_a_subscription_is_told_from_messages() {
        let push = |items: [Value; 3]| Value::Array(items.to_vec());
        for (kind, name) in [("s", "smessage"), ("", "message")] {
            let message = push([bulk(name), bulk("c"), bulk("body")]);
            let read = super::read(&message);
            assert_eq!(read, Some(Push::Message { channel: b"c", payload: b"body" }));
            let subscribed = push([bulk(&format!("{kind}subscribe")), bulk("c"), Value::Int(1)]);
            assert_eq!(super::read(&subscribed), Some(Push::Subscribed));
            let ended = push([bulk(&format!("{kind}unsubscribe")), bulk("c"), Value::Int(0)]);
            assert_eq!(super::read(&ended), Some(Push::Ended));
        }
        let other = push([bulk("pong"), bulk(""), Value::Nil]);
        assert_eq!((super::read(&other), super::read(&Value::Okay)), (None, None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            if let Ok(value) = redis::parse_redis_value(&bytes) {
                let _ = read(&value);
            }
        }
    }
}
