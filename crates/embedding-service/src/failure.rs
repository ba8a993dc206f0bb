//! Failures of a service, and the errors that the caller receives for them. The text is for the log: it
//! contains the host and the status, and nothing that was sent.

use std::time::Duration;

use http::StatusCode;
use vmcp_optimizer::EmbedError;

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// No response in time.
    TimedOut,
    /// No connection, or a broken one.
    Connection,
    /// A response with a status other than 200.
    Status(StatusCode),
    /// A response that cannot be interpreted.
    Malformed,
    /// The responses contain vectors of different models.
    ModelChanged,
}

/// A failed request to a service, or a failed exchange of several requests.
#[derive(Clone, Debug)]
pub(crate) struct ServiceFailure {
    pub(crate) kind: FailureKind,
    pub(crate) text: String,
    /// The delay in the service's `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
    /// The batch size was reduced, so a retry sends the same texts in smaller batches.
    pub(crate) retry_smaller: bool,
}

impl ServiceFailure {
    pub(crate) fn new(kind: FailureKind, text: String) -> Self {
        Self { kind, text, retry_after: None, retry_smaller: false }
    }

    fn status(&self) -> Option<StatusCode> {
        match self.kind {
            FailureKind::Status(status) => Some(status),
            FailureKind::TimedOut
            | FailureKind::Connection
            | FailureKind::Malformed
            | FailureKind::ModelChanged => None,
        }
    }

    /// True when the same request may succeed shortly after.
    pub(crate) fn is_transient(&self) -> bool {
        self.kind == FailureKind::Connection
            || self.status().is_some_and(|status| matches!(status.as_u16(), 429 | 503))
    }

    /// True when the address has no such endpoint.
    pub(crate) fn is_missing(&self) -> bool {
        self.status().is_some_and(|status| matches!(status.as_u16(), 404 | 405 | 501))
    }

    /// True when the request is too large, whatever its time-out.
    pub(crate) fn is_too_large(&self) -> bool {
        self.status() == Some(StatusCode::PAYLOAD_TOO_LARGE)
    }

    /// True when the failure concerns the texts and not the service.
    pub(crate) fn is_about_texts(&self) -> bool {
        self.status().is_some_and(|status| matches!(status.as_u16(), 400 | 413 | 422))
    }

    /// The error for the caller: unavailable if a later attempt may succeed, else refused.
    pub(crate) fn into_error(self) -> EmbedError {
        let is_unavailable = match self.kind {
            FailureKind::TimedOut | FailureKind::Connection | FailureKind::ModelChanged => true,
            FailureKind::Malformed => false,
            // TEI returns 424 when an inference failed.
            FailureKind::Status(status) => match status.as_u16() {
                408 | 424 | 425 | 429 => true,
                501 | 505 => false,
                500..=599 => true,
                _other => false,
            },
        };
        if is_unavailable || self.retry_smaller {
            EmbedError::Unavailable(self.text)
        } else {
            EmbedError::Refused(self.text)
        }
    }
}
