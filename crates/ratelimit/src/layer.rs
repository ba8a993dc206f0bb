//! The decorator that charges tool calls: each call that reaches a backend is charged once, whatever composed
//! it and whatever tool name led to it.

pub(crate) mod limits_resource;
mod methods;
mod tasks;
mod virtual_tools;

use std::sync::Arc;

use vmcp_domain::{
    CallContext, CallTool, Error, Gateway, GatewayFuture, Reply, Reservation, ResultType, SharedGateway,
    forward,
};
use vmcp_json::Json;

pub use crate::layer::limits_resource::LimitsResource;
use crate::limiter::{Limiter, PrepaidCall, ReservedCalls, ToolPlan, compute_settlement, take_round_id};
pub use methods::MethodsRateLimited;
pub use virtual_tools::{FailureCharge, VirtualRateLimited};

/// The layer that charges calls of tools.
pub struct RateLimited {
    inner: SharedGateway,
    limiter: Arc<Limiter>,
}

impl RateLimited {
    /// Wraps `inner` in the layer. The limiter holds the state, so two layers over one limiter share it.
    #[must_use]
    pub fn wrap(inner: SharedGateway, limiter: Arc<Limiter>) -> SharedGateway {
        Arc::new(Self { inner, limiter })
    }
}

/// A copy of the call's arguments, if a rule settles the call by its result.
#[allow(clippy::option_option, reason = "a call without arguments may be settled, too")]
fn settlement_arguments(tool_plan: &ToolPlan, request: &CallTool) -> Option<Option<Json>> {
    (!tool_plan.plan.variation_inputs.settlements.is_empty()).then(|| request.arguments.clone())
}

impl RateLimited {
    /// Makes a call that holds slots. If the call becomes a task, its slots are held until the task has
    /// ended.
    async fn call_holding_slots(&self, ctx: &CallContext, request: CallTool) -> Result<Reply, Error> {
        let outcome = self.inner.call_tool(ctx, request).await;
        let task =
            outcome.as_ref().ok().and_then(|reply| tasks::FollowedTask::from_reply(&self.inner, ctx, reply));
        if let Some(task) = task {
            self.limiter.spawn(task.follow());
        }
        outcome
    }

    /// Makes a prepaid call. Limits on calls in flight apply to it as to any other call.
    async fn call_prepaid(
        &self,
        tool_plan: &Arc<ToolPlan>,
        prepaid: PrepaidCall<'_>,
        ctx: &CallContext,
        request: CallTool,
    ) -> Result<Reply, Error> {
        let slots_only = Arc::new(tool_plan.without_buckets());
        let mut permit = self.limiter.admit(&slots_only, ctx).await?;
        let arguments = settlement_arguments(tool_plan, &request);
        // From here on the call may have happened, even if the caller is cancelled before it ends.
        let spent = prepaid.spend();
        let holding = permit.hold_slots(&self.limiter, &slots_only, ctx);
        let mut outcome = self.call_holding_slots(holding.as_ref().unwrap_or(ctx), request).await;
        match &mut outcome {
            Ok(reply) if reply.result_type == ResultType::InputRequired => {
                if let Some(paid) = spent.paid_round() {
                    self.limiter.suspend_paid_round(reply, paid);
                }
            }
            Ok(reply) => {
                if let Some(owed) = arguments.and_then(|arguments| {
                    compute_settlement(tool_plan, &ctx.caller, arguments.as_ref(), reply)
                }) {
                    spent.settle(owed);
                }
            }
            Err(error) if self.limiter.refund_reason(error).is_some() => spent.return_call(),
            Err(_) => {}
        }
        outcome
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for RateLimited {
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, mut request: CallTool) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let tools = self.inner.list_tools(ctx).await?;
            // A call of a tool that does not exist is not charged; the inner gateway reports that it does not
            // exist.
            let tool_plan = self.limiter.tool_plan(&tools, &request.name);
            if let Some(refusal) =
                tool_plan.as_ref().and_then(|tool_plan| self.limiter.block_refusal(tool_plan, ctx))
            {
                return Err(refusal);
            }
            let Some(tool_plan) = tool_plan.filter(|tool_plan| !tool_plan.plan.is_empty()) else {
                return self.inner.call_tool(ctx, request).await;
            };
            let name = take_round_id(&mut request.continuation);
            let may_be_paid = ctx.reservation.is_some() || name.is_some();
            let tool_plan =
                self.limiter.plan_call(&tool_plan, ctx, request.arguments.as_ref(), may_be_paid)?;
            if let Some(round) = self.limiter.resume_round(name, &tool_plan, ctx)
                && let Some(prepaid) = round.take_call(&tool_plan, ctx)
            {
                return Box::pin(self.call_prepaid(&tool_plan, prepaid, ctx, request)).await;
            }
            if let Some(reserved) =
                ctx.reservation.as_ref().and_then(Reservation::downcast_ref::<ReservedCalls>)
                && let Some(prepaid) = reserved.take_call(&tool_plan, ctx)
            {
                return Box::pin(self.call_prepaid(&tool_plan, prepaid, ctx, request)).await;
            }
            let mut permit = self.limiter.admit(&tool_plan, ctx).await?;
            let arguments = settlement_arguments(&tool_plan, &request);
            let mut outcome = match permit.hold_slots(&self.limiter, &tool_plan, ctx) {
                None => self.inner.call_tool(ctx, request).await,
                Some(holding) => Box::pin(self.call_holding_slots(&holding, request)).await,
            };
            match &mut outcome {
                Ok(reply) => {
                    // Before this layer adds anything of its own to the result.
                    let owed = arguments.and_then(|arguments| {
                        compute_settlement(&tool_plan, &ctx.caller, arguments.as_ref(), reply)
                    });
                    if let Some(low_bucket) = permit.low_bucket(&tool_plan) {
                        low_bucket.write_meta(&tool_plan.plan, &mut reply.members);
                    }
                    self.limiter.suspend_round(reply, ctx, &tool_plan, &permit);
                    if let Some(owed) = owed {
                        permit.settle(&self.limiter, &owed);
                    }
                }
                Err(error) => {
                    if let Some(reason) = self.limiter.refund_reason(error) {
                        Box::pin(permit.refund(reason)).await;
                    }
                }
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
        // The call that became a task is paid for already.
        task,
    );
}
