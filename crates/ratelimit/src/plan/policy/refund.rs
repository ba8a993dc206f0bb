//! What is given back for a call that failed. A backend that has read a request is charged for, whatever it made of it; a
//! call that certainly never left is not.

use vmcp_domain::Error;

/// A failure for which an operator may have tokens given back although the backend has read the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefundOn {
    /// The backend asked to be called less, or answered that it cannot be reached so: HTTP 429, a redirect.
    Busy,
    /// It refused the credential.
    Unauthorized,
    /// It failed to answer.
    Failed,
    /// It did not answer in time.
    TimedOut,
}

impl RefundOn {
    /// All.
    pub const ALL: [Self; 4] = [Self::Busy, Self::Unauthorized, Self::Failed, Self::TimedOut];

    /// The word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Unauthorized => "unauthorized",
            Self::Failed => "failed",
            Self::TimedOut => "timedOut",
        }
    }

    fn matches(self, error: &Error) -> bool {
        match self {
            Self::Busy => matches!(error, Error::BackendBusy { .. } | Error::BackendUnavailable { .. }),
            Self::Unauthorized => matches!(error, Error::BackendUnauthorized { .. }),
            Self::Failed => matches!(error, Error::BackendFailed { .. }),
            Self::TimedOut => matches!(error, Error::BackendTimedOut { .. }),
        }
    }
}

/// Why a call is given back: the class of its error. `None` where it stays charged.
pub(crate) fn refund_reason(error: &Error, also: &[RefundOn]) -> Option<&'static str> {
    let never_left = matches!(
        error,
        Error::BackendUnavailable { was_read: false, .. }
            | Error::BackendBusy { was_read: false, .. }
            | Error::BackendFull { .. }
            | Error::UnknownTool(_)
            | Error::UnknownResource(_)
            | Error::UnknownPrompt(_)
            | Error::Denied
            | Error::Overloaded
    );
    (never_left || also.iter().any(|refund| refund.matches(error))).then(|| error.class())
}

#[cfg(test)]
mod tests {
    use vmcp_domain::Cause;

    use super::*;

    #[test]
    fn what_was_read_is_charged_unless_the_operator_says_otherwise() {
        let backend = || "b".into();
        let unavailable =
            |was_read| Error::BackendUnavailable { backend: backend(), cause: Cause::default(), was_read };
        let busy = |was_read| Error::BackendBusy {
            backend: backend(),
            retry_after: std::time::Duration::ZERO,
            was_read,
        };
        let failed = Error::BackendFailed { backend: backend(), cause: Cause::default() };
        for (error, expected, with_busy) in [
            (unavailable(false), Some("backend_unavailable"), Some("backend_unavailable")),
            (unavailable(true), None, Some("backend_unavailable")),
            (busy(false), Some("backend_busy"), Some("backend_busy")),
            (busy(true), None, Some("backend_busy")),
            (failed, None, None),
        ] {
            assert_eq!(refund_reason(&error, &[]), expected, "{error:?}");
            assert_eq!(refund_reason(&error, &[RefundOn::Busy]), with_busy, "{error:?}");
        }
    }
}
