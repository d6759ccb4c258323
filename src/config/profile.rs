//! The two sets of defaults.

use super::table::Setting;

/// A set of defaults.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Profile {
    /// For development: logs more and allows more.
    Development,
    /// For an evening with an audience.
    Production,
}

impl Profile {
    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Development, Self::Production].into_iter().find(|profile| profile.name() == text)
    }

    pub(super) fn default_of(self, setting: &Setting) -> &'static str {
        match self {
            Self::Development => setting.development,
            Self::Production => setting.production,
        }
    }

    /// Returns the name, as in `NODE_ENV`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}
