use std::time::Duration;

use vmcp_domain::{CallOrigin, Caller, NamePattern, RoutingTarget};
use vmcp_testkit::{FakeGateway, conformance, tool};
use vmcp_timing::ManualClock;

use super::*;
use crate::bucket::rate::Rate;
use crate::limiter::observer::NoObserver;
use crate::plan::Planner;
use crate::plan::policy::{
    Anonymous, Consistency, Cost, LimitPolicy, Limits, MemoryBounds, Mode, Quota, ToolRule, WaitBounds,
};

fn once_a_minute() -> Limits {
    let rate = Rate::new(1, Duration::from_secs(60), 1).unwrap();
    let quota = Quota::new(vec![rate], Mode::Enforce);
    Limits { shared: Some(quota), per_user: None, ..Limits::default() }
}

fn limiter(server: Limits, rules: &[&str]) -> Arc<Limiter> {
    let rule = |name: &&str| ToolRule {
        name: NamePattern::new(*name),
        annotation: None,
        group: false,
        limits: once_a_minute(),
        cost: Cost::default(),
    };
    let tools = rules.iter().map(rule).collect();
    let policy = LimitPolicy {
        server,
        tools,
        anonymous: Anonymous::Refuse,
        memory: MemoryBounds::default(),
        waiting: WaitBounds::default(),
        consistency: Consistency::Exact,
        ..LimitPolicy::default()
    };
    let clock = Arc::new(ManualClock::default());
    Limiter::new(Arc::new(Planner::new(policy)), clock, None, Arc::new(NoObserver))
}

fn find_tool() -> Tool {
    Tool { target: RoutingTarget::for_virtual("find_tool".into()), ..tool("", "find_tool", "find_tool") }
}

fn wrapped(limiter: &Arc<Limiter>) -> (Arc<FakeGateway>, SharedGateway) {
    let inner = FakeGateway::new(vec![find_tool(), tool("a", "search", "a_search")]);
    (inner.clone(), VirtualRateLimited::wrap(inner, limiter.clone(), &[find_tool()], FailureCharge::Charged))
}

async fn outcomes(gateway: &SharedGateway, name: &str) -> Vec<bool> {
    let ctx = CallContext::bare(Caller::Anonymous, CallOrigin::Client);
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        outcomes.push(gateway.call_tool(&ctx, conformance::tool_call(name)).await.is_ok());
    }
    outcomes
}

#[tokio::test]
async fn keeps_the_rules_of_the_seam() {
    let limiter = limiter(Limits::default(), &["find_tool"]);
    conformance::check_decorator(&[], |inner| {
        VirtualRateLimited::wrap(inner, limiter.clone(), &[find_tool()], FailureCharge::Charged)
    })
    .await;
}

#[tokio::test]
async fn a_rule_that_names_a_virtual_tool_charges_it_alone() {
    let limiter = limiter(Limits::default(), &["find_tool"]);
    let (_, gateway) = wrapped(&limiter);
    assert_eq!(outcomes(&gateway, "find_tool").await, [true, false]);
    assert_eq!(outcomes(&gateway, "a_search").await, [true, true]);
}

#[tokio::test]
async fn limits_on_all_calls_and_patterns_charge_no_virtual_tool() {
    let limiter = limiter(once_a_minute(), &["find_*", "*"]);
    let (_, gateway) = wrapped(&limiter);
    assert_eq!(outcomes(&gateway, "find_tool").await, [true, true]);
}

#[test]
fn a_rule_for_a_virtual_tool_is_not_idle() {
    let limiter = limiter(Limits::default(), &["find_tool", "gone"]);
    let (_, _gateway) = wrapped(&limiter);
    assert_eq!(limiter.prepare(&Arc::new(vec![tool("a", "search", "a_search")])), ["gone"]);
}

/// Whether the token is back after a call that ends with an error.
async fn after_a_refusal(failures: FailureCharge) -> bool {
    let limiter = limiter(Limits::default(), &["find_tool"]);
    let inner = FakeGateway::new(Vec::new());
    let gateway = VirtualRateLimited::wrap(inner, limiter.clone(), &[find_tool()], failures);
    let ctx = CallContext::bare(Caller::Anonymous, CallOrigin::Client);
    // The inner gateway has no such tool.
    assert!(gateway.call_tool(&ctx, conformance::tool_call("find_tool")).await.is_err());
    let levels = limiter.peek_local(&"find_tool".into(), &ctx).unwrap();
    levels[0].level == 1
}

#[tokio::test]
async fn a_tool_that_did_nothing_is_refunded() {
    assert!(after_a_refusal(FailureCharge::Refunded).await);
    assert!(!after_a_refusal(FailureCharge::Charged).await);
}

#[tokio::test]
async fn operators_see_and_block_virtual_tools() {
    let limiter = limiter(Limits::default(), &["find_tool"]);
    let (_, gateway) = wrapped(&limiter);
    let (tools, ctx) = (Arc::new(Vec::new()), CallContext::bare(Caller::Anonymous, CallOrigin::Operator));
    assert_eq!(limiter.virtual_tools(), ["find_tool".into()]);
    assert_eq!(limiter.rules(&tools, &"find_tool".into()).unwrap().buckets.len(), 1);
    assert!(limiter.rules(&tools, &"gone".into()).is_none());
    limiter.block(&tools, &"find_tool".into(), &ctx, Some(Duration::from_secs(60))).await.unwrap();
    assert_eq!(outcomes(&gateway, "find_tool").await, [false, false]);
}
