//! Output digests of many worlds, one per line. They show whether a change of the code changes an
//! output.
//!
//! A world depends on its seed, the engine and the simulator alone: not on the machine, the number
//! of threads or the build profile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{io, thread};

use super::{Plan, Wanted, run};

/// Number of worlds that are recorded.
pub const SEEDS: u64 = 2_000;

/// A seed and the digest of all outputs of its world.
pub type World = (u64, u32);

/// Runs the worlds of the seeds 1 to `count`, and returns them in order of their seeds.
pub fn of(count: u64, threads: usize) -> Vec<World> {
    let next = AtomicU64::new(1);
    let worlds = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > count {
                        return;
                    }
                    let digest = digest(seed);
                    if let Ok(mut worlds) = worlds.lock() {
                        worlds.push((seed, digest));
                    }
                }
            });
        }
    });
    let mut worlds = worlds.into_inner().unwrap_or_default();
    worlds.sort_unstable();
    worlds
}

/// Returns half of a world's digest. That is enough: it misses a difference in one world of 2³².
fn digest(seed: u64) -> u32 {
    run(&Plan::draw(seed, &Wanted::default())).digest as u32
}

/// Prints the worlds, one per line.
pub fn listed(worlds: &[World]) -> String {
    worlds.iter().map(|(seed, digest)| format!("{seed} {digest:08x}\n")).collect()
}

/// Reads what [`listed`] printed.
///
/// # Errors
/// If a line is not a seed and a digest, or the seeds are not 1, 2, 3 and so on.
pub fn read(text: &str) -> io::Result<Vec<World>> {
    let parse = |(line, expected): (&str, u64)| {
        let (seed, digest) = line.split_once(' ')?;
        let seed = seed.parse().ok().filter(|seed| *seed == expected)?;
        Some((seed, u32::from_str_radix(digest, 16).ok()?))
    };
    let read = |(line, expected)| {
        let why =
            || io::Error::other(format!("line {expected} is no digest of seed {expected}: {line}"));
        parse((line, expected)).ok_or_else(why)
    };
    text.lines().zip(1..).map(read).collect()
}

/// Runs the recorded worlds. Returns the seed, the digest and the recorded digest of those that
/// differ.
pub fn differing(recorded: &[World], threads: usize) -> Vec<(u64, u32, u32)> {
    let worlds = of(recorded.len() as u64, threads);
    let pairs = worlds.into_iter().zip(recorded);
    let all = pairs.map(|((seed, digest), (_, recorded))| (seed, digest, *recorded));
    all.filter(|(_, digest, recorded)| digest != recorded).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_number_of_threads_changes_no_digest() {
        let worlds = of(6, 1);
        assert_eq!(worlds, of(6, 3));
        assert_eq!(read(&listed(&worlds)).unwrap(), worlds);
        let mut recorded = worlds;
        recorded[4].1 ^= 1;
        let found: Vec<u64> = differing(&recorded, 2).into_iter().map(|(seed, ..)| seed).collect();
        assert_eq!(found, [5]);
    }

    #[test]
    fn invalid_digest_lines_are_rejected() {
        for text in ["1 x\n", "1\n", "2 00000000\n", "1 00000000\n1 00000000\n"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
