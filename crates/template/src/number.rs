//! JSON numbers that are compared by value and keep the digits of integers.

use std::cmp::Ordering;
use std::sync::Arc;

/// The absolute value from which on a number is printed with an exponent, as in Go's JSON.
const EXPONENT_FROM: f64 = 1e21;
/// The absolute value below which a fraction is printed with an exponent.
const EXPONENT_BELOW: f64 = 1e-4;

/// A number.
#[derive(Clone, Debug)]
pub enum Number {
    /// An integer of 64 bits.
    Integer(i64),
    /// An integer beyond 64 bits, as its decimal digits.
    Large(Arc<str>),
    /// A number with a fraction or an exponent.
    Float(f64),
}

impl Number {
    /// Reads a number in the syntax of JSON. `None` for any other text, and for one that is too large.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(integer) = text.parse() {
            return Some(Self::Integer(integer));
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(Self::Large(text.into()));
        }
        text.parse().ok().filter(|float: &f64| float.is_finite()).map(Self::Float)
    }

    /// The number as an integer, if it is whole and has at most 64 bits.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(*integer),
            Self::Large(_) => None,
            // The bounds are exact powers of two.
            #[expect(clippy::cast_possible_truncation, reason = "the value is whole and in range")]
            Self::Float(float) => {
                let in_range = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(float);
                (float.fract() == 0.0 && in_range).then_some(*float as i64)
            }
        }
    }

    /// The nearest floating-point number.
    #[must_use]
    pub fn as_float(&self) -> f64 {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "the nearest number is asked for")]
            Self::Integer(integer) => *integer as f64,
            Self::Large(digits) => digits.parse().unwrap_or(f64::INFINITY),
            Self::Float(float) => *float,
        }
    }

    /// Whether the number is zero.
    pub(crate) fn is_zero(&self) -> bool {
        self.as_integer() == Some(0)
    }

    /// The order by value.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        if let (Some(left), Some(right)) = (self.as_integer(), other.as_integer()) {
            return left.cmp(&right);
        }
        if let (Self::Large(left), Self::Large(right)) = (self, other) {
            return compare_digits(left, right);
        }
        self.as_float().total_cmp(&other.as_float())
    }

    /// The number in the syntax of JSON, without an exponent where that is readable.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Integer(integer) => integer.to_string(),
            Self::Large(digits) => digits.to_string(),
            Self::Float(float) if *float == 0.0 => "0".to_owned(),
            Self::Float(float) if (EXPONENT_BELOW..EXPONENT_FROM).contains(&float.abs()) => {
                format!("{float}")
            }
            Self::Float(float) => with_exponent(&format!("{float:e}")),
        }
    }

    /// The number in the syntax of JSON as Go writes it: fractions down to a millionth have no exponent.
    pub(crate) fn to_json_text(&self) -> String {
        match self {
            Self::Float(float) if (1e-6..EXPONENT_BELOW).contains(&float.abs()) => format!("{float}"),
            Self::Integer(_) | Self::Large(_) | Self::Float(_) => self.to_text(),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.compare(other) == Ordering::Equal
    }
}

/// Writes Rust's `1.5e-7` as Go does: the exponent has a sign and at least two digits.
pub(crate) fn with_exponent(text: &str) -> String {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return text.to_owned() };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    let letter = if text.contains('E') { 'E' } else { 'e' };
    format!("{mantissa}{letter}{sign}{digits:0>2}")
}

/// The order of two integers in decimal digits. JSON has no leading zeros.
fn compare_digits(left: &str, right: &str) -> Ordering {
    let by_size = |left: &str, right: &str| left.len().cmp(&right.len()).then_with(|| left.cmp(right));
    match (left.strip_prefix('-'), right.strip_prefix('-')) {
        (None, None) => by_size(left, right),
        (Some(left), Some(right)) => by_size(right, left),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        Number::parse(text).unwrap()
    }

    #[test]
    fn numbers_print_as_they_are() {
        for (text, printed) in [
            ("1e6", "1000000"),
            ("9007199254740993", "9007199254740993"),
            ("18446744073709551616", "18446744073709551616"),
            ("-0.0", "0"),
            ("1.50", "1.5"),
            ("1234567.5", "1234567.5"),
            ("1.23e-06", "1.23e-06"),
            ("1e21", "1e+21"),
            ("1e20", "100000000000000000000"),
        ] {
            assert_eq!(number(text).to_text(), printed, "{text}");
        }
        assert!(Number::parse("1e999").is_none());
        assert!(Number::parse("NaN").is_none());
    }

    #[test]
    fn numbers_compare_by_value() {
        let sorted =
            ["-18446744073709551616", "-1.5", "0", "1", "1.5", "9007199254740993", "18446744073709551616"];
        for pair in sorted.windows(2) {
            assert_eq!(number(pair[0]).compare(&number(pair[1])), Ordering::Less, "{pair:?}");
        }
        assert_eq!(number("3"), number("3.0"));
        assert_ne!(number("18446744073709551616"), number("18446744073709551617"));
    }
}
