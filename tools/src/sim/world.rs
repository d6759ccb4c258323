//! The world: shards, members, a network and one heap of what happens when. One plan in, one
//! verdict out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::hash::RandomState;
use std::net::{IpAddr, Ipv4Addr};

use bandsync_driver::Shutdown;
use bandsync_engine::io::Memory;
use bandsync_engine::words::ids::SessionId;
use bandsync_engine::words::time::Micros;

use super::coverage::Coverage;
use super::member::Member;
use super::net::SimNet;
use super::oracle::{Failure, Oracle};
use super::plan::{Act, Join, Net, Plan, Say};
use super::poller::Poller;
use super::record::RecorderCheck;
use super::rng::{Digest, SimRng};
use super::settings::{goodbye, turn_of};
use super::shell::{Desk, Posted, Shard};
use super::storage::Storage;
use super::wire::{Cable, Place, Wire};

/// A shard of a server that has just started.
fn shard_of(plan: &Plan, id: u16) -> Shard {
    Shard { turn: turn_of(plan, id, 0, 0), desk: Desk::new(plan, id) }
}

/// Where a member or a poller comes from: each from somewhere else.
pub fn peer_of(member: u16, polls: bool) -> IpAddr {
    let [high, low] = member.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, u8::from(polls), high, low))
}

/// Between two looks of a member at its own affairs.
pub const LOOK: u64 = 400_000;

const SECOND: u64 = 1_000_000;

/// More events than this at one instant are a loop.
const BUSY_MAX: u64 = 200_000;

/// Sessions and the versions that they are at.
pub type Newest = BTreeMap<SessionId, (u64, u64)>;

/// Something that happens. The order of the variants decides nothing: of two at one time the one
/// posted first is first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Event {
    /// A connection reaches the server's door.
    Door(usize, u16),
    /// Bytes may have arrived at the server.
    Up(usize),
    /// Bytes may have arrived at the client.
    Down(usize),
    Turn(u16),
    Look(u16),
    LookPolled(u16),
    /// A member may want to know the time.
    Probe(u16),
    Step(usize),
    /// The storage is back.
    Back,
    /// There is memory again.
    Relief,
}

pub struct World<'p> {
    pub plan: &'p Plan,
    pub now: u64,
    heap: BinaryHeap<Reverse<(u64, u64, Event)>>,
    posted: u64,
    pub shards: Vec<Shard>,
    pub wires: Vec<Wire>,
    pub members: Vec<Member>,
    pub pollers: Vec<Poller>,
    pub oracle: Oracle,
    pub storage: Option<Storage>,
    /// How often the server has died, and whether its wall clock was ever set.
    lives: u64,
    stepped: bool,
    /// What the shards hand to each other.
    pub mailboxes: Vec<VecDeque<Posted>>,
    /// What the shards of this life know about its end.
    pub shutdown: Shutdown,
    pub net: SimNet,
    pub calm: bool,
    pub turns: u64,
    pub handed_over: u64,
    pub wall: i64,
    /// How much memory is left, and until when it is scarce.
    pub memory: Memory,
    scarce_until: u64,
    /// Events since time last moved.
    busy: u64,
    /// Kept for their memory.
    pub receivers: Vec<usize>,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub failure: Option<Failure>,
    /// Of all outputs of all shards.
    pub digest: u64,
    /// Microseconds that passed in the world.
    pub passed: u64,
    pub turns: u64,
    pub messages: u64,
    pub handed_over: u64,
    /// How often somebody came back as who it was.
    pub recoveries: u64,
    /// What came about that is rare.
    pub seen: Coverage,
}

impl<'p> World<'p> {
    /// A world before anything has happened.
    pub fn new(plan: &'p Plan) -> Self {
        let mut shards: Vec<Shard> = (0..plan.shape.shards).map(|id| shard_of(plan, id)).collect();
        // A server that records agrees to no compression.
        if plan.shape.deflate.is_none() && plan.seed.is_multiple_of(2) {
            let key = RandomState::new();
            shards.iter_mut().for_each(|shard| {
                shard.desk.tape = Some(Box::new(RecorderCheck::new(key.clone())))
            });
        }
        let mut world = Self {
            plan,
            now: SECOND,
            heap: BinaryHeap::new(),
            posted: 0,
            shards,
            wires: Vec::new(),
            members: (0..plan.shape.members).map(|id| Member::new(plan.seed, id)).collect(),
            pollers: (0..plan.shape.pollers).map(|id| Poller::new(plan.seed, id)).collect(),
            oracle: Oracle::new(&plan.shape, goodbye(plan)),
            storage: plan.shape.storage.clone().map(|habits| Storage::new(habits, plan.seed)),
            lives: 0,
            stepped: false,
            mailboxes: (0..plan.shape.shards).map(|_| VecDeque::new()).collect(),
            shutdown: Shutdown::new(plan.shape.shards),
            net: SimNet::new(plan),
            calm: false,
            turns: 0,
            handed_over: 0,
            wall: 0,
            memory: Memory::Enough,
            scarce_until: 0,
            busy: 0,
            receivers: Vec::new(),
        };
        for (index, step) in plan.steps.iter().enumerate() {
            world.post(SECOND + step.at, Event::Step(index));
        }
        for member in 0..plan.shape.members {
            world.post(SECOND + 7_001 * (1 + u64::from(member)), Event::Look(member));
        }
        for poller in 0..plan.shape.pollers {
            world.post(SECOND + 9_001 * (1 + u64::from(poller)), Event::LookPolled(poller));
        }
        world
    }

    /// Runs the plan to its end: faults, then calm if the plan has one, then the end of the server.
    pub fn run(&mut self) -> Verdict {
        let length = self.plan.shape.length;
        self.run_until(SECOND + length);
        if self.plan.shape.calm && self.oracle.journal.failure.is_none() {
            self.calm_down();
            self.run_until(self.now + self.time_to_recover());
            // What has just changed is still on its way to some.
            let due = self.newest_of_all();
            self.run_until(self.now + self.time_to_tell());
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
                self.oracle.journal.fail(self.now, "I23 recording", what);
            }
        }
        self.verdict()
    }

    /// What has come of it so far.
    pub fn verdict(&self) -> Verdict {
        let mut seen = self.oracle.journal.seen.clone();
        self.shards.iter().for_each(|shard| shard.sum_up(&mut seen));
        seen.add("driver: a tick is cut and finished", self.net.ticks_cut);
        if let Some(storage) = &self.storage {
            seen.add("storage: a dead server's record arrives", storage.overdue);
            seen.add("storage: a dead server's record is refused as older", storage.refused);
        }
        seen.add("recoveries", self.oracle.journal.recoveries);
        seen.add("hand-overs", self.handed_over);
        let mut digest = Digest::default();
        self.shards.iter().for_each(|shard| digest.add(shard.desk.digest.0));
        Verdict {
            failure: self.oracle.journal.failure.clone(),
            digest: digest.0,
            passed: self.now - SECOND,
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

    /// Has something happen.
    pub fn post(&mut self, at: u64, event: Event) {
        self.posted += 1;
        self.heap.push(Reverse((at.max(self.now), self.posted, event)));
    }

    /// Has the server's end of a connection looked at, unless that is to happen anyway.
    pub fn post_up(&mut self, wire: usize, at: u64) {
        if let Some(at) = self.net.cables[wire].up.look(at.max(self.now)) {
            self.post(at, Event::Up(wire));
        }
    }

    /// Has the client's end of a connection looked at, unless that is to happen anyway.
    pub fn post_down(&mut self, wire: usize, at: u64) {
        if let Some(at) = self.net.cables[wire].down.look(at.max(self.now)) {
            self.post(at, Event::Down(wire));
        }
    }

    fn run_until(&mut self, end: u64) {
        while let Some(Reverse((at, _, event))) = self.heap.peek().copied() {
            if at > end || self.oracle.journal.failure.is_some() {
                break;
            }
            self.heap.pop();
            self.busy = if at == self.now { self.busy + 1 } else { 0 };
            self.now = at;
            if self.busy > BUSY_MAX {
                self.oracle.journal.fail(at, "I16 no endless loop", format!("{event:?} over and over"));
            }
            self.happen(event);
        }
        if self.oracle.journal.failure.is_none() {
            self.now = end;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Door(wire, shard) => {
                if self.net.cables[wire].place != Place::Door {
                    return;
                }
                self.net.knock(wire, shard);
                self.shards[usize::from(shard)].desk.knock(wire);
                self.wake(shard, self.now);
            }
            Event::Up(wire) => self.arrive_up(wire),
            Event::Down(wire) => self.arrive_down(wire),
            Event::Turn(shard) => self.turn(shard),
            Event::Look(member) => {
                self.look(member);
                self.post(self.now + LOOK, Event::Look(member));
            }
            Event::LookPolled(poller) => self.look_polled(poller),
            Event::Probe(member) => self.probe(member),
            Event::Back => self.storage_back(),
            Event::Relief => {
                if self.now >= self.scarce_until {
                    self.set_memory(Memory::Enough);
                }
            }
            Event::Step(index) => {
                let step = &self.plan.steps[index];
                match &step.act {
                    Act::Freeze { time } => {
                        let shard = usize::from(step.who % self.plan.shape.shards);
                        let until = self.now + time;
                        let one = &mut self.shards[shard].desk;
                        one.rhythm.frozen_until = one.rhythm.frozen_until.max(until);
                        // What came meanwhile, such as a pong or a connection, is taken in late.
                        one.rhythm.late_at = one.rhythm.late_at.max(until);
                        // The turn that was to come comes when the shard wakes.
                        one.rhythm.turn_at = None;
                        self.wake(shard as u16, until);
                    }
                    Act::WallStep { by } => {
                        self.wall += by;
                        self.stepped = true;
                        self.oracle.clock_stepped();
                        for shard in 0..self.shards.len() {
                            self.shards[shard].desk.wall_step = Some(self.wall);
                            self.wake(shard as u16, self.now);
                        }
                    }
                    Act::Restart => self.restart(),
                    Act::Scarce { out, time } => {
                        self.scarce_until = self.scarce_until.max(self.now + time);
                        self.post(self.scarce_until, Event::Relief);
                        self.set_memory(if *out { Memory::Out } else { Memory::Low });
                    }
                    Act::Away { time } => {
                        let until = self.now + time;
                        if let Some(storage) = &mut self.storage {
                            storage.away_until = Some(until.max(storage.away_until.unwrap_or(0)));
                            self.post(until, Event::Back);
                        }
                    }
                    act => self.act(step.who, act),
                }
            }
        }
    }

    fn set_memory(&mut self, memory: Memory) {
        self.memory = memory;
        for shard in 0..self.shards.len() {
            self.wake(shard as u16, self.now);
        }
    }

    /// The storage can be reached again, and everybody is told.
    fn storage_back(&mut self) {
        let now = self.now;
        let Some(storage) = &mut self.storage else { return };
        if storage.away_until.is_none_or(|until| now < until) {
            return;
        }
        for (shard, answer) in storage.come_back(now) {
            self.shards[usize::from(shard)].desk.hear(answer);
        }
        for shard in 0..self.shards.len() {
            self.shards[shard].desk.hear_of_return(now);
            self.wake(shard as u16, now);
        }
    }

    /// The server dies with all that it has in memory, and starts again.
    fn restart(&mut self) {
        self.lives += 1;
        for wire in 0..self.wires.len() {
            let (one, cable) = (&mut self.wires[wire], &mut self.net.cables[wire]);
            (one.seat, one.hope) = (None, None);
            if cable.place != Place::Gone {
                (cable.place, cable.reset, one.spoiled) = (Place::Gone, true, true);
                self.post_down(wire, self.now + self.net.habits.delay);
            }
        }
        self.net.restart();
        self.shutdown = Shutdown::new(self.plan.shape.shards);
        self.mailboxes.iter_mut().for_each(VecDeque::clear);
        for shard in 0..self.shards.len() {
            self.shards[shard].sum_up(&mut self.oracle.journal.seen);
            let one = &mut self.shards[shard];
            let fresh = Desk::new(self.plan, shard as u16);
            let before = std::mem::replace(&mut one.desk, fresh);
            one.desk.digest = before.digest;
            (one.desk.luck, one.desk.tape) = (before.luck, before.tape);
            one.turn = turn_of(self.plan, shard as u16, self.lives, self.wall);
            // It has not heard yet how little memory there is.
            self.oracle.server.full[shard] = false;
            self.wake(shard as u16, self.now);
        }
        if let Some(storage) = &mut self.storage {
            storage.forget_orders(self.now);
        }
        self.oracle.restarted(self.wall, self.stepped);
    }

    /// Bytes arrive at the server.
    pub fn arrive_up(&mut self, wire: usize) {
        if let Some(again) = self.net.cables[wire].up.arrive(self.now) {
            self.post_up(wire, again);
        }
        if let Some(shard) = self.net.report(wire) {
            self.wake(shard, self.now);
        }
    }

    /// The client's end tells the server's that there is room again.
    pub fn tell_room(&mut self, wire: usize) {
        if self.net.cables[wire].awaits_room
            && let Some(shard) = self.net.report(wire)
        {
            self.wake(shard, self.now + self.net.habits.delay);
        }
    }

    /// Sends bytes to the server.
    pub fn send(&mut self, wire: usize, bytes: &[u8]) {
        let cable = &mut self.net.cables[wire];
        if cable.reset || cable.up.has_ended() || bytes.is_empty() {
            return;
        }
        self.wires[wire].sent_up += bytes.len() as u64;
        let at = cable.up.send(self.now, bytes, &self.net.habits, &mut cable.luck);
        self.post_up(wire, at);
    }

    /// Ends the stream to the server.
    pub fn end_stream(&mut self, wire: usize) {
        self.wires[wire].ended = true;
        let cable = &mut self.net.cables[wire];
        if !cable.up.has_ended() {
            let at = cable.up.end(self.now, &self.net.habits);
            self.post_up(wire, at);
        }
    }

    /// Opens a connection to one of the shards.
    pub fn open(&mut self, member: u16, stray: bool) -> usize {
        let count = self.members[usize::from(member)].count();
        let luck = SimRng::new(self.plan.seed, 10_000 + (u64::from(member) << 20) + count);
        self.open_with(member, luck, stray)
    }

    /// Opens a connection that has its own luck.
    pub fn open_with(&mut self, member: u16, mut luck: SimRng, stray: bool) -> usize {
        let wire = self.wires.len();
        let shard = luck.below(self.shards.len() as u64) as u16;
        self.wires.push(Wire {
            member,
            shard,
            ended: false,
            poller: None,
            left: stray,
            spoiled: stray,
            stray,
            opened: self.now,
            sid: String::new(),
            seat: None,
            told: (0, 0),
            deflated: Default::default(),
            inflater: None,
            hope: None,
            asks: Vec::new(),
            rejected: Default::default(),
            marks: Default::default(),
            owed: 0,
            sent_up: 0,
            read_up: 0,
            pinged: None,
            dismissed: false,
            upgraded: false,
            spent: Default::default(),
        });
        // Which of the two ways is the longer one is the same for all connections of a member.
        let mut one = Cable::new(peer_of(member, false), luck);
        if member.is_multiple_of(2) {
            one.down.detour = self.net.habits.detour;
        } else {
            one.up.detour = self.net.habits.detour;
        }
        self.net.cables.push(one);
        self.post(self.now + self.net.habits.delay, Event::Door(wire, shard));
        wire
    }

    /// From now on nothing goes wrong by itself. What is broken already stays broken until somebody
    /// notices.
    fn calm_down(&mut self) {
        self.calm = true;
        self.scarce_until = self.now;
        self.set_memory(Memory::Enough);
        self.net.calm = true;
        self.net.habits = Net { jitter: 0, chop: 0, window: 262_144, ..self.net.habits.clone() };
        for wire in 0..self.wires.len() {
            let one = &mut self.net.cables[wire];
            if one.place != Place::Gone || !self.wires[wire].left {
                let (up, down) = (one.up.release(self.now), one.down.release(self.now));
                self.post_up(wire, up);
                self.post_down(wire, down);
            }
        }
        for shard in 0..self.shards.len() {
            self.shards[shard].desk.rhythm.frozen_until = self.now;
            self.wake(shard as u16, self.now);
        }
        self.members.iter_mut().for_each(Member::calm_down);
        self.pollers.iter_mut().for_each(Poller::calm_down);
        if let Some(storage) = &mut self.storage {
            storage.calm_down();
            storage.away_until = storage.away_until.map(|_| self.now);
            self.storage_back();
        }
    }

    /// How long it may take until everybody is where they want to be: both ends notice what broke,
    /// a lost leader's place is given away, and who was refused tries again.
    fn time_to_recover(&self) -> u64 {
        let shape = &self.plan.shape;
        let wait = shape.storage.as_ref().map_or(0, |storage| storage.wait);
        2 * (shape.ping + shape.ping_timeout + wait)
            + shape.grace
            + shape.batch
            + 20 * (shape.net.delay + shape.net.detour)
            + 12 * SECOND
    }

    /// How long it may take until everybody has been told of a change.
    fn time_to_tell(&self) -> u64 {
        let shape = &self.plan.shape;
        2 * shape.batch + 4 * (shape.net.delay + shape.net.detour) + SECOND
    }

    /// The version that a session is at, if there is one of this name.
    pub fn newest(&self, name: &SessionId) -> Option<(u64, u64)> {
        let home = usize::from(name.shard(self.plan.shape.shards).0);
        let session = self.shards[home].turn.machine().session(name)?;
        Some((session.epoch(), session.version()))
    }

    /// The versions of all sessions that members and pollers go to.
    fn newest_of_all(&self) -> Newest {
        let bands = self.pollers.iter().filter_map(|poller| SessionId::parse(&poller.session()));
        let names = self.oracle.sessions.iter().map(|court| court.name.clone()).chain(bands);
        names.filter_map(|name| Some((name.clone(), self.newest(&name)?))).collect()
    }

    /// Everybody is connected and was told what was `due`, or was told why not, and nobody waits
    /// for an answer.
    fn check_recovery(&mut self, due: &Newest) {
        self.check_pollers(due);
        self.check_clocks();
        let now = self.now;
        for member in 0..self.members.len() {
            let one = &self.members[member];
            let Some(want) = &one.want else { continue };
            let name = &self.oracle.sessions[usize::from(want.session)].name;
            let (newest, due) = (self.newest(name), due.get(name));
            let told_why = one.told_why.is_some_and(|at| now - at < 5 * SECOND);
            let what = match one.wire.map(|wire| &self.wires[wire]) {
                _ if told_why => continue,
                None => "has no connection".to_owned(),
                Some(wire) if one.joined != Some(want.session) => {
                    format!(
                        "is not in s{}, and was not told why: {:?} {:?}",
                        want.session, wire.shard, wire.asks
                    )
                }
                Some(_) if newest < Some(one.held) || due.is_some_and(|due| one.held < *due) => {
                    format!("holds {:?} of {newest:?}", one.held)
                }
                Some(wire) => {
                    let late =
                        wire.asks.iter().find(|ask| !wire.spoiled && now - ask.sent > 3 * SECOND);
                    let Some(ask) = late else { continue };
                    format!("was never answered: {ask:?}")
                }
            };
            self.oracle.journal.fail(now, "I18 recovery", format!("member {member} {what}"));
        }
        for court in 0..self.oracle.sessions.len() {
            self.check_stored(court);
            let Some(model) = &self.oracle.sessions[court].model else { continue };
            let away = model
                .leader
                .as_ref()
                .and_then(|id| model.people.iter().find(|person| person.id == *id));
            if away.is_some_and(|leader| !leader.connected) {
                self.oracle.journal.fail(
                    now,
                    "I18 recovery",
                    format!("the leader of s{court} is gone for good"),
                );
            }
        }
    }

    /// Where nothing disturbs them, clocks are as good as the network allows.
    fn check_clocks(&mut self) {
        let (now, net) = (self.now, &self.net.habits);
        // Half a round trip, what the skew adds since the last probe, and what a turn may take.
        let half = (2 * net.delay + net.detour) as f64 / 2_000.0;
        for (m, member) in self.members.iter_mut().enumerate() {
            let steady = member.joined.is_some();
            let Some(keeper) =
                member.keeper.as_mut().filter(|keeper| steady && keeper.calm_answers >= 8)
            else {
                continue;
            };
            let done = match keeper.bound(now) {
                Some(bound) if bound > half + 4.0 => {
                    Err(format!("is {bound:.3} ms with half a trip of {half:.3}"))
                }
                bound => keeper
                    .check(now)
                    .map(|()| self.oracle.journal.seen.add("a clock is good", u64::from(bound.is_some()))),
            };
            if let Err(what) = done {
                self.oracle.journal.fail(
                    now,
                    "I21 clock",
                    format!("in calm the bound of member {m}: {what}"),
                );
            }
        }
    }

    /// What is decided is stored a moment later.
    fn check_stored(&mut self, court: usize) {
        let (now, court) = (self.now, &self.oracle.sessions[court]);
        let (Some(storage), Some(model)) = (&self.storage, &court.model) else { return };
        let kept = storage.kept(&court.name);
        let newest = (court.epoch, model.version);
        if self.stepped && kept.is_some_and(|kept| kept.is_late && kept.epoch > court.epoch) {
            // A server that died had a clock that was ahead, and what it wrote came last.
            return;
        }
        let kept = kept.map(|kept| (kept.epoch, kept.version));
        if model.version > 0 && kept != Some(newest) && now > court.owed.changed_at + SECOND {
            let what = format!("{kept:?} is stored of {:?}, which is at {newest:?}", court.name);
            self.oracle.journal.fail(now, "I19 stored in the end", what);
        }
    }

    /// The server ends: everybody is told, every connection closes, every session is forgotten in
    /// time.
    fn end(&mut self) {
        self.calm = true;
        // It ends while people talk and go from one session to another.
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
        self.run_until(self.now + self.net.habits.delay + self.net.habits.detour / 2 + patience);
        if self.oracle.journal.failure.is_some() {
            return;
        }
        self.oracle.server.draining = true;
        self.shutdown.ask(Micros::from_micros(self.now + 3_600 * SECOND));
        // Shards notice that one after the other, while members are on their way between them.
        let mut luck = SimRng::new(self.plan.seed, 8_003);
        let most = self.net.habits.delay + self.net.habits.detour + 5_000;
        for shard in 0..self.shards.len() {
            self.shards[shard].desk.rhythm.frozen_until = self.now;
            self.wake(shard as u16, self.now + luck.below(most));
        }
        for member in (0..self.members.len()).step_by(2) {
            if let Some(want) = self.members[member].want.clone() {
                let session = (want.session + 1) % self.plan.shape.sessions;
                self.act(member as u16, &Act::Join(Join { session, ..want }));
            }
        }
        for wire in 0..self.wires.len() {
            let one = &mut self.net.cables[wire];
            if one.place != Place::Gone || !self.wires[wire].left {
                one.up.release(self.now);
                one.down.release(self.now);
                self.post_up(wire, self.now);
                self.post_down(wire, self.now);
            }
        }
        // For a while everybody goes on as if nothing were: comes again, and asks to be let in.
        self.run_until(self.now + 2 * SECOND);
        self.members.iter_mut().for_each(Member::retire);
        self.pollers.iter_mut().for_each(Poller::retire);
        self.run_until(self.now + 10 * SECOND + self.plan.shape.empty_ttl + self.plan.shape.grace);
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
                () if counters.links + counters.members > 0 => format!("left over: {counters:?}"),
                () if counters.sessions > 0 => {
                    format!("{} empty sessions are kept for ever", counters.sessions)
                }
                () if engine.next_deadline().is_some() => {
                    "a timer without anybody to wake".to_owned()
                }
                () => continue,
            };
            self.oracle.journal.fail(self.now, "I11 nothing is left", format!("shard {shard}: {what}"));
        }
    }
}
