//! Time as an argument: a monotonic clock for what is kept, the time of day for what AWS dates.

use std::time::{Duration, Instant, SystemTime};

/// Something that tells the time.
pub trait Clock: Send + Sync {
    /// Since some fixed moment. Never goes backward.
    fn elapsed(&self) -> Duration;

    /// Since 1970-01-01 UTC. May jump when the machine's time is set.
    fn since_epoch(&self) -> Duration;
}

/// A moment by both clocks. The monotonic clock does not run while a machine is suspended; the other clock may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DualInstant {
    elapsed: Duration,
    since_epoch: Duration,
}

impl DualInstant {
    /// Now.
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self { elapsed: clock.elapsed(), since_epoch: clock.since_epoch() }
    }

    /// The moment after so long.
    pub(crate) fn after(self, time: Duration) -> Self {
        let later = |clock: Duration| clock.saturating_add(time);
        Self { elapsed: later(self.elapsed), since_epoch: later(self.since_epoch) }
    }

    /// True when either clock says that this moment is over: what is good until then must not be used any more.
    pub(crate) fn is_past(self, now: Self) -> bool {
        now.elapsed >= self.elapsed || now.since_epoch >= self.since_epoch
    }

    /// How long ago it was, by the monotonic clock.
    pub(crate) fn age(self, now: Self) -> Duration {
        now.elapsed.saturating_sub(self.elapsed)
    }
}

/// The machine's clocks.
#[derive(Clone, Debug)]
pub struct SystemClock {
    start: Instant,
    wall_clock: fn() -> SystemTime,
}

impl SystemClock {
    /// A clock that starts now and asks `wall` for the time of day: the program reads that in one place only.
    #[must_use]
    pub fn start(wall: fn() -> SystemTime) -> Self {
        Self { start: Instant::now(), wall_clock: wall }
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
