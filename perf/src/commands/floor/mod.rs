//! The floor: the least that a server must do to send every member the same ready frame at every
//! tick.
//!
//! The floor answers just enough of the protocol for the load generator. On the way of a tick it
//! does only the kernel's work: one `send()` per member, or one io_uring submit per turn.

mod send;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use bandsync_perf::cpu;
use bandsync_perf::timer_fd::{MILLISECOND, Nanos, TimerFd, now};
use bandsync_testkit::frames;
use clap::{Args, ValueEnum};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use send::Sender;

/// Sends ticks without a server around them.
#[derive(Debug, Args)]
pub struct Options {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:7400")]
    listen: SocketAddr,
    /// The way in which frames are given to the kernel
    #[arg(long, value_enum, default_value_t = Way::Send)]
    by: Way,
    /// Time between two ticks of a session, in milliseconds
    #[arg(long, default_value_t = 16)]
    tick: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    /// One `send()` per member.
    Send,
    /// One io_uring submit per turn.
    Uring,
}

const LISTENER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

/// Runs the command.
pub fn run(options: Options) -> io::Result<()> {
    cpu::raise_file_limit();
    Floor::new(&options)?.run()
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    timer: TimerFd,
    interval: Nanos,
    sender: Sender,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    names: BTreeMap<String, usize>,
    sessions: Vec<Session>,
}

struct Conn {
    socket: TcpStream,
    upgraded: bool,
    /// An incomplete frame or head.
    partial: Vec<u8>,
    session: Option<usize>,
}

#[derive(Default)]
struct Session {
    members: Vec<i32>,
    frame: Vec<u8>,
    /// Time of the next tick; never until a member plays.
    next: Option<Nanos>,
}

impl Floor {
    fn new(options: &Options) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(options.listen)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let timer = TimerFd::new(poll.registry(), TIMER)?;
        Ok(Self {
            poll,
            listener,
            timer,
            interval: options.tick * MILLISECOND,
            sender: match options.by {
                Way::Send => Sender::Plain,
                Way::Uring => Sender::ring()?,
            },
            conns: Vec::new(),
            free: Vec::new(),
            names: BTreeMap::new(),
            sessions: Vec::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1_024);
        let mut buffer = vec![0; 65_536];
        loop {
            let next = self.sessions.iter().filter_map(|session| session.next).min();
            self.timer.set(next.unwrap_or(Nanos::MAX))?;
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    TIMER => {}
                    Token(index) => self.read(index, &mut buffer),
                }
            }
            self.tick()?;
        }
    }

    fn tick(&mut self) -> io::Result<()> {
        let now = now();
        for session in &mut self.sessions {
            while let Some(next) = session.next.filter(|next| *next <= now) {
                session.next = Some(next + self.interval);
                self.sender.send(&session.members, &session.frame)?;
            }
        }
        self.sender.submit()
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            socket.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or_else(|| {
                self.conns.push(None);
                self.conns.len() - 1
            });
            self.poll.registry().register(&mut socket, Token(index), Interest::READABLE)?;
            let conn = Conn { socket, upgraded: false, partial: Vec::new(), session: None };
            self.conns[index] = Some(conn);
        }
    }

    fn read(&mut self, index: usize, buffer: &mut [u8]) {
        loop {
            let Some(conn) = &mut self.conns[index] else { return };
            match conn.socket.read(buffer) {
                Ok(count @ 1..) => {
                    let whole = count < buffer.len();
                    let mut bytes = std::mem::take(&mut conn.partial);
                    bytes.extend_from_slice(&buffer[..count]);
                    self.received(index, bytes);
                    if whole {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => return self.close(index),
            }
        }
    }

    fn close(&mut self, index: usize) {
        let Some(conn) = self.conns[index].take() else { return };
        self.free.push(index);
        if let Some(session) = conn.session {
            self.sessions[session].members.retain(|member| *member != conn.socket.as_raw_fd());
        }
    }

    fn received(&mut self, index: usize, bytes: Vec<u8>) {
        let mut at = 0;
        let Some(conn) = &mut self.conns[index] else { return };
        if !conn.upgraded {
            let Some(length) = frames::head_length(&bytes) else {
                conn.partial = bytes;
                return;
            };
            conn.upgraded = true;
            at = length;
            conn.answer(ANSWER);
            conn.say(OPEN);
        }
        while let Some(frame) = frames::read(&bytes[at..]) {
            at += frame.length;
            if frame.opcode == 8 {
                return self.close(index);
            }
            let mut text = frame.payload.to_vec();
            text.iter_mut().zip(frame.mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            self.handle(index, &String::from_utf8_lossy(&text));
        }
        if let Some(conn) = self.conns[index].as_mut().filter(|_| at < bytes.len()) {
            conn.partial = bytes[at..].to_vec();
        }
    }

    fn handle(&mut self, index: usize, text: &str) {
        let Some(conn) = &mut self.conns[index] else { return };
        let event = text.split('"').nth(1).unwrap_or_default();
        match event {
            _ if text == "40" => conn.say(CONNECTED),
            "join_session" => {
                conn.say(SNAPSHOT);
                let member = conn.socket.as_raw_fd();
                let session = self.seat(session_of(text));
                self.sessions[session].members.push(member);
                if let Some(conn) = &mut self.conns[index] {
                    conn.session = Some(session);
                }
            }
            "play" => {
                if let Some(session) = conn.session {
                    self.sessions[session].next.get_or_insert(now() + self.interval);
                }
            }
            "latency_probe" => {
                let answer = r#"42["latency_response",{"clientTimestamp":0,"serverTimestamp":1795374685368,"t1":1,"t2":1}]"#;
                conn.say(answer);
            }
            _ => {}
        }
    }

    /// Returns the index of a session, which is created if needed.
    fn seat(&mut self, name: &str) -> usize {
        if let Some(index) = self.names.get(name) {
            return *index;
        }
        let mut frame = Vec::new();
        let tick = format!(
            "42[\"scroll_tick\",{{\"sessionId\":\"{name}\",\"positionMs\":12345.678,\"tempoBpm\":120,\
             \"serverTimestamp\":1795374685368,\"epoch\":1795374685368,\"version\":12}}]"
        );
        frames::plain(&mut frame, &tick);
        self.sessions.push(Session { frame, ..Session::default() });
        self.names.insert(name.to_owned(), self.sessions.len() - 1);
        self.sessions.len() - 1
    }
}

impl Conn {
    fn say(&mut self, text: &str) {
        let mut frame = Vec::new();
        frames::plain(&mut frame, text);
        self.answer(&frame);
    }

    /// Bytes that the kernel does not take are lost: the generator reads faster than this sends.
    fn answer(&mut self, bytes: &[u8]) {
        let _ = io::Write::write(&mut self.socket, bytes);
    }
}

/// Returns the value of `sessionId`, as the generator writes it.
fn session_of(text: &str) -> &str {
    let after = text.split_once("\"sessionId\":\"").map_or("", |(_, after)| after);
    after.split('"').next().unwrap_or_default()
}

const ANSWER: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const OPEN: &str = r#"0{"sid":"AAAAAAAAAAAAAAAAAAAA","upgrades":[],"pingInterval":2500,"pingTimeout":5000,"maxPayload":1000000}"#;
const CONNECTED: &str = r#"40{"sid":"AAAAAAAAAAAAAAAAAAAA"}"#;
const SNAPSHOT: &str = r#"42["snapshot",{"sessionId":"floor","members":[],"isPlaying":true}]"#;
