use std::time::Duration;

use tokio::sync::mpsc;
use vmcp_domain::{Backend, CallOrigin, Caller, ChangeListener, Gateway, Identity};
use vmcp_json::Members;
use vmcp_testkit::{FakeBackend, conformance, context, watch_changes};

use super::*;
use crate::federation::Federation;
use crate::policy::{AggregationPolicy, HealthPolicy};

fn user(subject: &str) -> CallContext {
    let (issuer, subject) = ("https://issuer".to_owned(), subject.to_owned());
    let identity = Identity { issuer, subject, claims: Members::new() };
    CallContext::bare(Caller::Known(Arc::new(identity)), CallOrigin::Client)
}

async fn tools(federation: &Federation, ctx: &CallContext) -> Vec<String> {
    let tools = federation.list_tools(ctx).await.unwrap();
    tools.iter().map(|tool| tool.name.to_string()).collect()
}

struct TestSetup {
    backend: Arc<FakeBackend>,
    federation: Federation,
    changes: mpsc::UnboundedReceiver<String>,
    _listener: Arc<dyn ChangeListener>,
}

fn setup() -> TestSetup {
    let (open, backend) =
        (FakeBackend::with_tools("open", &["read"]), FakeBackend::isolating("own", &["base"]));
    let backends: Vec<Arc<dyn Backend>> = vec![open, backend.clone()];
    let federation = Federation::start(AggregationPolicy::default(), HealthPolicy::DEFAULT, backends);
    let (listener, changes) = watch_changes(&federation);
    TestSetup { backend, federation, changes, _listener: listener }
}

impl TestSetup {
    /// Changes the backend's tools for ann and announces the change on ann's connection.
    async fn offer_to_ann(&self, names: &[&str]) {
        self.backend.set_tools_of("ann", Some(names));
        self.backend.emit_in_scope(FakeBackend::scope_of("ann"), BackendEvent::ToolsChanged);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_changes_on_one_callers_connection_changes_for_that_caller() {
    let mut harness = setup();
    let (ann, bob) = (user("ann"), user("bob"));
    assert_eq!(tools(&harness.federation, &ann).await, ["read", "base"]);
    let shared = harness.federation.list_tools(&bob).await.unwrap();
    while harness.changes.try_recv().is_ok() {}
    harness.offer_to_ann(&["base", "toggled"]).await;
    assert_eq!(harness.changes.try_recv().unwrap(), "Tools for ann");
    assert!(harness.changes.try_recv().is_err());
    assert_eq!(tools(&harness.federation, &ann).await, ["read", "base", "toggled"]);
    assert!(harness.federation.call_tool(&ann, conformance::tool_call("toggled")).await.is_ok());
    let others = harness.federation.list_tools(&bob).await.unwrap();
    assert!(Arc::ptr_eq(&shared, &others), "everyone else keeps the very same list");
    assert_eq!(tools(&harness.federation, &context()).await, ["read", "base"]);
    // With equal tools again, ann sees the shared list.
    harness.offer_to_ann(&["base"]).await;
    assert_eq!(harness.changes.try_recv().unwrap(), "Tools for ann");
    assert!(Arc::ptr_eq(&harness.federation.list_tools(&ann).await.unwrap(), &others));
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_connection_has_ended_sees_what_everyone_sees() {
    let mut harness = setup();
    let ann = user("ann");
    tools(&harness.federation, &ann).await;
    harness.offer_to_ann(&["toggled"]).await;
    assert_eq!(tools(&harness.federation, &ann).await, ["read", "toggled"]);
    while harness.changes.try_recv().is_ok() {}
    harness.backend.emit_in_scope(FakeBackend::scope_of("ann"), BackendEvent::Disconnected);
    assert_eq!(harness.changes.try_recv().unwrap(), "Tools for ann");
    assert_eq!(tools(&harness.federation, &ann).await, ["read", "base"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_for_everyone_makes_callers_alike_again() {
    let harness = setup();
    let (ann, bob) = (user("ann"), user("bob"));
    tools(&harness.federation, &ann).await;
    harness.offer_to_ann(&["base", "new"]).await;
    harness.backend.set_tools(&["base", "new"]);
    harness.backend.emit(BackendEvent::ToolsChanged);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (one, other) = (
        harness.federation.list_tools(&ann).await.unwrap(),
        harness.federation.list_tools(&bob).await.unwrap(),
    );
    assert!(Arc::ptr_eq(&one, &other));
    assert_eq!(tools(&harness.federation, &bob).await, ["read", "base", "new"]);
}

#[tokio::test(start_paused = true)]
async fn the_lists_of_hundreds_of_callers_are_built_once_each() {
    let harness = setup();
    let callers: Vec<CallContext> = (0..300).map(|number| user(&format!("user{number}"))).collect();
    for number in 0..300 {
        let (name, tool) = (format!("user{number}"), format!("tool{number}"));
        harness.backend.set_tools_of(&name, Some(&[&tool]));
        harness.backend.emit_in_scope(FakeBackend::scope_of(&name), BackendEvent::ToolsChanged);
    }
    tokio::time::sleep(Duration::from_mins(1)).await;
    let mut before = Vec::new();
    for (number, ctx) in callers.iter().enumerate() {
        assert_eq!(tools(&harness.federation, ctx).await, ["read", &format!("tool{number}")]);
        before.push(harness.federation.list_tools(ctx).await.unwrap());
    }
    for (ctx, before) in callers.iter().zip(&before) {
        let now = harness.federation.list_tools(ctx).await.unwrap();
        assert!(Arc::ptr_eq(&now, before), "a list was built again though nothing has changed");
    }
}
