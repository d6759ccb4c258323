//! Connections by their names: those of the driver, and sessions of HTTP long-polling, which
//! outlive the connections that carry their requests and are named by the engine itself.

use super::Connection;
use crate::slots::{Arena, Slots};
use crate::words::ids::ConnId;

/// Everything that speaks with the shard.
pub struct Connections {
    real: Slots<ConnId, Connection>,
    polled: Arena<ConnId, Connection>,
}

impl Connections {
    /// A table with room for so many sessions of long-polling, and for as many connections as the
    /// driver has.
    pub fn new(polled_max: u32) -> Self {
        Self {
            real: Slots::new(ConnId::POLLED),
            polled: Arena::new(polled_max.min(ConnId::POLLED)),
        }
    }

    /// Takes in a connection under the name that the driver gave it.
    pub fn insert(&mut self, id: ConnId, conn: Connection) {
        self.real.insert(id, conn);
    }

    /// Takes in a session of long-polling and names it; `None` if there are too many.
    pub fn insert_polled(&mut self, conn: Connection) -> Option<ConnId> {
        if self.polled.is_full() {
            return None;
        }
        let id = self.polled.insert(conn);
        Some(ConnId { index: id.index | ConnId::POLLED, ..id })
    }

    /// What has this name.
    pub fn get(&self, id: ConnId) -> Option<&Connection> {
        if id.is_polled() { self.polled.get(inner(id)) } else { self.real.get(id) }
    }

    /// As [`get`](Connections::get), to change it.
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        if id.is_polled() { self.polled.get_mut(inner(id)) } else { self.real.get_mut(id) }
    }

    /// Takes out what has this name.
    pub fn remove(&mut self, id: ConnId) -> Option<Connection> {
        if id.is_polled() { self.polled.remove(inner(id)) } else { self.real.remove(id) }
    }

    /// All of them; sessions of long-polling first, so that they are told of an end while their
    /// requests still wait.
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &Connection)> {
        let polled = self
            .polled
            .iter()
            .map(|(id, conn)| (ConnId { index: id.index | ConnId::POLLED, ..id }, conn));
        polled.chain(self.real.iter())
    }

    /// How many connections of the driver there are.
    pub fn connections(&self) -> usize {
        self.real.len()
    }
}

fn inner(id: ConnId) -> ConnId {
    ConnId { index: id.index & !ConnId::POLLED, ..id }
}
