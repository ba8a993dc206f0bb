//! Escapes for HTML, JavaScript and queries, as Go's functions of the same names.

use std::fmt::Write as _;

/// Escapes for HTML.
pub(super) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\0' => escaped.push('\u{fffd}'),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Escapes for a string of JavaScript.
pub(super) fn javascript(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\'' => escaped.push_str("\\'"),
            '"' => escaped.push_str("\\\""),
            '<' | '>' | '&' | '=' => {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\u{:04X}", u32::from(c));
            }
            _ if c < ' '
                || c > '~' && (c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')) =>
            {
                let _ = write!(escaped, "\\u{:04X}", u32::from(c));
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Escapes for a part of a query: a space becomes `+`.
pub(super) fn query(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => escaped.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte))
            }
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}
