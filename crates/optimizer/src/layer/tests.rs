use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use vmcp_domain::{
    Availability, AvailabilityCheck, BoxFuture, CALL_TOOL, Caller, FIND_TOOL, LimitScope, RateLimit, Retry,
    Tool, ToolOverride,
};
use vmcp_json::Json;
use vmcp_testkit::{FakeGateway, conformance, tool};

use super::*;
use crate::observer::NoopObserver;
use crate::policy::{OptimizerPolicy, ResultCount, Schemas};

fn described(backend: &str, own: &str, name: &str, description: &str) -> Tool {
    Tool {
        description: Some(description.to_owned()),
        overrides: ToolOverride { description: Some(description.to_owned()), annotations: None },
        ..tool(backend, own, name)
    }
}

fn catalogue() -> Vec<Tool> {
    vec![
        described("github", "create_issue", "github_create_issue", "Opens a new issue in a repository"),
        described("github", "list_issues", "github_list_issues", "Lists the issues of a repository"),
        described("mail", "send", "mail_send", "Sends an electronic letter to somebody"),
        described("time", "convert", "time_convert", "Converts a time from one zone to another"),
    ]
}

struct Stack {
    inner: Arc<FakeGateway>,
    gateway: SharedGateway,
}

fn stack_with(policy: OptimizerPolicy, foresight: Option<Arc<dyn AvailabilityCheck>>) -> Stack {
    let inner = FakeGateway::new(catalogue());
    let optimizer = Optimizer::start(policy, None, foresight, Arc::new(NoopObserver));
    Stack { gateway: Optimized::wrap(inner.clone(), optimizer), inner }
}

fn stack(policy: OptimizerPolicy) -> Stack {
    stack_with(policy, None)
}

fn ctx() -> CallContext {
    CallContext::bare(Caller::Anonymous, CallOrigin::Client)
}

fn request(name: &str, arguments: &Value) -> CallTool {
    CallTool { arguments: Some(Json::encode(arguments).unwrap()), ..conformance::tool_call(name) }
}

async fn find(stack: &Stack, query: &str) -> Value {
    let asked = request(FIND_TOOL, &json!({"tool_description": query}));
    let reply = stack.gateway.call_tool(&ctx(), asked).await.unwrap();
    assert!(!reply.is_error);
    reply.members.get("structuredContent").unwrap().decode().unwrap()
}

fn names(found: &Value) -> Vec<&str> {
    found["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

async fn call(stack: &Stack, arguments: Value) -> Result<Reply, Error> {
    stack.gateway.call_tool(&ctx(), request(CALL_TOOL, &arguments)).await
}

fn text(reply: &Reply) -> String {
    tool_result::to_text(reply)
}

#[tokio::test]
async fn keeps_the_rules_of_the_seam() {
    let wrap = |inner| {
        let policy =
            OptimizerPolicy { pinned: vec!["plain".into(), "hang".into()], ..OptimizerPolicy::default() };
        Optimized::wrap(inner, Optimizer::start(policy, None, None, Arc::new(NoopObserver)))
    };
    conformance::check_decorator(&[FIND_TOOL, CALL_TOOL], wrap).await;
}

#[tokio::test]
async fn two_tools_and_what_is_pinned_stand_in_place_of_the_list() {
    let pinned = vec!["mail_send".into(), "gone".into()];
    let stack = stack(OptimizerPolicy { pinned, ..OptimizerPolicy::default() });
    let listed = stack.gateway.list_tools(&ctx()).await.unwrap();
    let names: Vec<&str> = listed.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, [FIND_TOOL, CALL_TOOL, "mail_send"]);
    let description = listed[0].description.as_deref().unwrap();
    assert!(
        description.ends_with(
            "- github (2 tools): create, issue, list\n- mail (1 tool): send\n- time (1 tool): convert"
        ),
        "{description}"
    );
    let again = stack.gateway.list_tools(&ctx()).await.unwrap();
    assert!(Arc::ptr_eq(&listed, &again), "an unchanged list is the same");
    stack.inner.set_tools(vec![tool("mail", "send", "mail_send")]);
    let changed = stack.gateway.list_tools(&ctx()).await.unwrap();
    assert!(!Arc::ptr_eq(&listed, &changed));
}

#[tokio::test]
async fn a_list_that_gave_way_is_let_go() {
    let stack = stack(OptimizerPolicy::default());
    let mut gone = Vec::new();
    for round in 0..4 {
        let name = format!("send_{round}");
        stack.inner.set_tools(vec![tool("mail", "send", &name)]);
        // Both the advertised list and the search cache data about the list.
        stack.gateway.list_tools(&ctx()).await.unwrap();
        assert_eq!(names(&find(&stack, "send").await), [&name]);
        gone.push(Arc::downgrade(&stack.inner.list_tools(&ctx()).await.unwrap()));
    }
    let held: Vec<usize> = gone.iter().map(std::sync::Weak::strong_count).collect();
    assert_eq!(held, [0, 0, 0, 1], "only the present list is held, and only by who gives it");
}

#[tokio::test]
async fn a_search_returns_what_fits_with_what_was_saved() {
    let stack = stack(OptimizerPolicy::default());
    let found = find(&stack, "open an issue in a repository").await;
    assert_eq!(names(&found)[0], "github_create_issue");
    assert!(!names(&found).contains(&"mail_send"));
    assert_eq!(found["tools"][0]["inputSchema"], json!({"type": "object"}));
    let metrics = &found["token_metrics"];
    let list: usize =
        catalogue().iter().map(|tool| vmcp_wire::definitions::write_tool(tool).as_str().len()).sum();
    assert_eq!(metrics["baseline_tokens"], list / 4);
    let returned = metrics["returned_tokens"].as_u64().unwrap() as usize;
    assert!(returned < list / 4);
    let saved = metrics["savings_percent"].as_f64().unwrap();
    assert!((saved - 100.0 * (1.0 - returned as f64 / (list / 4) as f64)).abs() < 0.01);
    assert!(found["tools"][0].get("availability").is_none(), "nothing is said of what is usable");
    assert_eq!(stack.inner.requests(), [] as [&str; 0], "a search calls nothing");
}

#[tokio::test]
async fn no_more_than_asked_for_are_returned() {
    let result_count = ResultCount::new(1).unwrap();
    let stack = stack(OptimizerPolicy { result_count, ..OptimizerPolicy::default() });
    assert_eq!(names(&find(&stack, "issue repository").await).len(), 1);
}

#[tokio::test]
async fn a_whole_name_finds_its_tool_first() {
    let stack = stack(OptimizerPolicy::default());
    stack.inner.set_tools(
        (0..20).map(|n| described("irs", "form", &format!("get_form_{n}"), "Gets a form")).collect(),
    );
    assert_eq!(names(&find(&stack, "call get_form_17, please").await)[0], "get_form_17");
    assert_eq!(
        names(&find(&stack, "get_form_21").await).len(),
        8,
        "a name that fits none finds by its words"
    );
}

#[tokio::test]
async fn a_compact_result_leaves_out_what_no_call_needs() {
    let definition = r#"{"name":"t","inputSchema":{"type":"object","properties":{"a":{"type":"string","description":"long"}}},"outputSchema":{"type":"object"}}"#;
    let definition = Arc::new(Json::parse(definition).unwrap().members().unwrap());
    let stack = stack(OptimizerPolicy { schemas: Schemas::Compact, ..OptimizerPolicy::default() });
    stack.inner.set_tools(vec![Tool { definition, ..described("b", "t", "t", "Paints a picture") }]);
    let found = find(&stack, "paint").await;
    let expected = json!({"name": "t", "description": "Paints a picture",
        "inputSchema": {"type": "object", "properties": {"a": {"type": "string"}}}});
    assert_eq!(found["tools"][0], expected);
}

#[tokio::test]
async fn a_call_goes_down_by_its_resolved_name_with_its_arguments_untouched() {
    let stack = stack(OptimizerPolicy::default());
    let arguments = r#"{"tool_name":"mail_send","parameters":{"z": 1.0,"a":[ ]}}"#;
    let asked = CallTool {
        arguments: Some(Json::parse(arguments).unwrap()),
        continuation: vmcp_domain::Continuation { input_responses: None, request_state: Some("s".into()) },
        ..conformance::tool_call(CALL_TOOL)
    };
    let reply = stack.gateway.call_tool(&ctx(), asked).await.unwrap();
    assert_eq!(stack.inner.requests(), [r#"call mail_send {"z": 1.0,"a":[ ]} by Anonymous"#]);
    assert_eq!(reply.members.get("asked").unwrap().decode_string().unwrap(), stack.inner.requests()[0]);
}

#[tokio::test]
async fn a_tool_that_is_not_listed_can_still_be_called_by_its_name() {
    let stack = stack(OptimizerPolicy::default());
    stack.gateway.call_tool(&ctx(), conformance::tool_call("mail_send")).await.unwrap();
    assert_eq!(stack.inner.requests().len(), 1);
}

#[tokio::test]
async fn a_near_miss_is_told_what_may_be_meant() {
    let stack = stack(OptimizerPolicy::default());
    let reply = call(&stack, json!({"tool_name": "create_issue", "parameters": {}})).await.unwrap();
    assert!(reply.is_error);
    assert_eq!(text(&reply), "tool \"create_issue\" not found; did you mean \"github_create_issue\"?");
    let reply = call(&stack, json!({"tool_name": "walk_the_dog", "parameters": {}})).await.unwrap();
    assert_eq!(text(&reply), "tool \"walk_the_dog\" not found; use find_tool to find one");
    let meta: Value = reply.members.get("_meta").unwrap().decode().unwrap();
    assert_eq!(meta["vmcp/refusal"]["code"], -32602);
    let reply = call(&stack, json!({"tool_name": "call_tool", "parameters": {}})).await.unwrap();
    assert!(text(&reply).starts_with("call_tool does not call call_tool"), "{}", text(&reply));
    assert_eq!(stack.inner.requests(), [] as [&str; 0]);
}

#[tokio::test]
async fn the_virtual_tools_have_the_names_that_the_operator_gave() {
    let names = VirtualNames { find: "search".into(), call: "run".into() };
    let stack = stack(OptimizerPolicy { names, ..OptimizerPolicy::default() });
    let list = stack.gateway.list_tools(&ctx()).await.unwrap();
    let listed: Vec<&str> = list.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(listed, ["search", "run"]);
    for tool in list.iter() {
        let text = tool.description.clone().unwrap() + tool.definition.to_json().as_str();
        assert!(!text.contains("find_tool") && !text.contains("call_tool"), "{text}");
    }
    let found =
        stack.gateway.call_tool(&ctx(), request("search", &json!({"tool_description": "mail"}))).await;
    assert!(text(&found.unwrap()).contains("mail_send"));
    let arguments = json!({"tool_name": "mail_send"});
    stack.gateway.call_tool(&ctx(), request("run", &arguments)).await.unwrap();
    assert_eq!(stack.inner.requests().len(), 1);
    let usage = stack.gateway.call_tool(&ctx(), request("run", &json!({}))).await.unwrap();
    assert!(text(&usage).starts_with("run needs `tool_name`"), "{}", text(&usage));
    // The usual names are unknown tools now.
    assert!(stack.gateway.call_tool(&ctx(), request("find_tool", &json!({}))).await.is_err());
}

#[tokio::test]
async fn a_backends_tool_of_the_same_name_is_reached_through_call_tool() {
    let stack = stack(OptimizerPolicy::default());
    stack.inner.set_tools(vec![tool("other", "find_tool", "find_tool")]);
    call(&stack, json!({"tool_name": "find_tool", "parameters": {}})).await.unwrap();
    assert_eq!(stack.inner.requests().len(), 1);
}

#[tokio::test]
async fn wrong_arguments_are_answered_with_the_form() {
    let stack = stack(OptimizerPolicy::default());
    for (name, arguments) in [(FIND_TOOL, json!({"q": 1})), (CALL_TOOL, json!({"tool_name": 5}))] {
        let reply = stack.gateway.call_tool(&ctx(), request(name, &arguments)).await.unwrap();
        assert!(reply.is_error && text(&reply).starts_with(name), "{}", text(&reply));
    }
}

/// Reports the given availability for the given tools.
struct FixedAvailability(Vec<(&'static str, Availability)>, AtomicBool);

impl AvailabilityCheck for FixedAvailability {
    fn check_availability<'a>(
        &'a self,
        _ctx: &'a CallContext,
        tools: &'a [Tool],
    ) -> BoxFuture<'a, Vec<Availability>> {
        let prospect = |tool: &Tool| {
            let known = self.0.iter().find(|(name, _)| *name == tool.name.as_str());
            known.map_or(Availability::Available, |(_, prospect)| prospect.clone())
        };
        Box::pin(async move {
            if self.1.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            tools.iter().map(prospect).collect()
        })
    }
}

fn limited(tool: &str, seconds: u64) -> Availability {
    Availability::RateLimited(Box::new(RateLimit {
        operation: vmcp_domain::LimitedOperation::Tool(tool.into()),
        rule: "tools[x].shared".into(),
        scope: LimitScope::Tool,
        retry: Retry::After(Duration::from_secs(seconds)),
        resets_at: None,
        allowance: None,
    }))
}

#[tokio::test]
async fn a_result_says_what_cannot_be_used_now_and_when_it_can() {
    let known = vec![
        ("github_create_issue", limited("github_create_issue", 12)),
        ("github_list_issues", limited("github_list_issues", 7200)),
        ("mail_send", Availability::Unavailable),
    ];
    let foresight = Arc::new(FixedAvailability(known, AtomicBool::new(false)));
    let stack = stack_with(OptimizerPolicy::default(), Some(foresight));
    let found = find(&stack, "create issue, list issues, send mail, convert time").await;
    let availability = |name: &str| {
        let tools = found["tools"].as_array().unwrap();
        tools.iter().find(|tool| tool["name"] == name).unwrap().get("availability").cloned()
    };
    assert_eq!(
        availability("github_create_issue").unwrap(),
        json!({"state": "throttled", "retryAfterSeconds": 12, "message":
            "Rate limit exceeded: tool `github_create_issue` cannot be called by anyone for 12 seconds; wait that long, then try again"})
    );
    assert_eq!(availability("github_list_issues").unwrap()["state"], "over_quota");
    assert_eq!(availability("github_list_issues").unwrap()["retryAfterSeconds"], 7200);
    assert_eq!(availability("mail_send").unwrap()["state"], "unavailable");
    assert_eq!(availability("time_convert"), None);
}

#[tokio::test]
async fn of_two_tools_that_fit_as_well_the_usable_one_comes_first() {
    let twins =
        || vec![described("a", "paint", "a_paint", "Paints"), described("b", "paint", "b_paint", "Paints")];
    let foresight =
        Arc::new(FixedAvailability(vec![("a_paint", Availability::Unavailable)], AtomicBool::new(false)));
    let stack = stack_with(OptimizerPolicy::default(), Some(foresight));
    stack.inner.set_tools(twins());
    assert_eq!(names(&find(&stack, "paint").await), ["b_paint", "a_paint"]);
}

#[tokio::test(start_paused = true)]
async fn foresight_that_hangs_does_not_hold_a_search_up() {
    let foresight = Arc::new(FixedAvailability(vec![], AtomicBool::new(true)));
    let stack = stack_with(OptimizerPolicy::default(), Some(foresight));
    assert_eq!(names(&find(&stack, "convert time").await)[0], "time_convert");
}

#[tokio::test]
async fn what_is_added_is_found_and_what_is_removed_is_not() {
    let stack = stack(OptimizerPolicy::default());
    assert!(names(&find(&stack, "letter").await).contains(&"mail_send"));
    let mut tools = catalogue();
    tools.retain(|tool| tool.name.as_str() != "mail_send");
    tools.push(described("post", "stamp", "post_stamp", "Puts a stamp on a letter"));
    stack.inner.set_tools(tools);
    assert_eq!(names(&find(&stack, "letter").await), ["post_stamp"]);
}
