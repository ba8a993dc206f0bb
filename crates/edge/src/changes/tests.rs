use vmcp_domain::{Answer, CallContext, Error, Identity, Overview};

use super::*;

fn following() -> Following {
    Box::new(())
}

/// Every address may be read but those that contain `secret`.
struct Readable;

impl Directory for Readable {
    fn overview(&self, _caller: &Caller) -> Overview {
        Overview::default()
    }

    fn watch(&self, _listener: Weak<dyn ChangeListener>) {}

    fn may_watch(&self, _caller: &Caller, uri: &ResourceUri) -> bool {
        !uri.as_str().contains("secret")
    }

    fn may_listen<'a>(&'a self, _ctx: &'a CallContext) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn follow<'a>(&'a self, _ctx: &'a CallContext, uri: ResourceUri) -> Answer<'a, Following> {
        Box::pin(std::future::ready(Err(Error::UnknownResource(uri))))
    }
}

fn readable() -> Arc<dyn Directory> {
    Arc::new(Readable)
}

#[test]
fn a_part_is_told_in_the_watchers_spelling_and_only_where_it_may_be_read() {
    let changes = Changes::new();
    let inbox = Inbox::new(&changes, &Caller::Anonymous, None);
    assert!(inbox.watch("FILE:///wiki/x/../pub".into(), following()));
    let mut feed = Feed::of_stream(&changes, &readable(), inbox, Wanted::ALL);
    for uri in
        ["file:///wiki/pub", "file:///wiki/pub/a", "file:///wiki/pub/secret", "file:///wiki/pub/./secret"]
    {
        changes.changed(&Change::Resource(uri.into()), Audience::Everyone);
    }
    let told: Vec<String> = feed
        .take()
        .into_iter()
        .filter_map(|change| match change {
            Change::Resource(uri) => Some(uri.given().to_owned()),
            Change::Tools | Change::Resources | Change::Prompts => None,
        })
        .collect();
    assert_eq!(told, ["FILE:///wiki/x/../pub", "file:///wiki/pub/a"]);
}

#[test]
fn a_storm_of_changes_is_told_once() {
    let changes = Changes::new();
    let inbox = Inbox::new(&changes, &Caller::Anonymous, None);
    assert!(inbox.watch("file:///a".into(), following()) && inbox.watch("file:///a".into(), following()));
    let mut feed = Feed::of_stream(&changes, &readable(), inbox, Wanted::ALL);
    assert_eq!(feed.take(), []);
    for _ in 0..1000 {
        changes.changed(&Change::Tools, Audience::Everyone);
        changes.changed(&Change::Resource("file:///a".into()), Audience::Everyone);
        changes.changed(&Change::Resource("file:///unwatched".into()), Audience::Everyone);
    }
    assert_eq!(feed.take(), [Change::Tools, Change::Resource("file:///a".into())]);
    assert_eq!(feed.take(), []);
}

#[test]
fn only_what_is_wanted_is_told() {
    let changes = Changes::new();
    let wanted = Wanted { tools: false, ..Wanted::ALL };
    let mut feed =
        Feed::of_stream(&changes, &readable(), Inbox::new(&changes, &Caller::Anonymous, None), wanted);
    changes.changed(&Change::Tools, Audience::Everyone);
    changes.changed(&Change::Prompts, Audience::Everyone);
    assert_eq!(feed.take(), [Change::Prompts]);
}

#[test]
fn watching_is_bounded_and_leaves_nothing_behind() {
    let changes = Changes::new();
    let inbox = Inbox::new(&changes, &Caller::Anonymous, None);
    for number in 0..WATCHED_PER_CLIENT_MAX {
        assert!(inbox.watch(format!("file:///{number}").into(), following()));
    }
    assert!(!inbox.watch("file:///more".into(), following()));
    inbox.unwatch(&"file:///0".into());
    assert!(inbox.watch("file:///more".into(), following()));
    assert!(!inbox.watch("x".repeat(WATCHED_URI_BYTES_MAX + 1).into(), following()));
    drop(inbox);
    let watched = changes.watched();
    assert_eq!((watched.count, watched.by_uri.len()), (0, 0));
}

#[test]
fn what_one_user_sees_is_told_to_that_user_alone() {
    let changes = Changes::new();
    let identity = |issuer: &str| {
        let claims = vmcp_domain::Members::new();
        Arc::new(Identity { issuer: issuer.to_owned(), subject: "ann".to_owned(), claims })
    };
    let feed = |issuer: &str| {
        let inbox = Inbox::new(&changes, &Caller::Known(identity(issuer)), None);
        assert!(inbox.watch("file:///a".into(), following()));
        Feed::of_stream(&changes, &readable(), inbox, Wanted { prompts: false, ..Wanted::ALL })
    };
    let (mut one, mut other) = (feed("https://one"), feed("https://other"));
    for change in [Change::Tools, Change::Tools, Change::Prompts, Change::Resource("file:///a".into())] {
        changes.changed(&change, Audience::User(&User(identity("https://one"))));
    }
    assert_eq!(one.take(), [Change::Tools, Change::Resource("file:///a".into())]);
    assert_eq!((one.take(), other.take()), (Vec::new(), Vec::new()));
    drop((one, other));
    assert!(changes.users().is_empty());
}
