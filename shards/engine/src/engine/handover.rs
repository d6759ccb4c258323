//! Giving a connection to the shard where its session lives: once, with its protocol state, and with the bytes
//! that were read but not used.

use std::net::IpAddr;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::alarm::Alarm;
use super::link::{Link, Moving};
use super::{Conn, Engine, State};
use crate::io::{Close, Outputs};
use crate::wire::deflate::Window;
use crate::words::ids::{ConnId, ShardId};

/// What travels with a connection, as the bytes of [`Output::HandOver`](crate::io::Output::HandOver).
#[derive(Serialize, Deserialize)]
struct Parcel {
    link: Link,
    /// What was sent to it, if later messages refer to that.
    window: Option<Window>,
    /// Who speaks, which the socket cannot tell if a proxy is in between.
    peer: IpAddr,
    /// What made the connection move; the other shard handles it first.
    moving: Moving,
    /// What was read after it, as it came from the network.
    rest: Vec<u8>,
}

/// Where in a parcel the bytes lie that were read and not used, for whoever must look into what a member sent.
pub fn unread(parcel: &[u8]) -> Option<Range<usize>> {
    let Parcel { rest, .. } = postcard::from_bytes(parcel).ok()?;
    Some(parcel.len() - rest.len()..parcel.len())
}

impl Engine {
    /// Packs a connection and sends it to another shard. It is in no session here.
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
        assert!(link.seat.is_none(), "a connection leaves its session before it moves");
        self.counters.links -= 1;
        self.leave_crowd(conn.peer);
        let window = self.outbox.take_window(id);
        let parcel = Parcel { link: *link, peer: conn.peer, window, moving, rest: rest.to_vec() };
        // Writing plain values to a vector fails only if one of them refuses, which none of ours does.
        let parcel = postcard::to_allocvec(&parcel).unwrap_or_default();
        assert!(!parcel.is_empty());
        out.hand_over(id, to, &parcel);
    }

    /// Takes a connection over from another shard and goes on where that one stopped.
    pub(super) fn arrived(&mut self, id: ConnId, parcel: &[u8], out: &mut Outputs) {
        let Ok(Parcel { link, peer, window, moving, mut rest }) = postcard::from_bytes::<Parcel>(parcel)
        else {
            // Only our own engine packs parcels, so this is a trace that was tampered with.
            return out.close(id, Close::Abort);
        };
        if !self.settings.manners.is_proxy(peer) {
            self.crowd.arrive(peer);
        }
        self.conns.insert(id, Conn { peer, alarm: Alarm::default(), state: State::Link(Box::new(link)) });
        self.counters.links += 1;
        if let Some(window) = window {
            self.outbox.put_window(id, window);
        }
        if self.draining {
            return self.say_goodbye(id, out);
        }
        match moving {
            Moving::Join { ack, payload } => self.join_late(id, ack, &payload, out),
            Moving::Recover { pid, offset } => self.connect(id, Some((pid, offset)), out),
        }
        self.link_received(id, &mut rest, out);
        self.arm(id);
    }
}
