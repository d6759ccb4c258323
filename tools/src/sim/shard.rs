//! A shard of the world: the real engine, and a model of its driver that keeps the contract of `io`
//! and breaks it where reality may: late turns, turns without a reason, short reads and writes,
//! slow hand-overs.

use std::collections::VecDeque;

use bandsync_engine::engine::Engine;
use bandsync_engine::io::{
    Answer as Page, Cause, Close, Goodbye, Input, Memory, Outcome, Output, Outputs, Settings, Span,
    StorageNews, Transports,
};
use bandsync_engine::record::Record;
use bandsync_engine::speech::Code;
use bandsync_engine::words::application::Application;
use bandsync_engine::words::compression::Compression;
use bandsync_engine::words::ids::{ConnId, ShardId};
use bandsync_engine::words::limits::Limits;
use bandsync_engine::words::manners::Manners;
use bandsync_engine::words::origins::Origins;
use bandsync_engine::words::time::Micros;

use super::book::{LATE, STALE_AFTER, UNIX_START, Work};
use super::chance::{Chance, Digest};
use super::frames;
use super::plan::{Plan, reveals};
use super::record::Tape;
use super::seen::Seen;
use super::storage::{Answer, Order, record_in};
use super::wire::{Ask, Place};
use super::world::{Event, World, peer_of};

/// How long a peer may take to end its side after the server ended its own.
const LINGER: u64 = 2_000_000;

/// How long a closing connection may take to accept what was sent before.
const PART: u64 = 5_000_000;

/// Bounds that are met within the seconds of a world.
const IN_A_HURRY: Limits = Limits {
    head_timeout: Micros::from_secs(3),
    connect_timeout: Micros::from_secs(4),
    // Not as short as the pings are apart, or who polls would often ask on a connection that is
    // being closed.
    idle_timeout: Micros::from_secs(12),
    attachments_timeout: Micros::from_secs(1),
    stale_after: Micros::from_millis(STALE_AFTER / 1_000),
    silence_max: Micros::from_secs(20),
    inactivity_max: Micros::from_secs(6),
    recovery_shard_bytes_max: 16 * 1024,
    recovery_seats_max: 2,
    ..Limits::PRODUCTION
};

/// What one round of the engine's wheel takes.
const WHEEL_ROUND: u64 = 1 << 25;

/// How often a shard is told that memory is scarce, as long as it is.
const SCARCE_INTERVAL: u64 = 1_000_000;

/// Read from one connection in a turn.
const READ_MAX: usize = 64 * 1024;

pub struct Shard {
    pub engine: Engine,
    pub id: u16,
    slots: Vec<(u32, Option<Conn>)>,
    free: Vec<u32>,
    out: Outputs,
    sorted: usize,
    /// Wires to accept, and connections on their way here.
    pub door: Vec<usize>,
    pub mail: VecDeque<Mail>,
    ready: Vec<ConnId>,
    writable: Vec<ConnId>,
    notes: Vec<ConnId>,
    parting: Vec<ConnId>,
    leaving: Vec<(ConnId, ShardId, Span)>,
    letters: Vec<(ShardId, Span)>,
    /// Closing connections and when their time is over.
    closing: VecDeque<(u64, ConnId)>,
    touched: Vec<ConnId>,
    /// When the next turn is.
    pub turn_at: Option<u64>,
    pub frozen_until: u64,
    pub luck: Chance,
    pub wall_step: Option<i64>,
    pub digest: Digest,
    pub drain: bool,
    /// Since it drains: how many sessions there were, and whether it was seen that all are stored.
    sessions_at_drain: Option<u32>,
    checked_stored: bool,
    /// Who polls and has to hear of the end in this turn.
    owed: Vec<ConnId>,
    /// What it knows of the memory that is left, and when it was told.
    memory: Memory,
    memory_at: u64,
    /// What a recorder would write.
    pub tape: Option<Box<Tape>>,
    turns: u64,
    checked_at: u64,
    thoroughly: u64,
    /// When a turn last came so late that what clients did in time was seen too late.
    pub late_at: u64,
    /// What the storage has to say, in order of time.
    news: Vec<Answer>,
}

/// What comes from another shard, and when.
pub struct Mail {
    pub at: u64,
    what: Sent,
}

enum Sent {
    Letter(Vec<u8>),
    Crossing(Crossing),
}

/// A connection on its way to another shard.
struct Crossing {
    wire: usize,
    unsent: Vec<u8>,
    parcel: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Open,
    Leaving,
    Parting,
    Lingering,
}

struct Conn {
    wire: usize,
    phase: Phase,
    chunks: Vec<(Span, bool)>,
    unsent: Vec<u8>,
    told: usize,
    noted: bool,
    ready: bool,
    ended: bool,
}

impl Shard {
    pub fn new(plan: &Plan, id: u16) -> Self {
        Self {
            engine: Engine::new(settings(plan, id, 0, 0)),
            id,
            slots: Vec::new(),
            free: Vec::new(),
            out: Outputs::default(),
            sorted: 0,
            door: Vec::new(),
            mail: VecDeque::new(),
            ready: Vec::new(),
            writable: Vec::new(),
            notes: Vec::new(),
            parting: Vec::new(),
            leaving: Vec::new(),
            letters: Vec::new(),
            closing: VecDeque::new(),
            touched: Vec::new(),
            turn_at: None,
            frozen_until: 0,
            luck: Chance::new(plan.seed, 100 + u64::from(id)),
            wall_step: None,
            digest: Digest::default(),
            drain: false,
            sessions_at_drain: None,
            checked_stored: false,
            owed: Vec::new(),
            memory: Memory::Enough,
            memory_at: 0,
            tape: None,
            turns: 0,
            checked_at: 0,
            thoroughly: 0,
            late_at: 0,
            news: Vec::new(),
        }
    }

    /// Its server died and is there again, for the `life`th time; the wall clock is off by `wall`
    /// milliseconds.
    pub fn restart(&mut self, plan: &Plan, life: u64, wall: i64) {
        let (digest, luck, tape) = (self.digest, self.luck.clone(), self.tape.take());
        let engine = Engine::new(settings(plan, self.id, life, wall));
        *self = Self { engine, digest, luck, tape, ..Self::new(plan, self.id) };
    }

    /// Counts what the engine has counted in its life.
    pub fn sum_up(&self, seen: &mut Seen) {
        let counters = self.engine.counters();
        for (code, count) in Code::ALL.iter().zip(counters.refusals_by_code) {
            seen.add(format!("refused: {}", code.as_str()), count);
        }
        seen.add("memory: sessions let go", counters.sessions_shed);
        seen.add("memory: bytes for lost members let go", counters.recovery_bytes_shed);
    }

    /// The storage is back. What it had to say before, it says first.
    pub fn hear_of_return(&mut self, now: u64) {
        self.news.iter_mut().for_each(|answer| answer.at = answer.at.min(now));
        self.hear(Answer { at: now, news: StorageNews::Returned, model: None });
    }

    /// The storage has something to say.
    pub fn hear(&mut self, answer: Answer) {
        let place = self.news.partition_point(|other| other.at <= answer.at);
        self.news.insert(place, answer);
    }

    /// Connections that the driver still has.
    pub fn connections(&self) -> usize {
        let crossing = self.mail.iter().filter(|mail| matches!(mail.what, Sent::Crossing(_)));
        self.slots.len() - self.free.len() + crossing.count()
    }

    fn insert(&mut self, wire: usize, unsent: Vec<u8>) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.1 = Some(Conn {
            wire,
            phase: Phase::Open,
            chunks: Vec::new(),
            unsent,
            told: 0,
            noted: false,
            ready: false,
            ended: false,
        });
        ConnId { index, generation: slot.0 }
    }

    fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.0 == id.generation { slot.1.as_mut() } else { None }
    }

    fn open(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.get(id).filter(|conn| conn.phase == Phase::Open)
    }

    fn remove(&mut self, id: ConnId) -> Option<Conn> {
        self.get(id)?;
        let slot = &mut self.slots[id.index as usize];
        slot.0 += 1;
        self.free.push(id.index);
        slot.1.take()
    }

    /// Something is to be read from a connection.
    pub fn list_ready(&mut self, id: ConnId) {
        if let Some(conn) = self.get(id)
            && !std::mem::replace(&mut conn.ready, true)
        {
            self.ready.push(id);
        }
    }

    /// Whether a connection waits for room, which there is now.
    pub fn list_writable(&mut self, id: ConnId) -> bool {
        let waits = self.get(id).is_some_and(|conn| !conn.unsent.is_empty());
        if waits && !self.writable.contains(&id) {
            self.writable.push(id);
        }
        waits
    }

    /// Whether a turn would find something to do.
    fn has_work(&self) -> bool {
        !self.ready.is_empty()
            || !self.notes.is_empty()
            || !self.writable.is_empty()
            || !self.door.is_empty()
    }
}

/// How this world's servers say goodbye; both ways in turn.
pub fn goodbye(plan: &Plan) -> Goodbye {
    if plan.seed.is_multiple_of(3) { Goodbye::Disconnect } else { Goodbye::Reconnect }
}

fn settings(plan: &Plan, id: u16, life: u64, wall: i64) -> Settings {
    let shape = &plan.shape;
    let micros = Micros::from_micros;
    Settings {
        shard: ShardId(id),
        shards: shape.shards,
        seed: (plan.seed ^ life << 32).into(),
        started_unix_ms: UNIX_START + wall,
        limits: Limits {
            connections_max: shape.connections_max,
            sessions_max: shape.sessions_max,
            message_bytes_max: shape.message_max,
            fragments_max: shape.fragments_max,
            backlog_bytes_max: shape.backlog_max,
            empty_session_ttl: micros(shape.empty_ttl),
            recovery_bytes_max: shape.memory_max,
            members_listed_max: shape.members_listed,
            ..if shape.hurry { IN_A_HURRY } else { Limits::PRODUCTION }
        },
        tick_interval: micros(shape.tick),
        batch_interval: micros(shape.batch),
        ping_interval: micros(shape.ping),
        ping_timeout: micros(shape.ping_timeout),
        heartbeat_interval: micros(shape.heartbeat),
        leader_grace: micros(shape.grace),
        session_members_max: shape.members_max,
        origins: Origins::Own,
        transports: Transports {
            recovery: micros(shape.recovery),
            compression: shape.deflate.map(|context_takeover| Compression {
                threshold: 200,
                level: 1,
                context_takeover,
            }),
            ..Transports::default()
        },
        application: Application::Band,
        manners: Manners::default(),
        goodbye: goodbye(plan),
        storage_wait: shape.storage.as_ref().map(|storage| micros(storage.wait)),
    }
}

impl World<'_> {
    /// Has a shard take a turn at `at` or soon after.
    pub fn wake(&mut self, shard: u16, at: u64) {
        let late = self.plan.shape.driver.late;
        let calm = self.calm;
        let now = self.now;
        let one = &mut self.shards[usize::from(shard)];
        let late = if late == 0 || calm { 0 } else { one.luck.below(late) };
        let at = (at.max(now) + late).max(one.frozen_until);
        if one.turn_at.is_none_or(|next| at < next) {
            one.turn_at = Some(at);
            self.post(at, Event::Turn(shard));
        }
    }

    /// A shard's turn, in the order of the real driver.
    pub fn turn(&mut self, shard: u16) {
        let s = usize::from(shard);
        if self.shards[s].turn_at != Some(self.now) {
            return;
        }
        self.shards[s].turn_at = None;
        self.turns += 1;
        let due = self.shards[s].engine.next_deadline().map_or(self.now, Micros::as_micros);
        if self.now > due + LATE {
            self.shards[s].late_at = self.shards[s].late_at.max(self.now);
            self.book.saw("driver: a turn is late");
        }
        self.tell_notes(s);
        self.read_ready(s);
        self.accept(s);
        self.open_mail(s);
        self.hear_storage(s);
        if let Some(by) = self.shards[s].wall_step.take() {
            self.book.walls[s] = by;
            self.feed(s, Input::WallClock { started_unix_ms: UNIX_START + by });
        }
        self.tell_memory(s);
        if std::mem::take(&mut self.shards[s].drain) {
            self.drain(s);
        }
        self.end_turn(s);
        self.check_goodbyes(s);
        self.write(s);
        self.hand_over(s);
        self.close_up(s);
        self.after_turn(s);
        let (now, one) = (self.now, &mut self.shards[s]);
        if self.plan.shape.driver.spurious > 0
            && !self.calm
            && one.luck.one_in(self.plan.shape.driver.spurious)
        {
            let at = now + 1 + one.luck.below(3_000);
            self.wake(shard, at);
        }
        let one = &self.shards[s];
        let next = [
            one.has_work().then_some(now + 1),
            one.engine.next_deadline().map(Micros::as_micros),
            one.closing.front().map(|(at, _)| *at),
            one.mail.front().map(|mail| mail.at),
            one.news.first().map(|answer| answer.at),
            (one.memory != Memory::Enough).then_some(one.memory_at + SCARCE_INTERVAL),
        ];
        if let Some(next) = next.into_iter().flatten().min() {
            self.wake(shard, next);
        }
    }

    fn feed(&mut self, s: usize, input: Input<'_>) {
        let shard = &mut self.shards[s];
        let read =
            if let Input::Received { bytes, .. } = &input { Some(bytes.len()) } else { None };
        if let Some(tape) = &mut shard.tape
            && let Err(what) = tape.input(self.now, &input)
        {
            self.book.fail(self.now, "I23 recording", what);
        }
        let from = shard.out.list.len();
        let before = shard.out.bytes.len();
        let recoveries = shard.engine.counters().recoveries;
        shard.engine.handle(Micros::from_micros(self.now), input, &mut shard.out);
        if let Some(read) = read {
            let out = &shard.out;
            let pong = |output: &&Output| match output {
                Output::Send { bytes, .. } => {
                    out.bytes.get(bytes.start as usize) == Some(&frames::PONG)
                }
                _ => false,
            };
            let needless = |output: &&Output| match output {
                Output::Send { bytes, .. } => frames::is_superseded(&out.bytes[bytes.range()]),
                _ => false,
            };
            let again = if shard.engine.counters().recoveries > recoveries {
                self.plan.shape.memory_max as usize
            } else {
                0
            };
            let work = Work {
                read,
                again,
                outputs: out.list.len() - from,
                bytes: out.bytes.len() - before,
                pongs: out.list[from..].iter().filter(pong).count(),
                needless: out.list[from..].iter().filter(needless).count(),
            };
            self.book.worked(self.now, &work);
        }
        self.sort(s);
    }

    /// Sorts new outputs onto the connections that they concern, and notes what they tell.
    fn sort(&mut self, s: usize) {
        let out = std::mem::take(&mut self.shards[s].out);
        let mut to = std::mem::take(&mut self.receivers);
        for output in &out.list[self.shards[s].sorted..] {
            let shard = &mut self.shards[s];
            to.clear();
            match output {
                Output::Send { to: id, bytes } => {
                    shard.digest.add(1 + u64::from(id.index));
                    to.extend(
                        shard
                            .link(*id, *bytes, false)
                            .filter(|wire| self.wires[*wire].poller.is_none()),
                    );
                    if !to.is_empty() {
                        self.book.sent(
                            self.now,
                            &out.bytes[bytes.range()],
                            false,
                            &to,
                            &mut self.wires,
                        );
                    }
                }
                Output::Fanout { to: ids, bytes, volatile } => {
                    for id in &out.receivers[ids.range()] {
                        shard.digest.add(2 + u64::from(id.index));
                        let wire = shard.link(*id, *bytes, *volatile);
                        to.extend(wire.filter(|wire| self.wires[*wire].poller.is_none()));
                    }
                    if !to.is_empty() {
                        self.book.sent(
                            self.now,
                            &out.bytes[bytes.range()],
                            *volatile,
                            &to,
                            &mut self.wires,
                        );
                    }
                }
                Output::Close { conn: id, how } => {
                    shard.digest.add(3 + u64::from(id.index));
                    self.close(s, *id, *how);
                }
                Output::HandOver { conn: id, to, parcel } => {
                    shard.digest.add(4 + u64::from(id.index));
                    if let Some(conn) = shard.open(*id) {
                        conn.phase = Phase::Leaving;
                        let wire = &mut self.wires[conn.wire];
                        shard.leaving.push((*id, *to, *parcel));
                        if let Some(seat) = wire.seat {
                            self.book.leave(self.now, wire, seat);
                        }
                    }
                }
                Output::Letter { to, letter } => {
                    shard.digest.add(9 + u64::from(to.0));
                    shard.letters.push((*to, *letter));
                }
                Output::Ask { .. } => shard.digest.add(5),
                Output::Load { session } => {
                    shard.digest.add(6);
                    if session.shard(self.plan.shape.shards).0 != s as u16 {
                        let what = format!("shard {s} asks for {session:?}");
                        self.book.fail(self.now, "I2 one owner", what);
                    }
                    if let Some(storage) = &mut self.storage {
                        shard.hear(storage.load(self.now, session));
                    }
                }
                Output::Store { session, epoch, version, record } => {
                    shard.digest.add(7 + version);
                    let bytes = out.bytes[record.range()].to_vec();
                    let model = self.book.model_of(session, (*epoch, *version));
                    let (session, epoch, version) = (session.clone(), *epoch, *version);
                    let last = self.book.drained[s];
                    self.store(s, Order { session, epoch, version, bytes, model, last });
                }
                Output::Forget { session, epoch } => {
                    shard.digest.add(8);
                    if let Some(storage) = &mut self.storage {
                        storage.forget(session, *epoch);
                    }
                }
            }
        }
        self.receivers = to;
        self.shards[s].sorted = out.list.len();
        self.shards[s].out = out;
    }

    /// A record goes to the storage: it must be what it says it is.
    fn store(&mut self, s: usize, order: Order) {
        let record = Record::parse(&order.bytes);
        let says = record
            .as_ref()
            .map(|record| (&record.session, record.timeline.epoch, record.timeline.version));
        if says != Ok((&order.session, order.epoch, order.version)) {
            let what = format!(
                "{:?} {} {} is stored as {says:?}",
                order.session, order.epoch, order.version
            );
            self.book.fail(self.now, "I6 what is stored", what);
        }
        let shard = &mut self.shards[s];
        if let Some(answer) =
            self.storage.as_mut().and_then(|storage| storage.store(self.now, s as u16, order))
        {
            shard.hear(answer);
        }
    }

    fn hear_storage(&mut self, s: usize) {
        while self.shards[s].news.first().is_some_and(|answer| answer.at <= self.now) {
            let Answer { news, model, .. } = self.shards[s].news.remove(0);
            let (now, shard) = (self.now, &mut self.shards[s]);
            let made = match &news {
                StorageNews::Stored { outcome: Outcome::Outdated { .. }, .. } => {
                    self.book.seen.add("storage: has a newer record", 1);
                    false
                }
                StorageNews::Loaded { session, .. } => shard.engine.session(session).is_none(),
                _ => false,
            };
            let input = Input::Storage { news: &news };
            if let Some(tape) = &mut shard.tape
                && let Err(what) = tape.input(now, &input)
            {
                self.book.fail(now, "I23 recording", what);
            }
            shard.engine.handle(Micros::from_micros(now), input, &mut shard.out);
            if let StorageNews::Loaded { session, found } = &news
                && let Some(real) = shard.engine.session(session).filter(|_| made)
            {
                self.book.opened(now, session, real.epoch(), model.zip(record_in(found)));
            }
            self.sort(s);
            if let StorageNews::Stored { session, outcome: Outcome::Outdated { epoch }, .. } = &news
            {
                self.book.outdone(now, session, *epoch);
            }
        }
    }

    fn close(&mut self, s: usize, id: ConnId, how: Close) {
        let shard = &mut self.shards[s];
        let Some(conn) = shard.open(id) else { return };
        let wire = conn.wire;
        conn.phase = Phase::Parting;
        self.book.lost(self.now, &mut self.wires[wire]);
        match how {
            Close::Gently => shard.parting.push(id),
            Close::Abort => self.abort(s, id),
        }
    }

    fn abort(&mut self, s: usize, id: ConnId) {
        if let Some(conn) = self.shards[s].remove(id) {
            let wire = &mut self.wires[conn.wire];
            (wire.place, wire.reset) = (Place::Gone, true);
            self.post_down(conn.wire, self.now + self.plan.shape.net.delay);
        }
    }

    fn tell_notes(&mut self, s: usize) {
        let mark = self.plan.shape.driver.mark as usize;
        for id in std::mem::take(&mut self.shards[s].notes) {
            let Some(conn) = self.shards[s].get(id) else { continue };
            conn.noted = false;
            if conn.phase != Phase::Open {
                continue;
            }
            let wire = conn.wire;
            if conn.ended {
                conn.phase = Phase::Parting;
                self.shards[s].parting.push(id);
                self.feed(s, Input::Closed { conn: id, cause: Cause::Ended });
                self.book.lost(self.now, &mut self.wires[wire]);
                continue;
            }
            let unsent = conn.unsent.len();
            let reached = if unsent == 0 { 0 } else { 1 + unsent / mark };
            if reached > conn.told || reached == 0 && conn.told > 0 {
                conn.told = reached;
                self.book.saw(if reached > 0 {
                    "driver: a backlog is told"
                } else {
                    "driver: a backlog is gone"
                });
                self.feed(s, Input::Backlog { conn: id, bytes: unsent as u32 });
            }
            if unsent > self.plan.shape.backlog_max as usize + mark
                && self.shards[s].open(id).is_some()
            {
                self.book.fail(
                    self.now,
                    "I10 queues are bounded",
                    format!("{unsent} bytes wait for one reader"),
                );
            }
        }
    }

    fn read_ready(&mut self, s: usize) {
        for id in std::mem::take(&mut self.shards[s].ready) {
            let more = self.read(s, id);
            if let Some(conn) = self.shards[s].get(id) {
                conn.ready = false;
            }
            if more {
                self.shards[s].list_ready(id);
            }
        }
        for id in std::mem::take(&mut self.shards[s].writable) {
            self.resume(s, id);
        }
    }

    /// Reads from one connection. True if there is more.
    fn read(&mut self, s: usize, id: ConnId) -> bool {
        let short = self.plan.shape.driver.short_read as usize;
        let Some(conn) = self.shards[s].get(id) else { return false };
        let (w, phase) = (conn.wire, conn.phase);
        if matches!(phase, Phase::Leaving | Phase::Parting) || conn.ended {
            return false;
        }
        let wire = &mut self.wires[w];
        if wire.reset {
            wire.place = Place::Gone;
            self.shards[s].remove(id);
            if phase == Phase::Open {
                self.feed(s, Input::Closed { conn: id, cause: Cause::Failed });
                self.book.lost(self.now, &mut self.wires[w]);
            }
            return false;
        }
        let mut count = wire.up.here().len().min(READ_MAX);
        if short > 0 && !self.calm {
            count = count.min(1 + self.shards[s].luck.below(short as u64) as usize);
        }
        // A disconnect has no answer, so the read ends with it, and the oracle hears of it then.
        let mark = wire
            .marks
            .front()
            .map(|mark| (mark - wire.read_up) as usize)
            .filter(|left| *left <= count);
        count = mark.unwrap_or(count);
        if count > 0 {
            let (now, end) = (self.now, wire.read_up + count as u64);
            let came = |ask: &&mut Ask| ask.came.is_none() && ask.end <= end;
            wire.asks.iter_mut().filter(came).for_each(|ask| ask.came = Some(now));
            let mut bytes = std::mem::take(&mut self.buffer);
            bytes.clear();
            bytes.extend_from_slice(&wire.up.here()[..count]);
            wire.up.took(count);
            wire.read_up += count as u64;
            if mark.is_some() {
                wire.marks.pop_front();
            }
            if phase == Phase::Open {
                self.feed(s, Input::Received { conn: id, bytes: &mut bytes });
                if mark.is_some()
                    && let Some(seat) = self.wires[w].seat
                {
                    self.book.leave(self.now, &mut self.wires[w], seat);
                }
            }
            self.buffer = bytes;
            return !self.wires[w].up.here().is_empty() || self.wires[w].up.is_over(self.now);
        }
        if wire.up.is_over(self.now) {
            if phase == Phase::Lingering {
                wire.place = Place::Gone;
                self.shards[s].remove(id);
            } else if let Some(conn) = self.shards[s].get(id) {
                conn.ended = true;
                if !std::mem::replace(&mut conn.noted, true) {
                    self.shards[s].notes.push(id);
                }
            }
        }
        false
    }

    fn accept(&mut self, s: usize) {
        for wire in std::mem::take(&mut self.shards[s].door) {
            let id = self.shards[s].insert(wire, Vec::new());
            self.wires[wire].place = Place::Shard(s as u16, id);
            let peer = peer_of(&self.wires[wire]);
            self.feed(s, Input::Opened { conn: id, peer });
            self.shards[s].list_ready(id);
        }
    }

    fn open_mail(&mut self, s: usize) {
        while self.shards[s].mail.front().is_some_and(|mail| mail.at <= self.now) {
            let (wire, unsent, parcel) = match self.shards[s].mail.pop_front().map(|mail| mail.what)
            {
                Some(Sent::Crossing(Crossing { wire, unsent, parcel })) => (wire, unsent, parcel),
                Some(Sent::Letter(letter)) => {
                    self.feed(s, Input::Letter { letter: &letter });
                    continue;
                }
                None => return,
            };
            let id = self.shards[s].insert(wire, unsent);
            self.wires[wire].place = Place::Shard(s as u16, id);
            let peer = peer_of(&self.wires[wire]);
            self.feed(s, Input::Arrived { conn: id, peer, parcel: &parcel });
            self.shards[s].list_ready(id);
            self.shards[s].list_writable(id);
        }
    }

    fn end_turn(&mut self, s: usize) {
        let mut next = 0;
        while let Some(output) = self.shards[s].out.list.get(next) {
            if let Output::Ask { conn, .. } = output {
                let conn = *conn;
                let answer =
                    Page { status: 200, headers: Vec::new(), body: b"ok".as_slice().into() };
                if self.shards[s].open(conn).is_some() {
                    self.feed(s, Input::Answered { conn, answer });
                }
            }
            next += 1;
        }
        self.book.before_timers(self.now, s as u16);
        self.feed(s, Input::TurnEnded);
    }

    /// Writes what this turn sends: what the connection has room for, in order; a volatile frame
    /// that would have to wait is left out.
    fn write(&mut self, s: usize) {
        let out = std::mem::take(&mut self.shards[s].out);
        for id in std::mem::take(&mut self.shards[s].touched) {
            let Some(conn) = self.shards[s].get(id) else { continue };
            let chunks = std::mem::take(&mut conn.chunks);
            let w = conn.wire;
            let mut waits = !conn.unsent.is_empty();
            let mut unsent = std::mem::take(&mut conn.unsent);
            for (span, volatile) in &chunks {
                let bytes = &out.bytes[span.range()];
                let written = if waits { 0 } else { self.push(s, w, bytes) };
                if written < bytes.len() {
                    waits = true;
                    if *volatile {
                        let cut = written > 0;
                        let what = if cut {
                            "driver: a tick is cut and finished"
                        } else {
                            "driver: a tick is left out"
                        };
                        self.book.saw(what);
                    }
                    if written > 0 || !volatile {
                        unsent.extend_from_slice(&bytes[written..]);
                    }
                }
            }
            let mut chunks = chunks;
            chunks.clear();
            let Some(conn) = self.shards[s].get(id) else { continue };
            (conn.chunks, conn.unsent) = (chunks, unsent);
            self.look_after(s, id);
        }
        let shard = &mut self.shards[s];
        shard.digest.add_bytes(&out.bytes);
        shard.out = out;
    }

    fn resume(&mut self, s: usize, id: ConnId) {
        let Some(conn) = self.shards[s].get(id) else { return };
        let (w, mut unsent) = (conn.wire, std::mem::take(&mut conn.unsent));
        let written = self.push(s, w, &unsent);
        unsent.drain(..written);
        if let Some(conn) = self.shards[s].get(id) {
            conn.unsent = unsent;
        }
        self.look_after(s, id);
    }

    /// The kernel takes as many bytes as it likes.
    fn push(&mut self, s: usize, w: usize, bytes: &[u8]) -> usize {
        let (net, driver) = (&self.net, &self.plan.shape.driver);
        let wire = &mut self.wires[w];
        if wire.reset {
            return bytes.len();
        }
        let mut count = bytes.len().min((net.window as usize).saturating_sub(wire.down.full()));
        if driver.short_write > 0 && !self.calm {
            count =
                count.min(1 + self.shards[s].luck.below(u64::from(driver.short_write)) as usize);
        }
        if count > 0 {
            let at = wire.down.send(self.now, &bytes[..count], net, &mut wire.luck);
            self.post_down(w, at);
        }
        // Room that is left is reported again.
        if count < bytes.len()
            && wire_has_room(&self.wires[w], &self.net)
            && let Place::Shard(shard, id) = self.wires[w].place
            && usize::from(shard) == s
        {
            self.shards[s].writable.retain(|other| *other != id);
            self.shards[s].writable.push(id);
        }
        count
    }

    fn look_after(&mut self, s: usize, id: ConnId) {
        let mark = self.plan.shape.driver.mark as usize;
        let shard = &mut self.shards[s];
        let Some(conn) = shard.get(id) else { return };
        let reached = if conn.unsent.is_empty() { 0 } else { 1 + conn.unsent.len() / mark };
        let crossed = reached > conn.told || reached == 0 && conn.told > 0;
        match conn.phase {
            Phase::Open if crossed && !std::mem::replace(&mut conn.noted, true) => {
                shard.notes.push(id)
            }
            Phase::Parting if conn.unsent.is_empty() => shard.parting.push(id),
            _ => {}
        }
    }

    fn hand_over(&mut self, s: usize) {
        for (to, letter) in std::mem::take(&mut self.shards[s].letters) {
            let letter = self.shards[s].out.bytes[letter.range()].to_vec();
            self.mail(s, to, Sent::Letter(letter));
        }
        for (id, to, parcel) in std::mem::take(&mut self.shards[s].leaving) {
            let parcel = self.shards[s].out.bytes[parcel.range()].to_vec();
            let Some(conn) = self.shards[s].remove(id) else { continue };
            self.book.seen.add(
                "driver: unsent bytes move with a connection",
                u64::from(!conn.unsent.is_empty()),
            );
            self.wires[conn.wire].place = Place::Mail;
            self.mail(
                s,
                to,
                Sent::Crossing(Crossing { wire: conn.wire, unsent: conn.unsent, parcel }),
            );
            self.handed_over += 1;
        }
    }

    /// Sends something to another shard, whose mailbox keeps the order.
    fn mail(&mut self, s: usize, to: ShardId, what: Sent) {
        let most = self.plan.shape.driver.mail;
        let delay = if self.calm { 20 } else { 1 + self.shards[s].luck.below(most) };
        let other = &mut self.shards[usize::from(to.0)];
        let at = (self.now + delay).max(other.mail.back().map_or(0, |last| last.at));
        other.mail.push_back(Mail { at, what });
        self.wake(to.0, at);
    }

    fn close_up(&mut self, s: usize) {
        for id in std::mem::take(&mut self.shards[s].parting) {
            let now = self.now;
            let Some(conn) = self.shards[s].get(id).filter(|conn| conn.phase == Phase::Parting)
            else {
                continue;
            };
            let (w, broken) = (conn.wire, self.wires[conn.wire].reset);
            let Some(conn) = self.shards[s].get(id) else { continue };
            if !conn.unsent.is_empty() && !broken {
                self.shards[s].closing.push_back((now + PART, id));
                continue;
            }
            let ended = conn.ended;
            conn.phase = Phase::Lingering;
            let at = self.wires[w].down.end(now, &self.net);
            self.post_down(w, at);
            if ended || broken {
                self.wires[w].place = Place::Gone;
                self.shards[s].remove(id);
            } else {
                self.shards[s].closing.push_back((now + LINGER, id));
                self.shards[s].list_ready(id);
            }
        }
        self.shards[s].closing.make_contiguous().sort_by_key(|(at, _)| *at);
        while self.shards[s].closing.front().is_some_and(|(at, _)| *at <= self.now) {
            let Some((_, id)) = self.shards[s].closing.pop_front() else { return };
            let overdue = self.shards[s].get(id).is_some_and(|conn| conn.phase != Phase::Open);
            if overdue {
                self.abort(s, id);
            }
        }
    }

    /// The shard hears of the memory that is left, if that has changed, and again while there is
    /// too little.
    fn tell_memory(&mut self, s: usize) {
        let (now, memory) = (self.now, self.memory);
        let shard = &mut self.shards[s];
        let again = memory != Memory::Enough && now >= shard.memory_at + SCARCE_INTERVAL;
        if memory == shard.memory && !again {
            return;
        }
        (shard.memory, shard.memory_at) = (memory, now);
        self.book.full[s] = memory == Memory::Out;
        let here = self.book.courts.iter().filter(|court| court.home == s as u16);
        let here: Vec<_> = here
            .map(|court| &court.name)
            .filter(|name| shard.engine.session(name).is_some())
            .cloned()
            .collect();
        self.feed(s, Input::Memory(memory));
        if memory == Memory::Enough {
            return;
        }
        self.book.saw(if memory == Memory::Low { "memory: little" } else { "memory: none" });
        let engine = &self.shards[s].engine;
        let gone: Vec<_> = here.into_iter().filter(|name| engine.session(name).is_none()).collect();
        self.book.scarce(now, s as u16, memory, &gone, self.storage.as_ref());
    }

    /// Everybody who polls was told in the turn in which the server went away.
    fn check_goodbyes(&mut self, s: usize) {
        for id in std::mem::take(&mut self.shards[s].owed) {
            let out = std::mem::take(&mut self.shards[s].out);
            let bytes = |(span, _): &(Span, bool)| out.bytes[span.range()].to_vec();
            let said = self.shards[s]
                .get(id)
                .map(|conn| conn.chunks.iter().flat_map(bytes).collect::<Vec<u8>>());
            let said = said.unwrap_or_default();
            // In an answer of polling, or in a frame if the client has gone over to a WebSocket.
            let stays_away = said.windows(3).any(|three| matches!(three, b"\x1e41" | b"\x0241"));
            let told = frames::is_draining(&said)
                && stays_away == (self.book.goodbye == Goodbye::Disconnect);
            self.shards[s].out = out;
            if told {
                self.book.saw("drain: who polls is told");
            } else {
                let what = format!("{id:?} {:?} was not told", String::from_utf8_lossy(&said));
                self.book.fail(self.now, "I20 goodbyes", what);
            }
        }
    }

    /// The server goes away, and tells everybody who is connected.
    fn drain(&mut self, s: usize) {
        let open = self.shards[s].slots.iter().filter_map(|(_, conn)| conn.as_ref());
        let open: Vec<usize> =
            open.filter(|conn| conn.phase == Phase::Open).map(|conn| conn.wire).collect();
        let polls: Vec<usize> =
            open.iter().copied().filter(|wire| self.waits_for_packets(*wire)).collect();
        for wire in polls {
            if let Place::Shard(_, id) = self.wires[wire].place
                && self.shards[s]
                    .get(id)
                    .is_some_and(|conn| conn.chunks.is_empty() && conn.unsent.is_empty())
            {
                self.shards[s].owed.push(id);
            }
        }
        let connected = |wire: &usize| {
            let wire = &self.wires[*wire];
            wire.seat.is_some() || !wire.sid.is_empty() && !wire.up.has_ended()
        };
        let open: Vec<usize> = open.into_iter().filter(connected).collect();
        self.book.drained[s] = true;
        self.shards[s].sessions_at_drain = Some(self.shards[s].engine.counters().sessions);
        self.feed(s, Input::Drain);
        if let Some(wire) = open.into_iter().find(|wire| !self.wires[*wire].dismissed) {
            let what = format!("{} was not told", self.wires[wire].sid);
            self.book.fail(self.now, "I20 goodbyes", what);
        }
    }

    /// What must hold at the end of every turn.
    fn after_turn(&mut self, s: usize) {
        let now = self.now;
        let shard = &mut self.shards[s];
        shard.out.clear();
        shard.sorted = 0;
        shard.turns += 1;
        shard.digest.add(now);
        let thorough = now >= shard.checked_at + 1_000_000 || shard.turns < 4;
        if thorough {
            shard.checked_at = now;
            shard.thoroughly += 1;
            // A walk over all timers is dear.
            if shard.thoroughly % 4 == 1 {
                shard.engine.check_invariants();
            }
            let sleeps =
                shard.engine.next_deadline().is_some_and(|at| at.as_micros() > now + WHEEL_ROUND);
            self.book
                .seen
                .add("engine: sleeps for longer than the wheel is round", u64::from(sleeps));
        }
        if shard.engine.next_deadline().is_some_and(|at| at.as_micros() <= now) {
            self.book.fail(now, "I18 no timer forgotten", "a timer that is due did not fire");
        }
        self.read_log(s);
        let shard = &self.shards[s];
        self.book.after_turn(now, shard.id, &shard.engine, &self.wires, thorough);
        if thorough {
            self.check_connections(s);
            self.check_owner(s);
        }
        self.check_drained(s);
    }

    /// What would be logged, measured and shown to who runs the server.
    fn read_log(&mut self, s: usize) {
        let (now, shard) = (self.now, &mut self.shards[s]);
        let book = &mut self.book;
        shard.engine.measures().take(|_, _| {});
        shard.engine.departures().take(|departure| {
            let line = format!("{:?}: {}", departure.manner, departure.why);
            let session = departure.session.as_ref().map_or("", |session| session.as_str());
            if reveals(line.as_bytes()) || reveals(session.as_bytes()) {
                book.fail(now, "I23 secrets", format!("in the log: {line}"));
            }
            book.seen.add(line, 1);
        });
        if shard.checked_at == now && shard.thoroughly % 4 == 1 {
            let mut roster = Vec::new();
            shard.engine.roster(&mut roster);
            let text = String::from_utf8_lossy(&roster);
            let pid =
                |member: &super::member::Member| member.pid().is_some_and(|pid| text.contains(pid));
            if reveals(&roster) || self.members.iter().any(pid) {
                book.fail(now, "I23 secrets", format!("in the roster: {text}"));
            }
        }
    }

    /// A session is on its own shard, and on no other.
    fn check_owner(&mut self, s: usize) {
        let shard = &self.shards[s];
        for court in self.book.courts.iter().filter(|court| usize::from(court.home) != s) {
            if shard.engine.session(&court.name).is_some() {
                let what = format!("{:?} is on shard {s} as well", court.name);
                return self.book.fail(self.now, "I2 one owner", what);
            }
        }
    }

    /// After the end began there are no new sessions; and in the end everything is stored.
    fn check_drained(&mut self, s: usize) {
        let (now, shard) = (self.now, &mut self.shards[s]);
        let Some(before) = shard.sessions_at_drain else { return };
        let sessions = shard.engine.counters().sessions;
        if sessions > before {
            let what = format!("shard {s} had {before} sessions and has {sessions}");
            self.book.fail(now, "I20 no new session", what);
        }
        if !shard.engine.is_drained() || std::mem::replace(&mut shard.checked_stored, true) {
            return;
        }
        let Some(storage) = self.storage.as_ref().filter(|storage| storage.is_faithful()) else {
            return;
        };
        let shard = &self.shards[s];
        for court in self.book.courts.iter().filter(|court| usize::from(court.home) == s) {
            let Some(model) =
                court.model.as_ref().filter(|_| shard.engine.session(&court.name).is_some())
            else {
                continue;
            };
            let kept = storage.kept(&court.name).map(|kept| (kept.epoch, kept.version));
            if model.version > 0 && kept < Some((court.epoch, model.version)) {
                let what = format!(
                    "{kept:?} of {:?}, which is at {:?}",
                    court.name,
                    (court.epoch, model.version)
                );
                return self.book.fail(now, "I20 all is stored", what);
            }
            self.book.seen.add("drain: a session is stored", u64::from(model.version > 0));
        }
    }

    /// The engine and the driver agree about who is connected, and every link is pinged in time.
    fn check_connections(&mut self, s: usize) {
        let (now, shape) = (self.now, &self.plan.shape);
        let shard = &self.shards[s];
        // A connection may have come from a shard that stood still.
        let late_at = self.shards.iter().map(|shard| shard.late_at).max().unwrap_or_default();
        let open = shard.slots.iter().filter_map(|(_, conn)| conn.as_ref());
        let open: Vec<&Conn> = open.filter(|conn| conn.phase == Phase::Open).collect();
        let count = shard.engine.counters().connections as usize;
        if count != open.len() {
            let what = format!("the engine has {count} connections, the driver {}", open.len());
            self.book.fail(now, "I12 connections agree", what);
        }
        for conn in open {
            let wire = &self.wires[conn.wire];
            let since = wire.pinged.unwrap_or(wire.opened).max(late_at);
            // A pong waits while its sender knocks at another shard and then goes there: as long as
            // three letters.
            let late = LATE + 3 * shape.driver.mail;
            if wire.upgraded && now >= since + shape.ping + shape.ping_timeout + late {
                let what =
                    format!("{} was neither pinged nor closed for {} µs", wire.sid, now - since);
                self.book.fail(now, "I18 no timer forgotten", what);
            }
        }
    }
}

impl Shard {
    /// Appends bytes to what this turn sends. The wire, if the connection still listens.
    fn link(&mut self, id: ConnId, bytes: Span, volatile: bool) -> Option<usize> {
        let conn = self.open(id)?;
        let first = conn.chunks.is_empty();
        conn.chunks.push((bytes, volatile));
        let wire = conn.wire;
        if first {
            self.touched.push(id);
        }
        Some(wire)
    }
}

fn wire_has_room(wire: &super::wire::Wire, net: &super::plan::Net) -> bool {
    wire.down.full() < net.window as usize
}
