//! The outermost layer: counts and logs one event for each request except lists, with its outcome and
//! duration. It logs the names of tools and prompts, but no arguments, results or URIs.

use std::sync::Arc;
use std::time::Instant;

use vmcp_domain::{
    CallContext, CallTool, Complete, Error, Gateway, GatewayFuture, GetPrompt, ReadResource, Reply,
    SharedGateway, TaskOperation, TaskRequest, forward,
};

use tracing::Instrument as _;

use crate::metrics::Metrics;

/// The layer that counts and logs requests.
pub(crate) struct Observed {
    inner: SharedGateway,
    metrics: Arc<Metrics>,
}

impl Observed {
    /// Wraps `inner` in the layer.
    pub(crate) fn wrap(inner: SharedGateway, metrics: Arc<Metrics>) -> SharedGateway {
        Arc::new(Self { inner, metrics })
    }
}

/// Counts and logs one request when it ends. A request that is dropped before its end is logged as
/// `cancelled`.
struct RequestRecord<'a> {
    metrics: &'a Metrics,
    method: &'static str,
    name: String,
    started_at: Instant,
    is_ended: bool,
}

impl<'a> RequestRecord<'a> {
    fn begin(metrics: &'a Metrics, verb: &'static str, name: &str) -> Self {
        Self { metrics, method: verb, name: name.to_owned(), started_at: Instant::now(), is_ended: false }
    }

    fn finish(mut self, outcome: &Result<Reply, Error>) {
        self.is_ended = true;
        match outcome {
            Ok(reply) => self.log(if reply.is_error { "failed" } else { "ok" }),
            // Only the class of the error is logged here. The edge or the command that answers logs the
            // cause, once.
            Err(error) => self.log(error.class()),
        }
    }

    fn log(&self, outcome: &'static str) {
        let took = self.started_at.elapsed();
        self.metrics.count_request(self.method, outcome, took);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        tracing::debug!(verb = self.method, name = %self.name, outcome, took_us, "request");
    }
}

impl Drop for RequestRecord<'_> {
    fn drop(&mut self) {
        if !self.is_ended {
            self.log("cancelled");
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for Observed {
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let record = RequestRecord::begin(&self.metrics, "tools/call", request.name.as_str());
            // The limiter fills in its decision, under ToolHive's field names.
            let span = tracing::info_span!(
                "tools/call",
                tool = %request.name,
                // The real tool that ran if the client called a virtual tool. The optimizer's observer fills
                // it in.
                resolved_tool = tracing::field::Empty,
                rate_limit.decision = tracing::field::Empty,
                rate_limit.rejected_by = tracing::field::Empty,
                rate_limit.fail_open = tracing::field::Empty,
            );
            let outcome = self.inner.call_tool(ctx, request).instrument(span).await;
            record.finish(&outcome);
            outcome
        })
    }

    fn read_resource<'a>(&'a self, ctx: &'a CallContext, request: ReadResource) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let record = RequestRecord::begin(&self.metrics, "resources/read", "");
            let outcome = self.inner.read_resource(ctx, request).await;
            record.finish(&outcome);
            outcome
        })
    }

    fn get_prompt<'a>(&'a self, ctx: &'a CallContext, request: GetPrompt) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let record = RequestRecord::begin(&self.metrics, "prompts/get", request.name.as_str());
            let outcome = self.inner.get_prompt(ctx, request).await;
            record.finish(&outcome);
            outcome
        })
    }

    fn complete<'a>(&'a self, ctx: &'a CallContext, request: Complete) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let record = RequestRecord::begin(&self.metrics, "completion/complete", "");
            let outcome = self.inner.complete(ctx, request).await;
            record.finish(&outcome);
            outcome
        })
    }

    fn task<'a>(&'a self, ctx: &'a CallContext, request: TaskRequest) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let method = match request.operation {
                TaskOperation::Get => "tasks/get",
                TaskOperation::Update => "tasks/update",
                TaskOperation::Cancel => "tasks/cancel",
            };
            let record = RequestRecord::begin(&self.metrics, method, request.handle.tool.as_str());
            let outcome = self.inner.task(ctx, request).await;
            record.finish(&outcome);
            outcome
        })
    }

    forward!(list_tools, list_resources, list_resource_templates, list_prompts);
}

#[cfg(test)]
mod tests {
    use super::Observed;

    #[tokio::test]
    async fn keeps_the_rules_of_the_seam() {
        vmcp_testkit::conformance::check_decorator(&[], |inner| {
            Observed::wrap(inner, crate::metrics::Metrics::new("local", "test"))
        })
        .await;
    }
}
