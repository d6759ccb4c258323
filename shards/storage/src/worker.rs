//! The storage's thread: takes requests out of the queue, keeps the newest for each session, and
//! carries them out.
//!
//! When the backend fails, the newest requests stay, and it is tried again after a pause that grows
//! from 100 ms to 5 s. When it is back the shards are told, who offer everything again that is not
//! on its way: the backend may have lost what it had.
//!
//! What it decides depends on requests, answers of the backend, its clock and its dice alone, so that
//! tests can have any of them in any order.

mod pending;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bandsync_engine::io::{Found, Outcome, StorageEvent};
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

/// How long the backend must have worked for the next failure to count as the first.
const STEADY: Duration = Duration::from_secs(10);

/// Requests taken out of the queue before something is done about them.
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

/// How often another server that keeps the same sessions is told so, while it does. Guessed: seldom
/// enough to cost nothing.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);

/// How long another server counts as keeping a session after its last word about it: three
/// announcements.
const SHARED_FOR: Duration = Duration::from_secs(6);

/// Maximum number of sessions that are known to be kept by another server too.
const SHARED_MAX: usize = 1_024;

/// Sessions that are remembered as told to be in use twice.
const WARNED_MAX: usize = 1_024;

/// The way back to the shards.
pub trait Shards: Send + 'static {
    /// How many there are.
    fn count(&self) -> u16;

    /// Tells a shard, without waiting.
    ///
    /// # Errors
    /// The news, if there is no room for them now.
    fn tell(&self, shard: ShardId, news: StorageEvent) -> Result<(), StorageEvent>;
}

/// The state of the thread.
pub struct Worker {
    backend: Box<dyn Backend>,
    clock: Box<dyn Fn() -> Instant + Send>,
    dice: Box<dyn FnMut() -> u64 + Send>,
    status: Arc<Status>,
    history: Arc<History>,
    ttl: Duration,
    wait: Duration,
    /// Whether other servers can be heard of.
    listens: bool,
    pending: Pending,
    loads: VecDeque<(ShardId, SessionId, Instant)>,
    /// Sessions that were begun without knowing what is stored of them: that is set aside before it
    /// is replaced.
    unseen: BTreeSet<SessionId>,
    /// Sessions that are in memory and stored.
    alive: BTreeMap<SessionId, Alive>,
    /// The same by the time to refresh them.
    refreshes: BTreeSet<(Instant, SessionId)>,
    /// Sessions with a pending change that failed for them alone.
    ailing: BTreeMap<SessionId, Ailment>,
    /// Sessions that another server keeps as well, by when that was heard last.
    shared: BTreeMap<SessionId, Instant>,
    /// When to publish again which those are.
    announce_at: Instant,
    /// Sessions of which it was logged that another server keeps them too.
    warned: BTreeSet<SessionId>,
    points: VecDeque<(i64, Vec<Point>)>,
    /// Whether stored points were read back.
    restored: bool,
    /// What waits for room in a shard's mailbox.
    unsent: VecDeque<(ShardId, StorageEvent)>,
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
    refresh: Instant,
    /// Whether a member was connected when it was stored last; only known if other servers are
    /// heard of.
    in_use: bool,
    epoch: u64,
    version: u64,
}

/// What is wrong with one session.
#[derive(Default)]
struct Ailment {
    /// When to try again; `None` = at once.
    retry: Option<Instant>,
    backoff: Backoff,
    /// Empty if what was stored has only been set aside.
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
            listens: false,
            pending: Pending::default(),
            loads: VecDeque::new(),
            unseen: BTreeSet::new(),
            alive: BTreeMap::new(),
            refreshes: BTreeSet::new(),
            ailing: BTreeMap::new(),
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

    /// Tries to open the backend.
    pub(super) fn open(&mut self) -> Result<(), Failure> {
        let opened = self.attempt(|backend| backend.connect());
        if let Err(failure) = &opened {
            self.failed(failure);
        }
        opened
    }

    /// Has the backend tell of other servers by `heard`, if it can.
    pub(super) fn listen(
        &mut self,
        heard: impl Fn(Foreign) + Send + 'static,
    ) -> std::io::Result<()> {
        self.listens = true;
        self.backend.listen(Box::new(heard))
    }

    /// Works until the queue says that nothing comes any more.
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
        self.show_ailing();
        self.show_shared();
        self.deliver(shards);
        self.status.pending.store(self.pending.len() as u64, Ordering::Relaxed);
    }

    /// Takes requests in; sleeps before if there is nothing to do.
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

    /// How long there is nothing to do, unless a request comes.
    fn idle(&self) -> Option<Duration> {
        let now = (self.clock)();
        let until = match self.retry {
            Some(retry) => retry.saturating_duration_since(now),
            None if self.has_work() || !self.loads.is_empty() || !self.points.is_empty() => {
                return None;
            }
            None => {
                let retries = self.ailing.values().filter_map(|ailment| ailment.retry);
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
            StorageRequest::Foreign(foreign) => self.heard(&foreign),
            StorageRequest::End => {
                self.ending = true;
                // Those that failed alone get a last try.
                self.ailing.values_mut().for_each(|ailment| ailment.retry = None);
            }
        }
    }

    /// Puts a change in the place of the one that waits for the same session.
    fn change(&mut self, shard: ShardId, session: SessionId, change: Change) {
        if let Change::Delete { .. } = change {
            self.let_go(&session);
            self.shared.remove(&session);
        }
        if let Some((shard, Change::Put { epoch, version, .. })) =
            self.pending.put(session.clone(), shard, change)
        {
            count(&self.status.coalesced, 1);
            let outcome = Outcome::Refused;
            self.unsent
                .push_back((shard, StorageEvent::Stored { session, epoch, version, outcome }));
        }
    }

    /// Whether a change waits that may be carried out now.
    fn has_work(&self) -> bool {
        let now = (self.clock)();
        self.pending.has_any(|session| may_go(&self.ailing, session, now))
    }

    /// Hears that another server stored or keeps a session. If this server keeps it as well, both
    /// must know.
    fn heard(&mut self, foreign: &Foreign) {
        let Foreign { session, .. } = foreign;
        let known = self.shared.contains_key(session);
        // A session that its last member left may go on at another server.
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
                 other; see that all its members reach the same server",
                foreign.epoch, foreign.version
            );
        }
    }

    /// Notes which sessions another server keeps as well, and lets it know that they are kept here.
    fn show_shared(&mut self) {
        let now = (self.clock)();
        self.shared.retain(|_, heard| now.saturating_duration_since(*heard) < SHARED_FOR);
        let shared = self.shared.len();
        if self.status.shared.swap(shared as u64, Ordering::Relaxed) != shared as u64 {
            match shared {
                0 => self.status.well(Part::Shared),
                _ => {
                    let reason = format!(
                        "{} kept by another server as well, and each overwrites what the other stored: see that all \
                         members of a session reach the same server; the log names the sessions",
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
            let kept = self.shared.keys().filter_map(|session| {
                let Alive { epoch, version, .. } = *self.alive.get(session)?;
                Some(Foreign { stored: false, session: session.clone(), epoch, version })
            });
            let kept: Vec<Foreign> = kept.collect();
            let announced = self.attempt(|backend| {
                backend.announce(&kept);
                Ok(())
            });
            if let Err(failure) = announced {
                debug!("storage: nothing could be announced: {failure}");
            }
        }
    }

    /// Notes which sessions cannot be stored, each for a reason of its own.
    fn show_ailing(&mut self) {
        let reasons = || {
            self.ailing.values().map(|ailment| &ailment.reason).filter(|reason| !reason.is_empty())
        };
        let count = reasons().count();
        self.status.unstored.store(count as u64, Ordering::Relaxed);
        match reasons().next() {
            None => self.status.well(Part::Sessions),
            Some(reason) => {
                let reason = match count {
                    1 => format!("a session cannot be stored, all others can: {reason}"),
                    many => format!("{many} sessions cannot be stored, all others can: {reason}"),
                };
                self.status.degraded(Part::Sessions, &reason);
            }
        }
    }

    /// Has a session wait that failed alone.
    fn ail(&mut self, session: &SessionId, reason: String) {
        let (now, chance) = ((self.clock)(), (self.dice)());
        count(&self.status.failures, 1);
        let ailment = self.ailing.entry(session.clone()).or_default();
        if ailment.reason.is_empty() {
            warn!(session = session.as_str(); "session {session:?} cannot be stored, it is kept in memory meanwhile: {reason}");
        }
        ailment.reason = reason;
        ailment.retry = Some(now + ailment.backoff.pause(chance));
        self.pending.postpone(session);
    }

    /// Sets aside what is stored of a session that has a change to be carried out, because of
    /// `damage`. If that does not help, the session waits.
    fn clear_away(&mut self, session: &SessionId, damage: &str) -> Result<(), Failure> {
        match self.attempt(|backend| backend.set_aside(session, Aside::Move)) {
            Ok(()) => {
                error!(session = session.as_str(); "what was stored of session {session:?} was set aside, because {damage}");
                count(&self.status.set_aside, 1);
                if self.ailing.contains_key(session) {
                    self.ail(
                        session,
                        format!("what is stored of it made no sense again: {damage}"),
                    );
                } else {
                    self.ailing.insert(session.clone(), Ailment::default());
                }
                Ok(())
            }
            Err(Failure::Session(reason)) => {
                self.ail(session, reason);
                Ok(())
            }
            Err(failure) => Err(failure),
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
            let found = match self.find(&session) {
                Err(Failure::Session(reason)) => {
                    error!(session = session.as_str(); "session {session:?} begins anew: {reason}");
                    count(&self.status.failures, 1);
                    self.not_seen(session.clone());
                    Found::Unknown
                }
                found => found?,
            };
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
            self.unsent.push_back((shard, StorageEvent::Loaded { session, found }));
        }
        Ok(())
    }

    /// What there is of a session. A record that cannot be read is set aside.
    fn find(&mut self, session: &SessionId) -> Result<Found, Failure> {
        if let Some(found) = self.pending.find(session) {
            return Ok(found);
        }
        let Some(bytes) = self.attempt(|backend| backend.load(session))? else {
            return Ok(Found::Nothing);
        };
        let damage = match Record::parse(&bytes) {
            Ok(record) if record.session == *session => return Ok(Found::Record(bytes)),
            Ok(_) => "it is that of another session".to_owned(),
            Err(Damage::Newer(format)) => format!("a later version made it, in format {format}"),
            Err(Damage::Checksum) => "its checksum is wrong".to_owned(),
            Err(Damage::Malformed) if bytes.is_empty() => "its fields make no sense".to_owned(),
            Err(Damage::Malformed) => "it contradicts itself".to_owned(),
        };
        self.attempt(|backend| backend.set_aside(session, Aside::Move))?;
        error!(session = session.as_str(); "session {session:?} begins anew: its record was set aside, because {damage}");
        count(&self.status.set_aside, 1);
        Ok(Found::Unknown)
    }

    fn not_seen(&mut self, session: SessionId) {
        if self.unseen.len() < UNSEEN_MAX {
            self.unseen.insert(session);
        }
    }

    /// Carries out the changes that have waited longest. Those that fail wait again.
    fn carry_out(&mut self) -> Result<(), Failure> {
        let now = (self.clock)();
        let mut batch = self.pending.batch(|session| may_go(&self.ailing, session, now));
        for place in (0..batch.len()).rev() {
            let session = batch[place].0.clone();
            if self.unseen.contains(&session) {
                match self.attempt(|backend| backend.set_aside(&session, Aside::Copy)) {
                    Ok(()) => {
                        self.unseen.remove(&session);
                    }
                    Err(Failure::Session(reason)) => {
                        self.ail(&session, reason);
                        batch.remove(place);
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
                // Nothing may rise above it.
                Ok(Applied::Outdated { epoch }) if epoch >= Record::EPOCH_MAX => self
                    .clear_away(&session, &format!("its epoch {epoch} is none that a clock shows")),
                Ok(applied) => {
                    self.carried_out(session, &change, applied);
                    continue;
                }
                Err(Failure::Session(reason)) => {
                    self.ail(&session, reason);
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

    /// Tells the shard what came of a change.
    fn carried_out(&mut self, session: SessionId, change: &Change, applied: Applied) {
        self.ailing.remove(&session);
        let Some((shard, _)) = self.pending.remove(&session) else { return };
        let Change::Put { epoch, version, record } = change else { return };
        let (epoch, version) = (*epoch, *version);
        let outcome = match applied {
            Applied::Done | Applied::Senseless => Outcome::Kept,
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
        let in_use = self.listens && has_members(record);
        if !in_use {
            self.shared.remove(&session);
        }
        self.keep(session.clone(), Alive { refresh: now + self.ttl / 3, in_use, epoch, version });
        self.unsent.push_back((shard, StorageEvent::Stored { session, epoch, version, outcome }));
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
            self.unsent.push_back((ShardId(shard), StorageEvent::Returned));
        }
    }

    fn keep_points(&mut self) -> Result<(), Failure> {
        let oldest = unix_millis() - KEPT_MS;
        if !self.restored {
            match self.attempt(|backend| backend.points(oldest)) {
                Err(Failure::Session(reason)) => {
                    debug!("stored measurements cannot be read: {reason}")
                }
                points => self.history.restore(points?),
            }
            self.restored = true;
        }
        while let Some((at, points)) = self.points.front().cloned() {
            match self.attempt(|backend| backend.add_points(at, &points, oldest)) {
                // Somebody else's key of that name; no session needs these points.
                Err(Failure::Session(reason)) => debug!("measurements cannot be stored: {reason}"),
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

    /// Uses the backend. A panic in it, as over a file that somebody else wrote to, is a failure
    /// like others.
    fn attempt<T>(
        &mut self,
        act: impl FnOnce(&mut dyn Backend) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let backend = self.backend.as_mut();
        catch_unwind(AssertUnwindSafe(|| act(backend))).unwrap_or_else(|_| {
            Err(Failure::Unavailable("the storage met a bug; see the log".into()))
        })
    }

    /// Notes a failure, and when to try again.
    fn failed(&mut self, failure: &Failure) {
        let now = (self.clock)();
        count(&self.status.failures, 1);
        if self.status.degraded(Part::Backend, &failure.to_string()) {
            warn!("storage is degraded, sessions are kept in memory meanwhile: {failure}");
            if now.saturating_duration_since(self.since) > STEADY {
                self.backoff.reset();
            }
        } else {
            debug!("storage is still degraded: {failure}");
        }
        self.retry = Some(now + self.backoff.pause((self.dice)()));
    }

    /// Tries the backend again. It is back when it takes what waits, as a full disk may well be
    /// opened.
    fn reopen(&mut self, shards: &dyn Shards) {
        self.retry = None;
        let (pending, told) = (self.pending.len(), self.unsent.len());
        let opened = self.attempt(|backend| backend.connect());
        let back = opened.and_then(|()| self.carry_out()).and_then(|()| self.keep_points());
        if let Err(failure) = back {
            self.failed(&failure);
            return;
        }
        // What was just stored is not stored again, so its answers come after the word that all may
        // be lost.
        let answers = self.unsent.split_off(told);
        self.tell_returned(shards);
        self.unsent.extend(answers);
        info!(
            "storage is back; {pending} changed sessions waited here, and everything known is stored again"
        );
        self.status.well(Part::Backend);
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
            self.unsent.push_back((shard, StorageEvent::Loaded { session, found }));
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

/// Whether a member of the session was connected when its record was printed.
fn has_members(record: &[u8]) -> bool {
    Record::parse(record).is_ok_and(|record| record.seats.iter().any(|seat| seat.member.connected))
}

/// Whether a session's change may be carried out: it has not failed alone, or for long enough.
fn may_go(ailing: &BTreeMap<SessionId, Ailment>, session: &SessionId, now: Instant) -> bool {
    // Step by step: as one chain it is compiled to a comparison that reads the time of no ailment,
    // which leak checkers take for a fault.
    let Some(ailment) = ailing.get(session) else { return true };
    ailment.retry.is_none_or(|retry| retry <= now)
}

/// What the wall clock says.
fn unix_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
