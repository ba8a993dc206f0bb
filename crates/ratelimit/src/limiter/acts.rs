//! What an operator changes by hand: buckets that are filled up again, or given some tokens back.

use std::sync::Arc;

use smallvec::SmallVec;
use vmcp_domain::{CallContext, Caller, Error, ToolList, ToolName};

use super::look::views;
use super::{Arguments, Bound, BucketView, Limiter, Sharing, User};
use crate::clock::Micros;
use crate::plan::{PlannedBucket, Variation};
use crate::remote::{COST_OF_ANY_CALL, Change, Part, parts};
use crate::waiting::needs;

/// What is done to buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// They are full again.
    Reset,
    /// They hold this number of tokens more, up to what they hold when full.
    Grant(u32),
}

impl Act {
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
const ALWAYS: Micros = Micros(1 << 52);

impl Limiter {
    /// Changes buckets of a tool: with a known caller those that are kept for that caller's name and claims, with an anonymous
    /// one those that all callers share. Returns what they hold then. What replicas have taken ahead stays as it is.
    ///
    /// # Errors
    /// [`Error::UnknownTool`] when there is no such tool, [`Error::Denied`] when the caller lacks a claim that limits are kept
    /// for, [`Error::LimitsUnavailable`] when the store does not answer: then it is not known whether anything has changed.
    pub async fn act(
        &self,
        tools: &Arc<ToolList>,
        name: &ToolName,
        ctx: &CallContext,
        act: Act,
    ) -> Result<Vec<BucketView>, Error> {
        let bound = self.bound(tools, name).ok_or_else(|| Error::UnknownTool(name.clone()))?;
        let is_for_one = matches!(ctx.caller, Caller::Known(_));
        let (bound, user) = if is_for_one {
            let bound = self.vary(&bound, ctx, Arguments::Unknown)?;
            let user = self.user(&bound, ctx)?;
            (bound, user)
        } else {
            (self.for_all(&bound), User::default())
        };
        let chosen: SmallVec<[bool; 4]> =
            bound.plan.buckets.iter().map(|bucket| bucket.is_of_one() == is_for_one).collect();
        // What is missing in other sizes of a bucket counts, too.
        self.memory.adopt_sizes(&bound.plan, user.local);
        match &self.sharing {
            None => self.memory.change(&bound.plan, user.local, (&chosen, ALWAYS), |bucket| {
                bucket.rate.units(act.tokens(bucket).unsigned_abs())
            }),
            Some(sharing) => self.act_on_store(sharing, &bound, &user, &chosen, act).await?,
        }
        if self.room.count() > 0 {
            self.room.given_back(self.view(), &needs(&bound.plan, user.local, u64::MAX), true, false);
        }
        let views = views(&bound.plan, self.read(&bound, &user).await?).into_iter().zip(chosen);
        Ok(views.filter(|(_, chosen)| *chosen).map(|(view, _)| view).collect())
    }

    /// The plan of buckets that all callers share, in their present periods.
    fn for_all(&self, bound: &Arc<Bound>) -> Arc<Bound> {
        let variation = Variation { periods: self.periods(bound), ..Variation::default() };
        bound.variant((&self.planner, self.leases.as_deref()), variation, self.clock.now())
    }

    async fn act_on_store(
        &self,
        sharing: &Sharing,
        bound: &Bound,
        user: &User,
        chosen: &[bool],
        act: Act,
    ) -> Result<(), Error> {
        for Part { places, ask } in parts(&bound.plan, self.cut(user, false)) {
            let changes: Vec<Change> = places
                .iter()
                .zip(ask.buckets)
                .filter(|(place, _)| chosen.get(**place) == Some(&true))
                .filter_map(|(place, mut bucket)| {
                    bucket.cost = COST_OF_ANY_CALL;
                    let tokens = -act.tokens(bound.plan.buckets.get(*place)?);
                    Some(Change { bucket, tokens, paid_at: Some(ALWAYS) })
                })
                .collect();
            if !changes.is_empty() {
                sharing.store.change(&changes).await.map_err(|_| Error::LimitsUnavailable)?;
            }
        }
        Ok(())
    }
}
