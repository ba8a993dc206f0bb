//! Transports towards backends: stdio processes, streamable HTTP and HTTP+SSE. Stdio and streamable HTTP
//! support versions with sessions and 2026-07-28; HTTP+SSE has sessions only. Connections are opened once,
//! kept, and reopened when they close; many clients share them.
//!
//! `vmcp-wire` defines what messages look like; `vmcp-federation` decides which backend a request goes to.

mod backend;
mod call;
mod call_hold;
mod connection;
mod failure;
mod http;
mod large_buffer;
mod launch;
mod lifecycle;
pub mod policy;
mod saved_lists;
mod time_budget;
mod transport;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use vmcp_credentials::ExchangeContext;
use vmcp_domain::{Backend, BackendId};
use vmcp_http_client::TlsError;
use vmcp_timing::SystemClock;

use crate::backend::RemoteBackend;
use crate::http::request_credentials::Credentials;
use crate::lifecycle::process_slots::ProcessSlots;
use crate::lifecycle::supervised::SupervisedConnection;
use crate::policy::{BackendPolicy, ProcessPolicy, Transport};
use crate::saved_lists::SavedLists;

pub use crate::launch::{Environment, Launcher, exec_child_if_requested};
pub use crate::lifecycle::connect_failure::{CONNECT_FAILURE_CODES, shown_url};
pub use crate::transport::child::adopt_orphans;

/// How the gateway introduces itself to backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// The name of the gateway.
    pub name: String,
    /// The version of the gateway's program.
    pub version: String,
}

/// How long shutdown may take beyond the given grace: a process that ignores SIGTERM is killed within this
/// time.
const SHUTDOWN_MARGIN: Duration = Duration::from_millis(500);

/// The sources of the backends' credentials. They share one context, so that backends that request the same
/// token from the same issuer share it.
fn credential_sources(policies: &[BackendPolicy]) -> Result<Vec<Option<Credentials>>, TlsError> {
    if policies.iter().all(|policy| policy.credentials.is_none()) {
        return Ok(policies.iter().map(|_| None).collect());
    }
    let context = ExchangeContext::new(Arc::new(SystemClock::start()))?;
    let source = |policy: &BackendPolicy| Some(Credentials(policy.credentials.clone()?.build(&context)));
    Ok(policies.iter().map(source).collect())
}

/// Opens the folder with the saved lists. Without it the gateway works, and its next start waits for backends.
fn open_saved_lists(folder: &Path) -> Option<SavedLists> {
    let warn = |error: &std::io::Error| {
        let folder = folder.display();
        tracing::warn!(%folder, %error, "the lists of backends cannot be saved, so the next start waits for them; set `stateFolder`");
    };
    SavedLists::open(folder).inspect_err(warn).ok()
}

/// All backends of a gateway. A supervisor keeps each of them connected until [`Backends::shutdown`].
pub struct Backends {
    backends: Vec<(Arc<SupervisedConnection>, Arc<dyn Backend>)>,
    tasks: TaskTracker,
    /// Reaps processes that children left behind once they have ended.
    reaper_task: AbortHandle,
}

impl fmt::Debug for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.backends.iter().map(|(_, backend)| backend.id());
        f.debug_list().entries(ids).finish()
    }
}

impl Backends {
    /// Starts to connect to every backend. Returns at once; every backend can be used immediately. With
    /// `saved_lists`, the last known lists are kept in that folder for the next process.
    ///
    /// # Errors
    /// When a backend needs exchanged credentials and TLS cannot be set up.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        policies: Vec<BackendPolicy>,
        client_info: &ClientInfo,
        processes: &ProcessPolicy,
        saved_lists: Option<&Path>,
    ) -> Result<Self, TlsError> {
        let credentials = credential_sources(&policies)?;
        let tasks = TaskTracker::new();
        let process_slots = ProcessSlots::new(processes.count_max);
        let saved_lists = saved_lists.and_then(open_saved_lists);
        let backends = policies
            .into_iter()
            .zip(credentials)
            .map(|(policy, credentials)| {
                let supervised = SupervisedConnection::new(
                    policy,
                    client_info.clone(),
                    processes.clone(),
                    Arc::clone(&process_slots),
                    tasks.clone(),
                    credentials.clone(),
                );
                let saved_lists_file =
                    saved_lists.as_ref().map(|lists| lists.file(&supervised.policy, &processes.environment));
                // The slot is held until the supervisor of the backend has ended.
                let slot = matches!(supervised.policy.transport, Transport::Stdio(_))
                    .then(|| process_slots.acquire_unconditionally());
                let supervised_task = Arc::clone(&supervised);
                tasks.spawn(async move {
                    lifecycle::supervisor::run(supervised_task).await;
                    drop(slot);
                });
                let backend: Arc<dyn Backend> =
                    Arc::new(RemoteBackend::new(Arc::clone(&supervised), credentials, saved_lists_file));
                (supervised, backend)
            })
            .collect();
        let reaper_task = tokio::spawn(transport::child::reap_orphans()).abort_handle();
        Ok(Self { backends, tasks, reaper_task })
    }

    /// All backends, in the order of their policies.
    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn Backend>> {
        self.backends.iter().map(|(_, backend)| backend)
    }

    /// The backend with the identifier `id`; `None` if there is none.
    #[must_use]
    pub fn get(&self, id: &BackendId) -> Option<&Arc<dyn Backend>> {
        self.all().find(|backend| backend.id() == id)
    }

    /// Closes every connection within `grace`. Processes are stopped by closing their input, then by SIGTERM;
    /// processes that do not stop are killed with everything that they started. HTTP sessions are ended.
    /// Returns when all of that is done, or a short time after `grace` if backends do not end in time.
    pub async fn shutdown(&self, grace: Duration) {
        for (supervised, _) in &self.backends {
            *supervised.grace.lock() = grace;
            supervised.stop.cancel();
        }
        self.tasks.close();
        if timeout(grace + SHUTDOWN_MARGIN, self.tasks.wait()).await.is_err() {
            tracing::warn!("some backends did not end in time");
        }
        transport::child::kill_orphans();
    }
}

impl Drop for Backends {
    /// Stops the backends that were not shut down, without waiting for them.
    fn drop(&mut self) {
        for (supervised, _) in &self.backends {
            supervised.stop.cancel();
        }
        self.reaper_task.abort();
    }
}
