use super::*;

fn at(uptime_s: u64, unix_s: u64, generation: u64) -> Now {
    Now { uptime: Duration::from_secs(uptime_s), unix_s, generation }
}

fn validity(forget_at_s: u64, expires_unix_s: Option<u64>) -> Validity {
    Validity { forget_at: Duration::from_secs(forget_at_s), expires_unix_s }
}

#[test]
fn entries_end_by_either_clock_and_with_the_keys() {
    let cache = TokenCache::new();
    let key = digest("a");
    cache.get_or_insert(key, 1, validity(300, Some(1100)), at(0, 1000, 0));
    assert_eq!(cache.get(&key, at(299, 1099, 0)), Some(1));
    assert_eq!(cache.get(&key, at(300, 1000, 0)), None);
    assert_eq!(cache.get(&key, at(0, 1100, 0)), None);
    assert_eq!(cache.get(&key, at(0, 1000, 1)), None);
    assert_eq!(cache.get(&digest("b"), at(0, 1000, 0)), None);
}

#[test]
fn the_first_value_stays_as_long_as_it_stands() {
    let cache = TokenCache::new();
    let key = digest("a");
    assert_eq!(cache.get_or_insert(key, 1, validity(300, None), at(0, 0, 0)), 1);
    assert_eq!(cache.get_or_insert(key, 2, validity(300, None), at(1, 0, 0)), 1);
    assert_eq!(cache.get_or_insert(key, 3, validity(300, None), at(1, 0, 1)), 3);
}

#[test]
fn the_number_is_bounded_and_the_oldest_goes() {
    let cache = TokenCache::new();
    for number in 0..3 * CREDENTIALS_MAX as u64 {
        cache.get_or_insert(digest(&number.to_string()), number, validity(1000 + number, None), at(0, 0, 0));
    }
    assert!(cache.len() <= CREDENTIALS_MAX, "{}", cache.len());
    let last = 3 * CREDENTIALS_MAX as u64 - 1;
    assert_eq!(cache.get(&digest(&last.to_string()), at(0, 0, 0)), Some(last));
    assert_eq!(cache.get(&digest("0"), at(0, 0, 0)), None);
}
