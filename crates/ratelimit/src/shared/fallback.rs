//! What a replica does by itself while the shared store is away: it enforces its share of every limit, from the last
//! levels it has seen, and owes the store what it admits meanwhile.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::bucket::memory_store::MemoryStore;
use crate::bucket::rate::Rate;
use crate::bucket::user_table::UserKey;
use crate::clock::{Clock, Micros};
use crate::plan::policy::LimitPolicy;
use crate::plan::{LimitedRequest, Plan, Planner, Variation};
use crate::shared::store::{Adjustment, RemoteBucket, RemoteStore, StoreFailure};
use crate::task_spawner::TaskSpawner;

/// How many buckets a debt is remembered for. Beyond that the store is owed nothing more, which lets at most one
/// burst of those buckets pass twice.
const DEBT_COUNT_MAX: usize = 100_000;
/// How often the store is looked at while something is owed.
const WRITE_BACK_INTERVAL: Duration = Duration::from_millis(100);

/// The buckets of the shared store as this replica knows them.
///
/// They are as large and as fast as the shared ones. A call pays for the other replicas too, so that one of three spends a
/// third of what it knows of. A level means the same whatever the number of replicas is, and so outlasts its changes.
pub(crate) struct Fallback {
    planner: Arc<Planner>,
    pub(crate) store: MemoryStore,
}

impl Fallback {
    /// Full buckets.
    pub(crate) fn new(policy: &LimitPolicy, clock: Arc<dyn Clock>) -> Self {
        let planner = Arc::new(Planner::new(policy.without_leases()));
        Self { store: MemoryStore::new(planner.clone(), clock), planner }
    }

    /// The plan of a call at one of `replica_count` replicas.
    pub(crate) fn plan(
        &self,
        asked: &LimitedRequest,
        call: &Variation,
        replica_count: u32,
        now: Micros,
    ) -> Plan {
        let mut plan = self.planner.plan_request(asked, call, now);
        // Calls in flight have shares of their own: `limiter::slots`.
        plan.slot_limits.clear();
        for bucket in &mut plan.buckets {
            bucket.cost_units = fleet_cost_units(&bucket.rate, bucket.cost, replica_count);
        }
        plan
    }

    /// Takes over what the store said a call's buckets hold. That never raises a level: answers overtake each other, and
    /// after an outage the store does not know yet what it is owed.
    pub(crate) fn observe_levels(&self, own: &Plan, user: Option<UserKey>, levels: &[i64]) {
        // A unit is the same here: a bucket of which tokens are taken ahead is only smaller.
        self.store.lower_levels(own, user, levels);
    }
}

/// What a call pays that each of `replica_count` replicas may make, in units. The share of a replica is one token at least: a
/// call that costs no more takes the whole of a bucket that is too small for all. A dearer one never passes.
fn fleet_cost_units(rate: &Rate, cost: NonZeroU32, replica_count: u32) -> i64 {
    let tokens = u64::from(cost.get()) * u64::from(replica_count.max(1));
    if tokens > rate.burst() && cost == NonZeroU32::MIN { rate.capacity() } else { rate.units(tokens) }
}

/// What is owed to the store.
pub(crate) struct Debts {
    /// In tokens; less than none where more was written back than was spent in the end, which nobody gives back.
    tokens_by_key: Mutex<HashMap<Arc<str>, (RemoteBucket, i64)>>,
    is_writing_back: AtomicBool,
    task_spawner: TaskSpawner,
}

impl Debts {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            tokens_by_key: Mutex::default(),
            is_writing_back: AtomicBool::new(false),
            task_spawner: TaskSpawner::current(),
        })
    }

    /// True when nothing is owed, or being written back.
    pub(crate) fn is_settled(&self) -> bool {
        !self.is_writing_back.load(Ordering::Acquire)
    }

    /// How many buckets something is owed to.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.tokens_by_key.lock().len()
    }

    /// Notes that so many tokens more are owed to each bucket, or fewer where they are less than none.
    pub(crate) fn add<'a>(
        self: &Arc<Self>,
        buckets: impl Iterator<Item = (&'a RemoteBucket, i64)>,
        store: &Arc<dyn RemoteStore>,
    ) {
        {
            let mut owed = self.tokens_by_key.lock();
            for (bucket, more) in buckets {
                if let Some((_, tokens)) = owed.get_mut(&bucket.key) {
                    *tokens = tokens.saturating_add(more);
                } else if owed.len() < DEBT_COUNT_MAX {
                    owed.insert(bucket.key.clone(), (bucket.clone(), more));
                }
            }
        }
        if !self.is_writing_back.swap(true, Ordering::AcqRel) {
            self.task_spawner.spawn(write_back_debts(Arc::downgrade(self), Arc::downgrade(store)));
        }
    }
}

/// A call that was written back and then given back stays charged: nobody knows when the store was told of it.
async fn write_back_debt(
    store: &dyn RemoteStore,
    bucket: &RemoteBucket,
    tokens: i64,
) -> Result<(), StoreFailure> {
    if tokens <= 0 {
        return Ok(());
    }
    store.adjust(&[Adjustment { bucket: bucket.clone(), tokens, paid_at: None }]).await
}

/// Writes debts back once the store answers again. Ends when nothing is owed, or with the limiter.
async fn write_back_debts(debts: std::sync::Weak<Debts>, store: std::sync::Weak<dyn RemoteStore>) {
    loop {
        tokio::time::sleep(WRITE_BACK_INTERVAL).await;
        let (Some(debts), Some(store)) = (debts.upgrade(), store.upgrade()) else { return };
        if !store.is_available() {
            continue;
        }
        let owed = std::mem::take(&mut *debts.tokens_by_key.lock());
        for (key, (bucket, tokens)) in owed {
            if write_back_debt(&*store, &bucket, tokens).await.is_err() {
                let mut owed = debts.tokens_by_key.lock();
                owed.entry(key).or_insert((bucket, 0)).1 += tokens;
            }
        }
        if debts.tokens_by_key.lock().is_empty() {
            debts.is_writing_back.store(false, Ordering::Release);
            // A debt noted between the look and the store is picked up here.
            if debts.tokens_by_key.lock().is_empty() || debts.is_writing_back.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}
