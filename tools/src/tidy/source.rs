//! Reads just enough Rust to find the names that a file uses: blanks comments and literals, and
//! spells out imports.

/// The code of a file.
pub struct Source {
    /// The text with spaces instead of comments and literals; lines keep their numbers.
    code: String,
}

impl Source {
    pub fn new(text: &str) -> Self {
        Self { code: blank(text) }
    }

    /// Returns the first line of the tests, which end the file.
    pub fn first_test_line(&self) -> usize {
        let tests = self.code.find("#[cfg(test)]");
        tests.map_or(usize::MAX, |at| 1 + self.code[..at].matches('\n').count())
    }

    /// Every path in the code as `(line, "a::b::c")`, a macro's with its `!`. A `use` with braces
    /// yields each of its leaves.
    pub fn paths(&self) -> Vec<(usize, String)> {
        let mut paths = Vec::new();
        let mut rest = 0;
        while let Some(path) = next_path(&self.code, rest) {
            let line = 1 + self.code[..path.start].matches('\n').count();
            let mut name = tight(&self.code[path.clone()]);
            rest = path.end;
            let after = &self.code[rest..];
            if after.starts_with('!') && !after.starts_with("!=") {
                name.push('!');
            }
            if name == "use" {
                let end = self.code[rest..].find(';').map_or(self.code.len(), |at| rest + at);
                paths.extend(leaves(&self.code[rest..end]).into_iter().map(|leaf| (line, leaf)));
                rest = end;
            } else {
                paths.push((line, name));
            }
        }
        paths
    }
}

/// Returns the position of the next `a::b::c`.
fn next_path(code: &str, from: usize) -> Option<std::ops::Range<usize>> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let start = from + code[from..].find(is_name)?;
    let mut end = start;
    loop {
        end += code[end..].find(|c| !is_name(c)).unwrap_or(code.len() - end);
        let after = code[end..].trim_start();
        let Some(next) = after.strip_prefix("::").map(str::trim_start) else { break };
        if !next.starts_with(is_name) {
            break;
        }
        end = code.len() - next.len();
    }
    Some(start..end)
}

fn tight(path: &str) -> String {
    path.split_whitespace().collect()
}

/// Returns the leaves of a tree such as `a::{b, c::{d, e as f}, g::*}`, each from the root.
fn leaves(tree: &str) -> Vec<String> {
    let Some((stem, branches)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![tight(path)];
    };
    let branches = branches.rsplit_once('}').map_or(branches, |(inside, _)| inside);
    let mut found = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in branches.char_indices().chain([(branches.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let branch = &branches[start..at];
                start = at + 1;
                if !branch.trim().is_empty() {
                    found.extend(leaves(&format!("{stem}{branch}")));
                }
            }
            _ => {}
        }
    }
    found
}

/// Replaces comments and literals by spaces.
fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = literal_or_comment(rest, code.chars().last()).unwrap_or(0);
        if length == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        code.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[length..];
    }
    code
}

/// Returns the length of the comment or literal at the front of `rest`; `before` is the character
/// before it.
fn literal_or_comment(rest: &str, before: Option<char>) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest, '"'));
    }
    // A raw string begins a word: the `r` of `for` begins none.
    if !before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        let raw = rest.strip_prefix('b').unwrap_or(rest);
        if let Some(raw) = raw.strip_prefix('r') {
            let hashes = raw.len() - raw.trim_start_matches('#').len();
            if raw[hashes..].starts_with('"') {
                let end = format!("\"{}", "#".repeat(hashes));
                let start = rest.len() - raw.len() + hashes + 1;
                return Some(
                    rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len()),
                );
            }
        }
    }
    // 'a' and '\n' are literals; 'a alone is a lifetime.
    let mut letters = rest.strip_prefix('\'')?.chars();
    let first = letters.next()?;
    (first == '\\' || letters.next() == Some('\'')).then(|| quoted(rest, '\''))
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    rest.len()
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    for (at, _) in rest.char_indices() {
        if rest[at..].starts_with("/*") {
            depth += 1;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            if depth == 0 {
                return at + 2;
            }
        }
    }
    rest.len()
}

#[test]
fn comments_and_literals_are_not_parsed_as_code() {
    let text = "let a = \"x\\\"::y\"; // b::c\nlet d = r#\"e\"f\"#; /* g /* h */ i */ let 'j = '\"'; k('\\'', 'l')";
    let names: Vec<String> = Source::new(text).paths().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["let", "a", "let", "d", "let", "j", "k"]);
}

#[test]
fn imports_are_expanded_to_full_paths() {
    let text = "\nuse a::{b, c::{d, e as f}, g::*};\nfn h() { i::j :: k(); l!() }";
    let paths = Source::new(text).paths();
    let expected = ["a::b", "a::c::d", "a::c::e", "a::g::*", "fn", "h", "i::j::k", "l!"];
    assert_eq!(paths.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), expected);
    assert_eq!(paths.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 2, 2, 2, 3, 3, 3, 3]);
}
