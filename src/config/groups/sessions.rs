//! Sessions: their clocks and their size.

use bandsync_engine::words::time::Micros;

use crate::config::error::ConfigError;
use crate::config::table;
use crate::config::values::Values;

/// Clocks and size of sessions.
pub struct Sessions {
    /// Time between two ticks of a session that plays.
    pub tick_interval: Micros,
    /// Time that events may wait to be sent together.
    pub batch_interval: Micros,
    /// Time that the seat of a lost leader is held.
    pub leader_grace: Micros,
    /// Time that a session without members stays in memory.
    pub empty_ttl: Micros,
    /// Members that a session may have.
    pub members_max: u32,
    /// Sessions that one shard keeps in memory.
    pub sessions_max: u32,
}

/// Reads the group.
pub fn read(values: &mut Values<'_>) -> Result<Sessions, ConfigError> {
    Ok(Sessions {
        tick_interval: values.millis(&table::SCROLL_TICK_INTERVAL)?,
        batch_interval: values.millis(&table::BATCH_INTERVAL)?,
        leader_grace: values.millis(&table::LEADER_GRACE)?,
        empty_ttl: values.millis(&table::SESSION_TTL)?,
        members_max: values.count(&table::MAX_SESSION_MEMBERS)?,
        sessions_max: values.count(&table::MAX_SESSIONS)?,
    })
}
