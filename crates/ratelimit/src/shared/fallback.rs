//! The fallback of a replica while the shared store is unavailable. The replica enforces its share of every
//! limit from the last levels that it has seen, and owes the store what it admits meanwhile.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use vmcp_timing::{Clock, Micros};

use crate::bucket::memory_store::MemoryStore;
use crate::bucket::rate::Rate;
use crate::bucket::user_key::UserKey;
use crate::plan::policy::LimitPolicy;
use crate::plan::{LimitedRequest, Plan, Planner, Variation};
use crate::shared::store::{Adjustment, RemoteBucket, RemoteStore, StoreFailure};
use crate::task_spawner::TaskSpawner;

/// The largest number of buckets with a debt to the store. Beyond that, further buckets owe nothing, which
/// lets at most one burst of those buckets pass twice.
const DEBT_COUNT_MAX: usize = 100_000;
/// How often the task checks for an available store while there is a debt.
const WRITE_BACK_INTERVAL: Duration = Duration::from_millis(100);

/// The buckets of the shared store as this replica knows them.
///
/// They have the capacity and the rate of the shared ones. A call pays for the other replicas too, so one of
/// three replicas spends a third of the level that it knows. A level has the same meaning whatever the number
/// of replicas is, so it stays valid when that number changes.
pub(crate) struct Fallback {
    planner: Arc<Planner>,
    pub(crate) store: MemoryStore,
}

impl Fallback {
    /// A fallback with full buckets.
    pub(crate) fn new(policy: &LimitPolicy, clock: Arc<dyn Clock>) -> Self {
        let planner = Arc::new(Planner::new(policy.without_leases()));
        Self { store: MemoryStore::new(planner.clone(), clock), planner }
    }

    /// The plan of a call at one of `replica_count` replicas.
    pub(crate) fn plan(
        &self,
        request: &LimitedRequest,
        call: &Variation,
        replica_count: u32,
        now: Micros,
    ) -> Plan {
        let mut plan = self.planner.plan_request(request, call, now);
        // Slots have shares of their own: `crate::shared::slots`.
        plan.slot_limits.clear();
        for bucket in &mut plan.buckets {
            bucket.cost_units = fleet_cost_units(&bucket.rate, bucket.cost, replica_count);
        }
        plan
    }

    /// Lowers the fallback's buckets to the levels that the store reported for a call. They are never raised:
    /// replies may arrive out of order, and after an outage the store does not know yet what it is owed.
    pub(crate) fn observe_levels(&self, own: &Plan, user: Option<UserKey>, levels: &[i64]) {
        // A unit has the same size here: leasing with `hold_back` only lowers the capacity.
        self.store.lower_levels(own, user, levels);
    }
}

/// What a call pays, in units, if each of `replica_count` replicas may make one. The share of a replica is at
/// least one token. If the bucket is too small for all replicas, a call that costs one token takes the whole
/// bucket, and a call that costs more never passes.
fn fleet_cost_units(rate: &Rate, cost: NonZeroU32, replica_count: u32) -> i64 {
    let tokens = u64::from(cost.get()) * u64::from(replica_count.max(1));
    if tokens > rate.burst() && cost == NonZeroU32::MIN { rate.capacity() } else { rate.units(tokens) }
}

/// The debts to the store.
pub(crate) struct Debts {
    /// The debt of each bucket in tokens. It is negative if more was written back than was spent in the end;
    /// the store does not refund that.
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

    /// True if no debt is owed or being written back.
    pub(crate) fn is_settled(&self) -> bool {
        !self.is_writing_back.load(Ordering::Acquire)
    }

    /// The number of buckets with a debt.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.tokens_by_key.lock().len()
    }

    /// Adds tokens to the debt of each bucket, or subtracts them if the number is negative.
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

/// Charges a debt to the store. A call that was written back and refunded later stays charged, because the
/// time at which the store charged it is not known.
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

/// Writes debts back when the store is available again. Ends when no debt is left, or when the limiter is
/// dropped.
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
            // A debt that was added between the emptiness check and the reset of the flag is handled here.
            if debts.tokens_by_key.lock().is_empty() || debts.is_writing_back.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}
