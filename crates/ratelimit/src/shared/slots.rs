//! Bounds on calls in flight that all replicas keep together: a slot is a lease in the shared store, under the name of
//! its call, by the store's clock.
//!
//! **Never above the bound.** The store gives a slot only while it counts fewer live names than the bound allows, and a
//! name lives for one lease from the last time the store heard of it. A replica tells the store of every call that it
//! has in flight before half a lease is over. So as long as replicas and store hear of each other, whatever is in flight
//! is counted, and no order of commands changes that: names are never reused, so that a command that comes twice or late
//! can only keep a slot that nobody needs, for one lease at most, and never free one that is in use. A number for each
//! replica in place of names would be smaller, but a late or lost command about one call would then change what is
//! known of the others, and calls that share some of their bounds would have to queue for each other to prevent that.
//!
//! **What is lost comes back.** Nobody reports the calls of a replica that was killed: their slots are free after one
//! lease. A release that is lost is said again, until the lease is over. A reply that is lost counts as a slot taken.
//!
//! **What it cannot do.** A call that is running cannot be unmade. When a replica stands still for longer than a lease,
//! others may get the slots of calls that still run; the replica then reports its calls again, and nobody is admitted
//! until there is room for all. A store that comes back, perhaps empty, perhaps after all leases are over, is asked for no
//! slots for a second, in which every replica that has found it again has said what it holds; one that takes longer to find
//! it is like one that stood still.

mod registry;
pub(crate) mod reporter;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::clock::{Clock, Micros};
use crate::plan::policy::Mode;
use crate::shared::store::{
    AdmitRequest, CallId, RemoteSlotLimit, RemoteStore, RemoteVerdict, SlotBatch, SlotRequest, StoreFailure,
};
use crate::task_spawner::TaskSpawner;
use registry::{EndedCall, SlotRegistry};

/// For so long nobody asks a store for slots that has come back: it may have forgotten everything, and every replica has to
/// find it again and say what it holds. Finding it takes a third of a second, saying it a tenth.
const RECONNECT_GRACE: Duration = Duration::from_secs(1);
/// Calls that have ended, as one question to the store takes them along at most.
const CARRIED_MAX: usize = 64;

/// The calls of this replica that hold slots in the shared store.
pub(crate) struct SharedSlots {
    store: Arc<dyn RemoteStore>,
    clock: Arc<dyn Clock>,
    lease: Duration,
    task_spawner: TaskSpawner,
    /// The first half of all names of this replica.
    replica_id: u64,
    calls: AtomicU64,
    registry: Mutex<SlotRegistry>,
    /// Wakes the keeper: a call has ended.
    wake: Arc<Notify>,
}

/// The slots of one call. Dropping it gives them back without waiting for the store.
pub(crate) struct SlotGuard {
    shared_slots: Arc<SharedSlots>,
    call: CallId,
    /// The bounds under which it counts, and for each whether the store may have been told so by this call itself.
    bounds: SmallVec<[(RemoteSlotLimit, bool); 2]>,
    /// What the question that is under way says of calls that have ended.
    carried_ended: Vec<(RemoteSlotLimit, Vec<EndedCall>)>,
    /// The places of the bounds in shadow mode that were full.
    missed_indices: SmallVec<[usize; 2]>,
}

/// What the store says to a call.
pub(crate) enum AcquireOutcome {
    /// It holds its slots, and has paid.
    Admitted(RemoteVerdict),
    /// A bucket cannot pay.
    InsufficientTokens(RemoteVerdict),
    /// A bound is full: its place in the plan.
    SlotsFull(usize),
}

impl SharedSlots {
    /// Nothing is held yet.
    pub(crate) fn new(store: Arc<dyn RemoteStore>, clock: Arc<dyn Clock>, lease: Duration) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            lease,
            task_spawner: TaskSpawner::current(),
            // Seeded by the system for this process, which is all that tells replicas apart.
            replica_id: RandomState::new().hash_one("replica"),
            calls: AtomicU64::new(0),
            registry: Mutex::default(),
            wake: Arc::new(Notify::new()),
        })
    }

    /// True when the store has heard of every call that has ended.
    pub(crate) fn is_settled(&self) -> bool {
        self.registry.lock().unreported_count() == 0
    }

    /// How many calls hold slots or ask for them.
    pub(crate) fn count(&self) -> usize {
        self.registry.lock().call_count()
    }

    fn lease_micros(&self) -> u64 {
        u64::try_from(self.lease.as_micros()).unwrap_or(u64::MAX)
    }

    /// Takes a slot for one call under every bound of a part that has room, and pays the buckets of the same home; or takes
    /// and pays nothing if an enforced one has no room or cannot pay.
    pub(crate) async fn acquire(
        &self,
        slot: &mut SlotGuard,
        part: &SlotBatch,
        buckets: &AdmitRequest,
    ) -> Result<AcquireOutcome, StoreFailure> {
        if self.is_in_reconnect_grace() {
            return Err(StoreFailure::CircuitOpen);
        }
        let ask = slot.build_request(part);
        let sent = self.clock.now();
        // What this says is noted before it is sent: who is dropped meanwhile gives back what it may have got.
        let (verdict, paid) = match self.store.acquire(&ask, buckets).await {
            Ok(answer) => answer,
            Err(failure) => {
                slot.restore_carried();
                return Err(failure);
            }
        };
        slot.mark_delivered();
        if !verdict.admitted {
            slot.remove_limits(part);
            if !paid.admitted {
                return Ok(AcquireOutcome::InsufficientTokens(paid));
            }
            let full = part.limits.iter().zip(&verdict.counts).zip(&part.indices);
            let mut full =
                full.filter(|((slots, count), _)| slots.mode == Mode::Enforce && **count >= slots.count_max);
            return Ok(AcquireOutcome::SlotsFull(full.next().map_or(0, |(_, place)| *place)));
        }
        slot.record_admitted(part, &verdict.holds, sent);
        Ok(AcquireOutcome::Admitted(paid))
    }

    /// Whether the slots that a call has got since `begun` may be relied on.
    pub(crate) fn check_still_valid(&self, begun: Micros) -> Result<(), StoreFailure> {
        // A process that stood still meanwhile must not go on with a slot that may be somebody else's by now.
        if self.clock.now().since(begun) >= self.lease_micros() / 2 {
            return Err(StoreFailure::Timeout);
        }
        // The question may have waited for the connection, and been the first over it.
        if self.is_in_reconnect_grace() { Err(StoreFailure::CircuitOpen) } else { Ok(()) }
    }

    /// True while the store has only just come back.
    fn is_in_reconnect_grace(&self) -> bool {
        self.store.connection().reconnected_for.is_some_and(|age| age < RECONNECT_GRACE)
    }

    /// A call that holds nothing yet.
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
    /// The places of the bounds in shadow mode that would have refused the call.
    pub(crate) fn missed_indices(&self) -> impl Iterator<Item = usize> {
        self.missed_indices.iter().copied()
    }

    /// The call goes on without the store, whatever the bounds say. The store hears of it when it is back.
    pub(crate) fn hold_unchecked(&mut self, parts: &[SlotBatch]) {
        let mut registry = self.shared_slots.registry.lock();
        for slots in parts.iter().flat_map(|part| &part.limits) {
            registry.hold(slots, self.call, None);
            add_bound(&mut self.bounds, slots, false);
        }
    }

    /// Notes that every bound of these parts would have refused the call.
    pub(crate) fn record_missed(&mut self, parts: &[SlotBatch]) {
        self.missed_indices.extend(parts.iter().flat_map(|part| part.indices.iter().copied()));
    }

    /// The call goes on without the store if this replica has fewer calls in flight than its share of every enforced
    /// bound, however these got their slots. The error is the place of the bound that has no room.
    pub(crate) fn hold_share(&mut self, parts: &[SlotBatch], replica_count: u32) -> Result<(), usize> {
        let mut registry = self.shared_slots.registry.lock();
        let room = |registry: &SlotRegistry, slots: &RemoteSlotLimit| {
            let share = (slots.count_max / replica_count.max(1)).max(1);
            registry.count_others(&slots.key, self.call) < usize::try_from(share).unwrap_or(usize::MAX)
        };
        for part in parts {
            for (place, slots) in part.indices.iter().zip(&part.limits) {
                if slots.mode == Mode::Enforce && !room(&registry, slots) {
                    return Err(*place);
                }
            }
        }
        self.missed_indices.retain(|place| !parts.iter().any(|part| part.indices.contains(place)));
        for (slots, place) in parts.iter().flat_map(|part| part.limits.iter().zip(&part.indices)) {
            if room(&registry, slots) {
                registry.hold(slots, self.call, None);
                add_bound(&mut self.bounds, slots, false);
            } else {
                self.missed_indices.push(*place);
            }
        }
        Ok(())
    }

    /// The question about a part, which takes along what has ended under the same bounds.
    fn build_request(&mut self, part: &SlotBatch) -> SlotRequest {
        let mut ended = SmallVec::new();
        let mut registry = self.shared_slots.registry.lock();
        for slots in &part.limits {
            let left = registry.take_ended(&slots.key, CARRIED_MAX);
            ended.push(left.iter().map(|ended| ended.call).collect());
            if !left.is_empty() {
                self.carried_ended.push((slots.clone(), left));
            }
        }
        drop(registry);
        self.bounds.extend(part.limits.iter().map(|slots| (slots.clone(), true)));
        SlotRequest { call: self.call, lease: self.shared_slots.lease, limits: part.limits.clone(), ended }
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

    /// The store has refused a part, and has written nothing for it.
    fn remove_limits(&mut self, part: &SlotBatch) {
        self.bounds.retain(|(slots, _)| !part.limits.contains(slots));
    }

    fn record_admitted(&mut self, part: &SlotBatch, holds: &[bool], sent: Micros) {
        let mut registry = self.shared_slots.registry.lock();
        for ((slots, place), holds) in part.limits.iter().zip(&part.indices).zip(holds) {
            if *holds {
                registry.hold(slots, self.call, Some(sent));
            } else {
                self.bounds.retain(|(asked, _)| asked != slots);
                self.missed_indices.push(*place);
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

/// Notes that a call counts under a bound.
fn add_bound(bounds: &mut SmallVec<[(RemoteSlotLimit, bool); 2]>, slots: &RemoteSlotLimit, told: bool) {
    if !bounds.iter().any(|(known, _)| known == slots) {
        bounds.push((slots.clone(), told));
    }
}

#[cfg(test)]
pub(crate) mod tests;
