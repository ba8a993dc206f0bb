//! Counts requests to each backend, their errors and their durations. The wrapped backend produces the
//! outcomes.

use std::sync::{Arc, Weak};

use tokio::time::Instant;
use vmcp_backends::policy::{BackendPolicy, Transport};
use vmcp_domain::{
    Backend, BackendId, BackendListener, BackendPromptName, BackendStatus, BackendToolName, BackendUri,
    CallContext, CallerScope, Continuation, Error, GatewayFuture, Inventory, IsolationScope, Reply,
    TaskOperation, UriTemplate,
};
use vmcp_json::{Json, Members};

use crate::metrics::{Action, BackendCounters, CallSeries, Metrics};

/// The counters of each backend, in the order of `policies`.
pub(crate) fn backend_counters(policies: &[BackendPolicy], metrics: &Metrics) -> Vec<BackendCounters> {
    let counters_of = |policy: &BackendPolicy| {
        let url = match &policy.transport {
            Transport::StreamableHttp(http) | Transport::Sse(http) => http.url.to_string(),
            Transport::Stdio(_) => String::new(),
        };
        metrics.backend_counters(policy.id.as_str(), &url, policy.transport.as_str())
    };
    policies.iter().map(counters_of).collect()
}

/// Wraps a backend and counts the requests to it.
pub(crate) struct CountedBackend {
    inner: Arc<dyn Backend>,
    counters: BackendCounters,
}

impl CountedBackend {
    /// Wraps `inner`, whose requests are then counted in `counters`.
    pub(crate) fn wrap(inner: Arc<dyn Backend>, counters: BackendCounters) -> Arc<dyn Backend> {
        Arc::new(Self { inner, counters })
    }

    fn count<'a, T: Send + 'a>(
        &'a self,
        action: Action,
        name: &str,
        answer: GatewayFuture<'a, T>,
    ) -> GatewayFuture<'a, T> {
        let series = self.counters.series(action, name);
        Box::pin(async move {
            series.requests.inc();
            let mut timer = RequestTimer { series, started_at: Instant::now(), is_failed: true };
            let outcome = answer.await;
            timer.is_failed = outcome.is_err();
            outcome
        })
    }
}

/// Records the duration of a request when it is dropped, and counts an error unless the request succeeded. A
/// request that is dropped before its answer counts as failed.
struct RequestTimer {
    series: Arc<CallSeries>,
    started_at: Instant,
    is_failed: bool,
}

impl Drop for RequestTimer {
    fn drop(&mut self) {
        self.series.durations.observe(self.started_at.elapsed().as_secs_f64());
        if self.is_failed {
            self.series.errors.inc();
        }
    }
}

impl Backend for CountedBackend {
    fn id(&self) -> &BackendId {
        self.inner.id()
    }

    fn status(&self) -> BackendStatus {
        self.inner.status()
    }

    fn set_listener(&self, listener: Weak<dyn BackendListener>) {
        self.inner.set_listener(listener);
    }

    fn reconnect(&self) -> bool {
        self.inner.reconnect()
    }

    fn has_caller_credentials(&self) -> bool {
        self.inner.has_caller_credentials()
    }

    fn has_caller_connections(&self) -> bool {
        self.inner.has_caller_connections()
    }

    fn saved_inventory(&self) -> Option<Inventory> {
        self.inner.saved_inventory()
    }

    fn context_for(&self, scope: CallerScope) -> Option<CallContext> {
        self.inner.context_for(scope)
    }

    fn scope(&self, ctx: &CallContext) -> Result<IsolationScope, Error> {
        self.inner.scope(ctx)
    }

    fn fetch_inventory<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Inventory> {
        self.count(Action::ListCapabilities, "", self.inner.fetch_inventory(ctx))
    }

    fn call_tool<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendToolName,
        arguments: Option<Json>,
        continuation: Continuation,
        extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        let answer = self.inner.call_tool(ctx, name.clone(), arguments, continuation, extra);
        self.count(Action::CallTool, name.as_str(), answer)
    }

    fn read_resource<'a>(
        &'a self,
        ctx: &'a CallContext,
        uri: BackendUri,
        continuation: Continuation,
        extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        // One resource template can produce any number of URIs, so the URI is no label.
        let answer = self.inner.read_resource(ctx, uri, continuation, extra);
        self.count(Action::ReadResource, "", answer)
    }

    fn get_prompt<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendPromptName,
        arguments: Option<Json>,
        continuation: Continuation,
        extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        let answer = self.inner.get_prompt(ctx, name.clone(), arguments, continuation, extra);
        self.count(Action::GetPrompt, name.as_str(), answer)
    }

    fn complete_prompt<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendPromptName,
        extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        self.count(Action::Complete, "", self.inner.complete_prompt(ctx, name, extra))
    }

    fn complete_template<'a>(
        &'a self,
        ctx: &'a CallContext,
        template: UriTemplate,
        extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        self.count(Action::Complete, "", self.inner.complete_template(ctx, template, extra))
    }

    fn task<'a>(
        &'a self,
        ctx: &'a CallContext,
        verb: TaskOperation,
        id: String,
        extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        self.inner.task(ctx, verb, id, extra)
    }

    fn subscribe<'a>(&'a self, ctx: &'a CallContext, uri: BackendUri) -> GatewayFuture<'a, ()> {
        self.inner.subscribe(ctx, uri)
    }

    fn unsubscribe<'a>(&'a self, ctx: &'a CallContext, uri: BackendUri) -> GatewayFuture<'a, ()> {
        self.inner.unsubscribe(ctx, uri)
    }
}
