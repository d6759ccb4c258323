//! A session with its subscribers: the route of each connected member, the batch that waits for
//! them, and the timers of the next tick and deadline.

use std::net::IpAddr;

use super::Way;
use super::batch::Batch;
use super::persisted::Persisted;
use super::replay_log::{self, Bounds, EntryForm, ReplayLog, is_volatile};
use super::reservations::Reservations;
use super::shared::{self, Shared};
use super::tick_grid::{TickGrid, stride};
use super::told::{Place, Told};
use crate::context::Cx;
use crate::delivery::route::Route;
use crate::io::{NodeId, Settings};
use crate::session::{Audience, Effect, LostSeat, Session};
use crate::speech::{Code, Join, LeaveReason, Member, Notice, Operation, Reject, RoomStats};
use crate::throttle::guesses::{Guard, GuessLimit, GuessThrottle, Shown};
use crate::timers::{Timer, TimerHandle};
use crate::wire::{notices, print};
use crate::words::ids::{ConnId, MemberId, Offset, RecoveryToken, RoomKey};
use crate::words::time::{Micros, Moment};

/// Initial capacity of a packet in bytes: enough for most, so that printing does not reallocate.
const PACKET_BYTES: usize = 1024;

/// Time within which the statistics of a large session are sent at most once. They cover all
/// members that come and go meanwhile.
const STATS_INTERVAL: Micros = Micros::from_secs(1);

/// A session on this shard.
pub struct Room {
    /// The music and the members.
    pub session: Session,
    /// The connected members, in order of joining.
    subscribers: Vec<Subscriber>,
    batch: Batch,
    log: ReplayLog<LostSeat>,
    grid: TickGrid,
    /// Number of the tick that the timer is set for.
    next_tick: u64,
    /// Time since which no member is connected.
    empty_since: Option<Micros>,
    /// Time at which the statistics of a large session are due.
    stats_at: Option<Micros>,
    tick: TimerHandle,
    window: TimerHandle,
    deadline: TimerHandle,
    /// The state that the storage has.
    pub persisted: Persisted,
    /// Limits guesses of its passcode and PIN.
    guard: Guard,
    /// Seats reserved for members that are handed over to this shard.
    pub reservations: Reservations,
    /// Number of subscribers that are screens.
    screens: u32,
    /// The session's part in a cluster. `None`: the server is alone.
    pub shared: Option<Box<Shared>>,
}

/// A connected member with its route.
struct Subscriber {
    member: MemberId,
    route: Route,
    /// The member receives one tick in this many; 0 means none.
    stride: u16,
    /// Whether the member wants `metronome_tick`.
    metronome: bool,
    /// Whether it is a screen, which the session does not know.
    is_screen: bool,
}

/// Maximum number of screens of a session. Specified.
pub(super) const SCREENS_MAX: u32 = 16;

/// Serializes a join in few bytes, because a session's log holds one for each member. Returns `None`
/// for any other notice.
fn pack(notice: &Notice) -> Option<Vec<u8>> {
    let Notice::UserJoined { member, member_count } = notice else { return None };
    postcard::to_allocvec(&(member, member.may_edit, member_count)).ok()
}

/// Restores a notice that `pack` serialized.
fn unpack(bytes: &[u8]) -> Option<Notice> {
    let (member, may_edit, member_count) = postcard::from_bytes(bytes).ok()?;
    Some(Notice::UserJoined { member: Member { may_edit, ..member }, member_count })
}

/// Returns the bounds of a room's replay log.
fn bounds<'c>(cx: &'c mut Cx<'_>) -> Bounds<'c> {
    let window = cx.settings.transports.recovery;
    let detection_time = replay_log::detection_time(cx.settings);
    Bounds { window, detection_time, limits: &cx.settings.limits, bytes: cx.replay_bytes }
}

impl Room {
    /// Creates a room without subscribers. A random `spread` distributes the rooms over the tick
    /// interval.
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
            screens: 0,
            shared: None,
        }
    }

    /// Adds a subscriber for a member that the session has admitted, or updates its route and its
    /// wishes for ticks.
    pub fn seat(
        &mut self,
        member: MemberId,
        way: Way,
        tick_hz: Option<u8>,
        metronome: bool,
        settings: &Settings,
    ) {
        let route = match way {
            Way::Here(route) => route,
            Way::Node(node) => return self.seat_on(node, member, false),
        };
        if let Some(Shared::Owner(owner)) = self.shared.as_deref_mut() {
            owner.unseat(member);
        }
        let stride = stride(tick_hz, settings.tick_interval);
        let subscriber = Subscriber { member, route, stride, metronome, is_screen: false };
        match self.subscribers.iter_mut().find(|subscriber| subscriber.member == member) {
            Some(taken) => *taken = subscriber,
            None => self.subscribers.push(subscriber),
        }
        self.empty_since = None;
    }

    /// Checks whether a screen may join.
    ///
    /// # Errors
    /// `session_not_found`, `bad_passcode` or `session_full`.
    pub fn admit_screen(&self, screen: MemberId, join: &Join) -> Result<(), Reject> {
        self.session.admit_screen(join)?;
        let remote = self.shared.as_ref().map_or(0, |shared| shared.remote_screens());
        if self.screens + remote - u32::from(self.is_screen(screen)) >= SCREENS_MAX {
            let message = format!("the session has its {SCREENS_MAX} screens");
            return Err(Reject::new(Code::SessionFull, message));
        }
        Ok(())
    }

    /// Adds a subscriber for a screen that was admitted, or updates its wishes. It receives a
    /// snapshot.
    pub fn seat_screen(
        &mut self,
        screen: MemberId,
        way: Way,
        join: &Join,
        settings: &Settings,
        effects: &mut Vec<Effect>,
    ) {
        self.unseat(screen, Micros::ZERO);
        let route = match way {
            Way::Here(route) => route,
            Way::Node(node) => {
                self.seat_on(node, screen, true);
                let snapshot = Effect::Snapshot(Audience::One(screen));
                return effects.extend([snapshot, Effect::RoomStats]);
            }
        };
        let stride = stride(join.tick_hz, settings.tick_interval);
        let (member, metronome) = (screen, false);
        self.subscribers.push(Subscriber { member, route, stride, metronome, is_screen: true });
        self.screens += 1;
        self.empty_since = None;
        effects.extend([Effect::Snapshot(Audience::One(screen)), Effect::RoomStats]);
    }

    /// Seats a member or screen that is connected to another node.
    fn seat_on(&mut self, node: NodeId, member: MemberId, is_screen: bool) {
        if let Some(Shared::Owner(owner)) = self.shared.as_deref_mut() {
            owner.seat(node, member, is_screen);
            self.empty_since = None;
        }
    }

    /// Whether this subscriber is a screen.
    pub fn is_screen(&self, member: MemberId) -> bool {
        let is_it = |other: &Subscriber| other.is_screen && other.member == member;
        self.screens > 0 && self.subscribers.iter().any(is_it)
            || self.shared.as_ref().is_some_and(|shared| shared.is_screen(member))
    }

    /// Changes the route of a member, which has another connection now.
    pub fn relocate(&mut self, member: MemberId, route: Route) {
        if let Some(subscriber) =
            self.subscribers.iter_mut().find(|subscriber| subscriber.member == member)
        {
            subscriber.route = route;
        }
    }

    /// Removes a member whose seat another connection has now. Its recovery token is void. Returns
    /// its connection, if it has one.
    pub fn replace(&mut self, member: MemberId, now: Micros) -> Option<ConnId> {
        let conn = self.conn_of(member);
        self.unseat(member, now);
        self.log.forget(|lost| lost.seat.member.id == member); // mark: pid_outlives_its_seat
        conn
    }

    /// Removes a member's subscriber.
    pub fn unseat(&mut self, member: MemberId, now: Micros) {
        let is_it = |other: &&Subscriber| other.is_screen && other.member == member;
        self.screens -= u32::from(self.screens > 0 && self.subscribers.iter().any(|o| is_it(&o)));
        // mark: leaver_stays_seated
        self.subscribers.retain(|subscriber| subscriber.member != member);
        if let Some(Shared::Owner(owner)) = self.shared.as_deref_mut() {
            owner.unseat(member);
        }
        if self.occupants() == 0 {
            self.empty_since = Some(now);
        }
    }

    /// Removes a member that left or lost its connection. If it was lost, the log keeps its seat.
    pub fn remove_member(
        &mut self,
        key: RoomKey,
        member: MemberId,
        reason: LeaveReason,
        cx: &mut Cx<'_>,
        effects: &mut Vec<Effect>,
    ) {
        self.flush(key, cx);
        if self.is_screen(member) {
            self.unseat(member, cx.now.at);
            return effects.push(Effect::RoomStats);
        }
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

    /// Gives a lost member its seat back, on another connection, and sends it the events that it
    /// missed. Returns `None` if the token is unknown, the log does not reach back to the offset,
    /// or the session is full.
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
        let tick_hz = self.session.tick_hz(member);
        let wants = self.session.wants_metronome(member);
        self.seat(member, Way::Here(route), tick_hz, wants, cx.settings);
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

    /// Returns the connection of the member that holds this recovery token.
    pub fn conn_of_token(&self, token: RecoveryToken) -> Option<ConnId> {
        self.subscribers
            .iter()
            .find(|subscriber| subscriber.route.token == Some(token))
            .map(|subscriber| subscriber.route.conn)
    }

    /// Drops the logged events. A returning member receives a snapshot instead.
    pub fn drop_events(&mut self, cx: &mut Cx<'_>) {
        self.log.drop_events(&mut bounds(cx));
    }

    /// Whether the storage has the newest state.
    pub fn is_stored(&self) -> bool {
        self.persisted.has(&self.session)
    }

    /// Returns the bytes of events kept for lost members.
    pub fn logged_bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// Whether a tick is scheduled.
    pub fn is_ticking(&self) -> bool {
        self.tick.at().is_some()
    }

    /// Returns the time since which no member is connected, `None` if one is.
    pub fn empty_since(&self) -> Option<Micros> {
        self.empty_since
    }

    /// Returns the connection of a member, if it has one.
    pub fn conn_of(&self, member: MemberId) -> Option<ConnId> {
        self.subscribers
            .iter()
            .find(|subscriber| subscriber.member == member)
            .map(|subscriber| subscriber.route.conn)
    }

    /// Returns the number of members that are connected to this node.
    pub fn seated(&self) -> usize {
        self.subscribers.len() - self.screens as usize
    }

    /// Returns the number of connected members and screens, on all nodes.
    pub fn occupants(&self) -> usize {
        self.subscribers.len() + self.shared.as_ref().map_or(0, |shared| shared.remote())
    }

    /// Notes since when no member is connected.
    pub fn note_empty(&mut self, now: Micros) {
        match self.occupants() {
            0 if self.empty_since.is_none() => self.empty_since = Some(now),
            0 => {}
            _ => self.empty_since = None,
        }
    }

    /// Returns the members that are connected to this node, and whether each is a screen.
    pub fn seated_here(&self) -> impl Iterator<Item = (MemberId, bool)> {
        self.subscribers.iter().map(|subscriber| (subscriber.member, subscriber.is_screen))
    }

    /// Checks whether an address may try a passcode or PIN.
    ///
    /// An address that guessed wrong too often must wait. If a session was guessed at too often,
    /// every address with a wrong guess must wait, so that many addresses together do not get far.
    /// An address without a wrong guess is exempt, or guessers could keep the band out. One
    /// customer may hold an IPv6 /48 with 65 536 subnets, though, so the exempt guesses of each
    /// network and of the whole session are limited too. An address that has shown these secrets
    /// before needs no exemption.
    ///
    /// # Errors
    /// `rate_limited` with the time to wait.
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

    /// Counts a wrong guess of an address.
    pub fn guessed_wrong(&mut self, peer: IpAddr, cx: &mut Cx<'_>) {
        let now = cx.now.at;
        if !cx.settings.policy.is_proxy(peer) {
            cx.peers.guessed_wrong(peer, now);
        }
        self.guard.wrong(now);
    }

    /// Remembers that an address has shown the right secrets in this call.
    pub fn guessed_right(&mut self, peer: IpAddr, join: &Join) {
        self.guard.right(peer, shown(join, &self.session));
    }

    /// Queues effects until the batch window closes. Opens the window if it is closed, and shortens
    /// it for an urgent effect. A newcomer's snapshot and a sync response are sent at once.
    pub fn collect(&mut self, key: RoomKey, effects: &mut Vec<Effect>, cx: &mut Cx<'_>) {
        for effect in effects.drain(..) {
            let effect = match &mut self.shared {
                Some(shared) => match shared.hold_direct(effect) {
                    Some(effect) => effect,
                    None => continue,
                },
                None => effect,
            };
            match self.send_direct(key, effect, cx) {
                None => {}
                Some(Effect::RoomStats) if self.session.is_large() => {
                    self.stats_at.get_or_insert(cx.now.at + STATS_INTERVAL);
                }
                Some(effect) => self.batch.add(effect),
            }
        }
        if !self.batch.is_empty() && !shared::waits_for_store(&self.shared) {
            let windows = self.batch.windows(self.subscribers.len());
            let waits = Micros::from_micros(windows * cx.settings.batch_interval.as_micros());
            let closes = cx.now.at + waits;
            // mark: window_loses_its_timer
            if self.window.at().is_none_or(|at| closes < at) {
                self.window.set(cx.wheel, Some(closes), Timer::Batch(key));
            }
        }
    }

    /// Sends a newcomer's snapshot or a sync response. Returns any other effect.
    pub fn send_direct(&mut self, key: RoomKey, effect: Effect, cx: &mut Cx<'_>) -> Option<Effect> {
        match effect {
            Effect::Snapshot(one @ Audience::One(_)) => self.send_snapshot(key, one, cx),
            Effect::Notify(one @ Audience::One(_), notice @ Notice::SyncResponse(_)) => {
                self.send_notice(key, one, &notice, cx);
            }
            effect => return Some(effect),
        }
        None
    }

    /// Sets the timers that the session needs now.
    pub fn arm(&mut self, key: RoomKey, cx: &mut Cx<'_>) {
        let playing = is_playing(self, cx.now.at);
        // A tick that is due is not moved: it fires at the end of this turn.
        if !self.tick.at().is_some_and(|at| playing && at <= cx.now.at) {
            let after = playing.then(|| self.grid.tick_at(cx.now.at));
            self.arm_tick(key, after, cx);
        }
        let expires = self.empty_since.map(|since| since + cx.settings.limits.empty_session_ttl);
        let forgets = self.log.deadline(&bounds(cx));
        let deadline =
            [shared::deadline(&self.shared, &self.session), expires, forgets, self.stats_at]
                .into_iter()
                .flatten()
                .min();
        self.deadline.set(cx.wheel, deadline, Timer::Room(key));
    }

    /// Sets the timer of the next wanted tick after the tick `after`, or cancels it.
    fn arm_tick(&mut self, key: RoomKey, after: Option<u64>, cx: &mut Cx<'_>) {
        let wanted = after.and_then(|tick| self.wanted_after(tick));
        self.next_tick = wanted.unwrap_or_default();
        let at = wanted.map(|tick| self.grid.time_of(tick));
        *cx.ticking -= u32::from(self.is_ticking());
        self.tick.set(cx.wheel, at, Timer::Tick(key));
        *cx.ticking += u32::from(self.is_ticking());
    }

    /// Returns the first tick after this one that a subscriber wants. If all members keep the
    /// timeline themselves, the session sleeps through every tick.
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

    /// Prefetches the memory that `tick` reads. The result is meaningless.
    pub fn prefetch(&self) -> u64 {
        let subscribers =
            self.subscribers.iter().fold(0, |read, subscriber| read ^ u64::from(subscriber.stride));
        let name = self.session.id().as_str().as_bytes().first().map_or(0, |byte| u64::from(*byte));
        subscribers ^ name ^ self.session.tick(Moment::default()).position as u64
    }

    /// Sends the position to the subscribers that want this tick, or one that was skipped since the
    /// last.
    ///
    /// If another node may own the session, the tick is left out.
    pub fn tick(&mut self, key: RoomKey, cx: &mut Cx<'_>) {
        self.tick.fired();
        *cx.ticking -= 1;
        if !is_playing(self, cx.now.at) {
            return self.arm(key, cx);
        }
        let tick = Notice::Tick(match shared::timeline_before(&self.shared) {
            Some(timeline) => Session::tick_of(timeline, cx.now),
            None => self.session.tick(cx.now),
        });
        let (first, last) = (self.next_tick, self.grid.tick_at(cx.now.at));
        let wanting = |subscriber: &&Subscriber| match u64::from(subscriber.stride) {
            0 => false,
            1 => true,
            stride => first.next_multiple_of(stride) <= last,
        };
        let may_tick = shared::may_tick(&self.shared);
        let wanting = |subscriber: &&Subscriber| may_tick && wanting(subscriber);
        let to = self.subscribers.iter().filter(wanting).map(|subscriber| subscriber.route);
        cx.sender
            .send_volatile(cx.out, to, |bytes| notices::notice(bytes, self.session.id(), &tick));
        // A tick changes no other deadline of the session.
        self.arm_tick(key, Some(last), cx); // mark: tick_after_a_late_one
    }

    /// Does what is due at the session's deadline: expired events, grace, scheduled playback,
    /// statistics.
    pub fn due(&mut self, key: RoomKey, cx: &mut Cx<'_>, effects: &mut Vec<Effect>) {
        self.deadline.fired();
        self.log.prune(cx.now.at, &mut bounds(cx));
        if shared::deadline(&self.shared, &self.session).is_some_and(|at| at <= cx.now.at) {
            match self.shared.as_deref() {
                Some(Shared::Branch(_)) => self.session.due_in_copy(cx.now, effects),
                _ => self.session.due(cx.now, effects),
            }
        }
        self.collect(key, effects, cx);
        if self.stats_at.is_some_and(|at| at <= cx.now.at) {
            self.send_stats(key, cx);
        }
        self.arm(key, cx);
    }

    /// Closes the batch window, whose time is over. The caller flushes the batch later.
    pub fn close_window(&mut self) {
        self.window.fired();
    }

    /// Sends the batch to the members.
    ///
    /// Also called before a member joins or leaves and before newer state is sent to a member. So
    /// no member receives older state after newer, or events from before it joined.
    pub fn flush(&mut self, key: RoomKey, cx: &mut Cx<'_>) {
        if self.batch.is_empty() || shared::waits_for_store(&self.shared) {
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
            self.send_stats(key, cx);
        }
    }

    /// Drops effects that wait for the end of the batch window: their decisions are void.
    pub fn drop_batch(&mut self, cx: &mut Cx<'_>) {
        self.window.cancel(cx.wheel);
        self.batch = Batch::default();
    }

    /// Sends the statistics, without an offset: a recovered member receives fresh ones.
    fn send_stats(&mut self, key: RoomKey, cx: &mut Cx<'_>) {
        self.stats_at = None;
        let remote = self.shared.as_ref().map_or(0, |shared| shared.remote_screens());
        let screens = self.screens + remote;
        let stats = RoomStats { screens, ..self.session.room_stats(cx.now.at) };
        let mut packet = Vec::with_capacity(PACKET_BYTES);
        notices::room_stats(&mut packet, self.session.id(), &stats);
        self.tell(key, Told { audience: Audience::All, place: Place::Nowhere, packet }, cx);
    }

    /// Sends a snapshot, with an offset to clients that may recover. The snapshot contains every
    /// event so far, so its offset is that of the latest one, and it is not logged itself.
    fn send_snapshot(&mut self, key: RoomKey, audience: Audience, cx: &mut Cx<'_>) {
        let mut packet = Vec::with_capacity(PACKET_BYTES);
        notices::snapshot(&mut packet, &self.session.snapshot(cx.now));
        self.tell(key, Told { audience, place: Place::Newest, packet }, cx);
    }

    /// Sends a notice. A volatile one and one for the sender alone are not logged.
    fn send_notice(&mut self, key: RoomKey, audience: Audience, notice: &Notice, cx: &mut Cx<'_>) {
        let text = match notice {
            Notice::Setlist(setlist) => setlist.size(),
            Notice::SetlistChanged { operations, .. } => {
                operations.iter().filter_map(Operation::song).map(|song| song.size()).sum()
            }
            _ => 0,
        };
        let mut packet = Vec::with_capacity(PACKET_BYTES + text);
        notices::notice(&mut packet, self.session.id(), notice);
        let audience = match notice {
            // A lost member may recover the events that it missed, but not its own leaving.
            Notice::UserLeft { member, .. } => Audience::Others(*member),
            _ => audience,
        };
        let place = if is_volatile(notice) || matches!(audience, Audience::Sender(_)) {
            Place::Nowhere
        } else if cx.settings.transports.recovery == Micros::ZERO {
            Place::Next(None)
        } else {
            Place::Next(pack(notice))
        };
        self.tell(key, Told { audience, place, packet }, cx);
    }

    /// Sends a printed packet to the members. All packets to more than one member leave the room
    /// here, except ticks.
    fn tell(&mut self, key: RoomKey, told: Told, cx: &mut Cx<'_>) {
        let told = match &mut self.shared {
            Some(shared) => shared.pass(told),
            None => Some(told),
        };
        if let Some(told) = told {
            self.deliver(key, told, cx);
        }
    }

    /// Sends a printed packet to the subscribers, and logs it if it has a place in the log: with
    /// its offset to clients that may recover, without to the others.
    pub fn deliver(&mut self, key: RoomKey, told: Told, cx: &mut Cx<'_>) {
        let Told { audience, place, mut packet } = told;
        let number = match place {
            Place::Nowhere => return self.send(audience, &packet, |_| true, cx),
            Place::Newest => self.log.sequence(),
            Place::Next(_) => self.log.sequence() + 1,
        };
        self.send(audience, &packet, |subscriber| subscriber.route.token.is_none(), cx);
        let is_next = matches!(place, Place::Next(_));
        if is_next && cx.settings.transports.recovery == Micros::ZERO {
            return;
        }
        self.append_offset(key, &mut packet, number, cx);
        self.send(audience, &packet, |subscriber| subscriber.route.token.is_some(), cx);
        if let Place::Next(packed) = place {
            let kept = match &packed {
                Some(packed) => (EntryForm::Notice, &packed[..]),
                None => (EntryForm::Packet, &packet[..]),
            };
            self.log.push(cx.now.at, audience, kept, &mut bounds(cx));
        }
    }

    fn append_offset(&self, room: RoomKey, packet: &mut Vec<u8>, number: u64, cx: &Cx<'_>) {
        let offset = Offset { shard: cx.settings.shard, room, number };
        print::offset(packet, &offset);
    }

    /// Sends a packet to the subscribers of an audience that `meant` selects.
    fn send(
        &self,
        audience: Audience,
        packet: &[u8],
        meant: impl Fn(&Subscriber) -> bool,
        cx: &mut Cx<'_>,
    ) {
        let hears =
            |subscriber: &&Subscriber| audience.concerns(subscriber.member, subscriber.metronome);
        // A single member is searched once, from the newest subscriber on, instead of testing each
        // of them.
        let subscribers = match audience {
            Audience::One(member) | Audience::Sender(member) => {
                let index =
                    self.subscribers.iter().rposition(|subscriber| subscriber.member == member);
                index.map_or(&[][..], |index| &self.subscribers[index..=index])
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

    /// Cancels all timers and drops the log, because the room is about to be removed.
    pub fn clear(&mut self, cx: &mut Cx<'_>) {
        *cx.ticking -= u32::from(self.is_ticking());
        for timer in [&mut self.tick, &mut self.window, &mut self.deadline] {
            timer.cancel(cx.wheel);
        }
        self.log.clear(&mut bounds(cx));
    }

    /// Checks what must hold of a room at the end of every turn.
    ///
    /// # Panics
    /// If subscribers and connected members do not match.
    pub fn check_invariants(&self) {
        if !matches!(self.shared.as_deref(), Some(Shared::Branch(_))) {
            self.session.check_invariants();
        }
        for (index, subscriber) in self.subscribers.iter().enumerate() {
            let same = |other: &Subscriber| {
                other.member == subscriber.member || other.route.conn == subscriber.route.conn
            };
            assert!(
                !self.subscribers[..index].iter().any(same),
                "{:?} has two seats",
                subscriber.member
            );
        }
        if self.shared.is_none() {
            let connected = self.session.members().filter(|member| member.connected).count();
            assert_eq!(connected, self.seated(), "a member is connected exactly if it has a seat");
        }
        let screens = self.subscribers.iter().filter(|subscriber| subscriber.is_screen).count();
        assert_eq!(screens as u32, self.screens, "screens are counted");
        assert!(self.screens <= SCREENS_MAX, "{} screens", self.screens);
        assert_eq!(self.occupants() == 0, self.empty_since.is_some());
    }
}

/// Returns the secrets that a `join_session` shows, of those that the session has.
fn shown(join: &Join, session: &Session) -> Shown {
    let (has_passcode, has_pin) = session.secrets();
    Shown {
        passcode: has_passcode && join.passcode.is_some(),
        pin: has_pin && join.leader_pin.is_some(),
    }
}

/// Whether the music plays, as far as members know.
fn is_playing(room: &Room, at: Micros) -> bool {
    match shared::timeline_before(&room.shared) {
        Some(timeline) => timeline.is_playing_at(at),
        None => room.session.is_playing(at),
    }
}
