//! The configuration as it is written, without secrets. A text that refers to the environment keeps its
//! reference, so that `vmcp config show` prints a file that means the same.

use serde_json::Value;

use super::redact::{REDACTED, looks_like_secret, redact_arg, redact_url};
use crate::file::File;

/// A scrape key that is long enough to be accepted.
const REDACTED_SCRAPE_KEY: &str = "[redacted scrape key]";

/// The keys of the file without secrets, with `null` for each key that is left out. `raw` is the file before
/// references to the environment were expanded.
pub(crate) fn without_secrets(file: &File, raw: &Value) -> Value {
    redact(serde_json::to_value(file).unwrap_or_default(), raw, "", "")
}

/// The value at `key` of the section `parent`. The items of a list have the key of the list.
fn redact(value: Value, raw: &Value, key: &str, parent: &str) -> Value {
    match (value, raw) {
        (Value::String(_), Value::String(raw)) if is_reference(raw, is_secret(key, parent)) => {
            Value::from(raw.as_str())
        }
        // A literal `${` would be read as a reference.
        (Value::String(text), _) => redact_text(text, key, parent).replace("${", "$${").into(),
        (Value::Array(items), raw) => redact_list(items, raw, key, parent),
        (Value::Object(entries), raw) => {
            let entries = entries.into_iter().map(|(name, value)| {
                let value = redact(value, raw.get(&name).unwrap_or(&Value::Null), &name, key);
                (name, value)
            });
            Value::Object(entries.collect())
        }
        (value @ (Value::Null | Value::Bool(_) | Value::Number(_)), _) => value,
    }
}

/// True if the text refers to the environment, and what it says itself is no secret. The default of a
/// reference counts as a secret where the value is one.
fn is_reference(raw: &str, is_secret: bool) -> bool {
    let mut rest = raw.replace("$${", "");
    let mut has_reference = false;
    while let Some((before, after)) = rest.split_once("${") {
        let (inside, after) = after.split_once('}').unwrap_or_default();
        let default = inside.split_once(":-").map_or("", |(_, default)| default);
        if is_secret && !default.is_empty() {
            return false;
        }
        has_reference = true;
        rest = format!("{before} {default} {after}");
    }
    has_reference && !looks_like_secret(&rest)
}

/// True for the values of keys that may hold secrets.
fn is_secret(key: &str, parent: &str) -> bool {
    matches!(parent, "env" | "headers" | "embeddingHeaders")
        || matches!(key, "args" | "headerValue" | "scrapeKey")
        || key.to_ascii_lowercase().ends_with("clientsecret")
}

fn redact_list(items: Vec<Value>, raw: &Value, key: &str, parent: &str) -> Value {
    let mut secret_follows = false;
    let items = items.into_iter().enumerate().map(|(index, item)| {
        let raw = raw.get(index).unwrap_or(&Value::Null);
        let Some(arg) = item.as_str().filter(|_| key == "args") else {
            return redact(item, raw, key, parent);
        };
        let shown = redact_arg(arg, &mut secret_follows);
        let has_reference = raw.as_str().is_some_and(|raw| is_reference(raw, true));
        if has_reference { raw.clone() } else { shown.replace("${", "$${").into() }
    });
    items.collect()
}

fn redact_text(text: String, key: &str, parent: &str) -> String {
    match key {
        "scrapeKey" => REDACTED_SCRAPE_KEY.to_owned(),
        _ if is_secret(key, parent) => REDACTED.to_owned(),
        "url" | "cluster" | "sentinels" | "embeddingService" => {
            let shown = text.parse().map_or_else(|_| text.clone(), |url| redact_url(&url));
            // Without a path, the parser adds one.
            if shown.strip_suffix('/') == Some(&text) { text } else { shown }
        }
        _ => text,
    }
}

/// The value without keys that are `null`, and without empty lists and maps. The file treats all of them alike.
pub(super) fn without_absent(value: Value) -> Value {
    match value {
        Value::Object(entries) => {
            let kept = entries.into_iter().map(|(key, value)| (key, without_absent(value)));
            let is_absent = |value: &Value| match value {
                Value::Null => true,
                Value::Array(items) => items.is_empty(),
                Value::Object(entries) => entries.is_empty(),
                Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
            };
            Value::Object(kept.filter(|(_, value)| !is_absent(value)).collect())
        }
        Value::Array(items) => items.into_iter().map(without_absent).collect(),
        value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => value,
    }
}
