//! Manual changes by an operator: filling buckets up, or adding tokens to them.

pub(crate) mod blocked;

use std::sync::Arc;

use smallvec::SmallVec;
use vmcp_domain::{CallContext, Caller, Error, ToolList, ToolName};
use vmcp_timing::Micros;

use super::{Arguments, BucketView, LimitedUser, Limiter, Sharing, ToolPlan};
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
    /// [`Error::UnknownTool`] when there is no such tool. [`Error::IdentityRequired`] when the caller lacks a claim
    /// that a limit needs. [`Error::LimitsUnavailable`] when the store does not answer: then it is unknown
    /// whether anything has changed.
    pub async fn apply_action(
        &self,
        tools: &Arc<ToolList>,
        name: &ToolName,
        ctx: &CallContext,
        action: OperatorAction,
    ) -> Result<Vec<BucketView>, Error> {
        let tool_plan = self.any_tool_plan(tools, name).ok_or_else(|| Error::UnknownTool(name.clone()))?;
        let is_for_one = matches!(ctx.caller, Caller::Known(_));
        let (tool_plan, user) = if is_for_one {
            let tool_plan = self.plan_variant(&tool_plan, ctx, Arguments::Unknown)?;
            let user = self.limited_user(&tool_plan, ctx)?;
            (tool_plan, user)
        } else {
            (self.shared_bucket_plan(&tool_plan), LimitedUser::default())
        };
        let chosen: SmallVec<[bool; 4]> =
            tool_plan.plan.buckets.iter().map(|bucket| bucket.is_individual() == is_for_one).collect();
        // Tokens that a bucket lacks under its other sizes count too.
        self.memory.merge_sizes(&tool_plan.plan, user.local);
        match &self.sharing {
            None => self.memory.adjust(&tool_plan.plan, user.local, (&chosen, NEWEST_PAYMENT), |bucket| {
                bucket.rate.units(action.tokens(bucket).unsigned_abs())
            }),
            Some(sharing) => self.apply_action_to_store(sharing, &tool_plan, &user, &chosen, action).await?,
        }
        if self.wait_queues.count() > 0 {
            self.wait_queues.notify_release(
                self.wait_context(),
                &needs(&tool_plan.plan, user.local, u64::MAX),
                true,
                false,
            );
        }
        let views = bucket_views(&tool_plan.plan, self.bucket_snapshots(&tool_plan, &user).await?)
            .into_iter()
            .zip(chosen);
        Ok(views.filter(|(_, chosen)| *chosen).map(|(view, _)| view).collect())
    }

    /// The plan of the buckets that all callers share, in their present calendar periods.
    fn shared_bucket_plan(&self, tool_plan: &Arc<ToolPlan>) -> Arc<ToolPlan> {
        let variation = Variation { periods: self.current_periods(tool_plan), ..Variation::default() };
        tool_plan.variant((&self.planner, self.leases.as_deref()), variation, self.clock.now())
    }

    async fn apply_action_to_store(
        &self,
        sharing: &Sharing,
        tool_plan: &ToolPlan,
        user: &LimitedUser,
        chosen: &[bool],
        action: OperatorAction,
    ) -> Result<(), Error> {
        for StoreBatch { indices, request } in store_batches(&tool_plan.plan, self.plan_view(user, false)) {
            let changes: Vec<Adjustment> = indices
                .iter()
                .zip(request.buckets)
                .filter(|(index, _)| chosen.get(**index) == Some(&true))
                .filter_map(|(index, mut bucket)| {
                    bucket.cost = COST_OF_ANY_CALL;
                    let tokens = -action.tokens(tool_plan.plan.buckets.get(*index)?);
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
