//! What the limiter tells about its decisions, for metrics and logs. No user is ever named.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use vmcp_domain::{LimitScope, LimitedOperation, RateLimit};

use crate::clock::Micros;
use crate::shared::store::StoreFailure;

/// One decision.
#[derive(Clone, Debug)]
pub struct DecisionEvent<'a> {
    /// The tool that was to be called, or what else was asked.
    pub limited: &'a LimitedOperation,
    /// When the call came to the limiter, by the limiter's clock. A call that does not wait is decided at this moment.
    pub at: Micros,
    /// Whether the call may go on.
    pub allowed: bool,
    /// For whom the refusing rule counts; `None` for an allowed call.
    pub scope: Option<LimitScope>,
    /// For whom each bucket of the call counts, without those in shadow mode.
    pub checked_scopes: SmallVec<[LimitScope; 4]>,
    /// The refusal by a limit; `None` for an allowed call, and for one that was refused for another reason.
    pub refusal: Option<&'a RateLimit>,
    /// The rules in shadow mode that would have refused, each once.
    pub would_refuse: SmallVec<[Arc<str>; 2]>,
    /// The call was let through because the store did not answer.
    pub fail_open: bool,
    /// How long the decision took, without what the call waited before it.
    pub decision_time: Duration,
}

impl<'a> DecisionEvent<'a> {
    /// A decision that has not allowed anything yet.
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

/// How a call's waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitOutcome {
    /// It got what it waited for.
    Admitted,
    /// It would not have got it in time, or has not.
    Refused,
    /// Its client left.
    Cancelled,
}

impl WaitOutcome {
    /// The end's label in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Hears of decisions. Called on the call's own path, so it must not block.
pub trait Observer: Send + Sync {
    /// A decision was made.
    fn on_decision(&self, event: &DecisionEvent<'_>);
    /// The shared store did not answer.
    fn on_store_failure(&self, failure: StoreFailure);
    /// What the call of the current task has paid was given back, for a reason out of a fixed set: the class of its error,
    /// or `unused` for what was reserved and not spent.
    fn on_refund(&self, reason: &'static str);
    /// A call begins to wait for a limit.
    fn on_wait_start(&self);
    /// It waits no more, after so long.
    fn on_wait_end(&self, end: WaitOutcome, waited: Duration);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn on_decision(&self, _event: &DecisionEvent<'_>) {}

    fn on_store_failure(&self, _failure: StoreFailure) {}

    fn on_refund(&self, _reason: &'static str) {}

    fn on_wait_start(&self) {}

    fn on_wait_end(&self, _end: WaitOutcome, _waited: Duration) {}
}
