//! The page at `/`, with the names of the joined files in it.

use super::scan::Trouble;

/// The page's own text.
const PAGE: &str = "index.html";

/// The beginnings and ends of the lines that name styles and the script.
const STYLE: [&str; 2] = ["<link rel=\"stylesheet\" href=\"/", "\">"];
const SCRIPT: [&str; 2] = ["<script type=\"module\" src=\"/", "\"></script>"];

/// Parts of a line that names a style or a module in another form.
const OTHERS: [&str; 2] = ["rel=\"stylesheet\"", "type=\"module\""];

/// The files that the page names.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Named {
    /// Styles, in their order.
    pub styles: Vec<String>,
    /// The module that begins.
    pub entry: String,
}

/// Finds the files that the page names.
///
/// # Errors
/// A style or module in another form, or another number of modules than one.
pub fn named(text: &str) -> Result<Named, Trouble> {
    let mut named = Named::default();
    for (at, line) in text.lines().enumerate() {
        let trouble = |why: &str| Trouble { file: PAGE.to_owned(), line: at + 1, why: why.into() };
        if let Some(path) = between(line, STYLE) {
            named.styles.push(path.to_owned());
        } else if let Some(path) = between(line, SCRIPT) {
            if !named.entry.is_empty() {
                return Err(trouble("the page begins with one module"));
            }
            named.entry = path.to_owned();
        } else if OTHERS.iter().any(|other| line.contains(other)) {
            return Err(trouble(
                "write a style or module as on a line of its own: \
                <link rel=\"stylesheet\" href=\"/a.css\"> or <script type=\"module\" src=\"/a.js\"></script>",
            ));
        }
    }
    match named.entry.is_empty() {
        true => Err(Trouble { file: PAGE.to_owned(), line: 1, why: "it names no module".into() }),
        false => Ok(named),
    }
}

/// Returns the part of a line between its beginning and its end.
fn between<'a>(line: &'a str, [start, end]: [&str; 2]) -> Option<&'a str> {
    let path = line.trim().strip_prefix(start)?.strip_suffix(end)?;
    (!path.contains('"')).then_some(path)
}

/// Returns the page with the joined script and style instead of their parts.
pub fn with_joined(text: &str, script: &str, style: &str) -> String {
    let mut out = String::new();
    let mut has_style = false;
    for line in text.lines() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if between(line, STYLE).is_some() {
            if !std::mem::replace(&mut has_style, true) {
                out.push_str(&format!("{indent}<link rel=\"stylesheet\" href=\"{style}\">\n"));
            }
        } else if between(line, SCRIPT).is_some() {
            out.push_str(&format!("{indent}<script type=\"module\" src=\"{script}\"></script>\n"));
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// Joins styles, without comments and indentation.
///
/// # Errors
/// An address that is relative to the file, or a style that includes another.
pub fn join_styles(files: &[(&str, &str)]) -> Result<String, Trouble> {
    let mut out = String::new();
    for (path, text) in files {
        out.push_str(&format!("/* {path} */\n"));
        let bare = without_comments(path, text)?;
        for (at, line) in bare.lines().enumerate() {
            let trouble =
                |why: &str| Trouble { file: (*path).into(), line: at + 1, why: why.into() };
            if line.contains("@import") {
                return Err(trouble("name each style in index.html instead of including it"));
            }
            for (_, address) in line.match_indices("url(").map(|(at, _)| line.split_at(at + 4)) {
                let address = address.trim_start_matches(['"', '\'']);
                if !["/", "#", "data:"].iter().any(|start| address.starts_with(start)) {
                    return Err(trouble("an address in a style begins with a slash"));
                }
            }
            let line = line.trim();
            if !line.is_empty() {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    Ok(out)
}

/// Returns a style without its comments, except for their line breaks.
fn without_comments(path: &str, text: &str) -> Result<String, Trouble> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\'', '/']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let place = text.len() - from.len();
        if let Some(inside) = from.strip_prefix("/*") {
            let end = inside.find("*/");
            let end = end.ok_or_else(|| Trouble::at(path, text, place, "a comment has no end"))?;
            out.extend(inside[..end].matches('\n'));
            rest = &inside[end + 2..];
        } else if let Some(after) = from.strip_prefix('/') {
            out.push('/');
            rest = after;
        } else {
            let end = string_end(from);
            let end = end.ok_or_else(|| Trouble::at(path, text, place, "a string has no end"))?;
            out.push_str(&from[..end]);
            rest = &from[end..];
        }
    }
    Ok(out + rest)
}

/// Returns the length of the string that the text begins with.
fn string_end(text: &str) -> Option<usize> {
    let quote = text.chars().next()?;
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '\n' => return None,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}
