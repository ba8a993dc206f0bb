//! Tells the optimizer what a call would meet: an unreachable backend, a limit of this caller. It asks the parts that
//! will decide when the call comes, and spends nothing.

use std::sync::Arc;

use futures_util::future::join_all;
use vmcp_domain::{BoxFuture, CallContext, Foresight, Gateway as _, Prospect, Tool, ToolList};
use vmcp_federation::Federation;
use vmcp_ratelimit::Limiter;

/// What is known of backends and limits.
pub(crate) struct Outlook {
    federation: Federation,
    limiter: Option<Arc<Limiter>>,
}

impl Outlook {
    /// Asks these.
    pub(crate) fn new(federation: Federation, limiter: Option<Arc<Limiter>>) -> Arc<Self> {
        Arc::new(Self { federation, limiter })
    }

    async fn prospect(
        &self,
        ctx: &CallContext,
        limits: Option<&(&Limiter, Arc<ToolList>)>,
        tool: &Tool,
    ) -> Prospect {
        if !self.federation.reachable(&tool.target.backend) {
            return Prospect::Unavailable;
        }
        let Some((limiter, tools)) = limits else { return Prospect::Usable };
        match limiter.foresee(tools, &tool.name, ctx).await {
            Ok(Some(limit)) => Prospect::Limited(Box::new(limit)),
            // What cannot be found out is found out by the call.
            Ok(None) | Err(_) => Prospect::Usable,
        }
    }
}

impl Foresight for Outlook {
    fn prospects<'a>(&'a self, ctx: &'a CallContext, tools: &'a [Tool]) -> BoxFuture<'a, Vec<Prospect>> {
        Box::pin(async move {
            let limits = match &self.limiter {
                // The limiter's plans belong to the innermost list.
                Some(limiter) => self.federation.list_tools(ctx).await.ok().map(|whole| (&**limiter, whole)),
                None => None,
            };
            join_all(tools.iter().map(|tool| self.prospect(ctx, limits.as_ref(), tool))).await
        })
    }
}
