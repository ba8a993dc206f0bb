//! Many callers: no caller waits longer because of another one's calls, and the limit holds whatever they do.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;

use super::shared;
use crate::limiter::admission::tests::harness::{Harness, quota, rule, seconds};
use crate::plan::policy::{Concurrency, Limits, Mode};

/// Admissions: the moment in milliseconds, and the cost.
type AdmissionLog = Arc<Mutex<Vec<(u64, u64)>>>;

/// Whether the admissions between every two moments fit into burst and refill.
fn is_within_limit(log: &AdmissionLog, burst: u64, per_second: u64) -> bool {
    let mut log = log.lock().clone();
    log.sort_unstable();
    // The level that the bucket must have had, in thousandths of a token.
    let (mut level, mut at) = (burst * 1000, 0);
    log.into_iter().all(|(moment, cost)| {
        // An admission is recorded up to a millisecond late, never early.
        level = (level + (moment + 1 - at) * per_second).min(burst * 1000);
        at = moment + 1;
        let pays = level >= cost * 1000;
        level = level.saturating_sub(cost * 1000);
        pays
    })
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_wait_their_share_whatever_one_of_them_sends() {
    const CALLERS: u64 = 1000;
    const RATE: u64 = 100;
    let harness = Arc::new(Harness::new(shared(RATE, 1, 60), vec![]));
    let begun = tokio::time::Instant::now();
    let log = AdmissionLog::default();
    let mut tasks = Vec::new();
    // Two hundred tasks of one caller come first, against one task of each other caller.
    for _ in 0..200 {
        let (harness, log) = (harness.clone(), log.clone());
        tasks.push(tokio::spawn(async move {
            let mut longest = Duration::ZERO;
            for _ in 0..3 {
                if let Ok(waited) = harness.call("greedy", "t").await {
                    longest = longest.max(waited);
                    log.lock().push((begun.elapsed().as_millis() as u64, 1));
                }
            }
            longest
        }));
    }
    let greedy = tasks.len();
    for caller in 1..CALLERS {
        let (harness, log) = (harness.clone(), log.clone());
        tasks.push(tokio::spawn(async move {
            let mut longest = Duration::ZERO;
            for _ in 0..3 {
                longest = longest.max(harness.call(&caller.to_string(), "t").await.unwrap());
                log.lock().push((begun.elapsed().as_millis() as u64, 1));
            }
            longest
        }));
    }
    let mut longest = Duration::ZERO;
    for (index, task) in tasks.into_iter().enumerate() {
        let waited = task.await.unwrap();
        if index >= greedy {
            longest = longest.max(waited);
        }
    }
    // Every caller has one call at a time, so a fair turn is one call of each: a thousand tokens.
    let share = seconds(CALLERS / RATE);
    assert!(longest <= share + Duration::from_millis(20), "{longest:?} of {share:?}");
    assert!(longest >= share - Duration::from_secs(1), "there was contention: {longest:?}");
    assert!(is_within_limit(&log, RATE, RATE));
    assert_eq!(harness.limiter.waiting_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dear_call_gets_as_many_tokens_as_cheap_ones() {
    let server = shared(10, 1, 600);
    let tools = vec![rule("t", 10, Limits { shared: quota(10_000, 1), ..Limits::default() })];
    let harness = Arc::new(Harness::new(server, tools));
    harness.call("a", "t").await.unwrap();
    let mut tasks = Vec::new();
    for (user, tool, calls) in [("dear", "t", 5), ("cheap", "u", 50)] {
        for _ in 0..calls {
            tasks.push((user, harness.start(user, tool).await));
        }
    }
    let mut last = [Duration::ZERO; 2];
    for (user, task) in tasks {
        let waited = task.await.unwrap().unwrap();
        let index = usize::from(user == "cheap");
        last[index] = last[index].max(waited);
    }
    // A hundred tokens in ten seconds, half of them for each caller: both are done at the end and neither
    // before.
    assert_eq!(last[0].max(last[1]), seconds(10));
    assert!(last[0].min(last[1]) >= seconds(8), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn two_scarce_buckets_starve_nobody() {
    // All callers need the server's tokens; half of them also need a tool's, which are scarcer still.
    let harness = Arc::new(Harness::new(shared(10, 1, 3600), vec![rule("t", 1, shared(1, 1, 3600))]));
    let mut tasks = Vec::new();
    for caller in 0..20_u32 {
        let harness = harness.clone();
        tasks.push(tokio::spawn(async move {
            let tool = if caller % 2 == 0 { "t" } else { "u" };
            let calls = if caller % 2 == 0 { 6 } else { 54 };
            let mut longest = Duration::ZERO;
            for _ in 0..calls {
                longest = longest.max(harness.call(&caller.to_string(), tool).await.unwrap());
            }
            longest
        }));
    }
    let mut longest = [Duration::ZERO; 2];
    for (index, task) in tasks.into_iter().enumerate() {
        longest[index % 2] = longest[index % 2].max(task.await.unwrap());
    }
    // Ten callers of a tool with one token a second, and nine tokens a second left for the ten others.
    assert!(longest[0] <= Duration::from_millis(11_500), "callers of the scarce tool: {longest:?}");
    assert!(longest[1] <= Duration::from_millis(2_500), "callers of the others: {longest:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever is called, waited for and cancelled: no bucket ever admits more than its limit. In the end no
    /// call waits, and every bucket is as full as if no call had waited.
    #[test]
    fn no_bucket_gives_more_than_it_has(
        calls in proptest::collection::vec((0..4_u8, 0..3_usize, 0..4000_u64, proptest::option::of(0..3000_u64)), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let tools = vec![rule("t", 2, shared(4, 2, 5)), rule("u", 1, Limits {
                per_user: quota(1, 1), wait_max: seconds(3), ..Limits::default()
            })];
            let harness = Arc::new(Harness::new(shared(6, 2, 4), tools));
            let begun = tokio::time::Instant::now();
            let (server, tool) = (AdmissionLog::default(), AdmissionLog::default());
            let tasks: Vec<_> = calls.into_iter().map(|(user, which, at, patience)| {
                let (harness, server, tool) = (harness.clone(), server.clone(), tool.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(at)).await;
                    let name = ["t", "u", "v"][which];
                    let patience = Duration::from_millis(patience.unwrap_or(60_000));
                    let user = user.to_string();
                    let call = harness.call(&user, name);
                    if let Ok(Ok(_)) = tokio::time::timeout(patience, call).await {
                        let (now, cost) = (begun.elapsed().as_millis() as u64, if which == 0 { 2 } else { 1 });
                        server.lock().push((now, cost));
                        if which == 0 {
                            tool.lock().push((now, cost));
                        }
                    }
                })
            }).collect();
            for task in tasks {
                task.await.unwrap();
            }
            assert!(is_within_limit(&server, 6, 3), "{server:?}");
            assert!(is_within_limit(&tool, 4, 2), "{tool:?}");
            harness.wait_outcomes.outcomes();
            assert_eq!(harness.limiter.waiting_count(), 0);
            tokio::time::sleep(seconds(60)).await;
            for _ in 0..6 {
                assert_eq!(harness.call("v", "v").await, Ok(Duration::ZERO));
            }
        });
    }
}

/// A call that is counted for as long as it runs.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(count: Arc<AtomicUsize>) -> Self {
        assert!(count.fetch_add(1, Ordering::SeqCst) < 3, "three at a time");
        Self(count)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_is_forgotten_and_nothing_is_given_twice_on_many_threads() {
    let concurrency =
        Concurrency { shared: NonZeroU32::new(3), per_user: NonZeroU32::new(2), mode: Mode::Enforce };
    let server = Limits { concurrency, per_user: quota(100, 1), ..shared(300, 1, 60) };
    let harness = Arc::new(Harness::new(server, vec![]));
    let (running, begun) = (Arc::new(AtomicUsize::new(0)), tokio::time::Instant::now());
    let call = |user: u32| {
        let (harness, running) = (harness.clone(), running.clone());
        tokio::spawn(async move {
            let ctx = harness.context(&user.to_string());
            let tools = harness.gateway.list_tools(&ctx).await.unwrap();
            let tool_plan = harness.limiter.tool_plan(&tools, &"t".into()).unwrap();
            let _permit = harness.limiter.admit(&tool_plan, &ctx).await.unwrap();
            // Counted out before the permit is dropped, also where the call is aborted in between.
            let _running = Running::begin(running);
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        })
    };
    // Ninety calls of each of twenty users, which fit into a user's share of the wait queues; some are
    // cancelled.
    let calls: Vec<_> = (0..1800).map(|number| call(number % 20)).collect();
    for (index, call) in calls.iter().enumerate() {
        if index % 7 == 3 {
            call.abort();
        }
    }
    let mut admitted: u64 = 0;
    for call in calls {
        match tokio::time::timeout(seconds(60), call).await.expect("somebody is forgotten") {
            Ok(()) => admitted += 1,
            Err(error) => assert!(error.is_cancelled(), "{error}"),
        }
    }
    let most = 300 + 300 * (begun.elapsed().as_millis() as u64 + 1) / 1000;
    assert!((1500..=most).contains(&admitted), "{admitted} of {most}");
    assert_eq!(harness.limiter.waiting_count(), 0);
}
