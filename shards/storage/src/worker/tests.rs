//! The worker without its thread: requests, outcomes, failures and time in any order, with a
//! scripted backend and shards that behave like real ones.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bandsync_engine::record::Seat;
use bandsync_engine::session::{Rules, Session};
use bandsync_engine::speech::{Member, Role};
use bandsync_engine::words::ids::MemberId;
use bandsync_engine::words::time::{Micros, Moment, UnixMillis};
use parking_lot::{Mutex, MutexGuard};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::Target;
use crate::waiting::{Waiting, Weight};

const SESSIONS: usize = 4;
const SHARDS: u16 = 2;
const DESERTED: u64 = 1_000_000;
const WAIT: Duration = Duration::from_millis(500);
const TTL: Duration = Duration::from_secs(3_600);

fn name(session: usize) -> SessionId {
    SessionId::parse(&format!("s{session}")).unwrap()
}

fn shard_of(session: usize) -> ShardId {
    ShardId((session % usize::from(SHARDS)) as u16)
}

/// A valid record, of any relevant size.
fn record(session: &SessionId, epoch: u64, version: u64) -> Box<[u8]> {
    let rules = Arc::new(Rules {
        members_max: 8,
        leader_grace: Micros::ZERO,
        claim_window: Micros::ZERO,
        members_listed_max: 8,
        secret_chars_min: 0,
    });
    let now = Moment { at: Micros::from_secs(1), unix: UnixMillis(1_800_000_000_000) };
    let mut record = Session::new(session.clone(), &rules, epoch, now).record();
    record.timeline.version = version;
    // A session with this version has no connected member.
    let member = Member {
        id: MemberId::from_bytes([1; 15]),
        display_name: "Ann".into(),
        role: Role::Follower,
        joined_at: now.unix,
        last_ping_at: now.unix,
        instrument: None,
        connected: version != DESERTED,
        may_edit: false,
    };
    record.seats.push(Seat {
        member,
        tick_hz: None,
        metronome: false,
        knows_pin: false,
        latency_ms: 0,
    });
    let mut bytes = Vec::new();
    record.print(&mut bytes);
    bytes.into()
}

/// The behaviour of the backend at the next change.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The call fails and changes nothing.
    Before,
    /// The change is stored, and then the answer is lost.
    After,
    /// Every second change is stored.
    Half,
    Panic,
}

/// The behaviour of the backend for one session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Odd {
    /// Its answers make no sense.
    Answers,
    /// Its stored data makes no sense, until it is set aside.
    Record,
    /// Its stored data makes no sense, even after it was set aside.
    Stuck,
}

/// The backend as the test controls it.
struct World {
    odd: BTreeMap<SessionId, Odd>,
    /// Times that a session was set aside.
    asides: u32,
    announced: Vec<SessionId>,
    now: Instant,
    is_up: bool,
    fault: Option<Fault>,
    /// Duration of each call.
    slow: Duration,
    records: BTreeMap<SessionId, (u64, u64, Box<[u8]>)>,
    aside: BTreeMap<SessionId, Box<[u8]>>,
    /// Number of times that the backend has lost its records.
    losses: u32,
    /// The value of `losses` when a state was written.
    written: BTreeMap<(SessionId, u64, u64), u32>,
    /// Whether the next check reports a loss.
    is_lost: bool,
    connects: Vec<Instant>,
    puts: u64,
    room: usize,
    mail: VecDeque<(ShardId, StorageEvent)>,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(World {
            odd: BTreeMap::new(),
            asides: 0,
            announced: Vec::new(),
            now: Instant::now(),
            is_up: true,
            fault: None,
            slow: Duration::ZERO,
            records: BTreeMap::new(),
            aside: BTreeMap::new(),
            losses: 0,
            written: BTreeMap::new(),
            is_lost: false,
            connects: Vec::new(),
            puts: 0,
            room: usize::MAX,
            mail: VecDeque::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock()
    }

    fn worker(&self) -> Worker {
        let plan = Plan { target: Target::Memory, ttl: TTL, wait: WAIT };
        let (clock, mut random) = (self.clone(), 0_u64);
        let random = move || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            random >> 33
        };
        let status = Arc::new(Status::new("test"));
        let clock = Box::new(move || clock.lock().now);
        let mut worker = Worker::with(
            Box::new(self.clone()),
            &plan,
            status,
            Arc::default(),
            clock,
            Box::new(random),
        );
        worker.open().unwrap();
        worker.listens = true;
        worker
    }

    fn call(&self) -> Result<(), Failure> {
        let mut world = self.lock();
        let slow = world.slow;
        world.now += slow;
        if world.is_up { Ok(()) } else { Err(down()) }
    }
}

fn odd() -> Failure {
    Failure::Session("it makes no sense".into())
}

fn down() -> Failure {
    Failure::Unavailable("it is down".into())
}

impl Backend for Shared {
    fn connect(&mut self) -> Result<(), Failure> {
        let now = self.lock().now;
        self.lock().connects.push(now);
        self.call()?;
        self.lock().is_lost = false;
        Ok(())
    }

    fn load(&mut self, session: &SessionId) -> Result<Option<Box<[u8]>>, Failure> {
        self.call()?;
        let world = self.lock();
        match world.odd.get(session) {
            Some(Odd::Answers) => Err(odd()),
            Some(Odd::Record | Odd::Stuck) => Ok(Some(Box::default())),
            None => Ok(world.records.get(session).map(|(_, _, record)| record.clone())),
        }
    }

    fn apply(&mut self, changes: &[(SessionId, Change)]) -> Vec<Result<Applied, Failure>> {
        if let Err(failure) = self.call() {
            return changes.iter().map(|_| Err(failure.clone())).collect();
        }
        let mut world = self.lock();
        let fault = world.fault.take();
        let mut results = Vec::new();
        for (index, (session, change)) in changes.iter().enumerate() {
            if matches!(fault, Some(Fault::Before))
                || matches!(fault, Some(Fault::Half)) && index % 2 == 0
            {
                results.push(Err(down()));
                continue;
            }
            match world.odd.get(session) {
                Some(Odd::Answers) => {
                    results.push(Err(odd()));
                    continue;
                }
                Some(Odd::Record | Odd::Stuck) => {
                    results.push(Ok(Applied::Senseless));
                    continue;
                }
                None => {}
            }
            let there = world.records.get(session).map(|(epoch, version, _)| (*epoch, *version));
            let result = match change {
                Change::Put { epoch, version, .. } if there > Some((*epoch, *version)) => {
                    Ok(Applied::Outdated { epoch: there.unwrap().0 })
                }
                Change::Put { epoch, version, record } => {
                    world.puts += 1;
                    let losses = world.losses;
                    world.written.insert((session.clone(), *epoch, *version), losses);
                    world.records.insert(session.clone(), (*epoch, *version, record[..].into()));
                    Ok(Applied::Done)
                }
                Change::Delete { epoch } if there.is_some_and(|there| there.0 > *epoch) => {
                    Ok(Applied::Outdated { epoch: there.unwrap().0 })
                }
                Change::Delete { .. } => {
                    world.records.remove(session);
                    Ok(Applied::Done)
                }
            };
            results.push(if matches!(fault, Some(Fault::After)) { Err(down()) } else { result });
        }
        assert!(!matches!(fault, Some(Fault::Panic)), "the panic that was asked for");
        results
    }

    fn refresh(&mut self, sessions: &[SessionId]) -> Result<bool, Failure> {
        self.call()?;
        let world = self.lock();
        Ok(sessions.iter().all(|session| world.records.contains_key(session)))
    }

    fn check(&mut self) -> Result<bool, Failure> {
        self.call()?;
        Ok(!std::mem::take(&mut self.lock().is_lost))
    }

    fn expire(&mut self) -> Result<(), Failure> {
        self.call()
    }

    fn set_aside(&mut self, session: &SessionId, how: Aside) -> Result<(), Failure> {
        self.call()?;
        let mut world = self.lock();
        world.asides += 1;
        match world.odd.get(session) {
            Some(Odd::Answers) => return Err(odd()),
            Some(Odd::Record) => {
                world.odd.remove(session);
            }
            Some(Odd::Stuck) | None => {}
        }
        if let Some((_, _, record)) = world.records.get(session).cloned() {
            world.aside.insert(session.clone(), record);
        }
        if how == Aside::Move && !world.odd.contains_key(session) {
            world.records.remove(session);
        }
        Ok(())
    }

    fn announce(&mut self, kept: &[Foreign]) {
        self.lock().announced.extend(kept.iter().map(|kept| kept.session.clone()));
    }

    fn add_points(&mut self, _at: i64, _points: &[Point], _oldest: i64) -> Result<(), Failure> {
        self.call()
    }

    fn points(&mut self, _since: i64) -> Result<Vec<(i64, Point)>, Failure> {
        self.call().map(|()| Vec::new())
    }
}

impl Shards for Shared {
    fn count(&self) -> u16 {
        SHARDS
    }

    fn send(&self, shard: ShardId, event: StorageEvent) -> Result<(), StorageEvent> {
        let mut world = self.lock();
        if world.mail.len() >= world.room {
            return Err(event);
        }
        world.mail.push_back((shard, event));
        Ok(())
    }
}

/// A session in its shard, which offers one record at a time.
#[derive(Clone, Debug)]
struct Known {
    epoch: u64,
    version: u64,
    stored: Option<(u64, u64)>,
    offered: Option<(u64, u64)>,
    exists: bool,
    loads: u32,
    /// Records that were offered and not answered.
    unanswered: u32,
    /// The confirmed state, and the value of `losses` when it was written.
    confirmed: Option<((u64, u64), u32)>,
}

struct Band {
    shared: Shared,
    worker: Worker,
    sessions: Vec<Known>,
    weight: Weight,
}

impl Band {
    fn new() -> Self {
        let shared = Shared::new();
        let worker = shared.worker();
        let known = Known {
            epoch: 1,
            version: 0,
            stored: None,
            offered: None,
            exists: false,
            loads: 0,
            unanswered: 0,
            confirmed: None,
        };
        Self { shared, worker, sessions: vec![known; SESSIONS], weight: Weight::default() }
    }

    fn offer(&mut self, session: usize) {
        let known = &mut self.sessions[session];
        let newest = (known.epoch, known.version);
        if known.exists && known.offered.is_none() && known.stored != Some(newest) {
            self.offer_now(session);
        }
    }

    /// Offers the newest record, even if one is pending, as at the end of the server.
    fn offer_now(&mut self, session: usize) {
        let known = &mut self.sessions[session];
        if known.exists {
            let newest = (known.epoch, known.version);
            known.offered = Some(newest);
            known.unanswered += 1;
            let (epoch, version) = newest;
            let change = Change::Put {
                epoch,
                version,
                record: Waiting::new(record(&name(session), epoch, version), &self.weight),
            };
            self.worker.accept(StorageRequest::Change {
                shard: shard_of(session),
                session: name(session),
                change,
            });
        }
    }

    fn change(&mut self, session: usize) {
        let known = &mut self.sessions[session];
        known.exists = true;
        known.version += 1;
        self.offer(session);
    }

    fn forget(&mut self, session: usize) {
        let known = &mut self.sessions[session];
        if known.exists {
            let epoch = known.epoch;
            *known = Known {
                epoch: epoch + 1,
                version: 0,
                exists: false,
                stored: None,
                offered: None,
                confirmed: None,
                ..known.clone()
            };
            let change = Change::Delete { epoch };
            self.worker.accept(StorageRequest::Change {
                shard: shard_of(session),
                session: name(session),
                change,
            });
        }
    }

    fn load(&mut self, session: usize) {
        self.sessions[session].loads += 1;
        let since = self.shared.lock().now;
        self.worker.accept(StorageRequest::Load {
            shard: shard_of(session),
            session: name(session),
            since,
        });
    }

    /// Runs one round of the worker, after which the shards read their mail.
    fn turn(&mut self) {
        let shared = self.shared.clone();
        self.worker.turn(&shared);
        let mail = std::mem::take(&mut self.shared.lock().mail);
        for (shard, event) in mail {
            self.hear(shard, event);
        }
    }

    fn hear(&mut self, shard: ShardId, event: StorageEvent) {
        let place = |session: &SessionId| session.as_str()[1..].parse::<usize>().unwrap();
        match event {
            StorageEvent::Loaded { session, .. } => self.sessions[place(&session)].loads -= 1,
            StorageEvent::Stored { session, epoch, version, outcome } => {
                let losses =
                    self.shared.lock().written.get(&(session.clone(), epoch, version)).copied();
                let session = place(&session);
                let known = &mut self.sessions[session];
                known.unanswered -= 1;
                if known.offered == Some((epoch, version)) {
                    known.offered = None;
                }
                match outcome {
                    StoreResult::Stored if known.exists && epoch == known.epoch => {
                        known.stored = Some((epoch, version));
                        known.confirmed = Some(((epoch, version), losses.unwrap()));
                    }
                    StoreResult::Outdated { epoch: other } if known.exists => {
                        known.epoch = known.epoch.max(other + 1)
                    }
                    StoreResult::Stored | StoreResult::Rejected | StoreResult::Outdated { .. } => {}
                }
                self.offer(session);
            }
            StorageEvent::Returned => {
                for session in 0..SESSIONS {
                    if shard_of(session) == shard {
                        self.sessions[session].stored = None;
                        self.offer(session);
                    }
                }
            }
        }
    }

    /// Checks that confirmed states are stored, unless the backend itself has lost them.
    fn check_confirmed(&self) {
        let world = self.shared.lock();
        for (session, known) in self.sessions.iter().enumerate() {
            if let Some((confirmed, losses)) = known.confirmed
                && losses == world.losses
            {
                let there =
                    world.records.get(&name(session)).map(|(epoch, version, _)| (*epoch, *version));
                assert!(
                    there >= Some(confirmed),
                    "s{session}: {there:?} is there, {confirmed:?} was confirmed"
                );
            }
        }
    }

    fn pass(&self, time: Duration) {
        self.shared.lock().now += time;
    }

    /// Lets time pass without faults, in which everything must recover.
    fn calm_down(&mut self) {
        {
            let mut world = self.shared.lock();
            (world.is_up, world.fault, world.slow, world.room) =
                (true, None, Duration::ZERO, usize::MAX);
            world.odd.clear();
        }
        for _ in 0..20 {
            self.pass(Duration::from_secs(3));
            self.turn();
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Change(Index),
    Hurry(Index),
    Forget(Index),
    Load(Index),
    Turn,
    Pass(u64),
    Down,
    Up,
    Fault(Fault),
    Slow(u64),
    /// The backend loses all records, and reports it or loses its connections.
    Wipe,
    Room(usize),
    Odd(Index, Odd),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any::<Index>().prop_map(Step::Change),
        1 => any::<Index>().prop_map(Step::Hurry),
        1 => any::<Index>().prop_map(Step::Forget),
        1 => any::<Index>().prop_map(Step::Load),
        8 => Just(Step::Turn),
        3 => (1_u64..4_000).prop_map(Step::Pass),
        1 => Just(Step::Down),
        2 => Just(Step::Up),
        2 => prop_oneof![Just(Fault::Before), Just(Fault::After), Just(Fault::Half), Just(Fault::Panic)]
            .prop_map(Step::Fault),
        1 => (0_u64..900).prop_map(Step::Slow),
        1 => Just(Step::Wipe),
        1 => (0_usize..4).prop_map(Step::Room),
        1 => (any::<Index>(), prop_oneof![Just(Odd::Answers), Just(Odd::Stuck)])
            .prop_map(|(session, odd)| Step::Odd(session, odd)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever fails, and whenever: no confirmed state is lost, every request is answered, and
    /// once the faults end, the newest state of every session is stored.
    #[test]
    fn no_order_of_events_loses_a_confirmed_record(steps in vec(step(), 1..120)) {
        let mut band = Band::new();
        for step in steps {
            match step {
                Step::Change(session) => band.change(session.index(SESSIONS)),
                Step::Hurry(session) => band.offer_now(session.index(SESSIONS)),
                Step::Forget(session) => band.forget(session.index(SESSIONS)),
                Step::Load(session) => band.load(session.index(SESSIONS)),
                Step::Turn => band.turn(),
                Step::Pass(millis) => band.pass(Duration::from_millis(millis)),
                Step::Down => band.shared.lock().is_up = false,
                Step::Up => band.shared.lock().is_up = true,
                Step::Fault(fault) => band.shared.lock().fault = Some(fault),
                Step::Slow(millis) => band.shared.lock().slow = Duration::from_millis(millis),
                Step::Wipe => {
                    let mut world = band.shared.lock();
                    world.records.clear();
                    world.losses += 1;
                    world.is_lost = true;
                }
                Step::Room(room) => band.shared.lock().room = room,
                Step::Odd(session, odd) => {
                    band.shared.lock().odd.insert(name(session.index(SESSIONS)), odd);
                }
            }
            band.check_confirmed();
            prop_assert!(band.worker.pending.len() <= SESSIONS);
            prop_assert!(band.worker.alive.len() == band.worker.refreshes.len());
        }
        band.calm_down();
        band.check_confirmed();
        prop_assert_eq!(band.worker.status.condition(), crate::Condition::Healthy);
        prop_assert!(band.worker.pending.len() == 0 && band.worker.unsent.is_empty());
        prop_assert_eq!(band.weight.bytes(), 0, "records give their room back");
        let world = band.shared.lock();
        for (session, known) in band.sessions.iter().enumerate() {
            let there = world.records.get(&name(session)).map(|(epoch, version, _)| (*epoch, *version));
            prop_assert_eq!(known.loads, 0, "every load is answered");
            prop_assert_eq!((known.offered, known.unanswered), (None, 0), "every record is answered");
            if known.exists {
                prop_assert_eq!(there, Some((known.epoch, known.version)), "s{} in its newest state", session);
            } else {
                prop_assert!(there.is_none(), "s{} is forgotten", session);
            }
        }
        // Never sooner than 100 ms, never later than 5 s plus the duration of a call.
        for pair in world.connects.windows(2) {
            prop_assert!(pair[1] - pair[0] >= Duration::from_millis(100), "{:?}", pair[1] - pair[0]);
        }
    }
}

#[test]
fn frequent_changes_cause_few_writes() {
    let mut band = Band::new();
    band.change(0);
    band.shared.lock().is_up = false;
    for _ in 0..1_000 {
        band.change(0);
        band.turn();
    }
    band.calm_down();
    assert_eq!(band.sessions[0].stored, Some((1, 1_001)));
    // The pending record and the newest one. The pending one is not offered again after the return.
    assert_eq!(band.shared.lock().puts, 2);
}

#[test]
fn when_the_backend_returns_every_session_is_written_once() {
    let mut band = Band::new();
    (0..SESSIONS).for_each(|session| band.change(session));
    band.turn();
    band.shared.lock().is_up = false;
    band.change(0);
    band.turn();
    for _ in 0..10 {
        band.pass(Duration::from_secs(2));
        band.turn();
    }
    let tries = band.shared.lock().connects.len();
    assert!((4..=12).contains(&tries), "{tries} times within 20 s");
    band.shared.lock().records.clear();
    band.shared.lock().puts = 0;
    band.calm_down();
    assert_eq!(band.shared.lock().puts, SESSIONS as u64);
}

#[test]
fn an_emptied_backend_is_refilled() {
    let mut band = Band::new();
    band.change(0);
    band.turn();
    // Without an error, as by FLUSHALL.
    band.shared.lock().records.clear();
    band.shared.lock().is_lost = true;
    band.calm_down();
    assert_eq!(band.shared.lock().records.len(), 1);
    // A record that expired by mistake is noticed when it is refreshed.
    band.shared.lock().records.clear();
    band.pass(TTL / 2);
    band.calm_down();
    assert_eq!(band.shared.lock().records.len(), 1);
    assert_eq!(band.worker.status.failures.load(Ordering::Relaxed), 0);
}

#[test]
fn a_backend_that_opens_but_stores_nothing_stays_degraded() {
    let mut band = Band::new();
    band.shared.lock().fault = Some(Fault::Before);
    band.change(0);
    band.turn();
    let since = |band: &Band| match band.worker.status.condition() {
        crate::Condition::Degraded { since, .. } => since,
        crate::Condition::Healthy => panic!("it is degraded"),
    };
    let first = since(&band);
    for _ in 0..5 {
        band.shared.lock().fault = Some(Fault::Before);
        band.pass(Duration::from_secs(5));
        band.turn();
        assert_eq!(since(&band), first);
    }
    band.calm_down();
    assert_eq!(band.worker.status.condition(), crate::Condition::Healthy);
}

#[test]
fn an_unread_record_is_set_aside_before_it_is_replaced() {
    let mut band = Band::new();
    let old = record(&name(0), 0, 7);
    band.shared.lock().records.insert(name(0), (0, 7, old.clone()));
    band.shared.lock().is_up = false;
    band.change(1);
    band.turn();
    // A member that joins now gets an empty session.
    band.load(0);
    band.turn();
    assert_eq!(band.sessions[0].loads, 0);
    band.change(0);
    band.calm_down();
    assert_eq!(band.shared.lock().records[&name(0)].1, 1);
    assert_eq!(band.shared.lock().aside.get(&name(0)), Some(&old));
    assert_eq!(band.shared.lock().aside.get(&name(1)), None);
}

#[test]
fn a_load_during_an_outage_returns_the_pending_record() {
    let mut band = Band::new();
    band.shared.lock().is_up = false;
    band.change(0);
    band.turn();
    band.worker.accept(StorageRequest::Load {
        shard: ShardId(0),
        session: name(0),
        since: band.shared.lock().now,
    });
    let shared = band.shared.clone();
    band.worker.turn(&shared);
    let (_, event) = band.shared.lock().mail.pop_front().unwrap();
    assert!(
        matches!(event, StorageEvent::Loaded { found: LoadResult::Record(_), .. }),
        "{event:?}"
    );
}

#[test]
fn a_full_shard_does_not_delay_the_others() {
    struct Full(Shared);
    impl Shards for Full {
        fn count(&self) -> u16 {
            SHARDS
        }
        fn send(&self, shard: ShardId, event: StorageEvent) -> Result<(), StorageEvent> {
            if shard == ShardId(0) { Err(event) } else { self.0.send(shard, event) }
        }
    }
    let mut band = Band::new();
    band.change(0);
    band.change(1);
    let full = Full(band.shared.clone());
    band.worker.turn(&full);
    assert_eq!(band.shared.lock().mail.len(), 1);
    band.turn();
    assert_eq!(band.sessions[0].stored, Some((1, 1)));
}

#[test]
fn a_session_in_use_at_two_servers_is_reported_by_both_until_one_stops() {
    use crate::Condition;
    let mut band = Band::new();
    band.change(0);
    band.turn();
    let foreign = |session, stored| {
        StorageRequest::Foreign(Foreign { stored, session: name(session), epoch: 9, version: 1 })
    };
    let conflicts = |band: &Band| band.worker.status.conflicts.load(Ordering::Relaxed);
    let is_well = |band: &Band| band.worker.status.condition() == Condition::Healthy;
    // A session that is not kept here does not matter.
    band.worker.accept(foreign(1, true));
    band.turn();
    assert!(is_well(&band) && conflicts(&band) == 0);
    band.worker.accept(foreign(0, true));
    band.turn();
    assert!(!is_well(&band) && band.worker.status.is_up());
    assert_eq!(
        (conflicts(&band), std::mem::take(&mut band.shared.lock().announced)),
        (1, vec![name(0)]),
        "answered at once"
    );
    // While the other server announces the session, both repeat their messages.
    for _ in 0..10 {
        band.pass(ANNOUNCE_INTERVAL);
        band.worker.accept(foreign(0, false));
        band.turn();
        assert!(!is_well(&band));
        assert_eq!(std::mem::take(&mut band.shared.lock().announced), [name(0)]);
    }
    assert_eq!(conflicts(&band), 1);
    band.pass(SHARED_FOR);
    band.turn();
    assert!(is_well(&band));
    // A server that only hears the announcement must learn of the conflict too.
    band.worker.accept(foreign(0, false));
    band.turn();
    assert!(!is_well(&band) && conflicts(&band) == 2);
    // A session that its last member has left may continue on another server.
    band.sessions[0].version = DESERTED - 1;
    band.change(0);
    band.turn();
    band.turn();
    assert!(is_well(&band));
    band.worker.accept(foreign(0, true));
    band.turn();
    assert!(is_well(&band));
}

#[test]
fn an_invalid_record_is_set_aside_and_affects_no_other_session() {
    let mut band = Band::new();
    band.shared.lock().odd.insert(name(0), Odd::Record);
    (0..SESSIONS).for_each(|session| band.change(session));
    for _ in 0..3 {
        band.turn();
    }
    assert!(band.sessions.iter().all(|known| known.stored == Some((1, 1))));
    let counted = |band: &Band| {
        let status = &band.worker.status;
        (status.set_aside.load(Ordering::Relaxed), status.failures.load(Ordering::Relaxed))
    };
    assert_eq!(counted(&band), (1, 0));
    // Also if a load finds it.
    band.shared.lock().odd.insert(name(1), Odd::Record);
    band.load(1);
    band.turn();
    assert_eq!((band.sessions[1].loads, counted(&band)), (0, (2, 0)));
    // So does an epoch that nothing can exceed.
    let beyond = (Record::EPOCH_MAX, 1, record(&name(2), 1, 1));
    band.shared.lock().records.insert(name(2), beyond);
    band.change(2);
    for _ in 0..3 {
        band.turn();
    }
    assert_eq!((band.sessions[2].stored, counted(&band)), (Some((1, 2)), (3, 0)));
    assert_eq!(band.shared.lock().connects.len(), 1, "it never went away");
}

#[test]
fn a_session_that_cannot_be_stored_is_retried_with_pauses() {
    use crate::Condition;
    for odd in [Odd::Answers, Odd::Stuck] {
        let mut band = Band::new();
        band.shared.lock().odd.insert(name(0), odd);
        (0..SESSIONS).for_each(|session| band.change(session));
        for _ in 0..600 {
            band.pass(Duration::from_millis(100));
            band.change(1);
            band.turn();
        }
        band.turn();
        assert_eq!(
            (band.sessions[0].stored, band.sessions[1].stored),
            (None, Some((1, 601))),
            "{odd:?}"
        );
        assert!(band.shared.lock().asides < 60, "it does not go on all the time");
        let failures = band.worker.status.failures.load(Ordering::Relaxed);
        assert!((10..100).contains(&failures), "{failures} within a minute");
        assert!(band.worker.status.is_up() && band.worker.status.condition() != Condition::Healthy);
        band.load(0);
        band.turn();
        assert_eq!(band.sessions[0].loads, 0, "it is answered at once");
        assert_eq!(band.shared.lock().connects.len(), 1, "it never went away");
        // At the end it gets one more try, and delays nothing.
        band.worker.accept(StorageRequest::End);
        assert!(band.worker.has_work());
        band.turn();
        band.turn();
        assert!(!band.worker.has_work() || odd == Odd::Stuck);
        band.worker.ending = false;
        band.shared.lock().odd.clear();
        band.calm_down();
        assert_eq!(band.sessions[0].stored, Some((1, 1)));
        assert_eq!(band.worker.status.condition(), Condition::Healthy);
    }
}
