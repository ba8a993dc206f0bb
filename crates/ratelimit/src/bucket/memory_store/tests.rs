mod in_flight;
mod user_room;

use std::num::NonZeroU32;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use proptest::prelude::*;
use vmcp_domain::NamePattern;
use vmcp_testkit::tool;
use vmcp_timing::ManualClock;

use super::*;
use crate::bucket::decide::Wait;
use crate::bucket::rate::Rate;
use crate::plan::policy::Overflow;
use crate::plan::policy::{
    Anonymous, Concurrency, Consistency, LimitPolicy, Limits, MemoryBounds, Quota, ToolRule, WaitBounds,
};

fn quota(windows: &[(u64, u64)]) -> Option<Quota> {
    let rate =
        |(tokens, micros): &(u64, u64)| Rate::new(*tokens, Duration::from_micros(*micros), *tokens).unwrap();
    Some(Quota::new(windows.iter().map(rate).collect(), Mode::Enforce))
}

struct Harness {
    clock: Arc<ManualClock>,
    store: MemoryStore,
    planner: Arc<Planner>,
}

fn harness(policy: LimitPolicy) -> Harness {
    let (clock, planner) = (Arc::new(ManualClock::default()), Arc::new(Planner::new(policy)));
    Harness { store: MemoryStore::new(planner.clone(), clock.clone()), clock, planner }
}

fn policy(server: Limits, tools: Vec<ToolRule>) -> LimitPolicy {
    LimitPolicy {
        server,
        tools,
        anonymous: Anonymous::Shared,
        memory: MemoryBounds::default(),
        waiting: WaitBounds::default(),
        consistency: Consistency::Exact,
        ..LimitPolicy::default()
    }
}

fn limits(shared: &[(u64, u64)], per_user: &[(u64, u64)]) -> Limits {
    let some = |windows: &[(u64, u64)]| if windows.is_empty() { None } else { quota(windows) };
    Limits { shared: some(shared), per_user: some(per_user), ..Limits::default() }
}

fn rule(name: &str, limits: Limits, cost: u32) -> ToolRule {
    ToolRule {
        name: NamePattern::new(name),
        annotation: None,
        group: false,
        limits,
        cost: NonZeroU32::new(cost).unwrap().into(),
    }
}

fn user(number: u128) -> Option<UserKey> {
    Some(UserKey::new(number << 64 | number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// The model: every bucket in exact integers, on one thread, as simple as possible.
#[derive(Default)]
struct Model {
    levels: std::collections::HashMap<(u32, Option<UserKey>), (i128, u64)>,
}

impl Model {
    fn level(&self, bucket: &PlannedBucket, user: Option<UserKey>, now: u64) -> i128 {
        let cap = i128::from(bucket.rate.capacity());
        let user = bucket.storage.is_per_user().then_some(user).flatten();
        match self.levels.get(&(bucket.id.0, user)) {
            None => cap,
            Some((level, at)) => {
                (level + i128::from(now.saturating_sub(*at)) * i128::from(bucket.rate.refill())).min(cap)
            }
        }
    }

    /// The waits of the refusing buckets by index; empty if the call was admitted and paid for.
    fn admit(&mut self, plan: &Plan, user: Option<UserKey>, now: u64) -> Vec<(usize, Option<u64>)> {
        let cost = |bucket: &PlannedBucket| i128::from(bucket.cost.get()) * i128::from(bucket.rate.unit());
        let mut refusing = Vec::new();
        for (index, bucket) in plan.buckets.iter().enumerate() {
            let missing = cost(bucket) - self.level(bucket, user, now);
            if missing > 0 {
                let refill = i128::from(bucket.rate.refill());
                let fits = cost(bucket) <= i128::from(bucket.rate.capacity());
                refusing.push((index, fits.then(|| u64::try_from((missing + refill - 1) / refill).unwrap())));
            }
        }
        if refusing.is_empty() {
            for bucket in &plan.buckets {
                let left = self.level(bucket, user, now) - cost(bucket);
                let key = (bucket.id.0, bucket.storage.is_per_user().then_some(user).flatten());
                let at = self.levels.get(&key).map_or(now, |(_, at)| now.max(*at));
                self.levels.insert(key, (left, at));
            }
        }
        refusing
    }
}

fn windows() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let window = prop_oneof![
        (1_u64..5, 1_u64..50),
        (1_u64..1_000_000, Just(1_000_000_u64)),
        (1_u64..3, 1_000_000_u64..2_592_000_000_000)
    ];
    prop::collection::vec(window, 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// The store and the model agree on every verdict and every wait. The cases have several windows, costs,
    /// tools and users, and a clock that also jumps backward and far ahead.
    #[test]
    fn agrees_with_the_model(
        server in (windows(), windows()),
        one in (windows(), windows(), 1_u32..4),
        all in (windows(), windows(), 1_u32..4),
        steps in prop::collection::vec((0_usize..3, 1_u128..4, prop_oneof![0_i64..40, -30_i64..1, Just(1_i64 << 40)]), 1..200),
    ) {
        let harness = harness(policy(limits(&server.0, &server.1), vec![
            rule("one", limits(&one.0, &one.1), one.2),
            rule("*", limits(&all.0, &all.1), all.2),
        ]));
        let plans: Vec<Plan> = ["one", "two", "three"].iter().map(|name| harness.planner.plan(&tool("b", name, name))).collect();
        let mut model = Model::default();
        let mut now = 1_000_000_u64;
        for (which, who, elapsed) in steps {
            now = now.saturating_add_signed(elapsed);
            harness.clock.set(Micros(now));
            let plan = &plans[which];
            let expected = model.admit(plan, user(who), now);
            match harness.store.admit(plan, user(who)) {
                AdmitOutcome::Admitted(_) => prop_assert!(expected.is_empty(), "the model refuses: {expected:?}"),
                AdmitOutcome::Refused(refused) => {
                    let found: Vec<(usize, Option<u64>)> = refused.refusing_buckets.iter().map(|(index, wait)| (*index, match wait {
                        Wait::Micros(micros) => Some(*micros),
                        _ => None,
                    })).collect();
                    prop_assert_eq!(&found, &expected);
                    let longest = expected.iter().map(|(_, wait)| wait.unwrap_or(u64::MAX)).max().unwrap();
                    prop_assert_eq!(refused.wait, if longest == u64::MAX { Wait::Never } else { Wait::Micros(longest) });
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    /// In any window of time no bucket admits more than its capacity plus what it earns in that time.
    #[test]
    fn no_window_holds_more_than_its_allowance(tokens in 1_u64..20, period in 1_u64..1000, gaps in prop::collection::vec(0_u64..40, 1..300)) {
        let harness = harness(policy(limits(&[(tokens, period)], &[]), vec![]));
        let plan = harness.planner.plan(&tool("b", "t", "t"));
        let mut admitted = Vec::new();
        let mut now = 0;
        for gap in gaps {
            now += gap;
            harness.clock.set(Micros(now));
            if matches!(harness.store.admit(&plan, None), AdmitOutcome::Admitted(_)) {
                admitted.push(now);
            }
        }
        for (first, start) in admitted.iter().enumerate() {
            for (count, end) in admitted[first..].iter().enumerate() {
                let allowance = u128::from(tokens) * u128::from(period) + u128::from(end - start) * u128::from(tokens);
                prop_assert!((count as u128 + 1) * u128::from(period) <= allowance);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Refunds in whole or in part, however late, do not widen any window. What stays charged of the calls
    /// that began in a window is at most the capacity of the bucket plus what it earns in that time.
    #[test]
    fn what_is_given_back_late_widens_no_window(
        tokens in 2_u64..12,
        period in 1_u64..60,
        steps in prop::collection::vec((0_u64..12, any::<bool>(), 0_usize..8, 0_i64..7), 1..150),
    ) {
        let server = limits(&[(tokens, period)], &[]);
        let harness = harness(policy(server, vec![rule("dear", limits(&[], &[]), 6)]));
        let plans = ["cheap", "dear"].map(|name| harness.planner.plan(&tool("b", name, name)));
        let (mut open, mut kept) = (Vec::new(), Vec::new());
        let mut now = 0;
        for (gap, dear, which, back) in steps {
            now += gap;
            harness.clock.set(Micros(now));
            let cost = if dear { 6 } else { 1 };
            match harness.store.admit(&plans[usize::from(dear)], user(1)) {
                AdmitOutcome::Admitted(receipt) => open.push((now, cost, receipt)),
                _ if !open.is_empty() => {
                    let (begun, cost, receipt) = open.remove(which % open.len());
                    receipt.adjust(|_| back.min(cost));
                    kept.push((begun, cost - back.min(cost)));
                }
                _ => {}
            }
        }
        kept.extend(open.iter().map(|(begun, cost, _)| (*begun, *cost)));
        kept.sort_unstable();
        for (first, (start, _)) in kept.iter().enumerate() {
            let mut sum = 0;
            for (end, cost) in &kept[first..] {
                sum += u128::try_from(*cost).unwrap();
                let allowance = u128::from(tokens) * u128::from(period) + u128::from(end - start) * u128::from(tokens);
                prop_assert!(sum * u128::from(period) <= allowance, "{sum} from {start} to {end}: {kept:?}");
            }
        }
    }
}

#[test]
fn refused_just_before_the_hint_and_admitted_at_it() {
    let harness = harness(policy(limits(&[(10, 60_000_000)], &[(3, 7_000_000)]), vec![]));
    let plan = harness.planner.plan(&tool("b", "t", "t"));
    for _ in 0..3 {
        assert!(matches!(harness.store.admit(&plan, user(1)), AdmitOutcome::Admitted(_)));
    }
    let AdmitOutcome::Refused(refused) = harness.store.admit(&plan, user(1)) else {
        panic!("the user's bucket is empty")
    };
    let Wait::Micros(wait) = refused.wait else { panic!() };
    assert_eq!(wait, 2_333_334, "a third of seven seconds, rounded up to the microsecond");
    harness.clock.set(Micros(wait - 1));
    assert!(matches!(harness.store.admit(&plan, user(1)), AdmitOutcome::Refused(_)));
    harness.clock.set(Micros(wait));
    assert!(matches!(harness.store.admit(&plan, user(1)), AdmitOutcome::Admitted(_)));
}

#[test]
fn a_refusal_spends_nothing_anywhere() {
    let harness = harness(policy(limits(&[(100, 1_000_000)], &[(1, 60_000_000)]), vec![]));
    let plan = harness.planner.plan(&tool("b", "t", "t"));
    assert!(matches!(harness.store.admit(&plan, user(1)), AdmitOutcome::Admitted(_)));
    let before = harness.store.peek(&plan, user(1));
    for _ in 0..1000 {
        assert!(matches!(harness.store.admit(&plan, user(1)), AdmitOutcome::Refused(_)));
    }
    assert_eq!(harness.store.peek(&plan, user(1)), before);
    assert!(
        matches!(harness.store.admit(&plan, user(2)), AdmitOutcome::Admitted(_)),
        "others are not drained"
    );
}

#[test]
fn a_refund_gives_back_exactly_what_was_paid() {
    let harness = harness(policy(
        limits(&[(5, 60_000_000)], &[(2, 60_000_000)]),
        vec![rule("t", limits(&[(4, 60_000_000)], &[]), 2)],
    ));
    let plan = harness.planner.plan(&tool("b", "t", "t"));
    let before = harness.store.peek(&plan, user(1));
    let AdmitOutcome::Admitted(receipt) = harness.store.admit(&plan, user(1)) else { panic!() };
    assert_ne!(harness.store.peek(&plan, user(1)), before);
    receipt.refund();
    assert_eq!(harness.store.peek(&plan, user(1)), before);
    let AdmitOutcome::Admitted(receipt) = harness.store.admit(&plan, user(1)) else { panic!() };
    harness.clock.advance(3_600_000_000);
    receipt.refund();
    let full: Vec<bool> =
        harness.store.peek(&plan, user(1)).iter().map(|one| one.level == one.rate.capacity()).collect();
    assert_eq!(full, [true; 3], "a refund never fills a bucket beyond its brim");
}

#[test]
fn shadow_rules_spend_their_own_state_only() {
    let mut shadow = limits(&[(1, 60_000_000)], &[]);
    shadow.shared.as_mut().unwrap().mode = Mode::Shadow;
    let harness = harness(policy(limits(&[(3, 60_000_000)], &[]), vec![rule("t", shadow, 1)]));
    let plan = harness.planner.plan(&tool("b", "t", "t"));
    let outcomes: Vec<Option<usize>> = (0..4)
        .map(|_| match harness.store.admit(&plan, None) {
            AdmitOutcome::Admitted(receipt) => Some(receipt.charges().would_refuse.len()),
            _ => None,
        })
        .collect();
    assert_eq!(outcomes, [Some(0), Some(1), Some(1), None]);
}

#[test]
fn churn_stays_bounded_and_hands_out_no_fresh_budget() {
    let mut policy = policy(limits(&[], &[(2, 1_000_000_000)]), vec![]);
    policy.memory = MemoryBounds { user_count_max: 10_000, overflow: Overflow::Share };
    let harness = harness(policy);
    let plan = harness.planner.plan(&tool("b", "t", "t"));
    let debtor = user(1);
    for _ in 0..2 {
        assert!(matches!(harness.store.admit(&plan, debtor), AdmitOutcome::Admitted(_)));
    }
    for number in 2..100_000 {
        let _ = harness.store.admit(&plan, user(number));
        assert!(harness.store.user_count() <= 10_001);
    }
    assert!(
        matches!(harness.store.admit(&plan, debtor), AdmitOutcome::Refused(_)),
        "a user in debt is not forgotten"
    );
    harness.clock.advance(2_000_000_000);
    for number in 200_000..300_000 {
        harness.clock.advance(1_000_000);
        assert!(
            matches!(harness.store.admit(&plan, user(number)), AdmitOutcome::Admitted(_)),
            "idle users make room"
        );
    }
}

/// A user whose buckets are full is swept out. A later charge for a call of that user still leaves a debt.
#[test]
fn who_was_forgotten_still_owes() {
    let harness = harness(policy(limits(&[], &[(10, 10_000_000)]), vec![]));
    let plan = harness.planner.plan(&tool("b", "t", "t"));
    let AdmitOutcome::Admitted(receipt) = harness.store.admit(&plan, user(1)) else { panic!() };
    harness.clock.advance(100_000_000);
    for number in 2..5_000 {
        let _ = harness.store.admit(&plan, user(number));
        harness.clock.advance(10_000_000);
    }
    let known = harness.store.user_count();
    assert!(known < 4_000, "most are forgotten");
    receipt.adjust(|_| 0);
    assert_eq!(harness.store.user_count(), known, "nothing changes");
    receipt.adjust(|_| -3);
    assert_eq!(harness.store.user_count(), known + 1);
    let snapshot = harness.store.peek(&plan, user(1))[0];
    assert_eq!(snapshot.rate.tokens(snapshot.level), 7);
}

#[test]
fn threads_never_admit_one_too_many() {
    let harness =
        harness(policy(limits(&[(10_000, 1_000_000_000_000)], &[(3_000, 1_000_000_000_000)]), vec![]));
    let plan = harness.planner.plan(&tool("b", "t", "t"));
    let admitted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8_u128 {
            let (harness, plan, admitted) = (&harness, &plan, &admitted);
            scope.spawn(move || {
                for turn in 0..20_000_u128 {
                    match harness.store.admit(plan, user(1 + (thread + turn) % 5)) {
                        AdmitOutcome::Admitted(receipt) if turn % 7 == 0 => receipt.refund(),
                        AdmitOutcome::Admitted(_) => {
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                        _ => {}
                    }
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 10_000);
    assert_eq!(harness.store.peek(&plan, user(1))[0].level, 0);
}

/// The store reports the number of users and their memory. Limits in shadow mode have a table of their own.
#[test]
fn users_are_counted_and_measured() {
    let tried = |quota: Quota| Quota { mode: Mode::Shadow, ..quota };
    let only_tried = Limits { per_user: quota(&[(2, 1_000_000)]).map(tried), ..Limits::default() };
    let rules = vec![rule("search", limits(&[], &[(2, 1_000_000)]), 1), rule("tried", only_tried, 1)];
    let harness = harness(policy(Limits::default(), rules));
    let (search, tried) = (
        harness.planner.plan(&tool("a", "search", "search")),
        harness.planner.plan(&tool("a", "tried", "tried")),
    );
    assert_eq!((harness.store.user_count(), harness.store.user_bytes()), (0, 0));
    let _ = harness.store.admit(&search, user(1));
    let of_one = harness.store.user_bytes();
    assert!(harness.store.user_count() == 1 && of_one >= 64, "{of_one}");
    let _ = harness.store.admit(&search, user(2));
    let of_two = harness.store.user_bytes();
    assert!(harness.store.user_count() == 2 && of_two > of_one, "another shard");
    let _ = harness.store.admit(&tried, user(3));
    assert_eq!(harness.store.user_count(), 2, "users of limits on trial take no place from others");
    assert!(harness.store.user_bytes() > of_two, "and are measured");
}

/// A caller without a user entry would have been refused by a per-user limit in shadow mode.
#[test]
fn an_unknown_caller_is_counted_by_rules_on_trial() {
    let tried = |quota: Quota| Quota { mode: Mode::Shadow, ..quota };
    let server = Limits {
        shared: quota(&[(5, 1_000_000)]),
        per_user: quota(&[(5, 1_000_000)]).map(tried),
        ..Limits::default()
    };
    let harness = harness(policy(server, vec![]));
    let plan = harness.planner.plan(&tool("a", "search", "search"));
    let AdmitOutcome::Admitted(receipt) = harness.store.admit(&plan, None) else { panic!("it is on trial") };
    assert_eq!(receipt.charges().would_refuse.as_slice(), [1]);
    assert_eq!(receipt.charges().pays.as_slice(), [true, false]);
    drop(receipt);
    let AdmitOutcome::Admitted(receipt) = harness.store.admit(&plan, user(1)) else { panic!("known") };
    assert!(receipt.charges().would_refuse.is_empty());
}
