//! Records the changes that a gateway announces to its listeners.

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
        // The receiver is dropped when a test ends; the error is ignored.
        let _ = self.0.send(line);
    }
}

/// Records all changes from now on, one line for each: the change and its audience, such as `Tools for ann`.
/// The recording ends when the returned listener is dropped.
pub fn watch_changes(
    gateway_info: &dyn GatewayInfo,
) -> (Arc<dyn ChangeListener>, mpsc::UnboundedReceiver<String>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let recorder: Arc<dyn ChangeListener> = Arc::new(ChangeRecorder(sender));
    gateway_info.add_listener(Arc::downgrade(&recorder));
    (recorder, receiver)
}
