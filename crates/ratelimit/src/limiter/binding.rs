//! The plans of a list of tools, and each in this replica's shares.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use vmcp_domain::{Tool, ToolName};

use crate::fallback::Fallback;
use crate::lease::{LeasePlan, Leases};
use crate::plan::{Plan, Planner};

/// The plans of one list of tools.
pub(super) struct Binding {
    pub(super) plans: HashMap<ToolName, Arc<Bound>>,
}

/// The plan of one tool.
pub(crate) struct Bound {
    pub(super) tool: Tool,
    pub(crate) plan: Plan,
    /// The same without buckets: what stays in this process when buckets are shared.
    pub(super) slots: Plan,
    /// The buckets of which this replica takes tokens ahead.
    pub(super) leased: LeasePlan,
    /// The same in this replica's shares.
    share: ArcSwapOption<Share>,
}

/// A plan in one replica's shares.
pub(super) struct Share {
    planner: Arc<Planner>,
    pub(super) plan: Plan,
}

impl Bound {
    pub(super) fn new(planner: &Planner, leases: Option<&Leases>, tool: &Tool) -> Self {
        let plan = planner.plan(tool);
        let leased = leases.map_or_else(LeasePlan::new, |leases| leases.plan(&plan));
        let slots = Plan { buckets: smallvec::SmallVec::new(), ..plan.clone() };
        Self { tool: tool.clone(), plan, slots, leased, share: ArcSwapOption::empty() }
    }

    pub(super) fn share(&self, fallback: &Fallback) -> Arc<Share> {
        if let Some(share) =
            self.share.load_full().filter(|share| Arc::ptr_eq(&share.planner, &fallback.planner))
        {
            return share;
        }
        let share = Arc::new(Share { planner: fallback.planner.clone(), plan: fallback.plan(&self.tool) });
        self.share.store(Some(share.clone()));
        share
    }
}
