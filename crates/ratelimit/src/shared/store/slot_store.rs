//! What a shared store does for bounds on calls in flight: it keeps the names of the calls that hold a slot, each for as
//! long as its lease. What the leases are worth, and who renews them, is `crate::shared::slots`'s.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use vmcp_domain::BoxFuture;

use super::{AdmitRequest, RemoteVerdict, StoreFailure};
use crate::plan::policy::Mode;
use crate::plan::{Plan, PlannedSlotLimit};

/// How long a slot is held after its call was last reported, if nothing else is said.
pub const SLOT_LEASE: Duration = Duration::from_secs(15);

/// The name of one call in flight: no other call of any replica has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub [u8; 16]);

/// One bound on calls in flight, as a shared store sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RemoteSlotLimit {
    /// What the bound belongs to, the same on every replica and free of the user's name.
    pub key: Arc<str>,
    /// How many calls may be in flight.
    pub count_max: u32,
    /// What a refusal does.
    pub mode: Mode,
    /// Whose place in a cluster it has; `None` for the one of all bounds of this gateway.
    pub partition: Option<Arc<str>>,
}

/// Asks for a slot for one call, under bounds of one home.
#[derive(Clone, Debug)]
pub struct SlotRequest {
    /// The call.
    pub call: CallId,
    /// How long it holds the slots if nothing more is heard of it.
    pub lease: Duration,
    /// The bounds.
    pub limits: SmallVec<[RemoteSlotLimit; 2]>,
    /// For each bound, calls that have ended: their slots are free before anything is counted.
    pub ended: SmallVec<[Vec<CallId>; 2]>,
}

/// What the store found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotVerdict {
    /// Whether every enforced bound had room and every enforced bucket could pay. If not, the call holds nothing and has paid
    /// nothing.
    pub admitted: bool,
    /// How many other calls each bound counted, in the order of the ask.
    pub counts: SmallVec<[u32; 2]>,
    /// For each bound, whether the call holds a slot. A bound in shadow mode that is full gives none.
    pub holds: SmallVec<[bool; 2]>,
}

/// What a replica says of one bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotReport {
    /// The bound.
    pub key: Arc<str>,
    /// Calls that are in flight: they hold their slots for another lease, or again if they had lost them.
    pub held: Vec<CallId>,
    /// Calls that have ended.
    pub ended: Vec<CallId>,
}

/// A store of the slots that calls of several replicas hold. Every method answers within the store's own deadline.
pub trait SlotStore: Send + Sync {
    /// Takes a slot under every bound that has room and pays every bucket of the same home, or takes and pays nothing if an
    /// enforced one has no room or cannot pay. Asked twice about one call it counts that call once.
    fn acquire<'a>(
        &'a self,
        ask: &'a SlotRequest,
        buckets: &'a AdmitRequest,
    ) -> BoxFuture<'a, Result<(SlotVerdict, RemoteVerdict), StoreFailure>>;
    /// Hears what is held and what has ended, of bounds of one home.
    fn report<'a>(
        &'a self,
        home: Option<&'a str>,
        reports: &'a [SlotReport],
        lease: Duration,
    ) -> BoxFuture<'a, Result<(), StoreFailure>>;
    /// How many calls hold a slot under bounds of one home; takes none.
    fn count<'a>(
        &'a self,
        slots: &'a [RemoteSlotLimit],
    ) -> BoxFuture<'a, Result<SmallVec<[u32; 2]>, StoreFailure>>;
    /// What is known of the connection.
    fn connection(&self) -> StoreConnection;
}

/// What is known of a connection to a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreConnection {
    /// Changes whenever the connection is made anew: what is behind it may have forgotten everything.
    pub generation: u64,
    /// How long ago it was made, where there was none before although one was wanted. `None` for the first one of a
    /// process that found the store at once.
    pub reconnected_for: Option<Duration>,
}

/// The bounds of a plan that have one home in a shared store, for one user.
#[derive(Clone, Debug)]
pub(crate) struct SlotBatch {
    /// Their places in the plan.
    pub(crate) indices: SmallVec<[usize; 2]>,
    /// The bounds.
    pub(crate) limits: SmallVec<[RemoteSlotLimit; 2]>,
}

impl SlotBatch {
    /// Whether none of the bounds refuses.
    pub(crate) fn is_shadow_only(&self) -> bool {
        self.limits.iter().all(|slots| slots.mode == Mode::Shadow)
    }
}

/// The questions about the bounds of a plan: those that can be answered together are one. `split` says that each
/// user's bounds have a home of their own.
pub(crate) fn slot_batches(plan: &Plan, user: Option<&str>, split: bool) -> SmallVec<[SlotBatch; 2]> {
    let own: Option<Arc<str>> = user.filter(|_| split).map(Into::into);
    let mut parts: SmallVec<[SlotBatch; 2]> = SmallVec::new();
    for (place, planned) in plan.slot_limits.iter().enumerate() {
        // Without a user nobody can say which bound it is; only a rule on trial lets such a call pass.
        if planned.shared_count.is_none() && user.is_none() {
            continue;
        }
        let slots = remote_slot_limit(planned, user, own.as_ref());
        // Shared bounds come first in a plan, so that those of one home stand side by side.
        match parts
            .last_mut()
            .filter(|part| part.limits.last().is_some_and(|last| last.partition == slots.partition))
        {
            Some(part) => {
                part.indices.push(place);
                part.limits.push(slots);
            }
            None => parts.push(SlotBatch {
                indices: std::iter::once(place).collect(),
                limits: std::iter::once(slots).collect(),
            }),
        }
    }
    parts
}

fn remote_slot_limit(
    planned: &PlannedSlotLimit,
    user: Option<&str>,
    home: Option<&Arc<str>>,
) -> RemoteSlotLimit {
    let own = user.filter(|_| planned.shared_count.is_none());
    let (key, home) = match own {
        Some(user) => (format!("{}:{user}", planned.key).into(), home.cloned()),
        None => (planned.key.clone(), None),
    };
    RemoteSlotLimit { key, count_max: planned.count_max.get(), mode: planned.mode, partition: home }
}
