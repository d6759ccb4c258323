//! The host that answers for a machine, and the tap that records it.

use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use bandsync_driver::{Asker, Host, Machine};
use bandsync_engine::io::tap::{NoTap, Tap};
use bandsync_engine::io::{Close, HttpRequest, HttpResponse, Input, Output, Outputs};
use bandsync_engine::words::ids::ConnId;
use bandsync_engine::words::policy::Named;
use bandsync_engine::words::time::Micros;

use crate::support::{PLAN, Server, Silent, Strict, close, echo, read, read_all, send, wait_until};

/// A host that answers with the path.
struct Parrot;

impl Host for Parrot {
    fn answer(&self, _: Asker, request: &HttpRequest) -> Option<HttpResponse> {
        Some(HttpResponse {
            status: 200,
            headers: Vec::new(),
            body: request.path.clone().into_bytes().into(),
        })
    }
}

fn ask(conn: ConnId, path: &str) -> Output {
    let request = HttpRequest {
        host: "band".into(),
        named: Named::Known,
        head: false,
        path: path.into(),
        query: String::new(),
        accept: String::new(),
        if_none_match: String::new(),
        authorization: String::new(),
        takes_gzip: false,
        forwarded: false,
        peer: Ipv4Addr::LOCALHOST.into(),
    };
    Output::Request { conn, request }
}

/// A host that passes requests on, and answers none at once.
struct Slow(Mutex<Sender<Asker>>);

impl Host for Slow {
    fn answer(&self, asker: Asker, _: &HttpRequest) -> Option<HttpResponse> {
        self.0.lock().unwrap().send(asker).unwrap();
        None
    }
}

#[test]
fn a_late_answer_reaches_only_the_connection_that_asked() {
    let machine = |_: Micros, input: Input<'_>, out: &mut Outputs| match input {
        Input::Received { conn, .. } => out.list.push(ask(conn, "/")),
        Input::Responded { conn, response } => send(out, conn, &response.body),
        Input::Closed { conn, .. } => close(out, conn, Close::Abort),
        _ => {}
    };
    let (requests, asked) = channel();
    let host = Arc::new(Slow(Mutex::new(requests)));
    let server = Server::start_with(PLAN, vec![machine], host, |_| Box::new(NoTap));
    let post = server.fleet.post();
    let answer = |text: &str| HttpResponse {
        status: 200,
        headers: Vec::new(),
        body: text.as_bytes().to_vec().into(),
    };
    let mut gone = server.connect();
    gone.write_all(b"?").unwrap();
    let of_gone = asked.recv().unwrap();
    drop(gone);
    wait_until(|| server.metrics.stats(of_gone.shard).open.get() == 0);
    let mut here = server.connect();
    here.write_all(b"?").unwrap();
    let of_here = asked.recv().unwrap();
    post.answer(of_gone, answer("lost")).unwrap();
    post.answer(of_here, answer("here")).unwrap();
    assert_eq!(read(&mut here, 4), b"here");
    drop(here);
    server.end();
}

#[test]
fn the_host_answers_in_order_and_only_open_connections() {
    let machine = |_: Micros, input: Input<'_>, out: &mut Outputs| match input {
        Input::Received { conn, bytes } => {
            for byte in bytes.iter() {
                out.list.push(ask(conn, &format!("/{byte}")));
                if *byte == b'x' {
                    close(out, conn, Close::Gently);
                }
            }
        }
        Input::Responded { conn, response } => {
            send(out, conn, &response.body);
            // An answer may lead to the next request, as with pipelined requests.
            if response.body.as_ref() == b"/49" {
                out.list.push(ask(conn, "/again"));
            }
        }
        _ => {}
    };
    let server = Server::start_with(PLAN, vec![machine], Arc::new(Parrot), |_| Box::new(NoTap));
    let mut socket = server.connect();
    socket.write_all(b"123").unwrap();
    assert_eq!(read(&mut socket, 15), b"/49/50/51/again");
    let mut other = server.connect();
    other.write_all(b"12x").unwrap();
    assert_eq!(read_all(&mut other), b"");
    drop((socket, other));
    server.end();
}

/// A run as a recorder would keep it, reduced to the inputs that the test's machine uses.
#[derive(Default)]
struct Record {
    inputs: Vec<(Micros, Kept)>,
    turns: Vec<Outputs>,
}

enum Kept {
    Opened(ConnId),
    Received(ConnId, Vec<u8>),
    Closed(ConnId, bandsync_engine::io::CloseCause),
    Drain,
    TurnEnded,
}

struct Recorder(Arc<Mutex<Record>>);

impl Tap for Recorder {
    fn input(&mut self, at: Micros, input: &Input<'_>) {
        let kept = match input {
            Input::Opened { conn, .. } => Kept::Opened(*conn),
            Input::Received { conn, bytes } => Kept::Received(*conn, bytes.to_vec()),
            Input::Closed { conn, cause } => Kept::Closed(*conn, *cause),
            Input::Drain => Kept::Drain,
            Input::TurnEnded => Kept::TurnEnded,
            _ => return,
        };
        self.0.lock().unwrap().inputs.push((at, kept));
    }

    fn outputs(&mut self, outputs: &Outputs, _from: usize) {
        let mut record = self.0.lock().unwrap();
        if matches!(record.inputs.last(), Some((_, Kept::TurnEnded))) {
            record.turns.push(outputs.clone());
        }
    }
}

#[test]
fn a_recording_of_a_tap_is_enough_to_replay_the_machine() {
    let record = Arc::new(Mutex::new(Record::default()));
    let server = Server::start_with(PLAN, vec![echo], Arc::new(Silent), |_| {
        Box::new(Recorder(Arc::clone(&record)))
    });
    for n in 0..20_u8 {
        let mut socket = server.connect();
        socket.write_all(&vec![n; 1_000 * usize::from(n)]).unwrap();
        read(&mut socket, 1_000 * usize::from(n));
    }
    wait_until(|| server.stats(0).open.get() == 0);
    server.end();

    let record = std::mem::take(&mut *record.lock().unwrap());
    let mut machine = Strict::new(echo);
    let mut turns = Vec::new();
    let mut out = Outputs::default();
    for (at, kept) in record.inputs {
        let ended = matches!(kept, Kept::TurnEnded);
        let peer = Ipv4Addr::LOCALHOST.into();
        match kept {
            Kept::Opened(conn) => machine.handle(at, Input::Opened { conn, peer }, &mut out),
            Kept::Received(conn, mut bytes) => {
                machine.handle(at, Input::Received { conn, bytes: &mut bytes }, &mut out);
            }
            Kept::Closed(conn, cause) => {
                machine.handle(at, Input::Closed { conn, cause }, &mut out)
            }
            Kept::Drain => machine.handle(at, Input::Drain, &mut out),
            Kept::TurnEnded => machine.handle(at, Input::TurnEnded, &mut out),
        }
        if ended {
            turns.push(std::mem::take(&mut out));
        }
    }
    assert!(turns.iter().map(|turn| turn.bytes.len()).sum::<usize>() == 190_000);
    assert!(turns == record.turns);
}
