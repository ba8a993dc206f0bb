//! The shape of the tree against the JSON Schema of the file: unknown keys, missing keys and wrong types,
//! all of them at once. What is wrong is replaced by something of the right type, so that the meaning of the
//! rest can be checked too. Knows the schema, not the keys.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::duration::{self, DurationError};
use super::report::{Problem, item, join, nearest};
use super::tree::{Kind, Node};

/// What the check leaves behind.
pub(crate) struct Checked {
    /// A value of the schema's shape.
    pub(crate) value: Value,
    /// What is wrong.
    pub(crate) problems: Vec<Problem>,
    /// Keys that the schema does not have. They are left out.
    pub(crate) unknown: Vec<Problem>,
    /// Lines by path.
    pub(crate) lines: BTreeMap<String, u64>,
    /// Paths that mistyped keys were probably meant to have: saying that they are missing helps nobody.
    pub(crate) meant: Vec<String>,
}

/// Checks the tree against the schema.
pub(crate) fn check(root: &Node, schema: &Value) -> Checked {
    let (problems, unknown) = (Vec::new(), Vec::new());
    let mut check =
        Check { defs: &schema["$defs"], problems, unknown, lines: BTreeMap::new(), meant: Vec::new() };
    let value = check.value(root, schema, "");
    let Check { problems, unknown, lines, meant, .. } = check;
    Checked { value, problems, unknown, lines, meant }
}

/// A whole number first, or else a text.
fn is_number_or_text(schema: &Value) -> bool {
    let options = schema["anyOf"].as_array().map(Vec::as_slice);
    matches!(options, Some([number, text]) if number["type"] == "integer" && text["type"] == "string")
}

struct Check<'a> {
    defs: &'a Value,
    problems: Vec<Problem>,
    unknown: Vec<Problem>,
    lines: BTreeMap<String, u64>,
    meant: Vec<String>,
}

impl<'a> Check<'a> {
    /// Follows `$ref` and leaves the possibility of `null` away.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let mut schema = schema;
        loop {
            if let Some(name) = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/")) {
                schema = &self.defs[name];
            } else if schema["format"] == duration::FORMAT || is_number_or_text(schema) {
                return schema;
            } else if let Some(some) =
                schema["anyOf"].as_array().and_then(|any| any.iter().find(|option| option["type"] != "null"))
            {
                schema = some;
            } else {
                return schema;
            }
        }
    }

    fn problem(&mut self, node: &Node, path: &str, message: impl Into<String>) -> &mut Problem {
        self.problems.push(Problem { line: Some(node.line), ..Problem::new(path, message) });
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    fn value(&mut self, node: &Node, schema: &'a Value, path: &str) -> Value {
        let schema = self.resolve(schema);
        if schema["format"] == duration::FORMAT {
            return self.duration(node, path);
        }
        if let Some(choices) = choices(schema) {
            return self.choice(node, &choices, path);
        }
        if is_number_or_text(schema) {
            return self.number_or_text(node, &schema["anyOf"][0], path);
        }
        match kind_of(schema) {
            "object" => self.object(node, schema, path),
            "array" => self.list(node, &schema["items"], path),
            "string" => self.text(node, path),
            "boolean" => self.boolean(node, path),
            "integer" => self.integer(node, schema, path),
            _ => free(node),
        }
    }

    fn wrong(&mut self, node: &Node, path: &str, wanted: &str) {
        self.problem(node, path, format!("must be {wanted}, but is {}", name_of(node)));
    }

    fn object(&mut self, node: &Node, schema: &'a Value, outer: &str) -> Value {
        let Kind::Map(entries) = &node.kind else {
            self.wrong(node, outer, "a map");
            return self.placeholder(schema);
        };
        let properties = schema["properties"].as_object();
        let mut out = Map::new();
        let mut seen = BTreeSet::new();
        for (key, line, value) in entries {
            let path = join(outer, key);
            if !seen.insert(key) {
                self.problem(value, &path, "this key stands twice").line = Some(*line);
                continue;
            }
            self.lines.insert(path.clone(), *line);
            let Some(properties) = properties else {
                let value = self.value(value, &schema["additionalProperties"], &path);
                out.insert(key.clone(), value);
                continue;
            };
            let Some(property) = properties.get(key) else {
                if let Some(near) = self.unknown(key, *line, &path, properties) {
                    self.meant.push(join(outer, near));
                }
                continue;
            };
            if !self.left_out(value, property) {
                let value = self.value(value, property, &path);
                out.insert(key.clone(), value);
            }
        }
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if out.contains_key(key) {
                continue;
            }
            let path = join(outer, key);
            if !self.meant.contains(&path) {
                self.problem(node, &path, "is required");
            }
            out.insert(key.to_owned(), self.placeholder(&schema["properties"][key]));
        }
        Value::Object(out)
    }

    /// Reports a key nobody knows, and answers with the known one it was probably meant to be.
    fn unknown(
        &mut self,
        key: &str,
        line: u64,
        path: &str,
        known: &'a Map<String, Value>,
    ) -> Option<&'a str> {
        let names = || known.keys().map(String::as_str);
        let near = nearest(key, names());
        let mut problem = Problem::new(path, "unknown key").nearest(key, names());
        if near.is_none() && known.len() <= 8 {
            let names: Vec<_> = names().map(|name| format!("`{name}`")).collect();
            problem = problem.hint(format!("known keys are {}", names.join(", ")));
        }
        problem.line = Some(line);
        self.unknown.push(problem);
        near
    }

    /// Whether the value is the same as leaving the key out: nothing at all, or an empty text where a text
    /// or a word from a list is meant. The reference makes no difference between them either.
    fn left_out(&self, node: &Node, property: &'a Value) -> bool {
        let schema = self.resolve(property);
        match &node.kind {
            Kind::Null => {
                !kind_of(schema).is_empty() || choices(schema).is_some() || !schema["format"].is_null()
            }
            Kind::Text { text, expanded: false } => text.is_empty() && kind_of(schema) == "string",
            Kind::Text { .. } | Kind::Bool(..) | Kind::Number(..) | Kind::List(_) | Kind::Map(_) => false,
        }
    }

    fn list(&mut self, node: &Node, items: &'a Value, path: &str) -> Value {
        let Kind::List(nodes) = &node.kind else {
            self.wrong(node, path, "a list");
            return Value::Array(Vec::new());
        };
        let mut out = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            let path = item(path, index);
            self.lines.insert(path.clone(), node.line);
            out.push(self.value(node, items, &path));
        }
        Value::Array(out)
    }

    fn text(&mut self, node: &Node, path: &str) -> Value {
        match &node.kind {
            Kind::Text { text, .. } | Kind::Bool(_, text) | Kind::Number(_, text) => text.clone().into(),
            Kind::Null | Kind::List(_) | Kind::Map(_) => {
                self.wrong(node, path, "a text");
                "".into()
            }
        }
    }

    fn boolean(&mut self, node: &Node, path: &str) -> Value {
        match &node.kind {
            Kind::Bool(value, _) => return (*value).into(),
            // The spellings of YAML 1.1, which the reference takes as well.
            Kind::Text { text, .. } => match text.to_ascii_lowercase().as_str() {
                "true" | "y" | "yes" | "on" => return true.into(),
                "false" | "n" | "no" | "off" => return false.into(),
                _ => {}
            },
            Kind::Null | Kind::Number(..) | Kind::List(_) | Kind::Map(_) => {}
        }
        self.wrong(node, path, "`true` or `false`");
        false.into()
    }

    fn integer(&mut self, node: &Node, schema: &Value, path: &str) -> Value {
        let number = match &node.kind {
            Kind::Number(number, _) => number.as_i64(),
            Kind::Text { text, expanded: true } => text.trim().parse().ok(),
            Kind::Text { .. } | Kind::Null | Kind::Bool(..) | Kind::List(_) | Kind::Map(_) => None,
        };
        let Some(number) = number else {
            self.wrong(node, path, "a whole number");
            return 1.into();
        };
        let (least, most) = match schema["format"].as_str() {
            Some("uint16") => (0, i64::from(u16::MAX)),
            Some("uint32") => (0, i64::from(u32::MAX)),
            Some("uint64") => (0, i64::MAX),
            _ => (i64::MIN, i64::MAX),
        };
        if number < least || number > most {
            self.problem(node, path, format!("must lie between {least} and {most}, but is {number}"));
            return 1.into();
        }
        number.into()
    }

    fn number_or_text(&mut self, node: &Node, number: &Value, path: &str) -> Value {
        match &node.kind {
            Kind::Text { text, expanded } if !expanded || text.trim().parse::<i64>().is_err() => {
                self.text(node, path)
            }
            Kind::Number(..) | Kind::Text { .. } => self.integer(node, number, path),
            Kind::Null | Kind::Bool(..) | Kind::List(_) | Kind::Map(_) => {
                self.wrong(node, path, "a whole number or an expression");
                1.into()
            }
        }
    }

    fn choice(&mut self, node: &Node, choices: &[Value], path: &str) -> Value {
        let names = || choices.iter().filter_map(Value::as_str);
        let found = match &node.kind {
            Kind::Text { text, .. } | Kind::Bool(_, text) | Kind::Number(_, text) => {
                if names().any(|name| name == text) {
                    return text.clone().into();
                }
                Some(text)
            }
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        };
        let list = names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let one_of = if choices.len() == 1 { "must be" } else { "must be one of" };
        let is = name_of(node);
        let problem = self.problem(node, path, format!("{one_of} {list}, but is {is}"));
        if let Some(near) = found.and_then(|text| nearest(text, names())) {
            problem.hint = Some(format!("did you mean `{near}`?"));
        }
        choices.first().cloned().unwrap_or_default()
    }

    fn duration(&mut self, node: &Node, path: &str) -> Value {
        let text = match &node.kind {
            Kind::Text { text, .. } | Kind::Number(_, text) => text,
            Kind::Map(entries) => {
                if let [(key, _, inner)] = entries.as_slice()
                    && key == "duration"
                    && !matches!(inner.kind, Kind::Map(_))
                {
                    return self.duration(inner, &join(path, key));
                }
                self.wrong(node, path, "a duration");
                return "1s".into();
            }
            Kind::Null | Kind::Bool(..) | Kind::List(_) => {
                self.wrong(node, path, "a duration");
                return "1s".into();
            }
        };
        match duration::parse(text) {
            Ok(duration) => duration::format(duration).into(),
            Err(error) => {
                let secret = matches!(node.kind, Kind::Text { expanded: true, .. });
                let message = if secret {
                    "the variable's value is not a duration".to_owned()
                } else {
                    error.to_string()
                };
                self.problem(node, path, message).hint = Some(DurationError::hint().to_owned());
                "1s".into()
            }
        }
    }

    /// Something of the schema's type.
    fn placeholder(&self, schema: &'a Value) -> Value {
        let schema = self.resolve(schema);
        if schema["format"] == duration::FORMAT {
            return "1s".into();
        }
        if let Some(choices) = choices(schema) {
            return choices.first().cloned().unwrap_or_default();
        }
        match kind_of(schema) {
            "object" => {
                let required = schema["required"].as_array().into_iter().flatten();
                let entries = required
                    .filter_map(Value::as_str)
                    .map(|key| (key.to_owned(), self.placeholder(&schema["properties"][key])));
                Value::Object(entries.collect())
            }
            "array" => Value::Array(Vec::new()),
            "string" => "".into(),
            "boolean" => false.into(),
            "integer" => 1.into(),
            _ => Value::Null,
        }
    }
}

/// The words that a value may be. Words that are described each have a schema of their own.
fn choices(schema: &Value) -> Option<Vec<Value>> {
    if let Some(words) = schema["enum"].as_array() {
        return Some(words.clone());
    }
    let described = schema["oneOf"].as_array()?;
    let word = |one: &Value| match (&one["const"], one["enum"].as_array().map(Vec::as_slice)) {
        (Value::String(word), _) => Some(vec![Value::from(word.as_str())]),
        (_, Some(words)) => Some(words.to_vec()),
        (_, None) => None,
    };
    Some(described.iter().map(word).collect::<Option<Vec<_>>>()?.concat())
}

/// The schema's type without `null`; empty when anything goes.
fn kind_of(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(kind) => kind,
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or_default()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "",
    }
}

/// The node as JSON, where the schema leaves it free.
fn free(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Null,
        Kind::Bool(value, _) => (*value).into(),
        Kind::Number(number, _) => Value::Number(number.clone()),
        Kind::Text { text, .. } => text.clone().into(),
        Kind::List(nodes) => nodes.iter().map(free).collect(),
        Kind::Map(entries) => entries.iter().map(|(key, _, node)| (key.clone(), free(node))).collect(),
    }
}

/// What stands there, for messages. A value from the environment may be a secret and is not repeated.
fn name_of(node: &Node) -> String {
    match &node.kind {
        Kind::Null => "empty".to_owned(),
        Kind::Text { expanded: true, .. } => "another value from the environment".to_owned(),
        Kind::Text { text, .. } if text.chars().count() > 40 || text.contains('\n') => "a text".to_owned(),
        Kind::Text { text, .. } | Kind::Bool(_, text) | Kind::Number(_, text) => format!("`{text}`"),
        Kind::List(_) => "a list".to_owned(),
        Kind::Map(_) => "a map".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::schema;

    /// A word that is refused by the reader of the shape and not here is told without its line.
    #[test]
    fn the_words_of_every_enum_are_known_here() {
        let schema = serde_json::to_value(schema()).unwrap();
        let defs = schema["$defs"].as_object().unwrap();
        let described: Vec<&String> =
            defs.iter().filter(|(_, def)| def["oneOf"].is_array()).map(|(name, _)| name).collect();
        assert!(described.len() >= 4, "{described:?}");
        for name in described {
            assert!(choices(&defs[name]).is_some_and(|words| words.len() > 1), "{name}");
        }
    }
}
