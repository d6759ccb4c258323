//! The storage's thread: takes orders out of the queue, keeps the newest for each session, and carries them out.
//!
//! When the backend fails, the newest orders stay, and it is tried again after a pause that doubles from 100 ms to
//! 5 s, with jitter. When it is back the shards are told, who offer everything again that is not on its way:
//! the backend may have lost what it had.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bandsync_engine::io::{Found, Outcome, StorageNews};
use bandsync_engine::record::{Damage, Record};
use bandsync_engine::words::ids::{SessionId, ShardId};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use log::{debug, error, info, warn};

use super::history::KEPT_MS;
use super::status::count;
use super::{Applied, Backend, Change, Failure, History, Order, Plan, Shards, Status};

/// The first pause after a failure.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long the backend must have worked for the next failure to count as the first.
const STEADY: Duration = Duration::from_secs(10);

/// Changes carried out at once.
const BATCH_MAX: usize = 512;

/// Bytes carried out at once, the change that goes over included.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Orders taken out of the queue before something is done about them.
const TAKE_MAX: usize = 8_192;

/// Sessions refreshed at once.
const REFRESH_MAX: usize = 512;

/// How long the thread sleeps if nothing happens.
const SLEEP: Duration = Duration::from_secs(1);

/// How long it waits to try a full mailbox again.
const TELL_AGAIN: Duration = Duration::from_millis(1);

/// How often what has outlived its time is looked for.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(60);

/// The state of the thread.
pub struct Keeper {
    backend: Box<dyn Backend>,
    status: Arc<Status>,
    history: Arc<History>,
    ttl: Duration,
    wait: Duration,
    /// The newest change of each session that is still to be carried out, and who is told.
    pending: BTreeMap<SessionId, (ShardId, Change)>,
    /// The same sessions in order of waiting.
    order: VecDeque<SessionId>,
    loads: VecDeque<(ShardId, SessionId, Instant)>,
    /// Sessions that are in memory and stored, with the time to refresh them.
    alive: BTreeMap<SessionId, Instant>,
    /// One entry for each of them, in order of time.
    refreshes: VecDeque<(Instant, SessionId)>,
    points: VecDeque<(i64, Vec<super::Point>)>,
    /// Whether stored points were read back.
    restored: bool,
    /// What waits for room in a shard's mailbox.
    unsent: VecDeque<(ShardId, StorageNews)>,
    /// When to try the backend again, if it failed.
    retry: Option<Instant>,
    pause: Duration,
    since: Instant,
    expire_at: Instant,
    ending: bool,
}

impl Keeper {
    pub(super) fn new(
        backend: Box<dyn Backend>,
        plan: &Plan,
        status: Arc<Status>,
        history: Arc<History>,
    ) -> Self {
        let now = Instant::now();
        Self {
            backend,
            status,
            history,
            ttl: plan.ttl,
            wait: plan.wait,
            pending: BTreeMap::new(),
            order: VecDeque::new(),
            loads: VecDeque::new(),
            alive: BTreeMap::new(),
            refreshes: VecDeque::new(),
            points: VecDeque::new(),
            restored: false,
            unsent: VecDeque::new(),
            retry: None,
            pause: PAUSE_MIN,
            since: now,
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

    /// Works until the queue says that nothing comes any more.
    pub(super) fn run(mut self, orders: &Receiver<Order>, shards: &dyn Shards) {
        loop {
            self.take(orders);
            if self.retry.is_some_and(|at| at <= Instant::now() || self.ending) {
                self.reopen(shards);
            }
            if self.retry.is_none()
                && let Err(failure) = self.work()
            {
                self.failed(&failure);
            }
            if self.retry.is_some() {
                self.tell_unknown();
            }
            self.deliver(shards);
            self.status.pending.store(self.pending.len() as u64, Ordering::Relaxed);
            if self.ending && (self.pending.is_empty() || self.retry.is_some()) {
                break;
            }
        }
        match self.pending.len() {
            0 => debug!("storage: everything is stored"),
            left => error!("storage: {left} sessions could not be stored in their newest state"),
        }
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
        let now = Instant::now();
        let until = match self.retry {
            Some(retry) => retry.saturating_duration_since(now),
            None if !self.order.is_empty() || !self.loads.is_empty() || !self.points.is_empty() => {
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
                // While the backend is away the newest hour is enough.
                while self.points.len() > 360 {
                    self.points.pop_front();
                }
            }
            Order::End => self.ending = true,
        }
    }

    /// Puts a change in the place of the one that waits for the same session.
    fn change(&mut self, shard: ShardId, session: SessionId, change: Change) {
        if let Change::Delete { .. } = change {
            self.alive.remove(&session);
        }
        match self.pending.insert(session.clone(), (shard, change)) {
            None => self.order.push_back(session),
            Some((shard, Change::Put { epoch, version, .. })) => {
                count(&self.status.coalesced, 1);
                let outcome = Outcome::Refused;
                self.unsent.push_back((shard, StorageNews::Stored { session, epoch, version, outcome }));
            }
            Some((_, Change::Delete { .. })) => {}
        }
    }

    /// Does some of everything that is to be done.
    fn work(&mut self) -> Result<(), Failure> {
        self.answer_loads()?;
        self.carry_out()?;
        self.refresh()?;
        self.keep_points()?;
        if self.expire_at <= Instant::now() {
            self.expire_at = Instant::now() + EXPIRE_INTERVAL;
            self.attempt(|backend| backend.expire())?;
        }
        Ok(())
    }

    fn answer_loads(&mut self) -> Result<(), Failure> {
        while let Some((shard, session, since)) = self.loads.front().cloned() {
            let found = self.find(&session)?;
            self.loads.pop_front();
            let waited = since.elapsed();
            if waited > self.wait {
                info!(
                    "session {session:?} began anew: the storage took {} ms, and {} ms is the longest wait",
                    waited.as_millis(),
                    self.wait.as_millis()
                );
            }
            self.unsent.push_back((shard, StorageNews::Loaded { session, found }));
        }
        Ok(())
    }

    /// What there is of a session. A record that cannot be read is set aside.
    fn find(&mut self, session: &SessionId) -> Result<Found, Failure> {
        match self.pending.get(session) {
            Some((_, Change::Put { record, .. })) => return Ok(Found::Record(record.clone())),
            Some((_, Change::Delete { .. })) => return Ok(Found::Nothing),
            None => {}
        }
        let Some(bytes) = self.attempt(|backend| backend.load(session))? else { return Ok(Found::Nothing) };
        let damage = match Record::parse(&bytes) {
            Ok(record) if record.session == *session => return Ok(Found::Record(bytes)),
            Ok(_) => "it is that of another session".to_owned(),
            Err(Damage::Newer(format)) => format!("a later version made it, in format {format}"),
            Err(Damage::Checksum) => "its checksum is wrong".to_owned(),
            Err(Damage::Malformed) => "it contradicts itself".to_owned(),
        };
        error!("session {session:?} begins anew: its record was set aside, because {damage}");
        count(&self.status.set_aside, 1);
        self.attempt(|backend| backend.set_aside(session))?;
        Ok(Found::Unknown)
    }

    /// Carries out the changes that have waited longest.
    fn carry_out(&mut self) -> Result<(), Failure> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for session in &self.order {
            if batch.len() >= BATCH_MAX || bytes >= BATCH_BYTES_MAX {
                break;
            }
            if let Some((_, change)) = self.pending.get(session) {
                bytes += if let Change::Put { record, .. } = change { record.len() } else { 0 };
                batch.push((session.clone(), change.clone()));
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        let applied = self.attempt(|backend| backend.apply(&batch))?;
        self.order.drain(..batch.len());
        for ((session, change), applied) in batch.into_iter().zip(applied) {
            let Some((shard, _)) = self.pending.remove(&session) else { continue };
            let Change::Put { epoch, version, .. } = change else { continue };
            let outcome = match applied {
                Applied::Done => Outcome::Kept,
                Applied::Outdated { epoch: other } => {
                    warn!(
                        "session {session:?} is stored with epoch {other}, which is newer than {epoch} here: \
                         another server keeps it, or the wall clock was set back"
                    );
                    Outcome::Outdated { epoch: other }
                }
            };
            count(&self.status.written, usize::from(applied == Applied::Done));
            self.keep_alive(&session);
            self.unsent.push_back((shard, StorageNews::Stored { session, epoch, version, outcome }));
        }
        Ok(())
    }

    /// A session that was just written need not be refreshed for a while.
    fn keep_alive(&mut self, session: &SessionId) {
        let next = Instant::now() + self.ttl / 3;
        if self.alive.insert(session.clone(), next).is_none() {
            self.refreshes.push_back((next, session.clone()));
        }
    }

    /// Begins the time to live anew of sessions that are in memory and were not written for long.
    fn refresh(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let mut due = Vec::new();
        while due.len() < REFRESH_MAX
            && self.refreshes.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, session)) = self.refreshes.pop_front()
        {
            match self.alive.get(&session).copied() {
                Some(next) if next <= now => due.push(session),
                Some(next) => self.refreshes.push_back((next, session)),
                None => {}
            }
        }
        if due.is_empty() {
            return Ok(());
        }
        for session in &due {
            let next = now + self.ttl / 3;
            self.alive.insert(session.clone(), next);
            self.refreshes.push_back((next, session.clone()));
        }
        self.attempt(|backend| backend.refresh(&due))
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

    /// Uses the backend. A panic in it, as over a file that somebody else wrote to, is a failure like others.
    fn attempt<T>(&mut self, act: impl FnOnce(&mut dyn Backend) -> Result<T, Failure>) -> Result<T, Failure> {
        let backend = self.backend.as_mut();
        catch_unwind(AssertUnwindSafe(|| act(backend)))
            .unwrap_or_else(|_| Err(Failure::Unavailable("the storage met a bug; see the log".into())))
    }

    /// Notes a failure, and when to try again.
    fn failed(&mut self, failure: &Failure) {
        count(&self.status.failures, 1);
        if self.status.degraded(&failure.to_string()) {
            warn!("storage is degraded, sessions are kept in memory meanwhile: {failure}");
            if self.since.elapsed() > STEADY {
                self.pause = PAUSE_MIN;
            }
        } else {
            debug!("storage is still degraded: {failure}");
        }
        // Half of the pause is chance, so that servers that lost the same Redis do not return as one.
        let chance = RandomState::new().hash_one("jitter") % 1_024;
        self.retry = Some(Instant::now() + self.pause / 2 + self.pause / 2 * chance as u32 / 1_024);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// Tries the backend again, and tells the shards if it is back.
    fn reopen(&mut self, shards: &dyn Shards) {
        self.retry = None;
        if self.open().is_err() {
            return;
        }
        let pending = self.pending.len();
        info!("storage is back; {pending} changed sessions wait here, and everything known is stored again");
        self.status.well();
        self.since = Instant::now();
        for shard in 0..shards.count() {
            self.unsent.push_back((ShardId(shard), StorageNews::Returned));
        }
    }

    /// While the backend is away nobody waits for it.
    fn tell_unknown(&mut self) {
        for (shard, session, _) in std::mem::take(&mut self.loads) {
            info!("session {session:?} begins anew: the storage is degraded");
            self.unsent.push_back((shard, StorageNews::Loaded { session, found: Found::Unknown }));
        }
    }

    /// Tells the shards what there is room for.
    fn deliver(&mut self, shards: &dyn Shards) {
        for _ in 0..self.unsent.len() {
            let Some((shard, news)) = self.unsent.pop_front() else { break };
            if let Err(news) = shards.tell(shard, news) {
                self.unsent.push_front((shard, news));
                break;
            }
        }
    }
}

/// What the wall clock says.
fn unix_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
