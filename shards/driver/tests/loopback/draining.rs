//! The end of a server.

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

use bandsync_driver::End;
use bandsync_engine::io::{Close, Input, Outputs};
use bandsync_engine::words::ids::{ConnId, ShardId};
use bandsync_engine::words::time::Micros;

use crate::support::{
    Behaviour, PATIENCE, Server, close, echo, hand_over, often, read, read_all, send, wait_until,
};

/// A machine that says goodbye to every connection, whenever it opens.
#[derive(Clone, Default)]
struct Polite {
    conns: Vec<ConnId>,
    draining: bool,
    /// The shard to which every connection is handed over.
    on: Option<ShardId>,
}

impl Behaviour for Polite {
    fn react(&mut self, _: Micros, input: Input<'_>, out: &mut Outputs) {
        match input {
            Input::Opened { conn, .. } | Input::Arrived { conn, .. } => self.conns.push(conn),
            Input::Closed { conn, .. } => self.conns.retain(|other| *other != conn),
            Input::Drain => self.draining = true,
            Input::Received { conn, .. } => {
                if let Some(to) = self.on {
                    self.conns.retain(|other| *other != conn);
                    hand_over(out, conn, to, b"");
                }
            }
            _ => {}
        }
        if self.draining {
            for conn in self.conns.drain(..) {
                send(out, conn, b"goodbye");
                close(out, conn, Close::Gently);
            }
        }
    }
}

#[test]
fn a_drain_sends_every_connection_a_goodbye_and_closes_the_port() {
    let server = Server::start(vec![Polite::default(); 3]);
    let mut sockets: Vec<TcpStream> = (0..60).map(|_| server.connect()).collect();
    server.fleet.drain(PATIENCE);
    for socket in &mut sockets {
        assert_eq!(read_all(socket), b"goodbye");
    }
    let address = server.fleet.address();
    drop(sockets);
    server.end();
    assert!(TcpStream::connect(address).is_err());
}

/// Each shard may end only when all are quiet, so the last one must wake the others.
#[test]
fn shards_end_together() {
    often(|| {
        let server = Server::start(vec![Polite::default(); 3]);
        let mut socket = server.connect();
        server.fleet.drain(Duration::MAX);
        assert_eq!(read_all(&mut socket), b"goodbye");
        drop(socket);
        server.end();
    });
}

/// A connection that waits at the listener is accepted, even if the shard was too busy before.
#[test]
fn connections_that_wait_at_the_listener_receive_a_goodbye_too() {
    let (release, held) = mpsc::channel::<()>();
    let mut polite = Polite::default();
    let server = Server::start(vec![move |at: Micros, input: Input<'_>, out: &mut Outputs| {
        if matches!(input, Input::Received { .. }) {
            // Returns an error when the test drops the other end.
            let _ = held.recv();
        }
        polite.react(at, input, out);
    }]);
    let mut sockets = vec![server.connect()];
    sockets[0].write_all(b"hold").unwrap();
    wait_until(|| server.stats(0).bytes_in.get() == 4);
    sockets.extend((0..200).map(|_| server.connect()));
    server.fleet.drain(Duration::MAX);
    drop(release);
    for socket in &mut sockets {
        assert_eq!(read_all(socket), b"goodbye");
    }
    drop(sockets);
    server.end();
}

/// A machine that keeps the first connection through the drain until its peer ends it, and greets
/// later ones.
#[derive(Default)]
struct Open {
    first: Option<ConnId>,
}

impl Behaviour for Open {
    fn react(&mut self, _: Micros, input: Input<'_>, out: &mut Outputs) {
        match input {
            Input::Opened { conn, .. } if self.first.is_none() => self.first = Some(conn),
            Input::Opened { conn, .. } => send(out, conn, b"late"),
            Input::Drain => {
                if let Some(first) = self.first {
                    send(out, first, b"drain");
                }
            }
            _ => {}
        }
    }
}

#[test]
fn a_drain_accepts_late_connections_but_does_not_wait_for_them() {
    let server = Server::start(vec![Open::default()]);
    let address = server.fleet.address();
    let mut first = server.connect();
    wait_until(|| server.stats(0).open.get() == 1);
    server.fleet.drain(Duration::MAX);
    assert_eq!(read(&mut first, 5), b"drain");
    let mut late: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    for socket in &mut late {
        assert_eq!(read(socket, 4), b"late");
    }
    drop(first);
    assert_eq!(server.fleet.join(), [End::Drained]);
    assert!(
        late.iter_mut().all(|socket| read_all(socket).is_empty()),
        "the server's end closes them"
    );
    assert!(TcpStream::connect(address).is_err());
}

/// When the drain begins, connections may be between two shards.
#[test]
fn connections_being_handed_over_receive_a_goodbye_too() {
    let wander = |to| Polite { on: Some(ShardId(to)), ..Polite::default() };
    let server = Server::start(vec![wander(1), wander(0)]);
    let mut sockets: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    for socket in &mut sockets {
        socket.write_all(&[0; 10]).unwrap();
    }
    server.fleet.drain(PATIENCE);
    for socket in &mut sockets {
        assert_eq!(read_all(socket), b"goodbye");
    }
    drop(sockets);
    server.end();
}

#[test]
fn connections_that_stay_open_are_cut_at_the_end_of_the_drain() {
    let server = Server::start(vec![echo]);
    let mut socket = server.connect();
    socket.write_all(b"hi").unwrap();
    assert_eq!(read(&mut socket, 2), b"hi");
    server.fleet.drain(Duration::from_millis(20));
    assert_eq!(server.fleet.join(), [End::Cut { connections: 1 }]);
}

#[test]
fn a_drain_can_be_cut_short() {
    let server = Server::start(vec![echo]);
    let _socket = server.connect();
    wait_until(|| server.stats(0).open.get() == 1);
    server.fleet.drain(Duration::MAX);
    server.fleet.drain(Duration::ZERO);
    assert_eq!(server.fleet.join(), [End::Cut { connections: 1 }]);
}

/// A machine that panics when a client asks for it.
#[derive(Clone, Default)]
struct Fragile(Polite);

impl Behaviour for Fragile {
    fn react(&mut self, at: Micros, input: Input<'_>, out: &mut Outputs) {
        if let Input::Received { bytes, .. } = &input {
            assert!(*bytes != b"break", "as asked");
        }
        self.0.react(at, input, out);
    }
}

#[test]
fn if_a_shard_panics_the_other_shards_send_goodbyes() {
    let server = Server::start(vec![Fragile::default(); 2]);
    let mut sockets: Vec<TcpStream> = Vec::new();
    while server.stats(0).open.get() == 0 || server.stats(1).open.get() == 0 {
        sockets.push(server.connect());
    }
    wait_until(|| server.sum(|stats| stats.open.get()) == sockets.len() as u64);
    let safe = server.stats(1).open.get().min(server.stats(0).open.get());
    assert!(safe > 0);
    sockets[0].write_all(b"break").unwrap();
    let mut goodbyes = 0;
    for socket in &mut sockets {
        let mut got = Vec::new();
        // Clients of the broken shard see their sockets close, some by a reset.
        let _ = std::io::Read::read_to_end(socket, &mut got);
        goodbyes += u64::from(got == b"goodbye");
    }
    assert!(goodbyes >= safe, "{goodbyes} of {safe}");
    drop(sockets);
    let mut ends = server.fleet.join();
    ends.sort_by_key(|end| *end == End::Panicked);
    assert_eq!(ends, [End::Drained, End::Panicked]);
}
