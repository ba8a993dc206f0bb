use super::*;

#[test]
fn a_storm_of_changes_is_told_once() {
    let changes = Changes::new();
    let inbox = Inbox::new(&changes);
    assert!(inbox.watch("file:///a".into()) && inbox.watch("file:///a".into()));
    let mut feed = Feed::of_stream(&changes, inbox, Wanted::ALL);
    assert_eq!(feed.take(), []);
    for _ in 0..1000 {
        changes.changed(&Change::Tools);
        changes.changed(&Change::Resource("file:///a".into()));
        changes.changed(&Change::Resource("file:///unwatched".into()));
    }
    assert_eq!(feed.take(), [Change::Tools, Change::Resource("file:///a".into())]);
    assert_eq!(feed.take(), []);
}

#[test]
fn only_what_is_wanted_is_told() {
    let changes = Changes::new();
    let wanted = Wanted { tools: false, ..Wanted::ALL };
    let mut feed = Feed::of_stream(&changes, Inbox::new(&changes), wanted);
    changes.changed(&Change::Tools);
    changes.changed(&Change::Prompts);
    assert_eq!(feed.take(), [Change::Prompts]);
}

#[test]
fn watching_is_bounded_and_leaves_nothing_behind() {
    let changes = Changes::new();
    let inbox = Inbox::new(&changes);
    for number in 0..WATCHED_PER_CLIENT_MAX {
        assert!(inbox.watch(format!("file:///{number}").into()));
    }
    assert!(!inbox.watch("file:///more".into()));
    inbox.unwatch(&"file:///0".into());
    assert!(inbox.watch("file:///more".into()));
    assert!(!inbox.watch("x".repeat(WATCHED_URI_BYTES_MAX + 1).into()));
    drop(inbox);
    let watched = changes.watched();
    assert_eq!((watched.count, watched.by_uri.len()), (0, 0));
}
