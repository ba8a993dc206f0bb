//! Slots that several replicas share: which calls hold them, which calls wait, and what happens without the
//! store.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use vmcp_domain::{Error, Retry};
use vmcp_testkit::conformance;

use crate::limiter::Sharing;
use crate::limiter::admission::tests::harness::{CallResult, Harness, PausedClock, quota, seconds};
use crate::limiter::tests::FakeStore;
use crate::plan::policy::{Concurrency, Limits, Mode, WaitBounds};
use crate::shared::store::{OnStoreFailure, SLOT_LEASE, StoreFailure};

fn limits(shared: u32, per_user: Option<u32>, wait: u64) -> Limits {
    let concurrency = Concurrency {
        shared: NonZeroU32::new(shared),
        per_user: per_user.and_then(NonZeroU32::new),
        mode: Mode::Enforce,
    };
    Limits { concurrency, wait_max: seconds(wait), ..Limits::default() }
}

fn fleet(count: u32, limits: &Limits, on_failure: OnStoreFailure) -> (Vec<Arc<Harness>>, Arc<FakeStore>) {
    let clock = PausedClock::new();
    let store = FakeStore::new(clock.clone());
    let replicas = (0..count).map(|_| {
        let sharing =
            Sharing { store: store.clone(), on_failure, replica_count: Some(count), slot_lease: SLOT_LEASE };
        Arc::new(Harness::with_sharing(
            (limits.clone(), vec![], WaitBounds::default()),
            clock.clone(),
            Some(sharing),
        ))
    });
    (replicas.collect(), store)
}

/// Starts a call that is in flight until it is aborted.
async fn start_hanging(harness: &Harness, user: &str) -> JoinHandle<CallResult> {
    let call = harness.start(user, "hang").await;
    sleep(Duration::from_millis(1)).await;
    call
}

async fn abort_call(call: JoinHandle<CallResult>) {
    call.abort();
    let _ = call.await;
    sleep(Duration::from_millis(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_bound_is_the_fleet_s() {
    let (replicas, store) = fleet(3, &limits(2, Some(1), 0), OnStoreFailure::Deny);
    let ann = start_hanging(&replicas[0], "ann").await;
    assert_eq!(replicas[1].call("ann", "t").await, Err(Retry::WhenReleased), "hers");
    let ben = start_hanging(&replicas[1], "ben").await;
    assert_eq!(replicas[2].call("cyd", "t").await, Err(Retry::WhenReleased), "everybody's");
    assert_eq!(store.in_flight(""), 4, "a refusal holds nothing");
    // For much longer than a lease.
    sleep(SLOT_LEASE * 5).await;
    assert_eq!(replicas[2].call("cyd", "t").await, Err(Retry::WhenReleased));
    abort_call(ann).await;
    assert_eq!(replicas[2].call("cyd", "t").await, Ok(Duration::ZERO));
    abort_call(ben).await;
    assert_eq!(store.in_flight(""), 0);
    assert!(replicas[1].limiter.wait_settled(Duration::ZERO).await);
}

#[tokio::test(start_paused = true)]
async fn a_call_has_a_slot_and_its_tokens_or_neither() {
    let limits = Limits { shared: quota(2, 60), ..limits(1, None, 0) };
    let (replicas, store) = fleet(2, &limits, OnStoreFailure::Deny);
    let ann = start_hanging(&replicas[0], "ann").await;
    assert_eq!(replicas[1].call("ben", "t").await, Err(Retry::WhenReleased));
    abort_call(ann).await;
    assert_eq!(replicas[1].call("ben", "t").await, Ok(Duration::ZERO), "without a slot no token was paid");
    assert!(matches!(replicas[1].call("ben", "t").await, Err(Retry::After(_))));
    assert_eq!(store.request_count.load(Ordering::SeqCst), 0, "slots and tokens are one question");
    sleep(Duration::from_millis(2)).await;
    assert_eq!(store.in_flight(""), 0, "without tokens no slot is kept");
}

#[tokio::test(start_paused = true)]
async fn what_is_full_here_is_not_asked_for() {
    let (replicas, store) = fleet(2, &limits(1, None, 0), OnStoreFailure::Deny);
    let ann = start_hanging(&replicas[0], "ann").await;
    for _ in 0..5 {
        assert_eq!(replicas[0].call("ben", "t").await, Err(Retry::WhenReleased));
    }
    assert_eq!(store.slots.acquire_count.load(Ordering::SeqCst), 1);
    abort_call(ann).await;
}

#[tokio::test(start_paused = true)]
async fn without_the_store_the_policy_decides() {
    let outage = Some(StoreFailure::Timeout);
    let (allow, store) = fleet(2, &limits(2, None, 0), OnStoreFailure::Allow);
    store.set_failure(outage);
    let held = [start_hanging(&allow[0], "a").await, start_hanging(&allow[0], "b").await];
    assert_eq!(allow[0].call("c", "t").await, Err(Retry::WhenReleased), "it has all of them itself");
    assert_eq!(allow[1].call("c", "t").await, Ok(Duration::ZERO));
    drop(held);

    let (deny, store) = fleet(2, &limits(2, None, 0), OnStoreFailure::Deny);
    store.set_failure(outage);
    let refusal = deny[0].gateway.call_tool(&deny[0].context("a"), conformance::tool_call("t")).await;
    assert!(matches!(refusal, Err(Error::LimitsUnavailable)));

    let (local, store) = fleet(2, &limits(4, None, 0), OnStoreFailure::Local);
    let held = start_hanging(&local[0], "a").await;
    store.set_failure(outage);
    let alone = start_hanging(&local[0], "b").await;
    assert_eq!(
        local[0].call("c", "t").await,
        Err(Retry::WhenReleased),
        "half of four, with what it held before"
    );
    let other = [start_hanging(&local[1], "a").await, start_hanging(&local[1], "b").await];
    assert_eq!(local[1].call("c", "t").await, Err(Retry::WhenReleased));
    // Each replica reports its calls as soon as the store is back.
    store.set_failure(None);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(store.in_flight(""), 4);
    assert_eq!(local[0].call("c", "t").await, Err(Retry::WhenReleased));
    abort_call(alone).await;
    assert_eq!(local[1].call("c", "t").await, Ok(Duration::ZERO));
    drop((held, other));
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_another_replica_gives_back_is_noticed() {
    let (replicas, store) = fleet(2, &limits(1, None, 60), OnStoreFailure::Deny);
    let ann = start_hanging(&replicas[0], "ann").await;
    let waiting: Vec<_> = [
        replicas[1].start("ben", "t").await,
        replicas[1].start("cyd", "t").await,
        replicas[1].start("dan", "t").await,
    ]
    .into();
    sleep(seconds(10)).await;
    // The first call of a queue polls the store repeatedly, but not too often.
    let asked = store.slots.acquire_count.load(Ordering::SeqCst);
    assert!((100..500).contains(&asked), "{asked} times in ten seconds");
    abort_call(ann).await;
    let freed = Instant::now();
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    assert!(freed.elapsed() < Duration::from_millis(150), "{:?}", freed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_passed_on_here_without_a_pause() {
    let (replicas, _store) = fleet(2, &limits(1, None, 60), OnStoreFailure::Deny);
    let ann = start_hanging(&replicas[0], "ann").await;
    let ben = replicas[0].start("ben", "t").await;
    sleep(seconds(1)).await;
    ann.abort();
    let _ = ann.await;
    let freed = Instant::now();
    ben.await.unwrap().unwrap();
    assert!(freed.elapsed() <= Duration::from_millis(2), "{:?}", freed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn replicas_with_queues_take_turns() {
    let (replicas, _store) = fleet(2, &limits(1, None, 3600), OnStoreFailure::Deny);
    // One replica has a queue that never ends, of calls of a second each.
    let queue: Vec<_> = (0..10)
        .map(|_| {
            let harness = replicas[0].clone();
            tokio::spawn(async move {
                let ctx = harness.context("ann");
                let tools = harness.gateway.list_tools(&ctx).await.unwrap();
                let tool_plan = harness.limiter.tool_plan(&tools, &"t".into()).unwrap();
                loop {
                    let _permit = harness.limiter.admit(&tool_plan, &ctx).await.unwrap();
                    sleep(seconds(1)).await;
                }
            })
        })
        .collect();
    sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    replicas[1].call("ben", "t").await.unwrap();
    assert!(begun.elapsed() < seconds(4), "{:?}", begun.elapsed());
    assert_eq!(replicas[0].limiter.waiting_count(), 10);
    queue.iter().for_each(JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_queue_for_a_shared_slot_holds_nothing() {
    let (replicas, store) = fleet(2, &limits(1, None, 60), OnStoreFailure::Deny);
    let ann = start_hanging(&replicas[0], "ann").await;
    let ben = replicas[1].start("ben", "t").await;
    sleep(seconds(1)).await;
    abort_call(ben).await;
    let asked = store.slots.acquire_count.load(Ordering::SeqCst);
    sleep(seconds(1)).await;
    assert_eq!(store.slots.acquire_count.load(Ordering::SeqCst), asked);
    abort_call(ann).await;
    assert_eq!(store.in_flight(""), 0);
}

/// A replica without others passes its slots on without ever leaving them alone.
#[tokio::test(start_paused = true)]
async fn one_replica_alone_never_pauses_its_queue() {
    let (replicas, _store) = fleet(1, &limits(1, None, 3600), OnStoreFailure::Deny);
    let begun = Instant::now();
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let harness = replicas[0].clone();
            tokio::spawn(async move {
                let ctx = harness.context("ann");
                let tools = harness.gateway.list_tools(&ctx).await.unwrap();
                let plan = harness.limiter.tool_plan(&tools, &"t".into()).unwrap();
                let _permit = harness.limiter.admit(&plan, &ctx).await.unwrap();
                sleep(seconds(1)).await;
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert!(begun.elapsed() < seconds(6) + Duration::from_millis(30), "{:?}", begun.elapsed());
}
