//! A shard's thread: one loop around poll, in turns.
//!
//! A turn: poll · what the last turn left to tell · readable sockets · the listener · mail · the
//! wall clock · answers to questions · [`Input::TurnEnded`] · orders for the storage · one write
//! per connection touched · hand-overs and closes. Outputs are sorted onto their connections right
//! after the input that made them, so that a connection that was closed hears of nothing that comes
//! later in the turn.
//!
//! Every input carries the time at which the driver learned of it: bytes that of their own read.

use std::io::{self, ErrorKind, Read};
use std::net::{self, IpAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bandsync_engine::engine::departure::Manner;
use bandsync_engine::engine::measure::Measure;
use bandsync_engine::io::{
    Cause, Close, Found, Input, Memory, Outcome, Output, Outputs, Span, StorageNews,
};
use bandsync_engine::words::ids::{ConnId, ShardId};
use bandsync_engine::words::time::Micros;
use log::Level;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use crate::accept::{Accept, Accepted};
use crate::budget::Budget;
use crate::clock::Clock;
use crate::closing::Closing;
use crate::connections::{Connection, Connections, Phase, id, token};
use crate::host::{Asker, Host, Order};
use crate::machine::Machine;
use crate::mail::{HandOver, Mail, Mailbox, Outbox};
use crate::metrics::{Board, Stats};
use crate::shutdown::Shutdown;
use crate::tap::Tap;
use crate::telemetry::{Gauges, HAND_OVER_INTERVAL};
use crate::timer_fd::TimerFd;
use crate::writer::Writer;

/// Tokens that no connection has: there are never so many.
pub(crate) const LISTENER: Token = Token(usize::MAX);
pub(crate) const WAKER: Token = Token(usize::MAX - 1);
pub(crate) const TIMER: Token = Token(usize::MAX - 2);

/// Reports taken from epoll at once.
const EVENTS_MAX: usize = 1_024;

/// Connections accepted at last, when the server drains: as many as the kernel keeps for us.
const ACCEPT_LAST_MAX: usize = 4_096;

/// How long connections wait for another try at a mailbox that is full, if nothing else happens.
const POST_RETRY: Micros = Micros::from_millis(1);

/// While so many connections and letters wait to leave, nothing is read. Mail is still taken in, or
/// two shards could wait for each other for ever.
const UNPOSTED_MAX: usize = 256;

/// How often the wall clock is looked at.
const WALL_INTERVAL: Micros = Micros::from_secs(10);

/// How often the thread's memory that is free is given back to the system while no band plays. The
/// allocator does so only when somebody asks it for more, which may be never: after ten thousand
/// have joined at once and wait for the music. Then it takes some milliseconds, which is why a band
/// is not disturbed for it.
const TRIM_INTERVAL: Micros = Micros::from_secs(30);

/// How far the wall clock must have moved for the machine to be told, in microseconds.
const WALL_STEP: u64 = 2_000;

/// Everything that a shard's thread owns.
pub(crate) struct Shard<M: Machine> {
    pub(crate) parts: Parts<M>,
    poll: Poll,
    timer: TimerFd,
    accept: Option<Accept>,
    conns: Connections,
    writer: Writer,
    closing: Closing,
    /// What the machine wants done in this turn, and how much of it is sorted already.
    out: Outputs,
    sorted: usize,
    /// Connections to read from: epoll reports readability once, so they stay here until nothing is
    /// left.
    ready: Vec<ConnId>,
    /// Connections whose backlog or end the machine is to be told of.
    notes: Vec<ConnId>,
    /// Connections to look at when everything is written, because they close.
    flushing: Vec<ConnId>,
    leaving: Vec<Leaving>,
    /// What the machine writes to other shards.
    letters: Vec<(ShardId, Span)>,
    /// Places of questions in the outputs.
    asks: Vec<usize>,
    /// Places of orders for the storage in the outputs.
    orders: Vec<usize>,
    /// Whether the waker woke us in this turn.
    woken: bool,
    /// Whether mail may be waiting, without another wake-up.
    mail_waits: bool,
    wall: Wall,
    /// By when to end, once the machine was told to drain.
    until: Option<Micros>,
    /// Whether the machine's counters are still to be shown.
    unpublished: bool,
    /// Whether the other shards were told that all may end.
    told_end: bool,
    /// What is being measured, when it is handed over, and when memory is given back.
    gauges: Box<Gauges>,
    hand_over: Micros,
    trim: Micros,
    memory: Memory,
    /// The last reading of the clock, and the same in nanoseconds.
    now: Micros,
    nanos: u64,
}

/// What a shard is made of and connected to.
pub(crate) struct Parts<M: Machine> {
    pub(crate) id: ShardId,
    pub(crate) clock: Clock,
    pub(crate) machine: M,
    pub(crate) tap: Box<dyn Tap>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) board: Arc<Board<M::Counters>>,
    pub(crate) shutdown: Arc<Shutdown>,
    pub(crate) mailbox: Mailbox,
    pub(crate) outbox: Outbox,
    pub(crate) read_bytes: usize,
    /// Whether sends go through io_uring, where the kernel has it.
    pub(crate) ring: bool,
}

/// A connection that the machine gives to another shard.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    conn: ConnId,
    to: ShardId,
    parcel: Span,
}

/// What the machine knows of the wall clock.
#[derive(Debug)]
struct Wall {
    /// Unix time at the start, in microseconds, as last told.
    told: i64,
    /// When to look again.
    next: Micros,
}

/// How a shard ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Nothing was left.
    Drained,
    /// The time was over; so many connections were cut.
    Cut {
        /// Connections on this shard, or waiting to leave it.
        connections: usize,
    },
    /// It met a bug of ours. The other shards were asked to drain.
    Panicked,
}

impl<M: Machine> Shard<M> {
    pub(crate) fn new(
        parts: Parts<M>,
        poll: Poll,
        listener: std::net::TcpListener,
    ) -> io::Result<Self> {
        let timer = TimerFd::new(parts.clock, poll.registry(), TIMER)?;
        let accept = Accept::new(listener, poll.registry(), LISTENER)?;
        let wall = Wall {
            told: parts.clock.started_unix_micros(),
            next: parts.clock.now() + WALL_INTERVAL,
        };
        let now = parts.clock.now();
        let gauges = parts.board.exchange(parts.id).empty().unwrap_or_default();
        let writer = if parts.ring { Writer::with_ring() } else { Writer::default() };
        Ok(Self {
            parts,
            poll,
            timer,
            accept: Some(accept),
            conns: Connections::default(),
            writer,
            closing: Closing::default(),
            out: Outputs::default(),
            sorted: 0,
            ready: Vec::new(),
            notes: Vec::new(),
            flushing: Vec::new(),
            leaving: Vec::new(),
            letters: Vec::new(),
            asks: Vec::new(),
            orders: Vec::new(),
            woken: false,
            mail_waits: false,
            wall,
            until: None,
            unpublished: false,
            told_end: false,
            gauges,
            hand_over: now + HAND_OVER_INTERVAL,
            trim: now + TRIM_INTERVAL,
            memory: Memory::Enough,
            now,
            nanos: 0,
        })
    }

    /// Runs until everything has drained, or the time for that is over.
    pub(crate) fn run(mut self) -> End {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut buffer = vec![0; self.parts.read_bytes];
        loop {
            let due = self.sleep(&mut events);
            self.turn(&events, &mut buffer, due);
            if let Some(end) = self.end() {
                return end;
            }
        }
    }

    /// Waits until something happens or is due. Returns when the machine wanted to be woken.
    fn sleep(&mut self, events: &mut Events) -> Option<Micros> {
        let due = self.parts.machine.next_deadline();
        let deadline = self.next_deadline(due);
        let busy = self.has_work() || deadline.is_some_and(|deadline| deadline <= self.now);
        if !busy {
            let result = self.timer.set(deadline);
            assert!(result.is_ok(), "the timer cannot be set: {result:?}");
        }
        match self.poll.poll(events, busy.then_some(Duration::ZERO)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
            Err(error) => panic!("poll fails: {error}"),
        }
        due
    }

    /// Whether something is left to be done that nothing will wake us for.
    fn has_work(&self) -> bool {
        let reads = !self.ready.is_empty() && !self.is_backed_up();
        let accepts = self.accept.as_ref().is_some_and(Accept::is_ready);
        reads || accepts || self.mail_waits || !self.notes.is_empty()
    }

    /// When to wake if nothing happens, given when the machine wants to.
    fn next_deadline(&self, due: Option<Micros>) -> Option<Micros> {
        let retry = !self.parts.outbox.is_empty() || self.unpublished;
        let all = [
            due,
            Some(self.wall.next),
            Some(self.hand_over),
            self.closing.next_deadline(),
            self.accept.as_ref().and_then(Accept::resumes),
            retry.then(|| self.now + POST_RETRY),
            self.until,
        ];
        all.into_iter().flatten().min()
    }

    fn turn(&mut self, events: &Events, buffer: &mut [u8], due: Option<Micros>) {
        let began = self.look_at_clock();
        let began_nanos = self.nanos;
        self.timer.passed(began);
        if let Some(due) = due.filter(|due| *due <= began) {
            self.stats().alarms.add(1);
            self.stats().lateness.add(began.since(due).as_micros());
            self.stats().lateness_max.see(began.since(due).as_micros());
        }
        for event in events {
            self.report(event);
        }
        self.tell_notes();
        let budget = match due.filter(|_| self.parts.machine.is_ticking()) {
            Some(due) => Budget::before(due, self.now),
            None => Budget::at_leisure(self.now),
        };
        self.read_ready(buffer, budget);
        self.accept_waiting(budget);
        self.open_mail(budget);
        self.look_at_wall_clock();
        self.look_at_memory();
        self.heed_end();
        self.end_turn();
        self.write();
        self.hand_over();
        self.close_up();
        self.out.clear();
        self.sorted = 0;
        self.unpublished = !self.parts.board.publish(self.parts.id, self.parts.machine.counters());
        let took = self.look_at_clock().since(began);
        self.stats().turns.add(1);
        self.stats().turn_time.add(took.as_micros());
        self.stats().turn_time_max.see(took.as_micros());
        self.tell_departures();
        self.measure(began_nanos);
    }

    /// Notes what this turn measured. Once a second hands it over, and hears how much memory is
    /// left.
    fn measure(&mut self, began_nanos: u64) {
        let gauges = &mut *self.gauges;
        gauges.turn.saturating_record(self.nanos.saturating_sub(began_nanos));
        self.parts.machine.measures(|what, value| {
            let gauge = match what {
                Measure::TickLateness => &mut gauges.tick_lateness,
                Measure::RoundTrip => &mut gauges.round_trip,
            };
            gauge.saturating_record(value.as_micros().saturating_mul(1_000));
        });
        if self.now < self.hand_over {
            return;
        }
        self.hand_over = self.now + HAND_OVER_INTERVAL;
        if self.now >= self.trim && gauges.tick_lateness.is_empty() {
            self.trim = self.now + TRIM_INTERVAL;
            self.parts.host.trim();
        }
        let (id, board) = (self.parts.id, &self.parts.board);
        board.exchange(id).swap(&mut self.gauges);
        board.write_roster(id, self.now, |out| self.parts.machine.roster(out));
    }

    /// Tells in the log which connections ended and why: people look for that when somebody says
    /// that the tablet lost the band.
    fn tell_departures(&mut self) {
        self.parts.machine.departures(|departure| {
            let (conn, peer, why) = (departure.conn, departure.peer, departure.why);
            let (level, verb) = match departure.manner {
                Manner::Left => (Level::Debug, "closed"),
                Manner::Expelled => (Level::Info, "expelled"),
                // A line of its own, of which the log keeps count by itself.
                Manner::Misconfigured => return log::warn!(peer:%; "{why}"),
            };
            match departure.session {
                Some(session) => {
                    log::log!(level, conn:%, session = session.as_str(), peer:%; "connection {verb}: {why}");
                }
                None => log::log!(level, conn:%, peer:%; "connection {verb}: {why}"),
            }
        });
    }

    /// Tells the machine how much memory is left, if that has changed, and again while there is too
    /// little.
    fn look_at_memory(&mut self) {
        let memory = self.parts.board.memory();
        let scarce = memory != Memory::Enough;
        if memory != self.memory || (scarce && self.now >= self.hand_over) {
            self.memory = memory;
            self.feed(Input::Memory(memory));
            if scarce {
                // Each time: what can be let go is mostly let go later, when members have left.
                self.parts.host.trim();
            }
        }
    }

    fn look_at_clock(&mut self) -> Micros {
        self.nanos = self.parts.clock.nanos();
        self.now = Micros::from_micros(self.nanos / 1_000);
        self.now
    }

    fn stats(&self) -> &Stats {
        self.parts.board.stats(self.parts.id)
    }

    /// Gives the machine an input right after the clock was looked at, and measures how long it
    /// took. One more look at the clock, some 25 ns.
    fn feed_measured(&mut self, input: Input<'_>) {
        self.parts.tap.input(self.now, &input);
        self.parts.machine.handle(self.now, input, &mut self.out);
        let took = self.parts.clock.nanos().saturating_sub(self.nanos);
        self.gauges.handler.saturating_record(took);
        self.parts.tap.outputs(&self.out, self.sorted);
        self.sort();
    }

    /// Gives the machine an input, and sorts what it wants done.
    fn feed(&mut self, input: Input<'_>) {
        self.parts.tap.input(self.now, &input);
        self.parts.machine.handle(self.now, input, &mut self.out);
        self.parts.tap.outputs(&self.out, self.sorted);
        self.sort();
    }

    /// Sorts new outputs onto the connections and lists that they concern.
    fn sort(&mut self) {
        let fanouts = self.out.list[self.sorted..].iter().filter_map(|output| match output {
            Output::Fanout { to, .. } => Some(&self.out.receivers[to.range()]),
            _ => None,
        });
        self.conns.fetch(fanouts.flatten());
        while let Some(output) = self.out.list.get(self.sorted) {
            match *output {
                Output::Send { to, bytes } => {
                    if let Some(conn) = self.conns.open_mut(to) {
                        self.writer.link(to.index, conn, bytes, false);
                    }
                }
                Output::Fanout { to, bytes, volatile } => {
                    for to in &self.out.receivers[to.range()] {
                        if let Some(conn) = self.conns.open_mut(*to) {
                            self.writer.link(to.index, conn, bytes, volatile);
                        }
                    }
                }
                Output::Close { conn, how } => self.close(conn, how),
                Output::HandOver { conn, to, parcel } => {
                    if let Some(found) = self.conns.open_mut(conn) {
                        found.phase = Phase::Leaving;
                        self.leaving.push(Leaving { conn, to, parcel });
                    }
                }
                Output::Letter { to, letter } => self.letters.push((to, letter)),
                Output::Ask { .. } => self.asks.push(self.sorted),
                Output::Load { .. } | Output::Store { .. } | Output::Forget { .. } => {
                    self.orders.push(self.sorted);
                }
            }
            self.sorted += 1;
        }
    }

    /// Closes a connection for the machine.
    fn close(&mut self, id: ConnId, how: Close) {
        let Some(conn) = self.conns.open_mut(id) else { return };
        match how {
            Close::Gently => {
                conn.phase = Phase::Flushing;
                self.flushing.push(id);
            }
            Close::Abort => self.abort(id),
        }
    }

    /// Takes in what epoll reports.
    fn report(&mut self, event: &Event) {
        match event.token() {
            LISTENER => {
                if let Some(accept) = &mut self.accept {
                    accept.report();
                }
            }
            WAKER => self.woken = true,
            TIMER => {}
            token => self.report_conn(id(token), event),
        }
    }

    fn report_conn(&mut self, id: ConnId, event: &Event) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.hangup |= event.is_read_closed() || event.is_write_closed() || event.is_error();
        let readable = event.is_readable() || conn.hangup;
        if event.is_writable() {
            self.writer.resume(conn);
            self.update_interest(id);
        }
        if readable {
            self.list_ready(id);
        }
    }

    fn list_ready(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && !std::mem::replace(&mut conn.ready, true)
        {
            self.ready.push(id);
        }
    }

    /// Draws the consequences when a connection's unsent bytes became more or fewer, or a write
    /// failed.
    fn update_interest(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let awaits_room = !conn.unsent.is_empty();
        if awaits_room != conn.awaits_room {
            let interest = if awaits_room {
                Interest::READABLE | Interest::WRITABLE
            } else {
                Interest::READABLE
            };
            conn.broken |=
                self.poll.registry().reregister(&mut conn.socket, token(id), interest).is_err();
            conn.awaits_room = awaits_room;
        }
        match conn.phase {
            Phase::Open if conn.broken => self.list_ready(id),
            Phase::Open => {
                if conn.backlog_change().is_some() && !std::mem::replace(&mut conn.noted, true) {
                    self.notes.push(id);
                }
            }
            Phase::Flushing if conn.broken || !awaits_room => self.flushing.push(id),
            Phase::Flushing | Phase::Leaving | Phase::Lingering => {}
        }
    }

    /// Tells the machine what came of the writes of the last turn, and which peers ended in it.
    fn tell_notes(&mut self) {
        let mut notes = std::mem::take(&mut self.notes);
        for id in notes.drain(..) {
            let Some(conn) = self.conns.get_mut(id) else { continue };
            conn.noted = false;
            if conn.phase != Phase::Open {
                continue;
            }
            if conn.ended {
                conn.phase = Phase::Flushing;
                self.flushing.push(id);
                self.feed(Input::Closed { conn: id, cause: Cause::Ended });
                continue;
            }
            if let Some(mark) = conn.backlog_change() {
                conn.told = mark;
                let bytes = conn.unsent.len() as u32;
                self.feed(Input::Backlog { conn: id, bytes });
            }
        }
        assert!(self.notes.is_empty(), "notes are taken while nothing is read or written");
        self.notes = notes;
    }

    /// Reads from every connection that has something, once round, within the turn's bounds.
    fn read_ready(&mut self, buffer: &mut [u8], budget: Budget) {
        let mut ready = std::mem::take(&mut self.ready);
        let (mut heard, mut unfinished) = (0, 0);
        while let Some(id) = ready.get(heard).copied()
            && !self.is_backed_up()
            && budget.has_time(self.now, self.writer.touched())
        {
            heard += 1;
            if self.read(id, buffer) {
                ready[unfinished] = id;
                unfinished += 1;
            } else if let Some(conn) = self.conns.get_mut(id) {
                conn.ready = false;
            }
        }
        // Who was not heard this time is the first next time.
        ready.drain(unfinished..heard);
        ready.rotate_left(unfinished);
        assert!(self.ready.is_empty(), "nothing becomes ready while reading");
        self.ready = ready;
    }

    /// Whether so much mail waits to leave that no byte should be read that might add to it.
    fn is_backed_up(&self) -> bool {
        self.leaving.len() + self.letters.len() + self.parts.outbox.len() >= UNPOSTED_MAX
    }

    /// Reads from one connection. True if there may be more.
    fn read(&mut self, id: ConnId, buffer: &mut [u8]) -> bool {
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
            match conn.socket.read(&mut buffer[..left]) {
                Ok(0) => {
                    self.peer_ended(id);
                    return false;
                }
                Ok(count) => {
                    self.look_at_clock();
                    self.stats().reads.add(1);
                    self.stats().bytes_in.add(count as u64);
                    if open {
                        self.feed_measured(Input::Received {
                            conn: id,
                            bytes: &mut buffer[..count],
                        });
                    }
                    // A read that leaves room has emptied the socket, and epoll will report what
                    // comes next; an end that was reported already it will not report again.
                    if count < left && !hangup {
                        return false;
                    }
                    left -= count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && !broken => return false,
                Err(_) => {
                    self.failed(id);
                    return false;
                }
            }
        }
        true
    }

    /// The peer ended its side. The machine hears of it when the answers to what came before are
    /// written.
    fn peer_ended(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.ended = true;
        match conn.phase {
            Phase::Lingering => self.forget(id),
            _ if conn.broken => self.failed(id),
            _ => {
                if !std::mem::replace(&mut conn.noted, true) {
                    self.notes.push(id);
                }
            }
        }
    }

    /// The connection broke.
    fn failed(&mut self, id: ConnId) {
        let open = self.conns.open_mut(id).is_some();
        self.forget(id);
        if open {
            self.feed(Input::Closed { conn: id, cause: Cause::Failed });
        }
    }

    /// Takes a connection out and closes its socket, which takes it out of epoll as well.
    fn forget(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.remove(id) {
            self.stats().open.sub(1);
            self.stats().unsent.sub(conn.unsent.len() as u64);
            if let Some(accept) = &mut self.accept {
                accept.freed();
            }
        }
    }

    /// Takes a connection out and resets it, so that the kernel forgets what it could not deliver.
    fn abort(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            // If that is refused, an ordinary close is all that is left to do.
            let _ = SockRef::from(&conn.socket).set_linger(Some(Duration::ZERO));
        }
        self.forget(id);
    }

    fn accept_waiting(&mut self, budget: Budget) {
        let now = self.now;
        if let Some(accept) = &mut self.accept {
            accept.wake(now);
        }
        self.accept_up_to(budget.accepts);
    }

    fn accept_up_to(&mut self, count: usize) {
        for _ in 0..count {
            let Some(accept) = &mut self.accept else { return };
            match accept.accept(self.now, self.parts.board.stats(self.parts.id)) {
                Accepted::Connection(socket, peer) => self.open(socket, peer),
                Accepted::Nobody => {}
                Accepted::Enough => return,
            }
        }
    }

    fn open(&mut self, socket: TcpStream, peer: IpAddr) {
        let id = self.conns.insert(Connection::new(socket, peer, self.parts.shutdown.enter()));
        self.stats().open.add(1);
        if !self.register(id) {
            self.forget(id);
            return;
        }
        self.stats().accepted.add(1);
        self.look_at_clock();
        self.feed(Input::Opened { conn: id, peer });
    }

    /// Has epoll report on a connection, beginning with what is there already.
    fn register(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        self.poll.registry().register(&mut conn.socket, token(id), Interest::READABLE).is_ok()
    }

    fn open_mail(&mut self, budget: Budget) {
        let woken = std::mem::take(&mut self.woken);
        if !woken && !self.mail_waits {
            return;
        }
        let waiting = self.parts.mailbox.len() as u64;
        if waiting > 0 {
            self.gauges.queue.saturating_record(waiting);
            self.stats().mail_max.see(waiting);
        }
        self.mail_waits =
            self.parts.mailbox.notifier().look(woken, budget.mail, || self.open_one());
    }

    /// Takes in one piece of mail, one of the storage's news and one late answer. Returns whether
    /// there was any.
    fn open_one(&mut self) -> bool {
        let mail = self.parts.mailbox.take();
        let news = self.parts.mailbox.take_news();
        let answer = self.parts.mailbox.take_answer();
        let some = mail.is_some() || news.is_some() || answer.is_some();
        match mail {
            Some(Mail::HandOver(hand_over)) => self.take_in(*hand_over),
            Some(Mail::Letter(letter)) => {
                self.look_at_clock();
                self.feed_measured(Input::Letter { letter: &letter });
            }
            None => {}
        }
        if let Some(news) = news {
            self.look_at_clock();
            self.feed(Input::Storage { news: &news });
        }
        if let Some((conn, answer)) = answer
            && self.conns.open_mut(conn).is_some()
        {
            self.look_at_clock();
            self.feed_measured(Input::Answered { conn, answer });
        }
        some
    }

    /// Takes in a connection from another shard.
    fn take_in(&mut self, hand_over: HandOver) {
        let HandOver { socket, peer, unsent, parcel, live } = hand_over;
        let mut conn = Connection::new(TcpStream::from(socket), peer, live);
        conn.unsent = unsent;
        self.stats().unsent.add(conn.unsent.len() as u64);
        let id = self.conns.insert(conn);
        self.stats().open.add(1);
        self.stats().arrived.add(1);
        let registered = self.register(id);
        self.look_at_clock();
        self.feed_measured(Input::Arrived { conn: id, peer, parcel: &parcel });
        if registered {
            self.update_interest(id);
        } else {
            // Its member came with it, so the machine must hear of both.
            self.failed(id);
        }
    }

    fn look_at_wall_clock(&mut self) {
        if self.now < self.wall.next {
            return;
        }
        self.wall.next = self.now + WALL_INTERVAL;
        let started = self.parts.clock.started_unix_micros();
        if started.abs_diff(self.wall.told) >= WALL_STEP {
            self.wall.told = started;
            self.feed(Input::WallClock { started_unix_ms: started.div_euclid(1_000) });
        }
    }

    /// Begins to drain when somebody asked for the end: who already waits at the door still gets a
    /// goodbye.
    fn heed_end(&mut self) {
        let asked = self.parts.shutdown.until();
        if asked.is_some() && self.until.is_none() {
            if let Some(accept) = &mut self.accept {
                accept.report();
            }
            self.accept_up_to(ACCEPT_LAST_MAX);
            self.accept = None;
            self.parts.shutdown.stopped(self.parts.id);
            self.feed(Input::Drain);
        }
        self.until = asked;
    }

    /// Answers questions and lets the machine end its turn.
    fn end_turn(&mut self) {
        loop {
            let mut next = 0;
            while let Some(place) = self.asks.get(next) {
                let place = *place;
                next += 1;
                self.answer(place);
            }
            self.asks.clear();
            self.look_at_clock();
            self.feed_measured(Input::TurnEnded);
            self.pass_orders();
            if self.asks.is_empty() {
                return;
            }
        }
    }

    /// Passes the machine's orders on to the storage. One that finds no room there is answered at
    /// once.
    fn pass_orders(&mut self) {
        let mut next = 0;
        while let Some(place) = self.orders.get(next) {
            let refusal = self.out.list.get(*place).and_then(|output| self.pass_order(output));
            next += 1;
            if let Some(news) = refusal {
                self.feed(Input::Storage { news: &news });
            }
        }
        self.orders.clear();
    }

    /// What the machine is told if an order for the storage is not taken.
    fn pass_order(&self, output: &Output) -> Option<StorageNews> {
        let take = |order| self.parts.host.store(self.parts.id, order);
        match output {
            Output::Load { session } if !take(Order::Load(session)) => {
                Some(StorageNews::Loaded { session: session.clone(), found: Found::Unknown })
            }
            Output::Store { session, epoch, version, record } => {
                let (epoch, version, record) = (*epoch, *version, &self.out.bytes[record.range()]);
                let refused = !take(Order::Store { session, epoch, version, record });
                let outcome = Outcome::Refused;
                refused.then(|| StorageNews::Stored {
                    session: session.clone(),
                    epoch,
                    version,
                    outcome,
                })
            }
            Output::Forget { session, epoch } => {
                // What cannot be forgotten now is forgotten when its time in the storage is over.
                take(Order::Forget { session, epoch: *epoch });
                None
            }
            _ => None,
        }
    }

    /// Has the question at this place of the outputs answered, if its asker is still there.
    fn answer(&mut self, place: usize) {
        let Some(Output::Ask { conn, question }) = self.out.list.get(place) else { return };
        let conn = *conn;
        if self.conns.open_mut(conn).is_some() {
            let asker = Asker { shard: self.parts.id, conn };
            if let Some(answer) = self.parts.host.answer(asker, question) {
                self.look_at_clock();
                self.feed_measured(Input::Answered { conn, answer });
            }
        }
    }

    /// Writes what this turn sends.
    fn write(&mut self) {
        let stats = self.parts.board.stats(self.parts.id);
        self.writer.flush(&mut self.conns, &self.out.bytes, stats);
        let mut troubled = std::mem::take(&mut self.writer.troubled);
        for id in troubled.drain(..) {
            self.update_interest(id);
        }
        self.writer.troubled = troubled;
    }

    /// Sends off the connections that go to other shards, with what is unsent, and what the machine
    /// writes there.
    fn hand_over(&mut self) {
        for (to, letter) in self.letters.drain(..) {
            self.parts.outbox.put(to, Mail::Letter(self.out.bytes[letter.range()].into()));
        }
        for Leaving { conn: id, to, parcel } in std::mem::take(&mut self.leaving) {
            let Some(mut conn) = self.conns.remove(id) else { continue };
            self.stats().open.sub(1);
            self.stats().unsent.sub(conn.unsent.len() as u64);
            self.stats().departed.add(1);
            if self.poll.registry().deregister(&mut conn.socket).is_err() {
                log::debug!(conn:% = id; "the connection was not registered");
            }
            let hand_over = HandOver {
                socket: OwnedFd::from(conn.socket),
                peer: conn.peer,
                unsent: conn.unsent,
                parcel: self.out.bytes[parcel.range()].into(),
                live: conn.live,
            };
            self.parts.outbox.put(to, Mail::HandOver(Box::new(hand_over)));
        }
        let put_off = self.parts.outbox.post();
        self.stats().mailbox_full.add(put_off as u64);
    }

    /// Takes connections that close to the next step, now that all is written that the kernel would
    /// take.
    fn close_up(&mut self) {
        let mut flushing = std::mem::take(&mut self.flushing);
        for id in flushing.drain(..) {
            self.part(id);
        }
        self.flushing = flushing;
        while let Some((phase, id)) = self.closing.overdue(self.now) {
            if self.conns.get_mut(id).is_some_and(|conn| conn.phase == phase) {
                self.abort(id);
            }
        }
    }

    fn part(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.phase == Phase::Flushing) else {
            return;
        };
        if !conn.broken && !conn.unsent.is_empty() {
            self.closing.part(self.now, id);
        } else if conn.broken || conn.ended || conn.socket.shutdown(net::Shutdown::Write).is_err() {
            self.forget(id);
        } else {
            // What the peer still sends is read, or the kernel would reset the connection, and the
            // peer might lose what it has not read yet.
            conn.phase = Phase::Lingering;
            self.closing.linger(self.now, id);
            self.list_ready(id);
        }
    }

    /// Whether the shard has ended, and how.
    fn end(&mut self) -> Option<End> {
        let until = self.until?;
        if self.parts.shutdown.is_quiet() {
            if !std::mem::replace(&mut self.told_end, true) {
                self.parts.outbox.wake_all();
            }
            if self.parts.machine.is_drained() {
                return Some(End::Drained);
            }
        }
        let connections = self.conns.len() + self.parts.outbox.len();
        (self.now >= until).then_some(End::Cut { connections })
    }
}
