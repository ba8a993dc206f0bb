//! Counts attempts to connect that fail in the same way. It decides which of them are logged, and when a process
//! that fails in the same way is started again.

use std::time::Duration;

use crate::failure::FailureClass;

/// The number of equal failures after which a process is started at long intervals only.
const FAILURES_BEFORE_PAUSE: u64 = 5;
/// The interval at which such a process is started.
pub(crate) const PROCESS_PAUSE: Duration = Duration::from_mins(10);
/// A failure is logged again when its count is a power of two and at least this.
const LOGGED_AGAIN_FROM: u64 = 16;

/// The failures since the last successful attempt, or since a failure of another kind.
#[derive(Debug, Default)]
pub(crate) struct RepeatedFailures {
    last: Option<(FailureClass, String)>,
    /// The number of equal failures.
    count: u64,
    /// The number of all failures since the last successful attempt.
    total: u64,
}

impl RepeatedFailures {
    /// Records a failure and returns how many equal ones there are by now.
    pub(crate) fn record(&mut self, class: FailureClass, cause: &str) -> u64 {
        let is_equal = self.last.as_ref().is_some_and(|(of, text)| *of == class && text == cause);
        if !is_equal {
            self.last = Some((class, cause.to_owned()));
            self.count = 0;
        }
        self.count += 1;
        self.total += 1;
        self.count
    }

    /// Forgets the failures after a successful attempt. Returns their number.
    pub(crate) fn clear(&mut self) -> u64 {
        std::mem::take(self).total
    }

    /// Whether the process is started again only after [`PROCESS_PAUSE`]. A start costs the machine much more
    /// than a refused connection.
    pub(crate) fn is_process_paused(&self) -> bool {
        let is_start = self.last.as_ref().is_some_and(|(class, _)| {
            matches!(class, FailureClass::Spawn | FailureClass::Exited | FailureClass::Timeout)
        });
        is_start && self.count >= FAILURES_BEFORE_PAUSE
    }
}

/// Whether the failure with this count of equal ones is logged.
pub(crate) fn is_logged(count: u64) -> bool {
    count == 1 || count >= LOGGED_AGAIN_FROM && count.is_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_failures_are_logged_once_and_pause_a_process() {
        let mut failures = RepeatedFailures::default();
        let mut logged = Vec::new();
        for number in 1..=40 {
            if is_logged(failures.record(FailureClass::Exited, "exit status: 3")) {
                logged.push(number);
            }
            assert_eq!(failures.is_process_paused(), number >= 5, "{number}");
        }
        assert_eq!(logged, [1, 16, 32]);
        assert!(
            is_logged(failures.record(FailureClass::Exited, "exit status: 4")),
            "it fails in another way"
        );
        assert!(!failures.is_process_paused());
        assert_eq!(failures.clear(), 41);
        assert!(is_logged(failures.record(FailureClass::Exited, "exit status: 4")));
    }

    #[test]
    fn a_refused_connection_does_not_pause() {
        let mut failures = RepeatedFailures::default();
        for _ in 0..20 {
            failures.record(FailureClass::Status, "503 Service Unavailable");
        }
        assert!(!failures.is_process_paused());
    }
}
