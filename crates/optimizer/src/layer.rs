//! The gateway decorator: lists the two virtual tools and the pinned tools, and forwards everything else.
//!
//! Tools that are not listed can still be called by their names, by every caller who could call them without
//! this layer.

pub(crate) mod arguments;
pub(crate) mod availability_order;
pub(crate) mod find_result;
mod find_text;
mod signature;
pub(crate) mod virtual_tools;

use std::sync::Arc;
use std::time::Instant;

use vmcp_domain::{
    CallContext, CallOrigin, CallTool, Cause, DerivedCache, Error, Gateway, GatewayFuture, Reply,
    SharedGateway, StartupWait, ToolList, VirtualNames, forward,
};
use vmcp_wire::error_response::unknown_tool;
use vmcp_wire::tool_result;

use crate::layer::arguments::UsageError;
use crate::observer::{CallEvent, CallOutcome, FindEvent};
use crate::optimizer::{Optimizer, is_script_tool};
use crate::search::suggest;

/// Maximum length of an unknown tool name that is repeated in an error, in bytes.
const ECHOED_NAME_BYTES_MAX: usize = 200;

/// The decorator that offers the virtual tools.
pub struct Optimized {
    inner: SharedGateway,
    optimizer: Arc<Optimizer>,
    /// The advertised list for each list of the inner gateway.
    advertised_lists: DerivedCache<ToolList, ToolList>,
}

impl Optimized {
    /// Wraps `inner` in the optimizer.
    #[must_use]
    pub fn wrap(inner: SharedGateway, optimizer: Arc<Optimizer>) -> SharedGateway {
        Arc::new(Self { inner, optimizer, advertised_lists: DerivedCache::default() })
    }

    fn advertised_tools(&self, list: &Arc<ToolList>) -> Arc<ToolList> {
        self.advertised_lists.get_or_derive(list, || self.build_advertised_tools(list))
    }

    fn build_advertised_tools(&self, list: &ToolList) -> ToolList {
        let policy = &self.optimizer.policy;
        let summary = if policy.server_summary { virtual_tools::summarise(list) } else { None };
        let mut tools = virtual_tools::with_description(
            &policy.names,
            policy.find_description.as_deref(),
            summary.as_deref(),
        );
        tools.extend(list.iter().filter(|tool| is_script_tool(tool)).cloned());
        let virtual_count = tools.len();
        let pinned = list.iter().filter(|tool| policy.is_pinned(tool) && !is_script_tool(tool));
        // A backend's tool with the name of a virtual tool can be called through `call_tool` only.
        tools.extend(pinned.filter(|tool| !policy.names.contains(tool.name.as_str())).cloned());
        tracing::debug!(
            tools = list.len(),
            pinned = tools.len() - virtual_count,
            "the tool list is replaced by the virtual tools"
        );
        tools
    }

    async fn handle_find_tool(&self, ctx: &CallContext, request: CallTool) -> Result<Reply, Error> {
        let started_at = Instant::now();
        let mut event = FindEvent {
            took: started_at.elapsed(),
            result_count: None,
            savings_percent: 0.0,
            semantic: false,
        };
        let outcome = self.search(ctx, &request, &mut event).await;
        event.took = started_at.elapsed();
        self.optimizer.observer.found(&event);
        outcome
    }

    async fn search(
        &self,
        ctx: &CallContext,
        request: &CallTool,
        event: &mut FindEvent,
    ) -> Result<Reply, Error> {
        let arguments = match arguments::read_find(request.arguments.as_ref()) {
            Ok(arguments) => arguments,
            Err(usage) => return Ok(self.usage_failure(usage)),
        };
        let list = self.inner.list_tools(ctx).await?;
        let found = self.optimizer.find(ctx, &list, &arguments.query, false).await?;
        let written = find_result::write_result(&found, &self.optimizer.policy);
        let (reply, tokens) = written.map_err(|error| Error::Internal(Cause::new(error)))?;
        event.result_count = Some(found.tools.len());
        event.savings_percent = tokens.savings_percent;
        event.semantic = found.semantic;
        Ok(reply)
    }

    async fn handle_call_tool(&self, ctx: &CallContext, request: CallTool) -> Result<Reply, Error> {
        let named_call = match arguments::read_call(request.arguments.as_ref()) {
            Ok(named_call) => named_call,
            Err(usage) => return Ok(self.usage_failure(usage)),
        };
        let started_at = Instant::now();
        let call =
            CallTool { name: named_call.name.into(), arguments: Some(named_call.arguments), ..request };
        let name = call.name.clone();
        let startup_wait = StartupWait::Tool(name.clone());
        let ctx = CallContext { origin: CallOrigin::CallTool, startup_wait, ..ctx.clone() };
        let outcome = self.inner.call_tool(&ctx, call).await;
        let call_outcome = match &outcome {
            Ok(_) => CallOutcome::Answered,
            Err(Error::UnknownTool(_)) => CallOutcome::NotFound,
            Err(_) => CallOutcome::Failed,
        };
        self.optimizer.observer.called(&CallEvent {
            tool: &name,
            took: started_at.elapsed(),
            outcome: call_outcome,
        });
        match outcome {
            Err(Error::UnknownTool(_)) => self.not_found(&ctx, name.as_str()).await,
            other => other,
        }
    }

    /// The result for arguments that a virtual tool does not understand.
    fn usage_failure(&self, usage: UsageError) -> Reply {
        tool_result::failure(&self.optimizer.policy.names.in_text(usage))
    }

    /// The result for an unknown tool name. It is a tool result and no error, so that the model can correct
    /// the name itself. Only names that this caller may see are suggested.
    async fn not_found(&self, ctx: &CallContext, name: &str) -> Result<Reply, Error> {
        let list = self.inner.list_tools(ctx).await?;
        let names = &self.optimizer.policy.names;
        let suggestion = suggest::nearest(name, list.iter().map(|tool| tool.name.as_str()));
        let name = name.get(..name.floor_char_boundary(ECHOED_NAME_BYTES_MAX)).unwrap_or_default();
        let text = match suggestion {
            _ if names.contains(name) => {
                let VirtualNames { find, call } = names;
                format!(
                    "{call} does not call {name}; call it directly, and give {call} the name of a tool that {find} returned"
                )
            }
            Some(suggestion) => format!("tool \"{name}\" not found; did you mean \"{suggestion}\"?"),
            None => format!("tool \"{name}\" not found; use {} to find one", names.find),
        };
        Ok(unknown_tool(&text))
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for Optimized {
    fn list_tools<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ToolList>> {
        Box::pin(async move { Ok(self.advertised_tools(&self.inner.list_tools(ctx).await?)) })
    }

    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        let VirtualNames { find, call } = &self.optimizer.policy.names;
        match request.name.as_str() {
            name if name == find => Box::pin(self.handle_find_tool(ctx, request)),
            name if name == call => Box::pin(self.handle_call_tool(ctx, request)),
            _ => self.inner.call_tool(ctx, request),
        }
    }

    forward!(
        list_resources,
        list_resource_templates,
        read_resource,
        list_prompts,
        get_prompt,
        complete,
        task
    );
}

#[cfg(test)]
mod tests;
