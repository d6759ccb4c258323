//! From what people gave, as text and from four places, to one checked value that never changes
//! again.

pub mod dotenv;
pub mod raw;
pub mod table;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use bandsync_engine::io::{Goodbye, Settings, Transports, Version3};
use bandsync_engine::words;
use bandsync_engine::words::application::Application;
use bandsync_engine::words::compression::Compression;
use bandsync_engine::words::ids::ShardId;
use bandsync_engine::words::limits::RateLimits;
use bandsync_engine::words::manners::{Hosts, Manners, Network, PeerLimits};
use bandsync_engine::words::origins::Origins;
use bandsync_engine::words::rng::Seed;
use bandsync_engine::words::time::Micros;
use bandsync_storage::{self as storage, Endpoint, Target, Topology};

use self::table::{self, Allowed, Predecessor, Setting};
use crate::config::dotenv::DotEnvError;
use crate::config::raw::{Cores, Found, Given, Source};
use crate::http::Token;
use crate::monitor::{self, thresholds::Limits};
use crate::ops::logging::{Levels, LogFormat};

/// Everything the server needs to know before it starts.
#[derive(Debug)]
pub struct Config {
    /// Which set of defaults applied.
    pub profile: Profile,
    /// Where to listen; `::` = on all addresses, IPv4 included.
    pub host: IpAddr,
    /// The port asked for; 0 = any free one.
    pub port: u16,
    /// How many shards.
    pub shards: u16,
    /// Whether each shard stays on a core of its own.
    pub pin: bool,
    /// Cores that the process may use.
    pub cores: Cores,
    /// Whether the sends of a turn go out through io_uring, where the kernel has it.
    pub ring: bool,
    /// What is worth a line in the log.
    pub log_levels: Levels,
    /// How such a line looks.
    pub log_format: LogFormat,
    /// Where the log goes instead of standard error.
    pub log_file: Option<PathBuf>,
    /// What latencies are compared with.
    pub target_latency: Duration,
    /// How often percentiles begin anew.
    pub metrics_interval: Duration,
    /// What is trouble.
    pub alert_limits: Limits,
    /// Where alerts are posted.
    pub alert_webhook: Option<String>,
    /// Who sends it may see the dashboard from elsewhere.
    pub admin_token: Option<Token>,
    /// HTTP requests that one address may make in a second; 0 = any number.
    pub http_requests: u32,
    /// How long goodbyes may take.
    pub drain_timeout: Duration,
    /// How long a shard may hang before the process ends itself.
    pub stall_limit: Option<Duration>,
    /// Where and how to record, if at all.
    pub record: Option<Record>,
    /// Where sessions are kept.
    pub storage: storage::Plan,
    /// What every shard's engine is told; which shard it is, and the time, are filled in when it
    /// starts.
    pub engine: Settings,
    /// Every setting with its unit and where it came from.
    pub effective: Vec<Effective>,
    /// What to warn of at start.
    pub notes: Vec<String>,
}

/// How to record.
#[derive(Debug, Eq, PartialEq)]
pub struct Record {
    pub directory: PathBuf,
    pub file_bytes_max: u64,
    pub file_span_max: Micros,
    /// Of each shard.
    pub files_max: u32,
}

/// A set of defaults.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Profile {
    Development,
    Production,
}

/// A setting as it holds, for showing.
#[derive(Debug, Eq, PartialEq)]
pub struct Effective {
    variable: &'static str,
    value: String,
    unit: &'static str,
    source: Source,
    /// Whether it is something else than the default of its profile.
    pub differs: bool,
}

/// Why there is no configuration.
#[derive(Debug, Eq, PartialEq)]
pub enum ConfigError {
    /// A value that is not allowed: the name as it was given, the value, and what would be allowed.
    Refused { name: String, value: String, allowed: String },
    /// The profile `internet` without what it takes: the variable, and what to give there.
    Unsafe(&'static str, &'static str),
    /// The operating system gives no random numbers, for this reason.
    NoRandomness(String),
    /// The file `.env` cannot be used.
    DotEnv(DotEnvError),
}

impl Config {
    /// Checks everything. The first value that is not allowed is the error.
    pub fn check(given: &Given) -> Result<Self, ConfigError> {
        let mut notes = Vec::new();
        let profile = profile(given, &mut notes)?;
        let mut values = Values {
            given,
            profile,
            effective: Vec::new(),
            predecessors: Vec::new(),
            notes: Vec::new(),
        };
        values.one_of(&table::PROFILE)?;
        let port = values.whole(&table::PORT)?;
        let host = values.told(&table::HOST, host)?;
        let shards =
            values.whole_or(&table::SHARDS, u64::from(given.cores.usable().clamp(1, 256)))?;
        let pin = values.switch(&table::PIN_CORES, given.cores.pins(shards))?;
        let log_levels = values.told(&table::LOG_LEVEL, Levels::parse)?;
        let ring = values.switch(&table::IO_URING, true)?;
        let log_format = match values.one_of(&table::LOG_FORMAT)?.as_str() {
            "pretty" => LogFormat::Pretty,
            "json" => LogFormat::Json,
            _ if profile == Profile::Production => LogFormat::JsonUnlessTerminal,
            _ => LogFormat::Pretty,
        };
        let log_file = values.unless_none(&table::LOG_FILE, |path| Some(PathBuf::from(path)))?;
        let polling = values.one_of(&table::TRANSPORTS)?.contains("polling");
        let is_internet = values.find(&table::SECURITY_PROFILE).text == "internet";
        let version_3 = match values.one_of(&table::ENGINE_IO_3)?.as_str() {
            "off" => Version3::Off,
            "auto" if is_internet => Version3::WebSocketOnly,
            _ => Version3::On,
        };
        let compresses = values.one_of(&table::COMPRESSION)? == "on";
        let compression = Compression {
            threshold: values.count(&table::COMPRESSION_THRESHOLD)?,
            level: values.whole(&table::COMPRESSION_LEVEL)? as u8,
            context_takeover: values.one_of(&table::CONTEXT_TAKEOVER)? == "on",
        };
        let recovery = values.millis(&table::RECOVERY_WINDOW)?;
        let origins = values.told(&table::CORS_ORIGIN, origins)?;
        let target_latency = Duration::from_millis(values.whole(&table::SYNC_TARGET_LATENCY)?);
        let tick_interval = values.millis(&table::SCROLL_TICK_INTERVAL)?;
        let batch_interval = values.millis(&table::BATCH_INTERVAL)?;
        let ping_interval = values.millis(&table::SOCKET_PING_INTERVAL)?;
        let ping_timeout = values.millis(&table::SOCKET_PING_TIMEOUT)?;
        let heartbeat_interval = values.millis(&table::HEARTBEAT_INTERVAL)?;
        let leader_grace = values.millis(&table::LEADER_GRACE)?;
        let session_members_max = values.count(&table::MAX_SESSION_MEMBERS)?;
        let message_bytes_max = values.count(&table::MAX_MESSAGE_BYTES)?;
        let limits = words::limits::Limits {
            connections_max: values.count(&table::MAX_CONNECTIONS)?,
            sessions_max: values.count(&table::MAX_SESSIONS)?,
            message_bytes_max,
            backlog_bytes_max: message_bytes_max
                .saturating_mul(2)
                .max(words::limits::Limits::PRODUCTION.backlog_bytes_max),
            empty_session_ttl: values.millis(&table::SESSION_TTL)?,
            ..words::limits::Limits::PRODUCTION
        };
        let (manners, http_requests) = values.manners(&origins)?;
        let storage = storage_plan(&mut values)?;
        let storage_wait = match storage.target {
            Target::Memory => None,
            Target::File(_) | Target::Redis(_) => {
                Some(Micros::from_micros(storage.wait.as_micros() as u64))
            }
        };
        let drain_timeout = Duration::from_millis(values.whole(&table::DRAIN_TIMEOUT)?);
        let goodbye = match values.one_of(&table::DRAIN_GOODBYE)?.as_str() {
            "reconnect" => Goodbye::Reconnect,
            _ => Goodbye::Disconnect,
        };
        let stall_limit = Duration::from_millis(values.whole(&table::STALL_LIMIT)?);
        let stall_limit = (stall_limit > Duration::ZERO).then_some(stall_limit);
        let metrics_interval = Duration::from_millis(values.whole(&table::METRICS_INTERVAL)?);
        let alert_limits = Limits {
            target_latency_ms: target_latency.as_secs_f64() * 1_000.0,
            latency_ms: values.whole(&table::ALERT_LATENCY)? as f64,
            cpu_percent: values.whole(&table::ALERT_CPU)? as f64,
            cpu_time: Duration::from_millis(values.whole(&table::ALERT_CPU_TIME)?),
            memory_bytes: values.whole(&table::MEMORY_THRESHOLD)? * 1_000_000,
            memory_limit_bytes: values.whole(&table::MEMORY_LIMIT)? * 1_000_000,
            heartbeat: Duration::from_micros(heartbeat_interval.as_micros()),
        };
        let alert_webhook = values.unless_none(&table::ALERT_WEBHOOK, webhook)?;
        let admin_token = values.unless_none(&table::ADMIN_TOKEN, Token::parse)?;
        let seed = values.seed()?;
        let record = Record {
            directory: values.told(&table::RECORD_DIR, |text| Some(PathBuf::from(text)))?,
            file_bytes_max: values.whole(&table::RECORD_MAX_BYTES)?,
            file_span_max: values.millis(&table::RECORD_MAX_AGE)?,
            files_max: values.count(&table::RECORD_KEEP)?,
        };
        let record = (record.directory.as_os_str() != "off").then_some(record);
        // Secrets cannot be covered in what is compressed.
        let compression = (compresses && record.is_none()).then_some(compression);
        let Values { effective, predecessors, notes: refused, .. } = values;
        notes.extend(given.service_links());
        notes.extend(refused);
        let used: Vec<&str> = predecessors.iter().flat_map(|old| old.variables).copied().collect();
        notes.extend(inherited(&predecessors, &effective));
        notes.extend(given.unused(&used));
        Ok(Self {
            profile,
            host,
            port: port as u16,
            shards: shards as u16,
            pin,
            cores: given.cores,
            log_levels,
            ring,
            log_format,
            log_file,
            target_latency,
            metrics_interval,
            alert_limits,
            alert_webhook,
            admin_token,
            http_requests,
            drain_timeout,
            stall_limit,
            record,
            storage,
            engine: Settings {
                shard: ShardId(0),
                shards: shards as u16,
                seed,
                started_unix_ms: 0,
                limits,
                tick_interval,
                batch_interval,
                ping_interval,
                ping_timeout,
                heartbeat_interval,
                leader_grace,
                session_members_max,
                origins,
                storage_wait,
                goodbye,
                transports: Transports { polling, version_3, compression, recovery },
                application: Application::Band,
                manners,
            },
            effective,
            notes,
        })
    }
}

impl Config {
    /// What the monitor is to do.
    pub fn monitoring(&self) -> monitor::Plan {
        monitor::Plan {
            interval: self.metrics_interval,
            limits: self.alert_limits,
            stall_limit: self.stall_limit,
            webhook: self.alert_webhook.clone(),
            store: None,
        }
    }
}

/// Characters of a new passcode or PIN where strangers may guess: eight digits last for years at
/// the rate that many addresses together have (`Guessing`).
const SECRET_CHARS_ON_THE_INTERNET: u32 = 8;

/// `NODE_ENV` belongs to others as well, who set it to `test` or `staging`: such a value is no
/// mistake.
fn profile(given: &Given, notes: &mut Vec<String>) -> Result<Profile, ConfigError> {
    if let Some(found) = given.find(&table::PROFILE) {
        return Profile::parse(&found.text).ok_or_else(|| refused(&table::PROFILE, found));
    }
    let Some(value) = given.plain("NODE_ENV") else { return Ok(Profile::Development) };
    Ok(Profile::parse(value).unwrap_or_else(|| {
        notes.push(format!(
            "NODE_ENV is {value:?}, neither development nor production: development holds"
        ));
        Profile::Development
    }))
}

/// One sentence about what variables of the Node.js server set, if they set anything.
fn inherited(predecessors: &[&Predecessor], effective: &[Effective]) -> Option<String> {
    let sets = predecessors.iter().filter_map(|old| {
        let now = effective.iter().find(|now| now.variable == old.setting.variable)?;
        let Source::Predecessor(variable) = now.source else { return None };
        Some(format!("{variable} sets {}", now.assignment()))
    });
    let sets: Vec<String> = sets.collect();
    (!sets.is_empty())
        .then(|| format!("variables of the Node.js server are used: {}", sets.join(", ")))
}

impl Profile {
    fn parse(text: &str) -> Option<Self> {
        [Self::Development, Self::Production].into_iter().find(|profile| profile.name() == text)
    }

    fn default_of(self, setting: &Setting) -> &'static str {
        match self {
            Self::Development => setting.development,
            Self::Production => setting.production,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

/// Where sessions are kept, from everything that says something about it.
fn storage_plan(values: &mut Values<'_>) -> Result<storage::Plan, ConfigError> {
    let kind = values.one_of(&table::STORAGE)?;
    let data = values.told(&table::DATA_DIR, |text| Some(text.to_owned()))?;
    let ttl = Duration::from_millis(values.whole(&table::STORAGE_TTL)?);
    let wait = Duration::from_millis(values.whole(&table::STORAGE_WAIT)?);
    let text: fn(&str) -> Option<String> = |text| Some(text.to_owned());
    let url = values.unless_none(&table::REDIS_URL, |url| Topology::parse(url).ok())?;
    let host = values.unless_none(&table::REDIS_HOST, text)?;
    let port = values.whole(&table::REDIS_PORT)? as u16;
    let password = values.unless_none(&table::REDIS_PASSWORD, text)?;
    let db = values.whole(&table::REDIS_DB)?;
    let replicas = values.count(&table::REDIS_REPLICAS)?;
    let timeout = Duration::from_millis(values.whole(&table::REDIS_TIMEOUT)?);
    let on_host = |host: &str| Topology::on_host(host, port, password.as_deref(), db as i64);
    let redis = match (url, host) {
        (Some(topology), _) => Some(topology),
        (None, Some(host)) => on_host(&host),
        // What `--storage redis` alone means: the one on this machine.
        (None, None) => (kind == "redis").then(|| on_host("127.0.0.1")).flatten(),
    };
    let target = match (kind.as_str(), redis) {
        ("redis" | "auto", Some(topology)) => {
            Target::Redis(Box::new(Endpoint { topology, replicas, timeout }))
        }
        ("memory", _) => Target::Memory,
        _ => Target::File(if data == "auto" {
            data_directory(values.given)
        } else {
            Some(data.into())
        }),
    };
    Ok(storage::Plan { target, ttl, wait })
}

/// Where the system has the data of programs.
fn data_directory(given: &Given) -> Option<PathBuf> {
    let variable = |name: &str| {
        given.environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    };
    let home = |rest: &str| variable("HOME").map(|home| home.join(rest));
    let data = variable("XDG_DATA_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| home(".local/share"));
    data.map(|data| data.join("bandsync"))
}

fn host(text: &str) -> Option<IpAddr> {
    match text {
        "all" => Some(Ipv6Addr::UNSPECIFIED.into()),
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        address => address.parse().ok(),
    }
}

fn origins(text: &str) -> Option<Origins> {
    match text {
        "own" => Some(Origins::Own),
        "*" => Some(Origins::Any),
        list => list
            .split(',')
            .map(|part| origin(part.trim()))
            .collect::<Option<_>>()
            .map(Origins::Listed),
    }
}

/// An origin as browsers write it: scheme and host in small letters, nothing behind the port.
fn origin(text: &str) -> Option<String> {
    let (scheme, authority) = text.split_once("://")?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let of_authority = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    let fits = !scheme.is_empty() && scheme.chars().all(of_scheme);
    let fits = fits && !authority.is_empty() && authority.chars().all(of_authority);
    fits.then(|| format!("{scheme}://{authority}").to_ascii_lowercase())
}

/// An address that alerts can be posted to.
fn webhook(text: &str) -> Option<String> {
    let address: ureq::http::Uri = text.parse().ok()?;
    let fits = matches!(address.scheme_str(), Some("http" | "https"))
        && address.host().is_some_and(|host| !host.is_empty())
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_owned())
}

fn networks(text: &str) -> Option<Vec<Network>> {
    if text == "none" {
        return Some(Vec::new());
    }
    text.split(',').map(|part| Network::parse(part.trim())).collect()
}

/// Under which names pages may reach the server, as it was given.
enum Names {
    Auto,
    Any,
    Listed(Vec<String>),
}

fn names(text: &str) -> Option<Names> {
    let name = |text: &str| {
        // The dot at the end of a full name is none of the name.
        let text = text.strip_suffix('.').unwrap_or(text);
        let fits = !text.is_empty()
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        fits.then(|| text.to_ascii_lowercase())
    };
    match text {
        "auto" => Some(Names::Auto),
        "*" => Some(Names::Any),
        list => {
            list.split(',').map(|part| name(part.trim())).collect::<Option<_>>().map(Names::Listed)
        }
    }
}

/// The names that listed origins have without scheme and port.
fn hosts_of(origins: &Origins) -> Vec<String> {
    let Origins::Listed(list) = origins else { return Vec::new() };
    let authorities = list.iter().filter_map(|origin| origin.split_once("://"));
    authorities
        .map(|(_, authority)| authority.split(':').next().unwrap_or_default().to_owned())
        .collect()
}

fn event_rates(text: &str) -> Option<RateLimits> {
    let mut rates = RateLimits::default();
    if text == "default" {
        return Some(rates);
    }
    for pair in text.split(',') {
        let (event, rate) = pair.trim().split_once('=')?;
        let place = match event.trim() {
            "position_sync" => &mut rates.position_sync,
            "metronome_tick" => &mut rates.metronome_tick,
            "sync_request" => &mut rates.sync_request,
            "chat_message" => &mut rates.chat_message,
            "latency_probe" => &mut rates.latency_probe,
            "clock_sync" => &mut rates.clock_sync,
            "tempo_change" => &mut rates.tempo_change,
            "join_session" => &mut rates.join_session,
            "other" => &mut rates.other,
            "total" => &mut rates.total,
            "refusals" => &mut rates.refusals_max,
            _ => return None,
        };
        *place = u32::try_from(whole(rate.trim(), 0, 100_000)?).ok()?;
    }
    Some(rates)
}

/// Takes values out of what was given, checks them, and keeps count of what holds.
struct Values<'a> {
    given: &'a Given,
    profile: Profile,
    effective: Vec<Effective>,
    /// Those that set something.
    predecessors: Vec<&'static Predecessor>,
    notes: Vec<String>,
}

impl<'a> Values<'a> {
    fn whole(&mut self, setting: &'static Setting) -> Result<u64, ConfigError> {
        let Allowed::Whole { min, max } = setting.allowed else {
            panic!("{} is no number", setting.variable)
        };
        self.take(setting, |text| whole(text, min, max), u64::to_string)
    }

    /// What is expected of those who come, and how many HTTP requests they may make.
    fn manners(&mut self, origins: &Origins) -> Result<(Manners, u32), ConfigError> {
        let is_lan = self.one_of(&table::SECURITY_PROFILE)? == "lan";
        let proxies = self.told(&table::TRUSTED_PROXIES, networks)?;
        let hosts = match self.told(&table::ALLOWED_HOSTS, names)? {
            Names::Auto if is_lan => Hosts::Local(hosts_of(origins)),
            Names::Auto => Hosts::Public(hosts_of(origins)),
            Names::Any => Hosts::Any,
            Names::Listed(names) => Hosts::Local([names, hosts_of(origins)].concat()),
        };
        let limits = [&table::CONNECTIONS_PER_IP, &table::HANDSHAKES_PER_IP];
        // Who gives a number wants to see it hold, also from this machine.
        let spares_loopback =
            is_lan && limits.iter().all(|setting| self.find(setting).text == "auto");
        let connections_max = self.whole_or(limits[0], if is_lan { 256 } else { 32 })? as u32;
        let connections_per_second =
            self.whole_or(limits[1], if is_lan { 100 } else { 10 })? as u32;
        let peers = PeerLimits { connections_max, connections_per_second, spares_loopback };
        let requests = self.count(&table::HTTP_REQUESTS_PER_IP)?;
        let rates = self.told(&table::EVENT_RATES, event_rates)?;
        if !is_lan && proxies.is_empty() {
            let what = "the proxy that ends TLS, such as 127.0.0.1";
            return Err(ConfigError::Unsafe(table::TRUSTED_PROXIES.variable, what));
        }
        if !is_lan && !matches!(origins, Origins::Listed(_)) {
            let what = "the pages that may connect, such as https://band.example";
            return Err(ConfigError::Unsafe(table::CORS_ORIGIN.variable, what));
        }
        let secret_chars_min = if is_lan { 0 } else { SECRET_CHARS_ON_THE_INTERNET };
        Ok((Manners { rates, peers, proxies, hosts, secret_chars_min }, requests))
    }

    /// A count whose range ends within 32 bits.
    fn count(&mut self, setting: &'static Setting) -> Result<u32, ConfigError> {
        let value = self.whole(setting)?;
        assert!(value <= u64::from(u32::MAX), "{} allows too much", setting.variable);
        Ok(value as u32)
    }

    /// The seed that was given, or else 256 bits of the system's randomness.
    fn seed(&mut self) -> Result<Seed, ConfigError> {
        let Allowed::WholeOr { word, min, max } = table::SEED.allowed else {
            panic!("SEED is a number")
        };
        let parse = |text: &str| match text {
            text if text == word => Some(None),
            text => whole(text, min, max).map(|number| Some(Seed::from(number))),
        };
        let given = self.take(&table::SEED, parse, |_| String::new())?;
        given.map_or_else(random_seed, Ok)
    }

    fn millis(&mut self, setting: &'static Setting) -> Result<Micros, ConfigError> {
        assert_eq!(setting.unit, "ms");
        self.whole(setting).map(Micros::from_millis)
    }

    /// A number, or `choice` when the word stands there.
    fn whole_or(&mut self, setting: &'static Setting, choice: u64) -> Result<u64, ConfigError> {
        let Allowed::WholeOr { word, min, max } = setting.allowed else {
            panic!("{}", setting.variable)
        };
        let parse = |text: &str| if text == word { Some(choice) } else { whole(text, min, max) };
        self.take(setting, parse, u64::to_string)
    }

    /// On, off, or `choice` when neither stands there.
    fn switch(&mut self, setting: &'static Setting, choice: bool) -> Result<bool, ConfigError> {
        let parse = |text: &str| match text {
            "on" => Some(true),
            "off" => Some(false),
            "auto" => Some(choice),
            _ => None,
        };
        self.take(setting, parse, |on| if *on { "on" } else { "off" }.to_owned())
    }

    fn one_of(&mut self, setting: &'static Setting) -> Result<String, ConfigError> {
        let Allowed::OneOf(words) = setting.allowed else {
            panic!("{} has no list", setting.variable)
        };
        self.take(setting, |text| words.contains(&text).then(|| text.to_owned()), String::clone)
    }

    /// What `parse` makes of the text, which is also what is shown.
    fn told<T>(
        &mut self,
        setting: &'static Setting,
        parse: fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let parse = |text: &str| Some((text.to_owned(), parse(text)?));
        self.take(setting, parse, |(text, _)| text.clone()).map(|(_, value)| value)
    }

    /// What `parse` makes of the text, or nothing if that is `none`.
    fn unless_none<T>(
        &mut self,
        setting: &'static Setting,
        parse: fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let parse = |text: &str| match text {
            "none" => Some((text.to_owned(), None)),
            text => Some((text.to_owned(), Some(parse(text)?))),
        };
        self.take(setting, parse, |(text, _)| text.clone()).map(|(_, value)| value)
    }

    fn take<T>(
        &mut self,
        setting: &'static Setting,
        parse: impl Fn(&str) -> Option<T>,
        show: impl Fn(&T) -> String,
    ) -> Result<T, ConfigError> {
        let mut found = self.find(setting);
        let mut value = parse(&found.text);
        if let Source::Predecessor(variable) = found.source {
            let old = table::PREDECESSORS.iter().find(|old| old.variables.contains(&variable));
            if value.is_some() {
                self.predecessors.extend(old);
            } else {
                // An old environment must not keep the server from starting.
                let allowed = allowed_of(setting);
                let ours = setting.variable;
                self.notes.push(format!(
                    "{variable} is not used: for {ours} its value must be {allowed}"
                ));
                found = self.default_of(setting);
                value = parse(&found.text);
            }
        }
        let Some(value) = value else { return Err(refused(setting, found)) };
        // A default is no secret, and says that none is set.
        let is_secret = setting.secret && !matches!(found.source, Source::Default(_));
        let shown = match (is_secret, setting.secret) {
            (true, _) => "(secret)".to_owned(),
            (false, true) => found.text.clone().into_owned(),
            (false, false) => show(&value),
        };
        let Setting { variable, unit, .. } = *setting;
        let default = match setting.variable == table::PROFILE.variable {
            true => Profile::Development.name(),
            false => self.profile.default_of(setting),
        };
        let differs = found.text != default;
        self.effective.push(Effective {
            variable,
            value: shown,
            unit,
            source: found.source,
            differs,
        });
        Ok(value)
    }

    fn find(&self, setting: &'static Setting) -> Found<'a> {
        self.given.find(setting).unwrap_or_else(|| self.default_of(setting))
    }

    fn default_of(&self, setting: &'static Setting) -> Found<'a> {
        let text = match setting.variable == table::PROFILE.variable {
            true => self.profile.name(),
            false => self.profile.default_of(setting),
        };
        let source = Source::Default(self.profile);
        Found { source, name: setting.variable.to_owned(), text: text.into() }
    }
}

/// A server whose ids can be foretold must not start, so there is nothing to fall back on.
fn random_seed() -> Result<Seed, ConfigError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| ConfigError::NoRandomness(error.to_string()))?;
    Ok(Seed::from_bytes(bytes))
}

/// Digits only: `u64` would take a `+` as well, and the message speaks of a whole number.
fn whole(text: &str, min: u64, max: u64) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|value| digits && (min..=max).contains(value))
}

fn refused(setting: &Setting, found: Found<'_>) -> ConfigError {
    let value = match setting.secret {
        true => "(secret)".to_owned(),
        false => found.text.into_owned(),
    };
    ConfigError::Refused { name: found.name, value, allowed: allowed_of(setting) }
}

/// Which values a setting may have, with their unit.
fn allowed_of(setting: &Setting) -> String {
    format!("{} {}", setting.allowed, setting.unit).trim_end().to_owned()
}

impl Effective {
    /// As it could be given: `PORT=4000`. What a shell or a terminal would not take as it is gets
    /// quotes.
    pub fn assignment(&self) -> String {
        let Self { variable, value, .. } = self;
        let plain = |c: char| c.is_alphanumeric() || "-_./:,=*+@()[]".contains(c);
        if value.chars().all(plain) {
            format!("{variable}={value}")
        } else {
            format!("{variable}={value:?}")
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Quoted and escaped, because a value may hold anything, even what moves a terminal's
            // cursor.
            Self::Refused { name, value, allowed } => {
                write!(f, "{name} cannot be {value:?}; allowed: {allowed}")
            }
            Self::Unsafe(variable, what) => {
                write!(f, "SECURITY_PROFILE=internet takes {variable}: {what}")
            }
            Self::NoRandomness(error) => {
                write!(
                    f,
                    "the system has no random numbers for ids and secrets: {error}. Start it again later"
                )
            }
            Self::DotEnv(DotEnvError::Line(line)) => {
                write!(
                    f,
                    ".env line {line} cannot be read; allowed: NAME=value, a comment, an empty line"
                )
            }
            Self::DotEnv(DotEnvError::Unreadable(reason)) => {
                write!(f, ".env cannot be read: {reason}")
            }
        }
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, value, unit, source, .. } = self;
        write!(f, "{variable} = {value}")?;
        if !unit.is_empty() {
            write!(f, " {unit}")?;
        }
        match source {
            Source::CommandLine => write!(f, " (command line)"),
            Source::Environment => write!(f, " (environment)"),
            Source::DotEnv => write!(f, " (.env)"),
            Source::Predecessor(variable) => write!(f, " ({variable} of the Node.js server)"),
            Source::Default(profile) => write!(f, " (default in {})", profile.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Settings as `NAME=value`, separated by spaces, for each of the three places.
    fn given([command_line, environment, dot_env]: [&str; 3]) -> Given {
        let map = |text: &str| {
            let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        Given {
            command_line: map(command_line),
            environment: map(environment),
            dot_env: map(dot_env),
            cores: Cores { count: 4, quota: None },
        }
    }

    fn config(sources: [&str; 3]) -> Config {
        Config::check(&given(sources)).unwrap()
    }

    #[track_caller]
    fn check_port(sources: [&str; 3], port: u16, shown: &str) {
        let config = config(sources);
        assert_eq!(config.port, port);
        assert!(
            config.effective.iter().any(|line| line.to_string() == shown),
            "{:?}",
            config.effective
        );
    }

    #[test]
    fn the_nearest_source_counts() {
        check_port(["", "", ""], 3001, "PORT = 3001 (default in development)");
        check_port(["", "", "PORT=3"], 3, "PORT = 3 (.env)");
        check_port(["", "PORT=2", "PORT=3"], 2, "PORT = 2 (environment)");
        check_port(["PORT=1", "PORT=2", "PORT=3"], 1, "PORT = 1 (command line)");
        check_port(["PORT=1", "PORT=music", ""], 1, "PORT = 1 (command line)");
    }

    #[test]
    fn an_empty_variable_counts_as_not_given() {
        check_port(["", "PORT=", "PORT=3"], 3, "PORT = 3 (.env)");
        check_port(["", "PORT=", "PORT="], 3001, "PORT = 3001 (default in development)");
        assert!(Config::check(&given(["PORT=", "", ""])).is_err());
    }

    #[track_caller]
    fn check_profile(
        sources: [&str; 3],
        profile: Profile,
        level: log::LevelFilter,
        latency_ms: u64,
        tick_ms: u64,
    ) {
        let config = config(sources);
        assert_eq!(config.profile, profile);
        assert_eq!(config.log_levels.all, level);
        assert_eq!(config.target_latency, Duration::from_millis(latency_ms));
        assert_eq!(config.engine.tick_interval, Micros::from_millis(tick_ms));
    }

    #[test]
    fn the_profile_chooses_the_defaults() {
        use Profile::{Development, Production};
        use log::LevelFilter::{Error, Info, Warn};
        check_profile(["", "", ""], Development, Info, 50, 16);
        check_profile(["", "BANDSYNC_ENV=development", ""], Development, Info, 50, 16);
        check_profile(["", "BANDSYNC_ENV=production", ""], Production, Warn, 25, 8);
        check_profile(
            ["BANDSYNC_ENV=production", "BANDSYNC_ENV=development", ""],
            Production,
            Warn,
            25,
            8,
        );
        check_profile(["", "NODE_ENV=production", ""], Production, Warn, 25, 8);
        check_profile(
            ["", "NODE_ENV=production", "BANDSYNC_ENV=development"],
            Development,
            Info,
            50,
            16,
        );
        check_profile(["", "", "NODE_ENV=production LOG_LEVEL=error"], Production, Error, 25, 8);
    }

    #[test]
    fn a_foreign_node_env_is_told_not_refused() {
        let config = config(["", "NODE_ENV=test", ""]);
        assert_eq!(config.profile, Profile::Development);
        assert_eq!(config.notes.len(), 1);
    }

    /// Values at both ends are taken, values beyond are refused, whatever the source.
    #[test]
    fn every_range_is_kept() {
        for setting in table::SETTINGS {
            let (min, max) = match setting.allowed {
                Allowed::Whole { min, max } | Allowed::WholeOr { min, max, .. } => (min, max),
                _ => continue,
            };
            for value in [min, max] {
                let text = format!("{}={value}", setting.variable);
                assert!(Config::check(&given(["", &text, ""])).is_ok(), "{text}");
            }
            let beyond = [min.checked_sub(1), max.checked_add(1)]
                .into_iter()
                .flatten()
                .map(|n| n.to_string());
            let nonsense =
                ["-1", "+5", "5.5", "0x10", "five", "99999999999999999999"].map(String::from);
            for value in beyond.chain(nonsense) {
                check_refused(setting, &value);
            }
        }
    }

    #[test]
    fn words_that_are_not_in_the_list_are_refused() {
        for setting in table::SETTINGS {
            if let Allowed::OneOf(words) = setting.allowed {
                for word in words {
                    // What the profile `internet` takes besides.
                    let others = "TRUSTED_PROXIES=127.0.0.1 CORS_ORIGIN=https://band.example";
                    let text = format!("{}={word} {others}", setting.variable);
                    assert!(Config::check(&given(["", &text, ""])).is_ok(), "{text}");
                }
                check_refused(setting, "loud");
                check_refused(setting, &words[0].to_uppercase());
            }
        }
        for value in ["stage.local", "256.0.0.1", "127.0.0.1:3001", "*"] {
            check_refused(&table::HOST, value);
        }
        for value in [
            "example.com",
            "http://",
            "://a",
            "http://a/page",
            "http://a,",
            "http://a,*",
            "http://a\u{1b}",
        ] {
            check_refused(&table::CORS_ORIGIN, value);
        }
    }

    /// Whatever the source, the error shows the name as given there, the value, and what is
    /// allowed.
    #[track_caller]
    fn check_refused(setting: &Setting, value: &str) {
        let text = format!("{}={value}", setting.variable);
        let names = [
            format!("--{}", setting.option),
            setting.variable.into(),
            format!(".env: {}", setting.variable),
        ];
        for (place, expected) in names.into_iter().enumerate() {
            let mut sources = ["", "", ""];
            sources[place] = &text;
            let Err(error) = Config::check(&given(sources)) else { panic!("{sources:?} is taken") };
            let ConfigError::Refused { name, value: shown, allowed } = &error else {
                panic!("{error:?}")
            };
            let readable = if setting.secret { "(secret)" } else { value };
            assert_eq!((name, shown.as_str()), (&expected, readable));
            assert!(allowed.starts_with(&setting.allowed.to_string()), "{allowed}");
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
    }

    #[test]
    fn hosts_and_origins_are_read() {
        assert_eq!(host("all"), "::".parse().ok());
        assert_eq!(host("localhost"), "127.0.0.1".parse().ok());
        assert_eq!(host("::1"), "::1".parse().ok());
        assert_eq!(origins("own"), Some(Origins::Own));
        assert_eq!(origins("*"), Some(Origins::Any));
        let listed = ["https://Band.example/", "http://[::1]:5173"].join(" , ");
        let expected = vec!["https://band.example".to_owned(), "http://[::1]:5173".to_owned()];
        assert_eq!(origins(&listed), Some(Origins::Listed(expected)));
    }

    #[test]
    fn the_internet_takes_a_proxy_and_a_list_of_pages() {
        let check = |text: &str| Config::check(&given(["", text, ""]));
        let proxy = "SECURITY_PROFILE=internet TRUSTED_PROXIES=127.0.0.1";
        let whole = format!("{proxy} CORS_ORIGIN=https://band.example");
        for (text, missing) in
            [("SECURITY_PROFILE=internet", "TRUSTED_PROXIES"), (proxy, "CORS_ORIGIN")]
        {
            let error = check(text).unwrap_err();
            assert!(error.to_string().contains(missing), "{error}");
        }
        assert!(check(&format!("{proxy} CORS_ORIGIN=*")).is_err());
        let manners = check(&whole).unwrap().engine.manners;
        assert_eq!((manners.peers.connections_max, manners.peers.connections_per_second), (32, 10));
        assert!(
            !manners.peers.spares_loopback
                && manners.hosts == Hosts::Public(vec!["band.example".into()])
        );
    }

    #[test]
    fn on_a_lan_this_machine_is_spared_until_a_limit_is_given() {
        let peers = |text| config(["", text, ""]).engine.manners.peers;
        assert_eq!((peers("").connections_max, peers("").spares_loopback), (256, true));
        let given = peers("CONNECTIONS_PER_IP=5");
        assert_eq!((given.connections_max, given.connections_per_second), (5, 100));
        assert!(!given.spares_loopback);
    }

    #[test]
    fn hosts_proxies_and_rates_are_read() {
        let manners = |text| config(["", text, ""]).engine.manners;
        let listed =
            manners("ALLOWED_HOSTS=Stage.example.,b CORS_ORIGIN=https://c.example:8443").hosts;
        assert_eq!(
            listed,
            Hosts::Local(["stage.example", "b", "c.example"].map(String::from).to_vec())
        );
        assert_eq!(manners("ALLOWED_HOSTS=*").hosts, Hosts::Any);
        let rates = manners("EVENT_RATES=chat_message=3,total=0").rates;
        assert_eq!(rates, RateLimits { chat_message: 3, total: 0, ..RateLimits::default() });
        assert_eq!(manners("TRUSTED_PROXIES=10.0.0.0/8,::1").proxies.len(), 2);
        for value in ["10.0.0.0/40", "10.0.0.1,", "proxy"] {
            check_refused(&table::TRUSTED_PROXIES, value);
        }
        for value in ["a,", ".", "https://a", "a:80"] {
            check_refused(&table::ALLOWED_HOSTS, value);
        }
        for value in ["chat=1", "total=-1", "total", "total=1,"] {
            check_refused(&table::EVENT_RATES, value);
        }
    }

    /// Shards, and whether they are pinned.
    #[track_caller]
    fn check_shards(count: u16, quota: Option<u16>, text: &str, expected: (u16, bool)) {
        let given = Given { cores: Cores { count, quota }, ..given(["", text, ""]) };
        let config = Config::check(&given).unwrap();
        assert_eq!((config.shards, config.pin), expected, "{count} {quota:?} {text}");
    }

    #[test]
    fn shards_are_pinned_only_if_each_core_has_one() {
        check_shards(4, None, "", (4, true));
        // Another server with as few shards would be on the same cores.
        check_shards(4, None, "SHARDS=1", (1, false));
        check_shards(4, None, "SHARDS=2", (2, false));
        check_shards(4, None, "SHARDS=4", (4, true));
        check_shards(4, None, "SHARDS=5", (5, false));
        check_shards(1, None, "", (1, true));
        check_shards(4, None, "SHARDS=1 PIN_CORES=on", (1, true));
        check_shards(4, None, "SHARDS=5 PIN_CORES=on", (5, true));
        check_shards(4, None, "PIN_CORES=off", (4, false));
    }

    #[test]
    fn a_cpu_quota_limits_the_shards_and_pins_none() {
        check_shards(8, Some(2), "", (2, false));
        check_shards(8, Some(2), "SHARDS=8", (8, false));
        check_shards(8, Some(2), "SHARDS=2", (2, false));
        check_shards(8, Some(2), "PIN_CORES=on", (2, true));
        check_shards(1_000, None, "", (256, false));
    }

    #[test]
    fn this_machine_has_cores() {
        let cores = Cores::look();
        assert!(
            cores.count >= 1 && cores.usable() >= 1 && cores.usable() <= cores.count,
            "{cores:?}"
        );
    }

    #[test]
    fn every_setting_is_shown_once_and_secrets_never() {
        let config = config(["", "SEED=424242", ""]);
        assert_eq!(config.engine.seed, Seed::from(424_242));
        let shown: Vec<_> = config.effective.iter().map(|line| line.variable).collect();
        assert_eq!(shown.len(), table::SETTINGS.len());
        assert!(table::SETTINGS.iter().all(|setting| shown.contains(&setting.variable)));
        let lines: Vec<_> = config.effective.iter().map(Effective::to_string).collect();
        assert!(lines.iter().all(|line| !line.contains("424242")), "{lines:?}");
        assert!(lines.contains(&"SEED = (secret) (environment)".to_owned()), "{lines:?}");
        assert!(
            lines.contains(&"ADMIN_TOKEN = none (default in development)".to_owned()),
            "{lines:?}"
        );
        assert!(
            lines.contains(&"SCROLL_TICK_INTERVAL = 16 ms (default in development)".to_owned()),
            "{lines:?}"
        );
    }

    #[test]
    fn a_seed_that_nobody_gave_is_another_each_time() {
        assert_ne!(config(["", "", ""]).engine.seed, config(["", "", ""]).engine.seed);
    }

    #[test]
    fn variables_without_effect_are_named_once_without_their_values() {
        let config = config([
            "",
            "REDIS_PASSWORD=hush SERVER_ID=a PATH=/bin",
            "REDIS_PREFIX=hush SERVER_ID=b BANDSYNC_PROT=1",
        ]);
        let expected = "these variables have no effect: BANDSYNC_PROT, REDIS_PREFIX, SERVER_ID";
        assert_eq!(config.notes, [expected]);
    }

    #[test]
    fn a_variable_with_the_prefix_goes_before_the_bare_one() {
        check_port(["", "PORT=2 BANDSYNC_PORT=4", ""], 4, "PORT = 4 (environment)");
        check_port(["", "BANDSYNC_PORT=4", "PORT=3"], 4, "PORT = 4 (environment)");
        check_port(["", "", "PORT=3 BANDSYNC_PORT=4"], 4, "PORT = 4 (.env)");
        check_port(["PORT=1", "BANDSYNC_PORT=4", ""], 1, "PORT = 1 (command line)");
        check_port(["", "PORT=2 BANDSYNC_PORT=", ""], 2, "PORT = 2 (environment)");
        // The nearest source counts, whatever the name.
        check_port(["", "PORT=2", "BANDSYNC_PORT=4"], 2, "PORT = 2 (environment)");
        let error = Config::check(&given(["", "BANDSYNC_PORT=music", ""])).unwrap_err();
        assert!(error.to_string().starts_with("BANDSYNC_PORT cannot be"), "{error}");
    }

    #[test]
    fn every_setting_takes_the_prefix() {
        for setting in table::SETTINGS {
            // Values that differ from each default, for those that have a list or a range.
            let value = match setting.allowed {
                Allowed::OneOf(words) if words.contains(&"internet") => continue,
                Allowed::OneOf(words) => words[words.len() - 1].to_owned(),
                Allowed::Whole { max, .. } | Allowed::WholeOr { max, .. } => max.to_string(),
                Allowed::Told(_) => continue,
            };
            let with_prefix = match setting.variable.strip_prefix("BANDSYNC_") {
                Some(_) => setting.variable.to_owned(),
                None => format!("BANDSYNC_{}", setting.variable),
            };
            let bare = config(["", &format!("{}={value}", setting.variable), ""]);
            let prefixed = config(["", &format!("{with_prefix}={value}"), ""]);
            assert_eq!(bare.effective, prefixed.effective, "{with_prefix}");
            assert_eq!(prefixed.notes, [""; 0], "{with_prefix}");
        }
    }

    /// A Service of Kubernetes named like a part of ours sets variables that are none of ours.
    #[test]
    fn service_links_are_ignored_with_a_note() {
        let links = "REDIS_HOST=redis REDIS_PORT=tcp://10.96.0.5:6379 REDIS_SERVICE_HOST=10.96.0.5 \
                     REDIS_SERVICE_PORT=6379 REDIS_SERVICE_PORT_REDIS=6379 REDIS_PORT_6379_TCP=tcp://10.96.0.5:6379 \
                     REDIS_PORT_6379_TCP_PROTO=tcp REDIS_PORT_6379_TCP_PORT=6379 REDIS_PORT_6379_TCP_ADDR=10.96.0.5 \
                     REDIS_MASTER_PORT=tcp://10.96.0.6:6379";
        check_place(links, "redis:6379 None 0");
        let notes = config(["", links, ""]).notes;
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(
            notes[0].starts_with("REDIS_PORT=\"tcp://10.96.0.5:6379\" is ignored"),
            "{notes:?}"
        );
        assert!(notes[0].contains("BANDSYNC_REDIS_PORT sets the port"), "{notes:?}");
        check_place(&format!("{links} BANDSYNC_REDIS_PORT=7000"), "redis:7000 None 0");
        // A Service named `bandsync`, and one named `bandsync-redis`.
        let own = "PORT=4000 BANDSYNC_PORT=tcp://10.96.0.7:80 BANDSYNC_SERVICE_HOST=10.96.0.7 \
                   BANDSYNC_PORT_80_TCP_ADDR=10.96.0.7 BANDSYNC_REDIS_PORT=udp://10.96.0.8:1";
        let own = config(["", own, ""]);
        assert_eq!(own.port, 4000);
        assert_eq!(own.notes.len(), 2, "{:?}", own.notes);
        assert!(
            own.notes[0].starts_with("BANDSYNC_PORT=\"tcp://10.96.0.7:80\" is ignored"),
            "{:?}",
            own.notes
        );
        // Only an address of a Service is ignored.
        assert!(Config::check(&given(["", "REDIS_PORT=music", ""])).is_err());
        assert!(Config::check(&given(["", "HOST=tcp://10.96.0.5", ""])).is_err());
        assert!(Config::check(&given(["REDIS_PORT=tcp://10.96.0.5:1", "", ""])).is_err());
    }

    #[test]
    fn variables_of_the_node_server_set_ours() {
        let old = "REDIS_ENABLED=true REDIS_TTL=7200 REDIS_COMMAND_TIMEOUT=5000 SOCKET_MAX_BUFFER_SIZE=2000000 \
                   RATE_LIMIT_MAX_REQUESTS=300 RATE_LIMIT_WINDOW_MS=2000 REDIS_KEY_PREFIX=bandsync:";
        for sources in [["", old, ""], ["", "", old]] {
            let config = config(sources);
            let Target::Redis(redis) = &config.storage.target else {
                panic!("{:?}", config.storage)
            };
            assert_eq!(redis.timeout, Duration::from_secs(5));
            assert_eq!(config.storage.ttl, Duration::from_secs(7_200));
            assert_eq!(config.engine.limits.message_bytes_max, 2_000_000);
            assert_eq!(config.engine.manners.rates.total, 150);
            assert_eq!(config.notes.len(), 2, "{:?}", config.notes);
            for part in [
                "REDIS_ENABLED sets STORAGE=redis",
                "REDIS_TTL sets STORAGE_TTL=7200000",
                "REDIS_COMMAND_TIMEOUT sets REDIS_TIMEOUT=5000",
                "SOCKET_MAX_BUFFER_SIZE sets MAX_MESSAGE_BYTES=2000000",
                "RATE_LIMIT_MAX_REQUESTS sets EVENT_RATES=total=150",
            ] {
                assert!(config.notes[0].contains(part), "{part}: {:?}", config.notes);
            }
            assert_eq!(config.notes[1], "these variables have no effect: REDIS_KEY_PREFIX");
            let lines: Vec<_> = config.effective.iter().map(Effective::to_string).collect();
            let ttl = "STORAGE_TTL = 7200000 ms (REDIS_TTL of the Node.js server)";
            assert!(lines.iter().any(|line| line == ttl), "{lines:?}");
        }
        check_place("REDIS_ENABLED=false REDIS_HOST=stage DATA_DIR=d", "Some(\"d\")");
        check_place("REDIS_ENABLED=true REDIS_HOST=stage", "stage:6379 None 0");
    }

    #[test]
    fn our_own_names_go_before_those_of_the_node_server() {
        let config = config([
            "",
            "REDIS_TTL=7200 REDIS_ENABLED=true",
            "STORAGE_TTL=5000 BANDSYNC_STORAGE=memory",
        ]);
        assert_eq!(config.storage.ttl, Duration::from_secs(5));
        assert!(matches!(config.storage.target, Target::Memory));
        assert_eq!(config.notes, ["these variables have no effect: REDIS_ENABLED, REDIS_TTL"]);
    }

    #[test]
    fn an_old_value_that_makes_no_sense_does_not_keep_the_server_from_starting() {
        for (text, variable) in [
            ("REDIS_TTL=soon", "REDIS_TTL"),
            ("REDIS_TTL=0", "REDIS_TTL"),
            ("SOCKET_MAX_BUFFER_SIZE=1e6", "SOCKET_MAX_BUFFER_SIZE"),
            ("RATE_LIMIT_MAX_REQUESTS=0", "RATE_LIMIT_MAX_REQUESTS"),
            ("REDIS_ENABLED=maybe", "REDIS_ENABLED"),
        ] {
            let config = config(["", text, ""]);
            assert_eq!(config.storage.ttl, Duration::from_secs(3_600), "{text}");
            assert!(
                config.notes[0].starts_with(&format!("{variable} is not used: ")),
                "{:?}",
                config.notes
            );
        }
    }

    #[test]
    fn what_differs_from_its_default_is_known() {
        let given = "NODE_ENV=production PORT=3001 HOST=localhost ADMIN_TOKEN=0123456789abcdef SHARDS=4 REDIS_TTL=5";
        let config = config(["", given, ""]);
        let differing: Vec<_> =
            config.effective.iter().filter(|one| one.differs).map(Effective::assignment).collect();
        let mut differing: Vec<&str> = differing.iter().map(String::as_str).collect();
        differing.sort_unstable();
        let expected = [
            "ADMIN_TOKEN=(secret)",
            "BANDSYNC_ENV=production",
            "HOST=localhost",
            "SHARDS=4",
            "STORAGE_TTL=5000",
        ];
        assert_eq!(differing, expected);
    }

    #[track_caller]
    fn check_place(environment: &str, place: &str) {
        let plan = config(["", environment, ""]).storage;
        let shown = match &plan.target {
            Target::Memory => "memory".to_owned(),
            Target::File(directory) => format!("{directory:?}"),
            Target::Redis(endpoint) => match &endpoint.topology {
                Topology::Single(info) => {
                    let settings = info.redis_settings();
                    format!("{} {:?} {}", info.addr(), settings.password(), settings.db())
                }
                _ => "many".to_owned(),
            },
        };
        assert_eq!(shown, place, "{environment}");
    }

    #[test]
    fn the_storage_is_where_the_settings_say() {
        check_place("", "None");
        let linux = cfg!(target_os = "linux");
        if linux {
            check_place("HOME=/home/ann", "Some(\"/home/ann/.local/share/bandsync\")");
            check_place("HOME=/home/ann XDG_DATA_HOME=/data", "Some(\"/data/bandsync\")");
        }
        check_place("DATA_DIR=/stage HOME=/home/ann", "Some(\"/stage\")");
        check_place("STORAGE=memory REDIS_URL=redis://a", "memory");
        check_place("REDIS_HOST=stage", "stage:6379 None 0");
        check_place(
            "REDIS_HOST=stage REDIS_PORT=7000 REDIS_PASSWORD=p@ss REDIS_DB=2",
            "stage:7000 Some(\"p@ss\") 2",
        );
        check_place(
            "REDIS_HOST=other REDIS_URL=redis://:hush@stage/1",
            "stage:6379 Some(\"hush\") 1",
        );
        check_place("STORAGE=redis", "127.0.0.1:6379 None 0");
        check_place("STORAGE=file REDIS_HOST=stage DATA_DIR=d", "Some(\"d\")");
        check_place("REDIS_URL=redis+cluster://a,b", "many");
        assert_eq!(config(["", "STORAGE=memory", ""]).engine.storage_wait, None);
        assert_eq!(
            config(["", "STORAGE_WAIT=7", ""]).engine.storage_wait,
            Some(Micros::from_millis(7))
        );
    }

    #[test]
    fn a_password_is_in_no_message() {
        let Err(error) = Config::check(&given(["", "REDIS_URL=redish://ann:hush@stage", ""]))
        else {
            panic!()
        };
        assert!(!error.to_string().contains("hush"), "{error}");
        let config = config(["", "REDIS_URL=redis://:hush@stage REDIS_PASSWORD=hush", ""]);
        let shown: Vec<_> = config.effective.iter().map(Effective::to_string).collect();
        assert!(shown.iter().all(|line| !line.contains("hush")), "{shown:?}");
    }

    #[test]
    fn a_broken_env_file_is_named_with_its_line() {
        let error = ConfigError::DotEnv(DotEnvError::Line(3));
        assert!(error.to_string().starts_with(".env line 3 "), "{error}");
    }
}
