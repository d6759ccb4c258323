//! The host that answers for a machine, and the tap that records it.

use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use bandsync_driver::{Asker, Host, Machine, NodeOrder, Plan};
use bandsync_engine::io::node::{ClaimOutcome, CommitOutcome};
use bandsync_engine::io::tap::{NoTap, Tap};
use bandsync_engine::io::{Close, HttpRequest, HttpResponse, Input, NodeNews, Output, Outputs};
use bandsync_engine::words::ids::{ConnId, SessionId, ShardId};
use bandsync_engine::words::policy::Named;
use bandsync_engine::words::time::Micros;

use crate::support::{
    Server, Silent, Strict, close, echo, plan, read, read_all, send, span, wait_until,
};

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
    let server = Server::start_with(plan(), vec![machine], host, |_| Box::new(NoTap));
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
    let server = Server::start_with(plan(), vec![machine], Arc::new(Parrot), |_| Box::new(NoTap));
    let mut socket = server.connect();
    socket.write_all(b"123").unwrap();
    assert_eq!(read(&mut socket, 15), b"/49/50/51/again");
    let mut other = server.connect();
    other.write_all(b"12x").unwrap();
    assert_eq!(read_all(&mut other), b"");
    drop((socket, other));
    server.end();
}

/// A host that queues orders for other nodes until it has this many.
struct Queue {
    orders: Mutex<Vec<String>>,
    capacity: usize,
}

impl Host for Queue {
    fn answer(&self, _: Asker, _: &HttpRequest) -> Option<HttpResponse> {
        None
    }

    fn tell_nodes(&self, _: ShardId, order: NodeOrder<'_>) -> bool {
        let text = match order {
            NodeOrder::Claim { session, .. } => format!("claim {}", session.as_str()),
            NodeOrder::Commit { session, version, record, branches, head, tail, to, .. } => {
                let parts = [record, branches, head, tail].map(String::from_utf8_lossy).join("|");
                format!("commit {} {version} {parts} {to:?}", session.as_str())
            }
            NodeOrder::Publish { session, to, body } => {
                let body = String::from_utf8_lossy(body);
                format!("publish {} {body} {to:?}", session.as_str())
            }
            NodeOrder::Announce { to, body } => {
                format!("announce {} {to:?}", String::from_utf8_lossy(body))
            }
            NodeOrder::Noted { revision } => format!("noted {revision}"),
            NodeOrder::Release { session, epoch } => {
                format!("release {} {epoch}", session.as_str())
            }
        };
        let mut orders = self.orders.lock().unwrap();
        let fits = orders.len() < self.capacity;
        fits.then(|| orders.push(text)).is_some()
    }
}

/// Orders of each kind to other nodes.
fn orders(out: &mut Outputs) {
    let session = SessionId::parse("stage").unwrap();
    let [record, branches, head, tail] =
        ["r", "b", "h", "t"].map(|text| span(out, text.as_bytes()));
    let list = [
        Output::Claim { session: session.clone(), expected: None, floor: 0 },
        Output::Commit {
            session: session.clone(),
            epoch: 5,
            version: 7,
            record,
            branches,
            head,
            tail,
            to: vec![2, 3],
        },
        Output::Publish { session: session.clone(), to: vec![4], body: head },
        Output::Announce { to: vec![5], body: tail },
        Output::Noted { revision: 8 },
        Output::Release { session, epoch: 9 },
    ];
    out.list.extend(list);
}

/// A server whose machine orders on input, and sends the news that it receives.
fn ordering(capacity: usize) -> (Server, Arc<Queue>) {
    let mut asker = None;
    let machine = move |_: Micros, input: Input<'_>, out: &mut Outputs| match input {
        Input::Received { conn, .. } => {
            asker = Some(conn);
            orders(out);
        }
        Input::Node { news } => {
            let text = format!("{news:?}\n");
            asker.into_iter().for_each(|conn| send(out, conn, text.as_bytes()));
        }
        _ => {}
    };
    let host = Arc::new(Queue { orders: Mutex::default(), capacity });
    let plan = Plan { is_clustered: true, ..plan() };
    let server = Server::start_with(plan, vec![machine], host.clone(), |_| Box::new(NoTap));
    (server, host)
}

#[test]
fn orders_to_other_nodes_keep_their_order_and_news_return() {
    let (server, host) = ordering(usize::MAX);
    let mut socket = server.connect();
    socket.write_all(b"?").unwrap();
    wait_until(|| host.orders.lock().unwrap().len() == 6);
    let expected = [
        "claim stage",
        "commit stage 7 r|b|h|t [2, 3]",
        "publish stage h [4]",
        "announce t [5]",
        "noted 8",
        "release stage 9",
    ];
    assert_eq!(*host.orders.lock().unwrap(), expected);
    let post = server.fleet.post();
    let news = [1, 2].map(|revision| NodeNews::Table { revision, peers: Vec::new() });
    news.iter().for_each(|news| post.send_news(ShardId(0), news.clone()).unwrap());
    let lines = news.map(|news| format!("{news:?}\n")).concat();
    assert_eq!(read(&mut socket, lines.len()), lines.as_bytes());
    drop(socket);
    server.end();
}

#[test]
fn an_order_that_cannot_be_queued_is_answered_once() {
    let (server, _) = ordering(0);
    let mut socket = server.connect();
    socket.write_all(b"?").unwrap();
    let session = SessionId::parse("stage").unwrap();
    let outcome = CommitOutcome::Unsent;
    let answers = [
        NodeNews::Claimed { session: session.clone(), outcome: ClaimOutcome::Unknown },
        NodeNews::Committed { session: session.clone(), epoch: 5, version: 7, outcome },
        NodeNews::Unheard { session: Some(session), to: vec![4] },
        NodeNews::Unheard { session: None, to: vec![5] },
    ];
    let lines = answers.map(|news| format!("{news:?}\n")).concat();
    assert_eq!(read(&mut socket, lines.len()), lines.as_bytes());
    drop(socket);
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
    let server = Server::start_with(plan(), vec![echo], Arc::new(Silent), |_| {
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
