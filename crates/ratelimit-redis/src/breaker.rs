//! The circuit breaker: after a few failures in a row it opens, and only the keeper asks the store until it
//! answers again.

use std::sync::atomic::{AtomicU32, Ordering};

/// The number of failures in a row that opens the circuit.
const FAILURES_MAX: u32 = 3;

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: AtomicU32,
}

impl Breaker {
    /// True while the circuit is open.
    pub(crate) fn is_open(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= FAILURES_MAX
    }

    /// True when the last recorded outcome was a success.
    pub(crate) fn is_clear(&self) -> bool {
        self.failures.load(Ordering::Relaxed) == 0
    }

    /// Records a failure. True when it is the one that opens the circuit.
    pub(crate) fn record_failure(&self) -> bool {
        let count = |failures: u32| Some(failures.saturating_add(1));
        let before = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
        before.unwrap_or(u32::MAX).saturating_add(1) == FAILURES_MAX
    }

    /// Records a success, which closes the circuit.
    pub(crate) fn record_success(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_at_the_third_failure_in_a_row_and_closes_at_an_answer() {
        let breaker = Breaker::default();
        assert!(!breaker.record_failure() && !breaker.record_failure());
        breaker.record_success();
        assert!(!breaker.record_failure() && !breaker.record_failure() && !breaker.is_open());
        assert!(breaker.record_failure());
        assert!(breaker.is_open());
        assert!(!breaker.record_failure(), "it opens once");
        breaker.record_success();
        assert!(!breaker.is_open());
    }
}
