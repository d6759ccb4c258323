//! The oracle: compares all messages with the models of all sessions. Each group of invariants has
//! a file.
//!
//! [`Oracle::sent`] takes each frame that is sent, and the shell reports events of connections,
//! records and memory. `tools/README.md` lists the invariants by their numbers.

mod answers;
mod cost;
mod journal;
mod lives;
mod memo;
mod rules;
mod session;
mod states;
mod ticks;
mod turns;

use std::rc::Rc;

use bandsync_engine::io::Goodbye;
use bandsync_testkit::frames::write;

use super::decode::{Decoded, ServerMessage, offset_of, understand};
use super::frames;
use super::plan::{WorldShape, reveals};
use super::rng::Digest;
use super::wire::Wire;
use memo::Memo;
use rules::{Rules, Server};

pub use cost::Work;
pub use journal::{Failure, Journal};
pub use rules::{LATE, STALE_AFTER, UNIX_START};
pub use session::SessionOracle;

/// Number of chat messages of a session whose offsets are known.
const CHATS_MAX: usize = 32;

/// The models of all sessions, and the messages about them.
pub struct Oracle {
    pub sessions: Vec<SessionOracle>,
    pub journal: Journal,
    pub server: Server,
    pub memo: Memo,
    rules: Rules,
    /// The member whose seat the last join has taken.
    replaced: Option<String>,
}

impl Oracle {
    pub fn new(shape: &WorldShape, goodbye: Goodbye) -> Self {
        Self {
            sessions: (0..shape.sessions).map(|n| SessionOracle::new(n, shape.shards)).collect(),
            journal: Journal::default(),
            server: Server::new(shape.shards, goodbye),
            memo: Memo::default(),
            rules: Rules::new(shape),
            replaced: None,
        }
    }

    /// Checks a frame that the engine sends to these connections.
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
                to.iter().for_each(|wire| wires[*wire].packing.agree(&agreed));
                return;
            }
            _ => return,
        }
        let decoded = match self.memo.decoded(frame) {
            Some(decoded) => decoded,
            None => self.read(now, frame),
        };
        if !matches!(decoded.what, ServerMessage::Tick { .. }) {
            self.journal.note(now, || {
                let to: Vec<&str> =
                    to.iter().map(|wire| wires[*wire].sid.get(..4).unwrap_or("-")).collect();
                let text = String::from_utf8_lossy(&frame[2..]).into_owned();
                format!("to {}: {}", to.join(" "), text.chars().take(150).collect::<String>())
            });
        }
        if let Some((_, number)) = &decoded.offset {
            for wire in to {
                if let Some(hope) = &mut wires[*wire].hope {
                    hope.resent.push(*number);
                }
            }
        }
        match &decoded.what {
            ServerMessage::Connected(sid, _) => {
                to.iter().for_each(|wire| self.connected(now, &mut wires[*wire], sid))
            }
            ServerMessage::Ack(ack) => {
                for wire in to {
                    self.answered(now, &mut wires[*wire], ack);
                    if let Some(replaced) = self.replaced.take() {
                        let former = wires.iter_mut().filter(|wire| wire.sid == replaced);
                        former.for_each(|wire| wire.seat = None);
                    }
                }
            }
            ServerMessage::State(state) => self.stated(now, state, to, wires),
            ServerMessage::Tick { session, .. } if !self.server.draining => {
                let strangers = to.iter().any(|wire| wires[*wire].seat != Some(*session));
                let oracle = &mut self.sessions[usize::from(*session)];
                let done = oracle.ticked(now, self.rules.tick, volatile, strangers);
                self.journal.check(now, done);
            }
            ServerMessage::EnginePing => {
                to.iter().for_each(|wire| self.pinged(now, &mut wires[*wire]))
            }
            ServerMessage::EngineOpen => to.iter().for_each(|wire| {
                let shard = wires[*wire].shard;
                if self.server.full[usize::from(shard)] {
                    self.journal.fail(
                        now,
                        "I11 no memory for more",
                        format!("shard {shard} admits a connection"),
                    );
                }
                (wires[*wire].upgraded, wires[*wire].opened) = (true, now);
                wires[*wire].spent.since = now;
            }),
            ServerMessage::Disconnect if self.server.goodbye == Goodbye::Reconnect => {
                self.journal.fail(now, "I20 goodbyes", "a client must not stay away".to_owned());
            }
            ServerMessage::Disconnect => to.iter().for_each(|wire| wires[*wire].dismissed = true),
            ServerMessage::Link
                if self.server.goodbye == Goodbye::Reconnect && frames::is_draining(frame) =>
            {
                to.iter().for_each(|wire| wires[*wire].dismissed = true);
            }
            ServerMessage::Ping(_) => {
                to.iter().for_each(|wire| self.beaten(now, &mut wires[*wire]))
            }
            ServerMessage::Quality => to.iter().for_each(|wire| wires[*wire].spent.reports += 1),
            ServerMessage::Tick { .. }
            | ServerMessage::Beat { .. }
            | ServerMessage::Chat(_)
            | ServerMessage::Link
            | ServerMessage::Other => {}
        }
        if !matches!(
            decoded.what,
            ServerMessage::State(_)
                | ServerMessage::Tick { .. }
                | ServerMessage::Beat { .. }
                | ServerMessage::Chat(_)
                | ServerMessage::Other
        ) {
            for wire in to {
                let spent = &mut wires[*wire].spent;
                spent.messages += u64::from(!matches!(
                    decoded.what,
                    ServerMessage::EnginePing | ServerMessage::Ping(_)
                ));
                // An acknowledgement may contain the state of a session.
                let length =
                    if matches!(decoded.what, ServerMessage::Ack(_)) { 0 } else { frame.len() };
                self.weigh(now, &wires[*wire], length);
            }
        }
    }

    /// Checks a compressed frame. Each receiver decompresses it by itself.
    fn sent_deflated(
        &mut self,
        now: u64,
        frame: &[u8],
        volatile: bool,
        to: &[usize],
        wires: &mut [Wire],
    ) {
        let payload = frames::only_payload(frame);
        for wire in to {
            let plain = payload.and_then(|payload| wires[*wire].packing.inflate(payload));
            let Some(plain) = plain else {
                return self.journal.fail(
                    now,
                    "I16 readable",
                    "a compressed frame that cannot be unpacked",
                );
            };
            let mut packet = Vec::new();
            write(&mut packet, frames::TEXT, &plain, None);
            self.sent(now, &packet, volatile, &[*wire], wires);
            wires[*wire].packing.deflated.push_back((Digest::of(frame), Digest::of(&packet)));
        }
    }

    /// Decodes and checks a frame for the first time.
    fn read(&mut self, now: u64, frame: &[u8]) -> Rc<Decoded> {
        let text = frames::only_payload(frame).and_then(|text| std::str::from_utf8(text).ok());
        let mut message = match text.map(|text| understand(text, self.sessions.len())) {
            Some(Ok(message)) => message,
            Some(Err(why)) => {
                let what = format!("{why}: {}", text.unwrap_or_default());
                self.journal.fail(now, "I16 readable", what);
                ServerMessage::Other
            }
            None => {
                self.journal.fail(now, "I16 readable", "a frame that is none");
                ServerMessage::Other
            }
        };
        let offset = text.and_then(offset_of);
        match &mut message {
            ServerMessage::Tick { session, version, position, serial } => {
                *serial = self.memo.next_tick();
                if !self.server.draining {
                    let oracle = &self.sessions[usize::from(*session)];
                    self.journal.check(now, oracle.check_place(now, *version, *position));
                }
            }
            ServerMessage::Beat { session, at } => {
                let oracle = self.sessions.get(usize::from(*session));
                if let Some(oracle) = oracle.filter(|_| !self.server.draining) {
                    self.journal.check(now, oracle.check_beat(now, *at, self.rules.batch));
                }
            }
            ServerMessage::Chat(session) => {
                if let Some((_, number)) = offset {
                    let chats = &mut self.sessions[usize::from(*session)].sent.chats;
                    chats.push_back(number);
                    if chats.len() > CHATS_MAX {
                        chats.pop_front();
                    }
                }
            }
            _ => {}
        }
        if reveals(frame) {
            self.journal.fail(now, "I23 secrets", text.unwrap_or_default());
        }
        self.memo.keep(now, frame, message, offset)
    }
}
