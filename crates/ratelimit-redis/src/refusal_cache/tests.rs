use std::time::Duration;

use super::*;

const RATE: (u64, u64) = (10, 1);

fn bucket(key: &str, cost: u32) -> RemoteBucket {
    let rate = Rate::new(RATE.0, Duration::from_secs(RATE.1), 10).unwrap();
    RemoteBucket {
        key: key.into(),
        rate,
        cost,
        mode: Mode::Enforce,
        shadow_rule: None,
        partition: None,
        period: None,
        legacy_keys: None,
    }
}

fn admit_request(keys: &[&str]) -> AdmitRequest {
    AdmitRequest { buckets: keys.iter().map(|key| bucket(key, 1)).collect() }
}

fn grant_with_levels(levels: &[i64]) -> AdmitGrant {
    let paid = levels.iter().map(|_| 0).collect();
    AdmitGrant {
        granted_count: 0,
        now: Micros(5),
        levels: levels.iter().copied().collect(),
        paid_counts: paid,
    }
}

/// Inserts a decision that was sent at `sent`, with its reply received at `received`.
fn insert_decision(cache: &RefusalCache, request: &AdmitRequest, levels: &[i64], sent: u64, received: u64) {
    let mark = cache.mark_sent(Micros(sent));
    cache.insert(request, &grant_with_levels(levels), mark, Micros(received));
}

#[test]
fn refuses_as_long_as_it_is_certain_and_no_longer() {
    let (cache, request) = (RefusalCache::new(), admit_request(&["a", "b"]));
    // One token is 100000 units; the bucket refills one unit in a microsecond.
    insert_decision(&cache, &request, &[1_000_000, 40_000], 1000, 1500);
    let found = cache.find(&request, Micros(1500)).unwrap();
    assert!(!found.admitted);
    assert_eq!(found.pays.as_slice(), [false, false]);
    // The bucket may have been read as early as 1000, when it was short by 60000 microseconds.
    assert!(cache.find(&request, Micros(60_998)).is_some());
    assert!(cache.find(&request, Micros(60_999)).is_none());
    // It may have been read as late as 1500: a wait is counted from then.
    let found = cache.find(&request, Micros(60_000)).unwrap();
    let rate = request.buckets[1].rate;
    assert_eq!(60_000 + rate.wait(found.levels[1], rate.units(1)), 61_501);
}

#[test]
fn what_was_not_seen_is_asked_for() {
    let cache = RefusalCache::new();
    insert_decision(&cache, &admit_request(&["a", "b"]), &[0, 500_000], 1000, 1500);
    assert!(cache.find(&admit_request(&["a"]), Micros(2000)).is_some(), "whatever else is asked with it");
    assert!(cache.find(&admit_request(&["b"]), Micros(2000)).is_none(), "it can pay");
    assert!(cache.find(&admit_request(&["a", "c"]), Micros(2000)).is_none(), "the wait for c is not known");
    let mut other = admit_request(&["a"]);
    other.buckets[0].rate = Rate::new(20, Duration::from_secs(1), 10).unwrap();
    assert!(cache.find(&other, Micros(2000)).is_none(), "another configuration");
    let mut shadow = admit_request(&["a"]);
    shadow.buckets[0].mode = Mode::Shadow;
    assert!(cache.find(&shadow, Micros(2000)).is_none(), "it refuses nobody");
    let dear = AdmitRequest { buckets: std::iter::once(bucket("b", 6)).collect() };
    assert!(cache.find(&dear, Micros(2000)).is_some(), "too dear for what it holds");
}

#[test]
fn readings_count_for_a_second() {
    let (cache, request) = (RefusalCache::new(), admit_request(&["a"]));
    insert_decision(&cache, &request, &[-1_000_000], 1000, 1500);
    assert!(cache.find(&request, Micros(1_000_999)).is_some());
    assert!(cache.find(&request, Micros(1_001_000)).is_none());
}

#[test]
fn what_is_given_back_is_not_overlooked() {
    let (cache, request) = (RefusalCache::new(), admit_request(&["a"]));
    insert_decision(&cache, &request, &[0], 1000, 1500);
    let under_way = cache.mark_sent(Micros(1600));
    cache.invalidate(&request.buckets);
    assert!(cache.find(&request, Micros(1700)).is_none());
    cache.insert(&request, &grant_with_levels(&[0]), under_way, Micros(1800));
    assert!(cache.find(&request, Micros(1900)).is_none(), "it may have been read before");
    insert_decision(&cache, &request, &[0], 2000, 2100);
    assert!(cache.find(&request, Micros(2200)).is_some());
}

#[test]
fn no_more_than_so_many_are_remembered() {
    let cache = RefusalCache::new();
    for user in 0..100_000 {
        insert_decision(&cache, &admit_request(&[&format!("user:{user}")]), &[0], 1000, 1500);
    }
    let kept: usize = cache
        .shards
        .iter()
        .map(|shard| {
            let shard = shard.lock();
            shard.current.len() + shard.previous.len()
        })
        .sum();
    assert!(kept <= 2 * SHARD_COUNT * SHARD_MAX, "{kept}");
    assert!(cache.find(&admit_request(&["user:99999"]), Micros(2000)).is_some());
}
