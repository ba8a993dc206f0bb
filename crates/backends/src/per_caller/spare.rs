//! A process that is started and connected before any caller needs it, so that a new caller's first call is quick.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use vmcp_domain::CallerScope;

use super::CallerConnections;
use crate::supervisor::{Phase, Shared};

/// How often it is looked whether there is a spare process and whether it works.
const LOOK_WAIT: Duration = Duration::from_secs(10);

/// The process, which belongs to no caller yet.
pub(super) struct Spare(Arc<Shared>);

impl Spare {
    /// Makes it one caller's.
    pub(super) fn given_to(self, scope: CallerScope) -> Arc<Shared> {
        self.0.give_to(scope);
        self.0
    }

    pub(super) fn end(self) {
        self.0.stop.cancel();
    }
}

/// Keeps a spare process as long as there is room for one and the backend works.
pub(super) async fn keep(connections: Weak<CallerConnections>, stop: CancellationToken) {
    loop {
        let Some(strong) = connections.upgrade() else { return };
        strong.provide_spare();
        tokio::select! {
            () = strong.spare_taken.notified() => {}
            () = sleep(LOOK_WAIT) => {}
            () = stop.cancelled() => return,
        }
    }
}

impl CallerConnections {
    /// Keeps a spare process that was not needed after all, unless there is another by now.
    pub(super) fn put_back(&self, spare: Spare) {
        let mut kept = self.spare.lock();
        if kept.is_some() {
            spare.end();
        } else {
            *kept = Some(spare);
        }
    }

    fn provide_spare(&self) {
        // A backend that does not work is not started twice.
        if !matches!(&*self.main.phase.borrow(), Phase::Ready(_)) {
            return;
        }
        let mut spare = self.spare.lock();
        let is_broken =
            |spare: &Spare| matches!(&*spare.0.phase.borrow(), Phase::Unavailable(_) | Phase::Stopped);
        if let Some(broken) = spare.take_if(|spare| is_broken(spare)) {
            broken.end();
            return;
        }
        if spare.is_some() {
            return;
        }
        if let Some(place) = self.processes.as_ref().and_then(|room| room.take()) {
            *spare = Some(Spare(self.begin(None, OnceLock::new(), Some(place))));
        }
    }
}
