//! Leases: tokens of fast shared buckets, taken out of the shared store ahead of the calls that spend them here.
//!
//! What is taken is gone from the bucket, so that all replicas together never admit one call too many over the long
//! run. What is not spent within the lease's duration is dropped: a token spent in a window was taken in it or at most
//! one duration earlier, and the bucket gave out at most what it held then and earned since. So no window of any
//! length exceeds an exact bucket's by more than what the bucket earns in one duration, whatever replicas do.

mod account;
mod stock;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::clock::{Clock, Micros};
use crate::decide::Wait;
use crate::plan::{BucketId, Plan, PlannedBucket};
use crate::policy::{LeasePolicy, Mode};
use crate::rate::{Level, Rate};
use crate::remote::{Change, Order, RemoteBucket, RemoteStore, StoreFailure, remote_bucket};
use crate::upkeep::Upkeep;
use account::Account;
pub use account::LeaseCounts;
use stock::{Lack, Stock, Terms};

/// How many times a call waits for tokens before it counts as one that the store did not answer: others may be faster
/// every time.
const TURNS_MAX: usize = 4;

/// What this replica has taken.
pub struct Leases {
    store: Arc<dyn RemoteStore>,
    clock: Arc<dyn Clock>,
    duration: u64,
    replica_count: Option<u32>,
    account: Account,
    upkeep: Upkeep,
    /// By the definition of the bucket, of which the planner makes a bounded number.
    reservoirs: Mutex<HashMap<BucketId, Arc<Reservoir>>>,
}

/// What is held of one bucket.
pub(crate) struct Reservoir {
    bucket: RemoteBucket,
    stock: Mutex<Stock>,
    /// Tokens have come, or will not.
    changed: Notify,
}

/// One leased bucket of a plan.
#[derive(Clone)]
pub struct Leased {
    place: usize,
    cost: u64,
    mode: Mode,
    reservoir: Arc<Reservoir>,
}

/// The leased buckets of a plan, in its order, which is also the order of their locks.
pub type LeasePlan = SmallVec<[Leased; 2]>;

/// Why leased buckets let a call not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// A bucket is empty: its place in the plan, and for how long it will be.
    Short(usize, Wait),
    /// The store was needed and did not answer.
    Failed(StoreFailure),
}

/// What a call has paid out of reservoirs. Dropped without [`Paid::keep`] it is put back.
pub struct Paid<'a> {
    leases: &'a Leases,
    plan: &'a LeasePlan,
    /// The terms of what each bucket paid; `None` where a bucket in shadow mode paid nothing.
    terms: SmallVec<[Option<Terms>; 2]>,
    kept: bool,
}

/// The same buckets for a call that costs what `whole`, the plan that they are of, says.
pub(crate) fn priced(plan: &LeasePlan, whole: &Plan) -> LeasePlan {
    let cost = |leased: &Leased| whole.buckets.get(leased.place).map(|bucket| bucket.cost.get().into());
    plan.iter().map(|leased| Leased { cost: cost(leased).unwrap_or(leased.cost), ..leased.clone() }).collect()
}

impl std::fmt::Debug for Paid<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Paid").field("terms", &self.terms).field("kept", &self.kept).finish_non_exhaustive()
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
            account: Account::default(),
            upkeep: Upkeep::here(),
            reservoirs: Mutex::default(),
        })
    }

    /// The leased buckets of a plan. The same bucket has the same reservoir in every plan.
    #[must_use]
    pub fn plan(&self, plan: &Plan) -> LeasePlan {
        let leased = |(place, bucket): (usize, &PlannedBucket)| {
            bucket.leased.map(|_| Leased {
                place,
                cost: u64::from(bucket.cost.get()),
                mode: bucket.mode,
                reservoir: self.reservoir(bucket),
            })
        };
        plan.buckets.iter().enumerate().filter_map(leased).collect()
    }

    fn reservoir(&self, bucket: &PlannedBucket) -> Arc<Reservoir> {
        let make = || {
            let bucket = remote_bucket(bucket, None, None);
            // Half of what the bucket earns in a lease is as much as one replica can use in half of it.
            let most = (u128::from(bucket.rate.refill()) * u128::from(self.duration / 2))
                .div_ceil(u128::from(bucket.rate.unit().max(1)));
            let most = u64::try_from(most).unwrap_or(u64::MAX);
            let stock = Mutex::new(Stock::new(self.duration, most));
            Arc::new(Reservoir { bucket, stock, changed: Notify::new() })
        };
        self.reservoirs.lock().entry(bucket.id).or_insert_with(make).clone()
    }

    /// Pays for one call out of what is held, taking more from the store where that is not enough.
    ///
    /// # Errors
    /// When a bucket is empty, or the store does not answer.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn admit<'a>(self: &'a Arc<Self>, plan: &'a LeasePlan) -> Result<Paid<'a>, Denied> {
        if let Some(paid) = self.spend(plan, true) {
            return Ok(paid);
        }
        Box::pin(self.take_and_spend(plan)).await
    }

    /// Pays at once or not at all. `all` says that buckets in shadow mode must pay, too.
    fn spend<'a>(self: &'a Arc<Self>, plan: &'a LeasePlan, all: bool) -> Option<Paid<'a>> {
        let now = self.clock.now();
        let mut stocks: SmallVec<[MutexGuard<'_, Stock>; 2]> =
            plan.iter().map(|leased| leased.reservoir.stock.lock()).collect();
        let enough = |(leased, stock): (&Leased, &MutexGuard<'_, Stock>)| {
            (!all && leased.mode == Mode::Shadow) || stock.available(now) >= leased.cost
        };
        if !plan.iter().zip(&stocks).all(enough) {
            return None;
        }
        let mut orders: SmallVec<[(usize, Order); 2]> = SmallVec::new();
        let mut terms = SmallVec::new();
        for (index, (leased, stock)) in plan.iter().zip(&mut stocks).enumerate() {
            terms.push(stock.spend(leased.cost, now));
            if stock.runs_low(now) {
                orders.push((index, stock.order(now, self.parts())));
            }
        }
        drop(stocks);
        for (index, order) in orders {
            if let Some(leased) = plan.get(index) {
                self.send(&leased.reservoir, order);
            }
        }
        Some(Paid { leases: self, plan, terms, kept: false })
    }

    async fn take_and_spend<'a>(self: &'a Arc<Self>, plan: &'a LeasePlan) -> Result<Paid<'a>, Denied> {
        let _queue: SmallVec<[Queued<'_>; 2]> = plan.iter().map(Queued::join).collect();
        for _ in 0..TURNS_MAX {
            let mut short = None;
            let mut waits_for: Option<(&Reservoir, u64)> = None;
            let now = self.clock.now();
            let mut told: SmallVec<[_; 2]> = SmallVec::new();
            for leased in plan {
                // Before the look, so that nothing that comes after it is missed.
                let mut changed = Box::pin(leased.reservoir.changed.notified());
                changed.as_mut().enable();
                match self.look(leased, now) {
                    Lack::Nothing => {}
                    Lack::UntilMicros(wait) if leased.mode == Mode::Enforce => {
                        let known = short.is_some_and(|(_, longest)| longest >= wait);
                        short = if known { short } else { Some((leased.place, wait)) };
                    }
                    Lack::UntilMicros(_) => {}
                    Lack::UntilTaken(turn) => {
                        waits_for = Some((&leased.reservoir, turn));
                        told.push(changed);
                    }
                }
            }
            if let Some((place, wait)) = short {
                return Err(Denied::Short(place, wait));
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
            let failure = reservoir.stock.lock().failure_since(turn);
            if let Some(failure) = failure {
                // What only buckets on trial lack holds up nobody.
                return self.spend(plan, false).ok_or(Denied::Failed(failure));
            }
            if let Some(paid) = self.spend(plan, true) {
                return Ok(paid);
            }
        }
        self.spend(plan, false).ok_or(Denied::Failed(StoreFailure::Timeout))
    }

    /// What one bucket lacks for a call; asks the store for it if nobody does.
    fn look(self: &Arc<Self>, leased: &Leased, now: Micros) -> Lack {
        let rate = &leased.reservoir.bucket.rate;
        let mut stock = leased.reservoir.stock.lock();
        let lack = stock.lack(leased.cost, now, rate);
        if lack == Lack::UntilTaken(stock.turn()) && !stock.is_taking() {
            let order = stock.order(now, self.parts());
            drop(stock);
            self.send(&leased.reservoir, order);
        }
        lack
    }

    fn parts(&self) -> u32 {
        self.replica_count.or_else(|| self.store.replica_count()).unwrap_or(1).saturating_mul(2).max(2)
    }

    /// Asks the store by a task of its own: a caller who leaves takes nothing along.
    fn send(self: &Arc<Self>, reservoir: &Arc<Reservoir>, order: Order) {
        let (leases, reservoir) = (self.clone(), reservoir.clone());
        let mut delivery = Delivery { reservoir, arrived: false };
        self.upkeep.spawn(async move {
            let sent = leases.clock.now();
            let outcome = leases.store.take(&delivery.reservoir.bucket, order).await;
            let now = leases.clock.now();
            let until = sent.plus(leases.duration);
            delivery.arrived = true;
            leases.account.asked(outcome.as_ref().map_or(0, |taken| taken.tokens));
            delivery.reservoir.stock.lock().arrived(order, outcome, until, now);
        });
    }

    /// What each leased bucket held when it was last heard of, by its place in the plan, in units.
    pub(crate) fn levels(&self, plan: &LeasePlan) -> SmallVec<[(usize, i64); 2]> {
        let now = self.clock.now();
        let level = |leased: &Leased| {
            let level: Option<Level> = leased.reservoir.stock.lock().level();
            let rate: &Rate = &leased.reservoir.bucket.rate;
            level.map(|level| (leased.place, rate.level_at(level, now)))
        };
        plan.iter().filter_map(level).collect()
    }
}

/// An answer that is under way. However it ends, those who wait are told.
struct Delivery {
    reservoir: Arc<Reservoir>,
    arrived: bool,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.arrived {
            self.reservoir.stock.lock().lost();
        }
        self.reservoir.changed.notify_waiters();
    }
}

/// A call that waits for tokens; what it lacks is taken along with what others lack.
struct Queued<'a>(&'a Leased);

impl<'a> Queued<'a> {
    fn join(leased: &'a Leased) -> Self {
        leased.reservoir.stock.lock().join(leased.cost);
        Self(leased)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.reservoir.stock.lock().leave(self.0.cost);
    }
}

impl Paid<'_> {
    /// The call goes on: what was paid stays paid.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// The places of the buckets in shadow mode that could not pay.
    pub(crate) fn unpaid(&self) -> impl Iterator<Item = usize> {
        self.plan.iter().zip(&self.terms).filter(|(_, terms)| terms.is_none()).map(|(leased, _)| leased.place)
    }

    /// The places of the buckets that paid.
    pub(crate) fn paid_places(&self) -> impl Iterator<Item = usize> {
        self.plan.iter().zip(&self.terms).filter(|(_, terms)| terms.is_some()).map(|(leased, _)| leased.place)
    }

    /// When what was paid was taken, by the clock of the store.
    pub(crate) fn taken_at(&self) -> impl Iterator<Item = Micros> {
        self.terms.iter().flatten().map(|terms| terms.taken_at)
    }

    /// The changes that charge more tokens to the buckets that paid.
    pub(crate) fn changes(&self, tokens: impl Fn(&RemoteBucket) -> i64) -> impl Iterator<Item = Change> {
        self.plan.iter().zip(&self.terms).filter_map(move |(leased, terms)| {
            let cost = u32::try_from(leased.cost).unwrap_or(u32::MAX);
            let bucket = RemoteBucket { cost, ..leased.reservoir.bucket.clone() };
            terms.map(|terms| Change { tokens: tokens(&bucket), paid_at: Some(terms.taken_at), bucket })
        })
    }
}

impl Drop for Paid<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let now = self.leases.clock.now();
        for (leased, terms) in self.plan.iter().zip(&self.terms) {
            if let Some(terms) = terms {
                leased.reservoir.stock.lock().put_back(leased.cost, *terms, now);
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
