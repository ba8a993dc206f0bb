//! What a backend asks during a call, and who answers.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::web::{self, Hit};
use crate::{Client, Rig, structured};

/// A server that asks each of `questions` on the stream of a call, and answers the call with what it was answered.
async fn asking(questions: Vec<Value>) -> web::Web {
    let (answers, receiver) = mpsc::unbounded_channel::<Value>();
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    web::serve(move |hit: Hit| {
        let (questions, answers, receiver) = (questions.clone(), answers.clone(), Arc::clone(&receiver));
        async move {
            if hit.body.get("method").is_none() && hit.body.get("id").is_some() {
                answers.send(hit.body.clone()).unwrap();
            }
            if hit.method() != "tools/call" {
                return web::session(&hit);
            }
            let (events, reply) = web::events();
            tokio::spawn(async move {
                let mut heard = Vec::new();
                for question in questions {
                    events.send(web::event(&question)).unwrap();
                    heard.push(receiver.lock().await.recv().await.unwrap());
                }
                let result = json!({"content": [], "structuredContent": heard});
                events.send(web::event(&web::answer(&hit, &result))).unwrap();
            });
            reply
        }
    })
    .await
}

fn question(id: Value, method: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"for": method}})
}

#[tokio::test]
async fn questions_reach_the_client_of_their_call() {
    let server = asking(vec![
        question(json!("q-1"), "elicitation/create"),
        question(json!(2), "sampling/createMessage"),
        question(json!(3), "ping"),
        question(json!(4), "tasks/list"),
    ])
    .await;
    let rig = Rig::http(&server.url());
    let client = Client::new(None, r#"{"elicitation":{}}"#);
    let reply = rig.call(&client.context(), "echo", "{}").await;
    let heard: Value = serde_json::from_str(&structured(&reply)).unwrap();
    assert_eq!(heard[0], json!({"jsonrpc": "2.0", "id": "q-1", "result": "elicitation"}));
    assert_eq!(heard[1]["id"], 2);
    assert_eq!(heard[1]["error"]["code"], -32601);
    assert_eq!(heard[2], json!({"jsonrpc": "2.0", "id": 3, "result": {}}));
    assert_eq!(heard[3]["error"]["code"], -32601);
    assert_eq!(
        client.heard(),
        r#"asked {"for":"elicitation/create"}; asked {"for":"sampling/createMessage"}"#
    );
}

#[tokio::test]
async fn calls_do_not_hear_each_other_s_questions() {
    let server = asking(vec![question(json!(1), "elicitation/create")]).await;
    let rig = Rig::http(&server.url());
    let clients: Vec<_> = (0..20).map(|_| Client::new(None, r#"{"elicitation":{}}"#)).collect();
    let calls = clients.iter().map(|client| {
        let rig = &rig;
        async move { rig.call(&client.context(), "echo", "{}").await.map(drop) }
    });
    for outcome in futures_util::future::join_all(calls).await {
        outcome.unwrap();
    }
    for client in clients {
        assert_eq!(client.heard(), r#"asked {"for":"elicitation/create"}"#);
    }
}
