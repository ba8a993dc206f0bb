//! The domain types of vmcp and the traits that its crates meet at.
//!
//! This crate defines everything a layer may know about MCP: names, requests, replies and the caller. It
//! defines three traits: [`Gateway`], which federation and every layer implement; [`Backend`], which
//! transports implement; and [`ClientPort`], the channel back to the client. It does no I/O and has no async
//! runtime and no clock. `vmcp-wire` defines how messages look on the wire. `vmcp-edge` and `vmcp-backends`
//! transport them.

mod catalogue;
mod error;
mod future;
mod gateway;
mod limit;
mod request;

pub use crate::catalogue::availability::{Availability, AvailabilityCheck};
pub use crate::catalogue::derived_cache::DerivedCache;
pub use catalogue::address::{ResourceUri, UriTemplate};
pub use catalogue::backend::{
    Backend, BackendEvent, BackendListener, BackendState, BackendStatus, ConnectFailure, Inventory,
    ListFailure, MalformedItem, OfferedPrompt, OfferedResource, OfferedTemplate, OfferedTool,
    StartupProgress,
};
pub use catalogue::item::{
    HintOverride, Prompt, PromptList, Resource, ResourceList, ResourceTemplate, RoutingTarget, TemplateList,
    Tool, ToolHints, ToolList, ToolOverride,
};
pub use catalogue::name::{BackendId, BackendPromptName, BackendToolName, BackendUri, PromptName, ToolName};
pub use catalogue::name_pattern::NamePattern;
pub use catalogue::text::{escape_controls, is_control, is_usable_name};
pub use catalogue::virtual_tool::{CALL_TOOL, EXECUTE_TOOL_SCRIPT, FIND_TOOL, VirtualNames};
pub use error::{Cause, Error, RelayedError, RequiredIdentity};
pub use future::BoxFuture;
pub use gateway::{
    Change, ChangeListener, Gateway, GatewayExt, GatewayFuture, GatewayInfo, Overview, SharedGateway,
    SubscriptionGuard,
};
pub use limit::{LimitScope, LimitedOperation, RateLimit, RepeatedCall, Retry};
pub use request::caller::{Caller, Identity, User};
pub use request::client_key::{ClientHandle, ClientKey};
pub use request::client_port::{
    AskError, Capability, ClientCapabilities, ClientPort, LogLevel, Question, QuestionKind, SilentClient,
    TASKS_EXTENSION,
};
pub use request::context::{CallContext, CallOrigin, StartupWait, accounting_address};
pub use request::credential::{
    Authentication, Authenticator, Challenge, InvalidTokenReason, ProtectedResource, Unauthorized,
};
pub use request::message::{
    CallTool, Complete, CompletionReference, Continuation, GetPrompt, ReadResource, Reply, ResultType,
    TASK_RESULT_TYPE, TaskHandle, TaskOperation, TaskRequest,
};
pub use request::reservation::Reservation;
pub use request::reserve_budget::{BudgetNeed, PlannedCall, ReserveBudget};
pub use request::run::{
    CallRun, RunEvent, RunKind, RunObserver, RunOutcome, RunStep, StepAction, StepReport, StepStatus,
};
pub use request::scope::{CallerScope, ChangeAudience, IsolationScope};
pub use request::secret::Secret;
pub use request::version::ProtocolVersion;
pub use request::work_hold::WorkHold;
