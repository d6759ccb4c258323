//! Printed packets on their way to the members of a session.

use crate::session::Audience;

/// A printed packet for members.
#[derive(Debug)]
pub(super) struct Told {
    pub audience: Audience,
    pub place: Place,
    /// The packet without an offset.
    pub packet: Vec<u8>,
}

/// The place of a packet in the replay log.
#[derive(Debug)]
pub(super) enum Place {
    /// None: the packet has no offset.
    Nowhere,
    /// That of the newest event.
    Newest,
    /// A new one, with the short form that is logged instead of the packet.
    Next(Option<Vec<u8>>),
}
