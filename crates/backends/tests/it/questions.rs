//! What a backend asks during a call, and which client answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use vmcp_backends::policy::{StdioPolicy, Transport};
use vmcp_domain::{BackendState, ClientHandle};

use crate::web::McpServer as _;
use crate::web::{self, ReceivedRequest};
use crate::{Harness, RecordingClient, TIMEOUTS, known_caller, policy, structured_content};

/// A server that asks each of `questions` on the stream of a call, and answers the call with the answers that
/// it received.
async fn asking_server(questions: Vec<Value>) -> web::ScriptedServer {
    let (answers, receiver) = mpsc::unbounded_channel::<Value>();
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    web::serve(move |request: ReceivedRequest| {
        let (questions, answers, receiver) = (questions.clone(), answers.clone(), Arc::clone(&receiver));
        async move {
            if request.body.get("method").is_none() && request.body.get("id").is_some() {
                answers.send(request.body.clone()).unwrap();
            }
            if request.rpc_method() != "tools/call" {
                return web::reply_with_sessions(&request);
            }
            let (events, reply) = web::event_stream();
            tokio::spawn(async move {
                let mut heard = Vec::new();
                for question in questions {
                    events.send(web::encode_event(&question)).unwrap();
                    heard.push(receiver.lock().await.recv().await.unwrap());
                }
                let result = json!({"content": [], "structuredContent": heard});
                events.send(web::encode_event(&web::result_message(&request, &result))).unwrap();
            });
            reply
        }
    })
    .await
}

fn server_request(id: Value, method: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"for": method}})
}

#[tokio::test]
async fn questions_reach_the_client_of_their_call() {
    let server = asking_server(vec![
        server_request(json!("q-1"), "elicitation/create"),
        server_request(json!(2), "sampling/createMessage"),
        server_request(json!(3), "ping"),
        server_request(json!(4), "tasks/list"),
    ])
    .await;
    let harness = Harness::start_http(&server.url());
    let client = RecordingClient::new(None, r#"{"elicitation":{}}"#);
    let reply = harness.call(&client.context(), "echo", "{}").await;
    let heard: Value = serde_json::from_str(&structured_content(&reply)).unwrap();
    assert_eq!(heard[0], json!({"jsonrpc": "2.0", "id": "q-1", "result": "elicitation"}));
    assert_eq!(heard[1]["id"], 2);
    assert_eq!(heard[1]["error"]["code"], -32601);
    assert_eq!(heard[2], json!({"jsonrpc": "2.0", "id": 3, "result": {}}));
    assert_eq!(heard[3]["error"]["code"], -32601);
    assert_eq!(
        client.received_text(),
        r#"asked {"for":"elicitation/create"}; asked {"for":"sampling/createMessage"}"#
    );
}

#[tokio::test]
async fn calls_do_not_hear_each_other_s_questions() {
    let server = asking_server(vec![server_request(json!(1), "elicitation/create")]).await;
    let harness = Harness::start_http(&server.url());
    let clients: Vec<_> = (0..20).map(|_| RecordingClient::new(None, r#"{"elicitation":{}}"#)).collect();
    let calls = clients.iter().map(|client| {
        let harness = &harness;
        async move { harness.call(&client.context(), "echo", "{}").await.map(drop) }
    });
    for outcome in futures_util::future::join_all(calls).await {
        outcome.unwrap();
    }
    for client in clients {
        assert_eq!(client.received_text(), r#"asked {"for":"elicitation/create"}"#);
    }
}

/// A child that asks on its one channel during every call, and answers the call with the answer that it
/// received. It answers the first call only after `hold` calls have arrived.
const ASKING_SERVER: &str = r#"
hold=HOLD; ids=""; count=0
while IFS= read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    *'"server/discover"'*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no"}}\n' "$id" ;;
    *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}\n' "$id" ;;
    *'"tools/call"'*) count=$((count + 1)); ids="$ids $id"
      if [ $count -ge $hold ]; then for one in $ids; do printf '{"jsonrpc":"2.0","id":"q%s","method":"elicitation/create","params":{"message":"m"}}\n' "$one"; done; ids=""; hold=1; fi ;;
    *'"id":"q'*) one=$(printf '%s' "$line" | sed -n 's/.*"id":"q\([0-9]*\)".*/\1/p')
      case "$line" in *'"error"'*) said=refused ;; *) said=answered ;; esac
      printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[],"structuredContent":"%s"}}\n' "$one" "$said" ;;
  esac
done
"#;

fn asking_rig(hold: usize) -> Harness {
    let script = ASKING_SERVER.replace("HOLD", &hold.to_string());
    let stdio = StdioPolicy {
        command: "sh".to_owned(),
        args: vec!["-c".to_owned(), script],
        env: BTreeMap::new(),
        inherit_env: Vec::new(),
        cwd: None,
    };
    Harness::start(policy(Transport::Stdio(stdio), TIMEOUTS))
}

const WITH_ELICITATION: &str = r#"{"elicitation":{}}"#;

#[tokio::test]
async fn a_question_is_refused_while_a_client_that_cannot_be_asked_has_a_call() {
    let harness = asking_rig(2);
    let (able, unable) = (RecordingClient::new(None, WITH_ELICITATION), RecordingClient::new(None, "{}"));
    let (able_ctx, unable_ctx) = (able.context(), unable.context());
    let (one, other) =
        tokio::join!(harness.call(&able_ctx, "echo", "{}"), harness.call(&unable_ctx, "echo", "{}"));
    assert_eq!(
        (structured_content(&one), structured_content(&other)),
        ("\"refused\"".to_owned(), "\"refused\"".to_owned())
    );
    assert_eq!((able.received_text(), unable.received_text()), (String::new(), String::new()));
    // Alone again, the client that can be asked is asked.
    assert_eq!(structured_content(&harness.call(&able_ctx, "echo", "{}").await), "\"answered\"");
}

/// A child that asks about the first call once the second has arrived, regardless of cancellations.
const LATE_ASKING_SERVER: &str = r#"
first=""
while IFS= read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    *'"server/discover"'*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no"}}\n' "$id" ;;
    *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}\n' "$id" ;;
    *'"tools/call"'*) if [ -z "$first" ]; then first=$id; else second=$id
      printf '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"of the first"}}\n'
      printf '{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"of the first"}}\n'; fi ;;
    *'"id":"q"'*)
      case "$line" in *'"error"'*) said=refused ;; *) said=answered ;; esac
      printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[],"structuredContent":"%s"}}\n' "$second" "$said" ;;
  esac
done
"#;

fn late_asking_rig() -> Harness {
    let args = vec!["-c".to_owned(), LATE_ASKING_SERVER.to_owned()];
    let stdio = StdioPolicy {
        command: "sh".to_owned(),
        args,
        env: BTreeMap::new(),
        inherit_env: Vec::new(),
        cwd: None,
    };
    Harness::start(policy(Transport::Stdio(stdio), TIMEOUTS))
}

#[tokio::test]
async fn what_is_said_of_a_cancelled_call_reaches_no_other_client() {
    let lives = [ClientHandle::default(), ClientHandle::default()];
    let [gone, other] =
        [0, 1].map(|index: usize| RecordingClient::with_key(lives[index].key(), WITH_ELICITATION));
    let harness = late_asking_rig();
    harness.wait_for_state(BackendState::Ready).await;
    let gone_ctx = gone.context();
    let cancelled = tokio::time::timeout(Duration::from_millis(200), harness.call(&gone_ctx, "echo", "{}"));
    cancelled.await.unwrap_err();
    assert_eq!(structured_content(&harness.call(&other.context(), "echo", "{}").await), "\"refused\"");
    assert_eq!((gone.received_text(), other.received_text()), (String::new(), String::new()));
}

#[tokio::test]
async fn what_is_said_of_a_cancelled_call_may_reach_its_own_client() {
    let life = ClientHandle::default();
    let client = RecordingClient::with_key(life.key(), WITH_ELICITATION);
    let harness = late_asking_rig();
    harness.wait_for_state(BackendState::Ready).await;
    let ctx = client.context();
    let cancelled = tokio::time::timeout(Duration::from_millis(200), harness.call(&ctx, "echo", "{}"));
    cancelled.await.unwrap_err();
    assert_eq!(structured_content(&harness.call(&ctx, "echo", "{}").await), "\"answered\"");
}

#[tokio::test]
async fn on_one_channel_calls_of_one_client_may_be_asked_together() {
    let harness = asking_rig(3);
    let life = ClientHandle::default();
    let client = RecordingClient::with_key(life.key(), WITH_ELICITATION);
    let contexts = [client.context(), client.context(), client.context()];
    let calls = contexts.iter().map(|ctx| harness.call(ctx, "echo", "{}"));
    for reply in futures_util::future::join_all(calls).await {
        assert_eq!(structured_content(&reply), "\"answered\"");
    }
}

#[tokio::test]
async fn a_question_that_could_be_anybodys_is_refused_and_then_calls_of_one_user_take_turns() {
    let harness = asking_rig(2);
    let lives = [ClientHandle::default(), ClientHandle::default()];
    let clients = [0, 1].map(|index: usize| RecordingClient::with_key(lives[index].key(), WITH_ELICITATION));
    let contexts = [0, 1].map(|index: usize| {
        let mut ctx = clients[index].context();
        ctx.caller = known_caller("ann");
        ctx
    });
    let both = || futures_util::future::join_all(contexts.iter().map(|ctx| harness.call(ctx, "echo", "{}")));
    for reply in both().await {
        assert_eq!(structured_content(&reply), "\"refused\"");
    }
    for client in &clients {
        assert_eq!(client.received_text(), "");
    }
    for _ in 0..5 {
        for reply in both().await {
            assert_eq!(structured_content(&reply), "\"answered\"");
        }
    }
    for client in &clients {
        assert_eq!(client.received.lock().unwrap().len(), 5);
    }
}

#[tokio::test]
async fn after_an_unclear_question_one_users_slow_call_does_not_hold_up_another_user() {
    let harness = asking_rig(2);
    let clients = ["ann", "bob"].map(|name| {
        let mut ctx = RecordingClient::new(None, WITH_ELICITATION).context();
        ctx.caller = known_caller(name);
        ctx
    });
    let both = || futures_util::future::join_all(clients.iter().map(|ctx| harness.call(ctx, "echo", "{}")));
    for reply in both().await {
        assert_eq!(structured_content(&reply), "\"refused\"");
    }
    // Now ann's call is asked and its client does not answer. The question of bob's call is refused, and that
    // call ends.
    let mut silent = RecordingClient::unresponsive(WITH_ELICITATION).context();
    silent.caller = known_caller("ann");
    let held = harness.call(&silent, "echo", "{}");
    tokio::pin!(held);
    let poll = tokio::time::timeout(Duration::from_millis(200), &mut held);
    poll.await.unwrap_err();
    assert_eq!(structured_content(&harness.call(&clients[1], "echo", "{}").await), "\"refused\"");
}

/// A server that sends a URL elicitation during a call of `ask`, and refuses `refuse` until a page is
/// visited. On the stream of any other call it reports that every page has been visited.
async fn url_elicitation_server() -> web::ScriptedServer {
    let (answers, receiver) = mpsc::unbounded_channel::<()>();
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    web::serve(move |request: ReceivedRequest| {
        let (answers, receiver) = (answers.clone(), Arc::clone(&receiver));
        async move {
            if request.body.get("method").is_none() && request.body.get("id").is_some() {
                answers.send(()).unwrap();
            }
            if request.rpc_method() != "tools/call" {
                return web::reply_with_sessions(&request);
            }
            let page =
                |id: &str| json!({"mode": "url", "elicitationId": id, "url": "https://a/b", "message": "m"});
            let (events, reply) = web::event_stream();
            tokio::spawn(async move {
                let done = web::encode_event(&web::result_message(&request, &json!({"content": []})));
                let last = match request.body["params"]["name"].as_str().unwrap() {
                    "ask" => {
                        let mut question = server_request(json!("q"), "elicitation/create");
                        question["params"] = page("asked");
                        events.send(web::encode_event(&question)).unwrap();
                        receiver.lock().await.recv().await.unwrap();
                        done
                    }
                    "refuse" => web::encode_event(&json!({"jsonrpc": "2.0", "id": request.body["id"], "error": {
                        "code": -32042, "message": "visit first", "data": {"elicitations": [page("refused")]},
                    }})),
                    _ => {
                        for id in ["refused", "strange", "asked", "asked"] {
                            let method = "notifications/elicitation/complete";
                            let params = json!({"elicitationId": id});
                            let notice = json!({"jsonrpc": "2.0", "method": method, "params": params});
                            events.send(web::encode_event(&notice)).unwrap();
                        }
                        done
                    }
                };
                events.send(last).unwrap();
            });
            reply
        }
    })
    .await
}

#[tokio::test]
async fn a_visited_page_is_told_to_whom_it_was_shown_and_once() {
    let server = url_elicitation_server().await;
    let harness = Harness::start_http(&server.url());
    let lives = [ClientHandle::default(), ClientHandle::default(), ClientHandle::default()];
    let [asked, refused, other] = [0, 1, 2]
        .map(|index: usize| RecordingClient::with_key(lives[index].key(), r#"{"elicitation":{"url":{}}}"#));
    let session = |client: &Arc<RecordingClient>| {
        let mut ctx = client.context();
        ctx.protocol = vmcp_domain::ProtocolVersion::V2025_11_25;
        ctx
    };
    harness.call(&session(&asked), "ask", "{}").await.unwrap();
    harness.call(&session(&refused), "refuse", "{}").await.unwrap_err();
    harness.call(&session(&other), "tell", "{}").await.unwrap();
    let told = |id: &str| format!(r#"visited {{"elicitationId":"{id}"}}"#);
    assert!(asked.received_text().ends_with(&told("asked")), "{}", asked.received_text());
    assert_eq!(asked.received_text().matches("visited").count(), 1);
    assert_eq!(refused.received_text(), told("refused"));
    assert_eq!(other.received_text(), "");
}
