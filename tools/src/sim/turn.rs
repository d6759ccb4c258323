//! Runs a shard's turn in the world, and checks the shard after it.

use bandsync_driver::Mail;
use bandsync_engine::engine::Engine;
use bandsync_engine::io::Goodbye;
use bandsync_engine::words::time::Micros;

use super::actors::Member;
use super::frames;
use super::net::Neglect;
use super::oracle::LATE;
use super::plan::reveals;
use super::settings::leaves_over;
use super::shell::{Shard, SimShell};
use super::wire::ServerEnd;
use super::world::World;

/// Number of waiting pieces of mail below which a turn must read: half of the driver's limit,
/// because more mail may come during a turn.
const UNPOSTED_FEW: usize = 128;

/// Duration of a turn that writes a slice of a message to a crowd, in microseconds. The clock stands
/// still during a turn, so this much passes after it: time for members to join, leave and send
/// before the last slice.
const SLICE_TIME: u64 = 200;

/// Duration of one round of the engine's timer wheel, in microseconds.
const WHEEL_ROUND: u64 = 1 << 25;

impl World<'_> {
    /// Runs a turn of a shard, and all checks after it.
    pub fn turn(&mut self, shard: u16) {
        let s = usize::from(shard);
        if self.agenda.rhythms[s].turn_at != Some(self.agenda.now) {
            return;
        }
        self.agenda.rhythms[s].turn_at = None;
        self.turns += 1;
        let due = self.engine(s).next_deadline().map_or(self.agenda.now, Micros::as_micros);
        if self.agenda.now > due + LATE {
            let rhythm = &mut self.agenda.rhythms[s];
            rhythm.late_at = rhythm.late_at.max(self.agenda.now);
            self.oracle.journal.saw("driver: a turn is late");
        }
        self.owe_goodbyes(s);
        let is_behind = self.shards[s].turn.is_behind();
        let accepted = self.shards[s].desk.stats.accepted.get();
        self.take_turn(s);
        let accepted = self.shards[s].desk.stats.accepted.get() - accepted;
        let what = "driver: a connection is accepted while a crowd waits for its slice";
        self.oracle.journal.seen.add(what, if is_behind { accepted } else { 0 });
        self.net.post_looks(&mut self.agenda);
        self.check_sockets(s, is_behind);
        self.check_goodbyes(s);
        self.after_turn(s);
        let now = self.agenda.now;
        let (calm, luck) = (self.agenda.calm, &mut self.agenda.rhythms[s].luck);
        let spurious = self.plan.shape.driver.spurious;
        if spurious > 0 && !calm && luck.one_in(spurious) {
            let at = now + 1 + luck.below(3_000);
            self.agenda.wake(shard, at);
        }
        let Shard { turn, desk } = &self.shards[s];
        let has_work = turn.has_work(desk.unposted().0) || self.net.has_work(shard);
        let busy = if turn.is_behind() { SLICE_TIME } else { 1 };
        let next = [
            has_work.then_some(now + busy),
            turn.next_deadline().map(Micros::as_micros),
            self.mailboxes[s].front().map(|mail| mail.at),
            desk.next_deadline(now),
        ];
        if let Some(next) = next.into_iter().flatten().min() {
            self.agenda.wake(shard, next);
        }
    }

    /// Runs the driver's turn over the world's net and shell.
    fn take_turn(&mut self, s: usize) {
        let reports = self.net.begin(s as u16, self.agenda.now);
        let Shard { turn, desk } = &mut self.shards[s];
        let mut wakes = Vec::new();
        let mut shell = SimShell {
            now: self.agenda.now,
            plan: self.plan,
            calm: self.agenda.calm,
            memory: self.life.memory,
            shutdown: &self.shutdown,
            desk,
            mailboxes: &mut self.mailboxes,
            wires: &mut self.wires,
            oracle: &mut self.oracle,
            storage: &mut self.storage,
            wakes: &mut wakes,
            handed_over: &mut self.handed_over,
            luck: &mut self.agenda.rhythms[s].luck,
            to: &mut self.receivers,
        };
        turn.run(&mut self.net, &mut shell, reports.into_iter());
        for (shard, at) in wakes {
            self.agenda.wake(shard, at);
        }
    }

    fn engine(&self, s: usize) -> &Engine {
        self.shards[s].turn.machine()
    }

    /// Returns the number of connections on a shard, or on their way from it.
    pub fn connections(&self, s: usize) -> usize {
        let moving = |mail: &Mail<_>| matches!(mail, Mail::HandOver(_));
        let coming = self.mailboxes[s].iter().filter(|posted| moving(&posted.mail)).count();
        let Shard { turn, desk } = &self.shards[s];
        turn.connections() + coming + desk.unposted().1
    }

    /// Notes the pollers that must receive a goodbye in this turn, if the server starts to drain in
    /// it.
    fn owe_goodbyes(&mut self, s: usize) {
        if self.shutdown.until().is_none() || self.oracle.server.drained[s] {
            return;
        }
        let open = self.shards[s].desk.open.iter();
        let polls = |w: usize| {
            let (wire, cable) = (&self.wires[w], &self.net.cables[w]);
            let poller = wire.poller.map(|poller| &self.pollers[usize::from(poller)]);
            let waits = poller.is_some_and(|poller| poller.waits_for_packets(w, wire, cable));
            waits && !cable.awaits_writable && cable.end != ServerEnd::Gone
        };
        let owed =
            open.filter(|(_, wire)| polls(**wire)).map(|(id, _)| (*id, Vec::new())).collect();
        self.shards[s].desk.checks.owed = owed;
    }

    /// Checks that all pollers received a goodbye in the turn in which the drain began.
    fn check_goodbyes(&mut self, s: usize) {
        for (id, received) in std::mem::take(&mut self.shards[s].desk.checks.owed) {
            // In a polling response, or in a frame if the client has upgraded to a WebSocket.
            let stays_away =
                received.windows(3).any(|three| matches!(three, b"\x1e41" | b"\x0241"));
            let complete = frames::is_draining(&received)
                && stays_away == (self.oracle.server.goodbye == Goodbye::Disconnect);
            if complete {
                self.oracle.journal.saw("drain: pollers receive a goodbye");
            } else {
                let what = format!(
                    "{id:?} received {:?} and no goodbye",
                    String::from_utf8_lossy(&received)
                );
                self.oracle.journal.fail(self.agenda.now, "I20 goodbyes", what);
            }
        }
    }

    /// Checks that the driver handled all reports of the net, sent all bytes before it ended a
    /// connection, and reported no backlog too small. A backlog is without what waits for a slice,
    /// so none is checked if the turn began with such bytes. Where bytes are left over for later
    /// turns, ticks among them cannot be told from what is owed, so none is checked at all.
    fn check_sockets(&mut self, s: usize, is_behind: bool) {
        let (now, Shard { desk, .. }) = (self.agenda.now, &mut self.shards[s]);
        // While bytes are unsent, no bytes are sent behind them. So the number of accepted bytes is
        // still that of the time of the report.
        for (wire, bytes) in desk.backlogs.drain(..) {
            let least = self.wires[wire].owed.saturating_sub(self.net.cables[wire].taken);
            let exact = !is_behind && !leaves_over(self.plan);
            if u64::from(bytes) < least && exact && !self.net.cables[wire].reset {
                let what = format!("{bytes} bytes where at least {least} wait");
                self.oracle.journal.fail(now, "I10 backlog is reported", what);
            }
        }
        for (wire, bytes) in desk.sending.drain(..) {
            self.wires[wire].owed += bytes;
        }
        let reads = desk.unposted().0 < UNPOSTED_FEW;
        let neglected = self.net.neglected(reads, |id| desk.open.contains_key(&id));
        if let Some((wire, what)) = neglected {
            let invariant = match what {
                Neglect::Room => "I10 capacity is used",
                Neglect::Unsent => "I10 all is sent before an end",
                Neglect::End => "I12 ends are noticed",
            };
            self.oracle.journal.fail(now, invariant, format!("connection {wire} of shard {s}"));
        }
    }

    /// Checks a shard at the end of a turn.
    fn after_turn(&mut self, s: usize) {
        let now = self.agenda.now;
        let Shard { turn, desk } = &mut self.shards[s];
        let engine = turn.machine();
        desk.checks.turns += 1;
        desk.digest.add(now);
        let thorough = now >= desk.checks.checked_at + 1_000_000 || desk.checks.turns < 4;
        if thorough {
            desk.checks.checked_at = now;
            desk.checks.thoroughly += 1;
            // The check walks over all timers, which is slow.
            if desk.checks.thoroughly % 4 == 1 {
                engine.check_invariants();
            }
            let next = engine.next_deadline();
            let sleeps = next.is_some_and(|at| at.as_micros() > now + WHEEL_ROUND);
            let what = "engine: sleeps for longer than the wheel is round";
            self.oracle.journal.seen.add(what, u64::from(sleeps));
        }
        if engine.next_deadline().is_some_and(|at| at.as_micros() <= now) {
            let what = "a timer that is due did not fire";
            self.oracle.journal.fail(now, "I18 no timer forgotten", what);
        }
        self.read_log(s);
        let engine = self.shards[s].turn.machine();
        self.oracle.after_turn(now, s as u16, engine, &self.wires, thorough);
        if thorough {
            self.check_connections(s);
            self.check_owner(s);
        }
        self.check_drained(s);
    }

    /// Takes the log lines, measurements and roster of a shard, as its thread would.
    fn read_log(&mut self, s: usize) {
        let now = self.agenda.now;
        let Shard { turn, desk } = &mut self.shards[s];
        let oracle = &mut self.oracle;
        turn.machine_mut().samples().take(|_, _| {});
        turn.machine_mut().disconnects().take(|disconnect| {
            let mut line = format!("{:?}: {}", disconnect.manner, disconnect.why);
            let session = disconnect.session.as_ref().map_or("", |session| session.as_str());
            if reveals(line.as_bytes()) || reveals(session.as_bytes()) {
                oracle.journal.fail(now, "I23 secrets", format!("in the log: {line}"));
            }
            // One entry per kind: the figures differ from line to line.
            line.retain(|c| !c.is_ascii_digit());
            oracle.journal.seen.add(line, 1);
        });
        if desk.checks.checked_at == now && desk.checks.thoroughly % 4 == 1 {
            let mut roster = Vec::new();
            turn.machine().roster(&mut roster);
            let text = String::from_utf8_lossy(&roster);
            let pid = |member: &Member| member.pid().is_some_and(|pid| text.contains(pid));
            if reveals(&roster) || self.members.iter().any(pid) {
                oracle.journal.fail(now, "I23 secrets", format!("in the roster: {text}"));
            }
        }
    }

    /// Checks that a shard has only sessions of its own.
    fn check_owner(&mut self, s: usize) {
        let engine = self.shards[s].turn.machine();
        for oracle in self.oracle.sessions.iter().filter(|oracle| usize::from(oracle.home) != s) {
            if engine.session(&oracle.name).is_some() {
                let what = format!("{:?} is on shard {s} as well", oracle.name);
                return self.oracle.journal.fail(self.agenda.now, "I2 one owner", what);
            }
        }
    }

    /// Checks that a draining shard has no new sessions, and that all are stored at its end.
    fn check_drained(&mut self, s: usize) {
        let now = self.agenda.now;
        let Shard { turn, desk } = &mut self.shards[s];
        let engine = turn.machine();
        let Some(before) = desk.checks.sessions_at_drain else { return };
        let sessions = engine.counters().sessions;
        if sessions > before {
            let what = format!("shard {s} had {before} sessions and has {sessions}");
            self.oracle.journal.fail(now, "I20 no new session", what);
        }
        if !engine.is_drained() || std::mem::replace(&mut desk.checks.checked_stored, true) {
            return;
        }
        let Some(storage) = self.storage.as_ref().filter(|storage| storage.is_faithful()) else {
            return;
        };
        for oracle in self.oracle.sessions.iter().filter(|oracle| usize::from(oracle.home) == s) {
            let Some(model) =
                oracle.model.as_ref().filter(|_| engine.session(&oracle.name).is_some())
            else {
                continue;
            };
            let kept = storage.kept(&oracle.name).map(|kept| (kept.epoch, kept.version));
            if model.version > 0 && kept < Some((oracle.epoch, model.version)) {
                let what = format!(
                    "{kept:?} of {:?}, which is at {:?}",
                    oracle.name,
                    (oracle.epoch, model.version)
                );
                return self.oracle.journal.fail(now, "I20 all is stored", what);
            }
            self.oracle
                .journal
                .seen
                .add("drain: a session is stored", u64::from(model.version > 0));
        }
    }

    /// Checks that engine and driver agree about the connections, and that every client is pinged
    /// in time.
    fn check_connections(&mut self, s: usize) {
        let (now, shape) = (self.agenda.now, &self.plan.shape);
        let Shard { turn, desk } = &self.shards[s];
        // A connection may have come from a shard that was stopped.
        let late_at = self.agenda.late_at();
        let count = turn.machine().counters().connections as usize;
        if count != desk.open.len() {
            let what =
                format!("the engine has {count} connections, the driver {}", desk.open.len());
            self.oracle.journal.fail(now, "I12 connections agree", what);
        }
        let (open, all) = (desk.stats.open.get() as usize, turn.connections());
        if open != all || all < count {
            let what = format!("the driver counts {open} connections and has {all} of {count}");
            self.oracle.journal.fail(now, "I12 connections agree", what);
        }
        for wire in desk.open.values() {
            let wire = &self.wires[*wire];
            let since = wire.pinged.unwrap_or(wire.opened).max(late_at);
            // A pong waits while its sender asks another shard for admission and is handed over:
            // for the time of three pieces of mail.
            let late = LATE + 3 * shape.driver.mail;
            if wire.upgraded && now >= since + shape.ping + shape.ping_timeout + late {
                let what =
                    format!("{} was neither pinged nor closed for {} µs", wire.sid, now - since);
                self.oracle.journal.fail(now, "I18 no timer forgotten", what);
            }
        }
    }
}
