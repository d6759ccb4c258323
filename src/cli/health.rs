//! `bandsync health`: asks a running server one question and answers by its exit code.
//!
//! A container image from scratch has no other program that a health check could run.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

use crate::ops::client::{self, NoAnswer};
use crate::ops::process::{print_error, print_line};

/// Time that the server may take to answer. Guessed: less than supervisors allow a check.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum bytes that are read of an answer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// The question that the server is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Question {
    /// Whether no shard hangs. If one does, only a restart helps.
    Live,
    /// Whether new members may connect.
    Ready,
}

impl Question {
    const fn path(self) -> &'static str {
        match self {
            Self::Live => "livez",
            Self::Ready => "readyz",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Ready => "ready",
        }
    }
}

/// The server to ask.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Whom {
    /// The server at this address.
    Named(String),
    /// The server that runs here with the settings, at this address. Its certificate is not
    /// checked.
    Own(String),
}

impl Whom {
    /// Returns the server that runs here with these settings. `None`: port 0, which is any free
    /// one.
    pub fn own(host: IpAddr, port: u16, has_tls: bool) -> Option<Self> {
        let host = if host.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { host };
        let scheme = if has_tls { "https" } else { "http" };
        (port != 0).then(|| Self::Own(format!("{scheme}://{}", SocketAddr::new(host, port))))
    }

    fn url(&self) -> &str {
        let (Self::Named(url) | Self::Own(url)) = self;
        url.trim_end_matches('/')
    }

    fn agent(&self) -> Agent {
        match self {
            Self::Named(url) => client::agent(url, TIMEOUT),
            Self::Own(_) => client::agent_on_this_machine(TIMEOUT),
        }
    }
}

/// Asks a server and prints one sentence. Succeeds if the answer is yes.
pub fn run(whom: Option<&Whom>, question: Question) -> ExitCode {
    let Some(whom) = whom else {
        print_error(
            "bandsync: with PORT=0 the server takes any free port: name its address, such as \
             bandsync health http://127.0.0.1:3001",
        );
        return ExitCode::FAILURE;
    };
    let url = whom.url();
    match ask(whom, question) {
        Ok(()) => {
            print_line(&format!("{url} is {}", question.word()));
            ExitCode::SUCCESS
        }
        Err(reason) => {
            print_error(&format!("bandsync: {url} {reason}"));
            ExitCode::FAILURE
        }
    }
}

/// The reason why the answer is not yes. Its text continues a sentence that starts with the
/// server's address.
#[derive(Debug)]
enum Refusal {
    /// The server did not answer.
    Silent(NoAnswer),
    /// A shard hangs.
    Stalled,
    /// New members may not connect, for these reasons.
    NotReady(Vec<String>),
    /// The server answered with this status.
    Status(u16),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(error) => write!(f, "does not answer: {error}"),
            Self::Stalled => f.write_str("is not live, a shard hangs: restart the server"),
            Self::NotReady(reasons) if reasons.is_empty() => f.write_str("is not ready"),
            Self::NotReady(reasons) => write!(f, "is not ready: {}", reasons.join(", ")),
            Self::Status(status) => write!(f, "answers {status}: is it a BandSync server?"),
        }
    }
}

impl std::error::Error for Refusal {}

fn ask(whom: &Whom, question: Question) -> Result<(), Refusal> {
    let silent = |error: ureq::Error| Refusal::Silent(error.into());
    let address = format!("{}/{}", whom.url(), question.path());
    let mut answer = whom.agent().get(address).call().map_err(silent)?;
    let status = answer.status().as_u16();
    let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    judge(question, status, &body.map_err(silent)?)
}

/// Judges an answer. A page of another server is no yes, even with status 200.
fn judge(question: Question, status: u16, body: &[u8]) -> Result<(), Refusal> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match (status, body[question.word()].as_bool(), question) {
        (200, Some(true), _) => Ok(()),
        (503, Some(false), Question::Live) => Err(Refusal::Stalled),
        (503, Some(false), Question::Ready) => {
            let reasons = body["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
            let texts = reasons.iter().filter_map(Value::as_str).map(str::to_owned);
            Err(Refusal::NotReady(texts.collect()))
        }
        (status, ..) => Err(Refusal::Status(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_address_is_one_that_can_be_reached() {
        let own = |host: &str, port, has_tls| {
            let whom = Whom::own(host.parse().expect("an address"), port, has_tls);
            whom.map(|whom| whom.url().to_owned())
        };
        assert_eq!(own("::", 3001, false).as_deref(), Some("http://127.0.0.1:3001"));
        assert_eq!(own("0.0.0.0", 80, false).as_deref(), Some("http://127.0.0.1:80"));
        assert_eq!(own("192.0.2.1", 3001, true).as_deref(), Some("https://192.0.2.1:3001"));
        assert_eq!(own("::1", 3001, false).as_deref(), Some("http://[::1]:3001"));
        assert_eq!(own("::", 0, false), None);
    }

    #[test]
    fn only_the_expected_answer_is_a_yes() {
        let text = |question, status, body: &str| match judge(question, status, body.as_bytes()) {
            Ok(()) => "yes".to_owned(),
            Err(reason) => reason.to_string(),
        };
        assert_eq!(text(Question::Live, 200, r#"{"live":true}"#), "yes");
        assert_eq!(text(Question::Ready, 200, r#"{"ready":true}"#), "yes");
        assert!(text(Question::Live, 503, r#"{"live":false}"#).contains("restart the server"));
        let busy = r#"{"ready":false,"reasons":["draining","memory"]}"#;
        assert_eq!(text(Question::Ready, 503, busy), "is not ready: draining, memory");
        for (status, body) in [(200, "<html>"), (200, r#"{"live":true}"#), (404, ""), (503, "")] {
            let said = text(Question::Ready, status, body);
            assert!(said.contains(&format!("answers {status}")), "{said}");
        }
    }
}
