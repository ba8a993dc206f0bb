//! What a transport offers to federation: one MCP server behind the gateway, connected or not.

use std::sync::Arc;
use std::time::Duration;

use crate::address::UriTemplate;
use crate::context::CallContext;
use crate::gateway::GatewayFuture;
use crate::item::ToolHints;
use crate::json::{Json, Members};
use crate::message::{Continuation, Reply, TaskOperation};
use crate::name::{BackendId, BackendPromptName, BackendToolName, BackendUri};
use crate::scope::{CallerScope, IsolationScope};
use crate::version::ProtocolVersion;

/// A tool as its backend offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedTool {
    /// Its name.
    pub name: BackendToolName,
    /// Its description.
    pub description: Option<String>,
    /// Its annotations.
    pub hints: ToolHints,
    /// The whole definition as sent.
    pub definition: Arc<Members>,
}

/// A resource as its backend offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedResource {
    /// Its address, as the backend spells it.
    pub uri: BackendUri,
    /// The whole definition as sent.
    pub definition: Arc<Members>,
}

/// A resource template as its backend offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedTemplate {
    /// Its URI template.
    pub template: UriTemplate,
    /// The whole definition as sent.
    pub definition: Arc<Members>,
}

/// A prompt as its backend offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedPrompt {
    /// Its name.
    pub name: BackendPromptName,
    /// The whole definition as sent.
    pub definition: Arc<Members>,
}

/// Everything one backend offers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Its tools, in its order.
    pub tools: Vec<OfferedTool>,
    /// Its resources, in its order.
    pub resources: Vec<OfferedResource>,
    /// Its resource templates, in its order.
    pub templates: Vec<OfferedTemplate>,
    /// Its prompts, in its order.
    pub prompts: Vec<OfferedPrompt>,
    /// Its instructions for models.
    pub instructions: Option<String>,
    /// The capabilities it declared.
    pub capabilities: Members,
    /// What was mended or left out, in order.
    pub malformed_items: Vec<MalformedItem>,
    /// The lists that could not be read, or not wholly; they are as they were last read, or as far as they were read.
    pub list_failures: Vec<ListFailure>,
}

/// Something that a backend lists in a form that clients refuse.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MalformedItem {
    /// The list: `tools`, `resources`, `resourceTemplates` or `prompts`.
    pub list: &'static str,
    /// The item's name, or its place in the list.
    pub item: String,
    /// The item is not offered; else it is, mended.
    pub is_omitted: bool,
    /// What is wrong with it.
    pub text: String,
}

/// A list that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListFailure {
    /// The list: `tools`, `resources`, `resourceTemplates` or `prompts`.
    pub list: &'static str,
    /// The class of the failure, as in [`BackendStatus::last_error`].
    pub class: &'static str,
    /// What went wrong. May name what the backend said, so it is for the operator only.
    pub cause: String,
}

/// How a backend is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendState {
    /// No connection has been tried yet, or one is being made.
    Connecting,
    /// It answers.
    Ready,
    /// It does not answer; connecting is tried again from time to time.
    Unavailable,
    /// The gateway is ending its connection.
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

/// What an operator may know about a backend's connection.
#[derive(Clone, Debug)]
pub struct BackendStatus {
    /// How it is doing.
    pub state: BackendState,
    /// How it is reached: `stdio`, `streamable-http` or `sse`.
    pub transport: &'static str,
    /// The revision in use, once known.
    pub protocol: Option<ProtocolVersion>,
    /// The class of the last failure (`connect`, `timeout`, `protocol`, `exited`, …), never its text.
    pub last_error: Option<&'static str>,
    /// How often the connection has been made anew.
    pub reconnect_count: u64,
    /// What proves the gateway or its caller to it: `unauthenticated`, `header_injection`, or the name of a strategy.
    pub auth_type: &'static str,
    /// Which callers share a connection now, as the configuration spells it.
    pub isolation: &'static str,
    /// How many connections belong to single callers; `None` where all callers share one.
    pub caller_connections: Option<usize>,
    /// What it has been doing since its first connection was begun, while that is not ready.
    pub startup: Option<StartupProgress>,
}

/// A backend that is being started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartupProgress {
    /// For how long.
    pub elapsed: Duration,
    /// What it said last on its standard error or output, where it has any: one line, shortened, without controls.
    pub last_line: Option<String>,
}

/// What a backend tells about itself unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendEvent {
    /// It has been connected, for the first time or again; its whole offer may differ.
    Connected,
    /// It is gone; what it offered cannot be used.
    Disconnected,
    /// Its list of tools changed.
    ToolsChanged,
    /// Its list of resources or templates changed.
    ResourcesChanged,
    /// Its list of prompts changed.
    PromptsChanged,
    /// The content of one of its resources changed.
    ResourceUpdated(BackendUri),
}

/// Hears what backends tell unasked. Called on the transport's own task, so it must not block.
pub trait BackendListener: Send + Sync {
    /// `backend` told `event` on a connection of `scope`.
    fn on_event(&self, backend: &BackendId, scope: IsolationScope, event: BackendEvent);
}

/// One MCP server behind the gateway. The connection is made, kept and remade inside.
///
/// Every call answers [`crate::Error::BackendUnavailable`] at once when there is no connection, and waits at most
/// for the backend's own time-out or the context's deadline, whichever is shorter. Dropping a returned future
/// cancels the request at the backend.
pub trait Backend: Send + Sync {
    /// Its configured name.
    fn id(&self) -> &BackendId;
    /// How its connection is doing.
    fn status(&self) -> BackendStatus;
    /// Tells `listener` of its events, from now on. One listener; a second call replaces the first.
    fn set_listener(&self, listener: std::sync::Weak<dyn BackendListener>);
    /// Ends its connection because its checks keep failing, so that a new one is made. False while a call is
    /// under way on it, which it may yet answer; nothing has happened then. Nothing happens without a connection.
    fn reconnect(&self) -> bool;
    /// True when requests carry a credential of the caller's own, so that what it offers depends on who asks. Its
    /// [`Self::status`] then tells of the gateway's own look at it, and not of any caller's connection.
    fn has_caller_credentials(&self) -> bool;
    /// True when a caller's requests may take a connection of its own, so that its lists may come to differ from those
    /// that everyone sees.
    fn has_caller_connections(&self) -> bool;
    /// A context to ask on behalf of a caller that has a connection of its own, by the scope that it told something on.
    fn context_for(&self, scope: CallerScope) -> Option<CallContext>;
    /// Which other callers' requests take the same connection as this one's.
    ///
    /// # Errors
    /// [`crate::Error::Denied`] when there is no credential for this caller, or the backend needs one.
    fn scope(&self, ctx: &CallContext) -> Result<IsolationScope, crate::error::Error>;
    /// Asks for everything it offers this caller, all pages of all lists.
    fn fetch_inventory<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Inventory>;
    /// Calls one of its tools. `rest` are further parameters to pass on.
    fn call_tool<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendToolName,
        arguments: Option<Json>,
        continuation: Continuation,
        rest: Members,
    ) -> GatewayFuture<'a, Reply>;
    /// Reads one of its resources.
    fn read_resource<'a>(
        &'a self,
        ctx: &'a CallContext,
        uri: BackendUri,
        continuation: Continuation,
        rest: Members,
    ) -> GatewayFuture<'a, Reply>;
    /// Fills in one of its prompts.
    fn get_prompt<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendPromptName,
        arguments: Option<Json>,
        continuation: Continuation,
        rest: Members,
    ) -> GatewayFuture<'a, Reply>;
    /// Completes a prompt argument. `rest` are the parameters besides the reference.
    fn complete_prompt<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendPromptName,
        rest: Members,
    ) -> GatewayFuture<'a, Reply>;
    /// Completes a variable of a resource template.
    fn complete_template<'a>(
        &'a self,
        ctx: &'a CallContext,
        template: UriTemplate,
        rest: Members,
    ) -> GatewayFuture<'a, Reply>;
    /// Asks about one of its tasks, answers the task's questions, or lets it go. `rest` are the parameters besides
    /// the task's identifier `id`, which is the backend's own.
    fn task<'a>(
        &'a self,
        ctx: &'a CallContext,
        verb: TaskOperation,
        id: String,
        rest: Members,
    ) -> GatewayFuture<'a, Reply>;
    /// Asks to be told when a resource changes. Asking twice is the same as asking once.
    fn subscribe<'a>(&'a self, ctx: &'a CallContext, uri: BackendUri) -> GatewayFuture<'a, ()>;
    /// Takes a subscription back.
    fn unsubscribe<'a>(&'a self, ctx: &'a CallContext, uri: BackendUri) -> GatewayFuture<'a, ()>;
}
