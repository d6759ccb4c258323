//! Giving a connection to the shard where its session lives: once, with its protocol state, and
//! with the bytes that were read but not used.

use super::event::Reason;
use super::http_conn::{HttpConn, Step};
use super::parcel::{ParcelFrom, Packed};
use super::{Connection, Shard, Protocol};
use crate::context::Cx;
use crate::io::Close;
use crate::wire::http::Delivery;
use crate::words::ids::{ConnId, ShardId};
use crate::words::manners::Speaker;

impl Shard {
    /// Packs a WebSocket and sends it to another shard. It is in no session here.
    pub(super) fn hand_over(
        &mut self,
        id: ConnId,
        to: ShardId,
        moving: Reason,
        rest: &[u8],
        cx: &mut Cx<'_>,
    ) {
        let Some(mut conn) = self.conns.remove(id) else { return };
        conn.alarm.cancel(cx.wheel);
        let Protocol::Client(link) = conn.state else { return };
        assert!(link.seat.is_none(), "a connection leaves its session before it moves");
        assert!(
            link.late().is_none(),
            "what waits is applied before the join that moves the connection"
        );
        cx.report.counters.links -= 1;
        if let Some(sid) = link.sid() {
            self.sids.remove(sid);
        }
        let window = cx.sender.take_window(id);
        let speaker = Speaker { address: conn.peer, forwarded: conn.forwarded };
        // mark: bytes_behind_hand_over_lost
        let parcel = Packed::Socket { link: *link, window, moving, rest: rest.to_vec() };
        self.send_parcel(id, speaker, to, &parcel, cx);
    }

    /// Sends a connection that speaks HTTP to another shard.
    pub(super) fn hand_over_front(
        &mut self,
        id: ConnId,
        to: ShardId,
        parcel: &Packed,
        cx: &mut Cx<'_>,
    ) {
        let Some(mut conn) = self.conns.remove(id) else { return };
        conn.alarm.cancel(cx.wheel);
        self.send_parcel(id, conn.speaker(), to, parcel, cx);
    }

    pub(super) fn send_parcel(
        &mut self,
        id: ConnId,
        speaker: Speaker,
        to: ShardId,
        parcel: &Packed,
        cx: &mut Cx<'_>,
    ) {
        self.leave_crowd(speaker, cx);
        // Writing plain values to a vector fails only if one of them refuses, which none of ours
        // does.
        let parcel = postcard::to_allocvec(&(speaker, parcel)).unwrap_or_default();
        assert!(!parcel.is_empty());
        cx.out.hand_over(id, to, &parcel);
    }

    /// Takes a connection over from another shard and goes on where that one stopped.
    pub(super) fn arrived(&mut self, id: ConnId, parcel: &[u8], cx: &mut Cx<'_>) {
        let Ok((speaker, parcel)) = postcard::from_bytes::<ParcelFrom>(parcel) else {
            // Only our own engine packs parcels, so this is a trace that was tampered with.
            return cx.out.close(id, Close::Abort);
        };
        match parcel {
            Packed::Socket { link, window, moving, mut rest } => {
                if let Some(sid) = link.sid() {
                    self.sids.put(sid, id);
                }
                self.take_in(id, speaker, Protocol::Client(Box::new(link)), cx);
                cx.report.counters.links += 1;
                if let Some(window) = window {
                    cx.sender.put_window(id, window);
                }
                if self.draining {
                    return self.say_goodbye(id, cx); // mark: arrival_after_the_end
                }
                self.moved_in(id, moving, cx);
                self.link_received(id, &mut rest, cx);
                self.arm(id, cx);
            }
            Packed::Request { bytes, hops } => {
                self.take_in(
                    id,
                    speaker,
                    Protocol::Http(Box::new(HttpConn::handed_over(cx.now.at, hops))),
                    cx,
                );
                self.front_received(id, &bytes, cx);
            }
            _ if self.draining => cx.out.close(id, Close::Abort),
            Packed::Probe { probe, hops, mut rest } => {
                self.take_in(id, speaker, Protocol::Probe(Box::new(probe)), cx);
                self.take_over(id, hops, &mut rest, cx);
                self.arm(id, cx);
            }
            Packed::Polled {
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
                    Protocol::Http(Box::new(HttpConn::handed_over(cx.now.at, 0))),
                    cx,
                );
                let delivery = Delivery { head: false, keep_alive, cors: cors.as_cors() };
                match self.polled_arrived(id, of_session, link, queue, moving, left, delivery, cx) {
                    Step::Moves(shard, Some(mut parcel)) => {
                        parcel.append(&rest);
                        self.hand_over_front(id, shard, &parcel, cx);
                    }
                    Step::Gone => {}
                    _ => self.front_received(id, &rest, cx),
                }
            }
        }
    }

    fn take_in(&mut self, id: ConnId, speaker: Speaker, state: Protocol, cx: &mut Cx<'_>) {
        self.arrive_in_crowd(speaker, cx);
        self.conns.insert(id, Connection::of(speaker, state));
    }

    /// Does what made a connection move here.
    pub(super) fn moved_in(&mut self, id: ConnId, moving: Reason, cx: &mut Cx<'_>) {
        match moving {
            Reason::Join { ack, payload } => self.join_late(id, ack, &payload, cx),
            Reason::Recover { pid, offset } => self.connect(id, Some((pid, offset)), cx),
        }
    }
}
