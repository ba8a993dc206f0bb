//! Fits the results of templates to the JSON Schema of an argument. What does not fit is passed on as it is: the tool
//! refuses it with a better reason.

use serde_json::Value as Data;
use vmcp_json::Json;
use vmcp_template::{Number, Value};

use crate::kind::JsonKind;

/// JSON's null.
pub(crate) fn null() -> Json {
    Json::parse("null").unwrap_or_else(|_| Json::empty_object())
}

/// The schema of a member of an object.
pub(crate) fn member_schema<'a>(schema: Option<&'a Data>, name: &str) -> Option<&'a Data> {
    schema?.get("properties")?.get(name)
}

/// The schema of an item of a list.
pub(crate) fn item_schema(schema: Option<&Data>, index: usize) -> Option<&Data> {
    let schema = schema?;
    schema.get("prefixItems").and_then(|items| items.get(index)).or_else(|| schema.get("items"))
}

/// The one type that a schema asks for, apart from null. `None` if it allows several, or says nothing.
fn wanted(schema: Option<&Data>) -> Option<JsonKind> {
    let name = match schema?.get("type")? {
        Data::String(name) => name,
        Data::Array(names) => {
            let mut names = names.iter().filter_map(Data::as_str).filter(|name| *name != "null");
            let name = names.next()?;
            return if names.next().is_none() { JsonKind::named(name) } else { None };
        }
        Data::Null | Data::Bool(_) | Data::Number(_) | Data::Object(_) => return None,
    };
    JsonKind::named(name)
}

/// Fits a value that an operator wrote. Only texts are changed.
pub(crate) fn constant(json: &Json, schema: Option<&Data>) -> Json {
    match json.decode_string() {
        Some(plain) => text(&plain, schema),
        None => json.clone(),
    }
}

/// Fits the value of a template that is one action. A list or an object keeps its type if the schema does not ask for
/// a text; other values become texts, as in ToolHive, unless the schema asks for their type.
pub(crate) fn value(value: &Value, schema: Option<&Data>) -> Json {
    let is_container = value.as_list().is_some() || value.as_object().is_some();
    if is_container && wanted(schema) != Some(JsonKind::String) {
        return value.to_json();
    }
    if let Some(plain) = value.as_text() {
        return text(plain, schema);
    }
    let printed = printed(value);
    text(&printed, schema)
}

/// The value as a template prints it.
pub(crate) fn printed(value: &Value) -> String {
    if let Some(number) = value.as_number() {
        return number.to_text();
    }
    // Booleans, lists and objects print as JSON.
    value.to_json().as_str().to_owned()
}

/// Fits a text: to a number, a boolean, or JSON that it contains.
pub(crate) fn text(plain: &str, schema: Option<&Data>) -> Json {
    wanted(schema).and_then(|kind| convert(plain, kind).ok()).unwrap_or_else(|| Json::string(plain))
}

/// Converts a text to a JSON type.
pub(crate) fn convert(plain: &str, kind: JsonKind) -> Result<Json, String> {
    let problem = || format!("`{}` is no {}", shortened(plain), kind.name());
    let number = || if plain.starts_with(['+', '.']) { None } else { Number::parse(plain) };
    match kind {
        JsonKind::String => Ok(Json::string(plain)),
        JsonKind::Integer => {
            let number =
                number().filter(|number| number.as_integer().is_some() || matches!(number, Number::Large(_)));
            number.and_then(|number| Json::parse(number.to_text()).ok()).ok_or_else(problem)
        }
        JsonKind::Number => {
            number().and_then(|number| Json::parse(number.to_text()).ok()).ok_or_else(problem)
        }
        JsonKind::Boolean => match plain {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Json::boolean(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Json::boolean(false)),
            _ => Err(problem()),
        },
        JsonKind::Object => Json::parse(plain.to_owned()).ok().filter(Json::is_object).ok_or_else(problem),
        JsonKind::Array => Json::parse(plain.to_owned())
            .ok()
            .filter(|json| json.as_str().starts_with('['))
            .ok_or_else(problem),
    }
}

/// The beginning of a text, for an error.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    if text.chars().count() <= CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(CHARS_MAX).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(data: &str, schema: &str) -> String {
        let schema: Data = serde_json::from_str(schema).unwrap();
        value(&Value::decode(&Json::parse(data.to_owned()).unwrap()), Some(&schema)).as_str().to_owned()
    }

    #[test]
    fn values_take_the_type_that_the_schema_asks_for() {
        for (data, schema, expected) in [
            ("5", r#"{"type":"integer"}"#, "5"),
            ("5", r#"{"type":"string"}"#, "\"5\""),
            ("5", r#"{}"#, "\"5\""),
            ("18446744073709551616", r#"{"type":"integer"}"#, "18446744073709551616"),
            ("1e3", r#"{"type":"number"}"#, "1000"),
            ("\" 5\"", r#"{"type":"integer"}"#, "\" 5\""),
            ("\"1\"", r#"{"type":"boolean"}"#, "true"),
            ("true", r#"{"type":"boolean"}"#, "true"),
            (r#"{"k": [1, 2]}"#, r#"{}"#, r#"{"k": [1, 2]}"#),
            (r#"{"k": [1, 2]}"#, r#"{"type":"string"}"#, r#""{\"k\": [1, 2]}""#),
            (r#""{\"k\":1}""#, r#"{"type":"object"}"#, r#"{"k":1}"#),
            (r#""[1,2]""#, r#"{"type":"array"}"#, "[1,2]"),
            (r#""[1,2]""#, r#"{"type":"object"}"#, r#""[1,2]""#),
            ("5", r#"{"type":["integer","null"]}"#, "5"),
            ("5", r#"{"type":["integer","string"]}"#, "\"5\""),
        ] {
            assert_eq!(fitted(data, schema), expected, "{data} {schema}");
        }
    }
}
