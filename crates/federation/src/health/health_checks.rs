//! The results of the health checks of one backend, for operators. The module
//! [`refresh`](crate::health::refresh) runs the checks.

use tokio::time::Instant;
use vmcp_domain::Error;

/// Why a health check, which is a fetch of the backend's inventory, failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckFailure {
    /// The class of the failure, as in [`vmcp_domain::BackendStatus::last_error`].
    pub class: String,
    /// What went wrong. It may quote the backend's own text, so it is for the operator only.
    pub cause: String,
}

impl CheckFailure {
    /// Builds the failure from an error and its `cause`. Causes of backends have the form `class: text`.
    /// Without a class, the class is `protocol`.
    pub(crate) fn from_error(error: &Error, cause: &str) -> Self {
        let (class, cause) = match (error, cause.split_once(": ")) {
            (Error::DeadlineExceeded | Error::BackendTimedOut { .. }, _) => {
                ("timeout".to_owned(), "no answer within the time of a check".to_owned())
            }
            (_, Some((class, cause))) => (class.to_owned(), cause.to_owned()),
            (Error::BackendRefused { error, .. }, None) => {
                ("protocol".to_owned(), format!("error {}: {}", error.code, error.message))
            }
            (other, None) => ("protocol".to_owned(), other.to_string()),
        };
        Self { class, cause }
    }
}

/// The results of a backend's health checks so far. A backend that uses the callers' own credentials is not
/// checked, so its results stay at the default.
#[derive(Clone, Debug, Default)]
pub struct HealthChecks {
    /// Why the last check failed. `None` if it succeeded.
    pub failure: Option<CheckFailure>,
    /// The number of failed checks since the last successful one.
    pub failures_in_a_row: u32,
    /// When the last check ended. `None` before the first check.
    pub checked_at: Option<Instant>,
    /// The end of the first check of the current run of successes or failures. `None` before the first check.
    pub changed_at: Option<Instant>,
}

impl HealthChecks {
    /// Records the result of a check that ended at `now`.
    pub(crate) fn record(&mut self, failure: Option<CheckFailure>, now: Instant) {
        if self.checked_at.is_none() || self.failure.is_some() != failure.is_some() {
            self.changed_at = Some(now);
        }
        self.checked_at = Some(now);
        self.failures_in_a_row = if failure.is_some() { self.failures_in_a_row.saturating_add(1) } else { 0 };
        self.failure = failure;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn failures_in_a_row_are_counted_and_changes_dated() {
        let mut checks = HealthChecks::default();
        let failure = || Some(CheckFailure { class: "status".to_owned(), cause: "500".to_owned() });
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        for (second, failure, failures, changed) in
            [(1, None, 0, 1), (2, failure(), 1, 2), (3, failure(), 2, 2), (4, None, 0, 4), (5, None, 0, 4)]
        {
            checks.record(failure, at(second));
            assert_eq!(checks.failures_in_a_row, failures, "{second}");
            assert_eq!((checks.checked_at, checks.changed_at), (Some(at(second)), Some(at(changed))));
        }
    }
}
