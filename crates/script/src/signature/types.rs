//! JSON Schema to types of TypeScript. What has no type there is `unknown`.

use serde_json::{Map, Value};

use super::Documentation;
use vmcp_script_worker::is_identifier;

/// The deepest nesting of a type.
const DEPTH_MAX: usize = 12;
/// The most values of an enumeration.
const ENUM_MAX: usize = 40;
/// The most characters of a description.
const DESCRIPTION_MAX: usize = 240;

/// The types of one schema.
pub(super) struct Types<'a> {
    root: &'a Value,
    documentation: Documentation,
    /// The references that are being followed.
    following: Vec<&'a str>,
    depth: usize,
}

impl<'a> Types<'a> {
    pub(super) fn of(root: &'a Value, documentation: Documentation) -> Self {
        Self { root, documentation, following: Vec::new(), depth: 0 }
    }

    /// The type of the whole schema.
    pub(super) fn text(mut self) -> String {
        let root = self.root;
        self.schema(root)
    }

    /// The type of a part of the schema.
    pub(super) fn text_of(mut self, part: &'a Value) -> String {
        self.schema(part)
    }

    fn schema(&mut self, schema: &'a Value) -> String {
        let Some(keys) = schema.as_object() else {
            return if schema == &Value::Bool(false) { "never" } else { "unknown" }.to_owned();
        };
        if self.depth >= DEPTH_MAX {
            return "unknown".to_owned();
        }
        self.depth += 1;
        let text = self.keys(keys);
        self.depth -= 1;
        text
    }

    fn keys(&mut self, keys: &'a Map<String, Value>) -> String {
        if let Some(reference) = keys.get("$ref").and_then(Value::as_str) {
            return self.reference(reference);
        }
        if let Some(value) = keys.get("const") {
            return literal(value);
        }
        if let Some(values) = keys.get("enum").and_then(Value::as_array) {
            return enumeration(values);
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(options) = keys.get(key).and_then(Value::as_array) {
                let options: Vec<String> = options.iter().map(|option| self.schema(option)).collect();
                return union(options);
            }
        }
        if let Some(parts) = keys.get("allOf").and_then(Value::as_array) {
            let mut types: Vec<String> = parts.iter().map(|part| self.schema(part)).collect();
            if keys.contains_key("properties") {
                types.push(self.object(keys));
            }
            types.retain(|one| one != "unknown");
            let types = distinct(types).into_iter().map(grouped).collect::<Vec<_>>();
            return if types.is_empty() { "unknown".to_owned() } else { types.join(" & ") };
        }
        match keys.get("type") {
            Some(Value::String(kind)) => self.kind(kind, keys),
            Some(Value::Array(kinds)) => {
                let kinds: Vec<&str> = kinds.iter().filter_map(Value::as_str).collect();
                union(kinds.into_iter().map(|kind| self.kind(kind, keys)).collect())
            }
            _ if keys.contains_key("properties") => self.object(keys),
            _ if keys.contains_key("items") || keys.contains_key("prefixItems") => self.array(keys),
            _ => "unknown".to_owned(),
        }
    }

    fn kind(&mut self, kind: &str, keys: &'a Map<String, Value>) -> String {
        match kind {
            "string" => "string".to_owned(),
            "number" => "number".to_owned(),
            "integer" => "number /* integer */".to_owned(),
            "boolean" => "boolean".to_owned(),
            "null" => "null".to_owned(),
            "array" => self.array(keys),
            "object" => self.object(keys),
            _ => "unknown".to_owned(),
        }
    }

    fn reference(&mut self, reference: &'a str) -> String {
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        // A type that contains itself has no text without a name.
        let Some(target) = target.filter(|_| !self.following.contains(&reference)) else {
            return "unknown".to_owned();
        };
        self.following.push(reference);
        let text = self.schema(target);
        self.following.pop();
        text
    }

    fn array(&mut self, keys: &'a Map<String, Value>) -> String {
        let rest = keys.get("items").filter(|items| items.is_object()).map(|items| self.schema(items));
        if let Some(items) = keys.get("prefixItems").and_then(Value::as_array) {
            let mut types: Vec<String> = items.iter().map(|item| self.schema(item)).collect();
            types.extend(rest.map(|rest| format!("...{}[]", grouped(rest))));
            return format!("[{}]", types.join(", "));
        }
        format!("{}[]", grouped(rest.unwrap_or_else(|| "unknown".to_owned())))
    }

    fn object(&mut self, keys: &'a Map<String, Value>) -> String {
        let properties = keys.get("properties").and_then(Value::as_object);
        let Some(properties) = properties.filter(|properties| !properties.is_empty()) else {
            return match keys.get("additionalProperties") {
                Some(Value::Bool(false)) => "{}".to_owned(),
                Some(schema @ Value::Object(_)) => format!("Record<string, {}>", self.schema(schema)),
                _ => "Record<string, unknown>".to_owned(),
            };
        };
        let required = keys.get("required").and_then(Value::as_array);
        let is_required = |name: &str| {
            required.is_some_and(|names| names.iter().any(|required| required.as_str() == Some(name)))
        };
        let (first, last): (Vec<_>, Vec<_>) = properties.iter().partition(|(name, _)| is_required(name));
        let members: Vec<String> = first
            .into_iter()
            .chain(last)
            .map(|(name, schema)| {
                let optional = if is_required(name) { "" } else { "?" };
                let comment = self.comment(schema);
                let written =
                    if is_identifier(name) { name.clone() } else { Value::from(name.as_str()).to_string() };
                format!("{comment}{written}{optional}: {}", self.schema(schema))
            })
            .collect();
        format!("{{ {} }}", members.join("; "))
    }

    fn comment(&self, schema: &Value) -> String {
        let description = schema.get("description").and_then(Value::as_str);
        match description.filter(|_| self.documentation == Documentation::Comments) {
            Some(description) => doc_comment(description),
            None => String::new(),
        }
    }
}

/// A comment on one line.
pub(super) fn doc_comment(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ").replace("*/", "*\\/");
    if words.is_empty() {
        return String::new();
    }
    let end = words.char_indices().nth(DESCRIPTION_MAX).map_or(words.len(), |(end, _)| end);
    let more = if end < words.len() { "…" } else { "" };
    format!("/** {}{more} */ ", &words[..end])
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
        Value::Array(_) | Value::Object(_) => "unknown".to_owned(),
    }
}

fn enumeration(values: &[Value]) -> String {
    let mut options: Vec<String> = values.iter().take(ENUM_MAX).map(literal).collect();
    if values.len() > ENUM_MAX {
        options.push("string".to_owned());
    }
    union(options)
}

/// One of these types, each once.
fn union(options: Vec<String>) -> String {
    let options = distinct(options);
    if options.is_empty() {
        return "unknown".to_owned();
    }
    if options.iter().any(|option| option == "unknown") { "unknown".to_owned() } else { options.join(" | ") }
}

fn distinct(types: Vec<String>) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::with_capacity(types.len());
    for one in types {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    distinct
}

/// The type in parentheses, if an operator beside it would change its meaning.
fn grouped(text: String) -> String {
    let is_simple = !text.contains(" | ") && !text.contains(" & ") && !text.contains("/*")
        || text.starts_with('{') && text.ends_with('}') && !text.contains("} |") && !text.contains("} &");
    if is_simple { text } else { format!("({text})") }
}
