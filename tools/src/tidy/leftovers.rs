//! Nothing unfinished, too long, or in the wrong place.

use super::{Breach, File};

/// Maximum lines of a file. Guessed: enough for files that grew when lines became narrower (100
/// columns).
const LINES_MAX: usize = 1400;

/// Words that mark unfinished work. Written in two parts, since this file is checked too.
const LEFTOVERS: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
];

/// Words that exclude a JavaScript test, or all but one, from the run.
const UNTESTED: [&str; 3] = [concat!(".on", "ly("), concat!(".sk", "ip("), concat!(".to", "do(")];

/// The only place that may skip: a test that cannot run gives a reason, and CI counts it.
const SKIPS: &str = "tests/js/support/skips.js";

const TOP: [&str; 9] =
    ["Cargo.toml", "Cargo.lock", "src", "shards", "tests", "perf", "tools", "README.md", "target"];

/// Checks a file of any kind.
pub fn check(file: &File) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let lines = file.text.lines().count();
    if lines >= LINES_MAX && !file.has_extension(&["json"]) {
        breaches.push(file.breach(lines, format!("a file has fewer than {LINES_MAX} lines")));
    }
    let is_test =
        file.path.starts_with("tests/") && file.has_extension(&["js"]) && file.path != SKIPS;
    for (at, line) in file.text.lines().enumerate() {
        let left = LEFTOVERS.iter().filter(|word| has_word(line, word));
        let untested = UNTESTED.iter().filter(|call| is_test && line.contains(**call));
        breaches.extend(
            left.chain(untested).map(|word| file.breach(at + 1, format!("left open: {word}"))),
        );
    }
    breaches
}

/// Checks a Rust file.
pub fn check_rust(file: &File) -> Vec<Breach> {
    let ignored = concat!("#[ign", "ore");
    let mut breaches: Vec<Breach> = (file.text.lines().enumerate())
        .filter(|(_, line)| line.contains(ignored))
        .map(|(at, _)| file.breach(at + 1, "a test that is not run is no test"))
        .collect();
    if !file.text.starts_with("//!") {
        breaches.push(file.breach(1, "a file says in its first line what it is: `//! …`"));
    }
    breaches
}

/// Checks the names at the top of the repository.
pub fn check_top(names: &[String]) -> Vec<Breach> {
    let belongs =
        |name: &str| TOP.contains(&name) || name.starts_with("LICENSE") || name.starts_with('.');
    let strange = names.iter().filter(|name| !belongs(name));
    strange.map(|name| format!("{name}: does not belong at the top")).collect()
}

/// Whether the line contains the word by itself.
fn has_word(line: &str, word: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_letter) && !after.is_some_and(is_letter)
    })
}

#[test]
fn leftover_words_and_skipped_tests_are_reported() {
    for word in LEFTOVERS {
        let found = check(&File::new("src/main.rs", &format!("fn f() {{}}\n// {word} later")));
        assert_eq!(found, [format!("src/main.rs:2: left open: {word}")]);
    }
    assert_eq!(check(&File::new("src/main.rs", "let METHODOLOGY = HACKNEY;")), [""; 0]);
    for call in UNTESTED {
        let text = format!("test{call}\"x\")");
        assert_eq!(check(&File::new("tests/js/integration/a.test.js", &text)).len(), 1);
        assert_eq!(check(&File::new("src/main.rs", &text)).len(), 0, "iterators may pass over");
        assert_eq!(check(&File::new(SKIPS, &text)).len(), 0, "one place may skip");
    }
}

#[test]
fn a_long_file_is_reported() {
    let text = |lines| "x\n".repeat(lines);
    assert_eq!(check(&File::new("src/web/app.js", &text(LINES_MAX))).len(), 1);
    assert_eq!(check(&File::new("src/web/app.js", &text(LINES_MAX - 1))).len(), 0);
}

#[test]
fn a_rust_file_without_a_header_or_with_an_ignored_test_is_reported() {
    assert_eq!(check_rust(&File::new("src/main.rs", "fn main() {}")).len(), 1);
    let text = concat!("//! Main.\n#[test]\n#[ign", "ore]\nfn f() {}");
    assert_eq!(check_rust(&File::new("src/main.rs", text)).len(), 1);
    assert_eq!(check_rust(&File::new("src/main.rs", "//! Main.\nfn main() {}")).len(), 0);
}

#[test]
fn an_unexpected_file_at_the_top_is_reported() {
    let names =
        ["Cargo.toml", "src", ".gitignore", "LICENSE-MIT", "notes.txt", "docs"].map(String::from);
    assert_eq!(check_top(&names).len(), 2);
}
