//! The back-off that a backend itself requests: after an answer with `Retry-After` (RFC 9110, 10.2.3) it
//! receives no calls for that long. Calls that arrive meanwhile are refused with the remaining time.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Maximum pause, whatever a backend requests: an hour would be an outage that no operator asked for.
const PAUSE_MAX: Duration = Duration::from_mins(5);

/// The time until which the backend receives no calls.
#[derive(Debug, Default)]
pub(crate) struct RetryAfter(Mutex<Option<Instant>>);

impl RetryAfter {
    /// Starts a pause now. If an earlier pause ends later, that one counts.
    pub(crate) fn set(&self, delay: Duration) {
        let until = Instant::now() + delay.min(PAUSE_MAX);
        let mut until_slot = self.0.lock();
        if until_slot.is_none_or(|until_slot| until_slot < until) {
            *until_slot = Some(until);
        }
    }

    /// The remaining time of the pause; `None` if there is none.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let mut until_slot = self.0.lock();
        let remaining = (*until_slot)?.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            *until_slot = None;
            return None;
        }
        Some(remaining)
    }
}

/// The pause that a response requests. Only the form in seconds is supported: a date depends on another
/// machine's clock.
pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds).min(PAUSE_MAX))
}
