//! A fleet of real processes on a real server. Each process writes down, by the machine's own clock, when a
//! call behind its limiter began and ended. The parent counts how many were in flight at each moment, without
//! asking the limiter.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use vmcp_domain::{
    CallContext, CallOrigin, CallTool, Caller, Gateway, GatewayFuture, Identity, Reply, SharedGateway,
    forward,
};
use vmcp_json::Members;
use vmcp_ratelimit::policy::{
    Anonymous, Concurrency, Consistency, LimitPolicy, Limits, MemoryBounds, Mode, WaitBounds,
};
use vmcp_ratelimit::{Limiter, NoObserver, OnStoreFailure, Planner, RateLimited, Sharing};
use vmcp_ratelimit_redis::{RedisPolicy, RedisStore, ServerUrl, StoreTarget};
use vmcp_testkit::{FakeGateway, conformance, tool};
use vmcp_timing::SystemClock;

use crate::server::{Server, ServerKind, TEST_TIMEOUT, wait_available};

/// The variable with the server's URL for the processes of a fleet; without it [`worker`] does nothing.
const WORKER_URL: &str = "VMCP_SLOT_WORKER_URL";
/// The variable with a process's behaviour.
const WORKER_BEHAVIOR: &str = "VMCP_SLOT_WORKER_HABIT";
/// The most calls in flight, in the whole fleet.
pub(super) const COUNT_MAX: usize = 4;
pub(super) const LEASE: Duration = Duration::from_secs(2);

crate::on_both!(slow: a_killed_replica_s_slots_come_back_within_the_lease, replicas_that_wait_take_turns);

/// Microseconds of the machine's clock, the same in every process.
pub(super) fn machine_now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000 + u64::try_from(now.tv_nsec).unwrap() / 1000
}

/// Takes the position of the backends, and writes down which calls reach them and when they are over.
struct RecordingGateway {
    inner: SharedGateway,
    call_duration: Duration,
}

struct InFlightRecord;

impl InFlightRecord {
    fn begin() -> Self {
        record_event('+');
        Self
    }
}

impl Drop for InFlightRecord {
    fn drop(&mut self) {
        record_event('-');
    }
}

/// One write for each line, so that the events of a killed process are complete.
fn record_event(what: char) {
    let line = format!("@{what}{};\n", machine_now());
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).unwrap();
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for RecordingGateway {
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let _in_flight = InFlightRecord::begin();
            tokio::time::sleep(self.call_duration).await;
            self.inner.call_tool(ctx, request).await
        })
    }

    forward!(
        list_tools,
        list_resources,
        list_resource_templates,
        read_resource,
        list_prompts,
        get_prompt,
        complete,
        task,
    );
}

/// Calls as its behaviour says: `callers` at a time, each call for `stay` milliseconds, for `run`
/// milliseconds.
async fn work(url: &str, habit: &str) {
    let number = |name: &str| {
        let found = habit.split(' ').find_map(|part| part.strip_prefix(&format!("{name}=")));
        found.map_or(0, |text| text.parse::<u64>().unwrap())
    };
    let target = StoreTarget::Single { url: ServerUrl::parse(url).unwrap() };
    let deadline = Duration::from_millis(200);
    let policy = RedisPolicy::new(target, "ns", "srv").unwrap().with_deadline(deadline).unwrap();
    let policy = policy.with_heartbeat(Duration::from_millis(100)).unwrap();
    let store = Arc::new(RedisStore::start(policy));
    wait_available(&store).await;
    let shared = u32::try_from(COUNT_MAX).unwrap().try_into().unwrap();
    let concurrency = Concurrency { shared: Some(shared), per_user: None, mode: Mode::Enforce };
    let wait_max = Duration::from_millis(number("wait"));
    let policy = LimitPolicy {
        server: Limits { concurrency, wait_max, ..Limits::default() },
        tools: Vec::new(),
        anonymous: Anonymous::Refuse,
        memory: MemoryBounds::default(),
        waiting: WaitBounds::default(),
        consistency: Consistency::Exact,
        ..LimitPolicy::default()
    };
    let sharing = Sharing { store, on_failure: OnStoreFailure::Deny, replica_count: None, slot_lease: LEASE };
    let planner = Arc::new(Planner::new(policy));
    let limiter = Limiter::new(planner, Arc::new(SystemClock::start()), Some(sharing), Arc::new(NoObserver));
    let inner = FakeGateway::new(vec![tool("backend", "tool", "tool")]);
    let witness = Arc::new(RecordingGateway { inner, call_duration: Duration::from_millis(number("stay")) });
    let gateway = RateLimited::wrap(witness, limiter.clone());
    let (begun, run) = (std::time::Instant::now(), Duration::from_millis(number("run")));
    let callers = (0..number("callers")).map(|caller| {
        let gateway = gateway.clone();
        let identity = Identity { issuer: "i".into(), subject: caller.to_string(), claims: Members::new() };
        let ctx = CallContext::bare(Caller::Known(Arc::new(identity)), CallOrigin::Client);
        tokio::spawn(async move {
            while begun.elapsed() < run {
                let answered = gateway.call_tool(&ctx, conformance::tool_call("tool")).await.is_ok();
                // The latency to a client and back; a refused call is repeated later.
                tokio::time::sleep(Duration::from_millis(if answered { 2 } else { 5 })).await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    assert!(limiter.wait_settled(Duration::from_secs(1)).await, "what is held is given back at the end");
}

/// One of the processes of a fleet; it is a test in form only.
#[test]
#[allow(clippy::disallowed_methods, reason = "the parent process says what to do")]
fn worker() {
    let (Ok(url), Ok(habit)) = (std::env::var(WORKER_URL), std::env::var(WORKER_BEHAVIOR)) else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(work(&url, &habit));
}

/// What a process wrote down: the moment, and whether a call began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Event {
    pub(super) at: u64,
    /// Sorted after an end at the same moment, so that no slot is counted twice.
    pub(super) begins: bool,
    pub(super) worker: usize,
}

/// Processes over one server.
pub(super) struct Fleet {
    workers: Vec<Child>,
    channel: (Sender<Event>, Receiver<Event>),
    pub(super) events: Vec<Event>,
}

impl Fleet {
    pub(super) fn new() -> Self {
        Self { workers: Vec::new(), channel: channel(), events: Vec::new() }
    }

    pub(super) fn spawn(&mut self, server: &Server, habit: &str) -> usize {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "slots::fleet::worker", "--nocapture"]).env(WORKER_URL, server.url());
        let mut child = command.env(WORKER_BEHAVIOR, habit).stdout(Stdio::piped()).spawn().unwrap();
        let (out, tell, worker) = (child.stdout.take().unwrap(), self.channel.0.clone(), self.workers.len());
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let Some(said) = line.split('@').nth(1).and_then(|said| said.strip_suffix(';')) else {
                    continue;
                };
                let at = said[1..].parse().unwrap();
                let _ = tell.send(Event { at, begins: said.starts_with('+'), worker });
            }
        });
        self.workers.push(child);
        worker
    }

    pub(super) fn signal(&self, worker: usize, signal: Signal) {
        kill_process(Pid::from_child(&self.workers[worker]), signal).unwrap();
    }

    /// Kills a process, and returns a moment before and one after.
    async fn kill(&mut self, worker: usize) -> (u64, u64) {
        let before = machine_now();
        self.workers[worker].kill().unwrap();
        self.workers[worker].wait().unwrap();
        // What it wrote is read to its end.
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.drain_events();
        (before, machine_now())
    }

    fn drain_events(&mut self) {
        self.events.extend(self.channel.1.try_iter());
    }

    /// Waits until calls of every process have begun.
    pub(super) async fn wait_begun(&mut self) {
        let start = std::time::Instant::now();
        while !(0..self.workers.len()).all(|worker| self.events.iter().any(|event| event.worker == worker)) {
            assert!(start.elapsed() < TEST_TIMEOUT, "a process does nothing");
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.drain_events();
        }
    }

    /// Waits until a process has this number of calls in flight.
    pub(super) async fn wait_in_flight(&mut self, worker: usize, count: usize) {
        let start = std::time::Instant::now();
        loop {
            self.drain_events();
            let own = self.events.iter().filter(|event| event.worker == worker);
            let held = own.map(|event| if event.begins { 1 } else { -1 }).sum::<i64>();
            if usize::try_from(held) == Ok(count) {
                return;
            }
            assert!(start.elapsed() < TEST_TIMEOUT, "process {worker} has {held} calls in flight");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// All events that were written down, once all processes have ended.
    pub(super) async fn wait_ended(mut self) -> Vec<Event> {
        let start = std::time::Instant::now();
        while self.workers.iter_mut().any(|worker| worker.try_wait().unwrap().is_none()) {
            assert!(start.elapsed() < TEST_TIMEOUT, "a process hangs");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.drain_events();
        let mut events = std::mem::take(&mut self.events);
        events.sort_unstable();
        events
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

/// The number of calls in flight after each event.
pub(super) fn in_flight(events: &[Event]) -> Vec<(Event, usize)> {
    let mut count = 0_usize;
    let step = |event: &Event| {
        count = if event.begins { count + 1 } else { count.saturating_sub(1) };
        (*event, count)
    };
    events.iter().map(step).collect()
}

/// The most calls that were in flight at some moment of a stretch of time.
pub(super) fn in_flight_max(events: &[Event], from: u64, until: u64) -> usize {
    let counted = in_flight(events);
    let before = counted.iter().rev().find(|(event, _)| event.at < from).map_or(0, |(_, count)| *count);
    let within = counted.iter().filter(|(event, _)| (from..until).contains(&event.at));
    within.map(|(_, count)| *count).max().unwrap_or(0).max(before)
}

async fn a_killed_replica_s_slots_come_back_within_the_lease(kind: ServerKind) {
    let server = Server::start(kind).await;
    let mut fleet = Fleet::new();
    // One process holds half of all slots with calls that do not end; the others would take more than there
    // are.
    let doomed = fleet.spawn(&server, "callers=2 stay=60000 run=60000");
    fleet.wait_in_flight(doomed, 2).await;
    for _ in 0..2 {
        fleet.spawn(&server, "callers=6 stay=15 run=10000");
    }
    // Several leases long, so that only slots that are reported can still be held.
    tokio::time::sleep(Duration::from_millis(5000)).await;
    let (before, after) = fleet.kill(doomed).await;
    let mut events = fleet.wait_ended().await;
    // Its calls were in flight until it was dead.
    events.extend([0, 1].map(|_| Event { at: after, begins: false, worker: doomed }));
    events.sort_unstable();
    println!("{} calls, at most {} at once", events.len() / 2, in_flight_max(&events, 0, u64::MAX));
    assert!(events.len() > 150, "only {} events", events.len());
    assert_eq!(in_flight_max(&events, 0, u64::MAX), COUNT_MAX, "never above the bound, and up to it");
    let lease = u64::try_from(LEASE.as_micros()).unwrap();
    let others: Vec<Event> = events.iter().copied().filter(|event| event.worker != doomed).collect();
    // The last report may be half a lease old, not more.
    assert!(
        in_flight_max(&others, 0, before + lease / 4) <= COUNT_MAX - 2,
        "they were the dead one's for a while"
    );
    let back = in_flight(&others).into_iter().find(|(_, count)| *count > COUNT_MAX - 2).unwrap().0.at;
    println!("back after {} ms", (back - before) / 1000);
    assert!(back <= after + lease + 300_000, "back after {} ms", (back - after) / 1000);
    assert_eq!(in_flight_max(&others, after + lease, u64::MAX), COUNT_MAX);
}

async fn replicas_that_wait_take_turns(kind: ServerKind) {
    let server = Server::start(kind).await;
    let mut fleet = Fleet::new();
    // Each of them alone could use every slot all the time.
    for _ in 0..3 {
        fleet.spawn(&server, "callers=12 stay=300 wait=20000 run=9000");
    }
    let events = fleet.wait_ended().await;
    assert_eq!(in_flight_max(&events, 0, u64::MAX), COUNT_MAX);
    // The last half second is left out: each process then serves only the calls that still wait.
    let end = events[0].at + 8_500_000;
    let own = |event: &&Event, worker| event.begins && event.worker == worker && event.at < end;
    let calls = |worker| events.iter().filter(|event| own(event, worker)).count();
    let calls: Vec<usize> = (0..3).map(calls).collect();
    println!("{calls:?} calls");
    assert!(calls.iter().sum::<usize>() > 60, "{calls:?}");
    assert!(calls.iter().all(|count| *count >= 2), "{calls:?}");
}
