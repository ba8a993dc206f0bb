//! Streamable HTTP with sessions: headers, forgotten sessions, answers as streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use vmcp_domain::{BackendEvent, BackendState, LogLevel};

use crate::web::McpServer as _;
use crate::web::{self, HttpReply, ReceivedRequest};
use crate::{Harness, RecordingClient, context, structured_content};

#[tokio::test]
async fn every_request_names_the_session_and_the_revision() {
    let server = web::serve(|request| async move { web::reply_with_sessions(&request) }).await;
    let harness = Harness::start_http(&server.url());
    let client = RecordingClient::new(Some(LogLevel::Warning), "{}");
    let reply = harness.call(&client.context(), "echo", r#"{"b":1.0,"a":[ 1 ]}"#).await;
    assert_eq!(structured_content(&reply), r#"{"b":1.0,"a":[1]}"#);
    let call = &server.with_method("tools/call")[0];
    assert_eq!(call.header("mcp-protocol-version"), Some("2025-11-25"));
    assert_eq!(call.header("mcp-session-id"), Some("session-1"));
    assert_eq!(call.header("accept"), Some("application/json, text/event-stream"));
    assert_eq!(call.body["params"]["_meta"]["progressToken"], call.body["id"]);
    assert_eq!(call.body["params"]["_meta"].as_object().unwrap().len(), 1, "nothing of 2026-07-28 is sent");

    // The level was set before the call. It is set again only for a lower level.
    let levels = server.with_method("logging/setLevel");
    assert_eq!(levels[0].body["params"]["level"], "warning");
    harness.call(&client.context(), "echo", "{}").await.unwrap();
    assert_eq!(server.with_method("logging/setLevel").len(), 1);
    let debug = RecordingClient::new(Some(LogLevel::Debug), "{}");
    harness.call(&debug.context(), "echo", "{}").await.unwrap();
    assert_eq!(server.with_method("logging/setLevel").len(), 2);

    harness.stop().await;
    let end = server.wait_for_request(|request| request.http_method == Method::DELETE).await;
    assert_eq!(end.header("mcp-session-id"), Some("session-1"));
    assert_eq!(harness.backend.status().state, BackendState::Stopped);
}

/// A server that forgets its session once, and then answers requests of that session with `refuse`.
async fn session_losing_server(
    refuse: impl Fn(&ReceivedRequest) -> HttpReply + Send + Sync + 'static,
) -> (web::ScriptedServer, Arc<AtomicBool>) {
    let forgotten = Arc::new(AtomicBool::new(false));
    let (opened, refuse) = (AtomicUsize::new(0), Arc::new(refuse));
    let sessions = Arc::clone(&forgotten);
    let server = web::serve(move |request| {
        let opening = request.rpc_method() == "initialize";
        let number =
            if opening { opened.fetch_add(1, Ordering::Relaxed) + 1 } else { opened.load(Ordering::Relaxed) };
        let known = request.header("mcp-session-id") == Some(&*format!("s{number}"));
        let refused = !opening && !known && request.header("mcp-session-id").is_some();
        let forgets =
            sessions.load(Ordering::Relaxed) && number == 1 && request.header("mcp-session-id").is_some();
        let refuse = Arc::clone(&refuse);
        async move {
            if refused || forgets {
                return refuse(&request);
            }
            let mut reply = web::reply_with_sessions(&request);
            if opening {
                let id = format!("s{number}").parse().unwrap();
                reply.headers_mut().insert("mcp-session-id", id);
            }
            reply
        }
    })
    .await;
    (server, forgotten)
}

#[tokio::test]
async fn a_forgotten_session_is_made_anew_once_for_all_calls() {
    let not_found: fn(&ReceivedRequest) -> HttpReply =
        |_| web::reply_error(404, &Value::Null, -32001, "Session not found");
    let bad_request: fn(&ReceivedRequest) -> HttpReply =
        |request| web::reply_error(400, &request.body["id"], -32000, "No valid session ID");
    for refuse in [not_found, bad_request] {
        let (server, forgotten) = session_losing_server(refuse).await;
        let harness = Harness::start_http(&server.url());
        harness.call(&context(), "echo", "{}").await.unwrap();
        forgotten.store(true, Ordering::Relaxed);
        let ctx = context();
        let calls = (0..20).map(|n| {
            let (harness, ctx) = (&harness, &ctx);
            async move { structured_content(&harness.call(ctx, "echo", &format!("{{\"n\":{n}}}")).await) }
        });
        for (n, found) in futures_util::future::join_all(calls).await.into_iter().enumerate() {
            assert_eq!(found, format!("{{\"n\":{n}}}"));
        }
        assert_eq!(server.with_method("initialize").len(), 2);
        harness.events.wait_for_events(&BackendEvent::Connected, 2).await;
        assert_eq!(harness.events.count(&BackendEvent::Disconnected), 0);
    }
}

#[tokio::test]
async fn a_refused_request_leaves_the_session_alone() {
    let server = web::serve(|request| async move {
        if request.rpc_method() == "tools/call" {
            return web::reply_error(400, &request.body["id"], -32602, "wrong arguments");
        }
        web::reply_with_sessions(&request)
    })
    .await;
    let harness = Harness::start_http(&server.url());
    let error = harness.call(&context(), "echo", "{}").await.unwrap_err();
    assert_eq!(error.class(), "backend_refused");
    assert_eq!(server.with_method("initialize").len(), 1);
    assert_eq!(harness.backend.status().state, BackendState::Ready);
}

#[tokio::test]
async fn an_answer_may_come_as_a_stream() {
    let server = web::serve(|request| async move {
        if request.rpc_method() != "tools/call" {
            return web::reply_with_sessions(&request);
        }
        let (events, reply) = web::event_stream();
        let token = request.body["params"]["_meta"]["progressToken"].clone();
        let log = |level: &str| {
            json!({"jsonrpc": "2.0", "method": "notifications/message",
                                       "params": {"level": level, "data": "d"}})
        };
        let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress",
                              "params": {"progress": 1, "progressToken": token}});
        let stranger = json!({"jsonrpc": "2.0", "id": 999, "result": {"content": ["stolen"]}});
        for message in [log("debug"), log("error"), progress, stranger] {
            events.send(web::encode_event(&message)).unwrap();
        }
        events.send(": a comment\n\n".to_owned()).unwrap();
        events.send(web::encode_event(&web::result_message(&request, &web::echo_result(&request)))).unwrap();
        reply
    })
    .await;
    let harness = Harness::start_http(&server.url());
    let client = RecordingClient::new(Some(LogLevel::Warning), "{}");
    for n in 0..5 {
        let reply = harness.call(&client.context(), "echo", &format!("{{\"n\":{n}}}")).await;
        assert_eq!(structured_content(&reply), format!("{{\"n\":{n}}}"));
    }
    assert_eq!(
        client.received.lock().unwrap()[..2].join("; "),
        r#"error {"level":"error","data":"d"}; progress {"progress":1}"#
    );
}

#[tokio::test]
async fn warm_calls_share_one_connection() {
    for streams in [false, true] {
        let server = web::serve(move |request| async move {
            if request.rpc_method() == "tools/call" && streams {
                let (events, reply) = web::event_stream();
                let answer = web::encode_event(&web::result_message(&request, &web::echo_result(&request)));
                events.send(answer).unwrap();
                // The end of the stream comes shortly after the answer.
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    drop(events);
                });
                return reply;
            }
            web::reply_with_sessions(&request)
        })
        .await;
        let harness = Harness::start_http(&server.url());
        harness.call(&context(), "echo", "{}").await.unwrap();
        let (before, requests) = (server.connection_count(), server.requests().len());
        for _ in 0..20 {
            harness.call(&context(), "echo", "{}").await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(server.connection_count() <= before + 1, "streams: {streams}");
        assert_eq!(server.requests().len(), requests + 20, "one exchange a call");
    }
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_at_the_backend() {
    let server = web::serve(|request| async move {
        if request.rpc_method() == "tools/call" {
            std::future::pending::<()>().await;
        }
        web::reply_with_sessions(&request)
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
    let cancelled =
        server.wait_for_request(|request| request.rpc_method() == "notifications/cancelled").await;
    assert_eq!(cancelled.body["params"]["requestId"], server.with_method("tools/call")[0].body["id"]);
    assert_eq!(cancelled.header("mcp-session-id"), Some("session-1"));
}

#[tokio::test]
async fn a_broken_stream_is_taken_up_again() {
    let asked = Arc::new(std::sync::Mutex::new(Value::Null));
    let server = web::serve(move |request| {
        let asked = Arc::clone(&asked);
        async move {
            if request.rpc_method() == "tools/call" {
                *asked.lock().unwrap() = request.body.clone();
                let (events, reply) = web::event_stream();
                // The stream breaks off in the middle of the next event.
                events.send("id: e7\ndata:\n\nid: e8\ndata: {\"jsonrpc\":\"2.0\",\"res".to_owned()).unwrap();
                return reply;
            }
            if request.http_method == Method::GET && request.header("last-event-id") == Some("e7") {
                let request = ReceivedRequest { body: asked.lock().unwrap().clone(), ..request };
                let (events, reply) = web::event_stream();
                events
                    .send(web::encode_event(&web::result_message(&request, &web::echo_result(&request))))
                    .unwrap();
                return reply;
            }
            web::reply_with_sessions(&request)
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    let reply = harness.call(&context(), "echo", r#"{"x":1}"#).await;
    assert_eq!(structured_content(&reply), r#"{"x":1}"#);
    assert_eq!(server.with_method("tools/call").len(), 1);
}
