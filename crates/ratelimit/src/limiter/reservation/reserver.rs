//! [`Reserver`]: the limiter as the layers see it that compose calls.

use std::sync::Arc;

use vmcp_domain::{
    BoxFuture, BudgetNeed, CallContext, Error, GatewayFuture, PlannedCall, Reservation, ReserveBudget,
    SharedGateway, ToolList,
};

use super::ReservedCalls;
use crate::limiter::{Arguments, Limiter, ToolPlan};
use crate::plan::policy::Mode;

/// The most calls of one reservation.
const CALLS_MAX: usize = 1000;

/// Reserves budget for calls of the tools that a gateway lists.
pub struct Reserver {
    inner: SharedGateway,
    limiter: Arc<Limiter>,
}

impl Reserver {
    /// Reserves budget of `limiter` for the tools of `inner`, the gateway that the limiter's layer wraps.
    #[must_use]
    pub fn new(inner: SharedGateway, limiter: Arc<Limiter>) -> Self {
        Self { inner, limiter }
    }

    /// The plans that charge the calls, each with the number of its calls.
    async fn plans_of(
        &self,
        ctx: &CallContext,
        calls: &[PlannedCall],
    ) -> Result<Vec<(Arc<ToolPlan>, u32)>, Error> {
        let tools = self.inner.list_tools(ctx).await?;
        let mut wanted: Vec<(Arc<ToolPlan>, u32)> = Vec::new();
        for call in calls {
            let Some(tool_plan) = self.plan_of(&tools, ctx, call)? else { continue };
            match wanted.iter_mut().find(|(known, _)| known.is_charged_like(&tool_plan)) {
                Some((_, count)) => *count += 1,
                None => wanted.push((tool_plan, 1)),
            }
        }
        Ok(wanted)
    }

    /// The plan that charges the call. `None` if no limit counts it, or if limits depend on arguments that are not known.
    fn plan_of(
        &self,
        tools: &Arc<ToolList>,
        ctx: &CallContext,
        PlannedCall { call, arguments_known }: &PlannedCall,
    ) -> Result<Option<Arc<ToolPlan>>, Error> {
        let tool_plan = self.limiter.tool_plan(tools, &call.name);
        let tool_plan = tool_plan.ok_or_else(|| Error::UnknownTool(call.name.clone()))?;
        if !arguments_known && tool_plan.plan.variation_inputs.read_arguments() {
            return Ok(None);
        }
        let arguments = Arguments::Sent(call.arguments.as_ref());
        let tool_plan = self.limiter.plan_variant(&tool_plan, ctx, arguments)?;
        Ok(Some(tool_plan).filter(|tool_plan| !tool_plan.plan.buckets.is_empty()))
    }
}

impl ReserveBudget for Reserver {
    fn reserve<'a>(
        &'a self,
        ctx: &'a CallContext,
        calls: &'a [PlannedCall],
    ) -> GatewayFuture<'a, Reservation> {
        Box::pin(async move {
            if calls.len() > CALLS_MAX {
                let text = format!("at most {CALLS_MAX} calls can be reserved at once, not {}", calls.len());
                return Err(Error::InvalidRequest(text));
            }
            let wanted = self.plans_of(ctx, calls).await?;
            self.limiter.reserve(wanted, ctx).await.map(Reservation::new)
        })
    }

    fn needs<'a>(
        &'a self,
        ctx: &'a CallContext,
        calls: &'a [PlannedCall],
    ) -> GatewayFuture<'a, Vec<BudgetNeed>> {
        Box::pin(async move {
            let tools = self.inner.list_tools(ctx).await?;
            let mut wanted: Vec<(Arc<ToolPlan>, u32)> = Vec::new();
            let (mut are_minimum, mut overridden) = (Vec::new(), Vec::new());
            for PlannedCall { call, arguments_known } in calls {
                let tool_plan = self.limiter.any_tool_plan(&tools, &call.name);
                let tool_plan = tool_plan.ok_or_else(|| Error::UnknownTool(call.name.clone()))?;
                let inputs = &tool_plan.plan.variation_inputs;
                let is_minimum = !arguments_known && inputs.read_arguments();
                overridden.extend(inputs.overridden.iter().map(|limit| limit.rule.clone()));
                let arguments = if *arguments_known {
                    Arguments::Sent(call.arguments.as_ref())
                } else {
                    Arguments::Unknown
                };
                let tool_plan = self.limiter.plan_variant(&tool_plan, ctx, arguments)?;
                are_minimum
                    .extend(tool_plan.plan.buckets.iter().filter(|_| is_minimum).map(|one| one.rule.clone()));
                wanted.push((tool_plan, 1));
            }
            wanted.retain(|(tool_plan, _)| !tool_plan.plan.buckets.is_empty());
            let Some(all) = ToolPlan::combined(&wanted) else { return Ok(Vec::new()) };
            let needs = all.plan.buckets.iter().map(|bucket| BudgetNeed {
                rule: bucket.rule.to_string(),
                scope: bucket.scope,
                needed: bucket.cost.get(),
                capacity: bucket.rate.burst(),
                is_enforced: bucket.mode == Mode::Enforce,
                is_minimum: are_minimum.contains(&bucket.rule),
                has_overrides: overridden.contains(&bucket.rule),
            });
            Ok(needs.collect())
        })
    }

    fn release<'a>(
        &'a self,
        ctx: &'a CallContext,
        reservation: &'a Reservation,
        call: &'a PlannedCall,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let Some(reserved) = reservation.downcast_ref::<ReservedCalls>() else { return };
            let Ok(tools) = self.inner.list_tools(ctx).await else { return };
            if let Ok(Some(tool_plan)) = self.plan_of(&tools, ctx, call) {
                reserved.release_call(&tool_plan, ctx);
            }
        })
    }
}
