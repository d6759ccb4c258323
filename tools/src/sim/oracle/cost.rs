//! What clients and scarce memory may cost: I17, I22, and the half of I7 about memory.

use bandsync_engine::io::FreeMemory;
use bandsync_engine::words::ids::SessionId;

use super::super::storage::Storage;
use super::super::wire::{Spent, Wire};
use super::Oracle;

/// What a client is told that has asked for nothing: a greeting, that it is connected, a farewell.
const GREETINGS: u64 = 6;

/// Events that a client may say at once and in a second, as `RateLimits` has them, with those that
/// are refused.
const EVENTS_BURST: u64 = 210;
const EVENTS_A_SECOND: u64 = 100;

/// What may come of one read, however many events it holds: of those that the rates let through two
/// messages to who speaks and two to its session each. What a session has to say is short here, or
/// asked for a few times at most.
const OUTPUTS_MAX: usize = 4 * EVENTS_BURST as usize;
const WORK_BYTES_MAX: usize = 2 * EVENTS_BURST as usize * OWN_BYTES_MAX;
const PONGS_MAX: usize = 17;

/// The length of a message that concerns one client alone.
const OWN_BYTES_MAX: usize = 1_024;

/// Events that are rejected for their rate in a window of time before the connection closes.
const REFUSALS_MAX: usize = 10;
const REFUSALS_WINDOW: u64 = 60_000_000;

/// No event that is told again is shorter.
const EVENT_BYTES_MIN: usize = 64;

/// What came of the bytes of one read.
#[derive(Clone, Debug, Default)]
pub struct Work {
    pub read: usize,
    /// Bytes that somebody who has come back may be told again.
    pub again: usize,
    pub outputs: usize,
    pub bytes: usize,
    pub pongs: usize,
    /// Acknowledgements of values that were superseded: those have no rate, and each event that
    /// comes has one at most.
    pub needless: usize,
}

impl Oracle {
    /// A read was handled: what one client can have the server do before it looks at the others is
    /// bounded.
    pub fn worked(&mut self, now: u64, work: &Work) {
        let bytes_max = work.read + work.again + WORK_BYTES_MAX;
        let outputs_max = OUTPUTS_MAX + work.again / EVENT_BYTES_MIN + work.needless;
        if work.outputs > outputs_max || work.pongs > PONGS_MAX || work.bytes > bytes_max {
            self.journal.fail(now, "I17 bounded work", format!("{work:?}"));
        }
    }

    /// What concerns one client alone is bounded by what it may say, whatever it does say: nobody
    /// gets the server to send much by sending little, and who says nothing gets what a greeting
    /// and heartbeats are.
    pub(super) fn weigh(&mut self, now: u64, wire: &Wire, length: usize) {
        let Spent {
            packets, pings, told, needless, questions, reports, pongs, beats, since, ..
        } = wire.spent;
        let seconds = now.saturating_sub(since) / 1_000_000 + 1;
        // Greeting, connect, farewell; an answer and a notice for each event; of more events than
        // the rates have ten are refused, and one is answered each that was superseded.
        let most = (GREETINGS + 2 * packets)
            .min(GREETINGS + 2 * (EVENTS_BURST + EVENTS_A_SECOND * seconds) + needless);
        let own = !wire.spoiled || wire.stray;
        let what = match () {
            () if own && told > most + reports => format!("{told} messages to {packets} packets"),
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

    /// Whether a connection that is rejected for its rate once more should have been closed.
    pub(super) fn is_patience_over(&self, now: u64, wire: &mut Wire) -> bool {
        wire.rejected.push_back(now);
        while wire.rejected.front().is_some_and(|at| at + REFUSALS_WINDOW < now) {
            wire.rejected.pop_front();
        }
        wire.rejected.len() > REFUSALS_MAX
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

    /// A shard has given memory back, and with it these sessions: those that nobody is in, if they
    /// are stored or, where nothing is stored, if nobody will come back or there is no memory at
    /// all.
    pub fn scarce(
        &mut self,
        now: u64,
        shard: u16,
        memory: FreeMemory,
        gone: &[SessionId],
        storage: Option<&Storage>,
    ) {
        let recovery = self.rules.recovery;
        for court in self.sessions.iter_mut().filter(|court| court.home == shard) {
            court.forgot_at = Some(now);
            let Some(model) = court.model.as_ref().filter(|_| gone.contains(&court.name)) else {
                continue;
            };
            let newest = (court.epoch, model.version);
            let right = match storage {
                Some(storage) => {
                    let kept = storage.kept(&court.name).map(|kept| (kept.epoch, kept.version));
                    kept == Some(newest) || !storage.is_honest()
                }
                None => {
                    memory == FreeMemory::Out
                        || model.empty_since.is_some_and(|since| now >= since + recovery)
                }
            };
            let what =
                format!("{:?} at {newest:?} is gone with members {:?}", court.name, model.people);
            let right = right && !model.people.iter().any(|person| person.connected);
            (court.model, court.ticking.since, court.owed.since) = (None, None, None);
            if !right && !self.server.draining {
                return self.journal.fail(now, "I7 what scarce memory may cost", what);
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
