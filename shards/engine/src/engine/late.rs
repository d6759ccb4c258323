//! Values that came too fast: the newest of each event waits until there is room for it, so that a
//! slider that is dragged ends where it was let go.
//!
//! A value that waits is applied before any later command of its connection, whether there is room
//! by then or not, so commands take effect in the order in which they were sent. For that one the
//! total of the connection runs into debt: nobody sends more than that in the long run. None of
//! this counts as a refusal.
//!
//! The values belong to the connection and end with it. `join_session` is a later command, so
//! nothing waits when a connection moves to another shard.

use super::event::EventCall;
use super::{Shard, Protocol};
use crate::band::Call;
use crate::context::Cx;
use crate::speech::{Ack, Command, SessionCommand};
use crate::wire::events::{ClientEvent, class};
use crate::wire::json::Value;
use crate::words::ids::{CommandId, ConnId, SessionId};
use crate::words::music::Position;
use crate::words::time::Micros;

/// What waits of one connection, in order of arrival: at most one value of each event that may
/// wait.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Late(Vec<Waiting>);

#[derive(Clone, Debug, PartialEq)]
struct Waiting {
    event: ClientEvent,
    ack: Option<u64>,
    session: SessionId,
    id: Option<CommandId>,
    command: SessionCommand,
    /// When it came.
    since: Micros,
    /// When there may be room for it.
    due: Micros,
}

impl Late {
    /// When there may be room for the first of them.
    pub fn deadline(&self) -> Option<Micros> {
        self.0.iter().map(|waiting| waiting.due).min()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn place_of(&self, event: ClientEvent) -> Option<usize> {
        self.0.iter().position(|waiting| waiting.event == event)
    }
}

impl Waiting {
    /// Whether a later value of the same event takes its place. A command that is sent again does
    /// not, if it is older by its number.
    fn gives_way_to(&self, id: Option<CommandId>) -> bool {
        let older = |(own, other): (CommandId, CommandId)| {
            own.client == other.client && other.number <= own.number
        };
        !self.id.zip(id).is_some_and(older)
    }
}

impl Shard {
    /// Keeps an event that came too fast, if it is one of which the newest value counts and the
    /// others do not. False if it is to be refused.
    pub(super) fn keep_late(
        &mut self,
        said: EventCall<'_>,
        event: ClientEvent,
        wait: Micros,
        cx: &mut Cx<'_>,
    ) -> bool {
        let Some((session, id, command)) = value(event, said.payload) else { return false };
        let seat = self.link_mut(said.conn).and_then(|link| link.seat);
        if self.band.seat_in(seat, &session).is_err() {
            return false;
        }
        let now = cx.now.at;
        let Some(link) = self.link_mut(said.conn) else { return false };
        link.active_at = now;
        let late = link.late_mut();
        let new =
            Waiting { event, ack: said.ack, session, id, command, since: now, due: now + wait };
        let needless = match late.place_of(event) {
            Some(old) if !late.0[old].gives_way_to(new.id) => Some(new), // mark: older_value_wins
            old => {
                let old = old.map(|old| late.0.remove(old));
                late.0.push(new);
                old
            }
        };
        if let Some(needless) = needless {
            self.supersede(said.conn, &needless, cx);
        }
        true
    }

    /// Applies what waits before a command that came later and has room. A new value of an event
    /// makes the one that waits needless.
    #[cold]
    pub(super) fn catch_up(&mut self, said: EventCall<'_>, event: ClientEvent, cx: &mut Cx<'_>) {
        let new = value(event, said.payload);
        let Some(late) = self.link_mut(said.conn).map(|link| link.late_mut()) else { return };
        if let Some((session, id, _)) = new
            && let Some(old) = late.place_of(event)
            && late.0[old].session == session
            && late.0[old].gives_way_to(id)
        {
            let old = late.0.remove(old);
            self.supersede(said.conn, &old, cx);
        }
        while self.apply_first(said.conn, true, cx) {}
    }

    /// Applies what there is room for now, and what came before that.
    pub(super) fn late_due(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        let now = cx.now.at;
        loop {
            let Some(Protocol::Client(link)) = self.conns.get_mut(id).map(|conn| &mut conn.state) else {
                return;
            };
            let place =
                link.late().and_then(|late| late.0.iter().position(|waiting| waiting.due <= now));
            let Some(place) = place else { return };
            let event = link.late_mut().0[place].event;
            match link.rates.take(now, class(Some(event)), &cx.settings.manners.rates) {
                Err(wait) => link.late_mut().0[place].due = now + wait,
                Ok(()) => {
                    for _ in 0..place {
                        self.apply_first(id, true, cx);
                    }
                    self.apply_first(id, false, cx);
                }
            }
        }
    }

    /// Applies the value that waits longest, with or without room for it. False if none waits.
    fn apply_first(&mut self, id: ConnId, takes: bool, cx: &mut Cx<'_>) -> bool {
        let now = cx.now.at;
        let Some(Protocol::Client(link)) = self.conns.get_mut(id).map(|conn| &mut conn.state) else {
            return false;
        };
        if link.late().is_none() {
            link.drop_late();
            return false;
        }
        let waiting = link.late_mut().0.remove(0);
        if link.late().is_none() {
            link.drop_late();
        }
        let Waiting { event, ack, session, id: command_id, mut command, since, .. } = waiting;
        if takes {
            link.rates.take_anyway(now, class(Some(event)), &cx.settings.manners.rates);
        }
        if let SessionCommand::PositionSync { position, .. } = &mut command
            // mark: late_report_undated
            && self.is_playing(id, cx)
        {
            // The place was reported when it came, and its sender has played on since.
            let moved = Micros::from_micros(position.as_micros()) + now.since(since);
            *position = Position::from_micros(moved.as_micros()).unwrap_or(Position::MAX);
        }
        let said = EventCall { conn: id, name: event.name(), ack, payload: Value::NONE, array: "" };
        self.call(said, Call::Session(session, command_id, command), cx);
        true
    }

    fn is_playing(&mut self, id: ConnId, cx: &Cx<'_>) -> bool {
        let seat = self.link_mut(id).and_then(|link| link.seat);
        let session = seat.and_then(|seat| self.band.session_of(seat));
        session.is_some_and(|session| session.is_playing(cx.now.at))
    }

    fn supersede(&mut self, conn: ConnId, needless: &Waiting, cx: &mut Cx<'_>) {
        let said = EventCall {
            conn,
            name: needless.event.name(),
            ack: needless.ack,
            payload: Value::NONE,
            array: "",
        };
        let seat = self.link_mut(conn).and_then(|link| link.seat);
        let seat = self.band.seat_in(seat, &needless.session);
        match seat.map(|seat| self.band.session_of(seat)) {
            Ok(Some(session)) => {
                let ack = Ack::Superseded { epoch: session.epoch(), version: session.version() };
                self.acknowledge(said, &ack, cx);
            }
            Ok(None) => {}
            Err(reject) => self.refuse(said, &reject, cx),
        }
    }
}

/// What an event says, if it is one of which the newest value counts.
fn value(
    event: ClientEvent,
    payload: Value<'_>,
) -> Option<(SessionId, Option<CommandId>, SessionCommand)> {
    if !event.may_wait() {
        return None;
    }
    match event.read(payload) {
        Ok(Command::Session(session, id, command)) if command.may_wait() => {
            Some((session, id, command))
        }
        _ => None,
    }
}
