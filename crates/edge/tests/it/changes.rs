//! Change notifications reach the clients that are subscribed to them.

use http::Method;
use serde_json::{Value, json};
use vmcp_domain::Change;

use crate::support::{request, start, within_timeout};

const TAG: &str = "io.modelcontextprotocol/subscriptionId";

#[tokio::test]
async fn sessions_hear_on_their_standalone_stream() {
    let edge = start();
    let client = edge.client;
    let session = client.session(json!({})).await;
    let named = [("mcp-session-id", &*session)];
    // A change before the stream is open is sent as well, once.
    for _ in 0..100 {
        edge.fake.announce(&Change::Tools);
    }
    let mut stream = client.get(&named).await;
    let event = stream.next().await.unwrap();
    assert!(event.id.is_some());
    assert_eq!(event.data, json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
    edge.fake.announce(&Change::Prompts);
    assert_eq!(stream.data().await["method"], "notifications/prompts/list_changed");
    let uri = json!({"uri": "file:///0"});
    edge.fake.announce(&Change::Resource("file:///0".into()));
    let subscribe = request(1, "resources/subscribe", uri.clone());
    assert_eq!(client.post(&named, &subscribe).await.json()["result"], json!({}));
    edge.fake.announce(&Change::Resource("file:///0".into()));
    let update = stream.data().await;
    assert_eq!(update["method"], "notifications/resources/updated");
    assert_eq!(update["params"], uri);
    let unsubscribe = request(2, "resources/unsubscribe", uri);
    assert_eq!(client.post(&named, &unsubscribe).await.json()["result"], json!({}));
    edge.fake.announce(&Change::Resource("file:///0".into()));
    edge.fake.announce(&Change::Resources);
    assert_eq!(stream.data().await["method"], "notifications/resources/list_changed");
}

#[tokio::test]
async fn nobody_is_told_of_changes_of_what_they_may_not_read() {
    let edge = start();
    let session = edge.client.session(json!({})).await;
    let named = [("mcp-session-id", &*session)];
    let subscribe = request(1, "resources/subscribe", json!({"uri": "hidden://0"}));
    assert_eq!(edge.client.post(&named, &subscribe).await.json()["error"]["code"], 403);
    let mut stream = edge.client.get(&named).await;
    edge.fake.announce(&Change::Resource("hidden://0".into()));
    edge.fake.announce(&Change::Tools);
    assert_eq!(stream.data().await["method"], "notifications/tools/list_changed");
}

#[tokio::test]
async fn each_message_goes_to_one_stream_of_a_session() {
    let edge = start();
    let session = edge.client.session(json!({})).await;
    let named = [("mcp-session-id", &*session)];
    let mut one = edge.client.get(&named).await;
    let mut two = edge.client.get(&named).await;
    let mut received = 0;
    for change in [Change::Tools, Change::Prompts, Change::Resources] {
        edge.fake.announce(&change);
        within_timeout(async {
            tokio::select! {
                event = one.next() => assert!(event.is_some()),
                event = two.next() => assert!(event.is_some()),
            }
        })
        .await;
        received += 1;
    }
    assert_eq!(received, 3);
    assert_eq!(edge.client.send(Method::DELETE, "/mcp", &named, "").await.status, 200);
    assert!(one.next().await.is_none() && two.next().await.is_none());
}

#[tokio::test]
async fn listeners_hear_what_they_asked_for() {
    let edge = start();
    let filter =
        json!({"toolsListChanged": true, "resourceSubscriptions": ["file:///0", "file:///0", "hidden://0"]});
    let listen = request("sub", "subscriptions/listen", json!({"notifications": filter}));
    let mut stream = edge.client.ask_stream(&listen).await;
    let ack = stream.data().await;
    assert_eq!(ack["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(
        ack["params"]["notifications"],
        json!({"toolsListChanged": true, "resourceSubscriptions": ["file:///0"]})
    );
    let tag = |message: &Value| message["params"]["_meta"][TAG].clone();
    assert_eq!(tag(&ack), "sub");
    edge.fake.announce(&Change::Prompts);
    edge.fake.announce(&Change::Resource("file:///1".into()));
    edge.fake.announce(&Change::Resource("file:///0".into()));
    let update = stream.data().await;
    assert_eq!(update["params"]["uri"], "file:///0");
    assert_eq!(tag(&update), "sub");
    edge.fake.announce(&Change::Tools);
    let update = stream.data().await;
    assert_eq!(update["method"], "notifications/tools/list_changed");
    edge.shutdown.cancel();
    let end = stream.data().await;
    assert_eq!(end["id"], "sub");
    assert_eq!(end["result"]["resultType"], "complete");
    assert_eq!(end["result"]["_meta"][TAG], "sub");
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_listener_has_to_accept_events() {
    let edge = start();
    let mut listen = request(1, "subscriptions/listen", json!({"notifications": {}}));
    listen["params"]["_meta"] = crate::support::meta();
    let headers = [
        ("accept", "application/json"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "subscriptions/listen"),
    ];
    assert_eq!(edge.client.post(&headers, &listen).await.status, 406);
}

#[tokio::test]
async fn silent_streams_are_kept_open() {
    let mut policy = crate::support::policy();
    policy.limits.keep_alive = std::time::Duration::from_millis(20);
    let edge = crate::support::start_with(policy);
    let session = edge.client.session(json!({})).await;
    let mut stream = edge.client.get(&[("mcp-session-id", &session)]).await;
    assert_eq!(stream.block().await.unwrap(), ": keep-alive");
}
