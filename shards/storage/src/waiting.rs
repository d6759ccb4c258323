//! The memory of records that wait to be stored.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Maximum bytes of waiting records, in the queue and for the backend: thousands of sessions, or
/// about ten with the largest set lists. A record that does not fit stays in its session and is
/// offered again.
pub(super) const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes that wait now.
#[derive(Clone, Debug, Default)]
pub(super) struct Weight(Arc<AtomicUsize>);

impl Weight {
    /// Copies a record, unless too many bytes wait already. The one that exceeds the limit may have
    /// any size.
    pub fn take(&self, record: &[u8]) -> Option<Waiting> {
        (self.bytes() < BYTES_MAX).then(|| Waiting::new(record.into(), self))
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A record that counts as waiting until its last copy is dropped.
#[derive(Clone, Debug)]
pub struct Waiting(Arc<Weighed>);

#[derive(Debug)]
struct Weighed {
    bytes: Box<[u8]>,
    weight: Weight,
}

impl Waiting {
    pub(super) fn new(bytes: Box<[u8]>, weight: &Weight) -> Self {
        weight.0.fetch_add(bytes.len(), Ordering::Relaxed);
        Self(Arc::new(Weighed { bytes, weight: weight.clone() }))
    }
}

impl Deref for Waiting {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl Drop for Weighed {
    fn drop(&mut self) {
        self.weight.0.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn queued_records_are_bounded_and_free_their_room_when_dropped() {
        let weight = Weight::default();
        let half = vec![7; BYTES_MAX / 2];
        let first = weight.take(&half).unwrap();
        let copy = first.clone();
        let second = weight.take(&half).unwrap();
        assert!(weight.take(b"one more").is_none());
        drop(first);
        assert!(weight.take(b"one more").is_none(), "a copy still has it");
        drop(copy);
        assert_eq!(&weight.take(b"one more").unwrap()[..], b"one more");
        drop(second);
        assert_eq!(weight.bytes(), 0);
    }
}
