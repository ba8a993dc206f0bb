//! The decorator for virtual tools, which the gateway itself offers. It is outside the layer that offers them
//! and charges a call of one only where a rule names the tool. The calls that such a tool makes are charged
//! further inside.

use std::collections::HashMap;
use std::sync::Arc;

use vmcp_domain::{
    CallContext, CallTool, Gateway, GatewayFuture, Reply, SharedGateway, Tool, ToolName, forward,
};

use super::settlement_arguments;
use crate::limiter::{Limiter, ToolPlan, compute_settlement};

/// The layer that charges calls of virtual tools.
pub struct VirtualRateLimited {
    inner: SharedGateway,
    limiter: Arc<Limiter>,
    tool_plans: HashMap<ToolName, Arc<ToolPlan>>,
}

impl VirtualRateLimited {
    /// Wraps `inner`, which offers `tools`, in the layer. Without a rule that names one of them `inner` is
    /// returned as it is.
    #[must_use]
    pub fn wrap(inner: SharedGateway, limiter: Arc<Limiter>, tools: &[Tool]) -> SharedGateway {
        let tool_plan = limiter.virtual_tool_plans(tools);
        if tool_plan.is_empty() {
            return inner;
        }
        Arc::new(Self { inner, limiter, tool_plans: tool_plan })
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for VirtualRateLimited {
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        let Some(tool_plan) = self.tool_plans.get(&request.name) else {
            return self.inner.call_tool(ctx, request);
        };
        Box::pin(async move {
            // Nothing is refunded for a call that was refused further inside: the virtual tool did its work.
            let tool_plan = self.limiter.plan_call(tool_plan, ctx, request.arguments.as_ref(), false)?;
            let mut permit = self.limiter.admit(&tool_plan, ctx).await?;
            let arguments = settlement_arguments(&tool_plan, &request);
            let holding = permit.hold_slots(&self.limiter, &tool_plan, ctx);
            let outcome = self.inner.call_tool(holding.as_ref().unwrap_or(ctx), request).await;
            if let (Ok(reply), Some(arguments)) = (&outcome, arguments)
                && let Some(owed) = compute_settlement(&tool_plan, &ctx.caller, arguments.as_ref(), reply)
            {
                permit.settle(&self.limiter, &owed);
            }
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

#[cfg(test)]
mod tests;
