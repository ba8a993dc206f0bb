use std::time::Duration;

use vmcp_domain::{CallOrigin, Caller, Continuation, Identity, NamePattern};
use vmcp_testkit::{FakeGateway, conformance, tool};
use vmcp_timing::ManualClock;

use super::*;
use crate::bucket::rate::Rate;
use crate::layer::RateLimited;
use crate::limiter::observer::NoObserver;
use crate::plan::Planner;
use crate::plan::policy::{
    Anonymous, Cost, LimitPolicy, Limits, ListHandling, MissingValue, Mode, Quota, RemainingHints, ToolRule,
    ValueQuota, ValueSource,
};

fn quota(tokens: u64, mode: Mode) -> Quota {
    Quota::new(vec![Rate::new(tokens, Duration::from_secs(60), tokens).unwrap()], mode)
}

fn policy() -> LimitPolicy {
    let per_value = ValueQuota {
        source: ValueSource::Claim("team".into()),
        list_handling: ListHandling::Each,
        missing: MissingValue::Refuse,
        quota: quota(50, Mode::Enforce),
    };
    let rule = |name: &str, limits| ToolRule {
        name: NamePattern::new(name),
        annotation: None,
        group: false,
        limits,
        cost: Cost::default(),
    };
    LimitPolicy {
        server: Limits {
            shared: Some(quota(100, Mode::Enforce)),
            per_user: Some(quota(10, Mode::Enforce)),
            ..Limits::default()
        },
        tools: vec![
            rule("a_search", Limits { per_value: vec![per_value], ..Limits::default() }),
            rule("a_read", Limits { shared: Some(quota(1, Mode::Shadow)), ..Limits::default() }),
        ],
        anonymous: Anonymous::Refuse,
        remaining_hints: RemainingHints { resource: true, ..RemainingHints::default() },
        ..LimitPolicy::default()
    }
}

fn gateway(policy: LimitPolicy) -> SharedGateway {
    let limiter = Limiter::new(
        Arc::new(Planner::new(policy)),
        Arc::new(ManualClock::default()),
        None,
        Arc::new(NoObserver),
    );
    let inner = FakeGateway::new(vec![tool("a", "search", "a_search"), tool("a", "read", "a_read")]);
    LimitsResource::wrap(RateLimited::wrap(inner, limiter.clone()), limiter)
}

fn caller(claims: &str) -> CallContext {
    let claims = Json::parse(claims.to_owned()).unwrap().members().unwrap();
    let identity = Identity { issuer: "i".into(), subject: "ann".into(), claims };
    CallContext::bare(Caller::Known(Arc::new(identity)), CallOrigin::Client)
}

async fn read_limits(gateway: &SharedGateway, ctx: &CallContext) -> String {
    let uri = URI.into();
    let request = ReadResource { uri, continuation: Continuation::default(), extra: Members::new() };
    let reply = gateway.read_resource(ctx, request).await.unwrap();
    let contents = reply.members.get("contents").unwrap().elements().unwrap();
    let text = contents[0].members().unwrap().get("text").unwrap().decode_string().unwrap();
    let limits = Json::parse(text).unwrap().members().unwrap().get("limits").unwrap().elements().unwrap();
    let line = |limit: &Json| {
        let limit = limit.members().unwrap();
        let said = |name| limit.get(name).unwrap().as_str().to_owned();
        format!("{} {} of {} for {}\n", said("rule"), said("remaining"), said("capacity"), said("tools"))
    };
    limits.iter().map(line).collect()
}

#[tokio::test]
async fn keeps_the_rules_of_the_seam() {
    let policy = LimitPolicy {
        remaining_hints: RemainingHints { resource: true, ..RemainingHints::default() },
        ..LimitPolicy::default()
    };
    let clock = Arc::new(ManualClock::default());
    let limiter = Limiter::new(Arc::new(Planner::new(policy)), clock, None, Arc::new(NoObserver));
    conformance::check_decorator_offering(&[], 1, |inner| LimitsResource::wrap(inner, limiter.clone())).await;
}

#[tokio::test]
async fn a_caller_is_told_of_the_limits_on_what_it_may_call() {
    let gateway = gateway(policy());
    let ctx = caller(r#"{"team":"red"}"#);
    let before = read_limits(&gateway, &ctx).await;
    assert!(before.contains("\"shared\" 100 of 100"), "also of tools that nobody has called yet: {before}");
    for name in ["a_search", "a_search", "a_read"] {
        gateway.call_tool(&ctx, conformance::tool_call(name)).await.unwrap();
    }
    assert_eq!(
        read_limits(&gateway, &ctx).await,
        "\"shared\" 97 of 100 for [\"a_search\",\"a_read\"]\n\
         \"tools[a_search].perClaim[team]\" 48 of 50 for [\"a_search\"]\n\
         \"perUser\" 7 of 10 for [\"a_search\",\"a_read\"]\n"
    );
    let teamless = read_limits(&gateway, &caller("{}")).await;
    assert!(!teamless.contains("a_search"), "what it may not call is not told of: {teamless}");
    let nobody = CallContext::bare(Caller::Anonymous, CallOrigin::Client);
    assert_eq!(read_limits(&gateway, &nobody).await, "");
}

#[tokio::test]
async fn the_resource_is_offered_only_where_it_is_wanted() {
    let gateway = gateway(LimitPolicy { remaining_hints: RemainingHints::default(), ..policy() });
    assert_eq!(gateway.list_resources(&caller("{}")).await.unwrap().len(), 1);
}
