//! Rules in shadow mode refuse no call; what each would have refused is reported by the rule's name.

use std::sync::Arc;

use crate::limiter::observer::DecisionEvent;
use crate::limiter::{LimitedUser, Permit, ToolPlan};
use crate::plan::policy::Mode;
use crate::plan::{PlannedBucket, PlannedSlotLimit};

impl DecisionEvent<'_> {
    fn note_would_refuse(&mut self, rule: &Arc<str>) {
        if !self.would_refuse.contains(rule) {
            self.would_refuse.push(rule.clone());
        }
    }

    /// Reports every rule in shadow mode, because none of them could be asked.
    pub(in crate::limiter) fn note_all_would_refuse(&mut self, tool_plan: &ToolPlan) {
        shadow_rules(tool_plan, |_| true, |_| true).for_each(|rule| self.note_would_refuse(rule));
    }

    /// Reports the rules in shadow mode that would have refused an admitted call.
    pub(in crate::limiter) fn note_shadow_refusals(
        &mut self,
        tool_plan: &ToolPlan,
        user: &LimitedUser,
        permit: &Permit<'_>,
    ) {
        let (buckets, slots) = (&tool_plan.plan.buckets, &tool_plan.plan.slot_limits);
        let of_buckets = permit.unpaid_bucket_indices();
        of_buckets
            .filter_map(|index| buckets.get(index))
            .for_each(|bucket| self.note_would_refuse(&bucket.rule));
        let of_slots = permit.missed_slot_limit_indices();
        of_slots.filter_map(|index| slots.get(index)).for_each(|slots| self.note_would_refuse(&slots.rule));
        if tool_plan.plan.needs_user && user.local.is_none() {
            let own = |bucket: &PlannedBucket| bucket.storage.is_per_user();
            shadow_rules(tool_plan, own, |slots| slots.shared_count.is_none())
                .for_each(|rule| self.note_would_refuse(rule));
        }
    }
}

/// The names of rules in shadow mode.
fn shadow_rules<'a>(
    tool_plan: &'a ToolPlan,
    of_bucket: impl Fn(&PlannedBucket) -> bool + 'a,
    of_slots: impl Fn(&PlannedSlotLimit) -> bool + 'a,
) -> impl Iterator<Item = &'a Arc<str>> {
    let buckets = tool_plan.plan.buckets.iter();
    let buckets = buckets.filter(move |bucket| bucket.mode == Mode::Shadow && of_bucket(bucket));
    let slots = tool_plan.plan.slot_limits.iter();
    let slots = slots.filter(move |slots| slots.mode == Mode::Shadow && of_slots(slots));
    buckets.map(|bucket| &bucket.rule).chain(slots.map(|slots| &slots.rule))
}

impl Permit<'_> {
    /// The indexes of buckets in shadow mode that could not pay, in whichever store they are kept.
    fn unpaid_bucket_indices(&self) -> impl Iterator<Item = usize> {
        let local = self.local.iter().flat_map(|receipt| receipt.charges().would_refuse.iter().copied());
        let leased = self.lease_payment.iter().flat_map(|paid| paid.unpaid_indices());
        let shared = self.paid_batches.iter().flat_map(|batch| {
            let pays = batch.indices.iter().zip(&batch.verdict.pays);
            pays.filter(|(_, pays)| !**pays).map(|(index, _)| *index)
        });
        let fallback_charge =
            self.fallback_charge.iter().flat_map(|fallback_charge| fallback_charge.unpaid_indices());
        local.chain(leased).chain(shared).chain(fallback_charge).chain(self.shadow_unasked.iter().copied())
    }

    /// The indexes of limits on calls in flight in shadow mode that had no free slot.
    fn missed_slot_limit_indices(&self) -> impl Iterator<Item = usize> {
        let local = self.local.iter().flat_map(|receipt| receipt.missed_slot_limit_indices());
        local.chain(self.slot_guard.iter().flat_map(|slot| slot.missed_indices()))
    }
}
