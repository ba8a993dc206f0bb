//! Manual changes by an operator: filling buckets up, or adding tokens to them.

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

/// What an operator does to buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorAction {
    /// Fills them up.
    Reset,
    /// Adds this number of tokens, up to the capacity.
    Grant(u32),
}

impl OperatorAction {
    /// The number of tokens to add.
    fn tokens(self, bucket: &PlannedBucket) -> i64 {
        match self {
            // Twice the capacity, which fills a bucket even from the deepest debt.
            Self::Reset => i64::try_from(bucket.rate.burst().saturating_mul(2)).unwrap_or(i64::MAX),
            Self::Grant(tokens) => i64::from(tokens),
        }
    }
}

/// The time of a payment that is newer than any other, so that no refund by an operator is too late.
const NEWEST_PAYMENT: Micros = Micros(1 << 52);

impl Limiter {
    /// Changes buckets of a tool. With a known caller it changes the buckets that belong to that caller's
    /// name and claims; with an anonymous caller the buckets that all callers share. Returns their levels
    /// afterwards. Tokens that replicas have leased stay as they are.
    ///
    /// # Errors
    /// [`Error::UnknownTool`] when there is no such tool. [`Error::Denied`] when the caller lacks a claim
    /// that a limit needs. [`Error::LimitsUnavailable`] when the store does not answer: then it is unknown
    /// whether anything has changed.
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
        // Tokens that a bucket lacks under its other sizes count too.
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

    /// The plan of the buckets that all callers share, in their present calendar periods.
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
