//! Reports to the optimizer what a call would meet: an unreachable backend, or a limit for this caller. It
//! asks the federation and the limiter, which decide when the call is made, and it spends no tokens.

use std::sync::Arc;

use futures_util::future::join_all;
use vmcp_domain::{Availability, AvailabilityCheck, BoxFuture, CallContext, Gateway as _, Tool, ToolList};
use vmcp_federation::Federation;
use vmcp_ratelimit::Limiter;

/// The sources of availability: the federation and the limiter.
pub(crate) struct AvailabilityProbe {
    federation: Federation,
    limiter: Option<Arc<Limiter>>,
}

impl AvailabilityProbe {
    /// Creates a probe of these parts.
    pub(crate) fn new(federation: Federation, limiter: Option<Arc<Limiter>>) -> Arc<Self> {
        Arc::new(Self { federation, limiter })
    }

    async fn check_tool(
        &self,
        ctx: &CallContext,
        limits: Option<&(&Limiter, Arc<ToolList>)>,
        tool: &Tool,
    ) -> Availability {
        // A virtual tool has no backend of its own.
        if !tool.target.is_virtual() && !self.federation.is_reachable(&tool.target.backend) {
            return Availability::Unavailable;
        }
        let Some((limiter, tools)) = limits else { return Availability::Available };
        match limiter.check_availability(tools, &tool.name, ctx).await {
            Ok(Some(limit)) => Availability::RateLimited(Box::new(limit)),
            // If the limiter cannot answer, the tool counts as available. The call itself then shows the
            // outcome.
            Ok(None) | Err(_) => Availability::Available,
        }
    }
}

impl AvailabilityCheck for AvailabilityProbe {
    fn check_availability<'a>(
        &'a self,
        ctx: &'a CallContext,
        tools: &'a [Tool],
    ) -> BoxFuture<'a, Vec<Availability>> {
        Box::pin(async move {
            let limits = match &self.limiter {
                // The limiter binds its plans to the federation's list, not to the filtered list in `tools`.
                Some(limiter) => {
                    self.federation.list_tools(ctx).await.ok().map(|all_tools| (&**limiter, all_tools))
                }
                None => None,
            };
            join_all(tools.iter().map(|tool| self.check_tool(ctx, limits.as_ref(), tool))).await
        })
    }
}
