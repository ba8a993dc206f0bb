//! Comparisons, as Go's but for numbers, which are compared by value.

use std::cmp::Ordering;

use crate::value::Value;

/// Whether two values are equal.
pub(super) fn equal(left: &Value, right: &Value) -> Result<bool, String> {
    match (left.resolve(), right.resolve()) {
        (Value::Boolean(left), Value::Boolean(right)) => Ok(left == right),
        (Value::Number(left), Value::Number(right)) => Ok(left == right),
        (Value::String(left), Value::String(right)) => Ok(left == right),
        (Value::Missing, Value::Missing) => Ok(true),
        (Value::Missing, _) | (_, Value::Missing) => Ok(false),
        (left, right) => Err(incomparable(left, right)),
    }
}

/// The order of two numbers or two strings.
pub(super) fn order(left: &Value, right: &Value) -> Result<Ordering, String> {
    match (left.resolve(), right.resolve()) {
        (Value::Number(left), Value::Number(right)) => Ok(left.compare(right)),
        (Value::String(left), Value::String(right)) => Ok(left.cmp(right)),
        (left, right) => Err(incomparable(left, right)),
    }
}

fn incomparable(left: &Value, right: &Value) -> String {
    format!("{} cannot be compared with {}", left.kind(), right.kind())
}
