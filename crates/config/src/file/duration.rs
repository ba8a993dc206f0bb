//! Durations in the syntax of Go (`30s`, `1h30m`, `250ms`): parsing, formatting, and their JSON Schema.
//! Whether zero is allowed is decided in `convert`, key by key.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration of the config file: `1m30s`, or the map `{duration: 1m30s}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GoDuration(pub(crate) Duration);

/// The `format` of durations in the JSON Schema, by which `check` recognises them.
pub(crate) const FORMAT: &str = "go-duration";

/// The reason why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text is empty.
    #[error("an empty text is not a duration")]
    Empty,
    /// The text begins with a minus sign.
    #[error("a duration must not be negative")]
    Negative,
    /// There is no number where one is expected.
    #[error("`{0}` is not a duration")]
    NoNumber(String),
    /// A number has no unit.
    #[error("`{0}` has no unit")]
    NoUnit(String),
    /// The unit is none of `h`, `m`, `s`, `ms`, `us` and `ns`.
    #[error("`{0}` is not a unit of time")]
    UnknownUnit(String),
    /// The duration is longer than Go's range of about 292 years.
    #[error("`{0}` is too long a duration")]
    TooLong(String),
}

impl DurationError {
    /// A text that says how durations are written.
    pub(crate) fn hint() -> &'static str {
        "write it like `30s`, `1m30s` or `250ms`; units are `h`, `m`, `s`, `ms`, `us`, `ns`"
    }
}

/// Parses a duration by the rules of Go's `time.ParseDuration`.
///
/// # Errors
/// If the text is not a duration, is negative, or is longer than Go's range of about 292 years.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(if text.is_empty() {
            DurationError::Empty
        } else {
            DurationError::NoNumber(text.to_owned())
        });
    }
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.starts_with('-') {
        return Err(DurationError::Negative);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_len);
        let nanos = nanos_of(text, number, unit)?;
        total = total
            .checked_add(nanos)
            .filter(|total| *total <= i64::MAX.unsigned_abs())
            .ok_or_else(|| DurationError::TooLong(text.to_owned()))?;
        rest = next;
    }
    Ok(Duration::from_nanos(total))
}

/// One number with its unit, in nanoseconds. A fraction of a nanosecond is dropped, as in Go.
fn nanos_of(text: &str, number: &str, unit: &str) -> Result<u64, DurationError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(DurationError::NoNumber(text.to_owned()));
    }
    let scale: u64 = match unit {
        "" => return Err(DurationError::NoUnit(text.to_owned())),
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(DurationError::UnknownUnit(unit.to_owned())),
    };
    let too_long = || DurationError::TooLong(text.to_owned());
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| too_long())? };
    // Digits after the 18th are less than a nanosecond in any unit.
    let digits = fraction.get(..18).unwrap_or(fraction);
    let (mut fraction_nanos, mut divisor) = (0_u128, 1_u128);
    for digit in digits.bytes() {
        fraction_nanos = fraction_nanos * 10 + u128::from(digit - b'0');
        divisor *= 10;
    }
    let fraction_nanos =
        u64::try_from(fraction_nanos * u128::from(scale) / divisor).map_err(|_| too_long())?;
    whole.checked_mul(scale).and_then(|nanos| nanos.checked_add(fraction_nanos)).ok_or_else(too_long)
}

/// Formats a duration as Go does: `1h0m0s`, `1m30s`, `1.5s`, `250ms`.
pub(crate) fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000 {
        return format!("{nanos}ns");
    }
    if nanos < 1_000_000 {
        return format!("{}us", decimal(nanos, 1_000));
    }
    if nanos < 1_000_000_000 {
        return format!("{}ms", decimal(nanos, 1_000_000));
    }
    let minute = 60_000_000_000;
    let (minutes, rest) = (nanos / minute, nanos % minute);
    let seconds = decimal(rest, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / scale` as a decimal number without trailing zeros.
fn decimal(value: u128, scale: u128) -> String {
    let (whole, fraction) = (value / scale, value % scale);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    let digits = format!("{fraction:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum DurationForm {
            Text(String),
            Map { duration: String },
        }
        let (DurationForm::Text(text) | DurationForm::Map { duration: text }) =
            DurationForm::deserialize(deserializer)?;
        parse(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format(self.0))
    }
}

impl JsonSchema for GoDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration such as `30s`, `1m30s` or `250ms`, or the map `{duration: 30s}`.",
            "format": FORMAT,
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"duration": {"type": "string"}},
                    "required": ["duration"],
                    "additionalProperties": false
                }
            ]
        })
    }
}

#[cfg(test)]
mod tests;
