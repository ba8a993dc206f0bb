//! What the observer is told of requests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use vmcp_edge::{RequestObserver, RequestSeen};

use crate::support::{Heard, call, policy, request, soon, start_observed};

#[derive(Default)]
struct Log {
    begun: Mutex<usize>,
    ended: Mutex<Vec<String>>,
}

impl RequestObserver for Log {
    fn began(&self) {
        *self.begun.lock().unwrap() += 1;
    }

    fn ended(&self, request: &RequestSeen<'_>) {
        let RequestSeen { http_method, status, method, subject, took } = request;
        assert!(*took < Duration::from_secs(60));
        let (method, subject) = (method.unwrap_or("-"), subject.unwrap_or("-"));
        self.ended.lock().unwrap().push(format!("{http_method} {status} {method} {subject}"));
    }
}

impl Log {
    /// Waits until so many requests have ended, and says which.
    async fn ended(&self, count: usize) -> Vec<String> {
        soon(async {
            while self.ended.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let ended = std::mem::take(&mut *self.ended.lock().unwrap());
        assert_eq!(ended.len(), count, "{ended:?}");
        ended
    }
}

#[tokio::test]
async fn each_request_is_told_once_when_it_has_ended() {
    let log = Arc::new(Log::default());
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
    assert_eq!(*log.begun.lock().unwrap(), 6, "the stream is open");
    drop(stream);
    assert_eq!(log.ended(1).await, ["GET 200 - -"]);
}

#[tokio::test]
async fn a_client_that_goes_away_has_ended_its_request() {
    let log = Arc::new(Log::default());
    let edge = start_observed(policy(), log.clone());
    let client = edge.client;
    let asking = tokio::spawn(async move { client.ask(&call(1, "hang", json!({}))).await });
    assert_eq!(edge.fake.heard().await, Heard::Started("hang".to_owned()));
    asking.abort();
    assert_eq!(log.ended(1).await, ["POST 499 tools/call hang"]);
}
