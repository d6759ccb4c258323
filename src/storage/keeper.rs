//! The storage's thread: takes orders out of the queue, keeps the newest for each session, and carries them out.
//!
//! When the backend fails, the newest orders stay, and it is tried again after a pause that grows from 100 ms to
//! 5 s. When it is back the shards are told, who offer everything again that is not on its way: the backend may
//! have lost what it had.
//!
//! What it decides depends on orders, answers of the backend, its clock and its dice alone, so that tests can have
//! any of them in any order.

mod pending;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bandsync_engine::io::{Found, Outcome, StorageNews};
use bandsync_engine::record::{Damage, Record};
use bandsync_engine::words::ids::{SessionId, ShardId};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use log::{debug, error, info, warn};

use self::pending::Pending;
use super::backoff::{Backoff, chance};
use super::history::KEPT_MS;
use super::status::count;
use super::{Applied, Backend, Change, Failure, Foreign, History, Order, Plan, Shards, Status};

/// How long the backend must have worked for the next failure to count as the first.
const STEADY: Duration = Duration::from_secs(10);

/// Orders taken out of the queue before something is done about them.
const TAKE_MAX: usize = 8_192;

/// Sessions refreshed at once.
const REFRESH_MAX: usize = 512;

/// How long the thread sleeps if nothing happens.
const SLEEP: Duration = Duration::from_secs(1);

/// How long it waits to try a full mailbox again.
const TELL_AGAIN: Duration = Duration::from_millis(1);

/// How often a backend is looked at that nothing is wanted of.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// How often what has outlived its time is looked for.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(60);

/// Points that wait for the backend: the newest hour is enough.
const POINTS_MAX: usize = 360;

/// Sessions that are remembered as begun without their records.
const UNSEEN_MAX: usize = 65_536;

/// How long after its last write a session counts as in use here.
const IN_USE: Duration = Duration::from_secs(60);

/// Sessions that are remembered as told to be in use twice.
const WARNED_MAX: usize = 1_024;

/// The state of the thread.
pub struct Keeper {
    backend: Box<dyn Backend>,
    clock: Box<dyn Fn() -> Instant + Send>,
    dice: Box<dyn FnMut() -> u64 + Send>,
    status: Arc<Status>,
    history: Arc<History>,
    ttl: Duration,
    wait: Duration,
    pending: Pending,
    loads: VecDeque<(ShardId, SessionId, Instant)>,
    /// Sessions that were begun without knowing what is stored of them: that is set aside before it is replaced.
    unseen: BTreeSet<SessionId>,
    /// Sessions that are in memory and stored.
    alive: BTreeMap<SessionId, Alive>,
    /// The same by the time to refresh them.
    refreshes: BTreeSet<(Instant, SessionId)>,
    /// Sessions of which it was told that another server keeps them too.
    warned: BTreeSet<SessionId>,
    points: VecDeque<(i64, Vec<super::Point>)>,
    /// Whether stored points were read back.
    restored: bool,
    /// What waits for room in a shard's mailbox.
    unsent: VecDeque<(ShardId, StorageNews)>,
    /// When to try the backend again, if it failed.
    retry: Option<Instant>,
    backoff: Backoff,
    since: Instant,
    check_at: Instant,
    expire_at: Instant,
    ending: bool,
}

#[derive(Clone, Copy)]
struct Alive {
    written: Instant,
    refresh: Instant,
}

impl Keeper {
    pub(super) fn new(
        backend: Box<dyn Backend>,
        plan: &Plan,
        status: Arc<Status>,
        history: Arc<History>,
    ) -> Self {
        Self::with(backend, plan, status, history, Box::new(Instant::now), Box::new(chance))
    }

    fn with(
        backend: Box<dyn Backend>,
        plan: &Plan,
        status: Arc<Status>,
        history: Arc<History>,
        clock: Box<dyn Fn() -> Instant + Send>,
        dice: Box<dyn FnMut() -> u64 + Send>,
    ) -> Self {
        let now = clock();
        Self {
            backend,
            clock,
            dice,
            status,
            history,
            ttl: plan.ttl,
            wait: plan.wait,
            pending: Pending::default(),
            loads: VecDeque::new(),
            unseen: BTreeSet::new(),
            alive: BTreeMap::new(),
            refreshes: BTreeSet::new(),
            warned: BTreeSet::new(),
            points: VecDeque::new(),
            restored: false,
            unsent: VecDeque::new(),
            retry: None,
            backoff: Backoff::default(),
            since: now,
            check_at: now + CHECK_INTERVAL,
            expire_at: now + EXPIRE_INTERVAL,
            ending: false,
        }
    }

    /// Tries to open the backend.
    pub(super) fn open(&mut self) -> Result<(), Failure> {
        let opened = self.attempt(|backend| backend.connect());
        if let Err(failure) = &opened {
            self.failed(failure);
        }
        opened
    }

    /// Has the backend tell of other servers by `heard`, if it can.
    pub(super) fn listen(&mut self, heard: impl Fn(Foreign) + Send + 'static) -> std::io::Result<()> {
        self.backend.listen(Box::new(heard))
    }

    /// Works until the queue says that nothing comes any more.
    pub(super) fn run(mut self, orders: &Receiver<Order>, shards: &dyn Shards) {
        loop {
            self.take(orders);
            self.turn(shards);
            if self.ending && (self.pending.is_empty() || self.retry.is_some()) {
                break;
            }
        }
        match self.pending.len() {
            0 => debug!("storage: everything is stored"),
            left => error!("storage: {left} sessions could not be stored in their newest state"),
        }
    }

    /// Does something about what was taken in.
    fn turn(&mut self, shards: &dyn Shards) {
        if self.retry.is_some_and(|at| at <= (self.clock)() || self.ending) {
            self.reopen(shards);
        }
        if self.retry.is_none()
            && let Err(failure) = self.work(shards)
        {
            self.failed(&failure);
        }
        if self.retry.is_some() {
            self.tell_unknown();
        }
        self.deliver(shards);
        self.status.pending.store(self.pending.len() as u64, Ordering::Relaxed);
    }

    /// Takes orders in; sleeps before if there is nothing to do.
    fn take(&mut self, orders: &Receiver<Order>) {
        let first = match self.idle() {
            Some(idle) => orders.recv_timeout(idle),
            None => orders.try_recv().map_err(|_| RecvTimeoutError::Timeout),
        };
        match first {
            Ok(order) => self.accept(order),
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => self.ending = true,
        }
        for order in orders.try_iter().take(TAKE_MAX) {
            self.accept(order);
        }
    }

    /// How long there is nothing to do, unless an order comes.
    fn idle(&self) -> Option<Duration> {
        let until = match self.retry {
            Some(retry) => retry.saturating_duration_since((self.clock)()),
            None if !self.pending.is_empty() || !self.loads.is_empty() || !self.points.is_empty() => {
                return None;
            }
            None => SLEEP,
        };
        let until = if self.unsent.is_empty() { until } else { until.min(TELL_AGAIN) };
        (!until.is_zero() && !self.ending).then_some(until)
    }

    fn accept(&mut self, order: Order) {
        match order {
            Order::Load { shard, session, since } => {
                count(&self.status.loads, 1);
                self.loads.push_back((shard, session, since));
            }
            Order::Change { shard, session, change } => self.change(shard, session, change),
            Order::Points { at, points } => {
                self.points.push_back((at, points));
                while self.points.len() > POINTS_MAX {
                    self.points.pop_front();
                }
            }
            Order::Foreign(foreign) => self.heard(&foreign),
            Order::End => self.ending = true,
        }
    }

    /// Puts a change in the place of the one that waits for the same session.
    fn change(&mut self, shard: ShardId, session: SessionId, change: Change) {
        if let Change::Delete { .. } = change {
            self.let_go(&session);
        }
        if let Some((shard, Change::Put { epoch, version, .. })) =
            self.pending.put(session.clone(), shard, change)
        {
            count(&self.status.coalesced, 1);
            let outcome = Outcome::Refused;
            self.unsent.push_back((shard, StorageNews::Stored { session, epoch, version, outcome }));
        }
    }

    /// Another server stored a session. If it is in use here as well, somebody should know.
    fn heard(&mut self, foreign: &Foreign) {
        let now = (self.clock)();
        let in_use = |alive: &Alive| now.saturating_duration_since(alive.written) < IN_USE;
        if !self.alive.get(&foreign.session).is_some_and(in_use) {
            return;
        }
        count(&self.status.conflicts, 1);
        if self.warned.len() >= WARNED_MAX {
            self.warned.clear();
        }
        if self.warned.insert(foreign.session.clone()) {
            warn!(
                "session {:?} is in use at another server too, in epoch {} and version {}: they overwrite each \
                 other; see that all its members reach the same server",
                foreign.session, foreign.epoch, foreign.version
            );
        }
    }

    /// Does some of everything that is to be done.
    fn work(&mut self, shards: &dyn Shards) -> Result<(), Failure> {
        self.answer_loads()?;
        self.carry_out()?;
        self.refresh(shards)?;
        self.check(shards)?;
        self.keep_points()?;
        let now = (self.clock)();
        if self.expire_at <= now {
            self.expire_at = now + EXPIRE_INTERVAL;
            self.attempt(|backend| backend.expire())?;
        }
        Ok(())
    }

    fn answer_loads(&mut self) -> Result<(), Failure> {
        while let Some((shard, session, since)) = self.loads.front().cloned() {
            let found = self.find(&session)?;
            self.loads.pop_front();
            let waited = (self.clock)().saturating_duration_since(since);
            if waited > self.wait {
                info!(
                    session = session.as_str();
                    "session {session:?} began anew: the storage took {} ms, and {} ms is the longest wait",
                    waited.as_millis(),
                    self.wait.as_millis()
                );
            }
            // The shard may have given up before the answer reaches it.
            if waited > self.wait / 2 && matches!(found, Found::Record(_)) {
                self.not_seen(session.clone());
            }
            self.unsent.push_back((shard, StorageNews::Loaded { session, found }));
        }
        Ok(())
    }

    /// What there is of a session. A record that cannot be read is set aside.
    fn find(&mut self, session: &SessionId) -> Result<Found, Failure> {
        if let Some(found) = self.pending.find(session) {
            return Ok(found);
        }
        let Some(bytes) = self.attempt(|backend| backend.load(session))? else { return Ok(Found::Nothing) };
        let damage = match Record::parse(&bytes) {
            Ok(record) if record.session == *session => return Ok(Found::Record(bytes)),
            Ok(_) => "it is that of another session".to_owned(),
            Err(Damage::Newer(format)) => format!("a later version made it, in format {format}"),
            Err(Damage::Checksum) => "its checksum is wrong".to_owned(),
            Err(Damage::Malformed) => "it contradicts itself".to_owned(),
        };
        error!(session = session.as_str(); "session {session:?} begins anew: its record was set aside, because {damage}");
        count(&self.status.set_aside, 1);
        self.attempt(|backend| backend.copy_aside(session))?;
        let gone = Change::Delete { epoch: u64::MAX };
        self.apply(&[(session.clone(), gone)])?.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(Found::Unknown)
    }

    fn not_seen(&mut self, session: SessionId) {
        if self.unseen.len() < UNSEEN_MAX {
            self.unseen.insert(session);
        }
    }

    /// Carries out the changes that have waited longest. Those that fail wait again.
    fn carry_out(&mut self) -> Result<(), Failure> {
        let batch = self.pending.batch();
        if batch.is_empty() {
            return Ok(());
        }
        for (session, _) in &batch {
            if self.unseen.contains(session) {
                self.attempt(|backend| backend.copy_aside(session))?;
                self.unseen.remove(session);
            }
        }
        let results = self.apply(&batch)?;
        let mut failed = Ok(());
        for ((session, change), result) in batch.into_iter().zip(results) {
            match result {
                Ok(applied) => self.carried_out(session, &change, applied),
                Err(failure) => {
                    self.pending.postpone(&session);
                    failed = Err(failure);
                }
            }
        }
        failed
    }

    /// Tells the shard what came of a change.
    fn carried_out(&mut self, session: SessionId, change: &Change, applied: Applied) {
        let Some((shard, _)) = self.pending.remove(&session) else { return };
        let Change::Put { epoch, version, .. } = *change else { return };
        let outcome = match applied {
            Applied::Done => Outcome::Kept,
            Applied::Outdated { epoch: other } => {
                warn!(
                    session = session.as_str();
                    "session {session:?} is stored with epoch {other}, which is newer than {epoch} here: another \
                     server keeps it, or the wall clock was set back"
                );
                Outcome::Outdated { epoch: other }
            }
        };
        count(&self.status.written, usize::from(applied == Applied::Done));
        let now = (self.clock)();
        self.let_go(&session);
        self.keep(session.clone(), Alive { written: now, refresh: now + self.ttl / 3 });
        self.unsent.push_back((shard, StorageNews::Stored { session, epoch, version, outcome }));
    }

    fn keep(&mut self, session: SessionId, alive: Alive) {
        self.refreshes.insert((alive.refresh, session.clone()));
        self.alive.insert(session, alive);
    }

    /// A session need not be refreshed any more.
    fn let_go(&mut self, session: &SessionId) {
        if let Some(alive) = self.alive.remove(session) {
            self.refreshes.remove(&(alive.refresh, session.clone()));
        }
    }

    /// Begins the time to live anew of sessions that are in memory and were not written for long.
    fn refresh(&mut self, shards: &dyn Shards) -> Result<(), Failure> {
        let now = (self.clock)();
        let due = self.refreshes.iter().take_while(|(at, _)| *at <= now).take(REFRESH_MAX);
        let due: Vec<SessionId> = due.map(|(_, session)| session.clone()).collect();
        if due.is_empty() {
            return Ok(());
        }
        let all_there = self.attempt(|backend| backend.refresh(&due))?;
        for session in due {
            if let Some(alive) = self.alive.get(&session).copied() {
                self.let_go(&session);
                self.keep(session, Alive { refresh: now + self.ttl / 3, ..alive });
            }
        }
        if !all_there {
            self.store_again(shards);
        }
        Ok(())
    }

    /// Looks whether the backend is there and still has what it was given.
    fn check(&mut self, shards: &dyn Shards) -> Result<(), Failure> {
        let now = (self.clock)();
        if self.check_at <= now {
            self.check_at = now + CHECK_INTERVAL;
            if !self.attempt(|backend| backend.check())? {
                self.store_again(shards);
            }
        }
        Ok(())
    }

    fn store_again(&mut self, shards: &dyn Shards) {
        warn!("the storage has lost what was in it: everything known is stored again");
        self.tell_returned(shards);
    }

    fn tell_returned(&mut self, shards: &dyn Shards) {
        for shard in 0..shards.count() {
            self.unsent.push_back((ShardId(shard), StorageNews::Returned));
        }
    }

    fn keep_points(&mut self) -> Result<(), Failure> {
        let oldest = unix_millis() - KEPT_MS;
        if !self.restored {
            let points = self.attempt(|backend| backend.points(oldest))?;
            self.history.restore(points);
            self.restored = true;
        }
        while let Some((at, points)) = self.points.front().cloned() {
            self.attempt(|backend| backend.add_points(at, &points, oldest))?;
            self.points.pop_front();
        }
        Ok(())
    }

    fn apply(&mut self, changes: &[(SessionId, Change)]) -> Result<Vec<Result<Applied, Failure>>, Failure> {
        self.attempt(|backend| Ok(backend.apply(changes)))
    }

    /// Uses the backend. A panic in it, as over a file that somebody else wrote to, is a failure like others.
    fn attempt<T>(&mut self, act: impl FnOnce(&mut dyn Backend) -> Result<T, Failure>) -> Result<T, Failure> {
        let backend = self.backend.as_mut();
        catch_unwind(AssertUnwindSafe(|| act(backend)))
            .unwrap_or_else(|_| Err(Failure::Unavailable("the storage met a bug; see the log".into())))
    }

    /// Notes a failure, and when to try again.
    fn failed(&mut self, failure: &Failure) {
        let now = (self.clock)();
        count(&self.status.failures, 1);
        if self.status.degraded(&failure.to_string()) {
            warn!("storage is degraded, sessions are kept in memory meanwhile: {failure}");
            if now.saturating_duration_since(self.since) > STEADY {
                self.backoff.reset();
            }
        } else {
            debug!("storage is still degraded: {failure}");
        }
        self.retry = Some(now + self.backoff.pause((self.dice)()));
    }

    /// Tries the backend again. It is back when it takes what waits, as a full disk may well be opened.
    fn reopen(&mut self, shards: &dyn Shards) {
        self.retry = None;
        let (pending, told) = (self.pending.len(), self.unsent.len());
        let opened = self.attempt(|backend| backend.connect());
        let back = opened.and_then(|()| self.carry_out()).and_then(|()| self.keep_points());
        if let Err(failure) = back {
            self.failed(&failure);
            return;
        }
        // What was just stored is not stored again, so its answers come after the word that all may be lost.
        let answers = self.unsent.split_off(told);
        self.tell_returned(shards);
        self.unsent.extend(answers);
        info!(
            "storage is back; {pending} changed sessions waited here, and everything known is stored again"
        );
        self.status.well();
        self.since = (self.clock)();
        self.check_at = self.since + CHECK_INTERVAL;
    }

    /// While the backend is away nobody waits for it.
    fn tell_unknown(&mut self) {
        for (shard, session, _) in std::mem::take(&mut self.loads) {
            let found = self.pending.find(&session).unwrap_or_else(|| {
                info!(session = session.as_str(); "session {session:?} begins anew: the storage is degraded");
                self.not_seen(session.clone());
                Found::Unknown
            });
            self.unsent.push_back((shard, StorageNews::Loaded { session, found }));
        }
    }

    /// Tells the shards what there is room for. One that is full keeps no other waiting.
    fn deliver(&mut self, shards: &dyn Shards) {
        let mut full = BTreeSet::new();
        for (shard, news) in std::mem::take(&mut self.unsent) {
            let told = if full.contains(&shard) { Err(news) } else { shards.tell(shard, news) };
            if let Err(news) = told {
                full.insert(shard);
                self.unsent.push_back((shard, news));
            }
        }
    }
}

/// What the wall clock says.
fn unix_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
