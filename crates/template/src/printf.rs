//! `printf` with the verbs of Go.

use crate::number::{Number, with_exponent};
use crate::print;
use crate::value::Value;

/// The largest width and precision.
const WIDTH_MAX: usize = 1000;

/// A directive between `%` and its verb.
#[derive(Clone, Copy, Debug, Default)]
struct Directive {
    minus: bool,
    plus: bool,
    zero: bool,
    space: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
}

/// Formats the arguments. Verbs that do not fit are reported inside the text, as Go does.
pub(crate) fn format(pattern: &str, arguments: &[Value]) -> Result<String, String> {
    let mut text = String::new();
    let mut left = arguments.iter();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let directive = read_directive(&mut chars, &mut left)?;
        match chars.next() {
            None => text.push_str("%!(NOVERB)"),
            Some('%') => text.push('%'),
            Some(verb) => match left.next() {
                None => text.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => text.push_str(&one(directive, verb, value)),
            },
        }
    }
    if left.len() > 0 {
        let extra: Vec<String> = left.map(|value| described(value.resolve())).collect();
        text.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(text)
}

fn read_directive<'a>(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    arguments: &mut impl Iterator<Item = &'a Value>,
) -> Result<Directive, String> {
    let mut directive = Directive::default();
    while let Some(flag) = chars.next_if(|c| "-+ 0#".contains(*c)) {
        match flag {
            '-' => directive.minus = true,
            '+' => directive.plus = true,
            '0' => directive.zero = true,
            ' ' => directive.space = true,
            _ => directive.sharp = true,
        }
    }
    directive.width = read_size(chars, arguments)?.unwrap_or(0);
    if chars.next_if_eq(&'.').is_some() {
        directive.precision = Some(read_size(chars, arguments)?.unwrap_or(0));
    }
    Ok(directive)
}

/// Reads a number, or `*` for the next argument.
fn read_size<'a>(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    arguments: &mut impl Iterator<Item = &'a Value>,
) -> Result<Option<usize>, String> {
    let size = if chars.next_if_eq(&'*').is_some() {
        let size = arguments.next().and_then(Value::as_number).and_then(Number::as_integer);
        size.and_then(|size| usize::try_from(size).ok())
            .map(Some)
            .ok_or("`*` in the format needs a whole number that is not negative")?
    } else {
        let mut size = None;
        while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
            chars.next();
            size = Some(size.unwrap_or(0_usize).saturating_mul(10).saturating_add(digit as usize));
        }
        size
    };
    if size.is_some_and(|size| size > WIDTH_MAX) {
        return Err(format!("a width or precision in the format is larger than {WIDTH_MAX}"));
    }
    Ok(size)
}

/// One argument.
fn one(directive: Directive, verb: char, value: &Value) -> String {
    let value = value.resolve();
    let text = match (verb, value) {
        ('v', Value::Number(number)) => Some(signed(directive, number.to_text())),
        ('v', _) => Some(print::plain(value)),
        ('s', Value::String(text)) => Some(cut(directive, text)),
        ('s', Value::List(_) | Value::Object(_)) => Some(print::plain(value)),
        ('q', Value::String(text)) => {
            let text = cut(directive, text);
            let raw = directive.sharp && !text.contains('`');
            Some(if raw { format!("`{text}`") } else { print::quoted(&text) })
        }
        ('x' | 'X', Value::String(text)) => Some(hexadecimal(text.as_bytes(), verb == 'X')),
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
        Some(text) => padded(directive, &text, matches!(value, Value::Number(_))),
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

fn hexadecimal(bytes: &[u8], upper: bool) -> String {
    bytes.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
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
        'O' => return Some(signed(directive, format!("{}0o{size:o}", if integer < 0 { "-" } else { "" }))),
        'x' => ("0x", format!("{size:x}")),
        'X' => ("0X", format!("{size:X}")),
        'c' => return Some(character().to_string()),
        'q' => return Some(format!("'{}'", character())),
        _ => return Some(format!("U+{size:04X}")),
    };
    let digits = format!("{digits:0>width$}", width = directive.precision.unwrap_or(0));
    let prefix = if directive.sharp { prefix } else { "" };
    Some(signed(directive, format!("{}{prefix}{digits}", if integer < 0 { "-" } else { "" })))
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
fn padded(directive: Directive, text: &str, is_number: bool) -> String {
    let missing = directive.width.saturating_sub(text.chars().count());
    if directive.minus {
        return format!("{text}{}", " ".repeat(missing));
    }
    if !directive.zero || is_number && directive.precision.is_some() && !text.contains('.') {
        return format!("{}{text}", " ".repeat(missing));
    }
    let sign = text.starts_with(['-', '+']) && is_number;
    let (sign, rest) = text.split_at(usize::from(sign));
    format!("{sign}{}{rest}", "0".repeat(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(pattern: &str, value: Value) -> String {
        format(pattern, &[value]).unwrap()
    }

    #[test]
    fn formats_as_go_does() {
        let number = |text| Value::Number(Number::parse(text).unwrap());
        for (pattern, value, expected) in [
            ("%+d", number("5"), "+5"),
            ("%05d", number("-42"), "-0042"),
            ("%#x", number("255"), "0xff"),
            ("%x", Value::string("hi"), "6869"),
            ("%8.3f|", number("3.14159"), "   3.142|"),
            ("%-8.3f|", number("3.14159"), "3.142   |"),
            ("%g", number("1e21"), "1e+21"),
            ("%g", number("123456.75"), "123456.75"),
            ("%.3g", number("1234.5"), "1.23e+03"),
            ("%e", number("0"), "0.000000e+00"),
            ("%c", number("9731"), "☃"),
            ("%U", number("9731"), "U+2603"),
            ("%.2s", Value::string("héllo"), "hé"),
            ("%d", number("18446744073709551616"), "18446744073709551616"),
            ("%d", number("1.5"), "%!d(float64=1.5)"),
            ("%s", Value::Missing, "%!s(<nil>)"),
            ("%v", Value::Missing, "<nil>"),
            ("%", Value::Missing, "%!(NOVERB)%!(EXTRA <nil>)"),
            ("%d %d", number("1"), "1 %!d(MISSING)"),
            ("%*d", number("3"), "%!d(MISSING)"),
        ] {
            assert_eq!(formatted(pattern, value), expected, "{pattern}");
        }
        assert!(format("%99999999999d", &[Value::integer(1)]).is_err());
    }
}
