//! Connections that change shards while bytes are in flight in both directions.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::thread;

use bandsync_driver::Plan;
use bandsync_engine::io::tap::NoTap;
use bandsync_engine::io::{Input, Outputs};
use bandsync_engine::words::ids::{ConnId, ShardId};
use bandsync_engine::words::time::Micros;

use crate::support::{
    Behaviour, Server, Silent, hand_over, pattern, plan, read, read_all, send, wait_until,
};

/// A machine that echoes, and hands a connection over to the next shard at regular numbers of
/// bytes. Its state of a connection is the bytes that were read and not echoed yet.
#[derive(Default)]
struct Wanderer {
    shard: u16,
    shards: u16,
    stay: usize,
    left: BTreeMap<ConnId, usize>,
}

impl Wanderer {
    fn crew(shards: u16, stay: usize) -> Vec<Self> {
        (0..shards).map(|shard| Self { shard, shards, stay, left: BTreeMap::new() }).collect()
    }

    fn echo(&mut self, conn: ConnId, bytes: &[u8], out: &mut Outputs) {
        let left = self.left.entry(conn).or_insert(self.stay);
        let (now, later) = bytes.split_at(bytes.len().min(*left));
        *left -= now.len();
        // Two pieces that do not lie side by side, so that the vectored call is tested too.
        let (one, two) = now.split_at(now.len() / 2);
        send(out, conn, one);
        out.bytes.push(0);
        send(out, conn, two);
        if *left == 0 {
            self.left.remove(&conn);
            hand_over(out, conn, ShardId((self.shard + 1) % self.shards), later);
        }
    }
}

impl Behaviour for Wanderer {
    fn react(&mut self, _: Micros, input: Input<'_>, out: &mut Outputs) {
        match input {
            Input::Received { conn, bytes } => self.echo(conn, bytes, out),
            Input::Arrived { conn, state, .. } => self.echo(conn, state, out),
            Input::Closed { conn, .. } => drop(self.left.remove(&conn)),
            _ => {}
        }
    }
}

fn wander(server: &Server, clients: usize, count: usize) {
    thread::scope(|scope| {
        for n in 0..clients {
            let mut socket =
                if n % 2 == 0 { server.connect() } else { server.connect_narrow(4_096) };
            scope.spawn(move || {
                let bytes = pattern(count + n);
                let mut reader = socket.try_clone().unwrap();
                thread::scope(|scope| {
                    scope.spawn(|| {
                        for piece in bytes.chunks(1 + 977 * n) {
                            socket.write_all(piece).unwrap();
                        }
                        socket.shutdown(std::net::Shutdown::Write).unwrap();
                    });
                    assert!(read_all(&mut reader) == bytes, "client {n} got something else");
                });
            });
        }
    });
}

#[test]
fn hand_overs_between_three_shards_keep_all_bytes_in_order() {
    let server = Server::start(Wanderer::crew(3, 5_000));
    wander(&server, 12, 300_000);
    let arrived = server.sum(|stats| stats.arrived.get());
    assert!(arrived >= 12 * (300_000 / 5_000), "{arrived}");
    assert_eq!(arrived, server.sum(|stats| stats.departed.get()));
    server.end();
}

#[test]
fn hand_overs_through_full_mailboxes_lose_no_bytes() {
    let plan = Plan { mailbox_capacity: 1, ..plan() };
    let server =
        Server::start_with(plan, Wanderer::crew(3, 500), Arc::new(Silent), |_| Box::new(NoTap));
    wander(&server, 12, 50_000);
    server.end();
}

/// A machine that hands every connection over from shard 0 to shard 1, which is held up.
enum Held {
    Sender,
    Receiver(mpsc::Receiver<()>),
}

impl Behaviour for Held {
    fn react(&mut self, _: Micros, input: Input<'_>, out: &mut Outputs) {
        match (self, input) {
            (Self::Sender, Input::Received { conn, bytes }) => {
                hand_over(out, conn, ShardId(1), bytes)
            }
            (Self::Sender, Input::Arrived { conn, state, .. }) => {
                hand_over(out, conn, ShardId(1), state)
            }
            (Self::Receiver(_), Input::Received { conn, bytes }) if bytes == b"to the sender" => {
                hand_over(out, conn, ShardId(0), b"?");
            }
            (Self::Receiver(release), Input::Arrived { conn, state, .. }) => {
                // Returns an error when the test drops the other end.
                let _ = release.recv();
                send(out, conn, state);
            }
            (Self::Receiver(_), Input::Received { conn, bytes }) => send(out, conn, bytes),
            _ => {}
        }
    }
}

#[test]
fn connections_wait_for_a_blocked_shard_and_none_is_lost() {
    let (release, held) = mpsc::channel();
    let plan = Plan { mailbox_capacity: 2, ..plan() };
    let shards = vec![Held::Sender, Held::Receiver(held)];
    let server = Server::start_with(plan, shards, Arc::new(Silent), |_| Box::new(NoTap));
    // The first connection holds up shard 1; the others open on shard 0 and must follow it.
    let mut sockets: Vec<TcpStream> = Vec::new();
    while server.stats(1).arrived.get() == 0 || server.stats(0).accepted.get() < 400 {
        sockets.push(server.connect());
        if server.stats(0).accepted.get() > 0 && server.stats(1).arrived.get() == 0 {
            let last = sockets.len() - 1;
            sockets[last].write_all(b"?").unwrap();
        }
    }
    for socket in &mut sockets {
        socket.write_all(b"!").unwrap();
    }
    // Two connections in the mailbox, the one that holds up the shard, and as many as may wait. The
    // others are not read.
    wait_until(|| {
        server.stats(0).mailbox_full.get() > 0 && server.stats(0).departed.get() == 256 + 3
    });
    let turns = server.stats(0).turns.get();
    wait_until(|| server.stats(0).turns.get() > turns + 10);
    assert_eq!(server.stats(0).departed.get(), 256 + 3);
    drop(release);
    for socket in &mut sockets {
        let mut got = read(socket, 1);
        if got == b"?" {
            got = read(socket, 1);
        }
        assert_eq!(got, b"!");
    }
    drop(sockets);
    server.end();
}
