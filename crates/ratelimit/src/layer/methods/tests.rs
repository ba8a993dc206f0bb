use std::time::Duration;

use vmcp_domain::{CallOrigin, Caller, Continuation, LimitScope, Retry};
use vmcp_json::Members;
use vmcp_testkit::{FakeGateway, conformance, tool};
use vmcp_timing::ManualClock;

use super::*;
use crate::bucket::rate::Rate;
use crate::limiter::observer::NoObserver;
use crate::plan::Planner;
use crate::plan::policy::{Concurrency, LimitPolicy, Limits, MethodRule, Mode, Quota};

fn limits(tokens: u64) -> Limits {
    let rate = Rate::new(tokens, Duration::from_secs(60), tokens).unwrap();
    Limits { shared: Some(Quota::new(vec![rate], Mode::Enforce)), ..Limits::default() }
}

fn limiter(methods: &[(Method, u64)], server: Option<u64>) -> Arc<Limiter> {
    let methods =
        methods.iter().map(|(method, tokens)| MethodRule { method: *method, limits: limits(*tokens) });
    let server = server.map(limits).unwrap_or_default();
    let policy = LimitPolicy { methods: methods.collect(), server, ..LimitPolicy::default() };
    Limiter::new(Arc::new(Planner::new(policy)), Arc::new(ManualClock::default()), None, Arc::new(NoObserver))
}

fn read(uri: &str) -> ReadResource {
    ReadResource { uri: uri.into(), continuation: Continuation::default(), extra: Members::new() }
}

fn ctx() -> CallContext {
    CallContext::bare(Caller::Anonymous, CallOrigin::Client)
}

#[tokio::test]
async fn keeps_the_rules_of_the_seam() {
    let all: Vec<(Method, u64)> = Method::ALL.into_iter().map(|method| (method, 1000)).collect();
    let limiter = limiter(&all, None);
    conformance::check_decorator(&[], |inner| MethodsRateLimited::wrap(inner, limiter.clone())).await;
}

#[tokio::test]
async fn each_method_has_its_own_bucket_and_the_others_are_free() {
    let limiter = limiter(&[(Method::ReadResource, 2), (Method::ListTools, 1)], Some(1));
    let inner = FakeGateway::new(vec![tool("a", "search", "a_search")]);
    let gateway = MethodsRateLimited::wrap(inner, limiter);
    let ctx = ctx();
    gateway.read_resource(&ctx, read("a:1")).await.unwrap();
    gateway.read_resource(&ctx, read("a:2")).await.unwrap();
    let Err(Error::RateLimited(refusal)) = gateway.read_resource(&ctx, read("a:3")).await else {
        panic!("the third is refused")
    };
    assert_eq!((&*refusal.rule, refusal.scope), ("methods[resources/read].shared", LimitScope::Server));
    assert_eq!(refusal.retry, Retry::After(Duration::from_secs(30)));
    assert_eq!(
        refusal.to_string(),
        "Rate limit exceeded: `resources/read` cannot be requested for 30 seconds; wait that long, then try again"
    );
    gateway.list_tools(&ctx).await.unwrap();
    gateway.list_tools(&ctx).await.unwrap_err();
    for _time in 0..5 {
        gateway.list_prompts(&ctx).await.unwrap();
        // Calls of tools are charged further inside, by limits of their own.
        gateway.call_tool(&ctx, conformance::tool_call("a_search")).await.unwrap();
    }
}

#[tokio::test]
async fn what_reached_no_backend_costs_nothing() {
    let limiter = limiter(&[(Method::Subscribe, 1)], None);
    let ctx = ctx();
    for _time in 0..3 {
        let missing = Box::pin(std::future::ready(Err::<(), _>(Error::UnknownResource("a:b".into()))));
        let outcome = limiter.call_limited(Method::Subscribe, &ctx, missing).await;
        assert!(matches!(outcome, Err(Error::UnknownResource(_))));
    }
    let there = || Box::pin(std::future::ready(Ok(())));
    limiter.call_limited(Method::Subscribe, &ctx, there()).await.unwrap();
    limiter.call_limited(Method::Subscribe, &ctx, there()).await.unwrap_err();
}

#[tokio::test]
async fn what_the_gateway_asks_itself_is_free() {
    let gateway =
        MethodsRateLimited::wrap(FakeGateway::new(vec![]), limiter(&[(Method::ListTools, 1)], None));
    for _time in 0..3 {
        let own = CallContext { origin: CallOrigin::Gateway, ..ctx() };
        gateway.list_tools(&own).await.unwrap();
    }
    gateway.list_tools(&ctx()).await.unwrap();
    gateway.list_tools(&ctx()).await.unwrap_err();
}

#[tokio::test]
async fn without_limits_on_methods_there_is_no_layer() {
    let inner: SharedGateway = FakeGateway::new(vec![]);
    let wrapped = MethodsRateLimited::wrap(inner.clone(), limiter(&[], Some(1)));
    assert!(Arc::ptr_eq(&inner, &wrapped));
}

/// A backend that continues to work after its client has left.
struct LingeringBackend {
    inner: SharedGateway,
    work_holds: parking_lot::Mutex<Vec<vmcp_domain::WorkHold>>,
}

impl LingeringBackend {
    fn never_answer<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Reply> {
        self.work_holds.lock().extend(ctx.hold.clone());
        Box::pin(std::future::pending())
    }
}

impl Gateway for LingeringBackend {
    fn read_resource<'a>(&'a self, ctx: &'a CallContext, _: ReadResource) -> GatewayFuture<'a, Reply> {
        self.never_answer(ctx)
    }

    fn get_prompt<'a>(&'a self, ctx: &'a CallContext, _: GetPrompt) -> GatewayFuture<'a, Reply> {
        self.never_answer(ctx)
    }

    fn complete<'a>(&'a self, ctx: &'a CallContext, _: Complete) -> GatewayFuture<'a, Reply> {
        self.never_answer(ctx)
    }

    forward!(call_tool, list_tools, list_resources, list_resource_templates, list_prompts, task);
}

/// A client that leaves frees no slot: the backend may still be working.
#[tokio::test]
async fn a_request_counts_for_as_long_as_its_backend_works() {
    let concurrency =
        Concurrency { shared: std::num::NonZeroU32::new(1), per_user: None, mode: Mode::Enforce };
    let rule = |method| MethodRule { method, limits: Limits { concurrency, ..Limits::default() } };
    let methods = vec![rule(Method::ReadResource), rule(Method::GetPrompt), rule(Method::Complete)];
    let policy = LimitPolicy { methods, ..LimitPolicy::default() };
    let planner = Arc::new(Planner::new(policy));
    let limiter = Limiter::new(planner, Arc::new(ManualClock::default()), None, Arc::new(NoObserver));
    let inner = FakeGateway::new(vec![]);
    let backend = Arc::new(LingeringBackend { inner, work_holds: parking_lot::Mutex::default() });
    let gateway = MethodsRateLimited::wrap(backend.clone(), limiter);
    let ctx = ctx();
    let prompt = || GetPrompt {
        name: "p".into(),
        arguments: None,
        continuation: Continuation::default(),
        extra: Members::new(),
    };
    for kind in 0..2 {
        let request = || match kind {
            0 => gateway.read_resource(&ctx, read("a:1")),
            _ => gateway.get_prompt(&ctx, prompt()),
        };
        let left = tokio::time::timeout(Duration::from_millis(20), request()).await;
        assert!(left.is_err(), "the backend works");
        let Err(Error::RateLimited(refusal)) = request().await else { panic!("it still works") };
        assert_eq!(refusal.retry, Retry::WhenReleased);
        backend.work_holds.lock().clear();
        let next = tokio::time::timeout(Duration::from_millis(20), request()).await;
        assert!(next.is_err(), "the place is free, and taken again");
        backend.work_holds.lock().clear();
    }
}
