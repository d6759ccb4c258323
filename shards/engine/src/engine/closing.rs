//! The only place where a client's connection ends.

use std::borrow::Cow;
use std::net::IpAddr;

use super::Shard;
use crate::context::Cx;
use crate::io::report::{Disconnect, Manner};
use crate::rooms::Rooms;
use crate::transport::Closing;
use crate::words::ids::{ConnId, SeatHandle};

impl Shard {
    /// Ends a connection: removes it from the table, removes its member from the session, and sends
    /// the peer its last packets.
    pub(super) fn close(&mut self, conn: ConnId, mut closing: Closing, cx: &mut Cx<'_>) {
        let Some(mut gone) = self.transport.remove(conn, cx) else { return };
        if closing.manner == Some(Manner::ByServer) {
            cx.report.counters.expulsions += 1;
        }
        // A client that never connected to the namespace leaves without a line in the log.
        let manner =
            closing.manner.filter(|manner| *manner != Manner::ByClient || gone.was_connected());
        let seated = gone.seated();
        if let Some(manner) = manner {
            let why = std::mem::take(&mut closing.why);
            let seat = seated.map(|(seat, _)| seat);
            note(&self.rooms, (conn, gone.peer), seat, (why, manner), cx);
        }
        if let Some((seat, member)) = seated {
            self.rooms.leave(seat, member, closing.reason, cx);
        }
        while let Some(client) = self.transport.next_carried(&mut gone, cx) {
            self.close(client, Closing::unlogged(closing.reason), cx);
        }
        // The connection's session may have sent it packets, which are released last.
        self.transport.release(gone, &closing, cx);
    }
}

/// Reports the end of a connection, or of its client's presence, with the session of its seat.
pub(super) fn note(
    rooms: &Rooms,
    (conn, peer): (ConnId, IpAddr),
    seat: Option<SeatHandle>,
    (why, manner): (Cow<'static, str>, Manner),
    cx: &mut Cx<'_>,
) {
    let session = seat.and_then(|seat| rooms.session_of(seat));
    let session = session.map(|session| session.id().clone());
    cx.report.disconnects.add(Disconnect { conn, peer, session, why, manner });
}
