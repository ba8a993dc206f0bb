//! Sessions that a server no longer knows, reported in its own words. A new session is started, and no call
//! that may have been executed is repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;

use crate::odd_servers::{answering_calls, method_result};
use crate::web::McpServer as _;
use crate::web::{self, HttpReply, ReceivedRequest};
use crate::{Harness, context, eventually, structured_content};

#[tokio::test]
async fn a_session_that_is_lost_in_any_words_is_begun_anew_once() {
    let own = |request: &ReceivedRequest, code: i64, message: &str| {
        json!({"jsonrpc": "2.0", "id": request.body["id"], "error": {"code": code, "message": message}})
            .to_string()
    };
    type Words =
        fn(&ReceivedRequest, &dyn Fn(&ReceivedRequest, i64, &str) -> String) -> (u16, &'static str, String);
    let forms: [Words; 11] = [
        |_, _| (404, "text/plain", "no".to_owned()),
        |_, _| (400, "text/plain", "no".to_owned()),
        |_, _| (410, "text/plain", "gone".to_owned()),
        |_, _| (409, "text/plain", "no".to_owned()),
        |_, _| (422, "application/json", "{}".to_owned()),
        |request, own| (404, "application/json", own(request, -32601, "Method not found")),
        |request, own| (503, "application/json", own(request, -32001, "gone")),
        |request, own| (200, "application/json", own(request, -32001, "gone")),
        |request, own| (200, "text/event-stream", format!("data: {}\n\n", own(request, -32001, "gone"))),
        |request, own| (500, "application/json", own(request, -32603, "Unknown session ID")),
        |request, own| {
            (400, "application/json", own(request, -32000, "Bad Request: No valid session ID provided"))
        },
    ];
    for (index, words) in forms.into_iter().enumerate() {
        let sessions = Arc::new(AtomicUsize::new(0));
        let opened = Arc::clone(&sessions);
        let server = web::serve(move |request: ReceivedRequest| {
            let opened = Arc::clone(&opened);
            async move {
                if request.http_method != Method::POST {
                    return web::reply_empty(405);
                }
                if request.rpc_method() == "initialize" {
                    let number = opened.fetch_add(1, Ordering::Relaxed) + 1;
                    let mut reply = web::reply_with_sessions(&request);
                    reply.headers_mut().insert("mcp-session-id", number.to_string().parse().unwrap());
                    return reply;
                }
                // The first session is forgotten once a tool is called.
                let in_first = request.header("mcp-session-id") == Some("1");
                if in_first && matches!(request.rpc_method(), "tools/call" | "ping") {
                    let (status, kind, body) = words(&request, &own);
                    return web::reply_bytes(status, kind, body);
                }
                if request.rpc_method() == "tools/call" {
                    web::reply_json(200, &method_result(&request))
                } else {
                    web::reply_with_sessions(&request)
                }
            }
        })
        .await;
        let harness = Harness::start_http(&server.url());
        let reply = harness.call(&context(), "echo", "{}").await;
        assert_eq!(structured_content(&reply), r#"{"said":"tools/call"}"#, "form {index}");
        assert_eq!(sessions.load(Ordering::Relaxed), 2, "form {index}");
        assert_eq!(server.with_method("tools/call").len(), 2, "form {index}");
    }
}

#[tokio::test]
async fn a_call_that_may_have_happened_is_not_made_again() {
    // Calls and pings fail with a server error that does not mention sessions.
    let server = web::serve(move |request: ReceivedRequest| async move {
        match request.rpc_method() {
            "tools/call" | "ping" => web::reply_bytes(500, "text/plain", "oops"),
            _ => web::reply_with_sessions(&request),
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    assert_eq!(harness.call(&context(), "echo", "{}").await.unwrap_err().class(), "backend_failed");
    server.wait_for_request(|request| request.rpc_method() == "ping").await;
    assert_eq!(server.with_method("tools/call").len(), 1);
}

/// A server that refuses every call and every ping in the given way.
async fn refusing_server(
    call: impl Fn(&ReceivedRequest) -> HttpReply + Copy + Send + Sync + 'static,
    ping: fn(&ReceivedRequest) -> HttpReply,
) -> (web::ScriptedServer, Harness) {
    let server = web::serve(move |request: ReceivedRequest| async move {
        match request.rpc_method() {
            "tools/call" => call(&request),
            "ping" => ping(&request),
            _ if request.http_method == Method::POST => web::reply_with_sessions(&request),
            _ => web::reply_empty(405),
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    (server, harness)
}

fn rpc_error_reply(status: u16, request: &ReceivedRequest, code: i64, message: &str) -> HttpReply {
    web::reply_error(status, &request.body["id"], code, message)
}

#[tokio::test]
async fn a_server_without_ping_that_answers_errors_by_status_keeps_its_session() {
    let (server, harness) = refusing_server(
        |request| rpc_error_reply(400, request, -32000, "upstream rejected the order"),
        |request| rpc_error_reply(400, request, -32601, "method not found"),
    )
    .await;
    for _ in 0..2 {
        assert_eq!(harness.call(&context(), "echo", "{}").await.unwrap_err().class(), "backend_refused");
    }
    assert_eq!((server.with_method("initialize").len(), server.with_method("tools/call").len()), (1, 2));
}

#[tokio::test]
async fn a_call_whose_session_ended_while_it_ran_is_not_made_again() {
    for status in [200, 500] {
        let call = move |request: &ReceivedRequest| {
            rpc_error_reply(status, request, -32000, "session process exited")
        };
        let (server, harness) = refusing_server(call, |_| web::reply_empty(404)).await;
        assert_eq!(harness.call(&context(), "echo", "{}").await.unwrap_err().class(), "backend_refused");
        assert_eq!(server.with_method("tools/call").len(), 1, "{status}");
    }
}

/// After a broken stream the backend is pinged to check whether it is reachable.
#[tokio::test]
async fn a_server_without_ping_that_breaks_off_a_call_keeps_its_session() {
    for (ping, begun) in [
        (rpc_error_reply as fn(u16, &ReceivedRequest, i64, &str) -> HttpReply, 1),
        (|status, _: &ReceivedRequest, _, _: &str| web::reply_empty(status), 2),
    ] {
        let server = web::serve(move |request: ReceivedRequest| async move {
            match request.rpc_method() {
                // The stream ends before the answer.
                "tools/call" => web::event_stream().1,
                "ping" => ping(404, &request, -32601, "Method not found"),
                _ if request.http_method == Method::POST => web::reply_with_sessions(&request),
                _ => web::reply_empty(405),
            }
        })
        .await;
        let harness = Harness::start_http(&server.url());
        assert_eq!(harness.call(&context(), "echo", "{}").await.unwrap_err().class(), "backend_failed");
        server.wait_for_request(|request| request.rpc_method() == "ping").await;
        // A lost session is replaced at once.
        tokio::time::sleep(Duration::from_millis(300)).await;
        eventually(|| (server.with_method("initialize").len() >= begun).then_some(())).await;
        assert_eq!(server.with_method("initialize").len(), begun);
    }
}

#[tokio::test]
async fn a_ping_that_is_never_answered_holds_no_refusal_back() {
    let server = web::serve(move |request: ReceivedRequest| async move {
        match request.rpc_method() {
            "tools/call" => rpc_error_reply(404, &request, -32001, "session?"),
            "ping" => std::future::pending().await,
            _ if request.http_method == Method::POST => web::reply_with_sessions(&request),
            _ => web::reply_empty(405),
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    let start = Instant::now();
    assert_eq!(harness.call(&context(), "echo", "{}").await.unwrap_err().class(), "backend_refused");
    assert!(start.elapsed() < Duration::from_secs(6));
}

#[tokio::test]
async fn an_error_about_another_session_ends_no_session() {
    let (server, harness) = answering_calls(|request| {
        let error = json!({"code": -32000, "message": "browser session closed"});
        web::reply_json(200, &json!({"jsonrpc": "2.0", "id": request.body["id"], "error": error}))
    })
    .await;
    for _ in 0..2 {
        assert_eq!(harness.call(&context(), "echo", "{}").await.unwrap_err().class(), "backend_refused");
    }
    assert_eq!((server.with_method("initialize").len(), server.with_method("tools/call").len()), (1, 2));
}
