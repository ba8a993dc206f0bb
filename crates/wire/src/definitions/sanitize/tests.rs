use proptest::prelude::*;
use serde_json::Value;

use super::*;

type Sanitizer = fn(&Json) -> Result<Sanitized, String>;

fn tool(json: &Json) -> Result<Sanitized, String> {
    super::tool(json, ProtocolVersion::V2026_07_28)
}

fn session_tool(json: &Json) -> Result<Sanitized, String> {
    super::tool(json, ProtocolVersion::V2025_06_18)
}

fn sanitized_text(mend: Sanitizer, text: &str) -> String {
    match mend(&Json::parse(text.to_owned()).unwrap()) {
        Ok(Sanitized { members, adjustments }) => {
            let adjustments = adjustments.summary().map_or_else(String::new, |told| format!(" # {told}"));
            format!("{}{adjustments}", members.to_json().as_str())
        }
        Err(reason) => format!("left out: {reason}"),
    }
}

#[test]
fn what_is_fit_stays_byte_for_byte() {
    let fit: [(Sanitizer, &str); 6] = [
        (
            tool,
            r#"{"name":"a","inputSchema":{"type":"object" , "properties":{"x":{"type":["string","null"],"default":null}}}}"#,
        ),
        (
            tool,
            r#"{"name":"a","inputSchema":{"type":"object"},"outputSchema":{"type":"array"},"x":null,"annotations":{"y":null}}"#,
        ),
        (
            tool,
            r#"{"name":"a","inputSchema":{"type":"object","required":["x"],"anyOf":[true]},"_meta":{"a":null}}"#,
        ),
        (prompt, r#"{"name":"p","arguments":[{"name":"x","required":true}]}"#),
        (
            resource,
            r#"{"uri":"a:b","name":"n","size":12,"annotations":{"audience":["user"],"priority":0.5}}"#,
        ),
        (template, r#"{"uriTemplate":"a:{b}","name":"n","description":"\ud83d\ude00 \"\\u\\"}"#),
    ];
    for (mend, text) in fit {
        assert_eq!(sanitized_text(mend, text), text);
    }
}

#[test]
fn odd_tools_are_mended() {
    for (more, expected) in [
        (r#""inputSchema":{}"#, r##""inputSchema":{"type":"object"}} # `inputSchema` got `type: object`"##),
        (
            r#""inputSchema":{"type":["object","null"]}"#,
            r##""inputSchema":{"type":"object"}} # `inputSchema` got `type: object`"##,
        ),
        (
            r#""inputSchema":{"type":null}"#,
            r##""inputSchema":{"type":"object"}} # `inputSchema` got `type: object`"##,
        ),
        (
            r#""inputSchema":{"anyOf":[{}]}"#,
            r##""inputSchema":{"anyOf":[{}],"type":"object"}} # `inputSchema` got `type: object`"##,
        ),
        (
            r#""inputSchema":{"type":"object","properties":null,"required":null}"#,
            r#""inputSchema":{"type":"object"}}"#,
        ),
        (
            r#""inputSchema":{"type":"object","properties":{"x":true,"y":false,"z":{"a":1}}}"#,
            r#""inputSchema":{"type":"object","properties":{"x":{},"y":{"not":{}},"z":{"a":1}}}}"#,
        ),
        (
            r#""inputSchema":{"type":"object","properties":{"required":["x"]}}"#,
            r##""inputSchema":{"type":"object","properties":{}}} # `inputSchema.properties.required` is not a schema; it is left out"##,
        ),
        (
            r#""inputSchema":{"type":"object","required":"x"}"#,
            r##""inputSchema":{"type":"object","required":[]}} # `inputSchema.required` is not a list of names; other elements are left out"##,
        ),
        (
            r#""inputSchema":{"type":"object","properties":[]}"#,
            r##""inputSchema":{"type":"object"}} # `inputSchema.properties` is not an object; it is left out"##,
        ),
        (
            r#""inputSchema":{"type":"object"},"title":null,"annotations":null,"icons":null,"_meta":null,"execution":null,"outputSchema":null"#,
            r#""inputSchema":{"type":"object"}}"#,
        ),
        (
            r#""inputSchema":{"type":"object"},"description":5"#,
            r##""inputSchema":{"type":"object"}} # `description` is not a text; the member is left out"##,
        ),
        (
            r#""inputSchema":{"type":"object"},"annotations":{"readOnlyHint":null,"openWorldHint":"no","idempotentHint":true}"#,
            r##""inputSchema":{"type":"object"},"annotations":{"idempotentHint":true}} # `annotations.openWorldHint` is not true or false; the member is left out"##,
        ),
        (
            r#""inputSchema":{"type":"object"},"execution":{"taskSupport":"maybe"}"#,
            r##""inputSchema":{"type":"object"},"execution":{}} # `execution.taskSupport` is not one of the known words; the member is left out"##,
        ),
        (
            r#""inputSchema":{"type":"object"},"icons":[{"src":"a"},{"href":"b"}]"#,
            r##""inputSchema":{"type":"object"},"icons":[{"src":"a"}]} # `icons[1].src` is missing; the element is left out"##,
        ),
        (
            r#""inputSchema":{"type":"object"},"description":"half \ud83d""#,
            r#""inputSchema":{"type":"object"},"description":"half \ufffd"}"#,
        ),
    ] {
        let text = format!(r#"{{"name":"a",{more}}}"#);
        assert_eq!(sanitized_text(tool, &text), format!(r#"{{"name":"a",{expected}"#));
    }
}

#[test]
fn tools_that_cannot_be_mended_are_left_out() {
    for (text, reason) in [
        (r#"{"inputSchema":{}}"#, "`name` is missing"),
        (r#"{"name":5,"inputSchema":{}}"#, "`name` is not a text"),
        (r#"{"name":"a"}"#, "`inputSchema` is missing"),
        (r#"{"name":"a","inputSchema":null}"#, "`inputSchema` is not an object"),
        (r#"{"name":"a","inputSchema":{"type":"string"}}"#, "`inputSchema.type` is not `object`"),
        (r#"{"name":"a","inputSchema":{"type":["string"]}}"#, "`inputSchema.type` is not `object`"),
        ("[]", "not an object"),
    ] {
        assert_eq!(sanitized_text(tool, text), format!("left out: {reason}"));
    }
}

#[test]
fn with_sessions_structured_results_are_objects() {
    for (schema, expected) in [
        (r#"{"type":"object","x":1}"#, r#","outputSchema":{"type":"object","x":1}}"#),
        ("{}", "}"),
        (
            r#"{"properties":{}}"#,
            r##","outputSchema":{"properties":{},"type":"object"}} # `outputSchema` got `type: object`"##,
        ),
        (r#"{"type":"array"}"#, r##"} # `outputSchema.type` is not `object`; the member is left out"##),
    ] {
        let text = format!(r#"{{"name":"a","inputSchema":{{"type":"object"}},"outputSchema":{schema}}}"#);
        assert_eq!(
            sanitized_text(session_tool, &text),
            format!(r#"{{"name":"a","inputSchema":{{"type":"object"}}{expected}"#)
        );
    }
}

#[test]
fn odd_prompts_and_resources_are_mended_or_left_out() {
    let cases: [(Sanitizer, &str, &str); 8] = [
        (prompt, r#"{"name":"p","title":null,"arguments":null}"#, r#"{"name":"p"}"#),
        (
            prompt,
            r#"{"name":"p","arguments":[{"title":"x"},{"name":"y","description":null}]}"#,
            r##"{"name":"p","arguments":[{"name":"y"}]} # `arguments[0].name` is missing; the element is left out"##,
        ),
        (prompt, r#"{"title":"p"}"#, "left out: `name` is missing"),
        (resource, r#"{"uri":"a:b"}"#, r#"{"uri":"a:b","name":"a:b"}"#),
        (
            resource,
            r#"{"uri":"a:b","name":"n","size":"12","mimeType":null}"#,
            r##"{"uri":"a:b","name":"n"} # `size` is not a whole number; the member is left out"##,
        ),
        (resource, r#"{"uri":null,"name":"n"}"#, "left out: `uri` is not a text"),
        (
            resource,
            r#"{"uri":"a:b","name":"n","annotations":{"audience":"user","priority":1}}"#,
            r##"{"uri":"a:b","name":"n","annotations":{"priority":1}} # `annotations.audience` is not a list of known words; the member is left out"##,
        ),
        (template, r#"{"uriTemplate":"a:{b}","name":null}"#, r#"{"uriTemplate":"a:{b}","name":"a:{b}"}"#),
    ];
    for (mend, text, expected) in cases {
        assert_eq!(sanitized_text(mend, text), expected);
    }
}

/// The rules of the SDKs' parsers, each with an item that violates it.
const READER_RULES: &str = include_str!("reader_rules.txt");

#[test]
fn what_readers_demand_is_made_so() {
    let mut readers_seen = std::collections::BTreeSet::new();
    for line in READER_RULES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let [readers, what, case] = line.splitn(3, " | ").collect::<Vec<_>>().try_into().unwrap();
        readers_seen.extend(readers.split(", "));
        let mend = match what {
            "tool" => tool,
            "session tool" => session_tool,
            "prompt" => prompt,
            "resource" => resource,
            "template" => template as Sanitizer,
            other => panic!("{other}"),
        };
        let (item, expected) = case.rsplit_once(" => ").expect(line);
        let json = Json::parse(item.to_owned()).unwrap();
        match (mend(&json), expected) {
            (Ok(Sanitized { members, adjustments }), "the same") => {
                assert_eq!((members.to_json().as_str(), adjustments.summary()), (item, None), "{line}");
            }
            (Ok(mended), expected) => assert_eq!(mended.members.to_json().as_str(), expected, "{line}"),
            (Err(reason), expected) => {
                assert!(format!("left out: {reason}").starts_with(expected), "{line}: {reason}");
            }
        }
    }
    for sdk in ["C#", "Kotlin", "Java", "TypeScript", "Python", "Go"] {
        assert!(readers_seen.contains(sdk), "{sdk}");
    }
}

/// A list may contain any number of errors. This input once took gigabytes and minutes.
#[test]
fn hostile_items_are_mended_soon_and_told_in_short() {
    let icons = "1,".repeat(500_000);
    let text = format!(r#"{{"name":"a","inputSchema":{{"type":"object"}},"icons":[{icons}1]}}"#);
    let told = tool(&Json::parse(text).unwrap()).unwrap().adjustments.summary().unwrap();
    assert!(told.len() < 1000 && told.ends_with("; and 499993 more"), "{told}");
    let properties: Vec<String> = (0..9_990).map(|number| format!(r#""p{number}":true"#)).collect();
    let text = format!(
        r#"{{"name":"a","inputSchema":{{"type":"object","properties":{{{}}}}}}}"#,
        properties.join(",")
    );
    for _ in 0..100 {
        assert!(tool(&Json::parse(text.clone()).unwrap()).unwrap().adjustments.summary().is_none());
    }
    let deep = format!(
        r#"{{"name":"a","inputSchema":{{"type":"object","x":{}1{}}}}}"#,
        "[".repeat(70),
        "]".repeat(70)
    );
    assert!(tool(&Json::parse(deep).unwrap()).unwrap_err().contains("deeper than 61 levels"));
}

/// An independent statement of what the strictest client requires of a tool.
fn is_fit(tool: &Value) -> bool {
    let optional = |name: &str, fits: fn(&Value) -> bool| tool.get(name).is_none_or(fits);
    let schema = &tool["inputSchema"];
    tool["name"].is_string()
        && schema["type"] == "object"
        && schema.get("properties").is_none_or(|properties| {
            properties.as_object().is_some_and(|all| all.values().all(Value::is_object))
        })
        && schema
            .get("required")
            .is_none_or(|names| names.as_array().is_some_and(|all| all.iter().all(Value::is_string)))
        && optional("title", Value::is_string)
        && optional("description", Value::is_string)
        && optional("_meta", Value::is_object)
        && optional("icons", |icons| {
            icons.as_array().is_some_and(|all| all.iter().all(|icon| icon["src"].is_string()))
        })
        && optional("annotations", |annotations| {
            annotations.as_object().is_some_and(|all| {
                all.iter().all(|(name, value)| match name.as_str() {
                    "title" => value.is_string(),
                    "readOnlyHint" | "destructiveHint" | "idempotentHint" | "openWorldHint" => {
                        value.is_boolean()
                    }
                    _ => true,
                })
            })
        })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from),
        Just(Value::from("object")),
    ];
    let key = prop_oneof![
        Just("type"),
        Just("properties"),
        Just("required"),
        Just("src"),
        Just("title"),
        Just("readOnlyHint"),
        Just("openWorldHint"),
        Just("name"),
        Just("x"),
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..4).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_listed_is_fit(schema in value(), title in value(), annotations in value(), icons in value(), meta in value()) {
        let text = serde_json::json!({
            "name": "a", "inputSchema": schema, "title": title, "annotations": annotations, "icons": icons, "_meta": meta,
        }).to_string();
        let json = Json::parse(text.clone()).unwrap();
        if let Ok(Sanitized { members, adjustments }) = tool(&json) {
            let written: Value = members.to_json().decode().unwrap();
            prop_assert!(is_fit(&written), "{} became {}", text, written);
            // A repaired item needs no further repair.
            let again = tool(&members.to_json()).unwrap();
            prop_assert_eq!(again.members.to_json(), members.to_json());
            prop_assert!(again.adjustments.summary().is_none());
            if is_fit(&serde_json::from_str(&text).unwrap()) {
                prop_assert_eq!(members.to_json(), Json::parse(text).unwrap());
                prop_assert!(adjustments.summary().is_none());
            }
        }
    }
}
