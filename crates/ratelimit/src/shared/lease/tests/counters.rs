//! What each bucket took and paid. Replies to callers, charges and refunds are computed from it.

use super::balance::{LeaseBalance, LeaseTerms};
use super::*;
use crate::shared::store::{TakeGrant, TakeRequest};

/// Two leased buckets, one of all tools and one of each tool, and what each earns in a second.
fn two(server: u64, tool: u64, mode: Mode) -> LimitPolicy {
    let quota =
        |tokens, mode| Some(Quota::new(vec![Rate::new(tokens, Duration::from_secs(1), 200).unwrap()], mode));
    let rule = ToolRule {
        name: vmcp_domain::NamePattern::new("*"),
        annotation: None,
        group: false,
        limits: Limits { shared: quota(tool, mode), ..Limits::default() },
        cost: NonZeroU32::MIN.into(),
    };
    let server = Limits { shared: quota(server, Mode::Enforce), ..Limits::default() };
    LimitPolicy { server, tools: vec![rule], ..policy(1000, false, Mode::Enforce) }
}

/// Makes calls until one is refused, and returns the last of a hundred refusals.
async fn refusal(fleet: &Fleet) -> LeaseError {
    let (leases, plan) = &fleet.replicas[0];
    while fleet.call(0).await {}
    for _ in 0..99 {
        assert!(leases.admit(plan).await.is_err());
    }
    leases.admit(plan).await.unwrap_err()
}

#[tokio::test]
async fn a_call_knows_what_it_has_paid_and_when() {
    let fleet = Fleet::new(1, two(1000, 1000, Mode::Enforce));
    let (leases, plan) = &fleet.replicas[0];
    let paid = leases.admit(plan).await.unwrap();
    assert_eq!(paid.paid_indices().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(paid.unpaid_indices().count(), 0);
    assert_eq!(paid.taken_at().collect::<Vec<_>>(), [Micros(1_000_000); 2]);
    let changes: Vec<(u32, i64, Option<Micros>)> =
        paid.adjustments(|_| 3).map(|change| (change.bucket.cost, change.tokens, change.paid_at)).collect();
    assert_eq!(changes, [(1, 3, Some(Micros(1_000_000))); 2]);
}

#[tokio::test]
async fn a_bucket_on_trial_that_cannot_pay_is_charged_nothing() {
    let fleet = Fleet::new(1, two(1000, 100, Mode::Shadow));
    for _ in 0..200 {
        fleet.clock.advance(1);
        assert!(fleet.call(0).await);
    }
    fleet.clock.advance(2_000);
    let (leases, plan) = &fleet.replicas[0];
    let paid = leases.admit(plan).await.unwrap();
    assert_eq!(paid.paid_indices().collect::<Vec<_>>(), [0]);
    assert_eq!(paid.unpaid_indices().collect::<Vec<_>>(), [1]);
    assert_eq!((paid.taken_at().count(), paid.adjustments(|_| 1).count()), (1, 1));
}

#[tokio::test]
async fn the_longest_wait_of_several_buckets_is_told() {
    // Both buckets hold 200 tokens and earn at different rates.
    for (server, tool, index, wait) in [
        (1000, 80, 1, 12_500),
        (80, 1000, 0, 12_500),
        (100, 80, 1, 12_500),
        (80, 100, 0, 12_500),
        (80, 80, 0, 12_500),
    ] {
        let fleet = Fleet::new(1, two(server, tool, Mode::Enforce));
        assert_eq!(
            refusal(&fleet).await,
            LeaseError::InsufficientTokens(index, Wait::Micros(wait)),
            "{server} {tool}"
        );
    }
}

#[tokio::test]
async fn each_replica_takes_a_part_of_what_there_is() {
    let parts = |count: Option<u32>| {
        let fleet = Fleet::new(1, policy(1000, false, Mode::Enforce));
        let lease = LeasePolicy { duration: DURATION, hold_back: false };
        Leases::new(fleet.store, fleet.clock, lease, count).share_divisor()
    };
    // The store reports two replicas.
    assert_eq!((parts(Some(3)), parts(Some(0)), parts(None)), (6, 2, 4));
}

#[tokio::test]
async fn the_level_is_what_the_store_has_told() {
    let fleet = Fleet::new(1, policy(1000, false, Mode::Enforce));
    let (leases, plan) = &fleet.replicas[0];
    assert!(leases.observed_levels(plan).is_empty(), "nothing has been heard");
    assert!(fleet.call(0).await);
    assert_eq!(leases.observed_levels(plan).as_slice(), [(0, fleet.rate.units(999))]);
    fleet.clock.advance(500);
    assert_eq!(leases.observed_levels(plan).as_slice(), [(0, fleet.rate.units(999) + 500)]);
}

/// A take does not include a call that no longer waits.
#[tokio::test]
async fn only_what_waits_is_needed() {
    let fleet = Fleet::new(1, policy(1000, false, Mode::Enforce));
    for _ in 0..5 {
        assert!(fleet.call(0).await);
        // The tokens that were taken ahead expire meanwhile.
        fleet.clock.advance(200_000);
    }
    let needs: Vec<u64> = fleet.store.take_requests.lock().iter().map(|request| request.need).collect();
    assert!(!needs.is_empty() && needs.iter().all(|need| *need <= 1), "{needs:?}");
}

/// A take asks for at most what the bucket earns in half a lease. That is 149 tokens: half of 3,000 a second
/// in a tenth of a second, less 1 % for clock drift.
#[tokio::test]
async fn no_more_is_taken_ahead_than_half_a_lease_earns() {
    let fleet = Fleet::new(1, policy(3000, false, Mode::Enforce));
    let mut balance = fleet.replicas[0].1[0].leased_bucket.balance.lock();
    balance.add_waiting(100_000);
    for turn in 0..12 {
        let _ = balance.begin_take(Micros(turn), 2);
    }
    balance.remove_waiting(100_000);
    assert_eq!(balance.begin_take(Micros(12), 2).want, 75, "half of it, as nobody waits any more");
}

#[tokio::test]
async fn all_that_was_taken_is_accounted_for() {
    let fleet = Fleet::new(1, policy(1000, false, Mode::Enforce));
    for turn in 0..300 {
        assert!(fleet.call(0).await);
        if turn % 3 == 0 {
            fleet.clock.advance(100);
        }
        tokio::task::yield_now().await;
    }
    let (leases, _) = &fleet.replicas[0];
    let counts = leases.counts();
    let take_requests = fleet.store.take_requests.lock().len() as u64;
    assert_eq!((counts.take_requests, counts.spent), (take_requests, 300));
    assert_eq!(counts.taken, counts.spent + counts.held, "nothing is dropped in so short a time");
    assert!(counts.held > 0, "{counts:?}");
    let bucket = fleet.replicas[0].1[0].leased_bucket.remote.clone();
    let before = fleet.store.level(&bucket);
    leases.return_all().await;
    let given = fleet.store.level(&bucket) - before;
    // All held tokens are returned, less what the bucket has earned since they were taken.
    let held = fleet.rate.units(counts.held);
    assert!(given > held - fleet.rate.units(1) && given <= held, "{given} of {held}");
    assert_eq!(leases.counts().held, 0);
}

#[test]
fn tokens_of_two_orders_live_as_long_as_the_older_ones() {
    let mut balance = LeaseBalance::new(100, 50);
    let mut take = |tokens: u64, at: u64| {
        let request = balance.begin_take(Micros(at), 2);
        let grant = TakeGrant { tokens, level: 0, at: Micros(at + 1_000) };
        balance.finish_take(request, Ok(grant), Micros(at + 100), Micros(at));
    };
    take(5, 10);
    take(5, 60);
    let terms = balance.spend(7, Micros(61)).unwrap();
    assert_eq!(terms, LeaseTerms { expires_at: Micros(110), taken_at: Micros(1_010) });
    assert_eq!(balance.available(Micros(61)), 3);
    assert_eq!(balance.begin_take(Micros(61), 2).share_divisor, 2);
    let TakeRequest { min_useful: least, need, .. } = balance.begin_take(Micros(61), 2);
    assert_eq!((least, need), (0, 0), "nobody waits");
}

/// A take that is pending when the replica ends brings tokens, which go back as well.
#[tokio::test]
async fn tokens_of_a_pending_take_are_returned() {
    let fleet = Fleet::new(1, policy(1000, false, Mode::Enforce));
    // The first take is for the call, and the next one is made ahead.
    let gate = Arc::new(tokio::sync::Semaphore::new(1));
    *fleet.store.take_gate.lock() = Some(gate.clone());
    assert!(fleet.call(0).await);
    let (leases, plan) = &fleet.replicas[0];
    let open = async {
        tokio::task::yield_now().await;
        gate.add_permits(1);
    };
    tokio::join!(leases.return_all(), open);
    let bucket = &plan[0].leased_bucket.remote;
    assert_eq!((fleet.held(0), bucket.rate.tokens(fleet.store.level(bucket))), (0, 999));
}
