//! What goes wrong between us and a service, and what that means for the one who asked. The text is for the log: it
//! names the host and the status, and nothing that was sent.

use std::error::Error as StdError;
use std::time::Duration;

use http::StatusCode;
use vmcp_optimizer::EmbedError;

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// No answer in time.
    TimedOut,
    /// No connection, or one that broke.
    Connection,
    /// An answer that is not 200.
    Status(StatusCode),
    /// An answer that is not what was asked for.
    Malformed,
    /// Vectors of two models.
    ModelChanged,
}

/// A failure.
#[derive(Clone, Debug)]
pub(crate) struct ServiceFailure {
    pub(crate) kind: FailureKind,
    pub(crate) text: String,
    /// How long the service asks to be left alone.
    pub(crate) retry_after: Option<Duration>,
    /// The same texts go out in smaller batches next time.
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

    /// True when the same request may well succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        self.kind == FailureKind::Connection
            || self.status().is_some_and(|status| matches!(status.as_u16(), 429 | 503))
    }

    /// True when there is nothing at the address.
    pub(crate) fn is_missing(&self) -> bool {
        self.status().is_some_and(|status| matches!(status.as_u16(), 404 | 405 | 501))
    }

    /// True when the request is too large, whatever time it has.
    pub(crate) fn is_too_large(&self) -> bool {
        self.status() == Some(StatusCode::PAYLOAD_TOO_LARGE)
    }

    /// True when it says something about the texts, and nothing about the service.
    pub(crate) fn is_about_texts(&self) -> bool {
        self.status().is_some_and(|status| matches!(status.as_u16(), 400 | 413 | 422))
    }

    /// What the caller is told.
    pub(crate) fn into_error(self) -> EmbedError {
        let away = match self.kind {
            FailureKind::TimedOut | FailureKind::Connection | FailureKind::ModelChanged => true,
            FailureKind::Malformed => false,
            // 424 is TEI's word for an inference that failed.
            FailureKind::Status(status) => match status.as_u16() {
                408 | 424 | 425 | 429 => true,
                501 | 505 => false,
                500..=599 => true,
                _other => false,
            },
        };
        if away || self.retry_smaller {
            EmbedError::Unavailable(self.text)
        } else {
            EmbedError::Refused(self.text)
        }
    }
}

/// An error with its sources in one line: HTTP libraries put the telling part last.
pub(crate) fn error_chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = error.source();
    }
    text
}
