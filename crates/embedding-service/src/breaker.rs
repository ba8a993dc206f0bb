//! When a service is left alone: after some failures in a row nobody waits for it, until one request in between
//! finds it well.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// So many failures in a row, and the service rests.
const FAILURES_MAX: u32 = 3;
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_mins(1);

/// Counts failures in a row.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: Mutex<BreakerState>,
}

#[derive(Debug)]
struct BreakerState {
    failures: u32,
    /// Until when nobody asks; `None` while all is well.
    open_until: Option<Instant>,
    /// How long the next rest is.
    backoff: Duration,
    /// Somebody is finding out whether it is over.
    is_trial_running: bool,
    /// The last failure, for those who are turned away.
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

    /// Lets a request through, or says why not. After a rest one at a time is let through.
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

/// A request that was let through. Dropped without a verdict, it says nothing about the service.
#[derive(Debug)]
pub(crate) struct BreakerPermit<'a> {
    breaker: &'a Breaker,
    is_trial: bool,
}

impl BreakerPermit<'_> {
    /// The service is well.
    pub(crate) fn record_success(self) {
        let mut state = self.breaker.state.lock();
        (state.failures, state.open_until, state.backoff) = (0, None, BACKOFF_MIN);
        state.last_error.clear();
    }

    /// The service is not well. `pause` is how long it asks to be left alone, which it then is, within reason.
    pub(crate) fn record_failure(self, text: &str, pause: Option<Duration>) {
        let mut state = self.breaker.state.lock();
        state.failures = state.failures.saturating_add(1);
        text.clone_into(&mut state.last_error);
        let opens = state.open_until.is_none() && state.failures >= FAILURES_MAX;
        let now = Instant::now();
        if opens || self.is_trial {
            state.open_until = Some(now + state.backoff);
            state.backoff = (state.backoff * 2).min(BACKOFF_MAX);
        }
        if let Some(pause) = pause {
            let asked = now + pause.min(BACKOFF_MAX);
            state.open_until = Some(state.open_until.map_or(asked, |until| until.max(asked)));
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
