//! The decorator over a fake gateway: what is listed, what is refused, what reaches the inner gateway.

use std::sync::Arc;

use vmcp_authz::{AccessRequest, Authorized};
use vmcp_domain::{
    CallContext, CallOrigin, CallTool, Caller, Complete, CompletionReference, Continuation, Error,
    Gateway as _, GetPrompt, Prompt, ReadResource, SharedGateway, Tool, ToolHints,
};
use vmcp_json::{Json, Members};
use vmcp_testkit::{FakeGateway, conformance, context, tool};

use crate::{build, caller, caller_of, policy, source};

fn as_caller(caller: Caller) -> CallContext {
    CallContext::bare(caller, CallOrigin::Client)
}

fn wrap(inner: &Arc<FakeGateway>, policies: &[&str]) -> SharedGateway {
    Authorized::wrap(inner.clone(), Arc::new(policy(policies)))
}

fn hinted(name: &str, destructive: bool) -> Tool {
    Tool {
        hints: ToolHints { destructive: Some(destructive), ..ToolHints::default() },
        ..tool("b", name, name)
    }
}

async fn names(gateway: &SharedGateway, ctx: &CallContext) -> Vec<String> {
    gateway.list_tools(ctx).await.unwrap().iter().map(|tool| tool.name.to_string()).collect()
}

#[tokio::test]
async fn keeps_the_rules_of_the_seam() {
    let open: &[&[&str]] = &[
        &["permit(principal, action, resource);"],
        &[r#"permit(principal, action, resource) when { resource in MCP::"gate" };"#],
        &[
            "permit(principal, action, resource);",
            "forbid(principal, action, resource) when { resource has destructiveHint && resource.destructiveHint };",
        ],
    ];
    for policies in open {
        let policy = Arc::new(policy(policies));
        conformance::check_decorator(&[], |inner| Authorized::wrap(inner, policy.clone())).await;
    }
}

#[tokio::test]
async fn a_tool_is_listed_exactly_when_it_can_be_called() {
    let inner = FakeGateway::new(vec![tool("a", "x", "read"), tool("a", "y", "write"), hinted("wipe", true)]);
    let gateway = wrap(
        &inner,
        &[
            r#"permit(principal, action == Action::"call_tool", resource == Tool::"read");"#,
            r#"permit(principal in THVGroup::"dev", action == Action::"call_tool", resource)
             unless { resource has destructiveHint && resource.destructiveHint };"#,
        ],
    );
    for (caller, expected) in [
        (Caller::Anonymous, vec!["read"]),
        (caller("alice", r#"{"groups":["dev"]}"#), vec!["read", "write"]),
        (caller("bob", "{}"), vec!["read"]),
    ] {
        let ctx = as_caller(caller);
        assert_eq!(names(&gateway, &ctx).await, expected);
        for name in ["read", "write", "wipe", "absent"] {
            let before = inner.requests().len();
            let outcome = gateway.call_tool(&ctx, conformance::tool_call(name)).await;
            assert_eq!(outcome.is_ok(), expected.contains(&name), "{name}");
            if let Err(error) = outcome {
                assert!(matches!(error, Error::Denied), "{name}: {error}");
                assert_eq!(inner.requests().len(), before, "a denied call reaches nothing");
            }
            let before = inner.requests().len();
            let followed = gateway.task(&ctx, conformance::task_request(name)).await.is_ok();
            assert_eq!(followed, expected.contains(&name), "a task of {name}");
            assert_eq!(inner.requests().len(), before + usize::from(followed));
        }
    }
}

#[tokio::test]
async fn what_exists_cannot_be_probed() {
    let inner = FakeGateway::new(vec![hinted("wipe", true), hinted("look", false)]);
    let ctx = context();
    let by_hint = wrap(
        &inner,
        &[
            "permit(principal, action, resource);",
            r#"forbid(principal, action, resource) when { resource has destructiveHint && resource.destructiveHint };"#,
        ],
    );
    for name in ["wipe", "absent"] {
        let error = by_hint.call_tool(&ctx, conformance::tool_call(name)).await.unwrap_err();
        assert!(matches!(error, Error::Denied), "{name}: {error}");
    }
    by_hint.call_tool(&ctx, conformance::tool_call("look")).await.unwrap();
    // The same error where the policies permit everything.
    let open = wrap(&inner, &["permit(principal, action, resource);"]);
    let error = open.call_tool(&ctx, conformance::tool_call("absent")).await.unwrap_err();
    assert!(matches!(error, Error::Denied), "{error}");
}

#[tokio::test]
async fn resources_templates_prompts_and_completions_are_checked() {
    let inner = FakeGateway::new(Vec::new());
    let nothing = wrap(&inner, &[r#"permit(principal, action == Action::"call_tool", resource);"#]);
    let everything = wrap(
        &inner,
        &[
            r#"permit(principal, action == Action::"read_resource", resource == Resource::"fake://one");"#,
            r#"permit(principal, action == Action::"read_resource", resource == Resource::"fake://{x}");"#,
            r#"permit(principal, action == Action::"get_prompt", resource == Prompt::"prompt");"#,
        ],
    );
    let ctx = context();
    for (gateway, allowed) in [(nothing, false), (everything, true)] {
        let before = inner.requests().len();
        assert_eq!(gateway.list_resources(&ctx).await.unwrap().len(), usize::from(allowed));
        assert_eq!(gateway.list_resource_templates(&ctx).await.unwrap().len(), usize::from(allowed));
        assert_eq!(gateway.list_prompts(&ctx).await.unwrap().len(), usize::from(allowed));
        let read = |uri: &str| ReadResource {
            uri: uri.into(),
            continuation: Continuation::default(),
            extra: Members::new(),
        };
        let get = GetPrompt {
            name: "prompt".into(),
            arguments: Some(Json::empty_object()),
            continuation: Continuation::default(),
            extra: Members::new(),
        };
        let complete = |reference| Complete { reference, extra: Members::new() };
        let outcomes = [
            gateway.read_resource(&ctx, read("fake://one")).await,
            gateway.get_prompt(&ctx, get).await,
            gateway.complete(&ctx, complete(CompletionReference::Prompt("prompt".into()))).await,
            gateway.complete(&ctx, complete(CompletionReference::Template("fake://{x}".into()))).await,
        ];
        for outcome in outcomes {
            assert_eq!(outcome.is_ok(), allowed);
            assert!(allowed || matches!(outcome, Err(Error::Denied)));
        }
        assert_eq!(inner.requests().len() - before, if allowed { 4 } else { 0 });
        let other = gateway.read_resource(&ctx, read("fake://two")).await;
        assert!(matches!(other, Err(Error::Denied)), "a URI that fits a template is a resource of its own");
    }
}

#[tokio::test]
async fn arguments_decide_calls_and_arrive_untouched() {
    let inner = FakeGateway::new(vec![tool("a", "x", "calc")]);
    let gateway = wrap(
        &inner,
        &[
            r#"permit(principal, action, resource) when { !(context has arg_op) || context.arg_op == "add" };"#,
        ],
    );
    let ctx = context();
    assert_eq!(names(&gateway, &ctx).await, ["calc"]);
    let call = |arguments: &str| CallTool {
        arguments: Some(Json::parse(arguments.to_owned()).unwrap()),
        ..conformance::tool_call("calc")
    };
    gateway.call_tool(&ctx, call(r#"{"n": 1.50, "op":"\u0061dd"}"#)).await.unwrap();
    assert_eq!(inner.requests(), [r#"call calc {"n": 1.50, "op":"\u0061dd"} by Anonymous"#]);
    let refused = gateway.call_tool(&ctx, call(r#"{"op":"rm"}"#)).await;
    assert!(matches!(refused, Err(Error::Denied)));
}

#[tokio::test]
async fn an_unchanged_list_is_the_same_and_shared_by_those_who_see_the_same() {
    let tools = || vec![tool("a", "x", "one"), tool("a", "y", "two"), tool("a", "z", "three")];
    let inner = FakeGateway::new(tools());
    let gateway = wrap(
        &inner,
        &[
            r#"permit(principal, action, resource == Tool::"one");"#,
            r#"permit(principal in THVGroup::"two", action, resource == Tool::"two");"#,
            r#"permit(principal in THVGroup::"all", action, resource);"#,
        ],
    );
    let list = async |caller: &Caller| gateway.list_tools(&as_caller(caller.clone())).await.unwrap();
    let (alice, again) = (caller("alice", r#"{"groups":["two"]}"#), caller("alice", r#"{"groups":["two"]}"#));
    let bob = caller_of("https://elsewhere", "bob", r#"{"groups":["x","two"]}"#);
    let (narrow, root) = (caller("alice", "{}"), caller("root", r#"{"groups":["all"]}"#));
    let first = list(&alice).await;
    assert_eq!(first.len(), 2);
    assert!(Arc::ptr_eq(&first, &list(&again).await), "the same caller, found out anew");
    assert!(Arc::ptr_eq(&first, &list(&bob).await), "another who may see the same");
    assert_eq!(list(&narrow).await.len(), 1, "the same subject with other claims is another caller");
    let whole = inner.clone() as SharedGateway;
    let whole = whole.list_tools(&context()).await.unwrap();
    assert!(Arc::ptr_eq(&whole, &list(&root).await), "who sees everything sees the list itself");
    inner.set_tools(tools());
    let changed = list(&alice).await;
    assert!(!Arc::ptr_eq(&first, &changed));
    assert!(Arc::ptr_eq(&changed, &list(&bob).await));
    inner.set_tools(vec![tool("a", "y", "two")]);
    assert_eq!(list(&alice).await.len(), 1);
    assert_eq!(list(&narrow).await.len(), 0);
}

#[tokio::test]
async fn an_item_whose_policies_fail_is_left_out() {
    let inner = FakeGateway::new(vec![tool("a", "x", "fine"), tool("a", "y", "broken")]);
    let gateway = wrap(
        &inner,
        &[
            "permit(principal, action, resource);",
            r#"permit(principal, action, resource == Tool::"broken") when { principal.claim_absent == "x" };"#,
        ],
    );
    assert_eq!(names(&gateway, &context()).await, ["fine"]);
}

async fn reads(gateway: &SharedGateway, uri: &str) -> bool {
    let request =
        ReadResource { uri: uri.into(), continuation: Continuation::default(), extra: Members::new() };
    gateway.read_resource(&as_caller(caller("ann", "{}")), request).await.is_ok()
}

/// The fake gateway offers `fake://one` and the template `fake://{x}`.
#[tokio::test]
async fn an_address_leads_somewhere_only_by_what_the_caller_sees() {
    let inner = FakeGateway::new(Vec::new());
    let open = wrap(&inner, &["permit(principal, action, resource);"]);
    let listed = open.list_resources(&as_caller(caller("ann", "{}"))).await.unwrap()[0].uri.clone();
    let template =
        open.list_resource_templates(&as_caller(caller("ann", "{}"))).await.unwrap()[0].template.clone();
    assert!(reads(&open, listed.as_str()).await);
    assert!(!reads(&open, "nowhere://at/all").await, "no list and no template names it");
    let only_listed = format!(r#"permit(principal, action, resource == Resource::"{}");"#, listed.as_str());
    let narrow = wrap(&inner, &[&only_listed]);
    assert!(reads(&narrow, listed.as_str()).await);
    let hidden = template.as_str().replace(['{', '}'], "").replace('+', "");
    assert!(!reads(&narrow, &hidden).await, "the template is not shown to this caller");
}

#[tokio::test]
async fn policies_may_spell_an_address_as_they_like() {
    let spelled = policy(&[
        "permit(principal, action, resource);",
        r#"forbid(principal, action, resource == Resource::"HTTPS://Corp.Example:443/x/../hr");"#,
        r#"forbid(principal, action, resource) when { resource.uri == "note://wiki/caf%C3%A9" };"#,
    ]);
    let may = |uri: &str| {
        let uri = vmcp_domain::ResourceUri::from(uri);
        spelled.decide(&caller("ann", "{}"), &AccessRequest::ReadResource { uri: uri.as_str() }).allowed
    };
    assert!(may("https://corp.example/") && may("note://wiki/tea"));
    for uri in
        ["https://corp.example/hr", "https://CORP.example/hr", "note://wiki/café", "note://wiki/caf%c3%a9"]
    {
        assert!(!may(uri), "{uri}");
    }
    let permits = policy(&[r#"permit(principal, action, resource == Resource::"note://wiki/%73tart");"#]);
    let request = AccessRequest::ReadResource { uri: "note://wiki/start" };
    assert!(permits.decide(&caller("ann", "{}"), &request).allowed);
}

/// A tool belongs to its backend in scopes, in conditions, and through declared parents of a backend.
#[tokio::test]
async fn a_tool_belongs_to_its_backend() {
    let inner = FakeGateway::new(vec![
        tool("github", "x", "read"),
        tool("github", "y", "write"),
        tool("jira", "x", "ask"),
    ]);
    let entities =
        r#"[{"uid":{"type":"MCP","id":"jira"},"attrs":{},"parents":[{"type":"Team","id":"plans"}]}]"#;
    for (policies, expected) in [
        (&[r#"permit(principal, action, resource in MCP::"github");"#][..], &["read", "write"][..]),
        (&[r#"permit(principal, action, resource) when { resource in MCP::"jira" };"#], &["ask"]),
        (&[r#"permit(principal, action, resource is Tool in MCP::"jira");"#], &["ask"]),
        (&[r#"permit(principal, action, resource in Team::"plans");"#], &["ask"]),
        (
            &[
                r#"permit(principal, action, resource in MCP::"gate");"#,
                r#"forbid(principal, action == Action::"call_tool", resource in MCP::"github") unless { resource == Tool::"read" };"#,
            ],
            &["read", "ask"],
        ),
        (&[r#"permit(principal, action, resource in MCP::"absent");"#], &[]),
    ] {
        let mut source = source(policies);
        source.entities_json = entities.to_owned();
        source.backend_names = vec!["github".to_owned(), "jira".to_owned()];
        let policy = build(&source);
        assert_eq!(
            policy.warnings().len(),
            usize::from(expected.is_empty()),
            "{policies:?}: {:?}",
            policy.warnings()
        );
        let gateway = Authorized::wrap(inner.clone(), Arc::new(policy));
        let ctx = as_caller(Caller::Anonymous);
        assert_eq!(names(&gateway, &ctx).await, expected, "{policies:?}");
        for name in ["read", "write", "ask", "nosuch"] {
            let outcome = gateway.call_tool(&ctx, conformance::tool_call(name)).await;
            assert_eq!(outcome.is_ok(), expected.contains(&name), "{policies:?} {name}");
        }
    }
}

/// Two backends offer `read`, so both tools have a prefix.
fn contested(backend: &str) -> Tool {
    Tool { contested_name: Some("read".into()), ..tool(backend, "read", &format!("{backend}_read")) }
}

#[tokio::test]
async fn a_prohibition_of_a_contested_name_holds_for_each_tool() {
    let inner = FakeGateway::new(vec![contested("a"), contested("b"), tool("a", "write", "write")]);
    let permit = "permit(principal, action, resource);";
    for (policies, expected) in [
        (&[permit, r#"forbid(principal, action, resource == Tool::"read");"#][..], &["write"][..]),
        (&[permit, r#"forbid(principal, action, resource) when { resource.name == "read" };"#], &["write"]),
        (&[permit, r#"forbid(principal, action, resource == Tool::"a_read");"#], &["b_read", "write"]),
        (
            &[permit, r#"forbid(principal, action, resource) when { resource has readOnlyHint };"#],
            &["a_read", "b_read", "write"],
        ),
        // A permission of the contested name was given for one of the tools, and the policy does not say for which.
        (&[r#"permit(principal, action, resource == Tool::"read");"#], &[]),
        (&[r#"permit(principal, action, resource == Tool::"a_read");"#], &["a_read"]),
    ] {
        let gateway = wrap(&inner, policies);
        let ctx = context();
        assert_eq!(names(&gateway, &ctx).await, expected, "{policies:?}");
        for name in ["a_read", "b_read", "write", "read"] {
            let outcome = gateway.call_tool(&ctx, conformance::tool_call(name)).await;
            assert_eq!(outcome.is_ok(), expected.contains(&name), "{policies:?} {name}");
        }
    }
}

#[tokio::test]
async fn a_prohibition_of_a_contested_prompt_name_holds() {
    let inner = FakeGateway::new(Vec::new());
    let prompt = inner.list_prompts(&context()).await.unwrap()[0].clone();
    inner.set_prompts(vec![Prompt { contested_name: Some("brief".into()), ..prompt }]);
    let permit = "permit(principal, action, resource);";
    for (policies, expected) in [
        (&[permit, r#"forbid(principal, action, resource == Prompt::"brief");"#][..], false),
        (&[r#"permit(principal, action, resource == Prompt::"brief");"#], false),
        (&[permit, r#"forbid(principal, action, resource == Tool::"brief");"#], true),
    ] {
        let gateway = wrap(&inner, policies);
        let ctx = context();
        assert_eq!(gateway.list_prompts(&ctx).await.unwrap().len(), usize::from(expected), "{policies:?}");
        let get = GetPrompt {
            name: "prompt".into(),
            arguments: None,
            continuation: Continuation::default(),
            extra: Members::new(),
        };
        assert_eq!(gateway.get_prompt(&ctx, get).await.is_ok(), expected, "{policies:?}");
        let reference = CompletionReference::Prompt("prompt".into());
        let complete = Complete { reference, extra: Members::new() };
        assert_eq!(gateway.complete(&ctx, complete).await.is_ok(), expected, "{policies:?}");
    }
}
