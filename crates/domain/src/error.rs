//! Everything that can go wrong with a request, named by what the receiver can do about it.
//! How each is answered on the wire is `vmcp-wire`'s table.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::address::ResourceUri;
use crate::client_port::Capability;
use crate::json::Json;
use crate::limit::{RateLimit, RepeatedCall};
use crate::name::{BackendId, PromptName, ToolName};

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

/// Why a request was not answered with a result.
///
/// A tool that ran and failed is not an error: it is a [`crate::Reply`] marked as failed.
/// The text of each variant is for the client and names no address and no internal.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The caller may not do this.
    #[error("denied by policy")]
    Denied,
    /// A limit refuses the call for now; nothing was spent and nothing happened.
    #[error("{0}")]
    RateLimited(Box<RateLimit>),
    /// The same call has had the same outcome too often in a row; it was not made again.
    #[error("{0}")]
    Looping(Box<RepeatedCall>),
    /// Limits apply but cannot be checked now, and the operator chose to refuse then; nothing happened.
    #[error("limits cannot be checked right now; try again in a few seconds")]
    LimitsUnavailable,
    /// No tool of this name is visible to the caller.
    #[error("tool \"{0}\" not found")]
    UnknownTool(ToolName),
    /// No resource of this URI is visible to the caller.
    #[error("resource \"{0}\" not found")]
    UnknownResource(ResourceUri),
    /// No prompt of this name is visible to the caller.
    #[error("prompt \"{0}\" not found")]
    UnknownPrompt(PromptName),
    /// No task of this identifier is the caller's.
    #[error("no such task, or none of yours")]
    UnknownTask,
    /// The request itself is wrong; the text says where.
    #[error("{0}")]
    InvalidRequest(String),
    /// The client has not declared what the request needs: it cannot answer what the backend asks, or follow a task.
    #[error("this request needs the client capability `{0}`")]
    MissingCapability(Capability),
    /// The backend cannot be reached now; the call did not happen.
    #[error("backend `{backend}` is unavailable; try again later")]
    BackendUnavailable {
        /// Which one.
        backend: BackendId,
        /// Why, for the log.
        cause: Cause,
        /// It has read the request, and refused it.
        was_read: bool,
    },
    /// The backend wants to be left alone for a while; the call did not happen.
    #[error("backend `{backend}` asks to be called less; try again in {} seconds", retry_after.as_secs().saturating_add(u64::from(retry_after.subsec_nanos() > 0)))]
    BackendBusy {
        /// Which one.
        backend: BackendId,
        /// The time after which it may be called again.
        retry_after: Duration,
        /// It has read the request, and said so to it; else it has said so before, and nothing was sent.
        was_read: bool,
    },
    /// The backend has as many connections of single callers as it may have; the call did not happen.
    #[error("no connection to backend `{backend}` is free for another caller; try again in a few seconds")]
    BackendFull {
        /// Which one.
        backend: BackendId,
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
    /// The backend wants a credential that it was not shown, or does not take the one it was shown; nothing happened.
    #[error(
        "backend `{backend}` refuses the gateway's credentials, or was shown none; its operator has to set them"
    )]
    BackendUnauthorized {
        /// Which one.
        backend: BackendId,
        /// What it answered, for the log.
        cause: Cause,
    },
    /// The backend did not answer within its time: the call may or may not have happened.
    #[error(
        "backend `{backend}` did not answer within {}; `timeout` of the backend or `operational.timeouts` allows more",
        format_seconds(*after)
    )]
    BackendTimedOut {
        /// Which one.
        backend: BackendId,
        /// After how long the gateway stopped waiting.
        after: Duration,
    },
    /// No answer came within the time that the request had.
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

/// A duration as people say it.
fn format_seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 || duration.as_secs() >= 60 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

impl Error {
    /// The error's class: a label of bounded variety for metrics, logs and `/status`.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::RateLimited(_) => "rate_limited",
            Self::Looping(_) => "looping",
            Self::LimitsUnavailable => "limits_unavailable",
            Self::UnknownTool(_) => "unknown_tool",
            Self::UnknownResource(_) => "unknown_resource",
            Self::UnknownPrompt(_) => "unknown_prompt",
            Self::UnknownTask => "unknown_task",
            Self::InvalidRequest(_) => "invalid_request",
            Self::MissingCapability(_) => "missing_capability",
            Self::BackendUnavailable { .. } => "backend_unavailable",
            Self::BackendBusy { .. } => "backend_busy",
            Self::BackendFull { .. } => "backend_full",
            Self::BackendFailed { .. } => "backend_failed",
            Self::BackendRefused { .. } => "backend_refused",
            Self::BackendUnauthorized { .. } => "backend_unauthorized",
            Self::BackendTimedOut { .. } => "backend_timed_out",
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
            | Self::BackendUnauthorized { cause, .. }
            | Self::Internal(cause) => Some(cause),
            Self::Denied
            | Self::RateLimited(_)
            | Self::Looping(_)
            | Self::LimitsUnavailable
            | Self::UnknownTool(_)
            | Self::UnknownResource(_)
            | Self::UnknownPrompt(_)
            | Self::UnknownTask
            | Self::InvalidRequest(_)
            | Self::MissingCapability(_)
            | Self::BackendBusy { .. }
            | Self::BackendFull { .. }
            | Self::BackendRefused { .. }
            | Self::BackendTimedOut { .. }
            | Self::DeadlineExceeded
            | Self::Cancelled
            | Self::Overloaded => None,
        }
    }
}
