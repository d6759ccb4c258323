//! A shortage of descriptors. The test has a process of its own, because the limit is that of the
//! process.
#![allow(clippy::unwrap_used, dead_code)]

#[path = "loopback/support.rs"]
mod support;

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use bandsync_driver::Clock;
use bandsync_engine::words::time::Micros;
use socket2::{Domain, Socket, Type};
use support::{PATIENCE, Server, echo, wait_until};

/// Descriptors that are left for the server.
const LEFT: u64 = 10;

/// Maximum number of descriptors of the test.
const MOST: u64 = 1_000;

/// A logger that counts warnings.
struct Warnings(AtomicUsize);

impl log::Log for Warnings {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() <= log::Level::Warn {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn flush(&self) {}
}

static WARNINGS: Warnings = Warnings(AtomicUsize::new(0));

/// Lets the process open no descriptor at or above `limit`, until the limit is raised again.
fn limit_descriptors(limit: u64) {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: MOST };
    // SAFETY: the limit is only read.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

/// Sends a request, and returns the answer: empty if the server rejected the connection.
fn ask(socket: &mut Socket) -> Vec<u8> {
    let mut got = [0; 2];
    // A rejection may come before or after the request, so both calls may fail.
    let _ = socket.write_all(b"hi");
    match socket.read(&mut got) {
        Ok(count) => got[..count].to_vec(),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Vec::new(),
        Err(error) => panic!("neither served nor rejected: {error}"),
    }
}

#[test]
fn connections_are_rejected_only_while_file_descriptors_are_scarce() {
    log::set_logger(&WARNINGS).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let server = Server::start(vec![echo]);
    let address = server.fleet.address();
    // The clients' descriptors are opened before the limit is set.
    let mut clients: Vec<Socket> =
        (0..80).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    for client in &clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    limit_descriptors(clients.last().unwrap().as_raw_fd() as u64 + 1 + LEFT);

    for client in &clients[..60] {
        client.connect(&address.into()).unwrap();
    }
    let answers: Vec<Vec<u8>> = clients[..60].iter_mut().map(ask).collect();
    assert!(answers[..LEFT as usize].iter().all(|answer| answer == b"hi"));
    assert!(answers[LEFT as usize..].iter().all(Vec::is_empty));
    // A client may see the rejection before it is counted and reported.
    wait_until(|| {
        server.stats(0).rejected.get() == 60 - LEFT && WARNINGS.0.load(Ordering::SeqCst) == 1
    });

    // The first clients are still served, and when some of them close, others can connect.
    clients[0].write_all(b"me").unwrap();
    let mut got = [0; 2];
    clients[0].read_exact(&mut got).unwrap();
    assert_eq!(&got, b"me");
    for client in &clients[..5] {
        client.shutdown(std::net::Shutdown::Both).unwrap();
    }
    wait_until(|| server.stats(0).open.get() == LEFT - 5);
    for client in &mut clients[60..65] {
        client.connect(&address.into()).unwrap();
        assert_eq!(ask(client), b"hi");
    }

    // Without any descriptor not even a rejection is possible: a new connection waits, and the
    // shard does not spin. It tries again every 100 ms.
    limit_descriptors(0);
    let (clock, turns) = (Clock::start(), server.stats(0).turns.get());
    clients[70].connect(&address.into()).unwrap();
    wait_until(|| server.stats(0).turns.get() >= turns + 3);
    wait_until(|| clock.now() > Micros::from_millis(250));
    let turns = server.stats(0).turns.get() - turns;
    assert!(turns < 10 + clock.now().as_millis() / 50, "a busy loop: {turns} turns");
    limit_descriptors(MOST);
    assert_eq!(ask(&mut clients[70]), b"hi");
    assert_eq!(server.stats(0).rejected.get(), 60 - LEFT);
    assert_eq!(WARNINGS.0.load(Ordering::SeqCst), 1);
    drop(clients);
    server.end();
}
