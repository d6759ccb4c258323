//! Text: lines fit the screen, and a doc comment opens with its subject.

use super::{Breach, File};

const COLUMNS_MAX: usize = 100;

/// One line in this many may be longer: a table, or a text that cannot be wrapped.
const LONG_ONE_OF: usize = 200;

/// Words that a doc comment must not open with: they announce the subject instead of naming it.
const OPENINGS: [&str; 7] = ["What", "Who", "How", "Of", "As", "It", "The same"];

/// Checks all Rust files together.
pub fn check(files: &[File]) -> Vec<Breach> {
    let files: Vec<&File> = files.iter().filter(|file| file.is_rust()).collect();
    let mut breaches = long_lines(&files);
    breaches.extend(files.iter().flat_map(|file| openings(file)));
    breaches
}

fn long_lines(files: &[&File]) -> Vec<Breach> {
    let all: usize = files.iter().map(|file| file.text.lines().count()).sum();
    let is_long = |line: &str| line.chars().count() > COLUMNS_MAX;
    let long: Vec<Breach> = (files.iter())
        .flat_map(|file| {
            let lines = file.text.lines().enumerate().filter(|(_, line)| is_long(line));
            lines.map(|(at, _)| file.breach(at + 1, format!("over {COLUMNS_MAX} columns")))
        })
        .collect();
    if long.len() * LONG_ONE_OF <= all {
        return Vec::new();
    }
    let mut breaches = long;
    breaches.push(format!("{} of {all} lines: one in {LONG_ONE_OF} may be", breaches.len()));
    breaches
}

fn openings(file: &File) -> Vec<Breach> {
    let text = format!("a doc comment must not open with {}", OPENINGS.join(", "));
    bad_openings(&file.text).into_iter().map(|line| file.breach(line, text.clone())).collect()
}

/// Lines, counted from 1, of doc comments that do not open with their subject.
fn bad_openings(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut was_doc = false;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let doc = line.strip_prefix("/// ").or_else(|| line.strip_prefix("//! "));
        let opens = |doc: &str| {
            let rest = OPENINGS.iter().find_map(|word| doc.strip_prefix(word));
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '`'))
        };
        if !was_doc && doc.is_some_and(opens) {
            found.push(at + 1);
        }
        was_doc = line.starts_with("///") || line.starts_with("//!");
    }
    found
}

#[test]
fn only_the_first_line_of_a_comment_is_checked() {
    let text =
        "//! What it is.\n\n/// Whatever.\n/// What.\nfn f();\n    /// The same.\n/// A thing.\n";
    assert_eq!(bad_openings(text), [1, 6]);
}

#[test]
fn a_few_lines_may_be_long() {
    let text =
        |long: usize| "\n".repeat(200 - long) + &format!("{}\n", "é".repeat(101)).repeat(long);
    assert_eq!(long_lines(&[&File::new("src/a.rs", &text(1))]).len(), 0);
    assert_eq!(long_lines(&[&File::new("src/a.rs", &text(2))]).len(), 3);
}
