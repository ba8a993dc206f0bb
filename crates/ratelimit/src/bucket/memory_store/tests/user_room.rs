//! How the sweep of idle users makes room for other users.

use super::*;

const HOUR: u64 = 3_600_000_000;

/// A store in which a call makes its user non-idle for an hour.
fn hourly(memory: MemoryBounds) -> (Harness, Plan) {
    let limits = LimitPolicy { memory, ..policy(limits(&[], &[(1, HOUR)]), vec![]) };
    let harness = harness(limits);
    let plan = harness.planner.plan(&tool("a", "t", "t"));
    (harness, plan)
}

fn count_admitted(harness: &Harness, plan: &Plan, users: std::ops::Range<u128>) -> usize {
    let admitted =
        |number: &u128| matches!(harness.store.admit(plan, user(*number)), AdmitOutcome::Admitted(_));
    users.filter(admitted).count()
}

#[test]
fn idle_users_are_swept_a_few_at_a_time() {
    let (harness, plan) = hourly(MemoryBounds::default());
    assert_eq!(count_admitted(&harness, &plan, 0..3000), 3000);
    assert_eq!(harness.store.user_count(), 3000);
    harness.clock.advance(HOUR);
    assert_eq!(count_admitted(&harness, &plan, 10_000..13_000), 3000);
    assert!((3000..4200).contains(&harness.store.user_count()), "{}", harness.store.user_count());
}

/// A full table admits new users when known users have become idle. Only the shard of the new user is swept,
/// so a few new users may still be refused.
#[test]
fn a_full_table_makes_room_where_users_are_idle() {
    let (harness, plan) = hourly(MemoryBounds { user_count_max: 300, overflow: Overflow::Refuse });
    assert_eq!(count_admitted(&harness, &plan, 0..400), 300);
    assert_eq!(harness.store.user_count(), 300);
    harness.clock.advance(HOUR);
    let admitted = count_admitted(&harness, &plan, 1000..1300);
    assert!(admitted > 250, "{admitted}");
    assert!(harness.store.user_count() <= 300);
}
