//! Seats reserved for members that are handed over from another shard.

use crate::words::ids::MemberId;
use crate::words::time::Micros;

/// Lifetime of a reservation. Guessed: far longer than a hand-over takes, and so short that a
/// connection lost during it does not keep other members out.
const RESERVATION_TTL: Micros = Micros::from_secs(1);

/// The reserved seats of a session. Their members have already given up another seat. Most sessions
/// never have a reservation, so the list is boxed.
#[derive(Debug, Default)]
pub struct Reservations(Option<Box<Reserved>>);

/// The end and the member of each reservation.
#[derive(Debug, Default)]
struct Reserved(Vec<(Micros, MemberId)>);

impl Reservations {
    /// Reserves a seat for a member. Replaces an earlier reservation of the same member.
    pub fn make(&mut self, member: MemberId, now: Micros) {
        self.release(member);
        self.0.get_or_insert_default().0.push((now + RESERVATION_TTL, member));
    }

    /// Releases the reservation of a member, which has its seat now.
    pub fn release(&mut self, member: MemberId) {
        self.retain(|_, other| other != member);
    }

    /// Returns the number of seats reserved for members other than `member`.
    pub fn for_others(&mut self, member: MemberId, now: Micros) -> u32 {
        self.retain(|until, _| now < until);
        let reserved = self.0.iter().flat_map(|reserved| &reserved.0);
        reserved.filter(|(_, other)| *other != member).count() as u32
    }

    fn retain(&mut self, keeps: impl Fn(Micros, MemberId) -> bool) {
        if let Some(reserved) = &mut self.0 {
            reserved.0.retain(|(until, member)| keeps(*until, *member));
            self.0.take_if(|reserved| reserved.0.is_empty());
        }
    }
}
