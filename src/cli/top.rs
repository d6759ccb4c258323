//! `bandsync top`: shows a running server in a terminal and refreshes every second.

use std::fmt::{self, Write};
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bandsync_engine::words::text::is_control;
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use ureq::Agent;

use crate::http::Token;
use crate::ops::client::{self, NoAnswer};
use crate::ops::process::{print_error, print_line};

/// Time between two refreshes.
const EVERY: Duration = Duration::from_secs(1);

/// Time that the server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum size of an answer that is read. Measured: 100 000 sessions take a third of it.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Maximum number of sessions shown.
const SESSIONS_MAX: usize = 15;

/// Clears a terminal.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows the server at `url` until a signal comes, or once if the output is not a terminal. If a
/// server that was shown goes away, it is asked again until it is back.
pub fn run(url: &str, token: Option<&Token>) -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&stop)) {
            print_error(&format!("bandsync: cannot watch for signals: {error}"));
            return ExitCode::FAILURE;
        }
    }
    let live = io::stdout().is_terminal();
    let address = format!("{}/dashboard/data", url.trim_end_matches('/'));
    let agent = client::agent(url, TIMEOUT);
    let mut seen = false;
    while !stop.load(Ordering::Relaxed) {
        match look(&agent, &address, token) {
            Ok(data) if live => {
                seen = true;
                print_line(&format!(
                    "{CLEAR}{}\nCtrl-C ends this view, not the server.",
                    view(&data)
                ));
            }
            Ok(data) => {
                print_line(view(&data).trim_end());
                return ExitCode::SUCCESS;
            }
            Err(reason) if seen => print_line(&format!(
                "{CLEAR}{url} {reason}\nTrying again every second; Ctrl-C ends this."
            )),
            Err(reason) => {
                print_error(&format!("bandsync: {url} {reason}"));
                return ExitCode::FAILURE;
            }
        }
        std::thread::sleep(EVERY);
    }
    ExitCode::SUCCESS
}

/// The reason why a server cannot be shown. Its text continues a sentence that starts with the
/// server's address.
#[derive(Debug)]
enum Unseen {
    /// The server did not answer.
    Silent(NoAnswer),
    /// The answer is not that of a BandSync server.
    Stranger,
    /// The server requires a token, and received none or a wrong one.
    Token,
    /// The server answers its own machine only.
    Machine,
    /// The server answered with this status.
    Status(u16),
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(error) => write!(f, "does not answer: {error}"),
            Self::Stranger => f.write_str("is not a BandSync server"),
            Self::Token => f.write_str("requires the token in ADMIN_TOKEN"),
            Self::Machine => f.write_str("answers its own machine only; start it with ADMIN_TOKEN"),
            Self::Status(status) => write!(f, "answers {status}: is it a BandSync server?"),
        }
    }
}

impl std::error::Error for Unseen {}

fn look(agent: &Agent, address: &str, token: Option<&Token>) -> Result<Value, Unseen> {
    let mut request = agent.get(address);
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {}", token.reveal()));
    }
    let silent = |error: ureq::Error| Unseen::Silent(error.into());
    let mut response = request.call().map_err(silent)?;
    match response.status().as_u16() {
        200 => {
            let body = response
                .body_mut()
                .with_config()
                .limit(ANSWER_BYTES_MAX)
                .read_to_vec()
                .map_err(silent)?;
            serde_json::from_slice(&body).map_err(|_| Unseen::Stranger)
        }
        401 => Err(Unseen::Token),
        403 => Err(Unseen::Machine),
        status => Err(Unseen::Status(status)),
    }
}

/// Prints the whole view. Control characters are removed from names that clients chose.
fn view(data: &Value) -> String {
    let mut out = String::new();
    let health = &data["health"];
    let metrics = &data["metrics"];
    let performance = &metrics["performance"];
    line(
        &mut out,
        format_args!(
            "BandSync {}  {}  up {} s  memory {:.1} MB  cpu {:.1} %",
            text(&data["version"]),
            text(&health["status"]),
            number(&health["uptime"]) as u64,
            number(&health["memory"]["rss"]) / 1e6,
            number(&performance["cpuPercent"]),
        ),
    );
    line(
        &mut out,
        format_args!(
            "{} connections  {} sessions  {} members  {:.0} messages/s out  {:.0} in",
            number(&metrics["connections"]["current"]),
            number(&metrics["sessions"]["active"]),
            number(&metrics["sessions"]["members"]),
            number(&performance["messagesOutPerSecond"]),
            number(&performance["messagesInPerSecond"]),
        ),
    );
    let queue = |queue: &Value| {
        format!("{} {}/{}", text(&queue["name"]), number(&queue["waiting"]), number(&queue["room"]))
    };
    let queues: Vec<String> = items(&metrics["queues"]).iter().map(queue).collect();
    line(&mut out, format_args!("queues: {}", queues.join("  ")));
    cluster(&mut out, &health["cluster"], &metrics["cluster"]);
    for alert in items(&metrics["alerts"]) {
        line(&mut out, format_args!("! {}: {}", text(&alert["name"]), text(&alert["message"])));
    }
    line(
        &mut out,
        format_args!(
            "\n{:<14}{:>9}{:>10}{:>10}{:>10}{:>10}",
            "ms", "count", "p50", "p99", "p99.9", "max"
        ),
    );
    for (name, key) in [
        ("round trip", "roundTrip"),
        ("tick lateness", "tickLateness"),
        ("turn", "turn"),
        ("handler", "handler"),
    ] {
        let spread = &metrics["percentiles"][key];
        line(
            &mut out,
            format_args!(
                "{name:<14}{:>9}{:>10.3}{:>10.3}{:>10.3}{:>10.3}",
                number(&spread["count"]),
                number(&spread["p50"]),
                number(&spread["p99"]),
                number(&spread["p999"]),
                number(&spread["max"]),
            ),
        );
    }
    line(
        &mut out,
        format_args!(
            "\n{:<8}{:>8}{:>12}{:>10}{:>10}{:>12}",
            "shard", "busy %", "connections", "sessions", "members", "turn p99"
        ),
    );
    for (id, shard) in items(&metrics["shards"]).iter().enumerate() {
        line(
            &mut out,
            format_args!(
                "{id:<8}{:>8.1}{:>12}{:>10}{:>10}{:>12.3}",
                number(&shard["busyPercent"]),
                number(&shard["connections"]),
                number(&shard["sessions"]),
                number(&shard["members"]),
                number(&shard["percentiles"]["turn"]["p99"]),
            ),
        );
    }
    sessions(&mut out, &data["sessions"], &health["cluster"]);
    out
}

/// Prints the node's standing, its counters, and all nodes of its cluster. Prints nothing if the
/// server belongs to no cluster.
fn cluster(out: &mut String, cluster: &Value, counts: &Value) {
    let Some(standing) = cluster["standing"].as_str() else { return };
    let number_of = |name: &str| number(&counts[name]);
    line(
        out,
        format_args!(
            "\ncluster: {standing} {} owns {} sessions, {} branches  {} nodes",
            text(&cluster["reason"]),
            number(&cluster["owned"]),
            number(&cluster["branches"]),
            items(&cluster["nodes"]).len(),
        ),
    );
    line(
        out,
        format_args!(
            "{} commits  {} forwards  {} takeovers  {} gaps  {} unavailable  {} sent  {} heard",
            number_of("commits"),
            number_of("forwards"),
            number_of("sessionsTakenOver"),
            number_of("gaps"),
            number_of("unavailable"),
            number_of("published"),
            number_of("heard"),
        ),
    );
    line(
        out,
        format_args!(
            "{:<6}{:<30}{:>12}{:>10}{:>10}{:>12}{:>12}",
            "node", "name", "version", "state", "seen ms", "clock ms", "bound ms"
        ),
    );
    for node in items(&cluster["nodes"]) {
        let is_self = node["number"] == cluster["number"];
        let state = match (is_self, node["draining"] == true) {
            (true, _) => standing,
            (false, true) => "draining",
            (false, false) => "lives",
        };
        let millis = |name: &str| match node[name].as_f64() {
            Some(micros) => format!("{:.3}", micros / 1e3),
            None => "-".to_owned(),
        };
        line(
            out,
            format_args!(
                "{:<6}{:<30}{:>12}{state:>10}{:>10}{:>12}{:>12}",
                format!("{}{}", number(&node["number"]), if is_self { "*" } else { "" }),
                text(&node["name"]),
                text(&node["version"]),
                number(&node["seenMs"]),
                millis("clockUs"),
                millis("boundUs"),
            ),
        );
    }
}

/// Numbers of nodes are below this, and an epoch modulo it is the number of the session's owner.
const NODES: u64 = 2_048;

/// Returns the name of the node that owns a session, or an empty text without a cluster.
fn owner(session: &Value, cluster: &Value) -> String {
    let number = session["epoch"].as_u64().map(|epoch| epoch % NODES);
    let node = items(&cluster["nodes"]).iter().find(|node| node["number"].as_u64() == number);
    node.map(|node| format!("  on {}", text(&node["name"]))).unwrap_or_default()
}

fn sessions(out: &mut String, sessions: &Value, cluster: &Value) {
    let mut sessions: Vec<&Value> = items(sessions).iter().collect();
    sessions.sort_by(|a, b| number(&b["connectedCount"]).total_cmp(&number(&a["connectedCount"])));
    if sessions.is_empty() {
        return line(out, format_args!("\nno sessions"));
    }
    line(
        out,
        format_args!("\n{:<28}{:>9}{:>8}{:>11}  members", "session", "state", "BPM", "connected"),
    );
    for session in sessions.iter().take(SESSIONS_MAX) {
        let names: Vec<String> = items(&session["members"])
            .iter()
            .take(6)
            .map(|member| text(&member["displayName"]))
            .collect();
        let state = if session["isPlaying"] == true { "playing" } else { "paused" };
        let there =
            format!("{}/{}", number(&session["connectedCount"]), number(&session["memberCount"]));
        line(
            out,
            format_args!(
                "{:<28}{state:>9}{:>8.1}{there:>9}  {}{}",
                text(&session["sessionId"]),
                number(&session["tempoMilliBpm"]) / 1_000.0,
                names.join(", "),
                owner(session, cluster),
            ),
        );
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

fn text(value: &Value) -> String {
    let visible = |c: &char| !is_control(*c);
    value.as_str().unwrap_or_default().chars().filter(visible).take(40).collect()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_lists_members_and_strips_control_characters() {
        let data = serde_json::json!({
            "version": "1", "health": {"status": "degraded", "uptime": 90.5, "memory": {"rss": 20_000_000}},
            "metrics": {
                "performance": {"messagesOutPerSecond": 480.2, "cpuPercent": 33.3}, "sessions": {"members": 2},
                "alerts": [{"name": "memory", "message": "much"}],
                "queues": [{"name": "log", "waiting": 3, "room": 4096}],
                "percentiles": {"roundTrip": {"count": 3, "p99": 7.25}},
                "shards": [{"busyPercent": 12.5, "members": 2}],
            },
            "sessions": [{"sessionId": "s", "isPlaying": true, "tempoMilliBpm": 120_500, "connectedCount": 2,
                "memberCount": 2, "members": [{"displayName": "A\u{1b}[2Jda"}]}],
        });
        let view = view(&data);
        for part in [
            "degraded",
            "up 90 s",
            "20.0 MB",
            "cpu 33.3 %",
            "480 messages/s",
            "! memory: much",
            "queues: log 3/4096",
            "7.250",
            "12.5",
            "120.5",
            "A[2Jda",
        ] {
            assert!(view.contains(part), "{part} is not in\n{view}");
        }
        assert!(!view.contains('\u{1b}'));
    }

    #[test]
    fn a_node_is_shown_with_its_cluster() {
        let data = serde_json::json!({
            "health": {"cluster": {
                "standing": "alone", "reason": "Redis does not answer", "number": 2,
                "owned": 12, "branches": 3,
                "nodes": [
                    {"number": 1, "name": "one\u{1b}[2J", "seenMs": 40, "draining": true},
                    {"number": 2, "name": "two", "seenMs": 0, "clockUs": -120, "boundUs": 450},
                ],
            }},
            "metrics": {
                "cluster": {"commits": 77, "forwards": 5, "sessionsTakenOver": 1, "gaps": 4},
            },
            "sessions": [
                {"sessionId": "s", "epoch": 5 * NODES + 2, "members": [{"displayName": "Ada"}]},
            ],
        });
        let view = view(&data);
        for part in [
            "cluster: alone Redis does not answer owns 12 sessions, 3 branches  2 nodes",
            "77 commits  5 forwards  1 takeovers  4 gaps",
            "draining",
            "2*    two",
            "-0.120",
            "0.450",
            "Ada  on two",
        ] {
            assert!(view.contains(part), "{part} is not in\n{view}");
        }
        assert!(!view.contains('\u{1b}'));
    }

    #[test]
    fn a_server_without_a_cluster_shows_none() {
        assert!(!view(&serde_json::json!({})).contains("cluster"));
    }

    #[test]
    fn an_unexpected_answer_is_shown_as_an_idle_server() {
        assert!(view(&serde_json::json!([1, "x", null])).contains("no sessions"));
    }
}
