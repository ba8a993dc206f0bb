//! Writes a tool definition reduced to what a call needs, for results that a model has to read in full.

use serde_json::{Map, Value};
use vmcp_domain::Tool;
use vmcp_json::Json;

/// How deep an input schema is followed; deeper schemas become `{}`.
const DEPTH_MAX: usize = 16;

/// The schema keywords that determine the form of a value. All others describe it: texts, examples, defaults.
const STRUCTURAL_KEYWORDS: [&str; 22] = [
    "type",
    "properties",
    "required",
    "items",
    "prefixItems",
    "enum",
    "const",
    "format",
    "pattern",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "$ref",
    "$defs",
    "definitions",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
];

/// Writes a tool's name, its description, and the part of its input schema that determines which arguments
/// are valid.
#[must_use]
pub fn compact_tool(tool: &Tool) -> Json {
    let mut whole = Map::new();
    whole.insert("name".to_owned(), Value::from(tool.name.as_str()));
    if let Some(description) = &tool.description {
        whole.insert("description".to_owned(), Value::from(description.as_str()));
    }
    let schema = tool.definition.get("inputSchema").and_then(|json| json.decode::<Value>().ok());
    whole.insert(
        "inputSchema".to_owned(),
        schema.as_ref().map_or(Value::Null, |schema| prune_schema(schema, DEPTH_MAX)),
    );
    Json::encode(&whole).unwrap_or_else(|_| Json::empty_object())
}

/// Removes the descriptive keywords of a schema. All members of `properties` and similar maps stay, because
/// they are names and not keywords.
fn prune_schema(schema: &Value, depth: usize) -> Value {
    let Value::Object(members) = schema else { return schema.clone() };
    if depth == 0 {
        return Value::Object(Map::new());
    }
    let retained = members.iter().filter(|(word, _)| STRUCTURAL_KEYWORDS.contains(&word.as_str()));
    let prune_one = |(word, value): (&String, &Value)| {
        let value = match word.as_str() {
            "properties" | "$defs" | "definitions" => prune_named(value, depth - 1),
            "items" | "not" => prune_schema(value, depth - 1),
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => match value {
                Value::Array(many) => many.iter().map(|one| prune_schema(one, depth - 1)).collect(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                    value.clone()
                }
            },
            _ => value.clone(),
        };
        (word.clone(), value)
    };
    Value::Object(retained.map(prune_one).collect())
}

fn prune_named(named: &Value, depth: usize) -> Value {
    let Value::Object(members) = named else { return named.clone() };
    Value::Object(members.iter().map(|(name, schema)| (name.clone(), prune_schema(schema, depth))).collect())
}
