//! 2026-07-28: headers, `_meta`, and results.

use serde_json::{Value, json};
use vmcp_edge::policy::EdgePolicy;
use vmcp_wire::error_response::AnswerPolicy;

use crate::support::{call, meta, policy, request, start, start_with};

/// Request headers, the expected status, and the expected error code.
type Case<'a> = (&'a [(&'a str, &'a str)], u16, i64);

#[tokio::test]
async fn headers_have_to_repeat_the_body() {
    let edge = start();
    let mut message = call(1, "echo", json!({}));
    message["params"]["_meta"] = meta();
    let version = ("mcp-protocol-version", "2026-07-28");
    let method = ("mcp-method", "tools/call");
    let name = ("mcp-name", "echo");
    let encoded = ("mcp-name", "=?base64?ZWNobw==?=");
    let cases: [Case<'_>; 13] = [
        (&[version, method, name], 200, 0),
        (&[version, method, encoded], 200, 0),
        (&[version, method], 400, -32020),
        (&[version, name], 400, -32020),
        (&[method, name], 400, -32020),
        (&[version, method, ("mcp-name", "Echo")], 400, -32020),
        (&[version, ("mcp-method", "tools/list"), name], 400, -32020),
        (&[version, method, ("mcp-name", "=?base64?*?=")], 400, -32020),
        (&[version, method, ("mcp-name", "échо")], 400, -32020),
        (&[version, method, name, name], 400, -32020),
        (&[("mcp-protocol-version", "2025-11-25"), method, name], 400, -32020),
        (&[("mcp-protocol-version", "2099-01-01"), method, name], 400, -32020),
        (&[version, version, method, name], 400, -32020),
    ];
    for (headers, status, code) in cases {
        let answer = edge.client.post(headers, &message).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{headers:?} {answer:?}");
        assert_eq!(answer.json()["id"], 1);
    }
}

#[tokio::test]
async fn meta_has_to_be_there() {
    let edge = start();
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "server/discover")];
    let without = |key: &str| {
        let mut meta = meta();
        meta.as_object_mut().unwrap().remove(key);
        request(2, "server/discover", json!({"_meta": meta}))
    };
    let named = |date: &str| {
        let mut meta = meta();
        meta["io.modelcontextprotocol/protocolVersion"] = json!(date);
        request(2, "server/discover", json!({"_meta": meta}))
    };
    let cases = [
        (request(2, "server/discover", json!({})), 400, -32602),
        (without("io.modelcontextprotocol/protocolVersion"), 400, -32602),
        (without("io.modelcontextprotocol/clientCapabilities"), 400, -32602),
        (without("io.modelcontextprotocol/clientInfo"), 200, 0),
        (named("v999"), 400, -32020),
    ];
    for (message, status, code) in cases {
        let answer = edge.client.post(&headers, &message).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{message}");
    }
    let unknown = [("mcp-protocol-version", "v999"), ("mcp-method", "server/discover")];
    let answer = edge.client.post(&unknown, &named("v999")).await;
    assert_eq!((answer.status, answer.code()), (400, -32022));
    let data = &answer.json()["error"]["data"];
    assert_eq!(data["requested"], "v999");
    assert_eq!(data["supported"][0], "2026-07-28");
}

#[tokio::test]
async fn methods_of_the_session_era_do_not_exist() {
    let edge = start();
    for method in
        ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "no/such"]
    {
        let answer = edge.client.ask(&request(3, method, json!({}))).await;
        assert_eq!((answer.status, answer.code()), (404, -32601), "{method}");
        assert_eq!(answer.json()["id"], 3);
    }
}

/// The Go SDK sends such a ping, and treats a refusal as the end of the connection.
#[tokio::test]
async fn a_ping_that_is_not_of_this_revision_is_answered() {
    let edge = start();
    let mut bare = request(3, "ping", json!({}));
    bare["params"].as_object_mut().unwrap().remove("_meta");
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "ping")];
    for message in [bare, json!({"jsonrpc": "2.0", "id": 3, "method": "ping"})] {
        let answer = edge.client.post(&headers, &message).await;
        assert_eq!((answer.status, &answer.json()["id"]), (200, &json!(3)), "{message}");
        assert!(answer.json()["result"].is_object(), "{message}");
    }
}

#[tokio::test]
async fn results_carry_what_this_hop_puts_on() {
    let edge = start();
    let answer = edge.client.ask(&request("d", "server/discover", json!({}))).await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "private, no-store");
    assert_eq!(answer.header("mcp-session-id"), "");
    let result = &answer.json()["result"];
    assert_eq!(result["resultType"], "complete");
    assert_eq!(result["instructions"], "Be kind.");
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "vmcp");
    let answer = edge.client.ask(&request(1, "resources/read", json!({"uri": "file:///0"}))).await;
    let result = &answer.json()["result"];
    assert_eq!((&result["ttlMs"], &result["cacheScope"]), (&json!(0), &json!("private")));
}

#[tokio::test]
async fn every_request_reaches_the_stack() {
    let edge = start();
    let asked: [(&str, Value, &str); 7] = [
        ("tools/list", json!({}), "/tools/0/name"),
        ("resources/list", json!({}), "/resources/0/uri"),
        ("resources/templates/list", json!({}), "/resourceTemplates/0/uriTemplate"),
        ("prompts/list", json!({}), "/prompts/0/name"),
        ("prompts/get", json!({"name": "hello"}), "/messages"),
        ("resources/read", json!({"uri": "file:///0"}), "/contents"),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "hello"}, "argument": {"name": "a", "value": ""}}),
            "/completion/values/0",
        ),
    ];
    let session = edge.client.session(json!({})).await;
    for (method, params, place) in asked {
        let message = request(1, method, params);
        let stateless = edge.client.ask(&message).await;
        assert!(stateless.json()["result"].pointer(place).is_some(), "{stateless:?}");
        let in_session = edge.client.post(&[("mcp-session-id", &session)], &message).await;
        assert!(in_session.json()["result"].pointer(place).is_some(), "{in_session:?}");
        assert!(in_session.json()["result"].get("resultType").is_none());
    }
}

#[tokio::test]
async fn errors_are_answered_as_by_the_reference() {
    let edge = start_with(EdgePolicy { answers: AnswerPolicy::REFERENCE, ..policy() });
    let cases = [
        (call(1, "none", json!({})), 200, -32602),
        (call(1, "fail", json!({"kind": "denied"})), 403, 403),
        (call(1, "fail", json!({"kind": "unavailable"})), 200, -32603),
        (request(1, "tools/call", json!({"name": "echo", "arguments": []})), 200, -32602),
        (request(1, "resources/read", json!({"uri": "file:///none"})), 200, -32602),
        (request(1, "prompts/get", json!({"name": "none"})), 200, -32602),
    ];
    for (message, status, code) in cases {
        let answer = edge.client.ask(&message).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{message}");
        assert!(!answer.body.contains("10.0.0.1"), "{answer:?}");
    }
    let gone = edge.client.ask(&request(1, "resources/read", json!({"uri": "file:///none"}))).await;
    assert_eq!(gone.json()["error"]["data"]["uri"], "file:///none");
}

#[tokio::test]
async fn failed_tool_calls_are_results_that_models_can_read() {
    let edge = start();
    let session = edge.client.session(json!({})).await;
    for (kind, code) in [("denied", -32602), ("unavailable", -32603)] {
        let message = call(1, "fail", json!({"kind": kind}));
        let stateless = edge.client.ask(&message).await;
        let in_session = edge.client.post(&[("mcp-session-id", &session)], &message).await;
        for answer in [stateless, in_session] {
            let result = &answer.json()["result"];
            assert_eq!((answer.status, &result["isError"]), (200, &json!(true)), "{answer:?}");
            assert!(result["content"][0]["text"].as_str().unwrap().len() > 20, "{answer:?}");
            assert_eq!(result["structuredContent"]["code"], code, "{answer:?}");
            assert_eq!(result["_meta"]["vmcp/refusal"]["code"], code, "{answer:?}");
        }
    }
    // The words for an absent tool are those for a denied one, and an unlisted tool gets no structured content.
    let denied = edge.client.ask(&call(1, "fail", json!({"kind": "denied"}))).await.json();
    let absent = edge.client.ask(&call(1, "none", json!({}))).await.json();
    assert_eq!(denied["result"]["content"], absent["result"]["content"]);
    assert_eq!(denied["result"]["_meta"]["vmcp/refusal"], absent["result"]["_meta"]["vmcp/refusal"]);
    assert!(absent["result"].get("structuredContent").is_none());
}

#[tokio::test]
async fn arguments_repeated_as_headers_have_to_agree() {
    let edge = start();
    let mut message = call(1, "region", json!({"region": "eu"}));
    message["params"]["_meta"] = meta();
    let usual =
        [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "region")];
    for (region, status) in [("eu", 200), ("us", 400), ("", 400)] {
        let mut headers = usual.to_vec();
        headers.push(("mcp-param-region", region));
        let answer = edge.client.post(&headers, &message).await;
        assert_eq!(answer.status, status, "{region}");
        assert_eq!(answer.code(), if status == 200 { 0 } else { -32020 });
    }
}

#[tokio::test]
async fn payloads_and_context_travel_untouched() {
    let edge = start();
    let text = r#"{"jsonrpc":"2.0","id":1e0,"method":"tools/call","params":{"name":"echo","arguments":{"z":1.0,"a":2E3},
        "_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"traceparent":"00-x","mine/k":1.0}}}"#;
    let headers = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "echo"),
        ("x-passed", "yes"),
    ];
    let answer = edge.client.send(http::Method::POST, "/mcp", &headers, text).await;
    assert!(answer.body.contains(r#""id":1e0"#), "{answer:?}");
    assert!(answer.body.contains(r#""echo":{"z":1.0,"a":2E3}"#), "{answer:?}");
    let last = edge.fake.last.lock().unwrap().take().unwrap();
    assert_eq!(last.meta.to_json().as_str(), r#"{"traceparent":"00-x","mine/k":1.0}"#);
    assert_eq!(*last.passthrough_headers, [("x-passed".to_owned(), "yes".to_owned())]);
    assert_eq!(last.caller.identity().unwrap().subject, "me");
    assert!(last.peer_address.unwrap().is_loopback());
}

#[tokio::test]
async fn notifications_are_accepted_and_answers_are_not() {
    let edge = start();
    let version = [("mcp-protocol-version", "2026-07-28")];
    let notice = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    let answer = edge.client.post(&version, &notice).await;
    assert_eq!((answer.status, &*answer.body), (202, ""));
    let response = json!({"jsonrpc": "2.0", "id": 1, "result": {}});
    assert_eq!(edge.client.post(&version, &response).await.status, 400);
}

#[tokio::test]
async fn trace_headers_travel_unless_the_body_has_its_own() {
    let edge = start();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
    let traced = |own: Option<&str>| {
        let mut message = call(1, "echo", json!({}));
        message["params"]["_meta"] = meta();
        if let Some(own) = own {
            message["params"]["_meta"]["traceparent"] = json!(own);
        }
        message
    };
    for (header, own, travels) in [
        (parent, None, json!({"traceparent": parent, "tracestate": "a=1"})),
        (parent, Some("mine"), json!({"traceparent": "mine"})),
        ("no parent", None, json!({})),
    ] {
        let headers = [
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "echo"),
            ("traceparent", header),
            ("tracestate", "a=1"),
        ];
        assert_eq!(edge.client.post(&headers, &traced(own)).await.status, 200);
        let meta = edge.fake.last.lock().unwrap().as_ref().unwrap().meta.to_json();
        assert_eq!(serde_json::from_str::<Value>(meta.as_str()).unwrap(), travels);
    }
}
