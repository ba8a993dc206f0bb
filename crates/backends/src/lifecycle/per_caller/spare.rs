//! A spare process that is started and connected before any caller needs it, so that a new caller's first
//! call is fast.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use vmcp_domain::CallerScope;

use super::CallerConnections;
use crate::lifecycle::supervised::{Phase, SupervisedConnection};

/// How often the spare process is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// A process that belongs to no caller yet.
pub(super) struct SpareProcess(Arc<SupervisedConnection>);

impl SpareProcess {
    /// Assigns the process to one caller.
    pub(super) fn assign_to(self, scope: CallerScope) -> Arc<SupervisedConnection> {
        self.0.assign_caller(scope);
        self.0
    }

    fn is_broken(&self) -> bool {
        matches!(&*self.0.phase.borrow(), Phase::Unavailable(_) | Phase::Stopped)
    }

    pub(super) fn stop(self) {
        self.0.stop.cancel();
    }
}

/// Keeps one spare process while a slot is free and the backend works.
pub(super) async fn maintain_spare(connections: Weak<CallerConnections>, stop: CancellationToken) {
    loop {
        let Some(strong) = connections.upgrade() else { return };
        let wait = strong.start_spare_if_needed().unwrap_or(CHECK_INTERVAL);
        tokio::select! {
            () = strong.spare_taken.notified(), if wait == CHECK_INTERVAL => {}
            () = sleep(wait) => {}
            () = stop.cancelled() => return,
        }
    }
}

impl CallerConnections {
    /// Returns a spare process that was not needed. It is stopped if there is another one by now.
    pub(super) fn return_spare(&self, spare: SpareProcess) {
        let mut current = self.spare.lock();
        if current.is_some() {
            spare.stop();
        } else {
            *current = Some(spare);
        }
    }

    /// Takes the spare process, if there is one that works.
    pub(super) fn take_spare(&self) -> Option<SpareProcess> {
        let spare = self.spare.lock().take()?;
        if spare.is_broken() {
            spare.stop();
            return None;
        }
        Some(spare)
    }

    /// Starts a spare process if a slot is free. Returns the delay until the next attempt if the start rate
    /// is exceeded.
    fn start_spare_if_needed(&self) -> Option<Duration> {
        // While the backend's own connection is not ready, no second process is started.
        if !matches!(&*self.main.phase.borrow(), Phase::Ready(_)) {
            return None;
        }
        let mut spare = self.spare.lock();
        if let Some(broken) = spare.take_if(|spare| spare.is_broken()) {
            broken.stop();
            return None;
        }
        if spare.is_some() {
            return None;
        }
        if let Err(wait) = self.start_limiter.try_take() {
            return Some(wait);
        }
        if let Some(slot) = self.process_slots.as_ref().and_then(|process_slots| process_slots.try_acquire())
        {
            *spare = Some(SpareProcess(self.start_connection(None, OnceLock::new(), Some(slot))));
        }
        None
    }
}
