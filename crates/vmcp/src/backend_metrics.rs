//! Counts requests to a backend. What they come to is the backend's to say.

use std::sync::{Arc, Weak};

use tokio::time::Instant;
use vmcp_backends::policy::{BackendPolicy, Transport};
use vmcp_domain::{
    Answer, Backend, BackendId, BackendListener, BackendPromptName, BackendStatus, BackendToolName,
    BackendUri, CallContext, CallerScope, Continuation, Error, Inventory, Json, Members, Reply, Scope,
    TaskVerb, UriTemplate,
};

use crate::metrics::{Action, CallSeries, Metrics, OneBackend};

/// The counters of each backend, in their order.
pub(crate) fn counters(policies: &[BackendPolicy], metrics: &Metrics) -> Vec<OneBackend> {
    let of = |policy: &BackendPolicy| {
        let url = match &policy.transport {
            Transport::StreamableHttp(http) | Transport::Sse(http) => http.url.to_string(),
            Transport::Stdio(_) => String::new(),
        };
        metrics.of_backend(policy.id.as_str(), &url, policy.transport.as_str())
    };
    policies.iter().map(of).collect()
}

/// A backend whose requests are counted.
pub(crate) struct CountedBackend {
    inner: Arc<dyn Backend>,
    counters: OneBackend,
}

impl CountedBackend {
    /// Counts the requests to `inner`.
    pub(crate) fn wrap(inner: Arc<dyn Backend>, counters: OneBackend) -> Arc<dyn Backend> {
        Arc::new(Self { inner, counters })
    }

    fn counted<'a, T: Send + 'a>(
        &'a self,
        action: Action,
        name: &str,
        answer: Answer<'a, T>,
    ) -> Answer<'a, T> {
        let series = self.counters.series(action, name);
        Box::pin(async move {
            series.requests.inc();
            let mut ending = Ending { series, begun: Instant::now(), failed: true };
            let outcome = answer.await;
            ending.failed = outcome.is_err();
            outcome
        })
    }
}

/// Counts the end of a request. One that is dropped before it is answered has failed.
struct Ending {
    series: Arc<CallSeries>,
    begun: Instant,
    failed: bool,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.series.durations.observe(self.begun.elapsed().as_secs_f64());
        if self.failed {
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

    fn listen(&self, listener: Weak<dyn BackendListener>) {
        self.inner.listen(listener);
    }

    fn reconnect(&self) -> bool {
        self.inner.reconnect()
    }

    fn is_personal(&self) -> bool {
        self.inner.is_personal()
    }

    fn isolates(&self) -> bool {
        self.inner.isolates()
    }

    fn context_of(&self, scope: CallerScope) -> Option<CallContext> {
        self.inner.context_of(scope)
    }

    fn scope(&self, ctx: &CallContext) -> Result<Scope, Error> {
        self.inner.scope(ctx)
    }

    fn inventory<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Inventory> {
        self.counted(Action::ListCapabilities, "", self.inner.inventory(ctx))
    }

    fn call_tool<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendToolName,
        arguments: Option<Json>,
        continuation: Continuation,
        rest: Members,
    ) -> Answer<'a, Reply> {
        let answer = self.inner.call_tool(ctx, name.clone(), arguments, continuation, rest);
        self.counted(Action::CallTool, name.as_str(), answer)
    }

    fn read_resource<'a>(
        &'a self,
        ctx: &'a CallContext,
        uri: BackendUri,
        continuation: Continuation,
        rest: Members,
    ) -> Answer<'a, Reply> {
        // A template may lead to any number of addresses.
        let answer = self.inner.read_resource(ctx, uri, continuation, rest);
        self.counted(Action::ReadResource, "", answer)
    }

    fn get_prompt<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendPromptName,
        arguments: Option<Json>,
        continuation: Continuation,
        rest: Members,
    ) -> Answer<'a, Reply> {
        let answer = self.inner.get_prompt(ctx, name.clone(), arguments, continuation, rest);
        self.counted(Action::GetPrompt, name.as_str(), answer)
    }

    fn complete_prompt<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendPromptName,
        rest: Members,
    ) -> Answer<'a, Reply> {
        self.counted(Action::Complete, "", self.inner.complete_prompt(ctx, name, rest))
    }

    fn complete_template<'a>(
        &'a self,
        ctx: &'a CallContext,
        template: UriTemplate,
        rest: Members,
    ) -> Answer<'a, Reply> {
        self.counted(Action::Complete, "", self.inner.complete_template(ctx, template, rest))
    }

    fn task<'a>(
        &'a self,
        ctx: &'a CallContext,
        verb: TaskVerb,
        id: String,
        rest: Members,
    ) -> Answer<'a, Reply> {
        self.inner.task(ctx, verb, id, rest)
    }

    fn subscribe<'a>(&'a self, ctx: &'a CallContext, uri: BackendUri) -> Answer<'a, ()> {
        self.inner.subscribe(ctx, uri)
    }

    fn unsubscribe<'a>(&'a self, ctx: &'a CallContext, uri: BackendUri) -> Answer<'a, ()> {
        self.inner.unsubscribe(ctx, uri)
    }
}
