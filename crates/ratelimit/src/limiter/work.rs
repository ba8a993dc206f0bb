//! Places among the calls in flight that are held for as long as a backend may be working.

use std::sync::Arc;

use smallvec::SmallVec;
use vmcp_domain::{CallContext, WorkHold};

use super::patient::Bell;
use super::{Bound, Limiter, Permit};
use crate::memory::Receipt;
use crate::slots::Slot;
use crate::table::UserKey;

/// The places of one call. They are free when this is dropped.
struct InFlight {
    limiter: Arc<Limiter>,
    bound: Arc<Bound>,
    user: Option<UserKey>,
    /// For each bound of the plan: whether the call counts under it in this process.
    here: SmallVec<[bool; 2]>,
    slot: Option<Slot>,
    shared: bool,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        drop(self.slot.take());
        let plan = &self.bound.plan;
        self.limiter.memory.leave(plan, self.user, &self.here);
        // Dropping it tells those who wait.
        drop(Bell {
            limiter: &self.limiter,
            plan,
            user: self.user,
            shared: self.shared,
            admitted: true,
            places: true,
        });
    }
}

impl Permit<'_> {
    /// The context of the call that this is for: it carries the call's places among those in flight, which are free once all
    /// copies of it are gone. `None` for a call that has none.
    pub(crate) fn hold(
        &mut self,
        limiter: &Arc<Limiter>,
        bound: &Arc<Bound>,
        ctx: &CallContext,
    ) -> Option<CallContext> {
        if bound.plan.slots.is_empty() {
            return None;
        }
        let places = InFlight {
            limiter: limiter.clone(),
            bound: bound.clone(),
            user: self.local.as_ref().and_then(Receipt::user),
            here: self.local.as_mut().map(Receipt::take_places).unwrap_or_default(),
            slot: self.slot.take(),
            shared: self.bell.shared,
        };
        self.bell.places = false;
        // A call within another one keeps the places of both.
        let hold = WorkHold::new((places, ctx.hold.clone()));
        Some(CallContext { hold: Some(hold), ..ctx.clone() })
    }
}
