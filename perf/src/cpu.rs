//! CPU time, memory and cores of a process, as the kernel reports them.

use std::io;

use crate::timer_fd::Nanos;

/// CPU time of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuTime {
    /// CPU time of all living threads, as the scheduler counts it.
    pub total: Nanos,
    /// CPU time in user space, sampled at the kernel's tick. For work that a timer drives it is
    /// only a hint.
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
        // A thread may end meanwhile.
        let Ok(schedule) = std::fs::read_to_string(path.join("schedstat")) else { continue };
        let Ok(stat) = std::fs::read_to_string(path.join("stat")) else { continue };
        time.total += first_number(&schedule);
        time.user += user_ticks(&stat) * 1_000_000_000 / 100;
    }
    Ok(time)
}

/// Reads the CPU time of the threads of process `pid` that have this name.
///
/// # Errors
/// If there is no such process.
pub fn thread_time(pid: u32, name: &str) -> io::Result<Nanos> {
    let mut time = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        // A thread may end meanwhile.
        let Ok(called) = std::fs::read_to_string(path.join("comm")) else { continue };
        let Ok(schedule) = std::fs::read_to_string(path.join("schedstat")) else { continue };
        time += if called.trim_end() == name { first_number(&schedule) } else { 0 };
    }
    Ok(time)
}

/// Reads the CPU time of the calling thread.
///
/// # Errors
/// If the system does not provide it.
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

/// Returns the field `utime`, in hundredths of a second. The name before it may contain spaces and
/// brackets.
fn user_ticks(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().nth(11).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Reads the anonymous memory of a process, in bytes: it is not shared with files or other
/// processes.
///
/// # Errors
/// If there is no such process.
pub fn anonymous_memory(pid: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    Ok(line.map_or(0, first_number) * 1_024)
}

/// Restricts a process, or the calling thread if `pid` is 0, to one core. Its later threads inherit
/// that.
///
/// # Errors
/// If the kernel rejects.
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

/// Runs this process, and those it starts, in real time: all other work of the machine waits.
///
/// # Errors
/// If the system does not permit it.
pub fn run_in_real_time() -> io::Result<()> {
    set_priority(libc::SCHED_FIFO, 1)
}

/// Runs the calling thread in real time, before all that [`run_in_real_time`] has started.
///
/// # Errors
/// If the system does not permit it.
pub fn run_first() -> io::Result<()> {
    set_priority(libc::SCHED_FIFO, 2)
}

/// Shares the processor again, as before [`run_in_real_time`]. Allocates nothing, so it may be
/// called between fork and exec.
///
/// # Errors
/// If the system does not permit it.
pub fn run_in_shared_time() -> io::Result<()> {
    set_priority(libc::SCHED_OTHER, 0)
}

/// Sets the scheduling of the calling thread.
fn set_priority(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: `parameters` outlives the call, which only reads them.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the calling thread's timers fire on time. Otherwise the system may delay them by 50 µs,
/// except in real time.
pub fn wake_on_time() {
    // SAFETY: takes no pointers. If it fails, the timers stay as they were.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// Raises the limit of open files of this process, and of those it starts, to the system's maximum.
pub fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls receive a place that outlives them. If they fail, the limit stays, and the
    // connection that exceeds it reports an error.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// Returns the maximum of open files of a process.
pub fn file_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call receives a place that outlives it. If it fails, the place keeps 0.
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
        // Until the kernel has counted, which it does from time to time.
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
