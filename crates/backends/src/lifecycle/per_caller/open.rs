//! Opens a caller's connection within the limits of the backend, of its owner, of all processes, and of the
//! start rate.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use vmcp_domain::CallerScope;

use super::key::Owner;
use super::spare::SpareProcess;
use super::{
    CallerConnection, CallerConnections, ConnectionKey, ConnectionRef, ConnectionUsage, Grouping, close,
    remove_oldest,
};
use crate::failure::Failure;
use crate::http::request_credentials::{AuthenticatedCaller, RequestCredentials};
use crate::lifecycle::process_slots::ProcessSlot;
use crate::lifecycle::supervised::SupervisedConnection;
use crate::lifecycle::supervisor;

/// How often a caller that waits for a slot tries again.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// How long an evicted process may take to end before another one is evicted.
const PROCESS_EXIT_TIMEOUT: Duration = Duration::from_secs(3);

/// The outcome of one attempt to open a connection.
enum OpenAttempt {
    Connection(ConnectionRef),
    /// No slot is free; try again after this time at the latest.
    NoRoom(Duration),
}

impl CallerConnections {
    /// Opens the connection of a caller that has none. Waits up to `acquire_timeout` for a slot.
    pub(super) async fn open(
        &self,
        key: ConnectionKey,
        caller: Option<AuthenticatedCaller>,
        owner: Owner,
    ) -> Result<ConnectionRef, Failure> {
        let deadline = Instant::now() + self.bounds.acquire_timeout;
        let mut evicted: Option<Instant> = None;
        loop {
            let slot_freed = self.slot_freed.notified();
            let wait = match self.try_open(&key, caller.as_ref(), &owner, &mut evicted) {
                OpenAttempt::Connection(connection) => return Ok(connection),
                OpenAttempt::NoRoom(wait) => wait,
            };
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                tracing::warn!(backend = %self.main.policy.id, "no room for another caller's connection");
                return Err(Failure::ConnectionsFull);
            }
            tokio::select! {
                () = slot_freed => {}
                () = sleep(wait.min(RETRY_INTERVAL).min(remaining)) => {}
            }
        }
    }

    fn try_open(
        &self,
        key: &ConnectionKey,
        caller: Option<&AuthenticatedCaller>,
        owner: &Owner,
        evicted: &mut Option<Instant>,
    ) -> OpenAttempt {
        if let Some(found) = self.find_and_update(key, caller.cloned()) {
            return OpenAttempt::Connection(found);
        }
        if !self.ensure_capacity(owner) {
            return OpenAttempt::NoRoom(RETRY_INTERVAL);
        }
        let spare = self.take_spare();
        let slot = match (&self.process_slots, &spare) {
            (Some(process_slots), None) => match process_slots.try_acquire() {
                Some(slot) => Some(slot),
                None => {
                    // The slot is free once the process has really ended. Until then no other process is
                    // evicted for this caller.
                    if evicted.is_none_or(|evicted| evicted.elapsed() >= PROCESS_EXIT_TIMEOUT)
                        && process_slots.evict_idle()
                    {
                        *evicted = Some(Instant::now());
                    }
                    return OpenAttempt::NoRoom(RETRY_INTERVAL);
                }
            },
            (Some(_), Some(_)) | (None, _) => None,
        };
        if spare.is_none()
            && let Err(wait) = self.start_limiter.try_take()
        {
            return OpenAttempt::NoRoom(wait);
        }
        self.spare_taken.notify_one();
        OpenAttempt::Connection(self.insert(key, caller, owner, (spare, slot)))
    }

    /// True if there is capacity for a connection of this owner. Closes an idle connection if that makes it.
    fn ensure_capacity(&self, owner: &Owner) -> bool {
        let mut connections = self.connections.lock();
        let owned = connections.values().filter(|connection| connection.owner == *owner).count();
        let is_own = |connection: &CallerConnection| connection.owner == *owner;
        let removed = if owned >= self.bounds.per_caller_max {
            remove_oldest(&mut connections, is_own)
        } else if connections.len() >= self.bounds.connections_max {
            remove_oldest(&mut connections, |_| true)
        } else {
            return true;
        };
        drop(connections);
        close(removed)
    }

    fn insert(
        &self,
        key: &ConnectionKey,
        caller: Option<&AuthenticatedCaller>,
        owner: &Owner,
        (spare, slot): (Option<SpareProcess>, Option<ProcessSlot>),
    ) -> ConnectionRef {
        let scope = key.scope();
        let mut connections = self.connections.lock();
        if let Some(found) = connections.get_mut(key) {
            // Another request of the same caller opened the connection meanwhile.
            if let Some(spare) = spare {
                self.return_spare(spare);
            }
            return found.acquire();
        }
        let supervised = match spare {
            Some(spare) => spare.assign_to(scope),
            None => self.start_connection(self.credentials_for(caller), OnceLock::from(scope), slot),
        };
        let usage = Arc::new(ConnectionUsage {
            in_use: AtomicU32::new(0),
            slot_freed: Arc::clone(&self.slot_freed),
            released_at: Mutex::new(Instant::now()),
        });
        let mut connection = CallerConnection { supervised, scope, owner: owner.clone(), usage };
        let acquired = connection.acquire();
        connections.insert(key.clone(), connection);
        acquired
    }

    fn credentials_for(&self, caller: Option<&AuthenticatedCaller>) -> Option<Arc<RequestCredentials>> {
        match (&self.grouping, caller) {
            (Grouping::Credentials(credentials), Some(caller)) => {
                Some(Arc::new(RequestCredentials::for_caller(credentials.clone(), caller.clone())))
            }
            (Grouping::Credentials(_) | Grouping::Isolation(_), _) => None,
        }
    }

    /// Starts a connection, which holds the slot `slot` until its process has ended.
    pub(super) fn start_connection(
        &self,
        request_credentials: Option<Arc<RequestCredentials>>,
        scope: OnceLock<CallerScope>,
        slot: Option<ProcessSlot>,
    ) -> Arc<SupervisedConnection> {
        let supervised = self.main.for_caller(scope, request_credentials);
        let supervised_task = Arc::clone(&supervised);
        self.main.tasks.spawn_on(
            async move {
                supervisor::run(supervised_task).await;
                drop(slot);
            },
            &self.runtime,
        );
        supervised
    }
}
