//! The layer directly outside the limiter: writes a record for each real call that reaches the limiter, with
//! the limiter's decision. It sees every call, whichever layer composed it and whichever name led to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vmcp_domain::{
    BackendToolName, CallContext, CallTool, DerivedCache, Gateway, GatewayFuture, Reply, RoutingTarget,
    SharedGateway, ToolList, ToolName, forward,
};

use crate::decision_capture::DecisionCapture;
use crate::kinds::TOOL_CALL;
use crate::pending::{PendingRecord, RequestInfo};
use crate::recorder::Audit;
use crate::requests::RECORDED;

/// The layer that records real calls.
pub struct AuditedCalls {
    inner: SharedGateway,
    audit: Arc<Audit>,
    targets: DerivedCache<ToolList, HashMap<ToolName, RoutingTarget<BackendToolName>>>,
}

impl AuditedCalls {
    /// Wraps `inner` in the layer.
    #[must_use]
    pub fn wrap(inner: SharedGateway, audit: Arc<Audit>) -> SharedGateway {
        Arc::new(Self { inner, audit, targets: DerivedCache::default() })
    }

    async fn find_target(
        &self,
        ctx: &CallContext,
        name: &ToolName,
    ) -> Option<RoutingTarget<BackendToolName>> {
        let tools = self.inner.list_tools(ctx).await.ok()?;
        let targets = || tools.iter().map(|tool| (tool.name.clone(), tool.target.clone())).collect();
        self.targets.get_or_derive(&tools, targets).get(name).cloned()
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for AuditedCalls {
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            if !self.audit.should_record(TOOL_CALL, ctx) {
                return self.inner.call_tool(ctx, request).await;
            }
            // A call of an unknown tool reaches no limiter. The outer layer records it as the client
            // requested it.
            let Some(target) = self.find_target(ctx, &request.name).await else {
                return self.inner.call_tool(ctx, request).await;
            };
            // A step of a workflow is another call than the one that the client made.
            if ctx.run.is_none() {
                let _ = RECORDED.try_with(|recorded| recorded.store(true, Ordering::Relaxed));
            }
            let request_info = RequestInfo {
                kind: TOOL_CALL,
                method: "tools/call",
                target_kind: Some("tool"),
                name: Some(request.name.to_string()),
                requested_tool_name: None,
                arguments: request.arguments.clone(),
            };
            let capture = Arc::new(DecisionCapture::default());
            let pending = PendingRecord::for_call(&self.audit, ctx, request_info, target, capture.clone());
            let outcome = capture.scope(self.inner.call_tool(ctx, request)).await;
            pending.finish(&outcome);
            outcome
        })
    }

    forward!(
        list_tools,
        list_resources,
        list_resource_templates,
        read_resource,
        list_prompts,
        get_prompt,
        complete,
        task,
    );
}
