//! Threads: how many shards serve members, and how they use the machine.

use std::time::Duration;

use bandsync_engine::words::time::Micros;

use crate::config::error::ConfigError;
use crate::config::raw::Cores;
use crate::config::table;
use crate::config::values::Values;

/// The shards and how they use the machine.
#[derive(Clone, Copy, Debug)]
pub struct Threads {
    /// Number of shards.
    pub shards: u16,
    /// Whether each shard stays on a core of its own.
    pub pin: bool,
    /// Whether the sends of a turn go out through io_uring, where the kernel has it.
    pub ring: bool,
    /// Time in which a turn of a shard should end while music plays.
    pub turn_budget: Micros,
    /// Time that a shard may hang before the process aborts.
    pub stall_limit: Option<Duration>,
    /// Cores that the process may use.
    pub cores: Cores,
}

/// Reads the group.
pub fn read(values: &mut Values<'_>) -> Result<Threads, ConfigError> {
    let cores = values.given.cores;
    let shards = values.whole_or(&table::SHARDS, u64::from(cores.usable().clamp(1, 256)))?;
    let stall_limit = values.duration(&table::STALL_LIMIT)?;
    Ok(Threads {
        shards: shards as u16,
        pin: values.switch(&table::PIN_CORES, cores.pins(shards))?,
        ring: values.switch(&table::IO_URING, true)?,
        turn_budget: values.micros(&table::TURN_BUDGET)?,
        stall_limit: (stall_limit > Duration::ZERO).then_some(stall_limit),
        cores,
    })
}
