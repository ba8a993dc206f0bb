//! Inspection without spending: which rules apply to a tool, and what its buckets hold.

pub(crate) mod limits_summary;
pub(crate) mod rule_views;
pub(crate) mod status;
pub(crate) mod top_callers;

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use vmcp_domain::{CallContext, Error, LimitScope, RateLimit, ToolList, ToolName};

use super::{Arguments, LimitedUser, Limiter, Sharing, ToolPlan, levels_or_full};
use crate::bucket::decide::{BucketSnapshot, Wait};
use crate::limiter::admission::refusal::bucket_rate_limit;
use crate::limiter::inspect::top_callers::TopCaller;
use crate::plan::policy::Mode;
use crate::plan::{Plan, PlannedBucket, PlannedSlotLimit};
use crate::shared::lease::LeaseCounts;
use crate::shared::store::{StoreBatch, store_batches};

/// The state of one bucket for one caller, for people to read.
#[derive(Clone, Debug)]
pub struct BucketView {
    /// The rule as the configuration names it.
    pub rule: String,
    /// Its scope: which callers and tools share it.
    pub scope: LimitScope,
    /// The configured tokens and the period in which they refill.
    pub allowance: (u64, Duration),
    /// The tokens that it holds when full.
    pub capacity: u64,
    /// The whole tokens that it holds now.
    pub level: u64,
    /// The tokens that it lacks until it is empty, rounded up; zero unless it is in debt.
    pub debt: u64,
    /// The cost of a call, in tokens.
    pub cost: u64,
    /// How long until it can pay for a call.
    pub wait: Wait,
    /// Whether it refuses or only counts (shadow mode).
    pub mode: Mode,
    /// The percentage of callers that it refuses calls of; `None` for all callers.
    pub percent: Option<u8>,
    /// How long a call waits for it before it is refused.
    pub wait_max: Duration,
    /// The period of a calendar quota, as `day (Europe/Berlin, from 00:00)`.
    pub period: Option<String>,
    /// The tokens by which any window may exceed it because replicas lease tokens; `None` where they do not.
    pub lease_excess: Option<u64>,
}

/// One limit on calls in flight, for people to read.
#[derive(Clone, Debug)]
pub struct SlotLimitView {
    /// The rule as the configuration names it.
    pub rule: String,
    /// Its scope: which callers and tools share it.
    pub scope: LimitScope,
    /// The most calls in flight.
    pub count_max: u32,
    /// Whether it refuses or only counts (shadow mode).
    pub mode: Mode,
    /// How long a call waits for it before it is refused.
    pub wait_max: Duration,
    /// How long the store keeps the slots of a replica after its last report; `None` where this process
    /// counts alone.
    pub lease: Option<Duration>,
    /// The number of calls in flight under it, where the store was asked.
    pub in_flight: Option<u32>,
}

impl Limiter {
    /// The level of every bucket of a tool for a caller. Spends nothing.
    ///
    /// # Errors
    /// [`Error::UnknownTool`] when there is no such tool. [`Error::IdentityRequired`] when the caller lacks a claim or
    /// an identity that an enforced limit needs. [`Error::LimitsUnavailable`] when the store does not answer.
    pub async fn peek(
        &self,
        tools: &Arc<ToolList>,
        name: &ToolName,
        ctx: &CallContext,
    ) -> Result<Vec<BucketView>, Error> {
        let tool_plan = self.any_tool_plan(tools, name).ok_or_else(|| Error::UnknownTool(name.clone()))?;
        let tool_plan = self.plan_variant(&tool_plan, ctx, Arguments::Unknown)?;
        let user = self.limited_user(&tool_plan, ctx)?;
        Ok(bucket_views(&tool_plan.plan, self.bucket_snapshots(&tool_plan, &user).await?))
    }

    /// The refusal that a call would get now, or `None` when its buckets would let it pass, if need be after
    /// the wait that they allow. Calls in flight and wait queues are left out, because they change with every
    /// call that ends. Spends nothing.
    ///
    /// # Errors
    /// As [`Limiter::peek`].
    pub async fn check_availability(
        &self,
        tools: &Arc<ToolList>,
        name: &ToolName,
        ctx: &CallContext,
    ) -> Result<Option<RateLimit>, Error> {
        let tool_plan = self.any_tool_plan(tools, name).ok_or_else(|| Error::UnknownTool(name.clone()))?;
        let tool_plan = self.plan_variant(&tool_plan, ctx, Arguments::Unknown)?;
        if tool_plan.plan.buckets.is_empty() {
            return Ok(None);
        }
        let user = self.limited_user(&tool_plan, ctx)?;
        let snapshots = self.bucket_snapshots(&tool_plan, &user).await?;
        let enforced =
            |(bucket, snapshot): (&PlannedBucket, &BucketSnapshot)| match (snapshot.mode, snapshot.wait()) {
                (Mode::Shadow, _) => Wait::None,
                (Mode::Enforce, Wait::Micros(wait)) if wait <= bucket.wait_max => Wait::None,
                (Mode::Enforce, wait) => wait,
            };
        let waits: Vec<Wait> = tool_plan.plan.buckets.iter().zip(&snapshots).map(enforced).collect();
        let waits = waits.into_iter().enumerate();
        let longest = waits.rev().max_by_key(|(_, wait)| *wait).filter(|(_, wait)| *wait != Wait::None);
        Ok(longest.map(|(index, wait)| bucket_rate_limit(&tool_plan, &tool_plan.plan, index, wait)))
    }

    /// A snapshot of every bucket of a plan for a user, from this process or from the shared store.
    pub(super) async fn bucket_snapshots(
        &self,
        tool_plan: &ToolPlan,
        user: &LimitedUser,
    ) -> Result<Vec<BucketSnapshot>, Error> {
        let Some(sharing) = &self.sharing else {
            return Ok(self.memory.peek(&tool_plan.plan, user.local));
        };
        let levels = self.peek_shared(sharing, &tool_plan.plan, user).await?;
        let snapshot = |(bucket, level): (&PlannedBucket, i64)| bucket.snapshot(level, &*self.clock);
        Ok(tool_plan.plan.buckets.iter().zip(levels).map(snapshot).collect())
    }

    /// The level of every bucket of a plan in the shared store, in units.
    pub(super) async fn peek_shared(
        &self,
        sharing: &Sharing,
        plan: &Plan,
        user: &LimitedUser,
    ) -> Result<SmallVec<[i64; 4]>, Error> {
        let mut levels = levels_or_full(plan, &[], &[]);
        for StoreBatch { indices, request } in store_batches(plan, self.plan_view(user, false)) {
            let store_levels = sharing.store.peek(&request).await.map_err(|_| Error::LimitsUnavailable)?;
            for (index, level) in indices.iter().zip(store_levels) {
                if let Some(known) = levels.get_mut(*index) {
                    *known = level;
                }
            }
        }
        Ok(levels)
    }

    /// The same for buckets of this process, of the tools that the limiter saw last. `None` when the tool is
    /// not among them, the limits refuse the caller for lack of a claim or an identity, or the buckets are
    /// shared.
    #[must_use]
    pub fn peek_local(&self, name: &ToolName, ctx: &CallContext) -> Option<Vec<BucketView>> {
        let of_lists = self.list_plans.find_map(|binding| binding.plans.get(name).cloned());
        let tool_plan = of_lists.or_else(|| self.virtual_plans.load().get(name).cloned())?;
        let tool_plan = self.plan_variant(&tool_plan, ctx, Arguments::Unknown).ok()?;
        let user = self.limited_user(&tool_plan, ctx).ok()?;
        self.sharing
            .is_none()
            .then(|| bucket_views(&tool_plan.plan, self.memory.peek(&tool_plan.plan, user.local)))
    }

    /// Waits until the shared store answers, for `timeout` at most, and returns whether it does; true
    /// without a store. A process that decides before it has ever reached the store would hand out a budget
    /// of its own, so it calls this first.
    pub async fn wait_connected(&self, timeout: Duration) -> bool {
        let Some(sharing) = &self.sharing else { return true };
        wait_until(timeout, || sharing.store.is_available()).await
    }

    /// Waits until every charge that was admitted without the store is written back, and the store knows of
    /// every call that has ended; for `timeout` at most. Returns whether that is done. For the end of a
    /// process: debts that remain then are lost, and slots that remain are released when their lease expires.
    pub async fn wait_settled(&self, timeout: Duration) -> bool {
        let slots_settled = || self.shared_slots.as_ref().is_none_or(|slots| slots.is_settled());
        let settled = || self.pending_settlements.is_empty() && self.debts.is_settled() && slots_settled();
        wait_until(timeout, settled).await
    }

    /// Returns the tokens that this replica has leased, within `timeout`. For the end of a process, when no
    /// more calls are made.
    pub async fn return_leases(&self, timeout: Duration) {
        if let Some(leases) = &self.leases {
            // Tokens that are not returned in time are lost, as at the end of their lease.
            let _ = tokio::time::timeout(timeout, leases.return_all()).await;
        }
    }

    /// The tokens that this replica has leased; `None` where it leases none.
    #[must_use]
    pub fn lease_counts(&self) -> Option<LeaseCounts> {
        self.leases.as_ref().map(|leases| leases.counts())
    }

    /// The number of calls of this replica that hold shared slots or ask for them; `None` where each process
    /// counts its calls in flight alone.
    #[must_use]
    pub fn slots_held(&self) -> Option<usize> {
        self.shared_slots.as_ref().map(|slots| slots.count())
    }

    /// The users who have called limited tools most, the busiest first.
    #[must_use]
    pub fn top_callers(&self) -> Vec<TopCaller> {
        self.top_callers.list()
    }

    /// The limits on calls in flight that apply to a tool.
    #[must_use]
    pub fn slot_limits(&self, tools: &Arc<ToolList>, name: &ToolName) -> Vec<SlotLimitView> {
        self.any_tool_plan(tools, name).map_or_else(Vec::new, |tool_plan| self.slot_limit_views(&tool_plan))
    }

    pub(super) fn slot_limit_views(&self, tool_plan: &ToolPlan) -> Vec<SlotLimitView> {
        let lease = self.sharing.as_ref().map(|sharing| sharing.slot_lease);
        let view = |slots: &PlannedSlotLimit| SlotLimitView {
            rule: slots.rule.to_string(),
            scope: slots.scope,
            count_max: slots.count_max.get(),
            mode: slots.mode,
            wait_max: Duration::from_micros(slots.wait_max),
            lease,
            in_flight: None,
        };
        tool_plan.plan.slot_limits.iter().map(view).collect()
    }

    /// The same with the number of calls in flight of all replicas, for one caller. Takes no slot.
    ///
    /// # Errors
    /// As [`Limiter::peek`].
    pub async fn slot_limits_with_counts(
        &self,
        tools: &Arc<ToolList>,
        name: &ToolName,
        ctx: &CallContext,
    ) -> Result<Vec<SlotLimitView>, Error> {
        let tool_plan = self.any_tool_plan(tools, name).ok_or_else(|| Error::UnknownTool(name.clone()))?;
        let user = self.limited_user(&tool_plan, ctx)?;
        let mut views = self.slot_limits(tools, name);
        let Some(sharing) = &self.sharing else { return Ok(views) };
        for batch in self.slot_batches(&tool_plan, &user) {
            let counts = sharing.store.count(&batch.limits).await.map_err(|_| Error::LimitsUnavailable)?;
            for (index, count) in batch.indices.iter().zip(counts) {
                if let Some(view) = views.get_mut(*index) {
                    view.in_flight = Some(count);
                }
            }
        }
        Ok(views)
    }

    /// Computes the plans of a list of tools before the first call needs them, and returns the rules that
    /// match none of the tools.
    #[must_use]
    pub fn prepare(&self, tools: &Arc<ToolList>) -> Vec<String> {
        if let Some(first) = tools.first() {
            let _ = self.tool_plan(tools, &first.name);
        }
        self.unmatched_rules(tools).into_iter().map(|rule| rule.name).collect()
    }
}

pub(super) fn bucket_views(plan: &Plan, snapshots: Vec<BucketSnapshot>) -> Vec<BucketView> {
    let view = |(bucket, snapshot): (&PlannedBucket, BucketSnapshot)| BucketView {
        rule: bucket.rule.to_string(),
        scope: bucket.scope,
        allowance: bucket.rate.configured(),
        capacity: bucket.rate.burst(),
        level: bucket.rate.tokens(snapshot.level),
        debt: u64::try_from(-snapshot.level).unwrap_or(0).div_ceil(bucket.rate.unit()),
        cost: u64::from(bucket.cost.get()),
        wait: snapshot.wait(),
        mode: bucket.mode,
        percent: bucket.percent.map(std::num::NonZeroU8::get),
        wait_max: Duration::from_micros(bucket.wait_max),
        period: bucket.calendar_period.as_ref().map(|resets| resets.calendar.to_string()),
        lease_excess: bucket.lease_excess,
    };
    plan.buckets.iter().zip(snapshots).map(view).collect()
}

/// The interval for polling a state that has no notification.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

async fn wait_until(timeout: Duration, done: impl Fn() -> bool) -> bool {
    let looking = async {
        while !done() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(timeout, looking).await.is_ok()
}
