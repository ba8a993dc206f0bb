//! The plans of a list of tools, and each in this replica's shares.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::RwLock;
use vmcp_domain::{Limited, Tool, ToolName};

use crate::clock::Micros;
use crate::fallback::Fallback;
use crate::lease::{LeasePlan, Leases};
use crate::plan::{Asked, Plan, Planner, Variation};

/// The plans of one list of tools.
pub(super) struct Binding {
    pub(super) plans: HashMap<ToolName, Arc<Bound>>,
}

/// The plan of what is asked, for all its calls or for those that are alike to the limits.
pub(crate) struct Bound {
    pub(super) asked: Asked,
    /// What its limits are called after.
    pub(super) limited: Limited,
    pub(crate) plan: Plan,
    /// The same without buckets: what stays in this process when buckets are shared.
    pub(super) slots: Plan,
    /// The buckets of which this replica takes tokens ahead.
    pub(super) leased: LeasePlan,
    /// Whose plan it is.
    variation: Variation,
    /// The plans of calls that differ.
    variants: RwLock<HashMap<Variation, Arc<Self>>>,
    /// The same in this replica's shares.
    share: ArcSwapOption<Share>,
}

/// How many plans of one tool are kept. They hold nothing that is not kept elsewhere, so that all may be dropped.
const VARIANT_COUNT_MAX: usize = 1024;

/// A plan in one replica's shares.
pub(super) struct Share {
    planner: Arc<Planner>,
    pub(super) plan: Plan,
}

impl Bound {
    /// The plan of a tool, whoever calls it with whatever.
    pub(super) fn new(planner: &Planner, leases: Option<&Leases>, tool: &Tool) -> Self {
        Self::to(planner, leases, Asked::Tool(Box::new(tool.clone())))
    }

    /// The plan of what is asked, by whomever.
    pub(super) fn to(planner: &Planner, leases: Option<&Leases>, asked: Asked) -> Self {
        Self::of((planner, leases), asked, Variation::default(), Micros(0))
    }

    fn of(
        (planner, leases): (&Planner, Option<&Leases>),
        asked: Asked,
        variation: Variation,
        now: Micros,
    ) -> Self {
        let plan = planner.plan_for(&asked, &variation, now);
        let leased = leases.map_or_else(LeasePlan::new, |leases| leases.plan(&plan));
        let slots = Plan { buckets: smallvec::SmallVec::new(), ..plan.clone() };
        Self {
            limited: asked.limited(),
            asked,
            plan,
            slots,
            leased,
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

    pub(super) fn share(&self, fallback: &Fallback, now: Micros) -> Arc<Share> {
        if let Some(share) =
            self.share.load_full().filter(|share| Arc::ptr_eq(&share.planner, &fallback.planner))
        {
            return share;
        }
        let plan = fallback.plan(&self.asked, &self.variation, now);
        let share = Arc::new(Share { planner: fallback.planner.clone(), plan });
        self.share.store(Some(share.clone()));
        share
    }
}
