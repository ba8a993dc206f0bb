//! Backends that fail: silence, invalid data, too much data, redirects, outages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use vmcp_backends::policy::{Timeouts, Transport};
use vmcp_domain::{BackendEvent, BackendState};

use crate::web::McpServer as _;
use crate::web::{self, HttpReply, ReceivedRequest};
use crate::{Harness, context, error_cause, http_policy, policy, structured_content};

/// A server that answers calls with `reply`.
async fn answering_calls(
    reply: impl Fn(&ReceivedRequest) -> HttpReply + Send + Sync + Clone + 'static,
) -> (web::ScriptedServer, Harness) {
    let server = web::serve(move |request: ReceivedRequest| {
        let reply = reply.clone();
        async move {
            if request.rpc_method() == "tools/call" {
                reply(&request)
            } else {
                web::reply_with_sessions(&request)
            }
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    (server, harness)
}

#[tokio::test]
async fn silence_ends_with_the_time_allowed() {
    let server = web::serve(|request| async move {
        if request.rpc_method() == "tools/call" {
            std::future::pending::<()>().await;
        }
        web::reply_with_sessions(&request)
    })
    .await;
    let timeouts =
        Timeouts { connect: Duration::from_secs(8), call: Duration::from_millis(300), ..Timeouts::DEFAULT };
    let harness = Harness::start(policy(Transport::StreamableHttp(http_policy(&server.url())), timeouts));
    harness.wait_for_state(BackendState::Ready).await;
    let start = Instant::now();
    let error = harness.call(&context(), "echo", "{}").await.unwrap_err();
    assert_eq!(error.class(), "backend_timed_out");
    assert!(start.elapsed() >= Duration::from_millis(300));
    server.wait_for_request(|request| request.rpc_method() == "notifications/cancelled").await;

    // The context's deadline is the shorter limit.
    let mut ctx = context();
    ctx.deadline = Some(Instant::now() + Duration::from_millis(50));
    let start = Instant::now();
    assert_eq!(harness.call(&ctx, "echo", "{}").await.unwrap_err().class(), "deadline_exceeded");
    assert!(start.elapsed() < Duration::from_millis(250));
}

#[tokio::test]
async fn garbage_is_a_failure() {
    let replies: [fn(&ReceivedRequest) -> HttpReply; 6] = [
        |_| web::reply_bytes(200, "application/json", "not json"),
        |_| web::reply_bytes(200, "application/json", &b"\xff\xfe"[..]),
        |_| web::reply_bytes(200, "application/json", r#"{"jsonrpc":"2.0","id":424242,"result":{}}"#),
        |request| {
            web::reply_json(
                200,
                &serde_json::json!({"jsonrpc": "2.0", "id": request.body["id"], "result": []}),
            )
        },
        |_| web::reply_bytes(200, "text/event-stream", "data: {]\n\n"),
        |_| web::reply_empty(202),
    ];
    for (index, reply) in replies.into_iter().enumerate() {
        let (_server, harness) = answering_calls(reply).await;
        let error = harness.call(&context(), "echo", "{}").await.unwrap_err();
        assert_eq!(error.class(), "backend_failed", "{index}");
        assert_eq!(harness.backend.status().state, BackendState::Ready, "{index}");
    }
}

#[tokio::test]
async fn a_stream_that_ends_without_the_answer_is_a_failure() {
    let (_server, harness) =
        answering_calls(|_| web::reply_bytes(200, "text/event-stream", ": nothing\n\n")).await;
    let error = harness.call(&context(), "echo", "{}").await.unwrap_err();
    assert_eq!(error.class(), "backend_failed");
}

#[tokio::test]
async fn statuses_have_their_meaning() {
    for (status, class, says) in [
        (401, "backend_unauthorized", "auth"),
        (403, "backend_unauthorized", "auth"),
        (429, "backend_unavailable", "status"),
        (500, "backend_failed", "status"),
        (502, "backend_failed", "status"),
    ] {
        let (_server, harness) =
            answering_calls(move |_| web::reply_bytes(status, "text/html", "<html>secret</html>")).await;
        let error = harness.call(&context(), "echo", "{}").await.unwrap_err();
        assert_eq!(error.class(), class, "{status}");
        assert!(error.cause().unwrap().for_log().starts_with(says), "{status}");
        assert!(!error.to_string().contains("secret") && !error.to_string().contains("127.0.0.1"));
    }
}

/// Proxies in front of a backend answer so, and so do frameworks when a handler panics.
#[tokio::test]
async fn a_server_error_with_a_foreign_error_in_it_is_a_failure() {
    for id in [serde_json::Value::Null, 424_242.into()] {
        let body = serde_json::json!({"jsonrpc": "2.0", "id": id,
                                      "error": {"code": -32603, "message": "upstream is away"}});
        let (_server, harness) = answering_calls(move |_| web::reply_json(503, &body)).await;
        let error = harness.call(&context(), "echo", "{}").await.unwrap_err();
        assert_eq!(error.class(), "backend_failed");
        assert!(error.cause().unwrap().for_log().contains("503"), "{error:?}");
        assert!(!error.to_string().contains("upstream"), "{error}");
    }
}

#[tokio::test]
async fn an_error_of_the_backend_passes_unchanged() {
    let (_server, harness) = answering_calls(|request| {
        let id = request.body["id"].clone();
        web::reply_json(
            200,
            &serde_json::json!({"jsonrpc": "2.0", "id": id,
                                "error": {"code": -32029, "message": "slow down", "data": {"s": 1.0}}}),
        )
    })
    .await;
    let error = harness.call(&context(), "echo", "{}").await.unwrap_err();
    let vmcp_domain::Error::BackendRefused { error, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((error.code, &*error.message), (-32029, "slow down"));
    assert_eq!(error.data.unwrap().as_str(), r#"{"s":1.0}"#);
}

#[tokio::test]
async fn an_answer_that_says_it_is_too_large_is_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                let read = stream.read(&mut buffer).await.unwrap();
                let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                let body = if text.contains("server/discover") {
                    r#"{"jsonrpc":"2.0","id":1,"result":{"supportedVersions":["2026-07-28"],"capabilities":{}}}"#
                } else {
                    "{"
                };
                let length = if body == "{" { 200 << 20 } else { body.len() };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                let _ = stream.read(&mut buffer).await;
            });
        }
    });
    let harness = Harness::start_http(&url);
    assert!(error_cause(harness.call(&context(), "echo", "{}").await).starts_with("too-large"));
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let server = web::serve(|request| async move {
        if request.rpc_method() != "tools/call" {
            return web::reply_with_sessions(&request);
        }
        let (events, reply) = web::event_stream();
        let piece = ": ".to_owned() + &"x".repeat(4 << 20);
        for _ in 0..30 {
            events.send(piece.clone()).unwrap();
        }
        // The stream remains open, so that only its length can end it.
        tokio::spawn(async move { events.closed().await });
        reply
    })
    .await;
    let timeouts =
        Timeouts { connect: Duration::from_secs(8), call: Duration::from_secs(120), ..Timeouts::DEFAULT };
    let harness = Harness::start(policy(Transport::StreamableHttp(http_policy(&server.url())), timeouts));
    assert!(error_cause(harness.call(&context(), "echo", "{}").await).starts_with("too-large"));
}

#[tokio::test]
async fn redirects_stay_on_the_origin() {
    let other_server = web::serve(|request| async move { web::reply_with_sessions(&request) }).await;
    let other_url = other_server.url();
    let target = Arc::new(std::sync::Mutex::new("/mcp/".to_owned()));
    let location = Arc::clone(&target);
    let server = web::serve(move |request: ReceivedRequest| {
        let location = location.lock().unwrap().clone();
        async move {
            if request.path == "/mcp" {
                let mut reply = web::reply_empty(307);
                reply.headers_mut().insert("location", location.parse().unwrap());
                return reply;
            }
            web::reply_with_sessions(&request)
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    let reply = harness.call(&context(), "echo", r#"{"n":1}"#).await;
    assert_eq!(structured_content(&reply), r#"{"n":1}"#);
    // Once connected, requests go directly to the address that answered.
    let calls = server.with_method("tools/call");
    assert_eq!((calls.len(), &*calls[0].path), (1, "/mcp/"));

    for location in [other_url, "/mcp".to_owned()] {
        location.clone_into(&mut target.lock().unwrap());
        let harness = Harness::start_http(&server.url());
        harness.wait_for_state(BackendState::Unavailable).await;
        assert_eq!(harness.backend.status().last_error, Some("redirect"));
    }
    assert!(other_server.requests().is_empty());
}

#[tokio::test]
async fn a_backend_that_goes_away_comes_back() {
    let server = web::serve(|request| async move { web::reply_with_sessions(&request) }).await;
    let (address, url) = (server.address, server.url());
    let harness = Harness::start_http(&url);
    harness.call(&context(), "echo", "{}").await.unwrap();
    drop(server);
    let lost = crate::eventually(|| (harness.events.count(&BackendEvent::Disconnected) > 0).then_some(()));
    tokio::pin!(lost);
    loop {
        let error = harness.call(&context(), "echo", "{}").await.unwrap_err();
        assert!(matches!(error.class(), "backend_unavailable" | "backend_failed"));
        tokio::select! {
            () = &mut lost => break,
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
    let start = Instant::now();
    let error = harness.call(&context(), "echo", "{}").await.unwrap_err();
    assert_eq!(error.class(), "backend_unavailable");
    assert!(start.elapsed() < Duration::from_millis(200), "answered at once");
    let _server = web::serve_at(address, |request| async move { web::reply_with_sessions(&request) }).await;
    harness.events.wait_for_events(&BackendEvent::Connected, 2).await;
    harness.call(&context(), "echo", "{}").await.unwrap();
    assert_eq!(harness.backend.status().reconnect_count, 1);
}

#[tokio::test]
async fn a_request_that_may_have_happened_is_not_sent_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let tries = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                loop {
                    let read = stream.read(&mut buffer).await.unwrap();
                    let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                    if text.contains("tools/call") {
                        tries.fetch_add(1, Ordering::Relaxed);
                    }
                    if read == 0 || !text.contains("server/discover") {
                        return;
                    }
                    let id = text.split_once("\"id\":").and_then(|(_, rest)| rest.split_once(',')).unwrap().0;
                    let body = format!(
                        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"supportedVersions":["2026-07-28"],"capabilities":{{}}}}}}"#
                    );
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    let harness = Harness::start_http(&url);
    let error = harness.call(&context(), "echo", "{}").await.unwrap_err();
    assert_eq!(error.class(), "backend_failed");
    assert_eq!(tries.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn unusable_authorities_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, Bytes::new()).unwrap();
    for bundle in [folder.path().join("missing.pem"), empty] {
        let mut http = http_policy("https://127.0.0.1:1/mcp");
        http.ca_bundle = Some(bundle);
        let harness = Harness::start(policy(Transport::StreamableHttp(http), crate::TIMEOUTS));
        harness.wait_for_state(BackendState::Unavailable).await;
        assert_eq!(harness.backend.status().last_error, Some("settings"));
    }
}

#[tokio::test]
async fn a_backend_that_asks_for_a_pause_is_left_alone() {
    for says_more in [false, true] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let (_server, harness) = answering_calls(move |request| {
            if counted.fetch_add(1, Ordering::SeqCst) > 0 {
                return web::reply_json(
                    200,
                    &web::result_message(request, &serde_json::json!({"content": []})),
                );
            }
            let said = serde_json::json!({"jsonrpc": "2.0", "id": request.body["id"],
                                          "error": {"code": -32000, "message": "slow down"}});
            let mut reply = if says_more {
                web::reply_json(429, &said)
            } else {
                web::reply_bytes(429, "text/plain", "no")
            };
            reply.headers_mut().insert("retry-after", "2".parse().unwrap());
            reply
        })
        .await;
        // The backend's own error is passed on; the pause applies either way.
        let error = harness.call(&context(), "echo", "{}").await.unwrap_err();
        assert_eq!(error.class(), if says_more { "backend_refused" } else { "backend_busy" });
        let begun = std::time::Instant::now();
        let mut refused = 0;
        loop {
            match harness.call(&context(), "echo", "{}").await {
                Ok(_) => break,
                Err(error) => {
                    assert!(error.to_string().contains("asks to be called less; try again in "), "{error}");
                    assert_eq!(calls.load(Ordering::SeqCst), 1, "nothing reaches it meanwhile");
                    refused += 1;
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert!(refused > 0 && begun.elapsed().as_millis() > 1500, "{refused} in {:?}", begun.elapsed());
    }
}
