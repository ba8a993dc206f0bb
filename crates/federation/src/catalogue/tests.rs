use vmcp_domain::{OfferedPrompt, OfferedTool, ToolHints, ToolOverride};
use vmcp_json::Json;

use super::*;
use crate::catalogue::overview::{CatalogueItem, ItemFilter};
use crate::policy::ToolPolicy;
use crate::policy::{ConflictPolicy, NameStyle, PrefixFormat};

fn listing(backend: &str, tools: &[&str], prompts: &[&str]) -> BackendListing {
    let definition =
        |name: &str| Arc::new(Json::parse(format!(r#"{{"name":"{name}"}}"#)).unwrap().members().unwrap());
    let inventory = Inventory {
        tools: tools
            .iter()
            .map(|name| OfferedTool {
                name: (*name).into(),
                description: Some("own".into()),
                hints: ToolHints { read_only: Some(true), title: Some("own".into()), ..ToolHints::default() },
                definition: definition(name),
            })
            .collect(),
        prompts: prompts
            .iter()
            .map(|name| OfferedPrompt { name: (*name).into(), definition: definition(name) })
            .collect(),
        instructions: Some(format!("use {backend}")),
        ..Inventory::default()
    };
    BackendListing {
        backend: backend.into(),
        inventory: Arc::new(inventory),
        is_available: true,
        pin_findings: Vec::new(),
        is_stale: false,
    }
}

fn prompts(policy: ConflictPolicy) -> Vec<String> {
    let policy = AggregationPolicy { conflicts: policy, ..AggregationPolicy::default() };
    let catalogue = Catalogue::build(&policy, &[listing("a", &[], &["p", "q"]), listing("b", &[], &["p"])]);
    catalogue.prompts.iter().map(|prompt| prompt.name.to_string()).collect()
}

#[test]
fn prompts_follow_the_reference() {
    let format = PrefixFormat::default();
    assert_eq!(prompts(ConflictPolicy::Prefix { format: format.clone() }), ["a_p", "a_q", "b_p"]);
    assert_eq!(prompts(ConflictPolicy::Auto { format: format.clone() }), ["a_p", "q", "b_p"]);
    assert_eq!(prompts(ConflictPolicy::Manual), ["a_p", "a_q", "b_p"]);
    let order = |ids: &[&str]| ConflictPolicy::Priority {
        order: ids.iter().map(|id| (*id).into()).collect(),
        format: format.clone(),
    };
    assert_eq!(prompts(order(&["b"])), ["a_p", "a_q", "p"]);
    assert_eq!(prompts(order(&["a", "b"])), ["q"], "a name claimed twice goes to nobody");
}

#[test]
fn safe_names_keep_the_original_as_title_and_reach_the_same_tool() {
    let policy =
        AggregationPolicy { names: NameStyle::Safe { chars_max: 20 }, ..AggregationPolicy::default() };
    let long = "list_the_comments_of_a_review";
    let parts = [listing("a", &["weather.get", "plain", long], &["a/p"])];
    let catalogue = Catalogue::build(&policy, &parts);
    let names: Vec<&str> = catalogue.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names[..2], ["weather_get", "plain"]);
    assert!(names[2].starts_with("list_the_co_") && names[2].len() == 20, "{names:?}");
    let title = |index: usize| catalogue.tools[index].definition.get("title").and_then(Json::decode_string);
    assert_eq!([title(0), title(1), title(2)], [Some("weather.get".to_owned()), None, Some(long.to_owned())]);
    assert_eq!(catalogue.tools[2].target.name.as_str(), long);
    assert_eq!(catalogue.prompts[0].name.as_str(), "a_p");
    assert!(catalogue.findings.is_empty(), "{:?}", catalogue.findings);
}

/// The names of tools and prompts, with the contested name of each.
fn contested_names(conflicts: ConflictPolicy) -> Vec<String> {
    let policy = AggregationPolicy { conflicts, ..AggregationPolicy::default() };
    let parts = [listing("a", &["t", "u"], &["p"]), listing("b", &["t"], &["p"]), listing("c", &["u"], &[])];
    let catalogue = Catalogue::build(&policy, &parts);
    let tools = catalogue
        .tools
        .iter()
        .map(|tool| format!("{} {}", tool.name, tool.contested_name.as_ref().map_or("-", ToolName::as_str)));
    let prompts = catalogue.prompts.iter().map(|prompt| {
        format!("{} {}", prompt.name, prompt.contested_name.as_ref().map_or("-", PromptName::as_str))
    });
    tools.chain(prompts).collect()
}

#[test]
fn a_safe_name_is_contested_by_its_form_without_other_items() {
    let policy =
        AggregationPolicy { names: NameStyle::Safe { chars_max: 20 }, ..AggregationPolicy::default() };
    let parts = [
        listing("a", &["weather.get", "x.y", "x/y", "own.name"], &["p/q"]),
        listing("b", &["weather.get"], &["p/q"]),
    ];
    let catalogue = Catalogue::build(&policy, &parts);
    let contested = |backend: &str, tool: &str| {
        let mut tools = catalogue.tools.iter();
        let tool =
            tools.find(|one| one.target.backend.as_str() == backend && one.target.name.as_str() == tool);
        tool.unwrap().contested_name.as_ref().map(ToString::to_string)
    };
    assert_eq!(contested("a", "weather.get").as_deref(), Some("weather_get"));
    assert_eq!(contested("b", "weather.get").as_deref(), Some("weather_get"));
    assert_eq!(contested("a", "x.y").as_deref(), Some("x_y"), "it has a hash because of `x/y`");
    assert_eq!(contested("a", "own.name"), None);
    let prompts = catalogue.prompts.iter().map(|prompt| prompt.contested_name.as_ref().unwrap().as_str());
    assert_eq!(prompts.collect::<Vec<_>>(), ["p_q", "p_q"]);
}

#[test]
fn a_name_is_contested_where_other_backends_decide_about_it() {
    let format = PrefixFormat::default();
    assert_eq!(
        contested_names(ConflictPolicy::Auto { format: format.clone() }),
        ["a_t t", "a_u u", "b_t t", "c_u u", "a_p p", "b_p p"]
    );
    // The name `t` goes to `b`; `u` is claimed by backends without priority.
    assert_eq!(
        contested_names(ConflictPolicy::Priority { order: vec!["b".into()], format: format.clone() }),
        ["a_u u", "t -", "c_u u", "a_p -", "p -"]
    );
    assert_eq!(
        contested_names(ConflictPolicy::Prefix { format }),
        ["a_t -", "a_u -", "b_t -", "c_u -", "a_p -", "b_p -"]
    );
    assert_eq!(contested_names(ConflictPolicy::Manual), ["a_p -", "b_p -"]);
}

#[test]
fn overrides_rename_before_conflicts_and_keep_what_they_leave_out() {
    let tools = ToolPolicy {
        renames: [("t".into(), "renamed".into())].into(),
        overrides: [(
            "t".into(),
            ToolOverride {
                description: Some("new".into()),
                annotations: Some(ToolHints { read_only: Some(false), ..ToolHints::default() }),
            },
        )]
        .into(),
        ..ToolPolicy::default()
    };
    let policy = AggregationPolicy { backends: [("a".into(), tools)].into(), ..AggregationPolicy::default() };
    let catalogue = Catalogue::build(&policy, &[listing("a", &["t"], &[]), listing("b", &["t"], &[])]);
    let tool = catalogue.tool(&"renamed".into()).unwrap();
    assert_eq!(tool.description.as_deref(), Some("new"));
    assert_eq!((tool.hints.read_only, tool.hints.title.as_deref()), (Some(false), Some("own")));
    assert!(catalogue.tool(&"t".into()).is_some(), "no clash is left, so the other keeps its name");
}

#[test]
fn operators_are_told_of_names_that_trouble_clients() {
    let tools =
        ToolPolicy { filter: Some(["absent".into(), "dotted.name".into()].into()), ..ToolPolicy::default() };
    let policy = AggregationPolicy { backends: [("a".into(), tools)].into(), ..AggregationPolicy::default() };
    let catalogue = Catalogue::build(
        &policy,
        &[listing("a", &["dotted.name"], &[]), listing("b", &[&"x".repeat(65)], &[])],
    );
    let texts: Vec<String> = catalogue.findings.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 3, "{texts:#?}");
    assert!(texts.iter().any(|text| text.contains("names tool `absent` of backend `a`")));
    assert!(texts.iter().any(|text| text.contains("`dotted.name`")));
    assert!(texts.iter().any(|text| text.contains("65 characters")));
}

fn instructions(policy: &AggregationPolicy, parts: &[BackendListing]) -> String {
    crate::catalogue::overview::overview(policy, &Catalogue::build(policy, parts), None).instructions.unwrap()
}

#[test]
fn instructions_are_joined_under_the_backends_names_and_bounded() {
    let mut parts = vec![listing("a", &[], &[]), listing("b", &[], &[])];
    let policy = AggregationPolicy::default();
    let text = instructions(&policy, &parts);
    assert_eq!(text, "# a\n\nuse a\n\n# b\n\nuse b");
    let long = Inventory { instructions: Some("é".repeat(20_000)), ..Inventory::default() };
    parts[0].inventory = Arc::new(long);
    let text = instructions(&policy, &parts);
    assert!(text.len() < 17_000 && text.ends_with("[instructions cut here]"));
}

#[test]
fn a_backend_of_which_a_caller_sees_nothing_says_nothing() {
    let parts = [listing("a", &["t"], &[]), listing("b", &["u"], &["p"]), listing("c", &[], &[])];
    let catalogue = Catalogue::build(&AggregationPolicy::default(), &parts);
    let told = |policy: &AggregationPolicy, permits: Option<ItemFilter<'_>>| {
        crate::catalogue::overview::overview(policy, &catalogue, permits).instructions
    };
    let open = AggregationPolicy::default();
    assert_eq!(told(&open, None).as_deref(), Some("# a\n\nuse a\n\n# b\n\nuse b\n\n# c\n\nuse c"));
    assert_eq!(told(&open, Some(&|_| false)), None);
    let only_prompts = |item: CatalogueItem<'_>| matches!(item, CatalogueItem::Prompt(_));
    assert_eq!(told(&open, Some(&only_prompts)).as_deref(), Some("# b\n\nuse b"));
    let hidden = ToolPolicy { exclude_all: true, ..ToolPolicy::default() };
    let policy =
        AggregationPolicy { backends: [("a".into(), hidden)].into(), ..AggregationPolicy::default() };
    assert_eq!(told(&policy, None).as_deref(), Some("# b\n\nuse b\n\n# c\n\nuse c"));
}
