//! Background work of a link: cancellations, and the ends of streams.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::arriving::Arriving;
use crate::endpoint::Endpoint;

/// The most messages under way in the background, and the most ends of streams.
const ASIDES_MAX: usize = 256;
/// How long the end of a stream is waited for after its answer, so that its connection can serve again.
const DRAIN_WAIT: Duration = Duration::from_secs(1);

/// Background work, bounded in number and time.
#[derive(Clone)]
pub(super) struct Asides {
    tasks: TaskTracker,
    runtime: Handle,
    messages: Arc<Semaphore>,
    drains: Arc<Semaphore>,
}

impl Asides {
    /// Of the present runtime; what belongs to a thread's own connection is among `tasks`.
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self {
            tasks,
            runtime: Handle::current(),
            messages: Arc::new(Semaphore::new(ASIDES_MAX)),
            drains: Arc::new(Semaphore::new(ASIDES_MAX)),
        }
    }

    pub(super) fn post(&self, endpoint: &Arc<Endpoint>, message: Vec<u8>) {
        let endpoint = Arc::clone(endpoint);
        self.spawn(async move {
            if let Err(failure) = endpoint.post_aside(message).await {
                tracing::debug!(%failure, "a message was not taken");
            }
        });
    }

    /// Reads the end of a stream, so that its connection is not closed with it. That is the present thread's, as the
    /// connection is.
    pub(super) fn drain(&self, mut rest: Arriving) {
        if rest.is_decoded()
            || rest.is_end_stream()
            || matches!(rest.frame().now_or_never(), Some(None | Some(Err(_))))
        {
            return;
        }
        if let Ok(permit) = Arc::clone(&self.drains).try_acquire_owned() {
            self.tasks.spawn(async move {
                let _permit = permit;
                let _ = timeout(DRAIN_WAIT, async { while let Some(Ok(_)) = rest.frame().await {} }).await;
            });
        }
    }

    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Ok(permit) = Arc::clone(&self.messages).try_acquire_owned() {
            let work = async move {
                let _permit = permit;
                work.await;
            };
            self.tasks.spawn_on(work, &self.runtime);
        }
    }
}
