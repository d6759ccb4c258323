//! The engine's only source of randomness: one seed in, the same numbers out, on every machine.

/// A seeded generator: the ChaCha20 key stream (RFC 8439's block function with a 64-bit block counter).
///
/// A stream cipher rather than a faster statistical generator, because its numbers become connection ids
/// and recovery secrets: somebody who has been shown many of them must not be able to work out the next.
/// Of two servers with one seed both say the same, so a seed outside tests has to come from the
/// operating system's entropy.
#[derive(Clone)]
pub struct Rng {
    key: [u32; 8],
    /// Number of the next block.
    counter: u64,
    block: [u8; BLOCK_BYTES],
    /// Bytes of `block` already handed out.
    used: usize,
}

const BLOCK_BYTES: usize = 64;

impl Rng {
    /// A generator for tests, simulation and replay; two seeds give unrelated sequences.
    pub fn from_seed(seed: u64) -> Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Rng::from_key(key)
    }

    /// A generator with the full strength of its 32 bytes.
    pub fn from_key(key: [u8; 32]) -> Rng {
        Rng { key: words(&key), counter: 0, block: [0; BLOCK_BYTES], used: BLOCK_BYTES }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number in `0..n`, every one equally likely.
    ///
    /// # Panics
    /// If `n` is 0: there is no such number.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "a number below 0 was asked for");
        // 2^64 is rarely a multiple of n. Values under `2^64 mod n` are drawn again; what is left is one.
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
                self.block = chacha20_block(&self.key, split(self.counter));
                self.counter += 1;
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

impl std::fmt::Debug for Rng {
    /// Leaves the key out: whoever has it knows every secret to come.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rng")
            .field("counter", &self.counter)
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}

/// The block counter as the first two of the four words that a block differs in; the nonce stays zero.
fn split(counter: u64) -> [u32; 4] {
    [counter as u32, (counter >> 32) as u32, 0, 0]
}

/// RFC 8439 section 2.3; `position` is the counter and nonce row.
fn chacha20_block(key: &[u32; 8], position: [u32; 4]) -> [u8; BLOCK_BYTES] {
    let mut start = [0; 16];
    start[..4].copy_from_slice(&words::<4>(b"expand 32-byte k"));
    start[4..12].copy_from_slice(key);
    start[12..].copy_from_slice(&position);

    let mut state = start;
    for _ in 0..10 {
        for column in 0..4 {
            quarter_round(&mut state, column, column + 4, column + 8, column + 12);
        }
        for diagonal in 0..4 {
            quarter_round(
                &mut state,
                diagonal,
                4 + (diagonal + 1) % 4,
                8 + (diagonal + 2) % 4,
                12 + (diagonal + 3) % 4,
            );
        }
    }

    let mut block = [0; BLOCK_BYTES];
    for (bytes, (mixed, first)) in block.chunks_exact_mut(4).zip(state.iter().zip(start)) {
        bytes.copy_from_slice(&mixed.wrapping_add(first).to_le_bytes());
    }
    block
}

fn quarter_round(state: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    state[a] = state[a].wrapping_add(state[b]);
    state[d] = (state[d] ^ state[a]).rotate_left(16);
    state[c] = state[c].wrapping_add(state[d]);
    state[b] = (state[b] ^ state[c]).rotate_left(12);
    state[a] = state[a].wrapping_add(state[b]);
    state[d] = (state[d] ^ state[a]).rotate_left(8);
    state[c] = state[c].wrapping_add(state[d]);
    state[b] = (state[b] ^ state[c]).rotate_left(7);
}

/// The first `4 * N` bytes as little-endian words.
fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    std::array::from_fn(|i| {
        u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_block_function_is_that_of_rfc_8439() {
        // Section 2.3.2: key 00 … 1f, block counter 1, nonce 00:00:00:09:00:00:00:4a:00:00:00:00.
        let key: [u8; 32] = std::array::from_fn(|i| i as u8);
        let block = chacha20_block(&words(&key), [1, 0x0900_0000, 0x4a00_0000, 0]);
        assert_eq!(
            hex(&block),
            "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e\
             d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
        );
    }

    #[test]
    fn the_stream_is_that_of_the_zero_key_across_blocks() {
        // RFC 8439, appendix A.1, test vectors 1 and 2.
        let mut bytes = [0; 128];
        Rng::from_key([0; 32]).fill(&mut bytes);
        assert_eq!(
            hex(&bytes),
            "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7\
             da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586\
             9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed\
             29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
        );
    }

    #[test]
    fn a_seed_says_the_same_for_ever() {
        // A change here breaks every recorded trace and every seed written down in a bug report.
        let mut rng = Rng::from_seed(0x0123_4567_89ab_cdef);
        let first = [rng.next_u64(), rng.next_u64(), rng.below(1000), rng.below(7)];
        assert_eq!(first, [5_742_345_763_973_234_561, 18_209_822_919_501_222_139, 191, 3]);
    }

    #[test]
    fn filling_in_pieces_is_filling_at_once() {
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
        rng.counter = u64::from(u32::MAX);
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
    fn below_draws_again_what_would_favour_small_numbers() {
        // Three quarters of the range: the surplus quarter, if it were kept, would come out as the lowest
        // third of the numbers once more, and make it half of all.
        let n = 3 << 62;
        let mut rng = Rng::from_seed(4);
        let lowest_third = (0..3000).filter(|_| rng.below(n) < n / 3).count();
        assert!((900..1100).contains(&lowest_third), "{lowest_third} of 3000");
    }

    #[test]
    #[should_panic(expected = "below 0")]
    fn below_nothing_is_our_bug() {
        Rng::from_seed(0).below(0);
    }
}
