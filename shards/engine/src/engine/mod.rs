//! One shard's engine: connections, sessions, timers, and the turn that joins them.
//!
//! Everything enters by [`Engine::handle`] and leaves as [`Outputs`]. The rooms: `front` speaks
//! HTTP until a connection is a WebSocket, `link` speaks Engine.IO and Socket.IO on it, `stage`
//! carries commands into sessions and their effects out, `room` is one session with its audience,
//! `recovery` what brings a lost member back.

mod commands;
mod conns;
mod echo;
mod event;
mod front;
mod handover;
mod heartbeat;
mod http_conn;
mod joins;
mod knock;
mod late;
mod link;
pub mod parcel;
mod polling;
mod polling_clients;
mod recovery;
mod script;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::net::IpAddr;

use crate::band::{Band, replay_log};
use crate::context::{Cx, Resources};
use crate::io::report::{Counters, Disconnect, Disconnects, Manner, Samples, messages};
use crate::io::{Cause, Close, Input, Memory, Outputs, Settings};
use crate::session::Session;
use crate::speech::LeaveReason;
use crate::throttle::peers::PeerRefusal;
use crate::timers::{Timer, TimerHandle};
use crate::wire::deflate::Inflater;
use crate::wire::json;
use crate::words::application::Application;
use crate::words::ids::{ConnId, SessionId};
use crate::words::manners::{PeerLimits, Speaker};
use crate::words::time::Micros;

use conns::Connections;
use http_conn::HttpConn;
use joins::Joins;
use link::Client;
use polling_clients::{Probe, PollingClients};

/// Bytes that may wait unsent for a connection when memory is scarce, and for how long more than
/// that: somebody on a slow network gets through a set list in that time, and who has stopped
/// reading does not.
const BACKLOG_SCARCE_BYTES: u32 = 256 * 1024;
const BACKLOG_SCARCE_TIME: Micros = Micros::from_secs(5);

/// Members that the batches of one turn are told to, before the next turn has its say.
const TOLD_MAX: usize = 64;

/// One shard: a value that inputs change. See the [module](self).
pub struct Engine {
    resources: Resources,
    shard: Shard,
}

/// The clients and sessions of a shard. What both need is lent in a [`Cx`].
struct Shard {
    band: Band,
    /// Joins that wait for their sessions.
    joins: Joins,
    draining: bool,
    conns: Connections,
    /// Sessions that began with long-polling.
    sids: PollingClients,
    /// Connections whose waiting request was answered in this turn, with more to read behind it.
    resumed: Vec<ConnId>,
    /// Whether the session that is being closed was ended by its client.
    said_goodbye: bool,
    /// How much memory the process has left.
    memory: Memory,
    /// How often somebody here has asked to join a session elsewhere.
    knocks: u64,
    inflater: Inflater,
    /// Reads events. `None` while it is lent, and after one that made its buffers large.
    reader: Option<Box<json::Reader>>,
    /// Events that the echo keeps for clients that may come back, if that is what runs.
    echoed: replay_log::ReplayLog<echo::Joined>,
}

/// A connection.
struct Connection {
    /// The client's address: where the connection comes from, or what a trusted proxy says of a
    /// connection that it upgraded.
    peer: IpAddr,
    /// Whether a proxy passed on the request by which the client came. Then it is exempt from
    /// nothing.
    forwarded: bool,
    alarm: TimerHandle,
    /// Since when a lot waits that the kernel has not taken, as far as the driver has told.
    behind_since: Option<Micros>,
    state: Protocol,
}

impl Connection {
    /// A connection that comes from `peer` itself.
    fn new(peer: IpAddr, state: Protocol) -> Self {
        Self::of(Speaker { address: peer, forwarded: false }, state)
    }

    /// A connection of this client.
    fn of(speaker: Speaker, state: Protocol) -> Self {
        let Speaker { address: peer, forwarded } = speaker;
        Self { peer, forwarded, alarm: TimerHandle::default(), behind_since: None, state }
    }

    /// The address that it is counted under.
    fn speaker(&self) -> Speaker {
        Speaker { address: self.peer, forwarded: self.forwarded }
    }
}

/// What a connection speaks.
enum Protocol {
    /// HTTP, until it is upgraded. In a box like the others, so that those who were upgraded pay
    /// nothing for it.
    Http(Box<HttpConn>),
    /// A WebSocket that may take over from long-polling.
    Probe(Box<Probe>),
    /// Socket.IO.
    Client(Box<Client>),
}

impl Engine {
    /// A shard that has not seen anything yet.
    pub fn new(settings: Settings) -> Self {
        let shard = Shard::new(&settings);
        Self { resources: Resources::new(settings), shard }
    }

    /// Takes one input that happened at `at`, and appends what must be done about it to `out`.
    ///
    /// # Panics
    /// If time runs backwards, or the driver names a connection twice: those are our bugs. No bytes
    /// from outside lead here.
    pub fn handle(&mut self, at: Micros, input: Input<'_>, out: &mut Outputs) {
        let before = out.list.len();
        self.resources.advance(at);
        if let Input::WallClock { started_unix_ms } = input {
            self.resources.set_wall_clock(started_unix_ms);
        } else {
            self.shard.handle(input, &mut self.resources.lend(out));
        }
        self.resources.report.counters.messages_out += messages(&out.list[before..]);
    }

    /// When [`Input::TurnEnded`] must come again even if nothing else happens.
    pub fn next_deadline(&self) -> Option<Micros> {
        let Resources { wheel, now, .. } = &self.resources;
        if self.shard.band.has_open_windows() { Some(now.at) } else { wheel.next_deadline() }
    }

    /// Whether a session ticks, so that somebody may hear it if what is due comes late.
    pub fn is_ticking(&self) -> bool {
        self.resources.ticking > 0
    }

    /// Whether the shard was told to drain, and the storage was offered everything. Connections that
    /// opened since do not count: they have no session to lose.
    pub fn is_drained(&self) -> bool {
        let shard = &self.shard;
        shard.draining && shard.band.dirty() == 0
    }

    /// What the shard has done and holds.
    pub fn counters(&self) -> Counters {
        let mut counters = self.resources.report.counters;
        counters.connections = self.shard.conns.connections() as u32;
        counters.sessions = self.shard.band.sessions();
        counters.sessions_unstored = self.shard.band.dirty();
        counters.recovery_bytes = self.resources.replay_bytes;
        counters
    }

    /// What was measured since somebody last took it.
    pub fn measures(&mut self) -> &mut Samples {
        &mut self.resources.report.samples
    }

    /// Connections that ended since somebody last took them.
    pub fn departures(&mut self) -> &mut Disconnects {
        &mut self.resources.report.disconnects
    }

    /// A session that lives here now.
    pub fn session(&self, id: &SessionId) -> Option<&Session> {
        self.shard.band.session(id)
    }

    /// Appends the sessions of this shard that somebody is in, as a JSON array of objects:
    /// `sessionId, isPlaying, tempoMilliBpm, positionMicros, uptimeMicros, memberCount,
    /// connectedCount, epoch, version, members`, each member with `socketId, displayName, role,
    /// connected, latencyMicros, timeouts, quality`. Bounded, so that a shard with very many
    /// sessions lists the largest.
    pub fn roster(&self, out: &mut Vec<u8>) {
        let now = self.resources.now.at;
        let quality = |conn, member| match &self.shard.conns.get(conn)?.state {
            Protocol::Client(link) => Some(link.quality(member, now)),
            Protocol::Http(_) | Protocol::Probe(_) => None,
        };
        self.shard.band.roster(now, quality, out);
    }

    /// Bytes of the buffers that are kept for the next message, of any connection.
    #[cfg(test)]
    fn kept_bytes(&self) -> usize {
        let reader = self.shard.reader.as_ref().map_or(0, |reader| reader.kept_bytes());
        reader + self.shard.inflater.kept_bytes() + self.resources.sender.kept_bytes()
    }

    /// What must hold at the end of every turn; costs a walk over everything, so tests call it.
    pub fn check_invariants(&self) {
        self.shard.check_invariants(&self.resources);
    }
}

impl Shard {
    fn new(settings: &Settings) -> Self {
        Self {
            band: Band::new(settings),
            joins: Joins::default(),
            draining: false,
            conns: Connections::new(settings.limits.connections_max),
            sids: PollingClients::default(),
            resumed: Vec::new(),
            said_goodbye: false,
            memory: Memory::Enough,
            knocks: 0,
            inflater: Inflater::default(),
            reader: None,
            echoed: replay_log::ReplayLog::default(),
        }
    }

    fn handle(&mut self, input: Input<'_>, cx: &mut Cx<'_>) {
        match input {
            Input::Opened { conn, peer } => self.opened(conn, peer, cx),
            Input::Arrived { conn, parcel, .. } => self.arrived(conn, parcel, cx),
            Input::Received { conn, bytes } => self.received(conn, bytes, cx),
            Input::Letter { letter } => self.letter(letter, cx),
            Input::Closed { conn, cause } => self.lost(conn, cause, cx),
            Input::Backlog { conn, bytes } => self.backlog(conn, bytes, cx),
            Input::Answered { conn, answer } => self.answered(conn, answer, cx),
            // Of the clock everything is told that is lent.
            Input::WallClock { .. } => {}
            Input::Storage { news } => self.storage_said(news, cx),
            Input::Drain => self.drain(cx),
            Input::Memory(memory) => self.memory(memory, cx),
            Input::TurnEnded => {
                self.end_turn(cx);
                self.give_back(cx);
            }
        }
    }

    fn opened(&mut self, id: ConnId, peer: IpAddr, cx: &mut Cx<'_>) {
        if self.conns.connections() >= cx.settings.limits.connections_max as usize {
            self.turned_away(id, peer, "the shard has no room for more connections", cx);
            let now = cx.now.unix;
            cx.out.send(id, |bytes| front::no_room(bytes, now));
            return cx.out.close(id, Close::Gently);
        }
        let speaker = Speaker { address: peer, forwarded: false };
        if let Err(crowded) = self.enter(speaker, cx) {
            self.turned_away(id, peer, crowded.why(), cx);
            self.leave_crowd(speaker, cx);
            let now = cx.now.unix;
            cx.out.send(id, |bytes| front::too_many(bytes, now, crowded));
            return cx.out.close(id, Close::Gently);
        }
        let front = HttpConn::new(cx.now.at);
        self.conns.insert(id, Connection::new(peer, Protocol::Http(Box::new(front))));
        self.arm(id, cx);
    }

    fn received(&mut self, id: ConnId, bytes: &mut [u8], cx: &mut Cx<'_>) {
        match self.conns.get(id).map(|conn| &conn.state) {
            Some(Protocol::Http(_)) => self.front_received(id, bytes, cx),
            Some(Protocol::Probe(_)) => self.probe_received(id, bytes, cx),
            Some(Protocol::Client(_)) => self.link_received(id, bytes, cx),
            // It was closed earlier in this turn.
            None => {}
        }
    }

    fn lost(&mut self, id: ConnId, cause: Cause, cx: &mut Cx<'_>) {
        let reason = match cause {
            Cause::Ended => LeaveReason::TransportClosed,
            Cause::Failed => LeaveReason::TransportError,
        };
        self.note_end(id, reason.as_str(), cx);
        self.forget(id, reason, cx);
    }

    /// A reader that is too far behind is closed: its members would rather reconnect than see the
    /// past.
    fn backlog(&mut self, id: ConnId, bytes: u32, cx: &mut Cx<'_>) {
        let now = cx.now.at;
        let Some(conn) = self.conns.get_mut(id) else { return };
        if bytes <= BACKLOG_SCARCE_BYTES {
            conn.behind_since = None;
        } else {
            conn.behind_since.get_or_insert(now);
        }
        if bytes > cx.settings.limits.backlog_bytes_max {
            self.close_slow_reader(id, cx); // mark: slow_reader_stays
        }
    }

    fn close_slow_reader(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        self.note_expulsion(id, "it reads too slowly", cx);
        self.forget(id, LeaveReason::TransportError, cx);
        cx.out.close(id, Close::Abort);
    }

    /// Says goodbye to all clients and closes their connections. A connection that has not asked for
    /// anything yet, or not for all of it, still gets its answer: pages and probes are served, and
    /// clients are refused. So do those that open later.
    fn drain(&mut self, cx: &mut Cx<'_>) {
        self.draining = true;
        self.band.drain();
        let ids: Vec<ConnId> = self.conns.iter().map(|(id, _)| id).collect();
        for id in ids {
            if self.front_mut(id).is_some_and(|front| front.expects_request()) {
                self.arm(id, cx);
            } else {
                self.say_goodbye(id, cx);
            }
        }
        self.band.offer_all(cx);
    }

    fn memory(&mut self, memory: Memory, cx: &mut Cx<'_>) {
        self.memory = memory;
        if memory != Memory::Enough {
            let now = cx.now.at;
            let is_slow = |conn: &Connection| {
                conn.behind_since.is_some_and(|since| since + BACKLOG_SCARCE_TIME <= now)
            };
            let slow = self.conns.iter().filter(|(_, conn)| is_slow(conn)).map(|(id, _)| id);
            for id in slow.collect::<Vec<_>>() {
                self.close_slow_reader(id, cx);
            }
            self.band.shed_memory(memory, cx);
        }
    }

    /// Fires what is due and answers who polls, until neither leads to more of the other: who polls
    /// too slowly is sent away, and a request that waited has others behind it.
    fn end_turn(&mut self, cx: &mut Cx<'_>) {
        let mut told = 0;
        loop {
            self.fire_timers(&mut told, cx);
            self.answer_polls(cx);
            let is_due = cx.wheel.next_deadline().is_some_and(|at| at <= cx.now.at);
            if !is_due && !cx.sender.has_told() {
                return;
            }
        }
    }

    /// Gives back the buffers that a long message has made large.
    fn give_back(&mut self, cx: &mut Cx<'_>) {
        self.inflater.give_back();
        cx.sender.give_back();
    }

    /// Fires what is due: ticks and the rest first, then the batches, whatever their deadlines,
    /// because a tick matters more. Closing a window may make more due when windows have no length.
    ///
    /// While something ticks, once `told` members were told something the other windows wait for
    /// the next cx, with a tick before them if one is due by then: after a power cut a hall full
    /// of people joins, and every session has something to tell at once.
    fn fire_timers(&mut self, told: &mut usize, cx: &mut Cx<'_>) {
        self.band.prefetch(cx);
        let most = if *cx.ticking > 0 { TOLD_MAX } else { usize::MAX };
        loop {
            while let Some((due, timer)) = cx.wheel.fire(cx.now.at) {
                match timer {
                    Timer::Conn(id) => self.conn_due(id, cx),
                    Timer::Tick(key) => self.band.tick(key, due, cx),
                    Timer::Batch(key) => self.band.window_over(key),
                    Timer::Room(key) => self.band.room_due(key, cx),
                    Timer::Store => self.band.offer(cx),
                    Timer::Load => self.give_up_loading(cx),
                    Timer::Forget => self.band.expire_evicted(cx),
                }
            }
            if !self.band.has_open_windows() {
                return;
            }
            self.band.flush_windows(told, most, cx);
            if *told >= most {
                return;
            }
        }
    }

    /// A connection has waited long enough for something.
    fn conn_due(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.alarm.rang();
        match conn.state {
            Protocol::Http(_) => self.front_due(id, cx),
            Protocol::Probe(_) => self.probe_due(id, cx),
            Protocol::Client(_) => self.link_due(id, cx),
        }
        self.arm(id, cx);
    }

    /// Sets a connection's timer to the next thing it waits for.
    fn arm(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let deadline = match &conn.state {
            Protocol::Http(front) => front.deadline(&cx.settings.limits, self.draining),
            Protocol::Probe(probe) => Some(probe.deadline()),
            // A bare WebSocket may be silent for as long as it likes.
            Protocol::Client(_) if cx.settings.application == Application::WebSocketEcho => None,
            Protocol::Client(link) => Some(link.deadline(&cx.settings.limits)),
        };
        conn.alarm.set(cx.wheel, deadline, Timer::Conn(id));
    }

    /// Notes that a client is about to be forgotten, and why. Ends of plain requests are nothing to
    /// tell, and who has said goodbye was told of.
    fn note_end(&mut self, id: ConnId, why: &'static str, cx: &mut Cx<'_>) {
        if let Some(Protocol::Client(link)) = self.conns.get(id).map(|conn| &conn.state)
            && link.member.is_some()
        {
            self.note_departure(id, why.into(), Manner::Left, cx);
        }
    }

    /// The same of a connection whose peer broke a rule or a limit.
    fn note_expulsion(&mut self, id: ConnId, why: impl Into<Cow<'static, str>>, cx: &mut Cx<'_>) {
        cx.report.counters.expulsions += 1;
        self.note_departure(id, why.into(), Manner::Expelled, cx);
    }

    /// Notes that somebody was not even let in.
    fn turned_away(&mut self, conn: ConnId, peer: IpAddr, why: &'static str, cx: &mut Cx<'_>) {
        cx.report.counters.expulsions += 1;
        cx.report.disconnects.add(Disconnect {
            conn,
            peer,
            session: None,
            why: why.into(),
            manner: Manner::Expelled,
        });
    }

    fn note_departure(
        &mut self,
        id: ConnId,
        why: Cow<'static, str>,
        manner: Manner,
        cx: &mut Cx<'_>,
    ) {
        let Some(conn) = self.conns.get(id) else { return };
        let seat = if let Protocol::Client(link) = &conn.state { link.seat } else { None };
        let session = seat.and_then(|seat| self.band.session_of(seat));
        let session = session.map(|session| session.id().clone());
        cx.report.disconnects.add(Disconnect { conn: id, peer: conn.peer, session, why, manner });
    }

    /// Takes a connection out of the table, and its member out of its session.
    fn forget(&mut self, id: ConnId, reason: LeaveReason, cx: &mut Cx<'_>) {
        let Some(mut conn) = self.conns.remove(id) else { return };
        conn.alarm.cancel(cx.wheel);
        self.leave_crowd(conn.speaker(), cx);
        match conn.state {
            Protocol::Http(front) => {
                if let Some(session) = front.waits_for() {
                    self.waiting_lost(id, session, reason, cx);
                }
                if let Some(session) = front.posts_to {
                    self.posting_lost(id, session, reason, cx);
                }
            }
            Protocol::Probe(probe) => self.probe_over(&probe, cx),
            Protocol::Client(link) => {
                cx.report.counters.links -= 1;
                let sid = link.sid();
                if let Some(sid) = sid {
                    self.sids.remove(sid);
                }
                if let Some((seat, member)) = link.seat() {
                    self.band.leave(seat, member, reason, cx);
                }
                self.echo_lost(link.echo, reason, cx);
                if id.is_polled() {
                    self.close_queue(id, sid, cx);
                }
            }
        }
        // At last, because its session still had something for it.
        cx.sender.take_window(id); // mark: window_of_the_gone_kept
    }

    /// Counts a connection of an address. A trusted proxy's own connections are not counted, and
    /// nothing that a proxy passed on is exempt.
    fn enter(&mut self, speaker: Speaker, cx: &mut Cx<'_>) -> Result<(), PeerRefusal> {
        if !self.is_counted(speaker, cx.settings) {
            return Ok(());
        }
        let peers = &cx.settings.manners.peers;
        let spares_loopback = peers.spares_loopback && !speaker.forwarded;
        cx.peers.enter(speaker.address, cx.now.at, &PeerLimits { spares_loopback, ..*peers })
    }

    /// Counts what came from another shard, where it was let in.
    fn arrive_in_crowd(&mut self, speaker: Speaker, cx: &mut Cx<'_>) {
        if self.is_counted(speaker, cx.settings) {
            cx.peers.arrive(speaker.address);
        }
    }

    fn leave_crowd(&mut self, speaker: Speaker, cx: &mut Cx<'_>) {
        if self.is_counted(speaker, cx.settings) {
            cx.peers.leave(speaker.address, cx.now.at);
        }
    }

    fn is_counted(&self, speaker: Speaker, settings: &Settings) -> bool {
        speaker.forwarded || !settings.manners.is_proxy(speaker.address)
    }

    /// What must hold at the end of every turn.
    fn check_invariants(&self, resources: &Resources) {
        resources.wheel.check_invariants();
        self.band.check_invariants(resources);
        let links =
            self.conns.iter().filter(|(_, conn)| matches!(conn.state, Protocol::Client(_))).count();
        assert_eq!(links as u32, resources.report.counters.links, "links are counted");
        assert!(self.sids.len() <= links, "no session is known that is gone");
        assert!(resources.sender.len() <= links, "nothing is kept of connections that are gone");
        let counted = self
            .conns
            .iter()
            .filter(|(_, conn)| self.is_counted(conn.speaker(), &resources.settings))
            .count();
        assert_eq!(
            counted as u64,
            resources.peers.connections(),
            "connections are counted under their addresses"
        );
    }
}
