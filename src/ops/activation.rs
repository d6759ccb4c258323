//! Socket activation: the listening socket that a supervisor such as systemd passes to the server.
//!
//! The supervisor listens, so that connections wait instead of being refused while the server is
//! restarted. It passes the socket as descriptor 3, with its number in `LISTEN_FDS` and the id of
//! the process that it is meant for in `LISTEN_PID`.

use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::{env, fmt, io};

use socket2::{Socket, Type};

/// The first descriptor that is passed. Specified by systemd.
const FIRST: RawFd = 3;

/// The reason why the server cannot use what the supervisor passed.
#[derive(Debug)]
pub enum ActivationError {
    /// There are this many sockets.
    Count(u32),
    /// The descriptor is not a listening TCP socket.
    NoListener,
    /// The socket listens on another port than the setting.
    Port {
        /// The port of the socket.
        passed: u16,
        /// The value of `PORT`.
        set: u16,
    },
    /// The descriptor cannot be examined.
    System(io::Error),
}

impl fmt::Display for ActivationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(
                f,
                "{count} sockets were passed (LISTEN_FDS), and the server takes one: give the socket unit a \
                 single ListenStream=, which includes IPv4 and IPv6"
            ),
            Self::NoListener => f.write_str(
                "the descriptor that was passed (LISTEN_FDS) is not a listening TCP socket: give the socket unit \
                 ListenStream= with a port, and Accept=no",
            ),
            Self::Port { passed, set } => write!(
                f,
                "the socket that was passed listens on port {passed}, but PORT is {set}: set both to the same port"
            ),
            Self::System(error) => {
                write!(f, "the socket that was passed (LISTEN_FDS) cannot be used: {error}")
            }
        }
    }
}

impl std::error::Error for ActivationError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System(error) => Some(error),
            _ => None,
        }
    }
}

/// Returns the socket that was passed to this process, if there is one. `port` is the setting; 0
/// accepts a socket of any port. Call it once: the socket has one owner.
///
/// # Errors
/// If the supervisor passed something else than one listening TCP socket of this port.
pub fn listener(port: u16) -> Result<Option<TcpListener>, ActivationError> {
    let variable = |name| env::var(name).ok();
    match count(variable("LISTEN_PID"), variable("LISTEN_FDS"), std::process::id()) {
        0 => Ok(None),
        // SAFETY: the supervisor has opened this descriptor for this process. Nothing else here has
        // it, since a descriptor that this process opens gets a number that is free.
        1 => examine(unsafe { OwnedFd::from_raw_fd(FIRST) }, port).map(Some),
        count => Err(ActivationError::Count(count)),
    }
}

/// Whether systemd itself started this process, as the program of a unit. It says so since version
/// 248.
pub fn is_service() -> bool {
    let started = env::var("SYSTEMD_EXEC_PID").ok();
    started.is_some_and(|pid| pid == std::process::id().to_string())
}

/// Returns the number of descriptors that were passed to the process with id `own`. Variables that
/// were meant for its parent are inherited.
fn count(pid: Option<String>, fds: Option<String>, own: u32) -> u32 {
    let number = |text: Option<String>| text?.parse::<u32>().ok();
    if number(pid) == Some(own) { number(fds).unwrap_or(0) } else { 0 }
}

fn examine(descriptor: OwnedFd, port: u16) -> Result<TcpListener, ActivationError> {
    let socket = Socket::from(descriptor);
    let system = ActivationError::System;
    let no_socket = |error: io::Error| match error.raw_os_error() {
        Some(libc::ENOTSOCK) => ActivationError::NoListener,
        _ => ActivationError::System(error),
    };
    let is_stream = socket.r#type().map_err(no_socket)? == Type::STREAM;
    let address = socket.local_addr().map_err(system)?.as_socket();
    let Some(address) = address.filter(|_| is_stream && socket.is_listener().unwrap_or(false))
    else {
        return Err(ActivationError::NoListener);
    };
    if port != 0 && port != address.port() {
        return Err(ActivationError::Port { passed: address.port(), set: port });
    }
    socket.set_cloexec(true).map_err(system)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_descriptors_for_this_process_count() {
        let count =
            |pid: &str, fds: &str| super::count(Some(pid.to_owned()), Some(fds.to_owned()), 7);
        assert_eq!(count("7", "1"), 1);
        assert_eq!(count("7", "2"), 2);
        assert_eq!(count("6", "1"), 0);
        assert_eq!(count("7", "many"), 0);
        assert_eq!(super::count(None, Some("1".to_owned()), 7), 0);
    }

    #[test]
    fn a_listening_socket_of_the_port_is_taken() {
        let opened = || TcpListener::bind("127.0.0.1:0").unwrap();
        let one = opened();
        let port = one.local_addr().unwrap().port();
        let taken = examine(one.into(), port).unwrap();
        assert_eq!(taken.local_addr().unwrap().port(), port);
        assert!(examine(opened().into(), 0).is_ok());
        let other = examine(opened().into(), 1).unwrap_err();
        assert!(matches!(other, ActivationError::Port { set: 1, .. }), "{other}");
    }

    #[test]
    fn other_descriptors_are_rejected() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let idle = Socket::new(socket2::Domain::IPV4, Type::STREAM, None).unwrap();
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for descriptor in [file.into(), idle.into(), datagrams.into()] {
            let error = examine(descriptor, 0).unwrap_err();
            assert!(matches!(error, ActivationError::NoListener), "{error}");
        }
    }
}
