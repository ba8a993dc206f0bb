//! Leases through the layer: all or nothing over leased tokens and the decisions of the store.

use std::sync::atomic::Ordering;

use super::*;
use crate::plan::policy::{Consistency, LeasePolicy};
use crate::shared::store::user_digest;

fn leased_harness(
    consistency: fn(LeasePolicy) -> Consistency,
    on_failure: OnStoreFailure,
) -> (Harness, Arc<FakeStore>) {
    let server = Limits { shared: quota(1000, 1), per_user: quota(3, 60), ..Limits::default() };
    let lease = LeasePolicy { duration: Duration::from_millis(100), hold_back: false };
    let policy = LimitPolicy { consistency: consistency(lease), ..policy(server, vec![], Anonymous::Refuse) };
    let clock = Arc::new(ManualClock::default());
    clock.set(Micros(1_000_000));
    let store = FakeStore::new(clock.clone());
    let sharing =
        Sharing { store: store.clone(), on_failure, replica_count: Some(2), slot_lease: SLOT_LEASE };
    let limiter =
        Limiter::new(Arc::new(Planner::new(policy)), clock.clone(), Some(sharing), Arc::new(NoObserver));
    let inner = FakeGateway::new(vec![tool("a", "search", "a_search")]);
    (Harness { clock, gateway: RateLimited::wrap(inner.clone(), limiter.clone()), inner, limiter }, store)
}

/// The tokens that are missing in the shared bucket and have not been spent.
async fn idle(harness: &Harness, spent: u64) -> u64 {
    let ctx = known("i", "observer");
    let tools = harness.gateway.list_tools(&ctx).await.unwrap();
    let views = harness.limiter.peek(&tools, &"a_search".into(), &ctx).await.unwrap();
    1000 - views[0].level - spent
}

#[tokio::test]
async fn a_refusal_by_the_store_costs_nothing_of_what_is_held_here() {
    for consistency in [Consistency::Lease, Consistency::Split] {
        let (harness, store) = leased_harness(consistency, OnStoreFailure::Deny);
        let ctx = known("i", "s");
        for _ in 0..3 {
            call(&harness, "a_search", &ctx).await.unwrap();
        }
        let asked = store.request_count.load(Ordering::SeqCst);
        for _ in 0..100 {
            assert_eq!(refused(call(&harness, "a_search", &ctx).await).rule, "perUser");
        }
        let questions = store.request_count.load(Ordering::SeqCst) - asked;
        assert!(questions <= 102, "what is put back serves the next: {questions}");
        // Leased tokens are at most what half a lease refills, however many calls were refused.
        assert!(idle(&harness, 3).await <= 50);
    }
}

#[tokio::test]
async fn each_user_has_a_place_of_its_own_only_where_users_are_split() {
    for (consistency, split) in [(Consistency::Lease as fn(_) -> _, false), (Consistency::Split, true)] {
        let (harness, store) = leased_harness(consistency, OnStoreFailure::Deny);
        call(&harness, "a_search", &known("i", "s")).await.unwrap();
        let digest =
            user_digest(&Identity { issuer: "i".into(), subject: "s".into(), claims: Members::new() });
        let homes = store.partitions.lock().clone();
        let own = homes.iter().filter(|partition| partition.as_deref() == Some(&*digest)).count();
        assert_eq!(own > 0, split, "{homes:?}");
    }
}

#[tokio::test]
async fn a_call_that_never_happened_is_given_back_to_the_store() {
    let (harness, _store) = leased_harness(Consistency::Lease, OnStoreFailure::Deny);
    let ctx = known("i", "s");
    let tools = harness.gateway.list_tools(&ctx).await.unwrap();
    let tool_plan = harness.limiter.tool_plan(&tools, &"a_search".into()).unwrap();
    for _ in 0..10 {
        harness.limiter.admit(&tool_plan, &ctx).await.unwrap().refund("backend_unavailable").await;
    }
    for _ in 0..3 {
        call(&harness, "a_search", &ctx).await.unwrap();
    }
    harness.clock.advance(200_000);
    assert_eq!(idle(&harness, 0).await, 0, "all that was given back or not spent is earned again");
}

#[tokio::test]
async fn without_the_store_a_replica_keeps_to_its_share() {
    let (harness, store) = leased_harness(Consistency::Lease, OnStoreFailure::Local);
    call(&harness, "a_search", &known("i", "s")).await.unwrap();
    store.set_failure(Some(StoreFailure::Disconnected));
    let mut count = 0;
    for user in 0..1000 {
        count += usize::from(call(&harness, "a_search", &known("i", &user.to_string())).await.is_ok());
    }
    assert!((490..=510).contains(&count), "half of what was left, and the few that were held: {count}");
}

#[tokio::test]
async fn a_refusal_by_a_leased_bucket_says_when_to_come_back() {
    let (harness, _store) = leased_harness(Consistency::Lease, OnStoreFailure::Deny);
    let mut count = 0;
    let refusal = loop {
        match call(&harness, "a_search", &known("i", &count.to_string())).await {
            Ok(()) => count += 1,
            outcome => break refused(outcome),
        }
    };
    assert_eq!((count, &*refusal.rule), (1000, "shared"));
    let Retry::After(wait) = refusal.retry else { panic!("{refusal:?}") };
    assert!(wait <= Duration::from_millis(20) && !wait.is_zero(), "{wait:?}");
    harness.clock.advance(u64::try_from(wait.as_micros()).unwrap());
    call(&harness, "a_search", &known("i", "later")).await.unwrap();
}

/// A call with a higher price pays it from leased tokens, and gets the same amount refunded.
#[tokio::test]
async fn a_dear_call_pays_and_is_given_back_its_price() {
    let lease = LeasePolicy { duration: Duration::from_millis(100), hold_back: false };
    let server = Limits { shared: quota(1000, 1), ..Limits::default() };
    let cost = crate::plan::policy::Cost {
        price: Some(Arc::new(crate::plan::policy::Price::new_before_call("args.n").unwrap())),
        ..crate::plan::policy::Cost::default()
    };
    let rules = vec![ToolRule { cost, ..rule("a_search", None, None) }];
    let policy =
        LimitPolicy { consistency: Consistency::Lease(lease), ..policy(server, rules, Anonymous::Refuse) };
    let clock = Arc::new(ManualClock::default());
    let store = FakeStore::new(clock.clone());
    let (on_failure, replica_count) = (OnStoreFailure::Deny, Some(2));
    let sharing = Sharing { store: store.clone(), on_failure, replica_count, slot_lease: SLOT_LEASE };
    let harness = harness_with_clock(clock, policy, Some(sharing));
    let ctx = known("i", "s");
    let tools = harness.gateway.list_tools(&ctx).await.unwrap();
    let tool_plan = harness.limiter.tool_plan(&tools, &"a_search".into()).unwrap();
    let arguments = vmcp_json::Json::parse(r#"{"n": 7}"#.to_owned()).unwrap();
    let dear = harness.limiter.plan_call(&tool_plan, &ctx, Some(&arguments), false).unwrap();
    let permit = harness.limiter.admit(&dear, &ctx).await.unwrap();
    let spent = |harness: &Harness| harness.limiter.lease_counts().unwrap().spent;
    assert_eq!(spent(&harness), 7);
    permit.refund("backend_unavailable").await;
    // All leased tokens are dropped at the end of the lease, and a refund is in the store at once.
    harness.clock.advance(1);
    let missing = idle(&harness, 0).await;
    let held = harness.limiter.lease_counts().unwrap().held;
    assert_eq!(missing, held, "only what is still held here is missing in the store");
}
