//! Coming back after a lost connection, as Socket.IO has it: the same id, session and role, and
//! what was missed.
//!
//! Every event that a session tells, unless it is [volatile](is_volatile), ends with an offset:
//! where it stands in the session's log. A client whose connection broke names the last offset that
//! it saw and the secret `pid` that it was given. The offset leads to the shard and the session;
//! the token shows whose seat it was, and does so once. Snapshots carry an offset and are not in the
//! log, nor is the room's statistics: whoever comes back is told fresh ones.
//!
//! The log reaches back as far as somebody may have missed it. Of those who are lost that is since
//! a little before the loss was noticed; who is here is pinged, so while nobody is lost, some
//! seconds are enough.

use std::collections::VecDeque;

use crate::io::Settings;
use crate::session::Audience;
use crate::speech::Notice;
use crate::words::ids::{MemberId, RecoveryToken};
use crate::words::limits::Limits;
use crate::words::time::Micros;

/// Whether a notice is about a moment and worth nothing once that is over. It carries no offset and
/// is not told again to who missed it, for a fresh one is never far.
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

/// Forgotten entries of which it is known whom they concerned.
const DROPPED_MAX: usize = 32;

/// What a session told, and the seats of those that may come back to it.
#[derive(Debug)]
pub struct ReplayLog<S> {
    entries: VecDeque<Entry>,
    /// What they are kept as one behind the other, from `start` on. In one piece, because it is
    /// short-lived: among the allocations of what stays it would leave holes that the allocator can
    /// give to nobody.
    packets: Vec<u8>,
    start: usize,
    /// How many entries there were so far.
    sequence: u64,
    /// Whom the newest of the forgotten entries concerned, as far back as none concerned everybody.
    /// A member that was told none of them has missed nothing, however small the number that it
    /// names.
    dropped: VecDeque<Audience>,
    lost: VecDeque<LostMember<S>>,
    /// Since when those who came back may have missed something, and until when they may come back
    /// once more with that: a connection can break before it has brought what was missed.
    recovering: Option<(Micros, Micros)>,
}

/// As what an event is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EntryForm {
    /// Its packet, with its offset.
    Packet,
    /// What the packet is printed from, a fifth of its size.
    Notice,
}

/// An event that was told.
#[derive(Debug)]
struct Entry {
    at: Micros,
    audience: Audience,
    form: EntryForm,
    bytes: u32,
}

/// An event that somebody has missed.
#[derive(Clone, Copy, Debug)]
pub struct Missed<'a> {
    /// What its offset ends with.
    pub number: u64,
    /// As what it was kept.
    pub form: EntryForm,
    /// What was kept.
    pub bytes: &'a [u8],
}

/// Somebody who lost the connection.
#[derive(Debug)]
struct LostMember<S> {
    since: Micros,
    token: RecoveryToken,
    seat: S,
}

/// The bounds of a shard's memories, and how much all of them hold.
pub struct Bounds<'a> {
    /// For how long a member may come back.
    pub window: Micros,
    /// How long a client may have heard nothing before that is noticed.
    pub detection_time: Micros,
    /// The shard's limits.
    pub limits: &'a Limits,
    /// Bytes that the logs of the shard's sessions hold.
    pub bytes: &'a mut u64,
}

/// How long a client of these settings may have heard nothing before that is noticed: a ping must
/// become due, and its answer stay away. Twice that and more, for timers may be late.
pub fn detection_time(settings: &Settings) -> Micros {
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
    /// How many events were told so far.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Notes an event that was told; as much as needed of what is older is forgotten.
    pub fn push(
        &mut self,
        now: Micros,
        audience: Audience,
        (form, packet): (EntryForm, &[u8]),
        bounds: &mut Bounds<'_>,
    ) {
        self.prune(now, bounds);
        let own = u64::from(bounds.limits.recovery_bytes_max);
        self.sequence += 1;
        if packet.len() as u64 > own {
            // It would be forgotten at once, and with it all that is older.
            self.drop_events(bounds);
            return self.note_dropped(audience);
        }
        // Moving at most as much as was forgotten keeps the cost per byte constant.
        if self.start as u64 >= self.bytes() {
            self.packets.drain(..self.start);
            self.start = 0;
        }
        if self.packets.capacity() - self.packets.len() < packet.len() {
            // By less than the doubling of a vector: most logs are of the few who joined, and then
            // of nobody.
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

    /// Keeps the seat of a member whose connection is gone.
    pub fn keep(&mut self, now: Micros, token: RecoveryToken, seat: S, bounds: &mut Bounds<'_>) {
        self.prune(now, bounds);
        let most = bounds.limits.recovery_seats_max as usize;
        self.lost.push_back(LostMember { since: now, token, seat });
        while self.lost.len() > most {
            self.lost.pop_front();
        }
    }

    /// Gives a kept seat out, for good: whoever shows the token again is told no.
    pub fn take(
        &mut self,
        now: Micros,
        token: RecoveryToken,
        bounds: &mut Bounds<'_>,
    ) -> Option<S> {
        self.prune(now, bounds);
        let place = self.lost.iter().position(|lost| lost.token == token)?;
        let lost = self.lost.remove(place)?;
        let since = self.recovering.map_or(lost.since, |(since, _)| since.min(lost.since));
        self.recovering = Some((since, now + bounds.detection_time + bounds.window));
        Some(lost.seat)
    }

    /// Whether everything that a member was told after so many events is still known.
    pub fn covers(&self, number: u64, member: MemberId, metronome: bool) -> bool {
        let dropped = self.sequence - self.entries.len() as u64;
        let behind = usize::try_from(dropped.saturating_sub(number)).unwrap_or(usize::MAX);
        let missed = |audience: &Audience| audience.concerns(member, metronome);
        number <= self.sequence
            && behind <= self.dropped.len() // mark: dropped_events_unmissed
            && !self.dropped.iter().rev().take(behind).any(missed)
    }

    /// What was told to a member after so many events, in order.
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

    /// When something here has certainly grown too old. Up to a window late, so that a busy session
    /// is not woken for each of its events.
    pub fn deadline(&self, bounds: &Bounds<'_>) -> Option<Micros> {
        let Bounds { window, detection_time, .. } = *bounds;
        let lost = self.lost.front().map(|lost| lost.since + window + window);
        let recovering = || self.recovering.map(|(_, until)| until + detection_time);
        lost.or_else(recovering).or_else(|| {
            self.entries.front().map(|entry| entry.at + detection_time + detection_time)
        })
    }

    /// Forgets what nobody may come back to any more.
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

    /// Forgets what was told, and gives its memory back.
    pub fn drop_events(&mut self, bounds: &mut Bounds<'_>) {
        while self.drop_oldest(bounds) {}
    }

    /// Forgets everything; the session is about to go.
    pub fn clear(&mut self, bounds: &mut Bounds<'_>) {
        while self.drop_oldest(bounds) {}
        self.lost.clear();
    }

    /// Bytes that the log holds.
    pub fn bytes(&self) -> u64 {
        (self.packets.len() - self.start) as u64
    }

    fn drop_oldest(&mut self, bounds: &mut Bounds<'_>) -> bool {
        let Some(entry) = self.entries.pop_front() else { return false };
        self.start += entry.bytes as usize;
        *bounds.bytes -= u64::from(entry.bytes);
        self.note_dropped(entry.audience);
        if self.entries.is_empty() {
            // A quiet session holds nothing for it.
            (self.entries, self.packets, self.start) = (VecDeque::new(), Vec::new(), 0);
        }
        true
    }

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
    fn a_member_is_told_what_was_meant_for_it() {
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
            "nobody has seen what was not sequence yet"
        );
    }

    #[test]
    fn a_log_keeps_within_its_bytes_and_its_time() {
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
        assert!(log.covers(6, ANN, false) && !log.covers(5, ANN, false), "the last four are known");
        let large = vec![b'x'; most as usize + 1];
        log.push(Micros::ZERO, Audience::All, (EntryForm::Packet, &large), &mut bounds(&mut bytes));
        assert!(
            bytes == 0 && log.covers(11, ANN, false) && !log.covers(10, ANN, false),
            "what is larger than all is not kept"
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
    fn who_is_lost_again_before_it_heard_what_it_missed_finds_it_still_there() {
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
        assert!(log.covers(0, ANN, false), "it has missed the same again");
        // Twenty seconds in which a loss is noticed and the window are over.
        let over = log.deadline(&bounds).unwrap();
        log.prune(over, &mut bounds);
        assert!(!log.covers(0, ANN, false), "nobody can come back with that any more");
        assert_eq!((bytes, log.deadline(&super::tests::bounds(&mut 0))), (0, None));
    }

    #[test]
    fn a_log_reaches_back_to_what_somebody_may_have_missed() {
        let (mut log, mut bytes) = (ReplayLog::<()>::default(), 0);
        let mut at = |log: &mut ReplayLog<()>, secs, lost: Option<u8>| {
            let mut bounds = Bounds { detection_time: Micros::from_secs(20), ..bounds(&mut bytes) };
            let now = Micros::from_secs(secs);
            match lost {
                Some(who) => {
                    log.keep(now, RecoveryToken(MemberId::from_bytes([who; 15])), (), &mut bounds)
                }
                None => {
                    let text = secs.to_string();
                    log.push(now, Audience::All, (EntryForm::Packet, text.as_bytes()), &mut bounds);
                }
            }
            missed(log, 0, ANN).join(" ")
        };
        assert_eq!(at(&mut log, 10, None), "10");
        assert_eq!(at(&mut log, 29, None), "10 29");
        assert_eq!(at(&mut log, 40, None), "29 40", "everybody has heard the first");
        assert_eq!(at(&mut log, 45, Some(1)), "29 40");
        assert_eq!(at(&mut log, 100, None), "29 40 100", "the lost one may not have");
        assert_eq!(at(&mut log, 110, Some(2)), "29 40 100");
        assert_eq!(at(&mut log, 166, None), "100 166", "the other was lost later");
        assert_eq!(at(&mut log, 231, None), "231");
        let bounds = Bounds { detection_time: Micros::from_secs(20), ..bounds(&mut bytes) };
        assert_eq!(log.deadline(&bounds), Some(Micros::from_secs(271)));
    }

    #[test]
    fn who_missed_nothing_of_what_is_forgotten_may_come_back() {
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
        assert_eq!(reach(&log, 0), [false, false], "the first was for everybody");
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
            "what is known has a bound"
        );
    }

    #[test]
    fn the_logs_of_a_shard_keep_within_its_bytes() {
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
