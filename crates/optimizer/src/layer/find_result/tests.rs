use vmcp_domain::{ProtocolVersion, RoutingTarget, Tool, ToolOverride};

use super::*;
use crate::search::engine::Hit;

#[test]
fn savings_are_told_as_they_are() {
    let metrics = |list, returned| TokenMetrics::of(list, returned).savings_percent;
    assert_eq!(metrics(4000, 1000), 75.0);
    assert_eq!(metrics(4000, 4400), -10.0, "a result longer than the list saves less than nothing");
    assert_eq!(metrics(0, 0), 0.0);
    assert_eq!(metrics(4 * 3, 4), 66.67);
}

fn found(description_bytes: usize, schema_bytes: usize) -> SearchResult {
    let properties = format!(r#"{{"x":{{"type":"string","pattern":"{}"}}}}"#, "p".repeat(schema_bytes));
    let text = format!(
        r#"{{"name":"big","description":"{}","inputSchema":{{"type":"object","properties":{properties}}}}}"#,
        "d".repeat(description_bytes)
    );
    let offered =
        definitions::read_tool(&Json::parse(text).unwrap(), ProtocolVersion::V2026_07_28).unwrap().item;
    let tool = Tool {
        contested_name: None,
        name: "big".into(),
        target: RoutingTarget { backend: "b".into(), name: offered.name },
        description: offered.description,
        hints: offered.hints,
        definition: offered.definition,
        overrides: ToolOverride::default(),
    };
    SearchResult {
        tool,
        availability: Availability::Unavailable,
        hit: Hit { index: 0, score: 1.0, lexical: 1.0, coverage: 1.0, semantic: None, matched: Vec::new() },
    }
}

#[test]
fn a_very_large_tool_is_shortened_and_says_so() {
    for (description, schema, has_schema) in [(100, 100, true), (3 << 20, 100, true), (100, 2 << 20, false)] {
        let tools = vec![found(description, schema); 8];
        let findings = SearchResults { tools, semantic: false, fits: true, tool_count: 40, list_bytes: 0 };
        for schemas in [Schemas::Full, Schemas::Compact] {
            let (reply, _) =
                write_result(&findings, &OptimizerPolicy { schemas, ..OptimizerPolicy::default() }).unwrap();
            let bytes = reply.members.to_json().as_str().len();
            assert!(bytes < 2 * RESULT_BYTES_MAX + 20_000, "{bytes}");
            let whole =
                reply.members.get("structuredContent").unwrap().decode::<serde_json::Value>().unwrap();
            let first = &whole["tools"][0];
            assert_eq!(
                (&first["name"], &first["availability"]["state"]),
                (&"big".into(), &"unavailable".into())
            );
            assert_eq!(first.get("note").is_some(), description + schema > TOOL_BYTES_MAX);
            assert_eq!(
                first["inputSchema"]["properties"]["x"]["type"] == "string",
                has_schema,
                "{first:.200}"
            );
        }
    }
}
