//! The specification's JSON Schemas, which stand beside the project.

use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde_json::Value;

/// Where the schemas stand.
pub(crate) fn folder() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spec");
    assert!(path.is_dir(), "the specification's schemas belong beside the project, in shared/spec");
    path
}

/// Validates against one definition of a revision's schema.
fn validator(revision: &str, definition: &str) -> Validator {
    let text = std::fs::read_to_string(folder().join(revision).join("schema.json")).unwrap();
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    let definitions = if schema.get("$defs").is_some() { "$defs" } else { "definitions" };
    assert!(schema[definitions].get(definition).is_some(), "{revision} has no {definition}");
    schema["$ref"] = format!("#/{definitions}/{definition}").into();
    jsonschema::validator_for(&schema).unwrap()
}

/// Holds what `write` writes against one definition.
pub(crate) fn check(revision: &str, definition: &str, write: impl FnOnce(&mut Vec<u8>)) {
    let mut out = Vec::new();
    write(&mut out);
    let value: Value = serde_json::from_slice(&out).unwrap();
    let errors: Vec<String> = validator(revision, definition)
        .iter_errors(&value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{definition} of {revision}: {value:#}\n{errors:#?}");
}
