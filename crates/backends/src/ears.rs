//! Who hears what one backend tells unasked.

use std::sync::Weak;

use vmcp_domain::{BackendEvent, BackendId, BackendListener};

use crate::sync::Guarded;

/// The listener of one backend, if it has one.
#[derive(Default)]
struct Listener(Option<Weak<dyn BackendListener>>);

/// Tells the listener.
pub(crate) struct Ears {
    backend: BackendId,
    listener: Guarded<Listener>,
}

impl std::fmt::Debug for Ears {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ears").field("backend", &self.backend).finish_non_exhaustive()
    }
}

impl Ears {
    pub(crate) fn new(backend: BackendId) -> Self {
        Self { backend, listener: Guarded::default() }
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
            listener.heard(&self.backend, event);
        }
    }
}
