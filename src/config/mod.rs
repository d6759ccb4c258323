//! The configuration: settings from four sources, checked once and immutable afterwards.

pub mod dotenv;
mod error;
mod groups;
mod profile;
pub mod raw;
pub mod table;
mod values;

use std::net::IpAddr;
use std::time::Duration;

use bandsync_engine::io::{Settings, Transports};
use bandsync_engine::words::ids::ShardId;
use bandsync_engine::words::limits::Limits;
use bandsync_engine::words::time::Micros;
use bandsync_storage::{self as storage, Target};

use self::groups::{
    access, cluster, connections, logging, monitoring, recording, sessions, threads, tls,
};
use self::raw::{RawConfig, Source};
use self::table::Predecessor;
use self::values::{Values, rejected};
use crate::http::Token;
use crate::ops::tls::TlsFiles;

pub use error::ConfigError;
pub use groups::cluster::Clustering;
pub use groups::logging::Logging;
pub use groups::monitoring::Monitoring;
pub use groups::recording::Recording;
pub use groups::threads::Threads;
pub use profile::Profile;
pub use values::Effective;

/// Everything that the server needs to know before it starts.
#[derive(Debug)]
pub struct Config {
    /// The set of defaults that applied.
    pub profile: Profile,
    /// The address to listen on; `::` is all addresses, IPv4 included.
    pub host: IpAddr,
    /// The port asked for; 0 is any free one.
    pub port: u16,
    /// Whether the server is announced in the local network as `bandsync.local`.
    pub mdns: bool,
    /// The certificate, if the server speaks TLS itself.
    pub tls: Option<TlsFiles>,
    /// The shards and how they use the machine.
    pub threads: Threads,
    /// Level, form and destination of the log.
    pub logging: Logging,
    /// Measurements and alerts.
    pub monitoring: Monitoring,
    /// Opens the operators' pages to requests that carry it.
    pub admin_token: Option<Token>,
    /// HTTP requests per second that one address may make; 0 is any number.
    pub http_requests: u32,
    /// Time that the goodbyes may take when the server stops.
    pub drain_timeout: Duration,
    /// Directory and limits of the recording; `None` if nothing is recorded.
    pub recording: Option<Recording>,
    /// The storage of sessions.
    pub storage: storage::Plan,
    /// The cluster that the server wants to belong to; `None` if it is alone.
    pub cluster: Option<Clustering>,
    /// Settings of every shard's engine. The shard's id and the time are filled in when it starts.
    pub engine: Settings,
    /// Every setting with its unit and its source.
    pub effective: Vec<Effective>,
    /// Warnings to show at start.
    pub notes: Vec<String>,
}

impl Config {
    /// Checks everything.
    ///
    /// # Errors
    /// Names the first value that is not allowed.
    pub fn check(given: &RawConfig) -> Result<Self, ConfigError> {
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
        let logging = logging::read(&mut values)?;
        let threads = threads::read(&mut values)?;
        let tls = tls::read(&mut values)?;
        let access = access::read(&mut values, tls.is_some())?;
        let connections = connections::read(&mut values, access.is_internet)?;
        let sessions = sessions::read(&mut values)?;
        let storage = groups::storage::read(&mut values)?;
        let heartbeat = Duration::from_micros(connections.heartbeat_interval.as_micros());
        let monitoring = monitoring::read(&mut values, heartbeat)?;
        let (recording, seed) = recording::read(&mut values)?;
        let is_recording = recording.is_some();
        let cluster = cluster::read(&mut values, &storage, connections.port, is_recording)?;
        let Values { mut effective, predecessors, notes: rejected, .. } = values;
        effective.sort_by_key(|line| table::index_of(line.variable));
        notes.extend(given.service_links());
        notes.extend(rejected);
        let used: Vec<&str> = predecessors.iter().flat_map(|old| old.variables).copied().collect();
        notes.extend(inherited(&predecessors, &effective));
        notes.extend(given.unused(&used));
        // A recording must not hold secrets, and secrets in compressed bytes cannot be covered.
        let compression = connections.transports.compression.filter(|_| recording.is_none());
        let backlog_bytes_max = Limits::PRODUCTION.backlog_bytes_max;
        let engine = Settings {
            shard: ShardId(0),
            shards: threads.shards,
            seed,
            started_unix_ms: 0,
            limits: Limits {
                connections_max: access.connections_max,
                sessions_max: sessions.sessions_max,
                message_bytes_max: access.message_bytes_max,
                backlog_bytes_max: access
                    .message_bytes_max
                    .saturating_mul(2)
                    .max(backlog_bytes_max),
                empty_session_ttl: sessions.empty_ttl,
                ..Limits::PRODUCTION
            },
            tick_interval: sessions.tick_interval,
            batch_interval: sessions.batch_interval,
            ping_interval: connections.ping_interval,
            ping_timeout: connections.ping_timeout,
            heartbeat_interval: connections.heartbeat_interval,
            leader_grace: sessions.leader_grace,
            session_members_max: sessions.members_max,
            origins: access.origins,
            storage_wait: match storage.target {
                Target::Memory => None,
                Target::File(_) | Target::Redis(_) => {
                    Some(Micros::from_micros(storage.wait.as_micros() as u64))
                }
            },
            goodbye: connections.goodbye,
            transports: Transports { compression, ..connections.transports },
            policy: access.policy,
            cluster: None,
        };
        Ok(Self {
            profile,
            host: connections.host,
            port: connections.port,
            mdns: connections.mdns,
            tls,
            threads,
            logging,
            monitoring,
            admin_token: access.admin_token,
            http_requests: access.http_requests,
            drain_timeout: connections.drain_timeout,
            recording,
            storage,
            cluster,
            engine,
            effective,
            notes,
        })
    }
}

/// Reads the profile. `NODE_ENV` belongs to other programs as well, which set it to `test` or
/// `staging`, so an unknown value there is not an error.
fn profile(given: &RawConfig, notes: &mut Vec<String>) -> Result<Profile, ConfigError> {
    if let Some(found) = given.find(&table::PROFILE) {
        return Profile::parse(&found.text).ok_or_else(|| rejected(&table::PROFILE, found));
    }
    let Some(value) = given.plain("NODE_ENV") else { return Ok(Profile::Development) };
    Ok(Profile::parse(value).unwrap_or_else(|| {
        notes.push(format!(
            "NODE_ENV is {value:?}, neither development nor production: using development"
        ));
        Profile::Development
    }))
}

/// Returns a sentence about variables of the Node.js server that set something, if there are any.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bandsync_engine::words::limits::RateLimits;
    use bandsync_engine::words::policy::Hosts;
    use bandsync_engine::words::rng::Seed;
    use bandsync_storage::Topology;

    use super::dotenv::DotEnvError;
    use super::raw::Cores;
    use super::table::{Allowed, Setting};
    use super::*;

    /// Settings as `NAME=value`, separated by spaces, for each of the three sources.
    fn given([command_line, environment, dot_env]: [&str; 3]) -> RawConfig {
        let map = |text: &str| {
            let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        RawConfig {
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
    fn the_command_line_overrides_the_environment_which_overrides_dot_env() {
        check_port(["", "", ""], 3001, "PORT = 3001 (default in development)");
        check_port(["", "", "PORT=3"], 3, "PORT = 3 (.env)");
        check_port(["", "PORT=2", "PORT=3"], 2, "PORT = 2 (environment)");
        check_port(["PORT=1", "PORT=2", "PORT=3"], 1, "PORT = 1 (command line)");
        check_port(["PORT=1", "PORT=music", ""], 1, "PORT = 1 (command line)");
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
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
        assert_eq!(config.logging.levels.all, level);
        assert_eq!(config.monitoring.target_latency, Duration::from_millis(latency_ms));
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
    fn an_unknown_node_env_is_noted_not_rejected() {
        let config = config(["", "NODE_ENV=test", ""]);
        assert_eq!(config.profile, Profile::Development);
        assert_eq!(config.notes.len(), 1);
    }

    /// Values at both ends are accepted, values beyond are rejected, from every source.
    #[test]
    fn every_range_is_enforced() {
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
                check_rejected(setting, &value);
            }
        }
    }

    #[test]
    fn words_outside_the_list_are_rejected() {
        for setting in table::SETTINGS {
            if let Allowed::OneOf(words) = setting.allowed {
                for word in words {
                    // Other settings that the profile `internet` and a cluster require.
                    let others = "TRUSTED_PROXIES=127.0.0.1 CORS_ORIGIN=https://band.example \
                                  REDIS_URL=redis://stage";
                    let text = format!("{}={word} {others}", setting.variable);
                    assert!(Config::check(&given(["", &text, ""])).is_ok(), "{text}");
                }
                check_rejected(setting, "loud");
                check_rejected(setting, &words[0].to_uppercase());
            }
        }
        for (setting, values) in [
            (&table::CLUSTER_SECRET, ["short", "fifteen letters"]),
            (&table::NODE_URL, ["stage.local", "http://stage/page"]),
        ] {
            values.iter().for_each(|value| check_rejected(setting, value));
        }
        for value in ["stage.local", "256.0.0.1", "127.0.0.1:3001", "*"] {
            check_rejected(&table::HOST, value);
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
            check_rejected(&table::CORS_ORIGIN, value);
        }
    }

    /// From every source, the error shows the name as given there, the value, and the allowed
    /// values.
    #[track_caller]
    fn check_rejected(setting: &Setting, value: &str) {
        let text = format!("{}={value}", setting.variable);
        let names = [
            format!("--{}", setting.option),
            setting.variable.into(),
            format!(".env: {}", setting.variable),
        ];
        for (index, expected) in names.into_iter().enumerate() {
            let mut sources = ["", "", ""];
            sources[index] = &text;
            let Err(error) = Config::check(&given(sources)) else { panic!("{sources:?} is taken") };
            let ConfigError::Rejected { name, value: shown, allowed } = &error else {
                panic!("{error:?}")
            };
            let readable = if setting.secret { "(secret)" } else { value };
            assert_eq!((name, shown.as_str()), (&expected, readable));
            assert!(allowed.starts_with(&setting.allowed.to_string()), "{allowed}");
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
    }

    #[test]
    fn a_server_is_announced_where_others_can_reach_it() {
        let internet = "SECURITY_PROFILE=internet TRUSTED_PROXIES=127.0.0.1 \
                        CORS_ORIGIN=https://band.example";
        for (text, expected) in [
            ("", true),
            ("HOST=192.168.1.5", true),
            ("MDNS=off", false),
            ("HOST=localhost MDNS=on", false),
            ("HOST=::1", false),
            (internet, false),
            (&format!("{internet} MDNS=on"), true),
        ] {
            assert_eq!(config(["", text, ""]).mdns, expected, "{text}");
        }
    }

    #[test]
    fn the_internet_profile_requires_proxies_and_origins() {
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
        let own = whole.replace("TRUSTED_PROXIES=127.0.0.1", "TLS_CERT=cert.pem TLS_KEY=key.pem");
        assert!(check(&own).unwrap().tls.is_some());
        let policy = check(&whole).unwrap().engine.policy;
        assert_eq!((policy.peers.connections_max, policy.peers.connections_per_second), (32, 10));
        assert!(
            !policy.peers.spares_loopback
                && policy.hosts == Hosts::Public(vec!["band.example".into()])
        );
    }

    #[test]
    fn a_cluster_requires_redis_and_no_recording() {
        let cluster = |text: &str| Config::check(&given(["", text, ""])).map(|one| one.cluster);
        assert!(cluster("REDIS_URL=redis://stage").unwrap().is_none(), "it is off by default");
        assert!(cluster("CLUSTER=auto").unwrap().is_none());
        let on =
            cluster("CLUSTER=on REDIS_URL=redis://stage PORT=4000 LEASE_TTL=800").unwrap().unwrap();
        assert!(on.is_required && on.node.name.ends_with(":4000"), "{:?}", on.node);
        assert_eq!(on.node.lease_ttl, Duration::from_millis(800));
        let named = cluster("CLUSTER=auto REDIS_HOST=stage NODE_NAME=left CLUSTER_BUCKETS=8");
        let named = named.unwrap().unwrap();
        assert!(!named.is_required);
        assert_eq!((named.node.name.as_str(), named.node.buckets), ("left", 8));
        for lacking in ["", "REDIS_URL=redis://stage STORAGE=file"] {
            let error = cluster(&format!("CLUSTER=on {lacking}")).unwrap_err();
            assert!(error.to_string().contains("set REDIS_URL"), "{error}");
        }
        let recorded = "REDIS_URL=redis://stage RECORD_DIR=/tmp";
        assert!(cluster(&format!("CLUSTER=auto {recorded}")).unwrap().is_none());
        let error = cluster(&format!("CLUSTER=on {recorded}")).unwrap_err();
        assert!(error.to_string().contains("RECORD_DIR"), "{error}");
    }

    #[test]
    fn loopback_is_exempt_until_a_connection_limit_is_set() {
        let peers = |text| config(["", text, ""]).engine.policy.peers;
        assert_eq!((peers("").connections_max, peers("").spares_loopback), (256, true));
        let given = peers("CONNECTIONS_PER_IP=5");
        assert_eq!((given.connections_max, given.connections_per_second), (5, 100));
        assert!(!given.spares_loopback);
    }

    #[test]
    fn hosts_proxies_and_rates_are_parsed() {
        let policy = |text| config(["", text, ""]).engine.policy;
        let listed =
            policy("ALLOWED_HOSTS=Stage.example.,b CORS_ORIGIN=https://c.example:8443").hosts;
        assert_eq!(
            listed,
            Hosts::Local(["stage.example", "b", "c.example"].map(String::from).to_vec())
        );
        assert_eq!(policy("ALLOWED_HOSTS=*").hosts, Hosts::Any);
        let rates = policy("EVENT_RATES=chat_message=3,total=0").rates;
        assert_eq!(rates, RateLimits { chat_message: 3, total: 0, ..RateLimits::default() });
        assert_eq!(policy("TRUSTED_PROXIES=10.0.0.0/8,::1").proxies.len(), 2);
        for value in ["10.0.0.0/40", "10.0.0.1,", "proxy"] {
            check_rejected(&table::TRUSTED_PROXIES, value);
        }
        for value in ["a,", ".", "https://a", "a:80"] {
            check_rejected(&table::ALLOWED_HOSTS, value);
        }
        for value in ["chat=1", "total=-1", "total", "total=1,"] {
            check_rejected(&table::EVENT_RATES, value);
        }
    }

    /// Shards, and whether they are pinned.
    #[track_caller]
    fn check_shards(count: u16, quota: Option<u16>, text: &str, expected: (u16, bool)) {
        let given = RawConfig { cores: Cores { count, quota }, ..given(["", text, ""]) };
        let config = Config::check(&given).unwrap();
        assert_eq!(
            (config.threads.shards, config.threads.pin),
            expected,
            "{count} {quota:?} {text}"
        );
    }

    #[test]
    fn shards_are_pinned_only_if_each_core_has_one() {
        check_shards(4, None, "", (4, true));
        // Another server with as few shards would pin itself to the same cores.
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
    fn this_machine_reports_its_cores() {
        let cores = Cores::look();
        assert!(
            cores.count >= 1 && cores.usable() >= 1 && cores.usable() <= cores.count,
            "{cores:?}"
        );
    }

    #[test]
    fn every_setting_is_shown_once_and_no_secret_is() {
        let config = config(["", "SEED=424242", ""]);
        assert_eq!(config.engine.seed, Seed::from(424_242));
        let shown: Vec<_> = config.effective.iter().map(|line| line.variable).collect();
        assert_eq!(shown, table::SETTINGS.map(|setting| setting.variable));
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
    fn the_default_seed_is_random() {
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
    fn a_variable_with_the_prefix_overrides_the_bare_one() {
        check_port(["", "PORT=2 BANDSYNC_PORT=4", ""], 4, "PORT = 4 (environment)");
        check_port(["", "BANDSYNC_PORT=4", "PORT=3"], 4, "PORT = 4 (environment)");
        check_port(["", "", "PORT=3 BANDSYNC_PORT=4"], 4, "PORT = 4 (.env)");
        check_port(["PORT=1", "BANDSYNC_PORT=4", ""], 1, "PORT = 1 (command line)");
        check_port(["", "PORT=2 BANDSYNC_PORT=", ""], 2, "PORT = 2 (environment)");
        // The nearest source counts, under both names.
        check_port(["", "PORT=2", "BANDSYNC_PORT=4"], 2, "PORT = 2 (environment)");
        let error = Config::check(&given(["", "BANDSYNC_PORT=music", ""])).unwrap_err();
        assert!(error.to_string().starts_with("BANDSYNC_PORT cannot be"), "{error}");
    }

    #[test]
    fn every_setting_accepts_the_prefix() {
        for setting in table::SETTINGS {
            // Values other than the default, for settings that have a list or a range.
            let value = match setting.allowed {
                Allowed::OneOf(words) if words.contains(&"internet") => continue,
                Allowed::OneOf(words) => words[words.len() - 1].to_owned(),
                Allowed::Whole { max, .. } | Allowed::WholeOr { max, .. } => max.to_string(),
                Allowed::Described(_) => continue,
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

    /// A Service of Kubernetes may have a name that makes its variables look like ours.
    #[test]
    fn service_links_are_ignored_with_a_note() {
        let links = "REDIS_HOST=redis REDIS_PORT=tcp://10.96.0.5:6379 REDIS_SERVICE_HOST=10.96.0.5 \
                     REDIS_SERVICE_PORT=6379 REDIS_SERVICE_PORT_REDIS=6379 REDIS_PORT_6379_TCP=tcp://10.96.0.5:6379 \
                     REDIS_PORT_6379_TCP_PROTO=tcp REDIS_PORT_6379_TCP_PORT=6379 REDIS_PORT_6379_TCP_ADDR=10.96.0.5 \
                     REDIS_MASTER_PORT=tcp://10.96.0.6:6379";
        check_destination(links, "redis:6379 None 0");
        let notes = config(["", links, ""]).notes;
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(
            notes[0].starts_with("REDIS_PORT=\"tcp://10.96.0.5:6379\" is ignored"),
            "{notes:?}"
        );
        assert!(notes[0].contains("Use BANDSYNC_REDIS_PORT to set the port"), "{notes:?}");
        check_destination(&format!("{links} BANDSYNC_REDIS_PORT=7000"), "redis:7000 None 0");
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
    fn variables_of_the_node_server_are_converted() {
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
            assert_eq!(config.engine.policy.rates.total, 150);
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
        check_destination("REDIS_ENABLED=false REDIS_HOST=stage DATA_DIR=d", "Some(\"d\")");
        check_destination("REDIS_ENABLED=true REDIS_HOST=stage", "stage:6379 None 0");
    }

    #[test]
    fn our_own_names_override_those_of_the_node_server() {
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
    fn an_old_value_that_is_invalid_is_ignored_with_a_note() {
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
                config.notes[0].starts_with(&format!("{variable} is ignored: ")),
                "{:?}",
                config.notes
            );
        }
    }

    #[test]
    fn settings_that_differ_from_their_defaults_are_marked() {
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
    fn check_destination(environment: &str, expected: &str) {
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
        assert_eq!(shown, expected, "{environment}");
    }

    #[test]
    fn the_settings_choose_the_storage() {
        check_destination("", "None");
        let linux = cfg!(target_os = "linux");
        if linux {
            check_destination("HOME=/home/ann", "Some(\"/home/ann/.local/share/bandsync\")");
            check_destination("HOME=/home/ann XDG_DATA_HOME=/data", "Some(\"/data/bandsync\")");
        }
        check_destination("DATA_DIR=/stage HOME=/home/ann", "Some(\"/stage\")");
        check_destination("STORAGE=memory REDIS_URL=redis://a", "memory");
        check_destination("REDIS_HOST=stage", "stage:6379 None 0");
        check_destination(
            "REDIS_HOST=stage REDIS_PORT=7000 REDIS_PASSWORD=p@ss REDIS_DB=2",
            "stage:7000 Some(\"p@ss\") 2",
        );
        check_destination(
            "REDIS_HOST=other REDIS_URL=redis://:hush@stage/1",
            "stage:6379 Some(\"hush\") 1",
        );
        check_destination("STORAGE=redis", "127.0.0.1:6379 None 0");
        check_destination("STORAGE=file REDIS_HOST=stage DATA_DIR=d", "Some(\"d\")");
        check_destination("REDIS_URL=redis+cluster://a,b", "many");
        assert_eq!(config(["", "STORAGE=memory", ""]).engine.storage_wait, None);
        assert_eq!(
            config(["", "STORAGE_WAIT=7", ""]).engine.storage_wait,
            Some(Micros::from_millis(7))
        );
    }

    #[test]
    fn no_message_contains_a_password() {
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
    fn an_error_in_the_env_file_names_its_line() {
        let error = ConfigError::DotEnv(DotEnvError::Line(3));
        assert!(error.to_string().starts_with(".env line 3 "), "{error}");
    }
}
