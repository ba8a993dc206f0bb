//! The decorator for what clients ask besides calls of tools. It stands outside every layer that asks for lists on its own
//! account, so that it counts what clients ask and nothing else.

use std::sync::Arc;

use vmcp_domain::{
    Answer, CallContext, Complete, Error, Gateway, GetPrompt, Origin, PromptList, ReadResource, Reply,
    ResourceList, SharedGateway, TemplateList, ToolList, forward,
};

use crate::limiter::Limiter;
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
        let asked = self.bound_method(method).filter(|_| ctx.origin != Origin::Gateway);
        let Some(bound) = asked else { return answer.await };
        let bound = self.vary_call(bound, ctx, None)?;
        let permit = self.admit(&bound, ctx).await?;
        let outcome = answer.await;
        if let Some(reason) = outcome.as_ref().err().and_then(|error| self.refunds(error)) {
            permit.refund(reason).await;
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

    fn read_resource<'a>(&'a self, ctx: &'a CallContext, request: ReadResource) -> Answer<'a, Reply> {
        self.charged(Method::ReadResource, ctx, self.inner.read_resource(ctx, request))
    }

    fn list_prompts<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Arc<PromptList>> {
        self.charged(Method::ListPrompts, ctx, self.inner.list_prompts(ctx))
    }

    fn get_prompt<'a>(&'a self, ctx: &'a CallContext, request: GetPrompt) -> Answer<'a, Reply> {
        self.charged(Method::GetPrompt, ctx, self.inner.get_prompt(ctx, request))
    }

    fn complete<'a>(&'a self, ctx: &'a CallContext, request: Complete) -> Answer<'a, Reply> {
        self.charged(Method::Complete, ctx, self.inner.complete(ctx, request))
    }

    forward!(call_tool, task);
}

#[cfg(test)]
mod tests;
