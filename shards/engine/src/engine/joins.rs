//! Joins that wait for their session: who joins one that is not in memory waits a little for what
//! is stored of it.

use std::collections::{BTreeMap, VecDeque};

use super::Shard;
use super::event::EventCall;
use super::knock::JoinRequest;
use super::link::Deferred;
use crate::context::Cx;
use crate::io::{Found, Output, StorageEvent};
use crate::record::Record;
use crate::speech::{Command, LeaveReason, Reject};
use crate::timers::{Timer, TimerHandle};
use crate::wire::events::ClientEvent;
use crate::words::ids::{ConnId, SessionId};
use crate::words::time::Micros;

/// How much may be read from a connection that waits, besides one message.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// Sessions that were asked for, and the joins that wait for them.
#[derive(Default)]
pub(super) struct Joins {
    /// Sessions that were asked for, and who waits for them in order of coming.
    loading: BTreeMap<SessionId, Loading>,
    /// The same in order of time; those that were answered are still there.
    deadlines: VecDeque<(Micros, SessionId)>,
    give_up: TimerHandle,
}

struct Loading {
    until: Micros,
    waiting: Vec<PendingJoin>,
}

/// A `join_session` that waits.
enum PendingJoin {
    /// Its sender is here.
    Local {
        conn: ConnId,
        /// Under which id it is to be acknowledged.
        ack: Option<u64>,
        /// The JSON of its first argument.
        payload: String,
    },
    /// Its sender asks from another shard.
    Remote(JoinRequest),
}

impl Joins {
    /// A client that waits is at another connection now.
    pub fn relocate(&mut self, from: ConnId, to: ConnId) {
        for waiting in self.loading.values_mut().flat_map(|loading| &mut loading.waiting) {
            match waiting {
                PendingJoin::Local { conn, .. } if *conn == from => *conn = to,
                PendingJoin::Local { .. } | PendingJoin::Remote(_) => {}
            }
        }
    }
}

impl Shard {
    /// Has the sender of a `join_session` wait for its session.
    pub(super) fn wait_for(&mut self, session: SessionId, said: EventCall<'_>, cx: &mut Cx<'_>) {
        if let Some(link) = self.link_mut(said.conn) {
            link.held = Some(Box::default());
        }
        let payload = said.written();
        self.load_for(session, PendingJoin::Local { conn: said.conn, ack: said.ack, payload }, cx);
    }

    /// Has somebody of another shard wait to be told whether it may join.
    pub(super) fn wait_to_answer(&mut self, session: SessionId, knock: JoinRequest, cx: &mut Cx<'_>) {
        self.load_for(session, PendingJoin::Remote(knock), cx);
    }

    fn load_for(&mut self, session: SessionId, waiting: PendingJoin, cx: &mut Cx<'_>) {
        let Some(wait) = cx.settings.storage_wait else { return };
        let until = cx.now.at + wait;
        let loading = self.joins.loading.entry(session.clone()).or_insert_with(|| {
            cx.out.list.push(Output::Load { session: session.clone() });
            self.joins.deadlines.push_back((until, session));
            Loading { until, waiting: Vec::new() }
        });
        loading.waiting.push(waiting);
        self.arm_loading(cx);
    }

    /// Keeps what was read from a connection that waits in its `place`, as much as a client in a
    /// hurry may send.
    pub(super) fn hold(
        &mut self,
        id: ConnId,
        place: impl FnOnce(&mut Deferred) -> &mut Vec<u8>,
        bytes: &[u8],
        cx: &mut Cx<'_>,
    ) {
        let most = cx.settings.limits.message_bytes_max as usize + HELD_BYTES_MAX;
        let Some(held) = self.link_mut(id).and_then(|link| link.held.as_mut()) else { return };
        place(held).extend_from_slice(bytes);
        if held.parts.len() + held.bytes.len() > most {
            self.expel(
                id,
                "it says too much while it waits for its session",
                LeaveReason::TransportError,
                cx,
            );
        } else {
            self.arm(id, cx);
        }
    }

    /// Acts on what the storage says.
    pub(super) fn storage_said(&mut self, news: &StorageEvent, cx: &mut Cx<'_>) {
        match news {
            StorageEvent::Loaded { session, found } => self.loaded(session, found, cx),
            StorageEvent::Stored { session, epoch, version, outcome } => {
                self.band.stored(session, (*epoch, *version), *outcome, cx);
            }
            StorageEvent::Returned => self.band.storage_returned(cx),
        }
    }

    /// Those who waited long enough for their sessions get new ones.
    pub(super) fn give_up_loading(&mut self, cx: &mut Cx<'_>) {
        self.joins.give_up.rang();
        while let Some((until, _)) = self.joins.deadlines.front()
            && *until <= cx.now.at
            && let Some((until, session)) = self.joins.deadlines.pop_front()
        {
            if self.joins.loading.get(&session).is_some_and(|loading| loading.until == until) {
                self.loaded(&session, &Found::Unknown, cx);
            }
        }
        self.arm_loading(cx);
    }

    fn arm_loading(&mut self, cx: &mut Cx<'_>) {
        let next = self.joins.deadlines.front().map(|(until, _)| *until);
        self.joins.give_up.set(cx.wheel, next, Timer::Load);
    }

    /// Opens a session with what is stored of it, and lets in who waited. An answer that comes too
    /// late finds nobody waiting, and the session that was begun without it stays.
    fn loaded(&mut self, session: &SessionId, found: &Found, cx: &mut Cx<'_>) {
        let Some(Loading { mut waiting, .. }) = self.joins.loading.remove(session) else {
            return;
        };
        let record = match found {
            Found::Record(bytes) => {
                Record::parse(bytes).ok().filter(|record| record.session == *session)
            }
            Found::Nothing | Found::Unknown => None,
        };
        let restored = match found {
            Found::Nothing => None,
            Found::Record(_) | Found::Unknown => Some(record.is_some()),
        };
        let is_there = |waiting: &PendingJoin| match waiting {
            PendingJoin::Local { conn, .. } => self.conns.get(*conn).is_some(),
            PendingJoin::Remote(_) => true,
        };
        // At the end nobody is let in any more, also who waits on another shard.
        if self.draining || !waiting.iter().any(is_there) {
            return;
        }
        if !self.band.has_room_for_session(cx) {
            self.make_room_by_leaving(&mut waiting, record.as_ref(), cx);
        }
        let made = self.band.open(session, record, restored, cx);
        for waiting in waiting {
            self.let_in(waiting, made.as_ref().err(), cx);
        }
        if let Ok(key) = made {
            self.band.settle_room(key, cx);
        }
    }

    /// Has somebody leave the session that it is alone in, which makes room for the one that it
    /// waits for, if that will let it in. It goes first then: whoever opens a session chooses its
    /// passcode, and has nowhere to go back to.
    fn make_room_by_leaving(
        &mut self,
        waiting: &mut [PendingJoin],
        record: Option<&Record>,
        cx: &mut Cx<'_>,
    ) {
        let opened = record.map(|record| self.band.preview(record, cx));
        for place in 0..waiting.len() {
            let PendingJoin::Local { conn, payload, .. } = &waiting[place] else { continue };
            let conn = *conn;
            let Some((seat, member)) = self.link_mut(conn).and_then(|link| link.seat()) else {
                continue;
            };
            let Ok(Command::Join(join)) = ClientEvent::JoinSession.read(payload.as_str()) else {
                continue;
            };
            let admits =
                opened.as_ref().is_none_or(|session| session.admit(member, &join, 0).is_ok());
            if admits && self.band.is_left_empty(Some(seat)) {
                waiting[..=place].rotate_right(1);
                return self.leave_session(conn, LeaveReason::Left, cx);
            }
        }
    }

    /// Goes on with who waits, or says why not.
    fn let_in(&mut self, waiting: PendingJoin, reject: Option<&Reject>, cx: &mut Cx<'_>) {
        let (id, ack, payload) = match waiting {
            PendingJoin::Local { conn, ack, payload } => (conn, ack, payload),
            PendingJoin::Remote(knock) if reject.is_none() => return self.answer_knock(knock, cx),
            PendingJoin::Remote(knock) => return self.tell_knocker(knock, reject.cloned(), cx),
        };
        let Some(held) = self.link_mut(id).and_then(|link| link.held.take()) else { return };
        match reject {
            Some(reject) => {
                let payload = payload.as_str().into();
                let said = EventCall { conn: id, name: "join_session", ack, payload, array: "" };
                self.refuse(said, reject, cx);
            }
            None => self.join_late(id, ack, &payload, cx),
        }
        self.go_on(id, *held, cx);
    }

    /// Goes on with a connection where it began to wait.
    pub(super) fn go_on(&mut self, id: ConnId, mut held: Deferred, cx: &mut Cx<'_>) {
        self.held_parts(id, &held.parts, cx);
        if !id.is_polled() {
            self.link_received(id, &mut held.bytes, cx);
        }
        self.arm(id, cx);
    }
}
