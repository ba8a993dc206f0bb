//! Servers that interpret the specification in their own way. Their odd answers reach the caller all the
//! same, or the call fails at once with a reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_compression::tokio::write::{BrotliEncoder, DeflateEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use http::{Method, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use vmcp_backends::policy::{HttpPolicy, Transport};
use vmcp_domain::{BackendEvent, BackendState};

use crate::web::McpServer as _;
use crate::web::{self, HttpReply, ReceivedRequest};
use crate::{Harness, TIMEOUTS, context, error_cause, http_policy, policy, structured_content};

fn result_message(request: &ReceivedRequest, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": request.body["id"], "result": result})
}

pub(crate) fn method_result(request: &ReceivedRequest) -> Value {
    result_message(request, &json!({"content": [], "structuredContent": {"said": request.rpc_method()}}))
}

/// A rig with a server that answers calls with `reply` and everything else as usual.
pub(crate) async fn answering_calls(
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

async fn encode(coding: &str, bytes: &[u8]) -> Vec<u8> {
    macro_rules! encoded {
        ($encoder:ident) => {{
            let mut encoder = $encoder::new(Vec::new());
            encoder.write_all(bytes).await.unwrap();
            encoder.shutdown().await.unwrap();
            encoder.into_inner()
        }};
    }
    match coding {
        "gzip" => encoded!(GzipEncoder),
        "deflate" => encoded!(ZlibEncoder),
        "deflate without a head" => encoded!(DeflateEncoder),
        "br" => encoded!(BrotliEncoder),
        "zstd" => encoded!(ZstdEncoder),
        other => panic!("{other}"),
    }
}

fn encoded_reply(kind: &str, coding: &str, body: Vec<u8>) -> HttpReply {
    let coding = coding.split(' ').next().unwrap();
    let response = Response::builder().header("content-type", kind).header("content-encoding", coding);
    response.body(Full::from(body).map_err(|never| match never {}).boxed()).unwrap()
}

#[tokio::test]
async fn answers_are_decoded_whatever_was_asked_for() {
    for coding in ["gzip", "deflate", "deflate without a head", "br", "zstd"] {
        for kind in ["application/json", "text/event-stream"] {
            let server = web::serve(move |request: ReceivedRequest| async move {
                let usual = web::reply_with_sessions(&request);
                assert_eq!(request.header("accept-encoding"), Some("identity"));
                if request.http_method != Method::POST || request.body["id"].is_null() {
                    return usual;
                }
                let message = if request.rpc_method() == "tools/call" {
                    method_result(&request).to_string()
                } else {
                    let body = usual.into_body().collect().await.unwrap().to_bytes();
                    String::from_utf8(body.to_vec()).unwrap()
                };
                let text = if kind == "text/event-stream" { format!("data: {message}\n\n") } else { message };
                encoded_reply(kind, coding, encode(coding, text.as_bytes()).await)
            })
            .await;
            let harness = Harness::start_http(&server.url());
            let reply = harness.call(&context(), "echo", "{}").await;
            assert_eq!(structured_content(&reply), r#"{"said":"tools/call"}"#, "{coding} {kind}");
        }
    }
}

#[tokio::test]
async fn a_small_body_that_decodes_to_a_huge_one_is_refused() {
    let bomb = Arc::new(encode("zstd", &vec![b' '; 101 << 20]).await);
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let (_server, harness) =
        answering_calls(move |_| encoded_reply("application/json", "zstd", bomb.to_vec())).await;
    let cause = error_cause(harness.call(&context(), "echo", "{}").await);
    assert!(cause.starts_with("too-large"), "{cause}");
}

#[tokio::test]
async fn an_unknown_coding_is_named() {
    let (_server, harness) =
        answering_calls(|_| encoded_reply("application/json", "sdch", b"x".to_vec())).await;
    let cause = error_cause(harness.call(&context(), "echo", "{}").await);
    assert_eq!(cause, "protocol: its content is coded as `sdch`, which is not known");
}

#[tokio::test]
async fn codings_over_each_other_are_refused() {
    let (_server, harness) =
        answering_calls(|_| encoded_reply("application/json", "gzip,gzip", b"x".to_vec())).await;
    let cause = error_cause(harness.call(&context(), "echo", "{}").await);
    assert_eq!(cause, "protocol: its content has several codings over each other");
}

#[tokio::test]
async fn the_first_byte_counts_where_the_content_type_lies() {
    type Form = fn(&str) -> String;
    let forms: [(&str, Form); 6] = [
        ("text/event-stream", |message| message.to_owned()),
        ("text/event-stream", |message| format!("\u{feff}{message}")),
        ("application/json", |message| format!("event: message\ndata: {message}\n\n")),
        ("application/json", |message| format!("data: {message}\n\n")),
        ("text/plain", |message| format!("\n {message}")),
        // An event without the final blank line.
        ("text/event-stream", |message| format!("data: {message}")),
    ];
    for (kind, form) in forms {
        let (_server, harness) = answering_calls(move |request| {
            web::reply_bytes(200, kind, form(&method_result(request).to_string()))
        })
        .await;
        let reply = harness.call(&context(), "echo", "{}").await;
        assert_eq!(structured_content(&reply), r#"{"said":"tools/call"}"#, "{kind}");
    }
    for kind in ["text/html", "text/event-stream", "application/json"] {
        let (_server, harness) =
            answering_calls(move |_| web::reply_bytes(200, kind, "<html>log in</html>")).await;
        let cause = error_cause(harness.call(&context(), "echo", "{}").await);
        assert_eq!(cause, format!("protocol: the answer is a page of HTML or XML (content type `{kind}`)"));
    }
}

#[tokio::test]
async fn a_broken_answer_ends_its_call_at_once() {
    let start = Instant::now();
    let (_server, harness) = answering_calls(|request| {
        let id = request.body["id"].clone();
        web::reply_bytes(
            200,
            "text/event-stream",
            format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":oops}}\n\n"),
        )
    })
    .await;
    let cause = error_cause(harness.call(&context(), "echo", "{}").await);
    assert!(cause.contains("not valid JSON"), "{cause}");
    assert!(start.elapsed() < Duration::from_secs(4));
}

/// A server of HTTP+SSE that refuses messages at the address of its stream.
async fn sse_server(refusal: u16) -> web::ScriptedServer {
    sse_then_streamable_server(refusal, Arc::default()).await
}

/// A server of HTTP+SSE that speaks streamable HTTP once `is_replaced` is set.
async fn sse_then_streamable_server(refusal: u16, is_replaced: Arc<AtomicBool>) -> web::ScriptedServer {
    let stream: Arc<std::sync::Mutex<Option<tokio::sync::mpsc::UnboundedSender<String>>>> = Arc::default();
    web::serve(move |request: ReceivedRequest| {
        let (stream, is_replaced) = (Arc::clone(&stream), Arc::clone(&is_replaced));
        async move {
            if is_replaced.load(Ordering::Relaxed) {
                stream.lock().unwrap().take();
                return match (request.http_method.as_str(), request.rpc_method()) {
                    ("POST", "tools/call") => web::reply_json(200, &method_result(&request)),
                    ("POST", _) => web::reply_with_sessions(&request),
                    _ => web::reply_empty(405),
                };
            }
            if request.http_method == Method::GET {
                let (events, reply) = web::event_stream();
                events.send("event: endpoint\ndata: /messages\n\n".to_owned()).unwrap();
                *stream.lock().unwrap() = Some(events);
                return reply;
            }
            if request.path != "/messages" {
                return web::reply_bytes(refusal, "text/plain", "no");
            }
            let message = if request.rpc_method() == "tools/call" {
                method_result(&request).to_string()
            } else {
                let body = web::reply_with_sessions(&request).into_body().collect().await.unwrap().to_bytes();
                String::from_utf8(body.to_vec()).unwrap()
            };
            if let Some(stream) = &*stream.lock().unwrap()
                && !message.is_empty()
            {
                let _ = stream.send(format!("data: {message}\n\n"));
            }
            web::reply_empty(202)
        }
    })
    .await
}

#[tokio::test]
async fn http_sse_is_tried_where_no_transport_is_written() {
    for refusal in [400, 404, 405, 406, 415] {
        let server = sse_server(refusal).await;
        let open = HttpPolicy { may_be_sse: true, ..http_policy(&server.url()) };
        let harness = Harness::start(policy(Transport::StreamableHttp(open), TIMEOUTS));
        let reply = harness.call(&context(), "echo", "{}").await;
        assert_eq!(structured_content(&reply), r#"{"said":"tools/call"}"#, "{refusal}");
        assert_eq!(harness.backend.status().transport, "sse");
    }
    // A configured transport is not changed.
    let server = sse_server(405).await;
    let harness = Harness::start_http(&server.url());
    harness.wait_for_state(BackendState::Unavailable).await;
    assert_eq!(harness.backend.status().transport, "streamable-http");
}

#[tokio::test]
async fn a_server_that_is_replaced_by_one_of_streamable_http_is_found() {
    let is_replaced = Arc::new(AtomicBool::new(false));
    let server = sse_then_streamable_server(405, Arc::clone(&is_replaced)).await;
    let harness = Harness::start(policy(
        Transport::StreamableHttp(HttpPolicy { may_be_sse: true, ..http_policy(&server.url()) }),
        TIMEOUTS,
    ));
    harness.call(&context(), "echo", "{}").await.unwrap();
    assert_eq!(harness.backend.status().transport, "sse");
    is_replaced.store(true, Ordering::Relaxed);
    // The first request after the replacement ends the old stream.
    harness.call(&context(), "echo", "{}").await.unwrap_err();
    harness.events.wait_for_events(&BackendEvent::Connected, 2).await;
    harness.call(&context(), "echo", "{}").await.unwrap();
    assert_eq!(harness.backend.status().transport, "streamable-http");
}

#[tokio::test]
async fn odd_results_become_results_that_strict_clients_take() {
    for (result, expected) in [
        (json!({"content": null, "isError": null, "structuredContent": null}), r#"{"content":[]}"#),
        (json!({"structuredContent": {"a": 1}}), r#"{"structuredContent":{"a":1},"content":[]}"#),
        (json!({"content": "words"}), r#"{"content":[{"type":"text","text":"words"}]}"#),
        (
            json!({"content": {"type": "text", "text": "one"}}),
            r#"{"content":[{"text":"one","type":"text"}]}"#,
        ),
        (json!({"content": [], "isError": "true"}), r#"{"content":[],"isError":true}"#),
        (json!({"content": [{"a": null}], "x": 1.50}), r#"{"content":[{"a":null}],"x":1.5}"#),
    ] {
        let (_server, harness) =
            answering_calls(move |request| web::reply_json(200, &result_message(request, &result))).await;
        let reply = harness.call(&context(), "echo", "{}").await.unwrap();
        let found: Value = reply.members.to_json().decode().unwrap();
        assert_eq!(found, serde_json::from_str::<Value>(expected).unwrap());
        assert_eq!(reply.is_error, expected.contains("isError"));
    }
}

#[tokio::test]
async fn a_redirect_that_is_not_followed_says_where_it_leads() {
    for (status, location, shown) in [
        (301, "/mcp/", "it answers 301 and redirects to `/mcp/`; write that address as its `url`"),
        (
            302,
            "https://user:word@other.example/mcp?key=1",
            "it answers 302 and redirects to `https://other.example/mcp`; write that address as its `url`",
        ),
        (
            307,
            "https://other.example/mcp?key=1",
            "it redirects to `https://other.example/mcp`, another origin, which is not followed",
        ),
    ] {
        let (_server, harness) = answering_calls(move |_| {
            let mut reply = web::reply_empty(status);
            reply.headers_mut().insert("location", location.parse().unwrap());
            reply
        })
        .await;
        assert_eq!(error_cause(harness.call(&context(), "echo", "{}").await), format!("redirect: {shown}"));
    }
}
