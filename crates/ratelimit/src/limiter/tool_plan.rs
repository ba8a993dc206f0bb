//! The plans of a list of tools, and each in this replica's shares.

pub(crate) mod caller;
pub(crate) mod values;
pub(crate) mod variation;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::RwLock;
use smallvec::SmallVec;
use vmcp_domain::{LimitedOperation, Tool, ToolName};

use crate::clock::Micros;
use crate::limiter::inspect::status::UnmatchedRule;
use crate::plan::{Costs, LimitedRequest, Plan, PlannedBucket, Planner, Variation};
use crate::shared::fallback::Fallback;
use crate::shared::lease::{LeasePlan, Leases, with_costs};

/// The plans of one list of tools.
pub(super) struct ListPlans {
    pub(super) plans: HashMap<ToolName, Arc<ToolPlan>>,
    /// The rules that fit none of its tools.
    pub(super) unmatched_rules: Vec<UnmatchedRule>,
}

/// The plan of what is asked, for all its calls or for those that are alike to the limits.
pub(crate) struct ToolPlan {
    pub(super) request: Arc<LimitedRequest>,
    /// What its limits are called after.
    pub(super) limited: LimitedOperation,
    pub(crate) plan: Plan,
    /// The same without buckets: what stays in this process when buckets are shared.
    pub(super) slots_only: Plan,
    /// The buckets of which this replica takes tokens ahead.
    pub(super) lease_plan: LeasePlan,
    /// It is for several calls at once.
    pub(super) is_combined: bool,
    /// Whose plan it is.
    variation: Variation,
    /// The plans of calls that differ.
    variants: RwLock<HashMap<Variation, Arc<Self>>>,
    /// The same in this replica's shares.
    fallback_share: ArcSwapOption<FallbackShare>,
}

/// How many plans of one tool are kept: one for each group of callers that is charged alike. They hold nothing that is not
/// kept elsewhere, so that all may be dropped.
const VARIANT_COUNT_MAX: usize = 256;

/// What a call pays at one of `replica_count` replicas while the shared store is away.
pub(super) struct FallbackShare {
    pub(super) replica_count: u32,
    pub(super) plan: Plan,
}

impl ToolPlan {
    /// The plan of a tool, whoever calls it with whatever.
    pub(super) fn for_tool(planner: &Planner, leases: Option<&Leases>, tool: &Tool) -> Self {
        Self::for_request(planner, leases, LimitedRequest::Tool(Box::new(tool.clone())))
    }

    /// The plan of what is asked, by whomever.
    pub(super) fn for_request(planner: &Planner, leases: Option<&Leases>, asked: LimitedRequest) -> Self {
        Self::build((planner, leases), Arc::new(asked), Variation::default(), Micros(0))
    }

    fn build(
        (planner, leases): (&Planner, Option<&Leases>),
        asked: Arc<LimitedRequest>,
        variation: Variation,
        now: Micros,
    ) -> Self {
        let plan = planner.plan_request(&asked, &variation, now);
        let leased = leases.map_or_else(LeasePlan::new, |leases| leases.plan(&plan));
        let slots = Plan { buckets: SmallVec::new(), ..plan.clone() };
        Self {
            limited: asked.limited(),
            request: asked,
            plan,
            slots_only: slots,
            lease_plan: leased,
            is_combined: false,
            variation,
            variants: RwLock::default(),
            fallback_share: ArcSwapOption::empty(),
        }
    }

    /// The plan of calls that vary so.
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

    /// How many plans are kept for calls that differ.
    #[cfg(test)]
    pub(crate) fn variant_count(&self) -> usize {
        self.variants.read().len()
    }

    /// Whether calls of the other are charged as calls of this one.
    pub(super) fn is_charged_like(&self, other: &Self) -> bool {
        let (own, others) = (&self.plan.buckets, &other.plan.buckets);
        let alike = |(a, b): (&PlannedBucket, &PlannedBucket)| {
            (a.id, a.owner, a.cost, a.mode) == (b.id, b.owner, b.cost, b.mode)
        };
        self.limited == other.limited && own.len() == others.len() && own.iter().zip(others).all(alike)
    }

    /// The same for one call that costs more. It is not kept: callers say what their calls ask for, so there is no end of prices.
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

    /// The same for a call that was paid for ahead.
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

    /// The plan of all these calls at once, each with how often it is made. Every bucket stands there once, in the order in which
    /// buckets are locked, with the price of all together. `None` without calls.
    pub(super) fn combined(calls: &[(Arc<Self>, u32)]) -> Option<Self> {
        let (first, _) = calls.first()?;
        let mut plan = Plan::default();
        for (bound, count) in calls {
            plan.needs_user |= bound.plan.needs_user;
            plan.needs_user_entry |= bound.plan.needs_user_entry;
            plan.needs_shadow_user_entry |= bound.plan.needs_shadow_user_entry;
            for bucket in &bound.plan.buckets {
                let cost = bucket.cost.saturating_mul(NonZeroU32::new(*count)?);
                match plan.buckets.iter_mut().find(|known| is_same_bucket(known, bucket)) {
                    Some(known) => known.cost = known.cost.saturating_add(cost.get()),
                    // What is taken ahead does not do for many calls at once: the store is asked.
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

/// Whether two plans name the same bucket. Beyond the bound of definitions tools of a rule share one here, and have one each in a
/// shared store, where it is charged with what the first of them is called there.
pub(super) fn is_same_bucket(a: &PlannedBucket, b: &PlannedBucket) -> bool {
    (a.id, a.owner) == (b.id, b.owner)
}
