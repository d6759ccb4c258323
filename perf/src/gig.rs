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

/// Returns the settings of the shard.
pub fn settings() -> Settings {
    Settings {
        seed: 1.into(),
        started_unix_ms: 1_800_000_000_000,
        tick_interval: Micros::from_millis(16),
        session_members_max: 10_000,
        ..Settings::default()
    }
}

/// A tap that keeps the inputs of an engine and counts its messages.
pub struct Notes {
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

/// Bands that play on one engine. Member `m` of session `s` of `n` is client `m * n + s` of the
/// harness, and leads if `m` is 0.
pub struct Bands {
    /// The engine, its clock and its clients.
    pub harness: Harness<Notes>,
    sessions: u32,
}

impl Bands {
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
        let mut bands = Self { harness: Harness::new(&settings, notes), sessions };
        for index in 0..sessions * members {
            bands.harness.connect(0, handshake);
            let role = if index < sessions { "leader" } else { "follower" };
            let more = format!(",\"role\":\"{role}\",\"displayName\":\"Member\"");
            bands.emit(index, "join_session", &more);
            bands.harness.pass(Micros::from_micros(500));
        }
        bands
    }

    /// Lets every leader start its music.
    pub fn play(&mut self) {
        for session in 0..self.sessions {
            self.emit(session, "play", "");
        }
        self.harness.turn();
    }

    /// Sends an event to the member's session. `more` holds further fields, each after a comma.
    pub fn emit(&mut self, index: u32, event: &str, more: &str) {
        let session = index % self.sessions;
        let text = format!("42[\"{event}\",{{\"sessionId\":\"session {session}\"{more}}}]");
        self.harness.say(index, &text);
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
    let mut bands = Bands::new(settings(), sessions, members);
    bands.play();
    let all = sessions * members;
    for tenth in 0..seconds * 10 {
        for index in (0..all).filter(|index| index % 10 == tenth % 10) {
            bands.harness.say(index, r#"42["latency_probe",{"timestamp":1800000000000}]"#);
            match (tenth / 10 + index) % 5 {
                0 => bands.harness.say(index, "3"),
                1 => bands.harness.say(index, r#"42["pong",{"timestamp":1800000000000}]"#),
                2 => bands.emit(
                    index,
                    "chat_message",
                    ",\"message\":\"Chorus twice, then the bridge\"",
                ),
                _ => {}
            }
            if index < sessions {
                match (tenth / 10) % 6 {
                    1 => bands.emit(index, "seek", ",\"position\":30000"),
                    2 => bands.emit(index, "set_tempo", ",\"tempo\":132.5"),
                    3 => bands.emit(index, "pause", ""),
                    4 => bands.emit(index, "play", ""),
                    5 => bands.emit(index, "sync_request", ""),
                    _ => {}
                }
            }
        }
        // All members answer Engine.IO's pings in time.
        if tenth % 20 == 19 {
            (0..all).for_each(|index| bands.harness.say(index, "3"));
        }
        bands.harness.pass(Micros::from_millis(100));
    }
    bands.harness.tap(0).trace.take().unwrap_or_default()
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
    fn an_evening_is_deterministic_and_has_ticks() {
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
