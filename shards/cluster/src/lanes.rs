//! The threads of each lane.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::beat;
use crate::courier::Worker;
use crate::inbox;
use crate::order::{Job, Queue};
use crate::shared::Shared;

/// The running threads of all lanes.
pub struct Lanes {
    shared: Arc<Shared>,
    /// Closed to end the beats and the inboxes.
    end: Mutex<Option<Sender<()>>>,
    ended: Receiver<()>,
    couriers: Mutex<Vec<JoinHandle<()>>>,
    others: Mutex<Vec<JoinHandle<()>>>,
}

impl Lanes {
    /// Creates it without threads.
    pub fn new(shared: Arc<Shared>) -> Self {
        let (end, ended) = bounded(0);
        let (couriers, others) = (Mutex::default(), Mutex::default());
        Self { shared, end: Mutex::new(Some(end)), ended, couriers, others }
    }

    /// Starts the threads of a lane.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn start(&self, lane: usize, orders: Receiver<Job>) -> io::Result<()> {
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            Builder::new().name(format!("{name}-{lane}")).spawn(run)
        };
        let (shared, ended) = (Arc::clone(&self.shared), self.ended.clone());
        let beats = spawn("beat", Box::new(move || beat::run(&shared, lane, &ended)))?;
        let (shared, ended) = (Arc::clone(&self.shared), self.ended.clone());
        let inbox = spawn("inbox", Box::new(move || inbox::run(&shared, lane, &ended)))?;
        self.others.lock().extend([beats, inbox]);
        let worker = Worker::new(Arc::clone(&self.shared), lane, orders);
        self.couriers.lock().push(spawn("courier", Box::new(move || worker.run()))?);
        Ok(())
    }

    /// Starts the threads of lanes that were found since.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn grow(&self, count: usize) -> io::Result<()> {
        while self.shared.routes.count() < count {
            let lane = self.shared.routes.count();
            let (queue, orders) = Queue::new();
            self.shared.routes.add(queue);
            self.start(lane, orders)?;
        }
        Ok(())
    }

    /// Waits for the couriers, which send what is left, and then ends all other threads.
    pub fn end(&self) {
        // The log has the panic of a thread, if there was one.
        let couriers = std::mem::take(&mut *self.couriers.lock());
        couriers.into_iter().for_each(|thread| drop(thread.join()));
        *self.end.lock() = None;
        let others = std::mem::take(&mut *self.others.lock());
        others.into_iter().for_each(|thread| drop(thread.join()));
    }
}
