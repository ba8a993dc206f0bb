//! The decorator that limits requests other than tool calls. It is outside every layer that requests lists
//! for its own use, so that it counts only what clients request.

use std::sync::Arc;

use vmcp_domain::{
    CallContext, CallOrigin, Complete, Continuation, Error, Gateway, GatewayFuture, GetPrompt, PromptList,
    ReadResource, Reply, ResourceList, ResultType, SharedGateway, TemplateList, ToolList, forward,
};

use crate::limiter::{Limiter, Permit, ToolPlan, take_round_id};
use crate::plan::policy::Method;

/// The layer that limits lists, reads, prompts and completions.
pub struct MethodsRateLimited {
    inner: SharedGateway,
    limiter: Arc<Limiter>,
}

impl MethodsRateLimited {
    /// Wraps `inner` in the layer. Without limits on methods `inner` is returned as it is.
    #[must_use]
    pub fn wrap(inner: SharedGateway, limiter: Arc<Limiter>) -> SharedGateway {
        if limiter.has_method_limits() { Arc::new(Self { inner, limiter }) } else { inner }
    }

    fn call_limited<'a, T: Send + 'a>(
        &'a self,
        method: Method,
        ctx: &'a CallContext,
        future: GatewayFuture<'a, T>,
    ) -> GatewayFuture<'a, T> {
        Box::pin(async move { self.limiter.call_limited(method, ctx, future).await })
    }

    /// The same for a request that a backend works on, and that may take several rounds.
    fn call_limited_round<'a>(
        &'a self,
        ctx: &'a CallContext,
        mut request: MethodRequest,
    ) -> GatewayFuture<'a, Reply> {
        let method = request.method();
        let continuation = request.continuation();
        let name = continuation
            .and_then(|continuation| self.limiter.take_method_round_id(method, ctx, continuation));
        Box::pin(async move {
            let Some(tool_plan) = self.limiter.client_method_plan(method, ctx) else {
                return request.send(&self.inner, ctx).await;
            };
            self.limiter.call_limited_round((tool_plan, name), ctx, (&self.inner, request)).await
        })
    }
}

/// A request that a backend works on.
enum MethodRequest {
    Read(ReadResource),
    Prompt(GetPrompt),
    Complete(Complete),
}

impl MethodRequest {
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

    fn send<'a>(self, inner: &'a SharedGateway, ctx: &'a CallContext) -> GatewayFuture<'a, Reply> {
        match self {
            Self::Read(request) => inner.read_resource(ctx, request),
            Self::Prompt(request) => inner.get_prompt(ctx, request),
            Self::Complete(request) => inner.complete(ctx, request),
        }
    }
}

impl Limiter {
    /// Makes a request of a method within its limits. A request that certainly did not reach a backend is
    /// refunded.
    ///
    /// # Errors
    /// The errors of a refused call, as of a tool call: [`Error::RateLimited`], [`Error::IdentityRequired`],
    /// [`Error::LimitsUnavailable`], [`Error::Overloaded`] and [`Error::InvalidRequest`]; and every error of
    /// the request itself.
    pub async fn call_limited<'a, T>(
        &'a self,
        method: Method,
        ctx: &'a CallContext,
        future: GatewayFuture<'a, T>,
    ) -> Result<T, Error> {
        // Requests that the gateway makes for its own use are not limited.
        let Some(tool_plan) = self.client_method_plan(method, ctx) else { return future.await };
        let tool_plan = self.plan_call(tool_plan, ctx, None, true)?;
        let permit = self.admit(&tool_plan, ctx).await?;
        let outcome = future.await;
        if let Err(error) = &outcome {
            self.refund_if_unread(permit, error).await;
        }
        outcome
    }

    /// Refunds what a request has paid, if its error says that no backend read it.
    async fn refund_if_unread(&self, permit: Permit<'_>, error: &Error) {
        if let Some(reason) = self.refund_reason(error) {
            permit.refund(reason).await;
        }
    }

    fn client_method_plan(&self, method: Method, ctx: &CallContext) -> Option<&Arc<ToolPlan>> {
        self.method_plan(method).filter(|_| ctx.origin != CallOrigin::Gateway)
    }

    /// Removes this gateway's part of the state from a continuation, where the method is limited.
    fn take_method_round_id(
        &self,
        method: Method,
        ctx: &CallContext,
        continuation: &mut Continuation,
    ) -> Option<u128> {
        self.client_method_plan(method, ctx).and_then(|_| take_round_id(continuation))
    }

    /// The same as [`Limiter::call_limited`] for a request that may take several rounds, of which the first
    /// pays. Limits on calls in flight apply to each round, for as long as the backend may be working on it.
    async fn call_limited_round(
        self: &Arc<Self>,
        (tool_plan, name): (&Arc<ToolPlan>, Option<u128>),
        ctx: &CallContext,
        (inner, request): (&SharedGateway, MethodRequest),
    ) -> Result<Reply, Error> {
        let tool_plan = self.plan_call(tool_plan, ctx, None, true)?;
        if let Some(round) = self.resume_round(name, &tool_plan, ctx)
            && let Some(prepaid) = round.take_call(&tool_plan, ctx)
        {
            let slots_only = Arc::new(tool_plan.without_buckets());
            let mut permit = self.admit(&slots_only, ctx).await?;
            let spent = prepaid.spend();
            let holding = permit.hold_slots(self, &slots_only, ctx);
            let mut outcome = request.send(inner, holding.as_ref().unwrap_or(ctx)).await;
            match &mut outcome {
                Ok(reply) if reply.result_type == ResultType::InputRequired => {
                    if let Some(paid) = spent.paid_round() {
                        self.suspend_paid_round(reply, paid);
                    }
                }
                Err(error) if self.refund_reason(error).is_some() => spent.return_call(),
                Ok(_) | Err(_) => {}
            }
            return outcome;
        }
        let mut permit = self.admit(&tool_plan, ctx).await?;
        let holding = permit.hold_slots(self, &tool_plan, ctx);
        let mut outcome = request.send(inner, holding.as_ref().unwrap_or(ctx)).await;
        match &mut outcome {
            Ok(reply) => self.suspend_round(reply, ctx, &tool_plan, &permit),
            Err(error) => self.refund_if_unread(permit, error).await,
        }
        outcome
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for MethodsRateLimited {
    fn list_tools<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ToolList>> {
        self.call_limited(Method::ListTools, ctx, self.inner.list_tools(ctx))
    }

    fn list_resources<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ResourceList>> {
        self.call_limited(Method::ListResources, ctx, self.inner.list_resources(ctx))
    }

    fn list_resource_templates<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<TemplateList>> {
        self.call_limited(Method::ListTemplates, ctx, self.inner.list_resource_templates(ctx))
    }

    fn read_resource<'a>(&'a self, ctx: &'a CallContext, request: ReadResource) -> GatewayFuture<'a, Reply> {
        self.call_limited_round(ctx, MethodRequest::Read(request))
    }

    fn list_prompts<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<PromptList>> {
        self.call_limited(Method::ListPrompts, ctx, self.inner.list_prompts(ctx))
    }

    fn get_prompt<'a>(&'a self, ctx: &'a CallContext, request: GetPrompt) -> GatewayFuture<'a, Reply> {
        self.call_limited_round(ctx, MethodRequest::Prompt(request))
    }

    fn complete<'a>(&'a self, ctx: &'a CallContext, request: Complete) -> GatewayFuture<'a, Reply> {
        self.call_limited_round(ctx, MethodRequest::Complete(request))
    }

    forward!(call_tool, task);
}

#[cfg(test)]
mod tests;
