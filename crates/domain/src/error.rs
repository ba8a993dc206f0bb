//! Every way a request can fail, named by what the receiver can do about it. `vmcp-wire` defines how each
//! error is answered on the wire.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use vmcp_json::Json;

use crate::catalogue::address::ResourceUri;
use crate::catalogue::name::{BackendId, PromptName, ToolName};
use crate::limit::{RateLimit, RepeatedCall};
use crate::request::client_port::Capability;

/// The internal cause of an error. It goes to the log and never to a client.
#[derive(Clone, Default)]
pub struct Cause(Option<Arc<str>>);

impl Cause {
    /// A cause with this text.
    pub fn new(text: impl fmt::Display) -> Self {
        Self(Some(text.to_string().into()))
    }

    /// The text for the log, or a placeholder when no cause was recorded.
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

/// A backend's own JSON-RPC error, relayed unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayedError {
    /// The backend's error code.
    pub code: i64,
    /// The backend's error message, meant for the client.
    pub message: String,
    /// The backend's error data, meant for the client.
    pub data: Option<Json>,
}

/// What a limit needs to know of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequiredIdentity {
    /// An identity.
    Identity,
    /// The claim of this name.
    Claim(String),
}

impl fmt::Display for RequiredIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => f.write_str("identity"),
            Self::Claim(name) => write!(f, "claim `{name}`"),
        }
    }
}

/// Why a request got no result.
///
/// A tool that ran and failed is not an error: it is a [`crate::Reply`] with
/// [`is_error`](crate::Reply::is_error) set. The text of each variant is for the client, so it contains no
/// address and no internal detail.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Policy denies the request, or there is no credential for this caller at the backend. With an
    /// authorisation layer it also means that the item does not exist.
    #[error("denied by policy")]
    Denied,
    /// A limit counts by identity or by a claim, and this caller does not have it. The call did not happen.
    #[error("this call is limited for each caller, and this caller has no {0}; it needs to sign in with one")]
    IdentityRequired(RequiredIdentity),
    /// A rate limit refuses the call for now. Nothing was charged and the call did not happen.
    #[error("{0}")]
    RateLimited(Box<RateLimit>),
    /// The same call had the same outcome too often in a row, so it was not made again.
    #[error("{0}")]
    Looping(Box<RepeatedCall>),
    /// Limits apply but cannot be checked now, and the operator configured refusal for this case. The call
    /// did not happen.
    #[error("limits cannot be checked right now; try again in a few seconds")]
    LimitsUnavailable,
    /// The caller sees no tool of this name.
    #[error("tool \"{0}\" not found")]
    UnknownTool(ToolName),
    /// The caller sees no resource of this URI.
    #[error("resource \"{0}\" not found")]
    UnknownResource(ResourceUri),
    /// The caller sees no prompt of this name.
    #[error("prompt \"{0}\" not found")]
    UnknownPrompt(PromptName),
    /// The task does not exist, or it belongs to a tool that the caller does not see.
    #[error("no such task, or none of yours")]
    UnknownTask,
    /// The request itself is invalid. The text says which part.
    #[error("{0}")]
    InvalidRequest(String),
    /// The client has not declared a capability that the request needs: to answer a question of the backend,
    /// or to follow a task.
    #[error("this request needs the client capability `{0}`")]
    MissingCapability(Capability),
    /// The backend is not reachable now, its circuit is open, or it rejected the request. The call did not
    /// happen.
    #[error("backend `{backend}` is unavailable; try again later")]
    BackendUnavailable {
        /// The backend's configured name.
        backend: BackendId,
        /// The reason, for the log.
        cause: Cause,
        /// True when the backend read the request and rejected it. By default a limit refunds the call only
        /// when this is false.
        was_read: bool,
    },
    /// The backend asked for a pause (`Retry-After`). The call did not happen.
    #[error("backend `{backend}` asks to be called less; try again in {} seconds", retry_after.as_secs().saturating_add(u64::from(retry_after.subsec_nanos() > 0)))]
    BackendBusy {
        /// The backend's configured name.
        backend: BackendId,
        /// The time after which the backend may be called again.
        retry_after: Duration,
        /// True when the backend read this request and answered it with the pause. False when an earlier
        /// answer set the pause, so that this request was not sent.
        was_read: bool,
    },
    /// The backend has reached its maximum of connections for single callers. The call did not happen.
    #[error("no connection to backend `{backend}` is free for another caller; try again in a few seconds")]
    BackendFull {
        /// The backend's configured name.
        backend: BackendId,
    },
    /// The backend was reached and failed. The call may or may not have happened.
    #[error("backend `{backend}` failed to answer")]
    BackendFailed {
        /// The backend's configured name.
        backend: BackendId,
        /// The failure, for the log.
        cause: Cause,
    },
    /// The backend answered with a JSON-RPC error.
    #[error("{}", error.message)]
    BackendRefused {
        /// The backend's configured name.
        backend: BackendId,
        /// The backend's error.
        error: RelayedError,
    },
    /// The backend requires a credential that was not sent, or rejects the one that was sent. The call did
    /// not happen.
    #[error(
        "backend `{backend}` refuses the gateway's credentials, or was shown none; its operator has to set them"
    )]
    BackendUnauthorized {
        /// The backend's configured name.
        backend: BackendId,
        /// The backend's answer, for the log.
        cause: Cause,
    },
    /// The backend did not answer within its time-out. The call may or may not have happened.
    #[error(
        "backend `{backend}` did not answer within {}; `timeout` of the backend or `operational.timeouts` allows more",
        format_seconds(*after)
    )]
    BackendTimedOut {
        /// The backend's configured name.
        backend: BackendId,
        /// How long the gateway waited.
        after: Duration,
    },
    /// The deadline of the request passed before an answer came. The call may or may not have happened.
    #[error("no answer in time")]
    DeadlineExceeded,
    /// The client cancelled the request.
    #[error("cancelled")]
    Cancelled,
    /// The gateway is at one of its own maxima, for example of in-flight calls. The call did not happen.
    #[error("the gateway is overloaded; try again later")]
    Overloaded,
    /// A fault of the gateway itself. The cause goes to the log.
    #[error("internal error")]
    Internal(Cause),
}

/// Formats a duration in seconds: with one decimal place below a minute when it has a fraction, else in whole
/// seconds.
fn format_seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 || duration.as_secs() >= 60 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

impl Error {
    /// True if no backend read the request: it was refused before, or could not be sent. Refusals by limits are not
    /// among them.
    #[must_use]
    pub fn was_not_sent(&self) -> bool {
        matches!(
            self,
            Self::BackendUnavailable { was_read: false, .. }
                | Self::BackendBusy { was_read: false, .. }
                | Self::BackendFull { .. }
                | Self::UnknownTool(_)
                | Self::UnknownResource(_)
                | Self::UnknownPrompt(_)
                | Self::Denied
                | Self::IdentityRequired(_)
                | Self::Overloaded
        )
    }

    /// The error's class: a label from a fixed set, for metrics, logs and `/status`.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::IdentityRequired(_) => "identity_required",
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

    /// The internal cause for the log, for the variants that carry one.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::BackendUnavailable { cause, .. }
            | Self::BackendFailed { cause, .. }
            | Self::BackendUnauthorized { cause, .. }
            | Self::Internal(cause) => Some(cause),
            Self::Denied
            | Self::IdentityRequired(_)
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
