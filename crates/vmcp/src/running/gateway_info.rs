//! Implements `GatewayInfo`, which the edges need in addition to the stack: the gateway's capabilities, and
//! the changes that a caller may be notified of. Both are limited to what the policies let the caller see.
//! These requests pass through no layer of the stack, so rate limits and policies are applied here.

use std::sync::{Arc, Weak};

use vmcp_authz::{AccessRequest, AuthzPolicy, is_uri_offered};
use vmcp_domain::{
    CallContext, Caller, ChangeListener, Error, GatewayFuture, GatewayInfo, Overview, ResourceUri,
    SharedGateway, SubscriptionGuard,
};
use vmcp_federation::{CatalogueItem, Federation};
use vmcp_ratelimit::Limiter;
use vmcp_ratelimit::policy::Method;

/// The federation's capabilities and change notifications, filtered by the policies for each caller.
pub(crate) struct AuthorizedInfo {
    pub(crate) federation: Federation,
    /// The part of the stack that lists what each caller may use.
    pub(crate) authorized: SharedGateway,
    pub(crate) authz: Option<Arc<AuthzPolicy>>,
    pub(crate) limiter: Option<Arc<Limiter>>,
}

impl AuthorizedInfo {
    /// Applies the limits of `method` to `request`, because these requests pass through no layer of the stack.
    fn rate_limited<'a, T: Send + 'a>(
        &'a self,
        method: Method,
        ctx: &'a CallContext,
        request: GatewayFuture<'a, T>,
    ) -> GatewayFuture<'a, T> {
        match &self.limiter {
            Some(limiter) => Box::pin(limiter.call_limited(method, ctx, request)),
            None => request,
        }
    }

    /// Returns whether something that the caller may see leads to `uri`. Uses the same rules as the policy
    /// layer uses for `resources/read`.
    async fn is_uri_offered(&self, ctx: &CallContext, uri: &ResourceUri) -> Result<bool, Error> {
        let Some(policy) = &self.authz else { return Ok(true) };
        let principal = policy.resolve_principal(&ctx.caller);
        let is_permitted =
            |uri: &str| policy.decide_for(&principal, &AccessRequest::ReadResource { uri }).allowed;
        is_uri_offered(&*self.authorized, ctx, uri, is_permitted).await
    }
}

impl GatewayInfo for AuthorizedInfo {
    fn overview(&self, caller: &Caller) -> Overview {
        let Some(policy) = &self.authz else { return self.federation.overview_for(None) };
        let principal = policy.resolve_principal(caller);
        let is_permitted = |item: CatalogueItem<'_>| {
            let access = match item {
                CatalogueItem::Tool(tool) => AccessRequest::list_tool(tool),
                CatalogueItem::Resource(resource) => {
                    AccessRequest::ReadResource { uri: resource.uri.as_str() }
                }
                CatalogueItem::Template(offered) => {
                    AccessRequest::ReadResource { uri: offered.template.as_str() }
                }
                CatalogueItem::Prompt(prompt) => AccessRequest::get_prompt(prompt),
            };
            policy.decide_for(&principal, &access).allowed
        };
        self.federation.overview_for(Some(&is_permitted))
    }

    fn has_complete_lists(&self) -> bool {
        self.federation.has_complete_lists()
    }

    fn add_listener(&self, listener: Weak<dyn ChangeListener>) {
        self.federation.add_listener(listener);
    }

    fn admit_listen<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, ()> {
        self.rate_limited(Method::Listen, ctx, self.federation.admit_listen(ctx))
    }

    fn subscribe<'a>(
        &'a self,
        ctx: &'a CallContext,
        uri: ResourceUri,
    ) -> GatewayFuture<'a, SubscriptionGuard> {
        let following = Box::pin(async move {
            if !self.is_uri_offered(ctx, &uri).await? {
                return Err(Error::UnknownResource(uri));
            }
            self.federation.subscribe(ctx, uri).await
        });
        self.rate_limited(Method::Subscribe, ctx, following)
    }

    fn can_subscribe(&self, caller: &Caller, uri: &ResourceUri) -> bool {
        let Some(policy) = &self.authz else { return true };
        let principal = policy.resolve_principal(caller);
        let decide_read = |uri: &str| policy.decide_for(&principal, &AccessRequest::ReadResource { uri });
        decide_read(uri.as_str()).allowed && !uri.interpretations().any(|uri| decide_read(&uri).forbids())
    }
}
