//! The world: runs one plan, and returns a verdict.
//!
//! A world owns everything. Shards run their turns in `turn`, members and pollers act through a
//! [`Cx`], and the oracle observes.

use std::collections::VecDeque;
use std::hash::RandomState;

use bandsync_driver::Shutdown;
use bandsync_engine::io::FreeMemory;
use bandsync_engine::words::time::Micros;

use super::actors::{Member, Poller};
use super::agenda::{Agenda, BEGIN, Event, LOOK};
use super::coverage::Coverage;
use super::cx::Cx;
use super::net::SimNet;
use super::oracle::{Failure, Oracle};
use super::plan::{Act, Join, Net, Plan, Say};
use super::record::RecorderCheck;
use super::rng::{Digest, SimRng};
use super::settings::{goodbye, turn_of};
use super::shell::{Posted, Shard, ShardState};
use super::storage::Storage;
use super::wire::{ServerEnd, Wire};

/// Creates a shard of a server that has just started.
fn shard_of(plan: &Plan, id: u16) -> Shard {
    Shard { turn: turn_of(plan, id, 0, 0), desk: ShardState::new(id) }
}

const SECOND: u64 = 1_000_000;

/// The state of a run.
pub struct World<'p> {
    pub plan: &'p Plan,
    pub agenda: Agenda,
    pub shards: Vec<Shard>,
    pub net: SimNet,
    pub wires: Vec<Wire>,
    pub members: Vec<Member>,
    pub pollers: Vec<Poller>,
    pub oracle: Oracle,
    pub storage: Option<Storage>,
    /// Mail on its way to each shard.
    pub mailboxes: Vec<VecDeque<Posted>>,
    /// The agreement of the shards about the end of this life.
    pub shutdown: Shutdown,
    pub life: Life,
    pub turns: u64,
    pub handed_over: u64,
    /// A buffer whose memory is reused.
    pub receivers: Vec<usize>,
}

/// The state of the machine that the server runs on.
#[derive(Default)]
pub struct Life {
    /// Number of times that the server has died.
    lives: u64,
    /// Error of the wall clock in milliseconds.
    wall: i64,
    /// Whether the wall clock was ever set.
    pub stepped: bool,
    /// The memory that is left.
    pub memory: FreeMemory,
    /// The time until which memory is scarce.
    scarce_until: u64,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub failure: Option<Failure>,
    /// Digest of all outputs of all shards.
    pub digest: u64,
    /// Time that passed in the world, in microseconds.
    pub passed: u64,
    pub turns: u64,
    pub messages: u64,
    pub handed_over: u64,
    /// Number of members that recovered their seats.
    pub recoveries: u64,
    /// Rare situations that occurred.
    pub seen: Coverage,
}

impl<'p> World<'p> {
    /// Creates the world of a plan, before its first step.
    pub fn new(plan: &'p Plan) -> Self {
        let mut shards: Vec<Shard> = (0..plan.shape.shards).map(|id| shard_of(plan, id)).collect();
        // A server that records negotiates no compression.
        if plan.shape.deflate.is_none() && plan.seed.is_multiple_of(2) {
            let key = RandomState::new();
            shards.iter_mut().for_each(|shard| {
                shard.desk.tape = Some(Box::new(RecorderCheck::new(key.clone())))
            });
        }
        let mut world = Self {
            plan,
            agenda: Agenda::new(plan),
            shards,
            wires: Vec::new(),
            members: (0..plan.shape.members).map(|id| Member::new(plan.seed, id)).collect(),
            pollers: (0..plan.shape.pollers).map(|id| Poller::new(plan.seed, id)).collect(),
            oracle: Oracle::new(&plan.shape, goodbye(plan)),
            storage: plan.shape.storage.clone().map(|habits| Storage::new(habits, plan.seed)),
            life: Life::default(),
            mailboxes: (0..plan.shape.shards).map(|_| VecDeque::new()).collect(),
            shutdown: Shutdown::new(plan.shape.shards),
            net: SimNet::new(plan),
            turns: 0,
            handed_over: 0,
            receivers: Vec::new(),
        };
        for (index, step) in plan.steps.iter().enumerate() {
            world.agenda.post(BEGIN + step.at, Event::Step(index));
        }
        for member in 0..plan.shape.members {
            world.agenda.post(BEGIN + 7_001 * (1 + u64::from(member)), Event::Look(member));
        }
        for poller in 0..plan.shape.pollers {
            world.agenda.post(BEGIN + 9_001 * (1 + u64::from(poller)), Event::LookPolled(poller));
        }
        world
    }

    /// Runs the plan to its end: faults, then calm if the plan has one, then the end of the server.
    pub fn run(&mut self) -> Verdict {
        let length = self.plan.shape.length;
        self.run_until(BEGIN + length);
        if self.plan.shape.calm && self.oracle.journal.failure.is_none() {
            self.calm_down();
            self.run_until(self.agenda.now + self.time_to_recover());
            // The newest changes are still on their way to some members.
            let due = self.newest_of_all();
            self.run_until(self.agenda.now + self.time_to_tell());
            if self.oracle.journal.failure.is_none() {
                self.check_recovery(&due);
            }
        }
        if self.oracle.journal.failure.is_none() {
            self.end();
        }
        for shard in &mut self.shards {
            if let Some(tape) = &mut shard.desk.tape
                && let Err(what) = tape.look()
            {
                self.oracle.journal.fail(self.agenda.now, "I23 recording", what);
            }
        }
        self.verdict()
    }

    /// Returns the result of the run so far.
    pub fn verdict(&self) -> Verdict {
        let mut seen = self.oracle.journal.seen.clone();
        self.shards.iter().for_each(|shard| shard.sum_up(&mut seen));
        seen.add("driver: a tick is cut and finished", self.net.ticks_cut);
        if let Some(storage) = &self.storage {
            seen.add("storage: a dead server's record arrives", storage.overdue);
            seen.add("storage: a dead server's record is rejected as older", storage.rejected);
        }
        seen.add("recoveries", self.oracle.journal.recoveries);
        seen.add("hand-overs", self.handed_over);
        let mut digest = Digest::default();
        self.shards.iter().for_each(|shard| digest.add(shard.desk.digest.0));
        Verdict {
            failure: self.oracle.journal.failure.clone(),
            digest: digest.0,
            passed: self.agenda.now - BEGIN,
            turns: self.turns,
            messages: self
                .shards
                .iter()
                .map(|shard| shard.turn.machine().counters().messages_out)
                .sum(),
            handed_over: self.handed_over,
            recoveries: self.oracle.journal.recoveries,
            seen,
        }
    }

    fn run_until(&mut self, end: u64) {
        while self.oracle.journal.failure.is_none()
            && let Some(event) = self.agenda.next(end)
        {
            if self.agenda.is_stuck() {
                let what = format!("{event:?} over and over");
                self.oracle.journal.fail(self.agenda.now, "I16 no endless loop", what);
            }
            self.happen(event);
        }
        if self.oracle.journal.failure.is_none() {
            self.agenda.now = end;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Door(wire, shard) => {
                if self.net.cables[wire].end != ServerEnd::Door {
                    return;
                }
                self.net.knock(wire, shard);
                self.shards[usize::from(shard)].desk.knock(wire);
                self.agenda.wake(shard, self.agenda.now);
            }
            Event::Up(wire) => self.split().2.arrive_up(wire),
            Event::Down(wire) => self.arrive_down(wire),
            Event::Turn(shard) => self.turn(shard),
            Event::Look(member) => {
                let (members, _, mut cx) = self.split();
                members[usize::from(member)].look(&mut cx);
                self.agenda.post(self.agenda.now + LOOK, Event::Look(member));
            }
            Event::LookPolled(poller) => {
                let (_, pollers, mut cx) = self.split();
                pollers[usize::from(poller)].look(&mut cx);
            }
            Event::Probe(member) => {
                let (members, _, mut cx) = self.split();
                members[usize::from(member)].probe(&mut cx);
            }
            Event::Back => self.storage_back(),
            Event::Relief => {
                if self.agenda.now >= self.life.scarce_until {
                    self.set_memory(FreeMemory::Enough);
                }
            }
            Event::Step(index) => self.step(index),
        }
    }

    /// Runs a step of the plan.
    fn step(&mut self, index: usize) {
        let step = &self.plan.steps[index];
        let now = self.agenda.now;
        match &step.act {
            Act::Freeze { time } => {
                self.agenda.freeze(step.who % self.plan.shape.shards, *time);
            }
            Act::WallStep { by } => {
                self.life.wall += by;
                self.life.stepped = true;
                self.oracle.clock_stepped();
                for shard in 0..self.shards.len() {
                    self.shards[shard].desk.wall_step = Some(self.life.wall);
                    self.agenda.wake(shard as u16, now);
                }
            }
            Act::Restart => self.restart(),
            Act::LowMemory { out, time } => {
                self.life.scarce_until = self.life.scarce_until.max(now + time);
                self.agenda.post(self.life.scarce_until, Event::Relief);
                self.set_memory(if *out { FreeMemory::Out } else { FreeMemory::Low });
            }
            Act::Away { time } => {
                let until = now + time;
                if let Some(storage) = &mut self.storage {
                    storage.away_until = Some(until.max(storage.away_until.unwrap_or(0)));
                    self.agenda.post(until, Event::Back);
                }
            }
            act => self.act(step.who, act),
        }
    }

    /// Runs an act of a member.
    fn act(&mut self, member: u16, act: &Act) {
        let (members, _, mut cx) = self.split();
        if let Some(member) = members.get_mut(usize::from(member)) {
            member.act(&mut cx, act);
        }
    }

    /// Lets a client read the bytes that have arrived.
    fn arrive_down(&mut self, wire: usize) {
        let (members, pollers, mut cx) = self.split();
        let Wire { member, poller, .. } = cx.wires[wire];
        match poller {
            Some(poller) => pollers[usize::from(poller)].arrive(&mut cx, wire),
            None => members[usize::from(member)].arrive(&mut cx, wire),
        }
    }

    /// Borrows the clients, and the parts of the world that they may use.
    fn split(&mut self) -> (&mut [Member], &mut [Poller], Cx<'_>) {
        let Self { plan, agenda, net, wires, oracle, .. } = self;
        (&mut self.members, &mut self.pollers, Cx { plan, agenda, net, wires, oracle })
    }

    fn set_memory(&mut self, memory: FreeMemory) {
        self.life.memory = memory;
        self.agenda.wake_all();
    }

    /// Makes the storage available again, and announces that to all shards.
    fn storage_back(&mut self) {
        let now = self.agenda.now;
        let Some(storage) = &mut self.storage else { return };
        if storage.away_until.is_none_or(|until| now < until) {
            return;
        }
        for (shard, answer) in storage.come_back(now) {
            self.shards[usize::from(shard)].desk.receive(answer);
        }
        for shard in 0..self.shards.len() {
            self.shards[shard].desk.hear_of_return(now);
            self.agenda.wake(shard as u16, now);
        }
    }

    /// Restarts the server after it died with all its memory.
    fn restart(&mut self) {
        self.life.lives += 1;
        for wire in 0..self.wires.len() {
            let (one, cable) = (&mut self.wires[wire], &mut self.net.cables[wire]);
            (one.seat, one.hope) = (None, None);
            if cable.end != ServerEnd::Gone {
                (cable.end, cable.reset, one.spoiled) = (ServerEnd::Gone, true, true);
                let at = self.agenda.now + self.net.habits.delay;
                self.net.post_down(&mut self.agenda, wire, at);
            }
        }
        self.net.restart();
        self.shutdown = Shutdown::new(self.plan.shape.shards);
        self.mailboxes.iter_mut().for_each(VecDeque::clear);
        for shard in 0..self.shards.len() {
            self.shards[shard].sum_up(&mut self.oracle.journal.seen);
            let one = &mut self.shards[shard];
            let fresh = ShardState::new(shard as u16);
            let before = std::mem::replace(&mut one.desk, fresh);
            one.desk.digest = before.digest;
            one.desk.tape = before.tape;
            one.turn = turn_of(self.plan, shard as u16, self.life.lives, self.life.wall);
            // The new shard does not know yet how little memory is left.
            self.oracle.server.full[shard] = false;
            self.agenda.restart(shard as u16);
        }
        if let Some(storage) = &mut self.storage {
            storage.forget_orders(self.agenda.now);
        }
        self.oracle.restarted(self.life.wall, self.life.stepped);
    }

    /// Ends all permanent faults. Connections that are broken stay broken until an end notices.
    fn calm_down(&mut self) {
        self.agenda.calm = true;
        self.life.scarce_until = self.agenda.now;
        self.set_memory(FreeMemory::Enough);
        self.net.calm = true;
        self.net.habits = Net { jitter: 0, chop: 0, window: 262_144, ..self.net.habits.clone() };
        for wire in 0..self.wires.len() {
            let one = &mut self.net.cables[wire];
            if one.end != ServerEnd::Gone || !self.wires[wire].left {
                let (up, down) =
                    (one.up.release(self.agenda.now), one.down.release(self.agenda.now));
                self.net.post_up(&mut self.agenda, wire, up);
                self.net.post_down(&mut self.agenda, wire, down);
            }
        }
        self.agenda.thaw();
        self.members.iter_mut().for_each(Member::calm_down);
        self.pollers.iter_mut().for_each(Poller::calm_down);
        if let Some(storage) = &mut self.storage {
            storage.calm_down();
            storage.away_until = storage.away_until.map(|_| self.agenda.now);
            self.storage_back();
        }
    }

    /// Returns the time until every member is in its session: both ends notice broken connections,
    /// grace periods end, and rejected members try again.
    fn time_to_recover(&self) -> u64 {
        let shape = &self.plan.shape;
        let wait = shape.storage.as_ref().map_or(0, |storage| storage.wait);
        2 * (shape.ping + shape.ping_timeout + wait)
            + shape.grace
            + shape.batch
            + 20 * (shape.net.delay + shape.net.detour)
            + 12 * SECOND
    }

    /// Returns the time until every member has received a change.
    fn time_to_tell(&self) -> u64 {
        let shape = &self.plan.shape;
        2 * shape.batch + 4 * (shape.net.delay + shape.net.detour) + SECOND
    }

    /// Ends the server: every member receives a goodbye, every connection closes, and every session
    /// is forgotten in time.
    fn end(&mut self) {
        self.agenda.calm = true;
        // The end comes while members send and change sessions.
        for member in 0..self.members.len() {
            let sessions = self.plan.shape.sessions;
            let act = match (self.members[member].want.clone(), member % 3) {
                (Some(want), 0) => {
                    Act::Join(Join { session: (want.session + 1) % sessions, ..want })
                }
                (_, n) => Act::Say(Say::Message { text: (n + member / 3 % 2) as u8 }),
            };
            self.act(member as u16, &act);
        }
        let patience = self.plan.shape.driver.mail.min(20_000);
        self.run_until(
            self.agenda.now + self.net.habits.delay + self.net.habits.detour / 2 + patience,
        );
        if self.oracle.journal.failure.is_some() {
            return;
        }
        self.oracle.server.draining = true;
        self.shutdown.ask(Micros::from_micros(self.agenda.now + 3_600 * SECOND));
        // Shards notice the end one after the other, while members are on their way between them.
        let mut luck = SimRng::new(self.plan.seed, 8_003);
        let most = self.net.habits.delay + self.net.habits.detour + 5_000;
        for shard in 0..self.shards.len() {
            self.agenda.rhythms[shard].frozen_until = self.agenda.now;
            let at = self.agenda.now + luck.below(most);
            self.agenda.wake(shard as u16, at);
        }
        for member in (0..self.members.len()).step_by(2) {
            if let Some(want) = self.members[member].want.clone() {
                let session = (want.session + 1) % self.plan.shape.sessions;
                self.act(member as u16, &Act::Join(Join { session, ..want }));
            }
        }
        let now = self.agenda.now;
        for wire in 0..self.wires.len() {
            let one = &mut self.net.cables[wire];
            if one.end != ServerEnd::Gone || !self.wires[wire].left {
                one.up.release(now);
                one.down.release(now);
                self.net.post_up(&mut self.agenda, wire, now);
                self.net.post_down(&mut self.agenda, wire, now);
            }
        }
        // For a while members continue as before: they connect and join again.
        self.run_until(self.agenda.now + 2 * SECOND);
        self.members.iter_mut().for_each(Member::retire);
        self.pollers.iter_mut().for_each(Poller::retire);
        self.run_until(
            self.agenda.now + 10 * SECOND + self.plan.shape.empty_ttl + self.plan.shape.grace,
        );
        if self.oracle.journal.failure.is_some() {
            return;
        }
        for shard in 0..self.shards.len() {
            let engine = self.shards[shard].turn.machine();
            let (counters, connections) = (engine.counters(), self.connections(shard));
            let what = match () {
                () if connections > 0 => format!("{connections} connections are left"),
                () if !engine.is_drained() => "the engine is not drained".to_owned(),
                () if !self.shutdown.is_quiet() => "the server cannot end".to_owned(),
                () if counters.clients + counters.members > 0 => format!("left over: {counters:?}"),
                () if counters.sessions > 0 => {
                    format!("{} empty sessions are kept for ever", counters.sessions)
                }
                () if engine.next_deadline().is_some() => {
                    "a timer without anybody to wake".to_owned()
                }
                () => continue,
            };
            self.oracle.journal.fail(
                self.agenda.now,
                "I11 nothing is left",
                format!("shard {shard}: {what}"),
            );
        }
    }
}
