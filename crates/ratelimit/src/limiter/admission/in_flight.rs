//! Slots that a call holds for as long as a backend may be working on it.

use std::sync::Arc;

use smallvec::SmallVec;
use vmcp_domain::{CallContext, WorkHold};

use crate::bucket::memory_store::Receipt;
use crate::bucket::user_key::UserKey;
use crate::limiter::admission::ReleaseNotifier;
use crate::limiter::{Limiter, Permit, ToolPlan};
use crate::shared::slots::SlotGuard;

/// The slots of one call. Dropping it releases them.
struct InFlightSlots {
    limiter: Arc<Limiter>,
    tool_plan: Arc<ToolPlan>,
    user: Option<UserKey>,
    /// For each limit on calls in flight of the plan: whether the call counts under it in this process.
    local_slots: SmallVec<[bool; 2]>,
    slot_guard: Option<SlotGuard>,
    has_shared_slots: bool,
}

impl Drop for InFlightSlots {
    fn drop(&mut self) {
        drop(self.slot_guard.take());
        let plan = &self.tool_plan.plan;
        self.limiter.memory.release_slots(plan, self.user, &self.local_slots);
        // Dropping it notifies the waiting calls.
        drop(ReleaseNotifier {
            limiter: &self.limiter,
            plan,
            user: self.user,
            has_shared_slots: self.has_shared_slots,
            is_admitted: true,
            holds_slots: true,
        });
    }
}

impl Permit<'_> {
    /// The context of the call of this permit. It carries the call's slots, which are released once all
    /// copies of the context are dropped. `None` for a call without slots.
    pub(crate) fn hold_slots(
        &mut self,
        limiter: &Arc<Limiter>,
        tool_plan: &Arc<ToolPlan>,
        ctx: &CallContext,
    ) -> Option<CallContext> {
        if tool_plan.plan.slot_limits.is_empty() {
            return None;
        }
        let in_flight_slots = InFlightSlots {
            limiter: limiter.clone(),
            tool_plan: tool_plan.clone(),
            user: self.local.as_ref().and_then(Receipt::user),
            local_slots: self.local.as_mut().map(Receipt::take_slots).unwrap_or_default(),
            slot_guard: self.slot_guard.take(),
            has_shared_slots: self.release_notifier.has_shared_slots,
        };
        self.release_notifier.holds_slots = false;
        // A call within another one keeps the slots of both.
        let hold = WorkHold::new((in_flight_slots, ctx.hold.clone()));
        Some(CallContext { hold: Some(hold), ..ctx.clone() })
    }
}
