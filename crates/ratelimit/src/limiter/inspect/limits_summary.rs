//! What is left of the limits on a caller's tools, for the caller to read.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;
use vmcp_domain::{CallContext, Error, Tool, ToolName};
use vmcp_json::{Json, Members};

use crate::bucket::low_bucket::bucket_summary;
use crate::limiter::{LimitedUser, Limiter, ToolPlan};
use crate::plan::policy::Mode;
use crate::plan::{Plan, PlannedBucket};

/// The most limits in one summary: more than a model can use.
const LIMITS_MAX: usize = 100;
/// The most tool names of one limit.
const NAMES_MAX: usize = 50;

/// One limit and the tools that it applies to.
struct LimitSummary<'a> {
    bucket: PlannedBucket,
    tools: Vec<&'a ToolName>,
}

impl Limiter {
    /// Whether callers are offered a resource with what is left of their limits.
    #[must_use]
    pub fn has_limits_resource(&self) -> bool {
        self.planner.policy().remaining_hints.resource
    }

    /// What is left of the limits on these tools: `{limits: [{rule, scope, remaining, capacity, fullInMs,
    /// tokens, periodMs, tools, toolCount}], more}`. Spends nothing. Limits in shadow mode are left out.
    /// Tools that the caller may not call, because of a missing claim or identity, are left out too.
    ///
    /// # Errors
    /// [`Error::LimitsUnavailable`] when the store does not answer.
    pub(crate) async fn limits_summary(&self, tools: &[Tool], ctx: &CallContext) -> Result<Json, Error> {
        let mut summaries: Vec<LimitSummary<'_>> = Vec::new();
        // Two plans that share a bucket have the same key for it.
        let mut indices: HashMap<Arc<str>, usize> = HashMap::new();
        let mut more = false;
        let mut user = LimitedUser::default();
        for tool in tools {
            let is_this = |tool_plan: &&Arc<ToolPlan>| {
                tool_plan.request.tool().is_some_and(|known| known.target == tool.target)
            };
            let known =
                self.list_plans.find_map(|binding| binding.plans.get(&tool.name).filter(is_this).cloned());
            let tool_plan = known
                .unwrap_or_else(|| Arc::new(ToolPlan::for_tool(&self.planner, self.leases.as_deref(), tool)));
            if tool_plan.plan.is_empty() {
                continue;
            }
            let Ok(tool_plan) = self.plan_variant(&tool_plan, ctx, crate::limiter::Arguments::Unknown) else {
                continue;
            };
            match self.limited_user(&tool_plan, ctx) {
                Ok(known) if tool_plan.plan.needs_user => user = known,
                Ok(_) => {}
                Err(_) => continue,
            }
            for bucket in tool_plan.plan.buckets.iter().filter(|bucket| bucket.mode == Mode::Enforce) {
                match indices.get(&bucket.key) {
                    Some(index) => summaries[*index].tools.push(&tool.name),
                    None if summaries.len() >= LIMITS_MAX => more = true,
                    None => {
                        indices.insert(bucket.key.clone(), summaries.len());
                        summaries.push(LimitSummary { bucket: bucket.clone(), tools: vec![&tool.name] });
                    }
                }
            }
        }
        // Buckets of one partition of a shared store are next to each other.
        summaries.sort_by_key(|summaries| summaries.bucket.storage.is_per_user());
        let buckets: Vec<PlannedBucket> =
            summaries.iter().map(|summaries| summaries.bucket.clone()).collect();
        let levels = self.bucket_levels(buckets, &user).await?;
        let limits: Vec<Json> =
            summaries.iter().zip(levels).map(|(summaries, level)| summaries.to_json(level)).collect();
        let mut answer = Members::new();
        answer.insert("limits", Json::array(&limits));
        answer.insert("more", Json::boolean(more));
        Ok(answer.to_json())
    }

    /// The level of each bucket now, in units.
    async fn bucket_levels(
        &self,
        buckets: Vec<PlannedBucket>,
        user: &LimitedUser,
    ) -> Result<Vec<i64>, Error> {
        let plan = |buckets: SmallVec<[PlannedBucket; 4]>| Plan {
            buckets,
            needs_user: true,
            needs_user_entry: true,
            needs_shadow_user_entry: true,
            ..Plan::default()
        };
        let Some(sharing) = &self.sharing else {
            // One bucket at a time: the combined list is in no plan's order, and buckets may only be locked
            // in that order.
            let level = |bucket: PlannedBucket| {
                let full = bucket.rate.capacity();
                let plan = plan(std::iter::once(bucket).collect());
                self.memory.peek(&plan, user.local).first().map_or(full, |snapshot| snapshot.level)
            };
            return Ok(buckets.into_iter().map(level).collect());
        };
        Ok(self.peek_shared(sharing, &plan(buckets.into()), user).await?.into_vec())
    }
}

impl LimitSummary<'_> {
    fn to_json(&self, level: i64) -> Json {
        let whole = |number: u128| Json::integer(i64::try_from(number).unwrap_or(i64::MAX));
        let (tokens, period) = self.bucket.rate.configured();
        let names = self.tools.iter().take(NAMES_MAX).map(|name| Json::string(name.as_str()));
        let mut summaries = bucket_summary(&self.bucket, level);
        summaries.insert("tokens", whole(tokens.into()));
        summaries.insert("periodMs", whole(period.as_millis()));
        summaries.insert("tools", Json::array(&names.collect::<Vec<_>>()));
        summaries.insert("toolCount", whole(self.tools.len() as u128));
        summaries.to_json()
    }
}
