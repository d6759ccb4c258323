//! The storage of the world: what it was told to keep of each session, and answers that come late, or say no.

use std::collections::BTreeMap;

use bandsync_engine::io::{Found, Outcome, StorageNews};
use bandsync_engine::record::Record;
use bandsync_engine::words::ids::SessionId;

use super::chance::Chance;
use super::model::Model;
use super::plan;

/// How long an answer takes that nobody expects any more.
const TOO_LATE: u64 = 15_000_000;

/// What is kept of a session.
#[derive(Clone)]
pub struct Kept {
    pub epoch: u64,
    pub version: u64,
    bytes: Vec<u8>,
    /// The session as the oracle had it when these bytes were printed.
    model: Model,
}

/// Something that a shard is told at its time; with what the oracle had when it is a record.
pub struct Answer {
    pub at: u64,
    pub news: StorageNews,
    pub model: Option<Model>,
}

/// A record that a shard wants kept.
pub struct Order {
    pub session: SessionId,
    pub epoch: u64,
    pub version: u64,
    pub bytes: Vec<u8>,
    /// `None` if the oracle is just then not sure.
    pub model: Option<Model>,
}

pub struct Storage {
    pub habits: plan::Storage,
    records: BTreeMap<SessionId, Kept>,
    /// Records that wait until it is back, and who waits for the answer.
    waiting: Vec<(u16, Order)>,
    pub away_until: Option<u64>,
    luck: Chance,
}

impl Storage {
    pub fn new(habits: plan::Storage, seed: u64) -> Self {
        Self {
            habits,
            records: BTreeMap::new(),
            waiting: Vec::new(),
            away_until: None,
            luck: Chance::new(seed, 3_000),
        }
    }

    /// What is kept of a session.
    pub fn kept(&self, session: &SessionId) -> Option<&Kept> {
        self.records.get(session)
    }

    /// The server is gone, and with it what waited.
    pub fn forget_orders(&mut self) {
        self.waiting.clear();
    }

    pub fn load(&mut self, now: u64, session: &SessionId) -> Answer {
        let (mut found, mut model) = (Found::Nothing, None);
        if self.away_until.is_some() {
            found = Found::Unknown;
        } else if let Some(kept) = self.records.get(session).cloned() {
            let mut bytes = kept.bytes;
            if self.one_in(self.habits.damage) {
                let bit = self.luck.below(8 * bytes.len() as u64) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
            } else {
                model = Some(kept.model);
            }
            found = Found::Record(bytes.into());
        }
        let news = StorageNews::Loaded { session: session.clone(), found };
        self.answer(now, news, model)
    }

    /// The answer, or `None` if it comes when the storage is back.
    pub fn store(&mut self, now: u64, shard: u16, order: Order) -> Option<Answer> {
        if self.away_until.is_some() && order.model.is_some() && self.luck.one_in(2) {
            self.waiting.push((shard, order));
            return None;
        }
        let refuses = self.away_until.is_some() || self.one_in(self.habits.refuse);
        Some(if refuses { self.refuse(now, order) } else { self.keep(now, order) })
    }

    pub fn forget(&mut self, session: &SessionId, epoch: u64) {
        if self.away_until.is_none() && self.records.get(session).is_some_and(|kept| kept.epoch <= epoch) {
            self.records.remove(session);
        }
    }

    /// It is back, perhaps without what it had. What waited is kept now.
    pub fn come_back(&mut self, now: u64) -> Vec<(u16, Answer)> {
        self.away_until = None;
        if self.luck.one_in(3) {
            self.records.clear();
        }
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().map(|(shard, order)| (shard, self.keep(now, order))).collect()
    }

    /// From now on it is as fast and faithful as one can wish.
    pub fn calm_down(&mut self) {
        self.habits = plan::Storage { wait: self.habits.wait, delay: 100, late: 0, refuse: 0, damage: 0 };
    }

    fn refuse(&mut self, now: u64, order: Order) -> Answer {
        let Order { session, epoch, version, .. } = order;
        self.answer(now, StorageNews::Stored { session, epoch, version, outcome: Outcome::Refused }, None)
    }

    fn keep(&mut self, now: u64, order: Order) -> Answer {
        let Some(model) = order.model else { return self.refuse(now, order) };
        let Order { session, epoch, version, bytes, .. } = order;
        let newer = self.records.get(&session).filter(|kept| (kept.epoch, kept.version) > (epoch, version));
        let outcome = match newer {
            Some(kept) => Outcome::Outdated { epoch: kept.epoch },
            None => {
                self.records.insert(session.clone(), Kept { epoch, version, bytes, model });
                Outcome::Kept
            }
        };
        self.answer(now, StorageNews::Stored { session, epoch, version, outcome }, None)
    }

    fn answer(&mut self, now: u64, news: StorageNews, model: Option<Model>) -> Answer {
        let late = if self.one_in(self.habits.late) { TOO_LATE } else { 0 };
        Answer { at: now + 1 + self.luck.below(self.habits.delay) + late, news, model }
    }

    fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.luck.one_in(n)
    }
}

/// The record in what was found, if it is one.
pub fn record_in(found: &Found) -> Option<Record> {
    match found {
        Found::Record(bytes) => Record::parse(bytes).ok(),
        Found::Nothing | Found::Unknown => None,
    }
}
