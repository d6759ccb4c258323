//! A connection for which an interrupted read is no loss, and whose answers have a time limit as a
//! whole.
//!
//! A process that was stopped and goes on finds its waiting reads interrupted, although nothing is
//! lost. `redis::Connection` takes any failed read for an answer that will be late, and skips the
//! next one. It also measures each read by itself, so a server that sends a byte now and then is
//! never late. A [`Wire`] repeats interrupted reads, and its time limit is that of the answer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, ConnectionAddr, ConnectionInfo, Parser, RedisError, RedisResult, Value, cmd};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::connect::{Answer, Connect, answer};

/// Maximum size of an answer. Guessed: the table of 1 000 nodes has about 30 MB.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Time in which an answer that is late may show that it was received already.
const LAST_LOOK: Duration = Duration::from_millis(1);

/// A connection to one server.
pub struct Wire {
    stream: Stream,
    parser: Parser,
}

enum Stream {
    Plain(Patient),
    Tls(Box<StreamOwned<ClientConnection, Patient>>),
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket with a time limit for each answer.
struct Patient {
    socket: Socket,
    /// Time that an answer may take.
    wait: Duration,
    /// The end of that time.
    deadline: Instant,
    /// The time limit that the kernel has.
    set: Duration,
    /// Whether a read has begun after the deadline.
    is_late: bool,
    /// Bytes that the answer may still have.
    left: usize,
}

impl Wire {
    /// Sets the time that an answer may take.
    pub fn set_wait(&mut self, wait: Duration) {
        self.stream.patient().wait = wait;
    }

    /// Sends commands.
    ///
    /// # Errors
    /// If the connection is lost.
    pub fn send(&mut self, bytes: &[u8]) -> RedisResult<()> {
        let stream: &mut dyn Write = match &mut self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream,
        };
        stream.write_all(bytes)?;
        Ok(stream.flush()?)
    }

    /// Receives the next answer.
    ///
    /// # Errors
    /// If the connection is lost, late or unreadable: close it, since a late answer would be taken
    /// for that of another command. An error that the server sent is an answer.
    pub fn receive(&mut self) -> RedisResult<Answer> {
        self.stream.patient().begin();
        let Self { stream, parser } = self;
        // The reader should not panic over any bytes. If it does, treat them as unreadable.
        let read = AssertUnwindSafe(|| match stream {
            Stream::Plain(stream) => parser.parse_value(stream),
            Stream::Tls(stream) => parser.parse_value(stream),
        });
        let received = catch_unwind(read)
            .unwrap_or_else(|_| Err((redis::ErrorKind::Parse, "reading it met a bug").into()));
        answer(received)
    }
}

impl Connect for Wire {
    fn connect(info: &ConnectionInfo, timeout: Duration) -> RedisResult<Self> {
        let mut wire = Self { stream: Stream::open(info, timeout)?, parser: Parser::new() };
        let settings = info.redis_settings();
        if let Some(password) = settings.password() {
            let mut login = cmd("AUTH");
            login.arg(settings.username()).arg(password);
            wire.ask(&login)?;
        }
        if settings.db() != 0 {
            let mut select = cmd("SELECT");
            select.arg(settings.db());
            wire.ask(&select)?;
        }
        Ok(wire)
    }

    fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.send(&command.get_packed_command())?;
        self.receive()?
    }
}

impl Stream {
    fn open(info: &ConnectionInfo, timeout: Duration) -> RedisResult<Self> {
        match info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                let socket = Socket::Tcp(dial(host, *port, timeout)?);
                Ok(Self::Plain(Patient::new(socket, timeout)?))
            }
            ConnectionAddr::TcpTls { host, port, insecure: false, .. } => {
                let socket = Socket::Tcp(dial(host, *port, timeout)?);
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let client =
                    ClientConnection::new(Arc::new(trust()?), name).map_err(io::Error::other)?;
                let stream = StreamOwned::new(client, Patient::new(socket, timeout)?);
                Ok(Self::Tls(Box::new(stream)))
            }
            ConnectionAddr::Unix(path) => {
                let socket = Socket::Unix(UnixStream::connect(path)?);
                Ok(Self::Plain(Patient::new(socket, timeout)?))
            }
            _ => Err(RedisError::from((
                redis::ErrorKind::InvalidClientConfig,
                "connections of this kind are not supported",
            ))),
        }
    }

    fn patient(&mut self) -> &mut Patient {
        match self {
            Self::Plain(patient) => patient,
            Self::Tls(stream) => &mut stream.sock,
        }
    }
}

/// Connects to the first address that answers.
fn dial(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = Err(ErrorKind::NotFound.into());
    for address in (host, port).to_socket_addrs()? {
        last = TcpStream::connect_timeout(&address, timeout);
        if let Ok(stream) = &last {
            stream.set_nodelay(true)?;
            break;
        }
    }
    last
}

/// Returns the settings of TLS: the certificates of the system are trusted.
fn trust() -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    if let Some(error) = found.errors.into_iter().next() {
        return Err(io::Error::other(error));
    }
    for certificate in found.certs {
        roots.add(certificate).map_err(io::Error::other)?;
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

impl Socket {
    fn set_read_timeout(&self, wait: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_read_timeout(Some(wait)),
            Self::Unix(socket) => socket.set_read_timeout(Some(wait)),
        }
    }

    fn set_write_timeout(&self, wait: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_write_timeout(Some(wait)),
            Self::Unix(socket) => socket.set_write_timeout(Some(wait)),
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            Self::Unix(socket) => socket.read(buffer),
        }
    }
}

impl Patient {
    fn new(socket: Socket, wait: Duration) -> io::Result<Self> {
        let wait = wait.max(LAST_LOOK);
        socket.set_read_timeout(wait)?;
        socket.set_write_timeout(wait)?;
        let deadline = Instant::now() + wait;
        Ok(Self { socket, wait, deadline, set: wait, is_late: false, left: ANSWER_BYTES_MAX })
    }

    /// Begins the time and the size of an answer anew.
    fn begin(&mut self) {
        self.left = ANSWER_BYTES_MAX;
        self.resume();
    }

    fn resume(&mut self) {
        self.deadline = Instant::now() + self.wait;
        self.is_late = false;
    }

    /// Gives the kernel the time that is left. A read that finds its bytes there is never late:
    /// this process may have been the one that slept.
    fn limit(&mut self) -> io::Result<()> {
        let mut left = self.deadline.saturating_duration_since(Instant::now());
        if left < LAST_LOOK {
            if std::mem::replace(&mut self.is_late, true) {
                return Err(ErrorKind::TimedOut.into());
            }
            left = LAST_LOOK;
        }
        // Most answers need one read: the kernel has the whole time already.
        let is_near = self.set >= left && self.set - left <= self.wait / 8;
        if !is_near {
            self.socket.set_read_timeout(left)?;
            self.set = left;
        }
        Ok(())
    }
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.limit()?;
            match self.socket.receive(buffer) {
                // The process was stopped, or a signal was handled. The pause is not the server's.
                Err(error) if error.kind() == ErrorKind::Interrupted => self.resume(),
                Ok(count) if count > self.left => return Err(ErrorKind::InvalidData.into()),
                Ok(count) => {
                    self.left -= count;
                    return Ok(count);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Callers repeat an interrupted write.
        match &mut self.socket {
            Socket::Tcp(socket) => socket.write(bytes),
            Socket::Unix(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::net::TcpListener;
    use std::os::unix::thread::JoinHandleExt;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::thread;

    use redis::Client;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A connection, and its other end.
    fn pair(wait: Duration) -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let info = Client::open(url).unwrap().get_connection_info().clone();
        let wire = Wire::connect(&info, wait).unwrap();
        (wire, listener.accept().unwrap().0)
    }

    fn text(answer: RedisResult<Answer>) -> String {
        match answer.unwrap().unwrap() {
            Value::BulkString(bytes) => String::from_utf8(bytes).unwrap(),
            other => format!("{other:?}"),
        }
    }

    #[track_caller]
    fn until(mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < PATIENCE);
            thread::yield_now();
        }
    }

    #[test]
    fn an_interrupted_read_is_repeated_and_no_answer_is_skipped() {
        let was_handled = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGUSR2, Arc::clone(&was_handled))
            .unwrap();
        let (mut wire, mut server) = pair(PATIENCE);
        let (named, name) = channel();
        let reader = thread::spawn(move || {
            named.send(fs::read_link("/proc/thread-self").unwrap()).unwrap();
            [text(wire.receive()), text(wire.receive()), text(wire.receive())]
        });
        let status = std::path::Path::new("/proc").join(name.recv().unwrap()).join("stat");
        let interrupt = || {
            // `12 (name) S …`: it sleeps in the read.
            until(|| fs::read_to_string(&status).unwrap().contains(") S "));
            was_handled.store(false, Ordering::SeqCst);
            // SAFETY: the thread is not joined yet.
            assert_eq!(unsafe { libc::pthread_kill(reader.as_pthread_t(), libc::SIGUSR2) }, 0);
            until(|| was_handled.load(Ordering::SeqCst));
        };
        interrupt();
        server.write_all(b"$3\r\none\r\n$3\r\nt").unwrap();
        interrupt();
        interrupt();
        server.write_all(b"wo\r\n").unwrap();
        interrupt();
        server.write_all(b"$5\r\nthree\r\n").unwrap();
        assert_eq!(reader.join().unwrap(), ["one", "two", "three"]);
    }

    #[test]
    fn a_server_that_sends_a_byte_now_and_then_is_late() {
        let (mut wire, mut server) = pair(Duration::from_millis(200));
        let (ended, end) = channel::<()>();
        let sender = thread::spawn(move || {
            let _ = server.write_all(b"$100000000\r\n");
            // Each byte comes in time for a limit of each read.
            while end.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
                let _ = server.write_all(b"x");
            }
        });
        assert!(wire.receive().is_err());
        drop(ended);
        sender.join().unwrap();
    }

    #[test]
    fn an_answer_that_was_received_is_never_late() {
        let (mut wire, mut server) = pair(Duration::from_millis(50));
        server.write_all(b"+OK\r\n+OK\r\n").unwrap();
        assert_eq!(wire.receive().unwrap().unwrap(), Value::Okay);
        // The second is in the buffer.
        wire.set_wait(Duration::ZERO);
        assert_eq!(wire.receive().unwrap().unwrap(), Value::Okay);
        assert!(wire.receive().is_err(), "nothing more is there");
    }

    #[test]
    fn an_endless_answer_ends_at_its_limit() {
        let (mut wire, mut server) = pair(PATIENCE);
        let sender = thread::spawn(move || {
            let _ = server.write_all(b"$1000000000\r\n");
            while server.write_all(&[b'x'; 65_536]).is_ok() {}
        });
        let error = wire.receive().unwrap_err();
        assert!(error.is_io_error() && !error.is_timeout(), "{error}");
        drop(wire);
        sender.join().unwrap();
    }

    #[test]
    fn a_login_is_sent_first() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://ann:hush@{}/3", listener.local_addr().unwrap());
        let info = Client::open(url).unwrap().get_connection_info().clone();
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let wanted = "*3\r\n$4\r\nAUTH\r\n$3\r\nann\r\n$4\r\nhush\r\n";
            let mut login = vec![0; wanted.len()];
            socket.read_exact(&mut login).unwrap();
            assert_eq!(String::from_utf8(login).unwrap(), wanted);
            socket.write_all(b"-WRONGPASS no\r\n").unwrap();
        });
        let refused = Wire::connect(&info, PATIENCE).err().unwrap();
        assert_eq!(refused.code(), Some("WRONGPASS"));
        server.join().unwrap();
    }
}
