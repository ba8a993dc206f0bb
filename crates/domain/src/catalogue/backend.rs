//! The [`Backend`] trait, which transports implement for federation, and what a backend offers and reports. A
//! backend is one MCP server behind the gateway, connected or not.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use vmcp_json::{Json, Members};

use crate::catalogue::address::UriTemplate;
use crate::catalogue::item::ToolHints;
use crate::catalogue::name::{BackendId, BackendPromptName, BackendToolName, BackendUri};
use crate::gateway::GatewayFuture;
use crate::request::context::CallContext;
use crate::request::message::{Continuation, Reply, TaskOperation};
use crate::request::scope::{CallerScope, IsolationScope};
use crate::request::version::ProtocolVersion;

/// A tool as its backend offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedTool {
    /// The tool's name at the backend.
    pub name: BackendToolName,
    /// The description, if it has one.
    pub description: Option<String>,
    /// The tool's annotations.
    pub hints: ToolHints,
    /// The whole definition as the backend sent it.
    pub definition: Arc<Members>,
}

/// A resource as its backend offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedResource {
    /// The resource's URI, as the backend spells it.
    pub uri: BackendUri,
    /// The whole definition as the backend sent it.
    pub definition: Arc<Members>,
}

/// A resource template as its backend offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedTemplate {
    /// The URI template (RFC 6570).
    pub template: UriTemplate,
    /// The whole definition as the backend sent it.
    pub definition: Arc<Members>,
}

/// A prompt as its backend offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedPrompt {
    /// The prompt's name at the backend.
    pub name: BackendPromptName,
    /// The whole definition as the backend sent it.
    pub definition: Arc<Members>,
}

/// A snapshot of everything one backend offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The tools, in the backend's order.
    pub tools: Vec<OfferedTool>,
    /// The resources, in the backend's order.
    pub resources: Vec<OfferedResource>,
    /// The resource templates, in the backend's order.
    pub templates: Vec<OfferedTemplate>,
    /// The prompts, in the backend's order.
    pub prompts: Vec<OfferedPrompt>,
    /// The backend's instructions for models.
    pub instructions: Option<String>,
    /// The capabilities object that the backend declared.
    pub capabilities: Members,
    /// The items that were repaired or omitted, in list order.
    pub malformed_items: Vec<MalformedItem>,
    /// The lists that could not be read to their end. Such a list holds the items of the last complete read,
    /// or else those read before the failure.
    pub list_failures: Vec<ListFailure>,
}

/// An item of a backend's list whose form clients reject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MalformedItem {
    /// The list: `tools`, `resources`, `resourceTemplates` or `prompts`.
    pub list: &'static str,
    /// The item's name, or its index in the list.
    pub item: String,
    /// True when the item is omitted from the catalogue, false when it is offered after repair.
    pub is_omitted: bool,
    /// What is wrong with the item.
    pub text: String,
}

/// A list that could not be read to its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListFailure {
    /// The list: `tools`, `resources`, `resourceTemplates` or `prompts`.
    pub list: &'static str,
    /// The class of the failure, as in [`BackendStatus::last_error`].
    pub class: &'static str,
    /// What went wrong. It may quote the backend's own text, so it is for the operator only.
    pub cause: String,
}

/// The state of a backend's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendState {
    /// No connection attempt has ended yet, or one is in progress.
    Connecting,
    /// The backend answers. When the backend requires the credentials of callers, its refusal of the
    /// gateway's probe also counts as an answer.
    Ready,
    /// The backend is not reachable. The gateway retries with back-off.
    Unavailable,
    /// The gateway has closed the connection and opens no other.
    Stopped,
}

impl BackendState {
    /// The state's name in `/status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Unavailable => "unavailable",
            Self::Stopped => "stopped",
        }
    }
}

/// Why a backend could not be connected, for its operator. The texts may quote the backend and name its
/// address, so clients never see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectFailure {
    /// The kind of the failure. `vmcp explain` has a page for each.
    pub code: &'static str,
    /// What happened, as a clause without a full stop.
    pub cause: String,
    /// The last line that the backend's process wrote before it failed: shortened, without control characters.
    pub last_line: Option<String>,
    /// What the operator can do about it. `None` if the cause says all that is known.
    pub remedy: Option<String>,
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)?;
        if let Some(line) = &self.last_line {
            write!(f, ", after the line `{line}`")?;
        }
        self.remedy.iter().try_for_each(|remedy| write!(f, "; {remedy}"))
    }
}

/// What an operator may see of a backend's connection.
#[derive(Clone, Debug)]
pub struct BackendStatus {
    /// The state of the connection.
    pub state: BackendState,
    /// The transport: `stdio`, `streamable-http` or `sse`.
    pub transport: &'static str,
    /// The negotiated protocol version, once known.
    pub protocol: Option<ProtocolVersion>,
    /// The class of the last failure (`connect`, `timeout`, `protocol`, `exited`, …), never its text.
    pub last_error: Option<&'static str>,
    /// Why the last attempt to connect failed. `None` while the backend is connected, and before the first
    /// failure.
    pub connect_failure: Option<ConnectFailure>,
    /// How often the connection has been re-established.
    pub reconnect_count: u64,
    /// How requests are authenticated at the backend: `unauthenticated`, `header_injection`, or the name of a
    /// credential strategy.
    pub auth_type: &'static str,
    /// Which callers share a connection now, as the configuration spells it.
    pub isolation: &'static str,
    /// The number of connections that belong to single callers; `None` when all callers share one.
    pub caller_connections: Option<usize>,
    /// The progress of the first connection attempt, until the backend is ready.
    pub startup: Option<StartupProgress>,
}

/// A backend that is starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartupProgress {
    /// The time since its first connection attempt began.
    pub elapsed: Duration,
    /// The last line of the backend's standard error or output, if its transport has one: shortened, without
    /// control characters.
    pub last_line: Option<String>,
}

/// An event that a backend reports without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendEvent {
    /// The backend has connected, for the first time or again. Its whole inventory may have changed.
    Connected,
    /// The connection has ended. What the backend offered cannot be used.
    Disconnected,
    /// The list of tools changed.
    ToolsChanged,
    /// The list of resources or resource templates changed.
    ResourcesChanged,
    /// The list of prompts changed.
    PromptsChanged,
    /// The content of one resource changed.
    ResourceUpdated(BackendUri),
}

/// Receives the events of backends. It is called on the transport's own task, so it must not block.
pub trait BackendListener: Send + Sync {
    /// Reports one event of `backend`, received on a connection of `scope`.
    fn on_event(&self, backend: &BackendId, scope: IsolationScope, event: BackendEvent);
}

/// One MCP server behind the gateway. The implementation opens the connection, keeps it and reconnects.
///
/// Requests wait for a connection that is being opened, at most for the connect time-out. They fail at once
/// with [`BackendUnavailable`](crate::Error::BackendUnavailable) when the backend is not reachable.
///
/// A tool call, read, prompt, completion or task request waits for its answer at most until the backend's own
/// time-out ([`BackendTimedOut`](crate::Error::BackendTimedOut)) or the context's deadline
/// ([`DeadlineExceeded`](crate::Error::DeadlineExceeded)), whichever is first. Progress notifications and
/// questions to the client extend the time-out, never the deadline. Dropping a returned future cancels the
/// request at the backend.
///
/// # Errors
/// Every request can also return [`BackendBusy`](crate::Error::BackendBusy),
/// [`BackendFull`](crate::Error::BackendFull), [`BackendFailed`](crate::Error::BackendFailed),
/// [`BackendUnauthorized`](crate::Error::BackendUnauthorized) and [`Overloaded`](crate::Error::Overloaded).
/// For an unknown name the backend's own JSON-RPC error is relayed as
/// [`BackendRefused`](crate::Error::BackendRefused). [`Denied`](crate::Error::Denied) means that there is no
/// credential for this caller that the backend accepts.
pub trait Backend: Send + Sync {
    /// The backend's configured name.
    fn id(&self) -> &BackendId;
    /// The state of its connection, for operators and health checks.
    fn status(&self) -> BackendStatus;
    /// Notifies `listener` of the backend's later events. There is one listener; a second call replaces the
    /// first.
    fn set_listener(&self, listener: std::sync::Weak<dyn BackendListener>);
    /// Closes the connection because its health checks keep failing, so that a new one is opened. Returns
    /// false and does nothing while a call is in flight on the connection, because the backend may still
    /// answer it. Without a connection it does nothing and returns true.
    fn reconnect(&self) -> bool;
    /// True when requests carry the caller's own credential, so that the inventory depends on the caller.
    /// [`Self::status`] then describes the gateway's own probe connection, not that of any caller.
    fn has_caller_credentials(&self) -> bool;
    /// True when a caller's requests may use a connection of their own without a credential of the caller's,
    /// so that the caller's lists may come to differ from the shared ones.
    fn has_caller_connections(&self) -> bool;
    /// Builds a context for maintenance requests on the connection with this scope, on which an event
    /// arrived. `None` when that connection no longer exists.
    fn context_for(&self, scope: CallerScope) -> Option<CallContext>;
    /// Which other callers' requests use the same connection as this caller's.
    ///
    /// # Errors
    /// [`crate::Error::Denied`] when there is no credential for this caller.
    fn scope(&self, ctx: &CallContext) -> Result<IsolationScope, crate::error::Error>;
    /// Fetches the complete inventory that the backend offers this caller: all pages of all lists. It does
    /// not open a connection for a caller unless requests carry the caller's credential. It may take several
    /// times the time-out of one request.
    ///
    /// # Errors
    /// When the list of tools cannot be read at all, or none of the lists of a backend without tools. Any
    /// other failing list is reported in [`Inventory::list_failures`].
    fn fetch_inventory<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Inventory>;
    /// The inventory as it was when an earlier process last read it from a backend with the same settings.
    /// `None` if there is none, and for a backend whose inventory depends on the caller. It may read a file.
    fn saved_inventory(&self) -> Option<Inventory>;
    /// Calls a tool of this backend. `rest` holds further request parameters, which are forwarded.
    fn call_tool<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendToolName,
        arguments: Option<Json>,
        continuation: Continuation,
        rest: Members,
    ) -> GatewayFuture<'a, Reply>;
    /// Reads a resource of this backend. `rest` holds further request parameters, which are forwarded.
    fn read_resource<'a>(
        &'a self,
        ctx: &'a CallContext,
        uri: BackendUri,
        continuation: Continuation,
        rest: Members,
    ) -> GatewayFuture<'a, Reply>;
    /// Fills in a prompt of this backend. `rest` holds further request parameters, which are forwarded.
    fn get_prompt<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendPromptName,
        arguments: Option<Json>,
        continuation: Continuation,
        rest: Members,
    ) -> GatewayFuture<'a, Reply>;
    /// Completes an argument of a prompt. `rest` holds the request parameters without the reference.
    fn complete_prompt<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendPromptName,
        rest: Members,
    ) -> GatewayFuture<'a, Reply>;
    /// Completes a variable of a resource template. `rest` holds the request parameters without the
    /// reference.
    fn complete_template<'a>(
        &'a self,
        ctx: &'a CallContext,
        template: UriTemplate,
        rest: Members,
    ) -> GatewayFuture<'a, Reply>;
    /// Gets, updates or cancels a task of this backend. `id` is the backend's own task identifier. `rest`
    /// holds the request parameters without it.
    fn task<'a>(
        &'a self,
        ctx: &'a CallContext,
        verb: TaskOperation,
        id: String,
        rest: Members,
    ) -> GatewayFuture<'a, Reply>;
    /// Subscribes to changes of a resource. A second subscription to the same resource has no further effect.
    ///
    /// # Errors
    /// [`crate::Error::Overloaded`] at the maximum of subscriptions, and [`crate::Error::BackendFailed`] when
    /// the backend sends no notifications for changed resources.
    fn subscribe<'a>(&'a self, ctx: &'a CallContext, uri: BackendUri) -> GatewayFuture<'a, ()>;
    /// Ends a subscription. When the subscription was on a caller's own connection that has ended, there is
    /// nothing to do.
    fn unsubscribe<'a>(&'a self, ctx: &'a CallContext, uri: BackendUri) -> GatewayFuture<'a, ()>;
}
