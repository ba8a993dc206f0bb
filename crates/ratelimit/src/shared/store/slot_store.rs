//! The contract of a shared store for slot limits: it keeps the identifiers of the calls that hold a slot,
//! each for one lease. `crate::shared::slots` states what the leases guarantee, and renews them.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use vmcp_domain::BoxFuture;

use super::{AdmitRequest, RemoteVerdict, StoreFailure};
use crate::plan::policy::Mode;
use crate::plan::{Plan, PlannedSlotLimit};

/// The default time that a slot is held after its call was last reported.
pub const SLOT_LEASE: Duration = Duration::from_secs(15);

/// The identifier of one in-flight call, unique over all replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub [u8; 16]);

/// One slot limit, as a shared store sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RemoteSlotLimit {
    /// The key of the limit, the same on every replica. It does not contain the user's name.
    pub key: Arc<str>,
    /// The largest number of calls in flight.
    pub count_max: u32,
    /// Whether the limit refuses a call when it is full, or is in shadow mode.
    pub mode: Mode,
    /// Its partition in a cluster; `None` for the common partition of this gateway's slot limits.
    pub partition: Option<Arc<str>>,
}

/// Requests a slot for one call, under slot limits of one partition.
#[derive(Clone, Debug)]
pub struct SlotRequest {
    /// The call.
    pub call: CallId,
    /// How long the call holds the slots if it is not reported again.
    pub lease: Duration,
    /// The slot limits.
    pub limits: SmallVec<[RemoteSlotLimit; 2]>,
    /// For each limit, calls that have ended: the store frees their slots before it counts.
    pub ended: SmallVec<[Vec<CallId>; 2]>,
}

/// The verdict of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotVerdict {
    /// Whether every enforced limit had a free slot and every enforced bucket could pay. If not, the call
    /// holds nothing and has paid nothing.
    pub admitted: bool,
    /// How many other calls each limit counted, in the order of the request.
    pub counts: SmallVec<[u32; 2]>,
    /// For each limit, whether the call holds a slot. A full limit in shadow mode grants none.
    pub holds: SmallVec<[bool; 2]>,
}

/// The report of a replica about one slot limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotReport {
    /// The key of the limit.
    pub key: Arc<str>,
    /// In-flight calls: they hold their slots for another lease, or get them again if they had lost them.
    pub held: Vec<CallId>,
    /// Calls that have ended.
    pub ended: Vec<CallId>,
}

/// A store of the slots that calls of several replicas hold. Every method returns within the store's own
/// deadline.
pub trait SlotStore: Send + Sync {
    /// Takes a slot under every limit that has a free one, and pays every bucket of the same partition. Takes
    /// and pays nothing if an enforced limit is full or an enforced bucket cannot pay. A repeated request for
    /// one call counts that call once.
    fn acquire<'a>(
        &'a self,
        ask: &'a SlotRequest,
        buckets: &'a AdmitRequest,
    ) -> BoxFuture<'a, Result<(SlotVerdict, RemoteVerdict), StoreFailure>>;
    /// Receives which calls are in flight and which have ended, under slot limits of one partition.
    fn report<'a>(
        &'a self,
        home: Option<&'a str>,
        reports: &'a [SlotReport],
        lease: Duration,
    ) -> BoxFuture<'a, Result<(), StoreFailure>>;
    /// How many calls hold a slot under each limit, all of one partition; takes none.
    fn count<'a>(
        &'a self,
        slots: &'a [RemoteSlotLimit],
    ) -> BoxFuture<'a, Result<SmallVec<[u32; 2]>, StoreFailure>>;
    /// The state of the connection.
    fn connection(&self) -> StoreConnection;
}

/// The state of a connection to a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreConnection {
    /// Changes with every new connection: the store behind it may have lost its data.
    pub generation: u64,
    /// How long ago the connection was made, if it followed a time without one. `None` for the first
    /// connection of a process that reached the store at once.
    pub reconnected_for: Option<Duration>,
}

/// The slot limits of a plan that have the same partition in a shared store, for one user.
#[derive(Clone, Debug)]
pub(crate) struct SlotBatch {
    /// Their indices in the plan.
    pub(crate) indices: SmallVec<[usize; 2]>,
    /// The slot limits.
    pub(crate) limits: SmallVec<[RemoteSlotLimit; 2]>,
}

impl SlotBatch {
    /// Whether all limits are in shadow mode.
    pub(crate) fn is_shadow_only(&self) -> bool {
        self.limits.iter().all(|slots| slots.mode == Mode::Shadow)
    }
}

/// The requests for the slot limits of a plan: those that can be decided together are in one batch. With
/// `split`, each user's slot limits have a partition of their own.
pub(crate) fn slot_batches(plan: &Plan, user: Option<&str>, split: bool) -> SmallVec<[SlotBatch; 2]> {
    let own: Option<Arc<str>> = user.filter(|_| split).map(Into::into);
    let mut batches: SmallVec<[SlotBatch; 2]> = SmallVec::new();
    for (index, planned) in plan.slot_limits.iter().enumerate() {
        // The key of a per-user limit is unknown without a user. Only a limit in shadow mode lets such a call
        // pass.
        if planned.shared_count.is_none() && user.is_none() {
            continue;
        }
        let slots = remote_slot_limit(planned, user, own.as_ref());
        // Shared limits come first in a plan, so the limits of one partition are adjacent.
        match batches
            .last_mut()
            .filter(|batch| batch.limits.last().is_some_and(|last| last.partition == slots.partition))
        {
            Some(batch) => {
                batch.indices.push(index);
                batch.limits.push(slots);
            }
            None => batches.push(SlotBatch {
                indices: std::iter::once(index).collect(),
                limits: std::iter::once(slots).collect(),
            }),
        }
    }
    batches
}

fn remote_slot_limit(
    planned: &PlannedSlotLimit,
    user: Option<&str>,
    partition: Option<&Arc<str>>,
) -> RemoteSlotLimit {
    let own = user.filter(|_| planned.shared_count.is_none());
    let (key, partition) = match own {
        Some(user) => (format!("{}:{user}", planned.key).into(), partition.cloned()),
        None => (planned.key.clone(), None),
    };
    RemoteSlotLimit { key, count_max: planned.count_max.get(), mode: planned.mode, partition }
}
