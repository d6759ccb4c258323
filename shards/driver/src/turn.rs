//! A shard's turn: the one order in which a shard reads, computes and writes, over any net.
//!
//! The order: reports of the net · notes of the last turn · reads · the listener · mail · changes
//! of the process · answers to questions · [`Input::TurnEnded`] · orders for the storage and for
//! other nodes · one write per connection with chunks · hand-overs and closes. Outputs are sorted
//! onto their connections right after their input, so that a closed connection receives nothing of
//! the rest of the turn.
//!
//! Every input carries the time at which the driver learned of it; bytes carry that of their read.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::IpAddr;

use bandsync_engine::io::node::{ClaimOutcome, CommitOutcome};
use bandsync_engine::io::{
    Close, CloseCause, FreeMemory, Input, LoadResult, NodeNews, Output, Outputs, Span, Stamp,
    StorageEvent, StoreResult,
};
use bandsync_engine::words::ids::{ConnId, ShardId};
use bandsync_engine::words::time::Micros;

use crate::budget::{Budget, Work};
use crate::closing::Closing;
use crate::connections::{Connection, Connections, Phase};
use crate::host::{Asker, NodeOrder, Order};
use crate::laps::{Laps, TurnPhase};
use crate::machine::Machine;
use crate::mail::{HandOver, Mail};
use crate::net::{Accepted, Net, Process, Readiness, Shell};
use crate::writer::Writer;

/// Maximum number of connections accepted before the drain begins, so that they receive a goodbye
/// too. The kernel keeps at most this many waiting.
const ACCEPT_LAST_MAX: usize = 4_096;

/// Maximum number of these that one turn accepts. At 12 µs each they take less than 1 ms.
const ACCEPT_LAST_SLICE: usize = 64;

/// Number of connections and messages waiting to leave at which reading stops. Mail is still taken,
/// because otherwise two shards could wait for each other for ever.
const UNPOSTED_MAX: usize = 256;

/// Number of connections and messages of one turn that leave to other shards, at which the turn
/// stops reading. At 5 µs each, handing them over takes half a millisecond.
const LEAVING_MAX: usize = 96;

/// Maximum number of rejected orders to other nodes that a turn reports to the machine. At 5 µs
/// each they take a third of a millisecond.
const UNQUEUED_SLICE: usize = 64;

/// The sizes of a turn.
#[derive(Clone, Copy, Debug)]
pub struct TurnSizes {
    /// Maximum bytes read from one connection per turn. The rest waits for the next turn, so that
    /// no client starves the others.
    pub read_bytes: usize,
    /// Growth of a connection's unsent bytes after which the machine receives another
    /// [`Input::Backlog`].
    pub backlog_step: usize,
    /// Minimum number of receivers of a message that is linked and written in slices. A smaller
    /// room is written at once: its last member waits for less than 1 ms.
    pub crowd: usize,
    /// Maximum number of members of crowds that one turn writes to. At 6 to 8 µs a send, a turn
    /// takes less than 1 ms, so a band on the same shard waits no longer for its tick.
    pub slice: usize,
    /// Maximum number of connections that one turn writes to. The bytes for others are copied, and
    /// written in the next turns. It is reached if very many members are sent away at once, or if
    /// the shard was stopped and hundreds of ticks are due.
    pub writes: usize,
    /// The time in which a turn should end while something ticks.
    pub budget: Micros,
}

impl TurnSizes {
    /// The sizes of a server.
    pub const PRODUCTION: Self = Self::within(Micros::from_millis(1));

    /// Returns the sizes of a server whose turns should take no longer than `budget`.
    #[must_use]
    pub const fn within(budget: Micros) -> Self {
        let slice = 96 * budget.as_micros() as usize / 1_000;
        Self {
            read_bytes: 64 * 1024,
            backlog_step: 64 * 1024,
            crowd: slice + slice / 3,
            slice,
            writes: 2 * slice,
            budget,
        }
    }
}

/// The state that a shard keeps from turn to turn: its machine and its connections.
pub struct Turn<N: Net, M: Machine> {
    id: ShardId,
    machine: M,
    backlog_step: usize,
    crowd: usize,
    slice: usize,
    budget: Micros,
    buffer: Vec<u8>,
    conns: Connections<N::Socket>,
    writer: Writer<N::Key>,
    closing: Closing,
    /// The outputs of this turn.
    out: Outputs,
    /// Number of outputs that are sorted onto their connections.
    sorted: usize,
    todo: Todo,
    /// Number of connections accepted since the drain was asked for.
    accepted_last: usize,
    /// Whether the machine was asked to drain.
    draining: bool,
    laps: Laps,
}

/// Connections and outputs that wait for their phase.
#[derive(Debug, Default)]
struct Todo {
    /// Connections to read from. A net reports input once, so a connection stays here until its
    /// socket is empty.
    ready: Vec<ConnId>,
    /// Connections whose backlog or end must be reported to the machine.
    notes: Vec<ConnId>,
    /// Connections that close after the turn's writes, some in each turn.
    flushing: VecDeque<ConnId>,
    leaving: Vec<Leaving>,
    /// Messages of the machine to other shards.
    messages: Vec<(ShardId, Span)>,
    /// Places in the outputs of requests to the host.
    asks: Vec<usize>,
    /// Places in the outputs of orders to the storage and to other nodes.
    orders: Vec<usize>,
    /// Answers to orders to other nodes that could not be queued. The machine receives them in the
    /// next turn: it may order again, which must not keep this turn from its end.
    unqueued: VecDeque<NodeNews>,
}

impl Todo {
    /// Whether nothing waits for a phase of the turn that is over. Outputs are cleared with the
    /// turn, so an index into them must not be kept.
    fn is_done(&self) -> bool {
        self.leaving.is_empty()
            && self.messages.is_empty()
            && self.asks.is_empty()
            && self.orders.is_empty()
    }
}

/// A connection that the machine hands over to another shard.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    conn: ConnId,
    to: ShardId,
    state: Span,
}

impl<N: Net, M: Machine> Turn<N, M> {
    /// Creates a shard without connections.
    pub fn new(id: ShardId, machine: M, sizes: TurnSizes) -> Self {
        Self {
            id,
            machine,
            backlog_step: sizes.backlog_step,
            crowd: sizes.crowd,
            buffer: vec![0; sizes.read_bytes],
            conns: Connections::default(),
            slice: sizes.slice,
            budget: sizes.budget,
            writer: Writer::new(sizes.writes),
            closing: Closing::default(),
            out: Outputs::default(),
            sorted: 0,
            todo: Todo::default(),
            accepted_last: 0,
            draining: false,
            laps: Laps::default(),
        }
    }

    /// Runs one turn: handles the reports in `ready`, waiting input, and all that is due.
    pub fn run<S: Shell<N, M>>(
        &mut self,
        net: &mut N,
        shell: &mut S,
        ready: impl Iterator<Item = Readiness>,
    ) {
        let due = self.begin(shell);
        for report in ready {
            self.report(net, shell, report);
        }
        let budget = match due.filter(|_| self.machine.is_ticking()) {
            Some(due) => Budget::before(due, self.laps.now, self.budget),
            None => Budget::at_leisure(self.laps.now, self.budget),
        };
        self.deliver_notes(
            net,
            shell,
            budget.share(Work::Note, self.laps.now, self.writer.touched()),
        );
        self.read_ready(net, shell, budget);
        self.laps.end(TurnPhase::Reads);
        self.accept_up_to(
            net,
            shell,
            budget.share(Work::Accept, self.laps.now, self.writer.touched()),
        );
        self.laps.end(TurnPhase::Accepts);
        let most = budget.share(Work::Mail, self.laps.now, self.writer.touched());
        shell.open_mailbox(most, |shell| self.take_one(net, shell));
        self.laps.end(TurnPhase::Mail);
        self.handle_process(net, shell);
        self.end_turn(net, shell);
        self.write(net, shell, budget.share(Work::Send, self.laps.now, self.writer.touched()));
        let closes = budget.share(Work::Close, self.laps.now, self.writer.touched());
        let leave = !self.todo.leaving.is_empty() || !self.todo.messages.is_empty();
        let close = !self.todo.flushing.is_empty() || self.closing.is_overdue(self.laps.now);
        // Without such work, the rest of the turn counts as writes, and needs no reading.
        if leave || close {
            self.read_clock(shell);
        }
        self.laps.end(TurnPhase::Writes);
        self.hand_over(net, shell);
        if leave {
            self.read_clock(shell);
            self.laps.end(TurnPhase::HandOvers);
        }
        self.close_up(net, shell, closes);
        if close {
            self.laps.end(TurnPhase::Closes);
        }
        debug_assert!(self.sorted == self.out.list.len(), "every output is sorted in its turn");
        debug_assert!(self.todo.is_done(), "work of a turn is left: {:?}", self.todo);
        self.out.clear();
        self.sorted = 0;
    }

    /// Returns the shard's machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Returns the shard's machine, so that its measurements can be taken.
    pub fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// Returns the number of connections, including those that are closing.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Whether bytes wait for later turns although their sockets may accept them.
    pub fn is_behind(&self) -> bool {
        self.writer.is_behind()
    }

    /// Returns the time at which the last turn began, in nanoseconds since the server's start.
    pub fn began(&self) -> u64 {
        self.laps.began
    }

    /// Returns the phase that took the longest part of the last turn, and its duration in
    /// nanoseconds. `ended` is the reading of the clock at the end of the turn.
    pub fn longest_phase(&self, ended: u64) -> (TurnPhase, u64) {
        self.laps.longest(ended)
    }

    /// Whether work is left that the net will not report, while `unposted` pieces of mail wait.
    pub fn has_work(&self, unposted: usize) -> bool {
        let reads = !self.todo.ready.is_empty() && !self.is_backed_up(unposted);
        let waits = !self.todo.notes.is_empty() || !self.todo.unqueued.is_empty();
        let ends = !self.todo.flushing.is_empty() || self.accepted_last > 0 && !self.draining;
        reads || waits || ends || self.writer.is_behind()
    }

    /// Returns the time at which a turn is due even if nothing is reported.
    pub fn next_deadline(&self) -> Option<Micros> {
        self.machine.next_deadline().into_iter().chain(self.closing.next_deadline()).min()
    }

    /// Reads the clock, and returns the machine's deadline. Counts the delay if it has passed.
    fn begin<S: Shell<N, M>>(&mut self, shell: &mut S) -> Option<Micros> {
        let due = self.machine.next_deadline();
        let began = self.read_clock(shell);
        self.laps.begin();
        if let Some(due) = due.filter(|due| *due <= began) {
            let stats = shell.stats();
            stats.alarms.add(1);
            stats.lateness.add(began.since(due).as_micros());
            stats.lateness_max.see(began.since(due).as_micros());
        }
        due
    }

    /// Reads the clock for the next input.
    fn read_clock<S: Shell<N, M>>(&mut self, shell: &mut S) -> Micros {
        self.laps.read(shell.nanos());
        self.laps.now
    }

    /// Passes an input to the machine right after the clock was read, and measures the time that it
    /// takes. That costs one more reading of the clock, about 25 ns.
    fn feed_measured<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S, input: Input<'_>) {
        shell.input(self.laps.now, &input, &self.machine);
        self.machine.handle(self.laps.now, input, &mut self.out);
        let took = self.laps.measure(shell.nanos());
        shell.measured(took);
        shell.outputs(&self.out, self.sorted, &self.machine);
        self.sort(net, shell);
    }

    /// Passes an input to the machine, and sorts its outputs.
    fn feed<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S, input: Input<'_>) {
        shell.input(self.laps.now, &input, &self.machine);
        self.machine.handle(self.laps.now, input, &mut self.out);
        shell.outputs(&self.out, self.sorted, &self.machine);
        self.sort(net, shell);
    }

    /// Sorts new outputs onto their connections and lists.
    fn sort<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S) {
        let fanouts = self.out.list[self.sorted..].iter().filter_map(|output| match output {
            // A crowd is fetched in slices.
            Output::Fanout { to, .. } if to.range().len() < self.crowd => {
                Some(&self.out.receivers[to.range()])
            }
            _ => None,
        });
        self.conns.fetch(fanouts.flatten().map(|id| id.index));
        while let Some(output) = self.out.list.get(self.sorted) {
            match *output {
                Output::Send { to, bytes } => {
                    if let Some(conn) = self.conns.open_mut(to) {
                        self.writer.link(to.index, conn, bytes, false);
                    }
                }
                Output::Fanout { to, bytes, volatile } => {
                    let receivers = &self.out.receivers[to.range()];
                    let later = receivers.len() >= self.crowd && {
                        let here = receivers.iter().filter(|id| self.conns.is_current(**id));
                        let text = &self.out.bytes[bytes.range()];
                        self.writer.link_later(text, volatile, here.map(|id| id.index))
                    };
                    for to in if later { &[] } else { receivers } {
                        if let Some(conn) = self.conns.open_mut(*to) {
                            self.writer.link(to.index, conn, bytes, volatile);
                        }
                    }
                }
                Output::Close { conn, how } => self.close(net, shell, conn, how),
                Output::HandOver { conn, to, state } => {
                    debug_assert!(to != self.id, "{conn} is handed over to its own shard");
                    if let Some(found) = self.conns.open_mut(conn) {
                        self.writer.catch_up(conn.index, found);
                        found.phase = Phase::Leaving;
                        self.todo.leaving.push(Leaving { conn, to, state });
                    }
                }
                Output::ShardMessage { to, message } => self.todo.messages.push((to, message)),
                Output::Request { .. } => self.todo.asks.push(self.sorted),
                Output::Load { .. }
                | Output::Store { .. }
                | Output::Forget { .. }
                | Output::Claim { .. }
                | Output::Commit { .. }
                | Output::Publish { .. }
                | Output::Announce { .. }
                | Output::Noted { .. }
                | Output::Release { .. } => {
                    self.todo.orders.push(self.sorted);
                }
            }
            self.sorted += 1;
        }
    }

    /// Closes a connection as the machine asks.
    fn close<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S, id: ConnId, how: Close) {
        let Some(conn) = self.conns.open_mut(id) else { return };
        match how {
            Close::Gently => {
                self.writer.catch_up(id.index, conn); // mark: crowd_left_behind
                conn.phase = Phase::Flushing;
                self.todo.flushing.push_back(id);
            }
            Close::Abort => self.abort(net, shell, id),
        }
    }

    /// Handles a report of the net.
    fn report<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S, report: Readiness) {
        match report {
            Readiness::Listener => net.report_listener(),
            Readiness::Mailbox => shell.report_mailbox(),
            Readiness::Connection { id, readable, writable, hangup } => {
                let Some(conn) = self.conns.get_mut(id) else { return };
                conn.hangup |= hangup;
                let readable = readable || conn.hangup;
                // mark: room_unused
                if writable {
                    self.writer.resume(net, conn);
                    self.update_interest(net, id);
                }
                if readable {
                    self.list_ready(id);
                }
            }
        }
    }

    fn list_ready(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && !std::mem::replace(&mut conn.ready, true)
        {
            self.todo.ready.push(id);
        }
    }

    /// Updates the interest in room, and the lists, after the unsent bytes of a connection changed
    /// or a write failed.
    fn update_interest(&mut self, net: &mut N, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let awaits_writable = !conn.unsent.is_empty();
        if awaits_writable != conn.awaits_writable {
            conn.broken |= net.await_writable(&mut conn.socket, id, awaits_writable).is_err();
            conn.awaits_writable = awaits_writable;
        }
        match conn.phase {
            Phase::Open if conn.broken => self.list_ready(id),
            Phase::Open => {
                if conn.backlog_change(self.backlog_step).is_some()
                    && !std::mem::replace(&mut conn.noted, true)
                {
                    self.todo.notes.push(id);
                }
            }
            Phase::Flushing if conn.broken || !awaits_writable => self.todo.flushing.push_back(id),
            Phase::Flushing | Phase::Leaving | Phase::Lingering => {}
        }
    }

    /// Reports to the machine the backlogs that the writes of the last turn left, the peers that
    /// ended their sides in it, and the orders to other nodes that found no room.
    ///
    /// At most `most` of the first two kinds: the sockets of very many slow readers may be full at
    /// once.
    fn deliver_notes<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S, most: usize) {
        if self.todo.notes.is_empty() && self.todo.unqueued.is_empty() {
            return;
        }
        let mut notes = std::mem::take(&mut self.todo.notes);
        for id in notes.drain(..most.min(notes.len())) {
            let Some(conn) = self.conns.get_mut(id) else { continue };
            conn.noted = false;
            if conn.phase != Phase::Open {
                continue;
            }
            if conn.ended {
                self.writer.catch_up(id.index, conn);
                conn.phase = Phase::Flushing;
                self.todo.flushing.push_back(id);
                self.feed(net, shell, Input::Closed { conn: id, cause: CloseCause::Ended });
                continue;
            }
            if let Some(steps) = conn.backlog_change(self.backlog_step) {
                conn.reported = steps;
                let bytes = conn.unsent.len() as u32; // mark: backlog_understated
                self.feed(net, shell, Input::Backlog { conn: id, bytes });
            }
        }
        assert!(self.todo.notes.is_empty(), "notes are taken while nothing is read or written");
        self.todo.notes = notes;
        for _ in 0..UNQUEUED_SLICE {
            let Some(news) = self.todo.unqueued.pop_front() else { break };
            self.feed(net, shell, Input::Node { news: &news });
        }
        self.read_clock(shell);
        self.laps.end(TurnPhase::Notes);
    }

    /// Reads once from every connection in the list, within the turn's budget.
    fn read_ready<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S, budget: Budget) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut ready = std::mem::take(&mut self.todo.ready);
        let (mut seen, mut unfinished) = (0, 0);
        while let Some(id) = ready.get(seen).copied()
            && !self.is_backed_up(shell.unposted())
            && budget.has_time(self.laps.now, self.writer.touched())
        {
            seen += 1;
            if self.read(net, shell, id, &mut buffer) {
                ready[unfinished] = id;
                unfinished += 1;
            } else if let Some(conn) = self.conns.get_mut(id) {
                conn.ready = false;
            }
        }
        // Connections that were not read this time come first next time.
        ready.drain(unfinished..seen);
        ready.rotate_left(unfinished);
        assert!(self.todo.ready.is_empty(), "nothing becomes ready while reading");
        self.todo.ready = ready;
        self.buffer = buffer;
    }

    /// Whether so much mail waits to leave that reading must stop, because input could add to it.
    fn is_backed_up(&self, unposted: usize) -> bool {
        let leaving = self.todo.leaving.len() + self.todo.messages.len();
        leaving >= LEAVING_MAX || leaving + unposted >= UNPOSTED_MAX
    }

    /// Reads from one connection. Returns true if input may be left.
    fn read<S: Shell<N, M>>(
        &mut self,
        net: &mut N,
        shell: &mut S,
        id: ConnId,
        buffer: &mut [u8],
    ) -> bool {
        let mut left = buffer.len();
        while left > 0 {
            let Some(conn) = self.conns.get_mut(id) else { return false };
            let open = match conn.phase {
                Phase::Open => true,
                Phase::Lingering => false,
                Phase::Leaving | Phase::Flushing => return false,
            };
            if conn.ended {
                return false;
            }
            let (broken, hangup) = (conn.broken, conn.hangup);
            match net.read(&mut conn.socket, &mut buffer[..left]) {
                Ok(0) => {
                    self.peer_ended(net, shell, id);
                    return false;
                }
                Ok(count) => {
                    debug_assert!(count <= left, "the net read {count} bytes into {left}");
                    self.read_clock(shell);
                    shell.stats().reads.add(1);
                    shell.stats().bytes_in.add(count as u64);
                    if open {
                        let bytes = &mut buffer[..count];
                        self.feed_measured(net, shell, Input::Received { conn: id, bytes });
                    }
                    // A read that leaves room has emptied the socket, and the net will report the
                    // next input. It does not report an end again, so reading goes on to that.
                    // mark: end_unread
                    if count < left && !hangup {
                        return false;
                    }
                    left -= count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && !broken => {
                    // A step of TLS's handshake takes time, which the budget must know of.
                    self.read_clock(shell);
                    return false;
                }
                Err(_) => {
                    self.failed(net, shell, id);
                    return false;
                }
            }
        }
        true
    }

    /// Handles the end of the peer's side. The machine learns of it in the next turn, when the
    /// answers to the input before it are written.
    fn peer_ended<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.ended = true;
        match conn.phase {
            Phase::Lingering => self.forget(net, shell, id),
            _ if conn.broken => self.failed(net, shell, id),
            _ => {
                if !std::mem::replace(&mut conn.noted, true) {
                    self.todo.notes.push(id);
                }
            }
        }
    }

    /// Removes a connection that broke, and reports that to the machine.
    fn failed<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S, id: ConnId) {
        let open = self.conns.open_mut(id).is_some();
        self.forget(net, shell, id);
        if open {
            self.feed(net, shell, Input::Closed { conn: id, cause: CloseCause::Failed });
        }
    }

    /// Removes a connection, and closes its socket.
    fn forget<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S, id: ConnId) {
        if let Some(conn) = self.take_out(shell, id) {
            net.close(conn.socket);
        }
    }

    /// Removes a connection, and resets it, so that the kernel discards bytes that it could not
    /// deliver.
    fn abort<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S, id: ConnId) {
        if let Some(conn) = self.take_out(shell, id) {
            net.reset(conn.socket);
        }
    }

    /// Removes a connection from the table and the counters.
    fn take_out<S: Shell<N, M>>(
        &mut self,
        shell: &mut S,
        id: ConnId,
    ) -> Option<Connection<N::Socket>> {
        let conn = self.conns.remove(id)?;
        self.writer.forget(id.index); // mark: crowd_follows_the_slot
        shell.stats().open.sub(1);
        shell.stats().unsent.sub(conn.unsent.len() as u64);
        Some(conn)
    }

    /// Accepts at most `count` connections. Returns whether more may wait.
    fn accept_up_to<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S, count: usize) -> bool {
        for _ in 0..count {
            match net.accept(self.laps.now, shell.stats()) {
                Accepted::Connection(socket, peer) => self.open(net, shell, socket, peer),
                Accepted::Skipped => {}
                Accepted::Empty => return false,
            }
        }
        true
    }

    fn open<S: Shell<N, M>>(
        &mut self,
        net: &mut N,
        shell: &mut S,
        socket: N::Socket,
        peer: IpAddr,
    ) {
        // The shutdown does not wait for connections that are accepted during the drain.
        let live = (!self.draining).then(|| shell.enter());
        let id = self.conns.insert(Connection::new(socket, peer, live));
        shell.stats().open.add(1);
        if !self.watch(net, id) {
            self.forget(net, shell, id);
            return;
        }
        shell.stats().accepted.add(1);
        self.read_clock(shell);
        self.feed(net, shell, Input::Opened { conn: id, peer });
    }

    fn watch(&mut self, net: &mut N, id: ConnId) -> bool {
        self.conns.get_mut(id).is_some_and(|conn| net.watch(&mut conn.socket, id).is_ok())
    }

    /// Handles one mail, one event of the storage, one piece of news from another node and one late
    /// answer. Returns whether there was any.
    fn take_one<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S) -> bool {
        let (mail, event, answer) = (shell.mail(), shell.storage(), shell.late_answer());
        let news = shell.node();
        let some = mail.is_some() || event.is_some() || news.is_some() || answer.is_some();
        match mail {
            Some(Mail::HandOver(hand_over)) => self.take_in(net, shell, *hand_over),
            Some(Mail::ShardMessage(message)) => {
                self.read_clock(shell);
                self.feed_measured(net, shell, Input::ShardMessage { message: &message });
            }
            None => {}
        }
        if let Some(event) = event {
            self.read_clock(shell);
            self.feed(net, shell, Input::Storage { event: &event });
        }
        if let Some(news) = news {
            self.read_clock(shell);
            self.feed_measured(net, shell, Input::Node { news: &news });
        }
        if let Some((conn, response)) = answer
            && self.conns.open_mut(conn).is_some()
        {
            self.read_clock(shell);
            self.feed_measured(net, shell, Input::Responded { conn, response });
        }
        some
    }

    /// Adds a connection from another shard.
    fn take_in<S: Shell<N, M>>(
        &mut self,
        net: &mut N,
        shell: &mut S,
        hand_over: HandOver<N::Socket>,
    ) {
        let HandOver { socket, peer, unsent, state, live } = hand_over;
        let mut conn = Connection::new(socket, peer, live);
        conn.unsent = unsent;
        shell.stats().unsent.add(conn.unsent.len() as u64);
        let id = self.conns.insert(conn);
        shell.stats().open.add(1);
        shell.stats().arrived.add(1);
        let watched = self.watch(net, id);
        self.read_clock(shell);
        self.feed_measured(net, shell, Input::Arrived { conn: id, peer, state: &state });
        if watched {
            self.update_interest(net, id);
        } else {
            // The machine must take up the member first, and then learn that its connection broke.
            self.failed(net, shell, id);
        }
    }

    /// Reports changes of the process to the machine, and starts to drain when the server ends.
    ///
    /// Connections that wait at the listener are accepted first, some in each turn, so that they
    /// receive a goodbye. Later ones are accepted and answered as long as the drain lasts.
    fn handle_process<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S) {
        let Process { started_unix_ms, memory, drain } = shell.process(self.laps.now);
        if let Some(started_unix_ms) = started_unix_ms {
            self.feed(net, shell, Input::WallClock { started_unix_ms });
        }
        if let Some(memory) = memory {
            self.feed(net, shell, Input::Memory(memory));
            // Repeated each second: most memory becomes free later, when members have left. It takes
            // milliseconds and cannot be divided, but without it a server in need stays in need
            // while music plays.
            if memory != FreeMemory::Enough {
                shell.trim();
            }
        }
        if drain && !self.draining {
            if self.accepted_last == 0 {
                net.report_listener();
            }
            let may_wait = self.accept_up_to(net, shell, ACCEPT_LAST_SLICE);
            self.accepted_last += ACCEPT_LAST_SLICE;
            if may_wait && self.accepted_last < ACCEPT_LAST_MAX {
                return;
            }
            self.draining = true;
            shell.stopped();
            self.feed(net, shell, Input::Drain);
        }
    }

    /// Has questions answered, and lets the machine end its turn, until it asks nothing more.
    fn end_turn<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S) {
        loop {
            let mut next = 0;
            while let Some(index) = self.todo.asks.get(next) {
                let index = *index;
                next += 1;
                self.answer(net, shell, index);
            }
            self.todo.asks.clear();
            self.read_clock(shell);
            self.laps.end(TurnPhase::Host);
            self.feed_measured(net, shell, Input::TurnEnded);
            self.laps.end(TurnPhase::Timers);
            self.pass_orders(net, shell);
            if self.todo.asks.is_empty() {
                return;
            }
        }
    }

    /// Passes the machine's orders to the storage and to other nodes. An order that finds no room
    /// at the storage is answered at once, another in a later turn.
    ///
    /// They have no bound here, because they follow from other work of the turn that has one: loads
    /// and orders to nodes from what was read or came by mail, and records, of which the machine
    /// makes 1 MiB at most per turn. Passing one copies its bytes into a queue.
    fn pass_orders<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S) {
        let mut next = 0;
        while let Some(index) = self.todo.orders.get(next) {
            let order = self.out.list.get(*index);
            let unqueued = order.and_then(|output| self.tell_nodes(shell, output));
            let rejection = order.and_then(|output| self.pass_order(shell, output));
            next += 1;
            self.todo.unqueued.extend(unqueued);
            if let Some(event) = rejection {
                self.feed(net, shell, Input::Storage { event: &event });
            }
        }
        if next > 0 {
            self.read_clock(shell);
            self.laps.end(TurnPhase::Orders);
        }
        self.todo.orders.clear();
    }

    /// Passes one order to the storage. If the storage rejects it, returns the event for the
    /// machine.
    fn pass_order<S: Shell<N, M>>(&self, shell: &mut S, output: &Output) -> Option<StorageEvent> {
        match output {
            Output::Load { session } if !shell.store(Order::Load(session)) => {
                Some(StorageEvent::Loaded { session: session.clone(), found: LoadResult::Unknown })
            }
            Output::Store { session, epoch, version, record } => {
                let (epoch, version) = (*epoch, *version);
                let record = &self.out.bytes[record.range()];
                let rejected = !shell.store(Order::Store { session, epoch, version, record });
                let outcome = StoreResult::Rejected;
                let session = session.clone();
                rejected.then_some(StorageEvent::Stored { session, epoch, version, outcome })
            }
            Output::Forget { session, epoch } => {
                // If it is rejected, the record expires in the storage.
                shell.store(Order::Forget { session, epoch: *epoch });
                None
            }
            _ => None,
        }
    }

    /// Passes an order to other nodes. If it cannot be queued, returns the answer for the machine.
    fn tell_nodes<S: Shell<N, M>>(&self, shell: &mut S, output: &Output) -> Option<NodeNews> {
        let bytes = |span: &Span| &self.out.bytes[span.range()];
        match output {
            Output::Claim { session, expected, floor } => {
                let order = NodeOrder::Claim { session, expected: *expected, floor: *floor };
                let outcome = ClaimOutcome::Unknown;
                (!shell.tell_nodes(order))
                    .then(|| NodeNews::Claimed { session: session.clone(), outcome })
            }
            Output::Commit { session, epoch, version, record, branches, head, tail, to } => {
                let (epoch, version) = (*epoch, *version);
                let order = NodeOrder::Commit {
                    session,
                    epoch,
                    version,
                    record: bytes(record),
                    branches: bytes(branches),
                    head: bytes(head),
                    tail: bytes(tail),
                    to,
                };
                let (session, outcome) = (session.clone(), CommitOutcome::Unsent);
                (!shell.tell_nodes(order)).then_some(NodeNews::Committed {
                    session,
                    epoch,
                    version,
                    outcome,
                })
            }
            Output::Publish { session, to, body } => {
                let order = NodeOrder::Publish { session, to, body: bytes(body) };
                let session = Some(session.clone());
                (!shell.tell_nodes(order)).then(|| NodeNews::Unheard { session, to: to.clone() })
            }
            Output::Announce { to, body } => {
                let order = NodeOrder::Announce { to, body: bytes(body) };
                (!shell.tell_nodes(order))
                    .then(|| NodeNews::Unheard { session: None, to: to.clone() })
            }
            // Whoever waits for these asks again or waits until the lease has ended.
            Output::Noted { revision } => {
                shell.tell_nodes(NodeOrder::Noted { revision: *revision });
                None
            }
            Output::Release { session, epoch } => {
                shell.tell_nodes(NodeOrder::Release { session, epoch: *epoch });
                None
            }
            _ => None,
        }
    }

    /// Has the host answer the request at this index of the outputs, if its connection is still
    /// open.
    fn answer<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S, index: usize) {
        let Some(Output::Request { conn, request }) = self.out.list.get(index) else { return };
        let conn = *conn;
        if self.conns.open_mut(conn).is_some()
            && let Some(response) = shell.answer(Asker { shard: self.id, conn }, request)
        {
            self.read_clock(shell);
            self.feed_measured(net, shell, Input::Responded { conn, response });
        }
    }

    /// Writes what earlier turns left over, and the chains of this turn, with a slice of those of
    /// crowds: `most` connections of what may wait.
    fn write<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S, most: usize) {
        let slice = most.min(self.slice);
        for _ in 0..slice {
            let Some(id) = self.writer.next_left_over() else { break };
            self.write_left_over(net, id);
        }
        self.writer.link_slice(&mut self.conns, slice);
        self.stamp(shell);
        self.writer.flush(net, &mut self.conns, &self.out.bytes, shell.stats());
        let mut troubled = std::mem::take(&mut self.writer.troubled);
        for id in troubled.drain(..) {
            self.update_interest(net, id);
        }
        self.writer.troubled = troubled;
    }

    /// Writes the bytes of a connection that an earlier turn had no time for.
    fn write_left_over(&mut self, net: &mut N, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        // If the net reports room, it is written then.
        if conn.unsent.is_empty() || conn.awaits_writable {
            return;
        }
        self.writer.resume(net, conn);
        let closes = conn.phase == Phase::Flushing && !conn.unsent.is_empty();
        self.update_interest(net, id);
        if closes {
            // It now waits for its peer, for which it has limited time.
            self.todo.flushing.push_back(id);
        }
    }

    /// Writes the present time into the messages that ask for their time of sending, and moves
    /// their connections to the front, so that it holds.
    fn stamp<S: Shell<N, M>>(&mut self, shell: &mut S) {
        if self.out.stamps.is_empty() {
            return;
        }
        let now = self.read_clock(shell);
        for Stamp { to, digits } in self.out.stamps.drain(..) {
            Stamp::write(&mut self.out.bytes[digits.range()], now);
            self.writer.send_first(to.index);
        }
    }

    /// Hands over connections to other shards, with their unsent bytes, after the machine's
    /// messages.
    fn hand_over<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S) {
        for (to, message) in self.todo.messages.drain(..) {
            shell.post(to, Mail::ShardMessage(self.out.bytes[message.range()].into()));
        }
        for Leaving { conn: id, to, state } in std::mem::take(&mut self.todo.leaving) {
            let Some(conn) = self.take_out(shell, id) else { continue };
            shell.stats().departed.add(1);
            let hand_over = HandOver {
                socket: net.unwatch(id, conn.socket),
                peer: conn.peer,
                unsent: conn.unsent, // mark: unsent_left_behind
                state: self.out.bytes[state.range()].into(),
                live: conn.live,
            };
            shell.post(to, Mail::HandOver(Box::new(hand_over)));
        }
        shell.deliver();
    }

    /// Moves closing connections to their next step, and cuts off overdue ones, at most `most` of
    /// each. The turn's writes are done, so a connection without unsent bytes has sent everything.
    fn close_up<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S, most: usize) {
        for _ in 0..most {
            let Some(id) = self.todo.flushing.pop_front() else { break };
            self.finish_flush(net, shell, id);
        }
        for _ in 0..most {
            let Some((phase, id)) = self.closing.overdue(self.laps.now) else { break };
            if self.conns.get_mut(id).is_some_and(|conn| conn.phase == phase) {
                self.abort(net, shell, id);
            }
        }
    }

    /// Shuts down our side of a connection if all its bytes are written, and sets the deadline of
    /// the next step.
    fn finish_flush<S: Shell<N, M>>(&mut self, net: &mut N, shell: &mut S, id: ConnId) {
        let conn = self.conns.get_mut(id);
        let Some(conn) = conn.filter(|conn| conn.phase == Phase::Flushing) else { return };
        // mark: closed_before_sent
        if !conn.broken && !conn.unsent.is_empty() {
            // A connection whose bytes wait for a later turn comes back after that.
            if conn.awaits_writable {
                self.closing.flush(self.laps.now, id);
            }
        } else if conn.broken || conn.ended || net.shut_down(&conn.socket).is_err() {
            self.forget(net, shell, id);
        } else {
            // The peer's input is still read. Otherwise the kernel would reset the connection, and
            // the peer could lose bytes that it has not read yet.
            conn.phase = Phase::Lingering;
            self.closing.linger(self.laps.now, id);
            self.list_ready(id);
        }
    }
}
