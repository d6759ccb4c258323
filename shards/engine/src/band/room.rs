//! A session with its audience: who of its members sits at which connection, what waits to be told
//! to them, and when the next tick is due.

use std::net::IpAddr;

use super::batch::Batch;
use super::persisted::Persisted;
use super::replay_log::{self, Bounds, EntryForm, ReplayLog, is_volatile};
use super::reservations::Reservations;
use super::tick_grid::{TickGrid, stride};
use crate::context::Cx;
use crate::delivery::route::Route;
use crate::io::Settings;
use crate::session::{Audience, Effect, LostSeat, Session};
use crate::speech::{Code, Join, LeaveReason, Notice, Reject};
use crate::throttle::guesses::{Guard, GuessLimit, GuessThrottle, Shown};
use crate::timers::{Timer, TimerHandle};
use crate::wire::{notices, print};
use crate::words::ids::{ConnId, MemberId, Offset, RecoveryToken, RoomKey};
use crate::words::time::Micros;

/// Room for most packets, so that they need not grow while they are printed.
const PACKET_BYTES: usize = 1024;

/// How long the statistics of a large session may grow old: of all who come and go meanwhile they
/// tell once.
const STATS_INTERVAL: Micros = Micros::from_secs(1);

/// A session on this shard.
pub struct Room {
    /// The music and the people.
    pub session: Session,
    /// The members that have a connection, in order of joining.
    subscribers: Vec<Subscriber>,
    batch: Batch,
    log: ReplayLog<LostSeat>,
    grid: TickGrid,
    /// The tick that the timer is set for.
    next_tick: u64,
    /// Since when nobody is here.
    empty_since: Option<Micros>,
    /// When the statistics of a large session are due.
    stats_at: Option<Micros>,
    tick: TimerHandle,
    window: TimerHandle,
    deadline: TimerHandle,
    /// What the storage has of it.
    pub persisted: Persisted,
    /// The guesses at its passcode and its PIN.
    guard: Guard,
    /// Seats for those who were told on another shard that they may come.
    pub reservations: Reservations,
}

/// A member's connection.
struct Subscriber {
    member: MemberId,
    route: Route,
    /// Every how many ticks it gets one; 0 = none.
    stride: u16,
    /// Whether it wants to be told of beats.
    metronome: bool,
}

/// A notice that is kept for every member of a band that has come together, in few bytes; `None`
/// for the others.
fn pack(notice: &Notice) -> Option<Vec<u8>> {
    let Notice::UserJoined { member, member_count } = notice else { return None };
    postcard::to_allocvec(&(member, member_count)).ok()
}

fn unpack(bytes: &[u8]) -> Option<Notice> {
    let (member, member_count) = postcard::from_bytes(bytes).ok()?;
    Some(Notice::UserJoined { member, member_count })
}

/// The bounds of a room's memory.
fn bounds<'c>(cx: &'c mut Cx<'_>) -> Bounds<'c> {
    let window = cx.settings.transports.recovery;
    let detection_time = replay_log::detection_time(cx.settings);
    Bounds { window, detection_time, limits: &cx.settings.limits, bytes: cx.replay_bytes }
}

impl Room {
    /// A room for a new session; `luck` spreads the rooms over the moments of the tick interval.
    pub fn new(session: Session, settings: &Settings, spread: u64, now: Micros) -> Self {
        Self {
            session,
            subscribers: Vec::new(),
            batch: Batch::default(),
            log: ReplayLog::default(),
            grid: TickGrid::new(settings.tick_interval, spread),
            next_tick: 0,
            empty_since: Some(now),
            stats_at: None,
            tick: TimerHandle::default(),
            window: TimerHandle::default(),
            deadline: TimerHandle::default(),
            persisted: Persisted::default(),
            guard: Guard::default(),
            reservations: Reservations::default(),
        }
    }

    /// Seats a member that the session has taken in, or takes note of how it wants its ticks now.
    pub fn seat(&mut self, member: MemberId, route: Route, settings: &Settings) {
        let stride = stride(self.session.tick_hz(member), settings.tick_interval);
        let metronome = self.session.wants_metronome(member);
        let subscriber = Subscriber { member, route, stride, metronome };
        match self.subscribers.iter_mut().find(|subscriber| subscriber.member == member) {
            Some(taken) => *taken = subscriber,
            None => self.subscribers.push(subscriber),
        }
        self.empty_since = None;
    }

    /// A member is at another connection now.
    pub fn relocate(&mut self, member: MemberId, route: Route) {
        if let Some(subscriber) =
            self.subscribers.iter_mut().find(|subscriber| subscriber.member == member)
        {
            subscriber.route = route;
        }
    }

    /// Takes a member's seat away.
    pub fn unseat(&mut self, member: MemberId, now: Micros) {
        // mark: leaver_stays_seated
        self.subscribers.retain(|subscriber| subscriber.member != member);
        if self.subscribers.is_empty() {
            self.empty_since = Some(now);
        }
    }

    /// The session's member is gone: on purpose, or because its connection is.
    pub fn remove_member(
        &mut self,
        key: RoomKey,
        member: MemberId,
        reason: LeaveReason,
        cx: &mut Cx<'_>,
        effects: &mut Vec<Effect>,
    ) {
        self.flush(key, cx);
        let token = self
            .subscribers
            .iter()
            .find(|subscriber| subscriber.member == member)
            .and_then(|subscriber| subscriber.route.token);
        self.unseat(member, cx.now.at);
        if let (Some(token), Some(seat)) = (token, self.session.seat_of(member))
            && !matches!(
                reason,
                LeaveReason::Left | LeaveReason::Disconnected | LeaveReason::Draining
            )
        {
            self.log.keep(cx.now.at, token, seat, &mut bounds(cx));
        }
        match reason {
            LeaveReason::Left | LeaveReason::Disconnected => {
                self.session.leave(cx.now, member, reason, effects);
            }
            _ => self.session.lost(cx.now, member, reason, effects),
        }
    }

    /// Gives a lost member its seat back, at another connection, and tells it what it missed.
    /// `None` if nobody is known by this token, too much was told after the event of this number, or
    /// others have taken all seats.
    pub fn recover(
        &mut self,
        token: RecoveryToken,
        offset: Offset,
        route: Route,
        cx: &mut Cx<'_>,
        effects: &mut Vec<Effect>,
    ) -> Option<MemberId> {
        let lost = self.log.take(cx.now.at, token, &mut bounds(cx))?;
        let (member, metronome) = (lost.seat.member.id, lost.seat.metronome);
        if !self.log.covers(offset.number, member, metronome)
            || !self.session.restore(cx.now, lost, effects)
        {
            return None;
        }
        self.seat(member, route, cx.settings);
        for missed in self.log.missed(offset.number, member, metronome) {
            let number = missed.number;
            cx.sender.text(cx.out, route.conn, route.encoding, |bytes| match missed.form {
                EntryForm::Packet => bytes.extend_from_slice(missed.bytes),
                EntryForm::Notice => {
                    if let Some(notice) = unpack(missed.bytes) {
                        notices::notice(bytes, self.session.id(), &notice);
                        print::offset(bytes, &Offset { number, ..offset });
                    }
                }
            });
        }
        Some(member)
    }

    /// The connection of the member that would come back with this token.
    pub fn conn_of_token(&self, token: RecoveryToken) -> Option<ConnId> {
        self.subscribers
            .iter()
            .find(|subscriber| subscriber.route.token == Some(token))
            .map(|subscriber| subscriber.route.conn)
    }

    /// Forgets what was told; who comes back is told the state instead.
    pub fn drop_events(&mut self, cx: &mut Cx<'_>) {
        self.log.drop_events(&mut bounds(cx));
    }

    /// Whether the storage has its newest state.
    pub fn is_stored(&self) -> bool {
        self.persisted.has(self.session.epoch(), self.session.version())
    }

    /// Bytes that are kept for lost members.
    pub fn logged_bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// Whether somebody waits for a tick.
    pub fn is_ticking(&self) -> bool {
        self.tick.at().is_some()
    }

    /// Since when nobody is here, if so.
    pub fn empty_since(&self) -> Option<Micros> {
        self.empty_since
    }

    /// Where a member sits, if it has a connection.
    pub fn conn_of(&self, member: MemberId) -> Option<ConnId> {
        self.subscribers
            .iter()
            .find(|subscriber| subscriber.member == member)
            .map(|subscriber| subscriber.route.conn)
    }

    /// Members with a connection.
    pub fn seated(&self) -> usize {
        self.subscribers.len()
    }

    /// Whether an address may try a passcode or PIN.
    ///
    /// An address that guessed wrong too often waits. If the session was guessed at too often, all
    /// addresses wait that have guessed wrong, so that many together do not get far. An address
    /// without a wrong guess is spared, or guessers could keep the band out; but one customer may
    /// hold a /48 with 65 536 of these, so a network has only so many spared guesses, and so has
    /// everybody together. An address that has shown these secrets before needs none.
    pub fn may_guess(&self, peer: IpAddr, join: &Join, cx: &mut Cx<'_>) -> Result<(), Reject> {
        let now = cx.now.at;
        let guard = &self.guard;
        let is_proxy = cx.settings.policy.is_proxy(peer);
        let own = if is_proxy { GuessThrottle::default() } else { cx.peers.guesses(peer) };
        let is_known = || guard.knows(peer, shown(join, &self.session));
        let is_spared = !is_proxy
            && !own.any(now)
            && (cx.peers.spares(peer, now) && guard.may_stranger(now) || is_known());
        let everybody = if is_spared { Ok(()) } else { guard.may(now) };
        own.may(now, GuessLimit::OF_ADDRESS).and(everybody).map_err(|wait| {
            let seconds = wait.as_millis().div_ceil(1_000);
            let message = format!("too many wrong passcodes or PINs: try again in {seconds} s");
            Reject { retry_after: Some(wait), ..Reject::new(Code::RateLimited, message) }
        })
    }

    /// Notes a wrong guess of an address.
    pub fn guessed_wrong(&mut self, peer: IpAddr, cx: &mut Cx<'_>) {
        let now = cx.now.at;
        if !cx.settings.policy.is_proxy(peer) {
            cx.peers.guessed_wrong(peer, now);
        }
        self.guard.wrong(now);
    }

    /// Notes that an address has shown the secrets of this call, and that they were right.
    pub fn guessed_right(&mut self, peer: IpAddr, join: &Join) {
        self.guard.right(peer, shown(join, &self.session));
    }

    /// Takes effects in. They go out when the window closes, which this opens if it was not, and
    /// closes sooner if what came may not wait as long; but a newcomer's snapshot and the answer to
    /// a sync request never wait.
    pub fn collect(&mut self, key: RoomKey, effects: &mut Vec<Effect>, cx: &mut Cx<'_>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Snapshot(one @ Audience::One(_)) => self.send_snapshot(key, one, cx),
                Effect::Notify(one @ Audience::One(_), notice @ Notice::SyncResponse(_)) => {
                    self.send_notice(key, one, &notice, cx);
                }
                Effect::RoomStats if self.session.is_large() => {
                    self.stats_at.get_or_insert(cx.now.at + STATS_INTERVAL);
                }
                effect => self.batch.add(effect),
            }
        }
        if !self.batch.is_empty() {
            let windows = self.batch.windows(self.subscribers.len());
            let waits = Micros::from_micros(windows * cx.settings.batch_interval.as_micros());
            let closes = cx.now.at + waits;
            // mark: window_loses_its_timer
            if self.window.at().is_none_or(|at| closes < at) {
                self.window.set(cx.wheel, Some(closes), Timer::Batch(key));
            }
        }
    }

    /// Sets the timers to what the session needs now.
    pub fn arm(&mut self, key: RoomKey, cx: &mut Cx<'_>) {
        let playing = self.session.is_playing(cx.now.at);
        // A tick that is due is not put off: it fires at the end of this cx.
        if !self.tick.at().is_some_and(|at| playing && at <= cx.now.at) {
            let after = playing.then(|| self.grid.tick_at(cx.now.at));
            self.arm_tick(key, after, cx);
        }
        let expires = self.empty_since.map(|since| since + cx.settings.limits.empty_session_ttl);
        let forgets = self.log.deadline(&bounds(cx));
        let deadline = [self.session.next_deadline(), expires, forgets, self.stats_at]
            .into_iter()
            .flatten()
            .min();
        self.deadline.set(cx.wheel, deadline, Timer::Room(key));
    }

    /// Sets the timer to the next tick that somebody wants after this one, if there is one.
    fn arm_tick(&mut self, key: RoomKey, after: Option<u64>, cx: &mut Cx<'_>) {
        let wanted = after.and_then(|tick| self.wanted_after(tick));
        self.next_tick = wanted.unwrap_or_default();
        let at = wanted.map(|tick| self.grid.time_of(tick));
        *cx.ticking -= u32::from(self.is_ticking());
        self.tick.set(cx.wheel, at, Timer::Tick(key));
        *cx.ticking += u32::from(self.is_ticking());
    }

    /// The first tick after this one that somebody wants. A session whose members keep the timeline
    /// by themselves sleeps through all the others.
    fn wanted_after(&self, tick: u64) -> Option<u64> {
        let next = tick + 1;
        let mut wanted = None;
        for stride in self
            .subscribers
            .iter()
            .map(|subscriber| u64::from(subscriber.stride))
            .filter(|stride| *stride > 0)
        {
            let tick = next.next_multiple_of(stride);
            wanted = Some(wanted.map_or(tick, |other: u64| other.min(tick)));
            if tick == next {
                break;
            }
        }
        wanted
    }

    /// Reads what a tick reads, for that to be in the cache. What it returns means nothing.
    pub fn prefetch(&self) -> u64 {
        let subscribers =
            self.subscribers.iter().fold(0, |read, subscriber| read ^ u64::from(subscriber.stride));
        let name = self.session.id().as_str().as_bytes().first().map_or(0, |byte| u64::from(*byte));
        subscribers ^ name ^ u64::from(self.session.is_playing(Micros::ZERO))
    }

    /// A tick is due: tells everybody who wants it, or one that was missed since, where the band
    /// is.
    pub fn tick(&mut self, key: RoomKey, cx: &mut Cx<'_>) {
        self.tick.fired();
        *cx.ticking -= 1;
        if !self.session.is_playing(cx.now.at) {
            return self.arm(key, cx);
        }
        let tick = Notice::Tick(self.session.tick(cx.now));
        let (first, last) = (self.next_tick, self.grid.tick_at(cx.now.at));
        let wanting = |subscriber: &&Subscriber| match u64::from(subscriber.stride) {
            0 => false,
            1 => true,
            stride => first.next_multiple_of(stride) <= last,
        };
        let to = self.subscribers.iter().filter(wanting).map(|subscriber| subscriber.route);
        cx.sender
            .send_volatile(cx.out, to, |bytes| notices::notice(bytes, self.session.id(), &tick));
        // Nothing else is due any sooner or later for that.
        self.arm_tick(key, Some(last), cx); // mark: tick_after_a_late_one
    }

    /// The session's own deadline has come.
    pub fn due(&mut self, key: RoomKey, cx: &mut Cx<'_>, effects: &mut Vec<Effect>) {
        self.deadline.fired();
        self.log.prune(cx.now.at, &mut bounds(cx));
        if self.session.next_deadline().is_some_and(|at| at <= cx.now.at) {
            self.session.due(cx.now, effects);
        }
        self.collect(key, effects, cx);
        if self.stats_at.is_some_and(|at| at <= cx.now.at) {
            self.send_stats(cx);
        }
        self.arm(key, cx);
    }

    /// The batch window is over; what it gathered is flushed when the turn's ticks are out.
    pub fn window_over(&mut self) {
        self.window.fired();
    }

    /// Tells the members what was gathered.
    ///
    /// Also called before somebody joins or leaves and before a member is answered with newer
    /// state, so that nobody hears of older state after newer, or of what happened before it came.
    pub fn flush(&mut self, key: RoomKey, cx: &mut Cx<'_>) {
        if self.batch.is_empty() {
            return;
        }
        self.window.cancel(cx.wheel);
        let mut batch = std::mem::take(&mut self.batch);
        for (audience, notice) in batch.updates.drain(..) {
            self.send_notice(key, audience, &notice, cx);
        }
        if batch.snapshot {
            self.send_snapshot(key, Audience::All, cx);
        } else {
            for sender in batch.senders {
                self.send_snapshot(key, Audience::Sender(sender), cx);
            }
        }
        if batch.room_stats {
            self.send_stats(cx);
        }
    }

    /// Without an offset, for who comes back is told fresh ones.
    fn send_stats(&mut self, cx: &mut Cx<'_>) {
        self.stats_at = None;
        let stats = self.session.room_stats(cx.now.at);
        let mut packet = Vec::with_capacity(PACKET_BYTES);
        notices::room_stats(&mut packet, self.session.id(), &stats);
        self.send(Audience::All, &packet, |_| true, cx);
    }

    fn send_snapshot(&mut self, key: RoomKey, audience: Audience, cx: &mut Cx<'_>) {
        let mut packet = Vec::with_capacity(PACKET_BYTES);
        notices::snapshot(&mut packet, &self.session.snapshot(cx.now));
        self.send(audience, &packet, |subscriber| subscriber.route.token.is_none(), cx);
        self.append_offset(key, &mut packet, self.log.sequence(), cx);
        self.send(audience, &packet, |subscriber| subscriber.route.token.is_some(), cx);
    }

    fn send_notice(&mut self, key: RoomKey, audience: Audience, notice: &Notice, cx: &mut Cx<'_>) {
        let text = if let Notice::Setlist(setlist) = notice { setlist.size() } else { 0 };
        let mut packet = Vec::with_capacity(PACKET_BYTES + text);
        notices::notice(&mut packet, self.session.id(), notice);
        let audience = match notice {
            // It may come back to what it has missed, but not to its own leaving.
            Notice::UserLeft { member, .. } => Audience::Others(*member),
            _ => audience,
        };
        if is_volatile(notice) || matches!(audience, Audience::Sender(_)) {
            self.send(audience, &packet, |_| true, cx);
        } else {
            self.send_and_log(key, audience, notice, packet, cx);
        }
    }

    /// Tells something that a member who misses it is told on its return: with its offset to those
    /// who may return.
    fn send_and_log(
        &mut self,
        key: RoomKey,
        audience: Audience,
        notice: &Notice,
        mut packet: Vec<u8>,
        cx: &mut Cx<'_>,
    ) {
        self.send(audience, &packet, |subscriber| subscriber.route.token.is_none(), cx);
        if cx.settings.transports.recovery == Micros::ZERO {
            return;
        }
        self.append_offset(key, &mut packet, self.log.sequence() + 1, cx);
        self.send(audience, &packet, |subscriber| subscriber.route.token.is_some(), cx);
        let packed = pack(notice);
        let kept = match &packed {
            Some(packed) => (EntryForm::Notice, &packed[..]),
            None => (EntryForm::Packet, &packet[..]),
        };
        self.log.push(cx.now.at, audience, kept, &mut bounds(cx));
    }

    fn append_offset(&self, room: RoomKey, packet: &mut Vec<u8>, number: u64, cx: &Cx<'_>) {
        let offset = Offset { shard: cx.settings.shard, room, number };
        print::offset(packet, &offset);
    }

    /// Tells a packet to those of an audience that are `meant`.
    fn send(
        &self,
        audience: Audience,
        packet: &[u8],
        meant: impl Fn(&Subscriber) -> bool,
        cx: &mut Cx<'_>,
    ) {
        let hears =
            |subscriber: &&Subscriber| audience.concerns(subscriber.member, subscriber.metronome);
        // One is looked for once, from the newcomers on, rather than with each pass over the
        // audience.
        let subscribers = match audience {
            Audience::One(member) | Audience::Sender(member) => {
                let place =
                    self.subscribers.iter().rposition(|subscriber| subscriber.member == member);
                place.map_or(&[][..], |place| &self.subscribers[place..=place])
            }
            _ => &self.subscribers[..],
        };
        let to = subscribers
            .iter()
            .filter(hears)
            .filter(|subscriber| meant(subscriber))
            .map(|subscriber| subscriber.route);
        cx.sender.fan_out(cx.out, to, packet);
    }

    /// Cancels every timer and gives back what is held; the room is about to go.
    pub fn clear(&mut self, cx: &mut Cx<'_>) {
        *cx.ticking -= u32::from(self.is_ticking());
        for timer in [&mut self.tick, &mut self.window, &mut self.deadline] {
            timer.cancel(cx.wheel);
        }
        self.log.clear(&mut bounds(cx));
    }

    /// What must hold of a room at the end of every cx.
    pub fn check_invariants(&self) {
        self.session.check_invariants();
        for (place, subscriber) in self.subscribers.iter().enumerate() {
            let same = |other: &Subscriber| {
                other.member == subscriber.member || other.route.conn == subscriber.route.conn
            };
            assert!(
                !self.subscribers[..place].iter().any(same),
                "{:?} has two seats",
                subscriber.member
            );
        }
        let connected = self.session.members().filter(|member| member.connected).count();
        assert_eq!(
            connected,
            self.subscribers.len(),
            "a member is connected exactly if it has a seat"
        );
        assert_eq!(self.subscribers.is_empty(), self.empty_since.is_some());
    }
}

/// The secrets of a session that a `join_session` shows.
fn shown(join: &Join, session: &Session) -> Shown {
    let (has_passcode, has_pin) = session.secrets();
    Shown {
        passcode: has_passcode && join.passcode.is_some(),
        pin: has_pin && join.leader_pin.is_some(),
    }
}
