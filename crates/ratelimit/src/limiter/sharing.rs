//! Paying where replicas share buckets: out of what is held here, by the store, or by this replica's share of every limit
//! while the store is away.

use std::sync::Arc;

use smallvec::SmallVec;
use vmcp_domain::Error;

use super::binding::Share;
use super::patient::Denial;
use super::refusal::{refusal, shared_refusal};
use super::{Bound, Limiter, PaidPart, Permit, Sharing, User};
use crate::clock::{Clock, Micros};
use crate::decide::Wait;
use crate::fallback::Fallback;
use crate::lease::Denied;
use crate::memory::{Claim, signed_units};
use crate::observer::DecisionEvent;
use crate::plan::{Owed, Plan, PlannedBucket};
use crate::policy::{Consistency, Mode};
use crate::remote::{
    Ask, Cut, OnStoreFailure, Part, RemoteBucket, RemoteVerdict, SlotPart, StoreFailure, parts,
};
use crate::slots::{Entered, Slots};
use crate::table::UserKey;

/// What is asked of the store in one exchange: the bounds and buckets of one home.
struct Question {
    slots: Option<SlotPart>,
    places: SmallVec<[usize; 4]>,
    ask: Ask,
}

impl Question {
    fn home(&self) -> Option<&Arc<str>> {
        let bucket = self.ask.buckets.first().map(|bucket| &bucket.home);
        let slots = self.slots.iter().flat_map(|part| part.slots.first()).map(|slots| &slots.home);
        bucket.or(slots.into_iter().next()).and_then(Option::as_ref)
    }

    /// Whether nothing of it refuses.
    fn is_on_trial(&self) -> bool {
        self.ask.buckets.iter().all(|bucket| bucket.mode == Mode::Shadow)
            && self.slots.as_ref().is_none_or(SlotPart::is_on_trial)
    }
}

impl Limiter {
    pub(super) async fn admit_shared<'a>(
        &'a self,
        sharing: &'a Sharing,
        bound: &'a Bound,
        user: &User,
        now: Micros,
        event: &mut DecisionEvent<'_>,
    ) -> Result<Permit<'a>, Denial> {
        let mut permit = self.permit(bound, user.local);
        permit.bell.shared = !bound.plan.slots.is_empty() && sharing.count() > 1;
        if !bound.plan.slots.is_empty() {
            self.refuse_full(bound, user)?;
            self.refuse_known(sharing, bound, user)?;
            permit.slot = self.slots.as_ref().map(Slots::begin);
        }
        match self.pay_shared(sharing, bound, user, &mut permit).await {
            Ok(()) => {
                if let Some(paid) = &mut permit.leased {
                    paid.keep();
                }
            }
            Err(Unpaid::Denied(denial)) => {
                self.take_back(sharing, &permit).await;
                return Err(denial);
            }
            Err(Unpaid::Failed(failure)) => {
                self.observer.store_failed(failure);
                // What was paid already stays paid: the store that would have to be asked does not answer.
                permit.leased = None;
                permit.shared.clear();
                if let Some(slot) = &mut permit.slot {
                    self.hold_without_store(sharing, bound, user, slot, event)?;
                }
                if !bound.plan.buckets.is_empty() {
                    permit.fallen = self.without_store(sharing, bound, user, event)?.map(Box::new);
                }
            }
        }
        // What this replica has in flight itself, which others here see without asking.
        match self.admit_here((bound, &bound.slots), user.local, now) {
            Ok(mut here) => permit.local = here.local.take(),
            Err(denial) => {
                self.take_back(sharing, &permit).await;
                return Err(denial);
            }
        }
        (permit.bell.admitted, permit.bell.places) = (true, true);
        Ok(permit)
    }

    /// Gives back what a call has paid to the store that is refused all the same.
    async fn take_back(&self, sharing: &Sharing, permit: &Permit<'_>) {
        let paid = permit.shared.iter().flat_map(|part| part.changes(|bucket| -i64::from(bucket.cost)));
        self.change_shared(sharing, paid.collect()).await;
    }

    /// Refuses a call that is certain to lack tokens before it asks. Spends nothing.
    pub(super) fn refuse_known(&self, sharing: &Sharing, bound: &Bound, user: &User) -> Result<(), Denial> {
        for Part { places, ask } in parts(&bound.plan, self.cut(user, true)) {
            if let Some(verdict) = sharing.store.known_refusal(&ask) {
                return Err(short(bound, &all_levels(&bound.plan, &places, &verdict.levels), &*self.clock));
            }
        }
        Ok(())
    }

    /// The questions about a plan. The caller's own buckets come first: what others share is taken from nobody for a call that
    /// these refuse.
    fn questions(&self, bound: &Bound, user: &User) -> SmallVec<[Question; 2]> {
        let of_buckets = |Part { places, ask }: Part| Question { slots: None, places, ask };
        let mut questions: SmallVec<[Question; 2]> =
            parts(&bound.plan, self.cut(user, true)).into_iter().map(of_buckets).collect();
        for part in self.slot_parts(bound, user) {
            let home = part.slots.first().and_then(|slots| slots.home.clone());
            match questions.iter_mut().find(|question| question.home() == home.as_ref()) {
                Some(question) => question.slots = Some(part),
                None => questions.push(Question {
                    slots: Some(part),
                    places: SmallVec::new(),
                    ask: Ask { buckets: SmallVec::new() },
                }),
            }
        }
        questions.sort_by_key(|question| question.home().is_none());
        questions
    }

    /// Pays all shared buckets and takes all slots, first the buckets of which tokens are held here: what is not spent then is put
    /// back at once.
    async fn pay_shared<'a>(
        &'a self,
        sharing: &'a Sharing,
        bound: &'a Bound,
        user: &User,
        permit: &mut Permit<'a>,
    ) -> Result<(), Unpaid> {
        let begun = self.clock.now();
        if let Some(leases) = self.leases.as_ref().filter(|_| !bound.leased.is_empty()) {
            match leases.admit(&bound.leased).await {
                Ok(paid) => permit.leased = Some(paid),
                Err(Denied::Failed(failure)) => return Err(Unpaid::Failed(failure)),
                Err(Denied::Short(place, wait)) => {
                    return Err(Unpaid::Denied(Denial::by_leased(bound, place, wait)));
                }
            }
        }
        for question in self.questions(bound, user) {
            let verdict = match self.put(sharing, bound, user, &question, permit).await {
                Ok(verdict) => verdict,
                // What is on trial does not send a call that has paid otherwise to the policy for failures.
                Err(Unpaid::Failed(failure)) if bound.plan.enforces() && question.is_on_trial() => {
                    self.observer.store_failed(failure);
                    if let (Some(slot), Some(part)) = (&mut permit.slot, question.slots) {
                        sharing.hold_on_trial(slot, part);
                    }
                    if sharing.on_failure == OnStoreFailure::Deny {
                        permit.untried.extend(question.places);
                    }
                    continue;
                }
                // This replica's own queue is no failure of the store, and opens no way around the limits.
                Err(Unpaid::Failed(StoreFailure::Overloaded)) if bound.plan.enforces() => {
                    return Err(Unpaid::Denied(Error::Overloaded.into()));
                }
                Err(unpaid) => return Err(unpaid),
            };
            let Question { places, ask, .. } = question;
            let levels = all_levels(&bound.plan, &places, &verdict.levels);
            self.learn(sharing, bound, user.local, &levels);
            permit.know(&places, &levels);
            if !verdict.admitted {
                return Err(Unpaid::Denied(short(bound, &levels, &*self.clock)));
            }
            if !ask.buckets.is_empty() {
                permit.shared.push(PaidPart { places, ask, verdict });
            }
        }
        match &self.slots {
            Some(slots) if bound.plan.enforces_slots() => slots.confirm(begun).map_err(Unpaid::Failed),
            _ => Ok(()),
        }
    }

    /// Puts one question to the store. A verdict that does not admit is one about buckets.
    async fn put(
        &self,
        sharing: &Sharing,
        bound: &Bound,
        user: &User,
        question: &Question,
        permit: &mut Permit<'_>,
    ) -> Result<RemoteVerdict, Unpaid> {
        let (Some(slots), Some(slot), Some(part)) = (&self.slots, &mut permit.slot, &question.slots) else {
            return sharing.store.admit(&question.ask).await.map_err(Unpaid::Failed);
        };
        match slots.enter(slot, part, &question.ask).await {
            Ok(Entered::Admitted(verdict) | Entered::Short(verdict)) => Ok(verdict),
            Ok(Entered::Busy(place)) => Err(Unpaid::Denied(self.full_elsewhere(bound, user, place))),
            // Nothing was sent. A store that may have forgotten its slots still answers for the buckets.
            Err(StoreFailure::Resting) if part.is_on_trial() => {
                sharing.hold_on_trial(slot, part.clone());
                if question.ask.buckets.is_empty() {
                    return Ok(RemoteVerdict::of_nothing());
                }
                sharing.store.admit(&question.ask).await.map_err(Unpaid::Failed)
            }
            Err(failure) => Err(Unpaid::Failed(failure)),
        }
    }

    /// How plans are asked about.
    pub(super) fn cut<'u>(&self, user: &'u User, without_leased: bool) -> Cut<'u> {
        let split = matches!(self.planner.policy().consistency, Consistency::Split(_));
        Cut {
            user: user.shared.as_ref(),
            split,
            without_leased: without_leased && self.leases.is_some(),
            former: self.sharing.as_ref().is_some_and(|sharing| self.has_former(sharing)),
        }
    }

    /// Whether buckets may have levels under former keys.
    pub(super) fn has_former(&self, sharing: &Sharing) -> bool {
        sharing.store.key_age().is_none_or(|age| age < self.longest_debt)
    }

    /// Decides as the failure policy says.
    fn without_store(
        &self,
        sharing: &Sharing,
        bound: &Bound,
        user: &User,
        event: &mut DecisionEvent<'_>,
    ) -> Result<Option<Fallen>, Denial> {
        match sharing.on_failure {
            OnStoreFailure::Allow => {
                event.fail_open |= bound.plan.enforces();
                Ok(None)
            }
            // What is only on trial refuses nobody, whether the store answers or not.
            OnStoreFailure::Deny if !bound.plan.enforces() => {
                event.all_would_refuse(bound);
                Ok(None)
            }
            OnStoreFailure::Deny => Err(Error::LimitsUnavailable.into()),
            // A replica's share is for calls as they come.
            OnStoreFailure::Local if bound.is_joint => Err(Error::LimitsUnavailable.into()),
            OnStoreFailure::Local => {
                if let Some(leases) = self.leases.as_ref().filter(|_| !bound.leased.is_empty()) {
                    let (places, held): (SmallVec<[usize; 4]>, SmallVec<[i64; 4]>) =
                        leases.levels(&bound.leased).into_iter().unzip();
                    self.learn(sharing, bound, user.local, &all_levels(&bound.plan, &places, &held));
                }
                let fallback = self.fallback();
                let share = bound.share(fallback, sharing.count(), self.clock.now());
                let plan = &share.plan;
                match fallback.store.admit(plan, user.local) {
                    Claim::Admitted(receipt) => {
                        let pays: SmallVec<[bool; 4]> = receipt.bill().pays.iter().copied().collect();
                        let mut paid: SmallVec<[RemoteBucket; 4]> = SmallVec::new();
                        for Part { places, ask } in parts(&bound.plan, self.cut(user, false)) {
                            let buckets = places.iter().zip(ask.buckets);
                            let pays = buckets.filter(|(place, _)| pays.get(**place) == Some(&true));
                            paid.extend(pays.map(|(_, bucket)| bucket));
                        }
                        let owed = paid.iter().map(|bucket| (bucket, i64::from(bucket.cost)));
                        self.debts.change(owed, &sharing.store);
                        let (user, unpaid) = (receipt.user(), receipt.bill().would_refuse.clone());
                        let paid_at = receipt.paid_at();
                        drop(receipt);
                        let (fallback, share) = (fallback.clone(), share.clone());
                        Ok(Some(Fallen { fallback, share, user, pays, paid_at, unpaid, paid }))
                    }
                    Claim::Refused(refused) => {
                        // A call that is dearer than a share can pass again when the store is back.
                        let is_blocked = plan.buckets.get(refused.binding).is_some_and(|one| one.is_blocked);
                        let passes_again = refused.wait == Wait::Never && !is_blocked;
                        let wait = if passes_again { Wait::UntilReleased } else { refused.wait };
                        let error = refusal(bound, plan, refused.binding, wait);
                        Err(Denial::by_buckets(error, plan, &refused.levels))
                    }
                    Claim::Full | Claim::Busy(_) => Err(Error::Overloaded.into()),
                }
            }
        }
    }

    fn fallback(&self) -> &Arc<Fallback> {
        let full = || Arc::new(Fallback::new(self.planner.policy(), self.clock.clone()));
        self.fallback.get_or_init(full)
    }

    /// Notes what the store said that the buckets of a plan hold, in units.
    fn learn(&self, sharing: &Sharing, bound: &Bound, user: Option<UserKey>, levels: &[i64]) {
        if sharing.on_failure == OnStoreFailure::Local && !bound.is_joint {
            let fallback = self.fallback();
            let share = bound.share(fallback, sharing.count(), self.clock.now());
            fallback.learn(&share.plan, user, levels);
        }
    }
}

/// A call that was admitted out of this replica's share.
pub(super) struct Fallen {
    fallback: Arc<Fallback>,
    share: Arc<Share>,
    user: Option<UserKey>,
    /// For each bucket of the share's plan: whether it has paid.
    pays: SmallVec<[bool; 4]>,
    paid_at: Micros,
    /// The places of the buckets in shadow mode that could not pay.
    unpaid: SmallVec<[usize; 2]>,
    /// What the store is owed for it.
    paid: SmallVec<[RemoteBucket; 4]>,
}

impl Fallen {
    pub(super) fn unpaid(&self) -> impl Iterator<Item = usize> {
        self.unpaid.iter().copied()
    }
}

impl Limiter {
    /// Charges so many tokens more for such a call, or fewer where they are less than none; `None` for a call that did not
    /// happen, which costs nothing.
    pub(super) fn change_fallen(&self, fallen: &Fallen, owed: Option<&Owed>) {
        let Fallen { fallback, share, user, pays, paid_at, paid, unpaid: _ } = fallen;
        let for_all = |tokens: i64| tokens.saturating_mul(i64::from(share.replica_count.max(1)));
        let units = |bucket: &PlannedBucket| {
            owed.map_or(bucket.cost_units, |owed| signed_units(bucket, for_all(-owed.of(bucket.trial))))
        };
        fallback.store.change(&share.plan, *user, (pays, *paid_at), units);
        if let Some(sharing) = &self.sharing {
            let more =
                |bucket: &RemoteBucket| owed.map_or(-i64::from(bucket.cost), |owed| owed.of(bucket.trial));
            self.debts.change(paid.iter().map(|bucket| (bucket, more(bucket))), &sharing.store);
        }
    }
}

impl Permit<'_> {
    /// Notes what the store said of some buckets of the plan; of the others `levels` says that they are full.
    fn know(&mut self, places: &[usize], levels: &SmallVec<[i64; 4]>) {
        let known = self.known.get_or_insert_with(|| levels.clone());
        for place in places {
            if let (Some(known), Some(level)) = (known.get_mut(*place), levels.get(*place)) {
                *known = *level;
            }
        }
    }
}

/// The refusal by buckets that hold so much.
fn short(bound: &Bound, levels: &[i64], clock: &dyn Clock) -> Denial {
    Denial::by_buckets(shared_refusal(bound, levels, clock), &bound.plan, levels)
}

/// Why the shared buckets of a call are not paid.
enum Unpaid {
    /// One of them cannot pay.
    Denied(Denial),
    /// The store does not answer.
    Failed(StoreFailure),
}

/// What every bucket of a plan holds, where only some are known: of the others nobody has said that they are not full.
pub(super) fn all_levels(plan: &Plan, places: &[usize], levels: &[i64]) -> SmallVec<[i64; 4]> {
    let mut all: SmallVec<[i64; 4]> = plan.buckets.iter().map(|bucket| bucket.rate.capacity()).collect();
    for (place, level) in places.iter().zip(levels) {
        if let Some(known) = all.get_mut(*place) {
            *known = *level;
        }
    }
    all
}
