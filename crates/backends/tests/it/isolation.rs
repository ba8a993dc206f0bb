//! Backends that keep state: which callers share a connection, and what bounds connections of single callers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vmcp_backends::policy::{BackendPolicy, CallerBounds, Isolation, ProcessPolicy, StdioPolicy, Transport};
use vmcp_domain::{
    BackendState, CallContext, Caller, ClientLife, Error, Origin, ProtocolVersion, Scope, SilentClient,
};

use crate::web::{self, Web};
use crate::{Rig, TIMEOUTS, caller, eventually, http, policy, structured};

fn context(caller: Caller, client: Option<&ClientLife>) -> CallContext {
    let mut ctx = CallContext::bare(caller, Origin::Client);
    ctx.protocol = ProtocolVersion::V2025_11_25;
    if let Some(life) = client {
        ctx.client = Arc::new(SilentClient::of(life.key()));
    }
    ctx
}

fn user(name: &str) -> CallContext {
    context(caller(name), None)
}

/// A server that keeps one text for each session: `keep` replaces it, `kept` answers with it. Every handshake begins a
/// session, if it has sessions at all.
async fn keeper(has_sessions: bool) -> Web {
    let kept: Arc<Mutex<HashMap<String, Value>>> = Arc::default();
    web::serve(move |hit| {
        let kept = Arc::clone(&kept);
        async move {
            let mut kept = kept.lock().unwrap();
            let session = hit.header("mcp-session-id").unwrap_or_default().to_owned();
            match hit.method() {
                "initialize" => {
                    let mut reply = web::session(&hit);
                    reply.headers_mut().remove("mcp-session-id");
                    if has_sessions {
                        let name = format!("s{}", kept.len());
                        kept.insert(name.clone(), json!("nothing"));
                        reply.headers_mut().insert("mcp-session-id", name.parse().unwrap());
                    }
                    reply
                }
                "tools/call" => {
                    let text = hit.body["params"]["arguments"]["text"].clone();
                    if !text.is_null() {
                        kept.insert(session.clone(), text);
                    }
                    let answer = kept.get(&session).cloned().unwrap_or(json!("unknown"));
                    web::json(200, &web::answer(&hit, &json!({"content": [], "structuredContent": answer})))
                }
                _ => web::session(&hit),
            }
        }
    })
    .await
}

fn isolated(transport: Transport, isolation: Isolation) -> BackendPolicy {
    BackendPolicy { isolation, ..policy(transport, TIMEOUTS) }
}

async fn keeper_rig(server: &Web, isolation: Isolation) -> Rig {
    let rig = Rig::start(isolated(Transport::StreamableHttp(http(&server.url())), isolation));
    rig.until(BackendState::Ready).await;
    rig
}

async fn say(rig: &Rig, ctx: &CallContext, arguments: &str) -> String {
    structured(&rig.call(ctx, "echo", arguments).await)
}

fn own_count(rig: &Rig) -> usize {
    rig.backend.status().caller_connections.unwrap()
}

#[tokio::test]
async fn what_a_server_keeps_for_one_caller_is_not_the_next_ones() {
    let server = keeper(true).await;
    let rig = keeper_rig(&server, Isolation::Automatic { sessions_apart: false }).await;
    let (ann, bob) = (user("ann"), user("bob"));
    // Lists are everybody's, and open no connection.
    rig.backend.inventory(&ann).await.unwrap();
    assert_eq!(own_count(&rig), 0);
    assert_eq!(say(&rig, &ann, r#"{"text":"of ann"}"#).await, "\"of ann\"");
    assert_eq!(say(&rig, &bob, "{}").await, "\"nothing\"");
    assert_eq!(say(&rig, &bob, r#"{"text":"of bob"}"#).await, "\"of bob\"");
    assert_eq!(say(&rig, &ann, "{}").await, "\"of ann\"");
    // Without identity and session all share the backend's own connection.
    let nobody = context(Caller::Anonymous, None);
    assert_eq!(say(&rig, &nobody, "{}").await, "\"nothing\"");
    assert_eq!((own_count(&rig), rig.backend.status().isolation), (2, "perCaller"));
    assert_eq!(rig.backend.scope(&nobody).unwrap(), Scope::Shared);
    assert_ne!(rig.backend.scope(&ann).unwrap(), rig.backend.scope(&bob).unwrap());
    // A caller's connection needs no probe: the backend is known to have sessions.
    assert_eq!(server.with_method("server/discover").len(), 1);
}

#[tokio::test]
async fn sessions_without_identity_are_told_apart_where_they_may_be_different_people() {
    for (sessions_apart, seen) in [(true, "\"nothing\""), (false, "\"of one\"")] {
        let server = keeper(true).await;
        let rig = keeper_rig(&server, Isolation::Automatic { sessions_apart }).await;
        let lives = [ClientLife::default(), ClientLife::default()];
        let [one, other] = [0, 1].map(|index: usize| context(Caller::Anonymous, Some(&lives[index])));
        say(&rig, &one, r#"{"text":"of one"}"#).await;
        assert_eq!(say(&rig, &other, "{}").await, seen);
    }
}

#[tokio::test]
async fn a_server_without_sessions_keeps_nothing_apart() {
    let server = keeper(false).await;
    let rig = keeper_rig(&server, Isolation::PerCaller).await;
    say(&rig, &user("ann"), "{}").await;
    say(&rig, &user("bob"), "{}").await;
    assert_eq!((own_count(&rig), rig.backend.status().isolation), (0, "shared"));
}

#[tokio::test]
async fn a_session_that_has_ended_takes_its_connection_with_it() {
    let server = keeper(true).await;
    let rig = keeper_rig(&server, Isolation::PerSession).await;
    let life = ClientLife::default();
    let ctx = context(caller("ann"), Some(&life));
    say(&rig, &ctx, "{}").await;
    say(&rig, &user("ann"), "{}").await;
    assert_eq!(own_count(&rig), 2);
    drop(life);
    eventually(|| (own_count(&rig) == 1).then_some(())).await;
    // The server's session is ended, too.
    server.until(|hit| hit.verb == http::Method::DELETE).await;
}

#[tokio::test]
async fn one_caller_has_so_many_connections_and_the_idle_one_gives_way() {
    let server = keeper(true).await;
    let bounds = CallerBounds { per_caller_max: 2, ..CallerBounds::DEFAULT };
    let transport = Transport::StreamableHttp(http(&server.url()));
    let rig = Rig::start(BackendPolicy { bounds, ..isolated(transport, Isolation::PerSession) });
    rig.until(BackendState::Ready).await;
    let lives: Vec<ClientLife> = (0..5).map(|_| ClientLife::default()).collect();
    for life in &lives {
        say(&rig, &context(caller("ann"), Some(life)), r#"{"text":"x"}"#).await;
    }
    assert_eq!(own_count(&rig), 2);
    say(&rig, &user("bob"), "{}").await;
    assert_eq!(own_count(&rig), 3);
    // The newest two still have theirs, the oldest has begun anew.
    assert_eq!(say(&rig, &context(caller("ann"), Some(&lives[4])), "{}").await, "\"x\"");
    assert_eq!(say(&rig, &context(caller("ann"), Some(&lives[0])), "{}").await, "\"nothing\"");
}

/// A process that answers each call with its own identifier and how many calls it has had. A call with `slow` takes two
/// seconds.
const COUNTING: &str = r#"
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

async fn counting(isolation: Isolation, count_max: usize, wait: Duration) -> Rig {
    let stdio = StdioPolicy {
        command: "sh".to_owned(),
        args: vec!["-c".to_owned(), COUNTING.to_owned()],
        env: BTreeMap::new(),
        inherit_env: Vec::new(),
        cwd: None,
    };
    let bounds = CallerBounds { wait, ..CallerBounds::DEFAULT };
    let policy = BackendPolicy { bounds, ..isolated(Transport::Stdio(stdio), isolation) };
    let rig = Rig::start_with(policy, &ProcessPolicy { count_max, ..ProcessPolicy::default() });
    rig.until(BackendState::Ready).await;
    rig
}

/// The process that answered, and how many calls it has had.
async fn process(rig: &Rig, ctx: &CallContext) -> (u64, u64) {
    let said: (u64, u64) = serde_json::from_str(&say(rig, ctx, "{}").await).unwrap();
    said
}

#[tokio::test]
async fn each_caller_has_a_process_where_the_operator_says_so() {
    let rig = counting(Isolation::PerCaller, 64, Duration::from_secs(5)).await;
    let (ann, bob) = (user("ann"), user("bob"));
    let (of_ann, of_bob) = (process(&rig, &ann).await, process(&rig, &bob).await);
    assert_ne!(of_ann.0, of_bob.0);
    assert_eq!((of_ann.1, of_bob.1), (1, 1));
    assert_eq!(process(&rig, &ann).await, (of_ann.0, 2));
    assert_eq!(own_count(&rig), 2);
    rig.stop().await;
    let runs = |pid: u64| std::path::Path::new(&format!("/proc/{pid}")).exists();
    assert!(!runs(of_ann.0) && !runs(of_bob.0), "a caller's process ends with the gateway");
}

#[tokio::test]
async fn shared_is_one_process() {
    let rig = counting(Isolation::Shared, 64, Duration::from_secs(5)).await;
    let (one, other) = (process(&rig, &user("ann")).await, process(&rig, &user("bob")).await);
    assert_eq!((one.0, one.1, other.1), (other.0, 1, 2));
}

#[tokio::test]
async fn where_there_is_no_room_an_idle_process_gives_way() {
    // The backend's own, and two of callers.
    let rig = counting(Isolation::PerCaller, 3, Duration::from_secs(8)).await;
    let mut seen = Vec::new();
    for name in ["ann", "bob", "cid", "dan"] {
        let (pid, calls) = process(&rig, &user(name)).await;
        assert_eq!(calls, 1, "a process is not handed from one caller to the next");
        assert!(!seen.contains(&pid));
        seen.push(pid);
        assert!(own_count(&rig) <= 2);
    }
}

#[tokio::test]
async fn where_every_process_is_in_use_a_caller_waits_a_short_time_and_is_told() {
    let rig = counting(Isolation::PerCaller, 2, Duration::from_millis(500)).await;
    let ann = user("ann");
    process(&rig, &ann).await;
    let slow = rig.call(&ann, "echo", r#"{"slow":true}"#);
    let waiting = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let begun = Instant::now();
        let refused = rig.call(&user("bob"), "echo", "{}").await.unwrap_err();
        (refused, begun.elapsed())
    };
    let (answered, (refused, took)) = tokio::join!(slow, waiting);
    answered.unwrap();
    assert!(matches!(refused, Error::BackendFull { .. }), "{refused:?}");
    assert!(took >= Duration::from_millis(450) && took < Duration::from_millis(1500), "{took:?}");
    // Now ann's is idle and gives way.
    let bob = user("bob");
    let mut tries = 0;
    while rig.call(&bob, "echo", "{}").await.is_err() {
        tries += 1;
        assert!(tries < 20);
    }
}
