//! Coming back after a lost connection: on the connections' side.

use super::Shard;
use crate::context::Cx;
use crate::delivery::route::Route;
use crate::io::Close;
use crate::speech::LeaveReason;
use crate::wire::socket_packet;
use crate::words::ids::{ConnId, Offset, RecoveryToken};

impl Shard {
    /// Gives a client the seat back that it lost, tells it what it missed, and then that it is
    /// connected. False if that cannot be: then it has to begin anew.
    pub(super) fn recover(
        &mut self,
        id: ConnId,
        pid: RecoveryToken,
        offset: Offset,
        cx: &mut Cx<'_>,
    ) -> bool {
        // The client may have noticed the loss before we did.
        if let Some(old) = self.band.conn_of_pid(offset.room, pid) {
            self.note_end(old, "its member has come back on another connection", cx);
            self.forget(old, LeaveReason::TransportClosed, cx);
            cx.out.close(old, Close::Abort);
        }
        let Some(link) = self.link_mut(id) else { return false };
        let line = Route { pid: Some(pid), ..link.line(id) };
        let Some((member, seat)) = self.band.recover(pid, offset, line, cx) else { return false };
        if let Some(link) = self.link_mut(id) {
            link.connected_as(member, Some(pid));
            link.seat = Some(seat);
        }
        self.text(id, cx, |bytes| {
            socket_packet::connected(bytes, member.as_str(), Some(pid.0.as_str()));
        });
        self.band.settle(seat, cx);
        true
    }
}
