//! The reports that a request observer receives.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use vmcp_edge::{ObservedRequest, RequestObserver};

use crate::support::{ScriptedEvent, call, policy, request, start_observed, within_timeout};

#[derive(Default)]
struct RecordingObserver {
    started_count: Mutex<usize>,
    ended_requests: Mutex<Vec<String>>,
}

impl RequestObserver for RecordingObserver {
    fn on_start(&self) {
        *self.started_count.lock().unwrap() += 1;
    }

    fn on_end(&self, request: &ObservedRequest<'_>) {
        let ObservedRequest { http_method, status, method, subject, duration: took } = request;
        assert!(*took < Duration::from_secs(60));
        let (method, subject) = (method.unwrap_or("-"), subject.unwrap_or("-"));
        self.ended_requests.lock().unwrap().push(format!("{http_method} {status} {method} {subject}"));
    }
}

impl RecordingObserver {
    /// Waits until `count` requests have ended and returns them.
    async fn ended(&self, count: usize) -> Vec<String> {
        within_timeout(async {
            while self.ended_requests.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let ended = std::mem::take(&mut *self.ended_requests.lock().unwrap());
        assert_eq!(ended.len(), count, "{ended:?}");
        ended
    }
}

#[tokio::test]
async fn each_request_is_reported_once_when_it_has_ended() {
    let log = Arc::new(RecordingObserver::default());
    let edge = start_observed(policy(), log.clone());
    let client = edge.client;
    client.ask(&call(1, "echo", json!({}))).await;
    assert_eq!(log.ended(1).await, ["POST 200 tools/call echo"]);
    client.ask(&request(1, "made/up", json!({}))).await;
    assert_eq!(log.ended(1).await, ["POST 404 other -"]);
    let session = client.session(json!({})).await;
    assert_eq!(log.ended(1).await, ["POST 200 initialize -"]);
    let named = [("mcp-session-id", &*session)];
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    client.post(&named, &initialized).await;
    assert_eq!(log.ended(1).await, ["POST 202 notifications/initialized -"]);
    let stream = client.get(&named).await;
    client.post(&named, &request(2, "resources/read", json!({"uri": "file:///a"}))).await;
    assert_eq!(log.ended(1).await, ["POST 200 resources/read file:///a"]);
    assert_eq!(*log.started_count.lock().unwrap(), 6, "the stream is open");
    drop(stream);
    assert_eq!(log.ended(1).await, ["GET 200 - -"]);
}

#[tokio::test]
async fn a_request_ends_when_its_client_disconnects() {
    let log = Arc::new(RecordingObserver::default());
    let edge = start_observed(policy(), log.clone());
    let client = edge.client;
    let asking = tokio::spawn(async move { client.ask(&call(1, "hang", json!({}))).await });
    assert_eq!(edge.fake.next_event().await, ScriptedEvent::Started("hang".to_owned()));
    asking.abort();
    assert_eq!(log.ended(1).await, ["POST 499 tools/call hang"]);
}

#[tokio::test]
async fn a_request_that_is_refused_for_its_origin_is_reported() {
    let log = Arc::new(RecordingObserver::default());
    let edge = start_observed(policy(), log.clone());
    let foreign = [("origin", "https://example.com")];
    edge.client.post(&foreign, &call(1, "echo", json!({}))).await;
    assert_eq!(log.ended(1).await, ["POST 403 - -"]);
}
