//! Backends that keep state: which callers share a connection, and the limits of connections of single
//! callers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vmcp_backends::policy::{BackendPolicy, CallerBounds, Isolation, ProcessPolicy, StdioPolicy, Transport};
use vmcp_domain::{
    BackendState, CallContext, CallOrigin, Caller, ClientHandle, Error, IsolationScope, ProtocolVersion,
    SilentClient,
};

use crate::web::McpServer as _;
use crate::web::{self, ScriptedServer};
use crate::{Harness, TIMEOUTS, eventually, http_policy, known_caller, policy, structured_content};

fn context(caller: Caller, client: Option<&ClientHandle>) -> CallContext {
    let mut ctx = CallContext::bare(caller, CallOrigin::Client);
    ctx.protocol = ProtocolVersion::V2025_11_25;
    if let Some(life) = client {
        ctx.client = Arc::new(SilentClient::for_client(life.key()));
    }
    ctx
}

fn user_context(name: &str) -> CallContext {
    context(known_caller(name), None)
}

/// A server that keeps one text per session. A call with `text` replaces it, and every call returns it. Every
/// handshake starts a session, if the server has sessions at all.
async fn stateful_server(has_sessions: bool) -> ScriptedServer {
    let kept: Arc<Mutex<HashMap<String, Value>>> = Arc::default();
    web::serve(move |request| {
        let kept = Arc::clone(&kept);
        async move {
            let mut kept = kept.lock().unwrap();
            let session = request.header("mcp-session-id").unwrap_or_default().to_owned();
            match request.rpc_method() {
                "initialize" => {
                    let mut reply = web::reply_with_sessions(&request);
                    reply.headers_mut().remove("mcp-session-id");
                    if has_sessions {
                        let name = format!("s{}", kept.len());
                        kept.insert(name.clone(), json!("nothing"));
                        reply.headers_mut().insert("mcp-session-id", name.parse().unwrap());
                    }
                    reply
                }
                "tools/call" => {
                    let text = request.body["params"]["arguments"]["text"].clone();
                    if !text.is_null() {
                        kept.insert(session.clone(), text);
                    }
                    let answer = kept.get(&session).cloned().unwrap_or(json!("unknown"));
                    web::reply_json(
                        200,
                        &web::result_message(&request, &json!({"content": [], "structuredContent": answer})),
                    )
                }
                _ => web::reply_with_sessions(&request),
            }
        }
    })
    .await
}

fn isolated_policy(transport: Transport, isolation: Isolation) -> BackendPolicy {
    BackendPolicy { isolation, ..policy(transport, TIMEOUTS) }
}

async fn stateful_rig(server: &ScriptedServer, isolation: Isolation) -> Harness {
    let harness =
        Harness::start(isolated_policy(Transport::StreamableHttp(http_policy(&server.url())), isolation));
    harness.wait_for_state(BackendState::Ready).await;
    harness
}

async fn call_echo(harness: &Harness, ctx: &CallContext, arguments: &str) -> String {
    structured_content(&harness.call(ctx, "echo", arguments).await)
}

fn caller_connection_count(harness: &Harness) -> usize {
    harness.backend.status().caller_connections.unwrap()
}

#[tokio::test]
async fn what_a_server_keeps_for_one_caller_is_not_the_next_ones() {
    let server = stateful_server(true).await;
    let harness = stateful_rig(&server, Isolation::Automatic { sessions_apart: false }).await;
    let (ann, bob) = (user_context("ann"), user_context("bob"));
    // Lists are the same for all callers, and open no connection.
    harness.backend.fetch_inventory(&ann).await.unwrap();
    assert_eq!(caller_connection_count(&harness), 0);
    assert_eq!(call_echo(&harness, &ann, r#"{"text":"of ann"}"#).await, "\"of ann\"");
    assert_eq!(call_echo(&harness, &bob, "{}").await, "\"nothing\"");
    assert_eq!(call_echo(&harness, &bob, r#"{"text":"of bob"}"#).await, "\"of bob\"");
    assert_eq!(call_echo(&harness, &ann, "{}").await, "\"of ann\"");
    // Without identity and session, all requests share the backend's own connection.
    let nobody = context(Caller::Anonymous, None);
    assert_eq!(call_echo(&harness, &nobody, "{}").await, "\"nothing\"");
    assert_eq!((caller_connection_count(&harness), harness.backend.status().isolation), (2, "perCaller"));
    assert_eq!(harness.backend.scope(&nobody).unwrap(), IsolationScope::Shared);
    assert_ne!(harness.backend.scope(&ann).unwrap(), harness.backend.scope(&bob).unwrap());
    // A caller's connection needs no probe: the backend is known to have sessions.
    assert_eq!(server.with_method("server/discover").len(), 1);
}

#[tokio::test]
async fn sessions_without_identity_are_told_apart_where_they_may_be_different_people() {
    for (sessions_apart, seen) in [(true, "\"nothing\""), (false, "\"of one\"")] {
        let server = stateful_server(true).await;
        let harness = stateful_rig(&server, Isolation::Automatic { sessions_apart }).await;
        let lives = [ClientHandle::default(), ClientHandle::default()];
        let [one, other] = [0, 1].map(|index: usize| context(Caller::Anonymous, Some(&lives[index])));
        call_echo(&harness, &one, r#"{"text":"of one"}"#).await;
        assert_eq!(call_echo(&harness, &other, "{}").await, seen);
    }
}

#[tokio::test]
async fn a_server_without_sessions_keeps_nothing_apart() {
    let server = stateful_server(false).await;
    let harness = stateful_rig(&server, Isolation::PerCaller).await;
    call_echo(&harness, &user_context("ann"), "{}").await;
    call_echo(&harness, &user_context("bob"), "{}").await;
    assert_eq!((caller_connection_count(&harness), harness.backend.status().isolation), (0, "shared"));
}

#[tokio::test]
async fn a_session_that_has_ended_takes_its_connection_with_it() {
    let server = stateful_server(true).await;
    let harness = stateful_rig(&server, Isolation::PerSession).await;
    let life = ClientHandle::default();
    let ctx = context(known_caller("ann"), Some(&life));
    call_echo(&harness, &ctx, "{}").await;
    call_echo(&harness, &user_context("ann"), "{}").await;
    assert_eq!(caller_connection_count(&harness), 2);
    drop(life);
    eventually(|| (caller_connection_count(&harness) == 1).then_some(())).await;
    // The server's session is ended, too.
    server.wait_for_request(|request| request.http_method == http::Method::DELETE).await;
}

#[tokio::test]
async fn one_caller_has_so_many_connections_and_the_idle_one_gives_way() {
    let server = stateful_server(true).await;
    let bounds = CallerBounds { per_caller_max: 2, ..CallerBounds::DEFAULT };
    let transport = Transport::StreamableHttp(http_policy(&server.url()));
    let harness = Harness::start(BackendPolicy {
        caller_bounds: bounds,
        ..isolated_policy(transport, Isolation::PerSession)
    });
    harness.wait_for_state(BackendState::Ready).await;
    let lives: Vec<ClientHandle> = (0..5).map(|_| ClientHandle::default()).collect();
    for life in &lives {
        call_echo(&harness, &context(known_caller("ann"), Some(life)), r#"{"text":"x"}"#).await;
    }
    assert_eq!(caller_connection_count(&harness), 2);
    call_echo(&harness, &user_context("bob"), "{}").await;
    assert_eq!(caller_connection_count(&harness), 3);
    // The two newest sessions keep theirs; the oldest has started again.
    assert_eq!(call_echo(&harness, &context(known_caller("ann"), Some(&lives[4])), "{}").await, "\"x\"");
    assert_eq!(
        call_echo(&harness, &context(known_caller("ann"), Some(&lives[0])), "{}").await,
        "\"nothing\""
    );
}

/// A process that answers each call with its own identifier and its number of calls. A call with `slow` takes
/// two seconds.
const COUNTING_SERVER: &str = r#"
count=0
while IFS= read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    *'"server/discover"'*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no"}}\n' "$id" ;;
    *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}\n' "$id" ;;
    *'"tools/call"'*) count=$((count + 1))
      case "$line" in *slow*) sleep 2 ;; esac
      printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[],"structuredContent":[%s,%s]}}\n' "$id" $$ $count ;;
  esac
done
"#;

async fn counting_rig(isolation: Isolation, count_max: usize, wait: Duration) -> Harness {
    let stdio = StdioPolicy {
        command: "sh".to_owned(),
        args: vec!["-c".to_owned(), COUNTING_SERVER.to_owned()],
        env: BTreeMap::new(),
        inherit_env: Vec::new(),
        cwd: None,
    };
    let bounds = CallerBounds { acquire_timeout: wait, ..CallerBounds::DEFAULT };
    let policy =
        BackendPolicy { caller_bounds: bounds, ..isolated_policy(Transport::Stdio(stdio), isolation) };
    let harness = Harness::start_with(policy, &ProcessPolicy { count_max, ..ProcessPolicy::default() });
    harness.wait_for_state(BackendState::Ready).await;
    harness
}

/// The process that answered, and its number of calls.
async fn call_process(harness: &Harness, ctx: &CallContext) -> (u64, u64) {
    let said: (u64, u64) = serde_json::from_str(&call_echo(harness, ctx, "{}").await).unwrap();
    said
}

#[tokio::test]
async fn each_caller_has_a_process_where_the_operator_says_so() {
    let harness = counting_rig(Isolation::PerCaller, 64, Duration::from_secs(5)).await;
    let (ann, bob) = (user_context("ann"), user_context("bob"));
    let (of_ann, of_bob) = (call_process(&harness, &ann).await, call_process(&harness, &bob).await);
    assert_ne!(of_ann.0, of_bob.0);
    assert_eq!((of_ann.1, of_bob.1), (1, 1));
    assert_eq!(call_process(&harness, &ann).await, (of_ann.0, 2));
    assert_eq!(caller_connection_count(&harness), 2);
    harness.stop().await;
    let runs = |pid: u64| std::path::Path::new(&format!("/proc/{pid}")).exists();
    assert!(!runs(of_ann.0) && !runs(of_bob.0), "a caller's process ends with the gateway");
}

#[tokio::test]
async fn shared_is_one_process() {
    let harness = counting_rig(Isolation::Shared, 64, Duration::from_secs(5)).await;
    let (one, other) = (
        call_process(&harness, &user_context("ann")).await,
        call_process(&harness, &user_context("bob")).await,
    );
    assert_eq!((one.0, one.1, other.1), (other.0, 1, 2));
}

#[tokio::test]
async fn where_there_is_no_room_an_idle_process_gives_way() {
    // One slot for the backend's own process, and two for callers.
    let harness = counting_rig(Isolation::PerCaller, 3, Duration::from_secs(8)).await;
    let mut seen = Vec::new();
    for name in ["ann", "bob", "cid", "dan"] {
        let (pid, calls) = call_process(&harness, &user_context(name)).await;
        assert_eq!(calls, 1, "a process is not handed from one caller to the next");
        assert!(!seen.contains(&pid));
        seen.push(pid);
        assert!(caller_connection_count(&harness) <= 2);
    }
}

#[tokio::test]
async fn where_every_process_is_in_use_a_caller_waits_a_short_time_and_is_told() {
    let harness = counting_rig(Isolation::PerCaller, 2, Duration::from_millis(500)).await;
    let ann = user_context("ann");
    call_process(&harness, &ann).await;
    let slow = harness.call(&ann, "echo", r#"{"slow":true}"#);
    let waiting = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let begun = Instant::now();
        let refused = harness.call(&user_context("bob"), "echo", "{}").await.unwrap_err();
        (refused, begun.elapsed())
    };
    let (answered, (refused, took)) = tokio::join!(slow, waiting);
    answered.unwrap();
    assert!(matches!(refused, Error::BackendFull { .. }), "{refused:?}");
    assert!(took >= Duration::from_millis(450) && took < Duration::from_millis(1500), "{took:?}");
    // Now ann's process is idle and is evicted.
    let bob = user_context("bob");
    let mut tries = 0;
    while harness.call(&bob, "echo", "{}").await.is_err() {
        tries += 1;
        assert!(tries < 20);
    }
}
