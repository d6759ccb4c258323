//! Dependencies: those that each crate may have, and a reason for each in the README.

use super::{Breach, File};

/// Crates that compute without touching the world. A new one is a decision: add it here and to the
/// README.
const ENGINE_MAY_USE: [&str; 15] = [
    "chacha20",
    "crc32fast",
    "data-encoding",
    "flate2",
    "getrandom",
    "httparse",
    "memchr",
    "postcard",
    "proptest",
    "serde",
    "serde_json",
    "simd-json",
    "simdutf8",
    "subtle",
    "tungstenite",
];

pub fn check(file: &File) -> Vec<Breach> {
    let (allowed, why): (&dyn Fn(&str) -> bool, _) = match file.path.as_str() {
        "shards/engine/Cargo.toml" => {
            (&|name| ENGINE_MAY_USE.contains(&name), "the engine may not depend on")
        }
        "shards/driver/Cargo.toml" => {
            (&|name| may_use(name) && !STORAGE.contains(&name), "the driver may not depend on")
        }
        "shards/storage/Cargo.toml" | "shards/cluster/Cargo.toml" => {
            (&|name| may_use(name) || name == REDIS, "a peer of the driver may not depend on")
        }
        path if path.starts_with("shards/") && path.ends_with("/Cargo.toml") => {
            (&|name| may_use(name), "a peer of the driver may not depend on")
        }
        _ => return Vec::new(),
    };
    let unwanted = dependencies(&file.text).into_iter().filter(|(_, name)| !allowed(name));
    unwanted.map(|(line, name)| file.breach(line, format!("{why} {name}"))).collect()
}

/// Crates of this workspace that a crate in `shards` may name. Storage, cluster, trace and driver
/// never name each other.
const OURS: [(&str, &[&str]); 7] = [
    ("shards/engine/Cargo.toml", &[]),
    ("shards/driver/Cargo.toml", &["bandsync-engine"]),
    ("shards/redis/Cargo.toml", &["bandsync-engine"]),
    ("shards/storage/Cargo.toml", &["bandsync-engine", REDIS]),
    ("shards/cluster/Cargo.toml", &["bandsync-engine", REDIS]),
    ("shards/trace/Cargo.toml", &["bandsync-engine"]),
    ("shards/testkit/Cargo.toml", &["bandsync-engine", "bandsync-driver"]),
];

/// The way to Redis, which storage and cluster share because neither may name the other.
const REDIS: &str = "bandsync-redis";

/// A crate for tests. Only tests, `tools` and `perf` may have it.
const TESTKIT: &str = "bandsync-testkit";

/// Checks the crates of this workspace that a manifest names.
pub fn check_ours(file: &File) -> Vec<Breach> {
    if !file.path.ends_with("Cargo.toml") {
        return Vec::new();
    }
    let may_name = OURS.iter().find(|(path, _)| *path == file.path).map(|(_, names)| names);
    let for_tests = ["tools/", "perf/"].iter().any(|folder| file.path.starts_with(folder));
    let is_allowed = |line: usize, name: &str| match name {
        TESTKIT => for_tests || is_for_tests(&file.text, line),
        _ => may_name.is_none_or(|names| names.contains(&name)),
    };
    let ours =
        dependencies(&file.text).into_iter().filter(|(_, name)| name.starts_with("bandsync"));
    let unwanted = ours.filter(|(line, name)| !is_allowed(*line, name));
    unwanted
        .map(|(line, name)| file.breach(line, format!("this crate may not name {name}")))
        .collect()
}

/// Whether a line of a manifest is in a table of dependencies of tests, or of the workspace, which
/// adds none to any crate.
fn is_for_tests(manifest: &str, line: usize) -> bool {
    let tables = manifest.lines().take(line).filter(|line| line.starts_with('['));
    tables.last().is_some_and(|table| table.contains("dev-dep") || table.contains("workspace"))
}

/// Checks that `cargo test` at the top runs every package, and that `cargo run` starts the server.
pub fn check_workspace(files: &[File]) -> Vec<Breach> {
    let Some(manifest) = files.iter().find(|file| file.path == "Cargo.toml") else {
        return Vec::new();
    };
    let list = |key: &str| {
        let line =
            manifest.text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = ["));
        line.unwrap_or_default().split('"').skip(1).step_by(2).collect::<Vec<_>>()
    };
    let defaults = list("default-members");
    let left_out =
        list("members").into_iter().chain(["."]).filter(|member| !defaults.contains(member));
    let mut breaches: Vec<Breach> =
        left_out.map(|member| format!("Cargo.toml: `cargo test` leaves out {member}")).collect();
    if !manifest.text.contains("\ndefault-run = \"bandsync\"\n") {
        breaches.push("Cargo.toml: `cargo run` does not start the server".to_owned());
    }
    breaches
}

/// Checks that testkit is in no release.
pub fn check_testkit(file: &File) -> Vec<Breach> {
    let may = ["tools/Cargo.toml", "perf/Cargo.toml", "Cargo.toml"].contains(&file.path.as_str());
    let is_manifest = file.path.ends_with("Cargo.toml");
    let mut table = "";
    let mut found = Vec::new();
    for (at, line) in file.text.lines().enumerate().filter(|_| is_manifest) {
        let line = line.trim();
        if line.starts_with('[') {
            table = line;
        }
        let is_released = table.ends_with("dependencies]")
            && table != "[dev-dependencies]"
            && table != "[workspace.dependencies]";
        let is_server = file.path == "Cargo.toml";
        if line.starts_with("bandsync-testkit") && is_released && (!may || is_server) {
            found.push(file.breach(at + 1, "testkit is for tests, perf and tools"));
        }
    }
    found
}

/// Crates that store sessions, which the driver must not use.
const STORAGE: [&str; 2] = ["redis", "redb"];

/// Whether a crate above the engine may depend on this one. Those crates never know each other.
fn may_use(name: &str) -> bool {
    ["bandsync-engine", "bandsync-testkit"].contains(&name) || !name.starts_with("bandsync")
}

/// Checks that every dependency of the workspace has a row in the table of `tools/README.md`, in
/// code style. Does nothing without that file.
pub fn check_readme(files: &[File]) -> Vec<Breach> {
    let find = |path: &str| files.iter().find(|file| file.path == path);
    let (Some(readme), Some(manifest)) = (find("tools/README.md"), find("Cargo.toml")) else {
        return Vec::new();
    };
    let missing = dependencies(&manifest.text).into_iter().filter(|(_, name)| {
        let row =
            |line: &str| line.trim_start().starts_with('|') && line.contains(&format!("`{name}`"));
        !name.starts_with("bandsync-") && !readme.text.lines().any(row)
    });
    missing
        .map(|(line, name)| {
            manifest.breach(line, format!("tools/README.md gives no reason for `{name}`"))
        })
        .collect()
}

/// Checks for crates that came with others and are kept out: the tables of Unicode that
/// `idna_adapter` has from 1.1 on (21 crates, for host names that Redis never has), and `colored`,
/// which has another licence than all others.
pub fn check_lock(lock: &str) -> Vec<Breach> {
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let unwanted = names.filter(|name| name.starts_with("icu_") || *name == "colored");
    let remedy = "cargo update -p idna_adapter --precise 1.0.0, and fern without features";
    unwanted.map(|name| format!("Cargo.lock: {name} is back: {remedy}")).collect()
}

/// Returns the names in all dependency tables of a manifest, with the lines of their first mention.
fn dependencies(manifest: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut add = |line: usize, name: &str| {
        if !name.is_empty() && found.iter().all(|(_, known)| known != name) {
            found.push((line, name.to_owned()));
        }
    };
    let mut inside = false;
    for (at, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            inside = table.ends_with("dependencies");
            // [dependencies.name] is a table of its own.
            if let Some((_, name)) = table.rsplit_once("dependencies.") {
                add(at + 1, name);
            }
        } else if inside && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            add(at + 1, name.trim_matches('"'));
        }
    }
    found
}

#[test]
fn a_forbidden_dependency_is_reported() {
    for text in [
        "[dependencies]\nserde.workspace = true\nmio.workspace = true",
        "[dependencies.rand]\nversion = \"1\"",
        "[dev-dependencies]\ntokio = \"1\"",
        "[target.'cfg(unix)'.dependencies]\nlibc = { workspace = true }",
    ] {
        let found = check(&File::new("shards/engine/Cargo.toml", text));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
    }
    assert_eq!(
        check(&File::new("shards/engine/Cargo.toml", "[dependencies]\nserde.workspace = true")),
        [""; 0]
    );
    let driver = |text| check(&File::new("shards/driver/Cargo.toml", text)).len();
    assert_eq!(driver("[dependencies]\nbandsync-engine.workspace = true\nmio.workspace = true"), 0);
    assert_eq!(driver("[dependencies]\nredis = \"1\"\nbandsync = { path = \"../..\" }"), 2);
    let storage = |text| check(&File::new("shards/storage/Cargo.toml", text)).len();
    assert_eq!(storage("[dependencies]\nbandsync-engine.workspace = true\nredis = \"1\""), 0);
    assert_eq!(storage("[dependencies]\nbandsync-driver.workspace = true"), 1);
    assert_eq!(storage("[dependencies]\nbandsync-redis.workspace = true"), 0);
    assert_eq!(storage("[dependencies]\nbandsync-cluster.workspace = true"), 1);
    assert_eq!(driver("[dependencies]\nbandsync-redis.workspace = true"), 1);
}

#[test]
fn a_released_crate_that_depends_on_testkit_is_reported() {
    let found = |path: &str, table: &str| {
        let text = format!("[{table}]\nbandsync-testkit.workspace = true");
        check_testkit(&File::new(path, &text)).len()
    };
    assert_eq!(found("Cargo.toml", "dependencies"), 1);
    assert_eq!(found("shards/driver/Cargo.toml", "dependencies"), 1);
    assert_eq!(found("shards/driver/Cargo.toml", "dev-dependencies"), 0);
    assert_eq!(found("Cargo.toml", "workspace.dependencies"), 0);
    assert_eq!(found("perf/Cargo.toml", "dependencies"), 0);
}

#[test]
fn a_forbidden_dependency_between_our_crates_is_reported() {
    let check = |path: &str, text: &str| check_ours(&File::new(path, text)).len();
    let engine = "[dependencies]\nbandsync-engine.workspace = true\n";
    assert_eq!(check("shards/trace/Cargo.toml", engine), 0);
    let driver = "[dependencies]\nbandsync-driver.workspace = true\n";
    assert_eq!(check("shards/trace/Cargo.toml", driver), 1);
    assert_eq!(check("Cargo.toml", driver), 0);
    for (table, breaches) in [("dependencies", 1), ("dev-dependencies", 0)] {
        let testkit = format!("[{table}]\nbandsync-testkit.workspace = true\n");
        assert_eq!(check("Cargo.toml", &testkit), breaches);
        assert_eq!(check("tools/Cargo.toml", &testkit), 0);
    }
}

#[test]
fn a_dependency_without_a_reason_is_reported() {
    let manifest = File::new(
        "Cargo.toml",
        "[workspace.dependencies]\nmio = \"1\"\nserde = \"1\"\n[package]\nname = \"x\"",
    );
    let readme = File::new("tools/README.md", "serde\n| `mio` | the poll |\nand `serde` elsewhere");
    let found = check_readme(&[manifest, readme]);
    assert_eq!(found, ["Cargo.toml:3: tools/README.md gives no reason for `serde`"]);
}

#[test]
fn cargo_test_and_cargo_run_do_what_the_readme_says() {
    let manifest = |text: &str| check_workspace(&[File::new("Cargo.toml", text)]).len();
    let run = "[package]\ndefault-run = \"bandsync\"\n";
    assert_eq!(
        manifest(&format!("members = [\"tools\"]\ndefault-members = [\".\", \"tools\"]\n{run}")),
        0
    );
    assert_eq!(manifest(&format!("members = [\"tools\"]\ndefault-members = [\".\"]\n{run}")), 1);
    assert_eq!(manifest("members = [\"tools\"]\ndefault-members = [\".\", \"tools\"]\n"), 1);
}

#[test]
fn a_removed_crate_in_the_lock_file_is_reported() {
    let lock = "[[package]]\nname = \"icu_properties\"\n\n[[package]]\nname = \"idna\"\n";
    assert_eq!(check_lock(lock).len(), 1);
    assert_eq!(check_lock("name = \"colored\"").len(), 1);
    assert_eq!(check_lock("name = \"fern\""), [""; 0]);
}
