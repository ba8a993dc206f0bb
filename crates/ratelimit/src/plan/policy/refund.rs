//! Refunds for failed calls. A call that certainly never reached its backend is refunded. If the backend has
//! read the request, the call stays charged, unless the operator says otherwise.

use vmcp_domain::Error;

/// A failure for which an operator may have tokens refunded although the backend has read the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefundOn {
    /// The backend was busy (HTTP 429), or its answer means that it is not available, such as a redirect.
    Busy,
    /// The backend rejected the credential.
    Unauthorized,
    /// The backend failed to answer.
    Failed,
    /// The backend did not answer before the deadline.
    TimedOut,
}

impl RefundOn {
    /// All failures.
    pub const ALL: [Self; 4] = [Self::Busy, Self::Unauthorized, Self::Failed, Self::TimedOut];

    /// The value in the configuration.
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

/// The error class for which a call is refunded; `None` if it stays charged.
pub(crate) fn refund_reason(error: &Error, also: &[RefundOn]) -> Option<&'static str> {
    (error.was_not_sent() || also.iter().any(|refund| refund.matches(error))).then(|| error.class())
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
