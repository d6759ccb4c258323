//! Seats that are kept for members on their way from another shard.

use crate::words::ids::MemberId;
use crate::words::time::Micros;

/// How long a seat is kept for who was told that it may come: by far longer than a connection is on
/// its way, and not so long that one which is lost on it keeps others out.
const PROMISE: Micros = Micros::from_secs(1);

/// Seats of a session that are kept for those who are on their way from another shard: they have
/// given up another one. Most sessions never have one, so they are boxed.
#[derive(Debug, Default)]
pub struct Promises(Option<Box<Promised>>);

/// Until when, and for whom.
#[derive(Debug, Default)]
struct Promised(Vec<(Micros, MemberId)>);

impl Promises {
    pub fn make(&mut self, member: MemberId, now: Micros) {
        self.keep(member);
        self.0.get_or_insert_default().0.push((now + PROMISE, member));
    }

    /// The member has its seat.
    pub fn keep(&mut self, member: MemberId) {
        self.retain(|_, other| other != member);
    }

    /// Seats that are kept for anybody but this member.
    pub fn for_others(&mut self, member: MemberId, now: Micros) -> u32 {
        self.retain(|until, _| now < until);
        let promised = self.0.iter().flat_map(|promised| &promised.0);
        promised.filter(|(_, other)| *other != member).count() as u32
    }

    fn retain(&mut self, keeps: impl Fn(Micros, MemberId) -> bool) {
        if let Some(promised) = &mut self.0 {
            promised.0.retain(|(until, member)| keeps(*until, *member));
            self.0.take_if(|promised| promised.0.is_empty());
        }
    }
}
