//! The table of a shard's connections.

use std::net::IpAddr;

use bandsync_engine::slots::ChunkedVec;
use bandsync_engine::words::ids::ConnId;
use mio::Token;
use mio::net::TcpStream;

use crate::chain::Chain;
use crate::shutdown::LiveGuard;
use crate::unsent::Unsent;

/// A connection. It is small, because most of 100 000 connections are idle: buffers exist only
/// while bytes wait.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    pub(crate) socket: S,
    pub(crate) peer: IpAddr,
    pub(crate) phase: Phase,
    /// The chunks that this turn or a later slice sends.
    pub(crate) chain: Chain,
    /// Bytes of earlier turns that the kernel has not accepted yet.
    pub(crate) unsent: Unsent,
    /// The backlog that the machine knows of, as [`Unsent::steps`] counts it.
    pub(crate) reported: u32,
    /// Whether the net reports when the kernel accepts bytes again.
    pub(crate) awaits_writable: bool,
    /// Whether it is in the list of connections to read from.
    pub(crate) ready: bool,
    /// Whether a backlog change or end is waiting to be reported to the machine.
    pub(crate) noted: bool,
    /// Whether the net reported an end or an error. Reading then continues until it meets that.
    pub(crate) hangup: bool,
    /// Whether the end of the peer's side was read.
    pub(crate) ended: bool,
    /// Whether a write failed. Nothing is written after that; waiting input is still read.
    pub(crate) broken: bool,
    /// The connection's part in the count that the shutdown waits for. None if it was accepted
    /// during the drain.
    pub(crate) live: Option<LiveGuard>,
}

/// The phase of a connection's life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// The machine knows the connection. In all other phases the machine receives nothing of it.
    Open,
    /// The connection is handed over to another shard at the end of this turn.
    Leaving,
    /// Unsent bytes are written, then our side is shut down.
    Flushing,
    /// Our side is shut down. Input is discarded until the peer ends its side.
    Lingering,
}

impl<S> Connection<S> {
    /// Returns the number of steps to report to the machine, if it is new: a higher one than
    /// before, or 0 when everything is written. While a backlog shrinks, the machine keeps the
    /// highest one.
    pub(crate) fn backlog_change(&self, backlog_step: usize) -> Option<u32> {
        let steps = self.unsent.steps(backlog_step);
        (steps > self.reported || steps == 0 && self.reported > 0).then_some(steps)
    }

    pub(crate) fn new(socket: S, peer: IpAddr, live: Option<LiveGuard>) -> Self {
        Self {
            socket,
            peer,
            phase: Phase::Open,
            chain: Chain::EMPTY,
            unsent: Unsent::default(),
            reported: 0,
            awaits_writable: false,
            ready: false,
            noted: false,
            hangup: false,
            ended: false,
            broken: false,
            live,
        }
    }
}

// An idle connection must cost little memory: this part is the driver's, the rest the machine's.
// In debug builds mio's sockets are larger.
const _: () =
    assert!(size_of::<Slot<TcpStream>>() <= if cfg!(debug_assertions) { 128 } else { 64 });

/// A slot of the table. It fills one cache line, because a tick goes to hundreds of connections
/// that are not in the cache.
#[derive(Debug)]
#[repr(align(64))]
struct Slot<S> {
    /// Number of connections that have left the slot, so that no id is used twice.
    generation: u32,
    conn: Option<Connection<S>>,
}

/// All connections of a shard, by index.
#[derive(Debug)]
pub(crate) struct Connections<S> {
    slots: ChunkedVec<Slot<S>>,
    free: Vec<u32>,
    /// The generation of each slot once more, side by side, so that looking at ten thousand
    /// receivers does not fetch their slots.
    generations: Vec<u32>,
}

impl<S> Default for Connections<S> {
    fn default() -> Self {
        Self { slots: ChunkedVec::default(), free: Vec::new(), generations: Vec::new() }
    }
}

impl<S> Connections<S> {
    /// Returns the number of connections.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Adds a connection under a new id.
    pub(crate) fn insert(&mut self, conn: Connection<S>) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, conn: None });
            self.generations.push(0);
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        assert!(slot.conn.is_none(), "slot {index} is taken");
        slot.conn = Some(conn);
        ConnId { index, generation: slot.generation }
    }

    /// Returns the connection with this id, if it is still here.
    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection<S>> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation == id.generation { slot.conn.as_mut() } else { None }
    }

    /// Returns the connection with this id, if the machine may still name it.
    pub(crate) fn open_mut(&mut self, id: ConnId) -> Option<&mut Connection<S>> {
        self.get_mut(id).filter(|conn| conn.phase == Phase::Open)
    }

    /// Prefetches the slots at these indices. The processor fetches them together, in about the
    /// time of one.
    pub(crate) fn fetch(&self, indices: impl Iterator<Item = u32>) {
        let generation =
            |index: u32| self.slots.get(index as usize).map_or(0, |slot| slot.generation);
        std::hint::black_box(indices.fold(0, |read, index| read ^ generation(index)));
    }

    /// Whether no connection with this id has been removed. Does not fetch its slot.
    pub(crate) fn is_current(&self, id: ConnId) -> bool {
        self.generations.get(id.index as usize) == Some(&id.generation)
    }

    /// Returns the connection at this index, and its id.
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<(ConnId, &mut Connection<S>)> {
        let slot = self.slots.get_mut(index as usize)?;
        let id = ConnId { index, generation: slot.generation };
        slot.conn.as_mut().map(|conn| (id, conn))
    }

    /// Removes a connection. Its id is not used again.
    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Connection<S>> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let conn = slot.conn.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.generations[id.index as usize] = slot.generation;
        self.free.push(id.index);
        Some(conn)
    }
}

/// Returns the token under which epoll reports a connection. It holds the whole id, so that a late
/// report of an earlier connection in the same slot is recognized.
pub(crate) fn token(id: ConnId) -> Token {
    Token((id.generation as usize) << 32 | id.index as usize)
}

/// Returns the id in a [`token`].
pub(crate) fn id(token: Token) -> ConnId {
    ConnId { index: token.0 as u32, generation: (token.0 >> 32) as u32 }
}

const _: () = assert!(size_of::<usize>() == 8, "a token holds an index and a generation");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::shutdown::Shutdown;
    use std::net::{Ipv4Addr, TcpListener};

    /// Returns a connection whose peer is gone.
    fn conn() -> Connection<TcpStream> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Connection::new(
            TcpStream::from_std(socket),
            Ipv4Addr::LOCALHOST.into(),
            Some(Shutdown::new(1).enter()),
        )
    }

    #[test]
    fn a_slot_is_reused_with_a_new_generation() {
        let mut conns = Connections::default();
        let first = conns.insert(conn());
        assert!(conns.remove(first).is_some());
        let second = conns.insert(conn());
        assert_eq!((second.index, second.generation), (first.index, first.generation + 1));
        assert!(conns.get_mut(first).is_none());
        assert!(!conns.is_current(first) && conns.is_current(second));
        assert!(conns.remove(first).is_none());
        assert!(conns.get_mut(second).is_some());
        assert_eq!(conns.len(), 1);
    }

    #[test]
    fn the_machine_reaches_only_open_connections() {
        let mut conns = Connections::default();
        let id = conns.insert(conn());
        assert!(conns.open_mut(id).is_some());
        for phase in [Phase::Leaving, Phase::Flushing, Phase::Lingering] {
            conns.get_mut(id).unwrap().phase = phase;
            assert!(conns.open_mut(id).is_none());
        }
    }

    #[test]
    fn a_token_carries_the_whole_id() {
        for (index, generation) in [(0, 0), (1, 2), (u32::MAX, 7), (9, u32::MAX)] {
            let conn = ConnId { index, generation };
            assert_eq!(id(token(conn)), conn);
        }
    }
}
