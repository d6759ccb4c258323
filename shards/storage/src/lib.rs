//! Keeps sessions and the history of measurements beyond the process.
//!
//! Shards put orders into one bounded queue, by the [`Desk`], and never wait. One thread, the
//! [`Keeper`], takes them out, keeps the newest order for each session, carries them to a
//! [`Backend`] in batches, and sends the answers back by [`Shards`]. When the backend is away the
//! newest orders stay here until it is back.

mod backends;
mod backoff;
mod handle;
mod plan;
mod series;
mod status;
mod waiting;
mod worker;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use backends::{Backend, Failure};
use handle::Order;
use worker::Keeper;

pub use backends::redis::{ConnectionAddr, RedisPlace, Topology};
pub use handle::Desk;
pub use plan::{Place, Plan};
pub use series::{History, INTERVAL_MS, Point};
pub use status::{Condition, Status};
pub use worker::Shards;

/// The storage before its thread runs.
pub struct Storage {
    desk: Desk,
    keeper: Option<(Keeper, Receiver<Order>)>,
}

/// The running thread.
pub struct Running {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Storage {
    /// Opens the place, if it can be opened now. What cannot be is tried again by the thread.
    ///
    /// # Errors
    /// A sentence, if what is stored there was made by a later version of the program.
    pub fn open(plan: &Plan) -> Result<Self, String> {
        let backend: Option<Box<dyn Backend>> = match &plan.place {
            Place::Memory => None,
            Place::File(directory) => {
                Some(Box::new(backends::file::Store::new(directory.clone(), plan.ttl)))
            }
            Place::Redis(place) => {
                Some(Box::new(backends::redis::Store::new(*place.clone(), plan.ttl)))
            }
        };
        let Some(backend) = backend else {
            return Ok(Self { desk: Desk::nowhere(), keeper: None });
        };
        let (desk, orders) = Desk::new(Status::new(plan.place.name()));
        let (status, history) = (Arc::clone(&desk.status), Arc::clone(&desk.history));
        let mut keeper = Keeper::new(backend, plan, status, history);
        if let Err(Failure::Newer(reason)) = keeper.open() {
            return Err(reason);
        }
        Ok(Self { desk, keeper: Some((keeper, orders)) })
    }

    /// Where orders are taken.
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Starts the thread, which answers by `shards`.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(self, shards: impl Shards) -> io::Result<Running> {
        let Some((mut keeper, orders)) = self.keeper else {
            return Ok(Running { orders: None, thread: None });
        };
        if let Some(sender) = self.desk.orders() {
            // Without room it is lost; the other server will store the session again.
            keeper.listen(move |foreign| drop(sender.try_send(Order::Foreign(foreign))))?;
        }
        let run = move || keeper.run(&orders, &shards);
        let thread = std::thread::Builder::new().name("storage".into()).spawn(run)?;
        Ok(Running { orders: self.desk.orders(), thread: Some(thread) })
    }
}

impl Running {
    /// Stores what is still to be stored, and ends. If the backend is away this takes no longer
    /// than its time-outs.
    pub fn end(self) {
        if let Some(orders) = self.orders {
            // The thread takes orders out all the time, so there will be room.
            let _ = orders.send(Order::End);
        }
        if let Some(thread) = self.thread {
            // A panic of the thread was told in the log when it happened.
            let _ = thread.join();
        }
    }
}
