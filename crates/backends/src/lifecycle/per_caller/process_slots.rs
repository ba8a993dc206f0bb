//! Slots for the processes of all stdio backends together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::CallerConnections;
use crate::sync::UnpoisonedMutex;

/// The slots, which the backends of one gateway share.
#[derive(Default)]
pub(crate) struct ProcessSlots {
    count_max: usize,
    used: AtomicUsize,
    /// The tables of the backends from which idle processes may be evicted.
    backends: UnpoisonedMutex<Vec<Weak<CallerConnections>>>,
}

/// The slot of one process, held until the process has ended.
pub(crate) struct ProcessSlot(Arc<ProcessSlots>);

impl ProcessSlots {
    pub(crate) fn new(count_max: usize) -> Arc<Self> {
        Arc::new(Self { count_max, ..Self::default() })
    }

    pub(super) fn register(&self, table: Weak<CallerConnections>) {
        self.backends.lock().push(table);
    }

    /// Takes a slot for a process that must run in any case: the backend's own. May exceed `count_max`.
    pub(crate) fn acquire_unconditionally(self: &Arc<Self>) -> ProcessSlot {
        self.used.fetch_add(1, Ordering::AcqRel);
        ProcessSlot(Arc::clone(self))
    }

    /// Takes a slot; `None` if `count_max` are in use.
    pub(super) fn try_acquire(self: &Arc<Self>) -> Option<ProcessSlot> {
        let take = |taken| (taken < self.count_max).then_some(taken + 1);
        let taken = self.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take);
        taken.ok().map(|_| ProcessSlot(Arc::clone(self)))
    }

    /// Stops an unused process: a spare one, otherwise the longest idle one of any backend. Returns false if
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
