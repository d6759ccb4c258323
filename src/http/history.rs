//! `GET /metrics/history?metric=…&since=…`: the points of one metric, or the list of metrics.

use std::time::{SystemTime, UNIX_EPOCH};

use bandsync_engine::io::HttpResponse;
use bandsync_storage::{History, INTERVAL_MS};
use serde::Serialize;

use super::{JSON, json};

/// Default time span of an answer, in milliseconds.
const HOUR_MS: i64 = 3_600 * 1_000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Series<'a> {
    metric: &'a str,
    /// Time between two points, in milliseconds.
    interval: i64,
    /// Start of the interval in Unix milliseconds, and mean of the interval.
    points: Vec<(i64, f64)>,
}

#[derive(Serialize)]
struct Metrics {
    metrics: Vec<String>,
}

/// Answers a query. `since` is Unix milliseconds, or a time ago such as `90s`, `15m` or `6h`; by
/// default an hour ago.
pub fn answer(history: &History, query: &str) -> HttpResponse {
    let field = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, v)| v)
    };
    let now =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let Some(since) = field("since").map_or(Some(now - HOUR_MS), |text| instant(text, now)) else {
        let hint =
            r#"{"error":"since is Unix milliseconds, or a time ago such as 90s, 15m or 6h"}"#;
        return super::answer(400, JSON, hint.as_bytes());
    };
    match field("metric") {
        None => json(&Metrics { metrics: history.metrics() }),
        Some(metric) => match history.since(metric, since) {
            Some(points) => json(&Series { metric, interval: INTERVAL_MS, points }),
            None => super::answer(
                404,
                JSON,
                r#"{"error":"No such metric yet","hint":"/metrics/history names those that there are"}"#
                    .as_bytes(),
            ),
        },
    }
}

fn instant(text: &str, now: i64) -> Option<i64> {
    let (number, unit) = match text.char_indices().next_back()? {
        (at, 's') => (&text[..at], 1_000),
        (at, 'm') => (&text[..at], 60_000),
        (at, 'h') => (&text[..at], HOUR_MS),
        _ => return text.parse().ok(),
    };
    Some(now.saturating_sub(number.parse::<u32>().map(i64::from).ok()?.saturating_mul(unit)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_absolute_or_relative() {
        let now = 1_800_000_000_000;
        for (text, expected) in [
            ("1700000000000", Some(1_700_000_000_000)),
            ("90s", Some(now - 90_000)),
            ("15m", Some(now - 900_000)),
            ("6h", Some(now - 6 * HOUR_MS)),
            ("h", None),
            ("", None),
            ("-5m", None),
            ("5ü", None),
        ] {
            assert_eq!(instant(text, now), expected, "{text}");
        }
    }

    #[test]
    fn a_series_is_answered_from_memory() {
        let history = History::default();
        let body = |query: &str| {
            let answer = answer(&history, query);
            (answer.status, String::from_utf8(answer.body.into_owned()).unwrap())
        };
        for at in [10_000, 20_000, 30_000] {
            history.add(at, &[("cpuUsage".to_owned(), at as f64)]);
        }
        assert_eq!(body(""), (200, r#"{"metrics":["cpuUsage"]}"#.to_owned()));
        let whole = r#"{"metric":"cpuUsage","interval":10000,"points":[[20000,20000.0]]}"#;
        assert_eq!(body("since=10001&metric=cpuUsage"), (200, whole.to_owned()));
        assert_eq!(body("metric=cpuUsage&since=soon").0, 400);
        assert_eq!(body("metric=%3Cscript%3E").0, 404);
    }
}
