//! Fits the results of templates to the JSON Schema of an argument. What does not fit is passed on as it is: the tool
//! refuses it with a better reason.

use serde_json::Value as Data;
use vmcp_json::Json;
use vmcp_template::{Number, Value};

use crate::kind::JsonKind;

/// The deepest chain of references in a schema.
const REFERENCES_MAX: usize = 8;

/// The keys by which an object may have more members than `properties` lists.
const OPEN_KEYS: [&str; 10] = [
    "additionalProperties",
    "unevaluatedProperties",
    "patternProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "if",
    "dependentSchemas",
    "dependencies",
    "$dynamicRef",
];

/// Whether a reference has keys beside it that say something about the value.
fn has_siblings(schema: &Data) -> bool {
    let says_nothing =
        ["$ref", "$defs", "definitions", "$schema", "$id", "$comment", "title", "description", "default"];
    schema.as_object().is_some_and(|keys| keys.keys().any(|key| !says_nothing.contains(&key.as_str())))
}

/// A part of a JSON Schema, with the whole that its references lead into.
#[derive(Clone, Copy)]
pub(crate) struct Schema<'a> {
    root: &'a Data,
    part: &'a Data,
    /// A reference had keys beside it, which hold too.
    is_merged: bool,
}

impl<'a> Schema<'a> {
    pub(crate) fn new(root: &'a Data) -> Self {
        Self { root, part: root, is_merged: false }.resolved()
    }

    fn at(self, part: &'a Data) -> Self {
        Self { part, is_merged: false, ..self }.resolved()
    }

    /// Follows local references.
    fn resolved(self) -> Self {
        let (mut part, mut is_merged) = (self.part, self.is_merged);
        for _ in 0..REFERENCES_MAX {
            let Some(pointer) =
                part.get("$ref").and_then(Data::as_str).and_then(|text| text.strip_prefix('#'))
            else {
                break;
            };
            let Some(target) = self.root.pointer(pointer) else { break };
            is_merged |= has_siblings(part);
            part = target;
        }
        Self { part, is_merged, ..self }
    }

    /// The schema of a member of an object.
    pub(crate) fn member(self, name: &str) -> Option<Self> {
        Some(self.at(self.alternative().part.get("properties")?.get(name)?))
    }

    /// The schema of an item of a list.
    pub(crate) fn item(self, index: usize) -> Option<Self> {
        let part = self.alternative().part;
        let item =
            part.get("prefixItems").and_then(|items| items.get(index)).or_else(|| part.get("items"))?;
        Some(self.at(item))
    }

    /// The schema itself, with its references followed.
    pub(crate) fn part(self) -> &'a Data {
        self.part
    }

    /// Whether an object of this schema has no member of this name, as far as the schema says. A schema that lists members
    /// and says nothing about others is taken as complete.
    pub(crate) fn lacks(self, name: &str) -> bool {
        let is_open = |key: &str| match self.part.get(key) {
            None | Some(Data::Bool(false)) => false,
            Some(_) => true,
        };
        let properties = self.part.get("properties").and_then(Data::as_object);
        let is_closed = self.part.get("additionalProperties") == Some(&Data::Bool(false));
        !self.is_merged
            && !OPEN_KEYS.into_iter().any(is_open)
            && properties.is_some_and(|properties| {
                (is_closed || !properties.is_empty()) && !properties.contains_key(name)
            })
    }

    /// The only alternative beside null, of `anyOf` or `oneOf`.
    fn alternative(self) -> Self {
        let options = ["anyOf", "oneOf"].into_iter().find_map(|key| self.part.get(key)?.as_array());
        let mut others = options.into_iter().flatten().map(|option| self.at(option));
        let mut others =
            others.by_ref().filter(|option| option.part.get("type") != Some(&Data::from("null")));
        match (others.next(), others.next()) {
            (Some(only), None) => only,
            (_, _) => self,
        }
    }

    /// The one type that the schema asks for, apart from null. `None` if it allows several, or says nothing.
    fn wanted(self) -> Option<JsonKind> {
        let part = self.alternative().part;
        let names: Vec<&str> = match part.get("type") {
            Some(Data::String(name)) => vec![name],
            Some(Data::Array(names)) => names.iter().filter_map(Data::as_str).collect(),
            Some(Data::Null | Data::Bool(_) | Data::Number(_) | Data::Object(_)) => return None,
            // The values that are allowed have a type too.
            None => part.get("enum")?.as_array()?.iter().map(kind_of).collect(),
        };
        let mut kinds = names.into_iter().filter(|name| *name != "null");
        let first = kinds.next()?;
        if kinds.all(|name| name == first) { JsonKind::named(first) } else { None }
    }
}

/// The name of the type of a value.
fn kind_of(value: &Data) -> &'static str {
    match value {
        Data::Null => "null",
        Data::Bool(_) => "boolean",
        Data::Number(number) if number.is_f64() => "number",
        Data::Number(_) => "integer",
        Data::String(_) => "string",
        Data::Array(_) => "array",
        Data::Object(_) => "object",
    }
}

fn wanted(schema: Option<Schema<'_>>) -> Option<JsonKind> {
    schema?.wanted()
}

/// Fits a value that an operator wrote. Only texts are changed.
pub(crate) fn constant(json: &Json, schema: Option<Schema<'_>>) -> Json {
    match json.decode_string() {
        Some(plain) => text(&plain, schema),
        None => json.clone(),
    }
}

/// Fits the value of a template that is one action. A list or an object keeps its type if the schema does not ask for
/// a text; other values become texts, as in ToolHive, unless the schema asks for their type.
pub(crate) fn value(value: &Value, schema: Option<Schema<'_>>) -> Json {
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
pub(crate) fn text(plain: &str, schema: Option<Schema<'_>>) -> Json {
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
        value(&Value::decode(&Json::parse(data.to_owned()).unwrap()), Some(Schema::new(&schema)))
            .as_str()
            .to_owned()
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
            ("5", r#"{"anyOf":[{"type":"integer"},{"type":"null"}]}"#, "5"),
            ("5", r#"{"oneOf":[{"type":"integer"},{"type":"string"}]}"#, "\"5\""),
            ("true", r##"{"$ref":"#/$defs/b","$defs":{"b":{"type":"boolean"}}}"##, "true"),
            ("2", r#"{"enum":[1,2,null]}"#, "2"),
        ] {
            assert_eq!(fitted(data, schema), expected, "{data} {schema}");
        }
    }
}
