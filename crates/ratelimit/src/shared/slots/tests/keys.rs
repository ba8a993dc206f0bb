//! The keys of slot limits in the store, and which limits are requested together.

use std::num::NonZeroU32;

use vmcp_domain::NamePattern;
use vmcp_testkit::tool;

use super::*;
use crate::plan::policy::{Concurrency, LimitPolicy, Limits, ToolRule};
use crate::plan::{Plan, Planner};
use crate::shared::store::slot_batches;

fn plan(name: &str, group: bool) -> Plan {
    let concurrency =
        Concurrency { shared: NonZeroU32::new(8), per_user: NonZeroU32::new(2), mode: Mode::Enforce };
    let limits = Limits { concurrency, ..Limits::default() };
    let rule = ToolRule {
        name: NamePattern::new("t*"),
        annotation: None,
        group,
        limits: limits.clone(),
        cost: NonZeroU32::MIN.into(),
    };
    let policy = LimitPolicy { server: limits, tools: vec![rule], ..LimitPolicy::default() };
    Planner::new(policy).plan(&tool("b", name, name))
}

fn described_batches(plan: &Plan, split: bool) -> Vec<Vec<(String, Option<String>, u32)>> {
    let batches = slot_batches(plan, Some("ann"), split);
    let one = |slots: &RemoteSlotLimit| {
        (slots.key.to_string(), slots.partition.as_deref().map(str::to_owned), slots.count_max)
    };
    batches.iter().map(|batch| batch.limits.iter().map(one).collect()).collect()
}

#[test]
fn bounds_of_one_home_are_one_question() {
    let keys = |split| -> Vec<Vec<String>> {
        let asked = described_batches(&plan("t1", false), split);
        asked.iter().map(|batch| batch.iter().map(|(key, ..)| key.clone()).collect()).collect()
    };
    let shared = ["slots:shared", "slots:shared:tool:10:tools[t*].:1:b:2:t1"];
    let own = ["slots:user:ann", "slots:user-tool:10:tools[t*].:1:b:2:t1:ann"];
    assert_eq!(keys(false), [[shared[0], shared[1], own[0], own[1]].map(str::to_owned)]);
    assert_eq!(keys(true), [shared.map(str::to_owned), own.map(str::to_owned)]);
    let homes: Vec<_> = described_batches(&plan("t1", false), true)
        .concat()
        .into_iter()
        .map(|(_, partition, max)| (partition, max))
        .collect();
    let ann = Some("ann".to_owned());
    assert_eq!(homes, [(None, 8), (None, 8), (ann.clone(), 2), (ann, 2)]);
    assert_eq!(slot_batches(&plan("t1", false), Some("ann"), true)[1].indices[..], [2, 3]);
}

#[test]
fn tools_have_bounds_of_their_own_and_a_group_has_one() {
    let tool_key = |name, group| described_batches(&plan(name, group), false)[0][1].0.clone();
    assert_ne!(tool_key("t1", false), tool_key("t2", false));
    assert_eq!(tool_key("t1", true), tool_key("t2", true));
}
