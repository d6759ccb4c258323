//! Connections, the primary behind Sentinel, and redirections.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use redis::{
    Client, Cmd, Connection, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue, RedisError,
    RedisResult, Value, cmd,
};

use crate::endpoint::{Endpoint, Topology};

/// The outcome of a command. An error that the server sent has a [`RedisError::code`].
pub type Answer = RedisResult<Value>;

/// A kind of connection.
pub trait Connect: Sized {
    /// Connects to this server and logs in. An answer takes no longer than `timeout`.
    ///
    /// # Errors
    /// If there is no connection, or the server refuses the login.
    fn connect(info: &ConnectionInfo, timeout: Duration) -> RedisResult<Self>;

    /// Sends a command and returns its answer.
    ///
    /// # Errors
    /// If the connection is lost, or the answer is an error.
    fn ask(&mut self, command: &Cmd) -> RedisResult<Value>;
}

impl Connect for Connection {
    fn connect(info: &ConnectionInfo, timeout: Duration) -> RedisResult<Self> {
        open(info, timeout)
    }

    fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        command.query(self)
    }
}

/// Connects to a server that accepts writes; in a Cluster, to any node.
///
/// # Errors
/// If there is no connection.
pub fn open_any<C: Connect>(endpoint: &Endpoint) -> RedisResult<C> {
    let Topology::Cluster(nodes) = &endpoint.topology else {
        return open_primary(endpoint).map(|(_, open)| open);
    };
    let mut last = Err(lost());
    for node in nodes {
        last = C::connect(node, endpoint.timeout);
        if last.is_ok() {
            break;
        }
    }
    last
}

/// Connects to the server that accepts writes, and returns its address. A Cluster has many, so it
/// has an error here.
///
/// # Errors
/// If there is no connection.
pub fn open_primary<C: Connect>(endpoint: &Endpoint) -> RedisResult<(ConnectionInfo, C)> {
    match &endpoint.topology {
        Topology::Single(info) => Ok((info.clone(), C::connect(info, endpoint.timeout)?)),
        Topology::Sentinel { sentinels, service, primary } => {
            find_primary(sentinels, service, primary, endpoint.timeout)
        }
        Topology::Cluster(_) => Err(lost()),
    }
}

/// Connects to this server. Reads and writes take no longer than `timeout`.
///
/// # Errors
/// If there is no connection.
pub fn open(info: &ConnectionInfo, timeout: Duration) -> RedisResult<Connection> {
    let connection = Client::open(info.clone())?.get_connection_with_timeout(timeout)?;
    connection.set_read_timeout(Some(timeout))?;
    connection.set_write_timeout(Some(timeout))?;
    Ok(connection)
}

/// Returns a field of the text of `INFO`.
pub fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Asks the Sentinels one by one for the primary, and connects to it if it calls itself one: during
/// a failover Sentinels may be wrong.
fn find_primary<C: Connect>(
    sentinels: &[ConnectionInfo],
    service: &str,
    primary: &ConnectionInfo,
    timeout: Duration,
) -> RedisResult<(ConnectionInfo, C)> {
    let mut last =
        RedisError::from((ErrorKind::Client, "no Sentinel knows a primary of that name"));
    for sentinel in sentinels {
        let found = C::connect(sentinel, timeout).and_then(|mut connection| {
            let mut address = cmd("SENTINEL");
            address.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
            Ok(Option::<(String, u16)>::from_redis_value(connection.ask(&address)?)?)
        });
        let info = match found {
            Ok(Some(address)) => elsewhere(primary, address),
            Ok(None) => continue,
            Err(error) => {
                last = error;
                continue;
            }
        };
        let connected = C::connect(&info, timeout).and_then(|mut connection| {
            let role = connection.ask(&cmd("ROLE"))?;
            let is_primary = matches!(
                &role,
                Value::Array(role) if matches!(role.first(), Some(Value::BulkString(name)) if name == b"master")
            );
            let not_yet = (ErrorKind::Client, "the Sentinels name a server that is not a primary");
            if is_primary { Ok(connection) } else { Err(RedisError::from(not_yet)) }
        });
        match connected {
            Ok(connection) => return Ok((info, connection)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Returns the login of `info`, at another address.
pub fn elsewhere(info: &ConnectionInfo, (host, port): (String, u16)) -> ConnectionInfo {
    let addr = match info.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        _ => ConnectionAddr::Tcp(host, port),
    };
    info.clone().set_addr(addr)
}

/// Whether an unreadable answer was received.
pub fn is_unreadable(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Parse
}

/// Returns the error of a command without a connection.
pub fn lost() -> RedisError {
    io::Error::from(io::ErrorKind::NotConnected).into()
}

/// Returns the target of `MOVED` and `ASK`: whether the command must send `ASKING`, then host and
/// port.
pub fn redirection(error: &RedisError) -> Option<(bool, String, u16)> {
    let asking = match error.code()? {
        "ASK" => true,
        "MOVED" => false,
        _ => return None,
    };
    let (_, address) = error.detail()?.split_once(' ')?;
    let (host, port) = address.rsplit_once(':')?;
    Some((asking, host.to_owned(), port.parse().ok()?))
}

/// Returns the host of an address; empty for a socket file.
pub fn host_of(info: &ConnectionInfo) -> String {
    match info.addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => String::new(),
    }
}

/// Receives the next answer.
///
/// # Errors
/// If the connection is lost, late or unreadable: close it, since a late answer would be taken for
/// that of another command. An error that the server sent is an answer.
pub fn receive(connection: &mut Connection) -> RedisResult<Answer> {
    // The reader should not panic over any bytes. If it does, treat them as unreadable.
    let read = AssertUnwindSafe(|| connection.recv_response());
    let received = catch_unwind(read)
        .unwrap_or_else(|_| Err((ErrorKind::Parse, "reading it met a bug").into()));
    answer(received)
}

/// Tells an error that the server sent, which is an answer, from one of the connection.
pub fn answer(received: RedisResult<Value>) -> RedisResult<Answer> {
    match received.and_then(Value::extract_error) {
        Err(error) if !matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) => {
            Err(error)
        }
        answer => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn redirections_are_parsed() {
        let redirection = |text: &str| {
            let answer = redis::parse_redis_value(text.as_bytes()).unwrap();
            redirection(&answer.extract_error().unwrap_err())
        };
        assert_eq!(redirection("-ASK 123 stage:6380\r\n"), Some((true, "stage".into(), 6_380)));
        assert_eq!(redirection("-MOVED 123 ::1:6380\r\n"), Some((false, "::1".into(), 6_380)));
        assert_eq!(redirection("-MOVED\r\n"), None);
        assert_eq!(redirection("-OOM command not allowed\r\n"), None);
    }
}
