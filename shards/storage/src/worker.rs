//! The storage's thread: takes requests out of the queue, keeps the newest of each session, and
//! carries them out.
//!
//! If the backend fails, the newest requests stay, and the backend is tried again after a pause
//! that grows from 100 ms to 5 s. Once it is back, the shards offer everything again that is not
//! pending: the backend may have lost its data.
//!
//! Decisions depend only on requests, outcomes of the backend, the clock and random numbers, so
//! tests can produce them in any order.

mod pending;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bandsync_engine::io::{LoadResult, StorageEvent, StoreResult};
use bandsync_engine::record::{Damage, Record};
use bandsync_engine::words::ids::{SessionId, ShardId};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use log::{debug, error, info, warn};

use self::pending::Pending;
use super::backends::{Applied, Aside, Backend, Change, Failure, Foreign};
use super::backoff::{Backoff, chance};
use super::handle::StorageRequest;
use super::plan::Plan;
use super::series::{History, KEPT_MS, Point};
use super::status::{Part, Status, count};

/// Time that the backend must work for the next failure to count as the first.
const STEADY: Duration = Duration::from_secs(10);

/// Maximum requests taken out of the queue before they are processed.
const TAKE_MAX: usize = 8_192;

/// Maximum sessions refreshed at once.
const REFRESH_MAX: usize = 512;

/// Time that the thread sleeps while there is nothing to do.
const SLEEP: Duration = Duration::from_secs(1);

/// Pause before a full mailbox is tried again.
const TELL_AGAIN: Duration = Duration::from_millis(1);

/// Time after which an idle backend is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Time between two searches for expired data.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(60);

/// Maximum points that wait for the backend: the newest hour is enough.
const POINTS_MAX: usize = 360;

/// Maximum sessions remembered as started without their records.
const UNSEEN_MAX: usize = 65_536;

/// Time between two announcements to another server that serves the same sessions. Guessed: rare
/// enough to cost nothing.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);

/// Time for which another server counts as keeping a session after its last message about it: three
/// announcements.
const SHARED_FOR: Duration = Duration::from_secs(6);

/// Maximum sessions known to be served by another server too.
const SHARED_MAX: usize = 1_024;

/// Maximum sessions remembered as logged.
const WARNED_MAX: usize = 1_024;

/// The way back to the shards.
pub trait Shards: Send + 'static {
    /// Number of shards.
    fn count(&self) -> u16;

    /// Passes an event to a shard without blocking.
    ///
    /// # Errors
    /// The event, if the shard's mailbox is full.
    fn send(&self, shard: ShardId, event: StorageEvent) -> Result<(), StorageEvent>;
}

/// The state of the thread.
pub struct Worker {
    backend: Box<dyn Backend>,
    clock: Box<dyn Fn() -> Instant + Send>,
    random: Box<dyn FnMut() -> u64 + Send>,
    status: Arc<Status>,
    history: Arc<History>,
    ttl: Duration,
    wait: Duration,
    /// Whether messages of other servers can be received.
    listens: bool,
    pending: Pending,
    loads: VecDeque<(ShardId, SessionId, Instant)>,
    /// Sessions that started without their stored records, which are set aside before they are
    /// replaced.
    unseen: BTreeSet<SessionId>,
    /// Sessions that are in memory and stored.
    alive: BTreeMap<SessionId, Alive>,
    /// Living sessions by the time of their next refresh.
    refreshes: BTreeSet<(Instant, SessionId)>,
    /// Sessions with a pending change that failed on its own.
    failing: BTreeMap<SessionId, SessionFailure>,
    /// Sessions that another server serves too, with the time of its last message about them.
    shared: BTreeMap<SessionId, Instant>,
    /// The time of the next announcement.
    announce_at: Instant,
    /// Sessions that the log has reported as served by another server too.
    warned: BTreeSet<SessionId>,
    points: VecDeque<(i64, Vec<Point>)>,
    /// Whether stored points were read back.
    restored: bool,
    /// Events that wait for room in a shard's mailbox.
    unsent: VecDeque<(ShardId, StorageEvent)>,
    /// The time of the next try, if the backend failed.
    retry: Option<Instant>,
    backoff: Backoff,
    since: Instant,
    check_at: Instant,
    expire_at: Instant,
    ending: bool,
}

#[derive(Clone, Copy)]
struct Alive {
    refresh: Instant,
    /// Whether a member was connected when it was last stored. Only known if messages of other
    /// servers can be received.
    in_use: bool,
    epoch: u64,
    version: u64,
}

/// The failure of a single session.
#[derive(Default)]
struct SessionFailure {
    /// The time of the next try; `None` is at once.
    retry: Option<Instant>,
    backoff: Backoff,
    /// The reason; empty if its record was only set aside.
    reason: String,
}

impl Worker {
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
        random: Box<dyn FnMut() -> u64 + Send>,
    ) -> Self {
        let now = clock();
        Self {
            backend,
            clock,
            random,
            status,
            history,
            ttl: plan.ttl,
            wait: plan.wait,
            listens: false,
            pending: Pending::default(),
            loads: VecDeque::new(),
            unseen: BTreeSet::new(),
            alive: BTreeMap::new(),
            refreshes: BTreeSet::new(),
            failing: BTreeMap::new(),
            shared: BTreeMap::new(),
            announce_at: now,
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

    /// Opens the backend.
    pub(super) fn open(&mut self) -> Result<(), Failure> {
        let opened = self.attempt(|backend| backend.connect());
        if let Err(failure) = &opened {
            self.failed(failure);
        }
        opened
    }

    /// Starts to receive messages of other servers through `receive`, if the backend can.
    pub(super) fn listen(
        &mut self,
        receive: impl Fn(Foreign) + Send + 'static,
    ) -> std::io::Result<()> {
        self.listens = true;
        self.backend.listen(Box::new(receive))
    }

    /// Works until the queue's last request.
    pub(super) fn run(mut self, requests: &Receiver<StorageRequest>, shards: &dyn Shards) {
        loop {
            self.take(requests);
            self.turn(shards);
            if self.ending && (!self.has_work() || self.retry.is_some()) {
                break;
            }
        }
        match self.pending.len() {
            0 => debug!("storage: everything is stored"),
            left => error!("storage unavailable at the end: changes of {left} sessions are lost"),
        }
    }

    /// Processes the requests taken so far.
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
            self.report_unknown();
        }
        self.show_failing();
        self.show_shared();
        self.deliver(shards);
        self.status.pending.store(self.pending.len() as u64, Ordering::Relaxed);
    }

    /// Takes requests. Sleeps first if there is nothing to do.
    fn take(&mut self, requests: &Receiver<StorageRequest>) {
        let first = match self.idle() {
            Some(idle) => requests.recv_timeout(idle),
            None => requests.try_recv().map_err(|_| RecvTimeoutError::Timeout),
        };
        match first {
            Ok(request) => self.accept(request),
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => self.ending = true,
        }
        for request in requests.try_iter().take(TAKE_MAX) {
            self.accept(request);
        }
    }

    /// Returns the time until there is work, unless a request arrives.
    fn idle(&self) -> Option<Duration> {
        let now = (self.clock)();
        let until = match self.retry {
            Some(retry) => retry.saturating_duration_since(now),
            None if self.has_work() || !self.loads.is_empty() || !self.points.is_empty() => {
                return None;
            }
            None => {
                let retries = self.failing.values().filter_map(|failed| failed.retry);
                retries
                    .map(|at| at.saturating_duration_since(now))
                    .min()
                    .unwrap_or(SLEEP)
                    .min(SLEEP)
            }
        };
        let until = if self.unsent.is_empty() { until } else { until.min(TELL_AGAIN) };
        (!until.is_zero() && !self.ending).then_some(until)
    }

    fn accept(&mut self, request: StorageRequest) {
        match request {
            StorageRequest::Load { shard, session, since } => {
                count(&self.status.loads, 1);
                self.loads.push_back((shard, session, since));
            }
            StorageRequest::Change { shard, session, change } => {
                self.change(shard, session, change)
            }
            StorageRequest::Points { at, points } => {
                self.points.push_back((at, points));
                while self.points.len() > POINTS_MAX {
                    self.points.pop_front();
                }
            }
            StorageRequest::Foreign(foreign) => self.note_foreign(&foreign),
            StorageRequest::End => {
                self.ending = true;
                // Sessions that failed on their own get a last try.
                self.failing.values_mut().for_each(|failed| failed.retry = None);
            }
        }
    }

    /// Adds a change, which replaces the pending one of the same session.
    fn change(&mut self, shard: ShardId, session: SessionId, change: Change) {
        if let Change::Delete { .. } = change {
            self.untrack(&session);
            self.shared.remove(&session);
        }
        if let Some((shard, Change::Put { epoch, version, .. })) =
            self.pending.put(session.clone(), shard, change)
        {
            count(&self.status.coalesced, 1);
            let outcome = StoreResult::Rejected;
            self.unsent
                .push_back((shard, StorageEvent::Stored { session, epoch, version, outcome }));
        }
    }

    /// Whether a pending change may be carried out now.
    fn has_work(&self) -> bool {
        let now = (self.clock)();
        self.pending.has_any(|session| may_go(&self.failing, session, now))
    }

    /// Handles a message that another server stored or serves a session. If this server serves it
    /// too, both must know.
    fn note_foreign(&mut self, foreign: &Foreign) {
        let Foreign { session, .. } = foreign;
        let known = self.shared.contains_key(session);
        // A session that its last member has left may continue on another server.
        let in_use = self.alive.get(session).is_some_and(|alive| alive.in_use);
        if !in_use || !known && self.shared.len() >= SHARED_MAX {
            return;
        }
        let now = (self.clock)();
        self.shared.insert(session.clone(), now);
        if foreign.stored || !known {
            count(&self.status.conflicts, 1);
        }
        if foreign.stored && !known {
            self.announce_at = now;
        }
        if self.warned.len() >= WARNED_MAX {
            self.warned.clear();
        }
        if self.warned.insert(session.clone()) {
            warn!(
                "session {session:?} is in use at another server too, in epoch {} and version {}: they overwrite each \
                 other's records; let all its members reach the same server",
                foreign.epoch, foreign.version
            );
        }
    }

    /// Updates the sessions that another server serves too, and announces that this server serves
    /// them.
    fn show_shared(&mut self) {
        let now = (self.clock)();
        self.shared.retain(|_, announced| now.saturating_duration_since(*announced) < SHARED_FOR);
        let shared = self.shared.len();
        if self.status.shared.swap(shared as u64, Ordering::Relaxed) != shared as u64 {
            match shared {
                0 => self.status.recovered(Part::Shared),
                _ => {
                    let reason = format!(
                        "{} served by another server too, and each overwrites the other's records: let all members of a \
                         session reach the same server; the log names the sessions",
                        if shared == 1 {
                            "a session is".to_owned()
                        } else {
                            format!("{shared} sessions are")
                        }
                    );
                    self.status.degraded(Part::Shared, &reason);
                }
            }
        }
        if shared > 0 && self.announce_at <= now && self.retry.is_none() {
            self.announce_at = now + ANNOUNCE_INTERVAL;
            let served = self.shared.keys().filter_map(|session| {
                let Alive { epoch, version, .. } = *self.alive.get(session)?;
                Some(Foreign { stored: false, session: session.clone(), epoch, version })
            });
            let served: Vec<Foreign> = served.collect();
            let announced = self.attempt(|backend| {
                backend.announce(&served);
                Ok(())
            });
            if let Err(failure) = announced {
                debug!("storage: cannot announce sessions: {failure}");
            }
        }
    }

    /// Updates the sessions that cannot be stored, each for its own reason.
    fn show_failing(&mut self) {
        let reasons = || {
            self.failing.values().map(|failed| &failed.reason).filter(|reason| !reason.is_empty())
        };
        let count = reasons().count();
        self.status.unstored.store(count as u64, Ordering::Relaxed);
        match reasons().next() {
            None => self.status.recovered(Part::Sessions),
            Some(reason) => {
                let reason = match count {
                    1 => format!("a session cannot be stored, while all others can: {reason}"),
                    many => {
                        format!("{many} sessions cannot be stored, while all others can: {reason}")
                    }
                };
                self.status.degraded(Part::Sessions, &reason);
            }
        }
    }

    /// Postpones the change of a session that failed on its own, and counts the failure.
    fn postpone_failed(&mut self, session: &SessionId, reason: String) {
        let (now, chance) = ((self.clock)(), (self.random)());
        count(&self.status.failures, 1);
        let failed = self.failing.entry(session.clone()).or_default();
        if failed.reason.is_empty() {
            warn!(session = session.as_str(); "session {session:?} cannot be stored, keeping it in memory: {reason}");
        }
        failed.reason = reason;
        failed.retry = Some(now + failed.backoff.pause(chance));
        self.pending.postpone(session);
    }

    /// Sets aside the stored record of a session with a pending change, because of `damage`. If
    /// that does not help, the session waits.
    fn clear_away(&mut self, session: &SessionId, damage: &str) -> Result<(), Failure> {
        match self.attempt(|backend| backend.set_aside(session, Aside::Move)) {
            Ok(()) => {
                error!(session = session.as_str(); "record of session {session:?} set aside, because {damage}");
                count(&self.status.set_aside, 1);
                if self.failing.contains_key(session) {
                    self.postpone_failed(
                        session,
                        format!("its record is unusable again: {damage}"),
                    );
                } else {
                    self.failing.insert(session.clone(), SessionFailure::default());
                }
                Ok(())
            }
            Err(Failure::Session(reason)) => {
                self.postpone_failed(session, reason);
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Does a part of all pending work.
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
            let found = match self.find(&session) {
                Err(Failure::Session(reason)) => {
                    error!(session = session.as_str(); "session {session:?} starts empty: {reason}");
                    count(&self.status.failures, 1);
                    self.mark_unseen(session.clone());
                    LoadResult::Unknown
                }
                found => found?,
            };
            self.loads.pop_front();
            let waited = (self.clock)().saturating_duration_since(since);
            if waited > self.wait {
                info!(
                    session = session.as_str();
                    "session {session:?} started empty: the storage took {} ms, limit {} ms",
                    waited.as_millis(),
                    self.wait.as_millis()
                );
            }
            // The shard may time out before the answer reaches it.
            if waited > self.wait / 2 && matches!(found, LoadResult::Record(_)) {
                self.mark_unseen(session.clone());
            }
            self.unsent.push_back((shard, StorageEvent::Loaded { session, found }));
        }
        Ok(())
    }

    /// Loads the record of a session. A damaged record is set aside.
    fn find(&mut self, session: &SessionId) -> Result<LoadResult, Failure> {
        if let Some(found) = self.pending.find(session) {
            return Ok(found);
        }
        let Some(bytes) = self.attempt(|backend| backend.load(session))? else {
            return Ok(LoadResult::Nothing);
        };
        let damage = match Record::parse(&bytes) {
            Ok(record) if record.session == *session => return Ok(LoadResult::Record(bytes)),
            Ok(_) => "it belongs to another session".to_owned(),
            Err(Damage::Newer(format)) => format!("it is from a later version, in format {format}"),
            Err(Damage::Checksum) => "its checksum is wrong".to_owned(),
            Err(Damage::Malformed) if bytes.is_empty() => "its fields make no sense".to_owned(),
            Err(Damage::Malformed) => "it contradicts itself".to_owned(),
        };
        self.attempt(|backend| backend.set_aside(session, Aside::Move))?;
        error!(session = session.as_str(); "session {session:?} starts empty: its record was set aside, because {damage}");
        count(&self.status.set_aside, 1);
        Ok(LoadResult::Unknown)
    }

    fn mark_unseen(&mut self, session: SessionId) {
        if self.unseen.len() < UNSEEN_MAX {
            self.unseen.insert(session);
        }
    }

    /// Carries out the changes that have waited longest. Failed changes wait again.
    fn carry_out(&mut self) -> Result<(), Failure> {
        let now = (self.clock)();
        let mut batch = self.pending.batch(|session| may_go(&self.failing, session, now));
        for index in (0..batch.len()).rev() {
            let session = batch[index].0.clone();
            if self.unseen.contains(&session) {
                match self.attempt(|backend| backend.set_aside(&session, Aside::Copy)) {
                    Ok(()) => {
                        self.unseen.remove(&session);
                    }
                    Err(Failure::Session(reason)) => {
                        self.postpone_failed(&session, reason);
                        batch.remove(index);
                    }
                    Err(failure) => return Err(failure),
                }
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        let results = self.apply(&batch)?;
        let mut failed = Ok(());
        for ((session, change), result) in batch.into_iter().zip(results) {
            let done = match result {
                Ok(Applied::Senseless) => self.clear_away(&session, "its fields make no sense"),
                // No epoch could exceed this one.
                Ok(Applied::Outdated { epoch }) if epoch >= Record::EPOCH_MAX => {
                    self.clear_away(&session, &format!("its epoch {epoch} is beyond any clock"))
                }
                Ok(applied) => {
                    self.carried_out(session, &change, applied);
                    continue;
                }
                Err(Failure::Session(reason)) => {
                    self.postpone_failed(&session, reason);
                    continue;
                }
                Err(failure) => Err(failure),
            };
            if let Err(failure) = done {
                self.pending.postpone(&session);
                failed = Err(failure);
            }
        }
        failed
    }

    /// Reports the outcome of a change to its shard.
    fn carried_out(&mut self, session: SessionId, change: &Change, applied: Applied) {
        self.failing.remove(&session);
        let Some((shard, _)) = self.pending.remove(&session) else { return };
        let Change::Put { epoch, version, record } = change else { return };
        let (epoch, version) = (*epoch, *version);
        let outcome = match applied {
            Applied::Done | Applied::Senseless => StoreResult::Stored,
            Applied::Outdated { epoch: other } => {
                warn!(
                    session = session.as_str();
                    "session {session:?} is stored with epoch {other}, which is newer than {epoch} here: another \
                     server serves it, or the wall clock was set back"
                );
                StoreResult::Outdated { epoch: other }
            }
        };
        count(&self.status.written, usize::from(applied == Applied::Done));
        let now = (self.clock)();
        self.untrack(&session);
        let in_use = self.listens && has_members(record);
        if !in_use {
            self.shared.remove(&session);
        }
        self.track(session.clone(), Alive { refresh: now + self.ttl / 3, in_use, epoch, version });
        self.unsent.push_back((shard, StorageEvent::Stored { session, epoch, version, outcome }));
    }

    fn track(&mut self, session: SessionId, alive: Alive) {
        self.refreshes.insert((alive.refresh, session.clone()));
        self.alive.insert(session, alive);
    }

    /// Removes a session from those to refresh.
    fn untrack(&mut self, session: &SessionId) {
        if let Some(alive) = self.alive.remove(session) {
            self.refreshes.remove(&(alive.refresh, session.clone()));
        }
    }

    /// Renews the time to live of sessions that are in memory and were not written for a while.
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
                self.untrack(&session);
                self.track(session, Alive { refresh: now + self.ttl / 3, ..alive });
            }
        }
        if !all_there {
            self.store_again(shards);
        }
        Ok(())
    }

    /// Checks that the backend works and still has its data.
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
        warn!("storage lost its data: storing all sessions again");
        self.report_return(shards);
    }

    fn report_return(&mut self, shards: &dyn Shards) {
        for shard in 0..shards.count() {
            self.unsent.push_back((ShardId(shard), StorageEvent::Returned));
        }
    }

    fn keep_points(&mut self) -> Result<(), Failure> {
        let oldest = unix_millis() - KEPT_MS;
        if !self.restored {
            match self.attempt(|backend| backend.points(oldest)) {
                Err(Failure::Session(reason)) => {
                    debug!("cannot read stored measurements: {reason}")
                }
                points => self.history.restore(points?),
            }
            self.restored = true;
        }
        while let Some((at, points)) = self.points.front().cloned() {
            match self.attempt(|backend| backend.add_points(at, &points, oldest)) {
                // Another program uses a key of that name. No session needs these points.
                Err(Failure::Session(reason)) => debug!("cannot store measurements: {reason}"),
                added => added?,
            }
            self.points.pop_front();
        }
        Ok(())
    }

    fn apply(
        &mut self,
        changes: &[(SessionId, Change)],
    ) -> Result<Vec<Result<Applied, Failure>>, Failure> {
        self.attempt(|backend| Ok(backend.apply(changes)))
    }

    /// Uses the backend. A panic in it, for example over a file that another program has changed,
    /// is treated as a failure.
    fn attempt<T>(
        &mut self,
        act: impl FnOnce(&mut dyn Backend) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let backend = self.backend.as_mut();
        catch_unwind(AssertUnwindSafe(|| act(backend))).unwrap_or_else(|_| {
            Err(Failure::Unavailable(
                "the storage backend panicked; the log has the panic. Please report it".into(),
            ))
        })
    }

    /// Records a failure, and sets the time of the next try.
    fn failed(&mut self, failure: &Failure) {
        let now = (self.clock)();
        count(&self.status.failures, 1);
        if self.status.degraded(Part::Backend, &failure.to_string()) {
            warn!("storage unavailable, keeping sessions in memory: {failure}");
            if now.saturating_duration_since(self.since) > STEADY {
                self.backoff.reset();
            }
        } else {
            debug!("storage still unavailable: {failure}");
        }
        self.retry = Some(now + self.backoff.pause((self.random)()));
    }

    /// Tries the backend again. It is back once it accepts what is pending: a file on a full disk
    /// can be opened, too.
    fn reopen(&mut self, shards: &dyn Shards) {
        self.retry = None;
        let (pending, unsent) = (self.pending.len(), self.unsent.len());
        let opened = self.attempt(|backend| backend.connect());
        let back = opened.and_then(|()| self.carry_out()).and_then(|()| self.keep_points());
        if let Err(failure) = back {
            self.failed(&failure);
            return;
        }
        // Shards must receive `Returned` before the outcomes of what was just stored. Otherwise
        // they would offer that again.
        let answers = self.unsent.split_off(unsent);
        self.report_return(shards);
        self.unsent.extend(answers);
        info!("storage is back: storing all sessions again, {pending} of them changed meanwhile");
        self.status.recovered(Part::Backend);
        self.since = (self.clock)();
        self.check_at = self.since + CHECK_INTERVAL;
    }

    /// Answers waiting loads at once: nothing waits for an unavailable backend.
    fn report_unknown(&mut self) {
        for (shard, session, _) in std::mem::take(&mut self.loads) {
            let found = self.pending.find(&session).unwrap_or_else(|| {
                info!(session = session.as_str(); "session {session:?} starts empty: the storage is unavailable");
                self.mark_unseen(session.clone());
                LoadResult::Unknown
            });
            self.unsent.push_back((shard, StorageEvent::Loaded { session, found }));
        }
    }

    /// Sends events to the shards. A full mailbox does not delay other shards.
    fn deliver(&mut self, shards: &dyn Shards) {
        let mut full = BTreeSet::new();
        for (shard, event) in std::mem::take(&mut self.unsent) {
            let sent = if full.contains(&shard) { Err(event) } else { shards.send(shard, event) };
            if let Err(event) = sent {
                full.insert(shard);
                self.unsent.push_back((shard, event));
            }
        }
    }
}

/// Whether a member was connected when the record was printed.
fn has_members(record: &[u8]) -> bool {
    Record::parse(record).is_ok_and(|record| record.seats.iter().any(|seat| seat.member.connected))
}

/// Whether a session's change may be carried out: it has not failed on its own, or its pause is
/// over.
fn may_go(
    failing: &BTreeMap<SessionId, SessionFailure>,
    session: &SessionId,
    now: Instant,
) -> bool {
    // Step by step: a chain compiles to a comparison that may read an uninitialized time, which
    // leak checkers report.
    let Some(failed) = failing.get(session) else { return true };
    failed.retry.is_none_or(|retry| retry <= now)
}

/// Returns the wall clock, in Unix milliseconds.
fn unix_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
