//! Finds the first byte of some kind in a long text, eight bytes at a time.
//!
//! A kind is a function from a word of eight bytes to a word that has the highest bit of each such
//! byte set, and no other bit. All of them are exact: no byte's answer depends on its neighbours.

const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGHEST: u64 = ONES << 7;

/// Marks bytes below `bound`, which is at most 128.
pub const fn below(word: u64, bound: u8) -> u64 {
    !(((word & !HIGHEST) + ONES * (128 - bound as u64)) | word) & HIGHEST
}

/// Marks bytes equal to `byte`.
pub const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * byte as u64), 1)
}

/// Returns the index of the first byte of a kind.
pub fn first(bytes: &[u8], kind: impl Fn(u64) -> u64) -> Option<usize> {
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    let (blocks, rest) = bytes.as_chunks::<32>();
    let marks = |block: &[u8; 32]| {
        block.as_chunks::<8>().0.iter().fold(0, |all, eight| all | kind(word(eight)))
    };
    let start = 32 * blocks.iter().position(|block| marks(block) != 0).unwrap_or(blocks.len());
    let (words, rest) =
        if start < 32 * blocks.len() { (&bytes[start..], &[][..]) } else { (rest, rest) };
    let (words, _) = words.as_chunks::<8>();
    for (index, eight) in words.iter().enumerate() {
        let found = kind(word(eight));
        if found != 0 {
            return Some(start + 8 * index + found.trailing_zeros() as usize / 8);
        }
    }
    // Fewer than eight bytes are left. The bytes that fill up the word do not count.
    let (_, tail) = rest.as_chunks::<8>();
    let found = kind(word(tail)) & !(u64::MAX << (8 * tail.len()));
    (found != 0).then(|| bytes.len() - tail.len() + found.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_byte_is_classified_regardless_of_its_neighbours() {
        for byte in 0..=u8::MAX {
            for beside in 0..=u8::MAX {
                let word =
                    u64::from_le_bytes([byte, beside, byte, beside, beside, beside, beside, byte]);
                for (found, is_found) in [
                    (below(word, 0x20), byte < 0x20),
                    (below(word, 128), byte < 128),
                    (equal(word, b'"'), byte == b'"'),
                    (equal(word, 0x7f), byte == 0x7f),
                ] {
                    let own = u64::from_le_bytes([0x80, 0, 0x80, 0, 0, 0, 0, 0x80]);
                    assert_eq!(
                        found & own,
                        if is_found { own } else { 0 },
                        "{byte} beside {beside}"
                    );
                    assert_eq!(found & !HIGHEST, 0);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn finds_the_first_match_at_any_place(
            mut bytes in prop::collection::vec(b'a'..=b'z', 0..200), indices in prop::collection::vec(0_usize..220, 0..4),
        ) {
            for index in indices {
                if let Some(byte) = bytes.get_mut(index) {
                    *byte = b'\n';
                }
            }
            let index = bytes.iter().position(|byte| *byte == b'\n');
            prop_assert_eq!(first(&bytes, |word| below(word, 0x20)), index);
        }
    }
}
