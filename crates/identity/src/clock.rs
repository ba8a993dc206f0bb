//! Time as an argument. Tokens live by wall time; how long something is remembered is told by a clock that never
//! goes back. Who reads the wall clock is the gateway's choice.

use std::time::{Duration, Instant};

/// Tells both times.
pub trait Clock: Send + Sync {
    /// Seconds since 1970 by the wall clock.
    fn unix_s(&self) -> u64;
    /// How long it is since some fixed moment. Never goes back.
    fn uptime(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    unix_s: fn() -> u64,
    start: Instant,
}

impl SystemClock {
    /// The machine's clocks, with the wall clock read by `unix_s`, in seconds since 1970.
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
