//! What the gateway reads in a request equals what a backend that ignores letter case reads in the forwarded
//! request.

use proptest::prelude::*;
use vmcp_domain::{CompletionReference, ProtocolVersion};
use vmcp_json::Json;
use vmcp_wire::client::{Dialect, HopMeta};
use vmcp_wire::server::{ClientRequest, read_request};

/// Spellings of the members that decide what is executed, and some members without effect.
const NAMES: [&str; 24] = [
    "name",
    "Name",
    "NAME",
    "n\\u0061me",
    "n\\u0041me",
    "arguments",
    "Arguments",
    "argument\u{17f}",
    "ARGUMENTS",
    "uri",
    "URI",
    "Uri",
    "ur\u{131}",
    "ref",
    "Ref",
    "_meta",
    "_Meta",
    "_META",
    "requestState",
    "requeststate",
    "argument",
    "Argument",
    "other",
    "Other",
];
const METHODS: [&str; 4] = ["tools/call", "resources/read", "prompts/get", "completion/complete"];

/// A valid value for a member of this name; `number` makes values distinct.
fn value(name: &str, number: usize) -> String {
    match Json::parse(format!("\"{name}\"")).unwrap().decode_string().unwrap().to_lowercase().as_str() {
        "argument\u{17f}" | "arguments" => format!(r#"{{"path":"{number}"}}"#),
        "ref" => format!(r#"{{"type":"ref/prompt","name":"{number}"}}"#),
        "_meta" => r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#.to_owned(),
        "argument" => format!(r#"{{"name":"{number}","value":"v"}}"#),
        _ => format!("\"{number}\""),
    }
}

/// The last member that a parser which ignores letter case takes for `name`. It folds case independently of
/// the code under test.
fn last_ignoring_case(object: &Json, name: &str) -> Option<Json> {
    let folded = |text: &str| -> String {
        text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
    };
    let members = object.members().unwrap();
    members.iter().filter(|(key, _)| folded(key) == folded(name)).last().map(|(_, value)| value.clone())
}

/// The parameters that are sent to a backend, and the name and arguments that were judged.
fn sent(request: ClientRequest, version: ProtocolVersion) -> Option<(Json, String, Option<Json>)> {
    let dialect = Dialect::new(version, "vmcp", "1");
    let hop = HopMeta::default();
    Some(match request {
        ClientRequest::CallTool(call) => {
            let name = call.name.as_str().to_owned();
            let arguments = call.arguments.clone();
            let to = name.as_str().into();
            (dialect.call_tool(&to, call.arguments, call.continuation, call.extra, &hop), name, arguments)
        }
        ClientRequest::ReadResource(read) => {
            let uri = read.uri.as_str().to_owned();
            (dialect.read_resource(&read.uri.as_str().into(), read.continuation, read.extra, &hop), uri, None)
        }
        ClientRequest::GetPrompt(get) => {
            let name = get.name.as_str().to_owned();
            let arguments = get.arguments.clone();
            let to = name.as_str().into();
            (dialect.get_prompt(&to, get.arguments, get.continuation, get.extra, &hop), name, arguments)
        }
        ClientRequest::Complete(complete) => {
            let CompletionReference::Prompt(name) = complete.reference else { return None };
            let name = name.as_str().to_owned();
            (dialect.complete_prompt(&name.as_str().into(), complete.extra, &hop), name, None)
        }
        _ => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn a_blind_reader_reads_what_was_judged(
        method in proptest::sample::select(&METHODS[..]),
        modern in any::<bool>(),
        picks in proptest::collection::vec(0..NAMES.len(), 0..5),
        position in any::<proptest::sample::Index>(),
    ) {
        let needed: &[&str] = match method {
            "resources/read" => &["uri"],
            "completion/complete" => &["ref", "argument"],
            _ => &["name", "arguments"],
        };
        let mut names: Vec<&str> = picks.iter().map(|pick| NAMES[*pick]).collect();
        for need in needed.iter().chain(modern.then_some(&"_meta")) {
            let at = position.index(names.len() + 1);
            names.insert(at, need);
        }
        let members: Vec<String> =
            names.iter().enumerate().map(|(number, name)| format!("\"{name}\":{}", value(name, number))).collect();
        let params = Json::parse(format!("{{{}}}", members.join(","))).unwrap();
        let version = if modern { ProtocolVersion::V2026_07_28 } else { ProtocolVersion::V2025_11_25 };
        let Ok((request, _)) = read_request(version, method, Some(&params)) else { return Ok(()) };
        for backend in [ProtocolVersion::V2025_11_25, ProtocolVersion::V2026_07_28] {
            let Some((sent, judged, arguments)) = sent(request.clone(), backend) else { continue };
            let ran = match method {
                "resources/read" => last_ignoring_case(&sent, "uri"),
                "completion/complete" => last_ignoring_case(&sent, "ref").and_then(|inner| last_ignoring_case(&inner, "name")),
                _ => last_ignoring_case(&sent, "name"),
            };
            prop_assert_eq!(ran.and_then(|ran| ran.decode_string()), Some(judged), "{:?}", sent);
            if needed.contains(&"arguments") {
                prop_assert_eq!(last_ignoring_case(&sent, "arguments"), arguments);
            }
        }
    }
}
