//! Shutdown.

use std::time::Duration;

use serde_json::json;

use crate::support::{ScriptedEvent, call, policy, start, start_with, within_timeout};

#[tokio::test]
async fn calls_in_flight_are_finished() {
    let mut edge = start();
    let client = edge.client;
    let session = client.session(json!({"elicitation": {}})).await;
    let named = [("mcp-session-id", &*session)];
    let mut standalone = client.get(&named).await;
    let plain = tokio::spawn(async move { client.ask(&call(1, "gate", json!({}))).await });
    assert_eq!(edge.fake.next_event().await, ScriptedEvent::Started("gate".to_owned()));
    let mut asked = client.stream(&named, &call(2, "ask", json!({}))).await;
    asked.data().await;

    edge.shutdown.cancel();
    assert!(standalone.next().await.is_none());
    // The listener is closed by the time the standalone stream has ended.
    assert!(tokio::net::TcpStream::connect(client.address).await.is_err());
    assert!(!plain.is_finished());
    edge.fake.gate.add_permits(1);
    assert_eq!(plain.await.unwrap().status, 200);
    // The client can no longer answer, so the call continues without an answer.
    assert_eq!(asked.data().await["result"]["said"], "unreachable");
    assert!(asked.next().await.is_none());
    within_timeout(&mut edge.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn serving_ends_when_the_last_call_has() {
    let mut edge = start();
    let client = edge.client;
    let plain = tokio::spawn(async move { client.ask(&call(1, "gate", json!({}))).await });
    edge.fake.next_event().await;
    edge.shutdown.cancel();
    edge.fake.gate.add_permits(1);
    assert_eq!(plain.await.unwrap().status, 200);
    within_timeout(&mut edge.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn idle_connections_do_not_hold_it_up() {
    let mut edge = start();
    let idle = tokio::net::TcpStream::connect(edge.client.address).await.unwrap();
    edge.client.session(json!({})).await;
    edge.shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), &mut edge.served).await;
    ended.expect("ends at once").unwrap().unwrap();
    drop(idle);
}

#[tokio::test]
async fn patience_with_calls_has_an_end() {
    let mut policy = policy();
    policy.limits.shutdown_grace = Duration::from_millis(50);
    let mut edge = start_with(policy);
    let client = edge.client;
    let hanging = tokio::spawn(async move {
        let stream = tokio::net::TcpStream::connect(client.address).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let mut message = call(1, "hang", json!({}));
        message["params"]["_meta"] = crate::support::meta();
        let request = http::Request::post("/mcp")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", "hang")
            .body(message.to_string())
            .unwrap();
        sender.send_request(request).await.map(|response| response.status())
    });
    assert_eq!(edge.fake.next_event().await, ScriptedEvent::Started("hang".to_owned()));
    edge.shutdown.cancel();
    within_timeout(&mut edge.served).await.unwrap().unwrap();
    assert_eq!(edge.fake.next_event().await, ScriptedEvent::Dropped("hang".to_owned()));
    assert!(hanging.await.unwrap().is_err());
}
