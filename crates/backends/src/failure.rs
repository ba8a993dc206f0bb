//! Why an exchange with a backend brought no result. The variants distinguish whether the call may have been
//! executed, because a caller needs to know that. The public error contains no address; details go into its
//! cause.

use std::fmt;
use std::time::Duration;

use vmcp_domain::{BackendId, Cause, Error, RelayedError};
use vmcp_http_client::ConnectFault;
use vmcp_wire::jsonrpc::RpcError;

/// The class of a failure, as `/status` shows it: a label with few distinct values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureClass {
    /// No connection could be established.
    Connect(ConnectFault),
    /// No answer within the time-out.
    Timeout,
    /// The response is not valid MCP.
    Protocol,
    /// The response is a page of HTML or XML.
    WebPage,
    /// The backend refused the credentials, or there are none for this caller.
    Auth,
    /// No credential could be obtained: the token endpoint does not answer, or does not match the settings.
    Credential,
    /// The backend answered with an HTTP error of its own.
    Status,
    /// The backend redirected to an address that the gateway does not follow.
    Redirect,
    /// The process could not be started.
    Spawn,
    /// The process ended, or the stream broke off.
    Exited,
    /// An answer was larger than allowed.
    TooLarge,
    /// The connection was closed because health checks kept failing.
    HealthCheck,
    /// The settings of the backend cannot be used, for example an unreadable file of CA certificates.
    Settings,
}

impl FailureClass {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Timeout => "timeout",
            Self::Protocol | Self::WebPage => "protocol",
            Self::Auth => "auth",
            Self::Credential => "credential",
            Self::Status => "status",
            Self::Redirect => "redirect",
            Self::Spawn => "spawn",
            Self::Exited => "exited",
            Self::TooLarge => "too-large",
            Self::HealthCheck => "health-check",
            Self::Settings => "settings",
        }
    }
}

/// Why a request has no result.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The backend answered with an error.
    Refused(RpcError),
    /// The backend refused the request unread, because it no longer knows the connection. After a reconnect
    /// the request may be sent again. Contains the backend's error, if it sent one.
    StaleConnection(FailureClass, Option<RpcError>),
    /// The request was certainly not executed.
    NotSent(FailureClass, String),
    /// The request may have been executed.
    Indeterminate(FailureClass, String),
    /// Too many requests are in flight at this backend; nothing was sent.
    Overloaded,
    /// No slot is free for another caller's connection; nothing was sent.
    ConnectionsFull,
    /// The backend did nothing and requested a pause with `Retry-After`. Contains the pause, and the
    /// backend's error if it sent one.
    Busy(Duration, Option<RpcError>),
    /// A pause that the backend requested before is not over; nothing was sent. Contains the remaining time.
    Paused(Duration),
}

impl Failure {
    pub(crate) fn not_sent(class: FailureClass, cause: impl fmt::Display) -> Self {
        Self::NotSent(class, cause.to_string())
    }

    pub(crate) fn indeterminate(class: FailureClass, cause: impl fmt::Display) -> Self {
        Self::Indeterminate(class, cause.to_string())
    }

    /// True if only this request failed and the connection can serve others. The request was refused, also
    /// for lack of a scope or because it came too soon. Or its answer is late, malformed, too large or an
    /// HTTP error.
    pub(crate) fn is_connection_usable(&self) -> bool {
        use FailureClass::{Auth, Protocol, Status, Timeout, TooLarge, WebPage};
        matches!(
            self,
            Self::Refused(_)
                | Self::Busy(..)
                | Self::Paused(_)
                | Self::NotSent(Auth | Status, _)
                | Self::Indeterminate(Protocol | WebPage | Status | Timeout | TooLarge, _)
        )
    }

    /// The class for `/status`.
    pub(crate) fn class(&self) -> FailureClass {
        match self {
            Self::Refused(_) => FailureClass::Protocol,
            Self::StaleConnection(class, _) | Self::NotSent(class, _) | Self::Indeterminate(class, _) => {
                *class
            }
            Self::Overloaded | Self::ConnectionsFull => FailureClass::Timeout,
            Self::Busy(..) | Self::Paused(_) => FailureClass::Status,
        }
    }

    /// Converts the failure into the public error of the `Backend` trait.
    pub(crate) fn into_error(self, backend: &BackendId) -> Error {
        let backend = backend.clone();
        match self {
            Self::Refused(error) | Self::StaleConnection(_, Some(error)) | Self::Busy(_, Some(error)) => {
                Error::BackendRefused {
                    backend,
                    error: RelayedError { code: error.code, message: error.message, data: error.data },
                }
            }
            Self::StaleConnection(class, None) => Error::BackendUnavailable {
                backend,
                cause: Cause::new(format_args!("{}: the connection is not known there", class.as_str())),
                was_read: true,
            },
            Self::NotSent(FailureClass::Auth, cause) => {
                let cause = Cause::new(format_args!("{}: {cause}", FailureClass::Auth.as_str()));
                Error::BackendUnauthorized { backend, cause }
            }
            Self::NotSent(class, cause) => Error::BackendUnavailable {
                backend,
                cause: Cause::new(format_args!("{}: {cause}", class.as_str())),
                // The backend answered with a status that says that it did nothing.
                was_read: matches!(class, FailureClass::Status | FailureClass::Redirect),
            },
            Self::Indeterminate(class, cause) => Error::BackendFailed {
                backend,
                cause: Cause::new(format_args!("{}: {cause}", class.as_str())),
            },
            Self::Overloaded => Error::Overloaded,
            Self::ConnectionsFull => Error::BackendFull { backend },
            Self::Busy(retry_after, None) => Error::BackendBusy { backend, retry_after, was_read: true },
            Self::Paused(retry_after) => Error::BackendBusy { backend, retry_after, was_read: false },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "refused with code {}", error.code),
            Self::StaleConnection(..) => f.write_str("the connection is not known there"),
            Self::NotSent(_, cause) | Self::Indeterminate(_, cause) => f.write_str(cause),
            Self::Overloaded => f.write_str("too much is under way"),
            Self::ConnectionsFull => f.write_str("the limit of connections per caller is reached"),
            Self::Busy(..) | Self::Paused(_) => f.write_str("it asked for a pause"),
        }
    }
}
