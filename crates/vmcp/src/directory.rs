//! What the edges need besides the stack: what the gateway offers, and which changes a caller is told of, within what the
//! policies let the caller know. These requests pass no layer, so they are limited and judged here.

use std::sync::{Arc, Weak};

use vmcp_authz::{Ask, AuthzPolicy, leads_to};
use vmcp_domain::{
    Answer, CallContext, Caller, ChangeListener, Directory, Error, Following, Overview, ResourceUri,
    SharedGateway,
};
use vmcp_federation::{Federation, Item};
use vmcp_ratelimit::Limiter;
use vmcp_ratelimit::policy::Method;

/// What the edges are told of the whole: the federation's offer, within what the policies let a caller know.
pub(crate) struct Served {
    pub(crate) federation: Federation,
    /// What each caller may use.
    pub(crate) offer: SharedGateway,
    pub(crate) authz: Option<Arc<AuthzPolicy>>,
    pub(crate) limiter: Option<Arc<Limiter>>,
}

impl Served {
    /// These requests pass no layer, so they meet their limits here.
    fn within_limits<'a, T: Send + 'a>(
        &'a self,
        method: Method,
        ctx: &'a CallContext,
        answer: Answer<'a, T>,
    ) -> Answer<'a, T> {
        match &self.limiter {
            Some(limiter) => Box::pin(limiter.charged(method, ctx, answer)),
            None => answer,
        }
    }

    /// Whether something that the caller sees leads to an address, as the layer of policies has it for reads.
    async fn offers(&self, ctx: &CallContext, uri: &ResourceUri) -> Result<bool, Error> {
        let Some(policy) = &self.authz else { return Ok(true) };
        let asker = policy.recognise(&ctx.caller);
        let permits = |uri: &str| policy.decide_for(&asker, &Ask::ReadResource { uri }).allowed;
        leads_to(&*self.offer, ctx, uri, permits).await
    }
}

impl Directory for Served {
    fn overview(&self, caller: &Caller) -> Overview {
        let Some(policy) = &self.authz else { return self.federation.overview_of(None) };
        let asker = policy.recognise(caller);
        let permits = |item: Item<'_>| {
            let ask = match item {
                Item::Tool(tool) => Ask::CallTool {
                    name: tool.name.as_str(),
                    backend: Some(tool.target.backend.as_str()),
                    hints: Some(&tool.hints),
                    arguments: None,
                },
                Item::Resource(resource) => Ask::ReadResource { uri: resource.uri.as_str() },
                Item::Template(offered) => Ask::ReadResource { uri: offered.template.as_str() },
                Item::Prompt(prompt) => Ask::GetPrompt { name: prompt.name.as_str() },
            };
            policy.decide_for(&asker, &ask).allowed
        };
        self.federation.overview_of(Some(&permits))
    }

    fn watch(&self, listener: Weak<dyn ChangeListener>) {
        self.federation.watch(listener);
    }

    fn may_listen<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, ()> {
        self.within_limits(Method::Listen, ctx, self.federation.may_listen(ctx))
    }

    fn follow<'a>(&'a self, ctx: &'a CallContext, uri: ResourceUri) -> Answer<'a, Following> {
        let following = Box::pin(async move {
            if !self.offers(ctx, &uri).await? {
                return Err(Error::UnknownResource(uri));
            }
            self.federation.follow(ctx, uri).await
        });
        self.within_limits(Method::Subscribe, ctx, following)
    }

    fn may_watch(&self, caller: &Caller, uri: &ResourceUri) -> bool {
        let Some(policy) = &self.authz else { return true };
        let asker = policy.recognise(caller);
        let decide = |uri: &str| policy.decide_for(&asker, &Ask::ReadResource { uri });
        decide(uri.as_str()).allowed && !uri.readings().any(|uri| decide(&uri).forbids())
    }
}
