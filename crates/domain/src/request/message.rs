//! Requests and replies as they cross [`Gateway`](crate::Gateway). Payloads are raw JSON. `vmcp-wire` removes
//! the members that belong to one hop (`resultType`, reserved `_meta` keys, caching hints) and writes them
//! again.

use std::time::Duration;

use vmcp_json::{Json, Members};

use crate::catalogue::address::{ResourceUri, UriTemplate};
use crate::catalogue::name::{BackendId, PromptName, ToolName};

/// What a client adds when it retries a request that required input (2026-07-28, multi round-trip requests).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Continuation {
    /// The client's answers, under the keys of the questions.
    pub input_responses: Option<Json>,
    /// The opaque state of the earlier round, as text.
    pub request_state: Option<String>,
}

impl Continuation {
    /// True for a first attempt, which carries neither.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.input_responses.is_none() && self.request_state.is_none()
    }
}

/// The parameters of `tools/call`.
#[derive(Clone, Debug)]
pub struct CallTool {
    /// The advertised name of the tool.
    pub name: ToolName,
    /// The arguments object, if the client sent one.
    pub arguments: Option<Json>,
    /// The client's answers and the state of an earlier round.
    pub continuation: Continuation,
    /// Further parameters that the gateway does not know; they are forwarded.
    pub extra: Members,
}

impl CallTool {
    /// A first attempt without further parameters.
    #[must_use]
    pub fn new(name: ToolName, arguments: Option<Json>) -> Self {
        Self { name, arguments, continuation: Continuation::default(), extra: Members::new() }
    }
}

/// The parameters of `resources/read`.
#[derive(Clone, Debug)]
pub struct ReadResource {
    /// The resource to read.
    pub uri: ResourceUri,
    /// The client's answers and the state of an earlier round.
    pub continuation: Continuation,
    /// Further parameters that the gateway does not know; they are forwarded.
    pub extra: Members,
}

/// The parameters of `prompts/get`.
#[derive(Clone, Debug)]
pub struct GetPrompt {
    /// The advertised name of the prompt.
    pub name: PromptName,
    /// The arguments object, if the client sent one.
    pub arguments: Option<Json>,
    /// The client's answers and the state of an earlier round.
    pub continuation: Continuation,
    /// Further parameters that the gateway does not know; they are forwarded.
    pub extra: Members,
}

/// What a completion refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompletionReference {
    /// An argument of a prompt.
    Prompt(PromptName),
    /// A variable of a resource template, which is named by its text.
    Template(UriTemplate),
}

/// The parameters of `completion/complete`.
#[derive(Clone, Debug)]
pub struct Complete {
    /// The prompt or template that is completed.
    pub reference: CompletionReference,
    /// All parameters but the reference and `_meta`, as sent.
    pub extra: Members,
}

/// Identifies a task that a backend made of a tool call (tasks extension, SEP-2663). Task identifiers of
/// different backends may collide, so the handle adds the backend and the tool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskHandle {
    /// The backend that runs the task.
    pub backend: BackendId,
    /// The advertised name of the tool that was called.
    pub tool: ToolName,
    /// The backend's own task identifier.
    pub id: String,
}

impl TaskHandle {
    /// Encodes the handle as text that [`TaskHandle::parse`] reads.
    #[must_use]
    pub fn to_text(&self) -> String {
        let parts = [self.backend.as_str(), self.tool.as_str(), &self.id];
        Json::encode(&parts).unwrap_or_else(|_| Json::empty_object()).as_str().to_owned()
    }

    /// Decodes a handle; `None` when `text` is no handle.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let [backend, tool, id]: [String; 3] = Json::parse(text.to_owned()).ok()?.decode().ok()?;
        Some(Self { backend: backend.into(), tool: tool.into(), id })
    }
}

/// An operation on a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskOperation {
    /// `tasks/get`: returns the task's state.
    Get,
    /// `tasks/update`: sends the answers that the task asked for.
    Update,
    /// `tasks/cancel`: the backend may stop the task.
    Cancel,
}

/// The parameters of `tasks/get`, `tasks/update` or `tasks/cancel`.
#[derive(Clone, Debug)]
pub struct TaskRequest {
    /// The operation.
    pub operation: TaskOperation,
    /// The task.
    pub handle: TaskHandle,
    /// All parameters but the identifier and `_meta`, as sent.
    pub extra: Members,
}

/// The result type of a call that became a task.
pub const TASK_RESULT_TYPE: &str = "task";

/// The `resultType` of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultType {
    /// The request is complete.
    Complete,
    /// The request needs input from the client, which is to retry it with that input (2026-07-28 only).
    InputRequired,
    /// A result type of an extension, relayed by name.
    Extension(String),
}

/// The result object of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The result's members, without those that belong to one hop.
    pub members: Members,
    /// True for a tool that ran and failed. The result says so itself in `isError`; this field saves the
    /// lookup.
    pub is_error: bool,
    /// The type of the result.
    pub result_type: ResultType,
    /// How long the result stays fresh, when the backend says so.
    pub ttl: Option<Duration>,
}

impl Reply {
    /// A complete, successful reply.
    #[must_use]
    pub fn complete(members: Members) -> Self {
        Self { members, is_error: false, result_type: ResultType::Complete, ttl: None }
    }

    /// True when the backend continues the call as a task.
    #[must_use]
    pub fn is_task(&self) -> bool {
        matches!(&self.result_type, ResultType::Extension(name) if name == TASK_RESULT_TYPE)
    }
}
