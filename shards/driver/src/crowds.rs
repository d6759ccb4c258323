//! Messages to crowds, which are linked to their receivers in slices, one a turn.
//!
//! Ten thousand sends take 60 ms, and linking them alone takes milliseconds. So a message to a
//! crowd waits here, with a copy of its bytes and one bit for each receiver that lacks it. A
//! receiver takes all its waiting messages together, in their order: when its slice comes, or
//! before anything else is linked to it. So a room that is behind costs one write per member,
//! however many messages wait.
//!
//! Receivers are known by the index of their slot, which a later connection may get. So the bits of
//! a connection are removed together with it.

use std::collections::VecDeque;

use bandsync_engine::io::Span;

/// Maximum number of messages that wait, and of their bytes. Guessed: a room of ten thousand that
/// receives a hundred messages a second has about ten waiting, of 300 bytes each. A message that
/// finds no room is linked to all its receivers at once, behind what waits for them.
const MESSAGES_MAX: usize = 1_024;
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// A place of bytes to send: in the outputs of the turn, or in a message to a crowd.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Piece {
    pub(crate) span: Span,
    pub(crate) source: Source,
}

/// The buffer in which a piece lies: a number of a message in [`Buffers`], or [`OUTPUTS`].
pub(crate) type Source = u16;

/// The source of pieces in the outputs of the turn.
pub(crate) const OUTPUTS: Source = Source::MAX;

const _: () = assert!(MESSAGES_MAX < OUTPUTS as usize, "each message has a number");

/// The bytes that [`Piece`]s refer to.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<'a> {
    outputs: &'a [u8],
    messages: &'a VecDeque<Message>,
}

impl<'a> Buffers<'a> {
    /// Returns the bytes of a piece.
    #[inline]
    pub fn of(self, piece: Piece) -> &'a [u8] {
        let buffer = if piece.source == OUTPUTS {
            self.outputs
        } else {
            &self.messages[usize::from(piece.source)].bytes
        };
        &buffer[piece.span.range()]
    }
}

/// A message that some of its receivers lack.
#[derive(Debug)]
struct Message {
    bytes: Box<[u8]>,
    volatile: bool,
    /// The receivers that lack it.
    waiting: Places,
    /// Number of these receivers.
    left: usize,
    /// The place at which the search for the next receiver begins.
    next: u32,
}

/// The messages to crowds that are not linked to all their receivers, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Crowds {
    messages: VecDeque<Message>,
    /// The receivers that lack a message.
    behind: Places,
    /// Number of receivers over all messages.
    left: usize,
    /// Number of bytes of all messages.
    bytes: usize,
    /// Number of messages so far.
    count: usize,
}

impl Crowds {
    /// Whether a receiver lacks a message.
    #[inline]
    pub(crate) fn is_behind(&self) -> bool {
        self.left > 0
    }

    /// Adds a message for the connections at these indices. Returns false, and adds nothing, if
    /// there is no room for it.
    #[must_use]
    pub(crate) fn add(
        &mut self,
        bytes: &[u8],
        volatile: bool,
        to: impl Iterator<Item = u32>,
    ) -> bool {
        if self.messages.len() >= MESSAGES_MAX || self.bytes + bytes.len() > BYTES_MAX {
            return false;
        }
        let mut waiting = Places::default();
        let mut left = 0;
        for index in to {
            left += usize::from(waiting.insert(index));
            self.behind.insert(index);
        }
        self.left += left;
        self.bytes += bytes.len();
        // Each message begins with another member, so that nobody is always the last.
        self.count = self.count.wrapping_add(1);
        let next = spread(self.count, waiting.len());
        self.messages.push_back(Message { bytes: bytes.into(), volatile, waiting, left, next });
        true
    }

    /// Takes the messages that the connection at `index` lacks, the oldest first.
    pub(crate) fn take(&mut self, index: u32, mut each: impl FnMut(Piece, bool)) {
        if !self.behind.remove(index) {
            return;
        }
        for (source, message) in (0..).zip(&mut self.messages) {
            if message.waiting.remove(index) {
                message.left -= 1;
                self.left -= 1;
                let span = Span { start: 0, end: message.bytes.len() as u32 };
                each(Piece { span, source }, message.volatile);
            }
        }
    }

    /// Returns the index of the connection whose turn it is. The oldest message decides.
    pub(crate) fn next(&mut self) -> Option<u32> {
        let message = self.messages.iter_mut().find(|message| message.left > 0)?;
        let index = message.waiting.first_from(message.next)?;
        message.next = index + 1;
        Some(index)
    }

    /// Removes the messages that no receiver lacks. The numbers in pieces are void then.
    pub(crate) fn retire(&mut self) {
        if self.messages.iter().all(|message| message.left > 0) {
            return;
        }
        let bytes = &mut self.bytes;
        self.messages.retain(|message| {
            let stays = message.left > 0; // mark: crowd_misses_its_last
            *bytes -= if stays { 0 } else { message.bytes.len() };
            stays
        });
    }

    /// Returns the bytes of all pieces, with those of the turn's outputs.
    pub(crate) fn buffers<'a>(&'a self, outputs: &'a [u8]) -> Buffers<'a> {
        Buffers { outputs, messages: &self.messages }
    }
}

/// A set of indices of connections.
#[derive(Debug, Default)]
struct Places {
    words: Vec<u64>,
}

impl Places {
    /// Returns the number of places that the set has bits for.
    fn len(&self) -> usize {
        self.words.len() * 64
    }

    /// Adds an index. Returns whether it is new.
    fn insert(&mut self, index: u32) -> bool {
        let (word, bit) = (index as usize / 64, 1 << (index % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let before = self.words[word];
        self.words[word] |= bit;
        before & bit == 0
    }

    /// Removes an index. Returns whether it was there.
    #[inline]
    fn remove(&mut self, index: u32) -> bool {
        let bit = 1 << (index % 64);
        let Some(word) = self.words.get_mut(index as usize / 64) else { return false };
        let before = *word;
        *word &= !bit;
        before & bit != 0
    }

    /// Returns the first index at or behind `index`, or else the first of all.
    fn first_from(&self, index: u32) -> Option<u32> {
        let start = index as usize / 64;
        let first = |word: usize, bits: u64| (word * 64) as u32 + bits.trailing_zeros();
        let ahead = self.words.get(start).map_or(0, |bits| bits & (u64::MAX << (index % 64)));
        if ahead != 0 {
            return Some(first(start, ahead));
        }
        let words = self.words.iter().copied().enumerate();
        let behind = words.clone().skip(start + 1).chain(words.take(start + 1));
        behind.into_iter().find(|(_, bits)| *bits != 0).map(|(word, bits)| first(word, bits))
    }
}

/// Returns the place among `len` at which message number `count` begins: far from the places of
/// those before it, by the golden ratio.
fn spread(count: usize, len: usize) -> u32 {
    ((count as u64).wrapping_mul(2_654_435_769) as u32 as usize % len.max(1)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"to all";

    fn with(count: u32) -> Crowds {
        let mut crowds = Crowds::default();
        assert!(crowds.add(TEXT, false, 0..count));
        crowds
    }

    fn take(crowds: &mut Crowds, index: u32) -> Vec<String> {
        let mut taken = Vec::new();
        crowds.take(index, |piece, volatile| taken.push((piece, volatile)));
        let text = |(piece, volatile)| {
            let bytes = crowds.buffers(b"outputs").of(piece);
            format!("{}{}", String::from_utf8_lossy(bytes), if volatile { "?" } else { "" })
        };
        taken.into_iter().map(text).collect()
    }

    /// Serves all, and returns the indices in their order.
    fn serve(crowds: &mut Crowds) -> Vec<u32> {
        let mut served = Vec::new();
        while let Some(index) = crowds.next() {
            assert!(!take(crowds, index).is_empty(), "{index} has its messages");
            served.push(index);
        }
        crowds.retire();
        assert!(!crowds.is_behind() && crowds.messages.is_empty() && crowds.bytes == 0);
        served
    }

    #[test]
    fn each_receiver_is_served_once_and_each_message_begins_with_another() {
        let mut first = Vec::new();
        let mut crowds = Crowds::default();
        for _ in 0..8 {
            assert!(crowds.add(TEXT, true, (0..1_000).filter(|index| index % 3 == 1)));
            let mut served = serve(&mut crowds);
            first.push(served[0]);
            served.sort_unstable();
            assert!(served.into_iter().eq((0..1_000).filter(|index| index % 3 == 1)));
        }
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), 8, "{first:?}");
    }

    #[test]
    fn a_receiver_takes_all_that_it_lacks_in_order() {
        let mut crowds = with(4);
        assert!(crowds.add(b"tick", true, 0..2));
        assert!(crowds.add(b"bye", false, 1..4));
        assert_eq!(take(&mut crowds, 1), ["to all", "tick?", "bye"]);
        assert_eq!(take(&mut crowds, 3), ["to all", "bye"]);
        assert_eq!(take(&mut crowds, 0), ["to all", "tick?"]);
        assert_eq!(take(&mut crowds, 0), Vec::<String>::new());
        assert_eq!(serve(&mut crowds), [2]);
    }

    #[test]
    fn a_later_connection_of_a_slot_lacks_nothing() {
        let mut crowds = with(300);
        crowds.take(299, |_, _| {});
        assert!(!serve(&mut crowds).contains(&299));
        assert!(crowds.add(b"later", false, 299..300));
        assert_eq!(take(&mut crowds, 299), ["later"]);
    }

    #[test]
    fn a_message_that_is_served_does_not_hold_up_the_next() {
        let mut crowds = with(2);
        assert!(crowds.add(b"others", false, 70..73));
        let _ = (take(&mut crowds, 0), take(&mut crowds, 1));
        crowds.retire();
        assert_eq!((crowds.messages.len(), crowds.bytes), (1, 6));
        let mut served = serve(&mut crowds);
        served.sort_unstable();
        assert_eq!(served, [70, 71, 72]);
    }

    #[test]
    fn it_is_bounded_by_messages_and_by_bytes() {
        let mut crowds = Crowds::default();
        for _ in 0..MESSAGES_MAX {
            assert!(crowds.add(TEXT, true, 0..3));
        }
        assert!(!crowds.add(TEXT, true, 0..3));
        serve(&mut crowds);
        assert!(crowds.add(&vec![0; BYTES_MAX], false, 0..3));
        assert!(!crowds.add(TEXT, false, 0..3) && crowds.left == 3);
        serve(&mut crowds);
        assert!(crowds.add(TEXT, false, 0..3));
    }
}
