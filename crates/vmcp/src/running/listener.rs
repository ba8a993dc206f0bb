//! The HTTP listener of a running gateway.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vmcp_edge::HttpEdge;

/// A bound HTTP listener.
pub struct Listener {
    edge: HttpEdge,
    path: String,
    shutdown_started: Arc<OnceLock<Instant>>,
}

impl Listener {
    pub(super) fn new(edge: HttpEdge, path: String, shutdown_started: Arc<OnceLock<Instant>>) -> Self {
        Self { edge, path, shutdown_started }
    }

    /// The address to which the listener is bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.edge.local_addr()
    }

    /// The URL of the MCP endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}{}", self.local_addr(), self.path)
    }

    /// Serves connections on `threads` threads, each with its own runtime, instead of on the runtime that
    /// calls [`serve`](Self::serve). One thread for each core is fastest.
    #[must_use]
    pub fn on_threads(self, threads: usize) -> Self {
        Self { edge: self.edge.with_threads(threads), ..self }
    }

    /// Answers requests until `shutdown` is cancelled. Then it waits until in-flight calls have ended, for at
    /// most three quarters of the grace period. The rest of the grace period is left for
    /// [`RunningGateway::stop`](crate::RunningGateway::stop).
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(self, shutdown: CancellationToken) -> io::Result<()> {
        let shutdown_started_at = self.edge.serve(shutdown).await?;
        let _ = self.shutdown_started.set(shutdown_started_at);
        Ok(())
    }
}
