//! Everything that can go wrong with a request, named by what the receiver can do about it.
//! How each is answered on the wire is `vmcp-wire`'s table.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::address::ResourceUri;
use crate::client_port::Capability;
use crate::json::Json;
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

/// For whom a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitScope {
    /// Everybody, over all tools.
    Server,
    /// Everybody, for one tool or one group of tools.
    Tool,
    /// Everybody with the same value of a claim, such as a team, over all tools.
    Claim,
    /// The same for one tool or one group of tools.
    ClaimTool,
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
            Self::Claim => "claim",
            Self::ClaimTool => "claim_tool",
            Self::User => "user",
            Self::UserTool => "user_tool",
        }
    }
}

/// When a limited call may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After this time, exact to the microsecond, if nobody else spends in between.
    After(Duration),
    /// When a call that is running has ended; nobody can say when.
    WhenReleased,
    /// Never: one call costs more than the limit holds.
    Never,
    /// Never: the limit allows its caller no call.
    Blocked,
}

/// What a limit is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limited {
    /// Calls of a tool.
    Tool(ToolName),
    /// Requests of another method, by its name on the wire.
    Method(&'static str),
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool(name) => name.fmt(f),
            Self::Method(name) => f.write_str(name),
        }
    }
}

/// A refusal by a limit. Names no user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The tool that was to be called, or what else was asked.
    pub limited: Limited,
    /// The rule that takes longest to give way, as the configuration names it.
    pub rule: String,
    /// For whom it counts.
    pub scope: LimitScope,
    /// When the call may be made again.
    pub retry: Retry,
    /// What the rule allows: so many calls in so long a time.
    pub allowance: Option<(u64, Duration)>,
}

impl RateLimit {
    /// The time after which to try again, for forms that need one: a second where nobody can say, none for never.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self.retry {
            Retry::After(wait) => Some(wait),
            Retry::WhenReleased => Some(Duration::from_secs(1)),
            Retry::Never | Retry::Blocked => None,
        }
    }

    /// The same in whole seconds, rounded up and never zero.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after()
            .map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
            .map(|seconds| seconds.max(1))
    }
}

/// A call that goes round in circles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looping {
    /// The tool that was to be called.
    pub tool: ToolName,
    /// How often in a row the call had the same outcome.
    pub count: u32,
    /// The time after which it is made again.
    pub retry_after: Duration,
}

impl fmt::Display for Looping {
    /// A sentence a model can act on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tool, count, retry_after } = self;
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        write!(
            f,
            "Not called: tool `{tool}` was called {count} times in a row with these arguments and gave the same result each \
             time. Use the result you have, change the arguments, or try something else; the same call is made again in \
             {seconds} seconds at the earliest"
        )
    }
}

impl fmt::Display for RateLimit {
    /// A sentence a model can act on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match (&self.limited, self.scope) {
            (Limited::Tool(_), LimitScope::Server) => "no tool of this server can be called".to_owned(),
            (Limited::Tool(tool), LimitScope::Tool) => format!("tool `{tool}` cannot be called by anyone"),
            (Limited::Tool(_), LimitScope::Claim) => {
                "your group cannot call any tool of this server".to_owned()
            }
            (Limited::Tool(tool), LimitScope::ClaimTool) => format!("your group cannot call tool `{tool}`"),
            (Limited::Tool(_), LimitScope::User) => "you cannot call any tool of this server".to_owned(),
            (Limited::Tool(tool), LimitScope::UserTool) => format!("you cannot call tool `{tool}`"),
            (Limited::Method(name), LimitScope::Server | LimitScope::Tool) => {
                format!("nobody can ask for `{name}`")
            }
            (Limited::Method(name), LimitScope::Claim | LimitScope::ClaimTool) => {
                format!("your group cannot ask for `{name}`")
            }
            (Limited::Method(name), LimitScope::User | LimitScope::UserTool) => {
                format!("you cannot ask for `{name}`")
            }
        };
        let one = match &self.limited {
            Limited::Tool(tool) => format!("this call of tool `{tool}`"),
            Limited::Method(name) => format!("this request for `{name}`"),
        };
        match self.retry {
            Retry::After(_) => {
                let seconds = self.retry_after_seconds().unwrap_or(1);
                let plural = if seconds == 1 { "" } else { "s" };
                write!(
                    f,
                    "Rate limit exceeded: {what} for {seconds} second{plural}; wait that long, then try again"
                )
            }
            Retry::WhenReleased => {
                write!(f, "Rate limit exceeded: {what} until a running call has ended; try again in a moment")
            }
            Retry::Never => write!(
                f,
                "Rate limit exceeded: {one} costs more than its limit ever holds; ask for less, or do not try again"
            ),
            Retry::Blocked => {
                write!(f, "Rate limit exceeded: {what}, because an operator has blocked it; do not try again")
            }
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
    /// A limit refuses the call for now; nothing was spent and nothing happened.
    #[error("{0}")]
    RateLimited(Box<RateLimit>),
    /// The same call has had the same outcome too often in a row; it was not made again.
    #[error("{0}")]
    Looping(Box<Looping>),
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
        seconds(*after)
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
fn seconds(duration: Duration) -> String {
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
