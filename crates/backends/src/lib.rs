//! Transports towards backends: stdio children, streamable HTTP and HTTP+SSE, each on both protocol eras
//! where the era exists. Connections are made once, kept, and remade; many clients share them.
//!
//! What messages look like is `vmcp-wire`'s; which backend a request goes to is `vmcp-federation`'s.

mod backend;
mod call;
mod call_hold;
mod connection;
mod failure;
mod http;
mod large_buffer;
mod lifecycle;
pub mod policy;
mod sync;
mod time_budget;
mod transport;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use vmcp_domain::{Backend, BackendId};

use crate::backend::RemoteBackend;
use crate::lifecycle::per_caller::ProcessSlots;
use crate::lifecycle::supervisor::SupervisedConnection;
use crate::policy::{BackendPolicy, ProcessPolicy, Transport};

pub use crate::http::tls::check_ca_bundle;
pub use crate::transport::child::{Environment, Launcher, adopt_orphans, exec_child_if_requested};

/// How the gateway introduces itself to backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// Its name.
    pub name: String,
    /// Its program version.
    pub version: String,
}

/// How long shutdown may take beyond the grace given: a process that ignores SIGTERM is killed within this time.
const SHUTDOWN_MARGIN: Duration = Duration::from_millis(500);

/// Every backend of a gateway, each kept connected by its own supervisor until [`Backends::shutdown`].
pub struct Backends {
    backends: Vec<(Arc<SupervisedConnection>, Arc<dyn Backend>)>,
    tasks: TaskTracker,
    /// Takes processes that children left behind off the system's table once they have ended.
    reaper_task: AbortHandle,
}

impl fmt::Debug for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.backends.iter().map(|(_, backend)| backend.id());
        f.debug_list().entries(ids).finish()
    }
}

impl Backends {
    /// Begins to connect to every backend. Returns at once; each can be used at once.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(policies: Vec<BackendPolicy>, identity: &ClientInfo, processes: &ProcessPolicy) -> Self {
        let tasks = TaskTracker::new();
        let room = ProcessSlots::new(processes.count_max);
        let backends = policies
            .into_iter()
            .map(|policy| {
                let shared = SupervisedConnection::new(
                    policy,
                    identity.clone(),
                    processes.clone(),
                    Arc::clone(&room),
                    tasks.clone(),
                );
                // Its place outlives every task of the backend.
                let place = matches!(shared.policy.transport, Transport::Stdio(_))
                    .then(|| room.acquire_unconditionally());
                let running = Arc::clone(&shared);
                tasks.spawn(async move {
                    lifecycle::supervisor::run(running).await;
                    drop(place);
                });
                let backend: Arc<dyn Backend> = Arc::new(RemoteBackend::new(Arc::clone(&shared)));
                (shared, backend)
            })
            .collect();
        let reaping = tokio::spawn(transport::child::reap_orphans()).abort_handle();
        Self { backends, tasks, reaper_task: reaping }
    }

    /// Every backend, in the order of their policies.
    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn Backend>> {
        self.backends.iter().map(|(_, backend)| backend)
    }

    /// The backend called `id`.
    #[must_use]
    pub fn get(&self, id: &BackendId) -> Option<&Arc<dyn Backend>> {
        self.all().find(|backend| backend.id() == id)
    }

    /// Ends every connection within `grace`: processes are asked to end by closing their input, then by SIGTERM, and
    /// are killed with everything they started when they do not; HTTP sessions are ended. Returns when all of that is
    /// done.
    pub async fn shutdown(&self, grace: Duration) {
        for (shared, _) in &self.backends {
            *shared.grace.lock() = grace;
            shared.stop.cancel();
        }
        self.tasks.close();
        if timeout(grace + SHUTDOWN_MARGIN, self.tasks.wait()).await.is_err() {
            tracing::warn!("some backends did not end in time");
        }
        transport::child::kill_orphans();
    }
}

impl Drop for Backends {
    /// Ends what was not shut down; nobody waits for it.
    fn drop(&mut self) {
        for (shared, _) in &self.backends {
            shared.stop.cancel();
        }
        self.reaper_task.abort();
    }
}
