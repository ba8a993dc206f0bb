//! The plans of a list of tools, and each in this replica's shares.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::RwLock;
use smallvec::SmallVec;
use vmcp_domain::{Limited, Tool, ToolName};

use super::state::IdleRule;
use crate::clock::Micros;
use crate::fallback::Fallback;
use crate::lease::{LeasePlan, Leases, priced};
use crate::plan::{Asked, Costs, Plan, PlannedBucket, Planner, Variation};

/// The plans of one list of tools.
pub(super) struct Binding {
    pub(super) plans: HashMap<ToolName, Arc<Bound>>,
    /// The rules that fit none of its tools.
    pub(super) idle: Vec<IdleRule>,
}

/// The plan of what is asked, for all its calls or for those that are alike to the limits.
pub(crate) struct Bound {
    pub(super) asked: Arc<Asked>,
    /// What its limits are called after.
    pub(super) limited: Limited,
    pub(crate) plan: Plan,
    /// The same without buckets: what stays in this process when buckets are shared.
    pub(super) slots: Plan,
    /// The buckets of which this replica takes tokens ahead.
    pub(super) leased: LeasePlan,
    /// It is for several calls at once.
    pub(super) is_joint: bool,
    /// Whose plan it is.
    variation: Variation,
    /// The plans of calls that differ.
    variants: RwLock<HashMap<Variation, Arc<Self>>>,
    /// The same in this replica's shares.
    share: ArcSwapOption<Share>,
}

/// How many plans of one tool are kept: one for each group of callers that is charged alike. They hold nothing that is not
/// kept elsewhere, so that all may be dropped.
const VARIANT_COUNT_MAX: usize = 256;

/// What a call pays at one of `replica_count` replicas while the shared store is away.
pub(super) struct Share {
    pub(super) replica_count: u32,
    pub(super) plan: Plan,
}

impl Bound {
    /// The plan of a tool, whoever calls it with whatever.
    pub(super) fn new(planner: &Planner, leases: Option<&Leases>, tool: &Tool) -> Self {
        Self::to(planner, leases, Asked::Tool(Box::new(tool.clone())))
    }

    /// The plan of what is asked, by whomever.
    pub(super) fn to(planner: &Planner, leases: Option<&Leases>, asked: Asked) -> Self {
        Self::of((planner, leases), Arc::new(asked), Variation::default(), Micros(0))
    }

    fn of(
        (planner, leases): (&Planner, Option<&Leases>),
        asked: Arc<Asked>,
        variation: Variation,
        now: Micros,
    ) -> Self {
        let plan = planner.plan_for(&asked, &variation, now);
        let leased = leases.map_or_else(LeasePlan::new, |leases| leases.plan(&plan));
        let slots = Plan { buckets: SmallVec::new(), ..plan.clone() };
        Self {
            limited: asked.limited(),
            asked,
            plan,
            slots,
            leased,
            is_joint: false,
            variation,
            variants: RwLock::default(),
            share: ArcSwapOption::empty(),
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
        let made = Arc::new(Self::of(makers, self.asked.clone(), variation.clone(), now));
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
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let (own, others) = (&self.plan.buckets, &other.plan.buckets);
        let alike = |(a, b): (&PlannedBucket, &PlannedBucket)| {
            (a.id, a.whose, a.cost, a.mode) == (b.id, b.whose, b.cost, b.mode)
        };
        self.limited == other.limited && own.len() == others.len() && own.iter().zip(others).all(alike)
    }

    /// The same for one call that costs more. It is not kept: callers say what their calls ask for, so there is no end of prices.
    pub(super) fn priced(&self, costs: Costs) -> Self {
        let mut plan = self.plan.clone();
        for bucket in &mut plan.buckets {
            bucket.cost = costs.of(bucket.trial, bucket.cost);
            bucket.cost_units = bucket.rate.units(bucket.cost.get().into());
        }
        Self {
            asked: self.asked.clone(),
            limited: self.limited.clone(),
            leased: priced(&self.leased, &plan),
            plan,
            slots: self.slots.clone(),
            is_joint: false,
            variation: Variation { costs, ..self.variation.clone() },
            variants: RwLock::default(),
            share: ArcSwapOption::empty(),
        }
    }

    /// The same for a call that was paid for ahead.
    pub(crate) fn without_buckets(&self) -> Self {
        Self {
            asked: self.asked.clone(),
            limited: self.limited.clone(),
            plan: self.slots.clone(),
            slots: self.slots.clone(),
            leased: LeasePlan::new(),
            is_joint: self.is_joint,
            variation: self.variation.clone(),
            variants: RwLock::default(),
            share: ArcSwapOption::empty(),
        }
    }

    /// The plan of all these calls at once, each with how often it is made. Every bucket stands there once, in the order in which
    /// buckets are locked, with the price of all together. `None` without calls.
    pub(super) fn together(calls: &[(Arc<Self>, u32)]) -> Option<Self> {
        let (first, _) = calls.first()?;
        let mut plan = Plan::default();
        for (bound, count) in calls {
            plan.needs_user |= bound.plan.needs_user;
            plan.keeps_user |= bound.plan.keeps_user;
            plan.tries_user |= bound.plan.tries_user;
            for bucket in &bound.plan.buckets {
                let cost = bucket.cost.saturating_mul(NonZeroU32::new(*count)?);
                match plan.buckets.iter_mut().find(|known| is_one(known, bucket)) {
                    Some(known) => known.cost = known.cost.saturating_add(cost.get()),
                    // What is taken ahead does not do for many calls at once: the store is asked.
                    None => plan.buckets.push(PlannedBucket { cost, leased: None, ..bucket.clone() }),
                }
            }
        }
        for bucket in &mut plan.buckets {
            bucket.cost_units = bucket.rate.units(bucket.cost.get().into());
        }
        plan.buckets.sort_by_key(|bucket| (bucket.rank, bucket.id, bucket.whose));
        Some(Self {
            asked: first.asked.clone(),
            limited: first.limited.clone(),
            slots: Plan::default(),
            plan,
            leased: LeasePlan::new(),
            is_joint: true,
            variation: Variation::default(),
            variants: RwLock::default(),
            share: ArcSwapOption::empty(),
        })
    }

    pub(super) fn share(&self, fallback: &Fallback, replica_count: u32, now: Micros) -> Arc<Share> {
        if let Some(share) = self.share.load_full().filter(|share| share.replica_count == replica_count) {
            return share;
        }
        let plan = fallback.plan(&self.asked, &self.variation, replica_count, now);
        let share = Arc::new(Share { replica_count, plan });
        self.share.store(Some(share.clone()));
        share
    }
}

/// Whether two plans name the same bucket. Beyond the bound of definitions tools of a rule share one here, and have one each in a
/// shared store, where it is charged with what the first of them is called there.
pub(super) fn is_one(a: &PlannedBucket, b: &PlannedBucket) -> bool {
    (a.id, a.whose) == (b.id, b.whose)
}
