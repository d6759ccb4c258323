//! The settings of the world's servers, and a shard that has them.

use bandsync_driver::{Turn, TurnSizes};
use bandsync_engine::engine::Engine;
use bandsync_engine::io::{Goodbye, Settings, Transports};
use bandsync_engine::words::compression::Compression;
use bandsync_engine::words::ids::ShardId;
use bandsync_engine::words::limits::Limits;
use bandsync_engine::words::origins::Origins;
use bandsync_engine::words::policy::AccessPolicy;
use bandsync_engine::words::time::Micros;

use super::net::SimNet;
use super::oracle::{STALE_AFTER, UNIX_START};
use super::plan::Plan;

/// Limits that are reached within the seconds of a world.
const IN_A_HURRY: Limits = Limits {
    head_timeout: Micros::from_secs(3),
    connect_timeout: Micros::from_secs(4),
    // Longer than the interval of pings. Otherwise a poller would often use a connection that the
    // server is closing.
    idle_timeout: Micros::from_secs(12),
    attachments_timeout: Micros::from_secs(1),
    stale_after: Micros::from_millis(STALE_AFTER / 1_000),
    silence_max: Micros::from_secs(20),
    inactivity_max: Micros::from_secs(6),
    recovery_shard_bytes_max: 16 * 1024,
    recovery_seats_max: 2,
    ..Limits::PRODUCTION
};

/// Creates a shard with the engine of its server's `life`th life. The wall clock is off by `wall`
/// milliseconds.
pub fn turn_of(plan: &Plan, id: u16, life: u64, wall: i64) -> Turn<SimNet, Engine> {
    let backlog_step = plan.shape.driver.mark as usize;
    let mut sizes = TurnSizes { backlog_step, ..TurnSizes::PRODUCTION };
    if plan.seed % 4 == 1 {
        // In these worlds two members are a crowd.
        (sizes.crowd, sizes.slice) = (2, 1 + (plan.seed / 4 % 3) as usize);
        if leaves_over(plan) {
            sizes.writes = 3;
        }
    }
    Turn::new(ShardId(id), Engine::new(settings(plan, id, life, wall)), sizes)
}

/// Whether a turn of this world's servers writes to so few connections that some must wait.
pub fn leaves_over(plan: &Plan) -> bool {
    plan.seed % 8 == 5
}

/// Returns the kind of goodbye of this world's servers. Both kinds alternate over the seeds.
pub fn goodbye(plan: &Plan) -> Goodbye {
    if plan.seed.is_multiple_of(3) { Goodbye::Disconnect } else { Goodbye::Reconnect }
}

fn settings(plan: &Plan, id: u16, life: u64, wall: i64) -> Settings {
    let shape = &plan.shape;
    let micros = Micros::from_micros;
    Settings {
        shard: ShardId(id),
        shards: shape.shards,
        seed: (plan.seed ^ life << 32).into(),
        started_unix_ms: UNIX_START + wall,
        limits: Limits {
            connections_max: shape.connections_max,
            sessions_max: shape.sessions_max,
            message_bytes_max: shape.message_max,
            fragments_max: shape.fragments_max,
            backlog_bytes_max: shape.backlog_max,
            empty_session_ttl: micros(shape.empty_ttl),
            recovery_bytes_max: shape.memory_max,
            members_listed_max: shape.members_listed,
            ..if shape.hurry { IN_A_HURRY } else { Limits::PRODUCTION }
        },
        tick_interval: micros(shape.tick),
        batch_interval: micros(shape.batch),
        ping_interval: micros(shape.ping),
        ping_timeout: micros(shape.ping_timeout),
        heartbeat_interval: micros(shape.heartbeat),
        leader_grace: micros(shape.grace),
        session_members_max: shape.members_max,
        cluster: None,
        origins: Origins::Own,
        transports: Transports {
            recovery: micros(shape.recovery),
            compression: shape.deflate.map(|context_takeover| Compression {
                threshold: 200,
                level: 1,
                context_takeover,
            }),
            ..Transports::default()
        },
        policy: AccessPolicy::default(),
        goodbye: goodbye(plan),
        storage_wait: shape.storage.as_ref().map(|storage| micros(storage.wait)),
    }
}
