//! The state of a bucket packed into 16 bytes, so that a user fits into one cache line.

use vmcp_timing::Micros;

use crate::bucket::rate::{BucketState, Level, Rate};

/// Bits of the level's timestamp in microseconds: 142 years.
const AT_BITS: u32 = 52;
const AT_MASK: u64 = (1 << AT_BITS) - 1;
/// Bits of `above_half_at`, in steps; the length of a step depends on its age.
const STEP_BITS: u32 = 6;
const STEP_MASK: u64 = (1 << STEP_BITS) - 1;

/// The packed state of a bucket. Its `above_half_at` is rounded up to a whole step, and a step is at most a
/// 31st of its age. A rounded timestamp stays the same until the steps become longer, so repeated changes do
/// not move it forward.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    units: i64,
    /// The timestamp of the level in the low 52 bits; above it the low bits of `above_half_at` in steps, then
    /// the step length as a power of two.
    moments: u64,
}

impl Packed {
    pub(super) const NONE: Self = Self { units: 0, moments: 0 };

    pub(super) fn new(state: BucketState) -> Self {
        let at = state.level.at.0.min(AT_MASK);
        let high = state.above_half_at.0.min(at);
        if high == at {
            return Self { units: state.level.units, moments: at | (at & STEP_MASK) << AT_BITS };
        }
        let mut shift = (u64::BITS - (at - high).leading_zeros()).saturating_sub(STEP_BITS);
        let mut step = rounded_up(high, shift);
        if (at >> shift) - step > STEP_MASK {
            shift += 1;
            step = rounded_up(high, shift);
        }
        let steps = step & STEP_MASK | u64::from(shift) << STEP_BITS;
        Self { units: state.level.units, moments: at | steps << AT_BITS }
    }

    /// Records a payment: see [`BucketState::spend`].
    #[inline]
    pub(super) fn spend(&mut self, rate: &Rate, (before, after): (i64, i64), now: Micros) {
        if before > rate.half() {
            let at = (self.moments & AT_MASK).max(now.0.min(AT_MASK));
            *self = Self { units: after, moments: at | (at & STEP_MASK) << AT_BITS };
            return;
        }
        let mut state = self.state();
        state.spend(rate, (before, after), now);
        *self = Self::new(state);
    }

    pub(super) fn state(self) -> BucketState {
        let (at, steps) = (self.moments & AT_MASK, self.moments >> AT_BITS);
        let shift = steps >> STEP_BITS;
        let present = at >> shift;
        // Of all timestamps with these low bits, `above_half_at` is the latest one that is not in the future.
        let high = (present - (present.wrapping_sub(steps) & STEP_MASK).min(present)) << shift;
        BucketState { level: Level { units: self.units, at: Micros(at) }, above_half_at: Micros(high) }
    }

    /// The level, without `above_half_at`.
    #[inline]
    pub(super) fn level(self) -> Level {
        Level { units: self.units, at: Micros(self.moments & AT_MASK) }
    }
}

/// A timestamp in steps of two to the power of `shift` microseconds, rounded up.
fn rounded_up(moment: u64, shift: u32) -> u64 {
    (moment + ((1 << shift) - 1)) >> shift
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(units: i64, at: u64, high_at: u64) -> BucketState {
        BucketState { level: Level { units, at: Micros(at) }, above_half_at: Micros(high_at) }
    }

    proptest! {
        #[test]
        fn a_state_is_kept_but_for_a_part_of_an_age(
            units in -(1_i64 << 53)..(1 << 53), at in 0_u64..1 << 52, bits in 0_u32..53, noise in any::<u64>(),
        ) {
            let state = state(units, at, at.saturating_sub(noise & ((1 << bits) - 1)));
            let kept = Packed::new(state).state();
            prop_assert_eq!(kept.level, state.level);
            prop_assert_eq!(Packed::new(state).level(), state.level);
            prop_assert!(kept.above_half_at >= state.above_half_at, "never older than it is");
            prop_assert!(kept.above_half_at.since(state.above_half_at) <= (at - state.above_half_at.0) / 31);
        }

        /// However often a bucket changes, `above_half_at` does not move forward with the changes.
        #[test]
        fn many_changes_do_not_move_it_on(start in 0_u64..1 << 50, gaps in prop::collection::vec(0_u64..1_000_000, 1..400)) {
            let mut kept = state(0, start, start);
            for gap in gaps {
                let at = kept.level.at.0 + gap;
                kept = Packed::new(state(0, at, kept.above_half_at.0)).state();
                prop_assert!(kept.above_half_at.0 >= start && kept.above_half_at.0 - start <= (at - start) / 15);
            }
        }
    }

    /// The shortcut for a bucket that holds more than half of its capacity gives the same result as unpacking
    /// and packing.
    #[test]
    fn paying_is_the_same_in_both_forms() {
        let rate = Rate::new(10, std::time::Duration::from_secs(10), 10).unwrap();
        for before in [rate.half() - 1, rate.half(), rate.half() + 1, rate.capacity()] {
            let kept = state(before, 5_000_000, 1_000_000);
            let (mut packed, mut whole) = (Packed::new(kept), Packed::new(kept).state());
            packed.spend(&rate, (before, before - rate.unit().cast_signed()), Micros(6_000_000));
            whole.spend(&rate, (before, before - rate.unit().cast_signed()), Micros(6_000_000));
            assert_eq!(packed.state(), Packed::new(whole).state(), "{before}");
        }
    }

    #[test]
    fn the_last_moment_is_far() {
        assert_eq!(Packed::new(state(1, u64::MAX, 0)).level().at, Micros((1 << 52) - 1));
    }
}
