//! What everything shares that serves one connection of a backend: its settings, its phase, and its record
//! for `/status`. `supervisor` keeps the connection open.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vmcp_domain::{BackendEvent, BackendId, CallerScope, ConnectFailure, Error, StartupProgress};

use crate::ClientInfo;
use crate::connection::Connection;
use crate::connection::close_signal::CloseReason;
use crate::connection::event_sender::EventSender;
use crate::connection::inventory::LastLists;
use crate::connection::listen_state::ResourceSubscriptions;
use crate::failure::{Failure, FailureClass};
use crate::http::client::HttpClient;
use crate::http::request_credentials::{AuthenticatedCaller, Credentials, RequestCredentials};
use crate::http::retry_after::RetryAfter;
use crate::lifecycle::process_slots::ProcessSlots;
use crate::lifecycle::repeated_failures::is_logged;
use crate::lifecycle::resubscribe::resubscribe_all;
use crate::policy::{BackendPolicy, ProcessPolicy};
use crate::transport::startup_activity::StartupActivity;

/// Default time for a connection to close. `Backends::shutdown` sets another value.
const DEFAULT_GRACE: Duration = Duration::from_secs(2);

/// The connection phase of a backend.
#[derive(Clone)]
pub(crate) enum Phase {
    /// Being connected for the first time, or again because the backend forgot the connection, or because its
    /// caller retries.
    Connecting,
    /// Connected.
    Ready(Arc<Connection>),
    /// Unreachable; the supervisor retries.
    Unavailable(FailureClass),
    /// Stopped by the gateway.
    Stopped,
}

/// What `/status` shows in addition to the phase.
#[derive(Debug, Default)]
pub(crate) struct StatusRecord {
    pub(crate) last_error: Option<FailureClass>,
    /// Why the last attempt to connect failed. `None` while connected.
    pub(crate) connect_failure: Option<ConnectFailure>,
    pub(crate) connect_count: u64,
}

/// State that everything shares that serves one connection of a backend.
pub(crate) struct SupervisedConnection {
    pub(crate) policy: BackendPolicy,
    pub(crate) client_info: ClientInfo,
    pub(crate) processes: ProcessPolicy,
    pub(crate) event_sender: Arc<EventSender>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) record: Mutex<StatusRecord>,
    pub(crate) subscriptions: watch::Sender<ResourceSubscriptions>,
    pub(crate) stop: CancellationToken,
    pub(crate) grace: Arc<Mutex<Duration>>,
    pub(crate) tasks: TaskTracker,
    /// The credential of the requests, if they carry any.
    pub(crate) request_credentials: Option<Arc<RequestCredentials>>,
    /// The caller that owns the connection. It is empty while the connection is a spare one, and `None` for
    /// the backend's own connection.
    caller_scope: Option<Arc<OnceLock<CallerScope>>>,
    /// The process slots of all stdio backends.
    pub(crate) process_slots: Arc<ProcessSlots>,
    /// The HTTP client. Connections of one backend share it unless each carries a credential of its own.
    pub(crate) http_client: Arc<OnceLock<Arc<HttpClient>>>,
    /// The backend is known to have sessions and need not be probed.
    pub(crate) has_sessions: bool,
    /// The pause that the backend requested with `Retry-After`.
    pub(crate) retry_after: RetryAfter,
    /// Ends the wait for the next attempt.
    pub(crate) retry_now: Notify,
    /// The back-off is over, and the caller has sent no request since: a caller's connection is only retried
    /// for a request.
    pub(crate) waits_for_caller: AtomicBool,
    /// The lists of the backend, as they were last read.
    pub(crate) last_lists: LastLists,
    /// Output of the backend while a connection is being opened.
    pub(crate) startup_activity: Arc<StartupActivity>,
    /// The backend was found to speak HTTP+SSE. All its connections share this result.
    is_sse: Arc<AtomicBool>,
}

impl SupervisedConnection {
    pub(crate) fn new(
        policy: BackendPolicy,
        client_info: ClientInfo,
        processes: ProcessPolicy,
        process_slots: Arc<ProcessSlots>,
        tasks: TaskTracker,
        credentials: Option<Credentials>,
    ) -> Arc<Self> {
        let request_credentials = credentials.map(|source| Arc::new(RequestCredentials::for_gateway(source)));
        Arc::new(Self {
            event_sender: Arc::new(EventSender::new(policy.id.clone())),
            policy,
            client_info,
            processes,
            phase: watch::Sender::new(Phase::Connecting),
            record: Mutex::default(),
            subscriptions: watch::Sender::new(Arc::new(BTreeSet::new())),
            stop: CancellationToken::new(),
            grace: Arc::new(Mutex::new(DEFAULT_GRACE)),
            tasks,
            request_credentials,
            caller_scope: None,
            process_slots,
            http_client: Arc::default(),
            has_sessions: false,
            retry_after: RetryAfter::default(),
            retry_now: Notify::new(),
            waits_for_caller: AtomicBool::new(false),
            last_lists: LastLists::default(),
            startup_activity: Arc::default(),
            is_sse: Arc::default(),
        })
    }

    /// A connection of one caller to the same backend. It stops at the latest with this one. With an empty
    /// scope it is a spare connection.
    pub(crate) fn for_caller(
        &self,
        scope: OnceLock<CallerScope>,
        request_credentials: Option<Arc<RequestCredentials>>,
    ) -> Arc<Self> {
        let caller_scope = Arc::new(scope);
        let has_sessions = matches!(&*self.phase.borrow(), Phase::Ready(main) if main.has_session());
        Arc::new(Self {
            event_sender: Arc::new(self.event_sender.for_caller(&caller_scope)),
            policy: self.policy.clone(),
            client_info: self.client_info.clone(),
            processes: self.processes.clone(),
            phase: watch::Sender::new(Phase::Connecting),
            record: Mutex::default(),
            subscriptions: watch::Sender::new(Arc::new(BTreeSet::new())),
            stop: self.stop.child_token(),
            grace: Arc::clone(&self.grace),
            tasks: self.tasks.clone(),
            http_client: if request_credentials.is_some() {
                Arc::default()
            } else {
                Arc::clone(&self.http_client)
            },
            request_credentials,
            caller_scope: Some(caller_scope),
            process_slots: Arc::clone(&self.process_slots),
            has_sessions,
            retry_after: RetryAfter::default(),
            retry_now: Notify::new(),
            waits_for_caller: AtomicBool::new(false),
            last_lists: LastLists::default(),
            startup_activity: Arc::default(),
            is_sse: Arc::clone(&self.is_sse),
        })
    }

    /// True if the backend was found to speak HTTP+SSE where streamable HTTP was tried.
    pub(crate) fn is_over_sse(&self) -> bool {
        self.is_sse.load(Ordering::Relaxed)
    }

    /// From now on connections use HTTP+SSE.
    pub(crate) fn mark_sse(&self) {
        self.is_sse.store(true, Ordering::Relaxed);
        tracing::info!(backend = %self.policy.id, "the backend uses HTTP+SSE");
    }

    /// The next connection tries streamable HTTP again.
    pub(crate) fn clear_sse(&self) {
        self.is_sse.store(false, Ordering::Relaxed);
    }

    /// The name of the transport in use.
    pub(crate) fn transport_name(&self) -> &'static str {
        if self.is_over_sse() { "sse" } else { self.policy.transport.as_str() }
    }

    /// The startup progress while a connection is being opened; `None` if the backend is connected.
    pub(crate) fn starting(&self) -> Option<StartupProgress> {
        let is_connected = matches!(&*self.phase.borrow(), Phase::Ready(_));
        self.startup_activity.starting().filter(|_| !is_connected)
    }

    /// True for a connection of one caller.
    pub(crate) fn is_personal(&self) -> bool {
        self.caller_scope.is_some()
    }

    /// Assigns a spare connection to one caller.
    pub(crate) fn assign_caller(&self, scope: CallerScope) {
        if let Some(caller_scope) = &self.caller_scope {
            // The scope is set only once.
            let _ = caller_scope.set(scope);
        }
    }

    /// True for the gateway's own connection to a backend that requires callers' credentials.
    pub(crate) fn is_gateway_probe(&self) -> bool {
        !self.is_personal() && self.request_credentials.is_some()
    }

    /// Stores the newest token of the caller that is about to use the connection. If the token is new or the
    /// back-off is over, an unavailable connection is retried.
    pub(crate) fn update_caller(&self, caller_scope: Option<AuthenticatedCaller>) {
        let has_changed = match (&self.request_credentials, caller_scope) {
            (Some(request_credentials), Some(caller_scope)) => {
                request_credentials.update_caller(caller_scope)
            }
            (Some(_) | None, _) => false,
        };
        let was_waiting = self.waits_for_caller.swap(false, Ordering::AcqRel);
        if !has_changed && !was_waiting {
            return;
        }
        let is_retried = self.phase.send_if_modified(|phase| {
            let is_retried = matches!(phase, Phase::Unavailable(_));
            if is_retried {
                *phase = Phase::Connecting;
            }
            is_retried
        });
        if is_retried {
            self.retry_now.notify_one();
        }
    }

    /// Converts a failure into the public error of the `Backend` trait.
    pub(crate) fn to_error(&self, failure: Failure) -> Error {
        if let Failure::NotSent(FailureClass::Auth, cause) = &failure
            && self.is_personal()
            && self.request_credentials.is_some()
        {
            // The backend or the issuer refuses this caller's credential. The backend itself is not at fault.
            return deny_caller(&self.policy.id, cause);
        }
        failure.into_error(&self.policy.id)
    }

    /// Publishes a new connection. `failed_attempts` is the number of attempts that failed before it.
    pub(super) fn record_connected(&self, connection: &Arc<Connection>, failed_attempts: u64) {
        {
            let mut record = self.record.lock();
            record.connect_count += 1;
            record.connect_failure = None;
        }
        let (transport, protocol) = (self.transport_name(), connection.dialect.version);
        if self.is_personal() {
            tracing::debug!(backend = %self.policy.id, transport, %protocol, "a caller's own connection is made");
        } else {
            let failed_attempts = (failed_attempts > 0).then_some(failed_attempts);
            tracing::info!(backend = %self.policy.id, transport, %protocol, failed_attempts, "backend connected");
        }
        self.phase.send_replace(Phase::Ready(Arc::clone(connection)));
        let subscriptions = Arc::clone(&self.subscriptions.borrow());
        if connection.has_session() && !subscriptions.is_empty() {
            connection.spawn_tracked(resubscribe_all(Arc::clone(connection), subscriptions));
        }
        self.event_sender.send(BackendEvent::Connected);
    }

    pub(super) fn record_lost(&self, reason: CloseReason) {
        match reason {
            CloseReason::Failed(class) => {
                if self.is_personal() {
                    tracing::debug!(backend = %self.policy.id, class = class.as_str(), "a caller's line was lost");
                } else {
                    tracing::warn!(backend = %self.policy.id, class = class.as_str(), "backend lost");
                }
                self.record.lock().last_error = Some(class);
                self.phase.send_replace(Phase::Unavailable(class));
                self.event_sender.send(BackendEvent::Disconnected);
            }
            CloseReason::SessionLost(class) => {
                tracing::info!(backend = %self.policy.id, "the backend no longer knows the connection; making a new one");
                self.record.lock().last_error = Some(class);
                self.phase.send_replace(Phase::Connecting);
            }
        }
    }

    /// Records a failed attempt. `count` is the number of equal failures in a row, this one included.
    pub(super) fn record_failed(&self, failure: &Failure, explained: ConnectFailure, count: u64) {
        let class = failure.class();
        if self.is_personal() && class == FailureClass::Credential && count == 1 {
            tracing::warn!(backend = %self.policy.id, cause = %failure, "there is no credential for a caller");
        } else if self.is_personal() && self.request_credentials.is_none() && count == 1 {
            tracing::warn!(
                backend = %self.policy.id, class = class.as_str(), cause = %failure,
                "a caller's own connection cannot be made"
            );
        } else if self.is_personal() {
            tracing::debug!(
                backend = %self.policy.id, class = class.as_str(), cause = %failure, "a caller cannot be connected"
            );
        } else if self.is_gateway_probe() && class == FailureClass::Auth {
            tracing::debug!(backend = %self.policy.id, "the backend answers to callers only");
        } else if is_logged(count) {
            let failures = (count > 1).then_some(count);
            tracing::warn!(
                backend = %self.policy.id, class = class.as_str(), code = explained.code, failures,
                cause = %explained,
                "backend cannot be connected"
            );
        }
        {
            let mut record = self.record.lock();
            record.last_error = Some(class);
            record.connect_failure = Some(explained);
        }
        let was_reconnecting =
            matches!(&*self.phase.borrow(), Phase::Connecting) && self.record.lock().connect_count > 0;
        self.phase.send_replace(Phase::Unavailable(class));
        if was_reconnecting {
            self.event_sender.send(BackendEvent::Disconnected);
        }
    }
}

/// The error for a caller that has no credential accepted by the backend.
pub(crate) fn deny_caller(backend: &BackendId, cause: &str) -> Error {
    tracing::debug!(%backend, cause, "a caller has no credential that the backend takes");
    Error::Denied
}
