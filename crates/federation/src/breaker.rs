//! Stops calling a backend that keeps failing, and lets one call through from time to time to see whether it is
//! back. Fed by real calls, so a backend that passes health checks but fails calls is found too.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use vmcp_domain::Error;

use crate::policy::BreakerPolicy;

/// The breaker of one backend.
#[derive(Debug)]
pub(crate) struct Breaker {
    policy: BreakerPolicy,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Calls pass. To `Open` when failures in a row reach the threshold.
    Closed { failures: u32 },
    /// Calls are refused. To `Trying` with the first call after `until`.
    Open { until: Instant },
    /// One call is under way, the others are refused. To `Closed` when it succeeds, to `Open` when it fails or is
    /// dropped.
    Trying,
}

/// Leave to make one call. What becomes of the call is told to [`Pass::end`].
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    breaker: &'a Breaker,
    ended: bool,
}

impl Breaker {
    pub(crate) fn new(policy: BreakerPolicy) -> Self {
        Self { policy, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Asks for leave to call. `None` while the backend is given time.
    pub(crate) fn admit(&self, now: Instant) -> Option<Pass<'_>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::Closed { .. } => {}
            State::Open { until } if now < until => return None,
            State::Open { .. } => *state = State::Trying,
            State::Trying => return None,
        }
        Some(Pass { breaker: self, ended: false })
    }

    /// Whether a call would be let through now. Takes nothing.
    pub(crate) fn lets_through(&self, now: Instant) -> bool {
        match *self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Closed { .. } => true,
            State::Open { until } => now >= until,
            State::Trying => false,
        }
    }

    fn record(&self, failed: Option<bool>, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let reopened = State::Open { until: now + self.policy.timeout };
        *state = match (*state, failed) {
            (State::Trying, Some(true)) => reopened,
            // A trial that was taken back says nothing; the next call is the trial.
            (State::Trying, None) => State::Open { until: now },
            (State::Closed { failures }, Some(true)) if failures + 1 >= self.policy.failure_threshold => {
                reopened
            }
            (State::Closed { failures }, Some(true)) => State::Closed { failures: failures + 1 },
            (State::Closed { .. } | State::Trying, Some(false)) => State::Closed { failures: 0 },
            // A call that began before the breaker opened ends after it.
            (unchanged @ (State::Closed { .. } | State::Open { .. }), _) => unchanged,
        };
    }
}

impl Pass<'_> {
    /// Tells how the call ended.
    pub(crate) fn end<T>(mut self, outcome: &Result<T, Error>, now: Instant) {
        self.ended = true;
        let failed = match outcome {
            // A caller whom the backend does not let in says nothing about how it is doing.
            // Nor does one that did not reach it because it asked for a pause.
            Err(Error::Denied | Error::BackendBusy { .. } | Error::BackendFull { .. }) => None,
            Err(Error::BackendUnavailable { .. } | Error::BackendFailed { .. } | Error::DeadlineExceeded) => {
                Some(true)
            }
            Ok(_) | Err(_) => Some(false),
        };
        self.breaker.record(failed, now);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.breaker.record(None, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn call(breaker: &Breaker, fails: bool) -> bool {
        let Some(pass) = breaker.admit(Instant::now()) else { return false };
        pass.end(&if fails { Err(Error::DeadlineExceeded) } else { Ok(()) }, Instant::now());
        true
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_and_tries_one_call() {
        let breaker = Breaker::new(BreakerPolicy { failure_threshold: 3, timeout: Duration::from_secs(60) });
        assert!(call(&breaker, true) && call(&breaker, true) && call(&breaker, false));
        assert!(call(&breaker, true) && call(&breaker, true) && call(&breaker, true));
        assert!(!breaker.lets_through(Instant::now()) && !call(&breaker, false), "three in a row open it");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(breaker.lets_through(Instant::now()));
        let trial = breaker.admit(Instant::now()).unwrap();
        assert!(breaker.admit(Instant::now()).is_none(), "one trial at a time");
        drop(trial);
        assert!(call(&breaker, true), "a trial taken back leaves room for the next");
        assert!(!call(&breaker, false), "a failed trial opens it again");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(call(&breaker, false) && call(&breaker, true), "a good trial closes it");
    }
}
