//! The members of the bands: clients that keep the protocol as far as their habits permit.

use std::collections::VecDeque;
use std::rc::Rc;

use bandsync_engine::wire::events;
use bandsync_testkit::frames::{head_length, read};

use crate::sim::agenda::Event;
use crate::sim::clock::Timekeeper;
use crate::sim::cx::Cx;
use crate::sim::decode::{Decoded, ServerMessage, log_of};
use crate::sim::frames;
use crate::sim::model::{LONG_MESSAGE, leader_rule, message};
use crate::sim::music::BEAT;
use crate::sim::plan::{self, Act, Bye, Join, Say};
use crate::sim::rng::{Digest, SimRng};
use crate::sim::songs;
use crate::sim::wire::{CallContent, PendingCall, RecoveryClaim, Tokens};

const SECOND: u64 = 1_000_000;

/// Maximum number of commands that a member may send again.
const RECENT_MAX: usize = 4;

/// A command that was sent.
#[derive(Clone)]
struct Command {
    session: u16,
    name: &'static str,
    payload: String,
    what: CallContent,
    page: u16,
    number: u64,
    not_after: Option<u64>,
}

/// A client, over all its connections.
pub struct Member {
    id: u16,
    /// The session that the member wants to be in.
    pub want: Option<Join>,
    pub wire: Option<usize>,
    pub joined: Option<u16>,
    /// The time of the last rejection of a join.
    pub rejected_at: Option<u64>,
    pub held: Held,
    habits: Habits,
    identity: Identity,
    former: Option<Box<Former>>,
    line: Line,
    commands: Commands,
    /// The estimate of the server's clock, if the member keeps one, as the players' page does.
    pub keeper: Option<Box<Timekeeper>>,
    /// The time at which the member checks whether a probe is due.
    probe_at: Option<u64>,
    luck: SimRng,
}

/// The newest state that a member has received.
#[derive(Default)]
pub struct Held {
    pub version: (u64, u64),
    sum: Option<u64>,
    tick: u64,
}

/// The habits of a member, in which members differ.
struct Habits {
    /// Whether the member asks for its seat when it returns.
    remembers: bool,
    /// The terms of the offer of compression, if the member offers it.
    terms: Option<&'static str>,
    /// Whether the member opens one page after the other.
    reloads: bool,
    mute_until: u64,
    /// The time until which the member reads slowly, its bytes per second, and the start of that.
    slow: Option<(u64, u64, u64)>,
    /// The error of the member's clock, in milliseconds.
    clock: i64,
    /// Luck for the time limits of commands, if the member sets some.
    limits: Option<SimRng>,
    /// Luck for tokens, if the member has one.
    tokens: Option<SimRng>,
}

impl Habits {
    /// Draws the time limit of a command. Some limits are over when the command is sent, and most
    /// of the others only if the network or a rate delays it.
    fn time_limit(&mut self, now: u64) -> Option<u64> {
        let luck = self.limits.as_mut()?;
        match luck.below(8) {
            0 | 1 => None,
            2 => Some(now.saturating_sub(luck.magnitude(1, 1_000_000))),
            _ => Some(now + luck.magnitude(1_000, 3_000_000)),
        }
    }
}

/// The identity of a member, and its proofs.
#[derive(Default)]
struct Identity {
    sid: String,
    pid: Option<String>,
    /// The last session of the member, which outlives its connection.
    in_session: Option<u16>,
    /// The last event that the member has seen: its offset, the number in that, and the time and
    /// the bytes of all sessions at which it was first sent.
    seen: Option<(String, u64, u64, u64)>,
    /// Number of the token of its seats.
    token: u32,
    /// Number of the token that takes its place, until a join with it is accepted.
    next_token: Option<u32>,
}

/// The recovery that a member forgot. The server must not accept it once the member's token has
/// brought its seat back.
struct Former {
    sid: String,
    pid: Option<String>,
    in_session: Option<u16>,
    seen: Option<(String, u64, u64, u64)>,
    version: (u64, u64),
}

/// The connection of a member, and the time at which it tries another one.
#[derive(Default)]
struct Line {
    /// Whether the connection is upgraded.
    upgraded: bool,
    rest: Vec<u8>,
    received_at: u64,
    retry_at: u64,
    tries: u32,
    opened: u64,
}

/// The calls of a member.
#[derive(Default)]
struct Commands {
    next_ask: u64,
    /// Number of commands so far.
    count: u64,
    /// The last commands, which may be sent again.
    recent: VecDeque<Command>,
    /// The page that sends commands. Each page is a client of its own.
    page: u16,
    next_sync: u64,
}

impl Member {
    pub fn new(seed: u64, id: u16) -> Self {
        let habits = Habits {
            remembers: !SimRng::new(seed, 2_000 + u64::from(id)).one_in(3),
            terms: draw_terms(seed, id),
            reloads: SimRng::new(seed, 9_000 + u64::from(id)).one_in(4),
            mute_until: 0,
            slow: None,
            clock: 0,
            limits: draw_every_other(seed, 11_000 + u64::from(id)),
            tokens: draw_every_other(seed, 12_000 + u64::from(id)),
        };
        Self {
            id,
            want: None,
            wire: None,
            joined: None,
            rejected_at: None,
            held: Held::default(),
            habits,
            identity: Identity::default(),
            former: None,
            line: Line::default(),
            commands: Commands::default(),
            keeper: draw_keeper(seed, id),
            probe_at: None,
            luck: SimRng::new(seed, 1_000 + u64::from(id)),
        }
    }

    /// Returns the token that recovers the member's seat, if the member has one.
    pub fn pid(&self) -> Option<&str> {
        self.identity.pid.as_deref()
    }

    /// Counts a connection, and returns the number of all so far.
    fn count(&mut self) -> u64 {
        self.line.opened += 1;
        self.line.opened
    }

    /// Drops its bad habits.
    pub fn calm_down(&mut self) {
        (self.habits.mute_until, self.habits.slow) = (0, None);
        if let Some(keeper) = &mut self.keeper {
            keeper.calm_answers = 0;
        }
        self.line.retry_at = 0;
    }

    /// Makes the member stay away from now on.
    pub fn retire(&mut self) {
        self.calm_down();
        self.want = None;
    }
}

impl Member {
    /// Checks the member's own state: connects, retries, or abandons a silent server.
    pub fn look(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now();
        let shape = &cx.plan.shape;
        let Some(wire) = self.wire else {
            if self.want.is_some() && now >= self.line.retry_at {
                let wire = cx.open(self.id, self.count(), false);
                (self.wire, self.line.received_at, self.line.upgraded) = (Some(wire), now, false);
                (self.joined, self.held.tick) = (None, 0);
                self.line.rest.clear();
                match self.habits.terms {
                    Some(terms) => cx.send(wire, &frames::upgrade_with(terms)),
                    None => cx.send(wire, &frames::upgrade()),
                }
            }
            return;
        };
        let silence =
            shape.ping + shape.ping_timeout + SECOND + 4 * (shape.net.delay + shape.net.detour);
        if now - self.line.received_at > silence
            || cx.wires[wire].spoiled && now - self.line.received_at > SECOND
        {
            self.abandon(cx);
            return;
        }
        let wants = self.want.as_ref().map(|want| want.session);
        if self.joined.is_none()
            && wants.is_some()
            && now >= self.line.retry_at
            && !cx.wires[wire].sid.is_empty()
        {
            let asked =
                cx.wires[wire].asks.iter().any(|ask| matches!(ask.what, CallContent::Join(..)));
            if !asked {
                self.ask_join(cx);
            }
        } else if self.joined.is_some() && now >= self.commands.next_sync {
            self.commands.next_sync = now + self.luck.between(2, 9) * SECOND;
            self.say(cx, &Say::Sync { stale: false });
        }
    }

    /// Runs an act of the plan.
    pub fn act(&mut self, cx: &mut Cx<'_>, act: &Act) {
        let (now, m) = (cx.now(), self.id);
        cx.oracle.journal.note(now, || format!("member {m} does {act:?}"));
        let wire = self.wire;
        match (act, wire) {
            (Act::Join(join), _) => {
                let elsewhere = self.joined.is_some() && self.want.as_ref() != Some(join);
                self.want = Some(join.clone());
                if wire.is_none() {
                    self.line.retry_at = now;
                    self.look(cx);
                } else if elsewhere {
                    self.ask_join(cx);
                }
            }
            (Act::ClockStep { by }, _) => {
                self.habits.clock += by;
                if let Some(keeper) = &mut self.keeper {
                    keeper.step(now, *by);
                    // A page that returns from the background starts to probe again. Every other
                    // step is one.
                    if self.joined.is_some() && self.luck.one_in(2) {
                        keeper.plan.start(now as f64 / 1_000.0);
                        self.plan_probe(cx);
                    }
                }
            }
            (Act::Mute { time }, _) => self.habits.mute_until = now + time,
            (Act::Slow { rate, time }, _) => self.habits.slow = Some((now + time, *rate, now)),
            (Act::Say(say), Some(_)) => self.say(cx, say),
            (Act::Leave, Some(_)) => {
                self.want = None;
                if let Some(session) = self.joined {
                    let payload = format!("{{\"sessionId\":\"s{session}\"}}");
                    self.ask(cx, session, "leave_session", &payload, CallContent::Leave);
                }
            }
            (Act::Bye(bye), Some(wire)) => self.say_bye(cx, wire, *bye),
            (Act::Cut, Some(wire)) => {
                cx.net.cables[wire].reset = true;
                cx.arrive_up(wire);
                self.forget_wire(cx);
            }
            (Act::HalfOpen { up, down }, Some(wire)) => {
                let both = !up && !down;
                if *up || both {
                    cx.net.cables[wire].up.dig_hole();
                }
                if *down || both {
                    cx.net.cables[wire].down.dig_hole();
                }
            }
            (Act::Stall { up, down, time }, Some(wire)) => {
                let both = !up && !down;
                let one = &mut cx.net.cables[wire];
                if *up || both {
                    one.up.stall(now + time);
                }
                if *down || both {
                    one.down.stall(now + time);
                }
                cx.post_up(wire, now + time);
                cx.post_down(wire, now + time);
            }
            (Act::Flood { event, count }, Some(_)) => {
                for nth in 0..*count {
                    self.flood(cx, *event, nth);
                }
            }
            (Act::Rubbish { kind, luck }, Some(wire)) => self.send_rubbish(cx, wire, *kind, *luck),
            _ => {}
        }
    }

    fn flood(&mut self, cx: &mut Cx<'_>, event: u8, nth: u16) {
        let step = u32::from(nth);
        match event {
            0 => self.say(cx, &Say::Chat),
            1 => self.say(cx, &Say::Sync { stale: true }),
            2 => self.say(cx, &Say::Probe),
            3 => self.say(cx, &Say::PositionSync { off: 12_000 * (i64::from(nth % 7) - 3) }),
            4 => self.say(cx, &Say::Play { ahead: None, bars: 0, quantize: None }),
            5 => self.say(cx, &Say::Claim),
            6 => self.say(cx, &Say::Pause),
            7 => self.ask_join(cx),
            8 => self.say(cx, &Say::Quality),
            9 => self.say(cx, &Say::Heartbeat),
            10 => self.say(cx, &Say::ClockSync),
            // Answers without a question.
            11 => self.send_loose(cx, b"42[\"pong\",{}]"),
            // Sliders that are dragged, with a press of a button between some of their values.
            13 => self.say(cx, &Say::Tempo { milli: 60_000 + 100 * step }),
            14 => self
                .say(cx, &Say::Fade { milli: 60_000 + 100 * step, time: 0, real: step % 2 == 0 }),
            15 => self.say(cx, &Say::Seek { to: 1_000 * u64::from(nth), ahead: None }),
            16 => match nth % 40 {
                39 => self.say(cx, &Say::Play { ahead: None, bars: 0, quantize: None }),
                19 => self.say(cx, &Say::Pause),
                n if n % 2 == 0 => self.say(cx, &Say::Tempo { milli: 90_000 + 100 * step }),
                _ => self.say(cx, &Say::PositionSync { off: 40_000 * (i64::from(nth % 3) - 1) }),
            },
            _ => self.send_loose(cx, b"3"),
        }
    }

    fn send_rubbish(&mut self, cx: &mut Cx<'_>, wire: usize, kind: u8, luck: u64) {
        let mut luck = SimRng::new(luck, 7);
        let session = self.joined.unwrap_or(0);
        match kind {
            8 => {
                let deep = format!(
                    "{{\"sessionId\":\"s{session}\",\"message\":{}{}}}",
                    "[".repeat(3_000),
                    "]".repeat(3_000)
                );
                self.ask(cx, session, "update_message", &deep, CallContent::Nonsense);
            }
            9 => {
                let (name, fields) = *luck.pick(&[
                    ("seek", "\"position\":-1"),
                    ("seek", "\"position\":\"5\""),
                    ("seek", "\"position\":1e400"),
                    ("set_tempo", "\"tempo\":0.99"),
                    ("set_tempo", "\"tempo\":null"),
                    ("set_tempo", "\"tempo\":1e9"),
                    ("set_role", "\"role\":\"admin\""),
                    ("play", "\"countInBars\":9"),
                    ("set_time_signature", "\"numerator\":0,\"denominator\":4"),
                    ("update_settings", "\"maxMembers\":0"),
                    ("select_song", "\"step\":2"),
                ]);
                let payload = format!("{{\"sessionId\":\"s{session}\",{fields}}}");
                self.ask(cx, session, name, &payload, CallContent::Nonsense);
            }
            // Another band's session.
            14 => {
                let other =
                    format!("{{\"sessionId\":\"s{}\",\"message\":\"x\"}}", 900 + luck.below(9));
                self.ask(cx, session, "update_message", &other, CallContent::Nonsense);
            }
            12 => {
                let mut bytes = Vec::new();
                let count = luck.magnitude(2, 3_000);
                for _ in 0..count {
                    frames::frame(&mut bytes, frames::PING, b"are you there", &mut luck);
                }
                cx.wires[wire].spent.pings += count;
                cx.send(wire, &bytes);
            }
            // A connection that never ends its request.
            15 => {
                let stray = cx.open(self.id, self.count(), true);
                let mut head = frames::upgrade();
                head.truncate(luck.below(head.len() as u64 - 1) as usize);
                cx.send(stray, &head);
            }
            // Connections that open and then stay silent.
            16 | 17 => {
                let stray = cx.open(self.id, self.count(), true);
                let mut bytes = frames::upgrade();
                if kind == 17 {
                    frames::frame(&mut bytes, frames::TEXT, b"40", &mut luck);
                    cx.wires[stray].spent.packets += 1;
                }
                cx.send(stray, &bytes);
            }
            // An event whose attachments never come, from a client that is punctual otherwise; and
            // a second connect.
            19 | 20 => {
                let stray = cx.open(self.id, self.count(), true);
                let mut bytes = frames::upgrade();
                frames::frame(&mut bytes, frames::TEXT, b"40", &mut luck);
                let more: &[u8] = if kind == 19 {
                    b"451-[\"cue\",{\"_placeholder\":true,\"num\":0}]"
                } else {
                    b"40"
                };
                frames::frame(&mut bytes, frames::TEXT, more, &mut luck);
                cx.wires[stray].spent.packets += 2;
                cx.send(stray, &bytes);
            }
            // As many events as fit into a read.
            18 => {
                let stray = cx.open(self.id, self.count(), true);
                let mut bytes = frames::upgrade();
                frames::frame(&mut bytes, frames::TEXT, b"40", &mut luck);
                let events: [&[u8]; 3] = [b"42[\"x\"]", b"42[\"heartbeat\",{}]", b"3"];
                let event = luck.pick(&events);
                let count = luck.magnitude(20, 5_000);
                for _ in 0..count {
                    frames::frame(&mut bytes, frames::TEXT, event, &mut luck);
                }
                cx.wires[stray].spent.packets += 1 + count;
                cx.send(stray, &bytes);
            }
            _ => {
                let shape = &cx.plan.shape;
                let bytes =
                    frames::rubbish(kind, &mut luck, shape.message_max, shape.fragments_max);
                cx.wires[wire].spoiled = true;
                cx.send(wire, &bytes);
            }
        }
    }

    fn say_bye(&mut self, cx: &mut Cx<'_>, wire: usize, bye: Bye) {
        let mut bytes = Vec::new();
        let joining =
            cx.wires[wire].asks.iter().any(|ask| matches!(ask.what, CallContent::Join(..)));
        let (joined, luck) = (self.joined.is_some(), &mut self.luck);
        match bye {
            // A disconnect behind a pending join is handled later, at a time that the oracle could
            // not know.
            Bye::Packet if !cx.wires[wire].spoiled && joined && !joining => {
                frames::frame(&mut bytes, frames::TEXT, b"41", luck);
                let mark = cx.wires[wire].sent_up + bytes.len() as u64;
                cx.wires[wire].marks.push_back(mark);
                cx.net.cables[wire].cuts.push_back(mark);
            }
            Bye::Engine => frames::frame(&mut bytes, frames::TEXT, b"1", luck),
            Bye::Frame => frames::frame(&mut bytes, frames::CLOSE, &1000_u16.to_be_bytes(), luck),
            Bye::Packet | Bye::Stream => {}
        }
        cx.send(wire, &bytes);
        cx.end_stream(wire);
        self.forget_wire(cx);
    }

    /// Abandons a connection.
    fn abandon(&mut self, cx: &mut Cx<'_>) {
        let Some(wire) = self.wire else { return };
        cx.end_stream(wire);
        self.forget_wire(cx);
    }

    /// Forgets the connection. The member tries again after a while.
    fn forget_wire(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now();
        if let Some(wire) = self.wire.take() {
            cx.wires[wire].left = true;
            if cx.net.cables[wire].down.full() > 0 {
                cx.post_down(wire, now);
            }
        }
        self.joined = None;
        if let Some(keeper) = &mut self.keeper {
            keeper.disconnected();
        }
        let most = (100_000 << self.line.tries.min(4)).min(2 * SECOND);
        self.line.retry_at = now + 20_000 + self.luck.below(most);
        self.line.tries += 1;
    }

    fn ask_join(&mut self, cx: &mut Cx<'_>) {
        let (Some(wire), Some(want)) = (self.wire, self.want.clone()) else { return };
        if cx.wires[wire].sid.is_empty() {
            return;
        }
        let mut payload =
            format!("{{\"sessionId\":\"s{}\",\"displayName\":\"Member {}\"", want.session, self.id);
        if let Some(lead) = want.lead {
            payload += if lead { ",\"role\":\"leader\"" } else { ",\"role\":\"follower\"" };
        }
        if let Some(hz) = want.tick_hz {
            payload += &format!(",\"tickHz\":{hz}");
        }
        if want.metronome {
            payload += ",\"metronome\":true";
        }
        if let Some(code) = want.passcode {
            payload += &format!(",\"passcode\":\"{}\"", plan::passcode(code));
        }
        if let Some(pin) = want.pin {
            payload += &format!(",\"leaderPin\":\"{}\"", plan::pin(pin));
        }
        if want.screen {
            payload += ",\"view\":\"screen\"";
        }
        let tokens = if want.screen { Tokens::default() } else { self.tokens() };
        for (field, token) in [("token", &tokens.token), ("newToken", &tokens.new_token)] {
            if let Some(token) = token {
                payload += &format!(",\"{field}\":\"{token}\"");
            }
        }
        payload.push('}');
        (self.joined, self.identity.in_session) = (None, None);
        // Another session has other epochs.
        (self.held.version, self.held.sum, self.held.tick) = ((0, 0), None, 0);
        self.line.retry_at = cx.now() + SECOND;
        let now = cx.now();
        cx.oracle.asked(now, want.session, &self.identity.sid);
        let call = CallContent::Join(want.clone(), tokens);
        self.ask(cx, want.session, "join_session", &payload, call);
    }

    /// The tokens of the next join. A member changes its token now and then, and repeats the new
    /// one until it knows that it was accepted.
    fn tokens(&mut self) -> Tokens {
        let Some(luck) = &mut self.habits.tokens else { return Tokens::default() };
        let own = self.identity.token;
        if self.identity.next_token.is_none() && luck.one_in(4) {
            self.identity.next_token = Some(own + 1);
        }
        let token = |number| plan::token(self.id, number);
        Tokens { token: Some(token(own)), new_token: self.identity.next_token.map(token) }
    }

    /// Sends an event to the member's session.
    fn say(&mut self, cx: &mut Cx<'_>, say: &Say) {
        let now = cx.now();
        let (Some(wire), Some(session)) = (self.wire, self.joined) else { return };
        let clock = now as i64 / 1_000 + self.habits.clock;
        let held = self.held.version;
        let say = &placed(cx, session, say);
        let at = match say {
            Say::Play { ahead, .. } | Say::Seek { ahead, .. } => {
                ahead.map(|ahead| now.saturating_add_signed(ahead))
            }
            Say::PauseAt { ago } | Say::One { ago } => Some(now.saturating_sub(*ago)),
            _ => None,
        };
        let at_ms = at.map_or(String::new(), |at| {
            format!(",\"atServerMs\":{}.{:03}", at / 1_000, at % 1_000)
        });
        let other = match say {
            Say::HandTo { member }
            | Say::Approve { member }
            | Say::Deny { member }
            | Say::Allow { member, .. } => cx.sid_of(*member).map(str::to_owned),
            _ => None,
        };
        let named = matches!(
            say,
            Say::HandTo { .. } | Say::Approve { .. } | Say::Deny { .. } | Say::Allow { .. }
        );
        if named && other.is_none() {
            return;
        }
        let other = other.unwrap_or_default();
        let millis = |micros: u64| format!("{}.{:03}", micros / 1_000, micros % 1_000);
        let bpm = |milli: u32| format!("{}.{:03}", milli / 1_000, milli % 1_000);
        let mut what = CallContent::Say(say.clone(), at, other.clone());
        let (name, fields) = match say {
            Say::Play { bars, quantize, .. } => {
                let quantize = quantize
                    .map(|bar| format!(",\"quantize\":\"{}\"", if bar { "bar" } else { "beat" }));
                ("play", format!(",\"countInBars\":{bars}{at_ms}{}", quantize.unwrap_or_default()))
            }
            Say::Pause => ("pause", String::new()),
            Say::PauseAt { .. } => ("pause", at_ms),
            Say::One { .. } => ("one", at_ms),
            Say::Loop { from, to } => ("loop", format!(",\"from\":{from},\"to\":{to}")),
            Say::Release => ("loop", ",\"from\":null".into()),
            Say::Jump { to, at } => ("seek", format!(",\"beat\":{to},\"atBeat\":{at}")),
            Say::ArmTempo { milli, time, real, at } => {
                let name = if *real { "tempo_changed" } else { "tempo_change" };
                let (bpm, time) = (bpm(*milli), millis(*time));
                (name, format!(",\"tempo\":{bpm},\"fadeTime\":{time},\"atBeat\":{at}"))
            }
            Say::Cancel => ("cancel", String::new()),
            Say::Nudge { beats } => ("nudge", format!(",\"beats\":{beats}")),
            Say::Stop => ("stop", String::new()),
            Say::Seek { to, .. } => ("seek", format!(",\"position\":{}{at_ms}", millis(*to))),
            Say::Tempo { milli } => ("set_tempo", format!(",\"tempo\":{}", bpm(*milli))),
            Say::Fade { milli, time, real } => {
                let name = if *real { "tempo_changed" } else { "tempo_change" };
                (name, format!(",\"tempo\":{},\"fadeTime\":{}", bpm(*milli), millis(*time)))
            }
            Say::Signature { numerator, denominator } => (
                "set_time_signature",
                format!(",\"numerator\":{numerator},\"denominator\":{denominator}"),
            ),
            Say::Message { text } => {
                // Every other long message exceeds the limit.
                let more = if *text == LONG_MESSAGE {
                    "é".repeat(usize::from(self.id % 2) * 7)
                } else {
                    String::new()
                };
                ("update_message", format!(",\"message\":\"{}{more}\"", message(*text)))
            }
            Say::Claim => ("set_role", ",\"role\":\"leader\"".into()),
            Say::StepDown => ("set_role", ",\"role\":\"follower\"".into()),
            Say::HandTo { .. } => {
                ("set_role", format!(",\"role\":\"leader\",\"memberId\":\"{other}\""))
            }
            Say::Ask => ("request_leader", String::new()),
            Say::Approve { .. } => {
                ("approve_leader_request", format!(",\"requesterId\":\"{other}\""))
            }
            Say::Deny { .. } => ("deny_leader_request", format!(",\"requesterId\":\"{other}\"")),
            Say::Settings { max_members, pause_on_loss, rule, cues } => {
                ("update_settings", settings(*max_members, *pause_on_loss, *rule, *cues))
            }
            Say::Passcode { code } => {
                ("update_settings", secret("passcode", code.map(plan::passcode)))
            }
            Say::Pin { pin } => ("update_settings", secret("leaderPin", pin.map(plan::pin))),
            Say::Setlist { songs, variant, body } => {
                let list = songs::list_json(*songs, *variant, *body);
                ("set_setlist", format!(",\"setlist\":{list}"))
            }
            Say::Edit(edit) => ("edit_setlist", format!(",\"ops\":{}", songs::edit_json(edit))),
            Say::Allow { may_edit, .. } => {
                ("set_member", format!(",\"memberId\":\"{other}\",\"mayEdit\":{may_edit}"))
            }
            Say::AllowAll { may_edit } => {
                ("update_settings", format!(",\"anyoneMayEdit\":{may_edit}"))
            }
            Say::GetSetlist => ("get_setlist", String::new()),
            Say::GetSongs => ("get_songs", String::new()),
            Say::Select { song } => ("select_song", format!(",\"songId\":\"song {song}\"")),
            Say::Step { forward } => {
                ("select_song", format!(",\"step\":{}", if *forward { 1 } else { -1 }))
            }
            Say::GetSong { song } => ("get_song", format!(",\"songId\":\"song {song}\"")),
            Say::Sync { stale: true } => {
                ("sync_request", ",\"version\":0,\"checksum\":\"0\"".into())
            }
            Say::Sync { stale: false } => ("sync_request", format!(",\"version\":{}", held.1)),
            Say::Chat => ("chat_message", ",\"message\":\"one more time\"".into()),
            Say::Cue => ("cue", ",\"text\":\"chorus x2\"".into()),
            Say::BeatSync => {
                ("beat_sync", format!(",\"beatPosition\":12.5,\"masterTime\":{clock}"))
            }
            Say::PositionSync { off } => {
                let oracle = &cx.oracle.sessions[usize::from(session)];
                let position =
                    oracle.model.as_ref().map_or(0, |model| model.music.at(now).position as i64);
                let position = (position + off).clamp(0, 86_400_000_000) as u64;
                what = CallContent::Report(position);
                (
                    "position_sync",
                    format!(",\"positionMs\":{},\"timestamp\":{clock}", millis(position)),
                )
            }
            Say::ClockSync => ("clock_sync", format!(",\"t0\":{clock}")),
            Say::Probe => ("latency_probe", format!(",\"timestamp\":{clock}")),
            Say::Heartbeat => ("heartbeat", format!(",\"timestamp\":{clock}")),
            Say::Quality => ("connection_quality", String::new()),
        };
        let event = events::ClientEvent::from_name(name);
        let is_timed = event.is_some_and(events::ClientEvent::is_timed);
        let not_after = if is_timed { self.habits.time_limit(now) } else { None };
        let limit = not_after.map(|limit| format!(",\"notAfterServerMs\":{}", millis(limit)));
        let fields = fields + &limit.unwrap_or_default();
        if !event.is_some_and(events::ClientEvent::is_applied_once) {
            let payload = format!("{{\"sessionId\":\"s{session}\"{fields}}}");
            let ask = PendingCall { not_after, ..PendingCall::new(session, what, now) };
            return self.send_ask(cx, wire, name, &payload, ask);
        }
        self.commands.count += 1;
        self.commands.page +=
            u16::from(self.habits.reloads && self.commands.count.is_multiple_of(2));
        let (number, page) = (self.commands.count, self.commands.page);
        let client = format!("member-{}-{page}", self.id);
        let payload =
            format!("{{\"sessionId\":\"s{session}\",\"commandId\":\"{client}-{number}\"{fields}}}");
        let command = Command { session, name, payload, what, page, number, not_after };
        self.commands.recent.push_back(command.clone());
        if self.commands.recent.len() > RECENT_MAX {
            self.commands.recent.pop_front();
        }
        self.command(cx, wire, command);
    }

    /// Sends some of the last commands again, in any order. A member that has returned does not
    /// know which of them reached the server.
    fn say_again(&mut self, cx: &mut Cx<'_>) {
        let (Some(wire), Some(session)) = (self.wire, self.joined) else { return };
        let recent = std::mem::take(&mut self.commands.recent);
        let mut again: Vec<Command> =
            recent.into_iter().filter(|command| command.session == session).collect();
        for last in (1..again.len()).rev() {
            let other = self.luck.below(last as u64 + 1) as usize;
            again.swap(last, other);
        }
        again.truncate(self.luck.below(RECENT_MAX as u64 + 1) as usize);
        for command in again {
            self.command(cx, wire, command);
        }
    }

    fn command(&mut self, cx: &mut Cx<'_>, wire: usize, command: Command) {
        let Command { session, name, payload, what, page, number, not_after } = command;
        let command = Some(((self.id, page), number));
        let call = PendingCall::new(session, what, cx.now());
        let ask = PendingCall { command, not_after, ..call };
        self.send_ask(cx, wire, name, &payload, ask);
    }

    /// Sends an event and waits for its acknowledgement.
    fn ask(&mut self, cx: &mut Cx<'_>, session: u16, name: &str, payload: &str, what: CallContent) {
        let Some(wire) = self.wire else { return };
        let ask = PendingCall::new(session, what, cx.now());
        self.send_ask(cx, wire, name, payload, ask);
    }

    fn send_ask(
        &mut self,
        cx: &mut Cx<'_>,
        wire: usize,
        name: &str,
        payload: &str,
        ask: PendingCall,
    ) {
        self.commands.next_ask += 1;
        let id = self.commands.next_ask;
        let text = format!("42{id}[\"{name}\",{payload}]");
        let (now, m) = (cx.now(), self.id);
        cx.oracle.journal.note(now, || {
            format!("member {m} says {}", text.chars().take(150).collect::<String>())
        });
        let mut bytes = Vec::new();
        if cx.wires[wire].packing.inflater.is_some() && self.luck.one_in(2) {
            frames::frame(
                &mut bytes,
                frames::DEFLATED,
                &frames::stored(text.as_bytes()),
                &mut self.luck,
            );
        } else {
            frames::frame(&mut bytes, frames::TEXT, text.as_bytes(), &mut self.luck);
        }
        if !cx.wires[wire].spoiled {
            cx.wires[wire].spent.packets += 1;
            cx.wires[wire].spent.questions += u64::from(name == "connection_quality");
            let end = cx.wires[wire].sent_up + bytes.len() as u64;
            cx.wires[wire].asks.push(PendingCall { id, end, ..ask });
            cx.send(wire, &bytes);
        }
    }

    /// Schedules the next probe. Timers do not depend on steps of the member's clock.
    fn plan_probe(&mut self, cx: &mut Cx<'_>) {
        let next = self.keeper.as_ref().and_then(|keeper| keeper.plan.next());
        let next =
            next.map(|millis| (millis * 1_000.0).ceil() as u64).map(|at| at.max(cx.now() + 1));
        if next.is_some() && next != self.probe_at {
            self.probe_at = next;
            cx.agenda.post(next.unwrap_or_default(), Event::Probe(self.id));
        }
    }

    /// Asks for the server's time, if a probe is due.
    pub fn probe(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now();
        if self.probe_at != Some(now) {
            return;
        }
        self.probe_at = None;
        let (Some(keeper), Some(wire)) = (&mut self.keeper, self.wire) else { return };
        if keeper.plan.take(now as f64 / 1_000.0) && !cx.wires[wire].spoiled {
            let t0 = keeper.ask(now, self.commands.next_ask + 1);
            self.ask(cx, 0, "clock_sync", &format!("{{\"t0\":{t0}}}"), CallContent::Clock);
        }
        self.plan_probe(cx);
    }

    /// Reads bytes that have arrived at the client.
    pub fn arrive(&mut self, cx: &mut Cx<'_>, w: usize) {
        let now = cx.now();
        cx.arrive_down(w);
        let cable = &cx.net.cables[w];
        if cx.wires[w].left || self.wire != Some(w) {
            return cx.reject_bytes(w);
        }
        if cable.reset {
            return self.forget_wire(cx);
        }
        let mut count = cable.down.here().len();
        if let Some((until, rate, since)) = self.habits.slow {
            if now >= until {
                self.habits.slow = None;
            } else {
                count = count.min(((now - since) * rate / SECOND) as usize);
                if count < cable.down.here().len() {
                    cx.post_down(w, now + 100_000);
                }
                if count == 0 {
                    return;
                }
                self.habits.slow = Some((until, rate, now));
            }
        }
        let cable = &mut cx.net.cables[w];
        if count > 0 {
            self.line.received_at = now;
            let mut rest = std::mem::take(&mut self.line.rest);
            rest.extend_from_slice(&cable.down.here()[..count]);
            cable.down.took(count);
            cx.send_capacity(w);
            let used = self.hear_all(cx, w, &rest);
            rest.drain(..used);
            self.line.rest = rest;
        }
        if cx.net.cables[w].down.is_over(now) && self.wire == Some(w) {
            cx.end_stream(w);
            self.forget_wire(cx);
        }
    }

    /// Reads all complete frames, and returns the number of their bytes.
    fn hear_all(&mut self, cx: &mut Cx<'_>, w: usize, bytes: &[u8]) -> usize {
        let (now, m) = (cx.now(), self.id);
        let mut at = 0;
        if !self.line.upgraded {
            let Some(end) = head_length(bytes) else { return 0 };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                // The server has no room for another connection.
                self.rejected_at = Some(now);
                cx.end_stream(w);
                self.forget_wire(cx);
                return bytes.len();
            }
            self.line.upgraded = true;
            self.connect(cx, w);
            at = end;
        }
        while let Some(whole) = read(&bytes[at..]) {
            let frame = &bytes[at..at + whole.length];
            at += whole.length;
            match frame[0] {
                frames::TEXT => match self.decoded(cx, frame) {
                    Some(decoded) => {
                        self.see(cx, &decoded);
                        self.receive(cx, w, &decoded.what);
                    }
                    None => cx.oracle.journal.fail(
                        now,
                        "I6 as it was sent",
                        format!("member {m} got a frame that was not sent"),
                    ),
                },
                frames::DEFLATED => {
                    let (packed, plain) =
                        cx.wires[w].packing.deflated.pop_front().unwrap_or_default();
                    match cx.oracle.memo.with_digest(plain).filter(|_| packed == Digest::of(frame))
                    {
                        Some(decoded) => {
                            self.see(cx, &decoded);
                            self.receive(cx, w, &decoded.what);
                        }
                        None => cx.oracle.journal.fail(
                            now,
                            "I6 as it was sent",
                            format!("member {m} got a compressed frame that was not sent"),
                        ),
                    }
                }
                frames::CLOSE => {
                    cx.end_stream(w);
                    self.forget_wire(cx);
                }
                frames::PONG => {}
                _ => cx.oracle.journal.fail(
                    now,
                    "I6 as it was sent",
                    format!("member {m} got a strange frame"),
                ),
            }
            if self.wire != Some(w) {
                return bytes.len();
            }
        }
        at
    }

    /// Returns the message in a frame, if the server has sent it. Its time of sending, if it has one,
    /// must not be over yet.
    fn decoded(&self, cx: &mut Cx<'_>, frame: &[u8]) -> Option<Rc<Decoded>> {
        if let Some(decoded) = cx.oracle.memo.decoded(frame) {
            return Some(decoded);
        }
        let (decoded, stamp) = cx.oracle.memo.stamped(frame)?;
        let times = (decoded.at as f64 / 1_000.0, cx.now() as f64 / 1_000.0);
        if stamp < times.0 || stamp > times.1 {
            let what = format!("member {} got {stamp} ms, sent within {times:?}", self.id);
            cx.oracle.journal.fail(cx.now(), "I21 clock", what);
        }
        Some(decoded)
    }

    /// Asks for a Socket.IO connection, with the token of its seat if the member remembers that.
    fn connect(&mut self, cx: &mut Cx<'_>, w: usize) {
        let remembers = self.becomes_former() || self.habits.remembers && !self.forgets_recovery();
        let before =
            self.identity.pid.as_ref().zip(self.identity.seen.as_ref()).filter(|_| remembers);
        let before = before.zip(self.identity.in_session);
        let text = match before {
            Some(((pid, (offset, seen, sent_at, sent_bytes)), session)) => {
                let (sid, held) = (self.identity.sid.clone(), self.held.version);
                cx.wires[w].version = held;
                cx.wires[w].hope = Some(RecoveryClaim {
                    sid,
                    session,
                    held,
                    offset: offset.clone(),
                    seen: *seen,
                    resent: Vec::new(),
                    sent_at: *sent_at,
                    sent_bytes: *sent_bytes,
                });
                format!("40{{\"pid\":\"{pid}\",\"offset\":\"{offset}\"}}")
            }
            None => "40".to_owned(),
        };
        self.send_text(cx, w, text.as_bytes());
    }

    /// Whether the member comes back without its recovery, as a page that was reloaded, so that
    /// only its token brings its seat back. What it forgets is kept, to be tried later.
    fn forgets_recovery(&mut self) -> bool {
        let forgets = self.habits.tokens.as_mut().is_some_and(|luck| luck.one_in(3));
        if forgets {
            let Identity { sid, pid, in_session, seen, .. } = &self.identity;
            self.former = Some(Box::new(Former {
                sid: sid.clone(),
                pid: pid.clone(),
                in_session: *in_session,
                seen: seen.clone(),
                version: self.held.version,
            }));
        }
        forgets
    }

    /// Whether the member tries the recovery that it forgot, as a second copy of its page. It does
    /// so at most once, and not before it has had another connection.
    fn becomes_former(&mut self) -> bool {
        let own = &self.identity.sid;
        let Some(former) = self.former.take_if(|former| former.sid != *own) else { return false };
        if !self.habits.tokens.as_mut().is_some_and(|luck| luck.one_in(2)) {
            return false;
        }
        let Former { sid, pid, in_session, seen, version } = *former;
        self.identity.sid = sid;
        (self.identity.pid, self.identity.in_session, self.identity.seen) = (pid, in_session, seen);
        self.held = Held { version, ..Held::default() };
        true
    }

    /// Handles the server's answer: the member is at its seat again, or must join.
    fn become_somebody(&mut self, cx: &mut Cx<'_>, sid: &str, pid: Option<String>) {
        let same = self.identity.sid == sid;
        (self.identity.sid, self.identity.pid) = (sid.to_owned(), pid);
        if let Some(keeper) = &mut self.keeper {
            keeper.plan.start(cx.now() as f64 / 1_000.0);
            self.plan_probe(cx);
        }
        let wants = self.want.as_ref().map(|want| want.session);
        if same && self.identity.in_session.is_some() && self.identity.in_session == wants {
            (self.joined, self.line.tries) = (self.identity.in_session, 0);
            self.say_again(cx);
            return;
        }
        if !same {
            (self.held.version, self.held.sum, self.identity.seen) = ((0, 0), None, None);
        }
        self.ask_join(cx);
    }

    /// Notes the offset of an event.
    fn see(&mut self, cx: &mut Cx<'_>, decoded: &Decoded) {
        let Some((offset, number)) = &decoded.offset else { return };
        let (now, m) = (cx.now(), self.id);
        let before =
            self.identity.seen.replace((offset.clone(), *number, decoded.at, decoded.bytes));
        let next = if decoded.is_snapshot() { *number } else { number.saturating_sub(1) };
        if before.is_some_and(|(old, last, ..)| last > next && log_of(&old) == log_of(offset)) {
            let what = format!("member {m} got event {offset} again or out of order");
            cx.oracle.journal.fail(now, "I15 each event once", what);
        }
    }

    fn receive(&mut self, cx: &mut Cx<'_>, w: usize, message: &ServerMessage) {
        let (now, m) = (cx.now(), self.id);
        let mute = now < self.habits.mute_until;
        match message {
            ServerMessage::Connected(sid, pid) => self.become_somebody(cx, sid, pid.clone()),
            ServerMessage::EnginePing if !mute => self.send_text(cx, w, b"3"),
            ServerMessage::Ping(timestamp) if !mute => {
                let text = format!("42[\"pong\",{{\"timestamp\":{timestamp}}}]");
                self.send_text(cx, w, text.as_bytes());
            }
            ServerMessage::Ack(ack) => {
                if let (Some(keeper), Some((t1, t2))) = (&mut self.keeper, ack.stamps()) {
                    match keeper.answered(now, ack.id, t1, t2) {
                        Ok(true) => {
                            keeper.plan.burst(now as f64 / 1_000.0, 8);
                            cx.oracle.journal.saw("a member sees that its clock was set");
                            self.plan_probe(cx);
                        }
                        Ok(false) => {}
                        Err(what) => cx.oracle.journal.fail(
                            now,
                            "I21 clock",
                            format!("member {m} is {what}"),
                        ),
                    }
                    return;
                }
                let rejection = ack.guessing
                    || matches!(
                        ack.code.as_str(),
                        "session_full" | "bad_passcode" | "session_not_found" | "unavailable"
                    );
                if rejection {
                    self.rejected_at = Some(now);
                    self.joined = None;
                    self.line.retry_at = now + SECOND;
                } else if ack.code == "not_member" {
                    // The member went to another session, and changed its mind on the way.
                    self.joined = None;
                }
            }
            ServerMessage::State(state) => {
                if self.want.as_ref().is_none_or(|want| want.session != state.session) {
                    return;
                }
                // The first state of a session is the snapshot that follows the join.
                let comes_in = self.joined.is_none() && cx.wires[w].seat == Some(state.session);
                if comes_in {
                    (self.joined, self.line.tries) = (Some(state.session), 0);
                    self.identity.in_session = self.joined;
                    if let Some(next) = self.identity.next_token.take() {
                        self.identity.token = next;
                    }
                }
                let back = state.version < self.held.version;
                let same = state.version == self.held.version;
                let clash =
                    same && self.held.sum.zip(state.sum).is_some_and(|(one, other)| one != other);
                if !same {
                    self.held.sum = None;
                }
                let held = std::mem::replace(&mut self.held.version, state.version);
                self.held.sum = self.held.sum.or(state.sum);
                if back {
                    let what = format!("member {m} got {:?} after {held:?}", state.version);
                    cx.oracle.journal.fail(now, "I3 version never goes back", what);
                }
                if clash {
                    cx.oracle.journal.fail(
                        now,
                        "I6 equal version, equal state",
                        format!("member {m} at {held:?}"),
                    );
                }
                if comes_in {
                    self.say_again(cx);
                }
            }
            ServerMessage::Tick { session, version, serial, .. } => {
                if self.want.as_ref().is_none_or(|want| want.session != *session) {
                    return;
                }
                let (before, held) =
                    (std::mem::replace(&mut self.held.tick, *serial), self.held.version);
                if *serial <= before {
                    cx.oracle.journal.fail(
                        now,
                        "I15 ticks in order",
                        format!("member {m} got tick {serial} after {before}"),
                    );
                }
                if *version < held {
                    cx.oracle.journal.fail(
                        now,
                        "I15 ticks in order",
                        format!("member {m} got a tick of the past"),
                    );
                }
            }
            _ => {}
        }
    }

    /// Sends a packet that has no answer.
    fn send_loose(&mut self, cx: &mut Cx<'_>, text: &[u8]) {
        if let Some(wire) = self.wire.filter(|wire| !cx.wires[*wire].spoiled) {
            self.send_text(cx, wire, text);
        }
    }

    fn send_text(&mut self, cx: &mut Cx<'_>, wire: usize, text: &[u8]) {
        let mut bytes = Vec::new();
        cx.wires[wire].spent.packets += 1;
        frames::frame(&mut bytes, frames::TEXT, text, &mut self.luck);
        cx.send(wire, &bytes);
    }
}

/// Returns an estimate of the server's clock for every other member.
/// Returns a command whose beats are counted from the beginning of the song, instead of from the
/// beat that is on. An edit names the revision of its song that the member saw.
fn placed(cx: &Cx<'_>, session: u16, say: &Say) -> Say {
    let model = cx.oracle.sessions[usize::from(session)].model.as_ref();
    let beat = model.map_or(0, |model| model.music.at(cx.now()).song_beat());
    let here = beat.div_euclid(BEAT) as i64;
    let place = |beats: i64| (here + beats).max(0);
    match say.clone() {
        Say::Loop { from, to } => {
            let from = place(from);
            Say::Loop { from, to: place(to).max(from + 1) }
        }
        Say::Jump { to, at } => Say::Jump { to: place(to), at: place(at) },
        Say::ArmTempo { milli, time, real, at } => {
            Say::ArmTempo { milli, time, real, at: place(at) }
        }
        Say::Edit(edit) => {
            // An edited chart moves the music only if its song is on.
            let on = model.and_then(|model| model.program.on()).filter(|_| edit.shift != 0);
            let song = on.unwrap_or(edit.song);
            let seen = model.map_or(0, |model| model.program.seen(song));
            Say::Edit(plan::Edit { song, was: seen.saturating_sub(edit.stale.into()), ..edit })
        }
        say => say,
    }
}

fn draw_keeper(seed: u64, id: u16) -> Option<Box<Timekeeper>> {
    let mut luck = SimRng::new(seed, 7_000 + u64::from(id));
    luck.one_in(2).then(|| Box::new(Timekeeper::new(luck)))
}

/// Draws the luck for a habit of every other member.
fn draw_every_other(seed: u64, stream: u64) -> Option<SimRng> {
    let mut luck = SimRng::new(seed, stream);
    luck.one_in(2).then_some(luck)
}

/// Draws the terms on which a member offers compression, if it does.
fn draw_terms(seed: u64, id: u16) -> Option<&'static str> {
    const TERMS: [&str; 4] = [
        "",
        "; client_max_window_bits",
        "; server_max_window_bits=9",
        "; server_no_context_takeover",
    ];
    let mut luck = SimRng::new(seed, 4_000 + u64::from(id));
    luck.one_in(2).then(|| *luck.pick(&TERMS))
}

fn settings(
    max_members: Option<u32>,
    pause: Option<bool>,
    rule: Option<u8>,
    cues: Option<bool>,
) -> String {
    let mut fields = String::new();
    if let Some(members) = max_members {
        fields += &format!(",\"maxMembers\":{members}");
    }
    if let Some(pause) = pause {
        fields += &format!(",\"onLeaderLoss\":\"{}\"", if pause { "pause" } else { "continue" });
    }
    if let Some(rule) = rule {
        let word = format!("{:?}", leader_rule(rule)).to_lowercase();
        fields += &format!(",\"leaderRule\":\"{word}\"");
    }
    if let Some(cues) = cues {
        fields += &format!(",\"anyoneMayCue\":{cues}");
    }
    fields
}

fn secret(field: &str, secret: Option<String>) -> String {
    match secret {
        Some(secret) => format!(",\"{field}\":\"{secret}\""),
        None => format!(",\"{field}\":null"),
    }
}
