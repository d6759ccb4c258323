//! Members that use HTTP long-polling. Some of them upgrade to a WebSocket.
//!
//! A request fetches messages that were sent earlier, and the oracle must observe messages in
//! order, so it does not observe the sessions of pollers. They check themselves: versions never go
//! back, every call is answered once, and in the end every poller is in its session and has the
//! newest state.

use bandsync_testkit::frames::{head_length, read};
use serde_json::Value;

use crate::sim::agenda::{Event, LOOK};
use crate::sim::cx::{Cx, peer_of};
use crate::sim::frames;
use crate::sim::plan;
use crate::sim::rng::SimRng;
use crate::sim::wire::{Cable, Wire};

const SECOND: u64 = 1_000_000;

/// The separator of packets in a body.
const SEPARATOR: char = '\u{1e}';

/// A client, over all its sessions and connections.
pub struct Poller {
    id: u16,
    /// Whether the client returns whenever it is lost.
    present: bool,
    calm: bool,
    /// The id of the Engine.IO session.
    sid: Option<String>,
    get: Option<Line>,
    post: Option<Line>,
    socket: Option<(Line, Stage)>,
    /// Packets that wait to be sent.
    queue: Vec<String>,
    /// Whether the client is connected to the namespace.
    connected: bool,
    /// Whether the client is in its session.
    joined: bool,
    /// The time of the last rejection.
    rejected_at: Option<u64>,
    held: (u64, u64),
    talk: Talk,
    received_at: u64,
    retry_at: u64,
    luck: SimRng,
}

/// The calls of a client.
#[derive(Default)]
struct Talk {
    /// Calls without an answer: their numbers and times.
    asks: Vec<(u64, u64)>,
    next_ask: u64,
    next_say: u64,
}

/// A connection of a client.
struct Line {
    wire: usize,
    rest: Vec<u8>,
    /// Whether a request waits for its answer.
    busy: bool,
}

/// The stage of an upgrade to a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// The HTTP answer has not come.
    Head,
    /// The client has sent its probe.
    Probing,
    /// The probe is answered; the pending requests must end first.
    Waiting,
    Open,
}

impl Poller {
    pub fn new(seed: u64, id: u16) -> Self {
        Self {
            id,
            present: true,
            calm: false,
            sid: None,
            get: None,
            post: None,
            socket: None,
            queue: Vec::new(),
            connected: false,
            joined: false,
            rejected_at: None,
            held: (0, 0),
            talk: Talk::default(),
            received_at: 0,
            retry_at: 0,
            luck: SimRng::new(seed, 5_000 + u64::from(id)),
        }
    }

    pub fn calm_down(&mut self) {
        (self.calm, self.retry_at) = (true, 0);
    }

    pub fn retire(&mut self) {
        self.calm_down();
        self.present = false;
    }

    fn lines(&mut self) -> impl Iterator<Item = &mut Line> {
        self.get.iter_mut().chain(&mut self.post).chain(self.socket.as_mut().map(|(line, _)| line))
    }

    fn has(&mut self, wire: usize) -> bool {
        self.lines().any(|line| line.wire == wire)
    }

    pub fn session(&self) -> String {
        format!("p{}", self.id / 2)
    }
}

impl Poller {
    /// Checks the client's own state: connects, sends, polls, or gives up.
    pub fn look(&mut self, cx: &mut Cx<'_>) {
        cx.agenda.post(cx.now() + LOOK, Event::LookPolled(self.id));
        let now = cx.now();
        let shape = &cx.plan.shape;
        let silence =
            shape.ping + shape.ping_timeout + SECOND + 4 * (shape.net.delay + shape.net.detour);
        if !self.present || now < self.retry_at {
            return;
        }
        if self.get.is_none() && self.socket.is_none() {
            self.received_at = now;
            return self.get_packets(cx);
        }
        let fed_up = !self.calm && self.luck.one_in(80);
        if now - self.received_at > silence || fed_up {
            return self.start_over(cx);
        }
        if !self.calm && self.luck.one_in(80) {
            let lines: Vec<usize> = self.lines().map(|line| line.wire).collect();
            let wire = *self.luck.pick(&lines);
            cx.net.cables[wire].reset = true;
            cx.arrive_up(wire);
            return self.start_over(cx);
        }
        if self.joined && self.socket.is_none() && self.luck.one_in(20) {
            return self.begin_upgrade(cx);
        }
        if self.connected && now >= self.talk.next_say {
            self.say_something(cx);
        }
    }

    fn say_something(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now();
        self.talk.next_say = now + self.luck.between(1, 5) * SECOND;
        let session = self.session();
        let (name, fields) = match self.luck.below(if self.calm { 1 } else { 8 }) {
            _ if !self.joined => {
                ("join_session", format!(",\"displayName\":\"Poller {}\"", self.id))
            }
            0 | 1 => ("sync_request", format!(",\"version\":{}", self.held.1)),
            2 => ("chat_message", ",\"message\":\"one more time\"".to_owned()),
            3 => ("play", String::new()),
            4 => ("pause", String::new()),
            5 => ("seek", ",\"position\":1500".to_owned()),
            6 => ("set_role", ",\"role\":\"leader\"".to_owned()),
            _ => ("latency_probe", ",\"timestamp\":1".to_owned()),
        };
        self.talk.next_ask += 1;
        let id = self.talk.next_ask;
        self.talk.asks.push((id, now));
        self.queue.push(format!("42{id}[\"{name}\",{{\"sessionId\":\"{session}\"{fields}}}]"));
        self.send_queue(cx);
    }

    /// Abandons all connections. The client starts again after a while.
    fn start_over(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now();
        let lines: Vec<usize> = self.lines().map(|line| line.wire).collect();
        (self.get, self.post, self.socket, self.sid) = (None, None, None, None);
        self.queue.clear();
        self.talk.asks.clear();
        (self.connected, self.joined, self.held, self.talk.next_say) = (false, false, (0, 0), 0);
        self.retry_at = now + self.luck.below(SECOND);
        lines.into_iter().for_each(|wire| cx.let_go(wire));
    }

    fn open_line(&mut self, cx: &mut Cx<'_>) -> Line {
        let luck = SimRng::new(self.luck.next(), 6_000);
        let wire = cx.open_with(self.id, luck, false);
        cx.wires[wire].poller = Some(self.id);
        cx.net.cables[wire].peer = peer_of(self.id, true);
        Line { wire, rest: Vec::new(), busy: false }
    }

    /// Polls for packets, in a new Engine.IO session if there is none.
    fn get_packets(&mut self, cx: &mut Cx<'_>) {
        let mut line = match self.get.take() {
            Some(line) => line,
            None => self.open_line(cx),
        };
        line.busy = true;
        let wire = line.wire;
        self.get = Some(line);
        let sid = self.sid.as_ref().map_or(String::new(), |sid| format!("&sid={sid}"));
        let head = format!(
            "GET /socket.io/?EIO=4&transport=polling{sid}&token={} HTTP/1.1\r\nHost: band\r\nCookie: {}\r\n\r\n",
            plan::passcode(2),
            plan::pin(2),
        );
        cx.send(wire, head.as_bytes());
    }

    /// Sends waiting packets: by the WebSocket if there is one, else when the last request is
    /// answered.
    fn send_queue(&mut self, cx: &mut Cx<'_>) {
        let stage = self.socket.as_ref().map(|(_, stage)| *stage);
        if let Some((line, Stage::Open)) = &self.socket {
            let wire = line.wire;
            for packet in std::mem::take(&mut self.queue) {
                self.send_packet(cx, wire, &packet);
            }
            return;
        }
        let busy = self.post.as_ref().is_some_and(|line| line.busy);
        if busy || self.queue.is_empty() || stage == Some(Stage::Waiting) {
            return;
        }
        let Some(sid) = self.sid.clone() else { return };
        let body = std::mem::take(&mut self.queue).join(&SEPARATOR.to_string());
        let mut line = match self.post.take() {
            Some(line) => line,
            None => self.open_line(cx),
        };
        line.busy = true;
        let request = format!(
            "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: band\r\n\
             Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let wire = line.wire;
        self.post = Some(line);
        cx.send(wire, request.as_bytes());
    }

    fn send_packet(&mut self, cx: &mut Cx<'_>, wire: usize, packet: &str) {
        let mut bytes = Vec::new();
        frames::frame(&mut bytes, frames::TEXT, packet.as_bytes(), &mut self.luck);
        cx.send(wire, &bytes);
    }

    fn begin_upgrade(&mut self, cx: &mut Cx<'_>) {
        let line = self.open_line(cx);
        let wire = line.wire;
        self.socket = Some((line, Stage::Head));
        let sid = self.sid.clone().unwrap_or_default();
        let head = String::from_utf8_lossy(&frames::upgrade()).into_owned();
        let head = head.replace("transport=websocket", &format!("transport=websocket&sid={sid}"));
        cx.send(wire, head.as_bytes());
    }

    /// Reads bytes that have arrived at the client.
    pub fn arrive(&mut self, cx: &mut Cx<'_>, w: usize) {
        let now = cx.now();
        cx.arrive_down(w);
        if cx.wires[w].left || !self.has(w) {
            return cx.reject_bytes(w);
        }
        if cx.net.cables[w].reset {
            return self.start_over(cx);
        }
        let bytes = cx.net.cables[w].down.here().to_vec();
        if !bytes.is_empty() {
            cx.net.cables[w].down.took(bytes.len());
            cx.send_capacity(w);
            self.received_at = now;
            if let Some(line) = self.lines().find(|line| line.wire == w) {
                line.rest.extend_from_slice(&bytes);
            }
            if self.socket.as_ref().is_some_and(|(line, _)| line.wire == w) {
                self.read_socket(cx, w);
            } else {
                self.read_answers(cx, w);
            }
        }
        if cx.net.cables[w].down.is_over(now) && self.has(w) {
            self.line_over(cx, w);
        }
    }

    /// Handles the end of a connection. If it was idle, the client continues without it.
    fn line_over(&mut self, cx: &mut Cx<'_>, w: usize) {
        if self.post.as_ref().is_some_and(|line| line.wire == w && !line.busy) {
            self.post = None;
            cx.let_go(w);
        } else {
            self.start_over(cx);
        }
    }

    fn read_answers(&mut self, cx: &mut Cx<'_>, w: usize) {
        let (now, p) = (cx.now(), self.id);
        loop {
            let polls = self.get.as_ref().is_some_and(|line| line.wire == w);
            let Some(line) = self.lines().find(|line| line.wire == w) else { return };
            let Some((length, status, body)) = answer(&line.rest) else { return };
            line.rest.drain(..length);
            let expected = std::mem::replace(&mut line.busy, false);
            if status != 200 {
                // The server no longer knows the Engine.IO session, or has no room.
                self.rejected_at = Some(now).filter(|_| status == 503).or(self.rejected_at);
                return self.start_over(cx);
            }
            if !expected {
                return cx.oracle.journal.fail(
                    now,
                    "I8 answered once",
                    format!("poller {p} got {body:?}"),
                );
            }
            if !polls {
                self.send_queue(cx);
                self.finish_upgrade(cx);
                continue;
            }
            let Ok(body) = String::from_utf8(body) else {
                return cx.oracle.journal.fail(
                    now,
                    "I16 readable",
                    format!("poller {p} got no text"),
                );
            };
            for packet in body.split(SEPARATOR) {
                self.hear_packet(cx, packet);
            }
            if self.socket.as_ref().is_some_and(|(_, stage)| *stage == Stage::Waiting) {
                self.finish_upgrade(cx);
            } else if self.get.as_ref().is_some_and(|line| line.wire == w) {
                self.get_packets(cx);
            }
        }
    }

    fn read_socket(&mut self, cx: &mut Cx<'_>, w: usize) {
        let (now, p) = (cx.now(), self.id);
        loop {
            let socket = self.socket.as_mut();
            let Some((line, stage)) = socket.filter(|(line, _)| line.wire == w) else { return };
            if *stage == Stage::Head {
                let Some(end) = head_length(&line.rest) else { return };
                let granted = line.rest.starts_with(b"HTTP/1.1 101");
                line.rest.drain(..end);
                *stage = Stage::Probing;
                if !granted {
                    self.rejected_at = Some(now);
                    return self.start_over(cx);
                }
                self.send_packet(cx, w, "2probe");
                continue;
            }
            let Some(frame) = read(&line.rest) else { return };
            let packet = String::from_utf8_lossy(frame.payload).into_owned();
            let (first, length) = (line.rest[0], frame.length);
            line.rest.drain(..length);
            match (first, *stage, &*packet) {
                (frames::TEXT, Stage::Probing, "3probe") => {
                    *stage = Stage::Waiting;
                    self.finish_upgrade(cx);
                }
                (frames::TEXT, Stage::Open, packet) => self.hear_packet(cx, packet),
                (frames::CLOSE, ..) => return self.start_over(cx),
                (first, stage, packet) => {
                    let what = format!("poller {p} got {first:02x} {packet} while {stage:?}");
                    return cx.oracle.journal.fail(now, "I6 as it was sent", what);
                }
            }
        }
    }

    /// Completes the upgrade when no request is pending.
    fn finish_upgrade(&mut self, cx: &mut Cx<'_>) {
        let busy = self.get.iter().chain(&self.post).any(|line| line.busy);
        let Some((line, stage)) =
            self.socket.as_mut().filter(|(_, stage)| *stage == Stage::Waiting && !busy)
        else {
            return;
        };
        *stage = Stage::Open;
        let wire = line.wire;
        let old: Vec<Line> = self.get.take().into_iter().chain(self.post.take()).collect();
        old.into_iter().for_each(|line| cx.let_go(line.wire));
        self.send_packet(cx, wire, "5");
        self.send_queue(cx);
    }

    fn hear_packet(&mut self, cx: &mut Cx<'_>, packet: &str) {
        let (now, p) = (cx.now(), self.id);
        cx.oracle.journal.note(now, || {
            format!("poller {p} receives {}", packet.chars().take(150).collect::<String>())
        });
        let json = |from: usize| serde_json::from_str::<Value>(&packet[from..]).ok();
        let known = match packet.as_bytes() {
            b"2" => {
                self.queue.push("3".into());
                true
            }
            b"6" => true,
            b"1" | b"41" => return self.start_over(cx),
            [b'0', ..] => {
                self.sid = json(1).and_then(|open| Some(open["sid"].as_str()?.to_owned()));
                self.queue.push("40".into());
                self.sid.is_some()
            }
            [b'4', b'0', ..] => {
                (self.connected, self.talk.next_say) = (true, 0);
                json(2).is_some()
            }
            [b'4', b'2', ..] => json(2).is_some_and(|event| self.handle_event(cx, &event)),
            [b'4', b'3', ..] => self.handle_ack(cx, &packet[2..]),
            _ => false,
        };
        if !known {
            cx.oracle.journal.fail(now, "I16 readable", format!("poller {p} got {packet}"));
        }
        self.send_queue(cx);
    }

    fn handle_event(&mut self, cx: &mut Cx<'_>, event: &Value) -> bool {
        let (Some(name), payload) = (event[0].as_str(), &event[1]) else { return false };
        if name == "ping" {
            self.queue.push(format!("42[\"pong\",{{\"timestamp\":{}}}]", payload["timestamp"]));
        }
        if name == "scroll_tick" {
            // A tick does not wait for the batch that announces its version.
            return true;
        }
        let timeline = if payload["timeline"].is_object() { &payload["timeline"] } else { payload };
        let version = timeline["epoch"].as_u64().zip(timeline["version"].as_u64());
        let Some(version) = version.filter(|_| payload["sessionId"] == self.session().as_str())
        else {
            return true;
        };
        self.joined |= name == "snapshot";
        let held = std::mem::replace(&mut self.held, version);
        if version < held {
            let what = format!("poller {} got {version:?} after {held:?}", self.id);
            let now = cx.now();
            cx.oracle.journal.fail(now, "I3 version never goes back", what);
        }
        true
    }

    fn handle_ack(&mut self, cx: &mut Cx<'_>, text: &str) -> bool {
        let Some((id, json)) = text.find('[').map(|at| text.split_at(at)) else { return false };
        let (Ok(id), Ok(ack)) = (id.parse::<u64>(), serde_json::from_str::<Value>(json)) else {
            return false;
        };
        let code = &ack[0]["error"]["code"];
        if code == "session_full" {
            self.rejected_at = Some(cx.now());
        }
        self.joined &= code != "not_member";
        let before = self.talk.asks.len();
        self.talk.asks.retain(|(ask, _)| *ask != id);
        if before == self.talk.asks.len() {
            let (now, what) = (cx.now(), format!("poller {} never asked {id}", self.id));
            cx.oracle.journal.fail(now, "I8 answered once", what);
        }
        true
    }

    /// Whether the client would receive packets on this connection: it is connected, all its bytes
    /// are read, and the connection has a pending poll or is its WebSocket.
    pub fn waits_for_packets(&self, w: usize, wire: &Wire, cable: &Cable) -> bool {
        let read = wire.read_up == wire.sent_up && !cable.up.has_ended() && !cable.reset;
        let waits = match &self.socket {
            None => {
                let asks = self.get.as_ref().is_some_and(|line| line.wire == w && line.busy);
                asks && cable.down.full() == 0
            }
            Some((line, stage)) => line.wire == w && *stage == Stage::Open,
        };
        read && waits && self.connected
    }

    /// Returns the reason why the client is not in its session, is at another version than the
    /// `newest`, or has not received what was `due`. `in_time` says whether the network lets it
    /// answer pings before the server closes it.
    pub fn complaint(
        &self,
        now: u64,
        newest: Option<(u64, u64)>,
        due: Option<(u64, u64)>,
        in_time: bool,
    ) -> Option<String> {
        let late = self.talk.asks.iter().find(|(_, at)| now - at > 3 * SECOND);
        match () {
            () if self.rejected_at.is_some_and(|at| now - at < 6 * SECOND) => None,
            () if !self.joined && !in_time => None,
            () if !self.joined => {
                Some(format!("is not in {:?} without a rejection", self.session()))
            }
            () if newest < Some(self.held) || due.is_some_and(|due| self.held < due) => {
                Some(format!("holds {:?} of {newest:?}", self.held))
            }
            () => late.map(|late| format!("was never answered: {late:?}")),
        }
    }
}

/// Returns the length, the status and the body of the HTTP response at the front of `bytes`.
fn answer(bytes: &[u8]) -> Option<(usize, u16, Vec<u8>)> {
    let end = head_length(bytes)?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let length: usize = end + length.unwrap_or(0);
    (bytes.len() >= length).then(|| (length, status, bytes[end..length].to_vec()))
}
