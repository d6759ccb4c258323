//! The bytes of a connection that the kernel has not accepted yet.

/// A queue of bytes. It holds no memory while it is empty.
#[derive(Debug, Default)]
pub struct Unsent(Option<Box<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Number of bytes at the front that are written.
    written: usize,
}

/// Maximum number of bytes in a queue. With more, the connection counts as broken. The engine
/// closes a slow reader much earlier; this limits a single turn, before the engine learns of the
/// backlog.
const BYTES_MAX: usize = 16 * 1024 * 1024;

impl Unsent {
    /// Whether no bytes wait.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the number of bytes that wait.
    pub fn len(&self) -> usize {
        self.front().len()
    }

    /// Returns the bytes to write next.
    pub(crate) fn front(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |waiting| &waiting.bytes[waiting.written..])
    }

    /// Appends a copy of `bytes`. Returns false, and appends nothing, if the queue would exceed
    /// [`BYTES_MAX`].
    #[must_use]
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        let len = self.len();
        if len + bytes.len() > BYTES_MAX {
            return false;
        }
        if bytes.is_empty() {
            return true;
        }
        let waiting = self.0.get_or_insert_default();
        // At most as many bytes move as were written, so the cost per byte is constant.
        if waiting.written >= len {
            waiting.bytes.drain(..waiting.written);
            waiting.written = 0;
        }
        waiting.bytes.extend_from_slice(bytes);
        true
    }

    /// Removes `count` bytes from the front, which the kernel has accepted.
    pub(crate) fn wrote(&mut self, count: usize) {
        assert!(count <= self.len(), "wrote {count} of {}", self.len());
        if let Some(waiting) = &mut self.0 {
            waiting.written += count;
            if waiting.written == waiting.bytes.len() {
                self.0 = None;
            }
        }
    }

    /// Drops all bytes.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns the size of the backlog in steps: 0 if it is empty, else 1 plus the whole multiples
    /// of `backlog_step`.
    pub(crate) fn steps(&self, backlog_step: usize) -> u32 {
        if self.is_empty() { 0 } else { 1 + (self.len() / backlog_step) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_queue_and_keeps_no_memory_when_empty() {
        let mut unsent = Unsent::default();
        let (mut next_in, mut next_out) = (0_u8, 0_u8);
        for round in 0..500_u32 {
            let piece: Vec<u8> = (0..round % 13).map(|n| next_in.wrapping_add(n as u8)).collect();
            next_in = next_in.wrapping_add(piece.len() as u8);
            assert!(unsent.push(&piece));
            let count = (round as usize % 7).min(unsent.len());
            assert!(
                unsent.front()[..count]
                    .iter()
                    .enumerate()
                    .all(|(n, byte)| *byte == next_out.wrapping_add(n as u8))
            );
            next_out = next_out.wrapping_add(count as u8);
            unsent.wrote(count);
        }
        unsent.wrote(unsent.len());
        assert!(unsent.is_empty());
        assert!(unsent.0.is_none());
    }

    #[test]
    fn written_bytes_are_freed() {
        let mut unsent = Unsent::default();
        for _ in 0..10_000 {
            assert!(unsent.push(&[0; 100]));
            unsent.wrote(unsent.len() - 1);
        }
        let held = unsent.0.as_ref().map_or(0, |waiting| waiting.bytes.len());
        assert!((1..1_000).contains(&held), "{held}");
    }

    #[test]
    fn a_step_is_passed_every_64_kib() {
        let mut unsent = Unsent::default();
        assert_eq!(unsent.steps(65_536), 0);
        for (bytes, steps) in [(1, 1), (65_534, 1), (1, 2), (65_535, 2), (1, 3)] {
            assert!(unsent.push(&vec![0; bytes]));
            assert_eq!(unsent.steps(65_536), steps, "after {}", unsent.len());
        }
    }

    #[test]
    fn it_is_bounded() {
        let mut unsent = Unsent::default();
        assert!(unsent.push(&vec![0; BYTES_MAX]));
        assert!(!unsent.push(&[0]));
        assert_eq!(unsent.len(), BYTES_MAX);
    }
}
