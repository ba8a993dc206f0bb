//! Tests the example's layer in process and over HTTP, on every path to a tool.

use std::process::Command;

use serde_json::{Value, json};
use vmcp::domain::{CallContext, CallOrigin, CallTool, Caller, Continuation, Error, Identity, Reply};
use vmcp::json::{Json, Members};
use vmcp::{Builder, CancellationToken, RunningGateway, StartError};
use vmcp_e2e::gateway::{Backend, NamePolicy, config};
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily};
use vmcp_e2e::process::binary;

/// Allows two calls of the tool that changes something. The bucket practically never refills.
const LIMIT: &str =
    "rateLimiting:\n  tools: [{name: add_note, shared: {maxTokens: 2, refillPeriod: 10000h}}]\n";

/// Configures one of the binary's built-in demo servers, with a tool that changes something and one that does
/// not.
fn configured(extra: &str) -> String {
    let mut notes = Command::new(binary("vmcp").unwrap());
    notes.args(["demo-server", "notes"]);
    config(NamePolicy::Unchanged, &[Backend::stdio("notes", &notes)], &format!("{LIMIT}{extra}"))
}

fn ctx() -> CallContext {
    let identity = Identity { issuer: "test".into(), subject: "ann".into(), claims: Members::new() };
    CallContext::bare(Caller::Known(identity.into()), CallOrigin::Client)
}

async fn call(gateway: &RunningGateway, tool: &str, arguments: Value) -> Result<Reply, Error> {
    let request = CallTool {
        name: tool.into(),
        arguments: Some(Json::encode(&arguments).unwrap()),
        continuation: Continuation::default(),
        extra: Members::new(),
    };
    gateway.gateway.call_tool(&ctx(), request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_added_layer_applies_in_process_and_its_refusals_cost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let flag = folder.path().join("frozen");
    let builder = Builder::from_yaml(configured(""));
    let gateway = crate::example::with_freeze(builder, flag.clone()).start().await.unwrap();
    assert!(gateway.layers().windows(2).any(|pair| pair == ["freeze", "exposure"]), "{:?}", gateway.layers());

    std::fs::write(&flag, "").unwrap();
    for _ in 0..5 {
        let refused = call(&gateway, "add_note", json!({"text": "no"})).await;
        assert!(matches!(refused, Err(Error::Denied)), "{refused:?}");
    }
    assert!(!call(&gateway, "search", json!({"query": "no"})).await.unwrap().is_error);
    std::fs::remove_file(&flag).unwrap();
    // The refused calls have spent none of the two tokens that the limit allows.
    for _ in 0..2 {
        assert!(!call(&gateway, "add_note", json!({"text": "yes"})).await.unwrap().is_error);
    }
    let limited = call(&gateway, "add_note", json!({"text": "yes"})).await;
    assert!(matches!(limited, Err(Error::RateLimited(_))), "{limited:?}");
    gateway.stop().await;
}

/// Calls a tool over HTTP. Returns true if the call was made and did not fail.
fn call_over_http(url: &str, family: ProtocolFamily, tool: &str, arguments: &Value) -> bool {
    let mut client = HttpClient::open(url, family).unwrap();
    let answer = client.ask("tools/call", json!({"name": tool, "arguments": arguments})).unwrap();
    let answer: Value = serde_json::from_str(&answer.text).unwrap();
    answer.get("error").is_none() && answer["result"]["isError"] != true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_served_layer_sees_the_tool_that_really_runs() {
    let folder = tempfile::tempdir().unwrap();
    let flag = folder.path().join("frozen");
    let builder = Builder::from_yaml(configured("optimizer: {}\n")).port(0);
    let gateway = crate::example::with_freeze(builder, flag.clone()).start().await.unwrap();
    let listener = gateway.bind().unwrap();
    let url = listener.endpoint();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(listener.serve(shutdown.clone()));

    let add = json!({"tool_name": "add_note", "parameters": {"text": "x"}});
    let search = json!({"tool_name": "search", "parameters": {"query": "x"}});
    let outcomes = tokio::task::spawn_blocking(move || {
        std::fs::write(&flag, "").unwrap();
        let frozen = ProtocolFamily::ALL.map(|family| {
            (
                call_over_http(&url, family, "call_tool", &add),
                call_over_http(&url, family, "call_tool", &search),
            )
        });
        std::fs::remove_file(&flag).unwrap();
        let thawed = ProtocolFamily::ALL.map(|family| call_over_http(&url, family, "call_tool", &add));
        (frozen, thawed)
    });
    let (frozen, thawed) = outcomes.await.unwrap();
    assert_eq!(frozen, [(false, true); 2]);
    assert_eq!(thawed, [true; 2]);
    shutdown.cancel();
    serving.await.unwrap().unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn a_configuration_that_is_refused_starts_nothing_and_says_where() {
    let refused = Builder::from_yaml("name: x\nbackends: []\nrateLimitin: {}\n").start().await;
    let Err(StartError::Config(report)) = refused else { panic!("it started") };
    assert_eq!(report.problems[0].line, Some(3));
    assert!(report.to_string().contains("rateLimiting"), "{report}");
    let unset = Builder::from_yaml("name: ${NAME}\nbackends: []\n").environment(|_| None).settings();
    assert!(unset.unwrap_err().to_string().contains("NAME"));
    let named = Builder::from_yaml("name: ${NAME}\nbackends: []\n").environment(|_| Some("n".to_owned()));
    assert_eq!(named.settings().unwrap().name, "n");
    let audited = Builder::from_yaml("name: x\nbackends: []\naudit: {enabled: true}\n").start().await;
    assert!(matches!(audited, Err(StartError::NoAuditOutput)));
}
