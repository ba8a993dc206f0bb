//! The stored state of one bucket, and the bound on refunds to it.

use vmcp_timing::Micros;

use super::{Level, Rate};

/// The stored state of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketState {
    /// The level at the last change.
    pub level: Level,
    /// When the bucket last held more than half of its capacity, as far as its changes show.
    pub above_half_at: Micros,
}

/// The payment of a call to one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The amount, in units.
    pub units: i64,
    /// When the call paid.
    pub at: Micros,
}

impl BucketState {
    /// The state of a full bucket at `now`.
    #[must_use]
    pub fn full(rate: &Rate, now: Micros) -> Self {
        Self { level: Level::full(rate, now), above_half_at: now }
    }

    /// The same bucket at `now`, after the refill. A clock that went backward changes nothing.
    #[must_use]
    pub fn advanced_to(self, rate: &Rate, now: Micros) -> Self {
        let level = self.level.updated(rate.level_at(self.level, now), now);
        let high_at = if level.units > rate.half() { level.at } else { self.above_half_at };
        Self { level, above_half_at: high_at }
    }

    /// Records a payment at `now` that changes the level from `before` to `after` units.
    #[inline]
    pub fn spend(&mut self, rate: &Rate, (before, after): (i64, i64), now: Micros) {
        self.level = self.level.updated(after, now);
        if before > rate.half() {
            self.above_half_at = self.level.at;
        }
    }

    /// The same state with `units` as its level; the timestamps do not change.
    #[must_use]
    pub fn with_units(self, units: i64) -> Self {
        Self { level: Level { units, ..self.level }, ..self }
    }

    /// How many of `units` may be refunded to a call that made the payment `paid`. The refund never exceeds
    /// the units that the bucket would hold in addition now if the call had never paid. The caller must first
    /// advance the bucket to the present with [`BucketState::advanced_to`].
    ///
    /// Without the payment, the level would have been higher by the payment, but never above the capacity. So
    /// the refund is bounded by the capacity minus the highest level since the payment: a bucket that was
    /// full since then has lost nothing by the payment. That highest level is not stored, but two upper
    /// bounds of it are known. First, the bucket held at most its capacity minus the payment right after it,
    /// and it has risen by at most what it earned since. Second, it held at most half of its capacity if it
    /// was last above half before the payment.
    #[must_use]
    pub fn refundable(self, rate: &Rate, paid: Payment, units: i64) -> i64 {
        let earned = self.level.at.since(paid.at).saturating_mul(rate.refill());
        let since_paid = paid.units.saturating_sub(i64::try_from(earned).unwrap_or(i64::MAX));
        let below_half = if paid.at > self.above_half_at { rate.capacity() - rate.half() } else { 0 };
        units.min(since_paid.max(below_half)).max(0)
    }

    /// The bucket at `now` after `units` are refunded to a call that made the payment `paid`, or charged to
    /// it if `units` is negative. The level stays between minus the capacity and the capacity, except that a
    /// deeper debt from another size of the bucket stays as it is.
    #[must_use]
    pub fn adjusted(self, rate: &Rate, paid: Payment, units: i64, now: Micros) -> Self {
        // The payment belongs to a calendar period that is over.
        if rate.is_by_calendar() && self.level.at > now {
            return self;
        }
        let present = self.advanced_to(rate, now);
        // The bound on refunds does not bind a charge: a negative `units` stays as it is, since at least zero
        // is refundable.
        let units = units.min(present.refundable(rate, paid, units.max(0)));
        // A debt merged from another size of the bucket may be deeper than this size's capacity, and is not
        // forgiven here.
        let least = present.level.units.min(-rate.capacity());
        let after = present.level.units.saturating_add(units).clamp(least, rate.capacity());
        present.with_units(after)
    }
}

/// Merges two sizes of one bucket: everything that is missing in `other` becomes missing in `own` too.
pub(crate) fn merged(own: (BucketState, &Rate), other: (BucketState, &Rate), now: Micros) -> BucketState {
    let (state, rate) = own;
    let (other, other_rate) = other;
    // The timestamp of a bucket never moves backward, because otherwise `other` would earn the same
    // microseconds again.
    let now = now.max(other.level.at);
    let missing = i128::from(other_rate.capacity() - other.advanced_to(other_rate, now).level.units);
    let (unit, other_unit) = (i128::from(rate.unit()), i128::from(other_rate.unit()));
    // Rounded up, so that a change of size never gives away a fraction of a token.
    let missing = i64::try_from((missing * unit + other_unit - 1) / other_unit).unwrap_or(i64::MAX);
    let present = state.advanced_to(rate, now);
    present.with_units(present.level.units.saturating_sub(missing))
}

#[cfg(test)]
mod tests;
