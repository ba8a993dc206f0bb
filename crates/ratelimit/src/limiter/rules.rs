//! Which rules there are for what, whoever asks.

use std::sync::Arc;

use vmcp_domain::{ToolList, ToolName};

use super::binding::Bound;
use super::look::views;
use super::{BucketView, Limiter, SlotsView};
use crate::decide::BucketReading;
use crate::plan::{Overridden, PlannedBucket, RulePrice};
use crate::policy::{Method, Overrides, ValueOf};

/// Everything that limits one thing, for people to read.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How often, as buckets that are full.
    pub buckets: Vec<BucketView>,
    /// How many at once.
    pub slots: Vec<SlotsView>,
    /// The limits that have other sizes for some callers, by the names of their rules.
    pub overrides: Vec<(String, Overrides)>,
    /// Of what limits have a bucket for each value.
    pub values: Vec<ValueOf>,
    /// The expressions that say what a call costs by what it asks for. The largest counts.
    pub prices: Vec<String>,
    /// Those that say what it turned out to cost.
    pub settlements: Vec<String>,
}

impl Limiter {
    /// The rules a tool falls under; `None` when there is no such tool.
    #[must_use]
    pub fn rules(&self, tools: &Arc<ToolList>, name: &ToolName) -> Option<Rules> {
        Some(self.describe(self.bound(tools, name)?.as_ref()))
    }

    /// The rules of methods that call no tool, by the names of these, where there are any.
    #[must_use]
    pub fn method_rules(&self) -> Vec<(&'static str, Rules)> {
        let rules = |method: Method| Some((method.as_str(), self.describe(self.bound_method(method)?)));
        Method::ALL.into_iter().filter_map(rules).collect()
    }

    fn describe(&self, bound: &Bound) -> Rules {
        let full = |bucket: &PlannedBucket| BucketReading {
            rate: bucket.rate,
            level: bucket.rate.capacity(),
            cost: bucket.cost_units,
            mode: bucket.mode,
            resets_in: None,
        };
        let plan = &bound.plan;
        let text = |prices: &[RulePrice]| prices.iter().map(|known| known.price.to_string()).collect();
        let named = |one: &Overridden| (one.rule.to_string(), one.overrides.clone());
        Rules {
            buckets: views(plan, plan.buckets.iter().map(full).collect()),
            slots: self.slot_views(bound),
            overrides: plan.varies.overridden.iter().map(named).collect(),
            values: plan.varies.values.iter().map(|needed| needed.of.clone()).collect(),
            prices: text(&plan.varies.prices),
            settlements: text(&plan.varies.settlements),
        }
    }
}
