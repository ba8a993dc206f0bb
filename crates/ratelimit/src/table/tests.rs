use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn rate() -> Rate {
    Rate::new(2, Duration::from_micros(10), 2).unwrap()
}

#[test]
fn a_user_is_one_cache_line() {
    assert_eq!(size_of::<User>(), 64);
}

proptest! {
    /// The table agrees with a plain map through inserts, spending and sweeps; only full users are ever forgotten.
    #[test]
    fn agrees_with_a_map(steps in prop::collection::vec((0_u8..3, 1_u128..40, 0_u32..4, 0_u64..30), 1..300)) {
        let (mut table, mut model) = (Table::default(), HashMap::<u128, HashMap<u32, BucketState>>::new());
        let mut now = Micros(0);
        for (step, key, bucket, elapsed) in steps {
            now = now.plus(elapsed);
            // Hashes that crowd one home, to make long probes and wrap around.
            let key = UserKey::new((key % 7) << 125 | key);
            match step {
                0 | 1 => {
                    let place = table.find(key).unwrap_or_else(|| table.insert(key));
                    let state = BucketState::full(&rate(), now).with_units(0);
                    table.at_mut(place).set_state(BucketId(bucket), state);
                    model.entry(key.number()).or_default().insert(bucket, state);
                }
                _ => {
                    table.sweep(8, &|_| Some((rate(), now)));
                }
            }
            for (key, states) in &model {
                let full = states.values().all(|state| rate().level_at(state.level, now) == rate().capacity());
                match table.find(UserKey::new(*key)) {
                    None => prop_assert!(full, "only a full user may be forgotten"),
                    Some(place) => for (bucket, state) in states {
                        // A user who was forgotten and came back has only what was spent since.
                        let kept = table.at(place).state(BucketId(*bucket));
                        prop_assert!(kept == Some(*state) || rate().level_at(state.level, now) == rate().capacity());
                    },
                }
            }
            let present = model.keys().filter(|key| table.find(UserKey::new(**key)).is_some()).count();
            prop_assert_eq!(present, table.len());
        }
    }
}

#[test]
fn calls_in_flight_keep_a_user() {
    let mut table = Table::default();
    let place = table.insert(UserKey::new(9));
    table.at_mut(place).set_in_flight(BucketId(1), 2);
    assert_eq!(table.sweep(100, &|_| Some((rate(), Micros(1_000_000)))), 0);
    table.at_mut(place).set_in_flight(BucketId(1), 0);
    assert_eq!(table.sweep(100, &|_| Some((rate(), Micros(1_000_000)))), 1);
    assert_eq!(table.len(), 0);
}
