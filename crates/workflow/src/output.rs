//! The result of a run, from the templates of `output`.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Data, json};
use vmcp_json::{Json, Members};
use vmcp_template::{Rendered, Value};

use crate::definition::{Output, OutputProperty, OutputSource};
use crate::fit;
use crate::kind::JsonKind;
use crate::policy::MissingValues;

/// The JSON Schema of the result.
pub(crate) fn schema(output: &Output) -> Data {
    let mut schema = object_schema(&output.properties);
    if !output.required.is_empty() {
        schema["required"] = json!(output.required);
    }
    schema
}

fn object_schema(properties: &BTreeMap<String, OutputProperty>) -> Data {
    let each = properties.iter().map(|(name, property)| {
        let mut schema = match &property.source {
            OutputSource::Template(_) => json!({"type": property.kind.name()}),
            OutputSource::Properties(inner) => object_schema(inner),
        };
        schema["description"] = property.description.clone().into();
        (name.clone(), schema)
    });
    json!({"type": "object", "properties": each.collect::<Map<_, _>>()})
}

/// Builds the result.
///
/// # Errors
/// When a template cannot be evaluated, a value has another type, or a required property has none.
pub(crate) fn build(output: &Output, data: &Value, missing: MissingValues) -> Result<Json, String> {
    let members = properties(&output.properties, data, missing, "")?;
    match output.required.iter().find(|name| members.get(name).is_none()) {
        Some(name) => Err(format!("property `{name}` is required and has no value")),
        None => Ok(members.to_json()),
    }
}

fn properties(
    properties: &BTreeMap<String, OutputProperty>,
    data: &Value,
    missing: MissingValues,
    path: &str,
) -> Result<Members, String> {
    let mut members = Members::new();
    for (name, property) in properties {
        let path = format!("{path}{name}");
        let value = match &property.source {
            OutputSource::Properties(inner) => {
                Some(self::properties(inner, data, missing, &format!("{path}."))?.to_json())
            }
            OutputSource::Template(template) => {
                let rendered = template.evaluate(data, missing.text());
                let value = rendered
                    .map_err(|error| error.to_string())
                    .and_then(|rendered| converted(&rendered, property.kind, missing));
                match (value, &property.default) {
                    (Ok(Some(value)), _) => Some(value),
                    (Ok(None) | Err(_), Some(default)) => Some(default.clone()),
                    (Ok(None), None) => None,
                    (Err(problem), None) => return Err(format!("property `{path}`: {problem}")),
                }
            }
        };
        if let Some(value) = value {
            members.insert(name, value);
        }
    }
    Ok(members)
}

/// Converts a result to the type of its property. `None` for nothing.
fn converted(rendered: &Rendered, kind: JsonKind, missing: MissingValues) -> Result<Option<Json>, String> {
    let value = match rendered {
        Rendered::Text(text) => return fit::convert(text, kind).map(Some),
        Rendered::Value(value) => value,
    };
    if value.is_missing() {
        return Ok(match (missing, kind) {
            (MissingValues::Text, JsonKind::String) => Some(Json::string("<no value>")),
            (MissingValues::Omit | MissingValues::Text, _) => None,
        });
    }
    let json = value.to_json();
    let fits = match kind {
        JsonKind::Object => json.is_object(),
        JsonKind::Array => json.as_str().starts_with('['),
        JsonKind::String | JsonKind::Integer | JsonKind::Number | JsonKind::Boolean => false,
    };
    if fits {
        return Ok(Some(json));
    }
    let text = value.as_text().map_or_else(|| fit::printed(value), str::to_owned);
    fit::convert(&text, kind).map(Some)
}
