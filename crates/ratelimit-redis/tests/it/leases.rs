//! Leases between real processes and a real server: whatever replicas do, no window admits more than the
//! documented excess, and in the long run not one call more than the limit.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use vmcp_domain::{BackendId, BackendToolName, RoutingTarget as ToolTarget, Tool, ToolHints, ToolOverride};
use vmcp_json::Members;
use vmcp_ratelimit::lease::{LeasePlan, Leases};
use vmcp_ratelimit::policy::{
    Anonymous, Consistency, LeasePolicy, LimitPolicy, Limits, MemoryBounds, Mode, Quota, WaitBounds,
};
use vmcp_ratelimit::{Planner, Rate, RemoteStore as _, TakeRequest};
use vmcp_ratelimit_redis::{RedisPolicy, RedisStore, ServerUrl, StoreTarget};
use vmcp_timing::SystemClock;

use crate::server::{Server, ServerKind, TEST_TIMEOUT, bucket, wait_available};

/// The variable with the server's URL for the processes of a fleet; without it [`worker`] does nothing.
const WORKER_URL: &str = "VMCP_LEASE_WORKER_URL";
/// The variable with a process's behaviour.
const WORKER_BEHAVIOR: &str = "VMCP_LEASE_WORKER_HABIT";
const TOKENS: u64 = 2000;
const LEASE: Duration = Duration::from_millis(200);
/// What a bucket of `TOKENS` a second refills in a lease.
const EXCESS: u64 = 400;

crate::on_both!(slow:
    hoarding_stays_within_the_bound,
    held_back_no_window_exceeds_the_limit,
    a_restarted_server_gives_one_burst_more_and_no_other,
    what_is_taken_is_gone_and_the_rest_is_shared_out,
);

fn leases(store: Arc<RedisStore>, hold_back: bool) -> (Arc<Leases>, LeasePlan) {
    let lease = LeasePolicy { duration: LEASE, hold_back };
    let rate = Rate::new(TOKENS, Duration::from_secs(1), TOKENS).unwrap();
    let quota = Quota::new(vec![rate], Mode::Enforce);
    let policy = LimitPolicy {
        server: Limits { shared: Some(quota), ..Limits::default() },
        tools: Vec::new(),
        anonymous: Anonymous::Refuse,
        memory: MemoryBounds::default(),
        waiting: WaitBounds::default(),
        consistency: Consistency::Lease(lease),
        ..LimitPolicy::default()
    };
    let tool = Tool {
        contested_name: None,
        name: "tool".into(),
        target: ToolTarget { backend: BackendId::from("backend"), name: BackendToolName::from("tool") },
        description: None,
        hints: ToolHints::default(),
        definition: Arc::new(Members::new()),
        overrides: ToolOverride::default(),
    };
    let leases = Leases::new(store, Arc::new(SystemClock::start()), lease, None);
    let plan = leases.plan(&Planner::new(policy).plan(&tool));
    (leases, plan)
}

/// Microseconds of the machine's clock, the same in every process.
fn machine_now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000 + u64::try_from(now.tv_nsec).unwrap() / 1000
}

/// What all hoarders do at the same moments of the machine's clock.
enum Phase {
    /// They call often, so that they lease many tokens.
    Fill,
    Rest,
    /// They spend what they hold and what the bucket has, as fast as they can.
    Spend,
}

/// The rest is shorter than a lease, so that leased tokens are still valid, or long enough for the bucket to
/// be full again.
fn phase(now: u64) -> Phase {
    const CYCLE: u64 = 2_000_000;
    let rest = if (now / CYCLE).is_multiple_of(2) { 130_000 } else { 900_000 };
    match now % CYCLE {
        0..50_000 => Phase::Fill,
        at if (50_000 + rest..110_000 + rest).contains(&at) => Phase::Spend,
        _ => Phase::Rest,
    }
}

/// Calls for five seconds as its behaviour says, and writes down when each call was admitted.
async fn work(url: &str, habit: &str) {
    let target = StoreTarget::Single { url: ServerUrl::parse(url).unwrap() };
    let policy =
        RedisPolicy::new(target, "ns", "srv").unwrap().with_deadline(Duration::from_secs(2)).unwrap();
    let store = Arc::new(RedisStore::start(policy));
    wait_available(&store).await;
    let (leases, plan) = leases(store, habit.contains("held-back"));
    let begun = machine_now();
    let mut written = String::new();
    while machine_now() - begun < 5_000_000 {
        let calls = match phase(machine_now()) {
            _ if !habit.contains("hoard") => usize::from(machine_now().is_multiple_of(4)),
            Phase::Fill => 3,
            Phase::Rest => 0,
            Phase::Spend => 100,
        };
        for _ in 0..calls {
            if let Ok(mut paid) = leases.admit(&plan).await {
                paid.commit();
                written.push_str(&format!("@{};", machine_now()));
            }
        }
        if habit.contains("die") || written.len() > 4096 {
            print!("{written}");
            written.clear();
        }
        if calls < 100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    println!("{written}");
}

/// One of the processes of a fleet; it is a test in form only.
#[test]
#[allow(clippy::disallowed_methods, reason = "the parent process says what to do")]
fn worker() {
    let (Ok(url), Ok(habit)) = (std::env::var(WORKER_URL), std::env::var(WORKER_BEHAVIOR)) else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(work(&url, &habit));
}

fn spawn(server: &Server, habit: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "leases::worker", "--nocapture"]).env(WORKER_URL, server.url());
    command.env(WORKER_BEHAVIOR, habit).stdout(Stdio::piped()).spawn().unwrap()
}

/// When each call of a process was admitted, once the process has ended.
async fn admitted_until_end(mut process: Child) -> Vec<u64> {
    let said = tokio::task::spawn_blocking(move || {
        let mut said = Vec::new();
        process.stdout.take().unwrap().read_to_end(&mut said).unwrap();
        process.wait().unwrap();
        String::from_utf8_lossy(&said).into_owned()
    });
    let said = tokio::time::timeout(TEST_TIMEOUT, said).await.expect("a process hangs").unwrap();
    said.split('@').skip(1).filter_map(|part| part.split_once(';')?.0.parse().ok()).collect()
}

async fn all_admitted(fleet: Vec<Child>) -> Vec<u64> {
    let mut admitted = Vec::new();
    for process in fleet {
        admitted.extend(admitted_until_end(process).await);
    }
    admitted.sort_unstable();
    assert!(admitted.len() > 2000, "only {} were admitted", admitted.len());
    println!("{} admitted, {} over", admitted.len(), worst_excess(&admitted));
    admitted
}

/// The most by which some window exceeds `TOKENS` and what was refilled in it.
fn worst_excess(admitted: &[u64]) -> i64 {
    let first = admitted.first().copied().unwrap();
    let tokens = i64::try_from(TOKENS).unwrap();
    let earned = |at: u64| i64::try_from(at - first).unwrap() * tokens;
    let (mut lowest, mut worst) = (i64::MAX, i64::MIN);
    for (count, at) in admitted.iter().enumerate() {
        let count = i64::try_from(count).unwrap();
        lowest = lowest.min(count * 1_000_000 - earned(*at));
        worst = worst.max((count + 1) * 1_000_000 - earned(*at) - lowest);
    }
    worst.div_euclid(1_000_000) - tokens
}

async fn hoarding_stays_within_the_bound(kind: ServerKind) {
    let server = Server::start(kind).await;
    let begun = machine_now();
    let mut fleet: Vec<Child> = (0..8).map(|_| spawn(&server, "hoard")).collect();
    fleet.push(spawn(&server, "steady, die"));
    // One process is killed with the tokens that it holds, and one is stopped for longer than its lease.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let signal = |index: usize, signal| kill_process(Pid::from_child(&fleet[index]), signal).unwrap();
    signal(8, Signal::KILL);
    signal(0, Signal::STOP);
    tokio::time::sleep(Duration::from_millis(600)).await;
    signal(0, Signal::CONT);
    let admitted = all_admitted(fleet).await;
    let over = worst_excess(&admitted);
    assert!(over <= i64::try_from(EXCESS).unwrap(), "{over} over");
    let earned = TOKENS + (admitted.last().unwrap() - begun) * TOKENS / 1_000_000;
    assert!(admitted.len() as u64 <= earned, "{} of {earned} over the long run", admitted.len());
}

async fn held_back_no_window_exceeds_the_limit(kind: ServerKind) {
    let server = Server::start(kind).await;
    let fleet = (0..8).map(|_| spawn(&server, "hoard, held-back")).collect();
    let over = worst_excess(&all_admitted(fleet).await);
    assert!(over <= 0, "{over} over");
}

async fn a_restarted_server_gives_one_burst_more_and_no_other(kind: ServerKind) {
    let mut server = Server::start(kind).await;
    let fleet = (0..3).map(|_| spawn(&server, "hoard")).collect();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    server.restart().await;
    let over = worst_excess(&all_admitted(fleet).await);
    assert!(over <= i64::try_from(TOKENS + EXCESS).unwrap(), "{over} over");
}

async fn what_is_taken_is_gone_and_the_rest_is_shared_out(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let slow = Rate::new(100, Duration::from_secs(86_400), 100).unwrap();
    let bucket = bucket("shared:0", slow, 1, Mode::Enforce);
    let take = async |least, need, want| {
        let request = TakeRequest { min_useful: least, need, want, share_divisor: 4 };
        let grant = store.take(&bucket, request).await.unwrap();
        (grant.tokens, slow.tokens(grant.level))
    };
    assert_eq!(take(0, 0, 80).await, (25, 75), "one part of four");
    assert_eq!(take(0, 0, 10).await, (10, 65), "no more than wanted");
    assert_eq!(take(1, 30, 60).await, (30, 35), "what is needed");
    assert_eq!(take(50, 50, 50).await, (0, 35), "too little for anybody");
    assert_eq!(take(8, 40, 40).await, (32, 3), "whole calls");
    assert_eq!(take(1, 9, 9).await, (3, 0));
    assert_eq!(take(0, 0, 9).await, (0, 0));
    let writes = server.call_count("set").await;
    assert_eq!(take(1, 1, 1).await, (0, 0));
    assert_eq!(server.call_count("set").await, writes, "nothing is written for nothing");
}
