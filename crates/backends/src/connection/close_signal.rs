//! The end of a connection: told once, with its reason, and heard by everything that lives on it.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use crate::failure::FailureClass;

/// Why a connection is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The backend is gone or broken.
    Failed(FailureClass),
    /// The backend is there but has forgotten the connection; a new one is to be made at once.
    SessionLost(FailureClass),
}

/// Ends once.
#[derive(Debug, Default)]
pub(crate) struct CloseSignal {
    token: CancellationToken,
    reason: OnceLock<CloseReason>,
}

impl CloseSignal {
    /// Ends the connection. Only the first reason counts.
    pub(crate) fn close(&self, loss: CloseReason) {
        if self.reason.set(loss).is_ok() {
            self.token.cancel();
        }
    }

    /// The reason, once there is one.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        self.reason.get().copied()
    }

    /// Waits for the end.
    pub(crate) async fn closed(&self) -> CloseReason {
        self.token.cancelled().await;
        // The reason is set before the token is cancelled.
        self.reason().unwrap_or(CloseReason::Failed(FailureClass::Exited))
    }

    /// A token that is cancelled at the end.
    pub(crate) fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}
