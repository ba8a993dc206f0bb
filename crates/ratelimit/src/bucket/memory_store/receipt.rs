//! What an admitted call has paid: refunds, further charges, and the release of its slots.

use smallvec::SmallVec;
use vmcp_timing::Micros;

use super::{MemoryStore, Receipt, lock_shared, release_shared_slots};
use crate::bucket::decide::Charges;
use crate::bucket::low_bucket::LowBucket;
use crate::bucket::rate::{BucketState, Payment};
use crate::bucket::user_key::UserKey;
use crate::plan::policy::Mode;
use crate::plan::{LevelStorage, Plan, PlannedBucket};

impl Receipt<'_> {
    /// The nearly empty bucket to report to the caller, if there is one.
    pub(crate) fn low_bucket(&self) -> Option<LowBucket> {
        self.low_bucket
    }

    /// The user that has paid: the caller, or the shared overflow user if the user table was full.
    pub(crate) fn user(&self) -> Option<UserKey> {
        self.user
    }

    /// When the call paid.
    pub(crate) fn paid_at(&self) -> Micros {
        self.paid_at
    }

    /// What was charged.
    #[must_use]
    pub fn charges(&self) -> &Charges {
        &self.charges
    }

    /// Refunds all tokens, because the call never reached its backend, and releases the slots.
    pub fn refund(self) {
        self.refund_tokens();
    }

    /// Refunds all tokens; the call keeps its slots.
    pub(crate) fn refund_tokens(&self) {
        self.store
            .adjust(self.plan, self.user, (&self.charges.pays, self.paid_at), |bucket| bucket.cost_units);
    }

    /// Refunds `tokens` to every bucket that paid, because the call turned out to cost less. A negative
    /// number charges more. A charge may leave a bucket in debt, at most by its capacity.
    pub fn adjust(&self, tokens: impl Fn(&PlannedBucket) -> i64) {
        let units = |bucket: &PlannedBucket| signed_units(bucket, tokens(bucket));
        self.store.adjust(self.plan, self.user, (&self.charges.pays, self.paid_at), units);
    }

    /// The indices of the slot limits in shadow mode that had no free slot.
    pub(crate) fn missed_slot_limit_indices(&self) -> impl Iterator<Item = usize> {
        self.slots_held.iter().enumerate().filter(|(_, holds)| !**holds).map(|(index, _)| index)
    }
}

/// A signed number of tokens of a bucket, in units.
pub(crate) fn signed_units(bucket: &PlannedBucket, tokens: i64) -> i64 {
    bucket.rate.units(tokens.unsigned_abs()).saturating_mul(tokens.signum())
}

impl MemoryStore {
    /// Refunds units to each bucket of a plan that paid at `paid_at`, or charges them if the number is
    /// negative. No bucket gets more than it would hold in addition if the call had never paid.
    pub(crate) fn adjust(
        &self,
        plan: &Plan,
        user: Option<UserKey>,
        (pays, paid_at): (&[bool], Micros),
        units: impl Fn(&PlannedBucket) -> i64,
    ) {
        let now = self.clock.now();
        let mut entries = self.find_entries(plan, user);
        // A user that was swept out had full buckets, so a refund would add nothing. A charge inserts the
        // user's entry again, so that the debt is kept.
        if plan.buckets.iter().any(|bucket| units(bucket).is_negative()) {
            entries.enforced.ensure_inserted();
            entries.shadow.ensure_inserted();
        }
        let mut shared_buckets = lock_shared(plan);
        let mut next = shared_buckets.iter_mut();
        for (bucket, pays) in plan.buckets.iter().zip(pays) {
            let shared_bucket = match &bucket.storage {
                LevelStorage::Shared(_) => next.next(),
                LevelStorage::User | LevelStorage::ShadowUser => None,
            };
            let units = units(bucket);
            if !pays || units == 0 {
                continue;
            }
            let now = bucket.bucket_time(now);
            // Several calls that were paid together may be refunded at once, so the payment is at least the
            // refund.
            let paid = Payment { units: bucket.cost_units.max(units), at: paid_at };
            let changed = |held: Option<BucketState>| {
                let held = held.unwrap_or_else(|| BucketState::full(&bucket.rate, now));
                held.adjusted(&bucket.rate, paid, units, now)
            };
            let is_shadow = matches!(bucket.storage, LevelStorage::ShadowUser);
            match (shared_bucket, entries.entry_mut(is_shadow).record_mut()) {
                (Some(shared_bucket), _) => **shared_bucket = Some(changed(**shared_bucket)),
                (None, Some(user)) => {
                    let state = user.state(bucket.id);
                    if state.is_some() || units.is_negative() {
                        user.set_state(bucket.id, changed(state));
                    }
                }
                (None, None) => {}
            }
        }
    }
}

impl Receipt<'_> {
    /// Takes the slots out of the receipt, so that dropping it does not release them. For each slot limit of
    /// the plan the flag says whether the call holds a slot. The caller must release them with
    /// [`MemoryStore::release_slots`].
    pub(crate) fn take_slots(&mut self) -> SmallVec<[bool; 2]> {
        std::mem::take(&mut self.slots_held)
    }
}

impl MemoryStore {
    /// Releases the slots of a call. For each slot limit of the plan, `holds` says whether the call holds a
    /// slot.
    pub(crate) fn release_slots(&self, plan: &Plan, user: Option<UserKey>, holds: &[bool]) {
        if !holds.contains(&true) {
            return;
        }
        release_shared_slots(plan, holds);
        let own = |is_shadow: bool| {
            let slots = plan.slot_limits.iter().zip(holds).filter(|(_, holds)| **holds);
            let own = slots.map(|(slots, _)| slots).filter(|slots| slots.shared_count.is_none());
            own.filter(move |slots| (slots.mode == Mode::Shadow) == is_shadow)
        };
        for (is_shadow, users) in [(false, &self.users), (true, &self.shadow_users)] {
            if own(is_shadow).next().is_none() {
                continue;
            }
            if let Some(user) = users.find_entry(user).record_mut() {
                for slots in own(is_shadow) {
                    user.set_in_flight(slots.id, user.in_flight(slots.id).saturating_sub(1));
                }
            }
        }
    }
}

impl Drop for Receipt<'_> {
    fn drop(&mut self) {
        self.store.release_slots(self.plan, self.user, &self.slots_held);
    }
}
