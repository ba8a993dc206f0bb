//! Calls that continue as tasks: their identifiers are sealed for their caller, and task operations reach the
//! gateway.

use serde_json::{Value, json};

use crate::support::{
    Client, FakeAuthenticator, RawResponse, call, initialize, meta, request, start, start_with,
};

const TASKS: &str = "io.modelcontextprotocol/tasks";

/// Posts a request as the user `who`, from a client that declares the tasks extension.
async fn post(client: &Client, who: &str, mut message: Value, named: &str) -> RawResponse {
    let mut meta = meta();
    meta["io.modelcontextprotocol/clientCapabilities"] = json!({"extensions": {TASKS: {}}});
    message["params"]["_meta"] = meta;
    let authorization = format!("Bearer {who}");
    let method = message["method"].as_str().unwrap().to_owned();
    let headers = [
        ("authorization", authorization.as_str()),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", method.as_str()),
        ("mcp-name", named),
    ];
    client.post(&headers, &message).await
}

async fn begin(client: &Client, who: &str) -> String {
    let answer = post(client, who, call(1, "task", json!({})), "task").await;
    let result = &answer.json()["result"];
    assert_eq!((&result["resultType"], &result["status"]), (&json!("task"), &json!("working")), "{answer:?}");
    result["taskId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_task_is_followed_by_whoever_began_it() {
    let edge = start_with(FakeAuthenticator::new().policy());
    let id = begin(&edge.client, "alice").await;
    for (method, params, reaches) in [
        ("tasks/get", json!({"taskId": id}), r#"Get ["b","task","7"] {}"#),
        (
            "tasks/update",
            json!({"taskId": id, "inputResponses": {"q": {"action": "accept"}}}),
            r#"Update ["b","task","7"] {"inputResponses":{"q":{"action":"accept"}}}"#,
        ),
        ("tasks/cancel", json!({"taskId": id}), r#"Cancel ["b","task","7"] {}"#),
    ] {
        // The same user with another token.
        let answer = post(&edge.client, "alice-later", request(2, method, params.clone()), &id).await;
        let result = &answer.json()["result"];
        assert_eq!(result["asked"], reaches, "{answer:?}");
        assert_eq!(result["taskId"], json!(id), "the task keeps the name it was given");
        assert_eq!(result["resultType"], "complete");
        for thief in ["bob", "elsewhere"] {
            let answer = post(&edge.client, thief, request(2, method, params.clone()), &id).await;
            assert_eq!((answer.status, answer.code()), (200, -32602), "{thief} {method}");
        }
    }
}

#[tokio::test]
async fn made_up_identifiers_lead_nowhere() {
    let edge = start_with(FakeAuthenticator::new().policy());
    let id = begin(&edge.client, "alice").await;
    let mut changed = id.clone();
    let last = changed.pop().unwrap();
    changed.push(if last == 'A' { 'Q' } else { 'A' });
    let long = "A".repeat(5000);
    for made_up in ["7", r#"["b","task","7"]"#, changed.as_str(), long.as_str()] {
        let get = request(3, "tasks/get", json!({"taskId": made_up}));
        let answer = post(&edge.client, "alice", get, made_up).await;
        assert_eq!((answer.status, answer.code()), (200, -32602), "{made_up}");
    }
    let get = request(3, "tasks/get", json!({"taskId": id}));
    assert_eq!(post(&edge.client, "alice", get, "other").await.code(), -32020, "the header repeats the body");
    let get = request(3, "tasks/get", json!({"taskId": 7}));
    assert_eq!(post(&edge.client, "alice", get, "7").await.code(), -32602);
    let update = request(3, "tasks/update", json!({"taskId": id, "inputResponses": []}));
    assert_eq!(post(&edge.client, "alice", update, &id).await.code(), -32602);
}

#[tokio::test]
async fn whoever_follows_no_tasks_is_told_what_it_takes() {
    let edge = start();
    let discovered = edge.client.ask(&request("d", "server/discover", json!({}))).await.json();
    assert_eq!(discovered["result"]["capabilities"]["extensions"], json!({TASKS: {}}));
    let listen = request(4, "subscriptions/listen", json!({"notifications": {"taskIds": ["x"]}}));
    let answer = edge.client.ask(&listen).await;
    assert_eq!((answer.status, answer.code()), (400, -32021));
    let needed = &answer.json()["error"]["data"]["requiredCapabilities"];
    assert_eq!(needed, &json!({"extensions": {TASKS: {}}}));
    // Versions with sessions have no tasks.
    let opened = edge.client.post(&[], &initialize("2025-11-25", json!({}))).await;
    assert_eq!(opened.json()["result"]["capabilities"].get("extensions"), None);
    let session = opened.header("mcp-session-id").to_owned();
    let get = request(5, "tasks/get", json!({"taskId": "x"}));
    assert_eq!(edge.client.post(&[("mcp-session-id", &session)], &get).await.code(), -32601);
}
