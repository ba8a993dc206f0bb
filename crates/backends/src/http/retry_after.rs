//! What a backend itself says about how often it may be called: after an answer with `Retry-After` (RFC 9110, 10.2.3) it
//! is left alone for that long. Calls that come meanwhile are refused with the time that is left and do not reach it.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use tokio::time::Instant;

use crate::sync::UnpoisonedMutex;

/// The longest pause that is kept, whatever a backend asks for: an hour would be an outage that nobody ordered.
const PAUSE_MAX: Duration = Duration::from_mins(5);

/// Until when a backend wants to be left alone.
#[derive(Debug, Default)]
pub(crate) struct RetryAfter(UnpoisonedMutex<Option<Instant>>);

impl RetryAfter {
    /// Keeps a pause from now on; one that ends later counts more.
    pub(crate) fn set(&self, pause: Duration) {
        let until = Instant::now() + pause.min(PAUSE_MAX);
        let mut kept = self.0.lock();
        if kept.is_none_or(|kept| kept < until) {
            *kept = Some(until);
        }
    }

    /// What is left of the pause; `None` when there is none.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let mut kept = self.0.lock();
        let left = (*kept)?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            *kept = None;
            return None;
        }
        Some(left)
    }
}

/// The pause that a response asks for. Only the form in seconds is read: a date is another machine's clock.
pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds).min(PAUSE_MAX))
}
