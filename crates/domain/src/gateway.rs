//! The central trait [`Gateway`], which federation implements and every layer wraps, and [`GatewayInfo`],
//! which edges use to introduce the gateway and to follow changes.

use std::any::Any;
use std::sync::Arc;

use crate::catalogue::item::{PromptList, ResourceList, TemplateList, ToolList};
use crate::error::Error;
use crate::future::BoxFuture;
use crate::request::context::CallContext;
use crate::request::message::{CallTool, Complete, GetPrompt, ReadResource, Reply, TaskRequest};
use crate::request::scope::ChangeAudience;

/// The future that every method of [`Gateway`] and [`Backend`](crate::Backend) returns.
pub type GatewayFuture<'a, T> = BoxFuture<'a, Result<T, Error>>;
/// A shared stack of layers, or any part of it.
pub type SharedGateway = Arc<dyn Gateway>;

/// One MCP server as its callers see it. Federation implements it over the backends, and each layer wraps an
/// inner `Gateway`.
///
/// A layer holds `inner` and no other path to a backend. It may hide items from a caller, refuse a request,
/// or add virtual tools that are composed of inner calls only. No method has a default body, so that every
/// layer decides about every method.
///
/// Dropping a returned future cancels the request, at the backend too.
///
/// Lists are complete: the edge splits them into pages. An unchanged list is the same `Arc`, so a layer can
/// cache what it derives from a list by pointer (see [`DerivedCache`](crate::DerivedCache)).
///
/// ```
/// use vmcp_domain::{CallContext, CallTool, Error, Gateway, GatewayFuture, Reply, SharedGateway, forward};
///
/// /// A layer that refuses calls of one tool.
/// struct WithoutTool {
///     inner: SharedGateway,
///     name: &'static str,
/// }
///
/// impl Gateway for WithoutTool {
///     fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
///         if request.name.as_str() == self.name {
///             return Box::pin(async { Err(Error::Denied) });
///         }
///         self.inner.call_tool(ctx, request)
///     }
///
///     forward!(
///         list_tools,
///         list_resources,
///         list_resource_templates,
///         read_resource,
///         list_prompts,
///         get_prompt,
///         complete,
///         task,
///     );
/// }
/// ```
///
/// # Errors
/// Layers refuse a request with [`Error::Denied`], [`Error::RateLimited`], [`Error::LimitsUnavailable`] or
/// [`Error::Overloaded`]. Methods that call a backend also return the `Backend…` variants,
/// [`Error::DeadlineExceeded`] and [`Error::MissingCapability`].
///
/// An item that the caller may not see is reported exactly as an item that does not exist. The authorisation
/// layer reports [`Error::Denied`] for both, instead of the `Unknown…` variant named at each method. When a
/// backend that may offer the item cannot be listed with this caller's credential, its error is returned.
pub trait Gateway: Send + Sync {
    /// Returns the tools that this caller may see. Waits until every backend has answered or failed for the
    /// first time after start.
    fn list_tools<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ToolList>>;
    /// Calls a tool by its advertised name. A tool that ran and failed is an `Ok` reply with
    /// [`Reply::is_error`] set. The reply may ask for input or start a task, see
    /// [`ResultType`](crate::ResultType).
    ///
    /// # Errors
    /// [`Error::UnknownTool`] when the caller sees no tool of this name, and [`Error::BackendUnavailable`]
    /// when the tool is withdrawn because its backend is away. [`Error::Looping`] when the same call had the
    /// same result too often.
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply>;
    /// Returns the resources that this caller may see, as [`list_tools`](Self::list_tools) does.
    fn list_resources<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ResourceList>>;
    /// Returns the resource templates that this caller may see, as [`list_tools`](Self::list_tools) does.
    fn list_resource_templates<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<TemplateList>>;
    /// Reads a resource. A URI that no list names goes to the first backend with a matching template, else to
    /// the only backend that offers resources. An ambiguous URI
    /// ([`ResourceUri::is_ambiguous`](crate::ResourceUri::is_ambiguous)) must be listed.
    ///
    /// # Errors
    /// [`Error::UnknownResource`] when the URI leads to no backend, or the caller may not see the resource.
    fn read_resource<'a>(&'a self, ctx: &'a CallContext, request: ReadResource) -> GatewayFuture<'a, Reply>;
    /// Returns the prompts that this caller may see, as [`list_tools`](Self::list_tools) does.
    fn list_prompts<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<PromptList>>;
    /// Fills in a prompt by its advertised name.
    ///
    /// # Errors
    /// [`Error::UnknownPrompt`] when the caller sees no prompt of this name, and
    /// [`Error::BackendUnavailable`] when the prompt is withdrawn because its backend is away.
    fn get_prompt<'a>(&'a self, ctx: &'a CallContext, request: GetPrompt) -> GatewayFuture<'a, Reply>;
    /// Completes an argument of a prompt or a variable of a resource template.
    ///
    /// # Errors
    /// [`Error::UnknownPrompt`] or [`Error::UnknownResource`] when the caller sees no such prompt or
    /// template. A template must be named exactly as it is listed; a listed resource may be named by its
    /// normal form.
    fn complete<'a>(&'a self, ctx: &'a CallContext, request: Complete) -> GatewayFuture<'a, Reply>;
    /// Gets, updates or cancels a task (tasks extension, SEP-2663). The caller must still see the tool that
    /// started the task.
    ///
    /// # Errors
    /// [`Error::UnknownTask`] when the caller does not see that tool, or when the tool's name now belongs to
    /// another backend.
    fn task<'a>(&'a self, ctx: &'a CallContext, request: TaskRequest) -> GatewayFuture<'a, Reply>;
}

/// Convenience methods on every [`Gateway`]. The blanket implementation leaves nothing to override.
pub trait GatewayExt: Gateway {
    /// Returns the tool advertised as `name`, or `None` when this caller does not see it.
    ///
    /// # Errors
    /// Those of [`Gateway::list_tools`].
    fn find_tool<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: &'a str,
    ) -> GatewayFuture<'a, Option<crate::catalogue::item::Tool>> {
        Box::pin(async move {
            let tools = self.list_tools(ctx).await?;
            Ok(tools.iter().find(|tool| tool.name.as_str() == name).cloned())
        })
    }
}

impl<G: Gateway + ?Sized> GatewayExt for G {}

/// What changed in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The list of tools changed.
    Tools,
    /// The list of resources or of resource templates changed.
    Resources,
    /// The list of prompts changed.
    Prompts,
    /// The content of one resource changed.
    Resource(crate::catalogue::address::ResourceUri),
}

/// Receives change notifications. It is called on the task that noticed the change, so it must not block.
pub trait ChangeListener: Send + Sync {
    /// Reports one change. `audience` says which clients it concerns.
    fn on_change(&self, change: &Change, audience: ChangeAudience<'_>);
}

/// What the gateway as a whole supports, apart from its lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// The backends' instructions, joined under one heading per backend and truncated to a maximum length.
    pub instructions: Option<String>,
    /// At least one backend completes arguments.
    pub completions: bool,
    /// At least one backend sends log messages.
    pub logging: bool,
    /// At least one backend sends a notification when a resource changes.
    pub subscriptions: bool,
    /// At least one backend may continue a call as a task.
    pub tasks: bool,
}

/// Keeps a subscription to a resource alive. Dropping it ends the subscription.
pub type SubscriptionGuard = Box<dyn Any + Send + Sync>;

/// What an edge needs to introduce the gateway to a client and to notify the client of changes.
pub trait GatewayInfo: Send + Sync {
    /// What the gateway supports now. A backend of which the caller sees no item contributes nothing.
    fn overview(&self, caller: &crate::request::caller::Caller) -> Overview;
    /// Whether the lists are complete: every backend has answered or failed once since the start, or the time for
    /// that has passed.
    fn has_complete_lists(&self) -> bool;
    /// Notifies `listener` of every later change until it is dropped. There may be several listeners.
    fn add_listener(&self, listener: std::sync::Weak<dyn ChangeListener>);
    /// Whether the caller may be notified of changes of this resource. False when the caller may not read it.
    fn can_subscribe(
        &self,
        caller: &crate::request::caller::Caller,
        uri: &crate::catalogue::address::ResourceUri,
    ) -> bool;
    /// Asks for permission to open a stream of change notifications (`subscriptions/listen` of 2026-07-28).
    ///
    /// # Errors
    /// [`Error::RateLimited`] and the other refusals of limits, when limits apply to this method and one
    /// refuses.
    fn admit_listen<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, ()>;
    /// Subscribes to changes of a resource at the backend that serves it, until the returned guard is
    /// dropped. Subscribers that share a connection share one subscription at the backend.
    ///
    /// # Errors
    /// [`Error::UnknownResource`] when no backend serves it or the caller may not see it, the refusals of
    /// limits, and the errors of [`Backend::subscribe`](crate::Backend::subscribe).
    fn subscribe<'a>(
        &'a self,
        ctx: &'a CallContext,
        uri: crate::catalogue::address::ResourceUri,
    ) -> GatewayFuture<'a, SubscriptionGuard>;
}

/// Writes the methods of [`Gateway`] that a layer forwards unchanged to `self.inner`. Each must be named.
///
/// This replaces default bodies: a method that is not named is missing, so the lint `missing_trait_methods`
/// still reports it. Example: `forward!(list_prompts, get_prompt);`.
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
