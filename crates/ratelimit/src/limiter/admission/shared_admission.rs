//! Pays where replicas share buckets: from leased tokens, by the store, or from this replica's share of every
//! limit during an outage of the store.

use std::sync::Arc;

use smallvec::SmallVec;
use vmcp_domain::Error;
use vmcp_timing::{Clock, Micros};

use super::refusal::shared_rate_limited_error;
use crate::limiter::admission::Refusal;
use crate::limiter::observer::DecisionEvent;
use crate::limiter::{LimitedUser, Limiter, PaidBatch, Permit, Sharing, ToolPlan};
use crate::plan::Plan;
use crate::plan::policy::{Consistency, Mode};
use crate::shared::lease::LeaseError;
use crate::shared::slots::{AcquireOutcome, SharedSlots};
use crate::shared::store::{
    AdmitRequest, OnStoreFailure, PlanView, RemoteVerdict, SlotBatch, StoreBatch, StoreFailure, store_batches,
};

/// One request to the store: the slots and buckets of one partition.
struct StoreExchange {
    slot_batch: Option<SlotBatch>,
    indices: SmallVec<[usize; 4]>,
    request: AdmitRequest,
}

impl StoreExchange {
    fn partition(&self) -> Option<&Arc<str>> {
        let bucket = self.request.buckets.first().map(|bucket| &bucket.partition);
        let slots =
            self.slot_batch.iter().flat_map(|batch| batch.limits.first()).map(|slots| &slots.partition);
        bucket.or(slots.into_iter().next()).and_then(Option::as_ref)
    }

    /// Whether all its limits are in shadow mode, so that none refuses.
    fn is_shadow_only(&self) -> bool {
        self.request.buckets.iter().all(|bucket| bucket.mode == Mode::Shadow)
            && self.slot_batch.as_ref().is_none_or(SlotBatch::is_shadow_only)
    }
}

impl Limiter {
    pub(in crate::limiter) async fn admit_shared<'a>(
        &'a self,
        sharing: &'a Sharing,
        tool_plan: &'a ToolPlan,
        user: &LimitedUser,
        now: Micros,
        event: &mut DecisionEvent<'_>,
    ) -> Result<Permit<'a>, Refusal> {
        let mut permit = self.unpaid_permit(tool_plan, user.local);
        permit.release_notifier.has_shared_slots =
            !tool_plan.plan.slot_limits.is_empty() && sharing.replica_count_or_one() > 1;
        if !tool_plan.plan.slot_limits.is_empty() {
            self.check_local_slots(tool_plan, user)?;
            self.check_known_refusal(sharing, tool_plan, user)?;
            permit.slot_guard = self.shared_slots.as_ref().map(SharedSlots::begin_call);
        }
        match self.pay_shared(sharing, tool_plan, user, &mut permit).await {
            Ok(()) => {
                if let Some(paid) = &mut permit.lease_payment {
                    paid.commit();
                }
            }
            Err(PayError::Refused(refusal)) => {
                self.refund_shared(sharing, &permit).await;
                return Err(refusal);
            }
            Err(PayError::StoreFailed(failure)) => {
                self.observer.on_store_failure(failure);
                // Earlier payments stay paid: a refund would need the store, which does not answer.
                permit.lease_payment = None;
                permit.paid_batches.clear();
                if let Some(slot) = &mut permit.slot_guard {
                    self.hold_slots_without_store(sharing, tool_plan, user, slot, event)?;
                }
                if !tool_plan.plan.buckets.is_empty() {
                    permit.fallback_charge =
                        self.decide_without_store(sharing, tool_plan, user, event)?.map(Box::new);
                }
            }
        }
        // The calls in flight of this replica, which later calls here can check without asking the store.
        match self.admit_local((tool_plan, &tool_plan.slots_only), user.local, now) {
            Ok(mut here) => permit.local = here.local.take(),
            Err(refusal) => {
                self.refund_shared(sharing, &permit).await;
                return Err(refusal);
            }
        }
        (permit.release_notifier.is_admitted, permit.release_notifier.holds_slots) = (true, true);
        Ok(permit)
    }

    /// Refunds what a call has paid to the store, because the call is refused all the same.
    async fn refund_shared(&self, sharing: &Sharing, permit: &Permit<'_>) {
        let paid =
            permit.paid_batches.iter().flat_map(|batch| batch.adjustments(|bucket| -i64::from(bucket.cost)));
        self.adjust_shared(sharing, paid.collect()).await;
    }

    /// Refuses a call that certainly lacks tokens, without asking the store. Spends nothing.
    pub(in crate::limiter) fn check_known_refusal(
        &self,
        sharing: &Sharing,
        tool_plan: &ToolPlan,
        user: &LimitedUser,
    ) -> Result<(), Refusal> {
        for StoreBatch { indices, request } in store_batches(&tool_plan.plan, self.plan_view(user, true)) {
            if let Some(verdict) = sharing.store.known_refusal(&request) {
                return Err(shared_bucket_refusal(
                    tool_plan,
                    &levels_or_full(&tool_plan.plan, &indices, &verdict.levels),
                    &*self.clock,
                ));
            }
        }
        Ok(())
    }

    /// The requests to the store for a plan. The caller's own buckets come first, so that a call that they
    /// refuse takes nothing from buckets that all callers share.
    fn store_exchanges(&self, tool_plan: &ToolPlan, user: &LimitedUser) -> SmallVec<[StoreExchange; 2]> {
        let of_buckets = |StoreBatch { indices, request }: StoreBatch| StoreExchange {
            slot_batch: None,
            indices,
            request,
        };
        let mut exchanges: SmallVec<[StoreExchange; 2]> =
            store_batches(&tool_plan.plan, self.plan_view(user, true)).into_iter().map(of_buckets).collect();
        for batch in self.slot_batches(tool_plan, user) {
            let partition = batch.limits.first().and_then(|slots| slots.partition.clone());
            match exchanges.iter_mut().find(|exchange| exchange.partition() == partition.as_ref()) {
                Some(exchange) => exchange.slot_batch = Some(batch),
                None => exchanges.push(StoreExchange {
                    slot_batch: Some(batch),
                    indices: SmallVec::new(),
                    request: AdmitRequest { buckets: SmallVec::new() },
                }),
            }
        }
        exchanges.sort_by_key(|exchange| exchange.partition().is_none());
        exchanges
    }

    /// Pays all shared buckets and takes all slots. The leased buckets come first; if the call is refused
    /// after that, their tokens return to the lease at once.
    async fn pay_shared<'a>(
        &'a self,
        sharing: &'a Sharing,
        tool_plan: &'a ToolPlan,
        user: &LimitedUser,
        permit: &mut Permit<'a>,
    ) -> Result<(), PayError> {
        let begun = self.clock.now();
        if let Some(leases) = self.leases.as_ref().filter(|_| !tool_plan.lease_plan.is_empty()) {
            match leases.admit(&tool_plan.lease_plan).await {
                Ok(paid) => permit.lease_payment = Some(paid),
                Err(LeaseError::StoreFailed(failure)) => return Err(PayError::StoreFailed(failure)),
                Err(LeaseError::InsufficientTokens(index, wait)) => {
                    return Err(PayError::Refused(Refusal::by_lease(tool_plan, index, wait)));
                }
            }
        }
        for exchange in self.store_exchanges(tool_plan, user) {
            let verdict = match self.run_exchange(sharing, tool_plan, user, &exchange, permit).await {
                Ok(verdict) => verdict,
                // A failure of limits in shadow mode does not send a call that has paid elsewhere to the
                // failure policy.
                Err(PayError::StoreFailed(failure))
                    if tool_plan.plan.has_enforced() && exchange.is_shadow_only() =>
                {
                    self.observer.on_store_failure(failure);
                    if let (Some(slot), Some(batch)) = (&mut permit.slot_guard, exchange.slot_batch) {
                        sharing.hold_shadow_slots(slot, batch);
                    }
                    if sharing.on_failure == OnStoreFailure::Deny {
                        permit.shadow_unasked.extend(exchange.indices);
                    }
                    continue;
                }
                // A full queue of this replica is no failure of the store, so it must not lead to the failure
                // policy, which could admit the call without its limits.
                Err(PayError::StoreFailed(StoreFailure::Overloaded)) if tool_plan.plan.has_enforced() => {
                    return Err(PayError::Refused(Error::Overloaded.into()));
                }
                Err(error) => return Err(error),
            };
            let StoreExchange { indices, request, .. } = exchange;
            let levels = levels_or_full(&tool_plan.plan, &indices, &verdict.levels);
            self.observe_levels(sharing, tool_plan, user.local, &levels);
            permit.record_levels(&indices, &levels);
            if !verdict.admitted {
                return Err(PayError::Refused(shared_bucket_refusal(tool_plan, &levels, &*self.clock)));
            }
            if !request.buckets.is_empty() {
                permit.paid_batches.push(PaidBatch { indices, request, verdict });
            }
        }
        match &self.shared_slots {
            Some(slots) if tool_plan.plan.has_enforced_slot_limit() => {
                slots.check_still_valid(begun).map_err(PayError::StoreFailed)
            }
            _ => Ok(()),
        }
    }

    /// Sends one request to the store. A verdict that does not admit is a refusal by buckets.
    async fn run_exchange(
        &self,
        sharing: &Sharing,
        tool_plan: &ToolPlan,
        user: &LimitedUser,
        exchange: &StoreExchange,
        permit: &mut Permit<'_>,
    ) -> Result<RemoteVerdict, PayError> {
        let (Some(slots), Some(slot), Some(batch)) =
            (&self.shared_slots, &mut permit.slot_guard, &exchange.slot_batch)
        else {
            return sharing.store.admit(&exchange.request).await.map_err(PayError::StoreFailed);
        };
        match slots.acquire(slot, batch, &exchange.request).await {
            Ok(AcquireOutcome::Admitted(verdict) | AcquireOutcome::InsufficientTokens(verdict)) => {
                Ok(verdict)
            }
            Ok(AcquireOutcome::SlotsFull(index)) => {
                Err(PayError::Refused(self.shared_slots_refusal(tool_plan, user, index)))
            }
            // Nothing was sent. A store that may have lost its slots still answers for the buckets.
            Err(StoreFailure::CircuitOpen) if batch.is_shadow_only() => {
                sharing.hold_shadow_slots(slot, batch.clone());
                if exchange.request.buckets.is_empty() {
                    return Ok(RemoteVerdict::empty());
                }
                sharing.store.admit(&exchange.request).await.map_err(PayError::StoreFailed)
            }
            Err(failure) => Err(PayError::StoreFailed(failure)),
        }
    }

    /// How the requests of plans are split and named in the store.
    pub(in crate::limiter) fn plan_view<'u>(
        &self,
        user: &'u LimitedUser,
        without_leased: bool,
    ) -> PlanView<'u> {
        let split = matches!(self.planner.policy().consistency, Consistency::Split(_));
        PlanView {
            user: user.shared.as_ref(),
            split_by_user: split,
            without_leased: without_leased && self.leases.is_some(),
            has_legacy_keys: self.sharing.as_ref().is_some_and(|sharing| self.has_legacy_keys(sharing)),
        }
    }

    /// Whether buckets may have levels under keys of former versions.
    pub(in crate::limiter) fn has_legacy_keys(&self, sharing: &Sharing) -> bool {
        sharing.store.key_age().is_none_or(|age| age < self.debt_recovery_max)
    }
}

impl Permit<'_> {
    /// Records the levels that the store reported for some buckets of the plan; `levels` has the others as
    /// full.
    fn record_levels(&mut self, indices: &[usize], levels: &SmallVec<[i64; 4]>) {
        let known = self.known_levels.get_or_insert_with(|| levels.clone());
        for index in indices {
            if let (Some(known), Some(level)) = (known.get_mut(*index), levels.get(*index)) {
                *known = *level;
            }
        }
    }
}

/// The refusal by buckets that hold `levels`, in units.
fn shared_bucket_refusal(tool_plan: &ToolPlan, levels: &[i64], clock: &dyn Clock) -> Refusal {
    Refusal::by_buckets(shared_rate_limited_error(tool_plan, levels, clock), &tool_plan.plan, levels)
}

/// Why the shared buckets of a call are not paid.
enum PayError {
    /// One of them cannot pay.
    Refused(Refusal),
    /// The store does not answer.
    StoreFailed(StoreFailure),
}

/// The level of every bucket of a plan, where only some are known; the others count as full.
pub(in crate::limiter) fn levels_or_full(
    plan: &Plan,
    indices: &[usize],
    levels: &[i64],
) -> SmallVec<[i64; 4]> {
    let mut all: SmallVec<[i64; 4]> = plan.buckets.iter().map(|bucket| bucket.rate.capacity()).collect();
    for (index, level) in indices.iter().zip(levels) {
        if let Some(known) = all.get_mut(*index) {
            *known = *level;
        }
    }
    all
}
