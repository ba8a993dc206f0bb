//! Slots that all replicas share. A call is refused here if this replica alone has all slots in flight.
//! During an outage of the store slots are held from this replica's share of every limit.

use vmcp_domain::Error;

use crate::limiter::admission::{Refusal, slots_full_limit};
use crate::limiter::observer::DecisionEvent;
use crate::limiter::{LimitedUser, Limiter, Sharing, ToolPlan};
use crate::plan::policy::Consistency;
use crate::queue::{LimitIndex, WaitReason, needs};
use crate::shared::slots::SlotGuard;
use crate::shared::store::{OnStoreFailure, SlotBatch, slot_batches};

impl Sharing {
    /// The number of replicas, as far as it is known; otherwise 1.
    pub(in crate::limiter) fn replica_count_or_one(&self) -> u32 {
        self.replica_count.or_else(|| self.store.replica_count()).unwrap_or(1).max(1)
    }

    /// Holds slots in shadow mode without an answer of the store, and notes what the failure policy would
    /// have refused if they were enforced.
    pub(in crate::limiter) fn hold_shadow_slots(&self, slot: &mut SlotGuard, part: SlotBatch) {
        let parts = [part];
        match self.on_failure {
            OnStoreFailure::Deny => {
                slot.hold_unchecked(&parts);
                slot.record_missed(&parts);
            }
            OnStoreFailure::Allow => slot.hold_unchecked(&parts),
            // An error means that an enforced limit has no free slot, and none of these is enforced.
            OnStoreFailure::Local => drop(slot.hold_share(&parts, self.replica_count_or_one())),
        }
    }
}

impl Limiter {
    /// Refuses a call for which this replica alone has too many calls in flight, without asking the store.
    pub(in crate::limiter) fn check_local_slots(
        &self,
        bound: &ToolPlan,
        user: &LimitedUser,
    ) -> Result<(), Refusal> {
        self.memory
            .full_slot_limit(&bound.slots_only, user.local)
            .map_or(Ok(()), |place| Err(slots_full_refusal(bound, place)))
    }

    /// The refusal by a limit whose slots all replicas together have filled.
    pub(in crate::limiter) fn shared_slots_refusal(
        &self,
        bound: &ToolPlan,
        user: &LimitedUser,
        place: usize,
    ) -> Refusal {
        if self.wait_queues.count() > 0 {
            let needs = needs(&bound.plan, user.local, u64::MAX);
            self.wait_queues.pause_full_slots(self.wait_context(), &needs, place);
        }
        slots_full_refusal(bound, place)
    }

    /// Holds the slots of a call that continues without an answer of the store, or refuses the call, as the
    /// policy says.
    pub(in crate::limiter) fn hold_slots_without_store(
        &self,
        sharing: &Sharing,
        bound: &ToolPlan,
        user: &LimitedUser,
        slot: &mut SlotGuard,
        event: &mut DecisionEvent<'_>,
    ) -> Result<(), Refusal> {
        let is_enforced = bound.plan.has_enforced_slot_limit();
        let parts = self.slot_batches(bound, user);
        match sharing.on_failure {
            // A rule in shadow mode refuses no call, whether the store answers or not.
            OnStoreFailure::Deny if !is_enforced => {
                event.note_all_would_refuse(bound);
                slot.hold_unchecked(&parts);
            }
            OnStoreFailure::Deny => return Err(Error::LimitsUnavailable.into()),
            OnStoreFailure::Allow => {
                event.fail_open |= is_enforced;
                slot.hold_unchecked(&parts);
            }
            OnStoreFailure::Local => {
                slot.hold_share(&parts, sharing.replica_count_or_one())
                    .map_err(|place| slots_full_refusal(bound, place))?;
            }
        }
        Ok(())
    }

    pub(in crate::limiter) fn slot_batches(
        &self,
        bound: &ToolPlan,
        user: &LimitedUser,
    ) -> smallvec::SmallVec<[SlotBatch; 2]> {
        let split = matches!(self.planner.policy().consistency, Consistency::Split(_));
        slot_batches(&bound.plan, user.shared.as_ref().map(|user| &*user.digest), split)
    }
}

/// The refusal by a limit without a free slot.
pub(in crate::limiter) fn slots_full_refusal(bound: &ToolPlan, place: usize) -> Refusal {
    let error = Error::RateLimited(Box::new(slots_full_limit(bound, LimitIndex::Slots(place))));
    Refusal { error, wait_reason: WaitReason::Slots(place) }
}
