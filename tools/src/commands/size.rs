//! `tools size`: the machines that a number of members needs.

use std::process::ExitCode;

use bandsync_tools::sizing::{Costs, Load, Plant, branches, stored_bytes, uses};
use clap::Args;

/// Computes cores, memory, network and Redis for a number of members, and which limit is reached
/// first. The costs are those of perf/README.md; give your own after a run of ./perf/compare.
#[derive(Args)]
pub struct Options {
    /// Members in all.
    #[arg(long)]
    members: f64,
    /// Members of a session.
    #[arg(long, default_value_t = 8.0)]
    session: f64,
    /// Part of the members that receive ticks, from 0 to 1; the others keep the timeline.
    #[arg(long, default_value_t = 0.0)]
    ticking: f64,
    /// Ticks per second.
    #[arg(long, default_value_t = 60.0)]
    tick_hz: f64,
    /// Changes of a session per second.
    #[arg(long, default_value_t = 0.1)]
    changes: f64,
    /// Chat messages of a session per second.
    #[arg(long, default_value_t = 0.02)]
    chat: f64,
    /// Members that reconnect, per second.
    #[arg(long, default_value_t = 0.0)]
    reconnects: f64,
    /// Nodes, in all regions.
    #[arg(long, default_value_t = 1.0)]
    nodes: f64,
    /// Regions, each with a cluster and a Redis of its own.
    #[arg(long, default_value_t = 1.0)]
    regions: f64,
    /// The balancer does not hash the session, so that its members are on random nodes.
    #[arg(long)]
    random: bool,
    /// Cores of a node.
    #[arg(long, default_value_t = 16.0)]
    cores: f64,
    /// Memory of a node, in GiB.
    #[arg(long, default_value_t = 64.0)]
    memory: f64,
    /// Network of a node, in Gbit/s.
    #[arg(long, default_value_t = 10.0)]
    network: f64,
    /// Open files that a node's process may have (LimitNOFILE).
    #[arg(long, default_value_t = 1_048_576.0)]
    files: f64,
    /// Primaries of a region's Redis.
    #[arg(long, default_value_t = 1.0)]
    primaries: f64,
    /// CPU time of a tick to one member, in µs (./perf/compare).
    #[arg(long, default_value_t = Costs::default().tick)]
    tick_us: f64,
    /// CPU time of a member that keeps the timeline, in µs per second (./perf/compare --goals
    /// --only timeline).
    #[arg(long, default_value_t = Costs::default().line)]
    line_us: f64,
    /// CPU time of a message to one member, in µs (./perf/compare --goals --only chat).
    #[arg(long, default_value_t = Costs::default().message)]
    message_us: f64,
    /// CPU time of a connection that is set up, in µs (./perf/compare --everything).
    #[arg(long, default_value_t = Costs::default().shake)]
    shake_us: f64,
}

/// Runs the command.
pub fn run(options: Options) -> ExitCode {
    let counts =
        [options.members, options.session, options.nodes, options.regions, options.primaries];
    if counts.iter().any(|count| !count.is_finite() || *count < 1.0) {
        eprintln!("size: members, session, nodes, regions and primaries must be at least 1");
        return ExitCode::from(2);
    }
    if !(0.0..=1.0).contains(&options.ticking) {
        eprintln!("size: ticking must be from 0 to 1");
        return ExitCode::from(2);
    }
    let regions = options.regions;
    let load = Load {
        members: options.members / regions,
        session: options.session,
        ticking: options.ticking,
        tick_hz: options.tick_hz,
        changes: options.changes,
        chat: options.chat,
        reconnects: options.reconnects / regions,
    };
    let plant = Plant {
        nodes: (options.nodes / regions).max(1.0),
        is_hashed: !options.random,
        cores: options.cores,
        memory: options.memory * 1024.0 * 1024.0 * 1024.0,
        network: options.network * 1e9,
        files: options.files,
        primaries: options.primaries,
    };
    let costs = Costs {
        tick: options.tick_us,
        line: options.line_us,
        message: options.message_us,
        shake: options.shake_us,
        ..Costs::default()
    };
    println!(
        "{:.0} members in sessions of {:.0} on {:.0} nodes in {regions:.0} regions: \
         {:.2} branches a session, {:.2} GB in each region's Redis",
        options.members,
        options.session,
        options.nodes,
        branches(&load, &plant),
        stored_bytes(&load) / 1e9,
    );
    println!(
        "\n{:<26}{:>12}{:>12}  {:<8}{:>14}",
        "limit", "needed", "present", "", "members at it"
    );
    let uses = uses(&load, &plant, &costs);
    for one in &uses {
        let most = one.members_max * regions;
        println!(
            "{:<26}{:>12.2}{:>12.2}  {:<8}{most:>14.0}",
            one.name, one.needed, one.limit, one.unit
        );
    }
    let Some(first) = uses.first() else { return ExitCode::FAILURE };
    let is_enough = first.members_max * regions >= options.members;
    println!(
        "\nreached first: {}, at {:.0} members with 40 % in reserve (files: none). \
         This {} enough for {:.0}.",
        first.name,
        first.members_max * regions,
        if is_enough { "is" } else { "is not" },
        options.members,
    );
    ExitCode::SUCCESS
}
