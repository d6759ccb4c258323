//! A machine that runs a small application on the server's transport.

use bandsync_driver::Machine;
use bandsync_engine::context::{Cx, Resources};
use bandsync_engine::io::report::{Counters, Disconnect};
use bandsync_engine::io::{Input, Outputs, Settings};
use bandsync_engine::speech::LeaveReason;
use bandsync_engine::timers::Timer;
use bandsync_engine::transport::{Arrival, Closing, Event, Farewell, Incoming, Transport};
use bandsync_engine::words::ids::ConnId;
use bandsync_engine::words::time::Micros;

use super::Application;
use super::guests::Guests;

/// One shard of a conformance server.
pub struct Server {
    resources: Resources,
    shard: Shard,
}

struct Shard {
    transport: Transport,
    guests: Guests,
}

impl Server {
    /// A server of this application that has not seen anything yet.
    pub fn new(settings: Settings, application: Application) -> Self {
        let transport = Transport::new(application.profile(), &settings);
        let shard = Shard { transport, guests: Guests::new(application) };
        Self { resources: Resources::new(settings), shard }
    }
}

impl Machine for Server {
    type Counters = Counters;

    fn handle(&mut self, at: Micros, input: Input<'_>, out: &mut Outputs) {
        self.resources.advance(at);
        if let Input::WallClock { started_unix_ms } = input {
            self.resources.set_wall_clock(started_unix_ms);
        } else {
            self.shard.handle(input, &mut self.resources.lend(out));
        }
    }

    fn next_deadline(&self) -> Option<Micros> {
        let deadlines = [self.resources.wheel.next_deadline(), self.shard.guests.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    fn is_drained(&self) -> bool {
        self.shard.transport.connections.draining
    }

    fn counters(&self) -> Counters {
        let connections = self.shard.transport.connections.connections() as u32;
        Counters { connections, ..self.resources.report.counters }
    }

    fn disconnects(&mut self, each: impl FnMut(Disconnect)) {
        self.resources.report.disconnects.take(each);
    }
}

impl Shard {
    fn handle(&mut self, input: Input<'_>, cx: &mut Cx<'_>) {
        match input {
            Input::Opened { conn, peer } => self.transport.opened(conn, peer, cx),
            Input::Arrived { conn, state, .. } => {
                // Only requests and probes move: no client here asks for a session elsewhere.
                let arrival = self.transport.adopt(conn, state, cx);
                if let Some(Arrival { client: None, incoming }) = arrival {
                    self.read(incoming, cx);
                }
            }
            Input::Received { conn, bytes } => {
                if let Some(incoming) = self.transport.received(conn, bytes, cx) {
                    self.read(incoming, cx);
                }
            }
            Input::Closed { conn, cause } => self.close(conn, Closing::lost(cause), cx),
            Input::Backlog { conn, bytes } => {
                if let Some(closing) = self.transport.connections.backlog(conn, bytes, cx) {
                    self.close(conn, closing, cx);
                }
            }
            Input::Responded { conn, response } => {
                if let Some(incoming) = self.transport.answered(conn, &response, cx) {
                    self.read(incoming, cx);
                }
            }
            Input::Drain => {
                self.transport.connections.draining = true;
                for conn in self.transport.connections.ids() {
                    self.close(conn, Closing::drained(), cx);
                }
            }
            Input::TurnEnded => self.end_turn(cx),
            Input::Memory(memory) => self.transport.memory = memory,
            Input::WallClock { .. }
            | Input::Storage { .. }
            | Input::ShardMessage { .. }
            | Input::Node { .. } => {}
        }
    }

    fn read(&mut self, mut incoming: Incoming<'_>, cx: &mut Cx<'_>) {
        let mut reader = self.transport.reader.lend();
        loop {
            let mut reading = reader.begin();
            let Some(event) = self.transport.next(&mut incoming, &mut reading, cx) else { break };
            self.act(event, cx);
        }
        self.transport.reader.take_back(reader);
        self.transport.finish(incoming, cx);
    }

    fn act(&mut self, event: Event<'_>, cx: &mut Cx<'_>) {
        let connections = &mut self.transport.connections;
        match event {
            Event::Opened(opened) => self.guests.opened(opened, connections, cx),
            Event::Message { client: id, data } => {
                if let Some(client) = connections.client(id) {
                    self.guests.message(id, &data, client, cx);
                }
            }
            Event::Packet { client: id, packet, attachments } => {
                if let Some(old) = self.guests.holder(id, &packet) {
                    let closing = Closing::unlogged(LeaveReason::TransportClosed);
                    self.close(old, closing.with(Farewell::Abort), cx);
                }
                let Some(client) = self.transport.connections.client_mut(id) else { return };
                let closing = self.guests.packet(id, &packet, attachments, client, cx);
                if let Some(closing) = closing {
                    self.close(id, closing, cx);
                }
            }
            Event::Upgraded { from, to } => self.guests.relocate(from, to),
            Event::Due { client } => self.handle_deadline(client, cx),
            Event::Close { conn, closing } => self.close(conn, closing, cx),
            Event::Settled | Event::Named(_) | Event::Connect { .. } | Event::Disconnect { .. } => {
            }
        }
    }

    fn end_turn(&mut self, cx: &mut Cx<'_>) {
        loop {
            while let Some((_, timer)) = cx.wheel.fire(cx.now.at) {
                if let Timer::Connection(conn) = timer {
                    self.transport.connections.fired(conn);
                    self.handle_deadline(conn, cx);
                    self.transport.connections.arm(conn, cx);
                }
            }
            self.guests.flush_due(&self.transport.connections, cx);
            for client in cx.sender.take_touched() {
                if let Some(closing) = self.transport.flush_poll(client, cx) {
                    self.close(client, closing, cx);
                }
            }
            while let Some(incoming) = self.transport.next_resumed() {
                self.read(incoming, cx);
            }
            let is_due = cx.wheel.next_deadline().is_some_and(|at| at <= cx.now.at);
            if !is_due && !cx.sender.has_touched() {
                break;
            }
        }
        self.transport.give_back();
        cx.sender.give_back();
    }

    fn handle_deadline(&mut self, conn: ConnId, cx: &mut Cx<'_>) {
        if let Some(closing) = self.transport.overdue(conn, cx) {
            return self.close(conn, closing, cx);
        }
        let client = self.transport.connections.client_mut(conn);
        if let Some(closing) = client.and_then(|client| client.send_due_pings(conn, cx)) {
            self.close(conn, closing, cx);
        }
    }

    fn close(&mut self, conn: ConnId, closing: Closing, cx: &mut Cx<'_>) {
        let Some(mut gone) = self.transport.remove(conn, cx) else { return };
        self.guests.closed(conn, closing.reason, cx.now.at);
        while let Some(client) = self.transport.next_carried(&mut gone, cx) {
            self.close(client, Closing::unlogged(closing.reason), cx);
        }
        self.transport.release(gone, &closing, cx);
    }
}
