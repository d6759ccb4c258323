//! Messages to crowds, and work of which a turn does only a part.

use std::io::Write;
use std::time::Duration;

use bandsync_driver::{LongestTurn, TurnPhase};
use bandsync_engine::io::{Close, Input, Outputs};
use bandsync_engine::words::ids::{ConnId, ShardId};
use bandsync_engine::words::time::Micros;

use crate::support::{Server, close, fanout, read, read_all, send, wait_until};

/// Number of connections: more than a turn writes to or closes.
const CROWD: usize = 300;

/// A machine that passes each message on to everybody. After `last`, it sends each connection a
/// word of its own and closes it.
fn hall() -> impl FnMut(Micros, Input<'_>, &mut Outputs) + Send + 'static {
    let mut here: Vec<ConnId> = Vec::new();
    move |_: Micros, input: Input<'_>, out: &mut Outputs| match input {
        Input::Opened { conn, .. } => here.push(conn),
        Input::Closed { conn, .. } => here.retain(|other| *other != conn),
        Input::Received { bytes, .. } => {
            fanout(out, &here, bytes, false);
            if bytes == b"last" {
                for conn in here.drain(..) {
                    send(out, conn, b"bye");
                    close(out, conn, Close::Gently);
                }
            }
        }
        _ => {}
    }
}

fn crowd(server: &Server) -> Vec<std::net::TcpStream> {
    let peers: Vec<_> = (0..CROWD).map(|_| server.connect()).collect();
    wait_until(|| server.stats(0).accepted.get() == CROWD as u64);
    peers
}

#[test]
fn a_crowd_receives_each_message_once_and_a_new_member_only_later_ones() {
    let server = Server::start(vec![hall()]);
    let mut peers = crowd(&server);
    for text in [b"one.", b"two."] {
        peers[7].write_all(text).unwrap();
        assert_eq!(read(&mut peers[7], 4), text);
    }
    let mut late = server.connect();
    wait_until(|| server.stats(0).accepted.get() > CROWD as u64);
    late.write_all(b"last").unwrap();
    assert_eq!(read_all(&mut late), b"lastbye");
    for (index, peer) in peers.iter_mut().enumerate() {
        let expected: &[u8] = if index == 7 { b"lastbye" } else { b"one.two.lastbye" };
        assert_eq!(read_all(peer), expected, "{index}");
    }
    drop((peers, late));
    wait_until(|| server.stats(0).open.get() == 0);
    server.end();
}

#[test]
fn a_crowd_is_sent_away_in_several_turns() {
    let server = Server::start(vec![hall()]);
    let mut peers = crowd(&server);
    let turns = server.stats(0).turns.get();
    peers[0].write_all(b"last").unwrap();
    for (index, peer) in peers.iter_mut().enumerate() {
        assert_eq!(read_all(peer), b"lastbye", "{index}");
    }
    assert!(server.stats(0).turns.get() >= turns + 3, "a turn closes 128 connections at most");
    assert_eq!(server.stats(0).unsent.get(), 0);
    drop(peers);
    wait_until(|| server.stats(0).open.get() == 0);
    server.end();
}

#[test]
fn the_longest_turn_shows_the_phase_that_took_most_of_it() {
    /// Stands for work that takes long: the machine does not return for this time.
    const LONG: Duration = Duration::from_millis(30);
    let server = Server::start(vec![|_: Micros, input: Input<'_>, out: &mut Outputs| {
        if let Input::Received { conn, bytes } = input {
            std::thread::sleep(LONG);
            send(out, conn, bytes);
        }
    }]);
    let mut socket = server.connect();
    socket.write_all(b"slow").unwrap();
    assert_eq!(read(&mut socket, 4), b"slow");
    let mut longest = LongestTurn::default();
    wait_until(|| {
        let all = &mut longest;
        server.metrics.collect(ShardId(0), |measured| *all = all.or(measured.longest_turn));
        longest.phase_nanos >= LONG.as_nanos() as u64
    });
    assert_eq!(longest.phase, TurnPhase::Reads);
    assert!(longest.nanos >= longest.phase_nanos);
    drop(socket);
    server.end();
}
