//! What the kernel knows of a process: CPU time and memory; and on which cores it may run.

use std::io;

use crate::alarm::Nanos;

/// CPU time of a process so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuTime {
    /// All of it, of all threads that live, as the scheduler counts it.
    pub total: Nanos,
    /// The part in user space, sampled at the kernel's tick: a hint only for work that a timer
    /// drives.
    pub user: Nanos,
}

/// Reads the CPU time of process `pid`.
///
/// # Errors
/// If there is no such process.
pub fn cpu_time(pid: u32) -> io::Result<CpuTime> {
    let mut time = CpuTime::default();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        // A thread may end while we look.
        let Ok(schedule) = std::fs::read_to_string(path.join("schedstat")) else { continue };
        let Ok(stat) = std::fs::read_to_string(path.join("stat")) else { continue };
        time.total += first_number(&schedule);
        time.user += user_ticks(&stat) * 1_000_000_000 / 100;
    }
    Ok(time)
}

/// CPU time so far of the threads of process `pid` that have this name.
///
/// # Errors
/// If there is no such process.
pub fn thread_time(pid: u32, name: &str) -> io::Result<Nanos> {
    let mut time = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        // A thread may end while we look.
        let Ok(called) = std::fs::read_to_string(path.join("comm")) else { continue };
        let Ok(schedule) = std::fs::read_to_string(path.join("schedstat")) else { continue };
        time += if called.trim_end() == name { first_number(&schedule) } else { 0 };
    }
    Ok(time)
}

/// CPU time of the calling thread so far.
///
/// # Errors
/// If the system does not tell.
pub fn own_time() -> io::Result<Nanos> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours and of the type that the call fills.
    match unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } {
        0 => Ok(time.tv_sec as Nanos * 1_000_000_000 + time.tv_nsec as Nanos),
        _ => Err(io::Error::last_os_error()),
    }
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// The field `utime`, in hundredths of a second. The name before it may hold spaces and brackets.
fn user_ticks(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().nth(11).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Memory of a process that is its own, in bytes: not shared with files or other processes.
///
/// # Errors
/// If there is no such process.
pub fn anonymous_memory(pid: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    Ok(line.map_or(0, first_number) * 1_024)
}

/// Lets a process, or the calling thread if `pid` is 0, run on one core only. Its threads to come
/// inherit that.
///
/// # Errors
/// If the kernel refuses.
pub fn pin(pid: u32, core: usize) -> io::Result<()> {
    // SAFETY: a set of bits, for which all zeros is the empty set.
    let mut cores: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: sets a bit within the set; libc checks the bound.
    unsafe { libc::CPU_SET(core, &mut cores) };
    // SAFETY: the size is that of the set, which is only read.
    let result = unsafe {
        libc::sched_setaffinity(pid as libc::pid_t, size_of::<libc::cpu_set_t>(), &raw const cores)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets this process, and those it starts, run before all that is not in real time: what else the
/// machine does waits.
///
/// # Errors
/// If the system does not permit it.
pub fn run_in_real_time() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: `parameters` outlives the call, which only reads them.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets the calling thread's timers fire on time; otherwise the system may put them off by 50 µs.
/// In real time it never does.
pub fn wake_on_time() {
    // SAFETY: takes no pointers. If it fails, the timers stay as they were.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// Lets this process, and those it starts, have as many files open as the system permits at all.
pub fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls are given a place that outlives them. If they fail, the limit stays as it
    // is, and the connection that meets it says so.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// How many files a process may have open at all.
pub fn file_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call is given a place that outlives it. If it fails, 0 is left there.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    usize::try_from(limit.rlim_max).unwrap_or(usize::MAX).clamp(1_024, 1_000_000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_busy_process_uses_cpu_time_and_has_memory() {
        let pid = std::process::id();
        let before = cpu_time(pid).unwrap();
        let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
        let mut sum = 0_u64;
        // Until the kernel has counted, which it does now and then.
        while cpu_time(pid).unwrap().total == before.total
            || thread_time(pid, name.trim_end()).unwrap() == 0
        {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(anonymous_memory(pid).unwrap() > 10_000);
        assert_eq!(thread_time(pid, "no such thread").unwrap(), 0);
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 42 43 0";
        assert_eq!(user_ticks(stat), 42);
    }
}
