use proptest::prelude::*;

use super::*;

/// The model: the level of a bucket in exact arithmetic of 128 bits, in units.
fn model_level(rate: &Rate, level: i64, elapsed: u64) -> i128 {
    (i128::from(level) + i128::from(elapsed) * i128::from(rate.refill())).min(i128::from(rate.capacity()))
}

fn rates() -> impl Strategy<Value = Rate> {
    let tokens = prop_oneof![1_u64..10, 1_u64..2_000_000];
    let period = prop_oneof![1_u64..1000, 1_000_000_u64..=1_000_000, 1_u64..3_000_000_000_000];
    (tokens, period, 1_u64..100_000).prop_filter_map("not countable", |(tokens, period, burst)| {
        Rate::new(tokens, Duration::from_micros(period), burst).ok()
    })
}

proptest! {
    #[test]
    fn levels_are_exact(rate in rates(), share in 0.0_f64..1.0, elapsed in prop_oneof![0_u64..5_000_000, any::<u64>()]) {
        let start = (rate.capacity() as f64 * share) as i64;
        let level = Level { units: start, at: Micros(7) };
        let now = Micros(7).plus(elapsed);
        prop_assert_eq!(i128::from(rate.level_at(level, now)), model_level(&rate, start, now.since(Micros(7))));
    }

    #[test]
    fn the_wait_is_the_first_moment_that_suffices(rate in rates(), share in 0.0_f64..1.0, cost in 1_u64..100) {
        let cost = rate.units(cost.min(rate.burst()));
        let units = (rate.capacity() as f64 * share) as i64;
        let level = Level { units, at: Micros(0) };
        let wait = rate.wait(units, cost);
        prop_assert!(rate.level_at(level, Micros(wait)) >= cost, "admitted at the wait");
        if wait > 0 {
            prop_assert!(rate.level_at(level, Micros(wait - 1)) < cost, "refused just before");
        }
    }

    #[test]
    fn earning_in_pieces_is_earning_at_once(rate in rates(), cuts in prop::collection::vec(0_u64..10_000_000, 1..20)) {
        let total: u64 = cuts.iter().sum();
        let start = Level { units: 0, at: Micros(0) };
        let mut pieces = start;
        for cut in cuts {
            let now = pieces.at.plus(cut);
            pieces = pieces.updated(rate.level_at(pieces, now), now);
        }
        prop_assert_eq!(pieces.units, rate.level_at(start, Micros(total)));
    }

    #[test]
    fn a_backward_clock_earns_nothing(rate in rates(), back in 0_u64..1_000_000) {
        let level = Level { units: 0, at: Micros(1_000_000) };
        let now = Micros(1_000_000 - back);
        prop_assert_eq!(rate.level_at(level, now), 0);
        prop_assert_eq!(level.updated(0, now).at, Micros(1_000_000));
    }
}

#[test]
fn slow_and_fast_rates_do_not_drift() {
    let day = Duration::from_secs(86_400);
    for (tokens, period) in [
        (1, day * 30),
        (1, day * 7),
        (1, day),
        (1_000_000, Duration::from_secs(1)),
        (7, Duration::from_secs(3)),
    ] {
        let rate = Rate::new(tokens, period, tokens).unwrap();
        let mut level = Level { units: 0, at: Micros(0) };
        // A caller that calls every 37 ms for ten periods earns exactly the tokens of ten periods.
        let step = 37_000;
        let end = u64::try_from(period.as_micros()).unwrap() * 10;
        let mut earned = 0_u64;
        let steps = (end / step).min(200_000);
        let stride = end / steps;
        for turn in 1..=steps {
            let now = Micros(turn * stride);
            let mut units = rate.level_at(level, now);
            while units >= rate.units(1) && earned < u64::MAX {
                let whole = i64::try_from(rate.tokens(units)).unwrap();
                units -= whole * rate.units(1);
                earned += u64::try_from(whole).unwrap();
            }
            level = level.updated(units, now);
        }
        let exact = u128::from(tokens) * u128::from(steps * stride) / period.as_micros();
        assert_eq!(u128::from(earned), exact, "{tokens} in {period:?}");
    }
}

#[test]
fn what_cannot_be_exact_is_refused() {
    let second = Duration::from_secs(1);
    assert_eq!(Rate::new(0, second, 1), Err(RateError::NoTokens));
    assert_eq!(Rate::new(1, second, 0), Err(RateError::NoTokens));
    assert_eq!(Rate::new(1, Duration::ZERO, 1), Err(RateError::NoPeriod));
    assert_eq!(Rate::new(1, Duration::from_nanos(1500), 1), Err(RateError::TooFine));
    assert_eq!(Rate::new(1 << 31, second, 1), Err(RateError::TooManyTokens));
    assert_eq!(Rate::new(999_983, Duration::from_secs(86_400 * 365), 999_983), Err(RateError::Inexact));
    assert!(Rate::new(1_000_000, Duration::from_secs(86_400 * 30), 1_000_000).is_ok());
    assert!(Rate::new(1, Duration::from_secs(86_400 * 365), 1).is_ok());
}
