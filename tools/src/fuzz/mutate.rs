//! Makes new inputs from known ones: changed, cut, repeated, joined.

use bandsync_engine::words::rng::Rng;

/// Maximum length of an input.
const BYTES_MAX: u64 = 4_096;

/// Bytes that have a meaning for one of the readers.
const TELLING: &[u8] = b"\0\x01\x7d\x7e\x7f\x80\x81\x88\xfe\xff\r\n\"\\{}[],:;/?&=%0149-.eE ";

/// Returns one of the seeds, changed in a few places.
pub fn mutate(rng: &mut Rng, seeds: &[&[u8]]) -> Vec<u8> {
    let mut bytes = pick(rng, seeds).to_vec();
    for _ in 0..=rng.below(6) {
        let start = rng.below(bytes.len() as u64 + 1) as usize;
        let end = start + rng.below((bytes.len() - start) as u64 + 1) as usize;
        match rng.below(7) {
            0 => drop(bytes.drain(start..end)),
            1 => {
                let part = bytes[start..end].to_vec();
                bytes.splice(start..start, part);
            }
            2 => {
                let other = pick(rng, seeds);
                let from = rng.below(other.len() as u64 + 1) as usize;
                bytes.splice(start..end, other[from..].iter().copied());
            }
            3 => bytes.insert(start, TELLING[rng.below(TELLING.len() as u64) as usize]),
            _ if bytes.is_empty() => {}
            4 => {
                bytes[start.min(end.saturating_sub(1))] =
                    TELLING[rng.below(TELLING.len() as u64) as usize]
            }
            5 => {
                let start = rng.below(bytes.len() as u64) as usize;
                bytes[start] ^= 1 << rng.below(8);
            }
            _ => {
                let start = rng.below(bytes.len() as u64) as usize;
                bytes[start] = rng.below(256) as u8;
            }
        }
        bytes.truncate(BYTES_MAX as usize);
    }
    bytes
}

fn pick<'a>(rng: &mut Rng, seeds: &[&'a [u8]]) -> &'a [u8] {
    seeds[rng.below(seeds.len() as u64) as usize]
}
