//! Readings of the cluster for `/health` and `/metrics`.

use std::sync::{Arc, OnceLock};

use bandsync_engine::io::NodeId;
use bandsync_engine::io::node::Standing;
use parking_lot::Mutex;

use crate::clock::{Keeper, Reading};
use crate::meters::Meters;

/// All readings. Threads of the cluster write them, and the server reads them.
#[derive(Debug, Default)]
pub struct Status {
    /// The counters.
    pub meters: Arc<Meters>,
    view: Mutex<View>,
    /// The clock, once the node has joined.
    clock: OnceLock<Arc<Keeper>>,
}

/// The cluster as this node sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// This node; none before it has joined.
    pub node: Option<NodeId>,
    /// The worst standing of all buckets; none before the start.
    pub standing: Option<Standing>,
    /// Whether the node is about to end.
    pub is_draining: bool,
    /// Unix milliseconds since when it has had this standing.
    pub since: i64,
    /// The reason why it is alone or claims nothing; empty if all is well.
    pub trouble: String,
    /// All nodes of the table that live, with this one.
    pub nodes: Vec<NodeView>,
}

/// A node of the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeView {
    /// Its number.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// The version of its program.
    pub version: String,
    /// Its address for members; empty if it has none.
    pub url: String,
    /// Its region.
    pub region: String,
    /// Milliseconds since it wrote its entry.
    pub seen_ms: u64,
    /// Whether it is about to end.
    pub is_draining: bool,
    /// The error of its clock, if it knows any: of this node now, of others when they wrote it.
    pub clock: Option<Reading>,
}

impl Status {
    /// Returns the present view.
    pub fn view(&self) -> View {
        let mut view = self.view.lock().clone();
        let number = view.node.map(|node| node.number);
        let own = view.nodes.iter_mut().find(|node| Some(node.number) == number);
        if let Some(own) = own {
            own.clock = self.clock();
        }
        view
    }

    /// Returns the error of this node's clock now; none if nothing is known of it.
    pub fn clock(&self) -> Option<Reading> {
        self.clock.get()?.reading()
    }

    /// Takes the error of the clock from here.
    pub(crate) fn attend(&self, clock: Arc<Keeper>) {
        // It has one clock only.
        let _ = self.clock.set(clock);
    }

    /// Changes the view.
    pub(crate) fn update(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view.lock());
    }
}
