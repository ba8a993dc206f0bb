//! Versions with sessions: the handshake, sessions, and questions.

use http::Method;
use serde_json::json;
use vmcp_edge::policy::EdgePolicy;
use vmcp_wire::error_response::AnswerPolicy;

use crate::support::{call, initialize, policy, request, start, start_with};

#[tokio::test]
async fn the_handshake_negotiates() {
    let edge = start();
    for (asked, spoken) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("2024-11-05", "2024-11-05"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let answer = edge.client.post(&[], &initialize(asked, json!({}))).await;
        assert_eq!(answer.json()["result"]["protocolVersion"], spoken);
        assert_eq!(answer.header("mcp-session-id").len(), 32);
    }
    let answer = edge.client.post(&[], &request(1, "initialize", json!({}))).await;
    assert_eq!((answer.status, answer.code()), (200, -32602));
    let greedy = initialize("2025-11-25", json!({"experimental": {"x": "y".repeat(20_000)}}));
    assert_eq!(edge.client.post(&[], &greedy).await.code(), -32602);
}

#[tokio::test]
async fn the_life_of_a_session() {
    let edge = start();
    let client = edge.client;
    let session = client.session(json!({})).await;
    let named = [("mcp-session-id", &*session)];
    let ping = request(1, "ping", json!({}));
    assert_eq!(client.post(&[], &ping).await.status, 400);
    let answer = client.post(&named, &ping).await;
    assert_eq!(answer.json(), json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(client.post(&named, &initialized).await.status, 202);
    for (version, status) in
        [("2025-06-18", 200), ("2025-11-25", 200), ("2024-11-05", 200), ("2030-01-01", 400)]
    {
        let headers = [named[0], ("mcp-protocol-version", version)];
        assert_eq!(client.post(&headers, &ping).await.status, status, "{version}");
    }
    for unknown in ["0123456789abcdef0123456789abcdef", "x", "é"] {
        let answer = client.post(&[("mcp-session-id", unknown)], &ping).await;
        assert_eq!((answer.status, answer.code()), (404, -32600));
        assert_eq!(answer.json()["error"]["message"], "Session terminated");
    }
    assert_eq!(client.send(Method::DELETE, "/mcp", &named, "").await.status, 200);
    assert_eq!(client.post(&named, &ping).await.status, 404);
    assert_eq!(client.send(Method::DELETE, "/mcp", &named, "").await.status, 404);
    assert_eq!(client.send(Method::DELETE, "/mcp", &[], "").await.status, 400);
}

#[tokio::test]
async fn the_number_of_sessions_is_bounded() {
    let mut policy = policy();
    policy.limits.session_count_max = 2;
    let edge = start_with(policy);
    let first = edge.client.session(json!({})).await;
    edge.client.session(json!({})).await;
    let answer = edge.client.post(&[], &initialize("2025-11-25", json!({}))).await;
    assert_eq!((answer.status, answer.code()), (503, -32603));
    assert_eq!(answer.header("retry-after"), "1");
    let named = [("mcp-session-id", &*first)];
    assert_eq!(edge.client.send(Method::DELETE, "/mcp", &named, "").await.status, 200);
    edge.client.session(json!({})).await;
}

#[tokio::test]
async fn errors_are_answered_as_by_the_reference() {
    let edge = start_with(EdgePolicy { answers: AnswerPolicy::REFERENCE, ..policy() });
    let session = edge.client.session(json!({})).await;
    let named = [("mcp-session-id", &*session)];
    let cases = [
        (call(1, "none", json!({})), 200, -32602),
        (call(1, "fail", json!({"kind": "denied"})), 403, 403),
        (request(1, "no/such", json!({})), 200, -32601),
        (request(1, "resources/read", json!({"uri": "file:///none"})), 200, -32002),
        (request(1, "logging/setLevel", json!({"level": "loud"})), 200, -32602),
    ];
    for (message, status, code) in cases {
        let answer = edge.client.post(&named, &message).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{message}");
    }
    let answer = edge.client.post(&named, &call(1, "fail", json!({"kind": "unavailable"}))).await;
    assert_eq!(answer.json()["result"]["isError"], true);
    assert!(!answer.body.contains("10.0.0.1"));
}

#[tokio::test]
async fn a_question_goes_out_and_its_answer_comes_back() {
    let edge = start();
    let client = edge.client;
    let session = client.session(json!({"elicitation": {}})).await;
    let other = client.session(json!({"elicitation": {}})).await;
    let named = [("mcp-session-id", &*session)];
    let mut stream = client.stream(&named, &call(5, "ask", json!({}))).await;
    assert_eq!(stream.status, 200);
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    assert_eq!(stream.headers["x-accel-buffering"], "no");
    let question = stream.next().await.unwrap();
    assert!(question.id.is_some());
    assert_eq!(question.data["method"], "elicitation/create");
    assert_eq!(question.data["params"], json!({"message": "sure?"}));
    let id = question.data["id"].clone();
    let answer = |said: &str| json!({"jsonrpc": "2.0", "id": id, "result": {"action": said}});
    // A response from another session, or to an unknown question, is accepted and dropped.
    let foreign = client.post(&[("mcp-session-id", &other)], &answer("stolen")).await;
    assert_eq!(foreign.status, 202);
    let unasked = json!({"jsonrpc": "2.0", "id": 999, "result": {}});
    assert_eq!(client.post(&named, &unasked).await.status, 202);
    assert_eq!(client.post(&named, &answer("accept")).await.status, 202);
    let result = stream.data().await;
    assert_eq!(result["id"], 5);
    assert_eq!(result["result"]["said"], json!({"action": "accept"}));
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_question_can_be_refused_or_not_asked_at_all() {
    let edge = start();
    let client = edge.client;
    let mute = client.session(json!({})).await;
    let answer = client.post(&[("mcp-session-id", &mute)], &call(1, "ask", json!({}))).await;
    assert_eq!(answer.json()["result"]["said"], "unsupported");
    let answer = client.ask(&call(1, "ask", json!({}))).await;
    assert_eq!(answer.json()["result"]["said"], "unsupported");

    let able = client.session(json!({"elicitation": {}})).await;
    let named = [("mcp-session-id", &*able)];
    let json_only = [named[0], ("accept", "application/json")];
    let answer = client.post(&json_only, &call(1, "ask", json!({}))).await;
    assert_eq!(answer.json()["result"]["said"], "unreachable");

    // With an open standalone stream, the client can be asked.
    let mut standalone = client.get(&named).await;
    let (able, waiting) = (able.clone(), client);
    let call = tokio::spawn(async move {
        let headers = [("mcp-session-id", &*able), ("accept", "application/json")];
        waiting.post(&headers, &call(2, "ask", json!({}))).await
    });
    let question = standalone.data().await;
    let refusal = json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "no"}});
    assert_eq!(client.post(&named, &refusal).await.status, 202);
    assert_eq!(call.await.unwrap().json()["result"]["said"], -1);
}
