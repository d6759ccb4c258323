//! Stores sessions and the history of measurements beyond the process.
//!
//! Shards put requests into one bounded queue through the [`StorageHandle`], and never wait. One
//! thread, the `Worker`, takes them out, keeps the newest request of each session, passes them to a
//! `Backend` in batches, and returns the outcomes through [`Shards`]. While the backend is
//! unavailable, the newest requests stay here.

mod backends;
mod backoff;
mod handle;
mod plan;
mod series;
mod status;
mod waiting;
mod worker;

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use backends::{Backend, Failure};
use handle::StorageRequest;
use worker::Worker;

pub use backends::redis::{ConnectionAddr, Endpoint, Topology, TopologyError};
pub use handle::StorageHandle;
pub use plan::{Plan, Target};
pub use series::{History, INTERVAL_MS, Point};
pub use status::{Condition, Status};
pub use worker::Shards;

/// The storage before its thread starts.
pub struct Storage {
    handle: StorageHandle,
    worker: Option<(Worker, Receiver<StorageRequest>)>,
}

/// The stored data is from a later version of the program and must not be touched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewerFormat {
    reason: String,
}

impl fmt::Display for NewerFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Error for NewerFormat {}

/// The running thread.
pub struct Running {
    requests: Option<Sender<StorageRequest>>,
    thread: Option<JoinHandle<()>>,
}

impl Storage {
    /// Opens the backend, if it is available. Otherwise the thread tries again.
    ///
    /// # Errors
    /// If the stored data is from a later version of the program.
    pub fn open(plan: &Plan) -> Result<Self, NewerFormat> {
        let backend: Option<Box<dyn Backend>> = match &plan.target {
            Target::Memory => None,
            Target::File(directory) => {
                Some(Box::new(backends::file::Store::new(directory.clone(), plan.ttl)))
            }
            Target::Redis(endpoint) => {
                Some(Box::new(backends::redis::Store::new(*endpoint.clone(), plan.ttl)))
            }
        };
        let Some(backend) = backend else {
            return Ok(Self { handle: StorageHandle::nowhere(), worker: None });
        };
        let (handle, requests) = StorageHandle::new(Status::new(plan.target.name()));
        let (status, history) = (Arc::clone(&handle.status), Arc::clone(&handle.history));
        let mut worker = Worker::new(backend, plan, status, history);
        if let Err(Failure::Newer(reason)) = worker.open() {
            return Err(NewerFormat { reason });
        }
        Ok(Self { handle, worker: Some((worker, requests)) })
    }

    /// Returns the handle for requests.
    pub fn handle(&self) -> &StorageHandle {
        &self.handle
    }

    /// Starts the thread, which answers through `shards`.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn start(self, shards: impl Shards) -> io::Result<Running> {
        let Some((mut worker, requests)) = self.worker else {
            return Ok(Running { requests: None, thread: None });
        };
        if let Some(sender) = self.handle.requests() {
            // If the queue is full, the message is lost; the other server will store the session
            // again.
            worker
                .listen(move |foreign| drop(sender.try_send(StorageRequest::Foreign(foreign))))?;
        }
        let run = move || worker.run(&requests, &shards);
        let thread = std::thread::Builder::new().name("storage".into()).spawn(run)?;
        Ok(Running { requests: self.handle.requests(), thread: Some(thread) })
    }
}

impl Running {
    /// Stores what is pending, and ends. If the backend is unavailable, this takes no longer than
    /// its time-outs.
    pub fn end(self) {
        if let Some(requests) = self.requests {
            // The thread takes requests out all the time, so there will be room.
            let _ = requests.send(StorageRequest::End);
        }
        if let Some(thread) = self.thread {
            // The log has the panic of the thread, if there was one.
            let _ = thread.join();
        }
    }
}
