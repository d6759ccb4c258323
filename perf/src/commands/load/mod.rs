//! The load generator: sessions full of members from one thread, and measurements of the server.
//!
//! A run joins all members, lets them play to warm up, then measures for a fixed time. Latency
//! counts from the time at which something should have happened, so a server cannot hide its own
//! delay by slowing the generator down.

mod crowd;
mod member;
mod options;
mod schedule;
mod tally;

use std::io::{self, IsTerminal, Write};

use bandsync_perf::cpu;
use bandsync_perf::report::{Report, compared};
use bandsync_perf::server::Server;
use bandsync_perf::timer_fd::{MILLISECOND, Nanos, SECOND, now};

use crowd::Crowd;
use options::{Run, Scenario, Task};

pub use options::Options;

/// Time that joining may take, besides a little for each member.
const JOIN_MAX: Nanos = 30 * SECOND;

/// Runs the command.
pub fn run(options: Options) -> io::Result<()> {
    let mut screen = io::stdout().lock();
    if let Some(Task::Compare { before, after }) = &options.command {
        let load =
            |paths: &[std::path::PathBuf]| paths.iter().map(|path| Report::load(path)).collect();
        let (before, after): (io::Result<Vec<_>>, io::Result<Vec<_>>) = (load(before), load(after));
        return screen.write_all(compared(&before?, &after?).as_bytes());
    }
    let run = &options.run;
    cpu::raise_file_limit();
    let server = match (&run.spawn, run.pid) {
        (Some(command), _) => Some(Server::start(command, run.server_core, run.address)?),
        (None, pid) => pid.map(Server::running),
    };
    if let Err(error) = cpu::pin(0, run.own_core) {
        complain(&format!("the generator is not pinned: {error}"));
    }
    cpu::wake_on_time();
    let report = measure(run, server.as_ref())?;
    if let Some(path) = &run.json {
        report.save(path)?;
    }
    if let Some(path) = &run.html {
        std::fs::write(path, report.html())?;
    }
    screen.write_all(report.text().as_bytes())
}

fn measure(run: &Run, server: Option<&Server>) -> io::Result<Report> {
    if run.sessions == 0 || run.members == 0 {
        return Err(io::Error::other("there must be a session and a member in it"));
    }
    let memory = || server.map(Server::memory).transpose();
    let mut crowd = Crowd::new(run)?;
    let empty = memory()?;
    if run.scenario != Scenario::Joins {
        join_all(run, &mut crowd)?;
    }
    // Buffers of the handshake are freed a little later.
    crowd.pass(now() + SECOND, |_| false)?;
    let idle = memory()?;
    if run.cue {
        writeln!(io::stdout(), "joined")?;
        crowd.await_cue()?;
    }
    let joined = crowd.joined;

    let start = now() + MILLISECOND;
    crowd.schedule.play(run, start);
    crowd.pass(start + run.warm_up * SECOND, |_| false)?;
    crowd.fix_grids();
    // Messages that waited meanwhile are no fault of the server.
    let warm = now() + SECOND / 10;
    crowd.pass(warm, |_| false)?;

    crowd.schedule.measured(run, warm);
    crowd.measuring = true;
    let own = std::process::id();
    let (cpu_before, own_before) = (server.map(Server::cpu_time).transpose()?, cpu::cpu_time(own)?);
    let begun = now();
    for second in 1..=run.seconds {
        crowd.pass(warm + second * SECOND, |_| false)?;
        let tally = &crowd.tally;
        progress(&format!(
            "{} {second}/{} s, {} ticks, {} messages, {} joins",
            run.name, run.seconds, tally.ticks, tally.chats, tally.joins
        ));
    }
    let ended = now();
    let (cpu_after, own_after) = (server.map(Server::cpu_time).transpose()?, cpu::cpu_time(own)?);
    if run.scenario == Scenario::Chat {
        // The last messages are still on their way.
        crowd.schedule.clear();
        crowd.pass(now() + SECOND / 4, |_| false)?;
    }
    progress("");

    let took = (ended - begun) as f64;
    let per_conn = |memory: Option<u64>| {
        let grown = memory?.saturating_sub(empty?) as f64;
        (joined > 0).then(|| grown / joined as f64)
    };
    let tally = &crowd.tally;
    let cpu_used =
        cpu_before.zip(cpu_after).map(|(before, after)| (after.total - before.total) as f64);
    let (expected, delivered) = match run.scenario {
        Scenario::Ticks | Scenario::Churn => (ticks_due(run, &crowd, took), tally.ticks),
        // Pauses of 0.5 s in 10 s are part of an evening.
        Scenario::Gig => (ticks_due(run, &crowd, took * 0.95), tally.ticks),
        Scenario::Chat => (tally.chats_due, tally.chats),
        Scenario::Joins => (run.rate.map_or(tally.joins, |rate| rate * run.seconds), tally.joins),
        Scenario::Idle => (0, 0),
    };
    let times = [
        ("lateness", &tally.lateness),
        ("gap", &tally.gaps),
        ("spread", &tally.spread),
        ("probe", &tally.probes),
        ("chat", &tally.chat),
        ("set-up", &tally.setup),
        ("generator", &tally.own),
    ];
    let times = times.into_iter().filter(|(_, times)| times.count() > 0);
    Ok(Report {
        name: run.name.clone(),
        scenario: run.scenario.name(),
        sessions: run.sessions,
        members: run.members,
        joined,
        seconds: took / SECOND as f64,
        expected,
        delivered,
        bytes_per_message: tally.bytes as f64 / tally.messages.max(1) as f64,
        cpu_micros: cpu_used
            .filter(|_| delivered > 0)
            .map(|used| used / 1_000.0 / delivered as f64),
        cpu_share: cpu_used.map(|used| used / took),
        own_cpu_share: (own_after.total - own_before.total) as f64 / took,
        memory_idle: per_conn(idle),
        memory_end: per_conn(memory()?),
        broken: tally.broken,
        rejected: tally.rejected,
        times: times.map(|(name, times)| (name.to_owned(), times.summary())).collect(),
    })
}

/// Joins leaders first, so that leading is not left to chance.
fn join_all(run: &Run, crowd: &mut Crowd) -> io::Result<()> {
    let all = run.sessions * run.members;
    let until = now() + JOIN_MAX + all as u64 * 10 * MILLISECOND;
    for slots in [0..run.sessions, run.sessions..all] {
        let wanted = slots.end;
        let begun = now();
        slots.for_each(|slot| crowd.open(slot, begun));
        let mut reported = begun;
        crowd.pass(until, |crowd| {
            if now() > reported + SECOND / 4 {
                reported = now();
                progress(&format!("{}: {} of {all} have joined", run.name, crowd.joined));
            }
            crowd.joined >= wanted
        })?;
        if crowd.joined < wanted {
            return Err(io::Error::other(format!("only {} of {wanted} could join", crowd.joined)));
        }
    }
    Ok(())
}

/// Ticks that all members together should receive in `nanos`.
fn ticks_due(run: &Run, crowd: &Crowd, nanos: f64) -> u64 {
    let strides =
        (0..run.sessions * run.members).map(|slot| crowd.stride(slot)).filter(|stride| *stride > 0);
    let each = strides.map(|stride| nanos / (stride * run.tick * MILLISECOND) as f64);
    each.sum::<f64>().round() as u64
}

/// Shows progress on a terminal; nothing clears the line.
fn progress(text: &str) {
    let mut screen = io::stderr();
    if screen.is_terminal() {
        // Progress that cannot be shown is no reason to fail.
        let _ = write!(screen, "\r\x1b[2K{text}");
        let _ = screen.flush();
    }
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "load: {text}");
}
