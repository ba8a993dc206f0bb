//! `printf` with the verbs of Go.

mod reader;

use crate::number::{Number, with_exponent};
use crate::print;
use crate::value::Value;
use reader::{Directive, Reader};

/// Formats the arguments. Verbs that do not fit are reported inside the text, as Go does.
pub(crate) fn format(pattern: &str, arguments: &[Value]) -> Result<String, String> {
    let mut text = String::new();
    let mut reader = Reader {
        chars: pattern.chars().peekable(),
        values: arguments,
        next: 0,
        has_index: false,
        has_bad_index: false,
    };
    while let Some(c) = reader.chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let directive = reader.directive(&mut text)?;
        match reader.chars.next() {
            None => text.push_str("%!(NOVERB)"),
            Some('%') => text.push('%'),
            Some(verb) if reader.has_bad_index => text.push_str(&format!("%!{verb}(BADINDEX)")),
            Some(verb) => match reader.value() {
                None => text.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => text.push_str(&one(directive, verb, value)),
            },
        }
    }
    let left = arguments.get(reader.next..).unwrap_or_default();
    if !reader.has_index && !left.is_empty() {
        let extra: Vec<String> = left.iter().map(|value| described(value.resolve())).collect();
        text.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(text)
}

/// One argument.
fn one(directive: Directive, verb: char, value: &Value) -> String {
    let value = value.resolve();
    let text = match (verb, value) {
        // The flag `+` of `%v` is about structures, which templates do not have.
        ('v', Value::Number(number)) => {
            Some(signed(Directive { plus: false, ..directive }, number.to_text()))
        }
        ('v', Value::String(text)) => Some(cut(directive, text)),
        ('v', _) => Some(print::plain(value)),
        ('s', Value::String(text)) => Some(cut(directive, text)),
        ('s', Value::List(_) | Value::Object(_)) => Some(print::plain(value)),
        ('q', Value::String(text)) => {
            let text = cut(directive, text);
            let raw = directive.sharp && !text.contains('`');
            Some(if raw { format!("`{text}`") } else { ascii(directive, print::quoted(&text)) })
        }
        ('x' | 'X', Value::String(text)) => Some(hexadecimal(directive, text.as_bytes(), verb == 'X')),
        ('t', Value::Boolean(boolean)) => Some(boolean.to_string()),
        ('d' | 'b' | 'o' | 'O' | 'x' | 'X' | 'c' | 'q' | 'U', Value::Number(number)) => {
            whole(directive, verb, number)
        }
        ('f' | 'F' | 'e' | 'E' | 'g' | 'G', Value::Number(number)) => {
            Some(float(directive, verb, number.as_float()))
        }
        _ => None,
    };
    match text {
        Some(text) => {
            let is_whole = "dboOxXcqU".contains(verb);
            padded(directive, &text, (matches!(value, Value::Number(_)), is_whole))
        }
        None => format!("%!{verb}({})", described(value)),
    }
}

/// A value with the name of its type in Go, as in `%!d(string=hi)`.
fn described(value: &Value) -> String {
    let kind = match value {
        Value::Missing | Value::Deferred(_) => return "<nil>".to_owned(),
        Value::Boolean(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    format!("{kind}={}", print::plain(value))
}

fn cut(directive: Directive, text: &str) -> String {
    text.chars().take(directive.precision.unwrap_or(usize::MAX)).collect()
}

/// The bytes of a text. With the flag for spaces each byte is on its own.
fn hexadecimal(directive: Directive, bytes: &[u8], upper: bool) -> String {
    let bytes = bytes.iter().take(directive.precision.unwrap_or(usize::MAX));
    let each = bytes.map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") });
    let prefix = match (directive.sharp, upper) {
        (false, _) => "",
        (true, false) => "0x",
        (true, true) => "0X",
    };
    if directive.space {
        return each.map(|byte| format!("{prefix}{byte}")).collect::<Vec<_>>().join(" ");
    }
    let digits: String = each.collect();
    if digits.is_empty() { digits } else { format!("{prefix}{digits}") }
}

/// With the flag `+` the quoted text has ASCII characters only.
fn ascii(directive: Directive, quoted: String) -> String {
    if !directive.plus {
        return quoted;
    }
    let escaped = |c: char| match u32::from(c) {
        code if c.is_ascii() => char::from_u32(code).map(String::from).unwrap_or_default(),
        code if code <= 0xffff => format!("\\u{code:04x}"),
        code => format!("\\U{code:08x}"),
    };
    quoted.chars().map(escaped).collect()
}

/// A character in single quotes.
fn quoted_character(directive: Directive, character: char) -> String {
    let inside = match character {
        '\'' => "\\'".to_owned(),
        '"' => "\"".to_owned(),
        character => {
            let quoted = ascii(directive, print::quoted(&character.to_string()));
            quoted.trim_start_matches('"').trim_end_matches('"').to_owned()
        }
    };
    format!("'{inside}'")
}

/// A code point. Negative numbers are the large ones that have the same bits.
fn code_point(directive: Directive, integer: i64, character: char) -> String {
    let digits = directive.precision.unwrap_or(0).max(4);
    let text = format!("U+{:0digits$X}", integer.cast_unsigned());
    let is_character =
        directive.sharp && i64::from(u32::from(character)) == integer && !character.is_control();
    if is_character { format!("{text} '{character}'") } else { text }
}

/// A whole number. `None` for a fraction, and for a verb that needs a small number.
fn whole(directive: Directive, verb: char, number: &Number) -> Option<String> {
    if let (Number::Large(digits), 'd') = (number, verb) {
        return Some(signed(directive, digits.to_string()));
    }
    let integer = number.as_integer()?;
    let size = integer.unsigned_abs();
    let character = || u32::try_from(integer).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    let (prefix, digits) = match verb {
        'd' => ("", size.to_string()),
        'b' => ("0b", format!("{size:b}")),
        'o' => ("0", format!("{size:o}")),
        'O' => ("0o", format!("{size:o}")),
        'x' => ("0x", format!("{size:x}")),
        'X' => ("0X", format!("{size:X}")),
        'c' => return Some(character().to_string()),
        'q' => return Some(quoted_character(directive, character())),
        _ => return Some(code_point(directive, integer, character())),
    };
    if directive.precision == Some(0) && integer == 0 {
        return Some(String::new());
    }
    let prefix = if directive.sharp || verb == 'O' { prefix } else { "" };
    let sign = signed(directive, if integer < 0 { "-".to_owned() } else { String::new() });
    // Zeros that pad to a width are digits.
    let padded = match directive.precision {
        None if directive.zero && !directive.minus => directive.width.saturating_sub(sign.len()),
        precision => precision.unwrap_or(0),
    };
    Some(format!("{sign}{prefix}{digits:0>padded$}"))
}

fn float(directive: Directive, verb: char, value: f64) -> String {
    let precision = directive.precision.unwrap_or(6);
    let text = match verb {
        'f' | 'F' => format!("{value:.precision$}"),
        'e' => with_exponent(&format!("{value:.precision$e}")),
        'E' => with_exponent(&format!("{value:.precision$E}")),
        _ => general(value, directive.precision, verb == 'G'),
    };
    signed(directive, text)
}

/// `%g`: an exponent where it is small or large, and no zeros at the end.
fn general(value: f64, precision: Option<usize>, upper: bool) -> String {
    let (digits, exponent_from) = match precision {
        None => (format!("{value:e}"), 21),
        Some(precision) => {
            let digits = precision.max(1);
            (format!("{value:.count$e}", count = digits - 1), i32::try_from(digits).unwrap_or(i32::MAX))
        }
    };
    let (mantissa, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mantissa =
        if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    // Without a precision Go decides by the number of digits, but at least by six.
    let significant = mantissa.chars().filter(char::is_ascii_digit).count();
    let bound = if precision.is_none() {
        i32::try_from(significant.max(6)).unwrap_or(6).min(exponent_from)
    } else {
        exponent_from
    };
    if exponent < -4 || exponent >= bound {
        let text = with_exponent(&format!("{mantissa}e{exponent}"));
        return if upper { text.to_uppercase() } else { text };
    }
    let decimals = i32::try_from(significant).unwrap_or(0) - 1 - exponent;
    format!("{value:.decimals$}", decimals = usize::try_from(decimals).unwrap_or(0))
}

/// The sign that a flag asks for.
fn signed(directive: Directive, text: String) -> String {
    match (text.starts_with('-'), directive.plus, directive.space) {
        (false, true, _) => format!("+{text}"),
        (false, false, true) => format!(" {text}"),
        (_, _, _) => text,
    }
}

/// Pads to the width. Zeros go between the sign and the digits of a number.
fn padded(directive: Directive, text: &str, (is_number, is_whole): (bool, bool)) -> String {
    let missing = directive.width.saturating_sub(text.chars().count());
    if directive.minus {
        return format!("{text}{}", " ".repeat(missing));
    }
    // Whole numbers have their zeros already.
    if !directive.zero || text.starts_with("U+") || is_number && directive.precision.is_some() && is_whole {
        return format!("{}{text}", " ".repeat(missing));
    }
    let sign = text.starts_with(['-', '+', ' ']) && is_number;
    let (sign, rest) = text.split_at(usize::from(sign));
    format!("{sign}{}{rest}", "0".repeat(missing))
}

#[cfg(test)]
mod tests;
