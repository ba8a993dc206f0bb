//! The end of a connection: told once, with its reason, and heard by everything that lives on it.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use crate::failure::Class;

/// Why a connection is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The backend is gone or broken.
    Failed(Class),
    /// The backend is there but has forgotten the connection; a new one is to be made at once.
    Forgotten(Class),
}

/// Ends once.
#[derive(Debug, Default)]
pub(crate) struct Lifeline {
    ended: CancellationToken,
    loss: OnceLock<Loss>,
}

impl Lifeline {
    /// Ends the connection. Only the first reason counts.
    pub(crate) fn lose(&self, loss: Loss) {
        if self.loss.set(loss).is_ok() {
            self.ended.cancel();
        }
    }

    /// The reason, once there is one.
    pub(crate) fn loss(&self) -> Option<Loss> {
        self.loss.get().copied()
    }

    /// Waits for the end.
    pub(crate) async fn lost(&self) -> Loss {
        self.ended.cancelled().await;
        // The reason is set before the token is cancelled.
        self.loss().unwrap_or(Loss::Failed(Class::Exited))
    }

    /// A token that is cancelled at the end.
    pub(crate) fn token(&self) -> CancellationToken {
        self.ended.clone()
    }
}
