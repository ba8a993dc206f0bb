use std::time::Duration;

use vmcp_domain::{BackendEvent, BackendState, Caller, GatewayInfo, Identity, Secret};
use vmcp_json::Members;
use vmcp_testkit::{FakeBackend, context, watch_changes};

use super::*;
use crate::federation::Federation;
use crate::policy::{AggregationPolicy, HealthPolicy};

fn start(backends: &[&Arc<FakeBackend>]) -> Federation {
    let backends = backends.iter().map(|backend| (*backend).clone() as Arc<dyn Backend>).collect();
    Federation::start(AggregationPolicy::default(), HealthPolicy::DEFAULT, backends)
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn one_subscription_however_many_follow() {
    let backend = FakeBackend::new("b");
    backend.set_resources(&["file:///a", "file:///b"], &[]);
    let federation = start(&[&backend]);
    let ctx = context();
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(federation.subscribe(&ctx, "file:///a".into()).await.unwrap());
    }
    let other = federation.subscribe(&ctx, "file:///b".into()).await.unwrap();
    assert_eq!(backend.subscription_log(), ["+file:///a", "+file:///b"]);
    held.truncate(1);
    settle().await;
    assert_eq!(backend.subscription_log().len(), 2);
    drop(held);
    settle().await;
    assert_eq!(backend.subscription_log(), ["+file:///a", "+file:///b", "-file:///a"]);
    // A subscriber that arrives while the last one leaves shares the old subscription or makes a new one. It
    // is never without a subscription.
    drop(other);
    let again = federation.subscribe(&ctx, "file:///b".into()).await.unwrap();
    settle().await;
    let count = |what: &str| backend.subscription_log().iter().filter(|entry| *entry == what).count();
    assert_eq!(count("+file:///b"), count("-file:///b") + 1, "{:?}", backend.subscription_log());
    drop(again);
    settle().await;
    assert_eq!(count("+file:///b"), count("-file:///b"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_followed_is_told_and_leaves_nothing_behind() {
    let (backend, other) = (FakeBackend::new("b"), FakeBackend::new("c"));
    backend.set_resources(&["file:///a"], &[]);
    other.set_resources(&["file:///c"], &[]);
    let federation = start(&[&backend, &other]);
    let ctx = context();
    let unknown = federation.subscribe(&ctx, "file:///z".into()).await;
    assert!(matches!(unknown, Err(Error::UnknownResource(_))));
    backend.set_state(BackendState::Unavailable);
    let refused = federation.subscribe(&ctx, "file:///a".into()).await;
    assert!(matches!(refused, Err(Error::BackendUnavailable { .. })));
    settle().await;
    assert!(backend.subscription_log().is_empty());
    backend.set_state(BackendState::Ready);
    let _held = federation.subscribe(&ctx, "file:///a".into()).await.unwrap();
    assert_eq!(backend.subscription_log(), ["+file:///a"]);
}

#[tokio::test(start_paused = true)]
async fn a_backend_speaks_for_what_it_serves_and_for_parts_of_what_is_followed_there() {
    let (backend, own) = (FakeBackend::new("b"), FakeBackend::personal("own"));
    backend.set_resources(&["file:///a"], &[]);
    own.set_tools_of("ann", Some(&["pay"]));
    let federation = start(&[&backend, &own]);
    let (listener, mut changes) = watch_changes(&federation);
    let identity = Identity { issuer: "i".to_owned(), subject: "ann".to_owned(), claims: Members::new() };
    let mut ann = CallContext::bare(Caller::Known(Arc::new(identity)), CallOrigin::Client);
    ann.token = Some(Secret::new("token"));
    let _held = federation.subscribe(&ann, "file:///a".into()).await.unwrap();
    backend.emit(BackendEvent::ResourceUpdated("file:///a/part".into()));
    backend.emit(BackendEvent::ResourceUpdated("other:///a".into()));
    // The only backend with resources may announce changes of a resource that no list contains. The other
    // backend may not.
    own.emit_in_scope(FakeBackend::scope_of("ann"), BackendEvent::ResourceUpdated("file:///a".into()));
    settle().await;
    drop(listener);
    let mut told = Vec::new();
    while let Some(line) = changes.recv().await {
        if line.contains(":///") {
            told.push(line);
        }
    }
    assert_eq!(told, ["file:///a/part for everyone", "other:///a for everyone"]);
}
