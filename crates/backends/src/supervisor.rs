//! Keeps one backend connected: connects, hears of the end, waits, connects again; and tells everyone how it stands.

mod ready;
mod renewal;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vmcp_domain::{BackendEvent, BackendId, CallerScope, Error, Starting};

pub(crate) use self::ready::ready;
use self::renewal::renew;
use crate::GatewayIdentity;
use crate::backoff::Backoff;
use crate::bearing::{Bearing, Holder};
use crate::connection::Connection;
use crate::connector::Connector;
use crate::ears::Ears;
use crate::failure::{Class, Failure};
use crate::http::HttpClient;
use crate::inventory::LastLists;
use crate::life::Loss;
use crate::pause::Pause;
use crate::per_caller::ProcessRoom;
use crate::policy::{BackendPolicy, ProcessPolicy};
use crate::signs::Signs;
use crate::standing::Wanted;
use crate::sync::Guarded;

/// A connection that lasted this long is remade at once and starts the back-off over.
const STEADY: Duration = Duration::from_secs(10);
/// A connection that lasted this long and was forgotten by its backend is remade at once.
const REMEMBERED: Duration = Duration::from_secs(1);
/// How long a connection may take to end when nobody said otherwise.
const FAREWELL: Duration = Duration::from_secs(2);

/// How a backend stands.
#[derive(Clone)]
pub(crate) enum Phase {
    /// Being connected for the first time, or anew because the backend forgot the connection.
    Connecting,
    /// Connected.
    Ready(Arc<Connection>),
    /// Not reachable; being retried.
    Unavailable(Class),
    /// Ended by the gateway.
    Stopped,
}

/// What `/status` shows besides the phase.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) last_error: Option<Class>,
    pub(crate) connect_count: u64,
}

/// What everything that serves one backend shares.
pub(crate) struct Shared {
    pub(crate) policy: BackendPolicy,
    pub(crate) identity: GatewayIdentity,
    pub(crate) processes: ProcessPolicy,
    pub(crate) ears: Arc<Ears>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) record: Guarded<Record>,
    pub(crate) wanted: watch::Sender<Wanted>,
    pub(crate) stop: CancellationToken,
    pub(crate) grace: Arc<Guarded<Duration>>,
    pub(crate) tasks: TaskTracker,
    /// The credential of its requests, if they carry any.
    pub(crate) bearing: Option<Arc<Bearing>>,
    /// The caller that the connection belongs to, once it belongs to one; `None` for the backend's own connection.
    caller: Option<Arc<OnceLock<CallerScope>>>,
    /// The room for processes.
    pub(crate) room: Arc<ProcessRoom>,
    /// The client of requests over HTTP, which connections share unless a credential tells them apart.
    pub(crate) http: Arc<OnceLock<Arc<HttpClient>>>,
    /// The backend is known to have sessions, so that it need not be probed.
    pub(crate) has_sessions: bool,
    /// What the backend said about being called less.
    pub(crate) pause: Pause,
    /// Ends a wait for the next attempt.
    wake: Notify,
    /// The wait is over and nobody has asked since: a caller's line is not tried again for nobody.
    dormant: AtomicBool,
    /// What the backend offers, as it was last read.
    pub(crate) last_lists: LastLists,
    /// Signs of life while a connection is being made.
    pub(crate) signs: Arc<Signs>,
    /// The backend was found to speak HTTP+SSE. All its connections share the finding.
    is_sse: Arc<AtomicBool>,
}

impl Shared {
    pub(crate) fn new(
        policy: BackendPolicy,
        identity: GatewayIdentity,
        processes: ProcessPolicy,
        room: Arc<ProcessRoom>,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let bearing = policy.credentials.clone().map(|credentials| Arc::new(Bearing::own(credentials)));
        Arc::new(Self {
            ears: Arc::new(Ears::new(policy.id.clone())),
            policy,
            identity,
            processes,
            phase: watch::Sender::new(Phase::Connecting),
            record: Guarded::default(),
            wanted: watch::Sender::new(Arc::new(BTreeSet::new())),
            stop: CancellationToken::new(),
            grace: Arc::new(Guarded::new(FAREWELL)),
            tasks,
            bearing,
            caller: None,
            room,
            http: Arc::default(),
            has_sessions: false,
            pause: Pause::default(),
            wake: Notify::new(),
            dormant: AtomicBool::new(false),
            last_lists: LastLists::default(),
            signs: Arc::default(),
            is_sse: Arc::default(),
        })
    }

    /// A connection of one caller to the same backend. It ends at the latest with this one. Without a scope it is a
    /// spare one.
    pub(crate) fn of_caller(&self, scope: OnceLock<CallerScope>, bearing: Option<Arc<Bearing>>) -> Arc<Self> {
        let caller = Arc::new(scope);
        let has_sessions = matches!(&*self.phase.borrow(), Phase::Ready(main) if main.has_session());
        Arc::new(Self {
            ears: Arc::new(self.ears.of_caller(&caller)),
            policy: self.policy.clone(),
            identity: self.identity.clone(),
            processes: self.processes.clone(),
            phase: watch::Sender::new(Phase::Connecting),
            record: Guarded::default(),
            wanted: watch::Sender::new(Arc::new(BTreeSet::new())),
            stop: self.stop.child_token(),
            grace: Arc::clone(&self.grace),
            tasks: self.tasks.clone(),
            http: if bearing.is_some() { Arc::default() } else { Arc::clone(&self.http) },
            bearing,
            caller: Some(caller),
            room: Arc::clone(&self.room),
            has_sessions,
            pause: Pause::default(),
            wake: Notify::new(),
            dormant: AtomicBool::new(false),
            last_lists: LastLists::default(),
            signs: Arc::default(),
            is_sse: Arc::clone(&self.is_sse),
        })
    }

    /// True once the backend was found to speak HTTP+SSE where streamable HTTP was tried.
    pub(crate) fn over_sse(&self) -> bool {
        self.is_sse.load(Ordering::Relaxed)
    }

    /// From now on it is spoken to over HTTP+SSE.
    pub(crate) fn found_sse(&self) {
        self.is_sse.store(true, Ordering::Relaxed);
        tracing::info!(backend = %self.policy.id, "the backend speaks HTTP+SSE");
    }

    /// What it speaks is found out anew.
    pub(crate) fn forget_sse(&self) {
        self.is_sse.store(false, Ordering::Relaxed);
    }

    /// How it is reached, as found out.
    pub(crate) fn transport(&self) -> &'static str {
        if self.over_sse() { "sse" } else { self.policy.transport.as_str() }
    }

    /// What it does while its first connection is being made.
    pub(crate) fn starting(&self) -> Option<Starting> {
        let is_connected = matches!(&*self.phase.borrow(), Phase::Ready(_));
        self.signs.starting().filter(|_| !is_connected)
    }

    fn is_personal(&self) -> bool {
        self.caller.is_some()
    }

    /// Makes a spare connection one caller's.
    pub(crate) fn give_to(&self, scope: CallerScope) {
        if let Some(caller) = &self.caller {
            // It is given once.
            let _ = caller.set(scope);
        }
    }

    /// The gateway's own look at a backend that answers properly to callers only.
    pub(crate) fn is_look(&self) -> bool {
        !self.is_personal() && self.bearing.is_some()
    }

    /// Takes the newest token of the connection's caller, who is about to use it.
    pub(crate) fn renew(&self, holder: Option<Holder>) {
        let is_other = match (&self.bearing, holder) {
            (Some(bearing), Some(holder)) => bearing.renew(holder),
            (Some(_) | None, _) => false,
        };
        let was_dormant = self.dormant.swap(false, Ordering::AcqRel);
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
            self.wake.notify_one();
        }
    }

    /// What the caller of the seam is told of a failure.
    pub(crate) fn error(&self, failure: Failure) -> Error {
        if let Failure::NotSent(Class::Auth, cause) = &failure
            && self.is_personal()
            && self.bearing.is_some()
        {
            // The backend, or its issuer, does not take this caller's credential. It is none the worse for it.
            return refuse(&self.policy.id, cause);
        }
        failure.into_error(&self.policy.id)
    }

    fn connected(&self, connection: &Arc<Connection>) {
        self.record.lock().connect_count += 1;
        let (transport, protocol) = (self.transport(), connection.dialect.version);
        if self.is_personal() {
            tracing::debug!(backend = %self.policy.id, transport, %protocol, "a caller's own connection is made");
        } else {
            tracing::info!(backend = %self.policy.id, transport, %protocol, "backend connected");
        }
        self.phase.send_replace(Phase::Ready(Arc::clone(connection)));
        let wanted = Arc::clone(&self.wanted.borrow());
        if connection.has_session() && !wanted.is_empty() {
            connection.stand(renew(Arc::clone(connection), wanted));
        }
        self.ears.tell(BackendEvent::Connected);
    }

    fn lost(&self, loss: Loss) {
        match loss {
            Loss::Failed(class) => {
                if self.is_personal() {
                    tracing::debug!(backend = %self.policy.id, class = class.as_str(), "a caller's line was lost");
                } else {
                    tracing::warn!(backend = %self.policy.id, class = class.as_str(), "backend lost");
                }
                self.record.lock().last_error = Some(class);
                self.phase.send_replace(Phase::Unavailable(class));
                self.ears.tell(BackendEvent::Lost);
            }
            Loss::Forgotten(class) => {
                tracing::info!(backend = %self.policy.id, "the backend no longer knows the connection; making a new one");
                self.record.lock().last_error = Some(class);
                self.phase.send_replace(Phase::Connecting);
            }
        }
    }

    fn failed(&self, failure: &Failure, attempt: u64) {
        let class = failure.class();
        if self.is_personal() && class == Class::Credential && attempt == 1 {
            tracing::warn!(backend = %self.policy.id, cause = %failure, "there is no credential for a caller");
        } else if self.is_personal() && self.bearing.is_none() && attempt == 1 {
            tracing::warn!(
                backend = %self.policy.id, class = class.as_str(), cause = %failure,
                "a caller's own connection cannot be made"
            );
        } else if self.is_personal() {
            tracing::debug!(
                backend = %self.policy.id, class = class.as_str(), cause = %failure, "a caller cannot be connected"
            );
        } else if self.is_look() && class == Class::Auth {
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
            self.ears.tell(BackendEvent::Lost);
        }
    }
}

/// Keeps the backend connected until told to stop.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut connector = Connector::new(Arc::clone(&shared));
    let mut backoff = Backoff::connecting();
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
                shared.connected(&connection);
                let loss = tokio::select! {
                    loss = connection.link.life().lost() => loss,
                    () = shared.stop.cancelled() => {
                        end(&shared, &connection).await;
                        break;
                    }
                };
                shared.lost(loss);
                let lived = began.elapsed();
                if lived >= STEADY {
                    backoff.reset();
                    continue;
                }
                if matches!(loss, Loss::Forgotten(_)) && lived >= REMEMBERED {
                    continue;
                }
            }
            Err(failure) => {
                attempt += 1;
                shared.failed(&failure, attempt);
            }
        }
        tokio::select! {
            () = pause(&shared, backoff.wait()) => {}
            () = shared.stop.cancelled() => break,
        }
    }
    shared.phase.send_replace(Phase::Stopped);
}

/// Waits until it is time for the next attempt. A caller's line waits for its caller too.
async fn pause(shared: &Shared, wait: Duration) {
    let waiting = async {
        sleep(wait).await;
        if shared.is_personal() {
            shared.dormant.store(true, Ordering::Release);
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = waiting => {}
        () = shared.wake.notified() => {}
    }
    shared.dormant.store(false, Ordering::Release);
}

/// Refuses a caller whom the backend would not let in.
pub(crate) fn refuse(backend: &BackendId, cause: &str) -> Error {
    tracing::debug!(%backend, cause, "a caller has no credential that the backend takes");
    Error::Denied
}

async fn end(shared: &Shared, connection: &Connection) {
    shared.phase.send_replace(Phase::Stopped);
    let grace = *shared.grace.lock();
    connection.close(grace).await;
}
