//! Resumes joins that waited: their session was loaded, they timed out, or another shard has
//! decided.

use super::Shard;
use super::admission::{JoinRequest, ShardMessage};
use super::joins::PendingJoin;
use crate::context::Cx;
use crate::io::{LoadResult, StorageEvent};
use crate::record::Record;
use crate::rooms::clustered::{Clustered, unavailable};
use crate::session::no_session_to_show;
use crate::speech::{Code, Command, LeaveReason, Reject, View};
use crate::transport::{Awaits, Connections, Deferred, Reason, ReplyTo};
use crate::wire::events::ClientEvent;
use crate::words::ids::{ConnId, RoomKey, SessionId, ShardId};

impl Shard {
    /// Handles an event of the storage.
    pub(super) fn storage_event(&mut self, event: &StorageEvent, cx: &mut Cx<'_>) {
        match event {
            StorageEvent::Loaded { session, found } => self.loaded(session, found, cx),
            StorageEvent::Stored { session, epoch, version, outcome } => {
                self.rooms.stored(session, (*epoch, *version), *outcome, cx);
            }
            StorageEvent::Returned => self.rooms.storage_returned(cx),
        }
    }

    /// Opens new sessions for the joins that have timed out.
    pub(super) fn load_timeout(&mut self, cx: &mut Cx<'_>) {
        self.joins.fired();
        while let Some(session) = self.joins.next_given_up(cx.now.at) {
            match cx.settings.cluster {
                Some(_) => self.open_for(&session, |_, _| Err(unavailable()), cx),
                None => self.loaded(&session, &LoadResult::Unknown, cx),
            }
        }
        self.joins.arm(cx);
    }

    /// Opens a session with its record, and resumes the joins that wait for it. If the record comes
    /// too late, no join waits, and the session that was opened without it stays.
    fn loaded(&mut self, session: &SessionId, found: &LoadResult, cx: &mut Cx<'_>) {
        let Some(mut waiting) = self.joins.take(session) else { return };
        let record = match found {
            LoadResult::Record(bytes) => {
                Record::parse(bytes).ok().filter(|record| record.session == *session)
            }
            LoadResult::Nothing | LoadResult::Unknown => None,
        };
        let restored = match found {
            LoadResult::Nothing => None,
            LoadResult::Record(_) | LoadResult::Unknown => Some(record.is_some()),
        };
        let is_there = |join: &PendingJoin| match join {
            PendingJoin::Local { client, .. } => self.transport.connections.get(*client).is_some(),
            PendingJoin::Remote(_) => true,
        };
        // While the server drains, no member is admitted, not even one from another shard.
        if self.transport.connections.draining || !waiting.iter().any(is_there) {
            return;
        }
        // A screen finds the session that a waiting member opens, and opens none itself.
        waiting.sort_by_key(PendingJoin::is_screen);
        if record.is_none() && waiting.first().is_some_and(PendingJoin::is_screen) {
            let reject = match restored {
                None => no_session_to_show(),
                Some(_) => session_out_of_reach(),
            };
            for join in waiting {
                self.admit_pending(join, Some(&reject), cx);
            }
            return;
        }
        if !self.rooms.has_room_for_session(cx) {
            self.make_room_by_leaving(&mut waiting, record.as_ref(), cx);
        }
        let opened = self.rooms.open(session, record, restored, cx);
        for join in waiting {
            self.admit_pending(join, opened.as_ref().err(), cx);
        }
        if let Ok(key) = opened {
            self.rooms.settle_room(key, cx);
        }
    }

    /// Opens a session that another node may own, and resumes the joins that wait for it.
    pub(super) fn open_for(
        &mut self,
        session: &SessionId,
        open: impl FnOnce(&mut Clustered<'_>, &mut Cx<'_>) -> Result<RoomKey, Reject>,
        cx: &mut Cx<'_>,
    ) {
        let Some(mut waiting) = self.joins.take(session) else { return };
        if self.transport.connections.draining {
            return;
        }
        // A screen finds the session that a waiting member opens.
        waiting.sort_by_key(PendingJoin::is_screen);
        let opened = open(&mut Clustered::of(&mut self.rooms), cx);
        for join in waiting {
            self.admit_pending(join, opened.as_ref().err(), cx);
        }
        if let Ok(key) = opened {
            self.rooms.settle_room(key, cx);
        }
    }

    /// Makes room for the session by closing another one: a waiting member leaves the session that
    /// it is alone in, if the new session will admit it. Its join is then resumed first, because
    /// the member that opens a session chooses its passcode, and this one has no session to return
    /// to.
    fn make_room_by_leaving(
        &mut self,
        waiting: &mut [PendingJoin],
        record: Option<&Record>,
        cx: &mut Cx<'_>,
    ) {
        let opened = record.map(|record| self.rooms.preview(record, cx));
        for index in 0..waiting.len() {
            let PendingJoin::Local { client, payload, .. } = &waiting[index] else { continue };
            let id = *client;
            let client = self.transport.connections.client(id);
            let Some((seat, member)) = client.and_then(|client| client.seated()) else {
                continue;
            };
            let Ok(Command::Join(join)) = ClientEvent::JoinSession.read(payload.as_str()) else {
                continue;
            };
            if join.view == View::Screen {
                continue;
            }
            let admits = opened.as_ref().is_none_or(|session| {
                let holder = session.holder(cx.now, member, &join);
                session.admit(member, &join, holder, 0).is_ok()
            });
            if admits && self.rooms.is_left_empty(Some(seat)) {
                waiting[..=index].rotate_right(1);
                return self.leave_session(id, LeaveReason::Left, cx);
            }
        }
    }

    /// Resumes a join, or rejects it.
    fn admit_pending(&mut self, join: PendingJoin, reject: Option<&Reject>, cx: &mut Cx<'_>) {
        let (client, ack, payload) = match join {
            PendingJoin::Local { client, ack, payload } => (client, ack, payload),
            PendingJoin::Remote(request) if reject.is_none() => return self.decide(request, cx),
            PendingJoin::Remote(request) => {
                return request.decide(cx.settings.shard, reject.cloned(), cx.out);
            }
        };
        let deferred = self.transport.connections.take_deferred(client, Awaits::Storage);
        let Some(deferred) = deferred else { return };
        match reject {
            Some(reject) => reject_join(&mut self.transport.connections, (client, ack), reject, cx),
            None => self.join(client, ack, &payload, cx),
        }
        self.resume(client, deferred, cx);
    }

    /// Handles a message from another shard.
    pub(super) fn message(&mut self, message: &[u8], cx: &mut Cx<'_>) {
        match ShardMessage::read(message) {
            // While the server drains, every client is closed, including those that wait.
            Some(_) if self.transport.connections.draining => {}
            Some(ShardMessage::Ask(request)) => self.asked(request, cx),
            Some(ShardMessage::Decided { request, by, rejected }) => {
                self.decided(request, by, rejected.map(Reject::from), cx);
            }
            None => {}
        }
    }

    /// Handles the request of another shard for an admission. The decision waits until the session
    /// is loaded.
    fn asked(&mut self, request: JoinRequest, cx: &mut Cx<'_>) {
        let Some(join) = request.join() else { return };
        if self.rooms.needs_load(&join.session, cx.settings) {
            self.joins.wait(join.session, PendingJoin::Remote(request), cx);
        } else {
            self.decide(request, cx);
        }
    }

    /// Decides whether a member of another shard may join now, and reserves its seat if so.
    fn decide(&mut self, request: JoinRequest, cx: &mut Cx<'_>) {
        let Some(join) = request.join() else { return };
        let member = request.seat.1;
        let rejected = self.rooms.admit(request.peer, member, &join, None, cx).err();
        if rejected.is_none() && join.view == View::Member {
            self.rooms.reserve(&join.session, member, cx.now.at);
        }
        request.decide(cx.settings.shard, rejected, cx.out);
    }

    /// Handles the other shard's decision. An admitted member leaves its session and is handed
    /// over; a rejected one stays and receives the error.
    fn decided(
        &mut self,
        request: JoinRequest,
        by: ShardId,
        rejected: Option<Reject>,
        cx: &mut Cx<'_>,
    ) {
        let JoinRequest { seat: (key, member), number, ack, payload, .. } = request;
        let awaits = Awaits::Admission(number);
        // The member may have another connection by now, or none. If another connection has got its
        // seat by the token, its client still waits.
        let waiting = || self.transport.connections.waiting_for(awaits);
        let Some(client) = self.rooms.conn_of(key, member).or_else(waiting) else { return };
        let deferred = self.transport.connections.take_deferred(client, awaits);
        let Some(deferred) = deferred else { return };
        match rejected {
            Some(reject) => {
                reject_join(&mut self.transport.connections, (client, ack), &reject, cx);
                self.transport.answer_post_of(client, cx);
                self.resume(client, deferred, cx);
            }
            None => self.move_on(client, by, Reason::Join { ack, payload }, deferred, cx),
        }
    }

    /// Resumes the input of a client that waited.
    pub(super) fn resume(&mut self, client: ConnId, deferred: Deferred, cx: &mut Cx<'_>) {
        let incoming = self.transport.resume(client, deferred, cx);
        self.read(incoming, cx);
    }
}

/// Creates the rejection of a screen whose session may be stored, but could not be loaded.
fn session_out_of_reach() -> Reject {
    let message = "the storage did not give the session: try again in a second";
    Reject::new(Code::Unavailable, message)
}

/// Sends a client the reason why its join was rejected.
fn reject_join(
    connections: &mut Connections,
    (client, ack): (ConnId, Option<u64>),
    reject: &Reject,
    cx: &mut Cx<'_>,
) {
    let to = ReplyTo { client, event: ClientEvent::JoinSession.name(), ack };
    connections.reject(to, reject, cx);
}
