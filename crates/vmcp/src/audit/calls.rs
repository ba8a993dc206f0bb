//! The layer right around the limiter: a record for every real call that came to it, whoever composed the call and
//! whatever name led there, with what the limiter said.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vmcp_domain::{
    Answer, BackendToolName, CallContext, CallTool, Gateway, PerList, Reply, SharedGateway, Target, ToolList,
    ToolName, forward,
};

use super::overheard::Slip;
use super::pending::{Asked, Pending};
use super::requests::RECORDED;
use super::{Audit, TOOL_CALL};

/// The layer that records real calls.
pub(crate) struct AuditedCalls {
    inner: SharedGateway,
    audit: Arc<Audit>,
    targets: PerList<ToolList, HashMap<ToolName, Target<BackendToolName>>>,
}

impl AuditedCalls {
    /// Puts the layer around `inner`.
    pub(crate) fn wrap(inner: SharedGateway, audit: Arc<Audit>) -> SharedGateway {
        Arc::new(Self { inner, audit, targets: PerList::default() })
    }

    async fn target(&self, ctx: &CallContext, name: &ToolName) -> Option<Target<BackendToolName>> {
        let tools = self.inner.list_tools(ctx).await.ok()?;
        let targets = || tools.iter().map(|tool| (tool.name.clone(), tool.target.clone())).collect();
        self.targets.get(&tools, targets).get(name).cloned()
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for AuditedCalls {
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> Answer<'a, Reply> {
        Box::pin(async move {
            if !self.audit.wants(TOOL_CALL, ctx) {
                return self.inner.call_tool(ctx, request).await;
            }
            // A tool that does not exist comes to no limiter; its request is recorded as it was made.
            let Some(target) = self.target(ctx, &request.name).await else {
                return self.inner.call_tool(ctx, request).await;
            };
            let _ = RECORDED.try_with(|recorded| recorded.store(true, Ordering::Relaxed));
            let asked = Asked {
                kind: TOOL_CALL,
                method: "tools/call",
                noun: Some("tool"),
                name: Some(request.name.to_string()),
                requested_tool: None,
                arguments: request.arguments.clone(),
            };
            let slip = Arc::new(Slip::default());
            let pending = Pending::call(&self.audit, ctx, asked, target, slip.clone());
            let outcome = slip.accompany(self.inner.call_tool(ctx, request)).await;
            pending.end(&outcome);
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
