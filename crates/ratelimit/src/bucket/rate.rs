//! The arithmetic of one token bucket: integers only, exact, without drift.
//!
//! A bucket earns L tokens in P microseconds and holds at most b tokens. L and P are divided by their
//! greatest common divisor. After that, one token is P units and one microsecond earns L units, so every
//! level is a whole number of units.

mod state;

use std::time::Duration;

pub(crate) use state::merged;
pub use state::{BucketState, Payment};
use vmcp_timing::Micros;

/// Exclusive upper bound of a bucket's capacity, in units. Below it every integer is exact as a double, and
/// the Redis script computes in doubles.
const CAPACITY_MAX: u64 = 1 << 53;
/// The most tokens a bucket may hold: 2^31 - 1, the 32-bit bound of the reference implementation.
const TOKENS_MAX: u64 = i32::MAX as u64;

/// The refill rate and the capacity of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Units earned in a microsecond; zero for a calendar quota, which is full again at the start of the next
    /// period.
    refill: u64,
    /// Units of one token.
    unit: u64,
    /// Tokens held when full.
    burst: u64,
    /// Units held when full.
    capacity: i64,
    /// The configured tokens and period, before the division by the greatest common divisor. The period is in
    /// microseconds.
    configured: (u64, u64),
}

/// Why a rate is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// The number of tokens is zero, so no call would ever pass. A limit that is left out of the
    /// configuration means "unlimited".
    #[error("must be at least 1; leave the limit out for no limit")]
    NoTokens,
    /// The number of tokens is above 2^31 - 1.
    #[error("must be at most {TOKENS_MAX}")]
    TooManyTokens,
    /// The period is zero, so the refill rate is undefined.
    #[error("must be longer than zero")]
    NoPeriod,
    /// The period is finer than the clock, which counts whole microseconds.
    #[error("must be a whole number of microseconds")]
    TooFine,
    /// The bucket cannot be counted exactly: its capacity reaches 2^53 units, or its period exceeds 64 bits
    /// of microseconds.
    #[error(
        "this many tokens in this period cannot be counted exactly; choose a rounder number of tokens or a shorter period"
    )]
    Inexact,
}

impl Rate {
    /// A token bucket of `burst` tokens that earns `tokens` evenly over `period`.
    ///
    /// # Errors
    /// [`RateError`] if a number is zero or too large, if the period is not a whole number of microseconds,
    /// or if the bucket cannot be counted exactly.
    pub fn new(tokens: u64, period: Duration, burst: u64) -> Result<Self, RateError> {
        if tokens == 0 || burst == 0 {
            return Err(RateError::NoTokens);
        }
        if tokens > TOKENS_MAX || burst > TOKENS_MAX {
            return Err(RateError::TooManyTokens);
        }
        if period.is_zero() {
            return Err(RateError::NoPeriod);
        }
        if !period.subsec_nanos().is_multiple_of(1000) {
            return Err(RateError::TooFine);
        }
        let micros = u64::try_from(period.as_micros()).map_err(|_| RateError::Inexact)?;
        let common = gcd(tokens, micros);
        let unit = micros / common;
        match unit.checked_mul(burst) {
            Some(capacity) if capacity < CAPACITY_MAX => Ok(Self {
                refill: tokens / common,
                unit,
                burst,
                capacity: to_signed(capacity),
                configured: (tokens, micros),
            }),
            _ => Err(RateError::Inexact),
        }
    }

    /// A calendar quota of `calls` in each period. It earns nothing within a period. `usual` is the typical
    /// length of a period.
    ///
    /// # Errors
    /// As [`Rate::new`].
    pub fn per_calendar_period(calls: u64, usual: Duration) -> Result<Self, RateError> {
        // A calendar quota counts whole tokens. A rate of `calls` tokens per microsecond has the same bounds,
        // so its validation applies here too.
        let Self { burst, .. } = Self::new(calls, Duration::from_micros(1), calls)?;
        let micros = u64::try_from(usual.as_micros()).map_err(|_| RateError::Inexact)?;
        Ok(Self { refill: 0, unit: 1, burst, capacity: to_signed(burst), configured: (calls, micros) })
    }

    /// Whether this is a calendar quota, which earns nothing. Its level counts for the period in which it was
    /// changed, and the bucket is full in the next period. The timestamps of such a bucket are the start
    /// times of periods.
    #[must_use]
    pub fn is_by_calendar(&self) -> bool {
        self.refill == 0
    }

    /// The same rate with a capacity of `burst` tokens. Returns the rate unchanged if the result cannot be
    /// counted exactly.
    #[must_use]
    pub fn with_burst(&self, burst: u64) -> Self {
        let (tokens, period) = self.configured();
        Self::new(tokens, period, burst).unwrap_or(*self)
    }

    /// Units held when full.
    #[must_use]
    pub fn capacity(&self) -> i64 {
        self.capacity
    }

    /// Half of the capacity, in units. [`BucketState::above_half_at`] records when a bucket was last above
    /// it.
    #[inline]
    #[must_use]
    pub fn half(&self) -> i64 {
        self.capacity / 2
    }

    /// The price of `tokens`, in units, saturated at `i64::MAX`. A saturated price exceeds every capacity, so
    /// it never fits.
    #[must_use]
    pub fn units(&self, tokens: u64) -> i64 {
        to_signed(self.unit.saturating_mul(tokens))
    }

    /// Tokens held when full.
    #[must_use]
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// Units earned in a microsecond; zero for a calendar quota.
    #[must_use]
    pub fn refill(&self) -> u64 {
        self.refill
    }

    /// Units of one token.
    #[must_use]
    pub fn unit(&self) -> u64 {
        self.unit
    }

    /// The configured tokens, and the period in which they are earned.
    #[must_use]
    pub fn configured(&self) -> (u64, Duration) {
        (self.configured.0, Duration::from_micros(self.configured.1))
    }

    /// The level at `now`, in units, after the refill since `level.at`. A clock that went backward earns
    /// nothing.
    #[inline]
    #[must_use]
    pub fn level_at(&self, level: Level, now: Micros) -> i64 {
        if self.refill == 0 {
            return if level.at >= now { level.units.min(self.capacity) } else { self.capacity };
        }
        let earned = now.since(level.at).saturating_mul(self.refill);
        level.units.saturating_add(to_signed(earned)).min(self.capacity)
    }

    /// Microseconds until a bucket at `level` holds `cost` units, if no other call spends. The cost must not
    /// exceed the capacity. A calendar quota earns nothing, so its wait is `u64::MAX` unless it already holds
    /// the cost.
    #[must_use]
    pub fn wait(&self, level: i64, cost: i64) -> u64 {
        match (u64::try_from(cost.saturating_sub(level)).unwrap_or(0), self.refill) {
            (0, _) => 0,
            (_, 0) => u64::MAX,
            (missing, refill) => missing.div_ceil(refill),
        }
    }

    /// Whole tokens in a level of units, rounded down; a debt counts as zero.
    #[must_use]
    pub fn tokens(&self, level: i64) -> u64 {
        u64::try_from(level).unwrap_or(0) / self.unit
    }
}

/// The level of a bucket at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Units held; negative while the bucket is in debt.
    pub units: i64,
    /// The moment of this level; for a calendar quota, the start of its period.
    pub at: Micros,
}

impl Level {
    /// The level of a full bucket at `now`.
    #[must_use]
    pub fn full(rate: &Rate, now: Micros) -> Self {
        Self { units: rate.capacity(), at: now }
    }

    /// The level set to `units`, which the bucket holds at `now`. The timestamp of a bucket never moves
    /// backward, because otherwise the same microseconds would be earned twice.
    #[inline]
    #[must_use]
    pub fn updated(self, units: i64, now: Micros) -> Self {
        Self { units, at: self.at.max(now) }
    }
}

fn to_signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests;
