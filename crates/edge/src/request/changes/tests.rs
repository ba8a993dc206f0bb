use vmcp_domain::{CallContext, Error, GatewayFuture, GatewayInfo, Identity, Overview};

use super::change_stream::ChangeStream;
use super::*;

fn subscription_guard() -> SubscriptionGuard {
    Box::new(())
}

/// Every resource is readable, except those with `secret` in their URI.
struct ReadableInfo;

impl GatewayInfo for ReadableInfo {
    fn overview(&self, _caller: &Caller) -> Overview {
        Overview::default()
    }

    fn has_complete_lists(&self) -> bool {
        true
    }

    fn add_listener(&self, _listener: Weak<dyn ChangeListener>) {}

    fn can_subscribe(&self, _caller: &Caller, uri: &ResourceUri) -> bool {
        !uri.as_str().contains("secret")
    }

    fn admit_listen<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn subscribe<'a>(
        &'a self,
        _ctx: &'a CallContext,
        uri: ResourceUri,
    ) -> GatewayFuture<'a, SubscriptionGuard> {
        Box::pin(std::future::ready(Err(Error::UnknownResource(uri))))
    }
}

fn readable() -> Arc<dyn GatewayInfo> {
    Arc::new(ReadableInfo)
}

#[test]
fn a_part_is_told_in_the_watchers_spelling_and_only_where_it_may_be_read() {
    let changes = ChangeDispatcher::new();
    let pending = PendingChanges::new(&changes, &Caller::Anonymous, None);
    assert!(pending.watch("FILE:///wiki/x/../pub".into(), subscription_guard()));
    let mut feed = ChangeStream::for_stream(&changes, &readable(), pending, ListChangeFilter::ALL);
    for uri in
        ["file:///wiki/pub", "file:///wiki/pub/a", "file:///wiki/pub/secret", "file:///wiki/pub/./secret"]
    {
        changes.on_change(&Change::Resource(uri.into()), ChangeAudience::Everyone);
    }
    let told: Vec<String> = feed
        .take_changes()
        .into_iter()
        .filter_map(|change| match change {
            Change::Resource(uri) => Some(uri.original().to_owned()),
            Change::Tools | Change::Resources | Change::Prompts => None,
        })
        .collect();
    assert_eq!(told, ["FILE:///wiki/x/../pub", "file:///wiki/pub/a"]);
}

#[test]
fn a_storm_of_changes_is_told_once() {
    let changes = ChangeDispatcher::new();
    let pending = PendingChanges::new(&changes, &Caller::Anonymous, None);
    assert!(
        pending.watch("file:///a".into(), subscription_guard())
            && pending.watch("file:///a".into(), subscription_guard())
    );
    let mut feed = ChangeStream::for_stream(&changes, &readable(), pending, ListChangeFilter::ALL);
    assert_eq!(feed.take_changes(), []);
    for _ in 0..1000 {
        changes.on_change(&Change::Tools, ChangeAudience::Everyone);
        changes.on_change(&Change::Resource("file:///a".into()), ChangeAudience::Everyone);
        changes.on_change(&Change::Resource("file:///unwatched".into()), ChangeAudience::Everyone);
    }
    assert_eq!(feed.take_changes(), [Change::Tools, Change::Resource("file:///a".into())]);
    assert_eq!(feed.take_changes(), []);
}

#[test]
fn only_what_is_wanted_is_told() {
    let changes = ChangeDispatcher::new();
    let filter = ListChangeFilter { tools: false, ..ListChangeFilter::ALL };
    let mut feed = ChangeStream::for_stream(
        &changes,
        &readable(),
        PendingChanges::new(&changes, &Caller::Anonymous, None),
        filter,
    );
    changes.on_change(&Change::Tools, ChangeAudience::Everyone);
    changes.on_change(&Change::Prompts, ChangeAudience::Everyone);
    assert_eq!(feed.take_changes(), [Change::Prompts]);
}

#[test]
fn watching_is_bounded_and_leaves_nothing_behind() {
    let changes = ChangeDispatcher::new();
    let pending = PendingChanges::new(&changes, &Caller::Anonymous, None);
    for number in 0..WATCHED_PER_CLIENT_MAX {
        assert!(pending.watch(format!("file:///{number}").into(), subscription_guard()));
    }
    assert!(!pending.watch("file:///more".into(), subscription_guard()));
    pending.unwatch(&"file:///0".into());
    assert!(pending.watch("file:///more".into(), subscription_guard()));
    assert!(!pending.watch("x".repeat(WATCHED_URI_BYTES_MAX + 1).into(), subscription_guard()));
    drop(pending);
    let watched = changes.watched_resources();
    assert_eq!((watched.count, watched.watchers_by_uri.len()), (0, 0));
}

#[test]
fn what_one_user_sees_is_told_to_that_user_alone() {
    let changes = ChangeDispatcher::new();
    let identity = |issuer: &str| {
        let claims = vmcp_json::Members::new();
        Arc::new(Identity { issuer: issuer.to_owned(), subject: "ann".to_owned(), claims })
    };
    let feed = |issuer: &str| {
        let pending = PendingChanges::new(&changes, &Caller::Known(identity(issuer)), None);
        assert!(pending.watch("file:///a".into(), subscription_guard()));
        ChangeStream::for_stream(
            &changes,
            &readable(),
            pending,
            ListChangeFilter { prompts: false, ..ListChangeFilter::ALL },
        )
    };
    let (mut one, mut other) = (feed("https://one"), feed("https://other"));
    for change in [Change::Tools, Change::Tools, Change::Prompts, Change::Resource("file:///a".into())] {
        changes.on_change(&change, ChangeAudience::User(&User(identity("https://one"))));
    }
    assert_eq!(one.take_changes(), [Change::Tools, Change::Resource("file:///a".into())]);
    assert_eq!((one.take_changes(), other.take_changes()), (Vec::new(), Vec::new()));
    drop((one, other));
    assert!(changes.users().is_empty());
}
