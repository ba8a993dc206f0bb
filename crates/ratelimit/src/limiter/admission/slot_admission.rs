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
    pub(in crate::limiter) fn hold_shadow_slots(&self, slot: &mut SlotGuard, batch: SlotBatch) {
        let batches = [batch];
        match self.on_failure {
            OnStoreFailure::Deny => {
                slot.hold_unchecked(&batches);
                slot.record_missed(&batches);
            }
            OnStoreFailure::Allow => slot.hold_unchecked(&batches),
            // An error means that an enforced limit has no free slot, and none of these is enforced.
            OnStoreFailure::Local => drop(slot.hold_share(&batches, self.replica_count_or_one())),
        }
    }
}

impl Limiter {
    /// Refuses a call for which this replica alone has too many calls in flight, without asking the store.
    pub(in crate::limiter) fn check_local_slots(
        &self,
        tool_plan: &ToolPlan,
        user: &LimitedUser,
    ) -> Result<(), Refusal> {
        self.memory
            .full_slot_limit(&tool_plan.slots_only, user.local)
            .map_or(Ok(()), |index| Err(slots_full_refusal(tool_plan, index)))
    }

    /// The refusal by a limit whose slots all replicas together have filled.
    pub(in crate::limiter) fn shared_slots_refusal(
        &self,
        tool_plan: &ToolPlan,
        user: &LimitedUser,
        index: usize,
    ) -> Refusal {
        if self.wait_queues.count() > 0 {
            let needs = needs(&tool_plan.plan, user.local, u64::MAX);
            self.wait_queues.pause_full_slots(self.wait_context(), &needs, index);
        }
        slots_full_refusal(tool_plan, index)
    }

    /// Holds the slots of a call that continues without an answer of the store, or refuses the call, as the
    /// policy says.
    pub(in crate::limiter) fn hold_slots_without_store(
        &self,
        sharing: &Sharing,
        tool_plan: &ToolPlan,
        user: &LimitedUser,
        slot: &mut SlotGuard,
        event: &mut DecisionEvent<'_>,
    ) -> Result<(), Refusal> {
        let is_enforced = tool_plan.plan.has_enforced_slot_limit();
        let batches = self.slot_batches(tool_plan, user);
        match sharing.on_failure {
            // A rule in shadow mode refuses no call, whether the store answers or not.
            OnStoreFailure::Deny if !is_enforced => {
                event.note_all_would_refuse(tool_plan);
                slot.hold_unchecked(&batches);
            }
            OnStoreFailure::Deny => return Err(Error::LimitsUnavailable.into()),
            OnStoreFailure::Allow => {
                event.fail_open |= is_enforced;
                slot.hold_unchecked(&batches);
            }
            OnStoreFailure::Local => {
                slot.hold_share(&batches, sharing.replica_count_or_one())
                    .map_err(|index| slots_full_refusal(tool_plan, index))?;
            }
        }
        Ok(())
    }

    pub(in crate::limiter) fn slot_batches(
        &self,
        tool_plan: &ToolPlan,
        user: &LimitedUser,
    ) -> smallvec::SmallVec<[SlotBatch; 2]> {
        let split = matches!(self.planner.policy().consistency, Consistency::Split(_));
        slot_batches(&tool_plan.plan, user.shared.as_ref().map(|user| &*user.digest), split)
    }
}

/// The refusal by a limit without a free slot.
pub(in crate::limiter) fn slots_full_refusal(tool_plan: &ToolPlan, index: usize) -> Refusal {
    let error = Error::RateLimited(Box::new(slots_full_limit(tool_plan, LimitIndex::Slots(index))));
    Refusal { error, wait_reason: WaitReason::Slots(index) }
}
