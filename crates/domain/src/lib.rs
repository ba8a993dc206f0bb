//! The domain types of vmcp and the traits that its crates meet at.
//!
//! This crate defines everything a layer may know about MCP: names, requests, replies and the caller. It
//! defines three traits: [`Gateway`], which federation and every layer implement; [`Backend`], which
//! transports implement; and [`ClientPort`], the channel back to the client. It does no I/O and has no async
//! runtime and no clock. `vmcp-wire` defines how messages look on the wire. `vmcp-edge` and `vmcp-backends`
//! transport them.

mod address;
mod availability;
mod backend;
mod caller;
mod client_key;
mod client_port;
mod context;
mod credential;
mod derived_cache;
mod error;
mod future;
mod gateway;
mod item;
mod limit;
mod message;
mod name;
mod name_pattern;
mod reservation;
mod reserve_budget;
mod scope;
mod secret;
mod text;
mod version;
mod virtual_tool;
mod work_hold;

pub use crate::availability::{Availability, AvailabilityCheck};
pub use crate::derived_cache::DerivedCache;
pub use address::{ResourceUri, UriTemplate};
pub use backend::{
    Backend, BackendEvent, BackendListener, BackendState, BackendStatus, Inventory, ListFailure,
    MalformedItem, OfferedPrompt, OfferedResource, OfferedTemplate, OfferedTool, StartupProgress,
};
pub use caller::{Caller, Identity, User};
pub use client_key::{ClientHandle, ClientKey};
pub use client_port::{
    AskError, Capability, ClientCapabilities, ClientPort, LogLevel, Question, QuestionKind, SilentClient,
    TASKS_EXTENSION,
};
pub use context::{CallContext, CallOrigin, accounting_address};
pub use credential::{
    Authentication, Authenticator, Challenge, InvalidTokenReason, ProtectedResource, Unauthorized,
};
pub use error::{Cause, Error, RelayedError};
pub use future::BoxFuture;
pub use gateway::{
    Change, ChangeListener, Gateway, GatewayExt, GatewayFuture, GatewayInfo, Overview, SharedGateway,
    SubscriptionGuard,
};
pub use item::{
    HintOverride, Prompt, PromptList, Resource, ResourceList, ResourceTemplate, RoutingTarget, TemplateList,
    Tool, ToolHints, ToolList, ToolOverride,
};
pub use limit::{LimitScope, LimitedOperation, RateLimit, RepeatedCall, Retry};
pub use message::{
    CallTool, Complete, CompletionReference, Continuation, GetPrompt, ReadResource, Reply, ResultType,
    TASK_RESULT_TYPE, TaskHandle, TaskOperation, TaskRequest,
};
pub use name::{BackendId, BackendPromptName, BackendToolName, BackendUri, PromptName, ToolName};
pub use name_pattern::NamePattern;
pub use reservation::Reservation;
pub use reserve_budget::ReserveBudget;
pub use scope::{CallerScope, ChangeAudience, IsolationScope};
pub use secret::Secret;
pub use text::{escape_controls, is_control, is_usable_name};
pub use version::ProtocolVersion;
pub use virtual_tool::{CALL_TOOL, FIND_TOOL, VIRTUAL_NAMES};
pub use work_hold::WorkHold;
