//! The net of the world: wires with delay, pieces, stalls and windows, as a turn's [`Net`].
//!
//! It keeps the contract of the kernel, and does all that reality may do: reads and writes are
//! short, room comes late, and peers reset connections. Like epoll, it reports an event once, so it
//! notes reports that a turn neglects.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::IpAddr;

use bandsync_driver::{Accepted, Buffers, Net, Readiness, SendRequest, Stats};
use bandsync_engine::words::ids::ConnId;
use bandsync_engine::words::time::Micros;

use super::agenda::{Agenda, Event};
use super::plan::{self, Plan};
use super::rng::SimRng;
use super::wire::{Cable, ServerEnd};

/// The server's end of a wire.
#[derive(Debug)]
pub struct SimSocket(pub usize);

/// The part of the net that belongs to a shard.
struct Port {
    /// Wires to accept.
    door: VecDeque<usize>,
    /// Wires to report, each once.
    reports: Vec<usize>,
    /// Turns so far.
    turns: u64,
    /// Wires whose room was reported in this turn.
    rooms: Vec<usize>,
    /// Wires whose end was reported and not handled yet, and the turn of the report.
    ends: Vec<(usize, u64)>,
    /// Whether sends go out together, as with io_uring.
    together: bool,
    luck: SimRng,
}

/// All wires of a world.
pub struct SimNet {
    /// The current behaviour of the network: calm at the end.
    pub habits: plan::Net,
    pub calm: bool,
    pub cables: Vec<Cable>,
    ports: Vec<Port>,
    short_read: u64,
    short_write: u64,
    /// The shard whose turn is under way.
    shard: u16,
    now: u64,
    turn: u64,
    /// Looks at clients' ends of wires that must be scheduled.
    looks: Vec<(u64, usize)>,
    results: Vec<Option<io::Result<usize>>>,
    /// Wires that were shut down while bytes were unsent.
    shut_early: Vec<usize>,
    /// Number of ticks of which a part was accepted.
    pub ticks_cut: u64,
}

/// A report that a turn neglected, or a connection that it ended too early.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Neglect {
    /// A socket had room again, and was offered no bytes.
    Room,
    /// The peer ended its side, and the machine did not learn of it.
    End,
    /// A connection was shut down before all bytes were sent.
    Unsent,
}

/// Number of turns within which the machine must learn of an end that was reported. Guessed: a
/// shard with much input needs a few.
const END_TURNS: u64 = 8;

impl SimNet {
    pub fn new(plan: &Plan) -> Self {
        let port = |shard: u16| Port {
            door: VecDeque::new(),
            reports: Vec::new(),
            turns: 0,
            rooms: Vec::new(),
            ends: Vec::new(),
            together: (plan.seed + u64::from(shard)).is_multiple_of(2),
            luck: SimRng::new(plan.seed, 200 + u64::from(shard)),
        };
        let driver = &plan.shape.driver;
        Self {
            habits: plan.shape.net.clone(),
            calm: false,
            cables: Vec::new(),
            ports: (0..plan.shape.shards).map(port).collect(),
            short_read: u64::from(driver.short_read),
            short_write: u64::from(driver.short_write),
            shard: 0,
            now: 0,
            turn: 0,
            looks: Vec::new(),
            results: Vec::new(),
            shut_early: Vec::new(),
            ticks_cut: 0,
        }
    }

    /// Begins a turn of a shard, and returns its reports.
    pub fn begin(&mut self, shard: u16, now: u64) -> Vec<Readiness> {
        (self.shard, self.now, self.turn) = (shard, now, self.turn + 1);
        let port = &mut self.ports[usize::from(shard)];
        port.turns += 1;
        let wires = std::mem::take(&mut port.reports);
        wires.into_iter().filter_map(|wire| self.readiness(wire)).collect()
    }

    /// Returns the report of a wire to the shard whose turn it is.
    fn readiness(&mut self, wire: usize) -> Option<Readiness> {
        let cable = &mut self.cables[wire];
        let ServerEnd::Shard(shard, id) = cable.end else { return None };
        if shard != self.shard {
            return None;
        }
        cable.reported = false;
        let hangup = cable.reset || cable.up.has_end_arrived(self.now);
        let readable = hangup || !cable.up.here().is_empty();
        let has_room = cable.room(&self.habits, self.turn) > 0;
        let writable = cable.awaits_writable && (has_room || cable.reset);
        let port = &mut self.ports[usize::from(shard)];
        if writable && has_room && !cable.reset {
            port.rooms.push(wire);
        }
        if hangup && !cable.reset && !std::mem::replace(&mut cable.end_reported, true) {
            port.ends.push((wire, port.turns));
        }
        let some = readable || writable;
        some.then_some(Readiness::Connection { id, readable, writable, hangup })
    }

    /// Returns a neglect of the turn that is over, with its wire. `is_open` returns whether a
    /// connection is open for the machine. If the shard `reads` nothing because much mail waits,
    /// ends may wait too.
    pub fn neglected(
        &mut self,
        reads: bool,
        is_open: impl Fn(ConnId) -> bool,
    ) -> Option<(usize, Neglect)> {
        let (turn, own) = (self.turn, self.shard);
        let port = &mut self.ports[usize::from(own)];
        let cables = &self.cables;
        let is_here = |wire: usize| match cables[wire].end {
            ServerEnd::Shard(shard, id) if shard == own && !cables[wire].reset => Some(id),
            _ => None,
        };
        let unused = |wire: &usize| {
            is_here(*wire).is_some()
                && cables[*wire].awaits_writable
                && cables[*wire].offered_in != turn
        };
        let unused =
            port.rooms.drain(..).filter(unused).map(|wire| (wire, Neglect::Room)).next_back();
        let shut = self.shut_early.drain(..).map(|wire| (wire, Neglect::Unsent)).next_back();
        port.ends.retain(|(wire, _)| is_here(*wire).is_some_and(&is_open));
        let overdue = |(_, since): &&(usize, u64)| reads && port.turns >= since + END_TURNS;
        let unread = port.ends.iter().find(overdue).map(|(wire, _)| (*wire, Neglect::End));
        unused.or(shut).or(unread)
    }

    /// Schedules a look at the server's end of a connection, unless an earlier one is scheduled.
    pub fn post_up(&mut self, agenda: &mut Agenda, wire: usize, at: u64) {
        if let Some(at) = self.cables[wire].up.look(at.max(agenda.now)) {
            agenda.post(at, Event::Up(wire));
        }
    }

    /// Schedules a look at the client's end of a connection, unless an earlier one is scheduled.
    pub fn post_down(&mut self, agenda: &mut Agenda, wire: usize, at: u64) {
        if let Some(at) = self.cables[wire].down.look(at.max(agenda.now)) {
            agenda.post(at, Event::Down(wire));
        }
    }

    /// Reports a wire to its shard before that shard's next turn. Returns the shard, if there is
    /// one.
    pub fn report(&mut self, wire: usize) -> Option<u16> {
        let cable = &mut self.cables[wire];
        let ServerEnd::Shard(shard, _) = cable.end else { return None };
        if !std::mem::replace(&mut cable.reported, true) {
            self.ports[usize::from(shard)].reports.push(wire);
        }
        Some(shard)
    }

    /// Adds a connection to those that wait at a shard's listener.
    pub fn knock(&mut self, wire: usize, shard: u16) {
        self.ports[usize::from(shard)].door.push_back(wire);
    }

    /// Whether a report or a new connection waits for a shard.
    pub fn has_work(&self, shard: u16) -> bool {
        let port = &self.ports[usize::from(shard)];
        !port.reports.is_empty() || !port.door.is_empty()
    }

    /// Drops all reports and waiting connections, because the server died.
    pub fn restart(&mut self) {
        for port in &mut self.ports {
            (port.door, port.reports, port.ends) = (VecDeque::new(), Vec::new(), Vec::new());
        }
        self.cables.iter_mut().for_each(|cable| cable.reported = false);
    }

    /// Schedules looks at the clients' ends to which the turn sent bytes.
    pub fn post_looks(&mut self, agenda: &mut Agenda) {
        for (at, wire) in std::mem::take(&mut self.looks) {
            self.post_down(agenda, wire, at);
        }
    }

    fn offer(&mut self, wire: usize, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let port = &mut self.ports[usize::from(self.shard)];
        let cable = &mut self.cables[wire];
        cable.offered_in = self.turn;
        if cable.reset || cable.down.has_ended() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut count = wanted.min(cable.room(&self.habits, self.turn));
        if self.short_write > 0 && !self.calm && count > 0 {
            count = count.min(1 + port.luck.below(self.short_write) as usize);
            if count < wanted {
                cable.full_in = self.turn;
            }
        }
        if count > 0 {
            let mut bytes = Vec::with_capacity(count);
            for slice in slices {
                let left = count - bytes.len();
                let (cut, part) = (left > 0 && left < slice.len(), left.min(slice.len()));
                bytes.extend_from_slice(&slice[..part]);
                self.ticks_cut += u64::from(cut && is_tick(slice));
                // A tick is never offered alone behind unsent bytes.
                let tick = !cable.awaits_writable && is_tick(slice);
                cable.taken += if tick { 0 } else { part as u64 };
            }
            let at = cable.down.send(self.now, &bytes, &self.habits, &mut cable.luck);
            self.looks.push((at, wire));
        }
        if count < wanted
            && cable.awaits_writable
            && cable.down.full() < self.habits.window as usize
        {
            self.report(wire);
        }
        Ok(count)
    }
}

/// Whether a frame is a tick. Ticks may be dropped, but not cut.
fn is_tick(frame: &[u8]) -> bool {
    frame.get(..20).is_some_and(|head| head.windows(11).any(|part| part == b"scroll_tick"))
}

impl Net for SimNet {
    type Socket = SimSocket;
    type Key = usize;

    fn read(&mut self, socket: &mut SimSocket, buffer: &mut [u8]) -> io::Result<usize> {
        let port = &mut self.ports[usize::from(self.shard)];
        let cable = &mut self.cables[socket.0];
        if cable.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let mut count = cable.up.here().len().min(buffer.len());
        if count == 0 {
            let is_over = cable.up.has_end_arrived(self.now);
            return if is_over { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        if self.short_read > 0 && !self.calm {
            count = count.min(1 + port.luck.below(self.short_read) as usize);
        }
        if let Some(cut) = cable.cuts.front().map(|cut| (cut - cable.read) as usize)
            && cut <= count
        {
            count = cut;
            cable.cuts.pop_front();
        }
        buffer[..count].copy_from_slice(&cable.up.here()[..count]);
        cable.up.took(count);
        cable.read += count as u64;
        // If the end behind these bytes was reported, it is not reported again.
        let end = cable.up.has_end_arrived(self.now) && !cable.end_reported;
        if count < buffer.len() && (!cable.up.here().is_empty() || end) {
            // The rest arrives just after the read.
            self.report(socket.0);
        }
        Ok(count)
    }

    fn send(&mut self, socket: &SimSocket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.offer(socket.0, slices)
    }

    fn key(&self, socket: &SimSocket) -> usize {
        socket.0
    }

    fn sends_together(&self) -> bool {
        self.ports[usize::from(self.shard)].together
    }

    fn send_all(&mut self, requests: &[SendRequest<usize>], buffers: Buffers<'_>) {
        self.results.clear();
        // Sometimes the ring breaks; then the following requests are not begun.
        let port = &mut self.ports[usize::from(self.shard)];
        let breaks = !self.calm && port.luck.one_in(500);
        let works =
            if breaks { port.luck.below(requests.len() as u64) as usize } else { usize::MAX };
        port.together &= !breaks;
        for (index, request) in requests.iter().enumerate() {
            let slice = IoSlice::new(buffers.of(request.bytes));
            let result = (index < works).then(|| self.offer(request.socket, &[slice]));
            self.results.push(result);
        }
    }

    fn sent(&self, index: usize) -> Option<io::Result<usize>> {
        match self.results[index].as_ref()? {
            Ok(count) => Some(Ok(*count)),
            Err(error) => Some(Err(error.kind().into())),
        }
    }

    fn watch(&mut self, socket: &mut SimSocket, id: ConnId) -> io::Result<()> {
        let cable = &mut self.cables[socket.0];
        (cable.end, cable.awaits_writable) = (ServerEnd::Shard(self.shard, id), false);
        cable.end_reported = false;
        self.report(socket.0);
        Ok(())
    }

    fn await_writable(
        &mut self,
        socket: &mut SimSocket,
        _: ConnId,
        awaits: bool,
    ) -> io::Result<()> {
        let cable = &mut self.cables[socket.0];
        cable.awaits_writable = awaits;
        if awaits && cable.down.full() < self.habits.window as usize {
            self.report(socket.0);
        }
        Ok(())
    }

    fn unwatch(&mut self, _: ConnId, socket: SimSocket) -> SimSocket {
        let cable = &mut self.cables[socket.0];
        (cable.end, cable.reported) = (ServerEnd::Mail, false);
        socket
    }

    fn shut_down(&mut self, socket: &SimSocket) -> io::Result<()> {
        let cable = &mut self.cables[socket.0];
        if cable.reset {
            return Err(ErrorKind::NotConnected.into());
        }
        if cable.awaits_writable {
            self.shut_early.push(socket.0);
        }
        let at = cable.down.end(self.now, &self.habits);
        self.looks.push((at, socket.0));
        Ok(())
    }

    fn close(&mut self, socket: SimSocket) {
        let cable = &mut self.cables[socket.0];
        cable.end = ServerEnd::Gone;
        if !cable.reset && !cable.down.has_ended() {
            let at = cable.down.end(self.now, &self.habits);
            self.looks.push((at, socket.0));
        }
    }

    fn reset(&mut self, socket: SimSocket) {
        let cable = &mut self.cables[socket.0];
        (cable.end, cable.reset) = (ServerEnd::Gone, true);
        self.looks.push((self.now + self.habits.delay, socket.0));
    }

    fn report_listener(&mut self) {}

    fn accept(&mut self, _: Micros, _: &Stats) -> Accepted<SimSocket> {
        match self.ports[usize::from(self.shard)].door.pop_front() {
            Some(wire) => Accepted::Connection(SimSocket(wire), self.peer(wire)),
            None => Accepted::Empty,
        }
    }
}

impl SimNet {
    fn peer(&self, wire: usize) -> IpAddr {
        self.cables[wire].peer
    }
}
