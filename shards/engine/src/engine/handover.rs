//! Giving a connection to the shard where its session lives: once, with its protocol state, and
//! with the bytes that were read but not used.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::front::{Front, Outcome, Shared};
use super::link::{Link, Moving};
use super::polling::{Left, Probe, Queue};
use super::{Conn, Engine, State};
use crate::io::{Close, Outputs};
use crate::wire::deflate::Window;
use crate::wire::http::Delivery;
use crate::words::ids::{ConnId, ShardId};
use crate::words::manners::Speaker;

/// What travels with a connection, as the bytes of
/// [`Output::HandOver`](crate::io::Output::HandOver).
#[derive(Serialize, Deserialize)]
#[allow(clippy::large_enum_variant)] // there is one at a time
pub(super) enum Parcel {
    /// A WebSocket.
    Socket {
        link: Link,
        /// What was sent to it, if later messages refer to that.
        window: Option<Window>,
        /// What made the connection move; the other shard handles it first.
        moving: Moving,
        /// What was read after it, as it came from the network.
        rest: Vec<u8>,
    },
    /// A request about a session that is elsewhere.
    Request {
        /// How often it was handed on.
        hops: u8,
        /// From its head on.
        bytes: Vec<u8>,
    },
    /// A WebSocket that takes a session over which is elsewhere.
    Probe {
        probe: Probe,
        /// How often it was handed on.
        hops: u8,
        /// What it said after that.
        rest: Vec<u8>,
    },
    /// A session of long-polling, with the request that moves it and is still to be answered.
    Polled {
        link: Link,
        queue: Queue,
        moving: Moving,
        /// What the request said after that.
        left: Vec<Left>,
        keep_alive: bool,
        cors: Shared,
        /// Under whom the session is counted, beside the connection.
        speaker: Speaker,
        /// What came behind the request.
        rest: Vec<u8>,
    },
}

/// What is packed: under whom the connection is counted, which the socket cannot tell if a proxy is
/// in between, and the rest.
type Packed = (Speaker, Parcel);

/// Where in a parcel the bytes lie that were read and not used, for whoever must look into what a
/// member sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unread {
    /// WebSocket frames, from the beginning of one on.
    Frames(Range<usize>),
    /// HTTP requests, from the head of one on.
    Requests(Range<usize>),
}

/// Finds them; `None` if these bytes are no parcel.
pub fn unread(parcel: &[u8]) -> Option<Unread> {
    let (_, packed) = postcard::from_bytes::<Packed>(parcel).ok()?;
    let place = |rest: Vec<u8>| parcel.len() - rest.len()..parcel.len();
    Some(match packed {
        Parcel::Socket { rest, .. } | Parcel::Probe { rest, .. } => Unread::Frames(place(rest)),
        Parcel::Polled { rest, .. } | Parcel::Request { bytes: rest, .. } => {
            Unread::Requests(place(rest))
        }
    })
}

impl Engine {
    /// Packs a WebSocket and sends it to another shard. It is in no session here.
    pub(super) fn hand_over(
        &mut self,
        id: ConnId,
        to: ShardId,
        moving: Moving,
        rest: &[u8],
        out: &mut Outputs,
    ) {
        let Some(mut conn) = self.conns.remove(id) else { return };
        conn.alarm.cancel(&mut self.wheel);
        let State::Link(link) = conn.state else { return };
        assert!(link.room.is_none(), "a connection leaves its session before it moves");
        assert!(
            link.rates.late().is_none(),
            "what waits is applied before the join that moves the connection"
        );
        self.counters.links -= 1;
        if let Some(sid) = link.sid() {
            self.sids.remove(sid);
        }
        let window = self.outbox.take_window(id);
        let speaker = Speaker { address: conn.peer, forwarded: conn.forwarded };
        // mark: bytes_behind_hand_over_lost
        let parcel = Parcel::Socket { link: *link, window, moving, rest: rest.to_vec() };
        self.send_parcel(id, speaker, to, &parcel, out);
    }

    /// Sends a connection that speaks HTTP to another shard.
    pub(super) fn hand_over_front(
        &mut self,
        id: ConnId,
        to: ShardId,
        parcel: &Parcel,
        out: &mut Outputs,
    ) {
        let Some(mut conn) = self.conns.remove(id) else { return };
        conn.alarm.cancel(&mut self.wheel);
        self.send_parcel(id, conn.speaker(), to, parcel, out);
    }

    pub(super) fn send_parcel(
        &mut self,
        id: ConnId,
        speaker: Speaker,
        to: ShardId,
        parcel: &Parcel,
        out: &mut Outputs,
    ) {
        self.leave_crowd(speaker);
        // Writing plain values to a vector fails only if one of them refuses, which none of ours
        // does.
        let parcel = postcard::to_allocvec(&(speaker, parcel)).unwrap_or_default();
        assert!(!parcel.is_empty());
        out.hand_over(id, to, &parcel);
    }

    /// Takes a connection over from another shard and goes on where that one stopped.
    pub(super) fn arrived(&mut self, id: ConnId, parcel: &[u8], out: &mut Outputs) {
        let Ok((speaker, parcel)) = postcard::from_bytes::<Packed>(parcel) else {
            // Only our own engine packs parcels, so this is a trace that was tampered with.
            return out.close(id, Close::Abort);
        };
        match parcel {
            Parcel::Socket { link, window, moving, mut rest } => {
                if let Some(sid) = link.sid() {
                    self.sids.put(sid, id);
                }
                self.take_in(id, speaker, State::Link(Box::new(link)));
                self.counters.links += 1;
                if let Some(window) = window {
                    self.outbox.put_window(id, window);
                }
                if self.draining {
                    return self.say_goodbye(id, out); // mark: arrival_after_the_end
                }
                self.moved_in(id, moving, out);
                self.link_received(id, &mut rest, out);
                self.arm(id);
            }
            _ if self.draining => out.close(id, Close::Abort),
            Parcel::Request { bytes, hops } => {
                self.take_in(
                    id,
                    speaker,
                    State::Front(Box::new(Front::handed_over(self.now.at, hops))),
                );
                self.front_received(id, &bytes, out);
            }
            Parcel::Probe { probe, hops, mut rest } => {
                self.take_in(id, speaker, State::Probe(Box::new(probe)));
                self.take_over(id, hops, &mut rest, out);
                self.arm(id);
            }
            Parcel::Polled {
                link,
                queue,
                moving,
                left,
                keep_alive,
                cors,
                speaker: of_session,
                rest,
            } => {
                self.take_in(
                    id,
                    speaker,
                    State::Front(Box::new(Front::handed_over(self.now.at, 0))),
                );
                let delivery = Delivery { head: false, keep_alive, cors: cors.as_cors() };
                match self.polled_arrived(id, of_session, link, queue, moving, left, delivery, out)
                {
                    Outcome::Moves(shard, Some(mut parcel)) => {
                        parcel.append(&rest);
                        self.hand_over_front(id, shard, &parcel, out);
                    }
                    Outcome::Gone => {}
                    _ => self.front_received(id, &rest, out),
                }
            }
        }
    }

    fn take_in(&mut self, id: ConnId, speaker: Speaker, state: State) {
        self.arrive_in_crowd(speaker);
        self.conns.insert(id, Conn::of(speaker, state));
    }

    /// Does what made a connection move here.
    pub(super) fn moved_in(&mut self, id: ConnId, moving: Moving, out: &mut Outputs) {
        match moving {
            Moving::Join { ack, payload } => self.join_late(id, ack, &payload, out),
            Moving::Recover { pid, offset } => self.connect(id, Some((pid, offset)), out),
        }
    }
}

impl Parcel {
    /// Adds what came behind the request.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        match self {
            Self::Socket { rest, .. }
            | Self::Probe { rest, .. }
            | Self::Polled { rest, .. }
            | Self::Request { bytes: rest, .. } => rest.extend_from_slice(bytes),
        }
    }
}
