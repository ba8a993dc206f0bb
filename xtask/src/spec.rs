//! `cargo xtask spec`: copies the specification's JSON Schemas into the tree, without their annotations.
//! Tests of `vmcp-wire` validate messages against the copies, so that a plain clone needs no other files.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use crate::root;

/// The revisions whose messages the tests validate.
const REVISIONS: [&str; 2] = ["2025-11-25", "2026-07-28"];
/// Keywords of JSON Schema that only annotate (Draft 2020-12 Validation, section 9).
const ANNOTATIONS: [&str; 4] = ["$comment", "description", "examples", "title"];
/// Keywords whose value maps names to schemas. A key in such a map is a name, even if it is spelled like a
/// keyword.
const MAPS: [&str; 5] = ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"];
/// Keywords whose value is an instance, not a schema.
const DATA: [&str; 3] = ["const", "default", "enum"];

/// Writes the copies. `from` has one folder for each revision, with a `schema.json`.
pub(crate) fn run(from: &Path) -> anyhow::Result<()> {
    for revision in REVISIONS {
        let text = read_stripped(&from.join(revision).join("schema.json"))?;
        let into = copies_folder().join(revision);
        std::fs::create_dir_all(&into)?;
        std::fs::write(into.join("schema.json"), text)?;
    }
    Ok(())
}

fn copies_folder() -> PathBuf {
    root().join("crates/wire/tests/spec")
}

/// Reads a schema file and returns its text without annotations.
fn read_stripped(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut schema: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    strip(&mut schema);
    Ok(format!("{schema:#}\n"))
}

/// Removes the annotations of a schema and of every schema inside it.
fn strip(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.retain(|keyword, _| !ANNOTATIONS.contains(&keyword.as_str()));
            for (keyword, value) in members.iter_mut() {
                let is = |keywords: &[&str]| keywords.contains(&keyword.as_str());
                if let Some(named) = value.as_object_mut().filter(|_| is(&MAPS)) {
                    named.values_mut().for_each(strip);
                } else if !is(&DATA) {
                    strip(value);
                }
            }
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests;
