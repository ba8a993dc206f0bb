//! Extracts the words of an input schema: names, titles and descriptions of parameters, and the values of
//! enumerations.
//!
//! The JSON is read as a stream, without building a tree. Reading stops at a depth and an amount of text that
//! no ordinary schema reaches.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use vmcp_json::Json;

use crate::search::text;

/// Maximum nesting depth that is read.
const DEPTH_MAX: usize = 12;
/// Maximum number of bytes of text that are taken from one schema.
const BYTES_MAX: usize = 16 * 1024;

/// Calls `on_text` with every text of the schema that may describe the tool. A schema that is not valid JSON
/// yields the texts before the fault.
pub(super) fn each_text(schema: &Json, on_text: &mut dyn FnMut(&str)) {
    let mut collector = TextCollector { on_text, bytes_left: BYTES_MAX };
    let mut reader = serde_json::Deserializer::from_str(schema.as_str());
    // The texts before a fault have been emitted; the rest of a malformed schema yields no words.
    let _ = SchemaVisitor { collector: &mut collector, kind: ValueKind::Schema, depth: 0 }
        .deserialize(&mut reader);
}

struct TextCollector<'a> {
    on_text: &'a mut dyn FnMut(&str),
    bytes_left: usize,
}

impl TextCollector<'_> {
    fn emit(&mut self, text: &str) {
        let text = text::truncate(text, self.bytes_left);
        self.bytes_left -= text.len();
        (self.on_text)(text);
    }
}

/// The kind of the value being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ValueKind {
    /// A schema, or a list of schemas.
    Schema,
    /// An object of schemas by names that people chose.
    Named,
    /// An object of schemas by names that only references use.
    Definitions,
    /// A text, or a list of texts.
    Text,
}

struct SchemaVisitor<'a, 'b> {
    collector: &'a mut TextCollector<'b>,
    kind: ValueKind,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for SchemaVisitor<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > DEPTH_MAX || self.collector.bytes_left == 0 {
            return deserializer.deserialize_ignored_any(IgnoredAny).map(drop);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SchemaVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if self.kind == ValueKind::Text {
            self.collector.emit(text);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let (kind, depth) = (self.kind, self.depth + 1);
        while elements.next_element_seed(SchemaVisitor { collector: self.collector, kind, depth })?.is_some()
        {
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let depth = self.depth + 1;
        while let Some(key) = members.next_key::<std::borrow::Cow<'de, str>>()? {
            let kind = match self.kind {
                ValueKind::Schema => member_of_schema(&key),
                ValueKind::Named => {
                    self.collector.emit(&key);
                    Some(ValueKind::Schema)
                }
                ValueKind::Definitions => Some(ValueKind::Schema),
                ValueKind::Text => None,
            };
            match kind {
                Some(kind) => {
                    members.next_value_seed(SchemaVisitor { collector: self.collector, kind, depth })?
                }
                None => members.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _value: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _value: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _value: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _value: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The kind of the value under a keyword of JSON Schema 2020-12; `None` for a keyword without searchable
/// text.
fn member_of_schema(key: &str) -> Option<ValueKind> {
    match key {
        "properties" => Some(ValueKind::Named),
        "$defs" | "definitions" => Some(ValueKind::Definitions),
        "description" | "title" | "enum" => Some(ValueKind::Text),
        "items" | "anyOf" | "oneOf" | "allOf" | "additionalProperties" => Some(ValueKind::Schema),
        _ => None,
    }
}
