//! The characters that a text for other members may contain.

/// Whether a character is invisible and changes how others are shown: control characters, and those
/// that override the direction of writing, with which a name could imitate another one or extend
/// beyond its place. Text written from right to left needs none of them.
pub fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direction_overrides_are_controls_and_letters_are_not() {
        for c in ['\0', '\u{7}', '\u{7f}', '\u{9b}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}']
        {
            assert!(is_control(c), "{c:?}");
        }
        // They include the joiner of families and flags, and marks of Hebrew and Arabic.
        for c in [
            'a', 'é', ' ', '🎸', 'ש', 'ع', '\u{200d}', '\u{200f}', '\u{2029}', '\u{2030}',
            '\u{206a}',
        ] {
            assert!(!is_control(c), "{c:?}");
        }
    }
}
