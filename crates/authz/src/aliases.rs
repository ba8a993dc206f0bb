//! Addresses that policies and declared entities name in another spelling than the normal form, which decisions are asked
//! about. Each spelling names the same resource, so what is said of one holds for all.

use std::collections::HashMap;

use serde_json::Value;
use vmcp_domain::ResourceUri;

/// The further spellings of addresses, by normal form.
#[derive(Debug, Default)]
pub(crate) struct UriAliases(HashMap<String, Vec<String>>);

impl UriAliases {
    /// Adds every text of a policy's syntax tree that is such a spelling: entities, and what `uri` is compared with.
    pub(crate) fn add_texts(&mut self, tree: &Value) {
        match tree {
            Value::String(text) => self.add(text),
            Value::Array(elements) => elements.iter().for_each(|element| self.add_texts(element)),
            Value::Object(members) => members.values().for_each(|member| self.add_texts(member)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Adds a text if it is such a spelling.
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

    /// The other spellings of an address in its normal form.
    pub(crate) fn spellings_of(&self, normal: &str) -> &[String] {
        self.0.get(normal).map_or(&[], Vec::as_slice)
    }
}
