//! Parts of documents that are generated from code: `tools docs` writes them, and a test compares
//! them.
//!
//! A part stands between a line that names it and the next end line; people write the text around
//! it. [`PARTS`] lists all parts.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use bandsync_engine::wire::events::{ClientEvent, EVENTS, EventInfo, Scope};
use bandsync_engine::wire::schema::FieldInfo;

use crate::forms::values;
use crate::types;

/// Maximum width of a generated line of code, in characters.
const WIDTH: usize = 100;

/// A part of a file that is generated.
pub struct Part {
    /// The file, relative to the top of the repository.
    pub file: &'static str,
    /// The line before it.
    begin: &'static str,
    /// The line after it.
    end: &'static str,
    text: fn() -> String,
}

/// All parts.
pub const PARTS: [Part; 3] = [
    Part {
        file: "src/README.md",
        begin: "<!-- events, by `tools docs` -->",
        end: "<!-- end -->",
        text: event_table,
    },
    Part {
        file: "src/web/bandsync.js",
        begin: "// events, by `tools docs`",
        end: "// end",
        text: event_sets,
    },
    Part {
        file: "src/web/protocol.d.ts",
        begin: "// events, by `tools docs`",
        end: "// end",
        text: types::text,
    },
];

/// The reason why a part cannot be written.
#[derive(Debug)]
pub enum DocsError {
    /// The file cannot be read or written.
    File(PathBuf, io::Error),
    /// The file lacks one of the two lines around the part.
    NoPlace(PathBuf, &'static str),
}

impl fmt::Display for DocsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::NoPlace(path, line) => {
                write!(f, "{} has no line `{line}`: add it where the part belongs", path.display())
            }
        }
    }
}

impl std::error::Error for DocsError {}

/// Writes every part that differs from its source, and returns the changed files. With `check`,
/// changes nothing.
///
/// # Errors
/// If a file cannot be read or written, or has no place for its part.
pub fn write(top: &Path, check: bool) -> Result<Vec<&'static str>, DocsError> {
    let mut changed = Vec::new();
    for part in &PARTS {
        let path = top.join(part.file);
        let failed = |error| DocsError::File(path.clone(), error);
        let present = fs::read_to_string(&path).map_err(failed)?;
        let wanted =
            part.put_into(&present).map_err(|line| DocsError::NoPlace(path.clone(), line))?;
        if wanted == present {
            continue;
        }
        changed.push(part.file);
        if !check {
            fs::write(&path, wanted).map_err(failed)?;
        }
    }
    Ok(changed)
}

impl Part {
    /// Returns the file's text with the generated part.
    ///
    /// # Errors
    /// The missing line.
    fn put_into(&self, text: &str) -> Result<String, &'static str> {
        let begin = format!("{}\n", self.begin);
        let at = text.find(&begin).ok_or(self.begin)? + begin.len();
        let length = text[at..].find(&format!("{}\n", self.end)).ok_or(self.end)?;
        Ok(format!("{}{}{}", &text[..at], (self.text)(), &text[at + length..]))
    }
}

/// Returns the table of the events that clients send.
fn event_table() -> String {
    let mut table = String::from("\n| event | fields | meaning |\n|---|---|---|\n");
    for info in EVENTS {
        let fields: Vec<String> = fields_of(info).map(field).collect();
        let fields = if fields.is_empty() { "–".to_owned() } else { fields.join("; ") };
        table += &format!("| `{}` | {fields} | {} |\n", info.event.name(), info.summary);
    }
    table + "\n"
}

/// Returns the fields of an event, without `sessionId`, which every event of a session has.
fn fields_of(info: &EventInfo) -> impl Iterator<Item = &'static FieldInfo> {
    let is_in_session = info.scope == Scope::Session;
    info.fields.iter().filter(move |field| !(is_in_session && field.name == "sessionId"))
}

fn field(field: &FieldInfo) -> String {
    let mark = if field.presence.is_optional() { "?" } else { "" };
    // A vertical bar would end the cell.
    let values = values(&field.schema.form).replace('|', "\\|");
    format!("`{}`{mark} {values}", field.name)
}

/// Returns the events with the fields that many share, as sets of JavaScript.
fn event_sets() -> String {
    let once = event_set("APPLIED_ONCE", ClientEvent::is_applied_once);
    let timed = event_set("TIMED", ClientEvent::is_timed);
    let (about_once, about_timed) = (
        "Events that the server applies once, by their `commandId`.",
        "Events with a time after which the server rejects them, `notAfterServerMs`.",
    );
    format!("/** {about_once} */\n{once}/** {about_timed} */\n{timed}")
}

fn event_set(constant: &str, has: fn(ClientEvent) -> bool) -> String {
    let names = EVENTS.iter().map(|info| info.event).filter(|event| has(*event));
    let mut text = format!("const {constant} = new Set([\n ");
    let mut width = 1;
    for name in names.map(|event| format!(" \"{}\",", event.name())) {
        if width + name.len() > WIDTH {
            text += "\n ";
            width = 1;
        }
        width += name.len();
        text += &name;
    }
    text + "\n]);\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn documents_match_the_code() {
        let stale = write(&top(), true).expect("places for all parts");
        assert!(stale.is_empty(), "write {stale:?} anew: cargo run -p bandsync-tools -- docs");
    }

    #[test]
    fn a_stale_table_of_events_is_rewritten() {
        let row = |event: &str| event_table().lines().any(|row| row.starts_with(event));
        assert!(row("| `play` | `atServerMs`? "), "{}", event_table());
        let part = &PARTS[0];
        let stale = format!("before\n{}\n| `play` |\n{}\nafter\n", part.begin, part.end);
        let fresh = part.put_into(&stale).expect("a place");
        assert_ne!(fresh, stale);
        assert_eq!(
            part.put_into(&fresh).expect("a place"),
            fresh,
            "a second write changes nothing"
        );
        assert!(fresh.starts_with("before\n") && fresh.ends_with("\nafter\n"));
    }

    #[test]
    fn a_file_without_a_marker_line_is_reported_with_that_line() {
        assert_eq!(PARTS[0].put_into("nothing"), Err(PARTS[0].begin));
        assert_eq!(PARTS[0].put_into(&format!("{}\n", PARTS[0].begin)), Err(PARTS[0].end));
    }

    #[test]
    fn only_events_that_change_state_are_in_the_sets() {
        let sets = event_sets();
        assert_eq!(sets.matches("\"play\"").count(), 2);
        assert_eq!(sets.matches("\"chat_message\"").count(), 1, "chat has no time limit");
        assert!(!sets.contains("\"clock_sync\""));
        assert!(sets.lines().all(|line| line.len() <= WIDTH));
    }
}
