//! The data that expressions are evaluated over.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value;
use cel::objects::{Key, Map};

/// A CEL value.
#[derive(Clone, Debug)]
pub struct Data(pub(crate) Value);

impl Data {
    /// Parses a JSON text; `None` when it is invalid or nested too deeply.
    #[must_use]
    pub fn parse(json: &str) -> Option<Self> {
        serde_json::from_str::<serde_json::Value>(json).ok().map(Self::from)
    }

    /// Parses a JSON text for data in which `null` means absent: members that are `null` are removed. A
    /// number without a fraction becomes an integer, however it is written.
    #[must_use]
    pub fn parse_without_nulls(json: &str) -> Option<Self> {
        let mut value = serde_json::from_str(json).ok()?;
        remove_nulls(&mut value);
        Some(Self::from(value))
    }
}

/// The recursion is bounded, because the parser limits the nesting.
fn remove_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(remove_nulls);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        serde_json::Value::Number(number) => {
            if let Some(whole) = number.as_f64().filter(|_| number.is_f64()).and_then(exact_integer) {
                *number = whole.into();
            }
        }
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::String(_) => {}
    }
}

/// The integer value of a number without a fraction, up to 2^53, where such numbers are exact.
fn exact_integer(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    // The number is whole and in range, so the conversion is exact.
    #[allow(clippy::cast_possible_truncation, reason = "checked to be whole and small enough")]
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

impl From<serde_json::Value> for Data {
    /// Integers become CEL's `int`, as literals in expressions do. Integers above `i64::MAX` become `uint`.
    fn from(json: serde_json::Value) -> Self {
        Self(to_cel_value(json))
    }
}

impl From<&str> for Data {
    fn from(text: &str) -> Self {
        Self(Value::from(text))
    }
}

impl From<bool> for Data {
    fn from(truth: bool) -> Self {
        Self(Value::Bool(truth))
    }
}

impl From<i64> for Data {
    fn from(whole: i64) -> Self {
        Self(Value::Int(whole))
    }
}

impl<'a> FromIterator<(&'a str, Self)> for Data {
    fn from_iter<I: IntoIterator<Item = (&'a str, Self)>>(members: I) -> Self {
        let members = members.into_iter().map(|(name, data)| (Key::from(name.to_owned()), data.0));
        Self(Value::Map(Map { map: Arc::new(members.collect::<HashMap<Key, Value>>()) }))
    }
}

fn to_cel_value(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Bool(truth),
        serde_json::Value::String(text) => Value::String(Arc::new(text)),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(large)) => Value::UInt(large),
            (None, None) => number.as_f64().map_or(Value::Null, Value::Float),
        },
        serde_json::Value::Array(list) => Value::List(Arc::new(list.into_iter().map(to_cel_value).collect())),
        serde_json::Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| (Key::from(name), to_cel_value(value)));
            Value::Map(Map { map: Arc::new(members.collect()) })
        }
    }
}
