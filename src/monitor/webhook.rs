//! Posts alerts to a web address, from a thread of its own: a slow or dead receiver delays nothing.

use std::fmt;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use log::{debug, warn};
use serde::Serialize;
use ureq::Agent;

use super::Event;
use crate::ops::client::{self, NoAnswer};
use crate::ops::process;

/// Maximum alerts that wait. Further ones are dropped.
const WAITING_MAX: usize = 64;

/// Time limit of one try, number of tries, and pause before the second. The pause doubles for each
/// further try.
const TIMEOUT: Duration = Duration::from_secs(5);
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// The queue to the thread that posts.
pub struct Webhook {
    queue: SyncSender<(&'static str, String)>,
}

impl Webhook {
    /// Starts a thread that posts to `url`, which begins with `http://` or `https://`.
    pub fn start(url: String) -> io::Result<Self> {
        let (queue, bodies) = sync_channel(WAITING_MAX);
        let run = move || post_all(&url, &bodies);
        std::thread::Builder::new().name("webhook".into()).spawn(run)?;
        Ok(Self { queue })
    }

    /// Posts an alert that was raised or cleared. Never blocks.
    pub fn post(&self, event: &Event) {
        let text = sentence(event);
        if let Ok(body) = serde_json::to_string(&Body { text, event }) {
            self.queue(event.alert.name, body);
        }
    }

    fn queue(&self, alert: &'static str, body: String) {
        if self.queue.try_send((alert, body)).is_err() {
            warn!(
                "webhook queue is full ({WAITING_MAX} alerts), alert {alert} dropped: check ALERT_WEBHOOK"
            );
        }
    }
}

/// The body: fields for programs, and a sentence for people in `text`, which Slack and compatible
/// services show.
#[derive(Serialize)]
struct Body<'a> {
    text: String,
    #[serde(flatten)]
    event: &'a Event,
}

fn sentence(Event { event, alert, .. }: &Event) -> String {
    let host = process::host_name().map_or_else(String::new, |name| format!(" on {name}"));
    let (name, message) = (alert.name, &alert.message);
    if *event == "cleared" {
        return format!("BandSync{host}: alert {name} cleared. It was: {message}");
    }
    format!("BandSync{host}: alert {name} {event}: {}", alert.sentence())
}

fn post_all(url: &str, bodies: &Receiver<(&str, String)>) {
    let agent = client::agent(url, TIMEOUT);
    while let Ok((alert, body)) = bodies.recv() {
        let mut pause = PAUSE;
        for left in (0..TRIES).rev() {
            // Never log the address: it may carry a secret.
            match post(&agent, url, &body) {
                Ok(()) => break,
                Err(reason) if left == 0 => {
                    warn!(
                        "alert {alert} not posted after {TRIES} tries: {reason}. Check ALERT_WEBHOOK"
                    );
                }
                Err(reason) => debug!("alert {alert} not posted, trying again: {reason}"),
            }
            std::thread::sleep(if left > 0 { pause } else { Duration::ZERO });
            pause *= 2;
        }
    }
}

/// The reason why a webhook did not take an alert.
#[derive(Debug)]
enum Undelivered {
    /// The webhook gave no answer.
    NoAnswer(NoAnswer),
    /// The webhook answered with this status.
    Status(u16),
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer(error) => error.fmt(f),
            Self::Status(status) => write!(f, "it answered {status}"),
        }
    }
}

impl std::error::Error for Undelivered {}

fn post(agent: &Agent, url: &str, body: &str) -> Result<(), Undelivered> {
    let request = agent.post(url).header("Content-Type", "application/json");
    // Only the status matters, so the answer's body is not read.
    let sent = request.send(body);
    let response = sent.map_err(|error| Undelivered::NoAnswer(error.into()))?;
    match response.status().as_u16() {
        200..=299 => Ok(()),
        status => Err(Undelivered::Status(status)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Returns the body of the next request, which is answered with `status`.
    fn take(listener: &TcpListener, status: &str) -> String {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        while reader.read_line(&mut line).unwrap() > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        write!(reader.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn an_alert_that_fails_is_retried_before_the_next_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/alerts", listener.local_addr().unwrap());
        let webhook = Webhook::start(url).unwrap();
        webhook.queue("cpu", "{\"n\":1}".into());
        webhook.queue("cpu", "{\"n\":2}".into());
        assert_eq!(take(&listener, "503 Service Unavailable"), "{\"n\":1}");
        assert_eq!(take(&listener, "204 No Content"), "{\"n\":1}");
        assert_eq!(take(&listener, "200 OK"), "{\"n\":2}");
    }

    #[test]
    fn an_alert_has_fields_for_programs_and_a_sentence_for_people() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let webhook =
            Webhook::start(format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let alert = super::super::thresholds::storage_alert(Duration::from_secs(3));
        webhook.post(&Event { timestamp: 7, event: "raised", alert });
        let body: serde_json::Value = serde_json::from_str(&take(&listener, "200 OK")).unwrap();
        assert_eq!((&body["name"], &body["timestamp"]), (&"storage".into(), &7.into()));
        let text = body["text"].as_str().unwrap();
        assert!(
            text.starts_with("BandSync") && text.contains("alert storage raised: the storage"),
            "{text}"
        );
        assert!(!text.contains("limit"), "an alert without a value has no limit: {text}");
        let alert = super::super::thresholds::storage_alert(Duration::from_secs(3));
        let text = sentence(&Event { timestamp: 9, event: "cleared", alert });
        assert!(text.contains("alert storage cleared. It was: the storage"), "{text}");
    }

    #[test]
    fn posting_does_not_wait_for_an_unresponsive_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let webhook =
            Webhook::start(format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        for n in 0..10 * WAITING_MAX {
            webhook.queue("cpu", n.to_string());
        }
    }
}
