//! A place among the calls in flight of all replicas: asked of the shared store, or out of this replica's share of every
//! bound while the store is away.

use vmcp_domain::Error;

use super::patient::{Denial, busy};
use super::{Bound, Limiter, Permit, Sharing, User};
use crate::observer::DecisionEvent;
use crate::policy::{Consistency, Mode};
use crate::remote::{OnStoreFailure, SlotPart, StoreFailure, slot_parts};
use crate::slots::NoSlot;
use crate::waiting::{HeldUp, Place, needs};

impl Sharing {
    /// How many replicas there are, as far as is known.
    pub(super) fn count(&self) -> u32 {
        self.replica_count.or_else(|| self.store.replica_count()).unwrap_or(1).max(1)
    }
}

impl Limiter {
    /// Takes the call's places and puts them into the permit. Returns the store's failure where it did not answer and the
    /// policy let the call pass.
    pub(super) async fn take_slots(
        &self,
        sharing: &Sharing,
        bound: &Bound,
        user: &User,
        permit: &mut Permit<'_>,
        event: &mut DecisionEvent<'_>,
    ) -> Result<Option<StoreFailure>, Denial> {
        let Some(slots) = self.slots.as_ref().filter(|_| !bound.plan.slots.is_empty()) else {
            return Ok(None);
        };
        let parts = self.slot_parts(bound, user);
        match slots.enter(&parts).await {
            Ok(slot) => {
                permit.slot = Some(slot);
                permit.bell.shared = sharing.count() > 1;
                Ok(None)
            }
            Err(NoSlot::Busy(place)) => {
                // Before the permit's bell rings, which would send the next one to ask in vain.
                if self.room.count() > 0 {
                    let needs = needs(&bound.plan, user.local, u64::MAX);
                    self.room.full_elsewhere(self.view(), &needs, place);
                }
                Err(full(bound, place))
            }
            Err(NoSlot::Failed(failure, mut slot)) => {
                self.observer.store_failed(failure);
                let is_enforced = bound.plan.slots.iter().any(|slots| slots.mode == Mode::Enforce);
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
                permit.slot = Some(slot);
                Ok(Some(failure))
            }
        }
    }

    pub(super) fn slot_parts(&self, bound: &Bound, user: &User) -> smallvec::SmallVec<[SlotPart; 2]> {
        let split = matches!(self.planner.policy().consistency, Consistency::Split(_));
        slot_parts(&bound.plan, user.shared.as_ref().map(|user| &*user.digest), split)
    }
}

/// The refusal by a bound that has no room.
fn full(bound: &Bound, place: usize) -> Denial {
    let error = Error::RateLimited(Box::new(busy(bound, Place::Slots(place))));
    Denial { error, held_up: HeldUp::BySlots(place) }
}
