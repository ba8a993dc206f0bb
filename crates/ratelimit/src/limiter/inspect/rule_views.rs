//! The rules that apply to a tool or method, for all callers.

use std::sync::Arc;

use vmcp_domain::{ToolList, ToolName};

use crate::bucket::decide::BucketSnapshot;
use crate::limiter::inspect::bucket_views;
use crate::limiter::tool_plan::ToolPlan;
use crate::limiter::{BucketView, Limiter, SlotLimitView};
use crate::plan::policy::{Method, Overrides, ValueSource};
use crate::plan::{OverriddenLimit, PlannedBucket, RulePrice};

/// All limits of one tool or method, for people to read.
#[derive(Clone, Debug)]
pub struct RulesView {
    /// The limits on the rate, as full buckets.
    pub buckets: Vec<BucketView>,
    /// The limits on calls in flight.
    pub slot_limits: Vec<SlotLimitView>,
    /// The limits that have other sizes for some callers, by the names of their rules.
    pub overrides: Vec<(String, Overrides)>,
    /// The claims, arguments and headers that limits have a bucket for each value of.
    pub value_sources: Vec<ValueSource>,
    /// The expressions that compute a call's price from its arguments. The largest result counts.
    pub prices: Vec<String>,
    /// The expressions that compute a call's final cost from its result.
    pub settlements: Vec<String>,
}

impl Limiter {
    /// The rules that apply to a tool; `None` when there is no such tool.
    #[must_use]
    pub fn rules(&self, tools: &Arc<ToolList>, name: &ToolName) -> Option<RulesView> {
        Some(self.rules_view(self.any_tool_plan(tools, name)?.as_ref()))
    }

    /// The rules of methods other than `tools/call`, by method name, where there are any.
    #[must_use]
    pub fn method_rules(&self) -> Vec<(&'static str, RulesView)> {
        let rules = |method: Method| Some((method.as_str(), self.rules_view(self.method_plan(method)?)));
        Method::ALL.into_iter().filter_map(rules).collect()
    }

    fn rules_view(&self, tool_plan: &ToolPlan) -> RulesView {
        let full = |bucket: &PlannedBucket| BucketSnapshot {
            rate: bucket.rate,
            level: bucket.rate.capacity(),
            cost: bucket.cost_units,
            mode: bucket.mode,
            resets_in: None,
        };
        let plan = &tool_plan.plan;
        let text = |prices: &[RulePrice]| prices.iter().map(|known| known.price.to_string()).collect();
        let named = |one: &OverriddenLimit| (one.rule.to_string(), one.overrides.clone());
        RulesView {
            buckets: bucket_views(plan, plan.buckets.iter().map(full).collect()),
            slot_limits: self.slot_limit_views(tool_plan),
            overrides: plan.variation_inputs.overridden.iter().map(named).collect(),
            value_sources: plan
                .variation_inputs
                .values
                .iter()
                .map(|required| required.source.clone())
                .collect(),
            prices: text(&plan.variation_inputs.prices),
            settlements: text(&plan.variation_inputs.settlements),
        }
    }
}
