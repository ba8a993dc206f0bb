//! Spellings of URIs in policies and declared entities that differ from the normal form.
//!
//! Decisions use the normal form. Each spelling names the same resource, so a policy about one applies to
//! all.

use std::collections::HashMap;

use serde_json::Value;
use vmcp_domain::ResourceUri;

/// The other spellings of URIs, by normal form.
#[derive(Debug, Default)]
pub(crate) struct UriAliases(HashMap<String, Vec<String>>);

impl UriAliases {
    /// Adds every text of a policy's syntax tree that is such a spelling: entity ids, and texts compared with
    /// `uri`.
    pub(crate) fn add_texts(&mut self, tree: &Value) {
        match tree {
            Value::String(text) => self.add(text),
            Value::Array(elements) => elements.iter().for_each(|element| self.add_texts(element)),
            Value::Object(members) => members.values().for_each(|member| self.add_texts(member)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Adds the text if it is a URI that is not in its normal form.
    pub(crate) fn add(&mut self, text: &str) {
        if !text.contains(':') {
            return;
        }
        let uri = ResourceUri::from(text);
        if uri.as_str() == text {
            return;
        }
        let known = self.0.entry(uri.as_str().to_owned()).or_default();
        if !known.iter().any(|known| known == text) {
            known.push(text.to_owned());
        }
    }

    /// The other spellings of a URI that is in its normal form.
    pub(crate) fn spellings_of(&self, normal: &str) -> &[String] {
        self.0.get(normal).map_or(&[], Vec::as_slice)
    }
}
