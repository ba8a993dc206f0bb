//! Time in microseconds. Only this module reads the clocks of the system.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

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

    /// The time from the origin to this moment.
    #[must_use]
    pub fn as_duration(self) -> Duration {
        Duration::from_micros(self.0)
    }

    /// The whole seconds from the origin to this moment.
    #[must_use]
    pub fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl From<Duration> for Micros {
    /// Saturates after 584,000 years.
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }
}

/// A source of time.
pub trait Clock: Send + Sync {
    /// The present moment of a monotonic clock, whose origin is arbitrary. It should not go backward, but
    /// users must stay safe if it does. It may stop while the machine is suspended.
    fn now(&self) -> Micros;

    /// The time of day since 1970-01-01 UTC. It jumps when the machine's time is set.
    fn time_of_day(&self) -> Micros;
}

/// The machine's clocks.
#[derive(Clone, Debug)]
pub struct SystemClock {
    clock: quanta::Clock,
    start: u64,
}

impl SystemClock {
    /// A clock whose monotonic time is zero now.
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

    fn time_of_day(&self) -> Micros {
        time_of_day()
    }
}

/// The machine's time of day since 1970-01-01 UTC, for texts that people read. Code that decides by the time
/// takes a [`Clock`].
#[must_use]
pub fn time_of_day() -> Micros {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the time of day")]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().into()
}

/// A clock that changes only when it is set, for tests and for the replay of recorded calls.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: AtomicU64,
    /// How far the time of day is ahead of the monotonic clock.
    lead: AtomicU64,
}

impl ManualClock {
    /// A clock at zero whose time of day is `time_of_day`.
    #[must_use]
    pub fn at(time_of_day: Duration) -> Self {
        Self { now: AtomicU64::new(0), lead: AtomicU64::new(Micros::from(time_of_day).0) }
    }

    /// Sets the monotonic clock to a moment, forward or backward. The time of day moves by the same amount.
    pub fn set(&self, now: Micros) {
        self.now.store(now.0, Ordering::SeqCst);
    }

    /// Moves both clocks forward by microseconds.
    pub fn advance(&self, micros: u64) {
        self.now.fetch_add(micros, Ordering::SeqCst);
    }

    /// Moves both clocks forward by seconds.
    pub fn advance_secs(&self, seconds: u64) {
        self.advance(seconds.saturating_mul(1_000_000));
    }

    /// Sets how far the time of day is ahead of the monotonic clock, as when a machine's time is set.
    pub fn set_lead(&self, lead: Duration) {
        self.lead.store(Micros::from(lead).0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Micros {
        Micros(self.now.load(Ordering::SeqCst))
    }

    fn time_of_day(&self) -> Micros {
        self.now().plus(self.lead.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_starts_at_zero_and_knows_the_date() {
        let clock = SystemClock::start();
        let first = clock.now();
        assert!(first.as_duration() < Duration::from_secs(1) && clock.now() >= first);
        // 2026-01-01 to 2200-01-01.
        assert!((1_767_225_600..7_258_118_400).contains(&clock.time_of_day().as_secs()));
    }

    #[test]
    fn the_time_of_day_of_a_manual_clock_moves_along_and_on_its_own() {
        let clock = ManualClock::at(Duration::from_secs(100));
        clock.advance(1_500_000);
        assert_eq!((clock.now(), clock.time_of_day().as_secs()), (Micros(1_500_000), 101));
        clock.set_lead(Duration::ZERO);
        assert_eq!((clock.now(), clock.time_of_day()), (Micros(1_500_000), Micros(1_500_000)));
    }
}
