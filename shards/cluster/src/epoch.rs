//! Epochs of a cluster: `k · 2048 + number`.
//!
//! Two living nodes have different numbers, so they never make the same epoch, also if Redis has
//! forgotten that one of them claimed the session. k is at least the Unix time in milliseconds, so
//! an epoch is above all that the session had before, also after Redis was emptied.

/// Numbers of nodes in one k.
pub const NUMBERS: u64 = 2_048;

/// Bound of k: above it, Lua and JavaScript would round epochs.
pub const K_MAX: u64 = 1 << 42;

/// Returns the k of an epoch.
pub fn k_of(epoch: u64) -> u64 {
    epoch / NUMBERS
}

/// Returns the number of the node that made an epoch.
#[cfg(test)]
pub fn number_of(epoch: u64) -> u16 {
    (epoch % NUMBERS) as u16
}

/// Returns an epoch of node `number` above all of these; `None` if none is left (year 2109). The
/// rule is carried out by the script CLAIM; this is its model.
#[cfg(test)]
pub fn next(stored: u64, known: u64, unix_ms: u64, number: u16) -> Option<u64> {
    let k = k_of(stored).max(k_of(known)).max(unix_ms).checked_add(1)?;
    (k < K_MAX).then(|| k * NUMBERS + u64::from(number) % NUMBERS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_epoch_is_above_all_before_and_names_its_node(
            stored in 0..(K_MAX - 1) * NUMBERS, known in 0..(K_MAX - 1) * NUMBERS,
            unix_ms in 0..K_MAX - 1, numbers in (1_u16..2_048, 1_u16..2_048),
        ) {
            let one = next(stored, known, unix_ms, numbers.0).unwrap_or_default();
            prop_assert!(one > stored && one > known && one < 1 << 53);
            prop_assert_eq!(number_of(one), numbers.0);
            if numbers.0 != numbers.1 {
                prop_assert_ne!(Some(one), next(stored, known, unix_ms, numbers.1));
            }
        }

        #[test]
        fn no_epoch_wraps(stored: u64, known: u64, unix_ms: u64, number: u16) {
            let epoch = next(stored, known, unix_ms, number);
            prop_assert!(epoch.is_none_or(|epoch| k_of(epoch) < K_MAX && epoch > stored.max(known)));
        }
    }

    #[test]
    fn epochs_of_unclustered_servers_are_lower() {
        let unclustered = 1_790_000_000_000;
        let epoch = next(unclustered, 0, unclustered, 1).unwrap_or_default();
        assert!(epoch > unclustered * 2_000, "{epoch}");
        assert_eq!(next((K_MAX - 1) * NUMBERS, 0, 0, 1), None);
    }
}
