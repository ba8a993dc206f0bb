//! What a script learns of a request that failed.

use std::fmt::Display;

use vmcp_domain::Error;
use vmcp_script_worker::Failure;

/// The code of a refusal by a limit, as in HTTP.
pub(crate) const LIMITED: i64 = 429;

/// A failure with a text only.
pub(super) fn message(text: impl Display) -> Failure {
    Failure { message: text.to_string(), ..Failure::default() }
}

/// A tool that does not exist, that this caller may not see, or that scripts may not call.
pub(super) fn unknown_tool(name: &str) -> Failure {
    message(format!("no tool \"{name}\""))
}

/// The failure of a call.
pub(crate) fn of_error(error: &Error) -> Failure {
    let (code, retry_after) = match error {
        Error::RateLimited(limit) => (Some(LIMITED), limit.retry_after()),
        Error::BackendBusy { retry_after, .. } => (Some(LIMITED), Some(*retry_after)),
        Error::Looping(repeated) => (Some(LIMITED), Some(repeated.retry_after)),
        Error::BackendRefused { error, .. } => (Some(error.code), None),
        Error::Denied
        | Error::IdentityRequired(_)
        | Error::LimitsUnavailable
        | Error::UnknownTool(_)
        | Error::UnknownResource(_)
        | Error::UnknownPrompt(_)
        | Error::UnknownTask
        | Error::InvalidRequest(_)
        | Error::MissingCapability(_)
        | Error::BackendUnavailable { .. }
        | Error::BackendFull { .. }
        | Error::BackendFailed { .. }
        | Error::BackendUnauthorized { .. }
        | Error::BackendTimedOut { .. }
        | Error::DeadlineExceeded
        | Error::Cancelled
        | Error::Overloaded
        | Error::Internal(_) => (None, None),
    };
    let retry_after_ms = retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    Failure { message: error.to_string(), code, retry_after_ms }
}
