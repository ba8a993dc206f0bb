//! Conversion of JSON values to Cedar values.
//!
//! Every number becomes a decimal, however it is spelled. Lists become sets and objects become records, down
//! to a bounded depth. `null` has no counterpart in Cedar, so policies do not see it.

use cedar_policy::RestrictedExpression;
use serde_json::Value;

use crate::policy::names::CLAIM_DEPTH_MAX;

/// The Cedar value. `None` for `null`, for a number out of range, and for nesting deeper than
/// [`CLAIM_DEPTH_MAX`].
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

/// A number as Cedar's `decimal` spells it: four decimal places, further digits truncated. `None` when out of
/// range. Beyond fifteen digits the result is as inexact as a double is, which is ToolHive's behaviour too.
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
