use std::time::Duration;

use vmcp_testkit::tool;

use super::*;
use crate::bucket::rate::Rate;
use crate::plan::Planner;
use crate::plan::policy::{LimitPolicy, Limits, Mode, Quota};

fn quota(windows: &[(u64, u64)]) -> Option<Quota> {
    let window =
        |(tokens, seconds): &(u64, u64)| Rate::new(*tokens, Duration::from_secs(*seconds), *tokens).unwrap();
    Some(Quota::new(windows.iter().map(window).collect(), Mode::Enforce))
}

fn user() -> SharedUser {
    SharedUser { digest: "d1".to_owned(), subject: Some("ann".to_owned()) }
}

fn legacy_keys_of(limits: Limits) -> Vec<LegacyKeys> {
    let planner = Planner::new(LimitPolicy { server: limits, ..LimitPolicy::default() });
    let plan = planner.plan(&tool("b", "x", "x"));
    plan.buckets.iter().map(|bucket| LegacyKeys::for_bucket(bucket, Some(&user()), false)).collect()
}

#[test]
fn one_window_was_at_the_first_place_and_in_the_reference() {
    let found = legacy_keys_of(Limits {
        shared: quota(&[(5, 60)]),
        per_user: quota(&[(2, 60)]),
        ..Limits::default()
    });
    let expected = [(["shared:0", "shared:1"], "shared"), (["user:0:d1", "user:1:d1"], "user:ann")];
    for (legacy_keys, (by_window_index, reference)) in found.iter().zip(expected) {
        assert_eq!(legacy_keys.by_window_index, by_window_index);
        assert!(legacy_keys.is_only_window);
        assert_eq!(legacy_keys.reference.as_deref(), Some(reference));
    }
}

#[test]
fn of_several_windows_the_own_place_comes_first() {
    let found = legacy_keys_of(Limits { per_user: quota(&[(5, 1), (50, 60)]), ..Limits::default() });
    assert_eq!(found[1].by_window_index, ["user:1:d1", "user:0:d1", "user:2:d1"]);
    assert!(!found[1].is_only_window);
    assert_eq!(found[1].reference, None, "the reference has one window");
}
