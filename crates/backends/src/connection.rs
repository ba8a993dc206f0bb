//! An established connection: its link, its protocol version, and what the backend declared at the start.
//! `transport` implements the links; `lifecycle` opens connections and replaces closed ones.

pub(crate) mod call_serializer;
mod cancelled_calls;
pub(crate) mod close_signal;
pub(crate) mod event_sender;
pub(crate) mod inventory;
pub(crate) mod link;
pub(crate) mod listen_state;
pub(crate) mod pending_requests;
pub(crate) mod pending_url_elicitations;
pub(crate) mod requester;
pub(crate) mod server_request;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vmcp_domain::{BackendId, BackendToolName, LogLevel};
use vmcp_json::Json;
use vmcp_wire::client::{Dialect, InitializeInfo, MirroredArgument, ServerCapability};
use vmcp_wire::method;

pub(crate) use self::cancelled_calls::CancelledCalls;
use crate::ClientInfo;
pub(crate) use crate::connection::call_serializer::CallSerializer;
use crate::connection::close_signal::CloseReason;
use crate::connection::link::{Link, McpRequest};
use crate::connection::listen_state::ListenState;
use crate::connection::pending_requests::Purpose;
use crate::failure::{Failure, FailureClass};

/// The arguments that are repeated as headers, by tool name.
pub(crate) type MirroredArguments = HashMap<BackendToolName, Vec<MirroredArgument>>;

/// Value of `Connection::log_level` before any level has been set. It is above every level.
const LOG_LEVEL_UNSET: u8 = u8::MAX;

/// An established connection to a backend.
pub(crate) struct Connection {
    pub(crate) backend: BackendId,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) dialect: Dialect,
    pub(crate) initialize_info: InitializeInfo,
    /// True if tool arguments are repeated as headers (2026-07-28 over HTTP).
    pub(crate) mirrors_arguments: bool,
    /// What the open `subscriptions/listen` stream covers (2026-07-28).
    pub(crate) listen_state: watch::Sender<ListenState>,
    mirrored_arguments: Mutex<Arc<MirroredArguments>>,
    log_level: AtomicU8,
    stream_tasks: TaskTracker,
    closing: CancellationToken,
}

impl Connection {
    pub(crate) fn new(
        backend: BackendId,
        link: Arc<dyn Link>,
        initialize_info: InitializeInfo,
        client_info: &ClientInfo,
        over_http: bool,
    ) -> Self {
        let version = initialize_info.version;
        Self {
            backend,
            link,
            dialect: Dialect::new(version, &client_info.name, &client_info.version),
            initialize_info,
            mirrors_arguments: over_http && !version.has_sessions(),
            listen_state: watch::Sender::new(ListenState::Opening),
            mirrored_arguments: Mutex::default(),
            log_level: AtomicU8::new(LOG_LEVEL_UNSET),
            stream_tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        }
    }

    /// Runs a task, such as a long-lived stream, until it finishes or the connection closes.
    pub(crate) fn spawn_tracked(&self, work: impl Future<Output = ()> + Send + 'static) {
        let (closing, closed) = (self.closing.clone(), self.link.close_signal().token());
        self.stream_tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = closing.cancelled() => {}
                () = closed.cancelled() => {}
            }
        });
    }

    /// Closes the connection gracefully: first the tracked tasks, at most for `grace`, then the link, with
    /// the same `grace`.
    pub(crate) async fn close(&self, grace: Duration) {
        self.closing.cancel();
        self.stream_tasks.close();
        if timeout(grace, self.stream_tasks.wait()).await.is_err() {
            tracing::debug!(backend = %self.backend, "what stood open did not end in time");
        }
        self.link.close(grace).await;
        self.link.close_signal().close(CloseReason::Failed(FailureClass::Exited));
    }

    /// True if the protocol version has sessions (before 2026-07-28).
    pub(crate) fn has_session(&self) -> bool {
        self.dialect.version.has_sessions()
    }

    /// Sends one request and waits for its outcome. Closes the connection if the outcome shows that it is
    /// unusable.
    pub(crate) async fn exchange(
        &self,
        purpose: Purpose,
        request: impl FnOnce(u64) -> McpRequest,
    ) -> Result<Json, Failure> {
        let handle = self.link.pending_requests().register(purpose)?;
        let outcome = self.link.exchange(&handle, request(handle.id())).await;
        if let Err(failure) = &outcome {
            self.close_on_failure(failure);
        }
        // After an indeterminate failure the backend may still be working on the request.
        if !matches!(outcome, Err(Failure::Indeterminate(..))) {
            handle.finish();
        }
        outcome
    }

    /// Closes the connection if the failure shows that it is unusable.
    pub(crate) fn close_on_failure(&self, failure: &Failure) {
        match failure {
            Failure::StaleConnection(class, _) => {
                self.link.close_signal().close(CloseReason::SessionLost(*class))
            }
            Failure::NotSent(class @ FailureClass::Connect(_), _) => {
                self.link.close_signal().close(CloseReason::Failed(*class))
            }
            Failure::NotSent(..)
            | Failure::Indeterminate(..)
            | Failure::Refused(_)
            | Failure::Overloaded
            | Failure::ConnectionsFull
            | Failure::Busy(..)
            | Failure::Paused(_) => {}
        }
    }

    /// Requests log messages of level `wanted` and above, in versions that set the level for a session. The
    /// level of a connection is only lowered, because other clients share the connection. `dispatch_notice`
    /// drops messages below a client's own level.
    pub(crate) async fn lower_log_level(&self, wanted: Option<LogLevel>) {
        let Some(level) = wanted
            .filter(|_| self.has_session() && self.initialize_info.has_capability(ServerCapability::Logging))
        else {
            return;
        };
        let severity = level as u8;
        if self.log_level.load(Ordering::Relaxed) <= severity {
            return;
        }
        let request = McpRequest::maintenance(method::SET_LEVEL, self.dialect.set_level(level));
        match self.exchange(Purpose::Maintenance, |_| request).await {
            Ok(_) | Err(Failure::Refused(_)) => {
                self.log_level.fetch_min(severity, Ordering::Relaxed);
            }
            Err(failure) => {
                tracing::debug!(backend = %self.backend, %failure, "the log level could not be set");
            }
        }
    }

    /// The arguments that are repeated as headers, as of the last `tools/list`.
    pub(crate) fn mirrored_arguments(&self) -> Arc<MirroredArguments> {
        Arc::clone(&self.mirrored_arguments.lock())
    }

    /// Replaces the mirrored arguments after a `tools/list`.
    pub(crate) fn set_mirrored_arguments(&self, mirrored_arguments: MirroredArguments) {
        *self.mirrored_arguments.lock() = Arc::new(mirrored_arguments);
    }
}
