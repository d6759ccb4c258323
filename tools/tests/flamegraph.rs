//! `./tools/flamegraph` on a machine that has only stand-ins: cargo, perf, apt-get and the server
//! record their calls. The real program draws the picture.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Real programs that the script finds besides the stand-ins.
const COMMON: [&str; 13] = [
    "bash", "cat", "dirname", "env", "grep", "head", "id", "mkdir", "mktemp", "rm", "sed", "seq",
    "touch",
];

const CALLED: &str = "#!/bin/bash\necho \"${0##*/} $*\" >>\"$SCRATCH/calls\"\n";

const PERF: &str = r#"
case "$1" in
  stat) [ -e "$SCRATCH/counters" ] || echo '<not supported> cycles' >&2 ;;
  record)
    [ -e "$SCRATCH/forbidden" ] && { echo 'Permission denied' >&2; exit 255; }
    while [ "$1" != -- ]; do shift; done; shift; [ "$1" = true ] || "$@" ;;
  script) cat <<'END'
bandsync 7 1.000001:    1003009 cpu-clock: 
	55d0c0de1000 bandsync_engine::engine::Engine::handle+0x10 (/x/bandsync)
	55d0c0de2000 bandsync_driver::turn::Turn<N,M>::run+0x20 (/x/bandsync)

bandsync 7 1.001001:    1003009 cpu-clock: 
	ffffffff81000000 tcp_sendmsg+0x10 ([kernel.kallsyms])
	55d0c0de2000 bandsync_driver::turn::Turn<N,M>::run+0x20 (/x/bandsync)

END
esac
exit 0"#;

const SERVER: &str = r#"
[ "$1" = serve ] || exit 0
echo 'open http://127.0.0.1:4711/ there'
trap 'exit 0' TERM
while :; do /bin/sleep 0.05; done"#;

/// Fails unless its arguments play an evening.
const LOAD: &str = r#"
[[ $* = *gig* ]] || exit 0
trap 'exit 0' TERM
while :; do /bin/sleep 0.05; done"#;

/// Has perf only after an update of its lists.
const APT: &str = r#"
[[ $* = *update* ]] && touch "$SCRATCH/lists"
[[ $* = *linux-perf* && -e "$SCRATCH/lists" ]] || exit 100
echo "$PERF" >"$SCRATCH/bin/perf"; chmod +x "$SCRATCH/bin/perf""#;

struct Machine(PathBuf);

impl Machine {
    fn new(name: &str) -> Self {
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("flame-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&scratch);
        let machine = Self(scratch);
        for folder in ["bin", "here", "target/profiling-build/profiling"] {
            fs::create_dir_all(machine.0.join(folder)).unwrap();
        }
        for program in COMMON.iter().chain(&["chmod"]) {
            let found = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(program));
            let found = found.into_iter().find(|path| path.exists()).unwrap();
            symlink(found, machine.0.join("bin").join(program)).unwrap();
        }
        machine.program("bin/cargo", "");
        machine.program("bin/cc", "");
        machine.program("bin/perf", PERF);
        machine.program("bin/sleep", "[ $1 = 0.1 ] && exec /bin/sleep 0.1; exit 0");
        machine.program("target/profiling-build/profiling/bandsync", SERVER);
        machine.program("target/profiling-build/profiling/perf", LOAD);
        let drawing = machine.0.join("target/profiling-build/profiling/tools");
        symlink(env!("CARGO_BIN_EXE_tools"), drawing).unwrap();
        machine
    }

    fn program(&self, path: &str, what: &str) {
        let path = self.0.join(path);
        fs::write(&path, format!("{CALLED}{what}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }

    fn note(&self, name: &str) {
        fs::write(self.0.join(name), "").unwrap();
    }

    fn draw(&self, arguments: &[&str]) -> Output {
        Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("flamegraph"))
            .args(arguments)
            .current_dir(self.0.join("here"))
            .env_clear()
            .env("PATH", self.0.join("bin"))
            .env("SCRATCH", &self.0)
            .env("LINUX_TOOLS", self.0.join("none"))
            .env("PERF", format!("{CALLED}{PERF}"))
            .env("CARGO_TARGET_DIR", self.0.join("target"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Draws, which must succeed, and returns the output, the calls and the picture.
    #[track_caller]
    fn drawn(&self, arguments: &[&str]) -> (String, String, String) {
        let output = self.draw(arguments);
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{printed}");
        let picture = fs::read_to_string(self.0.join("here/flamegraph.svg")).unwrap();
        for part in [
            "bandsync_engine::engine::Engine::handle",
            "bandsync_driver::turn::Turn",
            "tcp_sendmsg",
        ] {
            assert!(picture.contains(part), "{part} is not in the picture");
        }
        (printed, self.calls(), picture)
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.0.join("calls")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const NO_COUNTERS: &str = "no hardware counters here";

#[test]
fn without_arguments_a_band_is_recorded_and_its_replay_profiled() {
    let (printed, calls, _) = Machine::new("band").drawn(&[]);
    assert!(printed.contains(NO_COUNTERS), "{printed}");
    assert!(calls.contains("load --address 127.0.0.1:4711 --seconds 10\n"), "{calls}");
    let line = calls.lines().find(|line| line.contains("replay --repeat 10")).unwrap();
    assert!(
        line.starts_with("perf record --quiet -e cpu-clock") && line.ends_with("/traces"),
        "{line}"
    );
}

#[test]
fn a_relative_path_is_found_and_hardware_counters_are_used_if_available() {
    let machine = Machine::new("trace");
    machine.note("counters");
    machine.note("here/some.trace");
    let (printed, calls, _) = machine.drawn(&["--repeat", "3", "some.trace"]);
    assert!(!printed.contains(NO_COUNTERS), "{printed}");
    let trace = machine.0.join("here/some.trace");
    let replay = format!("bandsync replay --repeat 3 {}\n", trace.display());
    assert!(calls.contains(&replay) && calls.contains("perf record --quiet -e cycles"), "{calls}");
    assert!(!calls.contains("serve") && !calls.contains("load"), "{calls}");
}

#[test]
fn a_live_server_is_profiled_under_load() {
    let machine = Machine::new("load");
    let (_, calls, _) = machine.drawn(&["--seconds", "4", "--load", "--scenario", "gig"]);
    assert!(
        calls.contains("load --address 127.0.0.1:4711 --seconds 9 --scenario gig\n"),
        "{calls}"
    );
    let mut recordings = calls.lines().filter(|line| line.starts_with("perf record"));
    let server = recordings.find(|line| line.contains(" -p ")).unwrap();
    assert!(server.ends_with("-- sleep 4"), "{server}");

    let idle = machine.draw(&["--load", "--scenario", "nothing"]);
    assert_eq!(idle.status.code(), Some(1), "an idle server needs no picture");
}

#[test]
fn a_missing_program_is_installed_although_the_package_lists_are_empty() {
    let machine = Machine::new("bare");
    fs::remove_file(machine.0.join("bin/perf")).unwrap();
    machine.program("bin/apt-get", APT);
    machine.program("bin/sudo", "shift; exec \"$@\"");
    machine.note("here/some.trace");
    let (_, calls, _) = machine.drawn(&["some.trace"]);
    assert!(calls.contains("apt-get -qq update"), "{calls}");

    fs::remove_file(machine.0.join("bin/apt-get")).unwrap();
    fs::remove_file(machine.0.join("bin/perf")).unwrap();
    let rejected = machine.draw(&["some.trace"]);
    let said = String::from_utf8_lossy(&rejected.stderr);
    assert!(rejected.status.code() == Some(1) && said.contains("please install: perf"), "{said}");
}

#[test]
fn without_permission_to_sample_it_names_the_setting_to_change() {
    let machine = Machine::new("forbidden");
    machine.note("forbidden");
    machine.note("here/some.trace");
    let rejected = machine.draw(&["some.trace"]);
    let said = String::from_utf8_lossy(&rejected.stderr);
    assert!(
        rejected.status.code() == Some(1) && said.contains("kernel.perf_event_paranoid"),
        "{said}"
    );
}

#[test]
fn invalid_arguments_are_rejected() {
    let machine = Machine::new("senseless");
    for senseless in
        [&["--what"][..], &["no.trace"], &["--repeat"], &["--repeat", "many"], &["--seconds", "0"]]
    {
        assert_eq!(machine.draw(senseless).status.code(), Some(2), "{senseless:?}");
    }
    assert_eq!(machine.calls(), "", "nothing is built for that");
}
