//! The decorator that offers the resource `vmcp://limits`: it shows each caller what is left of the limits on
//! the tools that the caller may use. It directly wraps the layers that narrow the list of tools.

use std::sync::Arc;

use vmcp_domain::{
    CallContext, DerivedCache, Gateway, GatewayFuture, ReadResource, Reply, Resource, ResourceList,
    SharedGateway, forward,
};
use vmcp_json::{Json, Members};

use crate::limiter::Limiter;

/// The URI of the resource.
const URI: &str = "vmcp://limits";

/// The layer that offers the resource.
pub struct LimitsResource {
    inner: SharedGateway,
    limiter: Arc<Limiter>,
    resource: Resource,
    extended_lists: DerivedCache<ResourceList, ResourceList>,
}

impl LimitsResource {
    /// Wraps `inner` in the layer. Where the policy does not ask for the resource, `inner` is returned as it
    /// is.
    #[must_use]
    pub fn wrap(inner: SharedGateway, limiter: Arc<Limiter>) -> SharedGateway {
        if !limiter.has_limits_resource() {
            return inner;
        }
        let mut definition = Members::new();
        for (name, text) in [
            ("uri", URI),
            ("name", "limits"),
            ("title", "Rate limits"),
            ("description", "Remaining rate limits of the tools that you may call"),
            ("mimeType", "application/json"),
        ] {
            definition.insert(name, Json::string(text));
        }
        let own = Resource { uri: URI.into(), backend: "".into(), definition: Arc::new(definition) };
        Arc::new(Self { inner, limiter, resource: own, extended_lists: DerivedCache::default() })
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for LimitsResource {
    fn list_resources<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ResourceList>> {
        Box::pin(async move {
            let list = self.inner.list_resources(ctx).await?;
            Ok(self
                .extended_lists
                .get_or_derive(&list, || list.iter().chain([&self.resource]).cloned().collect()))
        })
    }

    fn read_resource<'a>(&'a self, ctx: &'a CallContext, request: ReadResource) -> GatewayFuture<'a, Reply> {
        if request.uri.as_str() != URI {
            return self.inner.read_resource(ctx, request);
        }
        Box::pin(async move {
            let tools = self.inner.list_tools(ctx).await?;
            let summary = self.limiter.limits_summary(&tools, ctx).await?;
            let mut contents = Members::new();
            contents.insert("uri", Json::string(URI));
            contents.insert("mimeType", Json::string("application/json"));
            contents.insert("text", Json::string(summary.as_str()));
            let mut members = Members::new();
            members.insert("contents", Json::array(&[contents.to_json()]));
            Ok(Reply::complete(members))
        })
    }

    forward!(list_tools, call_tool, list_resource_templates, list_prompts, get_prompt, complete, task);
}

#[cfg(test)]
mod tests;
