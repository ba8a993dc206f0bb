//! Paginated lists.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::{RunningEdge, request, start};

async fn fetch_all_pages(
    edge: &RunningEdge,
    method: &str,
    member: &str,
    session: Option<&str>,
) -> Vec<Value> {
    let (mut all, mut params) = (Vec::new(), json!({}));
    loop {
        let message = request(1, method, params);
        let answer = match session {
            None => edge.client.ask(&message).await,
            Some(session) => edge.client.post(&[("mcp-session-id", session)], &message).await,
        };
        let result = answer.json()["result"].clone();
        let page = result[member].as_array().unwrap().clone();
        assert!((1..=3).contains(&page.len()));
        all.extend(page);
        match result.get("nextCursor") {
            None => return all,
            Some(next) => params = json!({"cursor": next}),
        }
    }
}

#[tokio::test]
async fn every_item_stands_on_one_page() {
    let edge = start();
    let session = edge.client.session(json!({})).await;
    for session in [None, Some(&*session)] {
        let tools = fetch_all_pages(&edge, "tools/list", "tools", session).await;
        let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["echo", "hang", "gate", "progress", "log", "ask", "panic", "fail", "region"]);
        assert_eq!(fetch_all_pages(&edge, "resources/list", "resources", session).await.len(), 5);
    }
}

#[tokio::test]
async fn definitions_are_written_as_they_came() {
    let edge = start();
    for _ in 0..2 {
        let answer = edge.client.ask(&request("x", "tools/list", json!({}))).await;
        assert!(
            answer.body.contains(r#"{"name":"echo","inputSchema":{"type":"object"},"x-unknown":[1.0,2e3]}"#)
        );
        assert!(answer.body.starts_with(r#"{"jsonrpc":"2.0","id":"x","result":{"tools":["#));
        assert_eq!(answer.json()["result"]["cacheScope"], "private");
    }
}

#[tokio::test]
async fn a_changed_list_is_written_anew() {
    let edge = start();
    edge.client.ask(&request(1, "tools/list", json!({}))).await;
    {
        let mut tools = edge.fake.tools.lock().unwrap();
        let fewer: Vec<_> = tools.iter().skip(8).cloned().collect();
        *tools = Arc::new(fewer);
    }
    let tools = fetch_all_pages(&edge, "tools/list", "tools", None).await;
    assert_eq!(tools.len(), 1);
}

#[tokio::test]
async fn foreign_cursors_are_refused() {
    let edge = start();
    let session = edge.client.session(json!({})).await;
    let first = edge.client.ask(&request(1, "resources/list", json!({}))).await;
    let next = first.json()["result"]["nextCursor"].as_str().unwrap().to_owned();
    let tampered: String = next.chars().rev().collect();
    for cursor in [&*next, &*tampered, "?", &"a".repeat(600)] {
        let message = request(1, "tools/list", json!({"cursor": cursor}));
        let answer = edge.client.ask(&message).await;
        assert_eq!((answer.status, answer.code()), (200, -32602), "{cursor}");
        let answer = edge.client.post(&[("mcp-session-id", &session)], &message).await;
        assert_eq!((answer.status, answer.code()), (200, -32602), "{cursor}");
    }
}
