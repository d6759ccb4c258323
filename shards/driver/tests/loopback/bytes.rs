//! Bytes in and out: large ones, many at once, slow readers.

use std::io::{BufRead, Write};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use bandsync_driver::Plan;
use bandsync_engine::io::tap::NoTap;
use bandsync_engine::io::{Input, Output, Outputs, Span, Stamp};
use bandsync_engine::words::ids::ConnId;
use bandsync_engine::words::time::Micros;

use crate::support::{
    Behaviour, OFTEN, PATIENCE, Server, Silent, echo, fanout, often, pattern, plan, read, send,
    wait_until,
};

/// Sends `bytes` while it reads as many, and returns the bytes that it read.
fn exchange(mut socket: TcpStream, bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut reader = socket.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || bytes.chunks(piece).for_each(|piece| socket.write_all(piece).unwrap()));
        read(&mut reader, bytes.len())
    })
}

#[test]
fn large_data_is_echoed_through_small_buffers() {
    let server = Server::start(vec![echo]);
    let bytes = pattern(6_000_000);
    let got = exchange(server.connect_narrow(4_096), &bytes, 100_000);
    assert!(got == bytes);
    assert!(server.stats(0).short_sends.get() > 0, "nothing was rejected, so nothing was tested");
    assert_eq!(server.stats(0).bytes_in.get(), 6_000_000);
    wait_until(|| server.stats(0).bytes_out.get() == 6_000_000);
    server.end();
}

#[test]
fn many_connections_on_several_shards_are_all_answered() {
    let server = Server::start(vec![echo; 3]);
    let mut sockets: Vec<TcpStream> = (0..300).map(|_| server.connect()).collect();
    for round in 0..5_u32 {
        for (n, socket) in sockets.iter_mut().enumerate() {
            socket.write_all(format!("{round:4}{n:4}").as_bytes()).unwrap();
        }
        for (n, socket) in sockets.iter_mut().enumerate() {
            assert_eq!(read(socket, 8), format!("{round:4}{n:4}").as_bytes());
        }
    }
    assert_eq!(server.sum(|stats| stats.accepted.get()), 300);
    wait_until(|| server.metrics.counters(bandsync_engine::words::ids::ShardId(0)) > 0);
    drop(sockets);
    server.end();
}

/// A crowd that sends at once must not delay the machine's deadlines, and no client is forgotten.
#[test]
fn a_turn_does_not_read_for_long_and_every_client_is_served() {
    const WORK: Duration = Duration::from_millis(1);
    let (sender, receiver) = mpsc::channel();
    let machine = move |_: Micros, input: Input<'_>, _: &mut Outputs| match input {
        Input::Received { conn, .. } => {
            thread::sleep(WORK);
            sender.send(Some(conn)).unwrap();
        }
        Input::TurnEnded => sender.send(None).unwrap(),
        _ => {}
    };
    let plan = Plan { read_bytes: 100, ..plan() };
    let server = Server::start_with(plan, vec![machine], Arc::new(Silent), |_| Box::new(NoTap));
    let mut sockets: Vec<TcpStream> = (0..50).map(|_| server.connect()).collect();
    for socket in &mut sockets {
        socket.write_all(&pattern(1_000)).unwrap();
    }
    let mut received: Vec<ConnId> = Vec::new();
    let mut in_turn = 0;
    while received.len() < 500 {
        match receiver.recv_timeout(PATIENCE).unwrap() {
            Some(conn) => {
                in_turn += 1;
                received.push(conn);
            }
            None => in_turn = 0,
        }
        // Two inputs fit the budget, and a third one exhausts it.
        assert!(in_turn <= 3, "{in_turn} reads in one turn");
    }
    for conn in &received {
        let count = received.iter().filter(|other| *other == conn).count();
        assert_eq!(count, 10, "each client's input was read");
    }
    drop(sockets);
    server.end();
}

/// epoll reports input once. The rest that a turn leaves must be read without another report.
#[test]
fn input_beyond_the_limit_of_a_turn_is_read_in_the_next_turn() {
    let (sender, receiver) = mpsc::channel();
    let machine = move |_: Micros, input: Input<'_>, _: &mut Outputs| {
        if let Input::Received { bytes, .. } = input {
            sender.send(bytes.to_vec()).unwrap();
        }
    };
    let plan = Plan { read_bytes: 100, ..plan() };
    let server = Server::start_with(plan, vec![machine], Arc::new(Silent), |_| Box::new(NoTap));
    let bytes = pattern(100 * OFTEN);
    let mut socket = server.connect();
    socket.write_all(&bytes).unwrap();
    let mut got = Vec::new();
    often(|| {
        let piece = receiver.recv_timeout(PATIENCE).unwrap();
        assert_eq!(piece.len(), 100);
        got.extend(piece);
    });
    assert_eq!(got, bytes);
    drop(socket);
    server.end();
}

/// A connection that sends without a pause must not delay another one.
#[test]
fn a_busy_connection_does_not_starve_a_quiet_one() {
    let server = Server::start(vec![|_: Micros, input: Input<'_>, out: &mut Outputs| {
        if let Input::Received { conn, bytes } = input
            && bytes.len() < 100
        {
            send(out, conn, bytes);
        }
    }]);
    let mut busy = server.connect();
    let mut quiet = server.connect();
    let (stop, stopped) = mpsc::channel::<()>();
    let flood = thread::spawn(move || {
        let bytes = vec![0; 1_000_000];
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            busy.write_all(&bytes).unwrap();
        }
    });
    for n in 0..100_u8 {
        quiet.write_all(&[n]).unwrap();
        assert_eq!(read(&mut quiet, 1), [n]);
    }
    stop.send(()).unwrap();
    flood.join().unwrap();
    drop(quiet);
    server.end();
}

#[test]
fn a_slow_reader_is_reported_at_each_mark_and_when_its_backlog_ends() {
    const BYTES: usize = 3_000_000;
    let (sender, receiver) = mpsc::channel();
    let server =
        Server::start(vec![move |_: Micros, input: Input<'_>, out: &mut Outputs| match input {
            Input::Received { conn, .. } => send(out, conn, &pattern(BYTES / 10)),
            Input::Backlog { bytes, .. } => sender.send(bytes).unwrap(),
            _ => {}
        }]);
    let mut socket = server.connect_narrow(4_096);
    for n in 1..=10 {
        // Each answer is awaited, so that each mark is passed in a turn of its own.
        socket.write_all(b"more").unwrap();
        wait_until(|| server.stats(0).bytes_in.get() == 4 * n);
    }
    let mut marks = Vec::new();
    while marks.last().is_none_or(|bytes| *bytes < 2_500_000) {
        marks.push(receiver.recv_timeout(PATIENCE).unwrap());
    }
    assert!(marks.windows(2).all(|two| two[0] / 65_536 < two[1] / 65_536), "{marks:?}");
    let got = read(&mut socket, BYTES);
    assert!(got.chunks(BYTES / 10).all(|answer| answer == pattern(BYTES / 10)));
    let rest: Vec<u32> = std::iter::from_fn(|| Some(receiver.recv_timeout(PATIENCE).unwrap()))
        .take_while(|bytes| *bytes > 0)
        .collect();
    assert!(rest.len() <= 1, "{rest:?}");
    drop(socket);
    server.end();
}

/// Sends numbered frames of 1 000 bytes on an absolute grid of 1 ms, like ticks.
#[derive(Default)]
struct Ticker {
    members: Vec<ConnId>,
    next: Option<Micros>,
    tick: u32,
}

impl Behaviour for Ticker {
    fn react(&mut self, at: Micros, input: Input<'_>, out: &mut Outputs) {
        match input {
            Input::Opened { conn, .. } => {
                self.members.push(conn);
                self.next = Some(at);
            }
            Input::Closed { conn, .. } => self.members.retain(|member| *member != conn),
            Input::TurnEnded => {
                while let Some(next) =
                    self.next.filter(|next| *next <= at && !self.members.is_empty())
                {
                    fanout(out, &self.members, &self.tick.to_le_bytes().repeat(250), true);
                    self.tick += 1;
                    self.next = Some(next + Micros::from_millis(1));
                }
            }
            _ => {}
        }
    }

    fn next_deadline(&self) -> Option<Micros> {
        self.next.filter(|_| !self.members.is_empty())
    }
}

#[test]
fn ticks_arrive_whole_and_in_order_and_a_slow_reader_misses_some() {
    let server = Server::start(vec![Ticker::default()]);
    let mut slow = server.connect_narrow(4_096);
    let mut quick = server.connect();
    let ticks = |socket: &mut TcpStream, count: usize| -> Vec<u32> {
        let frames = (0..count).map(|_| read(socket, 1_000));
        let tick = |frame: Vec<u8>| {
            assert!(frame.chunks(4).all(|number| number == &frame[..4]), "a torn frame");
            u32::from_le_bytes(frame[..4].try_into().unwrap())
        };
        frames.map(tick).collect()
    };
    let seen = ticks(&mut quick, 100);
    assert!(seen.windows(2).all(|two| two[0] + 1 == two[1]), "{seen:?}");
    // Ticks in the kernel's buffer are not dropped, so that must be full before a slow reader
    // misses any.
    while server.stats(0).volatile_dropped.get() < 50 {
        ticks(&mut quick, 10);
    }
    let seen = ticks(&mut slow, 200);
    assert!(seen.windows(2).all(|two| two[0] < two[1]), "{seen:?}");
    assert!(seen.windows(2).any(|two| two[0] + 1 < two[1]), "{seen:?}");
    assert!(server.stats(0).alarms.get() > 0);
    drop((slow, quick));
    server.end();
}

/// Answers each input with the time at which it was received and a time to be stamped, then works.
fn stamped(at: Micros, input: Input<'_>, out: &mut Outputs) {
    const WORK: Duration = Duration::from_millis(2);
    let Input::Received { conn, .. } = input else { return };
    let received = format!("{}.{:03}", at.as_micros() / 1_000, at.as_micros() % 1_000);
    send(out, conn, format!("{received} {received}\n").as_bytes());
    if let Some(Output::Send { bytes, .. }) = out.list.last() {
        let digits = Span { start: bytes.end - 1 - received.len() as u32, end: bytes.end - 1 };
        out.stamps.push(Stamp { to: conn, digits });
    }
    let clock = bandsync_driver::Clock::start();
    while u128::from(clock.now().as_micros()) < WORK.as_micros() {}
}

#[test]
fn a_message_can_carry_the_time_at_which_it_was_sent() {
    let server = Server::start(vec![stamped]);
    let mut socket = server.connect();
    let mut lines = std::io::BufReader::new(socket.try_clone().unwrap()).lines();
    let mut later = 0;
    for _ in 0..10 {
        socket.write_all(b"?").unwrap();
        let line = lines.next().unwrap().unwrap();
        let (received, sent) = line.split_once(' ').unwrap();
        // A time with another number of digits is not stamped.
        if received != sent {
            let millis = |text: &str| text.parse::<f64>().unwrap();
            assert!(millis(sent) - millis(received) > 1.999, "{line}");
            later += 1;
        }
    }
    assert!(later >= 5, "at most five of ten times have a new number of digits");
    drop((socket, lines));
    server.end();
}
