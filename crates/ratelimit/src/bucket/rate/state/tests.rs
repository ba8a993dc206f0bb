use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// Events in a bucket after the call has paid: other calls spend tokens, or time passes.
fn events() -> impl Strategy<Value = Vec<(i64, u64)>> {
    let spent = prop_oneof![Just(0_i64), 1_i64..12];
    let passed = prop_oneof![3 => 0_u64..4, 1 => 0_u64..40];
    prop::collection::vec((spent, passed), 0..12)
}

/// The bucket after the events. The spends may take it into debt.
fn run(rate: &Rate, mut state: BucketState, now: &mut u64, events: &[(i64, u64)]) -> BucketState {
    for (spent, passed) in events {
        *now += passed;
        state = state.advanced_to(rate, Micros(*now));
        state = state.with_units(state.level.units - rate.units(1) * spent);
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// A refund never exceeds what the bucket would hold in addition if the call had never paid that part. If
    /// no time has passed, the refund is the whole part.
    #[test]
    fn giving_back_never_mints(
        (tokens, period) in (1_u64..20, 1_u64..60), before in events(), paid in 1_i64..20, back in 1_i64..20, after in events(),
    ) {
        let rate = Rate::new(tokens, Duration::from_micros(period), tokens).unwrap();
        let mut now = 1_000;
        let state = run(&rate, BucketState::full(&rate, Micros(now)), &mut now, &before).advanced_to(&rate, Micros(now));
        let (paid, back) = (rate.units(1) * paid, rate.units(1) * back.min(paid));
        let payment = Payment { units: paid, at: Micros(now) };
        let start = now;
        // The bucket with the full payment, and the bucket without the part that is refunded.
        let with = run(&rate, state.with_units(state.level.units - paid), &mut now, &after);
        let mut again = start;
        let without = run(&rate, state.with_units(state.level.units - paid + back), &mut again, &after);
        let (with, without) = (with.advanced_to(&rate, Micros(now)), without.advanced_to(&rate, Micros(now)));
        let given = with.refundable(&rate, payment, back);
        prop_assert!(given >= 0);
        prop_assert!(given <= without.level.units - with.level.units, "{given} of {}", without.level.units - with.level.units);
        if now == start {
            prop_assert_eq!(given, back);
        }
    }
}

#[test]
fn a_saturated_bucket_gets_all_back_however_long_the_call_took() {
    let rate = Rate::new(10, Duration::from_secs(1), 10).unwrap();
    let second = |second: u64| Micros(second * 1_000_000);
    let mut state = BucketState::full(&rate, second(1)).with_units(0);
    // For an hour four tokens are spent as soon as they are earned: first by the call, then by other calls.
    let mut now = second(1).plus(400_000);
    let payment = Payment { units: rate.units(4), at: now };
    while now < second(3_600) {
        state = state.advanced_to(&rate, now);
        state = state.with_units(state.level.units - rate.units(4));
        now = now.plus(400_000);
    }
    assert_eq!(state.refundable(&rate, payment, rate.units(4)), rate.units(4));
    // After the bucket was full, nothing is missing because of a call that paid before.
    let later = state.advanced_to(&rate, second(3_700)).with_units(0).advanced_to(&rate, second(3_700));
    assert_eq!(later.refundable(&rate, payment, rate.units(4)), 0);
}

#[test]
fn a_change_stays_between_full_and_the_deepest_debt() {
    let rate = Rate::new(5, Duration::from_secs(5), 5).unwrap();
    let now = Micros(1_000);
    let payment = Payment { units: rate.units(1), at: now };
    let full = BucketState::full(&rate, now);
    assert_eq!(full.adjusted(&rate, payment, rate.units(1), now).level.units, rate.capacity());
    assert_eq!(full.adjusted(&rate, payment, -rate.units(100), now).level.units, -rate.capacity());
    assert_eq!(full.adjusted(&rate, payment, -rate.units(2), now).level.units, rate.units(3));
}

#[test]
fn a_bucket_that_holds_exactly_half_is_not_well_filled() {
    let rate = Rate::new(10, Duration::from_micros(10), 10).unwrap();
    let low = BucketState { level: Level { units: 3, at: Micros(0) }, above_half_at: Micros(0) };
    assert_eq!(low.advanced_to(&rate, Micros(2)).above_half_at, Micros(0), "it holds five of ten");
    assert_eq!(low.advanced_to(&rate, Micros(3)).above_half_at, Micros(3));
}

/// A bucket that is exactly half full was not above half.
#[test]
fn only_more_than_half_counts_as_above_half() {
    let rate = Rate::new(10, Duration::from_secs(10), 10).unwrap();
    for (before, moment) in [(rate.half(), 0), (rate.half() + 1, 9)] {
        let mut state = BucketState::full(&rate, Micros(0)).with_units(before);
        state.spend(&rate, (before, before - 1), Micros(9));
        assert_eq!(state.above_half_at, Micros(moment), "{before}");
    }
}
