//! The layer that hides the tools that the operator does not advertise, and refuses calls to them. Layers
//! below it still see hidden tools, so that an operator's own workflows can use them.

use std::sync::Arc;

use ahash::AHashSet;
use vmcp_domain::{
    CallContext, CallTool, DerivedCache, Error, Gateway, GatewayFuture, Reply, SharedGateway, TaskRequest,
    Tool, ToolList, ToolName, forward,
};

use crate::policy::AggregationPolicy;

/// A gateway layer that removes hidden tools from the list and refuses calls to them and to their tasks.
pub struct Exposed {
    inner: SharedGateway,
    policy: Arc<AggregationPolicy>,
    visible_tools: DerivedCache<ToolList, VisibleTools>,
}

/// The visible tools of one tool list.
struct VisibleTools {
    /// The visible tools. `None` when the whole list is visible, so that the list is not copied.
    tools: Option<Arc<ToolList>>,
    names: AHashSet<ToolName>,
}

impl Exposed {
    /// Wraps `inner` in this layer, with the visibility rules of `policy`.
    #[must_use]
    pub fn wrap(inner: SharedGateway, policy: Arc<AggregationPolicy>) -> SharedGateway {
        Arc::new(Self { inner, policy, visible_tools: DerivedCache::default() })
    }

    /// Applies `inspect` to the caller's whole tool list and to its visible part, which is cached for each list.
    async fn with_visible<T>(
        &self,
        ctx: &CallContext,
        inspect: impl FnOnce(&Arc<ToolList>, &VisibleTools) -> T,
    ) -> Result<T, Error> {
        let whole = self.inner.list_tools(ctx).await?;
        Ok(self.visible_tools.with(&whole, || self.filter_visible(&whole), |view| inspect(&whole, view)))
    }

    async fn is_visible(&self, ctx: &CallContext, name: &ToolName) -> Result<bool, Error> {
        self.with_visible(ctx, |_, view| view.names.contains(name)).await
    }

    /// Whether a tool of this name exists in the whole list but is not visible.
    async fn is_hidden(&self, ctx: &CallContext, name: &ToolName) -> Result<bool, Error> {
        let hides = |whole: &Arc<ToolList>, view: &VisibleTools| {
            !view.names.contains(name) && view.tools.is_some() && whole.iter().any(|tool| tool.name == *name)
        };
        self.with_visible(ctx, hides).await
    }

    fn filter_visible(&self, whole: &ToolList) -> VisibleTools {
        // The operator wrote a virtual tool to be called. The settings hide tools of backends.
        let shows = |tool: &&Tool| {
            let target = &tool.target;
            target.is_virtual()
                || self
                    .policy
                    .is_visible(&target.backend, &self.policy.unprefixed_name(&target.backend, &target.name))
        };
        let hides_any = !whole.iter().all(|tool| shows(&tool));
        let shown: Option<Arc<ToolList>> =
            hides_any.then(|| Arc::new(whole.iter().filter(shows).cloned().collect()));
        let names = shown
            .as_deref()
            .unwrap_or(whole)
            .iter()
            .map(|tool: &vmcp_domain::Tool| tool.name.clone())
            .collect();
        VisibleTools { tools: shown, names }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for Exposed {
    fn list_tools<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ToolList>> {
        Box::pin(self.with_visible(ctx, |whole, view| Arc::clone(view.tools.as_ref().unwrap_or(whole))))
    }

    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            // `inner` handles a name that is not in the list, because it can report that the tool's backend
            // is unavailable.
            if self.is_hidden(ctx, &request.name).await? {
                return Err(Error::UnknownTool(request.name));
            }
            self.inner.call_tool(ctx, request).await
        })
    }

    fn task<'a>(&'a self, ctx: &'a CallContext, request: TaskRequest) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            if !self.is_visible(ctx, &request.handle.tool).await? {
                return Err(Error::UnknownTask);
            }
            self.inner.task(ctx, request).await
        })
    }

    forward!(list_resources, list_resource_templates, read_resource, list_prompts, get_prompt, complete);
}

#[cfg(test)]
mod tests;
