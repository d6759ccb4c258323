//! The storage of the world: the record of each session, and answers that are late or rejections.

use std::collections::BTreeMap;

use bandsync_engine::io::{LoadResult, StorageEvent, StoreResult};
use bandsync_engine::record::Record;
use bandsync_engine::words::ids::SessionId;

use super::model::Model;
use super::plan;
use super::rng::SimRng;

/// Delay of an answer that comes after every time limit, in microseconds.
const TOO_LATE: u64 = 15_000_000;

/// The stored state of a session.
#[derive(Clone)]
pub struct Kept {
    pub epoch: u64,
    pub version: u64,
    bytes: Vec<u8>,
    /// The oracle's model when the record was printed. None at the end, when it is no longer
    /// compared.
    model: Option<Model>,
    /// Whether the record arrived after its server had died.
    pub is_late: bool,
}

/// An event for a shard with its time, and the oracle's model if it holds a record.
pub struct Answer {
    pub at: u64,
    pub event: StorageEvent,
    pub model: Option<Model>,
}

/// A record that a shard wants to store.
#[derive(Clone)]
pub struct StoreOrder {
    pub session: SessionId,
    pub epoch: u64,
    pub version: u64,
    pub bytes: Vec<u8>,
    /// The oracle's model. `None` if the oracle is not certain of the state at that moment.
    pub model: Option<Model>,
    /// Whether the server is draining.
    pub last: bool,
}

pub struct Storage {
    pub habits: plan::Storage,
    records: BTreeMap<SessionId, Kept>,
    /// Records that wait until the storage is available, with the shards that wait for the answers.
    waiting: Vec<(u16, StoreOrder)>,
    /// Records of servers that died, which arrive later.
    late: Vec<(u64, StoreOrder)>,
    /// A record that was written recently, and may arrive a second time.
    recent: Option<StoreOrder>,
    /// Whether the storage ever lost its records.
    lost: bool,
    pub away_until: Option<u64>,
    luck: SimRng,
    /// Number of records of dead servers that arrived.
    pub overdue: u64,
    /// Number of these that were rejected because there was a newer one.
    pub rejected: u64,
}

impl Storage {
    pub fn new(habits: plan::Storage, seed: u64) -> Self {
        Self {
            habits,
            records: BTreeMap::new(),
            waiting: Vec::new(),
            late: Vec::new(),
            recent: None,
            lost: false,
            away_until: None,
            luck: SimRng::new(seed, 3_000),
            overdue: 0,
            rejected: 0,
        }
    }

    /// Returns the stored state of a session.
    pub fn kept(&self, session: &SessionId) -> Option<&Kept> {
        self.records.get(session)
    }

    /// Drops most of the waiting records, because the server died. Some are already on their way.
    pub fn forget_orders(&mut self, now: u64) {
        let waiting = std::mem::take(&mut self.waiting).into_iter().map(|(_, order)| order);
        let orders: Vec<StoreOrder> = waiting.chain(self.recent.take()).collect();
        orders.into_iter().for_each(|order| self.delay(now, order));
    }

    /// Lets the record of a server that died arrive later.
    fn delay(&mut self, now: u64, order: StoreOrder) {
        if self.luck.one_in(2) {
            let at = now + self.luck.magnitude(100, 10_000_000);
            self.late.push((at, order));
        }
    }

    /// Stores the records of dead servers that have arrived.
    fn settle(&mut self, now: u64) {
        while let Some(index) = self.late.iter().position(|(at, _)| *at <= now) {
            let (_, order) = self.late.remove(index);
            if self.away_until.is_none() {
                let was = self.records.get(&order.session).map(|kept| kept.epoch);
                self.overdue += 1;
                self.rejected += u64::from(was > Some(order.epoch));
                self.keep(now, order, true);
            }
        }
    }

    /// Whether every record that is offered from now on is kept.
    pub fn is_faithful(&self) -> bool {
        self.away_until.is_none() && self.habits.refuse == 0
    }

    /// Whether the storage has lost no record so far.
    pub fn is_honest(&self) -> bool {
        !self.lost && self.habits.damage == 0
    }

    pub fn load(&mut self, now: u64, session: &SessionId) -> Answer {
        self.settle(now);
        let (mut found, mut model) = (LoadResult::Nothing, None);
        if self.away_until.is_some() {
            found = LoadResult::Unknown;
        } else if let Some(kept) = self.records.get(session).cloned() {
            let mut bytes = kept.bytes;
            if self.one_in(self.habits.damage) {
                let bit = self.luck.below(8 * bytes.len() as u64) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
            } else {
                model = kept.model;
            }
            found = LoadResult::Record(bytes.into());
        }
        let event = StorageEvent::Loaded { session: session.clone(), found };
        self.answer(now, event, model)
    }

    /// Stores a record. Returns the answer, or `None` if it comes when the storage is available.
    pub fn store(&mut self, now: u64, shard: u16, order: StoreOrder) -> Option<Answer> {
        self.settle(now);
        if self.away_until.is_some() && order.model.is_some() && self.luck.one_in(2) {
            self.waiting.push((shard, order));
            return None;
        }
        let rejects = self.away_until.is_some() || self.one_in(self.habits.refuse);
        if self.luck.one_in(6) {
            self.recent = Some(order.clone());
        }
        Some(if rejects { self.reject(now, order) } else { self.keep(now, order, false) })
    }

    pub fn forget(&mut self, session: &SessionId, epoch: u64) {
        if self.away_until.is_none()
            && self.records.get(session).is_some_and(|kept| kept.epoch <= epoch)
        {
            self.records.remove(session);
        }
    }

    /// Makes the storage available again, perhaps without its records, and stores the waiting ones.
    pub fn come_back(&mut self, now: u64) -> Vec<(u16, Answer)> {
        self.away_until = None;
        if self.luck.one_in(3) {
            self.records.clear();
            self.lost = true;
        }
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().map(|(shard, order)| (shard, self.keep(now, order, false))).collect()
    }

    /// Ends all faults of the storage.
    pub fn calm_down(&mut self) {
        self.habits =
            plan::Storage { wait: self.habits.wait, delay: 100, late: 0, refuse: 0, damage: 0 };
    }

    fn reject(&mut self, now: u64, order: StoreOrder) -> Answer {
        let StoreOrder { session, epoch, version, .. } = order;
        self.answer(
            now,
            StorageEvent::Stored { session, epoch, version, outcome: StoreResult::Rejected },
            None,
        )
    }

    fn keep(&mut self, now: u64, order: StoreOrder, is_late: bool) -> Answer {
        if order.model.is_none() && !order.last {
            return self.reject(now, order);
        }
        let StoreOrder { session, epoch, version, bytes, model, .. } = order;
        let newer =
            self.records.get(&session).filter(|kept| (kept.epoch, kept.version) > (epoch, version));
        let outcome = match newer {
            Some(kept) => StoreResult::Outdated { epoch: kept.epoch },
            None => {
                self.records
                    .insert(session.clone(), Kept { epoch, version, bytes, model, is_late });
                StoreResult::Stored
            }
        };
        self.answer(now, StorageEvent::Stored { session, epoch, version, outcome }, None)
    }

    fn answer(&mut self, now: u64, event: StorageEvent, model: Option<Model>) -> Answer {
        let late = if self.one_in(self.habits.late) { TOO_LATE } else { 0 };
        Answer { at: now + 1 + self.luck.below(self.habits.delay) + late, event, model }
    }

    fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.luck.one_in(n)
    }
}

/// Parses the record in a load result, if there is a valid one.
pub fn record_in(found: &LoadResult) -> Option<Record> {
    match found {
        LoadResult::Record(bytes) => Record::parse(bytes).ok(),
        LoadResult::Nothing | LoadResult::Unknown => None,
    }
}
