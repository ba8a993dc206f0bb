pub(crate) mod counters;

use std::num::NonZeroU32;

use proptest::prelude::*;
use vmcp_testkit::tool;
use vmcp_timing::ManualClock;

use super::*;
use crate::limiter::tests::FakeStore;
use crate::plan::Planner;
use crate::plan::policy::{
    Anonymous, Consistency, LimitPolicy, Limits, MemoryBounds, Quota, ToolRule, WaitBounds,
};

const DURATION: Duration = Duration::from_millis(100);

fn policy(tokens: u64, hold_back: bool, mode: Mode) -> LimitPolicy {
    let quota = |tokens| Quota::new(vec![Rate::new(tokens, Duration::from_secs(1), tokens).unwrap()], mode);
    LimitPolicy {
        server: Limits { shared: Some(quota(tokens)), per_user: Some(quota(tokens)), ..Limits::default() },
        tools: Vec::<ToolRule>::new(),
        anonymous: Anonymous::Refuse,
        memory: MemoryBounds::default(),
        waiting: WaitBounds::default(),
        consistency: Consistency::Lease(LeasePolicy { duration: DURATION, hold_back }),
        ..LimitPolicy::default()
    }
}

/// Several replicas with one store and one clock.
struct Fleet {
    clock: Arc<ManualClock>,
    store: Arc<FakeStore>,
    replicas: Vec<(Arc<Leases>, LeasePlan)>,
    excess: u64,
    rate: Rate,
}

impl Fleet {
    fn new(count: u32, policy: LimitPolicy) -> Self {
        let clock = Arc::new(ManualClock::default());
        clock.set(Micros(1_000_000));
        let store = FakeStore::new(clock.clone());
        let lease = policy.consistency.lease_policy().unwrap();
        let plan = Planner::new(policy).plan(&tool("a", "search", "search"));
        let replica = |_| {
            let leases = Leases::new(store.clone(), clock.clone(), lease, Some(count));
            let plan = leases.plan(&plan);
            (leases, plan)
        };
        let bucket = &plan.buckets[0];
        let (rate, excess) = (bucket.rate, bucket.lease_excess.unwrap());
        Self { replicas: (0..count).map(replica).collect(), clock, store, excess, rate }
    }

    /// Makes one call at one replica. True if it is admitted.
    async fn call(&self, replica: usize) -> bool {
        let (leases, plan) = &self.replicas[replica];
        match leases.admit(plan).await {
            Ok(mut paid) => {
                paid.commit();
                true
            }
            Err(_) => false,
        }
    }

    fn held(&self, replica: usize) -> u64 {
        self.replicas[replica].1[0].leased_bucket.balance.lock().available(self.clock.now())
    }
}

/// The most tokens by which any window of these admissions exceeds `burst` plus what was earned in it.
fn worst_excess(admitted: &[u64], burst: u64, per_second: u64) -> i64 {
    // The admissions so far minus the tokens earned, at each admission. A window is the rise from one
    // admission to a later one.
    let height = |(count, at): (usize, &u64)| (count as i64) * 1_000_000 - (*at as i64) * per_second as i64;
    let mut lowest = i64::MAX;
    let mut worst = i64::MIN;
    for (count, at) in admitted.iter().enumerate() {
        lowest = lowest.min(height((count, at)));
        worst = worst.max(height((count + 1, at)) - lowest);
    }
    worst.div_euclid(1_000_000) - burst as i64
}

#[tokio::test]
async fn a_fast_shared_bucket_is_leased_and_others_are_not() {
    let plan = |tokens| Planner::new(policy(tokens, false, Mode::Enforce)).plan(&tool("a", "s", "s"));
    let leased = |tokens| plan(tokens).buckets.iter().map(|bucket| bucket.lease_excess).collect::<Vec<_>>();
    assert_eq!(leased(1000), [Some(100), None], "a user's own stays exact");
    assert_eq!(leased(70), [None, None], "what earns seven in a lease gains nothing by it");
    let held_back = Planner::new(policy(1000, true, Mode::Enforce)).plan(&tool("a", "s", "s"));
    assert_eq!((held_back.buckets[0].rate.burst(), held_back.buckets[0].lease_excess), (900, Some(0)));
    let lease = LeasePolicy { duration: Duration::from_secs(1), hold_back: true };
    let rate = Rate::new(1000, Duration::from_secs(1), 1000).unwrap();
    assert!(!lease.is_leased(&rate, NonZeroU32::MIN), "nothing would be left of the burst");
}

#[tokio::test]
async fn few_questions_for_many_calls() {
    let fleet = Fleet::new(2, policy(20_000, false, Mode::Enforce));
    let mut admitted = 0;
    for turn in 0..28_000_usize {
        // 14,000 calls a second for two seconds: seven tenths of the limit.
        if turn % 14 == 0 {
            fleet.clock.advance(1000);
        }
        admitted += usize::from(fleet.call(turn % 2).await);
        if turn % 7 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let asked = fleet.store.request_count.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(admitted, 28_000, "nobody is refused below the limit");
    assert!(admitted / asked >= 50, "{admitted} calls, {asked} questions");
}

#[tokio::test]
async fn what_is_not_spent_in_time_is_dropped() {
    let fleet = Fleet::new(1, policy(1000, false, Mode::Enforce));
    for _ in 0..50 {
        fleet.clock.advance(1000);
        assert!(fleet.call(0).await);
        tokio::task::yield_now().await;
    }
    assert!(fleet.held(0) > 0, "some are taken ahead");
    fleet.clock.advance(100_000);
    assert_eq!(fleet.held(0), 0);
}

#[tokio::test]
async fn what_was_paid_for_nothing_is_put_back_and_lives_no_longer() {
    let fleet = Fleet::new(1, policy(1000, false, Mode::Enforce));
    let (leases, plan) = &fleet.replicas[0];
    let paid = leases.admit(plan).await.unwrap();
    assert_eq!(fleet.held(0), 0);
    fleet.clock.advance(50_000);
    drop(paid);
    assert_eq!(fleet.held(0), 1);
    fleet.clock.advance(49_000);
    assert_eq!(fleet.held(0), 0);
}

#[tokio::test]
async fn an_empty_bucket_says_for_how_long_and_is_left_alone() {
    let fleet = Fleet::new(1, policy(100, false, Mode::Enforce));
    let (leases, plan) = &fleet.replicas[0];
    let mut count = 0;
    let denied = loop {
        match leases.admit(plan).await {
            Ok(mut paid) => paid.commit(),
            Err(denied) => break denied,
        }
        count += 1;
    };
    assert_eq!(count, 100, "down to the last token");
    assert_eq!(denied, LeaseError::InsufficientTokens(0, Wait::Micros(10_000)));
    let asked = fleet.store.request_count.load(std::sync::atomic::Ordering::SeqCst);
    for _ in 0..100 {
        fleet.clock.advance(50);
        assert!(!fleet.call(0).await);
    }
    assert_eq!(fleet.store.request_count.load(std::sync::atomic::Ordering::SeqCst), asked);
    fleet.clock.advance(5_000);
    assert!(fleet.call(0).await, "at the time that was told");
}

#[tokio::test]
async fn a_dear_call_is_not_starved_by_leftovers() {
    let mut dear = policy(1000, false, Mode::Enforce);
    dear.server.per_user = None;
    dear.tools = vec![ToolRule {
        name: vmcp_domain::NamePattern::new("*"),
        annotation: None,
        group: false,
        limits: Limits::default(),
        cost: NonZeroU32::new(300).unwrap().into(),
    }];
    let fleet = Fleet::new(2, dear);
    let mut admitted = 0;
    for turn in 0..4_000_usize {
        fleet.clock.advance(1000);
        admitted += usize::from(fleet.call(turn % 2).await);
    }
    // Three calls at once, and then one every 300 ms for four seconds.
    assert!((14..=16).contains(&admitted), "{admitted}");
}

#[tokio::test]
async fn a_store_that_fails_is_told_of() {
    let fleet = Fleet::new(1, policy(1000, false, Mode::Enforce));
    fleet.store.set_failure(Some(StoreFailure::Disconnected));
    let (leases, plan) = &fleet.replicas[0];
    assert!(matches!(leases.admit(plan).await, Err(LeaseError::StoreFailed(StoreFailure::Disconnected))));
    fleet.store.set_failure(None);
    assert!(fleet.call(0).await);
}

#[tokio::test]
async fn a_bucket_in_shadow_mode_lets_pass_and_counts() {
    let fleet = Fleet::new(1, policy(100, false, Mode::Shadow));
    let (leases, plan) = &fleet.replicas[0];
    let mut unpaid = 0;
    for _ in 0..150 {
        let mut paid = leases.admit(plan).await.unwrap();
        unpaid += paid.unpaid_indices().count();
        paid.commit();
    }
    assert_eq!(unpaid, 50);
}

#[derive(Clone, Debug)]
enum Step {
    /// Time passes, in microseconds.
    Wait(u64),
    /// One replica makes this many calls.
    Burst(usize, usize),
    /// All replicas make this many calls.
    Together(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_u64..30_000).prop_map(Step::Wait),
        2 => (60_000_u64..140_000).prop_map(Step::Wait),
        1 => (0_u64..2_000_000).prop_map(Step::Wait),
        4 => (0_usize..4, 0_usize..200).prop_map(|(replica, count)| Step::Burst(replica, count)),
        2 => (0_usize..300).prop_map(Step::Together),
    ];
    proptest::collection::vec(step, 10..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_window_exceeds_the_bound_and_the_long_run_is_exact(acts in steps(), hold_back: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let fleet = Fleet::new(4, policy(1000, hold_back, Mode::Enforce));
        let admitted = runtime.block_on(run_steps(&fleet, &acts));
        // One exact bucket of the configured size bounds every window; the excess of leases comes on top.
        let over = worst_excess(&admitted, 1000, 1000);
        let excess = i64::try_from(fleet.excess).unwrap();
        prop_assert!(over <= excess, "{over} over, {excess} allowed");
        let whole = admitted.last().map_or(0, |last| last - 1_000_000);
        let earned = fleet.rate.burst() + whole / 1000;
        prop_assert!(admitted.len() as u64 <= earned, "{} of {earned} from the start", admitted.len());
    }
}

async fn run_steps(fleet: &Fleet, acts: &[Step]) -> Vec<u64> {
    let mut admitted = Vec::new();
    for step in acts {
        let (replicas, count) = match step {
            Step::Wait(micros) => {
                fleet.clock.advance(*micros);
                continue;
            }
            Step::Burst(replica, count) => (*replica..*replica + 1, *count),
            Step::Together(count) => (0..4, *count),
        };
        for turn in 0..count {
            for replica in replicas.clone() {
                if fleet.call(replica).await {
                    admitted.push(fleet.clock.now().0);
                }
            }
            if turn % 3 == 0 {
                fleet.clock.advance(97);
                tokio::task::yield_now().await;
            }
        }
    }
    admitted
}
