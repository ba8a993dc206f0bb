//! Hostile clients: they exceed their limits, repeat identifiers, or use what belongs to other clients.

use std::collections::HashMap;

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::{
    Client, FakeAuthenticator, RunningEdge, ScriptedEvent, call, meta, request, start, start_with,
    within_timeout,
};

/// The edge's limit on streams of one caller.
const STREAMS_PER_CALLER: usize = 1_000;
/// The number of streams opened on one HTTP/2 connection; the edge allows 256, so a few remain for other
/// requests.
const STREAMS_PER_CONNECTION: usize = 250;
const FULL: &str = "too many streams are open for this caller; close one before opening another";

/// A client that speaks HTTP/2, so that a thousand streams need few connections.
#[derive(Clone)]
struct Http2Client {
    sender: SendRequest<String>,
    user: &'static str,
}

impl Http2Client {
    async fn connect(edge: &RunningEdge, user: &'static str) -> Self {
        let stream = TcpStream::connect(edge.client.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let io = TokioIo::new(stream);
        let (sender, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Self { sender, user }
    }

    async fn send(&mut self, message: &Value) -> http::Response<Incoming> {
        let mut message = message.clone();
        message["params"]["_meta"] = meta();
        let method = message["method"].as_str().unwrap().to_owned();
        let mut request = Request::post("http://localhost/mcp")
            .header("authorization", format!("Bearer {}", self.user))
            .header("content-type", "application/json")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", method);
        if let Some(name) = message["params"]["name"].as_str() {
            request = request.header("mcp-name", name);
        }
        let request = request.body(message.to_string()).unwrap();
        within_timeout(self.sender.send_request(request)).await.unwrap()
    }

    async fn listen(&mut self, number: usize) -> http::Response<Incoming> {
        let filter = json!({"notifications": {"toolsListChanged": true}});
        self.send(&request(number, "subscriptions/listen", filter)).await
    }
}

async fn json_of(response: http::Response<Incoming>) -> Value {
    let body = within_timeout(response.into_body().collect()).await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_streams_of_one_caller_leave_room_for_others() {
    let edge = start_with(FakeAuthenticator::new().policy());
    let session = open(&edge.client, "Bearer alice").await;
    let mut held = Vec::new();
    let mut refused = 0;
    let mut connection = Http2Client::connect(&edge, "alice").await;
    for number in 0..10_000 {
        if number > 0 && number <= STREAMS_PER_CALLER && number % STREAMS_PER_CONNECTION == 0 {
            connection = Http2Client::connect(&edge, "alice").await;
        }
        let response = connection.listen(number).await;
        if response.status() == StatusCode::OK {
            held.push((connection.clone(), response));
            continue;
        }
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        let answer = json_of(response).await;
        assert_eq!((&answer["id"], &answer["error"]["message"]), (&json!(number), &json!(FULL)));
        refused += 1;
    }
    assert_eq!((held.len(), refused), (STREAMS_PER_CALLER, 10_000 - STREAMS_PER_CALLER));
    // The standalone stream of a session counts towards the same limit.
    let named = [("authorization", "Bearer alice"), ("mcp-session-id", &*session)];
    let get = [named[0], named[1], ("accept", "text/event-stream")];
    let answer = edge.client.send(Method::GET, "/mcp", &get, "").await;
    assert_eq!((answer.status, &answer.json()["error"]["message"]), (429, &json!(FULL)));
    // Alice's calls still work, and so do the streams and calls of others.
    let answer = edge.client.post(&named, &call(1, "echo", json!({"of": "alice"}))).await;
    assert_eq!(answer.json()["result"]["echo"]["of"], "alice");
    let mut bob = Http2Client::connect(&edge, "bob").await;
    assert_eq!(bob.listen(1).await.status(), StatusCode::OK);
    let answer = json_of(bob.send(&call(2, "echo", json!({"of": "bob"}))).await).await;
    assert_eq!(answer["result"]["echo"]["of"], "bob");
    // A closed stream releases its slot.
    drop(held.pop());
    let mut again = Http2Client::connect(&edge, "alice").await;
    within_timeout(async {
        while again.listen(3).await.status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn open(client: &Client, authorization: &str) -> String {
    let message = crate::support::initialize("2025-11-25", json!({}));
    let answer = client.post(&[("authorization", authorization)], &message).await;
    answer.header("mcp-session-id").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn get_streams_of_many_sessions_share_the_callers_room() {
    let edge = start_with(FakeAuthenticator::new().policy());
    let mut statuses: HashMap<u16, usize> = HashMap::new();
    let mut held = Vec::new();
    let mut connection = Http2Client::connect(&edge, "alice").await;
    let mut session = String::new();
    for number in 0..STREAMS_PER_CALLER + 100 {
        if number > 0 && number % STREAMS_PER_CONNECTION == 0 && number <= STREAMS_PER_CALLER {
            connection = Http2Client::connect(&edge, "alice").await;
        }
        // Several sessions, so that the limit is the caller's and not a session's.
        if number % 100 == 0 {
            session = open(&edge.client, "Bearer alice").await;
        }
        let get = Request::get("http://localhost/mcp")
            .header("authorization", "Bearer alice")
            .header("accept", "text/event-stream")
            .header("mcp-session-id", &*session)
            .body(String::new())
            .unwrap();
        let response = within_timeout(connection.sender.send_request(get)).await.unwrap();
        *statuses.entry(response.status().as_u16()).or_default() += 1;
        if response.status() == StatusCode::OK {
            held.push((connection.clone(), response));
        }
    }
    assert_eq!(statuses, HashMap::from([(200, STREAMS_PER_CALLER), (429, 100)]));
}

#[tokio::test]
async fn an_identifier_in_use_twice_answers_each_request_with_its_own() {
    let edge = start();
    let client = edge.client;
    let session = client.session(json!({})).await;
    let started = ScriptedEvent::Started("gate".to_owned());
    let request = |of: &'static str| {
        let session = session.clone();
        tokio::spawn(async move {
            client.post(&[("mcp-session-id", &session)], &call("same", "gate", json!({"of": of}))).await
        })
    };
    let first = request("first");
    assert_eq!(edge.fake.next_event().await, started);
    let second = request("second");
    assert_eq!(edge.fake.next_event().await, started);
    edge.fake.gate.add_permits(2);
    for (asking, of) in [(first, "first"), (second, "second")] {
        let answer = asking.await.unwrap().json();
        assert_eq!((&answer["id"], &answer["result"]["echo"]["of"]), (&json!("same"), &json!(of)));
    }
    // Cancelling an identifier cancels every request with it, so that no request is left that cannot be
    // cancelled.
    let hang = |_| {
        let session = session.clone();
        tokio::spawn(async move {
            client.post(&[("mcp-session-id", &session)], &call("same", "hang", json!({}))).await
        })
    };
    let both = [0, 1].map(hang);
    for _ in 0..2 {
        assert_eq!(edge.fake.next_event().await, ScriptedEvent::Started("hang".to_owned()));
    }
    let cancelled =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "same"}});
    assert_eq!(client.post(&[("mcp-session-id", &session)], &cancelled).await.status, 202);
    for asking in both {
        assert_eq!(asking.await.unwrap().status, 202);
        assert_eq!(edge.fake.next_event().await, ScriptedEvent::Dropped("hang".to_owned()));
    }
}

#[tokio::test]
async fn a_flood_from_behind_is_cut_and_the_answer_arrives() {
    let edge = start();
    let mut message = call(1, "flood", json!({}));
    message["params"]["_meta"]["progressToken"] = json!("mine");
    message["params"]["_meta"]["io.modelcontextprotocol/logLevel"] = json!("debug");
    let mut stream = edge.client.ask_stream(&message).await;
    let mut received = 0;
    loop {
        let data = stream.data().await;
        if data["id"] == 1 {
            assert_eq!(data["result"]["echo"], json!({}));
            break;
        }
        let of_this_call = data["params"]["progressToken"] == "mine" || data["params"]["data"] == "noise";
        assert!(of_this_call, "{data}");
        received += 1;
    }
    assert!(
        (1..=64).contains(&received),
        "{received} of 200000 were kept for a client that had read nothing"
    );
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn what_belongs_to_this_hop_cannot_be_forged_from_behind() {
    let edge = start();
    let client = edge.client;
    let answer = client.ask(&call(1, "forge", json!({}))).await.json();
    let result = &answer["result"];
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "vmcp");
    assert_eq!((&result["resultType"], &result["_meta"]["own"]), (&json!("complete"), &json!(1)));
    assert!(!answer.to_string().contains("impostor"), "{answer}");
}

#[tokio::test]
async fn an_event_name_of_another_session_leads_only_to_ones_own_events() {
    let edge = start();
    let client = edge.client;
    let mut streams = Vec::new();
    for of in ["one", "two"] {
        let session = client.session(json!({"elicitation": {}})).await;
        let mut message = call(of, "ask", json!({}));
        message["params"]["_meta"]["progressToken"] = json!(of);
        let mut stream = client.stream(&[("mcp-session-id", &session)], &message).await;
        let question = stream.next().await.unwrap();
        streams.push((session, question, stream));
    }
    let (thief, own, own_stream) = streams.pop().unwrap();
    let (victim, other, _) = streams.pop().unwrap();
    // Both are the first event of their session; the event identifier does not name the session.
    assert_eq!(own.id, other.id);
    drop(own_stream);
    let id = other.id.unwrap();
    let mut resumed = client.get(&[("mcp-session-id", &thief), ("last-event-id", &id)]).await;
    let yes = |question: &Value, said: &str| json!({"jsonrpc": "2.0", "id": question["id"], "result": {"said": said}});
    let victims = yes(&other.data, "victim");
    assert_eq!(client.post(&[("mcp-session-id", &victim)], &victims).await.status, 202);
    let thiefs = yes(&own.data, "thief");
    assert_eq!(client.post(&[("mcp-session-id", &thief)], &thiefs).await.status, 202);
    let result = resumed.data().await;
    assert_eq!((&result["id"], &result["result"]["said"]["said"]), (&json!("two"), &json!("thief")));
    assert!(resumed.next().await.is_none());
}
