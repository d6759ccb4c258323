//! The sizing model: the cores, memory, network and Redis that a number of members needs.
//!
//! Each cost is linear in the members, so the use of every resource can be compared with its limit,
//! and the one that is used most is reached first. The constants name the measurement that gave
//! them.

/// Bytes of a tick on the network: payload, and the headers of Ethernet, IP, TCP and TLS.
const TICK_BYTES: f64 = 110.0 + HEADER_BYTES;
/// Bytes of a change or a chat message on the network. Guessed from recorded traces.
const MESSAGE_BYTES: f64 = 400.0 + HEADER_BYTES;
/// Bytes of one packet's headers.
const HEADER_BYTES: f64 = 78.0;
/// Bytes per second of pings, heartbeats and clock probes of one member.
const IDLE_BYTES: f64 = 170.0;
/// Memory of the kernel for a connection. Guessed: two socket buffers that are nearly empty.
const KERNEL_BYTES: f64 = 8.0 * 1024.0;
/// Memory of a session with its log, without a set list. Guessed.
const SESSION_BYTES: f64 = 8.0 * 1024.0;
/// Memory of a branch without its log: a goal of the cluster.
const BRANCH_BYTES: f64 = 2.0 * 1024.0;
/// Memory of Redis for a session with a record of 0.9 kB. Measured with `MEMORY USAGE`.
const STORED_BYTES: f64 = 3_700.0;
/// CPU time of Redis for a commit. Measured with Redis 7.0, pipelined.
const COMMIT_US: f64 = 12.2;
/// CPU time of Redis for each receiver of a message. Measured, pipelined.
const HEAR_US: f64 = 1.3;
/// CPU time of Redis for a message that is published alone. Measured.
const SAY_US: f64 = 20.0;
/// CPU time of Redis for one beat of a lease. Measured.
const BEAT_US: f64 = 1.3;
/// Buckets of a cluster, each with two beats per second and node.
const BUCKETS: f64 = 64.0;
/// CPU time of Redis for the claim of a session. Measured.
const CLAIM_US: f64 = 20.0;
/// Part of a resource that may be in use, so that bursts and the loss of a node fit.
const TARGET_USE: f64 = 0.6;

/// CPU times of a server's core, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// A tick to one member.
    pub tick: f64,
    /// A second of a member that keeps the timeline.
    pub line: f64,
    /// A change or a chat message to one member.
    pub message: f64,
    /// A connection that is set up and joins.
    pub shake: f64,
    /// Memory of a connection in the server, in bytes.
    pub connection: f64,
}

impl Default for Costs {
    /// The results in perf/README.md: of `./perf/compare` (tick), `./perf/compare --goals --only
    /// timeline` (line), `--only chat` with small sessions (message), and `./perf/compare
    /// --everything` (shake, connection).
    fn default() -> Self {
        Self { tick: 7.42, line: 1e6 / 89_268.0, message: 1.53, shake: 53.33, connection: 952.0 }
    }
}

/// The members, and what they do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Members in all.
    pub members: f64,
    /// Members of a session.
    pub session: f64,
    /// Part of the members that receive ticks; the others keep the timeline.
    pub ticking: f64,
    /// Ticks per second.
    pub tick_hz: f64,
    /// Changes of a session per second.
    pub changes: f64,
    /// Chat messages of a session per second.
    pub chat: f64,
    /// Members that reconnect, per second.
    pub reconnects: f64,
}

/// The machines.
#[derive(Clone, Copy, Debug)]
pub struct Plant {
    /// Nodes of one cluster; 1 has no cluster.
    pub nodes: f64,
    /// Whether the balancer sends all members of a session to one node.
    pub is_hashed: bool,
    /// Cores of a node.
    pub cores: f64,
    /// Memory of a node, in bytes.
    pub memory: f64,
    /// Network of a node, in bits per second.
    pub network: f64,
    /// Open files that a node's process may have.
    pub files: f64,
    /// Primaries of Redis, each of which uses one core.
    pub primaries: f64,
}

/// The use of one resource.
#[derive(Clone, Debug)]
pub struct Use {
    /// The name of the resource.
    pub name: &'static str,
    /// The amount that the members need: of each node, or of each primary.
    pub needed: f64,
    /// The amount that is present.
    pub limit: f64,
    /// The unit of both.
    pub unit: &'static str,
    /// Number of members at which the limit is reached, with the reserve for bursts.
    pub members_max: f64,
}

/// Number of branches that a session has on average.
pub fn branches(load: &Load, plant: &Plant) -> f64 {
    if plant.is_hashed || plant.nodes <= 1.0 {
        return 0.0;
    }
    let nodes = plant.nodes;
    let visited = nodes * (1.0 - (1.0 - 1.0 / nodes).powf(load.session));
    visited - 1.0
}

/// Returns the use of each resource, the one that is reached first in front.
pub fn uses(load: &Load, plant: &Plant, costs: &Costs) -> Vec<Use> {
    let (members, nodes) = (load.members, plant.nodes.max(1.0));
    let sessions = members / load.session.max(1.0);
    let spoken = load.changes + load.chat;
    let branches = branches(load, plant);
    let cpu_us = members * load.ticking * load.tick_hz * costs.tick
        + members * (1.0 - load.ticking) * costs.line
        + sessions * spoken * load.session * costs.message
        + load.reconnects * costs.shake;
    let memory = members * (costs.connection + KERNEL_BYTES)
        + sessions * (SESSION_BYTES + branches * BRANCH_BYTES);
    let out = members * load.ticking * load.tick_hz * TICK_BYTES
        + sessions * spoken * load.session * MESSAGE_BYTES
        + members * IDLE_BYTES;
    let is_cluster = nodes > 1.0;
    let forwarded = sessions * spoken * branches / (branches + 1.0);
    let per_session = sessions * load.changes * (COMMIT_US + branches * HEAR_US)
        + sessions * load.chat * branches * HEAR_US
        + forwarded * SAY_US
        + load.reconnects * CLAIM_US;
    let pairs = nodes * (nodes - 1.0);
    let fixed = nodes * BUCKETS * 2.0 * BEAT_US + pairs * 2.0 * plant.primaries * SAY_US;
    let redis_us = if is_cluster { per_session + fixed } else { 0.0 };
    let each = |name, needed: f64, limit: f64, unit, fixed: f64| {
        let room = limit * TARGET_USE - fixed;
        let scaling = needed - fixed;
        let members_max =
            if scaling > 0.0 { (members * room / scaling).max(0.0) } else { f64::INFINITY };
        Use { name, needed, limit, unit, members_max }
    };
    let files = Use {
        name: "open files of a node",
        needed: members / nodes,
        limit: plant.files,
        unit: "files",
        members_max: plant.files * nodes,
    };
    let gib = 1024.0 * 1024.0 * 1024.0;
    let mut uses = vec![
        each("cores of a node", cpu_us / 1e6 / nodes, plant.cores, "cores", 0.0),
        each("memory of a node", memory / nodes / gib, plant.memory / gib, "GiB", 0.0),
        each("network of a node", out * 8.0 / nodes / 1e9, plant.network / 1e9, "Gbit/s", 0.0),
        files,
    ];
    if is_cluster {
        let busy = redis_us / 1e6 / plant.primaries;
        let idle = fixed / 1e6 / plant.primaries;
        uses.push(each("core of a Redis primary", busy, 1.0, "cores", idle));
    }
    uses.sort_by(|a, b| a.members_max.total_cmp(&b.members_max));
    uses
}

/// Memory that Redis needs for the sessions, in bytes.
pub fn stored_bytes(load: &Load) -> f64 {
    load.members / load.session.max(1.0) * STORED_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

    fn load(members: f64, ticking: f64) -> Load {
        Load {
            members,
            session: 8.0,
            ticking,
            tick_hz: 60.0,
            changes: 0.1,
            chat: 0.02,
            reconnects: 0.0,
        }
    }

    fn plant(nodes: f64, is_hashed: bool) -> Plant {
        Plant {
            nodes,
            is_hashed,
            cores: 16.0,
            memory: 64.0 * GIB,
            network: 10e9,
            files: 1e6,
            primaries: 1.0,
        }
    }

    fn needed(uses: &[Use], name: &str) -> f64 {
        uses.iter().find(|one| one.name.starts_with(name)).map_or(0.0, |one| one.needed)
    }

    #[test]
    fn random_balancing_costs_branches_and_hashing_none() {
        let load = load(1e6, 0.0);
        assert_eq!(branches(&load, &plant(4.0, true)), 0.0);
        assert_eq!(branches(&load, &plant(1.0, false)), 0.0);
        let spread = branches(&load, &plant(8.0, false));
        assert!((spread - 4.25).abs() < 0.01, "{spread}");
    }

    #[test]
    fn ticks_need_far_more_cores_than_the_timeline() {
        let costs = Costs::default();
        let ticks = uses(&load(10_000.0, 1.0), &plant(1.0, true), &costs);
        assert!((needed(&ticks, "cores") - 4.46).abs() < 0.02, "{ticks:?}");
        let line = uses(&load(10_000.0, 0.0), &plant(1.0, true), &costs);
        assert!(needed(&line, "cores") < 0.12, "{line:?}");
        assert_eq!(needed(&line, "core of a Redis"), 0.0, "one node needs no Redis");
    }

    #[test]
    fn the_limit_that_is_reached_first_is_in_front() {
        let costs = Costs::default();
        let uses_of = |plant: &Plant| uses(&load(1e6, 0.0), plant, &costs);
        let few_files = Plant { files: 20_000.0, ..plant(4.0, true) };
        assert_eq!(uses_of(&few_files)[0].name, "open files of a node");
        assert_eq!(uses_of(&few_files)[0].members_max, 80_000.0);
        let little_memory = Plant { memory: GIB, ..plant(4.0, true) };
        assert_eq!(uses_of(&little_memory)[0].name, "memory of a node");
        let many = Load { changes: 10.0, ..load(1e6, 0.0) };
        assert_eq!(uses(&many, &plant(4.0, false), &costs)[0].name, "core of a Redis primary");
    }

    #[test]
    fn twice_the_members_need_twice_the_machines() {
        let costs = Costs::default();
        let one = uses(&load(1e5, 0.1), &plant(4.0, false), &costs);
        let two = uses(&load(2e5, 0.1), &plant(4.0, false), &costs);
        for name in ["cores", "memory", "network"] {
            let ratio = needed(&two, name) / needed(&one, name);
            assert!((ratio - 2.0).abs() < 1e-9, "{name}: {ratio}");
        }
        for (a, b) in one.iter().zip(&two) {
            assert!((a.members_max / b.members_max - 1.0).abs() < 1e-6, "{a:?} {b:?}");
        }
    }
}
