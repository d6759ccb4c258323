//! Recordings of what shards did: written, with secrets covered, and read again.
//!
//! A [`Recorder`] taps the shards of a server and writes a file for each, whose form is in
//! [`mod@format`]. [`reader`] sorts such files into runs and reads them; [`decoder`] turns recorded bytes
//! into lines for people.

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
