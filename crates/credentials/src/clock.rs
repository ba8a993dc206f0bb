//! Time as an argument: a monotonic clock for cached values, and the time of day for AWS's dates.

use std::time::{Duration, Instant, SystemTime};

/// A monotonic clock and a wall clock.
pub trait Clock: Send + Sync {
    /// The time since a fixed moment. It never goes back.
    fn elapsed(&self) -> Duration;

    /// The time since 1970-01-01 UTC. It may jump when the machine's time is set.
    fn since_epoch(&self) -> Duration;
}

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
        Self { elapsed: clock.elapsed(), since_epoch: clock.since_epoch() }
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

/// The system's clocks.
#[derive(Clone, Debug)]
pub struct SystemClock {
    start: Instant,
    wall_clock: fn() -> SystemTime,
}

impl SystemClock {
    /// Starts a clock. `wall_clock` reads the time of day, so that the program reads it in one place only.
    #[must_use]
    pub fn start(wall_clock: fn() -> SystemTime) -> Self {
        Self { start: Instant::now(), wall_clock }
    }
}

impl Clock for SystemClock {
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn since_epoch(&self) -> Duration {
        (self.wall_clock)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}
