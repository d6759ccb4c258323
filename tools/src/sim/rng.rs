//! The world's random numbers. The generator is small and fast, and must never change: a seed would
//! stand for another world.

/// A generator, SplitMix64. The engine has one of its own; this one is for everything around it.
#[derive(Clone, Debug)]
pub struct SimRng(u64);

impl SimRng {
    /// Creates the sequence of a `purpose` under `seed`. Each connection, shard and member has its
    /// own, so that a plan without one of them leaves the numbers of the others unchanged.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut chance = Self(seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        chance.next();
        chance.next();
        chance
    }

    /// Returns the next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `n`, or 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { ((u128::from(self.next()) * u128::from(n)) >> 64) as u64 }
    }

    /// Returns a number in `from..=to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// Returns a number in `from..=to`, with all orders of magnitude equally likely. `from` is at
    /// least 1.
    pub fn magnitude(&mut self, from: u64, to: u64) -> u64 {
        let bits = u64::from((to / from).max(1).ilog2()) + 1;
        let low = from << self.below(bits);
        self.between(low.min(to), (2 * low).min(to))
    }

    /// Returns true once in `n` times on average.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Returns one of several values.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// A running digest of bytes, of 64 bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Digest(pub u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0x51_7c_c1_b7_27_22_0a_95)
    }
}

impl Digest {
    /// Adds a number.
    pub fn add(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
        self.0 ^= self.0 >> 32;
    }

    /// Adds bytes and their number.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let mut eight = [0; 8];
            eight.copy_from_slice(word);
            self.add(u64::from_le_bytes(eight));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        self.add(u64::from_le_bytes(last));
        self.add(bytes.len() as u64);
    }

    /// Returns the digest of these bytes alone.
    pub fn of(bytes: &[u8]) -> u64 {
        let mut digest = Self::default();
        digest.add_bytes(bytes);
        digest.0
    }
}
