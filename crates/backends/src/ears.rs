//! Who hears what one backend tells unasked, on which line it tells it.

use std::sync::{Arc, Weak};

use vmcp_domain::{BackendEvent, BackendId, BackendListener, Scope};

use crate::sync::Guarded;

/// The listener of one backend, if it has one.
#[derive(Default)]
struct Listener(Option<Weak<dyn BackendListener>>);

/// Tells the listener.
pub(crate) struct Ears {
    backend: BackendId,
    scope: Scope,
    listener: Arc<Guarded<Listener>>,
}

impl std::fmt::Debug for Ears {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ears").field("backend", &self.backend).finish_non_exhaustive()
    }
}

impl Ears {
    pub(crate) fn new(backend: BackendId) -> Self {
        Self { backend, scope: Scope::Shared, listener: Arc::default() }
    }

    /// The same listener's, for a line of another scope.
    pub(crate) fn of_scope(&self, scope: Scope) -> Self {
        Self { backend: self.backend.clone(), scope, listener: Arc::clone(&self.listener) }
    }

    pub(crate) fn backend(&self) -> &BackendId {
        &self.backend
    }

    pub(crate) fn listen(&self, listener: Weak<dyn BackendListener>) {
        self.listener.lock().0 = Some(listener);
    }

    pub(crate) fn tell(&self, event: BackendEvent) {
        let listener = self.listener.lock().0.as_ref().and_then(Weak::upgrade);
        if let Some(listener) = listener {
            listener.heard(&self.backend, self.scope, event);
        }
    }
}
