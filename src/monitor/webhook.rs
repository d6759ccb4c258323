//! Tells a web address of alerts, from a thread of its own: however slow or dead the other side is, nobody waits.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use log::{debug, warn};

/// What may wait to be told; what comes when that is full is left out.
const WAITING_MAX: usize = 64;

/// How long one try may take, how many there are, and the pause before the second; it doubles for each further one.
const TIMEOUT_SECONDS: u64 = 5;
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// The way to the address.
pub struct Webhook {
    queue: SyncSender<String>,
}

impl Webhook {
    /// Begins to tell `url`, which begins with `http://`.
    pub fn start(url: String) -> io::Result<Self> {
        let (queue, bodies) = sync_channel(WAITING_MAX);
        let run = move || tell_all(&url, &bodies);
        std::thread::Builder::new().name("webhook".into()).spawn(run)?;
        Ok(Self { queue })
    }

    /// Has a JSON object posted. Never waits.
    pub fn post(&self, body: String) {
        if self.queue.try_send(body).is_err() {
            warn!("the webhook is too slow: an alert was not passed on");
        }
    }
}

fn tell_all(url: &str, bodies: &Receiver<String>) {
    while let Ok(body) = bodies.recv() {
        let mut pause = PAUSE;
        for left in (0..TRIES).rev() {
            // The address is never logged: it may carry a secret.
            match post(url, &body) {
                Ok(()) => break,
                Err(reason) if left == 0 => warn!("the webhook took no alert: {reason}"),
                Err(reason) => debug!("the webhook took no alert yet: {reason}"),
            }
            std::thread::sleep(if left > 0 { pause } else { Duration::ZERO });
            pause *= 2;
        }
    }
}

fn post(url: &str, body: &str) -> Result<(), String> {
    let request = minreq::post(url)
        .with_header("Content-Type", "application/json")
        .with_header("User-Agent", concat!("bandsync/", env!("CARGO_PKG_VERSION")))
        .with_body(body)
        .with_timeout(TIMEOUT_SECONDS)
        .with_follow_redirects(false)
        .with_max_headers_size(16 * 1_024)
        .with_max_status_line_length(1_024);
    // What is answered is not read, only whether it was taken.
    let response = request.send_lazy().map_err(|error| error.to_string())?;
    match response.status_code {
        200..=299 => Ok(()),
        code => Err(format!("it answered {code}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// The body of the next request to come in, which is answered with `status`.
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
    fn an_alert_that_was_not_taken_is_told_again_and_the_next_follows() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/alerts", listener.local_addr().unwrap());
        let webhook = Webhook::start(url).unwrap();
        webhook.post("{\"n\":1}".into());
        webhook.post("{\"n\":2}".into());
        assert_eq!(take(&listener, "503 Service Unavailable"), "{\"n\":1}");
        assert_eq!(take(&listener, "204 No Content"), "{\"n\":1}");
        assert_eq!(take(&listener, "200 OK"), "{\"n\":2}");
    }

    #[test]
    fn nobody_waits_for_an_address_that_does_not_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let webhook = Webhook::start(format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        for n in 0..10 * WAITING_MAX {
            webhook.post(n.to_string());
        }
    }
}
