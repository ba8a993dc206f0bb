//! What clients may see of the tools: hides and refuses what the operator did not advertise.
//! Below this layer hidden tools exist, so that an operator's own workflows can use them; above it they do not.

use std::sync::Arc;

use ahash::AHashSet;
use vmcp_domain::{
    Answer, CallContext, CallTool, Error, Gateway, PerList, Reply, SharedGateway, TaskRequest, ToolList,
    ToolName, forward,
};

use crate::policy::AggregationPolicy;

/// The layer that hides tools.
pub struct Exposed {
    inner: SharedGateway,
    policy: Arc<AggregationPolicy>,
    views: PerList<ToolList, View>,
}

/// The visible part of one list.
struct View {
    /// `None` when that is the whole.
    shown: Option<Arc<ToolList>>,
    names: AHashSet<ToolName>,
}

impl Exposed {
    /// Puts the layer around `inner`.
    #[must_use]
    pub fn wrap(inner: SharedGateway, policy: Arc<AggregationPolicy>) -> SharedGateway {
        Arc::new(Self { inner, policy, views: PerList::default() })
    }

    /// Looks at what is visible of the list.
    async fn view<T>(
        &self,
        ctx: &CallContext,
        look: impl FnOnce(&Arc<ToolList>, &View) -> T,
    ) -> Result<T, Error> {
        let whole = self.inner.list_tools(ctx).await?;
        Ok(self.views.with(&whole, || self.look(&whole), |view| look(&whole, view)))
    }

    async fn shows(&self, ctx: &CallContext, name: &ToolName) -> Result<bool, Error> {
        self.view(ctx, |_, view| view.names.contains(name)).await
    }

    /// Whether a tool exists that is not shown.
    async fn hides(&self, ctx: &CallContext, name: &ToolName) -> Result<bool, Error> {
        let hides = |whole: &Arc<ToolList>, view: &View| {
            !view.names.contains(name) && view.shown.is_some() && whole.iter().any(|tool| tool.name == *name)
        };
        self.view(ctx, hides).await
    }

    fn look(&self, whole: &ToolList) -> View {
        let shows = |backend, tool| self.policy.shows(backend, &self.policy.own_name(backend, tool));
        let hides_any = whole.iter().any(|tool| !shows(&tool.target.backend, &tool.target.name));
        let shown: Option<Arc<ToolList>> = hides_any.then(|| {
            let shown = whole.iter().filter(|tool| shows(&tool.target.backend, &tool.target.name));
            Arc::new(shown.cloned().collect())
        });
        let names = shown
            .as_deref()
            .unwrap_or(whole)
            .iter()
            .map(|tool: &vmcp_domain::Tool| tool.name.clone())
            .collect();
        View { shown, names }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for Exposed {
    fn list_tools<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Arc<ToolList>> {
        Box::pin(self.view(ctx, |whole, view| Arc::clone(view.shown.as_ref().unwrap_or(whole))))
    }

    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> Answer<'a, Reply> {
        Box::pin(async move {
            // What does not exist at all is for the inside to explain: its backend may be away.
            if self.hides(ctx, &request.name).await? {
                return Err(Error::UnknownTool(request.name));
            }
            self.inner.call_tool(ctx, request).await
        })
    }

    fn task<'a>(&'a self, ctx: &'a CallContext, request: TaskRequest) -> Answer<'a, Reply> {
        Box::pin(async move {
            if !self.shows(ctx, &request.handle.tool).await? {
                return Err(Error::UnknownTask);
            }
            self.inner.task(ctx, request).await
        })
    }

    forward!(list_resources, list_resource_templates, read_resource, list_prompts, get_prompt, complete);
}

#[cfg(test)]
mod tests;
