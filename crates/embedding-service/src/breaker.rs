//! When a service is left alone: after some failures in a row nobody waits for it, until one request in between
//! finds it well.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// So many failures in a row, and the service rests.
const FAILURES_MAX: u32 = 3;
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_mins(1);

/// Counts failures in a row.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    failures: u32,
    /// Until when nobody asks; `None` while all is well.
    until: Option<Instant>,
    /// How long the next rest is.
    rest: Duration,
    /// Somebody is finding out whether it is over.
    trial: bool,
    /// The last failure, for those who are turned away.
    last: String,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        let state = State { failures: 0, until: None, rest: REST_MIN, trial: false, last: String::new() };
        Self { state: Mutex::new(state) }
    }

    /// Lets a request through, or says why not. After a rest one at a time is let through.
    pub(crate) fn admit(&self) -> Result<Turn<'_>, String> {
        let mut state = self.state.lock();
        let Some(until) = state.until else {
            return Ok(Turn { breaker: self, trial: false });
        };
        let left = until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            let State { failures, last, .. } = &*state;
            return Err(format!(
                "left alone for {left:.1?} more after {failures} failures, the last: {last}"
            ));
        }
        if state.trial {
            return Err(format!(
                "one request is finding out whether it is back; the last failure: {}",
                state.last
            ));
        }
        state.trial = true;
        Ok(Turn { breaker: self, trial: true })
    }
}

/// A request that was let through. Dropped without a verdict, it says nothing about the service.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    breaker: &'a Breaker,
    trial: bool,
}

impl Turn<'_> {
    /// The service is well.
    pub(crate) fn answered(self) {
        let mut state = self.breaker.state.lock();
        (state.failures, state.until, state.rest) = (0, None, REST_MIN);
        state.last.clear();
    }

    /// The service is not well. `pause` is how long it asks to be left alone, which it then is, within reason.
    pub(crate) fn failed(self, text: &str, pause: Option<Duration>) {
        let mut state = self.breaker.state.lock();
        state.failures = state.failures.saturating_add(1);
        text.clone_into(&mut state.last);
        let opens = state.until.is_none() && state.failures >= FAILURES_MAX;
        let now = Instant::now();
        if opens || self.trial {
            state.until = Some(now + state.rest);
            state.rest = (state.rest * 2).min(REST_MAX);
        }
        if let Some(pause) = pause {
            let asked = now + pause.min(REST_MAX);
            state.until = Some(state.until.map_or(asked, |until| until.max(asked)));
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.trial {
            self.breaker.state.lock().trial = false;
        }
    }
}

#[cfg(test)]
mod tests;
