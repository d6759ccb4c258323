//! The engine's only source of randomness: equal seeds give equal numbers on every machine.

use std::fmt;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng};
use serde::{Deserialize, Serialize};

use super::ids::ShardId;

/// The 256 bits from which all randomness of a server follows.
///
/// A recording contains them, since a replay needs them; no other output may.
#[derive(Clone, Copy, Eq, PartialEq, Serialize, Deserialize)]
pub struct Seed([u8; 32]);

impl Seed {
    /// Creates a seed from bytes of the operating system's entropy.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns this seed mixed with a shard's number, so that no two shards draw the same ids.
    #[must_use]
    pub fn of_shard(mut self, shard: ShardId) -> Self {
        for (byte, own) in self.0.iter_mut().zip(shard.0.to_le_bytes()) {
            *byte ^= own;
        }
        self
    }

    /// Returns a number that identifies this run: the first 64 bits of a stream that reveals
    /// nothing about the ids.
    pub fn fingerprint(self) -> u64 {
        let mut stream = ChaCha20Rng::from_seed(self.0);
        stream.set_stream(u64::MAX);
        stream.next_u64()
    }
}

/// A seed for tests, simulation and replay.
impl From<u64> for Seed {
    fn from(number: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Self(bytes)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

/// A seeded generator: the ChaCha20 key stream with a 64-bit block counter, from the `chacha20`
/// crate.
///
/// It is a stream cipher instead of a faster statistical generator because its numbers become
/// connection ids and recovery tokens: a client that has seen many must not be able to compute the
/// next. Two servers with one seed draw the same ids, so outside tests a seed has to come from the
/// operating system.
pub struct Rng {
    stream: ChaCha20Rng,
    block: [u8; BLOCK_BYTES],
    /// Number of bytes of `block` that were used.
    used: usize,
}

/// The stream is drawn in whole blocks, because the crate drops the rest of a 32-bit word that is
/// used in part.
const BLOCK_BYTES: usize = 64;

impl Rng {
    /// Creates a generator for tests and simulation. Different seeds give unrelated sequences.
    pub fn from_seed(seed: u64) -> Rng {
        Rng::from_key(Seed::from(seed))
    }

    /// Creates a generator with the full 256 bits of a seed.
    pub fn from_key(Seed(key): Seed) -> Rng {
        Rng { stream: ChaCha20Rng::from_seed(key), block: [0; BLOCK_BYTES], used: BLOCK_BYTES }
    }

    /// Returns the next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Returns a number in `0..n`; all are equally likely.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "a number below 0 was asked for");
        // 2^64 is rarely a multiple of n. Values below `2^64 mod n` are drawn again; the number of
        // the remaining ones is a multiple.
        let surplus = n.wrapping_neg() % n;
        loop {
            let drawn = self.next_u64();
            if drawn >= surplus {
                return drawn % n;
            }
        }
    }

    /// Fills `bytes` with the next bytes of the stream.
    pub fn fill(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            if self.used == BLOCK_BYTES {
                self.stream.fill_bytes(&mut self.block);
                self.used = 0;
            }
            let length = bytes.len().min(BLOCK_BYTES - self.used);
            let (now, later) = bytes.split_at_mut(length);
            now.copy_from_slice(&self.block[self.used..self.used + length]);
            self.used += length;
            bytes = later;
        }
    }
}

impl fmt::Debug for Rng {
    /// Omits the key, from which all future secrets could be computed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rng").field("used", &self.used).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_stream_matches_the_rfc_vectors_across_blocks() {
        // RFC 8439, appendix A.1, test vectors 1 and 2.
        let mut bytes = [0; 128];
        Rng::from_key(Seed::from_bytes([0; 32])).fill(&mut bytes);
        assert_eq!(
            hex(&bytes),
            "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7\
             da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586\
             9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed\
             29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
        );
    }

    #[test]
    fn a_seed_always_gives_the_same_numbers() {
        // A change here breaks every recorded trace and every seed written down in a bug report.
        let mut rng = Rng::from_seed(0x0123_4567_89ab_cdef);
        let first = [rng.next_u64(), rng.next_u64(), rng.below(1000), rng.below(7)];
        assert_eq!(first, [5_742_345_763_973_234_561, 18_209_822_919_501_222_139, 191, 3]);
    }

    #[test]
    fn every_bit_of_a_seed_counts() {
        let first = |bytes| Rng::from_key(Seed::from_bytes(bytes)).next_u64();
        let zero = first([0; 32]);
        for bit in 0..256 {
            let mut bytes = [0; 32];
            bytes[bit / 8] = 1 << (bit % 8);
            assert_ne!(first(bytes), zero, "bit {bit}");
        }
    }

    #[test]
    fn shards_of_one_seed_draw_different_numbers() {
        let draw = |shard| Rng::from_key(Seed::from(9).of_shard(ShardId(shard))).next_u64();
        assert_eq!(
            draw(5),
            Rng::from_seed(9 ^ 5).next_u64(),
            "recordings of version 2 and 3 agree"
        );
        assert!((1..300).all(|shard| draw(shard) != draw(0)));
    }

    #[test]
    fn a_seed_is_not_shown_and_its_fingerprint_is_no_part_of_the_stream() {
        let seed = Seed::from(0x0123_4567_89ab_cdef);
        assert_eq!(format!("{seed:?} {:?}", Rng::from_key(seed)), "Seed Rng { used: 64, .. }");
        assert_ne!(seed.fingerprint(), Seed::from(1).fingerprint());
        let mut rng = Rng::from_key(seed);
        assert!((0..1_000).all(|_| rng.next_u64() != seed.fingerprint()));
    }

    #[test]
    fn filling_in_pieces_equals_filling_at_once() {
        let mut whole = [0; 300];
        Rng::from_seed(9).fill(&mut whole);
        for piece in 1..150 {
            let mut rng = Rng::from_seed(9);
            let mut pieces = [0; 300];
            pieces.chunks_mut(piece).for_each(|chunk| rng.fill(chunk));
            assert_eq!(pieces, whole, "in pieces of {piece}");
        }
    }

    #[test]
    fn the_counter_carries_into_its_high_word() {
        let mut rng = Rng::from_seed(1);
        rng.stream.set_block_pos(u64::from(u32::MAX));
        let mut blocks = [0; 2 * BLOCK_BYTES];
        rng.fill(&mut blocks);
        let mut block_zero = [0; BLOCK_BYTES];
        Rng::from_seed(1).fill(&mut block_zero);
        assert_ne!(blocks[BLOCK_BYTES..], block_zero, "block 2^32 repeats block 0");
    }

    #[test]
    fn below_reaches_every_number_and_none_beyond() {
        let mut rng = Rng::from_seed(3);
        for n in 1..50 {
            let mut seen = vec![0; n as usize];
            (0..n * 100).for_each(|_| seen[rng.below(n) as usize] += 1);
            assert!(seen.iter().all(|&times| times > 40 && times < 200), "below({n}): {seen:?}");
        }
    }

    #[test]
    fn below_rejects_draws_that_would_favour_small_numbers() {
        // Three quarters of the range: the surplus quarter, if it were kept, would come out as the
        // lowest third of the numbers once more, and make it half of all.
        let n = 3 << 62;
        let mut rng = Rng::from_seed(4);
        let lowest_third = (0..3000).filter(|_| rng.below(n) < n / 3).count();
        assert!((900..1100).contains(&lowest_third), "{lowest_third} of 3000");
    }

    #[test]
    #[should_panic(expected = "below 0")]
    fn below_zero_panics() {
        Rng::from_seed(0).below(0);
    }
}
