//! The clock of a node that joins: it is set before the node serves anybody.
//!
//! The node that others follow is asked over the own channel. If nobody is in time, the first node
//! goes on where the table says the cluster was, by the time that has passed in Redis since.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use bandsync_engine::io::NodeId;
use bandsync_redis::Endpoint;
use redis::{Value, cmd};

use crate::census;
use crate::clock::{self, Choice, Exchange, Keeper, Message, Reference};
use crate::frame::Seal;
use crate::inbox;
use crate::line::{Line, Open};
use crate::names::Names;
use crate::probes::{BUCKET, Sender};
use crate::reply::Trouble;
use crate::table::Table;

/// Time after which a node serves members although its clock is not known. Specified.
const WAIT: Duration = Duration::from_secs(3);

/// Time for which one node is asked before the table is read again.
const ASK: Duration = Duration::from_millis(500);

/// Time between two probes, and between two looks at the table. Specified.
const APART: Duration = Duration::from_millis(50);

/// Cluster time in microseconds beyond which an entry is a stranger's: 100 years.
const SHOWN_MAX: u64 = 100 * 366 * 24 * 3_600 * 1_000_000;

/// The parts of a node that joins.
pub struct Newcomer<'a> {
    /// The clock.
    pub keeper: &'a Keeper,
    /// The names of channels.
    pub names: &'a Names,
    /// The keyed hash.
    pub seal: &'a Seal,
    /// This node.
    pub node: NodeId,
    /// The life of leases.
    pub lease_ttl: Duration,
    /// The servers of the own channel.
    pub endpoint: &'a Endpoint,
}

impl Newcomer<'_> {
    /// Sets the clock. `table` reads the table again. Returns whether the clock is known.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub fn attune(
        &self,
        first: &Table,
        leases: &mut Open,
        mut table: impl FnMut() -> Result<Option<Table>, Trouble>,
    ) -> Result<bool, Trouble> {
        let began = Instant::now();
        self.resume(first);
        let mut line = None;
        let mut newest = first.clone();
        loop {
            let living = census::living(leases, self.names, &newest)?;
            match self.choose(&newest, &living) {
                choice @ (Choice::Own | Choice::First) => {
                    // The others have written newer times since.
                    self.resume(&newest);
                    clock::take(self.keeper, choice);
                    return Ok(true);
                }
                Choice::Other(node) => {
                    self.keeper.follow(Reference::Other(node));
                    self.ask(&mut line, leases);
                    if self.keeper.is_in_time() {
                        return Ok(true);
                    }
                }
                Choice::Wait => thread::sleep(APART),
            }
            if began.elapsed() >= WAIT {
                clock::complain();
                return Ok(false);
            }
            if let Some(table) = table()? {
                newest = table;
            }
        }
    }

    /// Sets the clock to the time that the table implies.
    fn resume(&self, table: &Table) {
        let machine = self.keeper.machine();
        let founded: i64 = table.origin.parse().unwrap_or_default();
        let shown = implied(table, founded);
        self.keeper.set(founded, machine, shown.saturating_mul(1_000));
    }

    /// Chooses the node to follow among those that live or have written their entry just now: a
    /// node that has joined and not started has no lease in every bucket yet.
    fn choose(&self, table: &Table, living: &BTreeSet<NodeId>) -> Choice {
        let ttl = self.lease_ttl.as_millis() as u64;
        let others = table.others().filter(|(node, entry)| {
            living.contains(node) || entry.at.saturating_add(ttl) >= table.now
        });
        let others = others.map(|(node, entry)| (node, entry.since));
        clock::choose(self.node.number, self.keeper.since(), others)
    }

    /// Asks the reference until the clock is in time, at most for [`ASK`].
    fn ask(&self, line: &mut Option<Line>, sending: &mut Open) {
        let began = Instant::now();
        while began.elapsed() < ASK && !self.keeper.is_in_time() {
            let sent = Instant::now();
            if self.exchange(line, sending).is_none() {
                *line = None;
            }
            thread::sleep(APART.saturating_sub(sent.elapsed()));
        }
    }

    /// Sends a probe and takes the answer. None: the subscription is lost.
    fn exchange(&self, line: &mut Option<Line>, sending: &mut Open) -> Option<()> {
        if line.is_none() {
            *line = Some(self.subscribe()?);
        }
        let (open, _) = line.as_mut()?.open().ok()?;
        let Some((to, c0)) = self.keeper.take_probe() else { return Some(()) };
        let Self { keeper, names, seal, node, .. } = *self;
        let sender = Sender { keeper, names, seal, node };
        let command = sender.command(sending.publish(), to.number, Message::Probe { c0 });
        match sending.ask_one(command) {
            Ok(Ok(Value::Int(1..))) => {}
            // Its inbox is not there yet.
            _ => return Some(()),
        }
        loop {
            let value = open.wire.receive().ok()?.ok()?;
            let c3 = keeper.machine();
            let Some((from, message)) = inbox::clock_message(&value, seal, names, node) else {
                continue;
            };
            if let Message::Echo { c0: answered, s1, s2 } = message {
                keeper.answered(from, Exchange { c0: answered, s1, s2, c3 });
                if answered == c0 {
                    return Some(());
                }
            }
        }
    }

    fn subscribe(&self) -> Option<Line> {
        let mut line = Line::new(self.endpoint.clone());
        let (open, _) = line.open().ok()?;
        // The answer to a probe takes a round trip. Without it, the node may not know this one yet.
        open.wire.set_wait(APART * 4);
        let command = if open.is_sharded { "SSUBSCRIBE" } else { "SUBSCRIBE" };
        let mut subscribe = cmd(command);
        subscribe.arg(self.names.inbox(BUCKET, self.node.number));
        open.wire.send(&subscribe.get_packed_command()).ok()?;
        open.wire.receive().ok()?.ok()?;
        Some(line)
    }
}

/// Returns the cluster time in microseconds at the reading of a table: that of the newest entry and
/// the time that has passed in Redis since; without an entry, the time since the founding.
fn implied(table: &Table, founded: i64) -> i64 {
    let known = table.others().map(|(_, entry)| entry);
    let known = known.filter(|entry| (1..=SHOWN_MAX).contains(&entry.clock));
    let newest = known.max_by_key(|entry| (entry.at, entry.clock));
    let shown = match newest {
        Some(entry) => {
            let passed = table.now.saturating_sub(entry.at).saturating_mul(1_000);
            i64::try_from(entry.clock.saturating_add(passed)).unwrap_or(i64::MAX)
        }
        None => {
            let now = i64::try_from(table.now.saturating_mul(1_000)).unwrap_or(i64::MAX);
            now.saturating_sub(founded)
        }
    };
    shown.clamp(1, SHOWN_MAX as i64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::table::Entry;

    fn table(now: u64, entries: &[(u64, u64)]) -> Table {
        let entry = |(number, (at, clock)): (u16, &(u64, u64))| {
            let (at, clock) = (*at, *clock);
            (number, Entry { at, clock, incarnation: number.to_string(), ..Entry::default() })
        };
        let entries: BTreeMap<u16, Entry> = (2..).zip(entries).map(entry).collect();
        Table { number: 1, origin: "5000000".into(), now, entries }
    }

    #[test]
    fn the_time_of_the_newest_entry_goes_on() {
        let of = |table: &Table| implied(table, 5_000_000);
        assert_eq!(of(&table(7_000, &[])), 2_000_000, "since the founding");
        assert_eq!(of(&table(7_000, &[(6_000, 0)])), 2_000_000, "it had no time");
        assert_eq!(of(&table(7_000, &[(6_000, 40), (6_990, 900_000)])), 910_000);
        assert_eq!(of(&table(7_000, &[(9_000, 900_000)])), 900_000, "Redis' clock was set back");
        assert_eq!(of(&table(1_000, &[])), 1, "it was set back before the founding");
        assert_eq!(of(&table(7_000, &[(6_000, u64::MAX)])), 2_000_000, "a stranger's");
    }
}
