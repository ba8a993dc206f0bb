//! Checks messages that the gateway sends against the JSON Schemas of both versions: notifications and
//! questions to clients, requests and notifications to backends.

use vmcp_domain::{Change, Continuation, LogLevel, ProtocolVersion, Question, QuestionKind, ResultType};
use vmcp_json::{Json, Members};
use vmcp_wire::client::{
    BackendNotification, Dialect, HopMeta, read_discover, read_input_required, read_notification, read_page,
    read_reply, session_capabilities,
};
use vmcp_wire::jsonrpc::{self, Id, Message};
use vmcp_wire::method;
use vmcp_wire::server::{ListenFilter, outgoing};

use crate::spec::{check, examples};

const OLD: &str = "2025-11-25";
const NEW: &str = "2026-07-28";

fn members(text: &str) -> Members {
    Json::parse(text.to_owned()).unwrap().members().unwrap()
}

#[test]
fn notifications_to_clients_are_valid() {
    let id = Id::number(7);
    let changes = [
        (Change::Tools, "ToolListChangedNotification"),
        (Change::Resources, "ResourceListChangedNotification"),
        (Change::Prompts, "PromptListChangedNotification"),
        (Change::Resource("file:///a".into()), "ResourceUpdatedNotification"),
    ];
    for (change, definition) in &changes {
        check(OLD, definition, |out| out.extend(outgoing::change(change, None)));
        check(NEW, definition, |out| out.extend(outgoing::change(change, Some(&id))));
    }
    let token = Json::string("t");
    let progress = members(r#"{"progress":1,"total":3,"message":"m"}"#);
    let log = members(r#"{"level":"info","logger":"l","data":{"a":1}}"#);
    for revision in [OLD, NEW] {
        check(revision, "ProgressNotification", |out| out.extend(outgoing::progress(&token, &progress)));
        check(revision, "LoggingMessageNotification", |out| out.extend(outgoing::log_message(&log)));
        check(revision, "CancelledNotification", |out| out.extend(outgoing::cancelled(&id)));
    }
    let visited = members(r#"{"elicitationId":"e"}"#);
    check(OLD, "ElicitationCompleteNotification", |out| out.extend(outgoing::elicitation_complete(&visited)));
    let filter = ListenFilter {
        tools_list_changed: true,
        resource_subscriptions: vec!["file:///a".to_owned()],
        ..ListenFilter::default()
    };
    for honoured in [filter, ListenFilter::default()] {
        check(NEW, "SubscriptionsAcknowledgedNotification", |out| {
            out.extend(outgoing::acknowledged(&id, &honoured));
        });
    }
}

#[test]
fn questions_to_session_clients_are_valid() {
    let id = Id::number(7);
    for (kind, params, definition) in [
        (
            QuestionKind::Elicitation,
            r#"{"message":"m","requestedSchema":{"type":"object","properties":{"a":{"type":"string"}}}}"#,
            "ElicitRequest",
        ),
        // The form of a backend of 2026-07-28, which has no elicitation identifier.
        (QuestionKind::Elicitation, r#"{"mode":"url","url":"https://a/b","message":"m"}"#, "ElicitRequest"),
        (
            QuestionKind::Sampling,
            r#"{"messages":[{"role":"user","content":{"type":"text","text":"x"}}],"maxTokens":5}"#,
            "CreateMessageRequest",
        ),
        (QuestionKind::Roots, "{}", "ListRootsRequest"),
    ] {
        let question = Question { kind, params: Json::parse(params.to_owned()).unwrap() };
        check(OLD, definition, |out| out.extend(outgoing::question(&id, &question)));
    }
}

/// Hop metadata with every member that the version allows.
fn hop(version: ProtocolVersion) -> HopMeta {
    let stateless = !version.has_sessions();
    HopMeta {
        forwarded: members(
            r#"{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01","a.b/c":1}"#,
        ),
        progress_token: Some(3),
        log_level: stateless.then_some(LogLevel::Info),
        capabilities: if stateless {
            members(r#"{"elicitation":{"form":{}},"sampling":{}}"#)
        } else {
            Members::new()
        },
    }
}

#[test]
fn requests_to_backends_are_valid() {
    let id = Id::number(7);
    for (revision, version) in [(OLD, ProtocolVersion::V2025_11_25), (NEW, ProtocolVersion::V2026_07_28)] {
        let dialect = Dialect::new(version, "vmcp", "1");
        let hop = hop(version);
        let stateless = !version.has_sessions();
        let again = || match stateless {
            false => Continuation::default(),
            true => Continuation {
                input_responses: Some(
                    Json::parse(r#"{"q":{"action":"accept","content":{"a":"b"}}}"#).unwrap(),
                ),
                request_state: Some("s".to_owned()),
            },
        };
        let arguments = || Some(Json::parse(r#"{"a":"b"}"#).unwrap());
        let value = || members(r#"{"argument":{"name":"a","value":"b"}}"#);
        let list = dialect.list(Some("c"));
        let mut sent = vec![
            (
                method::TOOLS_CALL,
                dialect.call_tool(&"t".into(), arguments(), again(), Members::new(), &hop),
                "CallToolRequest",
            ),
            (
                method::RESOURCES_READ,
                dialect.read_resource(&"file:///a".into(), again(), Members::new(), &hop),
                "ReadResourceRequest",
            ),
            (
                method::PROMPTS_GET,
                dialect.get_prompt(&"p".into(), arguments(), again(), Members::new(), &hop),
                "GetPromptRequest",
            ),
            (method::COMPLETE, dialect.complete_prompt(&"p".into(), value(), &hop), "CompleteRequest"),
            (
                method::COMPLETE,
                dialect.complete_template(&"file:///{x}".into(), value(), &hop),
                "CompleteRequest",
            ),
            (method::TOOLS_LIST, list.clone(), "ListToolsRequest"),
            (method::RESOURCES_LIST, list.clone(), "ListResourcesRequest"),
            (method::TEMPLATES_LIST, list.clone(), "ListResourceTemplatesRequest"),
            (method::PROMPTS_LIST, list, "ListPromptsRequest"),
        ];
        if stateless {
            sent.push((method::DISCOVER, dialect.no_params(), "DiscoverRequest"));
            sent.push((method::LISTEN, dialect.listen(&["file:///a".into()]), "SubscriptionsListenRequest"));
        } else {
            sent.push((method::INITIALIZE, dialect.initialize(&session_capabilities()), "InitializeRequest"));
            sent.push((method::PING, dialect.no_params(), "PingRequest"));
            sent.push((method::SET_LEVEL, dialect.set_level(LogLevel::Info), "SetLevelRequest"));
            sent.push((method::RESOURCES_SUBSCRIBE, dialect.subscription(&"a:b".into()), "SubscribeRequest"));
            sent.push((
                method::RESOURCES_UNSUBSCRIBE,
                dialect.subscription(&"a:b".into()),
                "UnsubscribeRequest",
            ));
        }
        for (name, params, definition) in &sent {
            check(revision, definition, |out| out.extend(jsonrpc::write_request(&id, name, params)));
        }
        check(revision, "CancelledNotification", |out| {
            out.extend(jsonrpc::write_notification(method::CANCELLED, &Dialect::cancelled(&id, "no need")));
        });
    }
    check(OLD, "InitializedNotification", |out| {
        out.extend(jsonrpc::write_notification(method::INITIALIZED, &Members::new()));
    });
}

/// The specification's example notifications are parsed as the right kind.
#[test]
fn example_notifications_are_understood() {
    for (kind, fits) in [
        (
            "ProgressNotification",
            (|notice| matches!(notice, BackendNotification::Progress { .. } | BackendNotification::Other))
                as fn(&BackendNotification) -> bool,
        ),
        ("LoggingMessageNotification", |notice| matches!(notice, BackendNotification::Log { .. })),
        ("ToolListChangedNotification", |notice| matches!(notice, BackendNotification::ToolsChanged)),
        ("ResourceListChangedNotification", |notice| matches!(notice, BackendNotification::ResourcesChanged)),
        ("PromptListChangedNotification", |notice| matches!(notice, BackendNotification::PromptsChanged)),
        ("ResourceUpdatedNotification", |notice| matches!(notice, BackendNotification::ResourceUpdated(_))),
    ] {
        for example in examples(kind) {
            let Ok(Message::Notification { method, params }) = jsonrpc::parse(&example.text.into()) else {
                panic!("{} is no notification", example.origin)
            };
            let notice = read_notification(&method, params.as_ref());
            assert!(fits(&notice), "{}: {notice:?}", example.origin);
        }
    }
}

/// The specification's example results are parsed, for every kind of result.
#[test]
fn example_results_are_understood() {
    let read = |kind: &str, result: &Json| match kind {
        "DiscoverResult" => read_discover(result).map(drop),
        "ListToolsResult" => read_page(result, "tools").map(drop),
        "ListResourcesResult" => read_page(result, "resources").map(drop),
        "ListResourceTemplatesResult" => read_page(result, "resourceTemplates").map(drop),
        "ListPromptsResult" => read_page(result, "prompts").map(drop),
        "InputRequiredResult" => read_reply(ProtocolVersion::V2026_07_28, result)
            .and_then(|reply| {
                assert_eq!(reply.result_type, ResultType::InputRequired);
                read_input_required(&reply)
            })
            .map(drop),
        _ => read_reply(ProtocolVersion::V2026_07_28, result)
            .map(|reply| assert_eq!(reply.result_type, ResultType::Complete)),
    };
    for kind in [
        "CallToolResult",
        "CompleteResult",
        "DiscoverResult",
        "GetPromptResult",
        "InputRequiredResult",
        "ListPromptsResult",
        "ListResourceTemplatesResult",
        "ListResourcesResult",
        "ListToolsResult",
        "ReadResourceResult",
    ] {
        for example in examples(kind) {
            let result = Json::parse(example.text).unwrap();
            assert!(read(kind, &result).is_ok(), "{}: {:?}", example.origin, read(kind, &result));
        }
    }
}
