//! Takes values out of what was given, one setting at a time, and notes where each came from.

use std::fmt;
use std::time::Duration;

use bandsync_engine::words::time::Micros;

use super::error::ConfigError;
use super::profile::Profile;
use super::raw::{Found, RawConfig, Source};
use super::table::{self, Allowed, Predecessor, Setting};

/// A setting as it holds, for showing.
#[derive(Debug, Eq, PartialEq)]
pub struct Effective {
    pub(super) variable: &'static str,
    value: String,
    unit: &'static str,
    pub(super) source: Source,
    /// Whether it is something else than the default of its profile.
    pub differs: bool,
}

/// Takes values out of what was given, checks them, and keeps count of what holds.
pub(super) struct Values<'a> {
    pub(super) given: &'a RawConfig,
    pub(super) profile: Profile,
    pub(super) effective: Vec<Effective>,
    /// Those that set something.
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

    /// A count whose range ends within 32 bits.
    pub(super) fn count(&mut self, setting: &'static Setting) -> Result<u32, ConfigError> {
        let value = self.whole(setting)?;
        assert!(value <= u64::from(u32::MAX), "{} allows too much", setting.variable);
        Ok(value as u32)
    }

    pub(super) fn millis(&mut self, setting: &'static Setting) -> Result<Micros, ConfigError> {
        assert_eq!(setting.unit, "ms");
        self.whole(setting).map(Micros::from_millis)
    }

    pub(super) fn duration(&mut self, setting: &'static Setting) -> Result<Duration, ConfigError> {
        assert_eq!(setting.unit, "ms");
        self.whole(setting).map(Duration::from_millis)
    }

    /// A number, or `choice` when the word stands there.
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

    /// On, off, or `choice` when neither stands there.
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

    /// What `parse` makes of the text, which is also what is shown.
    pub(super) fn parsed<T>(
        &mut self,
        setting: &'static Setting,
        parse: fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let parse = |text: &str| Some((text.to_owned(), parse(text)?));
        self.take(setting, parse, |(text, _)| text.clone()).map(|(_, value)| value)
    }

    /// What `parse` makes of the text, or nothing if that is `none`.
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

/// Digits only: `u64` would take a `+` as well, and the message speaks of a whole number.
pub(super) fn whole(text: &str, min: u64, max: u64) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|value| digits && (min..=max).contains(value))
}

pub(super) fn refused(setting: &Setting, found: Found<'_>) -> ConfigError {
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
