//! The arithmetic of one bucket: integers only, exact, without drift.
//!
//! A bucket earns L tokens in P microseconds and holds at most b. One token is P units and one microsecond earns L
//! units, after L and P are divided by their greatest common divisor; so every level is a whole number of units.

mod state;

use std::time::Duration;

use crate::clock::Micros;
pub(crate) use state::merged;
pub use state::{BucketState, Payment};

/// The largest capacity in units: doubles are exact below it, and the Redis script computes in doubles.
const CAPACITY_MAX: u64 = 1 << 53;
/// The most tokens a bucket may hold (the reference's 32-bit bound).
const TOKENS_MAX: u64 = i32::MAX as u64;

/// How fast a bucket fills and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Units earned in a microsecond; none in a bucket that is full again in its next period.
    refill: u64,
    /// Units of one token.
    unit: u64,
    /// Tokens held when full.
    burst: u64,
    /// The full bucket, in units.
    capacity: i64,
    /// What was asked for: tokens per period in microseconds.
    configured: (u64, u64),
}

/// Why a rate is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Nothing would ever pass; "unlimited" is written by leaving the limit out.
    #[error("must be at least 1; leave the limit out for no limit")]
    NoTokens,
    /// More than the counter can hold.
    #[error("must be at most {TOKENS_MAX}")]
    TooManyTokens,
    /// A bucket that never or always fills.
    #[error("must be longer than zero")]
    NoPeriod,
    /// Finer than the clock.
    #[error("must be a whole number of microseconds")]
    TooFine,
    /// The bucket cannot be counted exactly.
    #[error(
        "this many tokens in this period cannot be counted exactly; choose a rounder number of tokens or a shorter period"
    )]
    Inexact,
}

impl Rate {
    /// `tokens` earned evenly over `period`, with a bucket of `burst` tokens.
    ///
    /// # Errors
    /// When a number is zero or too large, or the bucket cannot be counted exactly.
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

    /// `calls` in a period of the calendar that is about so long: nothing is earned in it.
    ///
    /// # Errors
    /// As [`Rate::new`].
    pub fn per_calendar_period(calls: u64, usual: Duration) -> Result<Self, RateError> {
        // Whole tokens are counted: one a microsecond has the same bounds.
        let Self { burst, .. } = Self::new(calls, Duration::from_micros(1), calls)?;
        let micros = u64::try_from(usual.as_micros()).map_err(|_| RateError::Inexact)?;
        Ok(Self { refill: 0, unit: 1, burst, capacity: to_signed(burst), configured: (calls, micros) })
    }

    /// Whether it earns nothing: its level counts for the period in which it was changed, and is full in the next. Times of such a bucket are
    /// first moments of periods.
    #[must_use]
    pub fn is_by_calendar(&self) -> bool {
        self.refill == 0
    }

    /// The same with another bucket. What cannot be counted exactly stays as it is.
    #[must_use]
    pub fn with_burst(&self, burst: u64) -> Self {
        let (tokens, period) = self.configured();
        Self::new(tokens, period, burst).unwrap_or(*self)
    }

    /// The full bucket, in units.
    #[must_use]
    pub fn capacity(&self) -> i64 {
        self.capacity
    }

    /// Half of the full bucket, in units: above it a bucket is well filled, see [`BucketState::above_half_at`].
    #[inline]
    #[must_use]
    pub fn half(&self) -> i64 {
        self.capacity / 2
    }

    /// The price of `tokens`, in units. More than the bucket holds is capped: it never fits anyway.
    #[must_use]
    pub fn units(&self, tokens: u64) -> i64 {
        to_signed(self.unit.saturating_mul(tokens))
    }

    /// Tokens held when full.
    #[must_use]
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// Units earned in a microsecond.
    #[must_use]
    pub fn refill(&self) -> u64 {
        self.refill
    }

    /// Units of one token.
    #[must_use]
    pub fn unit(&self) -> u64 {
        self.unit
    }

    /// What was asked for: so many tokens in such a period.
    #[must_use]
    pub fn configured(&self) -> (u64, Duration) {
        (self.configured.0, Duration::from_micros(self.configured.1))
    }

    /// The level a bucket has risen to. A clock that went backward earns nothing.
    #[inline]
    #[must_use]
    pub fn level_at(&self, level: Level, now: Micros) -> i64 {
        if self.refill == 0 {
            return if level.at >= now { level.units.min(self.capacity) } else { self.capacity };
        }
        let earned = now.since(level.at).saturating_mul(self.refill);
        level.units.saturating_add(to_signed(earned)).min(self.capacity)
    }

    /// Microseconds until a bucket at `level` holds `cost` units. The bucket must be able to hold them. One that earns
    /// nothing never does by itself.
    #[must_use]
    pub fn wait(&self, level: i64, cost: i64) -> u64 {
        match (u64::try_from(cost.saturating_sub(level)).unwrap_or(0), self.refill) {
            (0, _) => 0,
            (_, 0) => u64::MAX,
            (missing, refill) => missing.div_ceil(refill),
        }
    }

    /// Whole tokens in a level; debts count as none.
    #[must_use]
    pub fn tokens(&self, level: i64) -> u64 {
        u64::try_from(level).unwrap_or(0) / self.unit
    }
}

/// What a bucket held at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Units held; below zero after a debt was written back.
    pub units: i64,
    /// When.
    pub at: Micros,
}

impl Level {
    /// A full bucket.
    #[must_use]
    pub fn full(rate: &Rate, now: Micros) -> Self {
        Self { units: rate.capacity(), at: now }
    }

    /// The level after a change of `units`, which the bucket had at `now`. Time never moves backward in a bucket, or
    /// the same microseconds would be earned twice.
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
