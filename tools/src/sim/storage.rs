//! The storage of the world: what it was told to keep of each session, and answers that come late,
//! or say no.

use std::collections::BTreeMap;

use bandsync_engine::io::{LoadResult, StorageEvent, StoreResult};
use bandsync_engine::record::Record;
use bandsync_engine::words::ids::SessionId;

use super::model::Model;
use super::plan;
use super::rng::SimRng;

/// How long an answer takes that nobody expects any more.
const TOO_LATE: u64 = 15_000_000;

/// What is kept of a session.
#[derive(Clone)]
pub struct Kept {
    pub epoch: u64,
    pub version: u64,
    bytes: Vec<u8>,
    /// The session as the oracle had it when these bytes were printed. Not at the end, when nobody
    /// asks any more.
    model: Option<Model>,
    /// Whether it came when its server was gone.
    pub is_late: bool,
}

/// Something that a shard is told at its time; with what the oracle had when it is a record.
pub struct Answer {
    pub at: u64,
    pub news: StorageEvent,
    pub model: Option<Model>,
}

/// A record that a shard wants kept.
#[derive(Clone)]
pub struct Order {
    pub session: SessionId,
    pub epoch: u64,
    pub version: u64,
    pub bytes: Vec<u8>,
    /// `None` if the oracle is just then not sure.
    pub model: Option<Model>,
    /// Whether the server is about to end.
    pub last: bool,
}

pub struct Storage {
    pub habits: plan::Storage,
    records: BTreeMap<SessionId, Kept>,
    /// Records that wait until it is back, and who waits for the answer.
    waiting: Vec<(u16, Order)>,
    /// Records that a server wrote before it died, which arrive when they like.
    late: Vec<(u64, Order)>,
    /// A record that was written lately, and may be on its way a second time.
    recent: Option<Order>,
    /// Whether it ever lost what it had.
    lost: bool,
    pub away_until: Option<u64>,
    luck: SimRng,
    /// Records of dead servers that arrived, and those of them that were refused because there was
    /// a newer one.
    pub overdue: u64,
    pub refused: u64,
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
            refused: 0,
        }
    }

    /// What is kept of a session.
    pub fn kept(&self, session: &SessionId) -> Option<&Kept> {
        self.records.get(session)
    }

    /// The server is gone, and with it most of what waited. Some of it is on its way already.
    pub fn forget_orders(&mut self, now: u64) {
        let waiting = std::mem::take(&mut self.waiting).into_iter().map(|(_, order)| order);
        let orders: Vec<Order> = waiting.chain(self.recent.take()).collect();
        orders.into_iter().for_each(|order| self.delay(now, order));
    }

    /// A record of a server that is gone may arrive later.
    fn delay(&mut self, now: u64, order: Order) {
        if self.luck.one_in(2) {
            let at = now + self.luck.magnitude(100, 10_000_000);
            self.late.push((at, order));
        }
    }

    /// What dead servers wrote arrives.
    fn settle(&mut self, now: u64) {
        while let Some(place) = self.late.iter().position(|(at, _)| *at <= now) {
            let (_, order) = self.late.remove(place);
            if self.away_until.is_none() {
                let was = self.records.get(&order.session).map(|kept| kept.epoch);
                self.overdue += 1;
                self.refused += u64::from(was > Some(order.epoch));
                self.keep(now, order, true);
            }
        }
    }

    /// Whether what is offered from now on is kept, and stays.
    pub fn is_faithful(&self) -> bool {
        self.away_until.is_none() && self.habits.refuse == 0
    }

    /// Whether it never lost anything, so far.
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
        let news = StorageEvent::Loaded { session: session.clone(), found };
        self.answer(now, news, model)
    }

    /// The answer, or `None` if it comes when the storage is back.
    pub fn store(&mut self, now: u64, shard: u16, order: Order) -> Option<Answer> {
        self.settle(now);
        if self.away_until.is_some() && order.model.is_some() && self.luck.one_in(2) {
            self.waiting.push((shard, order));
            return None;
        }
        let refuses = self.away_until.is_some() || self.one_in(self.habits.refuse);
        if self.luck.one_in(6) {
            self.recent = Some(order.clone());
        }
        Some(if refuses { self.refuse(now, order) } else { self.keep(now, order, false) })
    }

    pub fn forget(&mut self, session: &SessionId, epoch: u64) {
        if self.away_until.is_none()
            && self.records.get(session).is_some_and(|kept| kept.epoch <= epoch)
        {
            self.records.remove(session);
        }
    }

    /// It is back, perhaps without what it had. What waited is kept now.
    pub fn come_back(&mut self, now: u64) -> Vec<(u16, Answer)> {
        self.away_until = None;
        if self.luck.one_in(3) {
            self.records.clear();
            self.lost = true;
        }
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().map(|(shard, order)| (shard, self.keep(now, order, false))).collect()
    }

    /// From now on it is as fast and faithful as one can wish.
    pub fn calm_down(&mut self) {
        self.habits =
            plan::Storage { wait: self.habits.wait, delay: 100, late: 0, refuse: 0, damage: 0 };
    }

    fn refuse(&mut self, now: u64, order: Order) -> Answer {
        let Order { session, epoch, version, .. } = order;
        self.answer(
            now,
            StorageEvent::Stored { session, epoch, version, outcome: StoreResult::Refused },
            None,
        )
    }

    fn keep(&mut self, now: u64, order: Order, is_late: bool) -> Answer {
        if order.model.is_none() && !order.last {
            return self.refuse(now, order);
        }
        let Order { session, epoch, version, bytes, model, .. } = order;
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

    fn answer(&mut self, now: u64, news: StorageEvent, model: Option<Model>) -> Answer {
        let late = if self.one_in(self.habits.late) { TOO_LATE } else { 0 };
        Answer { at: now + 1 + self.luck.below(self.habits.delay) + late, news, model }
    }

    fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.luck.one_in(n)
    }
}

/// The record in what was found, if it is one.
pub fn record_in(found: &LoadResult) -> Option<Record> {
    match found {
        LoadResult::Record(bytes) => Record::parse(bytes).ok(),
        LoadResult::Nothing | LoadResult::Unknown => None,
    }
}
