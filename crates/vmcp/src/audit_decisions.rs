//! Passes the limiter's decisions to the audit records. The limiter and the records know nothing of each other.

use std::sync::Arc;
use std::time::Duration;

use vmcp_audit::{CapturedDecision, capture_decision, capture_refund};
use vmcp_ratelimit::{DecisionEvent, Observer, StoreFailure, WaitOutcome};
use vmcp_timing::Clock;

/// An observer that also passes each decision to the record of its call.
pub(crate) struct CapturingObserver {
    inner: Arc<dyn Observer>,
    clock: Arc<dyn Clock>,
}

impl CapturingObserver {
    /// Wraps `inner`, which still receives every event. `clock` is the limiter's clock.
    pub(crate) fn wrap(inner: Arc<dyn Observer>, clock: Arc<dyn Clock>) -> Arc<dyn Observer> {
        Arc::new(Self { inner, clock })
    }
}

impl Observer for CapturingObserver {
    fn on_decision(&self, event: &DecisionEvent<'_>) {
        self.inner.on_decision(event);
        capture_decision(|| CapturedDecision {
            at: event.at,
            allowed: event.allowed,
            refusal: event.refusal.cloned(),
            would_refuse: event.would_refuse.len(),
            fail_open: event.fail_open,
            waited_us: self.clock.now().since(event.at),
        });
    }

    fn on_store_failure(&self, failure: StoreFailure) {
        self.inner.on_store_failure(failure);
    }

    fn on_refund(&self, reason: &'static str) {
        self.inner.on_refund(reason);
        capture_refund();
    }

    fn on_wait_start(&self) {
        self.inner.on_wait_start();
    }

    fn on_wait_end(&self, end: WaitOutcome, waited: Duration) {
        self.inner.on_wait_end(end, waited);
    }
}

#[cfg(test)]
pub(crate) mod tests;
