//! Writes the arguments of a tool as one line that a model can read: `(path: string, lines?: integer)`.

use std::cell::Cell;
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// How deep objects and lists are written out; deeper ones are `object`.
const DEPTH_MAX: usize = 4;
/// How many values of an enumeration are written.
const VALUES_MAX: usize = 12;
/// How many schemas are visited for one line. A schema may refer to itself at many places.
const VISITS_MAX: usize = 2000;
/// How many references are followed at one place.
const REFERENCES_MAX: usize = 8;

/// The arguments of an input schema. Optional arguments have a `?`, and follow the required ones. If the whole line
/// would be longer than `bytes_max`, optional arguments have no types, and then required ones have none either.
pub(crate) fn arguments(schema: &Value, bytes_max: usize) -> String {
    for detail in [Detail::Full, Detail::RequiredTypes, Detail::Names] {
        let writer = Writer { root: schema, visits_left: Cell::new(VISITS_MAX) };
        let line = writer.arguments(schema, detail);
        if line.len() <= bytes_max {
            return line;
        }
    }
    "(…)".to_owned()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Full,
    RequiredTypes,
    Names,
}

struct Writer<'a> {
    root: &'a Value,
    visits_left: Cell<usize>,
}

impl<'a> Writer<'a> {
    fn arguments(&self, schema: &'a Value, detail: Detail) -> String {
        let schema = self.resolve(schema);
        let none = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&none);
        let required = required_names(schema);
        let is_required = |name: &String| required.contains(&name.as_str());
        let (first, rest): (Vec<_>, Vec<_>) = properties.iter().partition(|(name, _)| is_required(name));
        let mut parts: Vec<String> = Vec::new();
        for (name, property) in first {
            parts.push(match detail {
                Detail::Full | Detail::RequiredTypes => format!("{name}: {}", self.kind(property, DEPTH_MAX)),
                Detail::Names => name.clone(),
            });
        }
        for (name, property) in rest {
            parts.push(match detail {
                Detail::Full => format!("{name}?: {}", self.kind(property, DEPTH_MAX)),
                Detail::RequiredTypes | Detail::Names => format!("{name}?"),
            });
        }
        format!("({})", parts.join(", "))
    }

    /// The schema that a reference within the same document leads to, or the schema itself.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let mut schema = schema;
        for _ in 0..REFERENCES_MAX {
            let Some(pointer) = schema["$ref"].as_str().and_then(|target| target.strip_prefix('#')) else {
                return schema;
            };
            let Some(target) = self.root.pointer(pointer) else { return schema };
            schema = target;
        }
        schema
    }

    fn kind(&self, schema: &'a Value, depth: usize) -> String {
        let schema = self.resolve(schema);
        let visits_left = self.visits_left.get();
        self.visits_left.set(visits_left.saturating_sub(1));
        if depth == 0 || visits_left == 0 {
            return "object".to_owned();
        }
        if let Some(value) = schema.get("const") {
            return value.to_string();
        }
        if let Some(values) = schema["enum"].as_array() {
            let mut text =
                values.iter().take(VALUES_MAX).map(Value::to_string).collect::<Vec<_>>().join(" | ");
            if values.len() > VALUES_MAX {
                text.push_str(" | …");
            }
            return text;
        }
        for word in ["anyOf", "oneOf"] {
            if let Some(choices) = schema[word].as_array() {
                let mut kinds: Vec<String> =
                    choices.iter().map(|choice| self.kind(choice, depth - 1)).collect();
                kinds.dedup();
                return kinds.join(" | ");
            }
        }
        match &schema["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" | "),
            Value::String(kind) => self.named_kind(kind, schema, depth),
            _ if schema["properties"].is_object() => self.named_kind("object", schema, depth),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "any".to_owned(),
        }
    }

    fn named_kind(&self, kind: &str, schema: &'a Value, depth: usize) -> String {
        match kind {
            "array" => {
                let item = if schema["items"].is_object() {
                    self.kind(&schema["items"], depth - 1)
                } else {
                    "any".to_owned()
                };
                if item.contains(" | ") { format!("({item})[]") } else { format!("{item}[]") }
            }
            "object" => self.object(schema, depth),
            "string" => match schema["format"].as_str() {
                Some(format) => format!("string ({format})"),
                None => "string".to_owned(),
            },
            other => other.to_owned(),
        }
    }

    fn object(&self, schema: &'a Value, depth: usize) -> String {
        let Some(properties) = schema["properties"].as_object().filter(|all| !all.is_empty()) else {
            return "object".to_owned();
        };
        let required = required_names(schema);
        let mut text = String::from("{");
        for (index, (name, property)) in properties.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            if self.visits_left.get() == 0 {
                text.push_str(separator);
                text.push('…');
                break;
            }
            let mark = if required.contains(&name.as_str()) { "" } else { "?" };
            // Writing into a string cannot fail.
            let _ = write!(text, "{separator}{name}{mark}: {}", self.kind(property, depth - 1));
        }
        text + "}"
    }
}

fn required_names(schema: &Value) -> Vec<&str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_written_with_what_a_call_needs() {
        let schema = json!({
            "type": "object",
            "required": ["owner", "state"],
            "properties": {
                "labels": {"type": "array", "items": {"type": "string"}},
                "owner": {"type": "string"},
                "state": {"enum": ["open", "closed"]},
                "since": {"type": "string", "format": "date-time"},
                "limit": {"type": ["integer", "null"]},
                "filter": {"$ref": "#/$defs/filter"},
                "either": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"enum": [1, 2]}}]},
                "free": {}
            },
            "$defs": {"filter": {"type": "object", "required": ["by"], "properties": {
                "by": {"type": "string"}, "next": {"$ref": "#/$defs/filter"}}}}
        });
        let line = arguments(&schema, 1000);
        for part in [
            "(owner: string, state: \"open\" | \"closed\", ",
            "labels?: string[]",
            "since?: string (date-time)",
            "limit?: integer | null",
            "filter?: {by: string, next?: {by: string, next?: {by: string, next?: {by: object, next?: object}}}}",
            "either?: string | (1 | 2)[]",
            "free?: any",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        assert!(arguments(&schema, 120).starts_with("(owner: string, state: \"open\" | \"closed\", "));
        assert!(arguments(&schema, 120).contains("filter?,"));
        assert_eq!(arguments(&schema, 10), "(…)");
        assert_eq!(arguments(&json!({"type": "object"}), 100), "()");
        assert_eq!(arguments(&json!(true), 100), "()");
        assert_eq!(arguments(&json!({"$ref": "#"}), 100), "()", "a reference to itself ends");
    }

    #[test]
    fn a_schema_that_refers_to_itself_at_many_places_is_bounded() {
        let names = (0..300).map(|number| format!("p{number}"));
        let properties: Map<String, Value> = names.map(|name| (name, json!({"$ref": "#"}))).collect();
        let schema = json!({"type": "object", "properties": properties});
        // 300 to the power of 4 schemas would take minutes.
        let line = arguments(&schema, 1 << 20);
        assert!(line.len() < 100_000 && line.contains("p299?: object"), "{}", line.len());
    }
}
