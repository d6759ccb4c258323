//! Recordings of shards: written with covered secrets, and read.
//!
//! A [`Recorder`] taps the shards of a server and writes a file for each, in the form of
//! [`mod@format`]. [`reader`] sorts such files into runs and reads them; [`decoder`] decodes
//! recorded bytes into lines for people.

pub mod decoder;
pub mod format;
mod plan;
pub mod reader;
mod recorder;
pub mod redactor;
mod store;
mod writer;

pub use plan::RecordPlan;
pub use recorder::{Backlog, Recorder, ShardRecorder};
