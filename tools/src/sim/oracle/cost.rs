//! The cost of clients and of scarce memory: I17, I22, and the half of I7 about memory.

use bandsync_engine::io::FreeMemory;
use bandsync_engine::words::ids::SessionId;

use super::super::storage::Storage;
use super::super::wire::{Spent, Wire};
use super::Oracle;

/// Maximum number of messages to a client that asks for nothing: greeting, connect and goodbye.
const GREETINGS: u64 = 6;

/// Maximum number of events of a client at once, by `RateLimits`, including rejected ones.
const EVENTS_BURST: u64 = 210;
/// Maximum number of further events of a client per second.
const EVENTS_A_SECOND: u64 = 100;

/// Maximum number of outputs of one read, however many events it holds. Each event that the rates
/// permit causes at most two messages to the client and two to its session. In a world, messages of
/// sessions are short or rare.
const OUTPUTS_MAX: usize = 4 * EVENTS_BURST as usize;
const WORK_BYTES_MAX: usize = 2 * EVENTS_BURST as usize * OWN_BYTES_MAX;
const PONGS_MAX: usize = 17;

/// Maximum length of a message that concerns one client alone.
const OWN_BYTES_MAX: usize = 1_024;

/// Maximum number of events that are rejected for their rate within a window, before the connection
/// closes.
const REJECTIONS_MAX: usize = 10;
const REJECTIONS_WINDOW: u64 = 60_000_000;

/// Minimum length of an event that is sent again on recovery.
const EVENT_BYTES_MIN: usize = 64;

/// The work that one read caused.
#[derive(Clone, Debug, Default)]
pub struct Work {
    pub read: usize,
    /// Maximum bytes of events that are sent again to a recovering member.
    pub again: usize,
    pub outputs: usize,
    pub bytes: usize,
    pub pongs: usize,
    /// Number of acknowledgements of superseded values. They have no rate; each event causes at
    /// most one.
    pub needless: usize,
}

impl Oracle {
    /// Checks the work of one read: a client must not occupy the shard for long before the others
    /// are read.
    pub fn worked(&mut self, now: u64, work: &Work) {
        let bytes_max = work.read + work.again + WORK_BYTES_MAX;
        let outputs_max = OUTPUTS_MAX + work.again / EVENT_BYTES_MIN + work.needless;
        if work.outputs > outputs_max || work.pongs > PONGS_MAX || work.bytes > bytes_max {
            self.journal.fail(now, "I17 bounded work", format!("{work:?}"));
        }
    }

    /// Checks the messages to one client against its own traffic: a client must not cause many
    /// messages with few packets, and a silent client receives greeting and heartbeats only.
    pub(super) fn weigh(&mut self, now: u64, wire: &Wire, length: usize) {
        let Spent {
            packets,
            pings,
            messages,
            needless,
            questions,
            reports,
            pongs,
            beats,
            since,
            ..
        } = wire.spent;
        let seconds = now.saturating_sub(since) / 1_000_000 + 1;
        // Greeting, connect and goodbye; an answer and a notice for each event. Beyond the rates,
        // ten events are rejected, and each superseded value is answered once.
        let most = (GREETINGS + 2 * packets)
            .min(GREETINGS + 2 * (EVENTS_BURST + EVENTS_A_SECOND * seconds) + needless);
        let own = !wire.spoiled || wire.stray;
        let what = match () {
            () if own && messages > most + reports => {
                format!("{messages} messages to {packets} packets")
            }
            () if reports > questions + beats / 5 => format!("{reports} reports for {beats} pings"),
            () if own && pongs > pings => format!("{pongs} pongs for {pings} pings"),
            () if length > OWN_BYTES_MAX => format!("a message of {length} bytes"),
            () => return,
        };
        self.journal.fail(
            now,
            "I22 no amplification",
            format!("{} was sent {what} in {seconds} s", wire.sid),
        );
    }

    /// Counts an event that was rejected for its rate. Returns whether the connection should have
    /// been closed instead.
    pub(super) fn is_patience_over(&self, now: u64, wire: &mut Wire) -> bool {
        wire.rejected.push_back(now);
        while wire.rejected.front().is_some_and(|at| at + REJECTIONS_WINDOW < now) {
            wire.rejected.pop_front();
        }
        wire.rejected.len() > REJECTIONS_MAX
    }

    pub(super) fn beaten(&mut self, now: u64, wire: &mut Wire) {
        let since = wire.spent.beaten.unwrap_or(wire.spent.since);
        if now < since + self.rules.heartbeat {
            self.journal.fail(
                now,
                "I22 no timer early",
                format!("a ping event {} µs after the last", now - since),
            );
        }
        wire.spent.beaten = Some(now);
        wire.spent.beats += 1;
    }

    /// Checks the sessions that a shard evicted because memory was scarce. They must be empty, and
    /// be stored; without a storage, no member may return to them, or no memory may be left at all.
    pub fn scarce(
        &mut self,
        now: u64,
        shard: u16,
        memory: FreeMemory,
        gone: &[SessionId],
        storage: Option<&Storage>,
    ) {
        let recovery = self.rules.recovery;
        for oracle in self.sessions.iter_mut().filter(|oracle| oracle.home == shard) {
            oracle.forgot_at = Some(now);
            let Some(model) = oracle.model.as_ref().filter(|_| gone.contains(&oracle.name)) else {
                continue;
            };
            let newest = (oracle.epoch, model.version);
            let right = match storage {
                Some(storage) => {
                    let kept = storage.kept(&oracle.name).map(|kept| (kept.epoch, kept.version));
                    kept == Some(newest) || !storage.is_honest()
                }
                None => {
                    memory == FreeMemory::Out
                        || model.empty_since.is_some_and(|since| now >= since + recovery)
                }
            };
            let what =
                format!("{:?} at {newest:?} is gone with members {:?}", oracle.name, model.people);
            let right = right && !model.people.iter().any(|person| person.connected);
            (oracle.model, oracle.ticking.since, oracle.owed.since) = (None, None, None);
            if !right && !self.server.draining {
                return self.journal.fail(now, "I7 eviction under low memory", what);
            }
        }
    }

    pub(super) fn pinged(&mut self, now: u64, wire: &mut Wire) {
        let since = wire.pinged.unwrap_or(wire.opened);
        if now < since + self.rules.ping {
            self.journal.fail(
                now,
                "I22 no timer early",
                format!("a ping {} µs after the last", now - since),
            );
        }
        wire.pinged = Some(now);
    }
}
