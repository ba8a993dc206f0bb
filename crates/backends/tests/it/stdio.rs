//! Processes: started, restarted, observed, and stopped with everything that they started.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use vmcp_backends::policy::{Secret, StdioPolicy, Timeouts, Transport};
use vmcp_domain::{BackendEvent, BackendState};

use crate::{Harness, TIMEOUTS, context, policy, structured_content};

/// A server with sessions as a shell script. `$line` is the message, `$id` its identifier; `cases` are
/// matched first.
fn script(cases: &str) -> String {
    format!(
        r#"
while IFS= read -r line; do
  id=${{line#*\"id\":}}; id=${{id%%,*}}
  case "$line" in
    {cases}
    *'"server/discover"'*) echo "{{\"jsonrpc\":\"2.0\",\"id\":$id,\"error\":{{\"code\":-32601,\"message\":\"m\"}}}}" ;;
    *'"initialize"'*) echo "{{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{{\"tools\":{{}}}}}}}}" ;;
    *'"crash"'*) exit 3 ;;
    *'"tools/call"'*) echo "{{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{{\"content\":[],\"structuredContent\":\"$SECRET\"}}}}" ;;
  esac
done
"#
    )
}

fn shell_policy(script: &str) -> StdioPolicy {
    StdioPolicy {
        command: "/bin/sh".to_owned(),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: BTreeMap::from([("SECRET".to_owned(), Secret::new("s3cret"))]),
        inherit_env: Vec::new(),
        cwd: None,
    }
}

fn start_rig(script: &str) -> Harness {
    Harness::start(policy(Transport::Stdio(shell_policy(script)), TIMEOUTS))
}

#[tokio::test]
async fn a_process_that_crashes_comes_back() {
    let harness = start_rig(&script(""));
    let reply = harness.call(&context(), "echo", "{}").await;
    assert_eq!(structured_content(&reply), "\"s3cret\"");
    assert_eq!(harness.protocol(), "2025-06-18");
    let error = harness.call(&context(), "crash", "{}").await.unwrap_err();
    assert_eq!(error.class(), "backend_failed");
    harness.events.wait_for_events(&BackendEvent::Disconnected, 1).await;
    harness.events.wait_for_events(&BackendEvent::Connected, 2).await;
    harness.call(&context(), "echo", "{}").await.unwrap();
    let status = harness.backend.status();
    assert_eq!((status.last_error, status.reconnect_count), (Some("exited"), 1));
    harness.stop().await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told() {
    let mut stdio = shell_policy("");
    stdio.command = "/nonexistent/program".to_owned();
    let harness = Harness::start(policy(Transport::Stdio(stdio), TIMEOUTS));
    let error = harness.call(&context(), "echo", "{}").await.unwrap_err();
    assert_eq!(error.class(), "backend_unavailable");
    assert!(!error.to_string().contains("nonexistent"));
    assert_eq!(harness.backend.status().last_error, Some("spawn"));
}

#[tokio::test]
async fn a_process_that_ends_when_probed_is_started_without() {
    let harness = start_rig(&script("*server/discover*) exit 1 ;;"));
    assert!(harness.call(&context(), "echo", "{}").await.is_ok());
    assert_eq!(harness.events.count(&BackendEvent::Disconnected), 0);
}

#[tokio::test]
async fn a_process_that_ignores_the_probe_is_shaken_hands_with() {
    let timeouts =
        Timeouts { connect: Duration::from_secs(2), call: Duration::from_secs(8), ..Timeouts::DEFAULT };
    let ignores = script("*server/discover*) ;;");
    let harness = Harness::start(policy(Transport::Stdio(shell_policy(&ignores)), timeouts));
    assert!(harness.call(&context(), "echo", "{}").await.is_ok());
}

#[tokio::test]
async fn noise_on_standard_output_is_skipped() {
    let noisy = format!("echo Listening on nothing; echo '{{\"pretty\":'; echo; {}", script(""));
    let harness = start_rig(&noisy);
    assert!(harness.call(&context(), "echo", "{}").await.is_ok());
}

#[tokio::test]
async fn a_process_that_only_makes_noise_is_given_up() {
    let harness = start_rig("yes $(head -c 2000 /dev/zero | tr '\\0' x)");
    harness.wait_for_state(BackendState::Unavailable).await;
    assert_eq!(harness.backend.status().last_error, Some("protocol"));
    harness.stop().await;
}

#[tokio::test]
async fn everything_a_process_started_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let stubborn = format!(
        "trap '' TERM; (trap '' TERM; while true; do sleep 1; done) & echo $! $$ > {}; {}; while true; do sleep 1; done",
        pids.display(),
        script("")
    );
    let harness = start_rig(&stubborn);
    harness.call(&context(), "echo", "{}").await.unwrap();
    let started = std::fs::read_to_string(&pids).unwrap();
    let alive = |pid: &str| Path::new("/proc").join(pid).exists();
    assert_eq!(started.split_whitespace().filter(|pid| alive(pid)).count(), 2);
    let start = Instant::now();
    harness.backends.shutdown(Duration::from_millis(200)).await;
    assert!(start.elapsed() < Duration::from_secs(5));
    // Reaping a process that is not a child of this one is left to the system.
    crate::eventually(|| (!started.split_whitespace().any(alive)).then_some(())).await;
}

#[tokio::test]
async fn a_process_that_does_not_read_holds_nobody_else_up() {
    let timeouts =
        Timeouts { connect: Duration::from_secs(8), call: Duration::from_millis(400), ..Timeouts::DEFAULT };
    let deaf = script("*'\"deaf\"'*) while true; do sleep 1; done ;;");
    let harness = Harness::start(policy(Transport::Stdio(shell_policy(&deaf)), timeouts));
    harness.wait_for_state(BackendState::Ready).await;
    let ctx = context();
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(1 << 20));
    harness.call(&ctx, "deaf", "{}").await.unwrap_err();
    let calls = (0..100).map(|_| harness.call(&ctx, "echo", &large));
    let start = Instant::now();
    for reply in futures_util::future::join_all(calls).await {
        let class = reply.unwrap_err().class();
        assert!(matches!(class, "backend_timed_out" | "backend_failed"), "{class}");
    }
    assert!(start.elapsed() < Duration::from_secs(30));
    // The process is given up and started again.
    harness.events.wait_for_events(&BackendEvent::Connected, 2).await;
    harness.call(&ctx, "echo", "{}").await.unwrap();
    harness.stop().await;
}

/// A server that logs all its input to standard output, among its answers.
#[tokio::test]
async fn a_log_of_what_was_received_is_no_message() {
    let log = r#"echo "<- $line"; echo "$line";"#;
    let slow = format!(
        r#"
while IFS= read -r line; do
  {log}
  id=${{line#*\"id\":}}; id=${{id%%,*}}
  case "$line" in
    *'"server/discover"'*) echo "{{\"jsonrpc\":\"2.0\",\"id\":$id,\"error\":{{\"code\":-32601,\"message\":\"m\"}}}}" ;;
    *'"initialize"'*) echo "{{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{{\"tools\":{{}}}}}}}}" ;;
    *'"tools/call"'*) sleep 0.3; echo 'upstream said "error", again'; echo '{{"level":"warn","error":"retrying","id":1}}'
      echo "{{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{{\"content\":[],\"structuredContent\":1}}}}" ;;
  esac
done
"#
    );
    let harness = start_rig(&slow);
    assert_eq!(structured_content(&harness.call(&context(), "echo", "{}").await), "1");
    harness.stop().await;
}

#[tokio::test]
async fn a_long_array_before_the_first_message_is_one_line() {
    let plugins = serde_json::to_string(&vec!["plugin"; 2_000]).unwrap();
    let harness = start_rig(&format!("echo '{plugins}'\n{}", script("")));
    harness.call(&context(), "echo", "{}").await.unwrap();
    harness.stop().await;
}

/// A server that handles one request at a time does not answer a health check during a call.
#[tokio::test]
async fn a_connection_at_work_is_not_made_anew() {
    let harness = start_rig(&script(
        r#"*'"slow"'*) sleep 1; echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"content\":[]}}" ;;"#,
    ));
    harness.call(&context(), "echo", "{}").await.unwrap();
    let ctx = context();
    let call = harness.call(&ctx, "slow", "{}");
    let checks = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!harness.backend.reconnect());
    };
    let (reply, ()) = tokio::join!(call, checks);
    reply.unwrap();
    assert!(harness.backend.reconnect());
    harness.events.wait_for_events(&BackendEvent::Connected, 2).await;
    harness.stop().await;
}
