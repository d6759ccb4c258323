//! A network between nodes and Redis that a test can break. Its choices come from a seed.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

/// The state of the network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Bytes pass as they are.
    Open,
    /// Connections are closed, and new ones too.
    Shut,
    /// Connections are accepted, and no byte passes.
    Frozen,
    /// Each piece of an answer is late by this.
    Slow(Duration),
    /// Answers arrive in pieces of 1 to 3 bytes.
    Chopped,
    /// Answers are bytes without a meaning.
    Garbage,
}

/// Interval at which a pump looks at the state.
const LOOK: Duration = Duration::from_millis(5);

struct State {
    mode: Mutex<Mode>,
    target: AtomicU16,
    has_ended: AtomicBool,
    seed: Mutex<u64>,
}

impl State {
    fn mode(&self) -> Mode {
        *self.mode.lock()
    }

    /// Returns the next number of the seed (xorshift).
    fn next(&self) -> u64 {
        let mut seed = self.seed.lock();
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    /// Passes bytes on from one end to the other until one of them closes.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream, is_answer: bool) {
        let _ = from.set_read_timeout(Some(LOOK));
        let mut bytes = vec![0; 65_536];
        while self.mode() != Mode::Shut && !self.has_ended.load(Ordering::Relaxed) {
            if self.mode() == Mode::Frozen {
                thread::sleep(LOOK);
                continue;
            }
            let count = match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    continue;
                }
                Err(_) => break,
            };
            if self.write(&mut to, &bytes[..count], is_answer).is_err() {
                break;
            }
        }
        let _ = from.shutdown(std::net::Shutdown::Both);
        let _ = to.shutdown(std::net::Shutdown::Both);
    }

    fn write(&self, to: &mut TcpStream, bytes: &[u8], is_answer: bool) -> std::io::Result<()> {
        while self.mode() == Mode::Frozen && !self.has_ended.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
        }
        match self.mode() {
            Mode::Slow(delay) if is_answer => {
                thread::sleep(delay);
                to.write_all(bytes)
            }
            Mode::Chopped if is_answer => {
                let mut left = bytes;
                while !left.is_empty() {
                    let count = (self.next() as usize % 3 + 1).min(left.len());
                    to.write_all(&left[..count])?;
                    left = &left[count..];
                }
                Ok(())
            }
            Mode::Garbage if is_answer => {
                let garbage: Vec<u8> = bytes.iter().map(|_| self.next() as u8).collect();
                to.write_all(&garbage)
            }
            _ => to.write_all(bytes),
        }
    }
}

/// The network to one server.
pub struct Proxy {
    /// The port of its near end.
    pub port: u16,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts it open, to the server at a port.
    pub fn start(target: u16, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            mode: Mutex::new(Mode::Open),
            target: AtomicU16::new(target),
            has_ended: AtomicBool::new(false),
            seed: Mutex::new(seed.max(1)),
        });
        let shared = Arc::clone(&state);
        let thread = Some(thread::spawn(move || accept(&listener, &shared)));
        Self { port, state, thread }
    }

    /// Changes the state of the network.
    pub fn set(&self, mode: Mode) {
        *self.state.mode.lock() = mode;
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.has_ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    let mut pumps = Vec::new();
    for near in listener.incoming().flatten() {
        if state.has_ended.load(Ordering::Relaxed) {
            break;
        }
        let target = state.target.load(Ordering::Relaxed);
        let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
        if state.mode() == Mode::Shut {
            continue;
        }
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        for (from, to, is_answer) in [(&near, &far, false), (&far, &near, true)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
            let state = Arc::clone(state);
            pumps.push(thread::spawn(move || state.pump(from, to, is_answer)));
        }
    }
    pumps.into_iter().for_each(|pump| drop(pump.join()));
}
