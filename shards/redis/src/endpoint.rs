//! Addresses of Redis, parsed from a URL.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use redis::{ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

/// Address and options of Redis.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The servers.
    pub topology: Topology,
    /// Replicas that must confirm a write; 0 waits for none.
    pub replicas: u32,
    /// Time that an answer may take.
    pub timeout: Duration,
}

/// The servers of a Redis.
#[derive(Clone, Debug)]
pub enum Topology {
    /// One server.
    Single(ConnectionInfo),
    /// A primary that these Sentinels know under this name. Its login is used for the primary; its
    /// address comes from the Sentinels.
    Sentinel { sentinels: Vec<ConnectionInfo>, service: String, primary: Box<ConnectionInfo> },
    /// A Cluster with these nodes among others.
    Cluster(Vec<ConnectionInfo>),
}

/// The reason why a URL is not accepted. None repeats the URL, which may hold a password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TopologyError {
    /// The URL has no `://`.
    NoScheme,
    /// The scheme is unknown.
    UnknownScheme,
    /// A URL for Sentinel lacks the name of the service.
    NoService,
    /// An address is not valid, for this reason.
    Unreadable(String),
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoScheme => "it has no scheme such as redis://",
            Self::UnknownScheme => {
                "its scheme is not redis:// or rediss://, with +sentinel or +cluster"
            }
            Self::NoService => "it names no service, as in redis+sentinel://host:26379/mymaster",
            Self::Unreadable(reason) => reason,
        })
    }
}

impl Error for TopologyError {}

impl Topology {
    /// One server, as the variables of the Node.js server name it; `None` if the host is not valid.
    pub fn on_host(host: &str, port: u16, password: Option<&str>, db: i64) -> Option<Self> {
        let mut settings = RedisConnectionInfo::default().set_db(db);
        if let Some(password) = password {
            settings = settings.set_password(password);
        }
        let info = (host, port).into_connection_info().ok()?;
        Some(Self::Single(info.set_redis_settings(settings)))
    }

    /// Parses a URL: `redis://[user:password@]host[:port][/db]`, `redis+cluster://host,host…`,
    /// `redis+sentinel://[user:password@]host[:port],…/service[/db]`; with `rediss` for TLS.
    ///
    /// # Errors
    /// If the URL is not valid.
    pub fn parse(url: &str) -> Result<Self, TopologyError> {
        let (scheme, rest) = url.split_once("://").ok_or(TopologyError::NoScheme)?;
        let (tls, form) = match scheme.split_once('+') {
            None => (scheme, ""),
            Some((tls, form)) => (tls, form),
        };
        if !["redis", "rediss"].contains(&tls) {
            return Err(TopologyError::UnknownScheme);
        }
        let (login, rest) = rest.rsplit_once('@').map_or(("", rest), |(login, rest)| (login, rest));
        let at = if login.is_empty() { String::new() } else { format!("{login}@") };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let node = |host: &str, default_port: u16, path: &str, login: &str| {
            let has_port =
                host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let port = if has_port { String::new() } else { format!(":{default_port}") };
            let whole = format!("{tls}://{login}{host}{port}/{path}");
            let read = whole.into_connection_info();
            read.map_err(|error| TopologyError::Unreadable(error.category().to_owned()))
        };
        let nodes = |port, login: &str| {
            hosts
                .split(',')
                .map(|host| node(host.trim(), port, "", login))
                .collect::<Result<Vec<_>, _>>()
        };
        match form {
            "" => Ok(Self::Single(node(hosts, 6_379, path, &at)?)),
            "cluster" => Ok(Self::Cluster(nodes(6_379, &at)?)),
            "sentinel" => {
                let (service, db) = path.split_once('/').unwrap_or((path, ""));
                if service.is_empty() {
                    return Err(TopologyError::NoService);
                }
                let first = hosts.split(',').next().unwrap_or_default();
                let primary = Box::new(node(first.trim(), 26_379, db, &at)?);
                Ok(Self::Sentinel {
                    sentinels: nodes(26_379, "")?,
                    service: service.into(),
                    primary,
                })
            }
            _ => Err(TopologyError::UnknownScheme),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[track_caller]
    fn addresses(url: &str) -> Vec<String> {
        let (list, service) = match Topology::parse(url).unwrap() {
            Topology::Single(info) => (vec![info], String::new()),
            Topology::Cluster(nodes) => (nodes, String::new()),
            Topology::Sentinel { sentinels, service, primary } => {
                (sentinels, format!(" {service} {}", primary.redis_settings().db()))
            }
        };
        list.iter().map(|info| format!("{}{service}", info.addr())).collect()
    }

    #[test]
    fn urls_name_the_addresses_and_the_topology() {
        assert_eq!(addresses("redis://stage"), ["stage:6379"]);
        assert_eq!(addresses("redis://:p%40ss@stage:7000/3"), ["stage:7000"]);
        assert_eq!(addresses("redis+cluster://a:1,b:2, c"), ["a:1", "b:2", "c:6379"]);
        assert_eq!(
            addresses("redis+sentinel://u:p@a,b:5/band/2"),
            ["a:26379 band 2", "b:5 band 2"]
        );
        assert_eq!(addresses("rediss://stage"), ["stage:6379"]);
        let Topology::Single(info) = Topology::parse("redis://ann:p%40ss@stage/3").unwrap() else {
            panic!()
        };
        let settings = info.redis_settings();
        assert_eq!(
            (settings.username(), settings.password(), settings.db()),
            (Some("ann"), Some("p@ss"), 3)
        );
    }

    #[test]
    fn an_invalid_url_is_rejected_without_showing_its_password() {
        for url in [
            "",
            "stage:6379",
            "http://stage",
            "redis+sentinel://a",
            "redis+moon://a",
            "redis://h/x",
        ] {
            assert!(Topology::parse(url).is_err(), "{url}");
        }
        let error = Topology::parse("redis://:hush@[::1").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
    }
}
