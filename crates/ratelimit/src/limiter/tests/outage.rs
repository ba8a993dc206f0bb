//! What a replica decides alone during an outage of the shared store.

use super::*;

pub(super) fn shared_harness(on_failure: OnStoreFailure) -> (Harness, Arc<FakeStore>) {
    limited_harness(Limits { shared: quota(10, 10_000), ..Limits::default() }, on_failure)
}

fn limited_harness(server: Limits, on_failure: OnStoreFailure) -> (Harness, Arc<FakeStore>) {
    harness_with_store(policy(server, vec![], Anonymous::Refuse), on_failure, Arc::new(NoObserver))
}

pub(super) async fn count_admitted(harness: &Harness, attempts: usize) -> usize {
    let mut count = 0;
    for _ in 0..attempts {
        count += usize::from(call(harness, "a_search", &known("i", "s")).await.is_ok());
    }
    count
}

#[tokio::test]
async fn a_shared_refusal_says_when_to_come_back() {
    let (harness, _store) = shared_harness(OnStoreFailure::Deny);
    assert_eq!(count_admitted(&harness, 20).await, 10);
    let refusal = refused(call(&harness, "a_search", &known("i", "s")).await);
    assert_eq!(refusal.retry, Retry::After(Duration::from_secs(1000)));
}

#[tokio::test]
async fn each_failure_policy_does_what_it_says() {
    let (allow, store) = shared_harness(OnStoreFailure::Allow);
    store.set_failure(Some(StoreFailure::Timeout));
    assert_eq!(count_admitted(&allow, 50).await, 50);
    let (deny, store) = shared_harness(OnStoreFailure::Deny);
    store.set_failure(Some(StoreFailure::Timeout));
    assert!(matches!(call(&deny, "a_search", &known("i", "s")).await, Err(Error::LimitsUnavailable)));
    let (local, store) = shared_harness(OnStoreFailure::Local);
    store.set_failure(Some(StoreFailure::Timeout));
    assert_eq!(count_admitted(&local, 50).await, 5, "one of two replicas holds half");
}

#[tokio::test(start_paused = true)]
async fn an_outage_starts_from_the_last_level_and_is_written_back() {
    let (harness, store) = shared_harness(OnStoreFailure::Local);
    assert_eq!(count_admitted(&harness, 6).await, 6);
    store.set_failure(Some(StoreFailure::Disconnected));
    assert_eq!(count_admitted(&harness, 50).await, 2, "four were left, half of them are this replica's");
    store.set_failure(None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(count_admitted(&harness, 50).await, 2, "what was admitted meanwhile is owed");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_and_goes_hands_out_no_share_twice() {
    let (harness, store) = shared_harness(OnStoreFailure::Local);
    let mut count = 0;
    for _ in 0..3 {
        store.set_failure(None);
        count += count_admitted(&harness, 1).await;
        // Before any debt can be written back.
        store.set_failure(Some(StoreFailure::Disconnected));
        count += count_admitted(&harness, 50).await;
    }
    assert_eq!(count, 3 + 4, "the share of nine tokens is four, once");
}

#[tokio::test]
async fn a_change_of_the_replica_count_keeps_what_is_known() {
    let (harness, store) = shared_harness(OnStoreFailure::Local);
    let replicas = |count| store.replicas.store(count, Ordering::SeqCst);
    assert_eq!(count_admitted(&harness, 6).await, 6);
    for count in [3, 1, 2] {
        replicas(count);
    }
    store.set_failure(Some(StoreFailure::Disconnected));
    assert_eq!(count_admitted(&harness, 1).await, 1, "four are left, two of them are this replica's");
    replicas(1);
    assert_eq!(count_admitted(&harness, 50).await, 2, "the other has spent one, or may have");
    replicas(5);
    assert_eq!(count_admitted(&harness, 50).await, 0);
}

#[tokio::test]
async fn a_share_is_one_token_at_least_and_never_a_dearer_call() {
    for (cost, passes) in [(1, 1), (2, 0)] {
        let clock = Arc::new(ManualClock::default());
        let store = FakeStore::new(clock.clone());
        store.replicas.store(20, Ordering::SeqCst);
        store.set_failure(Some(StoreFailure::Disconnected));
        let sharing = Sharing {
            store: store.clone(),
            on_failure: OnStoreFailure::Local,
            replica_count: None,
            slot_lease: SLOT_LEASE,
        };
        let rule = ToolRule {
            cost: NonZeroU32::new(cost).unwrap().into(),
            ..rule("a_search", quota(10, 1000), None)
        };
        let harness = harness(policy(Limits::default(), vec![rule], Anonymous::Refuse), Some(sharing));
        assert_eq!(count_admitted(&harness, 50).await, passes, "of a cost of {cost}");
    }
}

#[tokio::test]
async fn a_refusal_without_the_store_says_when_to_come_back() {
    let (harness, store) = shared_harness(OnStoreFailure::Local);
    store.set_failure(Some(StoreFailure::Disconnected));
    assert_eq!(count_admitted(&harness, 50).await, 5);
    let refusal = refused(call(&harness, "a_search", &known("i", "s")).await);
    assert_eq!(refusal.retry, Retry::After(Duration::from_secs(2000)), "half as fast as with the store");
}

#[tokio::test]
async fn a_full_queue_of_this_replica_lets_nobody_pass() {
    for on_failure in [OnStoreFailure::Allow, OnStoreFailure::Deny, OnStoreFailure::Local] {
        let (harness, store) = shared_harness(on_failure);
        store.set_failure(Some(StoreFailure::Overloaded));
        let outcome = call(&harness, "a_search", &known("i", "s")).await;
        assert!(matches!(outcome, Err(Error::Overloaded)), "{on_failure:?}: {outcome:?}");
    }
}

/// A store that has just come back is not asked for slots. Where slots are in shadow mode, buckets are paid
/// all the same.
#[tokio::test(start_paused = true)]
async fn buckets_are_paid_while_slots_on_trial_wait() {
    for on_failure in [OnStoreFailure::Allow, OnStoreFailure::Deny, OnStoreFailure::Local] {
        let concurrency = Concurrency { shared: NonZeroU32::new(1), per_user: None, mode: Mode::Shadow };
        let (harness, store) = limited_harness(
            Limits { concurrency, shared: quota(10, 10_000), ..Limits::default() },
            on_failure,
        );
        store.reconnect_empty();
        assert_eq!(count_admitted(&harness, 20).await, 10, "{on_failure:?}");
        assert_eq!(store.slots.acquire_count.load(Ordering::SeqCst), 0, "{on_failure:?}");
        let only = Limits {
            concurrency: Concurrency { mode: Mode::Enforce, ..concurrency },
            shared: quota(10, 10_000),
            ..Limits::default()
        };
        let (enforced, store) = limited_harness(only, on_failure);
        store.reconnect_empty();
        let outcome = call(&enforced, "a_search", &known("i", "s")).await;
        assert_eq!(outcome.is_ok(), on_failure != OnStoreFailure::Deny, "{on_failure:?}: {outcome:?}");
        assert_eq!(
            store.request_count.load(Ordering::SeqCst),
            0,
            "{on_failure:?}: no bucket is asked either"
        );
    }
}

/// Slots in shadow mode do not send a call to the failure policy when its decision takes long.
#[tokio::test(start_paused = true)]
async fn slots_on_trial_outdate_no_decision() {
    let trial = Concurrency { shared: NonZeroU32::new(1), per_user: None, mode: Mode::Shadow };
    for (mode, passes) in [(Mode::Shadow, true), (Mode::Enforce, false)] {
        let concurrency = Concurrency { mode, ..trial };
        let limits = Limits { concurrency, shared: quota(10, 10_000), ..Limits::default() };
        let (harness, store) = limited_harness(limits, OnStoreFailure::Deny);
        *store.slots.delay.lock() = Duration::from_millis(1);
        let begun = tokio::spawn({
            let gateway = harness.gateway.clone();
            async move { gateway.call_tool(&known("i", "s"), conformance::tool_call("a_search")).await }
        });
        tokio::task::yield_now().await;
        harness.clock.advance(SLOT_LEASE.as_micros() as u64);
        assert_eq!(begun.await.unwrap().is_ok(), passes, "{mode:?}");
    }
}
