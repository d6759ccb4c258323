//! The table of a shard's connections.

use std::net::IpAddr;

use bandsync_engine::slots::ChunkedVec;
use bandsync_engine::words::ids::ConnId;
use mio::Token;
use mio::net::TcpStream;

use crate::chain::Chain;
use crate::shutdown::LiveGuard;
use crate::unsent::Unsent;

/// A connection. Small, because most of a hundred thousand are idle: buffers exist only while bytes
/// wait.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    pub(crate) socket: S,
    pub(crate) peer: IpAddr,
    pub(crate) phase: Phase,
    /// What this turn sends.
    pub(crate) chain: Chain,
    /// What earlier turns sent and the kernel did not take yet.
    pub(crate) unsent: Unsent,
    /// How much of that the machine knows of: see [`Unsent::mark`].
    pub(crate) reported: u32,
    /// Whether epoll reports when the kernel takes bytes again.
    pub(crate) awaits_room: bool,
    /// Whether it is listed to be read from.
    pub(crate) ready: bool,
    /// Whether it is listed to tell the machine of its backlog or end.
    pub(crate) noted: bool,
    /// Whether epoll saw an end or an error, so that reading must go on until it meets that.
    pub(crate) hangup: bool,
    /// Whether the peer's end was read.
    pub(crate) ended: bool,
    /// Whether a write failed: nothing is written any more, what is still to be read is read.
    pub(crate) broken: bool,
    /// The connection's part in the count that the end waits for. None if it was accepted during
    /// the drain.
    pub(crate) live: Option<LiveGuard>,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// The machine knows it. In all other phases the machine is told nothing of it any more.
    Open,
    /// It goes to another shard at the end of this turn.
    Leaving,
    /// What is unsent is written, then our side is shut down.
    Flushing,
    /// Our side is shut down; what the peer still sends is thrown away until its end comes.
    Lingering,
}

impl<S> Connection<S> {
    /// The mark to tell the machine of, if it does not know: one passed upwards, or that all is
    /// written. In between it goes on with the highest it heard of.
    pub(crate) fn backlog_change(&self, mark_bytes: usize) -> Option<u32> {
        let mark = self.unsent.mark(mark_bytes);
        (mark > self.reported || mark == 0 && self.reported > 0).then_some(mark)
    }

    pub(crate) fn new(socket: S, peer: IpAddr, live: Option<LiveGuard>) -> Self {
        Self {
            socket,
            peer,
            phase: Phase::Open,
            chain: Chain::EMPTY,
            unsent: Unsent::default(),
            reported: 0,
            awaits_room: false,
            ready: false,
            noted: false,
            hangup: false,
            ended: false,
            broken: false,
            live,
        }
    }
}

// Idle memory per connection is one of the server's aims; the rest of it is the machine's. When
// debugged, mio's sockets carry more.
const _: () =
    assert!(size_of::<Slot<TcpStream>>() <= if cfg!(debug_assertions) { 128 } else { 64 });

/// A place in the table: one line of the cache, for a tick goes to hundreds that are not in it.
#[derive(Debug)]
#[repr(align(64))]
struct Slot<S> {
    /// Grows when a connection leaves the place, so that its id is never met again.
    generation: u32,
    conn: Option<Connection<S>>,
}

/// All connections of a shard, by index.
#[derive(Debug)]
pub(crate) struct Connections<S> {
    slots: ChunkedVec<Slot<S>>,
    free: Vec<u32>,
}

impl<S> Default for Connections<S> {
    fn default() -> Self {
        Self { slots: ChunkedVec::default(), free: Vec::new() }
    }
}

impl<S> Connections<S> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes in a connection under a new id.
    pub(crate) fn insert(&mut self, conn: Connection<S>) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, conn: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        assert!(slot.conn.is_none(), "place {index} is taken");
        slot.conn = Some(conn);
        ConnId { index, generation: slot.generation }
    }

    /// The connection with this id, if it is still here.
    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection<S>> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation == id.generation { slot.conn.as_mut() } else { None }
    }

    /// The same, if the machine may still speak of it.
    pub(crate) fn open_mut(&mut self, id: ConnId) -> Option<&mut Connection<S>> {
        self.get_mut(id).filter(|conn| conn.phase == Phase::Open)
    }

    /// Reads a little of each of these, for them to be in the cache. Together they are fetched in
    /// the time of one.
    pub(crate) fn fetch<'a>(&self, ids: impl Iterator<Item = &'a ConnId>) {
        let generation =
            |id: &ConnId| self.slots.get(id.index as usize).map_or(0, |slot| slot.generation);
        std::hint::black_box(ids.fold(0, |read, id| read ^ generation(id)));
    }

    /// The connection at this place, and its id.
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<(ConnId, &mut Connection<S>)> {
        let slot = self.slots.get_mut(index as usize)?;
        let id = ConnId { index, generation: slot.generation };
        slot.conn.as_mut().map(|conn| (id, conn))
    }

    /// Takes a connection out; its id will not be met again.
    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Connection<S>> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let conn = slot.conn.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        Some(conn)
    }
}

/// The id as epoll carries it, so that a report about an earlier user of the place is recognised.
pub(crate) fn token(id: ConnId) -> Token {
    Token((id.generation as usize) << 32 | id.index as usize)
}

/// The id that [`token`] was made of.
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

    /// A connection whose other end is gone.
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
    fn a_place_is_used_again_under_another_id() {
        let mut conns = Connections::default();
        let first = conns.insert(conn());
        assert!(conns.remove(first).is_some());
        let second = conns.insert(conn());
        assert_eq!((second.index, second.generation), (first.index, first.generation + 1));
        assert!(conns.get_mut(first).is_none());
        assert!(conns.remove(first).is_none());
        assert!(conns.get_mut(second).is_some());
        assert_eq!(conns.len(), 1);
    }

    #[test]
    fn the_machine_may_speak_of_open_ones_only() {
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
