//! Room for the processes of all stdio backends together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::CallerConnections;
use crate::sync::UnpoisonedMutex;

/// The room, which the backends of one gateway share.
#[derive(Default)]
pub(crate) struct ProcessSlots {
    count_max: usize,
    used: AtomicUsize,
    /// The backends whose idle processes may give way.
    backends: UnpoisonedMutex<Vec<Weak<CallerConnections>>>,
}

/// The place of one process, until it has ended.
pub(crate) struct ProcessSlot(Arc<ProcessSlots>);

impl ProcessSlots {
    pub(crate) fn new(count_max: usize) -> Arc<Self> {
        Arc::new(Self { count_max, ..Self::default() })
    }

    pub(super) fn register(&self, table: Weak<CallerConnections>) {
        self.backends.lock().push(table);
    }

    /// A place for a process that has to run in any case: the backend's own.
    pub(crate) fn acquire_unconditionally(self: &Arc<Self>) -> ProcessSlot {
        self.used.fetch_add(1, Ordering::AcqRel);
        ProcessSlot(Arc::clone(self))
    }

    /// A place, if there is one.
    pub(super) fn try_acquire(self: &Arc<Self>) -> Option<ProcessSlot> {
        let take = |taken| (taken < self.count_max).then_some(taken + 1);
        let taken = self.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take);
        taken.ok().map(|_| ProcessSlot(Arc::clone(self)))
    }

    /// Ends a process that nobody uses: a spare one, else the one used longest ago, of whichever backend. False when
    /// all are in use.
    pub(super) fn evict_idle(&self) -> bool {
        let tables: Vec<Arc<CallerConnections>> = {
            let mut tables = self.backends.lock();
            tables.retain(|table| table.strong_count() > 0);
            tables.iter().filter_map(Weak::upgrade).collect()
        };
        if tables.iter().any(|table| table.close_spare()) {
            return true;
        }
        let idle = tables.iter().filter_map(|table| Some((table.oldest_idle_since()?, table)));
        let oldest: Option<(Instant, &Arc<CallerConnections>)> = idle.min_by_key(|(since, _)| *since);
        oldest.is_some_and(|(_, table)| table.close_oldest_idle())
    }
}

impl Drop for ProcessSlot {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::AcqRel);
    }
}
