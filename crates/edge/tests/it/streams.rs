//! Responses with a form that is decided late, and streams that are resumed.

use serde_json::{Value, json};

use crate::support::{ScriptedEvent, call, request, start};

fn with_token(mut message: Value) -> Value {
    message["params"]["_meta"]["progressToken"] = json!("token");
    message
}

#[tokio::test]
async fn json_until_something_has_to_be_said() {
    let edge = start();
    let plain = edge.client.ask(&call(1, "progress", json!({}))).await;
    assert_eq!(plain.header("content-type"), "application/json");

    let mut stream = edge.client.ask_stream(&with_token(call(1, "progress", json!({})))).await;
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    assert_eq!(stream.headers["cache-control"], "no-cache");
    for step in 0..3 {
        let event = stream.next().await.unwrap();
        assert_eq!(event.id, None);
        assert_eq!(event.data["method"], "notifications/progress");
        assert_eq!(event.data["params"], json!({"progress": step, "total": 3, "progressToken": "token"}));
    }
    assert_eq!(stream.data().await["id"], 1);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_client_that_takes_one_form_gets_that_form() {
    let edge = start();
    let session = edge.client.session(json!({})).await;
    let message = with_token(call(1, "progress", json!({})));
    let json_only = [("mcp-session-id", &*session), ("accept", "application/json")];
    let answer = edge.client.post(&json_only, &message).await;
    assert_eq!(answer.header("content-type"), "application/json");
    let events_only = [("mcp-session-id", &*session), ("accept", "text/event-stream")];
    let mut stream = edge.client.stream(&events_only, &request(2, "ping", json!({}))).await;
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    assert_eq!(stream.data().await["id"], 2);
}

#[tokio::test]
async fn log_messages_are_sent_at_the_level_asked_for() {
    let edge = start();
    let client = edge.client;
    let silent = client.ask(&call(1, "log", json!({}))).await;
    assert_eq!(silent.header("content-type"), "application/json");
    let mut message = call(1, "log", json!({}));
    message["params"]["_meta"]["io.modelcontextprotocol/logLevel"] = json!("error");
    let mut stream = client.ask_stream(&message).await;
    assert_eq!(stream.data().await["params"]["data"], "loud");
    assert_eq!(stream.data().await["id"], 1);

    let session = client.session(json!({})).await;
    let named = [("mcp-session-id", &*session)];
    let mut stream = client.stream(&named, &call(1, "log", json!({}))).await;
    assert_eq!(stream.data().await["params"]["data"], "quiet");
    assert_eq!(stream.data().await["params"]["data"], "loud");
    let level = request(2, "logging/setLevel", json!({"level": "critical"}));
    assert_eq!(client.post(&named, &level).await.json()["result"], json!({}));
    let answer = client.post(&named, &call(3, "log", json!({}))).await;
    assert_eq!(answer.header("content-type"), "application/json");
}

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_broke_off() {
    let edge = start();
    let client = edge.client;
    let session = client.session(json!({"elicitation": {}})).await;
    let named = [("mcp-session-id", &*session)];
    let mut stream = client.stream(&named, &call(5, "ask", json!({}))).await;
    let question = stream.next().await.unwrap();
    drop(stream);
    let id = question.id.unwrap();
    let answer = json!({"jsonrpc": "2.0", "id": question.data["id"], "result": {"action": "accept"}});
    assert_eq!(client.post(&named, &answer).await.status, 202);
    let mut resumed = client.get(&[named[0], ("last-event-id", &id)]).await;
    let result = resumed.data().await;
    assert_eq!((&result["id"], &result["result"]["said"]["action"]), (&json!(5), &json!("accept")));
    assert!(resumed.next().await.is_none());
}

#[tokio::test]
async fn events_of_one_session_are_not_replayed_to_another() {
    let edge = start();
    let client = edge.client;
    let session = client.session(json!({"elicitation": {}})).await;
    let other = client.session(json!({"elicitation": {}})).await;
    let mut stream = client.stream(&[("mcp-session-id", &session)], &call(5, "ask", json!({}))).await;
    let id = stream.next().await.unwrap().id.unwrap();
    assert_eq!(edge.fake.next_event().await, ScriptedEvent::Started("ask".to_owned()));
    let mut foreign = client.get(&[("mcp-session-id", &other), ("last-event-id", &id)]).await;
    edge.fake.announce(&vmcp_domain::Change::Tools);
    assert_eq!(foreign.data().await["method"], "notifications/tools/list_changed");
}

#[tokio::test]
async fn a_visited_page_is_told_on_the_stream_that_outlives_the_call() {
    let edge = start();
    let session = edge.client.session(json!({})).await;
    let named = [("mcp-session-id", &*session)];
    // Without a standalone stream, the notification is sent on the stream of the call.
    let mut stream = edge.client.stream(&named, &call(1, "visit", json!({}))).await;
    let told = stream.data().await;
    assert_eq!(told["method"], "notifications/elicitation/complete");
    assert_eq!(told["params"], json!({"elicitationId": "e"}));
    assert_eq!(stream.data().await["id"], 1);
    let mut own = edge.client.get(&named).await;
    let answer = edge.client.post(&named, &call(2, "visit", json!({}))).await;
    assert_eq!((answer.status, &answer.json()["id"]), (200, &json!(2)));
    assert_eq!(own.data().await, told);
    // 2026-07-28 has no such notification.
    let answer = edge.client.ask(&call(3, "visit", json!({}))).await;
    assert_eq!(answer.header("content-type"), "application/json");
}
