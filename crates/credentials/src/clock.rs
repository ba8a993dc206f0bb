//! Time as an argument: a monotonic clock for what is kept, the time of day for what AWS dates.

use std::time::{Duration, Instant, SystemTime};

/// Something that tells the time.
pub trait Clock: Send + Sync {
    /// Since some fixed moment. Never goes backward.
    fn elapsed(&self) -> Duration;

    /// Since 1970-01-01 UTC. May jump when the machine's time is set.
    fn since_epoch(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Clone, Debug)]
pub struct SystemClock {
    start: Instant,
    wall: fn() -> SystemTime,
}

impl SystemClock {
    /// A clock that starts now and asks `wall` for the time of day: the program reads that in one place only.
    #[must_use]
    pub fn start(wall: fn() -> SystemTime) -> Self {
        Self { start: Instant::now(), wall }
    }
}

impl Clock for SystemClock {
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn since_epoch(&self) -> Duration {
        (self.wall)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}
