//! The house rules, checked over the whole tree by an ordinary test:
//! `cargo test -p bandsync-tools`.
//!
//! Files are read as text. Each rule is a function from a file, or from the tree, to its breaches.

mod circles;
mod docs;
mod imports;
mod layers;
mod leftovers;
mod locks;
mod manifests;
mod purity;
mod readmes;
mod shape;
mod source;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use source::Source;

use crate::sim::planted;

/// A breach of a rule: `path:line: why`, or `path: why`.
type Breach = String;

/// A file of the tree.
struct File {
    /// Path from the top of the repository, with `/` between the parts.
    path: String,
    text: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    fn has_extension(&self, extensions: &[&str]) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
    }

    fn is_rust(&self) -> bool {
        self.has_extension(&["rs"])
    }

    fn breach(&self, line: usize, why: impl std::fmt::Display) -> Breach {
        format!("{}:{line}: {why}", self.path)
    }
}

#[test]
fn the_house_rules_hold() {
    let top = top();
    let files = files(&top);
    assert!(
        files.iter().any(|file| file.path == "Cargo.toml"),
        "this is not the top: {}",
        top.display()
    );

    let mut breaches = Vec::new();
    for file in &files {
        if file.is_rust() {
            let source = Source::new(&file.text);
            breaches.extend(layers::check(file, &source));
            breaches.extend(locks::check(file, &source));
            breaches.extend(purity::check(file, &source));
            breaches.extend(leftovers::check_rust(file));
            breaches.extend(docs::check(file));
        }
        breaches.extend(leftovers::check(file));
        breaches.extend(manifests::check(file));
        breaches.extend(manifests::check_testkit(file));
        breaches.extend(manifests::check_ours(file));
    }
    breaches.extend(manifests::check_readme(&files));
    breaches.extend(manifests::check_workspace(&files));
    let lock = fs::read_to_string(top.join("Cargo.lock")).expect("a lock file");
    breaches.extend(manifests::check_lock(&lock));
    breaches.extend(shape::check(&files));
    breaches.extend(shape::stale_excuses(&files));
    breaches.extend(imports::check(&files));
    breaches.extend(imports::stale_excuses(&files));
    breaches.extend(text::check(&files));
    breaches.extend(readmes::check(&files, &top));
    breaches.extend(leftovers::check_top(&names(&top)));
    breaches.extend(planted::misplaced(&planted::marked_files(&top).expect("readable files")));
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

/// Returns the top of the repository: where the workspace's manifest is.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn names(directory: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a readable entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Returns all text files that people write: no builds, no packages, no lock files.
fn files(top: &Path) -> Vec<File> {
    const EXTENSIONS: [&str; 10] =
        ["rs", "js", "css", "html", "toml", "md", "sh", "yml", "yaml", "json"];
    let mut files = Vec::new();
    let mut directories = vec![String::new()];
    while let Some(directory) = directories.pop() {
        for name in names(&top.join(&directory)) {
            let is_hidden = name.starts_with('.') && name != ".ci" && name != ".github";
            if is_hidden || ["target", "node_modules", "package-lock.json"].contains(&name.as_str())
            {
                continue;
            }
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            let full = top.join(&path);
            if full.is_dir() {
                directories.push(path);
                continue;
            }
            let file = File { path, text: String::new() };
            // The scripts of the two commands have no extension.
            if file.has_extension(&EXTENSIONS)
                || ["tools/test", "tools/needs", "tools/fresh", ".ci/run"]
                    .contains(&file.path.as_str())
            {
                let text = fs::read_to_string(&full)
                    .unwrap_or_else(|error| panic!("{}: {error}", file.path));
                files.push(File { text, ..file });
            }
        }
    }
    files
}
