//! Joins that wait for their session. A session that is not in memory is loaded from the storage
//! first.

use std::collections::{BTreeMap, VecDeque};

use super::admission::JoinRequest;
use crate::context::Cx;
use crate::io::Output;
use crate::speech::{Command, Join, View};
use crate::timers::{Timer, TimerHandle};
use crate::wire::events::ClientEvent;
use crate::words::ids::{ConnId, SessionId};
use crate::words::time::Micros;

/// Sessions that are being loaded, and the joins that wait for them.
#[derive(Default)]
pub(super) struct Joins {
    /// The joins of each session, in order of arrival.
    loading: BTreeMap<SessionId, Loading>,
    /// The deadlines in order, including those of sessions that were loaded since.
    deadlines: VecDeque<(Micros, SessionId)>,
    give_up: TimerHandle,
}

struct Loading {
    until: Micros,
    waiting: Vec<PendingJoin>,
}

/// A `join_session` that waits.
pub(super) enum PendingJoin {
    /// A join of a client on this shard.
    Local {
        client: ConnId,
        /// The id under which the client wants an acknowledgement.
        ack: Option<u64>,
        /// The JSON of its first argument.
        payload: String,
    },
    /// A join of a client on another shard.
    Remote(JoinRequest),
}

impl PendingJoin {
    /// Whether a screen waits.
    pub fn is_screen(&self) -> bool {
        let payload = match self {
            Self::Local { payload, .. } => payload,
            Self::Remote(request) => &request.payload,
        };
        let command = ClientEvent::JoinSession.read(payload.as_str());
        matches!(command, Ok(Command::Join(Join { view: View::Screen, .. })))
    }
}

impl Joins {
    /// Lets a join wait for its session, and requests the session if it was not requested yet.
    pub fn wait(&mut self, session: SessionId, join: PendingJoin, cx: &mut Cx<'_>) {
        let Some(wait) = cx.settings.storage_wait else { return };
        let until = cx.now.at + wait;
        let loading = self.loading.entry(session.clone()).or_insert_with(|| {
            let session_to_find = session.clone();
            cx.out.list.push(match cx.settings.cluster {
                Some(_) => Output::Claim { session: session_to_find, expected: None, floor: 0 },
                None => Output::Load { session: session_to_find },
            });
            let last = self.deadlines.back().map_or(Micros::ZERO, |(last, _)| *last);
            debug_assert!(last <= until, "joins wait equally long, so deadlines are in order");
            self.deadlines.push_back((until, session));
            Loading { until, waiting: Vec::new() }
        });
        loading.waiting.push(join);
        self.arm(cx);
    }

    /// Removes and returns the joins that wait for a session. `None` if it was not requested.
    pub fn take(&mut self, session: &SessionId) -> Option<Vec<PendingJoin>> {
        self.loading.remove(session).map(|loading| loading.waiting)
    }

    /// Notes that the timer has fired.
    pub fn fired(&mut self) {
        self.give_up.fired();
    }

    /// Returns the next session whose joins have timed out.
    pub fn next_given_up(&mut self, now: Micros) -> Option<SessionId> {
        loop {
            let (until, session) = self.deadlines.pop_front_if(|(until, _)| *until <= now)?;
            if self.loading.get(&session).is_some_and(|loading| loading.until == until) {
                return Some(session);
            }
        }
    }

    /// Sets the timer to the next deadline.
    pub fn arm(&mut self, cx: &mut Cx<'_>) {
        let next = self.deadlines.front().map(|(until, _)| *until);
        self.give_up.set(cx.wheel, next, Timer::LoadTimeout);
    }

    /// Moves a client's waiting join to the client's new id.
    pub fn relocate(&mut self, from: ConnId, to: ConnId) {
        for waiting in self.loading.values_mut().flat_map(|loading| &mut loading.waiting) {
            match waiting {
                PendingJoin::Local { client, .. } if *client == from => *client = to,
                PendingJoin::Local { .. } | PendingJoin::Remote(_) => {}
            }
        }
    }
}
