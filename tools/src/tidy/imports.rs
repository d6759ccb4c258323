//! Imports: no circle of files, no file of another folder under a name of its own, and no copy of
//! what a shard lends.

use std::collections::{BTreeMap, BTreeSet};

use super::circles::circles;
use super::source::Source;
use super::{Breach, File};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rule {
    /// Files do not import each other in a circle. A file may use what the `mod.rs` above it
    /// defines.
    Circle,
    /// A module's file is where its name says.
    Path,
    /// Settings and limits are lent, not copied.
    Copy,
}

/// Allowed exceptions: the rule, the beginning of the file's path, and the reason. An excuse that
/// is not needed is a breach.
const EXCUSES: &[(Rule, &str, &str)] = &[
    (Rule::Path, "shards/driver/src/lib.rs", "one of two rings, by the system"),
    (Rule::Path, "shards/driver/tests/", "loopback tests that run over two rings"),
    (Rule::Copy, "shards/trace/", "the header of a trace and its reader own theirs"),
    (Rule::Copy, "shards/testkit/", "each engine of a test owns its settings"),
];

/// Checks all files.
pub fn check(files: &[File]) -> Vec<Breach> {
    let found = found(files);
    let excused = |rule: Rule, path: &str| {
        EXCUSES.iter().any(|(of, prefix, _)| *of == rule && path.starts_with(prefix))
    };
    let open = found.iter().filter(|(rule, path, _)| !excused(*rule, path));
    open.map(|(.., breach)| breach.clone()).collect()
}

/// Excuses that are no longer needed.
pub fn stale_excuses(files: &[File]) -> Vec<Breach> {
    let found = found(files);
    let needed = |rule: Rule, prefix: &str| {
        found.iter().any(|(of, path, _)| *of == rule && path.starts_with(prefix))
    };
    let stale = EXCUSES.iter().filter(|(rule, prefix, _)| !needed(*rule, prefix));
    stale
        .map(|(rule, prefix, _)| {
            format!("tools/src/tidy/imports.rs: {prefix} needs no excuse for {rule:?}")
        })
        .collect()
}

/// Every breach, with its rule and the file.
fn found(files: &[File]) -> Vec<(Rule, String, Breach)> {
    let mut all = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        for (at, line) in file.text.lines().enumerate() {
            let code = line.trim_start();
            let mut add = |rule, why| {
                all.push((rule, file.path.clone(), file.breach(at + 1, why)));
            };
            if code.starts_with(concat!("#[pa", "th =")) {
                add(Rule::Path, "a module's file is where its name says");
            }
            let copies = ["settings.clone()", "limits.clone()"].iter();
            if file.path.starts_with("shards/") && !is_test(file) {
                copies
                    .filter(|copy| code.contains(**copy))
                    .for_each(|_| add(Rule::Copy, "a shard lends its settings and limits"));
            }
        }
    }
    for circle in circles(&edges(files)) {
        let breach = format!("these import each other in a circle: {}", circle.join(", "));
        all.push((Rule::Circle, circle[0].clone(), breach));
    }
    all
}

fn is_test(file: &File) -> bool {
    file.path.contains("/tests/") || file.path.ends_with("/tests.rs")
}

/// A file as a module: the folder of its crate, and the names that lead to it.
type Module = (String, Vec<String>);

/// Returns the module of a file, if it belongs to a library or to the server.
fn module(path: &str) -> Option<Module> {
    let folder = path.split_once("src/").map(|(before, _)| format!("{before}src/"))?;
    let inside = path.strip_prefix(&folder)?.strip_suffix(".rs")?;
    let mut names: Vec<String> = inside.split('/').map(str::to_owned).collect();
    names.pop_if(|last| *last == "mod");
    if names == ["lib"] || names == ["main"] {
        names.clear();
    }
    (names.first().is_none_or(|first| first != "bin")).then_some((folder, names))
}

/// Returns the files that each file imports from, outside its tests.
fn edges(files: &[File]) -> BTreeMap<String, BTreeSet<String>> {
    let product = || files.iter().filter(|file| file.is_rust() && !is_test(file));
    let modules: BTreeMap<Module, &str> =
        product().filter_map(|file| Some((module(&file.path)?, file.path.as_str()))).collect();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in product() {
        let Some((folder, own)) = module(&file.path) else { continue };
        let source = Source::new(&file.text);
        let tests = source.first_test_line();
        for (_, path) in source.paths().into_iter().filter(|(line, _)| *line < tests) {
            let Some(mut names) = absolute(&path, &own, |names| {
                modules.contains_key(&(folder.clone(), names.to_vec()))
            }) else {
                continue;
            };
            // The longest beginning that is a module; the rest is an item of it.
            while !modules.contains_key(&(folder.clone(), names.clone())) && names.pop().is_some() {
            }
            let is_above = names.len() < own.len() && own.starts_with(&names);
            let target = modules.get(&(folder.clone(), names)).filter(|_| !is_above);
            if let Some(target) = target.filter(|target| **target != file.path) {
                edges.entry(file.path.clone()).or_default().insert((*target).to_owned());
            }
        }
    }
    edges
}

/// Resolves a path in the module `own` to names from the crate's root.
fn absolute(
    path: &str,
    own: &[String],
    is_module: impl Fn(&[String]) -> bool,
) -> Option<Vec<String>> {
    let mut steps: Vec<String> = path.split("::").map(str::to_owned).collect();
    let mut base = own.to_vec();
    match steps.first()?.as_str() {
        "crate" => return Some(steps.split_off(1)),
        "self" | "super" => {}
        child => {
            base.push(child.to_owned());
            let is_path = steps.len() > 1 && is_module(&base);
            base.extend(steps.drain(1..));
            return is_path.then_some(base);
        }
    }
    while steps.first().is_some_and(|step| step == "super" || step == "self") {
        if steps.remove(0) == "super" {
            base.pop();
        }
    }
    base.extend(steps);
    Some(base)
}

#[cfg(test)]
fn breaches(files: &[(&str, &str)]) -> Vec<Breach> {
    check(&files.iter().map(|(path, text)| File::new(path, text)).collect::<Vec<_>>())
}

#[test]
fn a_circle_of_imports_is_reported() {
    let mut files = [
        ("shards/x/src/lib.rs", "mod a; mod b;"),
        ("shards/x/src/a/mod.rs", "mod c; use crate::b::B; fn f() { c::g(); }"),
        ("shards/x/src/a/c.rs", "use super::A; fn g() {}"),
        ("shards/x/src/b.rs", "use super::a::c::g;"),
    ];
    assert_eq!(breaches(&files).len(), 0, "a file may use what is defined above it");
    files[2].1 = "use crate::b::B; fn g() {}";
    assert_eq!(breaches(&files).len(), 1);
    files[2].1 = "#[cfg(test)]\nmod tests { use crate::b::B; }";
    assert_eq!(breaches(&files).len(), 0, "tests may look anywhere");
}

#[test]
fn path_attributes_and_copied_limits_are_reported() {
    let path = concat!("#[pa", "th = \"c.rs\"]\nmod b;");
    assert_eq!(breaches(&[("shards/x/src/a.rs", path)]).len(), 1);
    assert_eq!(breaches(&[("shards/driver/src/lib.rs", path)]).len(), 0);
    let copy = "let limits = self.limits.clone();";
    assert_eq!(breaches(&[("shards/x/src/a.rs", copy)]).len(), 1);
    assert_eq!(breaches(&[("shards/x/src/tests.rs", copy), ("src/a.rs", copy)]).len(), 0);
}
