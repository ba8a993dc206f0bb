//! What one call holds, misses and releases.

use tokio::time::sleep;

use super::bounds::{LEASE, fleet, slot_batch};
use super::*;

/// Two slot limits, of which the first is in shadow mode.
fn shadow_and_enforced_batches(first: (&str, u32), second: (&str, u32)) -> Vec<SlotBatch> {
    let mut both = slot_batch(&[first, second]);
    both[0].limits[0].mode = Mode::Shadow;
    both
}

#[tokio::test(start_paused = true)]
async fn a_full_bound_on_trial_is_missed_and_the_others_are_held() {
    let (replicas, store) = fleet(1);
    let both = shadow_and_enforced_batches(("s", 1), ("t", 5));
    let first = replicas[0].acquire_all(&both).await.ok().unwrap();
    assert_eq!(first.missed_indices().count(), 0);
    let second = replicas[0].acquire_all(&both).await.ok().unwrap();
    assert_eq!(second.missed_indices().collect::<Vec<_>>(), [0]);
    assert_eq!((store.in_flight("s"), store.in_flight("t")), (1, 2));
    drop(second);
    sleep(Duration::from_millis(5)).await;
    assert_eq!((store.in_flight("s"), store.in_flight("t")), (1, 1), "it held one of them");
    let mut other_way = slot_batch(&[("t", 5), ("s", 1)]);
    other_way[0].limits[1].mode = Mode::Shadow;
    let third = replicas[0].acquire_all(&other_way).await.ok().unwrap();
    assert_eq!(third.missed_indices().collect::<Vec<_>>(), [1]);
    drop((first, third));
    sleep(Duration::from_millis(5)).await;
    assert_eq!((store.in_flight("s"), store.in_flight("t"), replicas[0].count()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_would_have_been_refused_is_noted_by_place() {
    let (replicas, _store) = fleet(1);
    let mut slot = replicas[0].begin_call();
    let mut elsewhere = slot_batch(&[("u", 1)]);
    elsewhere[0].indices[0] = 7;
    let both = shadow_and_enforced_batches(("s", 1), ("t", 5));
    slot.record_missed(&elsewhere);
    slot.record_missed(&both);
    assert_eq!(slot.missed_indices().collect::<Vec<_>>(), [7, 0, 1]);
    // A single replica has free slots for the call under both limits.
    slot.hold_share(&both, 1).unwrap();
    assert_eq!(slot.missed_indices().collect::<Vec<_>>(), [7]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_goes_on_without_the_store_gives_back_all_that_it_holds() {
    let (replicas, store) = fleet(1);
    let mut slot = replicas[0].begin_call();
    slot.hold_unchecked(&slot_batch(&[("s", 5), ("t", 5)]));
    assert_eq!(replicas[0].count(), 1);
    sleep(LEASE).await;
    assert_eq!((store.in_flight("s"), store.in_flight("t")), (1, 1), "the store has heard of it");
    drop(slot);
    assert_eq!(replicas[0].count(), 0);
    sleep(LEASE).await;
    assert_eq!((store.in_flight("s"), store.in_flight("t")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_has_nothing_to_tell() {
    let (replicas, _store) = fleet(1);
    let one = slot_batch(&[("s", 1)]);
    let _first = replicas[0].acquire_all(&one).await.ok().unwrap();
    assert!(replicas[0].acquire_all(&one).await.is_err());
    assert!(replicas[0].is_settled());
}

#[tokio::test(start_paused = true)]
async fn what_a_question_takes_along_is_told() {
    let (replicas, store) = fleet(1);
    let one = slot_batch(&[("s", 1)]);
    let first = replicas[0].acquire_all(&one).await.ok().unwrap();
    store.set_failure(Some(StoreFailure::Timeout));
    drop(first);
    sleep(Duration::from_millis(5)).await;
    assert!(!replicas[0].is_settled());
    store.set_failure(None);
    let second = replicas[0].acquire_all(&one).await;
    assert!(second.is_ok(), "the question has freed the place");
    assert!(replicas[0].is_settled());
}
