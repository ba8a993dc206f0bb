//! Keeps one backend connected: connects, hears of the end, waits, connects again; and tells everyone how it stands.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vmcp_domain::{BackendEvent, BackendId, CallerScope, Error, StartupProgress};

use crate::ClientInfo;
use crate::connection::Connection;
use crate::connection::close_signal::CloseReason;
use crate::connection::event_sender::EventSender;
use crate::connection::inventory::LastLists;
use crate::failure::{Failure, FailureClass};
use crate::http::client::HttpClient;
use crate::http::request_credentials::{AuthenticatedCaller, RequestCredentials};
use crate::http::retry_after::RetryAfter;
use crate::lifecycle::backoff::Backoff;
use crate::lifecycle::connector::Connector;
use crate::lifecycle::per_caller::ProcessSlots;
pub(crate) use crate::lifecycle::readiness::wait_until_ready;
use crate::lifecycle::resubscribe::resubscribe_all;
use crate::lifecycle::subscription_streams::ResourceSubscriptions;
use crate::policy::{BackendPolicy, ProcessPolicy};
use crate::sync::UnpoisonedMutex;
use crate::transport::startup_activity::StartupActivity;

/// A connection that lasted this long is remade at once and starts the back-off over.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// A connection that lasted this long and was forgotten by its backend is remade at once.
const SESSION_STABLE_AFTER: Duration = Duration::from_secs(1);
/// How long a connection may take to end when nobody said otherwise.
const DEFAULT_GRACE: Duration = Duration::from_secs(2);

/// How a backend stands.
#[derive(Clone)]
pub(crate) enum Phase {
    /// Being connected for the first time, or anew because the backend forgot the connection.
    Connecting,
    /// Connected.
    Ready(Arc<Connection>),
    /// Not reachable; being retried.
    Unavailable(FailureClass),
    /// Ended by the gateway.
    Stopped,
}

/// What `/status` shows besides the phase.
#[derive(Debug, Default)]
pub(crate) struct StatusRecord {
    pub(crate) last_error: Option<FailureClass>,
    pub(crate) connect_count: u64,
}

/// What everything that serves one backend shares.
pub(crate) struct SupervisedConnection {
    pub(crate) policy: BackendPolicy,
    pub(crate) client_info: ClientInfo,
    pub(crate) processes: ProcessPolicy,
    pub(crate) event_sender: Arc<EventSender>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) record: UnpoisonedMutex<StatusRecord>,
    pub(crate) subscriptions: watch::Sender<ResourceSubscriptions>,
    pub(crate) stop: CancellationToken,
    pub(crate) grace: Arc<UnpoisonedMutex<Duration>>,
    pub(crate) tasks: TaskTracker,
    /// The credential of its requests, if they carry any.
    pub(crate) request_credentials: Option<Arc<RequestCredentials>>,
    /// The caller that the connection belongs to, once it belongs to one; `None` for the backend's own connection.
    caller_scope: Option<Arc<OnceLock<CallerScope>>>,
    /// The room for processes.
    pub(crate) process_slots: Arc<ProcessSlots>,
    /// The client of requests over HTTP, which connections share unless a credential tells them apart.
    pub(crate) http_client: Arc<OnceLock<Arc<HttpClient>>>,
    /// The backend is known to have sessions, so that it need not be probed.
    pub(crate) has_sessions: bool,
    /// What the backend said about being called less.
    pub(crate) retry_after: RetryAfter,
    /// Ends a wait for the next attempt.
    retry_now: Notify,
    /// The wait is over and nobody has asked since: a caller's line is not tried again for nobody.
    waits_for_caller: AtomicBool,
    /// What the backend offers, as it was last read.
    pub(crate) last_lists: LastLists,
    /// Signs of life while a connection is being made.
    pub(crate) startup_activity: Arc<StartupActivity>,
    /// The backend was found to speak HTTP+SSE. All its connections share the finding.
    is_sse: Arc<AtomicBool>,
}

impl SupervisedConnection {
    pub(crate) fn new(
        policy: BackendPolicy,
        identity: ClientInfo,
        processes: ProcessPolicy,
        room: Arc<ProcessSlots>,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let bearing = policy
            .credentials
            .clone()
            .map(|credentials| Arc::new(RequestCredentials::for_gateway(credentials)));
        Arc::new(Self {
            event_sender: Arc::new(EventSender::new(policy.id.clone())),
            policy,
            client_info: identity,
            processes,
            phase: watch::Sender::new(Phase::Connecting),
            record: UnpoisonedMutex::default(),
            subscriptions: watch::Sender::new(Arc::new(BTreeSet::new())),
            stop: CancellationToken::new(),
            grace: Arc::new(UnpoisonedMutex::new(DEFAULT_GRACE)),
            tasks,
            request_credentials: bearing,
            caller_scope: None,
            process_slots: room,
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

    /// A connection of one caller to the same backend. It ends at the latest with this one. Without a scope it is a
    /// spare one.
    pub(crate) fn for_caller(
        &self,
        scope: OnceLock<CallerScope>,
        bearing: Option<Arc<RequestCredentials>>,
    ) -> Arc<Self> {
        let caller = Arc::new(scope);
        let has_sessions = matches!(&*self.phase.borrow(), Phase::Ready(main) if main.has_session());
        Arc::new(Self {
            event_sender: Arc::new(self.event_sender.for_caller(&caller)),
            policy: self.policy.clone(),
            client_info: self.client_info.clone(),
            processes: self.processes.clone(),
            phase: watch::Sender::new(Phase::Connecting),
            record: UnpoisonedMutex::default(),
            subscriptions: watch::Sender::new(Arc::new(BTreeSet::new())),
            stop: self.stop.child_token(),
            grace: Arc::clone(&self.grace),
            tasks: self.tasks.clone(),
            http_client: if bearing.is_some() { Arc::default() } else { Arc::clone(&self.http_client) },
            request_credentials: bearing,
            caller_scope: Some(caller),
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

    /// True once the backend was found to speak HTTP+SSE where streamable HTTP was tried.
    pub(crate) fn is_over_sse(&self) -> bool {
        self.is_sse.load(Ordering::Relaxed)
    }

    /// From now on it is spoken to over HTTP+SSE.
    pub(crate) fn mark_sse(&self) {
        self.is_sse.store(true, Ordering::Relaxed);
        tracing::info!(backend = %self.policy.id, "the backend speaks HTTP+SSE");
    }

    /// What it speaks is found out anew.
    pub(crate) fn clear_sse(&self) {
        self.is_sse.store(false, Ordering::Relaxed);
    }

    /// How it is reached, as found out.
    pub(crate) fn transport_name(&self) -> &'static str {
        if self.is_over_sse() { "sse" } else { self.policy.transport.as_str() }
    }

    /// What it does while its first connection is being made.
    pub(crate) fn starting(&self) -> Option<StartupProgress> {
        let is_connected = matches!(&*self.phase.borrow(), Phase::Ready(_));
        self.startup_activity.starting().filter(|_| !is_connected)
    }

    fn is_personal(&self) -> bool {
        self.caller_scope.is_some()
    }

    /// Makes a spare connection one caller's.
    pub(crate) fn assign_caller(&self, scope: CallerScope) {
        if let Some(caller) = &self.caller_scope {
            // It is given once.
            let _ = caller.set(scope);
        }
    }

    /// The gateway's own look at a backend that answers properly to callers only.
    pub(crate) fn is_gateway_probe(&self) -> bool {
        !self.is_personal() && self.request_credentials.is_some()
    }

    /// Takes the newest token of the connection's caller, who is about to use it.
    pub(crate) fn update_caller(&self, holder: Option<AuthenticatedCaller>) {
        let is_other = match (&self.request_credentials, holder) {
            (Some(bearing), Some(holder)) => bearing.update_caller(holder),
            (Some(_) | None, _) => false,
        };
        let was_dormant = self.waits_for_caller.swap(false, Ordering::AcqRel);
        if !is_other && !was_dormant {
            return;
        }
        let tries = self.phase.send_if_modified(|phase| {
            let tries = matches!(phase, Phase::Unavailable(_));
            if tries {
                *phase = Phase::Connecting;
            }
            tries
        });
        if tries {
            self.retry_now.notify_one();
        }
    }

    /// What the caller of the seam is told of a failure.
    pub(crate) fn to_error(&self, failure: Failure) -> Error {
        if let Failure::NotSent(FailureClass::Auth, cause) = &failure
            && self.is_personal()
            && self.request_credentials.is_some()
        {
            // The backend, or its issuer, does not take this caller's credential. It is none the worse for it.
            return deny_caller(&self.policy.id, cause);
        }
        failure.into_error(&self.policy.id)
    }

    fn record_connected(&self, connection: &Arc<Connection>) {
        self.record.lock().connect_count += 1;
        let (transport, protocol) = (self.transport_name(), connection.dialect.version);
        if self.is_personal() {
            tracing::debug!(backend = %self.policy.id, transport, %protocol, "a caller's own connection is made");
        } else {
            tracing::info!(backend = %self.policy.id, transport, %protocol, "backend connected");
        }
        self.phase.send_replace(Phase::Ready(Arc::clone(connection)));
        let wanted = Arc::clone(&self.subscriptions.borrow());
        if connection.has_session() && !wanted.is_empty() {
            connection.spawn_tracked(resubscribe_all(Arc::clone(connection), wanted));
        }
        self.event_sender.send(BackendEvent::Connected);
    }

    fn record_lost(&self, loss: CloseReason) {
        match loss {
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

    fn record_failed(&self, failure: &Failure, attempt: u64) {
        let class = failure.class();
        if self.is_personal() && class == FailureClass::Credential && attempt == 1 {
            tracing::warn!(backend = %self.policy.id, cause = %failure, "there is no credential for a caller");
        } else if self.is_personal() && self.request_credentials.is_none() && attempt == 1 {
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
        } else if attempt <= 3 || attempt.is_power_of_two() {
            // The first failures, then ever fewer of them.
            tracing::warn!(
                backend = %self.policy.id, class = class.as_str(), attempt, cause = %failure,
                "backend cannot be connected"
            );
        }
        self.record.lock().last_error = Some(class);
        let renewing =
            matches!(&*self.phase.borrow(), Phase::Connecting) && self.record.lock().connect_count > 0;
        self.phase.send_replace(Phase::Unavailable(class));
        if renewing {
            self.event_sender.send(BackendEvent::Disconnected);
        }
    }
}

/// Keeps the backend connected until told to stop.
pub(crate) async fn run(shared: Arc<SupervisedConnection>) {
    let mut connector = Connector::new(Arc::clone(&shared));
    let mut backoff = Backoff::for_connecting();
    let mut attempt = 0;
    loop {
        let connected = tokio::select! {
            connected = connector.connect() => connected,
            () = shared.stop.cancelled() => break,
        };
        match connected {
            Ok(connection) => {
                attempt = 0;
                let began = Instant::now();
                shared.record_connected(&connection);
                let loss = tokio::select! {
                    loss = connection.link.close_signal().closed() => loss,
                    () = shared.stop.cancelled() => {
                        close_connection(&shared, &connection).await;
                        break;
                    }
                };
                shared.record_lost(loss);
                let lived = began.elapsed();
                if lived >= STABLE_AFTER {
                    backoff.reset();
                    continue;
                }
                if matches!(loss, CloseReason::SessionLost(_)) && lived >= SESSION_STABLE_AFTER {
                    continue;
                }
            }
            Err(failure) => {
                attempt += 1;
                shared.record_failed(&failure, attempt);
            }
        }
        tokio::select! {
            () = wait_for_retry(&shared, backoff.next_delay()) => {}
            () = shared.stop.cancelled() => break,
        }
    }
    shared.phase.send_replace(Phase::Stopped);
}

/// Waits until it is time for the next attempt. A caller's line waits for its caller too.
async fn wait_for_retry(shared: &SupervisedConnection, wait: Duration) {
    let waiting = async {
        sleep(wait).await;
        if shared.is_personal() {
            shared.waits_for_caller.store(true, Ordering::Release);
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = waiting => {}
        () = shared.retry_now.notified() => {}
    }
    shared.waits_for_caller.store(false, Ordering::Release);
}

/// Refuses a caller whom the backend would not let in.
pub(crate) fn deny_caller(backend: &BackendId, cause: &str) -> Error {
    tracing::debug!(%backend, cause, "a caller has no credential that the backend takes");
    Error::Denied
}

async fn close_connection(shared: &SupervisedConnection, connection: &Connection) {
    shared.phase.send_replace(Phase::Stopped);
    let grace = *shared.grace.lock();
    connection.close(grace).await;
}
