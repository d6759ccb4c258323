//! The members of the band: clients that keep the protocol as well as their habits let them.

use std::collections::VecDeque;

use bandsync_engine::wire::events;

use super::clock::Timekeeper;
use super::frames;
use super::heard::{Heard, Told, log_of};
use super::model::{LONG_MESSAGE, leader_rule, message, song_start};
use super::plan::{self, Act, Bye, Join, Say};
use super::rng::{Digest, SimRng};
use super::wire::{Ask, Asked, Hope, Place};
use super::world::{Event, World};

const SECOND: u64 = 1_000_000;

/// Commands that a member may send again.
const RECENT_MAX: usize = 4;

/// A command as it was sent.
#[derive(Clone)]
struct Command {
    session: u16,
    name: &'static str,
    payload: String,
    what: Asked,
    page: u16,
    number: u64,
}

/// A client, over all its connections.
pub struct Member {
    /// Where it wants to be.
    pub want: Option<Join>,
    pub wire: Option<usize>,
    pub joined: Option<u16>,
    /// The session that it was in last, also over a lost connection.
    in_session: Option<u16>,
    /// The newest state it was sent.
    pub held: (u64, u64),
    held_sum: Option<u64>,
    /// Who it is, and what shows that.
    sid: String,
    pid: Option<String>,
    /// The last event that it has seen: where that stands, and when and after how much it was told.
    seen: Option<(String, u64, u64, u64)>,
    /// Whether it says who it was when it comes back.
    remembers: bool,
    /// On which terms it takes compressed messages, if at all.
    terms: Option<&'static str>,
    last_tick: u64,
    /// When it was last told why it may not come in.
    pub told_why: Option<u64>,
    /// Whether the HTTP part of its connection is over.
    upgraded: bool,
    rest: Vec<u8>,
    heard_at: u64,
    retry_at: u64,
    tries: u32,
    mute_until: u64,
    slow: Option<(u64, u64, u64)>,
    clock: i64,
    /// Whether it keeps the server's time, as the players' page does, and when it looks whether a
    /// probe is due.
    pub keeper: Option<Box<Timekeeper>>,
    probe_at: Option<u64>,
    next_ask: u64,
    /// How many commands it has numbered, and the last few of them, which it may send again.
    commands: u64,
    /// Which of its pages sends them, each a client of its own, and whether it opens one after the
    /// other.
    page: u16,
    reloads: bool,
    recent: VecDeque<Command>,
    next_sync: u64,
    opened: u64,
    luck: SimRng,
}

impl Member {
    pub fn new(seed: u64, id: u16) -> Self {
        Self {
            want: None,
            wire: None,
            joined: None,
            in_session: None,
            held: (0, 0),
            held_sum: None,
            sid: String::new(),
            pid: None,
            seen: None,
            remembers: !SimRng::new(seed, 2_000 + u64::from(id)).one_in(3),
            terms: draw_terms(seed, id),
            last_tick: 0,
            told_why: None,
            upgraded: false,
            rest: Vec::new(),
            heard_at: 0,
            retry_at: 0,
            tries: 0,
            mute_until: 0,
            slow: None,
            clock: 0,
            keeper: draw_keeper(seed, id),
            probe_at: None,
            next_ask: 0,
            commands: 0,
            page: 0,
            reloads: SimRng::new(seed, 9_000 + u64::from(id)).one_in(4),
            recent: VecDeque::new(),
            next_sync: 0,
            opened: 0,
            luck: SimRng::new(seed, 1_000 + u64::from(id)),
        }
    }

    /// What brings it back to its seat, if it knows.
    pub fn pid(&self) -> Option<&str> {
        self.pid.as_deref()
    }

    /// How many connections it has opened; counts this one.
    pub fn count(&mut self) -> u64 {
        self.opened += 1;
        self.opened
    }

    /// Drops its bad habits.
    pub fn calm_down(&mut self) {
        (self.mute_until, self.slow) = (0, None);
        if let Some(keeper) = &mut self.keeper {
            keeper.calm_answers = 0;
        }
        self.retry_at = 0;
    }

    /// Does not come back.
    pub fn retire(&mut self) {
        self.calm_down();
        self.want = None;
    }
}

impl World<'_> {
    /// A member looks at its own affairs: connects, retries, gives up on a silent server.
    pub fn look(&mut self, m: u16) {
        let now = self.now;
        let shape = &self.plan.shape;
        let member = &mut self.members[usize::from(m)];
        let Some(wire) = member.wire else {
            if member.want.is_some() && now >= member.retry_at {
                let wire = self.open(m, false);
                let member = &mut self.members[usize::from(m)];
                (member.wire, member.heard_at, member.upgraded) = (Some(wire), now, false);
                (member.joined, member.last_tick) = (None, 0);
                member.rest.clear();
                match self.members[usize::from(m)].terms {
                    Some(terms) => self.send(wire, &frames::upgrade_with(terms)),
                    None => self.send(wire, frames::UPGRADE),
                }
            }
            return;
        };
        let silence =
            shape.ping + shape.ping_timeout + SECOND + 4 * (shape.net.delay + shape.net.detour);
        if now - member.heard_at > silence
            || self.wires[wire].spoiled && now - member.heard_at > SECOND
        {
            self.abandon(m);
            return;
        }
        let wants = member.want.as_ref().map(|want| want.session);
        if member.joined.is_none()
            && wants.is_some()
            && now >= member.retry_at
            && !self.wires[wire].sid.is_empty()
        {
            let asked = self.wires[wire].asks.iter().any(|ask| matches!(ask.what, Asked::Join(_)));
            if !asked {
                self.ask_join(m);
            }
        } else if member.joined.is_some() && now >= member.next_sync {
            member.next_sync = now + member.luck.between(2, 9) * SECOND;
            self.say(m, &Say::Sync { stale: false });
        }
    }

    /// Somebody does what the plan says.
    pub fn act(&mut self, m: u16, act: &Act) {
        let now = self.now;
        self.oracle.journal.note(now, || format!("member {m} does {act:?}"));
        let Some(member) = self.members.get_mut(usize::from(m)) else { return };
        let wire = member.wire;
        match (act, wire) {
            (Act::Join(join), _) => {
                let elsewhere = member.joined.is_some() && member.want.as_ref() != Some(join);
                member.want = Some(join.clone());
                if wire.is_none() {
                    member.retry_at = now;
                    self.look(m);
                } else if elsewhere {
                    self.ask_join(m);
                }
            }
            (Act::ClockStep { by }, _) => {
                member.clock += by;
                if let Some(keeper) = &mut member.keeper {
                    keeper.step(now, *by);
                    // A page that comes back from the background probes anew; not every step is
                    // one.
                    if member.joined.is_some() && member.luck.one_in(2) {
                        keeper.plan.start(now as f64 / 1_000.0);
                        self.plan_probe(m);
                    }
                }
            }
            (Act::Mute { time }, _) => member.mute_until = now + time,
            (Act::Slow { rate, time }, _) => member.slow = Some((now + time, *rate, now)),
            (Act::Say(say), Some(_)) => self.say(m, say),
            (Act::Leave, Some(wire)) => {
                member.want = None;
                if let Some(session) = member.joined {
                    let payload = format!("{{\"sessionId\":\"s{session}\"}}");
                    self.ask(m, wire, session, "leave_session", &payload, Asked::Leave);
                }
            }
            (Act::Bye(bye), Some(wire)) => self.say_bye(m, wire, *bye),
            (Act::Cut, Some(wire)) => {
                self.net.cables[wire].reset = true;
                self.arrive_up(wire);
                self.forget_wire(m);
            }
            (Act::HalfOpen { up, down }, Some(wire)) => {
                let both = !up && !down;
                if *up || both {
                    self.net.cables[wire].up.dig_hole();
                }
                if *down || both {
                    self.net.cables[wire].down.dig_hole();
                }
            }
            (Act::Stall { up, down, time }, Some(wire)) => {
                let both = !up && !down;
                let one = &mut self.net.cables[wire];
                if *up || both {
                    one.up.stall(now + time);
                }
                if *down || both {
                    one.down.stall(now + time);
                }
                self.post_up(wire, now + time);
                self.post_down(wire, now + time);
            }
            (Act::Flood { event, count }, Some(_)) => {
                for nth in 0..*count {
                    self.flood(m, *event, nth);
                }
            }
            (Act::Rubbish { kind, luck }, Some(wire)) => self.send_rubbish(m, wire, *kind, *luck),
            _ => {}
        }
    }

    fn flood(&mut self, m: u16, event: u8, nth: u16) {
        let step = u32::from(nth);
        match event {
            0 => self.say(m, &Say::Chat),
            1 => self.say(m, &Say::Sync { stale: true }),
            2 => self.say(m, &Say::Probe),
            3 => self.say(m, &Say::PositionSync { off: 12_000 * (i64::from(nth % 7) - 3) }),
            4 => self.say(m, &Say::Play { ahead: None, bars: 0, quantize: None }),
            5 => self.say(m, &Say::Claim),
            6 => self.say(m, &Say::Pause),
            7 => self.ask_join(m),
            8 => self.say(m, &Say::Quality),
            9 => self.say(m, &Say::Heartbeat),
            10 => self.say(m, &Say::ClockSync),
            // Answers that nobody has asked for.
            11 => self.send_loose(m, b"42[\"pong\",{}]"),
            // Sliders that are dragged, and a press behind some of what they say.
            13 => self.say(m, &Say::Tempo { milli: 60_000 + 100 * step }),
            14 => {
                self.say(m, &Say::Fade { milli: 60_000 + 100 * step, time: 0, real: step % 2 == 0 })
            }
            15 => self.say(m, &Say::Seek { to: 1_000 * u64::from(nth), ahead: None }),
            16 => match nth % 40 {
                39 => self.say(m, &Say::Play { ahead: None, bars: 0, quantize: None }),
                19 => self.say(m, &Say::Pause),
                n if n % 2 == 0 => self.say(m, &Say::Tempo { milli: 90_000 + 100 * step }),
                _ => self.say(m, &Say::PositionSync { off: 40_000 * (i64::from(nth % 3) - 1) }),
            },
            _ => self.send_loose(m, b"3"),
        }
    }

    fn send_rubbish(&mut self, m: u16, wire: usize, kind: u8, luck: u64) {
        let mut luck = SimRng::new(luck, 7);
        let session = self.members[usize::from(m)].joined.unwrap_or(0);
        match kind {
            8 => {
                let deep = format!(
                    "{{\"sessionId\":\"s{session}\",\"message\":{}{}}}",
                    "[".repeat(3_000),
                    "]".repeat(3_000)
                );
                self.ask(m, wire, session, "update_message", &deep, Asked::Nonsense);
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
                self.ask(m, wire, session, name, &payload, Asked::Nonsense);
            }
            // Another band's session.
            14 => {
                let other =
                    format!("{{\"sessionId\":\"s{}\",\"message\":\"x\"}}", 900 + luck.below(9));
                self.ask(m, wire, session, "update_message", &other, Asked::Nonsense);
            }
            12 => {
                let mut bytes = Vec::new();
                let count = luck.magnitude(2, 3_000);
                for _ in 0..count {
                    frames::frame(&mut bytes, frames::PING, b"are you there", &mut luck);
                }
                self.wires[wire].spent.pings += count;
                self.send(wire, &bytes);
            }
            // A connection that never ends its request.
            15 => {
                let stray = self.open(m, true);
                let length = luck.below(frames::UPGRADE.len() as u64 - 1) as usize;
                self.send(stray, &frames::UPGRADE[..length]);
            }
            // Connections that come, and then say nothing any more.
            16 | 17 => {
                let stray = self.open(m, true);
                let mut bytes = frames::UPGRADE.to_vec();
                if kind == 17 {
                    frames::frame(&mut bytes, frames::TEXT, b"40", &mut luck);
                    self.wires[stray].spent.packets += 1;
                }
                self.send(stray, &bytes);
            }
            // An event whose attachments do not come, from somebody who says all else in time; and
            // a second connect.
            19 | 20 => {
                let stray = self.open(m, true);
                let mut bytes = frames::UPGRADE.to_vec();
                frames::frame(&mut bytes, frames::TEXT, b"40", &mut luck);
                let more: &[u8] = if kind == 19 {
                    b"451-[\"cue\",{\"_placeholder\":true,\"num\":0}]"
                } else {
                    b"40"
                };
                frames::frame(&mut bytes, frames::TEXT, more, &mut luck);
                self.wires[stray].spent.packets += 2;
                self.send(stray, &bytes);
            }
            // As many events as a read can hold.
            18 => {
                let stray = self.open(m, true);
                let mut bytes = frames::UPGRADE.to_vec();
                frames::frame(&mut bytes, frames::TEXT, b"40", &mut luck);
                let events: [&[u8]; 3] = [b"42[\"x\"]", b"42[\"heartbeat\",{}]", b"3"];
                let event = luck.pick(&events);
                let count = luck.magnitude(20, 5_000);
                for _ in 0..count {
                    frames::frame(&mut bytes, frames::TEXT, event, &mut luck);
                }
                self.wires[stray].spent.packets += 1 + count;
                self.send(stray, &bytes);
            }
            _ => {
                let shape = &self.plan.shape;
                let bytes =
                    frames::rubbish(kind, &mut luck, shape.message_max, shape.fragments_max);
                self.wires[wire].spoiled = true;
                self.send(wire, &bytes);
            }
        }
    }

    fn say_bye(&mut self, m: u16, wire: usize, bye: Bye) {
        let mut bytes = Vec::new();
        let joining = self.wires[wire].asks.iter().any(|ask| matches!(ask.what, Asked::Join(_)));
        let member = &mut self.members[usize::from(m)];
        let (joined, luck) = (member.joined.is_some(), &mut member.luck);
        match bye {
            // What is said behind a join that waits is heard later, which nobody could tell.
            Bye::Packet if !self.wires[wire].spoiled && joined && !joining => {
                frames::frame(&mut bytes, frames::TEXT, b"41", luck);
                let mark = self.wires[wire].sent_up + bytes.len() as u64;
                self.wires[wire].marks.push_back(mark);
                self.net.cables[wire].cuts.push_back(mark);
            }
            Bye::Engine => frames::frame(&mut bytes, frames::TEXT, b"1", luck),
            Bye::Frame => frames::frame(&mut bytes, frames::CLOSE, &1000_u16.to_be_bytes(), luck),
            Bye::Packet | Bye::Stream => {}
        }
        self.send(wire, &bytes);
        self.end_stream(wire);
        self.forget_wire(m);
    }

    /// Gives up on a connection.
    fn abandon(&mut self, m: u16) {
        let Some(wire) = self.members[usize::from(m)].wire else { return };
        self.end_stream(wire);
        self.forget_wire(m);
    }

    /// Has no connection any more, and tries again in a while.
    fn forget_wire(&mut self, m: u16) {
        let now = self.now;
        let member = &mut self.members[usize::from(m)];
        if let Some(wire) = member.wire.take() {
            self.wires[wire].left = true;
            if self.net.cables[wire].down.full() > 0 {
                self.post_down(wire, now);
            }
        }
        let member = &mut self.members[usize::from(m)];
        member.joined = None;
        if let Some(keeper) = &mut member.keeper {
            keeper.disconnected();
        }
        let most = (100_000 << member.tries.min(4)).min(2 * SECOND);
        member.retry_at = now + 20_000 + member.luck.below(most);
        member.tries += 1;
    }

    fn ask_join(&mut self, m: u16) {
        let member = &self.members[usize::from(m)];
        let (Some(wire), Some(want)) = (member.wire, member.want.clone()) else { return };
        if self.wires[wire].sid.is_empty() {
            return;
        }
        let mut payload =
            format!("{{\"sessionId\":\"s{}\",\"displayName\":\"Member {m}\"", want.session);
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
        payload.push('}');
        let member = &mut self.members[usize::from(m)];
        (member.joined, member.in_session) = (None, None);
        // Another session counts from another epoch.
        (member.held, member.held_sum, member.last_tick) = ((0, 0), None, 0);
        member.retry_at = self.now + SECOND;
        self.oracle.asked(self.now, want.session, &self.members[usize::from(m)].sid);
        self.ask(m, wire, want.session, "join_session", &payload, Asked::Join(want));
    }

    /// Says something in the session that it is in.
    fn say(&mut self, m: u16, say: &Say) {
        let now = self.now;
        let member = &self.members[usize::from(m)];
        let (Some(wire), Some(session)) = (member.wire, member.joined) else { return };
        let clock = now as i64 / 1_000 + member.clock;
        let held = member.held;
        let at = match say {
            Say::Play { ahead, .. } | Say::Seek { ahead, .. } => {
                ahead.map(|ahead| now.saturating_add_signed(ahead))
            }
            _ => None,
        };
        let at_ms = at.map_or(String::new(), |at| {
            format!(",\"atServerMs\":{}.{:03}", at / 1_000, at % 1_000)
        });
        let other = match say {
            Say::HandTo { member } | Say::Approve { member } | Say::Deny { member } => {
                let wire = self.members.get(usize::from(*member)).and_then(|member| member.wire);
                wire.map(|wire| self.wires[wire].sid.clone()).filter(|sid| !sid.is_empty())
            }
            _ => None,
        };
        let named = matches!(say, Say::HandTo { .. } | Say::Approve { .. } | Say::Deny { .. });
        if named && other.is_none() {
            return;
        }
        let other = other.unwrap_or_default();
        let millis = |micros: u64| format!("{}.{:03}", micros / 1_000, micros % 1_000);
        let bpm = |milli: u32| format!("{}.{:03}", milli / 1_000, milli % 1_000);
        let mut what = Asked::Say(say.clone(), at, other.clone());
        let (name, fields) = match say {
            Say::Play { bars, quantize, .. } => {
                let quantize = quantize
                    .map(|bar| format!(",\"quantize\":\"{}\"", if bar { "bar" } else { "beat" }));
                ("play", format!(",\"countInBars\":{bars}{at_ms}{}", quantize.unwrap_or_default()))
            }
            Say::Pause => ("pause", String::new()),
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
                // Every other of the long ones is longer than it may be.
                let more = if *text == LONG_MESSAGE {
                    "é".repeat(usize::from(m % 2) * 7)
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
                ("set_setlist", setlist(*songs, *variant, *body))
            }
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
                let court = &self.oracle.sessions[usize::from(session)];
                let place =
                    court.model.as_ref().map_or(0, |model| model.music.at(now).position as i64);
                let place = (place + off).clamp(0, 86_400_000_000) as u64;
                what = Asked::Report(place);
                (
                    "position_sync",
                    format!(",\"positionMs\":{},\"timestamp\":{clock}", millis(place)),
                )
            }
            Say::ClockSync => ("clock_sync", format!(",\"t0\":{clock}")),
            Say::Probe => ("latency_probe", format!(",\"timestamp\":{clock}")),
            Say::Heartbeat => ("heartbeat", format!(",\"timestamp\":{clock}")),
            Say::Quality => ("connection_quality", String::new()),
        };
        let is_applied_once =
            events::ClientEvent::from_name(name).is_some_and(events::ClientEvent::is_applied_once);
        if !is_applied_once {
            let payload = format!("{{\"sessionId\":\"s{session}\"{fields}}}");
            return self.ask(m, wire, session, name, &payload, what);
        }
        let member = &mut self.members[usize::from(m)];
        member.commands += 1;
        member.page += u16::from(member.reloads && member.commands.is_multiple_of(2));
        let (number, page) = (member.commands, member.page);
        let client = format!("member-{m}-{page}");
        let payload =
            format!("{{\"sessionId\":\"s{session}\",\"commandId\":\"{client}-{number}\"{fields}}}");
        let command = Command { session, name, payload, what, page, number };
        member.recent.push_back(command.clone());
        if member.recent.len() > RECENT_MAX {
            member.recent.pop_front();
        }
        self.command(m, wire, command);
    }

    /// Back in its session, a member sends some of its last commands again, in any order: it does
    /// not know which of them have reached the server.
    fn say_again(&mut self, m: u16) {
        let member = &mut self.members[usize::from(m)];
        let (Some(wire), Some(session)) = (member.wire, member.joined) else { return };
        let recent = std::mem::take(&mut member.recent);
        let mut again: Vec<Command> =
            recent.into_iter().filter(|command| command.session == session).collect();
        for last in (1..again.len()).rev() {
            let other = member.luck.below(last as u64 + 1) as usize;
            again.swap(last, other);
        }
        again.truncate(member.luck.below(RECENT_MAX as u64 + 1) as usize);
        for command in again {
            self.command(m, wire, command);
        }
    }

    fn command(&mut self, m: u16, wire: usize, command: Command) {
        let Command { session, name, payload, what, page, number } = command;
        let command = Some(((m, page), number));
        let ask = Ask { id: 0, session, what, command, sent: self.now, end: 0, came: None };
        self.send_ask(m, wire, name, &payload, ask);
    }

    /// Sends an event and waits for its acknowledgement.
    fn ask(&mut self, m: u16, wire: usize, session: u16, name: &str, payload: &str, what: Asked) {
        let ask = Ask { id: 0, session, what, command: None, sent: self.now, end: 0, came: None };
        self.send_ask(m, wire, name, payload, ask);
    }

    fn send_ask(&mut self, m: u16, wire: usize, name: &str, payload: &str, ask: Ask) {
        let member = &mut self.members[usize::from(m)];
        member.next_ask += 1;
        let id = member.next_ask;
        let text = format!("42{id}[\"{name}\",{payload}]");
        self.oracle.journal.note(self.now, || {
            format!("member {m} says {}", text.chars().take(150).collect::<String>())
        });
        let mut bytes = Vec::new();
        if self.wires[wire].inflater.is_some() && member.luck.one_in(2) {
            frames::frame(
                &mut bytes,
                frames::DEFLATED,
                &frames::stored(text.as_bytes()),
                &mut member.luck,
            );
        } else {
            frames::frame(&mut bytes, frames::TEXT, text.as_bytes(), &mut member.luck);
        }
        if !self.wires[wire].spoiled {
            self.wires[wire].spent.packets += 1;
            self.wires[wire].spent.questions += u64::from(name == "connection_quality");
            let end = self.wires[wire].sent_up + bytes.len() as u64;
            self.wires[wire].asks.push(Ask { id, end, ..ask });
            self.send(wire, &bytes);
        }
    }

    /// Sets the time of a member's next probe. Timers do not heed what the clock is set to.
    fn plan_probe(&mut self, m: u16) {
        let member = &mut self.members[usize::from(m)];
        let next = member.keeper.as_ref().and_then(|keeper| keeper.plan.next());
        let next =
            next.map(|millis| (millis * 1_000.0).ceil() as u64).map(|at| at.max(self.now + 1));
        if next.is_some() && next != member.probe_at {
            member.probe_at = next;
            self.post(next.unwrap_or_default(), Event::Probe(m));
        }
    }

    /// A member asks for the server's time, if that is due.
    pub fn probe(&mut self, m: u16) {
        let now = self.now;
        let member = &mut self.members[usize::from(m)];
        if member.probe_at != Some(now) {
            return;
        }
        member.probe_at = None;
        let (Some(keeper), Some(wire)) = (&mut member.keeper, member.wire) else { return };
        if keeper.plan.take(now as f64 / 1_000.0) && !self.wires[wire].spoiled {
            let t0 = keeper.ask(now, member.next_ask + 1);
            self.ask(m, wire, 0, "clock_sync", &format!("{{\"t0\":{t0}}}"), Asked::Clock);
        }
        self.plan_probe(m);
    }

    /// Bytes arrive at the client.
    pub fn arrive_down(&mut self, w: usize) {
        let now = self.now;
        if let Some(p) = self.wires[w].poller {
            return self.arrive_polled(p, w);
        }
        if let Some(again) = self.net.cables[w].down.arrive(now) {
            self.post_down(w, again);
        }
        let (wire, cable) = (&self.wires[w], &mut self.net.cables[w]);
        let m = wire.member;
        if wire.left || self.members[usize::from(m)].wire != Some(w) {
            return self.refuse_bytes(w);
        }
        if cable.reset {
            return self.forget_wire(m);
        }
        let mut count = cable.down.here().len();
        let member = &mut self.members[usize::from(m)];
        if let Some((until, rate, since)) = member.slow {
            if now >= until {
                member.slow = None;
            } else {
                count = count.min(((now - since) * rate / SECOND) as usize);
                if count < cable.down.here().len() {
                    self.post_down(w, now + 100_000);
                }
                if count == 0 {
                    return;
                }
                self.members[usize::from(m)].slow = Some((until, rate, now));
            }
        }
        let member = &mut self.members[usize::from(m)];
        let cable = &mut self.net.cables[w];
        if count > 0 {
            member.heard_at = now;
            let mut rest = std::mem::take(&mut member.rest);
            rest.extend_from_slice(&cable.down.here()[..count]);
            cable.down.took(count);
            self.tell_room(w);
            let used = self.hear_all(m, w, &rest);
            rest.drain(..used);
            self.members[usize::from(m)].rest = rest;
        }
        if self.net.cables[w].down.is_over(now) && self.members[usize::from(m)].wire == Some(w) {
            self.end_stream(w);
            self.forget_wire(m);
        }
    }

    /// Nobody reads from this connection any more, so its bytes come back as a reset.
    pub fn refuse_bytes(&mut self, w: usize) {
        let now = self.now;
        let stray = self.wires[w].stray;
        let cable = &mut self.net.cables[w];
        let count = cable.down.here().len();
        cable.down.took(count);
        if stray {
            if cable.down.is_over(now) {
                self.end_stream(w);
            }
            return;
        }
        if cable.place != Place::Gone
            && !cable.down.is_hole()
            && !cable.up.is_hole()
            && count > 0
            && !cable.reset
        {
            cable.reset = true;
            self.post_up(w, now + self.net.habits.delay);
        }
    }

    /// Reads whole frames; returns how many bytes they were.
    fn hear_all(&mut self, m: u16, w: usize, bytes: &[u8]) -> usize {
        let mut at = 0;
        if !self.members[usize::from(m)].upgraded {
            let Some(end) = frames::head_end(bytes) else { return 0 };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                // No room for another connection.
                self.members[usize::from(m)].told_why = Some(self.now);
                self.end_stream(w);
                self.forget_wire(m);
                return bytes.len();
            }
            self.members[usize::from(m)].upgraded = true;
            self.connect(m, w);
            at = end;
        }
        while let Some((length, _)) = frames::whole(&bytes[at..]) {
            let frame = &bytes[at..at + length];
            at += length;
            match frame[0] {
                frames::TEXT => match self.oracle.memo.heard(frame) {
                    Some(told) => {
                        self.see(m, &told);
                        self.hear(m, w, &told.what);
                    }
                    None => self.oracle.journal.fail(
                        self.now,
                        "I6 as it was sent",
                        format!("member {m} got what nobody sent"),
                    ),
                },
                frames::DEFLATED => {
                    let (packed, plain) = self.wires[w].deflated.pop_front().unwrap_or_default();
                    match self.oracle.memo.heard_as(plain).filter(|_| packed == Digest::of(frame)) {
                        Some(told) => {
                            self.see(m, &told);
                            self.hear(m, w, &told.what);
                        }
                        None => self.oracle.journal.fail(
                            self.now,
                            "I6 as it was sent",
                            format!("member {m} got compressed what nobody sent"),
                        ),
                    }
                }
                frames::CLOSE => {
                    self.end_stream(w);
                    self.forget_wire(m);
                }
                frames::PONG => {}
                _ => self.oracle.journal.fail(
                    self.now,
                    "I6 as it was sent",
                    format!("member {m} got a strange frame"),
                ),
            }
            if self.members[usize::from(m)].wire != Some(w) {
                return bytes.len();
            }
        }
        at
    }

    /// Asks to be connected: as who it was, if it remembers that.
    fn connect(&mut self, m: u16, w: usize) {
        let member = &mut self.members[usize::from(m)];
        let before = member.pid.as_ref().zip(member.seen.as_ref()).filter(|_| member.remembers);
        let before = before.zip(member.in_session);
        let text = match before {
            Some(((pid, (offset, seen, told_at, told_bytes)), session)) => {
                let (sid, held) = (member.sid.clone(), member.held);
                self.wires[w].told = held;
                self.wires[w].hope = Some(Hope {
                    sid,
                    session,
                    held,
                    offset: offset.clone(),
                    seen: *seen,
                    told: Vec::new(),
                    told_at: *told_at,
                    told_bytes: *told_bytes,
                });
                format!("40{{\"pid\":\"{pid}\",\"offset\":\"{offset}\"}}")
            }
            None => "40".to_owned(),
        };
        self.send_text(m, w, text.as_bytes());
    }

    /// The server says who it is: who it was, where it was, or somebody who has to join.
    fn become_somebody(&mut self, m: u16, sid: &str, pid: Option<String>) {
        let member = &mut self.members[usize::from(m)];
        let same = member.sid == sid;
        (member.sid, member.pid) = (sid.to_owned(), pid);
        if let Some(keeper) = &mut member.keeper {
            keeper.plan.start(self.now as f64 / 1_000.0);
            self.plan_probe(m);
        }
        let member = &mut self.members[usize::from(m)];
        let wants = member.want.as_ref().map(|want| want.session);
        if same && member.in_session.is_some() && member.in_session == wants {
            (member.joined, member.tries) = (member.in_session, 0);
            self.say_again(m);
            return;
        }
        if !same {
            (member.held, member.held_sum, member.seen) = ((0, 0), None, None);
        }
        self.ask_join(m);
    }

    /// Takes note of where an event stands.
    fn see(&mut self, m: u16, told: &Told) {
        let Some((offset, number)) = &told.offset else { return };
        let member = &mut self.members[usize::from(m)];
        let before = member.seen.replace((offset.clone(), *number, told.at, told.bytes));
        let next = if told.is_snapshot() { *number } else { number.saturating_sub(1) };
        if before.is_some_and(|(old, last, ..)| last > next && log_of(&old) == log_of(offset)) {
            let what = format!("member {m} got event {offset} again or out of order");
            self.oracle.journal.fail(self.now, "I15 each event once", what);
        }
    }

    fn hear(&mut self, m: u16, w: usize, heard: &Heard) {
        let now = self.now;
        let mute = now < self.members[usize::from(m)].mute_until;
        let member = &mut self.members[usize::from(m)];
        match heard {
            Heard::Connected(sid, pid) => self.become_somebody(m, sid, pid.clone()),
            Heard::EnginePing if !mute => self.send_text(m, w, b"3"),
            Heard::Ping(timestamp) if !mute => {
                let text = format!("42[\"pong\",{{\"timestamp\":{timestamp}}}]");
                self.send_text(m, w, text.as_bytes());
            }
            Heard::Ack(ack) => {
                if let (Some(keeper), Some((t1, t2))) = (&mut member.keeper, ack.stamps()) {
                    match keeper.answered(now, ack.id, t1, t2) {
                        Ok(true) => {
                            keeper.plan.burst(now as f64 / 1_000.0, 8);
                            self.oracle.journal.saw("a member sees that its clock was set");
                            self.plan_probe(m);
                        }
                        Ok(false) => {}
                        Err(what) => {
                            self.oracle.journal.fail(now, "I21 clock", format!("member {m} is {what}"))
                        }
                    }
                    return;
                }
                let refusal =
                    matches!(ack.code.as_str(), "session_full" | "bad_passcode") || ack.guessing;
                if refusal {
                    member.told_why = Some(now);
                    member.joined = None;
                    member.retry_at = now + SECOND;
                } else if ack.code == "not_member" {
                    // It went elsewhere, and came to think better of it on the way.
                    member.joined = None;
                }
            }
            Heard::State(state) => {
                if member.want.as_ref().is_none_or(|want| want.session != state.session) {
                    return;
                }
                // The first state of a session is the snapshot that follows the join.
                let comes_in = member.joined.is_none() && self.wires[w].seat == Some(state.session);
                if comes_in {
                    (member.joined, member.tries) = (Some(state.session), 0);
                    member.in_session = member.joined;
                }
                let back = state.version < member.held;
                let same = state.version == member.held;
                let clash =
                    same && member.held_sum.zip(state.sum).is_some_and(|(one, other)| one != other);
                if !same {
                    member.held_sum = None;
                }
                let held = std::mem::replace(&mut member.held, state.version);
                member.held_sum = member.held_sum.or(state.sum);
                if back {
                    let what = format!("member {m} got {:?} after {held:?}", state.version);
                    self.oracle.journal.fail(now, "I3 version never goes back", what);
                }
                if clash {
                    self.oracle.journal.fail(
                        now,
                        "I6 equal version, equal state",
                        format!("member {m} at {held:?}"),
                    );
                }
                if comes_in {
                    self.say_again(m);
                }
            }
            Heard::Tick { session, version, serial } => {
                if member.want.as_ref().is_none_or(|want| want.session != *session) {
                    return;
                }
                let (before, held) =
                    (std::mem::replace(&mut member.last_tick, *serial), member.held);
                if *serial <= before {
                    self.oracle.journal.fail(
                        now,
                        "I15 ticks in order",
                        format!("member {m} got tick {serial} after {before}"),
                    );
                }
                if *version < held {
                    self.oracle.journal.fail(
                        now,
                        "I15 ticks in order",
                        format!("member {m} got a tick of the past"),
                    );
                }
            }
            _ => {}
        }
    }

    /// Sends a packet that asks for nothing.
    fn send_loose(&mut self, m: u16, text: &[u8]) {
        if let Some(wire) =
            self.members[usize::from(m)].wire.filter(|wire| !self.wires[*wire].spoiled)
        {
            self.send_text(m, wire, text);
        }
    }

    fn send_text(&mut self, m: u16, wire: usize, text: &[u8]) {
        let mut bytes = Vec::new();
        self.wires[wire].spent.packets += 1;
        frames::frame(&mut bytes, frames::TEXT, text, &mut self.members[usize::from(m)].luck);
        self.send(wire, &bytes);
    }
}

/// Every other member keeps the server's time.
fn draw_keeper(seed: u64, id: u16) -> Option<Box<Timekeeper>> {
    let mut luck = SimRng::new(seed, 7_000 + u64::from(id));
    luck.one_in(2).then(|| Box::new(Timekeeper::new(luck)))
}

/// What members offer when they connect, if they take compressed messages.
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

fn setlist(songs: u8, variant: u8, body: u16) -> String {
    let song = |song: u8| {
        let (tempo, signature) = song_start(variant, song);
        let tempo = tempo
            .map_or(String::new(), |t| format!(",\"tempoBpm\":{}.{:03}", t / 1_000, t % 1_000));
        let signature = signature.map_or(String::new(), |(numerator, denominator)| {
            format!(
                ",\"timeSignature\":{{\"numerator\":{numerator},\"denominator\":{denominator}}}"
            )
        });
        let body = "la ".repeat(usize::from(body) / 3);
        format!(
            "{{\"id\":\"song {song}\",\"title\":\"Song {song}\",\"format\":\"text\",\"body\":\"{body}\"{tempo}{signature}}}"
        )
    };
    let songs: Vec<String> = (0..songs).map(song).collect();
    format!(",\"setlist\":{{\"title\":\"list {variant} {body}\",\"songs\":[{}]}}", songs.join(","))
}
