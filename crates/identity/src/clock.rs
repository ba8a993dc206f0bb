//! Time as an argument. Tokens expire by wall time. Cache lifetimes use a clock that never goes back. The
//! gateway decides how the wall clock is read.

use std::time::{Duration, Instant};

/// A wall clock and a monotonic clock.
pub trait Clock: Send + Sync {
    /// Seconds since 1970 by the wall clock.
    fn unix_s(&self) -> u64;
    /// The time since a fixed moment. It never goes back.
    fn uptime(&self) -> Duration;
}

/// The system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    unix_s: fn() -> u64,
    start: Instant,
}

impl SystemClock {
    /// Builds the system's clocks. `unix_s` reads the wall clock, in seconds since 1970.
    #[must_use]
    pub fn new(unix_s: fn() -> u64) -> Self {
        Self { unix_s, start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn unix_s(&self) -> u64 {
        (self.unix_s)()
    }

    fn uptime(&self) -> Duration {
        self.start.elapsed()
    }
}
