//! Changes that a directory tells its listeners, written down.

use std::sync::Arc;

use tokio::sync::mpsc;
use vmcp_domain::{Audience, Change, ChangeListener, Directory};

struct Recorder(mpsc::UnboundedSender<String>);

impl ChangeListener for Recorder {
    fn changed(&self, change: &Change, audience: Audience<'_>) {
        let audience = match audience {
            Audience::Everyone => "everyone",
            Audience::User(user) => &user.subject,
            Audience::Client(_) => "one client",
        };
        let line = match change {
            Change::Resource(uri) => format!("{uri} for {audience}"),
            Change::Tools | Change::Resources | Change::Prompts => format!("{change:?} for {audience}"),
        };
        // A test that is about to end reads no further.
        let _ = self.0.send(line);
    }
}

/// What changes from now on, one line each: what and for whom, such as `Tools for ann`. Ends when the listener is
/// dropped.
pub fn watch_changes(
    directory: &dyn Directory,
) -> (Arc<dyn ChangeListener>, mpsc::UnboundedReceiver<String>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let recorder: Arc<dyn ChangeListener> = Arc::new(Recorder(sender));
    directory.watch(Arc::downgrade(&recorder));
    (recorder, receiver)
}
