//! Making a caller's connection: within the bounds of the backend, of its owner, of all processes, and of how fast they
//! may be started.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use vmcp_domain::CallerScope;

use super::key::Owner;
use super::processes::ProcessPlace;
use super::spare::Spare;
use super::{
    CallerConnection, CallerConnections, ConnectionKey, ConnectionRef, Grouping, Users, end, take_oldest,
};
use crate::bearing::{Bearing, Holder};
use crate::failure::Failure;
use crate::supervisor::{self, Shared};
use crate::sync::Guarded;

/// How often a caller that waits for room looks again.
const RETRY_WAIT: Duration = Duration::from_millis(250);
/// How long an ended process may take to be gone.
const PROCESS_END_WAIT: Duration = Duration::from_secs(3);

/// What came of looking for a connection.
enum Found {
    Connection(ConnectionRef),
    /// There is no room now; look again after this time at the latest.
    Full(Duration),
}

impl CallerConnections {
    /// Makes the connection of a caller that has none, waiting a short time for room.
    pub(super) async fn open(
        &self,
        key: ConnectionKey,
        holder: Option<Holder>,
        owner: Owner,
    ) -> Result<ConnectionRef, Failure> {
        let deadline = Instant::now() + self.bounds.wait;
        let mut evicted: Option<Instant> = None;
        loop {
            let freed = self.freed.notified();
            let wait = match self.try_open(&key, holder.as_ref(), &owner, &mut evicted) {
                Found::Connection(connection) => return Ok(connection),
                Found::Full(wait) => wait,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!(backend = %self.main.policy.id, "no room for another caller's connection");
                return Err(Failure::Full);
            }
            tokio::select! {
                () = freed => {}
                () = sleep(wait.min(RETRY_WAIT).min(left)) => {}
            }
        }
    }

    fn try_open(
        &self,
        key: &ConnectionKey,
        holder: Option<&Holder>,
        owner: &Owner,
        evicted: &mut Option<Instant>,
    ) -> Found {
        if let Some(found) = self.find(key, holder.cloned()) {
            return Found::Connection(found);
        }
        if !self.make_room(owner) {
            return Found::Full(RETRY_WAIT);
        }
        let spare = self.take_spare();
        let place = match (&self.processes, &spare) {
            (Some(room), None) => match room.take() {
                Some(place) => Some(place),
                None => {
                    // The room is free once the process has really ended; until then no other need end for this caller.
                    if evicted.is_none_or(|evicted| evicted.elapsed() >= PROCESS_END_WAIT) && room.make_room()
                    {
                        *evicted = Some(Instant::now());
                    }
                    return Found::Full(RETRY_WAIT);
                }
            },
            (Some(_), Some(_)) | (None, _) => None,
        };
        if spare.is_none()
            && let Err(wait) = self.starts.take()
        {
            return Found::Full(wait);
        }
        self.spare_taken.notify_one();
        Found::Connection(self.insert(key, holder, owner, (spare, place)))
    }

    /// True when there is room for a connection of this owner; ends one that is not in use where that makes it.
    fn make_room(&self, owner: &Owner) -> bool {
        let mut table = self.table.lock();
        let own = table.values().filter(|connection| connection.owner == *owner).count();
        let is_own = |connection: &CallerConnection| connection.owner == *owner;
        let ended = if own >= self.bounds.per_caller_max {
            take_oldest(&mut table, is_own)
        } else if table.len() >= self.bounds.connections_max {
            take_oldest(&mut table, |_| true)
        } else {
            return true;
        };
        drop(table);
        end(ended)
    }

    fn insert(
        &self,
        key: &ConnectionKey,
        holder: Option<&Holder>,
        owner: &Owner,
        (spare, place): (Option<Spare>, Option<ProcessPlace>),
    ) -> ConnectionRef {
        let scope = key.scope();
        let mut table = self.table.lock();
        if let Some(found) = table.get_mut(key) {
            // Another request of the same caller was faster.
            if let Some(spare) = spare {
                self.put_back(spare);
            }
            return found.take();
        }
        let shared = match spare {
            Some(spare) => spare.given_to(scope),
            None => self.begin(self.bearing(holder), OnceLock::from(scope), place),
        };
        let users = Arc::new(Users {
            count: AtomicU32::new(0),
            freed: Arc::clone(&self.freed),
            released: Guarded::new(Instant::now()),
        });
        let mut connection = CallerConnection { shared, scope, owner: owner.clone(), users };
        let taken = connection.take();
        table.insert(key.clone(), connection);
        taken
    }

    fn bearing(&self, holder: Option<&Holder>) -> Option<Arc<Bearing>> {
        match (&self.grouping, holder) {
            (Grouping::Credentials(credentials), Some(holder)) => {
                Some(Arc::new(Bearing::of(credentials.clone(), holder.clone())))
            }
            (Grouping::Credentials(_) | Grouping::Isolation(_), _) => None,
        }
    }

    /// Begins to make a connection, which holds `place` until its process has ended.
    pub(super) fn begin(
        &self,
        bearing: Option<Arc<Bearing>>,
        scope: OnceLock<CallerScope>,
        place: Option<ProcessPlace>,
    ) -> Arc<Shared> {
        let shared = self.main.of_caller(scope, bearing);
        let running = Arc::clone(&shared);
        self.main.tasks.spawn_on(
            async move {
                supervisor::run(running).await;
                drop(place);
            },
            &self.runtime,
        );
        shared
    }
}
