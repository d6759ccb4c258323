//! An arm for each input, and the end of a turn: timers, batches, polls.

use super::Shard;
use super::joins::Joins;
use super::nodes;
use crate::context::Cx;
use crate::io::{FreeMemory, Input, Settings};
use crate::rooms::Rooms;
use crate::rooms::clustered::Clustered;
use crate::timers::Timer;
use crate::transport::{Arrival, BACKLOG_SCARCE, Closing, Profile, Transport};
use crate::words::ids::ConnId;

/// Maximum number of members that the batches of one turn are sent to while a session ticks.
/// Guessed.
pub(super) const FLUSH_MEMBERS_MAX: usize = 64;

impl Shard {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            transport: Transport::new(Profile::SERVER, settings),
            rooms: Rooms::new(settings),
            joins: Joins::default(),
            requests: 0,
        }
    }

    pub(super) fn handle(&mut self, input: Input<'_>, cx: &mut Cx<'_>) {
        if cx.settings.cluster.is_some() {
            Clustered::of(&mut self.rooms).wake(cx);
        }
        match input {
            Input::Opened { conn, peer } => self.transport.opened(conn, peer, cx),
            Input::Arrived { conn, state, .. } => self.arrived(conn, state, cx),
            Input::Received { conn, bytes } => {
                if let Some(incoming) = self.transport.received(conn, bytes, cx) {
                    self.read(incoming, cx);
                }
            }
            Input::ShardMessage { message } => self.message(message, cx),
            Input::Closed { conn, cause } => self.close(conn, Closing::lost(cause), cx),
            Input::Backlog { conn, bytes } => {
                if let Some(closing) = self.transport.connections.backlog(conn, bytes, cx) {
                    self.close(conn, closing, cx); // mark: slow_reader_stays
                }
            }
            Input::Responded { conn, response } => {
                if let Some(incoming) = self.transport.answered(conn, &response, cx) {
                    self.read(incoming, cx);
                }
            }
            // `Engine::handle` has set the wall clock.
            Input::WallClock { .. } => {}
            Input::Storage { event } => self.storage_event(event, cx),
            Input::Node { news } => nodes::news(self, news, cx),
            Input::Drain => self.drain(cx),
            Input::Memory(memory) => self.memory(memory, cx),
            Input::TurnEnded => {
                self.end_turn(cx);
                self.transport.give_back();
                cx.sender.give_back();
            }
        }
    }

    /// Adopts a connection from another shard, and continues where that shard stopped.
    fn arrived(&mut self, conn: ConnId, packed: &[u8], cx: &mut Cx<'_>) {
        let Some(Arrival { client, mut incoming }) = self.transport.adopt(conn, packed, cx) else {
            return;
        };
        if let Some((client, reason)) = client {
            if self.transport.connections.draining {
                return self.close(client, Closing::drained(), cx); // mark: arrival_after_the_end
            }
            self.take_up(client, reason, cx);
            self.transport.connections.keep_rest(&mut incoming, cx);
        }
        self.read(incoming, cx);
    }

    /// Tells all clients that the server goes away, and closes their connections. A connection with
    /// an incomplete request, with none yet, or with one that the host has not answered still
    /// receives its answer: pages and probes are served, and clients are rejected. So do
    /// connections that open later.
    fn drain(&mut self, cx: &mut Cx<'_>) {
        self.transport.connections.draining = true;
        self.rooms.drain();
        for conn in self.transport.connections.ids() {
            let connections = &mut self.transport.connections;
            if connections.http_mut(conn).is_some_and(|http| http.end_with_answer()) {
                connections.arm(conn, cx);
            } else {
                self.close(conn, Closing::drained(), cx);
            }
        }
        self.rooms.offer_all(cx);
        Clustered::of(&mut self.rooms).drain(cx);
    }

    fn memory(&mut self, memory: FreeMemory, cx: &mut Cx<'_>) {
        self.transport.memory = memory;
        if memory != FreeMemory::Enough {
            for conn in self.transport.connections.slow_readers(cx.now.at) {
                self.close(conn, Closing::slow_reader(BACKLOG_SCARCE), cx);
            }
            self.rooms.shed_memory(memory, cx);
        }
    }

    /// Fires due timers and answers polls, until neither causes the other: a client that polls too
    /// slowly is closed, and a parked request may have others behind it.
    fn end_turn(&mut self, cx: &mut Cx<'_>) {
        let mut reached = 0;
        loop {
            self.fire_timers(&mut reached, cx);
            self.answer_polls(cx);
            let is_due = cx.wheel.next_deadline().is_some_and(|at| at <= cx.now.at);
            if !is_due && !cx.sender.has_touched() {
                return;
            }
        }
    }

    /// Answers the parked requests whose clients have packets now, and reads the requests behind
    /// them.
    fn answer_polls(&mut self, cx: &mut Cx<'_>) {
        for client in cx.sender.take_touched() {
            if let Some(closing) = self.transport.flush_poll(client, cx) {
                self.close(client, closing, cx);
            }
        }
        while let Some(incoming) = self.transport.next_resumed() {
            self.read(incoming, cx);
        }
    }

    /// Fires due timers: ticks and the rest first, then the batches, whatever their deadlines,
    /// because ticks matter most. If windows have no length, closing one may open another that is
    /// due.
    ///
    /// While a session ticks, the batches of one turn reach about `FLUSH_MEMBERS_MAX` members.
    /// Further windows wait for the next turn, which first sends a tick that is due by then. After
    /// a power cut a whole hall joins at once, and every session has something to send.
    fn fire_timers(&mut self, reached: &mut usize, cx: &mut Cx<'_>) {
        self.rooms.prefetch(cx);
        let most = if *cx.ticking > 0 { FLUSH_MEMBERS_MAX } else { usize::MAX };
        loop {
            while let Some((due, timer)) = cx.wheel.fire(cx.now.at) {
                match timer {
                    Timer::Connection(conn) => {
                        self.transport.connections.fired(conn);
                        self.handle_deadline(conn, cx);
                        self.transport.connections.arm(conn, cx);
                    }
                    Timer::Tick(key) => self.rooms.tick(key, due, cx),
                    Timer::Batch(key) => self.rooms.close_window(key),
                    Timer::Room(key) => self.rooms.room_due(key, cx),
                    Timer::Offer => self.rooms.offer(cx),
                    Timer::LoadTimeout => self.load_timeout(cx),
                    Timer::Expire => self.rooms.expire_evicted(cx),
                    Timer::Nodes => nodes::look(self, cx),
                }
            }
            if !self.rooms.has_unflushed_batches() {
                return;
            }
            self.rooms.flush_windows(reached, most, cx);
            if *reached >= most {
                return;
            }
        }
    }
}
