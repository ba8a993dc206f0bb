//! Validation against the specification's JSON Schemas, and example messages that satisfy them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde_json::Value;

/// The version of the example messages.
const NEW: &str = "2026-07-28";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec")
}

/// A validator for one definition of a version's schema.
fn validator(revision: &str, definition: &str) -> Validator {
    let text = std::fs::read_to_string(folder().join(revision).join("schema.json")).unwrap();
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    assert!(schema["$defs"].get(definition).is_some(), "{revision} has no {definition}");
    schema["$ref"] = format!("#/$defs/{definition}").into();
    jsonschema::validator_for(&schema).unwrap()
}

/// Validates what `write` writes against one definition.
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

/// An example message of 2026-07-28.
pub(crate) struct Example {
    /// Names the example in a failing test.
    pub(crate) origin: String,
    pub(crate) text: String,
}

/// Examples of a definition: those in `messages.json`, and the specification's own where they are available.
/// All are checked against the schema.
pub(crate) fn examples(definition: &str) -> Vec<Example> {
    let own = std::fs::read_to_string(folder().join(NEW).join("messages.json")).unwrap();
    let mut own: BTreeMap<String, Vec<Value>> = serde_json::from_str(&own).unwrap();
    let own = own.remove(definition).unwrap_or_else(|| panic!("messages.json has no {definition}"));
    let own = own
        .into_iter()
        .map(|value| Example { origin: format!("{definition} in messages.json"), text: value.to_string() });
    let examples: Vec<Example> = own.chain(published(definition)).collect();
    for Example { text, .. } in &examples {
        check(NEW, definition, |out| out.extend(text.as_bytes()));
    }
    examples
}

/// The specification's own examples, which are not part of the repository.
fn published(definition: &str) -> Vec<Example> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spec").join(NEW).join("examples");
    if !folder.is_dir() {
        vmcp_testkit::skip::missing_data("the folder of the specification's examples, ../shared/spec,");
        return Vec::new();
    }
    let files = std::fs::read_dir(folder.join(definition)).unwrap();
    files
        .map(|file| {
            let path = file.unwrap().path();
            Example { text: std::fs::read_to_string(&path).unwrap(), origin: path.display().to_string() }
        })
        .collect()
}
