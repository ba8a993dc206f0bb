//! The decorator for virtual tools, which the gateway itself offers. It is outside the layer that offers them
//! and charges a call of one only where a rule names the tool, and refuses it where an operator blocked it. The calls that
//! such a tool makes are charged further inside.

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
    failures: FailureCharge,
}

/// Whether a call of a virtual tool that ends with an error is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureCharge {
    /// It is: the tool did its work before a call that it made was refused.
    Charged,
    /// It is not: such a tool reports an error only if it did nothing.
    Refunded,
}

impl VirtualRateLimited {
    /// Wraps `inner`, which offers `tools`, in the layer.
    #[must_use]
    pub fn wrap(
        inner: SharedGateway,
        limiter: Arc<Limiter>,
        tools: &[Tool],
        failures: FailureCharge,
    ) -> SharedGateway {
        let tool_plans = limiter.virtual_tool_plans(tools);
        Arc::new(Self { inner, limiter, tool_plans, failures })
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for VirtualRateLimited {
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        let Some(tool_plan) = self.tool_plans.get(&request.name) else {
            return self.inner.call_tool(ctx, request);
        };
        if let Some(refusal) = self.limiter.block_refusal(tool_plan, ctx) {
            return Box::pin(std::future::ready(Err(refusal)));
        }
        if tool_plan.plan.is_empty() {
            return self.inner.call_tool(ctx, request);
        }
        Box::pin(async move {
            let tool_plan = self.limiter.plan_call(tool_plan, ctx, request.arguments.as_ref(), false)?;
            let mut permit = self.limiter.admit(&tool_plan, ctx).await?;
            let arguments = settlement_arguments(&tool_plan, &request);
            let holding = permit.hold_slots(&self.limiter, &tool_plan, ctx);
            let outcome = self.inner.call_tool(holding.as_ref().unwrap_or(ctx), request).await;
            match (&outcome, arguments) {
                (Ok(reply), Some(arguments)) => {
                    if let Some(owed) = compute_settlement(&tool_plan, &ctx.caller, arguments.as_ref(), reply)
                    {
                        permit.settle(&self.limiter, &owed);
                    }
                }
                (Err(error), _) if self.failures == FailureCharge::Refunded => {
                    Box::pin(permit.refund(error.class())).await;
                }
                (Ok(_) | Err(_), _) => {}
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
