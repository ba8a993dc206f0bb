//! Decisions while the shared store does not answer: by the failure policy, or from this replica's share of
//! every limit.

use std::sync::Arc;

use smallvec::SmallVec;
use vmcp_domain::Error;
use vmcp_timing::Micros;

use super::refusal::rate_limited_error;
use crate::bucket::decide::Wait;
use crate::bucket::memory_store::{AdmitOutcome, signed_units};
use crate::bucket::user_key::UserKey;
use crate::limiter::admission::Refusal;
use crate::limiter::admission::shared_admission::levels_or_full;
use crate::limiter::observer::DecisionEvent;
use crate::limiter::tool_plan::FallbackShare;
use crate::limiter::{LimitedUser, Limiter, Sharing, ToolPlan};
use crate::plan::{PlannedBucket, Settlement};
use crate::shared::fallback::Fallback;
use crate::shared::store::{OnStoreFailure, RemoteBucket, StoreBatch, store_batches};

impl Limiter {
    /// Decides as the failure policy says.
    pub(in crate::limiter) fn decide_without_store(
        &self,
        sharing: &Sharing,
        tool_plan: &ToolPlan,
        user: &LimitedUser,
        event: &mut DecisionEvent<'_>,
    ) -> Result<Option<FallbackCharge>, Refusal> {
        match sharing.on_failure {
            OnStoreFailure::Allow => {
                event.fail_open |= tool_plan.plan.has_enforced();
                Ok(None)
            }
            // A rule in shadow mode refuses no call, whether the store answers or not.
            OnStoreFailure::Deny if !tool_plan.plan.has_enforced() => {
                event.note_all_would_refuse(tool_plan);
                Ok(None)
            }
            OnStoreFailure::Deny => Err(Error::LimitsUnavailable.into()),
            // A replica's share is for single calls as they come.
            OnStoreFailure::Local if tool_plan.is_combined => Err(Error::LimitsUnavailable.into()),
            OnStoreFailure::Local => {
                if let Some(leases) = self.leases.as_ref().filter(|_| !tool_plan.lease_plan.is_empty()) {
                    let (places, held): (SmallVec<[usize; 4]>, SmallVec<[i64; 4]>) =
                        leases.observed_levels(&tool_plan.lease_plan).into_iter().unzip();
                    self.observe_levels(
                        sharing,
                        tool_plan,
                        user.local,
                        &levels_or_full(&tool_plan.plan, &places, &held),
                    );
                }
                let fallback = self.fallback();
                let share =
                    tool_plan.fallback_share(fallback, sharing.replica_count_or_one(), self.clock.now());
                let plan = &share.plan;
                match fallback.store.admit(plan, user.local) {
                    AdmitOutcome::Admitted(receipt) => {
                        let pays: SmallVec<[bool; 4]> = receipt.charges().pays.iter().copied().collect();
                        let mut paid: SmallVec<[RemoteBucket; 4]> = SmallVec::new();
                        for StoreBatch { indices: places, request } in
                            store_batches(&tool_plan.plan, self.plan_view(user, false))
                        {
                            let buckets = places.iter().zip(request.buckets);
                            let pays = buckets.filter(|(place, _)| pays.get(**place) == Some(&true));
                            paid.extend(pays.map(|(_, bucket)| bucket));
                        }
                        let owed = paid.iter().map(|bucket| (bucket, i64::from(bucket.cost)));
                        self.debts.add(owed, &sharing.store);
                        let (user, unpaid) = (receipt.user(), receipt.charges().would_refuse.clone());
                        let paid_at = receipt.paid_at();
                        drop(receipt);
                        let (fallback, share) = (fallback.clone(), share.clone());
                        Ok(Some(FallbackCharge {
                            fallback,
                            share,
                            user,
                            pays,
                            paid_at,
                            unpaid_indices: unpaid,
                            owed_buckets: paid,
                        }))
                    }
                    AdmitOutcome::Refused(refused) => {
                        // A call that costs more than a share can pass again when the store is back.
                        let is_blocked =
                            plan.buckets.get(refused.longest_wait_index).is_some_and(|one| one.is_blocked);
                        let passes_again = refused.wait == Wait::Never && !is_blocked;
                        let wait = if passes_again { Wait::UntilReleased } else { refused.wait };
                        let error = rate_limited_error(tool_plan, plan, refused.longest_wait_index, wait);
                        Err(Refusal::by_buckets(error, plan, &refused.levels))
                    }
                    AdmitOutcome::UserTableFull | AdmitOutcome::SlotsFull(_) => Err(Error::Overloaded.into()),
                }
            }
        }
    }

    fn fallback(&self) -> &Arc<Fallback> {
        let full = || Arc::new(Fallback::new(self.planner.policy(), self.clock.clone()));
        self.fallback.get_or_init(full)
    }

    /// Records the levels that the store reported for the buckets of a plan, in units.
    pub(in crate::limiter) fn observe_levels(
        &self,
        sharing: &Sharing,
        tool_plan: &ToolPlan,
        user: Option<UserKey>,
        levels: &[i64],
    ) {
        if sharing.on_failure == OnStoreFailure::Local && !tool_plan.is_combined {
            let fallback = self.fallback();
            let share = tool_plan.fallback_share(fallback, sharing.replica_count_or_one(), self.clock.now());
            fallback.observe_levels(&share.plan, user, levels);
        }
    }
}

/// The charge of a call that was admitted from this replica's share.
pub(in crate::limiter) struct FallbackCharge {
    fallback: Arc<Fallback>,
    share: Arc<FallbackShare>,
    user: Option<UserKey>,
    /// For each bucket of the share's plan: whether it has paid.
    pays: SmallVec<[bool; 4]>,
    paid_at: Micros,
    /// The indexes of the buckets in shadow mode that could not pay.
    unpaid_indices: SmallVec<[usize; 2]>,
    /// The buckets of the shared store that are owed the cost of the call.
    owed_buckets: SmallVec<[RemoteBucket; 4]>,
}

impl FallbackCharge {
    pub(in crate::limiter) fn unpaid_indices(&self) -> impl Iterator<Item = usize> {
        self.unpaid_indices.iter().copied()
    }
}

impl Limiter {
    /// Charges the tokens of a settlement for such a call, or refunds them where they are negative. `None` is
    /// for a call that did not happen: its whole cost is refunded.
    pub(in crate::limiter) fn adjust_fallback_charge(
        &self,
        fallen: &FallbackCharge,
        owed: Option<&Settlement>,
    ) {
        let FallbackCharge { fallback, share, user, pays, paid_at, owed_buckets: paid, unpaid_indices: _ } =
            fallen;
        let for_all = |tokens: i64| tokens.saturating_mul(i64::from(share.replica_count.max(1)));
        let units = |bucket: &PlannedBucket| {
            owed.map_or(bucket.cost_units, |owed| {
                signed_units(bucket, for_all(-owed.for_bucket(bucket.shadow_rule)))
            })
        };
        fallback.store.adjust(&share.plan, *user, (pays, *paid_at), units);
        if let Some(sharing) = &self.sharing {
            let more = |bucket: &RemoteBucket| {
                owed.map_or(-i64::from(bucket.cost), |owed| owed.for_bucket(bucket.shadow_rule))
            };
            self.debts.add(paid.iter().map(|bucket| (bucket, more(bucket))), &sharing.store);
        }
    }
}
