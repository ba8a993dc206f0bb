//! Unsolicited messages of a backend: the GET stream of versions with sessions, and `subscriptions/listen` of
//! 2026-07-28.

use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;
use vmcp_domain::BackendEvent;

use crate::web::McpServer as _;
use crate::web::{self, ReceivedRequest};
use crate::{Harness, RecordingClient, context};

fn notification(method: &str, params: &Value) -> String {
    web::encode_event(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
}

#[tokio::test]
async fn the_stream_of_a_session_is_heard() {
    let stream: Arc<Mutex<Option<UnboundedSender<String>>>> = Arc::default();
    let opened = Arc::clone(&stream);
    let server = web::serve(move |request: ReceivedRequest| {
        let opened = Arc::clone(&opened);
        async move {
            if request.http_method == Method::GET {
                let (events, reply) = web::event_stream();
                *opened.lock().unwrap() = Some(events);
                return reply;
            }
            if request.rpc_method() == "tools/call" {
                // The question arrives outside the call's own stream; it can only belong to one call.
                let events = opened.lock().unwrap().clone().unwrap();
                let question = json!({"jsonrpc": "2.0", "id": 1, "method": "roots/list"});
                events.send(web::encode_event(&question)).unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            web::reply_with_sessions(&request)
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    let events = crate::eventually(|| stream.lock().unwrap().clone()).await;
    events.send(notification("notifications/tools/list_changed", &json!({}))).unwrap();
    events.send(notification("notifications/resources/updated", &json!({"uri": "x:y"}))).unwrap();
    harness.events.wait_for_events(&BackendEvent::ToolsChanged, 1).await;
    harness.events.wait_for_events(&BackendEvent::ResourceUpdated("x:y".into()), 1).await;
    let ping = json!({"jsonrpc": "2.0", "id": "p", "method": "ping"});
    events.send(web::encode_event(&ping)).unwrap();
    server.wait_for_request(|request| request.body["id"] == "p" && request.body["result"] == json!({})).await;

    let client = RecordingClient::new(None, r#"{"roots":{}}"#);
    harness.call(&client.context(), "echo", "{}").await.unwrap();
    assert_eq!(client.received_text(), "asked {}");
    server.wait_for_request(|request| request.body["id"] == 1 && request.body["result"] == "roots").await;
}

#[tokio::test]
async fn a_session_that_is_gone_is_noticed_by_its_stream() {
    let streams: Arc<Mutex<Vec<UnboundedSender<String>>>> = Arc::default();
    let opened = Arc::clone(&streams);
    let server = web::serve(move |request: ReceivedRequest| {
        let opened = Arc::clone(&opened);
        async move {
            if request.http_method != Method::GET {
                return web::reply_with_sessions(&request);
            }
            let mut streams = opened.lock().unwrap();
            // The second GET is refused; the GET of the next session is accepted.
            if streams.len() == 1 {
                streams.push(web::event_stream().0);
                return web::reply_empty(404);
            }
            let (events, reply) = web::event_stream();
            streams.push(events);
            reply
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    let stream = crate::eventually(|| streams.lock().unwrap().first().cloned()).await;
    harness.wait_for_state(vmcp_domain::BackendState::Ready).await;
    // An invalid message is skipped; the end of the stream leads to the next GET.
    stream.send("data: {]\n\n".to_owned()).unwrap();
    streams.lock().unwrap()[0] = web::event_stream().0;
    drop(stream);
    harness.events.wait_for_events(&BackendEvent::Connected, 2).await;
    assert_eq!(server.with_method("initialize").len(), 2);
    assert_eq!(harness.events.count(&BackendEvent::Disconnected), 0);
}

#[tokio::test]
async fn subscriptions_of_a_session_are_renewed() {
    let server = web::serve(|request| async move { web::reply_with_sessions(&request) }).await;
    let (address, url) = (server.address, server.url());
    let harness = Harness::start_http(&url);
    harness.backend.subscribe(&context(), "x:y".into()).await.unwrap();
    assert_eq!(server.with_method("resources/subscribe")[0].body["params"]["uri"], "x:y");
    drop(server);
    // No stream is open here, so the next call detects the failure.
    harness.call(&context(), "echo", "{}").await.unwrap_err();
    harness.events.wait_for_events(&BackendEvent::Disconnected, 1).await;
    let server = web::serve_at(address, |request| async move { web::reply_with_sessions(&request) }).await;
    let again = server.wait_for_request(|request| request.rpc_method() == "resources/subscribe").await;
    assert_eq!(again.body["params"]["uri"], "x:y");
}

/// The streams opened so far: the request, and the sender of the events.
type OpenStreams = Arc<Mutex<Vec<(ReceivedRequest, UnboundedSender<String>)>>>;

/// A server of 2026-07-28 with a stream that the test can write to.
async fn listen_server(declares: Value) -> (web::ScriptedServer, OpenStreams) {
    let streams = OpenStreams::default();
    let opened = Arc::clone(&streams);
    let server = web::serve(move |request: ReceivedRequest| {
        let (opened, declares) = (Arc::clone(&opened), declares.clone());
        async move {
            match request.rpc_method() {
                "server/discover" => web::reply_result(
                    &request,
                    &json!({"supportedVersions": ["2026-07-28"], "capabilities": declares}),
                ),
                "subscriptions/listen" => {
                    let (events, reply) = web::event_stream();
                    let acknowledged = json!({"notifications": request.body["params"]["notifications"],
                        "_meta": {"io.modelcontextprotocol/subscriptionId": request.body["id"]}});
                    let text = notification("notifications/subscriptions/acknowledged", &acknowledged);
                    events.send(text).unwrap();
                    opened.lock().unwrap().push((request, events));
                    reply
                }
                _ => web::reply_stateless(&request),
            }
        }
    })
    .await;
    (server, streams)
}

#[tokio::test]
async fn listening_is_opened_where_changes_are_told() {
    let (_server, streams) = listen_server(json!({"tools": {"listChanged": true}})).await;
    let harness = Harness::start_http(&_server.url());
    let (request, events) = crate::eventually(|| streams.lock().unwrap().first().cloned()).await;
    assert_eq!(request.header("mcp-method"), Some("subscriptions/listen"));
    assert_eq!(request.body["params"]["notifications"]["toolsListChanged"], true);
    events.send(notification("notifications/tools/list_changed", &json!({}))).unwrap();
    harness.events.wait_for_events(&BackendEvent::ToolsChanged, 1).await;

    // The stream breaks. Once it is open again, everything that may have changed meanwhile is reported.
    drop(events);
    streams.lock().unwrap().clear();
    let (_, _events) = crate::eventually(|| streams.lock().unwrap().first().cloned()).await;
    harness.events.wait_for_events(&BackendEvent::ToolsChanged, 2).await;
    harness.call(&context(), "echo", "{}").await.unwrap();
}

#[tokio::test]
async fn listening_covers_the_resources_wanted() {
    let (server, streams) = listen_server(json!({"resources": {"subscribe": true}})).await;
    let harness = Harness::start_http(&server.url());
    harness.backend.fetch_inventory(&context()).await.unwrap();
    assert!(streams.lock().unwrap().is_empty(), "nothing to listen to yet");
    harness.backend.subscribe(&context(), "x:1".into()).await.unwrap();
    harness.backend.subscribe(&context(), "x:2".into()).await.unwrap();
    harness.backend.subscribe(&context(), "x:2".into()).await.unwrap();
    let wanted = |at: usize| streams.lock().unwrap()[at].0.body["params"]["notifications"].clone();
    assert_eq!(wanted(0)["resourceSubscriptions"], json!(["x:1"]));
    assert_eq!(wanted(1)["resourceSubscriptions"], json!(["x:1", "x:2"]));
    let events = streams.lock().unwrap()[1].1.clone();
    events.send(notification("notifications/resources/updated", &json!({"uri": "x:2"}))).unwrap();
    harness.events.wait_for_events(&BackendEvent::ResourceUpdated("x:2".into()), 1).await;
    harness.backend.unsubscribe(&context(), "x:1".into()).await.unwrap();
    assert_eq!(wanted(2)["resourceSubscriptions"], json!(["x:2"]));
    harness.backend.unsubscribe(&context(), "x:2".into()).await.unwrap();
    crate::eventually(|| streams.lock().unwrap().iter().all(|(_, stream)| stream.is_closed()).then_some(()))
        .await;
}

#[tokio::test]
async fn a_backend_that_does_not_listen_is_fine() {
    let server = web::serve(|request| async move {
        match request.rpc_method() {
            "server/discover" => web::reply_result(
                &request,
                &json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {"listChanged": true}}}),
            ),
            _ => web::reply_stateless(&request),
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    harness.call(&context(), "echo", "{}").await.unwrap();
    server.wait_for_request(|request| request.rpc_method() == "subscriptions/listen").await;
    let error = harness.backend.subscribe(&context(), "x:1".into()).await.unwrap_err();
    assert_eq!(error.class(), "backend_failed");
}
