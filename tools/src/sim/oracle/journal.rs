//! The findings of a run: the broken invariant, rare situations, and the story.

use super::super::coverage::Coverage;

/// A broken invariant, by its number and name, and the way in which it was broken.
pub type Breach = (&'static str, String);

#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The number of the invariant and its name.
    pub invariant: String,
    pub what: String,
    /// The time in microseconds.
    pub at: u64,
}

/// The notes of a run.
#[derive(Default)]
pub struct Journal {
    /// The first invariant that was broken.
    pub failure: Option<Failure>,
    /// Lines about all messages and acts, if the story is wanted.
    pub story: Option<Vec<String>>,
    /// Rare situations that occurred.
    pub seen: Coverage,
    /// Number of members that returned to their seats.
    pub recoveries: u64,
}

impl Journal {
    /// Notes the first invariant that was broken.
    pub fn fail(&mut self, at: u64, invariant: &str, what: impl Into<String>) {
        if self.failure.is_none() {
            self.failure = Some(Failure { invariant: invariant.into(), what: what.into(), at });
        }
    }

    /// Notes an invariant that was broken, if one was.
    pub fn check(&mut self, at: u64, done: Result<(), Breach>) {
        if let Err((invariant, what)) = done {
            self.fail(at, invariant, what);
        }
    }

    /// Counts a situation.
    pub fn saw(&mut self, what: &'static str) {
        self.seen.add(what, 1);
    }

    /// Adds a line to the story.
    pub fn note(&mut self, now: u64, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>12.6} {}", now as f64 / 1e6, line()));
        }
    }
}
