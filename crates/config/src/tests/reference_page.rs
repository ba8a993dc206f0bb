//! The reference of all keys, `docs/config/reference.md`. The test makes it from the JSON Schema and from values in the
//! example configurations, and fails when the page is stale.

#![allow(clippy::wildcard_enum_match_arm, reason = "a JSON value is an object, an array, or a plain value")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use serde_json::Value;

use crate::schema_text;

const HEAD: &str = "# Configuration reference

Every key of the configuration file, made from the same types that read it. The table of a section gives each key's type, its
default, an example and its meaning. A key with the default `required` must be written. `vmcp config schema` prints the same as a
JSON Schema. [README.md](README.md) has the general rules: references to the environment, durations, what may be left out.

Keys without an example belong to features that this build refuses with a message.

";

/// Configurations that use keys with realistic values. The first value that is found is the example.
pub(super) const EXAMPLES: [&str; 22] = [
    include_str!("../../../../examples/minimal.yaml"),
    include_str!("../../../../examples/stdio-servers.yaml"),
    include_str!("../../../../examples/remote-servers.yaml"),
    include_str!("../../../../examples/oidc-cedar.yaml"),
    include_str!("../../../../examples/api-keys.yaml"),
    include_str!("../../../../examples/rate-limits-memory.yaml"),
    include_str!("../../../../examples/rate-limits-redis.yaml"),
    include_str!("../../../../examples/optimizer.yaml"),
    include_str!("../../../../examples/isolation.yaml"),
    include_str!("../../../../examples/behind-a-proxy.yaml"),
    include_str!("../../../../examples/token-exchange.yaml"),
    include_str!("../../../../examples/all-keys/backends.yaml"),
    include_str!("../../../../examples/all-keys/clients.yaml"),
    include_str!("../../../../examples/all-keys/optimizer.yaml"),
    include_str!("../../../../examples/all-keys/rate-limits.yaml"),
    include_str!("../../../../examples/all-keys/redis.yaml"),
    include_str!("../../../../examples/all-keys/redis-cluster.yaml"),
    include_str!("../../../../examples/all-keys/redis-sentinel.yaml"),
    include_str!("../../../../examples/all-keys/without-effect.yaml"),
    include_str!("../../../../examples/all-keys/workflows.yaml"),
    include_str!("../../../../examples/all-keys/scripts.yaml"),
    include_str!("../../tests/files/full.yaml"),
];

/// Types of which some keys have no example, since the features behind them are refused.
const REFUSED: [&str; 10] = [
    "AuthStrategy",
    "Authz",
    "AwsSts",
    "File",
    "NameRef",
    "Obo",
    "TokenExchange",
    "UpstreamInject",
    "WorkloadTools",
    "Xaa",
];

/// Longer example values are left out: the examples themselves show them.
const EXAMPLE_CHARS_MAX: usize = 60;

struct Reference<'a> {
    schema: &'a Value,
    /// Example values by type and key.
    examples: BTreeMap<(String, String), String>,
    seen: BTreeSet<(String, String)>,
}

impl<'a> Reference<'a> {
    fn new(schema: &'a Value) -> Self {
        let mut reference = Self { schema, examples: BTreeMap::new(), seen: BTreeSet::new() };
        for text in EXAMPLES {
            let example: Value = serde_saphyr::from_str(text).unwrap();
            reference.collect("File", schema, &example);
        }
        reference
    }

    /// The schema behind a reference or an optional value, with the name of its type.
    fn resolve(&self, schema: &'a Value) -> (Option<String>, &'a Value) {
        let mut found = (None, schema);
        loop {
            let schema = found.1;
            let name = schema["$ref"].as_str().and_then(|link| link.strip_prefix("#/$defs/"));
            let options = schema["anyOf"].as_array().map(Vec::as_slice).unwrap_or_default();
            let mut options = options.iter().filter(|option| option["type"] != "null");
            let only = options.next().filter(|_| options.next().is_none());
            found = match (name, only) {
                (Some(name), _) => (Some(name.to_owned()), &self.schema["$defs"][name]),
                (None, Some(option)) => (found.0, option),
                (None, None) => return found,
            };
        }
    }

    fn collect(&mut self, name: &str, schema: &'a Value, example: &Value) {
        match example {
            Value::Object(members) => {
                for (key, value) in members {
                    let (inner, property) = match &schema["properties"][key] {
                        Value::Null => self.resolve(&schema["additionalProperties"]),
                        property => {
                            self.note(name, key, value);
                            self.resolve(property)
                        }
                    };
                    self.collect(inner.as_deref().unwrap_or(name), property, value);
                }
            }
            Value::Array(items) => {
                let (inner, property) = self.resolve(&schema["items"]);
                for item in items {
                    self.collect(inner.as_deref().unwrap_or(name), property, item);
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, name: &str, key: &str, value: &Value) {
        let at = (name.to_owned(), key.to_owned());
        self.seen.insert(at.clone());
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Null => return,
            Value::Array(items) if items.is_empty() => return,
            other => other.to_string(),
        };
        if text.chars().count() <= EXAMPLE_CHARS_MAX && !text.contains('\n') && !text.is_empty() {
            self.examples.entry(at).or_insert(text);
        }
    }

    /// What a value may be, and the type whose section says more.
    fn type_of(&self, schema: &'a Value) -> (String, Option<(String, &'a Value)>) {
        let (name, schema) = self.resolve(schema);
        if schema["format"] == "duration" {
            return ("duration".to_owned(), None);
        }
        let constants = schema["oneOf"].as_array().into_iter().flatten().map(|option| &option["const"]);
        let choices = schema["enum"].as_array().into_iter().flatten().chain(constants);
        let choices: Vec<String> =
            choices.filter_map(Value::as_str).map(|choice| format!("`{choice}`")).collect();
        if !choices.is_empty() {
            return (choices.join(", "), None);
        }
        if schema["properties"].is_object() {
            let name = name.unwrap_or_default();
            return (format!("[{name}](#{})", name.to_lowercase()), Some((name, schema)));
        }
        let kinds: Vec<&str> = match &schema["type"] {
            Value::Array(kinds) => {
                kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect()
            }
            kind => kind.as_str().into_iter().collect(),
        };
        match *kinds.as_slice() {
            ["array"] => {
                let (text, inner) = self.type_of(&schema["items"]);
                (format!("list of {text}"), inner)
            }
            ["object"] if schema["additionalProperties"].is_object() => {
                let (text, inner) = self.type_of(&schema["additionalProperties"]);
                (format!("map of name to {text}"), inner)
            }
            ["object"] => ("map".to_owned(), None),
            [] => match schema["anyOf"].as_array() {
                Some(options) => {
                    let texts: BTreeSet<String> =
                        options.iter().map(|option| self.type_of(option).0).collect();
                    (texts.into_iter().collect::<Vec<_>>().join(" or "), None)
                }
                None => ("any value".to_owned(), None),
            },
            _ => (kinds.join(" or "), None),
        }
    }

    fn render(&self) -> String {
        let mut page = HEAD.to_owned();
        let mut open = VecDeque::from([("File".to_owned(), String::new(), self.schema)]);
        let mut known = BTreeSet::from(["File".to_owned()]);
        while let Some((name, path, schema)) = open.pop_front() {
            let title = if path.is_empty() { "The file".to_owned() } else { format!("`{path}`") };
            let about = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
            writeln!(page, "## {title}\n\n<a id=\"{}\"></a>{about}\n", name.to_lowercase()).unwrap();
            writeln!(page, "| Key | Type | Default | Example | Meaning |\n| --- | --- | --- | --- | --- |")
                .unwrap();
            for (key, property) in schema["properties"].as_object().into_iter().flatten() {
                let (kind, inner) = self.type_of(property);
                let row = self.row(&name, key, schema, property, &kind);
                page.push_str(&row);
                if let Some((inner, schema)) = inner
                    && known.insert(inner.clone())
                {
                    let dot = if path.is_empty() { "" } else { "." };
                    let many = if kind.starts_with("list") { "[]" } else { "" };
                    let named = if kind.starts_with("map") { ".NAME" } else { "" };
                    open.push_back((inner, format!("{path}{dot}{key}{many}{named}"), schema));
                }
            }
            page.push('\n');
        }
        page.truncate(page.trim_end().len());
        page.push('\n');
        page
    }

    fn row(&self, name: &str, key: &str, schema: &Value, property: &Value, kind: &str) -> String {
        let is_required =
            schema["required"].as_array().is_some_and(|required| required.iter().any(|one| one == key));
        let text =
            property["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        let (meaning, left_out) = split_default(&text);
        let declared = &property["default"];
        let default = match left_out {
            _ if is_required => "required".to_owned(),
            Some(text) => text,
            None if declared.is_null()
                || declared == &Value::Array(vec![])
                || declared.as_object().is_some_and(serde_json::Map::is_empty) =>
            {
                String::new()
            }
            None => format!("`{}`", declared.to_string().trim_matches('"')),
        };
        let example = self.examples.get(&(name.to_owned(), key.to_owned()));
        let example = example.map(|text| format!("`{}`", text.replace('|', "\\|"))).unwrap_or_default();
        format!("| `{key}` | {kind} | {default} | {example} | {meaning} |\n")
    }
}

/// A description without its sentence about the default, and that sentence's end.
fn split_default(text: &str) -> (String, Option<String>) {
    let Some((before, after)) = text.split_once("Left out: ") else {
        return (text.to_owned(), None);
    };
    let end = after.find(". ").map_or(after.len(), |end| end + 1);
    let (default, rest) = after.split_at(end);
    let meaning = format!("{} {}", before.trim_end(), rest.trim_start());
    (meaning.trim().to_owned(), Some(default.trim_end_matches('.').to_owned()))
}

#[test]
fn the_reference_of_all_keys_is_checked_in() {
    let schema: Value = serde_json::from_str(&schema_text()).unwrap();
    let page = Reference::new(&schema).render();
    expect_test::expect_file!["../../../../docs/config/reference.md"].assert_eq(&page);
}

#[test]
fn every_key_that_can_be_used_is_in_an_example() {
    let schema: Value = serde_json::from_str(&schema_text()).unwrap();
    let reference = Reference::new(&schema);
    let root = [("File", &schema)];
    let defs = schema["$defs"].as_object().unwrap();
    for (name, def) in root.into_iter().chain(defs.iter().map(|(name, def)| (name.as_str(), def))) {
        let keys = def["properties"].as_object().into_iter().flatten().map(|(key, _)| key);
        let missing: Vec<&String> =
            keys.filter(|key| !reference.seen.contains(&(name.to_owned(), (*key).clone()))).collect();
        assert!(missing.is_empty() || REFUSED.contains(&name), "{name}: {missing:?}");
    }
}
