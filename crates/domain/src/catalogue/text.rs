//! Checks and escapes text from untrusted sources that people read in a terminal, in a log, or as a name.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The longest name of a tool or a prompt, in characters. MCP recommends at most 128 (2025-11-25,
/// server/tools, tool names), and the gateway may have added a prefix.
const NAME_CHARS_MAX: usize = 256;

/// True when a character controls the terminal or reorders the text around it: C0 except line feed and tab,
/// DEL, C1, line and paragraph separators, and Unicode's direction marks (UAX #9).
#[must_use]
pub fn is_control(c: char) -> bool {
    let direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    direction || matches!(c, '\u{2028}' | '\u{2029}') || (c.is_control() && !matches!(c, '\n' | '\t'))
}

/// Replaces every control character with the form `\u001b`, which is also valid in a JSON string. Line feeds
/// and tabs stay.
#[must_use]
pub fn escape_controls(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t')) || !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_control(c) {
            // Writing to a `String` cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// True when clients accept this name of a tool or a prompt: 1 to 256 characters, without controls other than
/// the tab, zero-width characters and tag characters (U+E0000 to U+E007F). Clients reject a whole list
/// because of one invalid name.
#[must_use]
pub fn is_usable_name(name: &str) -> bool {
    let invisible = |c| {
        is_control(c)
            || matches!(c, '\n' | '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}')
            || matches!(c, '\u{e0000}'..='\u{e007f}')
    };
    (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && !name.contains(invisible)
}

#[cfg(test)]
mod tests {
    use super::{escape_controls, is_usable_name};

    #[test]
    fn controls_are_escaped_and_the_rest_stays() {
        assert_eq!(escape_controls("one\n\ttwo é 漢 👩\u{200d}💻"), "one\n\ttwo é 漢 👩\u{200d}💻");
        assert_eq!(
            escape_controls("a\x1b[2J\r\x7f\u{9b}\u{202e}z"),
            "a\\u001b[2J\\u000d\\u007f\\u009b\\u202ez"
        );
    }

    #[test]
    fn a_name_has_a_length_and_only_what_can_be_seen() {
        for usable in ["a", "get issue", "a\tb", "naïve/漢字", &"n".repeat(256)] {
            assert!(is_usable_name(usable), "{usable}");
        }
        for unusable in
            ["", "a\nb", "a\x1bb", "a\u{9b}b", "a\u{202e}b", "a\u{200b}b", "a\u{e0041}", &"n".repeat(257)]
        {
            assert!(!is_usable_name(unusable), "{unusable:?}");
        }
    }
}
