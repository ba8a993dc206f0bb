//! Keeps one backend connected: connects, hears of the end, waits, connects again; and tells everyone how it stands.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vmcp_domain::{BackendEvent, ResourceUri};
use vmcp_wire::method;

use crate::GatewayIdentity;
use crate::backoff::Backoff;
use crate::connection::Connection;
use crate::connector::Connector;
use crate::ears::Ears;
use crate::failure::{Class, Failure};
use crate::flights::Purpose;
use crate::life::Loss;
use crate::link::Request;
use crate::policy::BackendPolicy;
use crate::standing::Wanted;
use crate::sync::Guarded;

/// A connection that lasted this long is remade at once and starts the back-off over.
const STEADY: Duration = Duration::from_secs(10);
/// A connection that lasted this long and was forgotten by its backend is remade at once.
const REMEMBERED: Duration = Duration::from_secs(1);
/// How many subscriptions are renewed at a time.
const RENEWALS_MAX: usize = 8;
/// How long renewing all of them may take.
const RENEWAL_WAIT: Duration = Duration::from_secs(60);
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
    pub(crate) ears: Arc<Ears>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) record: Guarded<Record>,
    pub(crate) wanted: watch::Sender<Wanted>,
    pub(crate) stop: CancellationToken,
    pub(crate) grace: Guarded<Duration>,
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn new(policy: BackendPolicy, identity: GatewayIdentity, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self {
            ears: Arc::new(Ears::new(policy.id.clone())),
            policy,
            identity,
            phase: watch::Sender::new(Phase::Connecting),
            record: Guarded::default(),
            wanted: watch::Sender::new(Arc::new(BTreeSet::new())),
            stop: CancellationToken::new(),
            grace: Guarded::new(FAREWELL),
            tasks,
        })
    }

    fn connected(&self, connection: &Arc<Connection>) {
        self.record.lock().connect_count += 1;
        tracing::info!(
            backend = %self.policy.id,
            transport = self.policy.transport.as_str(),
            protocol = %connection.dialect.version,
            "backend connected"
        );
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
                tracing::warn!(backend = %self.policy.id, class = class.as_str(), "backend lost");
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
        // The first failures, then ever fewer of them.
        if attempt <= 3 || attempt.is_power_of_two() {
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
            () = sleep(backoff.wait()) => {}
            () = shared.stop.cancelled() => break,
        }
    }
    shared.phase.send_replace(Phase::Stopped);
}

async fn end(shared: &Shared, connection: &Connection) {
    shared.phase.send_replace(Phase::Stopped);
    let grace = *shared.grace.lock();
    connection.close(grace).await;
}

/// Subscribes again to everything that is wanted, after the session that knew of it has gone.
async fn renew(connection: Arc<Connection>, wanted: Wanted) {
    let subscribing = stream::iter(wanted.iter().cloned()).for_each_concurrent(RENEWALS_MAX, |uri: ResourceUri| {
        let connection = Arc::clone(&connection);
        async move {
            let params = connection.dialect.subscription(&uri);
            let request = Request::upkeep(method::RESOURCES_SUBSCRIBE, params);
            if let Err(failure) = connection.exchange(Purpose::Upkeep, |_| request).await {
                tracing::warn!(backend = %connection.backend, %failure, "a subscription could not be renewed");
            }
        }
    });
    if timeout(RENEWAL_WAIT, subscribing).await.is_err() {
        tracing::warn!(backend = %connection.backend, "not every subscription could be renewed in time");
    }
}

/// Waits for the backend to be ready. A backend being connected is waited for; one that is not reachable is not.
pub(crate) async fn ready(shared: &Shared) -> Result<Arc<Connection>, Failure> {
    let mut phase = shared.phase.subscribe();
    let waiting = async {
        loop {
            match &*phase.borrow_and_update() {
                Phase::Ready(connection) => match connection.link.life().loss() {
                    None => return Ok(Arc::clone(connection)),
                    Some(Loss::Failed(class)) => {
                        return Err(Failure::not_sent(class, "the connection has just ended"));
                    }
                    Some(Loss::Forgotten(_)) => {}
                },
                Phase::Connecting => {}
                Phase::Unavailable(class) => return Err(Failure::not_sent(*class, "not connected")),
                Phase::Stopped => return Err(Failure::not_sent(Class::Exited, "stopped")),
            }
            if phase.changed().await.is_err() {
                return Err(Failure::not_sent(Class::Exited, "stopped"));
            }
        }
    };
    let late = || Failure::not_sent(Class::Timeout, "still being connected");
    timeout(shared.policy.timeouts.connect, waiting).await.map_err(|_| late())?
}
