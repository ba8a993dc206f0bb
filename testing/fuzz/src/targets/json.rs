//! Raw JSON against `serde_json`: both accept the same texts and read the same members and elements.

use bytestring::ByteString;
use serde_json::Value;
use serde_json::value::RawValue;
use vmcp_json::{Json, fold_case};
use vmcp_wire::jsonrpc::is_within_depth;

use super::Target;

pub(super) const TARGET: Target = Target {
    name: "json",
    check,
    tokens: &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u0000",
        "\\ud83d\\ude00",
        "\\ud800",
        "null",
        "true",
        "-0",
        "1e400",
        "1E-5",
        "0.1",
        "{\"a\":",
        "[[[[",
        "\u{feff}",
        "\u{7f}",
        "\u{2028}",
        "K",
        "ſ",
    ],
    sources: &["testing/e2e/calls.json"],
};

/// The deepest text that is compared. `serde_json` has a limit of its own, slightly above it.
const DEPTH_MAX: usize = 100;

fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let shared = ByteString::from(text);
    let validated = Json::validate(&shared, DEPTH_MAX);
    let parsed = Json::parse(shared.clone()).ok();
    let theirs = serde_json::from_str::<&RawValue>(text).ok();
    assert_eq!(parsed.as_ref().map(Json::as_str), theirs.map(RawValue::get), "parse and serde_json differ");
    if is_within_depth(input, DEPTH_MAX) {
        assert_eq!(validated, parsed, "validate and parse differ");
    } else {
        assert!(validated.is_none(), "a text deeper than the limit is valid");
    }
    if let Some(json) = validated {
        check_members(&json);
        check_elements(&json);
    }
}

fn check_members(json: &Json) {
    let Ok(members) = json.members() else {
        assert!(!json.is_object() || count_members(json) > Json::MEMBERS_MAX, "an object without members");
        return;
    };
    assert_eq!(members.len(), count_members(json));
    let Ok(value) = json.decode::<Value>() else { return };
    let copy = members.to_json();
    assert_eq!(copy.decode::<Value>().ok().as_ref(), Some(&value), "members and their text differ");
    let value = value.as_object().unwrap_or_else(|| panic!("members of something else than an object"));
    for (name, member) in value {
        let ours = members.get(name).unwrap_or_else(|| panic!("the member {name:?} is lost"));
        assert_eq!(ours.decode::<Value>().ok().as_ref(), Some(member), "the member {name:?} differs");
        assert_eq!(fold_case(&fold_case(name)), fold_case(name), "folding twice differs");
    }
}

fn count_members(json: &Json) -> usize {
    let mut count = 0;
    json.visit_members(|_, _| count += 1);
    count
}

fn check_elements(json: &Json) {
    let Ok(elements) = json.elements() else { return };
    assert_eq!(Json::array(&elements).elements().ok().as_ref(), Some(&elements), "elements differ");
}
