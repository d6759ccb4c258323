//! Small applications in place of a band, each above another layer of the wire: they echo WebSocket
//! messages or Engine.IO messages, or say what a [script] has for Socket.IO events. Outside suites
//! examine those layers through them.

use std::borrow::Cow;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::event::Next;
use super::script::{self, Heard, Namespace, Say, Value};
use super::{Shard, Protocol};
use crate::band::replay_log::{Bounds, EntryForm};
use crate::context::Cx;
use crate::delivery::route::Encoding;
use crate::io::Close;
use crate::session::Audience;
use crate::speech::LeaveReason;
use crate::wire::payload::{Version, attachment_text};
use crate::wire::socket_packet::{self, Body, Packet};
use crate::wire::{engine_packet, http, json};
use crate::words::application::Application;
use crate::words::ids::{ConnId, MemberId, Offset, RecoveryToken, RoomKey};
use crate::words::time::Micros;

/// Arguments of an event that comes back.
const ARGUMENTS_MAX: usize = 1_000_000;

/// Events of ours that a client may owe an acknowledgement for. Then the oldest is not expected any
/// more.
const ASKED_MAX: usize = 16;

/// How long the second of two packets waits that a client gets unasked. Suites listen for it when
/// they have had the first; if both came in one read it would be gone by then.
const PAUSE: Micros = Micros::from_millis(20);

/// How long a request for a session waits. Suites have clients that give up at once, which they
/// must have time for.
const HANDSHAKE: Micros = Micros::from_millis(10);

/// How long a probe waits for its answer in socket.io-client's tests, one of which counts the
/// packets of the first tenth of a second: other servers do not answer the waiting request earlier.
pub const PROBE: Micros = Micros::from_millis(100);

/// What is kept of a client.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Echoed {
    /// The query of its first request.
    query: String,
    joined: Vec<Joined>,
    /// Packets that wait, and until when.
    later: Vec<Vec<u8>>,
    due_at: Micros,
    /// The names of events that it has emitted and a rule was about.
    emitted: Vec<String>,
    /// Events that it is asked to acknowledge: under which id, in which namespace, and their names.
    asked: VecDeque<(u64, String, String)>,
    /// How many there were so far.
    asked_before: u64,
}

/// A client in a namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Joined {
    namespace: String,
    /// Its socket id there.
    member: MemberId,
    /// What it has connected with.
    auth: String,
    /// What brings it back if the connection is lost.
    pid: Option<RecoveryToken>,
}

/// What came with something that a client said, as far as an answer may need it.
#[derive(Clone, Copy, Default)]
struct Words<'a> {
    arguments: &'a [&'a str],
    attachments: &'a [Vec<u8>],
    /// Under which id it wants an acknowledgement.
    ack: Option<u64>,
    /// Whether the answer waits for a [`PAUSE`].
    later: bool,
}

/// What is said, ready to be printed.
#[derive(Default)]
struct Speech<'a> {
    arguments: Vec<Cow<'a, str>>,
    attachments: Vec<Cow<'a, [u8]>>,
}

impl Echoed {
    /// When something is to be said.
    pub fn deadline(&self) -> Option<Micros> {
        (!self.later.is_empty()).then_some(self.due_at)
    }

    /// Notes that an event is to be acknowledged; its id.
    fn ask(&mut self, namespace: &str, event: &str) -> u64 {
        let id = self.asked_before;
        self.asked_before += 1;
        self.asked.truncate(ASKED_MAX - 1);
        self.asked.push_front((id, namespace.to_owned(), event.to_owned()));
        id
    }

    /// The name of an event that is acknowledged now, unless that was not asked for.
    fn answered(&mut self, namespace: &str, id: u64) -> Option<String> {
        let place =
            self.asked.iter().position(|(asked, place, _)| *asked == id && place == namespace)?;
        self.asked.remove(place).map(|(_, _, event)| event)
    }
}

impl Shard {
    /// A WebSocket has said something: it comes back.
    pub(super) fn echo_text(&mut self, id: ConnId, text: &str, cx: &mut Cx<'_>) -> Next {
        self.text(id, cx, |bytes| bytes.extend_from_slice(text.as_bytes()));
        Next::Go
    }

    /// The same with bytes.
    pub(super) fn echo_binary(&mut self, id: ConnId, data: &[u8], cx: &mut Cx<'_>) -> Next {
        let lane = self.link_mut(id).map_or(Encoding::Plain, |link| link.lane);
        cx.sender.message(cx.out, id, lane, false, data);
        Next::Go
    }

    /// A message of Engine.IO comes back.
    pub(super) fn echo_message(&mut self, id: ConnId, text: &str, cx: &mut Cx<'_>) -> Next {
        self.text(id, cx, |bytes| {
            bytes.push(engine_packet::MESSAGE);
            bytes.extend_from_slice(text.as_bytes());
        });
        Next::Go
    }

    /// A client is here and is to be greeted. Above Engine.IO there may be nothing to connect to;
    /// version 3 is connected by that.
    pub(super) fn echo_opened(
        &mut self,
        id: ConnId,
        sid: MemberId,
        open: Vec<u8>,
        query: &str,
        cx: &mut Cx<'_>,
    ) {
        let now = cx.now.at;
        let is_bare = cx.settings.application == Application::EngineEcho;
        let Some(link) = self.link_mut(id) else { return };
        let is_old = link.version == Version::V3 && !is_bare;
        let pause = if link.lane == Encoding::Polled { HANDSHAKE } else { PAUSE };
        let mut echoed = Echoed { query: query.to_owned(), ..Echoed::default() };
        echoed.later.push(open);
        echoed.due_at = now + pause;
        if is_old {
            let (namespace, auth) = ("/".to_owned(), "{}".to_owned());
            echoed.joined.push(Joined { namespace, member: sid, auth, pid: None });
        }
        link.echo = Some(Box::new(echoed));
        if is_bare || is_old {
            link.settled();
        }
        if is_old {
            self.echo_later(id, socket_packet::CONNECTED_V3.to_vec(), cx);
            self.echo_greeting(id, "/", cx);
        }
        self.arm(id, cx);
    }

    /// Tells a packet after a pause. Who polls is told in the answer to a request, unless others
    /// wait already.
    fn echo_later(&mut self, id: ConnId, packet: Vec<u8>, cx: &mut Cx<'_>) {
        let due_at = cx.now.at + PAUSE;
        let Some(link) = self.link_mut(id) else { return };
        match &mut link.echo {
            Some(echoed) if link.lane != Encoding::Polled || !echoed.later.is_empty() => {
                if echoed.later.is_empty() {
                    echoed.due_at = due_at;
                }
                echoed.later.push(packet);
                self.arm(id, cx);
            }
            _ => self.text(id, cx, |bytes| bytes.extend_from_slice(&packet)),
        }
    }

    /// Tells what has waited: its time has come, or the client has said something.
    pub(super) fn echo_now(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        let later = self.link_mut(id).and_then(|link| link.echo.as_mut());
        for packet in later.map(|echoed| std::mem::take(&mut echoed.later)).unwrap_or_default() {
            self.text(id, cx, |bytes| bytes.extend_from_slice(&packet));
        }
    }

    /// A packet of Socket.IO: what the script has for it is said.
    pub(super) fn echo_packet(
        &mut self,
        id: ConnId,
        packet: &Packet<'_>,
        attachments: &[Vec<u8>],
        cx: &mut Cx<'_>,
    ) -> Next {
        let known = self.echo_namespaces(cx);
        let Some(link) = self.link_mut(id) else { return Next::Gone };
        // Clients of version 3 put what they authenticate with behind the name.
        let (name, query) = match packet.namespace.split_once('?') {
            Some((name, query)) if link.version == Version::V3 => (name, Some(query)),
            _ => (packet.namespace, None),
        };
        let Some(echoed) = &mut link.echo else { return Next::Gone };
        let place = echoed.joined.iter().position(|joined| joined.namespace == name);
        match (&packet.body, place) {
            (Body::Connect { auth }, None) => {
                let asked =
                    |parameter: &str| parameters(&echoed.query).any(|(name, _)| name == parameter);
                let refusal = match known.iter().find(|namespace| namespace.name == name) {
                    None => Some("Invalid namespace"),
                    Some(namespace) => namespace.refuses.why(asked),
                };
                if let Some(why) = refusal {
                    self.text(id, cx, |bytes| {
                        socket_packet::connect_error(bytes, packet.namespace, why)
                    });
                    return Next::Go;
                }
                let before = auth.and_then(socket_packet::recovery).and_then(|(pid, offset)| {
                    Some((RecoveryToken(MemberId::parse(&pid)?), Offset::parse(&offset)?))
                });
                let queried = query.map(query_object);
                let auth = queried.as_deref().or(*auth).unwrap_or("{}");
                self.echo_connect(id, name, auth, before, cx);
            }
            (Body::Disconnect, Some(place)) => drop(echoed.joined.remove(place)),
            (Body::Event { ack, event: Some(event) }, Some(_)) => {
                let Some(items) = json::items(event.array, ARGUMENTS_MAX) else {
                    return self.expel(
                        id,
                        "an event has too many arguments",
                        LeaveReason::Forced,
                        cx,
                    );
                };
                let arguments = items.get(1..).unwrap_or_default();
                let words = Words { arguments, attachments, ack: *ack, later: false };
                self.echo_heard(id, name, Heard::Event(&event.name), words, cx);
            }
            (Body::Ack { id: asked, array }, Some(_)) => {
                if let Some(event) = echoed.answered(name, *asked)
                    && let Some(arguments) = json::items(array, ARGUMENTS_MAX)
                {
                    let words = Words { arguments: &arguments, attachments, ..Words::default() };
                    self.echo_heard(id, name, Heard::Answer(&event), words, cx);
                }
            }
            (Body::Event { event: None, .. }, Some(_)) => {}
            _ => {
                return self.expel(
                    id,
                    "it speaks where it is not connected",
                    LeaveReason::Forced,
                    cx,
                );
            }
        }
        Next::Go
    }

    fn echo_namespaces(&self, cx: &Cx<'_>) -> &'static [Namespace] {
        script::namespaces(cx.settings.application)
    }

    fn echo_greeting(&mut self, id: ConnId, namespace: &str, cx: &mut Cx<'_>) {
        let greeting = self.echo_namespaces(cx).iter().find(|known| known.name == namespace);
        for say in greeting.map_or(&[][..], |known| known.greeting) {
            self.echo_say(id, namespace, say, Words { later: true, ..Words::default() }, cx);
        }
    }

    /// Says what the script has for what was heard in a namespace.
    fn echo_heard(
        &mut self,
        id: ConnId,
        namespace: &str,
        heard: Heard<'_>,
        words: Words<'_>,
        cx: &mut Cx<'_>,
    ) {
        let known = self.echo_namespaces(cx).iter().find(|known| known.name == namespace);
        let Some(echoed) = self.link_mut(id).and_then(|link| link.echo.as_mut()) else { return };
        let before = |event: &str| echoed.emitted.iter().any(|emitted| emitted == event);
        let rules = known.map_or(&[][..], |known| known.rules);
        let Some(rule) = rules.iter().find(|rule| rule.fits(heard, words.arguments, before)) else {
            return;
        };
        if let Heard::Event(event) = heard
            && !before(event)
        {
            echoed.emitted.push(event.to_owned());
        }
        for say in rule.says {
            self.echo_say(id, namespace, say, words, cx);
        }
    }

    fn echo_say(
        &mut self,
        id: ConnId,
        namespace: &str,
        say: &Say,
        words: Words<'_>,
        cx: &mut Cx<'_>,
    ) {
        match say {
            Say::Emit(event, values) => {
                let speech = self.echo_speech(id, namespace, values, words);
                self.echo_event(id, namespace, event, &speech, words.later, cx);
            }
            Say::Ask(event) => {
                let Some(echoed) = self.link_mut(id).and_then(|link| link.echo.as_mut()) else {
                    return;
                };
                let asked = echoed.ask(namespace, event);
                self.text(id, cx, |bytes| socket_packet::ask(bytes, namespace, asked, event));
            }
            Say::Acknowledge(values) => {
                let Some(ack) = words.ack else { return };
                let speech = self.echo_speech(id, namespace, values, words);
                self.text(id, cx, |bytes| {
                    let arguments = speech.arguments.join(",");
                    socket_packet::ack_with(
                        bytes,
                        namespace,
                        speech.attachments.len(),
                        ack,
                        &arguments,
                    );
                });
                for attachment in &speech.attachments {
                    self.send_attachment(id, attachment, cx);
                }
            }
        }
    }

    /// What values stand for, as the answer to some words.
    fn echo_speech<'a>(
        &mut self,
        id: ConnId,
        namespace: &str,
        values: &[Value],
        words: Words<'a>,
    ) -> Speech<'a> {
        let mut speech = Speech::default();
        let Some(echoed) = self.link_mut(id).and_then(|link| link.echo.as_ref()) else {
            return speech;
        };
        let joined = echoed.joined.iter().find(|joined| joined.namespace == namespace);
        let (member, auth) =
            joined.map_or(("", "{}"), |joined| (joined.member.as_str(), &*joined.auth));
        for value in values {
            let argument = match value {
                Value::Arguments => {
                    speech
                        .arguments
                        .extend(words.arguments.iter().map(|argument| Cow::Borrowed(*argument)));
                    speech
                        .attachments
                        .extend(words.attachments.iter().map(|bytes| Cow::Borrowed(&**bytes)));
                    continue;
                }
                Value::Json(json) => Cow::Borrowed(*json),
                Value::Bytes(bytes) => {
                    speech.attachments.push(Cow::Borrowed(bytes));
                    let num = speech.attachments.len() - 1;
                    Cow::Owned(format!(r#"{{"_placeholder":true,"num":{num}}}"#))
                }
                Value::SocketId => Cow::Owned(format!("\"{member}\"")),
                Value::Auth => Cow::Owned(auth.to_owned()),
                Value::Handshake => {
                    let query = query_object(&echoed.query);
                    Cow::Owned(format!(r#"{{"query":{query},"auth":{auth}}}"#))
                }
            };
            speech.arguments.push(argument);
        }
        speech
    }

    /// Connects a client to a namespace: as who it was `before`, with what it missed, or anew.
    pub(super) fn echo_connect(
        &mut self,
        id: ConnId,
        namespace: &str,
        auth: &str,
        before: Option<(RecoveryToken, Offset)>,
        cx: &mut Cx<'_>,
    ) {
        let window = cx.settings.transports.recovery;
        let is_old = self.link_mut(id).is_some_and(|link| link.version == Version::V3);
        let recovers = window > Micros::ZERO && !is_old;
        let known = before
            .filter(|_| recovers)
            .and_then(|before| self.echo_recover(id, namespace, before, cx));
        let joined = match known {
            Some(joined) => joined,
            None => {
                let pid = recovers.then(|| RecoveryToken(self.new_id(cx)));
                Joined {
                    namespace: namespace.to_owned(),
                    member: self.new_id(cx),
                    auth: auth.to_owned(),
                    pid,
                }
            }
        };
        let Some(link) = self.link_mut(id) else { return };
        link.settled();
        if let Some(echoed) = &mut link.echo {
            echoed.joined.push(joined.clone());
        }
        self.text(id, cx, |bytes| {
            let start = bytes.len();
            let pid = joined.pid.as_ref().map(|pid| pid.0.as_str());
            socket_packet::connected(bytes, joined.member.as_str(), pid);
            if is_old {
                bytes.truncate(start + 2);
            }
            socket_packet::name_namespace(bytes, start, namespace);
        });
        self.echo_greeting(id, namespace, cx);
    }

    /// Who a client was, after it was told what it missed.
    fn echo_recover(
        &mut self,
        id: ConnId,
        namespace: &str,
        (pid, offset): (RecoveryToken, Offset),
        cx: &mut Cx<'_>,
    ) -> Option<Joined> {
        // The client may have noticed the loss before we did.
        let is_it = |joined: &Joined| joined.pid == Some(pid);
        let old = self.conns.iter().find_map(|(old, conn)| match &conn.state {
            Protocol::Client(link)
                if old != id && link.echo.iter().any(|echoed| echoed.joined.iter().any(is_it)) =>
            {
                Some(old)
            }
            _ => None,
        });
        if let Some(old) = old {
            self.forget(old, LeaveReason::TransportClosed, cx);
            cx.out.close(old, Close::Abort);
        }
        let window = cx.settings.transports.recovery;
        let mut bounds =
            Bounds { window, silence: window, limits: &cx.settings.limits, bytes: cx.replay_bytes };
        let joined = self.echoed.take(cx.now.at, pid, &mut bounds)?;
        if joined.namespace != namespace || !self.echoed.covers(offset.number, joined.member, false)
        {
            return None;
        }
        let missed = self.echoed.missed(offset.number, joined.member, false);
        let missed: Vec<Vec<u8>> = missed.map(|missed| missed.bytes.to_vec()).collect();
        for event in missed {
            for packet in event.split(|byte| *byte == SEPARATOR) {
                self.text(id, cx, |bytes| bytes.extend_from_slice(packet));
            }
        }
        Some(joined)
    }

    /// A connection is gone; unless on purpose, its client may come back.
    pub(super) fn echo_lost(
        &mut self,
        echoed: Option<Box<Echoed>>,
        reason: LeaveReason,
        cx: &mut Cx<'_>,
    ) {
        if matches!(reason, LeaveReason::Left | LeaveReason::Disconnected) {
            return;
        }
        let window = cx.settings.transports.recovery;
        let mut bounds =
            Bounds { window, silence: window, limits: &cx.settings.limits, bytes: cx.replay_bytes };
        for joined in echoed.into_iter().flat_map(|echoed| echoed.joined) {
            if let Some(pid) = joined.pid {
                self.echoed.keep(cx.now.at, pid, joined, &mut bounds);
            }
        }
    }

    /// Tells an event: with its offset to who may come back, and remembers it for that.
    fn echo_event(
        &mut self,
        id: ConnId,
        namespace: &str,
        name: &str,
        speech: &Speech<'_>,
        later: bool,
        cx: &mut Cx<'_>,
    ) {
        let Speech { arguments, attachments } = speech;
        let mut packet = Vec::new();
        socket_packet::event_with(&mut packet, namespace, attachments.len(), name, arguments);
        let Some(link) = self.link_mut(id) else { return };
        let joined = link.echo.iter().flat_map(|echoed| &echoed.joined);
        let joined = joined.into_iter().find(|joined| joined.namespace == namespace);
        if let Some((member, _)) = joined.and_then(|joined| Some((joined.member, joined.pid?))) {
            let room = RoomKey { index: 0, generation: 0 };
            let offset =
                Offset { shard: cx.settings.shard, room, number: self.echoed.sequence() + 1 };
            socket_packet::append_offset(&mut packet, &offset.to_string());
            let mut whole = packet.clone();
            for attachment in attachments {
                whole.push(SEPARATOR);
                attachment_text(&mut whole, attachment, Version::V4);
            }
            let window = cx.settings.transports.recovery;
            let mut bounds = Bounds {
                window,
                silence: window,
                limits: &cx.settings.limits,
                bytes: cx.replay_bytes,
            };
            self.echoed.push(
                cx.now.at,
                Audience::One(member),
                (EntryForm::Packet, &whole),
                &mut bounds,
            );
        }
        if later {
            return self.echo_later(id, packet, cx);
        }
        self.text(id, cx, |bytes| bytes.extend_from_slice(&packet));
        for attachment in attachments {
            self.send_attachment(id, attachment, cx);
        }
    }
}

/// What stands between a remembered event and its attachments; JSON has it escaped.
const SEPARATOR: u8 = 0x1e;

/// The parameters of a query, decoded.
fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (http::decode(name), http::decode(value)))
}

/// The same as an object of texts.
fn query_object(query: &str) -> String {
    let mut object = vec![b'{'];
    for (name, value) in parameters(query) {
        if object.len() > 1 {
            object.push(b',');
        }
        json::print_string(&mut object, &name);
        object.push(b':');
        json::print_string(&mut object, &value);
    }
    object.push(b'}');
    String::from_utf8_lossy(&object).into_owned()
}
