//! HTTP+SSE.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::sync::mpsc::UnboundedSender;
use vmcp_backends::policy::Transport;
use vmcp_domain::{BackendEvent, BackendState};

use crate::web::{self, Hit};
use crate::{Client, Rig, TIMEOUTS, context, http, policy, structured};

type Streams = Arc<Mutex<Vec<UnboundedSender<String>>>>;

/// A server whose stream names `address`; messages posted there are answered on the stream.
async fn server(address: &'static str) -> (web::Web, Streams) {
    let streams: Streams = Arc::default();
    let opened = Arc::clone(&streams);
    let server = web::serve(move |hit: Hit| {
        let opened = Arc::clone(&opened);
        async move {
            if hit.verb == Method::GET {
                let (events, reply) = web::events();
                events.send(format!("event: endpoint\ndata: {address}\n\n")).unwrap();
                opened.lock().unwrap().push(events);
                return reply;
            }
            let stream = opened.lock().unwrap().last().cloned().unwrap();
            match hit.method() {
                "initialize" => {
                    let result = json!({"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}});
                    stream.send(web::event(&web::answer(&hit, &result))).unwrap();
                }
                "tools/call" => {
                    let n = hit.body["params"]["arguments"]["n"].as_u64().unwrap_or_default();
                    let answer = web::event(&web::answer(&hit, &web::echoed(&hit)));
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis((n * 7) % 23)).await;
                        let _ = stream.send(answer);
                    });
                }
                "tools/hang" => {}
                _ => {}
            }
            web::empty(202)
        }
    })
    .await;
    (server, streams)
}

fn rig(server: &web::Web) -> Rig {
    Rig::start(policy(Transport::Sse(http(&server.url())), TIMEOUTS))
}

#[tokio::test]
async fn answers_on_the_stream_find_their_calls() {
    let (server, _streams) = server("/messages?session=1").await;
    let rig = rig(&server);
    let ctx = context();
    let calls = (0..100).map(|n| {
        let (rig, ctx) = (&rig, &ctx);
        async move { structured(&rig.call(ctx, "echo", &format!("{{\"n\":{n}}}")).await) }
    });
    for (n, found) in futures_util::future::join_all(calls).await.into_iter().enumerate() {
        assert_eq!(found, format!("{{\"n\":{n}}}"));
    }
    assert_eq!(rig.protocol(), "2024-11-05");
    assert_eq!(server.with_method("tools/call")[0].path, "/messages?session=1");
    assert!(server.with_method("server/discover").is_empty());
}

#[tokio::test]
async fn questions_go_to_the_only_call_under_way() {
    let (server, streams) = server("/messages").await;
    let rig = rig(&server);
    let client = Client::new(None, r#"{"elicitation":{}}"#);
    let ctx = client.context();
    let call = rig.call(&ctx, "echo", "{\"n\":3}");
    let ask = async {
        server.until(|hit| hit.method() == "tools/call").await;
        let question = json!({"jsonrpc": "2.0", "id": 77, "method": "elicitation/create", "params": {}});
        streams.lock().unwrap()[0].send(web::event(&question)).unwrap();
    };
    let (reply, ()) = tokio::join!(call, ask);
    reply.unwrap();
    let answer = server.until(|hit| hit.body["id"] == 77).await;
    // The question came in time, or after the answer; then there is nobody to ask.
    assert!(answer.body["result"] == "elicitation" || answer.body["error"]["code"] == -32603);
}

#[tokio::test]
async fn a_stream_that_ends_is_opened_again() {
    let (server, streams) = server("/messages").await;
    let rig = rig(&server);
    rig.until(BackendState::Ready).await;
    streams.lock().unwrap().clear();
    rig.ear.until(&BackendEvent::Lost, 1).await;
    rig.ear.until(&BackendEvent::Connected, 2).await;
    rig.call(&context(), "echo", "{}").await.unwrap();
}

#[tokio::test]
async fn an_address_elsewhere_is_refused() {
    let (server, _streams) = server("http://127.0.0.1:1/messages").await;
    let rig = rig(&server);
    rig.until(BackendState::Unavailable).await;
    assert_eq!(rig.backend.status().last_error, Some("redirect"));
}
