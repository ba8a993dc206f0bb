//! Finds the byte ranges of an object's members in text that is already known to be JSON. It searches for the
//! ends of strings at memory speed and validates nothing a second time. On text that is not JSON it returns
//! `None` or wrong ranges, never a range outside the text.

use std::ops::Range;

/// Calls `each` with the byte ranges of the key and the value of every member. `None` when the text is not an
/// object; `each` may have been called before.
pub(super) fn visit_member_ranges(
    text: &str,
    mut each: impl FnMut(Range<usize>, Range<usize>),
) -> Option<()> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'{') {
        return None;
    }
    let mut offset = skip_whitespace(bytes, 1);
    if bytes.get(offset) == Some(&b'}') {
        return Some(());
    }
    loop {
        let key = offset..string_end(bytes, offset)?;
        offset = skip_whitespace(bytes, key.end);
        if bytes.get(offset) != Some(&b':') {
            return None;
        }
        offset = skip_whitespace(bytes, offset + 1);
        let value = offset..value_end(bytes, offset)?;
        offset = skip_whitespace(bytes, value.end);
        each(key, value);
        match bytes.get(offset)? {
            b',' => offset = skip_whitespace(bytes, offset + 1),
            b'}' => return Some(()),
            _ => return None,
        }
    }
}

fn skip_whitespace(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let found = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    from + found.unwrap_or(rest.len())
}

/// Returns the end (exclusive) of the string that begins at `from`.
fn string_end(bytes: &[u8], from: usize) -> Option<usize> {
    if bytes.get(from) != Some(&b'"') {
        return None;
    }
    let mut offset = from + 1;
    loop {
        offset += memchr::memchr2(b'"', b'\\', bytes.get(offset..)?)?;
        if bytes.get(offset) == Some(&b'"') {
            return Some(offset + 1);
        }
        offset += 2;
    }
}

/// Returns the end (exclusive) of the value that begins at `from`.
fn value_end(bytes: &[u8], from: usize) -> Option<usize> {
    match bytes.get(from)? {
        b'"' => string_end(bytes, from),
        b'{' | b'[' => {
            let (mut depth, mut offset) = (0_usize, from);
            loop {
                match bytes.get(offset)? {
                    b'"' => {
                        offset = string_end(bytes, offset)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return Some(offset + 1);
                        }
                    }
                    _ => {}
                }
                offset += 1;
            }
        }
        _ => {
            let rest = bytes.get(from..)?;
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
            let end = rest.iter().position(ends).unwrap_or(rest.len());
            (end > 0).then_some(from + end)
        }
    }
}
