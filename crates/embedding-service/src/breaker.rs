//! The circuit breaker of a service. It opens after several failures in a row; then requests fail at once.
//! After the open time one trial request at a time is let through, and its success closes the circuit.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use vmcp_timing::{Circuit, CircuitPermit, CircuitPolicy};

const POLICY: CircuitPolicy = CircuitPolicy {
    failure_threshold: 3,
    open_min: Duration::from_secs(1),
    open_max: Duration::from_mins(1),
};

/// The circuit, and what it tells about the failures that opened it.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: Mutex<BreakerState>,
}

#[derive(Debug)]
struct BreakerState {
    circuit: Circuit,
    /// The number of failures since the last success.
    failures: u32,
    /// The last failure, for the message to refused requests.
    last_error: String,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        let state = BreakerState { circuit: Circuit::CLOSED, failures: 0, last_error: String::new() };
        Self { state: Mutex::new(state) }
    }

    /// Admits a request, or returns why the circuit is open.
    pub(crate) fn admit(&self) -> Result<BreakerPermit<'_>, String> {
        let mut state = self.state.lock();
        let now = Instant::now().into_std();
        if let Some(permit) = state.circuit.admit(now) {
            return Ok(BreakerPermit { breaker: self, permit, is_recorded: false });
        }
        let (left, failures, last) = (state.circuit.open_for(now), state.failures, &state.last_error);
        Err(if left.is_zero() {
            format!("circuit half open: a trial request is in flight; the last failure: {last}")
        } else {
            format!("circuit open for {left:.1?} more after {failures} failures, the last: {last}")
        })
    }
}

/// The permit of an admitted request. Dropped without a recorded outcome, it does not change the circuit.
#[derive(Debug)]
pub(crate) struct BreakerPermit<'a> {
    breaker: &'a Breaker,
    permit: CircuitPermit,
    is_recorded: bool,
}

impl BreakerPermit<'_> {
    /// Records a success, which closes the circuit.
    pub(crate) fn record_success(mut self) {
        self.is_recorded = true;
        let mut state = self.breaker.state.lock();
        state.circuit.record(self.permit, Some(false), &POLICY, Instant::now().into_std());
        if state.circuit == Circuit::CLOSED {
            state.failures = 0;
            state.last_error.clear();
        }
    }

    /// Records a failure. `retry_after` is the service's `Retry-After`; it opens the circuit for that time,
    /// but not for more than a minute.
    pub(crate) fn record_failure(mut self, text: &str, retry_after: Option<Duration>) {
        self.is_recorded = true;
        let mut state = self.breaker.state.lock();
        state.failures = state.failures.saturating_add(1);
        text.clone_into(&mut state.last_error);
        let now = Instant::now().into_std();
        state.circuit.record(self.permit, Some(true), &POLICY, now);
        if let Some(retry_after) = retry_after {
            state.circuit.pause_until(now + retry_after.min(POLICY.open_max));
        }
    }
}

impl Drop for BreakerPermit<'_> {
    fn drop(&mut self) {
        if !self.is_recorded {
            let now = Instant::now().into_std();
            self.breaker.state.lock().circuit.record(self.permit, None, &POLICY, now);
        }
    }
}

#[cfg(test)]
mod tests;
