//! Leases: tokens of fast shared buckets, taken out of the shared store ahead of the calls that spend them
//! here.
//!
//! A taken token is gone from the bucket, so over the long run all replicas together never admit one call too
//! many. A token that is not spent within the lease's duration is dropped. So a token spent in a window was
//! taken in that window or at most one duration before it. In that time the bucket gave out at most what it
//! held at the start and earned since. Therefore no window of any length exceeds that of an exact bucket by
//! more than what the bucket earns in one duration, whatever the replicas do.

pub(crate) mod balance;
pub(crate) mod counters;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use tokio::sync::Notify;
use vmcp_timing::{Clock, Micros};

use crate::bucket::decide::Wait;
use crate::bucket::rate::{Level, Rate};
use crate::plan::policy::{LeasePolicy, Mode};
use crate::plan::{BucketId, Plan, PlannedBucket};
use crate::shared::lease::balance::{LeaseBalance, LeaseTerms, Shortfall};
use crate::shared::lease::counters::LeaseCounters;
pub use crate::shared::lease::counters::LeaseCounts;
use crate::shared::store::{Adjustment, RemoteBucket, RemoteStore, StoreFailure, TakeRequest, remote_bucket};
use crate::task_spawner::TaskSpawner;

/// How many times a call waits for tokens before it fails with a time-out of the store: other calls may spend
/// the tokens first every time.
const TAKE_ATTEMPTS_MAX: usize = 4;

/// The leased tokens of this replica.
pub struct Leases {
    store: Arc<dyn RemoteStore>,
    clock: Arc<dyn Clock>,
    duration: u64,
    replica_count: Option<u32>,
    counters: LeaseCounters,
    task_spawner: TaskSpawner,
    /// By the identifier of the bucket's definition. The planner makes a bounded number of definitions.
    leased_buckets: Mutex<HashMap<BucketId, Arc<LeasedBucket>>>,
}

/// The leased tokens of one bucket.
pub(crate) struct LeasedBucket {
    remote: RemoteBucket,
    balance: Mutex<LeaseBalance>,
    /// Notified when a take has finished, with or without tokens.
    changed: Notify,
}

/// One leased bucket of a plan.
#[derive(Clone)]
pub struct PlannedLease {
    index: usize,
    cost: u64,
    mode: Mode,
    leased_bucket: Arc<LeasedBucket>,
}

/// The leased buckets of a plan, in its order, which is also their lock order.
pub type LeasePlan = SmallVec<[PlannedLease; 2]>;

/// Why leased buckets do not admit a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseError {
    /// A bucket has too few tokens: its index in the plan, and how long until it can pay.
    InsufficientTokens(usize, Wait),
    /// The store was needed and did not answer.
    StoreFailed(StoreFailure),
}

/// What a call has paid from leased tokens. Dropping it without [`LeasePayment::commit`] restores the tokens.
pub struct LeasePayment<'a> {
    leases: &'a Leases,
    plan: &'a LeasePlan,
    /// The lease terms of each bucket's payment; `None` for a bucket in shadow mode that paid nothing.
    terms: SmallVec<[Option<LeaseTerms>; 2]>,
    is_committed: bool,
}

/// The same leased buckets with the costs of `whole`, the plan that they belong to.
pub(crate) fn with_costs(plan: &LeasePlan, whole: &Plan) -> LeasePlan {
    let cost = |leased: &PlannedLease| whole.buckets.get(leased.index).map(|bucket| bucket.cost.get().into());
    plan.iter()
        .map(|leased| PlannedLease { cost: cost(leased).unwrap_or(leased.cost), ..leased.clone() })
        .collect()
}

impl std::fmt::Debug for LeasePayment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeasePayment")
            .field("terms", &self.terms)
            .field("kept", &self.is_committed)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leases").field("duration", &self.duration).finish_non_exhaustive()
    }
}

impl Leases {
    /// Leases without any tokens yet. `replica_count` is the configured number of replicas; `None` uses the
    /// number that the store reports.
    #[must_use]
    pub fn new(
        store: Arc<dyn RemoteStore>,
        clock: Arc<dyn Clock>,
        policy: LeasePolicy,
        replica_count: Option<u32>,
    ) -> Arc<Self> {
        // The lease is shortened by 1 %, since clocks do not run equally fast.
        let micros = u64::try_from(policy.duration.as_micros()).unwrap_or(u64::MAX);
        let duration = micros - micros.div_ceil(100);
        Arc::new(Self {
            store,
            clock,
            duration,
            replica_count,
            counters: LeaseCounters::default(),
            task_spawner: TaskSpawner::current(),
            leased_buckets: Mutex::default(),
        })
    }

    /// The leased buckets of a plan. The same bucket shares its leased tokens between all plans.
    #[must_use]
    pub fn plan(&self, plan: &Plan) -> LeasePlan {
        let leased = |(index, bucket): (usize, &PlannedBucket)| {
            bucket.lease_excess.map(|_| PlannedLease {
                index,
                cost: u64::from(bucket.cost.get()),
                mode: bucket.mode,
                leased_bucket: self.leased_bucket(bucket),
            })
        };
        plan.buckets.iter().enumerate().filter_map(leased).collect()
    }

    fn leased_bucket(&self, bucket: &PlannedBucket) -> Arc<LeasedBucket> {
        let make = || {
            let bucket = remote_bucket(bucket, None, None);
            // In half a lease one replica can use at most what the bucket earns in that half, so it never
            // needs to hold more.
            let most = (u128::from(bucket.rate.refill()) * u128::from(self.duration / 2))
                .div_ceil(u128::from(bucket.rate.unit().max(1)));
            let most = u64::try_from(most).unwrap_or(u64::MAX);
            let balance = Mutex::new(LeaseBalance::new(self.duration, most));
            Arc::new(LeasedBucket { remote: bucket, balance, changed: Notify::new() })
        };
        self.leased_buckets.lock().entry(bucket.id).or_insert_with(make).clone()
    }

    /// Pays for one call from the leased tokens, and takes more from the store if they do not suffice.
    ///
    /// # Errors
    /// [`LeaseError`] if a bucket has too few tokens, or the store does not answer.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn admit<'a>(self: &'a Arc<Self>, plan: &'a LeasePlan) -> Result<LeasePayment<'a>, LeaseError> {
        if let Some(paid) = self.spend(plan, true) {
            return Ok(paid);
        }
        Box::pin(self.take_and_spend(plan)).await
    }

    /// Pays at once or not at all. With `all`, buckets in shadow mode must pay too.
    fn spend<'a>(self: &'a Arc<Self>, plan: &'a LeasePlan, all: bool) -> Option<LeasePayment<'a>> {
        let now = self.clock.now();
        let mut balances: SmallVec<[MutexGuard<'_, LeaseBalance>; 2]> =
            plan.iter().map(|leased| leased.leased_bucket.balance.lock()).collect();
        let enough = |(leased, balance): (&PlannedLease, &MutexGuard<'_, LeaseBalance>)| {
            (!all && leased.mode == Mode::Shadow) || balance.available(now) >= leased.cost
        };
        if !plan.iter().zip(&balances).all(enough) {
            return None;
        }
        let mut requests: SmallVec<[(usize, TakeRequest); 2]> = SmallVec::new();
        let mut terms = SmallVec::new();
        for (index, (leased, balance)) in plan.iter().zip(&mut balances).enumerate() {
            terms.push(balance.spend(leased.cost, now));
            if balance.is_running_low(now) {
                requests.push((index, balance.begin_take(now, self.share_divisor())));
            }
        }
        drop(balances);
        for (index, request) in requests {
            if let Some(leased) = plan.get(index) {
                self.spawn_take(&leased.leased_bucket, request);
            }
        }
        Some(LeasePayment { leases: self, plan, terms, is_committed: false })
    }

    async fn take_and_spend<'a>(
        self: &'a Arc<Self>,
        plan: &'a LeasePlan,
    ) -> Result<LeasePayment<'a>, LeaseError> {
        let _queue: SmallVec<[WaitingCostGuard<'_>; 2]> = plan.iter().map(WaitingCostGuard::add).collect();
        for _ in 0..TAKE_ATTEMPTS_MAX {
            let mut short = None;
            let mut waits_for: Option<(&LeasedBucket, u64)> = None;
            let now = self.clock.now();
            let mut notifications: SmallVec<[_; 2]> = SmallVec::new();
            for leased in plan {
                // Enabled before the check, so that no notification after it is missed.
                let mut changed = Box::pin(leased.leased_bucket.changed.notified());
                changed.as_mut().enable();
                match self.check_shortfall(leased, now) {
                    Shortfall::Nothing => {}
                    Shortfall::Wait(wait) if leased.mode == Mode::Enforce => {
                        let known = short.is_some_and(|(_, longest)| longest >= wait);
                        short = if known { short } else { Some((leased.index, wait)) };
                    }
                    Shortfall::Wait(_) => {}
                    Shortfall::PendingTake(turn) => {
                        waits_for = Some((&leased.leased_bucket, turn));
                        notifications.push(changed);
                    }
                }
            }
            if let Some((index, wait)) = short {
                return Err(LeaseError::InsufficientTokens(index, wait));
            }
            let Some((leased_bucket, turn)) = waits_for else {
                match self.spend(plan, false) {
                    Some(paid) => return Ok(paid),
                    // Another call spent the tokens between the check and this point.
                    None => continue,
                }
            };
            for changed in notifications {
                changed.await;
            }
            let failure = leased_bucket.balance.lock().failure_since(turn);
            if let Some(failure) = failure {
                // Buckets in shadow mode that lack tokens do not refuse the call.
                return self.spend(plan, false).ok_or(LeaseError::StoreFailed(failure));
            }
            if let Some(paid) = self.spend(plan, true) {
                return Ok(paid);
            }
        }
        self.spend(plan, false).ok_or(LeaseError::StoreFailed(StoreFailure::Timeout))
    }

    /// What one bucket lacks for a call. Starts a take from the store if none is pending.
    fn check_shortfall(self: &Arc<Self>, leased: &PlannedLease, now: Micros) -> Shortfall {
        let rate = &leased.leased_bucket.remote.rate;
        let mut balance = leased.leased_bucket.balance.lock();
        let shortfall = balance.shortfall(leased.cost, now, rate);
        if shortfall == Shortfall::PendingTake(balance.take_count()) && !balance.is_take_pending() {
            let request = balance.begin_take(now, self.share_divisor());
            drop(balance);
            self.spawn_take(&leased.leased_bucket, request);
        }
        shortfall
    }

    fn share_divisor(&self) -> u32 {
        self.replica_count.or_else(|| self.store.replica_count()).unwrap_or(1).saturating_mul(2).max(2)
    }

    /// Takes from the store in a task of its own, so that a cancelled call does not abort the take.
    fn spawn_take(self: &Arc<Self>, leased_bucket: &Arc<LeasedBucket>, request: TakeRequest) {
        let (leases, leased_bucket) = (self.clone(), leased_bucket.clone());
        let mut delivery = TakeCompletion { leased_bucket, is_finished: false };
        self.task_spawner.spawn(async move {
            let sent = leases.clock.now();
            let outcome = leases.store.take(&delivery.leased_bucket.remote, request).await;
            let now = leases.clock.now();
            let until = sent.plus(leases.duration);
            delivery.is_finished = true;
            leases.counters.record_take(outcome.as_ref().map_or(0, |grant| grant.tokens));
            delivery.leased_bucket.balance.lock().finish_take(request, outcome, until, now);
        });
    }

    /// The level of each leased bucket by its index in the plan, in units, from the store's last reply and
    /// the refill since.
    pub(crate) fn observed_levels(&self, plan: &LeasePlan) -> SmallVec<[(usize, i64); 2]> {
        let now = self.clock.now();
        let level = |leased: &PlannedLease| {
            let level: Option<Level> = leased.leased_bucket.balance.lock().level();
            let rate: &Rate = &leased.leased_bucket.remote.rate;
            level.map(|level| (leased.index, rate.level_at(level, now)))
        };
        plan.iter().filter_map(level).collect()
    }
}

/// A pending take. However it ends, the waiting calls are notified.
struct TakeCompletion {
    leased_bucket: Arc<LeasedBucket>,
    is_finished: bool,
}

impl Drop for TakeCompletion {
    fn drop(&mut self) {
        if !self.is_finished {
            self.leased_bucket.balance.lock().abort_take();
        }
        self.leased_bucket.changed.notify_waiters();
    }
}

/// A call that waits for tokens. The next take includes what all waiting calls lack together.
struct WaitingCostGuard<'a>(&'a PlannedLease);

impl<'a> WaitingCostGuard<'a> {
    fn add(leased: &'a PlannedLease) -> Self {
        leased.leased_bucket.balance.lock().add_waiting(leased.cost);
        Self(leased)
    }
}

impl Drop for WaitingCostGuard<'_> {
    fn drop(&mut self) {
        self.0.leased_bucket.balance.lock().remove_waiting(self.0.cost);
    }
}

impl LeasePayment<'_> {
    /// Keeps the payment: the call is made.
    pub fn commit(&mut self) {
        self.is_committed = true;
    }

    /// The indices of the buckets in shadow mode that could not pay.
    pub(crate) fn unpaid_indices(&self) -> impl Iterator<Item = usize> {
        self.plan.iter().zip(&self.terms).filter(|(_, terms)| terms.is_none()).map(|(leased, _)| leased.index)
    }

    /// The indices of the buckets that paid.
    pub(crate) fn paid_indices(&self) -> impl Iterator<Item = usize> {
        self.plan.iter().zip(&self.terms).filter(|(_, terms)| terms.is_some()).map(|(leased, _)| leased.index)
    }

    /// When the paid tokens were taken, by the clock of the store.
    pub(crate) fn taken_at(&self) -> impl Iterator<Item = Micros> {
        self.terms.iter().flatten().map(|terms| terms.taken_at)
    }

    /// The adjustments that charge further tokens to the buckets that paid.
    pub(crate) fn adjustments(
        &self,
        tokens: impl Fn(&RemoteBucket) -> i64,
    ) -> impl Iterator<Item = Adjustment> {
        self.plan.iter().zip(&self.terms).filter_map(move |(leased, terms)| {
            let cost = u32::try_from(leased.cost).unwrap_or(u32::MAX);
            let bucket = RemoteBucket { cost, ..leased.leased_bucket.remote.clone() };
            terms.map(|terms| Adjustment { tokens: tokens(&bucket), paid_at: Some(terms.taken_at), bucket })
        })
    }
}

impl Drop for LeasePayment<'_> {
    fn drop(&mut self) {
        if self.is_committed {
            return;
        }
        let now = self.leases.clock.now();
        for (leased, terms) in self.plan.iter().zip(&self.terms) {
            if let Some(terms) = terms {
                leased.leased_bucket.balance.lock().restore(leased.cost, *terms, now);
            }
        }
    }
}

/// The shortest lease: the round trip to the store must be short compared with it.
pub const LEASE_MIN: Duration = Duration::from_millis(20);
/// The longest lease: the tokens held by a killed replica are lost for that long.
pub const LEASE_MAX: Duration = Duration::from_secs(10);
/// The default duration of a lease.
pub const LEASE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
