//! The registry alone: what it counts, and what it reports to the store.

use super::*;
use crate::shared::slots::registry::ReportBatch;

fn limit(key: &str) -> RemoteSlotLimit {
    RemoteSlotLimit { key: key.into(), count_max: 9, mode: Mode::Enforce, partition: None }
}

fn call_id(number: u16) -> CallId {
    let mut name = [0; 16];
    name[..2].copy_from_slice(&number.to_le_bytes());
    CallId(name)
}

/// A registry in which these calls hold slots under a key. The store confirmed them at `confirmed`, or does
/// not know of them.
fn holding(key: &str, calls: std::ops::Range<u16>, confirmed: Option<Micros>) -> SlotRegistry {
    let mut registry = SlotRegistry::default();
    for number in calls {
        registry.begin_call();
        registry.hold(&limit(key), call_id(number), confirmed);
    }
    registry
}

#[test]
fn a_call_does_not_count_itself() {
    let registry = holding("s", 0..2, None);
    assert_eq!((registry.count_others("s", call_id(0)), registry.count_others("s", call_id(7))), (1, 2));
}

#[test]
fn what_the_store_cannot_know_is_not_reported_as_ended() {
    let mut registry = holding("s", 0..2, None);
    assert!(!registry.end_call(call_id(0), &[(limit("s"), false)], Micros(1)));
    assert_eq!(registry.unreported_count(), 0);
    // The acquire request itself may have reached the store.
    assert!(registry.end_call(call_id(1), &[(limit("s"), true)], Micros(1)));
    assert_eq!(registry.unreported_count(), 1);
}

#[test]
fn what_ends_while_it_is_reported_is_reported_again() {
    let mut registry = holding("s", 0..2, None);
    let mut batch = registry.take_batches(Some(Micros(0))).remove(0);
    registry.end_call(call_id(0), &[(limit("s"), false)], Micros(1));
    assert_eq!(registry.unreported_count(), 1);
    registry.remove_ended(&mut batch);
    assert_eq!(batch.reports[0].held, [call_id(1)], "it must not take its slot again");
}

#[test]
fn ended_calls_are_forgotten_after_a_lease() {
    let mut registry = holding("s", 0..1, Some(Micros(0)));
    registry.end_call(call_id(0), &[(limit("s"), true)], Micros(10));
    registry.expire_ended(Micros(109), 100);
    assert_eq!((registry.unreported_count(), registry.stop_if_unused()), (1, false));
    registry.expire_ended(Micros(110), 100);
    assert_eq!((registry.unreported_count(), registry.stop_if_unused()), (0, true));
}

#[test]
fn between_rounds_only_ended_calls_are_reported() {
    let mut registry = holding("s", 0..3, Some(Micros(0)));
    registry.end_call(call_id(0), &[(limit("s"), true)], Micros(1));
    let batches = registry.take_batches(None);
    assert_eq!(batches.len(), 1);
    assert_eq!((batches[0].reports[0].held.len(), batches[0].reports[0].ended.len()), (0, 1));
    // A round leaves out calls with a pending report.
    assert_eq!(registry.take_batches(Some(Micros(5)))[0].reports[0].held.len(), 2);
    assert_eq!(registry.take_batches(Some(Micros(5))), []);
}

#[test]
fn a_report_has_a_bounded_number_of_names() {
    let mut registry = holding("s", 0..700, Some(Micros(0)));
    for number in 0..200 {
        registry.end_call(call_id(number), &[(limit("s"), true)], Micros(1));
    }
    let names = |batch: &ReportBatch| -> usize {
        batch.reports.iter().map(|report| report.held.len() + report.ended.len()).sum()
    };
    let mut sizes: Vec<usize> = registry.take_batches(Some(Micros(5))).iter().map(names).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [188, 256, 256]);
    // The bound is for all limits of a report together.
    let mut registry = holding("s", 0..200, Some(Micros(0)));
    for number in 0..200 {
        registry.hold(&limit("t"), call_id(number), Some(Micros(0)));
    }
    let mut sizes: Vec<usize> = registry.take_batches(Some(Micros(5))).iter().map(names).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [144, 256]);
}

#[test]
fn limits_of_one_partition_share_a_report() {
    let mut registry = holding("s", 0..1, Some(Micros(0)));
    registry.hold(&limit("t"), call_id(0), Some(Micros(0)));
    let elsewhere = RemoteSlotLimit { partition: Some("ann".into()), ..limit("u") };
    registry.hold(&elsewhere, call_id(0), Some(Micros(0)));
    let mut counts: Vec<usize> =
        registry.take_batches(Some(Micros(5))).iter().map(|batch| batch.reports.len()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 2]);
}
