//! Decodes JSON one level at a time: the members of an object are decoded when they are read, so that a path into a
//! large result costs what it passes.

use std::sync::Arc;

use vmcp_json::Json;

use super::{List, Number, Object, Value};

/// Decodes one level of a value.
pub(super) fn decode(json: &Json) -> Value {
    let text = json.as_str();
    match text.as_bytes().first() {
        Some(b'{') => json.members().map_or(Value::Missing, |members| {
            let members = members.iter().map(|(name, value)| (name.into(), part(value)));
            Value::Object(Arc::new(Object::new(members, Some(json.clone()))))
        }),
        Some(b'[') => json.elements().map_or(Value::Missing, |elements| {
            Value::List(Arc::new(List { items: elements.iter().map(part).collect() }))
        }),
        Some(b'"') => json.decode_string().map_or(Value::Missing, Value::string),
        Some(b't') => Value::Boolean(true),
        Some(b'f') => Value::Boolean(false),
        Some(b'n') | None => Value::Missing,
        // A number beyond what a floating-point number can hold keeps its text.
        Some(_) => Number::parse(text).map_or_else(|| Value::string(text), Value::Number),
    }
}

/// A value inside another one: containers are decoded later.
fn part(json: &Json) -> Value {
    match json.as_str().as_bytes().first() {
        Some(b'{' | b'[') => Value::deferred(json.clone()),
        Some(_) | None => decode(json),
    }
}
