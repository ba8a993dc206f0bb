//! Authentication: exact refusals for versions with sessions and 2026-07-28, public pages, and the ownership
//! of sessions and streams.

use std::sync::atomic::Ordering;

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vmcp_domain::Challenge;
use vmcp_json::Json;

use crate::support::{
    Client, FakeAuthenticator, RawResponse, RunningEdge, call, initialize, meta, request, start, start_with,
    within_timeout,
};

const METADATA: &str = "/.well-known/oauth-protected-resource";
const RESOURCE: &str = "https://mcp.example/.well-known/oauth-protected-resource/team/mcp";

fn start_with_authentication() -> RunningEdge {
    start_with(FakeAuthenticator::new().policy())
}

fn stateless(method: &str, mut params: Value) -> Value {
    params["_meta"] = meta();
    request(1, method, params)
}

/// Sends one request of every kind, with these `Authorization` headers.
async fn send_every_kind(client: &Client, authorization: &[&str]) -> Vec<RawResponse> {
    let with_authorization = |more: &[(&'static str, &'static str)]| {
        let mut headers: Vec<(&str, &str)> =
            authorization.iter().map(|value| ("authorization", *value)).collect();
        headers.extend(more);
        headers
    };
    let echo = stateless("tools/call", json!({"name": "echo", "arguments": {}}));
    let headers = with_authorization(&[
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "echo"),
    ]);
    let mut answers = vec![client.post(&headers, &echo).await];
    let handshake = initialize("2025-11-25", json!({}));
    answers.push(client.post(&with_authorization(&[]), &handshake).await);
    let session = [("mcp-session-id", "0123456789abcdef0123456789abcdef")];
    answers.push(client.post(&with_authorization(&session), &request(1, "ping", json!({}))).await);
    let notice = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    answers.push(client.post(&with_authorization(&session), &notice).await);
    answers.push(
        client.post(&with_authorization(&session), &json!({"jsonrpc": "2.0", "id": 1, "result": {}})).await,
    );
    answers.push(
        client.send(Method::POST, "/mcp", &with_authorization(&[("content-type", "text/plain")]), "{").await,
    );
    let events = [("accept", "text/event-stream"), ("mcp-session-id", session[0].1)];
    for method in [Method::GET, Method::DELETE, Method::PUT, Method::OPTIONS] {
        answers.push(client.send(method, "/mcp", &with_authorization(&events), "").await);
    }
    answers
}

#[tokio::test]
async fn refusals_are_the_same_for_every_kind_of_request() {
    let authenticator = FakeAuthenticator::new();
    let edge = start_with(authenticator.clone().policy());
    let challenge = |error: &str, description: &str| {
        format!(
            "Bearer realm=\"https://idp.example\", resource_metadata=\"{RESOURCE}\", scope=\"mcp tools\", \
             error=\"{error}\", error_description=\"{description}\""
        )
    };
    let cases: [(&[&str], u16, &str, &str); 7] = [
        (&[], 401, "invalid_request", "an access token is required"),
        (&["Basic eDp5"], 401, "invalid_request", "the Authorization header must be one bearer token"),
        (
            &["Bearer alice", "Bearer bob"],
            401,
            "invalid_request",
            "the Authorization header must be one bearer token",
        ),
        (&["Bearer expired"], 401, "invalid_token", "the access token has expired"),
        (&["Bearer forged"], 401, "invalid_token", "the access token is not valid here"),
        (&["Bearer narrow"], 403, "insufficient_scope", "the access token does not have a required scope"),
        (&["Bearer down"], 503, "", ""),
    ];
    for (authorization, status, error, description) in cases {
        for answer in send_every_kind(&edge.client, authorization).await {
            assert_eq!(answer.status, status, "{answer:?}");
            assert_eq!(answer.header("cache-control"), "no-store");
            if status == 503 {
                assert_eq!(answer.body, "authentication service temporarily unavailable");
                assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
                assert_eq!(answer.header("retry-after"), "5");
                assert!(!answer.headers.contains_key("www-authenticate"));
                continue;
            }
            assert_eq!(answer.body, format!(r#"{{"error":"{error}","error_description":"{description}"}}"#));
            assert_eq!(answer.header("content-type"), "application/json");
            assert_eq!(answer.header("www-authenticate"), challenge(error, description));
        }
    }
    // The edge does not call the authenticator with two credentials, and no request reaches the gateway.
    assert_eq!(authenticator.request_count.load(Ordering::SeqCst), 6 * 10);
    assert!(edge.fake.last.lock().unwrap().is_none());
}

#[tokio::test]
async fn a_challenge_names_only_what_there_is() {
    let authenticator = FakeAuthenticator {
        challenge: Challenge { realm: "vmcp".to_owned(), ..Challenge::default() },
        request_count: Default::default(),
    };
    let edge = start_with(std::sync::Arc::new(authenticator).policy());
    let answer = edge.client.send(Method::DELETE, "/mcp", &[], "").await;
    assert_eq!(
        answer.header("www-authenticate"),
        "Bearer realm=\"vmcp\", error=\"invalid_request\", error_description=\"an access token is required\""
    );
    let answer = edge.client.send(Method::GET, METADATA, &[], "").await;
    assert_eq!((answer.status, answer.json()["error"].as_str().unwrap()), (404, "not_found"));
}

#[tokio::test]
async fn the_body_is_not_read_before_the_caller_is_known() {
    let edge = start_with_authentication();
    let mut stream = TcpStream::connect(edge.client.address).await.unwrap();
    let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // The client sends no byte of the body, and the edge must not wait for one.
    let mut start = [0; 12];
    within_timeout(stream.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 401");
}

#[tokio::test]
async fn the_metadata_says_where_tokens_come_from() {
    let edge = start_with_authentication();
    let expected = concat!(
        r#"{"resource":"https://mcp.example/team/mcp","authorization_servers":["https://idp.example"],"#,
        r#""bearer_methods_supported":["header"],"scopes_supported":["mcp","tools"],"resource_name":"vmcp"}"#
    );
    for path in ["", "/", "/mcp", "/team/mcp"] {
        let answer = edge.client.send(Method::GET, &format!("{METADATA}{path}"), &[], "").await;
        assert_eq!((answer.status, &*answer.body), (200, expected), "{path}");
        assert_eq!(answer.header("content-type"), "application/json");
    }
    let answer = edge.client.send(Method::GET, &format!("{METADATA}/other"), &[], "").await;
    assert_eq!((answer.status, answer.json()["error"].as_str().unwrap()), (404, "not_found"));
    let answer = edge.client.send(Method::GET, &format!("{METADATA}x"), &[], "").await;
    assert_eq!((answer.status, answer.code()), (404, -32600));
    for path in [METADATA, "/.well-known/oauth-protected-resource/mcp"] {
        let answer = start().client.send(Method::GET, path, &[], "").await;
        assert_eq!((answer.status, answer.json()["error"].as_str().unwrap()), (404, "not_found"));
    }
}

#[tokio::test]
async fn pages_beside_the_endpoint_stay_open() {
    let edge = start_with_authentication();
    let answer = edge.client.send(Method::GET, "/health", &[], "").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn the_stack_learns_who_calls_and_never_the_token() {
    let mut policy = FakeAuthenticator::new().policy();
    policy.passthrough_headers = vec!["authorization".to_owned(), "x-passed".to_owned()];
    let edge = start_with(policy);
    let alice = ("authorization", "Bearer alice");
    let headers = [
        alice,
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "echo"),
        ("x-passed", "yes"),
    ];
    let echo = stateless("tools/call", json!({"name": "echo", "arguments": {}}));
    assert_eq!(edge.client.post(&headers, &echo).await.status, 200);
    let last = edge.fake.last.lock().unwrap().take().unwrap();
    let identity = last.caller.identity().unwrap();
    assert_eq!((&*identity.issuer, &*identity.subject), ("https://idp.example", "alice"));
    assert_eq!(*last.passthrough_headers, [("x-passed".to_owned(), "yes".to_owned())]);

    // A later token of the same user is accepted in the same session, and its claims count.
    let session = open(&edge.client, alice.1).await;
    let later = [("authorization", "Bearer alice-later"), ("mcp-session-id", &*session)];
    assert_eq!(edge.client.post(&later, &call(2, "echo", json!({}))).await.status, 200);
    let last = edge.fake.last.lock().unwrap().take().unwrap();
    let token = last.caller.identity().unwrap().claims.get("token").and_then(Json::decode_string);
    assert_eq!(token.as_deref(), Some("alice-later"));
}

async fn open(client: &Client, authorization: &str) -> String {
    let headers = [("authorization", authorization)];
    let answer = client.post(&headers, &initialize("2025-11-25", json!({}))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("mcp-session-id").to_owned()
}

#[tokio::test]
async fn a_session_is_of_no_use_to_anybody_else() {
    let edge = start_with_authentication();
    let client = edge.client;
    for thief in ["Bearer bob", "Bearer elsewhere"] {
        let ping = request(1, "ping", json!({}));
        let session = open(&client, "Bearer alice").await;
        let owner = [("authorization", "Bearer alice"), ("mcp-session-id", &*session)];
        assert_eq!(client.post(&owner, &ping).await.status, 200);
        let stolen = [("authorization", thief), ("mcp-session-id", &*session)];
        let answer = client.post(&stolen, &ping).await;
        assert_eq!((answer.status, answer.code()), (404, -32600), "{thief}");
        assert_eq!(answer.json()["error"]["message"], "Session terminated");
        assert_eq!(client.post(&owner, &ping).await.status, 200, "the session is still open for its owner");
    }
    // Without a credential, the response does not reveal whether the session exists, and the session stays
    // open.
    let session = open(&client, "Bearer alice").await;
    let named = [("mcp-session-id", &*session)];
    assert_eq!(client.post(&named, &request(1, "ping", json!({}))).await.status, 401);
    for method in [Method::GET, Method::DELETE] {
        let another = open(&client, "Bearer alice").await;
        let accept = ("accept", "text/event-stream");
        let stolen = [("authorization", "Bearer bob"), accept, ("mcp-session-id", &*another)];
        assert_eq!(client.send(method, "/mcp", &stolen, "").await.status, 404);
    }
    let owner = [("authorization", "Bearer alice"), named[0]];
    assert_eq!(client.post(&owner, &request(1, "ping", json!({}))).await.status, 200);
}

#[tokio::test]
async fn streams_end_with_the_credential_and_sessions_do_not() {
    let edge = start_with_authentication();
    let client = edge.client;
    let session = open(&client, "Bearer brief").await;
    let named = ("mcp-session-id", &*session);
    let mut standalone = client.get(&[("authorization", "Bearer brief"), named]).await;
    assert_eq!(standalone.status, 200);
    assert!(standalone.next().await.is_none());

    let listen = stateless("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    let headers = [
        ("authorization", "Bearer brief"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "subscriptions/listen"),
    ];
    let mut listening = client.stream(&headers, &listen).await;
    assert_eq!(listening.data().await["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(listening.data().await["result"]["resultType"], "complete");
    assert!(listening.next().await.is_none());

    let fresh = [("authorization", "Bearer alice-later"), named];
    assert_eq!(client.post(&fresh, &request(1, "ping", json!({}))).await.status, 200);
    let mut standalone = client.get(&fresh).await;
    edge.fake.announce(&vmcp_domain::Change::Tools);
    assert_eq!(standalone.data().await["method"], "notifications/tools/list_changed");
}
