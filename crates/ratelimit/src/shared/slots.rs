//! Slot limits that all replicas enforce together. A slot is a lease in the shared store, kept under the
//! identifier of its call and timed by the store's clock.
//!
//! **Never above the bound.** The store grants a slot only while it counts fewer live call identifiers than
//! the limit allows. An identifier stays live for one lease from the last time the store received it. A
//! replica reports every in-flight call before half a lease has passed. So as long as replicas and store
//! reach each other, every in-flight call is counted, and no order of commands changes that. Identifiers are
//! never reused. So a command that arrives twice or late can only keep a slot that no call needs, for one
//! lease at most. It can never free a slot that is in use. A counter per replica instead of identifiers would
//! be smaller. But a late or lost command about one call would then change the count of the others, and calls
//! that share some of their limits would have to queue for each other to prevent that.
//!
//! **What is lost comes back.** A killed replica no longer reports its calls, so their slots are free after
//! one lease. A lost release is repeated until the lease is over. A lost reply counts as a slot taken.
//!
//! **What it cannot do.** A running call cannot be undone. If a replica pauses for longer than a lease, other
//! replicas may get the slots of calls that still run. The paused replica then reports its calls again, and
//! no call is admitted until there is room for all. A store that comes back, perhaps empty, perhaps after all
//! leases have expired, is asked for no slots for one second. In that second every replica that has
//! reconnected reports the slots that it holds. A replica that takes longer to reconnect is like one that
//! paused.

mod registry;
pub(crate) mod reporter;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;
use vmcp_timing::{Clock, Micros};

use crate::plan::policy::Mode;
use crate::shared::store::{
    AdmitRequest, CallId, RemoteSlotLimit, RemoteStore, RemoteVerdict, SlotBatch, SlotRequest, StoreFailure,
};
use crate::task_spawner::TaskSpawner;
use registry::{EndedCall, SlotRegistry};

/// How long a store that has come back is not asked for slots. It may have lost its data, and every replica
/// has to reconnect and report what it holds. Reconnecting takes a third of a second, reporting takes a
/// tenth.
const RECONNECT_GRACE: Duration = Duration::from_secs(1);
/// The most ended calls that one acquire request carries for each slot limit.
const CARRIED_MAX: usize = 64;

/// The calls of this replica that hold slots in the shared store.
pub(crate) struct SharedSlots {
    store: Arc<dyn RemoteStore>,
    clock: Arc<dyn Clock>,
    lease: Duration,
    task_spawner: TaskSpawner,
    /// The first half of all call identifiers of this replica.
    replica_id: u64,
    calls: AtomicU64,
    registry: Mutex<SlotRegistry>,
    /// Wakes the reporter when a call has ended.
    wake: Arc<Notify>,
}

/// The slots of one call. Dropping it releases them without waiting for the store.
pub(crate) struct SlotGuard {
    shared_slots: Arc<SharedSlots>,
    call: CallId,
    /// The slot limits under which the call counts. The flag says whether the call's own acquire request may
    /// have reached the store.
    bounds: SmallVec<[(RemoteSlotLimit, bool); 2]>,
    /// The ended calls that the pending acquire request carries.
    carried_ended: Vec<(RemoteSlotLimit, Vec<EndedCall>)>,
    /// The indices of the slot limits in shadow mode that were full.
    missed_indices: SmallVec<[usize; 2]>,
}

/// The store's answer to an acquire request.
pub(crate) enum AcquireOutcome {
    /// The call holds its slots and has paid.
    Admitted(RemoteVerdict),
    /// A bucket cannot pay.
    InsufficientTokens(RemoteVerdict),
    /// A slot limit is full: its index in the plan.
    SlotsFull(usize),
}

impl SharedSlots {
    /// Shared slots of a replica without any calls yet.
    pub(crate) fn new(store: Arc<dyn RemoteStore>, clock: Arc<dyn Clock>, lease: Duration) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            lease,
            task_spawner: TaskSpawner::current(),
            // Random keys of this process: this number is all that distinguishes replicas.
            replica_id: RandomState::new().hash_one("replica"),
            calls: AtomicU64::new(0),
            registry: Mutex::default(),
            wake: Arc::new(Notify::new()),
        })
    }

    /// True if every ended call has been reported to the store, or its lease has expired.
    pub(crate) fn is_settled(&self) -> bool {
        self.registry.lock().unreported_count() == 0
    }

    /// How many calls hold slots or request them.
    pub(crate) fn count(&self) -> usize {
        self.registry.lock().call_count()
    }

    fn lease_micros(&self) -> u64 {
        u64::try_from(self.lease.as_micros()).unwrap_or(u64::MAX)
    }

    /// Takes a slot for one call under every limit of a batch that has a free one, and pays the buckets of
    /// the same partition. Takes and pays nothing if an enforced limit is full or an enforced bucket cannot
    /// pay.
    pub(crate) async fn acquire(
        &self,
        slot: &mut SlotGuard,
        batch: &SlotBatch,
        buckets: &AdmitRequest,
    ) -> Result<AcquireOutcome, StoreFailure> {
        if self.is_in_reconnect_grace() {
            return Err(StoreFailure::CircuitOpen);
        }
        let request = slot.build_request(batch);
        let sent = self.clock.now();
        // The request is recorded in the guard before it is sent: if the call is dropped meanwhile, it
        // releases the slots that it may have got.
        let (verdict, paid) = match self.store.acquire(&request, buckets).await {
            Ok(answer) => answer,
            Err(failure) => {
                slot.restore_carried();
                return Err(failure);
            }
        };
        slot.mark_delivered();
        if !verdict.admitted {
            slot.remove_limits(batch);
            if !paid.admitted {
                return Ok(AcquireOutcome::InsufficientTokens(paid));
            }
            let full = batch.limits.iter().zip(&verdict.counts).zip(&batch.indices);
            let mut full =
                full.filter(|((slots, count), _)| slots.mode == Mode::Enforce && **count >= slots.count_max);
            return Ok(AcquireOutcome::SlotsFull(full.next().map_or(0, |(_, index)| *index)));
        }
        slot.record_admitted(batch, &verdict.holds, sent);
        Ok(AcquireOutcome::Admitted(paid))
    }

    /// Whether the slots that a call has got since `begun` are still valid.
    pub(crate) fn check_still_valid(&self, begun: Micros) -> Result<(), StoreFailure> {
        // A process that paused meanwhile must not continue with slots that may belong to another call by
        // now.
        if self.clock.now().since(begun) >= self.lease_micros() / 2 {
            return Err(StoreFailure::Timeout);
        }
        // The request may have waited for the connection, and been the first one over it.
        if self.is_in_reconnect_grace() { Err(StoreFailure::CircuitOpen) } else { Ok(()) }
    }

    /// True while the store has only just come back.
    fn is_in_reconnect_grace(&self) -> bool {
        self.store.connection().reconnected_for.is_some_and(|age| age < RECONNECT_GRACE)
    }

    /// Begins a call, which holds no slot yet.
    pub(crate) fn begin_call(self: &Arc<Self>) -> SlotGuard {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&self.replica_id.to_le_bytes());
        name[8..].copy_from_slice(&self.calls.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        if self.registry.lock().begin_call() {
            self.task_spawner.spawn(reporter::run(Arc::downgrade(self), self.wake.clone()));
        }
        SlotGuard {
            shared_slots: self.clone(),
            call: CallId(name),
            bounds: SmallVec::new(),
            carried_ended: Vec::new(),
            missed_indices: SmallVec::new(),
        }
    }
}

impl SlotGuard {
    /// The indices of the slot limits in shadow mode that would have refused the call.
    pub(crate) fn missed_indices(&self) -> impl Iterator<Item = usize> {
        self.missed_indices.iter().copied()
    }

    /// Lets the call continue without the store, whatever the limits say. The reporter reports it when the
    /// store is back.
    pub(crate) fn hold_unchecked(&mut self, batches: &[SlotBatch]) {
        let mut registry = self.shared_slots.registry.lock();
        for slots in batches.iter().flat_map(|batch| &batch.limits) {
            registry.hold(slots, self.call, None);
            add_bound(&mut self.bounds, slots, false);
        }
    }

    /// Records that every slot limit of these batches would have refused the call.
    pub(crate) fn record_missed(&mut self, batches: &[SlotBatch]) {
        self.missed_indices.extend(batches.iter().flat_map(|batch| batch.indices.iter().copied()));
    }

    /// Lets the call continue without the store if this replica has fewer calls in flight than its share of
    /// every enforced limit, however those calls got their slots. The error is the index of the limit that is
    /// full.
    pub(crate) fn hold_share(&mut self, batches: &[SlotBatch], replica_count: u32) -> Result<(), usize> {
        let mut registry = self.shared_slots.registry.lock();
        let room = |registry: &SlotRegistry, slots: &RemoteSlotLimit| {
            let share = (slots.count_max / replica_count.max(1)).max(1);
            registry.count_others(&slots.key, self.call) < usize::try_from(share).unwrap_or(usize::MAX)
        };
        for batch in batches {
            for (index, slots) in batch.indices.iter().zip(&batch.limits) {
                if slots.mode == Mode::Enforce && !room(&registry, slots) {
                    return Err(*index);
                }
            }
        }
        self.missed_indices.retain(|index| !batches.iter().any(|batch| batch.indices.contains(index)));
        for (slots, index) in batches.iter().flat_map(|batch| batch.limits.iter().zip(&batch.indices)) {
            if room(&registry, slots) {
                registry.hold(slots, self.call, None);
                add_bound(&mut self.bounds, slots, false);
            } else {
                self.missed_indices.push(*index);
            }
        }
        Ok(())
    }

    /// The acquire request for a batch. It carries calls that have ended under the same limits.
    fn build_request(&mut self, batch: &SlotBatch) -> SlotRequest {
        let mut ended = SmallVec::new();
        let mut registry = self.shared_slots.registry.lock();
        for slots in &batch.limits {
            let left = registry.take_ended(&slots.key, CARRIED_MAX);
            ended.push(left.iter().map(|ended| ended.call).collect());
            if !left.is_empty() {
                self.carried_ended.push((slots.clone(), left));
            }
        }
        drop(registry);
        self.bounds.extend(batch.limits.iter().map(|slots| (slots.clone(), true)));
        SlotRequest { call: self.call, lease: self.shared_slots.lease, limits: batch.limits.clone(), ended }
    }

    fn mark_delivered(&mut self) {
        let count = self.carried_ended.drain(..).map(|(_, ended)| ended.len()).sum();
        self.shared_slots.registry.lock().mark_reported(count);
    }

    fn restore_carried(&mut self) {
        if self.carried_ended.is_empty() {
            return;
        }
        let mut registry = self.shared_slots.registry.lock();
        for (slots, ended) in self.carried_ended.drain(..) {
            registry.restore_ended(&slots, ended);
        }
    }

    /// Removes the limits of a batch that the store has refused; the store has written nothing for it.
    fn remove_limits(&mut self, batch: &SlotBatch) {
        self.bounds.retain(|(slots, _)| !batch.limits.contains(slots));
    }

    fn record_admitted(&mut self, batch: &SlotBatch, holds: &[bool], sent: Micros) {
        let mut registry = self.shared_slots.registry.lock();
        for ((slots, index), holds) in batch.limits.iter().zip(&batch.indices).zip(holds) {
            if *holds {
                registry.hold(slots, self.call, Some(sent));
            } else {
                self.bounds.retain(|(asked, _)| asked != slots);
                self.missed_indices.push(*index);
            }
        }
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.restore_carried();
        let now = self.shared_slots.clock.now();
        let tells = self.shared_slots.registry.lock().end_call(self.call, &self.bounds, now);
        if tells {
            self.shared_slots.wake.notify_one();
        }
    }
}

/// Records that a call counts under a slot limit.
fn add_bound(bounds: &mut SmallVec<[(RemoteSlotLimit, bool); 2]>, slots: &RemoteSlotLimit, told: bool) {
    if !bounds.iter().any(|(known, _)| known == slots) {
        bounds.push((slots.clone(), told));
    }
}

#[cfg(test)]
pub(crate) mod tests;
