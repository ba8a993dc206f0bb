//! What an operator changes by hand: buckets that are filled up again, or given some tokens back.

pub(crate) mod blocked;

use std::sync::Arc;

use smallvec::SmallVec;
use vmcp_domain::{CallContext, Caller, Error, ToolList, ToolName};

use super::{Arguments, BucketView, LimitedUser, Limiter, Sharing, ToolPlan};
use crate::clock::Micros;
use crate::limiter::inspect::bucket_views;
use crate::plan::{PlannedBucket, Variation};
use crate::queue::needs;
use crate::shared::store::{Adjustment, COST_OF_ANY_CALL, StoreBatch, store_batches};

/// What is done to buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorAction {
    /// They are full again.
    Reset,
    /// They hold this number of tokens more, up to what they hold when full.
    Grant(u32),
}

impl OperatorAction {
    /// In tokens.
    fn tokens(self, bucket: &PlannedBucket) -> i64 {
        match self {
            // Out of the deepest debt.
            Self::Reset => i64::try_from(bucket.rate.burst().saturating_mul(2)).unwrap_or(i64::MAX),
            Self::Grant(tokens) => i64::from(tokens),
        }
    }
}

/// No refund is too late for what an operator gives: the payment is always the newest.
const NEWEST_PAYMENT: Micros = Micros(1 << 52);

impl Limiter {
    /// Changes buckets of a tool: with a known caller those that are kept for that caller's name and claims, with an anonymous
    /// one those that all callers share. Returns what they hold then. What replicas have taken ahead stays as it is.
    ///
    /// # Errors
    /// [`Error::UnknownTool`] when there is no such tool, [`Error::Denied`] when the caller lacks a claim that limits are kept
    /// for, [`Error::LimitsUnavailable`] when the store does not answer: then it is not known whether anything has changed.
    pub async fn apply_action(
        &self,
        tools: &Arc<ToolList>,
        name: &ToolName,
        ctx: &CallContext,
        act: OperatorAction,
    ) -> Result<Vec<BucketView>, Error> {
        let bound = self.tool_plan(tools, name).ok_or_else(|| Error::UnknownTool(name.clone()))?;
        let is_for_one = matches!(ctx.caller, Caller::Known(_));
        let (bound, user) = if is_for_one {
            let bound = self.plan_variant(&bound, ctx, Arguments::Unknown)?;
            let user = self.limited_user(&bound, ctx)?;
            (bound, user)
        } else {
            (self.shared_bucket_plan(&bound), LimitedUser::default())
        };
        let chosen: SmallVec<[bool; 4]> =
            bound.plan.buckets.iter().map(|bucket| bucket.is_individual() == is_for_one).collect();
        // What is missing in other sizes of a bucket counts, too.
        self.memory.merge_sizes(&bound.plan, user.local);
        match &self.sharing {
            None => self.memory.adjust(&bound.plan, user.local, (&chosen, NEWEST_PAYMENT), |bucket| {
                bucket.rate.units(act.tokens(bucket).unsigned_abs())
            }),
            Some(sharing) => self.apply_action_to_store(sharing, &bound, &user, &chosen, act).await?,
        }
        if self.wait_queues.count() > 0 {
            self.wait_queues.notify_release(
                self.wait_context(),
                &needs(&bound.plan, user.local, u64::MAX),
                true,
                false,
            );
        }
        let views =
            bucket_views(&bound.plan, self.bucket_snapshots(&bound, &user).await?).into_iter().zip(chosen);
        Ok(views.filter(|(_, chosen)| *chosen).map(|(view, _)| view).collect())
    }

    /// The plan of buckets that all callers share, in their present periods.
    fn shared_bucket_plan(&self, bound: &Arc<ToolPlan>) -> Arc<ToolPlan> {
        let variation = Variation { periods: self.current_periods(bound), ..Variation::default() };
        bound.variant((&self.planner, self.leases.as_deref()), variation, self.clock.now())
    }

    async fn apply_action_to_store(
        &self,
        sharing: &Sharing,
        bound: &ToolPlan,
        user: &LimitedUser,
        chosen: &[bool],
        act: OperatorAction,
    ) -> Result<(), Error> {
        for StoreBatch { indices: places, request: ask } in
            store_batches(&bound.plan, self.plan_view(user, false))
        {
            let changes: Vec<Adjustment> = places
                .iter()
                .zip(ask.buckets)
                .filter(|(place, _)| chosen.get(**place) == Some(&true))
                .filter_map(|(place, mut bucket)| {
                    bucket.cost = COST_OF_ANY_CALL;
                    let tokens = -act.tokens(bound.plan.buckets.get(*place)?);
                    Some(Adjustment { bucket, tokens, paid_at: Some(NEWEST_PAYMENT) })
                })
                .collect();
            if !changes.is_empty() {
                sharing.store.adjust(&changes).await.map_err(|_| Error::LimitsUnavailable)?;
            }
        }
        Ok(())
    }
}
