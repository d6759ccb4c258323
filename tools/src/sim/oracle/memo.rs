//! Frames that the server has sent, read once however many receive them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use super::super::decode::{Heard, Told, log_of};
use super::super::rng::Digest;

/// Messages remembered before the older half is forgotten.
const MEMO_MAX: usize = 60_000;

/// Events of each session of which it is known when they were told.
const LOG_MAX: usize = 256;

/// Keys are digests already.
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

type Frames = HashMap<u64, Rc<Told>, BuildHasherDefault<AsIs>>;

/// Frames by their digests.
#[derive(Default)]
pub struct Memo {
    young: Frames,
    old: Frames,
    /// Ticks so far.
    ticks: u64,
    /// Bytes that all sessions have told so far.
    pub told_bytes: u64,
    /// The newest events of each session's log, by the first part of their offsets: numbers and
    /// times.
    pub logs: BTreeMap<String, VecDeque<(u64, u64)>>,
}

impl Memo {
    /// What a frame says, if the server has said it.
    pub fn heard(&self, frame: &[u8]) -> Option<Rc<Told>> {
        self.heard_as(Digest::of(frame))
    }

    /// The same by the digest of the frame.
    pub fn heard_as(&self, key: u64) -> Option<Rc<Told>> {
        self.young.get(&key).or_else(|| self.old.get(&key)).cloned()
    }

    /// The number of the next tick.
    pub fn next_tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    /// Keeps a frame that was read for the first time.
    pub fn keep(
        &mut self,
        now: u64,
        frame: &[u8],
        what: Heard,
        offset: Option<(String, u64)>,
    ) -> Rc<Told> {
        if self.young.len() >= MEMO_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.told_bytes += frame.len() as u64;
        let told = Rc::new(Told { what, offset, at: now, bytes: self.told_bytes });
        if let Some((offset, number)) = told.offset.as_ref().filter(|_| !told.is_snapshot()) {
            let log = self.logs.entry(log_of(offset).to_owned()).or_default();
            log.push_back((*number, now));
            if log.len() > LOG_MAX {
                log.pop_front();
            }
        }
        self.young.insert(Digest::of(frame), Rc::clone(&told));
        told
    }
}
