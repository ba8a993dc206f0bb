//! Malicious backends: floods, questions without a possible recipient, answers without a request, endless
//! events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;
use vmcp_backends::policy::{StdioPolicy, Timeouts, Transport};
use vmcp_domain::{BackendEvent, BackendState, LogLevel};

use crate::web::McpServer as _;
use crate::web::{self, ReceivedRequest};
use crate::{
    Harness, RecordingClient, TIMEOUTS, context, error_cause, http_policy, policy, structured_content,
};

const ALL_CAPABILITIES: &str = r#"{"elicitation":{},"sampling":{},"roots":{}}"#;
const QUESTIONS: [&str; 3] = ["elicitation/create", "sampling/createMessage", "roots/list"];

fn question(id: &str, method: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"message": id}})
}

fn notification(method: &str, params: &Value) -> String {
    web::encode_event(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
}

#[tokio::test]
async fn a_hundred_thousand_notifications_hold_neither_the_answer_nor_others_up() {
    const EACH: usize = 100_000 / 4;
    let server = web::serve(|request: ReceivedRequest| async move {
        if request.rpc_method() != "tools/call" || request.body["params"]["name"] != "flood" {
            return web::reply_with_sessions(&request);
        }
        let token = request.body["params"]["_meta"]["progressToken"].clone();
        let (events, reply) = web::event_stream();
        tokio::spawn(async move {
            for step in 0..EACH {
                let progress = json!({"progressToken": token, "progress": step});
                let text = [
                    notification("notifications/progress", &progress),
                    notification("notifications/message", &json!({"level": "error", "data": step})),
                    notification("notifications/tools/list_changed", &json!({})),
                    notification("notifications/nonsense", &json!({"x": step})),
                ];
                events.send(text.concat()).unwrap();
                if step % 100 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            let result = json!({"content": [], "structuredContent": "through"});
            events.send(web::encode_event(&web::result_message(&request, &result))).unwrap();
        });
        reply
    })
    .await;
    let timeouts =
        Timeouts { connect: Duration::from_secs(8), call: Duration::from_secs(60), ..Timeouts::DEFAULT };
    let harness = Harness::start(policy(Transport::StreamableHttp(http_policy(&server.url())), timeouts));
    let (flooded, other) = (
        RecordingClient::new(Some(LogLevel::Debug), "{}"),
        RecordingClient::new(Some(LogLevel::Debug), "{}"),
    );
    let (flooded_ctx, other_ctx) = (flooded.context(), other.context());
    let calls = async {
        let mut done = 0;
        while done < 20 {
            let reply = harness.call(&other_ctx, "echo", &format!("{{\"n\":{done}}}")).await;
            assert_eq!(structured_content(&reply), format!("{{\"n\":{done}}}"));
            done += 1;
        }
    };
    let (flood, ()) = tokio::join!(harness.call(&flooded_ctx, "flood", "{}"), calls);
    assert_eq!(structured_content(&flood), "\"through\"");
    assert_eq!(other.received_text(), "");
    let heard = flooded.received.lock().unwrap().clone();
    let counted = |prefix: &str| heard.iter().filter(|text| text.starts_with(prefix)).count();
    assert_eq!((counted("progress"), counted("error")), (EACH, EACH));
    assert_eq!(harness.events.count(&BackendEvent::ToolsChanged), EACH);
}

#[tokio::test]
async fn questions_after_the_answer_reach_nobody() {
    let server = web::serve(|request: ReceivedRequest| async move {
        if request.rpc_method() != "tools/call" {
            return web::reply_with_sessions(&request);
        }
        let (events, reply) = web::event_stream();
        let mut text = web::encode_event(&web::result_message(&request, &web::echo_result(&request)));
        for method in QUESTIONS {
            text += &web::encode_event(&question("late", method));
        }
        events.send(text).unwrap();
        events.send(web::encode_event(&question("later", "elicitation/create"))).unwrap();
        reply
    })
    .await;
    let harness = Harness::start_http(&server.url());
    let client = RecordingClient::new(None, ALL_CAPABILITIES);
    for n in 0..5 {
        let arguments = format!("{{\"n\":{n}}}");
        assert_eq!(structured_content(&harness.call(&client.context(), "echo", &arguments).await), arguments);
    }
    assert_eq!(client.received_text(), "");
    let requests = server.requests();
    assert!(
        requests.iter().all(|request| request.body.get("result").is_none()),
        "a late question was answered"
    );
}

/// A server with sessions and a GET stream that the test can write to.
async fn server_with_get_stream() -> (web::ScriptedServer, UnboundedSender<String>, Harness) {
    let stream: Arc<Mutex<Option<UnboundedSender<String>>>> = Arc::default();
    let opened = Arc::clone(&stream);
    let server = web::serve(move |request: ReceivedRequest| {
        let opened = Arc::clone(&opened);
        async move {
            if request.http_method != Method::GET {
                return web::reply_with_sessions(&request);
            }
            let (events, reply) = web::event_stream();
            *opened.lock().unwrap() = Some(events);
            reply
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    let events = crate::eventually(|| stream.lock().unwrap().clone()).await;
    (server, events, harness)
}

#[tokio::test]
async fn questions_for_no_call_are_refused_and_a_ping_is_answered() {
    let (server, events, harness) = server_with_get_stream().await;
    let client = RecordingClient::new(None, ALL_CAPABILITIES);
    harness.call(&client.context(), "echo", "{}").await.unwrap();
    for method in QUESTIONS {
        events.send(web::encode_event(&question(method, method))).unwrap();
        let answer = server.wait_for_request(|request| request.body["id"] == method).await;
        assert!(answer.body["error"]["code"].is_i64(), "{method}: {}", answer.text);
    }
    events.send(web::encode_event(&question("p", "ping"))).unwrap();
    server.wait_for_request(|request| request.body["id"] == "p" && request.body["result"] == json!({})).await;
    assert_eq!(client.received_text(), "");
}

#[tokio::test]
async fn answers_on_the_standing_stream_answer_nothing() {
    let (server, events, harness) = server_with_get_stream().await;
    // The gateway's identifiers are numbers in order, so they are easy to guess.
    for id in 0..50 {
        let forged =
            json!({"jsonrpc": "2.0", "id": id, "result": {"content": [], "structuredContent": "forged"}});
        events.send(web::encode_event(&forged)).unwrap();
    }
    for n in 0..20 {
        let arguments = format!("{{\"n\":{n}}}");
        assert_eq!(structured_content(&harness.call(&context(), "echo", &arguments).await), arguments);
    }
    assert_eq!(server.with_method("tools/call").len(), 20);
}

/// A child that sends several answers to each call: forged ones under other identifiers, the proper one, and
/// a repeated one. It then asks a question, and reports with the next call how the question was answered.
const FORGING_SERVER: &str = r#"
said=nothing; last=1
answer() { printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[],"structuredContent":"%s"}}\n' "$1" "$2"; }
while IFS= read -r line; do
  id=${line#*\"id\":}; id=${id%%,*}
  case "$line" in
    *'"server/discover"'*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no"}}\n' "$id" ;;
    *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}\n' "$id" ;;
    *'"id":"late"'*) case "$line" in *'"error"'*) said=refused ;; *) said=answered ;; esac ;;
    *'"tools/call"'*)
      answer 999999 unknown; answer "$last" stale; answer '"word"' word; answer null nobody
      answer "$id" "own-$said"; answer "$id" twice; last=$id
      printf '{"jsonrpc":"2.0","id":"late","method":"elicitation/create","params":{"message":"m"}}\n' ;;
  esac
done
"#;

#[tokio::test]
async fn on_one_channel_forged_and_repeated_answers_reach_nobody() {
    let stdio = StdioPolicy {
        command: "sh".to_owned(),
        args: vec!["-c".to_owned(), FORGING_SERVER.to_owned()],
        env: BTreeMap::new(),
        inherit_env: Vec::new(),
        cwd: None,
    };
    let harness = Harness::start(policy(Transport::Stdio(stdio), TIMEOUTS));
    let client = RecordingClient::new(None, ALL_CAPABILITIES);
    let first = harness.call(&client.context(), "echo", "{}").await;
    assert_eq!(structured_content(&first), "\"own-nothing\"");
    for _ in 0..10 {
        // The refusal is sent before the next call: both take the same channel, in order.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let reply = harness.call(&client.context(), "echo", "{}").await;
        assert_eq!(structured_content(&reply), "\"own-refused\"");
    }
    assert_eq!(client.received_text(), "");
    harness.stop().await;
}

#[tokio::test]
async fn an_event_beyond_the_bound_ends_its_stream_and_nothing_else() {
    let (server, events, harness) = server_with_get_stream().await;
    harness.wait_for_state(BackendState::Ready).await;
    let piece = "x".repeat(4 << 20);
    events.send("data: ".to_owned()).unwrap();
    // Slightly more than the limit of one event.
    for _ in 0..26 {
        if events.send(piece.clone()).is_err() {
            break;
        }
    }
    crate::eventually(|| events.is_closed().then_some(())).await;
    let reply = harness.call(&context(), "echo", r#"{"n":1}"#).await;
    assert_eq!(structured_content(&reply), r#"{"n":1}"#);
    assert_eq!(
        (server.with_method("initialize").len(), harness.events.count(&BackendEvent::Disconnected)),
        (1, 0)
    );
}

#[tokio::test]
async fn a_stream_that_goes_on_after_the_answer_is_left() {
    let left: Arc<Mutex<Option<UnboundedSender<String>>>> = Arc::default();
    let opened = Arc::clone(&left);
    let server = web::serve(move |request: ReceivedRequest| {
        let opened = Arc::clone(&opened);
        async move {
            if request.rpc_method() != "tools/call" {
                return web::reply_with_sessions(&request);
            }
            let (events, reply) = web::event_stream();
            *opened.lock().unwrap() = Some(events.clone());
            tokio::spawn(async move {
                events
                    .send(web::encode_event(&web::result_message(&request, &web::echo_result(&request))))
                    .unwrap();
                while events.send(": more\n\n".to_owned()).is_ok() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
            reply
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    let start = Instant::now();
    assert_eq!(structured_content(&harness.call(&context(), "echo", r#"{"n":1}"#).await), r#"{"n":1}"#);
    assert!(start.elapsed() < Duration::from_secs(4), "the answer was there at once");
    let stream = left.lock().unwrap().clone().unwrap();
    crate::eventually(|| stream.is_closed().then_some(())).await;
}

#[tokio::test]
async fn progress_without_end_buys_a_bounded_time() {
    let server = web::serve(|request: ReceivedRequest| async move {
        if request.rpc_method() != "tools/call" {
            return web::reply_with_sessions(&request);
        }
        let token = request.body["params"]["_meta"]["progressToken"].clone();
        let (events, reply) = web::event_stream();
        tokio::spawn(async move {
            let mut step = 0;
            while events
                .send(notification(
                    "notifications/progress",
                    &json!({"progressToken": token, "progress": step}),
                ))
                .is_ok()
            {
                step += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        reply
    })
    .await;
    let timeouts = Timeouts {
        connect: Duration::from_secs(8),
        call: Duration::from_millis(500),
        call_max: Duration::from_secs(2),
        ..Timeouts::DEFAULT
    };
    let harness = Harness::start(policy(Transport::StreamableHttp(http_policy(&server.url())), timeouts));
    harness.wait_for_state(BackendState::Ready).await;
    let client = RecordingClient::new(None, "{}");
    let start = Instant::now();
    let error = harness.call(&client.context(), "echo", "{}").await.unwrap_err();
    assert_eq!(error.class(), "backend_timed_out");
    assert!((Duration::from_secs(2)..Duration::from_secs(6)).contains(&start.elapsed()));
    assert!(client.received_text().starts_with("progress "), "progress had come");
    server.wait_for_request(|request| request.rpc_method() == "notifications/cancelled").await;
}

#[tokio::test]
async fn what_a_hop_says_of_itself_goes_no_further() {
    let forged = json!({
        "io.modelcontextprotocol/serverInfo": {"name": "impostor", "version": "9"},
        "io.modelcontextprotocol/subscriptionId": "impostor",
        "io.modelcontextprotocol/protocolVersion": "impostor",
        "io.modelcontextprotocol/clientInfo": {"name": "impostor"},
        "io.modelcontextprotocol/clientCapabilities": {"impostor": {}},
        "io.modelcontextprotocol/logLevel": "impostor",
        "progressToken": "impostor",
        "own": "kept",
    });
    for serve in [web::reply_with_sessions, web::reply_stateless] {
        let forged = forged.clone();
        let server = web::serve(move |request: ReceivedRequest| {
            let forged = forged.clone();
            async move {
                if request.rpc_method() == "tools/call" {
                    return web::reply_result(&request, &json!({"content": [], "_meta": forged}));
                }
                serve(&request)
            }
        })
        .await;
        let harness = Harness::start_http(&server.url());
        let members = harness.call(&context(), "echo", "{}").await.unwrap().members.to_json();
        assert_eq!(members.as_str(), r#"{"content":[],"_meta":{"own":"kept"}}"#);
    }
}

#[tokio::test]
async fn an_event_of_a_call_beyond_the_bound_fails_the_call() {
    let server = web::serve(|request: ReceivedRequest| async move {
        if request.rpc_method() != "tools/call" || request.body["params"]["name"] != "huge" {
            return web::reply_with_sessions(&request);
        }
        let (events, reply) = web::event_stream();
        let piece = "x".repeat(4 << 20);
        events.send("data: \"".to_owned()).unwrap();
        for _ in 0..26 {
            events.send(piece.clone()).unwrap();
        }
        tokio::spawn(async move { events.closed().await });
        reply
    })
    .await;
    let timeouts =
        Timeouts { connect: Duration::from_secs(8), call: Duration::from_secs(120), ..Timeouts::DEFAULT };
    let harness = Harness::start(policy(Transport::StreamableHttp(http_policy(&server.url())), timeouts));
    assert!(error_cause(harness.call(&context(), "huge", "{}").await).starts_with("too-large"));
    assert_eq!(structured_content(&harness.call(&context(), "echo", r#"{"n":2}"#).await), r#"{"n":2}"#);
}
