//! Connections to a backend that belong to single callers. The backend knows each caller by its own
//! credential, or keeps state that callers must not share. The first request of a caller opens its
//! connection, which is closed after an idle time-out. `key` decides which requests share one.

mod key;
pub(crate) mod open;
mod spare;
pub(crate) mod start_rate_limiter;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use vmcp_domain::{BackendEvent, CallContext, CallOrigin, Caller, CallerScope, IsolationScope, SilentClient};

pub(crate) use self::key::ConnectionKey;
use self::key::Owner;
use self::spare::SpareProcess;
use crate::failure::{Failure, FailureClass};
use crate::http::request_credentials::Credentials;
use crate::http::request_credentials::{self, AuthenticatedCaller};
use crate::lifecycle::per_caller::start_rate_limiter::StartRateLimiter;
use crate::lifecycle::process_slots::{CallerProcesses, ProcessSlots};
use crate::lifecycle::readiness::wait_until_ready;
use crate::lifecycle::supervised::{Phase, SupervisedConnection};
use crate::policy::{CallerBounds, Isolation, Transport};

/// How often idle connections, and connections of ended clients, are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Start rate of processes: the burst size, and the interval of the starts after it.
const PROCESS_BURST: u32 = 8;
const PROCESS_INTERVAL: Duration = Duration::from_millis(250);
/// Start rate of connections over HTTP: the burst size, and the interval after it.
const HTTP_BURST: u32 = 100;
const HTTP_INTERVAL: Duration = Duration::from_millis(10);

/// Why callers have separate connections.
pub(crate) enum Grouping {
    /// Each request carries a credential on behalf of its caller.
    Credentials(Credentials),
    /// The backend keeps state.
    Isolation(Isolation),
}

/// The connections of single callers to one backend.
pub(crate) struct CallerConnections {
    /// The backend's own connection, for requests that belong to no caller.
    main: Arc<SupervisedConnection>,
    grouping: Grouping,
    bounds: CallerBounds,
    connections: Mutex<HashMap<ConnectionKey, CallerConnection>>,
    /// The process slots, if each connection is a process.
    process_slots: Option<Arc<ProcessSlots>>,
    spare: Mutex<Option<SpareProcess>>,
    spare_taken: Notify,
    start_limiter: StartRateLimiter,
    slot_freed: Arc<Notify>,
    /// The runtime of the connection tasks. The requesting thread may end before its session does.
    runtime: Handle,
}

struct CallerConnection {
    supervised: Arc<SupervisedConnection>,
    scope: CallerScope,
    owner: Owner,
    usage: Arc<ConnectionUsage>,
}

/// The use of a connection by requests.
struct ConnectionUsage {
    in_use: AtomicU32,
    slot_freed: Arc<Notify>,
    /// When the last request that used the connection ended.
    released_at: Mutex<Instant>,
}

impl CallerConnection {
    fn is_idle(&self) -> bool {
        self.usage.in_use.load(Ordering::Relaxed) == 0 && self.supervised.subscriptions.borrow().is_empty()
    }

    /// Since when no request has used the connection.
    fn idle_since(&self) -> Instant {
        *self.usage.released_at.lock()
    }

    fn acquire(&mut self) -> ConnectionRef {
        self.usage.in_use.fetch_add(1, Ordering::Relaxed);
        ConnectionRef { supervised: Arc::clone(&self.supervised), usage: Some(Arc::clone(&self.usage)) }
    }
}

/// A connection in use. It does not count as idle while this reference exists.
pub(crate) struct ConnectionRef {
    supervised: Arc<SupervisedConnection>,
    usage: Option<Arc<ConnectionUsage>>,
}

impl ConnectionRef {
    /// The backend's own connection, which is never closed for being idle.
    pub(crate) fn main(supervised: &Arc<SupervisedConnection>) -> Self {
        Self { supervised: Arc::clone(supervised), usage: None }
    }
}

impl Deref for ConnectionRef {
    type Target = SupervisedConnection;

    fn deref(&self) -> &SupervisedConnection {
        &self.supervised
    }
}

impl Drop for ConnectionRef {
    fn drop(&mut self) {
        if let Some(usage) = &self.usage
            && usage.in_use.fetch_sub(1, Ordering::Relaxed) == 1
        {
            *usage.released_at.lock() = Instant::now();
            usage.slot_freed.notify_waiters();
        }
    }
}

impl CallerConnections {
    /// Creates the table of the backend with the connection `main`. A background task closes idle
    /// connections; it ends with the table or when `main` stops.
    pub(crate) fn start(main: &Arc<SupervisedConnection>, grouping: Grouping) -> Arc<Self> {
        let is_process = matches!(main.policy.transport, Transport::Stdio(_));
        let (burst, interval) =
            if is_process { (PROCESS_BURST, PROCESS_INTERVAL) } else { (HTTP_BURST, HTTP_INTERVAL) };
        let connections = Arc::new(Self {
            main: Arc::clone(main),
            grouping,
            bounds: main.policy.caller_bounds,
            connections: Mutex::default(),
            process_slots: is_process.then(|| Arc::clone(&main.process_slots)),
            spare: Mutex::default(),
            spare_taken: Notify::new(),
            start_limiter: StartRateLimiter::new(burst, interval),
            slot_freed: Arc::default(),
            runtime: Handle::current(),
        });
        if let Some(process_slots) = &connections.process_slots {
            let processes: Weak<Self> = Arc::downgrade(&connections);
            process_slots.register(processes);
            main.tasks.spawn(spare::maintain_spare(Arc::downgrade(&connections), main.stop.clone()));
        }
        let (weak, stop) = (Arc::downgrade(&connections), main.stop.clone());
        main.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = sleep(SWEEP_INTERVAL) => {}
                    () = stop.cancelled() => return,
                }
                let Some(connections) = weak.upgrade() else { return };
                connections.sweep();
            }
        });
        connections
    }

    /// True if what the backend offers depends on the caller. Without a caller there is nothing to list.
    pub(crate) fn is_personal(&self) -> bool {
        matches!(self.grouping, Grouping::Credentials(_))
    }

    /// Which callers share a connection now, as `/status` shows it.
    pub(crate) fn isolation(&self) -> &'static str {
        match self.grouping {
            Grouping::Credentials(_) => Isolation::PerCaller.as_str(),
            // A backend without sessions has no state to isolate.
            Grouping::Isolation(_) if self.is_stateless() => Isolation::Shared.as_str(),
            Grouping::Isolation(Isolation::Automatic { .. }) => Isolation::PerCaller.as_str(),
            Grouping::Isolation(isolation) => isolation.as_str(),
        }
    }

    /// True if the backend is known to keep no state for a connection.
    fn is_stateless(&self) -> bool {
        matches!(&*self.main.phase.borrow(), Phase::Ready(main) if !main.link.is_stateful())
    }

    /// The number of connections that belong to single callers.
    pub(crate) fn count(&self) -> usize {
        self.connections.lock().len()
    }

    /// The key of the connection that serves a request; `None` for the backend's own connection.
    fn resolve_key(
        &self,
        ctx: &CallContext,
    ) -> Result<Option<(ConnectionKey, Option<AuthenticatedCaller>)>, Failure> {
        match &self.grouping {
            Grouping::Isolation(isolation) => {
                Ok(ConnectionKey::for_request(*isolation, ctx).map(|key| (key, None)))
            }
            Grouping::Credentials(credentials) => {
                let caller = AuthenticatedCaller::from_context(ctx);
                let subject = caller.as_ref().map(AuthenticatedCaller::subject);
                let scope = credentials
                    .0
                    .scope(subject.as_ref())
                    .map_err(|error| request_credentials::to_failure(&error))?;
                match (scope, caller) {
                    (IsolationScope::Caller(scope), Some(caller)) => {
                        Ok(Some((ConnectionKey::Credential(scope), Some(caller))))
                    }
                    (IsolationScope::Caller(_) | IsolationScope::Shared, _) => {
                        Err(Failure::not_sent(FailureClass::Auth, "there is no credential for this caller"))
                    }
                }
            }
        }
    }

    /// Which other requests use the same connection.
    pub(crate) fn scope(&self, ctx: &CallContext) -> Result<IsolationScope, Failure> {
        if !self.is_personal() && self.is_stateless() {
            return Ok(IsolationScope::Shared);
        }
        Ok(self
            .resolve_key(ctx)?
            .map_or(IsolationScope::Shared, |(key, _)| IsolationScope::Caller(key.scope())))
    }

    /// A context for requests on behalf of a caller that has its own connection; `None` if there is no such
    /// connection.
    pub(crate) fn context_of(&self, scope: CallerScope) -> Option<CallContext> {
        let connections = self.connections.lock();
        let (key, _) = connections.iter().find(|(_, connection)| connection.scope == scope)?;
        let caller = match key {
            ConnectionKey::User(user) => Caller::Known(Arc::clone(&user.0)),
            ConnectionKey::Client(_) | ConnectionKey::Credential(_) => Caller::Anonymous,
        };
        let mut ctx = CallContext::bare(caller, CallOrigin::Gateway);
        if let ConnectionKey::Client(client) = key {
            ctx.client = Arc::new(SilentClient::for_client(client.clone()));
        }
        Some(ctx)
    }

    /// The caller's connection, if it exists. Its credential stays unchanged.
    pub(crate) fn acquire_existing(&self, ctx: &CallContext) -> Option<ConnectionRef> {
        let (key, _) = self.resolve_key(ctx).ok()??;
        self.connections.lock().get_mut(&key).map(CallerConnection::acquire)
    }

    /// The connection of a request, opened if it does not exist. Waits up to `acquire_timeout` if no slot is
    /// free.
    ///
    /// # Errors
    /// [`Failure::ConnectionsFull`] if no slot becomes free in time.
    pub(crate) async fn get_or_open(&self, ctx: &CallContext) -> Result<ConnectionRef, Failure> {
        let Some((key, caller)) = self.resolve_key(ctx)? else { return Ok(ConnectionRef::main(&self.main)) };
        if self.main.stop.is_cancelled() {
            return Err(Failure::not_sent(FailureClass::Exited, "stopped"));
        }
        let may_be_stateless = !self.is_personal() && self.process_slots.is_none();
        if may_be_stateless && self.is_stateless() {
            return Ok(ConnectionRef::main(&self.main));
        }
        if let Some(found) = self.find_and_update(&key, caller.clone()) {
            return Ok(found);
        }
        if may_be_stateless && !self.is_stateful().await? {
            return Ok(ConnectionRef::main(&self.main));
        }
        Box::pin(self.open(key, caller, Owner::from_context(ctx))).await
    }

    async fn is_stateful(&self) -> Result<bool, Failure> {
        if let Phase::Ready(main) = &*self.main.phase.borrow() {
            return Ok(main.link.is_stateful());
        }
        Ok(wait_until_ready(&self.main).await?.link.is_stateful())
    }

    fn find_and_update(
        &self,
        key: &ConnectionKey,
        caller: Option<AuthenticatedCaller>,
    ) -> Option<ConnectionRef> {
        let found = self.connections.lock().get_mut(key).map(CallerConnection::acquire)?;
        found.supervised.update_caller(caller);
        Some(found)
    }

    /// Closes connections that exceed the idle time-out, and connections of ended clients.
    fn sweep(&self) {
        let now = Instant::now();
        let removed: Vec<CallerConnection> = {
            let mut connections = self.connections.lock();
            let is_expired = |key: &ConnectionKey, connection: &CallerConnection| {
                let idle = now.duration_since(connection.idle_since());
                key.has_ended() || (connection.is_idle() && idle >= self.bounds.idle_timeout)
            };
            connections
                .extract_if(|key, connection| is_expired(key, connection))
                .map(|(_, removed)| removed)
                .collect()
        };
        for connection in removed {
            close(Some(connection));
        }
    }
}

impl CallerProcesses for CallerConnections {
    fn oldest_idle_since(&self) -> Option<Instant> {
        let connections = self.connections.lock();
        connections.values().filter(|connection| connection.is_idle()).map(CallerConnection::idle_since).min()
    }

    fn close_oldest_idle(&self) -> bool {
        let removed = remove_oldest(&mut self.connections.lock(), |_| true);
        close(removed)
    }

    fn close_spare(&self) -> bool {
        self.spare.lock().take().is_some_and(|spare| {
            spare.stop();
            true
        })
    }
}

/// Removes the longest idle connection that satisfies `filter`.
fn remove_oldest(
    connections: &mut HashMap<ConnectionKey, CallerConnection>,
    filter: impl Fn(&CallerConnection) -> bool,
) -> Option<CallerConnection> {
    let idle = connections.iter().filter(|(_, connection)| connection.is_idle() && filter(connection));
    let oldest_key = idle.min_by_key(|(_, connection)| connection.idle_since()).map(|(key, _)| key.clone());
    oldest_key.and_then(|key| connections.remove(&key))
}

/// Closes a connection. Must be called without the lock on the table, because it notifies the listener.
/// Returns false for `None`.
fn close(connection: Option<CallerConnection>) -> bool {
    let Some(connection) = connection else { return false };
    connection.supervised.stop.cancel();
    connection.supervised.event_sender.send(BackendEvent::Disconnected);
    true
}
