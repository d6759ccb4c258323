//! How often what is rare came about: a world that never gets there finds no bug there.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// Situations by name, and how often each was seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coverage(BTreeMap<Cow<'static, str>, u64>);

impl Coverage {
    /// Counts a situation.
    pub fn add(&mut self, what: impl Into<Cow<'static, str>>, count: u64) {
        if count > 0 {
            *self.0.entry(what.into()).or_default() += count;
        }
    }

    /// All of them, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(what, count)| (&**what, *count))
    }
}
