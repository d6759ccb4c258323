//! An evening without sockets: a scripted crowd on a single engine, recorded as a trace and
//! replayed.
//!
//! The script is the same every time, and so are the trace and the instructions that its replay
//! takes.

use bandsync_engine::engine::Engine;
use bandsync_engine::io::tap::Tap;
use bandsync_engine::io::{Input, Output, Outputs, Settings};
use bandsync_engine::trace::{self, Digest, Recorded};
use bandsync_engine::words::time::Micros;
use bandsync_testkit::{Harness, frames};

/// The settings of the shard.
pub fn settings() -> Settings {
    Settings {
        seed: 1.into(),
        started_unix_ms: 1_800_000_000_000,
        tick_interval: Micros::from_millis(16),
        session_members_max: 10_000,
        ..Settings::default()
    }
}

/// A tap of the stage's engine.
struct Notes {
    /// All inputs so far, if they are traced.
    trace: Option<Vec<u8>>,
    /// Messages since they were last taken.
    messages: u64,
}

impl Tap for Notes {
    fn input(&mut self, at: Micros, input: &Input<'_>) {
        if let Some(trace) = &mut self.trace {
            trace::write_input(trace, at, &Recorded::of(input));
        }
    }

    fn outputs(&mut self, outputs: &Outputs, _from: usize) {
        self.messages += messages(outputs);
    }
}

/// An engine with a crowd. Member `m` of session `s` of `n` is client `m * n + s`, and leads if `m`
/// is 0.
pub struct Stage {
    harness: Harness<Notes>,
    sessions: u32,
}

impl Stage {
    /// Creates sessions whose members have joined. Nothing plays yet.
    pub fn new(settings: Settings, sessions: u32, members: u32) -> Self {
        Self::with_handshake(settings, sessions, members, &frames::handshake("band", false))
    }

    /// Creates sessions whose clients open their WebSockets with this handshake.
    pub fn with_handshake(
        settings: Settings,
        sessions: u32,
        members: u32,
        handshake: &[u8],
    ) -> Self {
        let notes = |_| Notes { trace: Some(Vec::new()), messages: 0 };
        let mut stage = Self { harness: Harness::new(&settings, notes), sessions };
        for index in 0..sessions * members {
            stage.harness.connect(0, handshake);
            let role = if index < sessions { "leader" } else { "follower" };
            let more = format!(",\"role\":\"{role}\",\"displayName\":\"Member\"");
            stage.tell(index, "join_session", &more);
            stage.pass(Micros::from_micros(500));
        }
        stage
    }

    /// Makes every leader play.
    pub fn play(&mut self) {
        for session in 0..self.sessions {
            self.tell(session, "play", "");
        }
        self.harness.turn();
    }

    /// Sends an event to the member's session. `more` holds further fields, each after a comma.
    pub fn tell(&mut self, index: u32, event: &str, more: &str) {
        let session = index % self.sessions;
        self.say(index, &format!("42[\"{event}\",{{\"sessionId\":\"session {session}\"{more}}}]"));
    }

    /// Sends a text message.
    pub fn say(&mut self, index: u32, text: &str) {
        self.harness.say(index, text);
    }

    /// Sends bytes that are ready, which the engine may change.
    pub fn received(&mut self, index: u32, bytes: &mut [u8]) {
        self.harness.received(index, bytes);
    }

    /// Lets time pass, with a turn whenever the engine wants one.
    pub fn pass(&mut self, span: Micros) {
        self.harness.pass(span);
    }

    /// Returns the messages sent since the last call.
    pub fn take_messages(&mut self) -> u64 {
        std::mem::take(&mut self.harness.tap(0).messages)
    }

    /// Drops the trace, and records nothing from now on.
    pub fn stop_tracing(&mut self) {
        self.harness.tap(0).trace = None;
    }
}

/// Messages to members, one for each receiver.
fn messages(out: &Outputs) -> u64 {
    let sends = out.list.iter().filter(|output| matches!(output, Output::Send { .. })).count();
    (sends + out.receivers.len()) as u64
}

/// Records an evening: `sessions` bands of `members` play for `seconds`, while they chat, probe
/// their latency and answer pings, and their leaders seek, change the tempo, pause and go on.
pub fn evening(sessions: u32, members: u32, seconds: u32) -> Vec<u8> {
    let mut stage = Stage::new(settings(), sessions, members);
    stage.play();
    let all = sessions * members;
    for tenth in 0..seconds * 10 {
        for index in (0..all).filter(|index| index % 10 == tenth % 10) {
            stage.say(index, r#"42["latency_probe",{"timestamp":1800000000000}]"#);
            match (tenth / 10 + index) % 5 {
                0 => stage.say(index, "3"),
                1 => stage.say(index, r#"42["pong",{"timestamp":1800000000000}]"#),
                2 => stage.tell(
                    index,
                    "chat_message",
                    ",\"message\":\"Chorus twice, then the bridge\"",
                ),
                _ => {}
            }
            if index < sessions {
                match (tenth / 10) % 6 {
                    1 => stage.tell(index, "seek", ",\"position\":30000"),
                    2 => stage.tell(index, "set_tempo", ",\"tempo\":132.5"),
                    3 => stage.tell(index, "pause", ""),
                    4 => stage.tell(index, "play", ""),
                    5 => stage.tell(index, "sync_request", ""),
                    _ => {}
                }
            }
        }
        // All members answer Engine.IO's pings in time.
        if tenth % 20 == 19 {
            (0..all).for_each(|index| stage.say(index, "3"));
        }
        stage.pass(Micros::from_millis(100));
    }
    stage.harness.tap(0).trace.take().unwrap_or_default()
}

/// Replays a trace on a new engine, and returns the number of outputs. Not inlined, because
/// counters look for its name.
#[inline(never)]
pub fn replay(trace: &[u8]) -> usize {
    replay_with(trace, |_| {})
}

/// Replays a trace on a new engine, and returns the digest of all outputs.
pub fn digest(trace: &[u8]) -> u32 {
    let mut digest = Digest::default();
    replay_with(trace, |out| digest.add(out, 0));
    digest.sum()
}

fn replay_with(mut trace: &[u8], mut visit: impl FnMut(&Outputs)) -> usize {
    let mut engine = Engine::new(settings());
    let (mut out, mut copy, mut count) = (Outputs::default(), Vec::new(), 0);
    while let Ok((at, input)) = trace::read_input(&mut trace) {
        engine.handle(at, input.to_input(&mut copy), &mut out);
        count += out.list.len();
        visit(&out);
        out.clear();
    }
    assert!(trace.is_empty(), "the trace is whole");
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_evening_is_the_same_every_time_and_ticks() {
        let trace = evening(3, 4, 7);
        assert!(trace == evening(3, 4, 7));
        let outputs = replay(&trace);
        assert_eq!(outputs, replay(&trace));
        assert_eq!(digest(&trace), digest(&trace));
        assert_ne!(digest(&trace), digest(&evening(3, 4, 6)));
        // Three sessions tick 62 times a second, for six of the seven seconds.
        assert!(outputs > 3 * 62 * 5, "{outputs}");
    }
}
