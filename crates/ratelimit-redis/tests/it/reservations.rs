//! Reserved budget, limits by claim and settled costs, with the limiter over a real server.

use std::sync::Arc;
use std::time::Duration;

use vmcp_domain::{
    CallContext, CallOrigin, Caller, Error, Identity, NamePattern, PlannedCall, ReserveBudget as _,
    SharedGateway,
};
use vmcp_json::Json;
use vmcp_ratelimit::policy::{
    Consistency, Cost, LimitPolicy, Limits, ListHandling, MissingValue, Mode, Price, Quota, ToolRule,
    ValueQuota, ValueSource,
};
use vmcp_ratelimit::{
    Limiter, NoObserver, OnStoreFailure, Planner, Rate, RateLimited, RemoteStore, Reserver, Sharing,
};
use vmcp_testkit::{FakeGateway, conformance, tool};
use vmcp_timing::SystemClock;

use crate::server::{Server, ServerKind, TEST_TIMEOUT};

crate::on_both!(
    many_calls_are_paid_at_once_or_not_at_all,
    what_is_not_used_is_given_back,
    a_team_is_one_on_all_replicas,
    a_settled_call_may_leave_a_debt,
    who_ends_gives_back_what_was_taken_ahead,
    who_has_no_tokens_takes_no_slots,
);

fn quota(tokens: u64) -> Quota {
    Quota::new(vec![Rate::new(tokens, Duration::from_secs(36_000), tokens).unwrap()], Mode::Enforce)
}

/// A replica: its gateway, and what reserves budget.
fn replica(store: Arc<dyn RemoteStore>, policy: LimitPolicy) -> (SharedGateway, Reserver, Arc<Limiter>) {
    let sharing = Sharing {
        store,
        on_failure: OnStoreFailure::Deny,
        replica_count: None,
        slot_lease: Duration::from_secs(15),
    };
    let clock = Arc::new(SystemClock::start());
    let limiter = Limiter::new(Arc::new(Planner::new(policy)), clock, Some(sharing), Arc::new(NoObserver));
    let inner = FakeGateway::new(vec![tool("a", "search", "search"), tool("a", "read", "read")]);
    let reserver = Reserver::new(inner.clone(), limiter.clone());
    (RateLimited::wrap(inner, limiter.clone()), reserver, limiter)
}

fn policy(consistency: Consistency) -> LimitPolicy {
    let rule = ToolRule {
        name: NamePattern::new("search"),
        annotation: None,
        group: false,
        limits: Limits { shared: Some(quota(4)), ..Limits::default() },
        cost: Cost::default(),
    };
    let server = Limits { shared: Some(quota(10)), per_user: Some(quota(6)), ..Limits::default() };
    LimitPolicy { server, tools: vec![rule], consistency, ..LimitPolicy::default() }
}

fn caller(subject: &str, claims: &str) -> CallContext {
    let claims = Json::parse(claims.to_owned()).unwrap().members().unwrap();
    let identity = Identity { issuer: "i".into(), subject: subject.into(), claims };
    CallContext::bare(Caller::Known(Arc::new(identity)), CallOrigin::Client)
}

async fn remaining(limiter: &Limiter, gateway: &SharedGateway, ctx: &CallContext) -> Vec<u64> {
    let tools = gateway.list_tools(ctx).await.unwrap();
    let views = limiter.peek(&tools, &"search".into(), ctx).await.unwrap();
    views.iter().map(|view| view.level).collect()
}

async fn many_calls_are_paid_at_once_or_not_at_all(kind: ServerKind) {
    let server = Server::start(kind).await;
    let split = Consistency::Split(vmcp_ratelimit::policy::LeasePolicy {
        duration: Duration::from_millis(100),
        hold_back: false,
    });
    // A user's bucket is paid with the shared ones, in a partition of its own or not.
    for consistency in [Consistency::Exact, split] {
        let store = Arc::new(server.store_with_long_deadline().await);
        let (gateway, reserver, limiter) = replica(store, policy(consistency));
        let ctx = caller(&format!("{consistency:?}"), "{}");
        let before = remaining(&limiter, &gateway, &ctx).await;
        let calls = vec![conformance::tool_call("search").into(); 5];
        let refused = reserver.reserve(&ctx, &calls).await;
        assert!(matches!(refused, Err(Error::RateLimited(_))), "{refused:?}");
        let planned = |name: &str| PlannedCall::from(conformance::tool_call(name));
        let calls = [vec![planned("read"); 6], vec![planned("search")]].concat();
        let refused = reserver.reserve(&ctx, &calls).await;
        assert!(matches!(refused, Err(Error::RateLimited(_))), "{refused:?}");
        assert_eq!(remaining(&limiter, &gateway, &ctx).await, before, "who is refused has spent nothing");
        let reservation = reserver.reserve(&ctx, &calls[5..]).await.unwrap();
        let held = CallContext { reservation: Some(reservation), ..ctx.clone() };
        for call in &calls[5..] {
            gateway.call_tool(&held, call.call.clone()).await.unwrap();
        }
        drop(held);
        let after = remaining(&limiter, &gateway, &ctx).await;
        let spent: Vec<u64> = before.iter().zip(&after).map(|(before, after)| before - after).collect();
        assert_eq!(spent, [2, 1, 2], "{consistency:?}");
    }
}

async fn what_is_not_used_is_given_back(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = Arc::new(server.store_with_long_deadline().await);
    let (gateway, reserver, limiter) = replica(store, policy(Consistency::Exact));
    let ctx = caller("ann", "{}");
    let reservation =
        reserver.reserve(&ctx, &vec![conformance::tool_call("search").into(); 4]).await.unwrap();
    assert_eq!(remaining(&limiter, &gateway, &ctx).await, [6, 0, 2]);
    drop(reservation);
    for _round in 0..100 {
        if remaining(&limiter, &gateway, &ctx).await == [10, 4, 6] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?}", remaining(&limiter, &gateway, &ctx).await);
}

async fn a_team_is_one_on_all_replicas(kind: ServerKind) {
    let server = Server::start(kind).await;
    let per_value = ValueQuota {
        source: ValueSource::Claim("team".into()),
        list_handling: ListHandling::Each,
        missing: MissingValue::Refuse,
        quota: quota(2),
    };
    let policy = || LimitPolicy {
        server: Limits { per_value: vec![per_value.clone()], ..Limits::default() },
        ..LimitPolicy::default()
    };
    let (one, _, _) = replica(Arc::new(server.store_with_long_deadline().await), policy());
    let (other, _, _) = replica(Arc::new(server.store_with_long_deadline().await), policy());
    let call = async |gateway: &SharedGateway, who: &str, team: &str| {
        let ctx = caller(who, &format!(r#"{{"team":"{team}"}}"#));
        gateway.call_tool(&ctx, conformance::tool_call("search")).await.is_ok()
    };
    assert!(call(&one, "ann", "red").await && call(&other, "bob", "red").await);
    assert!(!call(&one, "cid", "red").await && !call(&other, "ann", "red").await);
    assert!(call(&other, "ann", "blue").await);
}

async fn a_settled_call_may_leave_a_debt(kind: ServerKind) {
    let server = Server::start(kind).await;
    let mut policy = policy(Consistency::Exact);
    policy.tools[0].cost.settle = Some(Arc::new(Price::new_after_call("size(args.a) == 0 ? 6 : 0").unwrap()));
    let (gateway, _, limiter) = replica(Arc::new(server.store_with_long_deadline().await), policy);
    let ctx = caller("ann", "{}");
    // The arguments of the conformance suite's call contain an empty list.
    gateway.call_tool(&ctx, conformance::tool_call("search")).await.unwrap();
    // The settlement is sent to the store after the reply.
    assert!(limiter.wait_settled(TEST_TIMEOUT).await);
    assert_eq!(remaining(&limiter, &gateway, &ctx).await, [4, 0, 0]);
    let Err(Error::RateLimited(refusal)) = gateway.call_tool(&ctx, conformance::tool_call("search")).await
    else {
        panic!("two are owed")
    };
    // Two tokens owed and one to pay, at a token in two and a half hours.
    let wait = refusal.retry_after().unwrap();
    assert!(wait > Duration::from_secs(26_990) && wait <= Duration::from_secs(27_000), "{wait:?}");
}

async fn who_ends_gives_back_what_was_taken_ahead(kind: ServerKind) {
    let server = Server::start(kind).await;
    // The bucket refills ten tokens a second; the range that is asserted below allows for six seconds of
    // that.
    let rate = Rate::new(36_000, Duration::from_secs(3600), 36_000).unwrap();
    let quota = Quota::new(vec![rate], Mode::Enforce);
    let lease = vmcp_ratelimit::policy::LeasePolicy { duration: Duration::from_secs(10), hold_back: false };
    let policy = LimitPolicy {
        server: Limits { shared: Some(quota), ..Limits::default() },
        consistency: Consistency::Lease(lease),
        ..LimitPolicy::default()
    };
    let (gateway, _, limiter) = replica(Arc::new(server.store_with_long_deadline().await), policy);
    let ctx = caller("ann", "{}");
    for _call in 0..300 {
        gateway.call_tool(&ctx, conformance::tool_call("read")).await.unwrap();
    }
    let counts = limiter.lease_counts().unwrap();
    assert!(counts.held > 10 && counts.spent == 300, "{counts:?}");
    limiter.return_leases(Duration::from_secs(5)).await;
    assert_eq!(limiter.lease_counts().unwrap().held, 0);
    let left = remaining(&limiter, &gateway, &ctx).await[0];
    assert!((35_700..35_760).contains(&left), "{left} of 36,000 after 300 calls: {counts:?}");
}

/// A caller who floods without budget would otherwise hold the slots of callers who have some.
async fn who_has_no_tokens_takes_no_slots(kind: ServerKind) {
    let server = Server::start(kind).await;
    let concurrency = vmcp_ratelimit::policy::Concurrency {
        shared: std::num::NonZeroU32::new(2),
        ..vmcp_ratelimit::policy::Concurrency::default()
    };
    let limits = Limits { per_user: Some(quota(1)), concurrency, ..Limits::default() };
    let policy = LimitPolicy { server: limits, ..LimitPolicy::default() };
    let (gateway, _, _) = replica(Arc::new(server.store_with_long_deadline().await), policy);
    let ctx = caller("ann", "{}");
    gateway.call_tool(&ctx, conformance::tool_call("read")).await.unwrap();
    // The first refusal is asked for, those after it are cached.
    gateway.call_tool(&ctx, conformance::tool_call("read")).await.unwrap_err();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = server.call_count("evalsha").await;
    for _call in 0..50 {
        let refused = gateway.call_tool(&ctx, conformance::tool_call("read")).await;
        let Err(Error::RateLimited(limit)) = refused else { panic!("{refused:?}") };
        assert_eq!(limit.rule, "perUser");
    }
    let asked = server.call_count("evalsha").await - before;
    assert!(asked < 5, "{asked} questions for 50 refusals");
}
