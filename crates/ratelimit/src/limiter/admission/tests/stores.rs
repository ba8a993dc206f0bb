//! Waiting with a store that other replicas spend from too.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use vmcp_domain::Retry;

use super::shared;
use crate::limiter::Sharing;
use crate::limiter::admission::tests::harness::{Harness, PausedClock, seconds};
use crate::limiter::tests::FakeStore;
use crate::plan::policy::WaitBounds;
use crate::shared::store::{OnStoreFailure, SLOT_LEASE};

/// A number of replicas over one store, with a bucket of a token a second.
fn fleet(count: usize, wait: u64) -> (Vec<Arc<Harness>>, Arc<FakeStore>) {
    let clock = PausedClock::new();
    let store = FakeStore::new(clock.clone());
    let replicas = (0..count).map(|_| {
        let sharing = Sharing {
            store: store.clone(),
            on_failure: OnStoreFailure::Deny,
            replica_count: Some(count as u32),
            slot_lease: SLOT_LEASE,
        };
        let policy = (shared(1, 1, wait), vec![], WaitBounds::default());
        Arc::new(Harness::with_sharing(policy, clock.clone(), Some(sharing)))
    });
    (replicas.collect(), store)
}

#[tokio::test(start_paused = true)]
async fn a_queue_does_not_hammer_the_store() {
    let (replicas, store) = fleet(1, 60);
    replicas[0].call("a", "t").await.unwrap();
    let mut waiting = Vec::new();
    for user in ["b", "c", "d", "e"] {
        for _ in 0..10 {
            waiting.push(replicas[0].start(user, "t").await);
        }
    }
    // One request is admitted and one refused; a call that comes while others wait need not ask.
    assert_eq!(store.request_count.load(Ordering::SeqCst), 2);
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    assert_eq!(
        store.request_count.load(Ordering::SeqCst),
        42,
        "then each asks once, when its token is there"
    );
}

#[tokio::test(start_paused = true)]
async fn replicas_share_what_comes_and_ask_in_bounds() {
    let (replicas, store) = fleet(3, 600);
    let begun = tokio::time::Instant::now();
    let mut waiting = Vec::new();
    for replica in &replicas {
        for user in 0..10_u32 {
            waiting.push(replica.start(&user.to_string(), "t").await);
        }
    }
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    let took = begun.elapsed();
    assert!(took >= seconds(29), "thirty calls, of which one found a token: {took:?}");
    assert!(took <= seconds(31), "no token was left lying: {took:?}");
    // Every replica asks for each token: one gets it, the others learn when the next one is there.
    let asked = store.request_count.load(Ordering::SeqCst);
    assert!(asked <= 30 * 3 + 6, "{asked} asked");
}

#[tokio::test(start_paused = true)]
async fn a_shared_bucket_refuses_at_once_what_comes_too_late() {
    let (replicas, _store) = fleet(1, 2);
    replicas[0].call("a", "t").await.unwrap();
    let waiting = [replicas[0].start("a", "t").await, replicas[0].start("b", "t").await];
    assert_eq!(replicas[0].call("c", "t").await, Err(Retry::After(seconds(3))));
    for call in waiting {
        assert!(call.await.unwrap().unwrap() <= Duration::from_secs(2));
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_a_shared_queue_has_asked_for_nothing() {
    let (replicas, store) = fleet(1, 60);
    replicas[0].call("a", "t").await.unwrap();
    let leaves = replicas[0].start("b", "t").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    leaves.abort();
    let _ = leaves.await;
    let before = store.request_count.load(Ordering::SeqCst);
    tokio::time::sleep(seconds(10)).await;
    assert_eq!(store.request_count.load(Ordering::SeqCst), before);
    assert_eq!(replicas[0].call("c", "t").await, Ok(Duration::ZERO));
}
