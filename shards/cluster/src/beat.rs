//! Beats: the thread that renews this node's leases at one primary, four times in their life, on a
//! connection that carries nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bandsync_engine::io::NodeId;
use bandsync_redis::{Answer, Endpoint};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use redis::{Cmd, Value, cmd};

use crate::lease::{Beat, Found};
use crate::line::{Fresh, Line, Open, ask_at, field, info_text};
use crate::meters::add;
use crate::names::Names;
use crate::reply::{Trouble, number};
use crate::shared::Shared;

/// Renews leases until `end` is closed.
pub fn run(shared: &Arc<Shared>, lane: usize, end: &Receiver<()>) {
    let mut line = shared.line(lane);
    let pause = shared.plan.lease_ttl / 4;
    loop {
        let began = Instant::now();
        let next = beat(shared, lane, &mut line).max(began);
        let wait = (began + pause).min(next).saturating_duration_since(Instant::now());
        match end.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return,
        }
    }
}

/// Renews the leases once. Returns the time at which to try again, if that is sooner than usual.
fn beat(shared: &Arc<Shared>, lane: usize, line: &mut Line) -> Instant {
    let sent = Instant::now();
    let later = sent + shared.plan.lease_ttl;
    let buckets: Vec<u16> = shared.buckets_of(lane).collect();
    if buckets.is_empty() {
        return later;
    }
    let endpoint = shared.endpoint(lane);
    line.renew(endpoint.clone());
    let (open, fresh) = match line.open() {
        Ok(open) => open,
        Err(retry) => return retry.max(sent + Duration::from_millis(10)),
    };
    if fresh == Fresh::Again {
        add(&shared.meters().reconnects, 1);
        shared.lost(lane);
    }
    let buckets: Vec<(u16, Beat)> = {
        let leases = shared.leases.lock();
        buckets.into_iter().map(|bucket| (bucket, leases.next_beat(bucket))).collect()
    };
    let sent = Instant::now();
    let lease = (shared.plan.lease_ttl, &endpoint);
    let asked = beats(open, &shared.names, shared.node, lease, &buckets);
    let Answers { found, replid, time } = match asked {
        Ok(answers) => answers,
        Err(Trouble::NotPrimary(_) | Trouble::Lost(_)) => {
            line.fail();
            shared.lost(lane);
            return sent;
        }
        Err(_) => return later,
    };
    line.works();
    if found.contains(&Found::Moved) {
        shared.learn();
    }
    let is_gone = found.contains(&Found::Gone);
    let answers: Vec<(u16, Found)> =
        buckets.into_iter().map(|(bucket, _)| bucket).zip(found).collect();
    shared.look();
    let is_held = found_all(&answers);
    if is_held && !shared.is_redis_cluster() {
        // Asked before the leases were renewed, so it is no later than their end.
        let end = time.map_or(0, |time| time + shared.plan.lease_ttl.as_millis() as u64);
        shared.lease_end.store(end, Ordering::Relaxed);
    }
    let now = Instant::now();
    let broken = shared.leases.lock().beat((lane, &replid), &answers, sent, now);
    add(&shared.meters().beats, 1);
    if broken > 0 {
        add(&shared.meters().lapses, broken);
        shared.clock.lapse();
        shared.roster.lock().lapse();
        shared.read_table();
    }
    shared.post.wake();
    // What is gone is made at once, now that the break is noted.
    if is_gone { sent } else { later }
}

/// Whether all these leases are held now.
fn found_all(answers: &[(u16, Found)]) -> bool {
    answers.iter().all(|(_, found)| matches!(found, Found::Mine | Found::Made))
}

/// The answers to the beats of one primary.
pub struct Answers {
    /// The answer of each bucket.
    pub found: Vec<Found>,
    /// The id of the primary's history.
    pub replid: String,
    /// The primary's clock before the beats (Unix ms), if it says so.
    pub time: Option<u64>,
}

/// Sends these beats.
///
/// # Errors
/// If there is no answer, or the server is not the primary.
pub fn beats(
    open: &mut Open,
    names: &Names,
    node: NodeId,
    (ttl, endpoint): (Duration, &Endpoint),
    buckets: &[(u16, Beat)],
) -> Result<Answers, Trouble> {
    let beat = |(bucket, beat): &(u16, Beat)| {
        let mut set = cmd("SET");
        set.arg(names.lease(*bucket, node.number)).arg(node.incarnation);
        set.arg("PX").arg(ttl.as_millis() as u64).arg("GET");
        if *beat == Beat::Renew {
            set.arg("XX");
        }
        set
    };
    let mut commands: Vec<Cmd> = buckets.iter().map(beat).collect();
    commands.insert(0, cmd("TIME"));
    let mut info = cmd("INFO");
    info.arg("replication");
    commands.push(info);
    let mut answers = open.ask(&commands).map_err(|error| Trouble::of(&error))?;
    let about = answers.pop().map(info_text).and_then(Result::ok).unwrap_or_default();
    let mut answers = answers.into_iter();
    let time = answers.next().and_then(unix_ms);
    let mut all = Vec::new();
    for ((answer, command), (_, beat)) in answers.zip(&commands[1..]).zip(buckets) {
        let answered = match found(answer, node)? {
            Answered::Found(found) => found,
            // The slot is moving, and the lease is at its new place already, or will be there.
            Answered::Asks(host, port) => match asked(endpoint, (host, port), command, node)? {
                Answered::Found(found) => found,
                Answered::Asks(..) => Found::Rejected,
            },
        };
        all.push(match (answered, beat) {
            (Found::Gone, Beat::Make) => Found::Made,
            (found, _) => found,
        });
    }
    let replid = field(&about, "master_replid").unwrap_or_default().to_owned();
    Ok(Answers { found: all, replid, time })
}

/// Reads the answer to `TIME`.
fn unix_ms(answer: Answer) -> Option<u64> {
    let Value::Array(parts) = answer.ok()? else { return None };
    let [seconds, micros] = &parts[..] else { return None };
    Some(number(seconds)?.checked_mul(1_000)? + number(micros)? / 1_000)
}

/// Sends a beat to the server to which a slot is moving.
fn asked(
    endpoint: &Endpoint,
    place: (String, u16),
    command: &Cmd,
    node: NodeId,
) -> Result<Answered, Trouble> {
    match ask_at(endpoint, place, command) {
        Ok(answer) => found(answer, node),
        Err(_) => Ok(Answered::Found(Found::Rejected)),
    }
}

/// The answer to one beat.
#[derive(Debug, Eq, PartialEq)]
enum Answered {
    Found(Found),
    /// The key is at another server, to which its slot is moving.
    Asks(String, u16),
}

fn found(answer: Answer, node: NodeId) -> Result<Answered, Trouble> {
    let found = match answer {
        Ok(Value::Nil) => Found::Gone,
        Ok(Value::BulkString(text)) if text == node.incarnation.to_string().as_bytes() => {
            Found::Mine
        }
        Ok(_) => Found::Foreign,
        Err(error) => match Trouble::of(&error) {
            trouble @ Trouble::NotPrimary(_) => return Err(trouble),
            Trouble::Elsewhere { asking: true, host, port } => {
                return Ok(Answered::Asks(host, port));
            }
            Trouble::Elsewhere { .. } => Found::Moved,
            _ => Found::Rejected,
        },
    };
    Ok(Answered::Found(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_a_beat_tells_whose_lease_it_was() {
        let node = NodeId { number: 1, incarnation: 7 };
        let bulk = |text: &str| Ok(Value::BulkString(text.into()));
        let of = |found| Ok(Answered::Found(found));
        assert_eq!(found(Ok(Value::Nil), node), of(Found::Gone));
        assert_eq!(found(bulk("7"), node), of(Found::Mine));
        assert_eq!(found(bulk("77"), node), of(Found::Foreign));
        assert_eq!(found(Ok(Value::Okay), node), of(Found::Foreign));
        let error =
            |text: &str| redis::parse_redis_value(text.as_bytes()).and_then(Value::extract_error);
        assert_eq!(found(error("-WRONGTYPE no\r\n"), node), of(Found::Rejected));
        assert_eq!(found(error("-MOVED 1 a:1\r\n"), node), of(Found::Moved));
        let asks = Ok(Answered::Asks("a".into(), 1));
        assert_eq!(found(error("-ASK 1 a:1\r\n"), node), asks);
        assert!(matches!(found(error("-READONLY no\r\n"), node), Err(Trouble::NotPrimary(_))));
    }
}
