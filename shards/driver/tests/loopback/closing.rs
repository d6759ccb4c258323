//! Ends of connections, from either side.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;
use std::time::Duration;

use bandsync_engine::io::{Close, CloseCause, Input, Outputs};
use bandsync_engine::words::time::Micros;

use crate::support::{PATIENCE, Server, close, often, pattern, read, read_all, send, wait_until};

/// A machine that echoes, and reports the bytes received and the reason of each end.
fn reporting(
    sender: mpsc::Sender<(usize, CloseCause)>,
) -> impl FnMut(Micros, Input<'_>, &mut Outputs) + Send + 'static {
    let mut received = 0;
    move |_: Micros, input: Input<'_>, out: &mut Outputs| match input {
        Input::Received { conn, bytes } => {
            received += bytes.len();
            send(out, conn, bytes);
        }
        Input::Closed { cause, .. } => sender.send((received, cause)).unwrap(),
        _ => {}
    }
}

#[test]
fn a_half_close_follows_all_bytes_and_all_answers_are_still_sent() {
    let (sender, receiver) = mpsc::channel();
    let server = Server::start(vec![reporting(sender)]);
    let mut socket = server.connect_narrow(4_096);
    let bytes = pattern(2_000_000);
    socket.write_all(&bytes).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    // The client reads the answers only after the server has read the end.
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), (2_000_000, CloseCause::Ended));
    assert!(read_all(&mut socket) == bytes);
    server.end();
}

#[test]
fn a_reset_is_a_failure() {
    let (sender, receiver) = mpsc::channel();
    let server = Server::start(vec![reporting(sender)]);
    let mut socket = server.connect();
    socket.write_all(b"here").unwrap();
    assert_eq!(read(&mut socket, 4), b"here");
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), (4, CloseCause::Failed));
    server.end();
}

#[test]
fn a_reset_under_unsent_bytes_is_a_failure() {
    let (sender, receiver) = mpsc::channel();
    let server =
        Server::start(vec![move |_: Micros, input: Input<'_>, out: &mut Outputs| match input {
            Input::Opened { conn, .. } => send(out, conn, &pattern(8_000_000)),
            Input::Backlog { bytes, .. } => sender.send(Ok(bytes)).unwrap(),
            Input::Closed { cause, .. } => sender.send(Err(cause)).unwrap(),
            _ => {}
        }]);
    let socket = server.connect();
    assert!(receiver.recv_timeout(PATIENCE).unwrap().is_ok());
    // Unread bytes turn the close into a reset.
    drop(socket);
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), Err(CloseCause::Failed));
    server.end();
}

/// Without a limit, one turn could fill the memory before the machine learns of the backlog.
#[test]
fn a_connection_with_too_many_unsent_bytes_fails() {
    let (sender, receiver) = mpsc::channel();
    let server =
        Server::start(vec![move |_: Micros, input: Input<'_>, out: &mut Outputs| match input {
            Input::Opened { conn, .. } => send(out, conn, &pattern(32_000_000)),
            Input::Closed { cause, .. } => sender.send(cause).unwrap(),
            _ => {}
        }]);
    let socket = server.connect();
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), CloseCause::Failed);
    drop(socket);
    server.end();
}

/// Nothing else wakes the shard, so the end must.
#[test]
fn the_end_of_a_quiet_connection_is_reported_at_once() {
    let (sender, receiver) = mpsc::channel();
    let server = Server::start(vec![reporting(sender)]);
    often(|| {
        let socket = server.connect();
        wait_until(|| server.stats(0).open.get() == 1);
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), (0, CloseCause::Ended));
        wait_until(|| server.stats(0).open.get() == 0);
    });
    server.end();
}

/// A machine that answers the first bytes with many, and closes. Later input must not reach it.
#[test]
fn a_gentle_close_delivers_everything_to_a_peer_that_keeps_sending() {
    let answer = pattern(1_000_000);
    let expected = answer.clone();
    let server = Server::start(vec![move |_: Micros, input: Input<'_>, out: &mut Outputs| {
        if let Input::Received { conn, .. } = input {
            send(out, conn, &answer);
            close(out, conn, Close::Gently);
        }
    }]);
    let mut socket = server.connect_narrow(4_096);
    socket.write_all(&vec![1; 200_000]).unwrap();
    let got = read_all(&mut socket);
    assert!(got == expected, "{} of {}", got.len(), expected.len());
    // The client's side is still open, and a lingering connection must accept its bytes.
    socket.write_all(&[2; 1_000]).unwrap();
    drop(socket);
    server.end();
}

#[test]
fn an_abort_resets_at_once() {
    let server = Server::start(vec![|_: Micros, input: Input<'_>, out: &mut Outputs| {
        if let Input::Received { conn, .. } = input {
            close(out, conn, Close::Abort);
        }
    }]);
    let mut socket = server.connect();
    socket.write_all(b"go away").unwrap();
    let error = socket.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    server.end();
}

/// A peer that neither reads nor ends is cut off, although the machine has closed the connection.
#[test]
fn a_peer_that_never_closes_is_cut_off() {
    let server = Server::start(vec![|_: Micros, input: Input<'_>, out: &mut Outputs| {
        if let Input::Opened { conn, .. } = input {
            close(out, conn, Close::Gently);
        }
    }]);
    let mut socket = server.connect();
    assert_eq!(read_all(&mut socket), b"");
    wait_until(|| server.stats(0).open.get() == 0);
    drop(socket);
    server.end();
}
