//! The cost of one decision, compared with one keyed check of `governor` in the same run: shared machines are
//! noisy, so only ratios count. Rounds of the two are interleaved, and their medians are compared.
//!
//! `cargo xtask bench limits`, or `cargo bench -p vmcp-ratelimit`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and fails by panicking"
)]

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use governor::{Quota as GovernorQuota, RateLimiter};
use vmcp_domain::{BackendId, BackendToolName, NamePattern, RoutingTarget, Tool, ToolHints, ToolOverride};
use vmcp_json::Members;
use vmcp_ratelimit::policy::{
    Anonymous, Consistency, LimitPolicy, Limits, MemoryBounds, Mode, Overflow, Quota, ToolRule, WaitBounds,
};
use vmcp_ratelimit::{AdmitOutcome, LevelStorage, MemoryStore, Plan, Planner, Rate, UserKey};
use vmcp_timing::SystemClock;

const ROUNDS: usize = 15;
const PLENTY: u64 = 1_000_000;

fn quota(tokens: u64, period: Duration) -> Option<Quota> {
    Some(Quota::new(vec![Rate::new(tokens, period, tokens).unwrap()], Mode::Enforce))
}

/// A store with four buckets: server, tool, user, user and tool.
fn store_with_four_buckets(tokens: u64, period: Duration, users: usize) -> (MemoryStore, Plan) {
    let limits =
        || Limits { shared: quota(tokens, period), per_user: quota(tokens, period), ..Limits::default() };
    let rule = ToolRule {
        name: NamePattern::new("*"),
        annotation: None,
        group: false,
        limits: limits(),
        cost: vmcp_ratelimit::policy::Cost::default(),
    };
    let policy = LimitPolicy {
        server: limits(),
        tools: vec![rule],
        anonymous: Anonymous::Refuse,
        memory: MemoryBounds { user_count_max: users + 1, overflow: Overflow::Refuse },
        waiting: WaitBounds::default(),
        consistency: Consistency::Exact,
        ..LimitPolicy::default()
    };
    let planner = Arc::new(Planner::new(policy));
    let tool = Tool {
        contested_name: None,
        name: "tool".into(),
        target: RoutingTarget { backend: BackendId::from("backend"), name: BackendToolName::from("tool") },
        description: None,
        hints: ToolHints::default(),
        definition: Arc::new(Members::new()),
        overrides: ToolOverride::default(),
    };
    let plan = planner.plan(&tool);
    (MemoryStore::new(planner, Arc::new(SystemClock::start())), plan)
}

fn key(number: u64) -> UserKey {
    // Keys are hashes in the product; a multiplication replaces the hash here.
    let mixed = u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    UserKey::new(mixed)
}

/// Nanoseconds of one call of `work`, over `count` calls.
fn time(count: u64, mut work: impl FnMut(u64)) -> f64 {
    let begun = Instant::now();
    for turn in 0..count {
        work(turn);
    }
    begun.elapsed().as_nanos() as f64 / count as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Compares a decision over four buckets with one keyed check of `governor`, for this number of users.
fn compare(users: u64, count: u64) {
    let (store, plan) =
        store_with_four_buckets(PLENTY, Duration::from_secs(1), usize::try_from(users).unwrap());
    let per_second = NonZeroU32::new(u32::try_from(PLENTY).unwrap()).unwrap();
    let yardstick = RateLimiter::keyed(GovernorQuota::per_second(per_second));
    let names: Vec<String> = (0..users).map(|user| format!("subject-{user:0>16}")).collect();
    for user in 0..users {
        let _ = black_box(store.admit(&plan, Some(key(user))));
        let _ = black_box(yardstick.check_key(&user));
    }
    // A fixed stride that visits every user, and no two neighbours in a row.
    let pick = |turn: u64| turn.wrapping_mul(7_368_787) % users;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(time(count, |turn| {
            black_box(store.admit(&plan, Some(key(pick(turn)))));
        }));
        theirs.push(time(count, |turn| {
            let _ = black_box(yardstick.check_key(&pick(turn)));
        }));
    }
    let (ours, theirs) = (median(ours), median(theirs));
    println!(
        "{users:>9} users: 4 buckets, all or none {ours:>7.1} ns   governor, 1 key {theirs:>7.1} ns   ratio {:.2}",
        ours / theirs
    );
    drop(names);
}

/// A decision that is refused at once by a bucket that all users share.
fn refusals() {
    let (store, plan) = store_with_four_buckets(1, Duration::from_secs(3600), 8);
    let _ = store.admit(&plan, Some(key(0)));
    let samples = (0..ROUNDS).map(|_| {
        time(200_000, |_| {
            black_box(store.admit(&plan, Some(key(0))));
        })
    });
    println!("          refused by every bucket, waits of all four {:>7.1} ns", median(samples.collect()));
}

/// Two threads on one hot user: not one admission too many.
fn contended() {
    let allowance = 1_000_000_u64;
    let (store, plan) = store_with_four_buckets(allowance, Duration::from_secs(10_000_000), 8);
    let admitted = AtomicUsize::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..allowance {
                    if matches!(store.admit(&plan, Some(key(0))), AdmitOutcome::Admitted(_)) {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let each = begun.elapsed().as_nanos() as f64 / (2 * allowance) as f64;
    let admitted = admitted.into_inner();
    assert_eq!(admitted as u64, allowance, "two threads admit exactly the allowance");
    println!("          two threads, one user: {admitted} of {allowance} admitted, {each:.1} ns a decision");
}

fn memory() {
    let users = 1_000_000_u64;
    // Buckets refill so slowly that none is full again: idle users would be evicted while others come.
    let (store, plan) =
        store_with_four_buckets(PLENTY, Duration::from_secs(100_000_000), usize::try_from(users).unwrap());
    for user in 0..users {
        let _ = store.admit(&plan, Some(key(user)));
    }
    assert_eq!(store.user_count() as u64, users, "every user is told apart");
    let each = store.user_bytes() as u64 / users;
    println!("          {each} bytes a user with two buckets, at {users} users");
}

/// Ten million users through a store of one million: memory stays bounded, and a user in debt stays in debt.
fn churn() {
    let bound = 1_000_000;
    let (store, plan) = store_with_four_buckets(2, Duration::from_secs(1_000_000), bound);
    // Only the buckets of single users matter here; the shared buckets would be empty at once.
    let plan = Plan {
        buckets: plan
            .buckets
            .into_iter()
            .filter(|bucket| matches!(bucket.storage, LevelStorage::User))
            .collect(),
        ..Plan::default()
    };
    let plan = Plan { needs_user: true, needs_user_entry: true, ..plan };
    let debtor = key(0);
    while matches!(store.admit(&plan, Some(debtor)), AdmitOutcome::Admitted(_)) {}
    let each = time(10_000_000, |turn| {
        let _ = black_box(store.admit(&plan, Some(key(turn + 1))));
    });
    assert!(store.user_count() <= bound + 1, "the store keeps its bound");
    assert!(
        matches!(store.admit(&plan, Some(debtor)), AdmitOutcome::Refused(_)),
        "a user in debt is not forgotten"
    );
    println!(
        "          10,000,000 users through 1,000,000 places: {} kept, {} MB, {each:.0} ns each, the debtor still refused",
        store.user_count(),
        store.user_bytes() >> 20
    );
}

fn main() {
    compare(1, 200_000);
    compare(1_000, 200_000);
    compare(1_000_000, 200_000);
    refusals();
    contended();
    memory();
    churn();
}
