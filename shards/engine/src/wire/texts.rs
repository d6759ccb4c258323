//! Texts that other members see: without control characters, trimmed, and then measured or cut.

use std::borrow::Cow;

use super::json::Field;
use super::scan;
use crate::speech::{Message, Reject};
use crate::words::text::is_control;

/// Reads a text for other members' screens, and cuts it if it is too long.
pub fn cut_text(field: Field<'_>, chars_max: usize, lines: Lines) -> Result<Message, Reject> {
    let text = field.text().map_err(|_| field.wrong("must be a text"))?;
    let mut text = printable(&text, lines).trim().to_owned();
    // No text has more characters than bytes.
    let is_long = text.len() > chars_max;
    let end = if is_long { text.char_indices().nth(chars_max).map(|(end, _)| end) } else { None };
    if let Some(end) = end {
        text.truncate(text[..end].trim_end().len());
    }
    Ok(Message { text, cut: end.is_some() })
}

/// Reads a text of one line with this many characters.
pub fn line(field: Field<'_>, chars_min: usize, chars_max: usize) -> Result<String, Reject> {
    text(field, chars_min, chars_max, Lines::One)
}

/// Reads a text for other members' screens: printable, trimmed, and only then measured.
fn text(
    field: Field<'_>,
    chars_min: usize,
    chars_max: usize,
    lines: Lines,
) -> Result<String, Reject> {
    let text = field.text().ok().map(|text| printable(&text, lines).trim().to_owned());
    let text = text.filter(|text| (chars_min..=chars_max).contains(&text.chars().count()));
    text.ok_or_else(|| {
        field.wrong(format!("must be a text of {chars_min} to {chars_max} characters"))
    })
}

/// The lines that a text may have.
#[derive(Clone, Copy)]
pub enum Lines {
    /// One line.
    One,
    /// Several lines.
    Many,
    /// Several lines, with tabs for alignment.
    Chart,
}

/// Returns the text without control characters. A space replaces one that kept words apart.
pub fn printable(text: &str, lines: Lines) -> Cow<'_, str> {
    let Some(index) = first_other(text, lines) else { return Cow::Borrowed(text) };
    let (mut printable, mut rest) = (String::with_capacity(text.len()), text);
    let mut index = Some(index);
    while let Some(at) = index {
        let (same, other) = rest.split_at(at);
        printable.push_str(same);
        let mut chars = other.chars();
        printable.extend(chars.next().and_then(|c| shown(c, lines)));
        rest = chars.as_str();
        index = first_other(rest, lines);
    }
    printable.push_str(rest);
    Cow::Owned(printable)
}

/// Returns the character that is shown for `c`, if any.
pub(super) fn shown(c: char, lines: Lines) -> Option<char> {
    match (c, lines) {
        ('\n', Lines::Many | Lines::Chart) => Some('\n'),
        ('\t', Lines::Chart) => Some('\t'),
        ('\n' | '\t' | '\u{2028}' | '\u{2029}', _) => Some(' '),
        _ => (!is_control(c)).then_some(c),
    }
}

/// Returns the index of the first character that is not shown as it is.
///
/// Beyond ASCII, the UTF-8 of all such characters begins with 0xc2 or 0xe2. The two differ in one
/// bit, so a text in any script is scanned in words of eight bytes.
fn first_other(text: &str, lines: Lines) -> Option<usize> {
    const LEAD: u8 = 0xc2;
    const BESIDES: u64 = u64::from_le_bytes([!(0xc2 ^ 0xe2); 8]);
    let unplain = |word| {
        scan::below(word, b' ') | scan::equal(word, 0x7f) | scan::equal(word & BESIDES, LEAD)
    };
    let mut at = 0;
    loop {
        let rest = &text.as_bytes()[at..];
        at += match lines {
            Lines::One => scan::first(rest, unplain),
            Lines::Many => scan::first(rest, |word| unplain(word) & !scan::equal(word, b'\n')),
            Lines::Chart => scan::first(rest, |word| {
                unplain(word) & !scan::equal(word, b'\n') & !scan::equal(word, b'\t')
            }),
        }?;
        let c = text[at..].chars().next()?;
        if shown(c, lines) != Some(c) {
            return Some(at);
        }
        at += c.len_utf8();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_character_that_is_not_printed_unchanged() {
        for lines in [Lines::One, Lines::Many, Lines::Chart] {
            for c in '\0'..=char::MAX {
                let text = format!("läßt{c}");
                let place = (shown(c, lines) != Some(c)).then(|| text.len() - c.len_utf8());
                assert_eq!(first_other(&text, lines), place, "{c:?}");
            }
        }
    }
}
