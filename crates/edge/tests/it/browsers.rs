//! CORS: preflight responses and the headers that let a browser read a response.

use http::Method;
use serde_json::json;
use vmcp_edge::policy::EdgePolicy;

use crate::support::{FakeAuthenticator, policy, request, start, start_with};

const APP: &str = "https://app.example.com";

#[tokio::test]
async fn a_browser_asks_without_a_credential_and_reads_every_answer() {
    let edge =
        start_with(EdgePolicy { allowed_origins: vec![APP.to_owned()], ..FakeAuthenticator::new().policy() });
    let asked = [
        ("origin", APP),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization, Content-Type,mcp-protocol-version,mcp-param-region,x-evil",
        ),
    ];
    let answer = edge.client.send(Method::OPTIONS, "/mcp", &asked, "").await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), APP);
    assert_eq!(answer.header("access-control-allow-methods"), "GET, POST, DELETE");
    assert_eq!(
        answer.header("access-control-allow-headers"),
        "authorization, content-type, mcp-protocol-version, mcp-param-region"
    );
    assert!(answer.header("vary").contains("access-control-request-headers"), "{answer:?}");
    // Without a credential the response is an error. The page must be able to read it, because its headers
    // lead to the issuer.
    let ping = request(1, "ping", json!({}));
    let refused = edge.client.post(&[("origin", APP)], &ping).await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, APP));
    let readable = refused.header("access-control-expose-headers");
    assert!(readable.contains("WWW-Authenticate") && readable.contains("Mcp-Session-Id"), "{readable}");
    assert_eq!(refused.header("vary"), "origin");
}

#[tokio::test]
async fn an_origin_that_is_not_allowed_is_told_nothing() {
    let edge = start_with(EdgePolicy { allowed_origins: vec![APP.to_owned()], ..policy() });
    for origin in ["https://evil.example", "null", "https://app.example.com.evil.example"] {
        let asked = [("origin", origin), ("access-control-request-method", "POST")];
        let answer = edge.client.send(Method::OPTIONS, "/mcp", &asked, "").await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, ""), "{origin}");
    }
    // An OPTIONS request that is not a preflight gets 405.
    let answer = edge.client.send(Method::OPTIONS, "/mcp", &[("origin", APP)], "").await;
    assert_eq!(answer.status, 405);
    // Programs send no `Origin` and get no CORS headers.
    let answer = edge.client.post(&[], &request(1, "ping", json!({}))).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn events_can_be_read_too() {
    let edge = start();
    let session = edge.client.session(json!({})).await;
    let local = "http://localhost:6274";
    let headers = [("origin", local), ("mcp-session-id", &*session), ("accept", "text/event-stream")];
    let answer = edge.client.post(&headers, &request(1, "ping", json!({}))).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, local), "{answer:?}");
}

#[tokio::test]
async fn metadata_is_for_every_origin_but_not_for_every_host() {
    let edge = start_with(FakeAuthenticator::new().policy());
    let path = "/.well-known/oauth-protected-resource";
    for origin in ["https://anyone.example", "null"] {
        let answer = edge.client.send(Method::GET, path, &[("origin", origin)], "").await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "*"), "{answer:?}");
        let asked = [("origin", origin), ("access-control-request-method", "GET")];
        let answer = edge.client.send(Method::OPTIONS, path, &asked, "").await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, "*"));
    }
    let answer = edge.client.send(Method::GET, path, &[("host", "evil.example")], "").await;
    assert_eq!(answer.status, 403);
}
