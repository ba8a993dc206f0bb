//! How the protocol version is found out, and which answers decide nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use vmcp_backends::policy::{Timeouts, Transport};
use vmcp_domain::BackendState;

use crate::web::McpServer as _;
use crate::web::{self, HttpReply, ReceivedRequest};
use crate::{Harness, context, http_policy, policy};

async fn probed_rig(
    discover: impl Fn(&ReceivedRequest) -> HttpReply + Send + Sync + 'static,
) -> (Harness, web::ScriptedServer) {
    let discover = Arc::new(discover);
    let server = web::serve(move |request| {
        let discover = Arc::clone(&discover);
        async move {
            if request.rpc_method() == "server/discover" {
                discover(&request)
            } else {
                web::reply_with_sessions(&request)
            }
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    harness.wait_for_state(BackendState::Ready).await;
    (harness, server)
}

#[tokio::test]
async fn a_discover_result_decides() {
    let server = web::serve(|request| async move { web::reply_stateless(&request) }).await;
    let harness = Harness::start_http(&server.url());
    let inventory = harness.backend.fetch_inventory(&context()).await.unwrap();
    assert_eq!(harness.protocol(), "2026-07-28");
    assert_eq!(inventory.instructions.as_deref(), Some("be kind"));
    assert_eq!(inventory.tools.len(), 1);
    let request = &server.with_method("server/discover")[0];
    assert_eq!(request.header("mcp-protocol-version"), Some("2026-07-28"));
    assert_eq!(request.header("mcp-method"), Some("server/discover"));
    assert_eq!(request.header("user-agent"), Some("vmcp/1.2.3"));
    assert!(server.with_method("initialize").is_empty());
}

#[tokio::test]
async fn a_discover_result_without_the_revision_leads_to_the_handshake() {
    let (harness, server) = probed_rig(|request| {
        web::reply_result(request, &json!({"supportedVersions": ["2027-01-01"], "capabilities": {}}))
    })
    .await;
    assert_eq!(harness.protocol(), "2025-11-25");
    let opening = &server.with_method("initialize")[0];
    assert_eq!(opening.header("mcp-protocol-version"), None);
    assert_eq!(
        opening.body["params"]["capabilities"],
        json!({"roots": {}, "sampling": {}, "elicitation": {"form": {}, "url": {}}})
    );
    server.wait_for_request(|request| request.rpc_method() == "notifications/initialized").await;
}

#[tokio::test]
async fn an_error_of_the_revision_decides_by_what_it_supports() {
    let refused = |supported: Value| {
        move |request: &ReceivedRequest| {
            web::reply_json(
                400,
                &json!({"jsonrpc": "2.0", "id": request.body["id"],
                        "error": {"code": -32022, "message": "m", "data": {"supported": supported}}}),
            )
        }
    };
    let (harness, _server) = probed_rig(refused(json!(["2026-07-28"]))).await;
    assert_eq!(harness.protocol(), "2026-07-28");
    let (harness, _server) = probed_rig(refused(json!(["2025-11-25"]))).await;
    assert_eq!(harness.protocol(), "2025-11-25");
}

#[tokio::test]
async fn other_errors_lead_to_the_handshake() {
    for status in [200, 400, 404, 405, 500] {
        let (harness, _server) =
            probed_rig(move |request| web::reply_error(status, &request.body["id"], -32601, "m")).await;
        assert_eq!(harness.protocol(), "2025-11-25", "{status}");
        let (harness, _server) = probed_rig(move |_| web::reply_empty(status)).await;
        assert_eq!(harness.protocol(), "2025-11-25", "empty {status}");
    }
}

#[tokio::test]
async fn credentials_and_outages_decide_nothing() {
    for (status, class) in [(401, "auth"), (503, "status")] {
        let tries = AtomicUsize::new(0);
        let server = web::serve(move |request| {
            let first = tries.fetch_add(1, Ordering::Relaxed) == 0;
            async move { if first { web::reply_empty(status) } else { web::reply_stateless(&request) } }
        })
        .await;
        let harness = Harness::start_http(&server.url());
        harness.wait_for_state(BackendState::Ready).await;
        assert_eq!(harness.protocol(), "2026-07-28");
        assert_eq!(harness.backend.status().last_error, Some(class));
        assert_eq!(harness.backend.status().reconnect_count, 0);
        assert!(server.with_method("initialize").is_empty());
    }
}

#[tokio::test]
async fn a_server_that_keeps_the_probe_waiting_is_shaken_hands_with() {
    let server = web::serve(|request| async move {
        if request.rpc_method() == "server/discover" {
            std::future::pending::<()>().await;
        }
        web::reply_with_sessions(&request)
    })
    .await;
    let timeouts =
        Timeouts { connect: Duration::from_millis(600), call: Duration::from_secs(8), ..Timeouts::DEFAULT };
    let harness = Harness::start(policy(Transport::StreamableHttp(http_policy(&server.url())), timeouts));
    // The call starts while the first connection is being opened, and waits for it.
    assert!(harness.call(&context(), "echo", "{}").await.is_ok());
    assert_eq!(harness.protocol(), "2025-11-25");
}

#[tokio::test]
async fn an_older_revision_is_spoken_as_answered() {
    let server = web::serve(|request| async move {
        if request.rpc_method() == "initialize" {
            return web::reply_result(
                &request,
                &json!({"protocolVersion": "2025-03-26", "capabilities": {"tools": {}}}),
            );
        }
        web::reply_with_sessions(&request)
    })
    .await;
    let harness = Harness::start_http(&server.url());
    assert!(harness.call(&context(), "echo", "{}").await.is_ok());
    assert_eq!(harness.protocol(), "2025-03-26");
    let call = &server.with_method("tools/call")[0];
    assert_eq!(call.header("mcp-protocol-version"), None);
    assert_eq!(call.header("mcp-session-id"), None);
}

#[tokio::test]
async fn an_unknown_revision_is_no_connection() {
    let server = web::serve(|request| async move {
        if request.rpc_method() == "initialize" {
            return web::reply_result(
                &request,
                &json!({"protocolVersion": "1999-01-01", "capabilities": {}}),
            );
        }
        web::reply_with_sessions(&request)
    })
    .await;
    let harness = Harness::start_http(&server.url());
    harness.wait_for_state(BackendState::Unavailable).await;
    assert_eq!(harness.backend.status().last_error, Some("protocol"));
    let error = harness.call(&context(), "echo", "{}").await.unwrap_err();
    assert_eq!(error.class(), "backend_unavailable");
}
