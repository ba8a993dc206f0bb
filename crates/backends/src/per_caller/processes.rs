//! Room for the processes of all stdio backends together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::CallerConnections;
use crate::sync::Guarded;

/// The room, which the backends of one gateway share.
#[derive(Default)]
pub(crate) struct ProcessRoom {
    count_max: usize,
    taken: AtomicUsize,
    /// The backends whose idle processes may give way.
    tables: Guarded<Vec<Weak<CallerConnections>>>,
}

/// The place of one process, until it has ended.
pub(crate) struct ProcessPlace(Arc<ProcessRoom>);

impl ProcessRoom {
    pub(crate) fn new(count_max: usize) -> Arc<Self> {
        Arc::new(Self { count_max, ..Self::default() })
    }

    pub(super) fn join(&self, table: Weak<CallerConnections>) {
        self.tables.lock().push(table);
    }

    /// A place for a process that has to run in any case: the backend's own.
    pub(crate) fn take_always(self: &Arc<Self>) -> ProcessPlace {
        self.taken.fetch_add(1, Ordering::AcqRel);
        ProcessPlace(Arc::clone(self))
    }

    /// A place, if there is one.
    pub(super) fn take(self: &Arc<Self>) -> Option<ProcessPlace> {
        let take = |taken| (taken < self.count_max).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take);
        taken.ok().map(|_| ProcessPlace(Arc::clone(self)))
    }

    /// Ends a process that nobody uses: a spare one, else the one used longest ago, of whichever backend. False when
    /// all are in use.
    pub(super) fn make_room(&self) -> bool {
        let tables: Vec<Arc<CallerConnections>> = {
            let mut tables = self.tables.lock();
            tables.retain(|table| table.strong_count() > 0);
            tables.iter().filter_map(Weak::upgrade).collect()
        };
        if tables.iter().any(|table| table.end_spare()) {
            return true;
        }
        let idle = tables.iter().filter_map(|table| Some((table.idle_since()?, table)));
        let oldest: Option<(Instant, &Arc<CallerConnections>)> = idle.min_by_key(|(since, _)| *since);
        oldest.is_some_and(|(_, table)| table.end_idle())
    }
}

impl Drop for ProcessPlace {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}
