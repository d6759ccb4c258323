//! Seats that are kept for members on their way from another shard.

use crate::words::ids::MemberId;
use crate::words::time::Micros;

/// How long a seat is kept for who was told that it may come: by far longer than a connection is on
/// its way, and not so long that one which is lost on it keeps others out.
const RESERVATION_TTL: Micros = Micros::from_secs(1);

/// Seats of a session that are kept for those who are on their way from another shard: they have
/// given up another one. Most sessions never have one, so they are boxed.
#[derive(Debug, Default)]
pub struct Reservations(Option<Box<Reserved>>);

/// Until when, and for whom.
#[derive(Debug, Default)]
struct Reserved(Vec<(Micros, MemberId)>);

impl Reservations {
    pub fn make(&mut self, member: MemberId, now: Micros) {
        self.release(member);
        self.0.get_or_insert_default().0.push((now + RESERVATION_TTL, member));
    }

    /// The member has its seat.
    pub fn release(&mut self, member: MemberId) {
        self.retain(|_, other| other != member);
    }

    /// Seats that are kept for anybody but this member.
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
