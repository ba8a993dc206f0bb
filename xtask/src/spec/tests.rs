use std::collections::BTreeSet;

use serde_json::json;

use super::*;

#[test]
fn annotations_go_and_properties_of_the_same_name_stay() {
    let mut schema = json!({
        "$comment": "c",
        "description": "d",
        "type": "object",
        "properties": {
            "description": {"type": "string", "description": "what it is", "title": "T"},
            "title": {"anyOf": [{"type": "string", "examples": ["a"]}]},
            "examples": {"items": {"description": "one", "enum": [{"title": "kept"}]}},
        },
        "required": ["description", "title"],
        "$defs": {"title": {"title": "x", "default": {"description": "kept"}}},
        "additionalProperties": {"description": "any"},
    });
    strip(&mut schema);
    let expected = json!({
        "type": "object",
        "properties": {
            "description": {"type": "string"},
            "title": {"anyOf": [{"type": "string"}]},
            "examples": {"items": {"enum": [{"title": "kept"}]}},
        },
        "required": ["description", "title"],
        "$defs": {"title": {"default": {"description": "kept"}}},
        "additionalProperties": {},
    });
    assert_eq!(schema, expected);
}

/// Collects every property name of a schema with its path. The walk enters every member and is independent of
/// [`strip`].
fn properties(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = format!("{path}/{name}");
                if name == "properties" {
                    let named = member.as_object().into_iter().flatten();
                    found.extend(named.map(|(property, _)| format!("{path}/{property}")));
                }
                properties(&path, member, found);
            }
        }
        Value::Array(members) => {
            for (index, member) in members.iter().enumerate() {
                properties(&format!("{path}/{index}"), member, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn properties_of(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    properties("", &serde_json::from_str(text).unwrap(), &mut found);
    found
}

/// If the originals are available, the copies equal the command's output and have lost no property.
#[test]
fn the_copies_have_every_property_of_the_originals() {
    let originals = root().join("../shared/spec");
    if !originals.is_dir() {
        vmcp_testkit::skip::missing_data("the folder of the specification's schemas, ../shared/spec,");
        return;
    }
    for revision in REVISIONS {
        let original = originals.join(revision).join("schema.json");
        let copy = std::fs::read_to_string(copies_folder().join(revision).join("schema.json")).unwrap();
        assert_eq!(
            copy,
            read_stripped(&original).unwrap(),
            "{revision}: run cargo xtask spec ../shared/spec"
        );
        let original = properties_of(&std::fs::read_to_string(original).unwrap());
        assert!(original.len() > 300, "{revision}: only {} properties were found", original.len());
        assert_eq!(properties_of(&copy), original, "{revision}");
    }
}
