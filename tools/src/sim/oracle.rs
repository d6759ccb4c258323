//! What everybody was told, held against the oracle: the models of all sessions, and the invariants
//! that need to know who said what.

#[path = "cost.rs"]
mod cost;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use bandsync_engine::engine::Engine;
use bandsync_engine::io::Goodbye;
use bandsync_engine::record::Record;
use bandsync_engine::words::ids::SessionId;
use serde::Deserialize;

use super::coverage::Coverage;
use super::frames;
use super::heard::{
    Ack, Fields, Heard, Snapshot, State, Told, VersionFields, log_of, micros, offset_of, parse,
    understand_ack,
};
use super::model::{Done, LONG_MESSAGE, Model, needs_lead};
use super::plan::{Say, Shape, reveals};
use super::rng::Digest;
use super::wire::{Ask, Asked, Wire};
pub use cost::Work;

/// Which promise was broken, where and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The number of the invariant and its name.
    pub invariant: String,
    pub what: String,
    /// Microseconds.
    pub at: u64,
}

/// Keys are digests already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

type Memo = HashMap<u64, Rc<Told>, BuildHasherDefault<AsIs>>;

/// The wall clock at the beginning of time, in milliseconds.
pub const UNIX_START: i64 = 1_800_000_000_000;

/// After how much silence a server in a hurry pings, in microseconds.
pub const STALE_AFTER: u64 = 2_000_000;

/// How late a turn may come without being a fault.
pub const LATE: u64 = 40_000;

/// Messages remembered before the older half is forgotten.
const MEMO_MAX: usize = 60_000;

/// How long after somebody asked for a seat it may be kept for it: with the time that the asking
/// takes, and the eight seconds for which its shard may stand still before it reads that.
const PROMISED: u64 = 13_000_000;

/// Events of each session of which it is known when they were told.
const LOG_MAX: usize = 256;

/// What was told of a version: its checksum and its timeline, as digests.
type Fact = ((u64, u64), Option<u64>, Option<u64>);

/// A session and all that is known of it.
pub struct SessionOracle {
    pub name: SessionId,
    /// The shard it lives on.
    pub home: u16,
    pub model: Option<Model>,
    pub epoch: u64,
    /// Epochs that it had before and rose above.
    former: Vec<u64>,
    /// Whether the server has not had it since it died.
    is_news: bool,
    /// What who joins is to be told about whether the session was stored, if that is known.
    restored: Option<Option<bool>>,
    /// Where in the session's log the last chat messages stand.
    chats: VecDeque<u64>,
    /// What was told of the latest versions: checksum and timeline.
    facts: VecDeque<Fact>,
    /// The version when something last happened, and since when members are owed a newer one.
    told_version: u64,
    pub changed_at: u64,
    owed_since: Option<u64>,
    /// Since when ticks are due without a break, and what came of them.
    ticking_since: Option<u64>,
    last_tick: u64,
    ticks: u64,
    /// Whether the real session is to be compared.
    dirty: bool,
    /// When what it keeps for lost members was last given back because memory was scarce.
    forgot_at: Option<u64>,
    /// Who asked to join, and when.
    askers: VecDeque<(u64, String)>,
    /// Who was not known any more and should have been, unless the session turns out to have gone
    /// in the same turn.
    denied: Option<String>,
    /// Commands that changed nothing: whose they were, when, and whether the answer was told.
    unchanged: Vec<(String, u64, bool)>,
    /// What was told first of the latest versions.
    changes: VecDeque<((u64, u64), u64)>,
    /// In a turn in which a grace period ends: whose connections ended too, in an order that is not
    /// known yet.
    closings: Option<Vec<String>>,
}

impl SessionOracle {
    /// Something happened to the model.
    fn changed(&mut self, now: u64) {
        self.dirty = true;
        let version = self.model.as_ref().map_or(0, |model| model.version);
        if !self
            .model
            .as_ref()
            .is_some_and(|model| model.music.at(now).playing && model.has_tick_listeners())
        {
            self.ticking_since = None;
        }
        if std::mem::replace(&mut self.told_version, version) != version {
            self.owed_since.get_or_insert(now);
            self.changed_at = now;
        }
    }
}

/// The whole record.
pub struct Oracle {
    pub courts: Vec<SessionOracle>,
    pub failure: Option<Failure>,
    /// What was said and done, line by line, if somebody wants to read it.
    pub story: Option<Vec<String>>,
    /// From now on all is over, and sessions are as they are.
    pub draining: bool,
    /// How often somebody came back as who it was.
    pub recoveries: u64,
    /// What came about.
    pub seen: Coverage,
    /// Shards that have no memory for more members.
    pub full: Vec<bool>,
    /// Shards that have begun to say goodbye.
    pub drained: Vec<bool>,
    /// How they say it.
    pub goodbye: Goodbye,
    young: Memo,
    old: Memo,
    serial: u64,
    /// Bytes that all sessions have told so far.
    told_bytes: u64,
    /// The newest events of each session's log, by what their offsets begin with: their numbers,
    /// and when they were told.
    logs: BTreeMap<String, VecDeque<(u64, u64)>>,
    /// The wall clock of each shard, in milliseconds.
    pub walls: Vec<i64>,
    grace: u64,
    batch: u64,
    tick: u64,
    ping: u64,
    hurry: bool,
    heartbeat: u64,
    empty_ttl: u64,
    sessions_max: u32,
    members_max: u32,
    members_listed: u32,
    recovery: u64,
    /// After which time without news a loss is noticed at the latest, for all that was missed to be
    /// kept.
    silence: u64,
    memory_max: u32,
}

impl Oracle {
    pub fn new(shape: &Shape, goodbye: Goodbye) -> Self {
        let court = |n: u16| {
            let name = SessionId::parse(&format!("s{n}"))
                .unwrap_or_else(|| unreachable!("a name of two letters"));
            SessionOracle {
                home: name.shard(shape.shards).0,
                name,
                model: None,
                epoch: 0,
                former: Vec::new(),
                is_news: false,
                restored: None,
                chats: VecDeque::new(),
                facts: VecDeque::new(),
                told_version: 0,
                changed_at: 0,
                owed_since: None,
                ticking_since: None,
                last_tick: 0,
                ticks: 0,
                dirty: false,
                forgot_at: None,
                askers: VecDeque::new(),
                denied: None,
                unchanged: Vec::new(),
                changes: VecDeque::new(),
                closings: None,
            }
        };
        Self {
            courts: (0..shape.sessions).map(court).collect(),
            failure: None,
            story: None,
            draining: false,
            recoveries: 0,
            seen: Coverage::default(),
            full: vec![false; usize::from(shape.shards)],
            drained: vec![false; usize::from(shape.shards)],
            goodbye,
            young: Memo::default(),
            old: Memo::default(),
            serial: 0,
            told_bytes: 0,
            logs: BTreeMap::new(),
            walls: vec![0; usize::from(shape.shards)],
            grace: shape.grace,
            batch: shape.batch,
            tick: shape.tick,
            ping: if shape.hurry { shape.ping.min(STALE_AFTER) } else { shape.ping },
            hurry: shape.hurry,
            heartbeat: shape.heartbeat,
            empty_ttl: shape.empty_ttl,
            sessions_max: shape.sessions_max,
            members_max: shape.members_max,
            members_listed: shape.members_listed,
            recovery: shape.recovery,
            silence: (2 * (shape.ping + shape.ping_timeout) + 5_000_000).min(shape.recovery),
            memory_max: shape.memory_max,
        }
    }

    /// Notes the first promise that was broken.
    pub fn fail(&mut self, at: u64, invariant: &str, what: impl Into<String>) {
        if self.failure.is_none() {
            self.failure = Some(Failure { invariant: invariant.into(), what: what.into(), at });
        }
    }

    /// Counts a situation.
    pub fn saw(&mut self, what: &'static str) {
        self.seen.add(what, 1);
    }

    /// Adds a line to the story.
    pub fn note(&mut self, now: u64, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>12.6} {}", now as f64 / 1e6, line()));
        }
    }

    /// What a frame says, if the server has said it.
    pub fn heard(&self, frame: &[u8]) -> Option<Rc<Told>> {
        self.heard_as(Digest::of(frame))
    }

    /// The same by the digest of the frame.
    pub fn heard_as(&self, key: u64) -> Option<Rc<Told>> {
        self.young.get(&key).or_else(|| self.old.get(&key)).cloned()
    }

    /// The engine sends a frame to these connections.
    pub fn sent(
        &mut self,
        now: u64,
        frame: &[u8],
        volatile: bool,
        to: &[usize],
        wires: &mut [Wire],
    ) {
        match frame.first() {
            Some(&frames::TEXT) => {}
            Some(&frames::PONG) => {
                return to.iter().for_each(|wire| {
                    wires[*wire].spent.pongs += 1;
                    self.weigh(now, &wires[*wire], frame.len());
                });
            }
            Some(&frames::DEFLATED) => return self.sent_deflated(now, frame, volatile, to, wires),
            Some(b'H') if frame.starts_with(b"HTTP/1.1 101") => {
                let agreed = String::from_utf8_lossy(frame);
                to.iter().for_each(|wire| wires[*wire].agree(&agreed));
                return;
            }
            _ => return,
        }
        let told = match self.heard(frame) {
            Some(told) => told,
            None => self.read(now, frame),
        };
        if !matches!(told.what, Heard::Tick { .. }) {
            self.note(now, || {
                let to: Vec<&str> =
                    to.iter().map(|wire| wires[*wire].sid.get(..4).unwrap_or("-")).collect();
                let text = String::from_utf8_lossy(&frame[2..]).into_owned();
                format!("to {}: {}", to.join(" "), text.chars().take(150).collect::<String>())
            });
        }
        if let Some((_, number)) = &told.offset {
            for wire in to {
                if let Some(hope) = &mut wires[*wire].hope {
                    hope.told.push(*number);
                }
            }
        }
        match &told.what {
            Heard::Connected(sid, _) => {
                to.iter().for_each(|wire| self.connected(now, &mut wires[*wire], sid))
            }
            Heard::Ack(ack) => {
                to.iter().for_each(|wire| self.answered(now, &mut wires[*wire], ack))
            }
            Heard::State(state) => self.stated(now, state, to, wires),
            Heard::Tick { session, .. } => self.ticked(now, *session, volatile, to, wires),
            Heard::EnginePing => to.iter().for_each(|wire| self.pinged(now, &mut wires[*wire])),
            Heard::EngineOpen => to.iter().for_each(|wire| {
                let shard = wires[*wire].shard;
                if self.full[usize::from(shard)] {
                    self.fail(
                        now,
                        "I11 no memory for more",
                        format!("shard {shard} lets somebody in"),
                    );
                }
                (wires[*wire].upgraded, wires[*wire].opened) = (true, now);
                wires[*wire].spent.since = now;
            }),
            Heard::Disconnect if self.goodbye == Goodbye::Reconnect => {
                self.fail(now, "I20 goodbyes", "a client is told to stay away".to_owned());
            }
            Heard::Disconnect => to.iter().for_each(|wire| wires[*wire].dismissed = true),
            Heard::Link if self.goodbye == Goodbye::Reconnect && frames::is_draining(frame) => {
                to.iter().for_each(|wire| wires[*wire].dismissed = true);
            }
            Heard::Ping(_) => to.iter().for_each(|wire| self.beaten(now, &mut wires[*wire])),
            Heard::Quality => to.iter().for_each(|wire| wires[*wire].spent.reports += 1),
            Heard::Chat(_) | Heard::Link | Heard::Other => {}
        }
        if !matches!(
            told.what,
            Heard::State(_) | Heard::Tick { .. } | Heard::Chat(_) | Heard::Other
        ) {
            for wire in to {
                let spent = &mut wires[*wire].spent;
                spent.told += u64::from(!matches!(told.what, Heard::EnginePing | Heard::Ping(_)));
                // An acknowledgement may hold what the session has to say.
                let length = if matches!(told.what, Heard::Ack(_)) { 0 } else { frame.len() };
                self.weigh(now, &wires[*wire], length);
            }
        }
    }

    /// A frame that each receiver has to unpack by itself.
    fn sent_deflated(
        &mut self,
        now: u64,
        frame: &[u8],
        volatile: bool,
        to: &[usize],
        wires: &mut [Wire],
    ) {
        let payload = frames::whole(frame).filter(|(length, _)| *length == frame.len());
        let payload = payload.map(|(_, head)| &frame[head..]);
        for wire in to {
            let plain = payload.and_then(|payload| wires[*wire].inflate(payload));
            let Some(plain) = plain else {
                return self.fail(
                    now,
                    "I16 readable",
                    "a compressed frame that cannot be unpacked",
                );
            };
            let mut packet = Vec::new();
            frames::server_text(&mut packet, &plain);
            self.sent(now, &packet, volatile, &[*wire], wires);
            wires[*wire].deflated.push_back((Digest::of(frame), Digest::of(&packet)));
        }
    }

    fn read(&mut self, now: u64, frame: &[u8]) -> Rc<Told> {
        let text = frames::whole(frame).filter(|(length, _)| *length == frame.len());
        let text = text.and_then(|(_, head)| std::str::from_utf8(&frame[head..]).ok());
        let heard = match text.map(|text| self.understand(now, text)) {
            Some(Ok(heard)) => heard,
            Some(Err(why)) => {
                self.fail(now, "I16 readable", format!("{why}: {}", text.unwrap_or_default()));
                Heard::Other
            }
            None => {
                self.fail(now, "I16 readable", "a frame that is none");
                Heard::Other
            }
        };
        if reveals(frame) {
            self.fail(now, "I23 secrets", text.unwrap_or_default());
        }
        if self.young.len() >= MEMO_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.told_bytes += frame.len() as u64;
        let offset = text.and_then(offset_of);
        if let (Heard::Chat(session), Some((_, number))) = (&heard, &offset) {
            let court = &mut self.courts[usize::from(*session)];
            court.chats.push_back(*number);
            if court.chats.len() > 32 {
                court.chats.pop_front();
            }
        }
        let told = Rc::new(Told { what: heard, offset, at: now, bytes: self.told_bytes });
        if let Some((offset, number)) = told.offset.as_ref().filter(|_| !told.is_snapshot()) {
            let log = self.logs.entry(log_of(offset).to_owned()).or_default();
            log.push_back((*number, now));
            if log.len() > LOG_MAX {
                log.pop_front();
            }
        }
        self.young.insert(Digest::of(frame), Rc::clone(&told));
        told
    }

    fn understand(&mut self, now: u64, text: &str) -> Result<Heard, String> {
        let fields = |json: &'_ str| -> Result<(), String> {
            serde_json::from_str::<serde::de::IgnoredAny>(json)
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        match text.as_bytes() {
            b"2" => return Ok(Heard::EnginePing),
            b"41" => return Ok(Heard::Disconnect),
            [b'0', ..] => return fields(&text[1..]).map(|()| Heard::EngineOpen),
            [b'4', b'0', ..] => {
                let told: Fields<'_> = parse(&text[2..])?;
                let sid = told.sid.unwrap_or_default().into_owned();
                return Ok(Heard::Connected(sid, told.pid.map(Cow::into_owned)));
            }
            [b'4', b'3', ..] => return understand_ack(&text[2..]),
            [b'4', b'4', ..] => return Ok(Heard::Link),
            _ => {}
        }
        let inside = text.strip_prefix("42[\"").and_then(|rest| rest.strip_suffix(']'));
        let (name, json) = inside.and_then(|rest| rest.split_once("\",")).ok_or("no event")?;
        // Behind the fields there may be where the event stands in the session's log.
        let mut values = serde_json::Deserializer::from_str(json);
        let told = Fields::deserialize(&mut values).map_err(|error| error.to_string())?;
        let session =
            told.session_id.as_deref().and_then(|name| name.strip_prefix('s')?.parse::<u16>().ok());
        let timeline: Option<VersionFields> = match told.timeline {
            Some(raw) => Some(parse(raw.get())?),
            None => None,
        };
        let version = match (told.epoch, told.version, &timeline) {
            (Some(epoch), Some(version), _) => Some((epoch, version)),
            (_, _, Some(timeline)) => Some((timeline.epoch, timeline.version)),
            _ => None,
        };
        if name == "ping" {
            return Ok(Heard::Ping(told.timestamp.unwrap_or_default() as i64));
        }
        let (Some(session), Some(version)) = (session, version) else {
            if let (Some(session), Some(at), "metronome_tick") = (session, told.at_server_ms, name)
            {
                self.beat(now, session, micros(at) as u64);
            }
            return Ok(match session.filter(|session| usize::from(*session) < self.courts.len()) {
                Some(session) if name == "chat_message" => Heard::Chat(session),
                None if name == "connection_quality" => Heard::Quality,
                None if told.session_id.is_none() => Heard::Link,
                _ => Heard::Other,
            });
        };
        if usize::from(session) >= self.courts.len() {
            return Err("nobody knows this session".into());
        }
        if let ("scroll_tick", Some(position)) = (name, told.position_ms) {
            self.place(now, session, version, micros(position));
            self.serial += 1;
            return Ok(Heard::Tick { session, version, serial: self.serial });
        }
        let sum = told.checksum.map(|sum| Digest::of(sum.as_bytes()));
        let timeline = told.timeline.map(|raw| Digest::of(raw.get().as_bytes()));
        let members = told.members.unwrap_or_default();
        let snapshot = (name == "snapshot").then(|| Snapshot {
            position: micros(told.position.unwrap_or(-1.0)),
            playing: told.is_playing.unwrap_or_default(),
            leader: told.leader_socket_id.map(Cow::into_owned),
            members: members.into_iter().map(|m| (m.socket_id.into_owned(), m.connected)).collect(),
            member_count: told.member_count,
        });
        // Without the place in the log, which those who cannot come back are not told.
        let said = &json[..values.into_iter::<serde::de::IgnoredAny>().byte_offset()];
        let change =
            (snapshot.is_none() && name != "sync_response").then(|| Digest::of(said.as_bytes()));
        Ok(Heard::State(State { session, version, sum, timeline, change, snapshot }))
    }

    /// A tick says where the music is: exactly there.
    fn place(&mut self, now: u64, session: u16, version: (u64, u64), position: i128) {
        let court = &self.courts[usize::from(session)];
        let Some(model) =
            court.model.as_ref().filter(|_| court.closings.is_none() && !self.draining)
        else {
            return;
        };
        let should = model.music.at(now);
        if position != should.position || !should.playing {
            return self.fail(
                now,
                "I4 position",
                format!("a tick says {position}, should be {should:?}"),
            );
        }
        if version != (court.epoch, model.version) {
            let what =
                format!("a tick of {version:?}, should be {:?}", (court.epoch, model.version));
            self.fail(now, "I15 tick of its version", what);
        }
    }

    /// A metronome tick names the time of a beat.
    fn beat(&mut self, now: u64, session: u16, at: u64) {
        let Some(court) = self.courts.get(usize::from(session)) else { return };
        // What was told ahead may be overtaken by a change while it waits for the window to close.
        let settled = court.closings.is_none()
            && now > court.changed_at + self.batch + LATE
            && at >= now
            && !self.draining;
        let Some(model) = court.model.as_ref().filter(|_| settled) else { return };
        let beat = model.music.at(at).beat.rem_euclid(1_000_000);
        if beat.min(1_000_000 - beat) > 100 {
            self.fail(now, "I5 time of a beat", format!("{at} µs is {beat} micro-beats into one"));
        }
    }

    fn ticked(&mut self, now: u64, session: u16, volatile: bool, to: &[usize], wires: &[Wire]) {
        if self.draining {
            return;
        }
        let court = &mut self.courts[usize::from(session)];
        court.last_tick = now;
        court.ticks += 1;
        let ticks = court.ticks;
        let most = court.ticking_since.map_or(ticks, |since| (now - since) / self.tick + 2);
        let strangers = to.iter().any(|wire| wires[*wire].seat != Some(session));
        if !volatile {
            self.fail(now, "I10 ticks are volatile", "a tick that would queue");
        }
        if strangers {
            self.fail(now, "I13 who is told", "a tick to somebody who is not in the session");
        }
        if ticks > most {
            self.fail(now, "I4 ticks not early", format!("{ticks} ticks where {most} are due"));
        }
    }

    fn stated(&mut self, now: u64, state: &State, to: &[usize], wires: &mut [Wire]) {
        let session = usize::from(state.session);
        let mut told_again = false;
        for wire in to {
            let wire = &mut wires[*wire];
            let hopes = wire.hope.as_ref().is_some_and(|hope| hope.session == state.session);
            if wire.seat.is_none() && wire.sid.is_empty() && hopes {
                // What it has missed comes before the word that it is back.
                told_again = true;
            } else if wire.seat != Some(state.session) && !self.draining {
                self.fail(
                    now,
                    "I13 who is told",
                    format!("{} hears of a session it is not in", wire.sid),
                );
            }
            if state.version < wire.told && !self.draining {
                let what =
                    format!("{} was sent {:?} after {:?}", wire.sid, state.version, wire.told);
                self.fail(now, "I15 in order of version", what);
            }
            wire.told = state.version;
        }
        if told_again {
            return;
        }
        self.answered_alone(now, state, to, wires);
        let seated = wires.iter().filter(|wire| wire.seat == Some(state.session));
        let behind = seated.filter(|wire| wire.told != state.version).count();
        let court = &mut self.courts[session];
        if behind <= 1 {
            // What was gathered went out, to all but one whose end it comes before; what comes
            // later has a window of its own.
            court.owed_since = None;
        }
        let stale = |(version, sum, _): &Fact| {
            *version != state.version && sum.is_some() && *sum == state.sum
        };
        if court.facts.iter().any(stale) {
            let what = format!("the checksum of {:?} is that of another version", state.version);
            return self.fail(now, "I6 checksum of its version", what);
        }
        let known = court.facts.iter_mut().find(|(version, ..)| *version == state.version);
        let clash = match known {
            Some((_, sum, timeline)) => {
                let clash = differ(*sum, state.sum) || differ(*timeline, state.timeline);
                (*sum, *timeline) = (sum.or(state.sum), timeline.or(state.timeline));
                clash
            }
            None => {
                court.facts.push_back((state.version, state.sum, state.timeline));
                if court.facts.len() > 64 {
                    court.facts.pop_front();
                }
                false
            }
        };
        if clash {
            let what =
                format!("two states are {:?} of {:?}", state.version, self.courts[session].name);
            self.fail(now, "I6 equal version, equal state", what);
        }
        if let Some(snapshot) = &state.snapshot {
            self.shown(now, state, snapshot);
        }
    }

    /// Of each version one event tells all what has changed. Others come to members alone whose
    /// commands changed nothing.
    fn answered_alone(&mut self, now: u64, state: &State, to: &[usize], wires: &[Wire]) {
        let court = &mut self.courts[usize::from(state.session)];
        let others = to.iter().map(|wire| &wires[*wire].sid);
        let mut strangers =
            others.filter(|sid| !court.unchanged.iter().any(|(own, ..)| own == *sid));
        if let Some(change) = state.change {
            let stranger = strangers.next();
            match court.changes.iter().find(|(version, _)| *version == state.version) {
                Some((_, first)) if *first != change => {
                    if let Some(sid) = stranger.filter(|_| !self.draining) {
                        let what = format!("{sid} hears of {:?} once more", state.version);
                        return self.fail(now, "I24 what changed nothing", what);
                    }
                }
                Some(_) => {}
                None if stranger.is_none() => {}
                None => {
                    court.changes.push_back((state.version, change));
                    if court.changes.len() > 64 {
                        court.changes.pop_front();
                    }
                }
            }
        }
        let told = |sid: &String| to.iter().any(|wire| wires[*wire].sid == *sid);
        court
            .unchanged
            .iter_mut()
            .filter(|(sid, ..)| told(sid))
            .for_each(|(.., done)| *done = true);
    }

    /// A snapshot is the state at the time of sending.
    fn shown(&mut self, now: u64, state: &State, snapshot: &Snapshot) {
        let court = &self.courts[usize::from(state.session)];
        let Some(model) =
            court.model.as_ref().filter(|_| court.closings.is_none() && !self.draining)
        else {
            return;
        };
        let music = model.music.at(now);
        let (people, count) = model.named(self.members_listed);
        let members = snapshot.members.iter().map(|(id, connected)| (id.as_str(), *connected));
        let what = match () {
            () if state.version != (court.epoch, model.version) => {
                format!(
                    "a snapshot of {:?} is sent at {:?}",
                    state.version,
                    (court.epoch, model.version)
                )
            }
            () if snapshot.position != music.position => {
                format!("a snapshot says {}, should be {music:?}", snapshot.position)
            }
            () if snapshot.playing != music.playing => "a snapshot errs about playing".into(),
            () if snapshot.leader != model.leader => {
                format!("a snapshot says that {:?} leads", snapshot.leader)
            }
            () if !members.eq(people) || snapshot.member_count != count => {
                format!(
                    "a snapshot has the members {:?}, should be of {:?}",
                    snapshot, model.people
                )
            }
            () => return,
        };
        self.fail(now, "I6 snapshot is the state", what);
    }

    /// The server answered what a member asked.
    fn answered(&mut self, now: u64, wire: &mut Wire, ack: &Ack) {
        let Some(place) = wire.asks.iter().position(|ask| ask.id == ack.id) else {
            return self.fail(
                now,
                "I8 answered once",
                format!("{} never asked {}", wire.sid, ack.id),
            );
        };
        let ask = wire.asks.swap_remove(place);
        let is_too_fast = ack.code == "rate_limited" && !ack.guessing;
        if is_too_fast && self.is_patience_over(now, wire) {
            let what = format!("{} exceeds its rates and goes on", wire.sid);
            self.fail(now, "I22 patience ends", what);
        }
        if self.draining {
            let late = self.drained[usize::from(wire.shard)];
            if ack.ok && late {
                self.fail(
                    now,
                    "I20 no more is acknowledged",
                    format!("{:?} of {}", ask.what, wire.sid),
                );
            }
            return;
        }
        let done =
            if ack.ok { self.obeyed(now, wire, &ask, ack) } else { self.refused(wire, &ask, ack) };
        if let Err((invariant, what)) = done {
            self.fail(now, invariant, what);
        }
    }

    fn obeyed(
        &mut self,
        now: u64,
        wire: &mut Wire,
        ask: &Ask,
        ack: &Ack,
    ) -> Result<(), (&'static str, String)> {
        let session = usize::from(ask.session);
        let alone = matches!(
            ask.what,
            Asked::Clock
                | Asked::Say(Say::ClockSync | Say::Probe | Say::Heartbeat | Say::Quality, ..)
        );
        let shard = wire.shard;
        if !alone && shard != self.courts[session].home {
            let what = format!("shard {shard} answers for s{session}: {:?}", ask.what);
            return Err(("I2 one owner", what));
        }
        let earlier =
            |other: &Ask| other.kind().is_some() && other.id < ask.id && other.came.is_some();
        if !alone
            && !ack.superseded
            && let Some(other) = wire.asks.iter().find(|other| earlier(other))
        {
            let what = format!("{:?} before {:?}, which was sent sooner", ask.what, other.what);
            return Err(("I25 in order", what));
        }
        if ack.superseded {
            wire.spent.needless += 1;
            self.seen.add("command: superseded by a newer value", 1);
            let should = (self.courts[session].epoch, self.model(session)?.version);
            if ack.version != should {
                return Err((
                    "I7 acknowledged is done",
                    format!("{:?} for {should:?}, superseded", ack.version),
                ));
            }
            let newer =
                wire.asks.iter().any(|other| other.came.is_some() && ask.gives_way_to(other));
            return if ask.kind().is_some() && newer {
                Ok(())
            } else {
                Err(("I25 the newest wins", format!("nothing takes the place of {:?}", ask.what)))
            };
        }
        let waited = ask.kind().is_some() && ask.came.is_some_and(|came| came < now);
        self.seen.add("command: waited for room", u64::from(waited));
        if let Some(command) = ask.command {
            let model = self.model(session)?;
            if model.has_applied(command) != ack.repeated {
                let what = if ack.repeated { "was never applied" } else { "is applied again" };
                return Err(("I8 at most once", format!("{:?}, {command:?}, {what}", ask.what)));
            }
            if ack.repeated {
                let should = (self.courts[session].epoch, self.model(session)?.version);
                self.seen.add("command: sent again, not applied again", 1);
                return if ack.version == should {
                    Ok(())
                } else {
                    Err((
                        "I7 acknowledged is done",
                        format!("{:?} for {should:?}, again", ack.version),
                    ))
                };
            }
            if !ack.pending {
                model.note_applied(command, &wire.sid);
            }
        }
        let wrong = |what| ("I9 who may do what", what);
        let done = match &ask.what {
            Asked::Nonsense => return Err(wrong("nonsense was acknowledged".into())),
            Asked::Join(join) => {
                if let Some(old) = wire.seat.filter(|old| *old != ask.session) {
                    self.leave(now, wire, old);
                }
                self.open_court(now, session, ack)?;
                if wire.seat.is_none() {
                    wire.told = (0, 0);
                }
                wire.seat = Some(ask.session);
                let court = &mut self.courts[session];
                if court.model.as_ref().is_some_and(|model| model.empty_since.is_some()) {
                    // What was owed before was owed to nobody.
                    court.owed_since = None;
                }
                let unix = self.unix(now, session);
                self.model(session)?
                    .join(unix, &wire.sid, &format!("Member {}", wire.member), join)
                    .map_err(wrong)?
            }
            Asked::Leave => {
                self.leave(now, wire, ask.session);
                Done::Nothing
            }
            Asked::Say(Say::ClockSync | Say::Probe, ..) | Asked::Clock => {
                if ack.t1.is_some_and(|t1| t1 < i128::from(ask.sent) || t1 > i128::from(now)) {
                    return Err((
                        "I21 clock",
                        format!("t1 {:?} outside {}..{now}", ack.t1, ask.sent),
                    ));
                }
                Done::Nothing
            }
            Asked::Say(Say::Heartbeat | Say::Quality, ..) => Done::Nothing,
            Asked::Say(say, at, other) => {
                self.model(session)?.say(now, &wire.sid, say, *at, other).map_err(wrong)?
            }
            Asked::Report(place) => {
                self.model(session)?.report(now, &wire.sid, *place, ask.came.unwrap_or(now))
            }
        };
        if let Asked::Say(Say::Message { text }, ..) = &ask.what
            && ack.cut != (*text == LONG_MESSAGE && !wire.member.is_multiple_of(2))
        {
            return Err(("I7 acknowledged is done", format!("cut: {}", ack.cut)));
        }
        let court = &mut self.courts[session];
        if alone {
            return Ok(());
        }
        let version = court.model.as_ref().map_or(0, |model| model.version);
        if matches!(ask.what, Asked::Say(..))
            && done == Done::Version(version)
            && version == court.told_version
        {
            self.seen.add("command: changes nothing", 1);
            court.unchanged.push((wire.sid.clone(), now, false));
        }
        court.changed(now);
        if let Done::Version(version) = done {
            let should = (court.epoch, version);
            if ack.version != should {
                return Err((
                    "I7 acknowledged is done",
                    format!("{:?} for {should:?}: {:?}", ack.version, ask.what),
                ));
            }
        }
        let place = court.model.as_ref().map(|model| model.music.at(now).position);
        if let (Asked::Say(Say::Sync { .. }, ..), Some(position), Some(place)) =
            (&ask.what, ack.position, place)
            && position != place
        {
            return Err(("I4 position", format!("sync says {position}, should be {place}")));
        }
        Ok(())
    }

    /// A session was opened with what was stored of it, or without.
    pub fn opened(
        &mut self,
        now: u64,
        session: &SessionId,
        epoch: u64,
        stored: Option<(Model, Record)>,
    ) {
        let Some(index) = self.courts.iter().position(|court| court.name == *session) else {
            return;
        };
        let unix = self.unix(now, index);
        let (grace, members_max) = (self.grace, self.members_max);
        let court = &mut self.courts[index];
        let before =
            court.epoch.max(stored.as_ref().map_or(0, |(_, record)| record.timeline.epoch));
        court.epoch = epoch;
        court.is_news = false;
        court.chats.clear();
        court.former.clear();
        court.restored = stored.is_some().then_some(Some(true));
        let mut model = Model::new(now, members_max);
        let what = if stored.is_some() {
            "session: back from the storage"
        } else {
            "session: begun, asked for in vain"
        };
        self.seen.add(what, 1);
        if let Some((kept, record)) = stored {
            model = kept;
            model.reopen(now, unix, grace, &record);
        }
        (court.told_version, court.owed_since, court.ticking_since) = (model.version, None, None);
        court.model = Some(model);
        court.dirty = true;
        if epoch <= before {
            self.fail(now, "I3 epoch", format!("{session:?} is opened as {epoch} after {before}"));
        }
    }

    /// The storage has a newer record of a session than its server, which is to rise above it.
    pub fn outdone(&mut self, now: u64, session: &SessionId, epoch: u64) {
        let Some(court) = self.courts.iter_mut().find(|court| court.name == *session) else {
            return;
        };
        if let Some(model) = court.model.as_mut().filter(|_| epoch >= court.epoch) {
            self.seen.add("session: rises above a stored one", 1);
            court.former.push(court.epoch);
            (court.epoch, model.version) = (epoch + 1, 1);
            court.changed(now);
        }
    }

    /// The oracle of a session as it is in this version, if that is sure.
    pub fn model_of(&self, session: &SessionId, version: (u64, u64)) -> Option<Model> {
        let court =
            self.courts.iter().find(|court| court.name == *session && court.closings.is_none())?;
        let model = court.model.as_ref()?;
        ((court.epoch, model.version) == version && !self.draining).then(|| model.clone())
    }

    /// The server has died. Its clock is as good as ever, unless it `stepped`.
    pub fn restarted(&mut self, wall: i64, stepped: bool) {
        self.walls.fill(wall);
        self.logs.clear();
        for court in &mut self.courts {
            (court.model, court.closings, court.restored) = (None, None, None);
            court.unchanged.clear();
            (court.ticking_since, court.owed_since) = (None, None);
            court.is_news = true;
        }
        if stepped {
            self.clock_stepped();
        }
    }

    /// The server says who a client is: who it was before, or somebody new.
    fn connected(&mut self, now: u64, wire: &mut Wire, sid: &str) {
        wire.sid = sid.to_owned();
        let Some(hope) = wire.hope.take().filter(|_| !self.draining) else { return };
        let (window, bytes) = (self.recovery, self.told_bytes - hope.told_bytes);
        let court = &mut self.courts[usize::from(hope.session)];
        if hope.sid != sid {
            self.seen.add("recovery: denied", 1);
        }
        let same = court.epoch == hope.held.0 || court.former.contains(&hope.held.0);
        let what = match court.model.as_mut().filter(|_| same) {
            None if hope.sid == sid => "it came back to a session that is gone".to_owned(),
            None => return,
            Some(model) if hope.sid == sid => {
                if model.empty_since.is_some() {
                    court.owed_since = None;
                }
                self.recoveries += 1;
                let restored = model.restore(now, sid, window);
                wire.seat = Some(hope.session);
                court.changed(now);
                let missed =
                    court.chats.iter().find(|chat| **chat > hope.seen && !hope.told.contains(chat));
                match restored {
                    Err(what) => what,
                    Ok(()) if missed.is_some() => format!("{sid} was not told event {missed:?}"),
                    // The snapshot that shows how things stand comes next.
                    Ok(()) => return,
                }
            }
            Some(model) => {
                let log = self.logs.get(log_of(&hope.offset));
                let first_missed =
                    log.and_then(|log| log.iter().find(|(number, _)| *number > hope.seen));
                let missed_at = match first_missed {
                    // What is between is not noted any more.
                    Some((number, _)) if *number > hope.seen + 1 => hope.told_at,
                    Some((_, at)) => *at,
                    None => now,
                };
                // Half of the room is left to what was told to nobody.
                let known = now < hope.told_at + window
                    && !self.hurry
                    && bytes * 2 < u64::from(self.memory_max)
                    && court.forgot_at.is_none_or(|at| at < hope.told_at);
                let must = known
                    && self.memory_max > 100_000
                    && model.must_restore(now, &hope.sid, window, missed_at + self.silence);
                model.forget_absent(&hope.sid);
                if must {
                    court.denied = Some(hope.sid);
                }
                return;
            }
        };
        self.fail(now, "I6 recovery", what);
    }

    /// The time on the wall clock of a session's shard, in milliseconds.
    fn unix(&self, now: u64, session: usize) -> i64 {
        let home = usize::from(self.courts[session].home);
        UNIX_START + self.walls[home] + (now / 1_000) as i64
    }

    /// The session that a join leads to is there, or made anew under a higher epoch.
    fn open_court(
        &mut self,
        now: u64,
        session: usize,
        ack: &Ack,
    ) -> Result<(), (&'static str, String)> {
        let (sessions_max, ttl, members_max) =
            (self.sessions_max, self.empty_ttl, self.members_max);
        let court = &mut self.courts[session];
        if court.model.is_some() && court.epoch == ack.version.0 {
            let wrong = court.restored.filter(|restored| *restored != ack.restored);
            return wrong.map_or(Ok(()), |should| {
                Err((
                    "I7 restored",
                    format!("restored is {:?}, should be {should:?}", ack.restored),
                ))
            });
        }
        if ack.version.0 <= court.epoch {
            return Err(("I3 epoch", format!("epoch {} after {}", ack.version.0, court.epoch)));
        }
        if let Some(model) = &court.model {
            let empty = model
                .empty_since
                .ok_or(("I13 expiry", "a session with members is gone".to_owned()))?;
            if now < empty + ttl && sessions_max >= 1_000 {
                return Err(("I13 expiry", "a session was forgotten before its time".into()));
            }
        }
        court.epoch = ack.version.0;
        court.is_news = false;
        court.chats.clear();
        court.former.clear();
        (court.restored, court.denied) = (None, None);
        court.model = Some(Model::new(now, members_max));
        Ok(())
    }

    fn refused(
        &mut self,
        wire: &mut Wire,
        ask: &Ask,
        ack: &Ack,
    ) -> Result<(), (&'static str, String)> {
        let model = self.courts[usize::from(ask.session)].model.as_ref();
        let elsewhere = wire.seat != Some(ask.session);
        let wrong = match (&ask.what, ack.code.as_str()) {
            // Such a value waits; where its member is not, it cannot.
            (_, "rate_limited") if ask.kind().is_some() => !elsewhere,
            (Asked::Say(..) | Asked::Leave | Asked::Report(_), "not_member") => !elsewhere,
            (Asked::Say(say, ..), "not_leader") => {
                let leads = model.is_some_and(|model| model.leads(&wire.sid));
                leads || !needs_lead(say, false) && !matches!(say, Say::HandTo { .. })
            }
            (Asked::Join(join), "session_full" | "bad_passcode") => {
                let why = model.and_then(|model| model.refuses(&wire.sid, join));
                // The answer of another shard tells how things were when it was asked; the session
                // may be gone since.
                let was_asked_before = model.is_none_or(|model| model.door_changed_at >= ask.sent);
                // A full table of sessions refuses as a full session does.
                let is_table_full = ack.code == "session_full" && self.sessions_max < 1_000;
                // Who is on its way from another shard may have been promised the last seat.
                let others = &self.courts[usize::from(ask.session)].askers;
                let others =
                    others.iter().filter(|(at, sid)| *sid != wire.sid && at + PROMISED >= ask.sent);
                let others: BTreeSet<&String> = others.map(|(_, sid)| sid).collect();
                let others =
                    others.iter().filter(|sid| model.is_some_and(|model| !model.is_member(sid)));
                let is_promised = ack.code == "session_full"
                    && model.is_some_and(|model| model.is_full_with(others.count()));
                why != Some(ack.code.as_str())
                    && !was_asked_before
                    && !is_table_full
                    && !is_promised
            }
            (
                _,
                "rate_limited" | "invalid_payload" | "not_allowed" | "too_large" | "unknown_event"
                | "draining",
            ) => false,
            (Asked::Nonsense, _) => false,
            _ => true,
        };
        if wrong {
            Err(("I9 who may do what", format!("{} for {:?}", ack.code, ask.what)))
        } else {
            Ok(())
        }
    }

    fn model(&mut self, session: usize) -> Result<&mut Model, (&'static str, String)> {
        self.courts[session]
            .model
            .as_mut()
            .ok_or(("I7 acknowledged is done", "by a session that is none".into()))
    }

    /// A member asks to join.
    pub fn asked(&mut self, now: u64, session: u16, sid: &str) {
        let askers = &mut self.courts[usize::from(session)].askers;
        askers.push_back((now, sid.to_owned()));
        while askers.front().is_some_and(|(at, _)| at + 2 * PROMISED < now) {
            askers.pop_front();
        }
    }

    /// A member is out of its session, on purpose.
    pub fn leave(&mut self, now: u64, wire: &mut Wire, session: u16) {
        if wire.seat == Some(session) {
            wire.seat = None;
        }
        let court = &mut self.courts[usize::from(session)];
        if let Some(model) = &mut court.model {
            model.leave(now, &wire.sid);
            court.changed(now);
        }
    }

    /// A member's connection is gone.
    pub fn lost(&mut self, now: u64, wire: &mut Wire) {
        let Some(session) = wire.seat.take() else { return };
        self.note(now, || format!("{} is lost to s{session}", wire.sid));
        let court = &mut self.courts[usize::from(session)];
        if let Some(closings) = &mut court.closings {
            return closings.push(wire.sid.clone());
        }
        if let Some(model) = &mut court.model {
            model.lost(now, &wire.sid, self.grace);
            court.changed(now);
        }
    }

    /// The turn of a shard is about to end, and with it the grace periods that are over.
    pub fn before_timers(&mut self, now: u64, shard: u16) {
        if self.draining {
            return;
        }
        for court in self.courts.iter_mut().filter(|court| court.home == shard) {
            let over = court
                .model
                .as_ref()
                .and_then(|model| model.kept_until)
                .is_some_and(|until| until <= now);
            if over {
                // In which order this and other timers fire is seen when all have.
                court.closings.get_or_insert_default();
                court.dirty = true;
            }
        }
    }

    /// What must hold of a shard's sessions after each turn; `thorough` compares them whole.
    pub fn after_turn(
        &mut self,
        now: u64,
        shard: u16,
        engine: &Engine,
        wires: &[Wire],
        thorough: bool,
    ) {
        if self.draining {
            return;
        }
        for session in 0..self.courts.len() {
            if self.courts[session].home != shard {
                continue;
            }
            if let Err((invariant, what)) = self.check_court(now, session, engine, wires, thorough)
            {
                let name = self.courts[session].name.clone();
                self.fail(now, invariant, format!("{name:?}: {what}"));
            }
        }
    }

    fn check_court(
        &mut self,
        now: u64,
        session: usize,
        engine: &Engine,
        wires: &[Wire],
        thorough: bool,
    ) -> Result<(), (&'static str, String)> {
        let court = &mut self.courts[session];
        let real = engine.session(&court.name);
        let denied = court.denied.take().filter(|_| court.model.is_some() && real.is_some());
        if let Some(sid) = denied {
            return Err(("I6 recovery", format!("{sid} was not known any more")));
        }
        let Some(model) = &mut court.model else {
            // One that was made for a member who was then refused is empty.
            let empty = real.is_none_or(|real| real.is_empty());
            return if empty {
                Ok(())
            } else {
                Err(("I13 expiry", "members in a session that is none".into()))
            };
        };
        let Some(real) = real else {
            let empty = model
                .empty_since
                .ok_or(("I13 expiry", "a session with members is gone".to_owned()))?;
            let crowded = self.sessions_max < 1_000;
            court.model = None;
            court.ticking_since = None;
            court.owed_since = None;
            let right = now >= empty + self.empty_ttl || crowded;
            self.seen
                .add(if crowded { "session: gone for another" } else { "session: forgotten" }, 1);
            return if right {
                Ok(())
            } else {
                Err(("I13 expiry", "forgotten before its time".into()))
            };
        };
        if let Some(closings) = court.closings.take() {
            self.seen.add("session: a leader's grace is over", 1);
            self.seen.add(
                "session: grace and connections end in one turn",
                u64::from(!closings.is_empty()),
            );
            settle_order(model, &closings, real, now, self.grace);
            court.told_version = model.version;
            // A window that was over in this turn may have told it already.
            let newest = (court.epoch, model.version);
            let mut seated = wires.iter().filter(|wire| wire.seat == Some(session as u16));
            let owed = seated.any(|wire| wire.told != newest);
            (court.owed_since, court.changed_at) = (owed.then_some(now), now);
        }
        let compare =
            std::mem::take(&mut court.dirty) || thorough || real.version() != model.version;
        if compare && let Some(what) = model.differs(real, now) {
            let invariant = if what.contains("should lead") {
                "I1 one leader"
            } else {
                "I6 state is the oracle's"
            };
            return Err((invariant, what));
        }
        if real.epoch() != court.epoch {
            return Err(("I3 epoch", format!("{} is {}", court.epoch, real.epoch())));
        }
        let late = self.batch + LATE;
        if let Some((sid, since, _)) =
            court.unchanged.iter().find(|(_, since, done)| !done && now > since + late)
            && wires.iter().any(|wire| wire.seat == Some(session as u16) && wire.sid == *sid)
        {
            return Err(("I24 what changed nothing", format!("{sid} got no answer since {since}")));
        }
        court.unchanged.retain(|(_, since, _)| now <= since + late);
        let ticking = model.music.at(now).playing && model.has_tick_listeners();
        match (ticking, court.ticking_since) {
            (true, None) => (court.ticking_since, court.ticks) = (Some(now), 0),
            (false, _) => court.ticking_since = None,
            (true, Some(since)) if now - since.max(court.last_tick) >= self.tick => {
                let ago = now - since.max(court.last_tick);
                return Err(("I18 no timer forgotten", format!("no tick for {ago} µs")));
            }
            _ => {}
        }
        let wanted = [
            model.kept_until,
            model.empty_since.map(|since| since + self.empty_ttl),
            model.music.next_wish(now),
            court.ticking_since.map(|since| since.max(court.last_tick) + self.tick),
        ];
        let wanted = wanted.into_iter().flatten().min();
        let next = engine.next_deadline().map(|at| at.as_micros());
        if wanted.is_some_and(|wanted| next.is_none_or(|next| next > wanted)) {
            return Err((
                "I18 no timer forgotten",
                format!("wakes at {next:?}, needed at {wanted:?}"),
            ));
        }
        if court.owed_since.is_some_and(|since| now >= since + self.batch) {
            let newest = (court.epoch, model.version);
            let own = |wire: &&Wire| wire.seat == Some(session as u16) && wire.told != newest;
            court.owed_since = None;
            let behind = wires.iter().find(own);
            if let Some(wire) = behind {
                let what = format!("{} was last told {:?} of {newest:?}", wire.sid, wire.told);
                return Err(("I18 everybody is told", what));
            }
        }
        Ok(())
    }
}

/// The grace period and connections ended in one turn: whichever order the real session shows is
/// the one it was.
fn settle_order(
    model: &mut Model,
    closings: &[String],
    real: &bandsync_engine::session::Session,
    now: u64,
    grace: u64,
) {
    let mut last = model.clone();
    for first in 0..=closings.len() {
        let mut tried = model.clone();
        closings[..first].iter().for_each(|id| tried.lost(now, id, grace));
        tried.end_grace(now);
        closings[first..].iter().for_each(|id| tried.lost(now, id, grace));
        let right = tried.differs(real, now).is_none();
        last = tried;
        if right {
            break;
        }
    }
    *model = last;
}

fn differ(one: Option<u64>, other: Option<u64>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}
