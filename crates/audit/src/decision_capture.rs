//! Passes the limiter's decision about a call to the record of that call. The limiter reports a decision on
//! the task of the call, so a task-local [`DecisionCapture`] can store it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use vmcp_domain::RateLimit;
use vmcp_timing::Micros;

tokio::task_local! {
    /// The capture of the real call that this task makes.
    static CAPTURE: Arc<DecisionCapture>;
}

/// The limiter's decision about one call, and whether the tokens were refunded.
#[derive(Debug, Default)]
pub(crate) struct DecisionCapture {
    decision: OnceLock<CapturedDecision>,
    refunded: AtomicBool,
}

/// The limiter's decision, without borrowed data.
#[derive(Clone, Debug)]
pub struct CapturedDecision {
    /// When the limiter decided, by its clock.
    pub at: Micros,
    /// Whether the call was admitted.
    pub allowed: bool,
    /// The rule that refused it.
    pub refusal: Option<RateLimit>,
    /// The number of rules in shadow mode that would have refused it.
    pub would_refuse: usize,
    /// The call was admitted because the store did not answer.
    pub fail_open: bool,
    /// How long the call waited in the queue, in microseconds.
    pub waited_us: u64,
}

impl DecisionCapture {
    /// Runs a call with this capture as the task-local one.
    pub(crate) async fn scope<T>(self: &Arc<Self>, call: impl Future<Output = T>) -> T {
        CAPTURE.scope(self.clone(), call).await
    }

    pub(crate) fn decision(&self) -> Option<&CapturedDecision> {
        self.decision.get()
    }

    pub(crate) fn is_refunded(&self) -> bool {
        self.refunded.load(Ordering::Relaxed)
    }
}

/// Stores the limiter's decision about the call that this task makes. Without a capture the call is one of a
/// virtual tool, which [`AuditedRequests`](crate::AuditedRequests) records as the client requested it;
/// `decision` is then not called.
pub fn capture_decision(decision: impl FnOnce() -> CapturedDecision) {
    let _ = CAPTURE.try_with(|capture| {
        capture.decision.get_or_init(decision);
    });
}

/// Stores that the tokens of the call that this task makes were refunded.
pub fn capture_refund() {
    let _ = CAPTURE.try_with(|capture| capture.refunded.store(true, Ordering::Relaxed));
}
