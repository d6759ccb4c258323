//! The file `.env`: settings that belong to a working directory.

use std::collections::BTreeMap;
use std::{fmt, fs, io};

/// The reason why `.env` cannot be used.
#[derive(Debug, Eq, PartialEq)]
pub enum DotEnvError {
    /// The file exists but cannot be read, for this reason.
    Unreadable(String),
    /// This line, counted from 1, is not an assignment.
    Line(usize),
}

impl fmt::Display for DotEnvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(
                f,
                ".env line {line} cannot be read; allowed: NAME=value, a comment, an empty line"
            ),
            Self::Unreadable(reason) => write!(f, ".env cannot be read: {reason}"),
        }
    }
}

impl std::error::Error for DotEnvError {}

/// Reads the file of the working directory. Returns nothing if there is none.
pub fn read() -> Result<BTreeMap<String, String>, DotEnvError> {
    match fs::read_to_string(".env") {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(DotEnvError::Unreadable(error.to_string())),
    }
}

/// Parses assignments with quotes and comments. If a name appears twice, the last value counts.
fn parse(text: &str) -> Result<BTreeMap<String, String>, DotEnvError> {
    let text = text.trim_start_matches('\u{feff}');
    dotenvy::from_read_iter(text.as_bytes()).collect::<Result<_, _>>().map_err(
        |error| match error {
            dotenvy::Error::LineParse(line, _) => DotEnvError::Line(number(text, &line)),
            other => DotEnvError::Unreadable(other.to_string()),
        },
    )
}

/// Finds the number of a line. The parser returns the line's text, or only its value; both may hold
/// a secret and are never shown.
fn number(text: &str, line: &str) -> usize {
    let first = line.lines().next().unwrap_or_default().trim();
    let is_it = |other: &str| !other.starts_with('#') && other.ends_with(first);
    1 + text.lines().position(|other| is_it(other.trim())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The file may belong to any other program.
        #[test]
        fn any_text_is_parsed_or_rejected_with_an_existing_line(text in "[A-Z=${}'\"\\\\# a-zé\n\r\u{feff}]{0,80}") {
            if let Err(DotEnvError::Line(line)) = parse(&text) {
                prop_assert!((1..=text.lines().count()).contains(&line), "line {}", line);
            }
        }
    }

    fn check(text: &str, expected: &[(&str, &str)]) {
        let expected =
            expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(parse(text), Ok(expected), "{text:?}");
    }

    #[test]
    fn it_parses_common_env_files() {
        check("", &[]);
        check("# a comment\n\nPORT=4000\r\n", &[("PORT", "4000")]);
        check("\u{feff}PORT=4000", &[("PORT", "4000")]);
        check(
            "export HOST='all' # everywhere\nCORS_ORIGIN=\"*\"",
            &[("HOST", "all"), ("CORS_ORIGIN", "*")],
        );
        check("PORT=1\nPORT=2", &[("PORT", "2")]);
        check("PORT=", &[("PORT", "")]);
    }

    #[test]
    fn a_line_without_an_assignment_is_reported() {
        assert_eq!(parse("PORT=1\n\nthis is no assignment\n"), Err(DotEnvError::Line(3)));
        assert_eq!(parse("A=1\nREDIS_PASSWORD='open\n"), Err(DotEnvError::Line(2)));
        assert_eq!(parse("A=1\n# a b c\nREDIS_PASSWORD=a b c\n"), Err(DotEnvError::Line(3)));
    }
}
