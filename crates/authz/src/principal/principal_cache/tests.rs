use std::cell::Cell;

use vmcp_domain::Identity;
use vmcp_json::Members;

use super::*;
use crate::policy::PolicySource;

fn permissive_policy() -> AuthzPolicy {
    AuthzPolicy::build(&PolicySource {
        policies: vec!["permit(principal, action, resource);".to_owned()],
        server_name: "gate".to_owned(),
        ..PolicySource::default()
    })
    .unwrap()
}

fn caller(issuer: &str, subject: &str) -> Caller {
    let (issuer, subject) = (issuer.to_owned(), subject.to_owned());
    Caller::Known(Arc::new(Identity { issuer, subject, claims: Members::new() }))
}

#[test]
fn callers_are_remembered_up_to_a_bound() {
    let (policy, callers) = (permissive_policy(), PrincipalCache::default());
    let first = callers.get_or_resolve(&policy, &caller("i", "first"));
    let last = CALLER_COUNT_MAX.get() * 3;
    for number in 0..last {
        // The first caller is looked up in every round, so it is never the least recently used one.
        assert!(Arc::ptr_eq(&first, &callers.get_or_resolve(&policy, &caller("i", "first"))));
        callers.get_or_resolve(&policy, &caller("i", &number.to_string()));
        assert!(callers.count() <= CALLER_COUNT_MAX.get());
    }
    assert_eq!(callers.count(), CALLER_COUNT_MAX.get());
    let newest = callers.get_or_resolve(&policy, &caller("i", &(last - 1).to_string()));
    assert!(!Arc::ptr_eq(&newest, &first));
}

#[test]
fn issuer_and_subject_are_not_run_together() {
    let (policy, callers) = (permissive_policy(), PrincipalCache::default());
    let all = [caller("a", "bc"), caller("ab", "c"), caller("", "anonymous"), Caller::Anonymous];
    let known: Vec<_> = all.iter().map(|caller| callers.get_or_resolve(&policy, caller)).collect();
    for (index, one) in known.iter().enumerate() {
        assert!(known[index + 1..].iter().all(|other| !Arc::ptr_eq(one, other)));
    }
}

#[test]
fn a_known_side_is_not_worked_out_again() {
    let (lists, seen, asked) = (ViewCache::default(), LastView::default(), Cell::new(0));
    let shows = |number: &u32| {
        asked.set(asked.get() + 1);
        number.is_multiple_of(3)
    };
    let whole: Arc<Vec<u32>> = Arc::new((0..200).collect());
    let view = lists.view(whole.clone(), &seen, shows);
    assert_eq!(*view, (0..200).filter(|number| number % 3 == 0).collect::<Vec<_>>());
    assert_eq!(asked.get(), 200);
    assert!(Arc::ptr_eq(&view, &lists.view(whole.clone(), &seen, shows)));
    assert_eq!(asked.get(), 200);
    let other = lists.view(whole.clone(), &LastView::default(), shows);
    assert!(Arc::ptr_eq(&view, &other), "another caller who sees the same shares it");
}

#[test]
fn lists_that_were_replaced_are_not_kept_alive() {
    let (lists, seen) = (ViewCache::default(), LastView::default());
    let old: Arc<Vec<u32>> = Arc::new(vec![1, 2]);
    let shown = Arc::downgrade(&lists.view(old.clone(), &seen, |number| *number == 1));
    assert!(shown.upgrade().is_some());
    let gone = Arc::downgrade(&old);
    drop(old);
    let new: Arc<Vec<u32>> = Arc::new(vec![1, 2]);
    lists.view(new, &seen, |number| *number == 1);
    assert!(shown.upgrade().is_none() && gone.upgrade().is_none());
}

#[test]
fn sides_and_lists_are_bounded() {
    let lists = ViewCache::default();
    let whole: Arc<Vec<u32>> = Arc::new((0..16).collect());
    for number in 0..4_000_u32 {
        let view = lists.view(whole.clone(), &LastView::default(), |index| number >> index & 1 == 1);
        assert_eq!(view.len(), number.count_ones() as usize);
    }
    assert!(lists.lists.lock()[0].views.len() <= VIEW_COUNT_MAX);
    let many: Vec<Arc<Vec<u32>>> = (0..10).map(|number| Arc::new(vec![number])).collect();
    for whole in &many {
        lists.view(whole.clone(), &LastView::default(), |_| true);
    }
    assert!(lists.lists.lock().len() <= LIST_COUNT_MAX);
}
