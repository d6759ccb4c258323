//! The shell of a shard's turn in the world: a clock that stands still during a turn, mail with
//! delays, the answers of the storage, and the process. Through it the oracle observes inputs and
//! outputs.

use std::collections::{BTreeMap, VecDeque};

use bandsync_driver::{
    Asker, LiveGuard, Mail, NodeOrder, Order, Process, Shell, Shutdown, Stats, Turn,
};
use bandsync_engine::engine::Engine;
use bandsync_engine::io::{
    FreeMemory, HttpRequest, HttpResponse, Input, NodeNews, Output, Outputs, Span, StorageEvent,
    StoreResult,
};
use bandsync_engine::record::Record;
use bandsync_engine::speech::Code;
use bandsync_engine::words::ids::{ConnId, SessionId, ShardId};
use bandsync_engine::words::time::Micros;

use super::coverage::Coverage;
use super::frames;
use super::model::Model;
use super::net::{SimNet, SimSocket};
use super::oracle::{Oracle, UNIX_START, Work};
use super::plan::Plan;
use super::record::RecorderCheck;
use super::rng::{Digest, SimRng};
use super::storage::{self, Answer, Storage, record_in};
use super::wire::{PendingCall, Wire};

/// Interval at which a shard receives that memory is scarce, in microseconds.
const SCARCE_INTERVAL: u64 = 1_000_000;

/// Delay before a shard posts to a full mailbox again, in microseconds.
const POST_RETRY: u64 = 1_000;

/// A shard of the world: the turn of a server, with the real engine.
pub struct Shard {
    pub turn: Turn<SimNet, Engine>,
    pub desk: ShardState,
}

/// Mail on its way to a shard.
pub struct Posted {
    pub at: u64,
    pub mail: Mail<SimSocket>,
}

/// The state of a shard around its turn.
pub struct ShardState {
    pub id: u16,
    /// The wires of the connections that the engine knows.
    pub open: BTreeMap<ConnId, usize>,
    pub post: Post,
    pub records: Records,
    pub wall_step: Option<i64>,
    /// The memory that is left, as the shard last received it, and the time of that.
    memory: (FreeMemory, u64),
    pub digest: Digest,
    /// The check of the shard's recording, if there is one.
    pub tape: Option<Box<RecorderCheck>>,
    pub stats: Stats,
    pub checks: Checks,
    /// The checks after the input under way.
    watched: Watched,
    /// Number of bytes of this turn's outputs that the oracle has seen.
    seen_bytes: usize,
    /// Wires and the bytes that this turn sends to them.
    pub sending: Vec<(usize, u64)>,
    /// Wires and the backlogs that this turn reports to the engine.
    pub backlogs: Vec<(usize, u32)>,
}

/// Connections, mail and answers on their way to a shard, and mail on its way out.
#[derive(Default)]
pub struct Post {
    /// Wires to accept, in the net's order.
    door: VecDeque<usize>,
    /// The wire that arrives from another shard.
    arriving: Option<usize>,
    outbox: VecDeque<(ShardId, Mail<SimSocket>)>,
    /// Answers that took longer than a turn.
    late: VecDeque<(ConnId, HttpResponse)>,
}

/// A shard's orders to the storage, and the storage's events.
#[derive(Default)]
pub struct Records {
    /// Events of the storage in the order of their times.
    events: Vec<Answer>,
    /// The oracle's model of the record that is being loaded.
    model: Option<Model>,
    /// The models of records that the engine wants stored.
    models: VecDeque<Option<Model>>,
}

/// The state of the checks after turns.
#[derive(Default)]
pub struct Checks {
    pub turns: u64,
    pub checked_at: u64,
    pub thoroughly: u64,
    /// Number of sessions when the drain began, if it has begun.
    pub sessions_at_drain: Option<u32>,
    /// Whether the drained shard was seen to have stored all sessions.
    pub checked_stored: bool,
    /// Pollers that must receive a goodbye in this turn, and the bytes that they receive.
    pub owed: BTreeMap<ConnId, Vec<u8>>,
}

/// The comparison to make after an input is handled.
#[derive(Default)]
enum Watched {
    #[default]
    Nothing,
    Received {
        wire: usize,
        read: usize,
        recoveries: u64,
    },
    Closed {
        wire: usize,
    },
    Backlog {
        conn: ConnId,
        bytes: u32,
    },
    Loaded {
        session: SessionId,
        model: Option<Box<(Model, Record)>>,
        made: bool,
    },
    Outdated {
        session: SessionId,
        epoch: u64,
    },
    Memory {
        memory: FreeMemory,
        here: Vec<SessionId>,
    },
    Drain {
        connected: Vec<usize>,
    },
}

impl Shard {
    /// Adds the counters of this life to the situations seen.
    pub fn sum_up(&self, seen: &mut Coverage) {
        let counters = self.turn.machine().counters();
        for (code, count) in Code::ALL.iter().zip(counters.refusals_by_code) {
            seen.add(format!("rejected: {}", code.as_str()), count);
        }
        seen.add("memory: sessions let go", counters.sessions_shed);
        seen.add("memory: bytes for lost members let go", counters.recovery_bytes_shed);
        seen.add("driver: a tick is left out", self.desk.stats.volatile_dropped.get());
    }
}

impl ShardState {
    pub fn new(id: u16) -> Self {
        Self {
            id,
            open: BTreeMap::new(),
            post: Post::default(),
            records: Records::default(),
            wall_step: None,
            memory: (FreeMemory::Enough, 0),
            digest: Digest::default(),
            tape: None,
            stats: Stats::default(),
            checks: Checks::default(),
            watched: Watched::Nothing,
            seen_bytes: 0,
            sending: Vec::new(),
            backlogs: Vec::new(),
        }
    }

    /// Adds a wire that waits at the listener.
    pub fn knock(&mut self, wire: usize) {
        self.post.door.push_back(wire);
    }

    /// Announces that the storage is available again, after its earlier events.
    pub fn hear_of_return(&mut self, now: u64) {
        self.records.events.iter_mut().for_each(|answer| answer.at = answer.at.min(now));
        self.receive(Answer { at: now, event: StorageEvent::Returned, model: None });
    }

    /// Adds an event of the storage.
    pub fn receive(&mut self, answer: Answer) {
        let index = self.records.events.partition_point(|other| other.at <= answer.at);
        self.records.events.insert(index, answer);
    }

    /// Returns the number of pieces of mail that wait for room in other mailboxes, and of
    /// connections among them.
    pub fn unposted(&self) -> (usize, usize) {
        let moving = self.post.outbox.iter().filter(|(_, mail)| matches!(mail, Mail::HandOver(_)));
        (self.post.outbox.len(), moving.count())
    }

    /// Returns the time at which something of the shell is due.
    pub fn next_deadline(&self, now: u64) -> Option<u64> {
        let all = [
            self.records.events.first().map(|answer| answer.at),
            (!self.post.outbox.is_empty()).then_some(now + POST_RETRY),
            (!self.post.late.is_empty()).then_some(now + 1),
            (self.memory.0 != FreeMemory::Enough).then_some(self.memory.1 + SCARCE_INTERVAL),
        ];
        all.into_iter().flatten().min()
    }
}

/// The shell of one turn, which borrows from the world.
pub struct SimShell<'w> {
    pub now: u64,
    pub plan: &'w Plan,
    pub calm: bool,
    pub memory: FreeMemory,
    pub shutdown: &'w Shutdown,
    pub desk: &'w mut ShardState,
    pub mailboxes: &'w mut [VecDeque<Posted>],
    pub wires: &'w mut [Wire],
    pub oracle: &'w mut Oracle,
    pub storage: &'w mut Option<Storage>,
    /// Turns of other shards that must be scheduled.
    pub wakes: &'w mut Vec<(u16, u64)>,
    pub handed_over: &'w mut u64,
    pub luck: &'w mut SimRng,
    pub to: &'w mut Vec<usize>,
}

impl SimShell<'_> {
    fn shard(&self) -> usize {
        usize::from(self.desk.id)
    }

    /// Checks new outputs, and passes them to the oracle.
    fn watch(&mut self, out: &Outputs, from: usize) {
        let mut to = std::mem::take(self.to);
        for output in &out.list[from..] {
            to.clear();
            match output {
                Output::Send { to: id, bytes } => {
                    self.desk.digest.add(1 + u64::from(id.index));
                    let bytes = &out.bytes[bytes.range()];
                    self.note_goodbye(*id, bytes);
                    self.owe(*id, bytes.len());
                    to.extend(self.listener(*id));
                    if !to.is_empty() {
                        self.oracle.sent(self.now, bytes, false, &to, self.wires);
                    }
                }
                Output::Fanout { to: ids, bytes, volatile } => {
                    for id in &out.receivers[ids.range()] {
                        self.desk.digest.add(2 + u64::from(id.index));
                        self.note_goodbye(*id, &out.bytes[bytes.range()]);
                        self.owe(*id, if *volatile { 0 } else { bytes.range().len() });
                        to.extend(self.listener(*id));
                    }
                    if !to.is_empty() {
                        let bytes = &out.bytes[bytes.range()];
                        self.oracle.sent(self.now, bytes, *volatile, &to, self.wires);
                    }
                }
                Output::Close { conn, .. } => {
                    self.desk.digest.add(3 + u64::from(conn.index));
                    if let Some(wire) = self.desk.open.remove(conn) {
                        self.oracle.lost(self.now, &mut self.wires[wire]);
                    }
                }
                Output::HandOver { conn, .. } => {
                    self.desk.digest.add(4 + u64::from(conn.index));
                    self.forget_goodbye(*conn);
                    if let Some(wire) = self.desk.open.remove(conn)
                        && let Some(seat) = self.wires[wire].seat
                    {
                        self.oracle.leave(self.now, &mut self.wires[wire], seat, true);
                    }
                }
                Output::ShardMessage { to, .. } => self.desk.digest.add(9 + u64::from(to.0)),
                Output::Request { .. } => self.desk.digest.add(5),
                Output::Load { session } => {
                    self.desk.digest.add(6);
                    if session.shard(self.plan.shape.shards).0 != self.desk.id {
                        let what = format!("shard {} asks for {session:?}", self.desk.id);
                        self.oracle.journal.fail(self.now, "I2 one owner", what);
                    }
                }
                Output::Store { session, epoch, version, .. } => {
                    self.desk.digest.add(7 + version);
                    let model = self.oracle.model_of(session, (*epoch, *version));
                    self.desk.records.models.push_back(model);
                }
                Output::Forget { .. } => self.desk.digest.add(8),
                Output::Claim { .. }
                | Output::Commit { .. }
                | Output::Publish { .. }
                | Output::Announce { .. }
                | Output::Noted { .. }
                | Output::Release { .. } => unreachable!("the simulated server is alone"),
            }
        }
        *self.to = to;
    }

    /// Notes bytes that the driver must send to a connection, and may not drop.
    fn owe(&mut self, id: ConnId, count: usize) {
        if let Some(wire) = self.desk.open.get(&id).filter(|_| count > 0) {
            self.desk.sending.push((*wire, count as u64));
        }
    }

    /// Returns the wire of a connection, if the oracle observes it.
    fn listener(&self, id: ConnId) -> Option<usize> {
        let wire = *self.desk.open.get(&id)?;
        self.wires[wire].poller.is_none().then_some(wire)
    }

    /// Notes bytes that a poller receives in the turn in which the server says goodbye. If its
    /// request was answered before that, no goodbye is owed.
    fn note_goodbye(&mut self, id: ConnId, bytes: &[u8]) {
        if self.oracle.server.drained[usize::from(self.desk.id)] {
            if let Some(received) = self.desk.checks.owed.get_mut(&id) {
                received.extend_from_slice(bytes);
            }
        } else {
            self.desk.checks.owed.remove(&id);
        }
    }

    fn forget_goodbye(&mut self, id: ConnId) {
        if !self.oracle.server.drained[self.shard()] {
            self.desk.checks.owed.remove(&id);
        }
    }

    /// Checks that the work that one read of one client causes is bounded.
    fn weigh(&mut self, out: &Outputs, from: usize, read: usize, again: bool) {
        let starts = |bytes: Span| out.bytes.get(bytes.start as usize);
        let pong = |output: &&Output| match output {
            Output::Send { bytes, .. } => starts(*bytes) == Some(&frames::PONG),
            _ => false,
        };
        let needless = |output: &&Output| match output {
            Output::Send { bytes, .. } => frames::is_superseded(&out.bytes[bytes.range()]),
            _ => false,
        };
        let work = Work {
            read,
            again: if again { self.plan.shape.memory_max as usize } else { 0 },
            outputs: out.list.len() - from,
            bytes: out.bytes.len() - self.desk.seen_bytes,
            pongs: out.list[from..].iter().filter(pong).count(),
            needless: out.list[from..].iter().filter(needless).count(),
        };
        self.oracle.worked(self.now, &work);
    }

    /// Notes that a connection is on this shard now.
    fn enter_wire(&mut self, conn: ConnId, wire: Option<usize>) {
        let Some(wire) = wire else { panic!("{conn} comes on no wire") };
        self.wires[wire].shard = self.desk.id;
        let before = self.desk.open.insert(conn, wire);
        assert_eq!(before, None, "{conn} is there already");
    }

    /// Returns the comparison to make after this input is handled.
    fn before(&mut self, input: &Input<'_>, engine: &Engine) -> Watched {
        let now = self.now;
        match input {
            Input::Opened { conn, .. } => {
                let wire = self.desk.post.door.pop_front();
                self.enter_wire(*conn, wire);
            }
            Input::Arrived { conn, .. } => {
                let wire = self.desk.post.arriving.take();
                self.enter_wire(*conn, wire);
            }
            Input::Received { conn, bytes } => {
                let Some(wire) = self.desk.open.get(conn).copied() else {
                    panic!("{conn} speaks, and is not there");
                };
                let one = &mut self.wires[wire];
                one.read_up += bytes.len() as u64;
                let end = one.read_up;
                let came = |ask: &&mut PendingCall| ask.came.is_none() && ask.end <= end;
                one.asks.iter_mut().filter(came).for_each(|ask| ask.came = Some(now));
                let recoveries = engine.counters().recoveries;
                return Watched::Received { wire, read: bytes.len(), recoveries };
            }
            Input::Closed { conn, .. } => {
                self.forget_goodbye(*conn);
                let wire = self.desk.open.remove(conn);
                return wire.map_or(Watched::Nothing, |wire| Watched::Closed { wire });
            }
            Input::Backlog { conn, bytes } => {
                self.oracle.journal.saw(if *bytes > 0 {
                    "driver: a backlog is reported"
                } else {
                    "driver: a backlog is gone"
                });
                let wire = self.desk.open.get(conn).copied();
                self.desk.backlogs.extend(wire.map(|wire| (wire, *bytes)));
                return Watched::Backlog { conn: *conn, bytes: *bytes };
            }
            Input::Storage { event } => return self.before_event(event, engine),
            Input::WallClock { started_unix_ms } => {
                self.oracle.server.walls[usize::from(self.desk.id)] = started_unix_ms - UNIX_START;
            }
            Input::Memory(memory) => {
                let id = self.desk.id;
                self.oracle.server.full[usize::from(id)] = *memory == FreeMemory::Out;
                let here = self.oracle.sessions.iter().filter(|oracle| oracle.home == id);
                let here = here.map(|oracle| &oracle.name);
                let here = here.filter(|name| engine.session(name).is_some()).cloned().collect();
                return Watched::Memory { memory: *memory, here };
            }
            Input::Drain => {
                let connected = |wire: &&usize| {
                    let wire = &self.wires[**wire];
                    wire.seat.is_some() || !wire.sid.is_empty() && !wire.ended
                };
                let connected = self.desk.open.values().filter(connected).copied().collect();
                self.oracle.server.drained[usize::from(self.desk.id)] = true;
                self.desk.checks.sessions_at_drain = Some(engine.counters().sessions);
                return Watched::Drain { connected };
            }
            Input::TurnEnded => self.oracle.before_timers(now, self.desk.id),
            Input::ShardMessage { .. } | Input::Responded { .. } | Input::Node { .. } => {}
        }
        Watched::Nothing
    }

    fn before_event(&mut self, event: &StorageEvent, engine: &Engine) -> Watched {
        let model = self.desk.records.model.take();
        match event {
            StorageEvent::Loaded { session, found } => {
                let made = engine.session(session).is_none();
                let model = model.zip(record_in(found)).map(Box::new);
                Watched::Loaded { session: session.clone(), model, made }
            }
            StorageEvent::Stored { session, outcome: StoreResult::Outdated { epoch }, .. } => {
                self.oracle.journal.saw("storage: has a newer record");
                Watched::Outdated { session: session.clone(), epoch: *epoch }
            }
            _ => Watched::Nothing,
        }
    }

    /// Makes the comparison after an input, when the oracle has seen all its outputs.
    fn after(&mut self, watched: Watched, engine: &Engine) {
        let now = self.now;
        match watched {
            Watched::Received { wire, .. } => {
                // A disconnect has no answer. The read ends with it, so the oracle learns of it
                // now.
                let one = &mut self.wires[wire];
                if one.marks.front().is_some_and(|mark| *mark <= one.read_up) {
                    one.marks.pop_front();
                    if let Some(seat) = one.seat {
                        self.oracle.leave(now, one, seat, false);
                    }
                }
            }
            Watched::Closed { wire } => self.oracle.lost(now, &mut self.wires[wire]),
            Watched::Backlog { conn, bytes } => {
                let most = self.plan.shape.backlog_max + self.plan.shape.driver.mark;
                if bytes > most && self.desk.open.contains_key(&conn) {
                    let what = format!("{bytes} bytes wait for one reader");
                    self.oracle.journal.fail(now, "I10 queues are bounded", what);
                }
            }
            Watched::Outdated { session, epoch } => self.oracle.outdone(now, &session, epoch),
            Watched::Memory { memory: FreeMemory::Enough, .. } => {}
            Watched::Memory { memory, here } => {
                self.oracle.journal.saw(if memory == FreeMemory::Low {
                    "memory: little"
                } else {
                    "memory: none"
                });
                let gone = |name: &SessionId| engine.session(name).is_none();
                let gone: Vec<_> = here.into_iter().filter(gone).collect();
                self.oracle.scarce(now, self.desk.id, memory, &gone, self.storage.as_ref());
            }
            Watched::Drain { connected } => {
                let missed = connected.into_iter().find(|wire| !self.wires[*wire].dismissed);
                if let Some(wire) = missed {
                    let what = format!("{} received no goodbye", self.wires[wire].sid);
                    self.oracle.journal.fail(now, "I20 goodbyes", what);
                }
            }
            Watched::Loaded { .. } | Watched::Nothing => {}
        }
    }

    /// Passes a record to the storage, after checking that it names its session and version.
    fn keep(&mut self, order: storage::StoreOrder) {
        let record = Record::parse(&order.bytes);
        let says = record
            .as_ref()
            .map(|record| (&record.session, record.timeline.epoch, record.timeline.version));
        if says != Ok((&order.session, order.epoch, order.version)) {
            let what = format!(
                "{:?} {} {} is stored as {says:?}",
                order.session, order.epoch, order.version
            );
            self.oracle.journal.fail(self.now, "I6 what is stored", what);
        }
        let shard = self.desk.id;
        let storage = self.storage.as_mut();
        if let Some(answer) = storage.and_then(|storage| storage.store(self.now, shard, order)) {
            self.desk.receive(answer);
        }
    }
}

impl Shell<SimNet, Engine> for SimShell<'_> {
    fn nanos(&mut self) -> u64 {
        self.now * 1_000
    }

    fn stats(&self) -> &Stats {
        &self.desk.stats
    }

    fn input(&mut self, at: Micros, input: &Input<'_>, engine: &Engine) {
        if let Some(tape) = &mut self.desk.tape
            && let Err(what) = tape.input(at.as_micros(), input)
        {
            self.oracle.journal.fail(self.now, "I23 recording", what);
        }
        self.desk.watched = self.before(input, engine);
    }

    fn outputs(&mut self, outputs: &Outputs, from: usize, engine: &Engine) {
        if from == 0 {
            self.desk.seen_bytes = 0;
        }
        let mut watched = std::mem::take(&mut self.desk.watched);
        match &mut watched {
            Watched::Received { read, recoveries, .. } => {
                let again = engine.counters().recoveries > *recoveries;
                self.weigh(outputs, from, *read, again);
            }
            Watched::Loaded { session, model, made: true } => {
                if let Some(real) = engine.session(session) {
                    let model = model.take().map(|both| *both);
                    self.oracle.opened(self.now, session, real.epoch(), model);
                }
            }
            _ => {}
        }
        self.watch(outputs, from);
        self.desk.digest.add_bytes(&outputs.bytes[self.desk.seen_bytes..]);
        self.desk.seen_bytes = outputs.bytes.len();
        self.after(watched, engine);
    }

    fn measured(&mut self, _: u64) {}

    fn enter(&mut self) -> LiveGuard {
        self.shutdown.enter()
    }

    fn report_mailbox(&mut self) {}

    fn open_mailbox(&mut self, most: usize, mut open: impl FnMut(&mut Self) -> bool) {
        for _ in 0..most {
            if !open(self) {
                return;
            }
        }
    }

    fn mail(&mut self) -> Option<Mail<SimSocket>> {
        let mailbox = &mut self.mailboxes[usize::from(self.desk.id)];
        let mail = mailbox.pop_front_if(|posted| posted.at <= self.now)?.mail;
        if let Mail::HandOver(hand_over) = &mail {
            self.desk.post.arriving = Some(hand_over.socket.0);
        }
        Some(mail)
    }

    fn storage(&mut self) -> Option<StorageEvent> {
        if self.desk.records.events.first()?.at > self.now {
            return None;
        }
        let Answer { event, model, .. } = self.desk.records.events.remove(0);
        self.desk.records.model = model;
        Some(event)
    }

    fn node(&mut self) -> Option<NodeNews> {
        None
    }

    fn late_answer(&mut self) -> Option<(ConnId, HttpResponse)> {
        self.desk.post.late.pop_front()
    }

    fn post(&mut self, to: ShardId, mail: Mail<SimSocket>) {
        if let Mail::HandOver(hand_over) = &mail {
            let some = u64::from(!hand_over.unsent.is_empty());
            self.oracle.journal.seen.add("driver: unsent bytes move with a connection", some);
            *self.handed_over += 1;
        }
        self.desk.post.outbox.push_back((to, mail));
    }

    fn deliver(&mut self) {
        let driver = &self.plan.shape.driver;
        // Some worlds have small mailboxes.
        let small = self.plan.seed.is_multiple_of(4) && !self.calm;
        let room = if small { 2 } else { usize::MAX };
        for _ in 0..self.desk.post.outbox.len() {
            let Some((to, mail)) = self.desk.post.outbox.pop_front() else { return };
            let mailbox = &mut self.mailboxes[usize::from(to.0)];
            if mailbox.len() >= room {
                self.oracle.journal.saw("driver: mail waits for room");
                self.desk.post.outbox.push_back((to, mail));
                continue;
            }
            let delay = if self.calm { 20 } else { 1 + self.luck.below(driver.mail) };
            let at = (self.now + delay).max(mailbox.back().map_or(0, |last| last.at));
            mailbox.push_back(Posted { at, mail });
            self.wakes.push((to.0, at));
        }
    }

    fn unposted(&self) -> usize {
        self.desk.post.outbox.len()
    }

    fn process(&mut self, now: Micros) -> Process {
        let now = now.as_micros();
        let desk = &mut *self.desk;
        let again = self.memory != FreeMemory::Enough && now >= desk.memory.1 + SCARCE_INTERVAL;
        let memory = (self.memory != desk.memory.0 || again).then_some(self.memory);
        if let Some(memory) = memory {
            desk.memory = (memory, now);
        }
        Process {
            started_unix_ms: desk.wall_step.take().map(|by| UNIX_START + by),
            memory,
            drain: self.shutdown.until().is_some(),
        }
    }

    fn trim(&mut self) {}

    fn stopped(&mut self) {
        self.shutdown.stopped(ShardId(self.desk.id));
    }

    fn answer(&mut self, asker: Asker, _: &HttpRequest) -> Option<HttpResponse> {
        let page = HttpResponse { status: 200, headers: Vec::new(), body: b"ok".as_slice().into() };
        if self.luck.one_in(2) {
            return Some(page);
        }
        self.oracle.journal.saw("driver: an answer takes longer than a turn");
        self.desk.post.late.push_back((asker.conn, page));
        None
    }

    /// The simulated server is alone.
    fn tell_nodes(&mut self, _: NodeOrder<'_>) -> bool {
        false
    }

    fn store(&mut self, order: Order<'_>) -> bool {
        let (now, shard) = (self.now, self.desk.id);
        match order {
            Order::Load(session) => {
                let answer = self.storage.as_mut().map(|storage| storage.load(now, session));
                answer.map(|answer| self.desk.receive(answer)).is_some()
            }
            Order::Store { session, epoch, version, record } => {
                let model = self.desk.records.models.pop_front().flatten();
                let (session, bytes) = (session.clone(), record.to_vec());
                let last = self.oracle.server.drained[usize::from(shard)];
                self.keep(storage::StoreOrder { session, epoch, version, bytes, model, last });
                true
            }
            Order::Forget { session, epoch } => {
                if let Some(storage) = self.storage {
                    storage.forget(session, epoch);
                }
                true
            }
        }
    }
}
