//! Tokens: the secrets by which members get their seats back, also after they were gone.
//!
//! A client makes a secret token for its seat. If its connection is lost, the session remembers the
//! seat with the token, and a client that sends the token gets the seat back. Tokens are kept apart
//! from `Seat`, so that members without a token need no memory for it.

use std::collections::VecDeque;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Seat;
use crate::speech::{Role, Secret};
use crate::words::ids::MemberId;
use crate::words::time::UnixMillis;

/// Time for which the seat of an absent member is remembered, in milliseconds. Specified.
const REMEMBERED_MS: i64 = 12 * 60 * 60 * 1_000;

/// The tokens of a session, and the seats of its absent members. Most sessions have none, so the
/// lists are boxed.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Option<Box<Lists>>);

#[derive(Clone, Debug, Default)]
struct Lists {
    /// The tokens of members that have a seat.
    present: Vec<(MemberId, Secret)>,
    /// The seats of absent members, in order of loss.
    absent: VecDeque<AbsentSeat>,
    /// Number of changes since the session was opened.
    changes: u32,
}

/// The seat of an absent member, which it gets back for its token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AbsentSeat {
    /// The seat at the loss. The last leader keeps its role here until another member leads.
    pub seat: Seat,
    /// The token of the seat.
    pub token: Secret,
    /// The time of the loss.
    pub since: UnixMillis,
}

impl Tokens {
    /// Maximum number of absent members whose seats are remembered. Specified.
    pub const ABSENT_MAX: usize = 1_024;

    /// Number of the members lost last whose seats are always stored. Specified: a session is stored
    /// with each decision, so its record must stay small.
    pub const ABSENT_STORED: usize = 64;

    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.present().is_empty() && self.absent().len() == 0
    }

    /// Returns the number of changes of tokens since the session was opened. A change does not raise
    /// the version, but the record must be stored again. The loss of a member does not count: a
    /// stored record that still has it as present gives the same state when it is loaded.
    pub fn changes(&self) -> u32 {
        self.0.as_ref().map_or(0, |lists| lists.changes)
    }

    /// Returns the tokens of members that have a seat.
    pub fn present(&self) -> &[(MemberId, Secret)] {
        match &self.0 {
            Some(lists) => &lists.present,
            None => &[],
        }
    }

    /// Returns the seats of absent members in order of loss.
    pub fn absent(&self) -> impl ExactSizeIterator<Item = &AbsentSeat> {
        const NONE: &VecDeque<AbsentSeat> = &VecDeque::new();
        self.0.as_ref().map_or(NONE, |lists| &lists.absent).iter()
    }

    /// Returns the member, present or absent, whose seat has this token.
    pub fn holder(&self, token: &Secret, now: UnixMillis) -> Option<MemberId> {
        let present = self.present().iter().find(|(_, held)| held == token);
        let mut absent = self.absent().filter(|absent| !absent.is_over(now));
        present
            .map(|(member, _)| *member)
            .or_else(|| Some(absent.find(|absent| absent.token == *token)?.seat.member.id))
    }

    /// Gives the seat of a present member this token. No other seat has it from now on.
    pub fn give(&mut self, member: MemberId, token: &Secret) {
        let has_it = |(holder, held): &(MemberId, Secret)| *holder == member && held == token;
        if self.present().iter().any(has_it) {
            return;
        }
        let lists = self.0.get_or_insert_default();
        // A client that left may join again after its session was loaded from an older record, in
        // which the same member is absent.
        lists.absent.retain(|absent| absent.token != *token && absent.seat.member.id != member);
        lists.present.retain(|(holder, held)| *holder != member && held != token);
        lists.present.push((member, token.clone()));
        lists.changes = lists.changes.wrapping_add(1);
    }

    /// Passes the token of a present member on to another connection of it.
    pub fn pass(&mut self, old: MemberId, new: MemberId) {
        let lists = self.0.iter_mut().flat_map(|lists| &mut lists.present);
        lists.filter(|(holder, _)| *holder == old).for_each(|(holder, _)| *holder = new);
    }

    /// Forgets the token of a member that leaves.
    pub fn forget(&mut self, member: MemberId) {
        if let Some(lists) = &mut self.0
            && lists.take_token(member).is_some()
        {
            lists.changes = lists.changes.wrapping_add(1);
        }
    }

    /// Remembers the seat of a member that is gone, if it has a token. If too many are remembered,
    /// the member that is gone longest is forgotten.
    pub fn remember(&mut self, mut seat: Seat, since: UnixMillis) {
        let Some(lists) = &mut self.0 else { return };
        let Some(token) = lists.take_token(seat.member.id) else { return };
        (seat.member.connected, seat.metronome) = (false, false);
        lists.absent.retain(|absent| !absent.is_over(since));
        if lists.absent.len() == Self::ABSENT_MAX {
            lists.absent.pop_front();
        }
        lists.absent.push_back(AbsentSeat { seat, token, since });
    }

    /// Removes and returns the seat of an absent member, which is present again as `new`.
    pub fn bring_back(&mut self, absent: MemberId, new: MemberId) -> Option<Seat> {
        let lists = self.0.as_mut()?;
        let place = lists.absent.iter().position(|other| other.seat.member.id == absent)?;
        let AbsentSeat { seat, token, .. } = lists.absent.remove(place)?;
        lists.present.push((new, token));
        lists.changes = lists.changes.wrapping_add(1);
        Some(seat)
    }

    /// Forgets all absent members. Their tokens were given for a passcode or PIN that no longer
    /// holds.
    pub fn void_absent(&mut self) {
        if let Some(lists) = &mut self.0 {
            lists.absent.clear(); // mark: token_survives_passcode_change
        }
    }

    /// Takes the role of the leader from absent members, because another member leads now.
    pub fn void_absent_lead(&mut self) {
        for absent in self.0.iter_mut().flat_map(|lists| &mut lists.absent) {
            absent.seat.member.role = Role::Follower;
        }
    }

    /// Forgets the absent members that are not [stored](Self::ABSENT_STORED), as when a session is
    /// loaded.
    pub fn drop_unstored(&mut self) {
        if let Some(lists) = &mut self.0 {
            lists.absent = lists.stored().cloned().collect();
        }
    }

    /// Returns all tokens.
    pub(super) fn secrets_mut(&mut self) -> impl Iterator<Item = &mut Secret> {
        self.0.iter_mut().flat_map(|lists| {
            let present = lists.present.iter_mut().map(|(_, token)| token);
            present.chain(lists.absent.iter_mut().map(|absent| &mut absent.token))
        })
    }

    /// Whether each present member has one of these seats, no member is listed twice, and all
    /// tokens are well-formed.
    pub(super) fn is_sound(&self, seats: &[Seat]) -> bool {
        let mut members: Vec<MemberId> = self.present().iter().map(|(member, _)| *member).collect();
        let mut seated: Vec<MemberId> = seats.iter().map(|seat| seat.member.id).collect();
        seated.sort_unstable();
        let has_seat = members.iter().all(|member| seated.binary_search(member).is_ok());
        members.extend(self.absent().map(|absent| absent.seat.member.id));
        members.sort_unstable();
        let present = self.present().iter().map(|(_, token)| token);
        let mut tokens = present.chain(self.absent().map(|absent| &absent.token));
        has_seat
            && members.is_sorted_by(|one, next| one < next)
            && self.absent().len() <= Self::ABSENT_MAX
            && tokens.all(Secret::is_token)
    }
}

impl Lists {
    /// Removes and returns the token of a present member.
    fn take_token(&mut self, member: MemberId) -> Option<Secret> {
        let place = self.present.iter().position(|(holder, _)| *holder == member)?;
        Some(self.present.swap_remove(place).1)
    }

    /// Returns the absent seats that are stored: the last leader's, those with a right, and those
    /// that were lost last.
    fn stored(&self) -> impl Iterator<Item = &AbsentSeat> {
        let dropped = self.absent.len().saturating_sub(Tokens::ABSENT_STORED);
        let is_stored = move |(place, AbsentSeat { seat, .. }): &(usize, &AbsentSeat)| {
            let has_right = seat.knows_pin || seat.member.may_edit;
            *place >= dropped || has_right || seat.member.role == Role::Leader
        };
        self.absent.iter().enumerate().filter(is_stored).map(|(_, absent)| absent)
    }
}

impl AbsentSeat {
    fn is_over(&self, now: UnixMillis) -> bool {
        now.0.saturating_sub(self.since.0) > REMEMBERED_MS
    }
}

/// Compares what is stored.
impl PartialEq for Tokens {
    fn eq(&self, other: &Self) -> bool {
        self.present() == other.present() && self.absent().eq(other.absent())
    }
}

impl Serialize for Tokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let absent = self.0.iter().flat_map(|lists| lists.stored());
        let with_right = absent.map(|absent| (absent, absent.seat.member.may_edit));
        (self.present(), with_right.collect::<Vec<_>>()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (present, absent) = <(_, Vec<(AbsentSeat, bool)>)>::deserialize(deserializer)?;
        let with_right = |(mut absent, may_edit): (AbsentSeat, bool)| {
            absent.seat.member.may_edit = may_edit;
            absent
        };
        let absent = absent.into_iter().map(with_right).collect();
        Ok(Self(Some(Box::new(Lists { present, absent, changes: 0 }))))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::speech::Member;

    const HOUR: i64 = 60 * 60 * 1_000;

    fn id(number: u16) -> MemberId {
        let mut bytes = [0; 15];
        bytes[..2].copy_from_slice(&number.to_le_bytes());
        MemberId::from_bytes(bytes)
    }

    fn seat(number: u16) -> Seat {
        let member = Member {
            id: id(number),
            display_name: "Ann".into(),
            role: Role::Follower,
            joined_at: UnixMillis(0),
            last_ping_at: UnixMillis(0),
            instrument: None,
            connected: true,
            may_edit: false,
        };
        Seat { member, tick_hz: None, metronome: true, knows_pin: false, latency_ms: 0 }
    }

    fn token(number: u16) -> Secret {
        Secret(format!("the-token-of-number-{number:05}"))
    }

    /// Tokens of members that have come and gone, in order.
    fn deserted(members: std::ops::Range<u16>) -> Tokens {
        let mut tokens = Tokens::default();
        for number in members {
            tokens.give(id(number), &token(number));
            tokens.remember(seat(number), UnixMillis(i64::from(number)));
        }
        tokens
    }

    fn numbers(tokens: &Tokens) -> Vec<i64> {
        tokens.absent().map(|absent| absent.since.0).collect()
    }

    #[test]
    fn a_seat_is_found_by_its_token_for_twelve_hours() {
        let tokens = deserted(0..3);
        let holder = |number, unix| tokens.holder(&token(number), UnixMillis(unix));
        assert_eq!(holder(1, 5), Some(id(1)));
        assert_eq!(holder(3, 5), None);
        assert_eq!(holder(1, 12 * HOUR + 1), Some(id(1)));
        assert_eq!(holder(1, 12 * HOUR + 2), None);
        // The wall clock may be set back.
        assert_eq!(holder(1, -HOUR), Some(id(1)));
        let mut later = tokens.clone();
        later.give(id(9), &token(9));
        later.remember(seat(9), UnixMillis(12 * HOUR + 2));
        assert_eq!(numbers(&later), [2, 12 * HOUR + 2]);
    }

    #[test]
    fn a_token_belongs_to_one_seat() {
        let mut tokens = deserted(0..1);
        tokens.give(id(1), &token(0));
        assert_eq!((tokens.absent().len(), tokens.present()), (0, &[(id(1), token(0))][..]));
        tokens.give(id(2), &token(0));
        assert_eq!(tokens.present(), [(id(2), token(0))]);
        tokens.give(id(2), &token(5));
        assert_eq!(tokens.present(), [(id(2), token(5))]);
        tokens.pass(id(2), id(3));
        assert_eq!(tokens.holder(&token(5), UnixMillis(0)), Some(id(3)));
        tokens.forget(id(3));
        assert!(tokens.is_empty());
    }

    #[test]
    fn a_member_that_joins_again_with_another_token_is_not_absent() {
        let mut tokens = deserted(0..2);
        let member = tokens.absent().next().unwrap().seat.member.id;
        tokens.give(member, &token(7));
        assert_eq!(tokens.absent().len(), 1);
        assert!(tokens.absent().all(|absent| absent.seat.member.id != member));
    }

    #[test]
    fn a_member_without_a_token_is_not_remembered() {
        let mut tokens = Tokens::default();
        tokens.remember(seat(1), UnixMillis(0));
        tokens.give(id(2), &token(2));
        tokens.remember(seat(1), UnixMillis(0));
        assert_eq!(tokens.absent().len(), 0);
        assert_eq!(tokens.bring_back(id(1), id(3)), None);
    }

    #[test]
    fn a_returning_member_has_the_seat_of_before_without_a_metronome() {
        let mut tokens = deserted(0..2);
        let mut expected = seat(1);
        (expected.member.connected, expected.metronome) = (false, false);
        assert_eq!(tokens.bring_back(id(1), id(7)), Some(expected));
        assert_eq!(tokens.bring_back(id(1), id(8)), None);
        assert_eq!(tokens.present(), [(id(7), token(1))]);
    }

    #[test]
    fn the_members_gone_longest_are_forgotten_first() {
        let most = Tokens::ABSENT_MAX as u16;
        let tokens = deserted(0..most + 2);
        assert_eq!(numbers(&tokens), (2..i64::from(most) + 2).collect::<Vec<_>>());
    }

    #[test]
    fn the_leader_those_with_a_right_and_the_last_are_stored() {
        let mut tokens = deserted(0..80);
        let lists = tokens.0.as_mut().unwrap();
        lists.absent[2].seat.member.role = Role::Leader;
        lists.absent[5].seat.knows_pin = true;
        lists.absent[7].seat.member.may_edit = true;
        let stored: Vec<i64> = [2, 5, 7].into_iter().chain(16..80).collect();
        let bytes = postcard::to_allocvec(&tokens).unwrap();
        let read: Tokens = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(numbers(&read), stored);
        let editors = read.absent().filter(|absent| absent.seat.member.may_edit);
        assert_eq!(editors.map(|absent| absent.since.0).collect::<Vec<_>>(), [7]);
        tokens.drop_unstored();
        assert_eq!(numbers(&tokens), stored);
        tokens.void_absent_lead();
        tokens.drop_unstored();
        assert_eq!(numbers(&tokens), stored[1..]);
        tokens.void_absent();
        assert!(tokens.is_empty());
    }

    #[test]
    fn only_changes_that_are_not_stored_otherwise_count() {
        let mut tokens = deserted(0..0);
        let mut changes = Vec::new();
        let steps: [fn(&mut Tokens); 6] = [
            |tokens| tokens.give(id(1), &token(1)),
            |tokens| tokens.give(id(1), &token(1)),
            |tokens| tokens.remember(seat(1), UnixMillis(0)),
            |tokens| assert!(tokens.bring_back(id(1), id(2)).is_some()),
            |tokens| tokens.forget(id(2)),
            |tokens| tokens.forget(id(2)),
        ];
        for step in steps {
            step(&mut tokens);
            changes.push(tokens.changes());
        }
        assert_eq!(changes, [1, 1, 1, 2, 3, 3]);
    }

    #[test]
    fn contradictory_tokens_are_unsound() {
        let seats = [seat(1)];
        let mut tokens = Tokens::default();
        assert!(tokens.is_sound(&seats));
        tokens.give(id(1), &token(1));
        assert!(tokens.is_sound(&seats));
        assert!(!tokens.is_sound(&[]));
        let mut twice = tokens.clone();
        twice.0.as_mut().unwrap().present.push((id(1), token(2)));
        assert!(!twice.is_sound(&seats));
        let mut both = tokens.clone();
        let absent = AbsentSeat { seat: seat(1), token: token(3), since: UnixMillis(0) };
        both.0.as_mut().unwrap().absent.push_back(absent);
        assert!(!both.is_sound(&seats));
        tokens.give(id(1), &Secret("too short".into()));
        assert!(!tokens.is_sound(&seats));
    }
}
