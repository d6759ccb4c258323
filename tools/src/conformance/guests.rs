//! The clients of a conformance server, and their answers.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use bandsync_engine::context::Cx;
use bandsync_engine::speech::LeaveReason;
use bandsync_engine::transport::{Client, Closing, Connections, Data, Opened, recovery};
use bandsync_engine::wire::payload::{Version, attachment_text};
use bandsync_engine::wire::socket_packet::{self, Body, Packet};
use bandsync_engine::wire::{engine_packet, http, json};
use bandsync_engine::words::ids::{ConnId, MemberId, Offset, RecoveryToken, RoomKey};
use bandsync_engine::words::time::Micros;

use super::Application;
use super::script::{ClientPacket, Say, Value};

/// Arguments of an event that comes back.
const ARGUMENTS_MAX: usize = 1_000_000;

/// Events that a client may owe an acknowledgement for. Beyond that the oldest is not expected.
const ASKED_MAX: usize = 16;

/// Delay of the second of two packets that a client gets unasked. Suites begin to listen for
/// it after the first; if both came in one read it would be lost.
const PAUSE: Micros = Micros::from_millis(20);

/// Delay of the answer to a new client of long-polling. Suites have clients that give up at
/// once, which takes them a moment.
const HANDSHAKE: Micros = Micros::from_millis(10);

/// Stands between a logged event and its attachments; JSON has it escaped.
const SEPARATOR: u8 = 0x1e;

/// The clients of a server.
pub struct Guests {
    application: Application,
    guests: BTreeMap<ConnId, Guest>,
    log: Log,
}

/// A client.
#[derive(Default)]
struct Guest {
    /// The query of its first request.
    query: String,
    joined: Vec<Joined>,
    /// Packets that wait, and until when.
    later: Vec<Vec<u8>>,
    due_at: Micros,
    /// The names of events that it sent and a rule is about.
    emitted: Vec<String>,
    /// Events that it is to acknowledge: their ids, namespaces and names.
    asked: VecDeque<(u64, String, String)>,
    /// Number of them so far.
    asked_before: u64,
}

/// A client in a namespace.
#[derive(Clone)]
struct Joined {
    namespace: String,
    /// Its socket id there.
    member: MemberId,
    /// The payload with which it has connected.
    auth: String,
    /// The token that brings it back after a lost connection.
    pid: Option<RecoveryToken>,
}

/// Events that clients may have missed, and the clients that may come back for them.
#[derive(Default)]
struct Log {
    /// The number of the newest event.
    last: u64,
    /// The number of the newest event that was dropped.
    dropped: u64,
    events: VecDeque<(Micros, MemberId, Vec<u8>)>,
    lost: Vec<(Micros, RecoveryToken, Joined)>,
}

/// A packet of a client, as far as an answer may need it.
#[derive(Clone, Copy, Default)]
struct Words<'a> {
    arguments: &'a [&'a str],
    attachments: &'a [Vec<u8>],
    /// The id under which the client wants an acknowledgement.
    ack: Option<u64>,
    /// Whether the answer waits for a [`PAUSE`].
    later: bool,
}

/// An answer, ready to be printed.
#[derive(Default)]
struct Speech<'a> {
    arguments: Vec<Cow<'a, str>>,
    attachments: Vec<Cow<'a, [u8]>>,
}

impl Guest {
    /// Notes that an event is to be acknowledged; its id.
    fn ask(&mut self, namespace: &str, event: &str) -> u64 {
        let id = self.asked_before;
        self.asked_before += 1;
        self.asked.truncate(ASKED_MAX - 1);
        self.asked.push_front((id, namespace.to_owned(), event.to_owned()));
        id
    }

    /// Returns the name of an event that is acknowledged now, unless that was not asked for.
    fn answered(&mut self, namespace: &str, id: u64) -> Option<String> {
        let index =
            self.asked.iter().position(|(asked, name, _)| *asked == id && name == namespace)?;
        self.asked.remove(index).map(|(_, _, event)| event)
    }

    fn joined(&self, namespace: &str) -> Option<&Joined> {
        self.joined.iter().find(|joined| joined.namespace == namespace)
    }

    /// Sends a packet after a pause. A client that polls gets it in the answer to a request, unless
    /// others wait already.
    fn send_later(&mut self, id: ConnId, client: &Client, packet: Vec<u8>, cx: &mut Cx<'_>) {
        if client.is_polling() && self.later.is_empty() {
            return client.send(id, cx, |bytes| bytes.extend_from_slice(&packet));
        }
        if self.later.is_empty() {
            self.due_at = cx.now.at + PAUSE;
        }
        self.later.push(packet);
    }

    /// Sends the packets that wait.
    fn flush(&mut self, id: ConnId, client: &Client, cx: &mut Cx<'_>) {
        for packet in std::mem::take(&mut self.later) {
            client.send(id, cx, |bytes| bytes.extend_from_slice(&packet));
        }
    }
}

impl Log {
    /// Drops events and clients that are older than the window.
    fn prune(&mut self, now: Micros, window: Micros) {
        while self.events.pop_front_if(|(at, ..)| *at + window + window < now).is_some() {
            self.dropped += 1;
        }
        self.lost.retain(|(since, ..)| *since + window >= now);
    }

    fn push(&mut self, now: Micros, member: MemberId, packet: Vec<u8>) {
        self.last += 1;
        self.events.push_back((now, member, packet));
    }

    fn take(&mut self, pid: RecoveryToken) -> Option<Joined> {
        let index = self.lost.iter().position(|(_, lost, _)| *lost == pid)?;
        Some(self.lost.remove(index).2)
    }

    /// Returns the events that a member missed after this number; `None` if some were dropped.
    fn missed(&self, number: u64, member: MemberId) -> Option<Vec<Vec<u8>>> {
        if number < self.dropped || number > self.last {
            return None;
        }
        let missed = self.events.iter().skip((number - self.dropped) as usize);
        Some(missed.filter(|(_, of, _)| *of == member).map(|(.., packet)| packet.clone()).collect())
    }
}

impl Guests {
    /// Nobody yet.
    pub fn new(application: Application) -> Self {
        Self { application, guests: BTreeMap::new(), log: Log::default() }
    }

    /// When the first packet is due that waits.
    pub fn next_deadline(&self) -> Option<Micros> {
        let waiting = self.guests.values().filter(|guest| !guest.later.is_empty());
        waiting.map(|guest| guest.due_at).min()
    }

    /// Sends the packets that have waited long enough.
    pub fn flush_due(&mut self, connections: &Connections, cx: &mut Cx<'_>) {
        let now = cx.now.at;
        for (id, guest) in self.guests.iter_mut().filter(|(_, guest)| guest.due_at <= now) {
            if let Some(client) = connections.client(*id) {
                guest.flush(*id, client, cx);
            }
        }
    }

    /// Greets a client. Above Engine.IO there may be nothing to connect to; version 3 is connected
    /// by the greeting.
    pub fn opened(&mut self, opened: Opened, connections: &mut Connections, cx: &mut Cx<'_>) {
        let Opened { client: id, sid, greeting, query, is_version_3 } = opened;
        let Some(client) = connections.client_mut(id) else { return };
        if self.application == Application::WebSocketEcho {
            return client.settle();
        }
        let is_bare = self.application == Application::EngineEcho;
        let pause = if client.is_polling() { HANDSHAKE } else { PAUSE };
        let due_at = cx.now.at + pause;
        let mut guest = Guest { query, later: vec![greeting], due_at, ..Guest::default() };
        if is_bare || is_version_3 {
            client.settle();
        }
        if is_version_3 && !is_bare {
            let (namespace, auth) = ("/".to_owned(), "{}".to_owned());
            guest.joined.push(Joined { namespace, member: sid, auth, pid: None });
            guest.send_later(id, client, socket_packet::CONNECTED_V3.to_vec(), cx);
            self.guests.insert(id, guest);
            return self.greet(id, "/", client, cx);
        }
        self.guests.insert(id, guest);
    }

    /// A client has another id now.
    pub fn relocate(&mut self, from: ConnId, to: ConnId) {
        if let Some(guest) = self.guests.remove(&from) {
            self.guests.insert(to, guest);
        }
    }

    /// A client is gone. Unless that was on purpose, it may come back.
    pub fn closed(&mut self, id: ConnId, reason: LeaveReason, now: Micros) {
        let Some(guest) = self.guests.remove(&id) else { return };
        if matches!(reason, LeaveReason::Left | LeaveReason::Disconnected) {
            return;
        }
        for joined in guest.joined {
            if let Some(pid) = joined.pid {
                self.log.lost.push((now, pid, joined));
            }
        }
    }

    /// Sends a message back.
    pub fn message(&mut self, id: ConnId, data: &Data<'_>, client: &Client, cx: &mut Cx<'_>) {
        if let Some(guest) = self.guests.get_mut(&id) {
            guest.flush(id, client, cx);
        }
        let is_bare = self.application == Application::WebSocketEcho;
        match data {
            Data::Text(text) => client.send(id, cx, |bytes| {
                if !is_bare {
                    bytes.push(engine_packet::MESSAGE);
                }
                bytes.extend_from_slice(text.as_bytes());
            }),
            Data::Binary(data) if is_bare => {
                cx.sender.message(cx.out, id, client.encoding, false, data);
            }
            Data::Binary(data) => client.send_attachment(id, data, cx),
        }
    }

    /// Returns the other connection of a client that comes back with this packet: the client may
    /// have noticed the loss before the server did.
    pub fn holder(&self, id: ConnId, packet: &Packet<'_>) -> Option<ConnId> {
        let Body::Connect { auth: Some(auth) } = packet.body else { return None };
        let (pid, _) = recovery(auth)?;
        let holds = |guest: &Guest| guest.joined.iter().any(|joined| joined.pid == Some(pid));
        let holder = self.guests.iter().find(|(old, guest)| **old != id && holds(guest));
        holder.map(|(old, _)| *old)
    }

    /// Answers a packet of Socket.IO by the script. Returns how the client closes if it broke a
    /// rule.
    pub fn packet(
        &mut self,
        id: ConnId,
        packet: &Packet<'_>,
        attachments: &[Vec<u8>],
        client: &mut Client,
        cx: &mut Cx<'_>,
    ) -> Option<Closing> {
        let known = self.application.namespaces();
        let guest = self.guests.get_mut(&id)?;
        guest.flush(id, client, cx);
        // Clients of version 3 put what they authenticate with behind the name.
        let (name, query) = match packet.namespace.split_once('?') {
            Some((name, query)) if client.version == Version::V3 => (name, Some(query)),
            _ => (packet.namespace, None),
        };
        let index = guest.joined.iter().position(|joined| joined.namespace == name);
        match (&packet.body, index) {
            (Body::Connect { auth }, None) => {
                let has =
                    |parameter: &str| parameters(&guest.query).any(|(name, _)| name == parameter);
                let rejection = match known.iter().find(|namespace| namespace.name == name) {
                    None => Some("Invalid namespace"),
                    Some(namespace) => namespace.rejects.why(has),
                };
                if let Some(why) = rejection {
                    client.send(id, cx, |bytes| {
                        socket_packet::connect_error(bytes, packet.namespace, why);
                    });
                    return None;
                }
                let queried = query.map(query_object);
                let payload = queried.as_deref().or(*auth).unwrap_or("{}");
                let before = auth.and_then(recovery);
                self.connect(id, (name, payload), before, client, cx);
            }
            (Body::Disconnect, Some(index)) => drop(guest.joined.remove(index)),
            (Body::Event { ack, event: Some(event) }, Some(_)) => {
                let Some(items) = json::items(event.array, ARGUMENTS_MAX) else {
                    let why = "event with too many arguments";
                    return Some(Closing::expelled(why, LeaveReason::Forced));
                };
                let arguments = items.get(1..).unwrap_or_default();
                let words = Words { arguments, attachments, ack: *ack, later: false };
                self.handle((id, name), ClientPacket::Event(&event.name), words, client, cx);
            }
            (Body::Ack { id: asked, array }, Some(_)) => {
                if let Some(event) = guest.answered(name, *asked)
                    && let Some(arguments) = json::items(array, ARGUMENTS_MAX)
                {
                    let words = Words { arguments: &arguments, attachments, ..Words::default() };
                    self.handle((id, name), ClientPacket::Answer(&event), words, client, cx);
                }
            }
            (Body::Event { event: None, .. }, Some(_)) => {}
            _ => {
                let why = "event before connect";
                return Some(Closing::expelled(why, LeaveReason::Forced));
            }
        }
        None
    }

    /// Sends the greeting of a namespace.
    fn greet(&mut self, id: ConnId, namespace: &str, client: &Client, cx: &mut Cx<'_>) {
        let known = self.application.namespaces().iter().find(|known| known.name == namespace);
        for say in known.map_or(&[][..], |known| known.greeting) {
            let words = Words { later: true, ..Words::default() };
            self.say((id, namespace), say, words, client, cx);
        }
    }

    /// Answers a packet in a namespace by the script.
    fn handle(
        &mut self,
        (id, namespace): (ConnId, &str),
        packet: ClientPacket<'_>,
        words: Words<'_>,
        client: &Client,
        cx: &mut Cx<'_>,
    ) {
        let known = self.application.namespaces().iter().find(|known| known.name == namespace);
        let Some(guest) = self.guests.get_mut(&id) else { return };
        let before = |event: &str| guest.emitted.iter().any(|emitted| emitted == event);
        let rules = known.map_or(&[][..], |known| known.rules);
        let Some(rule) = rules.iter().find(|rule| rule.fits(packet, words.arguments, before))
        else {
            return;
        };
        if let ClientPacket::Event(event) = packet
            && !before(event)
        {
            guest.emitted.push(event.to_owned());
        }
        for say in rule.says {
            self.say((id, namespace), say, words, client, cx);
        }
    }

    fn say(
        &mut self,
        (id, namespace): (ConnId, &str),
        say: &Say,
        words: Words<'_>,
        client: &Client,
        cx: &mut Cx<'_>,
    ) {
        match say {
            Say::Emit(event, values) => {
                let speech = self.speech((id, namespace), values, words);
                self.emit((id, namespace), event, &speech, words.later, (client, cx));
            }
            Say::Ask(event) => {
                let Some(guest) = self.guests.get_mut(&id) else { return };
                let asked = guest.ask(namespace, event);
                client.send(id, cx, |bytes| socket_packet::ask(bytes, namespace, asked, event));
            }
            Say::Acknowledge(values) => {
                let Some(ack) = words.ack else { return };
                let Speech { arguments, attachments } = self.speech((id, namespace), values, words);
                client.send(id, cx, |bytes| {
                    let (count, arguments) = (attachments.len(), arguments.join(","));
                    socket_packet::ack_with(bytes, namespace, count, ack, &arguments);
                });
                for attachment in &attachments {
                    client.send_attachment(id, attachment, cx);
                }
            }
        }
    }

    /// Returns the arguments that values stand for, as the answer to some words.
    fn speech<'a>(
        &self,
        (id, namespace): (ConnId, &str),
        values: &[Value],
        words: Words<'a>,
    ) -> Speech<'a> {
        let mut speech = Speech::default();
        let Some(guest) = self.guests.get(&id) else { return speech };
        let joined = guest.joined(namespace);
        let (member, auth) =
            joined.map_or(("", "{}"), |joined| (joined.member.as_str(), &*joined.auth));
        for value in values {
            let argument = match value {
                Value::Arguments => {
                    let arguments = words.arguments.iter().map(|argument| Cow::Borrowed(*argument));
                    speech.arguments.extend(arguments);
                    let attachments = words.attachments.iter().map(|bytes| Cow::Borrowed(&**bytes));
                    speech.attachments.extend(attachments);
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
                    let query = query_object(&guest.query);
                    Cow::Owned(format!(r#"{{"query":{query},"auth":{auth}}}"#))
                }
            };
            speech.arguments.push(argument);
        }
        speech
    }

    /// Connects a client to a namespace: as it was `before`, with the events that it missed, or
    /// anew.
    fn connect(
        &mut self,
        id: ConnId,
        (namespace, auth): (&str, &str),
        before: Option<(RecoveryToken, Offset)>,
        client: &mut Client,
        cx: &mut Cx<'_>,
    ) {
        let window = cx.settings.transports.recovery;
        let is_old = client.version == Version::V3;
        let recovers = window > Micros::ZERO && !is_old;
        self.log.prune(cx.now.at, window);
        let known = before.filter(|_| recovers).and_then(|(pid, offset)| {
            let joined = self.log.take(pid)?;
            let missed = self.log.missed(offset.number, joined.member)?;
            (joined.namespace == namespace).then_some((joined, missed))
        });
        let (joined, missed) = known.unwrap_or_else(|| {
            let pid = recovers.then(|| RecoveryToken(cx.draw_id()));
            let (namespace, member) = (namespace.to_owned(), cx.draw_id());
            (Joined { namespace, member, auth: auth.to_owned(), pid }, Vec::new())
        });
        for packet in missed.iter().flat_map(|event| event.split(|byte| *byte == SEPARATOR)) {
            client.send(id, cx, |bytes| bytes.extend_from_slice(packet));
        }
        client.settle();
        client.send(id, cx, |bytes| {
            let start = bytes.len();
            let pid = joined.pid.as_ref().map(|pid| pid.0.as_str());
            socket_packet::connected(bytes, joined.member.as_str(), pid);
            if is_old {
                bytes.truncate(start + 2);
            }
            socket_packet::name_namespace(bytes, start, namespace);
        });
        if let Some(guest) = self.guests.get_mut(&id) {
            guest.joined.push(joined);
        }
        self.greet(id, namespace, client, cx);
    }

    /// Sends an event. If the client may come back, the event has its offset and is logged for
    /// that.
    fn emit(
        &mut self,
        (id, namespace): (ConnId, &str),
        name: &str,
        speech: &Speech<'_>,
        later: bool,
        (client, cx): (&Client, &mut Cx<'_>),
    ) {
        let Speech { arguments, attachments } = speech;
        let mut packet = Vec::new();
        socket_packet::event_with(&mut packet, namespace, attachments.len(), name, arguments);
        let Some(guest) = self.guests.get_mut(&id) else { return };
        let joined = guest.joined(namespace);
        if let Some((member, _)) = joined.and_then(|joined| Some((joined.member, joined.pid?))) {
            let room = RoomKey { index: 0, generation: 0 };
            let offset = Offset { shard: cx.settings.shard, room, number: self.log.last + 1 };
            socket_packet::append_offset(&mut packet, &offset.to_string());
            let mut whole = packet.clone();
            for attachment in attachments {
                whole.push(SEPARATOR);
                attachment_text(&mut whole, attachment, Version::V4);
            }
            self.log.push(cx.now.at, member, whole);
        }
        if later {
            return guest.send_later(id, client, packet, cx);
        }
        client.send(id, cx, |bytes| bytes.extend_from_slice(&packet));
        for attachment in attachments {
            client.send_attachment(id, attachment, cx);
        }
    }
}

/// Returns the parameters of a query, decoded.
fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (http::decode(name), http::decode(value)))
}

/// Returns the parameters of a query as an object of texts.
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
