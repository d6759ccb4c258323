//! What the operating system knows about this process, and lets it have.

use std::io::{self, Write};
use std::time::Duration;

/// What the process has used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Memory in RAM, in bytes. Where there is no `/proc`, the most there ever was.
    pub resident_bytes: u64,
    /// Time on cores, user and system, of all threads together.
    pub cpu: Duration,
}

/// Looks now. What cannot be learned is zero.
pub fn usage() -> Usage {
    let totals = resource_usage();
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    Usage {
        resident_bytes: resident_bytes().unwrap_or(totals.ru_maxrss as u64 * MAXRSS_UNIT),
        cpu: duration(totals.ru_utime) + duration(totals.ru_stime),
    }
}

/// `ru_maxrss` counts kilobytes, except on Apple's systems.
const MAXRSS_UNIT: u64 = if cfg!(target_vendor = "apple") { 1 } else { 1_024 };

fn resource_usage() -> libc::rusage {
    // SAFETY: the structure consists of integers, for which zero is a value.
    let mut totals: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `totals` is ours and of the type the call fills. It fails for no value of the first argument
    // that is named in its manual, and leaves zeros if it did.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut totals) };
    totals
}

fn resident_bytes() -> Option<u64> {
    resident(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// From the line `VmRSS:     1234 kB`.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// Raises the number of files and sockets that may be open to what the system allows, and returns it. A
/// connection needs one, and the usual start value of 1024 is meant for programs that use `select`.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is ours and of the type the call fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the call only reads `limit`.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

/// Tells the person who started us, even if the log is off. That nobody listens any more is no reason to die.
pub fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// Tells on standard output.
pub fn tell(message: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{message}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t3\n"), Some(1_234 * 1_024));
        assert_eq!(resident("Name:\tx\n"), None);
        assert_eq!(resident("VmRSS: many kB\n"), None);
    }

    #[test]
    fn a_running_process_uses_something() {
        let before = usage();
        assert!(before.resident_bytes > 100_000, "{before:?}");
        while usage().cpu == before.cpu {
            std::hint::black_box(resident_bytes());
        }
    }

    #[test]
    fn the_file_limit_is_what_the_system_allows() {
        let limit = raise_file_limit().unwrap_or_default();
        assert!(limit > 0);
        assert_eq!(raise_file_limit().ok(), Some(limit));
    }
}
