//! Tells the optimizer what a call would meet: an unreachable backend, a limit of this caller. It asks the parts that
//! will decide when the call comes, and spends nothing.

use std::sync::Arc;

use futures_util::future::join_all;
use vmcp_domain::{BoxFuture, CallContext, Foresight, Gateway as _, Prospect, Tool};
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

    async fn limited(&self, ctx: &CallContext, tool: &Tool) -> Option<Prospect> {
        let limiter = self.limiter.as_ref()?;
        // The limiter's plans belong to the innermost list.
        let tools = self.federation.list_tools(ctx).await.ok()?;
        let foreseen = limiter.foresee(&tools, &tool.name, ctx).await.ok()??;
        Some(Prospect::Limited(Box::new(foreseen)))
    }
}

impl Foresight for Outlook {
    fn prospects<'a>(&'a self, ctx: &'a CallContext, tools: &'a [Tool]) -> BoxFuture<'a, Vec<Prospect>> {
        Box::pin(join_all(tools.iter().map(async |tool| {
            if !self.federation.reachable(&tool.target.backend) {
                return Prospect::Unavailable;
            }
            self.limited(ctx, tool).await.unwrap_or(Prospect::Usable)
        })))
    }
}
