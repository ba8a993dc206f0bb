use vmcp_testkit::{FakeGateway, conformance, context, tool};

use super::*;
use crate::policy::{ToolPolicy, Visibility};

#[tokio::test]
async fn keeps_the_rules_of_the_seam() {
    conformance::check_decorator(&[], |inner| Exposed::wrap(inner, Arc::new(AggregationPolicy::default())))
        .await;
}

async fn shown(policy: AggregationPolicy) -> Vec<String> {
    let inner = FakeGateway::new(vec![
        tool("a", "read", "a_read"),
        tool("a", "write", "a_write"),
        tool("b", "read", "b_read"),
    ]);
    let gateway = Exposed::wrap(inner.clone(), Arc::new(policy));
    let ctx = context();
    let names: Vec<String> =
        gateway.list_tools(&ctx).await.unwrap().iter().map(|tool| tool.name.to_string()).collect();
    for name in ["a_read", "a_write", "b_read"] {
        let outcome = gateway.call_tool(&ctx, conformance::tool_call(name)).await;
        assert_eq!(
            outcome.is_ok(),
            names.contains(&name.to_owned()),
            "{name} can be called exactly when it is listed"
        );
        let outcome = gateway.task(&ctx, conformance::task_request(name)).await;
        assert_eq!(outcome.is_ok(), names.contains(&name.to_owned()), "and so can its tasks");
    }
    assert_eq!(inner.requests().len(), 2 * names.len(), "what is hidden is not reached");
    names
}

fn one(backend: &str, policy: ToolPolicy) -> AggregationPolicy {
    AggregationPolicy { backends: [(backend.into(), policy)].into(), ..AggregationPolicy::default() }
}

#[tokio::test]
async fn hides_what_the_operator_did_not_advertise() {
    assert_eq!(shown(AggregationPolicy::default()).await.len(), 3);
    let filter = ToolPolicy { filter: Some(["read".into()].into()), ..ToolPolicy::default() };
    assert_eq!(shown(one("a", filter.clone())).await, ["a_read", "b_read"]);
    assert_eq!(shown(one("a", ToolPolicy { exclude_all: true, ..filter.clone() })).await, ["b_read"]);
    let deny = AggregationPolicy { default_visibility: Visibility::Hide, ..one("a", filter) };
    assert_eq!(shown(deny).await, ["a_read"]);
    let nothing = AggregationPolicy { exclude_all_tools: true, ..AggregationPolicy::default() };
    assert_eq!(shown(nothing).await, Vec::<String>::new());
}

#[tokio::test]
async fn filters_match_the_name_after_renames_and_before_prefixes() {
    let policy = ToolPolicy {
        filter: Some(["look".into()].into()),
        renames: [("read".into(), "look".into())].into(),
        ..ToolPolicy::default()
    };
    assert_eq!(shown(one("a", policy)).await, ["a_read", "b_read"]);
}

#[tokio::test]
async fn an_unchanged_list_is_the_same_list() {
    let inner = FakeGateway::new(vec![tool("a", "read", "read"), tool("b", "x", "x")]);
    let policy = one("b", ToolPolicy { exclude_all: true, ..ToolPolicy::default() });
    let gateway = Exposed::wrap(inner, Arc::new(policy));
    let ctx = context();
    let (first, second) = (gateway.list_tools(&ctx).await.unwrap(), gateway.list_tools(&ctx).await.unwrap());
    assert!(Arc::ptr_eq(&first, &second));
}
