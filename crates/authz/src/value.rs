//! JSON values as Cedar values. Every number becomes a decimal, whatever way it is spelled, and lists and objects
//! become sets and records, down to a bounded depth. `null` has no counterpart and does not exist for policies.

use cedar_policy::RestrictedExpression;
use serde_json::Value;

use crate::words::CLAIM_DEPTH_MAX;

/// The value, or `None` where Cedar has none: `null`, a number out of range, what nests too deep.
pub(crate) fn to_cedar(value: &Value, depth: usize) -> Option<RestrictedExpression> {
    if depth > CLAIM_DEPTH_MAX {
        return None;
    }
    match value {
        Value::Null => None,
        Value::Bool(value) => Some(RestrictedExpression::new_bool(*value)),
        Value::Number(number) => {
            number.as_f64().and_then(format_decimal).map(RestrictedExpression::new_decimal)
        }
        Value::String(text) => Some(RestrictedExpression::new_string(text.clone())),
        Value::Array(elements) => Some(RestrictedExpression::new_set(
            elements.iter().filter_map(|element| to_cedar(element, depth + 1)),
        )),
        Value::Object(members) => RestrictedExpression::new_record(
            members.iter().filter_map(|(key, member)| Some((key.clone(), to_cedar(member, depth + 1)?))),
        )
        .ok(),
    }
}

/// A number as Cedar's `decimal` spells it: four places, what lies beyond is cut off. `None` out of its range.
/// Beyond fifteen digits the result is as inexact as doubles are, which is how ToolHive has it too.
pub(crate) fn format_decimal(number: f64) -> Option<String> {
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    let scaled = number * 10_000.0;
    if !(-BOUND..BOUND).contains(&scaled) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "cutting off is what is wanted, and the range is checked"
    )]
    let parts = scaled as i64;
    let sign = if parts < 0 { "-" } else { "" };
    let parts = parts.unsigned_abs();
    Some(format!("{sign}{}.{:04}", parts / 10_000, parts % 10_000))
}

#[cfg(test)]
mod tests;
