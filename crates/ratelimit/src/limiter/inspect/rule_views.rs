//! Which rules there are for what, whoever asks.

use std::sync::Arc;

use vmcp_domain::{ToolList, ToolName};

use crate::bucket::decide::BucketSnapshot;
use crate::limiter::inspect::bucket_views;
use crate::limiter::tool_plan::ToolPlan;
use crate::limiter::{BucketView, Limiter, SlotLimitView};
use crate::plan::policy::{Method, Overrides, ValueSource};
use crate::plan::{OverriddenLimit, PlannedBucket, RulePrice};

/// Everything that limits one thing, for people to read.
#[derive(Clone, Debug)]
pub struct RulesView {
    /// How often, as buckets that are full.
    pub buckets: Vec<BucketView>,
    /// How many at once.
    pub slot_limits: Vec<SlotLimitView>,
    /// The limits that have other sizes for some callers, by the names of their rules.
    pub overrides: Vec<(String, Overrides)>,
    /// Of what limits have a bucket for each value.
    pub value_sources: Vec<ValueSource>,
    /// The expressions that say what a call costs by what it asks for. The largest counts.
    pub prices: Vec<String>,
    /// Those that say what it turned out to cost.
    pub settlements: Vec<String>,
}

impl Limiter {
    /// The rules a tool falls under; `None` when there is no such tool.
    #[must_use]
    pub fn rules(&self, tools: &Arc<ToolList>, name: &ToolName) -> Option<RulesView> {
        Some(self.rules_view(self.tool_plan(tools, name)?.as_ref()))
    }

    /// The rules of methods that call no tool, by the names of these, where there are any.
    #[must_use]
    pub fn method_rules(&self) -> Vec<(&'static str, RulesView)> {
        let rules = |method: Method| Some((method.as_str(), self.rules_view(self.method_plan(method)?)));
        Method::ALL.into_iter().filter_map(rules).collect()
    }

    fn rules_view(&self, bound: &ToolPlan) -> RulesView {
        let full = |bucket: &PlannedBucket| BucketSnapshot {
            rate: bucket.rate,
            level: bucket.rate.capacity(),
            cost: bucket.cost_units,
            mode: bucket.mode,
            resets_in: None,
        };
        let plan = &bound.plan;
        let text = |prices: &[RulePrice]| prices.iter().map(|known| known.price.to_string()).collect();
        let named = |one: &OverriddenLimit| (one.rule.to_string(), one.overrides.clone());
        RulesView {
            buckets: bucket_views(plan, plan.buckets.iter().map(full).collect()),
            slot_limits: self.slot_limit_views(bound),
            overrides: plan.variation_inputs.overridden.iter().map(named).collect(),
            value_sources: plan.variation_inputs.values.iter().map(|needed| needed.source.clone()).collect(),
            prices: text(&plan.variation_inputs.prices),
            settlements: text(&plan.variation_inputs.settlements),
        }
    }
}
