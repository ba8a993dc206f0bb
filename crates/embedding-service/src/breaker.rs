//! The circuit breaker of a service. It opens after several failures in a row; then requests fail at once.
//! After the back-off one trial request at a time is let through, and its success closes the circuit.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The number of failures in a row after which the circuit opens.
const FAILURES_MAX: u32 = 3;
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_mins(1);

/// The circuit breaker; counts failures in a row.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: Mutex<BreakerState>,
}

#[derive(Debug)]
struct BreakerState {
    failures: u32,
    /// When the back-off ends; `None` while the circuit is closed.
    open_until: Option<Instant>,
    /// The duration of the next back-off.
    backoff: Duration,
    /// A trial request is in flight.
    is_trial_running: bool,
    /// The last failure, for the message to refused requests.
    last_error: String,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        let state = BreakerState {
            failures: 0,
            open_until: None,
            backoff: BACKOFF_MIN,
            is_trial_running: false,
            last_error: String::new(),
        };
        Self { state: Mutex::new(state) }
    }

    /// Admits a request, or returns why the circuit is open. After the back-off, admits one trial request at
    /// a time.
    pub(crate) fn admit(&self) -> Result<BreakerPermit<'_>, String> {
        let mut state = self.state.lock();
        let Some(until) = state.open_until else {
            return Ok(BreakerPermit { breaker: self, is_trial: false });
        };
        let left = until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            let BreakerState { failures, last_error: last, .. } = &*state;
            return Err(format!(
                "left alone for {left:.1?} more after {failures} failures, the last: {last}"
            ));
        }
        if state.is_trial_running {
            return Err(format!(
                "one request is finding out whether it is back; the last failure: {}",
                state.last_error
            ));
        }
        state.is_trial_running = true;
        Ok(BreakerPermit { breaker: self, is_trial: true })
    }
}

/// The permit of an admitted request. Dropped without a recorded outcome, it does not change the circuit.
#[derive(Debug)]
pub(crate) struct BreakerPermit<'a> {
    breaker: &'a Breaker,
    is_trial: bool,
}

impl BreakerPermit<'_> {
    /// Records a success and closes the circuit.
    pub(crate) fn record_success(self) {
        let mut state = self.breaker.state.lock();
        (state.failures, state.open_until, state.backoff) = (0, None, BACKOFF_MIN);
        state.last_error.clear();
    }

    /// Records a failure. `retry_after` is the service's `Retry-After`; it opens the circuit for that time, at most
    /// [`BACKOFF_MAX`].
    pub(crate) fn record_failure(self, text: &str, retry_after: Option<Duration>) {
        let mut state = self.breaker.state.lock();
        state.failures = state.failures.saturating_add(1);
        text.clone_into(&mut state.last_error);
        let opens = state.open_until.is_none() && state.failures >= FAILURES_MAX;
        let now = Instant::now();
        if opens || self.is_trial {
            state.open_until = Some(now + state.backoff);
            state.backoff = (state.backoff * 2).min(BACKOFF_MAX);
        }
        if let Some(retry_after) = retry_after {
            let retry_at = now + retry_after.min(BACKOFF_MAX);
            state.open_until = Some(state.open_until.map_or(retry_at, |until| until.max(retry_at)));
        }
    }
}

impl Drop for BreakerPermit<'_> {
    fn drop(&mut self) {
        if self.is_trial {
            self.breaker.state.lock().is_trial_running = false;
        }
    }
}

#[cfg(test)]
mod tests;
