//! What is owed to the shared store after an outage: all of it, once, and told when it is settled.

use super::outage::{admitted, shared_bench};
use super::*;
use crate::fallback::Debts;

/// What the shared bucket of the bench lacks in the store, in tokens.
async fn missing(bench: &Bench) -> u64 {
    let ctx = known("i", "observer");
    let tools = bench.gateway.list_tools(&ctx).await.unwrap();
    let views = bench.limiter.peek(&tools, &"a_search".into(), &ctx).await.unwrap();
    views[0].capacity - views[0].level
}

#[tokio::test(start_paused = true)]
async fn one_call_is_written_back_and_waited_for() {
    let (bench, store) = shared_bench(OnStoreFailure::Local);
    assert!(bench.limiter.settled(Duration::ZERO).await, "nothing is owed yet");
    store.break_with(Some(StoreFailure::Unconnected));
    assert_eq!(admitted(&bench, 1).await, 1);
    assert!(!bench.limiter.settled(Duration::from_secs(5)).await, "the store is away");
    store.break_with(None);
    assert!(bench.limiter.settled(Duration::from_secs(5)).await);
    assert_eq!(missing(&bench).await, 1);
    // And again: the task that writes has ended, and another one begins.
    store.break_with(Some(StoreFailure::Unconnected));
    assert_eq!(admitted(&bench, 2).await, 2);
    assert!(!bench.limiter.settled(Duration::from_secs(1)).await);
    store.break_with(None);
    assert!(bench.limiter.settled(Duration::from_secs(5)).await);
    assert_eq!(missing(&bench).await, 3);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_written_is_owed_still() {
    let (bench, store) = shared_bench(OnStoreFailure::Local);
    store.break_with(Some(StoreFailure::Unconnected));
    assert_eq!(admitted(&bench, 3).await, 3);
    store.failing_changes.store(2, Ordering::SeqCst);
    store.break_with(None);
    assert!(bench.limiter.settled(Duration::from_secs(5)).await);
    assert_eq!((missing(&bench).await, store.failing_changes.load(Ordering::SeqCst)), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn debts_are_bounded() {
    let store: Arc<dyn RemoteStore> = {
        let store = FakeStore::new(Arc::new(ManualClock::default()));
        store.break_with(Some(StoreFailure::Unconnected));
        store
    };
    let debts = Debts::new();
    let bucket = |number: u32| RemoteBucket {
        key: number.to_string().into(),
        rate: Rate::new(10, Duration::from_secs(1), 10).unwrap(),
        cost: 1,
        mode: Mode::Enforce,
        trial: None,
        home: None,
        period: None,
        former: None,
    };
    let all: Vec<RemoteBucket> = (0..100_001).map(bucket).collect();
    debts.change(all.iter().map(|bucket| (bucket, 1)), &store);
    assert_eq!(debts.count(), 100_000);
    debts.change(all.iter().map(|bucket| (bucket, 1)), &store);
    assert_eq!(debts.count(), 100_000, "known ones are owed more");
}
