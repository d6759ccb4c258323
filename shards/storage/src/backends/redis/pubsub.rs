//! Messages about sessions between the servers at the same Redis.
//!
//! On the channel `bandsync:sessions` each server publishes the records that it wrote and deleted,
//! as JSON. Each server also subscribes, because two servers that keep the same session overwrite
//! each other's records. Both directions have a thread and a connection of their own, so they
//! neither wait for operations nor delay them. Messages are hints: if a queue is full or a
//! connection is down, they are lost.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use bandsync_engine::words::ids::SessionId;
use bandsync_redis::{Endpoint, open_any};
use log::debug;
use redis::{Connection, RedisResult, Value, cmd};
use serde::{Deserialize, Serialize};

use super::super::Foreign;
use crate::backoff::{Backoff, chance};

/// The channel of all servers.
const CHANNEL: &str = "bandsync:sessions";

/// Maximum messages that wait for the connection.
const WAITING_MAX: usize = 4_096;

/// Maximum messages sent at once.
const BATCH_MAX: usize = 256;

/// Time without messages after which the connection is tested.
const SILENCE: Duration = Duration::from_secs(1);

/// A message on the channel.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    /// The sending server: a number that it drew at its start.
    server: String,
    session_id: String,
    event: Event,
    epoch: u64,
    /// The version of the stored state; 0 with `deleted`.
    version: u64,
}

/// The kinds of messages between servers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A server has stored the session.
    Stored,
    /// Another server stored it, and this server serves it too.
    Kept,
    /// A server has deleted the session.
    Deleted,
}

/// Publishes events of sessions to other servers and receives theirs, on two threads that end
/// when it is dropped.
pub struct Announcer {
    server: String,
    messages: SyncSender<Message>,
    ended: Arc<AtomicBool>,
}

impl Announcer {
    /// Starts to publish and to subscribe. Messages of other servers go to `heard`, which must not
    /// block.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn start(
        endpoint: &Endpoint,
        server: &str,
        receive: impl Fn(Foreign) + Send + 'static,
    ) -> io::Result<Self> {
        let (messages, waiting) = sync_channel(WAITING_MAX);
        let ended = Arc::new(AtomicBool::new(false));
        let publisher = Publisher {
            endpoint: endpoint.clone(),
            connection: None,
            retry: Instant::now(),
            backoff: Backoff::default(),
        };
        thread::Builder::new().name("publisher".into()).spawn(move || publisher.run(&waiting))?;
        let subscriber = Subscriber {
            endpoint: endpoint.clone(),
            server: server.to_owned(),
            ended: Arc::clone(&ended),
        };
        thread::Builder::new().name("subscriber".into()).spawn(move || subscriber.run(&receive))?;
        Ok(Self { server: server.to_owned(), messages, ended })
    }

    /// Publishes an event of a session, unless the queue is full.
    pub fn announce(&self, session: &SessionId, event: Event, epoch: u64, version: u64) {
        let (server, session_id) = (self.server.clone(), session.as_str().to_owned());
        // If the queue is full, the message is lost, as it is for servers that subscribe later.
        let _ = self.messages.try_send(Message { server, session_id, event, epoch, version });
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

struct Publisher {
    endpoint: Endpoint,
    connection: Option<Connection>,
    /// The time of the next connection attempt.
    retry: Instant,
    backoff: Backoff,
}

impl Publisher {
    fn run(mut self, waiting: &Receiver<Message>) {
        loop {
            let first = match waiting.recv_timeout(SILENCE) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let batch: Vec<Message> =
                first.into_iter().chain(waiting.try_iter()).take(BATCH_MAX).collect();
            if let Err(error) = self.publish(&batch) {
                debug!("cannot publish, {} messages lost: {error}", batch.len());
                self.connection = None;
                self.retry = Instant::now() + self.backoff.pause(chance());
            }
        }
    }

    /// Sends messages. An empty batch tests the connection.
    fn publish(&mut self, batch: &[Message]) -> RedisResult<()> {
        if self.connection.is_none() && self.retry > Instant::now() {
            return Ok(());
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => open_any(&self.endpoint)?,
        };
        let text = |message| serde_json::to_string(message).unwrap_or_default();
        let mut bytes = cmd("PING").get_packed_command();
        for message in batch {
            cmd("PUBLISH").arg(CHANNEL).arg(text(message)).write_packed_command(&mut bytes);
        }
        connection.send_packed_command(&bytes)?;
        for _ in 0..=batch.len() {
            connection.recv_response().and_then(Value::extract_error)?;
        }
        self.connection = Some(connection);
        self.backoff.reset();
        Ok(())
    }
}

struct Subscriber {
    endpoint: Endpoint,
    server: String,
    ended: Arc<AtomicBool>,
}

impl Subscriber {
    fn run(&self, receive: &dyn Fn(Foreign)) {
        let mut backoff = Backoff::default();
        while !self.ended.load(Ordering::Relaxed) {
            if let Err(error) = self.listen(receive, &mut backoff) {
                debug!("cannot receive messages of other servers: {error}");
                thread::sleep(backoff.pause(chance()));
            }
        }
    }

    /// Receives messages until the connection is lost or the server ends.
    fn listen(&self, receive: &dyn Fn(Foreign), backoff: &mut Backoff) -> RedisResult<()> {
        let mut connection: Connection = open_any(&self.endpoint)?;
        connection.set_read_timeout(Some(SILENCE.max(self.endpoint.timeout)))?;
        let mut subscription = connection.as_pubsub();
        subscription.subscribe(CHANNEL)?;
        backoff.reset();
        while !self.ended.load(Ordering::Relaxed) {
            match subscription.get_message() {
                Ok(message) => {
                    if let Some(foreign) = self.read(message.get_payload_bytes()) {
                        receive(foreign);
                    }
                }
                Err(error) if error.is_timeout() => subscription.ping::<Value>().map(|_| ())?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Parses a message of another server. Anything may be on the channel, since every client of
    /// Redis may write to it.
    fn read(&self, text: &[u8]) -> Option<Foreign> {
        let message: Message = serde_json::from_slice(text).ok()?;
        let is_foreign = message.event != Event::Deleted && message.server != self.server;
        let session = is_foreign.then(|| SessionId::parse(&message.session_id)).flatten()?;
        Some(Foreign {
            stored: message.event == Event::Stored,
            session,
            epoch: message.epoch,
            version: message.version,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_stores_of_other_servers_are_reported() {
        let topology = bandsync_redis::Topology::parse("redis://stage").unwrap();
        let endpoint = Endpoint { topology, replicas: 0, timeout: SILENCE };
        let subscriber = Subscriber { endpoint, server: "me".into(), ended: Arc::default() };
        let read = |server: &str, event: &str| {
            let text = format!(
                r#"{{"server":"{server}","sessionId":"s","event":"{event}","epoch":7,"version":3}}"#
            );
            subscriber
                .read(text.as_bytes())
                .map(|foreign| (foreign.epoch, foreign.version, foreign.stored))
        };
        assert_eq!(read("you", "stored"), Some((7, 3, true)));
        assert_eq!(read("you", "kept"), Some((7, 3, false)));
        assert_eq!(
            (read("me", "stored"), read("you", "deleted"), read("you", "sung")),
            (None, None, None)
        );
        assert!(subscriber.read(b"not JSON").is_none());
    }
}
