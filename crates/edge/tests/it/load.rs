//! Many concurrent requests.

use serde_json::json;

use crate::support::{call, request, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_are_answered_under_their_own_ids() {
    let edge = start();
    let client = edge.client;
    let session = client.session(json!({})).await;
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..1000_u32 {
        let session = session.clone();
        asked.spawn(async move {
            let message = call(number, "echo", json!({"number": number}));
            let answer = if number % 2 == 0 {
                client.ask(&message).await
            } else {
                client.post(&[("mcp-session-id", &session)], &message).await
            };
            assert_eq!(answer.status, 200);
            let json = answer.json();
            assert_eq!((&json["id"], &json["result"]["echo"]["number"]), (&json!(number), &json!(number)));
        });
    }
    while let Some(done) = asked.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_on_one_http2_connection() {
    let edge = start();
    let stream = tokio::net::TcpStream::connect(edge.client.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..100_u32 {
        let mut sender = sender.clone();
        asked.spawn(async move {
            let mut message = request(number, "tools/list", json!({}));
            message["params"]["_meta"] = crate::support::meta();
            let request = http::Request::post("http://localhost/mcp")
                .header("content-type", "application/json")
                .header("mcp-protocol-version", "2026-07-28")
                .header("mcp-method", "tools/list")
                .body(message.to_string())
                .unwrap();
            sender.send_request(request).await.unwrap().status()
        });
    }
    while let Some(status) = asked.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
}
