//! Slot limits in the memory store.

use super::*;

#[test]
fn calls_in_flight_are_bounded_and_released() {
    let two = NonZeroU32::new(2);
    let server = Limits {
        concurrency: Concurrency { shared: two, per_user: NonZeroU32::new(1), mode: Mode::Enforce },
        ..Limits::default()
    };
    let harness = harness(policy(server, vec![]));
    let plan = harness.planner.plan(&tool("b", "t", "t"));
    let AdmitOutcome::Admitted(first) = harness.store.admit(&plan, user(1)) else { panic!() };
    assert!(
        matches!(harness.store.admit(&plan, user(1)), AdmitOutcome::SlotsFull(1)),
        "the user has one in flight"
    );
    let AdmitOutcome::Admitted(second) = harness.store.admit(&plan, user(2)) else { panic!() };
    assert!(
        matches!(harness.store.admit(&plan, user(3)), AdmitOutcome::SlotsFull(0)),
        "two are in flight altogether"
    );
    drop(first);
    let AdmitOutcome::Admitted(third) = harness.store.admit(&plan, user(3)) else { panic!() };
    drop((second, third));
    assert!(matches!(harness.store.admit(&plan, user(1)), AdmitOutcome::Admitted(_)));
}

/// Each per-user slot limit counts separately: a full one in shadow mode is not held, the other is.
#[test]
fn only_bounds_with_room_are_held() {
    let concurrency = |count: u32, mode| Concurrency { shared: None, per_user: NonZeroU32::new(count), mode };
    let on = |name: &str, count, mode| {
        rule(name, Limits { concurrency: concurrency(count, mode), ..Limits::default() }, 1)
    };
    let harness =
        harness(policy(Limits::default(), vec![on("search", 3, Mode::Enforce), on("s*", 1, Mode::Shadow)]));
    let plan = harness.planner.plan(&tool("a", "search", "search"));
    let in_flight = |index: usize| harness.store.in_flight(user(1).unwrap(), plan.slot_limits[index].id);
    let first = harness.store.admit(&plan, user(1));
    let second = harness.store.admit(&plan, user(1));
    assert_eq!((in_flight(0), in_flight(1)), (2, 1));
    let missed = |outcome: &AdmitOutcome<'_>| match outcome {
        AdmitOutcome::Admitted(receipt) => receipt.missed_slot_limit_indices().collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!((missed(&first), missed(&second)), (vec![], vec![1]), "the one on trial would have refused");
    drop(second);
    assert_eq!((in_flight(0), in_flight(1)), (1, 1), "the second held one of them");
    drop(first);
    assert_eq!((in_flight(0), in_flight(1)), (0, 0));
}

/// The full slot limit in shadow mode is the first one of the plan.
#[test]
fn a_full_bound_on_trial_is_named_by_its_place() {
    let shared = |count: u32, mode| {
        let concurrency = Concurrency { shared: NonZeroU32::new(count), per_user: None, mode };
        Limits { concurrency, ..Limits::default() }
    };
    let harness = harness(policy(shared(1, Mode::Shadow), vec![rule("t", shared(5, Mode::Enforce), 1)]));
    let plan = harness.planner.plan(&tool("b", "t", "t"));
    let first = harness.store.admit(&plan, None);
    let AdmitOutcome::Admitted(second) = harness.store.admit(&plan, None) else { panic!() };
    assert_eq!(second.missed_slot_limit_indices().collect::<Vec<_>>(), [0]);
    drop((first, second));
    let AdmitOutcome::Admitted(third) = harness.store.admit(&plan, None) else { panic!() };
    assert_eq!(third.missed_slot_limit_indices().count(), 0, "both have given back what they held");
}
