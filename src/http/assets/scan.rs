//! Splits JavaScript into tokens, only as far as the bundler needs: words, strings, templates,
//! regular expressions, marks and comments.
//!
//! Whether a slash begins a regular expression or divides depends on what is before it. The few
//! places where the token before it does not decide are errors: parentheses make them clear.

use std::fmt;
use std::ops::Range;

/// The kind of a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A name, a keyword or a number.
    Word,
    /// A string in single or double quotes.
    Text,
    /// A part of a template, from a quote or `}` to the next `${` or the closing quote.
    Template,
    /// A regular expression with its flags.
    Regex,
    /// One mark, or `++` or `--`.
    Mark,
    /// A comment of either kind.
    Comment,
}

/// A token of a file.
#[derive(Clone, Debug)]
pub struct Token {
    /// Its kind.
    pub kind: Kind,
    /// Its place in the file, in bytes.
    pub place: Range<usize>,
    /// Brackets and braces that are open around it. A bracket is not inside itself.
    pub depth: usize,
}

/// A file that the bundler cannot read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trouble {
    /// The file, from `src/web`.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The reason and the remedy.
    pub why: String,
}

impl Trouble {
    /// Reports the byte at `at` of a file.
    pub fn at(file: &str, text: &str, at: usize, why: impl Into<String>) -> Self {
        let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Self { file: file.to_owned(), line, why: why.into() }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/web/{}:{}: {}", self.file, self.line, self.why)
    }
}

/// Words after which a slash begins a regular expression. After other words it divides.
const BEFORE_VALUES: [&str; 15] = [
    "return",
    "typeof",
    "case",
    "in",
    "of",
    "delete",
    "void",
    "throw",
    "new",
    "else",
    "do",
    "await",
    "yield",
    "instanceof",
    "default",
];

/// Words whose parentheses are followed by a statement.
const HEADS: [&str; 4] = ["if", "while", "for", "with"];

/// An open bracket: its byte, and whether a statement follows after its end.
struct Open {
    byte: u8,
    is_head: bool,
}

/// The state of a scan.
struct Scan<'a> {
    file: &'a str,
    text: &'a str,
    at: usize,
    open: Vec<Open>,
    tokens: Vec<Token>,
    /// Whether the last token was the end of a head such as `if (…)`.
    after_head: bool,
}

/// Splits a file into its tokens.
///
/// # Errors
/// An end inside a string, a comment or a bracket; a bracket that closes nothing; and a slash whose
/// meaning is not clear.
pub fn scan(file: &str, text: &str) -> Result<Vec<Token>, Trouble> {
    let mut scan =
        Scan { file, text, at: 0, open: Vec::new(), tokens: Vec::new(), after_head: false };
    while let Some(byte) = scan.byte(0) {
        scan.step(byte)?;
    }
    match scan.open.last() {
        Some(open) => {
            Err(scan.trouble(scan.at, format!("{:?} is not closed", char::from(open.byte))))
        }
        None => Ok(scan.tokens),
    }
}

/// Whether a byte may be part of a name or a number. Letters beyond ASCII are.
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

impl Scan<'_> {
    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn trouble(&self, at: usize, why: impl Into<String>) -> Trouble {
        Trouble::at(self.file, self.text, at, why)
    }

    /// Reads the token or the space that begins with `byte`.
    fn step(&mut self, byte: u8) -> Result<(), Trouble> {
        let start = self.at;
        match (byte, self.byte(1)) {
            (b' ' | b'\t' | b'\r' | b'\n', _) => self.at += 1,
            (b'/', Some(b'/')) => {
                let rest = &self.text[start..];
                self.at += rest.find('\n').unwrap_or(rest.len());
                self.push(Kind::Comment, start);
            }
            (b'/', Some(b'*')) => {
                let end = self.text[start + 2..].find("*/");
                let end = end.ok_or_else(|| self.trouble(start, "a comment has no end"))?;
                self.at = start + 2 + end + 2;
                self.push(Kind::Comment, start);
            }
            (b'/', _) if self.begins_regex()? => {
                self.regex()?;
                self.push(Kind::Regex, start);
            }
            (b'"' | b'\'', _) => {
                self.string(byte)?;
                self.push(Kind::Text, start);
            }
            (b'`', _) => self.template(start)?,
            (b'}', _) if self.open.last().is_some_and(|open| open.byte == b'$') => {
                self.open.pop();
                self.template(start)?;
            }
            _ if is_word(byte) => {
                let rest = &self.text.as_bytes()[start..];
                self.at += rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len());
                self.push(Kind::Word, start);
            }
            (b'(' | b'[' | b'{', _) => {
                self.at += 1;
                let is_head =
                    byte == b'(' && self.last_word().is_some_and(|word| HEADS.contains(&word));
                self.push(Kind::Mark, start);
                self.open.push(Open { byte, is_head });
            }
            (b')' | b']' | b'}', _) => {
                self.at += 1;
                let open = self.open.pop().filter(|open| {
                    matches!((open.byte, byte), (b'(', b')') | (b'[', b']') | (b'{', b'}'))
                });
                let open = open.ok_or_else(|| {
                    self.trouble(start, format!("{:?} closes nothing", char::from(byte)))
                })?;
                self.push(Kind::Mark, start);
                self.after_head = open.is_head;
            }
            (b'+' | b'-', Some(next)) if next == byte => {
                self.at += 2;
                self.push(Kind::Mark, start);
            }
            _ => {
                self.at += 1;
                self.push(Kind::Mark, start);
            }
        }
        Ok(())
    }

    fn push(&mut self, kind: Kind, start: usize) {
        if kind != Kind::Comment {
            self.after_head = false;
        }
        self.tokens.push(Token { kind, place: start..self.at, depth: self.open.len() });
    }

    /// Returns the last token that is not a comment.
    fn last(&self) -> Option<&Token> {
        self.tokens.iter().rev().find(|token| token.kind != Kind::Comment)
    }

    fn last_word(&self) -> Option<&str> {
        self.last()
            .filter(|token| token.kind == Kind::Word)
            .map(|token| &self.text[token.place.clone()])
    }

    /// Whether a slash at this place begins a regular expression.
    fn begins_regex(&self) -> Result<bool, Trouble> {
        let Some(last) = self.last() else { return Ok(true) };
        match (last.kind, &self.text[last.place.clone()]) {
            (Kind::Word, word) => {
                let after_dot = self.text[..last.place.start].ends_with('.');
                Ok(!after_dot && BEFORE_VALUES.contains(&word))
            }
            (Kind::Text | Kind::Template | Kind::Regex, _) | (Kind::Mark, "]") => Ok(false),
            (Kind::Mark, ")") => Ok(self.after_head),
            (Kind::Mark, "}" | "++" | "--") => Err(self.trouble(
                self.at,
                "this slash may divide or begin a regular expression: put parentheses around it",
            )),
            _ => Ok(true),
        }
    }

    fn regex(&mut self) -> Result<(), Trouble> {
        let start = self.at;
        let mut in_class = false;
        loop {
            self.at += 1;
            match self.byte(0) {
                None | Some(b'\n') => {
                    return Err(self.trouble(start, "a regular expression has no end"));
                }
                Some(b'\\') => self.at += 1,
                Some(b'[') => in_class = true,
                Some(b']') => in_class = false,
                Some(b'/') if !in_class => break,
                Some(_) => {}
            }
        }
        self.at += 1;
        while self.byte(0).is_some_and(is_word) {
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self, quote: u8) -> Result<(), Trouble> {
        let start = self.at;
        loop {
            self.at += 1;
            match self.byte(0) {
                None | Some(b'\n') => return Err(self.trouble(start, "a string has no end")),
                Some(b'\\') => self.at += 1,
                Some(byte) if byte == quote => break,
                Some(_) => {}
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Reads a part of a template, up to the next expression or its end.
    fn template(&mut self, start: usize) -> Result<(), Trouble> {
        loop {
            self.at += 1;
            match (self.byte(0), self.byte(1)) {
                (None, _) => return Err(self.trouble(start, "a template has no end")),
                (Some(b'\\'), _) => self.at += 1,
                (Some(b'`'), _) => {
                    self.at += 1;
                    self.push(Kind::Template, start);
                    return Ok(());
                }
                (Some(b'$'), Some(b'{')) => {
                    self.at += 2;
                    self.push(Kind::Template, start);
                    self.open.push(Open { byte: b'$', is_head: false });
                    return Ok(());
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> Vec<(Kind, &str)> {
        let tokens = scan("a.js", text).unwrap();
        tokens.iter().map(|token| (token.kind, &text[token.place.clone()])).collect()
    }

    #[track_caller]
    fn check(text: &str, kind: Kind, expected: &[&str]) {
        let found: Vec<&str> =
            parts(text).into_iter().filter(|(one, _)| *one == kind).map(|(_, text)| text).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_slash_divides_or_begins_a_regular_expression() {
        check("a = b / c / d; e[1] / f(2) / 3", Kind::Regex, &[]);
        check("a = /b/g; return /[/\"]\\//u; f(/x/)", Kind::Regex, &["/b/g", "/[/\"]\\//u", "/x/"]);
        check("if (a) /b/.test(c)", Kind::Regex, &["/b/"]);
        check("this.of / 2 / 3", Kind::Regex, &[]);
        check("`${a}` / 2 / `b`", Kind::Regex, &[]);
        check("a // b / c\n/* d */ / e /* f\n */ / g", Kind::Regex, &[]);
        for unclear in ["a = {} / 2 / 3;", "a++ / 2"] {
            assert!(scan("a.js", unclear).unwrap_err().why.contains("parentheses"), "{unclear}");
        }
    }

    #[test]
    fn strings_and_templates_may_hold_anything() {
        check("a('\"', \"it's // {\", '\\'')", Kind::Text, &["'\"'", "\"it's // {\"", "'\\''"]);
        check("`a${ { b: `c${d}` } }e`", Kind::Template, &["`a${", "`c${", "}`", "}e`"]);
        check("`$${a} \\` $`", Kind::Template, &["`$${", "} \\` $`"]);
        check("`a\n// b ${ /* c */ d}`", Kind::Comment, &["/* c */"]);
    }

    #[test]
    fn what_does_not_end_is_reported_with_its_line() {
        for (text, line, why) in [
            ("\n\"abc\n\"", 2, "string"),
            ("\n\n`abc", 3, "template"),
            ("/* abc", 1, "comment"),
            ("a = /abc\n/", 1, "regular expression"),
            ("(\n", 2, "not closed"),
            ("\n(]", 2, "closes nothing"),
            ("`${a`", 1, "template"),
        ] {
            let trouble = scan("a.js", text).unwrap_err();
            assert_eq!(trouble.line, line, "{text}");
            assert!(trouble.why.contains(why), "{}", trouble.why);
        }
    }

    proptest! {
        #[test]
        fn no_text_stops_the_scan(text in "[a-z/*\"'`${}()\\[\\]\\\\\n +é]{0,40}") {
            if let Ok(tokens) = scan("a.js", &text) {
                prop_assert!(tokens.windows(2).all(|two| two[0].place.end <= two[1].place.start));
            }
        }
    }
}
