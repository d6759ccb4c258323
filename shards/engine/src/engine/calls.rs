//! Events of clients: within their rates they become calls of the rooms, whose replies become
//! acknowledgements.
//!
//! If values come too fast, the newest of each event waits until the rate allows it, so that a
//! dragged slider ends where it was released. It is applied before any later command of its client,
//! even if the rate does not allow it yet, so commands take effect in the order in which they were
//! sent. The client's total then runs into debt, so in the long run it sends no more than allowed.
//! A value that waits does not count as a rejection.

use std::borrow::Cow;

use super::Shard;
use super::joins::PendingJoin;
use crate::context::Cx;
use crate::rooms::clustered::{Clustered, HeldAnswer, HeldCommand, PendingReply};
use crate::rooms::{Call, Caller, Reply, Way};
use crate::session::Session;
use crate::speech::{
    Ack, ClientCommand, ClientNotice, Code, Command, LeaveReason, Reject, SessionCommand,
};
use crate::transport::{
    Awaits, Closing, Connections, LateValue, NamedEvent, Next, Payload, Reason, ReplyTo, latest,
};
use crate::wire::events::{self, ClientEvent, class};
use crate::wire::{json::Value, print};
use crate::words::ids::ConnId;
use crate::words::music::Position;
use crate::words::time::Micros;

impl Shard {
    /// Handles an event: counts it against the rates, then reads and applies it.
    pub(super) fn event(&mut self, sent: &NamedEvent<'_>, cx: &mut Cx<'_>) -> Next {
        let event = ClientEvent::from_name(&sent.event);
        let has_late = match self.transport.connections.admit(sent.client, event, cx) {
            Ok(has_late) => has_late,
            Err(wait) => return self.too_fast(sent, event, wait, cx),
        };
        if has_late && let Some(event) = event.filter(|event| event.is_command()) {
            self.catch_up(sent, event, cx); // mark: later_command_overtakes
        }
        let to = sent.reply_to();
        let reject = match (event, sent.payload) {
            (Some(event), Payload::Read { .. }) => {
                return self.command(event, to, sent.payload, cx);
            }
            (Some(_), Payload::TooLong(bytes)) => {
                let most = crate::transport::EVENT_BYTES_MAX;
                let what = format!("such an event must be at most {most} bytes");
                Reject::too_large(what, bytes, most)
            }
            (None, _) => {
                let message = match events::our_name_for(&sent.event) {
                    Some(ours) => format!("unknown event: send {ours} instead").into(),
                    None => Cow::from("unknown event"),
                };
                Reject::new(Code::UnknownEvent, message)
            }
        };
        self.transport.connections.reject(to, &reject, cx);
        Next::Continue
    }

    /// Reads an event and applies it.
    pub(super) fn command(
        &mut self,
        event: ClientEvent,
        to: ReplyTo<'_>,
        payload: Payload<'_>,
        cx: &mut Cx<'_>,
    ) -> Next {
        let call = match event.read(payload.value()) {
            Ok(Command::Client(command)) => {
                self.client_command(to, command, cx);
                return Next::Continue;
            }
            Ok(Command::Join(join)) => Call::Join(join),
            Ok(Command::Leave(session)) => Call::Leave(session),
            Ok(Command::Session(session, terms, command)) => Call::Session(session, terms, command),
            Err(reject) => {
                self.answer(to, payload, Err(reject), cx);
                return Next::Continue;
            }
        };
        self.call(to, payload, call, cx)
    }

    /// Handles the `join_session` that brought a client here, or that waited. It was counted
    /// against the rates before.
    pub(super) fn join(
        &mut self,
        client: ConnId,
        ack: Option<u64>,
        payload: &str,
        cx: &mut Cx<'_>,
    ) {
        let event = ClientEvent::JoinSession;
        let to = ReplyTo { client, event: event.name(), ack };
        let payload = Payload::Read { value: payload.into(), array: "" };
        match self.command(event, to, payload, cx) {
            Next::Continue => {}
            Next::Defer(awaits) => self.transport.connections.wait(client, awaits),
            Next::HandOver(..) => panic!("a session is at home on one shard"),
        }
    }

    /// Passes a call to the rooms, and answers it if the outcome is known now.
    fn call(&mut self, to: ReplyTo<'_>, payload: Payload<'_>, call: Call, cx: &mut Cx<'_>) -> Next {
        let Some(caller) = caller(&self.transport.connections, to.client) else {
            return Next::Continue;
        };
        match self.rooms.call(&caller, call, cx) {
            Reply::Now { seat, replaced, outcome } => {
                if let Some(replaced) = replaced {
                    self.dismiss(replaced, cx);
                }
                if let Some(client) = self.transport.connections.client_mut(to.client) {
                    client.seat = seat;
                }
                self.answer(to, payload, outcome, cx);
                Next::Continue
            }
            Reply::Forward(room) => {
                let event = ClientEvent::from_name(to.event);
                let is_join = event == Some(ClientEvent::JoinSession);
                let event = event.map_or("", ClientEvent::name);
                let (client, ack, payload) = (to.client, to.ack, payload.written());
                let member = caller.member;
                let reply = PendingReply { client, member, event, ack, payload, is_join };
                match Clustered::of(&mut self.rooms).forward(room, &caller, reply, cx) {
                    Ok(()) if is_join => Next::Defer(Awaits::Node),
                    Ok(()) => Next::Continue,
                    Err(reject) => {
                        self.transport.connections.reject(to, &reject, cx);
                        Next::Continue
                    }
                }
            }
            Reply::NotLoaded(session) => {
                let (client, ack, payload) = (to.client, to.ack, payload.written());
                self.joins.wait(session, PendingJoin::Local { client, ack, payload }, cx);
                Next::Defer(Awaits::Storage)
            }
            Reply::Elsewhere(shard) => {
                debug_assert!(shard != cx.settings.shard, "a session lives on another shard");
                match caller.seat {
                    Some(seat) => self.ask_admission(to, payload, (seat, caller.member), shard, cx),
                    None => {
                        let reason = Reason::Join { ack: to.ack, payload: payload.written() };
                        Next::HandOver(shard, reason)
                    }
                }
            }
        }
    }

    /// Notifies a client that another connection has its seat now. The client stays connected: if
    /// it were closed, it would reconnect and take the seat back.
    pub(super) fn dismiss(&mut self, client: ConnId, cx: &mut Cx<'_>) {
        if let Some(client) = self.transport.connections.client_mut(client) {
            client.seat = None; // mark: replaced_client_keeps_its_seat
        }
        let message = "another connection with your token has your seat now: join again to take \
                       it back";
        let to = ReplyTo { client, event: ClientEvent::JoinSession.name(), ack: None };
        self.transport.connections.reject(to, &Reject::new(Code::Replaced, message), cx);
    }

    /// Answers a call, then sends its effects to the session. In a cluster the answer may have to
    /// wait until the decision is stored.
    fn answer(
        &mut self,
        to: ReplyTo<'_>,
        payload: Payload<'_>,
        outcome: Result<Ack, Reject>,
        cx: &mut Cx<'_>,
    ) {
        let client = self.transport.connections.client(to.client);
        let seat = client.and_then(|client| client.seat);
        if cx.settings.cluster.is_some()
            && let Some(seat) = seat
            && let Some(event) = ClientEvent::from_name(to.event)
        {
            let mut rooms = Clustered::of(&mut self.rooms);
            if rooms.holds(seat.room, cx.now.at) {
                let caller = caller(&self.transport.connections, to.client);
                // A join is repeated by its client.
                let is_command = outcome.is_ok() && event != ClientEvent::JoinSession;
                let command =
                    caller.filter(|_| is_command).map(|Caller { member, peer, .. }| HeldCommand {
                        up: 0,
                        member,
                        peer,
                        payload: payload.written(),
                    });
                let (client, ack, event) = (to.client, to.ack, event.name());
                rooms.hold(seat.room, HeldAnswer { client, event, ack, outcome, command });
                return self.rooms.settle(seat, cx);
            }
        }
        let session = seat.and_then(|seat| self.rooms.session_of(seat)).map(Session::id);
        self.transport.connections.answer(to, &outcome, session, cx);
        // The sender must learn the outcome before the effects, so the acknowledgement is first.
        if let Some(seat) = seat {
            self.rooms.settle(seat, cx);
        }
    }

    /// Handles and answers a command that concerns the connection alone.
    fn client_command(&mut self, to: ReplyTo<'_>, command: ClientCommand, cx: &mut Cx<'_>) {
        let shows_life =
            matches!(command, ClientCommand::Heartbeat { .. } | ClientCommand::Pong { .. });
        let Some(client) = self.transport.connections.client_mut(to.client) else { return };
        let Some(ack) = client.command(to.client, command, to.ack.is_some(), cx) else { return };
        let latency = client.latency_p95();
        if shows_life
            && let Some(member) = client.member
            && let Some(seat) = &mut client.seat
        {
            self.rooms.touch_member(seat, member, cx.now.unix, latency);
        }
        let session = client.seat.and_then(|seat| self.rooms.session_of(seat)).map(Session::id);
        if let Some(id) = to.ack {
            client.send(to.client, cx, |bytes| print::ack(bytes, id, session, &ack));
        }
    }

    /// Handles an event that came too fast: keeps it for later, or rejects it. Too many rejections
    /// close the connection.
    #[cold]
    fn too_fast(
        &mut self,
        sent: &NamedEvent<'_>,
        event: Option<ClientEvent>,
        wait: Micros,
        cx: &mut Cx<'_>,
    ) -> Next {
        let id = sent.client;
        if event.is_some_and(|event| self.keep_late(sent, event, wait, cx)) {
            return Next::Continue;
        }
        let Some(client) = self.transport.connections.client_mut(id) else {
            return Next::Continue;
        };
        let notice = ClientNotice::RateLimitExceeded { event: &sent.event, retry_after: wait };
        client.notify(id, &notice, cx);
        if let Some(ack) = sent.ack {
            cx.report.counters.rejected(Code::RateLimited);
            let message = format!("too many of these: try again in {} ms", wait.as_millis() + 1);
            let reject =
                Reject { retry_after: Some(wait), ..Reject::new(Code::RateLimited, message) };
            client.send(id, cx, |bytes| print::rejection(bytes, ack, &reject));
        }
        if client.rates.reject(cx.now.at, &cx.settings.policy.rates) {
            let refusals = cx.settings.policy.rates.refusals_max;
            let why = format!("event rates exceeded {refusals} times within a minute");
            self.close(id, Closing::expelled(why, LeaveReason::Forced), cx);
        }
        Next::Continue
    }

    /// Keeps an event that came too fast, if only the newest value of its kind counts. Returns
    /// false if the event is to be rejected instead.
    fn keep_late(
        &mut self,
        sent: &NamedEvent<'_>,
        event: ClientEvent,
        wait: Micros,
        cx: &mut Cx<'_>,
    ) -> bool {
        let Some((session, terms, command)) = latest(event, sent.payload.value()) else {
            return false;
        };
        let Some(client) = self.transport.connections.client_mut(sent.client) else { return false };
        if self.rooms.seat_in(client.seat, &session).is_err() {
            return false;
        }
        let now = cx.now.at;
        client.active_at = now;
        let (ack, since, due) = (sent.ack, now, now + wait);
        let may_travel = cx.settings.cluster.is_some();
        let payload = may_travel.then(|| sent.payload.written().into());
        let new = LateValue { event, ack, session, terms, command, payload, since, due };
        if let Some(needless) = client.late_mut().keep(new) {
            self.supersede(sent.client, &needless, cx);
        }
        true
    }

    /// Applies the waiting values before a later command that its rate allows. If that command is a
    /// new value of the same event, the waiting one is superseded.
    #[cold]
    fn catch_up(&mut self, sent: &NamedEvent<'_>, event: ClientEvent, cx: &mut Cx<'_>) {
        let Some(client) = self.transport.connections.client_mut(sent.client) else { return };
        if let Some(new) = latest(event, sent.payload.value())
            && let Some(old) = client.late_mut().superseded_by(event, &new)
        {
            self.supersede(sent.client, &old, cx);
        }
        while self.apply_first(sent.client, true, cx) {}
    }

    /// Handles the deadline of a connection: closes it, or applies waiting values and sends pings.
    pub(super) fn handle_deadline(&mut self, conn: ConnId, cx: &mut Cx<'_>) {
        if let Some(closing) = self.transport.overdue(conn, cx) {
            return self.close(conn, closing, cx);
        }
        self.apply_late(conn, cx);
        let client = self.transport.connections.client_mut(conn);
        if let Some(closing) = client.and_then(|client| client.send_due_pings(conn, cx)) {
            self.close(conn, closing, cx);
        }
    }

    /// Applies the waiting values that the rates allow by now, and those that came before them.
    fn apply_late(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        let now = cx.now.at;
        loop {
            let Some(client) = self.transport.connections.client_mut(id) else { return };
            let Some((index, event)) = client.late().and_then(|late| late.due(now)) else { return };
            match client.rates.take(now, class(Some(event)), &cx.settings.policy.rates) {
                Err(wait) => client.late_mut().postpone(index, now + wait),
                Ok(()) => {
                    for _ in 0..index {
                        self.apply_first(id, true, cx);
                    }
                    self.apply_first(id, false, cx);
                }
            }
        }
    }

    /// Applies the value that has waited longest; `takes` counts it against the rates in advance.
    /// Returns false if none waits.
    fn apply_first(&mut self, id: ConnId, takes: bool, cx: &mut Cx<'_>) -> bool {
        let now = cx.now.at;
        let Some(client) = self.transport.connections.client_mut(id) else { return false };
        let first = client.late().is_some().then(|| client.late_mut().pop()).flatten();
        if client.late().is_none() {
            client.drop_late();
        }
        let Some(value) = first else { return false };
        let joined = client.seat.and_then(|seat| self.rooms.session_of(seat));
        let plays = joined.is_some_and(|session| session.is_playing(now));
        let LateValue { event, ack, session, terms, mut command, payload, since, .. } = value;
        if takes {
            client.rates.take_anyway(now, class(Some(event)), &cx.settings.policy.rates);
        }
        if let SessionCommand::PositionSync { position, .. } = &mut command
            // mark: late_report_undated
            && plays
        {
            // The position was right when it came, and its sender has played on since.
            let moved = Micros::from_micros(position.as_micros()) + now.since(since);
            *position = Position::from_micros(moved.as_micros()).unwrap_or(Position::MAX);
        }
        let to = ReplyTo { client: id, event: event.name(), ack };
        let value = payload.as_deref().map_or(Value::NONE, Value::from);
        let payload = Payload::Read { value, array: "" };
        self.call(to, payload, Call::Session(session, terms, command), cx);
        true
    }

    /// Acknowledges a value that a newer one supersedes.
    fn supersede(&mut self, id: ConnId, needless: &LateValue, cx: &mut Cx<'_>) {
        let to = ReplyTo { client: id, event: needless.event.name(), ack: needless.ack };
        let client = self.transport.connections.client(id);
        let seat = client.and_then(|client| client.seat);
        match self.rooms.seat_in(seat, &needless.session) {
            Ok(seat) => {
                let Some(session) = self.rooms.session_of(seat) else { return };
                let (epoch, version) = (session.epoch(), session.version());
                let outcome = Ok(Ack::Superseded { epoch, version });
                self.transport.connections.answer(to, &outcome, Some(session.id()), cx);
            }
            Err(reject) => self.transport.connections.reject(to, &reject, cx),
        }
    }
}

/// Returns the rooms' view of a connected client.
pub(super) fn caller(connections: &Connections, id: ConnId) -> Option<Caller> {
    let peer = connections.peer(id)?;
    let client = connections.client(id)?;
    let (member, way, seat) = (client.member?, Way::Here(client.route(id)), client.seat);
    Some(Caller { peer, member, way, seat })
}
