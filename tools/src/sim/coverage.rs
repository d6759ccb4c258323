//! The rare situations that a world reached. A world that never reaches a situation finds no bug in
//! it.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// The number of occurrences of each situation, by its name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coverage(BTreeMap<Cow<'static, str>, u64>);

impl Coverage {
    /// Counts a situation.
    pub fn add(&mut self, what: impl Into<Cow<'static, str>>, count: u64) {
        if count > 0 {
            *self.0.entry(what.into()).or_default() += count;
        }
    }

    /// Iterates over the situations in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(what, count)| (&**what, *count))
    }
}
