//! Requests that are refused before they are dispatched: hosts, origins, media types, sizes, and time-outs.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use vmcp_domain::Secret;
use vmcp_edge::AdminListener;
use vmcp_edge::policy::EdgePolicy;

use crate::support::{
    Client, FakeAuthenticator, FakePages, TEST_TIMEOUT, call, initialize, policy, request, start, start_with,
    within_timeout,
};

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused() {
    let edge = start();
    let ping = request(1, "ping", json!({}));
    for headers in [[("host", "evil.example")], [("origin", "https://evil.example")]] {
        let answer = edge.client.post(&headers, &ping).await;
        assert_eq!(answer.status, 403, "{answer:?}");
        assert_eq!(answer.code(), -32600);
        assert!(answer.json().get("id").is_none());
    }
    let session = edge.client.session(json!({})).await;
    let local = [("origin", "http://localhost:3000"), ("mcp-session-id", &*session)];
    assert_eq!(edge.client.post(&local, &ping).await.status, 200);
}

#[tokio::test]
async fn media_types_are_held_to() {
    let edge = start();
    let ping = request(1, "ping", json!({}));
    for kind in ["", "text/plain", "application/jsonp"] {
        assert_eq!(edge.client.post(&[("content-type", kind)], &ping).await.status, 415, "{kind}");
    }
    let answer = edge.client.post(&[("accept", "text/html")], &ping).await;
    assert_eq!((answer.status, answer.code()), (406, -32600));
    let session = edge.client.session(json!({})).await;
    let lenient =
        [("content-type", "Application/JSON; charset=utf-8"), ("accept", ""), ("mcp-session-id", &session)];
    assert_eq!(edge.client.post(&lenient, &ping).await.status, 200);
}

#[tokio::test]
async fn paths_and_methods() {
    let edge = start();
    let client = edge.client;
    assert_eq!(client.send(Method::POST, "/other", &[], "{}").await.status, 404);
    let answer = client.send(Method::PUT, "/mcp", &[], "{}").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "GET, POST, DELETE"));
    let answer = client.send(Method::GET, "/health", &[], "").await;
    assert_eq!((answer.status, &*answer.body), (200, "{\"status\":\"ok\"}"));
    let answer = client.send(Method::HEAD, "/health", &[], "").await;
    assert_eq!((answer.status, &*answer.body), (200, ""));
    let answer = client.send(Method::POST, "/health", &[], "").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"));
    let stateless = [("mcp-protocol-version", "2026-07-28"), ("accept", "text/event-stream")];
    for method in [Method::GET, Method::DELETE] {
        let answer = client.send(method, "/mcp", &stateless, "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
    }
}

#[tokio::test]
async fn get_needs_to_accept_events() {
    let edge = start();
    for accept in ["", "application/json"] {
        let answer = edge.client.send(Method::GET, "/mcp", &[("accept", accept)], "").await;
        assert_eq!((answer.status, answer.code()), (406, -32600));
        assert_eq!(answer.json()["id"], "server-error");
    }
}

#[tokio::test]
async fn bodies_that_are_no_message() {
    let edge = start();
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let deep = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":{deep}}}}}"#);
    let cases: [(&[u8], i64); 6] = [
        (b"{", -32700),
        (b"\"\xff\"", -32700),
        (b"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]", -32600),
        (b"{\"id\":1,\"method\":\"ping\"}", -32600),
        (b"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}", -32600),
        (deep.as_bytes(), -32600),
    ];
    for (body, code) in cases {
        let answer = edge.client.send(Method::POST, "/mcp", &[], body.to_vec()).await;
        assert_eq!((answer.status, answer.code()), (400, code), "{answer:?}");
        assert!(answer.json().get("id").is_none());
    }
}

#[tokio::test]
async fn large_bodies_are_refused_declared_or_chunked() {
    let mut policy = policy();
    policy.limits.body_bytes_max = 100_000;
    let edge = start_with(policy);
    let large = call(1, "echo", json!({"text": "x".repeat(100_000)}));
    let answer = edge.client.ask(&large).await;
    assert_eq!((answer.status, answer.code()), (413, -32600));
    let fits = call(1, "echo", json!({"text": "x".repeat(90_000)}));
    assert_eq!(edge.client.ask(&fits).await.status, 200);

    let mut stream = TcpStream::connect(edge.client.address).await.unwrap();
    let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", 60_000, "x".repeat(60_000));
    stream.write_all(chunk.as_bytes()).await.unwrap();
    stream.write_all(chunk.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn slow_heads_and_bodies_are_given_up() {
    let mut policy = policy();
    policy.limits.head_timeout = Duration::from_millis(100);
    policy.limits.body_timeout = Duration::from_millis(100);
    let edge = start_with(policy);
    for start in ["", "P", "POST /mcp HTTP/1.1\r\nhost: loc"] {
        let mut stream = TcpStream::connect(edge.client.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _ = within_timeout(stream.read_to_end(&mut rest)).await;
    }
    let mut stream = TcpStream::connect(edge.client.address).await.unwrap();
    let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 408 "));
}

#[tokio::test]
async fn large_heads_are_refused() {
    let mut policy = policy();
    policy.limits.head_bytes_max = 8 << 10;
    let edge = start_with(policy);
    let mut stream = TcpStream::connect(edge.client.address).await.unwrap();
    let head = format!("POST /mcp HTTP/1.1\r\nhost: localhost\r\nx: {}", "x".repeat(64 << 10));
    let _ = stream.write_all(head.as_bytes()).await;
    let mut read = [0; 12];
    // Either the refusal arrives, or the connection is reset because the rest was not read.
    if tokio::time::timeout(TEST_TIMEOUT, stream.read_exact(&mut read)).await.expect("an answer").is_ok() {
        assert_eq!(&read, b"HTTP/1.1 431");
    }
}

#[tokio::test]
async fn a_panic_ends_one_request_only() {
    let edge = start();
    let answer = edge.client.ask(&call(7, "panic", json!({}))).await;
    assert_eq!((answer.status, answer.code()), (500, -32603));
    assert_eq!(answer.json()["id"], 7);
    assert_eq!(edge.client.ask(&call(8, "echo", json!({}))).await.status, 200);
}

#[tokio::test]
async fn too_many_requests_are_told_to_come_back() {
    let mut policy = policy();
    policy.limits.request_count_max = 1;
    let edge = start_with(policy);
    let client = edge.client;
    let held = tokio::spawn(async move { client.ask(&call(1, "gate", json!({}))).await });
    edge.fake.next_event().await;
    let answer = edge.client.ask(&call("two", "echo", json!({}))).await;
    assert_eq!((answer.status, answer.code()), (503, -32603));
    assert_eq!((answer.header("retry-after"), &answer.json()["id"]), ("1", &json!("two")));
    edge.fake.gate.add_permits(1);
    assert_eq!(held.await.unwrap().status, 200);
    assert_eq!(edge.client.ask(&call(3, "echo", json!({}))).await.status, 200);
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.contains("\r\n\r\n") {
        let mut buffer = [0; 1024];
        let read = within_timeout(stream.read(&mut buffer)).await.unwrap();
        assert!(read > 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    text
}

#[tokio::test]
async fn pages_are_given_by_who_asks() {
    let edge = start_with(EdgePolicy {
        scrape_key: Some(Secret::new("0123456789abcdef")),
        allowed_hosts: vec!["mcp.example".to_owned()],
        ..FakeAuthenticator::new().policy()
    });
    let reader =
        async |headers: &[(&str, &str)]| edge.client.send(Method::GET, "/reader", headers, "").await.body;
    assert_eq!(reader(&[]).await, "Local");
    let proxied = ("x-forwarded-for", "203.0.113.9");
    for headers in [
        &[proxied][..],
        &[("via", "1.1 proxy")],
        &[("forwarded", "for=203.0.113.9")],
        &[("x-real-ip", "203.0.113.9")],
        &[("host", "mcp.example")],
        &[proxied, ("authorization", "Bearer expired")],
        &[proxied, ("authorization", "Bearer ")],
        &[proxied, ("authorization", "Basic 0123456789abcdef")],
    ] {
        assert_eq!(reader(headers).await, "Anyone", "{headers:?}");
    }
    for authorization in ["Bearer 0123456789abcdef", "bearer 0123456789abcdef", "Bearer alice"] {
        assert_eq!(
            reader(&[proxied, ("authorization", authorization)]).await,
            "Credential",
            "{authorization}"
        );
    }
}

#[tokio::test]
async fn the_admin_listener_serves_operators_and_no_web_page() {
    let listener = AdminListener::bind(([127, 0, 0, 1], 0).into(), Arc::new(FakePages)).unwrap();
    let client = Client::new(listener.local_addr());
    let stop = CancellationToken::new();
    let served = tokio::spawn(listener.serve(stop.clone()));
    let get = async |headers: &[(&str, &str)]| client.send(Method::GET, "/reader", headers, "").await;
    let answer = get(&[]).await;
    assert_eq!((answer.status, &*answer.body), (200, "Operator"));
    for headers in [[("host", "evil.example")], [("origin", "https://evil.example")], [("origin", "null")]] {
        assert_eq!(get(&headers).await.status, 403, "{headers:?}");
    }
    assert_eq!(client.send(Method::POST, "/reader", &[], "{}").await.status, 405);
    assert_eq!(client.send(Method::POST, "/nothing", &[], "{}").await.status, 404);
    let token = [("authorization", "Bearer abc")];
    let done = client.send(Method::POST, "/act", &token, "{}").await;
    assert_eq!((done.status, &*done.body), (200, "Some(\"abc\") {}"));
    assert_eq!(client.send(Method::POST, "/act", &[], "{}").await.body, "None {}");
    let large = "x".repeat((64 << 10) + 1);
    assert_eq!(client.send(Method::POST, "/act", &token, large).await.status, 413);
    for header in [("host", "evil.example"), ("origin", "null")] {
        assert_eq!(client.send(Method::POST, "/act", &[token[0], header], "{}").await.status, 403);
    }
    assert_eq!(client.send(Method::GET, "/mcp", &[], "").await.status, 404);
    // Idle connections are bounded and do not delay shutdown.
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(client.address).await.unwrap());
    }
    drop(idle);
    stop.cancel();
    within_timeout(served).await.unwrap();
}

#[tokio::test]
async fn a_client_that_still_sends_reads_why_it_is_refused() {
    let mut policy = policy();
    policy.limits.body_bytes_max = 100_000;
    let edge = start_with(policy);
    // Simple clients write everything before they read anything.
    for declared in [true, false] {
        let mut stream = TcpStream::connect(edge.client.address).await.unwrap();
        let (bytes, piece) = (20_000_000_usize, vec![b'x'; 1_000_000]);
        let length = if declared {
            format!("content-length: {bytes}")
        } else {
            "transfer-encoding: chunked".to_owned()
        };
        let head = format!(
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..bytes / piece.len() {
            if !declared {
                stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
            }
            stream.write_all(&piece).await.unwrap();
            if !declared {
                stream.write_all(b"\r\n").await.unwrap();
            }
        }
        if !declared {
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 413 "), "declared: {declared}");
    }
}

#[tokio::test]
async fn the_path_answers_with_a_final_slash_too() {
    let edge = start();
    let ping = initialize("2025-11-25", json!({})).to_string();
    for (path, status) in
        [("/mcp", 200), ("/mcp/", 200), ("/mcp/?a=1", 200), ("/mcp//", 404), ("/mcpx", 404), ("/mcp/x", 404)]
    {
        let answer = edge.client.send(Method::POST, path, &[], ping.clone()).await;
        assert_eq!(answer.status, status, "{path}");
    }
}

/// `/` serves the whole endpoint, with guards and sessions. A GET that does not accept events is for a page.
#[tokio::test]
async fn the_root_path_is_the_endpoint_too() {
    let edge = start();
    let opened =
        edge.client.send(Method::POST, "/", &[], initialize("2025-11-25", json!({})).to_string()).await;
    assert_eq!(opened.status, 200);
    let session = opened.header("mcp-session-id").to_owned();
    let named = ("mcp-session-id", &*session);
    let foreign = [named, ("origin", "https://evil.example")];
    let ping = request(2, "ping", json!({})).to_string();
    assert_eq!(edge.client.send(Method::POST, "/", &[named], ping.clone()).await.status, 200);
    assert_eq!(edge.client.send(Method::POST, "/", &foreign, ping.clone()).await.status, 403);
    for (method, accept, status) in [
        (Method::GET, "text/html", 404),
        (Method::HEAD, "*/*", 404),
        (Method::PUT, "*/*", 405),
        (Method::DELETE, "*/*", 200),
    ] {
        let answer = edge.client.send(method.clone(), "/", &[named, ("accept", accept)], String::new()).await;
        assert_eq!(answer.status, status, "{method} {accept}");
    }
    assert_eq!(
        edge.client.send(Method::POST, "/mcp", &[named], ping).await.status,
        404,
        "one and the same session"
    );
}

#[tokio::test]
async fn what_clients_write_oddly_is_taken() {
    let edge = start();
    let session = edge.client.session(json!({})).await;
    let named = [("mcp-session-id", &*session)];
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":null}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":""}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":null}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"progressToken":null}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":null,"result":null,"error":null}"#,
        "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":null,"_meta":null}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":null,"clientInfo":null,"_meta":null}}"#,
    ] {
        let headers = if body.contains("initialize") { &[][..] } else { &named[..] };
        let answer = edge.client.send(Method::POST, "/mcp", headers, body).await;
        assert_eq!(answer.status, 200, "{body}");
        let result = answer.json();
        assert!(result.get("error").is_none(), "{body}: {result}");
    }
    // Messages that two parsers could read differently are still refused.
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":null,"cursor":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":null,"Cursor":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
    ] {
        let answer = edge.client.send(Method::POST, "/mcp", &named, body).await;
        assert!(answer.json().get("error").is_some(), "{body}");
    }
}
