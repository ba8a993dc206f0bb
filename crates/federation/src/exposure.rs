//! What clients may see of the tools: hides and refuses what the operator did not advertise.
//! Below this layer hidden tools exist, so that an operator's own workflows can use them; above it they do not.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use vmcp_domain::{
    Answer, CallContext, CallTool, Error, Gateway, Reply, SharedGateway, ToolList, ToolName, forward,
};

use crate::policy::AggregationPolicy;

/// The layer that hides tools.
pub struct Exposed {
    inner: SharedGateway,
    policy: Arc<AggregationPolicy>,
    view: ArcSwapOption<View>,
}

/// The visible part of one list. Kept as long as the list below stays the same `Arc`.
struct View {
    whole: Arc<ToolList>,
    shown: Arc<ToolList>,
    names: HashSet<ToolName>,
}

impl Exposed {
    /// Puts the layer around `inner`.
    #[must_use]
    pub fn wrap(inner: SharedGateway, policy: Arc<AggregationPolicy>) -> SharedGateway {
        Arc::new(Self { inner, policy, view: ArcSwapOption::empty() })
    }

    async fn view(&self, ctx: &CallContext) -> Result<Arc<View>, Error> {
        let whole = self.inner.list_tools(ctx).await?;
        if let Some(view) = self.view.load_full().filter(|view| Arc::ptr_eq(&view.whole, &whole)) {
            return Ok(view);
        }
        let shows = |backend, tool| self.policy.shows(backend, &self.policy.own_name(backend, tool));
        let hides_any = whole.iter().any(|tool| !shows(&tool.target.backend, &tool.target.name));
        let shown = if hides_any {
            Arc::new(
                whole.iter().filter(|tool| shows(&tool.target.backend, &tool.target.name)).cloned().collect(),
            )
        } else {
            whole.clone()
        };
        let names = shown.iter().map(|tool: &vmcp_domain::Tool| tool.name.clone()).collect();
        let view = Arc::new(View { whole, shown, names });
        self.view.store(Some(view.clone()));
        Ok(view)
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for Exposed {
    fn list_tools<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Arc<ToolList>> {
        Box::pin(async move { Ok(self.view(ctx).await?.shown.clone()) })
    }

    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> Answer<'a, Reply> {
        Box::pin(async move {
            if !self.view(ctx).await?.names.contains(&request.name) {
                return Err(Error::UnknownTool(request.name));
            }
            self.inner.call_tool(ctx, request).await
        })
    }

    forward!(list_resources, list_resource_templates, read_resource, list_prompts, get_prompt, complete);
}

#[cfg(test)]
mod tests;
