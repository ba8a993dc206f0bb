//! What is kept of one bucket, and how much may be given back to it.

use super::{Level, Rate};
use crate::clock::Micros;

/// What is kept of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketState {
    /// What it held when it last changed.
    pub level: Level,
    /// When it last held more than half of its capacity, as far as its changes show.
    pub above_half_at: Micros,
}

/// What a call has paid to one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// In units.
    pub units: i64,
    /// When.
    pub at: Micros,
}

impl BucketState {
    /// A full bucket.
    #[must_use]
    pub fn full(rate: &Rate, now: Micros) -> Self {
        Self { level: Level::full(rate, now), above_half_at: now }
    }

    /// The same bucket at `now`. A clock that went backward changes nothing.
    #[must_use]
    pub fn advanced_to(self, rate: &Rate, now: Micros) -> Self {
        let level = self.level.updated(rate.level_at(self.level, now), now);
        let high_at = if level.units > rate.half() { level.at } else { self.above_half_at };
        Self { level, above_half_at: high_at }
    }

    /// The bucket pays at `now`: it held `before` units then, and holds `after` from there on.
    #[inline]
    pub fn spend(&mut self, rate: &Rate, (before, after): (i64, i64), now: Micros) {
        self.level = self.level.updated(after, now);
        if before > rate.half() {
            self.above_half_at = self.level.at;
        }
    }

    /// The same moment with other units.
    #[must_use]
    pub fn with_units(self, units: i64) -> Self {
        Self { level: Level { units, ..self.level }, ..self }
    }

    /// How many of `units` a call may be given back of what it has paid: no more than the bucket would hold in addition
    /// now if the call had never paid. The bucket must have been brought to the present with [`BucketState::advanced_to`].
    ///
    /// A bucket that was full since then holds nothing less for the payment. Its highest level since the payment is not kept;
    /// two bounds of it are known. It held at most its capacity less the payment, and has risen by what it earned since. And
    /// it held at most half of its capacity if it was last above that before the payment.
    #[must_use]
    pub fn refundable(self, rate: &Rate, paid: Payment, units: i64) -> i64 {
        let earned = self.level.at.since(paid.at).saturating_mul(rate.refill());
        let since_paid = paid.units.saturating_sub(i64::try_from(earned).unwrap_or(i64::MAX));
        let below_half = if paid.at > self.above_half_at { rate.capacity() - rate.half() } else { 0 };
        units.min(since_paid.max(below_half)).max(0)
    }

    /// The bucket at `now` after a call was given `units` back of what it has paid, or charged as many more where they are
    /// less than none. It stays between minus its capacity and its capacity.
    #[must_use]
    pub fn adjusted(self, rate: &Rate, paid: Payment, units: i64, now: Micros) -> Self {
        // The payment belongs to a period that is over.
        if rate.is_by_calendar() && self.level.at > now {
            return self;
        }
        let present = self.advanced_to(rate, now);
        // Nothing of what is charged is refundable.
        let units = units.min(present.refundable(rate, paid, units.max(0)));
        // What is missing from another size may be more than this one can owe.
        let least = present.level.units.min(-rate.capacity());
        let after = present.level.units.saturating_add(units).clamp(least, rate.capacity());
        present.with_units(after)
    }
}

/// A bucket in which also everything is missing that is missing in the other.
pub(crate) fn merged(own: (BucketState, &Rate), other: (BucketState, &Rate), now: Micros) -> BucketState {
    let (state, rate) = own;
    let (other, other_rate) = other;
    // Time never moves backward in a bucket, or what the other one has earned would be earned again.
    let now = now.max(other.level.at);
    let missing = i128::from(other_rate.capacity() - other.advanced_to(other_rate, now).level.units);
    let (unit, other_unit) = (i128::from(rate.unit()), i128::from(other_rate.unit()));
    // Rounded up: a change of sizes gives nobody a part of a token.
    let missing = i64::try_from((missing * unit + other_unit - 1) / other_unit).unwrap_or(i64::MAX);
    let present = state.advanced_to(rate, now);
    present.with_units(present.level.units.saturating_sub(missing))
}

#[cfg(test)]
mod tests;
