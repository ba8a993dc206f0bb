use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use proptest::prelude::*;
use tokio::sync::{Notify, Semaphore};
use vmcp_timing::{ManualClock, Micros};

use super::*;

/// A cache whose values are the numbers of their exchanges.
struct TestCache {
    clock: Arc<ManualClock>,
    cache: CredentialCache<usize>,
    exchanges: Arc<AtomicUsize>,
    authority: Arc<str>,
}

impl TestCache {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let cache = CredentialCache::new(Arc::<ManualClock>::clone(&clock));
        Self { clock, cache, exchanges: Arc::default(), authority: Arc::from("idp:443") }
    }

    async fn fetch(
        &self,
        user: u64,
        fetched: impl Future<Output = Result<Option<Duration>, FetchFailure>> + Send + 'static,
    ) -> FetchOutcome<usize> {
        let exchanges = Arc::clone(&self.exchanges);
        let fetch = move || async move {
            let value = exchanges.fetch_add(1, Ordering::SeqCst);
            fetched.await.map(|lifetime| FetchedCredential { value, lifetime, bytes: 100 })
        };
        self.cache.get(key(user), &self.authority, fetch).await
    }

    async fn get(&self, user: u64, lifetime: Option<Duration>) -> (usize, CredentialVersion) {
        self.fetch(user, async move { Ok(lifetime) }).await.unwrap()
    }

    fn count(&self) -> usize {
        self.exchanges.load(Ordering::SeqCst)
    }
}

fn key(user: u64) -> CacheKey {
    let mut subject = [0; 32];
    subject[..8].copy_from_slice(&user.to_le_bytes());
    CacheKey { strategy: [1; 32], subject }
}

fn seconds(number: u64) -> Option<Duration> {
    Some(Duration::from_secs(number))
}

#[tokio::test]
async fn ten_users_with_a_thousand_calls_each_make_260_exchanges() {
    // A lifetime of 300 seconds minus a margin of 30 is 270 seconds. With a call every 7 seconds every 39th
    // is an exchange (39 x 7 = 273), so 1,000 calls make ceil(1000 / 39) = 26 exchanges per user.
    let harness = TestCache::new();
    for _call in 0..1000 {
        for user in 0..10 {
            harness.get(user, seconds(300)).await;
        }
        harness.clock.advance(Micros::from(Duration::from_secs(7)).0);
    }
    assert_eq!(harness.count(), 260);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The model: an exchange is made when there is none, or when the last one's result has expired.
    #[test]
    fn exchanges_are_exactly_those_that_expiry_demands(
        calls in prop::collection::vec((0_u64..10, 0_u64..200, prop::option::of(0_u64..2000)), 1..400),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let harness = TestCache::new();
            let mut ends = std::collections::HashMap::new();
            let (mut now, mut expected) = (0_u64, 0);
            for (user, wait, lifetime) in calls {
                harness.clock.advance(Micros::from(Duration::from_secs(wait)).0);
                now += wait * 1000;
                if ends.get(&user).is_none_or(|end| now >= *end) {
                    expected += 1;
                    let life = lifetime.unwrap_or(300) * 1000;
                    ends.insert(user, now + life - (life / 10).min(60_000));
                }
                harness.get(user, lifetime.map(Duration::from_secs)).await;
                prop_assert_eq!(harness.count(), expected);
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_hundred_calls_at_once_make_one_exchange() {
    let harness = TestCache::new();
    let gate = Arc::new(Semaphore::new(0));
    let calls = (0..100).map(|_| {
        let gate = Arc::clone(&gate);
        harness.fetch(1, async move {
            let _open = gate.acquire().await;
            Ok(seconds(300))
        })
    });
    let open = async {
        tokio::task::yield_now().await;
        gate.add_permits(1000);
    };
    let (outcomes, ()) = tokio::join!(join_all(calls), open);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok((0, _)))));
    assert_eq!(harness.count(), 1);
    assert_eq!(harness.cache.sizes(), (1, 100, 0));
}

#[tokio::test]
async fn a_failure_fails_all_who_wait_and_nobody_after() {
    let harness = TestCache::new();
    let gate = Arc::new(Semaphore::new(0));
    let calls = (0..100).map(|_| {
        let (gate, place) = (Arc::clone(&gate), Arc::clone(&harness.authority));
        harness.fetch(1, async move {
            let _open = gate.acquire().await;
            Err(FetchFailure::unavailable(&place, "away"))
        })
    });
    let open = async {
        tokio::task::yield_now().await;
        gate.add_permits(1000);
    };
    let (outcomes, ()) = tokio::join!(join_all(calls), open);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(CredentialError::Unavailable { .. }))));
    assert_eq!(harness.count(), 1);
    assert_eq!(harness.get(1, seconds(300)).await.0, 1);
}

#[tokio::test]
async fn an_answer_of_no_is_remembered_for_a_second() {
    let harness = TestCache::new();
    let refuse = || {
        let failure = FetchFailure::refused(&harness.authority, Some("invalid_grant"));
        harness.fetch(1, async move { Err(FetchFailure { is_cacheable: true, ..failure }) })
    };
    let first = refuse().await.unwrap_err();
    harness.clock.advance(Micros::from(Duration::from_millis(999)).0);
    assert_eq!(refuse().await.unwrap_err(), first);
    assert_eq!(harness.count(), 1);
    harness.clock.advance(Micros::from(Duration::from_millis(1)).0);
    assert_eq!(harness.get(1, seconds(300)).await.0, 1);
}

#[tokio::test]
async fn one_who_leaves_takes_nothing_from_the_others() {
    let harness = TestCache::new();
    let gate = Arc::new(Notify::new());
    let call = || {
        let gate = Arc::clone(&gate);
        harness.fetch(1, async move {
            gate.notified().await;
            Ok(seconds(300))
        })
    };
    // The call that started the exchange is cancelled.
    tokio::select! {
        biased;
        _outcome = call() => unreachable!("the gate is closed"),
        () = tokio::task::yield_now() => {}
    }
    let (outcome, ()) = tokio::join!(call(), async { gate.notify_one() });
    assert_eq!(outcome.unwrap().0, 0);
    assert_eq!(harness.count(), 1);
}

#[tokio::test]
async fn an_exchange_that_nobody_waits_for_any_more_is_kept() {
    let harness = TestCache::new();
    let gate = Arc::new(Notify::new());
    let passing = Arc::clone(&gate);
    tokio::select! {
        biased;
        _outcome = harness.fetch(1, async move { passing.notified().await; Ok(seconds(300)) }) => unreachable!(),
        () = tokio::task::yield_now() => {}
    }
    gate.notify_one();
    while harness.cache.sizes().0 == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(harness.get(1, seconds(300)).await.0, 0);
    assert_eq!(harness.count(), 1);
}

#[tokio::test]
async fn an_exchange_that_breaks_wakes_all_and_blocks_nobody() {
    let harness = TestCache::new();
    let broken = harness.fetch(1, async { panic!("a test of what a panic leaves behind") }).await;
    assert!(matches!(broken, Err(CredentialError::Unavailable { .. })));
    assert_eq!(harness.cache.sizes(), (0, 0, 0));
    assert_eq!(harness.get(1, seconds(300)).await.0, 1);
}

#[tokio::test]
async fn what_is_over_when_it_comes_is_given_out_and_not_kept() {
    let harness = TestCache::new();
    assert_eq!(harness.get(1, seconds(0)).await.0, 0);
    assert_eq!(harness.get(1, seconds(0)).await.0, 1);
    assert_eq!(harness.cache.sizes(), (0, 0, 0));
}

#[tokio::test]
async fn a_life_is_counted_from_departure_and_bounded() {
    let harness = TestCache::new();
    let clock = Arc::clone(&harness.clock);
    let slow = harness.fetch(1, async move {
        clock.advance(Micros::from(Duration::from_secs(9)).0);
        Ok(seconds(100))
    });
    slow.await.unwrap();
    harness.clock.advance(Micros::from(Duration::from_secs(80)).0);
    assert_eq!(harness.get(1, seconds(100)).await.0, 0);
    harness.clock.advance(Micros::from(Duration::from_secs(1)).0);
    assert_eq!(harness.get(1, Some(Duration::MAX)).await.0, 1);
    harness.clock.advance(Micros::from(Duration::from_hours(24) - Duration::from_secs(61)).0);
    assert_eq!(harness.get(1, seconds(1)).await.0, 1);
    harness.clock.advance(Micros::from(Duration::from_secs(1)).0);
    assert_eq!(harness.get(1, seconds(1)).await.0, 2);
}

#[tokio::test]
async fn the_one_used_longest_ago_gives_way() {
    let harness = TestCache::new();
    for user in 0..10_000 {
        harness.get(user, seconds(300)).await;
    }
    // The first entry is used again, so the second is the least recently used.
    assert_eq!(harness.get(0, seconds(300)).await.0, 0);
    harness.get(10_000, seconds(300)).await;
    assert_eq!(harness.cache.sizes(), (10_000, 1_000_000, 0));
    assert_eq!(harness.get(0, seconds(300)).await.0, 0);
    assert_eq!(harness.get(1, seconds(300)).await.0, 10_001);
}

#[tokio::test]
async fn bytes_are_bounded_too() {
    let harness = TestCache::new();
    for user in 0..100 {
        let fetch = || async { Ok(FetchedCredential { value: 0, lifetime: seconds(300), bytes: 1 << 20 }) };
        harness.cache.get(key(user), &harness.authority, fetch).await.unwrap();
    }
    assert_eq!(harness.cache.sizes(), (64, BYTES_MAX, 0));
}

#[tokio::test]
async fn a_flood_is_refused() {
    let harness = TestCache::new();
    let gate = Arc::new(Semaphore::new(0));
    let calls = (0..1025).map(|user| {
        let gate = Arc::clone(&gate);
        harness.fetch(user, async move {
            let _open = gate.acquire().await;
            Ok(seconds(300))
        })
    });
    let open = async {
        tokio::task::yield_now().await;
        // Another endpoint has a limit of its own.
        let fetch = || async { Ok(FetchedCredential { value: 0, lifetime: None, bytes: 1 }) };
        harness.cache.get(key(5000), &Arc::from("other:443"), fetch).await.unwrap();
        gate.add_permits(2000);
    };
    let (outcomes, ()) = tokio::join!(join_all(calls), open);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1);
    assert_eq!(harness.cache.sizes(), (1025, 102_401, 0));
}

#[tokio::test]
async fn a_refused_credential_is_dropped_once() {
    let harness = TestCache::new();
    let (_, first) = harness.get(1, seconds(3600)).await;
    // All requests that used it report it; one exchange follows.
    for _report in 0..10 {
        assert!(harness.cache.invalidate(&first));
    }
    let (value, second) = harness.get(1, seconds(3600)).await;
    assert_eq!(value, 1);
    assert!(harness.cache.invalidate(&first), "there is a newer one");
    assert_eq!(harness.get(1, seconds(3600)).await, (1, second));
    // The backend rejects the new one too, so further exchanges would not help.
    assert!(!harness.cache.invalidate(&second));
    assert_eq!(harness.get(1, seconds(3600)).await, (1, second));
    harness.clock.advance(Micros::from(REPLACEMENT_AGE_MIN).0);
    assert!(harness.cache.invalidate(&second));
    assert_eq!(harness.get(1, seconds(3600)).await.0, 2);
    assert_eq!(harness.count(), 3);
}

#[tokio::test]
async fn callers_and_strategies_are_kept_apart() {
    let harness = TestCache::new();
    harness.get(1, seconds(300)).await;
    assert_eq!(harness.get(2, seconds(300)).await.0, 1);
    let other = CacheKey { strategy: [2; 32], ..key(1) };
    let fetch = || async { Ok(FetchedCredential { value: 77, lifetime: None, bytes: 1 }) };
    assert_eq!(harness.cache.get(other, &harness.authority, fetch).await.unwrap().0, 77);
    assert_eq!(harness.get(1, seconds(300)).await.0, 0);
}

#[tokio::test]
async fn a_credential_ends_by_the_time_of_day_too() {
    let harness = TestCache::new();
    let hour = Some(Duration::from_hours(1));
    assert_eq!(harness.get(1, hour).await.0, 0);
    // Suspended for two hours: the monotonic clock stopped.
    harness.clock.set_lead(Duration::from_secs(7200));
    assert_eq!(harness.get(1, hour).await.0, 1);
    // The time of day is set back: the monotonic clock still counts.
    harness.clock.set_lead(Duration::from_secs(0));
    assert_eq!(harness.get(1, hour).await.0, 1);
    harness.clock.advance(Micros::from(Duration::from_hours(1)).0);
    assert_eq!(harness.get(1, hour).await.0, 2);
}
