//! What leases save and cost: the calls admitted for each request to a real Redis at seven tenths of a limit;
//! and a decision from leased tokens compared with one of the memory store, in alternating rounds. Trust
//! ratios, not absolute numbers.
//!
//! `cargo run --release -p vmcp-ratelimit-redis --example leases`

use std::error::Error;
use std::hint::black_box;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmcp_domain::{
    BackendId, BackendToolName, NamePattern, RoutingTarget as ToolTarget, Tool, ToolHints, ToolOverride,
};
use vmcp_json::Members;
use vmcp_ratelimit::lease::{LEASE, LeasePlan, Leases};
use vmcp_ratelimit::policy::{
    Anonymous, Consistency, LeasePolicy, LimitPolicy, Limits, MemoryBounds, Mode, Quota, ToolRule, WaitBounds,
};
use vmcp_ratelimit::{AdmitOutcome, MemoryStore, Plan, Planner, Rate};
use vmcp_ratelimit_redis::{RedisPolicy, RedisStore, ServerUrl, StoreTarget};
use vmcp_timing::SystemClock;

type Outcome<T> = Result<T, Box<dyn Error>>;

const ROUNDS: usize = 15;
const DECISIONS: u32 = 200_000;
/// The limit of the fleet in calls a second, and the rate that it is offered.
const LIMIT: u64 = 20_000;
const OFFERED_RATE: f64 = 0.7 * LIMIT as f64;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two shared buckets, of all calls and of the tool, or one.
fn planner(tokens: u64, with_tool: bool) -> Outcome<Arc<Planner>> {
    let quota = || -> Outcome<Option<Quota>> {
        let windows = vec![Rate::new(tokens, Duration::from_secs(1), tokens)?];
        Ok(Some(Quota::new(windows, Mode::Enforce)))
    };
    let limits = || -> Outcome<Limits> { Ok(Limits { shared: quota()?, ..Limits::default() }) };
    let rule = ToolRule {
        name: NamePattern::new("*"),
        annotation: None,
        group: false,
        limits: limits()?,
        cost: vmcp_ratelimit::policy::Cost::default(),
    };
    Ok(Arc::new(Planner::new(LimitPolicy {
        server: limits()?,
        tools: if with_tool { vec![rule] } else { Vec::new() },
        anonymous: Anonymous::Refuse,
        memory: MemoryBounds::default(),
        waiting: WaitBounds::default(),
        consistency: Consistency::Lease(POLICY),
        ..LimitPolicy::default()
    })))
}

const POLICY: LeasePolicy = LeasePolicy { duration: LEASE, hold_back: false };

fn plan(planner: &Planner) -> Plan {
    planner.plan(&Tool {
        contested_name: None,
        name: "tool".into(),
        target: ToolTarget { backend: BackendId::from("backend"), name: BackendToolName::from("tool") },
        description: None,
        hints: ToolHints::default(),
        definition: Arc::new(Members::new()),
        overrides: ToolOverride::default(),
    })
}

async fn replica(
    url: &str,
    name: &str,
    plan: &Plan,
    count: Option<u32>,
) -> Outcome<(Arc<Leases>, LeasePlan)> {
    let policy = RedisPolicy::new(StoreTarget::Single { url: ServerUrl::parse(url)? }, "ns", name)?;
    let store = Arc::new(RedisStore::start(policy.with_deadline(Duration::from_secs(2))?));
    while !vmcp_ratelimit::RemoteStore::is_available(&*store) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let leases = Leases::new(store, Arc::new(SystemClock::start()), POLICY, count);
    let plan = leases.plan(plan);
    Ok((leases, plan))
}

/// The number of scripts that the server has run.
async fn script_call_count(url: &str) -> Outcome<u64> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let said: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await?;
    let line = said.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap_or("0,");
    Ok(line.split(',').next().unwrap_or("0").parse()?)
}

/// Runs a fleet at seven tenths of the limit: calls admitted, calls refused and requests sent.
async fn fleet(url: &str, count: u32) -> Outcome<(u64, u64, u64)> {
    let plan = plan(&*planner(LIMIT, false)?);
    let mut replicas = Vec::new();
    for _ in 0..count {
        replicas.push(replica(url, &format!("fleet-{count}"), &plan, Some(count)).await?);
    }
    let before = script_call_count(url).await?;
    let run = |(leases, plan): (Arc<Leases>, LeasePlan)| {
        tokio::spawn(async move {
            let (begun, mut made) = (Instant::now(), 0_u64);
            let (mut admitted, mut refused) = (0_u64, 0_u64);
            while begun.elapsed() < Duration::from_secs(4) {
                let due = begun.elapsed().as_secs_f64() * OFFERED_RATE / f64::from(count);
                while (made as f64) < due {
                    made += 1;
                    match leases.admit(&plan).await {
                        Ok(mut paid) => {
                            paid.commit();
                            admitted += 1;
                        }
                        Err(_) => refused += 1,
                    }
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            (admitted, refused)
        })
    };
    let running: Vec<_> = replicas.into_iter().map(run).collect();
    let (mut admitted, mut refused) = (0, 0);
    for task in running {
        let (passed, stopped) = task.await?;
        admitted += passed;
        refused += stopped;
    }
    Ok((admitted, refused, script_call_count(url).await? - before))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Nanoseconds of a decision over two shared buckets: in memory, and from leased tokens.
async fn decisions(url: &str) -> Outcome<(f64, f64)> {
    let planner = planner(100_000_000, true)?;
    let plan = plan(&planner);
    let memory = MemoryStore::new(planner, Arc::new(SystemClock::start()));
    let (leases, leased) = replica(url, "speed", &plan, Some(1)).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for _ in 0..DECISIONS {
            if !matches!(black_box(memory.admit(&plan, None)), AdmitOutcome::Admitted(_)) {
                return Err("refused in memory".into());
            }
        }
        theirs.push(begun.elapsed().as_nanos() as f64 / f64::from(DECISIONS));
        let begun = Instant::now();
        for _ in 0..DECISIONS {
            match black_box(leases.admit(&leased).await) {
                Ok(mut paid) => paid.commit(),
                Err(denied) => return Err(format!("refused: {denied:?}").into()),
            }
        }
        ours.push(begun.elapsed().as_nanos() as f64 / f64::from(DECISIONS));
    }
    Ok((median(ours), median(theirs)))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("s");
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
    let _server = Server(command.arg("--dir").arg(dir.path()).stdout(Stdio::null()).spawn()?);
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let url = format!("unix://{}", socket.display());
    println!(
        "leases of {LEASE:?}, {LIMIT} calls a second allowed, {OFFERED_RATE:.0} offered for four seconds:"
    );
    for count in [1, 4, 8] {
        let (admitted, refused, asked) = fleet(&url, count).await?;
        println!(
            "  {count} replicas: {admitted} admitted, {refused} refused, {asked} questions: {:.0} admitted for each",
            admitted as f64 / asked.max(1) as f64
        );
    }
    let (ours, theirs) = decisions(&url).await?;
    println!("a decision over two shared buckets, medians of {ROUNDS} rounds in turns:");
    println!("  {ours:.0} ns leased, {theirs:.0} ns in memory: {:.0} % of its speed", 100.0 * theirs / ours);
    Ok(())
}
