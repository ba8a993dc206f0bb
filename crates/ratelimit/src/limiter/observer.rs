//! What the limiter reports of its decisions, for metrics and logs. No user is ever named.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use vmcp_domain::{LimitScope, LimitedOperation, RateLimit};
use vmcp_timing::Micros;

use crate::shared::store::StoreFailure;

/// One decision.
#[derive(Clone, Debug)]
pub struct DecisionEvent<'a> {
    /// The tool of the call, or the other operation that was requested.
    pub limited: &'a LimitedOperation,
    /// When the call reached the limiter, by the limiter's clock. A call that does not wait is decided at
    /// this moment.
    pub at: Micros,
    /// Whether the call is admitted.
    pub allowed: bool,
    /// The scope of the refusing rule; `None` for an admitted call.
    pub scope: Option<LimitScope>,
    /// The scope of each bucket of the call, without those in shadow mode.
    pub checked_scopes: SmallVec<[LimitScope; 4]>,
    /// The refusal by a limit; `None` for an admitted call, and for one that was refused for another reason.
    pub refusal: Option<&'a RateLimit>,
    /// The rules in shadow mode that would have refused, each once.
    pub would_refuse: SmallVec<[Arc<str>; 2]>,
    /// The call was admitted because the store did not answer (fail open).
    pub fail_open: bool,
    /// How long the decision took, without the time that the call waited.
    pub decision_time: Duration,
}

impl<'a> DecisionEvent<'a> {
    /// A decision that has admitted nothing yet.
    #[must_use]
    pub fn new(limited: &'a LimitedOperation, at: Micros) -> Self {
        Self {
            limited,
            at,
            allowed: false,
            scope: None,
            checked_scopes: SmallVec::new(),
            refusal: None,
            would_refuse: SmallVec::new(),
            fail_open: false,
            decision_time: Duration::ZERO,
        }
    }
}

/// How a call's wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitOutcome {
    /// The call was admitted.
    Admitted,
    /// The call would not have been admitted in time, or was refused.
    Refused,
    /// The client cancelled the call or disconnected.
    Cancelled,
}

impl WaitOutcome {
    /// The label in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Receives the limiter's decisions. It is called on the call's own path, so it must not block.
pub trait Observer: Send + Sync {
    /// A decision was made.
    fn on_decision(&self, event: &DecisionEvent<'_>);
    /// The shared store did not answer.
    fn on_store_failure(&self, failure: StoreFailure);
    /// The payment of the current task's call was refunded. The reason is from a fixed set: the class of the
    /// call's error, or `unused` for reserved budget that was not spent.
    fn on_refund(&self, reason: &'static str);
    /// A call begins to wait for a limit.
    fn on_wait_start(&self);
    /// A call has ended its wait, after the time `waited`.
    fn on_wait_end(&self, end: WaitOutcome, waited: Duration);
}

/// An observer that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn on_decision(&self, _event: &DecisionEvent<'_>) {}

    fn on_store_failure(&self, _failure: StoreFailure) {}

    fn on_refund(&self, _reason: &'static str) {}

    fn on_wait_start(&self) {}

    fn on_wait_end(&self, _end: WaitOutcome, _waited: Duration) {}
}
