//! `/livez` and `/readyz`: short answers for supervisors and balancers, which act on the status
//! code.

use std::sync::atomic::{AtomicU8, Ordering};

use bandsync_engine::io::{FreeMemory, HttpResponse};
use serde::Serialize;

use crate::monitor::Report;

/// The phase of the server between its start and its end.
#[derive(Debug, Default)]
pub struct Progress(AtomicU8);

const STARTING: u8 = 0;
const SERVING: u8 = 1;
const DRAINING: u8 = 2;

impl Progress {
    /// Marks the server as started. Has no effect once it drains.
    pub fn started(&self) {
        let _ = self.0.compare_exchange(STARTING, SERVING, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Marks the server as draining. Call it before clients are closed, so that a balancer sends no
    /// new ones.
    pub fn draining(&self) {
        self.0.store(DRAINING, Ordering::Relaxed);
    }

    /// Returns the reasons why the server should get no new members.
    fn reasons(&self, memory: FreeMemory, is_new: bool) -> Vec<&'static str> {
        let progress = self.0.load(Ordering::Relaxed);
        let all = [
            (progress == STARTING, "starting"),
            (progress == DRAINING, "draining"),
            (is_new, "cluster"),
            (memory == FreeMemory::Out, "memory"),
        ];
        all.into_iter().filter_map(|(holds, reason)| holds.then_some(reason)).collect()
    }
}

#[derive(Serialize)]
struct Live {
    live: bool,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<&'static str>,
}

/// Returns 200 while every shard ends its turns, otherwise 503: then only a restart helps.
pub fn live(report: &Report) -> HttpResponse {
    let live = report.stalled == 0;
    HttpResponse { status: status(live), ..super::json(&Live { live }) }
}

/// Returns 200 while the server accepts new members, otherwise 503 with the reasons. `is_new`: it is
/// a node of a cluster that may not take sessions over yet.
pub fn ready(progress: &Progress, report: &Report, is_new: bool) -> HttpResponse {
    let reasons = progress.reasons(report.memory, is_new);
    let ready = reasons.is_empty();
    HttpResponse { status: status(ready), ..super::json(&Ready { ready, reasons }) }
}

fn status(well: bool) -> u16 {
    if well { 200 } else { 503 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(answer: &HttpResponse) -> (u16, &str) {
        (answer.status, std::str::from_utf8(&answer.body).unwrap_or_default())
    }

    #[test]
    fn a_server_is_live_unless_a_shard_hangs() {
        let mut report =
            Report { status: crate::monitor::thresholds::Status::Unhealthy, ..Report::default() };
        assert_eq!(parts(&live(&report)), (200, r#"{"live":true}"#));
        report.stalled = 1;
        assert_eq!(parts(&live(&report)), (503, r#"{"live":false}"#));
    }

    #[test]
    fn a_server_is_ready_between_start_and_drain_while_it_has_memory() {
        let (progress, mut report) = (Progress::default(), Report::default());
        assert_eq!(
            parts(&ready(&progress, &report, false)),
            (503, r#"{"ready":false,"reasons":["starting"]}"#)
        );
        progress.started();
        assert_eq!(parts(&ready(&progress, &report, false)), (200, r#"{"ready":true}"#));
        assert_eq!(
            parts(&ready(&progress, &report, true)),
            (503, r#"{"ready":false,"reasons":["cluster"]}"#)
        );
        report.memory = FreeMemory::Low;
        assert_eq!(parts(&ready(&progress, &report, false)).0, 200);
        report.memory = FreeMemory::Out;
        assert_eq!(
            parts(&ready(&progress, &report, false)),
            (503, r#"{"ready":false,"reasons":["memory"]}"#)
        );
        progress.draining();
        progress.started();
        let both = r#"{"ready":false,"reasons":["draining","memory"]}"#;
        assert_eq!(parts(&ready(&progress, &report, false)), (503, both));
    }
}
