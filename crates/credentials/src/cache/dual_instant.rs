//! [`DualInstant`]: a moment by the monotonic clock and by the time of day, at which a cached credential expires.

use std::time::Duration;

use vmcp_timing::Clock;

/// A moment by both clocks. The monotonic clock stops while the machine is suspended, and the wall clock may
/// be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DualInstant {
    elapsed: Duration,
    since_epoch: Duration,
}

impl DualInstant {
    /// The current moment.
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self { elapsed: clock.now().as_duration(), since_epoch: clock.time_of_day().as_duration() }
    }

    /// The moment after this duration.
    pub(crate) fn after(self, time: Duration) -> Self {
        let later = |clock: Duration| clock.saturating_add(time);
        Self { elapsed: later(self.elapsed), since_epoch: later(self.since_epoch) }
    }

    /// True when either clock has reached this moment. A value that is valid until then must not be used any
    /// more.
    pub(crate) fn is_past(self, now: Self) -> bool {
        now.elapsed >= self.elapsed || now.since_epoch >= self.since_epoch
    }

    /// The age at `now`, by the monotonic clock.
    pub(crate) fn age(self, now: Self) -> Duration {
        now.elapsed.saturating_sub(self.elapsed)
    }
}
