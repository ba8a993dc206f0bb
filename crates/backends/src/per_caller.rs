//! Connections to a backend that belong to single callers, because the backend sees each caller by a credential of its
//! own, or keeps state that callers must not share. A connection is made by its caller's first request and ended when
//! nobody has used it for a while. Which requests share one is `key`'s.

mod key;
mod opening;
mod processes;
mod spare;
mod start_rate;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use vmcp_domain::{BackendEvent, CallContext, Caller, CallerScope, Origin, Scope, SilentClient};

pub(crate) use self::key::ConnectionKey;
use self::key::Owner;
pub(crate) use self::processes::ProcessRoom;
use self::spare::Spare;
use self::start_rate::StartRate;
use crate::bearing::{self, Holder};
use crate::failure::{Class, Failure};
use crate::policy::{CallerBounds, Credentials, Isolation, Transport};
use crate::supervisor::{Phase, Shared, ready};
use crate::sync::Guarded;

/// How often connections that have been idle too long, or whose client has ended, are looked for.
const SWEEP_WAIT: Duration = Duration::from_secs(5);
/// How fast processes are started: at once, and how far apart after that.
const PROCESS_BURST: u32 = 8;
const PROCESS_INTERVAL: Duration = Duration::from_millis(250);
/// The same for connections over HTTP.
const HTTP_BURST: u32 = 100;
const HTTP_INTERVAL: Duration = Duration::from_millis(10);

/// What tells callers apart.
pub(crate) enum Grouping {
    /// Each request carries a credential on behalf of its caller.
    Credentials(Credentials),
    /// The backend keeps state.
    Isolation(Isolation),
}

/// The connections of single callers to one backend.
pub(crate) struct CallerConnections {
    /// The backend's own connection, for requests that belong to no caller.
    main: Arc<Shared>,
    grouping: Grouping,
    bounds: CallerBounds,
    table: Guarded<HashMap<ConnectionKey, CallerConnection>>,
    /// The room for processes, where each connection is one.
    processes: Option<Arc<ProcessRoom>>,
    spare: Guarded<Option<Spare>>,
    spare_taken: Notify,
    starts: StartRate,
    freed: Arc<Notify>,
    /// Where connections live: who asks for one may be on a thread that ends before its session is ended.
    runtime: Handle,
}

struct CallerConnection {
    shared: Arc<Shared>,
    scope: CallerScope,
    owner: Owner,
    users: Arc<Users>,
}

/// The requests that use a connection now.
struct Users {
    count: AtomicU32,
    freed: Arc<Notify>,
    /// When the last request that used it ended.
    released: Guarded<Instant>,
}

impl CallerConnection {
    fn is_free(&self) -> bool {
        self.users.count.load(Ordering::Relaxed) == 0 && self.shared.wanted.borrow().is_empty()
    }

    /// Since when nobody has used it.
    fn idle_since(&self) -> Instant {
        *self.users.released.lock()
    }

    fn take(&mut self) -> ConnectionRef {
        self.users.count.fetch_add(1, Ordering::Relaxed);
        ConnectionRef { shared: Arc::clone(&self.shared), users: Some(Arc::clone(&self.users)) }
    }
}

/// A connection in use: it is not ended as long as this is held.
pub(crate) struct ConnectionRef {
    shared: Arc<Shared>,
    users: Option<Arc<Users>>,
}

impl ConnectionRef {
    /// The backend's own connection, which does not end.
    pub(crate) fn of_main(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), users: None }
    }
}

impl Deref for ConnectionRef {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for ConnectionRef {
    fn drop(&mut self) {
        if let Some(users) = &self.users
            && users.count.fetch_sub(1, Ordering::Relaxed) == 1
        {
            *users.released.lock() = Instant::now();
            users.freed.notify_waiters();
        }
    }
}

impl CallerConnections {
    /// The connections to the backend whose own one is `main`. Idle ones are ended by a task that ends with it.
    pub(crate) fn start(main: &Arc<Shared>, grouping: Grouping) -> Arc<Self> {
        let is_process = matches!(main.policy.transport, Transport::Stdio(_));
        let (burst, interval) =
            if is_process { (PROCESS_BURST, PROCESS_INTERVAL) } else { (HTTP_BURST, HTTP_INTERVAL) };
        let connections = Arc::new(Self {
            main: Arc::clone(main),
            grouping,
            bounds: main.policy.bounds,
            table: Guarded::default(),
            processes: is_process.then(|| Arc::clone(&main.room)),
            spare: Guarded::default(),
            spare_taken: Notify::new(),
            starts: StartRate::new(burst, interval),
            freed: Arc::default(),
            runtime: Handle::current(),
        });
        if let Some(room) = &connections.processes {
            room.join(Arc::downgrade(&connections));
            main.tasks.spawn(spare::keep(Arc::downgrade(&connections), main.stop.clone()));
        }
        let (sweeping, stop) = (Arc::downgrade(&connections), main.stop.clone());
        main.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = sleep(SWEEP_WAIT) => {}
                    () = stop.cancelled() => return,
                }
                let Some(connections) = sweeping.upgrade() else { return };
                connections.sweep();
            }
        });
        connections
    }

    /// True when what the backend offers depends on who asks, and there is nothing to offer to nobody.
    pub(crate) fn is_personal(&self) -> bool {
        matches!(self.grouping, Grouping::Credentials(_))
    }

    /// Which callers share a connection now.
    pub(crate) fn isolation(&self) -> &'static str {
        match self.grouping {
            Grouping::Credentials(_) => Isolation::PerCaller.as_str(),
            // A backend that keeps no sessions has nothing to keep apart.
            Grouping::Isolation(_) if self.is_stateless() => Isolation::Shared.as_str(),
            Grouping::Isolation(Isolation::Automatic { .. }) => Isolation::PerCaller.as_str(),
            Grouping::Isolation(isolation) => isolation.as_str(),
        }
    }

    /// True when the backend is known to keep no state for a connection.
    fn is_stateless(&self) -> bool {
        matches!(&*self.main.phase.borrow(), Phase::Ready(main) if !main.link.keeps_state())
    }

    /// How many callers have a connection of their own.
    pub(crate) fn count(&self) -> usize {
        self.table.lock().len()
    }

    /// Whose connection a request takes; `None` for the backend's own.
    fn asked(&self, ctx: &CallContext) -> Result<Option<(ConnectionKey, Option<Holder>)>, Failure> {
        match &self.grouping {
            Grouping::Isolation(isolation) => Ok(ConnectionKey::of(*isolation, ctx).map(|key| (key, None))),
            Grouping::Credentials(credentials) => {
                let holder = Holder::of(ctx);
                let subject = holder.as_ref().map(Holder::subject);
                let scope =
                    credentials.0.scope(subject.as_ref()).map_err(|error| bearing::failure(&error))?;
                match (scope, holder) {
                    (Scope::Caller(scope), Some(holder)) => {
                        Ok(Some((ConnectionKey::Credential(scope), Some(holder))))
                    }
                    (Scope::Caller(_) | Scope::Shared, _) => {
                        Err(Failure::not_sent(Class::Auth, "there is no credential for this caller"))
                    }
                }
            }
        }
    }

    /// Which other callers' requests take the same connection.
    pub(crate) fn scope(&self, ctx: &CallContext) -> Result<Scope, Failure> {
        if !self.is_personal() && self.is_stateless() {
            return Ok(Scope::Shared);
        }
        Ok(self.asked(ctx)?.map_or(Scope::Shared, |(key, _)| Scope::Caller(key.scope())))
    }

    /// A context to ask the backend on behalf of a caller who has a connection of its own.
    pub(crate) fn context_of(&self, scope: CallerScope) -> Option<CallContext> {
        let table = self.table.lock();
        let (key, _) = table.iter().find(|(_, connection)| connection.scope == scope)?;
        let caller = match key {
            ConnectionKey::User(user) => Caller::Known(Arc::clone(&user.0)),
            ConnectionKey::Client(_) | ConnectionKey::Credential(_) => Caller::Anonymous,
        };
        let mut ctx = CallContext::bare(caller, Origin::Gateway);
        if let ConnectionKey::Client(client) = key {
            ctx.client = Arc::new(SilentClient::of(client.clone()));
        }
        Some(ctx)
    }

    /// The caller's connection, if there is one; the credential it carries stays as it is.
    pub(crate) fn existing(&self, ctx: &CallContext) -> Option<ConnectionRef> {
        let (key, _) = self.asked(ctx).ok()??;
        self.table.lock().get_mut(&key).map(CallerConnection::take)
    }

    /// The connection of a request, made if there is none. Waits a short time where there is no room.
    ///
    /// # Errors
    /// [`Failure::Full`] when no room came free in time.
    pub(crate) async fn of(&self, ctx: &CallContext) -> Result<ConnectionRef, Failure> {
        let Some((key, holder)) = self.asked(ctx)? else { return Ok(ConnectionRef::of_main(&self.main)) };
        if self.main.stop.is_cancelled() {
            return Err(Failure::not_sent(Class::Exited, "stopped"));
        }
        let may_be_stateless = !self.is_personal() && self.processes.is_none();
        if may_be_stateless && self.is_stateless() {
            return Ok(ConnectionRef::of_main(&self.main));
        }
        if let Some(found) = self.find(&key, holder.clone()) {
            return Ok(found);
        }
        if may_be_stateless && !self.keeps_state().await? {
            return Ok(ConnectionRef::of_main(&self.main));
        }
        Box::pin(self.open(key, holder, Owner::of(ctx))).await
    }

    async fn keeps_state(&self) -> Result<bool, Failure> {
        if let Phase::Ready(main) = &*self.main.phase.borrow() {
            return Ok(main.link.keeps_state());
        }
        Ok(ready(&self.main).await?.link.keeps_state())
    }

    fn find(&self, key: &ConnectionKey, holder: Option<Holder>) -> Option<ConnectionRef> {
        let found = self.table.lock().get_mut(key).map(CallerConnection::take)?;
        found.shared.renew(holder);
        Some(found)
    }

    /// Since when the connection has been idle that would give way next.
    fn idle_since(&self) -> Option<Instant> {
        let table = self.table.lock();
        table.values().filter(|connection| connection.is_free()).map(CallerConnection::idle_since).min()
    }

    /// Ends the connection used longest ago, if one is not in use.
    fn end_idle(&self) -> bool {
        let ended = take_oldest(&mut self.table.lock(), |_| true);
        end(ended)
    }

    fn end_spare(&self) -> bool {
        self.spare.lock().take().is_some_and(|spare| {
            spare.end();
            true
        })
    }

    /// Ends the connections that have not been used for a while, and those whose client has ended.
    fn sweep(&self) {
        let now = Instant::now();
        let ended: Vec<CallerConnection> = {
            let mut table = self.table.lock();
            let is_over = |key: &ConnectionKey, connection: &CallerConnection| {
                let idle = now.duration_since(connection.idle_since());
                key.has_ended() || (connection.is_free() && idle >= self.bounds.idle_wait)
            };
            table.extract_if(|key, connection| is_over(key, connection)).map(|(_, ended)| ended).collect()
        };
        for connection in ended {
            end(Some(connection));
        }
    }
}

/// Takes out the connection used longest ago of those that are not in use and fit.
fn take_oldest(
    table: &mut HashMap<ConnectionKey, CallerConnection>,
    fits: impl Fn(&CallerConnection) -> bool,
) -> Option<CallerConnection> {
    let free = table.iter().filter(|(_, connection)| connection.is_free() && fits(connection));
    let oldest = free.min_by_key(|(_, connection)| connection.idle_since()).map(|(key, _)| key.clone());
    oldest.and_then(|key| table.remove(&key))
}

/// Ends a connection. To be called without the lock on the table, because the end is told to listeners. False when
/// there is none.
fn end(connection: Option<CallerConnection>) -> bool {
    let Some(connection) = connection else { return false };
    connection.shared.stop.cancel();
    connection.shared.ears.tell(BackendEvent::Lost);
    true
}
