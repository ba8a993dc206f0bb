//! The close signal of a connection. It is set once, with its reason, and every task of the connection
//! observes it.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use crate::failure::FailureClass;

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The backend is unreachable or broken. It counts as unavailable until it is connected again.
    Failed(FailureClass),
    /// The backend is reachable but no longer knows the connection. It counts as connecting while a new
    /// connection is opened.
    SessionLost(FailureClass),
}

/// A signal that can be set once.
#[derive(Debug, Default)]
pub(crate) struct CloseSignal {
    token: CancellationToken,
    reason: OnceLock<CloseReason>,
}

impl CloseSignal {
    /// Closes the connection. Only the first reason counts.
    pub(crate) fn close(&self, reason: CloseReason) {
        if self.reason.set(reason).is_ok() {
            self.token.cancel();
        }
    }

    /// The reason, once the connection is closed; `None` before.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        self.reason.get().copied()
    }

    /// Waits until the connection is closed.
    pub(crate) async fn closed(&self) -> CloseReason {
        self.token.cancelled().await;
        // The reason is set before the token is cancelled.
        self.reason().unwrap_or(CloseReason::Failed(FailureClass::Exited))
    }

    /// A token that is cancelled when the connection closes.
    pub(crate) fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}
