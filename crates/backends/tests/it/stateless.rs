//! Streamable HTTP of 2026-07-28: everything is in the request, and no state is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use vmcp_backends::policy::{Secret, Transport};
use vmcp_domain::{Continuation, LogLevel, ProtocolVersion, ResultType};
use vmcp_json::Members;

use crate::web;
use crate::web::McpServer as _;
use crate::{Harness, RecordingClient, TIMEOUTS, context, http_policy, policy, structured_content};

#[tokio::test]
async fn requests_carry_everything() {
    let server = web::serve(|request| async move { web::reply_stateless(&request) }).await;
    let mut policy = policy(Transport::StreamableHttp(http_policy(&server.url())), TIMEOUTS);
    policy.headers = vec![("authorization".to_owned(), Secret::new("Bearer own"))];
    let harness = Harness::start(policy);
    let client = RecordingClient::new(Some(LogLevel::Info), r#"{"elicitation":{},"tasks":{}}"#);
    let mut ctx = client.context();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
    let traced = format!(r#"{{"traceparent":"{parent}","tracestate":"a=1"}}"#);
    ctx.meta = vmcp_json::Json::parse(traced).unwrap().members().unwrap();
    ctx.passthrough_headers = Arc::from([
        ("authorization".to_owned(), "Bearer the-client's".to_owned()),
        ("x-tenant".to_owned(), "blue".to_owned()),
        ("mcp-method".to_owned(), "forged".to_owned()),
    ]);
    harness.call(&ctx, "é", r#"{"n":1}"#).await.unwrap();
    let call = &server.with_method("tools/call")[0];
    assert_eq!(call.header("mcp-protocol-version"), Some("2026-07-28"));
    assert_eq!(call.header("mcp-method"), Some("tools/call"));
    assert_eq!(call.header("mcp-name"), Some("=?base64?w6k=?="));
    assert_eq!(call.header("mcp-session-id"), None);
    assert_eq!(call.header("authorization"), Some("Bearer own"));
    assert_eq!(call.header("x-tenant"), Some("blue"));
    assert_eq!((call.header("traceparent"), call.header("tracestate")), (Some(parent), Some("a=1")));
    assert_eq!(
        call.body["params"]["_meta"],
        json!({
            "traceparent": parent,
            "tracestate": "a=1",
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "vmcp", "version": "1.2.3"},
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
            "io.modelcontextprotocol/logLevel": "info",
            "progressToken": call.body["id"],
        })
    );
}

#[tokio::test]
async fn a_dropped_call_closes_its_response() {
    struct Flag(Arc<AtomicUsize>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    for answers_with_stream in [false, true] {
        let closed = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&closed);
        let server = web::serve(move |request| {
            let seen = Arc::clone(&seen);
            async move {
                if request.rpc_method() == "tools/call" {
                    if answers_with_stream {
                        let (events, reply) = web::event_stream();
                        tokio::spawn(async move {
                            events.closed().await;
                            seen.fetch_add(1, Ordering::Relaxed);
                        });
                        return reply;
                    }
                    let _flag = Flag(seen);
                    std::future::pending::<()>().await;
                }
                web::reply_stateless(&request)
            }
        })
        .await;
        let harness = Harness::start_http(&server.url());
        let ctx = context();
        {
            let call = harness.call(&ctx, "echo", "{}");
            tokio::pin!(call);
            tokio::select! {
                _ = &mut call => panic!("answered"),
                _ = server.wait_for_request(|request| request.rpc_method() == "tools/call") => {}
            }
        }
        crate::eventually(|| (closed.load(Ordering::Relaxed) == 1).then_some(())).await;
        assert!(server.with_method("notifications/cancelled").is_empty());
    }
}

/// A server that requires input before it answers.
async fn input_requiring_server() -> web::ScriptedServer {
    web::serve(|request| async move {
        if request.rpc_method() != "tools/call" {
            return web::reply_stateless(&request);
        }
        let params = &request.body["params"];
        if params["inputResponses"]["who"] == json!("elicitation")
            && params["requestState"] == json!("round-1")
        {
            return web::reply_result(
                &request,
                &json!({"resultType": "complete", "content": [], "structuredContent": "done"}),
            );
        }
        web::reply_result(
            &request,
            &json!({"resultType": "input_required", "requestState": "round-1",
                    "inputRequests": {"who": {"method": "elicitation/create", "params": {"message": "m"}}}}),
        )
    })
    .await
}

#[tokio::test]
async fn rounds_are_driven_for_a_session_client() {
    let server = input_requiring_server().await;
    let harness = Harness::start_http(&server.url());
    let client = RecordingClient::new(None, r#"{"elicitation":{}}"#);
    let reply = harness.call(&client.context(), "echo", "{}").await;
    assert_eq!(structured_content(&reply), "\"done\"");
    assert_eq!(client.received_text(), r#"asked {"message":"m"}"#);
    let calls = server.with_method("tools/call");
    assert_ne!(calls[0].body["id"], calls[1].body["id"]);

    let mute = RecordingClient::new(None, "{}");
    let error = harness.call(&mute.context(), "echo", "{}").await.unwrap_err();
    assert_eq!(error.class(), "missing_capability");
}

#[tokio::test]
async fn rounds_are_bounded() {
    let server = web::serve(|request| async move {
        if request.rpc_method() != "tools/call" {
            return web::reply_stateless(&request);
        }
        web::reply_result(&request, &json!({"resultType": "input_required", "requestState": "again"}))
    })
    .await;
    let harness = Harness::start_http(&server.url());
    let error = harness.call(&context(), "echo", "{}").await.unwrap_err();
    assert_eq!(error.class(), "backend_failed");
    assert_eq!(server.with_method("tools/call").len(), 10);
}

#[tokio::test]
async fn rounds_are_left_to_a_client_of_the_same_revision() {
    let server = input_requiring_server().await;
    let harness = Harness::start_http(&server.url());
    let client = RecordingClient::new(None, r#"{"elicitation":{}}"#);
    let mut ctx = client.context();
    ctx.protocol = ProtocolVersion::V2026_07_28;
    let reply = harness.call(&ctx, "echo", "{}").await.unwrap();
    assert_eq!(reply.result_type, ResultType::InputRequired);
    assert_eq!(reply.members.get("requestState").unwrap().as_str(), "\"round-1\"");
    let continuation = Continuation {
        input_responses: Some(vmcp_json::Json::parse(r#"{"who":"elicitation"}"#).unwrap()),
        request_state: Some("round-1".to_owned()),
    };
    let reply = harness.backend.call_tool(&ctx, "echo".into(), None, continuation, Members::new()).await;
    assert_eq!(structured_content(&reply), "\"done\"");
    assert_eq!(client.received_text(), "");
}

#[tokio::test]
async fn arguments_are_repeated_as_headers() {
    let lists = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lists);
    let server = web::serve(move |request| {
        let lists = Arc::clone(&counted);
        async move {
            match request.rpc_method() {
                "tools/list" => {
                    // The first list names another header than the one that is required later.
                    let name = if lists.fetch_add(1, Ordering::Relaxed) == 0 { "Old" } else { "Region" };
                    let schema = json!({"type": "object",
                        "properties": {"region": {"type": "string", "x-mcp-header": name}}});
                    let broken = json!({"type": "object",
                        "properties": {"x": {"type": "number", "x-mcp-header": "X"}}});
                    web::reply_result(
                        &request,
                        &json!({"tools": [{"name": "query", "inputSchema": schema},
                                                        {"name": "broken", "inputSchema": broken}]}),
                    )
                }
                "tools/call" if request.header("mcp-param-region").is_none() => {
                    web::reply_error(400, &request.body["id"], -32020, "Header mismatch")
                }
                _ => web::reply_stateless(&request),
            }
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    let inventory = harness.backend.fetch_inventory(&context()).await.unwrap();
    let names: Vec<&str> = inventory.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["query"]);
    harness.call(&context(), "query", r#"{"region":"us-west1"}"#).await.unwrap();
    let calls = server.with_method("tools/call");
    assert_eq!(calls[0].header("mcp-param-old"), Some("us-west1"));
    assert_eq!(calls[1].header("mcp-param-region"), Some("us-west1"));
    assert_eq!(lists.load(Ordering::Relaxed), 2);

    // An error that new headers do not fix is passed on unchanged.
    let error = harness.call(&context(), "query", "{}").await.unwrap_err();
    assert_eq!(error.class(), "backend_refused");
}

#[tokio::test]
async fn a_backend_that_changes_its_revision_is_found_out_anew() {
    let calls = Arc::new(AtomicUsize::new(0));
    let server = web::serve(move |request| {
        let calls = Arc::clone(&calls);
        async move {
            if request.rpc_method() == "tools/call" && request.header("mcp-method").is_some() {
                calls.fetch_add(1, Ordering::Relaxed);
            }
            if calls.load(Ordering::Relaxed) == 0 {
                web::reply_stateless(&request)
            } else if request.header("mcp-method").is_some() {
                web::reply_error(400, &serde_json::Value::Null, -32000, "Bad Request: Server not initialized")
            } else {
                web::reply_with_sessions(&request)
            }
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    let reply = harness.call(&context(), "echo", r#"{"n":1}"#).await;
    assert_eq!(structured_content(&reply), r#"{"n":1}"#);
    assert_eq!(harness.protocol(), "2025-11-25");
}
