//! The contract of a backend, and the two backends. Sessions that are in memory only need none.

pub mod file;
pub mod redis;

use std::io;

use bandsync_engine::words::ids::SessionId;

use crate::series::Point;
use crate::waiting::Waiting;

/// Stores sessions and measurements. One thread uses it; a call may block for about a second.
pub trait Backend: Send {
    /// Opens the backend, or reopens it, and checks that it can be written to.
    fn connect(&mut self) -> Result<(), Failure>;

    /// Loads the record of a session; empty if the stored data makes no sense.
    fn load(&mut self, session: &SessionId) -> Result<Option<Box<[u8]>>, Failure>;

    /// Carries out changes, and returns an outcome for each. A failed change may have been carried
    /// out.
    fn apply(&mut self, changes: &[(SessionId, Change)]) -> Vec<Result<Applied, Failure>>;

    /// Renews the time to live of these sessions. Returns false if one of them is gone.
    fn refresh(&mut self, sessions: &[SessionId]) -> Result<bool, Failure>;

    /// Checks that the backend works. Returns false if it works but has lost its data.
    fn check(&mut self) -> Result<bool, Failure>;

    /// Starts to report what other servers store through `receive`, if there can be others.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    fn listen(&mut self, _receive: Box<dyn Fn(Foreign) + Send>) -> io::Result<()> {
        Ok(())
    }

    /// Deletes expired data, unless the backend does so itself.
    fn expire(&mut self) -> Result<(), Failure>;

    /// Moves or copies all stored data of a session to a place where it is kept for a week.
    fn set_aside(&mut self, session: &SessionId, how: Aside) -> Result<(), Failure>;

    /// Publishes that this server serves these sessions, for other servers that serve them too.
    fn announce(&mut self, _served: &[Foreign]) {}

    /// Adds measurements of one instant (Unix milliseconds), and drops those from before `oldest`.
    fn add_points(&mut self, at: i64, points: &[Point], oldest: i64) -> Result<(), Failure>;

    /// Returns all measurements since an instant (Unix milliseconds).
    fn points(&mut self, since: i64) -> Result<Vec<(i64, Point)>, Failure>;
}

/// A change of a session's record.
#[derive(Clone, Debug)]
pub enum Change {
    /// Replaces the stored record, unless that is newer.
    Put { epoch: u64, version: u64, record: Waiting },
    /// Deletes the record, unless it has a higher epoch.
    Delete { epoch: u64 },
}

/// The way in which a record is set aside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Aside {
    /// The record stays until it is replaced.
    Copy,
    /// The record is removed: it makes no sense.
    Move,
}

/// The outcome of a [`Change`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Applied {
    /// The change is stored and survives the end of this process.
    Done,
    /// The stored record is newer, and stays.
    Outdated { epoch: u64 },
    /// The stored data makes no sense, and stays until it is set aside.
    Senseless,
}

/// A failure of a backend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The backend may work later. The sentence names the problem, without secrets.
    Unavailable(String),
    /// The stored data is from a later version of the program and must not be touched.
    Newer(String),
    /// One session cannot be served; all others can. The sentence names the problem.
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
    /// Whether the other server has just stored the session. Otherwise it announced that it serves
    /// it too.
    pub stored: bool,
    /// The session.
    pub session: SessionId,
    /// Its epoch there.
    pub epoch: u64,
    /// Its version there.
    pub version: u64,
}
