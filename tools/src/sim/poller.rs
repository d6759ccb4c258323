//! Members that fetch what they are told by HTTP long-polling, and some of them go over to a
//! WebSocket from there.
//!
//! What a request fetches was said before, so the oracle, which has to hear everything in order,
//! has no part in their bands. They see for themselves: versions never go back, every question is
//! answered once, and in the end they are where they want to be and know the newest state.

use bandsync_engine::words::ids::SessionId;
use serde_json::Value;

use super::frames;
use super::plan;
use super::rng::SimRng;
use super::world::{Event, LOOK, Newest, World, peer_of};

const SECOND: u64 = 1_000_000;

/// Packets of one body are separated by this.
const SEPARATOR: char = '\u{1e}';

/// A client, over all its sessions and connections.
pub struct Poller {
    band: u16,
    /// Whether it comes back whenever it is lost.
    present: bool,
    calm: bool,
    /// Engine.IO's name of its session.
    sid: Option<String>,
    get: Option<Line>,
    post: Option<Line>,
    socket: Option<(Line, Stage)>,
    /// Packets to be sent.
    queue: Vec<String>,
    /// Whether it may ask for something, and whether it is in its band.
    connected: bool,
    joined: bool,
    /// When it was last told why it may not come in.
    told_why: Option<u64>,
    held: (u64, u64),
    /// Asked and not answered: number and time.
    asks: Vec<(u64, u64)>,
    next_ask: u64,
    next_say: u64,
    heard_at: u64,
    retry_at: u64,
    luck: SimRng,
}

/// A connection of a client.
struct Line {
    wire: usize,
    rest: Vec<u8>,
    /// Whether a request waits for its answer.
    busy: bool,
}

/// How far a WebSocket has come.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// Not upgraded yet.
    Head,
    /// Asked whether it works.
    Probing,
    /// It works; the requests that are under way have to end first.
    Waiting,
    Open,
}

impl Poller {
    pub fn new(seed: u64, id: u16) -> Self {
        Self {
            band: id / 2,
            present: true,
            calm: false,
            sid: None,
            get: None,
            post: None,
            socket: None,
            queue: Vec::new(),
            connected: false,
            joined: false,
            told_why: None,
            held: (0, 0),
            asks: Vec::new(),
            next_ask: 0,
            next_say: 0,
            heard_at: 0,
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
        format!("p{}", self.band)
    }
}

impl World<'_> {
    /// A client looks at its own affairs.
    pub fn look_polled(&mut self, p: u16) {
        self.post(self.now + LOOK, Event::LookPolled(p));
        let now = self.now;
        let shape = &self.plan.shape;
        let silence =
            shape.ping + shape.ping_timeout + SECOND + 4 * (shape.net.delay + shape.net.detour);
        let poller = &mut self.pollers[usize::from(p)];
        if !poller.present || now < poller.retry_at {
            return;
        }
        if poller.get.is_none() && poller.socket.is_none() {
            poller.heard_at = now;
            return self.get_packets(p);
        }
        let fed_up = !poller.calm && poller.luck.one_in(80);
        if now - poller.heard_at > silence || fed_up {
            return self.start_over(p);
        }
        if !poller.calm && poller.luck.one_in(80) {
            let lines: Vec<usize> = poller.lines().map(|line| line.wire).collect();
            let wire = *poller.luck.pick(&lines);
            self.net.cables[wire].reset = true;
            self.arrive_up(wire);
            return self.start_over(p);
        }
        if poller.joined && poller.socket.is_none() && poller.luck.one_in(20) {
            return self.begin_upgrade(p);
        }
        if poller.connected && now >= poller.next_say {
            self.say_something(p);
        }
    }

    fn say_something(&mut self, p: u16) {
        let (now, poller) = (self.now, &mut self.pollers[usize::from(p)]);
        poller.next_say = now + poller.luck.between(1, 5) * SECOND;
        let session = poller.session();
        let (name, fields) = match poller.luck.below(if poller.calm { 1 } else { 8 }) {
            _ if !poller.joined => ("join_session", format!(",\"displayName\":\"Poller {p}\"")),
            0 | 1 => ("sync_request", format!(",\"version\":{}", poller.held.1)),
            2 => ("chat_message", ",\"message\":\"one more time\"".to_owned()),
            3 => ("play", String::new()),
            4 => ("pause", String::new()),
            5 => ("seek", ",\"position\":1500".to_owned()),
            6 => ("set_role", ",\"role\":\"leader\"".to_owned()),
            _ => ("latency_probe", ",\"timestamp\":1".to_owned()),
        };
        poller.next_ask += 1;
        let id = poller.next_ask;
        poller.asks.push((id, now));
        poller.queue.push(format!("42{id}[\"{name}\",{{\"sessionId\":\"{session}\"{fields}}}]"));
        self.send_queue(p);
    }

    /// Gives up on everything and begins anew in a while.
    fn start_over(&mut self, p: u16) {
        let now = self.now;
        let poller = &mut self.pollers[usize::from(p)];
        let lines: Vec<usize> = poller.lines().map(|line| line.wire).collect();
        (poller.get, poller.post, poller.socket, poller.sid) = (None, None, None, None);
        poller.queue.clear();
        poller.asks.clear();
        (poller.connected, poller.joined, poller.held, poller.next_say) = (false, false, (0, 0), 0);
        poller.retry_at = now + poller.luck.below(SECOND);
        lines.into_iter().for_each(|wire| self.let_go(wire));
    }

    /// Ends a connection and reads no more of it.
    fn let_go(&mut self, wire: usize) {
        self.end_stream(wire);
        self.wires[wire].left = true;
        if self.net.cables[wire].down.full() > 0 {
            self.post_down(wire, self.now);
        }
    }

    fn open_line(&mut self, p: u16) -> Line {
        let luck = SimRng::new(self.pollers[usize::from(p)].luck.next(), 6_000);
        let wire = self.open_with(p, luck, false);
        self.wires[wire].poller = Some(p);
        self.net.cables[wire].peer = peer_of(p, true);
        Line { wire, rest: Vec::new(), busy: false }
    }

    /// Asks for packets, of a new session if it has none.
    fn get_packets(&mut self, p: u16) {
        let mut line = match self.pollers[usize::from(p)].get.take() {
            Some(line) => line,
            None => self.open_line(p),
        };
        line.busy = true;
        let (wire, poller) = (line.wire, &mut self.pollers[usize::from(p)]);
        poller.get = Some(line);
        let sid = poller.sid.as_ref().map_or(String::new(), |sid| format!("&sid={sid}"));
        let head = format!(
            "GET /socket.io/?EIO=4&transport=polling{sid}&token={} HTTP/1.1\r\nHost: band\r\nCookie: {}\r\n\r\n",
            plan::passcode(2),
            plan::pin(2),
        );
        self.send(wire, head.as_bytes());
    }

    /// Sends what waits: on the WebSocket if there is one, or as soon as the request before has its
    /// answer.
    fn send_queue(&mut self, p: u16) {
        let poller = &mut self.pollers[usize::from(p)];
        let stage = poller.socket.as_ref().map(|(_, stage)| *stage);
        if let Some((line, Stage::Open)) = &poller.socket {
            let wire = line.wire;
            for packet in std::mem::take(&mut poller.queue) {
                self.send_packet(p, wire, &packet);
            }
            return;
        }
        let busy = poller.post.as_ref().is_some_and(|line| line.busy);
        if busy || poller.queue.is_empty() || stage == Some(Stage::Waiting) {
            return;
        }
        let Some(sid) = poller.sid.clone() else { return };
        let body = std::mem::take(&mut poller.queue).join(&SEPARATOR.to_string());
        let mut line = match poller.post.take() {
            Some(line) => line,
            None => self.open_line(p),
        };
        line.busy = true;
        let request = format!(
            "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: band\r\n\
             Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let wire = line.wire;
        self.pollers[usize::from(p)].post = Some(line);
        self.send(wire, request.as_bytes());
    }

    fn send_packet(&mut self, p: u16, wire: usize, packet: &str) {
        let mut bytes = Vec::new();
        frames::frame(
            &mut bytes,
            frames::TEXT,
            packet.as_bytes(),
            &mut self.pollers[usize::from(p)].luck,
        );
        self.send(wire, &bytes);
    }

    fn begin_upgrade(&mut self, p: u16) {
        let line = self.open_line(p);
        let (wire, poller) = (line.wire, &mut self.pollers[usize::from(p)]);
        poller.socket = Some((line, Stage::Head));
        let sid = poller.sid.clone().unwrap_or_default();
        let head = String::from_utf8_lossy(frames::UPGRADE).into_owned();
        let head = head.replace("transport=websocket", &format!("transport=websocket&sid={sid}"));
        self.send(wire, head.as_bytes());
    }

    /// Bytes arrive at a client.
    pub fn arrive_polled(&mut self, p: u16, w: usize) {
        let now = self.now;
        if let Some(again) = self.net.cables[w].down.arrive(now) {
            self.post_down(w, again);
        }
        if self.wires[w].left || !self.pollers[usize::from(p)].has(w) {
            return self.refuse_bytes(w);
        }
        if self.net.cables[w].reset {
            return self.start_over(p);
        }
        let bytes = self.net.cables[w].down.here().to_vec();
        if !bytes.is_empty() {
            self.net.cables[w].down.took(bytes.len());
            self.tell_room(w);
            let poller = &mut self.pollers[usize::from(p)];
            poller.heard_at = now;
            if let Some(line) = poller.lines().find(|line| line.wire == w) {
                line.rest.extend_from_slice(&bytes);
            }
            if poller.socket.as_ref().is_some_and(|(line, _)| line.wire == w) {
                self.read_socket(p, w);
            } else {
                self.read_answers(p, w);
            }
        }
        if self.net.cables[w].down.is_over(now) && self.pollers[usize::from(p)].has(w) {
            self.line_over(p, w);
        }
    }

    /// The server has ended a connection: one that is idle is not missed.
    fn line_over(&mut self, p: u16, w: usize) {
        let poller = &mut self.pollers[usize::from(p)];
        if poller.post.as_ref().is_some_and(|line| line.wire == w && !line.busy) {
            poller.post = None;
            self.let_go(w);
        } else {
            self.start_over(p);
        }
    }

    fn read_answers(&mut self, p: u16, w: usize) {
        loop {
            let poller = &mut self.pollers[usize::from(p)];
            let polls = poller.get.as_ref().is_some_and(|line| line.wire == w);
            let Some(line) = poller.lines().find(|line| line.wire == w) else { return };
            let Some((length, status, body)) = answer(&line.rest) else { return };
            line.rest.drain(..length);
            let expected = std::mem::replace(&mut line.busy, false);
            if status != 200 {
                // It is not known any more, or there is no room.
                poller.told_why = Some(self.now).filter(|_| status == 503).or(poller.told_why);
                return self.start_over(p);
            }
            if !expected {
                return self.oracle.journal.fail(
                    self.now,
                    "I8 answered once",
                    format!("poller {p} got {body:?}"),
                );
            }
            if !polls {
                self.send_queue(p);
                self.finish_upgrade(p);
                continue;
            }
            let Ok(body) = String::from_utf8(body) else {
                return self.oracle.journal.fail(self.now, "I16 readable", format!("poller {p} got no text"));
            };
            for packet in body.split(SEPARATOR) {
                self.hear_packet(p, packet);
            }
            let poller = &self.pollers[usize::from(p)];
            if poller.socket.as_ref().is_some_and(|(_, stage)| *stage == Stage::Waiting) {
                self.finish_upgrade(p);
            } else if poller.get.as_ref().is_some_and(|line| line.wire == w) {
                self.get_packets(p);
            }
        }
    }

    fn read_socket(&mut self, p: u16, w: usize) {
        loop {
            let socket = self.pollers[usize::from(p)].socket.as_mut();
            let Some((line, stage)) = socket.filter(|(line, _)| line.wire == w) else { return };
            if *stage == Stage::Head {
                let Some(end) = frames::head_end(&line.rest) else { return };
                let granted = line.rest.starts_with(b"HTTP/1.1 101");
                line.rest.drain(..end);
                *stage = Stage::Probing;
                if !granted {
                    self.pollers[usize::from(p)].told_why = Some(self.now);
                    return self.start_over(p);
                }
                self.send_packet(p, w, "2probe");
                continue;
            }
            let Some((length, head)) = frames::whole(&line.rest) else { return };
            let frame: Vec<u8> = line.rest.drain(..length).collect();
            let packet = String::from_utf8_lossy(&frame[head..]);
            match (frame[0], *stage, &*packet) {
                (frames::TEXT, Stage::Probing, "3probe") => {
                    *stage = Stage::Waiting;
                    self.finish_upgrade(p);
                }
                (frames::TEXT, Stage::Open, packet) => self.hear_packet(p, packet),
                (frames::CLOSE, ..) => return self.start_over(p),
                (first, stage, packet) => {
                    let what = format!("poller {p} got {first:02x} {packet} while {stage:?}");
                    return self.oracle.journal.fail(self.now, "I6 as it was sent", what);
                }
            }
        }
    }

    /// Goes over to the WebSocket when no request is under way any more.
    fn finish_upgrade(&mut self, p: u16) {
        let poller = &mut self.pollers[usize::from(p)];
        let busy = poller.get.iter().chain(&poller.post).any(|line| line.busy);
        let Some((line, stage)) =
            poller.socket.as_mut().filter(|(_, stage)| *stage == Stage::Waiting && !busy)
        else {
            return;
        };
        *stage = Stage::Open;
        let wire = line.wire;
        let old: Vec<Line> = poller.get.take().into_iter().chain(poller.post.take()).collect();
        old.into_iter().for_each(|line| self.let_go(line.wire));
        self.send_packet(p, wire, "5");
        self.send_queue(p);
    }

    fn hear_packet(&mut self, p: u16, packet: &str) {
        let now = self.now;
        self.oracle.journal.note(now, || {
            format!("poller {p} hears {}", packet.chars().take(150).collect::<String>())
        });
        let poller = &mut self.pollers[usize::from(p)];
        let json = |from: usize| serde_json::from_str::<Value>(&packet[from..]).ok();
        let known = match packet.as_bytes() {
            b"2" => {
                poller.queue.push("3".into());
                true
            }
            b"6" => true,
            b"1" | b"41" => return self.start_over(p),
            [b'0', ..] => {
                poller.sid = json(1).and_then(|told| Some(told["sid"].as_str()?.to_owned()));
                poller.queue.push("40".into());
                poller.sid.is_some()
            }
            [b'4', b'0', ..] => {
                (poller.connected, poller.next_say) = (true, 0);
                json(2).is_some()
            }
            [b'4', b'2', ..] => json(2).is_some_and(|event| self.hear_event(p, &event)),
            [b'4', b'3', ..] => self.hear_ack(p, &packet[2..]),
            _ => false,
        };
        if !known {
            self.oracle.journal.fail(now, "I16 readable", format!("poller {p} got {packet}"));
        }
        self.send_queue(p);
    }

    fn hear_event(&mut self, p: u16, event: &Value) -> bool {
        let poller = &mut self.pollers[usize::from(p)];
        let (Some(name), told) = (event[0].as_str(), &event[1]) else { return false };
        if name == "ping" {
            poller.queue.push(format!("42[\"pong\",{{\"timestamp\":{}}}]", told["timestamp"]));
        }
        if name == "scroll_tick" {
            // A tick does not wait for the batch that tells of the version it is of.
            return true;
        }
        let timeline = if told["timeline"].is_object() { &told["timeline"] } else { told };
        let version = timeline["epoch"].as_u64().zip(timeline["version"].as_u64());
        let Some(version) = version.filter(|_| told["sessionId"] == poller.session().as_str())
        else {
            return true;
        };
        poller.joined |= name == "snapshot";
        let held = std::mem::replace(&mut poller.held, version);
        if version < held {
            let what = format!("poller {p} got {version:?} after {held:?}");
            self.oracle.journal.fail(self.now, "I3 version never goes back", what);
        }
        true
    }

    fn hear_ack(&mut self, p: u16, text: &str) -> bool {
        let poller = &mut self.pollers[usize::from(p)];
        let Some((id, json)) = text.find('[').map(|at| text.split_at(at)) else { return false };
        let (Ok(id), Ok(told)) = (id.parse::<u64>(), serde_json::from_str::<Value>(json)) else {
            return false;
        };
        let code = &told[0]["error"]["code"];
        if code == "session_full" {
            poller.told_why = Some(self.now);
        }
        poller.joined &= code != "not_member";
        let before = poller.asks.len();
        poller.asks.retain(|(ask, _)| *ask != id);
        if before == poller.asks.len() {
            self.oracle.journal.fail(self.now, "I8 answered once", format!("poller {p} never asked {id}"));
        }
        true
    }

    /// Whether somebody is connected, has asked for packets on this connection, and was not
    /// answered; or speaks on it, as a WebSocket. All that it said has been read.
    pub fn waits_for_packets(&self, w: usize) -> bool {
        let (wire, cable) = (&self.wires[w], &self.net.cables[w]);
        let Some(poller) = wire.poller.map(|p| &self.pollers[usize::from(p)]) else { return false };
        let read = wire.read_up == wire.sent_up && !cable.up.has_ended() && !cable.reset;
        let waits = match &poller.socket {
            None => {
                let asks = poller.get.as_ref().is_some_and(|line| line.wire == w && line.busy);
                asks && cable.down.full() == 0
            }
            Some((line, stage)) => line.wire == w && *stage == Stage::Open,
        };
        read && waits && poller.connected
    }

    /// Everybody is where they want to be and was told what was `due`, or was told why not.
    pub fn check_pollers(&mut self, due: &Newest) {
        let now = self.now;
        // A ping waits for a request, and its answer for the end of another: with less time than
        // that who polls is lost again and again.
        let shape = &self.plan.shape;
        let trip = 2 * shape.net.delay + shape.net.detour;
        let in_time = 3 * trip + 2 * shape.net.jitter < shape.ping_timeout;
        for (p, poller) in self.pollers.iter().enumerate() {
            let Some(name) = SessionId::parse(&poller.session()) else { continue };
            let (newest, due) = (self.newest(&name), due.get(&name));
            let late = poller.asks.iter().find(|(_, at)| now - at > 3 * SECOND);
            let what = match () {
                () if poller.told_why.is_some_and(|at| now - at < 6 * SECOND) => continue,
                () if !poller.joined && !in_time => continue,
                () if !poller.joined => format!("is not in {name:?}, and was not told why"),
                () if newest < Some(poller.held) || due.is_some_and(|due| poller.held < *due) => {
                    format!("holds {:?} of {newest:?}", poller.held)
                }
                () if late.is_some() => format!("was never answered: {late:?}"),
                () => continue,
            };
            self.oracle.journal.fail(now, "I18 recovery", format!("poller {p} {what}"));
        }
    }
}

/// The HTTP answer at the front of `bytes`: its length, status and body.
fn answer(bytes: &[u8]) -> Option<(usize, u16, Vec<u8>)> {
    let end = frames::head_end(bytes)?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let length: usize = end + length.unwrap_or(0);
    (bytes.len() >= length).then(|| (length, status, bytes[end..length].to_vec()))
}
