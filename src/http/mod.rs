//! Answers to plain HTTP requests: pages, health and metrics.
//!
//! The engine passes on only `GET` and `HEAD`, answers everything else, and adds headers for
//! length, connection, security and CORS. [`Site`] runs on the shards' threads, so it is quick and
//! never waits. Longer answers come from the thread of [`reporter`].

mod admin;
mod assets;
mod asyncapi;
mod budget;
mod cluster;
mod dashboard;
mod history;
mod probes;
mod prometheus;
mod reporter;
mod status;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bandsync_driver::{Asker, Host, Order};
use bandsync_engine::io::{HttpRequest, HttpResponse};
use bandsync_engine::words::ids::ShardId;

use crate::monitor::thresholds::Status;
use crate::monitor::{Monitor, Totals};
use admin::Denied;
pub use admin::Token;
pub use asyncapi::Document;
use bandsync_storage::StorageHandle;

use assets::Assets;
use budget::Budget;
pub use probes::Progress;
use prometheus::{Format, Process};
pub use reporter::Reporter;
use reporter::Requests;

/// Answers on the shards' threads: pages, probes, and the decision about access to other pages.
pub struct Site {
    assets: Assets,
    reports: Arc<Reports>,
    /// The queue to the reporter.
    requests: Requests,
    progress: Arc<Progress>,
    admin_token: Option<Token>,
    budget: Budget,
}

/// The sources of all answers about the running server.
pub struct Reports {
    /// Counters of all shards and threads.
    pub totals: Arc<dyn Totals>,
    /// The running monitor.
    pub monitor: Monitor,
    /// The storage, for its state and the history.
    pub storage: StorageHandle,
    /// The cluster; `None` if the server is alone.
    pub cluster: Option<Arc<bandsync_cluster::Status>>,
    /// The latency that `/metrics` compares with.
    pub target_latency: Duration,
    /// The description of the protocol.
    pub protocol: Document,
}

impl Site {
    /// Creates the site, and the reporter, which is started once the shards can be reached.
    pub fn new(
        reports: Reports,
        progress: Arc<Progress>,
        admin_token: Option<Token>,
        per_second: u32,
    ) -> (Self, Reporter) {
        let reports = Arc::new(reports);
        let (requests, reporter) = Reporter::new(Arc::clone(&reports));
        let site = Self {
            assets: Assets::embedded(),
            reports,
            requests,
            progress,
            admin_token,
            budget: Budget::new(per_second),
        };
        (site, reporter)
    }

    /// Passes a request to the reporter. Returns an answer only if too many wait.
    fn later(&self, asker: Asker, request: &HttpRequest) -> Option<HttpResponse> {
        self.requests.try_send((asker, request.clone())).is_err().then(busy)
    }

    /// Checks whether a request may see what it asks for.
    fn admit(&self, request: &HttpRequest) -> Result<(), Denied> {
        let judged = || admin::judge(self.admin_token.as_ref(), request);
        match Audience::of(&request.path) {
            Audience::Everybody => Ok(()),
            Audience::Operators => judged(),
            Audience::Browsers => judged().or_else(|denied| match denied {
                Denied::Host => Err(denied),
                Denied::Token | Denied::Machine => Ok(()),
            }),
        }
    }

    /// Answers a request that may not see what it asks for. A browser that asks for the dashboard
    /// receives it without data, and it asks for the token.
    fn deny(&self, request: &HttpRequest, denied: Denied) -> HttpResponse {
        let mut answer = denied.answer();
        let HttpRequest { path, peer, host, .. } = request;
        if denied == Denied::Host {
            log::warn!(path:%, peer:%; "rejected {path} under the name {host:.100}: \
                add the name to ALLOWED_HOSTS if it is yours");
        } else if path == DASHBOARD && request.accept.contains("text/html") {
            let page = self.assets.answer(path, "", false);
            answer.body = page.map_or(answer.body, |page| page.body);
            answer.headers.retain(|(name, _)| name != "Content-Type");
            answer.headers.push((Cow::Borrowed("Content-Type"), Cow::Borrowed(HTML)));
        }
        answer
    }
}

impl Reports {
    /// Answers a request on the reporter's thread.
    fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let answer = match request.path.as_str() {
            "/metrics/history" => self.history(request),
            "/dashboard/data" => self.dashboard(),
            "/asyncapi.json" => answer(200, JSON, self.protocol.for_request(request).into_bytes()),
            _ => self.metrics(request),
        };
        reporter::packed(answer, request.takes_gzip)
    }

    /// Prints `/health`. Only operators receive details.
    fn health(&self, is_operator: bool) -> HttpResponse {
        let report = self.monitor.newest();
        let health = status::Health::now(
            &self.totals.shards(),
            &report,
            self.monitor.uptime(),
            &self.storage,
            self.cluster.as_deref(),
        );
        let status = if report.status == Status::Unhealthy { 503 } else { 200 };
        let health = if is_operator { health } else { health.for_strangers() };
        HttpResponse { status, ..json(&health) }
    }

    /// Prints `/metrics`: as JSON, or as text for Prometheus if `Accept` prefers that.
    fn metrics(&self, request: &HttpRequest) -> HttpResponse {
        let (report, uptime) = (self.monitor.newest(), self.monitor.uptime());
        let always_text = (request.path == "/metrics/prometheus").then_some(Format::Prometheus);
        if let Some(format) = text_format(&request.accept).or(always_text) {
            let (shards, process) = (self.totals.shards(), Process::now());
            let (storage, cluster) = (&self.storage.status, self.cluster.as_deref());
            let text =
                prometheus::text(format, &shards, &report, uptime, storage, cluster, &process);
            return answer(200, format.content_type(), text.into_bytes());
        }
        json(&status::Metrics::now(
            &self.totals.shards(),
            &report,
            uptime,
            self.target_latency,
            &self.storage,
            self.cluster.as_deref(),
        ))
    }

    /// Prints `/metrics/history`. With `?metric=`, the points of that metric; otherwise rows, with
    /// `?since=` Unix time in milliseconds and `?limit=` rows. Invalid values count as not given.
    fn history(&self, request: &HttpRequest) -> HttpResponse {
        if parameter(&request.query, "metric").is_some() {
            return history::answer(&self.storage.history, &request.query);
        }
        let number =
            |name: &str| parameter(&request.query, name).and_then(|text| text.parse::<u64>().ok());
        let limit =
            number("limit").map_or(HISTORY_ROWS, |limit| limit.min(usize::MAX as u64) as usize);
        answer(200, JSON, self.monitor.history(number("since").unwrap_or(0), limit))
    }

    fn dashboard(&self) -> HttpResponse {
        let (report, uptime) = (self.monitor.newest(), self.monitor.uptime());
        let totals = self.totals.shards();
        let rosters = self.totals.rosters();
        let (storage, cluster) = (&self.storage, self.cluster.as_deref());
        let latency = self.target_latency;
        let data = dashboard::data(&totals, &report, uptime, latency, &rosters, storage, cluster);
        answer(200, JSON, data)
    }
}

/// The audience of a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Audience {
    /// Everybody, under any name of the server: pages for members, and probes.
    Everybody,
    /// Operators: the dashboard, metrics, history and their data.
    Operators,
    /// Browsers that show an operators' page: its scripts and styles, which they load without the
    /// token. They contain no data, but are served under the server's own names only, as the page
    /// is.
    Browsers,
}

impl Audience {
    fn of(path: &str) -> Self {
        let is_operators = ["/dashboard", "/metrics"].iter().any(|start| path.starts_with(start));
        match is_operators {
            false => Self::Everybody,
            true if path.ends_with(".js") || path.ends_with(".css") => Self::Browsers,
            true => Self::Operators,
        }
    }
}

/// The path of the dashboard.
const DASHBOARD: &str = "/dashboard";

/// Rows of history by default: an hour at the default interval.
const HISTORY_ROWS: usize = 360;

/// Returns the text format that `Accept` prefers to JSON, if any. Browsers and curl accept anything
/// and receive JSON; Prometheus names its text formats, with weights.
fn text_format(accept: &str) -> Option<Format> {
    let mut best: (f64, Option<Format>) = (0.0, None);
    for kind in accept.split(',') {
        let mut parts = kind.split(';').map(str::trim);
        let format = match parts.next().unwrap_or_default() {
            "application/openmetrics-text" => Some(Format::OpenMetrics),
            "text/plain" => Some(Format::Prometheus),
            "application/json" | "text/html" => None,
            _ => continue,
        };
        let weight =
            parts.find_map(|part| part.strip_prefix("q=")).and_then(|weight| weight.parse().ok());
        let weight = weight.unwrap_or(1.0);
        if weight > best.0 {
            best = (weight, format);
        }
    }
    best.1
}

/// Whether a client prefers JSON to a page, by its `Accept`. If weights are equal, the more
/// specific range counts: `application/json, */*` asks for JSON, and `*/*` accepts the page.
fn prefers_json(accept: &str) -> bool {
    let (json, page) = (weight(accept, "application", "json"), weight(accept, "text", "html"));
    json.0 > 0.0 && json > page
}

/// Returns the weight that `Accept` gives to a type by its most specific range, and how specific
/// that is.
fn weight(accept: &str, kind: &str, subtype: &str) -> (f64, u8) {
    let mut found = (0.0, 0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let (first, second) =
            parts.next().and_then(|name| name.split_once('/')).unwrap_or_default();
        let closeness = match (first, second) {
            ("*", "*") => 1,
            (first, "*") if first.eq_ignore_ascii_case(kind) => 2,
            (first, second)
                if first.eq_ignore_ascii_case(kind) && second.eq_ignore_ascii_case(subtype) =>
            {
                3
            }
            _ => continue,
        };
        let given =
            parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let weight = given.map_or(Ok(1.0), str::parse::<f64>).unwrap_or(0.0);
        if closeness > found.1 {
            found = (if weight > 0.0 { weight.min(1.0) } else { 0.0 }, closeness);
        }
    }
    found
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

impl Host for Site {
    fn answer(&self, asker: Asker, request: &HttpRequest) -> Option<HttpResponse> {
        // Probes have no budget: a rejected probe could make a supervisor end the server, and a
        // rejection costs as much as the answer.
        match request.path.as_str() {
            "/livez" => return Some(probes::live(&self.reports.monitor.newest())),
            "/readyz" => {
                let is_new = self.reports.cluster.as_deref().is_some_and(cluster::is_new);
                let report = self.reports.monitor.newest();
                return Some(probes::ready(&self.progress, &report, is_new));
            }
            _ => {}
        }
        if let Err(wait) = self.budget.take(request.peer) {
            return Some(too_many(wait));
        }
        if let Err(denied) = self.admit(request) {
            return Some(self.deny(request, denied));
        }
        let answer = match request.path.as_str() {
            "/" if prefers_json(&request.accept) => {
                varying(answer(200, JSON, br#"{"ok":true}"#.as_slice()))
            }
            "/metrics"
            | "/metrics/prometheus"
            | "/metrics/history"
            | "/dashboard/data"
            | "/asyncapi.json" => {
                return self.later(asker, request);
            }
            "/health" => {
                self.reports.health(admin::judge(self.admin_token.as_ref(), request).is_ok())
            }
            path => match self.assets.answer(path, &request.if_none_match, request.takes_gzip) {
                Some(page) if path == "/" => varying(page),
                Some(file) => file,
                None => not_found(request),
            },
        };
        Some(answer)
    }

    fn trim(&self) {
        crate::ops::process::trim();
    }

    fn store(&self, shard: ShardId, order: Order<'_>) -> bool {
        match order {
            Order::Load(session) => self.reports.storage.load(shard, session),
            Order::Store { session, epoch, version, record } => {
                self.reports.storage.store(shard, session, epoch, version, record)
            }
            Order::Forget { session, epoch } => self.reports.storage.forget(shard, session, epoch),
        }
    }
}

/// Prints JSON that must not be cached, since its numbers are of this moment.
fn json(value: &impl serde::Serialize) -> HttpResponse {
    match serde_json::to_vec(value) {
        Ok(body) => answer(200, JSON, body),
        Err(_) => answer(500, JSON, br#"{"error":"Internal error"}"#.as_slice()),
    }
}

const JSON: &str = "application/json; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

fn answer(
    status: u16,
    content_type: &'static str,
    body: impl Into<Cow<'static, [u8]>>,
) -> HttpResponse {
    let headers = vec![
        (Cow::Borrowed("Content-Type"), Cow::Borrowed(content_type)),
        (Cow::Borrowed("Cache-Control"), Cow::Borrowed("no-store")),
    ];
    HttpResponse { status, headers, body: body.into() }
}

/// Marks an answer that depends on `Accept`.
fn varying(mut answer: HttpResponse) -> HttpResponse {
    match answer.headers.iter_mut().find(|(name, _)| name == "Vary") {
        Some((_, value)) => value.to_mut().push_str(", Accept"),
        None => answer.headers.push((Cow::Borrowed("Vary"), Cow::Borrowed("Accept"))),
    }
    answer
}

/// Answers an address that asks too often, with the whole seconds until it may ask again.
fn too_many(wait: Duration) -> HttpResponse {
    let mut answer = answer(429, JSON, br#"{"error":"Too many requests"}"#.as_slice());
    let seconds = wait.as_millis().div_ceil(1_000).max(1).to_string();
    answer.headers.push((Cow::Borrowed("Retry-After"), Cow::Owned(seconds)));
    answer
}

/// Answers a request while too many wait for the reporter.
fn busy() -> HttpResponse {
    let mut answer = answer(503, JSON, br#"{"error":"Busy"}"#.as_slice());
    answer.headers.push((Cow::Borrowed("Retry-After"), Cow::Borrowed("1")));
    answer
}

/// Answers a request for an unknown path: with a page for people, JSON for programs, and a hint for
/// paths that look like `/socket.io/`. The path is not repeated, so nothing needs escaping.
fn not_found(request: &HttpRequest) -> HttpResponse {
    let meant = request.path.to_ascii_lowercase();
    if ["/socket.io", "/socketio", "/socket-io", "/engine.io"]
        .iter()
        .any(|near| meant.starts_with(near))
    {
        return answer(404, JSON, NEARLY_SOCKET_IO.as_bytes());
    }
    if request.accept.contains("text/html") {
        return answer(404, HTML, NOT_FOUND_PAGE.as_bytes());
    }
    answer(404, JSON, br#"{"error":"Not found"}"#.as_slice())
}

const NEARLY_SOCKET_IO: &str = r#"{"error":"Not found","hint":"Socket.IO is at /socket.io/ (with the slash at the end): leave the client's option path at its default."}"#;

const NOT_FOUND_PAGE: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width\"><title>Not found</title>\
    <h1>There is nothing here</h1><p><a href=\"/\">To the stage page</a></html>\n";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;

    use bandsync_engine::words::ids::ConnId;
    use bandsync_engine::words::policy::Named;

    use super::*;
    use crate::monitor::ShardTotals;

    struct Two;

    impl Totals for Two {
        fn shards(&self) -> Vec<ShardTotals> {
            let shard = ShardTotals {
                connections: 3,
                members: 2,
                sessions: 5,
                sessions_active: 1,
                ..ShardTotals::default()
            };
            vec![shard, shard]
        }
    }

    const ASKER: Asker = Asker { shard: ShardId(0), conn: ConnId { index: 1, generation: 0 } };

    fn site() -> (Site, Reporter) {
        let totals: Arc<dyn Totals> = Arc::new(Two);
        let config = crate::config::Config::check(&crate::config::raw::RawConfig {
            cores: crate::config::raw::Cores { count: 1, quota: None },
            ..Default::default()
        })
        .unwrap();
        let monitor = Monitor::start(Arc::clone(&totals), config.monitoring.plan(None)).unwrap();
        let progress = Arc::new(Progress::default());
        progress.started();
        let target_latency = Duration::from_millis(25);
        let storage = StorageHandle::nowhere();
        let protocol = Document::new(&config.engine, false);
        let cluster = None;
        let reports = Reports { totals, monitor, storage, cluster, target_latency, protocol };
        Site::new(reports, progress, None, 100)
    }

    /// Returns a request from this machine.
    fn request(path: &str, accept: &str, if_none_match: &str) -> HttpRequest {
        HttpRequest {
            forwarded: false,
            host: "localhost".into(),
            named: Named::Known,
            head: false,
            path: path.into(),
            query: String::new(),
            accept: accept.into(),
            if_none_match: if_none_match.into(),
            authorization: String::new(),
            takes_gzip: false,
            peer: [127, 0, 0, 1].into(),
        }
    }

    fn ask(path: &str, accept: &str, if_none_match: &str) -> HttpResponse {
        let ((site, reporter), request) = (site(), request(path, accept, if_none_match));
        site.answer(ASKER, &request).unwrap_or_else(|| reporter.reports.answer(&request))
    }

    fn header<'a>(answer: &'a HttpResponse, name: &str) -> &'a str {
        answer.headers.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    fn number(value: &serde_json::Value, path: &str) -> f64 {
        value
            .pointer(path)
            .and_then(serde_json::Value::as_f64)
            .unwrap_or_else(|| panic!("{path} in {value}"))
    }

    #[test]
    fn health_reports_the_state_of_the_server() {
        let answer = ask("/health", "", "");
        assert_eq!((answer.status, header(&answer, "Cache-Control")), (200, "no-store"));
        let health: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(health["status"], "healthy");
        assert_eq!((&health["redis"], &health["redisStatus"]), (&false.into(), &"disabled".into()));
        assert_eq!(health["storage"]["place"], "memory");
        assert!(health["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')));
        assert_eq!(number(&health, "/connections"), 6.0);
        assert_eq!(number(&health, "/connectionsDetail/current"), 6.0);
        assert_eq!(health["reasons"], serde_json::json!([]));
        assert_eq!(number(&health, "/sessions/active"), 2.0);
        assert_eq!(number(&health, "/sessions/total"), 10.0);
        assert_eq!(health["shards"].as_array().map(Vec::len), Some(2));
        assert!(number(&health, "/uptime") >= 0.0 && number(&health, "/memory/rss") > 1_000_000.0);
        let heap = number(&health, "/memory/heapUsed");
        assert!(heap > 0.0 && heap <= number(&health, "/memory/rss"));
    }

    #[test]
    fn strangers_learn_from_health_neither_paths_nor_shards() {
        let stranger = |request: HttpRequest| {
            let answer = site().0.answer(ASKER, &request).unwrap();
            assert_eq!(answer.status, 200);
            serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()
        };
        let own = request("/health", "", "");
        for request in [
            HttpRequest { peer: [192, 0, 2, 1].into(), ..own.clone() },
            HttpRequest { forwarded: true, ..own.clone() },
            HttpRequest { named: Named::Foreign, ..own.clone() },
        ] {
            let health = stranger(request);
            assert!(health.get("shards").is_none() && health["status"] == "healthy", "{health}");
        }
        assert!(stranger(own).get("shards").is_some());
    }

    #[test]
    fn the_path_decides_the_audience() {
        for path in
            ["/dashboard", "/dashboard/data", "/metrics", "/metrics/prometheus", "/metrics/history"]
        {
            assert_eq!(Audience::of(path), Audience::Operators, "{path}");
        }
        for path in ["/", "/health", "/livez", "/readyz", "/asyncapi.json", "/protocol", "/app.js"]
        {
            assert_eq!(Audience::of(path), Audience::Everybody, "{path}");
        }
        for path in ["/dashboard.js", "/dashboard-plot.js", "/dashboard.css"] {
            assert_eq!(Audience::of(path), Audience::Browsers, "{path}");
        }
    }

    #[test]
    fn a_stranger_s_name_gets_421_for_all_pages_of_the_operators() {
        let (site, _reporter) = site();
        let foreign = |path: &str| HttpRequest { named: Named::Foreign, ..request(path, "", "") };
        for path in
            ["/dashboard", "/dashboard.js", "/dashboard/data", "/metrics", "/metrics/nowhere"]
        {
            assert_eq!(site.answer(ASKER, &foreign(path)).unwrap().status, 421, "{path}");
        }
        for path in ["/", "/health", "/protocol"] {
            assert_eq!(site.answer(ASKER, &foreign(path)).unwrap().status, 200, "{path}");
        }
        assert!(site.answer(ASKER, &foreign("/asyncapi.json")).is_none(), "the reporter answers");
    }

    #[test]
    fn a_browser_without_access_to_the_dashboard_gets_the_token_page() {
        let (site, _reporter) = site();
        let denied = |accept: &str| {
            let peer = [192, 0, 2, 1].into();
            site.answer(ASKER, &HttpRequest { peer, ..request("/dashboard", accept, "") }).unwrap()
        };
        let page = denied("text/html,*/*;q=0.8");
        assert_eq!((page.status, header(&page, "Content-Type")), (403, HTML));
        assert_eq!(header(&page, "Cache-Control"), "no-store");
        assert!(page.body.starts_with(b"<!doctype html>"));
        assert_eq!(header(&denied("*/*"), "Content-Type"), JSON);
    }

    #[test]
    fn a_program_that_prefers_json_gets_an_ok_instead_of_a_page() {
        for accept in [
            "application/json",
            "application/json, text/plain, */*",
            "application/json;q=0.9, text/html;q=0.8",
            "text/html;q=0.1, APPLICATION/JSON;charset=utf-8;q=0.2",
            "application/*",
            "*/*;q=0.1, application/json;q=0.2",
        ] {
            let answer = ask("/", accept, "");
            assert_eq!(
                (answer.status, answer.body.as_ref()),
                (200, br#"{"ok":true}"#.as_slice()),
                "{accept}"
            );
            assert_eq!(
                (header(&answer, "Content-Type"), header(&answer, "Vary")),
                (JSON, "Accept")
            );
        }
        for accept in [
            "",
            "*/*",
            "text/html",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/html, application/json",
            "application/json;q=0",
            "application/json;q=0, */*",
            "application/json;q=0.5, */*",
            "application/json;q=nan",
            "application/jsonx",
            ";,,q=1",
        ] {
            let answer = ask("/", accept, "");
            assert_eq!(
                (header(&answer, "Content-Type"), header(&answer, "Vary")),
                (HTML, "Accept-Encoding, Accept"),
                "{accept}"
            );
        }
    }

    #[test]
    fn metrics_keep_the_names_that_dashboards_read() {
        let answer = ask("/metrics", "", "");
        let metrics: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        for name in [
            "messagesPerSecond",
            "avgLatency",
            "turnTime",
            "cpuPercent",
            "memoryUsage/heapUsed",
            "memoryUsage/rss",
            "cpuUsage/user",
            "cpuUsage/system",
        ] {
            assert!(number(&metrics, &format!("/performance/{name}")) >= 0.0);
        }
        let megabytes = number(&metrics, "/performance/memoryUsage/rss");
        let bytes = number(&metrics, "/performance/memoryBytes");
        assert!((megabytes - bytes / 1_048_576.0).abs() <= 0.005_001, "{megabytes} for {bytes}");
        assert_eq!((megabytes * 100.0).round() / 100.0, megabytes, "two decimals");
        assert_eq!(number(&metrics, "/performance/activeConnections"), 6.0);
        assert_eq!(number(&metrics, "/performance/targetLatency"), 25.0);
        assert_eq!(number(&metrics, "/sessions/members"), 4.0);
    }

    #[test]
    fn metrics_have_the_requested_format() {
        let (json, text, open) =
            (JSON, Format::Prometheus.content_type(), Format::OpenMetrics.content_type());
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, content_type) in [
            ("", json),
            ("*/*", json),
            ("text/html,application/xhtml+xml,*/*;q=0.8", json),
            ("application/json, text/plain, */*", json),
            ("text/plain", text),
            ("text/plain;version=0.0.4;q=1,*/*;q=0.1", text),
            ("text/plain; q=0.9, application/openmetrics-text; q=0.1", text),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", open),
            (prometheus, open),
            ("text/plain;q=0", json),
            ("text/plain;q=nan,;;q=,", json),
        ] {
            assert_eq!(
                header(&ask("/metrics", accept, ""), "Content-Type"),
                content_type,
                "{accept}"
            );
        }
        assert_eq!(header(&ask("/metrics/prometheus", "*/*", ""), "Content-Type"), text);
        assert_eq!(header(&ask("/metrics/prometheus", prometheus, ""), "Content-Type"), open);
    }

    #[test]
    fn too_many_requests_get_429_but_probes_are_exempt() {
        let (site, _reporter) = site();
        let health = request("/health", "", "");
        let answers = (0..1_000).filter_map(|_| site.answer(ASKER, &health));
        let rejected = answers.into_iter().find(|answer| answer.status == 429).unwrap();
        for probe in ["/livez", "/readyz"] {
            assert_eq!(site.answer(ASKER, &request(probe, "", "")).unwrap().status, 200, "{probe}");
        }
        assert_eq!(header(&rejected, "Retry-After"), "1");
        assert_eq!(rejected.body.as_ref(), br#"{"error":"Too many requests"}"#);
    }

    #[test]
    fn slow_answers_are_queued_for_the_reporter_and_a_full_queue_gets_503() {
        let (site, reporter) = site();
        let metrics = request("/metrics", "", "");
        assert_eq!(site.answer(ASKER, &metrics), None);
        let rejected = (0..90).find_map(|_| site.answer(ASKER, &metrics)).unwrap();
        assert_eq!((rejected.status, header(&rejected, "Retry-After")), (503, "1"));
        assert_eq!(site.answer(ASKER, &request("/health", "", "")).unwrap().status, 200);
        let (posted, answers) = crossbeam_channel::unbounded();
        // The first try finds a full mailbox.
        let tries = std::sync::atomic::AtomicU32::new(0);
        let post = move |asker, answer: HttpResponse| match tries
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
        {
            0 => Err(answer),
            _ => posted.send((asker, answer)).map_err(|error| error.0.1),
        };
        let thread = reporter.start(post).unwrap();
        drop(site);
        thread.join().unwrap();
        let answers: Vec<_> = answers.iter().collect();
        assert_eq!(answers.len(), 64);
        assert!(answers.iter().all(|(asker, answer)| *asker == ASKER && answer.status == 200));
    }

    #[test]
    fn a_rejected_request_does_not_reach_the_reporter() {
        let (site, reporter) = site();
        let forwarded = HttpRequest { forwarded: true, ..request("/metrics", "", "") };
        assert_eq!(site.answer(ASKER, &forwarded).unwrap().status, 403);
        drop(site);
        let thread = reporter.start(|_, answer| panic!("{answer:?}")).unwrap();
        assert!(thread.join().is_ok());
    }

    #[test]
    fn a_client_that_accepts_gzip_gets_compressed_answers() {
        let (site, reporter) = site();
        for path in ["/metrics/prometheus", "/asyncapi.json", "/app.js"] {
            let whole = request(path, "", "");
            let packed = HttpRequest { takes_gzip: true, ..whole.clone() };
            let ask = |request| {
                site.answer(ASKER, request).unwrap_or_else(|| reporter.reports.answer(request))
            };
            let (whole, packed) = (ask(&whole), ask(&packed));
            let encodings = [&whole, &packed].map(|answer| header(answer, "Content-Encoding"));
            assert_eq!(encodings, ["", "gzip"], "{path}");
            assert!(header(&whole, "Vary").contains("Accept-Encoding"), "{path}");
            assert!(packed.body.len() * 2 < whole.body.len(), "{path}");
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(packed.body.as_ref()).read_to_end(&mut unpacked).unwrap();
            let words = |body: &[u8]| String::from_utf8_lossy(body).split([' ', '\n']).count();
            assert_eq!(words(&unpacked), words(&whole.body), "{path}");
        }
        let health = HttpRequest { takes_gzip: true, ..request("/health", "", "") };
        assert_eq!(header(&site.answer(ASKER, &health).unwrap(), "Content-Encoding"), "");
    }

    #[test]
    fn an_unknown_path_gets_404_as_json_or_as_a_page() {
        let program = ask("/nowhere", "*/*", "");
        assert_eq!((program.status, header(&program, "Content-Type")), (404, JSON));
        let person = ask("/nowhere", "text/html,application/xhtml+xml;q=0.9", "");
        assert_eq!((person.status, header(&person, "Content-Type")), (404, HTML));
        for path in ["/health/", "//", "/../etc/passwd", "/index.html%00", ""] {
            assert_eq!(ask(path, "", "").status, 404, "{path}");
        }
    }

    #[test]
    fn a_misspelled_socket_io_path_gets_a_hint() {
        for path in ["/socket.io", "/socketio/", "/Socket.IO/", "/socket.io/extra"] {
            let answer = ask(path, "text/html", "");
            assert_eq!(answer.status, 404, "{path}");
            assert!(
                String::from_utf8_lossy(&answer.body).contains("/socket.io/ (with the slash"),
                "{path}"
            );
        }
        assert!(serde_json::from_str::<serde_json::Value>(NEARLY_SOCKET_IO).is_ok());
    }

    #[test]
    fn a_known_page_gets_304_without_a_body() {
        let page = ask("/", "text/html", "");
        assert_eq!((page.status, header(&page, "Content-Type")), (200, HTML));
        assert!(matches!(page.body, Cow::Borrowed(_)));
        let tag = header(&page, "ETag").to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()]
        {
            let again = ask("/", "text/html", &known);
            assert_eq!((again.status, again.body.len()), (304, 0), "{known}");
            assert_eq!(header(&again, "ETag"), tag);
        }
        assert_eq!(ask("/", "text/html", "\"other\"").status, 200);
    }
}
