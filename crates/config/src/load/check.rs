//! Checks a config tree against the JSON Schema of the file and reports every unknown key, missing key and
//! wrong type at once. A wrong value is replaced by a placeholder of the right type, so that `convert` can
//! still check the rest. This module knows the schema, not the keys.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::unknown_key::unknown_key_problem;
use crate::file::duration::{self, DurationError};
use crate::load::tree::{Node, NodeKind, describe, to_json};
use crate::report::{Problem, ProblemCode, item_path, join_path, nearest_name};

/// The result of a check.
pub(crate) struct CheckResult {
    /// The tree as a JSON value that the schema accepts.
    pub(crate) value: Value,
    /// Missing keys, wrong types and keys that occur twice.
    pub(crate) problems: Vec<Problem>,
    /// Keys that the schema does not have. They are missing from `value`.
    pub(crate) unknown_keys: Vec<Problem>,
    /// The line of each key and list item, counted from 1, by its path.
    pub(crate) lines: BTreeMap<String, u64>,
    /// The paths that unknown keys were probably meant to have. A report that such a path is missing would
    /// only repeat the unknown key.
    pub(crate) intended_paths: Vec<String>,
}

/// Checks a tree against a schema. Problems are collected in the result; there is no early return.
pub(crate) fn check(root: &Node, schema: &Value) -> CheckResult {
    let (problems, unknown) = (Vec::new(), Vec::new());
    let mut check = Checker {
        defs: &schema["$defs"],
        problems,
        unknown_keys: unknown,
        lines: BTreeMap::new(),
        intended_paths: Vec::new(),
    };
    let value = check.check_value(root, schema, "");
    let Checker { problems, unknown_keys: unknown, lines, intended_paths, .. } = check;
    CheckResult { value, problems, unknown_keys: unknown, lines, intended_paths }
}

/// True for a schema that accepts an integer or a string, such as `cost`. The check needs both options, so
/// `resolve` must not pick the first.
fn is_number_or_text(schema: &Value) -> bool {
    let options = schema["anyOf"].as_array().map(Vec::as_slice);
    matches!(options, Some([number, text]) if number["type"] == "integer" && text["type"] == "string")
}

struct Checker<'a> {
    defs: &'a Value,
    problems: Vec<Problem>,
    unknown_keys: Vec<Problem>,
    lines: BTreeMap<String, u64>,
    intended_paths: Vec<String>,
}

impl<'a> Checker<'a> {
    /// Follows `$ref` and drops the option `null`.
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

    fn add_problem(&mut self, node: &Node, path: &str, message: impl Into<String>) -> &mut Problem {
        self.problems.push(Problem { line: Some(node.line), ..Problem::new(path, message) });
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    fn check_value(&mut self, node: &Node, schema: &'a Value, path: &str) -> Value {
        let schema = self.resolve(schema);
        if schema["format"] == duration::FORMAT {
            return self.check_duration(node, path);
        }
        if let Some(choices) = choices(schema) {
            return self.check_choice(node, &choices, path);
        }
        if is_number_or_text(schema) {
            return self.check_number_or_text(node, &schema["anyOf"][0], path);
        }
        match type_of(schema) {
            "object" => self.check_object(node, schema, path),
            "array" => self.check_list(node, &schema["items"], path),
            "string" => self.check_text(node, path),
            "boolean" => self.check_boolean(node, path),
            "integer" => self.check_integer(node, schema, path),
            _ => to_json(node),
        }
    }

    fn report_wrong_type(&mut self, node: &Node, path: &str, expected: &str) {
        self.add_problem(node, path, format!("must be {expected}, but is {}", describe(node))).code =
            ProblemCode::WrongType;
    }

    fn check_object(&mut self, node: &Node, schema: &'a Value, parent_path: &str) -> Value {
        let NodeKind::Map(entries) = &node.kind else {
            self.report_wrong_type(node, parent_path, "a map");
            return self.placeholder(schema);
        };
        let properties = schema["properties"].as_object();
        let mut out = Map::new();
        let mut seen = BTreeSet::new();
        for (key, line, value) in entries {
            let path = join_path(parent_path, key);
            if !seen.insert(key) {
                self.add_problem(value, &path, "this key occurs twice").line = Some(*line);
                continue;
            }
            self.lines.insert(path.clone(), *line);
            let Some(properties) = properties else {
                let value = self.check_value(value, &schema["additionalProperties"], &path);
                out.insert(key.clone(), value);
                continue;
            };
            let Some(property) = properties.get(key) else {
                if let Some(nearest_key) = self.report_unknown_key(key, *line, &path, properties) {
                    self.intended_paths.push(join_path(parent_path, nearest_key));
                }
                continue;
            };
            if !self.is_absent(value, property) {
                let value = self.check_value(value, property, &path);
                out.insert(key.clone(), value);
            }
        }
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if out.contains_key(key) {
                continue;
            }
            let path = join_path(parent_path, key);
            if !self.intended_paths.contains(&path) {
                self.add_problem(node, &path, "is required").code = ProblemCode::MissingKey;
            }
            out.insert(key.to_owned(), self.placeholder(&schema["properties"][key]));
        }
        Value::Object(out)
    }

    /// Reports an unknown key, and returns the known key that was probably meant.
    fn report_unknown_key(
        &mut self,
        key: &str,
        line: u64,
        path: &str,
        known: &'a Map<String, Value>,
    ) -> Option<&'a str> {
        let (mut problem, nearest_key) = unknown_key_problem(key, path, known);
        problem.line = Some(line);
        self.unknown_keys.push(problem);
        nearest_key
    }

    /// True if the value counts as leaving the key out: null, or an empty text where a text or a word from a
    /// list is expected. ToolHive makes no difference between these either. An empty text that came from a
    /// reference to the environment is a value.
    fn is_absent(&self, node: &Node, property: &'a Value) -> bool {
        let schema = self.resolve(property);
        match &node.kind {
            NodeKind::Null => {
                !type_of(schema).is_empty() || choices(schema).is_some() || !schema["format"].is_null()
            }
            NodeKind::Text { text, is_expanded: false } => text.is_empty() && type_of(schema) == "string",
            NodeKind::Text { .. }
            | NodeKind::Bool(..)
            | NodeKind::Number(..)
            | NodeKind::List(_)
            | NodeKind::Map(_) => false,
        }
    }

    fn check_list(&mut self, node: &Node, items: &'a Value, path: &str) -> Value {
        let NodeKind::List(nodes) = &node.kind else {
            self.report_wrong_type(node, path, "a list");
            return Value::Array(Vec::new());
        };
        let mut out = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            let path = item_path(path, index);
            self.lines.insert(path.clone(), node.line);
            out.push(self.check_value(node, items, &path));
        }
        Value::Array(out)
    }

    fn check_text(&mut self, node: &Node, path: &str) -> Value {
        match &node.kind {
            NodeKind::Text { text, .. } | NodeKind::Bool(_, text) | NodeKind::Number(_, text) => {
                text.clone().into()
            }
            NodeKind::Null | NodeKind::List(_) | NodeKind::Map(_) => {
                self.report_wrong_type(node, path, "a text");
                "".into()
            }
        }
    }

    fn check_boolean(&mut self, node: &Node, path: &str) -> Value {
        match &node.kind {
            NodeKind::Bool(value, _) => return (*value).into(),
            // ToolHive accepts the spellings of YAML 1.1, too.
            NodeKind::Text { text, .. } => match text.to_ascii_lowercase().as_str() {
                "true" | "y" | "yes" | "on" => return true.into(),
                "false" | "n" | "no" | "off" => return false.into(),
                _ => {}
            },
            NodeKind::Null | NodeKind::Number(..) | NodeKind::List(_) | NodeKind::Map(_) => {}
        }
        self.report_wrong_type(node, path, "`true` or `false`");
        false.into()
    }

    fn check_integer(&mut self, node: &Node, schema: &Value, path: &str) -> Value {
        let number = match &node.kind {
            NodeKind::Number(number, _) => number.as_i64(),
            NodeKind::Text { text, is_expanded: true } => text.trim().parse().ok(),
            NodeKind::Text { .. }
            | NodeKind::Null
            | NodeKind::Bool(..)
            | NodeKind::List(_)
            | NodeKind::Map(_) => None,
        };
        let Some(number) = number else {
            self.report_wrong_type(node, path, "a whole number");
            return 1.into();
        };
        let (least, most) = match schema["format"].as_str() {
            Some("uint16") => (0, i64::from(u16::MAX)),
            Some("uint32") => (0, i64::from(u32::MAX)),
            Some("uint64") => (0, i64::MAX),
            _ => (i64::MIN, i64::MAX),
        };
        if number < least || number > most {
            self.add_problem(node, path, format!("must lie between {least} and {most}, but is {number}"));
            return 1.into();
        }
        number.into()
    }

    fn check_number_or_text(&mut self, node: &Node, number: &Value, path: &str) -> Value {
        match &node.kind {
            NodeKind::Text { text, is_expanded: expanded }
                if !expanded || text.trim().parse::<i64>().is_err() =>
            {
                self.check_text(node, path)
            }
            NodeKind::Number(..) | NodeKind::Text { .. } => self.check_integer(node, number, path),
            NodeKind::Null | NodeKind::Bool(..) | NodeKind::List(_) | NodeKind::Map(_) => {
                self.report_wrong_type(node, path, "a whole number or an expression");
                1.into()
            }
        }
    }

    fn check_choice(&mut self, node: &Node, choices: &[Value], path: &str) -> Value {
        let names = || choices.iter().filter_map(Value::as_str);
        let found = match &node.kind {
            NodeKind::Text { text, .. } | NodeKind::Bool(_, text) | NodeKind::Number(_, text) => {
                if names().any(|name| name == text) {
                    return text.clone().into();
                }
                Some(text)
            }
            NodeKind::Null | NodeKind::List(_) | NodeKind::Map(_) => None,
        };
        let allowed = names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let one_of = if choices.len() == 1 { "must be" } else { "must be one of" };
        let actual = describe(node);
        let problem = self.add_problem(node, path, format!("{one_of} {allowed}, but is {actual}"));
        if let Some(nearest_key) = found.and_then(|text| nearest_name(text, names())) {
            problem.hint = Some(format!("did you mean `{nearest_key}`?"));
        }
        choices.first().cloned().unwrap_or_default()
    }

    fn check_duration(&mut self, node: &Node, path: &str) -> Value {
        let text = match &node.kind {
            NodeKind::Text { text, .. } | NodeKind::Number(_, text) => text,
            NodeKind::Map(entries) => {
                if let [(key, _, inner)] = entries.as_slice()
                    && key == "duration"
                    && !matches!(inner.kind, NodeKind::Map(_))
                {
                    return self.check_duration(inner, &join_path(path, key));
                }
                self.report_wrong_type(node, path, "a duration");
                return "1s".into();
            }
            NodeKind::Null | NodeKind::Bool(..) | NodeKind::List(_) => {
                self.report_wrong_type(node, path, "a duration");
                return "1s".into();
            }
        };
        match duration::parse(text) {
            Ok(duration) => duration::format(duration).into(),
            Err(error) => {
                let secret = matches!(node.kind, NodeKind::Text { is_expanded: true, .. });
                let message = if secret {
                    "the variable's value is not a duration".to_owned()
                } else {
                    error.to_string()
                };
                self.add_problem(node, path, message).hint = Some(DurationError::hint().to_owned());
                "1s".into()
            }
        }
    }

    /// A value of the schema's type, so that the shape stays valid after a problem.
    fn placeholder(&self, schema: &'a Value) -> Value {
        let schema = self.resolve(schema);
        if schema["format"] == duration::FORMAT {
            return "1s".into();
        }
        if let Some(choices) = choices(schema) {
            return choices.first().cloned().unwrap_or_default();
        }
        match type_of(schema) {
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

/// The words that a value may have, or `None` for a schema that is no list of words. schemars writes words
/// with a description as one schema each, under `oneOf`.
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

/// The schema's type without `null`; empty if the schema accepts any type.
fn type_of(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(kind) => kind,
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or_default()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::schema::schema;

    /// A word that only serde refuses, and not this check, would be reported without its line.
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
