//! The licences of all packages in the server's binary, as one text: `tools licences` writes it,
//! `bandsync licences` prints it, and a test compares it with the packages.
//!
//! Most packages have the same few texts with other names in them. So the notices of copyright are
//! listed with each package, and each text is printed once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use crate::shipped::{self, Package, ShippedError};

/// The file of the text, relative to the top of the repository.
pub const FILE: &str = "src/licences.txt";

/// Beginnings of the names of files with licences, in lower case.
const NAMES: [&str; 3] = ["license", "licence", "notice"];

/// Files of licences that are deeper in a package.
const DEEPER: [(&str, &str); 2] =
    [("libmimalloc-sys", "c_src/mimalloc/v3/LICENSE"), ("ring", "third_party/fiat/LICENSE")];

/// A sentence that only the MIT licence has.
const MIT: &str = "Permission is hereby granted, free of charge";

/// Maximum bytes of a text whose notices are listed apart. Longer texts contain notices as examples.
const SHORT_MAX: usize = 6_000;

/// Maximum columns of a line that is only a title.
const TITLE_MAX: usize = 60;

const HEAD: &str = "\
This program contains the packages below. Each is listed with its licence, the notices of copyright
that its authors ask to repeat, and the numbers of the texts that follow. If a package offers a
choice that includes MIT, that is taken.

rust standard library (MIT OR Apache-2.0): text 1
    Copyright (c) The Rust Project Contributors
";

/// The reason why the text cannot be written.
#[derive(Debug)]
pub enum LicencesError {
    /// The packages cannot be listed.
    Packages(ShippedError),
    /// A package has no text of its licence.
    NoText(String),
    /// A file cannot be read or written.
    File(PathBuf, io::Error),
}

impl fmt::Display for LicencesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packages(error) => error.fmt(f),
            Self::NoText(name) => write!(
                f,
                "{name} contains no text of its licence: look for it in its repository, and use another \
                 package unless it is clear"
            ),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for LicencesError {}

/// Writes the text if it differs from the packages, and returns whether it did. With `check`,
/// changes nothing.
///
/// # Errors
/// If the packages or their licences cannot be read, or the text cannot be written.
pub fn write(top: &Path, check: bool) -> Result<bool, LicencesError> {
    let packages = shipped::packages(top).map_err(LicencesError::Packages)?;
    let wanted = text(&packages)?;
    let path = top.join(FILE);
    if fs::read_to_string(&path).is_ok_and(|present| present == wanted) {
        return Ok(false);
    }
    if !check {
        fs::write(&path, wanted).map_err(|error| LicencesError::File(path, error))?;
    }
    Ok(true)
}

/// The different texts, in order of their first use.
#[derive(Default)]
struct Texts {
    /// The number of each text, by its words.
    numbers: BTreeMap<String, usize>,
    texts: Vec<String>,
}

impl Texts {
    /// Returns the number of a text. Texts that differ in spaces and quotation marks are one.
    fn number(&mut self, text: &str) -> usize {
        let plain = |c: char| if "“”\"'‘’`".contains(c) { '"' } else { c };
        let words: Vec<&str> = text.split_whitespace().collect();
        let key: String = words.join(" ").chars().map(plain).collect();
        *self.numbers.entry(key).or_insert_with(|| {
            self.texts.push(text.to_owned());
            self.texts.len()
        })
    }
}

fn text(packages: &[Package]) -> Result<String, LicencesError> {
    let mut texts = Texts::default();
    let mut list = String::new();
    // Our own licence has the text number 1.
    let (own, others): (Vec<&Package>, Vec<&Package>) =
        packages.iter().partition(|package| package.checksum.is_none());
    let server = own.iter().filter(|package| package.name == "bandsync");
    for package in server.copied().chain(others) {
        let Package { name, version, licence, .. } = package;
        let mut notices = Vec::new();
        let mut numbers = Vec::new();
        for file in files(package)? {
            let (own, body) = split(&file);
            notices.extend(own);
            let number = texts.number(&body);
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
        if numbers.is_empty() {
            return Err(LicencesError::NoText(format!("{name} {version}")));
        }
        let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
        list += &format!("\n{name} {version} ({licence}): text {}\n", numbers.join(", "));
        notices.dedup();
        for notice in notices {
            list += &format!("    {notice}\n");
        }
    }
    let mut text = format!("{HEAD}{list}");
    for (at, body) in texts.texts.iter().enumerate() {
        text += &format!("\n---- text {} ----\n\n{body}\n", at + 1);
    }
    Ok(text)
}

/// Reads the licences of a package that apply.
fn files(package: &Package) -> Result<Vec<String>, LicencesError> {
    let failed = |path: &Path, error| LicencesError::File(path.to_owned(), error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(&package.folder).map_err(|error| failed(&package.folder, error))? {
        let path = entry.map_err(|error| failed(&package.folder, error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_file() && NAMES.iter().any(|begin| name.starts_with(begin)) {
            paths.push(path);
        }
    }
    paths.sort();
    let deeper = DEEPER.iter().filter(|(name, _)| *name == package.name);
    paths.extend(deeper.map(|(_, path)| package.folder.join(path)));
    let read = |path: &PathBuf| fs::read(path).map_err(|error| failed(path, error));
    let texts = paths.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let mut texts: Vec<String> =
        texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    let is_choice = package.licence.contains(" OR ") && !package.licence.contains(" AND ");
    let offers_mit = package.licence.split([' ', '(', ')']).any(|word| word == "MIT");
    if is_choice && offers_mit && texts.iter().any(|text| text.contains(MIT)) {
        texts.retain(|text| text.contains(MIT));
    }
    Ok(texts)
}

/// Splits a text into its notices of copyright, and the rest without title and outer empty lines.
fn split(text: &str) -> (Vec<String>, String) {
    let text = text.replace('\r', "").replace('\t', "    ").replace('\u{c}', "");
    if text.len() > SHORT_MAX {
        return (Vec::new(), text.trim_matches('\n').trim_end().to_owned());
    }
    let is_notice = |line: &str| {
        let line = line.trim_start().to_lowercase();
        line.starts_with("copyright ") && line.chars().any(|c| c.is_ascii_digit() || c == '(')
            || line.starts_with("copyright:")
            || line.starts_with("all rights reserved")
    };
    let is_title = |line: &str| {
        let has_word = ["licen", "MIT"].iter().any(|word| line.contains(word));
        (has_word || line.contains("Licen"))
            && line.len() < TITLE_MAX
            && !line.ends_with(['.', ','])
    };
    let notices = text.lines().filter(|line| is_notice(line)).map(|line| line.trim().to_owned());
    let notices: Vec<String> = notices.collect();
    let mut body: Vec<&str> =
        text.lines().map(str::trim_end).filter(|line| !is_notice(line)).collect();
    while body.first().is_some_and(|line| line.is_empty() || is_title(line) || is_rule(line)) {
        body.remove(0);
    }
    while body.last().is_some_and(|line| line.is_empty()) {
        body.pop();
    }
    body.dedup_by(|one, other| one.is_empty() && other.is_empty());
    (notices, body.join("\n"))
}

/// Whether a line only underlines another.
fn is_rule(line: &str) -> bool {
    line.len() > 2 && line.chars().all(|c| "=-*".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_licences_match_the_packages() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let is_stale = write(&top, true).unwrap_or_else(|error| panic!("{error}"));
        assert!(!is_stale, "{FILE} is stale: cargo run -p bandsync-tools -- licences");
    }

    #[test]
    fn notices_are_listed_apart_and_titles_dropped() {
        let text = "The MIT License (MIT)\n=====\n\nCopyright (c) 2020 Ada\nCopyright 2021 Bo\n\n\n\
                    Permission is granted\nto play.\n\n";
        let (notices, body) = split(text);
        assert_eq!(notices, ["Copyright (c) 2020 Ada", "Copyright 2021 Bo"]);
        assert_eq!(body, "Permission is granted\nto play.");
    }

    #[test]
    fn a_text_that_differs_only_in_spaces_is_the_same() {
        let mut texts = Texts::default();
        assert_eq!(texts.number("the \"software\" is"), 1);
        assert_eq!(texts.number("another"), 2);
        assert_eq!(texts.number("the\n“software”   is"), 1);
    }
}
