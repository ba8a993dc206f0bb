//! Background work of a link: one-way messages such as cancellations, liveness checks, and reading streams to
//! their end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use vmcp_wire::client::Dialect;
use vmcp_wire::jsonrpc::{self, Id};
use vmcp_wire::method;

use crate::http::endpoint::Endpoint;
use crate::http::response_body::ResponseBody;

/// Maximum number of one-way messages in flight, and of streams being drained.
const BACKGROUND_TASKS_MAX: usize = 256;
/// How long the end of a stream is awaited after its answer, so that its connection returns to the pool.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Background tasks, limited in number and time.
#[derive(Clone)]
pub(super) struct BackgroundTasks {
    tasks: TaskTracker,
    runtime: Handle,
    message_permits: Arc<Semaphore>,
    drain_permits: Arc<Semaphore>,
}

impl BackgroundTasks {
    /// One-way messages run on the current runtime. Draining runs on the calling thread's runtime, through
    /// `tasks`.
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self {
            tasks,
            runtime: Handle::current(),
            message_permits: Arc::new(Semaphore::new(BACKGROUND_TASKS_MAX)),
            drain_permits: Arc::new(Semaphore::new(BACKGROUND_TASKS_MAX)),
        }
    }

    pub(super) fn post_message(&self, endpoint: &Arc<Endpoint>, message: Vec<u8>) {
        let endpoint = Arc::clone(endpoint);
        self.spawn_bounded(async move {
            if let Err(failure) = endpoint.post_one_way(message).await {
                tracing::debug!(%failure, "a message was not taken");
            }
        });
    }

    /// Reads the rest of a stream, so that its connection is not closed. This runs on the current thread's
    /// runtime, because the connection belongs to it.
    pub(super) fn drain_body(&self, mut body: ResponseBody) {
        if body.is_decoded()
            || body.is_end_stream()
            || matches!(body.frame().now_or_never(), Some(None | Some(Err(_))))
        {
            return;
        }
        if let Ok(permit) = Arc::clone(&self.drain_permits).try_acquire_owned() {
            self.tasks.spawn(async move {
                let _permit = permit;
                let _ = timeout(DRAIN_TIMEOUT, async { while let Some(Ok(_)) = body.frame().await {} }).await;
            });
        }
    }

    pub(super) fn spawn_bounded(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Ok(permit) = Arc::clone(&self.message_permits).try_acquire_owned() {
            let work = async move {
                let _permit = permit;
                work.await;
            };
            self.tasks.spawn_on(work, &self.runtime);
        }
    }
}

/// A liveness check that is running. Dropping it allows the next one.
pub(super) struct LivenessCheckGuard(pub(super) Arc<AtomicBool>);

impl Drop for LivenessCheckGuard {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Cancels a request if its future is dropped early. In versions with sessions, closing the response does not
/// cancel the request (2025-11-25).
pub(super) struct CancelOnDrop<'a> {
    pub(super) background: &'a BackgroundTasks,
    pub(super) endpoint: &'a Arc<Endpoint>,
    /// The identifier of the request; `None` once it has its outcome.
    pub(super) id: Option<u64>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let params = Dialect::cancelled(&Id::number(id), "no longer wanted");
            let message = jsonrpc::write_notification(method::CANCELLED, &params);
            self.background.post_message(self.endpoint, message);
        }
    }
}
