//! Debts to the shared store after an outage: all of them are written back once, and the limiter reports when
//! it is done.

use super::outage::{count_admitted, shared_harness};
use super::*;
use crate::shared::fallback::Debts;

/// The tokens that the shared bucket of the harness lacks in the store.
async fn missing(harness: &Harness) -> u64 {
    let ctx = known("i", "observer");
    let tools = harness.gateway.list_tools(&ctx).await.unwrap();
    let views = harness.limiter.peek(&tools, &"a_search".into(), &ctx).await.unwrap();
    views[0].capacity - views[0].level
}

#[tokio::test(start_paused = true)]
async fn one_call_is_written_back_and_waited_for() {
    let (harness, store) = shared_harness(OnStoreFailure::Local);
    assert!(harness.limiter.wait_settled(Duration::ZERO).await, "nothing is owed yet");
    store.set_failure(Some(StoreFailure::Disconnected));
    assert_eq!(count_admitted(&harness, 1).await, 1);
    assert!(!harness.limiter.wait_settled(Duration::from_secs(5)).await, "the store is away");
    store.set_failure(None);
    assert!(harness.limiter.wait_settled(Duration::from_secs(5)).await);
    assert_eq!(missing(&harness).await, 1);
    // Once more: the task that writes debts has ended, and another one begins.
    store.set_failure(Some(StoreFailure::Disconnected));
    assert_eq!(count_admitted(&harness, 2).await, 2);
    assert!(!harness.limiter.wait_settled(Duration::from_secs(1)).await);
    store.set_failure(None);
    assert!(harness.limiter.wait_settled(Duration::from_secs(5)).await);
    assert_eq!(missing(&harness).await, 3);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_written_is_owed_still() {
    let (harness, store) = shared_harness(OnStoreFailure::Local);
    store.set_failure(Some(StoreFailure::Disconnected));
    assert_eq!(count_admitted(&harness, 3).await, 3);
    store.failing_changes.store(2, Ordering::SeqCst);
    store.set_failure(None);
    assert!(harness.limiter.wait_settled(Duration::from_secs(5)).await);
    assert_eq!((missing(&harness).await, store.failing_changes.load(Ordering::SeqCst)), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn debts_are_bounded() {
    let store: Arc<dyn RemoteStore> = {
        let store = FakeStore::new(Arc::new(ManualClock::default()));
        store.set_failure(Some(StoreFailure::Disconnected));
        store
    };
    let debts = Debts::new();
    let bucket = |number: u32| RemoteBucket {
        key: number.to_string().into(),
        rate: Rate::new(10, Duration::from_secs(1), 10).unwrap(),
        cost: 1,
        mode: Mode::Enforce,
        shadow_rule: None,
        partition: None,
        period: None,
        legacy_keys: None,
    };
    let all: Vec<RemoteBucket> = (0..100_001).map(bucket).collect();
    debts.add(all.iter().map(|bucket| (bucket, 1)), &store);
    assert_eq!(debts.count(), 100_000);
    debts.add(all.iter().map(|bucket| (bucket, 1)), &store);
    assert_eq!(debts.count(), 100_000, "known ones are owed more");
}
