//! All members of a run, in one loop around poll.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

use bandsync_perf::timer_fd::{MICROSECOND, MILLISECOND, Nanos, TimerFd, now, sleep_until};
use bandsync_testkit::frames;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::member::{Member, PacketKind, Stage};
use super::options::{Run, Scenario};
use super::schedule::{Action, Schedule};
use super::tally::{Grid, Tally};

const TIMER: Token = Token(usize::MAX);
const CUE: Token = Token(usize::MAX - 1);

/// Length of a nap after several members had messages at once.
const BUSY: Nanos = MILLISECOND;

/// Broken connections after which a run is given up.
const BROKEN_MAX: u64 = 1_000;

pub struct Crowd {
    run: Run,
    handshake: Vec<u8>,
    /// Part of every session's name, so that runs against one server do not meet.
    mark: u32,
    poll: Poll,
    timer: TimerFd,
    events: Events,
    /// Time until which more messages are likely: a while after several members had messages at
    /// once.
    busy_until: Nanos,
    buffer: Vec<u8>,
    slots: Vec<Option<Member>>,
    grids: Vec<Grid>,
    /// Places without a connection, with the time at which it should begin.
    to_open: VecDeque<(usize, Nanos)>,
    opening: usize,
    pub joined: usize,
    pub schedule: Schedule,
    pub tally: Tally,
    pub measuring: bool,
    /// Whether standard input has data, which [`Self::await_cue`] waits for.
    cued: bool,
}

impl Crowd {
    pub fn new(run: &Run) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = TimerFd::new(poll.registry(), TIMER)?;
        let grid = || Grid::new(run.tick * MILLISECOND);
        Ok(Self {
            run: run.clone(),
            handshake: frames::handshake(&run.address.to_string(), run.compression),
            mark: std::process::id() % 100_000,
            poll,
            timer,
            events: Events::with_capacity(1_024),
            busy_until: 0,
            buffer: vec![0; 65_536],
            slots: (0..run.sessions * run.members).map(|_| None).collect(),
            grids: (0..run.sessions).map(|_| grid()).collect(),
            to_open: VecDeque::new(),
            opening: 0,
            joined: 0,
            schedule: Schedule::default(),
            tally: Tally::default(),
            measuring: false,
            cued: false,
        })
    }

    /// Connects and joins a slot once fewer connections are being set up than agreed. It should
    /// begin at `intended`.
    pub fn open(&mut self, slot: usize, intended: Nanos) {
        self.to_open.push_back((slot, intended));
    }

    /// Returns the member at a slot, if it has joined.
    fn joined_mut(&mut self, slot: usize) -> Option<&mut Member> {
        self.slots[slot].as_mut().filter(|member| member.stage == Stage::Joined)
    }

    /// Processes events until `until`, or until `done` returns true. `done` is called after every
    /// turn.
    pub fn pass(&mut self, until: Nanos, mut done: impl FnMut(&Self) -> bool) -> io::Result<()> {
        while !done(self) && now() < until {
            self.begin_opening()?;
            let next = self.schedule.next().unwrap_or(Nanos::MAX).min(until);
            match self.await_events(next) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
            for event in &events {
                match event.token() {
                    TIMER => {}
                    CUE => self.cued = true,
                    Token(slot) => self.handle_event(slot, event.is_writable())?,
                }
            }
            self.events = events;
            let now = now();
            while let Some((action, intended)) = self.schedule.due(now) {
                if self.measuring {
                    self.tally.own.record(now.saturating_sub(intended));
                }
                self.act(action, intended)?;
            }
        }
        Ok(())
    }

    /// Waits until `next` or for an event. While much happens it naps, and no event wakes it: a
    /// server on another core would have to send an interrupt for that, and rarely pays for one if
    /// members are on other machines.
    fn await_events(&mut self, next: Nanos) -> io::Result<()> {
        let begun = now();
        if begun < self.busy_until {
            sleep_until(next.min(begun + self.run.nap * MICROSECOND));
            self.poll.poll(&mut self.events, Some(Duration::ZERO))?;
        } else {
            self.timer.set(next)?;
            self.poll.poll(&mut self.events, None)?;
        }
        if self.run.nap > 0
            && self.events.iter().filter(|event| event.token() < CUE).nth(1).is_some()
        {
            self.busy_until = now() + BUSY;
        }
        Ok(())
    }

    /// Fixes the grids that ticks are compared with.
    pub fn fix_grids(&mut self) {
        self.grids.iter_mut().for_each(Grid::fix);
    }

    /// Processes events until standard input, a pipe, has a line or ends.
    pub fn await_cue(&mut self) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&0), CUE, Interest::READABLE)?;
        self.pass(Nanos::MAX, |crowd| crowd.cued)?;
        self.poll.registry().deregister(&mut SourceFd(&0))
    }

    fn begin_opening(&mut self) -> io::Result<()> {
        while self.opening < self.run.in_flight
            && let Some((slot, intended)) = self.to_open.pop_front()
        {
            if self.slots[slot].is_some() {
                self.cut(slot);
            }
            let session = self.session_of(slot);
            let stride = self.stride(slot);
            let mut member = Member::connect(self.run.address, session, stride, intended)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(member.socket_mut(), Token(slot), interest)?;
            self.slots[slot] = Some(member);
            self.opening += 1;
        }
        Ok(())
    }

    /// Returns the session of a member. The first members of all sessions come first, then the
    /// second ones, and so on.
    fn session_of(&self, place: usize) -> usize {
        place % self.run.sessions
    }

    pub fn is_leader(&self, slot: usize) -> bool {
        slot < self.run.sessions
    }

    /// Returns the tick rate that the member at this slot asks for.
    fn tick_hz(&self, slot: usize) -> Option<u8> {
        match self.run.scenario {
            // Half of the band keeps the timeline and needs few ticks.
            Scenario::Gig if slot / self.run.sessions % 2 == 1 => Some(1),
            _ => self.run.tick_hz,
        }
    }

    /// Distance of the ticks that the member at this slot receives.
    pub fn stride(&self, slot: usize) -> u64 {
        match self.tick_hz(slot) {
            None => 1,
            Some(0) => 0,
            Some(hz) => (1_000 / u64::from(hz) + self.run.tick / 2)
                .checked_div(self.run.tick)
                .unwrap_or(1)
                .max(1),
        }
    }

    fn session_name(&self, session: usize) -> String {
        format!("{:05}-{session:05}", self.mark)
    }

    /// Removes a member at once.
    fn cut(&mut self, slot: usize) {
        let Some(member) = self.slots[slot].take() else { return };
        member.cut();
        match member.stage {
            Stage::Joined => self.joined -= 1,
            _ => self.opening -= 1,
        }
    }

    fn handle_event(&mut self, slot: usize, writable: bool) -> io::Result<()> {
        let Some(mut member) = self.slots.get_mut(slot).and_then(Option::take) else {
            return Ok(());
        };
        let before = member.stage;
        let mut result = if writable { member.writable(&self.handshake) } else { Ok(()) };
        if result.is_ok() && member.stage != Stage::Connecting {
            let mut buffer = std::mem::take(&mut self.buffer);
            result = member.read(&mut buffer, |member, kind, length| {
                self.handle_packet(slot, member, kind, length)
            });
            self.buffer = buffer;
        }
        let joins = before != Stage::Joined && member.stage == Stage::Joined;
        if joins {
            self.opening -= 1;
            self.joined += 1;
        }
        self.slots[slot] = Some(member);
        if let Err(error) = result {
            self.cut(slot);
            self.tally.broken += 1;
            if self.tally.broken > BROKEN_MAX {
                return Err(io::Error::new(
                    error.kind(),
                    format!("too many connections break: {error}"),
                ));
            }
            self.open(slot, now());
        } else if joins && self.run.scenario == Scenario::Joins {
            self.joins_again(slot);
        }
        Ok(())
    }

    /// Makes room for the next newcomer, which comes at once if there is no rate.
    fn joins_again(&mut self, slot: usize) {
        self.cut(slot);
        if self.run.rate.unwrap_or(0) == 0 {
            self.open(slot, now());
        }
    }

    fn handle_packet(
        &mut self,
        slot: usize,
        member: &mut Member,
        kind: PacketKind<'_>,
        length: usize,
    ) -> io::Result<()> {
        if self.measuring {
            self.tally.messages += 1;
            self.tally.bytes += length as u64;
        }
        match kind {
            PacketKind::Tick => {
                let at = now();
                let grid = &mut self.grids[member.session];
                if self.measuring {
                    self.tally.tick(member, grid, at);
                } else {
                    grid.learn(at);
                }
            }
            PacketKind::Chat(sent) if self.measuring => {
                self.tally.chats += 1;
                if let Ok(intended) = sent.parse() {
                    self.tally.chat.record(now().saturating_sub(intended));
                }
            }
            PacketKind::ProbeAnswer => {
                if let Some(intended) = member.probes.pop_front().filter(|_| self.measuring) {
                    self.tally.probes.record(now().saturating_sub(intended));
                }
            }
            PacketKind::Ping => member.say("3")?,
            PacketKind::Heartbeat => member.say(r#"42["pong",{"timestamp":0}]"#)?,
            PacketKind::Upgraded => member.stage = Stage::Opening,
            PacketKind::Open => member.say("40")?,
            PacketKind::Connected => {
                member.stage = Stage::Joining;
                let join = self.join_event(slot);
                member.say(&join)?;
            }
            PacketKind::Snapshot if member.stage == Stage::Joining => {
                member.stage = Stage::Joined;
                if self.measuring {
                    self.tally.joins += 1;
                    self.tally.setup.record(now().saturating_sub(member.intended));
                }
            }
            PacketKind::Rejected(why) => {
                self.tally.rejected += 1;
                if member.stage != Stage::Joined {
                    return Err(io::Error::other(format!("the server rejects: {why}")));
                }
            }
            PacketKind::Chat(_) | PacketKind::Snapshot | PacketKind::Other => {}
        }
        Ok(())
    }

    fn join_event(&self, slot: usize) -> String {
        let session = self.session_name(self.session_of(slot));
        let role = if self.is_leader(slot) { "leader" } else { "follower" };
        let ticks = self.tick_hz(slot).map_or_else(String::new, |hz| format!(",\"tickHz\":{hz}"));
        format!(
            r#"42["join_session",{{"sessionId":"{session}","displayName":"Member {slot}","role":"{role}"{ticks}}}]"#
        )
    }

    /// Does an action, which should have been done at `intended`.
    fn act(&mut self, action: Action, intended: Nanos) -> io::Result<()> {
        let (slot, text) = match action {
            Action::Join(slot) => {
                self.open(slot, intended);
                return Ok(());
            }
            Action::Play(session) => (session, self.event("play", session, "")),
            Action::Pause(session) => (session, self.event("pause", session, "")),
            Action::Seek(session) => (session, self.event("seek", session, ",\"position\":30000")),
            Action::Tempo(session, bpm) => {
                (session, self.event("set_tempo", session, &format!(",\"tempo\":{bpm}")))
            }
            Action::Chat(slot) => {
                let session = self.session_of(slot);
                (slot, self.event("chat_message", session, &format!(",\"message\":\"{intended}\"")))
            }
            Action::Probe(slot) => (slot, r#"42["latency_probe",{"timestamp":0}]"#.to_owned()),
        };
        let receivers = self.run.members as u64;
        let measuring = self.measuring;
        let Some(member) = self.joined_mut(slot) else { return Ok(()) };
        if matches!(action, Action::Probe(_)) {
            member.probes.push_back(intended);
        }
        // A broken connection is noticed at the next read.
        let is_sent = member.say(&text).is_ok();
        if is_sent && measuring && matches!(action, Action::Chat(_)) {
            self.tally.chats_due += receivers;
        }
        Ok(())
    }

    fn event(&self, name: &str, session: usize, more: &str) -> String {
        format!(r#"42["{name}",{{"sessionId":"{}"{more}}}]"#, self.session_name(session))
    }
}
