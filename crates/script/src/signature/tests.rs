use serde_json::json;

use super::*;

fn type_of(schema: &Value) -> String {
    Types::of(schema, Documentation::Omitted).text()
}

#[test]
fn schemas_become_types() {
    for (schema, expected) in [
        (json!(true), "unknown"),
        (json!(false), "never"),
        (json!({}), "unknown"),
        (json!({"type": "string"}), "string"),
        (json!({"type": "integer"}), "number /* integer */"),
        (json!({"type": ["string", "null"]}), "string | null"),
        (json!({"const": "a"}), "\"a\""),
        (json!({"enum": ["a", 1, null, "a"]}), "\"a\" | 1 | null"),
        (json!({"type": "array"}), "unknown[]"),
        (json!({"type": "array", "items": {"type": ["string", "null"]}}), "(string | null)[]"),
        (json!({"type": "array", "items": {"type": "integer"}}), "(number /* integer */)[]"),
        (
            json!({"prefixItems": [{"type": "string"}, {"type": "number"}], "items": {"type": "boolean"}}),
            "[string, number, ...boolean[]]",
        ),
        (json!({"type": "object"}), "Record<string, unknown>"),
        (json!({"type": "object", "properties": {}, "additionalProperties": false}), "{}"),
        (json!({"type": "object", "additionalProperties": {"type": "number"}}), "Record<string, number>"),
        (
            json!({"properties": {"b": {}, "odd-key": {"type": "string"}, "a": {"type": "number"}}, "required": ["a"]}),
            "{ a: number; b?: unknown; \"odd-key\"?: string }",
        ),
        (json!({"anyOf": [{"type": "string"}, {"type": "string"}, {"type": "null"}]}), "string | null"),
        (json!({"anyOf": [{"type": "string"}, {}]}), "unknown"),
        (
            json!({"allOf": [{"properties": {"a": {"type": "string"}}}, {"anyOf": [{"type": "object"}, {"type": "null"}]}]}),
            "{ a?: string } & (Record<string, unknown> | null)",
        ),
        (json!({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "boolean"}}}), "boolean"),
        (json!({"$ref": "https://example.com/schema"}), "unknown"),
        (
            json!({"$ref": "#/$defs/node", "$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}}}}),
            "{ next?: unknown }",
        ),
    ] {
        assert_eq!(type_of(&schema), expected, "{schema}");
    }
}

#[test]
fn a_signature_has_arguments_and_result() {
    let input = json!({"properties": {"q": {"type": "string", "description": "What */ to\n look for"}}, "required": ["q"]});
    let output = json!({"properties": {"result": {"type": "array", "items": {"type": "string"}}}});
    assert_eq!(
        signature("odd-name", Some("Searches."), (Some(&input), Some(&output)), Documentation::Comments),
        "/** Searches. */ \"odd-name\"(args: { /** What *\\/ to look for */ q: string }): Promise<string[]>"
    );
    assert_eq!(
        signature(
            "plain",
            Some("Searches."),
            (Some(&json!({"type": "object"})), None),
            Documentation::Omitted
        ),
        "plain(args?: Record<string, unknown>): Promise<unknown>"
    );
}

#[test]
fn large_schemas_are_bounded() {
    let values: Vec<String> = (0..10_000).map(|number| format!("value {number}")).collect();
    let schema = json!({"properties": {"a": {"enum": values}}});
    let text = signature("t", None, (Some(&schema), None), Documentation::Comments);
    assert!(text.ends_with("\"value 39\" | string }): Promise<unknown>"), "{text}");
    let mut deep = json!({"type": "string"});
    for _ in 0..200 {
        deep = json!({"properties": {"a": deep}});
    }
    assert!(type_of(&deep).contains("unknown"));
    let members: serde_json::Map<String, Value> = (0..5000)
        .map(|number| {
            (format!("member_{number}"), json!({"type": "string", "description": "d".repeat(1000)}))
        })
        .collect();
    let wide = json!({"properties": members});
    let text = signature("wide", None, (Some(&wide), None), Documentation::Comments);
    assert_eq!(text, "wide(args?: Record<string, unknown>): Promise<unknown>");
}
