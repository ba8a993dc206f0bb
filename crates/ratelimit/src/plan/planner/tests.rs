use std::time::Duration;

use vmcp_domain::{LimitScope, NamePattern, ToolHints};
use vmcp_testkit::tool;

use super::*;
use crate::plan::policy::{
    Anonymous, Consistency, Limits, MemoryBounds, Quota, ToolAnnotation, ToolRule, WaitBounds,
};
use crate::plan::{LevelStorage, PlannedBucket};

fn quota(tokens: u64) -> Option<Quota> {
    let rate = Rate::new(tokens, Duration::from_secs(60), tokens).unwrap();
    Some(Quota::new(vec![rate], Mode::Enforce))
}

fn rule(name: &str, group: bool, cost: u32) -> ToolRule {
    ToolRule {
        name: NamePattern::new(name),
        annotation: None,
        group,
        limits: Limits { shared: quota(5), per_user: quota(2), ..Limits::default() },
        cost: NonZeroU32::new(cost).unwrap().into(),
    }
}

fn planner(tools: Vec<ToolRule>) -> Planner {
    let server = Limits { shared: quota(100), per_user: quota(10), ..Limits::default() };
    Planner::new(LimitPolicy {
        server,
        tools,
        anonymous: Anonymous::Shared,
        memory: MemoryBounds::default(),
        waiting: WaitBounds::default(),
        consistency: Consistency::Exact,
        ..LimitPolicy::default()
    })
}

fn shape(plan: &Plan) -> Vec<String> {
    let line = |bucket: &PlannedBucket| {
        format!("{} {} {} x{}", bucket.scope.as_str(), bucket.rule, bucket.id.0, bucket.cost)
    };
    plan.buckets.iter().map(line).collect()
}

#[test]
fn the_order_is_server_tool_user_and_user_with_tool() {
    let planner = planner(vec![rule("search", false, 1), rule("s*", false, 3)]);
    let plan = planner.plan(&tool("b", "search", "search"));
    assert_eq!(
        shape(&plan),
        [
            "server shared 0 x3",
            "tool tools[search].shared 1 x3",
            "tool tools[s*].shared 2 x3",
            "user perUser 3 x3",
            "user_tool tools[search].perUser 4 x3",
            "user_tool tools[s*].perUser 5 x3",
        ]
    );
    assert!(plan.needs_user);
}

#[test]
fn every_name_of_a_tool_spends_from_the_same_buckets() {
    let planner = planner(vec![rule("*search", false, 1)]);
    let (plain, prefixed) =
        (planner.plan(&tool("b", "search", "search")), planner.plan(&tool("b", "search", "b_search")));
    assert_eq!(shape(&plain), shape(&prefixed));
    let other = planner.plan(&tool("c", "search", "c_search"));
    assert_ne!(shape(&plain), shape(&other), "another backend's tool has its own");
}

#[test]
fn a_rule_fits_a_tool_under_its_contested_name() {
    let planner = planner(vec![rule("search", false, 1)]);
    let plain = planner.plan(&tool("b", "search", "search"));
    let renamed = Tool { contested_name: Some("search".into()), ..tool("b", "search", "b_search") };
    assert_eq!(shape(&planner.plan(&renamed)), shape(&plain));
    assert!(planner.unmatched_rules(&[renamed]).is_empty());
    let other = Tool { contested_name: Some("find".into()), ..tool("b", "find", "b_find") };
    assert_eq!(planner.unmatched_rules(&[other]), ["search"]);
}

#[test]
fn a_group_shares_one_bucket() {
    let planner = planner(vec![rule("db_*", true, 1)]);
    let (read, write) =
        (planner.plan(&tool("b", "read", "db_read")), planner.plan(&tool("b", "write", "db_write")));
    assert_eq!(shape(&read), shape(&write));
    assert_eq!(planner.unmatched_rules(&[tool("b", "x", "x")]), ["db_*"]);
}

#[test]
fn common_buckets_are_locked_in_one_order() {
    let planner = planner(vec![rule("a*", true, 1), rule("*b", true, 1), rule("ab", false, 1)]);
    // Planned in the unhelpful order: the later rule's group is registered first.
    let later = planner.plan(&tool("s", "xb", "xb"));
    let both = planner.plan(&tool("s", "ab", "ab"));
    let ids = |plan: &Plan| -> Vec<u32> {
        plan.buckets
            .iter()
            .filter(|bucket| matches!(bucket.storage, LevelStorage::Shared(_)))
            .map(|bucket| bucket.id.0)
            .collect()
    };
    let common = |from: &Plan, other: &Plan| -> Vec<u32> {
        ids(from).into_iter().filter(|id| ids(other).contains(id)).collect()
    };
    assert_eq!(common(&later, &both), common(&both, &later));
    let first = planner.plan(&tool("s", "ax", "ax"));
    assert_eq!(common(&first, &both), common(&both, &first));
}

#[test]
fn a_backend_that_keeps_renaming_its_tools_runs_out_of_fresh_buckets() {
    let planner = Planner { definition_count_max: 6, ..planner(vec![rule("*", false, 1)]) };
    let ids = |name: &str| -> Vec<u32> {
        planner.plan(&tool("b", name, name)).buckets.iter().map(|bucket| bucket.id.0).collect()
    };
    assert_eq!((ids("one"), ids("two")), (vec![0, 1, 2, 3], vec![0, 4, 2, 5]));
    assert_eq!((ids("three"), ids("four")), (vec![0, 6, 2, 7], vec![0, 6, 2, 7]), "late comers share");
    assert_eq!(ids("one"), [0, 1, 2, 3], "who was there before keeps what it had");
}

#[test]
fn annotations_bring_rules_and_take_no_other_away() {
    let by = |hint| ToolRule { annotation: Some(hint), ..rule("*", false, 1) };
    let planner = planner(vec![
        rule("search", false, 1),
        by(ToolAnnotation::Writes),
        by(ToolAnnotation::Destructive),
        by(ToolAnnotation::OpenWorld),
    ]);
    let rules = |hints: ToolHints| {
        let mut tool = tool("b", "search", "search");
        tool.hints = hints;
        let plan = planner.plan(&tool);
        let shared = plan.buckets.iter().filter(|bucket| bucket.scope == LimitScope::Tool);
        shared.map(|bucket| bucket.rule.to_string()).collect::<Vec<_>>()
    };
    let none = ToolHints::default;
    let all = [
        "tools[search].shared",
        "byAnnotation.writes.shared",
        "byAnnotation.destructive.shared",
        "byAnnotation.openWorld.shared",
    ];
    assert_eq!(rules(none()), all, "what is not said is assumed");
    let harmless = ToolHints { read_only: Some(true), open_world: Some(false), ..none() };
    assert_eq!(rules(harmless), ["tools[search].shared"], "no hint takes a tool out of another rule");
    let appends = ToolHints { destructive: Some(false), open_world: Some(false), ..none() };
    assert_eq!(rules(appends), ["tools[search].shared", "byAnnotation.writes.shared"]);
    let stated =
        ToolHints { read_only: Some(false), destructive: Some(true), open_world: Some(true), ..none() };
    assert_eq!(rules(stated), all);
    assert_eq!(planner.unmatched_rules(&[]), ["search"]);
}
