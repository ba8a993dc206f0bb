//! Sends the unsolicited events of one backend to its listener, with the scope of the connection that they
//! came on.

use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use vmcp_domain::{BackendEvent, BackendId, BackendListener, CallerScope, IsolationScope};

/// The listener of one backend, if one has been set.
#[derive(Default)]
struct ListenerSlot(Option<Weak<dyn BackendListener>>);

/// Sends the events of one connection to the backend's listener.
pub(crate) struct EventSender {
    backend: BackendId,
    /// The caller that owns the connection; `None` for the backend's own connection. Empty until a spare
    /// connection is assigned.
    caller_scope: Option<Arc<OnceLock<CallerScope>>>,
    listener: Arc<Mutex<ListenerSlot>>,
}

impl std::fmt::Debug for EventSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventSender").field("backend", &self.backend).finish_non_exhaustive()
    }
}

impl EventSender {
    pub(crate) fn new(backend: BackendId) -> Self {
        Self { backend, caller_scope: None, listener: Arc::default() }
    }

    /// A sender with the same listener, for a connection of one caller. Events are dropped until the caller
    /// is known.
    pub(crate) fn for_caller(&self, caller_scope: &Arc<OnceLock<CallerScope>>) -> Self {
        let (backend, listener) = (self.backend.clone(), Arc::clone(&self.listener));
        Self { backend, caller_scope: Some(Arc::clone(caller_scope)), listener }
    }

    pub(crate) fn backend(&self) -> &BackendId {
        &self.backend
    }

    pub(crate) fn set_listener(&self, listener: Weak<dyn BackendListener>) {
        self.listener.lock().0 = Some(listener);
    }

    pub(crate) fn send(&self, event: BackendEvent) {
        let scope = match &self.caller_scope {
            None => IsolationScope::Shared,
            Some(caller_scope) => match caller_scope.get() {
                Some(scope) => IsolationScope::Caller(*scope),
                None => return,
            },
        };
        let listener = self.listener.lock().0.as_ref().and_then(Weak::upgrade);
        if let Some(listener) = listener {
            listener.on_event(&self.backend, scope, event);
        }
    }
}
