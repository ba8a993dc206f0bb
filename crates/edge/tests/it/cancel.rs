//! Cancelled requests.

use http::Method;
use serde_json::{Value, json};

use crate::support::{ScriptedEvent, call, start};

fn hang() -> (ScriptedEvent, ScriptedEvent) {
    (ScriptedEvent::Started("hang".to_owned()), ScriptedEvent::Dropped("hang".to_owned()))
}

fn cancelled(id: impl Into<Value>) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id.into()}})
}

#[tokio::test]
async fn hanging_up_takes_a_request_back() {
    let edge = start();
    let (started, dropped) = hang();
    let client = edge.client;
    let asking = tokio::spawn(async move { client.ask(&call(1, "hang", json!({}))).await });
    assert_eq!(edge.fake.next_event().await, started);
    asking.abort();
    assert_eq!(edge.fake.next_event().await, dropped);
}

#[tokio::test]
async fn a_notification_takes_a_request_of_the_same_session_back() {
    let edge = start();
    let (started, dropped) = hang();
    let client = edge.client;
    let session = client.session(json!({})).await;
    let other = client.session(json!({})).await;
    let name = session.clone();
    let asking = tokio::spawn(async move {
        client.post(&[("mcp-session-id", &name)], &call("one", "hang", json!({}))).await
    });
    assert_eq!(edge.fake.next_event().await, started);
    let foreign = [("mcp-session-id", &*other)];
    assert_eq!(client.post(&foreign, &cancelled("one")).await.status, 202);
    let named = [("mcp-session-id", &*session)];
    assert_eq!(client.post(&named, &cancelled("two")).await.status, 202);
    assert!(!asking.is_finished());
    assert_eq!(client.post(&named, &cancelled("one")).await.status, 202);
    assert_eq!(edge.fake.next_event().await, dropped);
    let answer = asking.await.unwrap();
    assert_eq!((answer.status, &*answer.body), (202, ""));
}

#[tokio::test]
async fn the_end_of_a_session_ends_its_requests() {
    let edge = start();
    let (started, dropped) = hang();
    let client = edge.client;
    let session = client.session(json!({})).await;
    let name = session.clone();
    tokio::spawn(async move { client.post(&[("mcp-session-id", &name)], &call(1, "hang", json!({}))).await });
    assert_eq!(edge.fake.next_event().await, started);
    let named = [("mcp-session-id", &*session)];
    let mut standalone = client.get(&named).await;
    assert_eq!(client.send(Method::DELETE, "/mcp", &named, "").await.status, 200);
    assert_eq!(edge.fake.next_event().await, dropped);
    assert!(standalone.next().await.is_none());
}

#[tokio::test]
async fn a_question_nobody_waits_for_is_taken_back() {
    let edge = start();
    let client = edge.client;
    let session = client.session(json!({"elicitation": {}})).await;
    let named = [("mcp-session-id", &*session)];
    let mut stream = client.stream(&named, &call(9, "ask", json!({}))).await;
    let question = stream.data().await;
    assert_eq!(client.post(&named, &cancelled(9)).await.status, 202);
    let notice = stream.data().await;
    assert_eq!(notice["method"], "notifications/cancelled");
    assert_eq!(notice["params"]["requestId"], question["id"]);
    assert!(stream.next().await.is_none());
}
