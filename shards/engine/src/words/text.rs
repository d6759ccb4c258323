//! Which characters a text may have that other people see.

/// Whether a character shows nothing and changes how others are shown: control characters, and
/// those that turn the direction of writing, by which a name could look like another one or reach
/// beyond its own place. Text that runs from right to left by itself needs none of them.
pub fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_the_direction_of_writing_is_a_control_and_writing_is_not() {
        for c in ['\0', '\u{7}', '\u{7f}', '\u{9b}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}']
        {
            assert!(is_control(c), "{c:?}");
        }
        // Among them the joiner of families and flags, and marks that belong to Hebrew and Arabic.
        for c in [
            'a', 'é', ' ', '🎸', 'ש', 'ع', '\u{200d}', '\u{200f}', '\u{2029}', '\u{2030}',
            '\u{206a}',
        ] {
            assert!(!is_control(c), "{c:?}");
        }
    }
}
