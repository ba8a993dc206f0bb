//! The seam: one trait that federation implements and every layer wraps.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::context::CallContext;
use crate::error::Error;
use crate::item::{PromptList, ResourceList, TemplateList, ToolList};
use crate::message::{CallTool, Complete, GetPrompt, ReadResource, Reply, TaskRequest};
use crate::scope::ChangeAudience;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// What every method of the seam returns.
pub type GatewayFuture<'a, T> = BoxFuture<'a, Result<T, Error>>;
/// The stack, or any part of it.
pub type SharedGateway = Arc<dyn Gateway>;

/// One MCP server as its callers see it, whatever stands behind.
///
/// A layer holds `inner` and nothing else that leads to a backend; it may narrow what a caller sees,
/// refuse, or add virtual tools made of inner calls only. No method has a default body, so a layer says
/// something about every method. Dropping a returned future cancels the request, through to the backend.
///
/// Lists come whole; cutting them into pages is the edge's. An unchanged list is the same `Arc`.
pub trait Gateway: Send + Sync {
    /// The tools this caller may see.
    fn list_tools<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ToolList>>;
    /// Calls a tool by its advertised name.
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply>;
    /// The resources this caller may see.
    fn list_resources<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ResourceList>>;
    /// The resource templates this caller may see.
    fn list_resource_templates<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<TemplateList>>;
    /// Reads a resource.
    fn read_resource<'a>(&'a self, ctx: &'a CallContext, request: ReadResource) -> GatewayFuture<'a, Reply>;
    /// The prompts this caller may see.
    fn list_prompts<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<PromptList>>;
    /// Fills in a prompt by its advertised name.
    fn get_prompt<'a>(&'a self, ctx: &'a CallContext, request: GetPrompt) -> GatewayFuture<'a, Reply>;
    /// Completes an argument of a prompt or a variable of a resource template.
    fn complete<'a>(&'a self, ctx: &'a CallContext, request: Complete) -> GatewayFuture<'a, Reply>;
    /// Asks about a task, answers its questions, or lets it go. Whoever may not see the tool it came from has no
    /// such task.
    fn task<'a>(&'a self, ctx: &'a CallContext, request: TaskRequest) -> GatewayFuture<'a, Reply>;
}

/// Conveniences over the seam. Nobody overrides them.
pub trait GatewayExt: Gateway {
    /// The tool advertised as `name`, if this caller may see it.
    fn find_tool<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: &'a str,
    ) -> GatewayFuture<'a, Option<crate::item::Tool>> {
        Box::pin(async move {
            let tools = self.list_tools(ctx).await?;
            Ok(tools.iter().find(|tool| tool.name.as_str() == name).cloned())
        })
    }
}

impl<G: Gateway + ?Sized> GatewayExt for G {}

/// What changed about the offer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The list of tools.
    Tools,
    /// The list of resources or templates.
    Resources,
    /// The list of prompts.
    Prompts,
    /// The content of one resource.
    Resource(crate::address::ResourceUri),
}

/// Hears of changes. Called from the party that noticed, so it must not block.
pub trait ChangeListener: Send + Sync {
    /// Something about the offer changed, for some of the clients or for all.
    fn on_change(&self, change: &Change, audience: ChangeAudience<'_>);
}

/// What the whole offers, besides its lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// The backends' instructions, joined and bounded.
    pub instructions: Option<String>,
    /// Some backend completes arguments.
    pub completions: bool,
    /// Some backend sends log messages.
    pub logging: bool,
    /// Some backend can tell when a resource changes.
    pub subscriptions: bool,
    /// Some backend may go on with a call as a task.
    pub tasks: bool,
}

/// Keeps a resource followed as long as it is held.
pub type SubscriptionGuard = Box<dyn Any + Send + Sync>;

/// What an edge needs to introduce the gateway to a client and to tell it of changes.
pub trait GatewayInfo: Send + Sync {
    /// What is on offer now, as far as a caller may know: a backend of which the caller sees nothing adds nothing.
    fn overview(&self, caller: &crate::caller::Caller) -> Overview;
    /// Tells `listener` of every change from now on, as long as it is alive.
    fn add_listener(&self, listener: std::sync::Weak<dyn ChangeListener>);
    /// Whether a caller may be told when a resource changes: whoever may not read it may not.
    fn can_subscribe(&self, caller: &crate::caller::Caller, uri: &crate::address::ResourceUri) -> bool;
    /// Asks leave to open a stream of changes (`subscriptions/listen` of 2026-07-28).
    ///
    /// # Errors
    /// When there are limits on that and one refuses.
    fn admit_listen<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, ()>;
    /// Asks the backend that serves a resource to tell when it changes, for as long as the outcome is held. However
    /// many follow one resource, the backend is asked once.
    ///
    /// # Errors
    /// [`Error::UnknownResource`] when no backend serves it, and whatever the backend answers.
    fn subscribe<'a>(
        &'a self,
        ctx: &'a CallContext,
        uri: crate::address::ResourceUri,
    ) -> GatewayFuture<'a, SubscriptionGuard>;
}

/// Writes the methods of [`Gateway`] that a layer passes through untouched, each named.
///
/// This is no default: a method that is not named is missing, and the lint `missing_trait_methods`
/// has nothing to hide behind. `forward!(self.inner; list_prompts, get_prompt)`.
#[macro_export]
macro_rules! forward {
    ($($method:ident),+ $(,)?) => { $($crate::forward!(@one $method);)+ };
    (@one list_tools) => {
        fn list_tools<'a>(&'a self, ctx: &'a $crate::CallContext) -> $crate::GatewayFuture<'a, std::sync::Arc<$crate::ToolList>> {
            self.inner.list_tools(ctx)
        }
    };
    (@one call_tool) => {
        fn call_tool<'a>(&'a self, ctx: &'a $crate::CallContext, request: $crate::CallTool) -> $crate::GatewayFuture<'a, $crate::Reply> {
            self.inner.call_tool(ctx, request)
        }
    };
    (@one list_resources) => {
        fn list_resources<'a>(&'a self, ctx: &'a $crate::CallContext) -> $crate::GatewayFuture<'a, std::sync::Arc<$crate::ResourceList>> {
            self.inner.list_resources(ctx)
        }
    };
    (@one list_resource_templates) => {
        fn list_resource_templates<'a>(&'a self, ctx: &'a $crate::CallContext) -> $crate::GatewayFuture<'a, std::sync::Arc<$crate::TemplateList>> {
            self.inner.list_resource_templates(ctx)
        }
    };
    (@one read_resource) => {
        fn read_resource<'a>(&'a self, ctx: &'a $crate::CallContext, request: $crate::ReadResource) -> $crate::GatewayFuture<'a, $crate::Reply> {
            self.inner.read_resource(ctx, request)
        }
    };
    (@one list_prompts) => {
        fn list_prompts<'a>(&'a self, ctx: &'a $crate::CallContext) -> $crate::GatewayFuture<'a, std::sync::Arc<$crate::PromptList>> {
            self.inner.list_prompts(ctx)
        }
    };
    (@one get_prompt) => {
        fn get_prompt<'a>(&'a self, ctx: &'a $crate::CallContext, request: $crate::GetPrompt) -> $crate::GatewayFuture<'a, $crate::Reply> {
            self.inner.get_prompt(ctx, request)
        }
    };
    (@one complete) => {
        fn complete<'a>(&'a self, ctx: &'a $crate::CallContext, request: $crate::Complete) -> $crate::GatewayFuture<'a, $crate::Reply> {
            self.inner.complete(ctx, request)
        }
    };
    (@one task) => {
        fn task<'a>(&'a self, ctx: &'a $crate::CallContext, request: $crate::TaskRequest) -> $crate::GatewayFuture<'a, $crate::Reply> {
            self.inner.task(ctx, request)
        }
    };
}
