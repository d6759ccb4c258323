//! One connection to a primary, which is opened again when it is lost.

use std::time::{Duration, Instant};

use bandsync_redis::{
    Answer, Connect, Endpoint, Topology, Wire, elsewhere, host_of, lost, open_any,
};
use log::{debug, info};
use redis::{RedisError, RedisResult, cmd};

use crate::reply::{Trouble, text};
use crate::scripts::Script;

/// The longest pause between two attempts to connect. Specified: sessions must be writable within
/// 2 s of the return of Redis.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// The shortest.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// A connection to a primary.
pub struct Line {
    endpoint: Endpoint,
    open: Option<Open>,
    /// The time of the next attempt.
    retry: Instant,
    pause: Duration,
    pause_max: Duration,
    /// Whether there was a connection before.
    had: bool,
    /// The reason why the last attempt failed.
    trouble: Option<Trouble>,
}

/// An open connection.
pub struct Open {
    /// The connection.
    pub wire: Wire,
    /// Whether channels are sharded: not on servers before 7.0.
    pub is_sharded: bool,
    /// Hashes of scripts that this server has.
    known: Vec<String>,
}

/// A connection that was just opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fresh {
    /// The connection was open before.
    No,
    /// The connection is the first.
    First,
    /// The last one was lost.
    Again,
}

impl Line {
    /// Creates a line without a connection. In a Cluster, `endpoint` is that of one primary.
    pub fn new(endpoint: Endpoint) -> Self {
        let retry = Instant::now();
        let (pause, pause_max) = (PAUSE_MIN, PAUSE_MAX);
        Self { endpoint, open: None, retry, pause, pause_max, had: false, trouble: None }
    }

    /// Limits the pauses to a part of the life of a lease. A node must be back before others count
    /// its lease as ended.
    pub fn within(mut self, lease_ttl: Duration) -> Self {
        self.pause_max = PAUSE_MAX.min(lease_ttl / 4).max(PAUSE_MIN);
        self
    }

    /// Returns the connection, and connects first if the pause is over.
    ///
    /// # Errors
    /// The time of the next attempt.
    pub fn open(&mut self) -> Result<(&mut Open, Fresh), Instant> {
        if self.open.is_some() {
            return self.open.as_mut().map(|open| (open, Fresh::No)).ok_or(self.retry);
        }
        if Instant::now() < self.retry {
            return Err(self.retry);
        }
        match connect(&self.endpoint) {
            Ok(open) => {
                let fresh = if self.had { Fresh::Again } else { Fresh::First };
                self.had = true;
                Ok((self.open.insert(open), fresh))
            }
            Err(error) => {
                debug!("cannot connect to Redis: {error}");
                self.trouble = Some(Trouble::of(&error));
                self.fail();
                Err(self.retry)
            }
        }
    }

    /// Uses other servers from now on, if these are others.
    pub fn renew(&mut self, endpoint: Endpoint) {
        let address = |endpoint: &Endpoint| match &endpoint.topology {
            Topology::Single(info) => info.addr().to_string(),
            _ => String::new(),
        };
        if address(&endpoint) != address(&self.endpoint) {
            self.fail();
            self.retry = Instant::now();
        }
        self.endpoint = endpoint;
    }

    /// The reason why the last attempt to connect failed.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// The servers.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Notes that the connection works.
    pub fn works(&mut self) {
        self.pause = PAUSE_MIN;
    }

    /// Closes the connection. The next attempt is after a pause, which grows to 500 ms and is
    /// random, so that nodes do not return at the same moment.
    pub fn fail(&mut self) {
        if self.open.take().is_some() {
            info!("connection to Redis lost");
        }
        let spread = self.pause.as_millis().max(1) as u64;
        self.retry = Instant::now() + Duration::from_millis(chance() % spread);
        self.pause = (self.pause * 2).min(self.pause_max);
    }
}

impl Open {
    /// Asks a server for its version.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn new(mut wire: Wire) -> RedisResult<Self> {
        let about = info_text(wire.ask(cmd("INFO").arg("server")))?;
        let is_sharded = version(&about).is_some_and(|version| version >= (7, 0));
        Ok(Self { wire, is_sharded, known: Vec::new() })
    }

    /// Whether a call must send the script's text. The server has it afterwards.
    pub fn must_learn(&mut self, script: &Script) -> bool {
        let is_unknown = !self.known.iter().any(|hash| hash == script.hash());
        if is_unknown {
            self.known.push(script.hash().to_owned());
        }
        is_unknown
    }

    /// Notes that the server has forgotten its scripts.
    pub fn forget_scripts(&mut self) {
        self.known.clear();
    }

    /// Sends commands and returns their answers.
    ///
    /// # Errors
    /// If the connection is of no more use.
    pub fn ask(&mut self, commands: &[redis::Cmd]) -> RedisResult<Vec<Answer>> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let mut bytes = Vec::new();
        commands.iter().for_each(|command| command.write_packed_command(&mut bytes));
        self.wire.send(&bytes)?;
        commands.iter().map(|_| self.wire.receive()).collect()
    }

    /// Sends a command and returns its answer.
    ///
    /// # Errors
    /// If the connection is of no more use.
    pub fn ask_one(&mut self, command: redis::Cmd) -> RedisResult<Answer> {
        self.ask(&[command])?.pop().ok_or_else(lost)
    }

    /// Runs a script.
    ///
    /// # Errors
    /// If the connection is of no more use.
    pub fn run(
        &mut self,
        script: &Script,
        keys: &[String],
        arguments: &[Vec<u8>],
    ) -> RedisResult<Answer> {
        let by_text = self.must_learn(script);
        let answer = self.ask_one(script.call(by_text, keys, arguments))?;
        match &answer {
            Err(error) if Trouble::of(error) == Trouble::NoScript => {
                self.ask_one(script.call(true, keys, arguments))
            }
            _ => Ok(answer),
        }
    }

    /// The command that publishes.
    pub fn publish(&self) -> &'static str {
        if self.is_sharded { "SPUBLISH" } else { "PUBLISH" }
    }
}

fn connect(endpoint: &Endpoint) -> RedisResult<Open> {
    Open::new(open_any(endpoint)?)
}

/// Sends a command to a server to which its slot is moving, with the login of `endpoint`.
///
/// # Errors
/// If there is no answer.
pub fn ask_at(
    endpoint: &Endpoint,
    (host, port): (String, u16),
    command: &redis::Cmd,
) -> RedisResult<Answer> {
    let Topology::Single(info) = &endpoint.topology else { return Err(lost()) };
    // A server that does not know its own name is at the address that was asked.
    let host = if host.is_empty() { host_of(info) } else { host };
    let mut wire = Wire::connect(&elsewhere(info, (host, port)), endpoint.timeout)?;
    let mut bytes = cmd("ASKING").get_packed_command();
    command.write_packed_command(&mut bytes);
    wire.send(&bytes)?;
    wire.receive()??;
    wire.receive()
}

/// Returns the version of Redis from the text of `INFO`. Valkey names the version of Redis that it
/// is compatible with.
pub fn version(info: &str) -> Option<(u32, u32)> {
    let mut parts = field(info, "redis_version")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Returns a field of the text of `INFO`.
pub fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Returns the text of an answer to `INFO`.
pub fn info_text(answer: Answer) -> Result<String, RedisError> {
    let answer = answer?;
    match &answer {
        redis::Value::VerbatimString { text, .. } => Ok(text.clone()),
        answer => text(answer).map(str::to_owned).ok_or_else(lost),
    }
}

/// Returns a number that differs each time.
fn chance() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_the_server_says_of_itself() {
        let info = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n";
        assert_eq!(version(info), Some((7, 0)));
        assert_eq!(field(info, "redis_mode"), Some("standalone"));
        assert_eq!(version("redis_version:unstable\r\n"), None);
        assert_eq!(version(""), None);
    }
}
