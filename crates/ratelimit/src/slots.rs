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

mod keeping;
mod registry;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::clock::{Clock, Micros};
use crate::policy::Mode;
use crate::remote::{
    Ask, CallName, RemoteSlots, RemoteStore, RemoteVerdict, SlotAsk, SlotPart, StoreFailure,
};
use crate::upkeep::Upkeep;
use registry::{Ended, Registry};

/// For so long nobody asks a store for slots that has come back: it may have forgotten everything, and every replica has to
/// find it again and say what it holds. Finding it takes a third of a second, saying it a tenth.
const SETTLING: Duration = Duration::from_secs(1);
/// Calls that have ended, as one question to the store takes them along at most.
const CARRIED_MAX: usize = 64;

/// The calls of this replica that hold slots in the shared store.
pub(crate) struct Slots {
    store: Arc<dyn RemoteStore>,
    clock: Arc<dyn Clock>,
    lease: Duration,
    upkeep: Upkeep,
    /// The first half of all names of this replica.
    replica: u64,
    calls: AtomicU64,
    registry: Mutex<Registry>,
    /// Wakes the keeper: a call has ended.
    wake: Arc<Notify>,
}

/// The slots of one call. Dropping it gives them back without waiting for the store.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    call: CallName,
    /// The bounds under which it counts, and for each whether the store may have been told so by this call itself.
    bounds: SmallVec<[(RemoteSlots, bool); 2]>,
    /// What the question that is under way says of calls that have ended.
    carried: Vec<(RemoteSlots, Vec<Ended>)>,
    /// The places of the bounds in shadow mode that were full.
    missed: SmallVec<[usize; 2]>,
}

/// What the store says to a call.
pub(crate) enum Entered {
    /// It holds its slots, and has paid.
    Admitted(RemoteVerdict),
    /// A bucket cannot pay.
    Short(RemoteVerdict),
    /// A bound is full: its place in the plan.
    Busy(usize),
}

impl Slots {
    /// Nothing is held yet.
    pub(crate) fn new(store: Arc<dyn RemoteStore>, clock: Arc<dyn Clock>, lease: Duration) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            lease,
            upkeep: Upkeep::here(),
            // Seeded by the system for this process, which is all that tells replicas apart.
            replica: RandomState::new().hash_one("replica"),
            calls: AtomicU64::new(0),
            registry: Mutex::default(),
            wake: Arc::new(Notify::new()),
        })
    }

    /// True when the store has heard of every call that has ended.
    pub(crate) fn are_settled(&self) -> bool {
        self.registry.lock().untold() == 0
    }

    /// How many calls hold slots or ask for them.
    pub(crate) fn count(&self) -> usize {
        self.registry.lock().count()
    }

    fn lease_micros(&self) -> u64 {
        u64::try_from(self.lease.as_micros()).unwrap_or(u64::MAX)
    }

    /// Takes a slot for one call under every bound of a part that has room, and pays the buckets of the same home; or takes
    /// and pays nothing if an enforced one has no room or cannot pay.
    pub(crate) async fn enter(
        &self,
        slot: &mut Slot,
        part: &SlotPart,
        buckets: &Ask,
    ) -> Result<Entered, StoreFailure> {
        if self.is_settling() {
            return Err(StoreFailure::Resting);
        }
        let ask = slot.ask(part);
        let sent = self.clock.now();
        // What this says is noted before it is sent: who is dropped meanwhile gives back what it may have got.
        let (verdict, paid) = match self.store.enter(&ask, buckets).await {
            Ok(answer) => answer,
            Err(failure) => {
                slot.not_delivered();
                return Err(failure);
            }
        };
        slot.delivered();
        if !verdict.admitted {
            slot.forget(part);
            if !paid.admitted {
                return Ok(Entered::Short(paid));
            }
            let full = part.slots.iter().zip(&verdict.counts).zip(&part.places);
            let mut full =
                full.filter(|((slots, count), _)| slots.mode == Mode::Enforce && **count >= slots.count_max);
            return Ok(Entered::Busy(full.next().map_or(0, |(_, place)| *place)));
        }
        slot.admitted(part, &verdict.holds, sent);
        Ok(Entered::Admitted(paid))
    }

    /// Whether the slots that a call has got since `begun` may be relied on.
    pub(crate) fn confirm(&self, begun: Micros) -> Result<(), StoreFailure> {
        // A process that stood still meanwhile must not go on with a slot that may be somebody else's by now.
        if self.clock.now().since(begun) >= self.lease_micros() / 2 {
            return Err(StoreFailure::Timeout);
        }
        // The question may have waited for the connection, and been the first over it.
        if self.is_settling() { Err(StoreFailure::Resting) } else { Ok(()) }
    }

    /// True while the store has only just come back.
    fn is_settling(&self) -> bool {
        self.store.connection().restored.is_some_and(|age| age < SETTLING)
    }

    /// A call that holds nothing yet.
    pub(crate) fn begin(self: &Arc<Self>) -> Slot {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&self.replica.to_le_bytes());
        name[8..].copy_from_slice(&self.calls.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        if self.registry.lock().begin() {
            self.upkeep.spawn(keeping::keep(Arc::downgrade(self), self.wake.clone()));
        }
        Slot {
            slots: self.clone(),
            call: CallName(name),
            bounds: SmallVec::new(),
            carried: Vec::new(),
            missed: SmallVec::new(),
        }
    }
}

impl Slot {
    /// The places of the bounds in shadow mode that would have refused the call.
    pub(crate) fn missed(&self) -> impl Iterator<Item = usize> {
        self.missed.iter().copied()
    }

    /// The call goes on without the store, whatever the bounds say. The store hears of it when it is back.
    pub(crate) fn hold_anyway(&mut self, parts: &[SlotPart]) {
        let mut registry = self.slots.registry.lock();
        for slots in parts.iter().flat_map(|part| &part.slots) {
            registry.hold(slots, self.call, None);
            note(&mut self.bounds, slots, false);
        }
    }

    /// Notes that every bound of these parts would have refused the call.
    pub(crate) fn miss(&mut self, parts: &[SlotPart]) {
        self.missed.extend(parts.iter().flat_map(|part| part.places.iter().copied()));
    }

    /// The call goes on without the store if this replica has fewer calls in flight than its share of every enforced
    /// bound, however these got their slots. The error is the place of the bound that has no room.
    pub(crate) fn hold_share(&mut self, parts: &[SlotPart], replica_count: u32) -> Result<(), usize> {
        let mut registry = self.slots.registry.lock();
        let room = |registry: &Registry, slots: &RemoteSlots| {
            let share = (slots.count_max / replica_count.max(1)).max(1);
            registry.count_others(&slots.key, self.call) < usize::try_from(share).unwrap_or(usize::MAX)
        };
        for part in parts {
            for (place, slots) in part.places.iter().zip(&part.slots) {
                if slots.mode == Mode::Enforce && !room(&registry, slots) {
                    return Err(*place);
                }
            }
        }
        self.missed.retain(|place| !parts.iter().any(|part| part.places.contains(place)));
        for (slots, place) in parts.iter().flat_map(|part| part.slots.iter().zip(&part.places)) {
            if room(&registry, slots) {
                registry.hold(slots, self.call, None);
                note(&mut self.bounds, slots, false);
            } else {
                self.missed.push(*place);
            }
        }
        Ok(())
    }

    /// The question about a part, which takes along what has ended under the same bounds.
    fn ask(&mut self, part: &SlotPart) -> SlotAsk {
        let mut ended = SmallVec::new();
        let mut registry = self.slots.registry.lock();
        for slots in &part.slots {
            let left = registry.take_ended(&slots.key, CARRIED_MAX);
            ended.push(left.iter().map(|ended| ended.call).collect());
            if !left.is_empty() {
                self.carried.push((slots.clone(), left));
            }
        }
        drop(registry);
        self.bounds.extend(part.slots.iter().map(|slots| (slots.clone(), true)));
        SlotAsk { call: self.call, lease: self.slots.lease, slots: part.slots.clone(), ended }
    }

    fn delivered(&mut self) {
        let count = self.carried.drain(..).map(|(_, ended)| ended.len()).sum();
        self.slots.registry.lock().told(count);
    }

    fn not_delivered(&mut self) {
        if self.carried.is_empty() {
            return;
        }
        let mut registry = self.slots.registry.lock();
        for (slots, ended) in self.carried.drain(..) {
            registry.put_back(&slots, ended);
        }
    }

    /// The store has refused a part, and has written nothing for it.
    fn forget(&mut self, part: &SlotPart) {
        self.bounds.retain(|(slots, _)| !part.slots.contains(slots));
    }

    fn admitted(&mut self, part: &SlotPart, holds: &[bool], sent: Micros) {
        let mut registry = self.slots.registry.lock();
        for ((slots, place), holds) in part.slots.iter().zip(&part.places).zip(holds) {
            if *holds {
                registry.hold(slots, self.call, Some(sent));
            } else {
                self.bounds.retain(|(asked, _)| asked != slots);
                self.missed.push(*place);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.not_delivered();
        let now = self.slots.clock.now();
        let tells = self.slots.registry.lock().end(self.call, &self.bounds, now);
        if tells {
            self.slots.wake.notify_one();
        }
    }
}

/// Notes that a call counts under a bound.
fn note(bounds: &mut SmallVec<[(RemoteSlots, bool); 2]>, slots: &RemoteSlots, told: bool) {
    if !bounds.iter().any(|(known, _)| known == slots) {
        bounds.push((slots.clone(), told));
    }
}

#[cfg(test)]
pub(crate) mod tests;
