//! When in-flight calls are reported to the store.

use tokio::time::{Instant, sleep};

use super::bounds::{LEASE, fleet, slot_batch};
use super::*;

/// One batch of one limit in a partition of its own.
fn partitioned(name: &str) -> Vec<SlotBatch> {
    let mut batches = slot_batch(&[(name, 9)]);
    batches[0].limits[0].partition = Some(name.into());
    batches
}

fn report_count(store: &FakeStore) -> usize {
    store.slots.reported.lock().len()
}

/// A fifth of the lease is 800 ms.
#[tokio::test(start_paused = true)]
async fn a_call_in_flight_is_reported_five_times_in_a_lease() {
    let (replicas, store) = fleet(1);
    let _slot = replicas[0].acquire_all(&slot_batch(&[("s", 9)])).await.ok().unwrap();
    sleep(LEASE * 4 + Duration::from_millis(50)).await;
    assert_eq!(report_count(&store), 21, "one at the start");
}

#[tokio::test(start_paused = true)]
async fn reports_of_several_partitions_are_sent_side_by_side() {
    let (replicas, store) = fleet(1);
    let mut held = Vec::new();
    for number in 0..40 {
        held.push(replicas[0].acquire_all(&partitioned(&format!("user{number}"))).await.ok().unwrap());
    }
    *store.slots.report_delay.lock() = Duration::from_millis(50);
    drop(held);
    let begun = Instant::now();
    while !replicas[0].is_settled() {
        sleep(Duration::from_millis(1)).await;
    }
    // At most sixteen reports are pending at once, so this takes three turns.
    assert!((150..200).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

/// A report that fails is repeated a tenth of a second later, and not only in the next round.
#[tokio::test(start_paused = true)]
async fn reports_that_fail_are_made_again_soon() {
    for partitions in [2, 40] {
        let (replicas, store) = fleet(1);
        let mut held = Vec::new();
        for number in 0..partitions {
            held.push(replicas[0].acquire_all(&partitioned(&format!("user{number}"))).await.ok().unwrap());
        }
        sleep(Duration::from_millis(50)).await;
        // The round begins at 800 ms, and every report in it fails.
        *store.slots.loses_answers.lock() = true;
        sleep(Duration::from_millis(890)).await;
        *store.slots.loses_answers.lock() = false;
        let before = report_count(&store);
        sleep(Duration::from_millis(150)).await;
        assert_eq!(report_count(&store) - before, partitions);
    }
}

/// It is enough that one of the first reports of a round fails.
#[tokio::test(start_paused = true)]
async fn a_report_that_fails_early_in_a_round_is_made_again_soon() {
    let (replicas, store) = fleet(1);
    let mut held = Vec::new();
    for number in 0..40 {
        held.push(replicas[0].acquire_all(&partitioned(&format!("user{number}"))).await.ok().unwrap());
    }
    sleep(Duration::from_millis(750)).await;
    *store.slots.report_delay.lock() = Duration::from_millis(50);
    *store.slots.loses_answers.lock() = true;
    // The first sixteen reports are answered at 850 ms, the others at 900 and 950 ms.
    sleep(Duration::from_millis(120)).await;
    *store.slots.loses_answers.lock() = false;
    sleep(Duration::from_millis(90)).await;
    let before = report_count(&store);
    sleep(Duration::from_millis(240)).await;
    assert_eq!(report_count(&store) - before, 16);
}
