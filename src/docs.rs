//! Tables of `src/README.md` that are generated from the settings and the alert rules.
//!
//! A test compares them. `tools docs` runs it with `DOCS_WRITE=1`, which writes them instead.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use crate::config::table::{Allowed, SETTINGS, Setting};
use crate::monitor::thresholds;

/// The line before a table, and the function that prints the table.
type Table = (&'static str, fn() -> String);

/// All tables.
const TABLES: [Table; 2] = [
    ("<!-- settings, by `tools docs` -->\n", settings),
    ("<!-- alerts, by `tools docs` -->\n", alerts),
];

/// The line after each table.
const END: &str = "<!-- end -->\n";

/// Returns a table of the settings below each heading of `--help`.
fn settings() -> String {
    let mut text = String::new();
    let mut heading = None;
    for setting in SETTINGS {
        if text.is_empty() || setting.heading() != heading {
            heading = setting.heading();
            let title = heading.unwrap_or("For most servers");
            let _ = write!(
                text,
                "\n**{title}**\n\n| variable | default | allowed | meaning |\n|---|---|---|---|\n"
            );
        }
        let option = setting.variable.to_lowercase().replace('_', "-");
        let option = match setting.option {
            own if own == option => String::new(),
            own => format!(" (`--{own}`)"),
        };
        let Setting { variable, help, .. } = setting;
        let default = match (setting.development, setting.production) {
            (same, other) if same == other => value(same),
            (development, production) => {
                format!("{}; in production {}", value(development), value(production))
            }
        };
        let allowed = allowed(setting);
        let _ = writeln!(text, "| `{variable}`{option} | {default} | {allowed} | {help} |");
    }
    text + "\n"
}

/// Returns a number as it is, a word in code style.
fn value(text: &str) -> String {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.to_owned(),
        false => format!("`{text}`"),
    }
}

fn allowed(setting: &Setting) -> String {
    let range = |min: u64, max: u64| {
        let max = match max {
            u64::MAX => "2⁶⁴ − 1".to_owned(),
            max if max == 1 << 40 => "2⁴⁰".to_owned(),
            max => max.to_string(),
        };
        format!("{min} to {max} {}", setting.unit).trim_end().to_owned()
    };
    match setting.allowed {
        Allowed::Whole { min, max } => range(min, max),
        Allowed::WholeOr { word, min, max } => format!("`{word}`, {}", range(min, max)),
        Allowed::OneOf(words) => {
            words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        }
        Allowed::Described(text) => text.to_owned(),
    }
}

/// Returns a row for each alert.
fn alerts() -> String {
    let mut text = "\n| alert | when | for | message |\n|---|---|---|---|\n".to_owned();
    for [name, when, span, message] in thresholds::rows() {
        let _ = writeln!(text, "| {name} | {when} | {span} | {message} |");
    }
    text + "\n"
}

/// The README with its tables as the code has them.
fn filled(readme: &str) -> String {
    let mut text = readme.to_owned();
    for (begin, table) in TABLES {
        let at = text.find(begin).unwrap_or_else(|| panic!("no line {begin}")) + begin.len();
        let length = text[at..].find(END).unwrap_or_else(|| panic!("no end after {begin}"));
        text.replace_range(at..at + length, &table());
    }
    text
}

#[test]
fn the_readme_lists_all_settings_and_alerts() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/README.md");
    let readme = fs::read_to_string(&path).unwrap_or_default();
    let wanted = filled(&readme);
    if env::var_os("DOCS_WRITE").is_some() {
        fs::write(&path, wanted).unwrap_or_else(|error| panic!("{error}"));
    } else {
        let stale = wanted != readme;
        assert!(!stale, "src/README.md is stale: cargo run -p bandsync-tools -- docs");
    }
}

#[test]
fn a_row_has_default_range_unit_and_meaning() {
    let settings = settings();
    let row = |variable: &str| {
        let begin = format!("| `{variable}`");
        settings.lines().find(|line| line.starts_with(&begin)).unwrap_or_default().to_owned()
    };
    assert!(row("LEADER_GRACE").contains("| 10000 | 0 to 600000 ms | Time for which"));
    assert!(row("DATA_DIR").starts_with("| `DATA_DIR` (`--data`) | `auto` | `auto` or"));
    assert!(row("LOG_LEVEL").contains("`info`; in production `warn`"));
    assert!(settings.lines().all(|line| line.is_empty() || !line.contains("||")));
}
