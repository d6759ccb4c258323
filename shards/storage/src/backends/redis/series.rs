//! The history of measurements in Redis: series of the RedisTimeSeries module if the server has it,
//! otherwise sorted sets. Both are capped and bounded in time, and expire after the server that
//! writes them is gone.

use bandsync_redis::Answer;
use redis::{Value, cmd};

use super::link::Request;
use crate::series::{INTERVAL_MS, KEPT_MS, Point};

/// The set of the metrics that have points.
const METRICS: &str = "history:metrics";

/// Maximum points of a metric.
const POINTS_MAX: i64 = KEPT_MS / INTERVAL_MS;

/// The kind of key that holds the points.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `history:metric:<metric>`: sorted by Unix milliseconds.
    SortedSet,
    /// `history:series:<metric>`: of RedisTimeSeries.
    TimeSeries,
}

impl Kind {
    fn key(self, metric: &str) -> String {
        match self {
            Self::SortedSet => format!("history:metric:{metric}"),
            Self::TimeSeries => format!("history:series:{metric}"),
        }
    }
}

/// Builds the question whether the server has the module.
pub fn question() -> Request {
    let mut info = cmd("COMMAND");
    info.arg("INFO").arg("TS.ADD");
    Request::new(METRICS, info)
}

/// Interprets its answer. A server that does not answer the question does not have the module.
pub fn kind(answer: &Answer) -> Kind {
    match answer {
        Ok(Value::Array(entries)) if matches!(entries.first(), Some(Value::Array(_))) => {
            Kind::TimeSeries
        }
        _ => Kind::SortedSet,
    }
}

/// Builds commands that add measurements of one instant, and drop those from before `oldest`.
pub fn add(kind: Kind, at: i64, points: &[Point], oldest: i64) -> Vec<Request> {
    let mut requests = Vec::new();
    for (metric, value) in points {
        let key = kind.key(metric);
        let mut push = |name: &str, arguments: &[&str]| {
            let mut command = cmd(name);
            command.arg(&key).arg(arguments);
            requests.push(Request::new(&key, command));
        };
        let (at, oldest) = (at.to_string(), format!("({oldest}"));
        match kind {
            Kind::SortedSet => {
                push("ZADD", &[&at, &format!("{at}:{value}")]);
                push("ZREMRANGEBYSCORE", &["-inf", &oldest]);
                push("ZREMRANGEBYRANK", &["0", &(-POINTS_MAX - 1).to_string()]);
            }
            Kind::TimeSeries => {
                let (value, kept) = (value.to_string(), KEPT_MS.to_string());
                // An instant is sent again if it is unknown whether it was stored.
                let rules =
                    ["RETENTION", &kept, "ON_DUPLICATE", "LAST", "LABELS", "metric", metric];
                push("TS.ADD", &[&[at.as_str(), &value][..], &rules].concat());
            }
        }
        push("PEXPIRE", &[&KEPT_MS.to_string()]);
    }
    let mut names = cmd("SADD");
    names.arg(METRICS).arg(points.iter().map(|(metric, _)| metric.as_str()).collect::<Vec<_>>());
    requests.push(Request::new(METRICS, names));
    requests
}

/// Builds the request for the names of all metrics.
pub fn metrics() -> Request {
    let mut names = cmd("SMEMBERS");
    names.arg(METRICS);
    Request::new(METRICS, names)
}

/// Builds the request for the points of a metric since an instant.
pub fn range(kind: Kind, metric: &str, since: i64) -> Request {
    let key = kind.key(metric);
    let (name, end) = match kind {
        Kind::SortedSet => ("ZRANGEBYSCORE", "+inf"),
        Kind::TimeSeries => ("TS.RANGE", "+"),
    };
    let mut range = cmd(name);
    range.arg(&key).arg(since).arg(end);
    Request::new(key, range)
}

/// Parses the answer to [`range`]. Points that make no sense are skipped.
pub fn points(answer: Value) -> Vec<(i64, f64)> {
    let Value::Array(items) = answer else { return Vec::new() };
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    let point = |item: Value| match item {
        Value::Array(pair) => match &pair[..] {
            [Value::Int(at), Value::Double(value)] => Some((*at, *value)),
            [Value::Int(at), value] => Some((*at, text(value)?.parse().ok()?)),
            _ => None,
        },
        member => {
            let member = text(&member)?;
            let (at, value) = member.split_once(':')?;
            Some((at.parse().ok()?, value.parse().ok()?))
        }
    };
    items.into_iter().filter_map(point).filter(|(_, value)| value.is_finite()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn reply(text: &str) -> Value {
        redis::parse_redis_value(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_redis_server_reports_whether_it_has_the_module() {
        let with = "*1\r\n*2\r\n$6\r\nts.add\r\n:-1\r\n";
        for (text, expected) in [
            (with, Kind::TimeSeries),
            ("*1\r\n*-1\r\n", Kind::SortedSet),
            ("*0\r\n", Kind::SortedSet),
        ] {
            assert_eq!(kind(&Ok(reply(text))), expected, "{text:?}");
        }
        let rejected = reply("-NOPERM no\r\n").extract_error();
        assert_eq!(kind(&rejected), Kind::SortedSet);
    }

    #[test]
    fn points_are_parsed_from_both_kinds_of_series() {
        let members = "*3\r\n$7\r\n1000:.5\r\n$4\r\nodd!\r\n$6\r\n2000:7\r\n";
        assert_eq!(points(reply(members)), [(1_000, 0.5), (2_000, 7.0)]);
        let samples = "*2\r\n*2\r\n:1000\r\n+0.5\r\n*2\r\n:2000\r\n$1\r\n7\r\n";
        assert_eq!(points(reply(samples)), [(1_000, 0.5), (2_000, 7.0)]);
        assert_eq!(points(reply("+OK\r\n")), []);
    }

    #[test]
    fn every_series_is_bounded() {
        let names = |kind| {
            let requests = add(kind, 5, &[("cpu".to_owned(), 1.5)], 1);
            let text = |request: &Request| {
                String::from_utf8(request.command.get_packed_command()).unwrap()
            };
            requests.iter().map(text).collect::<String>()
        };
        let sets = names(Kind::SortedSet);
        assert!(
            sets.contains("ZREMRANGEBYSCORE") && sets.contains("-8641") && sets.contains("PEXPIRE"),
            "{sets}"
        );
        let series = names(Kind::TimeSeries);
        assert!(
            series.contains("RETENTION")
                && series.contains("86400000")
                && series.contains("PEXPIRE"),
            "{series}"
        );
    }
}
