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
        (Value::String(text), raw) => written_reference(raw, key, parent)
            // A literal `${` would be read as a reference.
            .unwrap_or_else(|| redact_text(text, key, parent).replace("${", "$${"))
            .into(),
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

/// The text as it is written if it refers to the environment, or its replacement if what it says itself may be
/// a secret. The default of a reference counts as a secret where the value is one. `None` for a text without
/// references.
///
/// The expanded text is never shown, since a variable may hold a secret in any place.
fn written_reference(raw: &Value, key: &str, parent: &str) -> Option<String> {
    let raw = raw.as_str()?;
    let mut rest = raw.replace("$${", "");
    let (mut has_reference, mut has_default) = (false, false);
    while let Some((before, after)) = rest.split_once("${") {
        let (inside, after) = after.split_once('}').unwrap_or_default();
        let default = inside.split_once(":-").map_or("", |(_, default)| default);
        has_reference = true;
        has_default |= !default.is_empty();
        rest = format!("{before} {default} {after}");
    }
    let is_hidden = looks_like_secret(&rest) || has_default && is_secret(key, parent);
    has_reference.then(|| if is_hidden { replacement(key, raw) } else { raw.to_owned() })
}

/// A text that is accepted at `key` instead of `text`.
fn replacement(key: &str, text: &str) -> String {
    match key {
        "scrapeKey" => REDACTED_SCRAPE_KEY.to_owned(),
        "url" | "cluster" | "sentinels" | "embeddingService" => {
            format!("{}://redacted", text.split_once("://").map_or("http", |(scheme, _)| scheme))
        }
        _ => REDACTED.to_owned(),
    }
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
        written_reference(raw, key, parent).unwrap_or_else(|| shown.replace("${", "$${")).into()
    });
    items.collect()
}

fn redact_text(text: String, key: &str, parent: &str) -> String {
    match key {
        _ if is_secret(key, parent) => replacement(key, &text),
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
