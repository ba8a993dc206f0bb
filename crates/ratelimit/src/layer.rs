//! The decorator: one real call, one charge, whoever composed it and whatever name led to it.

mod budget;
mod methods;
mod tasks;
mod virtual_tools;

use std::sync::Arc;

use vmcp_domain::{
    Answer, CallContext, CallTool, Error, Gateway, Json, Reply, Reservation, SharedGateway, Stage, forward,
};

use crate::limiter::{Bound, Limiter, Prepaid, Reserved, owed, paid_name};
pub use budget::LimitsResource;
pub use methods::MethodsRateLimited;
pub use virtual_tools::VirtualRateLimited;

/// The layer that charges calls.
pub struct RateLimited {
    inner: SharedGateway,
    limiter: Arc<Limiter>,
}

impl RateLimited {
    /// Puts the layer around `inner`. State is the limiter's, so wrapping twice shares it.
    #[must_use]
    pub fn wrap(inner: SharedGateway, limiter: Arc<Limiter>) -> SharedGateway {
        Arc::new(Self { inner, limiter })
    }
}

/// The arguments of a call whose price its result has a say in.
#[allow(clippy::option_option, reason = "a call without arguments may be settled, too")]
fn settled_by(bound: &Bound, request: &CallTool) -> Option<Option<Json>> {
    (!bound.plan.varies.settlements.is_empty()).then(|| request.arguments.clone())
}

impl RateLimited {
    /// Makes a call that holds places among the calls in flight. If it becomes a task, it holds them until that has ended.
    async fn make(&self, ctx: &CallContext, request: CallTool) -> Result<Reply, Error> {
        let outcome = self.inner.call_tool(ctx, request).await;
        let task = outcome.as_ref().ok().and_then(|reply| tasks::Task::of(&self.inner, ctx, reply));
        if let Some(task) = task {
            self.limiter.spawn(task.follow());
        }
        outcome
    }

    /// Makes a call that was paid for ahead. Bounds on calls in flight hold for it as for any other.
    async fn call_prepaid(
        &self,
        bound: &Arc<Bound>,
        prepaid: Prepaid<'_>,
        ctx: &CallContext,
        request: CallTool,
    ) -> Result<Reply, Error> {
        let unpaid = Arc::new(bound.without_buckets());
        let mut permit = self.limiter.admit(&unpaid, ctx).await?;
        let arguments = settled_by(bound, &request);
        // From here on the call may have happened, even if nobody waits for its end.
        let spent = prepaid.spend();
        let holding = permit.hold(&self.limiter, &unpaid, ctx);
        let mut outcome = self.make(holding.as_ref().unwrap_or(ctx), request).await;
        match &mut outcome {
            Ok(reply) if reply.stage == Stage::InputRequired => {
                if let Some(paid) = spent.round() {
                    self.limiter.suspend_paid(reply, paid);
                }
            }
            Ok(reply) => {
                if let Some(owed) =
                    arguments.and_then(|arguments| owed(bound, &ctx.caller, arguments.as_ref(), reply))
                {
                    spent.settle(owed);
                }
            }
            Err(error) if self.limiter.refunds(error).is_some() => spent.undo(),
            Err(_) => {}
        }
        outcome
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for RateLimited {
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, mut request: CallTool) -> Answer<'a, Reply> {
        Box::pin(async move {
            let tools = self.inner.list_tools(ctx).await?;
            // A tool that does not exist is charged to nobody; the inside says that it does not exist.
            let bound = self.limiter.bound(&tools, &request.name);
            if let Some(refusal) = bound.as_ref().and_then(|bound| self.limiter.blocked(bound, ctx)) {
                return Err(refusal);
            }
            let Some(bound) = bound.filter(|bound| !bound.plan.is_empty()) else {
                return self.inner.call_tool(ctx, request).await;
            };
            let name = paid_name(&mut request.continuation);
            let may_be_paid = ctx.reservation.is_some() || name.is_some();
            let bound = self.limiter.vary_call(&bound, ctx, request.arguments.as_ref(), may_be_paid)?;
            if let Some(round) = self.limiter.resume(name, &bound, ctx)
                && let Some(prepaid) = round.take(&bound, ctx)
            {
                return Box::pin(self.call_prepaid(&bound, prepaid, ctx, request)).await;
            }
            if let Some(reserved) = ctx.reservation.as_ref().and_then(Reservation::held::<Reserved>)
                && let Some(prepaid) = reserved.take(&bound, ctx)
            {
                return Box::pin(self.call_prepaid(&bound, prepaid, ctx, request)).await;
            }
            let mut permit = self.limiter.admit(&bound, ctx).await?;
            let arguments = settled_by(&bound, &request);
            let mut outcome = match permit.hold(&self.limiter, &bound, ctx) {
                None => self.inner.call_tool(ctx, request).await,
                Some(holding) => Box::pin(self.make(&holding, request)).await,
            };
            match &mut outcome {
                Ok(reply) => {
                    // Before anything of ours is in the result.
                    let owed =
                        arguments.and_then(|arguments| owed(&bound, &ctx.caller, arguments.as_ref(), reply));
                    if let Some(scarce) = permit.scarce(&bound) {
                        scarce.tell(&bound.plan, &mut reply.members);
                    }
                    self.limiter.suspend(reply, ctx, &bound, &permit);
                    if let Some(owed) = owed {
                        permit.settle(&self.limiter, &owed);
                    }
                }
                Err(error) => {
                    if let Some(reason) = self.limiter.refunds(error) {
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
        // The call that became a task is paid for.
        task,
    );
}
