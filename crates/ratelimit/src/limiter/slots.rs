//! Places among the calls in flight of all replicas: refused here where this replica alone has as many in flight, and held out
//! of this replica's share of every bound while the store is away.

use vmcp_domain::Error;

use super::patient::{Denial, busy};
use super::{Bound, Limiter, Sharing, User};
use crate::observer::DecisionEvent;
use crate::policy::Consistency;
use crate::remote::{OnStoreFailure, SlotPart, slot_parts};
use crate::slots::Slot;
use crate::waiting::{HeldUp, Place, needs};

impl Sharing {
    /// How many replicas there are, as far as is known.
    pub(super) fn count(&self) -> u32 {
        self.replica_count.or_else(|| self.store.replica_count()).unwrap_or(1).max(1)
    }

    /// Holds slots on trial without an answer of the store, and notes what the failure policy would have refused if they
    /// were enforced.
    pub(super) fn hold_on_trial(&self, slot: &mut Slot, part: SlotPart) {
        let parts = [part];
        match self.on_failure {
            OnStoreFailure::Deny => {
                slot.hold_anyway(&parts);
                slot.miss(&parts);
            }
            OnStoreFailure::Allow => slot.hold_anyway(&parts),
            // Only an enforced bound without room is an error.
            OnStoreFailure::Local => drop(slot.hold_share(&parts, self.count())),
        }
    }
}

impl Limiter {
    /// Refuses a call for which this replica alone has too many in flight, without asking.
    pub(super) fn refuse_full(&self, bound: &Bound, user: &User) -> Result<(), Denial> {
        self.memory.full_slots(&bound.slots, user.local).map_or(Ok(()), |place| Err(full(bound, place)))
    }

    /// The refusal by a bound that all replicas together have filled.
    pub(super) fn full_elsewhere(&self, bound: &Bound, user: &User, place: usize) -> Denial {
        if self.room.count() > 0 {
            let needs = needs(&bound.plan, user.local, u64::MAX);
            self.room.full_elsewhere(self.view(), &needs, place);
        }
        full(bound, place)
    }

    /// Holds the slots of a call that continues without an answer of the store, or refuses the call, as the policy says.
    pub(super) fn hold_without_store(
        &self,
        sharing: &Sharing,
        bound: &Bound,
        user: &User,
        slot: &mut Slot,
        event: &mut DecisionEvent<'_>,
    ) -> Result<(), Denial> {
        let is_enforced = bound.plan.enforces_slots();
        let parts = self.slot_parts(bound, user);
        match sharing.on_failure {
            // What is only on trial refuses nobody, whether the store answers or not.
            OnStoreFailure::Deny if !is_enforced => {
                event.all_would_refuse(bound);
                slot.hold_anyway(&parts);
            }
            OnStoreFailure::Deny => return Err(Error::LimitsUnavailable.into()),
            OnStoreFailure::Allow => {
                event.fail_open |= is_enforced;
                slot.hold_anyway(&parts);
            }
            OnStoreFailure::Local => {
                slot.hold_share(&parts, sharing.count()).map_err(|place| full(bound, place))?;
            }
        }
        Ok(())
    }

    pub(super) fn slot_parts(&self, bound: &Bound, user: &User) -> smallvec::SmallVec<[SlotPart; 2]> {
        let split = matches!(self.planner.policy().consistency, Consistency::Split(_));
        slot_parts(&bound.plan, user.shared.as_ref().map(|user| &*user.digest), split)
    }
}

/// The refusal by a bound that has no room.
pub(super) fn full(bound: &Bound, place: usize) -> Denial {
    let error = Error::RateLimited(Box::new(busy(bound, Place::Slots(place))));
    Denial { error, held_up: HeldUp::BySlots(place) }
}
