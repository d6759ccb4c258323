//! HTTP/1, as far as a server needs it that upgrades connections and answers small requests.
//!
//! httparse splits the head. The checks on top of it keep us and a proxy in front of us from
//! reading the same bytes differently: one length, one host, no folded lines, no bare line ends, no
//! chunks.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use tungstenite::handshake::derive_accept_key;

use crate::words::origins::Origins;
use crate::words::policy::{Hosts, Named};
use crate::words::time::UnixMillis;

/// Maximum bytes of a request head, including the empty line that ends it.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Maximum number of header lines of a request.
pub const HEADERS_MAX: usize = 64;

/// Maximum bytes of a request target.
pub const TARGET_BYTES_MAX: usize = 2 * 1024;

/// Finds the end of a head that arrives in pieces, and reads no byte twice.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct HeadReader {
    seen: u16,
    /// Number of bytes of the `\r\n\r\n` that the last bytes match.
    ending: u8,
}

impl HeadReader {
    /// Reads the request at the start of `bytes`. Returns it with the length of its head, `None`
    /// while the head is incomplete.
    ///
    /// `bytes` begins with the bytes of earlier calls. After a request the reader is ready for the
    /// next one. After a rejection the connection must be closed, because the start of the next
    /// request is unknown.
    pub fn parse<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Request<'a>, usize)>, Rejected> {
        while let Some(&byte) = bytes.get(usize::from(self.seen)) {
            if usize::from(self.seen) == HEAD_BYTES_MAX {
                return Err(Rejected::HEAD_TOO_LARGE);
            }
            self.ending = match (self.ending, byte) {
                (0 | 2, b'\r') => self.ending + 1,
                (1 | 3, b'\n') => self.ending + 1,
                (1 | 3, _) | (_, b'\n' | 0..=8 | 11..=31 | 127) => {
                    return Err(Rejected::BAD_REQUEST);
                }
                _ => 0,
            };
            self.seen += 1;
            if self.ending == 4 {
                let head_len = usize::from(self.seen);
                *self = Self::default();
                return Request::parse(&bytes[..head_len]).map(|request| Some((request, head_len)));
            }
        }
        Ok(None)
    }
}

/// The head of a request. Its parts are as they were sent, and checked as far as said here.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The path, percent-encoded, which begins with `/` or is `*`.
    pub path: &'a str,
    /// The query without its `?`, percent-encoded, empty if there is none.
    pub query: &'a str,
    /// Whether the connection may be used again after the answer.
    pub keep_alive: bool,
    /// Number of bytes of the body. Zero for `GET`, `HEAD` and upgrades: they are rejected with a
    /// body, because a server that answers without reading it would take it for the next request.
    pub content_length: u64,
    /// The host in a target of the form `http://host/path`.
    authority: Option<&'a str>,
    is_http_1_1: bool,
    headers: [httparse::Header<'a>; HEADERS_MAX],
    header_count: usize,
}

/// A request method.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `POST`.
    Post,
    /// `OPTIONS`.
    Options,
    /// Any other.
    Other,
}

impl<'a> Request<'a> {
    fn parse(head: &'a [u8]) -> Result<Self, Rejected> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(Rejected::HEAD_TOO_LARGE),
            _ => return Err(Rejected::BAD_REQUEST),
        }
        let (Some(method), Some(target), Some(version)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(Rejected::BAD_REQUEST);
        };
        if target.len() > TARGET_BYTES_MAX {
            return Err(Rejected::TARGET_TOO_LONG);
        }
        let method = Method::of(method);
        let (authority, path, query) = split_target(target, method).ok_or(Rejected::BAD_REQUEST)?;
        let header_count = parsed.headers.len();
        let mut request = Self {
            method,
            path,
            query,
            keep_alive: false,
            content_length: 0,
            authority,
            is_http_1_1: version == 1,
            headers,
            header_count,
        };
        request.check_host()?;
        request.content_length = request.body_length()?;
        request.keep_alive = match request.is_http_1_1 {
            true => !request.has_token("connection", "close"),
            false => request.has_token("connection", "keep-alive"),
        };
        Ok(request)
    }

    /// Returns the value of a header without white space around it. `None` if the header is
    /// missing, repeated or not UTF-8.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut all = self.all(name);
        let value = all.next()?;
        if all.next().is_some() { None } else { std::str::from_utf8(value).ok() }
    }

    /// Returns the items of a header that is a list, over one line or several.
    pub fn list(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let values = self.all(name).filter_map(|value| std::str::from_utf8(value).ok());
        values.flat_map(|value| value.split(',')).map(|item| item.trim_matches([' ', '\t']))
    }

    /// Whether a header that is a list, over one line or several, has this item in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|item| item.eq_ignore_ascii_case(token))
    }

    /// Returns a parameter of the query, decoded. If it is repeated, the last one counts.
    pub fn parameter(&self, name: &str) -> Option<Cow<'a, str>> {
        let pairs = self.query.rsplit('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut found = pairs.filter(|(key, _)| decode(key) == name);
        found.next().map(|(_, value)| decode(value))
    }

    /// Whether the client asks for a WebSocket, correctly or not; see [`upgrade`].
    pub fn wants_upgrade(&self) -> bool {
        self.has_token("upgrade", "websocket") && self.has_token("connection", "upgrade")
    }

    /// Returns the values of all header lines of this name in order, as they were sent.
    pub fn all(&self, name: &str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        let headers = self.headers[..self.header_count].iter();
        headers
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    /// Returns the values of all cookies of this name, over one header line or several.
    pub fn cookies(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let pairs = self.all("cookie").flat_map(|line| line.split(|byte| *byte == b';'));
        pairs.filter_map(move |pair| {
            pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")
        })
    }

    /// Whether a header line shows that a proxy forwarded the request. The header's name alone
    /// counts.
    pub fn is_forwarded(&self) -> bool {
        let headers = &self.headers[..self.header_count];
        let names =
            |name: &str| FORWARDING_HEADERS.iter().any(|known| known.eq_ignore_ascii_case(name));
        let begins = |name: &str| {
            name.get(..FORWARDING_PREFIX.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(FORWARDING_PREFIX))
        };
        headers.iter().any(|header| names(header.name) || begins(header.name))
    }

    /// Returns the names by which the request calls the server: `Host`, and the host in its target.
    pub fn hosts(&self) -> impl Iterator<Item = &'a str> {
        self.header("host").into_iter().chain(self.authority)
    }

    /// Returns the trust in the name that the request uses for the server. Of two names the less
    /// trusted counts, and a missing name is foreign.
    pub fn named(&self, hosts: &Hosts) -> Named {
        self.hosts().map(|host| hosts.judge(host)).max().unwrap_or(Named::Foreign)
    }

    fn check_host(&self) -> Result<(), Rejected> {
        let good = match self.all("host").count() {
            0 => !self.is_http_1_1,
            1 => self.header("host").is_some_and(is_host),
            _ => false,
        };
        if good { Ok(()) } else { Err(Rejected::BAD_REQUEST) }
    }

    fn body_length(&self) -> Result<u64, Rejected> {
        let lengths = self.all("content-length").count();
        let takes_none = matches!(self.method, Method::Get | Method::Head) || self.wants_upgrade();
        if self.all("transfer-encoding").next().is_some() {
            let ambiguous = lengths > 0 || !self.is_http_1_1 || takes_none;
            return Err(if ambiguous { Rejected::BAD_REQUEST } else { Rejected::NO_CHUNKS });
        }
        let length = match (lengths, self.header("content-length")) {
            (0, _) => Ok(0),
            (1, Some(digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| Rejected::BAD_REQUEST)
            }
            _ => Err(Rejected::BAD_REQUEST),
        }?;
        if takes_none && length > 0 { Err(Rejected::BAD_REQUEST) } else { Ok(length) }
    }
}

impl Method {
    fn of(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }
}

/// Headers that proxies add, besides those that begin with [`FORWARDING_PREFIX`].
const FORWARDING_HEADERS: [&str; 19] = [
    "forwarded",
    "forwarded-for",
    "via",
    "cdn-loop",
    "client-ip",
    "proxy-client-ip",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-envoy-external-address",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "fastly-client-ip",
    "fly-client-ip",
    "x-azure-clientip",
    "x-appengine-user-ip",
    "x-proxyuser-ip",
];
const FORWARDING_PREFIX: &str = "x-forwarded";

/// Splits `/path?query`, `http://host/path?query`, or the `*` of `OPTIONS` into host, path and
/// query.
fn split_target(target: &str, method: Method) -> Option<(Option<&str>, &str, &str)> {
    if target == "*" {
        return (method == Method::Options).then_some((None, "*", ""));
    }
    let (authority, local) = match target.split_once("://") {
        Some(("http" | "https", rest)) => {
            let (authority, local) = rest.split_at(rest.find('/')?);
            (Some(authority), local)
        }
        _ => (None, target),
    };
    if !authority.is_none_or(is_host) {
        return None;
    }
    let (path, query) = local.split_once('?').unwrap_or((local, ""));
    (path.starts_with('/') && !local.contains('#')).then_some((authority, path, query))
}

/// Whether this is `name`, `1.2.3.4` or `[::1]`, with or without a port.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                if !address
                    .bytes()
                    .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
                {
                    return false;
                }
                (address, port)
            }
            None => return false,
        },
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:".contains(&byte);
    let is_port = |port: &str| {
        port.is_empty()
            || port
                .strip_prefix(':')
                .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    };
    !name.is_empty() && name.bytes().all(is_name) && is_port(port)
}

/// Decodes percent-encoding, and `+` for a space. Malformed parts stay as they are.
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        decoded.push(match (byte, tail) {
            (b'+', _) => b' ',
            (b'%', [high, low, tail @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = tail;
                    (high * 16 + low) as u8
                }
                _ => b'%',
            },
            _ => *byte,
        });
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

/// The CORS answer to a page, by its origin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cors<'a> {
    /// No header: the request comes from no page, or from one of ours.
    Silent,
    /// All pages may read the answer.
    Any,
    /// The pages of this origin may read the answer.
    Only(&'a str),
    /// Pages of this origin may not read the answer. A browser keeps it from them; an upgrade must
    /// be rejected.
    Denied,
}

impl Origins {
    /// Decides the CORS answer to a request.
    pub fn judge<'a>(&self, request: &Request<'a>) -> Cors<'a> {
        if request.all("origin").next().is_none() {
            return if *self == Self::Any { Cors::Any } else { Cors::Silent };
        }
        // Two origins, or one that is not text, match nothing.
        let Some(origin) = request.header("origin") else { return Cors::Denied };
        match self {
            Self::Any => Cors::Any,
            Self::Listed(list) if list.iter().any(|listed| same_origin(listed, origin)) => {
                Cors::Only(origin)
            }
            _ if is_at_all(origin, request) => Cors::Silent,
            _ => Cors::Denied,
        }
    }
}

fn same_origin(listed: &str, origin: &str) -> bool {
    listed.trim_end_matches('/').eq_ignore_ascii_case(origin)
}

/// Whether the page was served by the host that the request names, by every name that it uses.
fn is_at_all(origin: &str, request: &Request<'_>) -> bool {
    let mut hosts = request.hosts().peekable();
    hosts.peek().is_some() && hosts.all(|host| is_at(origin, host))
}

/// Whether the page was served by this host. A proxy may have removed TLS, so the scheme only
/// decides the default port.
fn is_at(origin: &str, host: &str) -> bool {
    let (authority, port) = match origin.split_once("://") {
        Some(("http", authority)) => (authority, ":80"),
        Some(("https", authority)) => (authority, ":443"),
        _ => return false,
    };
    let bare = |name: &'_ str| name.strip_suffix(port).unwrap_or(name).to_ascii_lowercase();
    bare(authority) == bare(host)
}

/// Headers of every answer that restrict what a browser may do with it.
const SECURITY_HEADERS: [&str; 2] = [
    "X-Content-Type-Options: nosniff\r\n\
    X-Frame-Options: DENY\r\n\
    Referrer-Policy: no-referrer\r\n\
    Content-Security-Policy: default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "\r\n\
    Cross-Origin-Opener-Policy: same-origin\r\n\
    Origin-Agent-Cluster: ?1\r\n\
    X-DNS-Prefetch-Control: off\r\n\
    X-Download-Options: noopen\r\n\
    X-Permitted-Cross-Domain-Policies: none\r\n\
    X-XSS-Protection: 0\r\n\
    Permissions-Policy: camera=(), geolocation=(), microphone=(), payment=(), usb=(), screen-wake-lock=(self)\r\n",
];

/// The header with the pages that may read an answer.
const ALLOWED_ORIGIN: &str = "Access-Control-Allow-Origin";

/// The header with the sources from which a page may load.
const POLICY: &str = "Content-Security-Policy";

/// An answer to print.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The status code.
    pub status: u16,
    /// Headers besides the common ones, such as `Content-Type`. Neither names nor values may
    /// contain line ends. If `Access-Control-Allow-Origin` is among them, pages of every origin may
    /// read the answer. The directives of a `Content-Security-Policy` are added to the common ones.
    pub headers: &'a [(Cow<'static, str>, Cow<'static, str>)],
    /// The body. For `HEAD` it is left out, but its length is sent.
    pub body: &'a [u8],
}

/// The circumstances in which an answer is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delivery<'a> {
    /// Whether the request was `HEAD`.
    pub head: bool,
    /// Whether the connection stays open.
    pub keep_alive: bool,
    /// The CORS answer.
    pub cors: Cors<'a>,
}

impl Response<'_> {
    /// Appends the answer with date, length, connection, security and CORS headers.
    pub fn print(&self, out: &mut Vec<u8>, now: UnixMillis, delivery: Delivery<'_>) {
        print_status(out, self.status);
        let is_shared = self.headers.iter().any(|(name, _)| name == ALLOWED_ORIGIN);
        let policy = self.headers.iter().find(|(name, _)| name == POLICY);
        let own =
            |(name, _): &&(Cow<'_, str>, Cow<'_, str>)| name != ALLOWED_ORIGIN && name != POLICY;
        for (name, value) in self.headers.iter().filter(own) {
            print_header(out, name, value);
        }
        // A 304 has the length of the answer that it stands for, which is unknown here.
        if self.status != 304 {
            print_header(out, "Content-Length", &self.body.len().to_string());
        }
        print_header(out, "Connection", if delivery.keep_alive { "keep-alive" } else { "close" });
        let cors = if is_shared { Cors::Any } else { delivery.cors };
        print_common(out, now, cors, policy.map_or("", |(_, more)| more));
        out.extend_from_slice(b"\r\n");
        if !delivery.head && self.status != 304 {
            out.extend_from_slice(self.body);
        }
    }
}

/// Appends the answer to `OPTIONS`: the requests that a page may send, if it may.
pub fn print_preflight(
    out: &mut Vec<u8>,
    request: &Request<'_>,
    now: UnixMillis,
    delivery: Delivery<'_>,
) {
    print_status(out, 204);
    print_header(out, "Content-Length", "0");
    print_header(out, "Connection", if delivery.keep_alive { "keep-alive" } else { "close" });
    if matches!(delivery.cors, Cors::Any | Cors::Only(_)) {
        print_header(out, "Access-Control-Allow-Methods", "GET,HEAD,POST,OPTIONS");
        if let Some(headers) = request.header("access-control-request-headers") {
            print_header(out, "Access-Control-Allow-Headers", headers);
        }
        print_header(out, "Vary", "Access-Control-Request-Headers");
    }
    print_common(out, now, delivery.cors, "");
    out.extend_from_slice(b"\r\n");
}

/// Appends the headers of every answer: the date, and the policies for browsers. `policy` has more
/// directives of the content security policy, or is empty.
fn print_common(out: &mut Vec<u8>, now: UnixMillis, cors: Cors<'_>, policy: &str) {
    print_date(out, now);
    let [before, after] = SECURITY_HEADERS;
    out.extend_from_slice(before.as_bytes());
    if !policy.is_empty() {
        out.extend_from_slice(b"; ");
        out.extend_from_slice(policy.as_bytes());
    }
    out.extend_from_slice(after.as_bytes());
    let shared = match cors {
        Cors::Silent | Cors::Denied => "same-origin",
        Cors::Any => {
            print_header(out, ALLOWED_ORIGIN, "*");
            "cross-origin"
        }
        Cors::Only(origin) => {
            print_header(out, ALLOWED_ORIGIN, origin);
            print_header(out, "Vary", "Origin");
            "cross-origin"
        }
    };
    print_header(out, "Cross-Origin-Resource-Policy", shared);
}

/// Appends `Date: Sun, 06 Nov 1994 08:49:37 GMT`, in the only form that RFC 9110 allows.
fn print_date(out: &mut Vec<u8>, now: UnixMillis) {
    const LAST: i64 = 253_402_300_799; // the end of the year 9999
    let seconds = now.0.div_euclid(1_000).clamp(0, LAST) as u64;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin with March, so that the leap day is their last day.
    let days_of_era = days + 719_468;
    let (era, day) = (days_of_era / 146_097, days_of_era % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let year = 400 * era + year + u64::from(month >= 10);
    let name = |names: &'static str, index: u64| &names.as_bytes()[3 * index as usize..][..3];
    let digits = |out: &mut Vec<u8>, number: u64| {
        out.extend_from_slice(&[b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]);
    };
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(name("ThuFriSatSunMonTueWed", days % 7));
    out.extend_from_slice(b", ");
    digits(out, day_of_month);
    out.push(b' ');
    out.extend_from_slice(name("MarAprMayJunJulAugSepOctNovDecJanFeb", month));
    out.push(b' ');
    digits(out, year / 100);
    digits(out, year);
    for (before, number) in [(b' ', second / 3_600), (b':', second / 60 % 60), (b':', second % 60)]
    {
        out.push(before);
        digits(out, number);
    }
    out.extend_from_slice(b" GMT\r\n");
}

fn print_status(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(format!("HTTP/1.1 {status} {}\r\n", reason(status)).as_bytes());
}

fn print_header(out: &mut Vec<u8>, name: &str, value: &str) {
    let one_line = |text: &str| !text.bytes().any(|byte| matches!(byte, b'\r' | b'\n'));
    assert!(one_line(name) && one_line(value), "a header is one line: {name}");
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        413 => "Content Too Large",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "",
    }
}

/// The rejection of a request: a short text, after which the connection closes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rejected {
    /// The status code.
    pub status: u16,
    text: &'static str,
    kind: &'static str,
    extra: Option<(&'static str, &'static str)>,
}

impl Rejected {
    /// A malformed request.
    pub const BAD_REQUEST: Self = Self::plain(400, "Bad Request");
    const TARGET_TOO_LONG: Self = Self::plain(414, "URI Too Long");
    const HEAD_TOO_LARGE: Self = Self::plain(431, "Request Header Fields Too Large");
    const NO_CHUNKS: Self = Self::plain(501, "Transfer codings are not supported");
    /// A body larger than a message may be.
    pub const BODY_TOO_LARGE: Self = Self::plain(413, "Content Too Large");

    const fn plain(status: u16, text: &'static str) -> Self {
        Self { status, text, kind: "text/plain; charset=utf-8", extra: None }
    }

    /// Returns the reason as it is printed.
    pub const fn reason(&self) -> &'static str {
        self.text
    }

    /// Appends the answer, which says that the connection closes.
    pub fn print(&self, out: &mut Vec<u8>, now: UnixMillis, cors: Cors<'_>) {
        let mut headers = vec![(Cow::Borrowed("Content-Type"), Cow::Borrowed(self.kind))];
        headers.extend(self.extra.map(|(name, value)| (name.into(), value.into())));
        let response =
            Response { status: self.status, headers: &headers, body: self.text.as_bytes() };
        response.print(out, now, Delivery { head: false, keep_alive: false, cors });
    }
}

/// The reason why Engine.IO rejects a request, by its own codes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rejection {
    /// 0: the transport is missing, unknown or not enabled.
    TransportUnknown,
    /// 1: no session has this `sid`.
    SessionUnknown,
    /// 2: a first request that is not a `GET`.
    BadMethod,
    /// 3: a request for a WebSocket without an upgrade, or one that does not fit the session.
    BadRequest,
    /// 4: this origin may not connect.
    Forbidden,
    /// 5: a version that is not accepted.
    UnsupportedVersion,
}

impl Rejection {
    /// Returns the answer to a plain request: status 400, or 403 for an origin, and a JSON body
    /// with code and message.
    pub fn of_request(self) -> Rejected {
        let (status, text) = match self {
            Self::TransportUnknown => (400, r#"{"code":0,"message":"Transport unknown"}"#),
            Self::SessionUnknown => (400, r#"{"code":1,"message":"Session ID unknown"}"#),
            Self::BadMethod => (400, r#"{"code":2,"message":"Bad handshake method"}"#),
            Self::BadRequest => (400, r#"{"code":3,"message":"Bad request"}"#),
            Self::Forbidden => (403, r#"{"code":4,"message":"Forbidden"}"#),
            Self::UnsupportedVersion => {
                (400, r#"{"code":5,"message":"Unsupported protocol version"}"#)
            }
        };
        Rejected { kind: "application/json", ..Rejected::plain(status, text) }
    }

    /// Returns the answer to an upgrade, which is the message alone. Status 400, as other Engine.IO
    /// servers send, but 403 for an origin, so that an operator finds the cause.
    pub fn of_upgrade(self) -> Rejected {
        let (status, text) = match self {
            Self::TransportUnknown => (400, "Transport unknown"),
            Self::SessionUnknown => (400, "Session ID unknown"),
            Self::BadMethod => (400, "Bad handshake method"),
            Self::BadRequest => (400, "Bad request"),
            Self::Forbidden => (403, "Forbidden"),
            Self::UnsupportedVersion => (400, "Unsupported protocol version"),
        };
        Rejected { kind: "text/html", ..Rejected::plain(status, text) }
    }
}

/// A request for a WebSocket that may be accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Upgrade<'a> {
    key: &'a str,
    protocol: Option<&'a str>,
}

/// Checks a request for a WebSocket by RFC 6455 section 4.2.1.
pub fn upgrade<'a>(request: &Request<'a>) -> Result<Upgrade<'a>, Rejected> {
    if request.method != Method::Get {
        let extra = Some(("Allow", "GET"));
        return Err(Rejected {
            extra,
            ..Rejected::plain(405, "A WebSocket is asked for with GET")
        });
    }
    if !request.is_http_1_1 || !request.wants_upgrade() {
        return Err(Rejected::BAD_REQUEST);
    }
    if request.header("sec-websocket-version") != Some("13") {
        let extra = Some(("Sec-WebSocket-Version", "13"));
        return Err(Rejected {
            extra,
            ..Rejected::plain(426, "Only version 13 of WebSocket is spoken here")
        });
    }
    let key = request
        .header("sec-websocket-key")
        .filter(|key| is_key(key))
        .ok_or(Rejected::BAD_REQUEST)?;
    // Browsers that offer subprotocols reject an answer without one.
    let protocol = request.list("sec-websocket-protocol").find(|name| !name.is_empty());
    Ok(Upgrade { key, protocol })
}

/// Whether this is the base64 of sixteen bytes.
fn is_key(key: &str) -> bool {
    let Some(digits) = key.strip_suffix("==") else { return false };
    digits.len() == 22
        && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

impl Upgrade<'_> {
    /// Appends the answer after which the connection speaks WebSocket, with the agreed extension.
    pub fn print(
        &self,
        out: &mut Vec<u8>,
        now: UnixMillis,
        cors: Cors<'_>,
        extension: Option<&str>,
    ) {
        print_status(out, 101);
        print_header(out, "Upgrade", "websocket");
        print_header(out, "Connection", "Upgrade");
        print_header(out, "Sec-WebSocket-Accept", &derive_accept_key(self.key.as_bytes()));
        if let Some(protocol) = self.protocol {
            print_header(out, "Sec-WebSocket-Protocol", protocol);
        }
        if let Some(extension) = extension {
            print_header(out, "Sec-WebSocket-Extensions", extension);
        }
        print_common(out, now, cors, "");
        out.extend_from_slice(b"\r\n");
    }
}

/// A [`Cors`] that owns its origin.
#[derive(Serialize, Deserialize)]
pub enum OwnedCors {
    /// [`Cors::Silent`].
    Silent,
    /// [`Cors::Any`].
    Any,
    /// [`Cors::Only`].
    Only(String),
    /// [`Cors::Denied`].
    Denied,
}

impl OwnedCors {
    /// Copies a [`Cors`].
    pub fn of(cors: Cors<'_>) -> Self {
        match cors {
            Cors::Silent => Self::Silent,
            Cors::Any => Self::Any,
            Cors::Only(origin) => Self::Only(origin.to_owned()),
            Cors::Denied => Self::Denied,
        }
    }

    /// Returns the [`Cors`], borrowed.
    pub fn as_cors(&self) -> Cors<'_> {
        match self {
            Self::Silent => Cors::Silent,
            Self::Any => Cors::Any,
            Self::Only(origin) => Cors::Only(origin),
            Self::Denied => Cors::Denied,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    const NOW: UnixMillis = UnixMillis(784_111_777_123);

    /// Parses a head whole, cut in two at every place, and byte by byte, with equal results.
    fn parse(head: &str) -> Result<Request<'_>, Rejected> {
        let bytes = head.as_bytes();
        let whole = HeadReader::default().parse(bytes);
        for cut in 0..=bytes.len() {
            let mut reader = HeadReader::default();
            let first = reader.parse(&bytes[..cut]);
            let both = if matches!(first, Ok(None)) { reader.parse(bytes) } else { first };
            assert_eq!(format!("{both:?}"), format!("{whole:?}"), "cut at {cut}");
        }
        let mut reader = HeadReader::default();
        let mut byte_by_byte = (0..=bytes.len()).map(|end| reader.parse(&bytes[..end]));
        let last = byte_by_byte.find(|result| !matches!(result, Ok(None))).unwrap_or(Ok(None));
        assert_eq!(format!("{last:?}"), format!("{whole:?}"), "byte by byte");
        whole.map(|parsed| {
            let (request, length) = parsed.expect("a whole head");
            assert_eq!(length, bytes.len());
            request
        })
    }

    fn get(rest: &str) -> String {
        format!("GET / HTTP/1.1\r\nHost: a\r\n{rest}\r\n")
    }

    fn status(head: &str) -> u16 {
        parse(head).map_or_else(|rejected| rejected.status, |_| 200)
    }

    #[test]
    fn reads_a_handshake() {
        let head = "GET /socket.io/?transport=websocket&EIO=3&EIO=4&t=a%20b+c%zz HTTP/1.1\r\n\
            Host: 192.168.1.7:3001\r\nConnection: keep-alive, Upgrade\r\nUPGRADE: WebSocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key:  dGhlIHNhbXBsZSBub25jZQ== \r\n\r\n";
        let request = parse(head).unwrap();
        assert_eq!((request.method, request.path), (Method::Get, "/socket.io/"));
        assert_eq!(request.parameter("EIO").as_deref(), Some("4"), "the last one counts");
        assert_eq!(request.parameter("t").as_deref(), Some("a b c%zz"));
        assert_eq!(request.parameter("sid"), None);
        assert_eq!(request.header("host"), Some("192.168.1.7:3001"));
        assert!(request.wants_upgrade() && request.keep_alive);

        let mut out = Vec::new();
        upgrade(&request).unwrap().print(&mut out, NOW, Cors::Silent, None);
        let answer = String::from_utf8(out).unwrap();
        assert!(answer.starts_with(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        ));
        assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(!answer.contains("Content-Length") && !answer.contains("Sec-WebSocket-Extensions"));
        assert!(answer.ends_with("\r\n\r\n"));
    }

    #[test]
    fn reads_every_form_of_target() {
        for (line, path, query) in [
            ("GET / HTTP/1.1", "/", ""),
            ("GET /a?b?c HTTP/1.1", "/a", "b?c"),
            ("GET http://a:80/x?y HTTP/1.1", "/x", "y"),
            ("OPTIONS * HTTP/1.1", "*", ""),
            ("GET /http://x HTTP/1.1", "/http://x", ""),
        ] {
            let head = format!("{line}\r\nHost: a\r\n\r\n");
            let request = parse(&head).unwrap();
            assert_eq!((request.path, request.query), (path, query), "{line}");
        }
        for line in [
            "GET * HTTP/1.1",
            "GET a HTTP/1.1",
            "CONNECT a:80 HTTP/1.1",
            "GET http://a HTTP/1.1",
            "GET http:///x HTTP/1.1",
            "GET http://u@a/x HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET / HTTP/2.0",
            "GET /",
            "G\u{e9}T / HTTP/1.1",
            "",
        ] {
            assert_eq!(status(&format!("{line}\r\nHost: a\r\n\r\n")), 400, "{line}");
        }
    }

    #[test]
    fn keeps_alive_by_version_and_connection_header() {
        for (version, connection, keep_alive) in [
            (1, "", true),
            (1, "Connection: close\r\n", false),
            (1, "Connection: foo\r\nConnection: bar, CLOSE\r\n", false),
            (0, "", false),
            (0, "Connection: Keep-Alive\r\n", true),
        ] {
            let head = format!("GET / HTTP/1.{version}\r\nHost: a\r\n{connection}\r\n");
            assert_eq!(parse(&head).unwrap().keep_alive, keep_alive, "{head}");
        }
    }

    #[test]
    fn rejects_heads_that_two_servers_could_read_differently() {
        let cases = [
            (get("Content-Length: 5\r\nContent-Length: 5\r\n"), 400),
            (get("Content-Length: 5, 5\r\n"), 400),
            (get("Content-Length: +5\r\n"), 400),
            (get("Content-Length: \r\n"), 400),
            (get("Content-Length: 99999999999999999999\r\n"), 400),
            (get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400),
            (get("Transfer-Encoding: chunked\r\n"), 400),
            (get("Transfer-Encoding: chunked\r\n").replace("GET", "POST"), 501),
            (get("Transfer-Encoding: identity\r\n").replace("GET", "HEAD"), 400),
            (get("Transfer-Encoding: \r\n"), 400),
            (get("Transfer-Encoding : chunked\r\n"), 400),
            (get("A: b\r\n c\r\n"), 400),
            (get("A: b\n"), 400),
            (get("A: b\rc\r\n"), 400),
            (get("A: b\0\r\n"), 400),
            (get(": b\r\n"), 400),
            (get("Host: b\r\n"), 400),
            ("GET / HTTP/1.1\r\n\r\n".into(), 400),
            ("GET / HTTP/1.0\r\n\r\n".into(), 200),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(), 400),
            // Some old clients send an extra line end after a body.
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 200),
            ("\r\n\r\n".into(), 400),
            ("\u{16}\u{3}\u{1}".into(), 400),
        ];
        for (head, expected) in cases {
            assert_eq!(status(&head), expected, "{head:?}");
        }
        let post = get("Content-Length: 0005\r\n").replace("GET", "POST");
        assert_eq!(parse(&post).unwrap().content_length, 5);
    }

    #[test]
    fn a_request_that_takes_no_body_is_rejected_with_one() {
        let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
            let with = |rest: &str| status(&get(rest).replace("GET", method));
            let takes_one = !matches!(method, "GET" | "HEAD");
            assert_eq!(
                with("Content-Length: 1\r\n"),
                if takes_one { 200 } else { 400 },
                "{method}"
            );
            assert_eq!(with("Content-Length: 00\r\n"), 200, "{method}");
            assert_eq!(with(&format!("Content-Length: 1\r\n{upgrade}")), 400, "{method}");
            assert_eq!(with(&format!("Content-Length: 0\r\n{upgrade}")), 200, "{method}");
            assert_eq!(with(&format!("{upgrade}Transfer-Encoding: chunked\r\n")), 400, "{method}");
        }
    }

    #[test]
    fn prints_the_date() {
        let printed = |seconds: i64| {
            let mut out = Vec::new();
            print_date(&mut out, UnixMillis(seconds * 1_000 + 999));
            String::from_utf8(out).unwrap()
        };
        for (seconds, date) in [
            (-5, "Thu, 01 Jan 1970 00:00:00"),
            (0, "Thu, 01 Jan 1970 00:00:00"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00"),
            (1_798_761_599, "Thu, 31 Dec 2026 23:59:59"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00"),
            (i64::MAX / 1_000 - 1, "Fri, 31 Dec 9999 23:59:59"),
        ] {
            assert_eq!(printed(seconds), format!("Date: {date} GMT\r\n"), "{seconds}");
        }
    }

    #[test]
    fn reads_every_cookie_of_a_name() {
        let head =
            get("Cookie: a=1; io=first;io=second\r\ncookie: xio=no; io= third \r\nX: io=no\r\n");
        let request = parse(&head).unwrap();
        let found: Vec<&[u8]> = request.cookies("io").collect();
        assert_eq!(found, [&b"first"[..], b"second", b" third"]);
        assert_eq!(parse(&get("Cookie: io\r\n")).unwrap().cookies("io").count(), 0);
    }

    #[test]
    fn checks_the_host() {
        for host in ["a", "a.b-c:3001", "127.0.0.1", "[::1]:80", "[fe80::1]", "a:"] {
            assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), 200, "{host}");
        }
        for host in
            ["", ":80", "a b", "a/b", "u@a", "a:b", "[::1", "[::1]x", "[x]", "a:1:2", "é", "a\\b"]
        {
            assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), 400, "{host}");
        }
    }

    #[test]
    fn both_the_host_header_and_the_target_must_name_the_server() {
        let hosts = Hosts::Local(vec!["band.example".into()]);
        for (head, named) in [
            ("GET / HTTP/1.1\r\nHost: localhost:3001\r\n\r\n", Named::Known),
            ("GET / HTTP/1.1\r\nHost: band.example\r\n\r\n", Named::Known),
            ("GET / HTTP/1.1\r\nhOsT: evil.example\r\n\r\n", Named::Foreign),
            ("GET / HTTP/1.0\r\n\r\n", Named::Foreign),
            ("GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", Named::Foreign),
            ("GET http://localhost/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", Named::Foreign),
            ("GET http://[::1]:3001/ HTTP/1.1\r\nHost: localhost\r\n\r\n", Named::Known),
            ("GET https://evil.example/ HTTP/1.0\r\n\r\n", Named::Foreign),
        ] {
            assert_eq!(parse(head).unwrap().named(&hosts), named, "{head}");
        }
    }

    #[test]
    fn a_forwarding_header_counts_whatever_its_value() {
        for line in [
            &b"X-Forwarded-For: 192.0.2.1"[..],
            b"x-FORWARDED-for:",
            b"X-Forwarded-For: \xff",
            b"X-Forwarded-For: a\r\nX-Forwarded-For: b",
            b"Forwarded: for=_x",
            b"Forwarded:",
            b"X-Real-IP: \xc3\x28",
            b"Via: 1.1 \xff",
            b"X-Forwarded-Proto: https",
            b"CF-Connecting-IP: 192.0.2.1",
            b"CDN-Loop: edge",
            b"forwarded-FOR:",
        ] {
            let head = [b"GET / HTTP/1.1\r\nHost: a\r\n", line, b"\r\n\r\n"].concat();
            let (request, _) = HeadReader::default().parse(&head).unwrap().unwrap();
            assert!(request.is_forwarded(), "{}", line.escape_ascii());
        }
        assert!(!parse(&get("X-Other: forwarded\r\nForwarded-By: x\r\n")).unwrap().is_forwarded());
    }

    #[test]
    fn bounds_the_head() {
        let long =
            |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - 1));
        assert_eq!(status(&long(TARGET_BYTES_MAX)), 200);
        assert_eq!(status(&long(TARGET_BYTES_MAX + 1)), 414);

        let many = |count: usize| get(&"a: b\r\n".repeat(count - 1));
        assert_eq!(status(&many(HEADERS_MAX)), 200);
        assert_eq!(status(&many(HEADERS_MAX + 1)), 431);

        let frame = get("a: \r\n").len();
        let filled = |length: usize| get(&format!("a: {}\r\n", "x".repeat(length - frame)));
        let head_of = |length| {
            HeadReader::default().parse(filled(length).as_bytes()).map(|head| head.is_some())
        };
        assert_eq!(head_of(HEAD_BYTES_MAX), Ok(true));
        assert_eq!(head_of(HEAD_BYTES_MAX + 1), Err(Rejected::HEAD_TOO_LARGE));
        let endless = "GET / HTTP/1.1\r\na: ".to_owned() + &"x".repeat(HEAD_BYTES_MAX);
        assert_eq!(HeadReader::default().parse(endless.as_bytes()).unwrap_err().status, 431);
    }

    #[test]
    fn reads_one_request_after_the_other() {
        let two = [get(""), get("Connection: close\r\n")].concat();
        let mut reader = HeadReader::default();
        let (first, length) = reader.parse(two.as_bytes()).unwrap().unwrap();
        let (second, _) = reader.parse(&two.as_bytes()[length..]).unwrap().unwrap();
        assert!(first.keep_alive && !second.keep_alive);
    }

    #[test]
    fn upgrades_to_websocket_only_as_the_rfc_requires() {
        let head = |method: &str, version: &str, key: &str, rest: &str| {
            format!(
                "{method} / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {key}\r\n{rest}\r\n"
            )
        };
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let judged = |head: &str| {
            upgrade(&parse(head).unwrap()).map_or_else(|rejected| rejected.status, |_| 101)
        };
        assert_eq!(judged(&head("GET", "13", key, "")), 101);
        assert_eq!(judged(&head("POST", "13", key, "")), 405);
        assert_eq!(judged(&head("GET", "8", key, "")), 426);
        assert_eq!(judged(&head("GET", "", key, "")), 426);
        assert_eq!(judged(&head("GET", "13", key, "Sec-WebSocket-Version: 13\r\n")), 426);
        for bad in [
            "",
            "short",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZQ===",
            "AAAA==",
            "dGhlIHNhbXBsZSBub2-jZQ==",
        ] {
            assert_eq!(judged(&head("GET", "13", bad, "")), 400, "{bad}");
        }
        assert_eq!(judged(&head("GET", "13", key, "Sec-WebSocket-Key: x\r\n")), 400);
        assert_eq!(judged(&get("")), 400);
        assert_eq!(
            judged(&head("GET", "13", key, "").replace("Connection: upgrade", "Connection: close")),
            400
        );

        let offered = head("GET", "13", key, "Sec-WebSocket-Protocol: chat, other\r\n");
        let mut out = Vec::new();
        upgrade(&parse(&offered).unwrap()).unwrap().print(
            &mut out,
            NOW,
            Cors::Only("http://b"),
            None,
        );
        let answer = String::from_utf8(out).unwrap();
        assert!(answer.contains("\r\nSec-WebSocket-Protocol: chat\r\n"));
        assert!(answer.contains("\r\nAccess-Control-Allow-Origin: http://b\r\nVary: Origin\r\n"));
    }

    #[test]
    fn judges_origins() {
        let listed = Origins::Listed(vec!["https://band.example/".into(), "null".into()]);
        let cases: &[(&Origins, &str, Cors<'_>)] = &[
            (&Origins::Own, "", Cors::Silent),
            (&Origins::Own, "Origin: http://A:3001\r\n", Cors::Silent),
            (&Origins::Own, "Origin: https://a:3001\r\n", Cors::Silent),
            (&Origins::Own, "Origin: http://a\r\n", Cors::Denied),
            (&Origins::Own, "Origin: http://a:3001.evil.example\r\n", Cors::Denied),
            (&Origins::Own, "Origin: http://b:3001\r\n", Cors::Denied),
            (&Origins::Own, "Origin: null\r\n", Cors::Denied),
            (&Origins::Own, "Origin: http://a:3001\r\nOrigin: http://b\r\n", Cors::Denied),
            (&Origins::Any, "", Cors::Any),
            (&Origins::Any, "Origin: http://b\r\n", Cors::Any),
            (&listed, "Origin: http://a:3001\r\n", Cors::Silent),
            (&listed, "Origin: https://band.example\r\n", Cors::Only("https://band.example")),
            (&listed, "Origin: null\r\n", Cors::Only("null")),
            (&listed, "Origin: http://band.example\r\n", Cors::Denied),
            (&listed, "Origin: https://band.example.evil.example\r\n", Cors::Denied),
        ];
        for (origins, header, expected) in cases {
            let head = format!("GET / HTTP/1.1\r\nHost: a:3001\r\n{header}\r\n");
            assert_eq!(origins.judge(&parse(&head).unwrap()), *expected, "{origins:?} {header}");
        }
        for (origin, host) in
            [("http://a", "a:80"), ("http://a:80", "a"), ("https://a", "a:443"), ("https://a", "a")]
        {
            assert!(is_at(origin, host), "{origin} {host}");
        }
        assert!(!is_at("https://a", "a:80"));
    }

    #[test]
    fn prints_answers() {
        let headers = [(Cow::Borrowed("Content-Type"), Cow::Borrowed("text/plain"))];
        let response = Response { status: 200, headers: &headers, body: b"hello" };
        let delivery = Delivery { head: false, keep_alive: true, cors: Cors::Silent };
        let printed = |response: Response<'_>, delivery| {
            let mut out = Vec::new();
            response.print(&mut out, NOW, delivery);
            String::from_utf8(out).unwrap()
        };
        let answer = printed(response, delivery);
        assert_eq!(
            answer,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n\
             Content-Security-Policy: default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
             Cross-Origin-Opener-Policy: same-origin\r\nOrigin-Agent-Cluster: ?1\r\n\
             X-DNS-Prefetch-Control: off\r\nX-Download-Options: noopen\r\n\
             X-Permitted-Cross-Domain-Policies: none\r\nX-XSS-Protection: 0\r\n\
             Permissions-Policy: camera=(), geolocation=(), microphone=(), payment=(), usb=(), \
             screen-wake-lock=(self)\r\nCross-Origin-Resource-Policy: same-origin\r\n\r\nhello"
        );
        let head = printed(response, Delivery { head: true, ..delivery });
        assert_eq!(head, answer.strip_suffix("hello").unwrap());

        let policy = [(Cow::Borrowed("Content-Security-Policy"), Cow::Borrowed("media-src blob:"))];
        let page = printed(Response { status: 200, headers: &policy, body: b"" }, delivery);
        assert_eq!(page.matches("Content-Security-Policy").count(), 1, "{page}");
        assert!(page.contains("frame-ancestors 'none'; media-src blob:\r\nCross-Origin"), "{page}");
        let unchanged = printed(Response { status: 304, headers: &[], body: b"" }, delivery);
        assert!(!unchanged.contains("Content-Length"));

        let closing =
            printed(response, Delivery { keep_alive: false, cors: Cors::Any, ..delivery });
        assert!(closing.contains("\r\nConnection: close\r\n"));
        assert!(closing.contains("\r\nAccess-Control-Allow-Origin: *\r\n"));
        assert!(closing.contains("\r\nCross-Origin-Resource-Policy: cross-origin\r\n"));

        let headers = [(Cow::Borrowed(ALLOWED_ORIGIN), Cow::Borrowed("*"))];
        for cors in [Cors::Silent, Cors::Denied, Cors::Only("http://b"), Cors::Any] {
            let shared =
                printed(Response { headers: &headers, ..response }, Delivery { cors, ..delivery });
            assert_eq!(shared.matches("Access-Control-Allow-Origin: *\r\n").count(), 1, "{shared}");
            assert_eq!(shared.matches("Access-Control-Allow-Origin").count(), 1, "{shared}");
            assert!(shared.contains("Cross-Origin-Resource-Policy: cross-origin\r\n"), "{shared}");
        }
    }

    #[test]
    fn answers_a_preflight() {
        let head = "OPTIONS /socket.io/ HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\n\
            Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-one, x-two\r\n\r\n";
        let request = parse(head).unwrap();
        let printed = |cors| {
            let mut out = Vec::new();
            print_preflight(
                &mut out,
                &request,
                NOW,
                Delivery { head: false, keep_alive: true, cors },
            );
            String::from_utf8(out).unwrap()
        };
        let allowed = printed(Cors::Only("http://b"));
        assert!(allowed.starts_with("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n"));
        assert!(allowed.contains("\r\nAccess-Control-Allow-Headers: x-one, x-two\r\n"));
        assert!(allowed.contains("\r\nAccess-Control-Allow-Methods: "));
        assert!(!printed(Cors::Denied).contains("Access-Control"));
    }

    #[test]
    fn prints_rejections() {
        let printed = |rejected: Rejected| {
            let mut out = Vec::new();
            rejected.print(&mut out, NOW, Cors::Silent);
            String::from_utf8(out).unwrap()
        };
        let plain = printed(Rejection::TransportUnknown.of_request());
        assert!(
            plain.starts_with("HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n")
        );
        assert!(plain.ends_with("\r\n\r\n{\"code\":0,\"message\":\"Transport unknown\"}"));
        assert!(plain.contains("\r\nConnection: close\r\n"));
        let upgrade = printed(Rejection::UnsupportedVersion.of_upgrade());
        assert!(upgrade.starts_with("HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n"));
        assert!(upgrade.ends_with("\r\n\r\nUnsupported protocol version"));
        assert!(printed(Rejection::Forbidden.of_request()).starts_with("HTTP/1.1 403 "));

        let old = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let rejected = printed(super::upgrade(&parse(old).unwrap()).unwrap_err());
        assert!(rejected.contains("\r\nSec-WebSocket-Version: 13\r\n"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn random_heads_are_parsed_the_same_for_any_split(
            lines in prop::collection::vec("[ -~\\t\u{e9}]{0,16}", 0..4), end in "(\r\n|\n|\r|\0)",
        ) {
            let head = format!("GET /{} HTTP/1.1\r\nHost: a{end}{}\r\n\r\n", lines.len(), lines.join(&end));
            let whole = HeadReader::default().parse(head.as_bytes()).map(|head| head.map(|(_, length)| length));
            let mut reader = HeadReader::default();
            let mut pieces = (0..=head.len()).map(|to| reader.parse(&head.as_bytes()[..to]));
            let found = pieces.find_map(|result| result.map(|head| head.map(|(_, length)| length)).transpose());
            prop_assert_eq!(found.transpose(), whole);
        }
    }
}
