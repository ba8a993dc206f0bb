//! Slots for the processes of all stdio backends together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The connections of one backend's callers, each of which is a process.
pub(crate) trait CallerProcesses: Send + Sync {
    /// Stops the process that waits for its first caller. Returns false if there is none.
    fn close_spare(&self) -> bool;

    /// Since when the process that has been idle longest is idle; `None` if all are in use.
    fn oldest_idle_since(&self) -> Option<Instant>;

    /// Stops the process that has been idle longest. Returns false if all are in use.
    fn close_oldest_idle(&self) -> bool;
}

/// The slots, which the backends of one gateway share.
#[derive(Default)]
pub(crate) struct ProcessSlots {
    count_max: usize,
    used: AtomicUsize,
    /// The tables of the backends from which idle processes may be evicted.
    backends: Mutex<Vec<Weak<dyn CallerProcesses>>>,
}

/// The slot of one process, held until the process has ended.
pub(crate) struct ProcessSlot(Arc<ProcessSlots>);

impl ProcessSlots {
    pub(crate) fn new(count_max: usize) -> Arc<Self> {
        Arc::new(Self { count_max, ..Self::default() })
    }

    pub(crate) fn register(&self, backend: Weak<dyn CallerProcesses>) {
        self.backends.lock().push(backend);
    }

    /// Takes a slot for a process that must run in any case: the backend's own. May exceed `count_max`.
    pub(crate) fn acquire_unconditionally(self: &Arc<Self>) -> ProcessSlot {
        self.used.fetch_add(1, Ordering::AcqRel);
        ProcessSlot(Arc::clone(self))
    }

    /// Takes a slot; `None` if `count_max` are in use.
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Option<ProcessSlot> {
        let acquire = |used| (used < self.count_max).then_some(used + 1);
        let used = self.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, acquire);
        used.ok().map(|_| ProcessSlot(Arc::clone(self)))
    }

    /// Stops an unused process: a spare one, otherwise the longest idle one of any backend. Returns false if
    /// all are in use.
    pub(crate) fn evict_idle(&self) -> bool {
        let backends: Vec<Arc<dyn CallerProcesses>> = {
            let mut backends = self.backends.lock();
            backends.retain(|backend| backend.strong_count() > 0);
            backends.iter().filter_map(Weak::upgrade).collect()
        };
        if backends.iter().any(|backend| backend.close_spare()) {
            return true;
        }
        let idle = backends.iter().filter_map(|backend| Some((backend.oldest_idle_since()?, backend)));
        let oldest: Option<(Instant, &Arc<dyn CallerProcesses>)> = idle.min_by_key(|(since, _)| *since);
        oldest.is_some_and(|(_, backend)| backend.close_oldest_idle())
    }
}

impl Drop for ProcessSlot {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::AcqRel);
    }
}
