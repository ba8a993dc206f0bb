//! Reserved budget for several calls: one decision over all their buckets, which pay for all of them or for
//! none.

mod reserver;
pub(crate) mod rounds;

pub use reserver::Reserver;

use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;
use vmcp_domain::{CallContext, Error, Retry};
use vmcp_timing::Micros;

use super::{LimitedUser, Limiter, Permit, ToolPlan};
use crate::bucket::memory_store::{Receipt, signed_units};
use crate::bucket::user_key::UserKey;
use crate::limiter::tool_plan::is_same_bucket;
use crate::plan::{PlannedBucket, Settlement};
use crate::queue::needs;
use crate::shared::store::{Adjustment, OnStoreFailure, RemoteBucket, StoreBatch, store_batches};

/// The most buckets that these calls may fall under: one store decision over them delays no other call.
const BUCKETS_MAX: usize = 256;

/// Calls that are paid for and not made yet.
pub(crate) struct ReservedCalls {
    pub(super) limiter: Arc<Limiter>,
    /// The only caller that may spend them.
    caller_key: UserKey,
    user: LimitedUser,
    /// The time of the payment: by the clock of the shared store, or of this process where there is none.
    paid_at: Option<Micros>,
    /// Whether unused calls are refunded on drop; false for later rounds, which a backend has read already.
    refunds_unused: bool,
    groups: Mutex<Vec<ReservedGroup>>,
}

/// What a call that waits for its next round has paid.
#[derive(Clone)]
pub(crate) struct PaidRound {
    caller_key: UserKey,
    user: LimitedUser,
    paid_at: Option<Micros>,
    tool_plan: Arc<ToolPlan>,
    pays: SmallVec<[bool; 4]>,
}

impl PaidRound {
    /// Whether this caller paid it for a call that is charged like `tool_plan`.
    pub(super) fn is_for(&self, caller: UserKey, tool_plan: &ToolPlan) -> bool {
        self.caller_key == caller && self.tool_plan.is_charged_like(tool_plan)
    }
}

/// Reserved calls that are charged alike.
struct ReservedGroup {
    tool_plan: Arc<ToolPlan>,
    /// For each bucket of the plan: whether it has paid.
    pays: SmallVec<[bool; 4]>,
    remaining: u32,
}

/// A change of the charge of prepaid calls.
enum ReservationCharge {
    /// The call turned out to have another cost.
    Settled(Settlement),
    /// This number of calls was not made.
    Unused(u32),
}

impl ReservationCharge {
    /// The change in tokens, for a bucket at which one call costs `cost`; negative for a refund.
    fn tokens_for(&self, shadow_rule: Option<u32>, cost: u32) -> i64 {
        match self {
            Self::Settled(owed) => owed.for_bucket(shadow_rule),
            Self::Unused(count) => -i64::from(cost).saturating_mul(i64::from(*count)),
        }
    }

    /// The tokens that were paid for these calls together, at a bucket at which one call costs `cost`.
    fn paid_tokens(&self, cost: u32) -> u32 {
        match self {
            Self::Settled(_) => cost,
            Self::Unused(count) => cost.saturating_mul(*count),
        }
    }

    fn is_refund(&self) -> bool {
        match self {
            Self::Settled(owed) => owed.is_refund(),
            Self::Unused(_) => true,
        }
    }
}

/// One call that is paid for. Unless it is spent, dropping it returns it to the reservation.
pub(crate) struct PrepaidCall<'a> {
    reserved: &'a ReservedCalls,
    index: usize,
    is_spent: bool,
}

/// One prepaid call that was made.
pub(crate) struct SpentCall<'a> {
    reserved: &'a ReservedCalls,
    index: usize,
}

impl Limiter {
    async fn reserve(
        self: &Arc<Self>,
        wanted: Vec<(Arc<ToolPlan>, u32)>,
        ctx: &CallContext,
    ) -> Result<ReservedCalls, Error> {
        let (limiter, caller) = (self.clone(), self.fairness_key(ctx));
        let Some(all) = ToolPlan::combined(&wanted) else {
            let (user, groups) = (LimitedUser::default(), Mutex::default());
            return Ok(ReservedCalls {
                limiter,
                caller_key: caller,
                user,
                paid_at: None,
                refunds_unused: true,
                groups,
            });
        };
        if all.plan.buckets.len() > BUCKETS_MAX {
            let text = format!("the calls fall under more than {BUCKETS_MAX} limits; reserve fewer at once");
            return Err(Error::InvalidRequest(text));
        }
        let mut user = self.limited_user(&all, ctx)?;
        let permit = self.admit(&all, ctx).await.map_err(|error| refusal_of_all(error, &wanted))?;
        let unasked = permit.paid_batches.is_empty();
        if self.sharing.as_ref().is_some_and(|sharing| unasked && sharing.on_failure != OnStoreFailure::Allow)
        {
            // The store does not answer, and this replica's share is for single calls as they come.
            return Err(Error::LimitsUnavailable);
        }
        if let Some(receipt) = permit.local.as_ref().filter(|_| self.sharing.is_none()) {
            // A refund goes to the user entry that paid: with a full user table, the entry of all further
            // users.
            user.local = receipt.user();
        }
        let paid = self.paid_buckets(&all, &permit);
        let paid_at = self.paid_at(&permit);
        // The tokens stay spent: unused calls are refunded one by one.
        drop(permit);
        let pays = |bucket: &PlannedBucket| {
            let index = all.plan.buckets.iter().position(|known| is_same_bucket(known, bucket));
            index.and_then(|index| paid.get(index).copied()).unwrap_or(false)
        };
        let group = |(tool_plan, left): (Arc<ToolPlan>, u32)| {
            let pays = tool_plan.plan.buckets.iter().map(pays).collect();
            ReservedGroup { pays, remaining: left, tool_plan }
        };
        let groups = Mutex::new(wanted.into_iter().map(group).collect());
        Ok(ReservedCalls { limiter, caller_key: caller, user, paid_at, refunds_unused: true, groups })
    }

    /// Which buckets of the plan have paid.
    fn paid_buckets(&self, all: &ToolPlan, permit: &Permit<'_>) -> Vec<bool> {
        let mut paid = vec![false; all.plan.buckets.len()];
        if self.sharing.is_none() {
            let pays = permit.local.iter().flat_map(|receipt| receipt.charges().pays.iter());
            paid.iter_mut().zip(pays).for_each(|(paid, pays)| *paid = *pays);
            return paid;
        }
        // Where the store did not answer nothing was paid there, so nothing will be refunded there.
        for batch in &permit.paid_batches {
            for (index, pays) in batch.indices.iter().zip(&batch.verdict.pays) {
                if let Some(paid) = paid.get_mut(*index) {
                    *paid = *pays;
                }
            }
        }
        for index in permit.lease_payment.iter().flat_map(|leased| leased.paid_indices()) {
            if let Some(paid) = paid.get_mut(index) {
                *paid = true;
            }
        }
        paid
    }

    /// The time of the payment: by the clock of the shared store, or of this process where there is none.
    fn paid_at(&self, permit: &Permit<'_>) -> Option<Micros> {
        match &self.sharing {
            None => permit.local.as_ref().map(Receipt::paid_at),
            Some(_) => {
                let leased = permit.lease_payment.iter().flat_map(|leased| leased.taken_at());
                permit.paid_batches.iter().map(|batch| batch.verdict.at).chain(leased).min()
            }
        }
    }

    /// What a call has paid that waits for its next round.
    pub(super) fn paid_round(
        &self,
        ctx: &CallContext,
        tool_plan: &Arc<ToolPlan>,
        permit: &Permit<'_>,
    ) -> PaidRound {
        let mut user = self.limited_user(tool_plan, ctx).unwrap_or_default();
        if let Some(receipt) = permit.local.as_ref().filter(|_| self.sharing.is_none()) {
            user.local = receipt.user();
        }
        PaidRound {
            caller_key: self.fairness_key(ctx),
            user,
            paid_at: self.paid_at(permit),
            tool_plan: tool_plan.clone(),
            pays: self.paid_buckets(tool_plan, permit).into(),
        }
    }

    /// The shared store's names of those buckets of a plan that have paid.
    fn paying_buckets(&self, tool_plan: &ToolPlan, user: &LimitedUser, pays: &[bool]) -> Vec<RemoteBucket> {
        let paid = |StoreBatch { indices, request }: StoreBatch| {
            let buckets = indices.into_iter().zip(request.buckets);
            buckets.filter(|(index, _)| pays.get(*index) == Some(&true)).map(|(_, bucket)| bucket)
        };
        store_batches(&tool_plan.plan, self.plan_view(user, false)).into_iter().flat_map(paid).collect()
    }
}

/// The refusal of several calls, which names the tool whose limit refuses.
fn refusal_of_all(error: Error, wanted: &[(Arc<ToolPlan>, u32)]) -> Error {
    let Error::RateLimited(mut refusal) = error else { return error };
    let has_rule = |tool_plan: &ToolPlan| tool_plan.plan.buckets.iter().any(|one| *one.rule == *refusal.rule);
    if let Some((tool_plan, _)) = wanted.iter().find(|(tool_plan, _)| has_rule(tool_plan)) {
        refusal.operation = tool_plan.limited.clone();
    }
    let call_count: u32 = wanted.iter().map(|(_, count)| *count).sum();
    if refusal.retry == Retry::Never && call_count > 1 {
        refusal.retry = Retry::NeverTogether;
    }
    Error::RateLimited(refusal)
}

impl ReservedCalls {
    /// Charges tokens to the buckets that have paid, or refunds them where the number is negative. The shared
    /// store is updated later, in the background.
    fn apply_charge(&self, tool_plan: &ToolPlan, pays: &[bool], charge: &ReservationCharge) {
        let Self { limiter, user, paid_at, .. } = self;
        let released_needs = charge.is_refund().then(|| needs(&tool_plan.plan, user.local, u64::MAX));
        if limiter.sharing.is_some() {
            let change = |bucket: RemoteBucket| Adjustment {
                tokens: charge.tokens_for(bucket.shadow_rule, bucket.cost),
                bucket: RemoteBucket { cost: charge.paid_tokens(bucket.cost), ..bucket },
                paid_at: *paid_at,
            };
            let changes = limiter.paying_buckets(tool_plan, user, pays).into_iter().map(change).collect();
            limiter.adjust_shared_later(changes, released_needs);
            return;
        }
        let units = |bucket: &PlannedBucket| {
            signed_units(bucket, -charge.tokens_for(bucket.shadow_rule, bucket.cost.get()))
        };
        limiter.memory.adjust(&tool_plan.plan, user.local, (pays, paid_at.unwrap_or_default()), units);
        if let Some(needs) = released_needs.filter(|_| limiter.wait_queues.count() > 0) {
            limiter.wait_queues.notify_release(limiter.wait_context(), &needs, true, false);
        }
    }
}

impl ReservedCalls {
    /// The payment of a call's first round, as a reservation of one call for the next round.
    pub(super) fn for_round(limiter: &Arc<Limiter>, paid: PaidRound) -> Self {
        let PaidRound { caller_key: caller, user, paid_at, tool_plan, pays } = paid;
        let groups = Mutex::new(vec![ReservedGroup { tool_plan, pays, remaining: 1 }]);
        Self { limiter: limiter.clone(), caller_key: caller, user, paid_at, refunds_unused: false, groups }
    }

    /// Takes one prepaid call that is charged like `tool_plan`, if the caller is the one who reserved the budget.
    pub(crate) fn take_call(&self, tool_plan: &ToolPlan, ctx: &CallContext) -> Option<PrepaidCall<'_>> {
        if self.limiter.fairness_key(ctx) != self.caller_key {
            return None;
        }
        let mut groups = self.groups.lock();
        let (index, group) = groups
            .iter_mut()
            .enumerate()
            .find(|(_, group)| group.remaining > 0 && group.tool_plan.is_charged_like(tool_plan))?;
        group.remaining -= 1;
        Some(PrepaidCall { reserved: self, index, is_spent: false })
    }

    /// Refunds one prepaid call that is charged like `tool_plan`.
    fn release_call(&self, tool_plan: &ToolPlan, ctx: &CallContext) {
        // A call that is spent is not returned to the reservation.
        let Some(SpentCall { index, .. }) = self.take_call(tool_plan, ctx).map(PrepaidCall::spend) else {
            return;
        };
        let group = self.groups.lock().get(index).map(|group| (group.tool_plan.clone(), group.pays.clone()));
        if let Some((tool_plan, pays)) = group {
            self.apply_charge(&tool_plan, &pays, &ReservationCharge::Unused(1));
            self.limiter.observer.on_refund("unused");
        }
    }

    /// Whether a prepaid call is left that was not made.
    pub(super) fn has_remaining(&self) -> bool {
        self.groups.lock().iter().any(|group| group.remaining > 0)
    }

    fn return_call(&self, index: usize) {
        if let Some(group) = self.groups.lock().get_mut(index) {
            group.remaining += 1;
        }
    }
}

impl<'a> PrepaidCall<'a> {
    /// Marks the call as made.
    pub(crate) fn spend(mut self) -> SpentCall<'a> {
        self.is_spent = true;
        SpentCall { reserved: self.reserved, index: self.index }
    }
}

impl SpentCall<'_> {
    /// Charges the difference if the call cost more than was paid, or refunds it if the call cost less.
    pub(crate) fn settle(self, owed: Settlement) {
        let (tool_plan, pays) = {
            let groups = self.reserved.groups.lock();
            let Some(group) = groups.get(self.index) else { return };
            (group.tool_plan.clone(), group.pays.clone())
        };
        self.reserved.apply_charge(&tool_plan, &pays, &ReservationCharge::Settled(owed));
    }

    /// What was paid for a call that waits for its next round; `None` when the reserved group is not known.
    pub(crate) fn paid_round(self) -> Option<PaidRound> {
        let ReservedCalls { caller_key: caller, user, paid_at, groups, .. } = self.reserved;
        let groups = groups.lock();
        let ReservedGroup { tool_plan, pays, .. } = groups.get(self.index)?;
        let (tool_plan, pays) = (tool_plan.clone(), pays.clone());
        Some(PaidRound { caller_key: *caller, user: user.clone(), paid_at: *paid_at, tool_plan, pays })
    }

    /// Returns the call to the reservation, because it certainly did not reach its backend.
    pub(crate) fn return_call(self) {
        self.reserved.return_call(self.index);
    }
}

impl Drop for PrepaidCall<'_> {
    fn drop(&mut self) {
        if !self.is_spent {
            self.reserved.return_call(self.index);
        }
    }
}

impl Drop for ReservedCalls {
    fn drop(&mut self) {
        let left: Vec<ReservedGroup> =
            std::mem::take(self.groups.get_mut()).into_iter().filter(|group| group.remaining > 0).collect();
        if left.is_empty() || !self.refunds_unused {
            return;
        }
        for ReservedGroup { tool_plan, pays, remaining: left } in left {
            self.apply_charge(&tool_plan, &pays, &ReservationCharge::Unused(left));
        }
        self.limiter.observer.on_refund("unused");
    }
}

#[cfg(test)]
mod tests;
