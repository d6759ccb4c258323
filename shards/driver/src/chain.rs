//! What a connection knows of the chunks that a turn sends to it: where its chain begins and ends.

/// A connection's chunks of this turn: the first and the last place in the writer's list of chunks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Chain {
    pub(crate) first: u32,
    pub(crate) last: u32,
}

/// No chunk.
pub(crate) const NONE: u32 = u32::MAX;

impl Chain {
    pub(crate) const EMPTY: Self = Self { first: NONE, last: NONE };
}
