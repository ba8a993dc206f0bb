//! Slots for the processes of all stdio backends together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::CallerConnections;

/// The slots, which the backends of one gateway share.
#[derive(Default)]
pub(crate) struct ProcessSlots {
    count_max: usize,
    used: AtomicUsize,
    /// The tables of the backends from which idle processes may be evicted.
    backends: Mutex<Vec<Weak<CallerConnections>>>,
}

/// The slot of one process, held until the process has ended.
pub(crate) struct ProcessSlot(Arc<ProcessSlots>);

impl ProcessSlots {
    pub(crate) fn new(count_max: usize) -> Arc<Self> {
        Arc::new(Self { count_max, ..Self::default() })
    }

    pub(super) fn register(&self, backend: Weak<CallerConnections>) {
        self.backends.lock().push(backend);
    }

    /// Takes a slot for a process that must run in any case: the backend's own. May exceed `count_max`.
    pub(crate) fn acquire_unconditionally(self: &Arc<Self>) -> ProcessSlot {
        self.used.fetch_add(1, Ordering::AcqRel);
        ProcessSlot(Arc::clone(self))
    }

    /// Takes a slot; `None` if `count_max` are in use.
    pub(super) fn try_acquire(self: &Arc<Self>) -> Option<ProcessSlot> {
        let acquire = |used| (used < self.count_max).then_some(used + 1);
        let used = self.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, acquire);
        used.ok().map(|_| ProcessSlot(Arc::clone(self)))
    }

    /// Stops an unused process: a spare one, otherwise the longest idle one of any backend. Returns false if
    /// all are in use.
    pub(super) fn evict_idle(&self) -> bool {
        let backends: Vec<Arc<CallerConnections>> = {
            let mut backends = self.backends.lock();
            backends.retain(|backend| backend.strong_count() > 0);
            backends.iter().filter_map(Weak::upgrade).collect()
        };
        if backends.iter().any(|backend| backend.close_spare()) {
            return true;
        }
        let idle = backends.iter().filter_map(|backend| Some((backend.oldest_idle_since()?, backend)));
        let oldest: Option<(Instant, &Arc<CallerConnections>)> = idle.min_by_key(|(since, _)| *since);
        oldest.is_some_and(|(_, backend)| backend.close_oldest_idle())
    }
}

impl Drop for ProcessSlot {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::AcqRel);
    }
}
