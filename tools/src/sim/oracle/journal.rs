//! What a run has shown so far: the promise that was broken, rare situations, and the story.

use super::super::coverage::Coverage;

/// An invariant by number and name, and how it was broken.
pub type Breach = (&'static str, String);

#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The number of the invariant and its name.
    pub invariant: String,
    pub what: String,
    /// Microseconds.
    pub at: u64,
}

/// The notes of a run.
#[derive(Default)]
pub struct Journal {
    /// The first promise that was broken.
    pub failure: Option<Failure>,
    /// Lines about all that was said and done, if somebody wants to read them.
    pub story: Option<Vec<String>>,
    /// Rare situations that came about.
    pub seen: Coverage,
    /// Number of members that returned to their seats.
    pub recoveries: u64,
}

impl Journal {
    /// Notes the first promise that was broken.
    pub fn fail(&mut self, at: u64, invariant: &str, what: impl Into<String>) {
        if self.failure.is_none() {
            self.failure = Some(Failure { invariant: invariant.into(), what: what.into(), at });
        }
    }

    /// Notes a promise that was broken, if one was.
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
