//! Servers that read the specification in their own way: what they write oddly reaches the caller all the same, or ends
//! the call at once with a reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_compression::tokio::write::{BrotliEncoder, DeflateEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use http::{Method, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use vmcp_backends::policy::{HttpPolicy, Transport};
use vmcp_domain::BackendState;

use crate::web::{self, Hit, Reply};
use crate::{Rig, TIMEOUTS, cause, context, http, policy, structured};

fn answer(hit: &Hit, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": hit.body["id"], "result": result})
}

fn said(hit: &Hit) -> Value {
    answer(hit, &json!({"content": [], "structuredContent": {"said": hit.method()}}))
}

/// A rig whose server answers calls by `reply` and everything else as usual.
async fn calling(reply: impl Fn(&Hit) -> Reply + Send + Sync + Clone + 'static) -> (web::Web, Rig) {
    let server = web::serve(move |hit: Hit| {
        let reply = reply.clone();
        async move { if hit.method() == "tools/call" { reply(&hit) } else { web::session(&hit) } }
    })
    .await;
    let rig = Rig::http(&server.url());
    (server, rig)
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

fn coded(kind: &str, coding: &str, body: Vec<u8>) -> Reply {
    let coding = coding.split(' ').next().unwrap();
    let response = Response::builder().header("content-type", kind).header("content-encoding", coding);
    response.body(Full::from(body).boxed()).unwrap()
}

#[tokio::test]
async fn answers_are_decoded_whatever_was_asked_for() {
    for coding in ["gzip", "deflate", "deflate without a head", "br", "zstd"] {
        for kind in ["application/json", "text/event-stream"] {
            let server = web::serve(move |hit: Hit| async move {
                let usual = web::session(&hit);
                assert_eq!(hit.header("accept-encoding"), Some("identity"));
                if hit.verb != Method::POST || hit.body["id"].is_null() {
                    return usual;
                }
                let message = if hit.method() == "tools/call" {
                    said(&hit).to_string()
                } else {
                    let body = usual.into_body().collect().await.unwrap().to_bytes();
                    String::from_utf8(body.to_vec()).unwrap()
                };
                let text = if kind == "text/event-stream" { format!("data: {message}\n\n") } else { message };
                coded(kind, coding, encode(coding, text.as_bytes()).await)
            })
            .await;
            let rig = Rig::http(&server.url());
            let reply = rig.call(&context(), "echo", "{}").await;
            assert_eq!(structured(&reply), r#"{"said":"tools/call"}"#, "{coding} {kind}");
        }
    }
}

#[tokio::test]
async fn a_small_body_that_decodes_to_a_huge_one_is_refused() {
    let bomb = Arc::new(encode("zstd", &vec![b' '; 101 << 20]).await);
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let (_server, rig) = calling(move |_| coded("application/json", "zstd", bomb.to_vec())).await;
    let cause = cause(rig.call(&context(), "echo", "{}").await);
    assert!(cause.starts_with("too-large"), "{cause}");
}

#[tokio::test]
async fn an_unknown_coding_is_named() {
    let (_server, rig) = calling(|_| coded("application/json", "sdch", b"x".to_vec())).await;
    let cause = cause(rig.call(&context(), "echo", "{}").await);
    assert_eq!(cause, "protocol: its content is coded as `sdch`, which is not known");
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
        // An event that nobody ended with a blank line.
        ("text/event-stream", |message| format!("data: {message}")),
    ];
    for (kind, form) in forms {
        let (_server, rig) = calling(move |hit| web::bytes(200, kind, form(&said(hit).to_string()))).await;
        let reply = rig.call(&context(), "echo", "{}").await;
        assert_eq!(structured(&reply), r#"{"said":"tools/call"}"#, "{kind}");
    }
    for kind in ["text/html", "text/event-stream", "application/json"] {
        let (_server, rig) = calling(move |_| web::bytes(200, kind, "<html>log in</html>")).await;
        let cause = cause(rig.call(&context(), "echo", "{}").await);
        assert_eq!(cause, format!("protocol: the answer is a page of HTML or XML (content type `{kind}`)"));
    }
}

#[tokio::test]
async fn a_session_that_is_lost_in_any_words_is_begun_anew_once() {
    let own = |hit: &Hit, code: i64, message: &str| {
        json!({"jsonrpc": "2.0", "id": hit.body["id"], "error": {"code": code, "message": message}})
            .to_string()
    };
    type Words = fn(&Hit, &dyn Fn(&Hit, i64, &str) -> String) -> (u16, &'static str, String);
    let forms: [Words; 11] = [
        |_, _| (404, "text/plain", "no".to_owned()),
        |_, _| (400, "text/plain", "no".to_owned()),
        |_, _| (410, "text/plain", "gone".to_owned()),
        |_, _| (409, "text/plain", "no".to_owned()),
        |_, _| (422, "application/json", "{}".to_owned()),
        |hit, own| (404, "application/json", own(hit, -32601, "Method not found")),
        |hit, own| (503, "application/json", own(hit, -32001, "gone")),
        |hit, own| (200, "application/json", own(hit, -32001, "gone")),
        |hit, own| (200, "text/event-stream", format!("data: {}\n\n", own(hit, -32001, "gone"))),
        |hit, own| (500, "application/json", own(hit, -32603, "Unknown session ID")),
        |hit, own| (400, "application/json", own(hit, -32000, "Bad Request: No valid session ID provided")),
    ];
    for (index, words) in forms.into_iter().enumerate() {
        let sessions = Arc::new(AtomicUsize::new(0));
        let opened = Arc::clone(&sessions);
        let server = web::serve(move |hit: Hit| {
            let opened = Arc::clone(&opened);
            async move {
                if hit.verb != Method::POST {
                    return web::empty(405);
                }
                if hit.method() == "initialize" {
                    let number = opened.fetch_add(1, Ordering::Relaxed) + 1;
                    let mut reply = web::session(&hit);
                    reply.headers_mut().insert("mcp-session-id", number.to_string().parse().unwrap());
                    return reply;
                }
                // The first session is forgotten once a tool is called.
                let in_first = hit.header("mcp-session-id") == Some("1");
                if in_first && matches!(hit.method(), "tools/call" | "ping") {
                    let (status, kind, body) = words(&hit, &own);
                    return web::bytes(status, kind, body);
                }
                if hit.method() == "tools/call" { web::json(200, &said(&hit)) } else { web::session(&hit) }
            }
        })
        .await;
        let rig = Rig::http(&server.url());
        let reply = rig.call(&context(), "echo", "{}").await;
        assert_eq!(structured(&reply), r#"{"said":"tools/call"}"#, "form {index}");
        assert_eq!(sessions.load(Ordering::Relaxed), 2, "form {index}");
        assert_eq!(server.with_method("tools/call").len(), 2, "form {index}");
    }
}

#[tokio::test]
async fn a_call_that_may_have_happened_is_not_made_again() {
    // Everything in the first session is a fault of the server, which says nothing of sessions.
    let server = web::serve(move |hit: Hit| async move {
        match hit.method() {
            "tools/call" | "ping" => web::bytes(500, "text/plain", "oops"),
            _ => web::session(&hit),
        }
    })
    .await;
    let rig = Rig::http(&server.url());
    assert_eq!(rig.call(&context(), "echo", "{}").await.unwrap_err().class(), "backend_failed");
    server.until(|hit| hit.method() == "ping").await;
    assert_eq!(server.with_method("tools/call").len(), 1);
}

#[tokio::test]
async fn an_error_about_another_session_ends_no_session() {
    let (server, rig) = calling(|hit| {
        let error = json!({"code": -32000, "message": "browser session closed"});
        web::json(200, &json!({"jsonrpc": "2.0", "id": hit.body["id"], "error": error}))
    })
    .await;
    for _ in 0..2 {
        assert_eq!(rig.call(&context(), "echo", "{}").await.unwrap_err().class(), "backend_refused");
    }
    assert_eq!((server.with_method("initialize").len(), server.with_method("tools/call").len()), (1, 2));
}

#[tokio::test]
async fn a_broken_answer_ends_its_call_at_once() {
    let start = Instant::now();
    let (_server, rig) = calling(|hit| {
        let id = hit.body["id"].clone();
        web::bytes(
            200,
            "text/event-stream",
            format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":oops}}\n\n"),
        )
    })
    .await;
    let cause = cause(rig.call(&context(), "echo", "{}").await);
    assert!(cause.contains("not valid JSON"), "{cause}");
    assert!(start.elapsed() < Duration::from_secs(4));
}

/// A server of HTTP+SSE that refuses messages at the address of its stream.
async fn old_server(refusal: u16) -> web::Web {
    let stream: Arc<std::sync::Mutex<Option<tokio::sync::mpsc::UnboundedSender<String>>>> = Arc::default();
    web::serve(move |hit: Hit| {
        let stream = Arc::clone(&stream);
        async move {
            if hit.verb == Method::GET {
                let (events, reply) = web::events();
                events.send("event: endpoint\ndata: /messages\n\n".to_owned()).unwrap();
                *stream.lock().unwrap() = Some(events);
                return reply;
            }
            if hit.path != "/messages" {
                return web::bytes(refusal, "text/plain", "no");
            }
            let message = if hit.method() == "tools/call" {
                said(&hit).to_string()
            } else {
                let body = web::session(&hit).into_body().collect().await.unwrap().to_bytes();
                String::from_utf8(body.to_vec()).unwrap()
            };
            if let Some(stream) = &*stream.lock().unwrap()
                && !message.is_empty()
            {
                let _ = stream.send(format!("data: {message}\n\n"));
            }
            web::empty(202)
        }
    })
    .await
}

#[tokio::test]
async fn http_sse_is_tried_where_no_transport_is_written() {
    for refusal in [400, 404, 405, 406, 415] {
        let server = old_server(refusal).await;
        let open = HttpPolicy { may_be_sse: true, ..http(&server.url()) };
        let rig = Rig::start(policy(Transport::StreamableHttp(open), TIMEOUTS));
        let reply = rig.call(&context(), "echo", "{}").await;
        assert_eq!(structured(&reply), r#"{"said":"tools/call"}"#, "{refusal}");
        assert_eq!(rig.backend.status().transport, "sse");
    }
    // What is written is not second-guessed.
    let server = old_server(405).await;
    let rig = Rig::http(&server.url());
    rig.until(BackendState::Unavailable).await;
    assert_eq!(rig.backend.status().transport, "streamable-http");
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
        let (_server, rig) = calling(move |hit| web::json(200, &answer(hit, &result))).await;
        let reply = rig.call(&context(), "echo", "{}").await.unwrap();
        let found: Value = reply.members.to_json().decode().unwrap();
        assert_eq!(found, serde_json::from_str::<Value>(expected).unwrap());
        assert_eq!(reply.failed, expected.contains("isError"));
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
        let (_server, rig) = calling(move |_| {
            let mut reply = web::empty(status);
            reply.headers_mut().insert("location", location.parse().unwrap());
            reply
        })
        .await;
        assert_eq!(cause(rig.call(&context(), "echo", "{}").await), format!("redirect: {shown}"));
    }
}
