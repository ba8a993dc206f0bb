//! The rules that every decorator of `Gateway` must follow: it passes on unchanged what it does not handle,
//! it never lists or calls what the inner gateway would not, and dropping its call drops the inner call.

use std::collections::HashSet;
use std::sync::Arc;

use vmcp_domain::{
    CallContext, CallTool, Complete, CompletionReference, Continuation, GetPrompt, ReadResource,
    SharedGateway, TaskHandle, TaskOperation, TaskRequest,
};
use vmcp_json::{Json, Members};

use crate::fake_gateway::{FakeGateway, context, tool};

/// A call of the tool `name` with fixed arguments.
#[must_use]
pub fn tool_call(name: &str) -> CallTool {
    CallTool {
        name: name.into(),
        arguments: Some(Json::parse(r#"{"z": 1.0,"a":[]}"#).unwrap()),
        continuation: Continuation::default(),
        extra: Members::new(),
    }
}

/// A request for the state of a task that a call of `tool` has started.
#[must_use]
pub fn task_request(tool: &str) -> TaskRequest {
    let handle = TaskHandle { backend: "fake".into(), tool: tool.into(), id: "1".to_owned() };
    TaskRequest { operation: TaskOperation::Get, handle, extra: Members::new() }
}

/// Checks the decorator that `wrap` puts around a fake gateway. `virtual_tools` are the names of tools that
/// the decorator adds. The fake has the tools `plain` and `hang` of the backend `fake`, and the decorator
/// must let both through.
///
/// # Panics
/// If the decorator violates one of the rules.
pub async fn check_decorator(virtual_tools: &[&str], wrap: impl Fn(SharedGateway) -> SharedGateway) {
    check_decorator_offering(virtual_tools, 0, wrap).await;
}

/// As [`check_decorator`], for a decorator that adds `virtual_resource_count` resources.
///
/// # Panics
/// If the decorator violates one of the rules.
pub async fn check_decorator_offering(
    virtual_tools: &[&str],
    virtual_resource_count: usize,
    wrap: impl Fn(SharedGateway) -> SharedGateway,
) {
    let inner = FakeGateway::new(vec![tool("fake", "plain", "plain"), tool("fake", "hang", "hang")]);
    let outer = wrap(inner.clone());
    let ctx = context();
    check_pass_through(&inner, &outer, &ctx, virtual_resource_count).await;
    check_not_widened(&inner, &outer, &ctx, virtual_tools).await;
    check_cancellation(&inner, outer).await;
}

async fn check_pass_through(
    inner: &Arc<FakeGateway>,
    outer: &SharedGateway,
    ctx: &CallContext,
    virtual_resource_count: usize,
) {
    let reply = outer.call_tool(ctx, tool_call("plain")).await.expect("a visible tool can be called");
    let requests = inner.requests();
    assert_eq!(
        requests,
        [r#"call plain {"z": 1.0,"a":[]} by Anonymous"#],
        "arguments and caller arrive untouched"
    );
    assert_eq!(
        reply.members.get("asked").unwrap().decode_string().unwrap(),
        requests[0],
        "the reply comes back untouched"
    );
    let read = ReadResource {
        uri: "fake://one".into(),
        continuation: Continuation::default(),
        extra: Members::new(),
    };
    outer.read_resource(ctx, read).await.expect("resources pass");
    let get = GetPrompt {
        name: "prompt".into(),
        arguments: None,
        continuation: Continuation::default(),
        extra: Members::new(),
    };
    outer.get_prompt(ctx, get).await.expect("prompts pass");
    let complete =
        Complete { reference: CompletionReference::Prompt("prompt".into()), extra: Members::new() };
    outer.complete(ctx, complete).await.expect("completions pass");
    let resources = outer.list_resources(ctx).await.unwrap();
    assert_eq!(resources.len(), 1 + virtual_resource_count);
    let again = outer.list_resources(ctx).await.unwrap();
    assert!(Arc::ptr_eq(&resources, &again), "an unchanged list is the same");
    assert_eq!(outer.list_resource_templates(ctx).await.unwrap().len(), 1);
    assert_eq!(outer.list_prompts(ctx).await.unwrap().len(), 1);
    outer.task(ctx, task_request("plain")).await.expect("tasks of a visible tool pass");
    assert_eq!(inner.requests().len(), 5, "one request inside for one outside");
}

async fn check_not_widened(
    inner: &Arc<FakeGateway>,
    outer: &SharedGateway,
    ctx: &CallContext,
    virtual_tools: &[&str],
) {
    let before = inner.requests().len();
    outer.call_tool(ctx, tool_call("absent")).await.expect_err("what is not inside cannot be called");
    assert_eq!(inner.requests().len(), before, "and is not reached");
    let allowed: HashSet<&str> = ["plain", "hang"].iter().chain(virtual_tools).copied().collect();
    for tool in outer.list_tools(ctx).await.unwrap().iter() {
        assert!(allowed.contains(tool.name.as_str()), "`{}` is listed outside but not inside", tool.name);
    }
    inner.set_tools(vec![tool("fake", "plain", "plain")]);
    let names: Vec<String> =
        outer.list_tools(ctx).await.unwrap().iter().map(|tool| tool.name.to_string()).collect();
    assert!(!names.contains(&"hang".to_owned()), "a tool that went away inside goes away outside");
    inner.set_tools(vec![tool("fake", "plain", "plain"), tool("fake", "hang", "hang")]);
}

async fn check_cancellation(inner: &Arc<FakeGateway>, outer: SharedGateway) {
    let started = inner.hanging_changed.notified();
    let task = tokio::spawn(async move { outer.call_tool(&context(), tool_call("hang")).await });
    started.await;
    assert_eq!(inner.hanging_count(), 1);
    let dropped = inner.hanging_changed.notified();
    task.abort();
    dropped.await;
    assert_eq!(inner.hanging_count(), 0, "dropping the outer call drops the inner one");
}
