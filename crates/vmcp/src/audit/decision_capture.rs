//! Passes the limiter's decision about a call to the record of that call. The limiter notifies its observer
//! on the task of the call, so a task-local [`DecisionCapture`] can store the decision.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use vmcp_domain::RateLimit;
use vmcp_ratelimit::{DecisionEvent, Observer, StoreFailure, WaitOutcome};
use vmcp_timing::{Clock, Micros};

tokio::task_local! {
    /// The capture of the real call that this task makes.
    static CAPTURE: Arc<DecisionCapture>;
}

/// The limiter's decision about one call, and whether the tokens were refunded.
#[derive(Debug, Default)]
pub(super) struct DecisionCapture {
    decision: OnceLock<CapturedDecision>,
    refunded: AtomicBool,
}

/// The limiter's decision, without borrowed data.
#[derive(Clone, Debug)]
pub(super) struct CapturedDecision {
    pub(super) at: Micros,
    pub(super) allowed: bool,
    pub(super) refusal: Option<RateLimit>,
    pub(super) would_refuse: usize,
    pub(super) fail_open: bool,
    pub(super) waited_us: u64,
}

impl DecisionCapture {
    /// Runs a call with this capture as the task-local one.
    pub(super) async fn scope<T>(self: &Arc<Self>, call: impl Future<Output = T>) -> T {
        CAPTURE.scope(self.clone(), call).await
    }

    pub(super) fn decision(&self) -> Option<&CapturedDecision> {
        self.decision.get()
    }

    pub(super) fn is_refunded(&self) -> bool {
        self.refunded.load(Ordering::Relaxed)
    }
}

/// An observer that also stores each decision in the task-local capture.
pub(crate) struct CapturingObserver {
    inner: Arc<dyn Observer>,
    clock: Arc<dyn Clock>,
}

impl CapturingObserver {
    /// Wraps `inner`, which still receives every event.
    pub(crate) fn wrap(inner: Arc<dyn Observer>, clock: Arc<dyn Clock>) -> Arc<dyn Observer> {
        Arc::new(Self { inner, clock })
    }
}

impl Observer for CapturingObserver {
    fn on_decision(&self, event: &DecisionEvent<'_>) {
        self.inner.on_decision(event);
        // Without a capture it is a call of a virtual tool, which `requests` records as the client requested
        // it.
        let _ = CAPTURE.try_with(|slip| {
            slip.decision.get_or_init(|| CapturedDecision {
                at: event.at,
                allowed: event.allowed,
                refusal: event.refusal.cloned(),
                would_refuse: event.would_refuse.len(),
                fail_open: event.fail_open,
                waited_us: self.clock.now().since(event.at),
            });
        });
    }

    fn on_store_failure(&self, failure: StoreFailure) {
        self.inner.on_store_failure(failure);
    }

    fn on_refund(&self, reason: &'static str) {
        self.inner.on_refund(reason);
        let _ = CAPTURE.try_with(|slip| slip.refunded.store(true, Ordering::Relaxed));
    }

    fn on_wait_start(&self) {
        self.inner.on_wait_start();
    }

    fn on_wait_end(&self, end: WaitOutcome, waited: Duration) {
        self.inner.on_wait_end(end, waited);
    }
}
