//! Checks the gateway's results against the JSON Schemas of the specification, and parses example requests.

use bytestring::ByteString;
use serde_json::{Value, json};
use vmcp_domain::{Overview, ProtocolVersion, Question, QuestionKind, Reply};
use vmcp_json::Json;
use vmcp_wire::jsonrpc::{self, Message};
use vmcp_wire::server::{Cacheability, ListKind, ResultWriter, input_required, read_request};

use crate::spec::{check, examples};

/// Asserts that no value was left out to be sent separately.
fn assert_not_apart<T: std::fmt::Debug>(apart: Option<T>) {
    assert!(apart.is_none(), "{apart:?}");
}

#[test]
fn results_are_valid_in_both_eras() {
    let writer = ResultWriter::new("vmcp", "1");
    let overview = Overview {
        instructions: Some("use it".to_owned()),
        completions: true,
        logging: true,
        subscriptions: true,
        tasks: true,
    };
    let tool = Json::parse(r#"{"name":"t","inputSchema":{"type":"object"}}"#).unwrap();
    let reply = |text: &str| Reply::complete(Json::parse(text.to_owned()).unwrap().members().unwrap());
    let called = reply(r#"{"content":[{"type":"text","text":"x"}],"_meta":{"com.example/k":1}}"#);
    let read = reply(r#"{"contents":[{"uri":"a://b","text":"x"}]}"#);
    let prompt = reply(r#"{"messages":[]}"#);
    let complete = reply(r#"{"completion":{"values":[]}}"#);
    for (revision, version) in
        [("2025-11-25", ProtocolVersion::V2025_11_25), ("2026-07-28", ProtocolVersion::V2026_07_28)]
    {
        check(revision, "CallToolResult", |out| {
            assert_not_apart(writer.write_reply(out, version, Cacheability::NotCacheable, called.clone()))
        });
        check(revision, "ReadResourceResult", |out| {
            assert_not_apart(writer.write_reply(out, version, Cacheability::Cacheable, read.clone()));
        });
        check(revision, "GetPromptResult", |out| {
            assert_not_apart(writer.write_reply(out, version, Cacheability::NotCacheable, prompt.clone()))
        });
        check(revision, "CompleteResult", |out| {
            assert_not_apart(writer.write_reply(out, version, Cacheability::NotCacheable, complete.clone()))
        });
        for (kind, definition) in [
            (ListKind::Tools, "ListToolsResult"),
            (ListKind::Resources, "ListResourcesResult"),
            (ListKind::Templates, "ListResourceTemplatesResult"),
            (ListKind::Prompts, "ListPromptsResult"),
        ] {
            let items = if kind == ListKind::Tools { vec![tool.clone()] } else { Vec::new() };
            check(revision, definition, |out| writer.write_page(out, version, kind, &items, Some("c")));
        }
    }
    check("2025-11-25", "InitializeResult", |out| {
        writer.write_initialize(out, ProtocolVersion::V2025_11_25, &overview);
    });
    check("2026-07-28", "DiscoverResult", |out| writer.write_discover(out, &overview));
}

/// Questions of a backend with sessions, in the form for a client of 2026-07-28.
#[test]
fn results_that_ask_for_input_are_valid() {
    let writer = ResultWriter::new("vmcp", "1");
    let question = |kind, params: &str| Question { kind, params: Json::parse(params.to_owned()).unwrap() };
    let asked = [
        question(
            QuestionKind::Elicitation,
            r#"{"message":"m","requestedSchema":{"type":"object","properties":{"a":{"type":"string"}}},"_meta":{"progressToken":1}}"#,
        ),
        question(
            QuestionKind::Elicitation,
            r#"{"mode":"url","url":"https://a/b","message":"m","elicitationId":"7"}"#,
        ),
        question(
            QuestionKind::Sampling,
            r#"{"messages":[{"role":"user","content":{"type":"text","text":"x"}}],"maxTokens":5}"#,
        ),
        question(QuestionKind::Roots, "{}"),
    ];
    let questions = || asked.iter().enumerate().map(|(index, question)| (index.to_string(), question));
    for state in [None, Some("state")] {
        let reply = input_required(questions(), state);
        check("2026-07-28", "InputRequiredResult", |out| {
            assert_not_apart(writer.write_reply(
                out,
                ProtocolVersion::V2026_07_28,
                Cacheability::NotCacheable,
                reply.clone(),
            ));
        });
    }
    for (question, definition) in
        asked.iter().zip(["ElicitRequest", "ElicitRequest", "CreateMessageRequest", "ListRootsRequest"])
    {
        let reply = input_required([("q".to_owned(), question)], None);
        let requests: Value =
            serde_json::from_str(reply.members.get("inputRequests").unwrap().as_str()).unwrap();
        check("2026-07-28", definition, |out| out.extend(requests["q"].to_string().into_bytes()));
    }
}

#[test]
fn errors_are_valid_answers() {
    let mut error = jsonrpc::RpcError::new(-32602, "no");
    error.data = Some(Json::parse("{}").unwrap());
    let id = jsonrpc::Id::number(1);
    check("2026-07-28", "JSONRPCErrorResponse", |out| out.extend(jsonrpc::write_error(Some(&id), &error)));
    check("2026-07-28", "JSONRPCErrorResponse", |out| out.extend(jsonrpc::write_error(None, &error)));
    check("2025-11-25", "JSONRPCErrorResponse", |out| out.extend(jsonrpc::write_error(Some(&id), &error)));
}

/// The specification's example requests are parsed.
#[test]
fn example_requests_are_understood() {
    for kind in [
        "CallToolRequest",
        "ReadResourceRequest",
        "GetPromptRequest",
        "CompleteRequest",
        "DiscoverRequest",
        "ListToolsRequest",
        "ListResourcesRequest",
        "ListPromptsRequest",
        "ListResourceTemplatesRequest",
        "SubscriptionsListenRequest",
    ] {
        for example in examples(kind) {
            let Ok(Message::Request { method, params, .. }) = jsonrpc::parse(&ByteString::from(example.text))
            else {
                panic!("{} is no request", example.origin)
            };
            let read = read_request(ProtocolVersion::V2026_07_28, &method, params.as_ref());
            assert!(read.is_ok(), "{}: {:?}", example.origin, read.err());
        }
    }
}

#[test]
fn requests_without_their_metadata_are_refused() {
    let params = Json::encode(&json!({"name": "t"})).unwrap();
    assert!(read_request(ProtocolVersion::V2026_07_28, "tools/call", Some(&params)).is_err());
    assert!(read_request(ProtocolVersion::V2025_11_25, "tools/call", Some(&params)).is_ok());
}
