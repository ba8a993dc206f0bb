//! Time as an argument. Decisions take microseconds; only [`SystemClock`] reads a clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Microseconds since some fixed moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

impl Micros {
    /// The time from `earlier` to this moment; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `micros` later.
    #[must_use]
    pub fn plus(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

/// Something that tells the time.
pub trait Clock: Send + Sync {
    /// Now. Never goes backward by itself, but decisions stay safe when it does.
    fn now(&self) -> Micros;
    /// The time of day in microseconds since 1970 UTC, for quotas by the calendar alone. It may jump.
    fn time_of_day(&self) -> Micros;
}

/// The machine's monotonic clock, from the moment it is made.
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

/// A clock that stands still until it is moved: for tests and for replaying recorded calls.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Moves to a moment, forward or backward.
    pub fn set(&self, now: Micros) {
        self.0.store(now.0, Ordering::SeqCst);
    }

    /// Moves forward.
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
