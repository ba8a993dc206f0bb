//! Reserved budget for several calls, spent through the layer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use vmcp_domain::{
    BudgetNeed, CallTool, Cause, Gateway, GatewayFuture, LimitScope, PlannedCall, RateLimit, Reply,
    ReserveBudget as _, Retry, SharedGateway, forward,
};
use vmcp_testkit::conformance;

use super::*;
use crate::limiter::tests::{Harness, harness, known, policy, quota, rule};
use crate::plan::policy::{Anonymous, Cost, Limits, Price, ToolRule};

fn limits() -> crate::plan::policy::LimitPolicy {
    let server = Limits { shared: quota(10, 60), per_user: quota(6, 60), ..Limits::default() };
    policy(server, vec![rule("a_search", quota(4, 60), None)], Anonymous::Refuse)
}

fn calls(names: &[&str]) -> Vec<PlannedCall> {
    names.iter().map(|name| conformance::tool_call(name).into()).collect()
}

async fn reserve(harness: &Harness, names: &[&str]) -> Result<CallContext, Error> {
    let reserver = Reserver::new(harness.inner.clone(), harness.limiter.clone());
    let ctx = known("i", "s");
    let reservation = reserver.reserve(&ctx, &calls(names)).await?;
    Ok(CallContext { reservation: Some(reservation), ..ctx })
}

async fn call(harness: &Harness, ctx: &CallContext, name: &str) -> Result<(), Error> {
    harness.gateway.call_tool(ctx, conformance::tool_call(name)).await.map(drop)
}

/// The levels of the bucket of all callers, of the tool's, and of the user's.
async fn remaining(harness: &Harness) -> Vec<u64> {
    let tools = harness.gateway.list_tools(&known("i", "s")).await.unwrap();
    let views = harness.limiter.peek(&tools, &"a_search".into(), &known("i", "s")).await.unwrap();
    views.iter().map(|view| view.level).collect()
}

fn refused(outcome: Result<CallContext, Error>) -> RateLimit {
    match outcome {
        Err(Error::RateLimited(refusal)) => *refusal,
        other => panic!("not a refusal by a limit: {other:?}"),
    }
}

#[tokio::test]
async fn all_calls_are_paid_at_once_and_none_of_them_again() {
    let harness = harness(limits(), None);
    let ctx = reserve(&harness, &["a_search", "b_search", "a_search"]).await.unwrap();
    assert_eq!(remaining(&harness).await, [7, 2, 3]);
    // In any order, and one call more than was reserved.
    for name in ["b_search", "a_search", "a_search", "a_search"] {
        call(&harness, &ctx, name).await.unwrap();
    }
    assert_eq!(remaining(&harness).await, [6, 1, 2], "only the fourth is paid on its own");
    drop(ctx);
    tokio::task::yield_now().await;
    assert_eq!(remaining(&harness).await, [6, 1, 2], "nothing was left over");
}

#[tokio::test]
async fn what_is_not_there_for_all_is_spent_by_none() {
    let harness = harness(limits(), None);
    let refusal = refused(reserve(&harness, &["a_search"; 5]).await);
    assert_eq!((refusal.scope, refusal.retry), (LimitScope::Tool, Retry::NeverTogether));
    let held = reserve(&harness, &["a_search"; 4]).await.unwrap();
    // The user's bucket holds six, of which two are left. It refills one token every ten seconds, the tool's
    // one every fifteen.
    let refusal = refused(reserve(&harness, &["a_search", "b_search", "b_search"]).await);
    assert_eq!((refusal.scope, refusal.retry), (LimitScope::Tool, Retry::After(Duration::from_secs(15))));
    assert_eq!(remaining(&harness).await, [6, 0, 2]);
    assert!(matches!(reserve(&harness, &["b_search", "gone"]).await, Err(Error::UnknownTool(_))));
    assert!(matches!(reserve(&harness, &["b_search"; 1001]).await, Err(Error::InvalidRequest(_))));
    assert_eq!(remaining(&harness).await, [6, 0, 2]);
    drop(held);
    tokio::task::yield_now().await;
    assert_eq!(remaining(&harness).await, [10, 4, 6], "what nobody used is given back");
}

/// A backend that is unavailable for this number of calls.
struct UnavailableBackend {
    inner: SharedGateway,
    failing_calls: AtomicUsize,
}

impl Gateway for UnavailableBackend {
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        let less = |left: usize| left.checked_sub(1);
        if self.failing_calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err() {
            return self.inner.call_tool(ctx, request);
        }
        let (backend, cause) = ("a".into(), Cause::new("away"));
        Box::pin(std::future::ready(Err(Error::BackendUnavailable { backend, cause, was_read: false })))
    }

    forward!(
        list_tools,
        list_resources,
        list_resource_templates,
        read_resource,
        list_prompts,
        get_prompt,
        complete,
        task
    );
}

#[tokio::test]
async fn a_call_that_did_not_happen_goes_back_into_the_reservation() {
    let mut bench = harness(limits(), None);
    let ctx = reserve(&bench, &["a_search"; 4]).await.unwrap();
    let away = Arc::new(UnavailableBackend { inner: bench.inner.clone(), failing_calls: 3.into() });
    bench.gateway = crate::layer::RateLimited::wrap(away, bench.limiter.clone());
    for _time in 0..3 {
        assert!(matches!(call(&bench, &ctx, "a_search").await, Err(Error::BackendUnavailable { .. })));
    }
    for _time in 0..4 {
        call(&bench, &ctx, "a_search").await.unwrap();
    }
    assert!(matches!(call(&bench, &ctx, "a_search").await, Err(Error::RateLimited(_))));
}

#[tokio::test]
async fn a_call_that_is_taken_back_on_the_way_stays_paid() {
    let harness = harness(
        policy(Limits { shared: quota(2, 60), ..Limits::default() }, vec![], Anonymous::Refuse),
        None,
    );
    let ctx = reserve(&harness, &["hang"]).await.unwrap();
    let (gateway, held) = (harness.gateway.clone(), ctx.clone());
    let task = tokio::spawn(async move { gateway.call_tool(&held, conformance::tool_call("hang")).await });
    while harness.inner.hanging_count() == 0 {
        tokio::task::yield_now().await;
    }
    task.abort();
    let _ = task.await;
    drop(ctx);
    tokio::task::yield_now().await;
    let tools = harness.gateway.list_tools(&known("i", "s")).await.unwrap();
    let views = harness.limiter.peek(&tools, &"hang".into(), &known("i", "s")).await.unwrap();
    assert_eq!(views[0].level, 1);
}

#[tokio::test]
async fn a_reserved_call_is_settled_like_any_other() {
    let cost = Cost { settle: Some(Arc::new(Price::new_after_call("3").unwrap())), ..Cost::default() };
    let dear = ToolRule { cost, ..rule("a_search", quota(4, 60), None) };
    let harness = harness(policy(Limits::default(), vec![dear], Anonymous::Refuse), None);
    let ctx = reserve(&harness, &["a_search"]).await.unwrap();
    assert_eq!(remaining(&harness).await, [3]);
    call(&harness, &ctx, "a_search").await.unwrap();
    assert_eq!(remaining(&harness).await, [1]);
}

#[tokio::test]
async fn another_user_does_not_spend_it() {
    let harness = harness(limits(), None);
    let ctx = reserve(&harness, &["b_search"]).await.unwrap();
    let other = CallContext { reservation: ctx.reservation.clone(), ..known("i", "other") };
    call(&harness, &other, "b_search").await.unwrap();
    assert_eq!(remaining(&harness).await[0], 8, "both have paid");
}

#[tokio::test]
async fn a_call_that_is_released_is_refunded_at_once() {
    let harness = harness(limits(), None);
    let ctx = reserve(&harness, &["a_search", "a_search", "b_search"]).await.unwrap();
    assert_eq!(remaining(&harness).await, [7, 2, 3]);
    let reserver = Reserver::new(harness.inner.clone(), harness.limiter.clone());
    let reservation = ctx.reservation.clone().unwrap();
    let release =
        async |ctx: &CallContext| reserver.release(ctx, &reservation, &calls(&["a_search"])[0]).await;
    release(&known("i", "other")).await;
    assert_eq!(remaining(&harness).await, [7, 2, 3], "another user releases nothing");
    for left in [[8, 3, 4], [9, 4, 5], [9, 4, 5]] {
        release(&ctx).await;
        assert_eq!(remaining(&harness).await, left);
    }
    call(&harness, &ctx, "a_search").await.unwrap();
    assert_eq!(remaining(&harness).await, [8, 3, 4], "a call that was released is charged again");
}

#[tokio::test]
async fn calls_that_a_limit_can_never_pay_are_found_in_advance() {
    let harness = harness(limits(), None);
    let reserver = Reserver::new(harness.inner.clone(), harness.limiter.clone());
    let exceeded = async |names: &[&str]| {
        let needs = reserver.needs(&known("i", "s"), &calls(names)).await.unwrap();
        let exceeded = needs.into_iter().find(BudgetNeed::exceeds_capacity);
        exceeded.map(|limit| (limit.rule, limit.needed, limit.capacity))
    };
    assert_eq!(exceeded(&["a_search"; 4]).await, None);
    assert_eq!(exceeded(&["a_search"; 5]).await, Some(("tools[a_search].shared".to_owned(), 5, 4)));
    assert_eq!(exceeded(&["b_search"; 7]).await, Some(("perUser".to_owned(), 7, 6)));
    assert_eq!(remaining(&harness).await, [10, 4, 6], "nothing was charged");
}

#[tokio::test]
async fn a_call_whose_price_is_not_known_yet_is_not_reserved() {
    let price = Price::new_before_call("has(args.n) ? args.n : 1").unwrap();
    let cost = Cost { price: Some(Arc::new(price)), ..Cost::default() };
    let dear = ToolRule { cost, ..rule("a_search", quota(10, 60), None) };
    let harness = harness(policy(Limits::default(), vec![dear], Anonymous::Refuse), None);
    let reserver = Reserver::new(harness.inner.clone(), harness.limiter.clone());
    let ctx = known("i", "s");
    for (arguments_known, left) in [(false, 10), (true, 9)] {
        let planned = PlannedCall { call: conformance::tool_call("a_search"), arguments_known };
        let held = reserver.reserve(&ctx, &[planned]).await.unwrap();
        assert_eq!(remaining(&harness).await, [left]);
        drop(held);
        tokio::task::yield_now().await;
    }
}
