//! Requests and replies as they cross the seam. Payloads are raw JSON; members that belong to one hop
//! (`resultType`, reserved `_meta` keys, caching hints) have been taken off by `vmcp-wire` and are put on again there.

use std::time::Duration;

use crate::address::{ResourceUri, UriTemplate};
use crate::json::{Json, Members};
use crate::name::{BackendId, PromptName, ToolName};

/// What a client adds when it retries a request that needed input (2026-07-28, multi round-trip requests).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Continuation {
    /// The client's answers, keyed as the questions were.
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

/// `tools/call`.
#[derive(Clone, Debug)]
pub struct CallTool {
    /// The advertised name.
    pub name: ToolName,
    /// The arguments object, if any was sent.
    pub arguments: Option<Json>,
    /// Answers of an earlier round.
    pub continuation: Continuation,
    /// Further parameters that the gateway does not know, to be passed on.
    pub extra: Members,
}

/// `resources/read`.
#[derive(Clone, Debug)]
pub struct ReadResource {
    /// The resource to read.
    pub uri: ResourceUri,
    /// Answers of an earlier round.
    pub continuation: Continuation,
    /// Further parameters that the gateway does not know, to be passed on.
    pub extra: Members,
}

/// `prompts/get`.
#[derive(Clone, Debug)]
pub struct GetPrompt {
    /// The advertised name.
    pub name: PromptName,
    /// The arguments object, if any was sent.
    pub arguments: Option<Json>,
    /// Answers of an earlier round.
    pub continuation: Continuation,
    /// Further parameters that the gateway does not know, to be passed on.
    pub extra: Members,
}

/// What a completion is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompletionReference {
    /// An argument of a prompt.
    Prompt(PromptName),
    /// A variable of a resource template, by its URI template.
    Template(UriTemplate),
}

/// `completion/complete`.
#[derive(Clone, Debug)]
pub struct Complete {
    /// What is being completed.
    pub reference: CompletionReference,
    /// Every parameter but the reference and `_meta`, as sent.
    pub extra: Members,
}

/// A task that a backend made of a tool call, as the gateway tells it from others (tasks extension, SEP-2663).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskHandle {
    /// The backend that works on it.
    pub backend: BackendId,
    /// The advertised name of the tool that was called.
    pub tool: ToolName,
    /// The backend's own identifier.
    pub id: String,
}

impl TaskHandle {
    /// The handle as text that [`TaskHandle::parse`] reads.
    #[must_use]
    pub fn to_text(&self) -> String {
        let parts = [self.backend.as_str(), self.tool.as_str(), &self.id];
        Json::encode(&parts).unwrap_or_else(|_| Json::empty_object()).as_str().to_owned()
    }

    /// The handle that `text` stands for; `None` when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let [backend, tool, id]: [String; 3] = Json::parse(text.to_owned()).ok()?.decode().ok()?;
        Some(Self { backend: backend.into(), tool: tool.into(), id })
    }
}

/// What is wanted of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskOperation {
    /// `tasks/get`: how far it has come.
    Get,
    /// `tasks/update`: the answers it asked for.
    Update,
    /// `tasks/cancel`: it need not go on.
    Cancel,
}

/// `tasks/get`, `tasks/update` or `tasks/cancel`.
#[derive(Clone, Debug)]
pub struct TaskRequest {
    /// What is wanted.
    pub operation: TaskOperation,
    /// Of which task.
    pub handle: TaskHandle,
    /// Every parameter but the identifier and `_meta`, as sent.
    pub extra: Members,
}

/// The result type of a call that became a task.
pub const TASK_RESULT_TYPE: &str = "task";

/// How far a reply has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultType {
    /// The request is done.
    Complete,
    /// The request needs input from the client and is to be retried with it (2026-07-28 only).
    InputRequired,
    /// A result type of an extension, passed on by name.
    Extension(String),
}

/// The result object of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The result's members, without those that belong to one hop.
    pub members: Members,
    /// True for a tool that ran and failed (the result says so itself; this saves looking).
    pub is_error: bool,
    /// How far the request has come.
    pub result_type: ResultType,
    /// How long the backend says the result stays fresh, where it said so.
    pub ttl: Option<Duration>,
}

impl Reply {
    /// A finished, successful reply.
    #[must_use]
    pub fn complete(members: Members) -> Self {
        Self { members, is_error: false, result_type: ResultType::Complete, ttl: None }
    }

    /// True when the backend goes on with the call as a task.
    #[must_use]
    pub fn is_task(&self) -> bool {
        matches!(&self.result_type, ResultType::Extension(name) if name == TASK_RESULT_TYPE)
    }
}
