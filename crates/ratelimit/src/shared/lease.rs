//! Leases: tokens of fast shared buckets, taken out of the shared store ahead of the calls that spend them here.
//!
//! What is taken is gone from the bucket, so that all replicas together never admit one call too many over the long
//! run. What is not spent within the lease's duration is dropped: a token spent in a window was taken in it or at most
//! one duration earlier, and the bucket gave out at most what it held then and earned since. So no window of any
//! length exceeds an exact bucket's by more than what the bucket earns in one duration, whatever replicas do.

pub(crate) mod balance;
pub(crate) mod counters;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::bucket::decide::Wait;
use crate::bucket::rate::{Level, Rate};
use crate::clock::{Clock, Micros};
use crate::plan::policy::{LeasePolicy, Mode};
use crate::plan::{BucketId, Plan, PlannedBucket};
use crate::shared::lease::balance::{LeaseBalance, LeaseTerms, Shortfall};
use crate::shared::lease::counters::LeaseCounters;
pub use crate::shared::lease::counters::LeaseCounts;
use crate::shared::store::{Adjustment, RemoteBucket, RemoteStore, StoreFailure, TakeRequest, remote_bucket};
use crate::task_spawner::TaskSpawner;

/// How many times a call waits for tokens before it counts as one that the store did not answer: others may be faster
/// every time.
const TAKE_ATTEMPTS_MAX: usize = 4;

/// What this replica has taken.
pub struct Leases {
    store: Arc<dyn RemoteStore>,
    clock: Arc<dyn Clock>,
    duration: u64,
    replica_count: Option<u32>,
    counters: LeaseCounters,
    task_spawner: TaskSpawner,
    /// By the definition of the bucket, of which the planner makes a bounded number.
    leased_buckets: Mutex<HashMap<BucketId, Arc<LeasedBucket>>>,
}

/// What is held of one bucket.
pub(crate) struct LeasedBucket {
    remote: RemoteBucket,
    balance: Mutex<LeaseBalance>,
    /// Tokens have come, or will not.
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

/// The leased buckets of a plan, in its order, which is also the order of their locks.
pub type LeasePlan = SmallVec<[PlannedLease; 2]>;

/// Why leased buckets let a call not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseError {
    /// A bucket is empty: its place in the plan, and for how long it will be.
    InsufficientTokens(usize, Wait),
    /// The store was needed and did not answer.
    StoreFailed(StoreFailure),
}

/// What a call has paid out of reservoirs. Dropped without [`LeasePayment::commit`] it is put back.
pub struct LeasePayment<'a> {
    leases: &'a Leases,
    plan: &'a LeasePlan,
    /// The terms of what each bucket paid; `None` where a bucket in shadow mode paid nothing.
    terms: SmallVec<[Option<LeaseTerms>; 2]>,
    is_committed: bool,
}

/// The same buckets for a call that costs what `whole`, the plan that they are of, says.
pub(crate) fn with_costs(plan: &LeasePlan, whole: &Plan) -> LeasePlan {
    let cost = |leased: &PlannedLease| whole.buckets.get(leased.index).map(|bucket| bucket.cost.get().into());
    plan.iter()
        .map(|leased| PlannedLease { cost: cost(leased).unwrap_or(leased.cost), ..leased.clone() })
        .collect()
}

impl std::fmt::Debug for LeasePayment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Paid")
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
    /// Nothing is taken yet. `replica_count` is what the operator says; else the store is asked.
    #[must_use]
    pub fn new(
        store: Arc<dyn RemoteStore>,
        clock: Arc<dyn Clock>,
        policy: LeasePolicy,
        replica_count: Option<u32>,
    ) -> Arc<Self> {
        // One part in a hundred is given away, since clocks do not run equally fast.
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

    /// The leased buckets of a plan. The same bucket has the same reservoir in every plan.
    #[must_use]
    pub fn plan(&self, plan: &Plan) -> LeasePlan {
        let leased = |(place, bucket): (usize, &PlannedBucket)| {
            bucket.lease_excess.map(|_| PlannedLease {
                index: place,
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
            // Half of what the bucket earns in a lease is as much as one replica can use in half of it.
            let most = (u128::from(bucket.rate.refill()) * u128::from(self.duration / 2))
                .div_ceil(u128::from(bucket.rate.unit().max(1)));
            let most = u64::try_from(most).unwrap_or(u64::MAX);
            let stock = Mutex::new(LeaseBalance::new(self.duration, most));
            Arc::new(LeasedBucket { remote: bucket, balance: stock, changed: Notify::new() })
        };
        self.leased_buckets.lock().entry(bucket.id).or_insert_with(make).clone()
    }

    /// Pays for one call out of what is held, taking more from the store where that is not enough.
    ///
    /// # Errors
    /// When a bucket is empty, or the store does not answer.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn admit<'a>(self: &'a Arc<Self>, plan: &'a LeasePlan) -> Result<LeasePayment<'a>, LeaseError> {
        if let Some(paid) = self.spend(plan, true) {
            return Ok(paid);
        }
        Box::pin(self.take_and_spend(plan)).await
    }

    /// Pays at once or not at all. `all` says that buckets in shadow mode must pay, too.
    fn spend<'a>(self: &'a Arc<Self>, plan: &'a LeasePlan, all: bool) -> Option<LeasePayment<'a>> {
        let now = self.clock.now();
        let mut stocks: SmallVec<[MutexGuard<'_, LeaseBalance>; 2]> =
            plan.iter().map(|leased| leased.leased_bucket.balance.lock()).collect();
        let enough = |(leased, stock): (&PlannedLease, &MutexGuard<'_, LeaseBalance>)| {
            (!all && leased.mode == Mode::Shadow) || stock.available(now) >= leased.cost
        };
        if !plan.iter().zip(&stocks).all(enough) {
            return None;
        }
        let mut orders: SmallVec<[(usize, TakeRequest); 2]> = SmallVec::new();
        let mut terms = SmallVec::new();
        for (index, (leased, stock)) in plan.iter().zip(&mut stocks).enumerate() {
            terms.push(stock.spend(leased.cost, now));
            if stock.is_running_low(now) {
                orders.push((index, stock.begin_take(now, self.share_divisor())));
            }
        }
        drop(stocks);
        for (index, order) in orders {
            if let Some(leased) = plan.get(index) {
                self.spawn_take(&leased.leased_bucket, order);
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
            let mut told: SmallVec<[_; 2]> = SmallVec::new();
            for leased in plan {
                // Before the look, so that nothing that comes after it is missed.
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
                        told.push(changed);
                    }
                }
            }
            if let Some((place, wait)) = short {
                return Err(LeaseError::InsufficientTokens(place, wait));
            }
            let Some((reservoir, turn)) = waits_for else {
                match self.spend(plan, false) {
                    Some(paid) => return Ok(paid),
                    // Somebody else was faster between the look and this.
                    None => continue,
                }
            };
            for changed in told {
                changed.await;
            }
            let failure = reservoir.balance.lock().failure_since(turn);
            if let Some(failure) = failure {
                // What only buckets on trial lack holds up nobody.
                return self.spend(plan, false).ok_or(LeaseError::StoreFailed(failure));
            }
            if let Some(paid) = self.spend(plan, true) {
                return Ok(paid);
            }
        }
        self.spend(plan, false).ok_or(LeaseError::StoreFailed(StoreFailure::Timeout))
    }

    /// What one bucket lacks for a call; asks the store for it if nobody does.
    fn check_shortfall(self: &Arc<Self>, leased: &PlannedLease, now: Micros) -> Shortfall {
        let rate = &leased.leased_bucket.remote.rate;
        let mut stock = leased.leased_bucket.balance.lock();
        let lack = stock.shortfall(leased.cost, now, rate);
        if lack == Shortfall::PendingTake(stock.take_count()) && !stock.is_take_pending() {
            let order = stock.begin_take(now, self.share_divisor());
            drop(stock);
            self.spawn_take(&leased.leased_bucket, order);
        }
        lack
    }

    fn share_divisor(&self) -> u32 {
        self.replica_count.or_else(|| self.store.replica_count()).unwrap_or(1).saturating_mul(2).max(2)
    }

    /// Asks the store by a task of its own: a caller who leaves takes nothing along.
    fn spawn_take(self: &Arc<Self>, reservoir: &Arc<LeasedBucket>, order: TakeRequest) {
        let (leases, reservoir) = (self.clone(), reservoir.clone());
        let mut delivery = TakeCompletion { leased_bucket: reservoir, is_finished: false };
        self.task_spawner.spawn(async move {
            let sent = leases.clock.now();
            let outcome = leases.store.take(&delivery.leased_bucket.remote, order).await;
            let now = leases.clock.now();
            let until = sent.plus(leases.duration);
            delivery.is_finished = true;
            leases.counters.record_take(outcome.as_ref().map_or(0, |taken| taken.tokens));
            delivery.leased_bucket.balance.lock().finish_take(order, outcome, until, now);
        });
    }

    /// What each leased bucket held when it was last heard of, by its place in the plan, in units.
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

/// An answer that is under way. However it ends, those who wait are told.
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

/// A call that waits for tokens; what it lacks is taken along with what others lack.
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
    /// The call goes on: what was paid stays paid.
    pub fn commit(&mut self) {
        self.is_committed = true;
    }

    /// The places of the buckets in shadow mode that could not pay.
    pub(crate) fn unpaid_indices(&self) -> impl Iterator<Item = usize> {
        self.plan.iter().zip(&self.terms).filter(|(_, terms)| terms.is_none()).map(|(leased, _)| leased.index)
    }

    /// The places of the buckets that paid.
    pub(crate) fn paid_indices(&self) -> impl Iterator<Item = usize> {
        self.plan.iter().zip(&self.terms).filter(|(_, terms)| terms.is_some()).map(|(leased, _)| leased.index)
    }

    /// When what was paid was taken, by the clock of the store.
    pub(crate) fn taken_at(&self) -> impl Iterator<Item = Micros> {
        self.terms.iter().flatten().map(|terms| terms.taken_at)
    }

    /// The changes that charge more tokens to the buckets that paid.
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

/// The shortest lease: the way to the store and back must be short against it.
pub const LEASE_MIN: Duration = Duration::from_millis(20);
/// The longest lease: what a replica that is killed holds is lost for that long.
pub const LEASE_MAX: Duration = Duration::from_secs(10);
/// How long tokens may be spent, if nothing else is said.
pub const LEASE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
