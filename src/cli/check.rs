//! `bandsync check`: examines the configuration and the machine, and explains each finding.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bandsync_redis::About;
use bandsync_storage::{ConnectionAddr, Endpoint, Target, Topology};

use crate::config::{Clustering, Config};
use crate::ops::activation;
use crate::ops::process::{self, print_line};
use crate::ops::tls::{Identity, TlsFiles};
use crate::server::start::StartError;

/// Time that Redis may take to answer. Guessed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Minimum of files that should be allowed.
const FILES_ENOUGH: u64 = 10_000;

/// A kernel setting that matters, its recommended value, and the consequence of less.
struct Sysctl {
    what: &'static str,
    name: &'static str,
    enough: u64,
    /// A lower value is reported as advice.
    recommended: u64,
    counts: &'static str,
    otherwise: &'static str,
}

/// Only settings that a venue would notice.
const SYSCTLS: [Sysctl; 3] = [
    Sysctl {
        what: "waiting connections",
        name: "net.core.somaxconn",
        enough: 1_024,
        recommended: 4_096,
        counts: "connections until they are accepted",
        otherwise: "an audience that reconnects at once is rejected",
    },
    Sysctl {
        what: "half-open connections",
        name: "net.ipv4.tcp_max_syn_backlog",
        enough: 256,
        recommended: 4_096,
        counts: "connections until they are established",
        otherwise: "tablets that reconnect at once have to try again after a second",
    },
    Sysctl {
        what: "files of the system",
        name: "fs.file-max",
        enough: 100_000,
        recommended: 1_000_000,
        counts: "open files of all programs",
        otherwise: "other programs may leave too few for the connections",
    },
];

/// The severity of a finding.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Severity {
    Good,
    /// The server works, but not as well as it could.
    Advice,
    /// The server would not start, or not serve.
    Error,
}

/// One thing that was examined.
#[derive(Debug)]
struct Finding {
    severity: Severity,
    what: &'static str,
    /// The finding, and the remedy if one is needed.
    text: String,
}

/// Examines everything and prints the findings. Returns 0 if the server can run, with or without
/// advice, and 1 if it cannot.
pub fn run(config: &Config) -> ExitCode {
    let mut findings = vec![
        port(config, activation::is_service()),
        files(),
        cores(config),
        clock(&read("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        reuse(
            number("/proc/sys/net/ipv4/tcp_tw_reuse"),
            ports(&read("/proc/sys/net/ipv4/ip_local_port_range")),
        ),
        memory(config, &read("/proc/meminfo")),
        log_file(config),
        admin(config),
    ];
    findings.extend(SYSCTLS.iter().map(|one| sysctl(one, number(&one.path()))));
    findings.extend(config.tls.as_ref().map(certificate));
    findings.extend(storage(&config.storage.target));
    findings.extend(config.cluster.iter().flat_map(cluster));
    for note in &config.notes {
        print_line(
            &Finding { severity: Severity::Advice, what: "configuration", text: note.clone() }
                .line(),
        );
    }
    print_line(
        &Finding {
            severity: Severity::Good,
            what: "configuration",
            text: "every setting is allowed".into(),
        }
        .line(),
    );
    for finding in &findings {
        print_line(&finding.line());
    }
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Reads the certificate as the server would.
fn certificate(files: &TlsFiles) -> Finding {
    let what = "TLS";
    match Identity::load(files) {
        Ok(_) => {
            let text = format!("{} and its key can be used", files.cert.display());
            Finding { severity: Severity::Good, what, text }
        }
        Err(error) => Finding { severity: Severity::Error, what, text: error.to_string() },
    }
}

/// Lists every setting with its unit and its source.
pub fn list_settings(config: &Config) -> ExitCode {
    for setting in &config.effective {
        print_line(&setting.to_string());
    }
    ExitCode::SUCCESS
}

impl Finding {
    fn new(severity: Severity, what: &'static str, text: impl Into<String>) -> Self {
        Self { severity, what, text: text.into() }
    }

    fn line(&self) -> String {
        let severity = match self.severity {
            Severity::Good => "ok     ",
            Severity::Advice => "advice ",
            Severity::Error => "ERROR  ",
        };
        format!("{severity}  {}: {}", self.what, self.text)
    }
}

/// `is_service`: systemd started this program. Then systemd itself may listen on the port.
fn port(config: &Config, is_service: bool) -> Finding {
    let address = SocketAddr::new(config.host, config.port);
    match TcpListener::bind(address) {
        Ok(_) if config.port == 0 => {
            Finding::new(Severity::Good, "port", "the server takes any free port")
        }
        Ok(_) => Finding::new(Severity::Good, "port", format!("{address} is free")),
        Err(error) if is_service && error.kind() == io::ErrorKind::AddrInUse => Finding::new(
            Severity::Advice,
            "port",
            format!(
                "{address} is in use, which is right if a socket unit listens on it (systemctl list-sockets)"
            ),
        ),
        Err(error) => {
            let (host, port) = (config.host, config.port);
            let error = StartError::Listen { host, port, error };
            Finding::new(Severity::Error, "port", error.to_string())
        }
    }
}

fn files() -> Finding {
    match process::raise_file_limit() {
        Ok(limit) if limit >= FILES_ENOUGH => Finding::new(
            Severity::Good,
            "open files",
            format!("up to {limit}, one for each connection"),
        ),
        Ok(limit) => Finding::new(
            Severity::Advice,
            "open files",
            format!(
                "only {limit} are allowed, one for each connection: raise LimitNOFILE (systemd) or `ulimit -Hn`"
            ),
        ),
        Err(error) => Finding::new(
            Severity::Advice,
            "open files",
            format!("the limit cannot be raised: {error}"),
        ),
    }
}

fn cores(config: &Config) -> Finding {
    let (cores, shards) = (config.threads.cores, config.threads.shards);
    if shards > cores.usable() {
        let text =
            format!("{shards} shards share {cores} and wait for each other: use --shards auto");
        return Finding::new(Severity::Advice, "cores", text);
    }
    let pinned = if config.threads.pin { "each pinned to one" } else { "not pinned" };
    Finding::new(Severity::Good, "cores", format!("{shards} shards on {cores}, {pinned}"))
}

fn clock(source: &str) -> Finding {
    match source {
        "tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page" => Finding::new(
            Severity::Good,
            "clock",
            format!("the kernel's source is {source}, which takes about 25 ns to read"),
        ),
        "" => Finding::new(Severity::Good, "clock", "the kernel does not name its source"),
        slow => Finding::new(
            Severity::Advice,
            "clock",
            format!(
                "the kernel's source {slow} is slow to read, and a shard reads it for every input: boot with clocksource=tsc if the machine's is stable"
            ),
        ),
    }
}

impl Sysctl {
    /// Returns the file in which the kernel shows it.
    fn path(&self) -> String {
        format!("/proc/sys/{}", self.name.replace('.', "/"))
    }
}

fn sysctl(one: &Sysctl, value: Option<u64>) -> Finding {
    let Sysctl { what, name, enough, recommended, counts, otherwise } = one;
    match value {
        Some(value) if value < *enough => Finding::new(
            Severity::Advice,
            what,
            format!(
                "the kernel keeps only {value} {counts}, so {otherwise}: sysctl {name}={recommended}"
            ),
        ),
        Some(value) => {
            Finding::new(Severity::Good, what, format!("the kernel keeps {value} {counts}"))
        }
        None => {
            Finding::new(Severity::Good, what, format!("unknown: {} cannot be read", one.path()))
        }
    }
}

/// Only a proxy on this machine can run out of ports: each tablet has ports of its own.
fn reuse(reuse: Option<u64>, ports: Option<u64>) -> Finding {
    match (reuse, ports) {
        (Some(0), Some(ports)) if ports < 20_000 => Finding::new(
            Severity::Advice,
            "ports of a local proxy",
            format!(
                "{ports} at once, and none is reused early: sysctl net.ipv4.ip_local_port_range='1024 65535' net.ipv4.tcp_tw_reuse=1"
            ),
        ),
        (_, Some(ports)) => {
            Finding::new(Severity::Good, "ports of a local proxy", format!("{ports} at once"))
        }
        (_, None) => Finding::new(
            Severity::Good,
            "ports of a local proxy",
            "unknown: /proc/sys/net/ipv4/ip_local_port_range cannot be read",
        ),
    }
}

fn memory(config: &Config, meminfo: &str) -> Finding {
    let limits = &config.monitoring.limits;
    if limits.memory_bytes > limits.memory_limit_bytes {
        return Finding::new(
            Severity::Advice,
            "memory",
            "MEMORY_THRESHOLD is above MEMORY_LIMIT: members would be rejected before caches are dropped",
        );
    }
    let limit = limits.memory_limit_bytes / 1_000_000;
    match available(meminfo) {
        Some(available) if available < limits.memory_limit_bytes => Finding::new(
            Severity::Advice,
            "memory",
            format!(
                "{} MB are free, less than MEMORY_LIMIT ({limit} MB): the system may kill the server before it rejects members",
                available / 1_000_000
            ),
        ),
        Some(available) => Finding::new(
            Severity::Good,
            "memory",
            format!("{} MB are free, {limit} MB may be used", available / 1_000_000),
        ),
        None => Finding::new(Severity::Good, "memory", "unknown: /proc/meminfo cannot be read"),
    }
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

fn log_file(config: &Config) -> Finding {
    let Some(path) = &config.logging.file else {
        return Finding::new(Severity::Good, "log", "goes to standard error");
    };
    match fs::OpenOptions::new().create(true).append(true).open(path) {
        Ok(_) => Finding::new(Severity::Good, "log", format!("{} can be written", path.display())),
        Err(error) => Finding::new(
            Severity::Error,
            "log",
            format!("{} cannot be written: {error}", path.display()),
        ),
    }
}

fn admin(config: &Config) -> Finding {
    let text = match (config.host.is_loopback(), &config.admin_token) {
        (_, Some(_)) => "dashboard and metrics require ADMIN_TOKEN, also from this machine",
        (true, None) => "dashboard and metrics are open to this machine",
        (false, None) => {
            "dashboard and metrics are open to this machine only; ADMIN_TOKEN opens them to others"
        }
    };
    Finding::new(Severity::Good, "operator pages", text)
}

/// Examines the storage: whether its file can be written, or whether each node of Redis answers.
fn storage(target: &Target) -> Vec<Finding> {
    match target {
        Target::Memory => {
            vec![Finding::new(Severity::Good, "storage", "sessions end with the process")]
        }
        Target::File(directory) => vec![file(directory.as_deref())],
        Target::Redis(endpoint) => {
            let nodes = match &endpoint.topology {
                Topology::Single(node) => std::slice::from_ref(node),
                Topology::Sentinel { sentinels, .. } => sentinels,
                Topology::Cluster(nodes) => nodes,
            };
            nodes.iter().map(|node| redis(node.addr())).collect()
        }
    }
}

/// Examines what a cluster needs of Redis, and which of its settings would lose data.
fn cluster(wish: &Clustering) -> Vec<Finding> {
    let topology = wish.node.redis.clone();
    let endpoint = Endpoint { topology, replicas: 0, timeout: PATIENCE };
    let mut findings = match bandsync_redis::about(&endpoint) {
        Ok(servers) => servers.iter().flat_map(examine).collect(),
        Err(error) => vec![Finding::new(
            Severity::Advice,
            "cluster",
            format!("Redis cannot be examined: {error}"),
        )],
    };
    if wish.node.secret.is_none() {
        let text = "nodes obey every program that may publish in Redis: set CLUSTER_SECRET";
        findings.push(Finding::new(Severity::Advice, "messages of nodes", text));
    }
    findings
}

/// Maximum difference to the clock of Redis that is not reported, in milliseconds. Guessed: Redis
/// ends leases by its clock, and only a step of it matters.
const CLOCK_APART_MS: i64 = 1_000;

/// Examines a server that accepts writes: every setting and state of it that would lose data.
fn examine(about: &About) -> Vec<Finding> {
    let field = |name| bandsync_redis::info_field(&about.info, name).unwrap_or_default();
    let number = |name| field(name).parse::<u64>().unwrap_or_default();
    let setting = |name: &str| about.settings.get(name).map(String::as_str);
    let mut parts = field("redis_version").split('.').map(|part| part.parse::<u32>().ok());
    let version = (parts.next().flatten(), parts.next().flatten());
    let is_cluster = field("cluster_enabled") == "1";
    let is_copied = field("connected_slaves") != "0";
    let (is_logged, is_saved) = (field("aof_enabled") == "1", setting("save") != Some(""));
    let (used, most) = (number("used_memory"), number("maxmemory"));
    let rules = [
        (
            "version of Redis",
            Severity::Error,
            [
                (
                    version < (Some(6), Some(2)),
                    "it is too old for a cluster: use Redis 6.2 or later",
                ),
                (
                    is_cluster && version < (Some(7), Some(0)),
                    "a Redis Cluster needs sharded channels: use Redis 7.0 or later",
                ),
            ],
        ),
        (
            "memory of Redis",
            Severity::Error,
            [
                (
                    most > 0 && field("maxmemory_policy") != "noeviction",
                    "it drops sessions when it is full: set maxmemory-policy noeviction",
                ),
                (
                    most > 0 && used > most / 10 * 9,
                    "over 90 % of maxmemory is used, and a full Redis stores nothing: raise maxmemory",
                ),
            ],
        ),
        (
            "role of Redis",
            Severity::Error,
            [
                (
                    field("role") == "slave",
                    "it is a replica and accepts no writes: name its primary",
                ),
                (field("loading") == "1", "it is loading its data: wait until it has"),
            ],
        ),
        (
            "writes to the disk of Redis",
            Severity::Error,
            [
                (
                    field("aof_last_write_status") == "err",
                    "the last one failed, and so do commits: free its disk, or repair it",
                ),
                (
                    field("rdb_last_bgsave_status") == "err",
                    "the last snapshot failed, and commits may fail: free its disk and memory",
                ),
            ],
        ),
        (
            "disk of Redis",
            Severity::Advice,
            [
                (
                    !is_logged && is_saved,
                    "a restart loses the changes since its last snapshot: set appendonly yes",
                ),
                (
                    !is_logged && !is_saved,
                    "a restart loses all sessions, because nothing is saved: set appendonly yes",
                ),
            ],
        ),
        (
            "appendfsync of Redis",
            Severity::Advice,
            [
                (
                    is_logged && setting("appendfsync") == Some("no"),
                    "a lost machine loses up to 30 s of changes: set appendfsync everysec",
                ),
                (false, ""),
            ],
        ),
        (
            "replicas of Redis",
            Severity::Advice,
            [
                (!is_copied, "none: all sessions are lost with its machine"),
                (
                    is_copied && setting("min-replicas-to-write") == Some("0"),
                    "a primary that is cut off accepts changes that are lost later: set min-replicas-to-write 1",
                ),
            ],
        ),
    ];
    let finding = |(what, severity, rules): (&'static str, _, [(bool, &str); 2])| match rules
        .into_iter()
        .find(|(is_wrong, _)| *is_wrong)
    {
        Some((_, text)) => Finding::new(severity, what, format!("{}: {text}", about.address)),
        None => Finding::new(Severity::Good, what, format!("{}: suits a cluster", about.address)),
    };
    let mut findings: Vec<Finding> = rules.into_iter().map(finding).collect();
    let text = |text: String| format!("{}: {text}", about.address);
    if !about.denied.is_empty() {
        let denied = about.denied.join(", ");
        let text = text(format!("its ACL forbids {denied}: permit it by ACL SETUSER"));
        findings.push(Finding::new(Severity::Error, "permissions in Redis", text));
    }
    if about.ahead_ms.abs() > CLOCK_APART_MS {
        let side = if about.ahead_ms < 0 { "behind" } else { "ahead of" };
        let seconds = about.ahead_ms.abs() / 1_000;
        let text = text(format!("{seconds} s {side} this machine's: set both by NTP"));
        findings.push(Finding::new(Severity::Advice, "clock of Redis", text));
    }
    findings
}

fn file(directory: Option<&Path>) -> Finding {
    let Some(directory) = directory else {
        return Finding::new(
            Severity::Advice,
            "storage",
            "no directory was found for the file, so sessions end with the process: name one with --data",
        );
    };
    let shown = directory.display();
    // The server creates the directory, so check the nearest one that exists.
    let there = directory.ancestors().find(|folder| folder.exists()).unwrap_or(directory);
    match process::may_write(there) {
        Ok(()) => {
            Finding::new(Severity::Good, "storage", format!("sessions are stored in {shown}"))
        }
        Err(error) => Finding::new(
            Severity::Advice,
            "storage",
            format!(
                "{shown} cannot be written ({error}), so sessions end with the process: permit writing, or name another directory with --data"
            ),
        ),
    }
}

/// Checks only whether the address answers as Redis does. A rejected login is an answer too, so the
/// check needs no password and cannot reveal one.
fn redis(address: &ConnectionAddr) -> Finding {
    let ConnectionAddr::Tcp(host, port) = address else {
        let text = format!("{address} uses TLS, which this check cannot test");
        return Finding::new(Severity::Advice, "Redis", text);
    };
    match ping(&format!("{host}:{port}")) {
        Ok(()) => Finding::new(Severity::Good, "Redis", format!("{address} answers")),
        Err(error) => Finding::new(
            Severity::Advice,
            "Redis",
            format!(
                "{address} does not answer ({error}): sessions would be kept in memory only. Start Redis, or correct REDIS_URL"
            ),
        ),
    }
}

fn ping(address: &str) -> io::Result<()> {
    use io::{Read, Write};
    let target = address.to_socket_addrs()?.next();
    let target = target.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such host"))?;
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"PING\r\n")?;
    let mut first = [0];
    stream.read_exact(&mut first)?;
    match first {
        [b'+' | b'-'] => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it is not Redis")),
    }
}

/// Reads a file of the kernel. Returns an empty text if it cannot be read.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn number(path: &str) -> Option<u64> {
    read(path).parse().ok()
}

/// Returns the number of ports in a range such as `32768 60999`.
fn ports(range: &str) -> Option<u64> {
    let (first, last) = range.split_once(char::is_whitespace)?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    last.checked_sub(first).map(|count| count + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::raw::RawConfig;

    fn config(pairs: &[(&str, &str)]) -> Config {
        let environment =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::check(&RawConfig {
            cores: crate::config::raw::Cores { count: 1, quota: None },
            environment,
            ..RawConfig::default()
        })
        .unwrap()
    }

    #[test]
    fn a_port_in_use_is_reported_as_trouble_and_a_free_one_is_not() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port_text = taken.local_addr().unwrap().port().to_string();
        let config = config(&[("HOST", "localhost"), ("PORT", &port_text)]);
        let finding = port(&config, false);
        assert_eq!(finding.severity, Severity::Error);
        assert!(finding.text.contains("in use"), "{finding:?}");
        assert_eq!(port(&config, true).severity, Severity::Advice, "systemd may listen on it");
        drop(taken);
        assert_eq!(port(&config, false).severity, Severity::Good);
    }

    #[test]
    fn kernel_settings_below_the_recommendation_give_advice() {
        assert_eq!(clock("tsc").severity, Severity::Good);
        assert_eq!(clock("hpet").severity, Severity::Advice);
        let low = sysctl(&SYSCTLS[0], Some(128));
        assert_eq!(low.severity, Severity::Advice);
        assert!(low.text.ends_with("is rejected: sysctl net.core.somaxconn=4096"), "{low:?}");
        for one in &SYSCTLS {
            assert_eq!(sysctl(one, Some(one.enough)).severity, Severity::Good);
            assert_eq!(sysctl(one, None).severity, Severity::Good);
            assert!(one.recommended >= one.enough);
        }
        assert_eq!(ports("32768\t60999"), Some(28_232));
        assert_eq!(reuse(Some(0), Some(5_000)).severity, Severity::Advice);
        assert_eq!(reuse(Some(2), Some(28_232)).severity, Severity::Good);
    }

    #[test]
    fn available_memory_is_compared_with_the_threshold() {
        let some = "MemTotal: 9 kB\nMemAvailable:    4000000 kB\n";
        assert_eq!(memory(&config(&[]), some).severity, Severity::Good);
        assert_eq!(memory(&config(&[]), "MemAvailable: 100000 kB").severity, Severity::Advice);
        assert_eq!(
            memory(&config(&[("MEMORY_THRESHOLD", "2000")]), some).severity,
            Severity::Advice
        );
    }

    #[test]
    fn redis_is_contacted_and_its_password_is_not_shown() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answer = std::thread::spawn(move || {
            use io::Write;
            listener.accept().unwrap().0.write_all(b"-NOAUTH\r\n").unwrap();
        });
        let asked = |url: &str| {
            let config = config(&[("REDIS_URL", url)]);
            storage(&config.storage.target)
        };
        let findings = asked(&format!("redis://me:hush@{address}/3"));
        answer.join().unwrap();
        assert_eq!((findings.len(), findings[0].severity), (1, Severity::Good), "{findings:?}");
        assert!(
            findings[0].text.contains(&address) && !findings[0].text.contains("hush"),
            "{findings:?}"
        );
        let gone = asked(&format!("redis+cluster://me:hush@{address},{address}"));
        assert_eq!(
            gone.iter().map(|one| one.severity).collect::<Vec<_>>(),
            [Severity::Advice; 2],
            "{gone:?}"
        );
        assert_eq!(asked("rediss://stage")[0].severity, Severity::Advice);
    }

    #[test]
    fn settings_of_redis_that_lose_data_are_reported() {
        let well = "redis_version:6.2.0\r\nmaxmemory:1000\r\nmaxmemory_policy:noeviction\r\n\
                    used_memory:900\r\naof_enabled:1\r\nconnected_slaves:1\r\nrole:master\r\n\
                    aof_last_write_status:ok\r\nrdb_last_bgsave_status:ok\r\nloading:0\r\n\
                    cluster_enabled:0\r\n";
        let settings =
            [("save", "3600 1"), ("appendfsync", "everysec"), ("min-replicas-to-write", "1")];
        let wrong = |info: &str, settings: &[(&str, &str)]| {
            let about = About {
                address: "stage:6379".into(),
                info: info.into(),
                settings: settings
                    .iter()
                    .map(|(name, value)| ((*name).into(), (*value).into()))
                    .collect(),
                ..About::default()
            };
            let findings = examine(&about);
            assert!(findings.iter().all(|finding| finding.text.starts_with("stage:6379: ")));
            findings
                .into_iter()
                .filter(|finding| finding.severity != Severity::Good)
                .map(|finding| (finding.severity, finding.text))
                .collect::<Vec<_>>()
        };
        assert_eq!(wrong(well, &settings), []);
        // Without the right to read settings nothing is said of them.
        assert_eq!(wrong(well, &[]), []);
        use Severity::{Advice, Error};
        for (from, to, severity, remedy) in [
            ("version:6.2.0", "version:6.0.16", Error, "Redis 6.2"),
            ("cluster_enabled:0", "cluster_enabled:1", Error, "Redis 7.0"),
            ("noeviction", "allkeys-lru", Error, "maxmemory-policy noeviction"),
            ("used_memory:900", "used_memory:901", Error, "raise maxmemory"),
            ("role:master", "role:slave", Error, "name its primary"),
            ("loading:0", "loading:1", Error, "wait"),
            ("write_status:ok", "write_status:err", Error, "free its disk"),
            ("bgsave_status:ok", "bgsave_status:err", Error, "free its disk"),
            ("aof_enabled:1", "aof_enabled:0", Advice, "appendonly yes"),
            ("connected_slaves:1", "connected_slaves:0", Advice, "with its machine"),
        ] {
            let found = wrong(&well.replace(from, to), &settings);
            assert!(
                matches!(&found[..], [(found, text)] if *found == severity && text.contains(remedy)),
                "{to}: {found:?}"
            );
        }
        for (name, value, remedy) in [
            ("appendfsync", "no", "appendfsync everysec"),
            ("min-replicas-to-write", "0", "min-replicas-to-write 1"),
        ] {
            let found = wrong(well, &[(name, value)]);
            assert!(matches!(&found[..], [(Advice, text)] if text.contains(remedy)), "{found:?}");
        }
        let unsaved = wrong(&well.replace("aof_enabled:1", "aof_enabled:0"), &[("save", "")]);
        assert!(matches!(&unsaved[..], [(Advice, text)] if text.contains("loses all sessions")));
        let unbounded =
            well.replace("maxmemory:1000", "maxmemory:0").replace("noeviction", "allkeys-lru");
        assert_eq!(wrong(&unbounded, &settings), []);
        let denied = vec!["PUBLISH to bandsync:*".to_owned()];
        for (about, part) in [
            (About { denied, ..About::default() }, "ACL forbids PUBLISH to bandsync:*"),
            (About { ahead_ms: 90_000, ..About::default() }, "90 s ahead of this machine's"),
            (About { ahead_ms: -90_000, ..About::default() }, "90 s behind this machine's"),
        ] {
            let about = About { info: well.into(), address: "stage".into(), ..about };
            let last = examine(&about).pop().unwrap();
            assert!(last.severity != Severity::Good && last.text.contains(part), "{}", last.text);
        }
    }

    #[test]
    fn the_data_directory_is_checked_but_not_created() {
        let place = std::env::temp_dir().join(format!("bandsync-check-{}", std::process::id()));
        let inside = place.join("deeper");
        let severity = |target: Target| storage(&target)[0].severity;
        assert_eq!(severity(Target::File(Some(inside))), Severity::Good);
        assert!(!place.exists());
        assert_eq!(severity(Target::File(Some("/proc/1/no".into()))), Severity::Advice);
        assert_eq!(severity(Target::File(None)), Severity::Advice);
        assert_eq!(severity(Target::Memory), Severity::Good);
    }

    #[test]
    fn an_unwritable_log_file_is_reported_as_trouble() {
        assert_eq!(
            log_file(&config(&[("LOG_FILE", "/no/such/folder/log")])).severity,
            Severity::Error
        );
    }
}
