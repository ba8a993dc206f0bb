//! JSON-RPC messages: the strict and the lenient parser agree on what both accept, and tool definitions that
//! are read can be written and read again.

use bytes::Bytes;
use bytestring::ByteString;
use vmcp_domain::ProtocolVersion;
use vmcp_json::Json;
use vmcp_wire::definitions;
use vmcp_wire::jsonrpc::{Message, parse, parse_lenient};

use super::Target;

pub(super) const TARGET: Target = Target {
    name: "messages",
    check,
    tokens: &[
        "\"jsonrpc\":\"2.0\",",
        "\"id\":1,",
        "\"id\":null,",
        "\"method\":\"tools/call\",",
        "\"params\":{}",
        "\"result\":{}",
        "\"error\":{\"code\":-32603,\"message\":\"m\"}",
        "NaN",
        "Infinity",
        "\u{feff}",
        "[",
        "]",
        "{",
        "}",
        "INFO log ",
        "\"inputSchema\":{\"type\":\"object\"}",
        "\"$ref\":\"#/$defs/a\"",
        "\\ud800",
    ],
    sources: &["testing/e2e/calls.json", "testing/e2e/tasks.json"],
};

fn check(input: &[u8]) {
    let mut messages = Vec::new();
    parse_lenient(Bytes::copy_from_slice(input), |message| messages.extend(message));
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(message @ Message::Response { .. }) = parse(&ByteString::from(text)) {
        let lenient: Vec<String> = messages.iter().map(|message| format!("{message:?}")).collect();
        assert_eq!(lenient, [format!("{message:?}")], "the lenient parser reads another response");
    }
    if let Ok(json) = Json::parse(text) {
        check_definition(&json);
    }
}

/// A definition that was repaired needs no second repair.
fn check_definition(json: &Json) {
    for version in [ProtocolVersion::V2025_11_25, ProtocolVersion::V2026_07_28] {
        let Ok(read) = definitions::read_tool(json, version) else { continue };
        let definition = read.item.definition.to_json();
        let again = definitions::read_tool(&definition, version)
            .unwrap_or_else(|error| panic!("a repaired tool is refused: {error}\n{definition:?}"));
        assert_eq!(again.item.name, read.item.name);
        assert_eq!(again.item.definition.to_json(), definition, "a second reading changes the tool");
    }
}
