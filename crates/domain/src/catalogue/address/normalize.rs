//! The normal form of a URI. The crate `url` parses it by the WHATWG URL standard and applies most rules;
//! this module then normalises percent-encoding by RFC 3986, section 6.2.2.2.

use url::Url;

/// The longest URI that has a normal form, in bytes. A client may send megabytes.
const BYTES_MAX: usize = 16 << 10;

/// Returns the normal form, or `None` for a URI that two readers could take for different resources.
pub(super) fn normal_form(given: &str) -> Option<String> {
    let blank_edge = given.starts_with(char::is_whitespace) || given.ends_with(char::is_whitespace);
    if given.len() > BYTES_MAX || blank_edge || given.contains(|c: char| c.is_control() || c == '\\') {
        return None;
    }
    let url = Url::parse(given).ok()?;
    if !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    let mut normal = normalize_percent_encoding(url.as_str())?;
    // An empty query or fragment has no meaning.
    for mark in ['#', '?'] {
        if normal.ends_with(mark) {
            normal.pop();
        }
    }
    let path = normal.get(path_start(&normal)..).unwrap_or_default();
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if path.contains("//") {
        return None;
    }
    // Decoding may have produced something with another meaning, such as a dot segment. The form must be
    // stable.
    let again = Url::parse(&normal).ok()?;
    (normalize_percent_encoding(again.as_str())? == normal).then_some(normal)
}

/// The byte offset at which the path begins, after the scheme and the host.
pub(super) fn path_start(address: &str) -> usize {
    let Some(scheme) = address.find(':').map(|end| end + 1) else { return 0 };
    let rest = address.get(scheme..).unwrap_or_default();
    match rest.strip_prefix("//") {
        Some(host) => scheme + 2 + host.find(['/', '?', '#']).unwrap_or(host.len()),
        None => scheme,
    }
}

/// Decodes what needs no encoding, and encodes what must be. Returns `None` for encoded characters that
/// readers decode at different moments: slashes, backslashes, control characters, and a percent sign before
/// two hex digits.
fn normalize_percent_encoding(address: &str) -> Option<String> {
    let mut out = String::with_capacity(address.len());
    let mut rest = address;
    while let Some(c) = rest.chars().next() {
        if c != '%' {
            push_literal(&mut out, c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
            continue;
        }
        let (bytes, tail) = decode_percent_run(rest);
        if bytes.is_empty() {
            // Readers disagree about a percent sign that encodes nothing.
            return None;
        }
        push_decoded(&bytes, &mut out)?;
        if tail.len() >= 2
            && bytes.last() == Some(&b'%')
            && tail.bytes().take(2).all(|byte| byte.is_ascii_hexdigit())
        {
            return None;
        }
        rest = tail;
    }
    Some(out)
}

/// Returns the bytes of the percent-encoded run at the start of `text`, and the remaining text.
fn decode_percent_run(text: &str) -> (Vec<u8>, &str) {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some(byte) = rest.strip_prefix('%').and_then(|tail| tail.get(..2)).and_then(parse_hex_byte) {
        bytes.push(byte);
        rest = rest.get(3..).unwrap_or_default();
    }
    (bytes, rest)
}

/// Parses two hex digits. `from_str_radix` alone would accept a sign.
fn parse_hex_byte(digits: &str) -> Option<u8> {
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    are_digits.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Writes decoded bytes: unreserved characters as they are, everything else encoded. `None` for a character
/// that must not be encoded in a URI with a normal form.
fn push_decoded(bytes: &[u8], out: &mut String) -> Option<()> {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '/' | '\\' | '\0'..='\x1f' | '\x7f' => return None,
                c if c.is_ascii_alphanumeric() || "-._~".contains(c) => out.push(c),
                c if c.is_ascii() => push_encoded(c, out),
                c => push_literal(out, c),
            }
        }
        chunk.invalid().iter().for_each(|byte| push_encoded_byte(*byte, out));
    }
    Some(())
}

/// Writes a character that was not encoded. Invisible characters are encoded.
fn push_literal(out: &mut String, c: char) {
    let unseen = matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}'
    );
    if unseen || c.is_whitespace() || c.is_control() {
        push_encoded(c, out);
    } else {
        out.push(c);
    }
}

fn push_encoded(c: char, out: &mut String) {
    let mut buffer = [0; 4];
    c.encode_utf8(&mut buffer).bytes().for_each(|byte| push_encoded_byte(byte, out));
}

fn push_encoded_byte(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    for digit in [byte >> 4, byte & 15] {
        out.push(char::from(DIGITS[usize::from(digit)]));
    }
}
