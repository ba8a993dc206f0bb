use std::time::Duration;

use tokio::time::Instant;
use vmcp_domain::{Backend, CallOrigin, Error, Gateway};
use vmcp_json::Members;
use vmcp_testkit::{FakeBackend, conformance, context, watch_changes};

use super::*;
use crate::federation::Federation;
use crate::policy::{AggregationPolicy, HealthPolicy};

fn start(backends: &[&Arc<FakeBackend>]) -> Federation {
    let backends = backends.iter().map(|backend| (*backend).clone() as Arc<dyn Backend>).collect();
    Federation::start(AggregationPolicy::default(), HealthPolicy::DEFAULT, backends)
}

fn user(subject: &str) -> CallContext {
    let identity =
        Identity { issuer: "https://i".to_owned(), subject: subject.to_owned(), claims: Members::new() };
    let mut ctx = CallContext::bare(Caller::Known(Arc::new(identity)), CallOrigin::Client);
    ctx.token = Some(Secret::new(subject));
    ctx
}

async fn tools(federation: &Federation, ctx: &CallContext) -> Vec<String> {
    let tools = federation.list_tools(ctx).await.unwrap();
    tools.iter().map(|tool| tool.name.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn each_caller_sees_what_its_own_credential_shows() {
    let (open, own) = (FakeBackend::with_tools("open", &["read"]), FakeBackend::personal("own"));
    own.set_tools_of("ann", Some(&["read", "pay"]));
    own.set_tools_of("bob", Some(&["look"]));
    let federation = start(&[&open, &own]);
    assert!(federation.has_caller_backends());
    let (ann, bob, eve) = (user("ann"), user("bob"), user("eve"));
    assert_eq!(tools(&federation, &ann).await, ["open_read", "own_read", "pay"]);
    assert_eq!(tools(&federation, &bob).await, ["read", "look"]);
    assert_eq!(tools(&federation, &eve).await, ["read"], "the backend does not let eve in");
    assert_eq!(tools(&federation, &context()).await, ["read"]);
    assert!(federation.call_tool(&ann, conformance::tool_call("pay")).await.is_ok());
    for (ctx, name) in [(&bob, "pay"), (&eve, "absent"), (&context(), "look")] {
        let refused = federation.call_tool(ctx, conformance::tool_call(name)).await;
        assert!(matches!(refused, Err(Error::UnknownTool(_))), "{name}");
    }
    let refused = federation.call_tool(&eve, conformance::tool_call("look")).await;
    assert!(
        matches!(refused, Err(Error::Denied)),
        "a backend that refuses eve offers it to others: {refused:?}"
    );
    let report = federation.reports().remove(1);
    assert_eq!((report.caller_count, report.is_listed), (Some(2), true));
}

#[tokio::test(start_paused = true)]
async fn without_a_token_to_exchange_a_caller_sees_what_everyone_sees() {
    let (open, own) = (FakeBackend::with_tools("open", &["read"]), FakeBackend::personal("own"));
    own.set_tools_of("ann", Some(&["pay"]));
    let federation = start(&[&open, &own]);
    let mut key_holder = user("ann");
    key_holder.token = None;
    assert_eq!(tools(&federation, &key_holder).await, ["read"]);
}

#[tokio::test(start_paused = true)]
async fn users_who_see_the_same_share_one_list() {
    let (open, own) = (FakeBackend::with_tools("open", &["read"]), FakeBackend::personal("own"));
    for subject in ["ann", "bob"] {
        own.set_tools_of(subject, Some(&["pay"]));
    }
    let federation = start(&[&open, &own]);
    let (ann, bob) = (user("ann"), user("bob"));
    let list = |ctx| federation.list_tools(ctx);
    let (first, second) = (list(&ann).await.unwrap(), list(&bob).await.unwrap());
    assert!(Arc::ptr_eq(&first, &second));
    open.set_tools(&["read", "write"]);
    open.emit(BackendEvent::ToolsChanged);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (first, second) = (list(&ann).await.unwrap(), list(&bob).await.unwrap());
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(first.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_changes_for_one_user_is_told_to_that_user() {
    let own = FakeBackend::personal("own");
    own.set_tools_of("ann", Some(&["pay"]));
    own.set_tools_of("bob", Some(&["pay"]));
    let federation = start(&[&own]);
    let (ann, bob) = (user("ann"), user("bob"));
    assert_eq!(tools(&federation, &ann).await, ["pay"]);
    assert_eq!(tools(&federation, &bob).await, ["pay"]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (_listener, mut changes) = watch_changes(&federation);
    own.set_tools_of("ann", Some(&["pay", "refund"]));
    own.emit_in_scope(FakeBackend::scope_of("ann"), BackendEvent::ToolsChanged);
    assert_eq!(changes.recv().await.unwrap(), "Tools for ann");
    assert_eq!(tools(&federation, &ann).await, ["pay", "refund"]);
    assert_eq!(tools(&federation, &bob).await, ["pay"]);
    // A burst of changes causes one fetch after another.
    for _ in 0..10_000 {
        own.emit_in_scope(FakeBackend::scope_of("ann"), BackendEvent::ToolsChanged);
    }
    // A caller who is denied no longer sees the backend's items, at the latest after the next health check.
    own.set_tools_of("ann", None);
    tokio::time::sleep(HealthPolicy::DEFAULT.interval).await;
    let _begins_the_look = tools(&federation, &ann).await;
    assert_eq!(changes.recv().await.unwrap(), "Tools for ann");
    assert!(tools(&federation, &ann).await.is_empty());
    assert_eq!(tools(&federation, &bob).await, ["pay"]);
    assert!(changes.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_slow_backend_is_waited_for_once_and_not_for_ever() {
    let (open, own) = (FakeBackend::with_tools("open", &["read"]), FakeBackend::personal("own"));
    own.set_tools_of("ann", Some(&["pay"]));
    own.set_state(vmcp_domain::BackendState::Connecting);
    let federation = start(&[&open, &own]);
    let ann = user("ann");
    let began = Instant::now();
    assert_eq!(tools(&federation, &ann).await, ["read"]);
    assert!(began.elapsed() <= DISCOVERY_TIMEOUT + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn views_are_bounded() {
    let own = FakeBackend::personal("own");
    let subjects: Vec<String> = (0..VIEWS_MAX.get() + 10).map(|number| format!("user-{number}")).collect();
    for subject in &subjects {
        own.set_tools_of(subject, Some(&["pay"]));
    }
    let federation = start(&[&own]);
    for subject in &subjects {
        assert_eq!(tools(&federation, &user(subject)).await, ["pay"]);
    }
    assert_eq!(federation.reports().remove(0).caller_count, Some(VIEWS_MAX.get()));
}
