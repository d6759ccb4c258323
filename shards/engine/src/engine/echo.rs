//! Three small applications in place of a band, each above another layer of the wire: they echo WebSocket messages,
//! Engine.IO messages, or Socket.IO events. Outside suites examine those layers through them.

use serde::{Deserialize, Serialize};

use super::alarm::RoomKey;
use super::link::{NOT_SOCKET_IO, Step};
use super::outbox::Lane;
use super::recovery::{Bounds, Offset, Pid};
use super::slots::SlotKey;
use super::{Engine, State};
use crate::io::{Close, Outputs};
use crate::session::Audience;
use crate::speech::LeaveReason;
use crate::wire::engine_packet;
use crate::wire::json;
use crate::wire::payload::{Version, attachment_text};
use crate::wire::socket_packet::{self, Body, Packet};
use crate::words::application::Application;
use crate::words::ids::{ConnId, MemberId};
use crate::words::time::Micros;

/// The namespaces that there are.
const NAMESPACES: [&str; 2] = ["/", "/custom"];

/// Arguments of an event that comes back.
const ARGUMENTS_MAX: usize = 1_000_000;

/// How long the second of two packets waits that a client gets unasked. Suites listen for it when they have had the
/// first; if both came in one read it would be gone by then.
const PAUSE: Micros = Micros::from_millis(20);

/// What is kept of a client.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Echoed {
    joined: Vec<Joined>,
    /// Packets that wait, and until when.
    later: Vec<Vec<u8>>,
    due_at: Micros,
}

/// A client in a namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Joined {
    namespace: String,
    /// Its socket id there.
    member: MemberId,
    /// What brings it back if the connection is lost.
    pid: Option<Pid>,
}

impl Echoed {
    /// When something is to be said.
    pub fn deadline(&self) -> Option<Micros> {
        (!self.later.is_empty()).then_some(self.due_at)
    }
}

impl Engine {
    /// A WebSocket has said something: it comes back.
    pub(super) fn echo_text(&mut self, id: ConnId, text: &str, out: &mut Outputs) -> Step {
        self.text(id, out, |bytes| bytes.extend_from_slice(text.as_bytes()));
        Step::Go
    }

    /// The same with bytes.
    pub(super) fn echo_binary(&mut self, id: ConnId, data: &[u8], out: &mut Outputs) -> Step {
        let lane = self.link_mut(id).map_or(Lane::Plain, |link| link.lane);
        self.outbox.message(out, id, lane, false, data);
        Step::Go
    }

    /// A message of Engine.IO comes back.
    pub(super) fn echo_message(&mut self, id: ConnId, text: &str, out: &mut Outputs) -> Step {
        self.text(id, out, |bytes| {
            bytes.push(engine_packet::MESSAGE);
            bytes.extend_from_slice(text.as_bytes());
        });
        Step::Go
    }

    /// A client is here and is to be greeted. Above Engine.IO there may be nothing to connect to; version 3 is
    /// connected by that.
    pub(super) fn echo_opened(&mut self, id: ConnId, sid: MemberId, open: Vec<u8>, out: &mut Outputs) {
        let is_bare = self.settings.application == Application::EngineEcho;
        let Some(link) = self.link_mut(id) else { return };
        let mut echoed = Echoed::default();
        let is_old = link.version == Version::V3 && !is_bare;
        if is_old {
            echoed.joined.push(Joined { namespace: "/".to_owned(), member: sid, pid: None });
        }
        link.echo = Some(Box::new(echoed));
        if is_bare || is_old {
            link.settled();
        }
        self.echo_later(id, open, out);
        if is_old {
            self.echo_later(id, socket_packet::CONNECTED_V3.to_vec(), out);
            self.echo_event(id, "/", "auth", &["{}"], &[], true, out);
        }
    }

    /// Tells a packet after a pause, or now in the answer to a request.
    fn echo_later(&mut self, id: ConnId, packet: Vec<u8>, out: &mut Outputs) {
        let due_at = self.now.at + PAUSE;
        let Some(link) = self.link_mut(id) else { return };
        match &mut link.echo {
            Some(echoed) if link.lane != Lane::Polled => {
                echoed.later.push(packet);
                echoed.due_at = due_at;
                self.arm(id);
            }
            _ => self.text(id, out, |bytes| bytes.extend_from_slice(&packet)),
        }
    }

    /// Tells what has waited: its time has come, or the client has said something.
    pub(super) fn echo_now(&mut self, id: ConnId, out: &mut Outputs) {
        let later = self.link_mut(id).and_then(|link| link.echo.as_mut());
        for packet in later.map(|echoed| std::mem::take(&mut echoed.later)).unwrap_or_default() {
            self.text(id, out, |bytes| bytes.extend_from_slice(&packet));
        }
    }

    /// A packet of Socket.IO: `message` comes back as `message-back`, `message-with-ack` as its acknowledgement.
    pub(super) fn echo_packet(
        &mut self,
        id: ConnId,
        packet: &Packet<'_>,
        attachments: &[Vec<u8>],
        out: &mut Outputs,
    ) -> Step {
        let Some(link) = self.link_mut(id) else { return Step::Gone };
        // Clients of version 3 put what they authenticate with behind the name.
        let (name, query) = match packet.namespace.split_once('?') {
            Some((name, query)) if link.version == Version::V3 => (name, Some(query)),
            _ => (packet.namespace, None),
        };
        let Some(echoed) = &mut link.echo else { return Step::Gone };
        let place = echoed.joined.iter().position(|joined| joined.namespace == name);
        match (&packet.body, place) {
            (Body::Connect { .. }, None) if !NAMESPACES.contains(&name) => self.echo_refusal(id, packet, out),
            (Body::Connect { auth }, None) => {
                let before = auth
                    .and_then(socket_packet::recovery)
                    .and_then(|(pid, offset)| Some((Pid(MemberId::parse(&pid)?), Offset::parse(&offset)?)));
                let queried = query.map(query_object);
                let auth = queried.as_deref().or(*auth).unwrap_or("{}");
                self.echo_connect(id, name, auth, before, out);
            }
            (Body::Disconnect, Some(place)) => drop(echoed.joined.remove(place)),
            (Body::Event { ack, event: Some(event) }, Some(_)) => {
                let Some(items) = json::items(event.array, ARGUMENTS_MAX) else {
                    return self.expel(id, NOT_SOCKET_IO, LeaveReason::Forced, out);
                };
                let arguments = items.get(1..).unwrap_or_default();
                match (&*event.name, ack) {
                    ("message", _) => {
                        self.echo_event(id, name, "message-back", arguments, attachments, false, out)
                    }
                    ("message-with-ack", Some(ack)) => {
                        self.echo_ack(id, name, *ack, arguments, attachments, out);
                    }
                    _ => {}
                }
            }
            (Body::Event { event: None, .. } | Body::Ack { .. }, Some(_)) => {}
            _ => return self.expel(id, NOT_SOCKET_IO, LeaveReason::Forced, out),
        }
        Step::Go
    }

    fn echo_refusal(&mut self, id: ConnId, packet: &Packet<'_>, out: &mut Outputs) {
        let why = "Invalid namespace";
        self.text(id, out, |bytes| socket_packet::connect_error(bytes, packet.namespace, why));
    }

    /// Connects a client to a namespace: as who it was `before`, with what it missed, or anew.
    pub(super) fn echo_connect(
        &mut self,
        id: ConnId,
        namespace: &str,
        auth: &str,
        before: Option<(Pid, Offset)>,
        out: &mut Outputs,
    ) {
        let window = self.settings.transports.recovery;
        let is_old = self.link_mut(id).is_some_and(|link| link.version == Version::V3);
        let recovers = window > Micros::ZERO && !is_old;
        let known =
            before.filter(|_| recovers).and_then(|before| self.echo_recover(id, namespace, before, out));
        let joined = match known {
            Some(joined) => joined,
            None => {
                let pid = recovers.then(|| Pid(self.new_id()));
                Joined { namespace: namespace.to_owned(), member: self.new_id(), pid }
            }
        };
        let Some(link) = self.link_mut(id) else { return };
        link.settled();
        if let Some(echoed) = &mut link.echo {
            echoed.joined.push(joined.clone());
        }
        self.text(id, out, |bytes| {
            let start = bytes.len();
            let pid = joined.pid.as_ref().map(|pid| pid.0.as_str());
            socket_packet::connected(bytes, joined.member.as_str(), pid);
            if is_old {
                bytes.truncate(start + 2);
            }
            socket_packet::name_namespace(bytes, start, namespace);
        });
        self.echo_event(id, namespace, "auth", &[auth], &[], true, out);
    }

    /// Who a client was, after it was told what it missed.
    fn echo_recover(
        &mut self,
        id: ConnId,
        namespace: &str,
        (pid, offset): (Pid, Offset),
        out: &mut Outputs,
    ) -> Option<Joined> {
        // The client may have noticed the loss before we did.
        let is_it = |joined: &Joined| joined.pid == Some(pid);
        let old = self.conns.iter().find_map(|(old, conn)| match &conn.state {
            State::Link(link)
                if old != id && link.echo.iter().any(|echoed| echoed.joined.iter().any(is_it)) =>
            {
                Some(old)
            }
            _ => None,
        });
        if let Some(old) = old {
            self.forget(old, LeaveReason::TransportClosed, out);
            out.close(old, Close::Abort);
        }
        let window = self.settings.transports.recovery;
        let mut bounds = Bounds { window, limits: &self.settings.limits, bytes: &mut self.remembered };
        let joined = self.echoed.take(self.now.at, pid, &mut bounds)?;
        if joined.namespace != namespace || !self.echoed.reaches(offset.number) {
            return None;
        }
        let missed = self.echoed.missed(offset.number, joined.member, false);
        let missed: Vec<Vec<u8>> = missed.map(<[u8]>::to_vec).collect();
        for event in missed {
            for packet in event.split(|byte| *byte == SEPARATOR) {
                self.text(id, out, |bytes| bytes.extend_from_slice(packet));
            }
        }
        Some(joined)
    }

    /// A connection is gone; unless on purpose, its client may come back.
    pub(super) fn echo_lost(&mut self, echoed: Option<Box<Echoed>>, reason: LeaveReason) {
        if matches!(reason, LeaveReason::Left | LeaveReason::Disconnected) {
            return;
        }
        let window = self.settings.transports.recovery;
        let mut bounds = Bounds { window, limits: &self.settings.limits, bytes: &mut self.remembered };
        for joined in echoed.into_iter().flat_map(|echoed| echoed.joined) {
            if let Some(pid) = joined.pid {
                self.echoed.keep(self.now.at, pid, joined, &mut bounds);
            }
        }
    }

    /// Tells an event: with its offset to who may come back, and remembers it for that.
    #[allow(clippy::too_many_arguments)] // the parts of an event
    fn echo_event(
        &mut self,
        id: ConnId,
        namespace: &str,
        name: &str,
        arguments: &[&str],
        attachments: &[Vec<u8>],
        later: bool,
        out: &mut Outputs,
    ) {
        let mut packet = Vec::new();
        socket_packet::event_with(&mut packet, namespace, attachments.len(), name, arguments);
        let Some(link) = self.link_mut(id) else { return };
        let joined = link.echo.iter().flat_map(|echoed| &echoed.joined);
        let joined = joined.into_iter().find(|joined| joined.namespace == namespace);
        if let Some((member, _)) = joined.and_then(|joined| Some((joined.member, joined.pid?))) {
            let room = RoomKey::from_parts(0, 0);
            let offset = Offset { shard: self.settings.shard, room, number: self.echoed.told() + 1 };
            socket_packet::append_offset(&mut packet, &offset.to_string());
            let mut whole = packet.clone();
            for attachment in attachments {
                whole.push(SEPARATOR);
                attachment_text(&mut whole, attachment, Version::V4);
            }
            let window = self.settings.transports.recovery;
            let mut bounds = Bounds { window, limits: &self.settings.limits, bytes: &mut self.remembered };
            self.echoed.push(self.now.at, Audience::One(member), whole, &mut bounds);
        }
        if later {
            return self.echo_later(id, packet, out);
        }
        self.text(id, out, |bytes| bytes.extend_from_slice(&packet));
        for attachment in attachments {
            self.send_attachment(id, attachment, out);
        }
    }

    fn echo_ack(
        &mut self,
        id: ConnId,
        namespace: &str,
        ack: u64,
        arguments: &[&str],
        attachments: &[Vec<u8>],
        out: &mut Outputs,
    ) {
        self.text(id, out, |bytes| {
            socket_packet::ack_with(bytes, namespace, attachments.len(), ack, arguments)
        });
        for attachment in attachments {
            self.send_attachment(id, attachment, out);
        }
    }
}

/// What stands between a remembered event and its attachments; JSON has it escaped.
const SEPARATOR: u8 = 0x1e;

/// The parameters of a query as an object of texts.
fn query_object(query: &str) -> String {
    let mut object = vec![b'{'];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if object.len() > 1 {
            object.push(b',');
        }
        json::print_string(&mut object, name);
        object.push(b':');
        json::print_string(&mut object, value);
    }
    object.push(b'}');
    String::from_utf8_lossy(&object).into_owned()
}
