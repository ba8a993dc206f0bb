//! Changes that a directory tells its listeners, written down.

use std::sync::Arc;

use tokio::sync::mpsc;
use vmcp_domain::{Change, ChangeAudience, ChangeListener, GatewayInfo};

struct ChangeRecorder(mpsc::UnboundedSender<String>);

impl ChangeListener for ChangeRecorder {
    fn on_change(&self, change: &Change, audience: ChangeAudience<'_>) {
        let audience = match audience {
            ChangeAudience::Everyone => "everyone",
            ChangeAudience::User(user) => &user.subject,
            ChangeAudience::Client(_) => "one client",
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
    directory: &dyn GatewayInfo,
) -> (Arc<dyn ChangeListener>, mpsc::UnboundedReceiver<String>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let recorder: Arc<dyn ChangeListener> = Arc::new(ChangeRecorder(sender));
    directory.add_listener(Arc::downgrade(&recorder));
    (recorder, receiver)
}
