//! TLS between the kernel and a turn: a session for each connection, found by its descriptor.
//!
//! The turn sees plain bytes. Without certificates there is no [`Tls`], and nothing of this runs.
//!
//! The kernel may take only a part of an encrypted record, but a turn must know which of its bytes
//! are sent. So all bytes of such a record count as sent except the last: the turn keeps that one as
//! unsent, asks to be told when the socket has room, and offers it again. By then it is encrypted
//! already ([`Session::held`]), so it is skipped.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::RawFd;
use std::sync::Arc;

use mio::net::TcpStream;
use parking_lot::Mutex;
use rustls::{ServerConfig, ServerConnection};

/// The first byte of a TLS handshake. No HTTP request begins with it.
const HANDSHAKE: u8 = 0x16;

/// Maximum bytes of a request without TLS. Longer ones get no answer.
const HEAD_MAX: usize = 8 * 1024;

/// Maximum length of the host in a redirect.
const HOST_MAX: usize = 255;

/// Sessions on their way to another shard, by descriptor. A descriptor is open all the way, so it is
/// unique.
pub(crate) type Moving = Arc<Mutex<HashMap<RawFd, Session>>>;

/// The TLS of one shard.
pub(crate) struct Tls {
    config: Arc<ServerConfig>,
    sessions: HashMap<RawFd, Session>,
    moving: Moving,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}

impl Tls {
    /// Creates the TLS of a shard. All shards share `moving`.
    pub(crate) fn new(config: Arc<ServerConfig>, moving: Moving) -> Self {
        Self { config, sessions: HashMap::new(), moving }
    }

    /// Begins a session on a connection that was just accepted.
    ///
    /// # Errors
    /// If the configuration cannot serve anybody.
    pub(crate) fn open(&mut self, socket: RawFd) -> io::Result<()> {
        // Mail that was dropped may have left the session of a descriptor that is closed since.
        self.moving.lock().remove(&socket);
        let tls = ServerConnection::new(Arc::clone(&self.config)).map_err(io::Error::other)?;
        let session = Session { tls: Box::new(tls), state: State::New, held: false };
        self.sessions.insert(socket, session);
        Ok(())
    }

    /// Takes over the session of a connection that another shard handed over.
    pub(crate) fn take_in(&mut self, socket: RawFd) {
        if !self.sessions.contains_key(&socket)
            && let Some(session) = self.moving.lock().remove(&socket)
        {
            self.sessions.insert(socket, session);
        }
    }

    /// Lets another shard take over a session.
    pub(crate) fn hand_over(&mut self, socket: RawFd) {
        if let Some(session) = self.sessions.remove(&socket) {
            self.moving.lock().insert(socket, session);
        }
    }

    /// Forgets the session of a connection that closes.
    pub(crate) fn close(&mut self, socket: RawFd) {
        self.sessions.remove(&socket);
    }

    /// Returns the session of a connection.
    ///
    /// # Errors
    /// `NotConnected` if there is none.
    pub(crate) fn session(&mut self, socket: RawFd) -> io::Result<&mut Session> {
        self.sessions.get_mut(&socket).ok_or_else(|| ErrorKind::NotConnected.into())
    }
}

/// TLS on one connection.
pub(crate) struct Session {
    tls: Box<ServerConnection>,
    state: State,
    /// Whether the first byte that the turn offers next is in a record that was encrypted already.
    held: bool,
}

/// The protocol of the bytes that arrive on a connection.
enum State {
    /// Nothing has arrived.
    New,
    /// Records of TLS.
    Secure,
    /// A request without TLS, of which this much has arrived.
    Plain(Vec<u8>),
    /// A request without TLS was answered.
    Redirected,
}

impl Session {
    /// Reads as [`Net::read`](crate::net::Net::read) does. Also answers handshakes.
    pub(crate) fn read(&mut self, socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        if let State::New = self.state {
            let mut first = [0];
            match socket.peek(&mut first)? {
                0 => return Ok(0),
                _ if first == [HANDSHAKE] => self.state = State::Secure,
                _ => self.state = State::Plain(Vec::new()),
            }
        }
        match self.state {
            State::Plain(_) => self.redirect(socket),
            State::Redirected => Ok(0),
            State::New | State::Secure => self.read_secure(socket, buffer),
        }
    }

    fn read_secure(&mut self, socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            match self.tls.reader().read(&mut buffer[filled..]) {
                Ok(0) => return Ok(filled),
                Ok(count) => {
                    filled += count;
                    if filled == buffer.len() {
                        return Ok(filled);
                    }
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The peer ended without TLS's goodbye. The bytes before it are whole messages or
                // the engine notices.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(filled),
                Err(error) => return Err(error),
            }
            match self.tls.read_tls(socket) {
                // The next read of the plain bytes returns the end.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock && filled > 0 => {
                    return Ok(filled);
                }
                Err(error) => return Err(error),
            }
            let processed = self.tls.process_new_packets();
            // Handshakes, tickets and alerts. What the socket does not take goes before the next
            // bytes that the turn sends; a handshake always fits.
            self.flush(socket)?;
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }

    /// Offers bytes as [`Net::send`](crate::net::Net::send) does.
    pub(crate) fn send(
        &mut self,
        mut socket: &TcpStream,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        if !self.flush(&mut socket)? {
            return Ok(0);
        }
        let mut slices = slices.to_vec();
        let mut left = slices.as_mut_slice();
        let mut taken = usize::from(std::mem::take(&mut self.held));
        IoSlice::advance_slices(&mut left, taken);
        while !left.is_empty() {
            let count = self.tls.writer().write_vectored(left)?;
            taken += count;
            IoSlice::advance_slices(&mut left, count);
            if !self.flush(&mut socket)? {
                debug_assert!(taken > 1, "a frame or an answer has more than one byte");
                self.held = true;
                return Ok(taken - 1);
            }
            if count == 0 {
                break;
            }
        }
        Ok(taken)
    }

    /// Says TLS's goodbye, and ends our side of the connection.
    ///
    /// # Errors
    /// If the connection is gone.
    pub(crate) fn shut_down(&mut self, mut socket: &TcpStream) -> io::Result<()> {
        if let State::Secure = self.state {
            self.tls.send_close_notify();
            self.flush(&mut socket)?;
        }
        socket.shutdown(Shutdown::Write)
    }

    /// Offers encrypted bytes to the socket. Returns false if it took a part.
    fn flush(&mut self, socket: &mut impl Write) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Answers a request without TLS with a redirect. Returns the end of the peer's side then, so
    /// that the turn closes the connection.
    fn redirect(&mut self, socket: &mut TcpStream) -> io::Result<usize> {
        let State::Plain(head) = &mut self.state else { return Ok(0) };
        let mut buffer = [0; 1_024];
        while !has_end(head) {
            match socket.read(&mut buffer)? {
                0 => return Ok(0),
                count => head.extend_from_slice(&buffer[..count]),
            }
            if head.len() > HEAD_MAX {
                return Err(ErrorKind::InvalidData.into());
            }
        }
        let answer = redirect(head);
        self.state = State::Redirected;
        // The socket is new, so it takes a few hundred bytes, or it is broken.
        socket.write_all(answer.as_bytes())?;
        socket.shutdown(Shutdown::Write)?;
        Ok(0)
    }
}

/// Whether the head of a request has ended.
fn has_end(head: &[u8]) -> bool {
    head.windows(4).any(|bytes| bytes == b"\r\n\r\n")
}

/// Returns the answer to a request without TLS. The redirect is a temporary one, because browsers
/// keep permanent ones even when the server has no certificate any more.
fn redirect(head: &[u8]) -> String {
    let Some((host, path)) = target(head) else {
        return "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into();
    };
    format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: https://{host}{path}\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
    )
}

/// Returns the host and the path of a request, if they can stand in an address as they are.
fn target(head: &[u8]) -> Option<(&str, &str)> {
    let mut lines = str::from_utf8(head).ok()?.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?;
    let host = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    })?;
    let of_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    let fits = !host.is_empty() && host.len() <= HOST_MAX && host.bytes().all(of_host);
    let of_path = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\".contains(&byte);
    (fits && path.starts_with('/') && path.bytes().all(of_path)).then_some((host, path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_without_tls_is_sent_to_the_same_address_with_tls() {
        let head =
            b"GET /stage?view=screen HTTP/1.1\r\nAccept: */*\r\nhost: bandsync.local:3001\r\n\r\n";
        let answer = redirect(head);
        assert!(
            answer.contains("\r\nLocation: https://bandsync.local:3001/stage?view=screen\r\n"),
            "{answer}"
        );
        assert!(has_end(head) && !has_end(&head[..head.len() - 1]));
    }

    #[test]
    fn a_request_that_fits_no_address_is_rejected() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: \r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /<b> HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\r\nHost: a\nSet-Cookie: x\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert!(redirect(head.as_bytes()).starts_with("HTTP/1.1 400 "), "{head}");
        }
        assert!(redirect(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 400 "));
    }
}
