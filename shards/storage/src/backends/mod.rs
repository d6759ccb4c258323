//! What carries orders out: the contract of a backend, and the two that there are. Sessions that are
//! kept in memory alone need none.

pub mod file;
pub mod redis;

use std::io;

use bandsync_engine::words::ids::SessionId;

use crate::series::Point;
use crate::waiting::Waiting;

/// What carries orders out. It is used by one thread, and may block it for about a second at most.
pub trait Backend: Send {
    /// Opens it, again if it was open, and makes sure that it can be written to.
    fn connect(&mut self) -> Result<(), Failure>;

    /// The record of a session; empty if what is stored there makes no sense.
    fn load(&mut self, session: &SessionId) -> Result<Option<Box<[u8]>>, Failure>;

    /// Carries out changes, and says what came of each. One that failed may have been carried out
    /// all the same.
    fn apply(&mut self, changes: &[(SessionId, Change)]) -> Vec<Result<Applied, Failure>>;

    /// Begins the time to live of these sessions anew. False if one of them is not there any more.
    fn refresh(&mut self, sessions: &[SessionId]) -> Result<bool, Failure>;

    /// Looks whether it still works. False if it does, but has lost what was in it.
    fn check(&mut self) -> Result<bool, Failure>;

    /// Begins to tell what other servers store by `heard`, if there can be others.
    ///
    /// # Errors
    /// If the system has no thread left.
    fn listen(&mut self, _heard: Box<dyn Fn(Foreign) + Send>) -> io::Result<()> {
        Ok(())
    }

    /// Deletes what has outlived its time, unless the backend does that by itself.
    fn expire(&mut self) -> Result<(), Failure>;

    /// Brings all that is stored of a session, if anything is, to where it can be looked at for a
    /// week.
    fn set_aside(&mut self, session: &SessionId, how: Aside) -> Result<(), Failure>;

    /// Publishes that these sessions are kept here, for other servers that keep them as well.
    fn announce(&mut self, _kept: &[Foreign]) {}

    /// Adds measurements of one instant, in Unix milliseconds, and forgets those from before
    /// `oldest`.
    fn add_points(&mut self, at: i64, points: &[Point], oldest: i64) -> Result<(), Failure>;

    /// All measurements since an instant, in Unix milliseconds.
    fn points(&mut self, since: i64) -> Result<Vec<(i64, Point)>, Failure>;
}

/// What is to become of a session's record.
#[derive(Clone, Debug)]
pub enum Change {
    /// It takes the place of the one that is there, unless that looks newer.
    Put { epoch: u64, version: u64, record: Waiting },
    /// It is deleted, unless it has a higher epoch.
    Delete { epoch: u64 },
}

/// How a record is set aside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Aside {
    /// It stays where it is, until it is replaced.
    Copy,
    /// It goes: it makes no sense.
    Move,
}

/// What came of a [`Change`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Applied {
    /// It is done and survives the end of this process.
    Done,
    /// What is there looks newer, and stays.
    Outdated { epoch: u64 },
    /// What is there makes no sense, and stays until it is set aside.
    Senseless,
}

/// Why a backend cannot do what it should.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// It may work later; the sentence says what is wrong, without secrets.
    Unavailable(String),
    /// What is stored was made by a later version of the program; it must not be touched.
    Newer(String),
    /// The session that was asked about cannot be served; all others can. The sentence says what is
    /// wrong.
    Session(String),
}

impl std::error::Error for Failure {}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Unavailable(reason) | Self::Newer(reason) | Self::Session(reason)) = self;
        f.write_str(reason)
    }
}

/// A session at another server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Foreign {
    /// Whether the other server has just stored it, rather than answered that it keeps it as well.
    pub stored: bool,
    /// The session.
    pub session: SessionId,
    /// Its epoch there.
    pub epoch: u64,
    /// Its version there.
    pub version: u64,
}
