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

    /// The same for a request that a backend works on, and that may take several rounds.
    fn charged_round<'a>(&'a self, ctx: &'a CallContext, mut request: Request) -> Answer<'a, Reply> {
        let method = request.method();
        let continuation = request.continuation();
        let name = continuation.and_then(|continuation| self.limiter.paid_name(method, ctx, continuation));
        Box::pin(async move {
            let Some(bound) = self.limiter.asked_method(method, ctx) else {
                return request.ask(&self.inner, ctx).await;
            };
            self.limiter.charged_round((bound, name), ctx, (&self.inner, request)).await
        })
    }
}

/// What a backend works on.
enum Request {
    Read(ReadResource),
    Prompt(GetPrompt),
    Complete(Complete),
}

impl Request {
    fn method(&self) -> Method {
        match self {
            Self::Read(_) => Method::ReadResource,
            Self::Prompt(_) => Method::GetPrompt,
            Self::Complete(_) => Method::Complete,
        }
    }

    fn continuation(&mut self) -> Option<&mut Continuation> {
        match self {
            Self::Read(request) => Some(&mut request.continuation),
            Self::Prompt(request) => Some(&mut request.continuation),
            Self::Complete(_) => None,
        }
    }

    fn ask<'a>(self, inner: &'a SharedGateway, ctx: &'a CallContext) -> Answer<'a, Reply> {
        match self {
            Self::Read(request) => inner.read_resource(ctx, request),
            Self::Prompt(request) => inner.get_prompt(ctx, request),
            Self::Complete(request) => inner.complete(ctx, request),
        }
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
    /// flight hold for each round, and for as long as the backend may be working on it.
    async fn charged_round(
        self: &Arc<Self>,
        (bound, name): (&Arc<Bound>, Option<u128>),
        ctx: &CallContext,
        (inner, request): (&SharedGateway, Request),
    ) -> Result<Reply, Error> {
        let bound = self.vary_call(bound, ctx, None, true)?;
        if let Some(round) = self.resume(name, &bound, ctx)
            && let Some(prepaid) = round.take(&bound, ctx)
        {
            let unpaid = Arc::new(bound.without_buckets());
            let mut permit = self.admit(&unpaid, ctx).await?;
            let spent = prepaid.spend();
            let holding = permit.hold(self, &unpaid, ctx);
            let mut outcome = request.ask(inner, holding.as_ref().unwrap_or(ctx)).await;
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
        let mut permit = self.admit(&bound, ctx).await?;
        let holding = permit.hold(self, &bound, ctx);
        let mut outcome = request.ask(inner, holding.as_ref().unwrap_or(ctx)).await;
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

    fn read_resource<'a>(&'a self, ctx: &'a CallContext, request: ReadResource) -> Answer<'a, Reply> {
        self.charged_round(ctx, Request::Read(request))
    }

    fn list_prompts<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Arc<PromptList>> {
        self.charged(Method::ListPrompts, ctx, self.inner.list_prompts(ctx))
    }

    fn get_prompt<'a>(&'a self, ctx: &'a CallContext, request: GetPrompt) -> Answer<'a, Reply> {
        self.charged_round(ctx, Request::Prompt(request))
    }

    fn complete<'a>(&'a self, ctx: &'a CallContext, request: Complete) -> Answer<'a, Reply> {
        self.charged_round(ctx, Request::Complete(request))
    }

    forward!(call_tool, task);
}

#[cfg(test)]
mod tests;
