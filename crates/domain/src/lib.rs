//! The words of vmcp and the seam between its parts.
//!
//! Everything a layer may know about MCP stands here: names, requests, replies, the caller, the
//! [`Gateway`] seam that every layer implements, the [`Backend`] contract that transports implement,
//! and the [`ClientPort`] that leads back to the client. No I/O, no async runtime, no clock:
//! how messages look on the wire is `vmcp-wire`'s, how they travel is `vmcp-edge`'s and `vmcp-backends`'.

mod address;
mod backend;
mod caller;
mod client_key;
mod client_port;
mod context;
mod credential;
mod error;
mod foresight;
mod gateway;
mod item;
mod json;
mod limit;
mod message;
mod name;
mod per_list;
mod reservation;
mod scope;
mod secret;
mod text;
mod version;
mod work_hold;

pub use address::{ResourceUri, UriTemplate};
pub use backend::{
    Backend, BackendEvent, BackendListener, BackendState, BackendStatus, FailingList, Inventory, OfferRemark,
    OfferedPrompt, OfferedResource, OfferedTemplate, OfferedTool, Starting,
};
pub use caller::{Caller, Identity, User};
pub use client_key::{ClientKey, ClientLife};
pub use client_port::{
    AskError, Capability, ClientCapabilities, ClientPort, LogLevel, Question, QuestionKind, SilentClient,
    TASKS_EXTENSION,
};
pub use context::{CallContext, Origin, counted_address};
pub use credential::{Admission, Authenticator, Challenge, ProtectedResource, TokenFault, Unauthorized};
pub use error::{Cause, Error, RelayedError};
pub use foresight::{Foresight, Prospect};
pub use gateway::{
    Answer, BoxFuture, Change, ChangeListener, Directory, Following, Gateway, GatewayExt, Overview,
    SharedGateway,
};
pub use item::{
    HintOverride, Prompt, PromptList, Resource, ResourceList, ResourceTemplate, Target, TemplateList, Tool,
    ToolHints, ToolList, ToolOverride,
};
pub use json::{Ambiguity, Json, JsonError, Members, Part, fold, fold_equal};
pub use limit::{LimitScope, Limited, Looping, RateLimit, Retry};
pub use message::{
    CallTool, Complete, CompletionSubject, Continuation, GetPrompt, ReadResource, Reply, Stage, TASK_RESULT,
    TaskHandle, TaskRequest, TaskVerb,
};
pub use name::{BackendId, BackendPromptName, BackendToolName, BackendUri, PromptName, ToolName};
pub use per_list::PerList;
pub use reservation::{Reservation, Reserving};
pub use scope::{Audience, CallerScope, Scope};
pub use secret::Secret;
pub use text::{escape_controls, is_control, is_usable_name};
pub use version::ProtocolVersion;
pub use work_hold::WorkHold;
