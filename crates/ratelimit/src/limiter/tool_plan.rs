//! The plans of a list of tools, and each plan in this replica's share.

pub(crate) mod caller;
pub(crate) mod synthetic_identity;
pub(crate) mod values;
pub(crate) mod variation;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::RwLock;
use smallvec::SmallVec;
use vmcp_domain::{LimitedOperation, Tool, ToolName};
use vmcp_timing::Micros;

use crate::limiter::inspect::status::UnmatchedRule;
use crate::plan::{Costs, LimitedRequest, Plan, PlannedBucket, Planner, Variation};
use crate::shared::fallback::Fallback;
use crate::shared::lease::{LeasePlan, Leases, with_costs};

/// The plans of one list of tools.
pub(super) struct ListPlans {
    pub(super) plans: HashMap<ToolName, Arc<ToolPlan>>,
    /// The rules that match none of its tools.
    pub(super) unmatched_rules: Vec<UnmatchedRule>,
}

/// The plan of a limited request, for all its calls or for those that the limits treat alike.
pub(crate) struct ToolPlan {
    pub(super) request: Arc<LimitedRequest>,
    /// The operation that refusals and metrics name.
    pub(super) limited: LimitedOperation,
    pub(crate) plan: Plan,
    /// The same without buckets: the slots that are counted in this process when buckets are shared.
    pub(super) slots_only: Plan,
    /// The buckets that this replica leases tokens of.
    pub(super) lease_plan: LeasePlan,
    /// True for the combined plan of several calls.
    pub(super) is_combined: bool,
    /// What makes this plan differ from the plan of all calls.
    variation: Variation,
    /// The plans of calls that differ, by what makes them differ.
    variants: RwLock<HashMap<Variation, Arc<Self>>>,
    /// The plan in this replica's share of each limit, for outages of the store.
    fallback_share: ArcSwapOption<FallbackShare>,
}

/// How many variants of one tool's plan are cached: one for each group of callers that is charged alike. They
/// hold no state that is not kept elsewhere, so that all of them may be dropped.
const VARIANT_COUNT_MAX: usize = 256;

/// What a call pays at one of `replica_count` replicas during an outage of the shared store.
pub(super) struct FallbackShare {
    pub(super) replica_count: u32,
    pub(super) plan: Plan,
}

impl ToolPlan {
    /// The plan of a tool, for all callers and arguments.
    pub(super) fn for_tool(planner: &Planner, leases: Option<&Leases>, tool: &Tool) -> Self {
        Self::for_request(planner, leases, LimitedRequest::Tool(Box::new(tool.clone())))
    }

    /// The plan of a limited request, for all callers.
    pub(super) fn for_request(planner: &Planner, leases: Option<&Leases>, request: LimitedRequest) -> Self {
        Self::build((planner, leases), Arc::new(request), Variation::default(), Micros(0))
    }

    fn build(
        (planner, leases): (&Planner, Option<&Leases>),
        request: Arc<LimitedRequest>,
        variation: Variation,
        now: Micros,
    ) -> Self {
        let plan = planner.plan_request(&request, &variation, now);
        let leased = leases.map_or_else(LeasePlan::new, |leases| leases.plan(&plan));
        let slots = Plan { buckets: SmallVec::new(), ..plan.clone() };
        Self {
            limited: request.limited(),
            request,
            plan,
            slots_only: slots,
            lease_plan: leased,
            is_combined: false,
            variation,
            variants: RwLock::default(),
            fallback_share: ArcSwapOption::empty(),
        }
    }

    /// The plan of calls with this variation.
    pub(super) fn variant(
        self: &Arc<Self>,
        makers: (&Planner, Option<&Leases>),
        variation: Variation,
        now: Micros,
    ) -> Arc<Self> {
        if variation == self.variation {
            return self.clone();
        }
        if let Some(known) = self.variants.read().get(&variation) {
            return known.clone();
        }
        let made = Arc::new(Self::build(makers, self.request.clone(), variation.clone(), now));
        let mut variants = self.variants.write();
        if variants.len() >= VARIANT_COUNT_MAX {
            variants.clear();
        }
        variants.entry(variation).or_insert(made).clone()
    }

    /// The number of cached variants.
    #[cfg(test)]
    pub(crate) fn variant_count(&self) -> usize {
        self.variants.read().len()
    }

    /// Whether calls of `other` are charged like calls of this plan.
    pub(super) fn is_charged_like(&self, other: &Self) -> bool {
        let (own, others) = (&self.plan.buckets, &other.plan.buckets);
        let alike = |(a, b): (&PlannedBucket, &PlannedBucket)| {
            (a.id, a.owner, a.cost, a.mode) == (b.id, b.owner, b.cost, b.mode)
        };
        self.limited == other.limited && own.len() == others.len() && own.iter().zip(others).all(alike)
    }

    /// The same plan for one call with higher costs. It is not cached: callers choose the arguments that set
    /// the price, so the number of prices is unbounded.
    pub(super) fn with_costs(&self, costs: Costs) -> Self {
        let mut plan = self.plan.clone();
        for bucket in &mut plan.buckets {
            bucket.cost = costs.for_bucket(bucket.shadow_rule, bucket.cost);
            bucket.cost_units = bucket.rate.units(bucket.cost.get().into());
        }
        Self {
            request: self.request.clone(),
            limited: self.limited.clone(),
            lease_plan: with_costs(&self.lease_plan, &plan),
            plan,
            slots_only: self.slots_only.clone(),
            is_combined: false,
            variation: Variation { costs, ..self.variation.clone() },
            variants: RwLock::default(),
            fallback_share: ArcSwapOption::empty(),
        }
    }

    /// The same plan without buckets, for a prepaid call.
    pub(crate) fn without_buckets(&self) -> Self {
        Self {
            request: self.request.clone(),
            limited: self.limited.clone(),
            plan: self.slots_only.clone(),
            slots_only: self.slots_only.clone(),
            lease_plan: LeasePlan::new(),
            is_combined: self.is_combined,
            variation: self.variation.clone(),
            variants: RwLock::default(),
            fallback_share: ArcSwapOption::empty(),
        }
    }

    /// The combined plan of all these calls, each with its number of repetitions. Every bucket appears once,
    /// in the order in which buckets are locked, with the price of all calls together. `None` without calls.
    pub(super) fn combined(calls: &[(Arc<Self>, u32)]) -> Option<Self> {
        let (first, _) = calls.first()?;
        let mut plan = Plan::default();
        for (tool_plan, count) in calls {
            plan.needs_user |= tool_plan.plan.needs_user;
            plan.needs_user_entry |= tool_plan.plan.needs_user_entry;
            plan.needs_shadow_user_entry |= tool_plan.plan.needs_shadow_user_entry;
            for bucket in &tool_plan.plan.buckets {
                let cost = bucket.cost.saturating_mul(NonZeroU32::new(*count)?);
                match plan.buckets.iter_mut().find(|known| is_same_bucket(known, bucket)) {
                    Some(known) => known.cost = known.cost.saturating_add(cost.get()),
                    // A lease does not cover many calls at once, so the store is asked.
                    None => plan.buckets.push(PlannedBucket { cost, lease_excess: None, ..bucket.clone() }),
                }
            }
        }
        for bucket in &mut plan.buckets {
            bucket.cost_units = bucket.rate.units(bucket.cost.get().into());
        }
        plan.buckets.sort_by_key(|bucket| (bucket.lock_rank, bucket.id, bucket.owner));
        Some(Self {
            request: first.request.clone(),
            limited: first.limited.clone(),
            slots_only: Plan::default(),
            plan,
            lease_plan: LeasePlan::new(),
            is_combined: true,
            variation: Variation::default(),
            variants: RwLock::default(),
            fallback_share: ArcSwapOption::empty(),
        })
    }

    pub(super) fn fallback_share(
        &self,
        fallback: &Fallback,
        replica_count: u32,
        now: Micros,
    ) -> Arc<FallbackShare> {
        if let Some(share) =
            self.fallback_share.load_full().filter(|share| share.replica_count == replica_count)
        {
            return share;
        }
        let plan = fallback.plan(&self.request, &self.variation, replica_count, now);
        let share = Arc::new(FallbackShare { replica_count, plan });
        self.fallback_share.store(Some(share.clone()));
        share
    }
}

/// Whether two plans name the same bucket. Beyond the maximum of definitions, tools of one rule share one
/// bucket in this process and have one each in a shared store. The first of them is then the one that is
/// charged in the store.
pub(super) fn is_same_bucket(a: &PlannedBucket, b: &PlannedBucket) -> bool {
    (a.id, a.owner) == (b.id, b.owner)
}
