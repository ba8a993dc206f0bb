//! Rules on trial: they refuse nobody, and what each would have refused is told by its name.

use std::sync::Arc;

use super::{Bound, Permit, User};
use crate::observer::DecisionEvent;
use crate::plan::{PlannedBucket, PlannedSlots};
use crate::policy::Mode;

impl DecisionEvent<'_> {
    fn would_refuse(&mut self, rule: &Arc<str>) {
        if !self.would_refuse.contains(rule) {
            self.would_refuse.push(rule.clone());
        }
    }

    /// Tells of every rule on trial: what is asked of them could not be asked.
    pub(super) fn all_would_refuse(&mut self, bound: &Bound) {
        on_trial(bound, |_| true, |_| true).for_each(|rule| self.would_refuse(rule));
    }

    /// Tells of the rules on trial that would have refused a call that goes on.
    pub(super) fn tried(&mut self, bound: &Bound, user: &User, permit: &Permit<'_>) {
        let (buckets, slots) = (&bound.plan.buckets, &bound.plan.slots);
        let of_buckets = permit.unpaid();
        of_buckets.filter_map(|place| buckets.get(place)).for_each(|bucket| self.would_refuse(&bucket.rule));
        let of_slots = permit.missed();
        of_slots.filter_map(|place| slots.get(place)).for_each(|slots| self.would_refuse(&slots.rule));
        if bound.plan.needs_user && user.local.is_none() {
            let own = |bucket: &PlannedBucket| bucket.holder.is_per_user();
            on_trial(bound, own, |slots| slots.shared.is_none()).for_each(|rule| self.would_refuse(rule));
        }
    }
}

/// The names of rules on trial.
fn on_trial<'a>(
    bound: &'a Bound,
    of_bucket: impl Fn(&PlannedBucket) -> bool + 'a,
    of_slots: impl Fn(&PlannedSlots) -> bool + 'a,
) -> impl Iterator<Item = &'a Arc<str>> {
    let buckets = bound.plan.buckets.iter();
    let buckets = buckets.filter(move |bucket| bucket.mode == Mode::Shadow && of_bucket(bucket));
    let slots = bound.plan.slots.iter();
    let slots = slots.filter(move |slots| slots.mode == Mode::Shadow && of_slots(slots));
    buckets.map(|bucket| &bucket.rule).chain(slots.map(|slots| &slots.rule))
}

impl Permit<'_> {
    /// The places of buckets in shadow mode that could not pay, wherever they are kept.
    fn unpaid(&self) -> impl Iterator<Item = usize> {
        let local = self.local.iter().flat_map(|receipt| receipt.bill().would_refuse.iter().copied());
        let leased = self.leased.iter().flat_map(|paid| paid.unpaid());
        let shared = self.shared.iter().flat_map(|part| {
            let pays = part.places.iter().zip(&part.verdict.pays);
            pays.filter(|(_, pays)| !**pays).map(|(place, _)| *place)
        });
        let fallen = self.fallen.iter().flat_map(|fallen| fallen.unpaid());
        local.chain(leased).chain(shared).chain(fallen).chain(self.untried.iter().copied())
    }

    /// The places of bounds in shadow mode that had no room.
    fn missed(&self) -> impl Iterator<Item = usize> {
        let local = self.local.iter().flat_map(|receipt| receipt.missed());
        local.chain(self.slot.iter().flat_map(|slot| slot.missed()))
    }
}
