//! The decorator for what clients ask besides calls of tools. It stands outside every layer that asks for lists on its own
//! account, so that it counts what clients ask and nothing else.

use std::sync::Arc;

use vmcp_domain::{
    Answer, CallContext, Complete, Continuation, Error, Gateway, GetPrompt, Origin, PromptList, ReadResource,
    Reply, ResourceList, SharedGateway, Stage, TemplateList, ToolList, forward,
};

use crate::limiter::{Bound, Limiter, Permit, paid_name};
use crate::policy::Method;

/// The layer that limits lists, reads, prompts and completions.
pub struct MethodsRateLimited {
    inner: SharedGateway,
    limiter: Arc<Limiter>,
}

impl MethodsRateLimited {
    /// Puts the layer around `inner`. Without limits on methods it is left out.
    #[must_use]
    pub fn wrap(inner: SharedGateway, limiter: Arc<Limiter>) -> SharedGateway {
        if limiter.limits_methods() { Arc::new(Self { inner, limiter }) } else { inner }
    }

    fn charged<'a, T: Send + 'a>(
        &'a self,
        method: Method,
        ctx: &'a CallContext,
        answer: Answer<'a, T>,
    ) -> Answer<'a, T> {
        Box::pin(async move { self.limiter.charged(method, ctx, answer).await })
    }

    /// The same for a request that may take several rounds.
    fn charged_round<'a>(
        &'a self,
        method: Method,
        ctx: &'a CallContext,
        name: Option<u128>,
        answer: Answer<'a, Reply>,
    ) -> Answer<'a, Reply> {
        Box::pin(async move { self.limiter.charged_round(method, ctx, name, answer).await })
    }
}

impl Limiter {
    /// Makes a request of a method within its limits. What certainly did not reach a backend costs nothing.
    ///
    /// # Errors
    /// As a call of a tool; and whatever the request fails with.
    pub async fn charged<'a, T>(
        &'a self,
        method: Method,
        ctx: &'a CallContext,
        answer: Answer<'a, T>,
    ) -> Result<T, Error> {
        // What the gateway asks on its own account, no client has asked for.
        let Some(bound) = self.asked_method(method, ctx) else { return answer.await };
        let bound = self.vary_call(bound, ctx, None, true)?;
        let permit = self.admit(&bound, ctx).await?;
        let outcome = answer.await;
        if let Err(error) = &outcome {
            self.refund_unread(permit, error).await;
        }
        outcome
    }

    /// Gives back what a request has paid, if its error says that it costs nothing.
    async fn refund_unread(&self, permit: Permit<'_>, error: &Error) {
        if let Some(reason) = self.refunds(error) {
            permit.refund(reason).await;
        }
    }

    fn asked_method(&self, method: Method, ctx: &CallContext) -> Option<&Arc<Bound>> {
        self.bound_method(method).filter(|_| ctx.origin != Origin::Gateway)
    }

    /// Takes our part of the state off a continuation, where the method is limited.
    fn paid_name(&self, method: Method, ctx: &CallContext, continuation: &mut Continuation) -> Option<u128> {
        self.asked_method(method, ctx).and_then(|_| paid_name(continuation))
    }

    /// The same as [`Limiter::charged`] for a request that may take several rounds, of which the first pays. Bounds on calls in
    /// flight hold for each round.
    async fn charged_round<'a>(
        self: &'a Arc<Self>,
        method: Method,
        ctx: &'a CallContext,
        name: Option<u128>,
        answer: Answer<'a, Reply>,
    ) -> Result<Reply, Error> {
        let Some(bound) = self.asked_method(method, ctx) else { return answer.await };
        let bound = self.vary_call(bound, ctx, None, true)?;
        if let Some(round) = self.resume(name, &bound, ctx)
            && let Some(prepaid) = round.take(&bound, ctx)
        {
            let unpaid = bound.without_buckets();
            let _places = self.admit(&unpaid, ctx).await?;
            let spent = prepaid.spend();
            let mut outcome = answer.await;
            match &mut outcome {
                Ok(reply) if reply.stage == Stage::InputRequired => {
                    if let Some(paid) = spent.round() {
                        self.suspend_paid(reply, paid);
                    }
                }
                Err(error) if self.refunds(error).is_some() => spent.undo(),
                Ok(_) | Err(_) => {}
            }
            return outcome;
        }
        let permit = self.admit(&bound, ctx).await?;
        let mut outcome = answer.await;
        match &mut outcome {
            Ok(reply) => self.suspend(reply, ctx, &bound, &permit),
            Err(error) => self.refund_unread(permit, error).await,
        }
        outcome
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for MethodsRateLimited {
    fn list_tools<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Arc<ToolList>> {
        self.charged(Method::ListTools, ctx, self.inner.list_tools(ctx))
    }

    fn list_resources<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Arc<ResourceList>> {
        self.charged(Method::ListResources, ctx, self.inner.list_resources(ctx))
    }

    fn list_resource_templates<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Arc<TemplateList>> {
        self.charged(Method::ListTemplates, ctx, self.inner.list_resource_templates(ctx))
    }

    fn read_resource<'a>(&'a self, ctx: &'a CallContext, mut request: ReadResource) -> Answer<'a, Reply> {
        let name = self.limiter.paid_name(Method::ReadResource, ctx, &mut request.continuation);
        self.charged_round(Method::ReadResource, ctx, name, self.inner.read_resource(ctx, request))
    }

    fn list_prompts<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Arc<PromptList>> {
        self.charged(Method::ListPrompts, ctx, self.inner.list_prompts(ctx))
    }

    fn get_prompt<'a>(&'a self, ctx: &'a CallContext, mut request: GetPrompt) -> Answer<'a, Reply> {
        let name = self.limiter.paid_name(Method::GetPrompt, ctx, &mut request.continuation);
        self.charged_round(Method::GetPrompt, ctx, name, self.inner.get_prompt(ctx, request))
    }

    fn complete<'a>(&'a self, ctx: &'a CallContext, request: Complete) -> Answer<'a, Reply> {
        self.charged(Method::Complete, ctx, self.inner.complete(ctx, request))
    }

    forward!(call_tool, task);
}

#[cfg(test)]
mod tests;
