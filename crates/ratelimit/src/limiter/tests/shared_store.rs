//! Payments to the shared store: refunds, requests, and what a failure of one partition means for the others.

use super::*;
use crate::plan::policy::{CallerSelector, LimitSize, Override, Overrides, RemainingHints};

fn shared_harness(policy: LimitPolicy, on_failure: OnStoreFailure) -> (Harness, Arc<FakeStore>) {
    harness_with_store(policy, on_failure, Arc::new(NoObserver))
}

/// The tokens of the caller's own bucket.
async fn own_level(harness: &Harness, ctx: &CallContext) -> u64 {
    let tools = harness.gateway.list_tools(ctx).await.unwrap();
    let views = harness.limiter.peek(&tools, &"a_search".into(), ctx).await.unwrap();
    views.iter().find(|view| view.rule.contains("perUser")).unwrap().level
}

/// The caller's own bucket is in a partition of its own and pays first. The slots of all callers are in
/// another one.
#[tokio::test(start_paused = true)]
async fn what_was_paid_is_given_back_when_another_partition_refuses() {
    let concurrency = Concurrency { shared: NonZeroU32::new(1), per_user: None, mode: Mode::Enforce };
    let server = Limits { per_user: quota(5, 60), concurrency, ..Limits::default() };
    let (harness, store) = shared_harness(split_policy(server.clone()), OnStoreFailure::Deny);
    let sharing = Sharing {
        store: store.clone(),
        on_failure: OnStoreFailure::Deny,
        replica_count: None,
        slot_lease: SLOT_LEASE,
    };
    let other = harness_with_clock(harness.clock.clone(), split_policy(server), Some(sharing));
    let (ann, ben) = (known("i", "ann"), known("i", "ben"));
    let tools = other.gateway.list_tools(&ann).await.unwrap();
    let plan = other.limiter.tool_plan(&tools, &"a_search".into()).unwrap();
    let in_flight = other.limiter.admit(&plan, &ann).await.unwrap();
    assert_eq!(refused(call(&harness, "a_search", &ben).await).rule, "concurrency.shared");
    assert_eq!((own_level(&harness, &ann).await, own_level(&harness, &ben).await), (4, 5));
    drop(in_flight);
}

#[tokio::test]
async fn a_failing_partition_of_shadow_rules_stops_no_call() {
    let shadow = quota(5, 60).map(|quota| Quota { mode: Mode::Shadow, ..quota });
    let server = Limits { shared: quota(3, 60), per_user: shadow, ..Limits::default() };
    for on_failure in [OnStoreFailure::Deny, OnStoreFailure::Allow, OnStoreFailure::Local] {
        let (harness, store) = shared_harness(split_policy(server.clone()), on_failure);
        let ann = known("i", "ann");
        call(&harness, "a_search", &ann).await.unwrap();
        let own = store.partitions.lock().iter().flatten().next().cloned();
        assert!(own.is_some());
        *store.failing_partition.lock() = Some(own);
        let passed = [call(&harness, "a_search", &ann).await, call(&harness, "a_search", &ann).await];
        assert!(passed.iter().all(Result::is_ok), "{on_failure:?}: {passed:?}");
        assert_eq!(
            refused(call(&harness, "a_search", &ann).await).rule,
            "shared",
            "which has paid each time"
        );
    }
}

#[tokio::test]
async fn the_replica_s_own_full_queue_stops_no_call_under_shadow_rules() {
    let shadow = quota(5, 60).map(|quota| Quota { mode: Mode::Shadow, ..quota });
    let limits = policy(Limits { shared: shadow, ..Limits::default() }, vec![], Anonymous::Refuse);
    let (harness, store) = shared_harness(limits, OnStoreFailure::Deny);
    store.set_failure(Some(StoreFailure::Overloaded));
    call(&harness, "a_search", &known("i", "ann")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_known_is_not_asked_for_where_slots_would_be_held() {
    let concurrency = Concurrency { shared: NonZeroU32::new(9), per_user: None, mode: Mode::Enforce };
    let server = Limits { per_user: quota(1, 60), concurrency, ..Limits::default() };
    let (harness, store) = shared_harness(split_policy(server), OnStoreFailure::Deny);
    store.knows_refusals.store(true, Ordering::SeqCst);
    let ann = known("i", "ann");
    call(&harness, "a_search", &ann).await.unwrap();
    refused(call(&harness, "a_search", &ann).await);
    let asked = store.request_count.load(Ordering::SeqCst) + store.slots.acquire_count.load(Ordering::SeqCst);
    for _ in 0..3 {
        refused(call(&harness, "a_search", &ann).await);
    }
    let now = store.request_count.load(Ordering::SeqCst) + store.slots.acquire_count.load(Ordering::SeqCst);
    assert_eq!(now, asked);
}

/// A bucket of two tokens is full again after two minutes at most, even from the deepest debt of its size.
#[tokio::test]
async fn former_keys_are_looked_at_while_their_levels_may_matter() {
    let server = Limits { shared: quota(2, 60), ..Limits::default() };
    let longest = policy(server.clone(), vec![], Anonymous::Refuse).debt_recovery_max();
    for (age, is_read) in [
        (None, true),
        (Some(Duration::ZERO), true),
        (longest.checked_sub(Duration::from_micros(1)), true),
        (Some(longest), false),
        (Some(Duration::MAX), false),
    ] {
        let limits = policy(server.clone(), vec![], Anonymous::Refuse);
        let (harness, store) = shared_harness(limits, OnStoreFailure::Deny);
        *store.key_age.lock() = age;
        call(&harness, "a_search", &known("i", "ann")).await.unwrap();
        assert_eq!(store.legacy_count.load(Ordering::SeqCst) > 0, is_read, "{age:?}");
    }
}

#[tokio::test]
async fn only_the_policy_local_keeps_levels_of_its_own() {
    for (on_failure, keeps) in
        [(OnStoreFailure::Deny, false), (OnStoreFailure::Allow, false), (OnStoreFailure::Local, true)]
    {
        let limits = policy(Limits { shared: quota(9, 60), ..Limits::default() }, vec![], Anonymous::Refuse);
        let (harness, _store) = shared_harness(limits, on_failure);
        call(&harness, "a_search", &known("i", "ann")).await.unwrap();
        assert_eq!(harness.limiter.fallback.get().is_some(), keeps, "{on_failure:?}");
    }
}

/// A blocked call never passes; a call that costs more than this replica's share passes when the store is
/// back.
#[tokio::test]
async fn a_call_without_the_store_is_told_when_it_can_pass() {
    let selector = CallerSelector::Subject { subject: "ann".into(), issuer: None };
    let blocked = Overrides::new(vec![Override { selector, size: LimitSize::Blocked }]);
    let per_user = quota(9, 60).map(|quota| Quota { overrides: blocked, ..quota });
    let limits = policy(Limits { per_user, ..Limits::default() }, vec![], Anonymous::Refuse);
    let (harness, store) = shared_harness(limits, OnStoreFailure::Local);
    store.set_failure(Some(StoreFailure::Disconnected));
    assert_eq!(refused(call(&harness, "a_search", &known("i", "ann")).await).retry, Retry::Blocked);

    let dear = ToolRule { cost: NonZeroU32::new(2).unwrap().into(), ..rule("a_search", quota(2, 60), None) };
    let (harness, store) =
        shared_harness(policy(Limits::default(), vec![dear], Anonymous::Refuse), OnStoreFailure::Local);
    store.set_failure(Some(StoreFailure::Disconnected));
    assert_eq!(refused(call(&harness, "a_search", &known("i", "ann")).await).retry, Retry::WhenReleased);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_did_not_happen_is_owed_to_nobody() {
    let limits = policy(Limits { shared: quota(10, 10_000), ..Limits::default() }, vec![], Anonymous::Refuse);
    let (harness, store) = shared_harness(limits, OnStoreFailure::Local);
    let ann = known("i", "ann");
    let tools = harness.gateway.list_tools(&ann).await.unwrap();
    let plan = harness.limiter.tool_plan(&tools, &"a_search".into()).unwrap();
    store.set_failure(Some(StoreFailure::Disconnected));
    let permit = harness.limiter.admit(&plan, &ann).await.unwrap();
    permit.refund("backend_unavailable").await;
    store.set_failure(None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let views = harness.limiter.peek(&tools, &"a_search".into(), &ann).await.unwrap();
    assert_eq!(views[0].level, 10);
}

#[tokio::test]
async fn what_is_left_is_known_from_the_store_s_answer() {
    let limits = policy(Limits { shared: quota(10, 10_000), ..Limits::default() }, vec![], Anonymous::Refuse);
    let remaining_hints = RemainingHints { below_percent: 50, ..RemainingHints::default() };
    let limits = LimitPolicy { remaining_hints, ..limits };
    let (harness, _store) = shared_harness(limits, OnStoreFailure::Deny);
    let ann = known("i", "ann");
    let tools = harness.gateway.list_tools(&ann).await.unwrap();
    let plan = harness.limiter.tool_plan(&tools, &"a_search".into()).unwrap();
    let mut told = Vec::new();
    for _ in 0..6 {
        let permit = harness.limiter.admit(&plan, &ann).await.unwrap();
        told.push(permit.low_bucket(&plan).is_some());
    }
    assert_eq!(told, [false, false, false, false, false, true]);
}

/// A replica that takes tokens ahead starts an outage from what its last take has seen.
#[tokio::test]
async fn an_outage_starts_from_the_level_of_the_last_take() {
    let lease = LeasePolicy { duration: Duration::from_millis(100), hold_back: false };
    let base = policy(Limits { shared: quota(1000, 1), ..Limits::default() }, vec![], Anonymous::Refuse);
    let (harness, store) =
        shared_harness(LimitPolicy { consistency: Consistency::Lease(lease), ..base }, OnStoreFailure::Local);
    let ann = known("i", "ann");
    for _ in 0..600 {
        call(&harness, "a_search", &ann).await.unwrap();
        tokio::task::yield_now().await;
    }
    store.set_failure(Some(StoreFailure::Disconnected));
    let mut count = 0;
    for _ in 0..1000 {
        count += usize::from(call(&harness, "a_search", &ann).await.is_ok());
    }
    // This replica's half of four hundred, and what it holds of earlier takes.
    assert!((150..350).contains(&count), "{count}");
}
