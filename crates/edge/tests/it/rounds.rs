//! Clients of 2026-07-28 who are asked in the middle of a call: they are sent off with the question and come back.

use serde_json::{Value, json};

use crate::support::{Answer, Client, Gatekeeper, Heard, call, meta, policy, start, start_with};

/// A call by a client that can be asked.
fn asking(id: impl Into<Value>, tool: &str) -> Value {
    let mut message = call(id, tool, json!({"a": 1}));
    let capabilities = json!({"elicitation": {}, "roots": {}});
    message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities;
    message
}

/// The same call again, with answers and the state of the round before.
fn again(id: impl Into<Value>, tool: &str, answers: Value, state: &Value) -> Value {
    let mut message = asking(id, tool);
    message["params"]["inputResponses"] = answers;
    message["params"]["requestState"] = state.clone();
    message
}

/// The result of a round that ends with questions, and its state.
fn asked(answer: &Answer) -> (Value, Value) {
    let result = answer.json()["result"].clone();
    assert_eq!(result["resultType"], "input_required", "{answer:?}");
    (result["inputRequests"].clone(), result["requestState"].clone())
}

const YES: &str = r#"{"action":"accept","content":{"sure":true}}"#;

fn yes() -> Value {
    serde_json::from_str(YES).unwrap()
}

#[tokio::test]
async fn a_question_ends_the_round_and_the_answer_goes_on_with_the_same_call() {
    let edge = start();
    let first = edge.client.ask(&asking(1, "ask")).await;
    let (questions, state) = asked(&first);
    assert_eq!(questions, json!({"1": {"method": "elicitation/create", "params": {"message": "sure?"}}}));
    assert_eq!(edge.fake.heard().await, Heard::Started("ask".to_owned()));
    let second = edge.client.ask(&again(2, "ask", json!({"1": yes()}), &state)).await;
    assert_eq!(second.json()["id"], 2);
    assert_eq!(second.json()["result"]["resultType"], "complete");
    assert_eq!(second.json()["result"]["said"], yes());
    // The stack was called once, and what was said last is not said again.
    let third = edge.client.ask(&again(3, "ask", json!({"1": yes()}), &state)).await;
    assert_eq!((third.status, third.code()), (200, -32602), "{third:?}");
    let probe = edge.client.ask(&call(4, "echo", json!({}))).await;
    assert_eq!(probe.status, 200);
    assert_eq!(edge.fake.heard().await, Heard::Started("echo".to_owned()));
}

#[tokio::test]
async fn several_rounds_and_several_questions() {
    let edge = start();
    let mut message = asking(1, "ask-again");
    let (_, state) = asked(&edge.client.ask(&message).await);
    message = again(2, "ask-again", json!({"1": yes()}), &state);
    message["params"]["_meta"]["progressToken"] = json!("second");
    let mut stream = edge.client.ask_stream(&message).await;
    let progress = stream.data().await;
    assert_eq!(progress["params"]["progressToken"], "second", "messages go to the round at hand");
    let result = stream.data().await["result"].clone();
    assert_eq!(result["inputRequests"]["2"]["method"], "elicitation/create");
    let last = edge.client.ask(&again(3, "ask-again", json!({"2": yes()}), &result["requestState"])).await;
    assert_eq!(last.json()["result"]["second"], yes());

    // Two at once; one is answered, and the other asked for again.
    let (questions, state) = asked(&edge.client.ask(&asking(4, "ask-both")).await);
    let mut methods: Vec<&str> = questions
        .as_object()
        .unwrap()
        .values()
        .map(|question| question["method"].as_str().unwrap())
        .collect();
    methods.sort_unstable();
    assert_eq!(methods, ["elicitation/create", "roots/list"]);
    let answers = json!({"1": yes(), "77": {"unexpected": true}});
    let (left, state) = asked(&edge.client.ask(&again(5, "ask-both", answers, &state)).await);
    assert_eq!(left.as_object().unwrap().keys().collect::<Vec<_>>(), ["2"]);
    // Answers of the wrong form are told so, and the state stays good.
    let wrong = edge.client.ask(&again(6, "ask-both", json!({"2": "yes"}), &state)).await;
    assert_eq!((wrong.status, wrong.code()), (200, -32602));
    let done = edge.client.ask(&again(7, "ask-both", json!({"2": {"roots": []}}), &state)).await;
    assert_eq!(done.json()["result"]["roots"], json!({"roots": []}), "{done:?}");
}

#[tokio::test]
async fn a_state_is_good_for_its_request_alone() {
    let edge = start();
    let (_, state) = asked(&edge.client.ask(&asking(1, "ask")).await);
    let text = state.as_str().unwrap();
    let answers = json!({"1": yes()});
    let mut other_arguments = again(2, "ask", answers.clone(), &state);
    other_arguments["params"]["arguments"] = json!({"a": 2});
    let other_end = if text.ends_with('A') { 'Q' } else { 'A' };
    let changed = format!("{}{other_end}", &text[..text.len() - 1]);
    for (case, message) in [
        ("another tool", again(2, "ask-again", answers.clone(), &state)),
        ("other arguments", other_arguments),
        ("a changed state", again(2, "ask", answers.clone(), &json!(changed))),
        ("a cut state", again(2, "ask", answers.clone(), &json!(&text[..text.len() / 2]))),
    ] {
        let refused = edge.client.ask(&message).await;
        assert_eq!((refused.status, refused.code()), (200, -32602), "{case}: {refused:?}");
    }
    // None of that has spoilt it for the client it was made for.
    let good = edge.client.ask(&again(3, "ask", answers, &state)).await;
    assert_eq!(good.json()["result"]["said"], yes());
}

#[tokio::test]
async fn a_state_is_good_for_its_caller_alone() {
    let edge = start_with(Gatekeeper::new().policy());
    let as_user = async |client: &Client, user: &str, message: &Value| {
        let mut message = message.clone();
        let mut all = meta();
        all["io.modelcontextprotocol/clientCapabilities"] = json!({"elicitation": {}});
        message["params"]["_meta"] = all;
        let bearer = format!("Bearer {user}");
        let headers = [
            ("authorization", &*bearer),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "ask"),
        ];
        client.post(&headers, &message).await
    };
    let (_, state) = asked(&as_user(&edge.client, "alice", &asking(1, "ask")).await);
    let message = again(2, "ask", json!({"1": yes()}), &state);
    let stolen = as_user(&edge.client, "bob", &message).await;
    assert_eq!((stolen.status, stolen.code()), (200, -32602), "{stolen:?}");
    let own = as_user(&edge.client, "alice", &message).await;
    assert_eq!(own.json()["result"]["said"], yes(), "{own:?}");
}

#[tokio::test]
async fn who_cannot_be_asked_is_not_asked() {
    let edge = start();
    let answer = edge.client.ask(&call(1, "ask", json!({}))).await;
    assert_eq!(answer.json()["result"]["said"], "unsupported");
}

#[tokio::test]
async fn a_state_of_a_backends_own_goes_to_the_backend() {
    let edge = start();
    let message = again(1, "echo", json!({}), &json!("opaque to everybody else"));
    assert_eq!(edge.client.ask(&message).await.status, 200);
    let last = edge.fake.last.lock().unwrap().clone();
    assert!(last.is_some());
}

#[tokio::test]
async fn hanging_up_in_a_later_round_takes_the_call_back() {
    let edge = start();
    let (_, state) = asked(&edge.client.ask(&asking(1, "ask-hang")).await);
    assert_eq!(edge.fake.heard().await, Heard::Started("ask-hang".to_owned()));
    let (client, message) = (edge.client, again(2, "ask-hang", json!({"1": yes()}), &state));
    let waiting = tokio::spawn(async move { client.ask(&message).await });
    // The call goes on only when the answer has arrived.
    edge.fake.gate.add_permits(1);
    crate::support::soon(async {
        while edge.fake.gate.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    waiting.abort();
    assert_eq!(edge.fake.heard().await, Heard::Dropped("ask-hang".to_owned()));
}

#[tokio::test]
async fn too_many_waiting_calls_are_told_that_nobody_can_be_asked() {
    let edge = start();
    for number in 0..256 {
        let mut message = asking(number, "ask");
        message["params"]["arguments"] = json!({"number": number});
        asked(&edge.client.ask(&message).await);
    }
    let refused = edge.client.ask(&asking(300, "ask")).await;
    assert_eq!(refused.json()["result"]["said"], "unreachable", "{refused:?}");
}

#[tokio::test]
async fn shutdown_does_not_wait_for_clients_that_may_never_come_back() {
    let mut edge = start_with(policy());
    asked(&edge.client.ask(&asking(1, "ask")).await);
    edge.shutdown.cancel();
    crate::support::soon(&mut edge.served).await.unwrap().unwrap();
}
