//! Rounds of 2026-07-28: a call asks the client a question, the client gets the question as the result, and
//! returns with the answer.

use serde_json::{Value, json};

use crate::support::{
    Client, FakeAuthenticator, RawResponse, ScriptedEvent, call, meta, policy, start, start_with,
};

/// A call by a client that supports elicitation and roots.
fn call_with_capabilities(id: impl Into<Value>, tool: &str) -> Value {
    let mut message = call(id, tool, json!({"a": 1}));
    let capabilities = json!({"elicitation": {}, "roots": {}});
    message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities;
    message
}

/// The same call again, with answers and the state of the previous round.
fn retry(id: impl Into<Value>, tool: &str, answers: Value, state: &Value) -> Value {
    let mut message = call_with_capabilities(id, tool);
    message["params"]["inputResponses"] = answers;
    message["params"]["requestState"] = state.clone();
    message
}

/// The questions and the state in the result of a round that ends with questions.
fn read_input_required(answer: &RawResponse) -> (Value, Value) {
    let result = answer.json()["result"].clone();
    assert_eq!(result["resultType"], "input_required", "{answer:?}");
    (result["inputRequests"].clone(), result["requestState"].clone())
}

const ACCEPTED: &str = r#"{"action":"accept","content":{"sure":true}}"#;

fn accepted() -> Value {
    serde_json::from_str(ACCEPTED).unwrap()
}

#[tokio::test]
async fn a_question_ends_the_round_and_the_answer_goes_on_with_the_same_call() {
    let edge = start();
    let first = edge.client.ask(&call_with_capabilities(1, "ask")).await;
    let (questions, state) = read_input_required(&first);
    assert_eq!(questions, json!({"1": {"method": "elicitation/create", "params": {"message": "sure?"}}}));
    assert_eq!(edge.fake.next_event().await, ScriptedEvent::Started("ask".to_owned()));
    let second = edge.client.ask(&retry(2, "ask", json!({"1": accepted()}), &state)).await;
    assert_eq!(second.json()["id"], 2);
    assert_eq!(second.json()["result"]["resultType"], "complete");
    assert_eq!(second.json()["result"]["said"], accepted());
    // The gateway was called once, and the state cannot be used twice.
    let third = edge.client.ask(&retry(3, "ask", json!({"1": accepted()}), &state)).await;
    assert_eq!((third.status, third.code()), (200, -32602), "{third:?}");
    let probe = edge.client.ask(&call(4, "echo", json!({}))).await;
    assert_eq!(probe.status, 200);
    assert_eq!(edge.fake.next_event().await, ScriptedEvent::Started("echo".to_owned()));
}

#[tokio::test]
async fn several_rounds_and_several_questions() {
    let edge = start();
    let mut message = call_with_capabilities(1, "ask-again");
    let (_, state) = read_input_required(&edge.client.ask(&message).await);
    message = retry(2, "ask-again", json!({"1": accepted()}), &state);
    message["params"]["_meta"]["progressToken"] = json!("second");
    let mut stream = edge.client.ask_stream(&message).await;
    let progress = stream.data().await;
    assert_eq!(progress["params"]["progressToken"], "second", "messages go to the round at hand");
    let result = stream.data().await["result"].clone();
    assert_eq!(result["inputRequests"]["2"]["method"], "elicitation/create");
    let last =
        edge.client.ask(&retry(3, "ask-again", json!({"2": accepted()}), &result["requestState"])).await;
    assert_eq!(last.json()["result"]["second"], accepted());

    // Two questions at once; one is answered, and the other is asked again.
    let (questions, state) =
        read_input_required(&edge.client.ask(&call_with_capabilities(4, "ask-both")).await);
    let mut methods: Vec<&str> = questions
        .as_object()
        .unwrap()
        .values()
        .map(|question| question["method"].as_str().unwrap())
        .collect();
    methods.sort_unstable();
    assert_eq!(methods, ["elicitation/create", "roots/list"]);
    let answers = json!({"1": accepted(), "77": {"unexpected": true}});
    let (left, state) = read_input_required(&edge.client.ask(&retry(5, "ask-both", answers, &state)).await);
    assert_eq!(left.as_object().unwrap().keys().collect::<Vec<_>>(), ["2"]);
    // An answer of the wrong type gets an error, and the state stays valid.
    let wrong = edge.client.ask(&retry(6, "ask-both", json!({"2": "yes"}), &state)).await;
    assert_eq!((wrong.status, wrong.code()), (200, -32602));
    let done = edge.client.ask(&retry(7, "ask-both", json!({"2": {"roots": []}}), &state)).await;
    assert_eq!(done.json()["result"]["roots"], json!({"roots": []}), "{done:?}");
}

#[tokio::test]
async fn a_state_is_good_for_its_request_alone() {
    let edge = start();
    let (_, state) = read_input_required(&edge.client.ask(&call_with_capabilities(1, "ask")).await);
    let text = state.as_str().unwrap();
    let answers = json!({"1": accepted()});
    let mut other_arguments = retry(2, "ask", answers.clone(), &state);
    other_arguments["params"]["arguments"] = json!({"a": 2});
    let other_end = if text.ends_with('A') { 'Q' } else { 'A' };
    let changed = format!("{}{other_end}", &text[..text.len() - 1]);
    for (case, message) in [
        ("another tool", retry(2, "ask-again", answers.clone(), &state)),
        ("other arguments", other_arguments),
        ("a changed state", retry(2, "ask", answers.clone(), &json!(changed))),
        ("a cut state", retry(2, "ask", answers.clone(), &json!(&text[..text.len() / 2]))),
    ] {
        let refused = edge.client.ask(&message).await;
        assert_eq!((refused.status, refused.code()), (200, -32602), "{case}: {refused:?}");
    }
    // These attempts do not invalidate the state for its own client.
    let good = edge.client.ask(&retry(3, "ask", answers, &state)).await;
    assert_eq!(good.json()["result"]["said"], accepted());
}

#[tokio::test]
async fn a_state_is_good_for_its_caller_alone() {
    let edge = start_with(FakeAuthenticator::new().policy());
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
    let (_, state) =
        read_input_required(&as_user(&edge.client, "alice", &call_with_capabilities(1, "ask")).await);
    let message = retry(2, "ask", json!({"1": accepted()}), &state);
    let stolen = as_user(&edge.client, "bob", &message).await;
    assert_eq!((stolen.status, stolen.code()), (200, -32602), "{stolen:?}");
    let own = as_user(&edge.client, "alice", &message).await;
    assert_eq!(own.json()["result"]["said"], accepted(), "{own:?}");
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
    let message = retry(1, "echo", json!({}), &json!("opaque to everybody else"));
    assert_eq!(edge.client.ask(&message).await.status, 200);
    let last = edge.fake.last.lock().unwrap().clone();
    assert!(last.is_some());
}

#[tokio::test]
async fn hanging_up_in_a_later_round_takes_the_call_back() {
    let edge = start();
    let (_, state) = read_input_required(&edge.client.ask(&call_with_capabilities(1, "ask-hang")).await);
    assert_eq!(edge.fake.next_event().await, ScriptedEvent::Started("ask-hang".to_owned()));
    let (client, message) = (edge.client, retry(2, "ask-hang", json!({"1": accepted()}), &state));
    let waiting = tokio::spawn(async move { client.ask(&message).await });
    // The call continues only once the answer has arrived.
    edge.fake.gate.add_permits(1);
    crate::support::within_timeout(async {
        while edge.fake.gate.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    waiting.abort();
    assert_eq!(edge.fake.next_event().await, ScriptedEvent::Dropped("ask-hang".to_owned()));
}

#[tokio::test]
async fn too_many_waiting_calls_are_told_that_nobody_can_be_asked() {
    let edge = start();
    for number in 0..256 {
        let mut message = call_with_capabilities(number, "ask");
        message["params"]["arguments"] = json!({"number": number});
        read_input_required(&edge.client.ask(&message).await);
    }
    let refused = edge.client.ask(&call_with_capabilities(300, "ask")).await;
    assert_eq!(refused.json()["result"]["said"], "unreachable", "{refused:?}");
}

#[tokio::test]
async fn shutdown_does_not_wait_for_clients_that_may_never_come_back() {
    let mut edge = start_with(policy());
    read_input_required(&edge.client.ask(&call_with_capabilities(1, "ask")).await);
    edge.shutdown.cancel();
    crate::support::within_timeout(&mut edge.served).await.unwrap().unwrap();
}
