//! A limiter with paused time, a gateway behind it, and observers on both sides.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use vmcp_domain::{
    AskError, BoxFuture, CallContext, CallOrigin, Caller, ClientCapabilities, ClientPort, Error, Identity,
    LogLevel, NamePattern, Question, Retry, RoutingTarget, SharedGateway, Tool,
};
use vmcp_json::{Json, Members};
use vmcp_testkit::{FakeGateway, conformance, tool};
use vmcp_timing::{Clock, Micros};

use crate::bucket::rate::Rate;
use crate::layer::RateLimited;
use crate::limiter::observer::{DecisionEvent, Observer, WaitOutcome};
use crate::limiter::{Limiter, Sharing};
use crate::plan::Planner;
use crate::plan::policy::{
    Anonymous, Consistency, LimitPolicy, Limits, MemoryBounds, Mode, Quota, ToolRule, WaitBounds,
};
use crate::shared::store::StoreFailure;

/// Tokio's time, which a test pauses and advances.
pub(super) struct PausedClock(tokio::time::Instant);

impl PausedClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(tokio::time::Instant::now()))
    }
}

impl Clock for PausedClock {
    fn now(&self) -> Micros {
        Micros(self.0.elapsed().as_micros() as u64)
    }

    fn time_of_day(&self) -> Micros {
        self.now()
    }
}

pub(super) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) fn quota(tokens: u64, period: u64) -> Option<Quota> {
    let rate = Rate::new(tokens, seconds(period), tokens).unwrap();
    Some(Quota::new(vec![rate], Mode::Enforce))
}

pub(super) fn rule(name: &str, cost: u32, limits: Limits) -> ToolRule {
    ToolRule {
        name: NamePattern::new(name),
        annotation: None,
        group: false,
        limits,
        cost: std::num::NonZeroU32::new(cost).unwrap().into(),
    }
}

/// A virtual tool, which the gateway itself offers.
pub(super) fn virtual_tool(name: &str) -> Tool {
    Tool { target: RoutingTarget::for_virtual(name.into()), ..tool("", name, name) }
}

/// The result of a call: how long it waited, or when it may be repeated.
pub(super) type CallResult = Result<Duration, Retry>;

pub(super) struct Harness {
    pub(super) inner: Arc<FakeGateway>,
    pub(super) gateway: SharedGateway,
    pub(super) limiter: Arc<Limiter>,
    pub(super) wait_outcomes: Arc<WaitOutcomes>,
}

impl Harness {
    pub(super) fn new(server: Limits, tools: Vec<ToolRule>) -> Self {
        Self::with_wait_bounds(server, tools, WaitBounds::default())
    }

    pub(super) fn with_wait_bounds(server: Limits, tools: Vec<ToolRule>, waiting: WaitBounds) -> Self {
        Self::with_sharing((server, tools, waiting), PausedClock::new(), None)
    }

    pub(super) fn with_sharing(
        (server, tools, waiting): (Limits, Vec<ToolRule>, WaitBounds),
        clock: Arc<PausedClock>,
        sharing: Option<Sharing>,
    ) -> Self {
        let memory = MemoryBounds::default();
        let policy = LimitPolicy {
            server,
            tools,
            anonymous: Anonymous::Refuse,
            memory,
            waiting,
            consistency: Consistency::Exact,
            ..LimitPolicy::default()
        };
        let wait_outcomes = Arc::new(WaitOutcomes::default());
        let limiter = Limiter::new(Arc::new(Planner::new(policy)), clock, sharing, wait_outcomes.clone());
        let named = |name: &str| tool("backend", name, name);
        let inner = FakeGateway::new(vec![named("t"), named("u"), named("v"), named("hang")]);
        Self { gateway: RateLimited::wrap(inner.clone(), limiter.clone()), inner, limiter, wait_outcomes }
    }

    pub(super) fn context(&self, user: &str) -> CallContext {
        let identity = Identity { issuer: "i".into(), subject: user.into(), claims: Members::new() };
        CallContext::bare(Caller::Known(Arc::new(identity)), CallOrigin::Client)
    }

    pub(super) async fn call(&self, user: &str, tool: &str) -> CallResult {
        self.call_as(&self.context(user), tool).await
    }

    pub(super) async fn call_as(&self, ctx: &CallContext, tool: &str) -> CallResult {
        run_call(&self.gateway, ctx, tool).await
    }

    /// Starts a call and lets it continue until it waits or ends.
    pub(super) async fn start(&self, user: &str, tool: &str) -> JoinHandle<CallResult> {
        let (gateway, ctx, tool) = (self.gateway.clone(), self.context(user), tool.to_owned());
        let call = tokio::spawn(async move { run_call(&gateway, &ctx, &tool).await });
        tokio::task::yield_now().await;
        call
    }
}

async fn run_call(gateway: &SharedGateway, ctx: &CallContext, tool: &str) -> CallResult {
    let begun = tokio::time::Instant::now();
    match gateway.call_tool(ctx, conformance::tool_call(tool)).await {
        Ok(_) => Ok(begun.elapsed()),
        Err(Error::RateLimited(refusal)) => Err(refusal.retry),
        Err(error) => panic!("not a refusal by a limit: {error:?}"),
    }
}

/// The outcomes of waits. Every wait that has begun must have ended by the end of a test.
#[derive(Default)]
pub(super) struct WaitOutcomes {
    began: Mutex<usize>,
    ended: Mutex<Vec<WaitOutcome>>,
}

impl WaitOutcomes {
    pub(super) fn outcomes(&self) -> Vec<WaitOutcome> {
        let ended = self.ended.lock().clone();
        assert_eq!(*self.began.lock(), ended.len(), "some still wait");
        ended
    }
}

impl Observer for WaitOutcomes {
    fn on_decision(&self, _event: &DecisionEvent<'_>) {}

    fn on_store_failure(&self, _failure: StoreFailure) {}

    fn on_refund(&self, _reason: &'static str) {}

    fn on_wait_start(&self) {
        *self.began.lock() += 1;
    }

    fn on_wait_end(&self, end: WaitOutcome, _waited: Duration) {
        self.ended.lock().push(end);
    }
}

/// A client that wants progress and records it.
#[derive(Debug, Default)]
pub(super) struct ProgressClient(Mutex<Vec<(f64, String)>>, ClientCapabilities);

impl ProgressClient {
    pub(super) fn wanting_progress() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn progress_messages(&self) -> Vec<(f64, String)> {
        self.0.lock().clone()
    }
}

impl ClientPort for ProgressClient {
    fn wants_progress(&self) -> bool {
        true
    }

    fn progress(&self, params: Members) {
        let value = params.get("progress").unwrap().decode().unwrap();
        let message = params.get("message").and_then(Json::decode_string).unwrap();
        assert_eq!(params.len(), 2, "no total, so that no bar ends");
        self.0.lock().push((value, message));
    }

    fn log_level(&self) -> Option<LogLevel> {
        None
    }

    fn log(&self, _level: LogLevel, _params: Members) {}

    fn elicitation_complete(&self, _params: Members) {}

    fn capabilities(&self) -> &ClientCapabilities {
        &self.1
    }

    fn client_key(&self) -> Option<vmcp_domain::ClientKey> {
        None
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Json, AskError>> {
        Box::pin(std::future::ready(Err(AskError::Unsupported(question.kind))))
    }
}
