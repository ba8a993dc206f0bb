//! Versions with sessions and 2026-07-28 over one pair of pipes.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines};
use tokio_util::sync::CancellationToken;
use vmcp_domain::Change;
use vmcp_edge::StopSignals;

use crate::support::{
    FakeAuthenticator, ScriptedEvent, ScriptedGateway, call, initialize, meta, policy, request,
    within_timeout,
};

struct StdioClient {
    fake: Arc<ScriptedGateway>,
    stdin: Option<DuplexStream>,
    stdout: Lines<BufReader<DuplexStream>>,
    served: tokio::task::JoinHandle<std::io::Result<tokio::time::Instant>>,
    shutdown: CancellationToken,
}

impl StdioClient {
    fn start() -> Self {
        let mut policy = policy();
        policy.limits.body_bytes_max = 10_000;
        let fake = ScriptedGateway::new();
        let (stdin, input) = tokio::io::duplex(1 << 16);
        let (output, stdout) = tokio::io::duplex(1 << 16);
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(vmcp_edge::serve_stdio(
            policy,
            fake.clone(),
            fake.clone(),
            input,
            output,
            StopSignals { shutdown: shutdown.clone(), ..StopSignals::default() },
        ));
        Self { fake, stdin: Some(stdin), stdout: BufReader::new(stdout).lines(), served, shutdown }
    }

    async fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(format!("{text}\n").as_bytes()).await.unwrap();
    }

    async fn read(&mut self) -> Option<Value> {
        let line = within_timeout(self.stdout.next_line()).await.unwrap()?;
        Some(serde_json::from_str(&line).unwrap())
    }

    async fn ask(&mut self, message: Value) -> Value {
        self.write(&message.to_string()).await;
        self.read().await.unwrap()
    }
}

fn stateless(mut message: Value) -> Value {
    message["params"]["_meta"] = meta();
    message
}

#[tokio::test]
async fn both_eras_on_one_channel() {
    let mut pipes = StdioClient::start();
    let early = pipes.ask(request(1, "tools/list", json!({}))).await;
    assert_eq!(early["error"]["code"], -32600);
    let discovered = pipes.ask(stateless(request("d", "server/discover", json!({})))).await;
    assert_eq!(discovered["result"]["resultType"], "complete");
    let mut future = stateless(request(1, "tools/list", json!({})));
    future["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("v999");
    assert_eq!(pipes.ask(future).await["error"]["code"], -32022);
    let welcome = pipes.ask(initialize("2025-06-18", json!({}))).await;
    assert_eq!(welcome["result"]["protocolVersion"], "2025-06-18");
    let echoed = pipes.ask(call(2, "echo", json!({"a": 1}))).await;
    assert_eq!((&echoed["id"], &echoed["result"]["echo"]["a"]), (&json!(2), &json!(1)));
    let listed = pipes.ask(stateless(request(3, "tools/list", json!({})))).await;
    assert_eq!(listed["result"]["cacheScope"], "private");
}

#[tokio::test]
async fn broken_lines_are_answered_and_survived() {
    let mut pipes = StdioClient::start();
    for (line, code) in [("{".to_owned(), -32700), ("[]".to_owned(), -32600), ("x".repeat(20_000), -32600)] {
        pipes.write(&line).await;
        let answer = pipes.read().await.unwrap();
        assert_eq!(answer["error"]["code"], code);
        assert!(answer.get("id").is_none());
    }
    pipes.write("").await;
    assert_eq!(pipes.ask(request(1, "ping", json!({}))).await["result"], json!({}));
}

#[tokio::test]
async fn messages_and_questions_use_the_same_channel() {
    let mut pipes = StdioClient::start();
    pipes.ask(initialize("2025-11-25", json!({"elicitation": {}}))).await;
    let question = pipes.ask(call(5, "ask", json!({}))).await;
    assert_eq!(question["method"], "elicitation/create");
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}});
    let result = pipes.ask(answer).await;
    assert_eq!(result["result"]["said"]["action"], "accept");

    pipes.fake.announce(&Change::Tools);
    assert_eq!(pipes.read().await.unwrap()["method"], "notifications/tools/list_changed");
    let mut message = call(6, "progress", json!({}));
    message["params"]["_meta"] = json!({"progressToken": 1});
    assert_eq!(pipes.ask(message).await["method"], "notifications/progress");
    for expected in ["progress", "progress"] {
        assert!(pipes.read().await.unwrap()["method"].as_str().unwrap().ends_with(expected));
    }
    assert_eq!(pipes.read().await.unwrap()["id"], 6);
}

#[tokio::test]
async fn requests_are_taken_back_by_notification() {
    let mut pipes = StdioClient::start();
    pipes.write(&stateless(call("one", "hang", json!({}))).to_string()).await;
    assert_eq!(pipes.fake.next_event().await, ScriptedEvent::Started("hang".to_owned()));
    // Requests run concurrently.
    assert_eq!(pipes.ask(stateless(call(2, "echo", json!({})))).await["id"], 2);
    assert_eq!(pipes.fake.next_event().await, ScriptedEvent::Started("echo".to_owned()));
    let cancelled =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "one"}});
    pipes.write(&cancelled.to_string()).await;
    assert_eq!(pipes.fake.next_event().await, ScriptedEvent::Dropped("hang".to_owned()));
    assert_eq!(pipes.ask(stateless(call(3, "echo", json!({})))).await["id"], 3);
}

#[tokio::test]
async fn listeners_are_told_and_dismissed() {
    let mut pipes = StdioClient::start();
    let listen = request(9, "subscriptions/listen", json!({"notifications": {"promptsListChanged": true}}));
    let ack = pipes.ask(stateless(listen)).await;
    assert_eq!(ack["method"], "notifications/subscriptions/acknowledged");
    pipes.fake.announce(&Change::Tools);
    pipes.fake.announce(&Change::Prompts);
    let told = pipes.read().await.unwrap();
    assert_eq!(told["method"], "notifications/prompts/list_changed");
    assert_eq!(told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 9);
    pipes.shutdown.cancel();
    let end = pipes.read().await.unwrap();
    assert_eq!((&end["id"], &end["result"]["resultType"]), (&json!(9), &json!("complete")));
    assert!(pipes.read().await.is_none());
    within_timeout(&mut pipes.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_end_of_input_lets_calls_finish() {
    let mut pipes = StdioClient::start();
    pipes.write(&stateless(call(1, "gate", json!({}))).to_string()).await;
    pipes.fake.next_event().await;
    pipes.stdin = None;
    pipes.fake.gate.add_permits(1);
    assert_eq!(pipes.read().await.unwrap()["id"], 1);
    assert!(pipes.read().await.is_none());
    within_timeout(&mut pipes.served).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_does_not_keep_the_gateway_from_ending() {
    let StdioClient { stdin, stdout, mut served, shutdown, .. } = StdioClient::start();
    let mut stdin = stdin.unwrap();
    let line = format!("{}\n", request(1, "no/such/method", json!({})));
    // Writes until the unread answers fill the pipe and the output queue, and the gateway stops reading.
    let stuck = async { while stdin.write_all(line.as_bytes()).await.is_ok() {} };
    assert!(tokio::time::timeout(std::time::Duration::from_secs(2), stuck).await.is_err());
    shutdown.cancel();
    within_timeout(&mut served).await.unwrap().unwrap();
    drop(stdout);
}

#[tokio::test]
async fn callers_who_need_a_credential_are_not_served() {
    let (fake, shutdown) = (ScriptedGateway::new(), CancellationToken::new());
    let (output, _stdout) = tokio::io::duplex(1 << 16);
    let policy = FakeAuthenticator::new().policy();
    let served = vmcp_edge::serve_stdio(
        policy,
        fake.clone(),
        fake,
        tokio::io::empty(),
        output,
        StopSignals { shutdown, ..StopSignals::default() },
    )
    .await;
    assert_eq!(served.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_client_that_has_gone_without_reading_does_not_keep_the_gateway() {
    let fake = ScriptedGateway::new();
    let (mut stdin, input) = tokio::io::duplex(64 << 10);
    // A client that reads nothing: the buffer is small, and its other end is never read.
    let (output, _stdout) = tokio::io::duplex(64);
    let ends = StopSignals::default();
    let served =
        tokio::spawn(vmcp_edge::serve_stdio(policy(), fake.clone(), fake, input, output, ends.clone()));
    let writing = async {
        loop {
            let line = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n".repeat(100);
            if stdin.write_all(line.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    let stuck = tokio::time::timeout(Duration::from_secs(1), writing).await;
    assert!(stuck.is_err(), "reading stops when answers are not read");
    ends.hangup.cancel();
    tokio::time::timeout(Duration::from_secs(8), served).await.unwrap().unwrap().unwrap();
}
