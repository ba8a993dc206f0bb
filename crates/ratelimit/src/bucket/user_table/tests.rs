use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn rate() -> Rate {
    Rate::new(2, Duration::from_micros(10), 2).unwrap()
}

#[test]
fn a_user_is_one_cache_line() {
    assert_eq!(size_of::<UserRecord>(), 64);
}

/// The third bucket of a user allocates memory outside the cache line; removing it frees the memory.
#[test]
fn two_buckets_of_a_user_are_inline() {
    let state = |units| BucketState::full(&rate(), Micros(7)).with_units(units);
    let mut user = UserRecord::VACANT;
    for id in [1, 2] {
        user.set_state(BucketId(id), state(id.into()));
        assert!(user.spilled.is_none());
    }
    for id in [3, 4] {
        user.set_state(BucketId(id), state(id.into()));
    }
    assert_eq!(user.take_state(BucketId(3)), Some(state(3)));
    assert_eq!([3, 4].map(|id| user.state(BucketId(id))), [None, Some(state(4))]);
    assert_eq!(user.take_state(BucketId(4)), Some(state(4)));
    assert!(user.spilled.is_none());
    assert_eq!([1, 2].map(|id| user.state(BucketId(id))), [1, 2].map(|units| Some(state(units))));
    user.set_in_flight(BucketId(1), 1);
    user.set_in_flight(BucketId(1), 0);
    assert!(user.spilled.is_none());
}

#[test]
fn four_fifths_of_the_table_are_used_before_it_grows_by_half() {
    let mut table = UserTable::default();
    let mut sizes = Vec::new();
    for key in 1_u32..=33 {
        table.insert(UserKey::new(key.into()));
        let size = table.records.len();
        if sizes.last().is_none_or(|(last, _)| *last != size) {
            sizes.push((size, key));
        }
    }
    assert_eq!(sizes, [(8, 1), (12, 7), (18, 10), (27, 15), (40, 22), (60, 33)]);
}

/// If all users had the same home index, a lookup would have to probe all of them.
#[test]
fn hashes_spread_over_the_table() {
    let mut table = UserTable::default();
    let homes: Vec<usize> = (0_u128..4).map(|eighth| table.insert(UserKey::new(eighth << 126 | 1))).collect();
    assert_eq!(homes, [0, 2, 4, 6]);
}

/// A sweep continues where the last one ended. It finds the one user that can be removed behind others that
/// cannot.
#[test]
fn sweeps_come_round_the_table() {
    let mut table = UserTable::default();
    for key in 1_u128..=20 {
        let index = table.insert(UserKey::new(key << 100));
        table.at_mut(index).set_in_flight(BucketId(1), u32::from(key != 20));
    }
    let all = |_| Some((rate(), Micros(0)));
    let forgotten: usize = (0..table.records.len()).map(|_| table.sweep(1, &all)).sum();
    assert_eq!((forgotten, table.len()), (1, 19));
    assert!(table.find(UserKey::new(20 << 100)).is_none());
}

proptest! {
    /// The table agrees with a plain map through inserts, spending and sweeps; only full users are ever
    /// removed.
    #[test]
    fn agrees_with_a_map(steps in prop::collection::vec((0_u8..3, 1_u128..40, 0_u32..4, 0_u64..30), 1..300)) {
        let (mut table, mut model) = (UserTable::default(), HashMap::<u128, HashMap<u32, BucketState>>::new());
        let mut now = Micros(0);
        for (step, key, bucket, elapsed) in steps {
            now = now.plus(elapsed);
            // Hashes that crowd into few home indices, so that probes are long and wrap around.
            let key = UserKey::new((key % 7) << 125 | key);
            match step {
                0 | 1 => {
                    let index = table.find(key).unwrap_or_else(|| table.insert(key));
                    let state = BucketState::full(&rate(), now).with_units(0);
                    table.at_mut(index).set_state(BucketId(bucket), state);
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
                    Some(index) => for (bucket, state) in states {
                        // A user that was removed and inserted again has only what was spent since.
                        let kept = table.at(index).state(BucketId(*bucket));
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
    let mut table = UserTable::default();
    let index = table.insert(UserKey::new(9));
    table.at_mut(index).set_in_flight(BucketId(1), 2);
    assert_eq!(table.sweep(100, &|_| Some((rate(), Micros(1_000_000)))), 0);
    table.at_mut(index).set_in_flight(BucketId(1), 0);
    assert_eq!(table.sweep(100, &|_| Some((rate(), Micros(1_000_000)))), 1);
    assert_eq!(table.len(), 0);
}
