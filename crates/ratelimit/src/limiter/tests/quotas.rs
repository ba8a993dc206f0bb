//! Calendar quotas: exact in every period, in memory and with a shared store, with nothing carried into the
//! next period.

use proptest::prelude::*;
use vmcp_json::Json;

use super::*;
use crate::bucket::calendar::{Calendar, PeriodUnit};
use crate::plan::policy::{
    CallerSelector, LimitSize, ListHandling, MissingValue, Override, Overrides, ValueQuota, ValueSource,
    Window,
};

/// 2026-11-29, 18:00 UTC, in microseconds since the Unix epoch.
const EVENING: u64 = 1_795_975_200_000_000;
const HOUR: u64 = 3_600_000_000;

fn daily(calls: u64) -> Window {
    let calendar = Calendar::new(PeriodUnit::Day, "Europe/Berlin", "00:00").unwrap();
    Window::by_calendar(calls, Arc::new(calendar)).unwrap()
}

fn day_quota(calls: u64) -> Quota {
    Quota { windows: vec![daily(calls)], ..quota(1, 1).unwrap() }
}

fn harness_at_evening(limits: Limits, sharing: Option<Sharing>, clock: Arc<ManualClock>) -> Harness {
    let harness = harness_with_clock(clock, policy(limits, vec![], Anonymous::Shared), sharing);
    harness.clock.set(Micros(EVENING));
    harness
}

fn local_harness(limits: Limits) -> Harness {
    harness_at_evening(limits, None, Arc::new(ManualClock::default()))
}

fn shared_harness(limits: Limits, on_failure: OnStoreFailure) -> (Harness, Arc<FakeStore>) {
    let clock = Arc::new(ManualClock::default());
    let store = FakeStore::new(clock.clone());
    let sharing = Sharing { store: store.clone(), on_failure, replica_count: None, slot_lease: SLOT_LEASE };
    (harness_at_evening(limits, Some(sharing), clock), store)
}

async fn count_admitted(harness: &Harness, subject: &str, attempts: usize) -> usize {
    let mut count = 0;
    for _ in 0..attempts {
        count += usize::from(call(harness, "a_search", &known("i", subject)).await.is_ok());
    }
    count
}

#[tokio::test]
async fn a_day_has_its_calls_and_the_next_day_has_all_again() {
    let limits = || Limits { per_user: Some(day_quota(5)), ..Limits::default() };
    for harness in [local_harness(limits()), shared_harness(limits(), OnStoreFailure::Deny).0] {
        assert_eq!(count_admitted(&harness, "s", 8).await, 5);
        assert_eq!(count_admitted(&harness, "t", 2).await, 2);
        // In Berlin it is 19:00.
        let refusal = refused(call(&harness, "a_search", &known("i", "s")).await);
        assert_eq!(refusal.retry, Retry::After(Duration::from_secs(5 * 3600)));
        assert_eq!(refusal.resets_at.as_deref(), Some("2026-11-30 00:00 (Europe/Berlin)"));
        assert!(refusal.to_string().contains("before 2026-11-30 00:00 (Europe/Berlin)"), "{refusal}");
        harness.clock.advance(5 * HOUR - 1);
        assert_eq!(count_admitted(&harness, "s", 1).await, 0);
        harness.clock.advance(1);
        assert_eq!(count_admitted(&harness, "s", 8).await, 5);
        assert_eq!(count_admitted(&harness, "t", 8).await, 5);
    }
}

#[tokio::test]
async fn the_longest_wait_counts_beside_a_bucket() {
    let hourly = Rate::new(2, Duration::from_secs(3600), 2).unwrap();
    let windows = vec![hourly.into(), daily(3)];
    let harness = local_harness(Limits {
        shared: Some(Quota { windows, ..quota(1, 1).unwrap() }),
        ..Limits::default()
    });
    assert_eq!(count_admitted(&harness, "s", 4).await, 2);
    let refusal = refused(call(&harness, "a_search", &known("i", "s")).await);
    assert_eq!((refusal.retry, refusal.resets_at), (Retry::After(Duration::from_secs(1800)), None));
    harness.clock.advance(HOUR);
    assert_eq!(count_admitted(&harness, "s", 4).await, 1, "the third of the day");
    let refusal = refused(call(&harness, "a_search", &known("i", "s")).await);
    assert_eq!(refusal.retry, Retry::After(Duration::from_secs(4 * 3600)));
}

#[tokio::test]
async fn what_a_day_gives_back_is_not_the_next_days() {
    let limits = Limits { per_user: Some(day_quota(2)), ..Limits::default() };
    let harness = local_harness(limits);
    let ctx = known("i", "s");
    let tools = harness.gateway.list_tools(&ctx).await.unwrap();
    let tool_plan = harness.limiter.tool_plan(&tools, &"a_search".into()).unwrap();
    let today = harness.limiter.plan_call(&tool_plan, &ctx, None, false).unwrap();
    let permit = harness.limiter.admit(&today, &ctx).await.unwrap();
    let other = harness.limiter.admit(&today, &ctx).await.unwrap();
    permit.refund("failed").await;
    assert_eq!(count_admitted(&harness, "s", 3).await, 1);
    harness.clock.advance(5 * HOUR);
    assert_eq!(count_admitted(&harness, "s", 3).await, 2);
    other.refund("failed").await;
    assert_eq!(count_admitted(&harness, "s", 3).await, 0);
}

#[tokio::test]
async fn a_clock_that_is_set_back_over_a_reset_hands_out_no_day_twice() {
    let harness = local_harness(Limits { per_user: Some(day_quota(3)), ..Limits::default() });
    harness.clock.advance(5 * HOUR);
    assert_eq!(count_admitted(&harness, "s", 9).await, 3);
    harness.clock.set(Micros(EVENING));
    assert_eq!(count_admitted(&harness, "s", 9).await, 0);
    harness.clock.advance(5 * HOUR);
    assert_eq!(count_admitted(&harness, "s", 9).await, 0);
    harness.clock.advance(24 * HOUR);
    assert_eq!(count_admitted(&harness, "s", 9).await, 3);
}

#[tokio::test]
async fn a_replica_by_itself_keeps_to_its_share_of_the_day() {
    let limits = Limits { shared: Some(day_quota(10)), ..Limits::default() };
    let (harness, store) = shared_harness(limits, OnStoreFailure::Local);
    assert_eq!(count_admitted(&harness, "s", 4).await, 4);
    store.set_failure(Some(StoreFailure::Timeout));
    assert_eq!(count_admitted(&harness, "s", 20).await, 3, "half of the six that are left");
    harness.clock.advance(5 * HOUR);
    assert_eq!(count_admitted(&harness, "s", 20).await, 5, "half of the next day");
}

#[tokio::test]
async fn values_of_claims_and_overrides_have_quotas() {
    let size = LimitSize::Windows(vec![daily(3)]);
    let selector = CallerSelector::Claim { claim: "team".into(), value: Some("red".into()) };
    let overrides = Overrides::new(vec![Override { selector, size }]);
    let limit = ValueQuota {
        source: ValueSource::Claim("team".into()),
        missing: MissingValue::Refuse,
        list_handling: ListHandling::Each,
        quota: Quota { overrides, ..day_quota(1) },
    };
    let harness = local_harness(Limits { per_value: vec![limit], ..Limits::default() });
    let team = |name: &str| {
        let claims = Json::parse(format!(r#"{{"team": "{name}"}}"#)).unwrap().members().unwrap();
        let identity = Identity { issuer: "i".into(), subject: "s".into(), claims };
        CallContext::bare(Caller::Known(Arc::new(identity)), CallOrigin::Client)
    };
    for _ in 0..2 {
        for (name, expected) in [("red", 3), ("blue", 1)] {
            let mut count = 0;
            for _ in 0..5 {
                count += usize::from(call(&harness, "a_search", &team(name)).await.is_ok());
            }
            assert_eq!(count, expected, "{name}");
        }
        harness.clock.advance(24 * HOUR);
    }
}

/// Users who have spent tokens of a day can be evicted when that day is over.
#[tokio::test]
async fn a_day_that_is_over_keeps_nobody() {
    let memory = MemoryBounds { user_count_max: 2000, overflow: crate::plan::policy::Overflow::Refuse };
    let limits = Limits { per_user: Some(day_quota(2)), ..Limits::default() };
    let harness = harness(LimitPolicy { memory, ..policy(limits, vec![], Anonymous::Refuse) }, None);
    harness.clock.set(Micros(EVENING));
    for number in 0..2000 {
        call(&harness, "a_search", &known("i", &number.to_string())).await.unwrap();
    }
    let late = known("i", "late");
    assert!(matches!(call(&harness, "a_search", &late).await, Err(Error::Overloaded)));
    harness.clock.advance(24 * HOUR);
    // The first call of the new day shows the memory store that the day has begun.
    call(&harness, "a_search", &known("i", "0")).await.unwrap();
    call(&harness, "a_search", &late).await.unwrap();
}

/// Users of a tool that is never called again can be evicted too.
#[tokio::test]
async fn a_tool_that_is_gone_keeps_nobody() {
    let memory = MemoryBounds { user_count_max: 2000, overflow: crate::plan::policy::Overflow::Refuse };
    let limited = |name: &str| rule(name, None, Some(day_quota(2)));
    let rules = vec![limited("a_search"), limited("b_search")];
    let harness =
        harness(LimitPolicy { memory, ..policy(Limits::default(), rules, Anonymous::Refuse) }, None);
    harness.clock.set(Micros(EVENING));
    for number in 0..2000 {
        call(&harness, "a_search", &known("i", &number.to_string())).await.unwrap();
    }
    assert!(matches!(call(&harness, "b_search", &known("i", "late")).await, Err(Error::Overloaded)));
    harness.clock.advance(72 * HOUR);
    call(&harness, "b_search", &known("i", "0")).await.unwrap();
    call(&harness, "b_search", &known("i", "late")).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Every day admits exactly its number of calls, whatever is refunded and however long calls take.
    #[test]
    fn every_day_is_exact(
        calls in 1_u64..6,
        with_store in any::<bool>(),
        steps in prop::collection::vec((0_u64..5 * HOUR, prop::option::of(0_usize..4)), 1..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let limits = Limits { shared: Some(day_quota(calls)), ..Limits::default() };
            let harness = if with_store { shared_harness(limits, OnStoreFailure::Deny).0 } else { local_harness(limits) };
            let calendar = Calendar::new(PeriodUnit::Day, "Europe/Berlin", "00:00").unwrap();
            let ctx = known("i", "s");
            let tools = harness.gateway.list_tools(&ctx).await.unwrap();
            let tool_plan = harness.limiter.tool_plan(&tools, &"a_search".into()).unwrap();
            let mut plans: Vec<(usize, Arc<crate::limiter::ToolPlan>)> = Vec::new();
            let mut spent: HashMap<u64, u64> = HashMap::new();
            for (number, (elapsed, gives_back)) in steps.iter().enumerate() {
                harness.clock.advance(*elapsed);
                let day = calendar.period(harness.clock.now()).start.0;
                let plan = harness.limiter.plan_call(&tool_plan, &ctx, None, false).unwrap();
                plans.push((number, plan.clone()));
                let admitted = harness.limiter.admit(&plan, &ctx).await;
                let used = spent.entry(day).or_default();
                prop_assert_eq!(admitted.is_ok(), *used < calls, "call {} of {}", number, day);
                if let Ok(permit) = admitted {
                    *used += 1;
                    if let Some(days) = gives_back {
                        harness.clock.advance(*days as u64 * 12 * HOUR);
                        permit.refund("failed").await;
                        *spent.entry(day).or_default() -= 1;
                    }
                }
            }
            Ok(())
        })?;
    }
}
