//! The events that a session has sent, kept for members that lose their connection. With them a
//! returning member recovers its seat as Socket.IO defines it: same id, session and role, and the
//! events that it missed.
//!
//! Every event of a session, unless it is [volatile](is_volatile), ends with an offset: its place
//! in the session's log. A client that reconnects names the last offset that it received and its
//! secret token, which the wire calls `pid`. The offset leads to the shard and the session; the
//! token identifies the seat, and is valid once. Snapshots carry an offset but are not logged, nor
//! are the room's statistics: a recovered member receives fresh ones.
//!
//! The log reaches back to the oldest event that a member may have missed. For a lost member that
//! is shortly before its loss was detected. Connected members are pinged, so while no member is
//! lost, a few seconds suffice.

use std::collections::VecDeque;

use crate::io::Settings;
use crate::session::Audience;
use crate::speech::Notice;
use crate::words::ids::{MemberId, RecoveryToken};
use crate::words::limits::Limits;
use crate::words::time::Micros;

/// Whether a notice describes a moment and is worthless later. It carries no offset and is not sent
/// again to a member that missed it, since a fresh one follows soon.
pub fn is_volatile(notice: &Notice) -> bool {
    matches!(
        notice,
        Notice::Tick(_)
            | Notice::MetronomeTick { .. }
            | Notice::SyncResponse(_)
            | Notice::BeatSync { .. }
            | Notice::PositionSync { .. }
            | Notice::DriftCorrection { .. }
    )
}

/// Maximum number of dropped entries whose audience is remembered. Guessed.
const DROPPED_MAX: usize = 32;

/// The log of a session's events, and the seats of its lost members.
#[derive(Debug)]
pub struct ReplayLog<S> {
    entries: VecDeque<Entry>,
    /// The packets of the entries, one after the other, from `start` on. They are short-lived, so
    /// they share one allocation: small ones among long-lived allocations would leave holes that
    /// the allocator cannot return.
    packets: Vec<u8>,
    start: usize,
    /// Number of entries so far, with those that were dropped.
    sequence: u64,
    /// Audiences of the newest dropped entries, back to the last one that concerned all members. A
    /// member that was in none of these audiences has missed nothing, however old its offset is.
    dropped: VecDeque<Audience>,
    /// Lost members that may return, in order of loss.
    lost: VecDeque<LostMember<S>>,
    /// The time since which recovered members may have missed events, and the time until which they
    /// may recover once more. A connection can break again before it has delivered what was missed.
    recovering: Option<(Micros, Micros)>,
}

/// The form in which an event is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EntryForm {
    /// The packet with its offset, as it was sent.
    Packet,
    /// The notice that the packet is printed from. Measured: a fifth of the packet's size.
    Notice,
}

/// An event that was sent.
#[derive(Debug)]
struct Entry {
    at: Micros,
    audience: Audience,
    form: EntryForm,
    bytes: u32,
}

/// An event that a member has missed.
#[derive(Clone, Copy, Debug)]
pub struct Missed<'a> {
    /// The number in which its offset ends.
    pub number: u64,
    /// The form of `bytes`.
    pub form: EntryForm,
    /// The event in its form.
    pub bytes: &'a [u8],
}

/// A member that lost its connection.
#[derive(Debug)]
struct LostMember<S> {
    since: Micros,
    token: RecoveryToken,
    seat: S,
}

/// The bounds of a shard's replay logs, and the bytes that all of them hold.
pub struct Bounds<'a> {
    /// Time for which a lost member may return.
    pub window: Micros,
    /// Time that a client may have been unreachable before its loss is detected.
    pub detection_time: Micros,
    /// The shard's limits.
    pub limits: &'a Limits,
    /// Bytes that the logs of the shard's sessions hold.
    pub bytes: &'a mut u64,
}

/// Returns the time that a client may have been unreachable before its loss is detected.
///
/// A ping must become due and its answer fail to arrive. The time is twice that and 5 s, because
/// timers may be late.
pub fn detection_time(settings: &Settings) -> Micros {
    /// Lateness of the timers that detect a loss. Guessed.
    const LATENESS: Micros = Micros::from_secs(5);
    let noticed = settings.ping_interval + settings.ping_timeout;
    (noticed + noticed + LATENESS).min(settings.transports.recovery)
}

impl<S> Default for ReplayLog<S> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            packets: Vec::new(),
            start: 0,
            sequence: 0,
            dropped: VecDeque::new(),
            lost: VecDeque::new(),
            recovering: None,
        }
    }
}

impl<S> ReplayLog<S> {
    /// Returns the number of events sent so far.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Logs an event that was sent. If the log exceeds a bound, its oldest events are dropped.
    pub fn push(
        &mut self,
        now: Micros,
        audience: Audience,
        (form, packet): (EntryForm, &[u8]),
        bounds: &mut Bounds<'_>,
    ) {
        debug_assert!(
            self.entries.back().is_none_or(|last| last.at <= now),
            "events are logged in order of time"
        );
        self.prune(now, bounds);
        let own = u64::from(bounds.limits.recovery_bytes_max);
        self.sequence += 1;
        if packet.len() as u64 > own {
            // It would be dropped at once, and all older events with it.
            self.drop_events(bounds);
            return self.note_dropped(audience);
        }
        // Moving at most as many bytes as were dropped keeps the cost per byte constant.
        if self.start as u64 >= self.bytes() {
            self.packets.drain(..self.start);
            self.start = 0;
        }
        if self.packets.capacity() - self.packets.len() < packet.len() {
            // By less than a vector's doubling: most logs hold the few joins of a session and then
            // nothing.
            self.packets.reserve_exact(packet.len() + self.packets.len() / 4);
        }
        self.packets.extend_from_slice(packet);
        *bounds.bytes += packet.len() as u64;
        self.entries.push_back(Entry { at: now, audience, form, bytes: packet.len() as u32 });
        while self.bytes() > own || *bounds.bytes > bounds.limits.recovery_shard_bytes_max {
            if !self.drop_oldest(bounds) {
                break;
            }
        }
    }

    /// Keeps the seat of a member that lost its connection. If too many are lost, the first one is
    /// forgotten.
    pub fn keep(&mut self, now: Micros, token: RecoveryToken, seat: S, bounds: &mut Bounds<'_>) {
        self.prune(now, bounds);
        let most = bounds.limits.recovery_seats_max as usize;
        self.lost.push_back(LostMember { since: now, token, seat });
        while self.lost.len() > most {
            self.lost.pop_front();
        }
    }

    /// Returns the seat of a lost member and removes it from the log: a token is valid once.
    pub fn take(
        &mut self,
        now: Micros,
        token: RecoveryToken,
        bounds: &mut Bounds<'_>,
    ) -> Option<S> {
        self.prune(now, bounds);
        let index = self.lost.iter().position(|lost| lost.token == token)?;
        let lost = self.lost.remove(index)?;
        let since = self.recovering.map_or(lost.since, |(since, _)| since.min(lost.since));
        self.recovering = Some((since, now + bounds.detection_time + bounds.window));
        Some(lost.seat)
    }

    /// Forgets the lost members whose seats others have now.
    pub fn forget(&mut self, is_taken: impl Fn(&S) -> bool) {
        self.lost.retain(|lost| !is_taken(&lost.seat));
    }

    /// Whether the log has every event after `number` that concerned a member.
    pub fn covers(&self, number: u64, member: MemberId, metronome: bool) -> bool {
        let dropped = self.sequence - self.entries.len() as u64;
        let behind = usize::try_from(dropped.saturating_sub(number)).unwrap_or(usize::MAX);
        let missed = |audience: &Audience| audience.concerns(member, metronome);
        number <= self.sequence
            && behind <= self.dropped.len() // mark: dropped_events_unmissed
            && !self.dropped.iter().rev().take(behind).any(missed)
    }

    /// Returns the events after `number` that concerned a member, in order.
    pub fn missed(
        &self,
        number: u64,
        member: MemberId,
        metronome: bool,
    ) -> impl Iterator<Item = Missed<'_>> {
        // mark: one_event_too_few
        let known = self.sequence.saturating_sub(number).min(self.entries.len() as u64) as usize;
        let unknown = self.entries.len() - known;
        let before: usize = self.entries.range(..unknown).map(|entry| entry.bytes as usize).sum();
        let mut end = self.start + before;
        let mut number = self.sequence - known as u64;
        let missed = move |entry: &Entry| {
            let start = end;
            end += entry.bytes as usize;
            number += 1;
            let missed = Missed { number, form: entry.form, bytes: &self.packets[start..end] };
            entry.audience.concerns(member, metronome).then_some(missed)
        };
        self.entries.range(unknown..).filter_map(missed)
    }

    /// Returns the time by which the oldest content has certainly expired. It is up to one window
    /// late, so that a busy session is not woken for each event.
    pub fn deadline(&self, bounds: &Bounds<'_>) -> Option<Micros> {
        let Bounds { window, detection_time, .. } = *bounds;
        let lost = self.lost.front().map(|lost| lost.since + window + window);
        let recovering = || self.recovering.map(|(_, until)| until + detection_time);
        lost.or_else(recovering).or_else(|| {
            self.entries.front().map(|entry| entry.at + detection_time + detection_time)
        })
    }

    /// Drops lost members whose window is over, and the events that no member can recover any
    /// longer.
    pub fn prune(&mut self, now: Micros, bounds: &mut Bounds<'_>) {
        let Bounds { window, detection_time, .. } = *bounds;
        while self.lost.front().is_some_and(|lost| lost.since + window < now) {
            self.lost.pop_front();
        }
        self.recovering = self.recovering.filter(|(_, until)| now <= *until);
        let lost = self.lost.front().map_or(now, |lost| lost.since);
        let noticed = self.recovering.map_or(lost, |(since, _)| lost.min(since));
        while self.entries.front().is_some_and(|entry| entry.at + detection_time < noticed) {
            self.drop_oldest(bounds);
        }
    }

    /// Drops all events and frees their memory.
    pub fn drop_events(&mut self, bounds: &mut Bounds<'_>) {
        while self.drop_oldest(bounds) {}
    }

    /// Drops events and lost members, because the session is about to be removed.
    pub fn clear(&mut self, bounds: &mut Bounds<'_>) {
        while self.drop_oldest(bounds) {}
        self.lost.clear();
    }

    /// Returns the bytes of the logged events.
    pub fn bytes(&self) -> u64 {
        (self.packets.len() - self.start) as u64
    }

    /// Drops the oldest event. Returns false if there is none.
    fn drop_oldest(&mut self, bounds: &mut Bounds<'_>) -> bool {
        let Some(entry) = self.entries.pop_front() else { return false };
        debug_assert!(
            *bounds.bytes >= u64::from(entry.bytes),
            "the shard counts the bytes of every log"
        );
        self.start += entry.bytes as usize;
        *bounds.bytes -= u64::from(entry.bytes);
        self.note_dropped(entry.audience);
        if self.entries.is_empty() {
            // A quiet session holds no memory for its log.
            (self.entries, self.packets, self.start) = (VecDeque::new(), Vec::new(), 0);
        }
        true
    }

    /// Remembers the audience of a dropped event. An event for all members makes older audiences
    /// meaningless.
    fn note_dropped(&mut self, audience: Audience) {
        if audience == Audience::All {
            self.dropped = VecDeque::new();
            return;
        }
        self.dropped.push_back(audience);
        if self.dropped.len() > DROPPED_MAX {
            self.dropped.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const WINDOW: Micros = Micros::from_secs(120);
    const ANN: MemberId = MemberId::from_bytes([1; 15]);
    const BOB: MemberId = MemberId::from_bytes([2; 15]);

    fn bounds(bytes: &mut u64) -> Bounds<'_> {
        Bounds { window: WINDOW, detection_time: WINDOW, limits: &Limits::TINY, bytes }
    }

    fn missed(log: &ReplayLog<()>, number: u64, member: MemberId) -> Vec<String> {
        let text = |missed: Missed<'_>| String::from_utf8_lossy(missed.bytes).into();
        log.missed(number, member, false).map(text).collect()
    }

    #[test]
    fn a_member_receives_only_events_addressed_to_it() {
        let (mut log, mut bytes) = (ReplayLog::<()>::default(), 0);
        for (audience, packet) in [
            (Audience::All, "0"),
            (Audience::One(ANN), "1"),
            (Audience::One(BOB), "2"),
            (Audience::Others(ANN), "3"),
            (Audience::Metronome, "4"),
            (Audience::All, "5"),
        ] {
            log.push(
                Micros::ZERO,
                audience,
                (EntryForm::Packet, packet.as_bytes()),
                &mut bounds(&mut bytes),
            );
        }
        assert_eq!(missed(&log, 0, ANN), ["0", "1", "5"]);
        assert_eq!(missed(&log, 1, BOB), ["2", "3", "5"]);
        assert_eq!(missed(&log, 5, BOB), ["5"]);
        assert_eq!(missed(&log, 6, BOB), [""; 0]);
        assert!(
            log.covers(6, ANN, false) && !log.covers(7, ANN, false),
            "no member has received an event that was not sent yet"
        );
    }

    #[test]
    fn a_log_is_bounded_in_bytes_and_time() {
        let (mut log, mut bytes) = (ReplayLog::<()>::default(), 0);
        let most = u64::from(Limits::TINY.recovery_bytes_max);
        let packet = vec![b'x'; most as usize / 4];
        for _ in 0..10 {
            log.push(
                Micros::ZERO,
                Audience::All,
                (EntryForm::Packet, &packet),
                &mut bounds(&mut bytes),
            );
            assert!(log.bytes() <= most && bytes == log.bytes());
        }
        assert!(log.covers(6, ANN, false) && !log.covers(5, ANN, false), "the last four are kept");
        let large = vec![b'x'; most as usize + 1];
        log.push(Micros::ZERO, Audience::All, (EntryForm::Packet, &large), &mut bounds(&mut bytes));
        assert!(
            bytes == 0 && log.covers(11, ANN, false) && !log.covers(10, ANN, false),
            "an event above the limit is not kept"
        );

        log.push(
            Micros::from_secs(1),
            Audience::All,
            (EntryForm::Packet, &packet),
            &mut bounds(&mut bytes),
        );
        let over = log.deadline(&bounds(&mut bytes)).unwrap();
        log.prune(Micros::from_secs(121), &mut bounds(&mut bytes));
        assert!(bytes > 0);
        log.prune(over, &mut bounds(&mut bytes));
        assert_eq!((bytes, log.deadline(&bounds(&mut 0))), (0, None));
    }

    #[test]
    fn a_member_lost_twice_can_still_recover_the_same_events() {
        let (mut log, mut bytes) = (ReplayLog::<()>::default(), 0);
        let mut bounds = Bounds { detection_time: Micros::from_secs(20), ..bounds(&mut bytes) };
        let token = RecoveryToken(MemberId::from_bytes([1; 15]));
        let secs = Micros::from_secs;
        log.push(secs(10), Audience::All, (EntryForm::Packet, b"10"), &mut bounds);
        log.keep(secs(25), token, (), &mut bounds);
        assert!(log.take(secs(60), token, &mut bounds).is_some());
        log.push(secs(70), Audience::All, (EntryForm::Packet, b"70"), &mut bounds);
        log.keep(secs(75), token, (), &mut bounds);
        assert!(log.take(secs(100), token, &mut bounds).is_some());
        assert!(log.covers(0, ANN, false), "it missed the same event again");
        // The detection time of 20 s and the window are over.
        let over = log.deadline(&bounds).unwrap();
        log.prune(over, &mut bounds);
        assert!(!log.covers(0, ANN, false), "no member can recover with that offset");
        assert_eq!((bytes, log.deadline(&super::tests::bounds(&mut 0))), (0, None));
    }

    #[test]
    fn a_log_keeps_every_event_that_a_lost_member_may_have_missed() {
        let (mut log, mut bytes) = (ReplayLog::<()>::default(), 0);
        let mut at = |log: &mut ReplayLog<()>, secs, lost: Option<u8>| {
            let mut bounds = Bounds { detection_time: Micros::from_secs(20), ..bounds(&mut bytes) };
            let now = Micros::from_secs(secs);
            match lost {
                Some(member) => log.keep(
                    now,
                    RecoveryToken(MemberId::from_bytes([member; 15])),
                    (),
                    &mut bounds,
                ),
                None => {
                    let text = secs.to_string();
                    log.push(now, Audience::All, (EntryForm::Packet, text.as_bytes()), &mut bounds);
                }
            }
            missed(log, 0, ANN).join(" ")
        };
        assert_eq!(at(&mut log, 10, None), "10");
        assert_eq!(at(&mut log, 29, None), "10 29");
        assert_eq!(at(&mut log, 40, None), "29 40", "no member can have missed the first");
        assert_eq!(at(&mut log, 45, Some(1)), "29 40");
        assert_eq!(at(&mut log, 100, None), "29 40 100", "the lost member may have missed it");
        assert_eq!(at(&mut log, 110, Some(2)), "29 40 100");
        assert_eq!(at(&mut log, 166, None), "100 166", "the second member was lost later");
        assert_eq!(at(&mut log, 231, None), "231");
        let bounds = Bounds { detection_time: Micros::from_secs(20), ..bounds(&mut bytes) };
        assert_eq!(log.deadline(&bounds), Some(Micros::from_secs(271)));
    }

    #[test]
    fn a_member_can_recover_if_no_dropped_event_was_for_it() {
        let (mut log, mut bytes) = (ReplayLog::<()>::default(), 0);
        let mut bounds = Bounds { detection_time: Micros::from_secs(20), ..bounds(&mut bytes) };
        let reach = |log: &ReplayLog<()>, number| {
            [ANN, BOB].map(|member| log.covers(number, member, false))
        };
        for audience in
            [Audience::All, Audience::One(BOB), Audience::Others(ANN), Audience::Metronome]
        {
            log.push(Micros::ZERO, audience, (EntryForm::Packet, b"x"), &mut bounds);
        }
        assert_eq!(reach(&log, 0), [true, true]);
        log.prune(Micros::from_secs(60), &mut bounds);
        assert_eq!(reach(&log, 0), [false, false], "the first was for all members");
        assert_eq!(reach(&log, 1), [true, false]);
        assert_eq!(reach(&log, 3), [true, true]);
        assert!(!log.covers(3, ANN, true) && log.covers(4, ANN, true));
        for _ in 0..=DROPPED_MAX {
            log.push(
                Micros::from_secs(60),
                Audience::One(BOB),
                (EntryForm::Packet, b"x"),
                &mut bounds,
            );
        }
        log.drop_events(&mut bounds);
        assert!(
            !log.covers(4, ANN, false) && log.covers(5, ANN, false),
            "the number of known dropped events is limited"
        );
    }

    #[test]
    fn the_logs_of_a_shard_share_one_byte_limit() {
        let (mut one, mut other, mut bytes) =
            (ReplayLog::<()>::default(), ReplayLog::<()>::default(), 0);
        let most = Limits::TINY.recovery_shard_bytes_max;
        for _ in 0..100 {
            one.push(
                Micros::ZERO,
                Audience::All,
                (EntryForm::Packet, &[b'x'; 50]),
                &mut bounds(&mut bytes),
            );
            other.push(
                Micros::ZERO,
                Audience::All,
                (EntryForm::Packet, &[b'x'; 50]),
                &mut bounds(&mut bytes),
            );
            assert!(bytes <= most, "{bytes}");
        }
        one.clear(&mut bounds(&mut bytes));
        assert_eq!(bytes, other.bytes());
    }
}
