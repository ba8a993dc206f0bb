//! The state of a bucket in 16 bytes, so that a user stays in one cache line.

use crate::clock::Micros;
use crate::rate::{BucketState, Level};

/// Bits of the moment in microseconds: 142 years.
const AT_BITS: u32 = 52;
/// Bits of the fraction of a packed age; an age of fewer microseconds is exact.
const FRACTION_BITS: u32 = 6;

/// The state of a bucket. The moment when it was last well filled is rounded up, by a 64th of its age at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    units: i64,
    /// The moment of the level, and above it how much older the moment is when the bucket was last well filled.
    moments: u64,
}

impl Packed {
    pub(super) const NONE: Self = Self { units: 0, moments: 0 };

    pub(super) fn new(state: BucketState) -> Self {
        let at = state.level.at.0.min((1 << AT_BITS) - 1);
        let age = pack_age(state.level.at.since(state.high_at));
        Self { units: state.level.units, moments: at | age << AT_BITS }
    }

    pub(super) fn state(self) -> BucketState {
        let at = self.moments & ((1 << AT_BITS) - 1);
        let age = unpack_age(self.moments >> AT_BITS);
        BucketState {
            level: Level { units: self.units, at: Micros(at) },
            high_at: Micros(at.saturating_sub(age)),
        }
    }

    /// The level alone.
    pub(super) fn level(self) -> Level {
        Level { units: self.units, at: Micros(self.moments & ((1 << AT_BITS) - 1)) }
    }
}

/// An age as a floating-point number of twelve bits, rounded down.
fn pack_age(age: u64) -> u64 {
    let shift = (u64::BITS - age.leading_zeros()).saturating_sub(FRACTION_BITS + 1);
    if age < 1 << FRACTION_BITS {
        return age;
    }
    let fraction = (age >> shift) - (1 << FRACTION_BITS);
    u64::from(shift + 1) << FRACTION_BITS | fraction
}

fn unpack_age(packed: u64) -> u64 {
    let (exponent, fraction) = (packed >> FRACTION_BITS, packed & ((1 << FRACTION_BITS) - 1));
    match exponent {
        0 => fraction,
        _ => ((1 << FRACTION_BITS) + fraction) << (exponent - 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_state_is_kept_but_for_the_fraction_of_an_age(
            units in -(1_i64 << 53)..(1 << 53), at in 0_u64..1 << 52, bits in 0_u32..53, noise in any::<u64>(),
        ) {
            let high_at = at.saturating_sub(noise & ((1 << bits) - 1));
            let state = BucketState { level: Level { units, at: Micros(at) }, high_at: Micros(high_at) };
            let kept = Packed::new(state).state();
            prop_assert_eq!(kept.level, state.level);
            prop_assert_eq!(Packed::new(state).level(), state.level);
            prop_assert!(kept.high_at >= state.high_at, "never older than it is");
            prop_assert!(kept.high_at.since(state.high_at) <= (at - high_at) / 64);
        }
    }

    #[test]
    fn the_last_moment_is_far() {
        let state = BucketState { level: Level { units: 1, at: Micros(u64::MAX) }, high_at: Micros(0) };
        assert_eq!(Packed::new(state).level().at, Micros((1 << 52) - 1));
    }
}
