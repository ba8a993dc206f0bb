//! Who hears what one backend tells unasked, on which line it tells it.

use std::sync::{Arc, OnceLock, Weak};

use vmcp_domain::{BackendEvent, BackendId, BackendListener, CallerScope, IsolationScope};

use crate::sync::UnpoisonedMutex;

/// The listener of one backend, if it has one.
#[derive(Default)]
struct ListenerSlot(Option<Weak<dyn BackendListener>>);

/// Tells the listener.
pub(crate) struct EventSender {
    backend: BackendId,
    /// Whose connection it is; `None` for the backend's own.
    caller_scope: Option<Arc<OnceLock<CallerScope>>>,
    listener: Arc<UnpoisonedMutex<ListenerSlot>>,
}

impl std::fmt::Debug for EventSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ears").field("backend", &self.backend).finish_non_exhaustive()
    }
}

impl EventSender {
    pub(crate) fn new(backend: BackendId) -> Self {
        Self { backend, caller_scope: None, listener: Arc::default() }
    }

    /// The same listener's, for a connection of one caller. Nobody is told while it is not known whose.
    pub(crate) fn for_caller(&self, caller: &Arc<OnceLock<CallerScope>>) -> Self {
        let (backend, listener) = (self.backend.clone(), Arc::clone(&self.listener));
        Self { backend, caller_scope: Some(Arc::clone(caller)), listener }
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
            Some(caller) => match caller.get() {
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
