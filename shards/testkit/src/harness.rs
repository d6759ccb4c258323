//! Engines without a driver: the caller provides inputs and time.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use bandsync_engine::engine::Engine;
use bandsync_engine::io::tap::Tap;
use bandsync_engine::io::{HttpResponse, Input, Output, Outputs, Settings};
use bandsync_engine::words::ids::{ConnId, ShardId};
use bandsync_engine::words::time::Micros;

use crate::frames;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The number of a client. It stays the same while the client's connection moves between shards.
pub type Client = u32;

/// Engines, a clock, and clients. A tap watches each engine.
///
/// Messages between shards, hand-overs and answers to HTTP requests are delivered at once. The
/// harness allocates only for clients that move.
pub struct Harness<T> {
    shards: Vec<(Engine, T)>,
    now: Micros,
    out: Outputs,
    clients: Client,
    /// Clients that were not opened on the first shard, or have moved since.
    elsewhere: BTreeMap<Client, (usize, ConnId)>,
}

impl<T: Tap> Harness<T> {
    /// Creates as many engines as the settings say, one second after the start of the clock.
    pub fn new(settings: &Settings, mut tap: impl FnMut(ShardId) -> T) -> Self {
        let shard = |shard| {
            let shard = ShardId(shard);
            (Engine::new(Settings { shard, ..settings.clone() }), tap(shard))
        };
        Self {
            shards: (0..settings.shards).map(shard).collect(),
            now: Micros::from_secs(1),
            out: Outputs::default(),
            clients: 0,
            elsewhere: BTreeMap::new(),
        }
    }

    /// Returns the current time.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// Sets the clock, without a turn.
    pub fn set_now(&mut self, now: Micros) {
        self.now = now;
    }

    /// One of the engines.
    pub fn engine(&mut self, shard: usize) -> &mut Engine {
        &mut self.shards[shard].0
    }

    /// Returns the tap of one of the engines.
    pub fn tap(&mut self, shard: usize) -> &mut T {
        &mut self.shards[shard].1
    }

    /// Opens a connection on a shard.
    pub fn open(&mut self, shard: usize) -> Client {
        let client = self.clients;
        let conn = self.new_conn();
        if shard > 0 {
            self.elsewhere.insert(client, (shard, conn));
        }
        self.input(shard, Input::Opened { conn, peer: PEER });
        client
    }

    /// Opens a connection, upgrades it with this request, and connects to the namespace.
    pub fn connect(&mut self, shard: usize, handshake: &[u8]) -> Client {
        let client = self.open(shard);
        self.received(client, &mut handshake.to_vec());
        self.say(client, "40");
        client
    }

    /// Sends a text message.
    pub fn say(&mut self, client: Client, text: &str) {
        let mut bytes = Vec::new();
        frames::masked(&mut bytes, text);
        self.received(client, &mut bytes);
    }

    /// Sends bytes that are ready, which the engine may change.
    pub fn received(&mut self, client: Client, bytes: &mut [u8]) {
        let (shard, conn) = self.place(client);
        self.input(shard, Input::Received { conn, bytes });
    }

    /// Lets time pass as a driver does: an engine's turn ends when it wants to be woken.
    pub fn pass(&mut self, span: Micros) {
        self.pass_until(self.now + span);
    }

    /// Lets time pass up to `end`.
    pub fn pass_until(&mut self, end: Micros) {
        while self.next_deadline().is_some_and(|next| next <= end) {
            self.skip_to_deadline();
            self.turn();
        }
        self.now = end;
    }

    /// Moves the clock to the earliest deadline, without a turn. Returns false if there is none.
    pub fn skip_to_deadline(&mut self) -> bool {
        let next = self.next_deadline();
        self.now = self.now.max(next.unwrap_or(self.now));
        next.is_some()
    }

    /// Ends a turn of every shard.
    pub fn turn(&mut self) {
        for shard in 0..self.shards.len() {
            self.input(shard, Input::TurnEnded);
        }
    }

    fn next_deadline(&self) -> Option<Micros> {
        self.shards.iter().filter_map(|(engine, _)| engine.next_deadline()).min()
    }

    /// Passes an input to a shard, and carries out its outputs.
    pub fn input(&mut self, shard: usize, input: Input<'_>) {
        let (engine, tap) = &mut self.shards[shard];
        tap.input(self.now, &input);
        engine.handle(self.now, input, &mut self.out);
        tap.outputs(&self.out, 0);
        let travels = |output: &Output| {
            matches!(
                output,
                Output::HandOver { .. } | Output::ShardMessage { .. } | Output::Request { .. }
            )
        };
        if self.out.list.iter().any(travels) {
            self.carry(shard);
        }
        self.out.clear();
    }

    /// Delivers messages, connections and answers.
    fn carry(&mut self, from: usize) {
        let out = std::mem::take(&mut self.out);
        for output in &out.list {
            match output {
                Output::HandOver { conn, to, state } => {
                    let to = usize::from(to.0);
                    let client = self.client_at(from, *conn);
                    let conn = self.new_conn();
                    self.elsewhere.insert(client, (to, conn));
                    let state = &out.bytes[state.range()];
                    self.input(to, Input::Arrived { conn, peer: PEER, state });
                }
                Output::ShardMessage { to, message } => {
                    let message = &out.bytes[message.range()];
                    self.input(usize::from(to.0), Input::ShardMessage { message });
                }
                Output::Request { conn, request } => {
                    let body = format!("asked for {}", request.path).into_bytes().into();
                    let response = HttpResponse { status: 200, headers: Vec::new(), body };
                    self.input(from, Input::Responded { conn: *conn, response });
                }
                _ => {}
            }
        }
    }

    /// Returns the shard of a client, and its connection there.
    pub fn place(&self, client: Client) -> (usize, ConnId) {
        let first = (0, ConnId { index: client, generation: 0 });
        self.elsewhere.get(&client).copied().unwrap_or(first)
    }

    /// Returns the client of a connection.
    pub fn client_at(&self, shard: usize, conn: ConnId) -> Client {
        let moved = self.elsewhere.iter().find(|(_, place)| **place == (shard, conn));
        moved.map_or(conn.index, |(client, _)| *client)
    }

    /// Returns a connection that no shard has had.
    fn new_conn(&mut self) -> ConnId {
        let index = self.clients;
        self.clients += 1;
        ConnId { index, generation: 0 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Keeps all bytes that connections were sent.
    #[derive(Default)]
    struct Sent(BTreeMap<ConnId, Vec<u8>>);

    impl Tap for Sent {
        fn outputs(&mut self, outputs: &Outputs, from: usize) {
            for output in &outputs.list[from..] {
                let (to, bytes) = match output {
                    Output::Send { to, bytes } => (std::slice::from_ref(to), bytes),
                    Output::Fanout { to, bytes, .. } => (&outputs.receivers[to.range()], bytes),
                    _ => continue,
                };
                for conn in to {
                    let bytes = &outputs.bytes[bytes.range()];
                    self.0.entry(*conn).or_default().extend_from_slice(bytes);
                }
            }
        }
    }

    #[test]
    fn a_client_keeps_its_number_when_it_moves() {
        let settings = Settings { shards: 2, ..Settings::default() };
        let mut harness = Harness::new(&settings, |_| Sent::default());
        let handshake = frames::handshake("band", false);
        let clients = [0, 1].map(|shard| harness.connect(shard, &handshake));
        for client in clients {
            harness.say(client, r#"420["join_session",{"sessionId":"s"}]"#);
            harness.turn();
        }
        let [(home, _), (away, _)] = clients.map(|client| harness.place(client));
        assert_eq!(home, away, "a session lives on one shard");
        for client in clients {
            let (shard, conn) = harness.place(client);
            let sent = String::from_utf8_lossy(&harness.tap(shard).0[&conn]).into_owned();
            assert!(sent.contains(r#"430[{"ok":true"#), "{sent}");
            assert_eq!(harness.client_at(shard, conn), client);
        }
    }

    #[test]
    fn time_passes_in_turns() {
        let mut harness = Harness::new(&Settings::default(), |_| Sent::default());
        let client = harness.connect(0, &frames::handshake("band", false));
        harness.say(client, r#"42["join_session",{"sessionId":"s"}]"#);
        harness.say(client, r#"42["play",{"sessionId":"s"}]"#);
        let began = harness.now();
        harness.pass(Micros::from_secs(1));
        assert_eq!(harness.now().since(began), Micros::from_secs(1));
        let (shard, conn) = harness.place(client);
        let sent = String::from_utf8_lossy(&harness.tap(shard).0[&conn]).into_owned();
        assert!(sent.matches("scroll_tick").count() > 10, "{sent}");
    }
}
