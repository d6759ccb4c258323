//! Pins a shard's thread to a core.

use std::io;

/// Pins the calling thread to the `n`th of the cores that the process may run on, modulo their
/// number. Containers and cgroups may forbid it; only speed depends on it.
pub(crate) fn pin_to_core(n: usize) -> io::Result<()> {
    let allowed = mask()?;
    let cores: Vec<usize> =
        (0..libc::CPU_SETSIZE as usize).filter(|core| contains(&allowed, *core)).collect();
    let Some(core) = n.checked_rem(cores.len()).map(|index| cores[index]) else {
        return Err(io::Error::other("the process may run on no core"));
    };
    set_core(core)
}

/// Counts the cores in the calling thread's affinity mask.
///
/// # Errors
/// If the system does not return the mask, as on machines with more than 1024 cores.
pub fn allowed_cores() -> io::Result<usize> {
    let allowed = mask()?;
    Ok((0..libc::CPU_SETSIZE as usize).filter(|core| contains(&allowed, *core)).count())
}

/// Reads the calling thread's affinity mask.
fn mask() -> io::Result<libc::cpu_set_t> {
    // SAFETY: a set of bits, for which all zeros is the empty set.
    let mut cores: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the size is that of the set, which is ours to write to.
    let result =
        unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut cores) };
    if result == 0 { Ok(cores) } else { Err(io::Error::last_os_error()) }
}

/// Whether a core below `CPU_SETSIZE` is in the set.
fn contains(cores: &libc::cpu_set_t, core: usize) -> bool {
    // SAFETY: reads a bit within the set; libc checks the bound.
    unsafe { libc::CPU_ISSET(core, cores) }
}

/// Lets the calling thread run on this core only.
fn set_core(core: usize) -> io::Result<()> {
    // SAFETY: a set of bits, for which all zeros is the empty set.
    let mut cores: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: sets a bit within the set; libc checks the bound.
    unsafe { libc::CPU_SET(core, &mut cores) };
    // SAFETY: the size is that of the set, which is only read.
    let result =
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const cores) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pinned_thread_may_run_on_one_core() {
        let count = std::thread::spawn(|| {
            pin_to_core(1_000_003).unwrap();
            allowed_cores().unwrap()
        });
        assert_eq!(count.join().unwrap(), 1);
    }
}
