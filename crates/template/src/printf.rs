//! `printf` with the verbs of Go.

use std::iter::Peekable;
use std::str::Chars;

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

/// The format and its arguments while they are read.
struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    values: &'a [Value],
    /// The index of the next argument.
    next: usize,
    /// An index such as `[1]` was written. Arguments that are left over are not reported then.
    has_index: bool,
    /// An index of the current directive names no argument.
    has_bad_index: bool,
}

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

impl<'a> Reader<'a> {
    /// The next argument.
    fn value(&mut self) -> Option<&'a Value> {
        let value = self.values.get(self.next);
        self.next += usize::from(value.is_some());
        value
    }

    /// Reads what is between `%` and its verb. A width that is no number is reported in `text`.
    fn directive(&mut self, text: &mut String) -> Result<Directive, String> {
        self.has_bad_index = false;
        let mut directive = Directive::default();
        while let Some(flag) = self.chars.next_if(|c| "-+ 0#".contains(*c)) {
            match flag {
                '-' => directive.minus = true,
                '+' => directive.plus = true,
                '0' => directive.zero = true,
                ' ' => directive.space = true,
                _ => directive.sharp = true,
            }
        }
        let mut follows_index = self.index();
        let (width, is_argument) = self.size("%!(BADWIDTH)", text)?;
        // An index belongs to the verb or to `*`, and not to a number.
        self.has_bad_index |= follows_index && width.is_some() && !is_argument;
        follows_index &= !is_argument;
        directive.width = width.unwrap_or(0);
        if self.chars.next_if_eq(&'.').is_some() {
            self.has_bad_index |= follows_index;
            follows_index = self.index();
            let (precision, is_argument) = self.size("%!(BADPREC)", text)?;
            self.has_bad_index |= follows_index && precision.is_some() && !is_argument;
            follows_index &= !is_argument;
            directive.precision = Some(precision.unwrap_or(0));
        }
        if !follows_index {
            self.index();
        }
        Ok(directive)
    }

    /// Reads an index such as `[1]`. Returns whether there was one.
    fn index(&mut self) -> bool {
        if self.chars.next_if_eq(&'[').is_none() {
            return false;
        }
        self.has_index = true;
        let mut digits = String::new();
        let is_closed = loop {
            match self.chars.next() {
                None => break false,
                Some(']') => break true,
                Some(c) => digits.push(c),
            }
        };
        let index = digits.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        match index.filter(|index| is_closed && *index < self.values.len()) {
            Some(index) => self.next = index,
            None => self.has_bad_index = true,
        }
        true
    }

    /// Reads a number, or `*` for the next argument. Returns too whether it was an argument.
    fn size(&mut self, problem: &str, text: &mut String) -> Result<(Option<usize>, bool), String> {
        let is_argument = self.chars.next_if_eq(&'*').is_some();
        let size = if is_argument {
            let size = self.value().and_then(Value::as_number).and_then(Number::as_integer);
            let size = size.and_then(|size| usize::try_from(size).ok());
            if size.is_none() {
                text.push_str(problem);
            }
            size
        } else {
            let mut size = None;
            while let Some(digit) = self.chars.peek().and_then(|c| c.to_digit(10)) {
                self.chars.next();
                size = Some(size.unwrap_or(0_usize).saturating_mul(10).saturating_add(digit as usize));
            }
            size
        };
        if size.is_some_and(|size| size > WIDTH_MAX) {
            return Err(format!("a width or precision in the format is larger than {WIDTH_MAX}"));
        }
        Ok((size, is_argument))
    }
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
        'O' => return Some(signed(directive, format!("{}0o{size:o}", if integer < 0 { "-" } else { "" }))),
        'x' => ("0x", format!("{size:x}")),
        'X' => ("0X", format!("{size:X}")),
        'c' => return Some(character().to_string()),
        'q' => return Some(quoted_character(directive, character())),
        _ => return Some(code_point(directive, integer, character())),
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
            ("%*d", Value::string("x"), "%!(BADWIDTH)%!d(MISSING)"),
            ("%.*d", Value::string("x"), "%!(BADPREC)%!d(MISSING)"),
            ("%[1]d %[1]x", number("255"), "255 ff"),
            ("%[2]d", number("1"), "%!d(BADINDEX)"),
            ("%[x]d", number("1"), "%!d(BADINDEX)"),
            ("%[1]2d", number("1"), "%!d(BADINDEX)"),
            ("%[1", number("1"), "%!(NOVERB)"),
            ("%U", number("-1"), "U+FFFFFFFFFFFFFFFF"),
            ("%#U", number("9731"), "U+2603 '☃'"),
            ("%+q", Value::string("hé☃😀"), r#""h\u00e9\u2603\U0001f600""#),
            ("%+q", number("9731"), r"'\u2603'"),
            ("%q", number("39"), r"'\''"),
            ("%q", number("34"), "'\"'"),
            ("%q", number("10"), r"'\n'"),
            ("% x", Value::string("hi"), "68 69"),
            ("%# X", Value::string("hi"), "0X68 0X69"),
            ("%#x", Value::string("hi"), "0x6869"),
            ("%.1x", Value::string("hi"), "68"),
        ] {
            assert_eq!(formatted(pattern, value), expected, "{pattern}");
        }
        assert!(format("%99999999999d", &[Value::integer(1)]).is_err());
    }
}
