//! Tests of HTTP+SSE.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::sync::mpsc::UnboundedSender;
use vmcp_backends::policy::Transport;
use vmcp_domain::{BackendEvent, BackendState};

use crate::web::McpServer as _;
use crate::web::{self, ReceivedRequest};
use crate::{Harness, RecordingClient, TIMEOUTS, context, http_policy, policy, structured_content};

type Streams = Arc<Mutex<Vec<UnboundedSender<String>>>>;

/// A server that announces `address` on its stream. Messages posted there are answered on the stream.
async fn sse_server(address: &'static str) -> (web::ScriptedServer, Streams) {
    let streams: Streams = Arc::default();
    let opened = Arc::clone(&streams);
    let server = web::serve(move |request: ReceivedRequest| {
        let opened = Arc::clone(&opened);
        async move {
            if request.http_method == Method::GET {
                let (events, reply) = web::event_stream();
                events.send(format!("event: endpoint\ndata: {address}\n\n")).unwrap();
                opened.lock().unwrap().push(events);
                return reply;
            }
            let stream = opened.lock().unwrap().last().cloned().unwrap();
            match request.rpc_method() {
                "initialize" => {
                    let result = json!({"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}});
                    stream.send(web::encode_event(&web::result_message(&request, &result))).unwrap();
                }
                "tools/call" => {
                    let n = request.body["params"]["arguments"]["n"].as_u64().unwrap_or_default();
                    let answer =
                        web::encode_event(&web::result_message(&request, &web::echo_result(&request)));
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis((n * 7) % 23)).await;
                        let _ = stream.send(answer);
                    });
                }
                "tools/hang" => {}
                _ => {}
            }
            web::reply_empty(202)
        }
    })
    .await;
    (server, streams)
}

fn sse_rig(server: &web::ScriptedServer) -> Harness {
    Harness::start(policy(Transport::Sse(http_policy(&server.url())), TIMEOUTS))
}

#[tokio::test]
async fn answers_on_the_stream_find_their_calls() {
    let (server, _streams) = sse_server("/messages?session=1").await;
    let harness = sse_rig(&server);
    let ctx = context();
    let calls = (0..100).map(|n| {
        let (harness, ctx) = (&harness, &ctx);
        async move { structured_content(&harness.call(ctx, "echo", &format!("{{\"n\":{n}}}")).await) }
    });
    for (n, found) in futures_util::future::join_all(calls).await.into_iter().enumerate() {
        assert_eq!(found, format!("{{\"n\":{n}}}"));
    }
    assert_eq!(harness.protocol(), "2024-11-05");
    assert_eq!(server.with_method("tools/call")[0].path, "/messages?session=1");
    assert!(server.with_method("server/discover").is_empty());
}

#[tokio::test]
async fn questions_go_to_the_only_call_under_way() {
    let (server, streams) = sse_server("/messages").await;
    let harness = sse_rig(&server);
    let client = RecordingClient::new(None, r#"{"elicitation":{}}"#);
    let ctx = client.context();
    let call = harness.call(&ctx, "echo", "{\"n\":3}");
    let ask = async {
        server.wait_for_request(|request| request.rpc_method() == "tools/call").await;
        let question = json!({"jsonrpc": "2.0", "id": 77, "method": "elicitation/create", "params": {}});
        streams.lock().unwrap()[0].send(web::encode_event(&question)).unwrap();
    };
    let (reply, ()) = tokio::join!(call, ask);
    reply.unwrap();
    let answer = server.wait_for_request(|request| request.body["id"] == 77).await;
    // The question arrived in time, or after the answer; in that case there is no client to ask.
    assert!(answer.body["result"] == "elicitation" || answer.body["error"]["code"] == -32603);
}

#[tokio::test]
async fn a_stream_that_ends_is_opened_again() {
    let (server, streams) = sse_server("/messages").await;
    let harness = sse_rig(&server);
    harness.wait_for_state(BackendState::Ready).await;
    streams.lock().unwrap().clear();
    harness.events.wait_for_events(&BackendEvent::Disconnected, 1).await;
    harness.events.wait_for_events(&BackendEvent::Connected, 2).await;
    harness.call(&context(), "echo", "{}").await.unwrap();
}

#[tokio::test]
async fn an_address_elsewhere_is_refused() {
    let (server, _streams) = sse_server("http://127.0.0.1:1/messages").await;
    let harness = sse_rig(&server);
    harness.wait_for_state(BackendState::Unavailable).await;
    assert_eq!(harness.backend.status().last_error, Some("redirect"));
}
