//! Measures how long the engine takes for one input: 1 000 members on one shard send 10 000 events
//! per second.
//!
//! Only the engine runs: no socket, no thread, and a clock only around each call. The members are
//! in sessions of eight that play. Each sends probes, its position, state requests and chat, within
//! the rates.

use std::io::{self, Write};
use std::time::Instant;

use bandsync_engine::io::tap::NoTap;
use bandsync_engine::io::{Input, Settings};
use bandsync_engine::words::time::Micros;
use bandsync_testkit::{Harness, frames};
use clap::Args;
use hdrhistogram::Histogram;

/// Measures how long the engine takes for an event and for the end of a turn.
#[derive(Debug, Args)]
pub struct Options {
    /// Members, in sessions of eight
    #[arg(long, default_value_t = 1_000)]
    members: u32,
    /// Events per second, of all members together
    #[arg(long, default_value_t = 10_000)]
    events: u64,
    /// Duration in seconds of the engine's clock
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

struct Bench {
    harness: Harness<NoTap>,
    /// Nanoseconds for one event, and for the end of one turn with its ticks and batches.
    event: Histogram<u64>,
    turn: Histogram<u64>,
}

impl Bench {
    fn feed(&mut self, input: Input<'_>) -> u64 {
        let began = Instant::now();
        self.harness.input(0, input);
        u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn say(&mut self, member: u32, text: &str) {
        let mut bytes = Vec::new();
        frames::masked(&mut bytes, text);
        let (_, conn) = self.harness.place(member);
        let took = self.feed(Input::Received { conn, bytes: &mut bytes });
        self.event.saturating_record(took);
    }

    /// Ends turns as a driver does, until this time.
    fn pass(&mut self, until: Micros) {
        while let Some(due) = self.harness.engine(0).next_deadline().filter(|due| *due <= until) {
            self.harness.set_now(due.max(self.harness.now()));
            let took = self.feed(Input::TurnEnded);
            self.turn.saturating_record(took);
        }
        self.harness.set_now(until);
    }
}

/// Runs the command.
pub fn run(options: Options) -> io::Result<()> {
    let Options { members, events, seconds } = options;
    let histogram = || Histogram::new_with_max(10_000_000_000, 3).map_err(io::Error::other);
    let mut bench = Bench {
        harness: Harness::new(&Settings::default(), |_| NoTap),
        event: histogram()?,
        turn: histogram()?,
    };
    let handshake = frames::handshake("band", false);
    for member in 0..members {
        bench.harness.connect(0, &handshake);
        bench.say(member, &format!(r#"42["join_session",{{"sessionId":"s{}"}}]"#, member / 8));
        if member % 8 == 0 {
            bench.say(member, &format!(r#"42["play",{{"sessionId":"s{}"}}]"#, member / 8));
        }
        let then = bench.harness.now() + Micros::from_millis(1);
        bench.pass(then);
    }
    bench.event.reset();
    bench.turn.reset();

    let (began, every) = (bench.harness.now(), Micros::from_micros(1_000_000 / events.max(1)));
    let mut pinged = began;
    for number in 0..events * seconds {
        let at = bench.harness.now() + every;
        bench.pass(at);
        let member = u32::try_from(number % u64::from(members.max(1))).unwrap_or(0);
        let session = member / 8;
        let text = match (number / u64::from(members.max(1))) % 5 {
            0 => r#"421["clock_sync",{"t0":1.5}]"#.to_owned(),
            1 => r#"421["latency_probe",{"timestamp":1800000000000}]"#.to_owned(),
            2 => {
                format!(
                    r#"42["position_sync",{{"sessionId":"s{session}","positionMs":1000,"timestamp":1}}]"#
                )
            }
            3 => format!(r#"421["sync_request",{{"sessionId":"s{session}"}}]"#),
            _ => format!(
                r#"42["chat_message",{{"sessionId":"s{session}","message":"bar 17, once more"}}]"#
            ),
        };
        bench.say(member, &text);
        if bench.harness.now().since(pinged) >= Micros::from_secs(2) {
            pinged = bench.harness.now();
            for member in 0..members {
                bench.harness.say(member, "3");
            }
        }
    }
    let micros = |nanos: u64| nanos as f64 / 1_000.0;
    let mut out = io::stdout().lock();
    writeln!(out, "{members} members, {events} events/s for {seconds} s; microseconds")?;
    for (name, histogram) in [("event", &bench.event), ("end of turn", &bench.turn)] {
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        let (p50, p99, p999, max) = (at(0.5), at(0.99), at(0.999), micros(histogram.max()));
        writeln!(
            out,
            "{name:12} n {:7}  p50 {p50:8.2}  p99 {p99:8.2}  p99.9 {p999:8.2}  max {max:8.2}",
            histogram.len()
        )?;
    }
    let counters = bench.harness.engine(0).counters();
    writeln!(
        out,
        "rejected {}, messages out {}, clients at the end {}",
        counters.refusals, counters.messages_out, counters.clients
    )
}
