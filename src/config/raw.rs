//! Settings as text: what operators give on the command line, in the environment and in `.env`,
//! under our names and those of the Node.js server; and the number of cores of the machine.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::dotenv;
use super::error::ConfigError;
use super::profile::Profile;
use super::table::{self, Setting};

/// Settings as they were given, unchecked.
#[derive(Debug, Default)]
pub struct RawConfig {
    /// Options of the command line, by variable name.
    pub command_line: BTreeMap<String, String>,
    /// The environment, by variable name.
    pub environment: BTreeMap<String, String>,
    /// The file `.env`, by variable name.
    pub dot_env: BTreeMap<String, String>,
    /// Cores that the process may use.
    pub cores: Cores,
}

/// The source of a value. The first source that has one counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// An option.
    CommandLine,
    /// The environment.
    Environment,
    /// The file `.env`.
    DotEnv,
    /// The environment or `.env`, under this name of the Node.js server.
    Predecessor(&'static str),
    /// The default of this profile.
    Default(Profile),
}

/// A value as it was given.
pub struct Found<'a> {
    /// The source that it came from.
    pub source: Source,
    /// The name under which it was given.
    pub name: String,
    /// The value, without the spaces around it.
    pub text: Cow<'a, str>,
}

/// Cores that the process may use.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cores {
    /// Cores in its affinity mask.
    pub count: u16,
    /// Cores that a CPU quota (cgroup) allows, rounded down, if fewer than `count`.
    pub quota: Option<u16>,
}

impl Cores {
    /// Asks the system. The standard library reads the quotas of cgroups, nested ones included.
    pub fn look() -> Self {
        let allowed = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let count = bandsync_driver::allowed_cores().unwrap_or(allowed);
        let small = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        Self { count: small(count), quota: (allowed < count).then(|| small(allowed)) }
    }

    /// Threads that can run at the same time.
    pub fn usable(self) -> u16 {
        self.quota.unwrap_or(self.count)
    }

    /// Whether each of `shards` shards has a core of its own. With fewer shards than cores a second
    /// server would pin itself to the same cores, and under a quota a pinned thread that has used
    /// its time cannot continue on another core.
    pub fn pins(self, shards: u64) -> bool {
        self.quota.is_none() && shards == u64::from(self.count)
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, quota } = self;
        write!(f, "{count} {}", if *count == 1 { "core" } else { "cores" })?;
        quota.map_or(Ok(()), |quota| write!(f, ", of which a CPU quota allows {quota}"))
    }
}

impl RawConfig {
    /// Adds the environment, the file `.env` and the number of cores to the options.
    pub fn gather(command_line: BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Ok(Self {
            command_line,
            environment: std::env::vars_os()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            dot_env: dotenv::read().map_err(ConfigError::DotEnv)?,
            cores: Cores::look(),
        })
    }

    /// Finds the value of a setting, under our names or those of the Node.js server.
    pub fn find(&self, setting: &'static Setting) -> Option<Found<'_>> {
        let typed = self.command_line.get(setting.variable).map(|text| Found {
            source: Source::CommandLine,
            name: format!("--{}", setting.option),
            text: text.trim().into(),
        });
        typed.or_else(|| self.variable(setting)).or_else(|| self.predecessor(setting))
    }

    /// Finds the value of a setting in the environment or `.env`, under the first of its names.
    fn variable(&self, setting: &Setting) -> Option<Found<'_>> {
        self.sources().find_map(|(source, values)| {
            setting.variables().find_map(|variable| {
                let text =
                    text_of(values, &variable).filter(|text| !is_service_link(&variable, text))?;
                let name = match source {
                    Source::DotEnv => format!(".env: {variable}"),
                    _ => variable,
                };
                Some(Found { source, name, text: text.into() })
            })
        })
    }

    /// Finds the value that the Node.js server had for a setting, converted to ours.
    fn predecessor(&self, setting: &Setting) -> Option<Found<'_>> {
        table::PREDECESSORS.iter().filter(|old| old.setting.variable == setting.variable).find_map(
            |old| {
                let values: Vec<Option<&str>> =
                    old.variables.iter().map(|variable| self.plain(variable)).collect();
                let name = *old.variables.iter().zip(&values).find(|(_, value)| value.is_some())?.0;
                let text = (old.convert)(&values).unwrap_or_default();
                Some(Found {
                    source: Source::Predecessor(name),
                    name: name.to_owned(),
                    text: text.into(),
                })
            },
        )
    }

    /// Finds a variable under this name alone.
    pub fn plain(&self, variable: &str) -> Option<&str> {
        self.sources().find_map(|(_, values)| text_of(values, variable))
    }

    /// Returns the sources of variables, the nearest first.
    fn sources(&self) -> impl Iterator<Item = (Source, &BTreeMap<String, String>)> {
        [(Source::Environment, &self.environment), (Source::DotEnv, &self.dot_env)].into_iter()
    }

    /// Returns a sentence for each of our variables that holds what Kubernetes sets for a Service.
    pub fn service_links(&self) -> Vec<String> {
        let names = table::SETTINGS.iter().flat_map(|setting| {
            setting.variables().map(move |variable| (setting.variable, variable))
        });
        let links = names.filter_map(|(bare, variable)| {
            let text = self.sources().find_map(|(_, values)| text_of(values, &variable))?;
            let service = variable.strip_suffix("_PORT").filter(|_| is_service_link(&variable, text))?;
            let service = service.to_ascii_lowercase().replace('_', "-");
            let other = if variable == bare { format!("{}{bare}", table::PREFIX) } else { bare.to_owned() };
            Some(format!(
                "{variable}={text:?} is ignored: Kubernetes sets it for a Service named {service:?}. Use {other} to set \
                 the port; enableServiceLinks: false removes such variables"
            ))
        });
        links.collect()
    }

    /// Returns a sentence about variables that have no effect, if there are any: those of the
    /// Node.js server, and those that look like ours. `used` names those of the Node.js server that
    /// set something.
    pub fn unused(&self, used: &[&str]) -> Option<String> {
        let ours: BTreeSet<String> =
            table::SETTINGS.iter().flat_map(|setting| setting.variables()).collect();
        let is_foreign = |name: &str| table::FOREIGN_VARIABLES.contains(&name);
        let begins = |name: &str| {
            name.starts_with("REDIS_") || name.starts_with(table::PREFIX) && !is_foreign(name)
        };
        let is_old = |name: &str| {
            let mut predecessors = table::PREDECESSORS.iter().flat_map(|old| old.variables);
            table::UNUSED_VARIABLES.contains(&name)
                || predecessors.any(|variable| *variable == name)
        };
        let names: BTreeSet<&str> = self
            .sources()
            .flat_map(|(_, values)| values)
            .filter(|(name, text)| !is_service_link(name, text))
            .map(|(name, _)| name.as_str())
            .filter(|name| {
                (begins(name) || is_old(name)) && !ours.contains(*name) && !used.contains(name)
            })
            .collect();
        let names: Vec<&str> = names.into_iter().collect();
        (!names.is_empty()).then(|| format!("these variables have no effect: {}", names.join(", ")))
    }
}

/// Returns a variable's value without the spaces around it. An empty value counts as not given, so
/// `PORT= bandsync` and a bare `PORT=` in a compose file mean the default.
fn text_of<'a>(values: &'a BTreeMap<String, String>, variable: &str) -> Option<&'a str> {
    values.get(variable).map(|text| text.trim()).filter(|text| !text.is_empty())
}

/// Whether Kubernetes (or Docker, for linked containers) sets this variable to give the address of
/// a Service. For a Service named `redis` these are `REDIS_SERVICE_HOST`, `REDIS_SERVICE_PORT`,
/// `REDIS_SERVICE_PORT_<NAME>`, `REDIS_PORT=tcp://…` and `REDIS_PORT_6379_TCP…`.
fn is_service_link(variable: &str, text: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];
    let address = PROTOCOLS.iter().any(|protocol| {
        text.trim().strip_prefix(protocol).is_some_and(|rest| rest.starts_with("://"))
    });
    let numbered = variable.split("_PORT_").skip(1).any(|rest| {
        let (number, protocol) = rest.split_once('_').unwrap_or_default();
        let protocol = protocol.split('_').next().unwrap_or_default().to_ascii_lowercase();
        number.parse::<u16>().is_ok() && PROTOCOLS.contains(&protocol.as_str())
    });
    variable.ends_with("_PORT") && address
        || numbered
        || ["_SERVICE_HOST", "_SERVICE_PORT"].iter().any(|end| variable.ends_with(end))
        || variable.contains("_SERVICE_PORT_")
}
