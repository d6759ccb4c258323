//! Takes values out of the given settings, one at a time, and records the source of each.

use std::fmt;
use std::time::Duration;

use bandsync_engine::words::time::Micros;

use super::error::ConfigError;
use super::profile::Profile;
use super::raw::{Found, RawConfig, Source};
use super::table::{self, Allowed, Predecessor, Setting};

/// A setting in use, for display.
#[derive(Debug, Eq, PartialEq)]
pub struct Effective {
    pub(super) variable: &'static str,
    value: String,
    unit: &'static str,
    pub(super) source: Source,
    /// Whether the value differs from the default of its profile.
    pub differs: bool,
}

/// Takes and checks values, and records each one.
pub(super) struct Values<'a> {
    pub(super) given: &'a RawConfig,
    pub(super) profile: Profile,
    pub(super) effective: Vec<Effective>,
    /// Variables of the Node.js server that set something.
    pub(super) predecessors: Vec<&'static Predecessor>,
    pub(super) notes: Vec<String>,
}

impl<'a> Values<'a> {
    pub(super) fn whole(&mut self, setting: &'static Setting) -> Result<u64, ConfigError> {
        let Allowed::Whole { min, max } = setting.allowed else {
            panic!("{} is no number", setting.variable)
        };
        self.take(setting, |text| whole(text, min, max), u64::to_string)
    }

    /// Returns a count that fits into 32 bits.
    pub(super) fn count(&mut self, setting: &'static Setting) -> Result<u32, ConfigError> {
        let value = self.whole(setting)?;
        assert!(value <= u64::from(u32::MAX), "{} allows too much", setting.variable);
        Ok(value as u32)
    }

    pub(super) fn millis(&mut self, setting: &'static Setting) -> Result<Micros, ConfigError> {
        assert_eq!(setting.unit, "ms");
        self.whole(setting).map(Micros::from_millis)
    }

    pub(super) fn micros(&mut self, setting: &'static Setting) -> Result<Micros, ConfigError> {
        assert_eq!(setting.unit, "µs");
        self.whole(setting).map(Micros::from_micros)
    }

    pub(super) fn duration(&mut self, setting: &'static Setting) -> Result<Duration, ConfigError> {
        assert_eq!(setting.unit, "ms");
        self.whole(setting).map(Duration::from_millis)
    }

    /// Returns a number, or `choice` if the setting leaves it to the server.
    pub(super) fn whole_or(
        &mut self,
        setting: &'static Setting,
        choice: u64,
    ) -> Result<u64, ConfigError> {
        let Allowed::WholeOr { word, min, max } = setting.allowed else {
            panic!("{}", setting.variable)
        };
        let parse = |text: &str| if text == word { Some(choice) } else { whole(text, min, max) };
        self.take(setting, parse, u64::to_string)
    }

    /// True for `on`, false for `off`, `choice` for `auto`.
    pub(super) fn switch(
        &mut self,
        setting: &'static Setting,
        choice: bool,
    ) -> Result<bool, ConfigError> {
        let parse = |text: &str| match text {
            "on" => Some(true),
            "off" => Some(false),
            "auto" => Some(choice),
            _ => None,
        };
        self.take(setting, parse, |on| if *on { "on" } else { "off" }.to_owned())
    }

    pub(super) fn one_of(&mut self, setting: &'static Setting) -> Result<String, ConfigError> {
        let Allowed::OneOf(words) = setting.allowed else {
            panic!("{} has no list", setting.variable)
        };
        self.take(setting, |text| words.contains(&text).then(|| text.to_owned()), String::clone)
    }

    /// Returns the result of `parse`. The text itself is displayed.
    pub(super) fn parsed<T>(
        &mut self,
        setting: &'static Setting,
        parse: fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let parse = |text: &str| Some((text.to_owned(), parse(text)?));
        self.take(setting, parse, |(text, _)| text.clone()).map(|(_, value)| value)
    }

    /// Returns the result of `parse`, or `None` for the text `none`.
    pub(super) fn unless_none<T>(
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
                    "{variable} is ignored: to set {ours}, its value must be {allowed}"
                ));
                found = self.default_of(setting);
                value = parse(&found.text);
            }
        }
        let Some(value) = value else { return Err(rejected(setting, found)) };
        // A default is not secret: it says that no value is set.
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

    pub(super) fn find(&self, setting: &'static Setting) -> Found<'a> {
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

/// Parses digits only: `u64` would accept a `+` as well.
pub(super) fn whole(text: &str, min: u64, max: u64) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|value| digits && (min..=max).contains(value))
}

pub(super) fn rejected(setting: &Setting, found: Found<'_>) -> ConfigError {
    let value = match setting.secret {
        true => "(secret)".to_owned(),
        false => found.text.into_owned(),
    };
    ConfigError::Rejected { name: found.name, value, allowed: allowed_of(setting) }
}

/// Describes the values that a setting may have, with their unit.
fn allowed_of(setting: &Setting) -> String {
    format!("{} {}", setting.allowed, setting.unit).trim_end().to_owned()
}

impl Effective {
    /// Returns the setting as it could be given: `PORT=4000`. A value that a shell or a terminal
    /// would not take unchanged is quoted.
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
