//! The part of the writer's list that a connection holds: both ends of its chain of chunks.

/// The chunks to send to a connection, as the first and the last index in the writer's
/// list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Chain {
    pub(crate) first: u32,
    pub(crate) last: u32,
}

/// The index that means no chunk.
pub(crate) const NONE: u32 = u32::MAX;

impl Chain {
    pub(crate) const EMPTY: Self = Self { first: NONE, last: NONE };
}
