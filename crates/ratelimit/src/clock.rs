//! Time as an argument, in microseconds. Only [`SystemClock`] reads a clock of the system.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Microseconds since the origin of a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

impl Micros {
    /// Microseconds from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `micros` later, saturated.
    #[must_use]
    pub fn plus(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

/// A source of time.
pub trait Clock: Send + Sync {
    /// The present moment. It should not go backward, but decisions stay safe if it does.
    fn now(&self) -> Micros;
    /// The time of day in microseconds since 1970 UTC. It may jump, so only calendar quotas and saved levels
    /// use it.
    fn time_of_day(&self) -> Micros;
}

/// The machine's monotonic clock, counted from the moment it is made.
#[derive(Clone, Debug)]
pub struct SystemClock {
    clock: quanta::Clock,
    start: u64,
}

impl SystemClock {
    /// A clock that starts at zero now.
    #[must_use]
    pub fn start() -> Self {
        let clock = quanta::Clock::new();
        let start = clock.raw();
        Self { clock, start }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Micros {
        let elapsed = self.clock.delta_as_nanos(self.start, self.clock.raw());
        Micros(elapsed / 1000)
    }

    #[allow(clippy::disallowed_methods, reason = "the limiter's own clock, passed on as an argument")]
    fn time_of_day(&self) -> Micros {
        let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Micros(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
    }
}

/// A clock that changes only when it is set: for tests and for the replay of recorded calls.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Sets the clock to a moment, forward or backward.
    pub fn set(&self, now: Micros) {
        self.0.store(now.0, Ordering::SeqCst);
    }

    /// Moves the clock forward.
    pub fn advance(&self, micros: u64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Micros {
        Micros(self.0.load(Ordering::SeqCst))
    }

    fn time_of_day(&self) -> Micros {
        self.now()
    }
}
