//! Everything that can go wrong with a request, named by what the receiver can do about it.
//! How each is answered on the wire is `vmcp-wire`'s table.

use std::fmt;
use std::sync::Arc;

use crate::client_port::QuestionKind;
use crate::json::Json;
use crate::name::{BackendId, PromptName, ResourceUri, ToolName};

/// The private side of an error: for the log, never for a client.
#[derive(Clone, Default)]
pub struct Cause(Option<Arc<str>>);

impl Cause {
    /// A cause in words.
    pub fn new(text: impl fmt::Display) -> Self {
        Self(Some(text.to_string().into()))
    }

    /// The words, for the log.
    #[must_use]
    pub fn for_log(&self) -> &str {
        self.0.as_deref().unwrap_or("no cause recorded")
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.for_log())
    }
}

/// A backend's own JSON-RPC error, passed on as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayedError {
    /// The backend's code.
    pub code: i64,
    /// The backend's message, meant for the client.
    pub message: String,
    /// The backend's data, meant for the client.
    pub data: Option<Json>,
}

/// For whom a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitScope {
    /// Everybody, over all tools.
    Server,
    /// Everybody, for one tool or one group of tools.
    Tool,
    /// One user, over all tools.
    User,
    /// One user, for one tool or one group of tools.
    UserTool,
}

impl LimitScope {
    /// The scope's name in answers, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Tool => "tool",
            Self::User => "user",
            Self::UserTool => "user_tool",
        }
    }
}

/// Why a request was not answered with a result.
///
/// A tool that ran and failed is not an error: it is a [`crate::Reply`] marked as failed.
/// The text of each variant is for the client and names no address and no internal.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The caller may not do this.
    #[error("denied by policy")]
    Denied,
    /// No tool of this name is visible to the caller.
    #[error("tool \"{0}\" not found")]
    UnknownTool(ToolName),
    /// No resource of this URI is visible to the caller.
    #[error("resource \"{0}\" not found")]
    UnknownResource(ResourceUri),
    /// No prompt of this name is visible to the caller.
    #[error("prompt \"{0}\" not found")]
    UnknownPrompt(PromptName),
    /// The request itself is wrong; the text says where.
    #[error("{0}")]
    InvalidRequest(String),
    /// The client cannot answer what the backend needs to ask.
    #[error("this request needs the client capability `{}`", .0.capability())]
    MissingCapability(QuestionKind),
    /// The backend cannot be reached now; the call did not happen.
    #[error("backend `{backend}` is unavailable; try again later")]
    BackendUnavailable {
        /// Which one.
        backend: BackendId,
        /// Why, for the log.
        cause: Cause,
    },
    /// The backend was reached and broke: the call may or may not have happened.
    #[error("backend `{backend}` failed to answer")]
    BackendFailed {
        /// Which one.
        backend: BackendId,
        /// How, for the log.
        cause: Cause,
    },
    /// The backend answered with an error of its own.
    #[error("{}", error.message)]
    BackendRefused {
        /// Which one.
        backend: BackendId,
        /// What it said.
        error: RelayedError,
    },
    /// No answer came in time.
    #[error("no answer in time")]
    DeadlineExceeded,
    /// The client took the request back.
    #[error("cancelled")]
    Cancelled,
    /// The gateway has too much to do; nothing happened.
    #[error("the gateway is overloaded; try again later")]
    Overloaded,
    /// A fault of the gateway itself.
    #[error("internal error")]
    Internal(Cause),
}

impl Error {
    /// The error's class: a label of bounded variety for metrics, logs and `/status`.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::UnknownTool(_) => "unknown_tool",
            Self::UnknownResource(_) => "unknown_resource",
            Self::UnknownPrompt(_) => "unknown_prompt",
            Self::InvalidRequest(_) => "invalid_request",
            Self::MissingCapability(_) => "missing_capability",
            Self::BackendUnavailable { .. } => "backend_unavailable",
            Self::BackendFailed { .. } => "backend_failed",
            Self::BackendRefused { .. } => "backend_refused",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Cancelled => "cancelled",
            Self::Overloaded => "overloaded",
            Self::Internal(_) => "internal",
        }
    }

    /// The private side, where there is one, for the log.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::BackendUnavailable { cause, .. }
            | Self::BackendFailed { cause, .. }
            | Self::Internal(cause) => Some(cause),
            Self::Denied
            | Self::UnknownTool(_)
            | Self::UnknownResource(_)
            | Self::UnknownPrompt(_)
            | Self::InvalidRequest(_)
            | Self::MissingCapability(_)
            | Self::BackendRefused { .. }
            | Self::DeadlineExceeded
            | Self::Cancelled
            | Self::Overloaded => None,
        }
    }
}
