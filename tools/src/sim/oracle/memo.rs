//! The frames that the server has sent. Each is decoded once for all its receivers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use super::super::decode::{Decoded, ServerMessage, log_of};
use super::super::frames;
use super::super::rng::Digest;

/// Number of messages at which the older half is dropped.
const MEMO_MAX: usize = 60_000;

/// Number of events of each session whose times are known.
const LOG_MAX: usize = 256;

/// A hasher that returns its key, because keys are digests.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

type Frames = HashMap<u64, Rc<Decoded>, BuildHasherDefault<AsIs>>;

/// Frames by their digests.
#[derive(Default)]
pub struct Memo {
    young: Frames,
    old: Frames,
    /// Number of ticks so far.
    ticks: u64,
    /// Number of bytes that all sessions have sent so far.
    pub sent_bytes: u64,
    /// The numbers and times of the newest events of each session's log, by the first part of their
    /// offsets.
    pub logs: BTreeMap<String, VecDeque<(u64, u64)>>,
}

impl Memo {
    /// Returns the message in a frame, if the server has sent the frame.
    pub fn decoded(&self, frame: &[u8]) -> Option<Rc<Decoded>> {
        self.with_digest(Digest::of(frame))
    }

    /// Returns the message in a frame that was stamped as it was sent, with the time on the stamp in
    /// milliseconds. `None` if the server has not sent the frame, apart from the stamp.
    pub fn stamped(&self, frame: &[u8]) -> Option<(Rc<Decoded>, f64)> {
        let digits = frame.get(frames::stamp_in(frame)?)?;
        let stamp = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Some((self.with_digest(Digest::of(&unstamped(frame)?))?, stamp))
    }

    /// Returns the message in a frame with this digest, if the server has sent it.
    pub fn with_digest(&self, key: u64) -> Option<Rc<Decoded>> {
        self.young.get(&key).or_else(|| self.old.get(&key)).cloned()
    }

    /// Counts a tick, and returns its number.
    pub fn next_tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    /// Keeps a frame that was decoded for the first time.
    pub fn keep(
        &mut self,
        now: u64,
        frame: &[u8],
        what: ServerMessage,
        offset: Option<(String, u64)>,
    ) -> Rc<Decoded> {
        if self.young.len() >= MEMO_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.sent_bytes += frame.len() as u64;
        let decoded = Rc::new(Decoded { what, offset, at: now, bytes: self.sent_bytes });
        if let Some((offset, number)) = decoded.offset.as_ref().filter(|_| !decoded.is_snapshot()) {
            let log = self.logs.entry(log_of(offset).to_owned()).or_default();
            log.push_back((*number, now));
            if log.len() > LOG_MAX {
                log.pop_front();
            }
        }
        self.young.insert(Digest::of(frame), Rc::clone(&decoded));
        if let Some(unstamped) = unstamped(frame) {
            self.young.insert(Digest::of(&unstamped), Rc::clone(&decoded));
        }
        decoded
    }
}

/// Returns a frame without the digits of its time of sending, or `None` if it has no such time.
fn unstamped(frame: &[u8]) -> Option<Vec<u8>> {
    let digits = frames::stamp_in(frame)?;
    let mut frame = frame.to_vec();
    frame[digits].fill(b'0');
    Some(frame)
}
