//! The process as the operating system knows it, and requests to that system.

use std::ffi::CString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Memory and CPU time of the process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Memory in RAM, in bytes. Without `/proc`, its maximum so far.
    pub resident_bytes: u64,
    /// CPU time of all threads together.
    pub cpu: CpuTime,
}

/// CPU time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CpuTime {
    /// In our own code.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
}

impl CpuTime {
    /// CPU time of both kinds.
    pub fn total(self) -> Duration {
        self.user + self.system
    }

    /// The CPU time since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

/// Reads memory and CPU time. Values that cannot be read are zero.
pub fn usage() -> Usage {
    let totals = resource_usage();
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    let cpu = CpuTime { user: duration(totals.ru_utime), system: duration(totals.ru_stime) };
    Usage { resident_bytes: resident_bytes().unwrap_or(totals.ru_maxrss as u64 * 1_024), cpu }
}

/// The process as `process_*` metrics describe it. Values that cannot be read are `None`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// Address space, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Maximum address space, in bytes; `None` if it is unlimited.
    pub virtual_bytes_max: Option<u64>,
    /// Open files and sockets.
    pub files_open: Option<u64>,
    /// Files and sockets that may be open.
    pub files_max: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Unix time of the process's start, in milliseconds.
    pub started_unix_ms: Option<u64>,
}

/// Reads the facts. This takes several system calls, so no shard calls it.
pub fn facts() -> Facts {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let of_stat = process(&stat);
    let boot_ms = std::fs::read_to_string("/proc/stat")
        .ok()
        .as_deref()
        .and_then(boot_seconds)
        .map(|at| at * 1_000);
    Facts {
        virtual_bytes: of_stat.map(|(_, _, bytes)| bytes),
        virtual_bytes_max: limit(libc::RLIMIT_AS),
        files_open: open_files(),
        files_max: limit(libc::RLIMIT_NOFILE),
        threads: of_stat.map(|(threads, _, _)| threads),
        started_unix_ms: boot_ms
            .zip(of_stat)
            .map(|(boot, (_, ticks, _))| boot + ticks * 1_000 / ticks_per_second()),
    }
}

/// Parses threads, start in ticks since the system's start, and bytes of address space from
/// `/proc/self/stat`.
fn process(stat: &str) -> Option<(u64, u64, u64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse().ok();
    Some((number(17)?, number(19)?, number(20)?))
}

/// Parses the Unix time of the system's start, in seconds, from `/proc/stat`.
fn boot_seconds(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Counts open files. Kernels from 6.2 on know the number; others list the files.
fn open_files() -> Option<u64> {
    let folder = Path::new("/proc/self/fd");
    match std::fs::metadata(folder).ok()?.len() {
        // The list itself is one of the open files.
        0 => std::fs::read_dir(folder).ok().map(|files| files.count().saturating_sub(1) as u64),
        count => Some(count),
    }
}

fn limit(resource: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is ours and of the type that the call fills.
    let known = unsafe { libc::getrlimit(resource, &mut limit) } == 0;
    (known && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

fn ticks_per_second() -> u64 {
    // SAFETY: the call takes a number and returns a number.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1)
}

fn resource_usage() -> libc::rusage {
    // SAFETY: the structure consists of integers, for which zero is a valid value.
    let mut totals: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `totals` is ours and of the type that the call fills. The call does not fail for this
    // argument, and would leave zeros if it did.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut totals) };
    totals
}

fn resident_bytes() -> Option<u64> {
    resident(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Parses the line `VmRSS:     1234 kB`.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// CPU time of a thread since its start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ThreadUsage {
    /// Id in the kernel.
    pub id: u32,
    /// Name, cut to 15 bytes.
    pub name: String,
    /// CPU time of the program.
    pub user: Duration,
    /// CPU time of the kernel.
    pub system: Duration,
}

/// Reads all threads of this process. Returns none without `/proc`.
pub fn threads() -> Vec<ThreadUsage> {
    let Ok(entries) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let stats = entries
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    let ticks = ticks_per_second();
    stats.filter_map(|stat| thread(&stat, ticks)).collect()
}

/// Parses a line such as `12 (shard-0) S …`. The name may contain anything, a parenthesis too, so
/// it ends at the last one.
fn thread(stat: &str, ticks_per_second: u64) -> Option<ThreadUsage> {
    let (head, rest) = stat.rsplit_once(')')?;
    let (id, name) = head.split_once('(')?;
    let mut times = rest.split_ascii_whitespace().skip(11);
    let mut time = || {
        let ticks = times.next()?.parse::<u64>().ok()?;
        Some(Duration::from_millis(ticks.saturating_mul(1_000) / ticks_per_second))
    };
    Some(ThreadUsage {
        id: id.trim().parse().ok()?,
        name: name.to_owned(),
        user: time()?,
        system: time()?,
    })
}

/// Memory that the allocator holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Allocator {
    /// Bytes that it holds, in use or reserved.
    pub committed: u64,
    /// Maximum so far.
    pub committed_peak: u64,
}

/// Asks the allocator for its memory.
pub fn allocator() -> Allocator {
    let (mut committed, mut peak) = (0_usize, 0_usize);
    let none = std::ptr::null_mut;
    // SAFETY: both places are ours and of the type that the call fills; it skips null pointers.
    unsafe {
        libmimalloc_sys::mi_process_info(
            none(),
            none(),
            none(),
            none(),
            none(),
            &mut committed,
            &mut peak,
            none(),
        );
    }
    Allocator { committed: committed as u64, committed_peak: peak as u64 }
}

/// Returns memory to the system that this thread has freed and that no other thread uses.
pub fn trim() {
    // SAFETY: the call only touches free memory.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// Makes the system back this process with ordinary pages only. The allocator asks for huge pages,
/// of which a few used bytes take 2 MiB. Measured: an empty server took 17 MiB instead of 5, and
/// eight members another 4.
pub fn use_small_pages() {
    // SAFETY: the call takes plain numbers and only changes how later pages are allocated. A kernel
    // without huge pages rejects, which is harmless.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}

/// Makes a binary that contains the C library look names up by itself, in `/etc/hosts` and by DNS.
///
/// Otherwise the library would load the machine's modules for other ways (`/etc/nsswitch.conf`),
/// which fit its own version alone. A binary that loads the machine's library is not changed.
pub fn use_own_resolver() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    {
        unsafe extern "C" {
            fn __nss_configure_lookup(
                database: *const libc::c_char,
                ways: *const libc::c_char,
            ) -> libc::c_int;
        }
        // SAFETY: both texts end with a zero, and the library copies them. No other thread runs yet
        // that could look a name up.
        unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
    }
}

/// Raises the number of files and sockets that may be open to the system's limit, and returns it. A
/// connection needs one, and the usual start value of 1024 is meant for programs that use `select`.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is ours and of the type that the call fills.
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

/// Checks that files can be created in this directory.
///
/// # Errors
/// The reason why not.
pub fn may_write(directory: &Path) -> io::Result<()> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a zero and outlives the call, which only reads it.
    match unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends the supervisor a state such as `READY=1` or `STOPPING=1`, if it asks for states (systemd's
/// `Type=notify`). Errors are ignored.
pub fn notify(state: &str) {
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        let _ = send_notice(&path, state);
    }
}

/// Sends the supervisor a sign of life, if it asks for them.
pub fn notify_watchdog() {
    if std::env::var_os("WATCHDOG_USEC").is_some() {
        notify("WATCHDOG=1");
    }
}

fn send_notice(path: &std::ffi::OsStr, state: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let address = match path.as_bytes() {
        // systemd writes an address that is not a file like this.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// Returns the name of this machine.
pub fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Prints on standard error, even if the log is off. A missing reader is not an error.
pub fn print_error(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// Prints on standard output.
pub fn print_line(message: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{message}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t3\n"), Some(1_234 * 1_024));
        assert_eq!(resident("Name:\tx\n"), None);
        assert_eq!(resident("VmRSS: many kB\n"), None);
    }

    #[test]
    fn a_supervisor_is_notified_by_path_and_by_abstract_name() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixDatagram};
        let name = format!("bandsync-test-{}", std::process::id());
        let file = std::env::temp_dir().join(&name);
        let by_file = UnixDatagram::bind(&file).unwrap();
        let by_name =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let mut notice = [0; 16];
        for (socket, path) in
            [(by_file, file.clone().into_os_string()), (by_name, format!("@{name}").into())]
        {
            send_notice(&path, "READY=1").unwrap();
            let length = socket.recv(&mut notice).unwrap();
            assert_eq!(&notice[..length], b"READY=1");
        }
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn thread_usage_is_parsed_despite_brackets_in_the_name() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0";
        let expected = ThreadUsage {
            id: 42,
            name: "a) b (c".into(),
            user: Duration::from_millis(2_500),
            system: Duration::from_millis(500),
        };
        assert_eq!(thread(stat, 100), Some(expected));
        assert_eq!(thread("42 (shard) S 1 2", 100), None);
        assert_eq!(thread("", 100), None);
    }

    #[test]
    fn the_current_thread_is_listed() {
        assert!(threads().iter().any(|thread| thread.id == std::process::id()), "{:?}", threads());
    }

    #[test]
    fn the_allocator_reports_memory_and_can_be_trimmed() {
        let held = vec![1_u8; 1 << 20];
        assert!(allocator().committed >= 1 << 20, "{:?}", allocator());
        drop(held);
        trim();
    }

    #[test]
    fn the_process_uses_no_huge_pages() {
        use_small_pages();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        // Where the kernel has huge pages, it says whether the process uses them.
        let word = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
        assert!(word.is_none_or(|word| word.trim() == "0"), "{status}");
    }

    #[test]
    fn a_running_process_uses_memory_and_cpu_time() {
        let before = usage();
        assert!(before.resident_bytes > 100_000, "{before:?}");
        while usage().cpu == before.cpu {
            std::hint::black_box(resident_bytes());
        }
    }

    #[test]
    fn process_facts_are_current() {
        let facts = facts();
        let held: Vec<std::fs::File> =
            (0..5).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let more = super::facts();
        assert!(facts.threads >= Some(1) && facts.virtual_bytes > Some(1 << 20), "{facts:?}");
        assert!(more.files_open >= Some(5) && more.files_open < more.files_max, "{more:?}");
        drop(held);
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()
                as u64;
        let age = now.abs_diff(facts.started_unix_ms.unwrap());
        assert!(age < 3_600_000, "a test is no hour old: {age} ms");
    }

    #[test]
    fn process_facts_are_parsed_despite_brackets_in_the_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 12 0 4711 65536 3";
        assert_eq!(process(stat), Some((12, 4_711, 65_536)));
        assert_eq!(process("7 (a) S 1 2"), None);
        assert_eq!(boot_seconds("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000));
        assert_eq!(boot_seconds("cpu 1 2\n"), None);
    }

    #[test]
    fn the_file_limit_is_raised_to_the_maximum() {
        let limit = raise_file_limit().unwrap_or_default();
        assert!(limit > 0);
        assert_eq!(raise_file_limit().ok(), Some(limit));
    }
}
